//! Serving to other clients what this one holds, and saying so to the site.
//!
//! The content comes from the client's own library through the same server as that of a distribution point: only verified
//! files, by digest, and never what came as private. The site is told every few minutes, and soon after something came or went
//! ([`Saying`]); when sharing ends it is told that too, and if that is lost the announcement ends by itself.
//!
//! A desk takes no more others at once than it can give enough ([`takers`]): the rest is told to come back later, and goes
//! elsewhere. While it rests, as a notebook on its battery does, it has nothing for others.

use std::convert::Infallible;
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use catalog::digest::Sha256Digest;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::{Cache, ClientError, ClientSettings, LARGEST_ANSWER, Reach, blocking};
use crate::library::Verdict;
use crate::peers::{AnnounceRequest, Announced};
use crate::server::{ContentServer, Doubts, Servable, Served, ServerLimits, Shelf, Source};
use crate::transfer::fault::Fault;

/// Other clients that are served at once, and connections of one of them: a desk is no server.
const MOST_CONNECTIONS: usize = 16;
const MOST_PER_CLIENT: usize = 2;
/// Bytes per second below which a client leaves a peer, where a point of its own network is ready.
pub(super) const LEAST_RATE: u64 = 512 << 10;
/// The most that is announced; the site takes no more.
const MOST_ANNOUNCED: usize = 4_096;
/// When to try again after the site has not answered, and bounds for what it asks for.
const RETRY: Duration = Duration::from_secs(60);
const SHORTEST: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(600);
const DEADLINE: Duration = Duration::from_secs(30);

/// How soon the site hears of what came or went.
#[derive(Debug, Clone, Copy)]
pub struct SharePace {
    /// How often the folder is looked at.
    pub look: Duration,
    /// The shortest time between two announcements.
    pub apart: Duration,
}

impl Default for SharePace {
    fn default() -> Self {
        Self { look: Duration::from_secs(5), apart: Duration::from_secs(30) }
    }
}

/// What a client needs to share.
#[derive(Debug, Clone)]
pub struct ShareSettings {
    /// What it needs to fetch, too.
    pub client: ClientSettings,
    /// Where it serves. The site believes the port, and takes the address from the connection.
    pub listen: SocketAddr,
    /// Bytes per second of all that is sent together.
    pub max_rate: Option<u64>,
    /// How soon the site hears of changes.
    pub pace: SharePace,
    /// Where what others are given is counted.
    pub served: Arc<Served>,
    /// Whether this machine has to look after itself now. It is asked each time that the folder is looked at.
    pub rests: fn() -> bool,
}

