//! Whole things on their way to points and off them: deployment packages, OS upgrade packages and applications, all alike.
//!
//! A [`Parcel`] is named by whoever knows what it is; here it goes to each point and group that names mean, in one transaction,
//! and a line of the answer says what came of it on each.

use std::sync::Arc;

use catalog::id::PackageId;
use catalog::problem::{Code, Problem};
use jiff::Timestamp;
use schema::packages::Package;
use schema::{SchemaError, Writer};
use serde::{Deserialize, Serialize};

use super::send::{Sent, Targets, line, mark_enrolled, send_to, targets, withdraw_from};
use crate::admin::{Answer, Caller};
use crate::clock;
use crate::config::PointRetry;
use crate::site::Site;

/// What sort of thing goes to points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// A deployment package.
    Package,
    /// An OS upgrade package.
    Image,
    /// An application.
    App,
}

impl Sort {
    /// The noun of the command line and of the audit.
    pub fn word(self) -> &'static str {
        match self {
            Self::Package => "package",
            Self::Image => "image",
            Self::App => "app",
        }
    }
}

/// A thing that goes to points whole.
#[derive(Debug, Clone)]
pub struct Parcel {
    /// Its id.
    pub id: PackageId,
    /// What it is.
    pub sort: Sort,
    /// Its name.
    pub name: String,
    /// Its files, each once.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Parcel {
    /// The row by which it goes to points, as it is now.
    fn row(&self, w: &Writer<'_>, now: Timestamp) -> Result<Package, SchemaError> {
        match self.sort {
            Sort::Package => w.package(&self.id)?.ok_or_else(|| {
                Problem::new(Code::PackageNotFound, format!("there is no package {}", self.id)).into()
            }),
            Sort::Image | Sort::App => w.software_package(&self.id, self.sort.word(), &self.name, now),
        }
    }
}

/// What sending did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Distributed {
    /// Its id.
    pub package: PackageId,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// Each point.
    pub points: Vec<Sent>,
    /// Nothing was changed.
    pub dry_run: bool,
}

/// Sends parcels to points and groups. What a point refuses stands in its line; the others are sent it all the same.
///
/// # Errors
/// Those of the database.
pub async fn send(
    site: &Arc<Site>,
    parcels: Vec<Parcel>,
    targets: Targets,
    caller: &Caller,
) -> Result<Vec<Distributed>, Problem> {
    let (dry_run, who, retry) = (caller.dry_run, caller.who.clone(), site.settings().dp.retry.clone());
    // What would happen is what happens, undone.
    let made = site.write_unless(dry_run, move |w| {
        let now = clock::now();
        parcels
            .iter()
            .map(|parcel| send_one(w, parcel, &targets, &retry, (who.as_str(), dry_run), now))
            .collect()
    });
    let sent = made.await?;
    if !dry_run {
        site.points.changed();
        site.refresh_shelf().await?;
    }
    Ok(sent)
}

fn send_one(
    w: &Writer<'_>,
    parcel: &Parcel,
    targets: &Targets,
    retry: &PointRetry,
    (who, dry_run): (&str, bool),
    now: Timestamp,
) -> Result<Distributed, SchemaError> {
    let package = parcel.row(w, now)?;
    let mut points = Vec::new();
    for point in &targets.points {
        let done = send_to(w, &package, (point, targets.meaning(point)), retry, now)?;
        points.push(line(point.name.clone(), parcel.files, parcel.bytes, done));
    }
    for group in &targets.groups {
        w.put_group_package(group.id, &parcel.id, true)?;
    }
    mark_enrolled(w, &mut points)?;
    w.audit(who, &format!("{}.distribute", parcel.sort.word()), parcel.id.as_str(), now)?;
    let (package, name, version) = (package.id, parcel.name.clone(), package.version);
    Ok(Distributed { package, name, version, points, dry_run })
}

