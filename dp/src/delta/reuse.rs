//! Blocks that were found, given to whoever puts the content together: read again, and checked again, because what is found
//! may have changed meanwhile.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use catalog::digest::BLOCK_SIZE;

use super::map::{BlockMap, Strong};
use super::search::{Place, Search};

/// Content in which blocks were found.
#[derive(Debug, Clone)]
pub struct Base {
    /// What it is called.
    pub path: PathBuf,
    /// It, open: whatever becomes of its name.
    pub file: Arc<File>,
}

/// Parts of a wanted content that this machine has.
#[derive(Debug)]
pub struct Reuse {
    map: Arc<BlockMap>,
    found: Vec<Option<Place>>,
    bases: Vec<Base>,
}

impl Reuse {
    /// What a search has found in these bases; `None` where that is nothing.
    pub fn of(search: Search, bases: Vec<Base>) -> Option<Self> {
        let any = search.found.iter().any(Option::is_some);
        any.then(|| Self { map: search.map, found: search.found, bases })
    }

    /// Bytes of the whole content.
    pub fn size(&self) -> u64 {
        self.map.size()
    }

    /// Which of its bytes are here, in order.
    pub fn spans(&self) -> Vec<Range<u64>> {
        let mut spans: Vec<Range<u64>> = Vec::new();
        for (block, _) in self.found.iter().enumerate().filter(|(_, place)| place.is_some()) {
            let from = (block * BLOCK_SIZE) as u64;
            let to = from + self.map.length(block) as u64;
            match spans.last_mut().filter(|last| last.end == from) {
                Some(last) => last.end = to,
                None => spans.push(from..to),
            }
        }
        spans
    }

    /// The content in which most was found, for people.
    pub fn name(&self) -> PathBuf {
        let mut counts = vec![0; self.bases.len()];
        self.found.iter().flatten().for_each(|place| counts[place.base] += 1);
        let most = (0..counts.len()).max_by_key(|base| counts[*base]);
        most.map(|base| self.bases[base].path.clone()).unwrap_or_default()
    }

    /// The bytes from `from` to the end of its block; `None` where they are not here, or no more.
    pub fn read(&self, from: u64) -> Option<Vec<u8>> {
        let block = usize::try_from(from / BLOCK_SIZE as u64).ok()?;
        let place = (*self.found.get(block)?)?;
        let mut bytes = vec![0; self.map.length(block)];
        self.bases.get(place.base)?.file.read_exact_at(&mut bytes, place.offset).ok()?;
        if Strong::of(&bytes) != self.map.strong[block] {
            return None;
        }
        Some(bytes.split_off((from % BLOCK_SIZE as u64) as usize))
    }
}
