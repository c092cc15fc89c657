//! What an administrator does on a normal day.

use serde_json::{Value, json};
use support::{TestSite, Way, rot};

/// The same commands give the same answers, whoever carries them out.
#[tokio::test]
async fn the_main_job_is_one_code_path() {
    let mut dumps = Vec::new();
    for way in [Way::Alone, Way::Daemon] {
        let mut site = TestSite::start(way).await;
        let report = site.ok(&["now"]).await;
        assert_eq!(
            (&report["new"], &report["listed"], &report["license_pending"]),
            (&json!(7), &json!(5), &json!(4))
        );
        let list = site.ok(&["updates", "list"]).await;
        assert_eq!(list["updates"].as_array().unwrap().len(), 5);
        assert_eq!(list["hidden_because"].as_object().unwrap().values().next(), Some(&json!(2)), "{list}");

        site.ok(&["package", "create", "p", "--description", "test"]).await;
        let early = site.ok(&["package", "add", "p"]).await;
        assert_eq!(early["added"].as_array().unwrap().len(), 1, "Windows 10 needs no decision");
        assert!(early["left_out"][0].as_str().unwrap().starts_with("4 left out: licence"), "{early}");
        let pending = site.ok(&["license", "list", "--pending"]).await;
        let update = pending[0]["update"].as_str().unwrap().to_owned();
        site.refused("LICENSE_NOT_ACCEPTED", &["package", "add", "p", &update]).await;
        site.refused("LICENSE_REVIEW_REQUIRED", &["license", "accept", &update]).await;
        let reviewed = site.ok(&["license", "review", &update]).await;
        assert!(reviewed["text"].as_str().unwrap().contains("LICENCE TERMS"), "{reviewed}");
        let decided = site.ok(&["license", "accept", &update]).await;
        assert_eq!(decided["updates"][0]["state"], "accepted");
        assert_eq!(site.ok(&["license", "list", "--pending"]).await, json!([]), "one text, one decision");

        let added = site.ok(&["package", "add", "p"]).await;
        assert_eq!(added["added"].as_array().unwrap().len(), 4);
        site.refused("PACKAGE_INCOMPLETE", &["package", "distribute", "p"]).await;
        let filled = site.ok(&["package", "download", "p"]).await;
        let outcomes: Vec<_> =
            filled["files"].as_array().unwrap().iter().map(|file| file["outcome"].clone()).collect();
        assert_eq!(outcomes, ["stored"; 5]);
        let again = site.ok(&["package", "download", "p"]).await;
        assert_eq!(again["fetched_bytes"], 0);
        site.ok(&["package", "distribute", "p"]).await;
        let validated = site.ok(&["package", "validate", "p"]).await;
        assert!(validated["files"].as_array().unwrap().iter().all(|file| file["verdict"] == "good"));
        dumps.push(site.dump().await.replace(&site.origin.base_url(), "ORIGIN"));

        site.refused("PACKAGE_DISTRIBUTED", &["--yes", "package", "delete", "p"]).await;
        site.refused("CONFIRMATION_REQUIRED", &["package", "delete", "p"]).await;
        site.ok(&["package", "withdraw", "p"]).await;
        site.ok(&["--yes", "package", "delete", "p"]).await;
        assert_eq!(site.ok(&["content", "list"]).await, json!([]), "nobody uses it any more");
        let status = site.ok(&["status"]).await;
        assert_eq!((&status["healthy"], &status["content"]["blobs"]), (&json!(true), &json!(0)));
        assert_eq!(site.stop_daemon().await, 0);
    }
    assert_eq!(dumps[0], dumps[1]);
}

#[tokio::test]
async fn a_device_fetches_from_the_point_and_falls_back_to_the_cloud() {
    let site = TestSite::start(Way::Daemon).await;
    site.package().await;
    site.ok(&["package", "download", "p"]).await;
    let esd = site
        .published
        .find("Windows 11", "business", catalog::esd_catalog::Architecture::X64, "en-us")
        .unwrap();
    let sha256 = esd.fingerprint.sha256.to_string();
    let content = format!("{}/content/{sha256}", site.url);
    let head = || async { support::http().head(&content).send().await.unwrap().status().as_u16() };
    assert_eq!(head().await, 404, "only what was distributed is served");

    let from_cloud = site.ok(&["client", "fetch", &sha256]).await;
    assert_eq!(
        from_cloud["served"][0]["kind"], "cloud",
        "the site knows where it is, and does not serve it yet"
    );
    std::fs::remove_dir_all(site.folder.path().join("device")).unwrap();
    site.ok(&["package", "distribute", "p"]).await;
    assert_eq!(head().await, 200);
    let fetched = site.ok(&["client", "fetch", &sha256]).await;
    assert_eq!(fetched["served"][0]["kind"], "distribution-point");
    assert_eq!(fetched["served"][0]["bytes"], esd.wanted.size);
    assert_eq!(std::fs::read(fetched["path"].as_str().unwrap()).unwrap().len() as u64, esd.wanted.size);
    let again = site.ok(&["client", "fetch", &sha256]).await;
    assert_eq!(again["already_there"], true);
    let unknown = "0".repeat(64);
    site.refused("CONTENT_NOT_FOUND", &["client", "fetch", &unknown]).await;
    site.ok(&["package", "withdraw", "p"]).await;
    assert_eq!(head().await, 404);
}

