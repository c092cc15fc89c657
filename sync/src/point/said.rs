//! What the site need not be told again.
//!
//! A point that stands still says every few seconds that it does, and not each of its packages; and one of which something moves says
//! that, to a site that takes it. What is lacking of a package is said a hundred contents at a time, until all of it was.
//! ```text
//! all packages ──taken down──▶ what changed since ──taken down──▶ … ──nothing changed──▶ its name alone
//!      ▲                                │
//!      └── lost, refused, not known ────┴── and every five minutes
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use catalog::digest::Sha256Digest;
use catalog::id::PackageId;
use catalog::problem::{Code, Problem};
use schema::points::ContentState;

use crate::points::wire::{Changed, MOST_LACKING, ReportAnswer, Said};

/// So often all is said, whatever the site has acknowledged: what either side has wrong by a mistake is right again then.
const ALL_AGAIN: Duration = Duration::from_secs(300);
/// The most contents that one report says are lacking: what has no room is said with the next ones.
const MOST_LACKING_IN_ALL: usize = 4_000;

/// What the site has taken down of what was said.
#[derive(Debug, Default)]
pub(super) struct Acknowledged {
    known: Option<Known>,
    /// What was said before it was forgotten what the site knows: each content that lacks has its turn.
    turn: BTreeMap<PackageId, Told>,
    /// The site takes what changed.
    takes_changes: bool,
    /// When all was said last.
    all: Option<Instant>,
}

/// A state, as the site knows it.
#[derive(Debug)]
struct Known {
    name: String,
    packages: BTreeMap<PackageId, Told>,
}

/// What was said of one package.
#[derive(Debug, Clone, PartialEq)]
struct Told {
    /// But for what it lacks.
    said: Said,
    lacks: BTreeSet<Sha256Digest>,
}

/// What is said with one report.
#[derive(Debug)]
pub(super) struct Saying {
    /// All packages.
    pub(super) packages: Option<Vec<Said>>,
    /// Where these are not all: those that changed, since which state.
    pub(super) changed: Option<Changed>,
    /// What it comes to.
    state: Known,
}

impl Saying {
    /// The name of how all packages are once this is taken down.
    pub(super) fn state(&self) -> &str {
        &self.state.name
    }
}

impl Acknowledged {
    /// What a report has to say where packages are like this, with all that they lack, for the assignment of this tag. It is on its way
    /// from now on: until it is answered, nothing is known of what the site knows.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub(super) fn says(
        &mut self,
        assignment: Option<&str>,
        packages: Vec<Said>,
        now: Instant,
    ) -> Result<Saying, Problem> {
        let known = self.known.take();
        let is_old = self.all.is_none_or(|all| now.saturating_duration_since(all) >= ALL_AGAIN);
        let since = known.as_ref().filter(|_| !is_old);
        let before = known.as_ref().map_or(&self.turn, |known| &known.packages);
        let mut room = MOST_LACKING_IN_ALL;
        let (mut all, mut changed, mut told) = (Vec::new(), Vec::new(), BTreeMap::new());
        for mut said in packages {
            let lacks: BTreeSet<_> = std::mem::take(&mut said.lacks).into_iter().collect();
            let before = before.get(&said.package);
            // With the whole package the site believes that everything is there, and with another order it has heard of nothing.
            let goes_on = before.filter(|before| {
                let same = (before.said.order, before.said.state) == (said.order, said.state);
                same && said.state != ContentState::Success
            });
            let mut heard: BTreeSet<_> = goes_on
                .map(|before| before.lacks.intersection(&lacks).copied().collect())
                .unwrap_or_default();
            if since.is_none() && heard.len() == lacks.len() {
                heard.clear(); // all had their turn: from the beginning
            }
            let next: Vec<_> = lacks.difference(&heard).take(MOST_LACKING.min(room)).copied().collect();
            room -= next.len();
            heard.extend(&next);
            let told_now = Told { said: said.clone(), lacks: heard };
            said.lacks = next;
            if before != Some(&told_now) || !said.lacks.is_empty() {
                changed.push(said.clone());
            }
            told.insert(said.package.clone(), told_now);
            all.push(said);
        }
        let name = state_of(assignment, &told)?;
        let (packages, changed) = match since {
            Some(known) if known.name == name => (None, None),
            Some(known) if self.takes_changes => {
                (None, Some(Changed { since: known.name.clone(), packages: changed }))
            }
            _ => (Some(all), None),
        };
        self.turn = known.map_or_else(|| std::mem::take(&mut self.turn), |known| known.packages);
        Ok(Saying { packages, changed, state: Known { name, packages: told } })
    }

    /// The site has answered. Whether all is to be said at once: it was left out, and the site does not know it.
    pub(super) fn answered(&mut self, said: Saying, answer: &ReportAnswer, now: Instant) -> bool {
        let said_all = said.packages.is_some();
        self.takes_changes = answer.changes;
        if said_all {
            self.all = Some(now);
        }
        let is_known = answer.state.as_ref() == Some(&said.state.name);
        match is_known {
            true => self.known = Some(said.state),
            false if self.takes_changes => self.turn.clear(), // it has forgotten, or never knew
            false if said_all => self.turn = said.state.packages,
            false => {}
        }
        !is_known && !said_all
    }
}

