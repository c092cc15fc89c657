//! Telling the site who gave what: so that it can say how much went over which line. Nothing depends on it.

use catalog::digest::Sha256Digest;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{ClientFetched, ClientSettings, LARGEST_ANSWER, REPORT_DEADLINE, Reach};
use crate::server::LocationKind;
use crate::transfer::SourceKind;
use crate::transfer::fault::Fault;
use crate::transfer::web::Bearer;

/// `POST /client/report`: who gave which bytes of one content that this client has now, verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TakenReport {
    /// The content.
    pub content: Sha256Digest,
    /// Bytes of it by kind of source; together at most its size.
    pub taken: Vec<Taken>,
}

/// Bytes of one kind of source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Taken {
    /// The kind.
    pub kind: LocationKind,
    /// The bytes.
    pub bytes: u64,
}

impl TakenReport {
    /// What there is to be said of a content; `None` where nothing was fetched.
    pub fn of(fetched: &ClientFetched) -> Option<Self> {
        let kind = |kind| match kind {
            SourceKind::Peer => Some(LocationKind::Peer),
            SourceKind::DistributionPoint => Some(LocationKind::DistributionPoint),
            SourceKind::Cloud => Some(LocationKind::Cloud),
            _ => None,
        };
        let mut taken: Vec<Taken> = Vec::new();
        for served in fetched.served.iter().filter(|served| served.bytes > 0) {
            let Some(kind) = kind(served.kind) else { continue };
            match taken.iter_mut().find(|one| one.kind == kind) {
                Some(one) => one.bytes += served.bytes,
                None => taken.push(Taken { kind, bytes: served.bytes }),
            }
        }
        (!taken.is_empty()).then_some(Self { content: fetched.content, taken })
    }
}

/// Whether a key may be shown to this site: over TLS, or without leaving this machine.
fn may_show_a_key(site: &Url) -> bool {
    let loopback = match site.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        None => false,
    };
    site.scheme() == "https" || loopback
}

/// Tells the site, as the device that has `key`. A site that cannot be told that safely is told nothing.
///
/// # Errors
/// What the site answered instead; it is a courtesy, so nobody tries twice.
pub async fn report(settings: &ClientSettings, key: &str, fetched: &ClientFetched) -> Result<(), Fault> {
    let Some(report) = TakenReport::of(fetched) else { return Ok(()) };
    let site = Reach::new(settings);
    if !may_show_a_key(&site.base) {
        return Ok(());
    }
    let failed = |what: String| Fault::Failed(what);
    let key = Bearer::new(site.base.clone(), key)
        .ok_or_else(|| Fault::Refused("the key is no plain text".to_owned()))?;
    let url = site.join("client/report").map_err(failed)?;
    let web = site.web_as(key).map_err(|error| failed(error.to_string()))?;
    let message = serde_json::to_vec(&report).map_err(|error| failed(error.to_string()))?;
    web.tell(&url, message, REPORT_DEADLINE, LARGEST_ANSWER).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::Served;

    #[test]
    fn what_was_taken_is_summed_by_kind() {
        let served = |kind, bytes| Served {
            kind,
            name: "x".to_owned(),
            bytes,
            outcome: String::new(),
            at: None,
            fault: None,
        };
        let mut fetched = ClientFetched {
            content: Sha256Digest([1; 32]),
            file_name: "x.esd".parse().unwrap(),
            size: 10,
            path: std::path::PathBuf::new(),
            already_there: false,
            resumed_from: 0,
            served: vec![
                served(SourceKind::Peer, 0),
                served(SourceKind::DistributionPoint, 3),
                served(SourceKind::Cloud, 2),
                served(SourceKind::DistributionPoint, 5),
            ],
        };
        let taken = |kind, bytes| Taken { kind, bytes };
        let report = TakenReport::of(&fetched).unwrap();
        assert_eq!(report.taken, [taken(LocationKind::DistributionPoint, 8), taken(LocationKind::Cloud, 2)]);
        fetched.served.clear();
        assert_eq!(TakenReport::of(&fetched), None);
    }

    #[test]
    fn a_key_leaves_the_machine_over_tls_only() {
        for (site, expected) in [
            ("https://site01:8531/", true),
            ("http://site01:8530/", false),
            ("http://127.0.0.1:8530/", true),
            ("http://[::1]:8530/", true),
            ("http://localhost/", true),
            ("http://10.0.0.1/", false),
        ] {
            assert_eq!(may_show_a_key(&site.parse().unwrap()), expected, "{site}");
        }
    }
}
