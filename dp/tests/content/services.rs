//! What shares the listener with the content: which requests get a body, and how much of one.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dp::server::body::ContentBody;
use dp::server::{Answering, Call, ServerLimits, Service};
use http::{Response, header};

use crate::stage::{Point, request};

/// An answer of this text.
pub fn said(text: String) -> Response<ContentBody> {
    let length = text.len();
    let mut response = Response::new(ContentBody::bytes(Bytes::from(text)));
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    response
}

/// Says how many bytes came at `/echo`, and never looks at what comes at `/deaf`.
struct Echo;

impl Service for Echo {
    fn largest_body(&self, path: &[&str]) -> Option<u64> {
        matches!(path, ["echo" | "deaf"] | ["", "echo"]).then_some(1_000)
    }

    fn answer<'s>(&'s self, call: &'s mut Call<'_>) -> Answering<'s> {
        Box::pin(async {
            let count = match call.path {
                ["deaf"] => 0,
                _ => match call.body.read().await {
                    Ok(body) => body.len(),
                    Err(refused) => return refused.response(),
                },
            };
            said(format!("{} {count}", call.head.method))
        })
    }
}

fn point() -> Point {
    let limits = ServerLimits {
        max_connections_per_client: 64,
        read_timeout: Duration::from_secs(1),
        ..ServerLimits::default()
    };
    Point::serving(limits, Arc::new(Echo))
}

/// Sends `text`; status and body of the answer, and whether the connection may go on.
fn asked(point: &Point, text: &str) -> (u16, String, bool) {
    let mut wire = point.connect();
    wire.send(text.as_bytes());
    let answer = wire.answer(false);
    let goes_on = answer.field("connection") != Some("close");
    if !goes_on {
        wire.ends();
    }
    (answer.status, String::from_utf8(answer.body).unwrap(), goes_on)
}

fn post(path: &str, fields: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: dp\r\n{fields}\r\n{body}")
}

