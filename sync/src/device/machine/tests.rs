//! Runs in a world of plain values, cut and killed at any moment.

mod content;

use proptest::prelude::*;

use super::*;
use crate::policy::{ContentOptions, References, Rerun, UserOptions};
use crate::sequence::action::{RunCommand, SetVariable, UpgradeOs};
use crate::sequence::condition::{Comparison, Condition};
use crate::sequence::template::{Upgrade, upgrade};
use crate::sequence::{Common, Group, Kind, Node, Sequence, Step};

fn command(name: &str) -> Node {
    Node::Step(Step { common: Common::named(name), action: Action::RunCommand(RunCommand::default()) })
}

fn with(node: Node, change: impl Fn(&mut Common)) -> Node {
    let mut node = node;
    change(node.common_mut());
    node
}

fn group(name: &str, nodes: Vec<Node>) -> Node {
    Node::Group(Group { common: Common::named(name), nodes })
}

fn sequence(nodes: Vec<Node>) -> Sequence {
    Sequence { nodes, ..Sequence::empty("x", "", Kind::Custom) }
}

fn frame(sequence: &Sequence) -> Frame {
    let time = jiff::Timestamp::UNIX_EPOCH;
    Frame {
        run: 1,
        assignment: Assignment {
            deployment: "XYZ20001".parse().expect("a number"),
            task_sequence: "XYZ00001".parse().expect("an id"),
            revision: 1,
            name: "x".to_owned(),
            purpose: Purpose::Required,
            available: time,
            deadline: None,
            expires: None,
            rerun: Rerun::Always,
            user: UserOptions::default(),
            content: ContentOptions::default(),
            document: sequence.to_text(),
            references: References::default(),
            secrets: Vec::new(),
        },
        settings: DeviceSettings::default(),
        updates: Vec::new(),
        scan: None,
    }
}

fn facts() -> Facts {
    serde_json::from_value(serde_json::json!({
        "os_type": "client", "version": "10.0.22631", "edition": "Enterprise", "architecture": "x64", "language": "en-us"
    }))
    .expect("facts")
}

/// A device of which each step ends as a function says, and which dies where its list of deaths says.
struct World<'a> {
    exits: &'a dyn Fn(u32, u32) -> i64,
    /// After so many acts: the process is killed (false), or the power is cut (true).
    deaths: Vec<(usize, bool)>,
    rolls_back: bool,
    boot: u32,
    acts: usize,
    pending: bool,
    settled: Option<bool>,
    ended: Vec<(u32, usize)>,
    started: Vec<(u32, usize)>,
    said: Vec<Said>,
}

impl<'a> World<'a> {
    fn new(exits: &'a dyn Fn(u32, u32) -> i64) -> Self {
        Self {
            exits,
            deaths: Vec::new(),
            rolls_back: false,
            boot: 1,
            acts: 0,
            pending: false,
            settled: None,
            ended: Vec::new(),
            started: Vec::new(),
            said: Vec::new(),
        }
    }

    fn restart(&mut self) {
        self.boot += 1;
        if std::mem::take(&mut self.pending) {
            self.settled = Some(!self.rolls_back);
        }
    }

    fn dies(&mut self) -> Option<bool> {
        self.acts += 1;
        self.deaths.iter().find(|(at, _)| *at == self.acts).map(|(_, power)| *power)
    }

