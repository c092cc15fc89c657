//! The part that does: one connection and one staged file, one act a step.
//!
//! Bytes are gathered into [`GATHER`] before they are hashed and written, on a blocking thread, while the next
//! are received. So a process that is killed loses at most what one [`Writer`] may have, and what is gathered.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use catalog::digest::{Verified, Wanted};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::earlier::EarlierBody;
use super::fault::Fault;
use super::folder::{self, FileBody};
use super::machine::{Answer, Event};
use super::rate::RateLimit;
use super::web::{Body, Opened};
use super::{At, Source};
use crate::delta::Reuse;
use crate::library::{Appended, LibraryError, Note, Staged, Stored};

/// Bytes that are hashed and written at once: enough to be hashed on two cores, and no more, because what the
/// kernel holds for a fast connection (about 6 MiB on loopback) is lost with a killed process too.
const GATHER: usize = 512 * 1024;
/// A slow source's bytes are written at least this often: somebody may wait for them.
const GATHER_FOR: Duration = Duration::from_millis(100);

/// Chunks that may wait for the one that is written: neither the network nor the disk waits for the other for a moment's sake.
const QUEUE: usize = 2;

/// When those who wait for the first bytes of a file may read them, they have the processors, and nothing is hashed and written for a
/// moment. Once in a file.
const READERS_FIRST: Duration = Duration::from_millis(4);

/// Why the machine's own side failed: no other source can help.
#[derive(Debug)]
pub(super) enum LocalError {
    Library(LibraryError),
    /// The process is shutting down, or a blocking thread panicked.
    Stopped(tokio::task::JoinError),
}

enum Incoming {
    Web(Box<Body>),
    File(FileBody),
    Earlier(EarlierBody),
}

impl Incoming {
    async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        match self {
            Self::Web(body) => body.next().await,
            Self::File(body) => body.next().await,
            Self::Earlier(body) => body.next().await,
        }
    }
}

/// The staged file, which is here or with a thread that writes.
enum Disk {
    Here(Box<Staged>),
    Away(Writer),
    /// Something failed and was reported.
    Lost,
}

/// A blocking thread that hashes and writes what it is given, one after the other, until that is all or something is wrong.
struct Writer {
    chunks: mpsc::Sender<(Option<Note>, Bytes)>,
    working: JoinHandle<(Box<Staged>, Result<Appended, LibraryError>)>,
    /// Memory of what was written, to be used again.
    spare: mpsc::UnboundedReceiver<BytesMut>,
}

impl Writer {
    fn start(mut staged: Box<Staged>) -> Self {
        let (chunks, mut coming) = mpsc::channel::<(Option<Note>, Bytes)>(QUEUE);
        let (give_back, spare) = mpsc::unbounded_channel();
        let working = tokio::task::spawn_blocking(move || {
            while let Some((note, bytes)) = coming.blocking_recv() {
                let noted = note.map_or(Ok(()), |note| staged.set_note(&note));
                let was_waited_for = staged.is_waited_for();
                match noted.and_then(|()| staged.append(&bytes)) {
                    Ok(Appended::All) => {
                        if was_waited_for && !staged.is_waited_for() {
                            std::thread::sleep(READERS_FIRST);
                        }
                    }
                    ended => return (staged, ended),
                }
                if let Ok(mut memory) = bytes.try_into_mut() {
                    memory.clear();
                    let _ = give_back.send(memory); // nobody may want it any more
                }
            }
            (staged, Ok(Appended::All))
        });
        Self { chunks, working, spare }
    }
}

pub(super) struct Lane<'a> {
    sources: &'a [Source],
    rate: Option<&'a RateLimit>,
    disk: Disk,
    incoming: Option<Incoming>,
    /// Where in the file the next bytes of the answer are.
    at: u64,
    /// Of what came, what goes into the next write.
    rest: Bytes,
    /// Memory of an earlier write.
    spare: BytesMut,
    /// How the answer ended, while bytes from before the end are still on their way.
    end: Option<Event>,
    /// To be noted with the first bytes of the answer.
    note: Option<Note>,
    /// Where a piece began that was wrong.
    wrong: Option<u64>,
    /// What is here of the file, and the number of the source that stands for that.
    reuse: Option<(usize, Arc<Reuse>)>,
}

