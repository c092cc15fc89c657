//! Who keeps contents open to serve them again. The disk has the room of a file back when nobody has it open any more: so whoever
//! removes a content tells them.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use catalog::digest::Sha256Digest;

use super::Library;

/// Keeps contents open that nobody may ask for again.
pub(crate) trait KeepsOpen: Send + Sync {
    /// This one has lost its name. Told on a thread that may block.
    fn let_go(&self, content: Sha256Digest);
}

/// All that keep contents of one library open.
#[derive(Default)]
pub(super) struct Holders(Mutex<Vec<Weak<dyn KeepsOpen>>>);

impl Holders {
    /// A content has lost its name.
    pub(super) fn let_go(&self, content: Sha256Digest) {
        let holders = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        holders.iter().filter_map(Weak::upgrade).for_each(|holder| holder.let_go(content));
    }
}

impl fmt::Debug for Holders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Holders")
    }
}

impl Library {
    /// From now on `holder` is told of what goes, as long as it lives.
    pub(crate) fn tell(&self, holder: Arc<dyn KeepsOpen>) {
        let mut holders = self.inner.holders.0.lock().unwrap_or_else(PoisonError::into_inner);
        holders.retain(|holder| holder.strong_count() > 0);
        holders.push(Arc::downgrade(&holder));
    }
}
