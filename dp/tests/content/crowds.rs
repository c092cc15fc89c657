//! Most places taken by who says nothing: each of them would be waited for longer than a test lasts, and still others get a place.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::Duration;

use dp::server::{Answering, Call, ServerLimits, Service};

use crate::pull::until;
use crate::services::said;
use crate::shapes::over_tls;
use crate::stage::{Point, Wire, request};

/// Far longer than a test waits for anything.
const EVER: Duration = Duration::from_secs(600);
const PLACES: usize = 16;
/// Three quarters of them: with one more it is a crowd.
const NO_CROWD: usize = 12;
/// More than the buffers of two sockets hold.
const LARGE: usize = 24 << 20;

/// Takes what is sent to `/sink`, and says how much it was.
struct Sink;

impl Service for Sink {
    fn largest_body(&self, path: &[&str]) -> Option<u64> {
        matches!(path, ["sink"]).then_some(1 << 20)
    }

    fn answer<'s>(&'s self, call: &'s mut Call<'_>) -> Answering<'s> {
        Box::pin(async {
            let text = match call.body.read().await {
                Ok(body) => body.len().to_string(),
                Err(refused) => return refused.response(),
            };
            said(text)
        })
    }
}

fn point() -> Point {
    let limits = ServerLimits {
        max_connections: PLACES,
        max_connections_per_client: 64,
        read_timeout: EVER,
        idle_timeout: EVER,
        ..ServerLimits::default()
    };
    Point::serving(limits, Arc::new(Sink))
}

fn held(point: &Point) -> usize {
    usize::try_from(point.server.served.connections.load(Ordering::Relaxed)).unwrap()
}

fn announced(length: usize) -> Vec<u8> {
    request("POST", "/sink", &[("Content-Length", &length.to_string())])
}

/// How one may be silent; with an answer before that, where it is a second request.
fn silences() -> Vec<(&'static str, bool, Vec<u8>)> {
    let chunked = request("POST", "/sink", &[("Transfer-Encoding", "chunked")]);
    vec![
        ("nothing", false, Vec::new()),
        ("half a head", false, b"GET /content/".to_vec()),
        ("nothing after an answer", true, Vec::new()),
        ("half a head after an answer", true, b"GET /content/".to_vec()),
        ("a body that was announced", false, announced(1_000)),
        ("a body that stops", false, [announced(1_000), vec![b'x'; 999]].concat()),
        ("chunks that stop", true, [chunked, b"5\r\nhel".to_vec()].concat()),
    ]
}

/// Tries all of them at once.
fn for_each_silence(one: impl Fn(&'static str, bool, &[u8]) + Copy + Send) {
    std::thread::scope(|scope| {
        for (what, answered, bytes) in silences() {
            scope.spawn(move || one(what, answered, &bytes));
        }
    });
}

/// Takes one place, and says no more than this.
fn silent(point: &Point, path: &str, answered: bool, bytes: &[u8]) -> Wire {
    let mut wire = point.connect();
    if answered {
        wire.send(&request("HEAD", path, &[]));
        assert_eq!(wire.answer(true).status, 200);
    }
    wire.send(bytes);
    wire
}

/// Who was there before is let go, so that who comes is served, though not at once.
#[track_caller]
fn one_more_is_served(what: &str, path: &str, connect: impl Fn() -> Wire) {
    until(what, || {
        sleep(Duration::from_millis(100));
        let mut wire = connect();
        let sent = wire.stream.write_all(&request("HEAD", path, &[]));
        sent.is_ok() && wire.head().is_some_and(|answer| answer.status == 200)
    });
}

#[test]
fn who_is_silent_keeps_nobody_away() {
    let one = |what, answered, bytes: &[u8]| {
        let point = point();
        let content = point.add(1, LARGE);
        let path = content.path();
        let quiet: Vec<_> = (0..NO_CROWD).map(|_| silent(&point, &path, answered, bytes)).collect();
        until(what, || held(&point) == NO_CROWD);
        sleep(Duration::from_secs(3));
        assert_eq!(held(&point), NO_CROWD, "{what}: as long as there is room they may be silent");
        let asks = |_| {
            let mut wire = point.connect();
            wire.send(&request("GET", &path, &[]));
            wire
        };
        let mut busy: Vec<_> = (NO_CROWD..PLACES).map(asks).collect();
        for wire in &mut busy {
            assert_eq!(wire.head().unwrap().status, 200, "{what}");
        }
        one_more_is_served(what, &path, || point.connect());
        assert!(busy[0].body(LARGE) == content.bytes, "{what}: who is served is not cut");
        drop(quiet);
    };
    for_each_silence(one);
}

#[test]
fn who_is_silent_from_the_start_keeps_nobody_away() {
    let one = |what, answered, bytes: &[u8]| {
        let point = point();
        let path = point.add(2, 1_000).path();
        let quiet: Vec<_> = (0..PLACES).map(|_| silent(&point, &path, answered, bytes)).collect();
        one_more_is_served(what, &path, || point.connect());
        drop(quiet);
    };
    for_each_silence(one);
}

#[test]
fn who_does_not_shake_hands_keeps_nobody_away() {
    let point = point();
    let content = point.add(3, 1_000);
    let (through, secure) = over_tls(&point);
    let connect = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(secure).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    };
    // Some say nothing at all, others begin with a record of TLS whose rest does not come.
    let quiet: Vec<_> =
        (0..PLACES).map(|number| connect(&b"\x16\x03\x01"[..if number % 2 == 0 { 0 } else { 3 }])).collect();
    one_more_is_served("handshakes", &content.path(), || Wire::over(TcpStream::connect(through).unwrap()));
    drop(quiet);
}

#[test]
fn a_body_that_comes_is_waited_for_in_a_crowd() {
    let point = point();
    let content = point.add(4, LARGE);
    let mut busy: Vec<_> = (0..NO_CROWD).map(|_| point.connect()).collect();
    for wire in &mut busy {
        wire.send(&request("GET", &content.path(), &[]));
        assert_eq!(wire.head().unwrap().status, 200);
    }
    let mut slow = point.connect();
    slow.send(&announced(64 << 10));
    until("a crowd", || held(&point) == NO_CROWD + 1);
    for _ in 0..16 {
        slow.send(&[b'x'; 4 << 10]);
        sleep(Duration::from_millis(300));
        assert_eq!(held(&point), NO_CROWD + 1, "it is a crowd all the time");
    }
    let answer = slow.answer(false);
    assert_eq!((answer.status, &*answer.body), (200, &b"65536"[..]));
    // Too little of it is as good as nothing.
    slow.send(&[&announced(64 << 10)[..], b"x"].concat());
    assert_eq!(slow.answer(false).status, 408);
    slow.ends();
}
