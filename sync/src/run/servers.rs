//! Update servers of a run: one after the other, each with phases of its own in the task.

use std::sync::Arc;
use std::time::Instant;

use catalog::id::UpdateId;
use catalog::problem::{Code, Problem};
use schema::servers::Scope;
use schema::tasks::Unit;
use tracing::warn;
use url::{Host, Url};

use super::ServerReport;
use crate::config::{Settings, Source, SourceKind};
use crate::site::Site;
use crate::tasks::Progress;
use crate::upstream::server_sync::{self, Brought, Outcome, Plan, Seen, Server};

/// Every source that is an update server.
pub(super) fn asked(settings: &Settings) -> Vec<&Source> {
    let is_server = |source: &&Source| match source.kind {
        SourceKind::MicrosoftUpdate | SourceKind::Wsus => true,
        SourceKind::EsdCatalog | SourceKind::Import => false,
    };
    settings.sources.iter().filter(is_server).collect()
}

/// Synchronises with every update server; with `anew`, all that each of them names is heard once more.
///
/// # Errors
/// Those of the database.
pub(super) async fn synchronise(
    site: &Arc<Site>,
    full: bool,
    anew: bool,
    progress: &Progress,
) -> Result<Vec<ServerReport>, Problem> {
    let settings = site.settings();
    let asked = asked(&settings);
    let mut servers = Vec::new();
    for source in &asked {
        let began = Instant::now();
        let url = server_sync::root(source).map_or_else(|_| source.url.clone(), String::from);
        let mut report = ServerReport { source: source.name.clone(), url, ..ServerReport::default() };
        // One name is enough where there is one server; several are told apart.
        let mut phases = Phases::new(progress, (asked.len() > 1).then_some(source.name.as_str()));
        match one(site, &settings, source, (full, anew), &mut phases, &mut report.outcome).await {
            Ok(()) => report.problem = set_aside(&report),
            Err(problem) => {
                warn!("the update server {} was not synchronised: {problem}", report.url);
                report.problem = Some(kept(naming(problem, &report.url), &report.outcome));
            }
        }
        phases.end(&report.outcome);
        report.seconds = began.elapsed().as_secs_f64();
        servers.push(report);
    }
    Ok(servers)
}

async fn one(
    site: &Arc<Site>,
    settings: &Settings,
    source: &Source,
    (full, anew): (bool, bool),
    phases: &mut Phases<'_>,
    outcome: &mut Outcome,
) -> Result<(), Problem> {
    let server = Server::of(settings, &site.webs, source)?;
    let plan = Plan::of(settings, account_name(site, source), account_guid(site).await?, full, anew);
    server_sync::synchronise(&site.store, &server, plan, |seen| phases.see(seen), outcome).await
}

/// Who we are to an update server; made once.
pub(super) async fn account_guid(site: &Arc<Site>) -> Result<UpdateId, Problem> {
    match site.read(|r| r.known_server_account()).await? {
        Some(known) => Ok(known),
        None => site.write(|w| w.server_account(UpdateId(uuid::Uuid::new_v4()))).await,
    }
}

/// The name that an administrator of a WSUS sees. Microsoft learns nothing of how we are called.
pub(super) fn account_name(site: &Site, source: &Source) -> String {
    let public = Url::parse(&site.settings().public_url()).ok();
    let host = public.as_ref().and_then(Url::host).and_then(|host| match host {
        Host::Domain(name) if name.contains('.') => Some(name.to_owned()),
        _ => None,
    });
    let neutral = || format!("{}.spsync.invalid", site.code().to_string().to_lowercase());
    host.filter(|_| source.kind == SourceKind::Wsus).unwrap_or_else(neutral)
}

/// Revisions that are set aside are worth a word, each run anew.
fn set_aside(report: &ServerReport) -> Option<Problem> {
    let outcome = &report.outcome;
    if outcome.quarantined == 0 {
        return None;
    }
    let text = format!("{} revisions of {} are set aside", outcome.quarantined, report.url);
    let named = outcome.set_aside.iter().take(5);
    let problem = named.fold(Problem::new(Code::RevisionQuarantined, text), |problem, one| {
        problem.because(format!("{}: [{}] {}", one.id, one.code, one.reason))
    });
    Some(problem.keeping("everything else is recorded"))
}

/// Which server it is about: what decides without knowing addresses does not say so.
fn naming(problem: Problem, url: &str) -> Problem {
    let said = problem.causes.iter().chain([&problem.message]).any(|text| text.contains(url));
    if said { problem } else { problem.because(format!("the update server is {url}")) }
}

fn kept(problem: Problem, outcome: &Outcome) -> Problem {
    if problem.state.is_some() {
        return problem;
    }
    let open = |brought: &Brought| (brought.fetched, brought.wanted);
    match (open(&outcome.categories), open(&outcome.updates)) {
        ((_, 0), (_, 0)) => problem.keeping("the database is as it was"),
        ((fetched, wanted), (more, also)) => problem.keeping(format!(
            "{} of {} revisions are kept; the next run goes on there",
            fetched + more,
            wanted + also
        )),
    }
}

/// Phases of the task, as the conversation goes on.
struct Phases<'a> {
    progress: &'a Progress,
    suffix: String,
    begun: Vec<&'static str>,
}

impl<'a> Phases<'a> {
    fn new(progress: &'a Progress, name: Option<&str>) -> Self {
        let suffix = name.map_or_else(String::new, |name| format!(" {name}"));
        progress.phase(&format!("connect{suffix}"), 0, Unit::Items);
        Self { progress, suffix, begun: Vec::new() }
    }

    fn see(&mut self, seen: Seen<'_>) {
        let Some(protocol) = seen.protocol else { return };
        if self.begun.is_empty() {
            self.progress.end(&format!("connect{}", self.suffix), format!("protocol {protocol}"));
        }
        let (phase, count) = match seen.scope {
            Some(Scope::Updates) => ("revisions", seen.tally.updates),
            Some(Scope::Categories) | None => ("categories", seen.tally.categories),
        };
        if !self.begun.contains(&phase) {
            self.begun.push(phase);
        }
        let done = count.fetched + count.set_aside;
        self.progress.reach(&format!("{phase}{}", self.suffix), done, count.wanted, Unit::Items);
    }

    fn end(&self, outcome: &Outcome) {
        if self.begun.is_empty() {
            self.progress.end(&format!("connect{}", self.suffix), "failed");
        }
        for phase in &self.begun {
            let brought = if *phase == "categories" { outcome.categories } else { outcome.updates };
            let text = format!("{} new, {} revised", brought.new, brought.revised);
            self.progress.end(&format!("{phase}{}", self.suffix), text);
        }
    }
}
