//! Moving one file from any of several sources into the content library. There is one way to do it, whoever asks:
//! package downloads, distribution points that pull, clients.
//!
//! [`machine`] decides, a lane (one connection, one staged file) does, and [`fetch`] drives the two.

mod earlier;
pub mod fault;
mod folder;
mod jitter;
mod lane;
pub mod machine;
mod rate;
mod report;
#[cfg(test)]
pub(crate) mod tests;
pub mod web;

use std::fmt;
use std::future::pending;
use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use catalog::digest::{PIECE_SIZE, Pieces, Wanted};
use catalog::id::FileName;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{Instrument as _, debug, info_span, warn};
use url::Url;

use self::lane::{Lane, LocalError};
pub use self::machine::Patience;
use self::machine::{Event, Machine, Step};
pub use self::rate::RateLimit;
pub use self::report::{FetchError, Served, SourceFailure};
use self::web::{Web, WebPolicy};
use crate::delta::Reuse;
use crate::library::{Growth, Library, LibraryError, Staged, Stored};

/// How often somebody else's transfer of the same file is looked at.
const BUSY_POLL: Duration = Duration::from_millis(100);

/// What sort of place a source is. Their order is the order of preference where nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// Content that is on this machine already, and has parts of the file.
    Earlier,
    /// A folder of this machine.
    Folder,
    /// A copy of the upstream's files, named by the operator.
    Mirror,
    /// The link that the upstream published.
    Upstream,
    /// Another client.
    Peer,
    /// A distribution point of the site.
    DistributionPoint,
    /// The upstream's link, as a client's last resort.
    Cloud,
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Earlier => "earlier content",
            Self::Folder => "folder",
            Self::Mirror => "mirror",
            Self::Upstream => "catalog",
            Self::Peer => "peer",
            Self::DistributionPoint => "distribution point",
            Self::Cloud => "cloud",
        })
    }
}

/// Where a source has the file. Printed without credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// Over HTTP.
    Url(Url),
    /// In a folder of this machine.
    File(PathBuf),
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Url(url) => {
                let mut shown = url.clone();
                // Both only fail for URLs that cannot have credentials.
                let _ = shown.set_username("");
                let _ = shown.set_password(None);
                write!(f, "{shown}")
            }
        }
    }
}

/// One place that may have the file.
#[derive(Clone)]
pub struct Source {
    /// What sort of place it is.
    pub kind: SourceKind,
    /// The name that is shown.
    pub name: String,
    /// The address.
    pub at: At,
    /// How it is reached, and what it may lead us to.
    pub web: Arc<Web>,
}

/// One file to be had.
#[derive(Clone)]
pub struct Job {
    /// What it is called, for messages.
    pub file_name: FileName,
    /// What it must be.
    pub wanted: Wanted,
    /// Where it may be had, the preferred place first.
    pub sources: Vec<Source>,
}

/// How patiently, and how fast.
#[derive(Debug, Clone)]
pub struct Policy {
    /// With the sources. A far one is the cloud.
    pub patience: Patience,
    /// How long to wait for another transfer of the same file.
    pub busy_wait: Duration,
    /// A limit shared with other transfers.
    pub rate: Option<Arc<RateLimit>>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { patience: Patience::default(), busy_wait: Duration::from_secs(10), rate: None }
    }
}

impl Policy {
    /// So patient, and else as usual.
    pub fn of(patience: Patience) -> Self {
        Self { patience, ..Self::default() }
    }
}

/// What a transfer is about at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doing {
    /// Waiting for the answer of a source.
    Asking {
        /// Its name.
        source: String,
    },
    /// Bytes come.
    Receiving {
        /// From whom.
        source: String,
    },
    /// A pause.
    Waiting {
        /// Before this source is asked.
        source: String,
        /// How long.
        pause: Duration,
    },
    /// The last bytes are written, the digests compared, the file made durable.
    Verifying,
}

/// How far a transfer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are there.
    pub have: u64,
    /// Bytes of the whole.
    pub size: u64,
    /// What happens now.
    pub doing: Doing,
}

/// A file that is in the library now.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The proof.
    pub stored: Stored,
    /// No source was asked: the library had it.
    pub already_there: bool,
    /// Bytes that an earlier transfer had left, and that were used.
    pub resumed_from: u64,
    /// Who gave which bytes, and who failed; in the order of the sources.
    pub served: Vec<Served>,
}

/// Gets one file into the library, from whichever source can give it. Content that is there already, by its SHA-256,
/// is not fetched again. Dropping the future cancels; what is staged stays, and the next transfer goes on from there.
///
/// # Errors
/// [`FetchError`]: with the faults of every source that was asked, or the local reason.
pub async fn fetch(
    library: &Library,
    job: Job,
    policy: &Policy,
    progress: impl Fn(Progress) + Send + Sync,
) -> Result<Fetched, FetchError> {
    fetch_with(library, job, Known::default(), policy, progress).await
}

