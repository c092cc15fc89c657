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
    let quarantined = vec![id(70), RevisionId { number: RevisionNumber(0), ..id(71) }];
    let mut desk = choosing(Known { quarantined, ..Known::default() }, filter);
    assert_eq!(desk.step(), "list updates since ever");
    desk.answer(list("1,u", Vec::new()));
    assert_eq!(desk.step(), "begin updates 0 until 1,u");
    desk.talk.on(Event::Begun(Vec::new()), desk.now);
    assert_eq!(desk.step(), "depend");
    let missing = Unresolved {
        bundled: vec![id(50), id(70)],
        prerequisites: vec![update(60), update(61), update(70), update(71)],
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
    assert_eq!(desk.steps(), ["record 0, set aside REVISION_QUARANTINED", "depend"]);
    let missing = Unresolved { bundled: vec![id(70)], prerequisites: vec![update(61), update(71)] };
    desk.talk.on(Event::Missing(missing), desk.now);
    assert_eq!(desk.step(), "end updates", "nothing is tried twice in a run");
}

#[test]
fn no_product_means_categories_only() {
    let mut desk = choosing(Known::default(), ListFilter::default());
    desk.talk.on(Event::Chosen(Chosen::default()), desk.now);
    assert_eq!(desk.step(), "done");
}
