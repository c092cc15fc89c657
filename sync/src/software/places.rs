//! OS upgrade packages and applications on distribution points: sent, watched and taken off as packages are, for devices and
//! points alone.

use std::sync::Arc;

use catalog::digest::Sha256Digest;
use catalog::id::PackageId;
use catalog::problem::{Code, Problem};
use serde::{Deserialize, Serialize};

use super::{apps, images};
use crate::admin::{Answer, Caller};
use crate::authoring::surroundings::{Known, sequence};
use crate::clock;
use crate::packages::Distributed;
use crate::points;
use crate::sequence::Sequence;
use crate::sequence::refs::Target;
use crate::site::Site;

/// What sort of thing is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An OS upgrade package.
    Image,
    /// An application.
    App,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::App => "app",
        }
    }
}

/// An image or application with its content.
struct Thing {
    id: PackageId,
    kind: Kind,
    name: String,
    files: Vec<(Sha256Digest, u64)>,
}

impl Thing {
    fn of_image(row: &schema::software::ImageRow) -> Self {
        let files = vec![(row.content, row.size)];
        Self { id: row.id.clone(), kind: Kind::Image, name: row.name.clone(), files }
    }

    fn of_app(row: &schema::software::AppRow) -> Self {
        let files = row.files.iter().map(|file| (file.content, file.size)).collect();
        Self { id: row.id.clone(), kind: Kind::App, name: row.name.clone(), files }
    }

    fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, size)| size).sum()
    }
}

async fn named(site: &Arc<Site>, kind: Kind, name: &str) -> Result<Thing, Problem> {
    Ok(match kind {
        Kind::Image => Thing::of_image(&images::named(site, name).await?),
        Kind::App => Thing::of_app(&apps::named(site, name).await?),
    })
}

/// Sends an image or application to distribution points.
///
/// # Errors
/// `OS_UPGRADE_PACKAGE_NOT_FOUND`, `APPLICATION_NOT_FOUND`, `DP_NOT_FOUND`, `PACKAGE_EMPTY` for what has no files,
/// `CONTENT_NOT_FOUND` where the library lacks some; what each point refuses is in the answer, unless all do.
pub async fn distribute(
    site: &Arc<Site>,
    kind: Kind,
    name: &str,
    to: &[String],
    caller: &Caller,
) -> Result<Answer, Problem> {
    let thing = named(site, kind, name).await?;
    if thing.files.is_empty() {
        return Err(Problem::new(Code::PackageEmpty, format!("`{}` has no files", thing.name)));
    }
    let label = thing.name.clone();
    let mut all = send(site, vec![thing], to, caller).await?;
    let distributed = all.pop().ok_or_else(|| Problem::new(Code::Internal, "nothing was sent"))?;
    let problem = points::partly(&distributed.points, &label)?;
    Answer::partly(&distributed, problem)
}

/// Sends everything that a task sequence refers to but feature updates, which are in packages of their own; and its boot image.
///
/// # Errors
/// `TASK_SEQUENCE_NOT_FOUND`, and those of [`distribute`].
pub async fn distribute_all(
    site: &Arc<Site>,
    name: &str,
    to: &[String],
    caller: &Caller,
) -> Result<Answer, Problem> {
    let row = sequence(site, name).await?;
    let parsed = Sequence::parse(&row.document)?;
    let known = Known::of(site).await?;
    let mut things: Vec<Thing> = Vec::new();
    let boot = parsed.boot_image.clone().map(Target::Image);
    let enabled = parsed.references().into_iter().filter(|reference| reference.enabled);
    for target in enabled.map(|reference| reference.target).chain(boot) {
        let found = match &target {
            Target::FeatureUpdate(_) => None,
            Target::Image(id) => known.images.iter().find(|row| row.id == *id).map(Thing::of_image),
            Target::Application(id) => known.apps.iter().find(|row| row.id == *id).map(Thing::of_app),
        };
        let found = found.filter(|thing| !thing.files.is_empty());
        things.extend(found.filter(|thing| things.iter().all(|other| other.id != thing.id)));
    }
    let all = send(site, things, to, caller).await?;
    let mut problem = None;
    for one in &all {
        problem = points::partly(&one.points, &one.name)?.or(problem);
    }
    let body = serde_json::json!({
        "sequence": row.id, "name": row.name, "distributed": all, "dry_run": caller.dry_run,
    });
    Answer::partly(&body, problem)
}

