//! Content that this point lacks, fetched because somebody asks for it: once, however many ask.
//!
//! ```text
//! asked ──▶ known: what it is, who has it ──▶ arriving ──▶ stored ──▶ served like any other
//!   │           one question for all             │  all who ask follow the verified mark (`follow`)
//!   └─▶ not for this point: 404                  └─▶ failed: 503, and for a moment nobody tries again
//! ```
//! No byte leaves before its piece, or the whole file, is verified. A content that has begun to arrive arrives to its end,
//! also when nobody waits for it any more: whoever was told to come back finds it, and what is fetched is bounded by the
//! number of pulls, by the room there is, and by what the [`Origin`] vouches for. Answers that need no bytes (HEAD, 304,
//! 412, 416) fetch none. [`super::pull_through`] answers.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use catalog::digest::{Digests, Pieces, Sha1Digest, Sha256Digest, Wanted};
use catalog::id::{FileName, PackageId};
use catalog::problem::{Code, Coded as _};
use tokio::sync::{OnceCell, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::counters::Counted;
use super::open::{OpenContent, OpenContents};
use super::refusal::Refusal;
use super::shelf::Servable;
use crate::library::{Growth, Library};
use crate::transfer::{FetchError, Fetched, Job, Policy, RateLimit, Source, fetch_by_pieces};

/// What comes of something that takes time.
pub type Eventually<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Who knows what this point may serve although it lacks it.
pub trait Origin: Send + Sync {
    /// What a content is and who has it; `None` where it is not for this point. Asked once for all who want it.
    ///
    /// # Errors
    /// Why that cannot be said now.
    fn find(&self, content: Sha256Digest) -> Eventually<'_, Result<Option<Offer>, Refusal>>;

    /// Which content has another name than its SHA-256; `None` where there is none for this point.
    ///
    /// # Errors
    /// Why that cannot be said now.
    fn named(&self, _: OtherName) -> Eventually<'_, Result<Option<Sha256Digest>, Refusal>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// So many bytes are about to arrive: what was pulled before may have to go. [`Pulls::arriving_bytes`] has them already. Asked for one
    /// content after the other.
    ///
    /// # Errors
    /// There is no room for so many.
    fn make_room(&self, bytes: u64) -> Eventually<'_, Result<(), Refusal>>;

    /// A content has arrived and is in the library. When this is over, it is on the shelf.
    fn stored<'s>(
        &'s self,
        content: Sha256Digest,
        offer: &'s Offer,
        fetched: &'s Fetched,
    ) -> Eventually<'s, ()>;

    /// A content that was pulled is being sent. Told at the beginning and at the end; must not wait.
    fn used(&self, content: Sha256Digest);
}

/// A name of content that says nothing of its SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum OtherName {
    /// As update servers name it.
    Sha1(Sha1Digest),
    /// A file of a package, in lower case.
    InPackage(PackageId, FileName),
}

/// A content that this point may serve and lacks.
#[derive(Clone)]
pub struct Offer {
    /// What it is.
    pub servable: Servable,
    /// Who has it, in the order in which to ask.
    pub sources: Vec<Source>,
    /// What its pieces must be, if that is known.
    pub pieces: Option<Pieces>,
    /// How fast it may come.
    pub rate: Option<Arc<RateLimit>>,
}

/// How patient a point is for its clients.
#[derive(Debug, Clone, Copy)]
pub struct PullLimits {
    /// How long a request waits for its first byte, and between any two.
    pub wait: Duration,
    /// Contents that arrive at once.
    pub most: usize,
    /// How long is remembered what the origin said, and that a pull failed.
    pub remembered: Duration,
}

impl Default for PullLimits {
    fn default() -> Self {
        Self { wait: Duration::from_secs(30), most: 8, remembered: Duration::from_secs(10) }
    }
}

/// Contents about which something is remembered, and questions to the origin at once. Beyond the first the oldest go.
const MOST_KNOWN: usize = 1024;
const MOST_QUESTIONS: usize = 16;

