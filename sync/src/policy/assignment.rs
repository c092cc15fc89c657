//! One task sequence that is deployed to a device, with everything that running it needs but its content and secrets.

use catalog::id::{PackageId, UpdateId};
use catalog::problem::Problem;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::reference::{Application, FeatureUpdate, Image};
use super::{DeploymentId, LONGEST_TEXT, MOST_REFERENCES, few, short};
use crate::sequence::action::{OsType, Sealed, UpgradeOs};
use crate::sequence::choose::Choice;
use crate::sequence::key::HiddenText;
use crate::sequence::{LARGEST, Sequence};

/// A deployment, as its device sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// Its number.
    pub deployment: DeploymentId,
    /// The task sequence.
    pub task_sequence: PackageId,
    /// Which state of it.
    pub revision: u64,
    /// Its name, for people.
    pub name: String,
    /// Offered, or to be run.
    pub purpose: Purpose,
    /// Not before this.
    pub available: Timestamp,
    /// To be run at this time where nobody ran it before; required deployments have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// Not begun after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// What happens where the device has run it already.
    #[serde(default)]
    pub rerun: Rerun,
    /// What the user sees and may do.
    #[serde(default)]
    pub user: UserOptions,
    /// Where its content may come from, and when.
    #[serde(default)]
    pub content: ContentOptions,
    /// The document of the task sequence, as [`Sequence::to_text`] writes it.
    pub document: String,
    /// What the document refers to.
    #[serde(default)]
    pub references: References,
    /// Secrets that steps need: whether they are there, never what they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SealedSecret>,
}

impl Assignment {
    /// The task sequence.
    ///
    /// # Errors
    /// `TASK_SEQUENCE_INVALID`, `TASK_SEQUENCE_TOO_LARGE`.
    pub fn sequence(&self) -> Result<Sequence, Problem> {
        Sequence::parse(&self.document)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        short("its name", &self.name, LONGEST_TEXT)?;
        if self.document.len() > LARGEST {
            return Err(format!("its document has more than {LARGEST} bytes"));
        }
        few("secrets", self.secrets.len(), MOST_REFERENCES)?;
        let references = &self.references;
        few("feature updates", references.feature_updates.len(), MOST_REFERENCES)?;
        few("images", references.images.len(), MOST_REFERENCES)?;
        few("applications", references.applications.len(), MOST_REFERENCES)?;
        references.feature_updates.iter().try_for_each(FeatureUpdate::check)?;
        references.images.iter().try_for_each(Image::check)?;
        references.applications.iter().try_for_each(Application::check)
    }
}

/// What a task sequence refers to, resolved by the site.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct References {
    /// Feature updates that enabled steps name, in their order, each once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub feature_updates: Vec<FeatureUpdate>,
    /// OS upgrade packages.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Image>,
    /// Applications.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub applications: Vec<Application>,
}

/// What an upgrade makes of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// Client or server.
    pub os_type: OsType,
    /// Its build: major and minor.
    pub build: Option<(u32, u32)>,
    /// `25H2`, where it is known.
    pub release: Option<&'a str>,
}

impl References {
    /// A feature update.
    pub fn update(&self, id: &UpdateId) -> Option<&FeatureUpdate> {
        self.feature_updates.iter().find(|update| update.id() == *id)
    }

    /// An OS upgrade package.
    pub fn image(&self, id: &PackageId) -> Option<&Image> {
        self.images.iter().find(|image| image.id == *id)
    }

    /// An application.
    pub fn application(&self, id: &PackageId) -> Option<&Application> {
        self.applications.iter().find(|app| app.id == *id)
    }

    /// The feature update that was chosen.
    pub fn chosen(&self, choice: Option<&Choice>) -> Option<&FeatureUpdate> {
        self.update(&choice?.chosen?)
    }

    /// What an upgrade makes of a device; a step has either feature updates or an image.
    pub fn target(&self, upgrade: &UpgradeOs, choice: Option<&Choice>) -> Option<Target<'_>> {
        if let Some(update) = self.chosen(choice) {
            let release = update.release.as_deref();
            return Some(Target { os_type: update.facts.os_type, build: update.facts.build, release });
        }
        let image = self.image(upgrade.image.as_ref()?)?;
        let build = image.edition(upgrade.edition_index).and_then(|edition| edition.build);
        Some(Target { os_type: image.os_type, build, release: None })
    }
}

/// Whether the device has to run it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// Somebody may start it.
    Available,
    /// It is run at its deadline at the latest.
    Required,
}

/// When a device runs a task sequence again that it has run. A required one runs by itself once for each deadline at most, and once
/// more for each revision where it failed, if this allows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Rerun {
    /// Not at all
    Never,
    /// Whenever it is started
    #[default]
    Always,
    /// Where it failed
    IfFailed,
    /// Where it succeeded
    IfSucceeded,
}

/// What the user of a device sees and may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserOptions {
    /// It may be started before its deadline by who uses the device.
    pub independently: bool,
    /// Its progress is shown.
    pub show_progress: bool,
    /// It may run outside of windows.
    pub install_outside_windows: bool,
    /// It may restart the device outside of windows.
    pub restart_outside_windows: bool,
}

impl Default for UserOptions {
    fn default() -> Self {
        Self {
            independently: true,
            show_progress: true,
            install_outside_windows: false,
            restart_outside_windows: false,
        }
    }
}

/// Where content may come from, and when it is fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContentOptions {
    /// The deployment package of its feature updates, where one was chosen: who had them already was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<PackageId>,
    /// Distribution points may be asked for feature updates; else peers and the cloud alone.
    pub points: bool,
    /// Points of neighbouring boundary groups may be asked.
    pub neighbours: bool,
    /// Points of the site's default boundary group may be asked.
    pub default_group: bool,
    /// The Microsoft cloud may be asked for feature updates.
    pub cloud: bool,
    /// It may be run by devices on the internet.
    pub internet: bool,
    /// What is referred to, but for feature updates, is fetched when it becomes available.
    pub pre_download: bool,
    /// When the rest is fetched.
    pub delivery: Delivery,
}

impl Default for ContentOptions {
    fn default() -> Self {
        Self {
            package: None,
            points: true,
            neighbours: true,
            default_group: true,
            cloud: true,
            internet: false,
            pre_download: false,
            delivery: Delivery::AllFirst,
        }
    }
}

/// When content is fetched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// That of a step before the step.
    WhenNeeded,
    /// All of it before the first step.
    #[default]
    #[serde(other)]
    AllFirst,
}

/// A secret that steps need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedSecret {
    /// Its place in the task sequence.
    pub place: Sealed,
    /// What it is.
    pub of: SecretOf,
    /// The site has it.
    pub present: bool,
}

/// What a secret is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretOf {
    /// A product key.
    ProductKey,
    /// The value of a variable, and whatever a newer release has.
    #[serde(other)]
    Variable,
}

/// The secrets of one deployment, for the device that is about to run it. They are asked for when they are needed, held in
/// memory, and written nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    /// Whose they are.
    pub deployment: DeploymentId,
    /// Each with its place.
    pub secrets: Vec<(Sealed, HiddenText)>,
}

impl Secrets {
    /// The secret of a place.
    pub fn at(&self, place: &Sealed) -> Option<&HiddenText> {
        self.secrets.iter().find(|(found, _)| found == place).map(|(_, secret)| secret)
    }
}
