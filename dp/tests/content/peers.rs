//! Announcements and reports over the wire, and who is offered to whom after them.

use std::net::{IpAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use catalog::problem::{Code, Problem};
use dp::client::{Cache, ClientSettings, DeviceKey, SharePace, ShareSettings, fetch_content, share};
use dp::locate::Shunned;
use dp::peers::{Announced, DeviceId, Devices, PeerService, Register};
use dp::server::{Asker, LocationKind, Served, ServerLimits, Source};

use crate::stage::{Content, Point, Wire, request};

struct Keys;

impl Devices for Keys {
    fn device(&self, token: Option<&str>, _: Asker) -> Result<DeviceId, Problem> {
        let known = token.filter(|token| matches!(*token, "one" | "two" | "four"));
        known.map(|token| DeviceId(format!("desk-{token}"))).ok_or(Problem::new(
            match token {
                Some("plain") => Code::PlainHttpRefused,
                Some("guess") => Code::TooManyTries,
                _ => Code::KeyRefused,
            },
            "no",
        ))
    }
}

fn asked(point: &Point, path: &str, key: &str, body: &str) -> (u16, Vec<u8>) {
    let mut wire = point.connect();
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nHost: dp\r\n{key}Content-Length: {length}\r\n\r\n{body}");
    wire.send(head.as_bytes());
    let answer = wire.answer(false);
    (answer.status, answer.body)
}

#[test]
fn devices_announce_for_their_own_address_and_report_for_all() {
    let register = Arc::new(Register::default());
    let started = Instant::now();
    let limits = ServerLimits { max_connections_per_client: 64, ..ServerLimits::default() };
    let point = Point::serving(limits, Arc::new(PeerService::new(register.clone(), Arc::new(Keys), started)));
    let content = point.store(1, 10).sha256;
    let announce = format!(r#"{{"port":8533,"contents":["{content}"]}}"#);
    let one = "Authorization: Bearer one\r\n";
    for (what, key, body, status) in [
        ("no key", "", announce.as_str(), 401),
        ("another key", "Authorization: Bearer three\r\n", &announce, 401),
        ("another scheme", "Authorization: Basic one\r\n", &announce, 401),
        ("not over this connection", "Authorization: Bearer plain\r\n", &announce, 403),
        ("not now", "Authorization: Bearer guess\r\n", &announce, 429),
        ("no JSON", one, "{", 400),
        ("an address of its own choice", one, r#"{"port":8533,"contents":[],"address":"10.0.0.1"}"#, 400),
        ("port 0", one, r#"{"port":0,"contents":[]}"#, 400),
        ("a short digest", one, r#"{"port":8533,"contents":["00"]}"#, 400),
        ("all in order", one, &announce, 200),
    ] {
        assert_eq!(asked(&point, "/peers/announce", key, body).0, status, "{what}");
    }
    let (_, body) = asked(&point, "/peers/announce", one, &announce);
    let announced: Announced = serde_json::from_slice(&body).unwrap();
    assert!((800..1_000).contains(&announced.expires_in_seconds), "{announced:?}");
    assert!(announced.again_in_seconds * 2 < announced.expires_in_seconds, "{announced:?}");
    assert_eq!(point.get("/peers/announce").status, 405);

    let offered = |client: &str| {
        let client: IpAddr = client.parse().unwrap();
        register.near(content, client, &[], started.elapsed() + Duration::from_millis(1))
    };
    let peers = offered("127.0.0.9");
    assert_eq!(
        (peers[0].name.as_str(), peers[0].address.to_string().as_str()),
        ("desk-one", "127.0.0.1:8533")
    );
    assert_eq!(peers[0].shunned, None);

    let report = |peer: &str| format!(r#"{{"content":"{content}","peer":"{peer}","fault":"HASH_MISMATCH"}}"#);
    let this = report("127.0.0.1:8533");
    let lies = Some(Shunned::Distrusted);
    for (what, key, body, status, expected) in [
        ("nobody", "", report("127.0.0.1:1"), 204, [None, None]),
        ("no address", "", report("desk-one"), 400, [None, None]),
        ("no key of ours", "three", this.clone(), 401, [None, None]),
        ("it is full", "two", this.replace("HASH_MISMATCH", "SOURCE_FAILED"), 204, [None, None]),
        ("this one", "", this.clone(), 204, [lies, None]),
        ("a device", "two", this.clone(), 204, [lies, None]),
        ("itself", "one", this.clone(), 204, [lies, None]),
        ("another device", "four", this.clone(), 204, [lies, lies]),
    ] {
        let key = if key.is_empty() { String::new() } else { format!("Authorization: Bearer {key}\r\n") };
        assert_eq!(asked(&point, "/peers/report", &key, &body).0, status, "{what}");
        let shunned = ["127.0.0.1", "127.0.0.9"].map(|client| offered(client)[0].shunned);
        assert_eq!(shunned, expected, "{what}");
    }

    let nothing = r#"{"port":8533,"contents":[]}"#;
    assert_eq!(asked(&point, "/peers/announce", one, nothing).0, 200);
    assert!(offered("127.0.0.9").is_empty());
}

/// Waits for what has to come.
#[track_caller]
fn soon(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < until, "{what}: it never was");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_client_serves_what_it_holds_and_takes_it_back_at_the_end() {
    let register = Arc::new(Register::default());
    let started = Instant::now();
    let service = PeerService::new(register.clone(), Arc::new(Keys), started);
    let site = Point::serving(ServerLimits::default(), Arc::new(service));
    // In the library and not distributed: only the peer gives it.
    let content = site.store(2, 200_001);
    assert_eq!(site.get(&content.path()).status, 404);
    // What came as private is neither announced nor served.
    let private = site.store(3, 2_000);
    let cache = Cache::open(site.folder.path(), 0).unwrap();
    let now = jiff::Timestamp::now();
    cache.note(content.sha256, &"x.esd".parse().unwrap(), false, now).unwrap();
    cache.note(private.sha256, &"boot.wim".parse().unwrap(), true, now).unwrap();
    // Nor is that of which nobody knows.
    let unknown = site.store(4, 1_000);
    let served = Arc::new(Served::default());
    let settings = ShareSettings {
        served: served.clone(),
        client: ClientSettings {
            address: Some("127.0.0.2".parse().unwrap()),
            key: Some(DeviceKey::new("two")),
            ..site.client(site.folder.path())
        },
        listen: "127.0.0.2:0".parse().unwrap(),
        max_rate: Some(1_000_000),
        pace: SharePace { look: Duration::from_millis(10), apart: Duration::from_millis(20) },
        rests: || false,
    };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    let sharing = site.runtime.spawn(async move {
        let stop = async {
            let _ = stopped.await;
        };
        share(&settings, |address| tell.send(address).unwrap(), stop).await
    });
    let address = told.recv_timeout(Duration::from_secs(30)).unwrap();
    let client: IpAddr = "127.0.0.3".parse().unwrap();
    let near = |of: &Content| register.near(of.sha256, client, &[], started.elapsed());
    let offered = || near(&content);
    soon("it is announced", || !offered().is_empty());
    let peers = offered();
    assert_eq!((peers[0].name.as_str(), peers[0].address), ("desk-two", address));
    let mut wire = Wire::over(TcpStream::connect(address).unwrap());
    let since = Instant::now();
    wire.send(&request("GET", &content.path(), &[]));
    assert!(wire.answer(false).body == content.bytes);
    assert!(since.elapsed() > Duration::from_millis(150), "it sends faster than it was told to");
    wire.send(&request("GET", &format!("/locations/{}", content.sha256), &[]));
    assert_eq!(wire.answer(false).status, 404, "a peer knows bytes, nothing else");
    for secret in [&private, &unknown] {
        wire.send(&request("GET", &secret.path(), &[]));
        assert_eq!(wire.answer(false).status, 404);
        assert!(register.near(secret.sha256, client, &[], started.elapsed()).is_empty());
    }
    // What comes is announced and served without waiting for the site's turn, and what goes is taken back.
    let later = site.store(5, 3_000);
    cache.note(later.sha256, &"y.esd".parse().unwrap(), false, now).unwrap();
    soon("what came is announced", || !near(&later).is_empty());
    wire.send(&request("GET", &later.path(), &[]));
    assert!(wire.answer(false).body == later.bytes);
    cache.library.remove(later.sha256).unwrap();
    soon("what went is taken back", || near(&later).is_empty());
    assert_eq!(offered().len(), 1);
    drop(wire);
    stop.send(()).unwrap();
    site.runtime.block_on(sharing).unwrap().unwrap();
    assert!(offered().is_empty());
    let by = |source| served.bytes_as(source);
    assert_eq!(
        (by(Source::Peer), by(Source::Point)),
        ((content.bytes.len() + later.bytes.len()) as u64, 0),
        "by a peer, not by a point"
    );
}

/// More takers than a peer has places for: they are told so, go elsewhere, and nobody thinks the worse of it.
#[test]
fn a_full_peer_says_so_and_nobody_shuns_it() {
    let register = Arc::new(Register::default());
    let started = Instant::now();
    let limits = ServerLimits { max_connections_per_client: 64, ..ServerLimits::default() };
    let site = Point::serving(limits, Arc::new(PeerService::new(register.clone(), Arc::new(Keys), started)));
    let peer = Point::with(ServerLimits { max_connections: 2, ..ServerLimits::default() });
    let content = site.add(6, 100_000);
    peer.add(6, 100_000);
    register.announce(&DeviceId("desk".to_owned()), peer.address, &[content.sha256], Duration::ZERO).unwrap();
    site.tell(
        &content,
        &[
            (LocationKind::Peer, peer.url(&content.path())),
            (LocationKind::DistributionPoint, site.url(&content.path())),
        ],
    );
    let places = [peer.connect(), peer.connect()].map(|mut wire| {
        wire.send(&request("HEAD", &content.path(), &[]));
        assert_eq!(wire.answer(true).status, 200);
        wire
    });
    let folder = tempfile::tempdir().unwrap();
    let takes = |name: &str, key: &str, address: &str| {
        let settings = ClientSettings {
            address: Some(address.parse().unwrap()),
            key: (!key.is_empty()).then(|| DeviceKey::new(key)),
            ..site.client(&folder.path().join(name))
        };
        let fetching = fetch_content(&settings, content.sha256, None, |_| {});
        let fetched = site.runtime.block_on(fetching).unwrap();
        fetched
            .served
            .iter()
            .map(|one| format!("{:?} {} {}", one.kind, one.bytes, one.outcome))
            .collect::<Vec<_>>()
    };
    let takers = [("a", "two", "127.0.0.2"), ("b", "four", "127.0.0.3"), ("c", "", "127.0.0.4")];
    for (name, key, address) in takers {
        let served = takes(name, key, address);
        let expected = ["Peer 0 is busy (status 503)", "DistributionPoint 100000 verified"];
        assert_eq!(served, expected, "{name}");
    }
    assert_eq!(peer.server.served.refused(dp::server::Refusal::Connections), 3);
    for (_, _, address) in takers {
        let found = register.near(content.sha256, address.parse().unwrap(), &[], started.elapsed());
        assert_eq!(found[0].shunned, None, "{address}");
    }
    drop(places);
    soon("a place is free", || {
        takes("d", "two", "127.0.0.2")[0] == "Peer 100000 verified" || {
            std::fs::remove_dir_all(folder.path().join("d")).unwrap();
            false
        }
    });
}
