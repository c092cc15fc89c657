//! When a distribution point may be sent content: a week of hours, each open, restricted or closed.
//!
//! ```text
//! mon-fri 08-18 closed; wed 12-13 open
//! ```
//! Rules stand between semicolons; days, hours and level between blanks. Without days it is every day, without hours the
//! whole day; the last rule that names an hour decides, and an hour that none names is open. Hours are those of
//! `[sync] timezone`. Packages have no priorities, so the levels between open and closed mean nothing yet: they are read, as
//! they may have been set before, and set no more ([`priority_in`]).

use std::fmt;
use std::str::FromStr;

use jiff::civil::Weekday;
use jiff::{Timestamp, tz::TimeZone};

/// The first word of a schedule that means a priority of packages, and what it comes to without any.
pub fn priority_in(text: &str) -> Option<(&'static str, &'static str)> {
    text.split(|c: char| c == ';' || c.is_whitespace()).find_map(|word| match word {
        "medium" => Some(("medium", "open")),
        "high" => Some(("high", "closed")),
        _ => None,
    })
}

/// How much may be sent in an hour. All packages are alike: they count as medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything.
    Open,
    /// What has priority medium or high.
    Medium,
    /// What has priority high.
    High,
    /// Nothing.
    Closed,
}

impl Level {
    /// Whether a package of priority medium may be sent.
    pub fn lets_medium_through(self) -> bool {
        self <= Self::Medium
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Closed => "closed",
        })
    }
}

/// A week, Monday first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid([[Level; 24]; 7]);

impl Default for Grid {
    fn default() -> Self {
        Self([[Level::Open; 24]; 7])
    }
}

impl Grid {
    /// What holds at a moment.
    pub fn at(&self, now: Timestamp, zone: &TimeZone) -> Level {
        let local = now.to_zoned(zone.clone());
        let day = usize::from(local.weekday().to_monday_zero_offset().unsigned_abs());
        self.0[day.min(6)][usize::from(local.hour().unsigned_abs()).min(23)]
    }
}

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

impl FromStr for Grid {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut grid = Self::default();
        for rule in text.split(';').map(str::trim).filter(|rule| !rule.is_empty()) {
            let wrong = || {
                let rule: String = rule.chars().take(60).collect();
                format!("expected rules such as `mon-fri 08-18 closed; wed 12-13 open`, actual `{rule}`")
            };
            let (mut days, mut hours, mut level) = (None, None, None);
            for word in rule.split_whitespace() {
                let known = match word {
                    "open" => level.replace(Level::Open).is_none(),
                    "medium" => level.replace(Level::Medium).is_none(),
                    "high" => level.replace(Level::High).is_none(),
                    "closed" => level.replace(Level::Closed).is_none(),
                    word if word.starts_with(|c: char| c.is_ascii_digit()) => {
                        hours.replace(hours_of(word).ok_or_else(wrong)?).is_none()
                    }
                    word => days.replace(days_of(word).ok_or_else(wrong)?).is_none(),
                };
                if !known {
                    return Err(wrong());
                }
            }
            let level = level.ok_or_else(wrong)?;
            let (from, to) = hours.unwrap_or((0, 24));
            for (day, chosen) in grid.0.iter_mut().zip(days.unwrap_or([true; 7])) {
                if chosen {
                    day[from..to].fill(level);
                }
            }
        }
        Ok(grid)
    }
}

/// `08-18`: from the first hour to the last, which is not in it.
fn hours_of(word: &str) -> Option<(usize, usize)> {
    let (from, to) = word.split_once('-')?;
    let (from, to) = (from.parse().ok()?, to.parse().ok()?);
    (from < to && to <= 24).then_some((from, to))
}

/// `mon-fri`, `sat,sun`, `fri-mon`.
fn days_of(word: &str) -> Option<[bool; 7]> {
    let day = |name: &str| DAYS.iter().position(|(known, _)| name.eq_ignore_ascii_case(known));
    let mut days = [false; 7];
    for part in word.split(',') {
        let (from, to) = match part.split_once('-') {
            Some((from, to)) => (day(from)?, day(to)?),
            None => (day(part)?, day(part)?),
        };
        let length = (to + 7 - from) % 7;
        (from..=from + length).for_each(|day| days[day % 7] = true);
    }
    Some(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_rule_that_names_an_hour_decides() {
        let grid: Grid =
            "mon-fri 08-18 closed; wed 12-13 open; sat,sun high; fri-sat 23-24 medium".parse().unwrap();
        for (at, expected) in [
            ("2026-03-02T07:59:59Z", Level::Open), // a Monday
            ("2026-03-02T08:00:00Z", Level::Closed),
            ("2026-03-02T18:00:00Z", Level::Open),
            ("2026-03-04T12:30:00Z", Level::Open),
            ("2026-03-04T13:00:00Z", Level::Closed),
            ("2026-03-06T23:10:00Z", Level::Medium),
            ("2026-03-07T10:00:00Z", Level::High),
            ("2026-03-07T23:00:00Z", Level::Medium),
            ("2026-03-08T23:00:00Z", Level::High),
        ] {
            assert_eq!(grid.at(at.parse().unwrap(), &TimeZone::UTC), expected, "{at}");
        }
        let paris = TimeZone::get("Europe/Paris").unwrap();
        assert_eq!(grid.at("2026-03-02T07:30:00Z".parse().unwrap(), &paris), Level::Closed, "08:30 there");
        assert!(Level::Medium.lets_medium_through() && !Level::High.lets_medium_through());
    }

    #[test]
    fn words_that_mean_priorities_are_found() {
        for (text, expected) in [
            ("", None),
            ("mon-fri 08-18 closed; wed 12-13 open", None),
            ("sat,sun high", Some(("high", "closed"))),
            ("closed;medium 08-18", Some(("medium", "open"))),
        ] {
            assert_eq!(priority_in(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        assert_eq!("".parse(), Ok(Grid::default()));
        for wrong in [
            "closed open",
            "mon",
            "08-18",
            "8-30 closed",
            "18-08 closed",
            "noday closed",
            "mon tue closed",
            "always",
        ] {
            assert!(wrong.parse::<Grid>().unwrap_err().contains("such as"), "{wrong}");
        }
    }
}
