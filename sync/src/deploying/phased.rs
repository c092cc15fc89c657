//! Phased deployments: which phase begins when. Pure: time and counts are arguments.
//!
//! ```text
//! waiting ──the phase before is good enough──▶ deferred ──its pause is over, or somebody says so──▶ active ──▶ done
//! ```
//! - The first phase is active from the beginning. One phase after the other: none begins before the one before it.
//! - What was good enough once stays so: a phase that is deferred does not go back because a device was added.
//! - While it is suspended nothing begins; what runs, runs.
//! - A clock that is set back never makes a phase begin earlier; it may make it wait for somebody who says so.

use std::time::Duration;

use catalog::problem::{Code, Problem};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The most phases.
pub const MOST_PHASES: usize = 12;
/// Devices of a hundred that have to succeed, unless it is said otherwise.
pub const USUAL_PERCENT: u8 = 95;
const DAY: u64 = 86_400;
/// How long after its success the next phase begins, unless it is said otherwise.
pub const USUAL_PAUSE: Duration = Duration::from_secs(DAY);
/// When a phase is due after it began, unless it is said otherwise.
pub const USUAL_DEADLINE: Duration = Duration::from_secs(7 * DAY);

/// When a phase is good enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Success {
    /// So many of a hundred devices succeeded.
    Percent(u8),
    /// So many devices succeeded.
    Devices(u32),
}

impl Default for Success {
    fn default() -> Self {
        Self::Percent(USUAL_PERCENT)
    }
}

/// How a phase begins once the one before is good enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Begin {
    /// By itself, so many seconds later.
    After(u64),
    /// When somebody says so.
    Manual,
}

impl Default for Begin {
    fn default() -> Self {
        Self::After(USUAL_PAUSE.as_secs())
    }
}

/// How far a phase is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// For the one before.
    Waiting,
    /// The one before is good enough; its pause is not over.
    Deferred,
    /// Its deployment is there.
    Active,
    /// It is good enough itself.
    Done,
    /// Its deployment was stopped before it was: what follows begins only where somebody says so.
    Stopped,
}

/// One phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// Name of its collection.
    pub collection: String,
    /// When it is good enough for the next one.
    pub success: Success,
    /// How it begins. Of the first one nothing is said here.
    pub begin: Begin,
    /// Seconds after its beginning when it is due; 0: at once.
    pub due_after: u64,
    /// How far it is.
    pub state: State,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Its deployment.
    #[serde(default)]
    pub deployment: Option<String>,
}

/// All phases of one plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// In order.
    pub phases: Vec<Phase>,
    /// Nothing begins.
    pub suspended: bool,
}

/// How a phase is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Devices in its collection.
    pub devices: u32,
    /// Those that succeeded.
    pub succeeded: u32,
    /// Those that need nothing of it: they run what it brings already, or something newer.
    #[serde(default)]
    pub nothing_to_do: u32,
}

impl Success {
    /// Whether that is good enough. A hundred are those that have something to do: the others would keep it from ever being good enough.
    /// Where none has, or there is none, nothing was shown: somebody has to say that it goes on.
    pub fn is_met(self, tally: Tally) -> bool {
        match self {
            Self::Percent(percent) => {
                let work = u64::from(tally.devices.saturating_sub(tally.nothing_to_do));
                work > 0 && u64::from(tally.succeeded) * 100 >= u64::from(percent) * work
            }
            Self::Devices(devices) => tally.succeeded >= devices,
        }
    }
}

impl Plan {
    /// Lets time and counts have their effect; `tallies` are those of the phases, in order. Answers which phase begins
    /// now: its deployment has to be made, and [`Plan::began`] to be told.
    pub fn at(&mut self, tallies: &[Tally], now: Timestamp) -> Option<usize> {
        if self.suspended {
            return None;
        }
        let tally = |position: usize| tallies.get(position).copied().unwrap_or_default();
        for position in 0..self.phases.len() {
            if self.phases[position].state == State::Active
                && self.phases[position].success.is_met(tally(position))
            {
                self.enter(position, State::Done, now);
            }
        }
        let next = self.next()?;
        let Some(before) = next.checked_sub(1) else { return Some(next) };
        if self.phases[next].state == State::Waiting && self.phases[before].state == State::Done {
            self.enter(next, State::Deferred, now);
        }
        let phase = &mut self.phases[next];
        match (phase.state, phase.begin) {
            (State::Deferred, Begin::After(pause)) => {
                let since = *phase.since.get_or_insert(now);
                (now.duration_since(since).as_secs() >= i64::try_from(pause).unwrap_or(i64::MAX))
                    .then_some(next)
            }
            _ => None,
        }
    }

