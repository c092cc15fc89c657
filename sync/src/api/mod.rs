//! The admin API over HTTP, below `/api/v1` of `[admin] listen` and `listen_tls`; never on the client plane.
//!
//! ```text
//! connection ─▶ guard: name, origin ─▶ token, role ─▶ routes ─▶ translate ─▶ admin::answer ─▶ reply
//! ```
//! Nothing is decided here that the command line decides: method, path, query and body become a request of
//! [`crate::admin`], and what it answers becomes status and JSON. Tokens are looked at over TLS or from this machine only.

mod concurrency;
mod connections;
mod exchange;
mod guard;
mod idempotency;
mod listen;
mod log_throttle;
#[cfg(test)]
mod moving_tests;
mod openapi;
mod patient;
mod perform;
mod reply;
pub mod routes;
mod streams;
mod translate;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use catalog::digest::Sha256Digest;
use catalog::problem::{Code, Problem};
use dp::server::Asker;
use http::header::{CONTENT_LENGTH, IF_MATCH};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use jiff::Timestamp;
use schema::tokens::{AdminToken, Role};
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{info, warn};

pub use listen::serve;
pub use reply::{Sent, with};

use crate::clock;
use crate::health::Looking;
use crate::plane::door::Door;
use crate::site::Site;
use concurrency::Turns;
use connections::Busy;
use idempotency::Repeats;
use log_throttle::StrangerThrottle;
use routes::Looked;
use streams::Reading;

/// Where it begins.
pub const BASE: &str = "/api/v1";
/// The field that says that a request may come twice.
const REPEATED: &str = "idempotency-key";
/// The most bytes of a body: as on the admin socket.
const LARGEST_BODY: usize = 16 << 20;
/// The most bytes of a question's body, whoever may ask it.
const LARGEST_QUESTION: usize = 1 << 20;
/// The time that a body may take.
const BODY_TIME: Duration = Duration::from_secs(30);
/// Requests that are worked on at once, of all and of one token; also those that wait for a task.
const MOST_REQUESTS: (usize, usize) = (64, 24);
/// Turns that who may only ask leaves to others.
const SPARED: usize = 16;
/// Answers to questions that are on their way at once and have more than this many bytes, of all and of one token.
const LARGE: u64 = 1 << 20;
const MOST_LARGE: (usize, usize) = (16, 4);
/// Event streams at once, of all and of one token.
const MOST_STREAMS: (usize, usize) = (24, 6);

/// The API of a site.
pub struct Api {
    site: Arc<Site>,
    door: Door,
    exchange: PathBuf,
    repeats: Arc<Repeats>,
    working: Arc<Turns>,
    large: Arc<Turns>,
    watching: Arc<Turns>,
    looking: Looking,
    strangers: StrangerThrottle,
}

impl Api {
    /// The API of this site, with a folder for files that requests name.
    ///
    /// # Errors
    /// `DATA_DIR_NOT_WRITABLE`.
    pub fn new(site: Arc<Site>) -> Result<Arc<Self>, Problem> {
        let settings = site.settings();
        let exchange = exchange::make(&settings)?;
        let (door, repeats) = (Door::default(), Arc::default());
        let working = Turns::new("requests", MOST_REQUESTS.0, MOST_REQUESTS.1);
        let large = Turns::new("large answers", MOST_LARGE.0, MOST_LARGE.1);
        let watching = Turns::new("event streams", MOST_STREAMS.0, MOST_STREAMS.1);
        let (looking, strangers) = (Looking::default(), StrangerThrottle::default());
        Ok(Arc::new(Self { door, exchange, repeats, working, large, watching, looking, strangers, site }))
    }

    /// Answers what is below [`BASE`].
    async fn answer(
        self: &Arc<Self>,
        request: Request<Incoming>,
        asker: Asker,
        busy: Busy,
    ) -> Response<Sent> {
        let (head, body) = request.into_parts();
        match self.ended(&head, body, asker, busy).await {
            Ok(response) => response,
            // Whatever `admin::answer` refuses, it logs itself.
            Err(problem) => {
                // Causes may repeat what was sent, which may be a secret.
                let path: String = head.uri.path().chars().take(200).collect();
                if let Some(left_out) = self.strangers.tells(problem.code, Instant::now().into_std()) {
                    info!(
                        code = %problem.code, client = %asker.address,
                        "refused {} {} of {}: [{}] {}",
                        head.method, path.escape_debug(), asker.address, problem.code, problem.message,
                    );
                    if left_out > 0 {
                        info!("{left_out} more requests of strangers were refused");
                    }
                }
                reply::problem(&problem, None)
            }
        }
    }

