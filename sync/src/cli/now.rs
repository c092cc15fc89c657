//! `spsync now`.

use catalog::problem::Problem;
use clap::Args;

use super::connect::plain;
use super::output::{Rows, short, size};
use super::{Global, Output, connect};
use crate::admin::Request;
use crate::config::Loaded;
use crate::run::{Report, ServerReport};

/// Synchronise now: ask every configured catalog and update server what changed
#[derive(Debug, Args)]
pub struct Now {
    /// Read every catalog and every list again, even where nothing changed
    #[arg(long)]
    full: bool,
}

impl Now {
    pub(super) async fn run(
        self,
        settings: &Loaded,
        global: &Global,
        output: &Output,
    ) -> Result<u8, Problem> {
        if global.dry_run || global.no_wait {
            return plain(Request::Now { full: self.full }, settings, global, output).await;
        }
        let called =
            connect::call::<Report>(settings, global, output, Request::Now { full: self.full }).await?;
        output.one(&called.body, |report| report.run.to_string(), |output| show(&called.body, output));
        Ok(called.finish(output))
    }
}

/// A report for people; also used by `sync show`.
pub(super) fn show(report: &Report, output: &Output) {
    let mut rows = Rows::new(&[
        "CATALOG",
        "VERSION",
        "RECORDS",
        "ESDS",
        "LANGUAGES",
        "SIZE",
        "NEW",
        "REVISED",
        "RESULT",
    ]);
    for catalog in &report.catalogs {
        let result = match &catalog.problem {
            Some(problem) => problem.code.to_string(),
            None if catalog.unchanged => "unchanged".to_owned(),
            None => format!("ok, signature: {}", catalog.signature),
        };
        // What was not read has no counts: a zero would claim that it has none.
        let read = catalog.records > 0;
        let count = |text: String| if read { text } else { "-".to_owned() };
        rows.push([
            short(&catalog.location, 60),
            count(catalog.version.clone()),
            count(catalog.records.to_string()),
            count(catalog.esds.to_string()),
            count(catalog.languages.to_string()),
            count(size(catalog.bytes)),
            count(catalog.new.to_string()),
            count(catalog.revised.to_string()),
            result,
        ]);
    }
    output.table(rows);
    for catalog in &report.catalogs {
        catalog.refused.iter().for_each(|refused| {
            output.line(format!(" refused in {}: {}", catalog.location, super::output::safe(refused)))
        });
    }
    servers(&report.servers, output);
    output.line(format!(
        "run {} done in {:.1}s: {} new, {} revised, {} withdrawn; {} listed, {} need a licence decision",
        report.run,
        report.seconds,
        report.new,
        report.revised,
        report.withdrawn,
        report.listed,
        report.license_pending
    ));
    report.notes.iter().for_each(|note| output.line(format!(" {note}")));
    if report.license_pending > 0 {
        output.note("review licences: spsync license list --pending");
    }
}

/// Update servers of a run.
fn servers(servers: &[ServerReport], output: &Output) {
    let mut rows = Rows::new(&[
        "SERVER",
        "PROTOCOL",
        "CATEGORIES",
        "LISTED",
        "FETCHED",
        "NEW",
        "REVISED",
        "ASIDE",
        "RECEIVED",
        "SECONDS",
        "RESULT",
    ]);
    for server in servers {
        let outcome = &server.outcome;
        let result = match &server.problem {
            Some(problem) => problem.code.to_string(),
            None if outcome.unchanged => "unchanged".to_owned(),
            None => "ok".to_owned(),
        };
        rows.push([
            short(&server.url, 60),
            super::output::safe(&outcome.protocol),
            format!("{} of {}", outcome.categories.fetched, outcome.categories.wanted),
            outcome.updates.listed.to_string(),
            format!("{} of {}", outcome.updates.fetched, outcome.updates.wanted),
            outcome.updates.new.to_string(),
            outcome.updates.revised.to_string(),
            outcome.quarantined.to_string(),
            size(outcome.bytes),
            format!("{:.1}", server.seconds),
            result,
        ]);
    }
    output.table(rows);
    for server in servers {
        for one in &server.outcome.set_aside {
            let reason = super::output::safe(&one.reason);
            output.line(format!(" set aside of {}: {} [{}] {reason}", server.source, one.id, one.code));
        }
        let named = server.outcome.set_aside.len() as u64;
        if server.outcome.quarantined > named {
            output.line(format!(" and {} more", server.outcome.quarantined - named));
        }
        if server.outcome.missing > 0 {
            output.line(format!(
                " {}: {} updates that others need are not to be had; `spsync now --full` looks again",
                server.source, server.outcome.missing
            ));
        }
        for note in &server.outcome.notes {
            output.line(format!(" {}: {}", server.source, super::output::safe(note)));
        }
    }
}
