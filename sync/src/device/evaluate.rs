//! Whether a deployment runs on a device, and when. Pure: policy, facts, history and the time are arguments.
//!
//! ```text
//! not for this device ── never      offered ── somebody may start it
//! not yet             ── later      prepare ── its content may be fetched      now ── it runs
//! ```

use std::collections::BTreeMap;

use catalog::problem::Code;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::plan::{Plan, unknown_step};
use crate::policy::fits;
use crate::policy::{Assignment, DeploymentId, Facts, Policy, Purpose, Rerun, RunState};
use crate::sequence::Action;
use crate::sequence::action::UpgradeOs;
use crate::sequence::choose::{self, Candidate, Choice};

/// What a device remembers of a run that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// Of which deployment.
    pub deployment: DeploymentId,
    /// Its number.
    pub run: u64,
    /// Which state of the task sequence it ran.
    pub revision: u64,
    /// The deadline that it ran for, if it did.
    pub deadline: Option<Timestamp>,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// How.
    pub state: RunState,
    /// Why, where it failed.
    pub code: Option<String>,
}

/// When a deployment runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// At once.
    Now,
    /// Later; until then its content may be fetched.
    Prepare {
        /// When it runs.
        until: Timestamp,
        /// Why not before.
        why: &'static str,
    },
    /// Somebody may start it; content may be fetched before where the deployment says so.
    Offered,
    /// Nothing is to be done before this.
    Later {
        /// When to look again.
        at: Timestamp,
        /// Why not before.
        why: &'static str,
    },
    /// It was run, and is not run again.
    Done,
    /// It will not run here.
    Not {
        /// How that is counted.
        state: RunState,
        /// Why.
        code: Code,
        /// In words.
        why: String,
    },
}

/// What stands around a deployment on its device.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// The policy that it came with.
    pub policy: &'a Policy,
    /// What the device is.
    pub facts: &'a Facts,
    /// What it ran before.
    pub history: &'a [Past],
    /// Somebody wants it started.
    pub wanted: bool,
    /// The time.
    pub now: Timestamp,
}

/// When `assignment` runs.
pub fn verdict(assignment: &Assignment, around: Around<'_>) -> Verdict {
    let not = |code, why: String| Verdict::Not { state: RunState::NotApplicable, code, why };
    let sequence = match assignment.sequence() {
        Ok(sequence) => sequence,
        Err(problem) => {
            return Verdict::Not { state: RunState::Failed, code: problem.code, why: problem.message };
        }
    };
    if let Some(why) = unknown_step(assignment) {
        return Verdict::Not { state: RunState::Failed, code: Code::StepTypeUnknown, why };
    }
    if around.facts.internet && !assignment.content.internet {
        return not(Code::InternetNotAllowed, "the device is on the internet".to_owned());
    }
    if was_run(assignment, around) {
        return Verdict::Done;
    }
    let over = |time: &Timestamp| *time <= around.now;
    let expired = [assignment.expires, around.policy.expires].iter().flatten().any(over);
    if expired {
        return not(Code::DeploymentExpired, "its time is over".to_owned());
    }
    if !over(&assignment.available) {
        return Verdict::Later { at: assignment.available, why: "it is not available yet" };
    }
    let plan = Plan::of(&sequence);
    if let Some(why) = not_for(assignment, &plan, around.facts) {
        return not(Code::NoFeatureUpdateApplies, why);
    }
    let starts = around.wanted && (assignment.purpose == Purpose::Available || assignment.user.independently);
    if starts {
        return Verdict::Now;
    }
    match (assignment.purpose, assignment.deadline) {
        (Purpose::Available, _) => Verdict::Offered,
        (Purpose::Required, Some(deadline)) if !over(&deadline) => {
            Verdict::Prepare { until: deadline, why: "its deadline has not come" }
        }
        (Purpose::Required, _) => in_window(assignment, &plan, around),
    }
}

