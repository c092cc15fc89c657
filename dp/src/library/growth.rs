//! A file that arrives, for those who read it meanwhile: never a byte before it is verified.

use std::fs::File;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;

/// How far a file that arrives may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grown {
    /// Its first bytes are verified, piece by piece; so many of them.
    Verified(u64),
    /// All of it is verified and stored.
    Whole,
    /// It will not come. What was verified stays right, and nothing follows.
    Failed,
}

impl Grown {
    /// Bytes that may be read, of a file of `size` bytes.
    pub fn readable(self, size: u64) -> u64 {
        match self {
            Self::Verified(bytes) => bytes,
            Self::Whole => size,
            Self::Failed => 0,
        }
    }
}

/// One transfer as its followers see it.
#[derive(Debug)]
pub struct Growth {
    file: OnceLock<Arc<File>>,
    grown: watch::Sender<Grown>,
}

impl Default for Growth {
    fn default() -> Self {
        Self { file: OnceLock::new(), grown: watch::Sender::new(Grown::Verified(0)) }
    }
}

impl Growth {
    /// The file itself, once anything of it may be read. It stays the same file when it is stored.
    pub fn file(&self) -> Option<&Arc<File>> {
        self.file.get()
    }

    /// Waits until the byte at `offset` of a file of `size` bytes may be read: how far it may be read then. `None` where it
    /// will not come, or where nothing has changed for as long as `patience`.
    pub async fn beyond(&self, offset: u64, size: u64, patience: Duration) -> Option<u64> {
        let mut changes = self.watch();
        loop {
            let grown = *changes.borrow_and_update();
            match grown.readable(size) {
                readable if readable > offset => return Some(readable),
                _ if matches!(grown, Grown::Verified(_)) => {}
                _ => return None,
            }
            tokio::time::timeout(patience, changes.changed()).await.ok()?.ok()?;
        }
    }

    /// Tells of every change.
    pub fn watch(&self) -> watch::Receiver<Grown> {
        self.grown.subscribe()
    }

    /// Whether somebody waits for the first bytes of it.
    pub(super) fn is_waited_for(&self) -> bool {
        self.grown.receiver_count() > 0 && self.grown() == Grown::Verified(0)
    }

    /// How far it is now.
    pub fn grown(&self) -> Grown {
        *self.grown.borrow()
    }

    /// Says that the transfer has ended without the file, unless it has ended with it.
    pub fn fail(&self) {
        self.grown.send_if_modified(|grown| {
            let running = matches!(grown, Grown::Verified(_));
            if running {
                *grown = Grown::Failed;
            }
            running
        });
    }

    /// `file` is opened for this alone: a copy of the writer's descriptor would keep its lock.
    pub(super) fn set_file(&self, file: File) {
        let _ = self.file.set(Arc::new(file)); // the first one stays: it is the same file
    }

    pub(crate) fn verified(&self, bytes: u64) {
        self.grown.send_if_modified(|grown| match grown {
            Grown::Verified(before) if *before < bytes => {
                *before = bytes;
                true
            }
            _ => false,
        });
    }

    /// The bytes are stored. Where another transfer had stored them before, `file` is that one's.
    pub fn whole(&self, file: File) {
        self.set_file(file);
        self.grown.send_replace(Grown::Whole);
    }
}
