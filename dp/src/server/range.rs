//! Byte ranges (RFC 9110 section 14). Pure, and every sum is checked: overflow here was CVE-2015-1635 and CVE-2017-7529.

/// Ranges of one answer, after overlapping ones are made one. More of them are ignored: the answer is the whole file.
pub const MOST_RANGES: usize = 32;
/// Ranges looked at before that.
const MOST_ASKED: usize = 256;

/// A part of a file: never empty, never past its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteRange {
    start: u64,
    end: u64,
}

impl ByteRange {
    /// From `start` to before `end` of a file of `size` bytes.
    pub fn new(start: u64, end: u64, size: u64) -> Option<Self> {
        (start < end && end <= size).then_some(Self { start, end })
    }

    /// The first byte.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The byte after the last.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// How many bytes.
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> u64 {
        self.end - self.start
    }
}

/// What a `Range` field asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ranges {
    /// These parts, in the order asked for.
    Some(Vec<ByteRange>),
    /// None of it is in the file.
    Unsatisfiable,
    /// It is not understood, or asks for too much: as if it were not there (section 14.2 allows it).
    Ignored,
}

/// Reads `bytes=0-4, 10-, -5` for a file of `size` bytes.
pub fn parse(field: &str, size: u64) -> Ranges {
    let Some((unit, set)) = field.split_once('=') else { return Ranges::Ignored };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Ranges::Ignored;
    }
    let mut asked = Vec::new();
    let mut any = false;
    for spec in set.split(',').map(|spec| spec.trim_matches([' ', '\t'])) {
        if spec.is_empty() {
            continue; // a list may have empty elements (section 5.6.1.2)
        }
        any = true;
        match one(spec, size) {
            None => return Ranges::Ignored,
            Some(None) => {}
            Some(Some(_)) if asked.len() == MOST_ASKED => return Ranges::Ignored,
            Some(Some(range)) => asked.push(range),
        }
    }
    match (any, asked.is_empty()) {
        (false, _) => Ranges::Ignored,
        (true, true) => Ranges::Unsatisfiable,
        (true, false) => {
            let ranges = coalesced(asked);
            if ranges.len() > MOST_RANGES { Ranges::Ignored } else { Ranges::Some(ranges) }
        }
    }
}

/// `None`: not understood. `Some(None)`: outside of the file.
fn one(spec: &str, size: u64) -> Option<Option<ByteRange>> {
    let (first, last) = spec.split_once('-')?;
    let (first, last) = (first.trim_end_matches([' ', '\t']), last.trim_start_matches([' ', '\t']));
    if first.is_empty() {
        let suffix = number(last)?;
        return Some(ByteRange::new(size.saturating_sub(suffix), size, size).filter(|_| suffix > 0));
    }
    let first = number(first)?;
    let end = match last {
        "" => size,
        last => {
            let last = number(last)?;
            if last < first {
                return None;
            }
            last.saturating_add(1).min(size)
        }
    };
    Some(ByteRange::new(first, end, size))
}

/// Digits alone. More than 64 bits hold is past the end of every file: that, not an error, is what it means.
fn number(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().unwrap_or(u64::MAX))
}

