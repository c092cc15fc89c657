//! Requests in shapes that are rare and right: what follows on the connection is answered as ever.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use arc_swap::ArcSwap;
use dp::library::Settings;
use dp::server::Access;
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::TlsConnector;

use crate::pull_upstream::Pulling;
use crate::stage::{Content, Point, Wire, noise, request};

const BINARY: &str = "application/octet-stream";
const LONG: std::time::Duration = std::time::Duration::from_secs(20);

/// The next request on this connection is answered with the whole content.
#[track_caller]
fn goes_on(wire: &mut Wire, content: &Content, after: &str) {
    wire.send(&request("GET", &content.path(), &[]));
    let answer = wire.answer(false);
    assert_eq!((answer.status, answer.field("connection")), (200, None), "after {after}");
    assert!(answer.body == content.bytes, "after {after}");
}

#[test]
fn a_connection_goes_on_after_every_answer_that_is_no_bad_request() {
    let point = Point::start();
    let content = point.add(1, 70_001);
    let path = content.path();
    let absent = format!("/content/{}", "0".repeat(64));
    let mut wire = point.connect();
    for (method, path, more, status) in [
        ("GET", &path, ("If-Match", "\"x\""), 412),
        ("HEAD", &path, ("If-Match", "\"x\""), 412),
        ("GET", &path, ("Range", "bytes=70001-"), 416),
        ("GET", &path, ("If-None-Match", "*"), 304),
        ("HEAD", &path, ("Accept", "*/*"), 200),
        ("GET", &absent, ("Accept", "*/*"), 404),
        ("HEAD", &absent, ("Accept", "*/*"), 404),
        ("GET", &path, ("Content-Length", "0"), 200),
        ("HEAD", &path, ("Content-Length", "0"), 200),
    ] {
        wire.send(&request(method, path, &[more]));
        assert_eq!(wire.answer(method == "HEAD").status, status, "{method} {path} {more:?}");
        goes_on(&mut wire, &content, &format!("{status} to {method}"));
    }
    // A body of a HEAD was announced: nobody knows where it would end.
    wire.send(&request("HEAD", &path, &[("Content-Length", "4")]));
    let refused = wire.answer(true);
    assert_eq!((refused.status, refused.field("connection")), (400, Some("close")));
    wire.ends();
}

#[test]
fn a_connection_goes_on_after_a_disk_that_is_full() {
    let here = Pulling::over(LONG, Settings { min_free: u64::MAX / 2 });
    let lacking = Content::new(noise(2, 5_000));
    let upstream = here.upstream(&lacking, &[]);
    here.offer(&lacking, &[&upstream], true, Access::Public);
    let mut wire = here.point.connect();
    wire.send(&request("HEAD", &lacking.path(), &[]));
    assert_eq!(wire.answer(true).status, 200, "what is known of it needs no room");
    for method in ["GET", "HEAD"] {
        wire.send(&request(method, &lacking.path(), &[]));
        assert_eq!(wire.answer(method == "HEAD").status, 507);
    }
    wire.send(&request("GET", &Content::new(noise(3, 10)).path(), &[]));
    assert_eq!(wire.answer(false).status, 404);
}

#[test]
fn conditions_and_ranges_of_what_a_point_still_lacks() {
    let here = Pulling::start(LONG);
    let content = Content::new(noise(4, 2_000_000));
    let upstream = here.upstream(&content, &[]);
    here.offer(&content, &[&upstream], true, Access::Public);
    let (path, range) = (content.path(), ("Range", "bytes=5-9"));
    let tag = format!("\"{}\"", content.sha256);
    let has_it = here.point.ask("GET", &path, &[("If-None-Match", &tag), range]);
    assert_eq!((has_it.status, has_it.fields, upstream.asked()), (304, content.described(), 0));
    let has_another = here.point.ask("GET", &path, &[("If-None-Match", "\"x\""), range]);
    assert_eq!((has_another.status, &*has_another.body), (206, &content.bytes[5..10]));
    let changed = here.point.ask("GET", &path, &[("If-Range", "\"x\""), range]);
    assert!(changed.status == 200 && changed.body == content.bytes);
}

#[test]
fn who_waits_for_leave_to_send_nothing_is_answered_at_once() {
    let point = Point::start();
    let content = point.add(5, 1_000);
    let mut wire = point.connect();
    for expected in ["100-continue", "100-Continue", "something-else", ""] {
        for method in ["GET", "HEAD"] {
            // `head` takes the first status that comes: 100 would be one too many.
            wire.send(&request(method, &content.path(), &[("Expect", expected)]));
            let answer = wire.answer(method == "HEAD");
            assert_eq!(answer.status, 200, "{method}, {expected:?}");
            assert_eq!(answer.fields, content.carried(1_000, BINARY));
        }
        goes_on(&mut wire, &content, expected);
    }
    // Nobody is invited to send what no route of content takes.
    wire.send(&request("GET", &content.path(), &[("Expect", "100-continue"), ("Content-Length", "5")]));
    assert_eq!(wire.answer(false).status, 400);
    wire.ends();
}

