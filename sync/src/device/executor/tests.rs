//! A real multi-edition ESD, and programs that do not end.

mod killed;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use catalog::digest::Sha256Digest;
use rustix::process::{Pid, Signal};
use serde_json::json;

use super::command::{CommandSettings, Real, WIMLIB};
use super::process::{Ended, Program};
use super::{Executor as _, Work};
use crate::device::machine::{Frame, Order, Outcome, Progress};
use crate::device::plan::Plan;
use crate::policy::{Policy, Secrets};
use crate::sequence::action::Sealed;
use crate::sequence::key::HiddenText;

fn wim(arguments: &[&str]) {
    let ended = Command::new("timeout").arg("60").arg(WIMLIB).args(arguments).output().expect("it runs");
    assert!(ended.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ended.stderr));
}

/// Setup media and two editions; what stands in Setup's place writes down what it is told and what it finds.
fn esd(folder: &Path) -> PathBuf {
    let at = |name: &str| folder.join(name).display().to_string();
    std::fs::create_dir_all(folder.join("media/sources")).expect("a folder");
    let told = at("told");
    let script = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$0\" \"$@\" > '{told}'\n{WIMLIB} info sources/install.esd | grep '^Name:' > '{told}.names'\n\
         while [ $# -gt 0 ]; do [ \"$1\" = /ConfigFile ] && cat \"$2\" > '{told}.key'; shift; done\nexit 0\n"
    );
    std::fs::write(folder.join("media/setup.exe"), script).expect("it is written");
    let esd = at("x.esd");
    wim(&["capture", &at("media"), &esd, "Windows Setup Media", "--solid"]);
    for edition in ["Professional", "Enterprise"] {
        std::fs::create_dir_all(folder.join(edition)).expect("a folder");
        std::fs::write(folder.join(edition).join("file"), edition).expect("it is written");
        let property = format!("--image-property=WINDOWS/EDITIONID={edition}");
        wim(&["append", &at(edition), &esd, edition, &property, "--solid"]);
    }
    PathBuf::from(esd)
}

#[tokio::test]
async fn setup_is_put_together_from_an_esd_and_told_what_the_step_says() {
    if Command::new(WIMLIB).arg("--version").output().is_err() {
        println!("skipped: {WIMLIB} is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let esd = esd(folder.path());
    let digest = Sha256Digest::of(&std::fs::read(&esd).unwrap());
    let file = json!({ "name": "x.esd", "size": 1, "sha256": digest });
    let facts = "os_type = \"client\"\nversion = \"10.0.22631\"\nedition = \"Enterprise\"\narchitecture = \"x64\"\nlanguage = \"en-us\"\n";
    std::fs::write(folder.path().join("facts.toml"), facts).unwrap();
    std::fs::write(folder.path().join("boot"), "one").unwrap();
    let state = folder.path().join("state");
    let update = "00000000-0000-0000-0000-000000000007";
    let head =
        "format = 1\nname = \"x\"\nkind = \"custom\"\n[[step]]\ntype = \"upgrade-os\"\nname = \"up\"\n";
    let references = json!({
        "feature_updates": [{
            "facts": { "id": update, "title": "25H2", "os_type": "client", "build": [26200, 1], "architecture": "x64",
                       "language": "en-us", "shape": "esd" },
            "files": [file],
        }],
        "images": [{ "id": "XYZ00009", "name": "i", "os_type": "client", "file": file,
                     "editions": [{ "index": 2, "name": "Pro" }, { "index": 3, "name": "Ent" }] }],
    });
    for (settings, expected, names, key) in [
        (
            format!("feature_updates = [\"{update}\"]\nignore_dismissable = true\n"),
            vec!["/Priority", "Normal", "/DynamicUpdate", "Enable", "/Compat", "IgnoreWarning"],
            "Enterprise",
            None,
        ),
        (
            "image = \"XYZ00009\"\nedition_index = 3\nproduct_key = \"sealed-1\"\n".to_owned(),
            vec!["/ImageIndex", "2", "/DynamicUpdate", "Disable"],
            "Professional Enterprise",
            Some("PKey=ABCDE-12345-FGHIJ-67890-KLMNO"),
        ),
    ] {
        let policy: Policy = serde_json::from_value(json!({
            "format": 1, "version": "1", "site": "XYZ", "device": "PC1", "made": "2026-01-01T00:00:00Z", "refresh_seconds": 60,
            "settings": { "thread_priority": "normal", "dynamic_update": "yes" },
            "assignments": [{ "deployment": "XYZ20001", "task_sequence": "XYZ00001", "revision": 1, "name": "x",
                "purpose": "required", "available": "2026-01-01T00:00:00Z", "document": format!("{head}{settings}"),
                "references": references }],
        }))
        .unwrap();
        let mut real = Real::new(CommandSettings {
            folder: state.clone(),
            facts: folder.path().join("facts.toml"),
            restart: "true".to_owned(),
            boot_id: folder.path().join("boot"),
        })
        .unwrap();
        let frame = Frame {
            run: 1,
            assignment: policy.assignments[0].clone(),
            settings: policy.settings,
            updates: Vec::new(),
            scan: None,
        };
        let plan = Plan::of(&frame.assignment.sequence().unwrap());
        let progress = Progress::begin(&plan, &frame, &real.facts(), "one");
        let order = Order { node: 0, part: 0, attempt: 1, limit: Duration::from_secs(100) };
        let secrets = Secrets {
            deployment: "XYZ20001".parse().unwrap(),
            secrets: vec![(Sealed::numbered(1), HiddenText::new("ABCDE-12345-FGHIJ-67890-KLMNO"))],
        };
        let files = BTreeMap::from([(digest, esd.clone())]);
        let node = plan.at(0).unwrap();
        let work = Work {
            order: &order,
            node,
            action: node.action.as_ref().unwrap(),
            frame: &frame,
            variables: progress.variables(),
            choice: progress.choice(1),
            secrets: Some(&secrets),
            files: &files,
        };
        let shown = real.show(work).join("\n");
        assert!(!shown.contains("ABCDE") && shown.contains(&expected.join(" ")), "{shown}");
        let outcome = real.run(work).await.unwrap();
        assert!(matches!(outcome, Outcome::Exit { code: 0, .. }), "{outcome:?}");
        let scripts = state.join("scripts");
        let mut all = vec![state.join("work/media/setup.exe").display().to_string()];
        all.extend(["/auto", "Upgrade", "/quiet", "/noreboot"].map(str::to_owned));
        all.extend(expected.iter().map(|word| (*word).to_owned()));
        all.extend(["/postoobe".to_owned(), scripts.join("setupcomplete.sh").display().to_string()]);
        all.extend(["/postrollback".to_owned(), scripts.join("setuprollback.sh").display().to_string()]);
        let key_file = state.join("work/setup-key.ini");
        if key.is_some() {
            all.extend(["/ConfigFile".to_owned(), key_file.display().to_string()]);
        }
        let told = std::fs::read_to_string(folder.path().join("told")).unwrap();
        assert_eq!(told.lines().collect::<Vec<_>>(), all);
        let found = std::fs::read_to_string(folder.path().join("told.names")).unwrap();
        let found: Vec<_> = found.lines().filter_map(|line| line.split_whitespace().last()).collect();
        assert_eq!(found.join(" "), names);
        if let Some(key) = key {
            assert!(std::fs::read_to_string(folder.path().join("told.key")).unwrap().contains(key));
        }
        assert!(!key_file.exists(), "the key is gone when Setup has ended");
    }
    let config = std::fs::read_to_string(state.join("SetupConfig.ini")).unwrap();
    assert_eq!(config, "[SetupConfig]\nDynamicUpdate=Enable\nPriority=Normal\n");
}

#[tokio::test]
async fn a_time_out_ends_all_that_was_started_and_an_exit_code_outlives_the_client() {
    let folder = tempfile::tempdir().unwrap();
    let child = folder.path().join("child");
    let line = format!("sleep 60 & echo $! > '{}'; wait", child.display());
    let shell = |mark: &str, line: &str| Program {
        mark: folder.path().join(mark),
        line: vec!["sh".to_owned(), "-c".to_owned(), line.to_owned()],
        folder: None,
        environment: Vec::new(),
    };
    let began = Instant::now();
    let hanging = shell("hangs", &line);
    assert_eq!(hanging.run(Duration::from_secs(4)).await.unwrap(), Ended::TimedOut);
    assert!(began.elapsed() < Duration::from_secs(40), "nobody waited for the minute to end");
    let id = std::fs::read_to_string(child).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", id.trim())).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z"), "the child of the child is gone too: {stat}");
    // Whoever started it is dropped in the middle, as a killed client would be.
    let long = shell("long", "sleep 0.3; exit 7");
    let _ = tokio::time::timeout(Duration::from_millis(100), long.run(Duration::from_secs(9))).await;
    assert_eq!(long.look(Duration::from_secs(9)).await, Some(Ended::Exit(7)));
    long.forget();
    assert_eq!(long.look(Duration::from_secs(1)).await, None);
}

