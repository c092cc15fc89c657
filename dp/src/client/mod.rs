//! The reference client: asks its site where a content is, and fetches it from there into a library of its own.
//!
//! The site's address is configured, so it is trusted to name distribution points, wherever they are. It is not trusted
//! about bytes: only the digest that was asked for makes them good. Links to the cloud are held to public addresses, as
//! those of any other source.

mod account;
mod fallback;
mod share;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use catalog::digest::{Digests, PIECE_SIZE, Pieces, Sha256Digest, Wanted};
use catalog::id::FileName;
use catalog::problem::{Code, Coded, Problem};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use tracing::{debug, warn};
use url::Url;

pub use self::account::{Taken, TakenReport, report};
use self::fallback::{Clock, Started};
pub use self::share::{ShareSettings, share};
use crate::library::{Library, LibraryError, Settings};
use crate::peers::ReportRequest;
use crate::server::metalink::read_hash_file;
use crate::server::{Location, LocationKind, LocationsAnswer};
use crate::transfer::fault::Fault;
use crate::transfer::web::{Bearer, Proxy, Small, Web, WebError, WebPolicy, as_folder};
use crate::transfer::{self, At, Doing, FetchError, Job, Policy, Progress, Served, Source, SourceKind};

/// Endless answers: the most bytes a site's answer may have.
const LARGEST_ANSWER: u64 = 1 << 20;
/// The same of a file with the hashes of pieces: enough for contents of 80 GiB.
const LARGEST_HASH_FILE: u64 = 4 << 20;
/// Location flood: more are not asked.
const MOST_LOCATIONS: usize = 64;
/// A report is a courtesy: nobody waits long for it.
const REPORT_DEADLINE: Duration = Duration::from_secs(5);
/// Pauses after which the site is asked again.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

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
}

