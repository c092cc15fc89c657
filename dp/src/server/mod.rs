//! A distribution point over HTTP/1.1: what was distributed, exactly (docs/PROTOCOL.md has all routes).
//!
//! What may be served is a [`Shelf`], an immutable snapshot that is replaced whole; a request looks nothing up in a
//! database. Content is opened once and read through that descriptor. Bodies are never chunked and never compressed, and
//! all of them go through one type, [`body::ContentBody`]. Whatever is no content goes to a [`Service`], if one has the route.

mod access;
mod admission;
mod at_once;
pub mod body;
#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod cold;
pub mod conditional;
mod connection;
mod counters;
mod crowd;
mod document;
mod doubt;
mod facts;
mod follow;
mod framing;
mod head;
mod head_timer;
mod kept;
#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod kernel;
#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod lease;
pub mod limit;
mod listen;
mod log_throttle;
pub(crate) mod metalink;
mod mirrors;
mod network;
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
mod pull_through;
#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod push;
pub mod range;
mod refusal;
mod respond;
#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod route;
mod routes;
mod service;
mod shelf;
mod socket;
mod stall;
pub mod tally;
mod turned_away;
mod upstream;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{Request, Response, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::net::TcpListener;

use crate::library::Library;
pub use access::{Access, Asker, Gate};
use admission::{Admission, Client, Place};
use at_once::{AtOnce, Next};
use connection::Signals;
pub use counters::{Outcome, Served, Source};
use crowd::Crowd;
use document::Document;
pub use doubt::Doubts;
use head_timer::HeadTimer;
use kept::Kept;
use listen::Stopping;
pub use log_throttle::LogThrottle;
pub use metalink::{hash_file, read_hash_file};
pub use network::network;
use open::OpenContents;
use outgoing::{Books, Line, Outgoing};
pub use pull::{Brought, Eventually, Offer, Origin, OtherName, PullLimits, Pulled, Pulls};
pub use refusal::Refusal;
pub use respond::{carrying, empty, problem};
use service::Room;
pub use service::{Answering, Call, Deliver, Received, Refused, Remark, RequestBody, Service};
pub use shelf::{
    LaterLocation, Learning, Location, LocationKind, LocationsAnswer, Locator, OutLocation, Servable, Shelf,
};
pub use socket::Socket;
pub use stall::Stall;
use tally::Grouping;
pub use upstream::{UpstreamPaths, path_of_link};

/// How much one server takes on.
#[derive(Debug, Clone, Copy)]
pub struct ServerLimits {
    /// Connections at once.
    pub max_connections: usize,
    /// Connections at once from one address.
    pub max_connections_per_client: usize,
    /// Connections at once from one network of IPv6, where one machine may have any number of addresses.
    pub max_connections_per_network: usize,
    /// Bodies above [`SMALL_BODY`] that are sent at once; 0: as many as there are connections.
    pub max_transfers: usize,
    /// The same to one address.
    pub max_transfers_per_client: usize,
    /// How many requests may wait for their turn.
    pub most_waiting: usize,
    /// How long each of them waits.
    pub turn_patience: Duration,
    /// Bytes per second of all bodies together.
    pub rate_limit: Option<u64>,
    /// Bytes per second to one address.
    pub rate_limit_per_client: Option<u64>,
    /// For a TLS handshake, for the head of a request, and for its body.
    pub read_timeout: Duration,
    /// For the next head of a connection to begin, after an answer; no shorter than `read_timeout`. Delivery Optimization wants
    /// more than 31 s: it asks for the next piece when it has use for it.
    pub idle_timeout: Duration,
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
            max_connections_per_network: 3072,
            max_transfers: 0,
            max_transfers_per_client: 0,
            most_waiting: 64,
            turn_patience: Duration::from_secs(5),
            rate_limit: None,
            rate_limit_per_client: None,
            read_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            write_stall: Duration::from_secs(60),
            shutdown_grace: Duration::from_secs(120),
        }
    }
}

/// The most bytes of a request's head. It has at most 100 fields: that is hyper's own limit, and telling hyper so would make it
/// clear seven kilobytes for each request.
const LARGEST_HEAD: usize = 64 * 1024;

/// How connections find their speed where nobody says otherwise: without a timer for each segment, which `bbr` needs and which
/// costs a server of a fast network a quarter of its requests.
pub const CONGESTION_CONTROL: &str = "cubic";

