//! What a request that was let in asks for is done: with `If-Match` only if nothing was changed since it was read.

use std::time::Duration;

use catalog::problem::{Code, Problem};
use http::header::IF_MATCH;
use http::request::Parts;
use http::{HeaderValue, Method, Response};
use schema::Unchanged;
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::idempotency::is_kept;
use super::reply::{self, Ended, Sent};
use super::routes::{self, Found, Looked};
use super::translate::{self, Asked};
use super::{Api, BASE};
use crate::admin::{self, Envelope, Event};
use crate::plane::answer::names;

/// How often a change with `If-Match` is begun anew because something else was changed just then.
const TRIES: usize = 8;
/// The first pause between them; each one is longer by as much.
const PAUSE: Duration = Duration::from_millis(10);

impl Api {
    /// Does what is asked for, once it is known who asks; also whether it stands for the request's key. `gone` ends when nobody
    /// waits for the answer any more.
    pub(super) async fn performed(
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
                self.carry_out(asked.envelope, who, asked.wait, None, gone).await
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
                        self.carry_out(asked.envelope, who.clone(), asked.wait, only, &mut gone).await;
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
        Ok((reply::ended(ended, head.method == Method::GET, &head.headers), kept))
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
        match self.carry_out(asked.envelope, who.to_owned(), None, None, never).await.0 {
            Ended::Done { body, problem: None } if names(tags, &reply::tag(&body)) => {
                Ok(body["revision"].clone())
            }
            Ended::Failed(problem) => Err(problem),
            _ => Err(Problem::new(Code::ApiPreconditionFailed, "it is not as it was read")),
        }
    }

    /// Has it answered. Not in this connection's task: who goes away leaves the work running.
    pub(super) fn ask(
        &self,
        envelope: Envelope,
        who: String,
        only: Option<Unchanged>,
    ) -> mpsc::Receiver<Event> {
        let (events, inbox) = mpsc::channel(16);
        let site = self.site.clone();
        tokio::spawn(async move {
            let answering = admin::answer(&site, envelope, &who, events);
            match only {
                Some(only) => only.holds(answering).await,
                None => answering.await,
            }
        });
        inbox
    }

    /// Short work is done when this returns; of long work, where `wait` is over before it is or nobody waits, the task. Also
    /// whether there was a task.
    async fn carry_out(
        &self,
        envelope: Envelope,
        who: String,
        wait: Option<Duration>,
        only: Option<Unchanged>,
        gone: impl Future<Output = ()>,
    ) -> (Ended, bool) {
        tokio::pin!(gone);
        let mut inbox = self.ask(envelope, who, only);
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
