//! Anchors: places in time, in the form that Windows gives them ([MS-WSUSSS] section 3.1.4.4.3.1 and its notes):
//! `9438,2026-10-04 16:33:26.671`.
//!
//! The number is ours and decides; the time tells whether an anchor can be one of ours at all. No document with a number
//! up to that of an anchor was recorded after its time: where one was, the database was brought back to an older state
//! meanwhile, and the number given once more.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use schema::update_point::{CatalogIdentity, Newest};

const FORM: &str = "%Y-%m-%d %H:%M:%S%.3f";

/// A place in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// Number of the newest document.
    pub newest: i64,
    /// When that was.
    pub at: Timestamp,
}

/// It is no anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoAnchor;

/// What an anchor means to this catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// Everything after this number.
    Place(i64),
    /// The future: nothing is newer.
    Never,
    /// Another catalog gave it, or this one before it was brought back to an older state: it means nothing here.
    AnotherCatalog,
}

impl Anchor {
    /// The place that is now. Never before the catalog itself nor before its newest document, whatever the clock says.
    pub fn now(newest: Newest, catalog: &CatalogIdentity, now: Timestamp) -> Self {
        Self { newest: newest.number, at: present(newest, catalog, now) }
    }

    /// What this anchor, shown to us `now`, means to a catalog whose newest document is `newest`. `there` is the newest one
    /// up to the number of this anchor.
    pub fn means(
        self,
        newest: Newest,
        there: Option<Newest>,
        catalog: &CatalogIdentity,
        now: Timestamp,
    ) -> Since {
        let given_once_more =
            there.is_some_and(|there| there.recorded.as_millisecond() > self.at.as_millisecond());
        let present = present(newest, catalog, now);
        // The document of this number was recorded while the clock was ahead, and so was it when we gave this.
        let given_ahead = there.is_some_and(|there| {
            there.number == self.newest
                && there.recorded > present
                && self.at.as_millisecond() >= there.recorded.as_millisecond()
        });
        if given_ahead {
            Since::Place(self.newest)
        } else if self.at > present {
            Since::Never
        } else if self.newest > newest.number
            || self.at.as_millisecond() < catalog.since.as_millisecond()
            || given_once_more
        {
            Since::AnotherCatalog
        } else {
            Since::Place(self.newest)
        }
    }
}

/// Now; later, where something has happened later already, because the clock was set back.
fn present(newest: Newest, catalog: &CatalogIdentity, now: Timestamp) -> Timestamp {
    now.max(catalog.since).max(newest.recorded)
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.newest, self.at.strftime(FORM))
    }
}

