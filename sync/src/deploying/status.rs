//! `spsync deploy status`: how far devices are, by state, client, step and error.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use catalog::problem::Problem;
use jiff::Timestamp;
use schema::devices::DeviceRun;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::codes::{self, Named};
use super::members::Members;
use super::named;
use super::phased::Tally;
use super::show::{self, Shown};
use crate::admin::Answer;
use crate::policy::{Bucket, Facts, References, RunState};
use crate::sequence::action::{OsType, UpgradeOs};
use crate::sequence::choose::{differs, numbers};
use crate::sequence::{Action, Sequence};
use crate::site::Site;

/// Devices by how they are doing: the five columns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Buckets {
    pub success: u64,
    pub in_progress: u64,
    pub error: u64,
    pub requirements_not_met: u64,
    pub unknown: u64,
}

/// The state that a word stands for.
pub fn state_of(word: &str) -> RunState {
    serde_json::from_value(Value::String(word.to_owned())).unwrap_or(RunState::Unknown)
}

impl Buckets {
    /// So many devices are in a state.
    pub fn add(&mut self, state: &str, devices: u64) {
        let bucket = match state_of(state).bucket() {
            Bucket::Success => &mut self.success,
            Bucket::InProgress => &mut self.in_progress,
            Bucket::Error => &mut self.error,
            Bucket::RequirementsNotMet => &mut self.requirements_not_met,
            Bucket::Unknown => &mut self.unknown,
        };
        *bucket += devices;
    }

    /// All devices.
    pub fn all(&self) -> u64 {
        self.success + self.in_progress + self.error + self.requirements_not_met + self.unknown
    }
}

/// One device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceLine {
    /// Its name.
    pub device: String,
    /// How it stands; `unknown` where it has not reported.
    pub state: String,
    /// The step that it is at, or ended at.
    pub step: Option<u32>,
    /// Its name.
    pub step_name: Option<String>,
    /// The error.
    pub error: Option<String>,
    /// What that means.
    pub meaning: Option<String>,
    /// For people.
    pub details: String,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it said so.
    pub changed: Option<Timestamp>,
    /// Bytes by kind of source.
    pub bytes: BTreeMap<String, u64>,
}

/// Devices at one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepLine {
    /// Its number.
    pub step: u32,
    /// Its name.
    pub name: String,
    /// How they stand.
    pub state: String,
    /// How many.
    pub devices: u64,
}

/// Devices with one error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorLine {
    /// The error, and what it means.
    #[serde(flatten)]
    pub error: Named,
    /// How many.
    pub devices: u64,
    /// Names of some of them.
    pub examples: Vec<String>,
}

/// How far a deployment is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// The deployment.
    pub deployment: Shown,
    /// By state: the word, and how many.
    pub states: BTreeMap<String, u64>,
    /// By step.
    pub steps: Vec<StepLine>,
    /// By error, the most frequent first.
    pub errors: Vec<ErrorLine>,
    /// Bytes by kind of source.
    pub bytes: BTreeMap<String, u64>,
    /// By device.
    pub devices: Vec<DeviceLine>,
}

/// Every device in the collection, and whoever reported and is not in it any more. Pure.
pub fn lines(members: Vec<String>, runs: Vec<DeviceRun>) -> Vec<DeviceLine> {
    let silent = |device: String| DeviceLine {
        device,
        state: RunState::Unknown.word().to_owned(),
        step: None,
        step_name: None,
        error: None,
        meaning: None,
        details: String::new(),
        started: None,
        changed: None,
        bytes: BTreeMap::new(),
    };
    let mut all: BTreeMap<String, DeviceLine> =
        members.into_iter().map(|device| (device.to_ascii_lowercase(), silent(device))).collect();
    for run in runs {
        let error = codes::named(run.code.as_deref(), run.exit)
            .filter(|_| !matches!(state_of(&run.state).bucket(), Bucket::Success));
        let (error, meaning) = error.map(|named| (named.code, named.meaning)).unzip();
        let line = DeviceLine {
            device: run.device,
            state: run.state,
            step: run.step,
            step_name: run.step_name,
            error,
            meaning: meaning.filter(|meaning| !meaning.is_empty()),
            details: run.details,
            started: Some(run.started),
            changed: Some(run.changed),
            bytes: run.bytes,
        };
        all.insert(line.device.to_ascii_lowercase(), line);
    }
    all.into_values().collect()
}

