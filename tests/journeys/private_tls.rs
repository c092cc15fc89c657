//! Private content where keys are shown over TLS alone. `0.0.0.0` leads to this machine and is no address of loopback to
//! anybody who looks at it: what is refused there over plain HTTP is refused.

use std::net::Ipv4Addr;
use std::path::Path;

use serde_json::{Value, json};
use support::{TestDevice, TestSite, Way, free_port, http, until};

use crate::points::{Machine, spawn, state, token};

/// More configuration of a machine, in a layer of its own.
fn layer(folder: &Path, text: &str) {
    std::fs::create_dir_all(folder.join("conf.d")).expect("a folder");
    std::fs::write(folder.join("conf.d/tls.toml"), text).expect("it is written");
}

/// A site that is reached at `0.0.0.0`, plain and over TLS, and has a private package; the digest of a file of it.
async fn site() -> (TestSite, String, String) {
    let mut site = TestSite::with(Way::Alone, |_, published| vec![published.windows10.clone()], "").await;
    site.ok(&["tls", "init", "--name", "0.0.0.0"]).await;
    let port = free_port(Ipv4Addr::LOCALHOST);
    let plain = site.url.replace("127.0.0.1", "0.0.0.0");
    let more = format!("\nlisten_tls = [\"127.0.0.1:{port}\"]\npublic_url = {plain:?}");
    site.configure(|text| text.replacen("[server]", &format!("[server]{more}"), 1));
    site.start_daemon().await;
    site.ok(&["now"]).await;
    site.ok(&["package", "create", "p", "--private"]).await;
    site.ok(&["package", "add", "p"]).await;
    site.ok(&["package", "download", "p"]).await;
    site.ok(&["package", "distribute", "p"]).await;
    let shown = site.ok(&["package", "show", "p"]).await;
    let digest = shown["files"][0]["sha256"].as_str().expect("a digest").to_owned();
    (site, format!("https://0.0.0.0:{port}"), digest)
}

/// Where a client at this machine finds a content: name, verdict, reason, address.
async fn located(site: &TestSite, content: &str, name: &str) -> (String, String) {
    let explained = site.ok(&["content", "locate", "--ip", "127.0.0.1", content]).await;
    let all = explained["candidates"].as_array().expect("a list");
    let one = all.iter().find(|one| one["name"] == name).expect("it is named");
    let text = |key: &str| one[key].as_str().expect("a text").to_owned();
    (text("why"), text("url"))
}

#[tokio::test]
async fn private_content_is_fetched_over_tls_at_the_site_and_at_a_point() {
    let (mut site, tls, content) = site().await;
    let ca = site.folder.path().join("site/tls/ca.pem");
    let device = TestDevice::new(&site, "desk-7", "127.0.0.1");
    let config = device.path("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let there = format!("site = {tls:?}\nca_file = {ca:?}");
    std::fs::write(&config, text.replace(&format!("site = {:?}", site.url), &there)).unwrap();
    device.enrol(&site).await;

    // The site is told of by its plain address, where the key is not shown: it is asked where it was asked.
    let taken = device.fetch(&content).await;
    assert!(matches!(taken.as_slice(), [(kind, 1..)] if kind == "distribution-point"), "{taken:?}");

    // A point gets its certificate from the site, and content that is for those with a key once it has an address for it.
    let mut lyon = Machine::new("127.0.0.1", &tls, "-", "");
    let port = free_port(Ipv4Addr::LOCALHOST);
    let (plain, secure) = (lyon.url.replace("127.0.0.1", "0.0.0.0"), format!("https://0.0.0.0:{port}"));
    layer(
        lyon.folder.path(),
        &format!(
            "[server]\nlisten_tls = [\"127.0.0.1:{port}\"]\n[dp]\nca_file = {ca:?}\n[tls]\nfrom_site = true\n"
        ),
    );
    site.ok(&["dp", "add", "lyon", "--url", &plain]).await;
    std::fs::write(lyon.path("token"), token(&site, "lyon").await).unwrap();
    lyon.start().await;
    site.ok(&["package", "distribute", "p", "--to", "lyon"]).await;
    until("success", async || state(&site, "lyon").await == "success").await;
    assert_eq!(located(&site, &content, "lyon").await.0, "no-tls");
    site.refused("USAGE", &["dp", "set", "lyon", "tls_url=http://0.0.0.0:1"]).await;
    site.ok(&["dp", "set", "lyon", &format!("tls_url={secure}")]).await;
    let at_lyon = format!("{secure}/content/{content}");
    assert_eq!(located(&site, &content, "lyon").await, ("same-group".to_owned(), at_lyon));
    let names = async || {
        let shown = spawn(&lyon.path("config.toml"), &["-o", "json", "tls", "show"]).wait_with_output().await;
        let shown: Value = serde_json::from_slice(&shown.unwrap().stdout).unwrap_or_default();
        shown["certificates"]["names"].clone()
    };
    until("a certificate", async || names().await == json!(["0.0.0.0"])).await;
    // Another host is another certificate, without anybody's doing.
    site.ok(&["dp", "set", "lyon", &format!("url={}", plain.replace("0.0.0.0", "localhost"))]).await;
    until("another certificate", async || names().await == json!(["0.0.0.0", "localhost"])).await;

    // With the site gone the device goes where it was sent last, and shows its key there.
    let forget = || {
        for room in ["blobs", "hashes"] {
            std::fs::remove_dir_all(device.path("device").join(room)).unwrap();
        }
    };
    forget();
    device.fetch(&content).await;
    site.kill_daemon().await;
    forget();
    let fetched = device.ok(&["client", "fetch", "--no-later", &content]).await;
    let served = fetched["served"].as_array().unwrap();
    let gave: Vec<_> =
        served.iter().filter(|one| one["bytes"] != 0).filter_map(|one| one["name"].as_str()).collect();
    assert_eq!((gave, &fetched["private"]), (vec!["lyon"], &json!(true)), "{fetched}");

    // A point whose key was taken back opens it to nobody from then on, whoever has a key: also when it starts without its site.
    let key = device.key();
    let opens = async || {
        let asked = http().get(format!("{}/content/{content}", lyon.url));
        asked.bearer_auth(dp::client::content_key(&key)).send().await.unwrap().status().as_u16()
    };
    assert_eq!(opens().await, 200);
    site.start_daemon().await;
    site.ok(&["--yes", "key", "revoke", "lyon", "--point"]).await;
    until("it opens nothing", async || opens().await == 404).await;
    site.kill_daemon().await;
    lyon.stop().await;
    lyon.start().await;
    let asked = http().get(format!("{}/content/{content}", lyon.url));
    let asked = asked.bearer_auth(dp::client::content_key(&key));
    assert_eq!(asked.send().await.unwrap().status(), 404);
    lyon.stop().await;
}
