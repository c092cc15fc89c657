//! What it costs to synchronise from our own upstream role over loopback, each in a process of its own: the first time, when
//! nothing changed, and after that. Prints figures of this machine; judges nothing.
//!
//! `cargo build --release -p spsync && cargo bench -p spsync-tests --bench servers`. With `../shared/data` beside the
//! repository on the 4,125 documents of a real server, otherwise on as many generated ones.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{TestSite, UpdateDraft, Way, data_dir, detectoid, export_drafts, known_categories};

/// Bytes of the real documents in UTF-16, as they travel.
const REAL_UTF16: u64 = 31_770_052;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let quick = !std::env::args().any(|argument| argument == "--bench");
    runtime.block_on(compare(quick));
}

async fn compare(quick: bool) {
    let mut upstream =
        TestSite::with(Way::Daemon, |_, published| vec![published.windows10.clone()], "").await;
    let real = data_dir("wsus-export").filter(|_| !quick).map(|folder| folder.join("WSUS.cab"));
    let (name, raw, export) = match real {
        Some(export) => ("real", REAL_UTF16, export),
        None => {
            let drafts = generated(if quick { 200 } else { 4_116 });
            let export = upstream.folder.path().join("generated.cab");
            std::fs::write(&export, export_drafts(&drafts)).expect("it is written");
            ("generated", drafts.iter().map(|draft| 2 * draft.document().len() as u64).sum(), export)
        }
    };
    let imported = upstream.ok(&["updates", "import", &export.to_string_lossy()]).await;
    for round in 1..=if quick { 1 } else { 3 } {
        let site = TestSite::below(Way::Alone, &upstream.url, "", "").await;
        let empty = size(site.folder.path());
        let first = now(&site).await;
        let categories = &first.report["servers"][0]["categories"];
        let fetched = &categories["fetched"];
        assert_eq!(fetched, &categories["listed"], "{:#}", first.report);
        let database = size(site.folder.path());
        println!(
            "{name} {round}: {fetched} documents (the upstream has {}, with older revisions) in {:.2} s (run: {:.2} s), {} calls, {:.1} MB received; peak memory {} MiB; \
             database {:.1} MB (empty {:.1}), {:.2} of the documents in UTF-16",
            imported["documents"],
            first.seconds,
            first.report["seconds"].as_f64().unwrap_or_default(),
            first.report["servers"][0]["calls"],
            first.report["servers"][0]["bytes"].as_f64().unwrap_or_default() / 1e6,
            first.peak_kib / 1024,
            database as f64 / 1e6,
            empty as f64 / 1e6,
            database as f64 / raw as f64,
        );
        let before = pages(site.folder.path());
        let dump = site.dump().await;
        let second = now(&site).await;
        let after = pages(site.folder.path());
        assert_eq!(site.dump().await, dump, "nothing changed");
        assert_eq!(second.report["servers"][0]["unchanged"], true, "{:#}", second.report);
        let differ = before.chunks(4096).zip(after.chunks(4096)).filter(|(a, b)| a != b).count();
        println!(
            "{name} {round}, unchanged: {:.2} s (run: {:.2} s), {} calls, {} bytes received; {differ} pages of {} differ, {} more",
            second.seconds,
            second.report["seconds"].as_f64().unwrap_or_default(),
            second.report["servers"][0]["calls"],
            second.report["servers"][0]["bytes"],
            before.len() / 4096,
            after.len().saturating_sub(before.len()) / 4096,
        );
    }
    upstream.stop_daemon().await;
}

/// Detectoids of the size that real ones have in the mean.
fn generated(count: usize) -> Vec<UpdateDraft> {
    let mut drafts = known_categories();
    drafts.extend((0..count).map(|number| detectoid(&format!("Is it number {number}?")).of_size(3_800)));
    drafts
}

struct Ran {
    seconds: f64,
    peak_kib: u64,
    report: Value,
}

/// One `spsync now` from its start to its end, and the most memory that it was seen to have.
async fn now(site: &TestSite) -> Ran {
    let began = Instant::now();
    let child = site.command(&["-o", "json", "now"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let child = child.expect("the program starts");
    let id = child.id().expect("it runs");
    let watching = tokio::spawn(async move {
        let mut peak = 0;
        while let Some(kib) = support::memory_kib(id, "VmHWM") {
            peak = kib.max(peak);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        peak
    });
    let output = child.wait_with_output().await.expect("it ends");
    let seconds = began.elapsed().as_secs_f64();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let report = serde_json::from_slice(&output.stdout).expect("JSON");
    Ran { seconds, peak_kib: watching.await.expect("it watches"), report }
}

fn size(folder: &Path) -> u64 {
    let files = ["spsync.db", "spsync.db-wal"].map(|name| folder.join("site").join(name));
    files.iter().filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
}

fn pages(folder: &Path) -> Vec<u8> {
    std::fs::read(folder.join("site/spsync.db")).expect("the database is there")
}