/// Bytes of all devices by kind of source. Each says its own, whatever it likes: a sum has an end, not an overflow.
fn bytes_of(devices: &[DeviceLine]) -> BTreeMap<String, u64> {
    let mut bytes: BTreeMap<String, u64> = BTreeMap::new();
    for (source, count) in devices.iter().flat_map(|line| &line.bytes) {
        let sum = bytes.entry(source.clone()).or_default();
        *sum = sum.saturating_add(*count);
    }
    bytes
}

/// The sums of lines. Pure.
pub fn sums(deployment: Shown, devices: Vec<DeviceLine>) -> Status {
    let mut states: BTreeMap<String, u64> = BTreeMap::new();
    let mut steps: BTreeMap<(u32, String, String), u64> = BTreeMap::new();
    let mut errors: BTreeMap<Named, (u64, Vec<String>)> = BTreeMap::new();
    let mut buckets = Buckets::default();
    for line in &devices {
        *states.entry(line.state.clone()).or_default() += 1;
        buckets.add(&line.state, 1);
        if let Some(step) = line.step {
            let name = line.step_name.clone().unwrap_or_default();
            *steps.entry((step, name, line.state.clone())).or_default() += 1;
        }
        if let Some(code) = line.error.clone()
            && matches!(state_of(&line.state).bucket(), Bucket::Error | Bucket::RequirementsNotMet)
        {
            let named = Named { code, meaning: line.meaning.clone().unwrap_or_default() };
            let entry = errors.entry(named).or_default();
            entry.0 += 1;
            if entry.1.len() < 5 {
                entry.1.push(line.device.clone());
            }
        }
    }
    let bytes = bytes_of(&devices);
    let mut errors: Vec<ErrorLine> = errors
        .into_iter()
        .map(|(error, (devices, examples))| ErrorLine { error, devices, examples })
        .collect();
    errors.sort_by_key(|line| std::cmp::Reverse(line.devices));
    let step = |((step, name, state), devices)| StepLine { step, name, state, devices };
    let deployment = Shown { buckets, devices: devices.len() as u64, ..deployment };
    Status { deployment, states, steps: steps.into_iter().map(step).collect(), errors, bytes, devices }
}

/// How far devices are.
///
/// # Errors
/// `DEPLOYMENT_NOT_FOUND`, `AMBIGUOUS`.
pub async fn status(site: &Arc<Site>, name: &str) -> Result<Answer, Problem> {
    let row = named(site, name).await?;
    let members = Members::of(site).await?.in_collection(&row.collection);
    let id = row.id.clone();
    let runs = site.read(move |r| r.runs_of(&id)).await?;
    let shown = show::one(site, row.id.as_str()).await?;
    Answer::of(&sums(shown, lines(members, runs)))
}

/// Whether a device runs what every upgrade of a task sequence brings to devices such as it, or something newer. Pure.
pub fn is_there(sequence: &Sequence, references: &References, facts: &Facts) -> bool {
    let [major, _, build, _] = numbers(&facts.version);
    let brings = |upgrade: &UpgradeOs| -> Vec<u32> {
        let is_mine = |os_type: OsType, architecture: &str| {
            os_type == facts.os_type && !differs(architecture, &facts.architecture)
        };
        let updates = upgrade.feature_updates.iter().filter_map(|id| Some(&references.update(id)?.facts));
        let updates = updates.filter(|update| is_mine(update.os_type, &update.architecture));
        let image = upgrade.image.as_ref().and_then(|id| references.image(id));
        let edition = image.and_then(|image| Some((image.os_type, image.edition(upgrade.edition_index)?)));
        let edition = edition.filter(|(os_type, edition)| {
            is_mine(*os_type, edition.architecture.as_deref().unwrap_or_default())
        });
        let builds = updates.map(|update| update.build).chain(edition.map(|(_, edition)| edition.build));
        // Of what nobody knows how new it is nobody can say that a device has it.
        builds.map(|build| build.map_or(u32::MAX, |(build, _)| build)).collect()
    };
    let steps = sequence.steps().into_iter().filter(|at| at.enabled);
    let mut upgrades = steps.filter_map(|at| match &at.step.action {
        Action::UpgradeOs(upgrade) if !upgrade.scan_only => Some(brings(upgrade)),
        _ => None,
    });
    let has = |brought: Vec<u32>| !brought.is_empty() && brought.iter().all(|brought| *brought <= build);
    // Without an upgrade there is nothing that a device could have.
    major >= 10 && upgrades.next().is_some_and(has) && upgrades.all(has)
}

