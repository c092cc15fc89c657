//! Why a configuration cannot be used, always with the place that says so.

use std::io;
use std::path::PathBuf;

use catalog::problem::{Code, Coded, Problem};

use super::layers::Origin;
use crate::whole;

/// One mistake in a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("the configuration `{path}` cannot be read")]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is larger than any configuration is.
    #[error("the configuration `{path}` has more than {most} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        most: u64,
    },
    /// A file cannot be written.
    #[error("`{path}` cannot be written")]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is no TOML.
    #[error("{origin}: {message}")]
    Syntax {
        /// Where.
        origin: Origin,
        /// What the reader of TOML says.
        message: String,
    },
    /// A key that does not exist.
    #[error("{origin}: unknown key `{key}`{}", suggestion.as_ref().map_or_else(String::new, |near| format!("; did you mean `{near}`?")))]
    UnknownKey {
        /// Where.
        origin: Origin,
        /// The whole path of the key.
        key: String,
        /// The key that looks most like it.
        suggestion: Option<String>,
    },
    /// A key that nobody set, and that another one needs.
    #[error("{origin}: `{by}` needs `{key}`, which is not set: {reason}")]
    Unset {
        /// Where the other one is.
        origin: Origin,
        /// The other one.
        by: String,
        /// The whole path of the key that lacks.
        key: String,
        /// What was expected.
        reason: String,
    },
    /// A key whose value cannot be used.
    #[error("{origin}: `{key}`: {reason}")]
    Invalid {
        /// Where.
        origin: Origin,
        /// The whole path of the key.
        key: String,
        /// What was expected, and what was found.
        reason: String,
    },
}

impl Coded for ConfigError {
    fn code(&self) -> Code {
        match self {
            Self::Unreadable { .. } | Self::TooLarge { .. } => Code::ConfigUnreadable,
            Self::Unwritable { source, .. } => whole::code_of(source),
            Self::UnknownKey { .. } => Code::ConfigUnknownKey,
            Self::Syntax { .. } | Self::Unset { .. } | Self::Invalid { .. } => Code::ConfigInvalid,
        }
    }
}

/// At most this many further mistakes are named beside the first.
const NAMED: usize = 20;

/// All mistakes as one problem: the first is the message, the others follow it.
pub(super) fn all(errors: &[ConfigError]) -> Option<Problem> {
    let (first, others) = errors.split_first()?;
    let mut problem = Problem::of(first.code(), first);
    for other in others.iter().take(NAMED) {
        problem = problem.because(format!("also: {other}"));
    }
    if others.len() > NAMED {
        problem = problem.because(format!("and {} more", others.len() - NAMED));
    }
    Some(problem)
}
