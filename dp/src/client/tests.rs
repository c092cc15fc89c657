use std::net::SocketAddr;

use catalog::problem::{Code, Coded as _};

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

    async fn meanwhile(&self, _: Duration) {
        std::future::pending().await
    }
}

/// A clock by which every answer is over as soon as somebody is waited for.
#[derive(Default)]
struct OverWhileWaiting(tokio::sync::Notify);

impl Clock for OverWhileWaiting {
    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }

    async fn sleep(&self, _: Duration) {}

    async fn meanwhile(&self, _: Duration) {
        self.0.notified().await;
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
        let patience =
            Patience { attempts_per_source: 2, first_delay: Duration::from_millis(5), ..Patience::default() };
        let policy = Policy::of(patience);
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

#[tokio::test]
async fn a_site_that_is_silent_is_taken_at_its_last_word_and_one_that_refuses_at_this_one() {
    let truth = content(1000);
    let point = Origin::start(truth.clone(), &[Play::Well]).await;
    let told = answer(&truth, &[("distribution-point", point.url().as_str())]).into_bytes();
    let status = |status| Play::Status(status, String::new());
    let busy = |status| Play::Status(status, "retry-after: 1\r\n".to_owned());
    let silent = [status(500), busy(503)];
    let plays = [vec![Play::Well], silent.to_vec(), vec![busy(429), Play::Well, status(404), status(500)]];
    let site = Origin::start(told, &plays.concat()).await;
    let device = device(site.address);
    let id = wanted(&truth).digests.sha256.unwrap();
    let fetch = async || {
        discard(&device.settings, id).await.unwrap();
        let clock = Simulated::default();
        let fetched = device.fetch_at(&clock, &truth, None).await;
        let pauses = clock.pauses.lock().unwrap().clone();
        (fetched.map(|fetched| fetched.size).map_err(|error| error.code()), pauses)
    };
    assert_eq!(fetch().await, (Ok(1000), vec![]));
    for _ in silent {
        assert_eq!(fetch().await, (Ok(1000), vec![]), "in trouble, and nobody waits for it");
    }
    assert_eq!(fetch().await, (Ok(1000), vec![1]), "429 is an answer: it is asked again");
    assert_eq!(fetch().await, (Err(Code::ContentNotFound), vec![]), "404 is the end of what it said");
    assert_eq!(fetch().await, (Err(Code::SourceFailed), vec![1, 3]));
    assert_eq!(point.ranges().len(), 4);
}

#[tokio::test]
async fn a_site_that_is_gone_is_asked_in_vain_once() {
    let truth = content(1000);
    let point = Origin::start(truth.clone(), &[Play::Well]).await;
    let told = answer(&truth, &[("distribution-point", point.url().as_str())]);
    let mut device = device(site(told).await.address);
    device.fetch(&truth, None).await.unwrap();
    // The same site, whose machine is switched off now: what it said is under its name.
    let gone = Url::parse("http://127.0.0.8:1/").unwrap();
    let cache = Cache::open(&device.settings.dir, 0).unwrap();
    let id = wanted(&truth).digests.sha256.unwrap();
    let (answer, _) =
        cache.answers().find(&Reach::new(&device.settings).shown(), id, Timestamp::now()).unwrap();
    device.settings.site = gone.clone();
    cache.answers().keep(&Reach::new(&device.settings).shown(), &answer, Timestamp::now()).unwrap();
    for _ in 0..2 {
        discard(&device.settings, id).await.unwrap();
        let fetched = device.fetch(&truth, None).await.unwrap();
        assert_eq!(self::told(&fetched), [format!("distribution point {}: verified", truth.len())]);
        assert!(away::of(&device.settings.dir).is_away(&gone, Instant::now()));
    }
    // What it never spoke of may be where that was; if not, it is the site that is to blame.
    let points = Origin::start(content(2000), &[Play::Well, Play::Status(404, String::new())]).await;
    let mut other = answer.clone();
    other.locations[0].url = format!("{}content/{id}", points.url().join("/").unwrap());
    cache.answers().keep(&Reach::new(&device.settings).shown(), &other, Timestamp::now()).unwrap();
    let never = content(2000);
    let options = FetchOptions {
        expected: Some(Expected { file_name: "y.esd".parse().unwrap(), size: 2000, private: false }),
        ..FetchOptions::default()
    };
    let unheard = wanted(&never).digests.sha256.unwrap();
    let policy = Policy::of(Patience { attempts_per_source: 1, ..Patience::default() });
    let fetch = async || {
        let clock = Simulated::default();
        fetch_by(&device.settings, &policy, &clock, unheard, &options, |_| {}).await
    };
    assert_eq!(fetch().await.unwrap().size, 2000);
    discard(&device.settings, unheard).await.unwrap();
    let error = fetch().await.unwrap_err();
    assert!(matches!(&error, ClientError::Site { .. }), "{error:?}");
    cache.answers().forget(id);
    discard(&device.settings, id).await.unwrap();
    let error = device.fetch_at(&Simulated::default(), &truth, None).await.unwrap_err();
    assert_eq!(error.code(), Code::SourceUnreachable);
}

#[tokio::test]
async fn a_point_that_is_switched_off_costs_its_time_once() {
    let (one, two) = (content(MIB), content(MIB - 1));
    let off = Url::parse("http://127.0.0.7:1/content").unwrap();
    let mut device = device("127.0.0.1:1".parse().unwrap());
    for (truth, expected) in [(one, 2), (two, 1)] {
        let point = Origin::start(truth.clone(), &[Play::Well]).await;
        let locations = [("distribution-point", off.as_str()), ("distribution-point", point.url().as_str())]
            .map(|(kind, url)| (kind, url.to_owned()));
        let locations: Vec<_> = locations.iter().map(|(kind, url)| (*kind, url.as_str())).collect();
        device.settings.site =
            Url::parse(&format!("http://{}", site(answer(&truth, &locations)).await.address)).unwrap();
        let fetched = device.fetch(&truth, None).await.unwrap();
        assert_eq!(fetched.served.len(), expected, "{:?}", fetched.served);
        let last = fetched.served.last().unwrap();
        assert_eq!((last.bytes, last.outcome.as_str()), (truth.len() as u64, "verified"));
    }
}

#[tokio::test]
async fn a_boundary_that_is_moved_sends_a_running_transfer_elsewhere() {
    let truth = content(2 * MIB);
    let busy = Play::Status(503, "retry-after: 3600\r\n".to_owned());
    let rome = Origin::start(truth.clone(), &[Play::CutAfter(MIB), busy]).await;
    let lyon = Origin::start(truth.clone(), &[Play::Well]).await;
    let [before, after] = [("rome", &rome), ("lyon", &lyon)].map(|(name, point)| {
        answer(&truth, &[("distribution-point", point.url().as_str())])
            .replace(r#""name":"distribution-point""#, &format!(r#""name":"{name}""#))
    });
    // It is asked for pieces too, which it does not know.
    let unknown = Play::Status(404, String::new());
    let plays = [Play::Well, unknown.clone(), Play::Instead(after.into_bytes()), unknown];
    let site = Origin::start(before.into_bytes(), &plays).await;
    let device = device(site.address);
    let (clock, content) = (OverWhileWaiting::default(), wanted(&truth).digests.sha256.unwrap());
    let (policy, options) = (
        Policy::of(Patience { first_delay: Duration::ZERO, ..Patience::default() }),
        FetchOptions::default(),
    );
    let told = |at: Progress| {
        // A moment after the cut is no reason to ask.
        if matches!(at.doing, Doing::Waiting { pause, .. } if pause.as_secs() > 1) {
            clock.0.notify_one();
        }
    };
    let fetched = fetch_by(&device.settings, &policy, &clock, content, &options, told).await.unwrap();
    let gave: Vec<_> = fetched.served.iter().map(|one| (one.name.as_str(), one.bytes)).collect();
    assert_eq!(gave, [("rome", MIB as u64), ("lyon", MIB as u64)]);
    assert_eq!(lyon.ranges(), ["bytes=1048576-"]);
    assert_eq!(fetched.resumed_from, 0);
}

#[tokio::test]
async fn with_a_silent_site_a_peer_that_lies_costs_a_piece() {
    let truth = content(2 * MIB + 7);
    let liar = Origin::start(truth.clone(), &[Play::FlipsByte(17)]).await;
    let point = Origin::start(truth.clone(), &[Play::Well]).await;
    let locations = [("peer", liar.url()), ("distribution-point", point.url())];
    let locations: Vec<_> = locations.iter().map(|(kind, url)| (*kind, url.as_str())).collect();
    let mut checker = catalog::digest::Checker::new();
    checker.update(&truth);
    let print = checker.into_fingerprint();
    let pieces = crate::server::hash_file(print.size, &print.pieces);
    let status = |status| Play::Status(status, String::new());
    let plays = [Play::Well, Play::Instead(pieces.into_bytes()), status(200), status(500)];
    let site = Origin::start(answer(&truth, &locations).into_bytes(), &plays).await;
    let device = device(site.address);
    for silent in [false, true] {
        discard(&device.settings, print.sha256).await.unwrap();
        let fetched = device.fetch_at(&Simulated::default(), &truth, None).await.unwrap();
        let expected = [
            "peer 0: sent wrong bytes in the piece that begins at 0".to_owned(),
            format!("distribution point {}: verified", truth.len()),
        ];
        assert_eq!(told(&fetched), expected, "the site is silent: {silent}");
    }
    assert_eq!(liar.ranges().len(), 2);
}

#[tokio::test]
async fn who_was_away_a_moment_ago_is_asked_before_the_cloud() {
    let (one, two) = (content(MIB), content(MIB - 1));
    let gone = std::net::TcpListener::bind("127.0.0.6:0").unwrap().local_addr().unwrap();
    let other = Origin::start(one.clone(), &[Play::Well]).await;
    let cloud = Origin::start(two.clone(), &[Play::Well]).await;
    let named = Url::parse(&format!("http://{gone}/content")).unwrap();
    let mut device = device("127.0.0.1:1".parse().unwrap());
    let away = |device: &Device| away::of(&device.settings.dir).is_away(&named, Instant::now());
    let point = ("distribution-point", named.as_str());
    for (truth, second, kind) in [(&one, &other, "distribution-point"), (&two, &cloud, "cloud")] {
        let site = site(answer(truth, &[point, (kind, second.url().as_str())])).await;
        device.settings.site = Url::parse(&format!("http://{}", site.address)).unwrap();
        if kind == "cloud" {
            Origin::start_at(&gone.to_string(), truth.clone(), &[Play::Well]).await; // it is back
        }
        let fetched = device.fetch(truth, None).await.unwrap();
        assert_eq!(away(&device), kind != "cloud", "{:?}", fetched.served);
    }
    assert!(cloud.ranges().is_empty());
}
