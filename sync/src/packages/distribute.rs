//! Offering packages on distribution points, and taking them back.

use std::sync::Arc;

use catalog::problem::{Code, Problem};
use dp::server::{Access, Servable, Shelf};
use schema::packages::FileState;
use schema::{Reader, SchemaError};
use serde::{Deserialize, Serialize};

use super::{named, shown};
use crate::admin::{Answer, Caller, Work};
use crate::clock;
use crate::points::{self, Sent};
use crate::site::Site;

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
    pub points: Vec<Sent>,
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
    let sent = {
        let (whole, dry_run, who) = (package.package.clone(), caller.dry_run, caller.who.clone());
        let (files, bytes) = (super::each_once(&package.files).len() as u64, package.bytes);
        let retry = site.settings().dp.retry.clone();
        // What would happen is what happens, undone.
        let made = site.write_unless(dry_run, move |w| {
            let now = clock::now();
            let mut sent = Vec::new();
            for point in &targets.points {
                let done = points::send_to(w, &whole, point, &retry, now)?;
                sent.push(points::line(point.name.clone(), files, bytes, done));
            }
            for group in &targets.groups {
                w.put_group_package(group.id, &whole.id, true)?;
            }
            points::mark_enrolled(w, &mut sent)?;
            w.audit(&who, "package.distribute", whole.id.as_str(), now)?;
            Ok(sent)
        });
        made.await?
    };
    if !caller.dry_run {
        site.points.changed();
        site.refresh_shelf().await?;
    }
    let problem = points::partly(&sent, &package.package.name)?;
    let distributed = Distributed {
        package: package.package.id,
        name: package.package.name,
        version: package.package.version,
        points: sent,
        dry_run: caller.dry_run,
    };
    Ok(Answer::partly(&distributed, problem)?.into())
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
    let all = ["all".to_owned()];
    let targets = points::targets(site, if from.is_empty() { &all } else { from }).await?;
    let mut groups = targets.groups;
    if from.is_empty() {
        groups = site.read(|r| r.point_groups()).await?;
    }
    let points: Vec<_> = targets.points.into_iter().filter(|point| before.contains(&point.name)).collect();
    if !caller.dry_run {
        let (id, who, from) = (package.id.clone(), caller.who.clone(), points.clone());
        let retry = site.settings().dp.retry.clone();
        site.write(move |w| {
            let now = clock::now();
            for point in &from {
                points::withdraw_from(w, &id, point, &retry, now)?;
            }
            for group in &groups {
                w.put_group_package(group.id, &id, false)?;
            }
            w.audit(&who, "package.withdraw", id.as_str(), now)
        })
        .await?;
        site.points.changed();
        site.refresh_shelf().await?;
    }
    let names: Vec<_> = points.into_iter().map(|point| point.name).collect();
    Answer::of(&serde_json::json!({
        "package": package.id, "name": package.name, "withdrawn_from": names, "dry_run": caller.dry_run,
    }))
}

/// What the site's own distribution point may serve.
///
/// # Errors
/// Those of the database.
pub fn shelf(reader: &Reader<'_>) -> Result<Shelf, SchemaError> {
    let mut shelf =
        Shelf { private_elsewhere: reader.private_contents()?.into_iter().collect(), ..Shelf::default() };
    for row in reader.shelf()? {
        shelf.packages.insert((row.package, row.file_name.as_str().to_ascii_lowercase()), row.sha256);
        let access = if row.private { Access::Private } else { Access::Public };
        let servable = Servable::new(row.size, Some(row.sha1), row.file_name).with_access(access);
        shelf.offer(row.sha256, servable);
    }
    // What deployments need besides is for devices alone, unless a package offers it to everybody.
    for row in reader.deployed_content()? {
        if !shelf.contents.contains_key(&row.sha256) {
            let servable =
                Servable::new(row.size, Some(row.sha1), row.file_name).with_access(Access::Private);
            shelf.offer(row.sha256, servable);
        }
    }
    Ok(shelf)
}
