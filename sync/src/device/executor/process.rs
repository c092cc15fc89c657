//! Programs that outlive whoever started them: each leaves its exit code in a file, so that a client which is killed and
//! comes back still learns how they ended. A time-out ends the whole group of processes, and a program runs for as long as
//! anybody of its group does: the shell that watches it may be ended alone.
//!
//! ```text
//! mark.pid    which process it is, and when that began   mark.out    what it prints, for its owner alone
//! mark.exit   its exit code, once it has ended
//! ```
//! The program begins only after `mark.pid` is there: nobody runs of whom nobody knows. The files stay until whoever asked
//! has written down how it ended ([`Program::forget`]), or something else is begun ([`clear`]).

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::time::sleep;

use crate::keys;

/// How often is looked whether a program has ended.
const POLL: Duration = Duration::from_millis(20);
/// What a program gets to end by itself when its time is over.
const GRACE: Duration = Duration::from_secs(2);
/// Bytes of output that are kept.
const OUTPUT: u64 = 4_000;

/// All that a program leaves.
const KINDS: [&str; 5] = ["pid", "pid.part", "out", "exit", "exit.part"];
/// What all marks begin with.
pub const MARK: &str = "run-";

/// Waits for a word of the client, which has then written down who this is; runs the program, and leaves its exit code,
/// which appears whole or not at all. A client that dies before says nothing, and then nothing is run.
pub(super) const WRAPPER: &str = r#"read -r go || exit 1
"$@" > "$0.out" 2>&1 < /dev/null
code=$?
printf %s "$code" > "$0.exit.part" && mv "$0.exit.part" "$0.exit""#;
/// A command line that may hold a secret: it comes by the environment, which only its owner sees, and goes from there
/// before anything of it runs.
pub const SHELL: &str = r#"command=$SPSYNC_COMMAND; unset SPSYNC_COMMAND; eval "$command""#;
/// Its variable.
pub const COMMAND: &str = "SPSYNC_COMMAND";
/// What all that a program starts inherits: its mark. Numbers of processes are used again; this says whose they are.
const OURS: &str = "SPSYNC_RUN";

/// What is run.
#[derive(Debug, Clone)]
pub struct Program {
    /// Begins the names of the files that it leaves; used once.
    pub mark: PathBuf,
    /// The program and what it is told.
    pub line: Vec<String>,
    /// Where it starts.
    pub folder: Option<PathBuf>,
    /// What its environment has besides.
    pub environment: Vec<(String, String)>,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With this code.
    Exit(i64),
    /// It was ended with all that it had started.
    TimedOut,
}

impl Program {
    fn file(&self, kind: &str) -> PathBuf {
        with(&self.mark, kind)
    }

    /// Runs it to its end, or to the end of its time.
    ///
    /// # Errors
    /// It could not be started.
    pub async fn run(&self, limit: Duration) -> io::Result<Ended> {
        self.forget();
        if let Some(parent) = self.mark.parent() {
            keys::private_folder(parent)?;
        }
        // The shell writes into what is there: what a program prints may be secret.
        File::options().write(true).create_new(true).mode(0o600).open(self.file("out"))?;
        let mut command = Command::new("sh");
        command.arg("-c").arg(WRAPPER).arg(&self.mark).args(&self.line);
        command.envs(self.environment.iter().map(|(name, value)| (name, value))).env(OURS, &self.mark);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let mut child = command.spawn()?;
        let known = self.note(child.id()).and_then(|()| match child.stdin.take() {
            Some(mut told) => told.write_all(b"go\n"),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        });
        if let Err(error) = known {
            let _ = child.wait(); // it was told nothing, so it runs nothing
            return Err(error);
        }
        let until = Instant::now() + limit;
        loop {
            // Where the shell was ended alone, what it watched still works, and its code will never be known.
            if child.try_wait()?.is_some() && (self.exit().is_some() || self.survivor().is_none()) {
                return Ok(self.exit().unwrap_or(Ended::Exit(-1)));
            }
            if Instant::now() >= until {
                end_group(child.id()).await;
                let _ = child.wait();
                return Ok(self.exit().unwrap_or(Ended::TimedOut));
            }
            sleep(POLL).await;
        }
    }

    /// What became of it, where somebody else had started it: waits while it runs, and not longer than its starter would have.
    /// `None`: nobody knows.
    pub async fn look(&self, limit: Duration) -> Option<Ended> {
        let until = Instant::now() + limit.saturating_sub(self.age().unwrap_or_default());
        loop {
            if let Some(ended) = self.exit() {
                return Some(ended);
            }
            let Some(process) = self.survivor() else { return self.exit() };
            if Instant::now() >= until {
                end_group(process).await;
                return Some(self.exit().unwrap_or(Ended::TimedOut));
            }
            sleep(POLL).await;
        }
    }

    fn note(&self, process: u32) -> io::Result<()> {
        let began = Stat::of(process).map(|stat| stat.began).unwrap_or_default();
        let part = self.file("pid.part");
        std::fs::write(&part, format!("{process} {began}"))?;
        std::fs::rename(part, self.file("pid"))
    }

