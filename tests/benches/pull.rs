//! Content that a cache lacks: how fast clients get it through a point that pulls, against nginx's `proxy_cache`, in one run.
//!
//! `cargo bench -p spsync-tests --bench pull`, with `-- 3` for three pairs instead of five. An origin (nginx) has one file; a cache (ours
//! or nginx, a process of its own) fetches it for clients that ask for it at once, and has forgotten it before the next
//! run. Ours verifies every piece and the whole by SHA-256 and makes the file durable; nginx verifies nothing. Pieces are known.
//! Measured is the data path: the server of the `dp` crate with an origin that answers at once, without a database.
//!
//! Above a load average of 1.5 nothing is judged. Without nginx nothing is measured.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use catalog::digest::{Checker, Fingerprint, Pieces, Sha256Digest};
use dp::library::{Library, Settings};
use dp::server::{
    ContentServer, Eventually, Offer, Origin, PullLimits, Pulls, Refusal, Servable, ServerLimits,
};
use dp::transfer::web::{Web, WebPolicy};
use dp::transfer::{At, Fetched, Policy, Source, SourceKind};
use support::contest::{Gates, is_root, load_average, noise, percentile, wait_for_port};
use support::free_port;

const MIB: usize = 1 << 20;
/// Clients that want one file at once.
const MANY: usize = 32;
/// The longest that anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--point") {
        point(&arguments[at + 1..]);
        return ExitCode::SUCCESS;
    }
    let quick = !arguments.iter().any(|argument| argument == "--bench");
    if Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_err() {
        println!("skipped: nginx is not installed, and there is nothing to compare with");
        return ExitCode::SUCCESS;
    }
    let pairs =
        arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(if quick { 1 } else { 5 });
    let (large, shared) = if quick { (8 * MIB, 4 * MIB) } else { (256 * MIB, 64 * MIB) };
    let before = load_average();
    let folder = tempfile::tempdir().expect("a folder");
    let stage = Stage::new(folder.path(), &[large, shared]);
    let mut gates = Gates::default();

    let one = stage.pairs(pairs, 0, 1, [Way::Ours, Way::Cache]);
    gates.at_least("one cold client, MiB/s", ratio(&one, |run| run.rate), 0.95);
    stage.pairs(pairs.min(2), 0, 1, [Way::Ours, Way::Locked]);
    let many = stage.pairs(pairs, 1, MANY, [Way::Ours, Way::Locked]);
    gates.at_least("32 clients, MiB/s of each", ratio(&many, |run| run.rate), 2.0);
    let copies = many.iter().chain(&one).map(|(ours, _)| ours.copies).max().unwrap_or_default();
    gates.at_most("upstream copies", copies as f64, 1.0);
    let mut first: Vec<f64> = many.iter().flat_map(|(ours, _)| ours.first.clone()).collect();
    gates.at_most("first byte, p99 ms", percentile(&mut first, 0.99), 20.0);

    gates.judge(quick, before)
}

/// Who stands between the origin and the clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Ours,
    Cache,
    Locked,
}

/// What one run came to.
struct Run {
    /// MiB/s of each client: the file by the time of the last one.
    rate: f64,
    /// Milliseconds until the first byte of each body.
    first: Vec<f64>,
    /// CPU seconds of the cache for each GiB that clients got.
    cpu: f64,
    /// Whole copies that the origin sent.
    copies: usize,
}

/// An origin and both caches.
struct Stage {
    folder: PathBuf,
    files: Vec<Fingerprint>,
    point: Child,
    said: std::cell::RefCell<BufReader<ChildStdout>>,
    origin: Child,
    cache: Child,
    urls: [u16; 4],
    runs: std::cell::Cell<usize>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        for process in [&mut self.point, &mut self.cache, &mut self.origin] {
            let _ = Command::new("kill").args(["-TERM", &process.id().to_string()]).status();
            let _ = process.wait();
        }
    }
}

