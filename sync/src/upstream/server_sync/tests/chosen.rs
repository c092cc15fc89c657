//! Which updates are asked for: what is selected, what an earlier run left, and what others need.

use super::*;

#[test]
fn an_unchanged_server_costs_two_lists_and_nothing_is_written() {
    let filter = ListFilter { categories: vec![update(1)], classifications: vec![update(2)] };
    let anchors = [
        (Scope::Categories, Anchor { anchor: "1,a".to_owned(), filter: ListFilter::default() }),
        (Scope::Updates, Anchor { anchor: "1,b".to_owned(), filter: filter.clone() }),
    ];
    let mut desk = Desk::new(options(), Known { anchors: anchors.into(), ..Known::default() });
    desk.stand();
    assert_eq!(desk.step(), "list categories since 1,a");
    desk.answer(list("2,c", Vec::new()));
    assert_eq!(desk.step(), "choose");
    let chosen = Chosen { filter: Some(filter), classifications: vec![update(2)] };
    desk.talk.on(Event::Chosen(chosen), desk.now);
    assert_eq!(desk.step(), "list updates since 1,b");
    desk.answer(list("2,d", Vec::new()));
    assert_eq!(desk.step(), "done");
    assert_eq!(desk.talk.tally().calls, 6);
}

/// A conversation in which the categories are done and the updates come next.
fn choosing(known: Known, filter: ListFilter) -> Desk {
    let mut desk = Desk::new(options(), known);
    desk.stand();
    assert_eq!(desk.step(), "list categories since ever");
    desk.answer(list("1,a", Vec::new()));
    assert_eq!(desk.step(), "begin categories 0 until 1,a");
    desk.talk.on(Event::Begun(Vec::new()), desk.now);
    assert_eq!(desk.step(), "end categories");
    desk.talk.on(Event::Ended, desk.now);
    assert_eq!(desk.step(), "choose");
    let chosen = Chosen { filter: Some(filter), classifications: vec![update(2), update(3)] };
    desk.talk.on(Event::Chosen(chosen), desk.now);
    desk
}

#[test]
fn what_another_selection_left_behind_is_not_fetched() {
    let filter = |n| ListFilter { categories: vec![update(n)], classifications: vec![update(2)] };
    let left = |n| Pass { ends: Anchor { anchor: "5,e".to_owned(), filter: filter(n) }, pending: ids(1..=7) };
    let before = Anchor { anchor: "4,d".to_owned(), filter: filter(1) };
    for (pass, expected) in [
        // The same selection goes on, and then asks for the news since.
        (left(1), &["ask for 7", "list updates since 5,e"][..]),
        (left(8), &["list updates since 4,d"]),
    ] {
        let known = Known {
            anchors: [(Scope::Updates, before.clone())].into(),
            passes: [(Scope::Updates, pass)].into(),
            ..Known::default()
        };
        let mut desk = choosing(known, filter(1));
        for step in expected {
            assert_eq!(desk.step(), *step);
            if step.starts_with("ask") {
                desk.answer(Answer::Documents((1..=7).map(|n| good(id(n))).collect()));
                assert_eq!(desk.steps(), ["record 7, set aside", "depend"]);
                desk.talk.on(Event::Missing(Unresolved::default()), desk.now);
                assert_eq!(desk.step(), "end updates");
                desk.talk.on(Event::Ended, desk.now);
            }
        }
    }
}

