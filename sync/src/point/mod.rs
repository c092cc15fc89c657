//! A distribution point on a machine of its own: it asks its site what to hold, fetches it, serves it, and says how it is.
//!
//! ```text
//! link:   GET /point/assignment ──▶ kept in its own database ──▶ worker: fetch, verify, drop ──▶ shelf
//!         POST /point/report    ◀── how each package is ◀──────────┘
//! ```
//! It decides nothing about what it holds. What it was assigned it goes on serving without its site, after a restart too; and,
//! where it is public, after its key was revoked. Only its site can take content off, and only by saying so ([`unnamed`]).

pub(crate) mod certificate;
mod cloud;
pub mod demand;
pub mod elsewhere;
mod evict;
mod freed;
mod keys;
mod link;
mod parts;
mod room;
mod said;
mod sources;
#[cfg(test)]
mod tests;
pub mod unnamed;
mod work;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use catalog::digest::Sha256Digest;
use catalog::id::PackageId;
use catalog::problem::{Code, Problem};
use dp::server::{Access, Pulls, Servable, Shelf};
use dp::transfer::RateLimit;
use jiff::Timestamp;
use schema::points::ContentState;
use schema::{Reader, SchemaError};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::{error, info};
use uuid::Uuid;

use crate::clock;
use crate::plane::{call, enrol};
use crate::points::wire::{Assigned, Assignment, Said};
use crate::site::Site;

/// A site that was heard of since then may answer again as soon as clients come back.
const SOON: Duration = Duration::from_secs(60);

/// What this process knows as a point, from moment to moment. Of a site it stays empty.
#[derive(Debug)]
pub struct Live {
    inner: Mutex<Inner>,
    /// Counted up when the assignment is another one, or may be worked on again.
    assigned: watch::Sender<u64>,
    /// Counted up when there is something to say.
    news: watch::Sender<u64>,
    /// What it fetches because it is asked for it, where that is on.
    pub pulls: OnceLock<Arc<Pulls>>,
    /// The rate of the assignment, shared by all that is fetched, for whatever reason.
    rate: Mutex<Option<(u64, Arc<RateLimit>)>>,
    /// Whether letting go makes room.
    brake: Mutex<evict::Brake>,
}

#[derive(Debug, Default)]
struct Inner {
    etag: Option<String>,
    assignment: Arc<Assignment>,
    said: BTreeMap<PackageId, Said>,
    contact: Option<Timestamp>,
    refused: Option<Problem>,
    /// The keys for private content are to be forgotten, and that is not written down yet.
    forgets: bool,
    /// When contents that were pulled were used last, as far as that is not written down.
    used: HashMap<Sha256Digest, Timestamp>,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            inner: Mutex::default(),
            assigned: watch::Sender::new(0),
            news: watch::Sender::new(0),
            pulls: OnceLock::new(),
            rate: Mutex::default(),
            brake: Mutex::default(),
        }
    }
}

/// How a point is, for `spsync status` on its machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PointStatus {
    /// Address of its site.
    pub site: String,
    /// Its name there.
    pub name: String,
    /// When the site answered last.
    pub contact: Option<Timestamp>,
    /// Why it does not now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    /// Why nothing is fetched now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
    /// How each package is.
    pub packages: Vec<Said>,
    /// What it fetched because it was asked for it, where that is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_demand: Option<demand::OnDemand>,
    /// What it serves though its site names it no more and has not said that it is to go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unnamed: Option<unnamed::Unnamed>,
}

impl Live {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn brake(&self) -> MutexGuard<'_, evict::Brake> {
        self.brake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the point is.
    pub fn status(&self, site: &str) -> PointStatus {
        let inner = self.lock();
        PointStatus {
            site: site.to_owned(),
            name: inner.assignment.point.clone(),
            contact: inner.contact,
            problem: inner.refused.clone(),
            paused: inner.assignment.paused.clone(),
            packages: inner.said.values().cloned().collect(),
            on_demand: None,
            unnamed: None,
        }
    }

