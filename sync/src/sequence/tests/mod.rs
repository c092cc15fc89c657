//! Documents, the template, changes and comparisons.

mod judged;

use catalog::problem::Code;
use proptest::prelude::*;
use toml::Value;

use super::action::*;
use super::condition::{Comparison, Condition, Os, Place as FilePlace};
use super::edit::Place;
use super::template::{self, Upgrade};
use super::*;

fn the_template() -> Sequence {
    template::upgrade(Upgrade {
        name: "Upgrade".to_owned(),
        image: Some("XYZ00001".parse().unwrap()),
        edition_index: Some(1),
        updates: Some(UpdateMode::All),
        applications: vec!["XYZ00002".parse().unwrap(), "XYZ00003".parse().unwrap()],
        ..Upgrade::default()
    })
}

/// Mission row M58, golden.
#[test]
fn template_inplace() {
    let tree = the_template().tree().join("\n");
    let expected = "
  g1  Prepare for Upgrade/
   1    Check Readiness for Upgrade · Check Readiness
  g2    Battery checks/  (empty)
  g3    Network/wired connection checks/  (empty)
  g4    Remove incompatible applications/  (empty)
  g5    Remove incompatible drivers/  (empty)
  g6    Remove/suspend third-party security/  (empty)
  g7  Upgrade the Operating System/  (continues on error)
   2    Upgrade Operating System
   3    Restart Computer
  g8  Post-Processing/  (when _SMSTSOSUpgradeActionReturnCode = 0)
  g9    Apply setup-based drivers/  (empty)
 g10    Install/enable third-party security/  (empty)
 g11    Set Windows default apps and associations/  (empty)
 g12    Apply customizations and personalization/  (empty)
   4    Install Updates · Install Software Updates
   5    Install Applications · Install Application
 g13  Rollback/  (empty; when _SMSTSSetupRollback = true)
 g14  Run actions on failure/  (when (_SMSTSOSUpgradeActionReturnCode ≠ 0 and none of (_SMSTSSetupRollback = true)))
 g15    Collect logs/  (empty)
 g16    Run diagnostic tools/  (empty)";
    assert_eq!(tree, expected.trim_start_matches('\n'));
}

/// Mission row M56: a step for all and required, none for none.
#[test]
fn include_updates_three_ways() {
    for (updates, expected) in [
        (None, None),
        (Some(UpdateMode::All), Some(UpdateMode::All)),
        (Some(UpdateMode::Mandatory), Some(UpdateMode::Mandatory)),
    ] {
        let sequence = template::upgrade(Upgrade { name: "x".to_owned(), updates, ..Upgrade::default() });
        let found = sequence.steps().iter().find_map(|at| match &at.step.action {
            Action::InstallUpdates(install) => Some(install.mode),
            _ => None,
        });
        assert_eq!(found, expected);
    }
}

fn document(steps: &str) -> String {
    format!("format = 1\nname = \"x\"\nkind = \"custom\"\n{steps}")
}

fn refused(text: &str) -> Code {
    Sequence::parse(text).unwrap_err().code
}

