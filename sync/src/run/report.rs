//! What a run tells when it has ended.

use catalog::id::RunId;
use catalog::problem::Problem;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::upstream::server_sync::Outcome;

/// What one run did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// The run's number.
    pub run: RunId,
    /// When it began.
    pub started: Timestamp,
    /// Seconds it took.
    pub seconds: f64,
    /// Each catalog.
    pub catalogs: Vec<CatalogReport>,
    /// Each update server.
    #[serde(default)]
    pub servers: Vec<ServerReport>,
    /// Updates of catalogs that were not known before.
    pub new: u64,
    /// Updates of which another file is published now.
    pub revised: u64,
    /// Updates that no catalog lists any more.
    pub withdrawn: u64,
    /// Updates that can be chosen now, after selection.
    pub listed: u64,
    /// Listed updates that wait for a licence decision.
    pub license_pending: u64,
    /// Remarks: what is left out, and why.
    pub notes: Vec<String>,
}

/// What came of one catalog.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CatalogReport {
    /// Name of the source.
    pub source: String,
    /// URL or file.
    pub location: String,
    /// The document was already recorded.
    pub unchanged: bool,
    /// Version that it states.
    pub version: String,
    /// `<File>` records in it.
    pub records: u64,
    /// ESDs in it: several records name one file.
    pub esds: u64,
    /// Bytes of all its ESDs.
    pub bytes: u64,
    /// Languages in it.
    pub languages: u64,
    /// Updates not known before.
    pub new: u64,
    /// Updates with another file than before.
    pub revised: u64,
    /// Updates that it no longer lists.
    pub withdrawn: u64,
    /// Records that could not be used, with the reason.
    pub refused: Vec<String>,
    /// How far its origin is proven.
    pub signature: String,
    /// Why it was not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// What came of one update server.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ServerReport {
    /// Name of the source.
    pub source: String,
    /// Root of the server.
    pub url: String,
    /// Seconds it took.
    pub seconds: f64,
    /// What was done, also where it could not be ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Why it was not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}
