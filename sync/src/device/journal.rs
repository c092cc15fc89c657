//! All that a device remembers, in one small file that is replaced as a whole: a run and how far it is, runs before it, and
//! messages that the site does not have yet. Whoever dies, dies before or after, never between.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use catalog::digest::Sha256Digest;
use catalog::problem::{Code, Problem};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::evaluate::Past;
use super::machine::{Frame, Progress, Said};
use super::scripts::Scripts;
use super::variables::Masker;
use crate::keys;
use crate::policy::{
    BytesFrom, DeploymentId, Facts, MostOf, Policy, RunState, StatusBatch, StatusMessage, StepState,
};
use crate::whole;

/// The policy that is kept for a site that is away, with its tag.
pub const POLICY: &str = "policy.json";
/// The form that this release writes.
const FORMAT: u32 = 1;
/// Messages that are kept for a site that is away; then those about steps go first.
const MOST_MESSAGES: usize = 4_000;
/// Runs that are remembered.
const MOST_PAST: usize = 500;
/// Contents of which it is remembered when they were asked for first, or who gave them.
const MOST_ASKED: usize = 1_000;
/// More is no journal.
const LARGEST: u64 = 64 << 20;

/// What a device remembers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    format: u32,
    /// Which numbering of messages.
    pub series: Uuid,
    next_message: u64,
    next_run: u64,
    /// The run that is not over.
    #[serde(default)]
    pub current: Option<Current>,
    /// Runs that are.
    #[serde(default)]
    pub history: Vec<Past>,
    /// Messages that the site does not have, in their order.
    #[serde(default)]
    pub outbox: VecDeque<StatusMessage>,
    /// Messages that were given up because there were too many.
    #[serde(default)]
    pub dropped: u64,
    /// What was said last of deployments that do not run.
    #[serde(default)]
    pub told: BTreeMap<DeploymentId, String>,
    /// What Setup runs at its end.
    #[serde(default)]
    pub scripts: Option<Scripts>,
    /// What the site knows of the device.
    #[serde(default)]
    pub facts: Option<Facts>,
    /// When content was asked for first that is not here yet: some may be asked only after a while.
    #[serde(default)]
    pub asked: BTreeMap<Sha256Digest, Timestamp>,
    /// Who gave what was fetched ahead of the run that will say so.
    #[serde(default)]
    pub ahead: BTreeMap<Sha256Digest, Vec<BytesFrom>>,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Current {
    /// Its number; what it is about is in a file of its own.
    pub run: u64,
    /// The deployment.
    pub deployment: DeploymentId,
    /// When it began.
    pub started: Timestamp,
    /// When it was worked on last.
    pub seen: Timestamp,
    /// How far it is.
    pub progress: Progress,
}

fn make_room<T>(all: &mut BTreeMap<Sha256Digest, T>, content: Sha256Digest) {
    if all.len() >= MOST_ASKED && !all.contains_key(&content) {
        all.pop_first();
    }
}

impl Memory {
    fn new() -> Self {
        Self {
            format: FORMAT,
            series: Uuid::new_v4(),
            next_message: 1,
            next_run: 1,
            current: None,
            history: Vec::new(),
            outbox: VecDeque::new(),
            dropped: 0,
            told: BTreeMap::new(),
            scripts: None,
            facts: None,
            asked: BTreeMap::new(),
            ahead: BTreeMap::new(),
        }
    }

    /// How long ago a content was asked for first; now, if it was not. A clock that was set back makes it now.
    pub fn asked_since(&mut self, content: Sha256Digest, now: Timestamp) -> Duration {
        make_room(&mut self.asked, content);
        let first = self.asked.entry(content).or_insert(now);
        *first = (*first).min(now);
        now.duration_since(*first).unsigned_abs()
    }

    /// A content was fetched ahead of its run.
    pub fn came_ahead(&mut self, content: Sha256Digest, bytes: Vec<BytesFrom>) {
        make_room(&mut self.ahead, content);
        self.ahead.insert(content, bytes);
    }

    /// The number of the next run.
    pub fn number_a_run(&mut self) -> u64 {
        let run = self.next_run;
        self.next_run += 1;
        run
    }

