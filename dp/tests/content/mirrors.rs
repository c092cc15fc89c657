//! What other programs are told so that they fall back and verify by themselves.

use catalog::digest::Sha256Digest;
use dp::server::LocationKind::{Cloud, DistributionPoint, Peer};
use dp::server::ServerLimits;

use crate::stage::{Answer, Content, Point, and, fields};

const MIB: usize = 1 << 20;

fn links(answer: &Answer) -> Vec<&str> {
    let of_links = answer.fields.iter().filter(|(name, _)| name == "link");
    of_links.map(|(_, value)| value.as_str()).collect()
}

/// A point with content that two others have as well.
fn told() -> (Point, Content) {
    let point = Point::start();
    let content = point.add(1, 2 * MIB + 1);
    let places = [
        (Peer, "http://desk-7:8531/content/1".to_owned()),
        (DistributionPoint, content.path()),
        (Cloud, "http://dl.example/a&b.esd?x=1".to_owned()),
    ];
    point.tell(&content, &places);
    (point, content)
}

fn document(content: &Content, name: &str, urls: &[&str]) -> String {
    let pieces: String = content
        .bytes
        .chunks(MIB)
        .map(|piece| format!("<hash>{}</hash>\n", Sha256Digest::of(piece)))
        .collect();
    let urls: String = urls
        .iter()
        .enumerate()
        .map(|(index, url)| format!("<url priority=\"{}\">{url}</url>\n", index + 1))
        .collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<metalink xmlns=\"urn:ietf:params:xml:ns:metalink\">\n\
         <file name=\"{name}\">\n<size>{}</size>\n<hash type=\"sha-256\">{}</hash>\n\
         <pieces length=\"1048576\" type=\"sha-256\">\n{pieces}</pieces>\n{urls}</file>\n</metalink>\n",
        content.bytes.len(),
        content.sha256
    )
}

#[test]
fn the_document_names_every_place_in_our_order_and_every_piece() {
    let (point, content) = told();
    point.change(|shelf| {
        shelf.packages.insert(("XYZ0004B".parse().unwrap(), "größe.esd".to_owned()), content.sha256);
    });
    let own = format!("http://dp/content/{}", content.sha256);
    let cloud = "http://dl.example/a&amp;b.esd?x=1";
    let urls = ["http://desk-7:8531/content/1", &own, cloud];
    let upper = format!("/content/{}.META4", content.sha256.to_string().to_ascii_uppercase());
    for (path, name, plain) in [
        (format!("{}.meta4", content.path()), "part.esd", "part.esd"),
        (format!("{}.meta4?any=query", content.path()), "part.esd", "part.esd"),
        (upper, "part.esd", "part.esd"),
        ("/packages/xyz0004b/gr%C3%B6%C3%9Fe.esd.meta4".to_owned(), "größe.esd", "gre.esd"),
    ] {
        let text = document(&content, name, &urls);
        let expected = fields(&[
            ("accept-ranges", "none"),
            ("cache-control", "no-store"),
            ("content-disposition", &format!("attachment; filename=\"{plain}.meta4\"")),
            ("content-length", &text.len().to_string()),
            ("content-type", "application/metalink4+xml"),
            ("x-content-type-options", "nosniff"),
        ]);
        let answer = point.get(&path);
        assert_eq!((answer.status, &answer.fields), (200, &expected), "{path}");
        assert_eq!(String::from_utf8(answer.body).unwrap(), text);
        let head = point.ask("HEAD", &path, &[]);
        assert_eq!((head.status, &head.fields), (200, &expected), "{path}");
    }
}

#[test]
fn this_point_comes_first_where_nothing_else_is_said() {
    let (point, content) = told();
    let elsewhere = "http://point2/content/1";
    let own = format!("http://dp/content/{}", content.sha256);
    let path = format!("{}.meta4", content.path());
    for (places, expected) in [
        (vec![], vec![&*own]),
        (vec![elsewhere], vec![&*own, elsewhere]),
        (vec![elsewhere, &*own, elsewhere], vec![elsewhere, &*own]),
        // What is relative to somebody else cannot be told.
        (vec!["/elsewhere", elsewhere], vec![&*own, elsewhere]),
    ] {
        let places: Vec<_> = places.iter().map(|url| (DistributionPoint, (*url).to_owned())).collect();
        point.tell(&content, &places);
        let text = String::from_utf8(point.get(&path).body).unwrap();
        assert_eq!(text, document(&content, "part.esd", &expected));
    }
}

