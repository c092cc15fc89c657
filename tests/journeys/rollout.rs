//! The document that this program is for, from end to end: a feature update becomes a task sequence, is deployed with a new
//! package to one distribution point, and upgrades a device. Then the same with one thing changed at a time.

use std::path::Path;

use catalog::esd_catalog::Architecture;
use serde_json::{Value, json};
use support::{Image, TestDevice, TestSite, Way, WimFile, WindowsInfo, files_with, until};

use crate::points::{Machine, break_file, state, token};

const SECRET: &str = "planted-by-the-rollout";
const KEY: &str = "BCDFG-HJKMP-QRTVW-XY234-6789B";
const SERVER: &str = "os_type = \"server\"\nversion = \"10.0.17763\"\nedition = \"ServerStandard\"\narchitecture = \"x64\"\n\
    language = \"en-us\"\nmemory_mb = 8192\nprocessor_mhz = 2000\nfree_disk_mb = 90000\n";

/// A site that has synchronised and accepted the licence of the business edition of Windows 11.
struct Rollout {
    site: TestSite,
    update: String,
    content: String,
    size: u64,
}

impl Rollout {
    async fn begin() -> Self {
        let site = TestSite::start(Way::Daemon).await;
        site.ok(&["now"]).await;
        let update = site.windows11().await;
        let esd = site.published.find("Windows 11", "business", Architecture::X64, "en-us");
        let esd = esd.expect("it is published");
        let (content, size) = (esd.fingerprint.sha256.to_string(), esd.fingerprint.size);
        Self { site, update, content, size }
    }

    async fn accept(&self) {
        self.site.ok(&["license", "review", &self.update]).await;
        self.site.ok(&["license", "accept", &self.update]).await;
    }

    /// The task sequence of the feature update alone.
    async fn sequence(&self, name: &str) {
        self.site.ok(&["ts", "create", name, "--upgrade", "--feature-update", &self.update]).await;
    }

    async fn ring(&self, collection: &str, device: &str) {
        self.site.ok(&["collection", "create", collection]).await;
        self.site.ok(&["collection", "add", collection, device]).await;
    }

    /// Deploys at once; its id.
    async fn deploy(&self, sequence: &str, collection: &str, more: &[&str]) -> String {
        let made = self.site.ok(&[&deployment(sequence, collection), more].concat()).await;
        made["id"].as_str().expect("an id").to_owned()
    }

    async fn device(&self, name: &str, address: &str) -> TestDevice {
        TestDevice::enrolled(&self.site, name, address).await
    }

    /// How the only device of a deployment stands.
    async fn standing(&self, deployment: &str) -> Value {
        self.site.ok(&["deploy", "status", deployment]).await["devices"][0].clone()
    }
}

/// What is deployed runs at once.
fn deployment<'a>(sequence: &'a str, collection: &'a str) -> Vec<&'a str> {
    vec![
        "deploy",
        "create",
        sequence,
        "--collection",
        collection,
        "--purpose",
        "required",
        "--deadline",
        "now",
    ]
}

