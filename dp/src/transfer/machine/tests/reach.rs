//! Sources that cannot be reached, and far ones.

use proptest::prelude::*;

use super::any_faults::{Act, Case, Far, case, run_for};
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

fn busy(seconds: u64) -> Event {
    Event::Failed(Fault::Busy { status: 503, retry_after: Some(Duration::from_secs(seconds)) })
}

/// A point, and a cloud that is asked for four bytes at once.
fn point_and_cloud() -> Machine {
    let patience = Patience { far_part: 4, ..PATIENCE };
    let mut machine = Machine::new(wanted(&truth(10)), 2, patience, 1);
    machine.is_far(1);
    machine
}

/// Plays events, each at its second.
fn play_at(machine: &mut Machine, script: Vec<(u64, Event, &str)>) {
    for (second, event, expected) in script {
        let event_text = format!("{event:?}");
        let step = shown(machine.on(Duration::from_secs(second), event));
        assert_eq!(step, expected, "second {second}: {event_text:.80}");
    }
}

/// A point that cannot be reached for so long, before a cloud: when which source was asked, until the point answers or the cloud
/// is asked.
fn asked_while_down(machine: &mut Machine, down: Duration) -> Vec<(usize, Duration)> {
    let (mut now, mut asked) = (NO_TIME, Vec::new());
    let mut step = machine.on(now, started(0));
    for _ in 0..100 {
        step = match step {
            Step::Ask { source, .. } => {
                asked.push((source, now));
                if source == 1 || now >= down {
                    return asked;
                }
                machine.on(now, unreachable())
            }
            Step::Wait { pause, .. } => {
                now += pause;
                machine.on(now, Event::Waited)
            }
            other => panic!("{}", shown(other)),
        };
    }
    panic!("it waits for ever");
}

#[test]
fn a_point_that_restarts_sends_nobody_to_the_cloud() {
    for down in [0, 5, 30, 59] {
        let asked = asked_while_down(&mut point_and_cloud(), Duration::from_secs(down));
        assert!(asked.iter().all(|(source, _)| *source == 0), "down for {down} s: {asked:?}");
    }
    let asked = asked_while_down(&mut point_and_cloud(), Duration::MAX);
    assert_eq!(asked.last(), Some(&(1, PATIENCE.before_far)), "{asked:?}");
    // Other transfers hoped before.
    for (since, expected) in [(20, 40), (59, 1), (60, 0), (600, 0)] {
        let mut machine = point_and_cloud();
        machine.was_away(0, Duration::from_secs(since));
        let asked = asked_while_down(&mut machine, Duration::MAX);
        assert_eq!(asked.last(), Some(&(1, Duration::from_secs(expected))), "away for {since} s: {asked:?}");
        assert_eq!(asked.len() == 1, expected == 0, "{asked:?}");
    }
}

#[test]
fn a_busy_point_is_waited_for_and_asked_again_between_parts_of_the_cloud() {
    play_at(
        &mut point_and_cloud(),
        vec![
            (0, started(0), "ask 0 from 0"),
            (0, busy(25), "wait for 0"),
            (25, Event::Waited, "ask 0 from 0"),
            (25, busy(25), "wait for 0"),
            (50, Event::Waited, "ask 0 from 0"),
            (50, busy(25), "ask 1 from 0 to 4"), // longer than anybody hopes
            (50, part(0, 10), "read"),
            (60, bytes(4), "write 4"),
            (60, Event::Written, "read"),
            (60, Event::Ended, "ask 1 from 4 to 8"), // it wished for more time
            (61, part(4, 10), "read"),
            (75, bytes(4), "write 4"),
            (75, Event::Written, "read"),
            (75, Event::Ended, "ask 0 from 8"),
            (75, busy(25), "ask 1 from 8"),
            (75, part(8, 10), "read"),
            (75, bytes(1), "write 1"),
            (75, Event::Written, "read"),
            (90, cut(9), "wait for 1"),
            (100, Event::Waited, "ask 1 from 9"),
        ],
    );
}

