//! Making the assignment of a point from what the site knows.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use catalog::digest::Sha256Digest;
use catalog::problem::{Code, Problem};
use dp::server::Shelf;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use schema::distribution::ShelfRow;
use schema::points::{ContentState, PointRow};
use schema::{Reader, SchemaError};

use super::grid::{Grid, Level};
use super::wire::{Assigned, AssignedFile, Assignment, MOST_UPSTREAM_PATHS};
use crate::blocking::blocking;
use crate::clock;
use crate::config::Settings;
use crate::site::Site;

/// An assignment as it is sent.
#[derive(Debug, Clone)]
pub struct Made {
    /// JSON.
    pub body: Bytes,
    /// Its strong tag.
    pub etag: String,
}

/// What `point` is to hold now.
///
/// # Errors
/// Those of the database.
pub async fn make(site: &Arc<Site>, point: i64) -> Result<Made, Problem> {
    let settings = site.settings();
    let code = site.code().to_string();
    let now = clock::now();
    let mut assignment = site.read(move |r| read(r, point, &settings, &code, now)).await?;
    assignment.groups = site.locations.map().to_vec();
    let shelf = site.shelf.load_full();
    // Of thousands of files it takes longer than who answers others may wait.
    blocking(move || {
        assignment.upstream = upstream(&shelf, &assignment);
        let body = serde_json::to_vec(&assignment).map_err(|error| Problem::of(Code::Internal, &error))?;
        let etag = format!("\"{}\"", &Sha256Digest::of(&body).to_string()[..32]);
        Ok(Made { body: body.into(), etag })
    })
    .await
}

/// Where the upstream has what is public of it.
fn upstream(shelf: &Shelf, assignment: &Assignment) -> BTreeMap<String, Sha256Digest> {
    let files = assignment.packages.iter().flat_map(Assigned::all_files);
    let public: HashSet<_> = files.filter(|file| !file.private).map(|file| file.sha256).collect();
    let of_it = shelf.by_upstream.iter().filter(|(_, content)| public.contains(content));
    let mut paths: BTreeMap<_, _> = of_it.map(|(path, content)| (path.clone(), *content)).collect();
    while paths.len() > MOST_UPSTREAM_PATHS {
        paths.pop_last();
    }
    paths
}

fn read(
    reader: &Reader<'_>,
    id: i64,
    settings: &Settings,
    code: &str,
    now: Timestamp,
) -> Result<Assignment, SchemaError> {
    let points = reader.point_settings()?;
    let Some(point) = points.iter().find(|point| point.id == id) else { return Ok(Assignment::default()) };
    let places = reader.places()?;
    let has_key = |id: i64| places.iter().any(|place| place.id == id && place.has_key);
    // A ring that was set before rings were refused is none: who would be asked by way of others is asked for nothing.
    let goes_round = |source: &PointRow| {
        let only = PointRow { pull_from: vec![source.name.clone()], ..point.clone() };
        ring(&points, &only).is_some()
    };
    let addresses = |name: &String| {
        let serves = |point: &&PointRow| point.name == *name && !point.maintenance && has_key(point.id);
        let source = points.iter().find(serves).filter(|source| !goes_round(source))?;
        let url =
            if source.id == schema::points::OWN_POINT { settings.public_url() } else { source.url.clone() };
        Some(url).filter(|url| !url.is_empty())
    };
    let (mut packages, mut removing) = (Vec::new(), Vec::new());
    for placed in reader.placements_on(id)? {
        if placed.state == ContentState::Removing {
            removing.push(placed.package);
            continue;
        }
        let files = |rows: Vec<ShelfRow>| rows.into_iter().map(file).collect();
        packages.push(Assigned {
            files: files(reader.placed_files(&placed.package, id)?),
            leaving: files(reader.leaving_files(&placed.package, id)?),
            hold: placed.state == ContentState::Cancelled,
            package: placed.package,
            name: placed.name,
            version: placed.version,
            work: placed.work,
            order: placed.order,
        });
    }
    let is_private = packages.iter().flat_map(Assigned::all_files).any(|file| file.private);
    let keys = if is_private { reader.content_keys()? } else { Vec::new() };
    Ok(Assignment {
        keys,
        groups: Vec::new(),
        certificate: super::certificate::hosts(settings, point),
        point: point.name.clone(),
        site: code.to_owned(),
        paused: paused(point, settings, now),
        rate: point.rate,
        pull_from: point.pull_from.iter().filter_map(addresses).collect(),
        upstream: BTreeMap::new(),
        packages,
        removing,
    })
}

