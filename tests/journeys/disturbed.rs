//! Programs that run for long and lose their power or their disk in the middle of it: a point at its own work, a site that
//! serves.

use std::collections::BTreeSet;
use std::path::PathBuf;

use catalog::digest::Sha256Digest;
use serde_json::Value;
use support::{Disturbance, Strace, TestSite, http, memory_kib, program, until};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

use crate::points::{Machine, site_with_package, token};

/// Whatever happened: what has the name of a content is that content, and what the database lists is there.
async fn nothing_half(machine: &Machine, what: &str) {
    let mut there = BTreeSet::new();
    for folder in std::fs::read_dir(machine.path("point/content/blobs")).into_iter().flatten() {
        for file in std::fs::read_dir(folder.expect("it is listed").path()).expect("a folder") {
            let path = file.expect("it is listed").path();
            let digest = Sha256Digest::of(&std::fs::read(&path).expect("it can be read"));
            assert_eq!(path.file_name().expect("a name").to_string_lossy(), digest.to_string(), "{what}");
            there.insert(digest);
        }
    }
    let store = schema::Store::open(&machine.path("point/spsync.db"), 1);
    let store = store.unwrap_or_else(|error| panic!("{what}: {error}"));
    let listed = store.read(|r| r.contents()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    for row in listed {
        assert!(there.contains(&row.sha256), "{what}: {} is listed and not there", row.sha256);
    }
    store.close().expect("it closes");
}

#[tokio::test]
async fn a_point_killed_at_its_own_work_counts_no_half_file_as_held() {
    let Some(strace) = Strace::find() else { return };
    let (site, sha256, bytes) = site_with_package().await;
    let part = format!("staging/{sha256}-{}.part", bytes.len());
    // A renaming is known by the name that is to go.
    let hashes = format!("hashes/{}/.{sha256}.spsync-tmp", &sha256[..2]);
    let kills = [("write", part.as_str()), ("rename", &hashes), ("rename", &part)];
    let mut points = Vec::new();
    for (number, (call, path)) in kills.into_iter().enumerate() {
        let (name, ip) = (format!("p{number}"), format!("127.0.4.{}", number + 1));
        site.ok(&["dp", "add", &name, "--url", &format!("http://{ip}:1")]).await;
        site.ok(&["package", "distribute", "p", "--to", &name]).await;
        let machine = Machine::new(&ip, &site.url, &token(&site, &name).await, "");
        let mut serve = Command::new(program());
        serve.arg("--config").arg(machine.path("config.toml")).arg("serve");
        let paths = [machine.path("point/content").join(path)];
        let disturbance = Disturbance { call, nth: 1, with: "signal=SIGKILL" };
        let what = format!("killed at {call} of {path}");
        // One after the other: each takes what it is to have from the same address of loopback.
        assert_eq!(strace.start(&serve, &paths, &[disturbance]).ended().await, 137, "{what}");
        nothing_half(&machine, &what).await;
        points.push((machine, what));
    }
    for (machine, _) in &mut points {
        machine.start().await;
    }
    until("all have it", async || {
        let placed = site.ok(&["content", "status", "p"]).await;
        placed.as_array().expect("a list").iter().all(|one| one["state"] == "success")
    })
    .await;
    for (machine, what) in &mut points {
        assert!(machine.get(&format!("/content/{sha256}")).await.is_some_and(|got| got == bytes), "{what}");
        machine.kill().await;
        nothing_half(machine, what).await;
    }
}

/// The file of a content of the site.
fn blob(site: &TestSite, sha256: &str) -> PathBuf {
    site.folder.path().join("site/content/blobs").join(&sha256[..2]).join(sha256)
}

#[tokio::test]
async fn a_disk_that_fails_while_content_is_sent_completes_no_wrong_answer() {
    let Some(strace) = Strace::find() else { return };
    let (mut site, sha256, bytes) = site_with_package().await;
    site.ok(&["package", "distribute", "p"]).await;
    assert_eq!(site.stop_daemon().await, 0);
    let path = blob(&site, &sha256);
    let serve = site.command(&["serve"]);
    let with = "error=EIO";
    let failures = [
        Disturbance { call: "sendfile", nth: 1, with },
        Disturbance { call: "preadv2", nth: 1, with },
        Disturbance { call: "pread64", nth: 1, with },
    ];
    let mut disturbed = strace.start(&serve, &[path], &failures);
    let mut lines = BufReader::new(disturbed.process.stderr.take().expect("it is piped")).lines();
    let ready = async {
        while let Ok(Some(line)) = lines.next_line().await {
            if line.contains("commands are answered") {
                return;
            }
        }
        panic!("the site ended before it was ready");
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), ready).await.expect("it is ready in 30 s");
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    let url = format!("{}/content/{sha256}", site.url);
    let (mut cut, mut whole) = (0, 0);
    // Each thread fails once.
    while whole < 4 {
        let got = async { http().get(&url).send().await?.error_for_status()?.bytes().await };
        match got.await {
            Ok(got) => {
                assert!(got == bytes, "wrong bytes, or fewer, were completed");
                whole += 1;
            }
            Err(_) => cut += 1,
        }
        assert!(cut < 50, "it does not recover");
    }
    assert!(
        cut > 0 && disturbed.times() >= cut,
        "the disk has failed {} times, {cut} were cut",
        disturbed.times()
    );
    let served: Value = site.ok(&["status"]).await;
    assert!(served["served"]["bytes"]["distribution-point"].as_u64() >= Some(4 * bytes.len() as u64));
    disturbed.stop().await;
}

