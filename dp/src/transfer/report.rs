//! What is told of a transfer afterwards: who gave which bytes, and why nobody could give the rest.

use std::fmt;
use std::time::Duration;

use catalog::id::FileName;
use catalog::problem::{Code, Coded, Problem};
use serde::{Deserialize, Serialize};

use super::fault::{Fault, most_telling};
use super::lane::LocalError;
use super::machine::{Machine, Report};
use super::{At, Job, Source, SourceKind};
use crate::library::LibraryError;

/// What one source did for a file that is stored now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// What sort of place it is.
    pub kind: SourceKind,
    /// The name that is shown.
    pub name: String,
    /// Bytes of the stored file that came from it.
    pub bytes: u64,
    /// `verified`, or its last fault.
    pub outcome: String,
    /// Its address.
    #[serde(skip)]
    pub at: Option<At>,
    /// The code of its last fault, where that was surely its own.
    #[serde(skip)]
    pub fault: Option<Code>,
    /// For how long it could not be reached, where that was so when it was asked last.
    #[serde(skip)]
    pub unreachable: Option<Duration>,
}

/// What one source did wrong for a file that nobody could give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFailure {
    /// What sort of place it is.
    pub kind: SourceKind,
    /// The name that is shown.
    pub name: String,
    /// Its address.
    pub at: At,
    /// Bytes of the file, as it is staged, that came from it.
    pub bytes: u64,
    /// In the order of their occurrence; empty if there was no time to ask it.
    pub faults: Vec<Fault>,
    /// The last of them may have been another's, whose bytes stood beside its own.
    pub shared: bool,
    /// For how long it could not be reached, where that was so when it was asked last.
    pub unreachable: Option<Duration>,
}

impl SourceFailure {
    /// What it did wrong last, where it was surely its own doing: others may be told of it.
    pub fn proven(&self) -> Option<&Fault> {
        self.faults.last().filter(|_| !self.shared)
    }
}

impl fmt::Display for SourceFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.kind, self.name)?;
        match self.faults.as_slice() {
            [] => write!(f, "not asked"),
            [only] => write!(f, "{only}"),
            [.., last] => write!(f, "{last} (attempt {})", self.faults.len()),
        }
    }
}

/// Why a file is not in the library.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Every source failed.
    #[error("no source could give `{file}`")]
    AllFailed {
        /// The file.
        file: FileName,
        /// Bytes that are staged, for the next transfer.
        kept: u64,
        /// Each source, in their order.
        sources: Vec<SourceFailure>,
    },
    /// Others are to be asked: what came is staged, and they go on from there.
    #[error("`{file}` is to come from others")]
    Left {
        /// The file.
        file: FileName,
        /// Bytes that are staged.
        kept: u64,
        /// Each source, in their order.
        sources: Vec<SourceFailure>,
    },
    /// There is none.
    #[error("no source is known for `{file}`")]
    NoSource {
        /// The file.
        file: FileName,
    },
    /// The disk, or another transfer of the same content.
    #[error("`{file}` could not be kept")]
    Library {
        /// The file.
        file: FileName,
        /// Why.
        source: LibraryError,
    },
    /// The process is shutting down, or something in it broke.
    #[error("the transfer of `{file}` was stopped")]
    Stopped {
        /// The file.
        file: FileName,
        /// How.
        source: tokio::task::JoinError,
    },
}

impl FetchError {
    pub(super) fn local(file: FileName, error: LocalError) -> Self {
        match error {
            LocalError::Library(source) => Self::Library { file, source },
            LocalError::Stopped(source) => Self::Stopped { file, source },
        }
    }
}

impl Coded for FetchError {
    fn code(&self) -> Code {
        match self {
            Self::AllFailed { sources, .. } => most_telling(sources.iter().flat_map(|source| &source.faults))
                .map_or(Code::ContentUnavailable, Coded::code),
            Self::NoSource { .. } => Code::ContentUnavailable,
            Self::Left { .. } => Code::Interrupted,
            Self::Library { source, .. } => source.code(),
            Self::Stopped { source, .. } if source.is_cancelled() => Code::Interrupted,
            Self::Stopped { .. } => Code::Internal,
        }
    }

    fn problem(&self) -> Problem {
        let mut problem = Problem::of(self.code(), self);
        if let Self::AllFailed { kept, sources, .. } = self {
            problem.causes = sources.iter().map(SourceFailure::to_string).collect();
            problem = problem.keeping(match kept {
                0 => "nothing was stored".to_owned(),
                kept => format!("{kept} bytes are kept, the next attempt goes on from there"),
            });
        }
        problem
    }
}

/// What became of each source of a file that is stored now, at `end`.
pub(super) fn served(sources: &[Source], machine: Machine, end: Duration) -> Vec<Served> {
    let used = |(_, report): &(&Source, Report)| report.bytes > 0 || !report.faults.is_empty();
    let told = |(source, report): (&Source, Report)| Served {
        kind: source.kind,
        name: source.name.clone(),
        bytes: report.bytes,
        at: Some(source.at.clone()),
        fault: report.faults.last().filter(|_| !report.shared).map(Coded::code),
        unreachable: away_for(&report, end),
        outcome: match report.faults.last() {
            None => "verified".to_owned(),
            Some(fault) if report.bytes > 0 => format!("verified; {fault}"),
            Some(fault) => fault.to_string(),
        },
    };
    sources.iter().zip(machine.into_reports()).filter(used).map(told).collect()
}

pub(super) fn all_failed(job: &Job, machine: Machine, end: Duration) -> FetchError {
    let (file, kept) = (job.file_name.clone(), machine.have());
    FetchError::AllFailed { file, kept, sources: failures(job, machine, end) }
}

pub(super) fn left(job: &Job, machine: Machine, end: Duration) -> FetchError {
    let (file, kept) = (job.file_name.clone(), machine.have());
    FetchError::Left { file, kept, sources: failures(job, machine, end) }
}

fn failures(job: &Job, machine: Machine, end: Duration) -> Vec<SourceFailure> {
    let sources = job.sources.iter().zip(machine.into_reports()).map(|(source, report)| SourceFailure {
        kind: source.kind,
        name: source.name.clone(),
        at: source.at.clone(),
        bytes: report.bytes,
        unreachable: away_for(&report, end),
        shared: report.shared,
        faults: report.faults,
    });
    sources.collect()
}

fn away_for(report: &Report, end: Duration) -> Option<Duration> {
    report.unreachable.map(|since| end.saturating_sub(since))
}
