//! Lint, releases, paths and the choice of a device.

use catalog::feature_update::Shape;
use catalog::id::{PackageId, UpdateId};
use catalog::problem::Code;

use crate::sequence::action::*;
use crate::sequence::choose::{self, Candidate, Device, numbers};
use crate::sequence::lint::{self, AppFacts, ImageFacts, Severity, Surroundings, UpdateFacts};
use crate::sequence::release::Release;
use crate::sequence::template::{self, Upgrade};
use crate::sequence::{Common, Kind, Node, Sequence, Step};

fn update(number: u128) -> UpdateId {
    UpdateId(uuid::Uuid::from_u128(number << 96))
}

fn image() -> PackageId {
    "XYZ00001".parse().unwrap()
}

fn boot_image() -> PackageId {
    "XYZ00004".parse().unwrap()
}

/// A site with one client update (1), one server update (2), one without an accepted licence (3), a server image with
/// indexes 1 and 2, a boot image, one application that is usable and one that is not.
fn around() -> Surroundings {
    let mut around = Surroundings { synchronised: true, ..Surroundings::default() };
    for (number, server, undeployable) in [
        (1, false, None),
        (2, true, None),
        (3, false, Some((Code::LicenseNotAccepted, "licence".to_owned()))),
    ] {
        let facts = UpdateFacts { title: format!("update {number}"), server, undeployable };
        around.updates.insert(update(number), facts);
    }
    let facts = ImageFacts { name: "server".to_owned(), server: true, indexes: vec![1, 2], boot: false };
    around.images.insert(image(), facts);
    let facts = ImageFacts { name: "PE".to_owned(), server: false, indexes: Vec::new(), boot: true };
    around.images.insert(boot_image(), facts);
    for (id, usable) in [("XYZ00002", true), ("XYZ00003", false)] {
        around.apps.insert(id.parse().unwrap(), AppFacts { name: id.to_owned(), usable });
    }
    around
}

fn custom(actions: Vec<Action>) -> Sequence {
    let mut sequence = Sequence::empty("x", "", Kind::Custom);
    sequence.nodes =
        actions.into_iter().map(|action| Node::Step(Step { common: Common::named("s"), action })).collect();
    sequence
}

fn found(sequence: &Sequence) -> Vec<Code> {
    lint::lint(sequence, &around()).into_iter().map(|finding| finding.code).collect()
}

fn by_update(number: u128) -> UpgradeOs {
    UpgradeOs { feature_updates: vec![update(number)], ..UpgradeOs::default() }
}

fn restart(target: Target) -> Action {
    Action::Restart(Restart { target, ..Restart::default() })
}

/// Mission row M36: a device passes over what cannot be deployed, if there is another.
#[test]
fn one_of_several_that_cannot_be_deployed_is_passed_over() {
    for (updates, passed_over) in
        [(&[3][..], false), (&[3, 1], true), (&[1, 3], true), (&[3, 9], false), (&[3, 3], false)]
    {
        let step = UpgradeOs {
            feature_updates: updates.iter().copied().map(update).collect(),
            ..UpgradeOs::default()
        };
        let sequence = custom(vec![Action::UpgradeOs(step), restart(Target::InstalledOs)]);
        let around = around();
        let findings = lint::lint(&sequence, &around);
        let about =
            findings.iter().find(|finding| finding.code == Code::LicenseNotAccepted).expect("it is found");
        assert_eq!(lint::is_of_one_of_several(about, &sequence, &around), passed_over, "{updates:?}");
        for other in findings.iter().filter(|finding| finding.code != Code::LicenseNotAccepted) {
            assert!(!lint::is_of_one_of_several(other, &sequence, &around), "{updates:?}: {other:?}");
        }
    }
}

