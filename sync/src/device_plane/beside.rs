//! What stands in a policy beside its task sequences: updates that are deployed to collections of the device, and the windows
//! in which required deployments may begin (mission row M57). Pure.

use std::collections::{BTreeMap, HashMap};

use catalog::id::UpdateId;
use jiff::{SignedDuration, Timestamp};
use schema::deployments::Purpose;
use schema::update_deployments::UpdateDeploymentRow;
use schema::windows::WindowRow;

use crate::policy::{ContentFile, DeployedUpdate, LONGEST_TEXT, MOST_REFERENCES, Window};
use crate::software::windows::{AHEAD, next, spans};

/// The files of updates.
pub type Files = HashMap<UpdateId, Vec<ContentFile>>;

/// When time alone changes what is told of updates.
pub fn changes(rows: &[UpdateDeploymentRow]) -> impl Iterator<Item = Timestamp> {
    rows.iter().flat_map(|row| [Some(row.available), row.expires]).flatten()
}

/// Whether a deployment of updates is told to devices now.
pub fn is_offered(row: &UpdateDeploymentRow, now: Timestamp) -> bool {
    row.stopped.is_none() && row.available <= now && row.expires.is_none_or(|expires| now < expires)
}

/// Updates that are offered now to any of `collections`, each once: it has a deadline where any of its deployments is required.
/// `files` has those of updates that are in the library.
pub fn updates(
    rows: &[UpdateDeploymentRow],
    files: &Files,
    collections: &[&str],
    now: Timestamp,
) -> Vec<DeployedUpdate> {
    let offered =
        rows.iter().filter(|row| is_offered(row, now) && collections.contains(&row.collection.as_str()));
    let mut all: BTreeMap<UpdateId, DeployedUpdate> = BTreeMap::new();
    for row in offered {
        for (id, title) in &row.updates {
            let title = title.chars().filter(|c| !c.is_control()).take(LONGEST_TEXT).collect();
            let one = all.entry(*id).or_insert_with(|| {
                let files = files.get(id).cloned().unwrap_or_default();
                DeployedUpdate { id: *id, title, mandatory: false, files }
            });
            one.mandatory |= row.purpose == Purpose::Required;
        }
    }
    all.into_values().take(MOST_REFERENCES).collect()
}

/// When the day after that of `at` begins, UTC.
fn next_day(at: Timestamp) -> Timestamp {
    let (day, second) = (SignedDuration::from_hours(24).as_secs(), at.as_second());
    Timestamp::from_second(second - second.rem_euclid(day) + day).unwrap_or(at)
}

/// Until when windows are told: to the end of a day, so that what is told stays the same meanwhile.
fn told_until(now: Timestamp) -> Timestamp {
    next_day(now.checked_add(AHEAD).unwrap_or(now))
}

/// When time alone changes what is told of windows: one is over, or those of one more day are told.
pub fn window_changes(rows: &[WindowRow], now: Timestamp) -> impl Iterator<Item = Timestamp> {
    let until = told_until(now);
    // All of a row are equally long: the one that comes first is over first.
    let ends = rows.iter().filter_map(move |row| spans(row, now, until).first().map(|window| window.until));
    ends.chain((!rows.is_empty()).then(|| next_day(now)))
}

/// The windows of `collections` for the days to come, and of those that come later the next each, in order.
pub fn windows(rows: &[WindowRow], collections: &[&str], now: Timestamp) -> Vec<Window> {
    let until = told_until(now);
    let own = rows.iter().filter(|row| collections.contains(&row.collection.as_str()));
    // One that does not come in these days is told by its next span: a device says what it waits for, and fetches before.
    let told = |row: &WindowRow| {
        let all = spans(row, now, until);
        if all.is_empty() { next(row, now).into_iter().collect() } else { all }
    };
    let mut all: Vec<Window> = own.flat_map(told).collect();
    all.sort_by_key(|window| (window.from, window.until));
    all.dedup();
    all.truncate(MOST_REFERENCES);
    all
}

