//! From the page cache to the socket: what hyper hands over as a slice of a file's region is sent from the file.
//!
//! ```text
//! hyper: [head] [slice of a region] ──▶ known by its address ──▶ preadv2(NOWAIT) ──▶ scratch ──▶ sendmsg [head][bytes]
//!                                                                   └─ not in memory: read in on the blocking pool
//! ```
//! One scratch a thread, which stays in the processor's cache, so a connection has no buffer of its own however slow its
//! client is. `sendfile` would save the copy, but it hands the page cache itself to the network: a file that is cut in place
//! is zeroed up to the end of its last page, also in what is on its way, and the client would get bytes that were never in
//! the file (docs/decisions/0013-data-path.md).

use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::open::OpenContent;

/// Bytes of one step: half of what the socket takes before it asks to wait.
const STEP: usize = 256 * 1024;
/// The most bytes of one write, so that others on this thread have their turn.
const TURN: usize = 4 * STEP;
/// Contents of one connection: its answers may overlap by one, and the files of a package come one after the other.
const REMEMBERED: usize = 4;
/// How often a step is read in before its bytes are taken as they were read: memory may be so short that they are gone again.
const READ_INS: u8 = 2;

/// The processor copies between page boundaries several times as fast as between odd addresses.
const ALIGNMENT: usize = 4096;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; STEP + ALIGNMENT]);
}

/// The contents whose regions a connection may meet.
#[derive(Debug, Default)]
pub(super) struct Regions(Mutex<[Option<Arc<OpenContent>>; REMEMBERED]>);

impl Regions {
    /// Says that slices of this region will come.
    pub(super) fn expect(&self, content: &Arc<OpenContent>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = known.iter().position(|it| it.as_ref().is_some_and(|it| Arc::ptr_eq(it, content)));
        // The last one goes, or the one that is to be the first again.
        known[..=at.unwrap_or(REMEMBERED - 1)].rotate_right(1);
        known[0] = Some(content.clone());
    }

    fn find(&self, slice: &IoSlice<'_>) -> Option<(Arc<OpenContent>, u64)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().flatten().find_map(|it| Some((it.clone(), it.offset_of(slice.as_ptr())?)))
    }
}

/// A part of a file that is to be sent, and what goes before it.
pub(super) struct Part<'a> {
    before: &'a [IoSlice<'a>],
    content: Arc<OpenContent>,
    offset: u64,
    length: usize,
    more: bool,
}

impl<'a> Part<'a> {
    /// The first slice of a region among `slices`, with what stands before it.
    pub(super) fn find(slices: &'a [IoSlice<'a>], regions: &Regions) -> Option<Self> {
        // What hyper makes itself, heads and the lines between parts, is short and comes first.
        slices.iter().enumerate().find_map(|(index, slice)| {
            let (content, offset) = regions.find(slice)?;
            let more = index + 1 < slices.len();
            Some(Self { before: &slices[..index], content, offset, length: slice.len(), more })
        })
    }
}

/// How much the kernel may hold unsent for one client. Much makes few wake-ups; little is fair, and kind to the host's
/// memory where thousands of clients are slow. TCP_NOTSENT_LOWAT does not limit what is on its way, as SO_SNDBUF would.
#[derive(Debug)]
struct Pace {
    since: Instant,
    sent: usize,
    limit: u32,
}

impl Pace {
    const UNKNOWN: u32 = 512 * 1024;
    const FAST: u32 = 1024 * 1024;
    const SLOW: u32 = 128 * 1024;
    const WINDOW: Duration = Duration::from_millis(100);
    /// 40 MiB/s.
    const FAST_BYTES: usize = 4 * 1024 * 1024;

    fn count(&mut self, sent: usize, socket: &TcpStream) {
        self.sent += sent;
        let window = self.since.elapsed();
        let limit = if self.sent >= Self::FAST_BYTES && window <= Self::WINDOW {
            Self::FAST
        } else if window > Self::WINDOW {
            // 2 MiB/s.
            let slow = (self.sent as u128) * 1000 < window.as_millis() * 2 * 1024 * 1024;
            if slow { Self::SLOW } else { Self::UNKNOWN }
        } else {
            return;
        };
        (self.since, self.sent) = (Instant::now(), 0);
        self.set(limit, socket);
    }

    fn set(&mut self, limit: u32, socket: &TcpStream) {
        if self.limit != limit {
            self.limit = limit;
            // A system without it holds more: slower for others, never wrong.
            let _ = socket2::SockRef::from(socket).set_tcp_notsent_lowat(limit);
        }
    }
}

/// Bytes that were not in memory.
#[derive(Debug)]
struct Cold {
    content: Arc<OpenContent>,
    offset: u64,
    tries: u8,
    reading: Option<JoinHandle<io::Result<Vec<u8>>>>,
    bytes: Vec<u8>,
}

/// Sends parts of files to one socket.
#[derive(Debug)]
pub(super) struct Pusher {
    pace: Pace,
    cold: Option<Cold>,
}

impl Pusher {
    pub(super) fn new(socket: &TcpStream) -> Self {
        let mut pace = Pace { since: Instant::now(), sent: 0, limit: 0 };
        pace.set(Pace::UNKNOWN, socket);
        Self { pace, cold: None }
    }

