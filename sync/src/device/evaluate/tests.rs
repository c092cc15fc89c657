//! When deployments run: each rule alone, and all of them under clocks that go where they like.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::policy::{DeployedUpdate, UserOptions, Window};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("a time of the test")
}

fn facts() -> Facts {
    serde_json::from_value(json!({
        "os_type": "client", "version": "10.0.22631", "edition": "Enterprise", "architecture": "x64", "language": "en-us"
    }))
    .expect("facts")
}

/// Required, offered from 100 on, due at 200, for all that a command may take: two hours.
fn policy() -> Policy {
    serde_json::from_value(json!({
        "format": 1, "version": "1", "site": "XYZ", "device": "PC1", "made": "2026-01-01T00:00:00Z", "refresh_seconds": 60,
        "assignments": [{ "deployment": "XYZ20001", "task_sequence": "XYZ00001", "revision": 1, "name": "x",
            "purpose": "required", "available": at(100), "deadline": at(200), "user": { "independently": false },
            "document": "format = 1\nname = \"x\"\nkind = \"custom\"\n[[step]]\ntype = \"run-command\"\nname = \"a\"\ncommand = \"x\"\n" }],
    }))
    .expect("a policy")
}

fn past(state: RunState, revision: u64, deadline: Option<i64>) -> Past {
    Past {
        deployment: "XYZ20001".parse().expect("a number"),
        run: 1,
        revision,
        deadline: deadline.map(at),
        started: at(150),
        ended: at(160),
        state,
        code: None,
    }
}

/// What is decided, in a word.
fn told(policy: &Policy, facts: &Facts, history: &[Past], wanted: bool, now: i64) -> String {
    match verdict(&policy.assignments[0], Around { policy, facts, history, wanted, now: at(now) }) {
        Verdict::Now => "now".to_owned(),
        Verdict::Prepare { until, .. } => format!("prepare until {}", until.as_second()),
        Verdict::Offered => "offered".to_owned(),
        Verdict::Later { at, .. } => format!("later, at {}", at.as_second()),
        Verdict::Done => "done".to_owned(),
        Verdict::Not { code, .. } => code.name().to_owned(),
    }
}

#[test]
fn times_purposes_and_who_wants_it() {
    type Change = fn(&mut Policy);
    let same: Change = |_| {};
    let available: Change =
        |policy| (policy.assignments[0].purpose, policy.assignments[0].deadline) = (Purpose::Available, None);
    let user: Change = |policy| policy.assignments[0].user.independently = true;
    let at_once: Change = |policy| policy.assignments[0].deadline = None;
    let ends: Change = |policy| policy.assignments[0].expires = Some(at(300));
    let stale: Change = |policy| policy.expires = Some(at(300));
    let window: Change = |policy| {
        policy.windows =
            vec![Window { from: at(10_000), until: at(20_000) }, Window { from: at(300), until: at(400) }];
    };
    let outside: Change = |policy| {
        policy.windows = vec![Window { from: at(10_000), until: at(20_000) }];
        policy.assignments[0].user.install_outside_windows = true;
    };
    let unknown: Change = |policy| {
        policy.assignments[0].document =
            policy.assignments[0].document.replace("\"run-command\"", "\"teleport\"");
    };
    let broken: Change = |policy| policy.assignments[0].document = "format = 1\n[[step".to_owned();
    for (what, change, wanted, now, expected) in [
        ("before it is available", same, false, 99, "later, at 100"),
        ("whoever wants it", user, true, 99, "later, at 100"),
        ("before its deadline", same, false, 100, "prepare until 200"),
        ("a second before", same, false, 199, "prepare until 200"),
        ("at its deadline", same, false, 200, "now"),
        ("long after it", same, false, 2_000_000_000, "now"),
        ("a user may not", same, true, 150, "prepare until 200"),
        ("a user may", user, true, 150, "now"),
        ("a user who does not", user, false, 150, "prepare until 200"),
        ("without a deadline", at_once, false, 100, "now"),
        ("available, to come", available, true, 99, "later, at 100"),
        ("available", available, false, 100, "offered"),
        ("available and wanted", available, true, 100, "now"),
        ("its last second", ends, false, 299, "now"),
        ("over", ends, true, 300, "DEPLOYMENT_EXPIRED"),
        ("the policy is too old", stale, false, 300, "DEPLOYMENT_EXPIRED"),
        ("the short window does not do", window, false, 350, "prepare until 10000"),
        ("in the window", window, false, 10_000, "now"),
        ("just long enough", window, false, 12_800, "now"),
        ("too little of it is left", window, false, 12_801, "NO_MAINTENANCE_WINDOW"),
        ("windows do not hold for it", outside, false, 350, "now"),
        ("a step that nobody knows", unknown, true, 200, "STEP_TYPE_UNKNOWN"),
        ("a document that nobody reads", broken, true, 200, "TASK_SEQUENCE_INVALID"),
    ] {
        let mut policy = policy();
        change(&mut policy);
        assert_eq!(told(&policy, &facts(), &[], wanted, now), expected, "{what}");
    }
    assert!(UserOptions::default().independently, "what the rows begin with is not the default");
}

