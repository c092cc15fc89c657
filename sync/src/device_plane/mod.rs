//! The device plane: policies down, facts and messages up, for enrolled devices.
//!
//! What is told is a [`Snapshot`], made whole after each change and swapped, so that an answer costs no question to the
//! database. What a device reports is taken down under the name of its key, and nothing of it widens what the device is
//! told or may fetch: collections decide the one, keys the other.

mod audited;
pub(crate) mod beside;
pub mod clients;
mod fold;
mod service;
pub mod snapshot;
pub(crate) mod status;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use arc_swap::ArcSwap;
use catalog::problem::Problem;
use jiff::Timestamp;
use schema::{Reader, SchemaError};

pub use fold::fold;
pub use service::DeviceService;
pub use snapshot::{Inputs, Snapshot};

use crate::authoring::surroundings::Known;
use crate::blocking::blocking;
use crate::clock;
use crate::config::Settings;
use crate::deploying::resolve::{self, Stored};
use crate::policy::{Facts, REFRESH};
use crate::sequence::Sequence;
use crate::site::Site;

/// So often it is made anew at most where something changed and nobody said so: work that ends by itself changes what is told too.
const EVERY_SECONDS: i64 = 30;

/// What devices are told, and what is known of them from moment to moment.
#[derive(Default)]
pub struct Policies {
    snapshot: ArcSwap<Snapshot>,
    making: tokio::sync::Mutex<()>,
    made: Mutex<Option<Made>>,
    /// Devices on the internet, by name in lower case.
    away: RwLock<HashSet<String>>,
    /// Who asked since it was written down last.
    seen: Mutex<HashMap<String, (IpAddr, Timestamp)>>,
    /// Who got secrets.
    audited: audited::Audited,
}

/// When it was made, and of what.
#[derive(Debug, Clone)]
struct Made {
    at: Timestamp,
    /// As the site was then, or before it.
    of: State,
}

/// What policies are made of, as far as it can be told without reading it.
#[derive(Debug, Clone)]
struct State {
    /// A task works. What tasks write aside is in no count of changes.
    working: bool,
    /// How many tasks have ended.
    ended: u64,
    /// How often the database was changed, but for what machines say of themselves, which bears on no policy.
    commits: u64,
    settings: Arc<Settings>,
}

impl State {
    fn of(site: &Site) -> Self {
        // In this order: a task that does not work any more was counted before that.
        let working = !site.tasks.running().is_empty();
        let ended = site.tasks.ended();
        Self { working, ended, commits: site.store.commits(), settings: site.settings() }
    }

    /// Nothing was changed from `self` to `now`.
    fn is_still(&self, now: &Self) -> bool {
        let same = (self.ended, self.commits) == (now.ended, now.commits);
        same && !now.working && Arc::ptr_eq(&self.settings, &now.settings)
    }
}

impl Policies {
    /// What devices are told now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Replaces it.
    pub fn store(&self, snapshot: Snapshot) {
        self.snapshot.store(Arc::new(snapshot));
    }

    fn is_away(&self, device: &str) -> bool {
        let away = self.away.read().unwrap_or_else(PoisonError::into_inner);
        !away.is_empty() && away.contains(&device.to_ascii_lowercase())
    }

    fn says(&self, device: &str, facts: &Facts) {
        let mut away = self.away.write().unwrap_or_else(PoisonError::into_inner);
        match facts.internet {
            true => away.insert(device.to_ascii_lowercase()),
            false => away.remove(&device.to_ascii_lowercase()),
        };
    }

    /// Nothing is known of a device that was removed.
    pub fn forget(&self, device: &str) {
        self.away.write().unwrap_or_else(PoisonError::into_inner).remove(&device.to_ascii_lowercase());
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|name, _| !name.eq_ignore_ascii_case(device));
    }

    fn asked(&self, device: &str, address: IpAddr, now: Timestamp) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.get_mut(device) {
            Some(known) => *known = (address, now),
            None => {
                seen.insert(device.to_owned(), (address, now));
            }
        }
    }
}

/// Makes what devices are told follow from what the database says now. A command that works without the daemon tells
/// nobody anything.
///
/// # Errors
/// Those of the database.
pub async fn refresh(site: &Arc<Site>) -> Result<(), Problem> {
    if site.serving_since.get().is_none() || !site.settings().dp.is_site() {
        return Ok(());
    }
    make(site, clock::now()).await
}

