//! Whether a deployment runs on a device, and when. Pure: policy, facts, history and the time are arguments.
//!
//! ```text
//! not for this device ── never      offered ── somebody may start it
//! not yet             ── later      prepare ── its content may be fetched      now ── it runs
//! ```

#[cfg(test)]
mod tests;

use std::time::Duration;

use catalog::problem::Code;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::plan::{Plan, unknown_step};
use super::windows::{self, Opening};
use crate::policy::fits;
use crate::policy::{Assignment, DeploymentId, Facts, Image, Policy, Purpose, Rerun, RunState};
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
    if let Some(why) = not_for(assignment, &plan, around) {
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
    if assignment.user.install_outside_windows {
        return Verdict::Now;
    }
    match windows::opening(&around.policy.windows, around.now, plan.needs) {
        Opening::Now => Verdict::Now,
        Opening::From(from) => Verdict::Prepare { until: from, why: "no window is open that is long enough" },
        Opening::Never => Verdict::Not {
            state: RunState::Waiting,
            code: Code::NoWindow,
            why: format!(
                "no window is as long as the {} minutes that it may take",
                plan.bound.as_secs() / 60
            ),
        },
    }
}

/// When content that nobody gave is asked for again, before the run at `until`: after half of the time that is left, and so
/// more and more often, but no more often than a policy is asked for (mission row M19).
pub fn asked_again(now: Timestamp, until: Timestamp, refresh: Duration) -> Timestamp {
    let left = until.duration_since(now);
    let half = SignedDuration::from_secs(left.as_secs() / 2);
    let refresh = SignedDuration::try_from(refresh).unwrap_or(SignedDuration::MAX);
    now.checked_add(half.max(refresh)).map_or(until, |at| at.min(until))
}

/// Whether it ran already and is not to run again. A required deployment is due once for each deadline, and once more for each
/// revision of a task sequence that failed: it may have been changed for that. One that succeeded did what the deadline asked for,
/// whatever was written into it since. Whoever starts one by hand is held back by the rule alone.
fn was_run(assignment: &Assignment, around: Around<'_>) -> bool {
    let mine = around.history.iter().filter(|past| past.deployment == assignment.deployment);
    let Some(last) = mine.clone().max_by_key(|past| past.run) else { return false };
    let by_rule = match assignment.rerun {
        Rerun::Never => true,
        Rerun::Always => false,
        Rerun::IfFailed => last.state == RunState::Succeeded,
        Rerun::IfSucceeded => last.state != RunState::Succeeded,
    };
    let for_it = mine.filter(|past| past.deadline == assignment.deadline);
    let last_for_it = for_it.clone().max_by_key(|past| past.run);
    let due_again = around.wanted
        || assignment.purpose == Purpose::Available
        || last_for_it.is_none_or(|last| last.state != RunState::Succeeded)
            && !for_it.clone().any(|past| past.revision == assignment.revision);
    by_rule || !due_again
}

/// Why none of the upgrades that it cannot do without fits the device, if so.
fn not_for(assignment: &Assignment, plan: &Plan, around: Around<'_>) -> Option<String> {
    // The same that a run would pass over, which is why it would find nothing.
    let deployed: Vec<_> = around.policy.updates.iter().map(|update| update.id).collect();
    for (at, node, action) in plan.steps() {
        let Action::UpgradeOs(upgrade) = action else { continue };
        if !plan.is_unconditional(at) || node.common.continue_on_error {
            continue;
        }
        let choice = choice(assignment, upgrade, around.facts, &deployed);
        if let Some(choice) = choice.filter(|choice| choice.chosen.is_none()) {
            return Some(reasons(&choice));
        }
        // One that the policy does not name is no reason of the device's: the run says what is wrong.
        let image = upgrade.image.as_ref().and_then(|id| assignment.references.image(id));
        let unfit = image.and_then(|image| image_unfit(image, upgrade.edition_index, around.facts));
        if unfit.is_some() {
            return unfit;
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
        let known = step.feature_updates.iter().filter_map(|id| references.update(id));
        let candidates: Vec<Candidate> = known.map(|update| update.facts.clone()).collect();
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

/// What keeps the image of a step from being installed on a device, if anything does.
pub fn image_not_for(assignment: &Assignment, step: &UpgradeOs, facts: &Facts) -> Option<String> {
    let id = step.image.as_ref()?;
    let Some(image) = assignment.references.image(id) else {
        return Some(format!("the policy does not name {id}"));
    };
    image_unfit(image, step.edition_index, facts)
}

/// What keeps an image from being installed on a device, if anything does.
pub fn image_unfit(image: &Image, index: Option<u32>, facts: &Facts) -> Option<String> {
    let lacks = fits::image(image, index, facts);
    (!lacks.is_empty()).then(|| lacks.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("; "))
}
