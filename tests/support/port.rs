//! Ports for programs that are started later.

use std::net::{IpAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below what the kernel gives to connections (`ip_local_port_range`): a port that was only looked at stays free until the
/// program that is to have it listens there, however many clients connect meanwhile.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// A port of `ip` where nobody listens. None is given twice by one program, but after all others.
pub fn free_port(ip: impl Into<IpAddr>) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let ip = ip.into();
    // Programs that run at the same time begin at different places.
    let begin = (std::process::id().wrapping_mul(997) % u32::from(COUNT)) as u16;
    (0..COUNT)
        .map(|_| FIRST + (begin + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT)
        .find(|port| TcpListener::bind((ip, *port)).is_ok())
        .expect("a port is free")
}
