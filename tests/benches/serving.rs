//! What a distribution point sends: throughput, processor time and memory against nginx that serves the same bytes, in one run.
//!
//! `SPSYNC_BENCH_DP=FOLDER cargo bench --workspace --bench serving`, with `-- 3` for three pairs instead of five. FOLDER has the
//! harness: `dpbench.py`, `dpload.c` and `nginx-ref.conf` (a tuned nginx: sendfile, two workers, no log). Measured is the
//! server of the `dp` crate in a process of its own, with the limits of connections raised, all in the page cache.
//!
//! Above a load average of 1.5 nothing is judged. Without the harness or nginx nothing is measured.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use catalog::digest::{Checker, Digests, Sha256Digest, Wanted};
use dp::library::{Library, Settings};
use dp::server::{ContentServer, Servable, ServerLimits, Shelf};
use serde_json::Value;
use support::contest::{Gates, is_root, load_average, noise, percentile, wait_for_port};
use support::free_port;

const MIB: usize = 1 << 20;
const SMALL: usize = 4096;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--point") {
        point(&arguments[at + 1..]);
        return ExitCode::SUCCESS;
    }
    let Some(harness) = std::env::var_os("SPSYNC_BENCH_DP").map(PathBuf::from) else {
        println!("skipped: SPSYNC_BENCH_DP names no folder with dpbench.py");
        return ExitCode::SUCCESS;
    };
    if Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_err() {
        println!("skipped: nginx is not installed, and there is nothing to compare with");
        return ExitCode::SUCCESS;
    }
    let quick = !arguments.iter().any(|argument| argument == "--bench");
    let pairs: usize =
        arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(if quick { 1 } else { 5 });
    let load = load_average();
    let folder = tempfile::tempdir().expect("a folder");
    let stage = Stage::new(folder.path(), &harness, if quick { 64 * MIB } else { 1024 * MIB });
    let samples = stage.run(&harness, pairs, quick);
    let mut gates = Gates::default();
    let ratio = |load: &str, figure: &str| {
        median(&samples, load, |ours, theirs| {
            let theirs = theirs[figure].as_f64().filter(|theirs| *theirs > 0.0)?;
            Some(ours[figure].as_f64()? / theirs)
        })
    };
    gates.at_least("one stream, throughput", ratio("single", "mib_s"), 1.2);
    gates.at_most("one stream, CPU-s/GiB", ratio("single", "cpu_gib"), 0.75);
    gates.at_least("64 streams, throughput", ratio("agg", "mib_s"), 1.1);
    gates.at_most("64 streams, CPU-s/GiB", ratio("agg", "cpu_gib"), 0.95);
    gates.at_most("64 streams, first byte p99", ratio("agg", "ttfb_ms_p99"), 0.7);
    gates.at_least("ranges, requests/s", ratio("range", "req_s"), 1.25);
    gates.at_most("ranges, CPU-s/GiB", ratio("range", "cpu_gib"), 0.9);
    gates.at_least("4 KiB, requests/s", ratio("small", "req_s"), 1.0);
    gates.at_most(
        "1,000 slow clients, RSS in MiB",
        median(&samples, "slow", |ours, _| ours["rss"].as_f64()),
        40.0,
    );
    gates.at_most("1,000 slow clients, kernel memory", ratio("slow", "kmem"), 0.35);
    gates.judge(quick, load)
}

/// The median over all pairs of a load.
fn median(samples: &Value, load: &str, figure: impl Fn(&Value, &Value) -> Option<f64>) -> f64 {
    let pairs = samples[load].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut all: Vec<f64> = pairs.iter().filter_map(|pair| figure(&pair[0], &pair[1])).collect();
    percentile(&mut all, 0.5)
}

/// Both servers, with the same bytes.
struct Stage {
    folder: PathBuf,
    point: Child,
    nginx: Child,
    ports: [u16; 2],
    names: [Sha256Digest; 2],
}

impl Drop for Stage {
    fn drop(&mut self) {
        for process in [&mut self.point, &mut self.nginx] {
            let _ = Command::new("kill").args(["-TERM", &process.id().to_string()]).status();
            let _ = process.wait();
        }
    }
}

