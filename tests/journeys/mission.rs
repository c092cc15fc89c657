//! `docs/MISSION.md` keeps its word: every row is there, shows something, and names tests that exist.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The root of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ stands in the workspace").to_owned()
}

/// Names of the functions that are tests in the Rust files below `folder`.
fn tests_below(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the workspace") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            tests_below(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source file");
            let mut is_test = false;
            for line in text.lines().map(str::trim) {
                if let Some(rest) = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn ")) {
                    if is_test {
                        found.extend(rest.split('(').next().map(str::to_owned));
                    }
                    is_test = false;
                } else if line == "#[test]" || line.starts_with("#[tokio::test") {
                    is_test = true;
                }
            }
        }
    }
}

/// What is wrong with the table, given the tests that there are.
fn wrong(table: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("| M"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let ids: Vec<String> = rows.iter().map(|row| row[0].to_owned()).collect();
    let expected: Vec<String> = (1..=69).map(|number| format!("M{number:02}")).collect();
    if ids != expected {
        wrong.push(format!("the rows are {ids:?}"));
    }
    for row in &rows {
        let shown = row.get(2).copied().unwrap_or_default();
        let quoted: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        let is_test = |name: &&&str| {
            name.contains('_')
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        for name in quoted.iter().filter(is_test).filter(|name| !tests.contains(**name)) {
            wrong.push(format!("{}: there is no test `{name}`", row[0]));
        }
        let explained = shown.strip_prefix("not yet: ").is_some_and(|why| why.len() > 10);
        let shows = quoted.iter().any(|name| tests.contains(*name))
            || quoted.iter().any(|name| name.starts_with("spsync "));
        if !explained && (!shows || shown.starts_with("not yet")) {
            wrong.push(format!("{} shows nothing", row[0]));
        }
    }
    wrong
}

#[test]
fn every_row_of_the_mission_shows_something_that_exists() {
    let mut tests = BTreeSet::new();
    tests_below(&root(), &mut tests);
    let table = std::fs::read_to_string(root().join("docs/MISSION.md")).unwrap();
    assert_eq!(wrong(&table, &tests), Vec::<String>::new());

    // The check itself can fail.
    let without = table.replace("| M07 |", "| X07 |");
    assert!(wrong(&without, &tests)[0].starts_with("the rows are"));
    let renamed = table.replace("`template_inplace`", "`template_elsewhere`");
    assert!(wrong(&renamed, &tests).contains(&"M58: there is no test `template_elsewhere`".to_owned()));
    let bare = table
        .replace("| Format of product keys | `product_key_table` |", "| Format of product keys | not yet |");
    assert_eq!(wrong(&bare, &tests), ["M52 shows nothing"]);
}
