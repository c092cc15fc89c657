use std::net::SocketAddr;
use std::sync::Mutex;

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
    let settings =
        ClientSettings::new(Url::parse(&format!("http://{site}")).unwrap(), dir.path().join("client"));
    Device { dir, settings }
}

/// A clock on which waiting takes no time. It remembers every pause.
#[derive(Default)]
struct Simulated {
    now: Mutex<Duration>,
    pauses: Mutex<Vec<u64>>,
}

impl Clock for Simulated {
    fn elapsed(&self) -> Duration {
        *self.now.lock().expect("nobody failed here")
    }

    async fn sleep(&self, pause: Duration) {
        *self.now.lock().expect("nobody failed here") += pause;
        self.pauses.lock().expect("nobody failed here").push(pause.as_secs());
    }
}

impl Device {
    async fn fetch(&self, bytes: &[u8], target: Option<&Path>) -> Result<ClientFetched, ClientError> {
        self.fetch_at(&Started(Instant::now()), bytes, target).await
    }

    async fn fetch_at(
        &self,
        clock: &impl Clock,
        bytes: &[u8],
        target: Option<&Path>,
    ) -> Result<ClientFetched, ClientError> {
        let policy =
            Policy { attempts_per_source: 2, first_delay: Duration::from_millis(5), ..Policy::default() };
        let content = wanted(bytes).digests.sha256.unwrap();
        let options = FetchOptions { target: target.map(Path::to_owned), ..FetchOptions::default() };
        fetch_by(&self.settings, &policy, clock, content, &options, |_| {}).await
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

#[tokio::test]
async fn a_neighbour_is_asked_after_its_time_and_only_where_nothing_else_works() {
    let truth = content(2 * MIB);
    let own = Origin::start(truth.clone(), &[Play::CutAfter(MIB), Play::Status(404, String::new())]).await;
    let neighbour = Origin::start(truth.clone(), &[Play::Well]).await;
    let mut told: serde_json::Value =
        serde_json::from_str(&answer(&truth, &[("distribution-point", own.url().as_str())])).unwrap();
    told["later"] = serde_json::json!([
        { "kind": "distribution-point", "name": "site", "url": "http://127.0.0.1:1/", "after_seconds": 7_200,
          "from": "2026-01-01T02:00:00Z", "why": "default-group", "reason": "default site group" },
        { "kind": "distribution-point", "name": "rome", "url": neighbour.url().as_str(), "after_seconds": 2_000,
          "from": "2026-01-01T01:00:00Z", "why": "neighbour", "reason": "ROME is a neighbour of LYON" },
    ]);
    let site = site(told.to_string()).await;
    let mut device = device(site.address);
    let impatient = device.fetch_at(&Simulated::default(), &truth, None).await.unwrap_err();
    assert_eq!(impatient.code(), Code::SourceNotFound);

    device.settings.wait = true;
    let clock = Simulated::default();
    let fetched = device.fetch_at(&clock, &truth, None).await.unwrap();
    // The answer holds for 900 s: everybody is asked again after that.
    assert_eq!(*clock.pauses.lock().unwrap(), [900, 900, 200]);
    let gave: Vec<_> = fetched.served.iter().map(|one| (one.name.as_str(), one.bytes)).collect();
    assert_eq!(gave.last(), Some(&("rome", MIB as u64)), "{gave:?}");
    assert_eq!(fetched.resumed_from, MIB as u64, "what the impatient one had");

    // Who gets it from its own point waits for nobody.
    let own = Origin::start(truth.clone(), &[Play::Well]).await;
    told["locations"][0]["url"] = own.url().as_str().into();
    let site = self::site(told.to_string()).await;
    let mut device = self::device(site.address);
    device.settings.wait = true;
    let clock = Simulated::default();
    device.fetch_at(&clock, &truth, None).await.unwrap();
    assert_eq!(*clock.pauses.lock().unwrap(), [0; 0]);
}

#[tokio::test]
async fn a_peer_that_lies_or_is_gone_costs_one_attempt() {
    let truth = content(MIB);
    let mut lie = truth.clone();
    lie[17] ^= 1;
    let liar = Origin::start(lie, &[Play::Well]).await;
    let point = Origin::start(truth.clone(), &[Play::Well]).await;
    let gone = "http://127.0.0.1:1/";
    let locations =
        [("peer", liar.url()), ("peer", Url::parse(gone).unwrap()), ("distribution-point", point.url())];
    let locations: Vec<_> = locations.iter().map(|(kind, url)| (*kind, url.as_str())).collect();
    let site = site(answer(&truth, &locations)).await;
    let fetched = device(site.address).fetch(&truth, None).await.unwrap();
    let told = told(&fetched);
    assert!(told[0].starts_with("peer 0: ") && told[1].starts_with("peer 0: cannot be reached"), "{told:?}");
    assert_eq!(told[2], format!("distribution point {MIB}: verified"));
    assert_eq!(liar.ranges().len(), 1, "asked once");
}
