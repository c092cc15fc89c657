use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;

use catalog::digest::{BLOCK_SIZE, Checker};
use proptest::prelude::*;

use super::map::tests::map_of;
use super::*;

/// Bytes without a pattern.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..length.div_ceil(8)).flat_map(|_| next()).take(length).collect()
}

fn base(bytes: &[u8]) -> Base {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("it is written");
    Base { path: "base".into(), file: Arc::new(file.reopen().expect("it is there")) }
}

/// What of `wanted` is found in bases that are only read.
fn found(wanted: &[u8], bases: &[&[u8]], effort: Effort) -> Option<Reuse> {
    let mut search = Search::new(Arc::new(map_of(wanted)));
    let bases: Vec<_> = bases.iter().map(|bytes| base(bytes)).collect();
    for (number, base) in bases.iter().enumerate() {
        search.scan(number, &base.file, effort).expect("it is read");
    }
    Reuse::of(search, bases)
}

/// Everything that was found is what stands there; how many bytes that is.
fn check(reuse: &Reuse, wanted: &[u8]) -> usize {
    let mut bytes = 0;
    for span in reuse.spans() {
        let mut at = span.start;
        while at < span.end {
            let part = reuse.read(at).expect("it is still there");
            assert!(wanted[at as usize..].starts_with(&part));
            at += part.len() as u64;
        }
        assert_eq!(at, span.end);
        bytes += (span.end - span.start) as usize;
    }
    bytes
}

#[test]
fn blocks_are_found_at_whatever_offset() {
    const B: usize = BLOCK_SIZE;
    let wanted = noise(1, 10 * B + 100);
    let zeros = vec![0; 5 * B];
    for (what, base, expected) in [
        ("the same", wanted.clone(), wanted.len()),
        ("shifted by a byte", [&[7][..], &wanted].concat(), wanted.len()),
        ("without its beginning", wanted[5..].to_vec(), wanted.len() - B),
        (
            "with something inserted",
            [&wanted[..3 * B + 9], &noise(2, 1_000), &wanted[3 * B + 9..]].concat(),
            wanted.len() - B,
        ),
        (
            "with a byte changed",
            {
                let mut other = wanted.clone();
                other[4 * B + 1] ^= 1;
                other
            },
            wanted.len() - B,
        ),
        ("in another order", [&wanted[5 * B..], &wanted[..5 * B]].concat(), wanted.len()),
        ("of one block", wanted[2 * B..3 * B].to_vec(), B),
        ("too short for a window", wanted[..B - 1].to_vec(), 0),
        ("something else", noise(3, 4 * B), 0),
        ("nothing", Vec::new(), 0),
        ("zeros", zeros.clone(), 0),
    ] {
        let reuse = found(&wanted, &[&base], Effort::Whole);
        assert_eq!(reuse.map_or(0, |reuse| check(&reuse, &wanted)), expected, "{what}");
    }
    // One block stands for all that are the same.
    let repeated = [&zeros[..], &wanted[..B]].concat();
    let reuse = found(&repeated, &[&zeros[..B + 1]], Effort::Whole).unwrap();
    assert_eq!(check(&reuse, &repeated), zeros.len());
    assert_eq!(reuse.spans(), std::slice::from_ref(&(0..zeros.len() as u64)));
}

#[test]
fn what_two_bases_have_is_put_together() {
    let wanted = noise(1, 6 * BLOCK_SIZE);
    let (first, second) = (&wanted[..2 * BLOCK_SIZE], &wanted[BLOCK_SIZE..5 * BLOCK_SIZE]);
    let reuse = found(&wanted, &[first, second], Effort::Whole).unwrap();
    assert_eq!(check(&reuse, &wanted), 5 * BLOCK_SIZE);
}

#[test]
fn digests_that_are_known_cost_no_reading() {
    let wanted = noise(1, 5 * BLOCK_SIZE + 9);
    let earlier = [&wanted[..3 * BLOCK_SIZE], &noise(2, BLOCK_SIZE), &wanted[4 * BLOCK_SIZE..]].concat();
    let mut checker = Checker::new();
    checker.update(&earlier);
    let blocks = checker.into_fingerprint().blocks;
    let mut search = Search::new(Arc::new(map_of(&wanted)));
    assert_eq!(search.would_find(&blocks), 5);
    search.compare(0, &blocks);
    assert_eq!((search.count(), search.is_over()), (5, false));
    let reuse = Reuse::of(search, vec![base(&earlier)]).unwrap();
    assert_eq!(check(&reuse, &wanted), wanted.len() - BLOCK_SIZE);
}