/// Mission row M32.
#[test]
fn lint_restart_after_upgrade() {
    let upgrade = Action::UpgradeOs(by_update(1));
    assert_eq!(found(&custom(vec![upgrade.clone()])), [Code::RestartAfterUpgradeMissing]);
    assert_eq!(
        found(&custom(vec![restart(Target::InstalledOs), upgrade.clone()])),
        [Code::RestartAfterUpgradeMissing]
    );
    assert!(found(&custom(vec![upgrade.clone(), restart(Target::InstalledOs)])).is_empty());
    let mut disabled = custom(vec![upgrade, restart(Target::InstalledOs)]);
    disabled.nodes[1].common_mut().disabled = true;
    assert_eq!(found(&disabled), [Code::RestartAfterUpgradeMissing], "a disabled restart is none");
    let scan = Action::UpgradeOs(UpgradeOs { scan_only: true, ..by_update(1) });
    assert!(found(&custom(vec![scan])).is_empty(), "a scan needs none");
    let findings = lint::strict(lint::lint(&disabled, &around()));
    assert_eq!(lint::refuse_errors(&findings).unwrap_err().code, Code::RestartAfterUpgradeMissing);
}

/// Mission row M32: a restart that may be passed over is none, and nothing is installed before the one that counts.
#[test]
fn a_restart_after_the_upgrade_runs_wherever_the_upgrade_runs() {
    use crate::sequence::Group;
    use crate::sequence::condition::{Comparison, Condition};

    let when = |value: &str| Some(Condition::variable("X", Comparison::Equals, value));
    let step = |action: Action, when: Option<Condition>| {
        Node::Step(Step { common: Common { when, ..Common::named("s") }, action })
    };
    let group = |when: Option<Condition>, nodes: Vec<Node>| {
        Node::Group(Group { common: Common { when, ..Common::named("g") }, nodes })
    };
    let upgrade = |when| step(Action::UpgradeOs(by_update(1)), when);
    let restarts = |when| step(restart(Target::InstalledOs), when);
    let install = |when| {
        let applications = vec!["XYZ00002".parse().unwrap()];
        step(Action::InstallApplication(InstallApplication { applications, ..Default::default() }), when)
    };
    let updates = || step(Action::InstallUpdates(InstallUpdates::default()), None);
    let missing = Code::RestartAfterUpgradeMissing;
    // What stands there, and numbers of the steps that are found.
    for (name, nodes, expected) in [
        ("in a group of its own", vec![upgrade(None), group(None, vec![restarts(None)])], vec![]),
        ("in the group Rollback", vec![upgrade(None), group(when("1"), vec![restarts(None)])], vec![1]),
        ("if something", vec![upgrade(None), restarts(when("1"))], vec![1]),
        (
            "deeper in the group Rollback",
            vec![upgrade(None), group(when("1"), vec![group(None, vec![restarts(None)])])],
            vec![1],
        ),
        ("both in one group", vec![group(when("1"), vec![upgrade(None), restarts(None)])], vec![]),
        ("both if the same", vec![upgrade(when("1")), restarts(when("1"))], vec![]),
        ("each if something else", vec![upgrade(when("1")), restarts(when("2"))], vec![1]),
        (
            "around an upgrade under a condition",
            vec![group(when("1"), vec![upgrade(None)]), restarts(None)],
            vec![],
        ),
        ("perhaps, then certainly", vec![upgrade(None), restarts(when("1")), restarts(None)], vec![]),
        (
            "behind what is installed",
            vec![upgrade(None), install(None), updates(), restarts(None)],
            vec![2, 3],
        ),
        ("behind what may be installed", vec![upgrade(None), install(when("1")), restarts(None)], vec![2]),
        (
            "perhaps before it",
            vec![upgrade(None), restarts(when("1")), install(None), restarts(None)],
            vec![3],
        ),
        (
            "before what is installed",
            vec![install(None), upgrade(None), restarts(None), install(None)],
            vec![],
        ),
        ("nowhere", vec![upgrade(None), install(None)], vec![1]),
    ] {
        let sequence = Sequence { nodes, ..custom(Vec::new()) };
        let findings = lint::lint(&sequence, &around());
        let found: Vec<_> = findings.iter().filter_map(|finding| finding.step).collect();
        assert_eq!(found, expected, "{name}");
        let warned =
            |finding: &lint::Finding| (finding.code, finding.severity) == (missing, Severity::Warning);
        assert!(findings.iter().all(warned), "{name}: {findings:?}");
    }
    let made = template::upgrade(Upgrade { feature_updates: vec![update(1)], ..Upgrade::default() });
    assert!(!found(&made).contains(&missing), "the template has it right");
}

