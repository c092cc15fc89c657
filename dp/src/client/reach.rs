//! Whom a client may reach, how, and what it shows to whom.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use catalog::digest::Sha256Digest;
use catalog::problem::{Code, Coded as _};
use tokio::task::JoinSet;
use tracing::debug;
use url::Url;

use super::share::LEAST_RATE;
use super::{ClientError, ClientSettings, LARGEST_ANSWER, away};
use crate::peers::{ReportRequest, Weight};
use crate::server::{Location, LocationKind};
use crate::transfer::fault::Fault;
use crate::transfer::web::{Bearer, Proxy, Web, WebPolicy, as_folder};
use crate::transfer::{At, Source, SourceKind};

/// Location flood: more are not asked.
const MOST_LOCATIONS: usize = 64;
/// A report is a courtesy: nobody waits long for all of them together.
const REPORT_DEADLINE: Duration = Duration::from_secs(10);

/// The address in the URL of a peer.
fn socket_address(url: &Url) -> Option<SocketAddr> {
    let address = match url.host()? {
        url::Host::Ipv4(address) => IpAddr::from(address),
        url::Host::Ipv6(address) => IpAddr::from(address),
        url::Host::Domain(_) => return None,
    };
    Some(SocketAddr::new(address, url.port_or_known_default()?))
}

/// What the client may reach, and how.
pub(super) struct Reach<'a> {
    pub(super) settings: &'a ClientSettings,
    /// The site's address, as a folder to which paths can be joined.
    pub(super) base: Url,
}

impl<'a> Reach<'a> {
    pub(super) fn new(settings: &'a ClientSettings) -> Self {
        Self { settings, base: as_folder(settings.site.clone()) }
    }

    /// The site's address for messages, without credentials.
    pub(super) fn shown(&self) -> String {
        At::Url(self.base.clone()).to_string()
    }

    pub(super) fn join(&self, relative: &str) -> Result<Url, String> {
        self.base.join(relative).map_err(|error| format!("`{relative}` is no address: {error}"))
    }

    /// A client that may reach the site's host and that of `other`, wherever they are, and besides them what is public
    /// or was named in the settings. `through_proxy` as the environment says. It shows no key.
    fn web(&self, other: Option<&Url>, through_proxy: bool) -> Result<Arc<Web>, ClientError> {
        Web::new(self.policy(other, through_proxy)).map(Arc::new).map_err(ClientError::Web)
    }

    /// The same, shown this.
    fn web_with(&self, to: &Url, bearer: Option<Bearer>) -> Result<Arc<Web>, ClientError> {
        let policy = WebPolicy { bearer, ..self.policy(Some(to), false) };
        Web::new(policy).map(Arc::new).map_err(ClientError::Web)
    }

    /// The site itself, which is shown this device's key where nobody on the way can read it.
    pub(super) fn site(&self) -> Result<Arc<Web>, ClientError> {
        self.web_with(&self.base, self.key_for_site())
    }

    /// Whether there is a key that the site is not shown.
    pub(super) fn keeps_key_back(&self) -> bool {
        self.settings.key.is_some() && self.key_for_site().is_none()
    }

    /// The device's key, if it has one and may show it to the site.
    pub(super) fn key_for_site(&self) -> Option<Bearer> {
        self.settings.key.as_ref()?.shown_to(&self.base, self.settings.plain_key)
    }

    /// What opens private content at a place of the site. Which places are the site's the site says: where somebody on the way
    /// could have said it, none is.
    fn content_key_for(&self, to: &Url) -> Option<Bearer> {
        self.key_for_site()?;
        self.settings.key.as_ref()?.for_content_at(to, self.settings.plain_key)
    }

    fn policy(&self, other: Option<&Url>, through_proxy: bool) -> WebPolicy {
        let hosts = [Some(&self.base), other];
        let trusted_hosts: HashSet<_> =
            hosts.into_iter().flatten().filter_map(|url| url.host_str().map(str::to_owned)).collect();
        WebPolicy {
            allow_networks: self.settings.allow_networks.clone(),
            trusted_hosts,
            extra_ca_file: self.settings.ca_file.clone(),
            proxy: if through_proxy { Proxy::System } else { Proxy::None },
            local_address: self.settings.address,
            ..WebPolicy::default()
        }
    }

    /// As for points, but in less time: a machine in the same building answers at once or is gone. `least_rate` is what it has to
    /// give.
    fn peer_web(&self, peer: &Url, least_rate: u64) -> Result<Arc<Web>, ClientError> {
        let policy = WebPolicy {
            least_rate,
            trusted_hosts: peer.host_str().map(str::to_owned).into_iter().collect(),
            redirect_hosts: Some(Vec::new()),
            local_address: self.settings.address,
            connect_timeout: Duration::from_secs(3),
            stall_timeout: Duration::from_secs(10),
            ..WebPolicy::default()
        };
        Web::new(policy).map(Arc::new).map_err(ClientError::Web)
    }

    /// The sources that these locations are. What is private is asked of places of the site alone, with the key; everything
    /// else is asked without.
    pub(super) fn sources(&self, locations: &[Location], private: bool) -> Result<Vec<Source>, ClientError> {
        let may = |location: &&Location| !private || location.kind == LocationKind::DistributionPoint;
        let asked: Vec<_> = locations.iter().filter(may).take(MOST_LOCATIONS).collect();
        let least_rate = self.least_rate(&asked, Instant::now());
        asked.into_iter().map(|location| self.source(location, private, least_rate)).collect()
    }