impl Stage {
    fn new(folder: &Path, harness: &Path, size: usize) -> Self {
        let ports = [(); 2].map(|()| free_port(Ipv4Addr::LOCALHOST));
        let root = folder.join("root");
        fs::create_dir_all(&root).expect("a folder");
        let library = Library::open(&folder.join("library"), Settings::default()).expect("a library");
        let names = [("large", size), ("small", SMALL)].map(|(name, size)| {
            let bytes = noise(size as u64, size);
            fs::write(root.join(name), &bytes).expect("the disk has room");
            store(&library, &bytes)
        });
        let text = fs::read_to_string(harness.join("nginx-ref.conf")).expect("the harness has one");
        let mut text = text
            .replace("@ROOT@", &root.display().to_string())
            .replace("@PORT@", &ports[1].to_string())
            .replace("@PID@", &folder.join("nginx.pid").display().to_string());
        text.insert_str(0, if is_root() { "user root; daemon off;\n" } else { "daemon off;\n" });
        fs::write(folder.join("nginx.conf"), text).expect("the disk has room");
        let nginx =
            Command::new("nginx").arg("-c").arg(folder.join("nginx.conf")).stderr(Stdio::null()).spawn();
        let mut point = Command::new(std::env::current_exe().expect("a path"));
        point
            .arg("--point")
            .arg(ports[0].to_string())
            .arg(folder.join("library"))
            .args(names.map(|name| name.to_string()));
        let (nginx, point) = (nginx.expect("nginx starts"), point.spawn().expect("it starts"));
        ports.into_iter().for_each(wait_for_port);
        Self { folder: folder.to_owned(), point, nginx, ports, names }
    }

    fn run(&self, harness: &Path, pairs: usize, quick: bool) -> Value {
        let [ours, theirs] = self.ports;
        let file = |name: Sha256Digest| format!("http://127.0.0.1:{ours}/content/{name}");
        let json = self.folder.join("samples.json");
        let mut bench = Command::new("python3");
        bench.arg(harness.join("dpbench.py")).args(["--a-name", "spsync", "--pairs", &pairs.to_string()]);
        bench.args(["--a", &file(self.names[0]), "--a-small", &file(self.names[1])]);
        bench.args(["--b", &format!("http://127.0.0.1:{theirs}/large")]);
        bench.args(["--b-small", &format!("http://127.0.0.1:{theirs}/small")]);
        bench.args(["--a-pid", &self.point.id().to_string(), "--b-pid", &self.nginx.id().to_string()]);
        if quick {
            bench.args(["--gib", "0.25", "--ranges", "500", "--smalls", "2000", "--slow", "0"]);
        }
        let ran = bench.arg("--json").arg(&json).status().expect("python3 is installed");
        assert!(ran.success(), "the harness has failed");
        let text = fs::read(json).expect("it was written");
        serde_json::from_slice::<Value>(&text).expect("it is JSON")["samples"].take()
    }
}

fn store(library: &Library, bytes: &[u8]) -> Sha256Digest {
    let mut checker = Checker::new();
    checker.update(bytes);
    let sha256 = checker.into_fingerprint().sha256;
    let digests = Digests { sha256: Some(sha256), sha1: None };
    let wanted = Wanted::new(bytes.len() as u64, digests).expect("it has a digest");
    let mut staged = library.stage(&wanted).expect("the disk has room");
    staged.append(bytes).expect("the disk has room");
    let verified = staged.check(&wanted).expect("it is what it is");
    staged.commit(verified).expect("the disk has room");
    sha256
}

/// Ours, in a process of its own: `PORT LIBRARY DIGEST…`.
fn point(arguments: &[String]) {
    let [port, folder, digests @ ..] = arguments else { panic!("PORT LIBRARY DIGEST…") };
    let library = Library::open(Path::new(folder), Settings::default()).expect("a library");
    let mut shelf = Shelf::default();
    for digest in digests {
        let digest: Sha256Digest = digest.parse().expect("a digest");
        let size = library.open_content(digest).expect("it can be read").expect("it is there").size;
        shelf.offer(digest, Servable::new(size, None, "part.esd".parse().expect("a name")));
    }
    let limits = ServerLimits {
        max_connections: 16_384,
        max_connections_per_client: 16_384,
        write_stall: Duration::from_secs(60),
        ..ServerLimits::default()
    };
    let server = Arc::new(ContentServer::new(library, Arc::new(ArcSwap::from_pointee(shelf)), limits));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await.expect("a port");
        server.serve(listener, std::future::pending()).await;
    });
}