/// The part of a policy, with a comma behind each.
pub fn part(
    deployments: &[UpdateDeploymentRow],
    files: &Files,
    rows: &[WindowRow],
    collections: &[&str],
    now: Timestamp,
) -> String {
    let mut part = String::new();
    let updates = updates(deployments, files, collections, now);
    if let Some(text) =
        Some(updates).filter(|all| !all.is_empty()).and_then(|all| serde_json::to_string(&all).ok())
    {
        part += &format!("\"updates\":{text},");
    }
    // A window that is over is none: where a collection has windows and none comes, nothing required begins.
    let has = rows.iter().any(|row| collections.contains(&row.collection.as_str()));
    let mut windows = windows(rows, collections, now);
    if has && windows.is_empty() {
        windows.push(Window { from: Timestamp::UNIX_EPOCH, until: Timestamp::UNIX_EPOCH });
    }
    if let Some(text) =
        Some(windows).filter(|all| !all.is_empty()).and_then(|all| serde_json::to_string(&all).ok())
    {
        part += &format!("\"windows\":{text},");
    }
    part
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn row(number: u32, collection: &str, purpose: Purpose, updates: &[u128]) -> UpdateDeploymentRow {
        UpdateDeploymentRow {
            id: format!("XYZ2000{number}").parse().expect("an id"),
            collection: collection.to_owned(),
            purpose,
            available: at("2026-11-01T00:00:00Z"),
            deadline: None,
            expires: None,
            comment: String::new(),
            stopped: None,
            created: at("2026-11-01T00:00:00Z"),
            created_by: "admin".to_owned(),
            updates: updates.iter().map(|id| (UpdateId(Uuid::from_u128(*id)), format!("KB{id}"))).collect(),
        }
    }

    #[test]
    fn updates_only_from_member_collections() {
        let now = at("2026-11-07T00:00:00Z");
        let rows = [
            row(1, "ring", Purpose::Available, &[1, 2]),
            row(2, "All Systems", Purpose::Required, &[2, 3]),
            row(3, "elsewhere", Purpose::Required, &[4]),
            UpdateDeploymentRow { stopped: Some(now), ..row(4, "ring", Purpose::Required, &[5]) },
            UpdateDeploymentRow { expires: Some(now), ..row(5, "ring", Purpose::Required, &[6]) },
            UpdateDeploymentRow {
                available: at("2026-11-08T00:00:00Z"),
                ..row(6, "ring", Purpose::Required, &[7])
            },
        ];
        let file = ContentFile { name: "2.cab".parse().unwrap(), size: 1, sha256: None, sha1: None };
        let files = Files::from([(UpdateId(Uuid::from_u128(2)), vec![file])]);
        let told = |collections: &[&str], now: Timestamp| -> Vec<String> {
            let all = updates(&rows, &files, collections, now);
            let names = |one: &DeployedUpdate| {
                one.files.iter().map(|file| format!(" {}", file.name)).collect::<String>()
            };
            all.iter().map(|one| format!("{} {}{}", one.title, one.mandatory, names(one))).collect()
        };
        assert_eq!(told(&["ring", "All Systems"], now), ["KB1 false", "KB2 true 2.cab", "KB3 true"]);
        assert_eq!(told(&["All Systems"], now), ["KB2 true 2.cab", "KB3 true"]);
        assert_eq!(told(&[], now), Vec::<String>::new());
        assert_eq!(told(&["ring"], at("2026-11-09T00:00:00Z")), ["KB1 false", "KB2 false 2.cab", "KB7 true"]);
        assert!(changes(&rows).any(|at| at == rows[5].available));
    }

    #[test]
    fn windows_are_those_of_all_collections_and_stay_the_same_within_a_day() {
        let window = |collection: &str, begins: &str| WindowRow {
            collection: collection.to_owned(),
            name: "w".to_owned(),
            begins: begins.to_owned(),
            once: None,
            minutes: 120,
            zone: "UTC".to_owned(),
        };
        let rows = [
            window("ring", "0 22 * * sat"),
            window("other", "0 1 * * *"),
            window("All Systems", "0 22 * * sat"),
        ];
        let told = |collections: &[&str], now: &str| windows(&rows, collections, at(now));
        let own = told(&["ring", "All Systems"], "2026-11-07T01:00:00Z");
        assert_eq!(own.len(), 3, "the same span of two collections is one: {own:?}");
        assert_eq!(own, told(&["ring", "All Systems"], "2026-11-07T21:00:00Z"));
        assert_eq!(told(&[], "2026-11-07T01:00:00Z"), []);
        let once =
            WindowRow { begins: String::new(), once: Some(at("2026-01-01T00:00:00Z")), ..window("ring", "") };
        let text = part(&[], &Files::new(), &[once], &["ring"], at("2026-11-07T00:00:00Z"));
        assert!(text.contains("1970-01-01"), "it has windows, and none comes: {text}");
        // What comes once in a quarter, or in five weeks, is known by then: however far away the next one is, it is told, once.
        let now = at("2026-11-07T12:00:00Z");
        let seldom = window("ring", "0 22 1 jan,apr,jul,oct *");
        let coming =
            WindowRow { once: Some(at("2026-12-12T22:00:00Z")), begins: String::new(), ..window("ring", "") };
        let told = windows(&[seldom.clone(), coming], &["ring"], now);
        let begins: Vec<_> = told.iter().map(|window| window.from).collect();
        assert_eq!(begins, [at("2026-12-12T22:00:00Z"), at("2027-01-01T22:00:00Z")]);
        assert_eq!(windows(std::slice::from_ref(&seldom), &["ring"], at("2026-11-07T23:59:00Z")), told[1..]);
        let text = part(&[], &Files::new(), &[seldom], &["ring"], now);
        assert!(text.contains("2027-01-01") && !text.contains("1970"), "{text}");
        let far =
            WindowRow { once: Some(at("2029-01-01T00:00:00Z")), begins: String::new(), ..window("ring", "") };
        assert_eq!(windows(&[far], &["ring"], now), [], "none for more than a year");
        assert_eq!(part(&[], &Files::new(), &rows, &["no"], at("2026-11-07T00:00:00Z")), "");
    }
}
