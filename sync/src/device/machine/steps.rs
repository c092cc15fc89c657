//! How steps begin and end.

use catalog::problem::Code;

use super::{Act, End, Event, Failure, Found, Frame, MOST_STARTS, Machine, Outcome, Pending, Phase, Said};
use crate::device::plan::{Planned, parts, targeted};
use crate::device::variables::{LAST, RESULT};
use crate::device::{setup, updates};
use crate::policy::{Delivery, RunState, StepState};
use crate::sequence::Action;
use crate::sequence::action::{OsType, Restart, UpgradeOs};

impl Machine<'_> {
    /// The step at the cursor begins, or goes on with another of its parts.
    pub(super) fn begin(
        &mut self,
        node: &Planned,
        action: &Action,
        (part, failed, attempt): (usize, Vec<String>, u32),
        said: &mut Vec<Said>,
    ) {
        let here = self.progress.cursor;
        match action {
            Action::SetVariable(set) => {
                match &set.hidden_value {
                    Some(place) => self.progress.variables.seal(&set.variable, place.clone()),
                    None => self.progress.variables.set_from(&set.variable, &set.value),
                }
                self.succeed(None, format!("{} is set", set.variable), said);
            }
            Action::Restart(restart) => {
                self.succeed(None, String::new(), said);
                self.restart(restart, Phase::next(), said);
            }
            _ if part >= parts(action, self.frame) => {
                let details = match (failed.as_slice(), part) {
                    _ if matches!(action, Action::InstallUpdates(_)) => self.of_updates(action),
                    ([], 0) => "there was nothing to do".to_owned(),
                    ([], _) => String::new(),
                    (failed, _) => format!("failed and passed over: {}", failed.join("; ")),
                };
                self.succeed(None, details, said);
            }
            _ if self.frame.assignment.content.delivery == Delivery::WhenNeeded
                && part == 0
                && attempt == 1
                && has_content(action, self.frame)
                && !self.progress.fetched.contains(&here) =>
            {
                self.progress.phase = Phase::fetching(Some(here));
                let step = self.report(here, StepState::Running, attempt);
                said.push(Said { step, ..Said::run(RunState::Downloading, "its content is fetched") });
            }
            _ => {
                self.progress.phase = Phase::Running { part, failed, attempt };
                if part == 0 {
                    let details = match action {
                        Action::UpgradeOs(_) => self.taken(node.number),
                        _ => String::new(),
                    };
                    let step = self.report(here, StepState::Running, attempt);
                    said.push(Said { step, ..Said::run(RunState::Running, details) });
                }
            }
        }
    }

    /// What was installed of the updates, and why not the others.
    fn of_updates(&self, action: &Action) -> String {
        match action {
            Action::InstallUpdates(install) => updates::words(&targeted(install.mode, self.frame)),
            _ => String::new(),
        }
    }

    /// What was chosen for an upgrade, and why not the others.
    fn taken(&self, number: u32) -> String {
        self.progress.choice(number).map(crate::device::evaluate::reasons).unwrap_or_default()
    }

    pub(super) fn ended(&mut self, outcome: Outcome, said: &mut Vec<Said>) -> Option<Act> {
        let Phase::Running { part, mut failed, attempt } = self.progress.phase.clone() else { return None };
        let action = self.action()?;
        let exit = match &outcome {
            Outcome::Exit { code, .. } => Some(setup::unsigned(*code)),
            _ => None,
        };
        if let (Outcome::Exit { output: Some(output), .. }, Action::RunCommand(command)) = (&outcome, action)
            && !command.output_variable.is_empty()
        {
            self.progress.variables.set(&command.output_variable, output.as_str());
        }
        if let Action::UpgradeOs(_) = action {
            let result = exit.map_or_else(|| "-1".to_owned(), |exit| exit.to_string());
            self.progress.variables.set(RESULT, result);
        }
        match self.judge(action, part, outcome) {
            Ok(details) => {
                (self.progress.wakings, self.progress.waits) = (0, 0);
                if let Action::UpgradeOs(upgrade) = action
                    && !upgrade.scan_only
                {
                    let boot = self.progress.boot.clone();
                    self.progress.setup = Some(Pending { node: self.progress.cursor, boot, attempt });
                }
                // Setup was told not to restart; that is for a step to do.
                let restarts = exit == Some(setup::RESTART) && !matches!(action, Action::UpgradeOs(_));
                if part + 1 < parts(action, self.frame) {
                    self.progress.phase = Phase::Next { part: part + 1, failed, judged: true, attempt };
                } else {
                    let details = match failed.as_slice() {
                        [] if matches!(action, Action::InstallUpdates(_)) => self.of_updates(action),
                        [] => details,
                        failed => format!("failed and passed over: {}", failed.join("; ")),
                    };
                    self.succeed(exit, details, said);
                }
                if restarts {
                    let resume = std::mem::replace(&mut self.progress.phase, Phase::next());
                    self.restart(&Restart::default(), resume, said);
                }
            }
            Err(failure) if passes_over(action) => {
                (self.progress.wakings, self.progress.waits) = (0, 0);
                failed.push(format!("{} ({})", failure.details, failure.code));
                // Named here already: the last part may be the one that failed.
                self.progress.phase = Phase::Next { part: part + 1, failed, judged: true, attempt };
            }
            Err(failure) => self.fail(failure, attempt, said),
        }
        None
    }

    /// What an outcome means for the step: fine, with a word for people, or a failure.
    fn judge(&self, action: &Action, part: usize, outcome: Outcome) -> Result<String, Failure> {
        let (code, output) = match outcome {
            Outcome::Exit { code, output } => (code, output),
            Outcome::AlreadyThere => return Ok("it was there already".to_owned()),
            Outcome::TimedOut => return Err(self.timed_out(action)),
            Outcome::Failed(failure) => return Err(failure),
        };
        let named = |what: String| match &output {
            Some(output) if !output.trim().is_empty() => format!("{what}: {}", last_line(output)),
            _ => what,
        };
        let fails = |code_of, what: String| {
            Err(Failure { code: code_of, exit: Some(setup::unsigned(code)), details: named(what) })
        };
        match action {
            Action::UpgradeOs(upgrade) => match setup::meaning(code, upgrade.scan_only) {
                Ok(()) => Ok(String::new()),
                Err(why) => fails(why, format!("Setup ended with {}", setup::shown(code))),
            },
            Action::InstallApplication(install) => {
                let known = &self.frame.assignment.references;
                let app = install.applications.get(part).and_then(|id| known.application(id));
                let (name, accepted) = app.map_or(("application", &[0][..]), |app| {
                    (app.name.as_str(), app.success_codes.as_slice())
                });
                if is_among(code, accepted) {
                    return Ok(format!("`{name}` is installed"));
                }
                fails(Code::StepFailed, format!("`{name}` ended with {}", setup::shown(code)))
            }
            Action::RunCommand(command) if !is_among(code, &command.success_codes) => {
                fails(Code::StepFailed, format!("the command ended with {}", setup::shown(code)))
            }
            Action::RunCommand(_) => Ok(String::new()),
            _ if is_among(code, &[0, setup::RESTART]) => Ok(String::new()),
            _ => fails(Code::StepFailed, format!("it ended with {}", setup::shown(code))),
        }
    }

    /// A server's Setup without the flag waits for somebody to confirm, and does so until its time is over (mission row M10).
    fn timed_out(&self, action: &Action) -> Failure {
        let waits = matches!(action, Action::UpgradeOs(upgrade) if !upgrade.ignore_dismissable && self.is_server(upgrade));
        let (code, details) = if waits {
            let why = "Setup waited for somebody to confirm a compatibility message; the step does not ignore those";
            (Code::SetupWaitingForUser, why)
        } else if self.left().is_zero() {
            (Code::RunTimedOut, "the time of the task sequence was over")
        } else {
            (Code::StepTimedOut, "it was ended after its time")
        };
        Failure { code, exit: None, details: details.to_owned() }
    }

    fn is_server(&self, upgrade: &UpgradeOs) -> bool {
        let number = self.node().map_or(0, |node| node.number);
        let target = self.frame.assignment.references.target(upgrade, self.progress.choice(number));
        target.is_some_and(|target| target.os_type == OsType::Server)
    }

    /// The step at the cursor is finished. It never begins again in this run.
    pub(super) fn succeed(&mut self, exit: Option<i64>, details: String, said: &mut Vec<Said>) {
        let attempt = self.attempt();
        let step = self.report(self.progress.cursor, StepState::Succeeded, attempt);
        self.remember(exit.unwrap_or(0), true);
        said.push(Said { step, exit, ..Said::run(RunState::Running, details) });
        self.progress.cursor += 1;
        (self.progress.wakings, self.progress.waits) = (0, 0);
        self.progress.phase = Phase::next();
    }

    pub(super) fn attempt(&self) -> u32 {
        match &self.progress.phase {
            Phase::Running { attempt, .. } | Phase::Next { attempt, .. } => *attempt,
            _ => 1,
        }
    }

    fn remember(&mut self, exit: i64, succeeded: bool) {
        let name = self.node().map(|node| node.common.name.clone()).unwrap_or_default();
        let [last_name, last_code, last_succeeded] = LAST;
        self.progress.variables.set(last_name, name);
        self.progress.variables.set(last_code, exit.to_string());
        self.progress.variables.set(last_succeeded, if succeeded { "true" } else { "false" });
    }

    /// The step at the cursor has failed: tried again, passed over, or the end of what it stands in.
    pub(super) fn fail(&mut self, failure: Failure, attempt: u32, said: &mut Vec<Said>) {
        let Some(node) = self.node() else { return };
        if attempt > u32::from(node.common.retries) || self.left().is_zero() {
            return self.fail_for_good(failure, attempt, said);
        }
        said.push(self.failed(StepState::Retrying, &failure, attempt));
        let (part, failed) = match std::mem::replace(&mut self.progress.phase, Phase::next()) {
            Phase::Running { part, failed, .. } => (part, failed),
            _ => (0, Vec::new()),
        };
        self.progress.phase = Phase::Next { part, failed, judged: true, attempt: attempt + 1 };
    }

    fn failed(&self, state: StepState, failure: &Failure, attempt: u32) -> Said {
        let step = self.report(self.progress.cursor, state, attempt);
        let (code, exit) = (Some(failure.code), failure.exit);
        Said { step, code, exit, ..Said::run(RunState::Running, failure.details.clone()) }
    }

    fn fail_for_good(&mut self, failure: Failure, attempt: u32, said: &mut Vec<Said>) {
        let Some(node) = self.node() else { return };
        let here = self.progress.cursor;
        self.remember(failure.exit.unwrap_or(-1), false);
        (self.progress.wakings, self.progress.waits) = (0, 0);
        if failure.code == Code::SetupRolledBack {
            self.rolled_back();
        }
        if node.common.continue_on_error {
            said.push(self.failed(StepState::FailedContinued, &failure, attempt));
            self.progress.cursor = node.end;
            self.progress.phase = Phase::next();
            return;
        }
        said.push(self.failed(StepState::Failed, &failure, attempt));
        let end = End::of(&failure);
        if matches!(&node.action, Some(Action::UpgradeOs(upgrade)) if !upgrade.scan_only) {
            // No group hides that the upgrade has failed.
            self.progress.failure.get_or_insert(end.clone());
        }
        self.leave(here, end, said);
    }

    /// Nobody watched it to its end.
    pub(super) fn found(&mut self, found: Found, said: &mut Vec<Said>) -> Option<Act> {
        if let Phase::Settling(resume) = self.progress.phase.clone() {
            self.settled(found, *resume, said);
            return None;
        }
        let Phase::Running { part, failed, attempt } = self.progress.phase.clone() else { return None };
        match found {
            Found::Ended(outcome) => return self.ended(outcome, said),
            Found::Upgraded => {
                // The restart came before the word of Setup: its second half is done already.
                self.progress.variables.set(RESULT, "0");
                self.succeed(None, "the device runs the new Windows".to_owned(), said);
            }
            Found::RolledBack { exit } => {
                self.progress.variables.set(RESULT, exit.unwrap_or(-1).to_string());
                let details = "Setup has put the old Windows back".to_owned();
                self.fail_for_good(Failure { code: Code::SetupRolledBack, exit, details }, attempt, said);
            }
            Found::Lost => self.lost((part, failed, attempt), said),
        }
        None
    }

    /// A step that was interrupted, and of which nobody can tell whether it did its work. What can be done twice is done
    /// again, what installs at least twice, as Configuration Manager does after unexpected restarts: not after failures, of which only
    /// `retries` speaks. Setup begins anew by itself. A command may be anything: it is run again only where its step says how often.
    fn lost(&mut self, (part, failed, attempt): (usize, Vec<String>, u32), said: &mut Vec<Said>) {
        let (Some(action), Some(node)) = (self.action(), self.node()) else { return };
        let tries = match action {
            Action::RunCommand(_) | Action::Unknown(_) => 1 + u32::from(node.common.retries),
            Action::InstallApplication(_) | Action::InstallUpdates(_) => {
                1 + u32::from(node.common.retries).max(2)
            }
            Action::UpgradeOs(_) => 3,
            _ => MOST_STARTS,
        };
        if attempt < tries {
            let step = self.report(self.progress.cursor, StepState::Retrying, attempt);
            let code = Some(Code::StepInterrupted);
            said.push(Said {
                step,
                code,
                ..Said::run(RunState::Running, "it was interrupted, and is run again")
            });
            self.progress.phase = Phase::Running { part, failed, attempt: attempt + 1 };
            return;
        }
        let details = "it was interrupted, and nobody knows whether it did its work".to_owned();
        self.fail_for_good(Failure { code: Code::StepInterrupted, exit: None, details }, attempt, said);
    }
}

/// One part that fails does not end the step.
pub(super) fn passes_over(action: &Action) -> bool {
    match action {
        Action::InstallApplication(install) => install.continue_on_app_error,
        Action::DownloadContent(download) => download.continue_on_package_error,
        _ => false,
    }
}

fn has_content(action: &Action, frame: &Frame) -> bool {
    match action {
        Action::UpgradeOs(upgrade) => upgrade.source_path.is_none(),
        Action::InstallApplication(_) => true,
        Action::InstallUpdates(install) => {
            targeted(install.mode, frame).install.iter().any(|update| !update.files.is_empty())
        }
        _ => false,
    }
}

fn is_among(code: i64, accepted: &[i64]) -> bool {
    accepted.iter().any(|one| setup::unsigned(*one) == setup::unsigned(code))
}

fn last_line(text: &str) -> &str {
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    let end = line.char_indices().nth(200).map_or(line.len(), |(at, _)| at);
    &line[..end]
}

impl Event {
    /// A run begins, or somebody is there again.
    pub fn woke(boot: &str) -> Self {
        Self::Woke { boot: boot.to_owned() }
    }
}
