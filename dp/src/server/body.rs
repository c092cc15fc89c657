//! The one body of all answers: bytes in memory and parts of an open file, of exactly known length.
//!
//! File parts are read on the blocking pool, one step ahead of what is being sent. A faster way to the socket changes
//! only this file.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::task::JoinHandle;

use super::range::ByteRange;

/// Bytes of one read: small steps cost several times as much.
const STEP: u64 = 512 * 1024;

/// A piece of a body.
#[derive(Debug)]
pub enum Segment {
    /// As they are.
    Bytes(Bytes),
    /// A part of the file.
    File(ByteRange),
}

/// A body of known length.
#[derive(Debug)]
pub struct ContentBody {
    file: Option<Arc<File>>,
    segments: VecDeque<Segment>,
    ahead: Option<JoinHandle<io::Result<Bytes>>>,
    left: u64,
}

impl ContentBody {
    /// Nothing.
    pub fn empty() -> Self {
        Self { file: None, segments: VecDeque::new(), ahead: None, left: 0 }
    }

    /// Bytes in memory.
    pub fn bytes(bytes: Bytes) -> Self {
        let left = bytes.len() as u64;
        Self { file: None, segments: VecDeque::from([Segment::Bytes(bytes)]), ahead: None, left }
    }

    /// Bytes in memory, one after the other.
    pub fn parts(parts: Vec<Bytes>) -> Self {
        let left = parts.iter().map(|part| part.len() as u64).sum();
        let segments = parts.into_iter().map(Segment::Bytes).collect();
        Self { file: None, segments, ahead: None, left }
    }

    /// Parts of a file, and what stands between them.
    pub fn file(file: Arc<File>, segments: Vec<Segment>) -> Self {
        let length = |segment: &Segment| match segment {
            Segment::Bytes(bytes) => bytes.len() as u64,
            Segment::File(range) => range.len(),
        };
        let left = segments.iter().map(length).sum();
        Self { file: Some(file), segments: segments.into(), ahead: None, left }
    }

    /// Starts reading the next step of the file, if that is what comes next.
    fn read_ahead(&mut self) {
        let (None, Some(file), Some(Segment::File(range))) = (
            &self.ahead,
            &self.file,
            self.segments.front().map(|s| match s {
                Segment::File(range) => Segment::File(*range),
                Segment::Bytes(bytes) => Segment::Bytes(bytes.clone()),
            }),
        ) else {
            return;
        };
        let end = range.end().min(range.start() + STEP);
        self.segments.pop_front();
        if let Some(rest) = ByteRange::new(end, range.end(), range.end()) {
            self.segments.push_front(Segment::File(rest));
        }
        let file = file.clone();
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
        self.read_ahead();
        let bytes = match &mut self.ahead {
            // A short file is an error, and an error closes the connection: better than bytes that are not there.
            Some(reading) => {
                let read = ready!(Pin::new(reading).poll(context));
                self.ahead = None;
                read.map_err(io::Error::other)??
            }
            None => match self.segments.pop_front() {
                Some(Segment::Bytes(bytes)) => bytes,
                _ => return Poll::Ready(None),
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

    use super::*;

    #[tokio::test]
    async fn parts_come_in_order_and_exactly() {
        let data: Vec<u8> = (0..2_000_000_u32).map(|i| (i % 251) as u8).collect();
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), &data).unwrap();
        let file = Arc::new(File::open(path.path()).unwrap());
        let size = data.len() as u64;
        let range = |from, to| Segment::File(ByteRange::new(from, to, size).unwrap());
        let segments = vec![
            Segment::Bytes(Bytes::from_static(b"a")),
            range(5, 1_500_000),
            Segment::Bytes(Bytes::from_static(b"b")),
            range(0, 3),
        ];
        let body = ContentBody::file(file.clone(), segments);
        assert_eq!(body.size_hint().exact(), Some(1_500_000));
        let bytes = body.collect().await.unwrap().to_bytes();
        let expected: Vec<u8> = [b"a", &data[5..1_500_000], b"b", &data[..3]].concat();
        assert!(bytes == expected);

        path.as_file().set_len(1_000).unwrap();
        let short = ContentBody::file(file, vec![range(0, 1_500_000)]);
        assert!(short.collect().await.is_err(), "a file that became shorter is an error, never padding");
    }
}
