//! One run of a task sequence, decided without a disk, a clock or a program.
//!
//! ```text
//! fetching ──▶ next ──▶ running ──▶ next …  ──▶ ended
//!                │         │ 3010, Restart Computer
//!                │         ▼
//!                └──── restarting ──▶ (another boot) ──▶ settling: what became of Setup? ──▶ next
//! ```
//! What needs a secret that the site cannot give now waits, and goes on from where it was.
//! The driver writes [`Progress`] down before it performs the [`Act`] that it was told. So whoever wakes up knows what was
//! being done. A step that is written down as finished is never begun again. One that was running is looked at first; where
//! nobody can tell how it ended, [`Machine::lost`] decides by the type of the step, and says so.
//!
//! Three bounds end every run: minutes (as the task sequence says), wakings without progress, and tries of each step.

mod end;
mod steps;
#[cfg(test)]
mod tests;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use catalog::problem::Code;
use serde::{Deserialize, Serialize};

pub use self::words::{Act, End, Event, Failure, Found, Order, Outcome, Said, Turn};
use super::evaluate;
use super::plan::{Plan, Planned, SETUP_MINUTES};
use super::updates::Scanned;
use super::variables::{ROLLED_BACK, Variables};
use crate::policy::{
    Assignment, BytesFrom, Delivery, DeployedUpdate, DeviceSettings, Facts, Purpose, RunState, StepReport,
    StepState,
};
use crate::sequence::Action;
use crate::sequence::action::{Restart, Target};
use crate::sequence::choose::Choice;

/// Wakings in a row without a step that finished.
const MOST_WAKINGS: u32 = 20;
/// Restarts that were asked for and did not happen.
const MOST_ASKED: u32 = 3;
/// Tries of a step that power cuts interrupted.
const MOST_STARTS: u32 = 5;
/// Tries to fetch content, and seconds between.
const FETCHES: (u32, u64) = (2, 15);
/// Waits for somebody who may be asked later, and the longest of them.
const WAITS: (u32, Duration) = (20, Duration::from_secs(86_400));

/// The first wait for a secret in seconds; each further one is twice as long, up to the second number. [`WAITS`] bounds how many.
const SECRET_WAITS: (u64, u64) = (30, 3_600);

/// What a run is about. It does not change while it runs, whatever a newer policy says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// Its number on this device.
    pub run: u64,
    /// The deployment.
    pub assignment: Assignment,
    /// The client settings.
    pub settings: DeviceSettings,
    /// Updates that are deployed to the device.
    pub updates: Vec<DeployedUpdate>,
    /// Updates that apply to the device; none: nobody looked.
    #[serde(default)]
    pub scan: Option<Vec<Scanned>>,
}

/// How far a run is: all that a journal keeps of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    phase: Phase,
    /// The node that comes next, or that is worked on.
    cursor: usize,
    /// The start of the device in which it was worked on last.
    boot: String,
    variables: Variables,
    /// What each upgrade step takes, by its number, with the reasons.
    choices: BTreeMap<u32, Choice>,
    /// Milliseconds that count.
    spent: u64,
    wakings: u32,
    /// How often the step at the cursor has waited for a secret.
    #[serde(default)]
    waits: u32,
    /// Setup has succeeded, and waits for the restart in which it does its work.
    setup: Option<Pending>,
    /// An upgrade has failed: whatever follows, the run has failed too.
    failure: Option<End>,
    /// Steps whose content is there.
    fetched: BTreeSet<usize>,
}

