//! What a site and its distribution points tell each other (docs/PROTOCOL.md, "Points").

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use catalog::digest::{Digests, Sha1Digest, Sha256Digest, Wanted};
use catalog::id::{FileName, PackageId};
use catalog::problem::Problem;
use schema::keys::PrincipalKind;
use schema::points::{ContentState, Work};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::tls::Signed;

/// The most bytes of an enrolment, a report, and an assignment.
pub const LARGEST_ENROLMENT: u64 = 4 << 10;
/// A key and a signature.
pub const LARGEST_CERTIFICATE_REQUEST: u64 = 1 << 10;
/// A thousand packages, each with a problem.
pub const LARGEST_REPORT: u64 = 1 << 20;
/// A thousand packages of a hundred files.
pub const LARGEST_ASSIGNMENT: u64 = 32 << 20;
/// The content keys of a hundred thousand devices.
pub const LARGEST_KEYS: u64 = 8 << 20;
/// The pieces of 64 GiB.
pub const LARGEST_OFFER: u64 = 8 << 20;
/// Where else a content is.
pub const LARGEST_PLACES: u64 = 1 << 20;
/// The longest that a question for an assignment waits for another one, in seconds.
pub const LONGEST_WAIT: u64 = 25;
/// The most contents of one package that a report says are lacking; the others with the next reports.
pub const MOST_LACKING: usize = 100;
/// The most paths of the upstream's links that an assignment has.
pub const MOST_UPSTREAM_PATHS: usize = 10_000;
/// The head field in which the site says the tag of the content keys that a point has to know.
pub const KEYS_FIELD: &str = "spsync-keys";
/// The longest name of a state that a site remembers, in bytes.
pub const LONGEST_STATE: usize = 64;
/// How often a point says that it is alive, in seconds.
pub const HEART_BEAT: u64 = 5;

/// `POST /enrol`.
#[derive(Serialize, Deserialize)]
pub struct Enrolment {
    /// The one-time token.
    pub token: String,
    /// SHA-256 of the key that the machine made for itself.
    pub key_sha256: Sha256Digest,
    /// SHA-256 of the content key that follows from it ([`dp::client::content_key`]), of a device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_key_sha256: Option<Sha256Digest>,
    /// Which installation asks.
    pub instance: Uuid,
}

/// Its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// What it is now.
    pub kind: PrincipalKind,
    /// Its name.
    pub name: String,
    /// Code of the site.
    pub site: String,
}

/// `GET /point/assignment`: what a point is to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Its name.
    pub point: String,
    /// Code of the site.
    pub site: String,
    /// Why nothing may be fetched now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
    /// Bytes per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
    /// Addresses of points that are asked before the site, in order.
    #[serde(default)]
    pub pull_from: Vec<String>,
    /// SHA-256 of the content keys of devices, which open private content; none where nothing is private, and for a point that asks
    /// for them by themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<Sha256Digest>,
    /// Boundary groups and their networks, the default one first: by them the point counts whom it serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<NetworkGroup>,
    /// Hosts for which the site gives this point a certificate; none where the site has no authority.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificate: Vec<String>,
    /// Which public content of the packages the upstream has at these paths: as Delivery Optimization asks its cache host for it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub upstream: BTreeMap<String, Sha256Digest>,
    /// In the order of the work.
    pub packages: Vec<Assigned>,
    /// Packages that are taken off: what only they have goes at once. What is not named at all, and not here, waits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removing: Vec<PackageId>,
}

/// The tag of content keys, in whatever order.
pub fn keys_tag(keys: &[Sha256Digest]) -> String {
    let mut sorted = keys.to_vec();
    sorted.sort_unstable();
    let bytes: Vec<u8> = sorted.iter().flat_map(|key| key.0).collect();
    Sha256Digest::of(&bytes).short()
}

/// `GET /point/keys`: the content keys of devices that a point has to know, or what changed of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysAnswer {
    /// Tag of the keys as they are now.
    pub tag: String,
    /// Tag of those since which this is what changed; none where these are all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// SHA-256 of all keys, or of those that came.
    pub keys: Vec<Sha256Digest>,
    /// Of those that went.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<Sha256Digest>,
}

impl KeysAnswer {
    /// The keys of now, for who had `known`; `None` where what comes of it is not what the tag says.
    pub fn applied_to(&self, known: &[Sha256Digest]) -> Option<Vec<Sha256Digest>> {
        let known = if self.since.is_some() { known } else { &[] };
        let mut keys: BTreeSet<_> = known.iter().copied().collect();
        for key in &self.gone {
            keys.remove(key);
        }
        keys.extend(&self.keys);
        let keys: Vec<_> = keys.into_iter().collect();
        (keys_tag(&keys) == self.tag).then_some(keys)
    }
}

