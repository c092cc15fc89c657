//! One synchronisation: every catalog of every source is fetched, read and recorded, each alone. One bad catalog
//! never stops the others, and what it said is not recorded in part.

pub mod settle;

use std::sync::Arc;

use catalog::id::RunId;
use catalog::problem::{Code, Problem};
use jiff::Timestamp;
use schema::runs::{Run, RunState};
use schema::tasks::Unit;
use serde::{Deserialize, Serialize};
use tracing::{Instrument as _, info, info_span, warn};

use crate::admin::{Answer, Caller, Work};
use crate::clock;
use crate::licensing;
use crate::site::Site;
use crate::tasks::Progress;
use crate::upstream::esd_catalog::{self, Fetched};

/// What one run did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// The run's number.
    pub run: RunId,
    /// When it began.
    pub started: Timestamp,
    /// Seconds it took.
    pub seconds: f64,
    /// Each catalog.
    pub catalogs: Vec<CatalogReport>,
    /// Updates that were not known before.
    pub new: u64,
    /// Updates of which another file is published now.
    pub revised: u64,
    /// Updates that no catalog lists any more.
    pub withdrawn: u64,
    /// Updates that can be chosen now, after selection.
    pub listed: u64,
    /// Listed updates that wait for a licence decision.
    pub license_pending: u64,
    /// Remarks: what is left out, and why.
    pub notes: Vec<String>,
}

/// What came of one catalog.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CatalogReport {
    /// Name of the source.
    pub source: String,
    /// URL or file.
    pub location: String,
    /// The document was already recorded.
    pub unchanged: bool,
    /// Version that it states.
    pub version: String,
    /// `<File>` records in it.
    pub records: u64,
    /// ESDs in it: several records name one file.
    pub esds: u64,
    /// Bytes of all its ESDs.
    pub bytes: u64,
    /// Languages in it.
    pub languages: u64,
    /// Updates not known before.
    pub new: u64,
    /// Updates with another file than before.
    pub revised: u64,
    /// Updates that it no longer lists.
    pub withdrawn: u64,
    /// Records that could not be used, with the reason.
    pub refused: Vec<String>,
    /// How far its origin is proven.
    pub signature: String,
    /// Why it was not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// Starts a run as a task; a run that is under way is joined.
///
/// # Errors
/// `NO_CATALOG`, or those of the database.
pub async fn start(site: &Arc<Site>, full: bool, caller: &Caller) -> Result<Work, Problem> {
    if site.settings().sources.is_empty() {
        return Err(Problem::new(Code::NoCatalog, "no source is configured"));
    }
    if caller.dry_run {
        return Ok(plan(site).await?.into());
    }
    let task = site
        .tasks
        .start("sync", "synchronise".to_owned(), "sync".to_owned(), |progress| {
            let site = site.clone();
            async move { once(&site, full, &progress).await }
        })
        .await?;
    Ok(Work::Started(task))
}

/// With `--dry-run`: what would be asked, nothing else.
async fn plan(site: &Arc<Site>) -> Result<Answer, Problem> {
    let mut catalogs = Vec::new();
    for source in &site.settings().sources {
        catalogs.extend(esd_catalog::locations(source).into_iter().map(|location| CatalogReport {
            source: source.name.clone(),
            location,
            signature: "not checked".to_owned(),
            ..CatalogReport::default()
        }));
    }
    Answer::of(&serde_json::json!({ "would_ask": catalogs }))
}

/// One run, from its row in the database to its report.
///
/// # Errors
/// The problem of the run where no catalog at all could be recorded, and those of the database.
pub async fn once(site: &Arc<Site>, full: bool, progress: &Progress) -> Result<Answer, Problem> {
    let started = clock::now();
    let kind = if full { "full" } else { "delta" };
    let run = site.write(move |w| w.begin_run(kind, started)).await?;
    let span = info_span!("sync.run", run = %run);
    let ended = work(site, run, started, full, progress).instrument(span).await;
    let (state, report, problem) = match &ended {
        Ok((report, None)) => (RunState::Succeeded, Some(report), None),
        Ok((report, Some(problem))) => (RunState::Partly, Some(report), Some(problem.clone())),
        Err(problem) => (RunState::Failed, None, Some(problem.clone())),
    };
    let report_json = report.and_then(|report| serde_json::to_value(report).ok());
    site.write(move |w| w.finish_run(run, state, clock::now(), report_json.as_ref(), problem.as_ref()))
        .await?;
    let (report, problem) = ended?;
    info!("run {run}: {} new, {} revised, {} withdrawn", report.new, report.revised, report.withdrawn);
    Answer::partly(&report, problem)
}

