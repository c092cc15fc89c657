//! The client that runs task sequences, as the real program: pretended devices, a real ESD, and kills at any moment.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use catalog::digest::Sha256Digest;
use serde_json::{Value, json};
use support::{FACTS, TestRng, program};
use tokio::process::Command;

const UPDATE: &str = "00000000-0000-0000-0000-000000000007";

fn policy(document: &str, references: &Value, secrets: &Value) -> Value {
    json!({
        "format": 1, "version": "1", "site": "XYZ", "device": "PC1", "made": "2026-01-01T00:00:00Z",
        "refresh_seconds": 3600, "settings": { "thread_priority": "normal" },
        "assignments": [{
            "deployment": "XYZ20001", "task_sequence": "XYZ00001", "revision": 1, "name": "Upgrade",
            "purpose": "required", "available": "2026-01-01T00:00:00Z", "deadline": "2026-01-02T00:00:00Z",
            "document": document, "references": references, "secrets": secrets,
        }],
    })
}

fn feature_update(server: bool, file: &Value) -> Value {
    json!({ "feature_updates": [{
        "facts": {
            "id": UPDATE, "title": "Windows, version 25H2", "os_type": if server { "server" } else { "client" },
            "build": [26200, 8246], "architecture": "x64", "language": "en-us", "shape": "esd",
        },
        "release": "25H2", "files": [file],
    }] })
}

fn no_file() -> Value {
    json!({ "name": "x.esd", "size": 3, "sha256": Sha256Digest([7; 32]) })
}

/// Three steps around an upgrade.
fn document() -> String {
    format!(
        "format = 1\nname = \"Upgrade\"\nkind = \"custom\"\n\
         [[step]]\ntype = \"run-command\"\nname = \"before\"\nretries = 5\n\
         [[step]]\ntype = \"upgrade-os\"\nname = \"upgrade\"\nfeature_updates = [\"{UPDATE}\"]\n\
         [[step]]\ntype = \"restart\"\nname = \"restart\"\n\
         [[step]]\ntype = \"run-command\"\nname = \"after\"\nretries = 5\ncommand = \"x\"\n"
    )
    .replace("name = \"before\"", "name = \"before\"\ncommand = \"x\"")
}

async fn ran(folder: &Path, args: &[&str]) -> (i32, Value, String) {
    let mut command = run(folder, args);
    let output = tokio::time::timeout(Duration::from_secs(60), command.output())
        .await
        .expect("it ends")
        .expect("it runs");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap_or(-1), serde_json::from_slice(&output.stdout).unwrap_or_default(), stderr)
}

fn run(folder: &Path, args: &[&str]) -> Command {
    let config = folder.join("config.toml");
    if !config.exists() {
        let text = format!(
            "[site]\ndata_dir = {:?}\n[client]\ndir = {:?}\n",
            folder.join("none"),
            folder.join("device")
        );
        std::fs::write(&config, text).expect("it is written");
    }
    let mut command = Command::new(program());
    command
        .arg("--config")
        .arg(config)
        .args(["-o", "json", "client", "run", "--policy"])
        .arg(folder.join("policy.json"));
    command.arg("--state-dir").arg(folder.join("state")).args(args).stdin(Stdio::null()).kill_on_drop(true);
    command
}

fn write(path: &Path, text: impl AsRef<[u8]>) {
    std::fs::write(path, text).expect("it is written");
}

/// One pretended device: how it ended, and what was done on it.
async fn pretended(policy: &Value, device: &str) -> (Value, Vec<String>) {
    pretended_with(policy, device, FACTS).await
}

async fn pretended_with(policy: &Value, device: &str, facts: &str) -> (Value, Vec<String>) {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("policy.json"), policy.to_string());
    let script = folder.path().join("device.toml");
    write(&script, format!("clock = \"2026-01-01T12:00:00Z\"\n{device}\n[facts]\n{facts}"));
    let (_, round, stderr) = ran(folder.path(), &["--simulate", &script.to_string_lossy()]).await;
    let line = round["deployments"][0].clone();
    assert!(line["state"].is_string(), "{round} {stderr}");
    (line, effects(folder.path()))
}

fn effects(folder: &Path) -> Vec<String> {
    let world = std::fs::read(folder.join("state/simulated.json")).expect("the world is there");
    let world: Value = serde_json::from_slice(&world).expect("JSON");
    world["effects"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one.as_str().map(str::to_owned))
        .collect()
}