/// A boundary group, as points need to know it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkGroup {
    /// Its name.
    pub name: String,
    /// First and last addresses, as `10.20.4.0-10.20.4.255`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
}

impl From<(String, Vec<(IpAddr, IpAddr)>)> for NetworkGroup {
    fn from((name, networks): (String, Vec<(IpAddr, IpAddr)>)) -> Self {
        Self { name, networks: networks.iter().map(|(first, last)| format!("{first}-{last}")).collect() }
    }
}

/// `POST /point/certificate`: for which key a certificate is wanted. For which hosts the site decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateRequest {
    /// The public key, a point of P-256 without compression, in base64.
    pub public_key: String,
    /// What its private key signed of [`certificate_proof`] (ECDSA with SHA-256, ASN.1), in base64.
    pub proof: String,
}

/// Its answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CertificateAnswer {
    /// The certificate.
    #[serde(flatten)]
    pub signed: Signed,
    /// That of the authority, PEM.
    pub authority: String,
}

/// What shows that the point of this name has the private key.
pub fn certificate_proof(point: &str, public_key: &str) -> String {
    format!("spsync certificate\n{point}\n{public_key}\n")
}

/// One package to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// Its id.
    pub package: PackageId,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// What to do.
    pub work: Work,
    /// Number of that; done once.
    pub order: u64,
    /// Its files.
    pub files: Vec<AssignedFile>,
    /// Files of earlier versions that are there: they stay until the order is done, and are never fetched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaving: Vec<AssignedFile>,
    /// An operator called it off: what of it is there stays, and nothing is fetched or read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hold: bool,
}

impl Assigned {
    /// Everything that may be there for it.
    pub fn all_files(&self) -> impl Iterator<Item = &AssignedFile> {
        self.files.iter().chain(&self.leaving)
    }
}

/// One file of it. The site has it at `/point/content/{sha256}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedFile {
    /// Its name in the package.
    pub name: FileName,
    /// Its content.
    pub sha256: Sha256Digest,
    /// Its SHA-1.
    pub sha1: Sha1Digest,
    /// Bytes.
    pub size: u64,
    /// Only for those with a key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub private: bool,
}

impl AssignedFile {
    /// What is fetched for it.
    pub fn wanted(&self) -> Wanted {
        Wanted { size: self.size, digests: Digests { sha256: Some(self.sha256), sha1: Some(self.sha1) } }
    }
}

/// `POST /point/report`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Which installation speaks.
    pub instance: Uuid,
    /// Which start of it.
    pub boot: Uuid,
    /// Tag of the assignment that it works on.
    #[serde(default)]
    pub assignment: Option<String>,
    /// Version of its program.
    pub program: String,
    /// Bytes that it may still fill.
    pub free: u64,
    /// It fetches what it is asked for and lacks.
    #[serde(default)]
    pub on_demand: bool,
    /// Each package of the assignment; none where the site has taken all of them down as `state` names them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packages: Option<Vec<Said>>,
    /// Where `packages` is left out and the site takes it: the packages that changed, since which state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<Changed>,
    /// Which report of its process this is, from 1: an earlier one that comes later says nothing. Points of before do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// A name for `assignment` and how each package of it is. Points of before give none, and say all each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// What this process has served so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub served: Vec<ServedBytes>,
}

/// What changed of packages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Changed {
    /// Since this state, which the site has taken down.
    pub since: String,
    /// Those that changed, and those of which there is more to say.
    pub packages: Vec<Said>,
}

/// The answer to a report that names a state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportAnswer {
    /// That state, if the site has taken it down: the packages need not be said again. None where they are to be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The site takes `changed`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub changes: bool,
}

/// Bytes served to clients of one boundary group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedBytes {
    /// The group.
    pub group: String,
    /// As what it was served, as counters name it.
    pub source: String,
    /// The bytes.
    pub bytes: u64,
}

/// How one package is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// Its id.
    pub package: PackageId,
    /// The order that this is about.
    pub order: u64,
    /// How it is.
    pub state: ContentState,
    /// Bytes that are there.
    pub done: u64,
    /// Why not well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    /// Contents of it that are not there, however it is; at most [`MOST_LACKING`], the others with the next reports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<Sha256Digest>,
}

/// `GET /point/offer/{sha256}`: a content that a point may fetch because it is asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferAnswer {
    /// The content.
    pub sha256: Sha256Digest,
    /// Its SHA-1.
    pub sha1: Sha1Digest,
    /// Bytes.
    pub size: u64,
    /// A name for it.
    pub name: FileName,
    /// Only for those with a key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub private: bool,
    /// SHA-256 of each 1 MiB; none where they are not known, or were not asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pieces: Vec<Sha256Digest>,
    /// Links of the upstream; none where it is private.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cloud: Vec<String>,
}
