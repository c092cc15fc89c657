//! What the command line asks about task sequences.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::archive::Archive;
use crate::admin::UpdateFilter;
use crate::sequence::choose::Device;
use crate::sequence::edit::Place;
use crate::sequence::key::HiddenText;

/// Every verb about task sequences.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names are those of the options")]
pub enum TsRequest {
    /// What a new task sequence can be made from.
    Choices { filter: UpdateFilter },
    /// Makes one, whole or not at all.
    Create(Box<Create>),
    /// All of them.
    List,
    /// One of them.
    Show { sequence: String },
    /// What is wrong with it.
    Lint { sequence: String, strict: bool },
    /// What it refers to, and what may be done with that content.
    Refs { sequence: String, pre_download: bool, run_from_dp: bool },
    /// What a device would do with it.
    Plan { sequence: String, device: Device },
    /// The same steps under a new id.
    Copy { sequence: String, name: Option<String> },
    /// Offers its deployments, or does not.
    Enable { sequence: String, enabled: bool },
    /// Deletes it.
    Delete { sequence: String },
    /// Replaces the document, unless somebody else changed it since `revision`. Here and below: whom the change brings an
    /// upgrade of the operating system by a deployment that is there is meant.
    Replace {
        sequence: String,
        revision: u32,
        document: String,
        #[serde(default)]
        confirm_high_risk: bool,
    },
    /// Adds a step or group.
    StepAdd {
        sequence: String,
        kind: String,
        place: Place,
        changes: Vec<(String, String)>,
        value: Option<HiddenText>,
        #[serde(default)]
        confirm_high_risk: bool,
    },
    /// Changes a step or group.
    StepSet(Box<StepSet>),
    /// Moves a step or group.
    StepMove {
        sequence: String,
        step: String,
        place: Place,
        #[serde(default)]
        confirm_high_risk: bool,
    },
    /// Removes a step or group.
    StepRemove { sequence: String, step: String },
    /// Writes task sequences into an archive.
    Export { sequences: Vec<String>, file: PathBuf, dependencies: bool, content: bool },
    /// The same archive as the answer, without content beside it.
    ExportArchive { sequences: Vec<String>, dependencies: bool },
    /// Takes task sequences from an archive.
    Import {
        file: PathBuf,
        duplicates: Duplicates,
        #[serde(default)]
        confirm_high_risk: bool,
    },
    /// Takes them from an archive that comes with the request, without content beside it.
    ImportArchive {
        archive: Archive,
        duplicates: Duplicates,
        #[serde(default)]
        confirm_high_risk: bool,
    },
    /// Carries one to another site, through that site's admin API.
    Migrate(Box<Migrate>),
    /// What differs between two.
    Diff { one: String, other: String },
    /// Makes stand-alone media.
    Media(crate::carrying::NewMedia),
    /// Makes a prestaged file.
    Prestage {
        what: String,
        file: PathBuf,
        #[serde(default)]
        dp: Option<String>,
    },
    /// On a distribution point: takes a prestaged file in.
    PrestageImport { file: PathBuf },
    /// Changes what belongs to no step: boot_image, max_runtime, description.
    Set { sequence: String, changes: Vec<(String, String)> },
}

/// What the wizard asks.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Create {
    /// Name.
    pub name: String,
    /// Description.
    pub description: String,
    /// The template: upgrade, or nothing at all.
    pub upgrade: bool,
    /// Feature updates by id or title, in order.
    pub feature_updates: Vec<String>,
    /// The OS upgrade package by id or name.
    pub image: Option<String>,
    /// Which edition of it.
    pub index: Option<u32>,
    /// Which updates: all, required or none.
    pub updates: Updates,
    /// Applications by id or name, in order.
    pub apps: Vec<String>,
    /// Go on with the next application where one fails.
    pub continue_on_app_error: Option<bool>,
    /// Do not wait for compatibility messages to be dismissed.
    pub ignore_dismissable: bool,
    /// The product key.
    pub product_key: Option<HiddenText>,
    /// It is an opaque volume key.
    pub encoded_key: bool,
    /// Warnings refuse too.
    pub strict: bool,
}

/// Which updates a new task sequence installs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Updates {
    /// All that are deployed to collections of the device
    All,
    /// Those of them that have a deadline
    Required,
    /// None
    #[default]
    None,
}

/// A change of a step.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StepSet {
    /// Id or name of the task sequence.
    pub sequence: String,
    /// Number or name of the step.
    pub step: String,
    /// Settings; an empty value is the default.
    pub changes: Vec<(String, String)>,
    /// Use these feature updates.
    pub feature_updates: Vec<String>,
    /// Use this OS upgrade package.
    pub image: Option<String>,
    /// Which edition of it.
    pub index: Option<u32>,
    /// The product key.
    pub product_key: Option<HiddenText>,
    /// It is an opaque volume key.
    pub encoded_key: bool,
    /// The hidden value of a variable.
    pub value: Option<HiddenText>,
    /// Whom the change brings an upgrade of the operating system is meant.
    pub confirm_high_risk: bool,
}

/// Where a task sequence is carried to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Migrate {
    /// Id or name.
    pub sequence: String,
    /// Address of the admin plane of the other site.
    pub to: String,
    /// A token of it.
    pub token: HiddenText,
    /// PEM certificates by which it is trusted, in addition to the system's.
    pub ca_file: Option<PathBuf>,
    /// What happens to what is there already.
    pub duplicates: Duplicates,
    /// Whom the change brings an upgrade of the operating system there is meant.
    #[serde(default)]
    pub confirm_high_risk: bool,
}

/// What happens to things of an import that the site has already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Duplicates {
    /// Link to what is there; a task sequence of the same name is left alone
    #[default]
    Ignore,
    /// Make new ones under other names
    CreateNew,
    /// Replace task sequences of the same name
    Overwrite,
}
