//! Bad content that was set aside: for whoever wants to know what happened, for a week, and only while nobody wants its room.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use catalog::digest::Sha256Digest;

use super::{Library, LibraryError, changed, list, remove_if_there, sync_folder_if_there};

/// How long it stays.
const STAYS: Duration = Duration::from_secs(7 * 24 * 3_600);

/// How much is set aside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Aside {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Library {
    fn quarantine(&self) -> PathBuf {
        self.inner.dir.join("quarantine")
    }

    /// Takes bad content out of use, and keeps it for whoever wants to know what happened.
    ///
    /// # Errors
    /// [`LibraryError::Io`].
    pub fn set_aside(&self, digest: Sha256Digest) -> Result<(), LibraryError> {
        // Where it cannot be moved, nobody takes it for what its name says all the same.
        self.inner.doubts.bad(digest);
        let (path, aside) = (self.blob(digest), self.quarantine().join(digest.to_string()));
        match fs::rename(&path, &aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(LibraryError::io("set aside", &path)(error));
            }
            _ => {}
        }
        self.inner.holders.let_go(digest);
        remove_if_there(&self.fanned("hashes", digest))?;
        remove_if_there(&self.fanned("maps", digest))?;
        sync_folder_if_there(&path)?;
        self.inner.doubts.end(digest);
        Ok(())
    }

    /// How much is set aside.
    ///
    /// # Errors
    /// [`LibraryError::Io`].
    pub fn aside(&self) -> Result<Aside, LibraryError> {
        let found = self.set_aside_files()?;
        Ok(Aside { files: found.len() as u64, bytes: found.iter().map(|(_, found)| found.len()).sum() })
    }

    /// Removes what was set aside more than a week before `now`.
    ///
    /// # Errors
    /// [`LibraryError::Io`].
    pub fn forget_aside(&self, now: SystemTime) -> Result<(), LibraryError> {
        for (path, found) in self.set_aside_files()? {
            if now.duration_since(changed(&found)).is_ok_and(|age| age > STAYS) {
                remove_if_there(&path)?;
            }
        }
        Ok(())
    }

    /// Bytes free on its file system. Where so many are `needed` beside those that stay free and are not there, what is set aside goes:
    /// before anything good does, and before anybody is told that there is no room.
    ///
    /// # Errors
    /// [`LibraryError::Io`].
    pub fn free_for(&self, needed: u64) -> Result<u64, LibraryError> {
        let free = self.free()?;
        if needed == 0 || needed.saturating_add(self.inner.settings.min_free) <= free {
            return Ok(free);
        }
        for (path, _) in self.set_aside_files()? {
            remove_if_there(&path)?;
        }
        self.free()
    }

    /// Bytes free on its file system, and those that are taken by what arrives.
    ///
    /// # Errors
    /// [`LibraryError::Io`].
    pub fn free_or_arriving(&self) -> Result<u64, LibraryError> {
        let arriving = self.arriving()?;
        Ok(self.free()?.saturating_add(arriving))
    }

    /// All that was set aside. What somebody else put there is no file of ours, or has another name.
    fn set_aside_files(&self) -> Result<Vec<(PathBuf, fs::Metadata)>, LibraryError> {
        let found = |path: PathBuf| {
            let found = fs::symlink_metadata(&path).ok().filter(|found| !found.is_dir())?;
            super::is_digest(&path).then_some((path, found))
        };
        match fs::exists(self.quarantine()) {
            Ok(true) => Ok(list(&self.quarantine())?.into_iter().filter_map(found).collect()),
            _ => Ok(Vec::new()),
        }
    }
}
