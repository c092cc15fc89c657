//! Secrets of points and devices: tokens that enrol, keys that are enrolled.
//!
//! ```text
//! site                                              machine
//! token made, printed once, its hash kept  ──▶  token_file
//!                                               key made, kept in a file of its own
//! hashes kept                       ◀── token, hash of the key, and of the content key that follows from it
//! ```
//! A key never leaves its machine but in the head of a request to the site, which does not keep it; points are shown content keys
//! only. Secrets have no `Debug` that shows
//! them, come from files, and are in no argument, log or error.

mod enrol;

use std::fmt;
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use catalog::digest::Sha256Digest;
use catalog::problem::{Code, Problem};

pub use enrol::{Listed, Token, enrol, enrolled, keys as list, principal_of, revoke};

use crate::whole;

const BYTES: usize = 32;
/// What secrets begin with, so that scanners of repositories and people know them.
const PREFIX: &str = "spsync_";
/// More is in no file of a secret.
const LONGEST_FILE: u64 = 1024;

/// 256 random bits.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; BYTES]);

impl Secret {
    /// A new one.
    ///
    /// # Errors
    /// `INTERNAL` where the machine gives no random numbers.
    pub fn new() -> Result<Self, Problem> {
        let mut bytes = [0; BYTES];
        getrandom::fill(&mut bytes)
            .map_err(|error| Problem::new(Code::Internal, format!("no random numbers: {error}")))?;
        Ok(Self(bytes))
    }

    /// What may be kept of it elsewhere: the SHA-256 of its text.
    pub fn hash(&self) -> Sha256Digest {
        Sha256Digest::of(self.reveal().as_bytes())
    }

    /// The same of the content key that follows from it ([`dp::client::content_key`]).
    pub fn content_hash(&self) -> Sha256Digest {
        Sha256Digest::of(dp::client::content_key(&self.reveal()).as_bytes())
    }

    /// As it is written into files and heads. Whoever calls this gives it away.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(self.0))
    }

    /// The secret in a file.
    ///
    /// # Errors
    /// `CONFIG_UNREADABLE`, `CONFIG_INVALID` where there is none in it; never with its text.
    pub fn of_file(path: &Path) -> Result<Self, Problem> {
        let mut text = String::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(LONGEST_FILE).read_to_string(&mut text))
            .map_err(|error| {
                let message = format!("the secret in `{}` cannot be read", path.display());
                Problem::new(Code::ConfigUnreadable, message)
                    .because_of(Some(&error))
                    .help("the file must exist and be readable by the user of spsync: `ls -l` on it")
            })?;
        text.trim().parse().map_err(|_| {
            Problem::new(Code::ConfigInvalid, format!("`{}` holds no token or key of spsync", path.display()))
        })
    }

    /// The key in a file, made the first time: whole, durable, and only for us.
    ///
    /// # Errors
    /// `DATA_DIR_NOT_WRITABLE`, `CONFIG_INVALID`, `CONFIG_UNREADABLE`.
    pub fn of_own_file(path: &Path) -> Result<Self, Problem> {
        // Only what is surely not there is made: a disk that does not answer makes no other key.
        if !matches!(path.try_exists(), Ok(false)) {
            return Self::of_file(path);
        }
        let secret = Self::new()?;
        write_private(path, format!("{}\n", secret.reveal()).as_bytes())?;
        Ok(secret)
    }
}

impl FromStr for Secret {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX).ok_or(())?).map_err(|_| ())?;
        bytes.try_into().map(Self).map_err(|_| ())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A folder, with those around it that are missing, which only we may enter; one that is there becomes so.
///
/// # Errors
/// What the system said.
pub fn private_folder(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
}

/// Writes a file that only we may read (see [`whole`]).
///
/// # Errors
/// `DATA_DIR_NOT_WRITABLE`.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Problem> {
    whole::write(path, whole::OWN, bytes).map_err(|error| whole::unwritable(path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_reads_back_is_private_and_shows_itself_to_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let secret = Secret::of_own_file(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Secret::of_own_file(&path).unwrap(), secret);
        assert_eq!(secret.reveal().parse(), Ok(secret.clone()));
        assert!(!format!("{secret:?}").contains(&secret.reveal()[7..]));
        for wrong in ["", "spsync_", "spsync_AAAA", &secret.reveal()[7..], &format!("{}A", secret.reveal())] {
            assert!(wrong.parse::<Secret>().is_err(), "{wrong}");
        }
        std::fs::write(&path, "hunter2").unwrap();
        let problem = Secret::of_file(&path).unwrap_err();
        assert!(!problem.to_string().contains("hunter2"), "{problem}");
    }
}
