//! The scripts by which Setup wakes the client, when the new Windows is there or the old one is back. They hold paths and
//! nothing else, and stay until the restart after the end of the run (mission rows M61 to M63).

use std::path::{Path, PathBuf};

use catalog::digest::Sha256Digest;
use catalog::problem::Problem;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::whole;

/// What Setup tells the client through its script, in the folder of the client: a word, and the ticket.
const OUTCOME: &str = "setup-outcome";
/// For whom Setup works; the scripts repeat it, so that the word of another attempt is known for what it is.
const TICKET: &str = "setup-attempt";

/// What is known of a start of Setup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It never was started.
    NeverBegan,
    /// It was, and no script has said anything yet.
    Nothing,
    /// The new Windows is there.
    Upgraded,
    /// The old Windows is back.
    RolledBack,
}

/// Names one attempt of one step of one run.
pub fn ticket(run: u64, step: u32, attempt: u32) -> String {
    format!("{run}-{step}-{attempt}")
}

/// An upgrade begins, long before its Setup does: the word that is there is about another one.
pub fn forget(folder: &Path) {
    let _ = std::fs::remove_file(folder.join(OUTCOME));
}

/// Setup is about to be started for this ticket.
///
/// # Errors
/// `DATA_DIR_NOT_WRITABLE`.
pub fn begin(folder: &Path, ticket: &str) -> Result<(), Problem> {
    forget(folder);
    crate::keys::write_private(&folder.join(TICKET), ticket.as_bytes())
}

/// What became of the Setup that was started for this ticket.
pub fn told(folder: &Path, ticket: &str) -> Told {
    let read = |name| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    let (began, said) = (read(TICKET), read(OUTCOME));
    if began.trim() != ticket {
        return Told::NeverBegan;
    }
    match said.split_whitespace().collect::<Vec<_>>()[..] {
        ["upgraded", of] if of == ticket => Told::Upgraded,
        ["rolled-back", of] if of == ticket => Told::RolledBack,
        _ => Told::Nothing,
    }
}

/// The scripts of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scripts {
    /// Each of them.
    pub files: Vec<Script>,
    /// The start of the device in which their run ended: they go in the next one.
    pub ended_in: Option<String>,
}

/// One script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// What it is for.
    pub purpose: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its content.
    pub sha256: Sha256Digest,
    /// When it was written.
    pub written: Timestamp,
}

/// What the names end with, and how a script says that a word goes into a file and that the client is to go on.
fn text(folder: &Path, program: &Path, word: &str) -> (String, &'static str) {
    let (outcome, ticket) = (folder.join(OUTCOME), folder.join(TICKET));
    if cfg!(windows) {
        let text = format!(
            "@echo off\r\nset ticket=\r\nset /p ticket=<\"{}\"\r\n>\"{}\" echo {word} %ticket%\r\n\"{}\" client run --once --state-dir \"{}\"\r\n",
            ticket.display(),
            outcome.display(),
            program.display(),
            folder.display()
        );
        return (text, "cmd");
    }
    let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
    // Whoever starts the client at boot does so on these machines; the script only leaves its word.
    let (outcome, ticket) = (quoted(&outcome), quoted(&ticket));
    (format!("#!/bin/sh\nprintf '%s %s\\n' {word} \"$(cat {ticket})\" > {outcome}\n"), "sh")
}

/// Writes both scripts.
///
/// # Errors
/// `DATA_DIR_NOT_WRITABLE`.
pub fn write(folder: &Path, program: &Path, now: Timestamp) -> Result<Scripts, Problem> {
    let place = folder.join("scripts");
    let failed = |error: std::io::Error| whole::unwritable(&place, &error);
    crate::keys::private_folder(&place).map_err(failed)?;
    let mut files = Vec::new();
    for (purpose, name, word) in [
        ("the new Windows is there", "setupcomplete", "upgraded"),
        ("the old Windows is back", "setuprollback", "rolled-back"),
    ] {
        let (text, kind) = text(folder, program, word);
        let path = place.join(format!("{name}.{kind}"));
        crate::keys::write_private(&path, text.as_bytes())?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
        }
        let sha256 = Sha256Digest::of(text.as_bytes());
        files.push(Script { purpose: purpose.to_owned(), path, sha256, written: now });
    }
    Ok(Scripts { files, ended_in: None })
}

