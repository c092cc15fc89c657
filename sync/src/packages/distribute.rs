//! Offering packages on distribution points, and taking them back.

use std::sync::Arc;

use catalog::problem::{Code, Problem};
use dp::server::{Access, Servable, Shelf};
use schema::distribution::ShelfRow;
use schema::packages::{FileState, Package};
use schema::{Reader, SchemaError};

use super::{named, shown, upstream_paths};
use crate::admin::{Answer, Caller, Work};
use crate::points::{self, Parcel, Sort};
use crate::site::Site;

/// Makes distribution points serve a package. Only what is stored and verified can be served, so an incomplete package
/// is refused.
///
/// # Errors
/// `PACKAGE_EMPTY`, `PACKAGE_INCOMPLETE`, `DP_NOT_FOUND`.
pub async fn distribute(
    site: &Arc<Site>,
    name: &str,
    to: &[String],
    caller: &Caller,
) -> Result<Work, Problem> {
    let package = shown(site, &named(site, name).await?.id).await?;
    let targets = points::targets(site, to).await?;
    if package.files.is_empty() {
        return Err(Problem::new(
            Code::PackageEmpty,
            format!("package `{}` has no updates", package.package.name),
        ));
    }
    let missing: Vec<_> = package.files.iter().filter(|file| file.state != FileState::Stored).collect();
    if let Some(first) = missing.first() {
        let message = format!(
            "{} of {} files of package `{}` are not downloaded",
            missing.len(),
            package.files.len(),
            package.package.name
        );
        return Err(
            Problem::new(Code::PackageIncomplete, message).because(format!("for one, `{}`", first.file_name))
        );
    }
    let (files, bytes) = (super::each_once(&package.files).len() as u64, package.bytes);
    let parcel = parcel(&package.package, files, bytes);
    let mut all = points::send(site, vec![parcel], targets, caller).await?;
    let distributed = all.pop().ok_or_else(|| Problem::new(Code::Internal, "nothing was sent"))?;
    let problem = points::partly(&distributed.points, &distributed.name)?;
    Ok(Answer::partly(&distributed, problem)?.into())
}

fn parcel(package: &Package, files: u64, bytes: u64) -> Parcel {
    Parcel { id: package.id.clone(), sort: Sort::Package, name: package.name.clone(), files, bytes }
}

/// Takes a package off distribution points. What another distributed package needs stays served.
///
/// # Errors
/// `DP_NOT_FOUND`, `PACKAGE_NOT_FOUND`.
pub async fn withdraw(
    site: &Arc<Site>,
    name: &str,
    from: &[String],
    caller: &Caller,
) -> Result<Answer, Problem> {
    let package = named(site, name).await?;
    points::take_off(site, parcel(&package, 0, 0), from, caller).await
}

/// What the site's own distribution point may serve.
///
/// # Errors
/// Those of the database.
pub fn shelf(reader: &Reader<'_>) -> Result<Shelf, SchemaError> {
    let mut shelf =
        Shelf { private_elsewhere: reader.private_contents()?.into_iter().collect(), ..Shelf::default() };
    for row in reader.shelf()? {
        let name = row.file_name.as_str().to_ascii_lowercase();
        shelf.packages.insert((row.package.clone(), name), row.sha256);
        shelf.offer(row.sha256, servable(row));
    }
    // What deployments need besides is for devices alone, unless a package has it for everybody, here or elsewhere.
    for row in reader.deployed_content()? {
        if !shelf.contents.contains_key(&row.sha256) {
            let servable = Servable::of(row.size, Some(row.sha1), row.file_name, Access::of(row.private));
            shelf.offer(row.sha256, servable);
        }
    }
    // Of everything here: points that have it are told so too.
    shelf.by_upstream = Arc::new(upstream_paths(reader)?);
    Ok(shelf)
}

/// A recorded file as it is served, to whom it is recorded for.
pub fn servable(row: ShelfRow) -> Servable {
    Servable::of(row.size, Some(row.sha1), row.file_name, Access::of(row.private))
}
