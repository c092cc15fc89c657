//! Deployments as administrators see them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use catalog::id::PackageId;
use catalog::problem::{Code, Problem};
use jiff::Timestamp;
use schema::deployments::{ContentState, DeploymentRow, Purpose};
use schema::devices::DeviceRun;
use schema::packages::FileState;
use schema::points::Placement;
use schema::sequences::SequenceRow;
use serde::{Deserialize, Serialize};

use super::members::Members;
use super::named;
use super::options::Options;
use super::package::not_downloaded;
use super::status::{Buckets, state_of};
use crate::admin::Answer;
use crate::authoring::surroundings::Known;
use crate::blocking::blocking;
use crate::clock;
use crate::packages::each_once;
use crate::policy::{Bucket, Rerun};
use crate::sequence::Sequence;
use crate::sequence::lint::{self, Finding, Severity};
use crate::site::Site;

/// A deployment with what it is about and how it is doing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Shown {
    /// The deployment.
    #[serde(flatten)]
    pub row: DeploymentRow,
    /// Name of its task sequence.
    pub name: String,
    /// `scheduled`, `offered`, `due`, `expired`, `stopped` or `disabled`.
    pub state: String,
    /// Devices in its collection.
    pub devices: u64,
    /// How they are doing.
    pub buckets: Buckets,
    /// How its package is doing.
    pub progress: Option<Progress>,
    /// How its images and applications are doing on the points that they were sent to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub software: Vec<Placement>,
    /// Why it would be refused today, though it was made: a licence that was declined since, an update that is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub would_be_refused: Option<Code>,
    /// What would refuse it is passed over by devices: they take another feature update of the same step.
    #[serde(default)]
    pub passed_over: bool,
    /// Warnings and remarks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Shown {
    /// With these notes before its own.
    pub(super) fn after(self, notes: Vec<String>) -> Self {
        Self { notes: notes.into_iter().chain(self.notes).collect(), ..self }
    }
}

/// How the content of a deployment is doing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Progress {
    /// The package.
    pub package: PackageId,
    /// Its name; empty where it is gone.
    pub name: String,
    /// Files that are downloaded.
    pub stored: u64,
    /// All its files.
    pub files: u64,
    /// How it is doing on each point.
    pub points: Vec<Placement>,
    /// What is pending, in words.
    pub pending: Vec<String>,
}

/// One deployment.
///
/// # Errors
/// `DEPLOYMENT_NOT_FOUND`, `AMBIGUOUS`.
pub async fn one(site: &Arc<Site>, name: &str) -> Result<Shown, Problem> {
    let row = named(site, name).await?;
    let (progress, software) = (progress(site, &row).await?, software(site, &row).await?);
    let mut all = shown(site, vec![row]).await?;
    let shown = all.pop().ok_or_else(|| Problem::new(Code::Internal, "a deployment is lost"))?;
    Ok(Shown { progress, software, ..shown })
}

/// All of them.
///
/// # Errors
/// Those of the database.
pub async fn list(site: &Arc<Site>) -> Result<Answer, Problem> {
    let rows = site.read(|r| r.deployments()).await?;
    Answer::of(&shown(site, rows).await?)
}

/// Deployments that are offered or due, together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployed {
    /// How many.
    pub active: u64,
    /// Devices in their collections; one in two collections counts twice.
    pub devices: u64,
    /// How they are doing.
    pub buckets: Buckets,
    /// Those that would be refused today, with the code of why, but for what devices pass over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub would_be_refused: Vec<(PackageId, Code)>,
}

/// How all deployments that are offered or due are doing.
///
/// # Errors
/// Those of the database.
pub async fn deployed(site: &Arc<Site>) -> Result<Deployed, Problem> {
    let rows = site.read(|r| r.deployments()).await?;
    if rows.is_empty() {
        return Ok(Deployed::default());
    }
    let mut sum = Deployed::default();
    for one in shown(site, rows).await?.iter().filter(|one| matches!(one.state.as_str(), "offered" | "due")) {
        let (all, some) = (&mut sum.buckets, &one.buckets);
        sum.active += 1;
        sum.devices += one.devices;
        let refused = one.would_be_refused.filter(|_| !one.passed_over);
        sum.would_be_refused.extend(refused.map(|code| (one.row.id.clone(), code)));
        all.success += some.success;
        all.in_progress += some.in_progress;
        all.error += some.error;
        all.requirements_not_met += some.requirements_not_met;
        all.unknown += some.unknown;
    }
    Ok(sum)
}

