//! A program whose system calls are watched, and disturbed at one of them: by `strace -e inject`.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::site::Ran;
use crate::surroundings::tool;

/// The tracer.
pub struct Strace(PathBuf);

/// What is done to one system call: the `nth` (from 1) of this name in a thread, among those on the paths that are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disturbance<'d> {
    /// Its name.
    pub call: &'d str,
    /// Which one.
    pub nth: usize,
    /// As `signal=SIGKILL`, which comes before the call has done anything, or `error=EIO`.
    pub with: &'d str,
}

/// One system call, from where it began to where it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The thread that made it.
    pub thread: u32,
    /// Its name.
    pub name: String,
    /// Its arguments as strace prints them: files of descriptors in `<>`, strings with `\x..` where they are not text.
    pub args: String,
    /// Number of the line with which it began.
    pub began: usize,
    /// Number of the line with which it ended; none where the program died in it.
    pub ended: Option<usize>,
}

/// How a watched program ended.
pub struct Watched {
    /// As every other; status 137 where it was killed.
    pub ran: Ran,
    /// Its calls, in the order of their beginnings.
    pub calls: Vec<Call>,
    /// Whether the disturbance came: calls are counted for each thread, and another one may have made it.
    pub disturbed: bool,
}

/// What changes files and names. Reading is not among it.
pub const CHANGES: &str = "write,pwrite64,pwritev,writev,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,\
    ftruncate,fchmod,link,linkat,mkdir";

impl Strace {
    /// `None`, and a printed line, where there is none, or it may not trace here.
    pub fn find() -> Option<Self> {
        let strace = tool("strace")?;
        let tries = std::process::Command::new(&strace).args(["-o", "/dev/null", "true"]).output();
        if tries.is_ok_and(|tried| tried.status.success()) {
            return Some(Self(strace));
        }
        println!("skipped: strace may not trace here");
        None
    }

    /// Runs `program` (a command that was not started) to its end; of its calls `traced` are told, of those only that have to
    /// do with one of `paths`.
    pub async fn run(
        &self,
        program: &Command,
        traced: &str,
        paths: &[PathBuf],
        disturbance: Option<Disturbance<'_>>,
    ) -> Watched {
        let log = tempfile::NamedTempFile::new().expect("a temporary file");
        let mut command = Command::new("timeout");
        command.args(["-k", "1", "60"]).arg(&self.0);
        command.args(["-f", "-qq", "-y", "-x", "-s", "4200", "-e", "signal=none", "-o"]).arg(log.path());
        command.arg("-e").arg(format!("trace={traced}"));
        for path in paths {
            command.arg("-P").arg(path);
        }
        if let Some(Disturbance { call, nth, with }) = disturbance {
            command.arg("-e").arg(format!("inject={call}:{with}:when={nth}"));
        }
        let program = program.as_std();
        command.arg("--").arg(program.get_program()).args(program.get_args());
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.expect("strace runs");
        let ran = Ran {
            status: output.status.code().unwrap_or(137),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        let log = std::fs::read_to_string(log.path()).unwrap_or_default();
        Watched { ran, calls: calls(&log), disturbed: log.contains("(INJECTED)") }
    }

    /// Starts `program` (a command that was not started), which is disturbed at its calls on one of `paths`. It lives a minute
    /// at most. What it says on standard error can be read.
    pub fn start(&self, program: &Command, paths: &[PathBuf], disturbances: &[Disturbance<'_>]) -> Disturbed {
        let log = tempfile::NamedTempFile::new().expect("a temporary file");
        let mut command = Command::new(&self.0);
        command.args(["-f", "-qq", "-e", "signal=none", "-o"]).arg(log.path());
        // Quicker; but a signal does not come so.
        if !disturbances.iter().any(|one| one.with.starts_with("signal")) {
            command.arg("--seccomp-bpf");
        }
        for path in paths {
            command.arg("-P").arg(path);
        }
        let traced: Vec<_> = disturbances.iter().map(|one| one.call).collect();
        command.arg("-e").arg(format!("trace={}", traced.join(",")));
        for Disturbance { call, nth, with } in disturbances {
            command.arg("-e").arg(format!("inject={call}:{with}:when={nth}"));
        }
        let program = program.as_std();
        command.args(["--", "timeout", "-k", "1", "60"]).arg(program.get_program()).args(program.get_args());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        Disturbed { process: command.spawn().expect("strace starts"), log }
    }
}

/// A program that runs and is disturbed.
pub struct Disturbed {
    /// The tracer; it ends as the program does.
    pub process: tokio::process::Child,
    log: tempfile::NamedTempFile,
}

impl Disturbed {
    /// How often it was disturbed so far.
    pub fn times(&self) -> usize {
        let log = std::fs::read_to_string(self.log.path()).unwrap_or_default();
        log.lines().filter(|line| line.contains("(INJECTED)") || line.contains("killed by SIGKILL")).count()
    }

    /// Waits until it has ended by itself; its exit status, 137 where it was killed.
    pub async fn ended(&mut self) -> i32 {
        let ended = tokio::time::timeout(std::time::Duration::from_secs(70), self.process.wait()).await;
        ended.expect("it lives a minute at most").expect("it can be waited for").code().unwrap_or(137)
    }

    /// Ends the program; the tracer itself ends after it.
    pub async fn stop(&mut self) {
        if let Some(id) = self.process.id() {
            let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
            for child in children.unwrap_or_default().split_whitespace() {
                let _ = Command::new("kill").args(["-TERM", child]).status().await;
            }
        }
        self.ended().await;
    }
}

/// Reads what strace wrote. A call that another thread interrupts has two lines.
fn calls(log: &str) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut open: Vec<(&str, usize)> = Vec::new();
    for (number, line) in log.lines().enumerate() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if rest.starts_with("<... ") {
            if let Some(at) = open.iter().position(|(other, _)| *other == thread) {
                calls[open.swap_remove(at).1].ended = Some(number);
            }
            continue;
        }
        let Some((name, args)) = rest.split_once('(') else { continue };
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            continue;
        }
        let unfinished = args.ends_with("<unfinished ...>");
        let died = args.ends_with("= ?");
        let ended = (!unfinished && !died).then_some(number);
        let (thread_id, name, args) = (thread.parse().unwrap_or_default(), name.to_owned(), args.to_owned());
        calls.push(Call { thread: thread_id, name, args, began: number, ended });
        if unfinished {
            open.push((thread, calls.len() - 1));
        }
    }
    calls
}

