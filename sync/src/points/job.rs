//! What may happen to a package on a point. Pure: the time and the numbers of orders are
//! arguments.
//!
//! ```text
//! queued ──▶ sending ⇄ verifying ──▶ success ──validate──▶ validating ──▶ success | warning
//!    ▲          │          │            │
//!    │          ▼          ▼            └─ withdraw, from anywhere ──▶ removing ──▶ gone
//!    └─ retry ─ failed | cancelled
//! ```
//! A state says what is being done for a package as a whole. Which of its files a point has is kept beside it (`held` of
//! `distributed_file`): those stay and are served whatever is under way, until they are found bad or the package is taken off.
//!
//! A point says how it is doing about a numbered order. What it says about another order than the present one is late, and
//! changes nothing. About the present one it is believed also where all was well: its machine may have been replaced, or have lost
//! its data, and does the order again.

use catalog::problem::{Code, Problem};
use jiff::Timestamp;
use schema::points::{ContentState as State, Placement, Work};

use super::wire::Said;
use crate::config::PointRetry;

/// What happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// It is sent; its files are those of the package now.
    Send,
    /// Every file is sent again.
    Resend,
    /// Its files are to be read again, and bad ones fetched where `repair`.
    Validate {
        /// Whether bad ones are fetched again.
        repair: bool,
    },
    /// An operator does not want it any more.
    Cancel,
    /// An operator wants it tried again.
    Retry,
    /// The pause before the next try is over.
    RetryDue,
    /// The point has found by itself that files which it had are gone or bad, and serves them no more: they are to be fetched.
    Mend,
    /// Another installation has taken the place of the point: nobody knows what it has.
    Replaced,
    /// It is taken off.
    Withdraw,
    /// The point says how it is doing.
    Said(Said),
}

/// Whether sending a package in `version` to a point would bring it anything.
pub fn brings_something(placed: Option<&Placement>, version: u32) -> bool {
    placed.is_none_or(|placed| {
        placed.version != version
            || matches!(placed.state, State::Failed | State::Cancelled | State::Warning | State::Removing)
    })
}

/// What becomes of `placed`; `None` where nothing changes. `order` is the number of a new order, should one be needed.
///
/// # Errors
/// `DP_STATE_REFUSED` where an operator asks for what this state does not allow.
pub fn on(
    placed: &Placement,
    event: Event,
    order: u64,
    retry: &PointRetry,
    now: Timestamp,
) -> Result<Option<Placement>, Problem> {
    let with = |state, work| {
        let done = if matches!(work, Work::Resend) { 0 } else { placed.done };
        let (changed, next_retry, problem) = (Some(now), None, None);
        Some(Placement { state, work, order, done, changed, next_retry, problem, ..placed.clone() })
    };
    let afresh = |state, work| with(state, work).map(|it| Placement { retries_left: retry.max, ..it });
    let refuse = |what: &str| {
        let message =
            format!("package {} on {} is {}, which {what}", placed.package, placed.point, placed.state);
        Err(Problem::new(Code::DpStateRefused, message))
    };
    Ok(match (event, placed.state) {
        (Event::Send, _) => afresh(State::Queued, Work::Send),
        (Event::Resend, State::Removing) => return refuse("cannot be sent again"),
        (Event::Resend, _) => afresh(State::Queued, Work::Resend),
        (Event::Validate { repair }, State::Success | State::Validating | State::Warning) => {
            afresh(State::Validating, if repair { Work::Repair } else { Work::Validate })
        }
        (Event::Validate { .. }, _) => return refuse("cannot be validated"),
        // Nearly done: it ends well.
        (Event::Cancel, State::Verifying) => None,
        (Event::Cancel, State::Queued | State::Sending | State::Failed) => {
            with(State::Cancelled, placed.work).map(|it| Placement {
                problem: Some(Problem::new(Code::Cancelled, "cancelled by an operator")),
                ..it
            })
        }
        (Event::Cancel, _) => return refuse("cannot be cancelled"),
        (Event::Retry, State::Failed | State::Cancelled) => afresh(State::Queued, placed.work),
        // What was found bad is fetched, and what is well is not read again.
        (Event::Retry, State::Warning) => afresh(State::Queued, Work::Send),
        (Event::Retry, _) => return refuse("needs no other try"),
        (Event::RetryDue, State::Failed) if placed.next_retry.is_some_and(|due| is_due(due, retry, now)) => {
            let left = placed.retries_left.saturating_sub(1);
            with(State::Queued, placed.work).map(|it| Placement { retries_left: left, ..it })
        }
        (Event::RetryDue, _) => None,
        // So often, and then an operator has to look: a disk that goes bad again and again is not filled for ever.
        (Event::Mend, State::Warning) if placed.retries_left > 0 => {
            with(State::Queued, Work::Send).map(|it| Placement {
                retries_left: placed.retries_left - 1,
                problem: placed.problem.clone(),
                ..it
            })
        }
        (Event::Mend, _) => None,
        // What is to be taken off is gone; what was called off stays so.
        (Event::Replaced, State::Removing | State::Cancelled) => None,
        (Event::Replaced, _) => afresh(State::Queued, Work::Send).map(|it| Placement { done: 0, ..it }),
        (Event::Withdraw, State::Removing) => None,
        (Event::Withdraw, _) => with(State::Removing, Work::Send),
        (Event::Said(said), _) if said.order != placed.order => None,
        (Event::Said(said), _) => heard(placed, said, retry, now),
    })
}

