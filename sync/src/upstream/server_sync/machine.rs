//! The conversation of one synchronisation with an update server ([MS-WSUSSS] section 3.2.4), without a socket, a
//! database or a clock.
//!
//! ```text
//! categories: list ▶ compare ▶ fetch… ▶ end ─▶ choose ─▶ updates: list ▶ compare ▶ fetch… ▶ what they need ▶ fetch… ▶ end ─▶ done
//!        ▲ ServerChanged: forget the anchors ──────────────────┘
//! ```
//! Every call carries a cookie that is good for a while yet; where there is none, the calls that get one come first. A
//! list becomes pending revisions; what is pending is asked for in batches, several at once, while others are recorded.
//! An anchor stands only when nothing of its list is pending any more, and that of updates when what they need is there
//! too: so where no list has anything new, nothing is looked for, but what an earlier run left. Nothing is asked for twice
//! that was recorded, unless the list that is begun says so, because a server never told where the files of it are.
//!
//! `lists.rs` decides about lists, `documents.rs` about documents and what they need, `faults.rs` about what goes wrong.

use std::collections::{HashMap, HashSet, VecDeque};

use catalog::id::{RevisionId, RevisionNumber, UpdateId};
use catalog::problem::{Code, Problem};
use catalog::server_sync::{Request, Response};
use schema::servers::Scope;

use super::documents::Missing;
use super::lists::{Listing, Part, list_request};
use super::session::{Session, Standing};
use super::step::{Answer, Batch, Chosen, Count, Event, Known, Options, Step, Tally};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Listing(Scope),
    Beginning(Scope),
    Fetching(Scope, Resumed),
    Ending(Scope, Resumed),
    Choosing,
    Depending(u32),
    Completing(u32),
    Forgetting,
    Finished,
}

/// Whether a pass began in an earlier run: then there may be news since.
pub(super) type Resumed = bool;

/// Who says that the server has what is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owed {
    /// It named the revision, or what contains it. Where it gives none of many, it is broken.
    Named,
    /// Nobody any more: it was set aside before, and is no news if it fails again.
    Doubted,
    /// Nobody: it is contained in what came from elsewhere. It may be there or not.
    Hoped,
}

/// What a call is for.
#[derive(Debug, Clone)]
pub(super) enum Purpose {
    Standing,
    List(Part),
    Look,
    Data { ids: Vec<RevisionId>, owed: Owed },
    Probe(UpdateId, VecDeque<u32>),
}

#[derive(Debug, Clone)]
pub(super) struct Work {
    pub(super) purpose: Purpose,
    pub(super) tries: u32,
    pub(super) not_before: i64,
    /// Which cookie it was last made with.
    pub(super) generation: u32,
}

impl Work {
    pub(super) fn new(purpose: Purpose) -> Self {
        Self { purpose, tries: 0, not_before: i64::MIN, generation: 0 }
    }

    /// The same as a call for `ids`, which are some of those that it was for.
    pub(super) fn data(ids: Vec<RevisionId>, owed: Owed, tries: u32) -> Self {
        Self { tries, ..Self::new(Purpose::Data { ids, owed }) }
    }
}

/// The conversation.
#[derive(Debug)]
pub struct Conversation {
    pub(super) options: Options,
    pub(super) known: Known,
    pub(super) session: Session,
    pub(super) stage: Stage,
    pub(super) chosen: Chosen,
    pub(super) listing: Option<Listing>,
    /// The pass of updates that ends when what they need is there.
    pub(super) open: Option<Resumed>,
    pub(super) missing: Missing,
    pub(super) queue: VecDeque<Work>,
    /// The call for a cookie that is to be made again.
    pub(super) knock: Option<Work>,
    pub(super) calls: HashMap<u64, Work>,
    pub(super) records: VecDeque<Batch>,
    /// Batches that are being recorded.
    pub(super) recording: usize,
    pub(super) tickets: u64,
    /// The server is busy until then.
    pub(super) hold_until: i64,
    pub(super) changed: u32,
    pub(super) refused: u32,
    pub(super) failures: u32,
    pub(super) stalls: u32,
    /// What was asked for in this run.
    pub(super) tried: HashSet<RevisionId>,
    pub(super) gave_up: Option<Box<Problem>>,
    pub(super) tally: Tally,
    pub(super) notes: Vec<String>,
}

impl Conversation {
    /// One that begins.
    pub fn new(options: Options, known: Known) -> Self {
        let session = Session::new(options.account_name.clone(), options.account_guid);
        let mut new = Self {
            options,
            known,
            session,
            stage: Stage::Finished,
            chosen: Chosen::default(),
            listing: None,
            open: None,
            missing: Missing::default(),
            queue: VecDeque::new(),
            knock: None,
            calls: HashMap::new(),
            records: VecDeque::new(),
            recording: 0,
            tickets: 0,
            hold_until: i64::MIN,
            changed: 0,
            refused: 0,
            failures: 0,
            stalls: 0,
            tried: HashSet::new(),
            gave_up: None,
            tally: Tally::default(),
            notes: Vec::new(),
        };
        new.enter(Scope::Categories);
        new
    }