    /// Ends the phases that go on with a deployment that is not `live` any more, for no device will succeed by it, and suspends
    /// the plan. The first of them, counted from 1, and its deployment.
    pub fn stop_where_it_cannot_go_on(
        &mut self,
        live: impl Fn(&str) -> bool,
        now: Timestamp,
    ) -> Option<(usize, String)> {
        let mut first = None;
        for position in 0..self.phases.len() {
            let phase = &self.phases[position];
            let gone = phase.deployment.as_ref().filter(|id| phase.state == State::Active && !live(id));
            if let Some(id) = gone.cloned() {
                self.enter(position, State::Stopped, now);
                self.suspended = true;
                first.get_or_insert((position + 1, id));
            }
        }
        first
    }

    /// The phase that would begin next.
    pub fn next(&self) -> Option<usize> {
        self.phases.iter().position(|phase| phase.state < State::Active)
    }

    /// Somebody wants the next phase to begin now, whatever the one before has come to.
    ///
    /// # Errors
    /// `PHASE_REFUSED` where nothing is left, or it is suspended.
    pub fn advance(&self) -> Result<usize, Problem> {
        if self.suspended {
            return Err(Problem::new(Code::PhaseRefused, "it is suspended")
                .help("`spsync deploy phased resume` first"));
        }
        self.next().ok_or_else(|| Problem::new(Code::PhaseRefused, "every phase has begun"))
    }

    /// The deployment of a phase is there.
    pub fn began(&mut self, position: usize, deployment: String, now: Timestamp) {
        self.enter(position, State::Active, now);
        self.phases[position].deployment = Some(deployment);
    }

    /// # Errors
    /// `PHASE_ACTIVE` for one that has begun.
    pub fn may_change(&self, position: usize) -> Result<(), Problem> {
        match self.phases.get(position) {
            None => Err(Problem::new(Code::PhaseRefused, format!("there is no phase {}", position + 1))),
            Some(phase) if phase.state >= State::Active => {
                Err(Problem::new(Code::PhaseActive, format!("phase {} has begun", position + 1)))
            }
            Some(_) => Ok(()),
        }
    }

    /// Whether every phase is good enough.
    pub fn is_over(&self) -> bool {
        self.phases.iter().all(|phase| phase.state >= State::Done)
    }

    fn enter(&mut self, position: usize, state: State, now: Timestamp) {
        let phase = &mut self.phases[position];
        phase.state = state;
        phase.since = Some(now);
    }
}

