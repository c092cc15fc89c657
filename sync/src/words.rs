//! Words of sentences that people read.

use std::fmt::Display;

/// `1 file`, `2 files`: for words that get an s where there are several.
pub(crate) fn counted(count: impl Display, one: &str) -> String {
    let count = count.to_string();
    let end = if count == "1" { "" } else { "s" };
    format!("{count} {one}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_no_plural() {
        for (count, expected) in [(0, "0 files"), (1, "1 file"), (2, "2 files"), (11, "11 files")] {
            assert_eq!(counted(count, "file"), expected);
        }
    }
}
