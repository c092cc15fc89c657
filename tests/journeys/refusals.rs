//! What is refused, with which code, and what two processes do to each other.

use reqwest::Method;
use serde_json::{Value, json};
use support::{DemoCatalog, TestSite, Way, export, until};

use crate::api::{Asker, site_with_api};
use crate::deploying::{enrolled, post};
use crate::imports::{document, titled};

#[tokio::test]
async fn every_refusal_has_its_code_and_its_status() {
    for way in [Way::Alone, Way::Daemon] {
        let site = TestSite::start(way).await;
        site.ok(&["now"]).await;
        let long = "x".repeat(51);
        let longer = "x".repeat(128);
        let rows: Vec<(&str, i32, Vec<&str>)> = vec![
            ("UPDATE_NOT_FOUND", 3, vec!["updates", "show", "nothing"]),
            ("AMBIGUOUS", 3, vec!["updates", "show", "Feature"]),
            ("PACKAGE_NOT_FOUND", 3, vec!["package", "show", "nothing"]),
            ("NAME_TOO_LONG", 4, vec!["package", "create", &long]),
            ("NAME_REQUIRED", 4, vec!["package", "create", "  "]),
            ("DESCRIPTION_TOO_LONG", 4, vec!["package", "create", "a", "--description", &longer]),
            ("RUN_NOT_FOUND", 3, vec!["sync", "show", "99"]),
            ("TASK_NOT_FOUND", 3, vec!["task", "show", "99"]),
            ("CONTENT_NOT_FOUND", 3, vec!["content", "show", "00"]),
            ("NO_LICENSE_TERMS", 4, vec!["license", "review", "Feature update to Windows 10"]),
        ];
        for (code, status, args) in rows {
            let ran = site.refused(code, &args).await;
            assert_eq!(ran.status, status, "{args:?}");
        }
        site.ok(&["package", "create", "taken"]).await;
        assert_eq!(site.refused("NAME_IN_USE", &["package", "create", "TAKEN"]).await.status, 5);
        site.refused("PACKAGE_EMPTY", &["package", "distribute", "taken"]).await;
        site.refused("LANGUAGE_NOT_AVAILABLE", &["package", "add", "taken", "--lang", "xx-xx"]).await;
        site.refused("DP_NOT_FOUND", &["package", "distribute", "taken", "--to", "nowhere"]).await;
    }
}

/// A refusal of a mission row: its code, the status of HTTP, the command, and the same over HTTP.
type Row<'r> = (&'r str, &'r str, u16, Vec<&'r str>, &'r str, Value);

/// Each is refused by the command line and over HTTP, and changes nothing.
async fn refused_both_ways(site: &TestSite, admin: &Asker, rows: Vec<Row<'_>>) {
    let before = site.dump().await;
    for (row, code, status, args, path, body) in rows {
        let ran = site.refused(code, &args).await;
        assert_eq!(ran.status, 4, "{row} {args:?}: {ran:?}");
        let (answered, problem) = admin.ask(Method::POST, path, &body).await;
        let told = (answered.as_u16(), problem["code"].as_str());
        assert_eq!(told, (status, Some(code)), "{row} {path}: {problem}");
    }
    assert_eq!(site.dump().await, before, "what is refused changes nothing");
}