#[test]
fn documents_with_mistakes_are_refused_with_the_step_and_without_the_value() {
    let secret = "ABCDE-12345-FGHIJ-67890-KLMNO";
    for (steps, words) in [
        ("[[step]]\ntype = \"restart\"\n", "step 1 has no name"),
        ("[[step]]\nname = \"a\"\n", "does not say its type"),
        ("[[step]]\ntype = \"restart\"\nname = \"a\"\nwhere = 1\n", "unknown field `where`"),
        ("[[step]]\ntype = \"restart\"\nname = \"a\"\ntarget = \"mars\"\n", "expected"),
        ("[[step]]\ntype = \"run-command\"\nname = \"a\"\n", "its command is empty"),
        (
            "[[step]]\ntype = \"run-command\"\nname = \"a\"\ncommand = \"x\"\ntimeout = 0\n",
            "`timeout` is no number from 1",
        ),
        ("[[step]]\ntype = \"restart\"\nname = \"a\"\nretries = 6\n", "`retries`"),
        (
            "[[step]]\ntype = \"set-variable\"\nname = \"a\"\nvariable = \"_x\"\nvalue = \"1\"\n",
            "variable is not allowed",
        ),
        ("[[step]]\ntype = \"group\"\nname = \"a\"\ncommand = \"x\"\n", "unknown setting `command`"),
        (
            "[[step]]\ntype = \"restart\"\nname = \"a\"\nwhen = { mood = 1 }\n",
            "condition cannot be understood",
        ),
        ("step = 3\n", "`step` is not a list"),
        (
            &format!("[[step]]\ntype = \"upgrade-os\"\nname = \"a\"\nproduct_key = \"{secret}\"\n"),
            "product-key-file",
        ),
        (
            &format!("[[step]]\ntype = \"upgrade-os\"\nname = \"a\"\nedition_index = \"{secret}\"\n"),
            "not accepted",
        ),
        (
            &format!("[[step]]\ntype = \"upgrade-os\"\nname = \"a\"\nscan_only = \"{secret}\"\n"),
            "not accepted",
        ),
        (&format!("[[step]]\nproduct_key = \"{secret}\nx"), "line 6"),
    ] {
        let problem = Sequence::parse(&document(steps)).unwrap_err();
        assert_eq!(problem.code, Code::TaskSequenceInvalid, "{steps}");
        let told = format!("{problem:?}");
        assert!(told.contains(words), "{steps}: {told}");
        assert!(!told.contains("ABCDE"), "{told}");
    }
    assert_eq!(refused("name = \"x\""), Code::TaskSequenceInvalid, "no format");
    assert_eq!(refused("format = 2\nname = \"x\""), Code::TaskSequenceInvalid);
    assert_eq!(refused("format = 1"), Code::NameRequired);
    let long = format!("format = 1\nname = \"x\"\ndescription = \"{}\"\n", "x".repeat(256));
    assert_eq!(refused(&long), Code::DescriptionTooLong);
}

#[test]
fn documents_have_caps() {
    let group = |depth: usize| {
        (1..=depth)
            .map(|d| format!("[[{}]]\ntype = \"group\"\nname = \"g\"\n", vec!["step"; d].join(".")))
            .collect::<String>()
    };
    assert!(Sequence::parse(&document(&group(DEEPEST))).is_ok());
    assert_eq!(refused(&document(&group(DEEPEST + 1))), Code::TaskSequenceInvalid);
    let steps = |count: usize| document(&"[[step]]\ntype = \"group\"\nname = \"g\"\n".repeat(count));
    assert!(Sequence::parse(&steps(MOST_NODES)).is_ok());
    assert_eq!(refused(&steps(MOST_NODES + 1)), Code::TaskSequenceInvalid);
    assert_eq!(refused(&" ".repeat(LARGEST + 1)), Code::TaskSequenceTooLarge);
    for hostile in [
        format!("[[{}]]", vec!["step"; 300_000].join(".")),
        format!("a = {}", "[".repeat(1_000_000)),
        format!("a = {}", "{a=".repeat(500_000)),
        format!("{} = 1", vec!["a"; 300_000].join(".")),
    ] {
        assert_eq!(refused(&hostile), Code::TaskSequenceInvalid);
    }
    let any = |depth: usize| {
        format!("{}{{ file = {{ path = 'x' }} }}{}", "{ any = [".repeat(depth), "] }".repeat(depth))
    };
    let when =
        |depth| document(&format!("[[step]]\ntype = \"group\"\nname = \"g\"\nwhen = {}\n", any(depth)));
    assert!(Sequence::parse(&when(DEEPEST - 1)).is_ok());
    assert_eq!(refused(&when(DEEPEST)), Code::TaskSequenceInvalid);
}

/// A step that nobody knows is kept word by word, with everything in it.
#[test]
fn unknown_steps_are_kept() {
    let text = "format = 1\nname = \"x\"\nkind = \"custom\"\n\n[[step]]\ntype = \"bitlocker\"\nname = \"Disable BitLocker\"\n\
                disabled = true\ndrive = 'C:\\'\ncount = 3\nmore = { list = [1, \"a\"] }\n";
    let sequence = Sequence::parse(text).unwrap();
    assert!(
        matches!(&sequence.steps()[0].step.action, Action::Unknown(unknown) if unknown.settings.len() == 3)
    );
    let again = Sequence::parse(&sequence.to_text()).unwrap();
    assert_eq!(again, sequence);
    assert!(sequence.tree()[0].contains("unknown type"), "{:?}", sequence.tree());
}

fn change(key: &str, value: &str) -> Vec<(String, String)> {
    vec![(key.to_owned(), value.to_owned())]
}

