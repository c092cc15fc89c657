//! Maintenance windows: spans of time in which required deployments may begin on the devices of a collection.
//!
//! A window comes by a cron line in a time zone, or once. Devices are told the spans of the coming days, not the lines: they
//! need no time zones, and all of them mean the same. In how many collections a device is, its windows are those of all.

use std::sync::Arc;
use std::time::Duration;

use catalog::problem::{Code, Problem};
use jiff::{SignedDuration, Timestamp};
use schema::windows::WindowRow;
use serde::{Deserialize, Serialize};

use super::collections;
use crate::admin::{Answer, Caller};
use crate::clock;
use crate::names::{self, Rule};
use crate::policy::Window;
use crate::schedule::Schedule;
use crate::site::Site;

/// So far ahead devices are told of windows.
pub const AHEAD: SignedDuration = SignedDuration::from_hours(14 * 24);
/// So far ahead the next span of a window is looked for: every one that comes each year is found.
const FARTHEST: SignedDuration = SignedDuration::from_hours(24 * 400);
/// The most spans of one window that are told.
const MOST_SPANS: usize = 400;
/// The longest window, in minutes: a week.
const LONGEST: u32 = 10_080;

/// A window to make.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NewWindow {
    /// Name of the collection.
    pub collection: String,
    /// Its name.
    pub name: String,
    /// When it begins: a cron line.
    #[serde(default)]
    pub begins: Option<String>,
    /// When it begins, where it comes once.
    #[serde(default)]
    pub once: Option<Timestamp>,
    /// How long it is, in minutes.
    pub minutes: u32,
    /// The time zone of the cron line; that of `[sync] timezone` if not given.
    #[serde(default)]
    pub zone: Option<String>,
}

/// A window as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShownWindow {
    /// The window.
    #[serde(flatten)]
    pub row: WindowRow,
    /// The span that is open, or comes next.
    pub next: Option<Window>,
}

/// The spans of a window that are open at `from` or begin before `until`. Pure.
pub fn spans(row: &WindowRow, from: Timestamp, until: Timestamp) -> Vec<Window> {
    let long = SignedDuration::from_mins(row.minutes.into());
    let span = |begin: Timestamp| Some(Window { from: begin, until: begin.checked_add(long).ok()? });
    let told = |window: &Window| window.until > from && window.from < until;
    if let Some(once) = row.once {
        return span(once).filter(told).into_iter().collect();
    }
    let Ok(schedule) = Schedule::parse(&row.begins, &row.zone) else { return Vec::new() };
    let mut after = from.checked_sub(long).unwrap_or(from);
    let mut all = Vec::new();
    while let Some(begin) = schedule.next(after, Duration::ZERO, 0).filter(|begin| *begin < until)
        && all.len() < MOST_SPANS
    {
        all.extend(span(begin).filter(told));
        after = begin;
    }
    all
}

/// Makes a window of what was said. Pure.
///
/// # Errors
/// `INVALID_OPTION`.
fn checked(new: &NewWindow, zone: &str, now: Timestamp) -> Result<WindowRow, Problem> {
    let invalid = |message: String| Err(Problem::new(Code::InvalidOption, message));
    if new.minutes == 0 || new.minutes > LONGEST {
        return invalid(format!("a window is 1 to {LONGEST} minutes long"));
    }
    let row = WindowRow {
        collection: new.collection.clone(),
        name: new.name.clone(),
        begins: new.begins.as_deref().unwrap_or_default().trim().to_owned(),
        once: new.once,
        minutes: new.minutes,
        zone: new.zone.clone().unwrap_or_else(|| zone.to_owned()),
    };
    if row.begins.is_empty() == row.once.is_none() {
        return invalid("a window begins by a cron line, or once".to_owned());
    }
    let schedule =
        Schedule::parse(&row.begins, &row.zone).map_err(|error| Problem::of(Code::InvalidOption, &error))?;
    let comes = match row.once {
        Some(_) => !spans(&row, now, Timestamp::MAX).is_empty(),
        None => schedule.next(now, Duration::ZERO, 0).is_some(),
    };
    if !comes {
        return invalid("it never comes, or is over".to_owned());
    }
    Ok(row)
}

/// The span of a window that is open at `now`, or the next one; more than [`FARTHEST`] ahead there is none. Pure.
pub fn next(row: &WindowRow, now: Timestamp) -> Option<Window> {
    spans(row, now, now.checked_add(FARTHEST).unwrap_or(now)).into_iter().next()
}

fn shown(row: WindowRow, now: Timestamp) -> ShownWindow {
    let next = next(&row, now);
    ShownWindow { row, next }
}

/// All windows, or those of one collection.
///
/// # Errors
/// `COLLECTION_NOT_FOUND`.
pub async fn list(site: &Arc<Site>, collection: Option<&str>) -> Result<Answer, Problem> {
    let mut rows = site.read(|r| r.windows()).await?;
    if let Some(name) = collection {
        let name = collections::named(site, name).await?.name;
        rows.retain(|row| row.collection == name);
    }
    let now = clock::now();
    Answer::of(&rows.into_iter().map(|row| shown(row, now)).collect::<Vec<_>>())
}