#[tokio::test]
async fn what_is_out_of_reach_too_early_or_of_another_sort_is_refused() {
    const KB: &str = "11111111-2222-4333-8444-666666666666";
    let (site, url) = site_with_api("").await;
    let admin = Asker::of(&site, &url, "deploy-script", "admin").await;

    // M11: updates are to be installed, and none is known yet.
    site.ok(&["ts", "create", "Early"]).await;
    site.ok(&["ts", "step", "add", "Early", "install-updates"]).await;
    assert_eq!(site.ok(&["ts", "lint", "Early"]).await["findings"][0]["code"], "NO_SYNC_YET");
    let early: Row<'_> = (
        "M11",
        "NO_SYNC_YET",
        409,
        vec!["ts", "lint", "Early", "--strict"],
        "/task-sequences/Early/lint",
        json!({ "strict": true }),
    );
    refused_both_ways(&site, &admin, vec![early]).await;

    // M36: an update that is known, and no feature update.
    let file = site.folder.path().join("export.xml.gz");
    let one = (KB.to_owned(), 1, document(KB, 1, "Software", &titled("A cumulative update")));
    std::fs::write(&file, export(&[one])).unwrap();
    site.ok(&["updates", "import", &file.to_string_lossy()]).await;
    site.ok(&["now"]).await;
    assert_eq!(site.ok(&["ts", "lint", "Early", "--strict"]).await["findings"], json!([]));
    let other: Row<'_> = (
        "M36",
        "NOT_A_FEATURE_UPDATE",
        422,
        vec!["ts", "create", "x", "--upgrade", "--feature-update", KB],
        "/task-sequences",
        json!({ "name": "x", "upgrade": true, "feature_updates": [KB] }),
    );

    // M15: a device in a network without a point, which may go nowhere else.
    let list = site.ok(&["updates", "list", "--product", "Windows 10"]).await;
    let old = list["updates"][0]["update"].as_str().unwrap();
    site.ok(&["ts", "create", "Up", "--upgrade", "--feature-update", old]).await;
    let key = enrolled(&site, "desk-1").await;
    let facts = json!({"taken": "2026-11-01T00:00:00Z", "facts": {"os_type": "client", "version": "10.0.18363",
        "edition": "Enterprise", "architecture": "x64", "language": "en-us", "free_disk_mb": 90_000}});
    assert_eq!(post(&site, "client/facts", &key, &facts).await.0, 204);
    site.ok(&["collection", "create", "ring"]).await;
    site.ok(&["collection", "add", "ring", "desk-1"]).await;
    site.ok(&["boundary", "group", "create", "LYON"]).await;
    site.ok(&["boundary", "add", "127.0.0.0/8", "--group", "LYON"]).await;
    site.ok(&["boundary", "group", "relate", "LYON", "default", "--never"]).await;
    let create = ["deploy", "create", "Up", "--collection", "ring", "--new-package", "a"];
    let dry: Vec<&str> = ["--dry-run"].into_iter().chain(create).collect();
    let would = site.ok(&dry).await;
    let noted = would["notes"].as_array().unwrap().iter().filter_map(Value::as_str);
    assert!(noted.clone().any(|note| note.starts_with("CONTENT_NOT_REACHABLE: devices of LYON")), "{would}");
    let strict: Vec<&str> = create.into_iter().chain(["--strict"]).collect();
    let body = json!({ "sequence": "Up", "collection": "ring", "purpose": "available", "strict": true,
                       "package": { "new_package": "a" } });
    let check = ["deploy", "check", "Up", "--collection", "ring"];
    assert_eq!(site.ok(&check).await["groups"][0]["means"], "not-reachable");
    let checked: Vec<&str> = check.into_iter().chain(["--strict"]).collect();
    let asked = json!({ "what": "Up", "collection": "ring", "strict": true });
    let rows: Vec<Row<'_>> = vec![
        other,
        ("M15", "CONTENT_NOT_REACHABLE", 409, strict, "/deployments", body),
        ("M15", "CONTENT_NOT_REACHABLE", 409, checked, "/deployments/check", asked),
    ];
    refused_both_ways(&site, &admin, rows).await;

    // M17: nobody can write there, not even root. Over HTTP no folder of the machine is named.
    let ran = site.refused("SOURCE_NOT_WRITABLE", &["package", "create", "a", "--source", "/proc/sys"]).await;
    assert_eq!(ran.status, 4, "{ran:?}");
    assert_eq!(site.ok(&["package", "list"]).await, json!([]));
}

/// Mission row M16.
#[tokio::test]
async fn a_package_is_not_filled_without_a_language() {
    let catalogs = |_: &_, published: &DemoCatalog| vec![published.windows10.clone()];
    let mut site = TestSite::with(Way::Alone, catalogs, "").await;
    site.configure(|text| text.replacen("[sync]\n", "[sync]\nlanguages = []\n", 1));
    let url = site.with_api();
    site.start_daemon().await;
    let admin = Asker::of(&site, &url, "deploy-script", "admin").await;
    site.ok(&["now"]).await;
    site.ok(&["package", "create", "p"]).await;
    let (args, path) = (vec!["package", "add", "p"], "/packages/p/members");
    let row: Row<'_> = ("M16", "LANGUAGE_REQUIRED", 422, args, path, json!({}));
    refused_both_ways(&site, &admin, vec![row]).await;
    // Where it is said with the command it is no matter what is chosen for all.
    assert_eq!(site.ok(&["package", "add", "p", "--lang", "en-us"]).await["added"], json!([]));
}

