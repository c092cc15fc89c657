//! What happened on a device: numbered messages that are queued there until the site has them.
//!
//! A device numbers its messages from 1 and never uses a number twice. Whoever loses its state begins a new series, so
//! `(device, series, number)` names a message for ever: sent twice, it is taken down once.

use std::collections::BTreeMap;

use catalog::problem::{Code, Problem};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{DeploymentId, LONGEST_TEXT, few, short};

/// Caps of messages.
#[derive(Debug, Clone, Copy)]
pub struct MostOf;

impl MostOf {
    /// Messages in one batch.
    pub const MESSAGES: usize = 500;
    /// Bytes of one batch.
    pub const BATCH_BYTES: usize = 1 << 20;
    /// Bytes of a message as it is kept.
    pub const KEPT_BYTES: usize = 4 << 10;
    /// Characters of details.
    pub const DETAILS: usize = 2_000;
    /// Sources of bytes in one message.
    pub const SOURCES: usize = 64;
    /// Bytes from one of them: 16 TiB, more than all content that a deployment may bring.
    pub const BYTES: u64 = 1 << 44;
    /// Names of groups above a step.
    pub const GROUPS: usize = 32;
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusMessage {
    /// From 1, within its series.
    pub number: u64,
    /// When, by the clock of the device.
    pub time: Timestamp,
    /// The deployment that it is about.
    pub deployment: DeploymentId,
    /// Which run on this device, from 1 within the series; 0 where none has begun.
    pub run: u64,
    /// How the run stands after it.
    pub state: RunState,
    /// The step that it is about; none: the run as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepReport>,
    /// A code of spsync, where something went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The exit code of what ran: a status, or a Windows code such as 0xC1900208 as a positive number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<i64>,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
    /// Who gave how many bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bytes: Vec<BytesFrom>,
}

impl StatusMessage {
    /// The rules that hold within a message.
    ///
    /// # Errors
    /// `STATUS_INVALID`.
    pub fn check(&self) -> Result<(), Problem> {
        let refused = |why: String| {
            Problem::new(Code::StatusInvalid, format!("message {} cannot be taken", self.number)).because(why)
        };
        if self.number == 0 || self.number > i64::MAX.unsigned_abs() || self.run > i64::MAX.unsigned_abs() {
            return Err(refused("its number is no number of a message".to_owned()));
        }
        short("its details", &self.details, MostOf::DETAILS).map_err(refused)?;
        short("its code", self.code.as_deref().unwrap_or_default(), 64).map_err(refused)?;
        few("sources of bytes", self.bytes.len(), MostOf::SOURCES).map_err(refused)?;
        for from in &self.bytes {
            short("the name of a source", &from.name, LONGEST_TEXT).map_err(refused)?;
            if from.bytes > MostOf::BYTES {
                return Err(refused("nobody gives so many bytes".to_owned()));
            }
        }
        if let Some(step) = &self.step {
            short("the name of its step", &step.name, LONGEST_TEXT).map_err(refused)?;
            short("the type of its step", &step.kind, LONGEST_TEXT).map_err(refused)?;
            few("groups above its step", step.groups.len(), MostOf::GROUPS).map_err(refused)?;
            for group in &step.groups {
                short("the name of a group", group, LONGEST_TEXT).map_err(refused)?;
            }
        }
        Ok(())
    }

    /// The message as it is kept, in at most [`MostOf::KEPT_BYTES`] of JSON if it passes [`Self::check`]: nearly all are kept as
    /// they came. Of one that is longer the beginnings of its texts stay, and bytes by origin instead of by source.
    ///
    /// # Errors
    /// Those of writing JSON.
    pub fn kept(&self) -> serde_json::Result<serde_json::Value> {
        if serde_json::to_vec(self)?.len() <= MostOf::KEPT_BYTES {
            return serde_json::to_value(self);
        }
        let cut = |text: &str, most: usize| text.chars().take(most).collect::<String>();
        let mut sums: BTreeMap<Origin, u64> = BTreeMap::new();
        for from in &self.bytes {
            let sum = sums.entry(from.origin).or_default();
            *sum = sum.saturating_add(from.bytes);
        }
        let sum = |(origin, bytes)| BytesFrom { origin, name: String::new(), bytes };
        let step = self.step.as_ref().map(|step| StepReport {
            name: cut(&step.name, 100),
            kind: cut(&step.kind, 100),
            groups: Vec::new(),
            ..step.clone()
        });
        serde_json::to_value(Self {
            details: cut(&self.details, 500),
            bytes: sums.into_iter().map(sum).collect(),
            step,
            ..self.clone()
        })
    }
}

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// The policy is there; its time has not come, or it waits for content.
    Waiting,
    /// Content is fetched.
    Downloading,
    /// Steps run.
    Running,
    /// The device restarts, and goes on afterwards.
    Restarting,
    /// It did what it should.
    Succeeded,
    /// It did not.
    Failed,
    /// Setup put the old Windows back.
    RolledBack,
    /// It is not for this device.
    NotApplicable,
    /// A state of another release.
    #[serde(other)]
    Unknown,
}

