//! Content that is not there, or not yet, and applications that fail.

use super::*;

/// Mission row M19.
#[test]
fn what_is_available_fails_at_once_where_nobody_has_its_content() {
    for (purpose, code, fetches) in [
        (Purpose::Available, Code::ContentUnavailable, 1),
        (Purpose::Available, Code::SourceUnreachable, 3),
        (Purpose::Required, Code::ContentUnavailable, 3),
    ] {
        let sequence = template();
        let (plan, mut frame) = (Plan::of(&sequence), frame(&sequence));
        frame.assignment.purpose = purpose;
        let progress = Progress::begin(&plan, &frame, &facts(), "1");
        let mut machine = Machine::new(&plan, &frame, progress);
        let mut turn = machine.on(Event::woke("1"), Duration::ZERO);
        let mut asked = 0;
        while let Act::Fetch { .. } = turn.act {
            asked += 1;
            assert!(asked < 10, "it asks for ever");
            let failure = Failure { code, exit: None, details: "nobody has it".to_owned() };
            turn = machine.on(Event::Fetched(Err(failure)), Duration::ZERO);
        }
        let Act::End(end) = turn.act else { panic!("{purpose:?}: {:?}", turn.act) };
        assert_eq!((asked, end.state, end.code), (fetches, RunState::Failed, Some(code)), "{purpose:?}");
    }
}

/// Who may be asked later is waited for, which is no try, and not for ever; whoever is there again asks at once.
#[test]
fn somebody_who_may_be_asked_later_is_waited_for() {
    let sequence = template();
    let (plan, frame) = (Plan::of(&sequence), frame(&sequence));
    let mut machine = Machine::new(&plan, &frame, Progress::begin(&plan, &frame, &facts(), "1"));
    machine.on(Event::woke("1"), Duration::ZERO);
    let failure = || Failure { code: Code::SourceFailed, exit: None, details: "rome from 12:00".to_owned() };
    let later = || Event::Later(Duration::from_secs(7_200), failure());
    let turn = machine.on(later(), Duration::ZERO);
    assert_eq!(turn.act, Act::Fetch { node: None, pause: Duration::from_secs(7_200) });
    assert_eq!(
        (turn.said[0].state, turn.said[0].details.as_str()),
        (RunState::Downloading, "rome from 12:00")
    );
    let woken = machine.on(Event::woke("1"), Duration::ZERO).act;
    assert_eq!(woken, Act::Fetch { node: None, pause: Duration::ZERO });
    let (mut waits, mut tries) = (0, 0);
    let end = loop {
        match machine.on(later(), Duration::ZERO).act {
            Act::Fetch { pause, .. } if pause.as_secs() == 7_200 => waits += 1,
            Act::Fetch { .. } => tries += 1,
            Act::End(end) => break end,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((waits, tries, end.code), (19, 2, Some(Code::SourceFailed)));
}

/// The step that installs applications, as the template has it.
fn the_step_of(nodes: &[Node]) -> Node {
    let found = nodes.iter().find_map(|node| match node {
        Node::Group(group) => group.nodes.iter().find(|node| is_of_applications(node)),
        Node::Step(_) => Some(node).filter(|node| is_of_applications(node)),
    });
    found.cloned().expect("it installs applications")
}

fn is_of_applications(node: &Node) -> bool {
    matches!(node, Node::Step(step) if matches!(step.action, Action::InstallApplication(_)))
}

/// Three applications in one step; how it ends, which were begun, and what the step says at its end.
fn apps(goes_on: bool, bad: &[usize], content_is_there: bool) -> (End, Vec<usize>, String) {
    let ids = ["XYZ00001", "XYZ00002", "XYZ00003"];
    let wanted = Upgrade {
        applications: ids.iter().map(|id| id.parse().expect("an id")).collect(),
        continue_on_app_error: goes_on,
        ..Upgrade::default()
    };
    let sequence = sequence(vec![the_step_of(&upgrade(wanted).nodes), command("after")]);
    let (plan, mut frame) = (Plan::of(&sequence), frame(&sequence));
    frame.assignment.content.delivery = Delivery::WhenNeeded;
    let app = |(id, name): (&&str, &str)| serde_json::json!({ "id": id, "name": name, "install": "x", "usable": true });
    let all: Vec<_> = ids.iter().zip(["Portal", "Editor", "Viewer"]).map(app).collect();
    frame.assignment.references.applications = serde_json::from_value(all.into()).expect("applications");
    let mut machine = Machine::new(&plan, &frame, Progress::begin(&plan, &frame, &facts(), "1"));
    let (mut event, mut begun, mut words) = (Event::woke("1"), Vec::new(), String::new());
    for _ in 0..50 {
        let turn = machine.on(event, Duration::from_secs(1));
        for said in turn.said {
            let ended = said.step.filter(|step| step.number == 1 && step.state != StepState::Running);
            words = ended.map_or(words, |step| format!("{} {}", step.state.word(), said.details));
        }
        event = match turn.act {
            Act::Fetch { .. } if content_is_there => Event::Fetched(Ok(Vec::new())),
            Act::Fetch { .. } => {
                let failure = Failure { code: Code::SourceFailed, exit: None, details: "gone".to_owned() };
                Event::Fetched(Err(failure))
            }
            Act::Run(order) if order.node == 0 => {
                begun.push(order.part);
                let code = if bad.contains(&order.part) { 7 } else { 0 };
                Event::Ended(Outcome::Exit { code, output: None })
            }
            Act::Run(_) => Event::Ended(Outcome::Exit { code: 0, output: None }),
            Act::End(end) => return (end, begun, words),
            other => panic!("{other:?}"),
        };
    }
    panic!("it did not end");
}

/// Mission row M59.
#[test]
fn apps_continue_vs_stop() {
    for (goes_on, bad, there, state, begun, named) in [
        (false, &[][..], true, RunState::Succeeded, &[0, 1, 2][..], "succeeded "),
        (false, &[1], true, RunState::Failed, &[0, 1], "failed `Editor` ended with"),
        (false, &[2], true, RunState::Failed, &[0, 1, 2], "failed `Viewer` ended with"),
        (false, &[], false, RunState::Failed, &[], "failed gone"),
        (
            true,
            &[1],
            true,
            RunState::Succeeded,
            &[0, 1, 2],
            "succeeded failed and passed over: `Editor` ended with",
        ),
        (
            true,
            &[0, 2],
            true,
            RunState::Succeeded,
            &[0, 1, 2],
            "succeeded failed and passed over: `Portal` ended with",
        ),
        (
            true,
            &[0, 1, 2],
            true,
            RunState::Succeeded,
            &[0, 1, 2],
            "succeeded failed and passed over: `Portal` ended with",
        ),
        // Each says for itself that its content is not there.
        (
            true,
            &[1],
            false,
            RunState::Succeeded,
            &[0, 1, 2],
            "succeeded failed and passed over: `Editor` ended with",
        ),
    ] {
        let (end, found, words) = apps(goes_on, bad, there);
        assert_eq!((end.state, found.as_slice()), (state, begun), "{goes_on} {bad:?}: {words}");
        assert!(words.starts_with(named), "{goes_on} {bad:?}: {words}");
        let names = ["Portal", "Editor", "Viewer"];
        assert!(
            bad.iter().filter(|_| goes_on).all(|part| words.contains(names[*part])),
            "each is named: {words}"
        );
        assert!(state == RunState::Succeeded || there == (end.exit == Some(7)), "{end:?}");
    }
}
