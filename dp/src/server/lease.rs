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

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use rustix::net::{Shutdown, connect_unspec, shutdown};
use tokio::net::TcpStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{debug, warn};

use super::kernel;

/// How long what is on its way may take to arrive after somebody wants to write.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a reader on this machine, who shares the pages until it reads, may take after that.
const LOCAL_PATIENCE: Duration = Duration::from_secs(30);
/// How often sockets whose connection has ended are looked at, and leases where a signal was lost.
const SWEEP: Duration = Duration::from_secs(5);

/// The leases of one server.
#[derive(Debug, Default)]
pub(super) struct Leases {
    taken: Mutex<Vec<Weak<Lease>>>,
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
        let lease = Arc::new(Lease::new(file.clone()));
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.retain(|lease| lease.strong_count() > 0);
        taken.push(Arc::downgrade(&lease));
        Some(lease)
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
}

async fn watch(leases: Weak<Leases>, mut told: Signal) {
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        let swept = tokio::select! {
            _ = told.recv() => false,
            _ = sweep.tick() => true,
        };
        let Some(leases) = leases.upgrade() else { return };
        for lease in leases.all() {
            if swept {
                lease.sweep();
            }
            if !kernel::lease_is_undisturbed(&lease.file) && !lease.ending.swap(true, Ordering::Relaxed) {
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

    /// Takes one where there was none, or where it is gone, not too often.
    pub(super) fn renew(&self, leases: &Arc<Leases>, file: &Arc<File>) {
        if self.current.load().as_ref().is_some_and(|lease| !lease.is_gone()) {
            return;
        }
        let asked = *self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.is_none_or(|asked| asked.elapsed() > SWEEP) {
            self.take(leases, file);
        } else {
            self.current.store(None);
        }
    }
}

/// A read lease on the file of one content.
#[derive(Debug)]
pub(super) struct Lease {
    file: Arc<File>,
    /// Whether pages may be sent. Senders hold it for reading while they send.
    holds: RwLock<bool>,
    ending: AtomicBool,
    gone: AtomicBool,
    routes: Mutex<Routes>,
}

/// Sockets that pages were sent to.
#[derive(Debug, Default)]
struct Routes {
    open: Vec<Arc<Route>>,
    /// How many there may be before those that are done are looked for.
    room: usize,
}

/// A socket that pages were sent to: a descriptor of its own, so that it can be asked what has arrived after its connection
/// has ended.
#[derive(Debug)]
pub(super) struct Route {
    socket: OwnedFd,
    ended: AtomicBool,
    /// What had not arrived when the sweep came by, after the connection had ended.
    left_behind: Mutex<Option<usize>>,
}

/// The right to send pages, for one call.
pub(super) struct Sending<'a>(#[expect(dead_code, reason = "held, not read")] RwLockReadGuard<'a, bool>);

impl Lease {
    fn new(file: Arc<File>) -> Self {
        let (ending, gone) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { file, holds: RwLock::new(true), ending, gone, routes: Mutex::default() }
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// The right to send pages; `None` where somebody wants to write.
    pub(super) fn send(&self) -> Option<Sending<'_>> {
        let holds = self.holds.read().unwrap_or_else(PoisonError::into_inner);
        holds.then_some(Sending(holds))
    }

    /// Says that pages will go this way. Once for a connection and a content.
    pub(super) fn goes_by(&self, route: &Arc<Route>) {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        if routes.open.len() >= routes.room {
            routes.open.retain(|route| route.is_used());
            routes.room = 2 * routes.open.len() + 8;
        }
        if !routes.open.iter().any(|known| Arc::ptr_eq(known, route)) {
            routes.open.push(route.clone());
        }
    }

    fn routes(&self) -> Vec<Arc<Route>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner).open.clone()
    }

    /// Lets go of sockets whose connection has ended and whose bytes have arrived, or do not move any more.
    fn sweep(&self) {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.open.retain(|route| route.is_used() && !route.is_stuck());
    }

    async fn give_back(&self) {
        // Waits for those who are sending at this moment: calls that do not block.
        *self.holds.write().unwrap_or_else(PoisonError::into_inner) = false;
        let since = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            let routes = self.routes();
            let arriving = routes.iter().filter(|route| route.is_arriving());
            if since.elapsed() > PATIENCE {
                arriving.for_each(|route| route.reset());
                if since.elapsed() > LOCAL_PATIENCE || !any_unread_here(&routes) {
                    break;
                }
            } else if arriving.count() == 0 && !any_unread_here(&routes) {
                break;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(100));
        }
        kernel::give_lease_back(&self.file);
        self.gone.store(true, Ordering::Relaxed);
        self.routes.lock().unwrap_or_else(PoisonError::into_inner).open.clear();
        warn!(
            "a file of the library was opened for writing, or cut, in place; it had to wait for {:?}",
            since.elapsed()
        );
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // The lease belongs to the open file, which may have a newer one by now.
        if !self.is_gone() {
            kernel::give_lease_back(&self.file);
        }
    }
}