#[test]
fn a_base_that_has_nothing_in_common_is_only_tried_out() {
    let wanted = noise(1, 3 * BLOCK_SIZE);
    let mut base = noise(2, 18 << 20);
    // Where the eleventh sample ends and the next one has not begun.
    let hidden = (base.len() - (512 << 10)) / 31 * 10 + (512 << 10) - 1_000;
    base[hidden..hidden + BLOCK_SIZE].copy_from_slice(&wanted[..BLOCK_SIZE]);
    assert!(found(&wanted, &[&base], Effort::WherePromising).is_none());
    assert!(found(&wanted, &[&base], Effort::Whole).is_some());
}

#[test]
fn a_base_that_changed_gives_what_is_still_right() {
    let wanted = noise(1, 4 * BLOCK_SIZE);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &wanted).unwrap();
    let mut search = Search::new(Arc::new(map_of(&wanted)));
    let open = Arc::new(File::open(file.path()).unwrap());
    search.scan(0, &open, Effort::Whole).unwrap();
    let reuse = Reuse::of(search, vec![Base { path: file.path().into(), file: open }]).unwrap();
    let mut changed = wanted.clone();
    changed[BLOCK_SIZE + 5] ^= 1;
    changed.truncate(4 * BLOCK_SIZE - 1);
    std::fs::write(file.path(), changed).unwrap();
    let here: Vec<_> = (0..5).map(|block| reuse.read(block * BLOCK_SIZE as u64).is_some()).collect();
    assert_eq!(here, [true, false, true, false, false]);
    assert_eq!(reuse.read(10).unwrap(), wanted[10..BLOCK_SIZE]);
    assert_eq!(reuse.read(u64::MAX), None);
}

#[test]
fn content_made_to_waste_time_is_given_up() {
    // Two bytes that changed places by the same distance twice leave the sum as it is.
    let mut wanted = vec![0; 2 * BLOCK_SIZE];
    wanted[1] = 1;
    wanted[BLOCK_SIZE - 2] = 1;
    let mut other = vec![0; BLOCK_SIZE];
    other[2] = 1;
    other[BLOCK_SIZE - 3] = 1;
    let base = other.repeat(60);
    let mut search = Search::new(Arc::new(map_of(&wanted)));
    let base = self::base(&base);
    search.scan(0, &base.file, Effort::Whole).unwrap();
    assert_eq!(search.count(), 0);
}

/// Blocks that are all the same, as of zeros, are found once: however often a base has them, each is looked at a few times.
#[test]
fn blocks_that_repeat_cost_no_more_than_others() {
    const B: usize = BLOCK_SIZE;
    let wanted = [vec![0; 10 * B], noise(1, 5 * B), vec![0; 10 * B + 9]].concat();
    let zeros = vec![0; 14 * B + 5];
    let mut checker = Checker::new();
    checker.update(&zeros);
    let known = checker.into_fingerprint().blocks;
    let base = base(&[&zeros[..7 * B], &noise(2, B), &zeros[..7 * B]].concat());
    let blocks = wanted.len().div_ceil(B);

    let mut search = Search::new(Arc::new(map_of(&wanted)));
    search.compare(0, &known);
    assert_eq!(search.count(), 20);
    assert!(search.looked_at <= blocks + known.len(), "{} by digests that are known", search.looked_at);

    let mut search = Search::new(Arc::new(map_of(&wanted)));
    search.scan(0, &base.file, Effort::Whole).unwrap();
    assert_eq!(search.count(), 20 + 1, "the short one stands at the end");
    // Every window of zeros is one look, and no window is a walk over all blocks of zeros.
    let windows = base.file.metadata().unwrap().len() as usize;
    assert!(search.looked_at <= blocks + windows, "{} by reading", search.looked_at);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever a base is made of, what is found is right, and whole blocks that lie in it untouched are found.
    #[test]
    fn what_is_found_is_right(parts in proptest::collection::vec((0_u64..4, 1_usize..40_000), 1..12), skip in 0_usize..70_000) {
        let wanted = noise(9, 5 * BLOCK_SIZE + 1_234);
        let mut base = wanted[skip.min(wanted.len())..].to_vec();
        for (seed, length) in parts {
            let at = base.len() * seed as usize / 4;
            let rest = base.split_off(at);
            base.extend(noise(seed + 20, length));
            base.extend(rest);
        }
        let reuse = found(&wanted, &[&base], Effort::Whole);
        let bytes = reuse.map_or(0, |reuse| check(&reuse, &wanted));
        prop_assert!(bytes <= wanted.len());
        if skip == 0 {
            prop_assert!(bytes > 0);
        }
    }
}