/// The names on a way by which a point, with what is set for it now, would pull from itself; `None` where there is none. Pure.
pub(super) fn ring(points: &[PointRow], changed: &PointRow) -> Option<Vec<String>> {
    let sources = |name: &str| {
        let set = points.iter().find(|point| point.id != changed.id && point.name == name);
        set.map_or(&[][..], |point| &point.pull_from)
    };
    let mut seen: HashSet<&str> = HashSet::new();
    let mut ways: Vec<Vec<&str>> =
        changed.pull_from.iter().map(|source| vec![changed.name.as_str(), source]).collect();
    while let Some(way) = ways.pop() {
        let last = *way.last()?;
        if last == changed.name {
            return Some(way.into_iter().map(str::to_owned).collect());
        }
        if seen.insert(last) {
            ways.extend(sources(last).iter().map(|next| [way.as_slice(), &[next.as_str()]].concat()));
        }
    }
    None
}

fn file(row: ShelfRow) -> AssignedFile {
    AssignedFile {
        name: row.file_name,
        sha256: row.sha256,
        sha1: row.sha1,
        size: row.size,
        private: row.private,
    }
}

/// Why nothing may be fetched now.
pub(crate) fn paused(point: &PointRow, settings: &Settings, now: Timestamp) -> Option<String> {
    if point.maintenance {
        return Some("maintenance".to_owned());
    }
    let level = level(point, settings, now);
    (!level.lets_medium_through()).then(|| format!("schedule: {level}"))
}

/// What the schedule of a point says now.
pub(super) fn level(point: &PointRow, settings: &Settings, now: Timestamp) -> Level {
    let zone = TimeZone::get(&settings.sync.timezone).unwrap_or(TimeZone::UTC);
    // What an operator set was read then; should it not be readable now, nothing is held back.
    point.schedule.parse::<Grid>().unwrap_or_default().at(now, &zone)
}

#[cfg(test)]
mod tests {
    use schema::points::PointRole;

    use super::*;

    fn point(id: i64, name: &str, pull_from: &[&str]) -> PointRow {
        PointRow {
            id,
            name: name.to_owned(),
            role: PointRole::Pull,
            url: String::new(),
            tls_url: String::new(),
            maintenance: false,
            rate: None,
            schedule: String::new(),
            last_seen: None,
            free: None,
            program: None,
            on_demand: false,
            may_pull: false,
            address: None,
            packages: 0,
            contents: 0,
            bytes: 0,
            pull_from: pull_from.iter().map(|name| (*name).to_owned()).collect(),
            groups: Vec::new(),
        }
    }

    #[test]
    fn a_ring_is_found_however_long_it_is() {
        let points = [
            point(1, "site", &[]),
            point(2, "a", &["b", "site"]),
            point(3, "b", &["c"]),
            point(4, "c", &[]),
            // Set before rings were refused.
            point(5, "x", &["y"]),
            point(6, "y", &["x"]),
        ];
        for (id, name, pull_from, expected) in [
            (4, "c", &["site"][..], None),
            (4, "c", &["c"], Some("c c")),
            (4, "c", &["b"], Some("c b c")),
            (4, "c", &["site", "a"], Some("c a b c")),
            (4, "c", &["x"], None), // the ring of others is not this one's
            (2, "a", &["b", "c"], None),
            (3, "b", &["c", "site"], None),
            (5, "x", &["y"], Some("x y x")),
            (7, "new", &["a", "b"], None),
        ] {
            let found = ring(&points, &point(id, name, pull_from)).map(|way| way.join(" "));
            assert_eq!(found.as_deref(), expected, "{name} {pull_from:?}");
        }
    }
}