/// Makes overlapping and adjacent ranges one, so that no byte is sent twice. The order stays that of the first of them.
fn coalesced(asked: Vec<ByteRange>) -> Vec<ByteRange> {
    let mut by_start: Vec<(usize, ByteRange)> = asked.into_iter().enumerate().collect();
    by_start.sort_by_key(|(_, range)| *range);
    let mut merged: Vec<(usize, ByteRange)> = Vec::new();
    for (order, range) in by_start {
        match merged.last_mut() {
            Some((first, last)) if range.start <= last.end => {
                last.end = last.end.max(range.end);
                *first = (*first).min(order);
            }
            _ => merged.push((order, range)),
        }
    }
    merged.sort_by_key(|(order, _)| *order);
    merged.into_iter().map(|(_, range)| range).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn some(ranges: &[(u64, u64)]) -> Ranges {
        Ranges::Some(ranges.iter().map(|(start, end)| ByteRange { start: *start, end: *end }).collect())
    }

    #[test]
    fn the_table_of_ranges() {
        for (field, expected) in [
            ("bytes=0-4", some(&[(0, 5)])),
            ("bytes=0-0", some(&[(0, 1)])),
            ("BYTES=0-4", some(&[(0, 5)])),
            ("bytes=0-", some(&[(0, 100)])),
            ("bytes=99-", some(&[(99, 100)])),
            ("bytes=50-1000", some(&[(50, 100)])),
            ("bytes=-5", some(&[(95, 100)])),
            ("bytes=-1000", some(&[(0, 100)])),
            ("bytes=100-", Ranges::Unsatisfiable),
            ("bytes=-0", Ranges::Unsatisfiable),
            ("bytes=100-200,-0", Ranges::Unsatisfiable),
            ("bytes=100-200,0-1", some(&[(0, 2)])),
            ("bytes=18446744073709551615-", Ranges::Unsatisfiable),
            ("bytes=18-18446744073709551615", some(&[(18, 100)])),
            ("bytes=0-99999999999999999999999999", some(&[(0, 100)])),
            ("bytes=-99999999999999999999999999", some(&[(0, 100)])),
            ("bytes=0-1,4-5", some(&[(0, 2), (4, 6)])),
            ("bytes=4-5, 0-1", some(&[(4, 6), (0, 2)])),
            ("bytes=0-4,2-9,10-19", some(&[(0, 20)])),
            ("bytes=0-1,,5-6,", some(&[(0, 2), (5, 7)])),
            ("bytes=5-1", Ranges::Ignored),
            ("bytes=", Ranges::Ignored),
            ("bytes=,", Ranges::Ignored),
            ("bytes=a-b", Ranges::Ignored),
            ("bytes=1", Ranges::Ignored),
            ("bytes=+1-2", Ranges::Ignored),
            ("bytes=--1", Ranges::Ignored),
            ("bytes 0-4", Ranges::Ignored),
            ("", Ranges::Ignored),
        ] {
            assert_eq!(parse(field, 100), expected, "{field}");
        }
        assert_eq!(parse("bytes=0-", 0), Ranges::Unsatisfiable);
        assert_eq!(parse("bytes=-5", 0), Ranges::Unsatisfiable);
    }

    #[test]
    fn many_ranges_are_merged_or_ignored() {
        let list = |count: u64, step: u64| {
            let specs: Vec<_> = (0..count).map(|i| format!("{}-{}", i * step, i * step)).collect();
            format!("bytes={}", specs.join(","))
        };
        assert_eq!(parse(&list(200, 1), 1_000), some(&[(0, 200)]), "adjacent ones are one");
        assert!(matches!(parse(&list(32, 2), 1_000), Ranges::Some(ranges) if ranges.len() == 32));
        assert_eq!(parse(&list(33, 2), 1_000), Ranges::Ignored);
        assert_eq!(parse(&list(300, 1), 1_000), Ranges::Ignored);
    }

    proptest! {
        #[test]
        fn no_byte_is_sent_twice_or_from_outside(field in "bytes=[0-9,\\- ]{0,40}", size in 0..2_000_u64) {
            if let Ranges::Some(ranges) = parse(&field, size) {
                prop_assert!(!ranges.is_empty() && ranges.len() <= MOST_RANGES);
                let mut sorted = ranges.clone();
                sorted.sort();
                prop_assert!(sorted.iter().all(|r| r.start < r.end && r.end <= size));
                prop_assert!(sorted.windows(2).all(|pair| pair[0].end < pair[1].start));
            }
        }
        #[test]
        fn nothing_panics(field in ".{0,60}", size in any::<u64>()) {
            let _ = parse(&field, size);
        }
    }
}
