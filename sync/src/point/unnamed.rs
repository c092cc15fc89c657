//! What this point has and its site names no more, without having said that it is to go.
//!
//! A site that was restored from a backup knows nothing of what was sent since then, and one that was set up anew nothing at all.
//! What was verified here is not lost for that: it is served on, as private as it was, for `[dp] drop_after`, and goes before that
//! only where its room is wanted. What goes at once is what the site has said: packages that it names as taken off, and
//! what a later order of a package has no more.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use catalog::digest::Sha256Digest;
use catalog::id::{FileName, PackageId};
use catalog::problem::Problem;
use dp::library::Library;
use jiff::Timestamp;
use schema::unnamed::UnnamedRow;
use schema::{SchemaError, Writer};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::{demand, freed, parts};
use crate::clock;
use crate::packages::content::take_away;
use crate::points::wire::{Assigned, Assignment};
use crate::site::Site;

/// How often it is looked whether something has waited long enough.
const LOOK: Duration = Duration::from_secs(60);

/// What is served though nobody names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unnamed {
    /// Contents.
    pub contents: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the first of them goes, should nobody name it until then.
    pub first_goes: Timestamp,
}

/// Which of it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// What has waited long enough.
    None,
    /// The oldest, until there is room for so many bytes; nothing where all of it is less.
    For(u64),
}

/// A file that was assigned.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Was {
    package: PackageId,
    file_name: FileName,
    private: bool,
}

/// Files of the assignment before of which this one says nothing: it neither names them nor tells them to go. Pure.
///
/// A package tells by a later order, in no earlier version, what of it goes. An earlier one, or that of another site, is that of
/// somebody who does not know.
fn silent_about(before: &Assignment, now: &Assignment) -> HashMap<Sha256Digest, Was> {
    let named = parts::assigned(now);
    let is_later = |package: &Assigned, it: &Assigned| {
        it.package == package.package && it.order >= package.order && it.version >= package.version
    };
    let tells = |package: &Assigned| {
        before.site == now.site
            && (now.removing.contains(&package.package)
                || now.packages.iter().any(|it| is_later(package, it)))
    };
    let mut silent = HashMap::new();
    for package in before.packages.iter().filter(|package| !tells(package)) {
        for file in package.all_files().filter(|file| !named.contains(&file.sha256)) {
            let (package, file_name) = (package.package.clone(), file.name.clone());
            silent.entry(file.sha256).or_insert(Was { package, file_name, private: file.private });
        }
    }
    silent
}

/// Another assignment is written down: what it does not speak of is kept, and what it speaks of is not any more. How much is kept
/// that was not before.
///
/// # Errors
/// Those of the database.
pub(super) fn follow(
    w: &Writer<'_>,
    before: &Assignment,
    assignment: &Assignment,
    now: Timestamp,
) -> Result<u64, SchemaError> {
    let named = parts::assigned(assignment);
    for row in w.unnamed_contents()? {
        if named.contains(&row.sha256) || assignment.removing.contains(&row.package) {
            w.unnamed_is_over(row.sha256)?;
        }
    }
    let mut kept = 0;
    for (content, Was { package, file_name, private }) in silent_about(before, assignment) {
        kept += u64::from(w.keep_unnamed(content, (&package, &file_name), private, now)?);
    }
    Ok(kept)
}

/// Lets go what has waited long enough, for ever.
pub(super) async fn keep(site: &Arc<Site>) {
    loop {
        tokio::time::sleep(LOOK).await;
        if let Err(problem) = let_go(site, Room::None).await {
            warn!("what the site names no more cannot be looked after: {problem}");
        }
    }
}

/// Lets some of it go; of how many bytes the room has come. Where letting go brings none, nothing more goes for room.
pub(super) async fn let_go(site: &Arc<Site>, room: Room) -> Result<u64, Problem> {
    // That this point was off, or that its clock was set, makes nothing old.
    demand::watch_clock(site).await?;
    let rows = site.read(|r| r.unnamed_contents()).await?;
    let (mut gone, after) = (0, site.settings().dp.drop_after);
    let is_for_room = room != Room::None;
    if is_for_room && site.point.brake().is_on(Instant::now()) {
        return Ok(0);
    }
    for row in going(rows, room, after, clock::now()) {
        let sha256 = row.sha256;
        let before = if is_for_room { freed::free_or_arriving(site).await? } else { 0 };
        if site.write(move |w| w.forget_unnamed(sha256)).await? {
            site.refresh_shelf().await?;
            take_away(site, sha256, Library::remove).await?;
            info!(content.sha256 = %sha256, size_bytes = row.size, "{} of package {} goes: the site names it no more", row.file_name, row.package);
            if is_for_room && !freed::has_come(site, row.size, before).await? {
                break;
            }
            gone += row.size;
        }
    }
    Ok(gone)
}

/// Which of these, oldest first, go. Pure.
fn going(rows: Vec<UnnamedRow>, room: Room, after: Duration, now: Timestamp) -> Vec<UnnamedRow> {
    let is_over =
        |row: &UnnamedRow| Duration::try_from(now.duration_since(row.since)).unwrap_or_default() >= after;
    match room {
        Room::None => rows.into_iter().filter(is_over).collect(),
        Room::For(wanted) if rows.iter().map(|row| row.size).sum::<u64>() < wanted => Vec::new(),
        Room::For(mut wanted) => {
            let is_wanted = |row: &UnnamedRow| {
                let more = wanted > 0;
                wanted = wanted.saturating_sub(row.size);
                more
            };
            rows.into_iter().take_while(is_wanted).collect()
        }
    }
}

