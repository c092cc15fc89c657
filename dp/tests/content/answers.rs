//! Every route, every status, every field.

use crate::stage::{Answer, Content, Point, and, by_name, fields, request};

const BINARY: &str = "application/octet-stream";

fn nothing() -> Vec<(String, String)> {
    fields(&[("content-length", "0")])
}

#[track_caller]
fn expect(answer: &Answer, status: u16, fields: &[(String, String)], body: &[u8]) {
    assert_eq!(answer.status, status, "{:?}", answer.fields);
    assert_eq!(answer.fields, fields);
    assert!(
        answer.body == body,
        "another body than expected: {} bytes, not {}",
        answer.body.len(),
        body.len()
    );
}

#[test]
fn content_is_answered_exactly_by_every_name() {
    let point = Point::start();
    let contents = [point.add(1, 0), point.add(2, 1), point.add(3, 300_001), point.add(4, 3 << 20)];
    point.change(|shelf| {
        let id: catalog::id::PackageId = "XYZ0004B".parse().unwrap();
        for (name, content) in
            ["empty.esd", "one.esd", "größe 100% (x64)+a.esd", "large.esd"].iter().zip(&contents)
        {
            shelf.packages.insert((id.clone(), (*name).to_owned()), content.sha256);
        }
    });
    let packaged = [
        ["/packages/XYZ0004B/empty.esd", "/PACKAGES/xyz0004b/EMPTY.esd"],
        ["/packages/XYZ0004B/one.esd", "/Packages/XYZ0004b/%6f%6E%65.ESD"],
        [
            "/packages/XYZ0004B/gr%C3%B6%C3%9Fe%20100%25%20(x64)+a.esd",
            "/packages/XYZ0004B/GR%c3%b6%c3%9fE%20100%25%20%28X64%29%2Ba.ESD",
        ],
        ["/packages/XYZ0004B/large.esd", "/packages/XYZ0004B/Large.esd?any=query"],
    ];
    for (content, packaged) in contents.iter().zip(packaged) {
        let upper = format!("/content/{}", content.sha256.to_string().to_ascii_uppercase());
        let loud = upper.to_ascii_uppercase();
        for path in [&*content.path(), &upper, &loud, packaged[0], packaged[1]] {
            let carried = content.carried(content.bytes.len(), BINARY);
            let carried =
                if path.to_ascii_lowercase().starts_with("/packages") { by_name(carried) } else { carried };
            for more in [&[][..], &[("Accept-Encoding", "gzip, br, zstd"), ("TE", "trailers")]] {
                expect(&point.ask("GET", path, more), 200, &carried, &content.bytes);
                expect(&point.ask("HEAD", path, more), 200, &carried, b"");
            }
            // A range is for GET alone.
            let ranged = [("Range", "bytes=0-0")];
            expect(&point.ask("HEAD", path, &ranged), 200, &carried, b"");
        }
    }
}

#[test]
fn the_date_of_content_never_changes() {
    // Points that run different releases serve the same client: this value is fixed for ever.
    let point = Point::start();
    let empty = point.add(1, 0);
    assert_eq!(empty.sha256.to_string()[..8], *"e3b0c442");
    assert_eq!(point.get(&empty.path()).field("last-modified"), Some("Tue, 26 Aug 2003 16:43:46 GMT"));
}

#[test]
fn the_examples_of_the_documentation_are_true() {
    let text = include_str!("../../../docs/PROTOCOL.md").replace('\n', "\r\n");
    let point = Point::start();
    let content = point.store_bytes(b"data".to_vec());
    point.offer(&content);
    let whole = point.get(&content.path());
    let parts = point.ask("GET", &content.path(), &[("Range", "bytes=0-0,2-3")]);
    for (name, value) in
        whole.fields.iter().chain(parts.fields.iter().filter(|(name, _)| name.starts_with("content")))
    {
        assert!(text.contains(&format!("\r\n{name}: {value}\r\n")), "{name}: {value}");
    }
    let body = String::from_utf8(parts.body).unwrap();
    assert!(text.contains(&format!("\r\n\r\n{body}```")), "{body}");
}