/// When what has failed now is tried again, if it is.
fn next_try(left: u32, retry: &PointRetry, now: Timestamp) -> Option<Timestamp> {
    (left > 0).then(|| now.checked_add(retry.delay).unwrap_or(now))
}

/// Nobody waits longer than the pause between two tries: a time that is further away is from before the clock was put back.
fn is_due(due: Timestamp, retry: &PointRetry, now: Timestamp) -> bool {
    due <= now || due > latest(retry, now)
}

/// The latest time at which a next try may be due.
pub fn latest(retry: &PointRetry, now: Timestamp) -> Timestamp {
    now.checked_add(retry.delay).unwrap_or(Timestamp::MAX)
}

/// The point speaks of the present order.
fn heard(placed: &Placement, said: Said, retry: &PointRetry, now: Timestamp) -> Option<Placement> {
    let done = said.done.min(placed.bytes);
    let next = Placement { state: said.state, done, changed: Some(now), ..placed.clone() };
    // What was well and is under way again is done again, by a machine that did not know that it was.
    let under_way =
        matches!(placed.state, State::Queued | State::Sending | State::Verifying | State::Success);
    let next = match (placed.state, said.state) {
        (State::Cancelled | State::Removing, _) => return None,
        (_, State::Success) => Placement { done: placed.bytes, problem: None, next_retry: None, ..next },
        (State::Success, State::Queued) => next,
        (_, State::Sending | State::Verifying) if under_way => next,
        (State::Validating, State::Validating) => next,
        // What was found bad was to be fetched, and was not: that is tried again.
        (State::Validating, State::Failed) if placed.work == Work::Repair => {
            let next_retry = next_try(placed.retries_left, retry, now);
            Placement { problem: said.problem, next_retry, ..next }
        }
        // Also of an order that has ended well, where something else of the package was lost meanwhile.
        (State::Validating, State::Failed)
        | (
            State::Validating | State::Success | State::Queued | State::Sending | State::Verifying,
            State::Warning,
        ) => Placement { state: State::Warning, problem: said.problem, ..next },
        (_, State::Failed) if under_way => {
            let next_retry = next_try(placed.retries_left, retry, now);
            Placement { problem: said.problem, next_retry, ..next }
        }
        _ => return None,
    };
    let moved = next.state != placed.state;
    let told = Placement { changed: if moved { Some(now) } else { placed.changed }, ..next };
    (told != *placed).then_some(told)
}