    /// Puts into the outbox what is to be told.
    pub fn tell(&mut self, deployment: &DeploymentId, run: u64, said: Said, now: Timestamp, masker: &Masker) {
        let cut = |text: String, most: usize| -> String {
            masker.mask(&text).chars().filter(|c| !c.is_control() || *c == '\n').take(most).collect()
        };
        let mut bytes = said.bytes;
        bytes.truncate(MostOf::SOURCES);
        let mut step = said.step;
        if let Some(step) = &mut step {
            step.groups.truncate(MostOf::GROUPS);
        }
        self.outbox.push_back(StatusMessage {
            number: self.next_message,
            time: now,
            deployment: deployment.clone(),
            run,
            state: said.state,
            step,
            code: said.code.map(|code| code.name().to_owned()),
            exit: said.exit,
            details: cut(said.details, MostOf::DETAILS),
            bytes,
        });
        self.next_message += 1;
        if self.outbox.len() > MOST_MESSAGES {
            // How a run ended is the last that goes; what a step did on its way is the first.
            let minor = |message: &StatusMessage| {
                message.step.as_ref().is_some_and(|step| {
                    matches!(step.state, StepState::Skipped | StepState::Running | StepState::Succeeded)
                })
            };
            let at = self.outbox.iter().position(minor).unwrap_or(0);
            self.outbox.remove(at);
            self.dropped += 1;
        }
    }

    /// The oldest messages that the site does not have, as many as go at once; nothing where it has all.
    pub fn batch(&self) -> Option<StatusBatch> {
        let mut size = 1_000;
        let fits = |message: &&StatusMessage| {
            size += serde_json::to_vec(message).map_or(usize::MAX / 4, |bytes| bytes.len() + 1);
            size < MostOf::BATCH_BYTES
        };
        let messages: Vec<_> = self.outbox.iter().take(MostOf::MESSAGES).take_while(fits).cloned().collect();
        (!messages.is_empty()).then_some(StatusBatch { series: self.series, messages })
    }

    /// The site has everything up to this number.
    pub fn forget_through(&mut self, number: u64) {
        self.outbox.retain(|message| message.number > number);
    }

    /// The run is over.
    pub fn close(&mut self, frame: &Frame, state: RunState, code: Option<Code>, now: Timestamp) {
        let Some(current) = self.current.take() else { return };
        self.history.push(Past {
            deployment: current.deployment,
            run: current.run,
            revision: frame.assignment.revision,
            deadline: frame.assignment.deadline,
            started: current.started,
            ended: now,
            state,
            code: code.map(|code| code.name().to_owned()),
        });
        if self.history.len() > MOST_PAST {
            self.history.remove(0);
        }
    }
}

/// The folder in which a device remembers.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    /// Held as long as this lives: one client for each folder.
    _lock: File,
}

fn disk(path: &Path, error: &std::io::Error) -> Problem {
    Problem::new(whole::code_of(error), format!("`{}` cannot be used", path.display()))
        .because_of(Some(error))
}

fn damaged(path: &Path, why: impl Into<String>) -> Problem {
    Problem::new(Code::ClientStateDamaged, format!("`{}` cannot be understood", path.display())).because(why)
}

impl Journal {
    /// Opens the folder, made the first time, for this process alone.
    ///
    /// # Errors
    /// `DATA_DIR_NOT_WRITABLE`, `CLIENT_BUSY`.
    pub fn open(folder: &Path) -> Result<Self, Problem> {
        if !folder.is_dir() {
            keys::private_folder(folder).map_err(|error| disk(folder, &error))?;
        }
        let path = folder.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| disk(&path, &error))?;
        // A client that has just ended may be held open for a moment by a program that it was about to start.
        let free = (0..100).any(|_| {
            lock.try_lock().is_ok() || {
                std::thread::sleep(Duration::from_millis(20));
                false
            }
        });
        if !free {
            let message = format!("another client works with `{}`", folder.display());
            return Err(Problem::new(Code::ClientBusy, message));
        }
        // What a client that died was about to write here.
        ["", "scripts", "work"].iter().for_each(|part| whole::sweep(&folder.join(part)));
        Ok(Self { folder: folder.to_owned(), _lock: lock })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What was remembered; a new memory the first time.
    ///
    /// # Errors
    /// `CLIENT_STATE_DAMAGED`: nobody begins anew by accident, because what was run before would be run again.
    pub fn load(&self) -> Result<Memory, Problem> {
        read_memory(&self.folder)?.map_or_else(|| Ok(Memory::new()), Ok)
    }