impl<'a> Lane<'a> {
    pub(super) fn new(
        sources: &'a [Source],
        rate: Option<&'a RateLimit>,
        staged: Box<Staged>,
        reuse: Option<(usize, Arc<Reuse>)>,
    ) -> Self {
        Self {
            sources,
            rate,
            disk: Disk::Here(staged),
            incoming: None,
            at: 0,
            rest: Bytes::new(),
            spare: BytesMut::new(),
            end: None,
            note: None,
            wrong: None,
            reuse,
        }
    }

    pub(super) async fn ask(
        &mut self,
        source: usize,
        from: u64,
        until: Option<u64>,
        if_range: Option<String>,
    ) -> Event {
        self.forget_answer();
        self.at = from;
        if let Some((_, reuse)) = self.reuse.as_ref().filter(|(number, _)| *number == source) {
            let total = reuse.size();
            self.incoming =
                Some(Incoming::Earlier(EarlierBody::new(reuse.clone(), from..until.unwrap_or(total))));
            return Event::Answered(Answer::From { offset: from, total: Some(total), etag: None });
        }
        let source = &self.sources[source];
        let opened = match &source.at {
            At::File(path) => {
                folder::open(path.clone(), from).await.map(|(answer, body)| (answer, Incoming::File(body)))
            }
            At::Url(url) => match source.web.open_part(url, from, until, if_range.as_deref()).await {
                Ok(Opened { answer, body }) => Ok((answer, Incoming::Web(Box::new(body)))),
                Err(fault) => Err(fault),
            },
        };
        match opened {
            Ok((answer, incoming)) => {
                if matches!(answer, Answer::Whole { .. }) {
                    self.at = 0;
                }
                self.note =
                    Some(Note { source: source.at.to_string(), etag: answer.etag().map(str::to_owned) });
                self.incoming = Some(incoming);
                Event::Answered(answer)
            }
            Err(fault) => Event::Failed(fault),
        }
    }

    /// The next bytes, up to a multiple of [`GATHER`]: pieces end there, and whole pages are written.
    pub(super) async fn read(&mut self) -> Event {
        let most = GATHER - (self.at % GATHER as u64) as usize;
        let mut gathered = std::mem::take(&mut self.spare);
        gathered.reserve(most);
        self.gather(&mut gathered, most);
        let began = Instant::now();
        let is_network = !matches!(self.incoming, Some(Incoming::Earlier(_)));
        while self.end.is_none()
            && gathered.len() < most
            && (gathered.is_empty() || began.elapsed() < GATHER_FOR)
        {
            let next = match &mut self.incoming {
                Some(Incoming::Web(body)) if !gathered.is_empty() => {
                    match timeout_at(began + GATHER_FOR, body.next()).await {
                        Ok(next) => next,
                        Err(_) => break,
                    }
                }
                Some(incoming) => incoming.next().await,
                None => Ok(None),
            };
            match next {
                Ok(Some(bytes)) => {
                    if let Some(rate) = self.rate.filter(|_| is_network) {
                        rate.spend(bytes.len()).await;
                    }
                    self.rest = bytes;
                    self.gather(&mut gathered, most);
                }
                Ok(None) => self.end = Some(Event::Ended),
                Err(fault) => self.end = Some(Event::Failed(fault)),
            }
        }
        if !gathered.is_empty() {
            self.at += gathered.len() as u64;
            return Event::Chunk(gathered.freeze());
        }
        self.incoming = None;
        self.end.take().unwrap_or(Event::Ended)
    }