/// What was pulled since the start, in numbers.
#[derive(Debug, Default)]
pub struct Pulled {
    /// Contents that began to arrive.
    pub begun: AtomicU64,
    /// Those that were verified and stored.
    pub stored: AtomicU64,
    /// Those that nobody could give, or that could not be kept.
    pub failed: AtomicU64,
    /// Requests that were answered from content while it arrived.
    pub followers: AtomicU64,
    /// Bytes that came from sources and were stored.
    pub bytes: AtomicU64,
    /// Contents that arrive now.
    pub running: AtomicU64,
    /// Contents that had to go again, and their bytes.
    pub evicted: AtomicU64,
    /// Bytes of those.
    pub evicted_bytes: AtomicU64,
}

/// All that arrives because it was asked for.
pub struct Pulls {
    library: Library,
    origin: Arc<dyn Origin>,
    pub(super) limits: PullLimits,
    policy: Policy,
    questions: Semaphore,
    making_room: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    /// Apart from the state: a task that cannot begin any more is dropped at once, and changes the state.
    tasks: Mutex<JoinSet<()>>,
    /// What was pulled.
    pub counts: Pulled,
}

#[derive(Default)]
struct State {
    known: HashMap<Sha256Digest, Known<Arc<Offer>>>,
    names: HashMap<OtherName, Known<Sha256Digest>>,
    arriving: HashMap<Sha256Digest, Arc<Arrival>>,
    in_use: HashMap<Sha256Digest, usize>,
}

/// What the origin said, or will say.
struct Known<T> {
    said: Arc<OnceCell<Result<T, Refusal>>>,
    /// Why it could not be had a moment ago: only for those who may have it.
    failed: Option<Refusal>,
    until: Instant,
}

/// A content that arrives.
pub(super) struct Arrival {
    offer: Arc<Offer>,
    /// Somebody else brings it, who has made room for it.
    is_brought: bool,
    /// There is room for it, or it is being made. What waits for its turn, or was refused, takes none from others.
    has_room: AtomicBool,
    pub(super) growth: Arc<Growth>,
    /// Opened once for all who follow.
    content: Mutex<Option<Arc<OpenContent>>>,
    /// Why it ended without the content.
    ended: watch::Sender<Option<Refusal>>,
}

impl Arrival {
    fn new(offer: Arc<Offer>, is_brought: bool) -> Arc<Self> {
        let ended = watch::Sender::new(None);
        let (has_room, growth, content) = (AtomicBool::new(is_brought), Arc::default(), Mutex::default());
        Arc::new(Self { offer, is_brought, has_room, growth, content, ended })
    }

    /// Nothing more comes; those who have not got all learn that, unless they were told why.
    fn is_over(&self) {
        self.growth.fail();
        self.ended.send_if_modified(|ended| ended.replace(ended.unwrap_or(Refusal::Upstream)).is_none());
    }

    /// Waits until the byte at `offset` is verified.
    pub(super) async fn reaches(&self, offset: u64, patience: Duration) -> Result<(), Refusal> {
        let until = Instant::now() + patience;
        let size = self.offer.servable.size;
        match tokio::time::timeout_at(until, self.growth.beyond(offset, size, patience)).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => {
                let mut ended = self.ended.subscribe();
                match tokio::time::timeout_at(until, ended.wait_for(Option::is_some)).await {
                    Ok(Ok(refusal)) => Err(refusal.unwrap_or(Refusal::Upstream)),
                    _ => Err(Refusal::NotYet),
                }
            }
            Err(_) => Err(Refusal::NotYet),
        }
    }

    pub(super) fn opened(
        &self,
        content: Sha256Digest,
        contents: &OpenContents,
    ) -> Result<Arc<OpenContent>, Refusal> {
        let mut kept = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = &*kept {
            return Ok(opened.clone());
        }
        let size = self.offer.servable.size;
        let opened = OpenContent::arriving(&self.growth, content, size, contents.leases());
        let opened = opened.map_err(|error| {
            warn!(content.sha256 = %content, "{content} cannot be read while it arrives: {error}");
            Refusal::Unreadable
        })?;
        let opened = opened.ok_or(Refusal::Unreadable)?;
        Ok(kept.insert(opened).clone())
    }
}