/// Mission row M33.
#[test]
fn lint_restart_target_installed_os() {
    let upgrade = || Action::UpgradeOs(by_update(1));
    assert_eq!(found(&custom(vec![upgrade(), restart(Target::BootImage)])), [Code::RestartTargetWrong]);
    assert_eq!(found(&custom(vec![restart(Target::BootImage)])), [Code::BootImageMissing]);
    let mut with_image = custom(vec![restart(Target::BootImage)]);
    with_image.boot_image = Some(boot_image());
    assert!(found(&with_image).is_empty());
    // One that is named has to be there and to start, whether a step needs it or not.
    for (named, found_of) in [(image(), "is none"), ("XYZ00099".parse().unwrap(), "is not there")] {
        for mut sequence in [with_image.clone(), custom(vec![restart(Target::InstalledOs)])] {
            sequence.boot_image = Some(named.clone());
            let findings = lint::lint(&sequence, &around());
            assert_eq!((findings.len(), findings[0].code), (1, Code::BootImageMissing));
            assert!(findings[0].message.contains(found_of), "{findings:?}");
            assert_eq!(lint::refuse_errors(&findings).unwrap_err().code, Code::BootImageMissing);
        }
    }
}

/// Mission row M10, the authoring half.
#[test]
fn server_without_ignore_is_warned_about() {
    let upgrade = |ignore_dismissable| {
        custom(vec![
            Action::UpgradeOs(UpgradeOs { ignore_dismissable, ..by_update(2) }),
            restart(Target::InstalledOs),
        ])
    };
    let findings = lint::lint(&upgrade(false), &around());
    assert_eq!((findings[0].code, findings[0].severity), (Code::CompatIgnoreRecommended, Severity::Warning));
    assert_eq!(lint::strict(findings)[0].code, Code::CompatIgnoreRequired);
    assert!(found(&upgrade(true)).is_empty());
}

#[test]
fn lint_table() {
    let after = || restart(Target::InstalledOs);
    let upgrade = |upgrade| custom(vec![Action::UpgradeOs(upgrade), after()]);
    let of_image = || UpgradeOs { image: Some(image()), ignore_dismissable: true, ..UpgradeOs::default() };
    let unknown = Unknown { kind: "new".to_owned(), settings: toml::Table::new() };
    let install = |id: &str| {
        let applications = vec![id.parse().unwrap()];
        custom(vec![Action::InstallApplication(InstallApplication {
            applications,
            ..InstallApplication::default()
        })])
    };
    let incomplete = UpgradeOs { incomplete: Some(Incomplete::FeatureUpdate), ..UpgradeOs::default() };
    for (sequence, expected) in [
        (upgrade(by_update(1)), None),
        (upgrade(UpgradeOs::default()), Some(Code::UpgradeSourceInvalid)),
        (
            upgrade(UpgradeOs { image: Some(image()), ignore_dismissable: true, ..by_update(1) }),
            Some(Code::UpgradeSourceInvalid),
        ),
        (upgrade(incomplete), Some(Code::BrokenReference)),
        (upgrade(by_update(9)), Some(Code::BrokenReference)),
        (upgrade(by_update(3)), Some(Code::LicenseNotAccepted)),
        (
            upgrade(UpgradeOs { drivers: Some("XYZ00009".to_owned()), ..by_update(1) }),
            Some(Code::DriverContentWithFeatureUpdate),
        ),
        (upgrade(UpgradeOs { edition_index: Some(1), ..by_update(1) }), Some(Code::ConflictingOptions)),
        (upgrade(of_image()), None),
        (upgrade(UpgradeOs { edition_index: Some(2), ..of_image() }), None),
        (upgrade(UpgradeOs { edition_index: Some(3), ..of_image() }), Some(Code::EditionIndexInvalid)),
        (custom(vec![Action::Unknown(unknown)]), Some(Code::StepTypeUnknown)),
        (install("XYZ00002"), None),
        (install("XYZ00003"), Some(Code::ApplicationDisabled)),
        (install("XYZ00004"), Some(Code::ApplicationNotFound)),
    ] {
        assert_eq!(found(&sequence).first().copied(), expected, "{}", sequence.to_text());
        let mut disabled = sequence.clone();
        disabled.nodes.iter_mut().for_each(|node| node.common_mut().disabled = true);
        assert!(found(&disabled).is_empty(), "disabling is one way of mending");
    }
}