#[test]
fn bodies_are_read_as_framed_and_no_further() {
    let point = point();
    let long = "x".repeat(1_001);
    let chunk = |bytes: &str| format!("{:x}\r\n{bytes}\r\n", bytes.len());
    let chunked = "Transfer-Encoding: chunked\r\n";
    // What a smuggler hides behind a request.
    let hidden = post("/echo", "Content-Length: 3\r\n", "abc");
    for (what, text, status, body, goes_on) in [
        ("a length", post("/echo", "Content-Length: 5\r\n", "hello"), 200, "POST 5", true),
        ("the most", post("/echo", "Content-Length: 1000\r\n", &long[..1_000]), 200, "POST 1000", true),
        ("nothing", post("/echo", "", ""), 200, "POST 0", true),
        ("a doubled slash", post("//echo", "Content-Length: 5\r\n", "hello"), 200, "POST 5", true),
        (
            "chunks",
            post("/echo", chunked, &format!("{}{}0\r\n\r\n{hidden}", chunk("hel"), chunk("lo"))),
            200,
            "POST 5",
            false,
        ),
        ("chunks and a trailer", post("/echo", chunked, "1\r\nx\r\n0\r\nA: b\r\n\r\n"), 200, "POST 1", false),
        ("not read", post("/deaf", "Content-Length: 900\r\n", &long[..900]), 200, "POST 0", false),
        ("GET", "GET /echo HTTP/1.1\r\nHost: dp\r\n\r\n".to_owned(), 200, "GET 0", true),
        ("too long", post("/echo", "Content-Length: 1001\r\n", &long), 413, "", false),
        ("a GiB is announced", post("/echo", "Content-Length: 1073741824\r\n", ""), 413, "", false),
        (
            "a GiB is announced to who waits",
            post("/echo", "Expect: 100-continue\r\nContent-Length: 1073741824\r\n", ""),
            413,
            "",
            false,
        ),
        ("too long in chunks", post("/echo", chunked, &chunk(&long)), 413, "", false),
        ("a chunk of a GiB", post("/echo", chunked, "40000000\r\nxxxx"), 408, "", false),
        ("slow", post("/echo", "Content-Length: 5\r\n", "hell"), 408, "", false),
        ("slow chunks", post("/echo", chunked, "5\r\nhell"), 408, "", false),
        ("no chunks", post("/echo", chunked, "zz\r\n"), 400, "", false),
        ("a chunk that is longer", post("/echo", chunked, "2\r\nhello\r\n0\r\n\r\n"), 400, "", false),
        (
            "CL and TE",
            post("/echo", &format!("Content-Length: 4\r\n{chunked}"), &format!("0\r\n\r\n{hidden}")),
            400,
            "",
            false,
        ),
        (
            "TE and CL",
            post("/echo", &format!("{chunked}Content-Length: 4\r\n"), &format!("0\r\n\r\n{hidden}")),
            400,
            "",
            false,
        ),
        ("two lengths", post("/echo", "Content-Length: 4\r\nContent-Length: 5\r\n", "hello"), 400, "", false),
        (
            "the same length twice",
            post("/echo", "Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
            400,
            "",
            false,
        ),
        ("chunked, not last", post("/echo", "Transfer-Encoding: chunked, gzip\r\n", ""), 400, "", false),
        ("an odd coding", post("/echo", "Transfer-Encoding: xchunked\r\n", ""), 400, "", false),
        (
            "GET with a body",
            "GET /echo HTTP/1.1\r\nHost: dp\r\nContent-Length: 2\r\n\r\nab".to_owned(),
            400,
            "",
            false,
        ),
        ("two hosts", post("/echo", "Host: dp\r\n", ""), 400, "", false),
        // Elsewhere nothing has changed.
        ("another route", post("/else", "Content-Length: 5\r\n", "hello"), 400, "", false),
        ("content", post("/content/x", "Content-Length: 5\r\n", "hello"), 400, "", false),
    ] {
        assert_eq!(asked(&point, &text), (status, body.to_owned(), goes_on), "{what}");
    }
}

#[test]
fn requests_follow_each_other_and_who_waits_is_told_to_continue() {
    let point = point();
    let mut wire = point.connect();
    for count in [5, 0, 1_000] {
        let fields = format!("Content-Length: {count}\r\n");
        wire.send(post("/echo", &fields, &"y".repeat(count)).as_bytes());
        assert_eq!(wire.answer(false).body, format!("POST {count}").into_bytes());
    }
    wire.send(&request("GET", "/content/none", &[]));
    assert_eq!(wire.answer(false).status, 404);
    wire.send(post("/echo", "Expect: 100-continue\r\nContent-Length: 5\r\n", "").as_bytes());
    assert_eq!(wire.body(25), b"HTTP/1.1 100 Continue\r\n\r\n");
    wire.send(b"hello");
    assert_eq!(wire.answer(false).body, b"POST 5");
}

#[test]
fn a_refusal_arrives_also_where_the_client_goes_on_sending() {
    let point = point();
    let mut wire = point.connect();
    wire.send(post("/echo", "Content-Length: 1073741824\r\n", "").as_bytes());
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..32 {
        // It may have hung up already: what counts is that its answer can be read.
        let _ = wire.stream.write_all(&piece);
    }
    assert_eq!(wire.answer(false).status, 413);
    wire.ends();
}

#[test]
fn content_is_found_by_the_name_that_update_servers_give_it() {
    let point = point();
    let content = point.add(1, 5_000);
    let hex = content.sha1.to_string();
    let folder = &hex[38..];
    let upper = hex.to_uppercase();
    for (path, status) in [
        (format!("/Content/{}/{upper}.esd", folder.to_uppercase()), 200),
        (format!("/content/{folder}/{hex}.ESD"), 200),
        (format!("/CONTENT/{folder}/{upper}.cab"), 200),
        (format!("/Content/{folder}/{upper}"), 200),
        (format!("/Content/00/{upper}.esd"), if folder == "00" { 200 } else { 404 }),
        (format!("/Content/{folder}/{}.esd", &upper[..39]), 404),
        (format!("/Content/{folder}/{upper}.esd/"), 404),
        (format!("/Content/{folder}/.esd"), 404),
        (format!("/Content/../{upper}.esd"), 404),
        (format!("/Content/{folder}/{}.esd", "0".repeat(40)), 404),
        ("/Content/\u{e4}/\u{e4}.esd".replace('\u{e4}', "%c3%a4"), 404),
    ] {
        let answer = point.get(&path);
        assert_eq!(answer.status, status, "{path}");
        assert!(status != 200 || answer.body == content.bytes, "{path}");
    }
    let path = format!("/Content/{folder}/{upper}.esd");
    let part = point.ask("GET", &path, &[("Range", "bytes=10-19")]);
    assert_eq!((part.status, part.body.as_slice()), (206, &content.bytes[10..20]));
    assert_eq!(point.ask("HEAD", &path, &[]).field("content-length"), Some("5000"));
    assert_eq!(point.ask("POST", &path, &[]).status, 405);
    let same = point.get(&content.path());
    assert_eq!(same.fields, point.get(&path).fields, "one content, whatever its name");

    // Two contents under one SHA-1: whoever checks only that could be given the wrong one.
    let other = point.store(2, 5_000);
    point.change(|shelf| {
        let servable = dp::server::Servable::new(5_000, Some(content.sha1), "other.esd".parse().unwrap());
        shelf.offer(other.sha256, servable);
    });
    assert_eq!(point.get(&path).status, 404);
    assert_eq!(point.get(&other.path()).status, 200);
}
