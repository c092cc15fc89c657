//! Files of which this machine has parts in other content.

use proptest::prelude::*;

use super::*;

const BLOCK: usize = BLOCK_SIZE;
const PIECE: u64 = PIECE_SIZE as u64;

/// A machine with a source, and this machine itself as number 1.
fn with_parts(size: usize, spans: &[Range<u64>]) -> Machine {
    let mut machine = machine(size, 2);
    machine.by_pieces();
    machine.reuse(1, spans.to_vec());
    machine
}

#[test]
fn nobody_is_asked_for_what_is_here() {
    let mut machine = with_parts(100, &[10..30, 90..100]);
    play(
        &mut machine,
        vec![
            (started(0), "ask 0 from 0 to 10"),
            (part(0, 100), "read"),
            (bytes(10), "write 10"),
            (Event::Written, "read"),
            (Event::Ended, "ask 1 from 10 to 30"),
            (part(10, 100), "read"),
            (bytes(20), "write 20"),
            (Event::Written, "read"),
            (Event::Ended, "ask 0 from 30 to 90"),
            (part(30, 100), "read"),
            (bytes(60), "write 60"),
            (Event::Written, "read"),
            (Event::Ended, "ask 1 from 90"),
            (part(90, 100), "read"),
            (bytes(10), "write 10"),
            (Event::Written, "read"),
            (Event::Ended, "check"),
        ],
    );
    let reports = machine.into_reports();
    assert_eq!((reports[0].bytes, reports[1].bytes), (70, 30));
    assert!(reports.iter().all(|report| report.faults.is_empty()));
}

#[test]
fn a_resumed_file_goes_on_in_the_middle_of_a_part() {
    play(&mut with_parts(100, std::slice::from_ref(&(10..30))), vec![(started(12), "ask 1 from 12 to 30")]);
    play(&mut with_parts(100, std::slice::from_ref(&(10..30))), vec![(started(30), "ask 0 from 30")]);
    play(&mut with_parts(100, std::slice::from_ref(&(0..100))), vec![(started(0), "ask 1 from 0")]);
}

#[test]
fn a_source_without_ranges_sends_the_whole_once() {
    play(
        &mut with_parts(100, &[0..10, 50..60]),
        vec![
            (started(0), "ask 1 from 0 to 10"),
            (part(0, 100), "read"),
            (bytes(10), "write 10"),
            (Event::Written, "read"),
            (Event::Ended, "ask 0 from 10 to 50"),
            (whole(100), "read"),
            (bytes(60), "write 50"),
            (Event::Written, "read"),
            (bytes(40), "write 40"),
            (Event::Written, "read"),
            (Event::Ended, "check"),
        ],
    );
}

#[test]
fn what_changed_comes_from_others_and_costs_nothing_else() {
    let size = 4 * BLOCK;
    let total = size as u64;
    let mut machine = with_parts(size, std::slice::from_ref(&(0..total)));
    play(
        &mut machine,
        vec![
            (started(0), "ask 1 from 0"),
            (part(0, total), "read"),
            (bytes(BLOCK), "write 65536"),
            (Event::Written, "read"),
            (Event::Ended, "ask 0 from 65536 to 131072"),
            (part(65_536, total), "read"),
            (bytes(BLOCK), "write 65536"),
            (Event::Written, "read"),
            (Event::Ended, "ask 1 from 131072"),
            (part(131_072, total), "read"),
            (failed("the disk"), "ask 0 from 131072 to 196608"),
        ],
    );
    assert!(machine.into_reports()[1].faults.is_empty());
}

#[test]
fn a_wrong_piece_with_our_own_bytes_in_it_blames_nobody_else() {
    let mut machine = with_parts(2_000_000, &[0..65_536, 131_072..196_608, PIECE..PIECE + 65_536]);
    play(
        &mut machine,
        vec![
            (started(0), "ask 1 from 0 to 65536"),
            (part(0, 2_000_000), "read"),
            (bytes(65_536), "write 65536"),
            (Event::Written, "read"),
            (Event::Ended, "ask 0 from 65536 to 131072"),
            (part(65_536, 2_000_000), "read"),
            (bytes(65_536), "write 65536"),
            (Event::WrongPiece { offset: 0 }, "ask 0 from 0 to 1048576"),
        ],
    );
    let reports = machine.into_reports();
    assert!(reports.iter().all(|report| report.faults.is_empty() && report.bytes == 0));
}