#[tokio::test]
async fn a_licence_without_a_text_cannot_be_accepted_but_a_text_can_be_supplied() {
    let site = TestSite::start(Way::Alone).await;
    site.ok(&["now"]).await;
    for license in &site.published.licenses {
        let path = license.url.strip_prefix(&site.origin.base_url()).unwrap();
        site.origin.fault(path, support::Fault::Status(404, None));
    }
    let pending = site.ok(&["license", "list", "--pending"]).await;
    let update = pending[0]["update"].as_str().unwrap();
    site.refused("LICENSE_TEXT_UNAVAILABLE", &["license", "review", update]).await;
    site.refused("LICENSE_TEXT_UNAVAILABLE", &["license", "accept", update]).await;
    let file = site.folder.path().join("terms.rtf");
    let path = file.to_string_lossy().into_owned();
    for (bad, bytes) in
        [("empty", &b""[..]), ("a web page", b"<!DOCTYPE html><html>"), ("binary", b"\xff\xfe\x00\x80")]
    {
        std::fs::write(&file, bytes).unwrap();
        let ran = site.json(&["license", "review", update, "--text", &path]).await;
        assert_eq!(ran.code(), "LICENSE_TEXT_INVALID", "{bad}");
    }
    std::fs::write(&file, b"{\\rtf1 The terms.}").unwrap();
    let reviewed = site.ok(&["license", "review", update, "--text", &path]).await;
    assert_eq!(reviewed["text"], "The terms.");
    assert_eq!(site.ok(&["license", "accept", update]).await["updates"][0]["state"], "accepted");
    // Another text asks again.
    std::fs::write(&file, b"{\\rtf1 Other terms.}").unwrap();
    assert_eq!(site.ok(&["license", "review", update, "--text", &path]).await["state"], "pending");
    site.ok(&["--yes", "license", "decline", update]).await;
    site.ok(&["package", "create", "p"]).await;
    site.refused("LICENSE_DECLINED", &["package", "add", "p", update]).await;
}

#[tokio::test]
async fn a_second_process_waits_or_is_refused_with_the_reason() {
    let site = TestSite::start(Way::Alone).await;
    site.ok(&["now"]).await;
    // Many short commands at once: each gets its turn.
    let (a, b, c) =
        tokio::join!(site.run(&["status"]), site.run(&["updates", "list"]), site.run(&["package", "list"]));
    assert_eq!([a.status, b.status, c.status], [0, 0, 0], "{a:?} {b:?} {c:?}");
    // A daemon that a command cannot reach: the lock says who works there.
    let config = site.folder.path().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let socket = site.folder.path().join("admin.sock");
    std::fs::write(&config, text.replace(&socket.to_string_lossy().into_owned(), "")).unwrap();
    let mut daemon = site.command(&["serve"]).spawn().unwrap();
    let lock = site.folder.path().join("site/spsync.lock");
    until("it works on the site", async || {
        assert!(daemon.try_wait().unwrap().is_none(), "it ended before it served");
        std::fs::read_to_string(&lock).unwrap_or_default().contains("serve")
    })
    .await;
    let ran = site.refused("SITE_LOCKED", &["status"]).await;
    assert!(ran.status == 5 && ran.stderr.contains("serve"), "{ran:?}");
    daemon.kill().await.unwrap();
    site.ok(&["status"]).await;
}

