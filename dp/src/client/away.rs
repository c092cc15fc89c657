//! Places that could not be reached a moment ago: they are asked after all others, so that a machine that is switched off
//! costs its time once and not once a file. But never after the cloud: for that it counts since when they are away. Remembered by
//! the process for each client (its folder), and only for a while.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use url::Url;

use crate::transfer::{At, Source, SourceKind};

/// So long a place that was out of reach is asked last.
const AWAY: Duration = Duration::from_secs(60);
/// So long it is known since when it is. After that it has a new chance.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Places that are remembered; those that were seen longest ago are forgotten first.
const MOST: usize = 256;

/// What every fetch of this process knows.
static KNOWN: LazyLock<Away> = LazyLock::new(Away::default);

/// Who could not be reached by which client, and when that was.
#[derive(Debug, Default)]
struct Away(Mutex<HashMap<(PathBuf, String), Seen>>);

/// When a place could not be reached.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// For the first time since it last could.
    first: Instant,
    /// For the last time.
    last: Instant,
}

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

    /// Takes down that a place was reached, or for how long it was not.
    pub(super) fn saw(self, place: &Url, unreachable: Option<Duration>, now: Instant) {
        let mut all = self.away.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = self.key(place);
        let Some(lasted) = unreachable else {
            all.remove(&place);
            return;
        };
        all.retain(|_, seen| is_within(seen.last, now, REMEMBERED));
        let first = now.checked_sub(lasted).unwrap_or(now);
        let first = all.get(&place).map_or(first, |seen| seen.first.min(first));
        if all.len() >= MOST
            && let Some(oldest) = all.iter().min_by_key(|(_, seen)| seen.last).map(|(place, _)| place.clone())
        {
            all.remove(&oldest);
        }
        all.insert(place, Seen { first, last: now });
    }

    fn seen(self, place: &Url, now: Instant) -> Option<Seen> {
        let all = self.away.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&self.key(place)).copied().filter(|seen| is_within(seen.last, now, REMEMBERED))
    }

    /// Whether a place was out of reach a moment ago.
    pub(super) fn is_away(self, place: &Url, now: Instant) -> bool {
        self.seen(place, now).is_some_and(|seen| is_within(seen.last, now, AWAY))
    }

    /// The same sources, those out of reach behind all others, but not behind a cloud that they stood before.
    pub(super) fn last(self, mut sources: Vec<Source>, now: Instant) -> Vec<Source> {
        for part in sources.chunk_by_mut(|one, next| is_cloud(one) == is_cloud(next)) {
            part.sort_by_key(|source| matches!(&source.at, At::Url(place) if self.is_away(place, now)));
        }
        sources
    }

    /// Which of these could not be reached lately, and since how long ago.
    pub(super) fn since(self, sources: &[Source], now: Instant) -> Vec<(usize, Duration)> {
        let away = sources.iter().enumerate().filter_map(|(number, source)| {
            let At::Url(place) = &source.at else { return None };
            Some((number, now.saturating_duration_since(self.seen(place, now)?.first)))
        });
        away.collect()
    }
}

fn is_cloud(source: &Source) -> bool {
    source.kind == SourceKind::Cloud
}

fn is_within(seen: Instant, now: Instant, time: Duration) -> bool {
    now.saturating_duration_since(seen) < time
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::transfer::web::{Web, WebPolicy};

    fn place(number: usize) -> Url {
        format!("http://dp{number}:8530/content/{number}").parse().expect("an address")
    }

    const UNREACHED: Option<Duration> = Some(Duration::ZERO);

    #[test]
    fn who_is_away_is_forgotten_when_it_answers_or_its_minute_is_over() {
        let (all, start) = (Away::default(), Instant::now());
        let away = AwayFrom { away: &all, dir: Path::new("one") };
        let after = |seconds| start + Duration::from_secs(seconds);
        away.saw(&place(1), UNREACHED, start);
        away.saw(&place(2), UNREACHED, after(10));
        let other_file: Url = "http://dp1:8530/content/other".parse().unwrap();
        for (at, expected) in [(59, [true, true, false]), (60, [false, true, false]), (70, [false; 3])] {
            let found = [&other_file, &place(2), &place(3)].map(|place| away.is_away(place, after(at)));
            assert_eq!(found, expected, "after {at} s");
        }
        away.saw(&place(2), None, after(11));
        assert!(!away.is_away(&place(2), after(11)));
        let other = AwayFrom { away: &all, dir: Path::new("two") };
        assert!(away.is_away(&place(1), after(11)) && !other.is_away(&place(1), after(11)), "another client");
    }

    #[test]
    fn who_is_away_comes_after_its_like_and_before_the_cloud() {
        let (all, start) = (Away::default(), Instant::now());
        let away = AwayFrom { away: &all, dir: Path::new("one") };
        let after = |seconds| start + Duration::from_secs(seconds);
        let web = Arc::new(Web::new(WebPolicy::default()).unwrap());
        let source = |kind, number| Source {
            kind,
            name: format!("{number}"),
            at: At::Url(place(number)),
            web: web.clone(),
        };
        let sources = || {
            let points = [1, 2].map(|number| source(SourceKind::DistributionPoint, number));
            let cloud = source(SourceKind::Cloud, 3);
            points.into_iter().chain([cloud, source(SourceKind::DistributionPoint, 4)]).collect::<Vec<_>>()
        };
        // It failed for half a minute, and once more later.
        away.saw(&place(1), Some(Duration::from_secs(30)), after(100));
        away.saw(&place(1), UNREACHED, after(130));
        away.saw(&place(3), UNREACHED, after(130));
        for (at, expected, since) in [
            (140, "2 1 3 4", vec![(1, 70), (2, 10)]),
            (190, "1 2 3 4", vec![(0, 120), (2, 60)]), // asked first again, but known
            (730, "1 2 3 4", vec![]),
        ] {
            let found = away.last(sources(), after(at));
            let names: Vec<_> = found.iter().map(|source| source.name.as_str()).collect();
            assert_eq!(names.join(" "), expected, "after {at} s");
            let known: Vec<_> =
                away.since(&found, after(at)).into_iter().map(|(n, d)| (n, d.as_secs())).collect();
            assert_eq!(known, since, "after {at} s");
        }
    }

    #[test]
    fn a_flood_of_places_is_forgotten() {
        let (all, start) = (Away::default(), Instant::now());
        let away = AwayFrom { away: &all, dir: Path::new("one") };
        for number in 0..MOST + 9 {
            away.saw(&place(number), UNREACHED, start + Duration::from_millis(number as u64));
        }
        let now = start + Duration::from_secs(1);
        assert_eq!(all.0.lock().unwrap().len(), MOST);
        assert!(!away.is_away(&place(0), now) && away.is_away(&place(MOST + 8), now));
    }
}