    /// The assignment in force, and its tag.
    pub fn assignment(&self) -> (Option<String>, Arc<Assignment>) {
        let inner = self.lock();
        (inner.etag.clone(), inner.assignment.clone())
    }

    /// Every content that is assigned.
    pub(crate) fn assigned_contents(&self) -> HashSet<Sha256Digest> {
        parts::assigned(&self.assignment().1)
    }

    /// Another process has this identity, or the site does not want this one: nothing is to be fetched.
    fn is_shut_out(&self) -> bool {
        let inner = self.lock();
        inner
            .refused
            .as_ref()
            .is_some_and(|why| why.code == Code::PointIdentityTaken || link::is_without_key(why))
    }

    /// The site answered when it was asked last.
    fn is_in_contact(&self) -> bool {
        let inner = self.lock();
        inner.refused.is_none() && inner.contact.is_some()
    }

    /// The site has not answered for so long, or never, that nobody is told to wait for it.
    fn is_cut_off(&self) -> bool {
        let inner = self.lock();
        inner.contact.is_none_or(|contact| {
            inner.refused.is_some() && clock::now().duration_since(contact).unsigned_abs() >= SOON
        })
    }

    /// Takes over another assignment. An empty tag asks for it anew.
    pub fn adopt(&self, etag: String, assignment: Assignment) {
        let mut inner = self.lock();
        let named = |package: &PackageId| assignment.packages.iter().any(|it| it.package == *package);
        inner.said.retain(|package, _| named(package));
        inner.etag = Some(etag).filter(|etag| !etag.is_empty());
        inner.assignment = Arc::new(assignment);
        drop(inner);
        // What was not to be fetched may be by now, and the other way round.
        if let Some(pulls) = self.pulls.get() {
            pulls.forget_answers();
        }
        self.assigned.send_modify(|count| *count += 1);
    }

    /// Takes over other keys of devices. Nothing else is another for that.
    fn adopt_keys(&self, keys: Vec<Sha256Digest>) {
        let mut inner = self.lock();
        let assignment = Assignment { keys, ..(*inner.assignment).clone() };
        inner.assignment = Arc::new(assignment);
    }

    /// What all that is fetched at `rate` shares.
    fn rate_limit(&self, rate: Option<u64>) -> Option<Arc<RateLimit>> {
        let rate = rate?;
        let mut shared = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        let known = shared.take().filter(|(same, _)| *same == rate);
        Some(shared.insert(known.unwrap_or_else(|| (rate, Arc::new(RateLimit::new(rate))))).1.clone())
    }

    /// The site is to tell everything again.
    fn forget_tag(&self) {
        self.lock().etag = None;
    }

    /// Content came from elsewhere: what the assignment lacks is looked at again.
    pub fn look_again(&self) {
        self.assigned.send_modify(|count| *count += 1);
    }

    fn say(&self, said: Said, at_once: bool) {
        self.lock().said.insert(said.package.clone(), said);
        if at_once {
            self.news.send_modify(|count| *count += 1);
        }
    }

    /// An order is open and waits for its turn, unless something was said of it already.
    fn waits(&self, package: &Assigned, lacks: Vec<Sha256Digest>) {
        let (id, order, state) = (package.package.clone(), package.order, ContentState::Queued);
        let mut inner = self.lock();
        match inner.said.get_mut(&id).filter(|said| said.order == order) {
            Some(said) => said.lacks = lacks,
            None => {
                let said = Said { package: id.clone(), order, state, done: 0, problem: None, lacks };
                inner.said.insert(id, said);
            }
        }
    }

    /// How far an order is that is worked on. What it lacks stays said; what has come of it meanwhile is left out of reports.
    fn goes_on(&self, package: &PackageId, order: u64, state: ContentState, done: u64, at_once: bool) {
        let mut inner = self.lock();
        if let Some(said) = inner.said.get_mut(package).filter(|said| said.order == order) {
            (said.state, said.done, said.problem) = (state, done, None);
        }
        drop(inner);
        if at_once {
            self.news.send_modify(|count| *count += 1);
        }
    }