#[test]
fn what_is_needed_and_not_listed_is_looked_for_and_then_guessed() {
    let filter = ListFilter { categories: vec![update(1)], classifications: vec![update(2)] };
    let lost = vec![RevisionId { number: RevisionNumber(0), ..id(71) }];
    let mut desk = choosing(Known { quarantined: vec![id(70)], lost, ..Known::default() }, filter);
    assert_eq!(desk.step(), "list updates since ever");
    desk.answer(list("1,u", Vec::new()));
    assert_eq!(desk.step(), "begin updates 0 until 1,u");
    desk.talk.on(Event::Begun(Vec::new()), desk.now);
    assert_eq!(desk.step(), "depend");
    let missing = Unresolved {
        bundled: vec![id(50), id(70)],
        prerequisites: vec![update(60), update(61), update(70), update(71)],
        ..Unresolved::default()
    };
    desk.talk.on(Event::Missing(missing), desk.now);
    // What was set aside, what is bundled (once), and a list of everything for the two that nothing is known of.
    assert_eq!((desk.step(), desk.step()), ("ask for 70/100".into(), "ask for 50/100".into()));
    desk.answer(fault(ErrorCode::InternalServerError));
    assert_eq!(desk.steps(), ["list updates since ever", "record 0, set aside REVISION_QUARANTINED", "wait"]);
    let Some((_, Request::GetRevisionIdList { filter, .. })) = desk.open.last() else { panic!("a list") };
    assert_eq!(filter.classifications.len(), 2, "of every classification");
    desk.answer(Answer::Documents(vec![good(id(50))]));
    let numbered = |n, number| RevisionId { update: update(n), number: RevisionNumber(number) };
    desk.answer(list("1,v", vec![numbered(60, 3), numbered(60, 7), numbered(62, 1)]));
    assert_eq!(desk.steps(), ["ask for 60/7", "ask for 61/200", "record 1, set aside", "wait"]);
    desk.answer(Answer::Documents(vec![good(numbered(60, 7))]));
    // Not there under eleven likely numbers; under the twelfth neither.
    for number in [100, 101, 102, 103, 104, 105, 201, 202, 1, 2, 3] {
        desk.answer(fault(ErrorCode::InternalServerError));
        let asked = desk.steps().into_iter().find(|step| step.starts_with("ask"));
        assert_eq!(asked, Some(format!("ask for 61/{number}")));
    }
    desk.answer(fault(ErrorCode::InternalServerError));
    assert_eq!(desk.steps(), ["record 0, set aside NOT_FOUND", "depend"]);
    let missing = Unresolved {
        bundled: vec![id(70)],
        prerequisites: vec![update(61), update(71)],
        ..Unresolved::default()
    };
    desk.talk.on(Event::Missing(missing), desk.now);
    assert_eq!(desk.step(), "end updates", "nothing is tried twice in a run");
}

#[test]
fn no_product_means_categories_only() {
    let mut desk = choosing(Known::default(), ListFilter::default());
    desk.talk.on(Event::Chosen(Chosen::default()), desk.now);
    assert_eq!(desk.step(), "done");
}

/// What a conversation did about what is missing, as a server does that has none of it: it answers every list with `listed`,
/// and every document with `answer`.
fn looked_for(
    desk: &mut Desk,
    missing: &Unresolved,
    listed: &[RevisionId],
    answer: impl Fn() -> Answer,
) -> Found {
    let mut found = Found::default();
    desk.talk.on(Event::Missing(missing.clone()), desk.now);
    loop {
        match desk.talk.next(desk.now) {
            Step::Call { ticket, request } => {
                let answer = match request {
                    Request::GetUpdateData { ids, .. } => {
                        found.asked.extend(ids);
                        answer()
                    }
                    _ => {
                        found.lists += 1;
                        list("9,z", listed.to_vec())
                    }
                };
                desk.talk.on(Event::Answered { ticket, answer, server_time: None }, desk.now);
            }
            Step::Record(batch) => {
                found.set_aside.extend(batch.set_aside);
                desk.talk.on(Event::Recorded, desk.now);
            }
            Step::Depend => desk.talk.on(Event::Missing(missing.clone()), desk.now),
            last => {
                found.last = format!("{last:?}");
                return found;
            }
        }
    }
}

#[derive(Debug, Default)]
struct Found {
    asked: Vec<RevisionId>,
    lists: usize,
    set_aside: Vec<Quarantined>,
    last: String,
}

/// A conversation that asks what its updates need: nothing is new, and something is left.
fn depending(known: Known) -> Desk {
    let filter = ListFilter { categories: vec![update(1)], classifications: vec![update(2)] };
    let anchor = Anchor { anchor: "1,u".to_owned(), filter: filter.clone() };
    let anchors = [(Scope::Updates, anchor)].into();
    let mut desk = choosing(Known { anchors, ..known }, filter);
    assert_eq!(desk.step(), "list updates since 1,u");
    desk.answer(list("2,u", Vec::new()));
    assert_eq!(desk.step(), "depend");
    desk
}

