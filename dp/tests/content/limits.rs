//! How much is sent at once, and how fast.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dp::server::{Refusal, ServerLimits};

use crate::pull::until;
use crate::stage::{Point, Wire, request};

/// More than the buffers of two sockets hold: who does not read it keeps it running.
const LARGE: usize = 24 << 20;

/// A client that asks for everything and reads the head alone.
fn slow(point: &Point, path: &str) -> Wire {
    let mut wire = point.connect();
    wire.send(&request("GET", path, &[]));
    assert_eq!(wire.head().unwrap().status, 200);
    wire
}

fn at_once(limits: ServerLimits) -> Point {
    Point::with(ServerLimits { max_connections_per_client: 64, ..limits })
}

#[test]
fn who_comes_when_all_turns_are_taken_is_told_when_to_come_back() {
    for (limits, status, reason) in [
        (ServerLimits { max_transfers: 1, most_waiting: 0, ..Default::default() }, 503, Refusal::Busy),
        (ServerLimits { max_transfers_per_client: 1, ..Default::default() }, 429, Refusal::ClientBusy),
    ] {
        let point = at_once(limits);
        let (large, small) = (point.add(1, LARGE), point.add(2, 1_000));
        let first = slow(&point, &large.path());
        let mut second = point.connect();
        second.send(&request("GET", &large.path(), &[]));
        let answer = second.answer(false);
        assert_eq!((answer.status, answer.body.len()), (status, 0));
        let after: u32 = answer.field("retry-after").unwrap().parse().unwrap();
        assert!((5..=25).contains(&after), "{after}");
        assert_eq!(point.server.served.refused(reason), 1);
        // The connection lives, and what is small or no body takes no turn.
        second.send(&request("GET", &small.path(), &[]));
        assert!(second.answer(false).body == small.bytes);
        second.send(&request("HEAD", &large.path(), &[]));
        assert_eq!(second.answer(true).status, 200);
        second.send(&request("GET", &large.path(), &[("Range", "bytes=0-65535")]));
        assert_eq!(second.answer(false).status, 206);
        drop(first);
        let since = Instant::now();
        loop {
            second.send(&request("GET", &large.path(), &[("Range", "bytes=0-99999")]));
            if second.answer(false).status == 206 {
                break;
            }
            assert!(since.elapsed() < Duration::from_secs(20), "the turn is not given back");
        }
    }
}

#[test]
fn who_waits_gets_the_next_turn() {
    let turn_patience = Duration::from_secs(30);
    let point = at_once(ServerLimits { max_transfers: 1, turn_patience, ..Default::default() });
    let large = point.add(1, LARGE);
    let first = slow(&point, &large.path());
    let mut second = point.connect();
    second.send(&request("GET", &large.path(), &[("Range", "bytes=0-99999")]));
    drop(first);
    let answer = second.answer(false);
    assert_eq!((answer.status, answer.body.as_slice()), (206, &large.bytes[..100_000]));
}

#[test]
fn a_rate_is_kept_and_changes_no_byte() {
    for limits in [
        ServerLimits { rate_limit: Some(1_000_000), ..Default::default() },
        ServerLimits { rate_limit_per_client: Some(1_000_000), ..Default::default() },
    ] {
        let point = at_once(limits);
        let content = point.add(3, 300_001);
        let since = Instant::now();
        let whole = point.get(&content.path());
        assert!(whole.body == content.bytes);
        assert!(since.elapsed() > Duration::from_millis(250), "faster than the rate");
        let parts = point.ask("GET", &content.path(), &[("Range", "bytes=0-9,100000-149999")]);
        assert_eq!(parts.status, 206);
        assert!(parts.body.windows(50_000).any(|part| part == &content.bytes[100_000..150_000]));
        let sent = point.server.served.bytes.load(Ordering::Relaxed);
        assert_eq!(sent, 300_001 + parts.body.len() as u64);
    }
}

#[test]
fn what_goes_is_counted_while_it_goes() {
    let point = at_once(ServerLimits::default());
    let large = point.add(4, LARGE);
    let mut reader = slow(&point, &large.path());
    let mut seen = 0;
    while seen < LARGE / 2 {
        seen += reader.body(1 << 20).len();
    }
    // All but the last step that was handed on; the rest of the body is still to come.
    let sent = point.server.served.bytes.load(Ordering::Relaxed);
    assert!(sent >= (seen - (4 << 20)) as u64 && sent < LARGE as u64, "{sent} of {seen} that arrived");
    assert_eq!(reader.body(LARGE - seen).len(), LARGE - seen);
    drop(reader);
    until("counted once", || point.server.served.bytes.load(Ordering::Relaxed) == LARGE as u64);
}
