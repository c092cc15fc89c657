//! Finding blocks of a wanted content in content that is here: at the same sort of offset by digests that are known, and at
//! any offset by the rolling sum.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use catalog::digest::{BLOCK_SIZE, Sha256Digest};

use super::map::{BlockMap, Strong};
use super::weak::Rolling;

/// Bytes that are looked at in one go.
const STRIDE: usize = 8 << 20;
/// How a base is tried out: so many places of so many bytes, evenly spread.
const SAMPLES: u64 = 32;
const SAMPLE: u64 = 512 << 10;
/// Windows that have the sum of a block and are another one, before a base is given up: so many, and one more for so many
/// bytes. Only content that was made for it has more.
const MOST_WRONG: u64 = 256;
const WRONG_EVERY: u64 = 1 << 20;

/// Where a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) base: usize,
    pub(super) offset: u64,
}

/// How thoroughly a base is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// All of it.
    Whole,
    /// All of it if a sample has anything that is wanted; else only the sample.
    WherePromising,
}

/// The search for the blocks of one content.
pub struct Search {
    pub(super) map: Arc<BlockMap>,
    pub(super) found: Vec<Option<Place>>,
    /// Sums of whole blocks, each once, and how many blocks with it are still looked for: a content of zeros has as many blocks
    /// with one sum as it has blocks.
    by_weak: Vec<(u64, u32)>,
    by_strong: HashMap<Strong, Vec<u32>>,
    filter: Filter,
    /// The last block, if it is short: no window has its length.
    tail: Option<usize>,
    /// Blocks that are still looked for.
    left: usize,
    wrong: u64,
    /// Blocks of the content that were looked at.
    #[cfg(test)]
    pub(super) looked_at: usize,
}

impl Search {
    /// A search that has found nothing.
    pub fn new(map: Arc<BlockMap>) -> Self {
        let tail = map.len().checked_sub(1).filter(|last| map.length(*last) < BLOCK_SIZE);
        let whole = tail.unwrap_or(map.len());
        let mut sums = map.weak[..whole].to_vec();
        sums.sort_unstable();
        let mut by_weak: Vec<(u64, u32)> = Vec::new();
        for sum in sums {
            match by_weak.last_mut().filter(|(last, _)| *last == sum) {
                Some((_, blocks)) => *blocks += 1,
                None => by_weak.push((sum, 1)),
            }
        }
        let mut by_strong: HashMap<Strong, Vec<u32>> = HashMap::with_capacity(map.len());
        for (strong, index) in map.strong.iter().zip(0_u32..) {
            by_strong.entry(*strong).or_default().push(index);
        }
        let filter = Filter::of(by_weak.iter().map(|(weak, _)| *weak), whole);
        let (found, left) = (vec![None; map.len()], map.len());
        Self {
            map,
            found,
            by_weak,
            by_strong,
            filter,
            tail,
            left,
            wrong: 0,
            #[cfg(test)]
            looked_at: 0,
        }
    }

    /// Whether nothing is left to be found.
    pub fn is_over(&self) -> bool {
        self.left == 0
    }

    /// Blocks found.
    pub fn count(&self) -> usize {
        self.found.len() - self.left
    }

    /// How many of these blocks are wanted, for choosing among bases.
    pub fn would_find(&self, blocks: &[Sha256Digest]) -> usize {
        blocks.iter().filter(|block| self.by_strong.contains_key(&Strong::from(**block))).count()
    }

    /// Takes what a base has by the digests of its own blocks: nothing is read.
    pub fn compare(&mut self, base: usize, blocks: &[Sha256Digest]) {
        for (number, block) in blocks.iter().enumerate() {
            self.take((*block).into(), Place { base, offset: (number * BLOCK_SIZE) as u64 });
        }
    }