#[test]
fn more_than_can_be_guessed_in_a_run_is_left_to_the_next_one_which_says_so() {
    let missing = Unresolved { prerequisites: (1001..=1150).map(update).collect(), ..Unresolved::default() };
    let none = || fault(ErrorCode::InternalServerError);
    let mut desk = depending(Known { left: true, ..Known::default() });
    let first = looked_for(&mut desk, &missing, &[], none);
    assert_eq!((first.lists, first.asked.len(), first.last.as_str()), (1, 100 * 12, "Done"));
    let (not_found, left): (Vec<_>, Vec<_>) = first.set_aside.into_iter().partition(Quarantined::is_lost);
    assert_eq!((not_found.len(), left.len()), (100, 50));
    assert!(desk.talk.notes().iter().any(|note| note.starts_with("50 updates")), "{:?}", desk.talk.notes());

    // The next run has nothing new, goes on with the fifty, and then there is nothing left.
    let lost = not_found.iter().map(|one| one.id).collect();
    let mut desk = depending(Known { left: true, lost, ..Known::default() });
    let second = looked_for(&mut desk, &missing, &[], none);
    let asked: std::collections::BTreeSet<_> = second.asked.iter().map(|one| one.update).collect();
    assert_eq!(asked, left.iter().map(|one| one.id.update).collect());
    assert_eq!((second.set_aside.len(), desk.talk.notes().len()), (50, 0));
}

#[test]
fn parts_of_what_others_gave_are_no_fault_of_a_server_that_lacks_them() {
    let elsewhere: Vec<_> = (1001..=1250).map(id).collect();
    let missing = Unresolved { elsewhere: elsewhere.clone(), ..Unresolved::default() };
    for answer in [|| fault(ErrorCode::InternalServerError), || Answer::Documents(Vec::new())] {
        let mut desk = depending(Known { left: true, ..Known::default() });
        let first = looked_for(&mut desk, &missing, &[], answer);
        assert_eq!(first.last, "Done", "it is not given up");
        let (not_found, left): (Vec<_>, Vec<_>) = first.set_aside.into_iter().partition(Quarantined::is_lost);
        assert_eq!((not_found.len(), left.len(), first.lists), (200, 50, 0));
        assert!(left.iter().all(Quarantined::is_left));

        // The next run goes on with the others, and the one after it asks for nothing.
        let lost: Vec<_> = not_found.iter().map(|one| one.id).collect();
        let mut desk = depending(Known { left: true, lost, ..Known::default() });
        let second = looked_for(&mut desk, &missing, &[], answer);
        let asked: std::collections::BTreeSet<_> = second.asked.iter().copied().collect();
        assert_eq!(asked, left.iter().map(|one| one.id).collect());
        let mut desk = depending(Known { left: true, lost: elsewhere.clone(), ..Known::default() });
        assert_eq!(looked_for(&mut desk, &missing, &[], answer).asked, []);
    }
}

#[test]
fn what_prerequisites_need_in_turn_is_in_the_same_list() {
    let numbered = |n, number| RevisionId { update: update(n), number: RevisionNumber(number) };
    let mut desk = depending(Known { left: true, ..Known::default() });
    let needs = |n| Unresolved { prerequisites: vec![update(n)], ..Unresolved::default() };
    desk.talk.on(Event::Missing(needs(60)), desk.now);
    assert_eq!(desk.step(), "list updates since ever");
    desk.answer(list("1,v", vec![numbered(60, 7), numbered(61, 4711), numbered(61, 3)]));
    assert_eq!(desk.step(), "ask for 60/7");
    desk.answer(Answer::Documents(vec![good(numbered(60, 7))]));
    assert_eq!(desk.steps(), ["record 1, set aside", "depend"]);
    desk.talk.on(Event::Missing(needs(61)), desk.now);
    assert_eq!(desk.step(), "ask for 61/4711", "no number is guessed, and no list is asked for again");
    desk.answer(Answer::Documents(vec![good(numbered(61, 4711))]));
    assert_eq!(desk.steps(), ["record 1, set aside", "depend"]);
    // What is in no list is guessed, in a later round too.
    desk.talk.on(Event::Missing(needs(62)), desk.now);
    assert_eq!(desk.step(), "ask for 62/200");
}