#[test]
fn whom_it_is_not_for() {
    let mut away = facts();
    away.internet = true;
    let mut policy = policy();
    assert_eq!(told(&policy, &away, &[], true, 200), "INTERNET_NOT_ALLOWED");
    policy.assignments[0].content.internet = true;
    assert_eq!(told(&policy, &away, &[], true, 200), "now");
    let update = "00000000-0000-0000-0000-000000000007";
    let assignment = &mut policy.assignments[0];
    assignment.document = format!(
        "format = 1\nname = \"x\"\nkind = \"custom\"\n[[step]]\ntype = \"upgrade-os\"\nname = \"up\"\nfeature_updates = [\"{update}\"]\n"
    );
    assignment.references = serde_json::from_value(json!({ "feature_updates": [{
        "facts": { "id": update, "title": "25H2", "os_type": "client", "build": [26200, 1], "architecture": "arm64",
                   "language": "en-us", "shape": "esd" }, "files": [] }] }))
    .expect("references");
    assert_eq!(told(&policy, &facts(), &[], true, 200), "NO_FEATURE_UPDATE_APPLIES");
    let mut arm = facts();
    arm.architecture = "arm64".to_owned();
    assert_eq!(told(&policy, &arm, &[], true, 200), "now");
    // What is deployed beside it and supersedes it is what a run would find too.
    let newer = "00000000-0000-0000-0000-000000000008".parse().expect("an id");
    policy.assignments[0].references.feature_updates[0].facts.superseded_by = vec![newer];
    assert_eq!(told(&policy, &arm, &[], true, 200), "now", "nobody is offered that");
    let beside = DeployedUpdate { id: newer, title: "26H2".to_owned(), mandatory: false, files: Vec::new() };
    policy.updates = vec![beside];
    assert_eq!(told(&policy, &arm, &[], true, 200), "NO_FEATURE_UPDATE_APPLIES");
}

/// Rules of reruns, for each purpose, each end before, and whoever wants it again.
#[test]
fn reruns() {
    use RunState::{Failed, RolledBack, Succeeded};
    // Available and wanted; required at its deadline, of the same revision; required, of another one, which only what failed is run
    // for; required and wanted.
    for (rerun, state, expected) in [
        (Rerun::Never, Succeeded, "done done done done"),
        (Rerun::Never, Failed, "done done done done"),
        (Rerun::Always, Succeeded, "now done done now"),
        (Rerun::Always, Failed, "now done now now"),
        (Rerun::IfFailed, Succeeded, "done done done done"),
        (Rerun::IfFailed, Failed, "now done now now"),
        (Rerun::IfFailed, RolledBack, "now done now now"),
        (Rerun::IfSucceeded, Succeeded, "now done done now"),
        (Rerun::IfSucceeded, Failed, "done done done done"),
        (Rerun::IfSucceeded, RolledBack, "done done done done"),
    ] {
        let mut required = policy();
        required.assignments[0].rerun = rerun;
        required.assignments[0].user.independently = true;
        let mut available = required.clone();
        available.assignments[0].purpose = Purpose::Available;
        available.assignments[0].deadline = None;
        let found = [
            told(&available, &facts(), &[past(state, 1, None)], true, 300),
            told(&required, &facts(), &[past(state, 1, Some(200))], false, 300),
            told(&required, &facts(), &[past(state, 2, Some(200))], false, 300),
            told(&required, &facts(), &[past(state, 1, Some(200))], true, 300),
        ];
        assert_eq!(found.join(" "), expected, "{rerun:?} {state:?}");
    }
    // A new deadline is due anew; what another deployment did is nobody's business here.
    let mut later = policy();
    later.assignments[0].deadline = Some(at(250));
    assert_eq!(told(&later, &facts(), &[past(Succeeded, 1, Some(200))], false, 300), "now");
    let other = Past { deployment: "XYZ20002".parse().expect("a number"), ..past(Succeeded, 1, Some(200)) };
    assert_eq!(told(&policy(), &facts(), &[other], false, 300), "now");
}

/// Decision 0026: an edit makes nobody run again what succeeded, however often, and what failed once for each edit.
#[test]
fn an_edit_is_run_by_those_that_failed_alone() {
    use RunState::{Failed, Succeeded};
    let ran = |run, state, revision, deadline| Past { run, ..past(state, revision, Some(deadline)) };
    for (what, history, revision, expected) in [
        ("succeeded", vec![ran(1, Succeeded, 1, 200)], 2, "done"),
        ("succeeded, edited often", vec![ran(1, Succeeded, 1, 200)], 9, "done"),
        ("failed", vec![ran(1, Failed, 1, 200)], 2, "now"),
        ("failed of both", vec![ran(1, Failed, 1, 200), ran(2, Failed, 2, 200)], 2, "done"),
        ("failed, then mended", vec![ran(1, Failed, 1, 200), ran(2, Succeeded, 2, 200)], 3, "done"),
        (
            "failed when somebody ran it again",
            vec![ran(1, Succeeded, 1, 200), ran(2, Failed, 1, 200)],
            2,
            "now",
        ),
        ("succeeded for the deadline before", vec![ran(1, Succeeded, 1, 150)], 1, "now"),
        (
            "failed for the deadline before",
            vec![ran(1, Failed, 1, 150), ran(2, Succeeded, 1, 200)],
            2,
            "done",
        ),
    ] {
        let mut policy = policy();
        policy.assignments[0].rerun = Rerun::Always;
        policy.assignments[0].revision = revision;
        assert_eq!(told(&policy, &facts(), &history, false, 300), expected, "{what}");
    }
}

