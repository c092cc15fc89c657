//! What the program says about itself. Being here, this also makes `cargo test` build the program that the journeys run.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn help(args: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_spsync")).args(args).arg("--help").output().expect("it starts");
    assert!(output.status.success(), "{args:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The names of the subcommands that a help text lists, with what it says of each.
fn verbs(text: &str) -> Vec<(String, String)> {
    let listed = text.split("Commands:\n").nth(1).unwrap_or_default();
    listed
        .lines()
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.trim().split_once("  "))
        .map(|(name, about)| (name.to_owned(), about.trim().to_owned()))
        .filter(|(name, _)| name != "help")
        .collect()
}

#[test]
fn every_command_says_what_it_does() {
    let nouns = verbs(&help(&[]));
    assert!(nouns.len() >= 19, "{nouns:?}");
    // Some two hundred processes: by two at once.
    std::thread::scope(|scope| {
        for nouns in nouns.chunks(nouns.len().div_ceil(2)) {
            scope.spawn(move || {
                nouns.iter().for_each(|(noun, about)| every_verb_says_what_it_does(noun, about))
            });
        }
    });
}

fn every_verb_says_what_it_does(noun: &str, about: &str) {
    assert!(about.len() > 5, "{noun} says nothing");
    for (verb, about) in verbs(&help(&[noun])) {
        assert!(about.len() > 5, "{noun} {verb} says nothing");
        assert!(help(&[noun, &verb]).contains("--dry-run"), "{noun} {verb}");
    }
}

#[test]
fn a_misspelt_command_is_a_usage_error() {
    let output = Command::new(env!("CARGO_BIN_EXE_spsync")).arg("pakage").output().expect("it starts");
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("package"), "it names the nearest");
    assert!(told.starts_with("error[USAGE]: "), "{told}");
}

#[test]
fn completions_and_manual_pages_are_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = || Command::new(env!("CARGO_BIN_EXE_spsync"));
    assert!(program().args(["man", "--dir"]).arg(folder.path()).status().expect("it starts").success());
    assert!(folder.path().join("spsync-package-download.1").exists());
    let bash = program().args(["completions", "bash"]).output().expect("it starts");
    assert!(String::from_utf8_lossy(&bash.stdout).contains("_spsync"));
}

/// A file of configuration for a site of its own.
fn site(folder: &std::path::Path) -> std::path::PathBuf {
    let config = folder.join("spsync.toml");
    let text = format!("[site]\ndata_dir = \"{}\"\n", folder.join("site").display());
    std::fs::write(&config, text).expect("it is written");
    config
}

/// The exit status of a program that ends by itself.
fn ends(mut child: Child) -> Option<i32> {
    let until = Instant::now() + Duration::from_secs(60);
    while Instant::now() < until {
        if let Some(status) = child.try_wait().expect("it is ours") {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().expect("it runs");
    child.wait().expect("it is ours");
    panic!("it does not end");
}

#[test]
fn a_reader_who_goes_away_ends_it_quietly() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = site(folder.path());
    for args in [
        &["explain"][..],
        &["completions", "bash"],
        &["man"],
        &["config", "example"],
        &["status"],
        &["status", "--watch"],
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut program = Command::new(env!("CARGO_BIN_EXE_spsync"));
        let told = File::create(folder.path().join("told")).expect("a file");
        program.arg("--config").arg(&config).args(args).stdout(writer).stderr(told);
        assert_eq!(ends(program.spawn().expect("it starts")), Some(0), "{args:?}");
        let told = std::fs::read_to_string(folder.path().join("told")).expect("a file");
        assert!(!told.contains("panicked") && !told.contains("error["), "{args:?}: {told}");
    }
}

/// A token is shown once: who did not get it must learn that.
#[test]
fn what_cannot_be_written_is_no_success() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = site(folder.path());
    for args in [
        &["explain"][..],
        &["completions", "bash"],
        &["man"],
        &["token", "create", "ci"],
        &["token", "list", "-o", "json"],
        &["status", "--watch"],
    ] {
        let full = File::options().write(true).open("/dev/full").expect("Linux has it");
        let mut program = Command::new(env!("CARGO_BIN_EXE_spsync"));
        program.arg("--config").arg(&config).args(args).stdout(full).stderr(Stdio::piped());
        let mut child = program.spawn().expect("it starts");
        let mut told = String::new();
        let mut errors = child.stderr.take().expect("it is piped");
        let reading =
            std::thread::spawn(move || std::io::Read::read_to_string(&mut errors, &mut told).map(|_| told));
        assert_eq!(ends(child), Some(1), "{args:?}");
        let told = reading.join().expect("it reads").expect("UTF-8");
        assert!(told.contains("OUTPUT_FAILED") && told.contains("made anew"), "{args:?}: {told}");
    }
}

