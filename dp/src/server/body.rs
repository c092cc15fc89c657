//! The one body of all answers: bytes in memory and parts of an open file, of exactly known length.
//!
//! Small content and regions go out as slices of memory (the socket sends a region from its file, see [`super::push`]).
//! Where there is neither, over TLS and on other systems, parts are read on the blocking pool, one step ahead of what is
//! being sent. Content that still arrives is followed: what is not verified yet is waited for ([`super::follow`]).

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use catalog::digest::PIECE_SIZE;
use http_body::{Body, Frame, SizeHint};
use tokio::task::JoinHandle;
use tokio::time::{Sleep, sleep};

use super::follow::Follower;
use super::open::OpenContent;
use super::pull::InUse;
use super::range::ByteRange;

/// Bytes of one read: small steps cost several times as much.
const STEP: u64 = 512 * 1024;
/// What each of those who waited for the first piece of a content gets before anybody gets more.
const FIRST: u64 = 64 * 1024;
/// For how long others have their turn then. Their clients need it too where they are on this machine, and so does the piece that
/// comes next: without it who comes last waits until all before him have read what their sockets hold.
const TURN: Duration = Duration::from_millis(4);

/// A piece of a body.
#[derive(Debug)]
pub enum Segment {
    /// As they are.
    Bytes(Bytes),
    /// A part of the content.
    File(ByteRange),
}

impl Segment {
    /// Bytes.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(range) => range.len(),
        }
    }
}

/// A body of known length.
#[derive(Debug)]
pub struct ContentBody {
    content: Option<Arc<OpenContent>>,
    segments: VecDeque<Segment>,
    ahead: Option<JoinHandle<io::Result<Bytes>>>,
    by_region: bool,
    // Few bodies have these. All are handed on several times before a byte is sent, so they are kept small.
    arriving: Option<Box<Arriving>>,
    _in_use: Option<Box<InUse>>,
    left: u64,
}

/// What a body knows of content that still arrives.
#[derive(Debug)]
struct Arriving {
    follower: Follower,
    opening: Opening,
}

/// How far the first step of a body is: many begin at once when the first piece of a content has arrived.
#[derive(Debug)]
enum Opening {
    /// A short step comes first.
    Ahead,
    /// Others have their turn until then.
    Turn(Pin<Box<Sleep>>),
    Over,
}

impl ContentBody {
    /// Nothing.
    pub fn empty() -> Self {
        Self {
            content: None,
            segments: VecDeque::new(),
            ahead: None,
            by_region: false,
            arriving: None,
            _in_use: None,
            left: 0,
        }
    }

    /// Bytes in memory.
    pub fn bytes(bytes: Bytes) -> Self {
        let left = bytes.len() as u64;
        Self { segments: VecDeque::from([Segment::Bytes(bytes)]), left, ..Self::empty() }
    }

    /// Bytes in memory, one after the other.
    pub fn parts(parts: Vec<Bytes>) -> Self {
        let left = parts.iter().map(|part| part.len() as u64).sum();
        let segments = parts.into_iter().map(Segment::Bytes).collect();
        Self { segments, left, ..Self::empty() }
    }

    /// Parts of a content, and what stands between them.
    pub fn content(content: Arc<OpenContent>, segments: Vec<Segment>) -> Self {
        let left = segments.iter().map(Segment::len).sum();
        Self { content: Some(content), segments: segments.into(), left, ..Self::empty() }
    }

    /// The same of content that still arrives: no byte before `follower` says that it may be read.
    pub(super) fn following(self, follower: Follower) -> Self {
        Self { arriving: Some(Box::new(Arriving { follower, opening: Opening::Ahead })), ..self }
    }

    /// Says so for as long as this body lives.
    pub(super) fn using(self, in_use: InUse) -> Self {
        Self { _in_use: Some(Box::new(in_use)), ..self }
    }