/// Bytes of memory for hashes of pieces: of the largest ESDs they take about 700 KB.
const MOST_OF_PIECES: usize = 8 << 20;
/// The same for maps of blocks, of which one takes 2 MB for 5 GB of content.
const MOST_OF_MAPS: usize = 32 << 20;

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
    pieces: Arc<Kept<Arc<metalink::Pieces>>>,
    maps: Arc<Kept<Arc<Document>>>,
    congestion_control: Option<String>,
    known_as: Option<String>,
    damage_said: LogThrottle,
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
            pieces: Arc::new(Kept::new(MOST_OF_PIECES)),
            maps: Arc::new(Kept::new(MOST_OF_MAPS)),
            congestion_control: Some(CONGESTION_CONTROL.to_owned()),
            known_as: None,
            damage_said: LogThrottle::new(60, Duration::from_secs(60)),
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

    /// The same server, which tells what it was to serve and could not.
    pub fn with_doubts(self, doubts: Arc<Doubts>) -> Self {
        Self { contents: self.contents.with_doubts(doubts), ..self }
    }

    /// The same server, which others are told of by this address (scheme and authority): who asks it by another name is not sent
    /// there for what it has asked for here.
    pub fn known_as(self, address: &str) -> Self {
        Self { known_as: Some(address.trim_end_matches('/').to_owned()), ..self }
    }

    /// The same server, serving as somebody else and counting there.
    pub fn counting(self, source: Source, served: Arc<Served>) -> Self {
        Self { source, served, ..self }
    }

    /// The same server, whose connections find their speed so, as tcp(7) names it; `None`: as this machine has it.
    pub fn with_congestion_control(self, congestion_control: Option<String>) -> Self {
        Self { congestion_control, ..self }
    }

    /// The same server, which reads all that it sends, as where nothing else is possible.
    pub fn copying(self) -> Self {
        Self { copies: true, ..self }
    }

    /// Accepts until `shutdown`, then lets running answers finish, at most for the grace.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        self.accept_and_look(listener, None, shutdown).await;
    }

    /// The same over TLS, with the certificate that `identity` has at the moment of each handshake.
    pub async fn serve_tls(
        self: Arc<Self>,
        listener: TcpListener,
        identity: Arc<ArcSwap<ServerConfig>>,
        shutdown: impl Future<Output = ()>,
    ) {
        self.accept_and_look(listener, Some(identity), shutdown).await;
    }

    async fn accept_and_look(
        self: Arc<Self>,
        listener: TcpListener,
        identity: Option<Arc<ArcSwap<ServerConfig>>>,
        shutdown: impl Future<Output = ()>,
    ) {
        let contents = &self.contents;
        tokio::select! {
            () = self.clone().accept(listener, identity, shutdown) => {}
            never = contents.let_go_what_is_gone() => match never {},
        }
    }

    async fn answer(
        self: Arc<Self>,
        stream: Socket,
        address: SocketAddr,
        place: Place,
        crowd: &Arc<Crowd>,
        mut stopping: Stopping,
    ) {
        let peer = Peer { address, secure: stream.is_secure(), crowd };
        let group = self.grouping.as_ref().and_then(|known| known.group_of(address.ip()));
        let group = self.served.groups.row(group.as_deref());
        let signals = Arc::new(Signals::default());
        let stall = Stall::among(self.limits.write_stall, crowd);
        let mut stream = connection::Guarded::new(stream, stall, signals.clone());
        // What all connections share is counted once a connection, not once a request: processors would wait for each other.
        let books = Arc::new(Books { served: self.served.clone(), group });
        let (server, books, client, told) = (&*self, &books, &place.client, &*signals);
        let timer = HeadTimer::new(self.limits.read_timeout, self.limits.idle_timeout, crowd, &signals);
        let at_once = AtOnce { server, from: address.ip(), client, books, timer: &timer };
        if at_once.answer(&mut stream, &mut stopping).await == Next::End {
            return;
        }
        let service = service_fn(move |request| async move {
            Ok::<_, Infallible>(server.handle(request, peer, client, books, told).await)
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        // Without a timer the timeout of the head would silently be off.
        builder
            .timer(timer)
            .header_read_timeout(self.limits.read_timeout)
            .max_buf_size(LARGEST_HEAD)
            .half_close(false);
        let serving = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(serving);
        // A client that breaks off is its own business: nothing of ours has failed.
        if stopping.or(serving.as_mut()).await.is_none() {
            serving.as_mut().graceful_shutdown();
            let _ = serving.await;
        }
        self.served.by_region.fetch_add(signals.by_region.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    async fn handle(
        &self,
        request: Request<Incoming>,
        peer: Peer<'_>,
        client: &Arc<Client>,
        books: &Arc<Books>,
        signals: &Signals,
    ) -> Response<Outgoing> {
        let (head, mut body) = request.into_parts();
        let line = Line::of(&head.method, head.uri.path(), &head.headers, peer.address.ip());
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
}

/// Who is at the other end of a connection, whether others can read it, and who else is there.
#[derive(Debug, Clone, Copy)]
struct Peer<'c> {
    address: SocketAddr,
    secure: bool,
    crowd: &'c Crowd,
}

impl Peer<'_> {
    fn asker(self) -> Asker {
        Asker { address: self.address.ip(), secure: self.secure }
    }
}