/// Those of `rows`, without the progress of their content.
pub(super) async fn shown(site: &Arc<Site>, rows: Vec<DeploymentRow>) -> Result<Vec<Shown>, Problem> {
    let (sequences, collections, counts, everybody) = site
        .read(|r| {
            let everybody = r.known_devices()?.len() as u64;
            Ok((r.sequences()?, r.collections()?, r.run_counts()?, everybody))
        })
        .await?;
    let mut reported: HashMap<PackageId, Buckets> = HashMap::new();
    for (id, state, runs) in counts {
        reported.entry(id).or_default().add(&state, u64::from(runs));
    }
    let now = clock::now();
    let since = since(site, &rows, &sequences, now).await?;
    Ok(rows
        .into_iter()
        .map(|mut row| {
            let since = since.get(&row.sequence).filter(|_| is_live(&row, now));
            let notes = since.map(|since| since.told(&mut row)).unwrap_or_default();
            let sequence = sequences.iter().find(|sequence| sequence.id == row.sequence);
            let collection = collections.iter().find(|collection| collection.name == row.collection);
            let devices = match collection {
                Some(collection) if collection.built_in => everybody,
                Some(collection) => collection.devices.len() as u64,
                None => 0,
            };
            let mut buckets = reported.remove(&row.id).unwrap_or_default();
            buckets.unknown += devices.saturating_sub(buckets.all());
            let enabled = sequence.is_some_and(|sequence| sequence.enabled);
            let state = match () {
                () if row.stopped.is_some() => "stopped",
                () if is_expired(&row, now) => "expired",
                () if !enabled => "disabled",
                () if now < row.available => "scheduled",
                () if row.deadline.is_some_and(|deadline| deadline <= now) => "due",
                () => "offered",
            };
            let name = sequence.map(|sequence| sequence.name.clone()).unwrap_or_default();
            let state = state.to_owned();
            Shown {
                row,
                name,
                state,
                devices,
                buckets,
                progress: None,
                software: Vec::new(),
                would_be_refused: since.and_then(|since| since.errors.first()).map(|finding| finding.code),
                passed_over: since.is_some_and(|since| since.passed_over),
                notes,
            }
        })
        .collect())
}

fn is_expired(row: &DeploymentRow, now: Timestamp) -> bool {
    row.expires.is_some_and(|expires| expires <= now)
}

pub(super) fn is_live(row: &DeploymentRow, now: Timestamp) -> bool {
    row.stopped.is_none() && !is_expired(row, now)
}

/// What became of the task sequences of those of `rows` that are neither stopped nor over.
async fn since(
    site: &Arc<Site>,
    rows: &[DeploymentRow],
    sequences: &[SequenceRow],
    now: Timestamp,
) -> Result<HashMap<PackageId, Since>, Problem> {
    let live: HashSet<&PackageId> =
        rows.iter().filter(|row| is_live(row, now)).map(|row| &row.sequence).collect();
    if live.is_empty() {
        return Ok(HashMap::new());
    }
    let known = Known::of(site).await?;
    let deployed: Vec<SequenceRow> = sequences.iter().filter(|row| live.contains(&row.id)).cloned().collect();
    blocking(move || Ok(deployed.into_iter().map(|row| (row.id.clone(), Since::of(&row, &known))).collect()))
        .await
}

/// What became of a task sequence, and of what it refers to, since it was deployed.
#[derive(Default)]
struct Since {
    /// What would keep it from being deployed today, as far as the task sequence and what it refers to are concerned.
    errors: Vec<Finding>,
    /// All of that is about one of several feature updates of a step, so devices take the next.
    passed_over: bool,
    /// Titles of feature updates that are not in the library.
    missing: Vec<String>,
}

impl Since {
    fn of(row: &SequenceRow, known: &Known) -> Self {
        // One that cannot be read was recorded by another version: nothing is known of it.
        let Ok(sequence) = Sequence::parse(&row.document) else { return Self::default() };
        let mut errors = known.findings(&row.id, &sequence);
        errors.retain(|finding| finding.severity == Severity::Error);
        let is_passed_over =
            |finding: &Finding| lint::is_of_one_of_several(finding, &sequence, &known.surroundings);
        let passed_over = !errors.is_empty() && errors.iter().all(is_passed_over);
        let missing = not_downloaded(&sequence, known).into_iter();
        Self { errors, passed_over, missing: missing.map(|listed| listed.update.title.clone()).collect() }
    }

