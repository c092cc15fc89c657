//! Whether a required task sequence may begin now, by the windows that the policy tells. Pure.
//!
//! It begins where it has time to end: in a window that is open long enough from now on. Windows that meet are one. A task
//! sequence that says no longest time (`max_runtime = 0`) may pass the end of its window.

use std::time::Duration;

use jiff::Timestamp;

use crate::policy::Window;

/// What windows say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// It may begin.
    Now,
    /// Not before this.
    From(Timestamp),
    /// In none of the windows that are told.
    Never,
}

/// What `windows` say about something that takes `needs`; `None`: it may pass the end. Without windows anything may begin.
pub fn opening(windows: &[Window], now: Timestamp, needs: Option<Duration>) -> Opening {
    if windows.is_empty() {
        return Opening::Now;
    }
    let fits = |from: Timestamp, until: Timestamp| {
        until > from && needs.is_none_or(|needs| until.duration_since(from).unsigned_abs() >= needs)
    };
    let merged = merged(windows);
    if merged.iter().any(|window| window.contains(now) && fits(now, window.until)) {
        return Opening::Now;
    }
    let coming = merged.iter().filter(|window| window.from > now && fits(window.from, window.until));
    coming.map(|window| window.from).min().map_or(Opening::Never, Opening::From)
}

/// Windows that meet or overlap as one, in order.
fn merged(windows: &[Window]) -> Vec<Window> {
    let mut sorted: Vec<Window> =
        windows.iter().copied().filter(|window| window.from < window.until).collect();
    sorted.sort_by_key(|window| window.from);
    let mut merged: Vec<Window> = Vec::new();
    for window in sorted {
        match merged.last_mut() {
            Some(last) if window.from <= last.until => last.until = last.until.max(window.until),
            _ => merged.push(window),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(minutes * 60).expect("a time")
    }

    fn windows(spans: &[(i64, i64)]) -> Vec<Window> {
        spans.iter().map(|(from, until)| Window { from: at(*from), until: at(*until) }).collect()
    }

    #[test]
    fn a_required_deployment_begins_where_it_has_time_to_end() {
        let hours = |hours: u64| Some(Duration::from_secs(hours * 3_600));
        for (name, spans, now, needs, expected) in [
            ("no windows", &[][..], 0, hours(2), Opening::Now),
            ("open", &[(0, 240)], 0, hours(2), Opening::Now),
            ("open just long enough", &[(0, 240)], 120, hours(2), Opening::Now),
            ("not long enough any more", &[(0, 240)], 121, hours(2), Opening::Never),
            ("then the next", &[(0, 240), (1440, 1680)], 121, hours(2), Opening::From(at(1440))),
            ("before it", &[(60, 240)], 0, hours(2), Opening::From(at(60))),
            ("its end is not in it", &[(0, 240)], 240, hours(0), Opening::Never),
            ("every one is too short", &[(0, 60), (1440, 1500)], 0, hours(2), Opening::Never),
            ("a short one, then a long one", &[(10, 60), (1440, 1680)], 0, hours(2), Opening::From(at(1440))),
            ("two that meet are one", &[(0, 60), (60, 120)], 0, hours(2), Opening::Now),
            ("two that overlap are one", &[(30, 120), (0, 60)], 0, hours(2), Opening::Now),
            ("one within another", &[(0, 240), (30, 60)], 90, hours(2), Opening::Now),
            ("no longest time: it may pass the end", &[(0, 240)], 239, None, Opening::Now),
            ("no longest time, and no window open", &[(0, 240)], 240, None, Opening::Never),
            ("one that is none", &[(0, 0)], 0, hours(2), Opening::Never),
            ("one that ends before it begins", &[(60, 0)], 30, None, Opening::Never),
        ] {
            assert_eq!(opening(&windows(spans), at(now), needs), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn it_may_begin_when_it_was_said_that_it_may(
            spans in proptest::collection::vec((0_i64..500, 1_i64..200), 1..8), now in 0_i64..700, needs in 0_u64..300,
        ) {
            let spans: Vec<_> = spans.into_iter().map(|(from, long)| (from, from + long)).collect();
            let (windows, needs) = (windows(&spans), Some(Duration::from_secs(needs * 60)));
            match opening(&windows, at(now), needs) {
                Opening::From(from) => {
                    prop_assert!(from > at(now));
                    prop_assert_eq!(opening(&windows, from, needs), Opening::Now);
                }
                Opening::Now => prop_assert!(windows.iter().any(|window| window.contains(at(now)))),
                Opening::Never => {}
            }
        }
    }
}
