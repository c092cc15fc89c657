//! Documents: what of an answer is recorded, what is asked for again, and what recorded updates still need.
//!
//! Windows stops an answer at some two million bytes, so what an answer left out is asked for again. Bundled updates are
//! named with their revision. Prerequisites are not, and a revision is needed to ask: an id list of all that the chosen
//! products have tells most of them, and the likely numbers are tried for a few of the rest.

use std::collections::{HashMap, HashSet, VecDeque};

use catalog::id::{RevisionId, RevisionNumber, UpdateId};
use catalog::problem::Code;
use schema::servers::{Quarantined, Scope, Unresolved};

use super::machine::{Conversation, Purpose, Stage, Work};
use super::step::{Arrived, Batch, Document};

/// Rounds of asking for what is missing: bundles are three deep in what is known of them.
const MOST_ROUNDS: u32 = 8;
/// Prerequisites of which a revision is guessed, in one run.
const MOST_PROBES: usize = 100;
/// Revisions that were set aside and are tried again, in one run.
const MOST_DOUBTED: usize = 200;
/// Numbers that real revisions have, likely ones first. Only an id list tells the true one.
const LIKELY_NUMBERS: [u32; 12] = [200, 100, 101, 102, 103, 104, 105, 201, 202, 1, 2, 3];

/// What is known of prerequisites that are missing.
#[derive(Debug, Default)]
pub(super) struct Missing {
    /// Which are looked for in a list.
    sought: Vec<UpdateId>,
    /// A list was asked for them.
    looked: bool,
    /// Nothing more is done about these in this run.
    settled: HashSet<UpdateId>,
    /// How many were guessed.
    probes: usize,
}

impl Conversation {
    /// Documents came: those that were asked for are recorded, those that are damaged are set aside, and what was left
    /// out is asked for again.
    pub(super) fn documents(&mut self, ids: &[RevisionId], doubted: bool, arrived: Vec<Arrived>) {
        let mut open: HashSet<RevisionId> = ids.iter().copied().collect();
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for one in arrived {
            if !open.remove(&one.id) {
                self.tally.unasked += 1;
                continue;
            }
            match one.document {
                Ok(document) => good.push(document),
                Err((code, reason)) => bad.push(Quarantined { id: one.id, code, reason }),
            }
        }
        let answered = good.len() + bad.len();
        let rest: Vec<RevisionId> = ids.iter().copied().filter(|id| open.contains(id)).collect();
        if answered > 0 {
            // A damaged document is a defect of that document; the server has answered.
            (self.failures, self.refused) = (0, 0);
        }
        self.record(good, bad);
        match (answered, rest.is_empty()) {
            (_, true) => {}
            (0, false) => {
                self.divide(rest, doubted, 0, Code::RevisionQuarantined, "the server answers without it");
            }
            (_, false) => self.queue.push_front(Work::data(rest, doubted, 0)),
        }
    }

    pub(super) fn record(&mut self, documents: Vec<Document>, set_aside: Vec<Quarantined>) {
        if documents.is_empty() && set_aside.is_empty() {
            return;
        }
        let count = self.count();
        count.fetched += documents.len() as u64;
        count.set_aside += set_aside.iter().filter(|one| one.id.number.0 != 0).count() as u64;
        let scope = self.scope().unwrap_or(Scope::Updates);
        self.records.push_back(Batch { scope, documents, set_aside });
    }

    /// Asks for what is missing, and once more for what earlier runs set aside.
    pub(super) fn complete(&mut self, unresolved: Unresolved) {
        let Stage::Depending(round) = self.stage else { return };
        if round >= MOST_ROUNDS {
            return self.completed();
        }
        self.stage = Stage::Completing(round);
        let again = if round == 0 { self.try_again() } else { HashSet::new() };
        let mut bundled = unresolved.bundled;
        bundled.retain(|one| !self.tried.contains(one) && !again.contains(one));
        // What comes as a part of something else need not be looked for; the next round tells.
        let coming: HashSet<UpdateId> = bundled.iter().map(|one| one.update).collect();
        self.want(bundled, false);
        let mut sought = unresolved.prerequisites;
        sought.retain(|update| !self.missing.settled.contains(update) && !coming.contains(update));
        let listable = self.chosen.filter.is_some() && !self.chosen.classifications.is_empty();
        if !sought.is_empty() && listable && !self.missing.looked {
            (self.missing.sought, self.missing.looked) = (sought, true);
            self.queue.push_back(Work::new(Purpose::Look));
        } else {
            self.guess(sought);
        }
        if self.queue.is_empty() {
            self.completed();
        }
    }