    /// Remarks about a deployment of it, whose content is not what it was when it was brought.
    fn told(&self, row: &mut DeploymentRow) -> Vec<String> {
        let words = |finding: &Finding| format!("{}: {}; {}", finding.code, finding.message, finding.help);
        let mut notes: Vec<String> = self.errors.iter().map(words).collect();
        if row.content != ContentState::Ready || self.missing.is_empty() {
            return notes;
        }
        if row.options["cloud"] == true {
            row.content = ContentState::None;
            return notes;
        }
        row.content = ContentState::Pending;
        let package = match &row.package {
            Some(package) => format!("put it into package {package}"),
            None => "put it into a package".to_owned(),
        };
        let titles = self.missing.join(", ");
        notes.push(format!(
            "not downloaded, and nobody brings it: {titles}; {package} with `spsync package add`, then `spsync package download`"
        ));
        notes
    }
}

/// What there is to say of the deployments of task sequences that were just changed.
///
/// # Errors
/// Those of the database.
pub(crate) async fn notes_of(site: &Arc<Site>, changed: &[PackageId]) -> Result<Vec<String>, Problem> {
    let (mut rows, sequences) = site.read(|r| Ok((r.deployments()?, r.sequences()?))).await?;
    rows.retain(|row| changed.contains(&row.sequence));
    let now = clock::now();
    let since = since(site, &rows, &sequences, now).await?;
    let mut notes = Vec::new();
    for mut row in rows.into_iter().filter(|row| is_live(row, now)) {
        let mut told = since.get(&row.sequence).map(|since| since.told(&mut row)).unwrap_or_default();
        told.extend(run_again(site, &row).await?);
        notes.extend(told.into_iter().map(|note| format!("deployment {}: {note}", row.id)));
    }
    Ok(notes)
}

/// Which devices a change of its task sequence makes run a required deployment again: those on which it failed, where its rule lets
/// them (decision 0026).
async fn run_again(site: &Arc<Site>, row: &DeploymentRow) -> Result<Option<String>, Problem> {
    let rule = serde_json::from_value::<Options>(row.options.clone()).map(|options| options.rerun);
    if row.purpose != Purpose::Required || !matches!(rule, Ok(Rerun::Always | Rerun::IfFailed)) {
        return Ok(None);
    }
    let id = row.id.clone();
    let runs = site.read(move |r| r.runs_of(&id)).await?;
    let members = Members::of(site).await?.in_collection(&row.collection);
    let members: HashSet<String> = members.iter().map(|device| device.to_ascii_lowercase()).collect();
    let failed = |run: &&DeviceRun| {
        state_of(&run.state).bucket() == Bucket::Error && members.contains(&run.device.to_ascii_lowercase())
    };
    Ok(match runs.iter().filter(failed).count() {
        0 => None,
        1 => Some("1 device on which it failed runs it again, as it is now".to_owned()),
        failed => Some(format!("{failed} devices on which it failed run it again, as it is now")),
    })
}

/// The images and applications of its task sequence, wherever they were sent.
async fn software(site: &Arc<Site>, row: &DeploymentRow) -> Result<Vec<Placement>, Problem> {
    let id = row.sequence.clone();
    let sequence = site.read(move |r| r.sequence(&id)).await?;
    let Some(Ok(sequence)) = sequence.map(|row| Sequence::parse(&row.document)) else {
        return Ok(Vec::new());
    };
    let enabled = sequence.references().into_iter().filter(|reference| reference.enabled);
    // Feature updates have ids of another form, and go in packages.
    let mut ids: Vec<PackageId> =
        enabled.filter_map(|reference| reference.target.id().parse().ok()).collect();
    ids.extend(sequence.boot_image);
    site.read(move |r| r.placements_of(&ids)).await
}

async fn progress(site: &Arc<Site>, row: &DeploymentRow) -> Result<Option<Progress>, Problem> {
    let Some(package) = row.package.clone() else { return Ok(None) };
    let wanted = package.clone();
    let (found, files, points) = site
        .read(move |r| {
            let points = r.placements_of(std::slice::from_ref(&wanted))?;
            Ok((r.package(&wanted)?, r.package_files(&wanted)?, points))
        })
        .await?;
    let files = each_once(&files);
    let stored = files.iter().filter(|file| file.state == FileState::Stored).count() as u64;
    let mut pending = Vec::new();
    if stored < files.len() as u64 {
        pending.push(format!("{} of {} files are not downloaded", files.len() as u64 - stored, files.len()));
    }
    if row.content != ContentState::Ready && points.is_empty() {
        pending.push("it is on no distribution point".to_owned());
    }
    let on_the_way = points.iter().filter(|placed| placed.state != schema::points::ContentState::Success);
    pending.extend(on_the_way.map(|placed| format!("{}: {}", placed.point, placed.state)));
    let name = found.map(|package| package.name).unwrap_or_default();
    Ok(Some(Progress { package, name, stored, files: files.len() as u64, points, pending }))
}
