//! The package of a deployment: made, filled, or found where everything is there already.

use std::sync::Arc;

use catalog::id::PackageId;
use catalog::problem::{Code, Problem};
use schema::Writer;
use schema::packages::{Access, NewMember, NewPackage};
use schema::points::{OWN_POINT, PointRow};

use super::check::World;
use super::choice::Choice;
use crate::clock;
use crate::policy::References;
use crate::site::Site;
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
        let placements = r.placements()?;
        let mut best = None;
        for package in r.packages()? {
            if r.members_present(&package.id, &wanted)?.len() == wanted.len() {
                let points = placements.iter().filter(|placed| placed.package == package.id).count();
                if best.as_ref().is_none_or(|(most, _)| points > *most) {
                    best = Some((points, package.id));
                }
            }
        }
        Ok(best.map(|(_, id)| id))
    })
    .await
}

/// What happens to a package, and to where it is sent.
///
/// # Errors
/// `PACKAGE_NOT_FOUND`; `CONFLICTING_OPTIONS` where there is nothing to send.
pub async fn of(
    site: &Arc<Site>,
    choice: &Choice,
    missing: &[&Listed],
    world: &World,
    references: &References,
    to: &[String],
) -> Result<(Package, Vec<String>), Problem> {
    let members: Vec<NewMember> = missing.iter().map(member).collect();
    Ok(match choice {
        Choice::NoPackage => (Package::None, Vec::new()),
        Choice::Nothing => match (holder(site, world, references).await?, to) {
            (Some(id), []) => (Package::Holding(id), Vec::new()),
            (Some(id), to) => (Package::Existing(id, Vec::new()), to.to_vec()),
            (None, []) => (Package::None, Vec::new()),
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

/// Whether the points have room, before anything is made: remarks about those that have none.
///
/// # Errors
/// `DP_DISK_FULL` where none of them has.
pub async fn room(
    site: &Arc<Site>,
    package: &Package,
    missing: &[&Listed],
    points: &[PointRow],
) -> Result<Vec<String>, Problem> {
    let held = match package {
        Package::Existing(id, _) => Some(id.clone()),
        Package::None | Package::Holding(_) | Package::New(..) => None,
    };
    let new: u64 = missing.iter().map(|listed| listed.update.size).sum();
    let ids: Vec<i64> = points.iter().map(|point| point.id).collect();
    let taken: Vec<u64> = site
        .read(move |r| {
            ids.into_iter()
                .map(|point| {
                    let lacking = held.as_ref().map_or(Ok(0), |id| r.bytes_lacking(id, point))?;
                    Ok(lacking + r.bytes_on_the_way(point)?)
                })
                .collect()
        })
        .await?;
    let full = |(point, taken): (&PointRow, u64)| {
        let free = point.free.filter(|_| point.id != OWN_POINT)?;
        let needed = taken + new;
        (needed > free).then(|| {
            format!("`{}` needs {needed} bytes and has {free} free: short by {}", point.name, needed - free)
        })
    };
    let full: Vec<String> = points.iter().zip(taken).filter_map(full).collect();
    if !full.is_empty() && full.len() == points.len() {
        let refused = Problem::new(Code::DpDiskFull, "no distribution point has room for its content");
        let refused = full.into_iter().fold(refused, Problem::because);
        return Err(refused.keeping("nothing was made"));
    }
    Ok(full.into_iter().map(|why| format!("{}: {why}", Code::DpDiskFull)).collect())
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