/// Setup between its two halves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Pending {
    node: usize,
    /// The start of the device in which its first half ran.
    boot: String,
    /// Which try that was.
    attempt: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Phase {
    /// Content is fetched: of one step, or of all.
    Fetching {
        node: Option<usize>,
        tries: u32,
        /// How often somebody was waited for.
        #[serde(default)]
        waits: u32,
        /// For how many seconds now.
        #[serde(default)]
        wait: u64,
    },
    /// The node at the cursor is about to begin, with one of its parts.
    Next {
        part: usize,
        failed: Vec<String>,
        judged: bool,
        attempt: u32,
    },
    /// It runs.
    Running {
        part: usize,
        failed: Vec<String>,
        attempt: u32,
    },
    /// A restart is asked for; then this.
    Restarting {
        asked: u32,
        delay: u16,
        boot_image: bool,
        resume: Box<Phase>,
    },
    /// What became of Setup is looked at; then this.
    Settling(Box<Phase>),
    /// Somebody is waited for so many seconds; then this.
    Waiting {
        wait: u64,
        resume: Box<Phase>,
    },
    /// It ends so, as soon as it is known what became of Setup.
    Ending(End),
    Ended(End),
}

impl Phase {
    fn next() -> Self {
        Self::Next { part: 0, failed: Vec::new(), judged: false, attempt: 1 }
    }

    fn fetching(node: Option<usize>) -> Self {
        Self::Fetching { node, tries: 0, waits: 0, wait: 0 }
    }
}

/// A run.
#[derive(Debug)]
pub struct Machine<'a> {
    plan: &'a Plan,
    frame: &'a Frame,
    /// How far it is.
    pub progress: Progress,
}

impl Progress {
    /// Before the first act. What each upgrade takes is decided once, from what the device is now.
    pub fn begin(plan: &Plan, frame: &Frame, facts: &Facts, boot: &str) -> Self {
        let deployed: Vec<_> = frame.updates.iter().map(|update| update.id).collect();
        let choose = |(_, node, action): (usize, &Planned, &Action)| match action {
            Action::UpgradeOs(upgrade) => {
                Some((node.number, evaluate::choice(&frame.assignment, upgrade, facts, &deployed)?))
            }
            _ => None,
        };
        let phase = match frame.assignment.content.delivery {
            Delivery::AllFirst => Phase::fetching(None),
            Delivery::WhenNeeded => Phase::next(),
        };
        Self {
            phase,
            cursor: 0,
            boot: boot.to_owned(),
            variables: Variables::default(),
            choices: plan.steps().filter_map(choose).collect(),
            spent: 0,
            wakings: 0,
            waits: 0,
            setup: None,
            failure: None,
            fetched: BTreeSet::new(),
        }
    }

    /// The variables of the run.
    pub fn variables(&self) -> &Variables {
        &self.variables
    }

    /// What the upgrade step with this number takes.
    pub fn choice(&self, number: u32) -> Option<&Choice> {
        self.choices.get(&number)
    }

    /// How it ended, if it has.
    pub fn end(&self) -> Option<&End> {
        match &self.phase {
            Phase::Ended(end) => Some(end),
            _ => None,
        }
    }

    /// The position that is worked on.
    pub fn position(&self) -> usize {
        self.cursor
    }

    /// The position of the upgrade whose second half the restart brings, and which try of it that is.
    pub fn pending_setup(&self) -> Option<(usize, u32)> {
        self.setup.as_ref().map(|pending| (pending.node, pending.attempt))
    }

    /// How it stands, for messages.
    pub fn state(&self) -> RunState {
        match &self.phase {
            Phase::Fetching { .. } => RunState::Downloading,
            Phase::Restarting { .. } => RunState::Restarting,
            Phase::Waiting { .. } => RunState::Waiting,
            Phase::Ended(end) => end.state,
            Phase::Next { .. } | Phase::Running { .. } | Phase::Settling(_) | Phase::Ending(_) => {
                RunState::Running
            }
        }
    }
}

impl<'a> Machine<'a> {
    /// A run that is so far.
    pub fn new(plan: &'a Plan, frame: &'a Frame, progress: Progress) -> Self {
        Self { plan, frame, progress }
    }

