//! The reference client: asks its site where a content is, and fetches it from there into a library of its own.
//!
//! The site's address is configured, so it is trusted to name distribution points, wherever they are. It is not trusted
//! about bytes: only the digest that was asked for makes them good. Links to the cloud are held to public addresses, as
//! those of any other source.
//!
//! What is private is asked of places of the site alone, with the key of this device, which goes nowhere else and never
//! where others could read it; and what came as private is never shared.

mod account;
mod allowed;
mod answers;
mod asking;
mod away;
mod bases;
mod cache;
mod error;
mod fallback;
mod kept;
mod key;
mod pins;
mod reach;
mod review;
mod share;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use catalog::digest::{Digests, Sha256Digest, Wanted};
use catalog::id::FileName;
use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::{info, warn};
use url::Url;

pub use self::account::{Taken, TakenFrom, TakenReport, report};
pub use self::allowed::Allowed;
use self::asking::Told;
pub use self::bases::{Delta, MOST_NAMED};
pub use self::cache::{Cache, CacheLimits, CachedContent, Removed, Why};
pub use self::error::ClientError;
use self::fallback::{Clock, Started};
pub use self::kept::{Kept, discard, kept};
pub use self::key::{DeviceKey, content_key, is_unread};
pub use self::pins::{hold, release};
use self::reach::Reach;
pub use self::share::{SharePace, ShareSettings, share};
use crate::library::{Damage, LibraryError};
use crate::server::LocationsAnswer;
use crate::transfer::{
    self, At, Doing, FetchError, Job, Known, Patience, Policy, Progress, Served, SourceKind,
};

/// Endless answers: the most bytes a site's answer may have.
const LARGEST_ANSWER: u64 = 1 << 20;

/// What a client knows before it asks.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// The address of the site, with a path if it has one.
    pub site: Url,
    /// Where the client keeps its content.
    pub dir: PathBuf,
    /// Further roots of trust, a PEM file.
    pub ca_file: Option<PathBuf>,
    /// Networks that are not public and in which the cloud may be all the same.
    pub allow_networks: Vec<IpNet>,
    /// Bytes that stay free on the disk.
    pub min_free: u64,
    /// The address of this machine from which it asks; any if not given.
    pub address: Option<IpAddr>,
    /// Wait for places that may be asked later, where nothing else worked.
    pub wait: bool,
    /// The key with which this device enrolled; without one there is no private content.
    pub key: Option<DeviceKey>,
    /// Show the key over plain HTTP to other machines too, where everybody on the way can read it.
    pub plain_key: bool,
    /// How much is kept.
    pub limits: CacheLimits,
    /// So long nearer places that are busy or cannot be reached are waited for, before the cloud is asked.
    pub before_cloud: Duration,
}

impl ClientSettings {
    /// A client of the site at this address that keeps its content in `dir`: it has no key, asks from any address and trusts
    /// what the system does, and neither its cache nor its disk has a limit.
    pub fn new(site: Url, dir: PathBuf) -> Self {
        Self {
            site,
            dir,
            ca_file: None,
            allow_networks: Vec::new(),
            min_free: 0,
            address: None,
            wait: false,
            key: None,
            plain_key: false,
            limits: CacheLimits::default(),
            before_cloud: Patience::default().before_far,
        }
    }
}

/// How one content is fetched.
#[derive(Debug, Clone, Default)]
pub struct FetchOptions {
    /// The folder in which it is placed under its name; the client's own if not given.
    pub target: Option<PathBuf>,
    /// What of it may be taken from content that is here.
    pub delta: Delta,
    /// Who needs it: it stays in the cache until [`Cache::unpin`]. A word of at most 64 letters, digits and hyphens.
    pub pin: Option<String>,
    /// Who may be asked.
    pub allowed: Allowed,
    /// Names of places that are asked after all others: what they gave before turned out to be wrong.
    pub last: Vec<String>,
    /// What is known of it without the site: where that is silent and never spoke of it, points that it named for other contents
    /// are asked.
    pub expected: Option<Expected>,
    /// How long ago it was asked for first, by whoever remembers: those who may be asked later are due so much sooner.
    pub asked: Duration,
}