/// How much of it there is; `None` where there is nothing.
///
/// # Errors
/// Those of the database.
pub async fn status(site: &Arc<Site>) -> Result<Option<Unnamed>, Problem> {
    let rows = site.read(|r| r.unnamed_contents()).await?;
    let after = site.settings().dp.drop_after;
    Ok(rows.first().map(|first| Unnamed {
        contents: rows.len() as u64,
        bytes: rows.iter().map(|row| row.size).sum(),
        first_goes: first.since.checked_add(after).unwrap_or(Timestamp::MAX),
    }))
}

#[cfg(test)]
mod tests {
    use catalog::digest::Sha1Digest;
    use schema::points::Work;

    use super::*;
    use crate::points::wire::AssignedFile;

    fn content(n: u8) -> Sha256Digest {
        Sha256Digest([n; 32])
    }

    fn package(number: u8, version: u32, order: u64, files: &[u8]) -> Assigned {
        let file = |n: &u8| AssignedFile {
            name: format!("{n}.esd").parse().expect("a name"),
            sha256: content(*n),
            sha1: Sha1Digest([*n; 20]),
            size: 1,
            private: *n > 8,
        };
        Assigned {
            package: format!("XYZ0000{number}").parse().expect("an id"),
            name: "p".to_owned(),
            version,
            work: Work::Send,
            order,
            files: files.iter().map(file).collect(),
            leaving: Vec::new(),
            hold: false,
        }
    }

    fn assignment(site: &str, packages: Vec<Assigned>, removing: &[u8]) -> Assignment {
        let removing = removing.iter().map(|n| format!("XYZ0000{n}").parse().expect("an id")).collect();
        Assignment { site: site.to_owned(), packages, removing, ..Assignment::default() }
    }

    #[test]
    fn only_what_a_site_says_goes_at_once() {
        let before = assignment("XYZ", vec![package(1, 2, 7, &[1, 2]), package(2, 1, 5, &[2, 3, 9])], &[]);
        let both = || vec![package(1, 2, 7, &[1, 2]), package(2, 1, 5, &[2, 3, 9])];
        for (what, now, silent) in [
            ("nothing has changed", assignment("XYZ", both(), &[]), vec![]),
            ("one is taken off", assignment("XYZ", vec![package(1, 2, 7, &[1, 2])], &[2]), vec![]),
            ("one is not named", assignment("XYZ", vec![package(1, 2, 7, &[1, 2])], &[]), vec![3, 9]),
            (
                "what another one has too stays named",
                assignment("XYZ", vec![package(2, 1, 5, &[2, 3, 9])], &[]),
                vec![1],
            ),
            ("both are taken off", assignment("XYZ", vec![], &[1, 2]), vec![]),
            ("one of two that had it is not named", assignment("XYZ", vec![], &[1]), vec![2, 3, 9]),
            (
                "a later version",
                assignment("XYZ", vec![package(1, 3, 8, &[4]), package(2, 1, 5, &[3, 9])], &[]),
                vec![],
            ),
            (
                "what left has left",
                assignment("XYZ", vec![package(1, 2, 7, &[1]), package(2, 1, 5, &[3, 9])], &[]),
                vec![],
            ),
            (
                "an earlier version, from a backup",
                assignment("XYZ", vec![package(1, 1, 3, &[1])], &[2]),
                vec![2],
            ),
            (
                "the same version by an earlier order",
                assignment("XYZ", vec![package(1, 2, 6, &[1])], &[2]),
                vec![2],
            ),
            ("a site set up anew", assignment("XYZ", vec![], &[]), vec![1, 2, 3, 9]),
            ("another site", assignment("ABC", vec![package(1, 9, 99, &[1])], &[2]), vec![2, 3, 9]),
        ] {
            let mut found: Vec<_> = silent_about(&before, &now).into_iter().collect();
            found.sort_by_key(|(content, _)| *content);
            assert_eq!(found.iter().map(|(content, _)| content.0[0]).collect::<Vec<_>>(), silent, "{what}");
            assert!(found.iter().all(|(content, was)| was.private == (content.0[0] > 8)), "{what}");
        }
    }

    #[test]
    fn what_waited_long_enough_goes_and_for_room_the_oldest() {
        let at = |hours: i64| Timestamp::from_second(hours * 3_600).unwrap();
        let row = |n: u8, since: i64, size: u64| UnnamedRow {
            sha256: content(n),
            sha1: Sha1Digest([n; 20]),
            size,
            package: "XYZ00001".parse().expect("an id"),
            file_name: "a.esd".parse().expect("a name"),
            private: false,
            since: at(since),
        };
        let rows = || vec![row(1, 10, 5), row(2, 20, 5), row(3, 90, 5)];
        for (room, hours, now, expected) in [
            (Room::None, 24, 33, vec![]),
            (Room::None, 24, 34, vec![1]),
            (Room::None, 24, 44, vec![1, 2]),
            (Room::None, 24, 5, vec![]), // the clock was put back
            (Room::None, 0, 21, vec![1, 2, 3]),
            (Room::For(1), 24, 20, vec![1]),
            (Room::For(5), 24, 20, vec![1]),
            (Room::For(6), 24, 20, vec![1, 2]),
            (Room::For(15), 24, 20, vec![1, 2, 3]),
            (Room::For(16), 24, 20, vec![]), // not in vain
        ] {
            let after = Duration::from_secs(hours * 3_600);
            let goes = going(rows(), room, after, at(now));
            let goes: Vec<_> = goes.iter().map(|row| row.sha256.0[0]).collect();
            assert_eq!(goes, expected, "{room:?} {hours} {now}");
        }
    }
}