    /// Waits until some of what comes next may be read, and divides it where the rest may not.
    fn poll_verified(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (Some(arriving), Some(&Segment::File(range))) = (&mut self.arriving, self.segments.front())
        else {
            return Poll::Ready(Ok(()));
        };
        if let Opening::Turn(turn) = &mut arriving.opening {
            ready!(turn.as_mut().poll(context));
            arriving.opening = Opening::Over;
        }
        let mut readable = ready!(arriving.follower.poll_beyond(context, range.start()))?;
        if let Opening::Ahead = arriving.opening {
            arriving.opening = Opening::Over;
            if readable <= PIECE_SIZE as u64 && readable > range.start() + FIRST {
                arriving.opening = Opening::Turn(Box::pin(sleep(TURN)));
                readable = range.start() + FIRST;
            }
        }
        if let (Some(now), Some(later)) = (
            ByteRange::new(range.start(), readable.min(range.end()), range.end()),
            ByteRange::new(readable, range.end(), range.end()),
        ) {
            self.segments[0] = Segment::File(later);
            self.segments.push_front(Segment::File(now));
        }
        Poll::Ready(Ok(()))
    }

    /// Gives out the content's region instead of bytes that were read, if it has one, and says whose region that is. Only
    /// for a socket that knows regions.
    pub(super) fn by_region(&mut self) -> Option<&Arc<OpenContent>> {
        let content = self.content.as_ref().filter(|content| content.region().is_some())?;
        self.by_region = true;
        Some(content)
    }

    /// What comes next, if it is in memory.
    fn in_memory(&mut self) -> Option<Bytes> {
        let bytes = match self.segments.front()? {
            Segment::Bytes(bytes) => bytes.clone(),
            Segment::File(range) => {
                let content = self.content.as_ref()?;
                let region = content.region().filter(|_| self.by_region);
                content.small().or(region)?.slice(range.start() as usize..range.end() as usize)
            }
        };
        self.segments.pop_front();
        Some(bytes)
    }

    /// Starts reading the next step of the file, if that is what comes next and it is not in memory.
    fn read_ahead(&mut self) {
        let (None, Some(content), Some(&Segment::File(range))) =
            (&self.ahead, &self.content, self.segments.front())
        else {
            return;
        };
        let may_be_read =
            self.arriving.as_ref().is_none_or(|arriving| arriving.follower.readable() >= range.end());
        if content.small().is_some() || self.by_region || !may_be_read {
            return;
        }
        let end = range.end().min(range.start() + STEP);
        self.segments.pop_front();
        if let Some(rest) = ByteRange::new(end, range.end(), range.end()) {
            self.segments.push_front(Segment::File(rest));
        }
        let file = content.file().clone();
        let (start, count) = (range.start(), (end - range.start()) as usize);
        self.ahead = Some(tokio::task::spawn_blocking(move || {
            let mut buffer = vec![0; count];
            file.read_exact_at(&mut buffer, start)?;
            Ok(Bytes::from(buffer))
        }));
    }
}