/// What a run would find unfit is seen before it: the same for an image as for a feature update.
#[test]
fn an_image_that_does_not_fit_is_not_begun() {
    let mut policy = policy();
    let assignment = &mut policy.assignments[0];
    assignment.document = "format = 1\nname = \"x\"\nkind = \"custom\"\n[[step]]\ntype = \"upgrade-os\"\nname = \"up\"\nimage = \"XYZ00009\"\n".to_owned();
    assert_eq!(told(&policy, &facts(), &[], false, 200), "now", "what is not named fails, and says so");
    let image = |build: u32| -> Image {
        serde_json::from_value(json!({
            "id": "XYZ00009", "name": "Windows 11", "os_type": "client", "file": { "name": "11.wim", "size": 1 },
            "editions": [{ "index": 1, "name": "Enterprise", "edition": "Enterprise", "architecture": "x64", "languages": ["en-us"], "build": [build, 1] }],
        }))
        .expect("an image")
    };
    for (build, expected) in [(26_200, "now"), (22_631, "NO_FEATURE_UPDATE_APPLIES")] {
        policy.assignments[0].references.images = vec![image(build)];
        assert_eq!(told(&policy, &facts(), &[], false, 200), expected, "{build}");
    }
    let document = policy.assignments[0].document.clone();
    policy.assignments[0].document = format!("{document}continue_on_error = true\n");
    assert_eq!(told(&policy, &facts(), &[], false, 200), "now", "the run can do without it");
}

#[test]
fn content_that_nobody_gave_is_asked_for_again_until_the_run() {
    let minute = Duration::from_secs(60);
    for (now, until, expected) in
        [(0, 8_000, 4_000), (4_000, 8_000, 6_000), (7_900, 8_000, 7_960), (7_970, 8_000, 8_000)]
    {
        assert_eq!(asked_again(at(now), at(until), minute), at(expected), "{now}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// The clock may be set back or forward at any look: what ran for its deadline does not run again by itself, nothing is
    /// begun before its time or after it, and what is not due says until when.
    #[test]
    fn no_clock_makes_it_run_twice_or_early(
        looks in proptest::collection::vec((0_i64..1_000, any::<bool>()), 1..40),
        ends in proptest::option::of(300_i64..600),
        independently in any::<bool>(),
    ) {
        let mut policy = policy();
        policy.assignments[0].expires = ends.map(at);
        policy.assignments[0].user.independently = independently;
        let mut history: Vec<Past> = Vec::new();
        for (now, wanted) in looks {
            let around = Around { policy: &policy, facts: &facts(), history: &history, wanted, now: at(now) };
            match verdict(&policy.assignments[0], around) {
                Verdict::Now => {
                    prop_assert!(now >= 100 && ends.is_none_or(|ends| now < ends), "begun at {now}");
                    prop_assert!(now >= 200 || (wanted && independently), "begun at {now}");
                    prop_assert!(history.is_empty() || wanted, "again at {now}, and nobody wanted it");
                    let run = history.len() as u64 + 1;
                    history.push(Past { run, started: at(now), ended: at(now), ..past(RunState::Failed, 1, Some(200)) });
                }
                Verdict::Later { at: until, .. } | Verdict::Prepare { until, .. } => {
                    // Whoever wants it again waits for it again.
                    prop_assert!(until > at(now) && (history.is_empty() || wanted), "at {now}");
                }
                Verdict::Done => prop_assert!(!history.is_empty()),
                Verdict::Not { .. } => prop_assert!(ends.is_some_and(|ends| now >= ends)),
                Verdict::Offered => prop_assert!(false, "it is required"),
            }
        }
    }

    /// However long it is until the run, and however often policies are asked for.
    #[test]
    fn asking_again_comes_nearer_and_ends(left in 1_i64..40_000_000, refresh in 10_u64..86_400) {
        let (mut now, until, mut tries) = (at(0), at(left), 0);
        while now < until {
            let next = asked_again(now, until, Duration::from_secs(refresh));
            prop_assert!(next > now && next <= until);
            prop_assert!(next == until || next.duration_since(now).as_secs() >= refresh as i64);
            (now, tries) = (next, tries + 1);
        }
        prop_assert!(tries <= 40, "{tries}");
    }
}