    /// Which process it was noted to be, and when that began.
    fn noted(&self) -> Option<(u32, u64)> {
        let text = std::fs::read_to_string(self.file("pid")).ok()?;
        let (process, began) = text.split_once(' ')?;
        Some((process.parse().ok()?, began.parse().ok()?))
    }

    /// How long ago it began, by a clock that nobody sets. It means nothing of a program from before a restart.
    fn age(&self) -> Option<Duration> {
        let (_, began) = self.noted()?;
        let text = std::fs::read_to_string("/proc/uptime").ok()?;
        let up: f64 = text.split_whitespace().next()?.parse().ok()?;
        let began = began as f64 / rustix::param::clock_ticks_per_second() as f64;
        Duration::try_from_secs_f64(up - began).ok()
    }

    /// Its group of processes, while anybody in it lives: the shell, or what that had started.
    fn survivor(&self) -> Option<u32> {
        let (group, began) = self.noted()?;
        // Looked for first, as that is one look: all others are found by going through every process of the device.
        let shell = Stat::of(group).filter(|stat| stat.lives && stat.began == began);
        let lives = shell.is_some_and(|_| self.was_told_to(group))
            || members(group)
                .any(|(process, stat)| process != group && stat.began >= began && self.has_marked(process));
        lives.then_some(group)
    }

    /// Whether a process is the shell of this program.
    fn was_told_to(&self, process: u32) -> bool {
        let line = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == self.mark.as_os_str().as_encoded_bytes())
    }

    /// Whether a process began with this program's environment.
    fn has_marked(&self, process: u32) -> bool {
        let environment = std::fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        let mut ours = OURS.as_bytes().to_vec();
        ours.push(b'=');
        ours.extend_from_slice(self.mark.as_os_str().as_encoded_bytes());
        environment.split(|byte| *byte == 0).any(|variable| variable == ours)
    }

    fn exit(&self) -> Option<Ended> {
        let text = std::fs::read_to_string(self.file("exit")).ok()?;
        text.trim().parse().ok().map(Ended::Exit)
    }

    /// The end of its output.
    pub fn output(&self) -> String {
        let mut text = Vec::new();
        if let Ok(mut file) = File::open(self.file("out")) {
            let length = file.metadata().map(|meta| meta.len()).unwrap_or_default();
            let _ = file.seek(SeekFrom::Start(length.saturating_sub(OUTPUT)));
            let _ = file.take(OUTPUT).read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Removes the files that it left.
    pub fn forget(&self) {
        for kind in KINDS {
            let _ = std::fs::remove_file(self.file(kind));
        }
    }
}

fn with(mark: &Path, kind: &str) -> PathBuf {
    let mut name = mark.as_os_str().to_owned();
    name.push(".");
    name.push(kind);
    PathBuf::from(name)
}

/// Ends what earlier programs with a mark in this folder still run, and removes what they left: before something else
/// is begun that works with the same files.
pub async fn clear(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let kind = KINDS.iter().find_map(|kind| name.strip_suffix(kind)?.strip_suffix('.'));
        let Some(mark) = kind.filter(|_| name.starts_with(MARK)) else { continue };
        let program =
            Program { mark: folder.join(mark), line: Vec::new(), folder: None, environment: Vec::new() };
        // What a program leaves in the background when it has ended is no business of ours.
        if program.exit().is_none()
            && let Some(group) = program.survivor()
        {
            tracing::warn!("processes of `{mark}`, group {group}, are ended: whoever started them is gone");
            end_group(group).await;
        }
        program.forget();
    }
}

async fn end_group(process: u32) {
    let Some(group) = i32::try_from(process).ok().and_then(Pid::from_raw) else { return };
    for signal in [Signal::TERM, Signal::KILL] {
        let _ = kill_process_group(group, signal);
        // Who was killed lives for a moment still, and may be writing: what is begun next comes after it.
        let until = Instant::now() + GRACE;
        while Instant::now() < until && members(process).next().is_some() {
            sleep(POLL).await;
        }
    }
}

/// Who of a group still works: who has ended and is waited for by nobody does not.
fn members(group: u32) -> impl Iterator<Item = (u32, Stat)> {
    let is_empty = i32::try_from(group)
        .ok()
        .and_then(Pid::from_raw)
        .is_none_or(|group| rustix::process::test_kill_process_group(group).is_err());
    let processes = std::fs::read_dir("/proc").ok().filter(|_| !is_empty).into_iter().flatten();
    let numbers = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    numbers
        .filter_map(|process| Some((process, Stat::of(process)?)))
        .filter(move |(_, stat)| stat.lives && stat.group == group)
}

/// What the system tells of a process.
struct Stat {
    lives: bool,
    group: u32,
    /// Ticks since the start of the device.
    began: u64,
}

impl Stat {
    fn of(process: u32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The name may hold anything, and ends with the last bracket; the third field follows.
        let mut fields = text.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?;
        let (group, began) = (fields.nth(1)?.parse().ok()?, fields.nth(16)?.parse().ok()?);
        Some(Self { lives: !matches!(state, "Z" | "X"), group, began })
    }
}