impl FromStr for Anchor {
    type Err = NoAnchor;
    fn from_str(text: &str) -> Result<Self, NoAnchor> {
        let (number, time) = text.split_once(',').ok_or(NoAnchor)?;
        let digits = (1..=19).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
        // The parser is more lenient than the form.
        let is_form = time.len() == "2026-10-04 16:33:26.671".len()
            && time.bytes().zip(b"0000-00-00 00:00:00.000".iter()).all(|(byte, form)| match form {
                b'0' => byte.is_ascii_digit(),
                form => byte == *form,
            });
        if !digits || !is_form {
            return Err(NoAnchor);
        }
        let at = DateTime::strptime(FORM, time).map_err(|_| NoAnchor)?;
        let at = at.to_zoned(TimeZone::UTC).map_err(|_| NoAnchor)?.timestamp();
        Ok(Self { newest: number.parse().map_err(|_| NoAnchor)?, at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_windows_is_read_and_written_and_nothing_else_is() {
        let text = "9438,2026-10-04 16:33:26.671";
        let anchor: Anchor = text.parse().unwrap();
        assert_eq!((anchor.newest, anchor.at.as_millisecond()), (9438, 1_791_131_606_671));
        assert_eq!(anchor.to_string(), text);
        assert_eq!(
            "0,2026-10-04 16:33:26.000".parse::<Anchor>().unwrap().to_string(),
            "0,2026-10-04 16:33:26.000"
        );
        for garbage in [
            "",
            "x",
            "9438",
            "9438,",
            ",2026-10-04 16:33:26.671",
            "-1,2026-10-04 16:33:26.671",
            "+1,2026-10-04 16:33:26.671",
            "9438,2026-10-04T16:33:26.671",
            "9438,2026-10-04 16:33:26",
            "9438,2026-10-04 16:33:26.67",
            "9438,2026-13-04 16:33:26.671",
            "9438,2026-02-30 16:33:26.671",
            "9438,2026-10-04 25:33:26.671",
            "9438,2026-10-04 16:33:26.671 ",
            " 9438,2026-10-04 16:33:26.671",
            "9438, 2026-10-04 16:33:26.671",
            "9438;2026-10-04 16:33:26.671",
            // Microsoft Update's own form has no number.
            "2026-10-05 17:27:44.393",
            "99999999999999999999,2026-10-04 16:33:26.671",
            "9999999999999999999,2026-10-04 16:33:26.671",
            "\u{661},2026-10-04 16:33:26.671",
        ] {
            assert_eq!(garbage.parse::<Anchor>(), Err(NoAnchor), "{garbage}");
        }
    }

    #[test]
    fn an_anchor_means_a_place_only_in_its_own_catalog() {
        let at = |ms: i64| Timestamp::from_millisecond(1_791_131_606_671 + ms).unwrap();
        let catalog = CatalogIdentity { id: uuid::Uuid::nil(), since: at(0) };
        let document = |number, ms| Newest { number, recorded: at(ms) };
        let newest = document(100, 900);
        let means = |number: i64, ms: i64| {
            // A document every ten milliseconds, until this one.
            let there = (number > 0).then(|| document(number.min(100), number.min(90) * 10));
            Anchor { newest: number, at: at(ms) }.means(newest, there, &catalog, at(1_000))
        };
        for (newest, ms, expected) in [
            (0, 0, Since::Place(0)),
            (100, 1_000, Since::Place(100)),
            (50, 500, Since::Place(50)),
            (99, 1_001, Since::Never),
            (i64::MAX, 100_000, Since::Never),
            // Brought back from a backup: this number is given once more, to another document.
            (101, 1_000, Since::AnotherCatalog),
            // And it has been given once more: that document came after the anchor.
            (50, 499, Since::AnotherCatalog),
            (100, 899, Since::AnotherCatalog),
            (50, -1, Since::AnotherCatalog),
        ] {
            assert_eq!(means(newest, ms), expected, "{newest} at {ms}");
        }
        // The clock was set back, before the catalog or before its newest document: what we give is still ours.
        for clock in [-9_000, 500] {
            let given = Anchor::now(newest, &catalog, at(clock));
            let read: Anchor = given.to_string().parse().unwrap();
            for anchor in [given, read] {
                assert_eq!(anchor.means(newest, Some(newest), &catalog, at(clock)), Since::Place(100));
            }
        }
        // Then a document came with the right time: what was given for those before it is ours all the same, until the clock
        // gets there too. A number that is given once more, to another document, is not.
        let (ahead, next) = (document(100, 9_000_000), document(101, 1_100));
        for given in [at(8_000_000), at(9_500_000)] {
            let given: Anchor = Anchor::now(ahead, &catalog, given).to_string().parse().unwrap();
            for (there, now, expected) in [
                (Some(ahead), 2_000, Since::Place(100)),
                (Some(ahead), 9_600_000, Since::Place(100)),
                (Some(document(100, 1_050)), 2_000, Since::Never),
                (Some(document(99, 9_000_000)), 2_000, Since::Never),
            ] {
                assert_eq!(given.means(next, there, &catalog, at(now)), expected, "{given} at {now}");
            }
        }
        let given = Anchor::now(next, &catalog, at(2_000));
        assert_eq!(given.means(next, Some(next), &catalog, at(2_000)), Since::Place(101));
        // So is what was given while a document was on its way: the moment of the question is before that of the document.
        let given = Anchor::now(newest, &catalog, at(899));
        assert_eq!(given.means(newest, Some(newest), &catalog, at(2_000)), Since::Place(100));
    }
}
