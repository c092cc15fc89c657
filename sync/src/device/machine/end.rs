//! How failures travel outwards, and how runs end: truthfully.

use catalog::problem::Code;

use super::{End, Failure, Found, Machine, Phase, Said};
use crate::device::variables::RESULT;
use crate::policy::RunState;
use crate::sequence::action::Restart;

impl End {
    /// The end that a failure is, where nothing handles it.
    pub fn of(failure: &Failure) -> Self {
        let state =
            if failure.code == Code::SetupRolledBack { RunState::RolledBack } else { RunState::Failed };
        Self { state, code: Some(failure.code), exit: failure.exit, details: failure.details.clone() }
    }
}

impl Machine<'_> {
    /// Out of the groups around a node, to behind the first that continues on error; out of all of them is the end.
    pub(super) fn leave(&mut self, node: usize, end: End, said: &mut Vec<Said>) {
        let behind =
            self.plan.around(node).find(|group| group.common.continue_on_error).map(|group| group.end);
        match behind {
            Some(behind) => {
                self.progress.cursor = behind;
                self.progress.phase = Phase::next();
            }
            None => self.end(end, said),
        }
    }

    /// What became of Setup in the restart.
    pub(super) fn settled(&mut self, found: Found, resume: Phase, said: &mut Vec<Said>) {
        let Some(pending) = self.progress.setup.take() else {
            self.progress.phase = resume;
            return;
        };
        self.progress.wakings = 0;
        let failure = match found {
            Found::Upgraded | Found::Ended(_) => {
                said.push(Said::run(RunState::Running, "the device runs the new Windows"));
                self.progress.phase = resume;
                return;
            }
            Found::RolledBack { exit } => {
                self.rolled_back();
                let details = "Setup has put the old Windows back".to_owned();
                Failure { code: Code::SetupRolledBack, exit, details }
            }
            Found::Lost => {
                let details = "after the restart the device runs its old Windows".to_owned();
                Failure { code: Code::SetupFailed, exit: None, details }
            }
        };
        self.progress.variables.set(RESULT, failure.exit.unwrap_or(-1).to_string());
        let step = self.report(pending.node, crate::policy::StepState::Failed, 1);
        let (code, exit) = (Some(failure.code), failure.exit);
        said.push(Said { step, code, exit, ..Said::run(RunState::Running, failure.details.clone()) });
        let end = End::of(&failure);
        let accepted = self.plan.at(pending.node).is_some_and(|node| node.common.continue_on_error);
        if accepted {
            self.progress.phase = resume;
            return;
        }
        self.progress.failure.get_or_insert(end.clone());
        if matches!(resume, Phase::Ending(_)) {
            self.progress.phase = resume;
            return;
        }
        // What stands behind the upgrade in its group was meant for the new Windows.
        self.leave(self.progress.cursor.saturating_sub(1).max(pending.node), end, said);
    }

    /// Behind the last node.
    pub(super) fn finish(&mut self, said: &mut Vec<Said>) {
        let end = self.progress.failure.clone().unwrap_or(End {
            state: RunState::Succeeded,
            code: None,
            exit: None,
            details: String::new(),
        });
        self.end(end, said);
    }

    pub(super) fn out_of_time(&mut self, said: &mut Vec<Said>) {
        let minutes = self.plan.bound.as_secs() / 60;
        let late = End {
            state: RunState::Failed,
            code: Some(Code::RunTimedOut),
            exit: None,
            details: format!("it took more than the {minutes} minutes that it may"),
        };
        // What failed before is the truer reason.
        let end = self.progress.failure.clone().unwrap_or(late);
        self.end(end, said);
    }

    /// It ends so. Nobody restarted after an upgrade whose second half is to come: the next start of the device would bring it, at
    /// whatever moment that is, and nobody would know how it ends. So the restart comes first, however the run ends.
    pub(super) fn end(&mut self, end: End, said: &mut Vec<Said>) {
        if self.progress.setup.is_some() {
            return self.restart(&Restart::default(), Phase::Ending(end), said);
        }
        self.over(end, said);
    }

    /// It has ended so, and nothing more is done.
    pub(super) fn over(&mut self, end: End, said: &mut Vec<Said>) {
        // An upgrade that failed is what the run has failed of, whatever came after it.
        let end = match &self.progress.failure {
            Some(failure) => failure.clone(),
            None => end,
        };
        said.push(Said { code: end.code, exit: end.exit, ..Said::run(end.state, end.details.clone()) });
        self.progress.phase = Phase::Ended(end);
    }
}