#[tokio::test]
async fn mistakes_in_the_configuration_are_named() {
    let site = TestSite::start(Way::Alone).await;
    let config = site.folder.path().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("schedule", "shedule")).unwrap();
    let ran = site.refused("CONFIG_UNKNOWN_KEY", &["status"]).await;
    assert!(ran.status == 78 && ran.stderr.contains("sync.schedule"), "{ran:?}");
    std::fs::write(&config, text.replacen("[site]", "[site]\ncode = \"LONG\"", 1)).unwrap();
    assert_eq!(site.refused("CONFIG_INVALID", &["status"]).await.status, 78);
    std::fs::write(
        &config,
        text.replacen(&format!("{:?}", site.folder.path().join("site")), "\"/proc/nowhere\"", 1),
    )
    .unwrap();
    let ran = site.refused("DATA_DIR_NOT_WRITABLE", &["status"]).await;
    assert!(ran.stderr.contains("--config"), "{ran:?}");
    let unknown = site.run(&["--config", "/nowhere/config.toml", "status"]).await;
    assert_eq!(unknown.status, 2, "given twice");
}

#[tokio::test]
async fn dry_runs_change_nothing() {
    let site = TestSite::start(Way::Alone).await;
    site.package().await;
    let before = site.dump().await;
    for args in [
        &["package", "create", "q"][..],
        &["package", "download", "p"],
        &["package", "add", "p"],
        &["updates", "decline", "Feature update to Windows 10"],
        &["sync", "products", "--set", "Windows 11"],
        &["package", "delete", "p"],
        &["now", "--full"],
    ] {
        let all: Vec<&str> = ["--dry-run"].into_iter().chain(args.iter().copied()).collect();
        let ran = site.json(&all).await;
        assert_eq!(ran.status, 0, "{args:?}: {ran:?}");
        assert_eq!(site.dump().await, before, "{args:?}");
    }
    assert_eq!(site.ok(&["content", "list"]).await, serde_json::json!([]));
}

#[tokio::test]
async fn every_code_explains_itself() {
    let site = TestSite::start(Way::Alone).await;
    let all = site.ok(&["explain"]).await;
    assert!(all.as_array().unwrap().len() > 70);
    for code in ["HASH_MISMATCH", "hash_mismatch"] {
        assert_eq!(site.ok(&["explain", code]).await["windows"], "0x80091007");
    }
    let near = site.refused("NOT_FOUND", &["explain", "HASH_MISMATHC"]).await;
    assert!(near.stderr.contains("HASH_MISMATCH"), "{near:?}");
}

/// A device has no site: it does not open one to be asked in.
#[tokio::test]
async fn a_device_says_what_it_cannot_and_what_it_needs() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let config = format!(
        "[site]\ndata_dir = {:?}\n[client]\nsite = \"https://site.example:8531\"\n",
        folder.path().join("data")
    );
    std::fs::write(at("config.toml"), config).expect("it is written");
    let run = async |args: &[&str]| {
        let mut command = tokio::process::Command::new(support::program());
        let ended = command.arg("--config").arg(at("config.toml")).args(args).output();
        let ended = tokio::time::timeout(std::time::Duration::from_secs(30), ended).await;
        let ended = ended.expect("it ends").expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (ended.status.code().unwrap_or(-1), text(&ended.stdout), text(&ended.stderr))
    };
    for verb in [&["client", "list"][..], &["client", "show", "PC1"], &["client", "history", "PC1"]] {
        let (status, _, stderr) = run(verb).await;
        assert!(status == 4 && stderr.contains("NOT_AT_SITE"), "{verb:?}: {status} {stderr}");
    }
    assert!(!folder.path().join("data/spsync.db").exists(), "no site is opened here");
    let (_, _, stderr) = run(&["client", "enrol", "--token-file", "/nope"]).await;
    assert!(stderr.contains("spsync key enrol NAME") && stderr.contains("--token-file FILE"), "{stderr}");
    let (status, example, _) = run(&["client", "facts", "--example"]).await;
    assert_eq!(status, 0);
    std::fs::write(at("facts.toml"), example.replace("mains", "ac")).expect("it is written");
    let (status, _, stderr) = run(&["client", "facts", &at("facts.toml")]).await;
    assert!(status == 78 && stderr.contains("unknown word `ac`"), "{status} {stderr}");
    let (status, told, _) = run(&["explain", "0xC1900208"]).await;
    assert!(status == 0 && told.contains("SETUP_BLOCKED"), "{told}");
}
