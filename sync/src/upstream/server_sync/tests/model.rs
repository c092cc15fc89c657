//! A whole server and a whole ledger in memory: whatever the server does and wherever a run is cut, the ledger ends up
//! with all that can be had, an anchor never stands before its rows, and nothing is asked for that is recorded.

use std::collections::{BTreeMap, BTreeSet};

use catalog::server_sync::Filter;
use proptest::prelude::*;

use super::*;

/// Faults that one run is disturbed by, at most; then the server is well.
const MOST_FAULTS: u32 = 12;

/// One revision of the server.
#[derive(Debug, Clone)]
struct Item {
    /// Where it belongs; `None`: it is of the category list.
    place: Option<(UpdateId, UpdateId)>,
    changed: u64,
    bundled: Vec<RevisionId>,
    needed: Vec<UpdateId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Well,
    /// Any call that names it fails.
    Poisoned,
    /// Its document is damaged.
    Damaged,
    /// The server answers without it.
    LeftOut,
}

#[derive(Debug)]
struct Server {
    items: BTreeMap<RevisionId, (Item, Health)>,
    time: u64,
    /// Documents of one answer, at most.
    short: usize,
    faults: u32,
    cookie: u8,
}

/// What is in the database.
#[derive(Debug, Clone, Default)]
struct Ledger {
    recorded: BTreeSet<RevisionId>,
    aside: BTreeMap<RevisionId, Code>,
    anchors: BTreeMap<Scope, Anchor>,
    passes: BTreeMap<Scope, Pass>,
}

/// Numbers that look random; a seed gives the same ones again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides.max(1)
    }
}

impl Server {
    fn matches(item: &Item, filter: &Filter) -> bool {
        let since: u64 = filter.anchor.as_ref().map_or(0, |text| text.parse().expect("our own anchor"));
        let new = |delta: bool| !delta || item.changed > since;
        match (&item.place, filter.get_config) {
            (None, true) => item.changed > since,
            (Some(_), true) | (None, false) => false,
            (Some((category, class)), false) => {
                assert!(
                    !filter.categories.is_empty() && !filter.classifications.is_empty(),
                    "that is everything"
                );
                filter.categories.iter().any(|one| one.id == *category && new(one.delta))
                    && filter.classifications.iter().any(|one| one.id == *class && new(one.delta))
            }
        }
    }

    fn disturb(&mut self, dice: &mut Dice) -> Option<Answer> {
        if self.faults == 0 || dice.roll(4) > 0 {
            return None;
        }
        self.faults -= 1;
        Some(match dice.roll(9) {
            0 => fault(ErrorCode::InvalidCookie),
            1 => {
                self.cookie = self.cookie.wrapping_add(1);
                fault(ErrorCode::InvalidCookie)
            }
            2 => fault(ErrorCode::ServerBusy),
            3 => fault(ErrorCode::InternalServerError),
            4 => fault(ErrorCode::ServerChanged),
            5 => broken(Code::SourceUnreachable, Hope::Later),
            6 => broken(Code::TransferStalled, Hope::Smaller),
            7 => broken(Code::TransferTooLong, Hope::Halves),
            _ => broken(Code::UpstreamBusy, Hope::Busy(Some(Duration::from_secs(5)))),
        })
    }

    fn answer(&mut self, request: &Request, now: i64, dice: &mut Dice) -> Answer {
        let shown = match request {
            Request::GetRevisionIdList { cookie, .. } | Request::GetUpdateData { cookie, .. } => {
                cookie.as_ref()
            }
            _ => None,
        };
        if shown.is_some_and(|shown| shown.data != [self.cookie]) {
            return fault(ErrorCode::InvalidCookie);
        }
        let halves = |answer: &Answer| matches!(answer, Answer::Broken { hope: Hope::Halves, .. });
        if let Some(answer) = self.disturb(dice) {
            // Only documents can be too many.
            if !halves(&answer) || matches!(request, Request::GetUpdateData { .. }) {
                return answer;
            }
        }
        match request {
            Request::GetRevisionIdList { filter, .. } => {
                let found = self.items.iter().filter(|(_, (item, _))| Self::matches(item, filter));
                let found: Vec<RevisionId> = found.map(|(id, _)| *id).collect();
                list(&self.time.to_string(), found)
            }
            Request::GetUpdateData { ids, .. } => {
                let unknown = |id: &RevisionId| {
                    self.items.get(id).is_none_or(|(_, health)| *health == Health::Poisoned)
                };
                if ids.iter().any(unknown) {
                    return fault(ErrorCode::InternalServerError);
                }
                let given = ids.iter().filter(|id| self.items[id].1 != Health::LeftOut);
                let answered = given.take(self.short).map(|id| match self.items[id] {
                    (_, Health::Damaged) => damaged(*id),
                    _ => good(*id),
                });
                Answer::Documents(answered.collect())
            }
            Request::GetCookie { .. } => Answer::Said(Response::Cookie(Cookie {
                expiration: jiff::Timestamp::from_millisecond(now + 3_600_000).unwrap().to_string(),
                data: vec![self.cookie],
            })),
            other => Answer::Said(standing(other.operation().name(), now)),
        }
    }
}