impl Stage {
    fn new(folder: &Path, sizes: &[usize]) -> Self {
        let root = folder.join("root");
        fs::create_dir_all(&root).expect("a folder");
        let mut files = Vec::new();
        for (number, size) in sizes.iter().enumerate() {
            let bytes = noise(number as u64 + 1, *size);
            let mut checker = Checker::new();
            checker.update(&bytes);
            files.push(checker.into_fingerprint());
            fs::write(root.join(format!("{number}")), bytes).expect("the disk has room");
        }
        let urls = [(); 4].map(|()| free_port(Ipv4Addr::LOCALHOST));
        let [origin_port, cache_port, locked_port, point_port] = urls;
        let user = if is_root() { "user root;" } else { "" };
        let common = "default_type application/octet-stream; sendfile on; tcp_nopush on; gzip off; keepalive_requests 1000000;";
        let head = |name: &str| {
            format!(
                "{user} daemon off; worker_processes auto; pid {0}/{name}.pid; error_log {0}/{name}.error; events {{ worker_connections 4096; }}\n",
                folder.display()
            )
        };
        let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {}/{kind};", folder.display()))
            .concat();
        let origin = format!(
            "{}http {{ {common} {temp} access_log {}/origin.log; server {{ listen 127.0.0.1:{origin_port} reuseport; root {}; }} }}",
            head("origin"),
            folder.display(),
            root.display()
        );
        let server = |port: u16, zone: &str, more: &str| {
            format!(
                "server {{ listen 127.0.0.1:{port} reuseport; location / {{ proxy_pass http://127.0.0.1:{origin_port}; \
                 proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_cache {zone}; proxy_cache_valid 200 1h; \
                 proxy_cache_key $uri$is_args$args; {more} }} }}"
            )
        };
        let zone = |zone: &str| {
            format!(
                "proxy_cache_path {0}/{zone} levels=1:2 keys_zone={zone}:10m max_size=4g use_temp_path=off;",
                folder.display()
            )
        };
        let lock = "proxy_cache_lock on; proxy_cache_lock_timeout 120s; proxy_cache_lock_age 120s;";
        let cache = format!(
            "{}http {{ {common} {temp} access_log off; {}{} {} {} }}",
            head("cache"),
            zone("plain"),
            zone("locked"),
            server(cache_port, "plain", ""),
            server(locked_port, "locked", lock)
        );
        let start = |name: &str, text: &str| {
            let path = folder.join(format!("{name}.conf"));
            fs::write(&path, text).expect("it is written");
            Command::new("nginx").arg("-c").arg(path).stderr(Stdio::null()).spawn().expect("nginx starts")
        };
        let (origin, cache) = (start("origin", &origin), start("cache", &cache));
        let mut point = Command::new(std::env::current_exe().expect("a path"));
        point.args(["--point", &point_port.to_string(), &origin_port.to_string()]).arg(folder);
        for number in 0..files.len() {
            point.arg(root.join(number.to_string()));
        }
        let mut point = point.stdout(Stdio::piped()).spawn().expect("it starts");
        let said = BufReader::new(point.stdout.take().expect("it is piped"));
        for port in urls {
            wait_for_port(port);
        }
        let (said, runs) = (std::cell::RefCell::new(said), std::cell::Cell::new(0));
        Self { folder: folder.to_owned(), files, point, said, origin, cache, urls, runs }
    }

