//! Requests that no honest client sends: refused, and nothing after them on the connection is believed.

use crate::stage::{Point, Wire, request};

/// Sends `bytes`, expects one answer of `status`, and the end of the connection.
#[track_caller]
fn refused(point: &Point, what: &str, bytes: &[u8], status: u16) {
    let mut wire = point.connect();
    wire.send(bytes);
    let answer = wire.head().unwrap_or_else(|| panic!("{what}: closed without an answer"));
    assert_eq!(answer.status, status, "{what}");
    assert_eq!(answer.field("content-length"), Some("0"), "{what}");
    wire.ends();
}

#[test]
fn bodies_and_doubtful_framing_are_refused_and_close() {
    let point = Point::start();
    let content = point.add(1, 1_000);
    let path = content.path();
    // What a smuggler hides behind the first request; it must never be answered.
    let hidden = String::from_utf8(request("GET", &path, &[])).unwrap();
    let rows: &[(&str, &str, &str)] = &[
        ("a body", "Content-Length: 5\r\n", "hello"),
        ("a body that is announced only", "Content-Length: 5\r\n", ""),
        ("CL and TE", "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("TE and CL", "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", "0\r\n\r\n"),
        ("TE and a CL of 0", "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", "0\r\n\r\n"),
        ("a chunked body", "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("an empty chunked body", "Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("chunked, not last", "Transfer-Encoding: chunked, gzip\r\n", ""),
        ("an odd coding", "Transfer-Encoding: xchunked\r\n", ""),
        ("two lengths", "Content-Length: 0\r\nContent-Length: 5\r\n", "hello"),
        ("two lengths in one line", "Content-Length: 0, 5\r\n", "hello"),
        ("a length with a sign", "Content-Length: +0\r\n", ""),
        ("a negative length", "Content-Length: -1\r\n", ""),
        ("no number", "Content-Length: x\r\n", ""),
        ("a length past 64 bits", "Content-Length: 99999999999999999999999\r\n", ""),
        ("a space before the colon", "Content-Length : 5\r\n", "hello"),
        ("a folded line", "X-A: b\r\n c\r\n", ""),
        ("a field without a colon", "nonsense\r\n", ""),
        ("a field without a name", ": x\r\n", ""),
        ("NUL in a field", "X-A: a\0b\r\n", ""),
        ("CR in a field", "X-A: a\rb\r\n", ""),
        ("another host too", "Host: other\r\n", ""),
        ("the same host twice", "Host: dp\r\n", ""),
    ];
    for (what, fields, body) in rows {
        let request = format!("GET {path} HTTP/1.1\r\nHost: dp\r\n{fields}\r\n{body}{hidden}");
        refused(&point, what, request.as_bytes(), 400);
    }
    let without = format!("GET {path} HTTP/1.1\r\n\r\n{hidden}");
    refused(&point, "no host", without.as_bytes(), 400);
    let odd = format!("GET {path} HTTP/1.1\r\nHost: d p/x\r\n\r\n{hidden}");
    refused(&point, "no name of a host", odd.as_bytes(), 400);
    // A body of no bytes is no body.
    let mut wire = point.connect();
    wire.send(&request("GET", &path, &[("Content-Length", "0")]));
    wire.send(&request("GET", &path, &[]));
    assert_eq!((wire.answer(false).status, wire.answer(false).status), (200, 200));
}

#[test]
fn targets_are_taken_as_they_are() {
    let point = Point::start();
    let content = point.add(2, 1_000);
    let digest = content.sha256;
    let name = "a%2Fb.esd";
    point.change(|shelf| {
        shelf.packages.insert(("XYZ00001".parse().unwrap(), "b.esd".to_owned()), digest);
    });
    for (target, status) in [
        (format!("/content/{digest}"), 200),
        (format!("/content/{digest}?x=/../y"), 200),
        (format!("http://dp/content/{digest}"), 200),
        (format!("http://elsewhere:81/content/{digest}"), 200),
        (format!("//content/{digest}"), 404),
        (format!("/content//{digest}"), 404),
        (format!("/content/{digest}/"), 404),
        (format!("/content/../content/{digest}"), 404),
        (format!("/content/./{digest}"), 404),
        (format!("/x/%2e%2e/content/{digest}"), 404),
        (format!("/content/%2e%2e/content/{digest}"), 404),
        (format!("/content%2f{digest}"), 404),
        (format!("/%2fcontent/{digest}"), 404),
        (format!("/content%5c{digest}"), 404),
        (format!("/CONTENT/{digest}"), 200),
        (format!("/CONTENT%2f{digest}"), 404),
        (format!("/packages/XYZ00001/{name}"), 404),
        ("/packages%2FXYZ00001%2Fb.esd".to_owned(), 404),
        ("/packages/XYZ00001%2Fb.esd".to_owned(), 404),
        ("/packages/../../../../etc/passwd".to_owned(), 404),
        ("/packages/XYZ00001/..%2f..%2fetc%2fpasswd".to_owned(), 404),
        ("/packages/XYZ00001/..%5c..%5cetc%5cpasswd".to_owned(), 404),
        ("/content/%zz".to_owned(), 404),
        (format!("/content/{digest}%00"), 400),
        ("/packages/XYZ00001/b.esd%00.txt".to_owned(), 400),
        ("/%ff%fe".to_owned(), 400),
        ("*".to_owned(), 400),
    ] {
        let answer = point.get(&target);
        assert_eq!(answer.status, status, "{target}");
        if status == 200 {
            assert!(answer.body == content.bytes);
        }
    }
    assert_eq!(point.ask("CONNECT", "dp:80", &[]).status, 400);
    assert_eq!(point.ask("OPTIONS", "*", &[]).status, 400);
    for target in ["/content/\0", "/con tent", "content", "", "/content/\u{7f}"] {
        let mut wire = point.connect();
        wire.send(&request("GET", target, &[]));
        assert_eq!(wire.answer(false).status, 400, "{target:?}");
    }
}

#[test]
fn heads_have_a_largest_size() {
    let point = Point::start();
    let content = point.add(3, 1_000);
    let padded = |bytes: usize| request("GET", &content.path(), &[("X-Pad", &"a".repeat(bytes))]);
    assert_eq!(sent(&point, &padded(65_300)).answer(false).status, 200);
    for bytes in [65_536, 70_000, 200_000] {
        let mut wire = sent(&point, &padded(bytes));
        assert_eq!(wire.answer(false).status, 431, "{bytes}");
        wire.ends();
    }
    let fields = |count: usize| {
        let names: Vec<String> = (0..count).map(|i| format!("X-{i}")).collect();
        let fields: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "1")).collect();
        request("GET", &content.path(), &fields)
    };
    assert_eq!(sent(&point, &fields(99)).answer(false).status, 200, "100 fields with the host");
    let mut wire = sent(&point, &fields(100));
    assert_eq!(wire.answer(false).status, 431);
    wire.ends();
}

