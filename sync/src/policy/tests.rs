use catalog::feature_update::Shape;
use catalog::id::UpdateId;
use uuid::Uuid;

use super::*;
use crate::sequence::action::{Action, OsType, Unknown, UpgradeOs};
use crate::sequence::choose::Candidate;
use crate::sequence::{Common, Kind, Node, Sequence, Step};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("a time")
}

/// A policy with one deployment of a task sequence that has a step nobody knows.
fn policy() -> Policy {
    let update = UpdateId(Uuid::from_u128(7));
    let mut sequence = Sequence::empty("Upgrade", "", Kind::Upgrade);
    let upgrade = UpgradeOs { feature_updates: vec![update], ..UpgradeOs::default() };
    let mut settings = toml::Table::new();
    settings.insert("colour".to_owned(), toml::Value::from("red"));
    for (name, action) in [
        ("Upgrade", Action::UpgradeOs(upgrade)),
        ("Paint", Action::Unknown(Unknown { kind: "paint".to_owned(), settings })),
    ] {
        sequence.nodes.push(Node::Step(Step { common: Common::named(name), action }));
    }
    let site: SiteCode = "XYZ".parse().expect("a code");
    let facts = Candidate {
        id: update,
        title: "Windows 11, version 25H2".to_owned(),
        os_type: OsType::Client,
        build: Some((26200, 8246)),
        architecture: "x64".to_owned(),
        language: "en-us".to_owned(),
        editions: vec!["Enterprise".to_owned()],
        shape: Shape::Esd,
        bases: Vec::new(),
        superseded_by: Vec::new(),
        undeployable: None,
    };
    let file = ContentFile {
        name: "x.esd".parse().expect("a name"),
        size: 3,
        sha256: Some(catalog::digest::Sha256Digest([7; 32])),
        sha1: None,
    };
    Policy {
        format: FORMAT,
        version: "1".to_owned(),
        site: site.clone(),
        device: "PC1".to_owned(),
        made: at(1_000),
        refresh_seconds: 3_600,
        expires: None,
        settings: DeviceSettings { thread_priority: ThreadPriority::Normal, ..DeviceSettings::default() },
        windows: vec![Window { from: at(10), until: at(20) }],
        updates: Vec::new(),
        assignments: vec![Assignment {
            deployment: DeploymentId::new(&site, 1),
            task_sequence: catalog::id::PackageId::new(&site, 2),
            revision: 3,
            name: "Upgrade".to_owned(),
            purpose: Purpose::Required,
            available: at(0),
            deadline: Some(at(100)),
            expires: None,
            rerun: Rerun::IfFailed,
            user: UserOptions::default(),
            content: ContentOptions::default(),
            document: sequence.to_text(),
            references: References {
                feature_updates: vec![FeatureUpdate {
                    facts,
                    release: Some("25H2".to_owned()),
                    files: vec![file],
                }],
                ..References::default()
            },
            secrets: Vec::new(),
        }],
    }
}

#[test]
fn a_policy_reads_back_and_keeps_steps_that_nobody_knows() {
    let policy = policy();
    let bytes = serde_json::to_vec(&policy).unwrap();
    assert_eq!(Policy::parse(&bytes).unwrap(), policy);
    let sequence = policy.assignments[0].sequence().unwrap();
    assert_eq!(sequence.steps()[1].step.action.kind(), "paint");
    assert_eq!(policy.assignments[0].deployment.as_str(), "XYZ20001");
}

#[test]
fn a_newer_release_may_say_more() {
    let mut value = serde_json::to_value(policy()).unwrap();
    value["colour"] = "red".into();
    value["settings"]["thread_priority"] = "realtime".into();
    value["settings"]["gpu"] = true.into();
    value["assignments"][0]["content"]["delivery"] = "by-pigeon".into();
    value["assignments"][0]["references"]["drivers"] = serde_json::json!([1]);
    value["assignments"][0]["secrets"] =
        serde_json::json!([{ "place": "sealed-3", "of": "pin", "present": true }]);
    let read = Policy::parse(&serde_json::to_vec(&value).unwrap()).unwrap();
    assert_eq!(read.settings.thread_priority, ThreadPriority::NotConfigured);
    assert_eq!(read.assignments[0].content.delivery, Delivery::AllFirst);
    assert_eq!(read.assignments[0].secrets[0].of, SecretOf::Variable);
}

#[test]
fn policies_have_caps() {
    let refused = |change: &dyn Fn(&mut Policy)| {
        let mut policy = policy();
        change(&mut policy);
        policy.check().unwrap_err().code
    };
    let changes: [&dyn Fn(&mut Policy); 8] = [
        &|p| p.format = FORMAT + 1,
        &|p| p.format = 0,
        &|p| p.version = "x".repeat(129),
        &|p| p.device = "a\u{7}".to_owned(),
        &|p| p.assignments.push(p.assignments[0].clone()),
        &|p| p.assignments[0].document = "x".repeat(crate::sequence::LARGEST + 1),
        &|p| p.assignments[0].references.feature_updates[0].facts.title = "x".repeat(LONGEST_TEXT + 1),
        &|p| p.windows = vec![p.windows[0]; MOST_REFERENCES + 1],
    ];
    for (position, change) in changes.into_iter().enumerate() {
        assert_eq!(refused(change), Code::PolicyInvalid, "change {position}");
    }
    assert!(Policy::parse(b"[1, 2").is_err());
    assert!(Policy::parse(&vec![b' '; LARGEST_POLICY + 1]).unwrap_err().causes[0].contains("bytes"));
    let mut often = policy();
    often.refresh_seconds = 0;
    assert_eq!(often.refresh().as_secs(), 10, "nobody hammers the site because it says so");
}