impl Script {
    /// That it could not be removed, for people.
    pub fn stays(&self, why: &std::io::Error) -> String {
        format!("the script `{}` of the last run cannot be removed: {why}", self.path.display())
    }
}

impl Scripts {
    /// Removes them, where the device has restarted since their run ended: those that are still there, and why. One that is gone
    /// already is removed.
    pub fn remove_after_restart(&self, boot: &str) -> Option<Vec<(Script, std::io::Error)>> {
        self.ended_in.as_ref().filter(|ended| *ended != boot)?;
        let stays = |script: &Script| match std::fs::remove_file(&script.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Some((script.clone(), error)),
            _ => None,
        };
        Some(self.files.iter().filter_map(stays).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_that_stays_is_no_removed_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut scripts = write(folder.path(), Path::new("spsync"), Timestamp::UNIX_EPOCH).unwrap();
        assert!(scripts.remove_after_restart("two").is_none(), "its run goes on");
        scripts.ended_in = Some("one".to_owned());
        assert!(scripts.remove_after_restart("one").is_none(), "the device has not restarted");
        // What is no file cannot be removed as one, whoever asks.
        let [gone, stuck] = &scripts.files[..] else { panic!("two scripts") };
        std::fs::remove_file(&gone.path).unwrap();
        std::fs::remove_file(&stuck.path).unwrap();
        std::fs::create_dir(&stuck.path).unwrap();
        let left = scripts.remove_after_restart("two").unwrap();
        assert_eq!(left.iter().map(|(script, _)| &script.path).collect::<Vec<_>>(), [&stuck.path]);
        assert!(left[0].0.stays(&left[0].1).contains("setuprollback"));
        std::fs::remove_dir(&stuck.path).unwrap();
        assert!(scripts.remove_after_restart("two").unwrap().is_empty());
    }

    #[test]
    fn only_the_word_about_this_very_attempt_counts() {
        let folder = tempfile::tempdir().unwrap();
        let scripts = write(folder.path(), Path::new("spsync"), Timestamp::UNIX_EPOCH).unwrap();
        let now = || told(folder.path(), &ticket(2, 3, 1));
        let setup_says = |which: usize| {
            let script = &scripts.files[which].path;
            let ran = std::process::Command::new("timeout").args(["9", "sh"]).arg(script).status();
            assert!(ran.unwrap().success());
        };
        setup_says(0);
        assert_eq!(now(), Told::NeverBegan, "somebody ran a script");
        for (run, step, attempt) in [(1, 3, 1), (2, 2, 1), (2, 3, 2)] {
            begin(folder.path(), &ticket(run, step, attempt)).unwrap();
            setup_says(0);
            assert_eq!(now(), Told::NeverBegan, "{run} {step} {attempt}");
            assert_eq!(told(folder.path(), &ticket(run, step, attempt)), Told::Upgraded);
        }
        // A word that came to be there after this one has begun.
        let old = std::fs::read(folder.path().join(OUTCOME)).unwrap();
        begin(folder.path(), &ticket(2, 3, 1)).unwrap();
        assert_eq!(now(), Told::Nothing);
        std::fs::write(folder.path().join(OUTCOME), old).unwrap();
        assert_eq!(now(), Told::Nothing);
        setup_says(1);
        assert_eq!(now(), Told::RolledBack);
        setup_says(0);
        assert_eq!(now(), Told::Upgraded);
        forget(folder.path());
        assert_eq!(now(), Told::Nothing);
    }
}
