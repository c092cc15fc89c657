//! Telling the site who gave what: so that it can say how much went over which line. Nothing depends on it.

use std::time::Duration;

use catalog::digest::Sha256Digest;
use serde::{Deserialize, Serialize};

use super::reach::Reach;
use super::{ClientFetched, ClientSettings, LARGEST_ANSWER};
use crate::transfer::SourceKind;
use crate::transfer::fault::Fault;

/// Nobody waits long for it.
const DEADLINE: Duration = Duration::from_secs(20);

/// `POST /client/report`: who gave which bytes of one content that this client has now, verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TakenReport {
    /// The content.
    pub content: Sha256Digest,
    /// Bytes of it by kind of source; together at most its size.
    pub taken: Vec<Taken>,
}

/// Where bytes of a content came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TakenFrom {
    /// Another client.
    Peer,
    /// A distribution point of the site.
    DistributionPoint,
    /// The upstream, on the internet.
    Cloud,
    /// Nowhere: the client had them in other content.
    Saved,
}

impl TakenFrom {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Peer, Self::DistributionPoint, Self::Cloud, Self::Saved];

    /// As counters name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::DistributionPoint => "distribution-point",
            Self::Cloud => "cloud",
            Self::Saved => "saved",
        }
    }
}

/// Bytes of one kind of source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Taken {
    /// The kind.
    pub kind: TakenFrom,
    /// The bytes.
    pub bytes: u64,
}

impl TakenReport {
    /// What there is to be said of a content; `None` where nothing was fetched.
    pub fn of(fetched: &ClientFetched) -> Option<Self> {
        let kind = |kind| match kind {
            SourceKind::Peer => Some(TakenFrom::Peer),
            SourceKind::DistributionPoint => Some(TakenFrom::DistributionPoint),
            SourceKind::Cloud => Some(TakenFrom::Cloud),
            SourceKind::Earlier => Some(TakenFrom::Saved),
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

/// Tells the site, with the device's key. A site that may not be shown the key, or a device without one, is told nothing.
///
/// # Errors
/// What the site answered instead; it is a courtesy, so nobody tries twice.
pub async fn report(settings: &ClientSettings, fetched: &ClientFetched) -> Result<(), Fault> {
    let Some(report) = TakenReport::of(fetched) else { return Ok(()) };
    let site = Reach::new(settings);
    if site.key_for_site().is_none() {
        return Ok(());
    }
    let failed = |what: String| Fault::Failed(what);
    let url = site.join("client/report").map_err(failed)?;
    let web = site.site().map_err(|error| failed(error.to_string()))?;
    let message = serde_json::to_vec(&report).map_err(|error| failed(error.to_string()))?;
    web.tell(&url, message, DEADLINE, LARGEST_ANSWER).await.map(drop)
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
            unreachable: None,
        };
        let mut fetched = ClientFetched {
            content: Sha256Digest([1; 32]),
            file_name: "x.esd".parse().unwrap(),
            size: 14,
            path: std::path::PathBuf::new(),
            already_there: false,
            resumed_from: 0,
            private: false,
            bytes: super::super::BytesFrom::default(),
            served: vec![
                served(SourceKind::Peer, 0),
                served(SourceKind::DistributionPoint, 3),
                served(SourceKind::Cloud, 2),
                served(SourceKind::DistributionPoint, 5),
                served(SourceKind::Earlier, 4),
            ],
        };
        let taken = |kind, bytes| Taken { kind, bytes };
        let report = TakenReport::of(&fetched).unwrap();
        let expected =
            [taken(TakenFrom::DistributionPoint, 8), taken(TakenFrom::Cloud, 2), taken(TakenFrom::Saved, 4)];
        assert_eq!(report.taken, expected);
        assert_eq!(serde_json::to_value(report.taken[2]).unwrap()["kind"], TakenFrom::Saved.name());
        fetched.served.clear();
        assert_eq!(TakenReport::of(&fetched), None);
    }
}