    /// The whole life of a run. What is journaled is all that survives; that it ends at all is the first claim.
    fn live(&mut self, sequence: &Sequence) -> End {
        let (plan, frame) = (Plan::of(sequence), frame(sequence));
        let mut journal = Progress::begin(&plan, &frame, &facts(), "1");
        let mut judged_done: Vec<usize> = Vec::new();
        for _life in 0..200 {
            let mut machine = Machine::new(&plan, &frame, journal.clone());
            let mut event = Event::Woke { boot: self.boot.to_string() };
            for _act in 0..2_000 {
                let turn = machine.on(event, Duration::from_secs(1));
                let text = serde_json::to_string(&machine.progress).expect("JSON");
                journal = serde_json::from_str(&text).expect("what was written is read");
                self.said.extend(turn.said);
                let death = self.dies();
                // Half of what could have happened happens although nobody hears of it.
                event = match turn.act {
                    Act::End(end) => return end,
                    Act::Fetch { .. } => Event::Fetched(Ok(Vec::new())),
                    Act::Wait(_) => Event::Waited,
                    Act::Judge(node) => {
                        let when = plan.at(node).and_then(|node| node.common.when.clone());
                        judged_done.push(node);
                        let holds = when.is_none_or(|when| {
                            crate::device::judge::holds(
                                &when,
                                machine.progress.variables(),
                                None,
                                &facts(),
                                &Nothing,
                            )
                        });
                        Event::Judged(holds)
                    }
                    Act::Run(order) => {
                        let number = plan.at(order.node).map_or(0, |node| node.number);
                        assert!(
                            !self.said.iter().any(|said| is_success(said, number)),
                            "step {number} had succeeded"
                        );
                        self.started.push((number, order.part));
                        let exit = (self.exits)(number, order.attempt);
                        if matches!(
                            plan.at(order.node).and_then(|n| n.action.as_ref()),
                            Some(Action::UpgradeOs(_))
                        ) && exit == 0
                            && death.is_none()
                        {
                            self.pending = true;
                        }
                        self.ended.push((number, order.part));
                        Event::Ended(Outcome::Exit { code: exit, output: None })
                    }
                    Act::Look(_) => Event::Found(Found::Lost),
                    Act::Settle => Event::Found(match self.settled {
                        Some(true) => Found::Upgraded,
                        Some(false) => Found::RolledBack { exit: Some(0xC190_0101) },
                        None => Found::Lost,
                    }),
                    Act::Restart { .. } => {
                        self.restart();
                        Event::Woke { boot: self.boot.to_string() }
                    }
                };
                match death {
                    Some(true) => {
                        self.restart();
                        break;
                    }
                    Some(false) => break,
                    None => {}
                }
            }
        }
        panic!("it did not end: {:?}", self.said.last());
    }

    fn told(&self) -> Vec<String> {
        let step = |said: &Said| {
            let step = said.step.as_ref()?;
            Some(format!("{} {}", step.name, step.state.word()))
        };
        self.said.iter().filter_map(step).collect()
    }
}

fn is_success(said: &Said, number: u32) -> bool {
    said.step.as_ref().is_some_and(|step| step.number == number && step.state == StepState::Succeeded)
}

struct Nothing;

impl crate::device::judge::Probe for Nothing {
    fn file(&self, _: &str) -> bool {
        false
    }
    fn folder(&self, _: &str) -> bool {
        false
    }
    fn registry(&self, _: &str, _: &str) -> Option<String> {
        None
    }
    fn wmi(&self, _: &str, _: &str) -> bool {
        false
    }
    fn software(&self, _: &str) -> bool {
        false
    }
}

#[test]
fn failures_travel_out_of_groups_until_one_continues() {
    let bad = |number: u32, _| i64::from(number == 2) * 5;
    let continues = |node| with(node, |common| common.continue_on_error = true);
    for (nodes, state, told) in [
        (vec![command("a"), command("b"), command("c")], RunState::Failed, "b failed"),
        (vec![command("a"), continues(command("b")), command("c")], RunState::Succeeded, "c succeeded"),
        (
            vec![continues(group("g", vec![command("a"), command("b"), command("c")])), command("d")],
            RunState::Succeeded,
            "d succeeded",
        ),
        (
            vec![
                continues(group("g", vec![group("h", vec![command("a"), command("b")]), command("c")])),
                command("d"),
            ],
            RunState::Succeeded,
            "d succeeded",
        ),
        (vec![group("g", vec![command("a"), command("b")]), command("c")], RunState::Failed, "b failed"),
    ] {
        let mut world = World::new(&bad);
        let end = world.live(&sequence(nodes));
        assert_eq!(end.state, state);
        assert_eq!(world.told().last().map(String::as_str), Some(told));
        assert!(state == RunState::Succeeded || end.code == Some(Code::StepFailed) && end.exit == Some(5));
    }
}