#[tokio::test]
async fn a_source_folder_gets_copies_and_belongs_to_one_package() {
    let site = TestSite::start(Way::Alone).await;
    let folder = site.folder.path().join("source");
    let folder_text = folder.to_string_lossy().into_owned();
    site.ok(&["now"]).await;
    site.refused("SOURCE_MISSING", &["package", "create", "a", "--source", &folder_text]).await;
    std::fs::create_dir(&folder).unwrap();
    site.ok(&["package", "create", "a", "--source", &folder_text]).await;
    site.refused("SOURCE_IN_USE", &["package", "create", "b", "--source", &folder_text]).await;
    let inside = site.folder.path().join("site").to_string_lossy().into_owned();
    site.refused("SOURCE_IN_USE", &["package", "create", "b", "--source", &inside]).await;
    site.ok(&["package", "add", "a", "--product", "Windows 10"]).await;
    let filled = site.ok(&["package", "download", "a"]).await;
    let name = filled["files"][0]["file_name"].as_str().unwrap();
    assert_eq!(std::fs::metadata(folder.join(name)).unwrap().len(), filled["files"][0]["size"]);
    assert_eq!(filled["files"][0]["sha1_only"], true);

    std::fs::remove_file(folder.join(name)).unwrap();
    site.ok(&["package", "download", "a"]).await;
    assert!(folder.join(name).exists(), "a copy that was lost is made again");

    // Another package has the file at once, without asking anybody.
    site.ok(&["package", "create", "b"]).await;
    site.ok(&["package", "add", "b", "--product", "Windows 10"]).await;
    let before = site.origin.requests().len();
    let second = site.ok(&["package", "download", "b"]).await;
    assert_eq!((&second["files"][0]["outcome"], site.origin.requests().len()), (&json!("present"), before));

    let dropped = site.ok(&["package", "drop", "a", name]).await;
    assert_eq!(dropped["notes"], Value::Null);
    assert!(!folder.join(name).exists(), "the copy was ours");
}

/// The folder is somebody's own: what he has there under the name of a file of the package is not ours to take.
#[tokio::test]
async fn what_somebody_else_has_in_a_source_folder_stays() {
    let site = TestSite::start(Way::Alone).await;
    let folder = site.folder.path().join("source");
    std::fs::create_dir(&folder).unwrap();
    site.ok(&["now"]).await;
    site.ok(&["package", "create", "a", "--source", &folder.to_string_lossy()]).await;
    site.ok(&["package", "add", "a", "--product", "Windows 10"]).await;
    let name = site.ok(&["package", "show", "a"]).await["files"][0]["file_name"].as_str().unwrap().to_owned();
    let theirs = folder.join(&name);
    std::fs::write(&theirs, "written by hand").unwrap();
    let stays = || assert_eq!(std::fs::read(&theirs).unwrap(), b"written by hand");
    // It was never downloaded, so nothing of that name is ours.
    assert_eq!(site.ok(&["package", "drop", "a", &name]).await["notes"], Value::Null);
    stays();

    site.ok(&["package", "add", "a", "--product", "Windows 10"]).await;
    for outcome in ["stored", "present"] {
        let filled = site.ok(&["package", "download", "a"]).await;
        let file = &filled["files"][0];
        assert_eq!(file["outcome"], outcome, "{filled}");
        assert!(file["note"].as_str().unwrap().contains("another file and was left as it is"), "{filled}");
        stays();
    }
    let dropped = site.ok(&["package", "drop", "a", &name]).await;
    assert!(dropped["notes"][0].as_str().unwrap().contains("another file"), "{dropped}");
    stays();

    // Of the very size, and still another one.
    site.ok(&["package", "add", "a", "--product", "Windows 10"]).await;
    let size = site.ok(&["package", "show", "a"]).await["bytes"].as_u64().unwrap();
    let same_size = vec![7; size as usize];
    std::fs::write(&theirs, &same_size).unwrap();
    site.ok(&["package", "download", "a"]).await;
    let dropped = site.ok(&["package", "drop", "a", &name]).await;
    assert!(dropped["notes"][0].as_str().unwrap().contains("another file"), "{dropped}");
    assert!(std::fs::read(&theirs).unwrap() == same_size);
}