impl Route {
    /// A way to this socket.
    pub(super) fn to(socket: &TcpStream) -> Option<Arc<Self>> {
        let socket = socket.as_fd().try_clone_to_owned().ok()?;
        Some(Arc::new(Self { socket, ended: AtomicBool::new(false), left_behind: Mutex::new(None) }))
    }

    /// The connection has ended: what was sent may arrive, and nothing more comes.
    pub(super) fn end(&self) {
        // Closing does not, as long as there is a second descriptor.
        let _ = shutdown(&self.socket, Shutdown::Both);
        self.ended.store(true, Ordering::Relaxed);
    }

    fn is_arriving(&self) -> bool {
        kernel::unacknowledged(&self.socket) > 0
    }

    /// Whether the connection stands, or its bytes are still on their way.
    fn is_used(&self) -> bool {
        !self.ended.load(Ordering::Relaxed) || self.is_arriving()
    }

    /// Whether the connection has ended and its last bytes did not move between two looks. Then they are taken back.
    fn is_stuck(&self) -> bool {
        if !self.ended.load(Ordering::Relaxed) {
            return false;
        }
        let left = Some(kernel::unacknowledged(&self.socket));
        let before =
            std::mem::replace(&mut *self.left_behind.lock().unwrap_or_else(PoisonError::into_inner), left);
        let stuck = before == left;
        if stuck {
            self.reset();
        }
        stuck
    }

    /// Ends the connection at once and forgets what is queued (connect(2) with `AF_UNSPEC`).
    fn reset(&self) {
        let _ = connect_unspec(&self.socket);
    }

    /// The addresses of the other end and of this one, where the other end is on this machine.
    fn ends_here(&self) -> Option<(SocketAddr, SocketAddr)> {
        let socket = socket2::SockRef::from(&self.socket);
        let ours = canonical(socket.local_addr().ok()?.as_socket()?);
        let theirs = canonical(socket.peer_addr().ok()?.as_socket()?);
        (theirs.ip().is_loopback() || theirs.ip() == ours.ip()).then_some((theirs, ours))
    }
}

/// Whether somebody on this machine has not yet read what it acknowledged: it shares our pages till then.
fn any_unread_here(routes: &[Arc<Route>]) -> bool {
    let here: Vec<_> = routes.iter().filter_map(|route| route.ends_here()).collect();
    !here.is_empty()
        && ["/proc/net/tcp", "/proc/net/tcp6"].iter().any(|table| {
            let table = std::fs::read_to_string(table).unwrap_or_default();
            here.iter().any(|(theirs, ours)| unread_of(&table, *theirs, *ours).is_some_and(|bytes| bytes > 0))
        })
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Bytes that the socket at `local` has of `remote` and has not read, by a table as in `/proc/net/tcp` (proc_net_tcp.txt of
/// the kernel): `sl local rem st tx_queue:rx_queue …`, addresses as hexadecimal words of the machine's byte order.
fn unread_of(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (here, there) = (address_of(fields.next()?)?, address_of(fields.next()?)?);
        let (_, unread) = fields.nth(1)?.split_once(':')?;
        (here == local && there == remote).then(|| u64::from_str_radix(unread, 16).ok())?
    })
}

fn address_of(field: &str) -> Option<SocketAddr> {
    let (address, port) = field.split_once(':')?;
    let words: Option<Vec<[u8; 4]>> = (0..address.len() / 8)
        .map(|at| Some(u32::from_str_radix(address.get(8 * at..8 * at + 8)?, 16).ok()?.to_ne_bytes()))
        .collect();
    let bytes = words?.concat();
    let address = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        _ => return None,
    };
    Some(canonical(SocketAddr::new(address, u16::from_str_radix(port, 16).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn what_a_socket_on_this_machine_has_not_read_is_found() {
        let v4 = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                  0: 0100007F:1F90 0100007F:C350 01 00000005:00000000 00:00000000 00000000     0        0 1 1\n   \
                  1: 0100007F:C350 0100007F:1F90 01 00000000:000003E8 00:00000000 00000000     0        0 2 1\n";
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(unread_of(v4, at(50_000), at(8080)), Some(1000));
        assert_eq!(unread_of(v4, at(8080), at(50_000)), Some(0));
        assert_eq!(unread_of(v4, at(50_001), at(8080)), None);
        // A client of IPv4 at a socket of IPv6.
        let v6 = "sl\n 0: 0000000000000000FFFF00000100007F:C350 0000000000000000FFFF00000100007F:1F90 01 0:A 0 0\n";
        assert_eq!(unread_of(v6, at(50_000), at(8080)), Some(10));
        assert_eq!(unread_of("sl\n 0: nonsense : x\n", at(1), at(2)), None);
    }
}
