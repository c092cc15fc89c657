//! Devices, as the site knows them: what they are, and what happened on them; and how they are removed.

use std::sync::Arc;

use catalog::id::PackageId;
use catalog::problem::{Code, Problem};
use jiff::Timestamp;
use schema::devices::{DeviceRow, DeviceRun};
use schema::keys::PrincipalKind;
use serde::{Deserialize, Serialize};

use crate::admin::{Answer, Caller};
use crate::clock;
use crate::deploying::codes;
use crate::deploying::status::state_of;
use crate::find::nobody;
use crate::policy::{Facts, RunState, StatusMessage};
use crate::site::Site;
use crate::software::settings::{self, Effective};

/// A device.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShownClient {
    /// Its name.
    pub device: String,
    /// It has a key in force.
    pub enrolled: bool,
    /// What it said of itself.
    pub facts: Option<Facts>,
    /// When.
    pub facts_at: Option<Timestamp>,
    /// Where it asked from last.
    pub address: Option<String>,
    /// When it asked for its policy last.
    pub policy_at: Option<Timestamp>,
    /// When it asked for its policy or said what it is, whichever was later.
    #[serde(default)]
    pub heard: Option<Timestamp>,
    /// On how many days, one after the other, nothing at all was heard of it while the site listened: `[clients] forget_after` goes
    /// by this. 0 too for one that has no key yet.
    #[serde(default)]
    pub silent_days: u32,
    /// Collections that it was put into.
    pub collections: Vec<String>,
    /// Messages that came again.
    pub replayed: u64,
    /// Messages that were refused.
    pub refused: u64,
    /// Of one device: how far it is with what is deployed to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<DeviceRun>,
    /// Of one device: its client settings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<Effective>,
}

async fn all(site: &Arc<Site>) -> Result<Vec<ShownClient>, Problem> {
    let (rows, principals, memberships) =
        site.read(|r| Ok((r.devices()?, r.principals()?, r.memberships()?))).await?;
    let mut names: std::collections::BTreeMap<String, ShownClient> = std::collections::BTreeMap::new();
    let empty = |device: &str| ShownClient {
        device: device.to_owned(),
        enrolled: false,
        facts: None,
        facts_at: None,
        address: None,
        policy_at: None,
        heard: None,
        silent_days: 0,
        collections: Vec::new(),
        replayed: 0,
        refused: 0,
        runs: Vec::new(),
        settings: Vec::new(),
    };
    for row in rows {
        let DeviceRow { name, facts, facts_at, address, policy_at, replayed, refused, missed } = row;
        let facts = facts.and_then(|facts| serde_json::from_value(facts).ok());
        let heard = policy_at.max(facts_at);
        // Of who is back since the last roll call nothing may be written down yet.
        let silent_days = if site.keys.is_heard(&name) { 0 } else { missed };
        let said = ShownClient { facts, facts_at, address, policy_at, replayed, refused, ..empty(&name) };
        let shown = ShownClient { heard, silent_days, ..said };
        names.insert(name.to_ascii_lowercase(), shown);
    }
    for one in principals.iter().filter(|one| one.kind == PrincipalKind::Device && one.revoked.is_none()) {
        names.entry(one.name.to_ascii_lowercase()).or_insert_with(|| empty(&one.name)).enrolled = true;
    }
    for (device, collection) in memberships {
        names
            .entry(device.to_ascii_lowercase())
            .or_insert_with(|| empty(&device))
            .collections
            .push(collection);
    }
    Ok(names.into_values().collect())
}

/// All devices: those that said something, that are enrolled, or that a collection names. Of those the ones that are silent for at
/// least so many days.
///
/// # Errors
/// Those of the database.
pub async fn list(site: &Arc<Site>, silent: u32) -> Result<Answer, Problem> {
    let mut all = all(site).await?;
    all.retain(|shown| shown.silent_days >= silent);
    Answer::of(&all)
}

/// A device that was removed, or would be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Removed {
    /// Its name.
    pub device: String,
    /// It had a key, or a token that would have become one.
    pub had_key: bool,
    /// Collections that it left.
    pub collections: Vec<String>,
    /// Deployments that it was at.
    pub under_way: Vec<PackageId>,
    /// Nothing was changed.
    pub dry_run: bool,
}

/// Takes the key of a device back, and removes it from everything. What it says from now on is refused; what was done on it stays to be read.
///
/// # Errors
/// `DEVICE_NOT_FOUND`.
pub async fn remove(site: &Arc<Site>, name: &str, caller: &Caller) -> Result<Answer, Problem> {
    // For one that is unknown there may be a token.
    let (device, _) = name_of(site, name).await?;
    match remove_all(site, vec![device], None, caller).await?.pop() {
        Some(removed) => Answer::of(&removed),
        None => Err(unknown(name)),
    }
}

/// Whether a device in this state is in the middle of something, and not before it or after it.
fn is_at_work(state: &str) -> bool {
    matches!(state_of(state), RunState::Downloading | RunState::Running | RunState::Restarting)
}

