//! Distribution points on machines of their own: real processes, each at an address of its own in 127/8.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use support::{Place, TestSite, Way, free_port, http, program, rot, until};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// A machine with a distribution point.
pub(crate) struct Machine {
    pub(crate) folder: TempDir,
    pub(crate) url: String,
    pub(crate) log: Arc<Mutex<String>>,
    place: Place,
    process: Option<Child>,
}

impl Machine {
    /// A machine at `ip`, below `site`, with the token in a file.
    pub(crate) fn new(ip: &str, site: &str, token: &str, more: &str) -> Self {
        Self::at(Place::on_loopback(ip.parse().expect("an address")), site, token, more)
    }

    /// The same at another place.
    pub(crate) fn at(place: Place, site: &str, token: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let listen = format!("{}:{}", place.address(), place.port());
        std::fs::write(folder.path().join("token"), token).expect("the token is written");
        let url = format!("http://{listen}");
        let text = format!(
            "[site]\ndata_dir = {:?}\n[server]\nlisten = [{listen:?}]\nshutdown_grace = \"1s\"\n\
             [admin]\nsocket = {:?}\nlisten = \"\"\n[dp]\nname = \"here\"\nrole = \"standard\"\nsite = {site:?}\n{}\
             token_file = {:?}\n[download]\nmin_free = \"0\"\n[sync]\nretry = {{ max = 2, first = \"10ms\", longest = \"20ms\" }}\n{more}\n",
            folder.path().join("point"),
            folder.path().join("admin.sock"),
            place.in_the_clear("allow_plain_key"),
            folder.path().join("token"),
        );
        std::fs::write(folder.path().join("config.toml"), text).expect("the configuration is written");
        Self { folder, url, log: Arc::default(), place, process: None }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn spawn(&self, args: &[&str]) -> Child {
        begin(self.place.command(program()), &self.path("config.toml"), args)
    }

    pub(crate) async fn start(&mut self) {
        self.place.plug();
        let mut process = self.spawn(&["serve"]);
        let mut lines = BufReader::new(process.stderr.take().expect("it is piped")).lines();
        let ready = async {
            while let Ok(Some(line)) = lines.next_line().await {
                if line.contains("commands are answered") {
                    return;
                }
            }
            panic!("the point ended before it was ready");
        };
        tokio::time::timeout(Duration::from_secs(30), ready).await.expect("it is ready in 30 s");
        let log = self.log.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                log.lock().expect("nobody panics").push_str(&(line + "\n"));
            }
        });
        self.process = Some(process);
    }

    /// SIGKILL: nothing of it can clean up.
    pub(crate) async fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().await.expect("it dies");
        }
    }

    /// The same, and its machine is switched off: not even a refusal comes from there.
    pub(crate) async fn vanish(&mut self) {
        self.kill().await;
        self.place.unplug();
    }

    pub(crate) async fn stop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let id = process.id().expect("it runs").to_string();
        Command::new("kill").args(["-TERM", &id]).status().await.expect("kill is there");
        tokio::time::timeout(Duration::from_secs(20), process.wait())
            .await
            .expect("in time")
            .expect("it ends");
    }

    /// What `spsync status` says there.
    pub(crate) async fn status(&self) -> Value {
        let process = self.spawn(&["-o", "json", "status"]);
        let output = process.wait_with_output().await.expect("it ends");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    pub(crate) async fn get(&self, path: &str) -> Option<Vec<u8>> {
        let answer = http().get(format!("{}{path}", self.url)).send().await.ok()?;
        (answer.status() == 200).then_some(answer.bytes().await.ok()?.to_vec())
    }
}

pub(crate) fn spawn(config: &Path, args: &[&str]) -> Child {
    begin(Command::new(program()), config, args)
}

fn begin(mut program: Command, config: &Path, args: &[&str]) -> Child {
    program.arg("--config").arg(config).args(args).stdin(Stdio::null()).stdout(Stdio::piped());
    program.stderr(Stdio::piped()).kill_on_drop(true).spawn().expect("the program starts")
}

/// Changes one bit of stored content.
pub(crate) fn break_file(path: &Path) {
    rot(path, |bytes| bytes[1_000] ^= 1);
}

