//! The package of a deployment: made, filled, or found where everything is there already.

use std::sync::Arc;

use catalog::id::PackageId;
use catalog::problem::{Code, Problem};
use schema::Writer;
use schema::packages::{Access, NewMember, NewPackage};
use schema::points::{OWN_POINT, PointRow};

use super::check::World;
use super::choice::Choice;
use crate::authoring::surroundings::Known;
use crate::clock;
use crate::policy::References;
use crate::sequence::Sequence;
use crate::sequence::refs::Target;
use crate::site::Site;
use crate::software::places::Thing;
use crate::updates::Listed;

/// What happens to a package.
pub enum Package {
    /// There is none.
    None,
    /// It has everything already, and nothing is to be sent.
    Holding(PackageId),
    /// These are put into it, where it lacks them.
    Existing(PackageId, Vec<NewMember>),
    /// It is made, with these.
    New(String, Vec<NewMember>),
}

/// The feature updates that are referred to.
pub fn used<'w>(world: &'w World, references: &References) -> Vec<&'w Listed> {
    let of = |id| world.known.updates.iter().find(|listed| listed.update.id.update == id);
    references.feature_updates.iter().filter_map(|update| of(update.id())).collect()
}

/// Feature updates whose files are not all in the library.
pub fn missing<'w>(world: &'w World, references: &References) -> Vec<&'w Listed> {
    used(world, references).into_iter().filter(|listed| !listed.update.downloaded).collect()
}

/// The same of all that enabled steps of a task sequence refer to, where nobody has resolved that.
pub fn not_downloaded<'k>(sequence: &Sequence, known: &'k Known) -> Vec<&'k Listed> {
    let enabled = sequence.references().into_iter().filter(|reference| reference.enabled);
    let wanted: Vec<Target> = enabled.map(|reference| reference.target).collect();
    let is_wanted = |listed: &&Listed| wanted.contains(&Target::FeatureUpdate(listed.update.id.update));
    known.updates.iter().filter(is_wanted).filter(|listed| !listed.update.downloaded).collect()
}

fn member(listed: &&Listed) -> NewMember {
    NewMember { revision: listed.update.id, title: listed.update.title.clone(), size: listed.update.size }
}

/// A package with every feature update that is referred to; of several the one that is on most points.
async fn holder(
    site: &Arc<Site>,
    world: &World,
    references: &References,
) -> Result<Option<PackageId>, Problem> {
    let wanted: Vec<NewMember> = used(world, references).iter().map(member).collect();
    if wanted.is_empty() {
        return Ok(None);
    }
    site.read(move |r| {
        let mut best = None;
        for package in r.packages()? {
            if r.members_present(&package.id, &wanted)?.len() == wanted.len() {
                let points = r.points_with(&package.id)?;
                if best.as_ref().is_none_or(|(most, _)| points > *most) {
                    best = Some((points, package.id));
                }
            }
        }
        Ok(best.map(|(_, id)| id))
    })
    .await
}

/// What happens to a package, and to where content is sent; `besides` says that there are images or applications to send.
///
/// # Errors
/// `PACKAGE_NOT_FOUND`; `CONFLICTING_OPTIONS` where there is nothing to send, or no package of what there is.
pub async fn of(
    site: &Arc<Site>,
    choice: &Choice,
    missing: &[&Listed],
    world: &World,
    references: &References,
    besides: bool,
    to: &[String],
) -> Result<(Package, Vec<String>), Problem> {
    let members: Vec<NewMember> = missing.iter().map(member).collect();
    Ok(match choice {
        Choice::NoPackage => (Package::None, Vec::new()),
        Choice::Nothing => match (holder(site, world, references).await?, to) {
            (Some(id), []) => (Package::Holding(id), Vec::new()),
            (Some(id), to) => (Package::Existing(id, Vec::new()), to.to_vec()),
            (None, []) => (Package::None, Vec::new()),
            (None, to) if besides && references.feature_updates.is_empty() => (Package::None, to.to_vec()),
            (None, _) if references.feature_updates.is_empty() => {
                let message = "it needs no content, so there is none to send with --to";
                return Err(Problem::new(Code::ConflictingOptions, message));
            }
            (None, _) => {
                let message =
                    "no package holds all of its feature updates, so there is none to send with --to";
                return Err(Problem::new(Code::ConflictingOptions, message).help(
                    "`spsync package distribute P --to DP` sends what is downloaded; then leave --to out",
                ));
            }
        },
        Choice::New(name) => (Package::New(name.trim().to_owned(), members), to.to_vec()),
        Choice::Existing(name) => {
            let package = crate::packages::named(site, name).await?;
            let before = crate::packages::shown(site, &package.id).await?.distributed_to;
            let places = if to.is_empty() { before } else { to.to_vec() };
            (Package::Existing(package.id, members), places)
        }
    })
}

