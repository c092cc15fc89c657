//! A distribution point over HTTP/1.1: what was distributed, exactly (docs/PROTOCOL.md has all routes).
//!
//! What may be served is a [`Shelf`], an immutable snapshot that is replaced whole; a request looks nothing up in a
//! database. Content is opened once and read through that descriptor. Bodies are never chunked and never compressed, and
//! all of them go through one type, [`body::ContentBody`]. Whatever is no content goes to a [`Service`], if one has the route.

mod access;
mod admission;
pub mod body;
#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod cold;
pub mod conditional;
mod connection;
mod counters;
mod facts;
mod follow;
mod framing;
mod head;
#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod kernel;
#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod lease;
pub mod limit;
pub(crate) mod metalink;
mod mirrors;
pub mod open;
mod outgoing;
#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod pages {
    //! How bytes of files get to sockets past every buffer of ours.
    pub(super) use super::kernel::map;
    pub(super) use super::lease::{Lease, Leased, Leases};
    pub(super) use super::push::{Part, Pusher, Regions};
}
#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod pace;
#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
#[path = "portable.rs"]
mod pages;
mod pull;
#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod push;
pub mod range;
mod refusal;
mod respond;
#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod route;
mod service;
mod shelf;
mod socket;
mod stall;
pub mod tally;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use catalog::digest::{Sha1Digest, Sha256Digest};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, Version, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::warn;

use crate::library::{Library, LibraryError};
pub use access::{Access, Asker, Gate};
use admission::{Admission, Client, Place};
use body::ContentBody;
use connection::Signals;
pub use counters::{Outcome, Served, Source};
use head::{head_bytes, names_one_host, split};
pub use metalink::{hash_file, read_hash_file};
use mirrors::KeptPieces;
use open::OpenContents;
use outgoing::{Books, Line, Outgoing};
pub use pull::{Brought, Eventually, Offer, Origin, PullLimits, Pulled, Pulls};
pub use refusal::Refusal;
pub use respond::{carrying, empty, problem};
use service::Room;
pub use service::{Answering, Call, Deliver, Received, Refused, Remark, RequestBody, Service};
pub use shelf::{
    LaterLocation, Location, LocationKind, LocationsAnswer, Locator, OutLocation, Servable, Shelf,
};
pub use socket::Socket;
pub use stall::Stall;
use tally::Grouping;

/// How much one server takes on.
#[derive(Debug, Clone, Copy)]
pub struct ServerLimits {
    /// Connections at once.
    pub max_connections: usize,
    /// Connections at once from one address.
    pub max_connections_per_client: usize,
    /// Bodies above [`SMALL_BODY`] that are sent at once; 0: as many as there are connections.
    pub max_transfers: usize,
    /// The same to one address.
    pub max_transfers_per_client: usize,
    /// How many requests may wait for their turn, and how long.
    pub most_waiting: usize,
    /// How long each of them waits.
    pub turn_patience: Duration,
    /// Bytes per second of all bodies together.
    pub rate_limit: Option<u64>,
    /// Bytes per second to one address.
    pub rate_limit_per_client: Option<u64>,
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
            max_connections_per_client: 64,
            max_transfers: 0,
            max_transfers_per_client: 0,
            most_waiting: 64,
            turn_patience: Duration::from_secs(5),
            rate_limit: None,
            rate_limit_per_client: None,
            read_timeout: Duration::from_secs(30),
            write_stall: Duration::from_secs(60),
            shutdown_grace: Duration::from_secs(120),
        }
    }
}

/// The most bytes of a request's head. It has at most 100 fields: that is hyper's own limit, and telling hyper so would make it
/// clear seven kilobytes for each request.
const LARGEST_HEAD: usize = 64 * 1024;
/// Segments of a path that are looked at where they stand.
const MOST_PLAIN: usize = 12;

/// Bodies up to this size take no turn: they are sent before anybody could wait for one.
pub const SMALL_BODY: u64 = 64 * 1024;