#[tokio::test]
async fn a_program_runs_as_long_as_anybody_of_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let [told, done, go] = ["told", "done", "go"].map(|name| folder.path().join(name));
    let program = |mark: &str, line: String| Program {
        mark: folder.path().join(mark),
        line: vec!["sh".to_owned(), "-c".to_owned(), line],
        folder: None,
        environment: Vec::new(),
    };
    let pause = || tokio::time::sleep(Duration::from_millis(5));
    let number = async || loop {
        match std::fs::read_to_string(&told).unwrap_or_default().trim().parse().ok().and_then(Pid::from_raw) {
            Some(number) => break number,
            None => pause().await,
        }
    };

    // The shell that watches is ended alone: what it watched is waited for, though nobody will know its code.
    let line = format!(
        "echo $PPID > '{}'; while [ ! -e '{}' ]; do sleep 0.02; done; touch '{}'",
        told.display(),
        go.display(),
        done.display()
    );
    let watched = program("run-watched", line);
    let killing = async {
        rustix::process::kill_process(number().await, Signal::KILL).unwrap();
        std::fs::write(&go, "").unwrap();
    };
    let (ended, ()) = tokio::join!(watched.run(Duration::from_secs(20)), killing);
    assert_eq!(ended.unwrap(), Ended::Exit(-1));
    assert!(done.exists(), "it had ended");

    // One that does not want to end, whose client is killed while it waits for that.
    std::fs::remove_file(&told).unwrap();
    let stubborn = program("run-stubborn", format!("trap '' TERM; echo $$ > '{}'; sleep 60", told.display()));
    let stat = |process: Pid| {
        std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).unwrap_or_default()
    };
    let gone = |process: Pid| stat(process).is_empty() || stat(process).contains(") Z");
    let asked = async {
        let inner = number().await;
        let shell = rustix::process::getpgid(Some(inner)).unwrap();
        rustix::process::kill_process_group(shell, Signal::TERM).unwrap();
        while !gone(shell) {
            pause().await;
        }
        inner
    };
    let inner = tokio::select! {
        ended = stubborn.run(Duration::from_secs(20)) => panic!("it goes on: {ended:?}"),
        inner = asked => inner,
    };
    assert!(!gone(inner), "it does not listen");
    super::process::clear(folder.path()).await;
    assert!(gone(inner), "it would work beside the next attempt: {}", stat(inner));
}
