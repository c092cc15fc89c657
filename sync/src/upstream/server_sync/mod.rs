//! Synchronising from an update server ([MS-WSUSSS], the downstream side): Microsoft Update, a WSUS, another spsync.
//!
//! A [`Conversation`] decides, without a socket, a database or a clock. [`synchronise`] performs each [`Step`]: several
//! calls on their way, answers read on other threads, and one transaction for each batch that came. Anchors and rows move
//! together, so a run that is cut anywhere is gone on with, and nothing is asked for twice.

mod call;
mod choice;
mod documents;
mod faults;
mod lists;
mod machine;
mod read;
mod session;
mod step;
#[cfg(test)]
pub(crate) mod tests;

use std::time::Duration;

use catalog::id::UpdateId;
use catalog::problem::{Code, Problem};
use schema::metadata::MetadataRecorded;
use schema::servers::{Named, Quarantined, Scope};
use schema::{SchemaError, Store, Writer};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tracing::{debug, warn};

pub use call::{Call, Called, MICROSOFT_ROOT, Server, places, root};
pub use choice::{Choice, choose};
pub use machine::Conversation;
pub use session::{Session, Standing};
pub use step::{Answer, Arrived, Batch, Chosen, Count, Document, Event, Hope, Known, Options, Step, Tally};

use crate::clock;
use crate::config::Settings;
use crate::select::Selection;

/// Revisions of the report that are named one by one.
const NAMED: usize = 50;
/// The reason why another document is not taken.
const CONTRADICTS: &str = "the revision is recorded with other bytes, and a revision never changes";

/// What one list brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brought {
    /// Revisions that the server named.
    pub listed: u64,
    /// Revisions that were not recorded yet.
    pub wanted: u64,
    /// Revisions that came.
    pub fetched: u64,
    /// Of them: things that were not known before.
    pub new: u64,
    /// Of them: other revisions of what was known.
    pub revised: u64,
}

/// What a synchronisation with one update server did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The server's version of the protocol.
    pub protocol: String,
    /// Calls that were made.
    pub calls: u64,
    /// Bytes that were received.
    pub bytes: u64,
    /// Categories, classifications and detectoids.
    pub categories: Brought,
    /// Updates, and what they need.
    pub updates: Brought,
    /// Nothing was to be fetched.
    pub unchanged: bool,
    /// Revisions that are set aside, by this run and by earlier ones.
    pub quarantined: u64,
    /// The first of them.
    pub set_aside: Vec<Quarantined>,
    /// What other updates need, and cannot be found.
    pub missing: u64,
    /// Remarks.
    pub notes: Vec<String>,
}

/// How far it is, for who watches.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The server's version of the protocol, once it is known.
    pub protocol: Option<&'a str>,
    /// Which list is worked on.
    pub scope: Option<Scope>,
    /// How much was done.
    pub tally: Tally,
}

/// What is wanted of a server, and how to talk to it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What the site selects.
    pub selection: Selection,
    /// How to talk.
    pub options: Options,
    /// Names of all update servers that are asked, this one too.
    pub servers: Vec<String>,
}

impl Plan {
    /// As the settings want it; `account_guid` is that of the site. `full` and `anew` are those of the [`Options`].
    pub fn of(
        settings: &Settings,
        account_name: String,
        account_guid: UpdateId,
        full: bool,
        anew: bool,
    ) -> Self {
        let retry = &settings.sync.retry;
        let servers = settings.sources.iter().filter(|source| source.server().is_some());
        Self {
            servers: servers.map(|source| source.name.clone()).collect(),
            selection: settings.selection(),
            options: Options {
                parallel: settings.sync.parallel_requests,
                tries: retry.max,
                first_pause: retry.first,
                longest_pause: retry.longest,
                account_name,
                account_guid,
                full,
                anew,
            },
        }
    }
}

