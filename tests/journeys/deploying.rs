//! A task sequence is deployed: the seed's scenario from the deployment on, as the site sees it, and what it refuses.

use reqwest::StatusCode;
use serde_json::{Value, json};
use support::{TestSite, Way, http};

const SECRET: &str = "hunter2-of-the-journey";

/// Enrols a device; its key.
pub async fn enrolled(site: &TestSite, name: &str) -> String {
    let token = site.ok(&["key", "enrol", name]).await["token"].as_str().expect("a token").to_owned();
    let file = site.folder.path().join("token");
    std::fs::write(&file, token).expect("it is written");
    site.ok(&["client", "enrol", "--token-file", &file.to_string_lossy()]).await;
    let key = site.folder.path().join("device/device.key");
    let secret = std::fs::read_to_string(&key).expect("it enrolled").trim().to_owned();
    std::fs::remove_dir_all(site.folder.path().join("device")).expect("the next one begins anew");
    secret
}

async fn get(site: &TestSite, path: &str, key: &str) -> (StatusCode, Value) {
    let answer =
        http().get(format!("{}/{path}", site.url)).bearer_auth(key).send().await.expect("it answers");
    let status = answer.status();
    (status, serde_json::from_slice(&answer.bytes().await.expect("a body")).unwrap_or_default())
}

/// What the site answers a device that says something.
pub async fn post(site: &TestSite, path: &str, key: &str, body: &Value) -> (StatusCode, Value) {
    let asked = http().post(format!("{}/{path}", site.url)).bearer_auth(key).body(body.to_string());
    let answer = asked.send().await.expect("it answers");
    let status = answer.status();
    (status, serde_json::from_slice(&answer.bytes().await.expect("a body")).unwrap_or_default())
}

