//! Bytes of a file that are not in memory: read in on the blocking pool, so that no other client waits for a disk.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::task::JoinHandle;

use super::open::OpenContent;

/// How often a step is read in before its bytes are taken as they were read: memory may be so short that they are gone again.
const READ_INS: u8 = 2;

/// The most bytes that are kept so.
const KEPT: usize = 256 * 1024;
/// Bytes of one read whose bytes nobody looks at.
const LOOK: usize = 64 * 1024;

/// Bytes that were not in memory.
#[derive(Debug)]
pub(super) struct Cold {
    content: Arc<OpenContent>,
    offset: u64,
    tries: u8,
    reading: Option<JoinHandle<io::Result<Vec<u8>>>>,
    bytes: Vec<u8>,
}

impl Cold {
    /// Starts reading in. The bytes themselves are kept only where they were gone again before, as `tries` says.
    pub(super) fn read_in(content: Arc<OpenContent>, offset: u64, length: usize, tries: u8) -> Self {
        let file = content.file().clone();
        let left = usize::try_from(content.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut length = length.min(left);
        let reading = tokio::task::spawn_blocking(move || {
            if tries > READ_INS {
                let mut bytes = vec![0; length.min(KEPT)];
                file.read_exact_at(&mut bytes, offset)?;
                return Ok(bytes);
            }
            let (mut bytes, mut at) = (vec![0; length.min(LOOK)], offset);
            while length > 0 {
                let count = length.min(LOOK);
                file.read_exact_at(&mut bytes[..count], at)?;
                (at, length) = (at + count as u64, length - count);
            }
            Ok(Vec::new())
        });
        Self { content, offset, tries, reading: Some(reading), bytes: Vec::new() }
    }

    pub(super) fn is_reading(&self) -> bool {
        self.reading.is_some()
    }

    /// How often this place was read in already.
    pub(super) fn tries_at(&self, offset: u64) -> u8 {
        if self.offset == offset { self.tries } else { 0 }
    }

    pub(super) fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(reading) = &mut self.reading {
            let read = ready!(Pin::new(reading).poll(context));
            self.reading = None;
            let read = read.map_err(io::Error::other)?;
            self.bytes = read.inspect_err(|error| self.content.failed(error))?;
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn bytes_at(&self, content: &Arc<OpenContent>, offset: u64) -> Option<&[u8]> {
        let skip = usize::try_from(offset.checked_sub(self.offset)?).ok()?;
        self.bytes.get(skip..).filter(|bytes| !bytes.is_empty() && Arc::ptr_eq(content, &self.content))
    }
}

#[cfg(test)]
mod tests {
    use super::super::doubt::Doubts;
    use super::*;

    #[tokio::test]
    async fn what_cannot_be_read_in_is_doubted() {
        let (folder, doubts) = (tempfile::tempdir().unwrap(), Arc::new(Doubts::default()));
        let content = OpenContent::for_test(folder.path(), b"0123456789").doubting(&doubts);
        let read_in = |length| Cold::read_in(content.clone(), 0, length, 1);
        let mut cold = read_in(10);
        std::future::poll_fn(|context| cold.poll_read(context)).await.unwrap();
        assert!(!doubts.are_any());
        std::fs::write(folder.path().join("file"), b"01234").unwrap();
        let mut cold = read_in(10);
        assert!(std::future::poll_fn(|context| cold.poll_read(context)).await.is_err());
        assert!(doubts.are_any());
    }
}
