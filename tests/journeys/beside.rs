//! Updates deployed beside task sequences, and maintenance windows: from the site through the policy to the step on a pretended
//! device (mission row M57).

use serde_json::{Value, json};
use support::{TestSite, Way, http};

const FACTS: &str = "[facts]\nos_type = \"client\"\nversion = \"10.0.22631\"\nedition = \"Enterprise\"\narchitecture = \"x64\"\n\
    language = \"en-us\"\nmemory_mb = 8192\nprocessor_mhz = 2000\nfree_disk_mb = 90000\n";

/// Enrols a device; its key.
async fn enrolled(site: &TestSite, name: &str) -> String {
    let token = site.ok(&["key", "enrol", name]).await["token"].as_str().expect("a token").to_owned();
    let file = site.folder.path().join("token");
    std::fs::write(&file, token).expect("it is written");
    site.ok(&["client", "enrol", "--token-file", &file.to_string_lossy()]).await;
    let key = std::fs::read_to_string(site.folder.path().join("device/device.key")).expect("it enrolled");
    std::fs::remove_dir_all(site.folder.path().join("device")).expect("the next one begins anew");
    key.trim().to_owned()
}

async fn policy(site: &TestSite, key: &str) -> Value {
    let answer =
        http().get(format!("{}/client/policy", site.url)).bearer_auth(key).send().await.expect("it answers");
    serde_json::from_slice(&answer.bytes().await.expect("a body")).expect("a policy")
}