    /// The only way in: what just happened and how long it took; and so what to do next.
    pub fn on(&mut self, event: Event, took: Duration) -> Turn {
        // Downloads and waits have their own bounds (a slow line is no slow task sequence), and nobody can hurry Setup once it has
        // the device: its time begins when the device goes down for it, and ends when it is known what became of it.
        let with_setup = match (&event, &self.progress.setup) {
            (Event::Woke { boot }, Some(pending)) => pending.boot != *boot,
            _ => matches!(self.progress.phase, Phase::Settling(_)),
        };
        let uncounted =
            matches!(self.progress.phase, Phase::Fetching { .. } | Phase::Waiting { .. } | Phase::Ended(_));
        if !uncounted && !with_setup {
            let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            self.progress.spent = self.progress.spent.saturating_add(took);
        }
        let mut said = Vec::new();
        let act = match event {
            Event::Woke { boot } => self.woke(boot, &mut said),
            Event::Fetched(fetched) => self.fetched(fetched, &mut said),
            Event::Later(wait, failure) => self.later(wait, failure, &mut said),
            Event::Waited => self.waited(&mut said),
            Event::Judged(holds) => self.judged(holds, &mut said),
            Event::Ended(outcome) => self.ended(outcome, &mut said),
            Event::Found(found) => self.found(found, &mut said),
        };
        let act = act.unwrap_or_else(|| self.next(&mut said));
        Turn { act, said }
    }