impl fmt::Debug for Pulls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pulls").field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl Pulls {
    /// Nothing arrives yet.
    pub fn new(library: Library, origin: Arc<dyn Origin>, limits: PullLimits, policy: Policy) -> Self {
        Self {
            library,
            origin,
            limits,
            policy,
            questions: Semaphore::new(MOST_QUESTIONS),
            making_room: tokio::sync::Mutex::default(),
            state: Mutex::default(),
            tasks: Mutex::default(),
            counts: Pulled::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a content is being sent, or arrives.
    pub fn is_in_use(&self, content: Sha256Digest) -> bool {
        let state = self.lock();
        state.in_use.contains_key(&content) || state.arriving.contains_key(&content)
    }

    /// Whether a content arrives for which there is room, or room is being made.
    pub fn has_room(&self, content: Sha256Digest) -> bool {
        self.lock().arriving.get(&content).is_some_and(|arrival| arrival.has_room.load(Ordering::Relaxed))
    }

    /// Bytes of the contents that arrive now and [have room](Self::has_room), when they are whole: those that were asked for, and those
    /// that others bring.
    pub fn arriving_bytes(&self) -> (u64, u64) {
        let state = self.lock();
        let arriving = state.arriving.values().filter(|arrival| arrival.has_room.load(Ordering::Relaxed));
        arriving.fold((0, 0), |(pulled, brought), arrival| match arrival.is_brought {
            false => (pulled + arrival.offer.servable.size, brought),
            true => (pulled, brought + arrival.offer.servable.size),
        })
    }

    /// Says so for as long as the answer lives.
    pub(super) fn using(self: &Arc<Self>, content: Sha256Digest) -> InUse {
        *self.lock().in_use.entry(content).or_default() += 1;
        self.origin.used(content);
        InUse { pulls: self.clone(), content }
    }

    /// Whether a content arrives.
    pub(super) fn arrives(&self, content: Sha256Digest) -> bool {
        self.lock().arriving.contains_key(&content)
    }

    /// Forgets what the origin said about contents: it may say something else now.
    pub fn forget_answers(&self) {
        let mut state = self.lock();
        state.known.clear();
        state.names.clear();
    }

    /// Nothing arrives any more. What has arrived so far stays staged, and is gone on from.
    pub fn stop(&self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }

    /// What a content is that this point lacks and may serve.
    pub(super) async fn offer(&self, content: Sha256Digest) -> Result<Arc<Offer>, Refusal> {
        let said = {
            let mut state = self.lock();
            if let Some(arrival) = state.arriving.get(&content) {
                return Ok(arrival.offer.clone());
            }
            remember(&mut state.known, content, self.limits.remembered)
        };
        self.ask(&said, async { Ok(self.origin.find(content).await?.map(Arc::new)) }).await
    }

    /// Which content has another name.
    pub(super) async fn content_named(&self, name: OtherName) -> Result<Sha256Digest, Refusal> {
        let said = remember(&mut self.lock().names, name.clone(), self.limits.remembered);
        // Begun inside: what is known already asks nobody.
        self.ask(&said, async { self.origin.named(name).await }).await
    }

    /// One question for all who want its answer.
    async fn ask<T: Clone>(
        &self,
        said: &OnceCell<Result<T, Refusal>>,
        question: impl Future<Output = Result<Option<T>, Refusal>> + Send,
    ) -> Result<T, Refusal> {
        let asked = said.get_or_init(|| async {
            let asking = async {
                let _permit = self.questions.acquire().await;
                question.await
            };
            let found = timeout(self.limits.wait, asking).await.unwrap_or(Err(Refusal::NotYet));
            found?.ok_or(Refusal::Absent)
        });
        asked.await.clone()
    }

    /// Nobody tries again so soon after a failure.
    ///
    /// # Errors
    /// What it failed for.
    pub(super) fn has_not_just_failed(&self, content: Sha256Digest) -> Result<(), Refusal> {
        let state = self.lock();
        let failed = state.known.get(&content).filter(|known| known.until > Instant::now());
        failed.and_then(|known| known.failed).map_or(Ok(()), Err)
    }

    /// Says that somebody else brings a content into the library: for as long as what this gives lives, whoever asks for the
    /// content follows that. `None` where it arrives already.
    pub fn brought(self: &Arc<Self>, content: Sha256Digest, offer: Offer) -> Option<Brought> {
        let arrival = Arrival::new(Arc::new(offer), true);
        let mut state = self.lock();
        if state.arriving.contains_key(&content) {
            return None;
        }
        state.arriving.insert(content, arrival.clone());
        Some(Brought { pulls: self.clone(), content, arrival })
    }

    /// The arrival of a content, which begins now unless it has begun.
    pub(super) fn join(
        self: &Arc<Self>,
        content: Sha256Digest,
        offer: &Arc<Offer>,
    ) -> Result<Arc<Arrival>, Refusal> {
        let mut state = self.lock();
        if let Some(arrival) = state.arriving.get(&content) {
            return Ok(arrival.clone());
        }
        if state.arriving.values().filter(|arrival| !arrival.is_brought).count() >= self.limits.most {
            return Err(Refusal::Busy);
        }
        let arrival = Arrival::new(offer.clone(), false);
        state.arriving.insert(content, arrival.clone());
        // Made here: a task that is ended before it begins ends its arrival too.
        let end = End { pulls: self.clone(), content, arrival: arrival.clone() };
        drop(state);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            let refusal = end.pulls.bring(content, &end.arrival).await.err();
            end.is(refusal);
        });
        Ok(arrival)
    }

    /// One after the other: two for whom there is room only once must not both find it.
    async fn make_room(&self, arrival: &Arrival) -> Result<(), Refusal> {
        let _alone = self.making_room.lock().await;
        arrival.has_room.store(true, Ordering::Relaxed);
        let made = self.origin.make_room(arrival.offer.servable.size).await;
        arrival.has_room.store(made.is_ok(), Ordering::Relaxed);
        made
    }

    /// Fetches a content, verifies it and puts it on the shelf.
    async fn bring(&self, content: Sha256Digest, arrival: &Arrival) -> Result<(), Refusal> {
        let counts = &self.counts;
        counts.begun.fetch_add(1, Ordering::Relaxed);
        let _running = Counted::new(&counts.running);
        let Offer { servable, sources, pieces, rate } = &*arrival.offer;
        let digests = Digests { sha256: Some(content), sha1: servable.sha1 };
        let wanted = Wanted { size: servable.size, digests };
        let job = Job { file_name: servable.name.clone(), wanted, sources: sources.clone() };
        let policy = Policy { rate: rate.clone(), ..self.policy.clone() };
        if let Err(refusal) = self.make_room(arrival).await {
            warn!(content.sha256 = %content, size_bytes = servable.size, "{} was asked for, and there is no room for it", servable.name);
            counts.failed.fetch_add(1, Ordering::Relaxed);
            return Err(refusal);
        }
        let began = Instant::now();
        let (pieces, growth) = (pieces.clone(), Some(arrival.growth.clone()));
        match fetch_by_pieces(&self.library, job, pieces, growth, &policy, |_| {}).await {
            Ok(fetched) => {
                let bytes: u64 = fetched.served.iter().map(|source| source.bytes).sum();
                counts.stored.fetch_add(1, Ordering::Relaxed);
                counts.bytes.fetch_add(bytes, Ordering::Relaxed);
                let names: Vec<_> = fetched.served.iter().map(|source| source.name.as_str()).collect();
                info!(
                    content.sha256 = %content, size_bytes = servable.size, millis = began.elapsed().as_millis() as u64,
                    "{} was asked for and is here now, from {}", servable.name, names.join(", ")
                );
                self.origin.stored(content, &arrival.offer, &fetched).await;
                Ok(())
            }
            Err(error) => {
                counts.failed.fetch_add(1, Ordering::Relaxed);
                warn!(content.sha256 = %content, "{} was asked for and could not be had: {}", servable.name, error.problem());
                Err(refusal_of(&error))
            }
        }
    }
}