impl Ledger {
    fn unrecorded(&self, revisions: &[RevisionId]) -> Vec<RevisionId> {
        let unknown: BTreeSet<_> =
            revisions.iter().filter(|one| !self.recorded.contains(one)).copied().collect();
        unknown.into_iter().collect()
    }

    fn settle(&mut self, id: RevisionId) {
        for pass in self.passes.values_mut() {
            pass.pending.retain(|one| *one != id);
        }
    }

    fn record(&mut self, batch: &Batch) {
        for document in &batch.documents {
            self.recorded.insert(document.prepared.id());
            let id = document.prepared.id();
            self.aside.remove(&id);
            self.aside.remove(&RevisionId { number: RevisionNumber(0), ..id });
            self.settle(id);
        }
        for one in &batch.set_aside {
            self.aside.insert(one.id, one.code);
            self.settle(one.id);
        }
    }

    fn unresolved(&self, server: &Server) -> Unresolved {
        let parents = self.recorded.iter().filter_map(|id| server.items.get(id).map(|(item, _)| item));
        let updates: BTreeSet<UpdateId> = self.recorded.iter().map(|id| id.update).collect();
        let mut unresolved = Unresolved::default();
        for item in parents.filter(|item| item.place.is_some()) {
            unresolved.bundled.extend(item.bundled.iter().filter(|one| !self.recorded.contains(one)));
            unresolved.prerequisites.extend(item.needed.iter().filter(|one| !updates.contains(one)));
        }
        let looked_for = self.aside.keys().filter(|id| id.number.0 == 0 && !updates.contains(&id.update));
        unresolved.prerequisites.extend(looked_for.map(|id| id.update));
        unresolved.bundled.sort();
        unresolved.bundled.dedup();
        unresolved.prerequisites.sort();
        unresolved.prerequisites.dedup();
        unresolved
    }

    fn known(&self) -> Known {
        Known {
            anchors: self.anchors.clone(),
            passes: self.passes.clone(),
            quarantined: self.aside.keys().filter(|id| id.number.0 != 0).copied().collect(),
            lost: self.lost(false),
            left: !self.lost(true).is_empty(),
        }
    }

    /// What was looked for in vain, or is left to be looked for.
    fn lost(&self, left: bool) -> Vec<RevisionId> {
        let known = |id: &RevisionId| self.recorded.iter().any(|one| one.update == id.update);
        let lost = self.aside.iter().filter(|(id, code)| {
            id.number.0 == 0 && !known(id) && (**code == Quarantined::NOT_TRIED) == left
        });
        lost.map(|(id, _)| *id).collect()
    }

    /// An anchor stands for rows: all that the server had until then is recorded or set aside.
    fn check(&self, server: &Server) {
        for (scope, anchor) in &self.anchors {
            let until: u64 = anchor.anchor.parse().expect("our own anchor");
            let everything = Filter {
                get_config: *scope == Scope::Categories,
                categories: with(&anchor.filter.categories),
                classifications: with(&anchor.filter.classifications),
                ..Filter::default()
            };
            for (id, (item, _)) in &server.items {
                let promised = item.changed <= until && Server::matches(item, &everything);
                let kept = self.recorded.contains(id) || self.aside.contains_key(id);
                assert!(!promised || kept, "the anchor {until} of {scope} stands, and {id} is not there");
            }
        }
    }
}

fn with(ids: &[UpdateId]) -> Vec<catalog::server_sync::IdAndDelta> {
    ids.iter().map(|id| catalog::server_sync::IdAndDelta { id: *id, delta: false }).collect()
}