    fn gather(&mut self, gathered: &mut BytesMut, most: usize) {
        let now = self.rest.len().min(most - gathered.len());
        gathered.extend_from_slice(&self.rest.split_to(now));
    }

    fn forget_answer(&mut self) {
        (self.incoming, self.end) = (None, None);
        self.rest.clear();
    }

    /// Has the bytes hashed and written, after those before them.
    pub(super) async fn write(&mut self, bytes: Bytes) -> Result<Event, LocalError> {
        if matches!(self.disk, Disk::Here(_)) {
            self.disk = Disk::Away(Writer::start(self.staged().await?));
        }
        if let Disk::Away(writer) = &mut self.disk {
            if self.spare.capacity() == 0 {
                self.spare = writer.spare.try_recv().unwrap_or_default();
            }
            if writer.chunks.send((self.note.take(), bytes)).await.is_ok() {
                return Ok(Event::Written);
            }
        }
        // It ends before it is told to only where something was wrong.
        let staged = self.staged().await?;
        self.disk = Disk::Here(staged);
        Ok(self.wrong_piece().unwrap_or(Event::Written))
    }

    pub(super) async fn rewind(&mut self) -> Result<Event, LocalError> {
        let mut staged = self.staged().await?;
        self.wrong = None; // it is gone with all the rest
        let emptying = tokio::task::spawn_blocking(move || {
            let emptied = staged.rewind();
            (staged, emptied)
        });
        let (staged, emptied) = emptying.await.map_err(LocalError::Stopped)?;
        self.disk = Disk::Here(staged);
        emptied.map(|()| Event::Rewound).map_err(LocalError::Library)
    }

    pub(super) async fn check(&mut self, wanted: &Wanted) -> Result<Event, LocalError> {
        self.incoming = None;
        let mut staged = self.staged().await?;
        if let Some(event) = self.wrong_piece() {
            self.disk = Disk::Here(staged);
            return Ok(event);
        }
        let wanted = *wanted;
        let checking = tokio::task::spawn_blocking(move || {
            let checked = staged.catch_up().map(|()| staged.check(&wanted));
            (staged, checked)
        });
        let (staged, checked) = checking.await.map_err(LocalError::Stopped)?;
        self.disk = Disk::Here(staged);
        Ok(checked.map_err(LocalError::Library)?.map_or_else(Event::Differs, Event::Matched))
    }

    pub(super) async fn commit(&mut self, verified: Verified) -> Result<Stored, LocalError> {
        let staged = self.staged().await?;
        let committed = tokio::task::spawn_blocking(move || staged.commit(verified)).await;
        committed.map_err(LocalError::Stopped)?.map_err(LocalError::Library)
    }

    /// Waits until the last bytes are written, so that what is staged is all that was received; or was, but for a wrong piece.
    pub(super) async fn settle(&mut self) -> Result<Option<Event>, LocalError> {
        let staged = self.staged().await?;
        self.disk = Disk::Here(staged);
        Ok(self.wrong_piece())
    }

    /// What the last bytes turned out to be. Nothing else of the answer is wanted then.
    fn wrong_piece(&mut self) -> Option<Event> {
        let offset = self.wrong.take()?;
        self.forget_answer();
        Some(Event::WrongPiece { offset })
    }

    /// The staged file, when all that was to be written is, or something was wrong.
    async fn staged(&mut self) -> Result<Box<Staged>, LocalError> {
        match std::mem::replace(&mut self.disk, Disk::Lost) {
            Disk::Here(staged) => Ok(staged),
            Disk::Away(Writer { chunks, working, .. }) => {
                drop(chunks);
                let (staged, written) = working.await.map_err(LocalError::Stopped)?;
                if let Appended::WrongPiece { offset } = written.map_err(LocalError::Library)? {
                    self.wrong = Some(offset);
                }
                Ok(staged)
            }
            Disk::Lost => unreachable!("the lane is dropped after its first local error"),
        }
    }
}
