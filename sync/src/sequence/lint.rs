//! What is wrong with a task sequence, and what will go wrong when it runs.
//!
//! An error keeps it from being made, saved anew or deployed; a warning does not, unless one asks for strictness. Nothing
//! is found in steps that are disabled: disabling is one way of mending.

use std::collections::HashMap;

use catalog::id::{PackageId, UpdateId};
use catalog::problem::{Code, Problem};
use serde::{Deserialize, Serialize};

use super::action::{Action, Target, UpgradeOs};
use super::release::Release;
use super::walk::StepAt;
use super::{Kind, Sequence};

/// What the site knows of the things that a task sequence refers to.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The release that the site follows.
    pub release: Release,
    /// The site has synchronised at least once.
    pub synchronised: bool,
    /// Feature updates.
    pub updates: HashMap<UpdateId, UpdateFacts>,
    /// OS upgrade packages.
    pub images: HashMap<PackageId, ImageFacts>,
    /// Applications.
    pub apps: HashMap<PackageId, AppFacts>,
}

/// A feature update, as far as it matters here.
#[derive(Debug, Clone)]
pub struct UpdateFacts {
    /// For people.
    pub title: String,
    /// It installs a server.
    pub server: bool,
    /// Why it cannot be deployed: code and word.
    pub undeployable: Option<(Code, String)>,
}

/// An OS upgrade package, as far as it matters here.
#[derive(Debug, Clone)]
pub struct ImageFacts {
    /// For people.
    pub name: String,
    /// It installs a server.
    pub server: bool,
    /// Indexes of its editions.
    pub indexes: Vec<u32>,
    /// It is a boot image.
    pub boot: bool,
}

/// An application, as far as it matters here.
#[derive(Debug, Clone)]
pub struct AppFacts {
    /// For people.
    pub name: String,
    /// It may be installed.
    pub usable: bool,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It cannot be deployed so.
    Error,
    /// It may be meant.
    Warning,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Its stable code.
    pub code: Code,
    /// Number of the step, if it is about one.
    pub step: Option<usize>,
    /// What was found.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl Finding {
    /// The finding as a refusal.
    pub fn problem(&self) -> Problem {
        Problem::new(self.code, &self.message).help(&self.help)
    }
}

