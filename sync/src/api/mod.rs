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
mod openapi;
mod patient;
mod reply;
pub mod routes;
mod streams;
mod translate;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use catalog::digest::Sha256Digest;
use catalog::problem::{Code, Problem};
use dp::server::Asker;
use http::header::{CONTENT_LENGTH, IF_MATCH};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use jiff::Timestamp;
use schema::Unchanged;
use schema::tokens::{AdminToken, Role};
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::{info, warn};

pub use listen::serve;
pub use reply::{Sent, with};

use crate::admin::{self, Envelope, Event};
use crate::clock;
use crate::health::Looking;
use crate::plane::door::Door;
use crate::site::Site;
use crate::tls;
use concurrency::Turns;
use connections::Busy;
use idempotency::{Repeats, is_kept};
use log_throttle::StrangerThrottle;
use reply::Ended;
use routes::{Found, Looked};
use streams::Reading;
use translate::Asked;

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
/// How often a change with `If-Match` is begun anew because something else was changed just then.
const TRIES: usize = 8;
/// The first pause between them; each one is longer by as much.
const PAUSE: Duration = Duration::from_millis(10);

/// The API of a site.
pub struct Api {
    site: Arc<Site>,
    door: Door,
    names: ArcSwap<Vec<String>>,
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
        let (names, door, repeats) = (tls::called(&settings), Door::default(), Arc::default());
        let working = Turns::new("requests", MOST_REQUESTS.0, MOST_REQUESTS.1);
        let large = Turns::new("large answers", MOST_LARGE.0, MOST_LARGE.1);
        let watching = Turns::new("event streams", MOST_STREAMS.0, MOST_STREAMS.1);
        let (looking, strangers) = (Looking::default(), StrangerThrottle::default());
        Ok(Arc::new(Self {
            names: ArcSwap::from_pointee(names),
            door,
            exchange,
            repeats,
            working,
            large,
            watching,
            looking,
            strangers,
            site,
        }))
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

    /// `spsync tls renew --name` may have given the site other names since: they are read again before one is refused.
    fn is_for_us(&self, head: &Parts) -> Result<(), Problem> {
        guard::is_for_us(head, &self.names.load()).or_else(|_| {
            self.names.store(Arc::new(tls::called(&self.site.settings())));
            guard::is_for_us(head, &self.names.load())
        })
    }

    async fn ended(
        self: &Arc<Self>,
        head: &Parts,
        body: Incoming,
        asker: Asker,
        busy: Busy,
    ) -> Result<Response<Sent>, Problem> {
        self.is_for_us(head)?;
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
        let is_get = head.method == Method::GET;
        let (mut tell, told) = oneshot::channel();
        let working = tokio::spawn(async move {
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
            let is_question = found.route.role == Role::Viewer;
            let response = response.and_then(|response| match is_question {
                true => sparing(&api.large, hash, response),
                false => Ok(response),
            });
            let _ = tell.send(response.map(|response| response.map(|body| body.held_by(turn))));
        });
        // A question is of no use to anybody else: who goes away ends it, down to what it reads of the database.
        let _ends = is_get.then(|| EndsWithAsker(working.abort_handle()));
        told.await.map_err(|_| Problem::new(Code::Internal, "the work ended by a defect"))?
    }

    /// Does what is asked for, once it is known who asks; also whether it stands for the request's key. `gone` ends when nobody
    /// waits for the answer any more.
    async fn performed(
        &self,
        head: &Parts,
        found: &Found,
        fields: Map<String, Value>,
        who: String,
        gone: impl Future<Output = ()>,
    ) -> Result<(Response<Sent>, bool), Problem> {
        tokio::pin!(gone);
        let path = head.uri.path().strip_prefix(BASE).unwrap_or_default();
        let query = head.uri.query().unwrap_or_default();
        let (ended, began) = match self.condition(head, path, found)? {
            None => {
                let asked = self.translated(found, query, fields)?;
                let is_question = head.method == Method::GET;
                self.carry_out(asked.envelope, who, asked.wait, None, is_question, gone).await
            }
            Some((tags, question)) => {
                let mut tries = 0;
                loop {
                    let unchanged = self.site.store.unchanged();
                    let revision = self.matched(tags, &question, &who).await?;
                    let mut fields = fields.clone();
                    if found.route.conditional {
                        fields.entry("revision").or_insert(revision);
                    }
                    let asked = self.translated(found, query, fields)?;
                    // Where the change itself compares the revision, nothing else has to stand still for ever.
                    let is_last = tries + 1 == TRIES;
                    let only = (!(is_last && found.route.conditional)).then(|| unchanged.clone());
                    let ended =
                        self.carry_out(asked.envelope, who.clone(), asked.wait, only, false, &mut gone).await;
                    if !unchanged.was_broken() {
                        break ended;
                    }
                    // Something was changed between the two; whether it was this is seen by looking again.
                    tries += 1;
                    if tries == TRIES {
                        return Err(Problem::new(Code::ApiBusy, "other things are changed all the time"));
                    }
                    tokio::time::sleep(PAUSE * tries as u32).await;
                }
            }
        };
        let kept = is_kept(&ended, began);
        let is_question = head.method == Method::GET;
        Ok((reply::ended(ended, is_question, found.route.moving, &head.headers), kept))
    }