#[test]
fn steps_are_skipped_retried_and_restart_the_device() {
    let exits = |number: u32, attempt: u32| match (number, attempt) {
        (2, 1) => 9,
        (3, _) => 3010,
        _ => 0,
    };
    let set = SetVariable { variable: "Room".to_owned(), value: "204".to_owned(), hidden_value: None };
    let nodes = vec![
        Node::Step(Step { common: Common::named("set"), action: Action::SetVariable(set) }),
        with(command("again"), |common| common.retries = 2),
        command("restarts"),
        with(command("off"), |common| common.disabled = true),
        with(command("there"), |common| {
            common.when = Some(Condition::variable("room", Comparison::Equals, "204"))
        }),
        with(group("not there", vec![command("in it")]), |common| {
            common.when = Some(Condition::variable("room", Comparison::Less, "204"));
        }),
    ];
    let mut world = World::new(&exits);
    assert_eq!(world.live(&sequence(nodes)).state, RunState::Succeeded);
    assert_eq!(world.boot, 2);
    assert_eq!(
        world.told(),
        [
            "set succeeded",
            "again running",
            "again retrying",
            "again running",
            "again succeeded",
            "restarts running",
            "restarts succeeded",
            "off skipped",
            "there running",
            "there succeeded",
            "in it skipped"
        ]
    );
}

fn template() -> Sequence {
    upgrade(Upgrade { name: "x".to_owned(), ..Upgrade::default() })
}

#[test]
fn an_upgrade_that_failed_is_hidden_by_no_group() {
    for (exit, rolls_back, state, code) in [
        (0, false, RunState::Succeeded, None),
        (0xC190_0208, false, RunState::Failed, Some(Code::SetupBlocked)),
        (0xC190_0200, false, RunState::Failed, Some(Code::SetupNotEligible)),
        (1, false, RunState::Failed, Some(Code::SetupFailed)),
        (0, true, RunState::RolledBack, Some(Code::SetupRolledBack)),
    ] {
        let exits = move |number: u32, _| if number == 2 { exit } else { 0 };
        let mut world = World { rolls_back, ..World::new(&exits) };
        let end = world.live(&template());
        assert_eq!((end.state, end.code), (state, code), "{exit:#x}");
    }
}

#[test]
fn an_upgrade_that_nobody_restarts_is_restarted_at_the_end() {
    let step = Step { common: Common::named("up"), action: Action::UpgradeOs(UpgradeOs::default()) };
    let mut world = World { rolls_back: true, ..World::new(&|_, _| 0) };
    let end = world.live(&sequence(vec![Node::Step(step)]));
    assert_eq!((end.state, world.boot), (RunState::RolledBack, 2));
}

/// Decision 0026: however a run ends, Setup is not left to whatever starts the device next.
#[test]
fn a_run_that_ends_between_setup_and_its_restart_restarts_first() {
    let up =
        || Node::Step(Step { common: Common::named("up"), action: Action::UpgradeOs(UpgradeOs::default()) });
    let fails = |number: u32, _| i64::from(number == 2) * 5;
    for (rolls_back, state, code) in
        [(false, RunState::Failed, Code::StepFailed), (true, RunState::RolledBack, Code::SetupRolledBack)]
    {
        let mut world = World { rolls_back, ..World::new(&fails) };
        let end = world.live(&sequence(vec![up(), command("fails"), command("not reached")]));
        assert_eq!((end.state, end.code, world.boot), (state, Some(code), 2), "a step that failed");
        assert_eq!(world.started.len(), 2);

        let mut short = sequence([vec![up()], (0..100).map(|_| command("c")).collect()].concat());
        short.max_runtime = 1;
        let mut world = World { rolls_back, ..World::new(&|_, _| 0) };
        let end = world.live(&short);
        let code = if rolls_back { Code::SetupRolledBack } else { Code::RunTimedOut };
        assert_eq!((end.state, end.code, world.boot), (state, Some(code), 2), "its time is over");
    }
}

/// What the machine wants after each of these events, each with the minutes that it took.
fn acts(sequence: &Sequence, events: Vec<(Event, u64)>) -> Vec<Act> {
    let (plan, frame) = (Plan::of(sequence), frame(sequence));
    let mut machine = Machine::new(&plan, &frame, Progress::begin(&plan, &frame, &facts(), "1"));
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    events.into_iter().map(|(event, took)| machine.on(event, minutes(took)).act).collect()
}

