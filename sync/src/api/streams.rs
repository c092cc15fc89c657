//! Streams of server-sent events: one task to its end, or all tasks as they change.
//!
//! A stream has a turn of its own, apart from requests. It ends with what it is about, with its reader, after its time, and within
//! seconds of its token: what is told after that is for nobody.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use catalog::digest::Sha256Digest;
use catalog::problem::Problem;
use http::Response;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

use super::concurrency::Turn;
use super::connections::Busy;
use super::reply::{self, Sent};
use super::{Api, still_good};
use crate::admin::{self, Envelope, Event, Request};
use crate::clock;
use crate::site::Site;

/// Somebody who watches is let go after this, and comes again.
const LONGEST: Duration = Duration::from_secs(3_000);
/// How often it is looked whether tasks have changed.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is looked whether the reader may still read.
const CHECK: Duration = Duration::from_secs(1);
/// So often a stream says that it is there, in checks: a reader that is gone is found by it.
const BEATS: u32 = 15;

/// Who reads, and what is held for it until the stream ends.
pub(super) struct Reading {
    /// SHA-256 of the token.
    pub token: Sha256Digest,
    /// Who, as the audit records it.
    pub who: String,
    /// The turn among streams.
    pub turn: Turn,
    /// The connection, which has not to give way.
    pub busy: Busy,
}

/// What a stream has to tell.
trait Source {
    /// The next event, `None` at the end.
    fn next(&mut self) -> impl Future<Output = Option<Bytes>> + Send;
}

impl Source for mpsc::Receiver<Event> {
    async fn next(&mut self) -> Option<Bytes> {
        let event = self.recv().await?;
        let value = serde_json::to_value(event).unwrap_or_default();
        Some(text(value["event"].as_str().unwrap_or("task"), &value))
    }
}

/// Every task that runs, as it changes.
struct All {
    site: Arc<Site>,
    who: String,
    look: Interval,
    known: Option<Vec<Value>>,
    ready: VecDeque<Bytes>,
}

impl All {
    fn new(site: Arc<Site>, who: String) -> Self {
        // Something at once, so that the asker knows that it is heard.
        let ready = VecDeque::from([Bytes::from_static(b": tasks of this site\n\n")]);
        Self { site, who, look: steps(LOOK), known: None, ready }
    }
}

impl Source for All {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(line);
            }
            self.look.tick().await;
            let (events, mut inbox) = mpsc::channel(1);
            let envelope =
                Envelope { request: Request::TaskList { limit: 50 }, dry_run: false, no_wait: false };
            admin::answer(&self.site, envelope, &self.who, events).await;
            let Some(Event::Done { body: Value::Array(mut tasks), .. }) = inbox.recv().await else {
                return None;
            };
            tasks.reverse();
            let (first, known) = (self.known.is_none(), self.known.take().unwrap_or_default());
            let new = tasks.iter().filter(|task| !known.contains(task));
            let new = new.filter(|task| !first || task["finished"].is_null());
            self.ready.extend(new.map(|task| text("task", task)));
            self.known = Some(tasks);
        }
    }
}

impl Api {
    /// How far a task is, as often as something changes, and its end.
    pub(super) fn events_of(&self, task: i64, reading: Reading) -> Response<Sent> {
        let envelope = Envelope { request: Request::TaskWait { task }, dry_run: false, no_wait: false };
        let (inbox, _) = self.ask(envelope, reading.who.clone(), None, false);
        self.stream(inbox, reading)
    }

    /// Every task that runs, as it changes.
    pub(super) fn all_events(&self, reading: Reading) -> Response<Sent> {
        self.stream(All::new(self.site.clone(), reading.who.clone()), reading)
    }

    fn stream(&self, source: impl Source + Send + 'static, reading: Reading) -> Response<Sent> {
        let (out, lines) = mpsc::channel(16);
        let Reading { token, turn, busy, .. } = reading;
        let site = self.site.clone();
        let may = move || {
            let site = site.clone();
            async move {
                match site.read(move |r| r.admin_token(token)).await {
                    Ok(kept) => still_good(kept, clock::now()).map(|_| ()),
                    // That it cannot be read now says nothing about the token.
                    Err(_) => Ok(()),
                }
            }
        };
        tokio::spawn(pour(source, out, may, CHECK, LONGEST));
        reply::events(lines, (turn, busy))
    }
}