/// Rules of a plan to make.
///
/// # Errors
/// `PHASES_INVALID`.
pub fn check(phases: &[Phase]) -> Result<(), Problem> {
    let invalid = |message: String| Err(Problem::new(Code::PhasesInvalid, message));
    if phases.len() < 2 || phases.len() > MOST_PHASES {
        return invalid(format!("a phased deployment has 2 to {MOST_PHASES} phases, not {}", phases.len()));
    }
    for (position, phase) in phases.iter().enumerate() {
        let number = position + 1;
        let twice =
            phases[..position].iter().any(|other| other.collection.eq_ignore_ascii_case(&phase.collection));
        if twice {
            return invalid(format!("phase {number}: `{}` has a phase already", phase.collection));
        }
        match phase.success {
            Success::Percent(1..=100) | Success::Devices(1..) => {}
            Success::Percent(_) => return invalid(format!("phase {number}: success is 1 to 100 percent")),
            Success::Devices(_) => return invalid(format!("phase {number}: success is at least 1 device")),
        }
        if matches!(phase.begin, Begin::After(pause) if pause > 365 * DAY) || phase.due_after > 365 * DAY {
            return invalid(format!("phase {number}: pauses and deadlines last at most 365 days"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::request::NewPhase;
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn phase(name: &str, success: Success, begin: Begin) -> Phase {
        let (collection, state) = (name.to_owned(), State::Waiting);
        Phase { collection, success, begin, due_after: 0, state, since: None, deployment: None }
    }

    fn tally(devices: u32, succeeded: u32) -> Tally {
        Tally { devices, succeeded, nothing_to_do: 0 }
    }

    #[test]
    fn devices_that_need_nothing_keep_nobody_back() {
        let tally = |devices, succeeded, nothing_to_do| Tally { devices, succeeded, nothing_to_do };
        for (success, tally, expected) in [
            (Success::Percent(95), tally(100, 90, 10), true),
            (Success::Percent(95), tally(100, 85, 10), false),
            (Success::Percent(95), tally(100, 86, 10), true),
            (Success::Percent(95), tally(10, 0, 9), false),
            (Success::Percent(95), tally(10, 0, 10), false),
            (Success::Percent(95), tally(0, 0, 0), false),
            // So many were asked for, whoever they are.
            (Success::Devices(5), tally(10, 4, 6), false),
            (Success::Devices(5), tally(10, 5, 5), true),
        ] {
            assert_eq!(success.is_met(tally), expected, "{success:?} {tally:?}");
        }
        let old: Tally =
            serde_json::from_str(r#"{"devices": 3, "succeeded": 1}"#).expect("what an older site says");
        assert_eq!(old, tally(3, 1, 0));
    }

    #[test]
    fn success_table() {
        for (success, tally, expected) in [
            (Success::Percent(95), tally(100, 94), false),
            (Success::Percent(95), tally(100, 95), true),
            (Success::Percent(95), tally(20, 19), true),
            (Success::Percent(95), tally(19, 18), false),
            (Success::Percent(1), tally(0, 0), false),
            (Success::Percent(100), tally(3, 3), true),
            (Success::Devices(5), tally(9, 4), false),
            (Success::Devices(5), tally(9, 5), true),
        ] {
            assert_eq!(success.is_met(tally), expected, "{success:?} {tally:?}");
        }
    }

    #[test]
    fn a_phase_whose_deployment_was_stopped_goes_on_by_hand_only() {
        let usual = |name: &str| phase(name, Success::default(), Begin::default());
        let mut plan = Plan { phases: vec![usual("pilot"), usual("all")], suspended: false };
        assert_eq!(plan.stop_where_it_cannot_go_on(|_| false, at(0)), None, "none has begun");
        plan.began(0, "XYZ20001".to_owned(), at(0));
        assert_eq!(plan.stop_where_it_cannot_go_on(|id| id == "XYZ20001", at(1)), None);
        let mut good = plan.clone();
        assert_eq!(plan.stop_where_it_cannot_go_on(|_| false, at(2)), Some((1, "XYZ20001".to_owned())));
        assert!(plan.suspended && plan.advance().is_err());
        plan.suspended = false;
        assert_eq!(plan.stop_where_it_cannot_go_on(|_| false, at(3)), None, "said once");
        assert_eq!(plan.at(&[tally(1, 1)], at(DAY as i64 * 9)), None, "not by itself");
        assert_eq!(plan.advance().unwrap(), 1);
        good.at(&[tally(1, 1)], at(1));
        assert_eq!(good.stop_where_it_cannot_go_on(|_| false, at(2)), None, "it was good enough before");
    }

    /// Mission row M67: two phases, 95 percent, a day later, each due after a week.
    #[test]
    fn phased_default_two() {
        let usual = |name: &str| {
            let new: NewPhase = serde_json::from_value(serde_json::json!({ "collection": name })).unwrap();
            new.waiting()
        };
        let said = Phase { due_after: 7 * DAY, ..phase("pilot", Success::Percent(95), Begin::After(DAY)) };
        assert_eq!(usual("pilot"), said);
        let mut plan = Plan { phases: vec![usual("pilot"), usual("all")], suspended: false };
        check(&plan.phases).unwrap();
        assert_eq!(plan.at(&[], at(0)), Some(0), "the first begins at once");
        plan.began(0, "XYZ20001".to_owned(), at(0));
        assert_eq!(plan.at(&[tally(100, 94)], at(10)), None);
        assert_eq!(plan.at(&[tally(100, 95)], at(20)), None);
        assert_eq!((plan.phases[0].state, plan.phases[1].state), (State::Done, State::Deferred));
        let day = DAY as i64;
        assert_eq!(plan.at(&[tally(101, 95)], at(20 + day - 1)), None, "what was good enough stays so");
        assert_eq!(plan.may_change(0).unwrap_err().code, Code::PhaseActive);
        plan.may_change(1).unwrap();
        plan.suspended = true;
        assert_eq!(plan.at(&[], at(20 + day)), None);
        assert_eq!(plan.advance().unwrap_err().code, Code::PhaseRefused);
        plan.suspended = false;
        assert_eq!(plan.at(&[], at(20 + day)), Some(1));
        plan.began(1, "XYZ20002".to_owned(), at(20 + day));
        assert_eq!(plan.at(&[tally(100, 95), tally(10, 10)], at(30 + day)), None);
        assert!(plan.is_over() && plan.advance().unwrap_err().code == Code::PhaseRefused);
    }

    #[test]
    fn plans_that_cannot_be() {
        let usual = |name: &str| phase(name, Success::default(), Begin::default());
        for (name, phases) in [
            ("one", vec![usual("a")]),
            ("thirteen", (0..13).map(|n| usual(&n.to_string())).collect()),
            ("twice the same", vec![usual("a"), usual("A")]),
            ("no percent", vec![usual("a"), phase("b", Success::Percent(0), Begin::Manual)]),
            ("more than all", vec![usual("a"), phase("b", Success::Percent(101), Begin::Manual)]),
            ("no device", vec![usual("a"), phase("b", Success::Devices(0), Begin::Manual)]),
            ("next century", vec![usual("a"), phase("b", Success::default(), Begin::After(u64::MAX))]),
        ] {
            assert_eq!(check(&phases).unwrap_err().code, Code::PhasesInvalid, "{name}");
        }
    }

    #[derive(Debug, Clone)]
    enum Event {
        Pass(i64),
        Succeed(usize, u32),
        Add(usize, u32),
        Suspend(bool),
        Advance,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            (-50_i64..200_000).prop_map(Event::Pass),
            (0_usize..4, 0_u32..40).prop_map(|(phase, more)| Event::Succeed(phase, more)),
            (0_usize..4, 0_u32..10).prop_map(|(phase, more)| Event::Add(phase, more)),
            any::<bool>().prop_map(Event::Suspend),
            Just(Event::Advance),
        ]
    }

    fn begin() -> impl Strategy<Value = Begin> {
        prop_oneof![(0_u64..100_000).prop_map(Begin::After), Just(Begin::Manual)]
    }

    fn success() -> impl Strategy<Value = Success> {
        prop_oneof![(1_u8..=100).prop_map(Success::Percent), (1_u32..30).prop_map(Success::Devices)]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
        #[test]
        fn phases_begin_in_order_and_for_a_reason(
            rules in proptest::collection::vec((success(), begin()), 4),
            events in proptest::collection::vec(event(), 0..40),
        ) {
            let phases = rules.iter().enumerate().map(|(n, (success, begin))| phase(&n.to_string(), *success, *begin));
            let mut plan = Plan { phases: phases.collect(), suspended: false };
            let mut tallies = [tally(20, 0); 4];
            let mut now = 1_000_000;
            for event in events {
                let before = plan.clone();
                let mut pushed = false;
                match event {
                    Event::Pass(seconds) => now += seconds,
                    // Nobody succeeds in a phase that has not begun.
                    Event::Succeed(n, more) if plan.phases[n].state >= State::Active => {
                        tallies[n].succeeded = (tallies[n].succeeded + more).min(tallies[n].devices);
                    }
                    Event::Succeed(..) => {}
                    Event::Add(n, more) => tallies[n].devices += more,
                    Event::Suspend(suspended) => plan.suspended = suspended,
                    Event::Advance => pushed = true,
                }
                let begins = if pushed { plan.advance().ok() } else { plan.at(&tallies, at(now)) };
                if let Some(n) = begins {
                    prop_assert!(!plan.suspended);
                    prop_assert!(plan.phases[..n].iter().all(|phase| phase.state >= State::Active));
                    if n > 0 && !pushed {
                        prop_assert_eq!(plan.phases[n - 1].state, State::Done);
                        let Begin::After(pause) = plan.phases[n].begin else { panic!("nobody said so") };
                        let since = plan.phases[n].since.expect("it was deferred");
                        prop_assert!(at(now).duration_since(since).as_secs() >= pause as i64);
                    }
                    plan.began(n, "d".to_owned(), at(now));
                }
                for (old, new) in before.phases.iter().zip(&plan.phases) {
                    prop_assert!(new.state >= old.state, "nothing goes back");
                }
                let begun = plan.phases.iter().filter(|phase| phase.state >= State::Active).count();
                let was = before.phases.iter().filter(|phase| phase.state >= State::Active).count();
                prop_assert!(begun <= was + 1, "one at a time");
                let again = plan.clone().at(&tallies, at(now));
                prop_assert!(again.is_none() || again == Some(begun), "asked again at once, at most the next one begins");
            }
        }
    }
}