#[test]
fn steps_are_set_moved_and_removed() {
    let mut sequence = the_template();
    sequence.set("1", &change("ac_power", "true")).unwrap();
    sequence.set("check readiness for upgrade", &change("free_disk_mb", "30000")).unwrap();
    sequence.set("g7", &change("continue_on_error", "")).unwrap();
    assert!(matches!(&sequence.steps()[0].step.action,
        Action::CheckReadiness(check) if check.ac_power && check.free_disk_mb == Some(30000)));
    assert_eq!(sequence.set("9", &change("name", "x")).unwrap_err().code, Code::StepNotFound);
    assert_eq!(
        sequence.set("1", &change("ac_power", "perhaps")).unwrap_err().code,
        Code::TaskSequenceInvalid
    );
    let secret = sequence.set("2", &change("product_key", "ABCDE-12345-FGHIJ-67890-KLMNO")).unwrap_err();
    assert!(secret.help.contains("--product-key-file") && !format!("{secret:?}").contains("ABCDE"));

    let before = sequence.counts();
    sequence.relocate("3", &Place::In("Rollback".to_owned())).unwrap();
    sequence.relocate("Rollback", &Place::Before("1".to_owned())).unwrap();
    assert_eq!(sequence.counts(), before, "nothing is lost");
    let tree = sequence.tree();
    assert!(tree[1].contains("g2    Rollback/") && tree[2].contains("1      Restart Computer"), "{tree:#?}");
    let into_itself = sequence.relocate("g1", &Place::In("Rollback".to_owned())).unwrap_err();
    assert_eq!(into_itself.code, Code::TaskSequenceInvalid);
    assert_eq!(sequence.counts(), before);
    sequence.remove("Rollback").unwrap();
    assert_eq!(sequence.counts(), (before.0 - 1, before.1 - 1));
}

/// Mission row M34: what belongs to the image goes when the step uses a feature update.
#[test]
fn edit_step_osup_to_fu() {
    let mut sequence = the_template();
    sequence.set("2", &change("drivers", "XYZ00009")).unwrap();
    let update = "8d73390f-0f0f-5f56-9e7d-f2021a6b8164".parse().unwrap();
    assert!(edit::use_feature_updates(sequence.node_mut("2").unwrap(), vec![update]));
    let expected = UpgradeOs { feature_updates: vec![update], ..UpgradeOs::default() };
    assert_eq!(sequence.steps()[1].step.action, Action::UpgradeOs(expected));
    assert!(!edit::use_feature_updates(sequence.node_mut("1").unwrap(), vec![update]));
}

#[test]
fn a_comparison_names_the_step() {
    let one = the_template();
    let mut other = one.clone();
    other.set("1", &change("ac_power", "true")).unwrap();
    other.set("3", &change("disabled", "true")).unwrap();
    assert_eq!(
        diff::changes(&one.to_text(), &other.to_text()),
        [
            "  name = \"Check Readiness for Upgrade\"",
            "+ ac_power = true",
            "  name = \"Restart Computer\"",
            "+ disabled = true"
        ]
    );
    assert!(diff::changes(&one.to_text(), &one.to_text()).is_empty());
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-zA-Z0-9 _.%\\\\'\"-]{1,30}", "\\PC{1,20}"]
}

