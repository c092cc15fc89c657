//! The tools that people use, where one place dies in the middle and another one lies.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dp::server::LocationKind::DistributionPoint;

use crate::stage::{Content, Point, noise};
use crate::tools::run;

const SIZE: usize = 6 << 20;

/// Stands before a server, and is gone for ever after so many bytes of answers.
struct Dying {
    address: SocketAddr,
    connected: Arc<AtomicUsize>,
}

impl Dying {
    /// At an address of its own: tools count connections by host, without the port.
    fn before(server: SocketAddr, after: usize, host: &str) -> Self {
        let listener = TcpListener::bind((host, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let connected = Arc::new(AtomicUsize::new(0));
        let (counted, left) = (connected.clone(), Arc::new(AtomicUsize::new(after)));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                counted.fetch_add(1, Ordering::SeqCst);
                if left.load(Ordering::SeqCst) == 0 {
                    continue; // whoever connects is closed at once
                }
                let (mut from, mut to) = (TcpStream::connect(server).unwrap(), client.try_clone().unwrap());
                let (mut asking, mut asked) = (client, from.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut asking, &mut asked);
                    let _ = asked.shutdown(Shutdown::Both);
                });
                let left = left.clone();
                std::thread::spawn(move || {
                    let mut buffer = vec![0; 16 * 1024];
                    while let Ok(count @ 1..) = from.read(&mut buffer) {
                        let before = left.fetch_sub(count.min(left.load(Ordering::SeqCst)), Ordering::SeqCst);
                        if to.write_all(&buffer[..count.min(before)]).is_err() || before <= count {
                            break;
                        }
                    }
                    let _ = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
                });
            }
        });
        Self { address, connected }
    }

    fn url(&self, content: &Content) -> String {
        format!("http://{}{}", self.address, content.path())
    }
}

/// Another point that offers the same content, with a wrong byte in each 64 KiB of it.
fn lying(content: &Content) -> Point {
    let point = Point::start();
    let mut bytes = content.bytes.clone();
    let same = point.store_bytes(bytes.clone());
    point.offer(&same);
    bytes.iter_mut().step_by(64 * 1024).for_each(|byte| *byte ^= 1);
    let blob = point.blob(&same);
    fs::set_permissions(&blob, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&blob, &bytes).unwrap();
    point
}

fn honest(content: &Content) -> Point {
    let point = Point::start();
    let same = point.store_bytes(content.bytes.clone());
    point.offer(&same);
    point
}

fn asked(point: &Point) -> u64 {
    point.server.served.requests.load(Ordering::Relaxed)
}

#[track_caller]
fn is_whole(file: &Path, content: &Content) {
    let found = fs::read(file).unwrap();
    assert!(found == content.bytes, "{} bytes came, and they are not the content", found.len());
}

const ARIA2: [&str; 9] = [
    "--no-conf",
    "-q",
    "--file-allocation=none",
    "--max-tries=3",
    "--retry-wait=0",
    "--connect-timeout=10",
    "-s4",
    "-k1M",
    "--max-connection-per-server=1",
];

#[test]
fn aria2c_gets_the_file_by_its_metalink_though_one_place_dies_and_one_lies() {
    let point = Point::start();
    let content = point.add(1, SIZE);
    let (dying, lying) = (Dying::before(point.address, 300_000, "127.0.0.2"), lying(&content));
    let liar = Dying::before(lying.address, usize::MAX, "127.0.0.3");
    point.tell(
        &content,
        &[
            (DistributionPoint, dying.url(&content)),
            (DistributionPoint, liar.url(&content)),
            (DistributionPoint, content.path()),
        ],
    );
    let folder = tempfile::tempdir().unwrap();
    let url = point.url(&format!("{}.meta4", content.path()));
    let arguments = [&ARIA2[..], &[&*url]].concat();
    let test = "aria2c_gets_the_file_by_its_metalink";
    let Some(done) = run(test, "aria2c", folder.path(), &arguments) else { return };
    assert!(done.status.success(), "{done:?}");
    is_whole(&folder.path().join("part.esd"), &content);
    assert!(dying.connected.load(Ordering::SeqCst) > 0, "the place that dies was never asked");
    assert!(asked(&lying) > 0, "the place that lies was never asked");
}

#[test]
fn aria2c_does_not_believe_a_lie_that_nobody_corrects() {
    let point = Point::start();
    let content = point.add(2, SIZE);
    let lying = lying(&content);
    // The document is ours, the bytes come from somebody else alone.
    let text = point.get(&format!("{}.meta4", content.path())).body;
    let text = String::from_utf8(text).unwrap();
    let own = format!("http://dp{}", content.path());
    assert!(text.contains(&own));
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file.meta4"), text.replace(&own, &lying.url(&content.path()))).unwrap();
    let arguments = [&ARIA2[..], &["-M", "file.meta4"]].concat();
    let Some(done) = run("aria2c_does_not_believe_a_lie", "aria2c", folder.path(), &arguments) else {
        return;
    };
    assert!(!done.status.success(), "it believed wrong bytes");
    assert!(asked(&lying) > 0);
}

#[test]
fn aria2c_moves_on_by_links_alone() {
    let point = Point::start();
    let content = point.add(3, SIZE);
    let (dying, other) = (Dying::before(point.address, 1_500_000, "127.0.0.2"), honest(&content));
    let places = [(DistributionPoint, other.url(&content.path()))];
    point.tell(&content, &places);
    let folder = tempfile::tempdir().unwrap();
    let url = dying.url(&content);
    let arguments = [&ARIA2[..], &["-o", "file", &*url]].concat();
    let Some(done) = run("aria2c_moves_on_by_links", "aria2c", folder.path(), &arguments) else { return };
    assert!(done.status.success(), "{done:?}");
    is_whole(&folder.path().join("file"), &content);
    assert!(asked(&other) > 0, "the other place was never asked");
}