/// Shares until `stop`. `ready` is told where, once others are answered.
///
/// # Errors
/// [`ClientError::Listen`], those of the library at the start. A site that does not answer is no error: it is asked again. Nor is a
/// disk that does not, later.
pub async fn share(
    settings: &ShareSettings,
    ready: impl FnOnce(SocketAddr),
    stop: impl Future<Output = ()>,
) -> Result<(), ClientError> {
    let (dir, min_free) = (settings.client.dir.clone(), settings.client.min_free);
    let cache = blocking(move || Cache::open(&dir, min_free)).await?;
    let failed = |source| ClientError::Listen { address: settings.listen, source };
    let listener = TcpListener::bind(settings.listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let shelf = Arc::new(ArcSwap::from_pointee(Shelf::default()));
    let limits = ServerLimits {
        max_connections: takers(settings.max_rate),
        max_connections_per_client: MOST_PER_CLIENT,
        // Those that a desk serves are often of its own network.
        max_connections_per_network: MOST_CONNECTIONS,
        rate_limit: settings.max_rate,
        shutdown_grace: Duration::from_secs(10),
        ..ServerLimits::default()
    };
    let server = ContentServer::new(cache.library.clone(), shelf.clone(), limits);
    let doubts = Arc::new(Doubts::default());
    let server = server.counting(Source::Peer, settings.served.clone()).with_doubts(doubts.clone());
    let server = Arc::new(server);
    let (end, ended) = oneshot::channel::<()>();
    let serving = tokio::spawn(server.serve(listener, async {
        // A dropped sender ends it too.
        let _ = ended.await;
    }));
    ready(address);
    let site = Reach::new(&settings.client);
    let (started, mut saying, mut last_held) = (Instant::now(), Saying::new(settings.pace), Vec::new());
    let (mut fails, mut rested) = (false, false);
    let looking = look(&cache, &doubts);
    tokio::pin!(stop, looking);
    loop {
        let rests = (settings.rests)();
        if rests != rested {
            match rests {
                true => info!(
                    "nothing is shared while this machine runs on its battery ([client] share_on_battery)"
                ),
                false => info!("what is held is shared again"),
            }
            rested = rests;
        }
        match if rests { Ok(Vec::new()) } else { held(&cache).await } {
            Ok(now_held) if now_held != last_held => {
                shelf.store(Arc::new(shelf_of(&now_held)));
                last_held = now_held;
                fails = false;
            }
            Ok(_) => fails = false,
            // What can be read is served on, and its folder looked at again.
            Err(error) => {
                if !std::mem::replace(&mut fails, true) {
                    warn!("what is held cannot be listed, and is shared as it was: {error}");
                }
            }
        }
        let contents: Vec<_> = last_held.iter().map(|(content, _)| *content).take(MOST_ANNOUNCED).collect();
        if saying.is_due(&contents, started.elapsed()) {
            match announce(&site, address.port(), contents.clone()).await {
                Ok(said) => {
                    let again = Duration::from_secs(said.again_in_seconds).clamp(SHORTEST, LONGEST);
                    saying.said(contents, jittered(again), started.elapsed());
                }
                Err(fault) => {
                    warn!("the site {} took no announcement: {fault}", site.shown());
                    saying.failed(jittered(RETRY), started.elapsed());
                }
            }
        }
        tokio::select! {
            () = &mut stop => break,
            never = &mut looking => match never {},
            () = tokio::time::sleep(settings.pace.look) => {}
        }
    }
    if let Err(fault) = announce(&site, address.port(), Vec::new()).await {
        info!("the site was not told that sharing ends: {fault}");
    }
    let _ = end.send(());
    serving.await.map_err(ClientError::Stopped)
}

/// Reads again what could not be served: a program that was given the file may have written to it. What is wrong goes.
async fn look(cache: &Cache, doubts: &Doubts) -> Infallible {
    loop {
        let content = doubts.next().await;
        let looked = cache.clone();
        let read = move || {
            let seen = looked.library.identity(content);
            match looked.library.verify(content)? {
                // What was brought while it was read is another one.
                Verdict::Corrupt { .. } if !looked.library.is_another(content, seen.as_ref()) => {
                    looked.discard(content)
                }
                _ => Ok(()),
            }
        };
        if let Err(error) = blocking(read).await {
            warn!("{content} cannot be read again: {error}");
        }
        doubts.settled(content);
    }
}

/// How many others are served at once: each gets twice what it would leave us for, of what may be sent in all.
fn takers(max_rate: Option<u64>) -> usize {
    let most = max_rate.map_or(MOST_CONNECTIONS as u64, |rate| rate / (2 * LEAST_RATE));
    most.clamp(1, MOST_CONNECTIONS as u64) as usize
}

/// When the site is told what is held: when it wants to hear it again, and when that changed, but not too often. Pure.
#[derive(Debug)]
struct Saying {
    pace: SharePace,
    last: Option<Vec<Sha256Digest>>,
    /// When it is due whatever is held, and the earliest that it is because something changed.
    again: Duration,
    changed: Duration,
}

impl Saying {
    fn new(pace: SharePace) -> Self {
        Self { pace, last: None, again: Duration::ZERO, changed: Duration::ZERO }
    }

    fn is_due(&self, held: &[Sha256Digest], now: Duration) -> bool {
        now >= self.again || (now >= self.changed && self.last.as_deref() != Some(held))
    }

    /// The site took it, and wants to hear it again after `again`.
    fn said(&mut self, held: Vec<Sha256Digest>, again: Duration, now: Duration) {
        self.last = Some(held);
        (self.again, self.changed) = (now + again, now + self.pace.apart.min(again));
    }

    /// It did not, and is left alone for `retry`.
    fn failed(&mut self, retry: Duration, now: Duration) {
        (self.again, self.changed) = (now + retry, now + retry);
    }
}

/// From nine to eleven tenths: devices that started together do not stay together.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(Instant::now()) % 201;
    pause * (900 + random as u32) / 1_000
}

/// What may be shared: never what came as private.
async fn held(cache: &Cache) -> Result<Vec<(Sha256Digest, u64)>, ClientError> {
    let cache = cache.clone();
    blocking(move || {
        let all = cache.library.contents()?;
        Ok(all.into_iter().filter(|(content, _)| !cache.is_private(*content)).collect())
    })
    .await
}

fn shelf_of(held: &[(Sha256Digest, u64)]) -> Shelf {
    let mut shelf = Shelf::default();
    for (content, size) in held {
        // Clients ask for the digest, whatever it is called; 64 digits are a name.
        if let Ok(name) = content.to_string().parse() {
            shelf.offer(*content, Servable::new(*size, None, name));
        }
    }
    shelf
}

