//! When the next scheduled synchronisation is due: a cron line in a time zone, moved by a fixed part of the jitter.
//!
//! Five fields as in crontab(5): minute, hour, day of month, month, day of week (names such as `sun` allowed; a day
//! matches if either day field does). Where a clock goes forward over a fixed time, the run comes at the first
//! moment after the gap; where it goes back, a fixed time comes once. `*`, steps and lists of hours follow the clock.
//!
//! The jitter moves all runs of one seed by the same time, between nothing and the jitter. So many sites with one
//! schedule do not ask an upstream at the same second, each keeps its own minute, and no run is lost or doubled.

use std::time::Duration;

use catalog::problem::{Code, Coded};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The longest schedule that is read: real ones have a tenth of it.
const LONGEST: usize = 200;

/// Why a schedule cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// Not a cron line.
    #[error("`{text}` is no schedule: expected five fields, as in `0 22 * * *`")]
    NotCron {
        /// The text, cut.
        text: String,
        /// What the reader of cron lines says.
        source: croner::errors::CronError,
    },
    /// Too long to be one.
    #[error("a schedule has at most {LONGEST} characters, this one has {0}")]
    TooLong(usize),
    /// Such a time zone does not exist here.
    #[error("`{name}` is no time zone of this machine: expected an IANA name, as `Europe/Berlin`")]
    UnknownZone {
        /// The name, cut.
        name: String,
        /// What the time zone database says.
        source: jiff::Error,
    },
}

impl Coded for ScheduleError {
    fn code(&self) -> Code {
        Code::ConfigInvalid
    }
}

/// A schedule; manual where nothing was written.
#[derive(Debug, Clone)]
pub struct Schedule {
    cron: Option<Cron>,
    zone: TimeZone,
}

impl Schedule {
    /// Reads a cron line, in the time zone of an IANA name. An empty line means: only by hand.
    ///
    /// # Errors
    /// What is wrong with either; the zone is checked even if the line is empty.
    pub fn parse(cron: &str, zone: &str) -> Result<Self, ScheduleError> {
        let zone = TimeZone::get(zone)
            .map_err(|source| ScheduleError::UnknownZone { name: zone.chars().take(80).collect(), source })?;
        Self::within(cron, zone)
    }

