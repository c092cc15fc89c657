//! A distribution point over HTTP/1.1: what was distributed, exactly (docs/PROTOCOL.md has all routes).
//!
//! What may be served is a [`Shelf`], an immutable snapshot that is replaced whole; a request looks nothing up in a
//! database. Content is opened once and read through that descriptor. Bodies are never chunked and never compressed, and
//! all of them go through one type, [`body::ContentBody`].

pub mod body;
pub mod conditional;
mod connection;
pub mod range;
mod respond;
mod shelf;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use catalog::digest::Sha256Digest;
use http::uri::Authority;
use http::{Method, Request, Response, Version, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::library::{Library, LibraryError};
use body::ContentBody;
pub use shelf::{Location, LocationKind, LocationsAnswer, Servable, Shelf};

/// How much one server takes on.
#[derive(Debug, Clone, Copy)]
pub struct ServerLimits {
    /// Connections at once.
    pub max_connections: usize,
    /// Connections at once from one address.
    pub max_connections_per_client: usize,
    /// For the head of a request, and between requests of one connection.
    pub read_timeout: Duration,
    /// How long a client may leave what we send unread.
    pub write_stall: Duration,
    /// How long running transfers may go on after the server was told to stop.
    pub shutdown_grace: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            max_connections: 4096,
            max_connections_per_client: 8,
            read_timeout: Duration::from_secs(30),
            write_stall: Duration::from_secs(60),
            shutdown_grace: Duration::from_secs(120),
        }
    }
}

/// The most bytes and fields of a request's head.
const LARGEST_HEAD: usize = 64 * 1024;
const MOST_FIELDS: usize = 100;

/// Counted since the start.
#[derive(Debug, Default)]
pub struct Served {
    /// Requests answered.
    pub requests: AtomicU64,
    /// Bytes of content promised in answers.
    pub bytes: AtomicU64,
}

/// One server; it may listen at several addresses.
pub struct ContentServer {
    library: Library,
    shelf: Arc<ArcSwap<Shelf>>,
    limits: ServerLimits,
    clients: Mutex<HashMap<IpAddr, usize>>,
    /// What was served.
    pub served: Served,
}

impl ContentServer {
    /// A server of what `shelf` says at each moment.
    pub fn new(library: Library, shelf: Arc<ArcSwap<Shelf>>, limits: ServerLimits) -> Self {
        Self { library, shelf, limits, clients: Mutex::default(), served: Served::default() }
    }

