//! The reference client against a real point: what it fetches, from whom, and with what.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dp::client::{
    Cache, CacheLimits, ClientFetched, ClientSettings, Delta, DeviceKey, FetchOptions, content_key,
    fetch_content_with,
};
use dp::server::LocationKind::{Cloud, DistributionPoint, Peer};
use dp::server::{Access, Asker, ContentServer, Gate, Servable, ServerLimits};
use jiff::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::stage::{Content, Point, noise};

const MIB: usize = 1 << 20;

/// Knows one key, and the one for content that follows from it.
struct OneKey;

impl Gate for OneKey {
    fn may(&self, token: Option<&str>, _: Asker) -> bool {
        token.is_some_and(|token| token == "spsync_right" || token == content_key("spsync_right"))
    }
}

fn gated() -> Point {
    let limits = ServerLimits { max_connections_per_client: 64, ..ServerLimits::default() };
    Point::open(limits, |server: ContentServer| server.with_gate(Arc::new(OneKey)))
}

fn fetch(
    settings: &ClientSettings,
    content: &Content,
    delta: Delta,
    site: &Point,
) -> Result<ClientFetched, String> {
    let options = FetchOptions { delta, ..FetchOptions::default() };
    let fetched = site.runtime.block_on(fetch_content_with(settings, content.sha256, &options, |_| {}));
    let fetched = fetched.map_err(|error| error.to_string())?;
    assert!(std::fs::read(&fetched.path).unwrap() == content.bytes);
    Ok(fetched)
}

/// Serves content, with its map.
fn offer(site: &Point, bytes: Vec<u8>, name: &str) -> Content {
    let content = site.store_bytes(bytes);
    let servable = Servable::new(content.bytes.len() as u64, Some(content.sha1), name.parse().unwrap());
    site.change(|shelf| shelf.offer(content.sha256, servable.clone()));
    assert!(!site.library.has_block_map(content.sha256));
    assert!(site.library.make_block_map(content.sha256, || true).unwrap());
    content
}

fn staged(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("staging")).unwrap().count()
}

#[test]
fn delta_downloads_fewer_bytes() {
    let site = Point::start();
    let january = offer(&site, noise(1, 4 * MIB), "january.esd");
    // A new head, a changed stretch, and everything else somewhere else.
    let mut bytes = noise(2, 70_000);
    bytes.extend_from_slice(&january.bytes);
    bytes[2 * MIB..2 * MIB + 300_000].copy_from_slice(&noise(3, 300_000));
    let february = offer(&site, bytes, "february.esd");
    let solid = offer(&site, noise(4, 3 * MIB), "solid.esd");
    let device = tempfile::tempdir().unwrap();
    let settings = site.client(device.path());
    let whole = fetch(&settings, &january, Delta::Auto, &site).unwrap();
    assert_eq!(
        (whole.bytes.points, whole.bytes.earlier),
        (january.bytes.len() as u64, 0),
        "nothing was here"
    );

    let before = site.sent();
    let fetched = fetch(&settings, &february, Delta::Auto, &site).unwrap();
    let (size, sent) = (february.bytes.len() as u64, site.sent() - before);
    assert_eq!(fetched.bytes.earlier + fetched.bytes.points, size);
    assert!(fetched.bytes.points < 650_000, "{:?}", fetched.bytes);
    assert!(sent < fetched.bytes.points + 20_000, "answers, hashes and map included: {sent}");
    assert_eq!(staged(device.path()), 0);

    // Data that have nothing in common save nothing, and the count says so.
    let fetched = fetch(&settings, &solid, Delta::Auto, &site).unwrap();
    assert_eq!((fetched.bytes.earlier, fetched.bytes.points), (0, solid.bytes.len() as u64));

    // Turned off, and from a file that somebody names.
    let other = tempfile::tempdir().unwrap();
    let settings = site.client(other.path());
    let old = other.path().join("old.esd");
    std::fs::write(&old, &january.bytes).unwrap();
    let named = Delta::From(vec![other.path().join("not-there"), other.path().to_owned(), old]);
    let fetched = fetch(&settings, &february, named, &site).unwrap();
    assert!(fetched.bytes.points < 650_000, "{:?}", fetched.bytes);
    let fetched = fetch(&settings, &january, Delta::Off, &site).unwrap();
    assert_eq!(fetched.bytes.points, january.bytes.len() as u64);
}

/// Notes the head of each request, and answers 404.
fn witness(site: &Point, address: &str) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = site.runtime.block_on(tokio::net::TcpListener::bind(address)).unwrap();
    let (address, heads) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let seen = heads.clone();
    site.runtime.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4_096];
            let count = stream.read(&mut head).await.unwrap_or_default();
            seen.lock().unwrap().push(String::from_utf8_lossy(&head[..count]).to_lowercase());
            let _ =
                stream.write_all(b"HTTP/1.1 404 x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        }
    });
    (address, heads)
}

