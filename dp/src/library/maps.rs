//! Maps of blocks, beside the content that they are of.

use std::fs;
use std::io::BufReader;

use catalog::digest::Sha256Digest;

use super::{Library, LibraryError, whole};
use crate::delta::BlockMap;

impl Library {
    /// Whether the map of a content was made.
    pub fn has_block_map(&self, digest: Sha256Digest) -> bool {
        self.fanned("maps", digest).exists()
    }

    /// The map of a content, as bytes, if it was made.
    pub fn block_map(&self, digest: Sha256Digest) -> Option<Vec<u8>> {
        let size = fs::symlink_metadata(self.blob(digest)).ok()?.len();
        let bytes = fs::read(self.fanned("maps", digest)).ok()?;
        BlockMap::decode(&bytes, size).map(|_| bytes)
    }

    /// Makes the map of a content whose hashes are known, by reading it once while it may `go_on`. Whether there is one now.
    ///
    /// # Errors
    /// [`LibraryError::Io`], [`LibraryError::Corrupt`].
    pub fn make_block_map(
        &self,
        digest: Sha256Digest,
        go_on: impl Fn() -> bool,
    ) -> Result<bool, LibraryError> {
        let Some(print) = self.known_fingerprint(digest) else { return Ok(false) };
        let Some(stored) = self.open_content(digest)? else { return Ok(false) };
        let mut content = BufReader::with_capacity(1 << 20, stored.file);
        let made = BlockMap::of(&print, &mut content, go_on);
        let made = made.map_err(|source| self.unreadable(digest, source))?;
        let Some(map) = made else { return Ok(false) };
        whole::write(&self.fanned("maps", digest), &map.encode())?;
        Ok(true)
    }
}
