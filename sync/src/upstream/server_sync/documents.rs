//! Documents: what of an answer is recorded, what is asked for again, and what recorded updates still need.
//!
//! Windows stops an answer at some two million bytes, so what an answer left out is asked for again. Bundled updates are
//! named with their revision. Prerequisites are not, and a revision is needed to ask: an id list of all that the chosen
//! products have tells most of them, and the likely numbers are tried for a few of the rest, the next few in the next run.

use std::collections::{HashMap, HashSet, VecDeque};

use catalog::id::{RevisionId, RevisionNumber, UpdateId};
use catalog::problem::Code;
use schema::servers::{Quarantined, Scope, Unresolved};

use super::machine::{Conversation, Owed, Purpose, Stage, Work};
use super::step::{Arrived, Batch, Document};

/// Rounds of asking for what is missing: bundles are three deep in what is known of them.
const MOST_ROUNDS: u32 = 8;
/// Prerequisites of which a revision is guessed, in one run.
const MOST_PROBES: usize = 100;
/// Updates of the list of everything whose numbers are kept; a whole server has some 200,000.
const MOST_LISTED: usize = 500_000;
/// Revisions that were set aside and are tried again, in one run; and as many that only others may have.
const MOST_DOUBTED: usize = 200;
/// Numbers that real revisions have, likely ones first. Only an id list tells the true one.
const LIKELY_NUMBERS: [u32; 12] = [200, 100, 101, 102, 103, 104, 105, 201, 202, 1, 2, 3];

/// Why no revision of an update is there that another one needs.
const NOT_FOUND: &str = "another update needs it, and no likely revision of it is there";
/// Why what is contained in an update of another source is not there.
pub(super) const NOT_GIVEN: &str = "an update of another source contains it, and the server does not give it";

/// What is known of what is missing.
#[derive(Debug, Default)]
pub(super) struct Missing {
    /// Prerequisites that are looked for in a list.
    sought: Vec<UpdateId>,
    /// A list was asked for them.
    looked: bool,
    /// The highest revision of each update in that list.
    listed: HashMap<UpdateId, RevisionNumber>,
    /// Nothing more is done about these in this run.
    settled: HashSet<UpdateId>,
    /// How many were guessed.
    probes: usize,
    /// How many were asked for that nobody said that the server has.
    hoped: usize,
    /// How many are left to later runs.
    left: usize,
    /// What earlier runs set aside.
    pub(super) doubted: HashSet<RevisionId>,
    /// What earlier runs looked for in vain among the parts of what others gave, or what is left to later ones.
    lost: HashSet<RevisionId>,
}

impl Missing {
    /// The catalog is another one: what was found out about it in this run is nothing any more.
    pub(super) fn forget(&mut self) {
        *self = Self { doubted: std::mem::take(&mut self.doubted), ..Self::default() };
    }
}