#[tokio::test]
async fn the_main_scenario_goes_from_a_catalog_to_an_upgraded_device() {
    let rollout = Rollout::begin().await;
    let (site, update) = (&rollout.site, &rollout.update);
    // Changed: the licence is not accepted yet.
    let create = ["ts", "create", "Upgrade", "--upgrade", "--feature-update", update];
    site.refused("LICENSE_NOT_ACCEPTED", &create).await;
    assert_eq!(site.ok(&["ts", "list"]).await, json!([]));
    rollout.accept().await;
    assert_eq!(site.ok(&["image", "list"]).await, json!([]), "M09: a feature update alone");
    rollout.sequence("Upgrade").await;
    let secret = site.folder.path().join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    let variable = ["ts", "step", "add", "Upgrade", "set-variable", "variable=JoinWord", "--value-file"];
    site.ok(&[&variable[..], &[&secret.to_string_lossy()]].concat()).await;
    std::fs::remove_file(&secret).unwrap();

    // One distribution point on a machine of its own, in whose group the device is.
    site.ok(&["dp", "add", "lyon", "--url", "http://127.0.9.1:1"]).await;
    let mut lyon = Machine::new("127.0.9.1", &site.url, &token(site, "lyon").await, "");
    site.ok(&["dp", "set", "lyon", &format!("url={}", lyon.url)]).await;
    lyon.start().await;
    site.ok(&["boundary", "group", "create", "LYON"]).await;
    site.ok(&["boundary", "group", "add", "LYON", "--point", "lyon"]).await;
    site.ok(&["boundary", "add", "127.0.0.0/24", "--name", "floor", "--group", "LYON"]).await;

    let desk = rollout.device("desk-1", "127.0.0.7").await;
    rollout.ring("ring", "desk-1").await;
    let id = rollout.deploy("Upgrade", "ring", &["--new-package", "p", "--to", "lyon"]).await;
    until("the package is at lyon", async || state(site, "lyon").await == "success").await;

    let round = desk.round(&["--once"]).await;
    assert_eq!(round["deployments"][0]["state"], "succeeded", "{round}");
    assert_eq!(round["unsent"], 0);
    let standing = rollout.standing(&id).await;
    assert_eq!((&standing["device"], &standing["state"]), (&json!("desk-1"), &json!("succeeded")));
    let status = site.ok(&["deploy", "status", &id]).await;
    let bytes = status["bytes"].as_object().expect("by source");
    assert_eq!(bytes.values().filter_map(Value::as_u64).sum::<u64>(), rollout.size, "{bytes:?}");
    assert_eq!(bytes.keys().collect::<Vec<_>>(), ["distribution-point"]);
    let checked = site.ok(&["deploy", "check", &id]).await;
    assert_eq!(checked["clients"][0]["reasons"][0]["text"], "the device has build 26200 already");
    // The client record knows the new build, and the history each step.
    let shown = site.ok(&["client", "show", "desk-1"]).await;
    assert!(shown["facts"]["version"].as_str().unwrap().starts_with("10.0.26200"), "{shown}");
    let history = site.ok(&["client", "history", "desk-1"]).await;
    let steps: Vec<_> = history["happened"].as_array().unwrap().iter().collect();
    let ended = |name: &str| {
        let of = |step: &&&Value| step["step_name"] == name && step["step_state"] == "succeeded";
        steps.iter().filter(of).count()
    };
    assert_eq!(ended("Upgrade Operating System"), 1, "{history:#}");
    assert!(desk.effects().iter().any(|effect| effect.contains("Upgrade Operating System")));
    // A second look finds it done, and nothing is fetched or told again.
    let again = desk.round(&["--once"]).await;
    assert_eq!(again["deployments"][0]["state"], "succeeded", "{again}");
    let later = site.ok(&["client", "history", "desk-1"]).await;
    assert_eq!(later["happened"], history["happened"]);

    for folder in [site.folder.path(), desk.folder.path(), lyon.folder.path()] {
        assert_eq!(files_with(folder, SECRET.as_bytes()), Vec::<String>::new());
    }
    let told = [
        site.run(&["-o", "json", "deploy", "status", &id]).await.stdout,
        history.to_string(),
        site.ok(&["ts", "show", "Upgrade"]).await.to_string(),
        site.dump().await,
    ];
    assert!(told.iter().all(|text| !text.contains(SECRET)));
    lyon.stop().await;
}

/// What cannot be done with the same sequence, each refused before anything is made.
#[tokio::test]
async fn what_the_same_sequence_cannot_do() {
    let rollout = Rollout::begin().await;
    let site = &rollout.site;
    rollout.accept().await;
    rollout.sequence("Upgrade").await;
    rollout.ring("ring", "desk-1").await;
    let path = |name: &str| site.folder.path().join(name).to_string_lossy().into_owned();

    site.refused("MEDIA_FEATURE_UPDATE", &["media", "create", "Upgrade", "--to", &path("stage")]).await;
    let log = std::fs::read_to_string(path("stage") + "/CreateTSMedia.log").unwrap();
    assert!(log.contains("80070490"), "{log}");
    assert_eq!(std::fs::read_dir(path("stage")).unwrap().count(), 1, "nothing but the log stays");
    site.refused("PRESTAGE_FEATURE_UPDATE", &["prestage", "create", "Upgrade", "--to", &path("x.pkgx")])
        .await;
    assert!(!Path::new(&path("x.pkgx")).exists());

    // Exported and imported, it waits for its feature update.
    site.ok(&["ts", "export", "Upgrade", "--to", &path("up.zip")]).await;
    site.ok(&["ts", "import", &path("up.zip"), "--duplicates", "create-new"]).await;
    let list = site.ok(&["ts", "list"]).await;
    let imported = list[1]["id"].as_str().expect("two of them").to_owned();
    let package = ["--new-package", "p", "--to", "site"];
    site.refused("BROKEN_REFERENCE", &[&deployment(&imported, "ring")[..], &package].concat()).await;
    site.ok(&[
        "ts",
        "step",
        "set",
        &imported,
        "Upgrade Operating System",
        "--feature-update",
        &rollout.update,
    ])
    .await;
    let would = site.ok(&[&["--dry-run"], &deployment(&imported, "ring")[..], &package].concat()).await;
    assert_eq!(would["package"], "p", "with it again it can be deployed");

    // A point without room.
    site.ok(&["dp", "add", "full", "--url", "http://127.0.9.2:1"]).await;
    let mut full = Machine::new("127.0.9.2", &site.url, &token(site, "full").await, "");
    site.ok(&["dp", "set", "full", &format!("url={}", full.url)]).await;
    let config = std::fs::read_to_string(full.path("config.toml")).unwrap();
    let config = config.replace("min_free = \"0\"", "min_free = \"1000TiB\"");
    std::fs::write(full.path("config.toml"), config).unwrap();
    full.start().await;
    until("it is heard of", async || site.ok(&["dp", "list"]).await[1]["free"] == 0).await;
    let there = ["--new-package", "p", "--to", "full"];
    let refused = site.refused("DP_DISK_FULL", &[&deployment("Upgrade", "ring")[..], &there].concat()).await;
    assert!(refused.stderr.contains("0 free"), "{refused:?}");
    assert_eq!(site.ok(&["deploy", "list"]).await, json!([]), "all or nothing");
    assert_eq!(site.ok(&["package", "list"]).await, json!([]));
    full.stop().await;
}

