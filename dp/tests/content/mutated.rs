//! Requests that began as right ones: whatever is changed in them, what is answered as content is content, and the next client is served.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use dp::server::ServerLimits;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::stage::{Answer, Content, Point, fields, request};

/// For an answer, on a busy machine too.
const LONG: Duration = Duration::from_secs(20);
/// For a request that lacks something: then the server ends it.
const SHORT: Duration = Duration::from_secs(2);
/// Ends a head that lost its end, and then the connection.
const LAST: &[u8] = b"\r\n\r\nGET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/// One change of a request. Places are taken modulo its length.
#[derive(Debug, Clone)]
enum Change {
    Put(usize, u8),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    /// Lines that are there, once more somewhere else.
    Repeat(usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let telling = prop::sample::select(vec![
        &b"\r\n"[..],
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b"%2e%2e/",
        b"%00",
        b"//",
        b"?x",
        b",",
        b"-",
        b"bytes=",
        b"18446744073709551615",
        b"Range: bytes=0-0\r\n",
        b"Content-Length: 7\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Host: y\r\n",
        b"Expect: 100-continue\r\n",
        b"If-Range: \"x\"\r\n",
        b"\xff",
    ]);
    prop_oneof![
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Change::Put(at, byte)),
        (any::<usize>(), telling).prop_map(|(at, bytes)| Change::Insert(at, bytes.to_vec())),
        (any::<usize>(), 1..40_usize).prop_map(|(at, count)| Change::Remove(at, count)),
        (any::<usize>(), any::<usize>()).prop_map(|(from, to)| Change::Repeat(from, to)),
    ]
}

fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        let length = bytes.len().max(1);
        match change {
            Change::Put(at, byte) if !bytes.is_empty() => bytes[at % length] = *byte,
            Change::Put(..) => {}
            Change::Insert(at, more) => drop(bytes.splice(at % length..at % length, more.iter().copied())),
            Change::Remove(at, count) => {
                drop(bytes.drain(at % length..(at % length + count).min(bytes.len())))
            }
            Change::Repeat(from, to) => {
                let lines: Vec<_> =
                    bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
                if let Some(line) = lines.get(from % lines.len().max(1)) {
                    let before: usize = lines[..to % lines.len()].iter().map(Vec::len).sum();
                    bytes.splice(before..before, line.iter().copied());
                }
            }
        }
    }
    bytes
}

