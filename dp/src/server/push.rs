//! From the page cache to the socket: what hyper hands over as a slice of a file's region is sent from the file.
//!
//! ```text
//! hyper: [head] [slice of a region] ──▶ known by its address ──▶ in memory? ─ yes ─▶ sendmsg [head], sendfile
//!                                                                   │                no lease: preadv2 → scratch → sendmsg
//!                                                                   └─ no: read in on the blocking pool
//! ```
//! `sendfile` copies nothing, and is safe as long as nobody can change the file ([`super::lease`]). Without that assurance
//! bytes go through one scratch a thread, which stays in the processor's cache: a connection has no buffer of its own however
//! slow its client is (docs/decisions/0013-data-path.md).

use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use rustix::fs::sendfile;
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use rustix::net::sockopt::set_tcp_cork;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::cold::Cold;
use super::kernel;
use super::lease::Lease;
use super::open::OpenContent;
use super::pace::Pace;
use super::route::{Route, Way};

/// Bytes of one call of `sendfile`.
const STEP: usize = 1024 * 1024;
/// Bytes that are copied at once.
const COPIED: usize = 256 * 1024;
/// The most bytes of one write, so that others on this thread have their turn.
const TURN: usize = 1024 * 1024;
/// A part up to this length is one segment or two.
const UNHELD: usize = 64 * 1024;
/// Contents of one connection: its answers may overlap by one, and the files of a package come one after the other.
const REMEMBERED: usize = 4;

/// The processor copies between page boundaries several times as fast as between odd addresses.
const ALIGNMENT: usize = 4096;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; COPIED + ALIGNMENT]);
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

/// Sends parts of files to one socket.
#[derive(Debug)]
pub(super) struct Pusher {
    pace: Pace,
    /// Only whole segments leave: see [`Pusher::hold_back`].
    holds_back: bool,
    cold: Option<Cold>,
    /// This socket, and the lease that was told of it last.
    way: Option<(Arc<Way>, Arc<Lease>)>,
}

impl Drop for Pusher {
    fn drop(&mut self) {
        if let Some((way, _)) = &self.way {
            way.route.end();
        }
    }
}

/// What one step did.
enum Step {
    /// So many bytes went, what stands before included. The socket may have become full by it.
    Sent { bytes: usize, full: bool },
    /// The socket takes nothing at the moment; its wake-up is armed when it is asked again.
    Full,
    /// The bytes are being read in.
    Cold,
}

impl Pusher {
    pub(super) fn new(socket: &TcpStream) -> Self {
        Self { pace: Pace::new(socket), holds_back: false, cold: None, way: None }
    }

    /// From now on the kernel sends whole segments alone. Without it every acknowledgement that arrives between two steps sends
    /// what there is as a short one, a third more segments in all, each of which costs as much as a whole one.
    fn hold_back(&mut self, socket: &TcpStream) {
        if !self.holds_back {
            self.holds_back = set_tcp_cork(socket, true).is_ok();
        }
    }

    /// All that was written leaves.
    pub(super) fn let_go(&mut self, socket: &TcpStream) {
        if self.holds_back {
            self.holds_back = set_tcp_cork(socket, false).is_err();
        }
    }

