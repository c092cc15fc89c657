//! Which feature update a device takes, and whether it can be upgraded at all (mission rows M02, M03 and M36).
//!
//! What a device has not said is not held against it ([`differs`]). Two things it has to say: its version, because from an
//! unknown Windows no path leads anywhere; and its release where an enablement package is to be taken, because behind
//! that a step names the whole update, which fits any release.

use catalog::feature_update::Shape;
use catalog::id::UpdateId;
use catalog::problem::{Code, Problem};
use serde::{Deserialize, Serialize};

use super::action::OsType;

/// What a device says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Client or server.
    pub os_type: OsType,
    /// Its version: `10.0.22631`, or `6.1` for Windows 7.
    pub version: String,
    /// `EDITIONID`: Enterprise, Professional, …
    pub edition: String,
    /// `x64`, `arm64`, `x86`.
    pub architecture: String,
    /// `en-us`.
    pub language: String,
    /// `24H2`; what enablement packages depend on.
    #[serde(default)]
    pub release: Option<String>,
}

/// A feature update or image as far as the choice needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its id.
    pub id: UpdateId,
    /// For people.
    pub title: String,
    /// What it installs.
    pub os_type: OsType,
    /// Its build: major and minor.
    pub build: Option<(u32, u32)>,
    /// Its architecture.
    pub architecture: String,
    /// Its language; `*` is every one.
    pub language: String,
    /// Editions that it upgrades; empty where nothing is said.
    #[serde(default)]
    pub editions: Vec<String>,
    /// Its form.
    pub shape: Shape,
    /// Releases that an enablement package applies to.
    #[serde(default)]
    pub bases: Vec<String>,
    /// What replaces it.
    #[serde(default)]
    pub superseded_by: Vec<UpdateId>,
    /// Why it cannot be deployed, if so.
    pub undeployable: Option<String>,
}

/// What became of one candidate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Considered {
    /// Its id.
    pub id: UpdateId,
    /// For people.
    pub title: String,
    /// Why it was not taken; `None` for the one that was.
    pub skipped: Option<String>,
}

/// The choice, with reasons.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// The one that is taken.
    pub chosen: Option<UpdateId>,
    /// Every candidate, in the order of the step.
    pub considered: Vec<Considered>,
}

/// The first candidate that applies to the device and that no other deployed update supersedes. `deployed` are updates
/// that are deployed to the device otherwise; the candidates themselves are deployed by being here.
pub fn first_applicable(candidates: &[Candidate], device: &Device, deployed: &[UpdateId]) -> Choice {
    let mut choice = Choice::default();
    for candidate in candidates {
        let skipped = match (why_not(candidate, device).map(|(_, reason)| reason), choice.chosen) {
            (Some(reason), _) => Some(reason),
            (None, Some(_)) => Some("one before it was taken".to_owned()),
            (None, None) => superseded(candidate, candidates, deployed),
        };
        if skipped.is_none() {
            choice.chosen = Some(candidate.id);
        }
        choice.considered.push(Considered { id: candidate.id, title: candidate.title.clone(), skipped });
    }
    choice
}

fn superseded(candidate: &Candidate, candidates: &[Candidate], deployed: &[UpdateId]) -> Option<String> {
    let by = candidate
        .superseded_by
        .iter()
        .find(|id| deployed.contains(id) || candidates.iter().any(|other| other.id == **id))?;
    Some(format!("superseded by {}, which is deployed too", by.short()))
}

/// Why a candidate does not apply: the sort of reason. A later one is met by fewer devices: they are nearer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// It cannot be deployed.
    NotDeployable,
    /// From this Windows nothing leads there.
    Path,
    /// For another architecture.
    Architecture,
    /// In another language.
    Language,
    /// For other editions.
    Edition,
    /// For devices on another release.
    Release,
}

/// Why a candidate does not apply, if so.
pub fn why_not(candidate: &Candidate, device: &Device) -> Option<(Why, String)> {
    if let Some(why) = &candidate.undeployable {
        return Some((Why::NotDeployable, format!("not deployable: {why}")));
    }
    if let Err(problem) = path(device, candidate.os_type, candidate.build) {
        return Some((Why::Path, problem.message));
    }
    if differs(&candidate.architecture, &device.architecture) {
        let text = format!("for {}, the device is {}", candidate.architecture, device.architecture);
        return Some((Why::Architecture, text));
    }
    if candidate.language != catalog::feature_update::EVERY_LANGUAGE
        && differs(&candidate.language, &device.language)
    {
        let text = format!("in {}, the device is in {}", candidate.language, device.language);
        return Some((Why::Language, text));
    }
    if !candidate.editions.is_empty()
        && candidate.editions.iter().all(|edition| differs(edition, &device.edition))
    {
        return Some((Why::Edition, format!("not for edition {}", device.edition)));
    }
    if candidate.shape == Shape::Enablement
        && !device
            .release
            .as_ref()
            .is_some_and(|release| candidate.bases.iter().any(|base| base.eq_ignore_ascii_case(release)))
    {
        return Some((Why::Release, format!("switches on what only {} have", candidate.bases.join(", "))));
    }
    None
}

/// Whether what is wanted is something else than what a device has said.
pub fn differs(wanted: &str, said: &str) -> bool {
    !said.is_empty() && !wanted.eq_ignore_ascii_case(said)
}

/// A version as numbers, to be compared; what is missing or no number is zero.
pub fn numbers(version: &str) -> [u32; 4] {
    parts(version).map(Option::unwrap_or_default)
}

/// `10.0.22631` as numbers: what is missing is zero, what is no number is nothing.
fn parts(version: &str) -> [Option<u32>; 4] {
    let mut parts = version.split('.').map(|part| part.trim().parse().ok());
    std::array::from_fn(|_| parts.next().unwrap_or(Some(0)))
}

/// The first build of Windows Server 2016.
const SERVER_2016: u32 = 14393;
/// The first build of Windows 10.
const WINDOWS_10: u32 = 10240;

/// Whether a device can be upgraded to `target`: from Windows 7 to 10 and later, from Windows Server 2012 to 2016 and
/// later, never between the two families, never to an older build.
///
/// # Errors
/// `UPGRADE_PATH_UNSUPPORTED`.
pub fn path(device: &Device, target: OsType, build: Option<(u32, u32)>) -> Result<(), Problem> {
    let refuse = |why: String| Err(Problem::new(Code::UpgradePathUnsupported, why));
    let [Some(major), Some(minor), Some(current), _] = parts(&device.version) else {
        return refuse("the version of the device cannot be understood".to_owned());
    };
    if device.os_type != target {
        return refuse(format!("a {} does not become a {target}", device.os_type));
    }
    let (oldest, named, first) = match target {
        OsType::Client => ((6, 1), "Windows 7", WINDOWS_10),
        OsType::Server => ((6, 2), "Windows Server 2012", SERVER_2016),
    };
    if (major, minor) < oldest {
        return refuse(format!("version {} is older than {named}", device.version));
    }
    match build {
        Some((target, _)) if target < first => refuse(format!("build {target} is no target of an upgrade")),
        Some((target, _)) if major >= 10 && target <= current => {
            refuse(format!("the device has build {current} already"))
        }
        _ => Ok(()),
    }
}
