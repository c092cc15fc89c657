//! Digests of whole files, and the one pass over the bytes that yields all of them.
//!
//! [`Checker`] computes four things at once: SHA-1 and SHA-256 of the whole (what upstreams publish and what
//! the content library is keyed by), SHA-256 of every 64 KiB block (BranchCache) and of every 1 MiB piece
//! (Delivery Optimization, Metalink, our own peers). Large slices are hashed on two cores. Only
//! [`Checker::finish`] makes a [`Verified`], so nothing can claim to be checked without having been.

use std::str::FromStr;
use std::sync::Arc;
use std::{fmt, io};

use base64::Engine as _;
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::id::InvalidId;

/// Bytes of one block: the unit of BranchCache ([MS-PCCRC] section 2.3).
pub const BLOCK_SIZE: usize = 64 * 1024;
/// Bytes of one piece: the unit of Delivery Optimization's pieces hash files and of our own peers.
pub const PIECE_SIZE: usize = 1024 * 1024;
/// Below this many bytes a second thread costs more than it saves.
const WORTH_TWO_CORES: usize = 256 * 1024;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// What a byte stands for as a hexadecimal digit of either case; [`NO_DIGIT`] where it is none. Each request has a digest to be read.
const NIBBLES: [u8; 256] = {
    let mut nibbles = [NO_DIGIT; 256];
    let mut value = 0;
    while value < HEX.len() {
        nibbles[HEX[value] as usize] = value as u8;
        nibbles[HEX[value].to_ascii_uppercase() as usize] = value as u8;
        value += 1;
    }
    nibbles
};
const NO_DIGIT: u8 = 0xFF;

macro_rules! digest {
    ($(#[$doc:meta])* $name:ident, $len:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub [u8; $len]);
        impl $name {
            /// The digest in base64, as SOAP messages and HTTP headers print it.
            pub fn to_base64(self) -> String {
                base64::engine::general_purpose::STANDARD.encode(self.0)
            }
            /// The digest that such a message or header says.
            pub fn from_base64(text: &str) -> Result<Self, InvalidId> {
                let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
                Self::from_bytes(&bytes)
            }
            /// The digest in a database column or a side file.
            pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidId> {
                bytes.try_into().map(Self).map_err(|_| InvalidId::new("(bytes)", $expected))
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // Written at once: answers about locations print a digest for each place.
                let mut text = [0; 2 * $len];
                for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
                    pair[0] = HEX[usize::from(byte >> 4)];
                    pair[1] = HEX[usize::from(byte & 15)];
                }
                f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { fmt::Display::fmt(self, f) }
        }
        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let invalid = || InvalidId::new(text, $expected);
                if text.len() != 2 * $len {
                    return Err(invalid());
                }
                let (mut bytes, mut seen) = ([0; $len], 0);
                for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
                    let (high, low) = (NIBBLES[usize::from(pair[0])], NIBBLES[usize::from(pair[1])]);
                    *byte = high << 4 | (low & 0xF);
                    seen |= high | low;
                }
                // A digit has no bit above its four.
                if seen > 0xF { Err(invalid()) } else { Ok(Self(bytes)) }
            }
        }
        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> { text.parse() }
        }
        impl From<$name> for String {
            fn from(digest: $name) -> String { digest.to_string() }
        }
    };
}
digest!(
    /// The SHA-1 of a whole file. A check where it is all that was published; never a key.
    Sha1Digest, 20, "a SHA-1 (40 hexadecimal digits)"
);
digest!(
    /// The SHA-256 of a whole file; the name by which the content library knows it. Parses either case,
    /// prints lower case everywhere.
    Sha256Digest, 32, "a SHA-256 (64 hexadecimal digits)"
);

impl Sha256Digest {
    /// The digest of bytes that are all in memory: a document, not content.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The first half of its digits: enough to tell states apart, as tags do.
    pub fn short(self) -> String {
        let mut text = self.to_string();
        text.truncate(32);
        text
    }
}