/// What is known beside the sources.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The hashes of the file's pieces: a source that lies costs one piece.
    pub pieces: Option<Pieces>,
    /// Who reads the file while it arrives.
    pub growth: Option<Arc<Growth>>,
    /// What of it is here in other content. Of use only where `pieces` are known.
    pub reuse: Option<Arc<Reuse>>,
    /// Sources that could not be reached by other transfers, and since how long ago.
    pub away: Vec<(usize, Duration)>,
    /// Turns true where others should be asked than these sources: then the transfer ends after the piece that is coming, with
    /// [`FetchError::Left`].
    pub leave: Option<watch::Receiver<bool>>,
}

/// The same, where the hashes of the file's pieces are known: a source that lies costs one piece, and whoever holds
/// `growth` may read each piece as soon as it is verified. Without them it is told of the whole only. It is told of the end
/// in any case, also where the future is dropped.
///
/// # Errors
/// [`FetchError`]: with the faults of every source that was asked, or the local reason.
pub async fn fetch_by_pieces(
    library: &Library,
    job: Job,
    pieces: Option<Pieces>,
    growth: Option<Arc<Growth>>,
    policy: &Policy,
    progress: impl Fn(Progress) + Send + Sync,
) -> Result<Fetched, FetchError> {
    fetch_with(library, job, Known { pieces, growth, ..Known::default() }, policy, progress).await
}

/// The same, with everything that is known.
///
/// # Errors
/// [`FetchError`]: with the faults of every source that was asked, or the local reason.
pub async fn fetch_with(
    library: &Library,
    mut job: Job,
    known: Known,
    policy: &Policy,
    progress: impl Fn(Progress) + Send + Sync,
) -> Result<Fetched, FetchError> {
    let Known { pieces, growth, reuse, away, leave } = known;
    let _end = EndOf(growth.clone());
    let pieces = pieces.filter(|pieces| pieces.size() == job.wanted.size);
    let reuse = reuse.filter(|reuse| pieces.is_some() && reuse.size() == job.wanted.size);
    let reuse = reuse.and_then(|reuse| Some((add_earlier(&mut job, &reuse)?, reuse)));
    let span = info_span!("content.transfer", file = %job.file_name, size_bytes = job.wanted.size);
    let local = |error| FetchError::local(job.file_name.clone(), error);
    async {
        let staged = match stage(library, job.wanted, policy.busy_wait).await.map_err(local)? {
            Place::Taken(stored) => {
                if let (Some(growth), Ok(Some(there))) = (&growth, library.open_content(stored.digest())) {
                    growth.whole(there.file);
                }
                return Ok(Fetched { stored, already_there: true, resumed_from: 0, served: Vec::new() });
            }
            Place::Free(staged) => staged,
        };
        let staged = check_pieces(staged, pieces.clone(), growth.clone()).await.map_err(local)?;
        if job.sources.is_empty() && staged.have() < job.wanted.size {
            return Err(FetchError::NoSource { file: job.file_name.clone() });
        }
        let beside = Beside { by_pieces: pieces.is_some(), reuse, away, leave };
        drive(&job, policy, staged, beside, &progress).await
    }
    .instrument(span)
    .await
}

/// This machine becomes the last source; its number.
fn add_earlier(job: &mut Job, reuse: &Reuse) -> Option<usize> {
    let path = reuse.name();
    let name = path.file_name().map_or_else(|| "?".to_owned(), |name| name.to_string_lossy().into_owned());
    // Nothing is fetched through it.
    let web = match job.sources.first() {
        Some(source) => source.web.clone(),
        None => Arc::new(Web::new(WebPolicy::default()).ok()?),
    };
    job.sources.push(Source { kind: SourceKind::Earlier, name, at: At::File(path), web });
    Some(job.sources.len() - 1)
}

/// Followers learn of the end, however it comes.
struct EndOf(Option<Arc<Growth>>);

impl Drop for EndOf {
    fn drop(&mut self) {
        if let Some(growth) = &self.0 {
            growth.fail();
        }
    }
}

async fn check_pieces(
    mut staged: Box<Staged>,
    pieces: Option<Pieces>,
    growth: Option<Arc<Growth>>,
) -> Result<Box<Staged>, LocalError> {
    let checked = tokio::task::spawn_blocking(move || {
        match pieces {
            Some(pieces) => staged.check_pieces(pieces, growth)?,
            None => staged.tell(growth),
        }
        Ok(staged)
    });
    checked.await.map_err(LocalError::Stopped)?.map_err(LocalError::Library)
}

enum Place {
    Taken(Stored),
    Free(Box<Staged>),
}

