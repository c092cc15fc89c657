//! The daemon itself: it starts, says how it is, reloads, stops, and leaves nothing half-done.

use std::net::Ipv4Addr;
use std::time::Duration;

use support::{Fault, TestSite, Way, free_port, http, until};

#[tokio::test]
async fn a_reload_applies_what_is_right_and_nothing_of_what_is_wrong() {
    let site = TestSite::start(Way::Daemon).await;
    site.ok(&["now"]).await;
    let config = site.folder.path().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let listed = || async { site.ok(&["updates", "list"]).await["updates"].as_array().unwrap().len() };
    assert_eq!(listed().await, 5);
    std::fs::write(&config, text.replace("[sync]", "[sync]\nlanguages = [\"de-de\"]")).unwrap();
    site.hang_up().await;
    until("the German ones", async || listed().await == 2).await;
    std::fs::write(&config, text.replace("[sync]", "[sync]\nlangages = [\"en-us\"]")).unwrap();
    site.hang_up().await;
    until("it was read", async || site.log().iter().any(|line| line.contains("is not reloaded"))).await;
    std::fs::write(&config, &text).unwrap(); // commands read it too
    assert_eq!(listed().await, 2, "a mistake changes nothing");
}

#[tokio::test]
async fn a_stop_in_the_middle_is_graceful_and_the_work_goes_on_afterwards() {
    let mut site = TestSite::start(Way::Daemon).await;
    site.package().await;
    for esd in &site.published.esds {
        site.origin.fault(&esd.path, Fault::Slow(50_000));
    }
    let task = site.ok(&["--no-wait", "package", "download", "p"]).await;
    let id = task["id"].to_string();
    assert_eq!(task["state"], "running");
    site.refused("PACKAGE_BUSY", &["--yes", "package", "delete", "p"]).await;
    let joined = site.ok(&["--no-wait", "package", "download", "p"]).await;
    assert_eq!(joined["id"], task["id"], "one download of a package at a time");
    let done = async || site.ok(&["task", "show", &id]).await["phases"][0]["done"].as_u64();
    until("something has arrived", async || done().await > Some(0)).await;
    let waited = site.run(&["--timeout", "1s", "task", "wait", &id]).await;
    assert_eq!(waited.status, 9, "{waited:?}");
    assert_eq!(site.stop_daemon().await, 0);
    site.start_daemon().await;
    assert_eq!(site.ok(&["task", "show", &id]).await["state"], "interrupted");
    for esd in &site.published.esds {
        site.origin.heal(&esd.path);
    }
    let filled = site.ok(&["package", "download", "p"]).await;
    let resumed = filled["files"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|file| file["resumed_from"].as_u64() > Some(0))
        .count();
    assert!(resumed > 0, "{filled}");
}

#[tokio::test]
async fn a_cancelled_task_is_cancelled_and_can_be_repeated() {
    let site = TestSite::start(Way::Daemon).await;
    site.package().await;
    for esd in &site.published.esds {
        site.origin.fault(&esd.path, Fault::Slow(50_000));
    }
    let id = site.ok(&["--no-wait", "package", "download", "p"]).await["id"].to_string();
    let cancelled = site.ok(&["task", "cancel", &id]).await;
    assert_eq!(cancelled["state"], "cancelled");
    for esd in &site.published.esds {
        site.origin.heal(&esd.path);
    }
    until("the whole", async || site.json(&["package", "download", "p"]).await.status == 0).await;
}

