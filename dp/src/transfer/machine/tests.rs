use std::sync::LazyLock;

use catalog::digest::{Checker, Digests};

use super::*;

mod any_faults;
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
