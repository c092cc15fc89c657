//! Content without a deployment package: devices get it from the cloud, and from each other.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use catalog::esd_catalog::Architecture;
use serde_json::Value;
use support::{TestSite, Way, free_port, program};
use tokio::process::Command;

/// A machine that only runs the client.
pub(crate) struct Device {
    pub(crate) folder: tempfile::TempDir,
    config: PathBuf,
}

impl Device {
    pub(crate) fn new(site: &TestSite, address: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = folder.path().join("config.toml");
        let text = format!(
            "[site]\ndata_dir = {:?}\n[download]\nmin_free = \"0\"\n[client]\nsite = {:?}\ndir = {:?}\naddress = {address:?}\n\
             peer_port = {}\nallow_networks = [\"127.0.0.0/8\"]\n",
            folder.path().join("none"),
            site.url,
            folder.path().join("device"),
            free_port(Ipv4Addr::LOCALHOST),
        );
        std::fs::write(&config, text).expect("the configuration is written");
        Self { folder, config }
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.arg("--config").arg(&self.config).args(["-o", "json"]).args(args);
        command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        command
    }

    async fn ok(&self, args: &[&str]) -> Value {
        let ran = self.command(args).output().await.expect("the program runs");
        assert!(ran.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ran.stdout));
        serde_json::from_slice(&ran.stdout).expect("JSON")
    }

    pub(crate) async fn enrol(&self, site: &TestSite, name: &str) {
        let made = site.ok(&["key", "enrol", name]).await;
        let file = self.folder.path().join("token");
        std::fs::write(&file, made["token"].as_str().expect("a token")).expect("it is written");
        self.ok(&["client", "enrol", "--token-file", &file.to_string_lossy()]).await;
    }

    /// Who gave how many bytes.
    pub(crate) async fn fetch(&self, content: &str) -> Vec<(String, u64)> {
        let fetched = self.ok(&["client", "fetch", "--no-later", content]).await;
        let served = fetched["served"].as_array().expect("a list").iter();
        served
            .map(|one| {
                (one["kind"].as_str().expect("a kind").to_owned(), one["bytes"].as_u64().expect("bytes"))
            })
            .collect()
    }
}

#[tokio::test]
async fn no_package_peer_then_cloud() {
    let site = TestSite::start(Way::Daemon).await;
    site.ok(&["now"]).await;
    let esd =
        site.published.find("Windows 11", "business", Architecture::X64, "en-us").expect("it is published");
    let (content, size) = (esd.fingerprint.sha256.to_string(), esd.fingerprint.size);
    site.ok(&["boundary", "group", "create", "LYON"]).await;
    site.ok(&["boundary", "add", "127.0.0.0/24", "--name", "floor", "--group", "LYON"]).await;

    let first = Device::new(&site, "127.0.0.7");
    first.enrol(&site, "desk-7").await;
    assert_eq!(first.fetch(&content).await, [("cloud".to_owned(), size)], "nobody else has it");
    // It has told the site so; what cannot be is not counted, and what is no report is refused.
    let key = std::fs::read_to_string(first.folder.path().join("device/device.key")).expect("it enrolled");
    let report = async |key: &str, body: String| {
        let asked = support::http().post(format!("{}/client/report", site.url)).bearer_auth(key).body(body);
        asked.send().await.expect("it answers").status().as_u16()
    };
    let said =
        |bytes: u64| format!(r#"{{"content":"{content}","taken":[{{"kind":"peer","bytes":{bytes}}}]}}"#);
    assert_eq!(report(key.trim(), said(size + 1)).await, 204);
    assert_eq!(report(key.trim(), said(1).replace(&content, &"0".repeat(64))).await, 204);
    assert_eq!(report(key.trim(), said(1).replace("peer", "moon")).await, 400);
    assert_eq!(report("spsync_x", said(1)).await, 401);
    let taken = async || site.ok(&["status"]).await["taken"].clone();
    assert_eq!(taken().await, serde_json::json!({ "LYON": { "cloud": size } }));
    assert_eq!(report(key.trim(), said(1)).await, 204);
    assert_eq!(taken().await["LYON"]["peer"], 1);
    let mut sharing = first.command(&["client", "share"]).spawn().expect("the program runs");
    let offered = async || {
        let located = site.ok(&["content", "locate", "--ip", "127.0.0.8", &content]).await;
        located["candidates"][0]["kind"] == "peer"
    };
    let mut tries = 0;
    while !offered().await {
        tries += 1;
        assert!(tries < 200, "the announcement never came");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let second = Device::new(&site, "127.0.0.8");
    assert_eq!(second.fetch(&content).await[0], ("peer".to_owned(), size), "no byte from the internet");

    // The peer vanishes without a word, and costs the next one an attempt.
    sharing.kill().await.expect("it runs");
    let third = Device::new(&site, "127.0.0.9");
    let served = third.fetch(&content).await;
    assert_eq!(served.last(), Some(&("cloud".to_owned(), size)), "{served:?}");

    // A key that was taken back opens nothing, and what was announced with it is forgotten in time.
    site.ok(&["--yes", "key", "revoke", "desk-7"]).await;
    assert_eq!(report(key.trim(), said(1)).await, 401);
    let announce = support::http()
        .post(format!("{}/peers/announce", site.url))
        .bearer_auth(key.trim())
        .body(r#"{"port":1,"contents":[]}"#);
    assert_eq!(announce.send().await.expect("it answers").status(), 401);
}