/// A site with a downloaded package `p`, and what one of its files is: its digest and bytes.
pub(crate) async fn site_with_package() -> (TestSite, String, Vec<u8>) {
    let site = TestSite::start(Way::Daemon).await;
    site.package().await;
    site.ok(&["package", "download", "p"]).await;
    let find = |p: &support::DemoCatalog| {
        p.find("Windows 11", "business", catalog::esd_catalog::Architecture::X64, "en-us").cloned()
    };
    let esd = find(&site.published).expect("it is published");
    let bytes = esd.content.read(0, esd.wanted.size as usize);
    (site, esd.fingerprint.sha256.to_string(), bytes.to_vec())
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

pub(crate) async fn state(site: &TestSite, point: &str) -> String {
    let all = site.ok(&["content", "status", "p"]).await;
    let placed = all.as_array().expect("a list").iter().find(|placed| placed["point"] == point);
    placed.map_or_else(|| "none".to_owned(), |placed| placed["state"].as_str().expect("a state").to_owned())
}

pub(crate) async fn token(site: &TestSite, dp: &str) -> String {
    site.ok(&["dp", "enrol", dp]).await["token"].as_str().expect("a token").to_owned()
}

#[tokio::test]
async fn a_point_enrols_is_sent_a_package_and_serves_it_without_its_site() {
    let (mut site, sha256, bytes) = site_with_package().await;
    let content = format!("/content/{sha256}");
    site.ok(&["dp", "add", "lyon", "--url", "http://127.0.0.2:1"]).await;
    let mut lyon = Machine::new("127.0.0.2", &site.url, &token(&site, "lyon").await, "");
    site.ok(&["dp", "set", "lyon", &format!("url={}", lyon.url)]).await;

    // Two of its files that no other update has: one gets lost, and one comes with a later version.
    let shown = site.ok(&["package", "show", "p"]).await;
    let files = shown["files"].as_array().expect("a list");
    let once = |sha256: &Value| files.iter().filter(|file| file["sha256"] == *sha256).count() == 1;
    let mut others = files.iter().filter(|file| file["sha256"] != sha256.as_str() && once(&file["sha256"]));
    let (lost, later) = (others.next().expect("it has"), others.next().expect("three files"));
    let (update, other, size) = (text(&lost["title"]), text(&lost["sha256"]), lost["size"].as_u64().unwrap());
    let later = text(&later["title"]);
    site.ok(&["package", "drop", "p", &later]).await;
    let stored = site.ok(&["package", "show", "p"]).await["stored"].as_u64().unwrap();

    // Sent before it is there: it waits for it.
    let sent = site.ok(&["package", "distribute", "p", "--to", "lyon"]).await;
    assert_eq!(sent["points"][0]["state"], "queued", "{sent}");
    assert_eq!(
        http().get(format!("{}{content}", site.url)).send().await.unwrap().status(),
        404,
        "not at the site"
    );
    // The site has lost one of the files: the others come all the same, and the site gets its own again without being told.
    let blob_of = |data: PathBuf, sha256: &str| data.join("content/blobs").join(&sha256[..2]).join(sha256);
    let at_site = blob_of(site.folder.path().join("site"), &other);
    std::fs::remove_file(&at_site).unwrap();
    lyon.start().await;
    until("failed", async || state(&site, "lyon").await == "failed").await;
    let placed = site.ok(&["content", "status", "p"]).await[0].clone();
    assert_eq!(placed["problem"]["code"], "SOURCE_NOT_FOUND", "{placed}");
    assert_eq!(placed["bytes"].as_u64().unwrap() - placed["done"].as_u64().unwrap(), size);
    until("the site has it again", async || at_site.exists()).await;
    let again = async || site.ok(&["package", "show", "p"]).await["stored"] == stored;
    until("and knows it", async || again().await).await;
    let retried = site.ok(&["package", "retry", "p", "--to", "lyon", "--wait"]).await;
    assert_eq!(retried["points"][0]["state"], "success", "{retried}");
    assert_eq!(lyon.get(&content).await.as_deref(), Some(bytes.as_slice()));
    let key = std::fs::metadata(lyon.path("point/point.key")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&key) & 0o777, 0o600);

    // A point is told the hashes of pieces, so that another point that lies costs one of them.
    let key = std::fs::read_to_string(lyon.path("point/point.key")).unwrap();
    let told = async |key: Option<&str>| {
        let asked = http().get(format!("{}/point{content}/pieceshash", site.url));
        let asked = if let Some(key) = key { asked.bearer_auth(key.trim()) } else { asked };
        let answer = asked.send().await.unwrap();
        let status = answer.status().as_u16();
        let told: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        (status, told["ContentLength"].as_u64())
    };
    assert_eq!(told(Some(&key)).await, (200, Some(bytes.len() as u64)));
    assert_eq!(told(None).await, (401, None));

    let shown = site.ok(&["package", "show", "p"]).await;
    assert_eq!(
        (&shown["distributed_to"], &shown["points"][0]["state"]),
        (&json!(["lyon"]), &json!("success"))
    );
    let listed = site.ok(&["dp", "list"]).await;
    assert_eq!((&listed[1]["name"], &listed[1]["condition"]), (&json!("lyon"), &json!("ok")), "{listed}");
    assert!(listed[1]["silent_seconds"].as_u64().unwrap() < 30, "{listed}");
    let again = site.ok(&["package", "distribute", "p", "--to", "lyon"]).await;
    assert_eq!(again["points"][0]["already"], true, "refused where it is already");
    site.refused("DP_STATE_REFUSED", &["package", "cancel", "p", "--to", "lyon"]).await;
    assert_eq!(lyon.status().await["point"]["packages"][0]["state"], "success");

    // Another one pulls from the first, with the same key of nobody: content is public there.
    site.ok(&["dp", "add", "rome", "--url", "http://127.0.0.7:1", "--pull-from", "lyon"]).await;
    let mut rome = Machine::new("127.0.0.7", &site.url, &token(&site, "rome").await, "");
    rome.start().await;
    let sent = site.ok(&["package", "distribute", "p", "--to", "rome", "--wait"]).await;
    assert_eq!(
        (&sent["points"][0]["state"], state(&site, "rome").await.as_str()),
        (&json!("success"), "success")
    );
    assert_eq!(rome.get(&content).await.as_deref(), Some(bytes.as_slice()));
    site.refused("DP_PULL_RING", &["--dry-run", "dp", "set", "lyon", "pull_from=site,rome"]).await;
    site.refused("DP_PULL_RING", &["dp", "set", "lyon", "pull_from=rome"]).await;
    // What describes the content names the other point too, to whoever asks at the first.
    let also = format!("http://127.0.0.7:1{content}");
    let head = http().head(format!("{}{content}", lyon.url)).send().await.unwrap();
    let links: Vec<_> = head.headers().get_all("link").iter().map(|link| link.to_str().unwrap()).collect();
    assert!(links.iter().any(|link| link.contains(&also)), "{links:?}");
    let metalink = String::from_utf8(lyon.get(&format!("{content}.meta4")).await.unwrap()).unwrap();
    assert!(metalink.contains(&also) && metalink.contains(&lyon.url), "{metalink}");
    let places = format!("{}/point/places/{sha256}?client=127.0.0.99", site.url);
    assert_eq!(http().get(places).send().await.unwrap().status(), 401, "the site tells points alone");
    let log = rome.log.lock().unwrap().clone();
    let from = |url: &str| log.matches(&format!("came from {url}")).count();
    assert!(from(&lyon.url) as u64 >= stored && from(&site.url) == 0, "{log}");
    rome.stop().await;
    assert!(!log.contains("spsync_"), "no secret in the log");

    // The site's own copy goes bad and is fetched again: the point's is not touched.
    break_file(&site.folder.path().join("site/content/blobs").join(&sha256[..2]).join(&sha256));
    site.ok(&["package", "validate", "p", "--repair"]).await;
    assert_eq!(state(&site, "lyon").await, "success");
    // Bad bytes there are found, not served, and mended.
    let blob = lyon.path("point/content/blobs").join(&sha256[..2]).join(&sha256);
    break_file(&blob);
    let bad = site.json(&["package", "validate", "p", "--to", "lyon", "--wait"]).await;
    assert_eq!((bad.status, bad.code().as_str()), (8, "VALIDATION_FAILED"), "{bad:?}");
    assert_eq!(lyon.get(&content).await, None, "what is known to be bad is not served");
    let told = async |sha256: &str| {
        let asked = http().get(format!("{}/locations/{sha256}", site.url)).send().await.expect("it answers");
        asked.text().await.expect("a body").contains(&lyon.url)
    };
    until("nobody is sent there for it", async || !told(&sha256).await && told(&other).await).await;
    site.ok(&["package", "validate", "p", "--to", "lyon", "--repair", "--wait"]).await;
    assert_eq!(lyon.get(&content).await.as_deref(), Some(bytes.as_slice()));
    // What is lost there and asked for comes again without an operator.
    std::fs::remove_file(&blob).unwrap();
    until("asked for", async || lyon.get(&content).await.is_some() && blob.exists()).await;
    until("well again", async || state(&site, "lyon").await == "success").await;

    // Another version is on its way, and may not be sent now: the point goes on with what it has, also when that is called off.
    site.ok(&["dp", "set", "lyon", "schedule=mon-sun 00-24 closed"]).await;
    site.ok(&["package", "drop", "p", &update]).await;
    site.ok(&["package", "add", "p", &later]).await;
    site.ok(&["package", "download", "p"]).await;
    site.ok(&["package", "distribute", "p", "--to", "lyon"]).await;
    let dropped = format!("/content/{other}");
    for (act, expected) in [(None, "queued"), (Some("cancel"), "cancelled"), (Some("retry"), "queued")] {
        if let Some(act) = act {
            site.ok(&["package", act, "p", "--to", "lyon"]).await;
        }
        assert_eq!(state(&site, "lyon").await, expected);
        assert_eq!((told(&sha256).await, told(&other).await), (true, true), "{expected}");
    }
    let grid = site.ok(&["dp", "coverage"]).await;
    let marks: Vec<_> =
        grid["rows"][0]["cells"].as_array().expect("cells").iter().map(|cell| &cell["mark"]).collect();
    assert_eq!(marks, ["absent", "under-way", "outdated"], "{grid}");
    until("it knows", async || lyon.status().await["point"]["paused"] == "schedule: closed").await;
    assert!(lyon.get(&content).await.is_some() && lyon.get(&dropped).await.is_some());
    site.ok(&["dp", "set", "lyon", "schedule="]).await;
    until("the other version", async || state(&site, "lyon").await == "success").await;
    until("what only the earlier one had is gone", async || lyon.get(&dropped).await.is_none()).await;
    until("nobody is sent there for it", async || told(&sha256).await && !told(&other).await).await;
    let status = site.ok(&["content", "status", "p"]).await;
    let outdated = |at: usize| status[at]["version"].as_u64() < status[at]["latest"].as_u64();
    assert!(!outdated(0) && outdated(1), "what rome has is an earlier version: {status}");

    // Without its site, and after a restart.
    site.stop_daemon().await;
    assert!(lyon.get(&content).await.is_some());
    lyon.stop().await;
    lyon.start().await;
    assert_eq!(lyon.get(&content).await.as_deref(), Some(bytes.as_slice()));
    // It knows that as soon as it has asked once.
    until("its site is away", async || lyon.status().await["healthy"] == false).await;
    site.start_daemon().await;
    until("heard of again", async || lyon.status().await["healthy"] == true).await;

    // A revoked point gets nothing more, and goes on serving what is public.
    site.ok(&["--yes", "key", "revoke", "lyon", "--point"]).await;
    until("revoked", async || lyon.status().await["point"]["problem"]["code"] == "KEY_REVOKED").await;
    assert!(lyon.get(&content).await.is_some());
    let located = async || {
        let located = site.ok(&["content", "locate", "--ip", "127.0.0.99", &sha256]).await;
        let all = located["candidates"].as_array().unwrap().clone();
        let lyon = all.iter().find(|one| one["name"] == "lyon").cloned().unwrap_or_default();
        format!("{} {}", lyon["verdict"].as_str().unwrap_or("-"), lyon["why"].as_str().unwrap_or("-"))
    };
    assert_eq!(located().await, "out no-key", "no client is sent there");
    // A new token lets it in again, and what is withdrawn is taken off.
    std::fs::write(lyon.path("token"), token(&site, "lyon").await).unwrap();
    until("let in again", async || lyon.status().await["healthy"] == true).await;
    assert_eq!(located().await, "in same-subnet");
    site.ok(&["package", "withdraw", "p", "--from", "lyon"]).await;
    until("withdrawn", async || state(&site, "lyon").await == "none").await;
    // It says that it wants it no more before it is gone.
    until("off", async || lyon.get(&content).await.is_none() && !blob.exists()).await;
}

