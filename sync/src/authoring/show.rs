//! Task sequences as an administrator sees them.

use std::sync::Arc;

use catalog::id::{PackageId, UpdateId};
use catalog::problem::{Code, Problem};
use jiff::Timestamp;
use schema::sequences::SequenceRow;
use serde::{Deserialize, Serialize};

use super::surroundings::{Known, sequence};
use crate::admin::Answer;
use crate::clock;
use crate::device_plane::beside;
use crate::sequence::choose::{self, Choice, Device};
use crate::sequence::lint::{self, Finding, Severity};
use crate::sequence::refs::Target;
use crate::sequence::{Action, Sequence, diff};
use crate::site::Site;
use crate::software::images;

/// A task sequence.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Shown {
    /// Its id.
    pub id: PackageId,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// `upgrade` or `custom`.
    pub kind: String,
    /// Its deployments are offered.
    pub enabled: bool,
    /// Nothing keeps it from being deployed.
    pub deployable: bool,
    /// One more on each change.
    pub revision: u32,
    /// Steps in it.
    pub steps: usize,
    /// Groups in it.
    pub groups: usize,
    /// Bytes of the document.
    pub bytes: usize,
    /// When it changed last.
    pub changed: Timestamp,
    /// The tree, a line a node.
    pub tree: Vec<String>,
    /// What is kept sealed, and what may be told of it: `sealed-1 MAK/other *****`.
    pub secrets: Vec<String>,
    /// What was found.
    pub findings: Vec<Finding>,
    /// The document.
    pub document: String,
    /// Of a change: what it means for deployments that are there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

fn shown(row: &SequenceRow, known: &Known, secrets: Vec<String>) -> Result<Shown, Problem> {
    let sequence = Sequence::parse(&row.document)?;
    let findings = known.findings(&row.id, &sequence);
    let (steps, groups) = sequence.counts();
    Ok(Shown {
        id: row.id.clone(),
        name: row.name.clone(),
        description: sequence.description.clone(),
        kind: sequence.kind.word().to_owned(),
        enabled: row.enabled,
        deployable: steps > 0 && findings.iter().all(|finding| finding.severity != Severity::Error),
        revision: row.revision,
        steps,
        groups,
        bytes: row.document.len(),
        changed: row.changed,
        tree: sequence.tree(),
        secrets,
        findings,
        document: row.document.clone(),
        notes: Vec::new(),
    })
}

/// What is shown of a task sequence that was just changed.
///
/// # Errors
/// `TASK_SEQUENCE_NOT_FOUND`, those of the database.
pub async fn one(site: &Arc<Site>, id: &PackageId) -> Result<Shown, Problem> {
    let row = sequence(site, id.as_str()).await?;
    let wanted = id.clone();
    let secrets = site.read(move |r| r.sequence_secrets(&wanted)).await?;
    let secrets = secrets
        .iter()
        .map(|secret| format!("sealed-{} {} {}", secret.number, secret.label, crate::sequence::key::MASK));
    shown(&row, &Known::of(site).await?, secrets.collect())
}

/// All of them.
///
/// # Errors
/// Those of the database.
pub async fn list(site: &Arc<Site>) -> Result<Answer, Problem> {
    let known = Known::of(site).await?;
    let rows = site.read(|r| r.sequences()).await?;
    let all: Vec<_> = rows.iter().map(|row| shown(row, &known, Vec::new())).collect::<Result<_, _>>()?;
    Answer::of(&all)
}

/// One of them.
///
/// # Errors
/// `TASK_SEQUENCE_NOT_FOUND`, `AMBIGUOUS`.
pub async fn show(site: &Arc<Site>, name: &str) -> Result<Answer, Problem> {
    Answer::of(&one(site, &sequence(site, name).await?.id).await?)
}

/// What was found in a task sequence.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Linted {
    /// Its id.
    pub id: PackageId,
    /// Its name.
    pub name: String,
    /// What was found.
    pub findings: Vec<Finding>,
}

