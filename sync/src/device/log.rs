//! The log of a device: one line for each thing, for people, by the name that administrators know. No secret gets in.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::variables::Masker;

/// Then the file is put aside, and the one before it goes.
const LARGEST: u64 = 4 << 20;

/// `logs/smsts.log` below the folder of the client.
pub fn path(folder: &Path) -> PathBuf {
    folder.join("logs").join("smsts.log")
}

/// Where lines go.
#[derive(Default)]
pub struct Log {
    path: PathBuf,
    file: Option<File>,
    /// The secrets of the run.
    pub masker: Masker,
}

impl Log {
    /// Opens it. Without a log the client works all the same.
    pub fn open(folder: &Path) -> Self {
        let path = path(folder);
        if let Some(parent) = path.parent() {
            let _ = crate::keys::private_folder(parent);
        }
        let file = File::options().create(true).append(true).open(&path).ok();
        Self { path, file, masker: Masker::default() }
    }

    /// Writes a line: time, component, what it is about, and the text.
    pub fn line(&mut self, now: Timestamp, component: &str, about: &str, text: &str) {
        let Some(file) = &mut self.file else { return };
        let text: String =
            self.masker.mask(text).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let _ = writeln!(file, "{now:.3}  {component:<16} {about:<9} {text}");
        if file.metadata().is_ok_and(|meta| meta.len() > LARGEST) {
            let aside = self.path.with_extension("lo_");
            let _ = std::fs::rename(&self.path, aside);
            self.file = File::options().create(true).append(true).open(&self.path).ok();
        }
    }
}