/// The same, whoever asks.
///
/// # Errors
/// Those of the database.
pub async fn make(site: &Arc<Site>, now: Timestamp) -> Result<(), Problem> {
    // One after the other from reading to storing: an older state must not replace a newer one.
    let _one = site.policies.making.lock().await;
    // Before the first question: what changes from now on is another state, for which this will not be taken.
    let of = State::of(site);
    let snapshot = made(site, &of.settings, now).await?;
    site.policies.store(snapshot);
    *site.policies.made.lock().unwrap_or_else(PoisonError::into_inner) = Some(Made { at: now, of });
    Ok(())
}

/// What devices are to be told by what the site knows.
async fn made(site: &Arc<Site>, settings: &Settings, now: Timestamp) -> Result<Snapshot, Problem> {
    let known = Known::of(site).await?;
    let seconds = u32::try_from(settings.clients.poll_interval.as_secs()).unwrap_or(u32::MAX);
    let (mut inputs, stored) = site.read(read).await?;
    inputs.site = site.code().clone();
    inputs.refresh_seconds = seconds.clamp(*REFRESH.start(), *REFRESH.end());
    for row in &inputs.sequences {
        if inputs.deployments.iter().any(|deployment| deployment.sequence == row.id)
            && let Ok(sequence) = Sequence::parse(&row.document)
        {
            inputs.references.insert(row.id.clone(), resolve::references(&sequence, &known, &stored));
        }
    }
    let beside = inputs.updates.iter().filter(|row| row.stopped.is_none());
    let beside = beside.flat_map(|row| row.updates.iter().map(|(id, _)| id));
    inputs.update_files = resolve::files_beside(beside, &known, &stored);
    blocking(move || Ok(Snapshot::of(&inputs, now))).await
}

fn read(reader: &Reader<'_>) -> Result<(Inputs, Stored), SchemaError> {
    let deployments = reader.deployments()?;
    let mut secrets = HashMap::new();
    for row in &deployments {
        let numbers = reader.sequence_secrets(&row.sequence)?.into_iter().map(|secret| secret.number);
        secrets.insert(row.sequence.clone(), numbers.collect());
    }
    let inputs = Inputs {
        site: "XYZ".parse().map_err(|_| SchemaError::Value("a site code".to_owned()))?,
        refresh_seconds: 0,
        deployments,
        sequences: reader.sequences()?,
        references: HashMap::new(),
        secrets,
        collections: reader.collections()?,
        settings: reader.client_settings()?,
        updates: reader.update_deployments()?,
        update_files: HashMap::new(),
        windows: reader.windows()?,
    };
    Ok((inputs, Stored::of(reader.stored_files()?)))
}

/// Knows again what devices said before this process began, and makes what they are told.
///
/// # Errors
/// Those of the database.
pub async fn begin(site: &Arc<Site>) -> Result<(), Problem> {
    for row in site.read(|r| r.devices()).await? {
        if let Some(facts) = row.facts.and_then(|facts| serde_json::from_value::<Facts>(facts).ok()) {
            site.policies.says(&row.name, &facts);
        }
    }
    make(site, clock::now()).await
}

/// Writes down who asked, and makes anew what time changes.
///
/// # Errors
/// Those of the database.
pub async fn pass(site: &Arc<Site>, now: Timestamp) -> Result<(), Problem> {
    let seen = std::mem::take(&mut *site.policies.seen.lock().unwrap_or_else(PoisonError::into_inner));
    if !seen.is_empty() {
        let rows: Vec<_> = seen
            .into_iter()
            .map(|(name, (address, at))| (name, address.to_canonical().to_string(), at))
            .collect();
        site.write_aside_alone(move |w| w.devices_seen(&rows)).await?;
    }
    if is_to_be_made(site, now) {
        make(site, now).await?;
    }
    Ok(())
}

/// Whether time has come for something that is told, or something may be another of which it is made.
fn is_to_be_made(site: &Site, now: Timestamp) -> bool {
    if site.policies.snapshot().next_change.is_some_and(|at| at <= now) {
        return true;
    }
    let made = site.policies.made.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(made) = made else { return true };
    if now.duration_since(made.at).as_secs().abs() < EVERY_SECONDS {
        return false;
    }
    // What was over by a clock that went ahead, and was put back, is not over any more.
    now < made.at || !made.of.is_still(&State::of(site))
}
