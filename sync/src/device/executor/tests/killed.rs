//! What a client that was killed has left: programs that go on, words of Setup, files of others.

use std::fs;

use tempfile::TempDir;

use super::*;
use crate::device::executor::process;
use crate::device::machine::{Failure, Found};
use crate::device::scripts;

const UPDATE: &str = "00000000-0000-0000-0000-000000000007";

/// A device with one step, in a folder of its own.
struct Stage {
    folder: TempDir,
    frame: Frame,
    plan: Plan,
    progress: Progress,
    files: BTreeMap<Sha256Digest, PathBuf>,
}

impl Stage {
    fn new(step: &str, references: &serde_json::Value) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let policy: Policy = serde_json::from_value(json!({
            "format": 1, "version": "1", "site": "XYZ", "device": "PC1", "made": "2026-01-01T00:00:00Z", "refresh_seconds": 60,
            "settings": {},
            "assignments": [{ "deployment": "XYZ20001", "task_sequence": "XYZ00001", "revision": 1, "name": "x",
                "purpose": "required", "available": "2026-01-01T00:00:00Z",
                "document": format!("format = 1\nname = \"x\"\nkind = \"custom\"\n[[step]]\n{step}"),
                "references": references }],
        }))
        .expect("a policy");
        let frame = Frame {
            run: 2,
            assignment: policy.assignments[0].clone(),
            settings: policy.settings,
            updates: Vec::new(),
            scan: None,
        };
        let plan = Plan::of(&frame.assignment.sequence().expect("a task sequence"));
        let facts = serde_json::from_value(json!({
            "os_type": "client", "version": "10.0.22631", "edition": "Enterprise", "architecture": "x64", "language": "en-us"
        }))
        .expect("facts");
        let progress = Progress::begin(&plan, &frame, &facts, "one");
        let stage = Self { folder, frame, plan, progress, files: BTreeMap::new() };
        stage.is("10.0.22631");
        stage
    }

    /// Which version the device says that it runs.
    fn is(&self, version: &str) {
        let text = format!(
            "os_type = \"client\"\nversion = \"{version}\"\nedition = \"Enterprise\"\narchitecture = \"x64\"\n\
             language = \"en-us\"\n"
        );
        fs::write(self.folder.path().join("facts.toml"), text).expect("it is written");
    }

    fn real(&self) -> Real {
        Real::new(CommandSettings {
            folder: self.folder.path().join("state"),
            facts: self.folder.path().join("facts.toml"),
            restart: "true".to_owned(),
            boot_id: self.folder.path().join("boot"),
        })
        .expect("facts are there")
    }

    fn work<'a>(&'a self, order: &'a Order) -> Work<'a> {
        let node = self.plan.at(order.node).expect("the step");
        Work {
            order,
            node,
            action: node.action.as_ref().expect("it does something"),
            frame: &self.frame,
            variables: self.progress.variables(),
            choice: self.progress.choice(node.number),
            secrets: None,
            files: &self.files,
        }
    }

    fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path().join("state/work")).expect("the folder");
        entries.map(|entry| entry.expect("it is listed").file_name().to_string_lossy().into_owned()).collect()
    }
}

fn order(attempt: u32) -> Order {
    Order { node: 0, part: 0, attempt, limit: Duration::from_secs(20) }
}

fn upgrade() -> Stage {
    let file = json!({ "name": "x.esd", "size": 1, "sha256": Sha256Digest([7; 32]) });
    let references = json!({ "feature_updates": [{
        "facts": { "id": UPDATE, "title": "25H2", "os_type": "client", "build": [26200, 1], "architecture": "x64",
                   "language": "en-us", "shape": "esd" },
        "files": [file],
    }] });
    Stage::new(
        &format!("type = \"upgrade-os\"\nname = \"up\"\nfeature_updates = [\"{UPDATE}\"]\n"),
        &references,
    )
}

#[tokio::test]
async fn an_installer_that_another_application_has_replaced_is_not_run() {
    let ours = "#!/bin/sh\nexit 3\n";
    let other = "#!/bin/sh\nexit 0\n";
    let digest = Sha256Digest::of(ours.as_bytes());
    let file = json!({ "name": "setup.exe", "size": ours.len(), "sha256": digest });
    let references = json!({ "applications": [{
        "id": "XYZ00007", "name": "Portal", "install": "./setup.exe", "usable": true, "files": [file],
    }] });
    let mut stage = Stage::new(
        "type = \"install-application\"\nname = \"a\"\napplications = [\"XYZ00007\"]\n",
        &references,
    );
    let placed = stage.folder.path().join("setup.exe");
    stage.files.insert(digest, placed.clone());
    let (mut real, order) = (stage.real(), order(1));
    let place = stage.folder.path().join("state/work/app-XYZ00007");
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("setup.dll"), "left by another attempt").unwrap();
    fs::write(&placed, other).unwrap();
    match real.run(stage.work(&order)).await.unwrap() {
        Outcome::Failed(Failure { code, details, .. }) => {
            assert_eq!(code, catalog::problem::Code::HashMismatch);
            assert!(details.contains("setup.exe") && details.contains(&digest.to_string()), "{details}");
        }
        ran => panic!("it ran: {ran:?}"),
    }
    assert!(!place.join("setup.exe").exists() && !place.join("setup.dll").exists());
    fs::write(&placed, ours).unwrap();
    let outcome = real.run(stage.work(&order)).await.unwrap();
    assert!(matches!(outcome, Outcome::Exit { code: 3, .. }), "{outcome:?}");
}

