//! One synchronisation: every catalog and every update server of every source, each alone. One bad source never stops
//! the others. What a catalog said is not recorded in part; what an update server gave before it failed is kept.

mod catalogs;
mod preflight;
mod report;
mod servers;
#[cfg(test)]
mod tests;

pub mod settle;

use std::sync::Arc;

use catalog::id::RunId;
use catalog::problem::{Code, Problem};
use jiff::Timestamp;
use schema::runs::{Run, RunState};
use schema::updates::SERVER_LOCATION;
use tracing::{Instrument as _, info, info_span};

pub use preflight::{SourceTest, Step, Tested, test};
pub use report::{CatalogReport, Report, ServerReport};

use crate::admin::{Answer, Caller, Work};
use crate::clock;
use crate::config::Settings;
use crate::licensing;
use crate::site::Site;
use crate::tasks::Progress;
use crate::upstream::esd_catalog::SIGNATURE;

/// Whether any source is configured that can be asked: a site may live from what is imported.
pub(crate) fn can_ask(settings: &Settings) -> bool {
    !catalogs::asked(settings).is_empty() || !servers::asked(settings).is_empty()
}

/// Starts a run as a task; a run that is under way is joined.
///
/// # Errors
/// `NO_CATALOG`, or those of the database.
pub async fn start(site: &Arc<Site>, full: bool, caller: &Caller) -> Result<Work, Problem> {
    let settings = site.settings();
    if !can_ask(&settings) {
        return Err(Problem::new(Code::NoCatalog, "no source is configured that can be asked"));
    }
    if caller.dry_run {
        return Ok(plan(site)?.into());
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
fn plan(site: &Arc<Site>) -> Result<Answer, Problem> {
    let settings = site.settings();
    let catalogs = catalogs::asked(&settings).into_iter().map(|(source, location)| CatalogReport {
        source: source.name.clone(),
        location,
        signature: SIGNATURE.to_owned(),
        ..CatalogReport::default()
    });
    let servers = servers::asked(&settings).into_iter().map(|source| ServerReport {
        source: source.name.clone(),
        url: source.server().map_or_else(|| source.url.clone(), String::from),
        ..ServerReport::default()
    });
    Answer::of(&serde_json::json!({
        "would_ask": catalogs.collect::<Vec<_>>(),
        "would_ask_servers": servers.collect::<Vec<_>>(),
    }))
}

/// One run, from its row in the database to its report.
///
/// # Errors
/// The problem of the run where no source at all could be synchronised, and those of the database.
pub async fn once(site: &Arc<Site>, full: bool, progress: &Progress) -> Result<Answer, Problem> {
    let started = clock::now();
    let kind = if full { "full" } else { "delta" };
    let run = site.write_aside(move |w| w.begin_run(kind, started)).await?;
    let span = info_span!("sync.run", run = %run);
    let ended = work(site, run, started, full, progress).instrument(span).await;
    let (state, report, problem) = match &ended {
        Ok((report, End::Whole)) => (RunState::Succeeded, Some(report), None),
        Ok((report, End::Partly(problem))) => (RunState::Partly, Some(report), Some(problem.clone())),
        Ok((report, End::Failed(problem))) => (RunState::Failed, Some(report), Some(problem.clone())),
        Err(problem) => (RunState::Failed, None, Some(problem.clone())),
    };
    let report_json = report.and_then(|report| serde_json::to_value(report).ok());
    let finished = clock::now();
    site.write_aside(move |w| w.finish_run(run, state, finished, report_json.as_ref(), problem.as_ref()))
        .await?;
    let (report, end) = ended?;
    info!("run {run}: {} new, {} revised, {} withdrawn", report.new, report.revised, report.withdrawn);
    match end {
        End::Whole => Answer::of(&report),
        End::Partly(problem) => Answer::partly(&report, Some(problem)),
        End::Failed(problem) => Err(problem),
    }
}

/// How a run ended.
enum End {
    Whole,
    Partly(Problem),
    Failed(Problem),
}

async fn work(
    site: &Arc<Site>,
    run: RunId,
    started: Timestamp,
    full: bool,
    progress: &Progress,
) -> Result<(Report, End), Problem> {
    let gone = gone(site).await?;
    let catalogs = catalogs::synchronise(site, full, progress).await;
    // What a place lists that is asked no more, others may name too: then it stays.
    let servers = servers::synchronise(site, full, !gone.is_empty(), progress).await?;
    let (withdrawn, ended) = end_listings(site, gone, &catalogs, &servers).await?;
    let recorded = withdrawn > 0
        || catalogs.iter().any(|one| one.problem.is_none() && !one.unchanged)
        || servers.iter().any(|one| one.outcome.categories.fetched + one.outcome.updates.fetched > 0);
    // Also where a source failed: what it gave before stands, and time alone expires.
    let settled = settle::settle(site, recorded).await?;
    let mut report = Report {
        run,
        started,
        seconds: 0.0,
        new: catalogs.iter().map(|c| c.new).sum::<u64>() + settled.offered.new,
        revised: catalogs.iter().map(|c| c.revised).sum::<u64>() + settled.offered.revised,
        withdrawn: catalogs.iter().map(|c| c.withdrawn).sum::<u64>() + withdrawn,
        catalogs,
        servers,
        listed: 0,
        license_pending: 0,
        notes: ended.into_iter().chain(settled.notes).collect(),
    };
    let end = end(&report);
    if !matches!(end, End::Failed(_)) {
        if site.settings().sync.accept_licenses {
            report.notes.extend(licensing::accept_by_configuration(site, progress).await?);
        }
        let counts = crate::updates::counts(site).await?;
        (report.listed, report.license_pending) = (counts.listed, counts.license_pending);
        report.notes.extend(counts.notes);
    }
    report.seconds = clock::now().duration_since(started).as_secs_f64();
    Ok((report, end))
}

/// Catalogs and servers that were asked before and are configured no more, or stand there otherwise: source and location.
async fn gone(site: &Arc<Site>) -> Result<Vec<(String, String)>, Problem> {
    let settings = site.settings();
    let catalogs =
        catalogs::asked(&settings).into_iter().map(|(source, location)| (source.name.clone(), location));
    let servers =
        servers::asked(&settings).into_iter().map(|source| (source.name.clone(), SERVER_LOCATION.to_owned()));
    let asked: Vec<(String, String)> = catalogs.chain(servers).collect();
    site.read(move |r| r.places_besides(&asked)).await
}

/// What was listed by places that are `gone` is listed by them no more, once all the others have answered: a name or an address
/// that was mistyped withdraws nothing. How many updates are listed nowhere any more for that, and what there is to say.
async fn end_listings(
    site: &Arc<Site>,
    mut gone: Vec<(String, String)>,
    catalogs: &[CatalogReport],
    servers: &[ServerReport],
) -> Result<(u64, Vec<String>), Problem> {
    // One may have been configured again meanwhile.
    gone.retain(|(source, location)| {
        !catalogs.iter().any(|one| (&one.source, &one.location) == (source, location))
            && !servers.iter().any(|one| one.source == *source && location == SERVER_LOCATION)
    });
    let all_answered = !catalogs.iter().any(|one| one.problem.as_ref().is_some_and(is_failure))
        && !servers.iter().any(|one| one.problem.as_ref().is_some_and(is_failure));
    let becomes = match all_answered {
        true => "what it alone listed is withdrawn",
        false => "what it listed stays until every source was synchronised",
    };
    let mut notes = Vec::new();
    for (source, location) in &gone {
        notes.push(match location.as_str() {
            SERVER_LOCATION => format!("the update server `{source}` is asked no more: {becomes}"),
            _ => format!("`{location}` of `{source}` is asked no more: {becomes}"),
        });
    }
    if !all_answered || gone.is_empty() {
        return Ok((0, notes));
    }
    Ok((site.write(move |w| w.end_listings(&gone)).await?, notes))
}

/// Revisions that are set aside are part of a source that was synchronised.
fn is_failure(problem: &Problem) -> bool {
    problem.code != Code::RevisionQuarantined
}

/// What the sources together make of the run.
fn end(report: &Report) -> End {
    let catalogs = report.catalogs.iter().map(|one| (&one.location, one.problem.as_ref()));
    let servers = report.servers.iter().map(|one| (&one.url, one.problem.as_ref()));
    let all: Vec<(&String, Option<&Problem>)> = catalogs.chain(servers).collect();
    let with_problems = || all.iter().filter_map(|(place, problem)| problem.map(|problem| (*place, problem)));
    let failed: Vec<_> = with_problems().filter(|(_, problem)| is_failure(problem)).collect();
    let what = if report.servers.is_empty() { "catalogs" } else { "sources" };
    match (failed.len(), with_problems().count()) {
        (0, 0) => End::Whole,
        (0, 1) => with_problems().next().map_or(End::Whole, |(_, problem)| End::Partly(problem.clone())),
        (n, _) if n == all.len() => {
            let first = failed[0].1.clone();
            End::Failed(match n {
                1 => first,
                n => first.because(format!("and {} other {what} failed too", n - 1)),
            })
        }
        (n, _) => {
            let text = match n {
                0 => "revisions of several update servers are set aside".to_owned(),
                n => format!("{n} of {} {what} could not be synchronised", all.len()),
            };
            let code = if n == 0 { Code::RevisionQuarantined } else { Code::SyncPartial };
            let problem = Problem::new(code, text).keeping(match report.servers.is_empty() {
                true => format!("{} catalogs are recorded whole; nothing of the others", all.len() - n),
                false => "what was recorded is kept; a catalog is recorded whole or not at all".to_owned(),
            });
            End::Partly(
                with_problems().fold(problem, |all, (place, cause)| all.because(format!("{place}: {cause}"))),
            )
        }
    }
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