    /// The site answered, or why it did not. The log hears of each change once.
    fn contact(&self, answered: Result<(), Problem>, site: &str) {
        let mut inner = self.lock();
        let before = inner.refused.take();
        match answered {
            Ok(()) => {
                inner.contact = Some(clock::now());
                if before.is_some() {
                    info!("the site {site} answers again");
                }
            }
            Err(problem) => {
                if before.as_ref().map(|before| before.code) != Some(problem.code) {
                    error!("the site {site} cannot be asked: {problem}; what is here is served on");
                }
                inner.refused = Some(problem);
            }
        }
        let changed = before.is_some() != inner.refused.is_some();
        drop(inner);
        if changed {
            self.assigned.send_modify(|count| *count += 1);
        }
    }
}

/// Works as a point until `stopped`.
///
/// # Errors
/// Before anything runs: an address or certificates of the site that cannot be used, a data directory that cannot be
/// written.
pub async fn start(
    site: &Arc<Site>,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> Result<tokio::task::JoinHandle<()>, Problem> {
    let instance = enrol::instance(&site.settings().site.data_dir.join("point.instance"))?;
    let who = link::Who { instance, boot: Uuid::new_v4() };
    let link = link::Link::new(site, who)?;
    let site = site.clone();
    Ok(tokio::spawn(async move {
        tokio::select! {
            () = stopped => {}
            () = link.listen() => {}
            () = link.tell() => {}
            () = work::run(&site) => {}
            () = demand::tidy(&site) => {}
            () = unnamed::keep(&site) => {}
            () = keys::keep(&site) => {}
            () = certificate::keep(&site) => {}
        }
        if let Some(pulls) = site.point.pulls.get() {
            pulls.stop();
            if let Err(problem) = demand::write_used(&site).await {
                error!("when contents were used last is not written down: {problem}");
            }
        }
    }))
}

/// What a point may serve: those files of its assignment that are here, those that leave too, what was pulled, and what nobody has
/// said is to go. The names of the others are
/// known, so that they can be asked for.
///
/// # Errors
/// Those of the database.
pub fn shelf(reader: &Reader<'_>, assignment: &Assignment) -> Result<Shelf, SchemaError> {
    let mut shelf = Shelf::default();
    let here = reader.content_digests()?;
    for package in &assignment.packages {
        // A name that two versions have means the present one.
        for file in package.all_files() {
            let name = file.name.as_str().to_ascii_lowercase();
            shelf.packages.entry((package.package.clone(), name)).or_insert(file.sha256);
            shelf.name(file.sha1, file.sha256);
            if here.contains(&file.sha256) {
                let access = Access::of(file.private);
                let servable = Servable::of(file.size, Some(file.sha1), file.name.clone(), access);
                shelf.offer(file.sha256, servable);
            }
        }
    }
    shelf.by_upstream = Arc::new(assignment.upstream.clone().into_iter().collect());
    for row in reader.pulled_contents()? {
        if !shelf.contents.contains_key(&row.sha256) {
            let access = Access::of(row.private);
            let servable = Servable::of(row.size, Some(row.sha1), row.file_name, access);
            shelf.offer(row.sha256, servable.on_demand());
        }
    }
    for row in reader.unnamed_contents()? {
        if !shelf.contents.contains_key(&row.sha256) {
            let access = Access::of(row.private);
            let name = row.file_name.as_str().to_ascii_lowercase();
            shelf.packages.entry((row.package, name)).or_insert(row.sha256);
            let servable = Servable::of(row.size, Some(row.sha1), row.file_name, access);
            shelf.offer(row.sha256, servable);
        }
    }
    Ok(shelf)
}

/// What the site asked of this point last, with its tag; nothing before it ever did. It may be long: it is read once, at the
/// start, and kept in [`Live`] from then on.
///
/// # Errors
/// Those of the database.
pub fn recorded(reader: &Reader<'_>) -> Result<Option<(String, Assignment)>, SchemaError> {
    let Some((etag, body)) = reader.assignment()? else { return Ok(None) };
    let assignment =
        serde_json::from_str(&body).map_err(|error| SchemaError::Value(format!("assignment: {error}")))?;
    Ok(Some((etag, assignment)))
}
