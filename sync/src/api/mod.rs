//! The admin API over HTTP, below `/api/v1` of `[admin] listen` and `listen_tls`; never on the client plane.
//!
//! ```text
//! connection ─▶ guard: name, origin ─▶ token, role ─▶ routes ─▶ translate ─▶ admin::answer ─▶ reply
//! ```
//! Nothing is decided here that the command line decides: method, path, query and body become a request of
//! [`crate::admin`], and what it answers becomes status and JSON. Tokens are looked at over TLS or from this machine only.

mod guard;
mod listen;
mod openapi;
mod repeats;
mod reply;
pub mod routes;
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
use schema::tokens::AdminToken;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{info, warn};

pub use listen::serve;
pub use reply::{Sent, with};

use crate::admin::{self, Envelope, Event};
use crate::clock;
use crate::plane::door::Door;
use crate::site::Site;
use crate::tls;
use repeats::Repeats;
use reply::Ended;
use routes::{Found, Looked};

/// Where it begins.
pub const BASE: &str = "/api/v1";
/// The folder in the data directory for files that requests name.
pub const EXCHANGE: &str = "exchange";
/// The field that says that a request may come twice.
const REPEATED: &str = "idempotency-key";
/// The most bytes of a body: as on the admin socket.
const LARGEST_BODY: usize = 16 << 20;
/// The time that a body may take.
const BODY_TIME: Duration = Duration::from_secs(30);
/// Somebody who watches is let go after this, and comes again.
const LONGEST_WATCH: Duration = Duration::from_secs(3_000);
/// How often it is looked whether tasks have changed.
const LOOK: Duration = Duration::from_secs(1);

/// The API of a site.
pub struct Api {
    site: Arc<Site>,
    door: Door,
    names: Vec<String>,
    exchange: PathBuf,
    repeats: Repeats,
}

impl Api {
    /// The API of this site, with a folder for files that requests name.
    ///
    /// # Errors
    /// `DATA_DIR_NOT_WRITABLE`.
    pub fn new(site: Arc<Site>) -> Result<Arc<Self>, Problem> {
        use std::os::unix::fs::DirBuilderExt as _;
        let settings = site.settings();
        let exchange = settings.site.data_dir.join(EXCHANGE);
        std::fs::DirBuilder::new().recursive(true).mode(0o750).create(&exchange).map_err(|error| {
            let message = format!("`{}` cannot be made", exchange.display());
            Problem::new(Code::DataDirNotWritable, message).because_of(Some(&error))
        })?;
        let (names, door, repeats) = (tls::called(&settings), Door::default(), Repeats::default());
        Ok(Arc::new(Self { names, door, exchange, repeats, site }))
    }

    /// Answers what is below [`BASE`].
    pub async fn answer(self: &Arc<Self>, request: Request<Incoming>, asker: Asker) -> Response<Sent> {
        let (head, body) = request.into_parts();
        match self.ended(&head, body, asker).await {
            Ok(response) => response,
            // Whatever `admin::answer` refuses, it logs itself.
            Err(problem) => {
                // Causes may repeat what was sent, which may be a secret.
                let path: String = head.uri.path().chars().take(200).collect();
                info!(
                    code = %problem.code, client = %asker.address,
                    "refused {} {} of {}: [{}] {}",
                    head.method, path.escape_debug(), asker.address, problem.code, problem.message,
                );
                reply::problem(&problem, None)
            }
        }
    }

