//! Making the assignment of a point from what the site knows.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use catalog::digest::Sha256Digest;
use catalog::problem::{Code, Problem};
use dp::server::UpstreamPaths;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use schema::assigned::AssignedRows;
use schema::distribution::ShelfRow;
use schema::points::PointRow;

use super::grid::{Grid, Level};
use super::kept::{Around, Tag};
use super::wire::{Assigned, AssignedFile, Assignment, MOST_UPSTREAM_PATHS};
use crate::blocking::blocking;
use crate::clock;
use crate::config::Settings;
use crate::site::Site;

/// What is in an assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// Everything, the content keys of devices too: points of before ask for nothing else.
    KeysWithin,
    /// Keys are asked for by themselves ([`super::device_keys`]).
    KeysApart,
}

/// An assignment as it is sent.
#[derive(Debug, Clone)]
pub struct Made {
    /// JSON; none where nothing has changed since it was made, and it was not asked for.
    pub body: Option<Bytes>,
    /// Its strong tag.
    pub etag: String,
    /// Something of it is private: the point has to know who may have it.
    pub private: bool,
    /// The number of changes of the content keys of devices, read with it.
    pub keys: u64,
}

/// What `point` is to hold now: made where it is not known already, so that there may be no body.
///
/// # Errors
/// Those of the database.
pub async fn make(site: &Arc<Site>, point: i64, form: Form) -> Result<Made, Problem> {
    let kept = site.points.kept.of(point, form);
    made(site, point, form, kept).await
}

/// The same with its body.
///
/// # Errors
/// Those of the database.
pub async fn make_whole(site: &Arc<Site>, point: i64, form: Form) -> Result<Made, Problem> {
    made(site, point, form, None).await
}

/// What was found in the database.
enum Found {
    /// What is kept is good.
    Same { etag: String, private: bool },
    /// The rows, and the content keys of devices where they are asked for and something is private.
    Rows(Box<AssignedRows>, Vec<Sha256Digest>),
    /// There is no such point.
    NoPoint,
}

async fn made(site: &Arc<Site>, point: i64, form: Form, kept: Option<Arc<Tag>>) -> Result<Made, Problem> {
    let settings = site.settings();
    let now = clock::now();
    let (live, set) = (site.clone(), settings.clone());
    let (changes, around, found) = site
        .read(move |r| {
            // Before the first question, which is when the state that is read begins: what changes from now on is another one, by
            // which this will not be taken for good.
            let around = Around::of(&live, &set);
            let changes = r.assignment_changes(point)?;
            if let Some(tag) = kept.filter(|tag| tag.is_good(form, &changes, &around, &set, now)) {
                let same = Found::Same { etag: tag.etag.clone(), private: tag.private };
                return Ok((changes, around, same));
            }
            let Some(rows) = r.assigned_rows(point, &live.points.kept.privacy, changes.privacy)? else {
                return Ok((changes, around, Found::NoPoint));
            };
            let with_keys = form == Form::KeysWithin && is_private(&rows);
            let keys = if with_keys { r.content_keys()? } else { Vec::new() };
            Ok((changes, around, Found::Rows(Box::new(rows), keys)))
        })
        .await?;
    let (rows, keys) = match found {
        Found::Same { etag, private } => return Ok(Made { body: None, etag, private, keys: changes.keys }),
        Found::Rows(rows, keys) => (rows, keys),
        Found::NoPoint => {
            let (body, etag) = worded(&Assignment::default())?;
            return Ok(Made { body: Some(body), etag, private: false, keys: changes.keys });
        }
    };
    let (live, code) = (site.clone(), site.code().to_string());
    // Of thousands of files it takes longer than who answers others may wait.
    blocking(move || {
        let (private, own) = (is_private(&rows), rows.point.clone());
        let paused = paused(&own, &settings, now);
        let assignment = assignment(*rows, keys, &around, code, paused.clone());
        let (body, etag) = worded(&assignment)?;
        let tag = Tag { etag: etag.clone(), private, changes, around, point: own, paused };
        live.points.kept.keep(point, form, tag);
        Ok(Made { body: Some(body), etag, private, keys: changes.keys })
    })
    .await
}

/// Its JSON, and the tag of that.
fn worded(assignment: &Assignment) -> Result<(Bytes, String), Problem> {
    let body = serde_json::to_vec(assignment).map_err(|error| Problem::of(Code::Internal, &error))?;
    let etag = format!("\"{}\"", Sha256Digest::of(&body).short());
    Ok((body.into(), etag))
}

/// Where the upstream has what is public of it.
fn upstream(by_upstream: &UpstreamPaths, packages: &[Assigned]) -> BTreeMap<String, Sha256Digest> {
    let files = packages.iter().flat_map(Assigned::all_files);
    let public: HashSet<_> = files.filter(|file| !file.private).map(|file| file.sha256).collect();
    let of_it = by_upstream.said().iter().filter(|(_, content)| public.contains(content));
    let mut paths: BTreeMap<_, _> = of_it.map(|(path, content)| (path.clone(), *content)).collect();
    while paths.len() > MOST_UPSTREAM_PATHS {
        paths.pop_last();
    }
    paths
}

fn is_private(rows: &AssignedRows) -> bool {
    let mut files = rows.packages.iter().flat_map(|row| row.files.iter().chain(&row.leaving));
    files.any(|file| file.private)
}

/// The assignment that follows. Pure.
fn assignment(
    rows: AssignedRows,
    keys: Vec<Sha256Digest>,
    around: &Around,
    site: String,
    paused: Option<String>,
) -> Assignment {
    let AssignedRows { point, points, with_key, packages: placed } = rows;
    // A ring that was set before rings were refused is none: who would be asked by way of others is asked for nothing.
    let goes_round = |source: &PointRow| {
        let only = PointRow { pull_from: vec![source.name.clone()], ..point.clone() };
        ring(&points, &only).is_some()
    };
    let addresses = |name: &String| {
        let serves =
            |source: &&PointRow| source.name == *name && !source.maintenance && with_key.contains(&source.id);
        let source = points.iter().find(serves).filter(|source| !goes_round(source))?;
        let is_own = source.id == schema::points::OWN_POINT;
        let url = if is_own { around.public_url.clone() } else { source.url.clone() };
        Some(url).filter(|url| !url.is_empty())
    };
    let (mut packages, mut removing) = (Vec::new(), Vec::new());
    for placed in placed {
        if placed.removing {
            removing.push(placed.package);
            continue;
        }
        let files = |rows: Vec<ShelfRow>| rows.into_iter().map(file).collect();
        packages.push(Assigned {
            files: files(placed.files),
            leaving: files(placed.leaving),
            hold: placed.hold,
            package: placed.package,
            name: placed.name,
            version: placed.version,
            work: placed.work,
            order: placed.order,
        });
    }
    Assignment {
        keys,
        groups: around.groups.to_vec(),
        certificate: super::certificate::hosts(around.has_authority, &point),
        point: point.name.clone(),
        site,
        paused,
        rate: point.rate,
        pull_from: point.pull_from.iter().filter_map(addresses).collect(),
        upstream: upstream(&around.by_upstream, &packages),
        packages,
        removing,
    }
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