#[test]
fn a_list_that_only_helps_fails_no_run() {
    for answer in [
        fault(ErrorCode::TooManyIds),
        fault(ErrorCode::Other("Ooops".to_owned())),
        broken(Code::TransferTooLong, Hope::Halves),
        broken(Code::ProtocolMalformed, Hope::None),
        broken(Code::ProtocolMalformed, Hope::Smaller),
        broken(Code::SourceFailed, Hope::Later),
    ] {
        let described = format!("{answer:?}");
        let again = |answer: &Answer| match answer {
            Answer::Broken { problem, hope } => broken(problem.code, *hope),
            Answer::Fault(one) => Answer::Fault(one.clone()),
            other => panic!("{other:?}"),
        };
        let mut desk = depending(Known { left: true, ..Known::default() });
        let missing = Unresolved { prerequisites: vec![update(60)], ..Unresolved::default() };
        desk.talk.on(Event::Missing(missing), desk.now);
        let mut step = desk.step();
        while step == "list updates since ever" || step == "pause" {
            match step.as_str() {
                "pause" => desk.now += 60_000,
                _ => desk.answer(again(&answer)),
            }
            step = desk.step();
        }
        assert_eq!(step, "ask for 60/200", "{described}");
        assert!(desk.talk.notes().iter().any(|note| note.contains("did not come")), "{described}");
    }
}

#[test]
fn bundled_revisions_that_were_on_their_way_when_the_server_changed_are_asked_for_again() {
    let filter = ListFilter { categories: vec![update(1)], classifications: vec![update(2)] };
    let mut desk = choosing(Known { quarantined: vec![id(70)], ..Known::default() }, filter.clone());
    let missing = || Unresolved { bundled: vec![id(50), id(70)], ..Unresolved::default() };
    assert_eq!(desk.step(), "list updates since ever");
    desk.answer(list("1,u", vec![id(10)]));
    assert_eq!(desk.step(), "begin updates 1 until 1,u");
    desk.talk.on(Event::Begun(Vec::new()), desk.now);
    assert_eq!(desk.step(), "depend");
    desk.talk.on(Event::Missing(missing()), desk.now);
    assert_eq!((desk.step(), desk.step()), ("ask for 70/100".into(), "ask for 50/100".into()));
    desk.answer(fault(ErrorCode::ServerChanged));
    assert_eq!(desk.step(), "forget");
    desk.open.clear();
    desk.talk.on(Event::Forgotten, desk.now);
    desk.stand_again();
    assert_eq!(desk.step(), "list categories since ever");
    desk.answer(list("1,c", Vec::new()));
    assert_eq!(desk.step(), "begin categories 0 until 1,c");
    desk.talk.on(Event::Begun(Vec::new()), desk.now);
    assert_eq!(desk.step(), "end categories");
    desk.talk.on(Event::Ended, desk.now);
    assert_eq!(desk.step(), "choose");
    let chosen = Chosen { filter: Some(filter), classifications: vec![update(2)] };
    desk.talk.on(Event::Chosen(chosen), desk.now);
    assert_eq!(desk.step(), "list updates since ever");
    desk.answer(list("1,w", vec![id(10)]));
    assert_eq!(desk.step(), "begin updates 1 until 1,w");
    desk.talk.on(Event::Begun(Vec::new()), desk.now);
    assert_eq!(desk.step(), "depend");
    desk.talk.on(Event::Missing(missing()), desk.now);
    // The one that an earlier run set aside is for the next run: it may be recorded by now.
    assert_eq!(desk.step(), "ask for 50/100");
    desk.answer(Answer::Documents(vec![good(id(50))]));
    assert_eq!(desk.steps(), ["record 1, set aside", "depend"]);
    let missing = Unresolved { bundled: vec![id(70)], ..Unresolved::default() };
    desk.talk.on(Event::Missing(missing), desk.now);
    assert_eq!(desk.step(), "end updates");
}

