//! Updates deployed to collections beside task sequences: what the step Install Software Updates installs (mission row M57).

use std::sync::Arc;

use catalog::id::UpdateId;
use catalog::problem::{Code, Problem};
use jiff::Timestamp;
use schema::deployments::Purpose;
use schema::update_deployments::UpdateDeploymentRow;
use serde::{Deserialize, Serialize};

use super::options::LONGEST_COMMENT;
use crate::admin::{Answer, Caller};
use crate::clock;
use crate::site::Site;
use crate::software::collections;
use crate::updates;

/// The most updates of one deployment.
pub const MOST_UPDATES: usize = 1_000;

/// A deployment of updates to make.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NewUpdates {
    /// Updates by id; feature updates by title too.
    pub updates: Vec<String>,
    /// Name of the collection.
    pub collection: String,
    /// Whether they are to be installed.
    pub purpose: Purpose,
    /// From when; now if not given.
    pub available: Option<Timestamp>,
    /// When they are due.
    pub deadline: Option<Timestamp>,
    /// Until when.
    pub expires: Option<Timestamp>,
    /// For people.
    #[serde(default)]
    pub comment: String,
}

/// A deployment of updates as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShownUpdates {
    /// The deployment.
    #[serde(flatten)]
    pub row: UpdateDeploymentRow,
    /// `scheduled`, `offered`, `due`, `expired` or `stopped`.
    pub state: String,
    /// Remarks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Nothing was changed.
    #[serde(default)]
    pub dry_run: bool,
}

/// How a deployment stands. Pure.
fn state(row: &UpdateDeploymentRow, now: Timestamp) -> &'static str {
    match () {
        () if row.stopped.is_some() => "stopped",
        () if row.expires.is_some_and(|expires| expires <= now) => "expired",
        () if now < row.available => "scheduled",
        () if row.deadline.is_some_and(|deadline| deadline <= now) => "due",
        () => "offered",
    }
}

fn shown(row: UpdateDeploymentRow, dry_run: bool) -> ShownUpdates {
    let state = state(&row, clock::now()).to_owned();
    ShownUpdates { row, state, notes: Vec::new(), dry_run }
}

/// Deploys updates, all of them or none.
///
/// # Errors
/// `UPDATE_NOT_FOUND`, `LICENSE_NOT_ACCEPTED` and the like, `NOT_DEPLOYABLE`, `UPDATE_EXPIRED`, `COLLECTION_NOT_FOUND`,
/// `INVALID_OPTION`.
pub async fn create(site: &Arc<Site>, new: NewUpdates, caller: &Caller) -> Result<Answer, Problem> {
    let now = clock::now();
    let times = settled(&new, now)?;
    let collection = collections::named(site, &new.collection).await?.name;
    let (chosen, notes) = chosen(site, &new.updates).await?;
    let (code, who, comment) = (site.code().clone(), caller.who.clone(), new.comment.trim().to_owned());
    let made = site
        .write_unless(caller.dry_run, move |w| {
            let (id, number) = w.next_deployment_id(&code)?;
            let row = UpdateDeploymentRow {
                id,
                collection,
                purpose: times.0,
                available: times.1,
                deadline: times.2,
                expires: new.expires,
                comment,
                stopped: None,
                created: now,
                created_by: who.clone(),
                updates: chosen,
            };
            w.create_update_deployment(number, &row)?;
            w.audit(&who, "deploy.updates", row.id.as_str(), now)?;
            Ok(row)
        })
        .await?;
    if !caller.dry_run {
        // What the library has of them is served now.
        site.refresh_shelf().await?;
    }
    Answer::of(&ShownUpdates { notes, ..shown(made, caller.dry_run) })
}

/// Purpose and times in order: a deadline makes it required, and a required one has a deadline. Pure.
fn settled(new: &NewUpdates, now: Timestamp) -> Result<(Purpose, Timestamp, Option<Timestamp>), Problem> {
    let invalid = |message: &str| Err(Problem::new(Code::InvalidOption, message));
    if new.comment.chars().count() > LONGEST_COMMENT {
        let message = format!("the comment has more than {LONGEST_COMMENT} characters");
        return Err(Problem::new(Code::DescriptionTooLong, message));
    }
    if new.updates.is_empty() || new.updates.len() > MOST_UPDATES {
        return invalid("a deployment has 1 to 1000 updates");
    }
    let available = new.available.unwrap_or(now);
    let required = new.purpose == Purpose::Required || new.deadline.is_some();
    let deadline = required.then(|| new.deadline.unwrap_or(available));
    if deadline.is_some_and(|deadline| deadline < available) {
        return invalid("the deadline is before the time from which it is available");
    }
    if new.expires.is_some_and(|expires| expires <= deadline.unwrap_or(available)) {
        return invalid("it expires before it is due");
    }
    Ok((if required { Purpose::Required } else { Purpose::Available }, available, deadline))
}