#[test]
fn a_document_without_a_side_file_has_no_pieces_and_nothing_is_hashed() {
    let (point, content) = told();
    let side = point.blob(&content).to_string_lossy().replace("/blobs/", "/hashes/");
    std::fs::remove_file(&side).unwrap();
    let text = String::from_utf8(point.get(&format!("{}.meta4", content.path())).body).unwrap();
    assert!(text.contains("<hash type=\"sha-256\">") && !text.contains("<pieces"), "{text}");
    assert_eq!(point.get(&format!("{}/pieceshash", content.path())).status, 404);
    assert!(!std::path::Path::new(&side).exists());
}

#[test]
fn links_name_other_places_to_those_who_understand() {
    let (point, content) = told();
    let described = content.described_by();
    let all = [
        &*described,
        "<http://desk-7:8531/content/1>; rel=duplicate; pri=1",
        "<http://dl.example/a&b.esd?x=1>; rel=duplicate; pri=2",
    ];
    let range = ("Range", "bytes=0-0");
    let accepts = ("Accept", "*/*,application/metalink4+xml,application/metalink+xml");
    type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], u16, &'a [&'a str]);
    let rows: [Row<'_>; 8] = [
        ("GET", &[], 200, &all[..1]),
        ("GET", &[("Accept", "*/*")], 200, &all[..1]),
        ("GET", &[range], 206, &all[..1]),
        ("GET", &[accepts], 200, &all),
        ("GET", &[accepts, range], 206, &all),
        ("GET", &[("Want-Digest", "SHA-256;q=1")], 200, &all),
        ("HEAD", &[], 200, &all),
        ("GET", &[accepts, ("If-None-Match", "*")], 304, &[]),
    ];
    for (method, more, status, expected) in rows {
        let answer = point.ask(method, &content.path(), more);
        assert_eq!(answer.status, status, "{method} {more:?}");
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(links(&answer), expected, "{method} {more:?}");
    }
}

#[test]
fn who_asks_by_another_name_is_not_sent_here_by_the_known_one() {
    let limits = ServerLimits::default();
    let point = Point::open(limits, |server| server.known_as("http://dp1.example:8530/"));
    let content = point.add(11, 1_000);
    let known = format!("http://DP1.example:8530/content/{}", content.sha256);
    let other = format!("http://dp1.example:8531/content/{}", content.sha256);
    point.tell(&content, &[(DistributionPoint, known), (DistributionPoint, other.clone())]);
    let head = point.ask("HEAD", &content.path(), &[]);
    let duplicate = format!("<{other}>; rel=duplicate; pri=1");
    assert_eq!(links(&head), [&*content.described_by(), &*duplicate]);
    let text = String::from_utf8(point.get(&format!("{}.meta4", content.path())).body).unwrap();
    let own = format!("http://dp/content/{}", content.sha256);
    assert_eq!(text, document(&content, "part.esd", &[&own, &other]), "once, as it was asked");
}

#[test]
fn odd_addresses_become_no_links_and_only_a_few_do() {
    let (point, content) = told();
    let mut places: Vec<_> = (0..20).map(|i| (Peer, format!("http://desk-{i}/"))).collect();
    places.insert(0, (Peer, "http://a/>; rel=\"x".to_owned()));
    places.insert(0, (Peer, "http://a/\r\nSet-Cookie: x".to_owned()));
    point.tell(&content, &places);
    let answer = point.ask("HEAD", &content.path(), &[]);
    assert_eq!(links(&answer).len(), 1 + 6, "{answer:?}");
    assert_eq!(answer.field("set-cookie"), None);
}

#[test]
fn the_pieces_hash_file_checks_itself() {
    let point = Point::start();
    for (seed, size) in [(1, 0), (2, 1), (3, MIB), (4, 2 * MIB + 1)] {
        let content = point.add(seed, size);
        let answer = point.get(&format!("{}/pieceshash", content.path()));
        assert_eq!(answer.status, 200);
        assert_eq!(answer.field("content-type"), Some("application/json"));
        let read: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        let pieces: Vec<Sha256Digest> = content.bytes.chunks(MIB).map(Sha256Digest::of).collect();
        let base64: Vec<String> = pieces.iter().map(|piece| piece.to_base64()).collect();
        assert_eq!(read["Pieces"], serde_json::json!(base64));
        assert_eq!((&read["MajorVersion"], &read["MinorVersion"]), (&1.into(), &0.into()));
        assert_eq!((&read["ContentLength"], &read["PieceSize"]), (&size.into(), &MIB.into()));
        // u16 1 | u16 0 | u64 size | u32 size of a piece | the hashes, little-endian.
        let mut all = [&[1, 0, 0, 0][..], &(size as u64).to_le_bytes(), &(MIB as u32).to_le_bytes()].concat();
        pieces.iter().for_each(|piece| all.extend_from_slice(&piece.0));
        assert_eq!(read["HashOfHashes"], *Sha256Digest::of(&all).to_base64());
    }
}