    async fn ended(
        self: &Arc<Self>,
        head: &Parts,
        body: Incoming,
        asker: Asker,
        busy: Busy,
    ) -> Result<Response<Sent>, Problem> {
        guard::is_for_us(head, &self.site.called.load())?;
        let (hash, token) = self.token(head, asker).await?;
        let who = format!("token {}", token.name);
        let path = head.uri.path().strip_prefix(BASE).unwrap_or_default();
        if head.method == Method::GET {
            if path.is_empty() || path == "/" {
                return Ok(self.welcome(&token));
            }
            if path == "/openapi.json" {
                return Ok(with(StatusCode::OK, openapi::document().to_string(), "application/json"));
            }
            let reading = || -> Result<Reading, Problem> {
                let turn = self.watching.take(hash, 0)?;
                Ok(Reading { token: hash, who: who.clone(), turn, busy: busy.clone() })
            };
            if path == "/events" {
                return Ok(self.all_events(reading()?));
            }
            if let Some(task) = path.strip_prefix("/tasks/").and_then(|rest| rest.strip_suffix("/events")) {
                let task = task.parse().map_err(|_| Problem::new(Code::Usage, "a task has a number"))?;
                return Ok(self.events_of(task, reading()?));
            }
        }
        let found = match routes::find(&head.method, path) {
            Looked::Found(found) => found,
            Looked::Nothing => return Err(Problem::new(Code::ApiRouteUnknown, "there is no such route")),
            Looked::Other(methods) => {
                let message = format!("this route has {}", methods.join(", "));
                let problem = Problem::new(Code::ApiMethodNotAllowed, message);
                info!(code = %problem.code, client = %asker.address, "refused {}: {problem}", asker.address);
                return Ok(reply::other_methods(&problem, &methods));
            }
        };
        if token.role < found.route.role {
            let message = format!(
                "this needs a token of the role `{}`, this one is `{}`",
                found.route.role, token.role
            );
            return Err(Problem::new(Code::NotPermitted, message));
        }
        let spared = if token.role == Role::Viewer { SPARED } else { 0 };
        let turn = self.working.take(hash, spared)?;
        let largest = if found.route.role == Role::Viewer { LARGEST_QUESTION } else { LARGEST_BODY };
        let bytes = read(head, body, largest).await?;
        let fields = translate::body(&bytes)?;
        let key = head.headers.get(REPEATED).filter(|_| head.method != Method::GET);
        let begun = match key.map(|key| (hash, key.to_str().unwrap_or_default().to_owned())) {
            None => None,
            Some(key) => {
                match self.repeats.begin(&key, fingerprint(head, &bytes), Instant::now().into_std())? {
                    idempotency::Turn::Again(given) => {
                        return Ok(reply::again(given).map(|body| body.held_by(turn)));
                    }
                    idempotency::Turn::First(begun) => Some(begun),
                }
            }
        };
        // Not in this connection's task: who goes away and repeats the request finds its answer.
        let (api, head) = (self.clone(), head.clone());
        let ends_with_asker = found.route.ends_with_asker();
        let (mut tell, told) = oneshot::channel();
        let mut working = JoinSet::new();
        working.spawn(async move {
            let performed = api.performed(&head, &found, fields, who, tell.closed()).await;
            let (response, kept) = match performed {
                Ok((response, kept)) => (Ok(response), kept),
                Err(problem) => (Err(problem), false),
            };
            if let Some(begun) = begun {
                match response.as_ref().ok().filter(|_| kept).and_then(reply::given) {
                    Some(given) => begun.keep(given),
                    None => begun.forget(),
                }
            }
            // Whatever a viewer may do changes nothing: it can be refused for its size still.
            let may_be_refused = found.route.role == Role::Viewer;
            let response = response.and_then(|response| match may_be_refused {
                true => sparing(&api.large, hash, response),
                false => Ok(response),
            });
            let _ = tell.send(response.map(|response| response.map(|body| body.held_by(turn))));
        });
        // A question is of no use to anybody else: who goes away ends it, down to what it reads of the database.
        if !ends_with_asker {
            working.detach_all();
        }
        told.await.map_err(|_| Problem::new(Code::Internal, "the work ended by a defect"))?
    }