    /// Runs both ways in turn, the order alternating; one run of each before that counts for nothing.
    fn pairs(&self, pairs: usize, file: usize, clients: usize, ways: [Way; 2]) -> Vec<(Run, Run)> {
        ways.into_iter().for_each(|way| drop(self.run(way, file, clients)));
        let all: Vec<(Run, Run)> = (0..pairs)
            .map(|pair| {
                let second = (pair % 2 == 1).then(|| self.run(ways[1], file, clients));
                let first = self.run(ways[0], file, clients);
                (first, second.unwrap_or_else(|| self.run(ways[1], file, clients)))
            })
            .collect();
        let shown = |way: Way, runs: Vec<&Run>| {
            let median = |value: fn(&Run) -> f64| {
                percentile(&mut runs.iter().map(|run| value(run)).collect::<Vec<_>>(), 0.5)
            };
            let mut first: Vec<f64> = runs.iter().flat_map(|run| run.first.clone()).collect();
            println!(
                "{clients:>2} clients of {} MiB, {way:?}: {:.0} MiB/s each, first byte p50 {:.1} ms p99 {:.1} ms, {:.3} CPU-s/GiB, {} copies",
                self.files[file].size >> 20,
                median(|run| run.rate),
                percentile(&mut first, 0.5),
                percentile(&mut first, 0.99),
                median(|run| run.cpu),
                runs.iter().map(|run| run.copies).max().unwrap_or_default()
            );
        };
        shown(ways[0], all.iter().map(|pair| &pair.0).collect());
        shown(ways[1], all.iter().map(|pair| &pair.1).collect());
        println!("   ratio of CPU-s/GiB: {:.2}", ratio(&all, |run| run.cpu));
        all
    }

    fn run(&self, way: Way, file: usize, clients: usize) -> Run {
        let [_, cache, locked, point] = self.urls;
        let number = self.runs.replace(self.runs.get() + 1);
        let print = &self.files[file];
        let (port, path) = match way {
            Way::Ours => (point, format!("/content/{}", print.sha256)),
            Way::Cache => (cache, format!("/{file}?{number}")),
            Way::Locked => (locked, format!("/{file}?{number}")),
        };
        let log = self.folder.join("origin.log");
        fs::write(&log, "").expect("it is ours");
        let process = if way == Way::Ours { self.point.id() } else { self.cache.id() };
        let (worked, barrier) = (cpu_of(process), Arc::new(Barrier::new(clients)));
        let asking: Vec<_> = (0..clients)
            .map(|_| {
                let (path, barrier, size) = (path.clone(), barrier.clone(), print.size);
                std::thread::spawn(move || get(port, &path, size, &barrier))
            })
            .collect();
        let got: Vec<(f64, f64)> =
            asking.into_iter().map(|one| one.join().expect("a client gets all")).collect();
        let last = got.iter().map(|(_, all)| *all).fold(0.0, f64::max);
        if way == Way::Ours {
            // Until it is durable, and forgotten.
            let mut line = String::new();
            self.said.borrow_mut().read_line(&mut line).expect("the point lives");
            assert_eq!(line.trim(), "stored");
        } else {
            for zone in ["plain", "locked"] {
                for entry in fs::read_dir(self.folder.join(zone)).expect("a cache").flatten() {
                    let _ = fs::remove_dir_all(entry.path());
                }
            }
        }
        let size = print.size as f64;
        let logged = fs::read_to_string(&log).expect("it is there");
        Run {
            rate: size / MIB as f64 / (last / 1_000.0),
            first: got.iter().map(|(first, _)| *first).collect(),
            cpu: (cpu_of(process) - worked) / (size * clients as f64 / (1_u64 << 30) as f64),
            copies: logged.lines().filter(|line| line.contains("\"GET ")).count(),
        }
    }
}

/// One client: milliseconds until the first byte of the body, and until the last.
fn get(port: u16, path: &str, size: u64, barrier: &Barrier) -> (f64, f64) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time");
    barrier.wait();
    let began = Instant::now();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").expect("it is sent");
    let (mut head, mut buffer) = (Vec::new(), vec![0; 256 * 1024]);
    let mut body = loop {
        let count = stream.read(&mut buffer).expect("an answer");
        assert!(count > 0, "the connection has ended");
        head.extend_from_slice(&buffer[..count]);
        if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head[..end]));
            break (head.len() - end - 4) as u64;
        }
    };
    let mut first = (body > 0).then(|| began.elapsed());
    while body < size {
        let count = stream.read(&mut buffer).expect("the body");
        assert!(count > 0, "the body was cut");
        first.get_or_insert_with(|| began.elapsed());
        body += count as u64;
    }
    let millis = |time: Duration| time.as_secs_f64() * 1_000.0;
    (millis(first.unwrap_or_default()), millis(began.elapsed()))
}