/// Where a state is counted: the five columns of a deployment's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Bucket {
    Success,
    InProgress,
    Error,
    RequirementsNotMet,
    Unknown,
}

impl RunState {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Downloading => "downloading",
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::RolledBack => "rolled-back",
            Self::NotApplicable => "not-applicable",
            Self::Unknown => "unknown",
        }
    }

    /// Nothing follows in the same run.
    #[cfg(test)]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::RolledBack | Self::NotApplicable)
    }

    /// Where it is counted.
    pub fn bucket(self) -> Bucket {
        match self {
            Self::Waiting | Self::Downloading | Self::Running | Self::Restarting => Bucket::InProgress,
            Self::Succeeded => Bucket::Success,
            Self::Failed | Self::RolledBack => Bucket::Error,
            Self::NotApplicable => Bucket::RequirementsNotMet,
            Self::Unknown => Bucket::Unknown,
        }
    }
}

/// How a step stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    /// Its number, from 1 in the order in which steps run.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// The groups above it, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Its type, as in documents.
    pub kind: String,
    /// How it stands.
    pub state: StepState,
    /// Which try, from 1.
    #[serde(default = "first")]
    pub attempt: u32,
}

fn first() -> u32 {
    1
}

/// How a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// Disabled, or its condition or that of its group does not hold; the details say which.
    Skipped,
    /// It runs.
    Running,
    /// It failed, and is tried again.
    Retrying,
    /// It did what it should.
    Succeeded,
    /// It failed, and the task sequence goes on.
    FailedContinued,
    /// It failed, and what it stands in ends.
    Failed,
    /// A state of another release.
    #[serde(other)]
    Unknown,
}

impl StepState {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Succeeded => "succeeded",
            Self::FailedContinued => "failed-continued",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// Bytes by who gave them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BytesFrom {
    /// What it is.
    pub origin: Origin,
    /// Its name.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
}

/// Who gives bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Another client.
    Peer,
    /// A distribution point.
    DistributionPoint,
    /// The Microsoft cloud.
    Cloud,
    /// The device had it already.
    Device,
    /// Nobody had to: they were in other content of the device.
    Saved,
    /// Somebody that this release does not know.
    #[serde(other)]
    Other,
}

impl Origin {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::DistributionPoint => "distribution-point",
            Self::Cloud => "cloud",
            Self::Device => "device",
            Self::Saved => "saved",
            Self::Other => "other",
        }
    }
}

/// `POST /client/status`: messages in the order of their numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusBatch {
    /// Which numbering of the device; a device that lost its state begins another.
    pub series: Uuid,
    /// The messages.
    pub messages: Vec<StatusMessage>,
}

impl StatusBatch {
    /// The rules that hold for a batch as a whole; each message has its own.
    ///
    /// # Errors
    /// `STATUS_INVALID`.
    pub fn check(&self) -> Result<(), Problem> {
        let refused =
            |why: String| Problem::new(Code::StatusInvalid, "the messages cannot be taken").because(why);
        few("messages", self.messages.len(), MostOf::MESSAGES).map_err(refused)?;
        let in_order = self.messages.windows(2).all(|pair| pair[0].number < pair[1].number);
        if in_order { Ok(()) } else { Err(refused("they are not in the order of their numbers".to_owned())) }
    }
}

/// The answer: what the site has now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusAck {
    /// Every message up to this number is taken down or refused for good; none of them is sent again.
    pub through: u64,
    /// Those that were refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedMessage>,
}

/// A message that the site will never take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedMessage {
    /// Its number.
    pub number: u64,
    /// Why.
    pub code: String,
}
