//! What a distribution point may serve at one moment, and what clients are told about where content is.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use catalog::digest::{Sha1Digest, Sha256Digest};
use catalog::id::{FileName, PackageId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::access::Access;
use super::facts::Facts;
use super::upstream::UpstreamPaths;

/// What may be served. Replaced whole, never changed.
#[derive(Debug, Clone, Default)]
pub struct Shelf {
    /// Contents that were distributed.
    pub contents: HashMap<Sha256Digest, Servable>,
    /// The same by SHA-1, as update servers name them; `None` where it stands for two contents.
    pub by_sha1: HashMap<Sha1Digest, Option<Sha256Digest>>,
    /// Files of packages: names in lower case, because clients differ in it.
    pub packages: HashMap<(PackageId, String), Sha256Digest>,
    /// The same by the paths of the upstream's links ([`super::path_of_link`]). What is not public is not asked for so. One shelf
    /// has it from another where it is the same.
    pub by_upstream: Arc<UpstreamPaths>,
    /// Private content that others may serve: nobody is told here where that is without a key.
    pub private_elsewhere: HashSet<Sha256Digest>,
}

impl Shelf {
    /// Offers a content.
    pub fn offer(&mut self, digest: Sha256Digest, servable: Servable) {
        if let Some(sha1) = servable.sha1 {
            self.name(sha1, digest);
        }
        self.contents.insert(digest, servable);
    }

    /// Says which content has this SHA-1, whether it is here or not.
    pub fn name(&mut self, sha1: Sha1Digest, digest: Sha256Digest) {
        let named = self.by_sha1.entry(sha1).or_insert(Some(digest));
        // Somebody has made a collision: whoever asks by SHA-1 could be given the wrong one.
        *named = named.filter(|named| *named == digest);
    }

    /// For whom a content is; what nobody said anything of is public.
    pub fn access(&self, digest: Sha256Digest) -> Access {
        match self.contents.get(&digest) {
            Some(servable) => servable.access,
            None if self.private_elsewhere.contains(&digest) => Access::Private,
            None => Access::Public,
        }
    }
}

/// What is known of content that may be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Servable {
    /// Bytes.
    pub size: u64,
    /// Its SHA-1, for older protocols.
    pub sha1: Option<Sha1Digest>,
    /// A name for it.
    pub name: FileName,
    /// For whom it is.
    pub access: Access,
    /// It is here because somebody asked for it, and only as long as there is room.
    pub pulled: bool,
    /// What answers say of it; worded when somebody first asks.
    facts: OnceLock<Arc<Facts>>,
}

impl Servable {
    /// Content for whom `access` says.
    pub fn of(size: u64, sha1: Option<Sha1Digest>, name: FileName, access: Access) -> Self {
        Self { size, sha1, name, access, pulled: false, facts: OnceLock::new() }
    }

    /// Public content.
    pub fn new(size: u64, sha1: Option<Sha1Digest>, name: FileName) -> Self {
        Self::of(size, sha1, name, Access::Public)
    }

    /// The same, for others.
    pub fn with_access(self, access: Access) -> Self {
        Self { access, facts: OnceLock::new(), ..self }
    }

    /// The same, fetched because it was asked for.
    pub fn on_demand(self) -> Self {
        Self { pulled: true, ..self }
    }

    /// What answers say of it, whose digest this is.
    pub(super) fn facts(&self, digest: Sha256Digest) -> &Arc<Facts> {
        self.facts.get_or_init(|| Arc::new(Facts::of(digest, self.size, self.access)))
    }
}

/// Who has content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LocationKind {
    /// Another client.
    Peer,
    /// A distribution point of the site.
    DistributionPoint,
    /// The upstream, on the internet.
    Cloud,
}

/// Who answers `GET /locations/{sha256}`.
pub trait Locator: Send + Sync {
    /// Where a client at this address finds a content; `None` where nobody is known to have it.
    fn locate(&self, client: IpAddr, content: Sha256Digest) -> Option<LocationsAnswer>;

    /// The same, as JSON: whoever can word it at less cost does.
    fn locate_json(&self, client: IpAddr, content: Sha256Digest) -> Option<Vec<u8>> {
        serde_json::to_vec(&self.locate(client, content)?).ok()
    }

    /// The same, for descriptions of a content that name other places: whoever does not know asks who does.
    fn elsewhere(&self, client: IpAddr, content: Sha256Digest) -> Learning<'_> {
        Box::pin(std::future::ready(self.locate(client, content)))
    }
}

/// An answer about locations, sooner or later.
pub type Learning<'a> = Pin<Box<dyn Future<Output = Option<LocationsAnswer>> + Send + 'a>>;

/// One place that has content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// Who it is.
    pub kind: LocationKind,
    /// Its name, for people.
    pub name: String,
    /// Absolute, or relative to the site's address.
    pub url: String,
    /// Why it stands here: a stable word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// The same for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// A place that may be asked when nothing else has worked until then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaterLocation {
    /// Who it is.
    pub kind: LocationKind,
    /// Its name, for people.
    pub name: String,
    /// Absolute, or relative to the site's address.
    pub url: String,
    /// So long after the client's first question for this content.
    pub after_seconds: u64,
    /// The same as a time, for a client that asks first now.
    pub from: Timestamp,
    /// Why later: a stable word.
    pub why: String,
    /// The same for people.
    pub reason: String,
}

/// A place that is not asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutLocation {
    /// Who it is.
    pub kind: LocationKind,
    /// Its name, for people.
    pub name: String,
    /// Why not: a stable word.
    pub why: String,
    /// The same for people.
    pub reason: String,
}

/// The answer to `GET /locations/{sha256}`: best first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocationsAnswer {
    /// What was asked for.
    pub content: Sha256Digest,
    /// Its bytes.
    pub size: u64,
    /// Its SHA-1.
    pub sha1: Option<Sha1Digest>,
    /// A name for it.
    pub file_name: FileName,
    /// It is for those with a key: never to be asked of peers and the cloud, and never to be shared.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub private: bool,
    /// The boundary groups in which the site sees who asks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Where it is, in the order in which to ask.
    pub locations: Vec<Location>,
    /// Where it may be asked for later, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub later: Vec<LaterLocation>,
    /// Who is not to be asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub out: Vec<OutLocation>,
    /// How many places are not in this answer: out of reach, or beyond its length.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub not_told: usize,
    /// How long this may be believed, in seconds.
    pub expires_in_seconds: u32,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}
