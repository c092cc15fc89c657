//! Private content: for those with a key, and for all others as if it were not there.

use std::sync::Arc;

use dp::server::LocationKind::{Cloud, DistributionPoint, Peer};
use dp::server::{Access, Asker, ContentServer, Gate, Refusal, Servable, ServerLimits};

use crate::stage::{Content, Point, fields};

/// Knows one key, which counts from this machine alone.
struct OneKey(&'static str);

impl Gate for OneKey {
    fn may(&self, token: Option<&str>, asker: Asker) -> bool {
        token == Some(self.0) && asker.address.is_loopback()
    }
}

fn keep_private(point: &Point, content: &Content) {
    point.change(|shelf| {
        let name = "boot.wim".parse().expect("it is a name");
        let servable = Servable::new(content.bytes.len() as u64, Some(content.sha1), name);
        shelf.offer(content.sha256, servable.with_access(Access::Private));
        shelf.packages.insert(("XYZ00001".parse().unwrap(), "boot.wim".to_owned()), content.sha256);
    });
}

fn start() -> (Point, Content) {
    let finish = |server: ContentServer| server.with_gate(Arc::new(OneKey("right")));
    let point = Point::open(ServerLimits { max_connections_per_client: 64, ..Default::default() }, finish);
    let content = point.add(1, 3_000);
    keep_private(&point, &content);
    point.tell(
        &content,
        &[
            (DistributionPoint, content.path()),
            (Cloud, "http://cloud.example/secret".to_owned()),
            (Peer, "http://peer.example/secret".to_owned()),
        ],
    );
    (point, content)
}

fn every_name(content: &Content) -> Vec<String> {
    let sha1 = content.sha1.to_string();
    vec![
        content.path(),
        content.path().to_ascii_uppercase(),
        format!("/Content/{}/{sha1}.wim", &sha1[38..]),
        "/Packages/XYZ00001/boot.wim".to_owned(),
        format!("{}.meta4", content.path()),
        "/packages/XYZ00001/boot.wim.meta4".to_owned(),
        format!("{}/pieceshash", content.path()),
        format!("/locations/{}", content.sha256),
    ]
}

#[test]
fn who_has_no_key_sees_what_is_not_there() {
    let (point, content) = start();
    let absent = point.get(&format!("/content/{}", "0".repeat(64)));
    assert_eq!((absent.status, &absent.fields), (404, &fields(&[("content-length", "0")])));
    let tag = format!("\"{}\"", content.sha256);
    let attempts: [&[(&str, &str)]; 12] = [
        &[],
        &[("Authorization", "Bearer wrong")],
        &[("Authorization", "Bearer right ish")],
        &[("Authorization", "Basic right")],
        &[("Authorization", "right")],
        &[("Authorization", "Bearer right"), ("Authorization", "Bearer right")],
        &[("Authorization", "Bearer wrong"), ("Authorization", "Bearer right")],
        &[("Cookie", "Bearer right")],
        &[("Range", "bytes=0-0")],
        &[("Range", "bytes=9999-")],
        &[("If-None-Match", &tag)],
        &[("If-Match", "\"x\"")],
    ];
    for path in every_name(&content) {
        for more in attempts {
            for method in ["GET", "HEAD"] {
                let answer = point.ask(method, &path, more);
                assert_eq!(answer, absent, "{method} {path} {more:?}");
            }
        }
        assert_eq!(point.get(&format!("{path}?token=right&access_token=right")), absent, "{path}");
    }
    assert!(point.server.served.refused(Refusal::Forbidden) > 100);
    assert_eq!(point.server.served.refused(Refusal::Absent), 1);
}

#[test]
fn who_has_a_key_gets_it_by_every_name_and_no_cache_keeps_it() {
    let (point, content) = start();
    let key = ("Authorization", "Bearer right");
    for path in &every_name(&content)[..4] {
        let answer = point.ask("GET", path, &[key]);
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.body == content.bytes);
        let kept = if path.starts_with("/Packages") {
            "private, no-cache"
        } else {
            "private, max-age=31536000, immutable"
        };
        assert_eq!(answer.field("cache-control"), Some(kept), "{path}");
        let part = point.ask("GET", path, &[key, ("Range", "bytes=5-9")]);
        assert_eq!((part.status, part.body.as_slice()), (206, &content.bytes[5..10]));
    }
    for path in &every_name(&content)[4..] {
        let answer = point.ask("GET", path, &[key]);
        assert_eq!(answer.status, 200, "{path}");
        let text = String::from_utf8(answer.body).unwrap();
        assert!(!text.contains("example"), "{path} asks strangers for what is private: {text}");
        assert_eq!(text.contains(r#""private":true"#), path.starts_with("/locations"), "{text}");
        assert!(!answer.fields.iter().any(|(_, value)| value.contains("public")), "{path}");
    }
    let head = point.ask("HEAD", &content.path(), &[key]);
    assert!(!head.fields.iter().any(|(_, value)| value.contains("example")), "{head:?}");
}

#[test]
fn hashes_of_what_others_serve_are_told_and_of_what_is_private_there_to_those_with_a_key() {
    let (point, _) = start();
    let elsewhere = point.store(7, 2_000_000);
    let path = format!("{}/pieceshash", elsewhere.path());
    assert_eq!(point.get(&path).status, 404, "nobody is sent anywhere for it");
    point.locate_elsewhere(&elsewhere);
    assert_eq!(point.get(&path).status, 200);
    point.change(|shelf| {
        shelf.private_elsewhere.insert(elsewhere.sha256);
    });
    for path in [path, format!("{}/blocks", elsewhere.path()), format!("/locations/{}", elsewhere.sha256)] {
        assert_eq!(point.get(&path).status, 404, "{path}");
    }
    let key = ("Authorization", "Bearer right");
    let told = point.ask("GET", &format!("{}/pieceshash", elsewhere.path()), &[key]);
    assert_eq!(
        (told.status, told.field("cache-control")),
        (200, Some("private, max-age=31536000, immutable"))
    );
    assert_eq!(point.ask("GET", &elsewhere.path(), &[key]).status, 404, "the bytes are elsewhere");
}

#[test]
fn without_a_gate_private_content_is_nobodys() {
    let point = Point::start();
    let content = point.add(1, 3_000);
    keep_private(&point, &content);
    for path in every_name(&content) {
        assert_eq!(point.ask("GET", &path, &[("Authorization", "Bearer right")]).status, 404, "{path}");
    }
}

#[test]
fn public_content_needs_no_key_and_minds_none() {
    let (point, _) = start();
    let public = point.add(2, 1_000);
    for more in [&[][..], &[("Authorization", "Bearer wrong")]] {
        let answer = point.ask("GET", &public.path(), more);
        assert_eq!(
            (answer.status, &answer.fields),
            (200, &public.carried(1_000, "application/octet-stream"))
        );
    }
}