/// Why a client could not get a content.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The site did not say where it is.
    #[error("the site {site} could not be asked")]
    Site {
        /// Its address.
        site: String,
        /// Why.
        source: Fault,
    },
    /// The site does not offer it.
    #[error("the site {site} offers no content {content}")]
    NotOffered {
        /// Its address.
        site: String,
        /// What was asked for.
        content: Sha256Digest,
    },
    /// The site said something else.
    #[error("the answer of {site} cannot be understood: {what}")]
    Answer {
        /// Its address.
        site: String,
        /// What is wrong with it.
        what: String,
    },
    /// A connection could not be prepared.
    #[error("the client's connections cannot be set up")]
    Web(#[source] WebError),
    /// The client's own library.
    #[error("the client's content library cannot be used")]
    Library(#[source] LibraryError),
    /// Others cannot be served.
    #[error("`{address}` cannot be listened on")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Nobody could give it.
    #[error(transparent)]
    Fetch(FetchError),
    /// The process is shutting down, or something in it broke.
    #[error("the client was stopped")]
    Stopped(#[source] tokio::task::JoinError),
}

impl Coded for ClientError {
    fn code(&self) -> Code {
        match self {
            Self::Site { source, .. } => source.code(),
            Self::NotOffered { .. } => Code::ContentNotFound,
            Self::Answer { .. } => Code::SiteAnswerInvalid,
            Self::Web(error) => error.code(),
            Self::Library(error) => error.code(),
            Self::Listen { .. } => Code::ListenFailed,
            Self::Fetch(error) => error.code(),
            Self::Stopped(error) if error.is_cancelled() => Code::Interrupted,
            Self::Stopped(_) => Code::Internal,
        }
    }

    fn problem(&self) -> Problem {
        match self {
            Self::Fetch(error) => error.problem(),
            other => Problem::of(other.code(), other),
        }
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
    fetch_content_by(settings, &Policy::default(), content, target, progress).await
}

/// The same, as patiently as `policy` says.
///
/// # Errors
/// [`ClientError`]. What was received is kept, and used next time.
pub async fn fetch_content_by(
    settings: &ClientSettings,
    policy: &Policy,
    content: Sha256Digest,
    target: Option<&Path>,
    progress: impl Fn(Progress) + Send + Sync,
) -> Result<ClientFetched, ClientError> {
    fetch_by(settings, policy, &Started(Instant::now()), content, target, progress).await
}

async fn fetch_by(
    settings: &ClientSettings,
    policy: &Policy,
    clock: &impl Clock,
    content: Sha256Digest,
    target: Option<&Path>,
    progress: impl Fn(Progress) + Send + Sync,
) -> Result<ClientFetched, ClientError> {
    let (dir, min_free) = (settings.dir.clone(), settings.min_free);
    let library = blocking(move || Library::open(&dir, Settings { min_free })).await?;
    let site = Reach::new(settings);
    let mut before: Vec<Served> = Vec::new();
    let mut resumed_from = None;
    let mut known: Option<Option<Pieces>> = None;
    let (answer, mut fetched) = loop {
        let answer = ask(&site, content).await?;
        let elapsed = clock.elapsed();
        let digests = Digests { sha256: Some(content), sha1: None };
        let wanted = Wanted { size: answer.size, digests };
        let sources = site.sources(&fallback::due(&answer, elapsed))?;
        let job = Job { file_name: answer.file_name.clone(), wanted, sources };
        if known.is_none() {
            known = Some(pieces(&site, content, answer.size).await);
        }
        let fetching =
            transfer::fetch_by_pieces(&library, job, known.clone().flatten(), None, policy, &progress);
        let error = match fetching.await {
            Ok(fetched) => break (answer, fetched),
            Err(error) => error,
        };
        let mut have = 0;
        if let FetchError::AllFailed { kept, sources, .. } = &error {
            have = *kept;
            site.report(content, sources.iter().map(|one| (one.kind, &one.at, one.faults.last()))).await;
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
            }));
        }
        let next =
            fallback::pause(&answer, elapsed).filter(|_| settings.wait && fallback::may_be_mended(&error));
        let Some((pause, later)) = next else { return Err(ClientError::Fetch(error)) };
        warn!("{error}; waiting {}s, {} may be asked later ({})", pause.as_secs(), later.name, later.reason);
        let doing = Doing::Waiting { source: later.name.clone(), pause };
        progress(Progress { have, size: answer.size, doing });
        clock.sleep(pause).await;
    };
    let peers = fetched.served.iter().filter_map(|one| Some((one.kind, one.at.as_ref()?, one.fault?)));
    site.report_codes(content, peers).await;
    // What an earlier attempt had received is part of the file, unless somebody had to begin anew.
    if fetched.resumed_from > 0 && !before.is_empty() {
        before.append(&mut fetched.served);
        fetched.served = before;
        fetched.resumed_from = resumed_from.unwrap_or_default();
    }
    let folder = target.map_or_else(|| settings.dir.join("files"), Path::to_owned);
    let path = folder.join(answer.file_name.as_str());
    let placed = path.clone();
    blocking(move || {
        let failed = |source| LibraryError::Io { act: "create", path: folder.clone(), source };
        std::fs::create_dir_all(&folder).map_err(failed)?;
        library.place(content, &placed)
    })
    .await?;
    Ok(ClientFetched {
        content,
        file_name: answer.file_name,
        size: answer.size,
        path,
        already_there: fetched.already_there,
        resumed_from: fetched.resumed_from,
        served: fetched.served,
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LibraryError> + Send + 'static,
) -> Result<T, ClientError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(ClientError::Stopped)?;
    done.map_err(ClientError::Library)
}

/// Asks the site where `content` is; a few times, where that may help.
async fn ask(site: &Reach<'_>, content: Sha256Digest) -> Result<LocationsAnswer, ClientError> {
    let named = || site.shown();
    let invalid = |what: String| ClientError::Answer { site: named(), what };
    let url = site.join(&format!("locations/{content}")).map_err(invalid)?;
    let web = site.web(Some(&site.base), false)?;
    let mut pauses = PAUSES.iter();
    let bytes = loop {
        match web.get_small(&url, LARGEST_ANSWER, None).await {
            Ok(Small::Body { bytes, .. }) => break bytes,
            Ok(Small::NotModified) => return Err(invalid("304 to an unconditional question".to_owned())),
            Err(Fault::NotFound(_)) => return Err(ClientError::NotOffered { site: named(), content }),
            Err(source) => match pauses.next().filter(|_| source.is_transient()) {
                Some(pause) => {
                    warn!("the site {} did not answer ({source}); asking again", named());
                    sleep(*pause).await;
                }
                None => return Err(ClientError::Site { site: named(), source }),
            },
        }
    };
    let answer: LocationsAnswer =
        serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
    if answer.content != content {
        return Err(invalid(format!("expected content {content}, it is about {}", answer.content)));
    }
    Ok(answer)
}

/// What the site says that the pieces are: with that a source that lies costs one piece instead of the file. Where the site
/// does not hold the content it does not know, and the digest of the whole decides alone.
async fn pieces(site: &Reach<'_>, content: Sha256Digest, size: u64) -> Option<Pieces> {
    if size <= PIECE_SIZE as u64 {
        return None; // its one piece is the whole
    }
    let url = site.join(&format!("content/{content}/pieceshash")).ok()?;
    match site.web(Some(&site.base), false).ok()?.get_small(&url, LARGEST_HASH_FILE, None).await {
        Ok(Small::Body { bytes, .. }) => read_hash_file(&bytes, size),
        _ => None,
    }
}

/// The address in the URL of a peer.
fn socket_address(url: &Url) -> Option<SocketAddr> {
    let address = match url.host()? {
        url::Host::Ipv4(address) => IpAddr::from(address),
        url::Host::Ipv6(address) => IpAddr::from(address),
        url::Host::Domain(_) => return None,
    };
    Some(SocketAddr::new(address, url.port_or_known_default()?))
}

/// What the client may reach, and how.
struct Reach<'a> {
    settings: &'a ClientSettings,
    /// The site's address, as a folder to which paths can be joined.
    base: Url,
}