fn exit(code: i64) -> Event {
    Event::Ended(Outcome::Exit { code, output: None })
}

#[test]
fn who_dies_where_it_is_to_be_known_what_became_of_setup_does_not_restart_for_ever() {
    let step = Step { common: Common::named("up"), action: Action::UpgradeOs(UpgradeOs::default()) };
    let restart = Step { common: Common::named("r"), action: Action::Restart(Restart::default()) };
    let sequence = sequence(vec![Node::Step(step), Node::Step(restart)]);
    let mut events = vec![(Event::woke("1"), 0), (Event::Fetched(Ok(Vec::new())), 0), (exit(0), 1)];
    // The first comes back from the restart, and is no interruption.
    events.extend((0..MOST_WAKINGS + 3).map(|_| (Event::woke("2"), 0)));
    let acts = acts(&sequence, events);
    assert!(acts.iter().any(|act| matches!(act, Act::Settle)), "{acts:?}");
    let last = acts.last();
    assert!(matches!(last, Some(Act::End(end)) if end.code == Some(Code::RestartLoop)), "{last:?}");
}

/// Decision 0026: nobody can hurry Setup, so what it takes once it has the device is none of the run's own minutes.
#[test]
fn the_time_between_the_restart_into_setup_and_its_outcome_does_not_count() {
    let step = Step { common: Common::named("up"), action: Action::UpgradeOs(UpgradeOs::default()) };
    let mut sequence = sequence(vec![
        Node::Step(step),
        Node::Step(Step { common: Common::named("r"), action: Action::Restart(Restart::default()) }),
        command("after"),
    ]);
    sequence.max_runtime = 120;
    let upgraded = || vec![(Event::Fetched(Ok(Vec::new())), 0), (exit(0), 100)];
    let begin = (Event::woke("1"), 0);
    let mut events = vec![begin.clone()];
    events.extend(upgraded());
    events.extend([(Event::woke("2"), 30), (Event::Found(Found::Upgraded), 5)]);
    let last = acts(&sequence, events).pop();
    let Some(Act::Run(order)) = last else { panic!("the rest of it runs: {last:?}") };
    assert_eq!(
        (order.node, order.limit),
        (2, Duration::from_secs(20 * 60)),
        "what it had left before the restart"
    );

    // A restart that does not happen is no work of Setup.
    let mut events = vec![begin];
    events.extend(upgraded());
    events.extend([(Event::woke("1"), 30), (Event::woke("2"), 0), (Event::Found(Found::Upgraded), 0)]);
    let last = acts(&sequence, events).pop();
    assert!(matches!(&last, Some(Act::End(end)) if end.code == Some(Code::RunTimedOut)), "{last:?}");
}

