//! Parts of a file, one or many.

use crate::stage::{Content, Point, and, request};

const SIZE: usize = 300_001;

/// The body of a `multipart/byteranges` answer, written out by hand.
fn multipart(content: &Content, boundary: &str, parts: &[(usize, usize)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (first, last) in parts {
        let head = format!(
            "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {first}-{last}/{}\r\n\r\n",
            content.bytes.len()
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(&content.bytes[*first..=*last]);
    }
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    body
}

#[test]
fn one_part_is_exact() {
    let point = Point::start();
    let content = point.add(1, SIZE);
    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=0-4", 0, 4),
        ("BYTES=5-9", 5, 9),
        ("bytes=299999-300000", 299_999, 300_000),
        ("bytes=300000-", 300_000, 300_000),
        ("bytes=1-", 1, 300_000),
        ("bytes=0-", 0, 300_000),
        ("bytes=-1", 300_000, 300_000),
        ("bytes=-300001", 0, 300_000),
        ("bytes=-400000", 0, 300_000),
        ("bytes=7-99999999999999999999999", 7, 300_000),
        ("bytes=0-4,5-9", 0, 9),
        ("bytes=9-12,0-9", 0, 12),
        ("bytes=400000-,3-3", 3, 3),
    ] {
        let answer = point.ask("GET", &content.path(), &[("Range", range)]);
        let length = last - first + 1;
        let expected = and(
            content.carried(length, "application/octet-stream"),
            &[("content-range", &format!("bytes {first}-{last}/{SIZE}"))],
        );
        assert_eq!((answer.status, &answer.fields), (206, &expected), "{range}");
        assert!(answer.body == content.bytes[first..=last], "{range}");
    }
}

#[test]
fn many_parts_are_exact() {
    let point = Point::start();
    let content = point.add(2, SIZE);
    let boundary = format!("spsync-{}", &content.sha256.to_string()[..32]);
    let thirty_two: Vec<(usize, usize)> = (0..32).map(|i| (i * 9_000, i * 9_000 + i)).collect();
    let rows: [&[(usize, usize)]; 5] = [
        &[(0, 0), (5, 9)],
        &[(5, 9), (0, 0)],
        &[(0, 0), (300_000, 300_000)],
        &[(0, 99_999), (200_000, 300_000), (150_000, 150_000)],
        &thirty_two,
    ];
    for parts in rows {
        let specs: Vec<_> = parts.iter().map(|(first, last)| format!("{first}-{last}")).collect();
        for range in [format!("bytes={}", specs.join(",")), format!("bytes= {} ,, ", specs.join(" , "))] {
            let answer = point.ask("GET", &content.path(), &[("Range", &range)]);
            let body = multipart(&content, &boundary, parts);
            let kind = format!("multipart/byteranges; boundary={boundary}");
            assert_eq!(
                (answer.status, &answer.fields),
                (206, &content.carried(body.len(), &kind)),
                "{range}"
            );
            assert!(answer.body == body, "{range}");
        }
    }
    let mixed = point.ask("GET", &content.path(), &[("Range", "bytes=-2,0-1")]);
    assert!(mixed.body == multipart(&content, &boundary, &[(299_999, 300_000), (0, 1)]));
}

#[test]
fn what_asks_for_too_much_or_nonsense_gets_the_whole() {
    let point = Point::start();
    let content = point.add(3, SIZE);
    let many = |count: usize| {
        let specs: Vec<_> = (0..count).map(|i| format!("{0}-{0}", i * 2)).collect();
        format!("bytes={}", specs.join(","))
    };
    let whole = content.carried(SIZE, "application/octet-stream");
    for range in [
        &*many(33),
        &many(5_000),
        "bytes=4-0",
        "items=0-4",
        "bytes=",
        "bytes=a-b",
        "bytes",
        "bytes=0-4;",
        "bytes=--4",
    ] {
        let answer = point.ask("GET", &content.path(), &[("Range", range)]);
        assert_eq!((answer.status, &answer.fields), (200, &whole), "{range:.40}");
        assert!(answer.body == content.bytes);
    }
}

#[test]
fn what_is_not_in_the_file_is_refused_with_its_size() {
    let point = Point::start();
    let (content, empty, byte) = (point.add(4, SIZE), point.add(5, 0), point.add(6, 1));
    for (content, size, ranges) in [
        (&content, "300001", &["bytes=300001-", "bytes=300001-400000,-0", "bytes=18446744073709551616-"][..]),
        (&empty, "0", &["bytes=0-", "bytes=0-0", "bytes=-1"]),
        (&byte, "1", &["bytes=1-", "bytes=-0"]),
    ] {
        for range in ranges {
            let answer = point.ask("GET", &content.path(), &[("Range", range)]);
            let star = format!("bytes */{size}");
            let expected = and(content.described(), &[("content-length", "0"), ("content-range", &star)]);
            assert_eq!((answer.status, &answer.fields), (416, &expected), "{range}");
            assert!(answer.body.is_empty());
        }
    }
}

#[test]
fn of_repeated_lines_the_last_counts() {
    let point = Point::start();
    let content = point.add(7, SIZE);
    let same = [("Range", "bytes=3-5"), ("Range", "bytes=3-5"), ("Range", "bytes=3-5")];
    let answer = point.ask("GET", &content.path(), &same);
    assert_eq!((answer.status, answer.field("content-range")), (206, Some("bytes 3-5/300001")));
    assert!(answer.body == content.bytes[3..=5]);

    // As the client of Delivery Optimization asks: one line more with each retry, the newest last.
    let retried = [("Range", "bytes=0-"), ("Range", "bytes=100-"), ("Range", "bytes=200-299")];
    let answer = point.ask("GET", &content.path(), &retried);
    assert_eq!((answer.status, answer.field("content-range")), (206, Some("bytes 200-299/300001")));
    assert!(answer.body == content.bytes[200..300]);
}

#[test]
fn parts_of_any_slicing_make_the_whole() {
    let point = Point::start();
    let content = point.add(8, 3 << 20);
    let mut wire = point.connect();
    let (mut have, mut step) = (Vec::new(), 1);
    while have.len() < content.bytes.len() {
        let last = (have.len() + step - 1).min(content.bytes.len() - 1);
        wire.send(&request("GET", &content.path(), &[("Range", &format!("bytes={}-{last}", have.len()))]));
        have.extend(wire.answer(false).body);
        step = step * 3 + 1;
    }
    assert!(have == content.bytes);
}
