//! `spsync client run` against a site that runs: policies, content from its point and from peers, messages, refusals.

use std::process::Stdio;

use catalog::digest::Sha256Digest;
use catalog::esd_catalog::Architecture;
use serde_json::{Value, json};
use support::{FACTS, Fault, Seeded, TestDevice, TestSite, Way, files_with, http, until};

const UPGRADE: &str = "XYZ20001";

/// A synchronised site with a task sequence `Upgrade` from the feature update alone, and a collection of these devices.
pub async fn site(app: Option<&str>, devices: &[&str]) -> TestSite {
    let site = TestSite::start(Way::Daemon).await;
    site.ok(&["now"]).await;
    let update = site.windows11().await;
    site.ok(&["license", "review", &update]).await;
    site.ok(&["license", "accept", &update]).await;
    let mut create = vec!["ts", "create", "Upgrade", "--upgrade", "--feature-update", &update];
    if let Some(app) = app {
        application(&site, app, "MZ setup", "setup.exe /q").await;
        create.extend(["--app", app]);
    }
    site.ok(&create).await;
    site.ok(&["collection", "create", "ring"]).await;
    let add: Vec<&str> = ["collection", "add", "ring"].iter().chain(devices).copied().collect();
    site.ok(&add).await;
    site
}

/// An application with one file `setup.exe`.
async fn application(site: &TestSite, name: &str, setup: impl AsRef<[u8]>, install: &str) -> String {
    let (file, form) = (site.folder.path().join("setup.exe"), site.folder.path().join("app.toml"));
    std::fs::write(file, setup).expect("it is written");
    let text = format!("name = \"{name}\"\ninstall = '{install}'\ncontent = [\"setup.exe\"]\n");
    std::fs::write(&form, text).expect("it is written");
    let added = site.ok(&["app", "add", &form.to_string_lossy()]).await;
    added["id"].as_str().expect("an id").to_owned()
}

/// Deploys to the collection.
pub async fn deploy(site: &TestSite, name: &str, more: &[&str]) -> String {
    let args: Vec<&str> =
        ["deploy", "create", name, "--collection", "ring"].iter().chain(more).copied().collect();
    site.ok(&args).await["id"].as_str().expect("an id").to_owned()
}

/// Devices do it by themselves.
pub const REQUIRED: [&str; 5] = ["--purpose", "required", "--deadline", "7d", "--confirm-high-risk"];

/// The only ESD of the feature update: its digest, its size, its path upstream.
pub fn esd(site: &TestSite) -> (String, u64, String) {
    let esd =
        site.published.find("Windows 11", "business", Architecture::X64, "en-us").expect("it is published");
    (esd.fingerprint.sha256.to_string(), esd.fingerprint.size, esd.path.clone())
}

async fn happened(site: &TestSite, device: &str) -> Vec<Value> {
    let history = site.ok(&["client", "history", device]).await;
    history["happened"].as_array().expect("a list").clone()
}

