//! Content without a deployment package: devices get it from the cloud, and from each other.

use std::process::Stdio;

use catalog::esd_catalog::Architecture;
use support::{TestDevice, TestSite, Way, until};

#[tokio::test]
async fn no_package_peer_then_cloud() {
    let site = TestSite::start(Way::Daemon).await;
    site.ok(&["now"]).await;
    let esd =
        site.published.find("Windows 11", "business", Architecture::X64, "en-us").expect("it is published");
    let (content, size) = (esd.fingerprint.sha256.to_string(), esd.fingerprint.size);
    site.ok(&["boundary", "group", "create", "LYON"]).await;
    site.ok(&["boundary", "add", "127.0.0.0/24", "--name", "floor", "--group", "LYON"]).await;

    let first = TestDevice::enrolled(&site, "desk-7", "127.0.0.7").await;
    assert_eq!(first.fetch(&content).await, [("cloud".to_owned(), size)], "nobody else has it");
    // It has told the site so; what cannot be is not counted, and what is no report is refused.
    let key = first.key();
    let report = async |key: &str, body: String| {
        let asked = support::http().post(format!("{}/client/report", site.url)).bearer_auth(key).body(body);
        asked.send().await.expect("it answers").status().as_u16()
    };
    let said =
        |bytes: u64| format!(r#"{{"content":"{content}","taken":[{{"kind":"peer","bytes":{bytes}}}]}}"#);
    assert_eq!(report(&key, said(size + 1)).await, 204);
    assert_eq!(report(&key, said(1).replace(&content, &"0".repeat(64))).await, 204);
    assert_eq!(report(&key, said(1).replace("peer", "moon")).await, 400);
    assert_eq!(report("spsync_x", said(1)).await, 401);
    let taken = async || site.ok(&["status"]).await["taken"].clone();
    assert_eq!(taken().await, serde_json::json!({ "LYON": { "cloud": size } }));
    assert_eq!(report(&key, said(1)).await, 204);
    assert_eq!(taken().await["LYON"]["peer"], 1);
    let mut sharing = first.command(&["client", "share"]);
    let mut sharing = sharing.stderr(Stdio::null()).spawn().expect("the program runs");
    let offered = async || {
        let located = site.ok(&["content", "locate", "--ip", "127.0.0.8", &content]).await;
        located["candidates"][0]["kind"] == "peer"
    };
    until("the announcement", offered).await;
    let second = TestDevice::new(&site, "desk-8", "127.0.0.8");
    assert_eq!(second.fetch(&content).await[0], ("peer".to_owned(), size), "no byte from the internet");

    // The peer vanishes without a word, and costs the next one an attempt.
    sharing.kill().await.expect("it runs");
    let third = TestDevice::new(&site, "desk-9", "127.0.0.9");
    let served = third.fetch(&content).await;
    assert_eq!(served.last(), Some(&("cloud".to_owned(), size)), "{served:?}");

    // A key that was taken back opens nothing, and what was announced with it is forgotten at once.
    let shared = async || site.ok(&["status"]).await["peers"].clone();
    let told = |number: u64| {
        serde_json::json!({ "devices": number, "contents": number, "announced": number,
            "most_announced": 500_000, "refused": 0, "distrusted": [] })
    };
    assert_eq!(shared().await, told(1));
    site.ok(&["--yes", "key", "revoke", "desk-7"]).await;
    assert_eq!(shared().await, told(0));
    assert!(!offered().await, "nobody is sent to it");
    assert_eq!(report(&key, said(1)).await, 401);
    let announce = support::http()
        .post(format!("{}/peers/announce", site.url))
        .bearer_auth(&key)
        .body(r#"{"port":1,"contents":[]}"#);
    assert_eq!(announce.send().await.expect("it answers").status(), 401);
}