impl Conversation {
    /// Documents came: those that were asked for are recorded, those that are damaged are set aside, and what was left
    /// out is asked for again.
    pub(super) fn documents(&mut self, ids: &[RevisionId], owed: Owed, arrived: Vec<Arrived>) {
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
                self.divide(rest, owed, 0, Code::RevisionQuarantined, "the server answers without it");
            }
            (_, false) => self.queue.push_front(Work::data(rest, owed, 0)),
        }
    }

    pub(super) fn record(&mut self, documents: Vec<Document>, set_aside: Vec<Quarantined>) {
        if documents.is_empty() && set_aside.is_empty() {
            return;
        }
        let count = self.count();
        count.fetched += documents.len() as u64;
        count.set_aside +=
            set_aside.iter().filter(|one| one.id.number.0 != 0 && !one.is_left()).count() as u64;
        let scope = self.scope().unwrap_or(Scope::Updates);
        self.records.push_back(Batch { scope, documents, set_aside });
    }

    /// Asks for what is missing, and once more for what earlier runs set aside.
    pub(super) fn complete(&mut self, unresolved: Unresolved) {
        let Stage::Depending(round) = self.stage else { return };
        if round == 0 {
            self.try_again();
        }
        let mut bundled = unresolved.bundled;
        bundled.retain(|one| !self.tried.contains(one) && !self.missing.doubted.contains(one));
        if round >= MOST_ROUNDS {
            return self.stop_here(bundled.len());
        }
        self.stage = Stage::Completing(round);
        let hoped = self.hoped(unresolved.elsewhere);
        // What comes as a part of something else need not be looked for; the next round tells.
        let coming: HashSet<UpdateId> = bundled.iter().chain(&hoped).map(|one| one.update).collect();
        self.want(bundled, Owed::Named);
        self.want(hoped, Owed::Hoped);
        let mut sought = unresolved.prerequisites;
        sought.retain(|update| !self.missing.settled.contains(update) && !coming.contains(update));
        let listable = self.chosen.filter.is_some() && !self.chosen.classifications.is_empty();
        if !sought.is_empty() && listable && !self.missing.looked {
            (self.missing.sought, self.missing.looked) = (sought, true);
            self.queue.push_back(Work::new(Purpose::Look));
        } else {
            self.find(sought);
        }
        if self.queue.is_empty() {
            self.completed();
        }
    }

    /// Those of `elsewhere` that are asked for now, so many in a run; the others are written down for the next one.
    fn hoped(&mut self, mut elsewhere: Vec<RevisionId>) -> Vec<RevisionId> {
        let missing = &mut self.missing;
        elsewhere.retain(|one| {
            !self.tried.contains(one) && !missing.doubted.contains(one) && !missing.lost.contains(one)
        });
        let room = MOST_DOUBTED.saturating_sub(missing.hoped).min(elsewhere.len());
        let later = elsewhere.split_off(room);
        missing.hoped += room;
        missing.left += later.len();
        missing.lost.extend(later.iter().copied());
        self.record(Vec::new(), later.into_iter().map(Quarantined::not_tried).collect());
        elsewhere
    }

    /// So many rounds are enough for one run. Where `bundled` revisions are neither there nor set aside, the list is not ended:
    /// its anchor does not stand, and the next run goes on with what is missing.
    fn stop_here(&mut self, bundled: usize) {
        if bundled == 0 {
            return self.completed();
        }
        self.notes
            .push(format!("{bundled} bundled revisions are still to be asked for: the next run goes on"));
        (self.open, self.stage) = (None, Stage::Finished);
    }

    /// What can be had is there.
    fn completed(&mut self) {
        if self.missing.left > 0 {
            let left = std::mem::take(&mut self.missing.left);
            self.notes.push(format!(
                "{left} updates that others need were not looked for yet: the next run goes on with them"
            ));
        }
        self.stage = match self.open.take() {
            Some(resumed) => Stage::Ending(Scope::Updates, resumed),
            None => Stage::Finished,
        };
    }

    /// What earlier runs set aside, apart from what is new: it stops nothing but itself. Prerequisites that could not be
    /// found, nor parts of what others gave, are looked for again only in a full run.
    fn try_again(&mut self) {
        let lost = std::mem::take(&mut self.known.lost);
        if !self.options.full {
            let (parts, updates): (Vec<RevisionId>, Vec<RevisionId>) =
                lost.into_iter().partition(|one| one.number.0 != 0);
            self.missing.settled.extend(updates.iter().map(|one| one.update));
            self.missing.lost.extend(parts);
        }
        let found = std::mem::take(&mut self.known.quarantined);
        self.missing.settled.extend(found.iter().map(|one| one.update));
        let again =
            found.iter().copied().filter(|one| !self.tried.contains(one)).take(MOST_DOUBTED).collect();
        self.want(again, Owed::Doubted);
        self.missing.doubted.extend(found);
    }

    /// A list of all that the chosen products have: the highest revision of what is missing, where it is named.
    /// It serves the whole run: what is found needs others, and those are in it too.
    pub(super) fn looked(&mut self, all: &[RevisionId]) {
        let listed = &mut self.missing.listed;
        let mut dropped = false;
        for one in all {
            if listed.len() >= MOST_LISTED && !listed.contains_key(&one.update) {
                dropped = true;
                continue;
            }
            let number = listed.entry(one.update).or_insert(one.number);
            *number = one.number.max(*number);
        }
        if dropped {
            self.notes.push(format!(
                "the list of all that the chosen products have names more than {MOST_LISTED} updates: numbers of the others are \
                 guessed"
            ));
        }
        let sought = std::mem::take(&mut self.missing.sought);
        self.find(sought);
    }

    /// The list did not come. It would have told numbers; without it they are guessed, and nothing else is lost.
    pub(super) fn not_looked(&mut self) {
        self.notes.push(
            "the list of all that the chosen products have did not come: numbers are guessed".to_owned(),
        );
        let sought = std::mem::take(&mut self.missing.sought);
        self.find(sought);
    }

    /// Asks for what the list of everything names, and guesses the rest.
    fn find(&mut self, sought: Vec<UpdateId>) {
        let (mut named, mut unnamed) = (Vec::new(), Vec::new());
        for update in sought {
            match self.missing.listed.get(&update) {
                Some(number) => named.push(RevisionId { update, number: *number }),
                None => unnamed.push(update),
            }
        }
        self.missing.settled.extend(named.iter().map(|one| one.update));
        named.retain(|one| !self.tried.contains(one));
        self.want(named, Owed::Named);
        self.guess(unnamed);
    }

    /// Tries likely numbers, of so many in a run; the others are written down for the next one.
    fn guess(&mut self, updates: Vec<UpdateId>) {
        let mut left = Vec::new();
        for update in updates {
            if !self.missing.settled.insert(update) {
                continue;
            }
            if self.missing.probes < MOST_PROBES {
                self.missing.probes += 1;
                self.count().wanted += 1;
                self.queue.push_back(Work::new(Purpose::Probe(update, LIKELY_NUMBERS.into())));
            } else {
                left.push(Quarantined::not_tried(any(update)));
            }
        }
        self.missing.left += left.len();
        self.record(Vec::new(), left);
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
        let (id, code) = (any(update), Quarantined::NOT_FOUND);
        self.record(Vec::new(), vec![Quarantined { id, code, reason: NOT_FOUND.to_owned() }]);
    }
}

/// How an update is written down of which any revision will do.
fn any(update: UpdateId) -> RevisionId {
    RevisionId { update, number: RevisionNumber(0) }
}