/// Decision 0021: a place that nothing is kept in is a secret that is lacking, never an empty text.
#[test]
fn a_secret_that_is_not_there_is_found_in_each_step_that_is_enabled() {
    let set = |place| Action::SetVariable(SetVariable { hidden_value: place, ..SetVariable::default() });
    let key = |place| UpgradeOs { product_key: place, image: Some(image()), ..UpgradeOs::default() };
    let place = |number| Some(Sealed::numbered(number));
    let mut sequence = custom(vec![
        set(place(1)),
        Action::UpgradeOs(key(place(2))),
        set(place(3)),
        set(None),
        Action::UpgradeOs(key(None)),
    ]);
    sequence.nodes[2].common_mut().disabled = true;
    for (filled, expected) in
        [(&[][..], &[1, 2][..]), (&[1], &[2]), (&[2, 3], &[1]), (&[1, 2, 3], &[]), (&[7], &[1, 2])]
    {
        let found = lint::unfilled(&sequence, filled);
        let steps: Vec<_> = found.iter().filter_map(|finding| finding.step).collect();
        assert_eq!(steps, expected, "{filled:?}");
        let is_error =
            |one: &lint::Finding| (one.severity, one.code) == (Severity::Error, Code::SecretMissing);
        assert!(found.iter().all(is_error), "{found:?}");
        assert!(found.iter().all(|one| one.help.contains("-file FILE")), "{found:?}");
    }
}

/// Mission row M11.
#[test]
fn include_updates_unsynced_warns() {
    let sequence = custom(vec![Action::InstallUpdates(InstallUpdates::default())]);
    let never = Surroundings { synchronised: false, ..around() };
    let findings = lint::lint(&sequence, &never);
    assert_eq!((findings[0].code, findings[0].severity), (Code::NoSyncYet, Severity::Warning));
    assert!(found(&sequence).is_empty());
}

/// Mission row M05, and M28 and M29 in the wizard.
#[test]
fn gates_of_releases() {
    let release = |text: &str| text.parse::<Release>().unwrap();
    for (text, at_all, alone) in [
        ("2010", Some(Code::FeatureNotInRelease), Some(Code::FeatureNotInRelease)),
        ("2103", None, Some(Code::OsUpgradePackageRequired)),
        ("2107", None, None),
        ("2303", None, None),
    ] {
        assert_eq!(
            release(text).allows_feature_updates().err().map(|problem| problem.code),
            at_all,
            "{text}"
        );
        assert_eq!(
            release(text).allows_feature_updates_alone().err().map(|problem| problem.code),
            alone,
            "{text}"
        );
        let around = Surroundings { release: release(text), ..around() };
        let sequence = custom(vec![Action::UpgradeOs(by_update(1)), restart(Target::InstalledOs)]);
        let findings = lint::lint(&sequence, &around);
        assert_eq!(findings.first().map(|finding| finding.code), at_all, "{text}");
    }
    for bad in ["", "2104", "21", "next"] {
        assert!(bad.parse::<Release>().is_err(), "{bad}");
    }
}

