//! Places that could not be reached a moment ago: they are asked after all others, so that a machine that is switched off
//! costs its time once and not once a file. Remembered by the process for each client (its folder), and only for a minute.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use url::Url;

use crate::transfer::{At, Source};

/// So long a place that was out of reach is asked last.
const AWAY: Duration = Duration::from_secs(60);
/// Places that are remembered; those that were seen longest ago are forgotten first.
const MOST: usize = 256;

/// What every fetch of this process knows.
static KNOWN: LazyLock<Away> = LazyLock::new(Away::default);

/// Who could not be reached by which client, and when that was.
#[derive(Debug, Default)]
struct Away(Mutex<HashMap<(PathBuf, String), Instant>>);

/// What the client in this folder knows.
pub(super) fn of(dir: &Path) -> AwayFrom<'_> {
    AwayFrom { away: &KNOWN, dir }
}

/// Who could not be reached by one client.
#[derive(Debug, Clone, Copy)]
pub(super) struct AwayFrom<'a> {
    away: &'a Away,
    dir: &'a Path,
}

impl AwayFrom<'_> {
    fn key(self, place: &Url) -> (PathBuf, String) {
        (self.dir.to_owned(), place.origin().ascii_serialization())
    }

    /// Takes down whether a place was reached.
    pub(super) fn saw(self, place: &Url, reached: bool, now: Instant) {
        let mut all = self.away.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = self.key(place);
        if reached {
            all.remove(&place);
            return;
        }
        all.retain(|_, seen| is_away(*seen, now));
        if all.len() >= MOST
            && let Some(oldest) = all.iter().min_by_key(|(_, seen)| **seen).map(|(place, _)| place.clone())
        {
            all.remove(&oldest);
        }
        all.insert(place, now);
    }

    /// Whether a place was out of reach a moment ago.
    pub(super) fn is_away(self, place: &Url, now: Instant) -> bool {
        let all = self.away.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&self.key(place)).is_some_and(|seen| is_away(*seen, now))
    }

    /// The same sources, those out of reach behind all others.
    pub(super) fn last(self, mut sources: Vec<Source>, now: Instant) -> Vec<Source> {
        sources.sort_by_key(|source| matches!(&source.at, At::Url(place) if self.is_away(place, now)));
        sources
    }
}

fn is_away(seen: Instant, now: Instant) -> bool {
    now.saturating_duration_since(seen) < AWAY
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(number: usize) -> Url {
        format!("http://dp{number}:8530/content/{number}").parse().expect("an address")
    }

    #[test]
    fn who_is_away_is_forgotten_when_it_answers_or_its_minute_is_over() {
        let (all, start) = (Away::default(), Instant::now());
        let away = AwayFrom { away: &all, dir: Path::new("one") };
        let after = |seconds| start + Duration::from_secs(seconds);
        away.saw(&place(1), false, start);
        away.saw(&place(2), false, after(10));
        let other_file: Url = "http://dp1:8530/content/other".parse().unwrap();
        for (at, expected) in [(59, [true, true, false]), (60, [false, true, false]), (70, [false; 3])] {
            let found = [&other_file, &place(2), &place(3)].map(|place| away.is_away(place, after(at)));
            assert_eq!(found, expected, "after {at} s");
        }
        away.saw(&place(2), true, after(11));
        assert!(!away.is_away(&place(2), after(11)));
        let other = AwayFrom { away: &all, dir: Path::new("two") };
        assert!(away.is_away(&place(1), after(11)) && !other.is_away(&place(1), after(11)), "another client");
    }

    #[test]
    fn a_flood_of_places_is_forgotten() {
        let (all, start) = (Away::default(), Instant::now());
        let away = AwayFrom { away: &all, dir: Path::new("one") };
        for number in 0..MOST + 9 {
            away.saw(&place(number), false, start + Duration::from_millis(number as u64));
        }
        let now = start + Duration::from_secs(1);
        assert_eq!(all.0.lock().unwrap().len(), MOST);
        assert!(!away.is_away(&place(0), now) && away.is_away(&place(MOST + 8), now));
    }
}
