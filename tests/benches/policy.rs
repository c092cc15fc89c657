//! What policies and checks cost: 10,000 devices of one site.
//!
//! `cargo bench -p spsync-tests --bench policy`. 10,000 enrolled devices ask over loopback, each with its key, at 1,000
//! requests a second; one of ten has the policy already. Then `deploy check` over all of them. The gates: p99 ≤ 50 ms, the
//! check ≤ 2 s, and at most 300 MiB of memory of this process, devices included. With `-- --gate` a miss is an error.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use catalog::digest::Sha256Digest;
use dp::peers::DeviceId;
use dp::server::{ContentServer, ServerLimits};
use serde_json::{Value, json};
use spsync::admin::{self, Envelope, Event};
use spsync::config::{Loaded, Settings};
use spsync::device_plane::{self, DeviceService};
use spsync::keys::Secret;
use spsync::plane::door::Holder;
use spsync::site::Site;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const DEVICES: u32 = 10_000;
const COLLECTIONS: u32 = 50;
const DEPLOYMENTS: u32 = 20;
const RATE: u32 = 1_000;
const CLIENTS: u32 = 16;

fn name(device: u32) -> String {
    format!("pc-{device:05}")
}

async fn asked(site: &Arc<Site>, request: Value) -> Value {
    let request = serde_json::from_value(request).expect("a request");
    let (events, mut inbox) = tokio::sync::mpsc::channel(64);
    let envelope = Envelope { request, dry_run: false, no_wait: false };
    admin::answer(site, envelope, "bench", events).await;
    while let Some(event) = inbox.recv().await {
        match event {
            Event::Done { body, .. } => return body,
            Event::Failed { problem } => panic!("{problem}"),
            Event::Task { .. } => {}
        }
    }
    panic!("no answer")
}

/// A site with devices in 50 collections, and 20 deployments to some of them.
async fn site(folder: &std::path::Path) -> (Arc<Site>, Vec<String>) {
    let mut settings = Settings::default();
    settings.site.data_dir = folder.join("site");
    settings.download.min_free = 0;
    let site = Site::open(Loaded::from(settings)).await.expect("a site");
    for collection in 0..COLLECTIONS {
        let of = |device: &u32| device % COLLECTIONS == collection || device % 7 == collection;
        let devices: Vec<String> = (0..DEVICES).filter(of).map(name).collect();
        let collection = format!("ring {collection}");
        asked(&site, json!({"verb": "software", "action": "collection-create", "name": collection})).await;
        let change = json!({"verb": "software", "action": "collection-change", "name": collection, "devices": devices, "add": true});
        asked(&site, change).await;
    }
    for number in 0..DEPLOYMENTS {
        let sequence = format!("sequence {number}");
        asked(&site, json!({"verb": "ts", "action": "create", "name": sequence, "upgrade": false})).await;
        for step in 0..20 {
            let add = json!({"verb": "ts", "action": "step-add", "sequence": sequence, "kind": "run-command", "place": "end",
                "changes": [["name", format!("step {step}")], ["command", "cmd /c echo a line that somebody wrote"]], "value": null});
            asked(&site, add).await;
        }
        let check = json!({"verb": "ts", "action": "step-add", "sequence": sequence, "kind": "check-readiness", "place": "end",
            "changes": [], "value": null});
        asked(&site, check).await;
        let create = json!({"verb": "deploy", "action": "create", "sequence": sequence, "collection": format!("ring {number}"),
            "purpose": "available", "available": null, "deadline": null, "expires": null, "options": {}, "package": {},
            "strict": false, "confirm_high_risk": false});
        asked(&site, create).await;
    }
    let now = spsync::clock::now();
    site.write(move |w| {
        for device in 0..DEVICES {
            let facts = json!({"os_type": "client", "version": "10.0.22631", "edition": "Enterprise", "architecture": "x64",
                "language": "en-us", "memory_mb": 4096 + device % 64, "free_disk_mb": 10_000 + device * 7});
            let address = format!("10.{}.{}.9", device % 20, device / 250);
            w.put_facts(&name(device), &facts, &address, now)?;
        }
        Ok(())
    })
    .await
    .expect("facts");
    let (mut known, mut keys) = (HashMap::new(), Vec::new());
    for device in 0..DEVICES {
        let key = Secret::new().expect("random numbers").reveal();
        known.insert(Sha256Digest::of(key.as_bytes()), Holder::Device(DeviceId(name(device))));
        keys.push(key);
    }
    site.keys.replace(known);
    device_plane::begin(&site).await.expect("policies");
    (site, keys)
}