#[test]
fn the_template_lacks_a_power_check_until_it_has_one() {
    let wanted = Upgrade { name: "x".to_owned(), feature_updates: vec![update(1)], ..Upgrade::default() };
    let mut sequence = template::upgrade(wanted);
    let findings = lint::lint(&sequence, &around());
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(
        (findings[0].code, &*findings[0].help),
        (Code::NoPowerCheck, "`spsync ts step set TS 1 ac_power=true`")
    );
    sequence.set("1", &[("ac_power".to_owned(), "true".to_owned())]).unwrap();
    assert!(found(&sequence).is_empty());
}

/// Mission rows M20, M41, M42, M46: at any depth, enabled or not.
#[test]
fn what_may_not_be_done_with_a_feature_update() {
    let wanted = Upgrade { name: "x".to_owned(), feature_updates: vec![update(1)], ..Upgrade::default() };
    let mut sequence = template::upgrade(wanted);
    sequence.node_mut("2").unwrap().common_mut().disabled = true;
    let code = |result: Result<(), catalog::problem::Problem>| result.unwrap_err().code;
    assert_eq!(code(sequence.may_be_prestaged()), Code::PrestageFeatureUpdate);
    assert_eq!(code(sequence.may_be_on_media()), Code::MediaFeatureUpdate);
    assert_eq!(code(sequence.may_run_from_points()), Code::RunFromDpFeatureUpdate);
    assert_eq!(sequence.predownload(), (Vec::new(), Vec::new()), "a disabled step needs nothing");
    sequence.node_mut("2").unwrap().common_mut().disabled = false;
    let (before, left_out) = sequence.predownload();
    assert_eq!((before.len(), left_out.len()), (0, 1));

    let mut plain = custom(vec![restart(Target::InstalledOs)]);
    assert!(plain.may_be_prestaged().is_ok() && plain.may_run_from_points().is_ok());
    assert_eq!(code(plain.may_be_on_media()), Code::BootImageMissing);
    plain.boot_image = Some(image());
    assert!(plain.may_be_on_media().is_ok());
    let mut updates = custom(vec![Action::InstallUpdates(InstallUpdates::default())]);
    updates.boot_image = Some(image());
    assert_eq!(code(updates.may_be_on_media()), Code::MediaUnsupportedStep);
}

fn device(os_type: OsType, version: &str) -> Device {
    Device {
        os_type,
        version: version.to_owned(),
        edition: "Enterprise".to_owned(),
        architecture: "x64".to_owned(),
        language: "en-us".to_owned(),
        release: None,
    }
}

/// Mission row M02.
#[test]
fn paths_client_matrix() {
    let to =
        |from: &str, build| choose::path(&device(OsType::Client, from), OsType::Client, Some((build, 0)));
    for from in ["6.1.7601", "6.2", "6.3.9600", "10.0.19045", "10.0.22631"] {
        assert!(to(from, 26200).is_ok(), "{from}");
    }
    for (from, build) in [
        ("6.0.6002", 26200),
        ("5.1", 26200),
        ("6.1", 9600),
        ("10.0.26200", 26200),
        ("10.0.26200", 22631),
        ("x", 26200),
    ] {
        let problem = to(from, build).unwrap_err();
        assert_eq!(
            (problem.code, problem.code.page().windows),
            (Code::UpgradePathUnsupported, Some("0xC1900200")),
            "{from}"
        );
    }
}

/// Mission row M03.
#[test]
fn paths_server_matrix() {
    let to =
        |from: &str, build| choose::path(&device(OsType::Server, from), OsType::Server, Some((build, 0)));
    for from in ["6.2.9200", "6.3.9600", "10.0.14393", "10.0.17763"] {
        assert!(to(from, 20348).is_ok(), "{from}");
    }
    for (from, build) in [("6.1.7601", 20348), ("6.0", 20348), ("6.2", 10240), ("10.0.20348", 20348)] {
        assert!(to(from, build).is_err(), "{from}");
    }
    for (from, target) in [(OsType::Server, OsType::Client), (OsType::Client, OsType::Server)] {
        assert!(choose::path(&device(from, "10.0.17763"), target, Some((26100, 0))).is_err());
    }
}

