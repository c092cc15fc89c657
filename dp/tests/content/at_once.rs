//! Small content that is answered before hyper sees the request: the same bytes, counted the same, and nothing else is any different.

use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use dp::server::{Access, Outcome, ServerLimits, Source};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::stage::{Answer, Content, Point, Wire, request};

/// What hyper answers, and nobody before it.
fn with_hyper(point: &Point) -> Wire {
    let mut wire = point.connect();
    wire.send(&request("HEAD", "/nothing", &[]));
    assert_eq!(wire.answer(true).status, 404);
    wire
}

/// What comes until the connection ends, but for the date, which is the last field of an answer in either way.
fn everything(mut wire: Wire, sent: &[u8]) -> String {
    let last = b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    // As one: the server may end the connection in the midst of it.
    let _ = wire.stream.write_all(&[sent, last].concat());
    let all = wire.body(usize::MAX);
    let shown = all.escape_ascii().to_string();
    shown.split("\\r\\n").filter(|line| !line.starts_with("date: ")).collect::<Vec<_>>().join("\n")
}

/// A head of a request whose parts were drawn: most are plain, some are not.
fn head(contents: &[Content]) -> impl Strategy<Value = Vec<u8>> + use<> {
    let sized: Vec<_> = contents.iter().map(Content::path).collect();
    let of = |lines: &[&'static str]| prop::sample::select(lines.to_vec());
    let target = prop_oneof![
        16 => prop::sample::select(sized.clone()),
        1 => prop::sample::select(sized).prop_map(|path| path.to_uppercase()),
        1 => of(&["/content/x", "/", "*", "/content/%30"]).prop_map(str::to_owned),
    ];
    let method = prop_oneof![19 => Just("GET"), 1 => of(&["HEAD", "get", "POST", "DELETE"])];
    let tail = prop_oneof![19 => Just(""), 1 => of(&["?x", "/", "#x", "%20", ".meta4", "/pieceshash"])];
    let version = prop_oneof![19 => Just("HTTP/1.1"), 1 => of(&["HTTP/1.0", "HTTP/1.2", "http/1.1"])];
    let host = prop_oneof![19 => Just("Host: dp\r\n"), 1 => of(&["", "Host:\r\n", "hOSt: [::1]:80\r\n", "Host: a b\r\n"])];
    let field = prop_oneof![
        12 => of(&[
            "Accept: */*\r\n",
            "accept-encoding: gzip\r\n",
            "Accept-Language: de\r\n",
            "User-Agent: a/1\r\n",
            "User-Agent: \u{e9}\r\n",
            "Connection: Keep-Alive\r\n"
        ]),
        1 => of(&[
            "X-Other: 1\r\n",
            "Range: bytes=0-0\r\n",
            "If-None-Match: *\r\n",
            "Accept: application/metalink4+xml\r\n",
            "Authorization: Bearer x\r\n",
            "Want-Digest: sha-256\r\n",
            "Content-Length: 0\r\n",
            "Host: dp\r\n",
            "Accept : a\r\n",
            "Accept: a\r\n b\r\n"
        ]),
    ];
    let fields = prop::collection::vec(field, 0..9);
    (method, target, tail, version, host, fields).prop_map(|(method, target, tail, version, host, fields)| {
        format!("{method} {target}{tail} {version}\r\n{host}{}\r\n", fields.concat()).into_bytes()
    })
}

#[test]
fn who_is_answered_at_once_gets_what_hyper_would_have_sent() {
    let point = Point::start();
    // Not of an empty one, where hyper has its length last.
    let contents = [point.add(2, 1), point.add(3, 16 << 10), point.add(4, (16 << 10) + 1)];
    let private = point.add(5, 9);
    point.change(|shelf| {
        let servable = shelf.contents.remove(&private.sha256).unwrap();
        shelf.offer(private.sha256, servable.with_access(Access::Private));
    });
    let contents =
        contents.into_iter().chain([private, Content::new(b"not here".to_vec())]).collect::<Vec<_>>();
    let whole = std::cell::Cell::new(0);
    let config = Config { cases: 500, failure_persistence: None, ..Config::default() };
    let checked = TestRunner::new(config).run(&head(&contents), |sent| {
        let (first, then) = (everything(point.connect(), &sent), everything(with_hyper(&point), &sent));
        whole.set(whole.get() + usize::from(first.starts_with("HTTP/1.1 200")));
        prop_assert_eq!(first, then, "{}", sent.escape_ascii());
        Ok(())
    });
    checked.unwrap_or_else(|error| panic!("{error}"));
    assert!((100..400).contains(&whole.get()), "some are answered and some refused: {}", whole.get());
}

#[test]
fn a_connection_goes_from_one_to_the_other_without_losing_a_byte() {
    let point = Point::start();
    let (small, large) = (point.add(1, 4096), point.add(2, 300_000));
    let mut all = Vec::new();
    let get = |content: &Content| request("GET", &content.path(), &[]);
    let ranged = request("GET", &small.path(), &[("Range", "bytes=7-9")]);
    for part in [&get(&small), &get(&small), &ranged, &get(&small), &get(&large), &get(&small)] {
        all.extend_from_slice(part);
    }
    let bodies =
        [&small.bytes[..], &small.bytes, &small.bytes[7..10], &small.bytes, &large.bytes, &small.bytes];
    // As one, and in two pieces that part somewhere.
    for cut in (0..all.len()).step_by(5) {
        let mut wire = point.connect();
        wire.send(&all[..cut]);
        if cut > 0 {
            thread::sleep(Duration::from_millis(1));
        }
        wire.send(&all[cut..]);
        for (number, body) in bodies.iter().enumerate() {
            let Answer { status, body: got, .. } = wire.answer(false);
            assert_eq!(status, if number == 2 { 206 } else { 200 }, "{cut}, {number}");
            assert!(got == *body, "{cut}, {number}: another body");
        }
    }
}

#[test]
fn what_is_answered_at_once_is_counted() {
    let point = Point::start();
    let content = point.add(1, 5_000);
    let mut wire = point.connect();
    for _ in 0..3 {
        wire.send(&request("GET", &content.path(), &[]));
        assert!(wire.answer(false).body == content.bytes);
    }
    let served = &point.server.served;
    assert_eq!(point.sent(), 15_000);
    assert_eq!(served.requests_as(Source::Point, Outcome::Whole), 3);
    let by_group: Vec<_> = served.groups.rows().iter().map(|row| row.of(Source::Point as usize)).collect();
    assert_eq!(by_group, [15_000]);
}

#[test]
fn who_has_a_pace_gets_small_content_at_it_too() {
    let point = Point::with(ServerLimits { rate_limit: Some(40_000), ..ServerLimits::default() });
    let content = point.add(1, 10_000);
    let mut wire = point.connect();
    let began = Instant::now();
    for _ in 0..5 {
        wire.send(&request("GET", &content.path(), &[]));
        assert!(wire.answer(false).body == content.bytes);
    }
    assert!(began.elapsed() > Duration::from_millis(900), "{:?}", began.elapsed());
}

#[test]
fn content_that_is_gone_or_changed_is_not_answered_from_memory() {
    let point = Point::start();
    let (kept, gone) = (point.add(1, 4096), point.add(2, 4096));
    let mut wire = point.connect();
    for content in [&kept, &gone] {
        wire.send(&request("GET", &content.path(), &[]));
        assert!(wire.answer(false).body == content.bytes);
    }
    point.change(|shelf| drop(shelf.contents.remove(&gone.sha256)));
    for (content, status) in [(&kept, 200), (&gone, 404), (&kept, 200)] {
        wire.send(&request("GET", &content.path(), &[]));
        assert_eq!(wire.answer(false).status, status);
    }
}

#[test]
fn who_says_nothing_more_does_not_keep_a_server_that_is_to_stop() {
    let mut point = Point::start();
    let content = point.add(1, 100);
    let silent = point.connect();
    let mut answered = point.connect();
    answered.send(&request("GET", &content.path(), &[]));
    assert!(answered.answer(false).body == content.bytes);
    let mut begun = point.connect();
    begun.send(b"GET /content/");
    let began = Instant::now();
    point.stop();
    point.stopped();
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "the grace is {:?}",
        ServerLimits::default().shutdown_grace
    );
    for mut wire in [answered, silent, begun] {
        wire.ends();
    }
}