fn main() {
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let gate = std::env::args().any(|argument| argument == "--gate");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let (times, check, classes) = runtime.block_on(async {
        let (site, keys) = site(folder.path()).await;
        let questions = if quick { 1_000 } else { 20_000 };
        let classes = site.policies.snapshot().classes();
        let times = questions_of(&site, keys, questions).await;
        asked(&site, json!({"verb": "deploy", "action": "list"})).await;
        makes(&site).await;
        let began = Instant::now();
        let check = json!({"verb": "deploy", "action": "check", "what": "XYZ20001", "collection": "All Systems", "purpose": null,
            "to": [], "cloud": false, "internet": false, "strict": false});
        let checked = asked(&site, check).await;
        let check = began.elapsed();
        assert_eq!(checked["devices"], DEVICES);
        (times, check, classes)
    });
    let mut times = times;
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    let resident = resident_mib();
    println!("{classes} different policies for {DEVICES} devices");
    println!(
        "{} policy requests at {RATE}/s: p50 {:.2?}, p99 {:.2?}, worst {:.2?}",
        times.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    println!("deploy check over {DEVICES} devices: {check:.2?}");
    println!("memory: {resident} MiB");
    let missed = at(0.99) > Duration::from_millis(50) || check > Duration::from_secs(2) || resident > 300;
    assert!(!(gate && missed), "a gate was missed");
}

/// What it costs each half minute that something is deployed: made anew, as before, and looked at, in turns.
async fn makes(site: &Arc<Site>) {
    let (mut anew, mut kept) = (Duration::ZERO, Duration::ZERO);
    let rounds = 5;
    // Who has asked until now is written down by the first look, which is another matter.
    device_plane::pass(site, spsync::clock::now()).await.expect("it passes");
    for round in 1..=rounds {
        let now = spsync::clock::now();
        let began = Instant::now();
        device_plane::make(site, now).await.expect("they are made");
        anew += began.elapsed();
        let made = site.policies.snapshot();
        let later = now.checked_add(jiff::SignedDuration::from_secs(40 + round)).expect("a time");
        let began = Instant::now();
        device_plane::pass(site, later).await.expect("it passes");
        kept += began.elapsed();
        assert!(Arc::ptr_eq(&made, &site.policies.snapshot()), "nothing was changed");
    }
    let ratio = anew.as_secs_f64() / kept.as_secs_f64();
    println!("policies made anew: {:.2?}, kept: {:.2?}, 1/{ratio:.0}", anew / 5, kept / 5);
}

/// Clients that each send their next question when it is due: being late counts.
async fn questions_of(site: &Arc<Site>, keys: Vec<String>, questions: u32) -> Vec<Duration> {
    let limits = ServerLimits { max_connections_per_client: 64, ..ServerLimits::default() };
    let server = ContentServer::new(site.library.clone(), site.shelf.clone(), limits)
        .with_service(Arc::new(DeviceService::new(site.clone())));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let server_at = listener.local_addr().expect("an address");
    let serving = tokio::spawn(Arc::new(server).serve(listener, std::future::pending()));
    let keys = Arc::new(keys);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let keys = keys.clone();
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(server_at).await.expect("it listens");
                stream.set_nodelay(true).expect("a socket");
                let began = Instant::now();
                let (mut times, mut buffer, mut tag) = (Vec::new(), vec![0; 1 << 20], String::new());
                for question in 0..questions / CLIENTS {
                    let due = began + Duration::from_secs(1) * (question * CLIENTS + client) / RATE;
                    tokio::time::sleep_until(due.into()).await;
                    let since = Instant::now().min(due.max(began));
                    // A device that asks again in the same breath has its policy already.
                    let again = question % 10 == 9;
                    let number = if again { question - 1 } else { question };
                    let key = &keys[((number * CLIENTS + client) * 7 % DEVICES) as usize];
                    let known = if again { format!("If-None-Match: {tag}\r\n") } else { String::new() };
                    let head =
                        format!("GET /client/policy HTTP/1.1\r\nHost: site\r\nAuthorization: Bearer {key}\r\n{known}\r\n");
                    stream.write_all(head.as_bytes()).await.expect("it is read");
                    tag = whole(&mut stream, &mut buffer, again).await;
                    times.push(since.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for client in clients {
        times.extend(client.await.expect("a client"));
    }
    serving.abort();
    times
}

/// Reads one answer to its end; its tag.
async fn whole(stream: &mut TcpStream, buffer: &mut [u8], unchanged: bool) -> String {
    let mut have = 0;
    loop {
        let more = stream.read(&mut buffer[have..]).await.expect("it answers");
        assert!(more > 0, "the server has closed");
        have += more;
        let Some(end) = buffer[..have].windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        let tag = field("etag: ").expect("a tag");
        if unchanged {
            assert!(head.starts_with("HTTP/1.1 304"), "{head}");
            return tag;
        }
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let length: usize = field("content-length: ").expect("a length").parse().expect("a number");
        if have - end - 4 >= length {
            return tag;
        }
    }
}

fn resident_mib() -> u64 {
    support::memory_kib(std::process::id(), "VmRSS").unwrap_or_default() / 1024
}