    /// Accepts until `shutdown`, then lets running answers finish, at most for the grace.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        tokio::pin!(shutdown);
        let (stop, stopped) = watch::channel(false);
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (stream, peer) = tokio::select! {
                () = &mut shutdown => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        warn!("a connection cannot be accepted: {error}");
                        tokio::time::sleep(Duration::from_millis(50)).await; // EMFILE must not spin
                        continue;
                    }
                },
            };
            while connections.try_join_next().is_some() {} // those that have ended hold no place
            let Some(place) = self.clone().admit(peer.ip(), connections.len()) else {
                warn!(client = %peer.ip(), "refused a connection of {}: too many", peer.ip());
                continue;
            };
            connections.spawn(self.clone().answer(stream, peer, place, stopped.clone()));
        }
        drop(listener);
        let _ = stop.send(true);
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(self.limits.shutdown_grace, all).await.is_err() {
            warn!("transfers that were still running are cut; clients resume them");
        }
    }

    /// A place for one more connection, given back when it is dropped.
    fn admit(self: Arc<Self>, client: IpAddr, all: usize) -> Option<Place> {
        if all >= self.limits.max_connections {
            return None;
        }
        {
            let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            let count = clients.entry(client).or_default();
            if *count >= self.limits.max_connections_per_client {
                return None;
            }
            *count += 1;
        }
        Some(Place { server: self, client })
    }

    async fn answer(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        _place: Place,
        mut stopped: watch::Receiver<bool>,
    ) {
        let _ = stream.set_nodelay(true);
        let stream = connection::Guarded::new(stream, self.limits.write_stall);
        let service = service_fn(|request| {
            let server = self.clone();
            async move { Ok::<_, Infallible>(server.handle(request, peer).await) }
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        // Without a timer the timeout of the head would silently be off.
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.read_timeout)
            .max_buf_size(LARGEST_HEAD)
            .max_headers(MOST_FIELDS)
            .half_close(false);
        let serving = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(serving);
        // A client that breaks off is its own business: nothing of ours has failed.
        tokio::select! {
            _ = &mut serving => return,
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
        serving.as_mut().graceful_shutdown();
        let _ = serving.await;
    }

    async fn handle(&self, request: Request<Incoming>, peer: SocketAddr) -> Response<ContentBody> {
        let since = Instant::now();
        let response = self.route(&request).await;
        let sent = http_body::Body::size_hint(response.body()).exact().unwrap_or(0);
        self.served.requests.fetch_add(1, Ordering::Relaxed);
        self.served.bytes.fetch_add(sent, Ordering::Relaxed);
        info!(
            target: "dp::access",
            client = %peer.ip(),
            status = response.status().as_u16(),
            size_bytes = sent,
            range = request.headers().get(header::RANGE).and_then(|v| v.to_str().ok()).unwrap_or("-"),
            micros = since.elapsed().as_micros() as u64,
            "{} {}", request.method(), request.uri().path()
        );
        response
    }

    async fn route(&self, request: &Request<Incoming>) -> Response<ContentBody> {
        if request.version() > Version::HTTP_11 {
            return respond::bad_request();
        }
        if head_bytes(request) > LARGEST_HEAD {
            return respond::head_too_large();
        }
        // No route takes a body. One that comes all the same is how requests are smuggled (threat T9).
        let lengths = request.headers().get_all(header::CONTENT_LENGTH);
        if request.headers().contains_key(header::TRANSFER_ENCODING)
            || lengths.iter().any(|length| length != "0")
            || !names_one_host(request)
        {
            return respond::bad_request();
        }
        // `*` and what is meant for proxies. No route has another form than a path.
        let Some(path) = request.uri().path().strip_prefix('/') else { return respond::bad_request() };
        // Split first: an encoded slash is part of a name (RFC 3986 section 2.2), and caches before us think so too.
        let decoded: Result<Vec<_>, _> =
            path.split('/').map(|part| percent_decode_str(part).decode_utf8()).collect();
        let Ok(decoded) = decoded else { return respond::bad_request() };
        if decoded.iter().any(|part| part.contains('\0')) {
            return respond::bad_request();
        }
        let readable = matches!(*request.method(), Method::GET | Method::HEAD);
        let segments: Vec<&str> = decoded.iter().map(AsRef::as_ref).collect();
        let shelf = self.shelf.load();
        match segments.as_slice() {
            ["content" | "packages" | "locations", ..] if !readable => respond::method_not_allowed(),
            ["content", digest] => match digest.parse() {
                Ok(digest) => self.content(request, &shelf, digest).await,
                Err(_) => respond::not_here(),
            },
            ["packages", package, file] => {
                let found =
                    package.parse().ok().and_then(|id| shelf.packages.get(&(id, file.to_ascii_lowercase())));
                match found {
                    Some(digest) => self.content(request, &shelf, *digest).await,
                    None => respond::not_here(),
                }
            }
            ["locations", digest] => {
                match digest.parse().ok().and_then(|digest| shelf.locations.get(&digest)) {
                    Some(locations) => respond::json(locations, request.method() == Method::HEAD),
                    None => respond::not_here(),
                }
            }
            _ => respond::not_here(),
        }
    }

    /// `GET` or `HEAD` of one content: 200, 206, 304, 404, 412 or 416; 400 for ranges that contradict each other.
    async fn content(
        &self,
        request: &Request<Incoming>,
        shelf: &Shelf,
        digest: Sha256Digest,
    ) -> Response<ContentBody> {
        // Absent and not distributed look the same from outside (threat T4).
        let Some(servable) = shelf.contents.get(&digest) else { return respond::not_here() };
        let library = self.library.clone();
        let opened = tokio::task::spawn_blocking(move || library.open_content(digest)).await;
        let stored = match opened {
            Ok(Ok(Some(stored))) if stored.size == servable.size => stored,
            Ok(Ok(_)) => {
                warn!(content.sha256 = %digest, "{digest} is distributed and not in the library, or of another size");
                return respond::not_here();
            }
            Ok(Err(error @ LibraryError::Corrupt { .. })) => {
                warn!(content.sha256 = %digest, "{digest} is not served: {error}");
                return respond::not_here();
            }
            Ok(Err(error)) => {
                warn!(content.sha256 = %digest, "{digest} cannot be opened: {error}");
                return respond::try_later();
            }
            Err(_) => return respond::try_later(),
        };
        let file = respond::ServedFile::new(stored);
        let reply = conditional::decide(request.method(), request.headers(), &file.validators, file.size);
        respond::file(file, reply, request.method() == Method::HEAD)
    }
}

/// The bytes of a head as it was sent, but for odd white space. hyper's own limit is one of its buffer, which may hold
/// twice as much when the last piece arrives.
fn head_bytes(request: &Request<Incoming>) -> usize {
    let fields: usize =
        request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    request.method().as_str().len() + target + " HTTP/1.1\r\n\r\n".len() + fields
}

/// One `Host`, which only HTTP/1.0 may leave out (RFC 9112 section 3.2). Two of them are read differently by us and by
/// whoever stands before us.
fn names_one_host(request: &Request<Incoming>) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => request.version() < Version::HTTP_11,
        (Some(host), None) => host.is_empty() || Authority::try_from(host.as_bytes()).is_ok(),
        (Some(_), Some(_)) => false,
    }
}

/// One connection's place among those allowed.
struct Place {
    server: Arc<ContentServer>,
    client: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut clients = self.server.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = clients.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&self.client);
            }
        }
    }
}
