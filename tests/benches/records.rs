//! What it costs to take in a large catalog, without a network: documents are read, compressed and recorded, 1,000 in a
//! transaction. Prints figures of this machine; judges nothing.
//!
//! `cargo bench -p spsync-tests --bench records`, with `-- 20000` for fewer documents. The documents are generated: 20 KiB
//! each, of the real shape, all of them different. Making them is not measured.

use std::hint::black_box;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use catalog::digest::{Fingerprint, Sha1Digest, Sha256Digest};
use catalog::id::UpdateId;
use catalog::limits::Limits;
use catalog::update;
use schema::Store;
use schema::metadata::{MetadataRecorded, Prepared};
use support::{FileDraft, InstalledBy, KIB, UPGRADES, UpdateDraft, WINDOWS_11, software};

/// Documents of one transaction.
const BATCH: usize = 1_000;
/// Documents whose rules differ; the others are like one of them, under names of their own.
const TEMPLATES: usize = 512;

fn main() {
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let asked = std::env::args().find_map(|argument| argument.parse::<usize>().ok());
    let documents = asked.unwrap_or(if quick { 2_000 } else { 100_000 });
    let templates = Templates::new(if quick { 8 } else { TEMPLATES });
    phases(&templates, documents.min(10_000));
    for workers in [1, std::thread::available_parallelism().map_or(2, usize::from)] {
        whole(&templates, documents, workers);
    }
}

/// Documents that are made by writing names into a copy.
struct Templates {
    all: Vec<String>,
}

/// What is written over: 36 characters, as a GUID has.
const MARK: &str = "00000000-1111-4222-8333-444444444444";

impl Templates {
    fn new(count: usize) -> Self {
        let mark: UpdateId = MARK.parse().expect("a GUID");
        let draft = |number: usize| -> UpdateDraft {
            software(&format!("Feature update {number} to Windows 11 (business editions) en-us x64"))
                .with_id(mark)
                .described("en", "Install the latest update for Windows 11.")
                .titled("de", "Funktionsupdate für Windows 11")
                .deployable()
                .article("3012973")
                .installed_by(InstalledBy::Cbs)
                .within(&[WINDOWS_11])
                .within(&[UPGRADES])
                .requires("e657ef08-e43d-4326-aa4c-6fee197e8192".parse().expect("a GUID"))
                .supersedes("03aa8476-15b7-4288-bf9b-286b31f99bd6".parse().expect("a GUID"))
                .file(file(number))
                .of_size(20 * KIB)
        };
        // Rules are a function of the id: each template has another one before it gets the mark.
        let written = |number: usize| {
            let own = UpdateId(uuid(number as u128));
            draft(number).with_id(own).document().replace(&own.to_string(), MARK)
        };
        Self { all: (0..count).map(written).collect() }
    }

    fn document(&self, number: usize) -> String {
        let mut document = self.all[number % self.all.len()].clone();
        let at = document.find(MARK).expect("the identity is near the beginning");
        document.replace_range(at..at + MARK.len(), &uuid(1 << 64 | number as u128).to_string());
        document
    }
}

fn uuid(number: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(number << 8 | 0x4000_8000_0000_0000_0000)
}

fn file(number: usize) -> FileDraft {
    let mut sha256 = [7; 32];
    sha256[..8].copy_from_slice(&number.to_le_bytes());
    let mut sha1 = [9; 20];
    sha1[..8].copy_from_slice(&number.to_le_bytes());
    let content =
        Fingerprint { size: 4_000_000_000, sha1: Sha1Digest(sha1), sha256: Sha256Digest(sha256), ..empty() };
    FileDraft::of("26100.1.240331-1435.ge_release_CLIENTBUSINESS_VOL_x64FRE_en-us.esd", &content)
}

fn empty() -> Fingerprint {
    catalog::digest::Checker::new().into_fingerprint()
}

fn prepare(document: &str, limits: &Limits) -> Prepared {
    let revision = update::parse(document.as_bytes(), limits).expect("a good document");
    Prepared::new(revision, document.as_bytes()).expect("it is compressed")
}