/// What is wrong on the way or on the device: it never runs wrong bytes, and never a step twice.
#[tokio::test]
async fn what_goes_wrong_on_the_way() {
    let rollout = Rollout::begin().await;
    let site = &rollout.site;
    rollout.accept().await;
    rollout.sequence("Upgrade").await;
    rollout.ring("ring", "desk-1").await;
    // Its content came before it, in a package that nobody has to name.
    site.ok(&["package", "create", "p"]).await;
    site.ok(&["package", "add", "p", &rollout.update]).await;
    site.ok(&["package", "download", "p"]).await;
    site.ok(&["package", "distribute", "p"]).await;
    let id = rollout.deploy("Upgrade", "ring", &[]).await;
    let desk = rollout.device("desk-1", "127.0.0.7").await;
    site.ok(&["--yes", "package", "withdraw", "p"]).await;
    site.refused("PACKAGE_DEPLOYED", &["--yes", "package", "delete", "p"]).await;
    rollout.site.ok(&["package", "distribute", "p"]).await;

    // The only place that has it has it wrong.
    let blob =
        site.folder.path().join("site/content/blobs").join(&rollout.content[..2]).join(&rollout.content);
    break_file(&blob);
    let round = desk.round(&["--once"]).await;
    assert_ne!(round["deployments"][0]["state"], "succeeded", "{round}");
    assert_eq!(round["deployments"][0]["code"], "HASH_MISMATCH", "{round}");
    assert!(!desk.path("device/runs/simulated.json").exists(), "nothing was run");
    let repaired = site.ok(&["package", "validate", "p", "--repair"]).await;
    assert!(blob.exists(), "{repaired}");

    // Mended, it runs when it is deployed again; the power is cut twice in each of its steps.
    let shown = site.ok(&["ts", "show", "Upgrade"]).await;
    let steps = shown["steps"].as_u64().expect("a number");
    let cuts = |moments: [&str; 2]| -> String {
        let all = (1..=steps).flat_map(|step| moments.map(|at| (step, at)));
        all.map(|(step, at)| format!("[[power]]\nstep = {step}\nat = \"{at}\"\n")).collect()
    };
    site.ok(&["deploy", "stop", &id]).await;
    let id = rollout.deploy("Upgrade", "ring", &[]).await;
    let other = rollout.device("desk-2", "127.0.0.8").await;
    site.ok(&["collection", "add", "ring", "desk-2"]).await;
    for (device, moments) in [(&desk, ["begins", "ended"]), (&other, ["running", "noted"])] {
        device.behaves(&cuts(moments));
        let round = device.round(&["--once"]).await;
        let line = round["deployments"].as_array().unwrap().iter().find(|line| line["deployment"] == id);
        assert_eq!(line.expect("it is its own")["state"], "succeeded", "{round}");
        let setups =
            device.effects().iter().filter(|effect| effect.contains("Upgrade Operating System")).count();
        assert_eq!(setups, 1, "{:?}", device.effects());
    }
    let status = site.ok(&["deploy", "status", &id]).await;
    assert_eq!(status["states"], json!({"succeeded": 2}), "{status}");
    let history = site.ok(&["client", "history", "desk-2"]).await;
    let by = &status["bytes"];
    assert_eq!(by["distribution-point"], 2 * rollout.size, "no other place was asked: {by}");
    let finals = history["happened"].as_array().unwrap().iter().filter(|one| one["state"] == "succeeded");
    assert_eq!(finals.count(), 1, "{history:#}");
}

