//! ESD catalogs of a run: each is fetched, read and recorded alone, whole or not at all.

use std::sync::Arc;

use catalog::problem::Problem;
use schema::tasks::Unit;
use tracing::warn;

use super::CatalogReport;
use crate::clock;
use crate::config::{Settings, Source, SourceKind};
use crate::site::Site;
use crate::tasks::Progress;
use crate::upstream::esd_catalog::{self, Fetched, SIGNATURE};

/// The most refused records of a catalog that are named.
const NAMED: usize = 20;

/// Every catalog with its source.
pub(super) fn asked(settings: &Settings) -> Vec<(&Source, String)> {
    let catalogs = settings.sources.iter().filter(|source| source.kind == SourceKind::EsdCatalog);
    catalogs
        .flat_map(|source| esd_catalog::locations(source).into_iter().map(move |location| (source, location)))
        .collect()
}

/// Synchronises every catalog.
pub(super) async fn synchronise(site: &Arc<Site>, full: bool, progress: &Progress) -> Vec<CatalogReport> {
    let settings = site.settings();
    let asked = asked(&settings);
    if asked.is_empty() {
        return Vec::new();
    }
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
    let (new, revised) =
        catalogs.iter().fold((0, 0), |(new, revised), one| (new + one.new, revised + one.revised));
    progress.end("catalogs", format!("{new} new, {revised} revised"));
    catalogs
}

/// One catalog: fetched, read, and recorded in one transaction.
async fn one(
    site: &Arc<Site>,
    source: &Source,
    location: &str,
    full: bool,
    report: &mut CatalogReport,
) -> Result<(), Problem> {
    let (name, place) = (source.name.clone(), location.to_owned());
    // What is listed no more, because it was out of the configuration for a while, is read again.
    let known = site
        .read(move |r| {
            let listed = r.lists_anything(&name, &place)?;
            Ok(r.latest_document(&name, &place)?.filter(|_| listed))
        })
        .await?;
    report.signature = SIGNATURE.to_owned();
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
            report.bytes = catalog.files.iter().map(|file| file.size).fold(0, u64::saturating_add);
            let mut languages: Vec<_> = catalog.files.iter().map(|file| &file.language).collect();
            languages.sort_unstable();
            languages.dedup();
            report.languages = languages.len() as u64;
            let refused = catalog.refused.iter().map(|r| format!("{}: {}", r.file_name, r.reason));
            report.refused = refused.take(NAMED).collect();
            if let Some(more @ 1..) = catalog.refused.len().checked_sub(NAMED) {
                report.refused.push(format!("and {more} more"));
            }
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