/// Files that this process may have open, after it has asked for as many as anybody may.
fn may_open() -> u64 {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[tokio::test]
async fn a_flood_of_ten_thousand_connections_costs_a_bounded_amount_and_passes() {
    /// What `[server] max_connections` is where nobody sets it.
    const ALLOWED: u64 = 4_096;
    const FLOOD: u64 = 10_000;
    let (mut site, sha256, bytes) = site_with_package().await;
    site.ok(&["package", "distribute", "p"]).await;
    assert_eq!(site.stop_daemon().await, 0);
    let limits = format!("[server]\nread_timeout = \"300s\"\nmax_connections_per_client = {FLOOD}");
    site.configure(|text| text.replacen("[server]", &limits, 1));
    site.start_daemon().await;
    let (process, url) = (site.daemon_id(), format!("{}/content/{sha256}", site.url));
    let address = site.url.trim_start_matches("http://").to_owned();
    let resident = || memory_kib(process, "VmRSS").expect("it runs");
    let before = resident();
    // As many as this process may open; other tests need some too.
    let most = may_open().saturating_sub(1_000).min(FLOOD);
    let mut flood = Vec::new();
    for _ in 0..most {
        let mut stream =
            tokio::net::TcpStream::connect(&address).await.expect("it is accepted, or closed later");
        // Half a head, and nothing more.
        let _ = stream.write_all(b"GET /content/").await;
        flood.push(stream);
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 32 * ALLOWED, "{grown} KiB for {ALLOWED} connections");
    // Where three quarters of the places are taken a head has two seconds, and who has waited for longer goes until it is fewer. For
    // whom there is no place at all is told so at once, which happens where they come faster than others go.
    until("nobody else is left waiting", async || {
        let status = site.ok(&["status"]).await;
        let held = status["served"]["connections"].as_u64().expect("a number");
        assert!(held <= ALLOWED, "{held} are held");
        let waits = |stream: &&tokio::net::TcpStream| {
            let read = stream.try_read(&mut [0]);
            read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
        };
        let waiting = flood.iter().filter(waits).count() as u64;
        assert!(waiting > 0, "as long as there is room, silence is waited for");
        waiting <= ALLOWED * 3 / 4
    })
    .await;
    drop(flood);
    until("others are served", async || {
        let got = async { http().get(&url).send().await?.bytes().await };
        got.await.is_ok_and(|got| got == bytes)
    })
    .await;
}
