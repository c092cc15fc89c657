//! The tools that people use, through a network that breaks.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use crate::stage::{self, Point};

const SIZE: usize = 3 << 20;

/// Stands before a server and cuts the first connection after some bytes of the answer.
struct Cutter {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<u8>>>,
}

impl Cutter {
    fn before(server: SocketAddr, after: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        std::thread::spawn(move || {
            let mut left = after;
            for client in listener.incoming().map_while(Result::ok) {
                let (mut from, mut to) = (TcpStream::connect(server).unwrap(), client.try_clone().unwrap());
                let (mut asking, mut asked, log) = (client, from.try_clone().unwrap(), log.clone());
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(count @ 1..) = asking.read(&mut buffer) {
                        log.lock().unwrap().extend_from_slice(&buffer[..count]);
                        if asked.write_all(&buffer[..count]).is_err() {
                            break;
                        }
                    }
                    let _ = asked.shutdown(Shutdown::Both);
                });
                let budget = std::mem::replace(&mut left, usize::MAX);
                std::thread::spawn(move || {
                    let (mut buffer, mut budget) = (vec![0; 64 * 1024], budget);
                    while let Ok(count @ 1..) = from.read(&mut buffer) {
                        let count = count.min(budget);
                        budget -= count;
                        if to.write_all(&buffer[..count]).is_err() || budget == 0 {
                            break;
                        }
                    }
                    let _ = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
                });
            }
        });
        Self { address, asked }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Everything that was asked for since the last time.
    fn asked(&self) -> String {
        String::from_utf8(std::mem::take(&mut self.asked.lock().unwrap())).unwrap().to_ascii_lowercase()
    }
}

/// Runs a tool without the settings of whoever runs the tests; `None`, and a line, where it is not installed.
pub fn run(test: &str, tool: &str, folder: &Path, arguments: &[&str]) -> Option<Output> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|folder| folder.join(tool).exists()) {
        println!("skipped: {test}: no {tool}");
        return None;
    }
    // A tool that waits for ever shall fail its test, not keep everybody waiting.
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=5", "60", tool])
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("PATH", path)
        .env("HOME", folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    match stage::spawn(&mut command).and_then(std::process::Child::wait_with_output) {
        Ok(output) => Some(output),
        Err(error) => panic!("{tool}: {error}"),
    }
}

/// The first run is cut and fails; the second one asks for the rest alone, and the result is the file.
fn resumes(test: &str, tool: &str, arguments: &[&str]) {
    let point = Point::start();
    let content = point.add(1, SIZE);
    let cutter = Cutter::before(point.address, 1_000_000);
    let folder = tempfile::tempdir().unwrap();
    let url = cutter.url(&content.path());
    let arguments = [arguments, &[&*url]].concat();
    let Some(first) = run(test, tool, folder.path(), &arguments) else { return };
    assert!(!first.status.success(), "{tool} believes a file that was cut");
    let file = folder.path().join(content.sha256.to_string());
    let have = fs::metadata(&file).unwrap().len();
    assert!(have > 0, "{tool} kept nothing");
    assert!(!cutter.asked().contains("\r\nrange:"), "nothing was there to resume");

    let second = run(test, tool, folder.path(), &arguments).unwrap();
    assert!(second.status.success(), "{tool}: {second:?}");
    assert!(fs::read(&file).unwrap() == content.bytes, "{tool} put another file together");
    let asked = cutter.asked();
    assert!(asked.contains("\r\nrange: bytes="), "{tool} did not resume: {asked}");
}

#[test]
fn curl_resumes() {
    resumes("curl_resumes", "curl", &["-sS", "-C", "-", "-O"]);
}

#[test]
fn wget_resumes() {
    resumes("wget_resumes", "wget", &["-nv", "-c", "--tries=1"]);
}

#[test]
fn aria2c_resumes() {
    let common = ["--no-conf", "-q", "-c", "--max-tries=1", "--file-allocation=none", "-x1", "-s1"];
    resumes("aria2c_resumes", "aria2c", &common);
}

#[test]
fn aria2c_takes_parts_at_once_and_checks_them() {
    let point = Point::start();
    let content = point.add(2, 6 << 20);
    let folder = tempfile::tempdir().unwrap();
    let checksum = format!("--checksum=sha-256={}", content.sha256);
    let arguments = [
        "--no-conf",
        "-q",
        "--file-allocation=none",
        "-x4",
        "-s4",
        "-k1M",
        &checksum,
        "-o",
        "file",
        &point.url(&content.path()),
    ];
    let Some(done) = run("aria2c_takes_parts_at_once", "aria2c", folder.path(), &arguments) else { return };
    assert!(done.status.success(), "{done:?}");
    assert!(fs::read(folder.path().join("file")).unwrap() == content.bytes);
    let requests = point.server.served.requests.load(std::sync::atomic::Ordering::Relaxed);
    assert!(requests >= 4, "it asked only {requests} times");
}

