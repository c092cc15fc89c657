//! Downloads with everything that goes wrong on the way.

use futures_util::StreamExt as _;
use futures_util::stream::iter;
use serde_json::json;
use support::{Fault, TestSite, Way};

/// Sites that are at work side by side: each waits for its own retries.
const SIDE_BY_SIDE: usize = 4;

/// Each way of failing has its code, hurts only its own file, and leaves nothing in the library.
#[tokio::test]
async fn one_bad_file_never_fails_the_others() {
    let rows = [
        (Fault::FlipsByte(70_000), &["HASH_MISMATCH"][..]),
        (Fault::WrongSize, &["SIZE_MISMATCH", "TRANSFER_TOO_LONG", "WRONG_RANGE"]),
        (Fault::Halved, &["SIZE_MISMATCH", "TRANSFER_CUT_SHORT"]),
        (Fault::EndlessBody, &["TRANSFER_TOO_LONG", "SIZE_MISMATCH"]),
        (Fault::Status(404, None), &["SOURCE_NOT_FOUND"]),
        (Fault::Status(403, None), &["SOURCE_REFUSED"]),
        (Fault::Status(503, Some(1)), &["SOURCE_FAILED"]),
        (Fault::CloseAtOnce, &["SOURCE_UNREACHABLE", "SOURCE_FAILED", "TRANSFER_CUT_SHORT"]),
        (Fault::RedirectLoop, &["TOO_MANY_REDIRECTS"]),
        (Fault::RedirectTo("http://169.254.169.254/latest".to_owned()), &["NETWORK_NOT_ALLOWED"]),
        (Fault::GzipEncoded, &["SOURCE_CODED"]),
    ];
    let row = async |(fault, codes): (Fault, &[&str])| {
        let site = TestSite::start(Way::Alone).await;
        site.package().await;
        let bad = site.published.esds.iter().find(|esd| esd.language == "en-us").unwrap();
        site.origin.fault(&bad.path, fault.clone());
        let ran = site.refused("PACKAGE_PARTLY_DONE", &["package", "download", "p"]).await;
        assert_eq!(ran.status, 7);
        let filled = ran.json();
        for file in filled["files"].as_array().unwrap() {
            if file["file_name"] == bad.file_name.as_str() {
                assert_eq!(file["outcome"], "failed", "{fault:?}");
                let code = file["problem"]["code"].as_str().unwrap();
                assert!(codes.contains(&code), "{fault:?}: {file}");
            } else {
                assert_eq!(file["outcome"], "stored", "{fault:?}: {file}");
            }
        }
        let held = site.ok(&["content", "list"]).await;
        let wrong =
            held.as_array().unwrap().iter().any(|row| row["sha256"] == bad.fingerprint.sha256.to_string());
        assert!(!wrong && held.as_array().unwrap().len() == 4, "{fault:?}");
        site.origin.heal(&bad.path);
        let mended = site.ok(&["package", "download", "p"]).await;
        assert_eq!(
            mended["files"].as_array().unwrap().iter().filter(|f| f["outcome"] == "stored").count(),
            1,
            "{fault:?}"
        );
    };
    iter(rows).for_each_concurrent(SIDE_BY_SIDE, row).await;
}

/// What only annoys is lived with.
#[tokio::test]
async fn lesser_faults_cost_a_retry() {
    let faults = [
        Fault::CutAfter(200_000),
        Fault::Status(503, None),
        Fault::CloseAtOnce,
        Fault::WrongContentRange,
        Fault::IgnoresRange,
        Fault::Chunked,
    ];
    let row = async |fault: Fault| {
        let site = TestSite::start(Way::Alone).await;
        site.package().await;
        for esd in &site.published.esds {
            site.origin.fault_times(&esd.path, fault.clone(), 1);
        }
        let filled = site.ok(&["package", "download", "p"]).await;
        let stored =
            filled["files"].as_array().unwrap().iter().filter(|file| file["outcome"] == "stored").count();
        assert_eq!(stored, 5, "{fault:?}: {filled}");
    };
    iter(faults).for_each_concurrent(SIDE_BY_SIDE, row).await;
}

#[tokio::test]
async fn a_dying_mirror_is_finished_by_the_catalogs_link() {
    let site = TestSite::start(Way::Daemon).await;
    site.package().await;
    let esd = site.published.esds.iter().find(|esd| esd.language == "en-us").unwrap();
    let half = esd.wanted.size / 2;
    site.origin.mirror().fault_times(&esd.path, Fault::CutAfter(half), 1);
    site.origin.mirror().fault(&esd.path, Fault::Status(410, None));
    let mirror = site.origin.mirror().base_url();
    let filled = site.ok(&["package", "download", "p", "--mirror", &mirror]).await;
    let file = filled["files"]
        .as_array()
        .unwrap()
        .iter()
        .find(|f| f["file_name"] == esd.file_name.as_str())
        .unwrap();
    let kinds: Vec<_> =
        file["served"].as_array().unwrap().iter().map(|s| (s["kind"].clone(), s["bytes"].clone())).collect();
    assert_eq!(
        kinds,
        [(json!("mirror"), json!(half)), (json!("upstream"), json!(esd.wanted.size - half))],
        "{file}"
    );
    assert_eq!(site.origin.bytes_sent(&esd.path), esd.wanted.size - half, "no byte twice");
}

#[tokio::test]
async fn a_full_disk_is_refused_before_anything_is_asked() {
    let site = TestSite::start(Way::Alone).await;
    site.package().await;
    let config = site.folder.path().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("min_free = \"0\"", "min_free = \"9000TiB\"")).unwrap();
    let before = site.origin.requests().len();
    let ran = site.refused("DISK_FULL", &["package", "download", "p"]).await;
    assert!(ran.stderr.contains("min_free"), "{ran:?}");
    assert_eq!(site.origin.requests().len(), before);
}

#[tokio::test]
async fn sha1_alone_can_be_refused() {
    let site = TestSite::start(Way::Alone).await;
    let config = site.folder.path().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("[download]", "[download]\nrequire_sha256 = true")).unwrap();
    site.ok(&["now"]).await;
    site.ok(&["package", "create", "p"]).await;
    let ten = site.published.esds.iter().find(|esd| esd.file_name.starts_with("19045")).unwrap();
    site.refused("SHA256_REQUIRED", &["package", "add", "p", &ten.update().to_string()]).await;
}
