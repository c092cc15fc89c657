//! How much one client, and all of them together, may hold.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use dp::server::ServerLimits;

use crate::stage::{Point, Wire, request};

/// More than the buffers of two sockets hold, so that a reader who stops is noticed.
const LARGE: usize = 24 << 20;

fn is_served(wire: &mut Wire, path: &str) -> bool {
    let sent = wire.stream.write_all(&request("HEAD", path, &[]));
    sent.is_ok() && wire.head().is_some_and(|answer| answer.status == 200)
}

/// Connects until a place is free: the server notices a moment later that a client has gone.
#[track_caller]
fn is_served_soon(point: &Point, path: &str) {
    let since = Instant::now();
    while !is_served(&mut point.connect(), path) {
        assert!(since.elapsed() < Duration::from_secs(20), "no place becomes free");
        sleep(Duration::from_millis(20));
    }
}

/// 503 with a time, and the end of the connection.
#[track_caller]
fn assert_is_told_to_come_back(wire: &mut Wire) {
    let told = wire.head().expect("an answer");
    let after = told.field("retry-after").and_then(|seconds| seconds.parse::<u32>().ok());
    assert!(told.status == 503 && after.is_some_and(|after| (5..=25).contains(&after)), "{told:?}");
    assert_eq!((told.field("content-length"), told.field("connection")), (Some("0"), Some("close")));
    wire.ends();
}

#[test]
fn one_address_holds_so_many_connections() {
    let limits = ServerLimits { max_connections_per_client: 2, ..ServerLimits::default() };
    let point = Point::with(limits);
    let path = point.add(1, 1_000).path();
    let (mut first, mut second) = (point.connect(), point.connect());
    assert!(is_served(&mut first, &path) && is_served(&mut second, &path));
    let mut third = point.connect();
    third.send(&request("GET", &path, &[]));
    assert_is_told_to_come_back(&mut third);
    let neighbour = point.runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        socket.connect(point.address).await.unwrap().into_std().unwrap()
    });
    neighbour.set_nonblocking(false).unwrap();
    assert!(is_served(&mut Wire::over(neighbour), &path), "others are not concerned");
    assert!(is_served(&mut first, &path), "nor are connections that stand");
    drop(second);
    is_served_soon(&point, &path);
}

#[test]
fn all_addresses_hold_so_many_connections() {
    let limits =
        ServerLimits { max_connections: 2, max_connections_per_client: 100, ..ServerLimits::default() };
    let point = Point::with(limits);
    let path = point.add(2, 1_000).path();
    let (mut first, mut second) = (point.connect(), point.connect());
    assert!(is_served(&mut first, &path) && is_served(&mut second, &path));
    // The answer arrives though more was sent than anybody wanted to read.
    let mut third = point.connect();
    third.send(&[&request("POST", &path, &[("Content-Length", "100000")])[..], &[7; 100_000]].concat());
    assert_is_told_to_come_back(&mut third);
    drop((first, second));
    is_served_soon(&point, &path);
}

#[test]
fn a_head_that_never_ends_is_not_waited_for() {
    // Who begins in time has it too: not so short that a busy machine is late.
    let read_timeout = Duration::from_secs(2);
    let limits = ServerLimits { read_timeout, idle_timeout: read_timeout, ..ServerLimits::default() };
    let point = Point::with(limits);
    let path = point.add(3, 1_000).path();
    let half = &request("GET", &path, &[])[..30];
    let mut used = point.connect();
    assert!(is_served(&mut used, &path));
    for (what, mut wire, bytes) in [
        ("silence", point.connect(), &b""[..]),
        ("half a head", point.connect(), half),
        ("silence after an answer", used, b""),
    ] {
        let since = Instant::now();
        wire.send(bytes);
        wire.ends();
        assert!(since.elapsed() < Duration::from_secs(12), "{what}");
    }
    // A byte now and then is no progress: the time is for the whole head.
    let since = Instant::now();
    let mut wire = point.connect();
    let cut = loop {
        sleep(Duration::from_millis(50));
        if wire.stream.write_all(b"G").is_err() {
            break true;
        }
        if since.elapsed() > Duration::from_secs(10) {
            break false;
        }
    };
    assert!(cut, "a drip is waited for");
    assert!(since.elapsed() >= read_timeout, "an honest client is cut");
}