    fn translated(&self, found: &Found, query: &str, fields: Map<String, Value>) -> Result<Asked, Problem> {
        let asked = translate::translate(found, query, fields, &self.exchange)?;
        // It would lead out of the folder, to whatever the site's user may read and write.
        match asked.files.iter().find(|file| file.is_symlink()) {
            None => Ok(asked),
            Some(link) => {
                let message = format!("`{}` is a link to another place", link.display());
                Err(Problem::new(Code::NameNotAllowed, message)
                    .help("put the file itself there, or mount its folder"))
            }
        }
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

    /// What a change depends on: its tags, and the question at the same path.
    fn condition<'h>(
        &self,
        head: &'h Parts,
        path: &str,
        found: &Found,
    ) -> Result<Option<(&'h HeaderValue, Found)>, Problem> {
        let Some(tags) = head.headers.get(IF_MATCH).filter(|_| head.method != Method::GET) else {
            return match found.route.conditional {
                true => Err(Problem::new(Code::ApiPreconditionRequired, "there is no `If-Match`")),
                false => Ok(None),
            };
        };
        match routes::find(&Method::GET, path) {
            Looked::Found(question) => Ok(Some((tags, question))),
            _ => Err(Problem::new(Code::Usage, "`If-Match` is for what can be read at the same path")),
        }
    }

    /// Holds tags against what is answered to the question, and gives its revision. Nothing is changed by looking, nor recorded.
    async fn matched(&self, tags: &HeaderValue, question: &Found, who: &str) -> Result<Value, Problem> {
        let asked = self.translated(question, "dry_run=true", Map::new())?;
        let never = std::future::pending();
        match self.carry_out(asked.envelope, who.to_owned(), None, None, true, never).await.0 {
            Ended::Done { body, problem: None }
                if reply::is_meant(tags, &reply::tag(&body, question.route.moving)) =>
            {
                Ok(body["revision"].clone())
            }
            Ended::Failed(problem) => Err(problem),
            _ => Err(Problem::new(Code::ApiPreconditionFailed, "it is not as it was read")),
        }
    }

    /// `is_question`: it ends when the second part of the answer is dropped, and nothing is changed by it.
    fn ask(
        &self,
        envelope: Envelope,
        who: String,
        only: Option<Unchanged>,
        is_question: bool,
    ) -> (mpsc::Receiver<Event>, Option<EndsWithAsker>) {
        let (events, inbox) = mpsc::channel(16);
        let site = self.site.clone();
        // Not in this connection's task: who goes away leaves the work running.
        let working = tokio::spawn(async move {
            let answering = admin::answer(&site, envelope, &who, events);
            match only {
                Some(only) => only.holds(answering).await,
                None => answering.await,
            }
        });
        (inbox, is_question.then(|| EndsWithAsker(working.abort_handle())))
    }