/// Synchronises with one server. What was done is in `outcome`, also where it could not be ended.
///
/// # Errors
/// Why it could not: the server's, the network's, the database's. What is recorded stays, and the next run goes on there.
pub async fn synchronise(
    store: &Store,
    server: &Server,
    plan: Plan,
    mut watch: impl FnMut(Seen<'_>) + Send,
    outcome: &mut Outcome,
) -> Result<(), Problem> {
    let known = known(store, server).await?;
    // A list that is not a first one has told before where files are: but for those of what others gave meanwhile, who may be
    // asked no more.
    let asked_before =
        known.anchors.contains_key(&Scope::Updates) || known.passes.contains_key(&Scope::Updates);
    let (first, anew) = (!asked_before, plan.options.anew);
    let others = plan.servers.into_iter().filter(|name| *name != server.name).collect();
    let ended = {
        let mut exchange = Exchange {
            store,
            server,
            selection: plan.selection,
            talk: Conversation::new(plan.options, known),
            first,
            anew,
            others,
            under_way: JoinSet::new(),
            outcome,
        };
        let ended = exchange.run(&mut watch).await;
        exchange.sum_up();
        ended
    };
    let name = server.name.clone();
    let set_aside = store.read(move |r| r.server_quarantined(&name)).await?;
    outcome.missing = set_aside.iter().filter(|one| one.is_lost()).count() as u64;
    let found: Vec<_> = set_aside.into_iter().filter(|one| !one.is_lost() && !one.is_left()).collect();
    outcome.quarantined = found.len() as u64;
    outcome.set_aside = found.into_iter().take(NAMED).collect();
    ended
}

/// What earlier runs left.
async fn known(store: &Store, server: &Server) -> Result<Known, Problem> {
    let (name, endpoint) = (server.name.clone(), server.root.to_string());
    let mut known = store
        .read(move |r| {
            let mut known = Known::default();
            for scope in [Scope::Categories, Scope::Updates] {
                known.anchors.extend(r.server_anchor(&name, scope, &endpoint)?.map(|anchor| (scope, anchor)));
                known.passes.extend(r.server_pass(&name, scope, &endpoint)?.map(|pass| (scope, pass)));
            }
            for one in r.server_quarantined(&name)? {
                match (one.is_left(), one.is_lost()) {
                    (true, _) => known.left = true,
                    (false, true) => known.lost.push(one.id),
                    (false, false) => known.quarantined.push(one.id),
                }
            }
            Ok(known)
        })
        .await?;
    // Only so many are tried again in one run; each run begins elsewhere.
    if !known.quarantined.is_empty() {
        let elsewhere = clock::now().as_second().unsigned_abs() % known.quarantined.len() as u64;
        known.quarantined.rotate_left(usize::try_from(elsewhere).unwrap_or_default());
    }
    Ok(known)
}

/// One conversation with all that it needs.
struct Exchange<'a> {
    store: &'a Store,
    server: &'a Server,
    selection: Selection,
    talk: Conversation,
    /// This server is asked for its updates for the first time.
    first: bool,
    /// It is asked as if it were.
    anew: bool,
    /// The other update servers that are asked.
    others: Vec<String>,
    under_way: JoinSet<Happened>,
    outcome: &'a mut Outcome,
}

/// What ends beside the conversation.
enum Happened {
    Called { ticket: u64, called: Called },
    Recorded(Result<Recorded, SchemaError>),
}

/// What recording a batch did.
struct Recorded {
    scope: Scope,
    new: u64,
    revised: u64,
}