    /// What can be had is there.
    fn completed(&mut self) {
        self.stage = match self.open.take() {
            Some(resumed) => Stage::Ending(Scope::Updates, resumed),
            None => Stage::Finished,
        };
    }

    /// What earlier runs set aside, apart from what is new: it stops nothing but itself. Prerequisites that could not be
    /// found are looked for again only in a full run. Answers all that was set aside.
    fn try_again(&mut self) -> HashSet<RevisionId> {
        let (found, lost): (Vec<RevisionId>, Vec<RevisionId>) =
            std::mem::take(&mut self.known.quarantined).into_iter().partition(|one| one.number.0 != 0);
        if !self.options.full {
            self.missing.settled.extend(lost.iter().map(|one| one.update));
        }
        self.missing.settled.extend(found.iter().map(|one| one.update));
        let again =
            found.iter().copied().filter(|one| !self.tried.contains(one)).take(MOST_DOUBTED).collect();
        self.want(again, true);
        found.into_iter().collect()
    }

    /// A list of all that the chosen products have: the highest revision of what is missing, where it is named.
    pub(super) fn looked(&mut self, all: &[RevisionId]) {
        let sought = std::mem::take(&mut self.missing.sought);
        let wanted: HashSet<UpdateId> = sought.iter().copied().collect();
        let mut found: HashMap<UpdateId, RevisionNumber> = HashMap::new();
        for one in all.iter().filter(|one| wanted.contains(&one.update)) {
            let number = found.entry(one.update).or_insert(one.number);
            *number = one.number.max(*number);
        }
        let (named, unnamed): (Vec<UpdateId>, Vec<UpdateId>) =
            sought.into_iter().partition(|update| found.contains_key(update));
        self.missing.settled.extend(named.iter().copied());
        let named = named.into_iter().map(|update| RevisionId { update, number: found[&update] });
        let named: Vec<RevisionId> = named.filter(|one| !self.tried.contains(one)).collect();
        self.want(named, false);
        self.guess(unnamed);
    }

    /// The list did not come.
    pub(super) fn not_looked(&mut self) {
        let sought = std::mem::take(&mut self.missing.sought);
        self.guess(sought);
    }

    fn guess(&mut self, updates: Vec<UpdateId>) {
        for update in updates {
            if self.missing.probes < MOST_PROBES && self.missing.settled.insert(update) {
                self.missing.probes += 1;
                self.count().wanted += 1;
                self.queue.push_back(Work::new(Purpose::Probe(update, LIKELY_NUMBERS.into())));
            }
        }
    }

    pub(super) fn probed(&mut self, update: UpdateId, numbers: VecDeque<u32>, arrived: Vec<Arrived>) {
        let asked =
            RevisionId { update, number: RevisionNumber(numbers.front().copied().unwrap_or_default()) };
        let good = arrived.into_iter().filter(|one| one.id == asked).find_map(|one| one.document.ok());
        match good {
            Some(document) => self.record(vec![document], Vec::new()),
            None => self.probe_further(update, numbers),
        }
    }

    pub(super) fn probe_further(&mut self, update: UpdateId, mut numbers: VecDeque<u32>) {
        numbers.pop_front();
        if !numbers.is_empty() {
            return self.queue.push_back(Work::new(Purpose::Probe(update, numbers)));
        }
        // Many prerequisites are of products that are not wanted; that is no failure of the server.
        let id = RevisionId { update, number: RevisionNumber(0) };
        let reason = "another update needs it, and no likely revision of it is there".to_owned();
        self.record(Vec::new(), vec![Quarantined { id, code: Code::RevisionQuarantined, reason }]);
    }
}
