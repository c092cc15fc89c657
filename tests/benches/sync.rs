//! What a synchronisation costs: the first one, one where nothing changed, and the memory at the peak. Prints figures of
//! this machine; judges nothing.
//!
//! `cargo bench -p spsync-tests`. With `../shared/data` beside the repository also on Microsoft's real catalogs.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use spsync::admin::{self, Envelope, Event, Request};
use spsync::config::{Loaded, Settings, Source};
use spsync::site::Site;
use support::{CatalogDocument, CatalogFormat, CatalogVersion, Origin, esd};

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let folder = tempfile::tempdir().expect("a folder");
        let generated = folder.path().join("generated.xml");
        let records = generate(&generated).await;
        measure("generated", &[generated.to_string_lossy().into_owned()], Some(records)).await;
        if let Some(real) = support::data_dir("esd-catalog") {
            let mut catalogs: Vec<String> = std::fs::read_dir(real)
                .expect("it is there")
                .filter_map(|entry| entry.ok()?.path().to_str().map(str::to_owned))
                .filter(|path| path.contains("/products_"))
                .collect();
            catalogs.sort();
            measure("eight real catalogs", &catalogs, None).await;
        }
    });
}

/// A catalog of about 40,000 records, each ESD with another build and name.
async fn generate(path: &Path) -> usize {
    let origin = Origin::start().await.expect("a port");
    let one = origin.publish(esd("Windows 11", "en-us").group("consumer").of_size(1_000)).await;
    let esds: Vec<_> = (0..3_000_u32)
        .map(|n| {
            let mut esd = one.clone();
            esd.file_name = esd.file_name.replace("26200.8246", &format!("{}.{n}", 26_200 + n));
            esd.wanted.size = 1_000 + u64::from(n);
            let mut digest = [7; 32];
            digest[..4].copy_from_slice(&n.to_le_bytes());
            esd.wanted.digests.sha256 = Some(catalog::digest::Sha256Digest(digest));
            esd
        })
        .collect();
    let records = esds.iter().map(|esd| esd.editions.len().max(1)).sum();
    let document = CatalogDocument { version: CatalogVersion::Sha256, esds, licenses: Vec::new() };
    std::fs::write(path, document.wrapped(CatalogFormat::Plain)).expect("it is written");
    records
}

async fn measure(name: &str, catalogs: &[String], expected: Option<usize>) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut settings = Settings::default();
    settings.site.data_dir = folder.path().join("site");
    settings.sources =
        vec![Source { name: "esd".to_owned(), catalogs: catalogs.to_vec(), ..Source::default() }];
    let site = Site::open(Loaded::from(settings)).await.expect("the site opens");
    let before = peak_kib();
    let (first, report) = now(&site).await;
    let counted = |field: &str| {
        report["catalogs"]
            .as_array()
            .map_or(0, |all| all.iter().map(|c| c[field].as_u64().unwrap_or(0)).sum::<u64>())
    };
    let (records, esds) = (counted("records"), counted("esds"));
    if let Some(expected) = expected {
        assert_eq!(records, expected as u64, "every record was read");
    }
    let dump = site.store.read(|r| r.dump()).await.expect("a dump");
    let (second, again) = now(&site).await;
    assert!(
        again["catalogs"].as_array().is_some_and(|all| all.iter().all(|c| c["unchanged"] == true)),
        "{again}"
    );
    assert_eq!(site.store.read(|r| r.dump()).await.expect("a dump"), dump, "nothing was written but the run");
    println!(
        "{name}: {records} records, {esds} ESDs: first sync {first:.3} s ({:.0} records/s), unchanged {second:.3} s ({:.1} % of the first), peak memory {} MiB ({} MiB more than before)",
        records as f64 / first,
        100.0 * second / first,
        peak_kib() / 1024,
        (peak_kib() - before) / 1024
    );
    site.close().await;
}

async fn now(site: &Arc<Site>) -> (f64, serde_json::Value) {
    let began = Instant::now();
    let (events, mut inbox) = tokio::sync::mpsc::channel(16);
    let site = site.clone();
    let envelope = Envelope { request: Request::Now { full: false }, dry_run: false, no_wait: false };
    tokio::spawn(async move { admin::answer(&site, envelope, "bench", events).await });
    while let Some(event) = inbox.recv().await {
        match event {
            Event::Task { .. } => {}
            Event::Done { body, .. } => return (began.elapsed().as_secs_f64(), body),
            Event::Failed { problem } => panic!("{problem}"),
        }
    }
    panic!("it ended without an answer");
}

/// The most memory that this process ever had, in KiB.
fn peak_kib() -> u64 {
    support::memory_kib(std::process::id(), "VmHWM").unwrap_or(0)
}