/// One run, cut after `most` steps. Answers come in any order, and batches are recorded in any order.
fn run(
    server: &mut Server,
    ledger: &mut Ledger,
    filter: &ListFilter,
    dice: &mut Dice,
    most: usize,
    full: bool,
) -> Option<Code> {
    let options = Options { parallel: 3, tries: 4, full, ..options() };
    let mut talk = Conversation::new(options, ledger.known());
    let (mut now, mut open, mut recording) = (1_000_000, Vec::new(), Vec::new());
    for _ in 0..most {
        let event = match talk.next(now) {
            Step::Call { ticket, request } => {
                if let Request::GetUpdateData { ids, .. } = &request {
                    let again: Vec<_> = ids.iter().filter(|id| ledger.recorded.contains(id)).collect();
                    assert!(again.is_empty(), "recorded, and asked for again: {again:?}");
                    let once: BTreeSet<_> = ids.iter().collect();
                    assert_eq!(once.len(), ids.len(), "an id twice in a call");
                }
                open.push((ticket, request));
                continue;
            }
            Step::Record(batch) => {
                recording.push(batch);
                continue;
            }
            Step::Wait(most) => {
                assert!(most.is_some() || !open.is_empty() || !recording.is_empty(), "it waits for nothing");
                now += i64::try_from(most.unwrap_or(10)).unwrap();
                if !recording.is_empty() && dice.roll(2) == 0 {
                    let batch: Batch = recording.remove(dice.roll(recording.len()));
                    ledger.record(&batch);
                    ledger.check(server);
                    Event::Recorded
                } else if !open.is_empty() {
                    let (ticket, request) = open.remove(dice.roll(open.len()));
                    let answer = server.answer(&request, now, dice);
                    Event::Answered { ticket, answer, server_time: Some(now) }
                } else {
                    continue;
                }
            }
            step @ (Step::Begin { .. } | Step::End(_) | Step::Choose | Step::Depend | Step::Forget) => {
                assert!(recording.is_empty(), "{step:?} overtakes what is being recorded");
                let event = carry_out(step, server, ledger, filter);
                ledger.check(server);
                event
            }
            Step::Done => {
                // Calls of a session that is over may still be on their way; nobody waits for them.
                assert!(recording.is_empty());
                return None;
            }
            Step::GiveUp(problem) => {
                assert!(recording.is_empty());
                return Some(problem.code);
            }
        };
        talk.on(event, now);
    }
    // The power is cut: some of what was on its way to the disk is there.
    for batch in recording {
        if dice.roll(2) == 0 {
            ledger.record(&batch);
        }
    }
    ledger.check(server);
    Some(Code::Interrupted)
}

fn carry_out(step: Step, server: &Server, ledger: &mut Ledger, filter: &ListFilter) -> Event {
    match step {
        Step::Begin { scope, ends, revisions } => {
            let pending = ledger.unrecorded(&revisions);
            ledger.passes.insert(scope, Pass { ends, pending: pending.clone() });
            Event::Begun(pending)
        }
        Step::End(scope) => {
            let pass = ledger.passes.remove(&scope).expect("a pass that ends was begun");
            assert!(pass.pending.is_empty(), "it ends with {:?} pending", pass.pending);
            ledger.anchors.insert(scope, pass.ends);
            Event::Ended
        }
        Step::Choose => Event::Chosen(Chosen {
            filter: Some(filter.clone()),
            classifications: vec![update(901), update(902)],
        }),
        Step::Depend => Event::Missing(ledger.unresolved(server)),
        Step::Forget => {
            ledger.anchors.clear();
            ledger.passes.clear();
            Event::Forgotten
        }
        other => panic!("{other:?}"),
    }
}

/// Runs undisturbed until nothing more comes. What a fault kept from being found is looked for again by a full run.
fn settle(server: &mut Server, ledger: &mut Ledger, filter: &ListFilter, dice: &mut Dice) {
    server.faults = 0;
    for again in 0..40 {
        let before = ledger.recorded.len();
        let ended = run(server, ledger, filter, dice, 1_000_000, again % 2 == 1);
        if ended.is_none() && again > 0 && ledger.recorded.len() == before {
            return;
        }
    }
    panic!("an undisturbed server, and no run ends well");
}

/// All that can be had with this filter: what matches, what that contains and needs.
fn reachable(server: &Server, filter: &ListFilter) -> BTreeSet<RevisionId> {
    let wanted = |config: bool| Filter {
        get_config: config,
        categories: with(&filter.categories),
        classifications: with(&filter.classifications),
        ..Filter::default()
    };
    let well = |id: &RevisionId| server.items.get(id).is_some_and(|(_, health)| *health == Health::Well);
    let mut all: BTreeSet<RevisionId> = server
        .items
        .iter()
        .filter(|(_, (item, _))| {
            Server::matches(item, &wanted(true)) || Server::matches(item, &wanted(false))
        })
        .map(|(id, _)| *id)
        .filter(well)
        .collect();
    loop {
        let bundled = all.iter().flat_map(|id| &server.items[id].0.bundled).copied();
        let needed = all.iter().flat_map(|id| &server.items[id].0.needed);
        let needed = needed.flat_map(|update| server.items.keys().filter(|id| id.update == *update)).copied();
        let more: Vec<_> = bundled.chain(needed).filter(|id| !all.contains(id) && well(id)).collect();
        if more.is_empty() {
            return all;
        }
        all.extend(more);
    }
}