    /// Reads a base and takes what it has at whatever offset. What cannot be read is not found.
    ///
    /// # Errors
    /// Those of looking at the file; what was found until then counts.
    pub fn scan(&mut self, base: usize, file: &File, effort: Effort) -> io::Result<()> {
        let size = file.metadata()?.len();
        self.wrong = 0;
        if effort == Effort::WherePromising && size > SAMPLES * SAMPLE {
            let before = self.count();
            for number in 0..SAMPLES {
                let from = (size - SAMPLE) / (SAMPLES - 1) * number;
                self.read(base, file, from..from + SAMPLE)?;
            }
            if self.count() == before {
                return Ok(());
            }
        }
        for gap in self.gaps(base, size) {
            self.read(base, file, gap)?;
        }
        self.find_tail(base, file, size);
        Ok(())
    }

    /// What of a base is not known to be wanted, with room for windows that reach into what is.
    fn gaps(&self, base: usize, size: u64) -> Vec<Range<u64>> {
        let mut taken: Vec<u64> = self
            .found
            .iter()
            .flatten()
            .filter(|place| place.base == base)
            .map(|place| place.offset)
            .collect();
        taken.sort_unstable();
        taken.dedup();
        let (mut gaps, mut at): (Vec<Range<u64>>, u64) = (Vec::new(), 0);
        let reach = BLOCK_SIZE as u64 - 1;
        for offset in taken {
            if offset > at {
                gaps.push(at.saturating_sub(reach)..(offset + reach).min(size));
            }
            at = at.max(offset + BLOCK_SIZE as u64);
        }
        if at < size {
            gaps.push(at.saturating_sub(reach)..size);
        }
        gaps
    }

    fn read(&mut self, base: usize, file: &File, range: Range<u64>) -> io::Result<()> {
        let mut buffer: Vec<u8> = Vec::new();
        let mut at = range.start; // where the buffer begins
        let mut end = range.start;
        while end < range.end && self.left > 0 {
            let kept = buffer.len();
            let more = (range.end - end).min(STRIDE as u64) as usize;
            buffer.resize(kept + more, 0);
            let count = read_at(file, &mut buffer[kept..], end)?;
            buffer.truncate(kept + count);
            if count == 0 {
                break; // it became shorter
            }
            end += count as u64;
            if self.wrong > MOST_WRONG + (end - range.start) / WRONG_EVERY {
                break;
            }
            let used = self.look(base, at, &buffer);
            buffer.drain(..used);
            at += used as u64;
        }
        Ok(())
    }