#[tokio::test]
async fn files_come_from_a_local_folder() {
    let site = TestSite::start(Way::Alone).await;
    let folder = site.folder.path().join("media");
    std::fs::create_dir(&folder).unwrap();
    for esd in &site.published.esds {
        let bytes = esd.content.read(0, esd.wanted.size as usize);
        std::fs::write(folder.join(&esd.file_name), bytes).unwrap();
    }
    site.package().await;
    site.origin.fault("*", support::Fault::CloseAtOnce);
    let filled = site.ok(&["package", "download", "p", "--from", &folder.to_string_lossy()]).await;
    for file in filled["files"].as_array().unwrap() {
        assert_eq!(file["served"][0]["kind"], "folder", "{file}");
    }
    site.refused("SOURCE_MISSING", &["package", "download", "p", "--from", "/nowhere"]).await;
}

/// A database that was restored without its content says so, and `package download` brings it again.
#[tokio::test]
async fn a_library_that_was_lost_is_filled_again() {
    let site = TestSite::start(Way::Alone).await;
    site.package().await;
    let filled = site.ok(&["package", "download", "p"]).await;
    site.ok(&["package", "distribute", "p"]).await;
    site.ok(&["package", "create", "q"]).await;
    site.ok(&["package", "add", "q", "--product", "Windows 10"]).await;
    assert_eq!(site.ok(&["package", "download", "q"]).await["files"][0]["outcome"], "present");
    let all = filled["files"].as_array().unwrap().len();
    let outcomes = |filled: &Value, outcome: &str| {
        filled["files"].as_array().unwrap().iter().filter(|file| file["outcome"] == outcome).count()
    };
    std::fs::remove_dir_all(site.folder.path().join("site/content")).unwrap();

    let warned = |status: &Value| status["warnings"].to_string().contains("not in the content library");
    assert!(warned(&site.ok(&["status"]).await));
    let would = site.ok(&["package", "download", "p", "--dry-run"]).await;
    assert_eq!(outcomes(&would, "would fetch"), all, "{would}");
    let again = site.ok(&["package", "download", "p"]).await;
    assert_eq!(outcomes(&again, "stored"), all, "{again}");
    // What both have is there for both, and is served again.
    assert_eq!(site.ok(&["package", "download", "q"]).await["files"][0]["outcome"], "present");
    let status = site.ok(&["status"]).await;
    assert_eq!((warned(&status), &status["served_contents"]), (false, &json!(all)), "{status}");
}

#[tokio::test]
async fn a_broken_file_is_found_and_mended() {
    let site = TestSite::start(Way::Alone).await;
    site.package().await;
    let filled = site.ok(&["package", "download", "p"]).await;
    site.ok(&["package", "distribute", "p"]).await;
    let sha256 = filled["files"][0]["sha256"].as_str().unwrap();
    let blob = site.folder.path().join("site/content/blobs").join(&sha256[..2]).join(sha256);
    rot(&blob, |bytes| bytes[1_000] ^= 1);
    let found = site.refused("VALIDATION_FAILED", &["package", "validate", "p"]).await;
    assert_eq!((found.status, found.json()["files"][0]["verdict"].as_str()), (8, Some("corrupt")));
    let repaired = site.json(&["package", "validate", "p", "--repair"]).await;
    assert_eq!(repaired.status, 0, "{repaired:?}");
    let located = site.ok(&["content", "locate", "--ip", "127.0.0.1", sha256]).await;
    assert_eq!(located["candidates"][0]["kind"], "distribution-point", "it is served again: {located}");
    site.ok(&["package", "validate", "p"]).await;
    assert!(site.folder.path().join("site/content/quarantine").join(sha256).exists());
}