/// Phases make deployments of content that is there, and their devices find it.
#[tokio::test]
async fn each_phase_upgrades_its_ring() {
    let rollout = Rollout::begin().await;
    let site = &rollout.site;
    rollout.accept().await;
    rollout.sequence("Upgrade").await;
    site.ok(&["package", "create", "p"]).await;
    site.ok(&["package", "add", "p", &rollout.update]).await;
    site.ok(&["package", "download", "p"]).await;
    site.ok(&["package", "distribute", "p"]).await;
    for (ring, device) in [("ring-1", "desk-1"), ("ring-2", "desk-2")] {
        rollout.ring(ring, device).await;
    }
    let create = ["deploy", "phased", "create", "autumn", "--ts", "Upgrade", "--purpose", "required"];
    let rings = ["--deadline", "asap", "--phase", "ring-1", "--phase", "ring-2"];
    let mut shown = site.ok(&[&create[..], &rings].concat()).await;
    for (phase, device) in ["desk-1", "desk-2"].iter().enumerate() {
        if phase > 0 {
            shown = site.ok(&["deploy", "phased", "advance", "autumn"]).await;
        }
        let id = shown["phases"][phase]["deployment"].as_str().expect("it has begun").to_owned();
        let desk = rollout.device(device, &format!("127.0.0.{}", 7 + phase)).await;
        let round = desk.round(&["--once"]).await;
        let line = round["deployments"].as_array().unwrap().iter().find(|line| line["deployment"] == id);
        assert_eq!(line.expect("it is its own")["state"], "succeeded", "{round}");
        assert_eq!(site.ok(&["deploy", "status", &id]).await["bytes"]["distribution-point"], rollout.size);
    }
}

/// Mission row M10, from an OS upgrade package with a product key: whoever upgrades a server has to ignore what Setup could
/// ask, and no key is left anywhere.
#[tokio::test]
async fn a_server_needs_the_flag() {
    let rollout = Rollout::begin().await;
    let site = &rollout.site;
    let path = |name: &str| site.folder.path().join(name).to_string_lossy().into_owned();
    let windows = WindowsInfo {
        architecture: Architecture::X64,
        edition: "ServerStandard".to_owned(),
        installation_type: "Server".to_owned(),
        language: "en-us".to_owned(),
        build: (20348, 587),
    };
    let image = Image::new("Windows Server 2022").flags("ServerStandard").windows(windows);
    let created = "2026-01-01T00:00:00Z".parse().unwrap();
    let wim = WimFile { seed: 7, created, images: vec![image.file("setup.exe", *b"MZ")] };
    std::fs::write(path("server.wim"), wim.to_bytes()).unwrap();
    site.ok(&["image", "add", &path("server.wim"), "--name", "Server 2022", "--image-version", "21H2"]).await;
    std::fs::write(path("key"), KEY).unwrap();
    for (name, flag, state, code) in [
        ("with", "ignore_dismissable=true", "succeeded", Value::Null),
        ("without", "ignore_dismissable=false", "failed", json!("SETUP_WAITING_FOR_USER")),
    ] {
        let key = path("key");
        let create =
            ["ts", "create", name, "--upgrade", "--image", "Server 2022", "--product-key-file", &key];
        site.ok(&create).await;
        site.ok(&["ts", "step", "set", name, "Upgrade Operating System", flag]).await;
        rollout.ring(name, &format!("server-{name}")).await;
        let id = rollout.deploy(name, name, &[]).await;
        let server = rollout.device(&format!("server-{name}"), "127.0.0.7").await;
        server.behaves(&format!("[facts]\n{SERVER}"));
        let round = server.round(&["--once"]).await;
        let line = &round["deployments"][0];
        assert_eq!((&line["state"], &line["code"]), (&json!(state), &code), "{round}");
        let standing = rollout.standing(&id).await;
        assert_eq!((&standing["state"], &standing["error"]), (&json!(state), &code), "{standing}");
        assert_eq!(files_with(server.folder.path(), KEY.as_bytes()), Vec::<String>::new());
    }
    std::fs::remove_file(path("key")).unwrap();
    assert_eq!(files_with(site.folder.path(), KEY.as_bytes()), Vec::<String>::new());
}