#[test]
fn private_content_is_asked_of_the_site_with_the_key_and_of_nobody_else() {
    let site = gated();
    let content = site.store(1, 2 * MIB);
    let servable = Servable::new(content.bytes.len() as u64, Some(content.sha1), "boot.wim".parse().unwrap());
    site.change(|shelf| shelf.offer(content.sha256, servable.clone().with_access(Access::Private)));
    let (peer, asked_peer) = witness(&site, "127.0.0.2:0");
    let (point, asked_point) = witness(&site, "127.0.0.3:0");
    site.tell(
        &content,
        &[
            (Peer, format!("http://{peer}/x")),
            (Cloud, format!("http://{peer}/y")),
            (DistributionPoint, format!("http://{point}/z")),
            (DistributionPoint, content.path()),
        ],
    );
    let device = tempfile::tempdir().unwrap();
    let stranger = site.client(device.path());
    assert!(fetch(&stranger, &content, Delta::Auto, &site).unwrap_err().contains("offers no content"));
    let wrong = ClientSettings { key: Some(DeviceKey::new("spsync_wrong")), ..stranger.clone() };
    assert!(fetch(&wrong, &content, Delta::Auto, &site).unwrap_err().contains("offers no content"));
    let right = ClientSettings { key: Some(DeviceKey::new("spsync_right")), ..stranger.clone() };
    let fetched = fetch(&right, &content, Delta::Auto, &site).unwrap();
    assert!(fetched.private);
    assert_eq!(fetched.bytes.points, content.bytes.len() as u64);
    assert!(asked_peer.lock().unwrap().is_empty(), "neither peers nor the cloud");
    let shown = asked_point.lock().unwrap().clone();
    let key = format!("authorization: bearer {}", content_key("spsync_right"));
    assert!(!shown.is_empty() && shown.iter().all(|head| head.contains(&key)), "{shown:?}");
    assert!(!shown.iter().any(|head| head.contains("spsync_right")), "the key that speaks for the device");
    let cache = Cache::open(device.path(), 0).unwrap();
    assert!(cache.is_private(content.sha256) && cache.list().unwrap()[0].private);
}

#[test]
fn the_key_goes_to_the_site_and_not_along_with_public_content() {
    let site = gated();
    let content = site.add(1, 1_000);
    let (peer, asked_peer) = witness(&site, "127.0.0.2:0");
    let (point, asked_point) = witness(&site, "127.0.0.3:0");
    site.tell(
        &content,
        &[
            (Peer, format!("http://{peer}/x")),
            (DistributionPoint, format!("http://{point}/z")),
            (DistributionPoint, content.path()),
        ],
    );
    let device = tempfile::tempdir().unwrap();
    let key = Some(DeviceKey::new("spsync_right"));
    let settings = ClientSettings { key, ..site.client(device.path()) };
    let fetched = fetch(&settings, &content, Delta::Auto, &site).unwrap();
    assert!(!fetched.private);
    for (who, asked) in [("the peer", asked_peer), ("the point", asked_point)] {
        let asked = asked.lock().unwrap();
        assert!(!asked.is_empty(), "{who}");
        assert!(!asked.iter().any(|head| head.contains("authorization")), "{who}: {asked:?}");
    }
}

#[test]
fn what_is_beyond_the_limit_makes_room_and_what_is_pinned_stays() {
    let site = Point::start();
    let contents: Vec<_> =
        (1..4).map(|seed| offer(&site, noise(seed, 2 * MIB), &format!("{seed}.esd"))).collect();
    let device = tempfile::tempdir().unwrap();
    let settings = site.client(device.path());
    let pinned = FetchOptions { pin: Some("run-7".to_owned()), ..FetchOptions::default() };
    site.runtime.block_on(fetch_content_with(&settings, contents[0].sha256, &pinned, |_| {})).unwrap();
    fetch(&settings, &contents[1], Delta::Off, &site).unwrap();
    let cache = Cache::open(device.path(), 0).unwrap();
    let hour = Timestamp::now() - Duration::from_secs(3_600);
    for content in &contents[..2] {
        let name = cache
            .list()
            .unwrap()
            .into_iter()
            .find(|one| one.content == content.sha256)
            .unwrap()
            .file_name
            .unwrap();
        cache.note(content.sha256, &name, false, hour).unwrap();
    }
    let small = CacheLimits { size: Some(5 * MIB as u64), age: None };
    fetch(&ClientSettings { limits: small, ..settings }, &contents[2], Delta::Off, &site).unwrap();
    let left: Vec<_> = cache.list().unwrap().into_iter().map(|one| one.content).collect();
    assert_eq!(left, [contents[2].sha256, contents[0].sha256]);
    assert!(!device.path().join("files/2.esd").exists());
}
