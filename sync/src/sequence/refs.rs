//! What a task sequence refers to, and what may be done with its content.

use std::collections::BTreeSet;

use catalog::id::{PackageId, UpdateId};
use catalog::problem::{Code, Problem};

use super::{Action, Sequence};

/// One thing that a step refers to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A feature update.
    FeatureUpdate(UpdateId),
    /// An OS upgrade package.
    Image(PackageId),
    /// An application.
    Application(PackageId),
}

impl Target {
    /// The id, as text.
    pub fn id(&self) -> String {
        match self {
            Self::FeatureUpdate(id) => id.to_string(),
            Self::Image(id) | Self::Application(id) => id.as_str().to_owned(),
        }
    }

    /// What it is, in one word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::FeatureUpdate(_) => "feature-update",
            Self::Image(_) => "image",
            Self::Application(_) => "app",
        }
    }
}

/// A reference with the step that makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// To what.
    pub target: Target,
    /// Number of the step.
    pub step: usize,
    /// Its name.
    pub step_name: String,
    /// The step is not disabled.
    pub enabled: bool,
}

impl Sequence {
    /// Every reference, in the order of the steps.
    pub fn references(&self) -> Vec<Reference> {
        let mut found = Vec::new();
        for at in self.steps() {
            let targets: Vec<Target> = match &at.step.action {
                Action::UpgradeOs(upgrade) => {
                    let updates = upgrade.feature_updates.iter().copied().map(Target::FeatureUpdate);
                    updates.chain(upgrade.image.clone().map(Target::Image)).collect()
                }
                Action::InstallApplication(install) => {
                    install.applications.iter().cloned().map(Target::Application).collect()
                }
                Action::DownloadContent(download) => {
                    download.packages.iter().cloned().map(Target::Image).collect()
                }
                _ => Vec::new(),
            };
            found.extend(targets.into_iter().map(|target| Reference {
                target,
                step: at.number,
                step_name: at.step.common.name.clone(),
                enabled: at.enabled,
            }));
        }
        found
    }

    /// Whether any step, enabled or not and however deep, uses a feature update or lacks the one it had.
    pub fn uses_feature_updates(&self) -> bool {
        self.steps().iter().any(|at| match &at.step.action {
            Action::UpgradeOs(upgrade) => {
                !upgrade.feature_updates.is_empty()
                    || upgrade.incomplete == Some(super::action::Incomplete::FeatureUpdate)
            }
            _ => false,
        })
    }

    /// A prestaged file is refused before it exists (mission row M41).
    ///
    /// # Errors
    /// `PRESTAGE_FEATURE_UPDATE`.
    pub fn may_be_prestaged(&self) -> Result<(), Problem> {
        if !self.uses_feature_updates() {
            return Ok(());
        }
        let message = format!("no prestaged file can be made of `{}`: it uses a feature update", self.name);
        Err(Problem::new(Code::PrestageFeatureUpdate, message))
    }

    /// Stand-alone media is refused for feature updates, for steps that need a site, and without a boot image
    /// (mission rows M42 and M46).
    ///
    /// # Errors
    /// `MEDIA_FEATURE_UPDATE`, `MEDIA_UNSUPPORTED_STEP`, `BOOT_IMAGE_MISSING`.
    pub fn may_be_on_media(&self) -> Result<(), Problem> {
        if self.uses_feature_updates() {
            let message = format!("stand-alone media cannot hold `{}`: it uses a feature update", self.name);
            return Err(
                Problem::new(Code::MediaFeatureUpdate, message).because("0x80070490: element not found")
            );
        }
        let unsupported = |at: &&super::walk::StepAt<'_>| {
            at.enabled && matches!(at.step.action, Action::DownloadContent(_) | Action::InstallUpdates(_))
        };
        if let Some(at) = self.steps().iter().find(unsupported) {
            let message = format!(
                "step {} `{}` ({}) cannot run from stand-alone media",
                at.number,
                at.step.common.name,
                at.step.action.title()
            );
            return Err(Problem::new(Code::MediaUnsupportedStep, message));
        }
        if self.boot_image.is_none() {
            let message = format!("`{}` has no boot image, which stand-alone media starts from", self.name);
            return Err(Problem::new(Code::BootImageMissing, message));
        }
        Ok(())
    }

    /// Content cannot be run from a distribution point where a feature update is in it.
    ///
    /// # Errors
    /// `RUN_FROM_DP_FEATURE_UPDATE`.
    pub fn may_run_from_points(&self) -> Result<(), Problem> {
        if !self.uses_feature_updates() {
            return Ok(());
        }
        let message =
            format!("`{}` uses a feature update, which cannot be run from a distribution point", self.name);
        Err(Problem::new(Code::RunFromDpFeatureUpdate, message))
    }

    /// What is downloaded before the run: everything that enabled steps refer to but feature updates (mission row M20).
    /// The second list is what is left out.
    pub fn predownload(&self) -> (Vec<Target>, Vec<Target>) {
        let all: BTreeSet<Target> = self
            .references()
            .into_iter()
            .filter(|reference| reference.enabled)
            .map(|reference| reference.target)
            .collect();
        all.into_iter().partition(|target| !matches!(target, Target::FeatureUpdate(_)))
    }
}
