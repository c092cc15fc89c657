//! A distribution point over HTTP/1.1: what was distributed, exactly (docs/PROTOCOL.md has all routes).
//!
//! What may be served is a [`Shelf`], an immutable snapshot that is replaced whole; a request looks nothing up in a
//! database. Content is opened once and read through that descriptor. Bodies are never chunked and never compressed, and
//! all of them go through one type, [`body::ContentBody`]. Whatever is no content goes to a [`Service`], if one has the route.

pub mod body;
pub mod conditional;
mod connection;
mod framing;
pub mod range;
mod respond;
mod service;
mod shelf;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use catalog::digest::{Sha1Digest, Sha256Digest};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderValue, Method, Request, Response, Version, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::library::{Library, LibraryError};
use body::ContentBody;
use connection::Signals;
use service::Room;
pub use service::{Answering, Call, Received, Refused, Remark, RequestBody, Service};
pub use shelf::{
    LaterLocation, Location, LocationKind, LocationsAnswer, Locator, OutLocation, Servable, Shelf,
};

/// How much one server takes on.
#[derive(Debug, Clone, Copy)]
pub struct ServerLimits {
    /// Connections at once.
    pub max_connections: usize,
    /// Connections at once from one address.
    pub max_connections_per_client: usize,
    /// For the head of a request, for its body, and between requests of one connection.
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
    locator: Option<Arc<dyn Locator>>,
    services: Vec<Arc<dyn Service>>,
    room: Room,
    clients: Mutex<HashMap<IpAddr, usize>>,
    /// What was served.
    pub served: Served,
}

impl ContentServer {
    /// A server of what `shelf` says at each moment.
    pub fn new(library: Library, shelf: Arc<ArcSwap<Shelf>>, limits: ServerLimits) -> Self {
        Self {
            library,
            shelf,
            limits,
            locator: None,
            services: Vec::new(),
            room: Room::default(),
            clients: Mutex::default(),
            served: Served::default(),
        }
    }

    /// The same server, with a service more for what is no content. The first that has a route answers.
    pub fn with_service(mut self, service: Arc<dyn Service>) -> Self {
        self.services.push(service);
        self
    }

