//! Sockets that pages of content were sent to, and what of them has arrived.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::{Shutdown, connect_unspec, shutdown};
use tokio::net::TcpStream;

use super::kernel;

/// A socket whose connection has ended and whose bytes have not moved for so long is given up.
const STUCK: Duration = Duration::from_secs(4);

/// The pages of one content that went by one socket.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) route: Arc<Route>,
    /// Where in what the socket took the last of them ends.
    until: AtomicU64,
}

/// A socket that pages were sent to: a descriptor of its own, so that it can be asked what has arrived after its connection
/// has ended.
#[derive(Debug)]
pub(super) struct Route {
    socket: OwnedFd,
    /// Bytes that it has taken, from the first that had not arrived when this began.
    taken: AtomicU64,
    ended: AtomicBool,
    /// What had not arrived when it was looked at after the connection had ended, and since when that is so.
    left_behind: Mutex<Option<(usize, Instant)>>,
}

impl Way {
    /// Nothing has gone there yet.
    pub(super) fn by(route: &Arc<Route>) -> Self {
        Self { route: route.clone(), until: AtomicU64::new(0) }
    }

    /// The socket has taken so many bytes, the last of which are pages.
    pub(super) fn count(&self, bytes: usize) {
        self.until.store(self.route.count(bytes), Ordering::Relaxed);
    }

    pub(super) fn is_arriving(&self) -> bool {
        !self.route.has_arrived(self.until.load(Ordering::Relaxed))
    }

    /// Whether the connection stands, or its pages are still on their way.
    pub(super) fn is_used(&self) -> bool {
        !self.route.ended.load(Ordering::Relaxed) || self.is_arriving()
    }
}

impl Route {
    /// A way to this socket.
    pub(super) fn to(socket: &TcpStream) -> Option<Arc<Self>> {
        let socket = socket.as_fd().try_clone_to_owned().ok()?;
        let taken = AtomicU64::new(kernel::unacknowledged(&socket) as u64);
        Some(Arc::new(Self { socket, taken, ended: AtomicBool::new(false), left_behind: Mutex::new(None) }))
    }

    /// The connection has ended: what was sent may arrive, and nothing more comes.
    pub(super) fn end(&self) {
        // Closing does not, as long as there is a second descriptor.
        let _ = shutdown(&self.socket, Shutdown::Both);
        self.ended.store(true, Ordering::Relaxed);
    }

    /// The socket has taken so many bytes more; all of them.
    pub(super) fn count(&self, bytes: usize) -> u64 {
        self.taken.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64
    }

    /// Whether the other end has said to have what the socket took up to there. One that has nothing left has all.
    fn has_arrived(&self, until: u64) -> bool {
        let left = kernel::unacknowledged(&self.socket) as u64;
        left == 0 || self.taken.load(Ordering::Relaxed).saturating_sub(left) >= until
    }

    /// Whether the connection has ended and its last bytes have not moved for long. Then they are taken back.
    pub(super) fn is_stuck(&self, now: Instant) -> bool {
        if !self.ended.load(Ordering::Relaxed) {
            return false;
        }
        let left = kernel::unacknowledged(&self.socket);
        let mut before = self.left_behind.lock().unwrap_or_else(PoisonError::into_inner);
        let stuck = match *before {
            Some((same, since)) if same == left => now.saturating_duration_since(since) >= STUCK,
            _ => {
                *before = Some((left, now));
                false
            }
        };
        if stuck {
            self.reset();
        }
        stuck
    }

    /// Ends the connection at once and forgets what is queued (connect(2) with `AF_UNSPEC`).
    pub(super) fn reset(&self) {
        let _ = connect_unspec(&self.socket);
    }

    /// The addresses of the other end and of this one, where the other end is on this machine.
    pub(super) fn ends_here(&self) -> Option<(SocketAddr, SocketAddr)> {
        let socket = socket2::SockRef::from(&self.socket);
        let ours = canonical(socket.local_addr().ok()?.as_socket()?);
        let theirs = canonical(socket.peer_addr().ok()?.as_socket()?);
        (theirs.ip().is_loopback() || theirs.ip() == ours.ip()).then_some((theirs, ours))
    }
}

/// Whether somebody on this machine has not yet read what it acknowledged: it shares our pages till then.
pub(super) fn any_unread_here(ways: &[Arc<Way>]) -> bool {
    let here: Vec<_> = ways.iter().filter_map(|way| way.route.ends_here()).collect();
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