#[tokio::test]
async fn one_esd_with_other_bytes_is_the_next_revision() {
    let site = TestSite::with(
        Way::Alone,
        |origin, _| vec![origin.publish_catalog("all.cab", support::CatalogFormat::Cabinet)],
        "",
    )
    .await;
    site.package().await;
    let newer = site
        .origin
        .publish(support::esd("Windows 11", "en-us").build(26_200, 9_000, "25h2_ge_release"))
        .await;
    site.origin.publish_catalog("all.cab", support::CatalogFormat::Cabinet);
    let report = site.ok(&["now"]).await;
    assert_eq!((&report["new"], &report["revised"]), (&json!(0), &json!(1)), "{report}");
    let shown = site.ok(&["updates", "show", &newer.update().to_string()]).await;
    assert_eq!((&shown["build"], shown["revisions"].as_array().unwrap().len()), (&json!("26200.9000"), 2));
    // A package that has both lets go of either, and of both.
    let id = newer.update().to_string();
    let held = async || {
        let files = site.ok(&["package", "show", "p"]).await["files"].as_array().unwrap().clone();
        files.iter().filter(|file| file["revision"]["update"] == id.as_str()).count()
    };
    site.ok(&["package", "add", "p", &id]).await;
    assert_eq!(held().await, 2);
    let old = shown["revisions"][0]["id"]["number"].as_u64().unwrap();
    let dropped = site.ok(&["package", "drop", "p", &format!("{id}/{old}")]).await;
    assert_eq!(held().await, 1, "{dropped}");
    site.ok(&["package", "drop", "p", &id]).await;
    assert_eq!(held().await, 0);
}

#[tokio::test]
async fn the_selection_decides_and_shows_its_effect_first() {
    let site = TestSite::start(Way::Alone).await;
    site.ok(&["now"]).await;
    let plan = site.ok(&["sync", "plan", "--lang", "*"]).await;
    assert_eq!((&plan["listed"], &plan["added"], &plan["removed"]), (&json!(7), &json!(2), &json!(0)));
    site.refused("UNKNOWN_LANGUAGE", &["sync", "plan", "--lang", "xx-xx"]).await;
    let wrong = site.refused("UNKNOWN_PRODUCT", &["sync", "products", "--set", "Windows 12"]).await;
    assert!(wrong.stderr.contains("Windows 11"), "the nearest name: {wrong:?}");
    assert_eq!(
        site.ok(&["updates", "list"]).await["updates"].as_array().unwrap().len(),
        5,
        "nothing changed yet"
    );
    site.ok(&["sync", "products", "--set", "Windows 11", "--arch", "x64", "--lang", "de-de"]).await;
    let list = site.ok(&["updates", "list"]).await;
    assert_eq!(list["updates"].as_array().unwrap().len(), 2);

    site.ok(&["sync", "classifications", "--set", "Updates"]).await;
    let off = site.ok(&["updates", "list"]).await;
    assert_eq!(off["updates"], json!([]));
    assert!(off["notes"][0].as_str().unwrap().contains("CLASSIFICATION_NOT_ENABLED"), "{off}");
    site.refused("UNKNOWN_CLASSIFICATION", &["sync", "classifications", "--set", "Upgrade"]).await;
    site.ok(&["sync", "classifications", "--set", "Upgrades"]).await;
    assert_eq!(site.ok(&["updates", "list"]).await["updates"].as_array().unwrap().len(), 2);
}

/// What is over is not joined: each command gets an answer of its own time.
#[tokio::test]
async fn a_run_asked_for_right_after_another_is_another() {
    for way in [Way::Alone, Way::Daemon] {
        let site = TestSite::start(way).await;
        for run in 1..=12 {
            let report = site.ok(&["now"]).await;
            assert_eq!(report["run"], run);
            assert_eq!(report["catalogs"][0]["unchanged"], run > 1);
        }
    }
}

/// Lists of what was say whether there is more of it; programs, which asked for so many, get so many.
#[tokio::test]
async fn lists_that_were_cut_short_say_so() {
    let site = TestSite::start(Way::Alone).await;
    site.ok(&["now"]).await;
    site.ok(&["now"]).await;
    let hidden = "older ones are hidden (--limit)";
    for list in [["sync", "history"], ["task", "list"]] {
        for (limit, expected) in [("1", true), ("2", false), ("9", false)] {
            let args = [list[0], list[1], "--limit", limit];
            let ran = site.run(&args).await;
            assert_eq!(ran.stdout.contains(hidden), expected, "{args:?}: {ran:?}");
        }
        let args = [list[0], list[1], "--limit", "1"];
        assert_eq!(site.ok(&args).await.as_array().map(Vec::len), Some(1), "{args:?}");
    }
    // Of a device it is known how many.
    let logs = site.folder.path().join("device/runs/logs");
    std::fs::create_dir_all(&logs).unwrap();
    std::fs::write(logs.join("smsts.log"), "one\ntwo\nthree\n").unwrap();
    for (lines, expected) in [("1", "three\n2 older hidden (--lines)\n"), ("3", "one\ntwo\nthree\n")] {
        assert_eq!(site.run(&["client", "log", "--lines", lines]).await.stdout, expected);
    }
}