/// All that comes back until the server ends it, because nothing follows or what it was promised does not come.
fn told(point: &Point, bytes: &[u8], split: usize) -> Vec<u8> {
    let mut stream = TcpStream::connect(point.address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let (first, rest) = bytes.split_at(split % (bytes.len() + 1));
    // It may have closed after the first half already.
    let _ =
        stream.write_all(first).and_then(|()| stream.write_all(rest)).and_then(|()| stream.write_all(LAST));
    let mut answers = Vec::new();
    let _ = stream.read_to_end(&mut answers);
    answers
}

/// The first answer, with all that follows for its body.
fn first(answers: &[u8]) -> Option<Answer> {
    let answers = answers.strip_prefix(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(answers);
    let end = answers.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answers[..end]).expect("heads are text");
    let (line, rest) = head.split_once("\r\n").unwrap_or((head, ""));
    let (version, rest_of_line) = line.split_once(' ').expect("a status line");
    assert!(["HTTP/1.1", "HTTP/1.0"].contains(&version), "{line}");
    let rows: Vec<_> = rest.split("\r\n").filter_map(|field| field.split_once(": ")).collect();
    Some(Answer {
        version: version.to_owned(),
        status: rest_of_line[..3].parse().expect("a status"),
        fields: fields(&rows),
        body: answers[end + 4..].to_vec(),
    })
}

/// What is said to be content is that content, whole or one range of it. The status, where there is one.
fn check(content: &Content, asked: &[u8], answers: &[u8]) -> u16 {
    let shown = asked.escape_ascii();
    // An empty line may come before it (RFC 9112 section 2.2).
    let is_head = asked.windows(5).any(|word| word == b"HEAD ");
    let Some(answer) = first(answers) else { return 0 };
    let (status, field) = (answer.status, |name: &str| answer.field(name));
    let announced: usize = field("content-length").map_or(0, |length| length.parse().expect("a length"));
    let body = &answer.body[..answer.body.len().min(announced)];
    match status {
        200 | 206 if is_head => {}
        200 => {
            assert_eq!(announced, content.bytes.len(), "{shown}");
            assert!(content.bytes.starts_with(body), "a wrong byte: {shown}");
        }
        206 if field("content-type").is_some_and(|kind| kind.starts_with("multipart/")) => {}
        206 => {
            let range =
                field("content-range").and_then(|range| range.strip_prefix("bytes ")).expect("a range");
            let (from, rest) = range.split_once('-').expect("a range");
            let (to, size) = rest.split_once('/').expect("a size");
            let [from, to, size] = [from, to, size].map(|number| number.parse::<usize>().expect("a number"));
            assert_eq!((size, announced), (content.bytes.len(), to + 1 - from), "{shown}");
            assert!(content.bytes[from..=to].starts_with(body), "a wrong byte: {shown}");
        }
        304 | 400..=599 => {}
        other => panic!("{other} was never to be said: {shown}"),
    }
    status
}

fn seeds_of(path: &str) -> [Vec<u8>; 5] {
    [
        request("GET", path, &[]),
        request("HEAD", path, &[]),
        request(
            "GET",
            path,
            &[("Range", "bytes=10-20,-5,60000-"), ("If-Range", "Mon, 01 Jan 2024 00:00:00 GMT")],
        ),
        request(
            "GET",
            path,
            &[("Range", "bytes=100-70000"), ("Accept", "*/*"), ("User-Agent", "Microsoft BITS/7.8")],
        ),
        request("GET", &format!("{path}/pieceshash"), &[("Authorization", "Bearer x")]),
    ]
}

#[test]
fn whatever_becomes_of_a_request_no_wrong_byte_is_answered_and_the_next_is_served() {
    let point = Point::with(ServerLimits {
        max_connections_per_client: 64,
        read_timeout: SHORT,
        idle_timeout: SHORT,
        ..ServerLimits::default()
    });
    // What is in memory goes another way than what is not.
    let contents = [point.add(1, 70_001), point.add(2, 5_003)];
    let seeds = contents.iter().enumerate().flat_map(|(number, content)| {
        let path = content.path();
        seeds_of(&path).map(|seed| (number, seed))
    });
    let seeds: Vec<_> = seeds.collect();
    let cases = (prop::sample::select(seeds), prop::collection::vec(change(), 0..5), any::<usize>());
    // The seed of a failure is kept beside this file, as that of every property.
    let mut runner =
        TestRunner::new(Config { cases: 2_000, source_file: Some(file!()), ..Config::default() });
    let statuses = RefCell::new(BTreeMap::<u16, usize>::new());
    runner
        .run(&cases, |((number, seed), changes, split)| {
            let bytes = changed(seed, &changes);
            let answers = told(&point, &bytes, split);
            // Side files have bytes of their own.
            if !bytes.windows(10).any(|part| part == b"pieceshash") {
                *statuses.borrow_mut().entry(check(&contents[number], &bytes, &answers)).or_default() += 1;
            }
            Ok(())
        })
        .unwrap();
    let statuses = statuses.into_inner();
    let seen = |status| statuses.get(&status).copied().unwrap_or_default();
    assert!([200, 206, 400, 404].iter().all(|status| seen(*status) >= 10), "it was tried: {statuses:?}");
    assert!(seen(0) < 30, "hardly anybody is left without an answer: {statuses:?}");
    for content in &contents {
        assert!(point.get(&content.path()).body == content.bytes, "the next client");
    }
}