#[tokio::test]
async fn server2016_without_ignore_fails() {
    let server = FACTS.replace("client", "server");
    for (ignore, state, code) in
        [(false, "failed", json!("SETUP_WAITING_FOR_USER")), (true, "succeeded", Value::Null)]
    {
        let text = document()
            .replace("name = \"upgrade\"", &format!("name = \"upgrade\"\nignore_dismissable = {ignore}"));
        let policy = policy(&text, &feature_update(true, &no_file()), &json!([]));
        let folder = tempfile::tempdir().expect("a folder");
        write(&folder.path().join("policy.json"), policy.to_string());
        let script = folder.path().join("device.toml");
        write(&script, format!("[facts]\n{server}"));
        let (_, round, stderr) = ran(folder.path(), &["--simulate", &script.to_string_lossy()]).await;
        let line = &round["deployments"][0];
        assert_eq!((&line["state"], &line["code"]), (&json!(state), &code), "{round} {stderr}");
    }
}

/// Mission row M22: as the client setting says, and a device without a network logs that and goes on.
#[tokio::test]
async fn dynamic_update_asks_the_internet_where_it_may_and_there_is_one() {
    for (setting, network, asked, missed) in [
        ("yes", "wired", 4, 0),
        ("no", "wired", 0, 0),
        ("not-configured", "wired", 0, 0),
        ("yes", "none", 0, 1),
        ("no", "none", 0, 0),
    ] {
        let mut policy = policy(&document(), &feature_update(false, &no_file()), &json!([]));
        policy["settings"]["dynamic_update"] = setting.into();
        let facts = format!("{FACTS}network = \"{network}\"\n");
        let (line, effects) = pretended_with(&policy, "", &facts).await;
        assert_eq!(line["state"], "succeeded", "{setting} {network}: {line}");
        let count = |what: &str| effects.iter().filter(|effect| effect.contains(what)).count();
        let found = (count("asked the internet for"), count("could not reach the internet"));
        assert_eq!(found, (asked, missed), "{setting} {network}: {effects:#?}");
    }
}

#[tokio::test]
async fn power_is_cut_in_each_step() {
    let policy = policy(&document(), &feature_update(false, &no_file()), &json!([]));
    for step in [1, 2, 4] {
        for at in ["begins", "running", "ended", "noted"] {
            let (line, effects) =
                pretended(&policy, &format!("[[power]]\nstep = {step}\nat = \"{at}\"")).await;
            assert_eq!(line["state"], "succeeded", "{step} {at}: {line}");
            for name in ["before", "upgrade", "after"] {
                let done = effects.iter().filter(|effect| effect.contains(&format!("`{name}`"))).count();
                assert_eq!(done, 1, "{step} {at}: {effects:?}");
            }
        }
    }
    for (device, state, code) in [
        ("[[setup]]\nexit = \"0xC1900208\"", "failed", "SETUP_BLOCKED"),
        ("[[setup]]\nrolls_back = \"0xC1900101\"", "rolled-back", "SETUP_ROLLED_BACK"),
        ("[[setup]]\nhangs = true", "failed", "RUN_TIMED_OUT"),
        ("content = \"missing\"", "failed", "CONTENT_UNAVAILABLE"),
        ("[[step]]\nname = \"before\"\nexit = 7", "failed", "STEP_FAILED"),
    ] {
        let (line, _) = pretended(&policy, device).await;
        assert_eq!((&line["state"], &line["code"]), (&json!(state), &json!(code)), "{device}: {line}");
    }
}