/// Feature updates as everywhere; others by their documents, by id. And remarks about those whose files no device gets here.
async fn chosen(
    site: &Arc<Site>,
    names: &[String],
) -> Result<(Vec<(UpdateId, String)>, Vec<String>), Problem> {
    let all = updates::all(site).await?;
    let mut chosen: Vec<(UpdateId, String)> = Vec::new();
    let mut notes: Vec<String> = Vec::new();
    for name in names {
        let found = match updates::named(name, &all) {
            Ok(listed) => {
                if let Some(reason) = listed.reasons.first() {
                    return Err(listed.refusal(reason));
                }
                if !listed.update.downloaded {
                    notes.push(format!(
                        "not downloaded: {}; devices get its files once `spsync package download` has brought them",
                        listed.update.title
                    ));
                }
                (listed.update.id.update, listed.update.title.clone())
            }
            Err(problem) if problem.code == Code::UpdateNotFound => {
                let known = match name.parse::<UpdateId>() {
                    Ok(id) => site.read(move |r| r.known_update(id)).await?,
                    Err(_) => None,
                };
                let known = known.ok_or_else(|| updates::with_hint(problem, &site.settings()))?;
                if known.expired {
                    return Err(Problem::new(Code::UpdateExpired, format!("`{}` is expired", known.title)));
                }
                if !known.deployable {
                    let message = format!("`{}` is offered by others only, as a part of them", known.title);
                    return Err(Problem::new(Code::NotDeployable, message));
                }
                notes.push(format!("its files are not kept here: {}", known.title));
                (known.id, known.title)
            }
            Err(problem) => return Err(problem),
        };
        if chosen.iter().all(|(id, _)| *id != found.0) {
            chosen.push(found);
        }
    }
    notes.dedup();
    Ok((chosen, notes))
}

/// All deployments of updates.
///
/// # Errors
/// Those of the database.
pub async fn list(site: &Arc<Site>) -> Result<Answer, Problem> {
    let rows = site.read(|r| r.update_deployments()).await?;
    Answer::of(&rows.into_iter().map(|row| shown(row, false)).collect::<Vec<_>>())
}

/// The deployment of updates with this id; `None` where there is none.
///
/// # Errors
/// Those of the database.
pub async fn named(site: &Arc<Site>, name: &str) -> Result<Option<UpdateDeploymentRow>, Problem> {
    let rows = site.read(|r| r.update_deployments()).await?;
    Ok(rows.into_iter().find(|row| row.id.as_str().eq_ignore_ascii_case(name.trim())))
}

/// What is done with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// It is looked at.
    Show,
    /// It is not offered any more.
    Stop,
    /// It is forgotten.
    Delete,
}

/// Does it.
///
/// # Errors
/// `DEPLOYMENT_OVER` for one that was stopped already.
pub async fn act(
    site: &Arc<Site>,
    row: UpdateDeploymentRow,
    act: Act,
    caller: &Caller,
) -> Result<Answer, Problem> {
    if act == Act::Stop && row.stopped.is_some() {
        return Err(Problem::new(Code::DeploymentOver, format!("deployment {} was stopped", row.id)));
    }
    let now = clock::now();
    let (id, who) = (row.id.clone(), caller.who.clone());
    if act != Act::Show && !caller.dry_run {
        site.write(move |w| {
            match act {
                Act::Show => {}
                Act::Stop => w.stop_update_deployment(&id, now)?,
                Act::Delete => w.delete_update_deployment(&id)?,
            }
            let what = if act == Act::Stop { "deploy.stop" } else { "deploy.delete" };
            w.audit(&who, what, id.as_str(), now)
        })
        .await?;
        site.refresh_shelf().await?;
    }
    let stopped = if act == Act::Stop { Some(now) } else { row.stopped };
    let shown = shown(UpdateDeploymentRow { stopped, ..row }, caller.dry_run);
    match act {
        Act::Delete => Answer::of(&serde_json::json!({ "deleted": shown, "dry_run": caller.dry_run })),
        Act::Show | Act::Stop => Answer::of(&shown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_makes_it_required() {
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        let new = |purpose, deadline: Option<i64>, expires: Option<i64>| NewUpdates {
            updates: vec!["x".to_owned()],
            collection: "ring".to_owned(),
            purpose,
            available: Some(at(100)),
            deadline: deadline.map(at),
            expires: expires.map(at),
            comment: String::new(),
        };
        let (available, required) = (Purpose::Available, Purpose::Required);
        let settled = |new: &NewUpdates| settled(new, at(1)).map_err(|problem| problem.code);
        assert_eq!(settled(&new(available, None, None)), Ok((available, at(100), None)));
        assert_eq!(settled(&new(available, Some(200), None)), Ok((required, at(100), Some(at(200)))));
        assert_eq!(settled(&new(required, None, None)), Ok((required, at(100), Some(at(100)))));
        for wrong in [
            new(required, Some(99), None),
            new(available, None, Some(100)),
            new(available, Some(200), Some(200)),
            NewUpdates { updates: Vec::new(), ..new(available, None, None) },
            NewUpdates { updates: vec![String::new(); MOST_UPDATES + 1], ..new(available, None, None) },
        ] {
            assert_eq!(settled(&wrong), Err(Code::InvalidOption));
        }
    }
}
