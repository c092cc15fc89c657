//! What a request that was let in asks for is done: with `If-Match` only if nothing was changed since it was read.

use std::time::Duration;

use catalog::problem::{Code, Problem};
use http::header::IF_MATCH;
use http::request::Parts;
use http::{HeaderValue, Method, Response};
use schema::Unchanged;
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::idempotency::is_kept;
use super::reply::{self, Ended, Sent};
use super::routes::{self, Found, Looked};
use super::translate::{self, Asked};
use super::{Api, BASE};
use crate::admin::{self, Envelope, Event};
use crate::blocking::blocking;

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
                let asked = self.translated(found, query, fields).await?;
                self.carry_out(asked.envelope, who, asked.wait, None, found.route.ends_with_asker(), gone)
                    .await
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
                    let asked = self.translated(found, query, fields).await?;
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
        let is_get = head.method == Method::GET;
        Ok((reply::ended(ended, is_get, found.route.moving, &head.headers), kept))
    }

    async fn translated(
        &self,
        found: &Found,
        query: &str,
        fields: Map<String, Value>,
    ) -> Result<Asked, Problem> {
        let asked = translate::translate(found, query, fields, &self.exchange)?;
        if asked.files.is_empty() {
            return Ok(asked);
        }
        // It would lead out of the folder, to whatever the site's user may read and write.
        let files = asked.files.clone();
        match blocking(move || Ok(files.into_iter().find(|file| file.is_symlink()))).await? {
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
        let asked = self.translated(question, "dry_run=true", Map::new()).await?;
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

    /// Has it answered. Not in this connection's task: who goes away leaves the work running, unless it `ends_with_asker`: then it
    /// does when what works is dropped.
    pub(super) fn ask(
        &self,
        envelope: Envelope,
        who: String,
        only: Option<Unchanged>,
        ends_with_asker: bool,
    ) -> (mpsc::Receiver<Event>, JoinSet<()>) {
        let (events, inbox) = mpsc::channel(16);
        let site = self.site.clone();
        let mut working = JoinSet::new();
        working.spawn(async move {
            let answering = admin::answer(&site, envelope, &who, events);
            match only {
                Some(only) => only.holds(answering).await,
                None => answering.await,
            }
        });
        if !ends_with_asker {
            working.detach_all();
        }
        (inbox, working)
    }

    /// Short work is done when this returns; of long work, where `wait` is over before it is or nobody waits, the task. Also
    /// whether there was a task.
    pub(super) async fn carry_out(
        &self,
        envelope: Envelope,
        who: String,
        wait: Option<Duration>,
        only: Option<Unchanged>,
        ends_with_asker: bool,
        gone: impl Future<Output = ()>,
    ) -> (Ended, bool) {
        tokio::pin!(gone);
        let (mut inbox, _working) = self.ask(envelope, who, only, ends_with_asker);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use http::Request;
    use http::header::ETAG;
    use http_body_util::BodyExt as _;
    use schema::points::PointRole;
    use serde_json::json;

    use super::*;
    use crate::clock;
    use crate::site::small;

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

    /// Whoever may write into the folder for requests may put there what never ends, and stop nobody by it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_fifo_that_a_request_names_holds_nobody_up() {
        let (_folder, site) = small(|_| {}).await;
        let api = Api::new(site.clone()).unwrap();
        let exchange = site.settings().exchange_dir();
        std::fs::create_dir_all(exchange.join("app")).unwrap();
        let fifos = [exchange.join("f.cab"), exchange.join("app/setup.exe")];
        fifos.iter().for_each(|fifo| crate::given::fifo(fifo));
        // Whoever waits for a writer gets one in the end, so that the test fails and does not hang.
        let (over, waits) = std::sync::mpsc::channel::<()>();
        let writer = std::thread::spawn(move || {
            let mut was_needed = false;
            while waits.recv_timeout(Duration::from_secs(10))
                == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                // It can only be opened where somebody reads or waits to.
                for fifo in &fifos {
                    was_needed |= given_up(fifo).is_ok();
                }
            }
            was_needed
        });
        let form = "name = 'x'\ninstall = 'setup.exe'\ncontent = ['setup.exe']";
        let flat = form.replace("setup.exe']", "f.cab']");
        for (path, body) in [
            ("/updates/import", json!({ "file": "f.cab" })),
            ("/updates/import", json!({ "file": "f.cab", "dry_run": true })),
            ("/updates/export", json!({ "file": "f.cab" })),
            ("/images", json!({ "path": "f.cab", "name": "x" })),
            ("/images", json!({ "path": "f.cab", "name": "x", "boot": true, "dry_run": true })),
            ("/apps", json!({ "form": form, "folder": "app" })),
            ("/apps", json!({ "form": flat })),
            ("/apps", json!({ "form": form, "folder": "f.cab" })),
            ("/packages", json!({ "name": "x", "source": "f.cab" })),
            ("/packages/x/download", json!({ "from": "f.cab" })),
            ("/task-sequences/x/media", json!({ "folder": "f.cab" })),
            ("/prestage", json!({ "what": "x", "file": "f.cab" })),
            ("/prestage/import", json!({ "file": "f.cab" })),
        ] {
            let (status, answer) = answered(&api, Method::POST, path, None, body.clone()).await;
            assert!((400..500).contains(&status), "{path} {body}: {status} {answer}");
            assert!(!answer.contains("\"code\":\"USAGE\""), "{path} {body}: {answer}");
        }
        drop(over);
        assert!(!writer.join().unwrap(), "something waited for a writer");
        site.close().await;
    }

    /// Lets whoever reads a FIFO see its end.
    fn given_up(fifo: &std::path::Path) -> std::io::Result<std::fs::File> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        std::fs::File::options().write(true).custom_flags(flags).open(fifo)
    }

    /// A thousand points and ten thousand devices say all the time that they live.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_changes_a_point_is_not_held_back_by_what_machines_say() {
        let (_folder, site) = small(|_| {}).await;
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
}