/// The name of what was said of all packages, for the assignment of this tag.
fn state_of(assignment: Option<&str>, told: &BTreeMap<PackageId, Told>) -> Result<String, Problem> {
    let packages: Vec<_> = told.values().map(|told| (&told.said, &told.lacks)).collect();
    let text =
        serde_json::to_vec(&(assignment, packages)).map_err(|error| Problem::of(Code::Internal, &error))?;
    Ok(Sha256Digest::of(&text).short())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn package(number: u32) -> PackageId {
        format!("XYZ{number:05}").parse().expect("an id")
    }

    fn content(number: u32) -> Sha256Digest {
        Sha256Digest::of(&number.to_le_bytes())
    }

    fn said(number: u32, order: u64, state: ContentState, done: u64, lacks: std::ops::Range<u32>) -> Said {
        Said {
            package: package(number),
            order,
            state,
            done,
            problem: None,
            lacks: lacks.map(content).collect(),
        }
    }

    fn knows(state: &str) -> ReportAnswer {
        ReportAnswer { state: Some(state.to_owned()), changes: true }
    }

    const NOTHING: ReportAnswer = ReportAnswer { state: None, changes: false };

    #[test]
    fn what_was_acknowledged_is_not_said_again_for_a_while() {
        let (mut known, start) = (Acknowledged::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let one = |done| vec![said(1, 1, ContentState::Sending, done, 0..0)];
        let all = |saying: &Saying| saying.packages.is_some();
        let saying = known.says(None, one(1), at(0)).unwrap();
        assert!(all(&saying) && !known.answered(saying, &NOTHING, at(0)), "a site of before: it was said");
        let saying = known.says(None, one(1), at(5)).unwrap();
        let before = ReportAnswer { state: Some(saying.state().to_owned()), changes: false };
        assert!(all(&saying) && !known.answered(saying, &before, at(5)));
        let saying = known.says(None, one(1), at(10)).unwrap();
        assert!(!all(&saying) && saying.changed.is_none());
        assert!(!known.answered(saying, &before, at(10)));
        let saying = known.says(None, one(2), at(15)).unwrap();
        assert!(all(&saying), "a site between takes no changes");
        let state = saying.state().to_owned();
        assert!(!known.answered(saying, &knows(&state), at(15)));
        let saying = known.says(None, one(2), at(20)).unwrap();
        assert!(!all(&saying) && saying.changed.is_none());
        assert!(known.answered(saying, &NOTHING, at(20)), "the site was started again");
        let saying = known.says(None, one(2), at(20)).unwrap();
        assert!(all(&saying) && !known.answered(saying, &knows(&state), at(20)));
        drop(known.says(None, one(2), at(21)).unwrap());
        let saying = known.says(None, one(2), at(22)).unwrap();
        assert!(all(&saying), "the report was refused, or lost");
        assert!(!known.answered(saying, &knows(&state), at(22)));
        let saying = known.says(None, one(2), at(321)).unwrap();
        assert!(!all(&saying) && !known.answered(saying, &knows(&state), at(321)));
        let saying = known.says(None, one(2), at(322)).unwrap();
        assert!(all(&saying) && !known.answered(saying, &knows("late: that was another one"), at(322)));
        assert!(all(&known.says(None, one(2), at(323)).unwrap()));
    }

    #[test]
    fn what_moves_is_said_alone_and_what_lacks_until_all_of_it_was() {
        let (mut known, now) = (Acknowledged::default(), Instant::now());
        let still = said(1, 1, ContentState::Success, 9, 0..0);
        let with = |done, lacks| vec![still.clone(), said(2, 1, ContentState::Warning, done, lacks)];
        let saying = known.says(Some("a"), with(1, 0..250), now).unwrap();
        let lacks: Vec<_> = saying.packages.as_ref().unwrap().iter().map(|said| said.lacks.len()).collect();
        assert_eq!(lacks, [0, 100]);
        let mut state = saying.state().to_owned();
        known.answered(saying, &knows(&state), now);
        let mut heard = Vec::new();
        // One more is lost meanwhile.
        for expected in [100, 51] {
            let saying = known.says(Some("a"), with(1, 0..251), now).unwrap();
            let Changed { since, packages: changed } = saying.changed.as_ref().unwrap();
            assert_eq!((since, changed.len(), changed[0].lacks.len()), (&state, 1, expected));
            heard.extend(changed[0].lacks.clone());
            state = saying.state().to_owned();
            known.answered(saying, &knows(&state), now);
        }
        heard.sort();
        heard.dedup();
        assert_eq!(heard.len(), 151);
        let saying = known.says(Some("a"), with(1, 0..251), now).unwrap();
        assert!(saying.packages.is_none() && saying.changed.is_none(), "all is said");
        known.answered(saying, &knows(&state), now);
        let saying = known.says(Some("a"), with(2, 0..251), now).unwrap();
        let changed = &saying.changed.as_ref().unwrap().packages;
        assert_eq!((changed.len(), changed[0].done, changed[0].lacks.len()), (1, 2, 0), "only how far it is");
        state = saying.state().to_owned();
        known.answered(saying, &knows(&state), now);
        // Another assignment is another state, in which nothing of this may have changed.
        let saying = known.says(Some("b"), with(2, 0..251), now).unwrap();
        assert_eq!(
            saying.changed.as_ref().map(|changed| (&changed.since, changed.packages.len())),
            Some((&state, 0))
        );
        state = saying.state().to_owned();
        known.answered(saying, &knows(&state), now);
        // One that is not spoken of any more leaves a trace in the name.
        let saying = known.says(Some("b"), vec![still.clone()], now).unwrap();
        assert_eq!(saying.changed.as_ref().map(|changed| changed.packages.len()), Some(0));
    }

    #[test]
    fn a_site_of_before_hears_of_each_content_in_its_turn() {
        let (mut known, now) = (Acknowledged::default(), Instant::now());
        let mut heard = BTreeSet::new();
        for _ in 0..3 {
            let saying = known.says(None, vec![said(1, 1, ContentState::Warning, 0, 0..250)], now).unwrap();
            heard.extend(saying.packages.as_ref().unwrap()[0].lacks.clone());
            known.answered(saying, &NOTHING, now);
        }
        assert_eq!(heard.len(), 250);
        let saying = known.says(None, vec![said(1, 1, ContentState::Warning, 0, 0..250)], now).unwrap();
        assert_eq!(saying.packages.as_ref().unwrap()[0].lacks.len(), 100, "and again");
    }

    /// What a site makes of it.
    #[derive(Default)]
    struct Site {
        state: Option<String>,
        packages: BTreeMap<PackageId, Told>,
    }

    impl Site {
        fn hear(&mut self, said: &Said) {
            let (base, lacks) = (Said { lacks: Vec::new(), ..said.clone() }, said.lacks.iter().copied());
            let same = |told: &&mut Told| (told.said.order, told.said.state) == (said.order, said.state);
            match self.packages.get_mut(&said.package).filter(same) {
                Some(told) if said.state != ContentState::Success => {
                    told.said = base;
                    told.lacks.extend(lacks);
                }
                _ => drop(
                    self.packages.insert(said.package.clone(), Told { said: base, lacks: lacks.collect() }),
                ),
            }
        }

        fn take(&mut self, saying: &Saying) -> ReportAnswer {
            match (&saying.packages, &saying.changed) {
                (Some(all), _) => {
                    self.packages.retain(|package, _| all.iter().any(|said| said.package == *package));
                    all.iter().for_each(|said| self.hear(said));
                    self.state = Some(saying.state().to_owned());
                }
                (None, Some(changed)) if self.state.as_ref() == Some(&changed.since) => {
                    changed.packages.iter().for_each(|said| self.hear(said));
                    self.state = Some(saying.state().to_owned());
                }
                _ => {}
            }
            let state = self.state.clone().filter(|state| state == saying.state());
            ReportAnswer { state, changes: true }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Whatever happens to packages, reports and the site: where nothing moves any more, the site knows what there is, and then
        /// hears its name alone.
        #[test]
        fn what_the_site_was_told_is_what_there_is(
            steps in prop::collection::vec((0..8_u8, 0..3_u32, 0..4_u8, 0..260_u32), 1..40)
        ) {
            let (mut known, mut site, start) = (Acknowledged::default(), Site::default(), Instant::now());
            let mut packages: BTreeMap<u32, Said> = BTreeMap::new();
            let mut clock = 0;
            let mut tell = |known: &mut Acknowledged, site: &mut Site, packages: &BTreeMap<u32, Said>, goes: u8| {
                clock += 5;
                let now = start + Duration::from_secs(clock);
                let saying = known.says(None, packages.values().cloned().collect(), now).expect("a name");
                let is_short = saying.packages.is_none() && saying.changed.is_none();
                match goes {
                    0 => return is_short, // it never arrives
                    1 => {
                        site.take(&saying); // its answer never does
                        return is_short;
                    }
                    _ => {}
                }
                let answer = site.take(&saying);
                known.answered(saying, &answer, now);
                is_short
            };
            for (what, number, how, many) in steps {
                let states = [ContentState::Queued, ContentState::Sending, ContentState::Success, ContentState::Warning];
                match what {
                    0 => drop(packages.insert(number, said(number, 1, states[usize::from(how)], 0, 0..0))),
                    1 | 2 => {
                        let (order, state) = (u64::from(many % 2), states[usize::from(how)]);
                        // What is whole lacks nothing but what is leaving.
                        let many = if state == ContentState::Success { many % 100 } else { many };
                        drop(packages.insert(number, said(number, order, state, 1, 0..many)));
                    }
                    3 => drop(packages.remove(&number)),
                    4 => {
                        if let Some(said) = packages.get_mut(&number) {
                            said.done += 1;
                            said.lacks.truncate(many as usize);
                        }
                    }
                    5 => site = Site::default(),
                    _ => {}
                }
                tell(&mut known, &mut site, &packages, how);
            }
            let mut short = 0;
            for _ in 0..140 {
                short = if tell(&mut known, &mut site, &packages, 2) { short + 1 } else { 0 };
            }
            for said in packages.values() {
                let told = site.packages.get(&said.package).expect("it was told");
                prop_assert_eq!((told.said.order, told.said.state, told.said.done), (said.order, said.state, said.done));
                for content in &said.lacks {
                    prop_assert!(told.lacks.contains(content), "{} of {}", content, said.package);
                }
            }
            prop_assert!(short > 0, "it ends with a name");
        }
    }

    #[test]
    fn a_state_is_named_by_all_that_is_said_of_it() {
        let states = [
            (None, vec![]),
            (Some("1"), vec![]),
            (Some("1"), vec![said(1, 1, ContentState::Sending, 1, 0..0)]),
            (Some("1"), vec![said(1, 1, ContentState::Sending, 2, 0..0)]),
            (Some("1"), vec![said(1, 1, ContentState::Sending, 2, 0..1)]),
            (Some("1"), vec![said(1, 1, ContentState::Success, 2, 0..0)]),
            (Some("2"), vec![said(1, 1, ContentState::Success, 2, 0..0)]),
        ];
        let now = Instant::now();
        let name = |(tag, packages): &(Option<&str>, Vec<Said>)| {
            Acknowledged::default().says(*tag, packages.clone(), now).unwrap().state().to_owned()
        };
        let named: BTreeSet<_> = states.iter().map(name).collect();
        assert_eq!(named.len(), states.len());
        assert_eq!(name(&states[3]), name(&states[3]));
    }
}