fn condition() -> impl Strategy<Value = Condition> {
    let leaf = prop_oneof![
        (text(), text()).prop_map(|(name, value)| Condition::variable(&name, Comparison::NotEquals, &value)),
        text().prop_map(|path| Condition::File(FilePlace { path })),
        proptest::option::of(text()).prop_map(|language| Condition::Os(Os { language, ..Os::default() })),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        let some = || proptest::collection::vec(inner.clone(), 0..3);
        prop_oneof![
            some().prop_map(Condition::All),
            some().prop_map(Condition::Any),
            some().prop_map(Condition::None)
        ]
    })
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        (any::<u128>(), any::<bool>(), 0_u32..9).prop_map(|(id, flag, number)| {
            let update = catalog::id::UpdateId(uuid::Uuid::from_u128(id));
            Action::UpgradeOs(UpgradeOs {
                feature_updates: if flag { vec![update] } else { Vec::new() },
                image: (!flag).then(|| "XYZ0004B".parse().unwrap()),
                product_key: (number > 4).then(|| Sealed::numbered(number)),
                ignore_dismissable: flag,
                incomplete: flag.then_some(Incomplete::FeatureUpdate),
                dynamic_update: if flag { DynamicUpdate::Override } else { DynamicUpdate::Disable },
                ..UpgradeOs::default()
            })
        }),
        (text(), any::<u16>()).prop_map(|(message, delay)| {
            Action::Restart(Restart { message, delay, target: Target::BootImage, notify: false })
        }),
        any::<bool>().prop_map(|cached_scan| Action::InstallUpdates(InstallUpdates {
            mode: UpdateMode::All,
            cached_scan
        })),
        (text(), proptest::collection::vec(any::<i64>(), 0..4)).prop_map(|(command, success_codes)| {
            Action::RunCommand(RunCommand {
                command: format!("x{command}"),
                success_codes,
                ..RunCommand::default()
            })
        }),
        ("[a-z][a-z0-9_-]{0,9}", text()).prop_map(|(variable, value)| {
            Action::SetVariable(SetVariable { variable, value, hidden_value: None })
        }),
        (any::<bool>(), proptest::option::of(any::<u32>())).prop_map(|(wired, memory_mb)| {
            Action::CheckReadiness(CheckReadiness {
                wired,
                memory_mb: memory_mb.or(Some(1)),
                ..CheckReadiness::default()
            })
        }),
        (text(), text(), any::<i64>()).prop_map(|(key, value, number)| {
            let nested: toml::Table = [("deep".to_owned(), Value::from(number))].into_iter().collect();
            let settings =
                [(format!("k{key}"), Value::from(value)), ("nested".to_owned(), Value::Table(nested))];
            Action::Unknown(Unknown {
                kind: "from-the-future".to_owned(),
                settings: settings.into_iter().collect(),
            })
        }),
    ]
}

fn node() -> impl Strategy<Value = Node> {
    let common = || {
        (
            text(),
            text(),
            any::<bool>(),
            any::<bool>(),
            proptest::option::of(condition()),
            0_u8..=5,
            proptest::option::of(1_u16..=1440),
        )
            .prop_map(|(name, description, disabled, continue_on_error, when, retries, timeout)| {
                Common { name, description, disabled, continue_on_error, when, retries, timeout }
            })
    };
    let step = (common(), action()).prop_map(|(common, action)| Node::Step(Step { common, action }));
    step.prop_recursive(3, 16, 4, move |inner| {
        (common(), proptest::collection::vec(inner, 0..4))
            .prop_map(|(common, nodes)| Node::Group(Group { common, nodes }))
    })
}

fn sequence() -> impl Strategy<Value = Sequence> {
    (text(), text(), proptest::collection::vec(node(), 0..6), 0_u32..=43_200, any::<bool>()).prop_map(
        |(name, description, nodes, max_runtime, boot)| Sequence {
            name,
            description,
            kind: if boot { Kind::Custom } else { Kind::Upgrade },
            max_runtime,
            boot_image: boot.then(|| "XYZ0004C".parse().unwrap()),
            nodes,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_document_reads_back_as_it_was(sequence in sequence()) {
        let text = sequence.to_text();
        let read = Sequence::parse(&text);
        prop_assert!(read.is_ok(), "{:?}\n{}", read, text);
        let read = read.unwrap();
        prop_assert_eq!(&read, &sequence, "{}", text);
        prop_assert_eq!(read.to_text(), text, "and is written in the same way");
    }

    #[test]
    fn any_text_is_read_or_refused(text in "(?s).{0,300}") {
        let _ = Sequence::parse(&text);
    }

    #[test]
    fn moving_loses_nothing(sequence in sequence(), from in 0_usize..12, to in 0_usize..12, how in 0_u8..3) {
        let labels: Vec<String> = sequence.walk().iter().map(|at| at.label()).collect();
        if labels.is_empty() {
            return Ok(());
        }
        let (from, to) = (&labels[from % labels.len()], labels[to % labels.len()].clone());
        let place = match how { 0 => Place::In(to), 1 => Place::After(to), _ => Place::Before(to) };
        let mut moved = sequence.clone();
        let names = |of: &Sequence| {
            let mut names: Vec<String> = of.walk().iter().map(|at| at.node.common().name.clone()).collect();
            names.sort();
            names
        };
        match moved.relocate(from, &place) {
            Ok(()) => prop_assert_eq!(names(&moved), names(&sequence)),
            Err(_) => prop_assert_eq!(moved, sequence),
        }
    }
}
