//! The file that says how a pretended device behaves.

use std::collections::BTreeMap;
use std::path::Path;

use catalog::problem::{Code, Problem};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

use crate::device::facts;
use crate::device::updates::Scanned;
use crate::policy::Facts;

/// How a device behaves.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// What it is at first.
    #[serde(with = "facts::InFile")]
    pub facts: Facts,
    /// What its clock shows at first.
    #[serde(default)]
    pub clock: Option<Timestamp>,
    /// How Setup ends: its first start, its second, …; the last also ends those that follow.
    #[serde(default)]
    pub setup: Vec<SetupScript>,
    /// How other steps end, where they do not succeed in a minute.
    #[serde(default)]
    pub step: Vec<StepScript>,
    /// When its power is cut.
    #[serde(default)]
    pub power: Vec<PowerScript>,
    /// Where content comes from.
    #[serde(default)]
    pub content: ContentScript,
    /// Real milliseconds that a step takes, for those who watch.
    #[serde(default)]
    pub pause_ms: u64,
    /// Files, folders, queries with an answer, and products that conditions find.
    #[serde(default)]
    pub has: Vec<String>,
    /// Updates that a scan finds to apply; without any list, all that are deployed do.
    #[serde(default)]
    pub applicable: Option<Vec<Scanned>>,
    /// Values of the registry: the key, `\` and the name of the value.
    #[serde(default)]
    pub registry: BTreeMap<String, String>,
}

/// One start of Setup.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SetupScript {
    /// Its exit code, as a number or as `0xC1900208`.
    #[serde(deserialize_with = "code")]
    pub exit: i64,
    /// Minutes that it takes; 40 if not said.
    pub minutes: Option<u64>,
    /// It never ends.
    pub hangs: bool,
    /// After the restart it puts the old Windows back, with this code.
    #[serde(deserialize_with = "some_code")]
    pub rolls_back: Option<i64>,
}

/// One step that is no Setup.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StepScript {
    /// Its name, or that of the application.
    pub name: String,
    /// Its exit code.
    #[serde(deserialize_with = "code")]
    pub exit: i64,
    /// Minutes that it takes.
    pub minutes: u64,
    /// It never ends.
    pub hangs: bool,
    /// What it prints.
    pub output: String,
    /// How often it ends so; afterwards it succeeds. Always, if not said.
    pub times: Option<u32>,
    /// What it installs is there already.
    pub there: bool,
}

/// One power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerScript {
    /// Number of the step; left out where it is no step's.
    #[serde(default)]
    pub step: u32,
    /// When.
    pub at: PowerAt,
    /// How often; once if not said.
    #[serde(default = "once")]
    pub times: u32,
}

fn once() -> u32 {
    1
}

/// When power is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PowerAt {
    /// Content is about to be fetched: of the step, or of all without one.
    Fetching,
    /// It has come, and that is not written down.
    Fetched,
    /// The step is about to run.
    Begins,
    /// It runs.
    Running,
    /// It has ended, and that is not written down.
    Ended,
    /// It is.
    Noted,
    /// The device goes down for a restart that was asked for; of no step.
    Restarting,
    /// The scripts of the last run are removed, and that is not written down; of no step.
    Tidied,
}

/// Where a simulated device has content from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContentScript {
    /// It is really fetched, where a site is known; else it is taken for granted.
    #[default]
    Fetch,
    /// It is taken for granted.
    There,
    /// Nobody has it.
    Missing,
}

fn parsed(text: &str) -> Option<i64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(i64),
    Text(String),
}

fn code<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    let number = match Written::deserialize(from)? {
        Written::Number(number) => Some(number),
        Written::Text(text) => parsed(&text),
    };
    number.ok_or_else(|| serde::de::Error::custom("an exit code is a number, or 0x and digits"))
}

fn some_code<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    code(from).map(Some)
}

impl Script {
    /// Reads a description.
    ///
    /// # Errors
    /// `SIMULATION_INVALID`.
    pub fn of_file(path: &Path) -> Result<Self, Problem> {
        let what = format!("`{}` describes no device", path.display());
        facts::read(path, Code::SimulationInvalid, &what)
    }
}
