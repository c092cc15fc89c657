//! What the command line asks about deployments.

use jiff::Timestamp;
use schema::deployments::Purpose;
use serde::{Deserialize, Serialize};

use super::choice::Asked;
use super::options::Options;
use super::phased::{Begin, Phase, State, Success, USUAL_DEADLINE};

/// Every verb about deployments and the devices that they are for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names are those of the options")]
pub enum DeployRequest {
    /// Offers a task sequence to a collection, all of it or nothing.
    Create(Box<Create>),
    /// Deploys updates beside task sequences.
    CreateUpdates(super::updates::NewUpdates),
    /// All deployments of updates.
    UpdatesList,
    /// All of them.
    List,
    /// One of them.
    Show { deployment: String },
    /// Changes times and options of one.
    Change(Box<Change>),
    /// It is not offered any more.
    Stop { deployment: String },
    /// Forgets it, and how far devices were with it.
    Delete { deployment: String },
    /// Who could do it, and what it would cost; of one that is there, or of one to make.
    Check(Box<CheckArgs>),
    /// How far devices are.
    Status { deployment: String },
    /// Makes a phased deployment.
    PhasedCreate(Box<PhasedCreate>),
    /// All of them.
    PhasedList,
    /// One of them.
    PhasedShow { name: String },
    /// Begins its next phase now.
    PhasedAdvance { name: String },
    /// Begins nothing more, or goes on.
    PhasedSuspend { name: String, suspend: bool },
    /// Changes a phase that has not begun.
    PhasedChange(Box<PhaseChange>),
    /// Forgets it; the deployments that it made stay.
    PhasedDelete { name: String },
    /// Devices that are known; of those the ones that are silent for at least so many days.
    ClientList {
        #[serde(default)]
        silent: u32,
    },
    /// One of them.
    ClientShow { device: String },
    /// What happened on one of them.
    ClientHistory { device: String, limit: u32 },
    /// Takes its key back, and removes it from everything; what was done on it stays to be read.
    ClientRemove { device: String },
}

/// A deployment to make.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Create {
    /// Id or name of the task sequence.
    pub sequence: String,
    /// Name of the collection.
    pub collection: String,
    /// Whether it is done by itself.
    pub purpose: Purpose,
    /// From when; now if not given.
    pub available: Option<Timestamp>,
    /// When it runs by itself.
    pub deadline: Option<Timestamp>,
    /// Until when.
    pub expires: Option<Timestamp>,
    /// What else is chosen.
    pub options: Options,
    /// Where feature updates come from.
    pub package: Asked,
    /// Warnings refuse too.
    pub strict: bool,
    /// A high risk is meant.
    pub confirm_high_risk: bool,
}

/// What is changed of a deployment: what is `None` stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Change {
    /// Its id.
    pub deployment: String,
    /// From when.
    pub available: Option<Timestamp>,
    /// When it runs by itself.
    pub deadline: Option<Timestamp>,
    /// Until when.
    pub expires: Option<Timestamp>,
    /// Changes of options, by their names.
    pub options: serde_json::Map<String, serde_json::Value>,
}

/// What is checked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CheckArgs {
    /// A deployment, or a task sequence.
    pub what: String,
    /// The collection; that of the deployment if not given.
    pub collection: Option<String>,
    /// The purpose; that of the deployment if not given.
    pub purpose: Option<Purpose>,
    /// Points and groups that the content would be sent to.
    pub to: Vec<String>,
    /// Feature updates may come from the cloud.
    pub cloud: bool,
    /// Devices on the internet are offered it.
    pub internet: bool,
    /// What is not reachable refuses.
    pub strict: bool,
}

/// A phased deployment to make.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PhasedCreate {
    /// Its name.
    pub name: String,
    /// Id or name of the task sequence.
    pub sequence: String,
    /// Its phases, in order.
    pub phases: Vec<NewPhase>,
    /// Purpose of its deployments.
    pub purpose: Purpose,
    /// What else is chosen for them.
    pub options: Options,
    /// A high risk is meant.
    pub confirm_high_risk: bool,
}

/// A phase to make.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NewPhase {
    /// Name of its collection.
    pub collection: String,
    /// When it is good enough.
    #[serde(default)]
    pub success: Success,
    /// How it begins.
    #[serde(default)]
    pub begin: Begin,
    /// Seconds after its beginning when it is due.
    #[serde(default = "usual_deadline")]
    pub due_after: u64,
}

/// When a phase is due of which nobody said it.
pub fn usual_deadline() -> u64 {
    USUAL_DEADLINE.as_secs()
}

impl NewPhase {
    /// The phase, before anything has begun.
    pub(super) fn waiting(self) -> Phase {
        let Self { collection, success, begin, due_after } = self;
        let (state, since, deployment) = (State::Waiting, None, None);
        Phase { collection, success, begin, due_after, state, since, deployment }
    }
}

/// What is changed of a phase that has not begun.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PhaseChange {
    /// Name of the phased deployment.
    pub name: String,
    /// Number of the phase, from 1.
    pub phase: usize,
    /// When it is good enough.
    pub success: Option<Success>,
    /// How it begins.
    pub begin: Option<Begin>,
    /// Seconds after its beginning when it is due.
    pub due_after: Option<u64>,
}