/// Removes devices, all or none; those that are unknown are left out, and of whom was heard in the last `silent` days, where only silent
/// ones are meant.
///
/// # Errors
/// Those of the database.
pub async fn remove_all(
    site: &Arc<Site>,
    devices: Vec<String>,
    silent: Option<u32>,
    caller: &Caller,
) -> Result<Vec<Removed>, Problem> {
    let (who, dry_run, now) = (caller.who.clone(), caller.dry_run, clock::now());
    let gone = site
        .write_unless(dry_run, move |w| {
            let mut all = Vec::new();
            for device in devices {
                if let Some(days) = silent
                    && !w.is_silent(&device, days)?
                {
                    continue;
                }
                let Some(gone) = w.device_removed(&device, now)? else { continue };
                w.audit(&who, "client.remove", &device, now)?;
                let (had_key, collections) = (gone.had_key, gone.collections);
                let at_work = gone.runs.into_iter().filter(|run| is_at_work(&run.state));
                let under_way = at_work.map(|run| run.deployment).collect();
                all.push(Removed { device, had_key, collections, under_way, dry_run });
            }
            Ok(all)
        })
        .await?;
    if !dry_run && !gone.is_empty() {
        site.refresh_keys().await?;
        // Points let in whoever they were told.
        site.points.changed();
        for one in &gone {
            // After its key: what it says in this moment is refused already.
            site.policies.forget(&one.device);
            site.locations.register.forget(&one.device);
        }
    }
    Ok(gone)
}

async fn named(site: &Arc<Site>, name: &str) -> Result<ShownClient, Problem> {
    let found = all(site).await?.into_iter().find(|shown| shown.device.eq_ignore_ascii_case(name.trim()));
    found.ok_or_else(|| unknown(name))
}

fn unknown(name: &str) -> Problem {
    Problem::new(Code::DeviceNotFound, nobody("device", name))
}

/// The name of a device, and whether it is known.
async fn name_of(site: &Arc<Site>, name: &str) -> Result<(String, bool), Problem> {
    match named(site, name).await {
        Ok(shown) => Ok((shown.device, true)),
        Err(problem) if problem.code == Code::DeviceNotFound => Ok((name.trim().to_owned(), false)),
        Err(problem) => Err(problem),
    }
}

/// One device.
///
/// # Errors
/// `DEVICE_NOT_FOUND`.
pub async fn show(site: &Arc<Site>, name: &str) -> Result<Answer, Problem> {
    let shown = named(site, name).await?;
    let device = shown.device.clone();
    let (runs, rows, collections) =
        site.read(move |r| Ok((r.runs_on(&device)?, r.client_settings()?, r.collections()?))).await?;
    let settings = settings::effective_of(&shown.device, &rows, &collections);
    Answer::of(&ShownClient { runs, settings, ..shown })
}

/// What happened on a device.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct History {
    /// Its name.
    pub device: String,
    /// How far it is with what is deployed to it.
    pub runs: Vec<DeviceRun>,
    /// Its messages, oldest first.
    pub happened: Vec<Happened>,
    /// Messages that are older than those.
    #[serde(default)]
    pub hidden: u64,
    /// It is known no more: this is what it did before it was removed.
    #[serde(default)]
    pub removed: bool,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Happened {
    /// When, by the clock of the device.
    pub at: Timestamp,
    /// When the site heard of it.
    pub received: Timestamp,
    /// The deployment.
    pub deployment: String,
    /// Which run.
    pub run: u64,
    /// How the run stands after it.
    pub state: String,
    /// The step.
    pub step: Option<u32>,
    /// Its name.
    pub step_name: Option<String>,
    /// How the step stands.
    pub step_state: Option<String>,
    /// The error.
    pub error: Option<String>,
    /// The exit code.
    pub exit: Option<i64>,
    /// For people.
    pub details: String,
    /// Bytes by who gave them.
    pub bytes: Vec<String>,
}

/// What happened on a device: at most `limit` messages, the newest.
///
/// # Errors
/// `DEVICE_NOT_FOUND`.
pub async fn history(site: &Arc<Site>, name: &str, limit: u32) -> Result<Answer, Problem> {
    let (device, is_known) = name_of(site, name).await?;
    let wanted = device.clone();
    let (runs, messages, all) = site
        .read(move |r| {
            Ok((r.all_runs_on(&wanted)?, r.messages_of(&wanted, limit)?, r.count_messages_of(&wanted)?))
        })
        .await?;
    if !is_known && runs.is_empty() && all == 0 {
        return Err(unknown(name));
    }
    let hidden = all.saturating_sub(messages.len() as u64);
    let happened = messages.into_iter().filter_map(|row| {
        let message: StatusMessage = serde_json::from_value(row.body).ok()?;
        Some(Happened {
            at: message.time,
            received: row.received,
            deployment: message.deployment.to_string(),
            run: message.run,
            state: message.state.word().to_owned(),
            step: message.step.as_ref().map(|step| step.number),
            step_name: message.step.as_ref().map(|step| step.name.clone()),
            step_state: message.step.as_ref().map(|step| step.state.word().to_owned()),
            error: codes::named(message.code.as_deref(), message.exit).map(|named| named.code),
            exit: message.exit,
            details: message.details,
            bytes: message
                .bytes
                .iter()
                .map(|from| format!("{} {} {}", from.origin.word(), from.name, from.bytes))
                .collect(),
        })
    });
    Answer::of(&History { device, runs, happened: happened.collect(), hidden, removed: !is_known })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_removes_a_device_hears_what_it_was_in_the_middle_of() {
        for (state, expected) in [
            (RunState::Waiting, false),
            (RunState::Downloading, true),
            (RunState::Running, true),
            (RunState::Restarting, true),
            (RunState::Succeeded, false),
            (RunState::Failed, false),
            (RunState::RolledBack, false),
            (RunState::NotApplicable, false),
        ] {
            assert_eq!(is_at_work(state.word()), expected, "{}", state.word());
        }
        assert!(!is_at_work("of a newer program"));
    }
}
