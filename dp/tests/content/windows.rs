//! What Windows' own programs ask, as recordings show it: BITS, Delivery Optimization, and iPXE before Windows is there.

use std::sync::Arc;

use dp::server::{Access, Servable, path_of_link};

use crate::pull_upstream::Pulling;
use crate::stage::{Answer, Content, Point, Wire, and, by_name, noise, request};

const MIB: usize = 1 << 20;
const BINARY: &str = "application/octet-stream";

/// What BITS sends with each request. With BranchCache it would take hashes instead of content; it takes content as well.
const BITS: [(&str, &str); 4] = [
    ("Accept", "*/*"),
    ("Accept-Encoding", "identity, peerdist"),
    ("User-Agent", "Microsoft BITS/7.8"),
    ("X-P2P-PeerDist", "Version=1.1"),
];

fn field(answer: &Answer, name: &str) -> String {
    answer.field(name).unwrap_or_else(|| panic!("no {name}: {answer:?}")).to_owned()
}

/// One range as BITS asks for it: only of the file that it has seen.
fn bits(wire: &mut Wire, path: &str, since: &str, (first, last): (usize, usize)) -> Answer {
    let range = format!("bytes={first}-{last}");
    let more = [&BITS[..], &[("If-Unmodified-Since", since), ("Range", &range)]].concat();
    wire.send(&request("GET", path, &more));
    wire.answer(false)
}

/// A whole job of BITS over one connection: its size from `HEAD`, then range after range. What it learned of the file.
fn bits_job(
    point: &Point,
    content: &Content,
    ranges: impl Iterator<Item = (usize, usize)>,
) -> (String, String) {
    let (path, size) = (content.path(), content.bytes.len());
    let mut wire = point.connect();
    wire.send(&request("HEAD", &path, &BITS));
    let head = wire.answer(true);
    assert_eq!((head.status, &head.fields), (200, &content.carried(size, BINARY)));
    let (since, tag) = (field(&head, "last-modified"), field(&head, "etag"));
    let mut asked = 0;
    for (first, last) in ranges {
        let answer = bits(&mut wire, &path, &since, (first, last));
        let part = format!("bytes {first}-{last}/{size}");
        let expected = and(content.carried(last - first + 1, BINARY), &[("content-range", &part)]);
        assert_eq!((answer.status, &answer.fields), (206, &expected));
        assert!(answer.body == content.bytes[first..=last], "{part}");
        asked += 1;
    }
    assert!(asked > 1);
    // Another file of the same name has another date: BITS begins anew then.
    let older = bits(&mut wire, &path, "Sat, 01 Jan 2000 00:00:00 GMT", (0, 9));
    assert_eq!((older.status, older.body.len()), (412, 0));
    assert_eq!(bits(&mut wire, &path, &since, (0, 9)).status, 206, "and the connection goes on");
    (since, tag)
}

fn in_steps(from: usize, size: usize, step: usize) -> impl Iterator<Item = (usize, usize)> {
    (from..size).step_by(step).map(move |first| (first, (first + step).min(size) - 1))
}

#[test]
fn bits_asks_range_after_range_and_goes_on_at_another_point() {
    let (one, other) = (Point::start(), Point::start());
    let content = one.add(1, 3 * MIB + 77);
    let same = other.store_bytes(content.bytes.clone());
    other.offer(&same);
    let first = bits_job(&one, &content, in_steps(0, MIB, 65_536));
    let second = bits_job(&other, &content, in_steps(MIB, content.bytes.len(), 300_000));
    assert_eq!(first, second, "size, date and tag are those of every point, so BITS keeps what it has");
}

#[test]
fn bits_asks_range_after_range_of_what_a_point_still_lacks() {
    let here = Pulling::start(std::time::Duration::from_secs(20));
    let content = Content::new(noise(2, 3 * MIB + 5));
    let upstream = here.upstream(&content, &[]);
    here.offer(&content, &[&upstream], true, Access::Public);
    bits_job(&here.point, &content, in_steps(0, content.bytes.len(), 500_000));
    assert_eq!(upstream.asked(), 1, "many ranges are one copy");
}

#[test]
fn a_part_of_many_has_few_bytes_around_it() {
    let point = Point::start();
    let content = point.add(3, 300_001);
    let parts = point.ask("GET", &content.path(), &[("Range", "bytes=0-0,299999-300000")]);
    let text = String::from_utf8_lossy(&parts.body).into_owned();
    let kind = field(&parts, "content-type");
    let boundary = kind.split("boundary=").nth(1).unwrap();
    assert!(text.starts_with(&format!("\r\n--{boundary}\r\n")), "at most two line ends before the first");
    let heads: Vec<&str> = text.split(&format!("--{boundary}\r\n")).skip(1).collect();
    assert_eq!(heads.len(), 2);
    for head in heads {
        let fields = head.split("\r\n\r\n").next().unwrap();
        assert!(fields.len() <= 180, "BITS reads 180 bytes of fields: {fields}");
    }
}

/// The upstream's address of a content, with what Delivery Optimization adds to it.
struct Published {
    content: Content,
    path: String,
}