/// The first place dies; the rest is asked of another one.
fn goes_on_elsewhere(test: &str, tool: &str, arguments: &[&str]) {
    let point = Point::start();
    let content = point.add(4, SIZE);
    let (dying, other) = (Dying::before(point.address, 1_000_000, "127.0.0.2"), honest(&content));
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (dying.url(&content), other.url(&content.path()));
    let Some(cut) = run(test, tool, folder.path(), &[arguments, &[&*first]].concat()) else { return };
    assert!(!cut.status.success(), "{tool} believes a file that was cut");
    let done = run(test, tool, folder.path(), &[arguments, &[&*second]].concat()).unwrap();
    assert!(done.status.success(), "{tool}: {done:?}");
    is_whole(&folder.path().join(content.sha256.to_string()), &content);
    let sent = other.server.served.bytes.load(Ordering::Relaxed);
    assert!(sent < SIZE as u64, "{tool} fetched all of it again");
}

#[test]
fn curl_goes_on_elsewhere() {
    goes_on_elsewhere("curl_goes_on_elsewhere", "curl", &["-sS", "-f", "-C", "-", "-O"]);
}

#[test]
fn wget_goes_on_elsewhere() {
    goes_on_elsewhere("wget_goes_on_elsewhere", "wget", &["-nv", "-c", "--tries=1"]);
}

#[test]
fn zsync_fetches_what_changed() {
    let point = Point::start();
    let content = point.add(5, SIZE);
    let folder = tempfile::tempdir().unwrap();
    let mut old = content.bytes.clone();
    for (at, seed) in [(100_000, 1), (2_500_000, 2), (5_000_000, 3)] {
        old[at..at + 4_000].copy_from_slice(&noise(seed, 4_000));
    }
    fs::write(folder.path().join("new"), &content.bytes).unwrap();
    fs::write(folder.path().join("old"), &old).unwrap();
    let test = "zsync_fetches_what_changed";
    let url = point.url(&content.path());
    let make = ["-b", "2048", "-u", &url, "-o", "file.zsync", "new"];
    let Some(made) = run(test, "zsyncmake", folder.path(), &make) else { return };
    assert!(made.status.success(), "{made:?}");
    let fetch = ["-q", "-i", "old", "-o", "result", "file.zsync"];
    let Some(done) = run(test, "zsync", folder.path(), &fetch) else { return };
    assert!(done.status.success(), "{done:?}");
    is_whole(&folder.path().join("result"), &content);
    let sent = point.server.served.bytes.load(Ordering::Relaxed);
    assert!((1..100_000).contains(&sent), "{sent} bytes for 12,000 that changed");
}

#[test]
fn rclone_copies_a_url() {
    let point = Point::start();
    let content = point.add(6, SIZE);
    let folder = tempfile::tempdir().unwrap();
    let url = point.url(&content.path());
    let arguments = ["copyurl", "--config", "/dev/null", "--retries", "1", &*url, "file"];
    let Some(done) = run("rclone_copies_a_url", "rclone", folder.path(), &arguments) else { return };
    assert!(done.status.success(), "{done:?}");
    is_whole(&folder.path().join("file"), &content);
}

#[test]
fn aria2c_passes_by_places_that_have_nothing() {
    let point = Point::start();
    let content = point.add(7, SIZE);
    let (empty, closed) = (Point::start(), TcpListener::bind("127.0.0.3:0").unwrap().local_addr().unwrap());
    point.tell(
        &content,
        &[
            (DistributionPoint, format!("http://{closed}{}", content.path())),
            (DistributionPoint, Dying::before(empty.address, usize::MAX, "127.0.0.2").url(&content)),
            (DistributionPoint, content.path()),
        ],
    );
    let folder = tempfile::tempdir().unwrap();
    let url = point.url(&format!("{}.meta4", content.path()));
    let test = "aria2c_passes_by_places_that_have_nothing";
    let Some(done) = run(test, "aria2c", folder.path(), &[&ARIA2[..], &[&*url]].concat()) else { return };
    assert!(done.status.success(), "{done:?}");
    is_whole(&folder.path().join("part.esd"), &content);
    assert!(asked(&empty) > 0, "the place without it was never asked");
}

/// It asks for at most twenty ranges at once, so it stays below what we answer in parts.
#[test]
fn zsync_fetches_more_ranges_than_one_answer_has() {
    let point = Point::start();
    let content = point.add(8, SIZE);
    let folder = tempfile::tempdir().unwrap();
    let mut old = content.bytes.clone();
    for (place, seed) in (0..40).zip(1..) {
        old[place * 150_000 + 1_000..][..3_000].copy_from_slice(&noise(seed, 3_000));
    }
    fs::write(folder.path().join("new"), &content.bytes).unwrap();
    fs::write(folder.path().join("old"), &old).unwrap();
    let test = "zsync_fetches_more_ranges_than_one_answer_has";
    let url = point.url(&content.path());
    let make = ["-b", "2048", "-u", &url, "-o", "file.zsync", "new"];
    let Some(made) = run(test, "zsyncmake", folder.path(), &make) else { return };
    assert!(made.status.success(), "{made:?}");
    let done = run(test, "zsync", folder.path(), &["-q", "-i", "old", "-o", "result", "file.zsync"]);
    let Some(done) = done else { return };
    assert!(done.status.success(), "{done:?}");
    is_whole(&folder.path().join("result"), &content);
    let sent = point.server.served.bytes.load(Ordering::Relaxed);
    assert!((120_000..600_000).contains(&sent), "{sent} bytes for 120,000 that changed");
    assert!(asked(&point) > 1);
}
