//! Who carries out what the machine decides. Two of them: [`simulate`] pretends, after a file that says how the device
//! behaves; [`command`] really runs what a step says.

pub mod command;
mod gather;
pub mod process;
pub mod simulate;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use catalog::digest::Sha256Digest;
use catalog::problem::Problem;
use jiff::Timestamp;

use super::judge::Probe;
use super::machine::{Found, Frame, Order, Outcome};
use super::plan::Planned;
use super::updates::Scanned;
use super::variables::Variables;
use crate::policy::{ContentFile, Facts, Secrets};
use crate::sequence::Action;
use crate::sequence::choose::Choice;

/// A step that is to be carried out, with all that it may need.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    /// What is ordered.
    pub order: &'a Order,
    /// The step.
    pub node: &'a Planned,
    /// What it does.
    pub action: &'a Action,
    /// What the run is about.
    pub frame: &'a Frame,
    /// The variables.
    pub variables: &'a Variables,
    /// What an upgrade takes.
    pub choice: Option<&'a Choice>,
    /// Secrets, where the step needs some and they are known.
    pub secrets: Option<&'a Secrets>,
    /// Where content is, verified.
    pub files: &'a BTreeMap<Sha256Digest, PathBuf>,
}

/// What became of a wish to restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restarted {
    /// The device is there again, in this start.
    Again(String),
    /// It goes down: this process ends, and another goes on.
    GoingDown,
}

/// Why an executor did not answer.
#[derive(Debug)]
pub enum Stopped {
    /// The power is cut (simulated).
    Power,
    /// Something broke that is no step's fault.
    Problem(Problem),
}

impl From<Problem> for Stopped {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// Carries out acts on a device.
pub trait Executor: Probe + Send {
    /// What the device is now.
    fn facts(&self) -> Facts;
    /// Updates that a scan finds to apply; `None` where nobody can scan.
    fn scan(&self) -> Option<Vec<Scanned>> {
        None
    }
    /// The time on its clock.
    fn now(&self) -> Timestamp;
    /// Time that has passed since some moment of this process, whatever the clock says.
    fn passed(&self) -> Duration;
    /// Which start of the device this is.
    fn boot(&self) -> String;
    /// Waits.
    fn pause(&mut self, pause: Duration) -> impl Future<Output = ()> + Send;
    /// Runs a step to its end, or to the end of its time.
    fn run(&mut self, work: Work<'_>) -> impl Future<Output = Result<Outcome, Stopped>> + Send;
    /// Looks what became of a step that nobody watched to its end.
    fn look(&mut self, work: Work<'_>) -> impl Future<Output = Result<Found, Stopped>> + Send;
    /// Looks what became of Setup after the restart.
    fn settle(&mut self, work: Work<'_>) -> impl Future<Output = Result<Found, Stopped>> + Send;
    /// Restarts the device.
    fn restart(
        &mut self,
        delay: u16,
        boot_image: bool,
    ) -> impl Future<Output = Result<Restarted, Stopped>> + Send;
    /// What would be run, with secrets masked.
    fn show(&self, work: Work<'_>) -> Vec<String>;
    /// Content that the device is to have without asking anybody; `None`: it is fetched.
    fn assumes(&self, file: &ContentFile) -> Option<Result<PathBuf, Problem>>;
    /// What the device was told to do before has ended, and how is written down: nothing need be known of it any more.
    fn written(&mut self) {}
    /// One of the moments at which power may be cut.
    fn reached(&mut self, moment: Moment) -> Result<(), Stopped>;
}

/// A moment in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The content of this step is about to be fetched; 0: that of all.
    Fetches(u32),
    /// It is there, or is not, and that is not written down yet.
    Fetched(u32),
    /// It is written down that this step runs; it does not yet.
    Begins(u32),
    /// It has ended, which is not written down yet.
    Ended(u32),
    /// That is written down.
    Noted(u32),
    /// The scripts of the last run are removed, which is not written down yet.
    Tidied,
}