    /// The same server, which also says where content is. Without this nobody is told.
    pub fn with_locator(self, locator: Arc<dyn Locator>) -> Self {
        Self { locator: Some(locator), ..self }
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
        let signals = Arc::new(Signals::default());
        let stream = connection::Guarded::new(stream, self.limits.write_stall, signals.clone());
        let service = service_fn(|request| {
            let (server, signals) = (self.clone(), signals.clone());
            async move { Ok::<_, Infallible>(server.handle(request, peer, &signals).await) }
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

    async fn handle(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
        signals: &Signals,
    ) -> Response<ContentBody> {
        let since = Instant::now();
        let (head, mut body) = request.into_parts();
        let doubtful = signals.doubtful.load(Ordering::Relaxed);
        let mut response =
            if doubtful { respond::bad_request() } else { self.route(&head, &mut body, peer).await };
        if response.headers().get(header::CONNECTION).is_some_and(|value| value == "close") {
            signals.linger.store(true, Ordering::Relaxed);
        }
        let sent = http_body::Body::size_hint(response.body()).exact().unwrap_or(0);
        self.served.requests.fetch_add(1, Ordering::Relaxed);
        self.served.bytes.fetch_add(sent, Ordering::Relaxed);
        let remark = response.extensions_mut().remove::<Remark>().map_or_else(String::new, |it| it.0);
        info!(
            target: "dp::access",
            client = %peer.ip(),
            status = response.status().as_u16(),
            size_bytes = sent,
            range = head.headers.get(header::RANGE).and_then(|v| v.to_str().ok()).unwrap_or("-"),
            micros = since.elapsed().as_micros() as u64,
            "{} {}{}{remark}", head.method, head.uri.path(), if remark.is_empty() { "" } else { " " }
        );
        response
    }

    async fn route(&self, head: &Parts, body: &mut Incoming, peer: SocketAddr) -> Response<ContentBody> {
        if head.version > Version::HTTP_11 {
            return respond::bad_request();
        }
        if head_bytes(head) > LARGEST_HEAD {
            return respond::head_too_large();
        }
        if !names_one_host(head) {
            return respond::bad_request();
        }
        // `*` and what is meant for proxies. No route has another form than a path.
        let Some(path) = head.uri.path().strip_prefix('/') else { return respond::bad_request() };
        // Split first: an encoded slash is part of a name (RFC 3986 section 2.2), and caches before us think so too.
        let decoded: Result<Vec<_>, _> =
            path.split('/').map(|part| percent_decode_str(part).decode_utf8()).collect();
        let Ok(decoded) = decoded else { return respond::bad_request() };
        if decoded.iter().any(|part| part.contains('\0')) {
            return respond::bad_request();
        }
        let segments: Vec<&str> = decoded.iter().map(AsRef::as_ref).collect();
        if let Some((service, largest)) = self.service_of(&segments) {
            return self.serve_call(service, largest, head, body, &segments, peer).await;
        }
        // No other route takes a body. One that comes all the same is how requests are smuggled (threat T9).
        let lengths = head.headers.get_all(header::CONTENT_LENGTH);
        if head.headers.contains_key(header::TRANSFER_ENCODING) || lengths.iter().any(|length| length != "0")
        {
            return respond::bad_request();
        }
        let readable = matches!(head.method, Method::GET | Method::HEAD);
        let shelf = self.shelf.load();
        match segments.as_slice() {
            ["content" | "packages" | "locations", ..] if !readable => respond::method_not_allowed(),
            ["content", digest] => match digest.parse() {
                Ok(digest) => self.content(head, &shelf, digest).await,
                Err(_) => respond::not_here(),
            },
            // As update servers name content; they take no regard to case ([MS-WSUSSS] section 2.1).
            [content, folder, file] if content.eq_ignore_ascii_case("content") => {
                let found = sha1_of(folder, file).and_then(|sha1| *shelf.by_sha1.get(&sha1)?);
                match found {
                    _ if !readable => respond::method_not_allowed(),
                    Some(digest) => self.content(head, &shelf, digest).await,
                    None => respond::not_here(),
                }
            }
            ["packages", package, file] => {
                let found =
                    package.parse().ok().and_then(|id| shelf.packages.get(&(id, file.to_ascii_lowercase())));
                match found {
                    Some(digest) => self.content(head, &shelf, *digest).await,
                    None => respond::not_here(),
                }
            }
            ["locations", digest] => {
                let asked = digest.parse().ok().zip(self.locator.as_ref());
                match asked.and_then(|(digest, locator)| locator.locate(peer.ip(), digest)) {
                    Some(locations) => respond::json(&locations, head.method == Method::HEAD),
                    None => respond::not_here(),
                }
            }
            _ => respond::not_here(),
        }
    }

    /// The service whose route this is, and the most bytes of a body there. Content is never its.
    fn service_of(&self, segments: &[&str]) -> Option<(&Arc<dyn Service>, u64)> {
        self.services.iter().find_map(|service| Some((service, service.largest_body(segments)?)))
    }

    async fn serve_call(
        &self,
        service: &Arc<dyn Service>,
        largest: u64,
        head: &Parts,
        body: &mut Incoming,
        path: &[&str],
        peer: SocketAddr,
    ) -> Response<ContentBody> {
        // Only `POST` says what a body means here.
        if head.method != Method::POST && !http_body::Body::is_end_stream(body) {
            return respond::bad_request();
        }
        let body = RequestBody::new(body, largest, self.limits.read_timeout, &self.room);
        let mut call = Call { head, path, peer, body };
        let mut response = service.answer(&mut call).await;
        // After a transfer coding nothing is believed: whoever stands before us may have read another one.
        if !call.body.is_over() || head.headers.contains_key(header::TRANSFER_ENCODING) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// `GET` or `HEAD` of one content: 200, 206, 304, 404, 412 or 416; 400 for ranges that contradict each other.
    async fn content(&self, head: &Parts, shelf: &Shelf, digest: Sha256Digest) -> Response<ContentBody> {
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
        let reply = conditional::decide(&head.method, &head.headers, &file.validators, file.size);
        respond::file(file, reply, head.method == Method::HEAD)
    }
}

/// The bytes of a head as it was sent, but for odd white space. hyper's own limit is one of its buffer, which may hold
/// twice as much when the last piece arrives.
fn head_bytes(head: &Parts) -> usize {
    let fields: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    head.method.as_str().len() + target + " HTTP/1.1\r\n\r\n".len() + fields
}

/// One `Host`, which only HTTP/1.0 may leave out (RFC 9112 section 3.2). Two of them are read differently by us and by
/// whoever stands before us.
fn names_one_host(head: &Parts) -> bool {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => head.version < Version::HTTP_11,
        (Some(host), None) => host.is_empty() || Authority::try_from(host.as_bytes()).is_ok(),
        (Some(_), Some(_)) => false,
    }
}

/// The digest in `CD/87F5…DDCD.exe`: the folder is its last two digits, the extension may be any.
fn sha1_of(folder: &str, file: &str) -> Option<Sha1Digest> {
    let name = file.split_once('.').map_or(file, |(name, _)| name);
    let sha1 = name.parse().ok()?;
    name.get(name.len() - 2..)?.eq_ignore_ascii_case(folder).then_some(sha1)
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
