//! Commands that README and the documents show can be typed as they stand there.

use clap::{CommandFactory as _, Parser as _};

use super::Cli;

const README: &str = include_str!("../../../README.md");
/// What stands in backticks in them.
const DOCUMENTS: [(&str, &str); 5] = [
    ("README.md", README),
    ("ARCHITECTURE.md", include_str!("../../../docs/ARCHITECTURE.md")),
    ("MISSION.md", include_str!("../../../docs/MISSION.md")),
    ("PROTOCOL.md", include_str!("../../../docs/PROTOCOL.md")),
    ("TOOLS.md", include_str!("../../../docs/TOOLS.md")),
];

/// Texts that are hashed or signed, and begin like commands.
const NO_COMMANDS: [&str; 2] = ["spsync content key", "spsync certificate"];

/// The words of a line of a shell, up to its comment; operators are words of their own.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = None;
    for c in line.chars() {
        match c {
            _ if quoted == Some(c) => quoted = None,
            _ if quoted.is_some() => word.get_or_insert_default().push(c),
            '"' | '\'' => {
                quoted = Some(c);
                word.get_or_insert_default();
            }
            '#' if word.is_none() => break,
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The commands of ours in such a line: without `sudo`, and without where their output goes.
fn commands(line: &str) -> Vec<Vec<String>> {
    let words = words(line);
    let parts = words.split(|word| ["&&", "|", "&", ";"].contains(&word.as_str()));
    let ours = parts.filter_map(|part| {
        let begin = part.iter().position(|word| word == "spsync")?;
        let before = part[..begin].iter().all(|word| word == "sudo");
        let end = part.iter().position(|word| [">", "2>"].contains(&word.as_str())).unwrap_or(part.len());
        before.then(|| part[begin..end].to_vec())
    });
    ours.collect()
}

/// What stands after a prompt, as `site$ `.
fn after_prompt(line: &str) -> Option<&str> {
    let (before, rest) = line.split_once("$ ")?;
    (before.len() < 10 && before.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'))
        .then_some(rest)
}

#[test]
fn every_command_line_of_the_readme_can_be_typed() {
    let mut tried = 0;
    let blocks = README.split("```console\n").skip(1).filter_map(|block| block.split("```").next());
    for line in blocks.flat_map(str::lines).filter_map(after_prompt) {
        for mut command in commands(line) {
            // The digest of something.
            for word in command.iter_mut().filter(|word| *word == "SHA256") {
                *word = "0".repeat(64);
            }
            if let Err(error) = Cli::try_parse_from(&command) {
                panic!("{line}: {error}");
            }
            tried += 1;
        }
    }
    assert!(tried > 60, "{tried}");
}

#[test]
fn every_command_that_a_document_names_exists() {
    let root = Cli::command();
    let mut named = 0;
    for (name, text) in DOCUMENTS {
        let quoted = text.split('`').skip(1).step_by(2);
        for quoted in quoted.filter(|quoted| quoted.starts_with("spsync ") && !NO_COMMANDS.contains(quoted)) {
            named += 1;
            let mut command = &root;
            for word in quoted.split_whitespace().skip(1) {
                if let Some(option) = word.strip_prefix("--") {
                    let option = option.split(['=', '|']).next().unwrap_or_default();
                    let known = |c: &clap::Command| {
                        c.get_arguments().any(|argument| {
                            let also = argument.get_all_aliases().unwrap_or_default();
                            argument.get_long() == Some(option) || also.contains(&option)
                        })
                    };
                    let of_all = ["help", "version"].contains(&option);
                    assert!(of_all || known(command) || known(&root), "{name}: `{quoted}`: no {word}");
                } else if let Some(next) = command.find_subcommand(word) {
                    command = next;
                } else {
                    // A name, or what stands for one: where only subcommands may come, it is none.
                    assert!(!command.has_subcommands() || word == "…", "{name}: `{quoted}`: no {word}");
                }
            }
        }
    }
    assert!(named > 60, "{named}");
}

#[test]
fn lines_of_a_shell_are_read_as_it_does() {
    let line =
        "sudo spsync dp set lyon rate=12MiB/s schedule=\"mon-fri 08-18 closed\" > x && spsync status # why";
    assert_eq!(
        commands(line),
        [
            vec!["spsync", "dp", "set", "lyon", "rate=12MiB/s", "schedule=mon-fri 08-18 closed"],
            vec!["spsync", "status"]
        ]
    );
    assert_eq!(commands("sudo install -o spsync -m 600 token /etc/spsync/"), [[""; 0]; 0]);
    assert_eq!(after_prompt("desk-7$ sudo spsync client log"), Some("sudo spsync client log"));
    assert_eq!(after_prompt("[dp]"), None);
}
