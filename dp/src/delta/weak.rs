//! A sum over a window of bytes that costs three additions to move by one byte, so that a block is found at any offset of
//! another file. It only says where to look: two windows with one sum may differ, and a digest decides.

/// The bytes of a window added up, and added up again each as often as its distance from the end. On data without a pattern
/// about 45 bits of it differ, so that among the blocks of the largest files hardly any is looked at in vain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rolling {
    plain: u32,
    weighted: u32,
}

/// Bytes that are added in one step: their weights fit 16 bits, which compilers turn into a few instructions.
const STEP: usize = 64;

impl Rolling {
    pub(super) fn of(window: &[u8]) -> Self {
        let mut sum = Self::default();
        sum.add(window);
        sum
    }

    /// Makes the window longer.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let (steps, rest) = bytes.as_chunks::<STEP>();
        for step in steps {
            let (mut plain, mut weighted) = (0_u32, 0_u32);
            for (byte, weight) in step.iter().zip((1..=STEP as u32).rev()) {
                plain += u32::from(*byte);
                weighted += u32::from(*byte) * weight;
            }
            self.weighted =
                self.weighted.wrapping_add(self.plain.wrapping_mul(STEP as u32)).wrapping_add(weighted);
            self.plain = self.plain.wrapping_add(plain);
        }
        for byte in rest {
            self.plain = self.plain.wrapping_add(u32::from(*byte));
            self.weighted = self.weighted.wrapping_add(self.plain);
        }
    }

    /// Moves a window of `length` bytes on by one.
    #[inline(always)]
    pub(super) fn roll(&mut self, out: u8, into: u8, length: u32) {
        let (out, into) = (u32::from(out), u32::from(into));
        self.plain = self.plain.wrapping_add(into).wrapping_sub(out);
        self.weighted = self.weighted.wrapping_add(self.plain).wrapping_sub(out.wrapping_mul(length));
    }

    #[inline(always)]
    pub(super) fn value(self) -> u64 {
        u64::from(self.weighted) << 32 | u64::from(self.plain)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_sum_is_that_of_the_formula() {
        assert_eq!(Rolling::of(&[1, 2, 3]).value(), (3 + 2 * 2 + 3) << 32 | 6);
        assert_eq!(Rolling::of(&[]).value(), 0);
    }

    proptest! {
        /// However a window is reached, its sum is the same: at once, in parts, or rolled there from its beginning.
        #[test]
        fn a_window_has_one_sum(bytes in proptest::collection::vec(any::<u8>(), 2..400), length in 1_usize..200, cut in 0_usize..200) {
            let length = length.min(bytes.len());
            let mut rolled = Rolling::of(&bytes[..length]);
            for at in 0..=bytes.len() - length {
                let window = &bytes[at..at + length];
                let (first, rest) = window.split_at(cut.min(length));
                let mut added = Rolling::of(first);
                added.add(rest);
                prop_assert_eq!(rolled, added, "at {}", at);
                if let Some(into) = bytes.get(at + length) {
                    rolled.roll(bytes[at], *into, length as u32);
                }
            }
        }
    }
}
