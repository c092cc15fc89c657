use std::net::SocketAddr;

use super::*;
use crate::transfer::tests::{Origin, Play, content, wanted};

const MIB: usize = 1 << 20;

/// A site that answers every question with `json`.
async fn site(json: String) -> Origin {
    Origin::start(json.into_bytes(), &[Play::Well]).await
}

fn answer(bytes: &[u8], locations: &[(&str, &str)]) -> String {
    let sha256 = wanted(bytes).digests.sha256.unwrap();
    let locations: Vec<_> = locations
        .iter()
        .map(|(kind, url)| serde_json::json!({ "kind": kind, "name": kind, "url": url }))
        .collect();
    serde_json::json!({
        "content": sha256, "size": bytes.len(), "sha1": null, "file_name": "install.esd",
        "locations": locations, "expires_in_seconds": 900,
    })
    .to_string()
}

struct Device {
    dir: tempfile::TempDir,
    settings: ClientSettings,
}

fn device(site: SocketAddr) -> Device {
    let dir = tempfile::tempdir().unwrap();
    let settings = ClientSettings {
        site: Url::parse(&format!("http://{site}")).unwrap(),
        dir: dir.path().join("client"),
        ca_file: None,
        allow_networks: Vec::new(),
        min_free: 0,
    };
    Device { dir, settings }
}

impl Device {
    async fn fetch(&self, bytes: &[u8], target: Option<&Path>) -> Result<ClientFetched, ClientError> {
        let policy =
            Policy { attempts_per_source: 2, first_delay: Duration::from_millis(5), ..Policy::default() };
        let content = wanted(bytes).digests.sha256.unwrap();
        fetch_by(&self.settings, &policy, content, target, |_| {}).await
    }
}

fn told(fetched: &ClientFetched) -> Vec<String> {
    fetched
        .served
        .iter()
        .map(|served| format!("{} {}: {}", served.kind, served.bytes, served.outcome))
        .collect()
}

#[tokio::test]
async fn a_content_comes_from_the_distribution_point_and_is_placed_under_its_name() {
    let truth = content(MIB + 3);
    let point = Origin::start(truth.clone(), &[Play::Well]).await;
    let site = site(answer(&truth, &[("distribution-point", point.url().as_str())])).await;
    let device = device(site.address);
    let target = device.dir.path().join("out");
    let fetched = device.fetch(&truth, Some(&target)).await.unwrap();
    assert_eq!(fetched.path, target.join("install.esd"));
    assert!(std::fs::read(&fetched.path).unwrap() == truth);
    assert_eq!(told(&fetched), [format!("distribution point {}: verified", truth.len())]);
    let again = device.fetch(&truth, None).await.unwrap();
    assert!(again.already_there);
    assert!(std::fs::read(&again.path).unwrap() == truth);
}

#[tokio::test]
async fn the_cloud_goes_on_where_the_distribution_point_fails() {
    let truth = content(2 * MIB);
    let point = Origin::start(truth.clone(), &[Play::CutAfter(MIB), Play::Status(404, String::new())]).await;
    let cloud = Origin::start(truth.clone(), &[Play::Well]).await;
    let locations = [("distribution-point", point.url()), ("cloud", cloud.url())];
    let locations: Vec<_> = locations.iter().map(|(kind, url)| (*kind, url.as_str())).collect();
    let site = site(answer(&truth, &locations)).await;
    let fetched = device(site.address).fetch(&truth, None).await.unwrap();
    assert_eq!(
        told(&fetched),
        ["distribution point 1048576: verified; has no such file (status 404)", "cloud 1048576: verified"]
    );
}

#[tokio::test]
async fn a_relative_location_is_the_sites_own() {
    let truth = br#"it need not be the file: a wrong digest shows that the site itself was asked"#.to_vec();
    let site = site(answer(&truth, &[("distribution-point", "content/x")])).await;
    let error = device(site.address).fetch(&truth, None).await.unwrap_err();
    assert_eq!(error.code(), Code::SizeMismatch, "{error:?}");
}

#[tokio::test]
async fn a_distribution_point_may_be_anywhere_and_the_cloud_may_not() {
    let truth = content(1000);
    let other = Origin::start_at("127.0.0.3:0", truth.clone(), &[Play::Well]).await;
    let as_point = site(answer(&truth, &[("distribution-point", other.url().as_str())])).await;
    assert!(device(as_point.address).fetch(&truth, None).await.is_ok());
    let as_cloud = site(answer(&truth, &[("cloud", other.url().as_str())])).await;
    let mut device = device(as_cloud.address);
    let error = device.fetch(&truth, None).await.unwrap_err();
    assert_eq!(error.code(), Code::NetworkNotAllowed);
    device.settings.allow_networks = vec!["127.0.0.3/32".parse().unwrap()];
    assert!(device.fetch(&truth, None).await.is_ok());
}

#[tokio::test]
async fn a_site_that_says_something_else_is_refused() {
    let truth = content(10);
    for (json, expected) in [
        ("it works!".to_owned(), Code::SiteAnswerInvalid),
        (answer(b"another", &[]), Code::SiteAnswerInvalid),
        (answer(&truth, &[("cloud", "http://[")]), Code::SiteAnswerInvalid),
        (answer(&truth, &[]).replace("install.esd", "../install.esd"), Code::SiteAnswerInvalid),
        (answer(&truth, &[]), Code::ContentUnavailable),
        (" ".repeat(MIB + 1), Code::TransferTooLong),
    ] {
        let site = site(json.clone()).await;
        let error = device(site.address).fetch(&truth, None).await.unwrap_err();
        assert_eq!(error.code(), expected, "{json:.100}: {error:?}");
    }
    let without = Origin::start(Vec::new(), &[Play::Status(404, String::new())]).await;
    let error = device(without.address).fetch(&truth, None).await.unwrap_err();
    assert_eq!(error.code(), Code::ContentNotFound);
}