#[test]
fn who_gives_again_is_hoped_for_anew() {
    let size = 3 << 20;
    let wanted = Wanted { size, digests: Digests::default() };
    let mut machine = Machine::new(wanted, 2, PATIENCE, 1);
    machine.is_far(1);
    play_at(
        &mut machine,
        vec![
            (0, started(0), "ask 0 from 0"),
            (0, unreachable(), "wait for 0"),
            (50, Event::Waited, "ask 0 from 0"),
            (50, whole(size), "read"),
            (55, bytes(1 << 20), "write 1048576"),
            (55, Event::Written, "read"),
            (80, cut(0), "wait for 0"),
            (81, Event::Waited, "ask 0 from 1048576"),
            (81, unreachable(), "wait for 0"),
            (139, Event::Waited, "ask 0 from 1048576"),
            (140, unreachable(), "ask 1 from 1048576 to 1400000"),
        ],
    );
}

#[test]
fn the_cloud_is_asked_at_once_where_nobody_nearer_is_left() {
    let gone = || Event::Failed(Fault::NotFound("status 404".to_owned()));
    play_at(&mut point_and_cloud(), vec![(0, started(0), "ask 0 from 0"), (0, gone(), "ask 1 from 0")]);
    let mut peer = point_and_cloud();
    peer.limit_attempts(0, 1);
    play_at(&mut peer, vec![(0, started(0), "ask 0 from 0"), (0, unreachable(), "ask 1 from 0")]);
    let mut full = point_and_cloud();
    full.limit_attempts(0, 1);
    play_at(&mut full, vec![(0, started(0), "ask 0 from 0"), (0, busy(5), "wait for 0")]);
    // Whom the site prefers is asked first, far or not.
    let mut preferred = machine(10, 2);
    preferred.is_far(0);
    play_at(
        &mut preferred,
        vec![(0, started(0), "ask 0 from 0"), (0, unreachable(), "ask 1 from 0"), (0, whole(10), "read")],
    );
    // One that says that it needs longer than anybody hopes is passed by.
    play_at(
        &mut point_and_cloud(),
        vec![(0, started(0), "ask 0 from 0"), (0, busy(61), "ask 1 from 0 to 4")],
    );
}

#[test]
fn a_cloud_without_parts_sends_the_whole() {
    play_at(
        &mut point_and_cloud(),
        vec![
            (0, started(0), "ask 0 from 0"),
            (0, busy(61), "ask 1 from 0 to 4"),
            (0, whole(10), "read"),
            (0, bytes(4), "write 4"),
            (0, Event::Written, "read"),
            (70, bytes(6), "write 6"),
            (70, Event::Written, "read"),
            (70, Event::Ended, "check"),
        ],
    );
    // What was staged before cannot be continued.
    play_at(
        &mut point_and_cloud(),
        vec![
            (0, started(3), "ask 0 from 3"),
            (0, busy(61), "ask 1 from 3 to 4"),
            (0, whole(10), "rewind"),
            (0, Event::Rewound, "read"),
            (0, bytes(10), "write 10"),
            (0, Event::Written, "read"),
            (0, Event::Ended, "check"),
        ],
    );
}

#[test]
fn a_point_that_begins_anew_takes_nothing_from_the_cloud() {
    play_at(
        &mut point_and_cloud(),
        vec![
            (0, started(0), "ask 0 from 0"),
            (0, busy(61), "ask 1 from 0 to 4"),
            (0, part(0, 10), "read"),
            (70, bytes(4), "write 4"),
            (70, Event::Written, "read"),
            (70, Event::Ended, "ask 0 from 4"),
            (70, whole(10), "ask 1 from 4 to 8"),
            (70, part(4, 10), "read"),
            (200, bytes(4), "write 4"),
            (200, Event::Written, "read"),
            (200, Event::Ended, "ask 1 from 8"),
        ],
    );
}

#[test]
fn who_answers_was_reached_whatever_it_says() {
    let mut machine = Machine::new(wanted(&truth(10)), 1, PATIENCE, 7);
    let second = Duration::from_secs(1);
    machine.on(NO_TIME, started(3));
    machine.on(NO_TIME, unreachable());
    assert!(machine.sources[0].report.unreachable.is_some());
    machine.on(second, Event::Waited);
    machine.on(second, part(5, 10));
    let report = machine.into_reports().remove(0);
    assert!(matches!(report.faults.last(), Some(Fault::WrongRange { .. })), "{report:?}");
    assert_eq!(report.unreachable, None);
}

