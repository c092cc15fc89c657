use std::collections::HashMap;
use std::sync::LazyLock;

use catalog::digest::{Checker, Digests};
use proptest::prelude::*;

use super::*;

mod reach;
mod reuse;

const PATIENCE: Patience = Patience {
    attempts_per_source: 3,
    attempts_in_total: 60,
    first_delay: Duration::from_secs(1),
    longest_delay: Duration::from_secs(60),
    longest_retry_after: Duration::from_secs(600),
    before_far: Duration::from_secs(60),
    far_part: 700_000,
};
const NO_TIME: Duration = Duration::ZERO;

/// More than twice what counts as progress.
const LARGEST: usize = 2_500_000;

fn truth(size: usize) -> Vec<u8> {
    static ALL: LazyLock<Vec<u8>> = LazyLock::new(|| {
        (0..LARGEST as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 41) as u8).collect()
    });
    ALL[..size].to_vec()
}

fn wanted(truth: &[u8]) -> Wanted {
    let mut checker = Checker::new();
    checker.update(truth);
    let digests = Digests { sha256: Some(checker.into_fingerprint().sha256), sha1: None };
    Wanted::new(truth.len() as u64, digests).unwrap()
}

fn machine(size: usize, sources: usize) -> Machine {
    Machine::new(wanted(&truth(size)), sources, PATIENCE, 1)
}

fn started(have: u64) -> Event {
    Event::Started { have, tag: None }
}

fn whole(total: u64) -> Event {
    Event::Answered(Answer::Whole { total: Some(total), etag: None })
}

fn part(offset: u64, total: u64) -> Event {
    Event::Answered(Answer::From { offset, total: Some(total), etag: None })
}

fn bytes(count: usize) -> Event {
    Event::Chunk(Bytes::from(vec![0; count]))
}

/// What a step looks like in a table.
fn shown(step: Step) -> String {
    match step {
        Step::Ask { source, from, until, if_range } => {
            format!(
                "ask {source} from {from}{}{}",
                until.map(|until| format!(" to {until}")).unwrap_or_default(),
                if_range.map(|tag| format!(" if {tag}")).unwrap_or_default()
            )
        }
        Step::Write(bytes) => format!("write {}", bytes.len()),
        Step::Wait { source, .. } => format!("wait for {source}"),
        Step::Rewind => "rewind".to_owned(),
        Step::Read => "read".to_owned(),
        Step::Check => "check".to_owned(),
        Step::Commit(_) => "commit".to_owned(),
        Step::GiveUp => "give up".to_owned(),
    }
}

/// Plays events, ten seconds from one to the next.
fn play(machine: &mut Machine, script: Vec<(Event, &str)>) {
    for (number, (event, expected)) in script.into_iter().enumerate() {
        let event_text = format!("{event:?}");
        let now = Duration::from_secs(number as u64 * 10);
        assert_eq!(shown(machine.on(now, event)), expected, "step {number}: {event_text:.80}");
    }
}

fn failed(text: &str) -> Event {
    Event::Failed(Fault::Failed(text.to_owned()))
}

fn cut(actual: u64) -> Event {
    Event::Failed(Fault::CutShort { expected: 10, actual })
}

#[test]
fn a_resumed_file_goes_on_under_its_entity_tag_at_the_source_that_gave_it() {
    let mut machine = machine(10, 2);
    let tag = Some((0, "\"e\"".to_owned()));
    play(
        &mut machine,
        vec![
            (Event::Started { have: 4, tag }, "ask 0 from 4 if \"e\""),
            (part(4, 10), "read"),
            (bytes(6), "write 6"),
            (Event::Written, "read"),
            (Event::Ended, "check"),
        ],
    );
    assert_eq!(machine.into_reports()[0].bytes, 6);
}

#[test]
fn a_weak_tag_or_another_sources_tag_is_no_condition() {
    let start = |tag| Event::Started { have: 4, tag };
    play(&mut machine(10, 2), vec![(start(Some((0, "W/\"e\"".to_owned()))), "ask 0 from 4")]);
    play(&mut machine(10, 2), vec![(start(Some((1, "\"e\"".to_owned()))), "ask 0 from 4")]);
}

#[test]
fn a_source_that_ignores_the_range_sends_the_whole_again() {
    play(
        &mut machine(10, 1),
        vec![
            (started(4), "ask 0 from 4"),
            (whole(10), "rewind"),
            (Event::Rewound, "read"),
            (bytes(10), "write 10"),
            (Event::Written, "read"),
            (Event::Ended, "check"),
        ],
    );
}