async fn work(
    site: &Arc<Site>,
    run: RunId,
    started: Timestamp,
    full: bool,
    progress: &Progress,
) -> Result<(Report, Option<Problem>), Problem> {
    let settings = site.settings();
    let asked: Vec<_> = settings
        .sources
        .iter()
        .flat_map(|source| esd_catalog::locations(source).into_iter().map(move |location| (source, location)))
        .collect();
    progress.phase("catalogs", asked.len() as u64, Unit::Items);
    let mut catalogs = Vec::new();
    for (done, (source, location)) in asked.iter().enumerate() {
        let mut report = CatalogReport {
            source: source.name.clone(),
            location: location.clone(),
            ..CatalogReport::default()
        };
        if let Err(problem) = one(site, source, location, full, &mut report).await {
            warn!("the catalog {location} was not recorded: {problem}");
            report.problem = Some(problem);
        }
        catalogs.push(report);
        progress.at("catalogs", done as u64 + 1);
    }
    let mut report = Report {
        run,
        started,
        seconds: 0.0,
        new: catalogs.iter().map(|c| c.new).sum(),
        revised: catalogs.iter().map(|c| c.revised).sum(),
        withdrawn: catalogs.iter().map(|c| c.withdrawn).sum(),
        catalogs,
        listed: 0,
        license_pending: 0,
        notes: Vec::new(),
    };
    let failed: Vec<_> = report.catalogs.iter().filter_map(|c| c.problem.clone()).collect();
    if !failed.is_empty() && failed.len() == report.catalogs.len() {
        let first = failed[0].clone();
        return Err(match failed.len() {
            1 => first,
            n => first.because(format!("and {} other catalogs failed too", n - 1)),
        });
    }
    progress.end("catalogs", format!("{} new, {} revised", report.new, report.revised));
    let changed = report.catalogs.iter().any(|catalog| !catalog.unchanged);
    let settled = settle::settle(site, changed).await?;
    report.new += settled.offered.new;
    report.revised += settled.offered.revised;
    report.notes.extend(settled.notes);
    if settings.sync.accept_licenses {
        report.notes.extend(licensing::accept_by_configuration(site, progress).await?);
    }
    let counts = crate::updates::counts(site).await?;
    (report.listed, report.license_pending) = (counts.listed, counts.license_pending);
    report.notes.extend(counts.notes);
    report.seconds = clock::now().duration_since(started).as_secs_f64();
    let problem = (!failed.is_empty()).then(|| {
        let kept = report.catalogs.len() - failed.len();
        let mut problem = Problem::new(
            Code::SyncPartial,
            format!("{} of {} catalogs could not be synchronised", failed.len(), report.catalogs.len()),
        )
        .keeping(format!("{kept} catalogs are recorded whole; nothing of the others"));
        for (catalog, cause) in report.catalogs.iter().filter_map(|c| c.problem.as_ref().map(|p| (c, p))) {
            problem = problem.because(format!("{}: {cause}", catalog.location));
        }
        problem
    });
    Ok((report, problem))
}

/// One catalog: fetched, read, and recorded in one transaction.
async fn one(
    site: &Arc<Site>,
    source: &crate::config::Source,
    location: &str,
    full: bool,
    report: &mut CatalogReport,
) -> Result<(), Problem> {
    let (name, place) = (source.name.clone(), location.to_owned());
    let known = site.read(move |r| r.latest_document(&name, &place)).await?;
    report.signature = "not checked".to_owned();
    let settings = site.settings();
    match esd_catalog::fetch(&settings, &site.webs, source, location, known.as_ref(), full).await? {
        Fetched::Unchanged => {
            report.unchanged = true;
            report.version = known.map(|known| known.version).unwrap_or_default();
        }
        Fetched::New { document, catalog } => {
            report.version.clone_from(&catalog.version);
            report.records = catalog.records as u64;
            report.esds = catalog.files.len() as u64;
            report.bytes = catalog.files.iter().map(|file| file.size).sum();
            let mut languages: Vec<_> = catalog.files.iter().map(|file| &file.language).collect();
            languages.sort_unstable();
            languages.dedup();
            report.languages = languages.len() as u64;
            report.refused =
                catalog.refused.iter().map(|r| format!("{}: {}", r.file_name, r.reason)).take(20).collect();
            let recorded = site
                .write(move |w| {
                    let revisions = esd_catalog::revisions(&document.source, &catalog);
                    let links: Vec<_> = catalog
                        .licenses
                        .iter()
                        .map(|link| (link.language.clone(), link.url.clone()))
                        .collect();
                    w.record_catalog(&document, &revisions, &links, clock::now())
                })
                .await?;
            (report.new, report.revised, report.withdrawn) =
                (recorded.new, recorded.revised, recorded.withdrawn);
        }
    }
    Ok(())
}

/// The last runs, newest first.
///
/// # Errors
/// Those of the database.
pub async fn history(site: &Arc<Site>, limit: u32) -> Result<Answer, Problem> {
    Answer::of(&site.read(move |r| r.runs(limit)).await?)
}

/// One run.
///
/// # Errors
/// `RUN_NOT_FOUND`, or those of the database.
pub async fn show(site: &Arc<Site>, run: RunId) -> Result<Answer, Problem> {
    let found: Option<Run> = site.read(move |r| r.run(run)).await?;
    Answer::of(&found.ok_or_else(|| Problem::new(Code::RunNotFound, format!("there is no run {run}")))?)
}