#[test]
fn many_parts_are_no_hammering() {
    let spans: Vec<_> = (0..100).map(|number| number * 20 + 10..number * 20 + 20).collect();
    let mut machine = with_parts(2_000, &spans);
    let mut step = machine.on(NO_TIME, started(0));
    for _ in 0..200 {
        let Step::Ask { from, until, .. } = step else { panic!("{}", shown(step)) };
        let length = until.unwrap_or(2_000) - from;
        machine.on(NO_TIME, part(from, 2_000));
        machine.on(NO_TIME, bytes(length as usize));
        machine.on(NO_TIME, Event::Written);
        step = machine.on(NO_TIME, Event::Ended);
    }
    assert_eq!(shown(step), "check");
}

#[test]
fn a_wrong_whole_is_put_together_without_it() {
    let mut machine = with_parts(100, std::slice::from_ref(&(0..50)));
    play(
        &mut machine,
        vec![
            (started(0), "ask 1 from 0 to 50"),
            (part(0, 100), "read"),
            (bytes(50), "write 50"),
            (Event::Written, "read"),
            (Event::Ended, "ask 0 from 50"),
            (part(50, 100), "read"),
            (bytes(50), "write 50"),
            (Event::Written, "read"),
            (Event::Ended, "check"),
            (Event::Differs(Mismatch::Size { expected: 1, actual: 2 }), "rewind"),
            (Event::Rewound, "ask 0 from 0"),
        ],
    );
}

proptest! {
    /// Whatever a source and this machine do, every byte is asked for in order, and the end is the end.
    #[test]
    fn parts_and_rest_make_the_whole(
        cuts in proptest::collection::btree_set(1_u64..400, 0..12),
        acts in proptest::collection::vec((0_u8..6, 1_u64..80), 1..200),
    ) {
        let size = 400_u64;
        let cuts: Vec<u64> = cuts.into_iter().collect();
        let spans: Vec<_> = cuts.chunks_exact(2).map(|pair| pair[0]..pair[1]).collect();
        let mut machine = with_parts(size as usize, &spans);
        let mut step = machine.on(NO_TIME, started(0));
        let mut acts = acts.into_iter();
        let (mut now, mut have, mut asked) = (NO_TIME, 0, 0);
        loop {
            now += Duration::from_secs(1);
            let event = match step {
                Step::Ask { source, from, until, .. } => {
                    prop_assert_eq!(from, have);
                    let inside = spans.iter().any(|span| span.contains(&from));
                    prop_assert!(source == 0 || inside, "only what is here is asked of this machine");
                    asked = until.unwrap_or(size);
                    part(from, size)
                }
                Step::Read => match acts.next() {
                    None => break,
                    Some((0, _)) => failed("x"),
                    Some((1, _)) => Event::Ended,
                    Some((_, most)) if have < asked => bytes(most.min(asked - have) as usize),
                    Some(_) => Event::Ended,
                },
                Step::Write(bytes) => {
                    have += bytes.len() as u64;
                    prop_assert!(have <= asked);
                    Event::Written
                }
                Step::Check => {
                    prop_assert_eq!(have, size);
                    break;
                }
                Step::Wait { .. } => Event::Waited,
                Step::Rewind | Step::Commit(_) => {
                    prop_assert!(false, "nothing was wrong");
                    break;
                }
                Step::GiveUp => break,
            };
            step = machine.on(now, event);
            if !matches!(step, Step::Write(_)) {
                prop_assert_eq!(machine.have(), have);
            }
        }
        let reports = machine.into_reports();
        prop_assert_eq!(reports.iter().map(|report| report.bytes).sum::<u64>(), have);
    }
}