impl Exchange<'_> {
    async fn run(&mut self, watch: &mut (impl FnMut(Seen<'_>) + Send)) -> Result<(), Problem> {
        loop {
            let now = clock::now().as_millisecond();
            let step = self.talk.next(now);
            let event = match step {
                Step::Call { ticket, request } => {
                    self.call(ticket, request);
                    continue;
                }
                Step::Record(batch) => {
                    self.record(batch);
                    continue;
                }
                Step::Wait(most) => match self.happened(most).await? {
                    Some(event) => event,
                    None => continue,
                },
                Step::Begin { scope, ends, revisions } => {
                    let (name, endpoint) = (self.server.name.clone(), self.server.root.to_string());
                    let (others, first, anew) = (self.others.clone(), self.first, self.anew);
                    let begin = self.store.write_aside_alone(move |w| {
                        let (endpoint, ends, revisions, others) = (&endpoint, &ends, &revisions, &others);
                        let list = Named { scope, endpoint, ends, revisions, others, first, anew };
                        w.begin_pass(&name, &list, clock::now())
                    });
                    Event::Begun(begin.await?)
                }
                Step::End(scope) => {
                    let name = self.server.name.clone();
                    self.store.write_aside_alone(move |w| w.end_pass(&name, scope)).await?;
                    Event::Ended
                }
                Step::Choose => Event::Chosen(self.choose().await?),
                Step::Depend => {
                    let (name, others) = (self.server.name.clone(), self.others.clone());
                    Event::Missing(self.store.read(move |r| r.unresolved(&name, &others)).await?)
                }
                Step::Forget => {
                    let name = self.server.name.clone();
                    self.store.write_aside_alone(move |w| w.forget_anchors(&name)).await?;
                    Event::Forgotten
                }
                Step::Done => return Ok(()),
                Step::GiveUp(problem) => return Err(*problem),
            };
            self.talk.on(event, clock::now().as_millisecond());
            let protocol = self
                .talk
                .session()
                .config()
                .map(|config| config.protocol_version.as_deref().unwrap_or("1.0"));
            watch(Seen { protocol, scope: self.talk.scope(), tally: self.talk.tally() });
        }
    }

    fn call(&mut self, ticket: u64, request: catalog::server_sync::Request) {
        debug!("call {ticket}: {}", request.operation().name());
        let server = self.server.clone();
        let call = Call {
            request,
            authorization: self.talk.session().path().to_owned(),
            has_content: self.talk.session().config().is_some_and(|config| !config.catalog_only),
        };
        self.under_way.spawn(async move { Happened::Called { ticket, called: server.call(call).await } });
    }

    /// Aside, as all that is recorded here: documents of an upstream are nobody's setting, and hold nobody back who changes one. What
    /// they come to, feature updates and texts of licences, is recorded when all of them are there, and counts.
    fn record(&mut self, batch: Batch) {
        let (store, name) = (self.store.clone(), self.server.name.clone());
        self.under_way.spawn(async move {
            Happened::Recorded(store.write_aside_alone(move |w| record(w, &name, &batch)).await)
        });
    }

    /// Waits for something to end, at most for `most` milliseconds.
    async fn happened(&mut self, most: Option<u64>) -> Result<Option<Event>, Problem> {
        let ended = match most {
            None => self.under_way.join_next().await,
            Some(most) => {
                let pause = Duration::from_millis(most);
                if self.under_way.is_empty() {
                    tokio::time::sleep(pause).await;
                    return Ok(None);
                }
                match tokio::time::timeout(pause, self.under_way.join_next()).await {
                    Ok(ended) => ended,
                    Err(_) => return Ok(None),
                }
            }
        };
        let nothing = || Problem::new(Code::Internal, "the conversation waits for nothing");
        match ended.ok_or_else(nothing)?.map_err(|died| Problem::of(Code::Internal, &died))? {
            Happened::Called { ticket, called: Called { answer, server_time, bytes } } => {
                self.outcome.bytes += bytes;
                if let Answer::Broken { problem, .. } = &answer {
                    warn!("call {ticket}: {problem}");
                }
                Ok(Some(Event::Answered { ticket, answer, server_time }))
            }
            Happened::Recorded(recorded) => {
                let Recorded { scope, new, revised } = recorded?;
                let brought = match scope {
                    Scope::Categories => &mut self.outcome.categories,
                    Scope::Updates => &mut self.outcome.updates,
                };
                brought.new += new;
                brought.revised += revised;
                Ok(Some(Event::Recorded))
            }
        }
    }

    async fn choose(&mut self) -> Result<Chosen, Problem> {
        let read = self.store.read(|r| Ok((r.categories()?, r.category_parents()?)));
        let (categories, parents) = read.await?;
        let Choice { chosen, notes } = choose(&self.selection, &categories, &parents);
        self.outcome.notes.extend(notes);
        Ok(chosen)
    }

    /// Moves what the conversation counted into the outcome.
    fn sum_up(&mut self) {
        let tally = self.talk.tally();
        let outcome = &mut *self.outcome;
        for (brought, count) in
            [(&mut outcome.categories, tally.categories), (&mut outcome.updates, tally.updates)]
        {
            (brought.listed, brought.wanted, brought.fetched) = (count.listed, count.wanted, count.fetched);
        }
        outcome.calls = tally.calls;
        outcome.unchanged = tally.categories.wanted + tally.updates.wanted == 0;
        if let Some(config) = self.talk.session().config() {
            outcome.protocol = config.protocol_version.clone().unwrap_or_default();
        }
        outcome.notes.extend(self.talk.notes().iter().cloned());
        if tally.unasked > 0 {
            outcome.notes.push(format!("{} documents came that nobody asked for", tally.unasked));
        }
    }
}

/// One transaction: documents with where their files are, and what is set aside. What was recorded or set aside is pending
/// no more. A revision that is recorded and was asked for again, to hear where its files are, is not set aside where that
/// fails: nothing of it is lacking.
fn record(w: &Writer<'_>, source: &str, batch: &Batch) -> Result<Recorded, SchemaError> {
    let now = clock::now();
    let mut recorded = Recorded { scope: batch.scope, new: 0, revised: 0 };
    for Document { prepared, urls } in &batch.documents {
        let id = prepared.id();
        let known = w.metadata_has(id.update)?;
        match w.record_metadata(source, prepared, now)? {
            MetadataRecorded::New if known => recorded.revised += 1,
            MetadataRecorded::New => recorded.new += 1,
            MetadataRecorded::Unchanged => {}
            MetadataRecorded::Contradicts => {
                let reason = CONTRADICTS.to_owned();
                w.quarantine(source, &Quarantined { id, code: Code::RevisionContradicts, reason }, now)?;
                continue;
            }
        }
        for (sha1, url) in urls {
            w.record_metadata_url(source, *sha1, url)?;
        }
        w.arrived(source, id)?;
    }
    for one in &batch.set_aside {
        let is_there = w.unrecorded(&[one.id])?.is_empty();
        if is_there && !w.is_set_aside(source, one.id)? {
            w.arrived(source, one.id)?;
        } else {
            w.quarantine(source, one, now)?;
        }
    }
    Ok(recorded)
}