/// What a client was told of a content that it has to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Its name.
    pub file_name: FileName,
    /// Bytes.
    pub size: u64,
    /// It is for those with a key, and is not shared.
    pub private: bool,
}

/// A content that the client has now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientFetched {
    /// Its digest, verified.
    pub content: Sha256Digest,
    /// Its name.
    pub file_name: FileName,
    /// Bytes.
    pub size: u64,
    /// Where it can be used, under its name.
    pub path: PathBuf,
    /// Nothing had to be fetched.
    pub already_there: bool,
    /// Bytes that an earlier, interrupted fetch had left.
    pub resumed_from: u64,
    /// Who gave which bytes.
    pub served: Vec<Served>,
    /// It is for those with a key, and is not shared.
    #[serde(default)]
    pub private: bool,
    /// The same bytes by the sort of place that they came from.
    #[serde(default)]
    pub bytes: BytesFrom,
}

/// Bytes of one content by the sort of place that they came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BytesFrom {
    /// Saved: they were in content that this machine had.
    pub earlier: u64,
    /// From other clients.
    pub peers: u64,
    /// From distribution points.
    pub points: u64,
    /// From the cloud.
    pub cloud: u64,
}

impl BytesFrom {
    fn of(served: &[Served]) -> Self {
        let mut bytes = Self::default();
        for one in served {
            *match one.kind {
                SourceKind::Earlier | SourceKind::Folder => &mut bytes.earlier,
                SourceKind::Peer => &mut bytes.peers,
                SourceKind::DistributionPoint => &mut bytes.points,
                SourceKind::Cloud | SourceKind::Upstream | SourceKind::Mirror => &mut bytes.cloud,
            } += one.bytes;
        }
        bytes
    }
}

/// Fetches `content` into the client's library, from the places that the site names and in their order, and makes it
/// available under its name: in `target` if that is given, else below the client's own folder.
///
/// # Errors
/// [`ClientError`]. What was received is kept, and used next time.
pub async fn fetch_content(
    settings: &ClientSettings,
    content: Sha256Digest,
    target: Option<&Path>,
    progress: impl Fn(Progress) + Send + Sync,
) -> Result<ClientFetched, ClientError> {
    let options = FetchOptions { target: target.map(Path::to_owned), ..FetchOptions::default() };
    fetch_content_with(settings, content, &options, progress).await
}

/// The same, with a choice of how.
///
/// # Errors
/// [`ClientError`]. What was received is kept, and used next time.
pub async fn fetch_content_with(
    settings: &ClientSettings,
    content: Sha256Digest,
    options: &FetchOptions,
    progress: impl Fn(Progress) + Send + Sync,
) -> Result<ClientFetched, ClientError> {
    fetch_content_by(settings, &Policy::default(), content, options, progress).await
}

/// The same, as patiently as `policy` says.
///
/// # Errors
/// [`ClientError`]. What was received is kept, and used next time.
pub async fn fetch_content_by(
    settings: &ClientSettings,
    policy: &Policy,
    content: Sha256Digest,
    options: &FetchOptions,
    progress: impl Fn(Progress) + Send + Sync,
) -> Result<ClientFetched, ClientError> {
    fetch_by(settings, policy, &Started(Instant::now()), content, options, progress).await
}