#[test]
fn another_size_costs_the_source_but_not_what_is_there() {
    play(
        &mut machine(10, 3),
        vec![
            (started(4), "ask 0 from 4"),
            (whole(11), "ask 1 from 4"),
            (part(4, 9), "ask 2 from 4"),
            (Event::Answered(Answer::NothingThere { total: Some(4) }), "give up"),
        ],
    );
}

#[test]
fn a_cut_source_is_resumed_and_then_the_next_goes_on() {
    play(
        &mut machine(10, 2),
        vec![
            (started(0), "ask 0 from 0"),
            (whole(10), "read"),
            (bytes(3), "write 3"),
            (Event::Written, "read"),
            (cut(3), "wait for 0"),
            (Event::Waited, "ask 0 from 3"),
            (failed("500"), "wait for 0"),
            (Event::Waited, "ask 0 from 3"),
            (failed("500"), "ask 1 from 3"),
            (part(3, 10), "read"),
            (bytes(7), "write 7"),
            (Event::Written, "read"),
            (Event::Ended, "check"),
        ],
    );
}

#[test]
fn an_end_that_comes_too_early_is_a_fault_however_clean() {
    play(
        &mut machine(10, 1),
        vec![
            (started(0), "ask 0 from 0"),
            (Event::Answered(Answer::Whole { total: None, etag: None }), "read"),
            (bytes(3), "write 3"),
            (Event::Written, "read"),
            (Event::Ended, "wait for 0"),
        ],
    );
}

#[test]
fn lasting_faults_exclude_at_once() {
    let mut machine = machine(10, 3);
    play(
        &mut machine,
        vec![
            (started(0), "ask 0 from 0"),
            (Event::Failed(Fault::NotFound("status 404".to_owned())), "ask 1 from 0"),
            (Event::Failed(Fault::Untrusted("unknown issuer".to_owned())), "ask 2 from 0"),
            (Event::Failed(Fault::Refused("status 403".to_owned())), "give up"),
        ],
    );
    assert!(machine.into_reports().iter().all(|report| report.faults.len() == 1));
}

#[test]
fn more_than_the_file_has_is_never_staged() {
    play(
        &mut machine(10, 2),
        vec![
            (started(0), "ask 0 from 0"),
            (Event::Answered(Answer::Whole { total: None, etag: None }), "read"),
            (bytes(8), "write 8"),
            (Event::Written, "read"),
            (bytes(3), "rewind"),
            (Event::Rewound, "ask 1 from 0"),
        ],
    );
}

#[test]
fn where_each_piece_is_known_more_than_enough_is_enough() {
    let mut machine = machine(10, 2);
    machine.by_pieces();
    play(
        &mut machine,
        vec![
            (started(0), "ask 0 from 0"),
            (Event::Answered(Answer::Whole { total: None, etag: None }), "read"),
            (bytes(10), "write 10"),
            (Event::Written, "read"),
            (bytes(3), "check"),
            (Event::WrongPiece { offset: 0 }, "ask 1 from 0"),
        ],
    );
}

#[test]
fn who_sends_too_much_does_not_cost_the_bytes_of_others() {
    play(
        &mut machine(10, 2),
        vec![(started(5), "ask 0 from 5"), (part(5, 10), "read"), (bytes(6), "ask 1 from 5")],
    );
}

#[test]
fn a_source_with_wrong_ranges_is_asked_for_the_whole_when_no_other_is_left() {
    play(
        &mut machine(10, 2),
        vec![
            (started(4), "ask 0 from 4"),
            (part(0, 10), "ask 1 from 4"),
            (Event::Failed(Fault::NotFound("status 404".to_owned())), "ask 0 from 0"),
            (whole(10), "rewind"),
            (Event::Rewound, "read"),
            (bytes(5), "write 5"),
            (Event::Written, "read"),
            (cut(5), "wait for 0"),
            (Event::Waited, "ask 0 from 0"),
        ],
    );
}

fn lie() -> Event {
    let [one, two] = [wanted(b"one"), wanted(b"two")].map(|wanted| wanted.digests.sha256.unwrap());
    Event::Differs(Mismatch::Sha256 { expected: one, actual: two })
}