fn details(happened: &[Value]) -> String {
    happened.iter().map(|one| one["details"].as_str().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_device_upgrades_while_its_site_is_away_and_says_so_once() {
    let mut site = site(None, &["desk-1"]).await;
    let device = TestDevice::enrolled(&site, "desk-1", "127.0.0.7").await;
    let other = TestDevice::enrolled(&site, "desk-2", "127.0.0.8").await;
    assert_eq!(device.round(&["--once"]).await["deployments"], json!([]), "nothing is deployed yet");
    let more = [&["--new-package", "upgrades", "--to", "site"][..], &REQUIRED].concat();
    assert_eq!(deploy(&site, "Upgrade", &more).await, UPGRADE);
    let (_, size, _) = esd(&site);

    // Before the deadline its content comes, from the point of the site.
    let round = device.round(&["--once"]).await;
    let line = &round["deployments"][0];
    assert_eq!((&line["state"], &round["unsent"]), (&json!("waiting"), &json!(0)), "{round}");
    assert!(line["details"].as_str().expect("a text").ends_with("its content is there"), "{line}");
    let status = site.ok(&["deploy", "status", UPGRADE]).await;
    assert_eq!(status["states"], json!({"waiting": 1}), "{status}");
    assert_eq!(other.round(&["--once"]).await["deployments"], json!([]), "it is not in the collection");

    // The site goes away. The deadline comes, and the device does what it was told; its messages wait.
    site.kill_daemon().await;
    let ran = device.run(&[]).await;
    let round = ran.json();
    assert_eq!((ran.status, &round["deployments"][0]["state"]), (0, &json!("succeeded")), "{ran:?}");
    let unsent = round["unsent"].as_u64().expect("a number");
    assert!(unsent > 5, "{round}");
    assert_eq!(
        device.effects().iter().filter(|effect| effect.contains("Upgrade Operating System")).count(),
        1
    );

    // The site is there again and hears all of it, once, though it comes twice: the answer to the first batch was lost.
    let queued = std::fs::read(device.path("device/runs/device.json")).expect("it is there");
    site.start_daemon().await;
    assert_eq!(device.round(&["--once"]).await["unsent"], 0);
    let heard = happened(&site, "desk-1").await;
    std::fs::write(device.path("device/runs/device.json"), queued).expect("it is written");
    assert_eq!(device.round(&["--once"]).await["unsent"], 0);
    assert_eq!(happened(&site, "desk-1").await, heard, "nothing is taken down twice");
    let shown = site.ok(&["client", "show", "desk-1"]).await;
    assert!(shown["replayed"].as_u64().expect("a number") >= unsent, "{shown}");
    let finals = heard.iter().filter(|one| one["state"] == "succeeded").count();
    assert_eq!((finals, heard.last().map(|one| &one["state"])), (1, Some(&json!("succeeded"))));
    let status = site.ok(&["deploy", "status", UPGRADE]).await;
    assert_eq!(status["states"], json!({"succeeded": 1}), "{status}");
    assert_eq!(
        status["devices"][0]["bytes"],
        json!({"distribution-point": size}),
        "who gave it ahead is told"
    );

    // The disk of another device is a copy of this one's: what it says of a deployment that was never its own counts nothing.
    let copied = std::fs::read(device.path("device/runs/device.json")).expect("it is there");
    let mut copy: Value = serde_json::from_slice(&copied).expect("JSON");
    let mut message = json!({"number": 900, "time": "2026-11-02T20:00:00Z", "deployment": UPGRADE, "run": 9, "state": "failed"});
    message["code"] = json!("STEP_FAILED");
    copy["outbox"] = json!([message]);
    std::fs::write(other.path("device/runs/device.json"), copy.to_string()).expect("it is written");
    assert_eq!(other.round(&["--once"]).await["unsent"], 0, "it was refused for good");
    assert_eq!(site.ok(&["client", "show", "desk-2"]).await["refused"], 1);
    assert_eq!(site.ok(&["deploy", "status", UPGRADE]).await["states"], json!({"succeeded": 1}));

    // A key that was taken back: the device is refused, and begins nothing by the policy that it kept.
    deploy(&site, "Upgrade", &[]).await;
    device.round(&["--once"]).await;
    site.ok(&["--yes", "key", "revoke", "desk-1"]).await;
    let ran = device.run(&["--start", "XYZ20002"]).await;
    assert_eq!((ran.status == 0, ran.code().as_str()), (false, "KEY_REVOKED"), "{ran:?}");
    assert_eq!(site.ok(&["client", "show", "desk-1"]).await["enrolled"], false);
    site.kill_daemon().await;
    assert_eq!(
        device.round(&["--start", "XYZ20002"]).await["deployments"],
        json!([]),
        "it has forgotten its policy"
    );
}

/// A machine was scrapped, or sold: it leaves everything that counts devices, whatever it still says, and what it did stays.
#[tokio::test]
async fn a_device_that_is_removed_is_refused_and_what_it_did_stays() {
    let site = site(None, &["desk-1", "desk-2"]).await;
    let device = TestDevice::enrolled(&site, "desk-1", "127.0.0.7").await;
    let other = TestDevice::enrolled(&site, "desk-2", "127.0.0.8").await;
    let more = [&["--new-package", "upgrades", "--to", "site"][..], &REQUIRED].concat();
    deploy(&site, "Upgrade", &more).await;
    let ran = device.run(&[]).await;
    assert_eq!(ran.json()["deployments"][0]["state"], "succeeded", "{ran:?}");
    // The other one waits for its deadline.
    assert_eq!(other.round(&["--once"]).await["deployments"][0]["state"], "waiting");
    let before = happened(&site, "desk-1").await;
    assert!(!before.is_empty());

    site.refused("CONFIRMATION_REQUIRED", &["client", "remove", "desk-1"]).await;
    let plan = site.ok(&["--dry-run", "--yes", "client", "remove", "DESK-1"]).await;
    assert_eq!((&plan["dry_run"], &plan["collections"]), (&json!(true), &json!(["ring"])), "{plan}");
    assert_eq!(site.ok(&["client", "list"]).await.as_array().expect("a list").len(), 2);
    let removed = site.ok(&["--yes", "client", "remove", "desk-1"]).await;
    assert_eq!((&removed["had_key"], &removed["under_way"]), (&json!(true), &json!([])), "{removed}");

    site.refused("DEVICE_NOT_FOUND", &["client", "show", "desk-1"]).await;
    site.refused("DEVICE_NOT_FOUND", &["--yes", "client", "remove", "desk-1"]).await;
    assert_eq!(site.ok(&["collection", "show", "ring"]).await["devices"], json!(["desk-2"]));
    let status = site.ok(&["deploy", "status", UPGRADE]).await;
    assert_eq!(status["states"], json!({"waiting": 1}), "{status}");
    let history = site.ok(&["client", "history", "desk-1"]).await;
    assert_eq!((&history["removed"], &history["happened"]), (&json!(true), &json!(before)));
    assert_eq!(history["runs"][0]["state"], "succeeded");

    // It hears so, by the reason, and is not brought back by what it says.
    let ran = device.run(&["--once"]).await;
    assert_eq!((ran.status == 0, ran.code().as_str()), (false, "KEY_REVOKED"), "{ran:?}");
    site.refused("DEVICE_NOT_FOUND", &["client", "show", "desk-1"]).await;
    assert_eq!(other.round(&["--once"]).await["deployments"][0]["state"], "waiting");
    site.ok(&["--yes", "client", "remove", "desk-2"]).await;
    assert_eq!(site.ok(&["client", "list"]).await, json!([]));

    // Another machine of the name begins anew.
    let again = TestDevice::enrolled(&site, "desk-1", "127.0.0.9").await;
    site.ok(&["collection", "add", "ring", "desk-1"]).await;
    assert_eq!(again.round(&["--once"]).await["deployments"][0]["state"], "waiting");
    assert_eq!(site.ok(&["deploy", "status", UPGRADE]).await["states"], json!({"waiting": 1}));
    assert_eq!(site.ok(&["client", "history", "desk-1"]).await["removed"], false);
}

/// Mission rows M20 and M68: nothing of the feature update moves before the run.
#[tokio::test]
async fn predownload_skips_fu_bytes_zero() {
    let site = site(Some("Portal"), &["desk-1", "desk-2"]).await;
    let device = TestDevice::enrolled(&site, "desk-1", "127.0.0.7").await;
    deploy(&site, "Upgrade", &["--new-package", "upgrades", "--to", "site", "--pre-download"]).await;
    let (content, size, _) = esd(&site);
    let round = device.round(&["--once"]).await;
    let line = &round["deployments"][0];
    let told = line["details"].as_str().expect("a text");
    assert!(
        told.contains("somebody may start it; its content is there, left out: ")
            && told.contains("feature updates"),
        "{line}"
    );
    let kept = device.ok(&["client", "content"]).await;
    assert_eq!(
        (kept.as_array().map(Vec::len), &kept[0]["file_name"]),
        (Some(1), &json!("setup.exe")),
        "{kept}"
    );
    let taken = async || {
        let status = site.ok(&["status"]).await;
        let groups = status["taken"].as_object().expect("groups").values();
        groups.filter_map(|group| group["distribution-point"].as_u64()).sum::<u64>()
    };
    assert_eq!(taken().await, 8, "`MZ setup` and nothing else");
    let explained = device.ok(&["client", "explain", &content]).await;
    let (group, one) = (&explained["groups"][0], &explained["deployments"][0]);
    assert!(group.is_string() && explained["kept"].is_null(), "{explained}");
    assert_eq!(one["asks"][0], "distribution point site", "{explained}");
    assert!(
        one["not"][0].as_str().is_some_and(|not| not.contains("the deployment does not allow the cloud")),
        "{explained}"
    );

    let round = device.round(&["--once", "--start", UPGRADE]).await;
    assert_eq!(round["deployments"][0]["state"], "succeeded", "{round}");
    assert_eq!(taken().await, 8 + size);
    let status = site.ok(&["deploy", "status", UPGRADE]).await;
    assert_eq!(status["bytes"], json!({"distribution-point": 8 + size}), "{status}");
    assert!(device.ok(&["client", "explain", &content]).await["kept"].is_string());

    // Where the point is not the device's own, the feature update waits for it, and everything else does not.
    site.ok(&["boundary", "group", "create", "LYON"]).await;
    site.ok(&["boundary", "add", "127.0.0.0/24", "--name", "floor", "--group", "LYON"]).await;
    let again = deploy(&site, "Upgrade", &["--fallback"]).await;
    let other = TestDevice::enrolled(&site, "desk-2", "127.0.0.8").await;
    let round = other.round(&["--once", "--start", &again]).await;
    let all = round["deployments"].as_array().expect("a list");
    let one = all.iter().find(|one| one["deployment"] == again.as_str()).expect("it is deployed");
    assert_eq!(one["state"], "succeeded", "{round}");
    let heard = happened(&site, "desk-2").await;
    let waits: Vec<_> =
        heard.iter().filter(|one| one["details"].to_string().contains("site may be asked from")).collect();
    assert_eq!((waits.len(), &waits[0]["state"]), (1, &json!("downloading")), "{heard:?}");
    let at = |one: &Value| one["at"].as_str().expect("a time").parse::<jiff::Timestamp>().expect("a time");
    let waited = heard.iter().find(|one| one["details"] == "its content is there").expect("it came");
    let waited = at(waited).duration_since(at(waits[0])).as_secs();
    assert!((7_199..7_300).contains(&waited), "{waited}");
}

/// Mission row M19: peers, then the cloud; and neither.
#[tokio::test]
async fn no_package_neither_fails() {
    let site = site(None, &["desk-1", "desk-2", "desk-3"]).await;
    site.ok(&["boundary", "group", "create", "LYON"]).await;
    site.ok(&["boundary", "add", "127.0.0.0/24", "--name", "floor", "--group", "LYON"]).await;
    deploy(&site, "Upgrade", &["--no-package"]).await;
    let (content, size, path) = esd(&site);
    let mut devices = Vec::new();
    for (name, address) in [("desk-1", "127.0.0.7"), ("desk-2", "127.0.0.8"), ("desk-3", "127.0.0.9")] {
        devices.push(TestDevice::enrolled(&site, name, address).await);
    }
    let start = ["--once", "--start", UPGRADE];
    assert_eq!(devices[0].round(&start).await["deployments"][0]["state"], "succeeded");
    let located = site.ok(&["content", "locate", "--client", "DESK-1", &content]).await;
    assert_eq!((located["client"].as_str(), located["device"].as_str()), (Some("127.0.0.1"), Some("DESK-1")));
    let mut sharing = devices[0].command(&["client", "share"]);
    let mut sharing = sharing.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program runs");
    let offered = async || {
        site.ok(&["content", "locate", "--ip", "127.0.0.8", &content]).await["candidates"][0]["kind"]
            == "peer"
    };
    until("the announcement", offered).await;
    assert_eq!(devices[1].round(&start).await["deployments"][0]["state"], "succeeded");
    let status = site.ok(&["deploy", "status", UPGRADE]).await;
    let bytes = |name: &str| {
        let all = status["devices"].as_array().expect("a list");
        all.iter().find(|one| one["device"] == name).expect("it is there")["bytes"].clone()
    };
    assert_eq!(
        (bytes("desk-1"), bytes("desk-2")),
        (json!({"cloud": size}), json!({"peer": size})),
        "{status}"
    );

    // The peer is gone and the cloud has it no more: who waits for it is told at once.
    sharing.kill().await.expect("it runs");
    site.origin.fault(&path, Fault::Status(404, None));
    site.origin.upstream().forget_requests();
    let ran = devices[2].run(&start).await;
    let line = ran.json()["deployments"][0].clone();
    assert_eq!((&line["state"], &line["code"]), (&json!("failed"), &json!("CONTENT_UNAVAILABLE")), "{ran:?}");
    let told = line["details"].as_str().expect("a text");
    assert!(
        told.contains("no distribution point is asked") && told.contains("cloud"),
        "each attempt is named: {told}"
    );
    assert_ne!(ran.status, 0);
    assert_eq!(site.origin.requests_for(&path).len(), 1, "nobody waits in vain");
    let table = site.run(&["deploy", "status", UPGRADE, "--by", "error"]).await.stdout;
    assert!(table.contains("CONTENT_UNAVAILABLE"), "{table}");

    // What is required is asked for until its deadline, and then fails for that.
    let required = deploy(&site, "Upgrade", &[&["--no-package"][..], &REQUIRED].concat()).await;
    let line = |round: &Value| {
        let all = round["deployments"].as_array().expect("a list").clone();
        all.into_iter().find(|one| one["deployment"] == required.as_str()).expect("it is deployed")
    };
    let waits = line(&devices[2].round(&["--once"]).await);
    assert_eq!(
        (&waits["state"], &waits["code"]),
        (&json!("waiting"), &json!("CONTENT_UNAVAILABLE")),
        "{waits}"
    );
    site.origin.upstream().forget_requests();
    let failed = line(&devices[2].round(&[]).await);
    assert_eq!(
        (&failed["state"], &failed["code"]),
        (&json!("failed"), &json!("CONTENT_UNAVAILABLE")),
        "{failed}"
    );
    let asked = site.origin.requests_for(&path).len();
    assert!((6..40).contains(&asked), "again and again for seven days, and not for ever: {asked}");
    // It comes back before the deadline of the next one.
    site.origin.heal(&path);
    let again = deploy(&site, "Upgrade", &[&["--no-package"][..], &REQUIRED].concat()).await;
    let round = devices[2].round(&[]).await;
    let all = round["deployments"].as_array().expect("a list");
    let one = all.iter().find(|one| one["deployment"] == again.as_str()).expect("it is deployed");
    assert_eq!(one["state"], "succeeded", "{round}");
}

/// A file is damaged on the device between its download and its use.
#[tokio::test]
async fn what_is_damaged_before_it_is_used_is_fetched_again() {
    let site = site(None, &["desk-1"]).await;
    let device = TestDevice::enrolled(&site, "desk-1", "127.0.0.7").await;
    let mark = device.path("mark");
    let app =
        application(&site, "Portal", &format!("echo right > '{}'", mark.display()), "sh setup.exe").await;
    let damage = format!(
        "for f in $(find '{}' -type f); do t=$(mktemp); touch -r $f $t; chmod u+w $f; printf X | dd of=$f conv=notrunc bs=1 count=1 2>/dev/null; touch -r $t $f; rm $t; done",
        device.path("device/blobs").display()
    );
    site.ok(&["ts", "create", "Apps"]).await;
    site.ok(&["ts", "step", "add", "Apps", "run-command", &format!("command={damage}")]).await;
    let list = format!("applications=[\"{app}\"]");
    site.ok(&["ts", "step", "add", "Apps", "install-application", &list]).await;
    deploy(&site, "Apps", &[]).await;
    std::fs::write(device.path("facts.toml"), FACTS).expect("it is written");
    let facts = device.path("facts.toml");
    let args =
        ["client", "run", "--execute", "--facts", &facts.to_string_lossy(), "--once", "--start", UPGRADE];
    let ran = device.ran(&args).await;
    assert_eq!(ran.json()["deployments"][0]["state"], "succeeded", "{ran:?}");
    assert_eq!(std::fs::read_to_string(&mark).expect("it was installed"), "right\n");
    let told = details(&happened(&site, "desk-1").await);
    assert!(
        told.contains("[HASH_MISMATCH]") && told.contains("`setup.exe` was fetched again, and is right"),
        "{told}"
    );
    let status = site.ok(&["deploy", "status", UPGRADE]).await;
    assert_eq!(status["states"], json!({"succeeded": 1}), "{status}");
}

/// Mission row M23: what another content has in common with one that a device has had is not fetched again, where its settings say so.
#[tokio::test]
async fn a_device_reuses_its_earlier_content_where_its_settings_say_so() {
    let site = site(None, &["desk-1", "desk-2"]).await;
    site.ok(&["collection", "create", "thrifty"]).await;
    site.ok(&["collection", "add", "thrifty", "desk-1"]).await;
    let args = ["settings", "set", "delta", "priority=5", "delta_content=yes", "collection=thrifty"];
    site.ok(&args).await;
    // The second version has a new head and a changed stretch in the middle.
    const SIZE: u64 = 4 << 20;
    let first = Seeded::new(41, SIZE);
    let mut bytes = first.bytes();
    bytes[..70_000].copy_from_slice(&Seeded::new(42, 70_000).bytes());
    bytes[2 << 20..(2 << 20) + 300_000].copy_from_slice(&Seeded::new(43, 300_000).bytes());
    let key = TestDevice::enrolled(&site, "asker", "127.0.0.6").await.key();
    let mut deployed = Vec::new();
    for (name, setup) in [("Editor 1", first.bytes()), ("Editor 2", bytes)] {
        let app = application(&site, name, &setup, "setup.exe /q").await;
        site.ok(&["ts", "create", name]).await;
        let list = format!("applications=[\"{app}\"]");
        site.ok(&["ts", "step", "add", name, "install-application", &list]).await;
        deployed.push(deploy(&site, name, &[]).await);
        let blocks = format!("{}/content/{}/blocks", site.url, Sha256Digest::of(&setup));
        let is_there = async || {
            let asked = http().get(&blocks).bearer_auth(&key).send().await.expect("it answers");
            asked.status() == 200
        };
        until("the point knows the blocks of it", is_there).await;
    }
    for (name, address, saves) in [("desk-1", "127.0.0.7", true), ("desk-2", "127.0.0.8", false)] {
        let device = TestDevice::enrolled(&site, name, address).await;
        for deployment in &deployed {
            let round = device.round(&["--once", "--start", deployment]).await;
            let all = round["deployments"].as_array().expect("a list");
            let one =
                all.iter().find(|one| one["deployment"] == deployment.as_str()).expect("it is deployed");
            assert_eq!(one["state"], "succeeded", "{round}");
        }
        let status = site.ok(&["deploy", "status", &deployed[1]]).await;
        let all = status["devices"].as_array().expect("a list");
        let bytes = &all.iter().find(|one| one["device"] == name).expect("it reported")["bytes"];
        let (point, saved) = (bytes["distribution-point"].as_u64(), bytes["saved"].as_u64());
        match saves {
            true => {
                assert_eq!(point.zip(saved).map(|(point, saved)| point + saved), Some(SIZE), "{bytes}");
                assert!(point < Some(800_000), "{bytes}");
            }
            false => assert_eq!((point, saved), (Some(SIZE), None), "{bytes}"),
        }
    }
}

/// A product key and a secret value are planted; the run needs both. They are found in nothing that is left.
#[tokio::test]
async fn no_secret_is_left_at_the_site_or_on_the_device() {
    const KEY: &str = "ABCDE-12345-FGHIJ-67890-KLMNO";
    const HIDDEN: &str = "planted-secret-value";
    let mut site = site(None, &["desk-1"]).await;
    let device = TestDevice::enrolled(&site, "desk-1", "127.0.0.7").await;
    let file = |name: &str| site.folder.path().join(name).to_string_lossy().into_owned();
    let found =
        site.published.find("Windows 11", "business", Architecture::X64, "en-us").expect("it is published");
    std::fs::write(file("install.esd"), found.content.read(0, found.wanted.size as usize))
        .expect("it is written");
    site.ok(&["image", "add", &file("install.esd"), "--name", "Windows 11"]).await;
    std::fs::write(file("key"), KEY).expect("it is written");
    std::fs::write(file("value"), HIDDEN).expect("it is written");
    site.ok(&[
        "ts",
        "create",
        "Keyed",
        "--upgrade",
        "--image",
        "Windows 11",
        // The one for Enterprise, as the device has it.
        "--index",
        "5",
        "--product-key-file",
        &file("key"),
    ])
    .await;
    let set = ["ts", "step", "add", "Keyed", "set-variable", "variable=Word", "--value-file", &file("value")];
    site.ok(&set).await;
    site.ok(&["ts", "step", "add", "Keyed", "run-command", "command=join /password:%Word%"]).await;
    std::fs::remove_file(file("key")).expect("it is there");
    std::fs::remove_file(file("value")).expect("it is there");
    deploy(&site, "Keyed", &["--pre-download"]).await;

    let round = device.round(&["--once"]).await;
    assert!(
        round["deployments"][0]["details"]
            .as_str()
            .is_some_and(|told| told.ends_with("its content is there")),
        "{round}"
    );
    let mut told = String::new();
    for more in [&["--show-commands"][..], &["--once", "--start", UPGRADE]] {
        let ran = device.run(more).await;
        told += &(ran.stdout + &ran.stderr);
    }
    assert!(told.contains("succeeded") && told.contains("/password:"), "{told}");
    let policy = http().get(format!("{}/client/policy", site.url)).bearer_auth(device.key());
    told += &policy.send().await.expect("it answers").text().await.expect("a body");
    assert!(told.contains("\"present\":true"), "{told}");
    for args in [
        &["client", "history", "desk-1"][..],
        &["client", "show", "desk-1"],
        &["deploy", "status", UPGRADE],
        &["deploy", "show", UPGRADE],
        &["ts", "show", "Keyed"],
        &["state", "dump"],
    ] {
        let ran = site.json(args).await;
        told += &(ran.stdout + &ran.stderr);
    }
    told += &device.ran(&["client", "log", "--lines", "500"]).await.stdout;
    assert!(told.contains("XYZ20001"), "{told}");
    // The database and what it has not yet taken in from its log are there while the site runs, and after it ends.
    for round in ["while it runs", "after it ended"] {
        for secret in [KEY, HIDDEN] {
            let found = [site.folder.path(), device.folder.path()]
                .map(|folder| files_with(folder, secret.as_bytes()));
            assert_eq!(found.concat(), Vec::<String>::new(), "{round}");
            assert!(!told.contains(secret), "{round}");
        }
        site.stop_daemon().await;
    }
}