    fn node(&self) -> Option<&'a Planned> {
        self.plan.at(self.progress.cursor)
    }

    fn action(&self) -> Option<&'a Action> {
        self.node().and_then(|node| node.action.as_ref())
    }

    fn left(&self) -> Duration {
        self.plan.bound.saturating_sub(Duration::from_millis(self.progress.spent))
    }

    /// How long the step at the cursor may take: what it says, and no longer than the run.
    fn order(&self, part: usize, attempt: u32) -> Order {
        let own = self.node().and_then(|node| match (node.common.timeout, &node.action) {
            (Some(minutes), _) => Some(u64::from(minutes)),
            (None, Some(Action::UpgradeOs(_))) => Some(SETUP_MINUTES),
            _ => None,
        });
        let left = self.left();
        let limit = own.map_or(left, |minutes| left.min(Duration::from_secs(minutes * 60)));
        Order { node: self.progress.cursor, part, attempt, limit: limit.max(Duration::from_secs(1)) }
    }

    fn woke(&mut self, boot: String, said: &mut Vec<Said>) -> Option<Act> {
        let restarted = self.progress.boot != boot;
        self.progress.boot = boot;
        if let Phase::Fetching { wait, .. } = &mut self.progress.phase {
            *wait = 0; // whoever is there again asks at once
        }
        let phase = self.progress.phase.clone();
        if let Phase::Restarting { asked, delay, boot_image, resume } = phase {
            if restarted {
                said.push(Said::run(RunState::Running, "the device has restarted"));
                self.progress.phase = *resume;
                self.settle_if_pending();
            } else if asked >= MOST_ASKED {
                let details = format!("the device was asked {asked} times to restart, and did not");
                let failed =
                    End { state: RunState::Failed, code: Some(Code::RestartFailed), exit: None, details };
                // What it had failed of before is the truer reason.
                let end = match *resume {
                    Phase::Ending(end) if end.state != RunState::Succeeded => end,
                    _ => failed,
                };
                self.over(end, said);
            } else {
                self.progress.phase = Phase::Restarting { asked: asked + 1, delay, boot_image, resume };
            }
            return None;
        }
        if matches!(phase, Phase::Ended(_)) {
            return None;
        }
        if phase == Phase::fetching(None) && self.progress.wakings == 0 {
            said.push(Said::run(RunState::Downloading, "its content is fetched"));
        }
        self.progress.wakings += 1;
        if self.progress.wakings > MOST_WAKINGS {
            let details = format!("interrupted {MOST_WAKINGS} times without getting any further");
            let end = End { state: RunState::Failed, code: Some(Code::RestartLoop), exit: None, details };
            // Where it is not to be known what became of Setup, the restart has been, and another one tells no more.
            match phase {
                Phase::Settling(_) => self.over(end, said),
                _ => self.end(end, said),
            }
            return None;
        }
        if matches!(phase, Phase::Waiting { .. }) {
            // It asks at once; what it waited with has not begun.
            self.waited(said);
        }
        match phase {
            Phase::Running { part, attempt, .. } => Some(Act::Look(self.order(part, attempt))),
            Phase::Next { .. } | Phase::Fetching { .. } | Phase::Waiting { .. } if restarted => {
                self.settle_if_pending();
                None
            }
            _ => None,
        }
    }

    /// After a restart in which Setup had work to do, its outcome comes before anything else.
    fn settle_if_pending(&mut self) {
        if self.progress.setup.as_ref().is_some_and(|pending| pending.boot != self.progress.boot) {
            let phase = std::mem::replace(&mut self.progress.phase, Phase::next());
            self.progress.phase = Phase::Settling(Box::new(phase));
        }
    }

    fn fetched(&mut self, fetched: Result<Vec<BytesFrom>, Failure>, said: &mut Vec<Said>) -> Option<Act> {
        let Phase::Fetching { node, tries, waits, .. } = self.progress.phase.clone() else { return None };
        match fetched {
            Ok(bytes) => {
                said.push(Said { bytes, ..Said::run(RunState::Running, "its content is there") });
                self.progress.phase = Phase::next();
                if let Some(node) = node {
                    self.progress.fetched.insert(node);
                    self.progress.phase =
                        Phase::Next { part: 0, failed: Vec::new(), judged: true, attempt: 1 };
                }
            }
            Err(failure) if tries < self.fetches() && !self.at_once(&failure) => {
                self.progress.phase = Phase::Fetching { node, tries: tries + 1, waits, wait: 0 };
            }
            // Each part says for itself what it lacks.
            Err(_) if node.is_some() && self.action().is_some_and(steps::passes_over) => {
                self.progress.fetched.extend(node);
                self.progress.phase = Phase::Next { part: 0, failed: Vec::new(), judged: true, attempt: 1 };
            }
            Err(failure) if node.is_some() => {
                self.progress.phase = Phase::next();
                self.fail(failure, 1, said);
            }
            Err(Failure { code, exit, details }) => {
                self.end(End { state: RunState::Failed, code: Some(code), exit, details }, said);
            }
        }
        None
    }

    /// Somebody may be asked later: that is waited for, and is no try.
    fn later(&mut self, pause: Duration, failure: Failure, said: &mut Vec<Said>) -> Option<Act> {
        match &mut self.progress.phase {
            Phase::Fetching { waits, wait, .. } if *waits < WAITS.0 => {
                (*waits, *wait) = (*waits + 1, pause.min(WAITS.1).as_secs().max(1));
                said.push(Said::run(RunState::Downloading, failure.details));
                None
            }
            Phase::Next { .. } | Phase::Running { .. } => {
                self.progress.waits += 1;
                if self.progress.waits > WAITS.0 {
                    let attempt = self.attempt();
                    self.fail(failure, attempt, said);
                    return None;
                }
                let (first, longest) = SECRET_WAITS;
                let own = first.saturating_mul(1 << (self.progress.waits - 1).min(20)).min(longest);
                // A page of maintenance that asks for a day does not get it of a run that has begun.
                let wait = pause.as_secs().min(longest).max(own);
                said.push(Said::run(RunState::Waiting, failure.details));
                let resume = std::mem::replace(&mut self.progress.phase, Phase::next());
                self.progress.phase = Phase::Waiting { wait, resume: Box::new(resume) };
                None
            }
            _ => self.fetched(Err(failure), said),
        }
    }

    fn waited(&mut self, said: &mut Vec<Said>) -> Option<Act> {
        if let Phase::Waiting { resume, .. } = self.progress.phase.clone() {
            self.progress.phase = *resume;
            // What it does now may take hours, and nobody is to believe meanwhile that it waits.
            said.push(Said::run(RunState::Running, "it goes on"));
        }
        None
    }

    /// Somebody waits for what is available, and should know that there is nothing to wait for. What is required was asked
    /// for until its deadline (mission row M19).
    fn at_once(&self, failure: &Failure) -> bool {
        self.frame.assignment.purpose == Purpose::Available && failure.code == Code::ContentUnavailable
    }

    fn fetches(&self) -> u32 {
        let said = self.progress.variables.value(super::variables::DOWNLOAD_RETRIES, None);
        said.and_then(|text| text.parse().ok()).unwrap_or(FETCHES.0).min(100)
    }

    fn judged(&mut self, holds: bool, said: &mut Vec<Said>) -> Option<Act> {
        if let (Phase::Next { judged, .. }, Some(node)) =
            (&mut self.progress.phase, self.plan.at(self.progress.cursor))
        {
            *judged = true;
            if !holds {
                let why = match &node.common.when {
                    Some(when) => format!("its condition does not hold: {}", when.words()),
                    None => "its condition does not hold".to_owned(),
                };
                self.skip(node, &why, said);
            }
        }
        None
    }

    fn skip(&mut self, node: &Planned, why: &str, said: &mut Vec<Said>) {
        let from = self.progress.cursor;
        for position in from..node.end {
            let why = if position == from { why.to_owned() } else { format!("its group is skipped: {why}") };
            if let Some(step) = self.report(position, StepState::Skipped, 1) {
                said.push(Said { step: Some(step), ..Said::run(RunState::Running, why) });
            }
        }
        self.progress.cursor = node.end;
        self.progress.phase = Phase::next();
    }

    fn report(&self, position: usize, state: StepState, attempt: u32) -> Option<StepReport> {
        let node = self.plan.at(position)?;
        let action = node.action.as_ref()?;
        Some(StepReport {
            number: node.number,
            name: node.common.name.clone(),
            groups: self.plan.groups(position),
            kind: action.kind().to_owned(),
            state,
            attempt,
        })
    }

    /// What the phase asks for.
    fn next(&mut self, said: &mut Vec<Said>) -> Act {
        loop {
            match self.progress.phase.clone() {
                Phase::Ended(end) => return Act::End(end),
                Phase::Settling(_) => return Act::Settle,
                Phase::Waiting { wait, .. } => return Act::Wait(Duration::from_secs(wait)),
                Phase::Ending(end) => self.end(end, said),
                Phase::Restarting { delay, boot_image, .. } => return Act::Restart { delay, boot_image },
                Phase::Running { part, attempt, .. } => return Act::Run(self.order(part, attempt)),
                Phase::Fetching { node, wait, .. } if wait > 0 => {
                    return Act::Fetch { node, pause: Duration::from_secs(wait) };
                }
                Phase::Fetching { node, tries, .. } => {
                    let seconds = self.progress.variables.value(super::variables::DOWNLOAD_DELAY, None);
                    let seconds = seconds.and_then(|text| text.parse().ok()).unwrap_or(FETCHES.1).min(3_600);
                    let pause = Duration::from_secs(if tries == 0 { 0 } else { seconds });
                    return Act::Fetch { node, pause };
                }
                Phase::Next { part, failed, judged, attempt } => {
                    if self.left().is_zero() {
                        self.out_of_time(said);
                        continue;
                    }
                    let Some(node) = self.node() else {
                        self.finish(said);
                        continue;
                    };
                    if node.common.disabled {
                        self.skip(node, "it is disabled", said);
                        continue;
                    }
                    if node.common.when.is_some() && !judged {
                        return Act::Judge(self.progress.cursor);
                    }
                    match &node.action {
                        None => {
                            self.progress.cursor += 1;
                            self.progress.phase = Phase::next();
                        }
                        Some(action) => self.begin(node, action, (part, failed, attempt), said),
                    }
                }
            }
        }
    }

    /// A restart that a step asks for; its own step is finished with it.
    fn restart(&mut self, restart: &Restart, resume: Phase, said: &mut Vec<Said>) {
        let boot_image = restart.target == Target::BootImage;
        said.push(Said::run(RunState::Restarting, format!("the device restarts in {} s", restart.delay)));
        self.progress.phase =
            Phase::Restarting { asked: 1, delay: restart.delay, boot_image, resume: Box::new(resume) };
    }

    fn rolled_back(&mut self) {
        self.progress.variables.set(ROLLED_BACK, "true");
    }
}
