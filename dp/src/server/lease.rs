//! Content that nobody can change while its pages are on their way.
//!
//! `sendfile` hands pages of the page cache to the network. A file that is written to, or cut, *in place* would change bytes
//! that were sent already and have not arrived, and a client that goes on elsewhere would complete a wrong file. So pages are
//! sent only of files on which this process holds a read lease: whoever opens such a file for writing waits until
//!
//! 1. nothing more is sent of it: connections in the middle of it end, and their clients resume, here or elsewhere;
//! 2. what is on its way has arrived. Where that takes longer than [`PATIENCE`], the connection is reset, which takes back
//!    what the kernel has queued;
//! 3. the lease is given back. The kernel itself waits longer than we need (45 s, `/proc/sys/fs/lease-break-time`).
//!
//! Where there is no lease (somebody has the file open for writing, a file system without them) bytes are copied. Removing
//! and replacing a file is not held up: an inode that has no name any more cannot be opened for writing.
//!
//! A lease outlives its content: what nobody has open any more keeps its lease until its last pages have arrived
//! ([`Leases::see_off`]). Content that still arrives has a lease of another sort ([`Lease::of_arriving`]): its writer is this
//! process, which only appends, so pages below the mark cannot change. When it is whole the kernel's lease takes over.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{debug, warn};

use super::kernel;
use super::route::{Route, Way, any_unread_here};

/// How long what is on its way may take to arrive after somebody wants to write.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a reader on this machine, who shares the pages until it reads, may take after that.
const LOCAL_PATIENCE: Duration = Duration::from_secs(30);
/// How often sockets whose connection has ended are looked at, and leases where a signal was lost.
const SWEEP: Duration = Duration::from_secs(5);
/// Leases of content that nobody has open any more. Beyond them the oldest takes its pages back.
const MOST_PARTING: usize = 512;

/// The leases of one server.
#[derive(Debug, Default)]
pub(super) struct Leases {
    taken: Mutex<Vec<Weak<Lease>>>,
    /// Those of content that nobody has open any more, and of which pages are on their way.
    parting: Mutex<Vec<Arc<Lease>>>,
    /// Whether somebody listens for the kernel's word; leases are taken only then, as the signal would end the process.
    watched: OnceLock<bool>,
}

impl Leases {
    /// A lease on a file, if there can be one. Within a runtime.
    pub(super) fn take(self: &Arc<Self>, file: &Arc<File>) -> Option<Arc<Lease>> {
        if !self.watched.get_or_init(|| self.watch()) {
            return None;
        }
        if let Err(error) = kernel::take_lease(file) {
            debug!("no lease, bytes will be copied: {error}");
            return None;
        }
        Some(self.know(Lease::new(file.clone(), self, true)))
    }

    /// The same for a file that this process still writes to. Only on a file system that has leases.
    fn take_of_arriving(self: &Arc<Self>, file: &Arc<File>) -> Option<Arc<Lease>> {
        if !self.watched.get_or_init(|| self.watch()) {
            return None;
        }
        match kernel::take_lease(file) {
            // It is whole by now.
            Ok(()) => Some(self.know(Lease::new(file.clone(), self, true))),
            // Our own writer.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Some(self.know(Lease::new(file.clone(), self, false)))
            }
            Err(error) => {
                debug!("no lease when it is whole, bytes will be copied: {error}");
                None
            }
        }
    }

    fn know(&self, lease: Lease) -> Arc<Lease> {
        let lease = Arc::new(lease);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.retain(|lease| lease.strong_count() > 0);
        taken.push(Arc::downgrade(&lease));
        lease
    }

    fn watch(self: &Arc<Self>) -> bool {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return false };
        match signal(SignalKind::io()) {
            Ok(told) => {
                runtime.spawn(watch(Arc::downgrade(self), told));
                true
            }
            Err(error) => {
                warn!("content is copied before it is sent, as signals cannot be heard: {error}");
                false
            }
        }
    }

    fn all(&self) -> Vec<Arc<Lease>> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.iter().filter_map(Weak::upgrade).collect()
    }

    /// Keeps a lease whose content nobody has open any more, until its pages have arrived.
    fn keep_parting(&self, lease: Lease) {
        let lease = self.know(lease);
        let mut parting = self.parting.lock().unwrap_or_else(PoisonError::into_inner);
        parting.push(lease);
        let too_much = parting.len().saturating_sub(MOST_PARTING);
        let oldest: Vec<_> = parting.drain(..too_much).collect();
        drop(parting);
        oldest.iter().for_each(|lease| lease.take_pages_back());
    }

    /// Lets go of leases whose content nobody has open any more, and whose pages have arrived by now.
    pub(super) fn see_off(&self, now: Instant) {
        let mut parting = self.parting.lock().unwrap_or_else(PoisonError::into_inner);
        let arrived = parting.extract_if(.., |lease| lease.has_parted(now)).collect::<Vec<_>>();
        drop(parting);
        drop(arrived);
    }
}