async fn fetch_by(
    settings: &ClientSettings,
    policy: &Policy,
    clock: &impl Clock,
    content: Sha256Digest,
    options: &FetchOptions,
    progress: impl Fn(Progress) + Send + Sync,
) -> Result<ClientFetched, ClientError> {
    let (dir, min_free) = (settings.dir.clone(), settings.min_free);
    let cache = blocking(move || Cache::open(&dir, min_free)).await?;
    if let Some(holder) = options.pin.clone() {
        let cache = cache.clone();
        blocking(move || cache.pin(content, &holder)).await?;
    }
    let site = Reach::new(settings);
    let patience = Patience { before_far: settings.before_cloud, ..policy.patience };
    let policy = Policy { patience, ..policy.clone() };
    let mut before: Vec<Served> = Vec::new();
    let mut resumed_from = None;
    let mut known: Option<Known> = None;
    let mut anew: Option<LocationsAnswer> = None;
    let (answer, mut fetched) = loop {
        let told = match anew.take() {
            Some(answer) => Told::Now(answer),
            None => asking::ask_or_recall(&site, clock, &cache, content, options).await?,
        };
        let (answer, site_answers, silence) = match told {
            Told::Now(answer) => (answer, true, None),
            Told::Before(answer) => (answer, false, None),
            Told::Guessed(answer, silence) => (answer, false, Some(silence)),
        };
        let answer = options.allowed.of(answer);
        remember(&cache, settings.limits, &answer).await?;
        let elapsed = clock.elapsed().saturating_add(options.asked);
        let digests = Digests { sha256: Some(content), sha1: None };
        let wanted = Wanted { size: answer.size, digests };
        let due = fallback::behind(fallback::due(&answer, elapsed), &options.last);
        let away = away::of(&settings.dir);
        let sources = away.last(site.sources(&due, answer.private)?, Instant::now());
        let away = away.since(&sources, Instant::now());
        let job = Job { file_name: answer.file_name.clone(), wanted, sources };
        let known = match &known {
            Some(known) => known.clone(),
            // A site that does not answer is believed about pieces as about places.
            None if !site_answers => Known {
                pieces: asking::recalled_pieces(&site, &cache, content, answer.size).await?,
                ..Known::default()
            },
            None => known.insert(what_is_known(&site, &cache, &answer, &options.delta).await).clone(),
        };
        let (leave, left) = watch::channel(false);
        let known = Known { away, leave: Some(left), ..known };
        let asked = Mutex::new(review::Asked::default());
        // A transfer may take longer than a card is kept of what does not come.
        let (name, private) = (answer.file_name.clone(), answer.private);
        let told = |now: Progress| {
            if now.doing == Doing::Verifying
                && let Err(error) = cache.note(content, &name, private, Timestamp::now())
            {
                warn!("what is private and what is used cannot be noted: {error}");
            }
            review::note(&asked, &now.doing);
            progress(now);
        };
        let transfer = transfer::fetch_with(&cache.library, job, known, &policy, told);
        let mut transfer = std::pin::pin!(transfer);
        let ended = tokio::select! {
            ended = &mut transfer => ended,
            better = review::until_others_are_better(&site, clock, &cache, options, (&answer, &due), &asked) => {
                anew = Some(better);
                leave.send_replace(true);
                transfer.await
            }
        };
        let error = match ended {
            Ok(fetched) => {
                remember_reached(
                    &settings.dir,
                    fetched.served.iter().map(|one| (one.at.as_ref(), one.bytes, one.unreachable)),
                );
                break (answer, fetched);
            }
            Err(error) => error,
        };
        let mut have = 0;
        if let FetchError::AllFailed { kept, sources, .. } | FetchError::Left { kept, sources, .. } = &error {
            have = *kept;
            let reached = sources.iter().map(|one| (Some(&one.at), one.bytes, one.unreachable));
            remember_reached(&settings.dir, reached);
            site.report(content, sources.iter().map(|one| (one.kind, &one.at, one.proven()))).await;
            let gave: u64 = sources.iter().map(|one| one.bytes).sum();
            resumed_from.get_or_insert(kept.saturating_sub(gave));
            before.extend(sources.iter().filter(|one| one.bytes > 0).map(|one| Served {
                kind: one.kind,
                name: one.name.clone(),
                bytes: one.bytes,
                outcome:
                    one.faults.last().map_or_else(|| "verified".to_owned(), |f| format!("verified; {f}")),
                at: None,
                fault: None,
                unreachable: None,
            }));
        }
        if anew.is_some() && fallback::may_be_mended(&error) {
            info!("the site names better places for {content}; {have} bytes are here");
            continue;
        }
        if let Some(silence) = silence.filter(|_| fallback::may_be_mended(&error)) {
            return Err(silence); // those who were asked on a guess say nothing about the content
        }
        let next =
            fallback::pause(&answer, elapsed).filter(|_| settings.wait && fallback::may_be_mended(&error));
        let Some((pause, later)) = next else { return Err(ClientError::Fetch(error)) };
        warn!("{error}; waiting {}s, {} may be asked later ({})", pause.as_secs(), later.name, later.reason);
        let doing = Doing::Waiting { source: later.name.clone(), pause };
        progress(Progress { have, size: answer.size, doing });
        clock.sleep(pause).await;
    };
    let peers = fetched.served.iter().filter_map(|one| Some((one.kind, one.at.clone()?, one.fault?)));
    let peers: Vec<_> = peers.collect();
    // What an earlier attempt had received is part of the file, unless somebody had to begin anew.
    if fetched.resumed_from > 0 && !before.is_empty() {
        before.append(&mut fetched.served);
        fetched.served = before;
        fetched.resumed_from = resumed_from.unwrap_or_default();
    }
    let folder = options.target.clone().unwrap_or_else(|| cache.files());
    let path = folder.join(answer.file_name.as_str());
    let (placed, library) = (path.clone(), cache.library.clone());
    blocking(move || {
        let failed = |source| LibraryError::Io { act: "create", path: folder.clone(), source };
        std::fs::create_dir_all(&folder).map_err(failed)?;
        library.place(content, &placed)
    })
    .await?;
    // What is here waits for nobody.
    site.report_codes(content, peers.iter().map(|(kind, at, code)| (*kind, at, *code))).await;
    Ok(ClientFetched {
        content,
        file_name: answer.file_name,
        size: answer.size,
        path,
        already_there: fetched.already_there,
        resumed_from: fetched.resumed_from,
        bytes: BytesFrom::of(&fetched.served),
        served: fetched.served,
        private: answer.private,
    })
}