/// Whether the points have room for all that they are sent, before anything is made: remarks about those that have none.
///
/// # Errors
/// `DP_DISK_FULL` where none of them has.
pub async fn room(
    site: &Arc<Site>,
    package: &Package,
    missing: &[&Listed],
    software: &[Thing],
    points: &[PointRow],
) -> Result<Vec<String>, Problem> {
    let mut ids: Vec<PackageId> = software.iter().map(|thing| thing.parcel.id.clone()).collect();
    let new: u64 = match package {
        Package::None | Package::Holding(_) => 0,
        Package::Existing(..) | Package::New(..) => {
            missing.iter().map(|listed| listed.update.size).fold(0, u64::saturating_add)
        }
    };
    if let Package::Existing(id, _) = package {
        ids.push(id.clone());
    }
    let points: Vec<PointRow> = points.to_vec();
    let (lines, all) = site
        .read(move |r| {
            let mut lines = Vec::new();
            for point in points.iter().filter(|point| point.id != OWN_POINT) {
                let Some(free) = point.free else { continue };
                // Whoever is sent nothing new is not asked for room.
                let lacking = r.bytes_lacking(&ids, point.id)? + new;
                let needed = if lacking > 0 { lacking + r.bytes_on_the_way(point.id)? } else { 0 };
                lines.extend(short(&point.name, needed, free));
            }
            Ok((lines, points.len()))
        })
        .await?;
    if !lines.is_empty() && lines.len() == all {
        let refused = Problem::new(Code::DpDiskFull, "no distribution point has room for its content");
        let refused = lines.into_iter().fold(refused, Problem::because);
        return Err(refused.keeping("nothing was made"));
    }
    Ok(lines.into_iter().map(|why| format!("{}: {why}", Code::DpDiskFull)).collect())
}

/// Why a point has no room. Pure.
fn short(point: &str, needed: u64, free: u64) -> Option<String> {
    let lacking = needed.checked_sub(free).filter(|lacking| *lacking > 0)?;
    Some(format!("`{point}` needs {needed} bytes and has {free} free: short by {lacking}"))
}

/// Makes the package, or puts what it lacks into it.
///
/// # Errors
/// Those of the database.
pub fn fill(
    w: &Writer<'_>,
    code: &catalog::id::SiteCode,
    package: Package,
    who: &str,
) -> Result<Option<PackageId>, schema::SchemaError> {
    let now = clock::now();
    let (id, members) = match package {
        Package::None => return Ok(None),
        Package::Holding(id) => return Ok(Some(id)),
        Package::Existing(id, members) => (id, members),
        Package::New(name, members) => {
            let new =
                NewPackage { name, description: String::new(), source_dir: None, access: Access::Public };
            let id = w.create_package(code, &new, now)?;
            w.audit(who, "package.create", id.as_str(), now)?;
            (id, members)
        }
    };
    let present = w.members_present(&id, &members)?;
    let new: Vec<_> = members.into_iter().filter(|member| !present.contains(&member.revision)).collect();
    if !new.is_empty() {
        w.add_members(&id, &new, now)?;
        w.audit(who, "package.add", id.as_str(), now)?;
    }
    Ok(Some(id))
}