/// The median of the ratios, pair by pair.
fn ratio(pairs: &[(Run, Run)], of: impl Fn(&Run) -> f64) -> f64 {
    percentile(&mut pairs.iter().map(|(ours, other)| of(ours) / of(other)).collect::<Vec<_>>(), 0.5)
}

/// CPU seconds of a process and its children.
fn cpu_of(process: u32) -> f64 {
    let mut all = VecDeque::from([process]);
    let mut ticks = 0;
    while let Some(process) = all.pop_front() {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        ticks += [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum::<u64>();
        let children =
            fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
        all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
    }
    ticks as f64 / 100.0
}

/// Our cache, in a process of its own: it has forgotten a content as soon as it is stored, and says so.
fn point(arguments: &[String]) {
    let [port, origin, folder, files @ ..] = arguments else { panic!("PORT ORIGIN FOLDER FILE…") };
    let offers = files.iter().enumerate().map(|(number, path)| {
        let mut checker = Checker::new();
        checker.update(&fs::read(path).expect("a file"));
        let print = checker.into_fingerprint();
        let policy = WebPolicy {
            allow_networks: vec!["127.0.0.0/8".parse().expect("a network")],
            ..WebPolicy::default()
        };
        let source = Source {
            kind: SourceKind::DistributionPoint,
            name: "origin".to_owned(),
            at: At::Url(format!("http://127.0.0.1:{origin}/{number}").parse().expect("an address")),
            web: Arc::new(Web::new(policy).expect("connections")),
        };
        let servable =
            Servable::new(print.size, Some(print.sha1), format!("{number}.esd").parse().expect("a name"));
        let pieces = Pieces::new(print.size, print.pieces.clone());
        (print.sha256, Offer { servable, sources: vec![source], pieces, rate: None })
    });
    let library = Library::open(&Path::new(folder).join("library"), Settings::default()).expect("a library");
    let said = Arc::new(Said { offers: offers.collect(), library: library.clone() });
    let limits = PullLimits { wait: PATIENCE, ..PullLimits::default() };
    let pulls = Arc::new(Pulls::new(library.clone(), said, limits, Policy::default()));
    let limits = ServerLimits { max_connections_per_client: 4_096, ..ServerLimits::default() };
    let server = Arc::new(ContentServer::new(library, Arc::default(), limits).with_pulls(pulls));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await.expect("a port");
        server.serve(listener, std::future::pending()).await;
    });
}

struct Said {
    offers: Vec<(Sha256Digest, Offer)>,
    library: Library,
}

impl Origin for Said {
    fn find(&self, content: Sha256Digest) -> Eventually<'_, Result<Option<Offer>, Refusal>> {
        let found = self.offers.iter().find(|(sha256, _)| *sha256 == content).map(|(_, offer)| offer.clone());
        Box::pin(async move { Ok(found) })
    }

    fn make_room(&self, _: u64) -> Eventually<'_, Result<(), Refusal>> {
        Box::pin(async { Ok(()) })
    }

    fn stored<'s>(&'s self, content: Sha256Digest, _: &'s Offer, fetched: &'s Fetched) -> Eventually<'s, ()> {
        assert!(!fetched.already_there, "it was forgotten");
        self.library.remove(content).expect("it can be removed");
        // Said when the arrival is over, so that the next question begins another.
        tokio::spawn(async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            println!("stored");
        });
        Box::pin(async {})
    }

    fn used(&self, _: Sha256Digest) {}
}