#[tokio::test]
async fn health_is_told_to_whoever_asks() {
    let site = TestSite::with(Way::Alone, |_, published| vec![published.windows10.clone()], "").await;
    let port = free_port(Ipv4Addr::LOCALHOST);
    let config = site.folder.path().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replacen("listen = \"\"", &format!("listen = \"127.0.0.1:{port}\""), 1))
        .unwrap();
    let mut daemon = site.command(&["serve"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    let answers =
        async || http().get(url("/healthz")).send().await.is_ok_and(|answer| answer.status() == 200);
    until("it answers", answers).await;
    let ready: serde_json::Value =
        http().get(url("/readyz")).send().await.unwrap().text().await.unwrap().parse().unwrap();
    assert_eq!((&ready["ready"], &ready["synchronised"]), (&true.into(), &false.into()));
    site.ok(&["now"]).await;
    let ready: serde_json::Value =
        http().get(url("/readyz")).send().await.unwrap().text().await.unwrap().parse().unwrap();
    assert_eq!(ready["synchronised"], true);
    assert_eq!(
        http().get(url("/content/x")).send().await.unwrap().status(),
        404,
        "no content on the admin plane"
    );
    let posted = http().post(url("/readyz")).send().await.unwrap();
    assert_eq!(posted.status(), 405);
    assert_eq!(posted.headers()["allow"], "GET, HEAD");
    assert_eq!(
        http().get(format!("{}/healthz", site.url)).send().await.unwrap().status(),
        404,
        "and no health on the other"
    );
    assert_eq!(http().get(format!("{}/content/a%0Ab", site.url)).send().await.unwrap().status(), 404);
    let metrics = http().get(url("/metrics")).send().await.unwrap();
    let kind = metrics.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
    let metrics = metrics.text().await.unwrap();
    for line in [
        "spsync_requests_total{source=\"distribution-point\",outcome=\"refused\"} 2",
        "spsync_refused_total{reason=\"no-route\",code=\"SERVE_NOT_HERE\"} 1",
        "spsync_refused_total{reason=\"absent\",code=\"SERVE_NOT_HERE\"} 1",
        "spsync_served_bytes_total{source=\"peer\"} 0",
        "# EOF",
    ] {
        assert!(metrics.lines().any(|found| found == line), "no `{line}` in {metrics}");
    }
    let served = site.ok(&["status"]).await["served"].clone();
    assert_eq!((&served["requests"], &served["refused"]["absent"]), (&2.into(), &1.into()), "{served}");
    daemon.start_kill().unwrap();
    let log = String::from_utf8_lossy(&daemon.wait_with_output().await.unwrap().stderr).into_owned();
    let line = log.lines().find(|line| line.contains("/content/a%0Ab")).expect("the access log names it");
    for part in
        ["spsync::access", "GET /content/a%0Ab", "status=404", "reason=\"absent\"", "code=\"SERVE_NOT_HERE\""]
    {
        assert!(line.contains(part), "no `{part}` in {line}");
    }
}

#[tokio::test]
async fn systemd_hears_of_readiness_reload_and_stop() {
    let site = TestSite::start(Way::Alone).await;
    let path = site.folder.path().join("notify.sock");
    let socket = tokio::net::UnixDatagram::bind(&path).unwrap();
    let mut daemon = site.command(&["serve"]).env("NOTIFY_SOCKET", &path).spawn().unwrap();
    let id = daemon.id().unwrap().to_string();
    let signal = async |name: &str| {
        tokio::process::Command::new("kill").args([name, &id]).status().await.unwrap();
    };
    // The watchdog's own messages come in between.
    let mut all = Vec::new();
    let hear = async |all: &mut Vec<String>, wanted: &str| {
        let mut buffer = [0; 256];
        loop {
            let heard = tokio::time::timeout(Duration::from_secs(20), socket.recv(&mut buffer)).await;
            let text = String::from_utf8_lossy(&buffer[..heard.expect(wanted).unwrap()]).into_owned();
            all.push(text.clone());
            if text.contains(wanted) {
                return text;
            }
        }
    };
    hear(&mut all, "READY=1").await;
    signal("-HUP").await;
    assert!(hear(&mut all, "RELOADING=1").await.contains("MONOTONIC_USEC="));
    hear(&mut all, "READY=1").await;
    if !all.iter().any(|text| text.contains("WATCHDOG=1")) {
        hear(&mut all, "WATCHDOG=1").await;
    }
    signal("-TERM").await;
    hear(&mut all, "STOPPING=1").await;
    assert_eq!(daemon.wait().await.unwrap().code(), Some(0));
}
