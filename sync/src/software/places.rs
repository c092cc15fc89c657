//! OS upgrade packages and applications on distribution points: sent, watched and taken off as packages are, for devices and
//! points alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use catalog::digest::Sha256Digest;
use catalog::id::PackageId;
use catalog::problem::{Code, Problem};
use schema::software::{AppRow, ImageRow};
use serde::{Deserialize, Serialize};

use super::{apps, images};
use crate::admin::{Answer, Caller};
use crate::authoring::surroundings::{Known, sequence};
use crate::points::{self, Distributed, Parcel, Sort, Targets};
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

/// An image or application with its content.
#[derive(Debug, Clone)]
pub struct Thing {
    /// What goes to points.
    pub parcel: Parcel,
    /// Its files, each once: digest and bytes.
    pub contents: BTreeMap<Sha256Digest, u64>,
}

impl Thing {
    fn new(id: &PackageId, sort: Sort, name: &str, contents: BTreeMap<Sha256Digest, u64>) -> Self {
        let (files, bytes) = (contents.len() as u64, contents.values().copied().fold(0, u64::saturating_add));
        Self { parcel: Parcel { id: id.clone(), sort, name: name.to_owned(), files, bytes }, contents }
    }

    fn of_image(row: &ImageRow) -> Self {
        Self::new(&row.id, Sort::Image, &row.name, [(row.content, row.size)].into())
    }

    fn of_app(row: &AppRow) -> Self {
        let contents = row.files.iter().map(|file| (file.content, file.size));
        Self::new(&row.id, Sort::App, &row.name, contents.collect())
    }
}

async fn named(site: &Arc<Site>, kind: Kind, name: &str) -> Result<Thing, Problem> {
    Ok(match kind {
        Kind::Image => Thing::of_image(&images::named(site, name).await?),
        Kind::App => Thing::of_app(&apps::named(site, name).await?),
    })
}

/// Everything with files that a task sequence needs beside feature updates, which are in packages of their own: images and
/// applications of its enabled steps, each once, and its boot image. Pure.
pub fn needed(sequence: &Sequence, known: &Known) -> Vec<Thing> {
    let mut things: Vec<Thing> = Vec::new();
    let boot = sequence.boot_image.clone().map(Target::Image);
    let enabled = sequence.references().into_iter().filter(|reference| reference.enabled);
    for target in enabled.map(|reference| reference.target).chain(boot) {
        let found = match &target {
            Target::FeatureUpdate(_) => None,
            Target::Image(id) => known.images.iter().find(|row| row.id == *id).map(Thing::of_image),
            Target::Application(id) => known.apps.iter().find(|row| row.id == *id).map(Thing::of_app),
        };
        let found = found.filter(|thing| !thing.contents.is_empty());
        things.extend(found.filter(|thing| things.iter().all(|other| other.parcel.id != thing.parcel.id)));
    }
    things
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
    if thing.contents.is_empty() {
        return Err(Problem::new(Code::PackageEmpty, format!("`{}` has no files", thing.parcel.name)));
    }
    let targets = points::targets(site, to).await?;
    let mut all = send(site, vec![thing], targets, caller).await?;
    let distributed = all.pop().ok_or_else(|| Problem::new(Code::Internal, "nothing was sent"))?;
    let problem = points::partly(&distributed.points, &distributed.name)?;
    Answer::partly(&distributed, problem)
}

/// Sends everything that a task sequence refers to but feature updates; and its boot image.
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
    let things = needed(&parsed, &Known::of(site).await?);
    let targets = points::targets(site, to).await?;
    let all = send(site, things, targets, caller).await?;
    let mut problem = None;
    for one in &all {
        problem = points::partly(&one.points, &one.name)?.or(problem);
    }
    let body = serde_json::json!({
        "sequence": row.id, "name": row.name, "distributed": all, "dry_run": caller.dry_run,
    });
    Answer::partly(&body, problem)
}

/// Sends images and applications whose content is all in the library.
///
/// # Errors
/// `CONTENT_NOT_FOUND`.
pub async fn send(
    site: &Arc<Site>,
    things: Vec<Thing>,
    targets: Targets,
    caller: &Caller,
) -> Result<Vec<Distributed>, Problem> {
    all_here(site, &things).await?;
    points::send(site, things.into_iter().map(|thing| thing.parcel).collect(), targets, caller).await
}

/// Refuses where the library lacks some of them.
///
/// # Errors
/// `CONTENT_NOT_FOUND`.
pub async fn all_here(site: &Arc<Site>, things: &[Thing]) -> Result<(), Problem> {
    let here = site.read(|r| r.content_digests()).await?;
    match things.iter().find(|thing| thing.contents.keys().any(|sha256| !here.contains(sha256))) {
        None => Ok(()),
        Some(thing) => {
            let message = format!("the library lacks content of `{}`", thing.parcel.name);
            Err(Problem::new(Code::ContentNotFound, message).help("add it again"))
        }
    }
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
    points::take_off(site, named(site, kind, name).await?.parcel, from, caller).await
}

/// Refuses to delete what is on points: a point would be asked for what nobody can give it any more.
///
/// # Errors
/// `PACKAGE_DISTRIBUTED`.
pub async fn on_none(site: &Arc<Site>, id: &PackageId, name: &str) -> Result<(), Problem> {
    let wanted = id.clone();
    let placed = site.read(move |r| r.placements_of(&[wanted])).await?;
    let on: Vec<_> = placed.into_iter().map(|placed| placed.point).collect();
    if on.is_empty() {
        return Ok(());
    }
    let message = format!("`{name}` is distributed to {}", on.join(", "));
    Err(Problem::new(Code::PackageDistributed, message).help(format!("`spsync image withdraw {id}` first")))
}
