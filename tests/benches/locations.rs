//! What an answer about locations costs: 10,000 boundaries, 1,000 distribution points, on one core.
//!
//! `cargo bench -p spsync-tests --bench locations`. Deciding is measured apart from HTTP: each question is timed, as many as
//! the core gives. Then clients over loopback, each a thread, ask a real server of one thread at 5,000 requests a second. The gate is p99 ≤ 1 ms; with
//! `-- --gate` a miss is an error.

use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use catalog::digest::Sha256Digest;
use dp::library::{Library, Settings};
use dp::locate::{
    self, Boundary, Detail, Fallback, Found, Group, Held, Options, Order, Places, Point, Request,
};
use dp::peers::{DeviceId, Register};
use dp::server::{ContentServer, LocationsAnswer, Locator, ServerLimits};
use jiff::Timestamp;
use tokio::net::TcpListener;

const BOUNDARIES: u32 = 10_000;
const GROUPS: u32 = 500;
const POINTS: u32 = 1_000;
const CONTENTS: u32 = 1_000;
const PEERS: u32 = 10_000;
const GATE: Duration = Duration::from_millis(1);
const RATE: u32 = 5_000;

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % u64::from(below)) as u32
    }
}

fn content(number: u32) -> Sha256Digest {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    Sha256Digest(bytes)
}

/// Subnet `number`: 10.x.y.0/24, and above 65,536 none.
fn address(subnet: u32, host: u32) -> IpAddr {
    IpAddr::V4((0x0a00_0000 + (subnet << 8) + host).into())
}

fn places() -> Places {
    let mut numbers = Numbers(1);
    let boundaries: Vec<(Boundary, Vec<u32>)> = (0..BOUNDARIES)
        .map(|subnet| {
            let text = format!("{}/24", address(subnet, 0));
            let mut groups = vec![1 + subnet % (GROUPS - 1)];
            if subnet % 10 == 0 {
                groups.push(1 + (subnet + 7) % (GROUPS - 1));
            }
            (text.parse().expect("a subnet"), groups)
        })
        .collect();
    let mut groups: Vec<Group> = (0..GROUPS)
        .map(|number| Group {
            name: format!("G{number}"),
            options: Options::default(),
            points: Vec::new(),
            neighbours: (0..4)
                .map(|_| numbers.next(GROUPS))
                .filter(|other| *other != number)
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .map(|other| (other, Fallback::from_minutes(60)))
                .collect(),
        })
        .collect();
    for point in 0..POINTS {
        groups[(1 + point % (GROUPS - 1)) as usize].points.push(point);
    }
    groups[0].points.push(0);
    let points = (0..POINTS)
        .map(|point| Point::new(format!("dp{point}"), format!("http://{}:8530", address(point, 2))));
    let contents: HashMap<_, _> = (0..CONTENTS)
        .map(|number| {
            let held: BTreeMap<u32, Timestamp> = (0..POINTS)
                .filter(|point| (point + number) % 3 != 0)
                .map(|point| (point, Timestamp::UNIX_EPOCH))
                .collect();
            let held = Held {
                size: 5 << 30,
                sha1: None,
                file_name: "install.esd".parse().expect("a name"),
                points: held,
                offered: false,
                private: false,
                cloud: vec!["http://cloud.example/install.esd".to_owned()],
            };
            (content(number), held)
        })
        .collect();
    Places::new(&boundaries, groups, 0, points.collect(), contents)
}

struct Answers {
    places: Places,
    register: Register,
    began: Instant,
    asked: AtomicU32,
}

impl Answers {
    fn found<T>(
        &self,
        client: IpAddr,
        content: Sha256Digest,
        told: impl FnOnce(&Found<'_>, Timestamp) -> T,
    ) -> Option<T> {
        // All clients of the measurement over HTTP have one address; here they come from everywhere.
        let count = self.asked.fetch_add(1, Ordering::Relaxed);
        let client =
            if client.is_loopback() { address(count.wrapping_mul(7_919) % BOUNDARIES, 9) } else { client };
        let now = Timestamp::now();
        let request = Request { client, content, elapsed: Duration::ZERO, order: Order::Client, now };
        let standing = self.places.standing(client);
        let networks = self.places.networks(&standing, dp::peers::NETWORKS);
        let peers = self.register.near(content, client, &networks, self.began.elapsed());
        let found = self.places.find_from(standing, &request, &peers, Detail::InReach)?;
        Some(told(&found, now))
    }
}

impl Locator for Answers {
    fn locate(&self, client: IpAddr, content: Sha256Digest) -> Option<LocationsAnswer> {
        self.found(client, content, locate::answer)
    }