    /// The socket has taken so many bytes that are no pages.
    pub(super) fn count_others(&self, bytes: usize) {
        if let Some((way, _)) = &self.way {
            way.route.count(bytes);
        }
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
        if part.length > UNHELD {
            self.hold_back(socket);
        }
        let mut sent = 0;
        while sent < most {
            if let Some(cold) = &mut self.cold {
                if sent > 0 && cold.is_reading() {
                    break;
                }
                ready!(cold.poll_read(context))?;
            }
            let before = if sent == 0 { part.before } else { &[] };
            let before_length = if sent == 0 { head } else { 0 };
            let length = most - sent;
            let more = part.more || sent + length < part.length;
            match self.step(socket, before, &part.content, part.offset + sent as u64, length, more)? {
                Step::Cold => {}
                Step::Full if sent > 0 => break,
                Step::Full => ready!(socket.poll_write_ready(context))?,
                Step::Sent { bytes, full } => {
                    let Some(of_file) = bytes.checked_sub(before_length) else {
                        return Poll::Ready(Ok((bytes, 0))); // not even all of the head
                    };
                    sent += of_file;
                    self.pace.count(of_file, socket);
                    if full {
                        break;
                    }
                }
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
    ) -> io::Result<Step> {
        if let Some(cold) = &self.cold
            && let Some(bytes) = cold.bytes_at(content, offset)
        {
            let step = send(socket, before, &bytes[..bytes.len().min(length)], more)?;
            return Ok(self.counted(step));
        }
        let step = match content.lease() {
            Some(lease) if let Some(way) = self.way_of(socket, &lease) => {
                hand_over(socket, before, content, &lease, way, offset, length.min(STEP))
            }
            _ => {
                copy(socket, before, content, offset, length.min(COPIED), more).map(|step| self.counted(step))
            }
        };
        let step = step.inspect_err(|error| content.failed(error))?;
        match step {
            Step::Cold => {
                let tries = self.cold.as_ref().map_or(0, |cold| cold.tries_at(offset));
                self.cold = Some(Cold::read_in(content.clone(), offset, length.min(STEP), tries + 1));
            }
            Step::Sent { .. } => self.cold = None,
            Step::Full => {}
        }
        Ok(step)
    }

    fn counted(&self, step: Step) -> Step {
        if let Step::Sent { bytes, .. } = step {
            self.count_others(bytes);
        }
        step
    }

    /// The way to this socket, of which the lease knows.
    fn way_of(&mut self, socket: &TcpStream, lease: &Arc<Lease>) -> Option<&Way> {
        if !self.way.as_ref().is_some_and(|(_, told)| Arc::ptr_eq(told, lease)) {
            let known = self.way.take().map(|(way, _)| way.route.clone());
            let route = known.or_else(|| Route::to(socket))?;
            self.way = Some((lease.goes_by(&route), lease.clone()));
        }
        self.way.as_ref().map(|(way, _)| &**way)
    }
}

/// Sends pages of the file as they are.
fn hand_over(
    socket: &TcpStream,
    before: &[IoSlice<'_>],
    content: &OpenContent,
    lease: &Lease,
    way: &Way,
    offset: u64,
    length: usize,
) -> io::Result<Step> {
    // Somebody wants to write to it: whoever is in the middle of it resumes elsewhere, or finds what is there then.
    let _sending = lease.send().ok_or_else(|| io::Error::other("the file is being changed in place"))?;
    if kernel::is_in_memory(content.file(), offset, length) == Some(false) {
        return Ok(Step::Cold);
    }
    let head: usize = before.iter().map(|slice| slice.len()).sum();
    if head > 0 {
        let step = send(socket, before, &[], true)?;
        if let Step::Sent { bytes, .. } = step {
            way.count(bytes);
        }
        if !matches!(step, Step::Sent { bytes, .. } if bytes == head) {
            return Ok(step);
        }
    }
    let mut at = offset;
    let mut pushed = 0;
    let pushing = socket.try_io(Interest::WRITABLE, || {
        pushed = sendfile(socket, content.file(), Some(&mut at), length)?;
        // A socket that took a part is full; who says so here is woken when there is room.
        if (1..length).contains(&pushed) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    // While this holds the right to send: who takes it away must know of every page.
    way.count(pushed);
    match pushing {
        Ok(()) if pushed == 0 => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        pushing if head + pushed > 0 => Ok(Step::Sent { bytes: head + pushed, full: pushing.is_err() }),
        _ => Ok(Step::Full),
    }
}

/// Copies bytes of the file that are in memory, and sends the copy.
fn copy(
    socket: &TcpStream,
    before: &[IoSlice<'_>],
    content: &OpenContent,
    offset: u64,
    length: usize,
    more: bool,
) -> io::Result<Step> {
    // A socket that is full must not cost a read.
    if !has_room(socket)? {
        return Ok(Step::Full);
    }
    SCRATCH.with_borrow_mut(|scratch| {
        let aligned = scratch.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        let scratch = &mut scratch[aligned..][..length];
        match preadv2(content.file(), &mut [IoSliceMut::new(scratch)], offset, ReadWriteFlags::NOWAIT) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => send(socket, before, &scratch[..count], more || count < length),
            // Not in memory, or a file system that cannot say so.
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(Step::Cold),
            Err(Errno::INTR) => Ok(Step::Full),
            Err(error) => Err(error.into()),
        }
    })
}

/// Whether the socket takes anything; where it does not, its wake-up is armed.
fn has_room(socket: &TcpStream) -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let looked = socket.try_io(Interest::WRITABLE, || {
        let mut asked = [PollFd::new(socket, PollFlags::OUT)];
        // An error is for the write to find.
        match poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(()),
        }
    });
    match looked {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        looked => looked.map(|()| true),
    }
}

fn send(socket: &TcpStream, before: &[IoSlice<'_>], bytes: &[u8], more: bool) -> io::Result<Step> {
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
    let sent = socket.try_io(Interest::WRITABLE, || {
        Ok(sendmsg(socket, &slices[..used], &mut SendAncillaryBuffer::default(), flags)?)
    });
    match sent {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Step::Full),
        sent => {
            let all: usize = slices[..used].iter().map(|slice| slice.len()).sum();
            sent.map(|bytes| Step::Sent { bytes, full: bytes < all })
        }
    }
}