    /// Writes down what is remembered, durable when this returns.
    ///
    /// # Errors
    /// `DATA_DIR_NOT_WRITABLE`.
    pub fn save(&self, memory: &Memory) -> Result<(), Problem> {
        self.write("device.json", memory)
    }

    /// What a run is about.
    ///
    /// # Errors
    /// `CLIENT_STATE_DAMAGED`.
    pub fn frame(&self, run: u64) -> Result<Frame, Problem> {
        let path = self.folder.join(format!("run-{run}.json"));
        read(&path)?.ok_or_else(|| damaged(&path, "it is missing"))
    }

    /// Keeps what a run is about, before the run begins; that of runs before it goes.
    ///
    /// # Errors
    /// `DATA_DIR_NOT_WRITABLE`.
    pub fn keep_frame(&self, frame: &Frame) -> Result<(), Problem> {
        self.write(&format!("run-{}.json", frame.run), frame)?;
        if let Some(before) = frame.run.checked_sub(1) {
            let _ = std::fs::remove_file(self.folder.join(format!("run-{before}.json")));
        }
        Ok(())
    }

    /// A further file.
    ///
    /// # Errors
    /// `DATA_DIR_NOT_WRITABLE`.
    pub fn write(&self, name: &str, value: &impl Serialize) -> Result<(), Problem> {
        let bytes = serde_json::to_vec(value).map_err(|error| Problem::of(Code::Internal, &error))?;
        keys::write_private(&self.folder.join(name), &bytes)
    }

    /// Reads a further file.
    ///
    /// # Errors
    /// `CLIENT_STATE_DAMAGED`.
    pub fn read<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Problem> {
        read(&self.folder.join(name))
    }
}

/// What a device remembers, for those who only look.
///
/// # Errors
/// `CLIENT_STATE_DAMAGED`.
pub fn read_memory(folder: &Path) -> Result<Option<Memory>, Problem> {
    let path = folder.join("device.json");
    let memory: Option<Memory> = read(&path)?;
    match memory {
        Some(memory) if memory.format != FORMAT => Err(damaged(&path, "another release wrote it")),
        memory => Ok(memory),
    }
}

/// The policy that a device keeps, for those who only look.
///
/// # Errors
/// `CLIENT_STATE_DAMAGED`.
pub fn read_policy(folder: &Path) -> Result<Option<Policy>, Problem> {
    let kept: Option<(Policy, Option<String>)> = read(&folder.join(POLICY))?;
    Ok(kept.map(|(policy, _)| policy))
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, Problem> {
    use std::io::Read as _;
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(damaged(path, error.to_string())),
    };
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes).map_err(|error| damaged(path, error.to_string()))?;
    serde_json::from_slice(&bytes).map(Some).map_err(|error| damaged(path, format!("line {}", error.line())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_remembered_when_content_was_asked_for_first_whatever_the_clock_does() {
        let at = |second| Timestamp::from_second(second).expect("a time of the test");
        let (mut memory, content) = (Memory::new(), Sha256Digest([7; 32]));
        for (now, since) in [(100, 0), (160, 60), (90, 0), (100, 10), (10_000, 9_910)] {
            assert_eq!(memory.asked_since(content, at(now)).as_secs(), since, "at {now}");
        }
        for number in 0..=u8::MAX {
            for other in 0..10 {
                memory.asked_since(Sha256Digest([number.max(8) ^ other; 32]), at(1));
                memory.came_ahead(Sha256Digest([other; 32]), Vec::new());
            }
        }
        assert!(memory.asked.len() <= MOST_ASKED && memory.ahead.len() == 10);
    }

    #[test]
    fn what_an_earlier_release_remembered_is_read() {
        let mut old = serde_json::to_value(Memory::new()).unwrap();
        for field in ["asked", "ahead"] {
            assert!(old.as_object_mut().unwrap().remove(field).is_some());
        }
        let read: Memory = serde_json::from_value(old).unwrap();
        assert!(read.asked.is_empty() && read.ahead.is_empty());
    }
}