/// Content, applications, restart, and what is tidied up after the run: where power is cut, each act is done once.
#[tokio::test]
async fn power_is_cut_while_it_fetches_installs_restarts_and_tidies() {
    let apps = "[[step]]\ntype = \"install-application\"\nname = \"apps\"\napplications = [\"XYZ00007\", \"XYZ00008\"]\n[[step]]\n";
    let text = document().replacen("[[step]]\n", apps, 1);
    let mut references = feature_update(false, &no_file());
    let app = |id: &str, name: &str| json!({ "id": id, "name": name, "install": "x", "usable": true, "files": [no_file()] });
    references["applications"] = json!([app("XYZ00007", "Portal"), app("XYZ00008", "Editor")]);
    let mut policy = policy(&text, &references, &json!([]));
    for (delivery, moments) in [
        ("all-first", &["at = \"fetching\"", "at = \"fetched\"", "at = \"restarting\""][..]),
        (
            "when-needed",
            &[
                "step = 1\nat = \"fetching\"",
                "step = 1\nat = \"fetched\"",
                "step = 1\nat = \"running\"",
                "step = 1\nat = \"ended\"",
                "step = 1\nat = \"noted\"",
                "step = 3\nat = \"fetching\"",
                "step = 3\nat = \"fetched\"\ntimes = 3",
            ],
        ),
    ] {
        policy["assignments"][0]["content"] = json!({ "delivery": delivery });
        for moment in moments {
            let (line, effects) = pretended(&policy, &format!("[[power]]\n{moment}")).await;
            assert_eq!(line["state"], "succeeded", "{moment}: {line}");
            for name in ["Portal", "Editor", "before", "upgrade", "after"] {
                let done = effects.iter().filter(|effect| effect.contains(&format!("`{name}`"))).count();
                assert_eq!(done, 1, "{moment}: {effects:?}");
            }
        }
    }
    // The last step is noted, so the run is over; the scripts go in the start that follows, in which power is cut again.
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("policy.json"), policy.to_string());
    let script = folder.path().join("device.toml");
    let cuts = "[[power]]\nstep = 5\nat = \"noted\"\n[[power]]\nat = \"tidied\"\n";
    write(&script, format!("clock = \"2026-01-03T00:00:00Z\"\n{cuts}[facts]\n{FACTS}"));
    let (_, round, stderr) = ran(folder.path(), &["--simulate", &script.to_string_lossy()]).await;
    assert_eq!(round["deployments"][0]["state"], "succeeded", "{round} {stderr}");
    let left = std::fs::read_dir(folder.path().join("state/scripts")).expect("it is there").count();
    let memory = std::fs::read_to_string(folder.path().join("state/device.json")).expect("it is there");
    let world = std::fs::read_to_string(folder.path().join("state/simulated.json")).expect("it is there");
    assert_eq!((left, memory.contains("setupcomplete")), (0, false));
    assert!(world.contains("\"cuts\":{\"0\":1,\"1\":1}"), "both came: {world}");
}

#[tokio::test]
async fn killed_at_any_moment_it_goes_on_and_repeats_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let policy = policy(&document(), &feature_update(false, &no_file()), &json!([]));
    write(&folder.path().join("policy.json"), policy.to_string());
    let script = folder.path().join("device.toml");
    write(&script, format!("clock = \"2026-01-03T00:00:00Z\"\npause_ms = 60\n[facts]\n{FACTS}"));
    let args = ["--simulate", &script.to_string_lossy(), "--once"];
    let mut rng = TestRng::new(0x5eed);
    for _ in 0..5 {
        let mut child =
            run(folder.path(), &args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        tokio::time::sleep(Duration::from_millis(rng.within(20..260))).await;
        let _ = child.kill().await;
    }
    let (_, round, stderr) = ran(folder.path(), &args).await;
    assert_eq!(round["deployments"][0]["state"], "succeeded", "{round} {stderr}");
    let effects = effects(folder.path());
    for name in ["before", "upgrade", "after"] {
        let done = effects.iter().filter(|effect| effect.contains(&format!("`{name}`"))).count();
        assert_eq!(done, 1, "{effects:?}");
    }
    let memory = std::fs::read(folder.path().join("state/device.json")).expect("it is there");
    let memory: Value = serde_json::from_slice(&memory).expect("JSON");
    let outbox = memory["outbox"].as_array().expect("a list");
    let numbers: Vec<_> = outbox.iter().filter_map(|one| one["number"].as_u64()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "no message is lost or told twice");
    let finals = outbox.iter().filter(|one| one["state"] == "succeeded").count();
    assert_eq!(finals, 1);
}

