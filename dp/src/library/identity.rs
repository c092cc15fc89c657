//! Which file it is: a name may be of another one by now.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use catalog::digest::Sha256Digest;

use super::Library;

/// What tells a file from another one under the same name, and from itself before it was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
    mode: u32,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    /// Names. Who takes one away, or gives the file another one, changes `changed` as well.
    names: u64,
}

impl Identity {
    /// What an open file is now. One system call that follows no path, at a fifth of the price of one that does.
    pub(crate) fn now(file: &File) -> Option<Self> {
        let found = rustix::fs::fstat(file).ok()?;
        Some(Self {
            device: found.st_dev,
            inode: found.st_ino,
            mode: found.st_mode,
            size: found.st_size as u64,
            modified: (found.st_mtime, found.st_mtime_nsec as i64),
            changed: (found.st_ctime, found.st_ctime_nsec as i64),
            names: found.st_nlink as u64,
        })
    }

    pub(crate) fn of(found: &fs::Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            mode: found.mode(),
            size: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
            names: found.nlink(),
        }
    }

    /// What has this name now, if anything has; a link is none but itself.
    pub fn at(path: &Path) -> Option<Self> {
        Some(Self::of(&fs::symlink_metadata(path).ok()?))
    }

    /// Whether it is the same file, whatever was done to it since.
    pub fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

impl Library {
    /// Which file has the name of a content now, if any has.
    pub fn identity(&self, digest: Sha256Digest) -> Option<Identity> {
        Identity::at(&self.blob(digest))
    }

    /// Whether another file has the name of a content than the one that was `seen`; `None`: than none at all.
    pub fn is_another(&self, digest: Sha256Digest, seen: Option<&Identity>) -> bool {
        self.identity(digest).is_some_and(|now| seen.is_none_or(|seen| !now.is_same_file(seen)))
    }
}
