//! Why the library could not do something.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use catalog::digest::{Mismatch, Sha256Digest};
use catalog::problem::{Code, Coded};

/// Why the library could not do something.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// A file or folder of the library cannot be read or written.
    #[error("failed to {act} `{}`", path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The disk has no room.
    #[error(
        "the content library has {free} bytes free, of which {kept} are kept free, and {needed} are needed"
    )]
    Full {
        /// Bytes still to come.
        needed: u64,
        /// Bytes free.
        free: u64,
        /// Bytes that are never used (`[download] min_free`).
        kept: u64,
    },
    /// Another transfer works on the same file.
    #[error("another transfer works on `{}`", path.display())]
    Busy {
        /// The staged file.
        path: PathBuf,
    },
    /// What is stored is not what its name says.
    #[error("the stored content {digest} is damaged: {what}")]
    Corrupt {
        /// Its name.
        digest: Sha256Digest,
        /// What is wrong.
        what: Damage,
    },
    /// A local file is not what was wanted.
    #[error("`{}` is not what was wanted", path.display())]
    Unwanted {
        /// The local file.
        path: PathBuf,
        /// How it differs.
        source: Mismatch,
    },
}

impl LibraryError {
    pub(crate) fn io(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { act, path, source }
    }

    /// Whether it says that the bytes are lost: what stands there is no file of ours, or the disk cannot read it. Anything else,
    /// as too many open files, says nothing about them.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Corrupt { .. } => true,
            Self::Io { source, .. } => is_loss(source),
            _ => false,
        }
    }
}

/// The same of reading an open file: the disk cannot, or the file has become shorter.
pub(crate) fn is_loss(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
        || error.kind() == io::ErrorKind::UnexpectedEof
}

impl Coded for LibraryError {
    fn code(&self) -> Code {
        match self {
            Self::Io { source, .. }
                if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
            {
                Code::DiskFull
            }
            Self::Io { .. } => Code::DiskError,
            Self::Full { .. } => Code::DiskFull,
            Self::Busy { .. } => Code::ContentBusy,
            Self::Corrupt { .. } => Code::ContentCorrupt,
            Self::Unwanted { source: Mismatch::Size { .. }, .. } => Code::SizeMismatch,
            Self::Unwanted { .. } => Code::HashMismatch,
        }
    }
}

/// How stored content differs from what its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// A link stands in its place. It is not followed.
    Link,
    /// Something else than a plain file stands in its place.
    NotAFile,
    /// It has grown or shrunk.
    Size,
    /// Its bytes were changed.
    Digest,
    /// It was written to since it was hashed: whether its bytes are the same, nobody knows.
    Touched,
    /// It is not there.
    Missing,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Link => "it was replaced by a link",
            Self::NotAFile => "it is no plain file",
            Self::Size => "it has another size than when it was stored",
            Self::Digest => "its bytes have another digest",
            Self::Touched => "it was written to after it was verified, and has to be read again",
            Self::Missing => "it is not in the library",
        })
    }
}