#[test]
fn a_lie_told_alone_excludes() {
    play(
        &mut machine(10, 2),
        vec![
            (started(0), "ask 0 from 0"),
            (whole(10), "read"),
            (bytes(10), "write 10"),
            (Event::Written, "read"),
            (Event::Ended, "check"),
            (lie(), "rewind"),
            (Event::Rewound, "ask 1 from 0"),
        ],
    );
}

#[test]
fn a_lie_told_together_makes_suspects_who_are_asked_alone_after_all_others() {
    let mut machine = machine(10, 3);
    let gone = || Event::Failed(Fault::NotFound("status 404".to_owned()));
    play(
        &mut machine,
        vec![
            (started(0), "ask 0 from 0"),
            (whole(10), "read"),
            (bytes(4), "write 4"),
            (Event::Written, "read"),
            (
                Event::Failed(Fault::Busy { status: 503, retry_after: Some(Duration::from_secs(500)) }),
                "ask 1 from 4",
            ),
            (part(4, 10), "read"),
            (bytes(6), "write 6"),
            (Event::Written, "read"),
            (Event::Ended, "check"),
            (lie(), "rewind"),
            (Event::Rewound, "ask 2 from 0"),
            (whole(10), "read"),
            (bytes(2), "write 2"),
            (Event::Written, "read"),
            (gone(), "ask 1 from 0"), // alone: the two bytes of source 2 are not continued
            (whole(10), "rewind"),
            (Event::Rewound, "read"),
            (bytes(3), "write 3"),
            (Event::Written, "read"),
            (cut(3), "wait for 1"),
            (Event::Waited, "ask 1 from 3"), // its own bytes it may continue
            (gone(), "wait for 0"),
            (Event::Waited, "ask 0 from 0"), // but nobody else may
        ],
    );
}

#[test]
fn bytes_from_an_earlier_run_that_turn_out_wrong_are_nobodys_fault() {
    play(
        &mut machine(10, 1),
        vec![(started(10), "check"), (lie(), "rewind"), (Event::Rewound, "ask 0 from 0")],
    );
}

#[test]
fn every_byte_there_is_enough_even_if_the_answer_never_ends() {
    play(
        &mut machine(10, 1),
        vec![
            (started(0), "ask 0 from 0"),
            (whole(10), "read"),
            (bytes(10), "write 10"),
            (Event::Written, "read"),
            (Event::Failed(Fault::Stalled), "check"),
        ],
    );
}

#[test]
fn an_empty_file_needs_no_source() {
    play(&mut machine(0, 0), vec![(started(0), "check")]);
    play(&mut machine(1, 0), vec![(started(0), "give up")]);
}

#[test]
fn a_wish_to_be_left_alone_is_kept_or_the_source_is_given_up() {
    let busy =
        |seconds| Event::Failed(Fault::Busy { status: 429, retry_after: Some(Duration::from_secs(seconds)) });
    let mut patient = machine(10, 1);
    patient.on(NO_TIME, started(0));
    let Step::Wait { pause, .. } = patient.on(NO_TIME, busy(600)) else { panic!("it has time") };
    assert_eq!(pause, Duration::from_secs(600));
    let mut impatient = machine(10, 1);
    impatient.on(NO_TIME, started(0));
    assert!(matches!(impatient.on(NO_TIME, busy(601)), Step::GiveUp));
}

#[test]
fn progress_renews_the_patience_with_a_source() {
    let size = 40 << 20;
    let mut machine = Machine::new(Wanted { size, digests: Digests::default() }, 1, PATIENCE, 1);
    let mut now = NO_TIME;
    let mut step = machine.on(now, started(0));
    let mebibyte = Bytes::from(vec![0; 1 << 20]);
    for round in 0..40 {
        while let Step::Wait { pause, .. } = step {
            now += pause;
            step = machine.on(now, Event::Waited);
        }
        assert_eq!(shown(step), format!("ask 0 from {}", round << 20));
        machine.on(now, part(round << 20, size));
        machine.on(now, Event::Chunk(mebibyte.clone()));
        machine.on(now, Event::Written);
        step = machine.on(now, if round < 39 { cut(0) } else { Event::Ended });
    }
    assert!(matches!(step, Step::Check));
    assert!(now > Duration::from_secs(60), "forty requests take more than a minute: {now:?}");
}