/// Every digest that was published of one file; any may be missing upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Digests {
    /// SHA-1, published by ESD catalogs up to Windows 11 24H2 and by update servers.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sha1: Option<Sha1Digest>,
    /// SHA-256, the only one of the Windows 11 25H2 catalog.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sha256: Option<Sha256Digest>,
}

impl Digests {
    /// Nothing was published: such a file can never be verified, so it is never offered.
    pub fn is_empty(&self) -> bool {
        self.sha1.is_none() && self.sha256.is_none()
    }

    /// The strongest digest in lower-case hex, if there is any.
    pub fn strongest(&self) -> Option<String> {
        self.sha256.map(|d| d.to_string()).or_else(|| self.sha1.map(|d| d.to_string()))
    }

    /// Whether both describe one file as far as can be told: a digest that both have, and none that differs.
    pub fn agrees_with(&self, other: &Digests) -> bool {
        let sha1 = self.sha1.zip(other.sha1).map(|(a, b)| a == b);
        let sha256 = self.sha256.zip(other.sha256).map(|(a, b)| a == b);
        (sha1 == Some(true) || sha256 == Some(true)) && sha1 != Some(false) && sha256 != Some(false)
    }
}

/// What a file must be before it may be stored: everything that was published of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Length in bytes.
    pub size: u64,
    /// All published digests; at least one.
    pub digests: Digests,
}

impl Wanted {
    /// `None` where no digest was published: there would be nothing to verify.
    pub fn new(size: u64, digests: Digests) -> Option<Self> {
        (!digests.is_empty()).then_some(Self { size, digests })
    }
}

/// Everything that one pass over a file yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// Length in bytes.
    pub size: u64,
    /// SHA-1 of the whole.
    pub sha1: Sha1Digest,
    /// SHA-256 of the whole.
    pub sha256: Sha256Digest,
    /// SHA-256 of each 64 KiB block, the last one short.
    pub blocks: Vec<Sha256Digest>,
    /// SHA-256 of each 1 MiB piece, the last one short.
    pub pieces: Vec<Sha256Digest>,
}

impl Fingerprint {
    /// That of all that comes, until its end. Blocks.
    ///
    /// # Errors
    /// Those of reading.
    pub fn read(mut from: impl io::Read) -> io::Result<Self> {
        let mut checker = Checker::new();
        // Pieces of this size are hashed on two cores.
        let mut buffer = vec![0; 4 << 20];
        loop {
            match from.read(&mut buffer)? {
                0 => return Ok(checker.into_fingerprint()),
                count => checker.update(&buffer[..count]),
            }
        }
    }
}

/// What the pieces of a file must be: the SHA-256 of each 1 MiB, the last one short. Whoever has them need not trust a
/// source with more than one piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pieces {
    size: u64,
    hashes: Arc<[Sha256Digest]>,
}

impl Pieces {
    /// The pieces of a file of `size` bytes; `None` where their number is not that of its pieces.
    pub fn new(size: u64, hashes: Vec<Sha256Digest>) -> Option<Self> {
        let counted = size.div_ceil(PIECE_SIZE as u64) == hashes.len() as u64;
        counted.then(|| Self { size, hashes: hashes.into() })
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The hashes of all of them, in order.
    pub fn hashes(&self) -> &[Sha256Digest] {
        &self.hashes
    }

    /// The hash of one piece.
    pub fn hash(&self, index: usize) -> Option<Sha256Digest> {
        self.hashes.get(index).copied()
    }
}

/// Hashes one piece, for whoever needs to know no more of it at the moment.
#[derive(Clone, Default)]
pub struct PieceHasher(Sha256);

impl PieceHasher {
    /// Takes the next bytes of the piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of all of them.
    pub fn finish(self) -> Sha256Digest {
        Sha256Digest(self.0.finalize().into())
    }
}

impl fmt::Debug for PieceHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PieceHasher").finish_non_exhaustive()
    }
}

/// Proof that bytes are what was wanted. Only [`Checker::finish`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified(Fingerprint);