/// Takes a parcel off the points and groups of these names, or off all; what another one there needs stays served.
///
/// # Errors
/// `DP_NOT_FOUND`.
pub async fn take_off(
    site: &Arc<Site>,
    parcel: Parcel,
    from: &[String],
    caller: &Caller,
) -> Result<Answer, Problem> {
    let all = ["all".to_owned()];
    let Targets { points, mut groups } = targets(site, if from.is_empty() { &all } else { from }).await?;
    if from.is_empty() {
        groups = site.read(|r| r.point_groups()).await?;
    }
    let (who, retry) = (caller.who.clone(), site.settings().dp.retry.clone());
    let (id, name) = (parcel.id.clone(), parcel.name.clone());
    let made = site.write_unless(caller.dry_run, move |w| {
        let now = clock::now();
        let mut names = Vec::new();
        for point in &points {
            if w.placement(&parcel.id, point.id)?.is_some() {
                withdraw_from(w, &parcel.id, point, &retry, now)?;
                names.push(point.name.clone());
            }
        }
        for group in &groups {
            w.put_group_package(group.id, &parcel.id, false)?;
        }
        w.audit(&who, &format!("{}.withdraw", parcel.sort.word()), parcel.id.as_str(), now)?;
        Ok(names)
    });
    let names = made.await?;
    if !caller.dry_run {
        site.points.changed();
        site.refresh_shelf().await?;
    }
    Answer::of(&serde_json::json!({
        "package": id, "name": name, "withdrawn_from": names, "dry_run": caller.dry_run,
    }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use catalog::digest::{Sha1Digest, Sha256Digest};
    use schema::Store;
    use schema::keys::{NewEnrolment, NewKeys, PrincipalKind};
    use schema::points::{ContentState, OWN_POINT, Placement, PointRole, PointRow};
    use schema::software::{AppFile, AppRow};
    use uuid::Uuid;

    use super::super::send;
    use super::*;

    const RETRY: PointRetry = PointRetry { max: 3, delay: Duration::from_secs(60) };
    const CONTENT: Sha256Digest = Sha256Digest([7; 32]);

    /// An application of one file of nine bytes, which the site has.
    fn portal(w: &Writer<'_>) -> Result<Parcel, SchemaError> {
        let now = Timestamp::UNIX_EPOCH;
        w.record_content(CONTENT, Sha1Digest([1; 20]), 9, false, now)?;
        let (id, number) = w.next_id(&"XYZ".parse().expect("a code"))?;
        let file_name = "setup.exe".parse().expect("a name");
        let files = vec![AppFile { file_name, content: CONTENT, size: 9 }];
        let (name, form) = ("Portal".to_owned(), serde_json::Value::Null);
        let app = AppRow { id: id.clone(), name: name.clone(), form, retired: false, created: now, files };
        w.create_app(number, &app)?;
        Ok(Parcel { id, sort: Sort::App, name, files: 1, bytes: 9 })
    }

    #[test]
    fn whatever_is_sent_says_alike_who_never_enrolled_and_who_has_no_room() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("site.db"), 1).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let change = |w: &Writer<'_>| {
            let now = Timestamp::UNIX_EPOCH;
            let parcel = portal(w)?;
            let id = parcel.id.clone();
            for name in ["lyon", "full"] {
                let point = w.add_point(name, "http://x", PointRole::Standard)?;
                w.point_seen(point, (name == "full").then_some(8), None, now)?;
            }
            let targets = Targets { points: w.point_rows()?, groups: Vec::new() };
            let sent = send_one(w, &parcel, &targets, &RETRY, ("ann", false), now)?;
            let lines: Vec<_> = sent
                .points
                .iter()
                .map(|one| (one.enrolled, one.problem.as_ref().map(|problem| problem.code)))
                .collect();
            assert_eq!(lines, [(None, None), (Some(false), None), (Some(false), Some(Code::DpDiskFull))]);
            let full = sent.points[2].problem.as_ref().map(ToString::to_string).unwrap_or_default();
            assert!(full.contains("needs 9 bytes") && full.contains("has 8 free"), "{full}");
            assert!(w.placement(&id, OWN_POINT)?.is_some());
            // One in maintenance that was named refuses; what its group gets follows.
            let point = w.add_point("rome", "http://x", PointRole::Standard)?;
            w.create_point_group("south")?;
            let south = w.point_groups()?.remove(0).id;
            w.join_point_group(south, point)?;
            let rome = |w: &Writer<'_>| -> Result<_, SchemaError> {
                Ok(w.point_rows()?.into_iter().filter(|row| row.id == point).collect::<Vec<_>>())
            };
            w.set_point(&PointRow { maintenance: true, ..rome(w)?.remove(0) })?;
            for (groups, state) in [(Vec::new(), None), (w.point_groups()?, Some(ContentState::Queued))] {
                let targets = Targets { points: rome(w)?, groups };
                let sent = send_one(w, &parcel, &targets, &RETRY, ("ann", false), now)?.points.remove(0);
                let refused = sent.problem.as_ref().map(|problem| problem.code);
                let expected = state.is_none().then_some(Code::DpInMaintenance);
                assert_eq!((sent.state, refused), (state, expected));
            }
            assert_eq!(w.acts(1)?[0].what, "app.distribute");
            let gone = Parcel { sort: Sort::Package, id: "XYZ00099".parse().expect("an id"), ..parcel };
            assert!(send_one(w, &gone, &targets, &RETRY, ("ann", false), now).is_err());
            Ok(())
        };
        runtime.block_on(store.write(change)).unwrap();
    }

    #[test]
    fn a_machine_in_the_place_of_another_has_nothing_as_far_as_anybody_knows() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("site.db"), 1).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let change = |w: &Writer<'_>| {
            let now = Timestamp::UNIX_EPOCH;
            let parcel = portal(w)?;
            let id = parcel.id.clone();
            let lyon = w.add_point("lyon", "http://x", PointRole::Standard)?;
            let enrols = |number: u8, instance: u128| -> Result<(), SchemaError> {
                let hash = Sha256Digest([number; 32]);
                let (kind, name, expires) =
                    (PrincipalKind::Point, "lyon".to_owned(), now + Duration::from_secs(9));
                w.begin_enrolment(&NewEnrolment { hash, kind, name, expires }, now)?;
                let keys = NewKeys { key: Sha256Digest([number + 100; 32]), content: None };
                let principal = w.enrol(hash, keys, Uuid::from_u128(instance), now)?;
                send::installed(w, &principal, &RETRY, now)
            };
            enrols(1, 1)?;
            let points = w.point_rows()?.into_iter().filter(|row| row.id == lyon).collect();
            send_one(w, &parcel, &Targets { points, groups: Vec::new() }, &RETRY, ("ann", false), now)?;
            let placed = |w: &Writer<'_>| -> Result<Placement, SchemaError> {
                w.placement(&id, lyon)?.ok_or_else(|| SchemaError::Value("gone".to_owned()))
            };
            let success = Placement { state: ContentState::Success, done: 9, ..placed(w)? };
            w.put_placement(&success)?;
            let held = |w: &Writer<'_>| w.held_of(lyon, &[CONTENT]).map(|held| held.len());
            enrols(2, 1)?;
            assert_eq!((placed(w)?, held(w)?), (success.clone(), 1), "the same machine with another key");
            enrols(3, 2)?;
            let now = placed(w)?;
            assert_eq!((now.state, now.done, held(w)?), (ContentState::Queued, 0, 0));
            assert!(now.order > success.order);
            Ok(())
        };
        runtime.block_on(store.write(change)).unwrap();
    }
}