async fn watch(leases: Weak<Leases>, mut told: Signal) {
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        let swept = tokio::select! {
            _ = told.recv() => false,
            _ = sweep.tick() => true,
        };
        let Some(leases) = leases.upgrade() else { return };
        let now = Instant::now();
        if swept {
            leases.see_off(now);
        }
        for lease in leases.all() {
            if swept && lease.parting.is_none() {
                lease.sweep(now);
            }
            if lease.is_disturbed() && !lease.ending.swap(true, Ordering::Relaxed) {
                tokio::spawn(async move { lease.give_back().await });
            }
        }
    }
}

/// The lease of one open file, as long as there is one.
#[derive(Debug, Default)]
pub(super) struct Leased {
    current: ArcSwapOption<Lease>,
    asked: Mutex<Option<Instant>>,
}

impl Leased {
    /// The lease, also while it is being given back: then nothing may be sent.
    pub(super) fn current(&self) -> Option<Arc<Lease>> {
        self.current.load_full()
    }

    /// Takes one, if there can be one.
    pub(super) fn take(&self, leases: &Arc<Leases>, file: &Arc<File>) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.current.store(leases.take(file));
    }

    /// Takes one of a file that this process still writes to.
    pub(super) fn take_of_arriving(&self, leases: &Arc<Leases>, file: &Arc<File>) {
        self.current.store(leases.take_of_arriving(file));
    }

    /// The file is whole, and nobody writes to it any more: from now on the kernel sees to that. Where it cannot, bytes are
    /// copied.
    pub(super) fn is_whole(&self) {
        if self.current.load().as_ref().is_some_and(|lease| !lease.is_gone() && !lease.becomes_the_kernels())
        {
            self.current.store(None);
        }
    }

    /// Takes one where there was none, or where it is gone, not too often.
    pub(super) fn renew(&self, leases: &Arc<Leases>, file: &Arc<File>) {
        if self.current.load().as_ref().is_some_and(|lease| !lease.is_gone()) {
            return;
        }
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        // Another may have taken one meanwhile. Both would be of one open file: giving up one gives back the other.
        if self.current.load().as_ref().is_some_and(|lease| !lease.is_gone()) {
            return;
        }
        let taken = asked.is_none_or(|asked| asked.elapsed() > SWEEP).then(|| {
            *asked = Some(Instant::now());
            leases.take(file)
        });
        self.current.store(taken.flatten());
    }
}

/// A read lease on the file of one content.
#[derive(Debug)]
pub(super) struct Lease {
    file: Arc<File>,
    home: Weak<Leases>,
    /// Whether the kernel has it; not yet, as long as this process writes to the file.
    is_kernels: AtomicBool,
    /// Whether pages may be sent. Senders hold it for reading while they send.
    holds: RwLock<bool>,
    ending: AtomicBool,
    gone: AtomicBool,
    ways: Mutex<Ways>,
    /// Since when nobody has the content open any more.
    parting: Option<Instant>,
}

/// Where pages were sent.
#[derive(Debug, Default)]
struct Ways {
    open: Vec<Arc<Way>>,
    /// How many there may be before those that are done are looked for.
    room: usize,
}

/// The right to send pages, for one call.
pub(super) struct Sending<'a>(#[expect(dead_code, reason = "held, not read")] RwLockReadGuard<'a, bool>);

impl Lease {
    fn new(file: Arc<File>, home: &Arc<Leases>, is_kernels: bool) -> Self {
        Self {
            file,
            home: Arc::downgrade(home),
            is_kernels: AtomicBool::new(is_kernels),
            holds: RwLock::new(true),
            ending: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            ways: Mutex::default(),
            parting: None,
        }
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    fn is_disturbed(&self) -> bool {
        self.is_kernels.load(Ordering::Relaxed) && !kernel::lease_is_undisturbed(&self.file)
    }

    /// Whether the kernel has it now. Where somebody was quicker and has the file open for writing, what is on its way is
    /// taken back: it may be another thing by now.
    fn becomes_the_kernels(&self) -> bool {
        if self.is_kernels.load(Ordering::Relaxed) {
            return true;
        }
        let mut holds = self.holds.write().unwrap_or_else(PoisonError::into_inner);
        if self.is_kernels.load(Ordering::Relaxed) {
            return true;
        }
        *holds = kernel::take_lease(&self.file).is_ok();
        self.is_kernels.store(*holds, Ordering::Relaxed);
        if !*holds {
            self.gone.store(true, Ordering::Relaxed);
            self.take_pages_back();
        }
        *holds
    }

    /// The right to send pages; `None` where somebody wants to write.
    pub(super) fn send(&self) -> Option<Sending<'_>> {
        let holds = self.holds.read().unwrap_or_else(PoisonError::into_inner);
        holds.then_some(Sending(holds))
    }

