//! Content that goes by hand, where the line is too thin or there is none: prestaged files for distribution points, and
//! stand-alone media for devices (mission rows M41 to M46).
//!
//! ```text
//! task sequence, package, image, application ──▶ what it needs ──▶ is it on the chosen point?
//!     ──▶ one file: a list, then the bytes  (prestage)        ──▶ read back on a point: all of it verified, then taken in
//!     ──▶ one folder that appears whole     (media)           ──▶ read back anywhere: `media verify`
//! ```
//! Every byte is verified while it is copied and again when it is read. What is half made goes: a file or folder of the
//! wanted name is there whole, or not at all.

mod content;
pub mod log;
mod media;
mod prestage;
mod take_in;
mod tar;
mod task;
mod verify;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use catalog::problem::{Code, Problem};

pub use media::{MEDIA_TOML, Made, Medium, POLICY, create as media};
pub use prestage::{Manifest, Prestaged, create as prestage, look_through};
pub use take_in::{TakenIn, take_in};
pub use verify::{Verified, contents, verify};

/// What is asked of the creation of media.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct NewMedia {
    /// Id or name of the task sequence.
    pub sequence: String,
    /// The staging folder.
    pub folder: PathBuf,
    /// The distribution point that the content is to be on; the site's own if not given.
    #[serde(default)]
    pub dp: Option<String>,
    /// It goes onto a stick with FAT32.
    #[serde(default)]
    pub usb: bool,
    /// Its label.
    #[serde(default)]
    pub label: Option<String>,
}

/// The most files that go by hand together: what is made and what is read have one limit.
pub(crate) const MOST_FILES: usize = 20_000;
/// The most bytes of a list of them.
pub(crate) const LARGEST_LIST: u64 = 4 << 20;

/// Refuses what no reader would take, before any of it is written. Pure.
///
/// # Errors
/// `CARRIED_TOO_MUCH`.
pub(crate) fn readable(files: usize, list: usize) -> Result<(), Problem> {
    let message = match (files, list as u64) {
        (files, _) if files > MOST_FILES => {
            format!("{files} files, at most {MOST_FILES} go by hand together")
        }
        (_, list) if list > LARGEST_LIST => {
            format!("the list of its files has {list} bytes, at most {LARGEST_LIST} are read")
        }
        _ => return Ok(()),
    };
    Err(Problem::new(Code::CarriedTooMuch, message).keeping("nothing was written"))
}

/// Ends blocking work when the task that waits for it goes: a cancelled task leaves nothing at work.
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    pub(crate) fn told(&self) -> Told {
        Told(self.0.clone())
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whether work is to end.
#[derive(Clone, Default)]
pub(crate) struct Told(Arc<AtomicBool>);

impl Told {
    /// # Errors
    /// `CANCELLED` once nobody waits any more.
    pub(crate) fn check(&self) -> Result<(), Problem> {
        match self.0.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(Problem::new(Code::Cancelled, "nobody waits for it any more")),
        }
    }
}

pub(crate) fn disk(act: &str, path: &std::path::Path, error: &std::io::Error) -> Problem {
    let code = if crate::whole::is_full(error) { Code::DiskFull } else { Code::DiskError };
    Problem::new(code, format!("`{}` cannot be {act}", path.display())).because_of(Some(error))
}

/// Refuses where a folder's file system has not enough room.
///
/// # Errors
/// `DISK_FULL`, `DISK_ERROR`.
pub(crate) fn enough_room(folder: &std::path::Path, needed: u64) -> Result<(), Problem> {
    let found = rustix::fs::statvfs(folder).map_err(|error| disk("looked at", folder, &error.into()))?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    if needed <= free {
        return Ok(());
    }
    let message = format!(
        "`{}` needs {needed} bytes, and {free} are free: short by {}",
        folder.display(),
        needed - free
    );
    Err(Problem::new(Code::DiskFull, message).keeping("nothing was written"))
}

/// The first folder above `path` that is there.
pub(crate) fn standing(path: &std::path::Path) -> &std::path::Path {
    path.ancestors().find(|folder| folder.is_dir()).unwrap_or(std::path::Path::new("/"))
}