/// A connection over which `bytes` were sent, as far as the server took them.
fn sent(point: &Point, bytes: &[u8]) -> Wire {
    use std::io::Write as _;
    let mut wire = point.connect();
    // A server that has seen enough closes; what it said is still to be read.
    let _ = wire.stream.write_all(bytes);
    wire
}

#[test]
fn what_is_no_http_is_refused() {
    let point = Point::start();
    let content = point.add(4, 1_000);
    let mut junk = vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    junk.extend([0x41; 64]);
    let rows: [(&str, Vec<u8>); 5] = [
        ("TLS", junk),
        ("HTTP/0.9", format!("GET {}\r\n\r\n", content.path()).into_bytes()),
        ("HTTP/2.0 in the line", format!("GET {} HTTP/2.0\r\nHost: dp\r\n\r\n", content.path()).into_bytes()),
        ("HTTP/1.2", format!("GET {} HTTP/1.2\r\nHost: dp\r\n\r\n", content.path()).into_bytes()),
        ("HTTP/2 with prior knowledge", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
    ];
    for (what, bytes) in rows {
        let mut wire = sent(&point, &bytes);
        if let Some(answer) = wire.head() {
            assert!(matches!(answer.status, 400 | 505), "{what}: {}", answer.status);
            assert_eq!(answer.field("content-length"), Some("0"), "{what}");
        }
        wire.ends();
    }
    assert_eq!(point.get(&content.path()).status, 200, "the server lives");
}
