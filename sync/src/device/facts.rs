//! Files in which somebody writes down what a device is. On the wire a newer client may say more than is known here; in a file
//! a word that nobody knows is a mistake, and the line is named.

use std::fmt::Display;
use std::io::Read as _;
use std::path::Path;

use catalog::problem::{Code, Problem};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

use crate::policy::{Facts, Firmware, NetworkKind, Power};
use crate::sequence::action::OsType;

/// A commented example of a file with facts.
pub const EXAMPLE: &str = include_str!("facts.toml");
/// A commented example of a pretended device.
pub const SIMULATED: &str = include_str!("simulated.toml");
/// More is no description of a device.
const LARGEST: u64 = 1 << 20;

/// [`Facts`] as they stand in a file.
#[derive(Deserialize)]
#[serde(remote = "Facts", deny_unknown_fields)]
pub struct InFile {
    os_type: OsType,
    version: String,
    edition: String,
    architecture: String,
    language: String,
    #[serde(default)]
    release: Option<String>,
    #[serde(default, deserialize_with = "firmware")]
    firmware: Firmware,
    #[serde(default)]
    memory_mb: u64,
    #[serde(default)]
    processor_mhz: u32,
    #[serde(default)]
    free_disk_mb: u64,
    #[serde(default, deserialize_with = "power")]
    power: Power,
    #[serde(default, deserialize_with = "network")]
    network: NetworkKind,
    #[serde(default)]
    tpm: Option<bool>,
    #[serde(default)]
    internet: bool,
    #[serde(default)]
    agent: String,
}

#[derive(Deserialize)]
struct Whole(#[serde(with = "InFile")] Facts);

fn firmware<'de, D: Deserializer<'de>>(from: D) -> Result<Firmware, D::Error> {
    word(from, &[("uefi", Firmware::Uefi), ("bios", Firmware::Bios), ("unknown", Firmware::Unknown)])
}

fn power<'de, D: Deserializer<'de>>(from: D) -> Result<Power, D::Error> {
    word(from, &[("mains", Power::Mains), ("battery", Power::Battery), ("unknown", Power::Unknown)])
}

fn network<'de, D: Deserializer<'de>>(from: D) -> Result<NetworkKind, D::Error> {
    let all = [
        ("wired", NetworkKind::Wired),
        ("wireless", NetworkKind::Wireless),
        ("none", NetworkKind::None),
        ("unknown", NetworkKind::Unknown),
    ];
    word(from, &all)
}

fn word<'de, D: Deserializer<'de>, T: Copy>(from: D, all: &[(&str, T)]) -> Result<T, D::Error> {
    let text = String::deserialize(from)?;
    let found = all.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let words: Vec<_> = all.iter().map(|(word, _)| format!("`{word}`")).collect();
        D::Error::custom(format!("unknown word `{text}`, expected one of {}", words.join(", ")))
    })
}

/// What a device is, from a file.
///
/// # Errors
/// `FACTS_INVALID`.
pub fn of_file(path: &Path) -> Result<Facts, Problem> {
    let what = format!("`{}` does not say what the device is", path.display());
    let facts = read::<Whole>(path, Code::FactsInvalid, &what)?.0;
    facts.check().map_err(|problem| {
        problem.causes.into_iter().fold(Problem::new(Code::FactsInvalid, what), Problem::because)
    })?;
    Ok(facts)
}

/// Reads a file of this form; the line of a mistake is in the cause.
///
/// # Errors
/// `code` with the message `what`.
pub fn read<T: DeserializeOwned>(path: &Path, code: Code, what: &str) -> Result<T, Problem> {
    let invalid = |why: &dyn Display| Problem::new(code, what).because(why.to_string());
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(LARGEST).read_to_string(&mut text))
        .map_err(|error| invalid(&error))?;
    toml::from_str(&text).map_err(|error| invalid(&shown(&error, &text)))
}

/// `line 7: unknown field `memory``. What is missing is in no line.
fn shown(error: &toml::de::Error, text: &str) -> String {
    let message = error.message();
    match error.span().and_then(|span| text.get(..span.start)) {
        Some(before) if !message.starts_with("missing field") => {
            format!("line {}: {message}", before.matches('\n').count() + 1)
        }
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::executor::simulate::Script;

    fn problem_of(text: &str) -> Option<String> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("it is written");
        of_file(file.path()).err().map(|problem| {
            assert_eq!(problem.code, Code::FactsInvalid);
            problem.causes.join(": ")
        })
    }

    #[test]
    fn a_file_says_what_it_means_or_which_line_does_not() {
        let five = "os_type = \"client\"\nversion = \"10.0.22631\"\nedition = \"E\"\narchitecture = \"x64\"\nlanguage = \"en-us\"\n";
        assert_eq!(problem_of(five), None);
        for (line, expected) in [
            ("power = \"ac\"", "line 6: unknown word `ac`, expected one of `mains`, `battery`, `unknown`"),
            ("memory = 1", "line 6: unknown field `memory`"),
            ("tpm = \"yes\"", "line 6: invalid type: string"),
            ("firmware = uefi", "line 6: "),
        ] {
            let found = problem_of(&format!("{five}{line}\n")).unwrap_or_default();
            assert!(found.starts_with(expected), "{line}: {found}");
        }
        assert_eq!(problem_of("os_type = \"client\"\n").as_deref(), Some("missing field `version`"));
        assert!(problem_of(&five.replace("x64", &"x".repeat(99))).is_some());
    }

    /// Every key is in the examples, and the examples are right.
    #[test]
    fn the_examples_are_complete_and_can_be_used() {
        assert_eq!(problem_of(EXAMPLE), None);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), SIMULATED.replace("# rolls_back", "rolls_back")).unwrap();
        let script = Script::of_file(file.path()).unwrap();
        assert!(script.setup[0].rolls_back.is_some() && script.step.len() == 1 && script.power.len() == 1);
        std::fs::write(file.path(), format!("{SIMULATED}\nwhere = 1\n")).unwrap();
        let problem = Script::of_file(file.path()).unwrap_err();
        let last = SIMULATED.lines().count() + 2;
        assert!(problem.causes[0].starts_with(&format!("line {last}: unknown field `where`")), "{problem}");
        let facts = serde_json::to_value(of_example()).unwrap();
        for key in facts.as_object().unwrap().keys() {
            assert!(EXAMPLE.lines().any(|line| line.starts_with(&format!("{key} = "))), "{key}");
        }
    }

    fn of_example() -> Facts {
        let mut facts = toml::from_str::<Whole>(EXAMPLE).expect("the example").0;
        facts.agent = "x".to_owned();
        facts
    }
}