fn health() -> impl Strategy<Value = Health> {
    prop_oneof![
        12 => Just(Health::Well),
        1 => Just(Health::Poisoned),
        1 => Just(Health::Damaged),
        1 => Just(Health::LeftOut),
    ]
}

prop_compose! {
    fn server()(
        categories in prop::collection::vec((health(), 1_u64..10), 0..8),
        updates in prop::collection::vec((0..3_u128, 0..2_u128, 1_u64..10, health(), 0..40_u128, 0..40_u128), 0..60),
        short in prop_oneof![Just(1_usize), 2..8_usize, Just(1000)],
    ) -> Server {
        let count = updates.len() as u128;
        let mut items = BTreeMap::new();
        for (n, (health, changed)) in categories.into_iter().enumerate() {
            let item = Item { place: None, changed, bundled: Vec::new(), needed: Vec::new() };
            items.insert(id(n as u128 + 1), (item, health));
        }
        for (n, (category, class, changed, health, bundled, needed)) in updates.into_iter().enumerate() {
            let n = n as u128;
            // Only to later ones, so that there is an end; some lead nowhere.
            let later = |by: u128| if by < 20 { Some(n + 1 + by) } else { None };
            let item = Item {
                place: Some((update(800 + category), update(901 + class))),
                changed,
                bundled: later(bundled).filter(|n| *n < count).map(|n| id(100 + n)).into_iter().collect(),
                needed: later(needed).map(|n| update(100 + n)).into_iter().collect(),
            };
            items.insert(id(100 + n), (item, health));
        }
        Server { items, time: 10, short, faults: 0, cookie: 2 }
    }
}

fn filter(categories: &[u128], classes: &[u128]) -> ListFilter {
    ListFilter {
        categories: categories.iter().map(|n| update(*n)).collect(),
        classifications: classes.iter().map(|n| update(*n)).collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_all_that_can_be_had_is_recorded(
        mut server in server(),
        seed in any::<u64>(),
        cuts in prop::collection::vec(1..300_usize, 0..6),
    ) {
        let mut dice = Dice(seed);
        let mut ledger = Ledger::default();
        let wanted = filter(&[800], &[901]);
        for cut in cuts {
            server.faults = MOST_FAULTS;
            run(&mut server, &mut ledger, &wanted, &mut dice, cut, false);
        }
        server.faults = MOST_FAULTS;
        run(&mut server, &mut ledger, &wanted, &mut dice, 1_000_000, false);
        settle(&mut server, &mut ledger, &wanted, &mut dice);
        let mut undisturbed = Ledger::default();
        settle(&mut server, &mut undisturbed, &wanted, &mut Dice(1));
        prop_assert!(reachable(&server, &wanted).is_subset(&ledger.recorded));
        prop_assert_eq!(&ledger.recorded, &undisturbed.recorded);

        // Unchanged: two lists, and perhaps what is set aside. Nothing else.
        let before = ledger.clone();
        settle(&mut server, &mut ledger, &wanted, &mut dice);
        prop_assert_eq!(&ledger.recorded, &before.recorded);
        prop_assert_eq!(&ledger.anchors, &before.anchors);
    }

    #[test]
    fn another_selection_costs_the_difference(
        mut server in server(),
        seed in any::<u64>(),
        first in (prop::bool::ANY, prop::bool::ANY),
        cut in prop::option::of(1..200_usize),
        news in 0..5_u128,
    ) {
        let mut dice = Dice(seed);
        let mut ledger = Ledger::default();
        let pick = |both: (bool, bool)| {
            filter(if both.0 { &[800] } else { &[800, 801] }, if both.1 { &[901] } else { &[901, 902] })
        };
        let before = pick(first);
        match cut {
            Some(cut) => drop(run(&mut server, &mut ledger, &before, &mut dice, cut, false)),
            None => settle(&mut server, &mut ledger, &before, &mut dice),
        }
        // Meanwhile something is published, and then more or less is wanted.
        server.time = 20;
        for n in 0..news {
            let item = Item {
                place: Some((update(800 + n % 3), update(901 + n % 2))),
                changed: 15,
                bundled: Vec::new(),
                needed: Vec::new(),
            };
            server.items.insert(id(500 + n), (item, Health::Well));
        }
        let after = filter(&[801, 802], &[902, 901]);
        settle(&mut server, &mut ledger, &after, &mut dice);
        prop_assert!(reachable(&server, &after).is_subset(&ledger.recorded));
        let mut fresh = Ledger::default();
        settle(&mut server, &mut fresh, &after, &mut dice);
        prop_assert!(fresh.recorded.is_subset(&ledger.recorded));
    }
}
