//! Groups of distribution points: what is sent to a group goes to all of it, also to those that join later.

use std::sync::Arc;

use catalog::problem::{Code, Problem};
use schema::points::PointGroup;

use super::{named, send};
use crate::admin::{Answer, Caller};
use crate::clock;
use crate::find::called;
use crate::names::{self, Rule};
use crate::site::Site;

async fn group(site: &Arc<Site>, name: &str) -> Result<PointGroup, Problem> {
    let all = site.read(|r| r.point_groups()).await?;
    let (what, list) = ("group of distribution points", "`spsync dp group list`");
    called(what, Code::GroupNotFound, name, &all, |group| &group.name, list).cloned()
}

/// Makes an empty group.
///
/// # Errors
/// `NAME_*`.
pub async fn create(site: &Arc<Site>, name: &str, caller: &Caller) -> Result<Answer, Problem> {
    let name = names::checked("a group of points", name, Rule::Typed)?;
    if caller.dry_run {
        return Answer::of(&serde_json::json!({ "would_create": name, "dry_run": true }));
    }
    let (who, wanted) = (caller.who.clone(), name.clone());
    site.write(move |w| {
        w.create_point_group(&wanted)?;
        w.audit(&who, "dp.group.create", &wanted, clock::now())
    })
    .await?;
    show(site, &name).await
}

/// All groups.
///
/// # Errors
/// Those of the database.
pub async fn list(site: &Arc<Site>) -> Result<Answer, Problem> {
    Answer::of(&site.read(|r| r.point_groups()).await?)
}

/// One group.
///
/// # Errors
/// `GROUP_NOT_FOUND`.
pub async fn show(site: &Arc<Site>, name: &str) -> Result<Answer, Problem> {
    Answer::of(&group(site, name).await?)
}

/// Puts points into a group, and sends them what the group has.
///
/// # Errors
/// `GROUP_NOT_FOUND`, `DP_NOT_FOUND`; what a point refuses is in the answer's problem, and it joins all the same.
pub async fn join(
    site: &Arc<Site>,
    name: &str,
    points: &[String],
    caller: &Caller,
) -> Result<Answer, Problem> {
    let group = group(site, name).await?;
    let mut rows = Vec::new();
    for point in points {
        rows.push(named(site, point).await?);
    }
    let names: Vec<_> = rows.iter().map(|row| row.name.clone()).collect();
    let (who, wanted) = (caller.who.clone(), group.clone());
    let retry = site.settings().dp.retry.clone();
    // What would happen is what happens, undone: whether the packages have room is counted as well.
    let refused = site
        .write_unless(caller.dry_run, move |w| {
            let now = clock::now();
            let mut refused = Vec::new();
            let mut packages = Vec::new();
            for id in &wanted.packages {
                packages.extend(w.package(id)?);
            }
            for row in &rows {
                w.join_point_group(wanted.id, row.id)?;
                for package in &packages {
                    let as_member = (row, send::Meant::ByGroup);
                    if let Err(problem) = send::send_to(w, package, as_member, &retry, now)? {
                        refused.push(format!("{} to {}: {problem}", package.id, row.name));
                    }
                }
            }
            w.audit(&who, "dp.group.join", &wanted.name, now)?;
            Ok(refused)
        })
        .await?;
    let problem = (!refused.is_empty()).then(|| {
        let message = format!("{} packages of group `{}` could not be sent", refused.len(), group.name);
        refused.iter().take(20).fold(Problem::new(Code::PackagePartlyDone, message), |problem, cause| {
            problem.because(cause.clone())
        })
    });
    if caller.dry_run {
        let plan = serde_json::json!({
            "group": group.name, "would_join": names, "packages": group.packages, "dry_run": true,
        });
        return Answer::partly(&plan, problem);
    }
    site.points.changed();
    site.refresh_shelf().await?;
    let now = self::group(site, &group.name).await?;
    Answer::partly(&now, problem)
}

/// Takes points out of a group. They keep what they hold.
///
/// # Errors
/// `GROUP_NOT_FOUND`, `DP_NOT_FOUND`.
pub async fn leave(
    site: &Arc<Site>,
    name: &str,
    points: &[String],
    caller: &Caller,
) -> Result<Answer, Problem> {
    let group = group(site, name).await?;
    let mut ids = Vec::new();
    for point in points {
        ids.push(named(site, point).await?.id);
    }
    if !caller.dry_run {
        let (who, wanted) = (caller.who.clone(), group.clone());
        site.write(move |w| {
            for id in ids {
                w.leave_point_group(wanted.id, id)?;
            }
            w.audit(&who, "dp.group.leave", &wanted.name, clock::now())
        })
        .await?;
    }
    show(site, &group.name).await
}

/// Forgets a group. Its points keep what they hold.
///
/// # Errors
/// `GROUP_NOT_FOUND`.
pub async fn delete(site: &Arc<Site>, name: &str, caller: &Caller) -> Result<Answer, Problem> {
    let group = group(site, name).await?;
    if !caller.dry_run {
        let (who, wanted) = (caller.who.clone(), group.clone());
        site.write(move |w| {
            w.delete_point_group(wanted.id)?;
            w.audit(&who, "dp.group.delete", &wanted.name, clock::now())
        })
        .await?;
    }
    Answer::of(&serde_json::json!({ "deleted": group.name, "dry_run": caller.dry_run }))
}