#[test]
fn numbers_of_deployments_have_their_form() {
    let site: SiteCode = "ABC".parse().unwrap();
    assert_eq!(DeploymentId::new(&site, 0xffff).as_str(), "ABC2FFFF");
    assert_eq!("abc20001".parse::<DeploymentId>().unwrap().as_str(), "ABC20001");
    for wrong in ["", "ABC10001", "ABC2000", "ABC2000G", "ABC200011", "ÄB220001", "../20001"] {
        assert!(wrong.parse::<DeploymentId>().is_err(), "{wrong}");
    }
}

fn message(number: u64) -> StatusMessage {
    StatusMessage {
        number,
        time: at(5),
        deployment: "XYZ20001".parse().expect("a number"),
        run: 1,
        state: RunState::Running,
        step: None,
        code: None,
        exit: Some(0xC190_0208),
        details: String::new(),
        bytes: Vec::new(),
    }
}

#[test]
fn messages_have_caps_and_an_order() {
    assert!(message(1).check().is_ok());
    let step = StepReport {
        number: 1,
        name: "x".repeat(LONGEST_TEXT + 1),
        groups: Vec::new(),
        kind: "restart".to_owned(),
        state: StepState::Running,
        attempt: 1,
    };
    for bad in [
        message(0),
        message(u64::MAX),
        StatusMessage { details: "x".repeat(MostOf::DETAILS + 1), ..message(1) },
        StatusMessage { code: Some("\u{1b}[31m".to_owned()), ..message(1) },
        StatusMessage {
            bytes: vec![BytesFrom { origin: Origin::Peer, name: "p".to_owned(), bytes: MostOf::BYTES + 1 }],
            ..message(1)
        },
        StatusMessage { step: Some(step), ..message(1) },
    ] {
        assert_eq!(bad.check().unwrap_err().code, Code::StatusInvalid, "{bad:?}");
    }
    let batch = |numbers: &[u64]| StatusBatch {
        series: Uuid::nil(),
        messages: numbers.iter().copied().map(message).collect(),
    };
    assert!(batch(&[1, 2, 9]).check().is_ok());
    assert!(batch(&[1, 1]).check().is_err() && batch(&[2, 1]).check().is_err());
    assert!(batch(&(1..=501).collect::<Vec<_>>()).check().is_err());
}

#[test]
fn what_is_kept_of_a_message_has_a_cap() {
    let usual = StatusMessage {
        details: "it was full".to_owned(),
        bytes: vec![BytesFrom { origin: Origin::Peer, name: "pc2".to_owned(), bytes: 7 }],
        ..message(1)
    };
    assert_eq!(serde_json::from_value::<StatusMessage>(usual.kept().unwrap()).unwrap(), usual);
    // As much as a message may have, in letters that take the most bytes.
    let long = |length: usize| "\u{10ffff}".repeat(length);
    let from = |number: usize| BytesFrom {
        origin: if number.is_multiple_of(2) { Origin::Peer } else { Origin::Cloud },
        name: long(LONGEST_TEXT),
        bytes: MostOf::BYTES,
    };
    let step = StepReport {
        number: u32::MAX,
        name: long(LONGEST_TEXT),
        groups: vec![long(LONGEST_TEXT); MostOf::GROUPS],
        kind: long(LONGEST_TEXT),
        state: StepState::FailedContinued,
        attempt: u32::MAX,
    };
    let largest = StatusMessage {
        run: i64::MAX.unsigned_abs(),
        state: RunState::NotApplicable,
        step: Some(step),
        code: Some(long(64)),
        exit: Some(i64::MIN),
        details: long(MostOf::DETAILS),
        bytes: (0..MostOf::SOURCES).map(from).collect(),
        ..message(i64::MAX.unsigned_abs())
    };
    largest.check().unwrap();
    let kept = largest.kept().unwrap();
    assert!(kept.to_string().len() <= MostOf::KEPT_BYTES, "{}", kept.to_string().len());
    let kept: StatusMessage = serde_json::from_value(kept).unwrap();
    assert_eq!((kept.number, kept.state, kept.exit), (largest.number, largest.state, largest.exit));
    let sums: Vec<_> = kept.bytes.iter().map(|from| (from.origin, from.bytes)).collect();
    assert_eq!(sums, [(Origin::Peer, 32 * MostOf::BYTES), (Origin::Cloud, 32 * MostOf::BYTES)]);
}

#[test]
fn states_of_another_release_are_unknown() {
    assert_eq!(serde_json::from_str::<RunState>("\"hibernating\"").unwrap(), RunState::Unknown);
    assert_eq!(serde_json::from_str::<Origin>("\"satellite\"").unwrap(), Origin::Other);
    for state in [RunState::Succeeded, RunState::Failed, RunState::RolledBack, RunState::NotApplicable] {
        assert!(state.is_final());
        assert_eq!(serde_json::to_value(state).unwrap(), state.word());
    }
    assert_eq!(RunState::NotApplicable.bucket(), Bucket::RequirementsNotMet);
}
