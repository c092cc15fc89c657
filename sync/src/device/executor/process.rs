//! Programs that outlive whoever started them: each leaves its exit code in a file, so that a client which is killed and
//! comes back still learns how they ended. A time-out ends the whole group of processes.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::time::sleep;

/// How often is looked whether a program has ended.
const POLL: Duration = Duration::from_millis(20);
/// What a program gets to end by itself when its time is over.
const GRACE: Duration = Duration::from_secs(2);
/// Bytes of output that are kept.
const OUTPUT: u64 = 4_000;

/// Leaves the number of its process, runs the program, and leaves its exit code; each file appears whole or not at all.
const WRAPPER: &str = r#"printf %s "$$" > "$0.pid.part" && mv "$0.pid.part" "$0.pid"
"$@" > "$0.out" 2>&1 < /dev/null
code=$?
printf %s "$code" > "$0.exit.part" && mv "$0.exit.part" "$0.exit""#;
/// A command line that may hold a secret: it comes by the environment, which only its owner sees, and goes from there
/// before anything of it runs.
pub const SHELL: &str = r#"command=$SPSYNC_COMMAND; unset SPSYNC_COMMAND; eval "$command""#;
/// Its variable.
pub const COMMAND: &str = "SPSYNC_COMMAND";

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
        for kind in ["pid", "out", "exit"] {
            let _ = std::fs::remove_file(self.file(kind));
        }
        if let Some(parent) = self.mark.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut command = Command::new("sh");
        command.arg("-c").arg(WRAPPER).arg(&self.mark).args(&self.line);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let mut child = command.spawn()?;
        let until = Instant::now() + limit;
        loop {
            if child.try_wait()?.is_some() {
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

    /// What became of it, where somebody else had started it: waits while it runs. `None`: nobody knows.
    pub async fn look(&self, limit: Duration) -> Option<Ended> {
        let until = Instant::now() + limit;
        loop {
            if let Some(ended) = self.exit() {
                return Some(ended);
            }
            let process = std::fs::read_to_string(self.file("pid")).ok()?.trim().parse::<u32>().ok()?;
            if !self.is_ours(process) {
                return self.exit();
            }
            if Instant::now() >= until {
                end_group(process).await;
                return Some(self.exit().unwrap_or(Ended::TimedOut));
            }
            sleep(POLL).await;
        }
    }

    /// Numbers of processes are used again: only one that was told our mark is ours.
    fn is_ours(&self, process: u32) -> bool {
        let line = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        let mark = self.mark.as_os_str().as_encoded_bytes();
        line.split(|byte| *byte == 0).any(|word| word == mark)
    }

    fn exit(&self) -> Option<Ended> {
        let text = std::fs::read_to_string(self.file("exit")).ok()?;
        text.trim().parse().ok().map(Ended::Exit)
    }

    /// The end of its output; then nothing of it stays.
    pub fn take_output(&self) -> String {
        let mut text = Vec::new();
        if let Ok(mut file) = File::open(self.file("out")) {
            let length = file.metadata().map(|meta| meta.len()).unwrap_or_default();
            let _ = file.seek(SeekFrom::Start(length.saturating_sub(OUTPUT)));
            let _ = file.take(OUTPUT).read_to_end(&mut text);
        }
        self.forget();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Removes the files that it left.
    pub fn forget(&self) {
        for kind in ["pid", "pid.part", "out", "exit", "exit.part"] {
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

async fn end_group(process: u32) {
    let Some(group) = i32::try_from(process).ok().and_then(Pid::from_raw) else { return };
    let _ = kill_process_group(group, Signal::TERM);
    let until = Instant::now() + GRACE;
    while Instant::now() < until && rustix::process::test_kill_process_group(group).is_ok() {
        sleep(POLL).await;
    }
    let _ = kill_process_group(group, Signal::KILL);
}