impl Published {
    fn at(point: &Point, seed: u64, size: usize) -> Self {
        let content = point.add(seed, size);
        let path = format!("/filestreamingservice/files/5d7c{seed:04}-0000/26200.1_client%20x64.esd");
        let link = format!("http://dl.delivery.mp.example{path}");
        let known = path_of_link(&link).expect("it names a file");
        let digest = content.sha256;
        point.change(|shelf| {
            let said = shelf.by_upstream.said().clone().into_iter().chain([(known.clone(), digest)]);
            shelf.by_upstream = Arc::new(said.collect());
        });
        Self { content, path }
    }
}

#[test]
fn delivery_optimization_finds_its_cache_by_the_paths_of_the_upstream() {
    let point = Point::start();
    let Published { content, path } = Published::at(&point, 4, 2 * MIB + 4_321);
    let size = content.bytes.len();
    let agent = ("User-Agent", "Microsoft-Delivery-Optimization/10.0");
    let queried = format!("{path}?P1=1764000000&P2=404&P3=2&cacheHostOrigin=dl.delivery.mp.example");
    // The size, twice, over two connections.
    for _ in 0..2 {
        let probe = point.ask("GET", &queried, &[agent, ("MS-CV", "x.1"), ("Range", "bytes=0-1")]);
        let part = format!("bytes 0-1/{size}");
        let expected = and(by_name(content.carried(2, BINARY)), &[("content-range", &part)]);
        assert_eq!((probe.status, &probe.fields, &*probe.body), (206, &expected, &content.bytes[..2]));
    }
    // Then pieces of 1 MiB, the last one short; by the other form the upstream is the host.
    let mut got = Vec::new();
    let mut wire = point.connect();
    for (first, last) in in_steps(0, size, MIB) {
        let head = format!(
            "GET {path}?P1=5 HTTP/1.1\r\nHost: dl.delivery.mp.example\r\nRange: bytes={first}-{last}\r\n\r\n"
        );
        wire.send(head.as_bytes());
        let answer = wire.answer(false);
        assert_eq!(answer.status, 206);
        got.extend(answer.body);
    }
    assert!(got == content.bytes);
    let cut = point.ask("GET", &queried, &[agent, ("Range", &format!("bytes=1000000-{}", size - 1))]);
    assert!(cut.status == 206 && cut.body == content.bytes[1_000_000..], "what was cut goes on");
    let head = point.ask("HEAD", &queried, &[agent]);
    assert_eq!((head.status, &head.fields), (200, &by_name(content.carried(size, BINARY))));
    assert_eq!(point.get(&format!("{}/pieceshash", content.path())).status, 200);
}

#[test]
fn no_other_path_of_an_upstream_leads_anywhere() {
    let point = Point::start();
    let public = Published::at(&point, 5, 1_000);
    let private = Published::at(&point, 6, 1_000);
    point.change(|shelf| {
        let servable = Servable::new(1_000, None, "boot.wim".parse().unwrap());
        shelf.contents.insert(private.content.sha256, servable.with_access(Access::Private));
    });
    let withdrawn = Published::at(&point, 7, 1_000);
    point.change(|shelf| {
        shelf.contents.remove(&withdrawn.content.sha256);
    });
    let absent = point.get(&format!("/content/{}", "0".repeat(64)));
    let (folder, name) = public.path.rsplit_once('/').unwrap();
    for path in [
        private.path.clone(),
        withdrawn.path.clone(),
        format!("{folder}/"),
        format!("{folder}%2F{name}"),
        format!("/{}", public.path),
        format!("{}/", public.path),
        format!("{}.meta4", public.path),
        format!("/x/..{}", public.path),
        "/filestreamingservice/files/unknown?cacheHostOrigin=127.0.0.1:1".to_owned(),
        "/mscomtest/other.gif".to_owned(),
    ] {
        for more in [&[][..], &[("Authorization", "Bearer right")], &[("Range", "bytes=0-1")]] {
            assert_eq!(point.ask("GET", &path, more), absent, "{path} {more:?}");
        }
    }
    for path in [public.path.clone(), public.path.to_ascii_uppercase()] {
        assert_eq!(point.get(&path).body, public.content.bytes, "{path}");
    }
    assert_eq!(point.ask("POST", &public.path, &[]).status, 404);
}

#[test]
fn an_administrator_sees_that_a_cache_host_answers() {
    let point = Point::start();
    let path = "/mscomtest/wuidt.gif?cacheHostOrigin=au.download.windowsupdate.com";
    let answer = point.get(path);
    assert_eq!((answer.status, &*field(&answer, "content-type")), (200, "image/gif"));
    assert!(answer.body.starts_with(b"GIF89a\x01\0\x01\0") && answer.body.ends_with(b"\0;"));
    let head = point.ask("HEAD", path, &[]);
    assert_eq!((head.status, head.fields), (200, answer.fields));
}

#[test]
fn a_network_card_that_boots_gets_a_file() {
    let point = Point::start();
    let content = point.add(8, 300_001);
    let mut wire = point.connect();
    let head = format!(
        "GET {} HTTP/1.1\r\nConnection: keep-alive\r\nUser-Agent: iPXE/1.0.0+git\r\nHost: 10.0.2.2\r\n\r\n",
        content.path()
    );
    for _ in 0..2 {
        wire.send(head.as_bytes());
        let answer = wire.answer(false);
        assert_eq!((answer.status, &answer.fields), (200, &content.carried(300_001, BINARY)));
        assert!(answer.body == content.bytes);
    }
}