/// How a phase is doing: devices of its collection, those of them that succeeded, and those of them that said that it is not for them
/// and are `there` already, which are few. Pure.
pub fn tally(members: &[String], runs: &[DeviceRun], there: &HashSet<String>) -> Tally {
    let members_lower: HashSet<String> = members.iter().map(|member| member.to_ascii_lowercase()).collect();
    let is_in = |device: &str| members_lower.contains(&device.to_ascii_lowercase());
    let succeeded =
        runs.iter().filter(|run| state_of(&run.state) == RunState::Succeeded && is_in(&run.device)).count();
    let needs_nothing = not_applicable(runs)
        .filter(|device| is_in(device) && there.contains(&device.to_ascii_lowercase()))
        .count();
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Tally {
        devices: number(members.len()),
        succeeded: number(succeeded),
        nothing_to_do: number(needs_nothing),
    }
}

/// The devices that said that it is not for them.
pub fn not_applicable(runs: &[DeviceRun]) -> impl Iterator<Item = &str> {
    let says_so = |run: &&DeviceRun| state_of(&run.state) == RunState::NotApplicable;
    runs.iter().filter(says_so).map(|run| run.device.as_str())
}

#[cfg(test)]
mod tests {
    use catalog::id::PackageId;

    use super::*;

    #[test]
    fn devices_that_have_it_already_are_told_from_those_that_cannot_have_it() {
        let id = "00000000-0000-0000-0000-000000000007";
        let other = "00000000-0000-0000-0000-000000000008";
        let update = |id: &str, build: u32, architecture: &str| {
            serde_json::json!({ "facts": { "id": id, "title": "x", "os_type": "client", "build": [build, 1],
                "architecture": architecture, "language": "en-us", "shape": "esd" }, "files": [] })
        };
        let references: References = serde_json::from_value(serde_json::json!({
            "feature_updates": [update(id, 26_200, "x64"), update(other, 28_000, "arm64")],
        }))
        .expect("references");
        let facts = |version: &str, architecture: &str| -> Facts {
            serde_json::from_value(
                serde_json::json!({ "os_type": "client", "version": version, "edition": "Enterprise",
                "architecture": architecture, "language": "de-de" }),
            )
            .expect("facts")
        };
        let parsed = |steps: &str| {
            Sequence::parse(&format!("format = 1\nname = \"x\"\nkind = \"custom\"\n{steps}"))
                .expect("a document")
        };
        let step = "[[step]]\ntype = \"upgrade-os\"\nname = \"up\"\n";
        let both = format!("{step}feature_updates = [\"{id}\", \"{other}\"]\n");
        let unknown = format!("{both}{step}feature_updates = [\"00000000-0000-0000-0000-000000000009\"]\n");
        for (what, steps, version, architecture, expected) in [
            ("older", &both, "10.0.22631", "x64", false),
            ("the same", &both, "10.0.26200.4", "x64", true),
            ("newer", &both, "10.0.28000", "x64", true),
            ("the same build, and what is for it is newer", &both, "10.0.26200", "arm64", false),
            ("nothing is for it", &both, "10.0.28000", "x86", false),
            ("a build of before Windows 10", &both, "6.1.99999", "x64", false),
            ("a version that is none", &both, "", "x64", false),
            ("a second upgrade of which nothing is known", &unknown, "10.0.28000", "x64", false),
            ("no upgrade", &String::new(), "10.0.28000", "x64", false),
        ] {
            let found = is_there(&parsed(steps), &references, &facts(version, architecture));
            assert_eq!(found, expected, "{what}");
        }
    }

    #[test]
    fn two_devices_that_say_too_much_do_not_end_the_sums() {
        let run = |device: &str, bytes: u64| DeviceRun {
            device: device.to_owned(),
            deployment: "XYZ20001".parse::<PackageId>().expect("an id"),
            series: 1,
            run: 1,
            state: RunState::Succeeded.word().to_owned(),
            step: None,
            step_name: None,
            code: None,
            exit: None,
            details: String::new(),
            started: Timestamp::UNIX_EPOCH,
            changed: Timestamp::UNIX_EPOCH,
            bytes: BTreeMap::from([("peer".to_owned(), bytes), ("cloud".to_owned(), 2)]),
        };
        let runs = vec![run("pc1", i64::MAX as u64), run("pc2", i64::MAX as u64), run("pc3", u64::MAX)];
        let bytes = bytes_of(&lines(vec!["pc4".to_owned()], runs));
        assert_eq!((bytes["peer"], bytes["cloud"]), (u64::MAX, 6));
    }
}