#[test]
fn what_was_set_aside_and_came_before_the_server_changed_is_not_asked_for_again() {
    let filter = ListFilter { categories: vec![update(1)], classifications: vec![update(2)] };
    let chosen = || Chosen { filter: Some(filter.clone()), classifications: vec![update(2)] };
    let mut desk = Desk::new(options(), Known { quarantined: vec![id(70)], ..Known::default() });
    desk.stand();
    for again in [false, true] {
        assert_eq!(desk.step(), "list categories since ever");
        desk.answer(list("1,a", vec![id(70)]));
        assert_eq!(desk.step(), "begin categories 1 until 1,a");
        let pending = if again { Vec::new() } else { vec![id(70)] };
        desk.talk.on(Event::Begun(pending), desk.now);
        if !again {
            assert_eq!(desk.step(), "ask for 70/100");
            desk.answer(Answer::Documents(vec![good(id(70))]));
            assert_eq!(desk.step(), "record 1, set aside");
        }
        assert_eq!(desk.step(), "end categories");
        desk.talk.on(Event::Ended, desk.now);
        assert_eq!(desk.step(), "choose");
        desk.talk.on(Event::Chosen(chosen()), desk.now);
        assert_eq!(desk.step(), "list updates since ever");
        if !again {
            desk.answer(fault(ErrorCode::ServerChanged));
            assert_eq!(desk.step(), "forget");
            desk.talk.on(Event::Forgotten, desk.now);
            desk.stand_again();
        }
    }
    desk.answer(list("1,u", Vec::new()));
    assert_eq!(desk.step(), "begin updates 0 until 1,u");
    desk.talk.on(Event::Begun(Vec::new()), desk.now);
    assert_eq!(desk.step(), "depend");
    desk.talk.on(Event::Missing(Unresolved::default()), desk.now);
    assert_eq!(desk.step(), "end updates");
}

#[test]
fn a_bundle_too_deep_for_one_run_does_not_end_its_list() {
    let filter = ListFilter { categories: vec![update(1)], classifications: vec![update(2)] };
    let mut desk = choosing(Known::default(), filter.clone());
    assert_eq!(desk.step(), "list updates since ever");
    desk.answer(list("1,u", vec![id(10)]));
    assert_eq!(desk.step(), "begin updates 1 until 1,u");
    desk.talk.on(Event::Begun(Vec::new()), desk.now);
    assert_eq!(desk.step(), "depend");
    let deeper = |n| Unresolved { bundled: vec![id(n)], ..Unresolved::default() };
    for depth in 0..8 {
        desk.talk.on(Event::Missing(deeper(100 + depth)), desk.now);
        assert_eq!(desk.step(), format!("ask for {}/100", 100 + depth));
        desk.answer(Answer::Documents(vec![good(id(100 + depth))]));
        assert_eq!(desk.steps(), ["record 1, set aside", "depend"]);
    }
    desk.talk.on(Event::Missing(deeper(108)), desk.now);
    assert_eq!(desk.step(), "done", "its anchor does not stand");
    assert!(desk.talk.notes()[0].starts_with("1 bundled"), "{:?}", desk.talk.notes());

    // The next run goes on with the same list.
    let ends = Anchor { anchor: "1,u".to_owned(), filter: filter.clone() };
    let pass = Pass { ends, pending: Vec::new() };
    let mut desk = choosing(Known { passes: [(Scope::Updates, pass)].into(), ..Known::default() }, filter);
    assert_eq!(desk.step(), "depend");
    desk.talk.on(Event::Missing(deeper(108)), desk.now);
    assert_eq!(desk.step(), "ask for 108/100");
    desk.answer(Answer::Documents(vec![good(id(108))]));
    assert_eq!(desk.steps(), ["record 1, set aside", "depend"]);
    desk.talk.on(Event::Missing(Unresolved::default()), desk.now);
    assert_eq!(desk.step(), "end updates");
}