fn candidate(number: u128) -> Candidate {
    Candidate {
        id: update(number),
        title: format!("update {number}"),
        os_type: OsType::Client,
        build: Some((26200, 1)),
        architecture: "x64".to_owned(),
        language: "en-us".to_owned(),
        editions: vec!["Enterprise".to_owned()],
        shape: Shape::Esd,
        bases: Vec::new(),
        superseded_by: Vec::new(),
        undeployable: None,
    }
}

#[test]
fn versions_are_compared_as_numbers() {
    assert!(numbers("10.0.9") < numbers("10.0.10"));
    assert_eq!(numbers("6.1"), numbers("6.1.0.0"));
    assert_eq!(numbers("x.1.2.3.4"), [0, 1, 2, 3]);
}

/// As `policy/fits.rs` has it for images.
#[test]
fn what_a_device_has_not_said_keeps_no_feature_update_from_it() {
    let pc = device(OsType::Client, "10.0.22631");
    let (german, enterprise) = (Candidate { language: "de-de".to_owned(), ..candidate(1) }, candidate(2));
    for silent in [
        Device { edition: String::new(), ..pc.clone() },
        Device { architecture: String::new(), ..pc.clone() },
        Device { language: String::new(), ..pc.clone() },
    ] {
        assert_eq!(choose::why_not(&enterprise, &silent), None, "{silent:?}");
    }
    let nothing_said =
        Device { edition: String::new(), architecture: String::new(), language: String::new(), ..pc.clone() };
    let choice = choose::first_applicable(&[german, enterprise.clone()], &nothing_said, &[]);
    assert_eq!(choice.chosen, Some(update(1)), "the order of the step decides");
    // From an unknown Windows nothing leads anywhere, and an enablement package depends on the release.
    let unknown = Device { version: String::new(), ..pc.clone() };
    assert_eq!(choose::why_not(&enterprise, &unknown).map(|(why, _)| why), Some(choose::Why::Path));
    let switch = Candidate { shape: Shape::Enablement, bases: vec!["24H2".to_owned()], ..candidate(3) };
    assert_eq!(choose::why_not(&switch, &pc).map(|(why, _)| why), Some(choose::Why::Release));
}

/// Mission row M36.
#[test]
fn first_applicable_not_superseded() {
    let pc = device(OsType::Client, "10.0.22631");
    let all = [
        Candidate { language: "de-de".to_owned(), ..candidate(1) },
        Candidate { architecture: "arm64".to_owned(), ..candidate(2) },
        Candidate { editions: vec!["Core".to_owned()], ..candidate(3) },
        Candidate { undeployable: Some("licence".to_owned()), ..candidate(4) },
        Candidate { shape: Shape::Enablement, bases: vec!["24H2".to_owned()], ..candidate(5) },
        Candidate { superseded_by: vec![update(8)], ..candidate(6) },
        Candidate { superseded_by: vec![update(99)], language: "*".to_owned(), ..candidate(7) },
        candidate(8),
    ];
    let choice = choose::first_applicable(&all, &pc, &[]);
    assert_eq!(choice.chosen, Some(update(7)), "superseded by nothing that is deployed");
    let why: Vec<_> = choice.considered.iter().map(|one| one.skipped.as_deref().unwrap_or("taken")).collect();
    assert_eq!(
        why,
        [
            "in de-de, the device is in en-us",
            "for arm64, the device is x64",
            "not for edition Enterprise",
            "not deployable: licence",
            "switches on what only 24H2 have",
            "superseded by 00000008, which is deployed too",
            "taken",
            "one before it was taken",
        ]
    );
    assert_eq!(choose::first_applicable(&all, &pc, &[update(99)]).chosen, Some(update(8)));
    assert_eq!(choose::first_applicable(&all[..3], &pc, &[]).chosen, None, "none applies");
    let on_24h2 = Device { release: Some("24h2".to_owned()), ..pc };
    assert_eq!(choose::first_applicable(&all, &on_24h2, &[]).chosen, Some(update(5)));
}
