//! What a content is made of, block by block, for those who may have some of the blocks already.
//!
//! ```text
//! "SPSYNCB1" | size u64 | bytes of a block u32 | 0 u32 | for each block: sum u64, first 16 bytes of its SHA-256
//! ```
//! Numbers are little-endian; the last block may be short. The same bytes are the side file of a library and the answer of
//! `GET /content/{sha256}/blocks`. Nothing rests on them: who took blocks by a wrong map finds the piece wrong.

use std::io::{self, Read};

use catalog::digest::{BLOCK_SIZE, Fingerprint, Sha256Digest};

use super::weak::Rolling;

const MAGIC: &[u8; 8] = b"SPSYNCB1";
const HEAD: usize = 24;
const ENTRY: usize = 24;
/// The longest map that is read: enough for contents of 80 GiB.
pub const LARGEST_MAP: u64 = (HEAD + ENTRY * (80 << 30) / BLOCK_SIZE) as u64;

/// As much of a block's SHA-256 as nobody can find another block for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Strong([u8; 16]);

impl Strong {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Sha256Digest::of(bytes).into()
    }
}

impl From<Sha256Digest> for Strong {
    fn from(digest: Sha256Digest) -> Self {
        let mut first = [0; 16];
        first.copy_from_slice(&digest.0[..16]);
        Self(first)
    }
}

/// The blocks of one content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockMap {
    size: u64,
    pub(super) weak: Vec<u64>,
    pub(super) strong: Vec<Strong>,
}

impl BlockMap {
    /// The map of content whose blocks were hashed before, made by reading it once more while it may `go_on`. `None` where it
    /// is another one, or may not.
    ///
    /// # Errors
    /// Those of reading.
    pub fn of(
        print: &Fingerprint,
        content: &mut impl Read,
        go_on: impl Fn() -> bool,
    ) -> io::Result<Option<Self>> {
        let mut map = Self { size: print.size, weak: Vec::new(), strong: Vec::new() };
        let mut buffer = vec![0; BLOCK_SIZE];
        for block in &print.blocks {
            if !go_on() {
                return Ok(None);
            }
            let mut have = 0;
            while have < BLOCK_SIZE {
                match content.read(&mut buffer[have..])? {
                    0 => break,
                    count => have += count,
                }
            }
            map.weak.push(Rolling::of(&buffer[..have]).value());
            map.strong.push((*block).into());
        }
        let counted = map.weak.len() as u64 == print.size.div_ceil(BLOCK_SIZE as u64);
        Ok(counted.then_some(map))
    }

    /// Bytes of the content.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How many blocks.
    pub(super) fn len(&self) -> usize {
        self.strong.len()
    }

    /// Bytes of a block.
    pub(super) fn length(&self, block: usize) -> usize {
        (self.size - (block * BLOCK_SIZE) as u64).min(BLOCK_SIZE as u64) as usize
    }

    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + self.len() * ENTRY);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.size.to_le_bytes());
        bytes.extend_from_slice(&(BLOCK_SIZE as u32).to_le_bytes());
        bytes.extend_from_slice(&0_u32.to_le_bytes());
        for (weak, strong) in self.weak.iter().zip(&self.strong) {
            bytes.extend_from_slice(&weak.to_le_bytes());
            bytes.extend_from_slice(&strong.0);
        }
        bytes
    }

    /// The map in such bytes, if it is one of a content of `size` bytes.
    pub fn decode(bytes: &[u8], size: u64) -> Option<Self> {
        let (head, entries) = bytes.split_at_checked(HEAD)?;
        let number = |at: usize, length: usize| {
            head[at..at + length].iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
        };
        let fits = head.starts_with(MAGIC)
            && number(8, 8) == size
            && number(16, 4) == BLOCK_SIZE as u64
            && number(20, 4) == 0
            && entries.len() as u64 == size.div_ceil(BLOCK_SIZE as u64) * ENTRY as u64;
        if !fits {
            return None;
        }
        let mut map = Self { size, weak: Vec::new(), strong: Vec::new() };
        for entry in entries.as_chunks::<ENTRY>().0 {
            let (weak, strong) = entry.split_at(8);
            map.weak.push(u64::from_le_bytes(weak.try_into().ok()?));
            map.strong.push(Strong(strong.try_into().ok()?));
        }
        Some(map)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use catalog::digest::Checker;

    use super::*;

    pub(in crate::delta) fn map_of(bytes: &[u8]) -> BlockMap {
        let mut checker = Checker::new();
        checker.update(bytes);
        let print = checker.into_fingerprint();
        BlockMap::of(&print, &mut &*bytes, || true).expect("memory is read").expect("it is the same")
    }

    #[test]
    fn a_map_is_read_as_it_is_written_and_no_other() {
        for size in [0, 1, BLOCK_SIZE, BLOCK_SIZE + 1, 3 * BLOCK_SIZE + 7] {
            let bytes: Vec<u8> = (0..size).map(|at| ((at * 7) >> 3) as u8).collect();
            let map = map_of(&bytes);
            let encoded = map.encode();
            assert_eq!(BlockMap::decode(&encoded, size as u64), Some(map));
            assert_eq!(BlockMap::decode(&encoded, size as u64 + 1), None);
            assert_eq!(BlockMap::decode(&encoded[..encoded.len() - 1], size as u64), None);
            for at in 0..HEAD {
                let mut other = encoded.clone();
                other[at] ^= 1;
                assert_eq!(BlockMap::decode(&other, size as u64), None, "byte {at}");
            }
        }
        assert_eq!(BlockMap::decode(b"it works!", 9), None);
    }
}