    /// Sends what the socket takes: how many bytes of `part`, what stands before it included, and how many of them were
    /// the file's.
    ///
    /// # Errors
    /// Those of the socket and of the file. A file that has become shorter is one: better than bytes that are not there.
    pub(super) fn poll_push(
        &mut self,
        context: &mut Context<'_>,
        socket: &TcpStream,
        part: &Part<'_>,
    ) -> Poll<io::Result<(usize, usize)>> {
        let head: usize = part.before.iter().map(|slice| slice.len()).sum();
        let most = part.length.min(TURN);
        let mut sent = 0;
        while sent < most {
            if let Some(cold) = &mut self.cold {
                ready!(cold.poll_read(context))?;
            }
            // A socket that is full must not cost a read. Asking also arms its wake-up.
            if !has_room(socket) {
                if sent > 0 {
                    break;
                }
                ready!(wait_for_room(context, socket))?;
                continue;
            }
            let step = (most - sent).min(self.pace.limit as usize / 2).min(STEP);
            let before = if sent == 0 { part.before } else { &[] };
            let more = part.more || sent + step < part.length;
            let at = part.offset + sent as u64;
            let pushed = match self.step(socket, before, &part.content, at, step, more) {
                Ok(pushed) => pushed,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && sent > 0 => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.cold.as_ref().is_none_or(|cold| cold.reading.is_none()) {
                        ready!(wait_for_room(context, socket))?;
                    }
                    continue;
                }
                Err(error) => return Poll::Ready(Err(error)),
            };
            let before: usize = before.iter().map(|slice| slice.len()).sum();
            let Some(of_file) = pushed.checked_sub(before) else {
                return Poll::Ready(Ok((pushed, 0))); // not even all of the head
            };
            sent += of_file;
            self.pace.count(of_file, socket);
            if of_file < step {
                break;
            }
        }
        Poll::Ready(Ok((head + sent, sent)))
    }

    /// One write of what stands before, and of bytes of the file that are in memory.
    fn step(
        &mut self,
        socket: &TcpStream,
        before: &[IoSlice<'_>],
        content: &Arc<OpenContent>,
        offset: u64,
        length: usize,
        more: bool,
    ) -> io::Result<usize> {
        if let Some(cold) = &self.cold
            && let Some(bytes) = cold.bytes_at(content, offset)
        {
            return send(socket, before, &bytes[..bytes.len().min(length)], more);
        }
        let read_and_sent = SCRATCH.with_borrow_mut(|scratch| {
            let aligned = scratch.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
            let scratch = &mut scratch[aligned..][..length];
            match preadv2(content.file(), &mut [IoSliceMut::new(scratch)], offset, ReadWriteFlags::NOWAIT) {
                Ok(0) => Some(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => Some(send(socket, before, &scratch[..count], more || count < length)),
                // Not in memory, or a file system that cannot say so.
                Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => None,
                Err(Errno::INTR) => Some(Err(io::ErrorKind::WouldBlock.into())),
                Err(error) => Some(Err(error.into())),
            }
        });
        if let Some(done) = read_and_sent {
            if done.is_ok() {
                self.cold = None;
            }
            return done;
        }
        let tries = self.cold.as_ref().filter(|cold| cold.offset == offset).map_or(0, |cold| cold.tries);
        self.cold = Some(Cold::read_in(content.clone(), offset, length, tries + 1));
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Cold {
    /// Starts reading in. The bytes themselves are kept only where they were gone again the last time.
    fn read_in(content: Arc<OpenContent>, offset: u64, length: usize, tries: u8) -> Self {
        let file = content.file().clone();
        let left = content.size.saturating_sub(offset);
        let length = length.min(usize::try_from(left).unwrap_or(usize::MAX));
        let reading = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, offset)?;
            if tries <= READ_INS {
                bytes = Vec::new();
            }
            Ok(bytes)
        });
        Self { content, offset, tries, reading: Some(reading), bytes: Vec::new() }
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(reading) = &mut self.reading {
            let read = ready!(Pin::new(reading).poll(context));
            self.reading = None;
            self.bytes = read.map_err(io::Error::other)??;
        }
        Poll::Ready(Ok(()))
    }

    fn bytes_at(&self, content: &Arc<OpenContent>, offset: u64) -> Option<&[u8]> {
        let skip = usize::try_from(offset.checked_sub(self.offset)?).ok()?;
        self.bytes.get(skip..).filter(|bytes| !bytes.is_empty() && Arc::ptr_eq(content, &self.content))
    }
}

fn has_room(socket: &TcpStream) -> bool {
    let mut asked = [PollFd::new(socket, PollFlags::OUT)];
    // An error is for the write to find.
    !matches!(poll(&mut asked, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(0))
}

fn wait_for_room(context: &mut Context<'_>, socket: &TcpStream) -> Poll<io::Result<()>> {
    loop {
        ready!(socket.poll_write_ready(context))?;
        // Readiness that is old is taken back, and the next question arms the wake-up.
        let looked = socket.try_io(Interest::WRITABLE, || {
            if has_room(socket) { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
        });
        match looked {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return Poll::Ready(other),
        }
    }
}

fn send(socket: &TcpStream, before: &[IoSlice<'_>], bytes: &[u8], more: bool) -> io::Result<usize> {
    let flags = if more { SendFlags::NOSIGNAL | SendFlags::MORE } else { SendFlags::NOSIGNAL };
    let mut slices = [IoSlice::new(&[]); 8];
    // hyper has one head and at most a few short lines before a part.
    let (count, all) = match before.len() {
        count @ 0..8 => (count, true),
        _ => (8, false),
    };
    slices[..count].copy_from_slice(&before[..count]);
    let used = if all {
        slices[count] = IoSlice::new(bytes);
        count + 1
    } else {
        count
    };
    socket.try_io(Interest::WRITABLE, || {
        Ok(sendmsg(socket, &slices[..used], &mut SendAncillaryBuffer::default(), flags)?)
    })
}