#[test]
fn curl_asks_for_two_parts() {
    let point = Point::start();
    let content = point.add(3, 300_001);
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["-sS", "-f", "-r", "0-0,5-9", &point.url(&content.path())];
    let Some(done) = run("curl_asks_for_two_parts", "curl", folder.path(), &arguments) else { return };
    assert!(done.status.success(), "{done:?}");
    let boundary = format!("--spsync-{}", &content.sha256.to_string()[..32]);
    let part = |range: &str| {
        format!(
            "\r\n{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {range}/300001\r\n\r\n"
        )
    };
    let expected = [
        part("0-0").as_bytes(),
        &content.bytes[..1],
        part("5-9").as_bytes(),
        &content.bytes[5..10],
        format!("\r\n{boundary}--\r\n").as_bytes(),
    ]
    .concat();
    assert!(done.stdout == expected, "{:?}", String::from_utf8_lossy(&done.stdout));
}

#[test]
fn a_complete_file_is_not_fetched_again() {
    let point = Point::start();
    let content = point.add(4, SIZE);
    let folder = tempfile::tempdir().unwrap();
    let url = point.url(&content.path());
    let arguments = ["-nv", "-N", &*url];
    let Some(first) = run("a_complete_file", "wget", folder.path(), &arguments) else { return };
    assert!(first.status.success(), "{first:?}");
    let again = run("a_complete_file", "wget", folder.path(), &arguments).unwrap();
    assert!(again.status.success(), "{again:?}");
    let bytes = point.server.served.bytes.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(bytes, SIZE as u64, "the date and size of the copy were enough");
}

/// A tool that is to go on with a file that is complete asks for what comes after its end, and takes 416 for that.
fn is_content_with_what_is_complete(test: &str, tool: &str, arguments: &[&str]) {
    let point = Point::start();
    let content = point.add(5, 300_001);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(content.sha256.to_string());
    fs::write(&file, &content.bytes).unwrap();
    let cutter = Cutter::before(point.address, usize::MAX);
    let url = cutter.url(&content.path());
    let Some(done) = run(test, tool, folder.path(), &[arguments, &[&*url]].concat()) else { return };
    assert!(done.status.success(), "{tool}: {done:?}");
    assert!(fs::read(&file).unwrap() == content.bytes);
    let asked = cutter.asked();
    assert!(asked.contains("\r\nrange: bytes=300001-"), "{asked}");
    assert_eq!(point.sent(), 0, "{tool} had it all");
}

#[test]
fn curl_goes_on_with_a_complete_file() {
    // With `-f` it takes 416 for an error: the recipe of docs/TOOLS.md asks for the status.
    is_content_with_what_is_complete("curl_goes_on_with_a_complete_file", "curl", &["-sS", "-C", "-", "-O"]);
}

#[test]
fn wget_goes_on_with_a_complete_file() {
    is_content_with_what_is_complete("wget_goes_on_with_a_complete_file", "wget", &["-nv", "-c"]);
}

#[test]
fn wget_looks_without_fetching() {
    let point = Point::start();
    let content = point.add(6, SIZE);
    let folder = tempfile::tempdir().unwrap();
    let look = |path: &str| {
        run("wget_looks_without_fetching", "wget", folder.path(), &["-nv", "--spider", &point.url(path)])
    };
    let Some(there) = look(&content.path()) else { return };
    assert!(there.status.success(), "{there:?}");
    let absent = look(&format!("/content/{}", "0".repeat(64))).unwrap();
    assert_eq!(absent.status.code(), Some(8), "{absent:?}");
    assert_eq!((point.sent(), fs::read_dir(folder.path()).unwrap().count()), (0, 0));
}

#[test]
fn curl_asks_in_older_and_odder_ways() {
    let point = Point::start();
    let content = point.add(7, 300_001);
    let url = point.url(&content.path());
    let folder = tempfile::tempdir().unwrap();
    let ways: [&[&str]; 4] = [
        &["--http1.0"],
        &["-H", "Expect: 100-continue"],
        &["-H", "Expect: nothing-that-we-know"],
        &["-x", &format!("http://{}", point.address)], // as of a proxy, with the whole address
    ];
    for way in ways {
        let arguments = [&["-sS", "-f"], way, &[&*url]].concat();
        let test = "curl_asks_in_older_and_odder_ways";
        let Some(done) = run(test, "curl", folder.path(), &arguments) else { return };
        assert!(done.status.success() && done.stdout == content.bytes, "{way:?}: {}", done.status);
    }
}