#[tokio::test]
async fn a_deployment_is_refused_made_heard_reported_and_counted() {
    let site = TestSite::with(
        Way::Daemon,
        |_, published| vec![published.windows11.clone(), published.windows10.clone()],
        "[limits]\ndeployment_default_size = 1\n",
    )
    .await;
    site.ok(&["now"]).await;
    let update = site.windows11().await;
    site.ok(&["license", "review", &update]).await;
    site.ok(&["license", "accept", &update]).await;
    site.ok(&["ts", "create", "Upgrade", "--upgrade", "--feature-update", &update]).await;
    let value = site.folder.path().join("value");
    std::fs::write(&value, SECRET).unwrap();
    site.ok(&[
        "ts",
        "step",
        "add",
        "Upgrade",
        "set-variable",
        "variable=Word",
        "--value-file",
        &value.to_string_lossy(),
    ])
    .await;
    let (one, other) = (enrolled(&site, "desk-1").await, enrolled(&site, "desk-2").await);
    site.ok(&["collection", "create", "ring"]).await;
    site.ok(&["collection", "add", "ring", "desk-1", "desk-3"]).await;

    // M15, M18, M27, M65 and the high risk: everything is refused before anything is made.
    let create = ["deploy", "create", "Upgrade", "--collection", "ring"];
    let with =
        |more: &[&'static str]| -> Vec<&str> { create.iter().copied().chain(more.iter().copied()).collect() };
    let package: &[&str] = &["--new-package", "upgrades"];
    for (code, more) in [
        ("DEPLOYMENT_PACKAGE_CHOICE_REQUIRED", &[][..]),
        ("CONFLICTING_OPTIONS", &["--new-package", "a", "--no-package"]),
        ("CONFLICTING_OPTIONS", &["--new-package", "a", "--deadline", "7d"]),
        ("DP_NOT_FOUND", &["--new-package", "a", "--to", "lyon"]),
        ("PACKAGE_NOT_FOUND", &["--package", "a"]),
        ("RUN_FROM_DP_FEATURE_UPDATE", &["--new-package", "a", "--delivery", "from-point"]),
        ("INTERNET_START_UNSUPPORTED", &["--new-package", "a", "--internet", "--offered-to", "media"]),
        ("HIGH_RISK_UNCONFIRMED", &["--new-package", "a", "--purpose", "required"]),
    ] {
        site.refused(code, &with(more)).await;
    }
    site.refused("COLLECTION_NOT_FOUND", &["deploy", "create", "Upgrade", "--collection", "x"]).await;
    let all = [
        "deploy",
        "create",
        "Upgrade",
        "--collection",
        "All Systems",
        "--purpose",
        "required",
        "--new-package",
        "a",
    ];
    site.refused("HIGH_RISK_COLLECTION", &all).await;
    site.ok(&["--yes", "license", "decline", &update]).await;
    site.refused("LICENSE_DECLINED", &with(package)).await;
    site.ok(&["license", "accept", &update]).await;
    let required = with(&[
        "--new-package",
        "upgrades",
        "--to",
        "site",
        "--purpose",
        "required",
        "--deadline",
        "7d",
        "--confirm-high-risk",
    ]);
    let dry: Vec<&str> = ["--dry-run"].into_iter().chain(required.iter().copied()).collect();
    let would = site.ok(&dry).await;
    assert_eq!(
        (&would["id"], &would["package"], &would["dry_run"]),
        (&Value::Null, &json!("upgrades"), &json!(true))
    );
    assert_eq!(site.ok(&["deploy", "list"]).await, json!([]), "all or nothing");
    assert_eq!(site.ok(&["package", "list"]).await, json!([]));

    // The package is made, filled and sent within.
    let made = site.ok(&required).await;
    assert_eq!(
        (&made["id"], &made["content"], &made["state"]),
        (&json!("XYZ20001"), &json!("ready"), &json!("offered"))
    );
    assert_eq!((&made["progress"]["stored"], &made["progress"]["pending"]), (&json!(1), &json!([])));
    // M27: what is declined after it was deployed is said, until it is accepted again.
    site.ok(&["--yes", "license", "decline", &update]).await;
    let shown = site.ok(&["deploy", "show", "XYZ20001"]).await;
    assert_eq!(shown["would_be_refused"], "LICENSE_DECLINED", "{shown}");
    assert!(shown["notes"][0].as_str().is_some_and(|note| note.contains("licence declined")), "{shown}");
    let listed = site.run(&["deploy", "list"]).await.stdout;
    assert!(listed.contains("offered: LICENSE_DECLINED"), "{listed}");
    let told = site.run(&["status"]).await.stdout;
    assert!(told.contains("1 deployment would be refused today (XYZ20001 LICENSE_DECLINED)"), "{told}");
    site.ok(&["license", "accept", &update]).await;
    assert_eq!(site.ok(&["deploy", "show", "XYZ20001"]).await["would_be_refused"], Value::Null);

    let again = site.ok(&with(package)).await;
    let skipped =
        again["notes"].as_array().unwrap().iter().any(|note| note.as_str().unwrap().contains("is skipped"));
    assert!(skipped, "M18: {again}");
    site.ok(&["deploy", "stop", "XYZ20002"]).await;
    site.refused("DEPLOYMENT_OVER", &["deploy", "change", "XYZ20002", "--expires", "9d"]).await;
    site.refused("TASK_SEQUENCE_DEPLOYED", &["--yes", "ts", "delete", "Upgrade"]).await;

    // A device hears of it with its key, and of no secret.
    let (status, policy) = get(&site, "client/policy", &one).await;
    assert_eq!((status, &policy["device"]), (StatusCode::OK, &json!("desk-1")));
    let assignment = &policy["assignments"][0];
    assert_eq!((&assignment["deployment"], &policy["assignments"][1]), (&json!("XYZ20001"), &Value::Null));
    assert!(assignment["references"]["feature_updates"][0]["files"][0]["sha256"].is_string(), "{assignment}");
    assert!(!policy.to_string().contains(SECRET) && assignment["secrets"][0]["present"] == true);
    let asked = http().get(format!("{}/client/policy", site.url)).bearer_auth(&one);
    let tag = format!("\"{}\"", policy["version"].as_str().unwrap());
    assert_eq!(asked.header("if-none-match", &tag).send().await.unwrap().status(), 304);
    assert_eq!(get(&site, "client/policy", &other).await.1["assignments"], json!([]));
    assert_eq!(get(&site, "client/secrets/XYZ20001", &one).await.1["secrets"][0][1], SECRET);
    let (status, refused) = get(&site, "client/secrets/XYZ20001", &other).await;
    assert_eq!((status, &refused["code"]), (StatusCode::FORBIDDEN, &json!("NOT_TARGETED")));
    assert_eq!(get(&site, "client/secrets/XYZ20002", &one).await.0, 403, "it was stopped");
    assert_eq!(get(&site, "client/policy", "spsync_x").await.0, 401);
    assert_eq!(http().post(format!("{}/client/policy", site.url)).send().await.unwrap().status(), 405);

    // What it says of itself decides who is eligible; what it reports is counted once.
    let facts = json!({"taken": "2026-11-01T00:00:00Z", "facts": {"os_type": "client", "version": "10.0.22631",
        "edition": "Enterprise", "architecture": "x64", "language": "en-us", "free_disk_mb": 90_000}});
    assert_eq!(post(&site, "client/facts", &one, &facts).await.0, 204);
    assert_eq!(post(&site, "client/facts", &one, &json!({"facts": 1})).await.0, 400);
    let checked = site.ok(&["deploy", "check", "XYZ20001"]).await;
    assert_eq!((&checked["devices"], &checked["eligible"]), (&json!(2), &json!(1)), "{checked}");
    assert_eq!(checked["reasons"][0]["why"], "no-facts");
    assert_eq!(checked["groups"][0]["means"], "reachable");
    let message = |number: u64, deployment: &str, state: &str| json!({"number": number, "time": "2026-11-02T20:00:00Z", "deployment": deployment, "run": 1, "state": state});
    let mut failed = message(2, "XYZ20001", "failed");
    failed["step"] =
        json!({"number": 2, "name": "Upgrade Operating System", "kind": "upgrade-os", "state": "failed"});
    failed["exit"] = json!(0xC190_0208_u32);
    let batch = json!({"series": "00000000-0000-0000-0000-000000000001", "messages": [message(1, "XYZ20001", "running"), failed]});
    for _ in 0..2 {
        let (status, ack) = post(&site, "client/status", &one, &batch).await;
        assert_eq!((status, &ack["through"]), (StatusCode::OK, &json!(2)), "{ack}");
    }
    let foreign = post(&site, "client/status", &other, &batch).await.1;
    assert_eq!(foreign["refused"][0]["code"], "NOT_TARGETED", "{foreign}");
    let told = site.ok(&["deploy", "status", "XYZ20001"]).await;
    assert_eq!(told["states"], json!({"failed": 1, "unknown": 1}));
    assert_eq!((&told["errors"][0]["code"], &told["steps"][0]["step"]), (&json!("0xC1900208"), &json!(2)));
    let csv = site.run(&["deploy", "status", "XYZ20001", "--by", "client", "--format", "csv"]).await.stdout;
    assert!(csv.starts_with("bytes,") || csv.contains("desk-1"), "{csv}");
    assert_eq!(csv.lines().count(), 3, "{csv}");
    let table = site.run(&["deploy", "status", "XYZ20001", "--by", "error"]).await.stdout;
    assert!(table.contains("an application or driver blocks the upgrade"), "{table}");
    let history = site.ok(&["client", "history", "desk-1"]).await;
    assert_eq!(history["happened"].as_array().unwrap().len(), 2);
    let shown = site.ok(&["client", "show", "desk-2"]).await;
    assert_eq!((&shown["enrolled"], &shown["refused"]), (&json!(true), &json!(2)));
    site.refused("DEVICE_NOT_FOUND", &["client", "history", "desk-9"]).await;
    what_people_see(&site).await;
    a_refused_device_stops(&site, &other).await;

    // A key that was taken back hears nothing more; the secret is in no state.
    site.ok(&["--yes", "key", "revoke", "desk-1"]).await;
    let (status, refused) = get(&site, "client/policy", &one).await;
    assert_eq!((status, &refused["code"]), (StatusCode::UNAUTHORIZED, &json!("KEY_REVOKED")));
    assert!(refused["help"].as_str().unwrap().contains("spsync client enrol"), "{refused}");
    assert!(!site.dump().await.contains(SECRET));
}

/// Lists say what they hide, and things say what was chosen.
async fn what_people_see(site: &TestSite) {
    for (args, expected) in [
        (&["client", "history", "desk-1", "--limit", "1"][..], "1 older hidden (--limit)"),
        (&["client", "history", "desk-2"], "`desk-2` has told nothing yet"),
        (&["client", "show", "desk-1"], "Windows 10.0.22631 Enterprise x64 en-us"),
        (&["deploy", "show", "XYZ20001"], "delivery before-start · rerun always · offered to clients"),
        (&["deploy", "check", "XYZ20001"], "1 devices have never enrolled (desk-3): enrol them"),
        (&["deploy", "phased", "list"], "no phased deployments yet"),
        (&["dp", "group", "list"], "no groups of distribution points yet"),
        (&["collection", "show", "All Systems"], "desk-2"),
        (&["task", "list", "--limit", "1"], "older ones are hidden (--limit)"),
        (&["status"], "DEPLOY   1 active: 2 devices · 1 failed · 1 unknown"),
    ] {
        let ran = site.run(args).await;
        assert!(ran.stdout.contains(expected), "{args:?}: {ran:?}");
    }
    // Who asked is written down now and then.
    support::until("a device is seen when it asks", async || {
        let keys = site.ok(&["key", "list"]).await;
        let one = keys.as_array().expect("a list").iter().find(|one| one["name"] == "desk-1");
        one.expect("it has a key")["last_seen"].is_string()
    })
    .await;
}

/// What it kept holds while the site is away, and no more once the site refuses.
async fn a_refused_device_stops(site: &TestSite, key: &str) {
    let (file, device) = (site.folder.path().join("key"), site.folder.path().join("pretended.toml"));
    std::fs::write(&file, key).expect("it is written");
    let facts = "[facts]\nos_type = \"client\"\nversion = \"10.0.22631\"\nedition = \"Enterprise\"\narchitecture = \"x64\"\n\
        language = \"en-us\"\n";
    std::fs::write(&device, facts).expect("it is written");
    let (file, device) = (file.to_string_lossy().into_owned(), device.to_string_lossy().into_owned());
    let run = ["client", "run", "--once", "--key-file", &file, "--simulate", &device];
    let kept = site.ok(&run).await;
    assert_eq!(kept["deployments"], json!([]));
    site.ok(&["--yes", "key", "revoke", "desk-2"]).await;
    let refused = site.refused("KEY_REVOKED", &run).await;
    assert!(refused.stderr.contains("spsync client enrol"), "{refused:?}");
}
