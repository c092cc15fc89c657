//! Files of which a part has arrived. They wait for whoever goes on with them, until somebody knows that nobody will: then their
//! part is dropped, unless a transfer works on it.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::SystemTime;

use catalog::digest::{Sha256Digest, Wanted};

use super::{Library, LibraryError, list, name_of, open_as_it_is, remove_if_there, staged, sync_folder};

/// A file of which a part has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its digest, as far as it is known by its SHA-256.
    pub sha256: Option<Sha256Digest>,
    /// Bytes that are on the disk.
    pub bytes: u64,
    /// When the last of them came.
    pub modified: SystemTime,
    path: PathBuf,
}

impl Part {
    fn at(path: PathBuf) -> Option<Self> {
        let name = name_of(&path).filter(|name| staged::is_staged_name(name))?;
        let (digest, _) = name.strip_suffix(".part")?.split_once('-')?;
        let sha256 = digest.parse().ok();
        let found = fs::symlink_metadata(&path).ok()?;
        Some(Self { sha256, bytes: on_disk(&found), modified: found.modified().ok()?, path })
    }
}

/// Where the system promised room for all of it, only a part of its length is there; and a short file takes a whole block.
fn on_disk(found: &Metadata) -> u64 {
    found.len().min(found.blocks() * 512)
}

impl Library {
    /// Every file of which a part has arrived.
    ///
    /// # Errors
    /// [`LibraryError::Io`].
    pub fn parts(&self) -> Result<Vec<Part>, LibraryError> {
        Ok(list(&self.inner.dir.join("staging"))?.into_iter().filter_map(Part::at).collect())
    }

    /// Bytes of `wanted` that have arrived, if it is not whole.
    pub fn arrived(&self, wanted: &Wanted) -> u64 {
        fs::symlink_metadata(staged::path_of(&self.inner.dir, wanted))
            .map_or(0, |found| on_disk(&found).min(wanted.size))
    }

    /// Whether a part is what has arrived of `wanted`.
    pub fn is_part_of(&self, part: &Part, wanted: &Wanted) -> bool {
        part.path == staged::path_of(&self.inner.dir, wanted)
    }

    /// Whether a transfer works on it.
    pub fn is_at_work_on(&self, part: &Part) -> bool {
        matches!(hold(part), Ok(None))
    }

    /// Drops what has arrived of `wanted`, unless a transfer works on it; whether it is gone.
    ///
    /// # Errors
    /// [`LibraryError::Io`].
    pub fn abandon(&self, wanted: &Wanted) -> Result<bool, LibraryError> {
        Part::at(staged::path_of(&self.inner.dir, wanted)).map_or(Ok(true), |part| self.drop_part(&part))
    }

    /// Drops it, unless a transfer works on it; whether it is gone. Who sends what has arrived of it has it open.
    ///
    /// # Errors
    /// [`LibraryError::Io`].
    pub fn drop_part(&self, part: &Part) -> Result<bool, LibraryError> {
        let failed = |act| LibraryError::io(act, &part.path);
        match hold(part) {
            Ok(None) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(failed("lock")(error)),
            // Under its lock: a transfer that begins at this moment finds that its file has lost its name, and takes another one.
            Ok(Some(_held)) => {
                remove_if_there(&part.path.with_extension("json"))?;
                remove_if_there(&part.path)?;
            }
        }
        sync_folder(&part.path)?;
        Ok(true)
    }
}

/// The file, locked; `None` where somebody else has locked it, or has put another one in its place.
fn hold(part: &Part) -> io::Result<Option<File>> {
    let file = open_as_it_is(&part.path)?;
    match file.try_lock() {
        Ok(()) => Ok(staged::is_named(&file, &part.path).then_some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}