    fn locate_json(&self, client: IpAddr, content: Sha256Digest) -> Option<Vec<u8>> {
        self.found(client, content, locate::json)
    }
}

fn main() {
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let gate = std::env::args().any(|argument| argument == "--gate");
    let questions = if quick { 500 } else { 200_000 };
    let began = Instant::now();
    let answers =
        Answers { places: places(), register: Register::default(), began, asked: AtomicU32::new(0) };
    println!("a snapshot of {BOUNDARIES} boundaries and {POINTS} points, built in {:.1?}", began.elapsed());
    let mut numbers = Numbers(2);
    for peer in 0..PEERS {
        let address = (address(numbers.next(BOUNDARIES), 100), 8533).into();
        let held: Vec<_> = (0..4).map(|_| content(numbers.next(CONTENTS))).collect();
        answers
            .register
            .announce(&DeviceId(format!("d{peer}")), address, &held, Duration::ZERO)
            .expect("there is room");
    }
    let index = timed(questions, |numbers| {
        black_box(answers.places.standing(address(numbers.next(BOUNDARIES), numbers.next(250))));
    });
    report("where a client is", &index);
    let decided = timed(questions, |numbers| {
        let client = address(numbers.next(BOUNDARIES + BOUNDARIES / 10), 10 + numbers.next(80));
        black_box(answers.locate_json(client, content(numbers.next(CONTENTS))).expect("it is known"));
    });
    let mut worst = report("an answer, as JSON", &decided);
    let over_http = http(answers, if quick { 200 } else { 3 * RATE });
    worst = worst.max(report(&format!("over HTTP at {RATE} requests/s, the server on one core"), &over_http));
    println!("gate: p99 of {worst:.1?}, at most {GATE:?}");
    assert!(!gate || worst <= GATE, "the gate is missed");
}

fn timed(questions: u32, mut ask: impl FnMut(&mut Numbers)) -> Vec<Duration> {
    let mut numbers = Numbers(3);
    let one = |_| {
        let began = Instant::now();
        ask(&mut numbers);
        began.elapsed()
    };
    (0..questions).map(one).collect()
}

/// Prints what the times say; answers p99.
fn report(what: &str, times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    let mean = times.iter().sum::<Duration>() / times.len() as u32;
    println!("{what}: mean {mean:.1?}, p50 {:.1?}, p99 {:.1?}, worst {:.1?}", at(0.5), at(0.99), at(1.0));
    at(0.99)
}

/// A server on a thread of its own, one core's worth; and clients on others, which each send their next question when it is due,
/// whether or not the server is busy: being late counts from then.
fn http(answers: Answers, questions: u32) -> Vec<Duration> {
    const CLIENTS: u32 = 8;
    let folder = tempfile::tempdir().expect("a folder");
    let library = Library::open(folder.path(), Settings::default()).expect("a library");
    let limits = ServerLimits { max_connections_per_client: 64, ..ServerLimits::default() };
    let server = ContentServer::new(library, Arc::default(), limits).with_locator(Arc::new(answers));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a socket");
    let server_at = listener.local_addr().expect("an address");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).expect("a socket");
            Arc::new(server).serve(listener, async { drop(stopped.await) }).await;
        });
    });
    let began = Instant::now() + Duration::from_millis(50);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            std::thread::spawn(move || {
                let mut stream = TcpStream::connect(server_at).expect("it listens");
                stream.set_nodelay(true).expect("a socket");
                let mut numbers = Numbers(u64::from(client) + 9);
                let mut times = Vec::new();
                let mut buffer = vec![0; 64 * 1024];
                for question in 0..questions / CLIENTS {
                    let digest = content(numbers.next(CONTENTS));
                    let head = format!("GET /locations/{digest} HTTP/1.1\r\nHost: site\r\n\r\n");
                    let due = began + Duration::from_secs(1) * (question * CLIENTS + client) / RATE;
                    // Late by the answer before is late by the server; who only sleeps too long is late by itself.
                    let wait = due.checked_duration_since(Instant::now());
                    wait.into_iter().for_each(std::thread::sleep);
                    let since = if wait.is_some() { Instant::now() } else { due };
                    stream.write_all(head.as_bytes()).expect("it is read");
                    whole(&mut stream, &mut buffer);
                    times.push(since.elapsed());
                }
                times
            })
        })
        .collect();
    let times = clients.into_iter().flat_map(|client| client.join().expect("a client")).collect();
    let took = began.elapsed();
    println!("{:.0} requests/s were asked and answered", f64::from(questions) / took.as_secs_f64());
    drop(stop);
    serving.join().expect("the server");
    times
}

/// Reads one answer to its end.
fn whole(stream: &mut TcpStream, buffer: &mut [u8]) {
    let mut have = 0;
    loop {
        let more = stream.read(&mut buffer[have..]).expect("it answers");
        assert!(more > 0, "the server has closed");
        have += more;
        let Some(end) = buffer[..have].windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&buffer[..end]).expect("text");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        if have - end - 4 >= length.parse::<usize>().expect("a number") {
            return;
        }
    }
}