#[test]
fn a_client_may_think_longer_than_a_head_may_take() {
    assert!(ServerLimits::default().idle_timeout > Duration::from_secs(31), "Delivery Optimization");
    let (read_timeout, idle_timeout) = (Duration::from_secs(2), Duration::from_secs(5));
    let point = Point::with(ServerLimits { read_timeout, idle_timeout, ..ServerLimits::default() });
    let path = point.add(8, 1_000).path();
    let mut thinking = point.connect();
    for _ in 0..2 {
        assert!(is_served(&mut thinking, &path));
        sleep(read_timeout + Duration::from_millis(500));
    }
    let since = Instant::now();
    assert!(is_served(&mut thinking, &path));
    thinking.ends();
    assert!(since.elapsed() > idle_timeout - Duration::from_millis(100), "it is cut");
    // A head that has begun is another matter.
    let idle_timeout = Duration::from_secs(300);
    let point = Point::with(ServerLimits { read_timeout, idle_timeout, ..ServerLimits::default() });
    let path = point.add(9, 1_000).path();
    let mut begun = point.connect();
    assert!(is_served(&mut begun, &path));
    let since = Instant::now();
    begun.send(b"GET /content/");
    begun.ends();
    assert!(since.elapsed() > read_timeout - Duration::from_millis(100), "it is cut");
}

#[test]
fn a_reader_that_stops_is_cut_and_gives_its_place_back() {
    let limits = ServerLimits {
        write_stall: Duration::from_millis(500),
        max_connections_per_client: 1,
        ..ServerLimits::default()
    };
    let point = Point::with(limits);
    let content = point.add(4, LARGE);
    let mut wire = point.connect();
    wire.send(&request("GET", &content.path(), &[]));
    assert_eq!(wire.head().unwrap().status, 200);
    is_served_soon(&point, &content.path());
    let got = wire.body(LARGE);
    assert!(got.len() < LARGE, "it was served whole to somebody who did not read");
    assert!(got == content.bytes[..got.len()]);
}

#[test]
fn a_slow_reader_that_goes_on_is_not_cut() {
    let write_stall = Duration::from_secs(4);
    let point = Point::with(ServerLimits { write_stall, ..ServerLimits::default() });
    let content = point.add(5, LARGE);
    let mut wire = point.connect();
    wire.send(&request("GET", &content.path(), &[]));
    assert_eq!(wire.head().unwrap().status, 200);
    let since = Instant::now();
    let mut got = Vec::new();
    while got.len() < LARGE {
        sleep(Duration::from_millis(250));
        let part = wire.body((LARGE - got.len()).min(1 << 20));
        assert!(!part.is_empty(), "cut after {} bytes", got.len());
        got.extend(part);
    }
    assert!(got == content.bytes);
    assert!(since.elapsed() > write_stall, "it took long enough to mean something");
}

#[test]
fn a_stop_lets_running_transfers_finish() {
    let mut point = Point::start();
    let content = point.add(6, LARGE);
    let mut idle = point.connect();
    assert!(is_served(&mut idle, &content.path()));
    let mut running = point.connect();
    running.send(&request("GET", &content.path(), &[]));
    assert_eq!(running.head().unwrap().status, 200);
    let mut got = running.body(1_000);
    point.stop();
    idle.ends();
    let refused = TcpStream::connect(point.address)
        .and_then(|mut stream| stream.read(&mut [0]))
        .map_or(true, |count| count == 0);
    assert!(refused, "nothing new is accepted");
    got.extend(running.body(LARGE - 1_000));
    assert!(got == content.bytes, "the transfer was cut after {} bytes", got.len());
    running.ends();
    point.stopped();
}

#[test]
fn a_stop_waits_no_longer_than_its_grace() {
    let shutdown_grace = Duration::from_millis(300);
    let mut point = Point::with(ServerLimits { shutdown_grace, ..ServerLimits::default() });
    let content = point.add(7, LARGE);
    let mut wire = point.connect();
    wire.send(&request("GET", &content.path(), &[]));
    assert_eq!(wire.head().unwrap().status, 200);
    let since = Instant::now();
    point.stop();
    point.stopped();
    assert!(since.elapsed() >= shutdown_grace && since.elapsed() < Duration::from_secs(15));
    let got = wire.body(LARGE);
    assert!(got.len() < LARGE && got == content.bytes[..got.len()]);
}