impl Call {
    /// The first file below `root` that this call is about, from there.
    pub fn file(&self, root: &Path) -> Option<PathBuf> {
        let root = format!("{}/", root.to_string_lossy());
        let (_, rest) = self.args.split_once(&root)?;
        let end = rest.find(['"', '>']).unwrap_or(rest.len());
        Some(PathBuf::from(&rest[..end]))
    }

    /// The name of this call and the room of the library or the database that it is about: what tells places in the program
    /// from each other, whatever is stored.
    pub fn place(&self, root: &Path) -> String {
        let root = root.to_string_lossy();
        let shape = |path: &str| {
            let names = path.trim_start_matches('/').split('/').map(|name| {
                let digits = name.bytes().take_while(u8::is_ascii_hexdigit).count();
                if digits == name.len() && digits == 2 {
                    "*".to_owned()
                } else if digits >= 40 {
                    format!(
                        "*{}",
                        name.rsplit_once('.').map_or_else(String::new, |(_, end)| format!(".{end}"))
                    )
                } else if let Some((of, _)) = name.split_once(".spsync-").filter(|_| name.ends_with(".part"))
                {
                    // A file that has no name of its own yet.
                    format!("{of}.spsync-*")
                } else {
                    name.to_owned()
                }
            });
            names.collect::<Vec<_>>().join("/")
        };
        let paths = self.args.split(root.as_ref()).skip(1);
        let named: Vec<_> =
            paths.map(|rest| shape(rest.split(['>', '"', ',']).next().unwrap_or(""))).collect();
        format!("{} {}", self.name, named.join(" → "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_with_its_interruptions() {
        let log = "\
            10 write(9</r/staging/ab.part>, \"a(\\x00\", 3 <unfinished ...>\n\
            11 fsync(4</r/x.db-wal>)             = 0\n\
            10 <... write resumed>)             = 3\n\
            10 rename(\"/r/staging/0123456789012345678901234567890123456789-5.part\", \"/r/blobs/ab/0123456789012345678901234567890123456789\") = ?\n\
            10 +++ killed by SIGKILL +++\n";
        let calls = calls(log);
        let told: Vec<_> = calls.iter().map(|call| (call.name.as_str(), call.began, call.ended)).collect();
        assert_eq!(told, [("write", 0, Some(2)), ("fsync", 1, Some(1)), ("rename", 3, None)]);
        let place = calls[2].place(Path::new("/r"));
        assert_eq!(place, "rename staging/*.part → blobs/*/*");
        let file = |call: &Call| call.file(Path::new("/r")).map(|file| file.display().to_string());
        assert_eq!(file(&calls[1]).as_deref(), Some("x.db-wal"));
        assert_eq!(file(&calls[0]).as_deref(), Some("staging/ab.part"));
        let coming = Call { args: "7</r/tls/.ca.pem.spsync-Ab12Cd.part>".to_owned(), ..calls[1].clone() };
        assert_eq!(coming.place(Path::new("/r")), "fsync tls/.ca.pem.spsync-*");
    }
}