    /// How much was done so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// What is worth telling, beside what was set aside.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The standing with the server.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Which list is being worked on; `None` before the first answer and after the last.
    pub fn scope(&self) -> Option<Scope> {
        match self.stage {
            Stage::Listing(scope)
            | Stage::Beginning(scope)
            | Stage::Fetching(scope, _)
            | Stage::Ending(scope, _) => Some(scope),
            Stage::Choosing | Stage::Depending(_) | Stage::Completing(_) => Some(Scope::Updates),
            Stage::Forgetting | Stage::Finished => None,
        }
    }

    /// What to do now. `now` is the local clock, in milliseconds since 1970.
    pub fn next(&mut self, now: i64) -> Step {
        let mut until = None;
        // Who records slower than the network is asked for no more than is on its way already.
        let swamped = self.records.len() + self.recording > self.options.parallel.max(1);
        if self.gave_up.is_none() && !swamped {
            match self.call(now) {
                Ok(call) => return call,
                Err(at) => until = at,
            }
        }
        if let Some(batch) = self.records.pop_front() {
            self.recording += 1;
            return Step::Record(batch);
        }
        if self.recording > 0 {
            return Step::Wait(until);
        }
        if let Some(problem) = &self.gave_up {
            return Step::GiveUp(problem.clone());
        }
        if !self.queue.is_empty() || !self.calls.is_empty() {
            return Step::Wait(until);
        }
        self.advance(now)
    }

    /// Nothing is on its way and nothing waits: the stage is over.
    fn advance(&mut self, now: i64) -> Step {
        match self.stage {
            Stage::Listing(scope) => {
                match self.next_part(scope) {
                    Some(part) => self.queue.push_back(Work::new(Purpose::List(part))),
                    None => self.stage = Stage::Beginning(scope),
                }
                self.next(now)
            }
            Stage::Beginning(scope) => {
                let (ends, revisions) = self.listing.take().unwrap_or_default().ends();
                self.known.anchors.insert(scope, ends.clone());
                Step::Begin { scope, ends, revisions }
            }
            Stage::Fetching(scope @ Scope::Categories, resumed) => {
                self.stage = Stage::Ending(scope, resumed);
                Step::End(scope)
            }
            Stage::Fetching(Scope::Updates, resumed) => {
                (self.open, self.stage) = (Some(resumed), Stage::Depending(0));
                Step::Depend
            }
            Stage::Ending(scope, _) => Step::End(scope),
            Stage::Choosing => Step::Choose,
            Stage::Depending(_) => Step::Depend,
            Stage::Completing(round) => {
                self.stage = Stage::Depending(round + 1);
                Step::Depend
            }
            Stage::Forgetting => Step::Forget,
            Stage::Finished => Step::Done,
        }
    }

    /// Tells what happened.
    pub fn on(&mut self, event: Event, now: i64) {
        match event {
            Event::Answered { ticket, answer, server_time } => {
                if let Some(work) = self.calls.remove(&ticket) {
                    self.answered(work, answer, server_time, now);
                }
            }
            Event::Recorded => self.recording = self.recording.saturating_sub(1),
            Event::Begun(pending) => {
                if let Stage::Beginning(scope) = self.stage {
                    self.fetch(scope, pending, false);
                }
            }
            Event::Ended => {
                if let Stage::Ending(scope, resumed) = self.stage {
                    self.ended(scope, resumed);
                }
            }
            Event::Chosen(chosen) => {
                let wanted = chosen.filter.is_some();
                self.chosen = chosen;
                match wanted {
                    true => self.enter(Scope::Updates),
                    false => self.nothing_new(),
                }
            }
            Event::Missing(missing) => self.complete(missing),
            Event::Forgotten => {
                self.known.anchors.clear();
                self.known.passes.clear();
                self.enter(Scope::Categories);
            }
        }
    }