/// Each part alone, on one core.
fn phases(templates: &Templates, documents: usize) {
    let limits = Limits::default();
    let (mut parse, mut pack) = (Duration::ZERO, Duration::ZERO);
    let mut ready = Vec::new();
    let mut bytes = 0;
    for number in 0..documents {
        let document = templates.document(number);
        bytes += document.len();
        let began = thread_time();
        let revision = black_box(update::parse(document.as_bytes(), &limits).expect("a good document"));
        let read = thread_time();
        ready.push(Prepared::new(revision, document.as_bytes()).expect("it is compressed"));
        pack += thread_time() - read;
        parse += read - began;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&folder.path().join("x.db"), 1).expect("a database");
    let (began, worked) = (Instant::now(), process_time());
    while !ready.is_empty() {
        let rest = ready.split_off(ready.len().min(BATCH));
        record(&store, std::mem::replace(&mut ready, rest));
    }
    let (waited, write) = (began.elapsed(), process_time() - worked);
    let each = |time: Duration| time.as_secs_f64() * 1e6 / documents as f64;
    println!(
        "{documents} documents of {} bytes, time of a core for each: read {:.0} us ({:.0}/s), hashed and compressed {:.0} us, \
         recorded {:.0} us ({:.0} us with its waiting for the disk); database {:.2} of the text",
        bytes / documents,
        each(parse),
        1e6 / each(parse),
        each(pack),
        each(write),
        each(waited),
        size(folder.path()) as f64 / bytes as f64,
    );
    store.close().expect("it closes");
}

/// All of it: workers read and compress, one thread records.
fn whole(templates: &Templates, documents: usize, workers: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&folder.path().join("x.db"), 1).expect("a database");
    let before = peak_kib();
    let (began, worked) = (Instant::now(), process_time());
    let mut marks = Vec::new();
    std::thread::scope(|scope| {
        let (ready, inbox) = mpsc::sync_channel::<Vec<Prepared>>(1);
        let batches = documents.div_ceil(BATCH);
        for worker in 0..workers {
            let ready = ready.clone();
            scope.spawn(move || {
                let limits = Limits::default();
                for batch in (worker..batches).step_by(workers) {
                    let numbers = batch * BATCH..documents.min((batch + 1) * BATCH);
                    let prepared =
                        numbers.map(|number| prepare(&templates.document(number), &limits)).collect();
                    if ready.send(prepared).is_err() {
                        return;
                    }
                }
            });
        }
        drop(ready);
        let mut done = 0;
        for batch in inbox {
            done += batch.len();
            record(&store, batch);
            if [documents / 4, documents / 2, documents].contains(&done) {
                marks.push((done, began.elapsed().as_secs_f64()));
            }
        }
        assert_eq!(done, documents);
    });
    let took = began.elapsed().as_secs_f64();
    let worked = (process_time() - worked).as_secs_f64();
    let shown: Vec<String> =
        marks.iter().map(|(done, seconds)| format!("{done} in {seconds:.1} s")).collect();
    let linear = match (marks.first(), marks.last()) {
        (Some((few, first)), Some((many, last))) => (last / *many as f64) / (first / *few as f64),
        _ => f64::NAN,
    };
    println!(
        "{documents} documents, {workers} workers: {took:.1} s ({:.0}/s), {worked:.1} s of the cores; {}; a late one costs {linear:.2} of an early one; \
         database {} MiB; memory {} MiB at the peak, {} MiB before",
        documents as f64 / took,
        shown.join(", "),
        size(folder.path()) >> 20,
        peak_kib() / 1024,
        before / 1024
    );
    store.close().expect("it closes");
}

fn record(store: &Store, batch: Vec<Prepared>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let recorded = runtime.block_on(store.write(move |writer| {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let mut new = 0;
        for one in &batch {
            new += usize::from(writer.record_metadata("bench", one, now)? == MetadataRecorded::New);
        }
        Ok((new, batch.len()))
    }));
    let (new, all) = recorded.expect("it is recorded");
    assert_eq!(new, all, "each one is new");
}

/// Bytes of the database and its log.
fn size(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).expect("it is there");
    files.filter_map(|file| file.ok()?.metadata().ok()).map(|file| file.len()).sum()
}

/// How long this thread was at work: other programs on the machine do not count.
fn thread_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or_default())
}

/// How long all threads of this process were at work, to a hundredth of a second (proc(5), `utime` and `stime`).
fn process_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks = after_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
    Duration::from_millis(10 * ticks.sum::<u64>())
}

/// The most memory that this process ever had, in KiB.
fn peak_kib() -> u64 {
    support::memory_kib(std::process::id(), "VmHWM").unwrap_or(0)
}
