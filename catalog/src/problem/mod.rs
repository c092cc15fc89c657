//! How spsync says no: a stable [`Code`], and a [`Problem`] with what happened, why, what was kept and what to
//! do next. The command line, the admin socket, the API and the log all print the same ones.

mod code;

pub use code::{Code, ExitClass, Page};

use serde::{Deserialize, Serialize};

/// A refusal or a failure, ready to be shown: the first line alone is enough for a ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The stable code; `spsync explain CODE` has a page about it.
    pub code: Code,
    /// What happened, to what.
    pub message: String,
    /// Why, outermost first: the chain of causes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// What was kept, if that is worth saying.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// What to do next; the code's own advice where nothing better is known.
    pub help: String,
}

impl Problem {
    /// A problem with the code's own advice.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            causes: Vec::new(),
            state: None,
            help: code.page().help.to_owned(),
        }
    }

    /// A problem from an error: its text is the message, its sources are the causes.
    pub fn of(code: Code, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::new(code, error.to_string()).because_of(error.source())
    }

    /// Adds a cause and all its own causes.
    #[must_use]
    pub fn because_of(mut self, mut cause: Option<&(dyn std::error::Error + 'static)>) -> Self {
        while let Some(error) = cause {
            let text = error.to_string();
            // Libraries repeat the cause in their own text; one of the two is enough.
            if self.causes.last().is_none_or(|last| !last.contains(&text)) {
                self.causes.push(text);
            }
            cause = error.source();
        }
        self
    }

    /// Adds a cause in words.
    #[must_use]
    pub fn because(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// Says what was kept.
    #[must_use]
    pub fn keeping(mut self, state: impl Into<String>) -> Self {
        self.state = Some(state.into());
        self
    }

    /// Replaces the code's own advice by a better one.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}] {}", self.code, self.message)?;
        self.causes.iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl std::error::Error for Problem {}

/// An error with a code is shown as it says.
impl<E: Coded + 'static> From<E> for Problem {
    fn from(error: E) -> Self {
        error.problem()
    }
}

/// An error that knows its stable code. Every error that can reach a user implements it.
pub trait Coded: std::error::Error {
    /// The code of this error.
    fn code(&self) -> Code;

    /// The error as it is shown.
    fn problem(&self) -> Problem
    where
        Self: Sized + 'static,
    {
        Problem::of(self.code(), self)
    }
}