/// A package on its way to a point.
#[cfg(test)]
pub(super) fn example() -> Placement {
    Placement {
        package: "XYZ00001".parse().expect("an id"),
        name: "p".to_owned(),
        point_id: 2,
        point: "lyon".to_owned(),
        version: 1,
        latest: 1,
        state: State::Queued,
        work: Work::Send,
        order: 7,
        retries_left: 3,
        next_retry: None,
        done: 0,
        bytes: 100,
        problem: None,
        at: Timestamp::UNIX_EPOCH,
        changed: None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;
    const RETRY: PointRetry = PointRetry { max: 3, delay: Duration::from_secs(60) };

    fn placed(state: State) -> Placement {
        Placement { state, ..example() }
    }

    fn said(state: State) -> Event {
        let problem = (state == State::Failed).then(|| Problem::new(Code::DpDiskFull, "full"));
        let package = "XYZ00001".parse().expect("an id");
        Event::Said(Said { package, order: 7, state, done: 40, problem, lacks: Vec::new() })
    }

    /// The table: from, what happens, to; `-` for no change, `!` for a refusal.
    #[test]
    fn states_follow_each_other_as_designed() {
        let validate = || Event::Validate { repair: false };
        use State::{Cancelled, Failed, Queued, Removing, Sending, Success, Validating, Verifying, Warning};
        for (from, event, expected) in [
            (Failed, Event::Send, "queued"),
            (Success, Event::Send, "queued"),
            (Success, Event::Resend, "queued"),
            (Removing, Event::Resend, "!"),
            (Success, validate(), "validating"),
            (Warning, validate(), "validating"),
            (Queued, validate(), "!"),
            (Failed, validate(), "!"),
            (Queued, Event::Cancel, "cancelled"),
            (Sending, Event::Cancel, "cancelled"),
            (Failed, Event::Cancel, "cancelled"),
            (Verifying, Event::Cancel, "-"),
            (Success, Event::Cancel, "!"),
            (Failed, Event::Retry, "queued"),
            (Cancelled, Event::Retry, "queued"),
            (Success, Event::Retry, "!"),
            (Sending, Event::Retry, "!"),
            (Warning, Event::Retry, "queued"),
            (Failed, Event::RetryDue, "-"),
            (Warning, Event::Mend, "queued"),
            (Success, Event::Mend, "-"),
            (Failed, Event::Mend, "-"),
            (Cancelled, Event::Mend, "-"),
            (Sending, Event::Withdraw, "removing"),
            (Success, Event::Withdraw, "removing"),
            (Removing, Event::Withdraw, "-"),
            (Queued, said(Sending), "sending"),
            (Sending, said(Sending), "sending"),
            (Verifying, said(Sending), "sending"),
            (Sending, said(Verifying), "verifying"),
            (Queued, said(Success), "success"),
            (Verifying, said(Success), "success"),
            (Validating, said(Success), "success"),
            (Validating, said(Warning), "warning"),
            (Validating, said(Failed), "warning"),
            (Success, said(Warning), "warning"),
            (Sending, said(Warning), "warning"),
            (Queued, said(Warning), "warning"),
            (Sending, said(Failed), "failed"),
            // Another machine of this name, or one that has lost its data, does the present order again.
            (Success, said(Failed), "failed"),
            (Success, said(Sending), "sending"),
            (Success, said(Verifying), "verifying"),
            (Success, said(Queued), "queued"),
            (Success, said(Validating), "-"),
            (Sending, said(Queued), "-"),
            (Success, Event::Replaced, "queued"),
            (Warning, Event::Replaced, "queued"),
            (Failed, Event::Replaced, "queued"),
            (Sending, Event::Replaced, "queued"),
            (Validating, Event::Replaced, "queued"),
            (Cancelled, Event::Replaced, "-"),
            (Removing, Event::Replaced, "-"),
            (Cancelled, said(Success), "-"),
            (Removing, said(Success), "-"),
            (Failed, said(Sending), "-"),
            (Success, said(Removing), "-"),
        ] {
            let shown = format!("{from} {event:?}");
            let found = match on(&placed(from), event, 8, &RETRY, NOW) {
                Ok(None) => "-".to_owned(),
                Ok(Some(next)) => next.state.to_string(),
                Err(problem) => {
                    assert_eq!(problem.code, Code::DpStateRefused);
                    "!".to_owned()
                }
            };
            assert_eq!(found, expected, "{shown}");
        }
    }

    #[test]
    fn a_failure_is_tried_again_so_often_and_after_this_pause() {
        let mut now = NOW;
        let mut placed = placed(State::Sending);
        for left in [2, 1, 0] {
            let order = placed.order;
            let failed = Said {
                order,
                ..match said(State::Failed) {
                    Event::Said(said) => said,
                    _ => unreachable!(),
                }
            };
            placed = on(&placed, Event::Said(failed), 0, &RETRY, now).unwrap().unwrap();
            assert_eq!(placed.problem.as_ref().map(|p| p.code), Some(Code::DpDiskFull));
            assert_eq!(on(&placed, Event::RetryDue, order + 1, &RETRY, now), Ok(None), "not yet");
            now = placed.next_retry.unwrap();
            placed = on(&placed, Event::RetryDue, order + 1, &RETRY, now).unwrap().unwrap();
            assert_eq!((placed.state, placed.retries_left, placed.order), (State::Queued, left, order + 1));
        }
        let last = Said {
            package: placed.package.clone(),
            order: placed.order,
            state: State::Failed,
            done: 0,
            problem: None,
            lacks: Vec::new(),
        };
        let over = on(&placed, Event::Said(last), 0, &RETRY, now).unwrap().unwrap();
        assert_eq!((over.state, over.next_retry), (State::Failed, None), "no more tries");
        let again = on(&over, Event::Retry, 99, &RETRY, now).unwrap().unwrap();
        assert_eq!((again.state, again.retries_left), (State::Queued, RETRY.max), "an operator starts anew");
    }

    #[test]
    fn a_repair_that_fails_is_tried_again_and_a_look_is_not() {
        for (work, state, tried) in
            [(Work::Repair, State::Failed, true), (Work::Validate, State::Warning, false)]
        {
            let validating = Placement { work, ..placed(State::Validating) };
            let found = on(&validating, said(State::Failed), 0, &RETRY, NOW).unwrap().unwrap();
            assert_eq!((found.state, found.next_retry.is_some()), (state, tried), "{work}");
            if let Some(due) = found.next_retry {
                let again = on(&found, Event::RetryDue, 8, &RETRY, due).unwrap().unwrap();
                assert_eq!((again.state, again.work, again.order), (State::Queued, Work::Repair, 8));
            }
        }
    }

    #[test]
    fn what_goes_bad_by_itself_is_mended_so_often_and_then_left_to_an_operator() {
        let mut placed = Placement { retries_left: 2, work: Work::Validate, ..placed(State::Success) };
        for left in [1, 0] {
            placed = on(&placed, said(State::Warning), 0, &RETRY, NOW).unwrap().unwrap();
            let order = placed.order + 1;
            placed = on(&placed, Event::Mend, order, &RETRY, NOW).unwrap().unwrap();
            let found = (placed.state, placed.work, placed.order, placed.retries_left);
            assert_eq!(found, (State::Queued, Work::Send, order, left), "what is well is not read again");
            placed = Placement { state: State::Success, order: 7, ..placed };
        }
        placed = on(&placed, said(State::Warning), 0, &RETRY, NOW).unwrap().unwrap();
        assert_eq!(on(&placed, Event::Mend, 99, &RETRY, NOW), Ok(None));
        let again = on(&placed, Event::Validate { repair: true }, 99, &RETRY, NOW).unwrap().unwrap();
        assert_eq!(again.retries_left, RETRY.max, "an operator starts anew");
    }

    #[test]
    fn a_clock_that_is_put_back_keeps_nobody_waiting() {
        let due = NOW + Duration::from_secs(3_600);
        let failed = Placement { next_retry: Some(due), ..placed(State::Failed) };
        let at = |now| on(&failed, Event::RetryDue, 8, &RETRY, now).unwrap().map(|next| next.state);
        assert_eq!(at(due), Some(State::Queued));
        assert_eq!(at(due - Duration::from_secs(59)), None, "not yet");
        assert_eq!(at(due - RETRY.delay), None, "it has just failed");
        assert_eq!(at(due - RETRY.delay - Duration::from_secs(1)), Some(State::Queued), "put back");
        assert_eq!(at(due + Duration::from_secs(86_400)), Some(State::Queued), "put forward");
    }

    fn event() -> impl Strategy<Value = Event> {
        let states = prop::sample::select(vec![
            State::Queued,
            State::Sending,
            State::Verifying,
            State::Success,
            State::Failed,
            State::Cancelled,
            State::Validating,
            State::Warning,
            State::Removing,
        ]);
        prop_oneof![
            Just(Event::Send),
            Just(Event::Resend),
            Just(Event::Cancel),
            Just(Event::Retry),
            Just(Event::RetryDue),
            Just(Event::Mend),
            Just(Event::Replaced),
            Just(Event::Withdraw),
            any::<bool>().prop_map(|repair| Event::Validate { repair }),
            (states, 0..20_u64, any::<u64>()).prop_map(|(state, order, done)| {
                let package = "XYZ00001".parse().expect("an id");
                let problem = Some(Problem::new(Code::DpDiskFull, "full"));
                Event::Said(Said { package, order, state, done, problem, lacks: Vec::new() })
            }),
        ]
    }

    proptest! {
        /// Whatever happens in whatever order, and however a point lies about it.
        #[test]
        fn a_placement_never_contradicts_itself(events in prop::collection::vec(event(), 1..60)) {
            let mut placed = placed(State::Queued);
            let mut now = NOW;
            for (order, event) in (8..).zip(events) {
                now += Duration::from_secs(45);
                let said = match &event { Event::Said(said) => Some(said.order), _ => None };
                let withdrawn = placed.state == State::Removing && event != Event::Send;
                let Ok(Some(next)) = on(&placed, event, order, &RETRY, now) else { continue };
                prop_assert!(!withdrawn, "only sending it again brings a package back");
                prop_assert!(next.order >= placed.order);
                prop_assert!(said.is_none_or(|said| said == placed.order && next.order == said));
                prop_assert!(next.next_retry.is_none() || next.state == State::Failed);
                prop_assert!(next.done <= next.bytes);
                prop_assert!(next.retries_left <= RETRY.max);
                if next.state == State::Success {
                    prop_assert!(next.problem.is_none() && next.done == next.bytes);
                }
                placed = next;
            }
        }
    }
}