impl Verified {
    /// What was computed on the way.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.0
    }

    /// The name under which the content library stores these bytes.
    pub fn sha256(&self) -> Sha256Digest {
        self.0.sha256
    }
}

/// What was received is not what was wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Another length.
    #[error("wrong size: expected {expected} bytes, received {actual}")]
    Size {
        /// Bytes published.
        expected: u64,
        /// Bytes seen.
        actual: u64,
    },
    /// Another SHA-1.
    #[error("wrong SHA-1: expected {expected}, received {actual}")]
    Sha1 {
        /// The digest published.
        expected: Sha1Digest,
        /// The digest of the bytes seen.
        actual: Sha1Digest,
    },
    /// Another SHA-256.
    #[error("wrong SHA-256: expected {expected}, received {actual}")]
    Sha256 {
        /// The digest published.
        expected: Sha256Digest,
        /// The digest of the bytes seen.
        actual: Sha256Digest,
    },
}

/// Hashes a file in one pass, in any slicing. Give it slices of a MiB or more where you can: those are hashed
/// on two cores (SHA-1 and SHA-256 of the whole beside the blocks and pieces: two equal halves of the work).
pub struct Checker {
    size: u64,
    whole: Whole,
    parts: Parts,
}

struct Whole {
    sha1: Sha1,
    sha256: Sha256,
}

struct Parts {
    block: Sha256,
    in_block: usize,
    blocks: Vec<Sha256Digest>,
    piece: Sha256,
    in_piece: usize,
    pieces: Vec<Sha256Digest>,
    /// From a number on.
    known: Option<(Pieces, usize)>,
}

impl fmt::Debug for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checker").field("seen", &self.size).finish_non_exhaustive()
    }
}

impl Default for Checker {
    fn default() -> Self {
        Self::new()
    }
}

impl Checker {
    /// A checker that has seen nothing.
    pub fn new() -> Self {
        Self {
            size: 0,
            whole: Whole { sha1: Sha1::new(), sha256: Sha256::new() },
            parts: Parts {
                block: Sha256::new(),
                in_block: 0,
                blocks: Vec::new(),
                piece: Sha256::new(),
                in_piece: 0,
                pieces: Vec::new(),
                known: None,
            },
        }
    }

    /// Says what the pieces are from here on, as was found when each of them came: those of which nothing was seen yet are
    /// not hashed again. That the bytes are still those is for the digests of the whole to show.
    pub fn knows(&mut self, pieces: &Pieces) {
        let first = self.parts.pieces.len() + usize::from(self.parts.in_piece > 0);
        self.parts.known = Some((pieces.clone(), first));
    }

    /// Takes the next bytes of the file.
    pub fn update(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        let (whole, parts) = (&mut self.whole, &mut self.parts);
        if bytes.len() < WORTH_TWO_CORES {
            whole.update(bytes);
            parts.update(bytes);
            return;
        }
        std::thread::scope(|scope| {
            scope.spawn(|| parts.update(bytes));
            whole.update(bytes);
        });
    }

    /// Bytes taken so far.
    pub fn seen(&self) -> u64 {
        self.size
    }

    /// The pieces that are complete.
    pub fn pieces(&self) -> &[Sha256Digest] {
        &self.parts.pieces
    }

    /// All digests, of bytes that nobody has made a promise about: our own files, a scrub.
    pub fn into_fingerprint(mut self) -> Fingerprint {
        self.parts.close();
        Fingerprint {
            size: self.size,
            sha1: Sha1Digest(self.whole.sha1.finalize().into()),
            sha256: Sha256Digest(self.whole.sha256.finalize().into()),
            blocks: self.parts.blocks,
            pieces: self.parts.pieces,
        }
    }