/// Everything that is found, in the order of the steps.
pub fn lint(sequence: &Sequence, around: &Surroundings) -> Vec<Finding> {
    let mut findings = Findings(Vec::new());
    let (steps, conditions): (Vec<StepAt<'_>>, Vec<_>) =
        sequence.steps().into_iter().zip(sequence.conditions()).filter(|(at, _)| at.enabled).unzip();
    for (position, at) in steps.iter().enumerate() {
        match &at.step.action {
            Action::UpgradeOs(upgrade) => {
                findings.upgrade(at, upgrade, around);
                if !upgrade.scan_only {
                    let certain = |later: &usize| {
                        let under = &conditions[*later];
                        let restarts = matches!(steps[*later].step.action, Action::Restart(_));
                        restarts && under.iter().all(|when| conditions[position].contains(when))
                    };
                    let restart = (position + 1..steps.len()).find(certain);
                    findings.restart_after(at, restart.map(|restart| &steps[position + 1..restart]));
                }
            }
            Action::Restart(restart) if restart.target == Target::BootImage => {
                let upgraded = steps[..position]
                    .iter()
                    .any(|before| matches!(&before.step.action, Action::UpgradeOs(u) if !u.scan_only));
                findings.restart_into_pe(at, upgraded, sequence.boot_image.is_some());
            }
            Action::InstallUpdates(_) if !around.synchronised => {
                let message = "software updates are to be installed, and the site has never synchronised";
                findings.warn(at, Code::NoSyncYet, message.to_owned());
            }
            Action::InstallApplication(install) => findings.apps(at, &install.applications, around),
            Action::DownloadContent(download) => {
                for id in download.packages.iter().filter(|id| !around.images.contains_key(*id)) {
                    findings.broken(at, &format!("OS upgrade package {id}"));
                }
            }
            Action::Unknown(unknown) => {
                let message = format!(
                    "step {} `{}` has the unknown type `{}`",
                    at.number, at.step.common.name, unknown.kind
                );
                findings.error(at, Code::StepTypeUnknown, message);
            }
            _ => {}
        }
    }
    if let Some(id) = sequence.boot_image.as_ref() {
        findings.boot_image(id, around.images.get(id));
    }
    if sequence.kind == Kind::Upgrade {
        findings.power(&steps);
    }
    findings.0
}

/// Enabled steps that name a place in which no secret is kept, by the numbers of those that are `filled`: an import leaves them so
/// (decision 0021). A device would run without what they need.
pub fn unfilled(sequence: &Sequence, filled: &[u32]) -> Vec<Finding> {
    let mut findings = Findings(Vec::new());
    for at in sequence.steps().iter().filter(|at| at.enabled) {
        let Some((place, what, option)) = at.step.action.secret() else { continue };
        if filled.contains(&place.number()) {
            continue;
        }
        let (number, name) = (at.number, &at.step.common.name);
        findings.error(at, Code::SecretMissing, format!("step {number} `{name}` has no {what}"));
        if let Some(last) = findings.0.last_mut() {
            last.help = format!(
                "`spsync ts step set TS {number} {option} FILE` gives it; or disable or remove the step"
            );
        }
    }
    findings.0
}

/// Whether a finding is about a feature update that cannot be deployed, beside which its step has one that can be: devices pass the
/// one over and take the other.
pub fn is_of_one_of_several(finding: &Finding, sequence: &Sequence, around: &Surroundings) -> bool {
    let steps = sequence.steps();
    let Some(at) = steps.iter().find(|at| Some(at.number) == finding.step) else { return false };
    let Action::UpgradeOs(upgrade) = &at.step.action else { return false };
    let known = || upgrade.feature_updates.iter().filter_map(|id| around.updates.get(id));
    let is_it = |code: Code| code == finding.code;
    known().any(|update| update.undeployable.as_ref().is_some_and(|(code, _)| is_it(*code)))
        && known().any(|update| update.undeployable.is_none())
}

/// The findings with advice that names the task sequence: one can paste it.
pub fn about(mut findings: Vec<Finding>, id: &PackageId) -> Vec<Finding> {
    for finding in &mut findings {
        finding.help = finding.help.replace(" TS", &format!(" {id}"));
    }
    findings
}

/// The findings, with every warning made an error; two of them have a code of their own then.
pub fn strict(mut findings: Vec<Finding>) -> Vec<Finding> {
    for finding in &mut findings {
        finding.severity = Severity::Error;
        if finding.code == Code::CompatIgnoreRecommended {
            finding.code = Code::CompatIgnoreRequired;
        }
    }
    findings
}

/// Refuses where something was found that keeps it from being used; all of it is named.
///
/// # Errors
/// The first error, with the others as causes.
pub fn refuse_errors<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> Result<(), Problem> {
    let mut errors = findings.into_iter().filter(|finding| finding.severity == Severity::Error);
    let Some(first) = errors.next() else { return Ok(()) };
    Err(errors.fold(first.problem(), |problem, other| {
        problem.because(format!("{}: {}", other.code, other.message))
    }))
}

struct Findings(Vec<Finding>);

impl Findings {
    fn push(&mut self, severity: Severity, at: Option<&StepAt<'_>>, code: Code, message: String) {
        let step = at.map(|at| at.number);
        self.0.push(Finding { severity, code, step, message, help: code.page().help.to_owned() });
    }

    fn error(&mut self, at: &StepAt<'_>, code: Code, message: String) {
        self.push(Severity::Error, Some(at), code, message);
    }

    fn warn(&mut self, at: &StepAt<'_>, code: Code, message: String) {
        self.push(Severity::Warning, Some(at), code, message);
    }

    fn broken(&mut self, at: &StepAt<'_>, what: &str) {
        let message =
            format!("step {} `{}` refers to {what}, which is not there", at.number, at.step.common.name);
        self.error(at, Code::BrokenReference, message);
    }

    fn upgrade(&mut self, at: &StepAt<'_>, upgrade: &UpgradeOs, around: &Surroundings) {
        let name = &at.step.common.name;
        if let Err(problem) = upgrade.source(name) {
            let help = problem.help.replace("STEP", &at.number.to_string());
            self.push(Severity::Error, Some(at), problem.code, problem.message);
            if let Some(last) = self.0.last_mut() {
                last.help = help;
            }
        }
        let mut server = false;
        if !upgrade.feature_updates.is_empty() {
            if let Err(problem) = around.release.allows_feature_updates() {
                self.error(at, problem.code, problem.message);
            }
            if upgrade.drivers.is_some() {
                let message = format!("step {} `{name}` has driver content and a feature update", at.number);
                self.error(at, Code::DriverContentWithFeatureUpdate, message);
            }
            if upgrade.edition_index.is_some() || upgrade.product_key.is_some() {
                let message = format!(
                    "step {} `{name}`: edition index and product key belong to an OS upgrade package",
                    at.number
                );
                self.error(at, Code::ConflictingOptions, message);
            }
        }
        for id in &upgrade.feature_updates {
            match around.updates.get(id) {
                None => self.broken(at, &format!("feature update {}", id.short())),
                Some(update) => {
                    server |= update.server;
                    if let Some((code, word)) = &update.undeployable {
                        let message = format!(
                            "step {} `{name}`: `{}` cannot be deployed: {word}",
                            at.number, update.title
                        );
                        self.error(at, *code, message);
                        if let Some(last) = self.0.last_mut() {
                            last.help = code.page().help.replace("ID", &id.short());
                        }
                    }
                }
            }
        }
        if let Some(id) = &upgrade.image {
            match around.images.get(id) {
                None => self.broken(at, &format!("OS upgrade package {id}")),
                Some(image) => {
                    server |= image.server;
                    if let Some(index) = upgrade.edition_index.filter(|index| !image.indexes.contains(index))
                    {
                        let message = format!(
                            "`{}` has no edition with index {index}; it has {}",
                            image.name,
                            image.indexes.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
                        );
                        self.error(at, Code::EditionIndexInvalid, message);
                    }
                }
            }
        }
        if server && !upgrade.ignore_dismissable && !upgrade.scan_only {
            let message = format!(
                "step {} `{name}` upgrades to Windows Server 2016 or later and waits for compatibility messages to be \
                 dismissed: nobody is there, and it ends at its time-out",
                at.number
            );
            self.warn(at, Code::CompatIgnoreRecommended, message);
        }
    }

    /// `between`: the steps up to the restart that follows wherever the upgrade runs. One under a condition which the upgrade
    /// is not under, as in the group Rollback, may be passed over; and what is installed before it is installed into the
    /// operating system that goes.
    fn restart_after(&mut self, at: &StepAt<'_>, between: Option<&[StepAt<'_>]>) {
        let (number, name) = (at.number, &at.step.common.name);
        let Some(between) = between else {
            let message = format!("no restart follows step {number} `{name}` in every case");
            return self.warn(at, Code::RestartAfterUpgradeMissing, message);
        };
        let installs = |at: &&StepAt<'_>| {
            matches!(at.step.action, Action::InstallApplication(_) | Action::InstallUpdates(_))
        };
        for early in between.iter().filter(installs) {
            let message = format!(
                "step {} `{}` installs before the restart that follows step {number} `{name}`",
                early.number, early.step.common.name
            );
            self.warn(early, Code::RestartAfterUpgradeMissing, message);
        }
    }

    fn restart_into_pe(&mut self, at: &StepAt<'_>, upgraded: bool, boot_image: bool) {
        let name = &at.step.common.name;
        if upgraded {
            let message = format!(
                "step {} `{name}` restarts into Windows PE after an upgrade, not into the installed operating system",
                at.number
            );
            self.error(at, Code::RestartTargetWrong, message);
        } else if !boot_image {
            let message = format!("step {} `{name}` restarts into a boot image that is not named", at.number);
            self.error(at, Code::BootImageMissing, message);
        }
    }

    /// What no step names is said of the whole: it was deleted, or did not come along with an import.
    fn boot_image(&mut self, id: &PackageId, image: Option<&ImageFacts>) {
        let message = match image {
            Some(image) if image.boot => return,
            Some(image) => format!("its boot image {id} `{}` is none", image.name),
            None => format!("its boot image {id} is not there"),
        };
        self.push(Severity::Error, None, Code::BootImageMissing, message);
        if let Some(last) = self.0.last_mut() {
            last.help = "`spsync ts set TS boot_image=IMAGE`, or `boot_image=` for none".to_owned();
        }
    }

    fn apps(&mut self, at: &StepAt<'_>, ids: &[PackageId], around: &Surroundings) {
        for id in ids {
            let name = &at.step.common.name;
            match around.apps.get(id) {
                None => {
                    let message =
                        format!("step {} `{name}` installs application {id}, which is not there", at.number);
                    self.error(at, Code::ApplicationNotFound, message);
                }
                Some(app) if !app.usable => {
                    let message = format!(
                        "step {} `{name}` installs `{}`, which is disabled or retired",
                        at.number, app.name
                    );
                    self.error(at, Code::ApplicationDisabled, message);
                }
                Some(_) => {}
            }
        }
    }

    /// An upgrade that loses its battery half-way is a dead device.
    fn power(&mut self, steps: &[StepAt<'_>]) {
        let ready = steps.iter().find_map(|at| match &at.step.action {
            Action::CheckReadiness(check) => Some((at, check.ac_power)),
            _ => None,
        });
        match ready {
            Some((_, true)) => {}
            Some((at, false)) => {
                self.warn(at, Code::NoPowerCheck, "no battery check".to_owned());
                if let Some(last) = self.0.last_mut() {
                    last.help = format!("`spsync ts step set TS {} ac_power=true`", at.number);
                }
            }
            None => self.push(Severity::Warning, None, Code::NoPowerCheck, "no battery check".to_owned()),
        }
    }
}
