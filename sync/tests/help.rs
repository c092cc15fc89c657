//! What the program says about itself. Being here, this also makes `cargo test` build the program that the journeys run.

use std::process::Command;

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
