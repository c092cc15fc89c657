//! What a site tells a device, and what the device tells its site: the documents of the client plane.
//!
//! Pure: no network, no disk, no clock. [`Policy`] goes down; [`FactsReport`] and [`StatusBatch`] go up.
//! ```text
//! site                                              device
//! Policy: what is deployed to it, references resolved ──▶  evaluates, fetches, runs
//! Secrets of one deployment, only when a run needs them ──▶ kept in memory
//!                                             ◀── FactsReport: what it is
//!                                             ◀── StatusBatch: what happened, numbered
//! StatusAck: taken down up to this number           ──▶  forgets what the site has
//! ```
//! Both ends may be of another release: fields that are not known are skipped, and a task sequence travels as its
//! document, so that one which cannot be read costs its own assignment and not the whole policy. Nothing here is a secret
//! but [`Secrets`]; a policy says only whether one is there.

mod assignment;
mod facts;
pub mod fits;
mod reference;
mod status;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use catalog::id::{InvalidId, SiteCode};
use catalog::problem::{Code, Problem};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use assignment::{
    Assignment, ContentOptions, Delivery, Purpose, References, Rerun, SealedSecret, SecretOf, Secrets,
    Target, UserOptions,
};
pub use facts::{Facts, FactsReport, Firmware, NetworkKind, Power};
pub use reference::{Application, ContentFile, DeployedUpdate, Edition, FeatureUpdate, Image};
pub use status::{
    Bucket, BytesFrom, MostOf, Origin, RefusedMessage, RunState, StatusAck, StatusBatch, StatusMessage,
    StepReport, StepState,
};

use crate::software::settings::Effective;

/// Where devices ask, below the address of the site, each with its own key.
pub mod route {
    /// `GET`, with `If-None-Match`: [`super::Policy`].
    pub const POLICY: &str = "client/policy";
    /// `GET` with the number of a deployment behind it: [`super::Secrets`]; over TLS, or on the same machine.
    pub const SECRETS: &str = "client/secrets/";
    /// `POST` [`super::FactsReport`]: 204.
    pub const FACTS: &str = "client/facts";
    /// `POST` [`super::StatusBatch`]: [`super::StatusAck`].
    pub const STATUS: &str = "client/status";
}

/// The form of policies that this release writes.
pub const FORMAT: u32 = 1;
/// The most bytes of a policy that a device takes.
pub const LARGEST_POLICY: usize = 32 << 20;
/// The most deployments of one device.
pub const MOST_ASSIGNMENTS: usize = 500;
/// The most things of one sort that an assignment refers to.
pub const MOST_REFERENCES: usize = 2_000;
/// The most files of one reference.
pub const MOST_FILES: usize = 10_000;
/// The longest name or title.
pub const LONGEST_TEXT: usize = 512;
/// The longest command line.
pub const LONGEST_COMMAND: usize = 8_191;
/// A device asks again no more often than this, and at least so often, in seconds.
pub const REFRESH: std::ops::RangeInclusive<u32> = 10..=86_400;

/// What is deployed to a device, and how it is to behave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// [`FORMAT`]; a higher one is not understood.
    pub format: u32,
    /// Tells two states of it apart, for `If-None-Match`; opaque.
    pub version: String,
    /// Whose it is.
    pub site: SiteCode,
    /// Whom it is for: the name under which the device is enrolled.
    pub device: String,
    /// When it was made, by the clock of the site.
    pub made: Timestamp,
    /// Ask again after so many seconds.
    pub refresh_seconds: u32,
    /// Nothing is begun by it later than this; what runs goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// The client settings that hold for the device.
    #[serde(default)]
    pub settings: DeviceSettings,
    /// When required deployments may run; at any time where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
    /// Updates that are deployed to collections of the device beside its task sequences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub updates: Vec<DeployedUpdate>,
    /// Task sequences that are deployed to it.
    #[serde(default)]
    pub assignments: Vec<Assignment>,
}