async fn announce(site: &Reach<'_>, port: u16, contents: Vec<Sha256Digest>) -> Result<Announced, Fault> {
    let invalid = |what: String| Fault::Failed(what);
    let url = site.join("peers/announce").map_err(invalid)?;
    if site.key_for_site().is_none() {
        return Err(Fault::Refused("there is no key that may be shown over this connection".to_owned()));
    }
    let web = site.site().map_err(|error| invalid(error.to_string()))?;
    let message =
        serde_json::to_vec(&AnnounceRequest { port, contents }).map_err(|e| invalid(e.to_string()))?;
    let answer = web.tell(&url, message, DEADLINE, LARGEST_ANSWER).await?;
    serde_json::from_slice(&answer)
        .map_err(|error| invalid(format!("its answer cannot be understood: {error}")))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_disk_that_does_not_answer_once_ends_nothing_and_who_rests_gives_nothing() {
        static RESTS: AtomicBool = AtomicBool::new(false);
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("cache");
        let (cache, arrives) = (Cache::open(&dir, 0).unwrap(), folder.path().join("arrives"));
        std::fs::write(&arrives, b"one").unwrap();
        let content =
            cache.library.ingest(&arrives, &crate::transfer::tests::wanted(b"one")).unwrap().digest();
        cache.note(content, &"one.esd".parse().unwrap(), false, jiff::Timestamp::now()).unwrap();
        let settings = ShareSettings {
            // Nobody is there, and sharing goes on.
            client: ClientSettings::new("http://127.0.0.1:1/".parse().unwrap(), dir.clone()),
            listen: "127.0.0.1:0".parse().unwrap(),
            max_rate: None,
            pace: SharePace { look: Duration::from_millis(5), ..SharePace::default() },
            served: Arc::default(),
            rests: || RESTS.load(Ordering::Relaxed),
        };
        let (address, (stop, stopped)) = (Arc::new(std::sync::OnceLock::new()), oneshot::channel::<()>());
        let told = address.clone();
        let sharing = tokio::spawn(async move {
            let ready = |at: SocketAddr| told.set(at).unwrap();
            share(&settings, ready, async { drop(stopped.await) }).await
        });
        let is_served = async || {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let at = *address.get()?;
            let mut stream = tokio::net::TcpStream::connect(at).await.ok()?;
            let head = format!("GET /content/{content} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await.ok()?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.ok()?;
            answer.ends_with(b"\r\n\r\none").then_some(())
        };
        let until_served = async || {
            while is_served().await.is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), until_served()).await.expect("it is shared");
        let (there, away) = (dir.join("blobs"), dir.join("away"));
        std::fs::rename(&there, &away).unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        std::fs::rename(&away, &there).unwrap();
        assert!(!sharing.is_finished(), "it has seen that it cannot be listed");
        tokio::time::timeout(Duration::from_secs(30), until_served()).await.expect("it is shared on");
        RESTS.store(true, Ordering::Relaxed);
        let until_rests = async || {
            while is_served().await.is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), until_rests()).await.expect("it rests");
        RESTS.store(false, Ordering::Relaxed);
        tokio::time::timeout(Duration::from_secs(30), until_served()).await.expect("it is shared again");
        stop.send(()).unwrap();
        sharing.await.unwrap().unwrap();
    }

    #[test]
    fn so_many_are_served_that_each_gets_enough() {
        for (rate, expected) in [
            (None, 16),
            (Some(20 << 20), 16),
            (Some(4 << 20), 4),
            (Some(1 << 20), 1),
            (Some(1), 1),
            (Some(0), 1),
        ] {
            assert_eq!(takers(rate), expected, "{rate:?}");
        }
    }

    #[test]
    fn changes_are_said_soon_and_not_too_often() {
        let seconds = Duration::from_secs;
        let [one, two] = [1, 2].map(|seed| Sha256Digest([seed; 32]));
        let mut saying = Saying::new(SharePace::default());
        assert!(saying.is_due(&[], Duration::ZERO), "what it said before it was stopped may be wrong");
        saying.said(vec![], seconds(300), Duration::ZERO);
        for (held, now, expected) in [
            (&[][..], 29, false),
            (&[one][..], 5, false),
            (&[one], 29, false),
            (&[one], 30, true),
            (&[], 299, false),
            (&[], 300, true),
        ] {
            assert_eq!(saying.is_due(held, seconds(now)), expected, "{held:?} at {now}");
        }
        saying.said(vec![one, two], seconds(300), seconds(30));
        assert!(!saying.is_due(&[one], seconds(59)) && saying.is_due(&[one], seconds(60)), "evicted");
        assert!(!saying.is_due(&[one, two], seconds(329)), "nothing new");
        saying.failed(seconds(60), seconds(60));
        assert!(!saying.is_due(&[one], seconds(119)) && saying.is_due(&[one], seconds(120)));
        assert!(saying.is_due(&[one, two], seconds(120)), "the site may have forgotten it");
    }
}