impl<'a> Reach<'a> {
    fn new(settings: &'a ClientSettings) -> Self {
        Self { settings, base: as_folder(settings.site.clone()) }
    }

    /// The site's address for messages, without credentials.
    fn shown(&self) -> String {
        At::Url(self.base.clone()).to_string()
    }

    fn join(&self, relative: &str) -> Result<Url, String> {
        self.base.join(relative).map_err(|error| format!("`{relative}` is no address: {error}"))
    }

    /// A client that may reach the site's host and that of `other`, wherever they are, and besides them what is public
    /// or was named in the settings. `through_proxy` as the environment says.
    fn web(&self, other: Option<&Url>, through_proxy: bool) -> Result<Arc<Web>, ClientError> {
        Web::new(self.policy(other, through_proxy)).map(Arc::new).map_err(ClientError::Web)
    }

    /// The same to the site alone, with this device's key.
    fn web_as(&self, key: Bearer) -> Result<Web, ClientError> {
        Web::new(WebPolicy { bearer: Some(key), ..self.policy(None, false) }).map_err(ClientError::Web)
    }

    fn policy(&self, other: Option<&Url>, through_proxy: bool) -> WebPolicy {
        let hosts = [Some(&self.base), other];
        let trusted_hosts: HashSet<_> =
            hosts.into_iter().flatten().filter_map(|url| url.host_str().map(str::to_owned)).collect();
        WebPolicy {
            allow_networks: self.settings.allow_networks.clone(),
            trusted_hosts,
            extra_ca_file: self.settings.ca_file.clone(),
            proxy: if through_proxy { Proxy::System } else { Proxy::None },
            local_address: self.settings.address,
            ..WebPolicy::default()
        }
    }

    /// As for points, but in less time: a machine in the same building answers at once or is gone.
    fn peer_web(&self, peer: &Url) -> Result<Arc<Web>, ClientError> {
        let policy = WebPolicy {
            trusted_hosts: peer.host_str().map(str::to_owned).into_iter().collect(),
            redirect_hosts: Some(Vec::new()),
            local_address: self.settings.address,
            connect_timeout: Duration::from_secs(3),
            stall_timeout: Duration::from_secs(10),
            ..WebPolicy::default()
        };
        Web::new(policy).map(Arc::new).map_err(ClientError::Web)
    }

    fn sources(&self, locations: &[Location]) -> Result<Vec<Source>, ClientError> {
        locations.iter().take(MOST_LOCATIONS).map(|location| self.source(location)).collect()
    }

    /// Tells the site of peers that did not give what they promised. Whether it listens does not matter here.
    async fn report(
        &self,
        content: Sha256Digest,
        sources: impl Iterator<Item = (SourceKind, &At, Option<&Fault>)>,
    ) {
        let codes = sources.filter_map(|(kind, at, fault)| Some((kind, at, fault?.code())));
        self.report_codes(content, codes).await;
    }

    async fn report_codes(
        &self,
        content: Sha256Digest,
        sources: impl Iterator<Item = (SourceKind, &At, Code)>,
    ) {
        for (kind, at, code) in sources {
            let (SourceKind::Peer, At::Url(url)) = (kind, at) else { continue };
            let Some(peer) = socket_address(url) else { continue };
            let report = ReportRequest { content, peer, fault: code.to_string() };
            let (Ok(url), Ok(web), Ok(json)) =
                (self.join("peers/report"), self.web(None, false), serde_json::to_vec(&report))
            else {
                continue;
            };
            if let Err(fault) = web.tell(&url, json, REPORT_DEADLINE, LARGEST_ANSWER).await {
                debug!("the site took no report of {peer}: {fault}");
            }
        }
    }

    fn source(&self, location: &Location) -> Result<Source, ClientError> {
        let url =
            self.join(&location.url).map_err(|what| ClientError::Answer { site: self.shown(), what })?;
        let at_the_site = url.host() == self.base.host();
        let (kind, web) = match location.kind {
            LocationKind::Peer => (SourceKind::Peer, self.peer_web(&url)?),
            LocationKind::DistributionPoint => (SourceKind::DistributionPoint, self.web(Some(&url), false)?),
            LocationKind::Cloud => (SourceKind::Cloud, self.web(None, !at_the_site)?),
        };
        Ok(Source { kind, name: location.name.clone(), at: At::Url(url), web })
    }
}
