//! What a deployment needs goes to the points that it names: images and applications as packages do, or nothing is made.

use serde_json::{Value, json};
use support::{TestSite, Way, http, until};

use crate::carried::prepared;
use crate::points::{Machine, token};

/// Enrols a device that says what it is, from 127.0.0.1; its key.
async fn device(site: &TestSite) -> String {
    let path = |name: &str| site.folder.path().join(name).to_string_lossy().into_owned();
    let token = site.ok(&["key", "enrol", "desk-1"]).await["token"].as_str().expect("a token").to_owned();
    std::fs::write(path("token"), token).expect("it is written");
    site.ok(&["client", "enrol", "--token-file", &path("token")]).await;
    let key = std::fs::read_to_string(site.folder.path().join("device/device.key")).expect("it enrolled");
    let facts = json!({"taken": "2026-11-01T00:00:00Z", "facts": {"os_type": "client", "version": "10.0.22631",
        "edition": "Education", "architecture": "x64", "language": "en-us", "free_disk_mb": 90_000}});
    let asked = http().post(format!("{}/client/facts", site.url)).bearer_auth(key.trim());
    assert_eq!(asked.body(facts.to_string()).send().await.expect("it answers").status(), 204);
    key.trim().to_owned()
}

/// The packages that are on a point or on their way to it, in order, with how they are.
async fn on(site: &TestSite, point: &str) -> Vec<String> {
    let all = site.ok(&["content", "status"]).await;
    let there = all.as_array().expect("a list").iter().filter(|placed| placed["point"] == point);
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    there.map(|placed| format!("{} {}", text(&placed["name"]), text(&placed["state"]))).collect()
}