/// What is wrong with it.
///
/// # Errors
/// `TASK_SEQUENCE_NOT_FOUND`; where something keeps it from being deployed, the first of that, with the findings.
pub async fn lint(site: &Arc<Site>, name: &str, strict: bool) -> Result<Answer, Problem> {
    let row = sequence(site, name).await?;
    let known = Known::of(site).await?;
    let mut findings = known.findings(&row.id, &Sequence::parse(&row.document)?);
    if strict {
        findings = lint::strict(findings);
    }
    let problem = lint::refuse_errors(&findings).err();
    Answer::partly(&Linted { id: row.id, name: row.name, findings }, problem)
}

/// What a task sequence refers to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct References {
    /// Its id.
    pub id: PackageId,
    /// Every reference.
    pub references: Vec<Referenced>,
    /// With `--pre-download`: what is downloaded before the run.
    pub pre_download: Vec<String>,
    /// With `--pre-download`: what is not, and why.
    pub excluded: Vec<String>,
    /// Remarks.
    pub notes: Vec<String>,
}

/// One reference.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Referenced {
    /// Number of the step.
    pub step: usize,
    /// `feature-update`, `image` or `app`.
    pub kind: String,
    /// The id.
    pub id: String,
    /// For people.
    pub title: String,
    /// Bytes of its content.
    pub bytes: u64,
    /// Whether it can be had: `downloaded`, `stored`, `metadata`, `missing`, `retired`, or why it is not deployable.
    pub availability: String,
    /// The step is not disabled.
    pub enabled: bool,
}

/// What a task sequence refers to, and what may be done with the content.
///
/// # Errors
/// `RUN_FROM_DP_FEATURE_UPDATE`, `TASK_SEQUENCE_NOT_FOUND`.
pub async fn refs(
    site: &Arc<Site>,
    name: &str,
    pre_download: bool,
    run_from_dp: bool,
) -> Result<Answer, Problem> {
    let row = sequence(site, name).await?;
    let sequence = Sequence::parse(&row.document)?;
    if run_from_dp {
        sequence.may_run_from_points()?;
    }
    let known = Known::of(site).await?;
    let references: Vec<_> = sequence
        .references()
        .into_iter()
        .map(|reference| {
            let (title, bytes, availability) = told(&known, &reference.target);
            Referenced {
                step: reference.step,
                kind: reference.target.kind().to_owned(),
                id: reference.target.id(),
                title,
                bytes,
                availability,
                enabled: reference.enabled,
            }
        })
        .collect();
    let mut answer = References {
        id: row.id,
        references,
        pre_download: Vec::new(),
        excluded: Vec::new(),
        notes: Vec::new(),
    };
    if pre_download {
        let (before, left_out) = sequence.predownload();
        answer.excluded =
            left_out.iter().map(|target| format!("{} excluded: feature-update", target.id())).collect();
        if before.is_empty() {
            let page = Code::PredownloadHasNoEffect.page();
            answer.notes.push(format!("{}: {}", Code::PredownloadHasNoEffect, page.meaning));
        }
        answer.pre_download = before.iter().map(Target::id).collect();
    }
    Answer::of(&answer)
}

fn told(known: &Known, target: &Target) -> (String, u64, String) {
    let missing = || ("-".to_owned(), 0, "missing".to_owned());
    match target {
        Target::FeatureUpdate(id) => known
            .updates
            .iter()
            .find(|listed| listed.update.id.update == *id)
            .map_or_else(missing, |listed| {
                let state = match listed.reasons.first() {
                    Some(reason) => reason.word(),
                    None if listed.update.downloaded => "downloaded",
                    None => "metadata",
                };
                (listed.update.title.clone(), listed.update.size, state.to_owned())
            }),
        Target::Image(id) => known
            .images
            .iter()
            .find(|row| row.id == *id)
            .map_or_else(missing, |row| (row.name.clone(), row.size, "stored".to_owned())),
        Target::Application(id) => known.apps.iter().find(|row| row.id == *id).map_or_else(missing, |row| {
            let state = if row.retired { "retired" } else { "stored" };
            (row.name.clone(), row.files.iter().map(|file| file.size).sum(), state.to_owned())
        }),
    }
}