#[tokio::test]
async fn an_upgrade_of_which_setup_never_ran_is_not_done_whatever_is_left_of_others() {
    let stage = upgrade();
    let (mut real, state) = (stage.real(), stage.folder.path().join("state"));
    fs::create_dir_all(state.join("work")).unwrap();
    let (first, second) = (order(1), order(2));
    assert_eq!(real.look(stage.work(&first)).await.unwrap(), Found::Lost);
    // Run 1 was upgraded, and so was the second attempt.
    for ticket in [scripts::ticket(1, 1, 1), scripts::ticket(2, 1, 2)] {
        scripts::begin(&state, &ticket).unwrap();
        fs::write(state.join("setup-outcome"), format!("upgraded {ticket}\n")).unwrap();
        assert_eq!(real.look(stage.work(&first)).await.unwrap(), Found::Lost, "{ticket}");
    }
    assert_eq!(real.settle(stage.work(&second)).await.unwrap(), Found::Upgraded, "it is about this one");
    // The device may run that version already: that says nothing of a Setup that was not started.
    stage.is("10.0.26200.1");
    assert_eq!(real.look(stage.work(&first)).await.unwrap(), Found::Lost);
    scripts::begin(&state, &scripts::ticket(2, 1, 1)).unwrap();
    assert_eq!(
        real.look(stage.work(&first)).await.unwrap(),
        Found::Upgraded,
        "Setup said nothing; the device does"
    );
    stage.is("10.0.22631");
    // An attempt that begins takes the word of the one before away at once, and not after its media are built.
    fs::write(state.join("setup-outcome"), format!("upgraded {}\n", scripts::ticket(2, 1, 1))).unwrap();
    assert!(matches!(real.run(stage.work(&first)).await.unwrap(), Outcome::Failed(_)), "there is no image");
    assert_eq!(real.look(stage.work(&first)).await.unwrap(), Found::Lost);
}

/// Whether a process works.
fn lives(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z")
}

#[tokio::test]
async fn what_a_killed_client_has_left_working_is_ended_before_anything_is_begun_again() {
    let stage = upgrade();
    let (mut real, first) = (stage.real(), order(1));
    let child = stage.folder.path().join("child");
    let line = ["sh", "-c", &format!("echo $$ > '{}'; exec sleep 60", child.display())];
    let started = real.program(stage.work(&first), "-expand", line.map(str::to_owned).to_vec(), None);
    let killed = async {
        let ran = started.run(Duration::from_secs(30));
        tokio::pin!(ran);
        while !fs::read_to_string(&child).is_ok_and(|text| text.ends_with('\n')) {
            assert!(tokio::time::timeout(Duration::from_millis(20), &mut ran).await.is_err(), "it goes on");
        }
    };
    tokio::time::timeout(Duration::from_secs(20), killed).await.expect("it begins");
    let process: u32 = fs::read_to_string(&child).unwrap().trim().parse().unwrap();
    assert!(lives(process));
    // Somebody else has the number of a process that ended long ago.
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    let mark = stage.folder.path().join("state/work/run-1-1-0-1.pid");
    fs::write(mark, format!("{} 1", other.id())).unwrap();
    let found = real.look(stage.work(&first)).await.unwrap();
    let (survived, innocent) = (lives(process), lives(other.id()));
    let _ = other.kill();
    let _ = other.wait();
    assert_eq!(found, Found::Lost);
    assert!(!survived, "it would work in the same folder");
    assert!(innocent, "it is not ours");
    assert_eq!(stage.left(), Vec::<String>::new());
}

#[tokio::test]
async fn each_attempt_has_marks_of_its_own_and_the_end_stays_until_it_is_written_down() {
    let stage =
        Stage::new("type = \"run-command\"\nname = \"c\"\ncommand = \"echo said; exit 5\"\n", &json!({}));
    let (mut real, first, second) = (stage.real(), order(1), order(2));
    let ended = real.run(stage.work(&first)).await.unwrap();
    assert!(matches!(ended, Outcome::Exit { code: 5, .. }));
    assert_eq!(real.look(stage.work(&second)).await.unwrap(), Found::Lost, "that was the first");
    let ended = real.run(stage.work(&first)).await.unwrap();
    // The client dies here: another one finds the same.
    let mut next = stage.real();
    assert_eq!(next.look(stage.work(&first)).await.unwrap(), Found::Ended(ended.clone()));
    assert_eq!(next.look(stage.work(&first)).await.unwrap(), Found::Ended(ended), "and another");
    next.written();
    assert_eq!(next.look(stage.work(&first)).await.unwrap(), Found::Lost);
    assert_eq!(stage.left(), Vec::<String>::new());
}

#[tokio::test]
async fn a_program_that_nobody_has_written_down_does_not_run() {
    use std::io::Write as _;
    let folder = tempfile::tempdir().unwrap();
    let witness = folder.path().join("ran");
    for (word, runs) in [("", false), ("go\n", true)] {
        let mut started = Command::new("timeout");
        started
            .args(["9", "sh", "-c", process::WRAPPER])
            .arg(folder.path().join("mark"))
            .arg("touch")
            .arg(&witness);
        let mut child = started.stdin(std::process::Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(word.as_bytes()).unwrap();
        child.wait().unwrap();
        assert_eq!(witness.exists(), runs, "{word:?}");
    }
}
