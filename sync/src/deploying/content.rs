//! Bringing the content of deployments: images and applications are sent to the points that were named, feature updates that
//! lack are downloaded and sent there too. A task, which goes on where a dead process left it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use catalog::id::{PackageId, TaskId};
use catalog::problem::Problem;
use jiff::Timestamp;
use schema::deployments::{ContentState, DeploymentRow};
use schema::points::OWN_POINT;
use tracing::{error, info};

use super::{phases, show};
use crate::admin::{Answer, Caller, Work};
use crate::authoring::surroundings::{Known, sequence};
use crate::clock;
use crate::packages;
use crate::points::{self, Targets};
use crate::sequence::Sequence;
use crate::site::Site;
use crate::software::places;
use crate::tasks::Progress;

/// How long after a failure it is tried again.
const PAUSE: Duration = Duration::from_secs(600);
/// How often it is looked after.
const EVERY: Duration = Duration::from_secs(5);

/// Starts the task. Its answer is the deployment, with what went wrong beside it.
///
/// # Errors
/// Those of the database.
pub async fn bring(
    site: &Arc<Site>,
    row: &DeploymentRow,
    notes: &[String],
    caller: &Caller,
) -> Result<TaskId, Problem> {
    let title = format!("content of deployment {}", row.id);
    let (row, notes, caller) = (row.clone(), notes.to_vec(), caller.clone());
    site.tasks
        .start("deploy", title, key(&row), |progress| {
            let site = site.clone();
            async move {
                let done = fill_and_send(&site, &row, &caller, &progress).await;
                let (state, problem) = match done {
                    Ok(None) => (ContentState::Ready, None),
                    Ok(Some(problem)) | Err(problem) => (ContentState::Failed, Some(problem)),
                };
                let (id, kept) = (row.id.clone(), problem.clone());
                site.write(move |w| w.set_deployment_content(&id, state, kept.as_ref())).await?;
                crate::device_plane::refresh(&site).await?;
                let shown = show::Shown { notes, ..show::one(&site, row.id.as_str()).await? };
                Answer::partly(&shown, problem)
            }
        })
        .await
}

/// Two of one package are one work.
fn key(row: &DeploymentRow) -> String {
    row.package.as_ref().map_or_else(|| format!("deployment {}", row.id), packages::key)
}

/// The points and groups that are sent images and applications too: all but the site's own, which serves whatever is deployed.
/// `None` where there are none.
pub(super) fn elsewhere(targets: &Targets) -> Option<Targets> {
    let others = targets.points.iter().filter(|point| point.id != OWN_POINT);
    let others = Targets { points: others.cloned().collect(), groups: targets.groups.clone() };
    (!others.points.is_empty() || !others.groups.is_empty()).then_some(others)
}

/// What went wrong with a part of it, if anything. What is in the library already goes first: a package that cannot be filled
/// keeps it from nobody.
async fn fill_and_send(
    site: &Arc<Site>,
    row: &DeploymentRow,
    caller: &Caller,
    progress: &Progress,
) -> Result<Option<Problem>, Problem> {
    let software = send_software(site, row, caller).await;
    let package = match &row.package {
        Some(package) => fill_and_send_package(site, package, &row.places, caller, progress).await?,
        None => None,
    };
    Ok(software?.or(package))
}

/// The images and applications that the task sequence needs now.
async fn send_software(
    site: &Arc<Site>,
    row: &DeploymentRow,
    caller: &Caller,
) -> Result<Option<Problem>, Problem> {
    let Some(targets) = elsewhere(&points::targets(site, &row.places).await?) else { return Ok(None) };
    let document = sequence(site, row.sequence.as_str()).await?.document;
    let things = places::needed(&Sequence::parse(&document)?, &Known::of(site).await?);
    let mut problem = None;
    for sent in places::send(site, things, targets, caller).await? {
        problem = points::partly(&sent.points, &sent.name).unwrap_or_else(Some).or(problem);
    }
    Ok(problem)
}

async fn fill_and_send_package(
    site: &Arc<Site>,
    package: &PackageId,
    places: &[String],
    caller: &Caller,
    progress: &Progress,
) -> Result<Option<Problem>, Problem> {
    let filled = crate::download::fill(site, package, None, None, caller, progress).await?;
    if let Some(problem) = filled.problem {
        return Ok(Some(problem));
    }
    match packages::distribute(site, package.as_str(), places, caller).await? {
        Work::Answered(answer) => Ok(answer.problem),
        Work::Started(_) => Ok(None),
    }
}

/// What has to happen by itself: content that is not there yet, phases that begin, policies that change with time. Runs
/// until `stopped`.
pub async fn keep_time(site: Arc<Site>, stopped: impl Future<Output = ()>) {
    tokio::pin!(stopped);
    let mut tried: HashMap<PackageId, Timestamp> = HashMap::new();
    loop {
        tokio::select! {
            () = &mut stopped => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let now = clock::now();
        if let Err(problem) = go_on(&site, &mut tried, now).await {
            error!("the content of deployments cannot be seen to: {problem}");
        }
        if let Err(problem) = phases::pass(&site, now).await {
            error!("phased deployments cannot be seen to: {problem}");
        }
        if let Err(problem) = crate::device_plane::pass(&site, now).await {
            error!("policies cannot be made: {problem}");
        }
    }
}

async fn go_on(
    site: &Arc<Site>,
    tried: &mut HashMap<PackageId, Timestamp>,
    now: Timestamp,
) -> Result<(), Problem> {
    let rows = site.read(|r| r.deployments()).await?;
    for row in rows.into_iter().filter(|row| row.stopped.is_none()) {
        let (pending, failed) = (row.content == ContentState::Pending, row.content == ContentState::Failed);
        let waits = tried.get(&row.id).is_some_and(|at| now.duration_since(*at).unsigned_abs() < PAUSE);
        if !(pending || failed) || waits || site.tasks.working_on(&key(&row)).is_some() {
            continue;
        }
        if tried.insert(row.id.clone(), now).is_none() && failed {
            continue; // it failed a moment ago, or before this process began: a pause first
        }
        info!("content of deployment {} is brought", row.id);
        bring(site, &row, &[], &Caller { who: row.created_by.clone(), dry_run: false }).await?;
    }
    Ok(())
}