    fn within(cron: &str, zone: TimeZone) -> Result<Self, ScheduleError> {
        if cron.len() > LONGEST {
            return Err(ScheduleError::TooLong(cron.len()));
        }
        if cron.trim().is_empty() {
            return Ok(Self { cron: None, zone });
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let parsed = parser
            .parse(cron)
            .map_err(|source| ScheduleError::NotCron { text: cron.chars().take(80).collect(), source })?;
        Ok(Self { cron: Some(parsed), zone })
    }

    /// Whether synchronisation is only started by hand.
    pub fn is_manual(&self) -> bool {
        self.cron.is_none()
    }

    /// The first run after `after`. None if the schedule is manual, or names a day that never comes (30 February).
    pub fn next(&self, after: Timestamp, jitter: Duration, seed: u64) -> Option<Timestamp> {
        let cron = self.cron.as_ref()?;
        let late = share(jitter, seed);
        // The run due at T + late is the next one exactly while `after` < T + late.
        let from = after.checked_sub(late).ok()?.to_zoned(self.zone.clone());
        let due = cron.find_next_occurrence(&from, false).ok()?.timestamp();
        due.checked_add(late).ok()
    }
}

/// The part of the jitter that belongs to a seed: whole seconds, 0 to `jitter` inclusive.
fn share(jitter: Duration, seed: u64) -> Duration {
    // The finaliser of SplitMix64 (Steele, Lea, Flood 2014): neighbouring seeds land far apart.
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    Duration::from_secs(mixed % jitter.as_secs().saturating_add(1).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_JITTER: Duration = Duration::ZERO;
    /// Central Europe by its rule (POSIX TZ), so that the test needs no time zone database.
    const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

    fn next(cron: &str, zone: &str, after: &str) -> Option<String> {
        let schedule = Schedule::within(cron, TimeZone::posix(zone).unwrap()).unwrap();
        schedule.next(after.parse().unwrap(), NO_JITTER, 0).map(|due| due.to_string())
    }

    #[test]
    fn the_next_run_row_by_row() {
        let rows = [
            // cron, zone, after, due
            ("0 22 * * *", "UTC0", "2026-10-13T21:59:59Z", Some("2026-10-13T22:00:00Z")),
            ("0 22 * * *", "UTC0", "2026-10-13T22:00:00Z", Some("2026-10-14T22:00:00Z")),
            ("0 22 * * *", BERLIN, "2026-10-13T12:00:00Z", Some("2026-10-13T20:00:00Z")),
            ("0 22 * * *", BERLIN, "2026-12-13T12:00:00Z", Some("2026-12-13T21:00:00Z")),
            ("30 3 * * sun", "UTC0", "2026-10-13T00:00:00Z", Some("2026-10-18T03:30:00Z")),
            ("*/15 * * * *", "UTC0", "2026-10-13T00:01:00.5Z", Some("2026-10-13T00:15:00Z")),
            ("0 0 29 2 *", "UTC0", "2026-10-13T00:00:00Z", Some("2028-02-29T00:00:00Z")),
            // 02:30 does not exist on the last Sunday of March: it comes at the end of the gap.
            ("30 2 * * *", BERLIN, "2026-03-28T12:00:00Z", Some("2026-03-29T01:00:00Z")),
            ("30 2 * * *", BERLIN, "2026-03-29T01:00:00Z", Some("2026-03-30T00:30:00Z")),
            // 02:30 exists twice on the last Sunday of October: it comes once, at the first.
            ("30 2 * * *", BERLIN, "2026-10-24T12:00:00Z", Some("2026-10-25T00:30:00Z")),
            ("30 2 * * *", BERLIN, "2026-10-25T00:30:00Z", Some("2026-10-26T01:30:00Z")),
            // Every hour stays every hour of real time over both changes.
            ("0 * * * *", BERLIN, "2026-03-29T00:00:00Z", Some("2026-03-29T01:00:00Z")),
            ("0 * * * *", BERLIN, "2026-10-25T00:00:00Z", Some("2026-10-25T01:00:00Z")),
            ("0 * * * *", BERLIN, "2026-10-25T01:00:00Z", Some("2026-10-25T02:00:00Z")),
            // By hand, and never.
            ("", "UTC0", "2026-10-13T00:00:00Z", None),
            ("  ", "UTC0", "2026-10-13T00:00:00Z", None),
            ("0 0 30 2 *", "UTC0", "2026-10-13T00:00:00Z", None),
        ];
        for (cron, zone, after, due) in rows {
            assert_eq!(next(cron, zone, after).as_deref(), due, "{cron} {zone} after {after}");
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for bad in
            ["x", "0 22 * *", "0 22 * * * *", "61 * * * *", "0 25 * * *", "0 22 * * foo", "0 0 0 22 * * 2026"]
        {
            let refused = Schedule::parse(bad, "UTC");
            assert!(matches!(refused, Err(ScheduleError::NotCron { .. })), "{bad}: {refused:?}");
        }
        assert!(matches!(Schedule::parse(&"*".repeat(500), "UTC"), Err(ScheduleError::TooLong(500))));
        for bad in ["Mars/Olympus", "", "../../etc/passwd"] {
            assert!(matches!(Schedule::parse("", bad), Err(ScheduleError::UnknownZone { .. })), "{bad}");
        }
        assert!(Schedule::parse("", "UTC").unwrap().is_manual());
        assert!(!Schedule::parse("@daily", "UTC").unwrap().is_manual());
    }

    #[test]
    fn each_seed_keeps_its_own_minute_and_loses_no_run() {
        let schedule = Schedule::parse("0 22 * * *", "UTC").unwrap();
        let jitter = Duration::from_secs(15 * 60);
        let base: Timestamp = "2026-10-13T22:00:00Z".parse().unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let first = schedule.next(base - Duration::from_secs(3600), jitter, seed).unwrap();
            let late = first.duration_since(base);
            assert!(!late.is_negative() && late.as_secs() <= 900, "{first}");
            // Asked at any moment before it is due, it is the same; then the next is a day later.
            assert_eq!(
                schedule.next(base, jitter, seed).unwrap(),
                if late.is_zero() { base + DAY } else { first }
            );
            assert_eq!(schedule.next(first, jitter, seed).unwrap(), first + DAY);
            seen.insert(late.as_secs());
        }
        assert!(seen.len() > 100, "200 seeds share only {} moments", seen.len());
        assert_eq!(share(NO_JITTER, 7), Duration::ZERO);
        assert!(share(Duration::MAX, 7) > Duration::ZERO);
    }

    const DAY: Duration = Duration::from_secs(86_400);
}