/// A required task sequence begins in a window in which it has time to end.
fn in_window(assignment: &Assignment, plan: &Plan, around: Around<'_>) -> Verdict {
    let windows = &around.policy.windows;
    if windows.is_empty() || assignment.user.install_outside_windows {
        return Verdict::Now;
    }
    let long_enough = |from: Timestamp, until: Timestamp| {
        until > from && until.duration_since(from).unsigned_abs() >= plan.bound
    };
    if windows.iter().any(|window| window.contains(around.now) && long_enough(around.now, window.until)) {
        return Verdict::Now;
    }
    let coming =
        windows.iter().filter(|window| window.from > around.now && long_enough(window.from, window.until));
    match coming.map(|window| window.from).min() {
        Some(from) => Verdict::Prepare { until: from, why: "no window is open that is long enough" },
        None => Verdict::Not {
            state: RunState::Waiting,
            code: Code::NoWindow,
            why: format!(
                "no window is as long as the {} minutes that it may take",
                plan.bound.as_secs() / 60
            ),
        },
    }
}

/// Whether it ran already and is not to run again. A required deployment is due once for each deadline; whoever starts one
/// by hand is held back by the rule alone.
fn was_run(assignment: &Assignment, around: Around<'_>) -> bool {
    let mine = around.history.iter().filter(|past| past.deployment == assignment.deployment);
    let Some(last) = mine.clone().max_by_key(|past| past.run) else { return false };
    let by_rule = match assignment.rerun {
        Rerun::Never => true,
        Rerun::Always => false,
        Rerun::IfFailed => last.state == RunState::Succeeded,
        Rerun::IfSucceeded => last.state != RunState::Succeeded,
    };
    let due_again = around.wanted
        || assignment.purpose == Purpose::Available
        || !mine
            .clone()
            .any(|past| past.deadline == assignment.deadline && past.revision == assignment.revision);
    by_rule || !due_again
}

/// Why none of the upgrades that it cannot do without fits the device, if so.
fn not_for(assignment: &Assignment, plan: &Plan, facts: &Facts) -> Option<String> {
    for (at, node, action) in plan.steps() {
        let Action::UpgradeOs(upgrade) = action else { continue };
        if !plan.is_unconditional(at) || node.common.continue_on_error {
            continue;
        }
        let choice = choice(assignment, upgrade, facts, &[]);
        if let Some(choice) = choice.filter(|choice| choice.chosen.is_none()) {
            return Some(reasons(&choice));
        }
    }
    None
}

/// What a step with feature updates takes; `None` for other sources.
pub fn choice(
    assignment: &Assignment,
    step: &UpgradeOs,
    facts: &Facts,
    deployed: &[catalog::id::UpdateId],
) -> Option<Choice> {
    let references = &assignment.references;
    if !step.feature_updates.is_empty() {
        let known: BTreeMap<_, _> =
            references.feature_updates.iter().map(|update| (update.id(), update)).collect();
        let candidates: Vec<Candidate> =
            step.feature_updates.iter().filter_map(|id| Some(known.get(id)?.facts.clone())).collect();
        return Some(choose::first_applicable(&candidates, &facts.device(), deployed));
    }
    None
}

/// Why nothing was chosen.
pub fn reasons(choice: &Choice) -> String {
    let one = |considered: &choose::Considered| {
        format!("{}: {}", considered.title, considered.skipped.as_deref().unwrap_or("taken"))
    };
    match choice.considered.as_slice() {
        [] => "the policy names none of its feature updates".to_owned(),
        all => all.iter().map(one).collect::<Vec<_>>().join("; "),
    }
}

/// What keeps an image from being installed on a device, if anything does.
pub fn image_not_for(assignment: &Assignment, step: &UpgradeOs, facts: &Facts) -> Option<String> {
    let id = step.image.as_ref()?;
    let Some(image) = assignment.references.images.iter().find(|image| image.id == *id) else {
        return Some(format!("the policy does not name {id}"));
    };
    let lacks = fits::image(image, step.edition_index, facts);
    (!lacks.is_empty()).then(|| lacks.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("; "))
}