    /// Looks at every window in `data`, which stands at `at` of the base; how many bytes begin no window that is still to be
    /// looked at.
    fn look(&mut self, base: usize, at: u64, data: &[u8]) -> usize {
        let mut from = 0;
        'windows: while let Some(window) = data.get(from..from + BLOCK_SIZE) {
            let mut sum = Rolling::of(window);
            let ways = data[from..].iter().zip(&data[from + BLOCK_SIZE..]).enumerate();
            for (moved, (out, into)) in ways {
                if self.filter.may_have(sum.value()) {
                    let start = from + moved;
                    let window = &data[start..start + BLOCK_SIZE];
                    if self.is_wanted(sum.value(), window, Place { base, offset: at + start as u64 }) {
                        from = start + BLOCK_SIZE;
                        continue 'windows;
                    }
                }
                sum.roll(*out, *into, BLOCK_SIZE as u32);
            }
            let last = data.len() - BLOCK_SIZE;
            if self.filter.may_have(sum.value())
                && self.is_wanted(sum.value(), &data[last..], Place { base, offset: at + last as u64 })
            {
                return data.len();
            }
            return last + 1;
        }
        from
    }

    /// Whether a window with this sum is a block that is still looked for.
    fn is_wanted(&mut self, sum: u64, window: &[u8], place: Place) -> bool {
        #[cfg(test)]
        {
            self.looked_at += 1;
        }
        let at = self.by_weak.binary_search_by_key(&sum, |(weak, _)| *weak);
        if at.is_err() || at.is_ok_and(|at| self.by_weak[at].1 == 0) {
            return false;
        }
        let taken = self.take(Strong::of(window), place);
        self.wrong += u64::from(!taken);
        taken
    }

    /// Every block with this digest is there: all of them at once, the first time that it is.
    fn take(&mut self, strong: Strong, place: Place) -> bool {
        let Some(blocks) = self.by_strong.get(&strong) else { return false };
        if blocks.first().is_some_and(|block| self.found[*block as usize].is_some()) {
            return true;
        }
        for block in blocks.iter().map(|block| *block as usize) {
            #[cfg(test)]
            {
                self.looked_at += 1;
            }
            self.found[block] = Some(place);
            self.left -= 1;
            if self.tail != Some(block)
                && let Ok(at) = self.by_weak.binary_search_by_key(&self.map.weak[block], |(weak, _)| *weak)
            {
                self.by_weak[at].1 -= 1;
            }
        }
        true
    }

    /// The last block is short. It may stand behind the one before it, or at the end.
    fn find_tail(&mut self, base: usize, file: &File, size: u64) {
        let Some(tail) = self.tail.filter(|tail| self.found[*tail].is_none()) else { return };
        let length = self.map.length(tail);
        let behind = tail.checked_sub(1).and_then(|before| self.found[before]);
        let behind = behind.filter(|place| place.base == base).map(|place| place.offset + BLOCK_SIZE as u64);
        for offset in behind.into_iter().chain(size.checked_sub(length as u64)) {
            let mut bytes = vec![0; length];
            if file.read_exact_at(&mut bytes, offset).is_ok()
                && Strong::of(&bytes) == self.map.strong[tail]
                && self.take(self.map.strong[tail], Place { base, offset })
            {
                return;
            }
        }
    }
}

fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut have = 0;
    while have < buffer.len() {
        match file.read_at(&mut buffer[have..], offset + have as u64) {
            Ok(0) => break,
            Ok(count) => have += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}

/// Says of nearly all sums that no block has them: nine of ten by a table that stays near the processor, and most of the rest
/// by a larger one, which takes other digits of the hash.
struct Filter {
    near: Vec<u64>,
    near_shift: u32,
    far: Vec<u64>,
}

/// Bits of the two tables, as powers of two: 128 KiB at most, and 1 MiB at most.
const NEAR: u32 = 20;
const FAR: u32 = 23;
/// Where the digits for the second table begin: below those of the first.
const FAR_SHIFT: u32 = 64 - NEAR - FAR;

impl Filter {
    fn of(sums: impl Iterator<Item = u64>, count: usize) -> Self {
        let near = (count * 64).next_power_of_two().clamp(1 << 12, 1 << NEAR);
        let far = (count * 64).next_power_of_two().clamp(1 << 12, 1 << FAR);
        let mut filter =
            Self { near: vec![0; near / 64], near_shift: 64 - near.ilog2(), far: vec![0; far / 64] };
        for sum in sums {
            let hash = Self::hash(sum);
            let (near, far) = (filter.near_place(hash), filter.far_place(hash));
            filter.near[near >> 6] |= 1 << (near & 63);
            filter.far[far >> 6] |= 1 << (far & 63);
        }
        filter
    }

    #[inline(always)]
    fn hash(sum: u64) -> u64 {
        sum.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    #[inline(always)]
    fn near_place(&self, hash: u64) -> usize {
        (hash >> self.near_shift) as usize
    }

    #[inline(always)]
    fn far_place(&self, hash: u64) -> usize {
        (hash >> FAR_SHIFT) as usize & (self.far.len() * 64 - 1)
    }

    #[inline(always)]
    fn may_have(&self, sum: u64) -> bool {
        let hash = Self::hash(sum);
        let near = self.near_place(hash);
        if self.near[near >> 6] & 1 << (near & 63) == 0 {
            return false;
        }
        let far = self.far_place(hash);
        self.far[far >> 6] & 1 << (far & 63) != 0
    }
}