/// What a source of the model does when it is asked.
#[derive(Debug, Clone)]
enum Act {
    Honest,
    Fails(Fault),
    /// Sends so many bytes, then fails.
    CutAfter(usize),
    /// Ends as if that were all.
    EndsAfter(usize),
    FlipsByte(usize),
    TooLong,
    IgnoresRange,
    WrongOffset,
    OtherTotal,
    NothingThere,
}

fn act() -> impl Strategy<Value = Act> {
    let busy =
        |seconds: Option<u64>| Fault::Busy { status: 503, retry_after: seconds.map(Duration::from_secs) };
    prop_oneof![
        3 => Just(Act::Honest),
        4 => (0..3_000_000usize).prop_map(Act::CutAfter),
        1 => (0..3_000_000usize).prop_map(Act::EndsAfter),
        2 => (0..3_000_000usize).prop_map(Act::FlipsByte),
        1 => Just(Act::TooLong),
        2 => Just(Act::IgnoresRange),
        1 => Just(Act::WrongOffset),
        1 => Just(Act::OtherTotal),
        1 => Just(Act::NothingThere),
        1 => prop::option::of(0..1_000u64).prop_map(move |seconds| Act::Fails(busy(seconds))),
        1 => Just(Act::Fails(Fault::Stalled)),
        2 => Just(Act::Fails(Fault::Unreachable("refused".to_owned()))),
        1 => Just(Act::Fails(Fault::Failed("status 500".to_owned()))),
        1 => Just(Act::Fails(Fault::NotFound("status 404".to_owned()))),
    ]
}

#[derive(Debug, Clone)]
struct Case {
    size: usize,
    /// What is staged at the start; `true` flips a byte of it.
    staged: (usize, bool),
    /// For each source what it does, one act an attempt, over and over.
    sources: Vec<Vec<Act>>,
    chunk: usize,
    seed: u64,
    far: Far,
}

/// Which sources are far ones.
#[derive(Debug, Clone, Copy)]
enum Far {
    None,
    EveryOther,
    Only(usize),
}

impl Far {
    fn is(self, number: usize) -> bool {
        match self {
            Self::None => false,
            Self::EveryOther => number % 2 == 1,
            Self::Only(far) => number == far,
        }
    }
}

fn case() -> impl Strategy<Value = Case> {
    let size = prop_oneof![Just(0usize), 1..2_000usize, Just(LARGEST)];
    let sources = prop::collection::vec(prop::collection::vec(act(), 1..5), 0..4);
    let far = prop_oneof![Just(Far::None), Just(Far::EveryOther)];
    (size, 0..3_000_000usize, any::<bool>(), sources, 1..1_100_000usize, any::<u64>(), far).prop_map(
        |(size, staged, flip, sources, chunk, seed, far)| {
            let staged = (staged % (size + 1), flip);
            Case { size, staged, sources, chunk: chunk.min(size / 3 + 1), seed, far }
        },
    )
}

/// A world in memory: what a perfect driver would do, with all bytes looked at; and how long it waited in all.
fn run_for(case: &Case) -> (Result<Vec<u8>, Vec<Report>>, Duration) {
    let truth = truth(case.size);
    let wanted = wanted(&truth);
    let mut machine = Machine::new(wanted, case.sources.len(), PATIENCE, case.seed);
    (0..case.sources.len()).filter(|number| case.far.is(*number)).for_each(|far| machine.is_far(far));
    let mut staged = truth[..case.staged.0].to_vec();
    if let (Some(first), true) = (staged.first_mut(), case.staged.1) {
        *first ^= 1;
    }
    let mut attempts: HashMap<usize, Vec<Duration>> = HashMap::new();
    let mut now = NO_TIME;
    let mut coming: Vec<u8> = Vec::new();
    let mut ending = None;
    let mut event = Event::Started { have: staged.len() as u64, tag: None };
    for _ in 0..100_000 {
        let step = machine.on(now, event);
        reach::assert_own_network_first(&machine, &step, now);
        assert_eq!(
            machine.have(),
            staged.len() as u64 + if let Step::Write(bytes) = &step { bytes.len() as u64 } else { 0 }
                - if matches!(step, Step::Rewind) { staged.len() as u64 } else { 0 }
        );
        event = match step {
            Step::Ask { source, from, until, .. } => {
                assert!(from == 0 || from == staged.len() as u64, "from {from} of {}", staged.len());
                let times = attempts.entry(source).or_default();
                times.push(now);
                let act = &case.sources[source][(times.len() - 1) % case.sources[source].len()];
                let (answer, bytes, end) =
                    perform(act, &truth, from as usize, until.map(|until| until as usize));
                (coming, ending) = (bytes, Some(end));
                answer
            }
            Step::Rewind => {
                staged.clear();
                Event::Rewound
            }
            Step::Read if coming.is_empty() => ending.take().expect("one end an answer"),
            Step::Read => {
                let rest = coming.split_off(case.chunk.min(coming.len()));
                Event::Chunk(std::mem::replace(&mut coming, rest).into())
            }
            Step::Write(bytes) => {
                staged.extend_from_slice(&bytes);
                assert!(staged.len() <= case.size);
                Event::Written
            }
            Step::Check => {
                let mut checker = Checker::new();
                checker.update(&staged);
                checker.finish(&wanted).map_or_else(Event::Differs, Event::Matched)
            }
            Step::Wait { pause, .. } => {
                now += pause;
                Event::Waited
            }
            Step::Commit(_) => {
                assert_not_too_often(&attempts);
                assert!(staged == truth, "committed wrong bytes");
                return (Ok(staged), now);
            }
            Step::GiveUp => {
                assert_not_too_often(&attempts);
                return (Err(machine.into_reports()), now);
            }
        };
    }
    panic!("it does not end");
}