/// Runs a policy on a pretended device: the answer, and the details of the last message about a step.
async fn pretended(site: &TestSite, policy: &Value, script: &str, name: &str) -> (Value, String) {
    let at = |file: &str| site.folder.path().join(file).to_string_lossy().into_owned();
    std::fs::write(at("policy.json"), policy.to_string()).expect("it is written");
    std::fs::write(at("device.toml"), format!("{script}\n{FACTS}")).expect("it is written");
    let (policy, device, state) = (at("policy.json"), at("device.toml"), at(name));
    let ran = site
        .json(&["client", "run", "--policy", &policy, "--simulate", &device, "--state-dir", &state, "--once"])
        .await;
    let memory = std::fs::read(site.folder.path().join(name).join("device.json")).unwrap_or_default();
    let memory: Value = serde_json::from_slice(&memory).unwrap_or_default();
    let steps = memory["outbox"].as_array().cloned().unwrap_or_default();
    let last =
        steps.iter().rev().find(|said| said["step"]["state"] == "succeeded").cloned().unwrap_or_default();
    (ran.json()["deployments"][0].clone(), last["details"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn only_updates_of_its_collections_are_installed_and_only_in_a_window() {
    let site = TestSite::start(Way::Daemon).await;
    site.ok(&["now"]).await;
    let (eleven, listed) =
        (site.windows11().await, site.ok(&["updates", "list", "--product", "Windows 10"]).await);
    let ten = listed["updates"][0]["update"].as_str().unwrap().to_owned();
    let titles = |update: &str| {
        let all = listed["updates"].as_array().unwrap();
        all.iter().find(|one| one["update"] == update).map(|one| one["title"].as_str().unwrap().to_owned())
    };
    for collection in ["ring", "other"] {
        site.ok(&["collection", "create", collection]).await;
    }
    site.ok(&["collection", "add", "ring", "desk-1"]).await;
    site.ok(&["collection", "add", "other", "desk-2"]).await;
    let (one, two) = (enrolled(&site, "desk-1").await, enrolled(&site, "desk-2").await);
    site.ok(&["ts", "create", "Own"]).await;
    site.ok(&["ts", "step", "add", "Own", "install-updates", "mode=all"]).await;
    site.ok(&["ts", "set", "Own", "max_runtime=60"]).await;
    let own = ["deploy", "create", "Own", "--collection", "ring", "--purpose", "required"];
    assert_eq!(site.ok(&own).await["id"], "XYZ20001");

    // All or nothing, and for a reason.
    let deploy = |update: &'static str, more: &[&'static str]| -> Vec<&'static str> {
        ["deploy", "create", "--update", update, "--collection"]
            .into_iter()
            .chain(more.iter().copied())
            .collect()
    };
    site.refused("UPDATE_NOT_FOUND", &deploy("00000000-0000-0000-0000-000000000009", &["ring"])).await;
    site.refused("COLLECTION_NOT_FOUND", &["deploy", "create", "--update", &ten, "--collection", "x"]).await;
    site.refused("LICENSE_NOT_ACCEPTED", &["deploy", "create", "--update", &eleven, "--collection", "ring"])
        .await;
    let with_package = ["deploy", "create", "--update", &ten, "--collection", "ring", "--new-package", "a"];
    site.refused("CONFLICTING_OPTIONS", &with_package).await;
    let late =
        ["deploy", "create", "--update", &ten, "--collection", "ring", "--deadline", "7d", "--expires", "1d"];
    site.refused("INVALID_OPTION", &late).await;
    assert_eq!(site.ok(&["deploy", "updates"]).await, json!([]));

    // Another collection's update is not told to desk-1: its scan finds it, and it is skipped.
    let other = ["deploy", "create", "--update", &ten, "--collection", "other", "--purpose", "required"];
    let made = site.ok(&other).await;
    assert_eq!(
        (&made["id"], &made["purpose"], &made["state"]),
        (&json!("XYZ20002"), &json!("required"), &json!("due"))
    );
    let told = policy(&site, &one).await;
    assert_eq!(told["updates"], Value::Null, "{told}");
    assert_eq!(policy(&site, &two).await["updates"][0]["id"], json!(ten));
    let title = titles(&ten).unwrap();
    let scan = format!("[[applicable]]\nid = \"{ten}\"\ntitle = \"KB10\"");
    let (line, details) = pretended(&site, &told, &scan, "first").await;
    assert_eq!(
        (&line["state"], details.as_str()),
        (&json!("succeeded"), "installed: none; skipped: KB10 (not-targeted)")
    );
    let mine = ["deploy", "create", "--update", &ten, "--collection", "ring"];
    let made = site.ok(&mine).await;
    assert!(made["notes"][0].as_str().unwrap().starts_with("not downloaded: "), "{made}");
    let told = policy(&site, &one).await;
    assert_eq!(told["updates"][0]["files"], json!([]), "nobody has them: {told}");
    assert_eq!(
        (&told["updates"][0]["mandatory"], &told["updates"][0]["title"]),
        (&json!(false), &json!(title))
    );
    let (line, details) = pretended(&site, &told, &scan, "second").await;
    assert_eq!(line["state"], "succeeded");
    let short: String = title.chars().take(40).collect();
    assert_eq!(details, format!("installed: {short}; skipped: none"));

    // Once the library has its files, devices are told of them and find them at the site's own point; nobody else does, unless a
    // package has them for everybody.
    site.ok(&["package", "create", "p", "--private"]).await;
    site.ok(&["package", "add", "p", &ten]).await;
    site.ok(&["package", "download", "p"]).await;
    let told = policy(&site, &one).await;
    let file = told["updates"][0]["files"][0]["sha256"].as_str().unwrap().to_owned();
    let get = async |key: &str| {
        let asked = http().get(format!("{}/content/{file}", site.url)).bearer_auth(key);
        asked.send().await.expect("it answers").status().as_u16()
    };
    assert_eq!((get(&one).await, get("spsync_nobody").await), (200, 404), "{told}");
    site.ok(&["package", "set", "p", "access=public"]).await;
    assert_eq!((get(&one).await, get("spsync_nobody").await), (200, 200));
    let located = site.ok(&["content", "locate", "--ip", "127.0.0.1", &file]).await;
    let found = |one: &Value| one["name"] == "site" && one["verdict"] == "in";
    assert!(located["candidates"].as_array().unwrap().iter().any(found), "{located}");

    // The deployment is required: outside of a window of its collection it waits.
    site.refused(
        "COLLECTION_NOT_FOUND",
        &["collection", "window", "add", "x", "w", "--begins", "0 22 * * sat", "--for", "4h"],
    )
    .await;
    site.refused(
        "INVALID_OPTION",
        &["collection", "window", "add", "ring", "w", "--begins", "0 25 * * *", "--for", "4h"],
    )
    .await;
    // Half a day from now, so that no window is open whenever this runs.
    let begins = format!("0 {} * * *", (jiff::Timestamp::now().as_second() / 3_600 + 12) % 24);
    let add = [
        "collection",
        "window",
        "add",
        "ring",
        "nights",
        "--begins",
        &begins,
        "--for",
        "4h",
        "--zone",
        "UTC",
    ];
    let window = site.ok(&add).await;
    let (from, until) = (window["next"]["from"].as_str().unwrap(), window["next"]["until"].as_str().unwrap());
    let told = policy(&site, &one).await;
    assert!(told["windows"].as_array().unwrap().len() >= 14 && told["windows"][0]["from"] == from, "{told}");
    assert_eq!(policy(&site, &two).await["windows"], Value::Null);
    let until: jiff::Timestamp = until.parse().unwrap();
    let last = until - std::time::Duration::from_secs(59 * 60);
    let (line, _) = pretended(&site, &told, &format!("clock = \"{last}\"\n{scan}"), "third").await;
    assert_eq!(
        (&line["state"], &line["details"].as_str().unwrap()[..21]),
        (&json!("waiting"), "no window is open tha")
    );
    let early = until - std::time::Duration::from_secs(61 * 60);
    let (line, _) = pretended(&site, &told, &format!("clock = \"{early}\"\n{scan}"), "fourth").await;
    assert_eq!(line["state"], "succeeded", "{line}");
    site.ok(&["deploy", "change", "XYZ20001", "--outside-windows"]).await;
    let told = policy(&site, &one).await;
    let (line, _) = pretended(&site, &told, &format!("clock = \"{last}\"\n{scan}"), "fifth").await;
    assert_eq!(line["state"], "succeeded", "it overrides: {line}");

    // Taken back.
    assert_eq!(site.ok(&["deploy", "stop", "XYZ20003"]).await["state"], "stopped");
    site.refused("DEPLOYMENT_OVER", &["deploy", "stop", "XYZ20003"]).await;
    assert_eq!(policy(&site, &one).await["updates"], Value::Null);
    site.ok(&["--yes", "deploy", "delete", "XYZ20003"]).await;
    site.refused("DEPLOYMENT_NOT_FOUND", &["deploy", "show", "XYZ20003"]).await;
    assert_eq!(site.ok(&["deploy", "updates"]).await.as_array().unwrap().len(), 1);
    site.ok(&["collection", "window", "remove", "ring", "nights"]).await;
    site.refused("NOT_FOUND", &["collection", "window", "remove", "ring", "nights"]).await;
    assert_eq!(policy(&site, &one).await["windows"], Value::Null);
}
