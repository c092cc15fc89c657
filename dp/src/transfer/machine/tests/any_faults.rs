//! Whatever the sources do, in whatever order: it ends, with the right bytes or a refusal, and nobody is asked too often.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// What a source of the model does when it is asked.
#[derive(Debug, Clone)]
pub(super) enum Act {
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
pub(super) struct Case {
    pub(super) size: usize,
    /// What is staged at the start; `true` flips a byte of it.
    pub(super) staged: (usize, bool),
    /// For each source what it does, one act an attempt, over and over.
    pub(super) sources: Vec<Vec<Act>>,
    pub(super) chunk: usize,
    pub(super) seed: u64,
    pub(super) far: Far,
}

/// Which sources are far ones.
#[derive(Debug, Clone, Copy)]
pub(super) enum Far {
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

pub(super) fn case() -> impl Strategy<Value = Case> {
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
pub(super) fn run_for(case: &Case) -> (Result<Vec<u8>, Vec<Report>>, Duration) {
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
