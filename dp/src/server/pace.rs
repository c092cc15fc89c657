//! How much one client may have waiting, by how fast it takes it.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;

/// How much the kernel may hold unsent for one client. Much makes few wake-ups; little is fair, and kind to the host's
/// memory where thousands of clients are slow. TCP_NOTSENT_LOWAT does not limit what is on its way, as SO_SNDBUF would.
#[derive(Debug)]
pub(super) struct Pace {
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

    /// What a new connection begins with.
    pub(super) fn new(socket: &TcpStream) -> Self {
        let mut pace = Self { since: Instant::now(), sent: 0, limit: 0 };
        pace.set(Self::UNKNOWN, socket);
        pace
    }

    /// Counts bytes that the socket has taken.
    pub(super) fn count(&mut self, sent: usize, socket: &TcpStream) {
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