/// Hands on what the source tells until one of the ends.
async fn pour<S: Source, M: Future<Output = Result<(), Problem>>>(
    source: S,
    out: mpsc::Sender<Bytes>,
    may: impl Fn() -> M,
    check: Duration,
    longest: Duration,
) {
    let (mut check, over) = (steps(check), sleep(longest));
    tokio::pin!(over);
    let (mut pending, mut beats) = (None, 0);
    // It goes on through everything else that happens here: begun anew each time, a slow look would never come to its end.
    let mut next = Box::pin(step(source));
    loop {
        tokio::select! {
            (source, line) = &mut next, if pending.is_none() => match line {
                Some(line) => {
                    pending = Some(line);
                    next = Box::pin(step(source));
                }
                None => return,
            },
            room = out.reserve(), if pending.is_some() => match (room, pending.take()) {
                (Ok(room), Some(line)) => room.send(line),
                _ => return,
            },
            _ = check.tick() => {
                if let Err(problem) = may().await {
                    let _ = out.try_send(text("refused", &serde_json::to_value(&problem).unwrap_or_default()));
                    return;
                }
                beats += 1;
                if beats % BEATS == 0 && pending.is_none() {
                    let _ = out.try_send(Bytes::from_static(b":\n\n"));
                }
            }
            () = out.closed() => return,
            () = &mut over => return,
        }
    }
}

async fn step<S: Source>(mut source: S) -> (S, Option<Bytes>) {
    let line = source.next().await;
    (source, line)
}

fn steps(step: Duration) -> Interval {
    let mut steps = interval(step);
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    steps
}

/// An event as EventSource reads it; JSON has no line breaks.
fn text(kind: &str, value: &Value) -> Bytes {
    format!("event: {kind}\ndata: {value}\n\n").into()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use catalog::problem::Code;

    use super::*;

    const SOON: Duration = Duration::from_millis(1);
    const NEVER: Duration = Duration::from_secs(3_600);

    fn failed() -> Event {
        Event::Failed { problem: Problem::new(Code::Cancelled, "no") }
    }

    async fn told(lines: &mut mpsc::Receiver<Bytes>) -> Option<String> {
        let line = tokio::time::timeout(Duration::from_secs(20), lines.recv()).await.expect("in time");
        line.map(|line| String::from_utf8(line.to_vec()).expect("text"))
    }

    #[tokio::test]
    async fn a_stream_ends_with_its_token_and_says_so() {
        let good = Arc::new(AtomicBool::new(true));
        let (events, source) = mpsc::channel(1);
        let (out, mut lines) = mpsc::channel(16);
        let asked = good.clone();
        let may = move || {
            let good = asked.load(Ordering::Relaxed);
            async move { if good { Ok(()) } else { Err(Problem::new(Code::ApiTokenRefused, "it was revoked")) } }
        };
        tokio::spawn(pour(source, out, may, SOON, NEVER));
        events.send(failed()).await.unwrap();
        let mut heard = told(&mut lines).await.unwrap();
        while heard == ":\n\n" {
            heard = told(&mut lines).await.unwrap();
        }
        assert!(heard.starts_with("event: failed\ndata: {"), "{heard}");
        good.store(false, Ordering::Relaxed);
        let mut last = String::new();
        while let Some(line) = told(&mut lines).await {
            last = line;
        }
        assert!(last.starts_with("event: refused\ndata: {") && last.contains("API_TOKEN_REFUSED"), "{last}");
        assert!(events.is_closed(), "nobody watches any more");
    }

    #[tokio::test]
    async fn a_stream_ends_with_its_reader_and_after_its_time_even_if_nobody_reads() {
        for (reader_stays, longest) in [(false, NEVER), (true, SOON)] {
            let (events, source) = mpsc::channel(1);
            let (out, lines) = mpsc::channel(1);
            let reader = reader_stays.then_some(lines);
            let pouring = tokio::spawn(pour(source, out, || async { Ok(()) }, NEVER, longest));
            let telling = async { while events.send(failed()).await.is_ok() {} };
            tokio::time::timeout(Duration::from_secs(20), telling).await.expect("it ends");
            pouring.await.unwrap();
            drop(reader);
        }
    }
}