/// What a device would do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Planned {
    /// Id of the task sequence.
    pub id: PackageId,
    /// Whether the device can be upgraded by it.
    pub eligible: bool,
    /// Of each Upgrade Operating System step: number and choice.
    pub choices: Vec<(usize, Choice)>,
}

/// What a device would do with a task sequence (mission rows M02, M03 and M36). What is deployed to every device beside it is
/// thought of, as a run does.
///
/// # Errors
/// `UPGRADE_PATH_UNSUPPORTED` where the device cannot become what an image holds.
pub async fn plan(site: &Arc<Site>, name: &str, device: &Device) -> Result<Answer, Problem> {
    let row = sequence(site, name).await?;
    let sequence = Sequence::parse(&row.document)?;
    let known = Known::of(site).await?;
    let beside = beside_everybody(site).await?;
    let mut planned = Planned { id: row.id, eligible: true, choices: Vec::new() };
    let mut problem = None;
    for at in sequence.steps().into_iter().filter(|at| at.enabled) {
        let Action::UpgradeOs(upgrade) = &at.step.action else { continue };
        if !upgrade.feature_updates.is_empty() {
            let candidates: Vec<_> =
                upgrade.feature_updates.iter().filter_map(|id| known.candidate(id)).collect();
            let choice = choose::first_applicable(&candidates, device, &beside);
            if choice.chosen.is_none() {
                problem = Some(none_applies(at.number, &choice));
            }
            planned.choices.push((at.number, choice));
        } else if let Some(image) =
            upgrade.image.as_ref().and_then(|id| known.images.iter().find(|r| r.id == *id))
        {
            let edition = images::edition(image, upgrade.edition_index)?;
            let target = images::os_type(&image.info);
            let build = edition.version.map(|version| (version.build, version.revision));
            if let Err(refused) = choose::path(device, target, build) {
                problem = Some(refused);
            }
        }
    }
    planned.eligible = problem.is_none();
    Answer::partly(&planned, problem)
}

/// Updates that are deployed beside task sequences to every device. In which other collections one of these facts would be,
/// nobody has said.
async fn beside_everybody(site: &Arc<Site>) -> Result<Vec<UpdateId>, Problem> {
    let (rows, collections) = site.read(|r| Ok((r.update_deployments()?, r.collections()?))).await?;
    let built_in = collections.iter().filter(|collection| collection.built_in);
    let names: Vec<&str> = built_in.map(|collection| collection.name.as_str()).collect();
    let updates = beside::updates(&rows, &beside::Files::new(), &names, clock::now());
    Ok(updates.into_iter().map(|update| update.id).collect())
}

fn none_applies(step: usize, choice: &Choice) -> Problem {
    let message = format!("step {step}: none of its feature updates applies to the device");
    let told = |one: &choose::Considered| {
        one.skipped.as_ref().map(|why| format!("{} {}: {why}", one.id.short(), one.title))
    };
    choice
        .considered
        .iter()
        .filter_map(told)
        .fold(Problem::new(Code::UpgradePathUnsupported, message), Problem::because)
}

/// What differs between two task sequences.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Differences {
    /// Lines with `-` and `+`, each under the step in which it stands.
    pub lines: Vec<String>,
}

/// What differs between two task sequences.
///
/// # Errors
/// `TASK_SEQUENCE_NOT_FOUND`.
pub async fn diff(site: &Arc<Site>, one: &str, other: &str) -> Result<Answer, Problem> {
    let (one, other) = (sequence(site, one).await?, sequence(site, other).await?);
    Answer::of(&Differences { lines: diff::changes(&one.document, &other.document) })
}