#[tokio::test]
async fn images_and_applications_go_where_a_deployment_says() {
    let site = TestSite::start(Way::Daemon).await;
    let (_, app) = prepared(&site, "ABCDE-12345-FGHIJ-67890-KLMNO").await;
    site.ok(&["ts", "set", "Up", "boot_image=PE"]).await;
    let key = device(&site).await;
    site.ok(&["collection", "create", "ring"]).await;
    site.ok(&["collection", "add", "ring", "desk-1"]).await;
    site.ok(&["dp", "add", "lyon", "--url", "http://127.0.0.14:1"]).await;
    site.ok(&["dp", "add", "full", "--url", "http://127.0.0.13:1"]).await;
    site.ok(&["boundary", "group", "create", "LYON"]).await;
    site.ok(&["boundary", "add", "127.0.0.0/8", "--group", "LYON"]).await;
    site.ok(&["boundary", "group", "add", "LYON", "--point", "lyon"]).await;

    // Before: the site's own point, after its time; with the point of the group, at once and over its link.
    let check = async |more: &[&str]| {
        let args: Vec<&str> =
            ["deploy", "check", "Up", "--collection", "ring"].iter().chain(more).copied().collect();
        let checked = site.ok(&args).await;
        assert_eq!(checked["eligible"], 1, "{checked}");
        (checked["groups"][0].clone(), checked["largest_download"].clone())
    };
    let (line, _) = check(&[]).await;
    assert_eq!((&line["groups"], &line["means"]), (&json!(["LYON"]), &json!("fallback")), "{line}");
    // Nobody is sent to a point that has no key.
    let (line, _) = check(&["--to", "lyon"]).await;
    assert_eq!(line["means"], "fallback", "{line}");
    let mut lyon = Machine::new("127.0.0.14", &site.url, &token(&site, "lyon").await, "");
    lyon.start().await;
    until("it is heard of", async || site.ok(&["dp", "show", "lyon"]).await["free"].is_u64()).await;
    lyon.stop().await;
    let (line, bytes) = check(&["--to", "lyon"]).await;
    assert_eq!((&line["means"], &line["link_bytes"]), (&json!("reachable"), &bytes), "{line}");

    // A point without room: nothing is made, and the refusal has the numbers.
    let mut full = Machine::new("127.0.0.13", &site.url, &token(&site, "full").await, "");
    let config = std::fs::read_to_string(full.path("config.toml")).unwrap();
    std::fs::write(full.path("config.toml"), config.replace("min_free = \"0\"", "min_free = \"1000TiB\""))
        .unwrap();
    full.start().await;
    let free = async || site.ok(&["dp", "show", "full"]).await["free"].as_u64();
    until("it is heard of", async || free().await == Some(0)).await;
    full.stop().await;
    let create = ["deploy", "create", "Up", "--collection", "ring", "--to", "full"];
    let refused = site.refused("DP_DISK_FULL", &create).await;
    let needed = site.ok(&["image", "show", "PE"]).await["size"].as_u64().unwrap() + bytes.as_u64().unwrap();
    assert!(refused.stderr.contains(&format!("needs {needed} bytes and has 0 free")), "{refused:?}");
    assert_eq!((site.ok(&["deploy", "list"]).await, on(&site, "full").await.len()), (json!([]), 0));

    // What is sent is what the task sequence needs, its boot image too; a group goes on sending it to who joins later.
    site.ok(&["dp", "group", "create", "south"]).await;
    site.ok(&["dp", "group", "join", "south", "lyon"]).await;
    let create = ["deploy", "create", "Up", "--collection", "ring", "--to", "south"];
    let dry: Vec<&str> = ["--dry-run"].iter().chain(&create).copied().collect();
    assert_eq!(site.ok(&dry).await["software"], json!(["W", "Portal", "PE"]));
    assert_eq!((site.ok(&["deploy", "list"]).await, on(&site, "lyon").await.len()), (json!([]), 0));
    let made = site.ok(&create).await;
    assert_eq!((&made["content"], &made["package"]), (&json!("ready"), &Value::Null), "{made}");
    assert_eq!(made["software"].as_array().unwrap().len(), 3, "{made}");
    let all = ["W queued", "PE queued", "Portal queued"];
    assert_eq!(on(&site, "lyon").await, all);
    site.ok(&["dp", "add", "nice", "--url", "http://127.0.0.14:2"]).await;
    site.ok(&["dp", "group", "join", "south", "nice"]).await;
    assert_eq!(on(&site, "nice").await, all);
    assert_eq!(
        on(&site, "site").await,
        Vec::<String>::new(),
        "the site serves what is deployed without being sent it"
    );
    let (line, _) = check(&[]).await;
    assert_eq!(line["means"], "fallback", "queued is not there yet: {line}");
    site.refused(
        "CONFLICTING_OPTIONS",
        &["deploy", "create", "Up", "--collection", "ring", "--no-package", "--to", "lyon"],
    )
    .await;

    // A deployed task sequence that changes brings its other content at once.
    let get = async |content: &str| {
        let asked = http().get(format!("{}/content/{content}", site.url)).bearer_auth(&key);
        asked.send().await.expect("it answers").status().as_u16()
    };
    let path = |name: &str| site.folder.path().join(name).to_string_lossy().into_owned();
    std::fs::write(path("more.exe"), b"MZ more").unwrap();
    std::fs::write(path("more.toml"), "name = \"More\"\ninstall = 'more.exe'\ncontent = [\"more.exe\"]\n")
        .unwrap();
    let more = site.ok(&["app", "add", &path("more.toml")]).await["id"].as_str().unwrap().to_owned();
    let content = catalog::digest::Sha256Digest::of(b"MZ more").to_string();
    assert_eq!((get(&app).await, get(&content).await), (200, 404));
    let step = ["ts", "step", "add", "Up", "install-application", "--before", "1"];
    let applications = format!("applications=[\"{more}\"]");
    site.ok(&step.iter().copied().chain([applications.as_str()]).collect::<Vec<_>>()).await;
    assert_eq!(get(&content).await, 200);
}