    /// Says that pages will go this way. Once for a connection and a content.
    pub(super) fn goes_by(&self, route: &Arc<Route>) -> Arc<Way> {
        let mut ways = self.lock();
        if ways.open.len() >= ways.room {
            ways.open.retain(|way| way.is_used());
            ways.room = 2 * ways.open.len() + 8;
        }
        if let Some(known) = ways.open.iter().find(|way| Arc::ptr_eq(&way.route, route)) {
            return known.clone();
        }
        let way = Arc::new(Way::by(route));
        ways.open.push(way.clone());
        way
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Ways> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ways(&self) -> Vec<Arc<Way>> {
        self.lock().open.clone()
    }

    /// Lets go of sockets whose connection has ended and whose bytes have arrived, or do not move any more.
    fn sweep(&self, now: Instant) {
        self.lock().open.retain(|way| way.is_used() && !way.route.is_stuck(now));
    }

    /// Whether nothing of a content that nobody has open any more is on its way.
    fn has_parted(&self, now: Instant) -> bool {
        let since = self.parting.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let mut ways = self.lock();
        ways.open.retain(|way| {
            let unread = || since < LOCAL_PATIENCE && any_unread_here(std::slice::from_ref(way));
            if way.is_arriving() { !way.route.is_stuck(now) } else { unread() }
        });
        ways.open.is_empty()
    }

    /// Ends every connection that has pages on their way, and what is queued of them.
    fn take_pages_back(&self) {
        let ways = std::mem::take(&mut self.lock().open);
        ways.iter().filter(|way| way.is_arriving()).for_each(|way| way.route.reset());
    }

    async fn give_back(&self) {
        // Waits for those who are sending at this moment: calls that do not block.
        *self.holds.write().unwrap_or_else(PoisonError::into_inner) = false;
        let since = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            let ways = self.ways();
            let arriving = ways.iter().filter(|way| way.is_arriving());
            if since.elapsed() > PATIENCE {
                arriving.for_each(|way| way.route.reset());
                if since.elapsed() > LOCAL_PATIENCE || !any_unread_here(&ways) {
                    break;
                }
            } else if arriving.count() == 0 && !any_unread_here(&ways) {
                break;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(100));
        }
        kernel::give_lease_back(&self.file);
        self.gone.store(true, Ordering::Relaxed);
        self.lock().open.clear();
        warn!(
            "a file of the library was opened for writing, or cut, in place; it had to wait for {:?}",
            since.elapsed()
        );
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // The lease belongs to the open file, which may have a newer one by now.
        if self.is_gone() {
            return;
        }
        let mut open = std::mem::take(&mut self.lock().open);
        // What a reader on this machine has not read is looked for later, not on a thread that serves.
        open.retain(|way| way.is_arriving() || (self.parting.is_none() && way.route.ends_here().is_some()));
        let home = self.home.upgrade().filter(|_| !open.is_empty());
        match home.filter(|_| self.becomes_the_kernels()) {
            Some(home) => {
                let mut lease = Self::new(self.file.clone(), &home, true);
                lease.parting = Some(self.parting.unwrap_or_else(Instant::now));
                lease.ways = Mutex::new(Ways { room: open.len(), open });
                home.keep_parting(lease);
            }
            None => kernel::give_lease_back(&self.file),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::os::unix::fs::FileExt as _;

    use catalog::digest::{Checker, Digests, PIECE_SIZE, Pieces, Wanted};
    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpSocket, TcpStream};

    use super::*;
    use crate::library::{Growth, Library, Settings};
    use crate::server::open::OpenContent;
    use crate::server::push::{Part, Pusher, Regions};

    /// A socket whose other end takes little before it is read from.
    async fn slow_pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let far = socket.connect(listener.local_addr().unwrap()).await.unwrap();
        (listener.accept().await.unwrap().0, far)
    }

    async fn push(content: &Arc<OpenContent>, pusher: &mut Pusher, socket: &TcpStream) -> usize {
        let regions = Regions::default();
        regions.expect(content);
        let region = content.region().unwrap().clone();
        let slices = [IoSlice::new(&region)];
        let part = Part::find(&slices, &regions).unwrap();
        std::future::poll_fn(|context| pusher.poll_push(context, socket, &part)).await.unwrap().0
    }