/// A place for the bytes. Another transfer of the same content may be at work; its end may be all we need.
async fn stage(library: &Library, wanted: Wanted, patience: Duration) -> Result<Place, LocalError> {
    let until = Instant::now() + patience;
    loop {
        let library = library.clone();
        let place = tokio::task::spawn_blocking(move || match library.find(&wanted) {
            Some(stored) => Ok(Place::Taken(stored)),
            None => library.stage(&wanted).map(|staged| Place::Free(Box::new(staged))),
        });
        match place.await.map_err(LocalError::Stopped)? {
            Err(LibraryError::Busy { .. }) if Instant::now() < until => sleep(BUSY_POLL).await,
            place => return place.map_err(LocalError::Library),
        }
    }
}

/// What the driver knows beside the sources.
struct Beside {
    by_pieces: bool,
    reuse: Option<(usize, Arc<Reuse>)>,
    away: Vec<(usize, Duration)>,
    leave: Option<watch::Receiver<bool>>,
}

async fn drive(
    job: &Job,
    policy: &Policy,
    staged: Box<Staged>,
    beside: Beside,
    progress: &(impl Fn(Progress) + Send + Sync),
) -> Result<Fetched, FetchError> {
    let local = |error| FetchError::local(job.file_name.clone(), error);
    let named = |source: usize| job.sources[source].name.clone();
    let began = Instant::now();
    let seed = RandomState::new().hash_one(began);
    let mut resumed_from = staged.have();
    let tag = staged.note().and_then(|note| {
        let source = job.sources.iter().position(|source| source.at.to_string() == note.source)?;
        Some((source, note.etag?))
    });
    let mut machine = Machine::new(job.wanted, job.sources.len(), policy.patience, seed);
    let Beside { by_pieces, reuse, away, leave } = beside;
    if by_pieces {
        machine.by_pieces();
    }
    away.into_iter().for_each(|(number, since)| machine.was_away(number, since));
    let leaves = || leave.as_ref().is_some_and(|leave| *leave.borrow());
    for (number, source) in job.sources.iter().enumerate() {
        match source.kind {
            // Whoever is another client may be gone at any time, and there are others: it costs one attempt.
            SourceKind::Peer => machine.limit_attempts(number, 1),
            SourceKind::Cloud => machine.is_far(number),
            _ => {}
        }
    }
    if let Some((number, reuse)) = &reuse {
        machine.reuse(*number, reuse.spans());
    }
    let mut lane = Lane::new(&job.sources, policy.rate.as_deref(), staged, reuse);
    let mut event = Event::Started { have: resumed_from, tag };
    loop {
        let step = machine.on(began.elapsed(), event);
        if let Some((source, fault)) = machine.take_latest_fault() {
            let Source { kind, name, .. } = &job.sources[source];
            warn!(have_bytes = machine.have(), "{kind} {name} failed for {}: {fault}", job.file_name);
        }
        let tell = |doing| progress(Progress { have: machine.have(), size: job.wanted.size, doing });
        event = match step {
            Step::Ask { source, from, until, if_range } => {
                debug!(from, "asking {} for {}", job.sources[source].name, job.file_name);
                tell(Doing::Asking { source: named(source) });
                lane.ask(source, from, until, if_range).await
            }
            Step::Rewind => {
                resumed_from = 0;
                lane.rewind().await.map_err(local)?
            }
            Step::Read => lane.read().await,
            Step::Write(bytes) => {
                tell(Doing::Receiving { source: named(machine.current()) });
                let written = lane.write(bytes).await.map_err(local)?;
                let (have, size) = (machine.have(), job.wanted.size);
                let between_pieces = matches!(written, Event::Written) && have % PIECE_SIZE as u64 == 0;
                if between_pieces && have < size && leaves() {
                    match lane.settle().await.map_err(local)? {
                        Some(wrong) => wrong,
                        None => return Err(report::left(job, machine, began.elapsed())),
                    }
                } else {
                    written
                }
            }
            Step::Check => {
                tell(Doing::Verifying);
                lane.check(&job.wanted).await.map_err(local)?
            }
            Step::Commit(verified) => {
                let stored = lane.commit(verified).await.map_err(local)?;
                let served = report::served(&job.sources, machine, began.elapsed());
                return Ok(Fetched { stored, already_there: false, resumed_from, served });
            }
            Step::Wait { source, pause } => {
                tell(Doing::Waiting { source: named(source), pause });
                if timeout(pause, until_left(leave.clone())).await.is_ok() {
                    lane.settle().await.map_err(local)?;
                    return Err(report::left(job, machine, began.elapsed()));
                }
                Event::Waited
            }
            Step::GiveUp => {
                lane.settle().await.map_err(local)?;
                return Err(report::all_failed(job, machine, began.elapsed()));
            }
        };
    }
}

/// Ends when others are to be asked.
async fn until_left(leave: Option<watch::Receiver<bool>>) {
    if let Some(mut leave) = leave
        && leave.wait_for(|leave| *leave).await.is_ok()
    {
        return;
    }
    pending().await
}
