//! The scripts by which Setup wakes the client, when the new Windows is there or the old one is back. They hold paths and
//! nothing else, and stay until the restart after the end of the run (mission rows M61 to M63).

use std::path::{Path, PathBuf};

use catalog::digest::Sha256Digest;
use catalog::problem::{Code, Problem};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What Setup tells the client through its script, in the folder of the client.
pub const OUTCOME: &str = "setup-outcome";

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
    let outcome = folder.join(OUTCOME);
    if cfg!(windows) {
        let text = format!(
            "@echo off\r\n>\"{}\" echo {word}\r\n\"{}\" client run --once --state-dir \"{}\"\r\n",
            outcome.display(),
            program.display(),
            folder.display()
        );
        return (text, "cmd");
    }
    let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
    // Whoever starts the client at boot does so on these machines; the script only leaves its word.
    (format!("#!/bin/sh\nprintf '%s\\n' {word} > {}\n", quoted(&outcome)), "sh")
}

/// Writes both scripts.
///
/// # Errors
/// `DATA_DIR_NOT_WRITABLE`.
pub fn write(folder: &Path, program: &Path, now: Timestamp) -> Result<Scripts, Problem> {
    let place = folder.join("scripts");
    let failed = |error: std::io::Error| {
        Problem::new(Code::DataDirNotWritable, format!("`{}` cannot be written", place.display()))
            .because_of(Some(&error))
    };
    std::fs::create_dir_all(&place).map_err(failed)?;
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

impl Scripts {
    /// Removes them, where the device has restarted since their run ended. Whether they are gone.
    pub fn remove_after_restart(&self, boot: &str) -> bool {
        let over = self.ended_in.as_ref().is_some_and(|ended| ended != boot);
        if over {
            for script in &self.files {
                let _ = std::fs::remove_file(&script.path);
            }
        }
        over
    }
}