/// What clients are told when a content could not be had.
fn refusal_of(error: &FetchError) -> Refusal {
    match error.code() {
        Code::DiskFull => Refusal::NoRoom,
        Code::DiskError => Refusal::Unreadable,
        // Somebody else fetches it into this library.
        Code::ContentBusy => Refusal::NotYet,
        _ => Refusal::Upstream,
    }
}

/// What is known of something; a question that was not asked yet, where nothing is.
fn remember<K: Clone + Eq + Hash, T>(
    all: &mut HashMap<K, Known<T>>,
    about: K,
    lasts: Duration,
) -> Arc<OnceCell<Result<T, Refusal>>> {
    let now = Instant::now();
    if let Some(known) = all.get(&about).filter(|known| known.until > now) {
        return known.said.clone();
    }
    if all.len() >= MOST_KNOWN {
        all.retain(|_, known| known.until > now);
        let oldest = all.iter().min_by_key(|(_, known)| known.until).map(|(about, _)| about.clone());
        if let Some(oldest) = oldest.filter(|_| all.len() >= MOST_KNOWN) {
            all.remove(&oldest);
        }
    }
    let said: Arc<OnceCell<_>> = Arc::default();
    all.insert(about, Known { said: said.clone(), failed: None, until: now + lasts });
    said
}

