//! Content that goes by hand: stand-alone media and prestaged files of what is allowed (mission rows M41 and M46), images and
//! applications on points of their own.

use std::path::Path;
use std::time::Duration;

use catalog::digest::Sha256Digest;
use catalog::esd_catalog::Architecture;
use serde_json::json;
use support::{Disturbance, Image, Strace, TestSite, Way, WimFile, WindowsInfo, http, tool, until};

use crate::points::{Machine, break_file};

fn path(site: &TestSite, name: &str) -> String {
    site.folder.path().join(name).to_string_lossy().into_owned()
}

fn names(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A boot image in a file.
pub(crate) fn boot_image(site: &TestSite) -> String {
    let windows = WindowsInfo {
        architecture: Architecture::X64,
        edition: String::new(),
        installation_type: "WindowsPE".to_owned(),
        language: "en-us".to_owned(),
        build: (26100, 1),
    };
    let image =
        Image::new("Microsoft Windows PE (x64)").windows(windows).file("Windows/System32/winpe.jpg", *b"pe");
    let boot = WimFile { seed: 7, created: jiff::Timestamp::UNIX_EPOCH, images: vec![image] };
    std::fs::write(path(site, "boot.wim"), boot.to_bytes()).expect("it is written");
    path(site, "boot.wim")
}

/// A site with an OS upgrade package `W`, an application `Portal` and a boot image `PE`, and a task sequence `Up` of them with
/// a product key; not deployed. The digests of image and application.
pub(crate) async fn prepared(site: &TestSite, key: &str) -> (String, String) {
    let esd = site.published.find("Windows 11", "business", Architecture::X64, "en-us").expect("published");
    let bytes = esd.content.read(0, esd.wanted.size as usize);
    std::fs::write(path(site, "install.esd"), &bytes).expect("it is written");
    let boot = boot_image(site);
    std::fs::write(path(site, "setup.exe"), b"MZ setup").expect("it is written");
    let form = path(site, "portal.toml");
    std::fs::write(&form, "name = \"Portal\"\ninstall = 'setup.exe /q'\ncontent = [\"setup.exe\"]\n")
        .expect("written");
    std::fs::write(path(site, "key"), key).expect("it is written");
    site.ok(&["image", "add", &path(site, "install.esd"), "--name", "W"]).await;
    site.refused("IMAGE_MALFORMED", &["image", "add", &path(site, "install.esd"), "--name", "X", "--boot"])
        .await;
    site.ok(&["image", "add", &boot, "--name", "PE", "--boot"]).await;
    site.ok(&["app", "add", &form]).await;
    let key_file = path(site, "key");
    let create = [
        "ts",
        "create",
        "Up",
        "--upgrade",
        "--image",
        "W",
        "--app",
        "Portal",
        "--product-key-file",
        &key_file,
    ];
    site.ok(&create).await;
    std::fs::remove_file(key_file).expect("it goes");
    (Sha256Digest::of(&bytes).to_string(), Sha256Digest::of(b"MZ setup").to_string())
}

/// Mission row M46.
#[tokio::test]
async fn media_of_an_image_is_made_whole_and_read_back() {
    const KEY: &str = "ABCDE-12345-FGHIJ-67890-KLMNO";
    let site = TestSite::start(Way::Alone).await;
    let (image, _) = prepared(&site, KEY).await;
    let staging = path(&site, "staging");
    let create = ["media", "create", "Up", "--to", &staging];
    site.refused("BOOT_IMAGE_MISSING", &create).await;
    site.refused("BOOT_IMAGE_MISSING", &["ts", "set", "Up", "boot_image=W"]).await;
    site.ok(&["ts", "set", "Up", "boot_image=PE"]).await;
    site.refused("IMAGE_IN_USE", &["--yes", "image", "delete", "PE"]).await;
    site.ok(&["ts", "step", "add", "Up", "install-updates", "name=Updates"]).await;
    site.refused("MEDIA_UNSUPPORTED_STEP", &create).await;
    site.ok(&["ts", "step", "set", "Up", "Updates", "disabled=true"]).await;
    site.refused("DP_NOT_FOUND", &["media", "create", "Up", "--to", &staging, "--dp", "lyon"]).await;
    site.ok(&["dp", "add", "lyon", "--url", "http://127.0.0.7:1"]).await;
    site.refused("CONTENT_NOT_DISTRIBUTED", &["media", "create", "Up", "--to", &staging, "--dp", "lyon"])
        .await;
    let long = ["media", "create", "Up", "--to", &staging, "--usb", "--label", "TWELVE_CHARS"];
    site.refused("INVALID_OPTION", &long).await;
    let inside = path(&site, "site/media");
    site.refused("INVALID_OPTION", &["media", "create", "Up", "--to", &inside]).await;
    let would = site.ok(&["--dry-run", "media", "create", "Up", "--to", &staging]).await;
    assert_eq!((&would["files"], &would["dry_run"]), (&json!(3), &json!(true)));
    assert!(!Path::new(&staging).exists(), "nothing is written before it may be");

    // Killed right before it would get its name: nothing looks finished, and the next creation clears what stayed.
    if let Some(strace) = Strace::find() {
        let kill = Disturbance { call: "renameat2", nth: 1, with: "signal=SIGKILL" };
        std::fs::create_dir(&staging).unwrap();
        let made = strace.run(&site.command(&create), "renameat2", &[], Some(kill)).await;
        assert_eq!(made.ran.status, 137, "{:?}", made.ran);
        let left = names(&staging);
        assert!(left.len() == 2 && left[1].starts_with("_tsmedia_"), "{left:?}");
    }
    let made = site.ok(&create).await;
    assert_eq!((&made["sequence"], &made["left_out"]), (&json!("XYZ00004"), &json!(["step 2: its secret"])));
    assert_eq!(names(&staging), ["CreateTSMedia.log", "XYZ00004"]);
    let log = std::fs::read_to_string(Path::new(&staging).join("CreateTSMedia.log")).unwrap();
    assert!(log.ends_with("CreateMedia.exe finished with error code 0\n"), "{log}");
    let media = made["folder"].as_str().unwrap();
    assert_eq!(names(media), ["SHA256SUMS", "content", "media.toml", "policy.json", "sequence.toml"]);
    let verified = site.ok(&["media", "verify", media]).await;
    assert_eq!((&verified["files"], &verified["bad"]), (&json!(6), &json!([])));
    site.refused("TARGET_EXISTS", &create).await;
    for file in ["media.toml", "policy.json", "sequence.toml"] {
        let text = std::fs::read_to_string(Path::new(media).join(file)).unwrap();
        assert!(!text.contains(&KEY[..11]) && !text.contains("sealed-"), "{file}");
    }
    if let Some(sums) = tool("sha256sum") {
        let checks = std::process::Command::new("timeout")
            .arg("20")
            .arg(sums)
            .args(["-c", "--quiet", "SHA256SUMS"])
            .current_dir(media)
            .status();
        assert!(checks.unwrap().success(), "any machine can check it");
    }
    // A device runs from it without a site; what is damaged is not used.
    let device = path(&site, "device.toml");
    let facts = "[facts]\nos_type = \"client\"\nversion = \"10.0.22631\"\nedition = \"Education\"\narchitecture = \"x64\"\n\
        language = \"en-us\"\nmemory_mb = 8192\nprocessor_mhz = 2000\nfree_disk_mb = 90000\n";
    std::fs::write(&device, facts).unwrap();
    let run = async |state: &str| {
        let (to, begin) = (path(&site, state), ["client", "run", "--media", media, "--simulate", &device]);
        let args: Vec<&str> = begin.into_iter().chain(["--state-dir", &to, "--once"]).collect();
        site.json(&args).await.json()["deployments"][0].clone()
    };
    let line = run("whole").await;
    assert_eq!(line["state"], "succeeded", "{line}");
    let on_media = Path::new(media).join("content/XYZ00001/install.esd");
    let mut bytes = std::fs::read(&on_media).unwrap();
    bytes[1_000] ^= 1;
    std::fs::write(&on_media, bytes).unwrap();
    let damaged = site.refused("MEDIA_DAMAGED", &["media", "verify", media]).await;
    assert!(damaged.status == 8 && damaged.stderr.contains("install.esd"), "{damaged:?}");
    let line = run("damaged").await;
    assert_eq!((&line["state"], &line["code"]), (&json!("failed"), &json!("HASH_MISMATCH")), "{line}");

    // Content that went bad in the library stops the creation; the log says so and nothing is left.
    std::fs::remove_dir_all(media).unwrap();
    break_file(&site.folder.path().join(format!("site/content/blobs/{}/{image}", &image[..2])));
    let refused = site.refused("CONTENT_CORRUPT", &create).await;
    assert!(refused.stderr.contains("no media was left"), "{refused:?}");
    assert_eq!(names(&staging), ["CreateTSMedia.log"]);
    let log = std::fs::read_to_string(Path::new(&staging).join("CreateTSMedia.log")).unwrap();
    assert!(log.contains("CONTENT_CORRUPT") && log.contains("is fully cleared"), "{log}");
}

/// Mission row M41; and images and applications on points that they were sent to.
#[tokio::test]
async fn a_prestaged_file_fills_a_point_without_its_line() {
    let site = TestSite::start(Way::Daemon).await;
    let (image, app) = prepared(&site, "ABCDE-12345-FGHIJ-67890-KLMNO").await;
    site.package().await;
    site.refused("PACKAGE_INCOMPLETE", &["prestage", "create", "p", "--to", &path(&site, "p.pkgx")]).await;
    site.ok(&["package", "download", "p"]).await;
    site.refused("NOT_A_POINT", &["prestage", "import", &path(&site, "p.pkgx")]).await;
    site.ok(&["dp", "add", "lyon", "--url", "http://127.0.0.12:1"]).await;
    site.ok(&["dp", "set", "lyon", "schedule=mon-sun 00-24 closed"]).await;
    let sent = site.ok(&["image", "distribute", "W", "--to", "lyon"]).await;
    assert_eq!(sent["points"][0]["enrolled"], false, "an image says so as packages do: {sent}");
    let token = site.ok(&["dp", "enrol", "lyon"]).await["token"].as_str().unwrap().to_owned();
    let mut lyon = Machine::new("127.0.0.12", &site.url, &token, "");
    site.ok(&["dp", "set", "lyon", &format!("url={}", lyon.url)]).await;
    lyon.start().await;
    let state = async |name: &str| {
        let all = site.ok(&["content", "status", name]).await;
        let placed = all.as_array().unwrap().iter().find(|placed| placed["point"] == "lyon").cloned();
        placed.map_or_else(|| "none".to_owned(), |placed| placed["state"].as_str().unwrap().to_owned())
    };
    let here = async |args: &[&str]| {
        let config = lyon.path("config.toml");
        let args: Vec<&str> = ["-o", "json"].into_iter().chain(args.iter().copied()).collect();
        let output = crate::points::spawn(&config, &args).wait_with_output().await.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        (serde_json::from_slice(&output.stdout).unwrap_or(json!(null)), stderr)
    };

    // Of a package, and of the task sequence: what is on no point yet cannot be made from there.
    let (package, sequence) = (path(&site, "p.pkgx"), path(&site, "up.pkgx"));
    let from_lyon = ["prestage", "create", "p", "--to", &package, "--dp", "lyon"];
    site.refused("CONTENT_NOT_DISTRIBUTED", &from_lyon).await;
    let made = site.ok(&["prestage", "create", "p", "--to", &package]).await;
    assert_eq!(made["bytes"], json!(std::fs::metadata(&package).unwrap().len()));
    site.refused("TARGET_EXISTS", &["prestage", "create", "p", "--to", &package]).await;
    site.ok(&["prestage", "create", "Up", "--to", &sequence]).await;
    let shown = site.ok(&["prestage", "show", &sequence]).await;
    let files: Vec<_> =
        shown["item"].as_array().unwrap().iter().map(|item| item["file"][0]["name"].clone()).collect();
    assert_eq!(files, [json!("install.esd"), json!("setup.exe")]);
    if let Some(tar) = tool("tar") {
        let listed = std::process::Command::new("timeout")
            .arg("20")
            .arg(tar)
            .args(["-tf", &sequence])
            .output()
            .unwrap();
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert_eq!(
            listed.lines().collect::<Vec<_>>(),
            ["prestage.toml", &format!("content/{image}"), &format!("content/{app}")]
        );
    }

    // On the point: only what it was told to hold, and only from a whole file.
    until("it waits, and the point knows", async || {
        let there = lyon.status().await["point"]["packages"][0]["state"].clone();
        state("W").await == "queued" && there == "queued"
    })
    .await;
    let portal = path(&site, "portal.pkgx");
    site.ok(&["prestage", "create", "Portal", "--to", &portal]).await;
    let refused = here(&["prestage", "import", &portal]).await.1;
    assert!(refused.contains("PRESTAGE_NOT_ASSIGNED"), "{refused}");
    let mut damaged = std::fs::read(&sequence).unwrap();
    let at = damaged.len() - 3 * 512;
    damaged[at] ^= 1;
    let damaged_file = path(&site, "damaged.pkgx");
    std::fs::write(&damaged_file, &damaged).unwrap();
    let refused = here(&["prestage", "import", &damaged_file]).await.1;
    assert!(refused.contains("HASH_MISMATCH"), "the application in it is not taken, and still: {refused}");
    std::fs::write(&damaged_file, &damaged[..damaged.len() / 2]).unwrap();
    let refused = here(&["prestage", "import", &damaged_file]).await.1;
    assert!(refused.contains("PRESTAGE_MALFORMED"), "{refused}");
    assert_eq!(here(&["content", "list"]).await.0, json!([]), "nothing half taken in");
    let (would, _) = here(&["--dry-run", "prestage", "import", &sequence]).await;
    assert_eq!(
        (&would["taken"], &would["left_out"]),
        (&json!(["install.esd"]), &json!(["setup.exe"])),
        "{would}"
    );
    let (taken, stderr) = here(&["prestage", "import", &sequence]).await;
    assert_eq!((&taken["taken"], &taken["dry_run"]), (&json!(["install.esd"]), &json!(false)), "{stderr}");
    until("success without a line", async || state("W").await == "success").await;
    let served = site.ok(&["status"]).await["served"]["bytes"].clone();
    let bytes: u64 = served.as_object().into_iter().flatten().filter_map(|(_, bytes)| bytes.as_u64()).sum();
    assert!(bytes < 100_000, "no content came over the line: {served}");
    let (again, _) = here(&["prestage", "import", &sequence]).await;
    assert_eq!((&again["taken"], &again["present"]), (&json!([]), &json!(["install.esd"])));
    site.ok(&["package", "distribute", "p", "--to", "lyon"]).await;
    until("assigned", async || {
        here(&["--dry-run", "prestage", "import", &package]).await.0["taken"].is_array()
    })
    .await;
    here(&["prestage", "import", &package]).await;
    until("the package too", async || state("p").await == "success").await;

    // What an application brings goes over the line once that is open. It is for devices with a key alone.
    site.ok(&["ts", "distribute", "Up", "--to", "lyon"]).await;
    site.ok(&["dp", "set", "lyon", "schedule="]).await;
    until("the application", async || state("Portal").await == "success").await;
    assert_eq!(lyon.get(&format!("/content/{app}")).await, None, "not for everybody");
    let token = site.ok(&["key", "enrol", "desk-1"]).await["token"].as_str().unwrap().to_owned();
    std::fs::write(path(&site, "token"), token).unwrap();
    site.ok(&["client", "enrol", "--token-file", &path(&site, "token")]).await;
    let key = std::fs::read_to_string(site.folder.path().join("device/device.key")).unwrap();
    let content_key = dp::client::content_key(key.trim());
    let url = format!("{}/content/{app}", lyon.url);
    // Whoever shows a key that is not known yet may do so ten times: each pause is twice as long.
    let mut got = Vec::new();
    for tries in 0..9 {
        tokio::time::sleep(Duration::from_millis(100 << tries)).await;
        let answer = http().get(&url).bearer_auth(&content_key).send().await.unwrap();
        got = if answer.status() == 200 { answer.bytes().await.unwrap().to_vec() } else { Vec::new() };
        if !got.is_empty() {
            break;
        }
    }
    assert_eq!(got, b"MZ setup", "the key is known there");
    let with_key = http().get(&url).bearer_auth(key.trim()).send().await.unwrap();
    assert_eq!(with_key.status(), 404, "what speaks for the device opens nothing at a point");
    let located = site.ok(&["content", "locate", "--ip", "127.0.0.1", &app]).await;
    let points = located["candidates"].as_array().unwrap().iter().filter(|one| one["verdict"] == "in");
    assert!(points.clone().any(|one| one["name"] == "lyon"), "{located}");
    site.ok(&["image", "distribute", "PE", "--to", "lyon"]).await;
    site.refused("PACKAGE_DISTRIBUTED", &["--yes", "image", "delete", "PE"]).await;
    site.ok(&["image", "withdraw", "PE"]).await;
    site.ok(&["app", "withdraw", "Portal", "--from", "lyon"]).await;
    until("it is gone", async || state("Portal").await == "none").await;
    until("from its disk too", async || {
        http().get(&url).bearer_auth(&content_key).send().await.unwrap().status() == 404
    })
    .await;
    let from_lyon = ["prestage", "create", "W", "--to", &path(&site, "w.pkgx"), "--dp", "lyon"];
    assert_eq!(site.ok(&from_lyon).await["point"], "lyon");
    tokio::time::timeout(Duration::from_secs(30), lyon.stop()).await.unwrap();
}