    async fn ended(
        self: &Arc<Self>,
        head: &Parts,
        body: Incoming,
        asker: Asker,
    ) -> Result<Response<Sent>, Problem> {
        guard::is_for_us(head, &self.names)?;
        let token = self.token(head, asker).await?;
        let who = format!("token {}", token.name);
        let path = head.uri.path().strip_prefix(BASE).unwrap_or_default();
        if head.method == Method::GET {
            if path.is_empty() || path == "/" {
                return Ok(self.welcome(&token));
            }
            if path == "/openapi.json" {
                return Ok(with(StatusCode::OK, openapi::document().to_string(), "application/json"));
            }
            if path == "/events" {
                return Ok(self.all_events(who));
            }
            if let Some(task) = path.strip_prefix("/tasks/").and_then(|rest| rest.strip_suffix("/events")) {
                let task = task.parse().map_err(|_| Problem::new(Code::Usage, "a task has a number"))?;
                return Ok(self.events_of(task, who));
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
        let bytes = read(head, body).await?;
        let fields = translate::body(&bytes)?;
        let key = head.headers.get(REPEATED).filter(|_| head.method != Method::GET);
        let key = key.map(|key| (token.name, key.to_str().unwrap_or_default().to_owned()));
        if let Some(key) = &key
            && let Some(given) = self.repeats.begin(key, fingerprint(head, &bytes), clock::now())?
        {
            return Ok(reply::again(given));
        }
        // Not in this connection's task: who goes away and repeats the request finds its answer.
        let (api, head) = (self.clone(), head.clone());
        let working = tokio::spawn(async move {
            let response = api.performed(&head, &found, fields, who).await;
            if let Some(key) = &key {
                match response.as_ref().ok().and_then(reply::given) {
                    Some(given) => api.repeats.end(key, given),
                    None => api.repeats.forget(key),
                }
            }
            response
        });
        working.await.map_err(|died| Problem::of(Code::Internal, &died))?
    }

    /// Does what is asked for, once it is known who asks.
    async fn performed(
        &self,
        head: &Parts,
        found: &Found,
        mut fields: Map<String, Value>,
        who: String,
    ) -> Result<Response<Sent>, Problem> {
        let path = head.uri.path().strip_prefix(BASE).unwrap_or_default();
        if let Some(revision) = self.precondition(head, path, found, &who).await? {
            fields.entry("revision").or_insert(revision);
        }
        let query = head.uri.query().unwrap_or_default();
        let asked = translate::translate(found, query, fields, &self.exchange)?;
        let ended = self.carry_out(asked.envelope, who, asked.wait).await;
        Ok(reply::ended(ended, head.method == Method::GET, &head.headers))
    }

    /// The token that is shown, if it is good.
    async fn token(&self, head: &Parts, asker: Asker) -> Result<AdminToken, Problem> {
        let now = clock::now();
        self.door.admits(asker, now)?;
        let hash = guard::token(&head.headers)?.hash();
        let kept = self.site.read(move |r| r.admin_token(hash)).await?;
        kept.filter(|token| token.is_good(now)).ok_or_else(|| {
            let problem =
                Problem::new(Code::ApiTokenRefused, "the token is unknown, is over, or was revoked");
            self.door.counts(asker, &problem, now);
            problem
        })
    }

    fn welcome(&self, token: &AdminToken) -> Response<Sent> {
        let settings = self.site.settings();
        let body = json!({
            "spsync": env!("CARGO_PKG_VERSION"), "api": "v1", "site": self.site.code(),
            "release": settings.site.release, "role": token.role,
        });
        with(StatusCode::OK, body.to_string(), "application/json")
    }

    /// Holds `If-Match` against what the same path answers to GET, and gives its revision, which the change needs.
    async fn precondition(
        &self,
        head: &Parts,
        path: &str,
        found: &Found,
        who: &str,
    ) -> Result<Option<Value>, Problem> {
        let Some(field) = head.headers.get(IF_MATCH).filter(|_| head.method != Method::GET) else {
            return match found.route.conditional {
                true => Err(Problem::new(Code::ApiPreconditionRequired, "there is no `If-Match`")),
                false => Ok(None),
            };
        };
        let Looked::Found(question) = routes::find(&Method::GET, path) else {
            return Err(Problem::new(Code::Usage, "`If-Match` is for what can be read at the same path"));
        };
        let asked = translate::translate(&question, "", Map::new(), &self.exchange)?;
        match self.carry_out(asked.envelope, who.to_owned(), None).await {
            Ended::Done { body, problem: None } if reply::names(field, &reply::tag(&body)) => {
                Ok(found.route.conditional.then(|| body["revision"].clone()))
            }
            Ended::Failed(problem) => Err(problem),
            _ => Err(Problem::new(Code::ApiPreconditionFailed, "it is not as it was read")),
        }
    }

    fn ask(&self, envelope: Envelope, who: String) -> mpsc::Receiver<Event> {
        let (events, inbox) = mpsc::channel(16);
        let site = self.site.clone();
        // Not in this connection's task: who goes away leaves the work running.
        tokio::spawn(async move { admin::answer(&site, envelope, &who, events).await });
        inbox
    }

    /// Short work is done when this returns; of long work, where `wait` is over before it is, the task.
    async fn carry_out(&self, envelope: Envelope, who: String, wait: Option<Duration>) -> Ended {
        let mut inbox = self.ask(envelope, who);
        let until = Instant::now() + wait.unwrap_or_default();
        let mut running = None;
        loop {
            let event = match running.take() {
                None => inbox.recv().await,
                Some(task) => match tokio::time::timeout_at(until, inbox.recv()).await {
                    Ok(event) => event,
                    Err(_) => return Ended::Running(task),
                },
            };
            match event {
                Some(Event::Task { task }) => running = Some(Box::new(task)),
                Some(Event::Done { body, problem }) => return Ended::Done { body, problem },
                Some(Event::Failed { problem }) => return Ended::Failed(problem),
                None => {
                    return Ended::Failed(Problem::new(Code::Internal, "the work ended without an answer"));
                }
            }
        }
    }

    /// How far a task is, as often as something changes, and its end.
    fn events_of(&self, task: i64, who: String) -> Response<Sent> {
        let envelope =
            Envelope { request: admin::Request::TaskWait { task }, dry_run: false, no_wait: false };
        let mut inbox = self.ask(envelope, who);
        let (out, lines) = mpsc::channel(16);
        tokio::spawn(tokio::time::timeout(LONGEST_WATCH, async move {
            while let Some(event) = inbox.recv().await {
                if out.send(line(&event)).await.is_err() {
                    return;
                }
            }
        }));
        reply::events(lines)
    }

    /// Every task that runs, as it changes.
    fn all_events(&self, who: String) -> Response<Sent> {
        let (out, lines) = mpsc::channel(16);
        let site = self.site.clone();
        tokio::spawn(tokio::time::timeout(LONGEST_WATCH, async move {
            // Something at once, so that the asker knows that it is heard.
            let mut known: Vec<Value> = Vec::new();
            let mut first = true;
            if out.send(Bytes::from_static(b": tasks of this site\n\n")).await.is_err() {
                return;
            }
            loop {
                let (events, mut inbox) = mpsc::channel(1);
                let request = admin::Request::TaskList { limit: 50 };
                let envelope = Envelope { request, dry_run: false, no_wait: false };
                admin::answer(&site, envelope, &who, events).await;
                let Some(Event::Done { body: Value::Array(mut tasks), .. }) = inbox.recv().await else {
                    return;
                };
                tasks.reverse();
                for task in tasks.iter().filter(|task| !known.contains(task)) {
                    let over = first && !task["finished"].is_null();
                    if !over && out.send(text("task", task)).await.is_err() {
                        return;
                    }
                }
                (known, first) = (tasks, false);
                tokio::time::sleep(LOOK).await;
                if out.is_closed() {
                    return;
                }
            }
        }));
        reply::events(lines)
    }
}

/// What makes two requests the same.
fn fingerprint(head: &Parts, body: &Bytes) -> Sha256Digest {
    let line = format!("{} {} {:?}\n", head.method, head.uri, head.headers.get(IF_MATCH));
    Sha256Digest::of(&[line.as_bytes(), body].concat())
}

fn line(event: &Event) -> Bytes {
    let value = serde_json::to_value(event).unwrap_or_default();
    text(value["event"].as_str().unwrap_or("task"), &value)
}

/// An event as EventSource reads it; JSON has no line breaks.
fn text(kind: &str, value: &Value) -> Bytes {
    format!("event: {kind}\ndata: {value}\n\n").into()
}

async fn read(head: &Parts, body: Incoming) -> Result<Bytes, Problem> {
    let large = || Problem::new(Code::ApiTooLarge, format!("the body has more than {LARGEST_BODY} bytes"));
    guard::may_have_body(&head.method, &head.headers, !body.is_end_stream())?;
    let announced =
        head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > LARGEST_BODY as u64) {
        return Err(large());
    }
    match tokio::time::timeout(BODY_TIME, Limited::new(body, LARGEST_BODY).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(large()),
        Ok(Err(error)) => {
            warn!("a body broke off: {error}");
            Err(Problem::new(Code::Usage, "the body broke off"))
        }
        Err(_) => Err(Problem::new(Code::Usage, "the body did not come in time")),
    }
}
