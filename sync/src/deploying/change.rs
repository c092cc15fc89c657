//! Changing a deployment that is there. What runs on a device goes on whatever is changed here.

use std::sync::Arc;

use catalog::id::PackageId;
use catalog::problem::{Code, Problem};
use schema::deployments::{ContentState, DeploymentRow};

use super::options::{self, Options, Times};
use super::request::Change;
use super::{named, show};
use crate::admin::{Answer, Caller};
use crate::authoring::surroundings::sequence;
use crate::clock;
use crate::sequence::Sequence;
use crate::site::Site;

/// Changes times and options. Task sequence, collection and purpose are what a deployment is: those do not change.
///
/// # Errors
/// `DEPLOYMENT_OVER`, `DEPLOYMENT_NOT_FOUND`, those of options, `CONFLICTING_OPTIONS` for one without a package and without the cloud.
pub async fn change(site: &Arc<Site>, wanted: Change, caller: &Caller) -> Result<Answer, Problem> {
    let row = named(site, &wanted.deployment).await?;
    not_over(&row)?;
    let document = sequence(site, row.sequence.as_str()).await?.document;
    let (sequence, id, who) = (Sequence::parse(&document)?, row.id.clone(), caller.who.clone());
    // What is there when it is written is what changes: somebody may have said something meanwhile.
    let (changed, notes) = site
        .write_unless(caller.dry_run, move |w| {
            let row = w.deployment(&id)?.ok_or_else(|| gone(&id))?;
            not_over(&row)?;
            let (changed, notes) = changed(row, &wanted, &sequence)?;
            w.change_deployment(&changed)?;
            w.audit(&who, "deploy.change", id.as_str(), clock::now())?;
            Ok((changed, notes))
        })
        .await?;
    if caller.dry_run {
        return Answer::of(&serde_json::json!({ "would_change": changed, "notes": notes, "dry_run": true }));
    }
    let shown = show::one(site, row.id.as_str()).await?.after(notes);
    Answer::of(&shown)
}

/// What becomes of a deployment, and remarks. Pure.
fn changed(
    row: DeploymentRow,
    wanted: &Change,
    sequence: &Sequence,
) -> Result<(DeploymentRow, Vec<String>), Problem> {
    let mut times = Times {
        available: wanted.available.unwrap_or(row.available),
        deadline: wanted.deadline.or(row.deadline),
        expires: wanted.expires.or(row.expires),
    };
    let mut chosen = row.options.clone();
    if let serde_json::Value::Object(chosen) = &mut chosen {
        chosen.extend(wanted.options.clone());
    }
    let mut options: Options = serde_json::from_value(chosen).map_err(|error| {
        Problem::new(Code::InvalidOption, "an option has a value that is not accepted")
            .because(error.to_string())
    })?;
    let notes = options::settle(row.purpose, &mut times, &mut options, sequence)?;
    if row.content == ContentState::None && !options.cloud {
        let message = format!("deployment {} has no package, so nothing but peers would be left", row.id);
        return Err(Problem::new(Code::ConflictingOptions, message)
            .help("leave `cloud` on, or stop it and make another one with a package"));
    }
    let options = serde_json::to_value(&options).map_err(|error| Problem::of(Code::Internal, &error))?;
    let Times { available, deadline, expires } = times;
    Ok((DeploymentRow { available, deadline, expires, options, ..row }, notes))
}

fn not_over(row: &DeploymentRow) -> Result<(), Problem> {
    match row.stopped {
        None => Ok(()),
        Some(_) => Err(over(&row.id)),
    }
}

fn over(id: &PackageId) -> Problem {
    Problem::new(Code::DeploymentOver, format!("deployment {id} was stopped"))
}

fn gone(id: &PackageId) -> Problem {
    Problem::new(Code::DeploymentNotFound, format!("no deployment has the id `{id}`"))
}

/// Stops offering it. Devices that have begun go on: once started it cannot be cancelled.
///
/// # Errors
/// `DEPLOYMENT_OVER`, `DEPLOYMENT_NOT_FOUND`.
pub async fn stop(site: &Arc<Site>, name: &str, caller: &Caller) -> Result<Answer, Problem> {
    let row = named(site, name).await?;
    not_over(&row)?;
    if !caller.dry_run {
        let (id, who) = (row.id.clone(), caller.who.clone());
        site.write(move |w| {
            let now = clock::now();
            if !w.stop_deployment(&id, now)? {
                let there = w.deployment(&id)?.is_some();
                return Err(if there { over(&id) } else { gone(&id) }.into());
            }
            w.audit(&who, "deploy.stop", id.as_str(), now)
        })
        .await?;
    }
    let shown = show::one(site, row.id.as_str()).await?;
    Answer::of(&serde_json::json!({ "stopped": shown, "dry_run": caller.dry_run }))
}

/// Forgets it, with how far devices were. What devices reported stays in their histories.
///
/// # Errors
/// `DEPLOYMENT_NOT_FOUND`.
pub async fn delete(site: &Arc<Site>, name: &str, caller: &Caller) -> Result<Answer, Problem> {
    let row = named(site, name).await?;
    let shown = show::one(site, row.id.as_str()).await?;
    if !caller.dry_run {
        let who = caller.who.clone();
        site.write(move |w| {
            w.delete_deployment(&row.id)?;
            w.audit(&who, "deploy.delete", row.id.as_str(), clock::now())
        })
        .await?;
        // Content of images and applications may have been served for it alone.
        site.refresh_shelf().await?;
    }
    Answer::of(&serde_json::json!({ "deleted": shown, "dry_run": caller.dry_run }))
}
