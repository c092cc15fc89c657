//! What this machine has of a file in other content, as a source.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::fault::Fault;
use crate::delta::Reuse;

/// Bytes that are read at once.
const STRIDE: usize = 512 * 1024;

/// A part of the file, block by block. It ends early where the bytes have changed.
pub(super) struct EarlierBody {
    reuse: Arc<Reuse>,
    rest: Range<u64>,
}

impl EarlierBody {
    pub(super) fn new(reuse: Arc<Reuse>, rest: Range<u64>) -> Self {
        Self { reuse, rest }
    }

    /// The next bytes; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        let (reuse, rest) = (self.reuse.clone(), self.rest.clone());
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::new();
            while bytes.len() < STRIDE && (bytes.len() as u64) < rest.end - rest.start {
                match reuse.read(rest.start + bytes.len() as u64) {
                    Some(more) => bytes.extend_from_slice(&more),
                    None => break,
                }
            }
            bytes.truncate(usize::try_from(rest.end - rest.start).unwrap_or(usize::MAX));
            bytes
        });
        let bytes = read.await.map_err(|stopped| Fault::Failed(stopped.to_string()))?;
        self.rest.start += bytes.len() as u64;
        Ok((!bytes.is_empty()).then(|| bytes.into()))
    }
}