/// The end of an arrival, however it comes: whoever asks from now on asks anew.
struct End {
    pulls: Arc<Pulls>,
    content: Sha256Digest,
    arrival: Arc<Arrival>,
}

impl End {
    /// After a failure nobody tries again for a while.
    fn is(self, refusal: Option<Refusal>) {
        let Some(refusal) = refusal else { return };
        self.arrival.ended.send_replace(Some(refusal));
        let said = Arc::new(OnceCell::new_with(Some(Ok(self.arrival.offer.clone()))));
        let until = Instant::now() + self.pulls.limits.remembered;
        self.pulls.lock().known.insert(self.content, Known { said, failed: Some(refusal), until });
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.arrival.is_over();
        self.pulls.lock().arriving.remove(&self.content);
    }
}

/// A content that somebody else brings.
pub struct Brought {
    pulls: Arc<Pulls>,
    content: Sha256Digest,
    arrival: Arc<Arrival>,
}

impl Brought {
    /// What is to be told how far it is.
    pub fn growth(&self) -> Arc<Growth> {
        self.arrival.growth.clone()
    }
}

impl Drop for Brought {
    fn drop(&mut self) {
        self.arrival.is_over();
        let mut state = self.pulls.lock();
        state.arriving.remove(&self.content);
        // What was said of it before is not true any more.
        state.known.remove(&self.content);
    }
}

/// A content that was pulled is being sent.
pub(super) struct InUse {
    pulls: Arc<Pulls>,
    content: Sha256Digest,
}

impl fmt::Debug for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InUse").field(&self.content).finish()
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut state = self.pulls.lock();
        if let Some(count) = state.in_use.get_mut(&self.content) {
            *count -= 1;
            if *count == 0 {
                state.in_use.remove(&self.content);
            }
        }
        drop(state);
        self.pulls.origin.used(self.content);
    }
}

#[cfg(test)]
mod tests;