#[test]
fn places_are_told_as_json() {
    let point = Point::start();
    let content = point.add(5, 1_000);
    let json = format!(
        r#"{{"content":"{0}","size":1000,"sha1":"{1}","file_name":"part.esd","locations":[{{"kind":"distribution-point","name":"site","url":"/content/{0}"}}],"expires_in_seconds":900}}"#,
        content.sha256, content.sha1
    );
    let told = fields(&[
        ("cache-control", "no-store"),
        ("content-length", &json.len().to_string()),
        ("content-type", "application/json"),
        ("x-content-type-options", "nosniff"),
    ]);
    let path = format!("/locations/{}", content.sha256);
    for path in [path.to_ascii_uppercase(), path] {
        expect(&point.get(&path), 200, &told, json.as_bytes());
        expect(&point.ask("HEAD", &path, &[]), 200, &told, b"");
    }
    expect(&point.get(&format!("/locations/{}", "0".repeat(64))), 404, &nothing(), b"");
    expect(&point.get("/locations/x"), 404, &nothing(), b"");
}

#[test]
fn what_is_not_served_looks_the_same_whatever_the_reason() {
    let point = Point::start();
    let stored = point.store(6, 1_000);
    let removed = point.add(7, 1_000);
    point.library.remove(removed.sha256).unwrap();
    let resized = point.add(8, 1_000);
    point.change(|shelf| shelf.contents.get_mut(&resized.sha256).unwrap().size = 1_001);
    point.change(|shelf| {
        shelf.packages.insert(("XYZ00001".parse().unwrap(), "a.esd".to_owned()), stored.sha256);
    });
    let absent = format!("/content/{}", "0".repeat(64));
    let long = format!("/content/{}0", stored.sha256);
    for path in [
        &*absent,
        &stored.path(),
        &removed.path(),
        &resized.path(),
        &long,
        "/content/",
        "/content/x",
        "/content",
        "/packages/XYZ00001/a.esd",
        "/packages/XYZ00001/b.esd",
        "/packages/XYZ00001/",
        "/packages/XYZ00001",
        "/packages/XYZ00002/a.esd",
        "/packages/none/a.esd",
        "/",
        "/healthz",
        "/index.html",
    ] {
        for range in [&[][..], &[("Range", "bytes=0-0")], &[("If-Match", "\"x\"")]] {
            expect(&point.ask("GET", path, range), 404, &nothing(), b"");
            expect(&point.ask("HEAD", path, range), 404, &nothing(), b"");
        }
    }
}

#[test]
fn only_reading_is_allowed() {
    let point = Point::start();
    let content = point.add(9, 1_000);
    let refused = fields(&[("allow", "GET, HEAD"), ("connection", "close"), ("content-length", "0")]);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND", "get", "BITS_POST"] {
        for path in [&*content.path(), "/packages/XYZ00001/a.esd", &format!("/locations/{}", content.sha256)]
        {
            let mut wire = point.connect();
            wire.send(&request(method, path, &[]));
            expect(&wire.answer(false), 405, &refused, b"");
            wire.ends();
        }
        assert_eq!(point.ask(method, "/elsewhere", &[]).status, 404);
    }
}