    #[tokio::test]
    async fn two_who_renew_at_once_leave_one_lease_that_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, [7; 1_000]).unwrap();
        let runtime = tokio::runtime::Handle::current();
        for _ in 0..200 {
            let leases = Arc::<Leases>::default();
            let file = Arc::new(File::open(&path).unwrap());
            let (leased, start) = (Leased::default(), std::sync::Barrier::new(2));
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        let _runtime = runtime.enter();
                        start.wait();
                        leased.renew(&leases, &file);
                    });
                }
            });
            let lease = leased.current().expect("nobody writes to the file");
            assert!(!lease.is_gone() && !lease.is_disturbed());
        }
    }

    #[tokio::test]
    async fn a_lease_outlives_its_content_until_the_pages_have_arrived() {
        let folder = tempfile::tempdir().unwrap();
        let leases = Arc::<Leases>::default();
        let content = OpenContent::for_test_under(folder.path(), &vec![7; 4 << 20], &leases);
        let file = content.file().clone();
        let (near, mut far) = slow_pair().await;
        let mut pusher = Pusher::new(&near);
        let sent = push(&content, &mut pusher, &near).await;
        assert!(sent > 0 && kernel::lease_is_undisturbed(&file));
        // Nobody has it open any more, and its connection has ended.
        drop((content, pusher, near));
        assert!(kernel::lease_is_undisturbed(&file), "its pages are on their way");
        leases.see_off(Instant::now());
        assert!(kernel::lease_is_undisturbed(&file), "and still are");
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.unwrap();
        assert_eq!(got.len(), sent);
        let began = Instant::now();
        while kernel::lease_is_undisturbed(&file) {
            assert!(began.elapsed() < Duration::from_secs(20), "it is kept for ever");
            leases.see_off(Instant::now());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn who_never_reads_keeps_no_lease_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let leases = Arc::<Leases>::default();
        let content = OpenContent::for_test_under(folder.path(), &vec![7; 4 << 20], &leases);
        let file = content.file().clone();
        let (near, _far) = slow_pair().await;
        let mut pusher = Pusher::new(&near);
        push(&content, &mut pusher, &near).await;
        drop((content, pusher, near));
        let now = Instant::now();
        leases.see_off(now);
        assert!(kernel::lease_is_undisturbed(&file));
        leases.see_off(now + SWEEP);
        leases.see_off(now + LOCAL_PATIENCE + SWEEP);
        assert!(!kernel::lease_is_undisturbed(&file), "what does not move is taken back");
    }

    #[tokio::test]
    async fn content_that_arrives_is_sent_by_its_pages_and_under_a_lease_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let library = Library::open(folder.path(), Settings::default()).unwrap();
        let leases = Arc::<Leases>::default();
        for somebody_writes in [false, true] {
            let data = vec![7 + u8::from(somebody_writes); 2 * PIECE_SIZE];
            let mut checker = Checker::new();
            checker.update(&data);
            let print = checker.into_fingerprint();
            let digests = Digests { sha256: Some(print.sha256), sha1: None };
            let wanted = Wanted::new(print.size, digests).unwrap();
            let (mut staged, growth) = (library.stage(&wanted).unwrap(), Arc::new(Growth::default()));
            let pieces = Pieces::new(print.size, print.pieces.clone()).unwrap();
            staged.check_pieces(pieces, Some(growth.clone())).unwrap();
            staged.append(&data[..PIECE_SIZE]).unwrap();
            let content = OpenContent::arriving(&growth, print.sha256, print.size, &leases).unwrap().unwrap();
            let file = content.file().clone();
            assert!(content.lease().is_some_and(|lease| lease.send().is_some()), "this process writes alone");
            assert!(!kernel::lease_is_undisturbed(&file), "and so the kernel gives none");
            staged.append(&data[PIECE_SIZE..]).unwrap();
            staged.catch_up().unwrap();
            let verified = staged.check(&wanted).unwrap();
            staged.commit(verified).unwrap();
            let name = print.sha256.to_string();
            let path = folder.path().join("blobs").join(&name[..2]).join(&name);
            let writer = somebody_writes.then(|| {
                rustix::fs::chmod(&path, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
                let writer = File::options().write(true).open(&path).unwrap();
                writer.write_all_at(b"x", 0).unwrap();
                writer
            });
            assert_eq!(content.lease().is_some(), writer.is_none(), "bytes are copied where somebody writes");
            assert_eq!(kernel::lease_is_undisturbed(&file), writer.is_none());
        }
    }
}