impl Policy {
    /// Reads a policy, and checks it.
    ///
    /// # Errors
    /// `POLICY_INVALID`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        if bytes.len() > LARGEST_POLICY {
            return Err(invalid(format!("it has {} bytes, at most {LARGEST_POLICY} are read", bytes.len())));
        }
        let policy: Self = serde_json::from_slice(bytes)
            .map_err(|error| invalid(format!("line {} is not as it should be", error.line())))?;
        policy.check()?;
        Ok(policy)
    }

    /// The rules that hold within a policy.
    ///
    /// # Errors
    /// `POLICY_INVALID`.
    pub fn check(&self) -> Result<(), Problem> {
        if self.format == 0 || self.format > FORMAT {
            return Err(invalid(format!("it is of form {}, this release reads {FORMAT}", self.format)));
        }
        short("its version", &self.version, 128).map_err(invalid)?;
        short("the name of its device", &self.device, LONGEST_TEXT).map_err(invalid)?;
        few("deployments", self.assignments.len(), MOST_ASSIGNMENTS).map_err(invalid)?;
        few("windows", self.windows.len(), MOST_REFERENCES).map_err(invalid)?;
        few("updates", self.updates.len(), MOST_REFERENCES).map_err(invalid)?;
        for update in &self.updates {
            update.check().map_err(invalid)?;
        }
        for (position, assignment) in self.assignments.iter().enumerate() {
            assignment
                .check()
                .map_err(|why| invalid(format!("deployment {}: {why}", assignment.deployment)))?;
            if self.assignments[..position].iter().any(|other| other.deployment == assignment.deployment) {
                return Err(invalid(format!("deployment {} is in it twice", assignment.deployment)));
            }
        }
        Ok(())
    }

    /// How long until the device asks again.
    pub fn refresh(&self) -> std::time::Duration {
        let seconds = self.refresh_seconds.clamp(*REFRESH.start(), *REFRESH.end());
        std::time::Duration::from_secs(seconds.into())
    }
}

fn invalid(why: impl Into<String>) -> Problem {
    Problem::new(Code::PolicyInvalid, "the policy cannot be used").because(why)
}

fn short(what: &str, text: &str, most: usize) -> Result<(), String> {
    if text.chars().count() > most || text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return Err(format!("{what} is longer than {most} characters or has control characters"));
    }
    Ok(())
}

fn few(what: &str, number: usize, most: usize) -> Result<(), String> {
    if number > most { Err(format!("more than {most} {what}")) } else { Ok(()) }
}

/// The number of a deployment: `XYZ20001`, the code of the site, `2`, and four hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeploymentId(String);

impl DeploymentId {
    /// The deployment of a site with this number.
    pub fn new(site: &SiteCode, number: u32) -> Self {
        Self(format!("{}{:05X}", site.as_str(), 0x2_0000_u32.wrapping_add(number & 0xFFFF)))
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeploymentId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let upper = text.trim().to_ascii_uppercase();
        let bytes = upper.as_bytes();
        let fine = bytes.len() == 8
            && bytes[..3].iter().all(u8::is_ascii_alphanumeric)
            && bytes[3] == b'2'
            && bytes[4..].iter().all(u8::is_ascii_hexdigit);
        if fine { Ok(Self(upper)) } else { Err(InvalidId::new(text, "a deployment such as XYZ20001")) }
    }
}

impl fmt::Display for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for DeploymentId {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<DeploymentId> for String {
    fn from(id: DeploymentId) -> Self {
        id.0
    }
}

/// A span of time in which required deployments may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Its beginning.
    pub from: Timestamp,
    /// Its end.
    pub until: Timestamp,
}

impl Window {
    /// Whether it is open.
    pub fn contains(&self, now: Timestamp) -> bool {
        self.from <= now && now < self.until
    }
}

/// The client settings about feature updates, as they hold for one device (mission rows M21 to M24).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceSettings {
    /// The priority of Setup's threads.
    pub thread_priority: ThreadPriority,
    /// Whether Setup fetches updates.
    pub dynamic_update: DynamicUpdateSetting,
    /// Whether pieces that differ are fetched alone.
    pub delta_content: bool,
    /// The port of the local listener for them.
    pub delta_port: u16,
}

impl Default for DeviceSettings {
    fn default() -> Self {
        Self {
            thread_priority: ThreadPriority::NotConfigured,
            dynamic_update: DynamicUpdateSetting::NotConfigured,
            delta_content: false,
            delta_port: 8005,
        }
    }
}

impl DeviceSettings {
    /// From what holds for a device; what is not understood is as if nobody said it.
    pub fn of(effective: &[Effective]) -> Self {
        let said = |name: &str| {
            effective.iter().find(|one| one.setting == name).map(|one| one.value.as_str()).unwrap_or_default()
        };
        Self {
            thread_priority: match said("thread_priority") {
                "normal" => ThreadPriority::Normal,
                "low" => ThreadPriority::Low,
                _ => ThreadPriority::NotConfigured,
            },
            dynamic_update: match said("dynamic_update") {
                "yes" => DynamicUpdateSetting::Yes,
                "no" => DynamicUpdateSetting::No,
                _ => DynamicUpdateSetting::NotConfigured,
            },
            delta_content: said("delta_content") == "yes",
            delta_port: said("delta_port").parse().unwrap_or(8005),
        }
    }
}

/// The priority of Setup's threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ThreadPriority {
    /// As other programs.
    Normal,
    /// Below other programs.
    Low,
    /// Nothing is said: what the device has stays.
    #[default]
    #[serde(other)]
    NotConfigured,
}

/// Whether Setup fetches updates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DynamicUpdateSetting {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// Nothing is said.
    #[default]
    #[serde(other)]
    NotConfigured,
}