/// What an environment says once for all commands is believed like what a command says.
#[test]
fn a_variable_is_as_good_as_a_flag() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = site(folder.path());
    let run = |variables: &[(&str, &str)], args: &[&str]| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_spsync"));
        program.arg("--config").arg(&config).args(args).envs(variables.iter().copied());
        let output = program.output().expect("it starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let tokens = || run(&[("SPSYNC_OUTPUT", "name")], &["token", "list"]).1;
    let create = ["token", "create", "ci"];
    for yes in ["1", "true", "yes"] {
        let (status, told, errors) = run(&[("SPSYNC_DRY_RUN", yes)], &create);
        assert_eq!(status, Some(0), "{yes}: {told} {errors}");
        assert_eq!(tokens(), "", "{yes}: a dry run makes no token");
    }
    assert_eq!(run(&[("SPSYNC_DRY_RUN", "perhaps")], &create).0, Some(2));
    assert_eq!(tokens(), "", "what is not understood is not taken for no");
    assert!(run(&[("SPSYNC_OUTPUT", "json")], &["token", "list"]).1.starts_with('['));
    assert_eq!(
        run(&[("SPSYNC_OUTPUT", "json")], &["token", "list", "-o", "name"]).1,
        "",
        "who says it last is heard"
    );
    assert_eq!(run(&[("SPSYNC_VERBOSE", "2"), ("SPSYNC_QUIET", "0")], &["token", "list"]).0, Some(0));
    assert_eq!(run(&[("SPSYNC_NO_WAIT", "on")], &["token", "list"]).0, Some(4), "no daemon runs");
    assert_eq!(run(&[("SPSYNC_DRY_RUN", "0"), ("SPSYNC_NO_WAIT", "")], &create).0, Some(0));
    assert_eq!(tokens(), "ci\n");
    let wait = ["package", "distribute", "p", "--to", "lyon", "--wait"];
    for (variable, says, expected) in [
        ("SPSYNC_NO_WAIT", "0", 3),
        ("SPSYNC_DRY_RUN", "", 3),
        ("SPSYNC_NO_WAIT", "1", 2),
        ("SPSYNC_DRY_RUN", "1", 2),
    ] {
        let (status, _, told) = run(&[(variable, says)], &wait);
        assert_eq!(status, Some(expected), "{variable}={says}: {told}");
    }
}

/// Without a daemon nothing goes on, and nobody is to wait for it.
#[test]
fn who_stops_waiting_is_told_what_became_of_the_work() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = site(folder.path());
    let mut program = Command::new(env!("CARGO_BIN_EXE_spsync"));
    program.arg("--config").arg(&config).args(["--timeout", "1ms", "status"]);
    let output = program.output().expect("it starts");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(9), "{told}");
    assert!(told.contains("within 1ms"), "{told}");
    let became = ["nothing was asked yet", "nothing was begun", "the work ended with the command"];
    assert!(became.iter().any(|text| told.contains(text)), "{told}");
    assert!(!told.contains("goes on;") && !told.contains("wait ID"), "{told}");
}