    /// What peers have to give. A slow one is better than none, and than a wide line; where a point of the client's own network is
    /// ready it is left.
    fn least_rate(&self, locations: &[&Location], now: Instant) -> u64 {
        let away = away::of(&self.settings.dir);
        let is_ready = |location: &&Location| {
            location.kind == LocationKind::DistributionPoint
                && matches!(location.why.as_str(), "this-computer" | "same-subnet" | "same-group")
                && self.join(&location.url).is_ok_and(|url| !away.is_away(&url, now))
        };
        if locations.iter().any(is_ready) { LEAST_RATE } else { WebPolicy::default().least_rate }
    }

    /// Tells the site of peers that did not give what they promised, with this device's key where it may be shown: without, it
    /// counts for this machine only. Not of those that were busy or slow. Whether the site listens does not matter here.
    pub(super) async fn report(
        &self,
        content: Sha256Digest,
        sources: impl Iterator<Item = (SourceKind, &At, Option<&Fault>)>,
    ) {
        let codes = sources.filter_map(|(kind, at, fault)| Some((kind, at, fault?.code())));
        self.report_codes(content, codes).await;
    }

    pub(super) async fn report_codes(
        &self,
        content: Sha256Digest,
        sources: impl Iterator<Item = (SourceKind, &At, Code)>,
    ) {
        let mut running = JoinSet::new();
        for (kind, at, code) in sources {
            let (SourceKind::Peer, At::Url(url)) = (kind, at) else { continue };
            let Some(peer) = socket_address(url).filter(|_| Weight::of(code.name()).is_some()) else {
                continue;
            };
            let report = ReportRequest { content, peer, fault: code.to_string() };
            let (Ok(url), Ok(web), Ok(json)) =
                (self.join("peers/report"), self.site(), serde_json::to_vec(&report))
            else {
                continue;
            };
            running.spawn(async move {
                if let Err(fault) = web.tell(&url, json, REPORT_DEADLINE, LARGEST_ANSWER).await {
                    debug!("the site took no report of {peer}: {fault}");
                }
            });
        }
        running.join_all().await;
    }

    fn source(&self, location: &Location, private: bool, least_rate: u64) -> Result<Source, ClientError> {
        let url =
            self.join(&location.url).map_err(|what| ClientError::Answer { site: self.shown(), what })?;
        let at_the_site = url.host() == self.base.host();
        let (kind, web) = match location.kind {
            LocationKind::Peer => (SourceKind::Peer, self.peer_web(&url, least_rate)?),
            LocationKind::DistributionPoint if private => {
                (SourceKind::DistributionPoint, self.web_with(&url, self.content_key_for(&url))?)
            }
            LocationKind::DistributionPoint => (SourceKind::DistributionPoint, self.web(Some(&url), false)?),
            LocationKind::Cloud => (SourceKind::Cloud, self.web(None, !at_the_site)?),
        };
        Ok(Source { kind, name: location.name.clone(), at: At::Url(url), web })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::DeviceKey;

    /// Where the key is shown, of a device with a key and a site at this address.
    fn shown(site: &str, plain_key: bool, to: &str) -> bool {
        let settings = ClientSettings {
            key: Some(DeviceKey::new("spsync_secret")),
            plain_key,
            ..ClientSettings::new(site.parse().expect("an address"), "unused".into())
        };
        Reach::new(&settings).content_key_for(&to.parse().expect("an address")).is_some()
    }

    /// Whoever can answer for the site names the places that get the key: an answer over plain HTTP may be anybody's.
    #[test]
    fn an_answer_that_anybody_may_have_given_names_no_place_for_the_key() {
        let point = "https://dp2.example:8531/content/x";
        for (site, plain, to, expected) in [
            ("https://site01:8531", false, point, true),
            ("https://site01:8531", false, "http://dp2.example:8530/content/x", false),
            ("http://127.0.0.1:8530", false, point, true),
            ("http://site01:8530", false, point, false),
            ("http://site01:8530", false, "http://127.0.0.1:9/", false),
            ("http://site01:8530", true, point, true),
        ] {
            assert_eq!(shown(site, plain, to), expected, "{site} {plain} {to}");
        }
    }

    #[test]
    fn a_slow_peer_is_left_only_for_a_point_of_the_own_network() {
        use LocationKind::{Cloud, DistributionPoint, Peer};
        let dir = tempfile::tempdir().unwrap();
        let settings = ClientSettings::new("http://site:8530".parse().unwrap(), dir.path().to_owned());
        let (reach, now) = (Reach::new(&settings), Instant::now());
        let location = |(kind, why, url): (LocationKind, &str, &str)| Location {
            kind,
            name: "x".to_owned(),
            url: url.to_owned(),
            why: why.to_owned(),
            reason: String::new(),
        };
        let peer = (Peer, "same-subnet", "http://10.0.0.9:8533/content/x");
        for (beside, expected) in [
            (peer, 1024),
            ((Cloud, "upstream", "http://cloud/x"), 1024),
            ((DistributionPoint, "neighbour", "http://dp1/content/x"), 1024),
            ((DistributionPoint, "same-group", "http://dp1/content/x"), LEAST_RATE),
            ((DistributionPoint, "same-subnet", "/content/x"), LEAST_RATE),
        ] {
            let all = [location(peer), location(beside)];
            assert_eq!(reach.least_rate(&all.each_ref(), now), expected, "{beside:?}");
        }
        away::of(dir.path()).saw(&"http://dp1/content/y".parse().unwrap(), false, now);
        let all = [location(peer), location((DistributionPoint, "same-group", "http://dp1/content/x"))];
        assert_eq!(reach.least_rate(&all.each_ref(), now), 1024, "it could not be reached a moment ago");
    }
}