impl Body for ContentBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.ahead.is_none() {
            ready!(self.poll_verified(context))?;
        }
        self.read_ahead();
        let bytes = match &mut self.ahead {
            // A short file is an error, and an error closes the connection: better than bytes that are not there.
            Some(reading) => {
                let read = ready!(Pin::new(reading).poll(context));
                self.ahead = None;
                let read = read.map_err(io::Error::other)?;
                if let (Err(error), Some(content)) = (&read, &self.content) {
                    content.failed(error);
                }
                read?
            }
            None => match self.in_memory() {
                Some(bytes) => bytes,
                None => return Poll::Ready(None),
            },
        };
        self.left = self.left.saturating_sub(bytes.len() as u64);
        self.read_ahead();
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::super::doubt::Doubts;
    use super::*;
    use crate::library::Growth;

    #[tokio::test]
    async fn parts_come_in_order_and_exactly() {
        let data: Vec<u8> = (0..2_000_000_u32).map(|i| (i % 251) as u8).collect();
        let folder = tempfile::tempdir().unwrap();
        let leases = Arc::default();
        let content = OpenContent::for_test_under(folder.path(), &data, &leases);
        let size = data.len() as u64;
        let segments = || {
            let range = |from, to| Segment::File(ByteRange::new(from, to, size).unwrap());
            let line = |bytes| Segment::Bytes(Bytes::from_static(bytes));
            vec![line(b"a"), range(5, 1_500_000), line(b"b"), range(0, 3)]
        };
        let expected: Vec<u8> = [b"a", &data[5..1_500_000], b"b", &data[..3]].concat();
        for by_region in [false, true] {
            let mut body = ContentBody::content(content.clone(), segments());
            assert_eq!(body.size_hint().exact(), Some(1_500_000));
            if by_region {
                let has_region = cfg!(all(target_os = "linux", not(feature = "portable")));
                assert_eq!(body.by_region().is_some(), has_region, "large content has a region");
            }
            assert!(body.collect().await.unwrap().to_bytes() == expected);
        }

        let path = folder.path().join("file");
        // It waits until our lease is given back, which this thread does.
        let cut = move || std::fs::File::options().write(true).open(path).unwrap().set_len(1_000).unwrap();
        tokio::task::spawn_blocking(cut).await.unwrap();
        let short = ContentBody::content(content, segments());
        assert!(short.collect().await.is_err(), "a file that became shorter is an error, never padding");
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_waited_for_the_first_piece_begin_together() {
        let (folder, size) = (tempfile::tempdir().unwrap(), 3 * PIECE_SIZE as u64);
        let content = OpenContent::for_test(folder.path(), &vec![7; size as usize]);
        let frames = async |verified: u64, from: u64| {
            let growth = Arc::<Growth>::default();
            growth.verified(verified);
            let all = vec![Segment::File(ByteRange::new(from, size, size).unwrap())];
            let follower = Follower::new(growth, size, Duration::from_secs(30));
            let mut body = ContentBody::content(content.clone(), all).following(follower);
            body.by_region = true;
            let mut frames = Vec::new();
            let mut left = (from..verified).count() as u64;
            while left > 0 {
                let began = tokio::time::Instant::now();
                let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
                left -= frame.len() as u64;
                frames.push((frame.len() as u64, began.elapsed() >= TURN));
            }
            frames
        };
        let piece = PIECE_SIZE as u64;
        assert_eq!(frames(piece, 0).await, [(FIRST, false), (piece - FIRST, true)]);
        assert_eq!(frames(2 * piece, 0).await, [(2 * piece, false)], "it began long ago");
        assert_eq!(frames(piece, piece - FIRST).await, [(FIRST, false)], "there is no more to wait for");
    }

    #[tokio::test]
    async fn a_body_that_cannot_be_read_is_doubted() {
        let (folder, doubts) = (tempfile::tempdir().unwrap(), Arc::new(Doubts::default()));
        let leases = Arc::default();
        let content =
            OpenContent::for_test_under(folder.path(), &vec![7; 2_000_000], &leases).doubting(&doubts);
        let all = || Segment::File(ByteRange::new(0, 2_000_000, 2_000_000).unwrap());
        let body = |content: &Arc<OpenContent>| ContentBody::content(content.clone(), vec![all()]);
        assert!(body(&content).collect().await.is_ok() && !doubts.are_any());
        let path = folder.path().join("file");
        let cut =
            move || std::fs::File::options().write(true).open(path).unwrap().set_len(1_000_000).unwrap();
        tokio::task::spawn_blocking(cut).await.unwrap();
        assert!(body(&content).collect().await.is_err());
        assert!(doubts.are_any(), "every client would be cut here");
    }

    #[tokio::test]
    async fn small_content_comes_from_memory() {
        let folder = tempfile::tempdir().unwrap();
        let content = OpenContent::for_test(folder.path(), b"0123456789");
        std::fs::remove_dir_all(folder.path()).unwrap();
        let part = Segment::File(ByteRange::new(2, 5, 10).unwrap());
        let mut body = ContentBody::content(content, vec![part]);
        assert!(body.by_region().is_none());
        assert_eq!(body.collect().await.unwrap().to_bytes(), "234");
    }
}