fn run(case: &Case) -> Result<Vec<u8>, Vec<Report>> {
    run_for(case).0
}

/// Requirement R8: at most 20 requests a minute to a source.
fn assert_not_too_often(attempts: &HashMap<usize, Vec<Duration>>) {
    for times in attempts.values() {
        for window in times.windows(21) {
            assert!(window[20] - window[0] >= Duration::from_secs(60), "{window:?}");
        }
    }
}

fn perform(act: &Act, truth: &[u8], from: usize, until: Option<usize>) -> (Event, Vec<u8>, Event) {
    let total = Some(truth.len() as u64);
    let answer = |from: usize, total| match from {
        0 if until.is_none() => Event::Answered(Answer::Whole { total, etag: None }),
        from => Event::Answered(Answer::From { offset: from as u64, total, etag: None }),
    };
    let mut bytes = truth[from..until.unwrap_or(truth.len())].to_vec();
    match act {
        Act::Honest => (answer(from, total), bytes, Event::Ended),
        Act::Fails(fault) => (Event::Failed(fault.clone()), Vec::new(), Event::Ended),
        Act::CutAfter(count) => {
            bytes.truncate(*count);
            let fault = Fault::CutShort { expected: truth.len() as u64, actual: (from + bytes.len()) as u64 };
            (answer(from, total), bytes, Event::Failed(fault))
        }
        Act::EndsAfter(count) => {
            bytes.truncate(*count);
            (answer(from, None), bytes, Event::Ended)
        }
        Act::FlipsByte(place) => {
            let length = bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(place % length) {
                *byte ^= 0x80;
            }
            (answer(from, total), bytes, Event::Ended)
        }
        Act::TooLong => {
            bytes.push(7);
            (answer(from, None), bytes, Event::Ended)
        }
        Act::IgnoresRange => {
            (Event::Answered(Answer::Whole { total, etag: None }), truth.to_vec(), Event::Ended)
        }
        Act::WrongOffset => {
            let lie = from.saturating_sub(1).max(1);
            (Event::Answered(Answer::From { offset: lie as u64 + 2, total, etag: None }), bytes, Event::Ended)
        }
        Act::OtherTotal => (answer(from, Some(truth.len() as u64 + 1)), bytes, Event::Ended),
        Act::NothingThere if from > 0 => {
            (Event::Answered(Answer::NothingThere { total }), Vec::new(), Event::Ended)
        }
        Act::NothingThere => (answer(from, total), bytes, Event::Ended),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_faults_end_with_the_right_bytes_or_a_refusal(case in case()) {
        if let Err(reports) = run(&case) {
            for (number, report) in reports.iter().enumerate() {
                prop_assert!(!report.faults.is_empty(), "source {} was never at fault", number);
            }
        }
    }

    #[test]
    fn one_honest_source_is_enough_whatever_the_others_do(case in case(), place in 0..4usize) {
        let mut case = case;
        let place = place.min(case.sources.len());
        case.sources.insert(place, vec![Act::Honest]);
        prop_assert!(run(&case).is_ok());
    }
}
