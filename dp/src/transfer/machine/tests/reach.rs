//! Sources that cannot be reached, and far ones.

use super::*;

fn unreachable() -> Event {
    Event::Failed(Fault::Unreachable("refused".to_owned()))
}

#[test]
fn nobody_waits_for_a_source_out_of_reach_while_another_is_ready() {
    play(
        &mut machine(10, 3),
        vec![
            (started(0), "ask 0 from 0"),
            (unreachable(), "ask 1 from 0"),
            (unreachable(), "ask 2 from 0"),
            (whole(10), "read"),
            (bytes(3), "write 3"),
            (Event::Written, "read"),
            (cut(3), "wait for 2"), // who gives goes on
            (Event::Waited, "ask 2 from 3"),
            (Event::Failed(Fault::NotFound("status 404".to_owned())), "ask 0 from 3"), // its pause is over
            (part(3, 10), "read"),
            (cut(3), "wait for 0"),
        ],
    );
    // Where all are out of reach, the one whose pause ends first is asked next.
    let mut machine = machine(10, 2);
    machine.on(NO_TIME, started(0));
    machine.on(NO_TIME, unreachable());
    let Step::Wait { source, pause } = machine.on(NO_TIME, unreachable()) else { panic!("both are away") };
    assert!(machine.sources.iter().all(|source| source.ready_at() >= pause));
    assert_eq!(machine.sources[source].ready_at(), pause);
}

#[test]
fn a_far_source_is_asked_when_a_near_one_was_out_of_reach_twice() {
    let mut near = machine(10, 2);
    near.is_far(1);
    play(
        &mut near,
        vec![
            (started(0), "ask 0 from 0"),
            (unreachable(), "wait for 0"),
            (Event::Waited, "ask 0 from 0"),
            (unreachable(), "ask 1 from 0"),
            (whole(10), "read"),
            (bytes(3), "write 3"),
            (Event::Written, "read"),
            (cut(3), "wait for 1"),
            (Event::Waited, "ask 1 from 3"),
        ],
    );
    // Whom the site prefers is asked first, far or not.
    let mut preferred = machine(10, 2);
    preferred.is_far(0);
    play(
        &mut preferred,
        vec![(started(0), "ask 0 from 0"), (unreachable(), "ask 1 from 0"), (whole(10), "read")],
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// However many machines are switched off, one that is not gives the file at once.
    #[test]
    fn machines_that_are_off_cost_no_waiting(case in case(), place in 0..4usize) {
        let off = || vec![Act::Fails(Fault::Unreachable("refused".to_owned()))];
        let mut case = Case { staged: (case.staged.0, false), far: false, ..case };
        case.sources.iter_mut().for_each(|source| *source = off());
        case.sources.insert(place.min(case.sources.len()), vec![Act::Honest]);
        let (fetched, waited) = run_for(&case);
        prop_assert!(fetched.is_ok());
        prop_assert_eq!(waited, NO_TIME);
    }
}
