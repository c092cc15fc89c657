//! What one pass over content yielded, kept beside it: later features need the hashes of blocks and pieces, and hashing
//! a GiB costs several times what serving it does.
//!
//! ```text
//! "SPSYNCH1" | size u64 | SHA-1 | SHA-256 | count of blocks u32 | count of pieces u32 | blocks | pieces | SHA-256 of all before
//! ```
//! Numbers are little-endian. A file that does not check is as good as none: it is computed again.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::time::SystemTime;

use catalog::digest::{BLOCK_SIZE, Fingerprint, PIECE_SIZE, Sha1Digest, Sha256Digest};

use super::{LibraryError, whole};

const MAGIC: &[u8; 8] = b"SPSYNCH1";
const FIXED: usize = 8 + 8 + 20 + 32 + 4 + 4;

pub(super) fn encode(print: &Fingerprint) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FIXED + (print.blocks.len() + print.pieces.len() + 1) * 32);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&print.size.to_le_bytes());
    bytes.extend_from_slice(&print.sha1.0);
    bytes.extend_from_slice(&print.sha256.0);
    bytes.extend_from_slice(&(print.blocks.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&(print.pieces.len() as u32).to_le_bytes());
    print.blocks.iter().chain(&print.pieces).for_each(|hash| bytes.extend_from_slice(&hash.0));
    let check = Sha256Digest::of(&bytes);
    bytes.extend_from_slice(&check.0);
    bytes
}

pub(super) fn decode(bytes: &[u8]) -> Option<Fingerprint> {
    let (body, check) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    if body.len() < FIXED || !body.starts_with(MAGIC) || Sha256Digest::of(body).0 != check {
        return None;
    }
    let u32_at = |at: usize| Some(u32::from_le_bytes(body.get(at..at + 4)?.try_into().ok()?) as usize);
    let size = u64::from_le_bytes(body[8..16].try_into().ok()?);
    let (blocks, pieces) = (u32_at(68)?, u32_at(72)?);
    let mut hashes =
        body[FIXED..].chunks_exact(32).map(Sha256Digest::from_bytes).collect::<Result<Vec<_>, _>>().ok()?;
    let counted = size.div_ceil(BLOCK_SIZE as u64) == blocks as u64
        && size.div_ceil(PIECE_SIZE as u64) == pieces as u64;
    if !counted || hashes.len() != blocks + pieces || body.len() != FIXED + hashes.len() * 32 {
        return None;
    }
    let pieces = hashes.split_off(blocks);
    Some(Fingerprint {
        size,
        sha1: Sha1Digest::from_bytes(&body[16..36]).ok()?,
        sha256: Sha256Digest::from_bytes(&body[36..68]).ok()?,
        blocks: hashes,
        pieces,
    })
}

pub(super) fn read(path: &Path) -> Option<Fingerprint> {
    decode(&fs::read(path).ok()?)
}

/// What opening content compares with.
pub(super) struct Glance {
    /// Bytes that the content had.
    pub(super) size: u64,
    /// When it had been written to last, or later: it is hashed when all of it is there, and this is written then.
    pub(super) until: SystemTime,
}

/// No more than opening content needs.
pub(super) fn glance(path: &Path) -> Option<Glance> {
    let mut head = [0; 16];
    let mut file = File::open(path).ok()?;
    file.read_exact(&mut head).ok()?;
    let size = u64::from_le_bytes(head[8..].try_into().ok()?);
    head.starts_with(MAGIC).then_some(Glance { size, until: file.metadata().ok()?.modified().ok()? })
}

/// The content was hashed, and had been written to last at this time. Whether that could be written down: a file of somebody else's has
/// its own time.
pub(super) fn vouch(path: &Path, until: SystemTime) -> bool {
    File::open(path).and_then(|file| file.set_modified(until)).is_ok()
}

pub(super) fn write(path: &Path, print: &Fingerprint) -> Result<(), LibraryError> {
    whole::write(path, &encode(print))
}
