//! How soon a distribution point serves again: 100,000 files in its library, from the start of the program to the first
//! content answered.
//!
//! `cargo build --release --bins && cargo bench -p spsync-tests --bench restart` (in debug: `cargo test --bench restart`).
//! The data lies in `TMPDIR`, about 850 MB of small files, and goes away afterwards. `SPSYNC_BENCH_FILES` says how many.
//! As root each start is also measured with nothing in the page cache. The gate is 5 s; with `-- --gate` a miss is an error.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use catalog::digest::{Checker, Fingerprint};
use catalog::id::PackageId;
use jiff::Timestamp;
use schema::Store;
use schema::assignment::AssignedWork;
use schema::points::{ContentState, Work};
use spsync::points::wire::{Assigned, AssignedFile, Assignment};
use support::{Seeded, http, program};

const GATE: Duration = Duration::from_secs(5);
/// Files of one package.
const A_PACKAGE: u64 = 100;

fn files() -> u64 {
    std::env::var("SPSYNC_BENCH_FILES").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000)
}

/// What is stored beside a content: the form of `dp/src/library/sidecar.rs`.
fn side_file(print: &Fingerprint) -> Vec<u8> {
    let mut bytes = b"SPSYNCH1".to_vec();
    bytes.extend(print.size.to_le_bytes());
    bytes.extend(print.sha1.0);
    bytes.extend(print.sha256.0);
    bytes.extend((print.blocks.len() as u32).to_le_bytes());
    bytes.extend((print.pieces.len() as u32).to_le_bytes());
    print.blocks.iter().chain(&print.pieces).for_each(|hash| bytes.extend(hash.0));
    let check = catalog::digest::Sha256Digest::of(&bytes);
    bytes.extend(check.0);
    bytes
}

/// Writes a library without syncing: it has to survive nothing.
fn fill(library: &Path) -> Vec<Assigned> {
    for room in ["blobs", "hashes", "staging", "quarantine"] {
        for number in 0..=255_u8 {
            let folder = if matches!(room, "blobs" | "hashes") {
                format!("{room}/{number:02x}")
            } else {
                room.to_owned()
            };
            fs::create_dir_all(library.join(folder)).expect("a folder");
        }
    }
    let mut packages: Vec<Assigned> = Vec::new();
    for number in 0..files() {
        let content = Seeded::new(number, 600 + number % 1_000).bytes();
        let mut checker = Checker::new();
        checker.update(&content);
        let print = checker.into_fingerprint();
        let name = print.sha256.to_string();
        fs::write(library.join("blobs").join(&name[..2]).join(&name), &content).expect("a file");
        fs::write(library.join("hashes").join(&name[..2]).join(&name), side_file(&print)).expect("a file");
        if number % A_PACKAGE == 0 {
            packages.push(Assigned {
                package: format!("XYZ{:05X}", number / A_PACKAGE + 1).parse().expect("an id"),
                name: format!("package {number}"),
                version: 1,
                work: Work::Send,
                order: number + 1,
                files: Vec::new(),
                leaving: Vec::new(),
                hold: false,
            });
        }
        packages.last_mut().expect("one was just begun").files.push(AssignedFile {
            name: format!("{number}.esd").parse().expect("a name"),
            sha256: print.sha256,
            sha1: print.sha1,
            size: print.size,
            private: false,
        });
    }
    packages
}

async fn record(data: &Path, packages: Vec<Assigned>) {
    let store = Store::open(&data.join("spsync.db"), 1).expect("a database");
    let now = Timestamp::now();
    let ids: Vec<PackageId> = packages.iter().map(|package| package.package.clone()).collect();
    let assignment =
        Assignment { point: "lyon".to_owned(), site: "XYZ".to_owned(), packages, ..Assignment::default() };
    let body = serde_json::to_string(&assignment).expect("JSON");
    let recorded = store.write(move |w| {
        w.record_assignment("\"bench\"", &body, &ids, now)?;
        for package in assignment.packages {
            for file in package.files {
                w.record_content(file.sha256, file.sha1, file.size, false, now)?;
            }
            let (package, order) = (package.package, package.order);
            w.record_assigned_work(&AssignedWork {
                package,
                order,
                state: ContentState::Success,
                problem: None,
            })?;
        }
        Ok(())
    });
    recorded.await.expect("it is recorded");
    store.close().expect("it closes");
}

/// Ends with the program.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One start: how long until the content is answered.
async fn start(config: &Path, url: &str, expected: &[u8]) -> Duration {
    let began = Instant::now();
    let child = Command::new(program())
        .arg("--config")
        .arg(config)
        .arg("serve")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let _running = Running(child);
    let client = http();
    while began.elapsed() < Duration::from_secs(120) {
        if let Ok(answer) = client.get(url).send().await {
            assert_eq!(answer.status(), 200, "it is listened to only when everything can be served");
            assert_eq!(answer.bytes().await.expect("its bytes"), expected);
            return began.elapsed();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never served");
}

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("point");
    let began = Instant::now();
    let packages = fill(&data.join("content"));
    let last = packages.last().and_then(|package| package.files.last()).expect("files").clone();
    record(&data, packages).await;
    println!("{} files made in {:.1?}", files(), began.elapsed());
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let config = folder.path().join("config.toml");
    let text = format!(
        "[site]\ndata_dir = {data:?}\n[server]\nlisten = [\"127.0.0.1:{port}\"]\n[admin]\nsocket = \"\"\nlisten = \"\"\n\
         [dp]\nname = \"lyon\"\nrole = \"standard\"\nsite = \"http://127.0.0.1:1\"\n[download]\nmin_free = \"0\"\n"
    );
    fs::write(&config, text).expect("the configuration is written");
    let number = files() - 1;
    let expected = Seeded::new(number, 600 + number % 1_000).bytes();
    let url = format!("http://127.0.0.1:{port}/content/{}", last.sha256);
    let mut warm: Vec<Duration> = Vec::new();
    for _ in 0..5 {
        warm.push(start(&config, &url, &expected).await);
    }
    warm.sort();
    println!("warm: median {:.2?} of {warm:.2?}", warm[2]);
    let mut slowest = warm[4];
    // Only root may empty the cache, and what is dirty has to be written first.
    let emptied = || {
        let synced = Command::new("timeout").args(["60", "sync"]).status();
        synced.is_ok_and(|status| status.success()) && fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
    };
    for _ in 0..2 {
        if emptied() {
            let cold = start(&config, &url, &expected).await;
            println!("cold: {cold:.2?}");
            slowest = slowest.max(cold);
        }
    }
    println!("gate: at most {GATE:?}, the slowest start took {slowest:.2?}");
    if std::env::args().any(|arg| arg == "--gate") && slowest > GATE {
        std::process::exit(1);
    }
}