#[tokio::test]
async fn scripts_removed_only_after_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "format = 1\nname = \"x\"\nkind = \"custom\"\n[[step]]\ntype = \"run-command\"\nname = \"a\"\ncommand = \"echo hunter2-%Word%\"\n";
    write(&folder.path().join("policy.json"), policy(text, &json!({}), &json!([])).to_string());
    write(&folder.path().join("facts.toml"), FACTS);
    write(&folder.path().join("boot"), "one");
    let (facts, boot) = (folder.path().join("facts.toml"), folder.path().join("boot"));
    let args = [
        "--execute",
        "--facts",
        &facts.to_string_lossy(),
        "--boot-id-file",
        &boot.to_string_lossy(),
        "--once",
    ];
    let (_, round, stderr) = ran(folder.path(), &args).await;
    assert_eq!(round["deployments"][0]["state"], "succeeded", "{round} {stderr}");
    let script = folder.path().join("state/scripts/setupcomplete.sh");
    assert!(script.exists(), "they stay after the end");
    ran(folder.path(), &args).await;
    assert!(script.exists(), "until the device restarts");
    write(&boot, "two");
    ran(folder.path(), &args).await;
    assert!(!script.exists());
}

/// A program in Setup's place says what it was told; secrets reach what needs them, and stay nowhere.
#[tokio::test]
async fn setup_is_told_what_the_step_says_and_no_secret_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(at("media/sources")).expect("a folder");
    let told = at("told");
    let setup = format!("#!/bin/sh\nprintf '%s\\n' \"$0\" \"$@\" > '{}'\n", told.display());
    write(&at("media/setup.exe"), setup);
    write(&at("facts.toml"), FACTS);
    write(&at("boot"), "one");
    write(
        &at("secrets.toml"),
        "sealed-1 = \"ABCDE-12345-FGHIJ-67890-KLMNO\"\nsealed-2 = \"hunter2hunter2\"\n",
    );
    std::fs::set_permissions(at("secrets.toml"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("it is ours");
    let text = format!(
        "format = 1\nname = \"Upgrade\"\nkind = \"custom\"\n\
         [[step]]\ntype = \"set-variable\"\nname = \"secret\"\nvariable = \"Word\"\nhidden_value = \"sealed-2\"\n\
         [[step]]\ntype = \"run-command\"\nname = \"uses it\"\ncommand = 'test \"%Word%\" = hunter2\"\"hunter2 && echo \"it is %Word%\"'\noutput_variable = \"Out\"\n\
         [[step]]\ntype = \"upgrade-os\"\nname = \"upgrade\"\nsource_path = '{}'\nignore_dismissable = true\n",
        at("media").display()
    );
    let secrets = json!([{ "place": "sealed-1", "of": "product-key", "present": true }, { "place": "sealed-2", "of": "variable", "present": true }]);
    write(&at("policy.json"), policy(&text, &json!({}), &secrets).to_string());
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(at("media/setup.exe"), std::fs::Permissions::from_mode(0o755))
            .expect("it may be run");
    }
    let (facts, boot, own) = (at("facts.toml"), at("boot"), at("secrets.toml"));
    let restart =
        format!("echo two > '{}' && '{}'", boot.display(), at("state/scripts/setupcomplete.sh").display());
    let args = [
        "--execute",
        "--facts",
        &facts.to_string_lossy(),
        "--boot-id-file",
        &boot.to_string_lossy(),
        "--once",
        "--secrets-file",
        &own.to_string_lossy(),
        "--restart-command",
        &restart,
    ];
    let (_, round, stderr) = ran(folder.path(), &args).await;
    assert_eq!(round["restarting"], true, "{round} {stderr}");
    let (_, round, stderr) = ran(folder.path(), &args).await;
    assert_eq!(round["deployments"][0]["state"], "succeeded", "{round} {stderr}");
    let line = std::fs::read_to_string(&told).expect("Setup said what it was told");
    let state = at("state").display().to_string();
    assert_eq!(
        line.lines().collect::<Vec<_>>(),
        [
            &format!("{}/setup.exe", at("media").display()),
            "/auto",
            "Upgrade",
            "/quiet",
            "/noreboot",
            "/DynamicUpdate",
            "Disable",
            "/Compat",
            "IgnoreWarning",
            "/postoobe",
            &format!("{state}/scripts/setupcomplete.sh"),
            "/postrollback",
            &format!("{state}/scripts/setuprollback.sh"),
        ]
    );
    no_secret_below(&at("state"));
    no_secret_below(&at("device"));
}

/// Neither of the planted secrets is in any file.
fn no_secret_below(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            no_secret_below(&path);
        } else {
            let bytes = std::fs::read(&path).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            assert!(!text.contains("ABCDE-12345") && !text.contains("hunter2hunter2"), "{}", path.display());
        }
    }
}