#[test]
fn nobody_waits_for_a_far_one_while_a_nearer_one_is_ready() {
    let mut machine = Machine::new(wanted(&truth(10)), 2, PATIENCE, 7);
    machine.is_far(0);
    let failed = Event::Failed(Fault::Failed("status 500".to_owned()));
    play_at(&mut machine, vec![(0, started(0), "ask 0 from 0"), (0, failed, "ask 1 from 0")]);
}

/// No far source is asked while a nearer one is ready or hoped for, and nobody waits for one that is away while one that did
/// nothing wrong is ready.
pub(super) fn assert_own_network_first(machine: &Machine, step: &Step, now: Duration) {
    let may = |source: &Source| !source.out && !source.is_last_resort() && source.ready_at() <= now;
    match step {
        Step::Ask { source, .. } if machine.sources[*source].far => {
            let hoped = |one: &Source| one.hoped_until.is_none_or(|until| now < until);
            let nearer = machine.sources[..*source].iter().filter(|one| !one.far);
            let passed = nearer.filter(|one| may(one) && hoped(one)).count();
            let tired = machine.fruitless * 2 >= PATIENCE.attempts_in_total;
            assert!(passed == 0 || tired, "far source {source} is asked at {now:?}");
        }
        Step::Wait { source, .. } => {
            let waited = &machine.sources[*source];
            let is_away = waited.is_away() || !waited.wish(now).is_zero() || waited.far;
            let ready = machine.sources.iter().any(|one| may(one) && !one.is_away() && !one.far);
            assert!(!(is_away && ready) || waited.is_last_resort(), "{source} is waited for at {now:?}");
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// However many machines are switched off, one that is not gives the file at once.
    #[test]
    fn machines_that_are_off_cost_no_waiting(case in case(), place in 0..4usize) {
        let off = || vec![Act::Fails(Fault::Unreachable("refused".to_owned()))];
        let mut case = Case { staged: (case.staged.0, false), far: Far::None, ..case };
        case.sources.iter_mut().for_each(|source| *source = off());
        case.sources.insert(place.min(case.sources.len()), vec![Act::Honest]);
        let (fetched, waited) = run_for(&case);
        prop_assert!(fetched.is_ok());
        prop_assert_eq!(waited, NO_TIME);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// However nearer ones stay away, the cloud gives the file, after no more than the patience with them. It counts from the first
    /// fault of each; one that fails otherwise has its attempts before the next one is asked at all.
    #[test]
    fn the_cloud_is_waited_for_no_longer_than_nearer_ones_are_hoped_for(
        acts in prop::collection::vec(prop::collection::vec(away(), 1..4), 0..5),
        seed in any::<u64>(),
    ) {
        let mut sources = acts;
        sources.push(vec![Act::Honest]);
        let far = sources.len() - 1;
        let case = Case { size: 800_000, staged: (0, false), sources, chunk: 500_000, seed, far: Far::Only(far) };
        let (fetched, waited) = run_for(&case);
        prop_assert!(fetched.is_ok());
        let attempts = Duration::from_secs(1 + 2) * far.saturating_sub(1) as u32;
        prop_assert!(waited <= PATIENCE.before_far + attempts, "{:?}", waited);
        prop_assert!(far > 0 || waited.is_zero());
    }
}

fn away() -> impl Strategy<Value = Act> {
    let busy = |seconds| Fault::Busy { status: 503, retry_after: Some(Duration::from_secs(seconds)) };
    prop_oneof![
        Just(Act::Fails(Fault::Unreachable("refused".to_owned()))),
        (0..100_u64).prop_map(move |seconds| Act::Fails(busy(seconds))),
        Just(Act::Fails(Fault::Failed("status 500".to_owned()))),
        Just(Act::Fails(Fault::NotFound("status 404".to_owned()))),
    ]
}