/// One server; it may listen at several addresses.
pub struct ContentServer {
    library: Library,
    contents: OpenContents,
    shelf: Arc<ArcSwap<Shelf>>,
    limits: ServerLimits,
    locator: Option<Arc<dyn Locator>>,
    grouping: Option<Arc<dyn Grouping>>,
    services: Vec<Arc<dyn Service>>,
    room: Room,
    admission: Arc<Admission>,
    gate: Arc<dyn Gate>,
    source: Source,
    pieces: KeptPieces,
    pulls: Option<Arc<Pulls>>,
    copies: bool,
    /// What was served.
    pub served: Arc<Served>,
}

impl ContentServer {
    /// A server of what `shelf` says at each moment.
    pub fn new(library: Library, shelf: Arc<ArcSwap<Shelf>>, limits: ServerLimits) -> Self {
        Self {
            contents: OpenContents::new(library.clone()),
            library,
            shelf,
            limits,
            locator: None,
            grouping: None,
            services: Vec::new(),
            room: Room::default(),
            admission: Arc::new(Admission::new(limits)),
            gate: Arc::new(access::Shut),
            source: Source::Point,
            pieces: KeptPieces::default(),
            pulls: None,
            copies: false,
            served: Arc::default(),
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

    /// The same server, with who knows the boundary groups of its clients. Without this all are counted as others.
    pub fn with_grouping(self, grouping: Arc<dyn Grouping>) -> Self {
        Self { grouping: Some(grouping), ..self }
    }

    /// The same server, with who decides about private content. Without one nobody gets any.
    pub fn with_gate(self, gate: Arc<dyn Gate>) -> Self {
        Self { gate, ..self }
    }

    /// The same server, serving as somebody else and counting there.
    pub fn counting(self, source: Source, served: Arc<Served>) -> Self {
        Self { source, served, ..self }
    }

    /// The same server, which reads all that it sends, as where nothing else is possible.
    pub fn copying(self) -> Self {
        Self { copies: true, ..self }
    }

    /// Accepts until `shutdown`, then lets running answers finish, at most for the grace.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        self.accept(listener, None, shutdown).await;
    }

    /// The same over TLS, with the certificate that `identity` has at the moment of each handshake.
    pub async fn serve_tls(
        self: Arc<Self>,
        listener: TcpListener,
        identity: Arc<ArcSwap<ServerConfig>>,
        shutdown: impl Future<Output = ()>,
    ) {
        self.accept(listener, Some(identity), shutdown).await;
    }

    async fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        identity: Option<Arc<ArcSwap<ServerConfig>>>,
        shutdown: impl Future<Output = ()>,
    ) {
        tokio::pin!(shutdown);
        let (stop, stopped) = watch::channel(false);
        let mut connections = tokio::task::JoinSet::new();
        let mut refused = Repeated::default();
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
            let place = match self.admission.connect(&self.served, peer.ip(), connections.len()) {
                Ok(place) => place,
                Err(refusal) => {
                    self.served.refuse(refusal);
                    if let Some(others) = refused.says(Instant::now()) {
                        let (client, why) = (peer.ip(), refusal.name());
                        warn!(%client, others, "refused a connection of {client}: {why}; {others} others were refused since this was last said");
                    }
                    continue;
                }
            };
            let (server, stopped) = (self.clone(), stopped.clone());
            let config = identity.as_ref().map(|identity| identity.load_full());
            connections.spawn(async move {
                let _ = stream.set_nodelay(true);
                // The handshake has the time of a head; who needs longer, or speaks no TLS, is not told why.
                let Some(socket) = Socket::open(stream, config, server.limits.read_timeout).await else {
                    return;
                };
                server.answer(socket, peer, place, stopped).await;
            });
        }
        drop(listener);
        let _ = stop.send(true);
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(self.limits.shutdown_grace, all).await.is_err() {
            warn!("transfers that were still running are cut; clients resume them");
        }
    }

    async fn answer(
        self: Arc<Self>,
        stream: Socket,
        address: SocketAddr,
        place: Place,
        mut stopped: watch::Receiver<bool>,
    ) {
        let peer = Peer { address, secure: stream.is_secure() };
        let group = self.grouping.as_ref().and_then(|known| known.group_of(address.ip()));
        let group = self.served.groups.row(group.as_deref());
        let signals = Arc::new(Signals::default());
        let stream = connection::Guarded::new(stream, self.limits.write_stall, signals.clone());
        // What all connections share is counted once a connection, not once a request: processors would wait for each other.
        let books = Arc::new(Books { served: self.served.clone(), group });
        let (server, books, client, told) = (&*self, &books, &place.client, &*signals);
        let service = service_fn(move |request| async move {
            Ok::<_, Infallible>(server.handle(request, peer, client, books, told).await)
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        // Without a timer the timeout of the head would silently be off.
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.read_timeout)
            .max_buf_size(LARGEST_HEAD)
            .half_close(false);
        let serving = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(serving);
        // A client that breaks off is its own business: nothing of ours has failed.
        if until_stopped(serving.as_mut(), &mut stopped).await.is_none() {
            serving.as_mut().graceful_shutdown();
            let _ = serving.await;
        }
        self.served.by_region.fetch_add(signals.by_region.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    async fn handle(
        &self,
        request: Request<Incoming>,
        peer: Peer,
        client: &Arc<Client>,
        books: &Arc<Books>,
        signals: &Signals,
    ) -> Response<Outgoing> {
        let since = Instant::now();
        let (head, mut body) = request.into_parts();
        let line = Line::of(&head, peer.address.ip(), since);
        let doubtful = signals.doubtful.load(Ordering::Relaxed);
        let mut response =
            if doubtful { respond::bad_request() } else { self.route(&head, &mut body, peer).await };
        if response.headers().get(header::CONNECTION).is_some_and(|value| value == "close") {
            signals.linger.store(true, Ordering::Relaxed);
        }
        // TLS would read a region, and a file that is cut meanwhile would end the process.
        if !(peer.secure || self.copies)
            && let Some(content) = response.body_mut().by_region()
        {
            signals.expect(content);
        }
        let mut turn = None;
        let mut length = http_body::Body::size_hint(response.body()).exact().unwrap_or(0);
        if length > SMALL_BODY {
            match self.admission.turn(&self.served, client).await {
                Ok(taken) => turn = Some(taken),
                Err(refusal) => {
                    response = respond::refuse_for(refusal, self.admission.retry_after());
                    length = 0;
                }
            }
        }
        let pace = if length > 0 { self.admission.pace(client) } else { None };
        Outgoing::new(response, self.source, books.clone(), line, pace, turn)
    }

    async fn route(&self, head: &Parts, body: &mut Incoming, peer: Peer) -> Response<ContentBody> {
        if head.version > Version::HTTP_11 {
            return respond::bad_request();
        }
        if head_bytes(head) > LARGEST_HEAD {
            return respond::refuse(Refusal::HeadTooLarge);
        }
        if !names_one_host(head) {
            return respond::bad_request();
        }
        // `*` and what is meant for proxies. No route has another form than a path.
        let Some(path) = head.uri.path().strip_prefix('/') else { return respond::bad_request() };
        // Nearly every path says what it means, and is short.
        let mut plain = [""; MOST_PLAIN];
        if !path.contains('%')
            && let Some(count) = split(path, &mut plain)
        {
            return self.route_to(&plain[..count], head, body, peer).await;
        }
        // Split first: an encoded slash is part of a name (RFC 3986 section 2.2), and caches before us think so too.
        let decoded: Result<Vec<_>, _> =
            path.split('/').map(|part| percent_decode_str(part).decode_utf8()).collect();
        let Ok(decoded) = decoded else { return respond::bad_request() };
        if decoded.iter().any(|part| part.contains('\0')) {
            return respond::bad_request();
        }
        let segments: Vec<&str> = decoded.iter().map(AsRef::as_ref).collect();
        self.route_to(&segments, head, body, peer).await
    }

    async fn route_to(
        &self,
        segments: &[&str],
        head: &Parts,
        body: &mut Incoming,
        peer: Peer,
    ) -> Response<ContentBody> {
        if let Some((service, largest)) = self.service_of(segments) {
            // The way of content is short; what else there is does not make it longer.
            return Box::pin(self.serve_call(service, largest, head, body, segments, peer)).await;
        }
        // No other route takes a body. One that comes all the same is how requests are smuggled.
        let lengths = head.headers.get_all(header::CONTENT_LENGTH);
        if head.headers.contains_key(header::TRANSFER_ENCODING) || lengths.iter().any(|length| length != "0")
        {
            return respond::bad_request();
        }
        self.answer_about(head, segments, peer.asker()).await.unwrap_or_else(|refusal| match refusal {
            // Many wait for one content: they shall not all come back at once.
            Refusal::NotYet | Refusal::Upstream => respond::refuse_for(refusal, self.admission.retry_after()),
            other => respond::refuse(other),
        })
    }

    /// The routes of content and of what is told about it.
    async fn answer_about(
        &self,
        head: &Parts,
        segments: &[&str],
        client: Asker,
    ) -> Result<Response<ContentBody>, Refusal> {
        let readable = matches!(head.method, Method::GET | Method::HEAD);
        let shelf = self.shelf.load();
        match segments {
            ["content" | "packages" | "locations", ..] if !readable => Err(Refusal::Method),
            ["content", name] => match (name.parse(), mirrors::without_suffix(name).map(str::parse)) {
                (Ok(digest), _) => self.content(head, &shelf, digest, client).await,
                (_, Some(Ok(digest))) => self.metalink(head, &shelf, digest, None, client).await,
                _ => Err(Refusal::Absent),
            },
            ["content", digest, "pieceshash"] => {
                let digest = digest.parse().map_err(|_| Refusal::Absent)?;
                self.pieces_hash(head, &shelf, digest, client).await
            }
            ["content", digest, "blocks"] => {
                let digest = digest.parse().map_err(|_| Refusal::Absent)?;
                self.block_map(head, &shelf, digest, client).await
            }
            // As update servers name content; they take no regard to case ([MS-WSUSSS] section 2.1).
            [content, folder, file] if content.eq_ignore_ascii_case("content") => {
                if !readable {
                    return Err(Refusal::Method);
                }
                let found = sha1_of(folder, file).and_then(|sha1| *shelf.by_sha1.get(&sha1)?);
                self.content(head, &shelf, found.ok_or(Refusal::Absent)?, client).await
            }
            ["packages", package, file] => {
                let of = |file: &str| {
                    let key = (package.parse().ok()?, file.to_ascii_lowercase());
                    shelf.packages.get(&key).copied()
                };
                if let Some(digest) = of(file) {
                    return self.content(head, &shelf, digest, client).await;
                }
                let named = mirrors::without_suffix(file).and_then(|file| Some((file, of(file)?)));
                let (file, digest) = named.ok_or(Refusal::Absent)?;
                self.metalink(head, &shelf, digest, Some(file), client).await
            }
            ["locations", digest] => {
                self.locations(head, &shelf, digest.parse().map_err(|_| Refusal::Absent)?, client)
            }
            _ => Err(Refusal::NoRoute),
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
        Peer { address: peer, secure }: Peer,
    ) -> Response<ContentBody> {
        // Only `POST` says what a body means here.
        if head.method != Method::POST && !http_body::Body::is_end_stream(body) {
            return respond::bad_request();
        }
        let body = RequestBody::new(body, largest, self.limits.read_timeout, &self.room);
        let mut call = Call { head, path, peer, secure, body };
        let mut response = service.answer(&mut call).await;
        if let Some(Deliver { content, servable }) = response.extensions_mut().remove() {
            let remark = response.extensions_mut().remove::<Remark>();
            response = self.deliver(head, content, &servable).await.unwrap_or_else(respond::refuse);
            remark.map(|remark| response.extensions_mut().insert(remark));
        }
        // After a transfer coding nothing is believed: whoever stands before us may have read another one.
        if !call.body.is_over() || head.headers.contains_key(header::TRANSFER_ENCODING) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// `GET` or `HEAD` of one content: 200, 206, 304, 404, 412 or 416.
    async fn content(
        &self,
        head: &Parts,
        shelf: &Shelf,
        digest: Sha256Digest,
        client: Asker,
    ) -> Result<Response<ContentBody>, Refusal> {
        let servable = match self.servable(head, shelf, digest, client) {
            Err(lacking @ Refusal::Absent) => {
                return Box::pin(self.pull_through(head, digest, client, lacking)).await;
            }
            servable => servable?,
        };
        let mut response = match self.deliver(head, digest, servable).await {
            Err(lacking @ Refusal::Missing) => {
                return Box::pin(self.pull_through(head, digest, client, lacking)).await;
            }
            response => response?,
        };
        if servable.pulled && head.method == Method::GET {
            response = self.as_pulled(response, digest);
        }
        if response.status().is_success() {
            self.link_duplicates(&mut response, head, shelf, digest, client);
        }
        Ok(response)
    }

    /// The same, whatever is on the shelf and whoever asks.
    async fn deliver(
        &self,
        head: &Parts,
        digest: Sha256Digest,
        servable: &Servable,
    ) -> Result<Response<ContentBody>, Refusal> {
        let content = match self.contents.open(digest).await {
            Ok(Some(content)) if content.size == servable.size => content,
            Ok(_) => {
                warn!(content.sha256 = %digest, "{digest} is distributed and not in the library, or of another size");
                return Err(Refusal::Missing);
            }
            Err(error @ LibraryError::Corrupt { .. }) => {
                warn!(content.sha256 = %digest, "{digest} is not served: {error}");
                return Err(Refusal::Damaged);
            }
            Err(error) => {
                warn!(content.sha256 = %digest, "{digest} cannot be opened: {error}");
                return Err(Refusal::Unreadable);
            }
        };
        let file = respond::ServedFile::new(content, servable.facts(digest).clone());
        let reply = conditional::decide(&head.method, &head.headers, &file.facts.validators, file.size);
        Ok(respond::file(file, reply, head.method == Method::HEAD))
    }

    /// What this client may be served. Absent, not distributed and forbidden look the same from outside.
    fn servable<'s>(
        &self,
        head: &Parts,
        shelf: &'s Shelf,
        digest: Sha256Digest,
        client: Asker,
    ) -> Result<&'s Servable, Refusal> {
        let servable = shelf.contents.get(&digest).ok_or(Refusal::Absent)?;
        if access::may(&*self.gate, servable.access, head, client) {
            Ok(servable)
        } else {
            Err(Refusal::Forbidden)
        }
    }
}

/// What happens very often is said once a second.
#[derive(Debug, Default)]
struct Repeated {
    said: Option<Instant>,
    unsaid: u64,
}

impl Repeated {
    /// Whether it is to be said now: then, how often it has happened unsaid.
    fn says(&mut self, now: Instant) -> Option<u64> {
        if self.said.is_some_and(|said| now.saturating_duration_since(said) < Duration::from_secs(1)) {
            self.unsaid += 1;
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

/// What comes of `work`, or `None` when it is time to stop. The channel is shared by all connections, so it is not asked each
/// time that this one is woken: what was registered there once wakes it.
async fn until_stopped<T>(
    mut work: Pin<&mut impl Future<Output = T>>,
    stopped: &mut watch::Receiver<bool>,
) -> Option<T> {
    let news = stopped.clone();
    let mut stopping = std::pin::pin!(stopped.wait_for(|stopped| *stopped));
    let mut waits = false;
    std::future::poll_fn(|context| {
        if let Poll::Ready(done) = work.as_mut().poll(context) {
            return Poll::Ready(Some(done));
        }
        if (!waits || !matches!(news.has_changed(), Ok(false))) && stopping.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(None);
        }
        waits = true;
        Poll::Pending
    })
    .await
}

/// The digest in `CD/87F5…DDCD.exe`: the folder is its last two digits, the extension may be any.
fn sha1_of(folder: &str, file: &str) -> Option<Sha1Digest> {
    let name = file.split_once('.').map_or(file, |(name, _)| name);
    let sha1 = name.parse().ok()?;
    name.get(name.len() - 2..)?.eq_ignore_ascii_case(folder).then_some(sha1)
}

/// Who is at the other end of a connection, and whether others can read it.
#[derive(Debug, Clone, Copy)]
struct Peer {
    address: SocketAddr,
    secure: bool,
}

impl Peer {
    fn asker(self) -> Asker {
        Asker { address: self.address.ip(), secure: self.secure }
    }
}