#[test]
fn a_secret_that_cannot_be_asked_for_is_waited_for() {
    let away = |said| {
        let details = "the site is away".to_owned();
        let failure = Failure { code: Code::SourceUnreachable, exit: None, details };
        Event::Later(Duration::from_secs(said), failure)
    };
    let mut sequence = sequence(vec![with(command("needs it"), |common| {
        common.when = Some(Condition::variable("word", Comparison::NotEquals, "x"));
    })]);
    sequence.max_runtime = 10;
    let begin = || vec![(Event::woke("1"), 0), (Event::Fetched(Ok(Vec::new())), 0)];

    // Its condition waits, then its command; longer each time, and no less than the site asks for. Its time does not count, and
    // whoever wakes up in between asks at once.
    let mut events = begin();
    events.extend([
        (away(0), 0),
        (Event::Waited, 300),
        (Event::Judged(true), 0),
        (away(0), 0),
        (Event::Waited, 300),
        (away(900), 0),
        (Event::woke("1"), 15),
        (exit(0), 1),
    ]);
    let acts_of = acts(&sequence, events);
    let wait = |seconds| Act::Wait(Duration::from_secs(seconds));
    assert_eq!([&acts_of[2], &acts_of[5], &acts_of[7]], [&wait(30), &wait(60), &wait(900)], "{acts_of:?}");
    assert!(matches!(acts_of[3], Act::Judge(0)) && matches!(acts_of[6], Act::Run(_)), "{acts_of:?}");
    assert!(matches!(&acts_of[8], Act::Run(order) if order.attempt == 1), "it had not begun: {acts_of:?}");
    assert!(matches!(&acts_of[9], Act::End(end) if end.state == RunState::Succeeded), "{acts_of:?}");

    // A page of maintenance gets no day, and who waited says that it goes on.
    let (plan, frame) = (Plan::of(&sequence), frame(&sequence));
    let mut machine = Machine::new(&plan, &frame, Progress::begin(&plan, &frame, &facts(), "1"));
    let mut turns: Vec<Turn> =
        [begin(), vec![(Event::Judged(true), 0), (away(86_400), 0), (Event::Waited, 60)]]
            .concat()
            .into_iter()
            .map(|(event, minutes)| machine.on(event, Duration::from_secs(minutes * 60)))
            .collect();
    let (after, waits) = (turns.pop().unwrap(), turns.pop().unwrap());
    assert_eq!(waits.act, Act::Wait(Duration::from_secs(3_600)));
    let states = |turn: &Turn| turn.said.iter().map(|said| said.state).collect::<Vec<_>>();
    assert_eq!((states(&waits), states(&after)), (vec![RunState::Waiting], vec![RunState::Running]));

    // It is waited for, not for ever.
    let mut events = begin();
    events.push((Event::Judged(true), 0));
    (0..WAITS.0).for_each(|_| events.extend([(away(0), 0), (Event::Waited, 60)]));
    events.push((away(0), 0));
    let last = acts(&sequence, events).pop();
    assert!(matches!(&last, Some(Act::End(end)) if end.code == Some(Code::SourceUnreachable)), "{last:?}");
}

#[test]
fn a_command_that_was_interrupted_is_not_run_again_unless_it_may() {
    for (retries, runs, state) in [(0, 1, RunState::Failed), (1, 2, RunState::Succeeded)] {
        let mut world = World { deaths: vec![(2, true)], ..World::new(&|_, _| 0) };
        let end = world.live(&sequence(vec![with(command("a"), |common| common.retries = retries)]));
        assert_eq!((world.started.len(), end.state), (runs, state));
        assert!(state == RunState::Succeeded || end.code == Some(Code::StepInterrupted));
    }
}

#[test]
fn time_ends_every_run() {
    let mut sequence = sequence((0..200).map(|number| command(&format!("c{number}"))).collect());
    sequence.max_runtime = 1;
    let mut world = World::new(&|_, _| 0);
    let end = world.live(&sequence);
    assert_eq!((end.state, end.code), (RunState::Failed, Some(Code::RunTimedOut)));
    assert!(world.started.len() < 80, "{}", world.started.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever dies when: the run ends, no step that was written down as finished begins again, and the last word is the
    /// only final one.
    #[test]
    fn any_interleaving_of_deaths_ends_and_repeats_nothing(
        deaths in proptest::collection::vec((1..40_usize, any::<bool>()), 0..25),
        bad in proptest::option::of(1..4_u32),
        rolls_back in any::<bool>(),
        retries in 0..3_u8,
    ) {
        let exits = move |number: u32, _| i64::from(Some(number) == bad) * 7;
        let mut sequence = template();
        sequence.nodes.push(with(command("last"), |common| common.retries = retries));
        sequence.nodes.insert(0, with(command("first"), |common| common.retries = retries));
        let mut world = World { deaths, rolls_back, ..World::new(&exits) };
        let end = world.live(&sequence);
        prop_assert!(end.state.is_final());
        let finals: Vec<_> = world.said.iter().filter(|said| said.state.is_final()).collect();
        prop_assert_eq!(finals.len(), 1, "one final word");
        prop_assert_eq!(finals[0].state, end.state);
        prop_assert!(world.said.last().is_some_and(|said| said.state.is_final()), "and it is the last");
        let succeeded = end.state == RunState::Succeeded;
        prop_assert_eq!(end.code.is_none(), succeeded, "a failure has its reason");
    }
}
