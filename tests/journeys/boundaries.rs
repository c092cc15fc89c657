//! Boundaries and their groups, from the first to what a client is told.

use catalog::esd_catalog::Architecture;
use serde_json::{Value, json};
use support::{TestSite, Way};

fn told(located: &Value) -> Vec<String> {
    let line = |one: &Value| {
        let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
        format!("{} {}: {} {}", text("kind"), text("name"), text("verdict"), text("why"))
    };
    located["candidates"].as_array().expect("candidates").iter().map(line).collect()
}

#[tokio::test]
async fn where_content_is_depends_on_where_the_client_is() {
    let site = TestSite::start(Way::Daemon).await;
    site.package().await;
    site.ok(&["package", "download", "p"]).await;
    site.ok(&["package", "distribute", "p"]).await;
    let esd =
        site.published.find("Windows 11", "business", Architecture::X64, "en-us").expect("it is published");
    let content = esd.fingerprint.sha256.to_string();
    let locate = async |ip: &str| told(&site.ok(&["content", "locate", "--ip", ip, &content]).await);
    let asked = async |content: &str| -> Value {
        let url = format!("{}/locations/{content}", site.url);
        let answer = support::http().get(url).send().await.expect("it answers");
        serde_json::from_str(&answer.text().await.expect("a text")).expect("JSON")
    };
    // Nothing is drawn: everybody is sent to the point, then to the cloud.
    let everywhere = ["distribution-point site: in same-group", "cloud upstream: in upstream"];
    assert_eq!(locate("10.20.4.17").await, everywhere);
    assert_eq!(asked(&content).await["locations"][0]["kind"], "distribution-point");

    site.ok(&["boundary", "group", "create", "LYON"]).await;
    site.ok(&["boundary", "add", "10.20.4.0/24", "127.0.0.0/8", "--name", "floor", "--group", "LYON"]).await;
    let which = site.ok(&["boundary", "which", "10.20.4.17"]).await;
    assert_eq!((&which["groups"], &which["subnet"]), (&json!(["LYON"]), &json!("10.20.4.0/24")));
    let elsewhere = site.ok(&["boundary", "which", "10.30.0.1"]).await;
    assert_eq!(elsewhere["groups"], json!(["Default-Site-Boundary-Group<XYZ>"]));
    // The point is in no group, so in that of the site: after two hours.
    let waits = ["cloud upstream: in upstream", "distribution-point site: later default-group"];
    assert_eq!(locate("10.20.4.17").await, waits);
    let answer = asked(&content).await;
    assert_eq!(
        (&answer["locations"][0]["kind"], &answer["later"][0]["after_seconds"]),
        (&json!("cloud"), &json!(7_200))
    );
    let later =
        site.ok(&["content", "locate", "--ip", "10.20.4.17", "--elapsed", "2h", &content[..12]]).await;
    assert_eq!(told(&later)[0], "distribution-point site: in default-group");

    let named = async |name: &str| {
        let located = site.ok(&["content", "locate", "--ip", "10.20.4.17", name]).await;
        let others = located["others"].as_array().map_or(0, Vec::len);
        (located["content"].as_str().unwrap().to_owned(), others)
    };
    let file = esd.file_name.as_str();
    assert_eq!(named(&format!("p/{file}")).await, (content.clone(), 0));
    assert_eq!(named(file).await, (content.clone(), 0));

    site.ok(&["boundary", "group", "relate", "LYON", "default", "--never"]).await;
    assert_eq!(locate("10.20.4.17").await[1], "distribution-point site: out never");
    assert_eq!(asked(&content).await["out"][0]["why"], "never");
    site.ok(&["boundary", "group", "relate", "LYON", "default", "--unset"]).await;
    site.ok(&["--dry-run", "boundary", "group", "add", "LYON", "--point", "site"]).await;
    assert_eq!(locate("10.20.4.17").await, waits, "nothing was changed");
    site.ok(&["boundary", "group", "add", "LYON", "--point", "site"]).await;
    site.ok(&["boundary", "group", "set", "LYON", "cloud=off"]).await;
    assert_eq!(
        locate("10.20.4.17").await,
        ["distribution-point site: in same-group", "cloud upstream: out cloud-off"]
    );
    let shown = site.ok(&["boundary", "group", "show", "lyon"]).await;
    assert_eq!((&shown["points"], &shown["cloud"]), (&json!(["site"]), &json!(false)));
    assert_eq!(shown["relations"][0]["implied"], true);
    let fetched = site.ok(&["client", "fetch", &content]).await;
    assert_eq!(fetched["served"][0]["kind"], "distribution-point");

    for (code, args) in [
        ("BOUNDARY_INVALID", &["boundary", "add", "10.20.4.7/24"][..]),
        ("BOUNDARY_EXISTS", &["boundary", "add", "10.20.4.0/24"]),
        ("BOUNDARY_NOT_FOUND", &["boundary", "remove", "10.99.0.0/24"]),
        ("AMBIGUOUS", &["boundary", "remove", "floor"]),
        ("BOUNDARY_GROUP_NOT_FOUND", &["boundary", "group", "show", "ROME"]),
        ("BOUNDARY_GROUP_EXISTS", &["boundary", "group", "create", "lyon"]),
        ("BOUNDARY_GROUP_NEEDED", &["--yes", "boundary", "group", "delete", "default"]),
        ("DP_NOT_FOUND", &["boundary", "group", "add", "LYON", "--point", "nowhere"]),
        ("INVALID_OPTION", &["boundary", "group", "set", "LYON", "speed=on"]),
        ("INVALID_OPTION", &["boundary", "group", "relate", "LYON", "LYON", "--after", "1h"]),
        ("CONFLICTING_OPTIONS", &["boundary", "group", "set", "LYON", "peers=off", "same_subnet_peers=on"]),
        ("INVALID_OPTION", &["content", "locate", "--ip", "LYON", "00"]),
        ("DEVICE_NOT_FOUND", &["content", "locate", "--client", "LYON", "00"]),
        ("CONTENT_NOT_FOUND", &["content", "locate", "--ip", "10.20.4.17", "nothing"]),
        ("CONFIRMATION_REQUIRED", &["boundary", "group", "delete", "LYON"]),
        ("DEVICE_KEY_MISSING", &["client", "share"]),
    ] {
        site.refused(code, args).await;
    }
    site.ok(&["--yes", "boundary", "group", "delete", "LYON"]).await;
    site.ok(&["boundary", "remove", "10.20.4.0/24", "127.0.0.0/8"]).await;
    assert_eq!(locate("10.20.4.17").await, everywhere);
}