    /// Short work is done when this returns; of long work, where `wait` is over before it is or nobody waits, the task. Also
    /// whether there was a task.
    async fn carry_out(
        &self,
        envelope: Envelope,
        who: String,
        wait: Option<Duration>,
        only: Option<Unchanged>,
        is_question: bool,
        gone: impl Future<Output = ()>,
    ) -> (Ended, bool) {
        tokio::pin!(gone);
        let (mut inbox, _ends) = self.ask(envelope, who, only, is_question);
        let until = Instant::now() + wait.unwrap_or_default();
        let (mut running, mut began) = (None, false);
        loop {
            let event = match running.take() {
                None => inbox.recv().await,
                Some(task) => tokio::select! {
                    event = tokio::time::timeout_at(until, inbox.recv()) => match event {
                        Ok(event) => event,
                        Err(_) => return (Ended::Running(task), began),
                    },
                    () = &mut gone => return (Ended::Running(task), began),
                },
            };
            let ended = match event {
                Some(Event::Task { task }) => {
                    (running, began) = (Some(Box::new(task)), true);
                    continue;
                }
                Some(Event::Done { body, problem }) => Ended::Done { body, problem },
                Some(Event::Failed { problem }) => Ended::Failed(problem),
                None => Ended::Failed(Problem::new(Code::Internal, "the work ended without an answer")),
            };
            return (ended, began);
        }
    }
}

/// Work that ends when nobody waits for it any more.
struct EndsWithAsker(AbortHandle);

impl Drop for EndsWithAsker {
    fn drop(&mut self) {
        self.0.abort();
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
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::*;
    use crate::config::{Loaded, Settings};
    use http::header::ETAG;
    use schema::points::PointRole;

    /// What is answered to a request, whoever makes it.
    async fn answered(
        api: &Api,
        method: Method,
        path: &str,
        tag: Option<&str>,
        body: Value,
    ) -> (u16, String) {
        let request = Request::builder().method(method.clone()).uri(format!("{BASE}{path}"));
        let request = match tag {
            Some(tag) => request.header(IF_MATCH, tag),
            None => request,
        };
        let (head, ()) = request.body(()).expect("a request").into_parts();
        let Looked::Found(found) = routes::find(&method, path) else { panic!("{path} is no route") };
        let Value::Object(fields) = body else { panic!("no object") };
        let never = std::future::pending();
        let response = match api.performed(&head, &found, fields, "token test".to_owned(), never).await {
            Ok((response, _)) => response,
            Err(problem) => reply::problem(&problem, None),
        };
        let tag = response.headers().get(ETAG).map(|tag| tag.to_str().expect("a tag").to_owned());
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.expect("a body").to_bytes();
        (status, tag.unwrap_or_else(|| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// A thousand points and ten thousand devices say all the time that they live.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_changes_a_point_is_not_held_back_by_what_machines_say() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.site.data_dir = folder.path().join("site");
        settings.download.min_free = 0;
        let site = Site::open(Loaded::from(settings)).await.unwrap();
        let lyon = site.write(|w| w.add_point("lyon", "http://lyon", PointRole::Standard)).await.unwrap();
        let api = Api::new(site.clone()).unwrap();
        let (stop, beats) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let beating = tokio::spawn({
            let (site, stop, beats) = (site.clone(), stop.clone(), beats.clone());
            async move {
                while !stop.load(Ordering::Relaxed) {
                    let beat = beats.fetch_add(1, Ordering::Relaxed);
                    let now = clock::now();
                    let heard = move |w: &schema::Writer<'_>| {
                        w.point_seen(lyon, Some(beat), Some("1"), now)?;
                        w.put_facts("pc1", &json!({ "beat": beat }), "10.0.0.1", now)
                    };
                    site.write_aside(heard).await.unwrap();
                }
            }
        });
        for rate in 1..=20_u32 {
            let (status, tag) = answered(&api, Method::GET, "/dps/lyon", None, json!({})).await;
            assert_eq!(status, 200);
            // Between reading and changing an administrator thinks, and the point speaks.
            let from = beats.load(Ordering::Relaxed);
            while beats.load(Ordering::Relaxed) < from + 3 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let change = json!({ "changes": [["rate", format!("{rate}MiB/s")]] });
            let (status, body) = answered(&api, Method::PATCH, "/dps/lyon", Some(&tag), change.clone()).await;
            assert_eq!(status, 200, "{body}");
            // Who read it before that is told so.
            let (status, body) = answered(&api, Method::PATCH, "/dps/lyon", Some(&tag), change).await;
            assert_eq!(status, 412, "{body}");
        }
        stop.store(true, Ordering::Relaxed);
        beating.await.unwrap();
        let kept = site.read(|r| r.point_named("lyon")).await.unwrap().unwrap();
        assert_eq!(kept.rate, Some(20 << 20));
        site.close().await;
    }

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
