//! What task sequences refer to, as a device needs it: what it applies to, and its files.

use catalog::digest::{Sha1Digest, Sha256Digest};
use catalog::feature_update::Shape;
use catalog::id::{FileName, PackageId, UpdateId};
use serde::{Deserialize, Serialize};

use super::{LONGEST_COMMAND, LONGEST_TEXT, MOST_FILES, few, short};
use crate::sequence::action::OsType;
use crate::sequence::choose::Candidate;

/// One file of content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentFile {
    /// Its name.
    pub name: FileName,
    /// Its bytes.
    pub size: u64,
    /// Its SHA-256; not known of what was published with a SHA-1 alone and never downloaded by the site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256Digest>,
    /// Its SHA-1, as published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha1: Option<Sha1Digest>,
}

/// A feature update: what the choice of a device needs, and its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureUpdate {
    /// Architecture, language, editions, release, what supersedes it.
    pub facts: Candidate,
    /// `25H2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// Its files.
    #[serde(default)]
    pub files: Vec<ContentFile>,
}

impl FeatureUpdate {
    /// The id of the update.
    pub fn id(&self) -> UpdateId {
        self.facts.id
    }

    /// Its form.
    pub fn shape(&self) -> Shape {
        self.facts.shape
    }

    pub(super) fn check(&self) -> Result<(), String> {
        short("the title of a feature update", &self.facts.title, LONGEST_TEXT)?;
        few("files of a feature update", self.files.len(), MOST_FILES)
    }
}

/// An OS upgrade package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Its id.
    pub id: PackageId,
    /// Its name.
    pub name: String,
    /// Client or server.
    pub os_type: OsType,
    /// Its editions, in the order of their indexes.
    pub editions: Vec<Edition>,
    /// Its file.
    pub file: ContentFile,
}

/// One edition of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edition {
    /// Its index in the file.
    pub index: u32,
    /// Its name, localized.
    pub name: String,
    /// `Enterprise`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edition: Option<String>,
    /// `x64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// Languages in it; empty where nothing is said.
    #[serde(default)]
    pub languages: Vec<String>,
    /// Its build: major and minor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<(u32, u32)>,
}

impl Image {
    /// The edition that a step means: its index, or the first.
    pub fn edition(&self, index: Option<u32>) -> Option<&Edition> {
        match index {
            Some(index) => self.editions.iter().find(|edition| edition.index == index),
            None => self.editions.first(),
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        short("the name of an image", &self.name, LONGEST_TEXT)?;
        few("editions of an image", self.editions.len(), 1_000)
    }
}

/// An application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Application {
    /// Its id.
    pub id: PackageId,
    /// Its name.
    pub name: String,
    /// The command line that installs it.
    pub install: String,
    /// A command that succeeds where it is installed already; empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detect: String,
    /// Exit codes that mean success; 3010 also that a restart is needed.
    #[serde(default = "success")]
    pub success_codes: Vec<i64>,
    /// It may be installed: neither retired nor disabled.
    pub usable: bool,
    /// Its files.
    #[serde(default)]
    pub files: Vec<ContentFile>,
}

fn success() -> Vec<i64> {
    vec![0, 3010]
}

impl Application {
    pub(super) fn check(&self) -> Result<(), String> {
        short("the name of an application", &self.name, LONGEST_TEXT)?;
        short("the command of an application", &self.install, LONGEST_COMMAND)?;
        short("the detection of an application", &self.detect, LONGEST_COMMAND)?;
        few("exit codes of an application", self.success_codes.len(), 100)?;
        few("files of an application", self.files.len(), MOST_FILES)
    }
}

/// An update that is deployed to a collection of the device, beside its task sequences (mission row M57).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployedUpdate {
    /// Its id.
    pub id: UpdateId,
    /// Its title.
    pub title: String,
    /// It has a deadline.
    #[serde(default)]
    pub mandatory: bool,
    /// Its files.
    #[serde(default)]
    pub files: Vec<ContentFile>,
}

impl DeployedUpdate {
    pub(super) fn check(&self) -> Result<(), String> {
        short("the title of an update", &self.title, LONGEST_TEXT)?;
        few("files of an update", self.files.len(), MOST_FILES)
    }
}