/// Takes down who could be reached, and who could not, for the next fetches.
fn remember_reached<'s>(dir: &Path, sources: impl Iterator<Item = (Option<&'s At>, u64, Option<Duration>)>) {
    let (away, now) = (away::of(dir), Instant::now());
    for (at, bytes, unreachable) in sources {
        if let Some(At::Url(place)) = at
            && (unreachable.is_some() || bytes > 0)
        {
            away.saw(place, unreachable, now);
        }
    }
}

/// Writes down what is coming, before any of it is here, and makes room for it.
async fn remember(cache: &Cache, limits: CacheLimits, answer: &LocationsAnswer) -> Result<(), ClientError> {
    let (cache, content, size) = (cache.clone(), answer.content, answer.size);
    let (name, private) = (answer.file_name.clone(), answer.private);
    blocking(move || {
        let now = Timestamp::now();
        cache.note(content, &name, private, now)?;
        if limits != CacheLimits::default() {
            // What has to be read again need not come again, as a rule.
            let here = match cache.library.open_content(content) {
                Ok(here) => here.is_some(),
                Err(error) => matches!(error, LibraryError::Corrupt { what: Damage::Touched, .. }),
            };
            // What has arrived of it is counted with the other parts.
            let wanted = Wanted { size, digests: Digests { sha256: Some(content), sha1: None } };
            let coming = if here { 0 } else { size - cache.library.arrived(&wanted) };
            for gone in cache.clean(limits, coming, false, now, false)? {
                tracing::info!("removed {} from the cache ({:?})", gone.content.content, gone.why);
            }
        }
        Ok(())
    })
    .await
}

/// What helps beside the sources: the hashes of pieces, and what of the content is here already.
async fn what_is_known(site: &Reach<'_>, cache: &Cache, answer: &LocationsAnswer, delta: &Delta) -> Known {
    let pieces = asking::pieces(site, cache, answer.content, answer.size).await;
    // Without the hashes of pieces there is nobody to say what of it is right.
    let reuse = match &pieces {
        Some(_) => bases::reuse(site, cache, answer, delta).await,
        None => None,
    };
    Known { pieces, reuse, ..Known::default() }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LibraryError> + Send + 'static,
) -> Result<T, ClientError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(ClientError::Stopped)?;
    done.map_err(ClientError::Library)
}

/// Where the site says that `content` is, for this device.
///
/// # Errors
/// [`ClientError`].
pub async fn locate(
    settings: &ClientSettings,
    content: Sha256Digest,
) -> Result<LocationsAnswer, ClientError> {
    asking::ask(&Reach::new(settings), &Started(Instant::now()), content).await
}