#[test]
fn the_pieces_hash_file_is_asked_for_as_content_is() {
    let point = Point::start();
    let path = format!("{}/pieceshash", point.add(5, 3 * MIB).path());
    let whole = point.get(&path);
    let file = Content::new(whole.body.clone());
    let size = file.bytes.len();
    let carried = and(
        file.described(),
        &[("content-length", &*size.to_string()), ("content-type", "application/json")],
    );
    assert_eq!((whole.status, &whole.fields), (200, &carried), "the tag is the digest of the file");
    let head = point.ask("HEAD", &path, &[("Range", "bytes=0-9")]);
    assert_eq!((head.status, &head.fields), (200, &carried));
    let tag = whole.field("etag").unwrap().to_owned();
    let date = whole.field("last-modified").unwrap().to_owned();
    let rest = format!("bytes={}-", size - 7);
    let last = ("Range", &*rest);
    let beyond = format!("bytes={size}-");
    for (more, status, body) in [
        (&[last][..], 206, &file.bytes[size - 7..]),
        (&[last, ("If-Range", &*tag)], 206, &file.bytes[size - 7..]),
        (&[last, ("If-Range", &*date)], 206, &file.bytes[size - 7..]),
        (&[last, ("If-Range", "\"x\"")], 200, &file.bytes),
        (&[("Range", "bytes=0-0,5-6")], 200, &file.bytes),
        (&[("Range", &*beyond)], 416, &[]),
        (&[("If-None-Match", &*tag)], 304, &[]),
        (&[("If-Modified-Since", &*date)], 304, &[]),
        (&[("If-Match", "\"x\""), last], 412, &[]),
    ] {
        let answer = point.ask("GET", &path, more);
        assert_eq!((answer.status, &*answer.body), (status, body), "{more:?}");
        for (name, value) in file.described() {
            assert_eq!(answer.field(&name), Some(&*value), "{more:?}");
        }
        let range = match status {
            206 => Some(format!("bytes {}-{}/{size}", size - 7, size - 1)),
            416 => Some(format!("bytes */{size}")),
            _ => None,
        };
        assert_eq!(answer.field("content-range"), range.as_deref(), "{more:?}");
    }
}

#[test]
fn what_is_not_served_has_no_description() {
    let (point, content) = told();
    let stored = point.store(9, 1_000);
    for path in [
        format!("{}.meta4", stored.path()),
        format!("{}/pieceshash", stored.path()),
        format!("/content/{}.meta4", "0".repeat(64)),
        format!("/content/{}/pieceshash", "0".repeat(64)),
        "/content/.meta4".to_owned(),
        "/content/x.meta4".to_owned(),
        "/content/x/pieceshash".to_owned(),
        format!("{}.meta4.meta4", content.path()),
        format!("{}.meta4/", content.path()),
        format!("{}.meta4/pieceshash", content.path()),
        format!("{}/pieceshash/", content.path()),
        format!("{}/PiecesHash/x", content.path()),
        "/packages/XYZ00001/a.esd.meta4".to_owned(),
        "/packages/XYZ00001/.meta4".to_owned(),
        "/packages/x/..%2f.meta4".to_owned(),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = point.ask(method, &path, &[]);
            let nothing = fields(&[("content-length", "0")]);
            assert_eq!((answer.status, &answer.fields), (404, &nothing), "{path}");
        }
    }
    for path in [format!("{}.meta4", content.path()), format!("{}/pieceshash", content.path())] {
        assert_eq!(point.ask("POST", &path, &[]).status, 405, "{path}");
        assert_eq!(point.ask("GET", &path, &[("Content-Length", "5")]).status, 400, "{path}");
        assert_eq!(point.get(&format!("{path}%00")).status, 400, "{path}");
    }
}
