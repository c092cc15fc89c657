//! Offering packages on distribution points, and taking them back.

use std::sync::Arc;

use catalog::problem::{Code, Problem};
use dp::server::{Servable, Shelf};
use schema::distribution::Point;
use schema::packages::FileState;
use schema::{Reader, SchemaError};
use serde::{Deserialize, Serialize};

use super::{named, shown};
use crate::admin::{Answer, Caller, Work};
use crate::clock;
use crate::select::nearest;
use crate::site::Site;

/// What came of distributing to one point.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Placed {
    /// Name of the distribution point.
    pub point: String,
    /// It serves the package already in this version.
    pub already: bool,
    /// Files that it serves now.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What distributing did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Distributed {
    /// Id of the package.
    pub package: catalog::id::PackageId,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// Each point.
    pub points: Vec<Placed>,
    /// Nothing was changed.
    pub dry_run: bool,
}

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
    let points = chosen(site, to).await?;
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
    let id = package.package.id.clone();
    let already: Vec<String> = {
        let id = id.clone();
        let version = package.package.version;
        site.read(move |r| r.distributions_of(&id))
            .await?
            .into_iter()
            .filter(|d| d.version == version)
            .map(|d| d.point)
            .collect()
    };
    if !caller.dry_run {
        let who = caller.who.clone();
        let points: Vec<_> = points.iter().map(|point| point.id).collect();
        site.write(move |w| {
            for point in &points {
                w.distribute(&id, *point, clock::now())?;
            }
            w.audit(&who, "package.distribute", id.as_str(), clock::now())
        })
        .await?;
        site.refresh_shelf().await?;
    }
    let placed = points
        .into_iter()
        .map(|point| Placed {
            already: already.contains(&point.name),
            point: point.name,
            files: super::each_once(&package.files).len() as u64,
            bytes: package.bytes,
        })
        .collect();
    let answer = Answer::of(&Distributed {
        package: package.package.id,
        name: package.package.name,
        version: package.package.version,
        points: placed,
        dry_run: caller.dry_run,
    })?;
    Ok(answer.into())
}

/// The points of these names, or the site's own.
async fn chosen(site: &Arc<Site>, names: &[String]) -> Result<Vec<Point>, Problem> {
    let all = site.read(|r| r.points()).await?;
    if names.is_empty() {
        return Ok(all.into_iter().take(1).collect());
    }
    names
        .iter()
        .map(|name| {
            all.iter().find(|point| point.name.eq_ignore_ascii_case(name)).cloned().ok_or_else(|| {
                let near = nearest(name, all.iter().map(|point| point.name.as_str()));
                Problem::new(Code::DpNotFound, format!("no distribution point is called `{name}`"))
                    .help(format!("nearest: {}; `spsync dp list` lists all", near.join(", ")))
            })
        })
        .collect()
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
    let before = shown(site, &package.id).await?.distributed_to;
    let points = if from.is_empty() { site.read(|r| r.points()).await? } else { chosen(site, from).await? };
    let points: Vec<_> = points.into_iter().filter(|point| before.contains(&point.name)).collect();
    if !caller.dry_run {
        let (id, who) = (package.id.clone(), caller.who.clone());
        let ids: Vec<_> = points.iter().map(|point| point.id).collect();
        site.write(move |w| {
            for point in &ids {
                w.withdraw(&id, *point)?;
            }
            w.audit(&who, "package.withdraw", id.as_str(), clock::now())
        })
        .await?;
        site.refresh_shelf().await?;
    }
    let names: Vec<_> = points.into_iter().map(|point| point.name).collect();
    Answer::of(&serde_json::json!({
        "package": package.id, "name": package.name, "withdrawn_from": names, "dry_run": caller.dry_run,
    }))
}

/// The site's distribution points.
///
/// # Errors
/// Those of the database.
pub async fn points(site: &Arc<Site>) -> Result<Answer, Problem> {
    Answer::of(&site.read(|r| r.points()).await?)
}

/// What the site's own distribution point may serve.
///
/// # Errors
/// Those of the database.
pub fn shelf(reader: &Reader<'_>) -> Result<Shelf, SchemaError> {
    let mut shelf = Shelf::default();
    for row in reader.shelf()? {
        shelf.packages.insert((row.package, row.file_name.as_str().to_ascii_lowercase()), row.sha256);
        shelf.offer(row.sha256, Servable { size: row.size, sha1: Some(row.sha1), name: row.file_name });
    }
    Ok(shelf)
}