async fn send(
    site: &Arc<Site>,
    things: Vec<Thing>,
    to: &[String],
    caller: &Caller,
) -> Result<Vec<Distributed>, Problem> {
    let targets = points::targets(site, to).await?;
    let here = site.read(|r| r.content_digests()).await?;
    for thing in &things {
        if thing.files.iter().any(|(sha256, _)| !here.contains(sha256)) {
            let message = format!("the library lacks content of `{}`", thing.name);
            return Err(Problem::new(Code::ContentNotFound, message).help("add it again"));
        }
    }
    let (dry_run, who, retry) = (caller.dry_run, caller.who.clone(), site.settings().dp.retry.clone());
    let sent = site
        .write_unless(dry_run, move |w| {
            let now = clock::now();
            let mut all = Vec::new();
            for thing in &things {
                let package = w.software_package(&thing.id, thing.kind.word(), &thing.name, now)?;
                let (files, bytes) = (thing.files.len() as u64, thing.bytes());
                let mut sent = Vec::new();
                for point in &targets.points {
                    let done = points::send_to(w, &package, point, &retry, now)?;
                    sent.push(points::line(point.name.clone(), files, bytes, done));
                }
                for group in &targets.groups {
                    w.put_group_package(group.id, &thing.id, true)?;
                }
                w.audit(&who, &format!("{}.distribute", thing.kind.word()), thing.id.as_str(), now)?;
                all.push(Distributed {
                    package: thing.id.clone(),
                    name: thing.name.clone(),
                    version: package.version,
                    points: sent,
                    dry_run,
                });
            }
            Ok(all)
        })
        .await?;
    if !dry_run {
        site.points.changed();
        site.refresh_shelf().await?;
    }
    Ok(sent)
}

/// Takes an image or application off distribution points; off all without names.
///
/// # Errors
/// `DP_NOT_FOUND`, those of names.
pub async fn withdraw(
    site: &Arc<Site>,
    kind: Kind,
    name: &str,
    from: &[String],
    caller: &Caller,
) -> Result<Answer, Problem> {
    let thing = named(site, kind, name).await?;
    let id = thing.id.clone();
    let placed = site.read(move |r| r.placements()).await?;
    let all = ["all".to_owned()];
    let targets = points::targets(site, if from.is_empty() { &all } else { from }).await?;
    let groups = if from.is_empty() { site.read(|r| r.point_groups()).await? } else { targets.groups };
    let points: Vec<_> = targets
        .points
        .into_iter()
        .filter(|point| placed.iter().any(|placed| placed.package == id && placed.point_id == point.id))
        .collect();
    if !caller.dry_run {
        let (who, from, retry) = (caller.who.clone(), points.clone(), site.settings().dp.retry.clone());
        site.write(move |w| {
            let now = clock::now();
            for point in &from {
                points::withdraw_from(w, &id, point, &retry, now)?;
            }
            for group in &groups {
                w.put_group_package(group.id, &id, false)?;
            }
            w.audit(&who, &format!("{}.withdraw", kind.word()), id.as_str(), now)
        })
        .await?;
        site.points.changed();
        site.refresh_shelf().await?;
    }
    let names: Vec<_> = points.into_iter().map(|point| point.name).collect();
    Answer::of(&serde_json::json!({
        "package": thing.id, "name": thing.name, "withdrawn_from": names, "dry_run": caller.dry_run,
    }))
}

/// Refuses to delete what is on points: a point would be asked for what nobody can give it any more.
///
/// # Errors
/// `PACKAGE_DISTRIBUTED`.
pub async fn on_none(site: &Arc<Site>, id: &PackageId, name: &str) -> Result<(), Problem> {
    let wanted = id.clone();
    let placed = site.read(move |r| r.placements()).await?;
    let on: Vec<_> =
        placed.into_iter().filter(|placed| placed.package == wanted).map(|placed| placed.point).collect();
    if on.is_empty() {
        return Ok(());
    }
    let message = format!("`{name}` is distributed to {}", on.join(", "));
    Err(Problem::new(Code::PackageDistributed, message).help(format!("`spsync image withdraw {id}` first")))
}
