//! Services that share the listener of the content, and how they get the body of a request.
//!
//! Content routes have no bodies and never come here. A service names its routes and the most bytes that one of them
//! takes; what is longer is refused before it is read, what comes too slowly when its time is over (in a crowd much sooner), and
//! all bodies that are being read share one room in memory. A request whose body is not read to its end is the last one of its connection.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use catalog::digest::Sha256Digest;
use http::request::Parts;
use http::{Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::access::Asker;
use super::body::ContentBody;
use super::crowd::{Crowd, Wait};
use super::respond;
use super::shelf::Servable;
use super::stall::LEAST_RATE;

/// KiB of all bodies that are in memory at once.
const ROOM_KIB: usize = 64 * 1024;

/// What answers requests for anything but content.
pub trait Service: Send + Sync {
    /// The most bytes of a body at this path; `None` where the path is no route of this service. Segments are decoded.
    fn largest_body(&self, path: &[&str]) -> Option<u64>;

    /// Answers a request to one of its routes, of any method.
    fn answer<'s>(&'s self, call: &'s mut Call<'_>) -> Answering<'s>;
}

/// An answer on its way.
pub type Answering<'s> = Pin<Box<dyn Future<Output = Response<ContentBody>> + Send + 's>>;

/// One request for a service.
pub struct Call<'r> {
    /// Method, target and fields.
    pub head: &'r Parts,
    /// The segments of its path, decoded.
    pub path: &'r [&'r str],
    /// Who asks.
    pub peer: SocketAddr,
    /// Whether it came over TLS.
    pub secure: bool,
    /// Its body.
    pub body: RequestBody<'r>,
}

impl Call<'_> {
    /// Who asks.
    pub fn asker(&self) -> Asker {
        Asker { address: self.peer.ip(), secure: self.secure }
    }

    /// The key that the request shows, if it shows one.
    pub fn bearer(&self) -> Option<&str> {
        super::access::bearer(&self.head.headers)
    }
}

/// An answer of a service that stands for a content, as an extension of the response: the server answers with the content
/// instead, whether or not it is on the shelf. Preconditions and ranges are honoured.
#[derive(Debug, Clone)]
pub struct Deliver {
    /// Which content.
    pub content: Sha256Digest,
    /// What is known of it.
    pub servable: Servable,
}

/// A remark of a service about its answer, for the access log: an extension of the response.
#[derive(Debug, Clone)]
pub struct Remark(pub String);

/// The body of a request, not read yet.
pub struct RequestBody<'r> {
    incoming: &'r mut Incoming,
    largest: u64,
    patience: Duration,
    crowd: &'r Crowd,
    room: &'r Room,
    whole: bool,
}

/// Memory for the bodies of requests.
#[derive(Debug, Clone)]
pub(super) struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ROOM_KIB)))
    }
}

/// A whole body. Its place in memory is given back when it is dropped.
pub struct Received {
    bytes: Vec<u8>,
    room: Option<OwnedSemaphorePermit>,
}

impl Deref for Received {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.bytes.len())
    }
}

/// Why a body is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It is longer than the route takes, or says so.
    TooLarge,
    /// It did not come in time.
    TooSlow,
    /// It ends too early, or is not framed as it says.
    Damaged,
    /// Too many others are being read.
    Busy,
}

impl Refused {
    /// 413, 408, 400 or 503. The connection ends.
    pub fn response(self) -> Response<ContentBody> {
        match self {
            Self::TooLarge => respond::last(StatusCode::PAYLOAD_TOO_LARGE),
            Self::TooSlow => respond::last(StatusCode::REQUEST_TIMEOUT),
            Self::Damaged => respond::bad_request(),
            Self::Busy => respond::try_later(),
        }
    }
}

impl<'r> RequestBody<'r> {
    pub(super) fn new(
        incoming: &'r mut Incoming,
        largest: u64,
        (patience, crowd): (Duration, &'r Crowd),
        room: &'r Room,
    ) -> Self {
        Self { incoming, largest, patience, crowd, room, whole: false }
    }

    /// Reads all of it. A client that waits for `100 Continue` gets that now.
    ///
    /// # Errors
    /// [`Refused`], which says how to answer.
    pub async fn read(&mut self) -> Result<Received, Refused> {
        // What it promises is known before anything is read; without a length the least is 0.
        if self.incoming.size_hint().lower() > self.largest {
            return Err(Refused::TooLarge);
        }
        let mut received = Received { bytes: Vec::new(), room: None };
        let mut wait = Wait::begins(self.crowd, self.patience);
        loop {
            // Where others wait for its place, who announced a body sends it as fast at least as a reader reads.
            let lags = |waited: Duration| (received.bytes.len() as u64) < LEAST_RATE * waited.as_secs();
            let frame = tokio::select! {
                biased;
                frame = self.incoming.frame() => frame,
                () = wait.ends(lags) => return Err(Refused::TooSlow),
            };
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|_| Refused::Damaged)?;
            // Trailers say nothing to us.
            let Ok(data) = frame.into_data() else { continue };
            if (received.bytes.len() + data.len()) as u64 > self.largest {
                return Err(Refused::TooLarge);
            }
            self.room.grow(&mut received, &data)?;
            received.bytes.extend_from_slice(&data);
        }
        self.whole = true;
        Ok(received)
    }

    /// Whether nothing of it is left to be read, so that another request may follow.
    pub(super) fn is_over(&self) -> bool {
        self.whole || self.incoming.is_end_stream()
    }
}

impl Room {
    /// Takes as much room as `more` needs beyond what `received` has.
    fn grow(&self, received: &mut Received, more: &Bytes) -> Result<(), Refused> {
        let needed = (received.bytes.len() + more.len()).div_ceil(1024);
        let taken = received.room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let Ok(lacking @ 1..) = u32::try_from(needed.saturating_sub(taken)) else { return Ok(()) };
        let permit = self.0.clone().try_acquire_many_owned(lacking).map_err(|_| Refused::Busy)?;
        match &mut received.room {
            Some(room) => room.merge(permit),
            room @ None => *room = Some(permit),
        }
        Ok(())
    }
}