/// Makes a window, or replaces that of the same name.
///
/// # Errors
/// `COLLECTION_NOT_FOUND`, `INVALID_OPTION`, `NAME_*`.
pub async fn add(site: &Arc<Site>, new: NewWindow, caller: &Caller) -> Result<Answer, Problem> {
    let collection = collections::named(site, &new.collection).await?.name;
    let name = names::checked("a maintenance window", &new.name, Rule::Shown)?;
    let now = clock::now();
    let row = checked(&NewWindow { collection, name, ..new }, &site.settings().sync.timezone, now)?;
    if !caller.dry_run {
        let (saved, who) = (row.clone(), caller.who.clone());
        site.write(move |w| {
            w.save_window(&saved)?;
            w.audit(&who, "window.add", &format!("{} {}", saved.collection, saved.name), clock::now())
        })
        .await?;
    }
    Answer::of(&shown(row, now))
}

/// Takes a window away.
///
/// # Errors
/// `COLLECTION_NOT_FOUND`, `NOT_FOUND`.
pub async fn remove(
    site: &Arc<Site>,
    collection: &str,
    name: &str,
    caller: &Caller,
) -> Result<Answer, Problem> {
    let collection = collections::named(site, collection).await?.name;
    let (who, of, wanted) = (caller.who.clone(), collection.clone(), name.trim().to_owned());
    let gone = site
        .write_unless(caller.dry_run, move |w| {
            let gone = w.delete_window(&of, &wanted)?;
            if gone {
                w.audit(&who, "window.remove", &format!("{of} {wanted}"), clock::now())?;
            }
            Ok(gone)
        })
        .await?;
    if !gone {
        let message = format!("collection `{collection}` has no window `{name}`");
        return Err(Problem::new(Code::NotFound, message).help("`spsync collection window list` lists them"));
    }
    Answer::of(&serde_json::json!({ "removed": name, "collection": collection, "dry_run": caller.dry_run }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn window(begins: &str, once: Option<&str>, minutes: u32) -> WindowRow {
        WindowRow {
            collection: "ring".to_owned(),
            name: "w".to_owned(),
            begins: begins.to_owned(),
            once: once.map(at),
            minutes,
            zone: "UTC".to_owned(),
        }
    }

    #[test]
    fn spans_are_those_that_are_open_or_come() {
        let (from, until) = (at("2026-11-07T23:00:00Z"), at("2026-11-15T00:00:00Z"));
        let told = |row: &WindowRow| -> Vec<String> {
            spans(row, from, until).iter().map(|span| format!("{} {}", span.from, span.until)).collect()
        };
        assert_eq!(
            told(&window("0 22 * * sat", None, 240)),
            ["2026-11-07T22:00:00Z 2026-11-08T02:00:00Z", "2026-11-14T22:00:00Z 2026-11-15T02:00:00Z"]
        );
        assert_eq!(told(&window("0 22 * * sat", None, 60)), ["2026-11-14T22:00:00Z 2026-11-14T23:00:00Z"]);
        assert_eq!(told(&window("", Some("2026-11-07T22:30:00Z"), 45)).len(), 1, "it is open");
        assert_eq!(told(&window("", Some("2026-11-07T22:00:00Z"), 60)).len(), 0, "it is over");
        assert_eq!(told(&window("* * * * *", None, 1)).len(), MOST_SPANS);
        assert_eq!(told(&window("nonsense", None, 1)).len(), 0);
    }

    #[test]
    fn windows_that_never_come_are_refused() {
        let now = at("2026-11-07T00:00:00Z");
        let new = |begins: Option<&str>, once: Option<&str>, minutes| NewWindow {
            collection: "ring".to_owned(),
            name: "w".to_owned(),
            begins: begins.map(str::to_owned),
            once: once.map(at),
            minutes,
            zone: None,
        };
        let code = |new: NewWindow| checked(&new, "UTC", now).err().map(|problem| problem.code);
        for (window, fine) in [
            (new(Some("0 22 * * sat"), None, 240), true),
            (new(None, Some("2026-11-08T00:00:00Z"), 240), true),
            (new(None, Some("2026-11-06T23:00:00Z"), 61), true),
            (new(None, Some("2026-11-06T23:00:00Z"), 60), false),
            (new(Some("0 0 30 2 *"), None, 240), false),
            (new(Some("0 25 * * *"), None, 240), false),
            (new(Some("0 22 * * sat"), Some("2026-11-08T00:00:00Z"), 240), false),
            (new(None, None, 240), false),
            (new(Some("0 22 * * sat"), None, 0), false),
            (new(Some("0 22 * * sat"), None, LONGEST + 1), false),
            (NewWindow { zone: Some("Mars/Olympus".to_owned()), ..new(Some("0 22 * * *"), None, 9) }, false),
        ] {
            let expected = if fine { None } else { Some(Code::InvalidOption) };
            assert_eq!(code(window.clone()), expected, "{window:?}");
        }
    }
}