    /// The call that may be made now; or when there may be one, if time alone decides.
    fn call(&mut self, now: i64) -> Result<Step, Option<u64>> {
        let wait = |at: i64| Err(Some(u64::try_from(at.saturating_sub(now)).unwrap_or_default().max(1)));
        if self.queue.is_empty() {
            return Err(None);
        }
        if now < self.hold_until {
            return wait(self.hold_until);
        }
        if let Standing::Needed = self.session.standing(now) {
            let generation = self.session.generation();
            let knocking =
                |work: &Work| matches!(work.purpose, Purpose::Standing) && work.generation == generation;
            // One call at a time gets the cookie; what is on its way may still be answered.
            if self.calls.values().any(knocking) {
                return Err(None);
            }
            let work = self.knock.take().unwrap_or_else(|| Work::new(Purpose::Standing));
            if work.not_before > now {
                let at = work.not_before;
                self.knock = Some(work);
                return wait(at);
            }
            return Ok(self.make(work));
        }
        if self.calls.len() >= self.options.parallel.max(1) {
            return Err(None);
        }
        match self.queue.iter().position(|work| work.not_before <= now).and_then(|due| self.queue.remove(due))
        {
            Some(work) => Ok(self.make(work)),
            None => wait(self.queue.iter().map(|work| work.not_before).min().unwrap_or(now)),
        }
    }

    fn make(&mut self, mut work: Work) -> Step {
        self.cut(&mut work);
        let cookie = self.session.cookie();
        let request = match &work.purpose {
            Purpose::Standing => self.session.request(),
            Purpose::List(part) => Request::GetRevisionIdList { cookie, filter: list_request(part) },
            Purpose::Look => Request::GetRevisionIdList { cookie, filter: list_request(&self.everything()) },
            Purpose::Data { ids, .. } => {
                self.tried.extend(ids.iter().copied());
                Request::GetUpdateData { cookie, ids: ids.clone() }
            }
            Purpose::Probe(update, numbers) => {
                let number = RevisionNumber(numbers.front().copied().unwrap_or_default());
                Request::GetUpdateData { cookie, ids: vec![RevisionId { update: *update, number }] }
            }
        };
        work.tries += 1;
        work.generation = self.session.generation();
        self.tally.calls += 1;
        self.tickets += 1;
        self.calls.insert(self.tickets, work);
        Step::Call { ticket: self.tickets, request }
    }

    /// As many ids as one call may ask for, which is known once the server has told it; the others come next.
    fn cut(&mut self, work: &mut Work) {
        let Purpose::Data { ids, owed } = &mut work.purpose else { return };
        let others = ids.len().saturating_sub(self.session.batch());
        if others > 0 {
            let now = ids.split_off(others);
            let later = std::mem::replace(ids, now);
            self.queue.push_front(Work::data(later, *owed, work.tries));
        }
    }

    fn answered(&mut self, work: Work, answer: Answer, server_time: Option<i64>, now: i64) {
        // What a refused session was still being told.
        if matches!(work.purpose, Purpose::Standing) && work.generation != self.session.generation() {
            return;
        }
        if !matches!(answer, Answer::Broken { .. }) {
            self.stalls = 0;
        }
        match (work.purpose.clone(), answer) {
            (_, Answer::Fault(fault)) => self.faulted(work, &fault, now),
            (_, Answer::Broken { problem, hope }) => self.broken(work, *problem, hope, now),
            (Purpose::Standing, Answer::Said(response)) => {
                if let Err(problem) = self.session.on(response, server_time, now) {
                    self.give_up(problem);
                }
            }
            (Purpose::List(part), Answer::Said(Response::RevisionIdList(list))) => self.listed(&part, list),
            (Purpose::Look, Answer::Said(Response::RevisionIdList(list))) => self.looked(&list.revisions),
            (Purpose::Data { ids, owed }, Answer::Documents(arrived)) => {
                self.documents(&ids, owed, arrived);
            }
            (Purpose::Probe(update, numbers), Answer::Documents(arrived)) => {
                self.probed(update, numbers, arrived);
            }
            (_, Answer::Said(other)) => {
                let name = other.operation().name();
                self.give_up(Problem::new(
                    Code::ProtocolMalformed,
                    format!("an answer to {name} came unasked"),
                ));
            }
            (_, Answer::Documents(_)) => {
                self.give_up(Problem::new(Code::ProtocolMalformed, "documents came unasked"));
            }
        }
    }

    pub(super) fn fetch(&mut self, scope: Scope, pending: Vec<RevisionId>, resumed: Resumed) {
        self.stage = Stage::Fetching(scope, resumed);
        self.want(pending, Owed::Named);
    }

    /// Asks for revisions.
    pub(super) fn want(&mut self, revisions: Vec<RevisionId>, owed: Owed) {
        self.count().wanted += revisions.len() as u64;
        if !revisions.is_empty() {
            self.queue.push_back(Work::data(revisions, owed, 0));
        }
    }

    /// The count of the list that is being worked on.
    pub(super) fn count(&mut self) -> &mut Count {
        match self.scope() {
            Some(Scope::Categories) => &mut self.tally.categories,
            _ => &mut self.tally.updates,
        }
    }

    pub(super) fn give_up(&mut self, problem: Problem) {
        self.gave_up.get_or_insert(Box::new(problem));
    }
}