    /// Compares with what was wanted: the size first, then every published digest.
    ///
    /// # Errors
    /// The first [`Mismatch`] found.
    pub fn finish(self, wanted: &Wanted) -> Result<Verified, Mismatch> {
        let found = self.into_fingerprint();
        if found.size != wanted.size {
            return Err(Mismatch::Size { expected: wanted.size, actual: found.size });
        }
        match wanted.digests.sha256 {
            Some(expected) if expected != found.sha256 => {
                return Err(Mismatch::Sha256 { expected, actual: found.sha256 });
            }
            _ => {}
        }
        match wanted.digests.sha1 {
            Some(expected) if expected != found.sha1 => {
                return Err(Mismatch::Sha1 { expected, actual: found.sha1 });
            }
            _ => {}
        }
        Ok(Verified(found))
    }
}

impl Whole {
    fn update(&mut self, bytes: &[u8]) {
        // In steps that stay in the first-level caches, so that the second hash reads hot bytes.
        for step in bytes.chunks(16 * 1024) {
            self.sha1.update(step);
            self.sha256.update(step);
        }
    }
}

impl Parts {
    fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (step, rest) = bytes.split_at(bytes.len().min(BLOCK_SIZE - self.in_block));
            self.block.update(step);
            if self.known().is_none() {
                self.piece.update(step);
            }
            self.in_block += step.len();
            self.in_piece += step.len();
            if self.in_block == BLOCK_SIZE {
                self.close_block();
            }
            if self.in_piece == PIECE_SIZE {
                self.close_piece();
            }
            bytes = rest;
        }
    }

    /// What the piece at hand is, where that is known.
    fn known(&self) -> Option<Sha256Digest> {
        let (known, first) = self.known.as_ref()?;
        known.hash(self.pieces.len()).filter(|_| self.pieces.len() >= *first)
    }

    fn close_block(&mut self) {
        self.blocks.push(Sha256Digest(std::mem::replace(&mut self.block, Sha256::new()).finalize().into()));
        self.in_block = 0;
    }

    fn close_piece(&mut self) {
        let known = self.known();
        let hashed = std::mem::replace(&mut self.piece, Sha256::new());
        self.pieces.push(known.unwrap_or_else(|| Sha256Digest(hashed.finalize().into())));
        self.in_piece = 0;
    }

    fn close(&mut self) {
        if self.in_block > 0 {
            self.close_block();
        }
        if self.in_piece > 0 {
            self.close_piece();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    }

    fn of(bytes: &[u8]) -> Fingerprint {
        let mut checker = Checker::new();
        checker.update(bytes);
        checker.into_fingerprint()
    }

    #[test]
    fn known_answers_of_fips_180_4() {
        let abc = of(b"abc");
        assert_eq!(abc.sha1.to_string(), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(
            abc.sha256.to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(abc.blocks, [abc.sha256]);
        assert_eq!(abc.pieces, [abc.sha256]);
        assert!(of(b"").blocks.is_empty());
    }

    #[test]
    fn a_digest_is_read_in_either_case_and_nothing_else_is() {
        let digest = Sha256Digest(std::array::from_fn(|at| (at * 37 + 0x9A) as u8));
        let text = digest.to_string();
        assert_eq!(text.parse(), Ok(digest));
        assert_eq!(text.to_uppercase().parse(), Ok(digest));
        for at in [0, 1, 31, 62, 63] {
            for byte in 0..=u8::MAX {
                let mut wrong = text.clone().into_bytes();
                wrong[at] = byte;
                let Ok(wrong) = String::from_utf8(wrong) else { continue };
                assert_eq!(
                    wrong.parse::<Sha256Digest>().is_ok(),
                    byte.is_ascii_hexdigit(),
                    "{byte:#x} at {at}"
                );
            }
        }
        assert!(
            text[1..].parse::<Sha256Digest>().is_err() && format!("{text}0").parse::<Sha256Digest>().is_err()
        );
    }

    #[test]
    fn any_slicing_gives_one_result() {
        let data = bytes(2 * PIECE_SIZE + 3 * BLOCK_SIZE + 17);
        let whole = of(&data);
        assert_eq!(whole.blocks.len(), 36);
        assert_eq!(whole.pieces.len(), 3);
        for slice in [1_000, BLOCK_SIZE, BLOCK_SIZE + 1, PIECE_SIZE - 1, data.len()] {
            let mut checker = Checker::new();
            data.chunks(slice).for_each(|chunk| checker.update(chunk));
            assert_eq!(checker.into_fingerprint(), whole, "slices of {slice}");
        }
        for (index, piece) in data.chunks(PIECE_SIZE).enumerate() {
            assert_eq!(of(piece).sha256, whole.pieces[index]);
        }
    }

    #[test]
    fn pieces_that_are_known_are_not_hashed_again() {
        let data = bytes(2 * PIECE_SIZE + 17);
        let whole = of(&data);
        let pieces = Pieces::new(whole.size, whole.pieces.clone()).unwrap();
        let mut checker = Checker::new();
        checker.update(&data[..PIECE_SIZE + 5]);
        checker.knows(&pieces);
        checker.update(&data[PIECE_SIZE + 5..]);
        assert_eq!(checker.into_fingerprint(), whole);
        // What was begun before is hashed, and other bytes are not these whatever their pieces are said to be.
        let wrong = Pieces::new(whole.size, vec![Sha256Digest([7; 32]); 3]).unwrap();
        let mut checker = Checker::new();
        checker.update(&data[..5]);
        checker.knows(&wrong);
        checker.update(&data[5..]);
        let found = checker.into_fingerprint();
        assert_eq!((found.pieces[0], found.pieces[1]), (whole.pieces[0], Sha256Digest([7; 32])));
        assert_eq!(found.sha256, whole.sha256);
    }

    #[test]
    fn pieces_are_those_of_one_size() {
        let whole = of(&bytes(2 * PIECE_SIZE + 17));
        assert!(Pieces::new(whole.size, whole.pieces.clone()).is_some());
        assert!(Pieces::new(2 * PIECE_SIZE as u64, whole.pieces).is_none());
    }

    #[test]
    fn every_published_digest_must_match() {
        let data = bytes(1_000);
        let right = of(&data);
        let wrong1 = Sha1Digest([1; 20]);
        let wrong256 = Sha256Digest([1; 32]);
        let check = |size, sha1, sha256| {
            let mut checker = Checker::new();
            checker.update(&data);
            checker.finish(&Wanted::new(size, Digests { sha1, sha256 }).unwrap())
        };
        assert!(check(1_000, Some(right.sha1), None).is_ok());
        assert!(check(1_000, None, Some(right.sha256)).is_ok());
        assert_eq!(check(1_000, Some(right.sha1), Some(right.sha256)).unwrap().sha256(), right.sha256);
        assert!(matches!(check(999, Some(right.sha1), None), Err(Mismatch::Size { actual: 1_000, .. })));
        assert!(matches!(check(1_000, Some(wrong1), Some(right.sha256)), Err(Mismatch::Sha1 { .. })));
        assert!(matches!(check(1_000, Some(right.sha1), Some(wrong256)), Err(Mismatch::Sha256 { .. })));
        assert!(Wanted::new(1_000, Digests::default()).is_none());
    }

    #[test]
    fn digests_parse_either_case_and_nothing_else() {
        let text = "A9993E364706816ABA3E25717850C26C9CD0D89D";
        assert_eq!(text.parse::<Sha1Digest>().unwrap().to_string(), text.to_lowercase());
        for bad in ["", "a9", &text[1..], "+9993E364706816ABA3E25717850C26C9CD0D89D", &"ä".repeat(20)] {
            assert!(bad.parse::<Sha1Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn two_sets_of_digests_agree_only_by_a_common_one() {
        let a = Digests { sha1: Some(Sha1Digest([1; 20])), sha256: None };
        let b = Digests { sha1: None, sha256: Some(Sha256Digest([2; 32])) };
        let both = Digests { sha1: a.sha1, sha256: b.sha256 };
        let lie = Digests { sha1: a.sha1, sha256: Some(Sha256Digest([3; 32])) };
        assert!(a.agrees_with(&both) && both.agrees_with(&b));
        assert!(!a.agrees_with(&b), "nothing in common says nothing");
        assert!(!both.agrees_with(&lie));
    }
}