#[test]
fn what_the_target_says_comes_before_the_host() {
    let point = Point::start();
    let content = point.add(6, 1_000);
    let document = |target: &str| String::from_utf8(point.get(target).body).unwrap();
    let path = format!("{}.meta4", content.path());
    for (target, own) in [
        (path.clone(), "http://dp/content/"),
        (format!("http://elsewhere:81{path}"), "http://elsewhere:81/content/"),
        (format!("HTTP://Elsewhere{path}"), "http://Elsewhere/content/"),
        (format!("http://somebody:secret@elsewhere{path}"), "http://elsewhere/content/"),
    ] {
        let text = document(&target);
        let expected = format!("<url priority=\"1\">{own}{}</url>", content.sha256);
        assert!(text.contains(&expected) && text.matches("<url").count() == 1, "{target}: {text}");
    }
    let told =
        [(dp::server::LocationKind::DistributionPoint, format!("http://elsewhere:81{}", content.path()))];
    point.tell(&content, &told);
    let head = point.ask("HEAD", &format!("http://elsewhere:81{}", content.path()), &[]);
    let duplicates = head.fields.iter().filter(|(_, value)| value.contains("rel=duplicate")).count();
    assert_eq!(duplicates, 0, "a place is no copy of itself: {head:?}");
}

#[test]
fn a_list_over_several_lines_is_one_list() {
    let point = Point::start();
    let content = point.add(7, 1_000);
    let tag = format!("\"{}\"", content.sha256);
    let others = ("If-Match", "\"x\", \"y\"");
    for (more, status) in [
        (vec![others, ("If-Match", &*tag)], 200),
        (vec![("If-Match", &*tag), others], 200),
        (vec![others, ("If-Match", "\"z\"")], 412),
        (vec![("If-Match", ""), ("If-Match", &*tag)], 200),
        (vec![("If-None-Match", "\"x\""), ("If-None-Match", &*tag)], 304),
        (vec![("If-None-Match", "\"x\""), ("If-None-Match", "\"y\"")], 200),
    ] {
        assert_eq!(point.ask("GET", &content.path(), &more).status, status, "{more:?}");
    }
}

/// Speaks TLS to a point for who speaks none; where it listens, and where the point does.
pub fn over_tls(point: &Point) -> (SocketAddr, SocketAddr) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.into())
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(client));
    point.runtime.block_on(async {
        let secure = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = secure.local_addr().unwrap();
        let identity = Arc::new(ArcSwap::from_pointee(server));
        tokio::spawn(point.server.clone().serve_tls(secure, identity, std::future::pending()));
        let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = plain.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = plain.accept().await {
                let connector = connector.clone();
                tokio::spawn(async move {
                    let stream = tokio::net::TcpStream::connect(there).await.unwrap();
                    let name = ServerName::try_from("localhost").unwrap();
                    let Ok(mut secured) = connector.connect(name, stream).await else { return };
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut secured).await;
                });
            }
        });
        (here, there)
    })
}

#[test]
fn ranges_and_their_conditions_are_the_same_over_tls() {
    let point = Point::start();
    let content = point.add(8, 300_001);
    let mut wires = [point.connect(), Wire::over(TcpStream::connect(over_tls(&point).0).unwrap())];
    let tag = format!("\"{}\"", content.sha256);
    let date = content.described().into_iter().find(|(name, _)| name == "last-modified").unwrap().1;
    let one = ("Range", "bytes=100000-299999");
    for (more, status) in [
        (vec![], 200),
        (vec![one], 206),
        (vec![one, ("If-Range", &*tag)], 206),
        (vec![one, ("If-Range", &*date)], 206),
        (vec![one, ("If-Range", "\"x\"")], 200),
        (vec![("Range", "bytes=0-0,70000-270000,-1")], 206),
        (vec![("Range", "bytes=0-0,70000-270000,-1"), ("If-Range", &*tag)], 206),
        (vec![("Range", "bytes=300001-")], 416),
        (vec![one, ("If-Match", "\"x\"")], 412),
        (vec![one], 206),
    ] {
        let [plain, secure] = wires.each_mut().map(|wire| {
            wire.send(&request("GET", &content.path(), &more));
            wire.answer(false)
        });
        assert_eq!((plain.status, &plain.fields), (status, &secure.fields), "{more:?}");
        assert!(plain == secure, "{more:?}");
    }
}