    /// The token that is shown, and its SHA-256, if it is good.
    async fn token(&self, head: &Parts, asker: Asker) -> Result<(Sha256Digest, AdminToken), Problem> {
        let now = clock::now();
        let admitted = self.door.admits(asker, now);
        if let Err(problem) = &admitted
            && problem.code != Code::TooManyTries
        {
            return Err(problem.clone());
        }
        let hash = guard::token(&head.headers)?.hash();
        let kept = self.site.read(move |r| r.admin_token(hash)).await?;
        // A good token is no guess: who guesses from the same address shuts nobody out.
        let found = still_good(kept, now);
        if let Err(problem) = &found {
            admitted?;
            self.door.counts(asker, problem, now);
        }
        found.map(|token| (hash, token))
    }

    fn welcome(&self, token: &AdminToken) -> Response<Sent> {
        let settings = self.site.settings();
        let body = json!({
            "spsync": env!("CARGO_PKG_VERSION"), "api": "v1", "site": self.site.code(),
            "release": settings.site.release, "role": token.role,
        });
        with(StatusCode::OK, body.to_string(), "application/json")
    }
}

/// A token, unless it is over, was revoked, or never was.
fn still_good(kept: Option<AdminToken>, now: Timestamp) -> Result<AdminToken, Problem> {
    kept.filter(|token| token.is_good(now))
        .ok_or_else(|| Problem::new(Code::ApiTokenRefused, "the token is unknown, is over, or was revoked"))
}

/// A large answer waits for its reader in memory: few at once do.
fn sparing(
    turns: &Arc<Turns>,
    token: Sha256Digest,
    response: Response<Sent>,
) -> Result<Response<Sent>, Problem> {
    if response.body().size_hint().lower() <= LARGE {
        return Ok(response);
    }
    let turn = turns.take(token, 0)?;
    Ok(response.map(|body| body.held_by(turn)))
}

/// What makes two requests the same.
fn fingerprint(head: &Parts, body: &Bytes) -> Sha256Digest {
    let line = format!("{} {} {:?}\n", head.method, head.uri, head.headers.get(IF_MATCH));
    Sha256Digest::of(&[line.as_bytes(), body].concat())
}

async fn read(head: &Parts, body: Incoming, largest: usize) -> Result<Bytes, Problem> {
    let large = || Problem::new(Code::ApiTooLarge, format!("the body has more than {largest} bytes"));
    guard::may_have_body(&head.method, &head.headers, !body.is_end_stream())?;
    let announced =
        head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > largest as u64) {
        return Err(large());
    }
    match tokio::time::timeout(BODY_TIME, Limited::new(body, largest).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(large()),
        Ok(Err(error)) => {
            warn!("a body broke off: {error}");
            Err(Problem::new(Code::Usage, "the body broke off"))
        }
        Err(_) => Err(Problem::new(Code::Usage, "the body did not come in time")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_answers_hold_turns_until_they_are_read() {
        let turns = Turns::new("large answers", 3, 2);
        let answer = |token: &str, bytes: usize| {
            let response = with(StatusCode::OK, vec![0; bytes], "application/json");
            sparing(&turns, Sha256Digest::of(token.as_bytes()), response).map_err(|problem| problem.code)
        };
        let large = LARGE as usize + 1;
        let mut held = vec![answer("a", large).unwrap(), answer("a", large).unwrap()];
        assert_eq!(answer("a", large).unwrap_err(), Code::ApiTooMany);
        assert!(answer("a", large - 1).is_ok(), "what is small needs none");
        held.push(answer("b", large).unwrap());
        assert_eq!(answer("b", large).unwrap_err(), Code::ApiBusy);
        held.clear();
        assert!(answer("a", large).is_ok());

        // As hyper reads it: what it has taken waits for the reader in its buffers, and has no turn.
        let mut body = answer("a", large).unwrap().into_body();
        let _other = answer("a", large).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut read = 0;
        while !body.is_end_stream() {
            assert_eq!(answer("a", large).unwrap_err(), Code::ApiTooMany, "after {read} bytes");
            let step = runtime.block_on(body.frame()).unwrap().unwrap().into_data().unwrap();
            assert!((1..=64 * 1024).contains(&step.len()));
            read += step.len();
        }
        assert_eq!(read, large);
        drop(body);
        assert!(answer("a", large).is_ok());
    }
}