#[tokio::test]
async fn a_full_point_is_refused_and_a_second_identity_too() {
    let (site, sha256, bytes) = site_with_package().await;
    for name in ["full", "rome"] {
        site.ok(&["dp", "add", name, "--url", "http://127.0.0.3:1"]).await;
    }
    let full_token = token(&site, "full").await;
    let mut full = Machine::new("127.0.0.3", &site.url, &full_token, "");
    let config = std::fs::read_to_string(full.path("config.toml")).unwrap();
    std::fs::write(full.path("config.toml"), config.replace("min_free = \"0\"", "min_free = \"1000TiB\""))
        .unwrap();
    full.start().await;
    let mut rome = Machine::new("127.0.0.4", &site.url, &token(&site, "rome").await, "");
    rome.start().await;
    // A third one says what is wrong with the file of its token, and not what is in it.
    let mut lost = Machine::new("127.0.0.5", &site.url, "hunter2", "");
    lost.start().await;
    let told = async || lost.status().await["point"]["problem"].to_string();
    until("it is told", async || told().await.contains("holds no token or key of spsync")).await;
    assert!(!told().await.contains("hunter2"));
    lost.stop().await;
    let free = async |at: usize| site.ok(&["dp", "list"]).await[at]["free"].as_u64();
    until("both are heard of", async || free(1).await == Some(0) && free(2).await > Some(0)).await;

    let refused = site.refused("DP_DISK_FULL", &["package", "distribute", "p", "--to", "full"]).await;
    assert!(refused.stderr.contains("0 free"), "{refused:?}");
    assert_eq!(state(&site, "full").await, "none", "nothing was sent");
    // A group takes what fits; who joins later gets it as well.
    site.ok(&["dp", "group", "create", "south"]).await;
    site.ok(&["dp", "group", "join", "south", "full"]).await;
    site.refused("DP_DISK_FULL", &["package", "distribute", "p", "--to", "south"]).await;
    // It is written down, so that somebody sees it and it is tried again: the point says the same.
    until("it is refused there", async || state(&site, "full").await == "failed").await;
    let shown = site.ok(&["content", "status", "p"]).await;
    assert!(shown.to_string().contains("DP_DISK_FULL"), "{shown}");
    let plan = site.json(&["--dry-run", "dp", "group", "join", "south", "full"]).await;
    assert_eq!((plan.status, plan.code().as_str()), (7, "PACKAGE_PARTLY_DONE"), "room is counted: {plan:?}");
    site.ok(&["dp", "group", "join", "south", "rome"]).await;
    until("success", async || state(&site, "rome").await == "success").await;
    assert_eq!(rome.get(&format!("/content/{sha256}")).await.as_deref(), Some(bytes.as_slice()));
    let partly = site.json(&["package", "distribute", "p", "--to", "south"]).await;
    assert_eq!((partly.status, partly.code().as_str()), (7, "PACKAGE_PARTLY_DONE"), "{partly:?}");
    site.ok(&["dp", "maintenance", "rome", "on"]).await;
    assert_eq!(site.ok(&["dp", "show", "rome"]).await["condition"], "maintenance");
    site.ok(&["dp", "group", "leave", "south", "rome"]).await;
    assert_eq!(state(&site, "rome").await, "success", "leaving a group removes nothing");

    // What is on its way can be called off, and sent after all; nobody has to come for what never arrived.
    site.ok(&["dp", "add", "ghost", "--url", "http://127.0.0.8:1"]).await;
    let acts = async |verb: &str| {
        let acted = site.ok(&["package", verb, "p", "--to", "ghost"]).await;
        acted["points"][0]["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(acts("distribute").await, "queued");
    assert_eq!(acts("cancel").await, "cancelled");
    assert_eq!(acts("retry").await, "queued");
    assert_eq!(acts("redistribute").await, "queued");
    site.refused("CONFIRMATION_REQUIRED", &["package", "redistribute", "p"]).await;
    let plan = site.ok(&["--dry-run", "package", "cancel", "p", "--to", "ghost"]).await;
    assert_eq!(
        (&plan["points"][0]["state"], state(&site, "ghost").await.as_str()),
        (&json!("cancelled"), "queued")
    );
    site.refused("DP_STATE_REFUSED", &["package", "validate", "p", "--to", "ghost"]).await;
    site.refused("PACKAGE_DISTRIBUTED", &["--yes", "package", "delete", "p"]).await;
    site.ok(&["package", "withdraw", "p", "--from", "ghost"]).await;
    assert_eq!(state(&site, "ghost").await, "none");
    site.ok(&["dp", "maintenance", "ghost", "on"]).await;
    site.refused("DP_IN_MAINTENANCE", &["package", "distribute", "p", "--to", "ghost"]).await;

    // Another machine with the key of the first.
    let mut twin = Machine::new("127.0.0.5", &site.url, "", "");
    std::fs::create_dir(twin.path("point")).unwrap();
    std::fs::copy(rome.path("point/point.key"), twin.path("point/point.key")).unwrap();
    twin.start().await;
    until("refused", async || twin.status().await["point"]["problem"]["code"] == "POINT_IDENTITY_TAKEN")
        .await;
    assert_eq!(rome.status().await["healthy"], true);
    // A used token is good for nobody else, and no key is good for everything.
    let enrolment = json!({ "token": full_token, "key_sha256": "0".repeat(64), "instance": "00000000-0000-0000-0000-000000000000" });
    let enrol = |body: String| http().post(format!("{}/enrol", site.url)).body(body).send();
    assert_eq!(enrol(enrolment.to_string()).await.unwrap().status(), 403);
    assert_eq!(enrol("{".to_owned()).await.unwrap().status(), 400);
    assert_eq!(enrol(" ".repeat(5_000)).await.unwrap().status(), 413);
    // Devices enrol the same way, and are no points.
    let desk = site.ok(&["key", "enrol", "desk-7"]).await;
    let listed = site.ok(&["key", "list"]).await;
    let is_out = |one: &Value| one["name"] == "desk-7" && one["token_until"].is_string();
    assert!(
        listed.as_array().unwrap().iter().any(is_out),
        "whoever has the token may become desk-7: {listed}"
    );
    let file = site.folder.path().join("desk-token");
    std::fs::write(&file, desk["token"].as_str().unwrap()).unwrap();
    let file = file.to_string_lossy().into_owned();
    let enrolled = site.ok(&["client", "enrol", "--token-file", &file]).await;
    assert_eq!((&enrolled["kind"], &enrolled["name"]), (&json!("device"), &json!("desk-7")));
    site.refused("TOKEN_REFUSED", &["client", "enrol", "--token-file", &file]).await;
    let key = std::fs::read_to_string(site.folder.path().join("device/device.key")).unwrap();
    let report = http().get(format!("{}/point/assignment", site.url)).bearer_auth(key.trim());
    assert_eq!(report.send().await.unwrap().status(), 401);
    site.ok(&["--yes", "key", "revoke", "desk-7"]).await;
    site.refused("KEY_NOT_FOUND", &["--yes", "key", "revoke", "desk-7"]).await;
    assert_eq!(site.ok(&["key", "list"]).await.as_array().unwrap().len(), 3);
    assert!(!site.dump().await.contains("spsync_"), "no secret in what is dumped");
    let content = format!("{}/point/content/{sha256}", site.url);
    assert_eq!(http().get(&content).send().await.unwrap().status(), 401);
    site.ok(&["package", "withdraw", "p", "--from", "full"]).await;
    until("it is taken off", async || state(&site, "full").await == "none").await;
    let key = std::fs::read_to_string(full.path("point/point.key")).unwrap();
    let with_key = http().get(&content).bearer_auth(key.trim()).send().await.unwrap();
    assert_eq!(with_key.status(), 404, "a point is given what it is to hold, and nothing else");
    full.stop().await;
}

#[tokio::test]
async fn a_point_trusts_the_authority_of_its_site_also_after_a_renewal() {
    let mut site = TestSite::start(Way::Alone).await;
    site.package().await;
    site.ok(&["package", "download", "p"]).await;
    let port = free_port(Ipv4Addr::LOCALHOST);
    site.configure(|text| {
        text.replacen("[server]", &format!("[server]\nlisten_tls = [\"127.0.0.1:{port}\"]"), 1)
    });
    site.refused("TLS_NOT_SET_UP", &["tls", "show"]).await;
    site.refused("TLS_NOT_SET_UP", &["tls", "renew"]).await;
    let made = site.ok(&["tls", "init", "--name", "127.0.0.1"]).await;
    site.refused("TLS_EXISTS", &["tls", "init"]).await;
    site.ok(&["dp", "add", "lyon", "--url", "http://127.0.0.6:1"]).await;
    site.ok(&["package", "distribute", "p", "--to", "all"]).await;
    let token = token(&site, "lyon").await;
    site.start_daemon().await;

    let authority = made["ca_file"].as_str().unwrap();
    let https = format!("https://127.0.0.1:{port}");
    let mut stranger = Machine::new("127.0.0.6", &https, &token, "");
    stranger.start().await;
    until("distrust", async || stranger.status().await["point"]["problem"]["code"] == "SYNC_TLS_UNTRUSTED")
        .await;
    stranger.stop().await;
    let mut lyon = Machine::new("127.0.0.6", &https, &token, "");
    let config = std::fs::read_to_string(lyon.path("config.toml")).unwrap();
    let trusting = config.replace("[dp]", &format!("[dp]\nca_file = {authority:?}"));
    std::fs::write(lyon.path("config.toml"), trusting).unwrap();
    lyon.start().await;
    until("success", async || state(&site, "lyon").await == "success").await;

    let roots = reqwest::Certificate::from_pem_bundle(&std::fs::read(authority).unwrap()).unwrap();
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only(roots)
        .pool_max_idle_per_host(0)
        .build()
        .unwrap();
    let renewed = site.ok(&["tls", "renew"]).await;
    assert_ne!(renewed["certificates"]["since"], made["certificates"]["since"]);
    assert_eq!(
        client.get(format!("{https}/content/x")).send().await.unwrap().status(),
        404,
        "without a restart"
    );
    // Who speaks no TLS there is closed out, and nobody else notices.
    let plain = http().get(format!("http://127.0.0.1:{port}/content/x")).send().await;
    assert!(plain.is_err());
    site.hang_up().await;
    assert_eq!(client.get(format!("{https}/content/x")).send().await.unwrap().status(), 404);

    // Another authority, as README.md says it: made aside, trusted beside the first one, then put in its place.
    let (next, config) = (site.folder.path().join("next"), site.folder.path().join("next.toml"));
    std::fs::write(&config, format!("[site]\ndata_dir = {next:?}\n[admin]\nsocket = \"\"\n")).unwrap();
    let made = spawn(&config, &["tls", "init", "--name", "127.0.0.1"]).wait_with_output().await.unwrap();
    assert!(made.status.success(), "{made:?}");
    let (bundle, first) = (lyon.path("ca.pem"), std::fs::read(authority).unwrap());
    let second = std::fs::read(next.join("tls/ca.pem")).unwrap();
    std::fs::write(&bundle, [first.clone(), second.clone()].concat()).unwrap();
    lyon.stop().await;
    let config = std::fs::read_to_string(lyon.path("config.toml")).unwrap();
    let both = config.replace(&format!("ca_file = {authority:?}"), &format!("ca_file = {bundle:?}"));
    std::fs::write(lyon.path("config.toml"), both).unwrap();
    lyon.start().await;
    let hears = async || {
        let point = lyon.status().await["point"].clone();
        !point["contact"].is_null() && point["problem"].is_null()
    };
    until("the first authority is trusted beside the next", hears).await;
    assert_eq!(site.stop_daemon().await, 0);
    let tls = site.folder.path().join("site/tls");
    std::fs::rename(&tls, site.folder.path().join("tls.before")).unwrap();
    std::fs::rename(next.join("tls"), &tls).unwrap();
    site.start_daemon().await;
    let before = lyon.status().await["point"]["contact"].clone();
    let hears_again = async || {
        let point = lyon.status().await["point"].clone();
        point["contact"] != before && point["problem"].is_null()
    };
    until("the next authority is trusted", hears_again).await;
    let trusts = async |authority: &[u8]| {
        let roots = reqwest::Certificate::from_pem_bundle(authority).unwrap();
        let client = reqwest::Client::builder().no_proxy().tls_certs_only(roots).build().unwrap();
        client.get(format!("{https}/content/x")).send().await.is_ok()
    };
    assert_eq!((trusts(&first).await, trusts(&second).await), (false, true));
    assert_eq!(site.stop_daemon().await, 0);
}
