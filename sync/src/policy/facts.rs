//! What a device says of itself. It decides what is chosen for the device, never what the device may fetch.

use catalog::problem::{Code, Problem};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::short;
use crate::sequence::action::OsType;
use crate::sequence::choose::Device;

/// What a device is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Client or server.
    pub os_type: OsType,
    /// `10.0.22631`, or `6.1` for Windows 7; with the revision behind it where it is known.
    pub version: String,
    /// `EDITIONID`: Enterprise, Professional, …
    pub edition: String,
    /// `x64`, `arm64`, `x86`.
    pub architecture: String,
    /// `en-us`.
    pub language: String,
    /// `24H2`; what enablement packages depend on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// How it starts.
    #[serde(default)]
    pub firmware: Firmware,
    /// MiB of memory, whatever the name says.
    #[serde(default)]
    pub memory_mb: u64,
    /// MHz of the processor.
    #[serde(default)]
    pub processor_mhz: u32,
    /// MiB free on the system's disk, whatever the name says.
    #[serde(default)]
    pub free_disk_mb: u64,
    /// What feeds it.
    #[serde(default)]
    pub power: Power,
    /// What it is connected by.
    #[serde(default)]
    pub network: NetworkKind,
    /// It has a TPM 2.0 that is enabled; not known if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm: Option<bool>,
    /// It is on the internet, away from the site's networks.
    #[serde(default)]
    pub internet: bool,
    /// Which release of the client says so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub agent: String,
}

impl Facts {
    /// As the choice of a feature update sees it.
    pub fn device(&self) -> Device {
        Device {
            os_type: self.os_type,
            version: self.version.clone(),
            edition: self.edition.clone(),
            architecture: self.architecture.clone(),
            language: self.language.clone(),
            release: self.release.clone(),
        }
    }

    /// The rules that hold within facts.
    ///
    /// # Errors
    /// `STATUS_INVALID`.
    pub fn check(&self) -> Result<(), Problem> {
        let texts = [
            ("the version", &self.version),
            ("the edition", &self.edition),
            ("the architecture", &self.architecture),
            ("the language", &self.language),
            ("the release of the client", &self.agent),
        ];
        let release = self.release.iter().map(|release| ("the release", release));
        for (what, text) in texts.into_iter().chain(release) {
            short(what, text, 64)
                .map_err(|why| Problem::new(Code::StatusInvalid, "the facts cannot be taken").because(why))?;
        }
        Ok(())
    }
}

/// How a device starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Firmware {
    Uefi,
    Bios,
    #[default]
    #[serde(other)]
    Unknown,
}

/// What feeds a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Power {
    Mains,
    Battery,
    #[default]
    #[serde(other)]
    Unknown,
}

/// What a device is connected by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum NetworkKind {
    Wired,
    Wireless,
    None,
    #[default]
    #[serde(other)]
    Unknown,
}

/// `POST /client/facts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactsReport {
    /// When the device looked, by its own clock.
    pub taken: Timestamp,
    /// What it saw.
    pub facts: Facts,
}
