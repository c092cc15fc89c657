//! Content that is not taken for what its name says.
//!
//! What is found bad is moved away. A disk may not let go of it, and whoever knows that it is bad may be started anew: so what
//! nobody has recorded is read before it is believed, once.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use catalog::digest::Sha256Digest;

use super::{Identity, Library, LibraryError, Verdict, changed};

/// Why a content is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    /// Nobody has recorded it: a process died before it did, or after it had taken that back.
    Unrecorded,
    /// It was found bad.
    Bad,
}

/// Contents that are not believed.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    all: Mutex<HashMap<Sha256Digest, Doubt>>,
    /// What was found good and could not be written down: this very file.
    good: Mutex<HashMap<Sha256Digest, Identity>>,
}

impl Doubts {
    fn lock(&self) -> MutexGuard<'_, HashMap<Sha256Digest, Doubt>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This file was read, and is right.
    pub(super) fn seen_good(&self, digest: Sha256Digest, file: Identity) {
        self.good.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, file);
    }

    /// Whether it was.
    pub(super) fn was_seen_good(&self, digest: Sha256Digest, file: &Identity) -> bool {
        self.good.lock().unwrap_or_else(PoisonError::into_inner).get(&digest) == Some(file)
    }

    /// These are read before they are believed.
    pub(super) fn unrecorded(&self, contents: impl Iterator<Item = Sha256Digest>) {
        self.lock().extend(contents.map(|digest| (digest, Doubt::Unrecorded)));
    }

    /// It was found bad, and may still be there.
    pub(super) fn bad(&self, digest: Sha256Digest) {
        self.lock().insert(digest, Doubt::Bad);
    }

    /// It is gone, or it is right.
    pub(super) fn end(&self, digest: Sha256Digest) {
        self.lock().remove(&digest);
    }

    /// Whether there is any.
    pub(super) fn any(&self, digest: Sha256Digest) -> bool {
        self.lock().contains_key(&digest)
    }
}

impl Library {
    /// Whether a content that is there is what its name says, as far as anybody knows. Reads all of it where nobody has recorded it:
    /// that may take long, and is done once.
    pub(super) fn is_believed(&self, digest: Sha256Digest, found: &fs::Metadata) -> bool {
        let doubts = &self.inner.doubts;
        let doubt = doubts.lock().get(&digest).copied();
        match doubt {
            None if self.differs(digest, found).is_none() => true,
            Some(Doubt::Bad) => false,
            None | Some(Doubt::Unrecorded) => match self.verify(digest) {
                Ok(Verdict::Good) => {
                    doubts.end(digest);
                    true
                }
                // What could not be read for want of something else is asked again.
                Err(error) if !error.is_damage() => false,
                Ok(_) | Err(_) => {
                    doubts.bad(digest);
                    false
                }
            },
        }
    }

    /// Takes nothing that is here for what its name says before it was read, but for `recorded` contents.
    ///
    /// # Errors
    /// [`LibraryError::Io`].
    pub fn believe_only(&self, recorded: &HashSet<Sha256Digest>) -> Result<(), LibraryError> {
        let here = self.names()?;
        self.inner.doubts.unrecorded(here.into_iter().filter(|digest| !recorded.contains(digest)));
        Ok(())
    }

    /// What is here, is not among the `recorded`, and came more than `age` before `now`: whoever was to record it is gone.
    ///
    /// # Errors
    /// [`LibraryError::Io`].
    pub fn unrecorded(
        &self,
        recorded: &HashSet<Sha256Digest>,
        age: Duration,
        now: SystemTime,
    ) -> Result<Vec<Sha256Digest>, LibraryError> {
        let mut all = self.names()?;
        all.retain(|digest| {
            !recorded.contains(digest)
                && fs::symlink_metadata(self.blob(*digest)).is_ok_and(|found| {
                    found.is_file() && now.duration_since(changed(&found)).is_ok_and(|old| old > age)
                })
        });
        Ok(all)
    }
}
