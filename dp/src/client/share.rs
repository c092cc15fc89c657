//! Serving to other clients what this one holds, and saying so to the site.
//!
//! The content comes from the client's own library through the same server as that of a distribution point: only verified
//! files, by digest, and never what came as private. The site is told every few minutes; when sharing ends it is told that too, and if that is lost the
//! announcement ends by itself.

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
use crate::peers::{AnnounceRequest, Announced};
use crate::server::{ContentServer, Servable, Served, ServerLimits, Shelf, Source};
use crate::transfer::fault::Fault;

/// Other clients that are served at once, and connections of one of them: a desk is no server.
const MOST_CONNECTIONS: usize = 16;
const MOST_PER_CLIENT: usize = 2;
/// The most that is announced; the site takes no more.
const MOST_ANNOUNCED: usize = 4_096;
/// When to try again after the site has not answered, and bounds for what it asks for.
const RETRY: Duration = Duration::from_secs(60);
const SHORTEST: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(600);
const DEADLINE: Duration = Duration::from_secs(30);

/// What a client needs to share.
#[derive(Debug, Clone)]
pub struct ShareSettings {
    /// What it needs to fetch, too.
    pub client: ClientSettings,
    /// Where it serves. The site believes the port, and takes the address from the connection.
    pub listen: SocketAddr,
    /// Bytes per second of all that is sent together.
    pub max_rate: Option<u64>,
    /// Where what others are given is counted.
    pub served: Arc<Served>,
}

/// Shares until `stop`. `ready` is told where, once others are answered.
///
/// # Errors
/// [`ClientError::Listen`], those of the library. A site that does not answer is no error: it is asked again.
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
        max_connections: MOST_CONNECTIONS,
        max_connections_per_client: MOST_PER_CLIENT,
        rate_limit: settings.max_rate,
        shutdown_grace: Duration::from_secs(10),
        ..ServerLimits::default()
    };
    let server = ContentServer::new(cache.library.clone(), shelf.clone(), limits);
    let server = Arc::new(server.counting(Source::Peer, settings.served.clone()));
    let (end, ended) = oneshot::channel::<()>();
    let serving = tokio::spawn(server.serve(listener, async {
        // A dropped sender ends it too.
        let _ = ended.await;
    }));
    ready(address);
    let site = Reach::new(&settings.client);
    tokio::pin!(stop);
    loop {
        let held = held(&cache).await?;
        shelf.store(Arc::new(shelf_of(&held)));
        let contents: Vec<_> = held.iter().map(|(content, _)| *content).take(MOST_ANNOUNCED).collect();
        let pause = match announce(&site, address.port(), contents).await {
            Ok(announced) => Duration::from_secs(announced.again_in_seconds).clamp(SHORTEST, LONGEST),
            Err(fault) => {
                warn!("the site {} took no announcement: {fault}", site.shown());
                RETRY
            }
        };
        tokio::select! {
            () = &mut stop => break,
            () = tokio::time::sleep(jittered(pause)) => {}
        }
    }
    if let Err(fault) = announce(&site, address.port(), Vec::new()).await {
        info!("the site was not told that sharing ends: {fault}");
    }
    let _ = end.send(());
    serving.await.map_err(ClientError::Stopped)
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