#[test]
fn preconditions_come_before_ranges() {
    let point = Point::start();
    let content = point.add(10, 300_001);
    let tag = format!("\"{}\"", content.sha256);
    let weak = format!("W/{tag}");
    let mixed = format!("\"a,b\", {tag}");
    let date = content.described().into_iter().find(|(name, _)| name == "last-modified").unwrap().1;
    let described = content.described();
    let failed = and(described.clone(), &[("content-length", "0")]);
    let whole = content.carried(300_001, BINARY);
    let part = and(content.carried(5, BINARY), &[("content-range", "bytes 0-4/300001")]);
    let range = ("Range", "bytes=0-4");
    let later = "Fri, 01 Jan 2100 00:00:00 GMT";
    let rows: [(&[(&str, &str)], u16); 19] = [
        (&[("If-None-Match", &tag)], 304),
        (&[("If-None-Match", &weak)], 304),
        (&[("If-None-Match", &mixed), range], 304),
        (&[("If-None-Match", "*")], 304),
        (&[("If-Modified-Since", &date)], 304),
        (&[("If-None-Match", "\"x\""), ("If-Modified-Since", &date)], 200),
        (&[("If-Modified-Since", "Sat, 01 Jan 2000 00:00:00 GMT")], 200),
        // Only our own date is this content: another one is neither older nor newer.
        (&[("If-Modified-Since", later)], 200),
        (&[("If-Unmodified-Since", later)], 412),
        (&[("If-Match", "\"x\"")], 412),
        (&[("If-Match", &weak)], 412),
        (&[("If-Match", "\"x\""), range], 412),
        (&[("If-Unmodified-Since", "Sat, 01 Jan 2000 00:00:00 GMT")], 412),
        (&[("If-Match", &tag)], 200),
        (&[("If-Match", &tag), range], 206),
        (&[("If-Range", &tag), range], 206),
        (&[("If-Range", &date), range], 206),
        (&[("If-Range", &weak), range], 200),
        (&[("If-Range", "\"x\""), ("Range", "bytes=300001-")], 200),
    ];
    for (more, status) in rows {
        let got = point.ask("GET", &content.path(), more);
        match status {
            304 => expect(&got, 304, &described, b""),
            412 => expect(&got, 412, &failed, b""),
            206 => expect(&got, 206, &part, &content.bytes[..5]),
            _ => expect(&got, 200, &whole, &content.bytes),
        }
        let head = point.ask("HEAD", &content.path(), more);
        match status {
            304 => expect(&head, 304, &described, b""),
            412 => expect(&head, 412, &failed, b""),
            _ => expect(&head, 200, &whole, b""),
        }
    }
}

#[test]
fn who_has_the_file_that_was_replaced_under_its_name_gets_the_other_one() {
    let point = Point::start();
    let path = "/packages/XYZ00001/a.esd";
    let put = |content: &Content| {
        point.change(|shelf| {
            shelf.packages.insert(("XYZ00001".parse().unwrap(), "a.esd".to_owned()), content.sha256);
        });
    };
    let date = |answer: &Answer| answer.field("last-modified").unwrap().to_owned();
    // Of any two contents one has the earlier date: each takes the place of the other.
    let (one, other) = (point.add(11, 5_000), point.add(12, 5_000));
    for (before, now) in [(&one, &other), (&other, &one)] {
        put(before);
        let kept = point.get(path);
        assert!(kept.body == before.bytes);
        assert_eq!(kept.field("cache-control"), Some("public, no-cache"), "whoever keeps it asks again");
        let (since, tag) = (date(&kept), format!("\"{}\"", before.sha256));
        for same in [("If-Modified-Since", &*since), ("If-None-Match", &*tag)] {
            let answer = point.ask("GET", path, &[same]);
            let described = by_name(before.described());
            assert_eq!((answer.status, answer.fields), (304, described), "{same:?}");
        }
        put(now);
        for changed in [("If-Modified-Since", &*since), ("If-None-Match", &*tag)] {
            let answer = point.ask("GET", path, &[changed]);
            assert!(answer.status == 200 && answer.body == now.bytes, "{changed:?}: {}", answer.status);
        }
        let rest = ("Range", "bytes=2000-");
        for sure in [("If-Unmodified-Since", &*since), ("If-Match", &*tag)] {
            assert_eq!(point.ask("GET", path, &[sure, rest]).status, 412, "{sure:?}");
        }
        for sure in [("If-Range", &*since), ("If-Range", &*tag)] {
            let answer = point.ask("GET", path, &[sure, rest]);
            assert!(answer.status == 200 && answer.body == now.bytes, "{sure:?}: {}", answer.status);
        }
    }
}

