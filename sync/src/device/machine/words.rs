//! What a run and whoever drives it say to each other: what happened, what is to be done, what is told.

use std::time::Duration;

use catalog::problem::Code;
use serde::{Deserialize, Serialize};

use crate::policy::{BytesFrom, RunState, StepReport};

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// How.
    pub state: RunState,
    /// Why, where it failed.
    pub code: Option<Code>,
    /// The exit code of what failed.
    pub exit: Option<i64>,
    /// For people.
    pub details: String,
}

/// What just happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The run begins, or the client is there again, in this start of the device.
    Woke {
        /// Which start.
        boot: String,
    },
    /// Content is there, or is not.
    Fetched(Result<Vec<BytesFrom>, Failure>),
    /// Nobody gives content, or a secret, now, and somebody may be asked after this time; nothing: nobody said when.
    Later(Duration, Failure),
    /// The time that was to be waited is over.
    Waited,
    /// Whether the condition of a node holds.
    Judged(bool),
    /// What was run has ended.
    Ended(Outcome),
    /// What is found of a step, or of Setup, that nobody watched to its end.
    Found(Found),
}

/// How something that ran has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// With an exit code, and the end of its output.
    Exit {
        /// The code.
        code: i64,
        /// The end of its output, without secrets.
        output: Option<String>,
    },
    /// It was there already.
    AlreadyThere,
    /// It was ended after its time.
    TimedOut,
    /// It could not be carried out.
    Failed(Failure),
}

/// Why something could not be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The code.
    pub code: Code,
    /// An exit code, if there is one.
    pub exit: Option<i64>,
    /// For people, without secrets.
    pub details: String,
}

/// What is found of something that nobody watched to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It has ended, so.
    Ended(Outcome),
    /// The device runs the new Windows.
    Upgraded,
    /// Setup has put the old Windows back.
    RolledBack {
        /// What it said.
        exit: Option<i64>,
    },
    /// Nothing is known of it; of Setup: the device runs the old Windows, and nothing says that it was put back.
    Lost,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// Fetch the content of a step, or of all, after a pause.
    Fetch {
        /// Which; none: all.
        node: Option<usize>,
        /// The pause.
        pause: Duration,
    },
    /// Wait so long.
    Wait(Duration),
    /// Look whether the condition of this node holds.
    Judge(usize),
    /// Run this.
    Run(Order),
    /// Look what became of this.
    Look(Order),
    /// Look what became of Setup after the restart.
    Settle,
    /// Restart the device.
    Restart {
        /// After so many seconds.
        delay: u16,
        /// Into Windows PE.
        boot_image: bool,
    },
    /// Nothing: it has ended.
    End(End),
}

/// One act of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The position of the step.
    pub node: usize,
    /// Which of its parts.
    pub part: usize,
    /// Which try, from 1.
    pub attempt: u32,
    /// How long it may take.
    pub limit: Duration,
}

/// What the site is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// How the run stands.
    pub state: RunState,
    /// The step that it is about.
    pub step: Option<StepReport>,
    /// What went wrong.
    pub code: Option<Code>,
    /// The exit code of what ran.
    pub exit: Option<i64>,
    /// For people.
    pub details: String,
    /// Who gave which bytes.
    pub bytes: Vec<BytesFrom>,
}

impl Said {
    pub(super) fn run(state: RunState, details: impl Into<String>) -> Self {
        Self { state, step: None, code: None, exit: None, details: details.into(), bytes: Vec::new() }
    }
}

/// What to do next, and what to tell.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// The act. [`Progress`] is written down before it is performed.
    pub act: Act,
    /// In this order.
    pub said: Vec<Said>,
}
