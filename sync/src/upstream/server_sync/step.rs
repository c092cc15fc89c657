//! What the conversation is told and what it answers: plain values.

use std::collections::BTreeMap;
use std::time::Duration;

use catalog::digest::Sha1Digest;
use catalog::id::{RevisionId, UpdateId};
use catalog::problem::{Code, Problem};
use catalog::server_sync::{Fault, Request, Response};
use schema::metadata::Prepared;
use schema::servers::{Anchor, ListFilter, Pass, Quarantined, Scope, Unresolved};

/// How to talk.
#[derive(Debug, Clone)]
pub struct Options {
    /// Batches at once.
    pub parallel: usize,
    /// Tries of one call.
    pub tries: u32,
    /// Pause before the second try; it doubles.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// The name of this site, as a fully qualified domain name.
    pub account_name: String,
    /// Its GUID.
    pub account_guid: UpdateId,
    /// Ask for all lists in full, and look again for what was not found; what is recorded is not fetched again all the same.
    pub full: bool,
    /// Ask for the list of updates in full, to hear all that this server names: another place is asked no more.
    pub anew: bool,
}

/// What is known when the conversation begins.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Where the lists ended.
    pub anchors: BTreeMap<Scope, Anchor>,
    /// Lists that are not all fetched yet.
    pub passes: BTreeMap<Scope, Pass>,
    /// What earlier runs set aside.
    pub quarantined: Vec<RevisionId>,
    /// What earlier runs looked for in vain; number 0 where any revision will do.
    pub lost: Vec<RevisionId>,
    /// Earlier runs left updates that others need to later ones.
    pub left: bool,
}

/// A document that was answered, read or not.
#[derive(Debug)]
pub struct Arrived {
    /// Whose.
    pub id: RevisionId,
    /// The document, ready to be recorded; or why it cannot be used.
    pub document: Result<Document, (Code, String)>,
}

/// A document that is ready to be recorded.
#[derive(Debug)]
pub struct Document {
    /// What it says, with its text.
    pub prepared: Box<Prepared>,
    /// Where its files are.
    pub urls: Vec<(Sha1Digest, String)>,
}

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// Send a request; several may be on their way.
    Call {
        /// To tell the answer by.
        ticket: u64,
        /// What to ask.
        request: Request,
    },
    /// Record documents, and what is set aside, in one transaction. Several may be under way.
    Record(Batch),
    /// Remember a list, and tell which revisions of it are not recorded.
    Begin {
        /// Which list.
        scope: Scope,
        /// Where it ended.
        ends: Anchor,
        /// All that it named.
        revisions: Vec<RevisionId>,
    },
    /// The list is all fetched: its anchor stands.
    End(Scope),
    /// Tell which categories and classifications are wanted.
    Choose,
    /// Tell what recorded updates need and is not recorded.
    Depend,
    /// Forget the anchors and what is pending.
    Forget,
    /// Wait for something to end, at most for so many milliseconds if that is said.
    Wait(Option<u64>),
    /// All is done.
    Done,
    /// Nothing more can be done in this run. What is recorded stays.
    GiveUp(Box<Problem>),
}

/// What goes into the database together.
#[derive(Debug)]
pub struct Batch {
    /// Which list asked for it.
    pub scope: Scope,
    /// Documents that were asked for; all of them are usable.
    pub documents: Vec<Document>,
    /// What is set aside.
    pub set_aside: Vec<Quarantined>,
}

/// What just happened.
#[derive(Debug)]
pub enum Event {
    /// A call ended.
    Answered {
        /// Which.
        ticket: u64,
        /// How.
        answer: Answer,
        /// The server's clock, milliseconds since 1970.
        server_time: Option<i64>,
    },
    /// One batch is recorded.
    Recorded,
    /// These revisions of the list are pending.
    Begun(Vec<RevisionId>),
    /// The anchor stands.
    Ended,
    /// This is wanted.
    Chosen(Chosen),
    /// This is missing.
    Missing(Unresolved),
    /// The anchors are forgotten.
    Forgotten,
}

/// What is wanted of the server.
#[derive(Debug, Clone, Default)]
pub struct Chosen {
    /// What to list; `None`: no updates, because no product or no classification is chosen.
    pub filter: Option<ListFilter>,
    /// All classifications that there are.
    pub classifications: Vec<UpdateId>,
}

/// How a call ended.
#[derive(Debug)]
pub enum Answer {
    /// With an answer.
    Said(Response),
    /// With documents, read or not.
    Documents(Vec<Arrived>),
    /// With a fault of the server.
    Fault(Fault),
    /// With nothing that is an answer.
    Broken {
        /// What happened.
        problem: Box<Problem>,
        /// What asking again can do about it.
        hope: Hope,
    },
}

/// What asking again can do about a call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hope {
    /// It may pass.
    Later,
    /// The server says itself that it is busy, and perhaps for how long.
    Busy(Option<Duration>),
    /// Nothing whole came, or nothing that is understood: once more, then in smaller parts.
    Smaller,
    /// More came than may: in smaller parts, at once.
    Halves,
    /// None.
    None,
}

/// How much one list was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Revisions that it named.
    pub listed: u64,
    /// Revisions that were to be fetched.
    pub wanted: u64,
    /// Revisions that came.
    pub fetched: u64,
    /// Revisions that were set aside.
    pub set_aside: u64,
}

/// How much was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Calls that were made.
    pub calls: u64,
    /// Documents that nobody had asked for: not recorded.
    pub unasked: u64,
    /// Categories, classifications and detectoids.
    pub categories: Count,
    /// Updates, and what they need.
    pub updates: Count,
}