#[test]
fn one_connection_carries_many_requests_in_order() {
    let point = Point::start();
    let contents: Vec<Content> = (20..24).map(|seed| point.add(seed, 70_000 + seed as usize)).collect();
    let mut wire = point.connect();
    let mut all = Vec::new();
    for content in &contents {
        all.extend(request("GET", &content.path(), &[]));
        all.extend(request("HEAD", &content.path(), &[]));
        all.extend(request("GET", &content.path(), &[("If-None-Match", "*")]));
        all.extend(request("GET", "/content/none", &[]));
        all.extend(request("GET", &content.path(), &[("Range", "bytes=-7")]));
    }
    wire.send(&all);
    for content in &contents {
        assert!(wire.answer(false).body == content.bytes);
        assert_eq!(wire.answer(true).status, 200);
        assert_eq!(wire.answer(false).status, 304);
        assert_eq!(wire.answer(false).status, 404);
        assert!(wire.answer(false).body == content.bytes[content.bytes.len() - 7..]);
    }
    wire.send(&request("GET", &contents[0].path(), &[("Connection", "close")]));
    assert!(wire.answer(false).body == contents[0].bytes);
    wire.ends();
}

#[test]
fn what_was_served_is_counted() {
    use std::sync::atomic::Ordering;
    let point = Point::start();
    let content = point.add(25, 1_000);
    point.get(&content.path());
    point.ask("HEAD", &content.path(), &[]);
    point.ask("GET", &content.path(), &[("Range", "bytes=10-19")]);
    assert_eq!(point.server.served.requests.load(Ordering::Relaxed), 3);
    assert_eq!(point.server.served.bytes.load(Ordering::Relaxed), 1_010);
}

#[test]
fn withdrawn_content_is_gone_at_once() {
    let point = Point::start();
    let content = point.add(26, 1_000);
    let mut wire = point.connect();
    wire.send(&request("GET", &content.path(), &[]));
    assert_eq!(wire.answer(false).status, 200);
    point.change(|shelf| {
        shelf.contents.remove(&content.sha256);
    });
    wire.send(&request("GET", &content.path(), &[]));
    expect(&wire.answer(false), 404, &nothing(), b"");
    wire.send(&request("GET", &format!("/locations/{}", content.sha256), &[]));
    expect(&wire.answer(false), 404, &nothing(), b"");
}

#[test]
fn http_1_0_is_answered_and_closed() {
    let point = Point::start();
    let content = point.add(27, 1_000);
    let mut wire = point.connect();
    wire.send(format!("GET {} HTTP/1.0\r\n\r\n", content.path()).as_bytes());
    let answer = wire.answer(false);
    assert_eq!((&*answer.version, answer.status), ("HTTP/1.0", 200));
    assert!(answer.body == content.bytes);
    wire.ends();
}

#[test]
fn a_system_without_pages_sends_the_same_bytes() {
    for copies in [false, true] {
        let limits = dp::server::ServerLimits::default();
        let mut point = Point::open(limits, |server| if copies { server.copying() } else { server });
        let (large, small) = (point.add(9, (2 << 20) + 7), point.add(10, 1_000));
        for content in [&large, &small] {
            assert!(point.get(&content.path()).body == content.bytes);
            let part = point.ask("GET", &content.path(), &[("Range", "bytes=900-999")]);
            assert_eq!((part.status, &*part.body), (206, &content.bytes[900..1_000]));
        }
        let parts = point.ask("GET", &large.path(), &[("Range", "bytes=0-9,1500000-1600000")]);
        let holds = |part: &[u8]| parts.body.windows(part.len()).any(|window| window == part);
        assert!(holds(&large.bytes[..10]) && holds(&large.bytes[1_500_000..=1_600_000]));
        // Known when the connections have ended.
        point.stop();
        point.stopped();
        let by_region = point.server.served.by_region.load(std::sync::atomic::Ordering::Relaxed);
        let has_pages = cfg!(all(target_os = "linux", not(feature = "portable"))) && !copies;
        assert_eq!(by_region > large.bytes.len() as u64, has_pages, "{by_region}");
    }
}
