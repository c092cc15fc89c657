//! Prints numbers, asserts nothing: `cargo bench -p spsync-catalog`.
//!
//! * reading an ESD catalog of 4,000 records, and the real ones where they are present;
//! * decoding MSZIP and LZX cabinets, and a folder of 3,000 files against one with the same bytes in one file;
//! * reading update documents on one core: those of a real export where it is present, and one of 47 MB;
//! * the one pass of [`Checker`] against its bound: the pass hashes each byte once with SHA-1 and three times with
//!   SHA-256 (whole, block, piece), so two cores can reach at most `2 / (1/sha1 + 3/sha256)`.

#[path = "../tests/formats/support/lzx.rs"]
mod lzx;

use std::fmt::Write as _;
use std::hint::black_box;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use catalog::cabinet::Cabinet;
use catalog::digest::Checker;
use catalog::esd_catalog;
use catalog::limits::Limits;
use catalog::{update, wsus_export};
use sha2::Digest as _;

const MIB: usize = 1 << 20;

fn main() {
    // `cargo test --all-targets` runs benchmarks too: with little work, only to see that they run.
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let effort = if quick { Effort { repeat: 1, hashed: 8 * MIB, buffer: 8 * MIB } } else { Effort::FULL };
    catalogs(&effort);
    if let Some(peak) = peak_memory() {
        println!("catalogs: peak memory of the process {peak}");
    }
    cabinets(&effort);
    documents(&effort, quick);
    hashing(&effort);
}

/// The most memory that was resident so far, as Linux tells it (proc(5), `VmHWM`); nothing elsewhere.
fn peak_memory() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")).map(|peak| peak.trim().to_owned())
}

struct Effort {
    repeat: u32,
    hashed: usize,
    buffer: usize,
}

impl Effort {
    const FULL: Self = Self { repeat: 5, hashed: 1024 * MIB, buffer: 256 * MIB };

    /// The best of several runs: what the machine can do while others leave it alone.
    fn best(&self, mut work: impl FnMut()) -> Duration {
        let timed = || {
            let start = Instant::now();
            work();
            start.elapsed()
        };
        std::iter::repeat_with(timed).take(self.repeat as usize).min().unwrap_or_default()
    }
}

fn catalogs(effort: &Effort) {
    let limits = Limits::default();
    let generated = generated(4_000);
    let read = |name: &str, raw: &[u8]| {
        let unpacked = esd_catalog::unpack(raw, &limits).expect("a good catalog");
        let records = esd_catalog::parse(&unpacked, &limits).expect("a good catalog").records;
        let took = effort.best(|| {
            let xml = esd_catalog::unpack(black_box(raw), &limits).expect("a good catalog");
            black_box(esd_catalog::parse(&xml, &limits).expect("a good catalog"));
        });
        let per_second = records as f64 / took.as_secs_f64();
        println!(
            "catalog {name}: {records} records, {took:.1?}, {per_second:.0} records/s, {}",
            speed(unpacked.len(), took)
        );
    };
    read("generated", generated.as_bytes());
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/esd-catalog");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("skipped: real catalogs: no ../shared/data");
        return;
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with("products_") {
            read(&name, &std::fs::read(&path).expect("a readable file"));
        }
    }
}

/// Ten records an ESD, as the real catalogs have in the mean.
fn generated(records: usize) -> String {
    let mut xml =
        String::from("<MCT><Catalogs><Catalog version=\"2.1\"><PublishedMedia id=\"\" release=\"\"><Files>");
    for record in 0..records {
        let (esd, edition) = (record / 10, record % 10);
        let name = format!(
            "26200.{esd}.260413-0654.25h2_ge_release_svc_refresh_CLIENTBUSINESS_VOL_x64FRE_en-us.esd"
        );
        let _ = write!(
            xml,
            "<File id=\"\"><FileName>{name}</FileName><LanguageCode>en-us</LanguageCode><Language>English (United States)\
             </Language><Edition>Edition{edition}</Edition><Architecture>x64</Architecture><Size>{}</Size>\
             <Sha256>{esd:064x}</Sha256><FilePath>http://dl.delivery.example/filestreamingservice/files/{esd:08x}/{name}\
             </FilePath><Key /><Architecture_Loc>%ARCH_64%</Architecture_Loc><Edition_Loc>%BASE_CHINA%</Edition_Loc>\
             <IsRetailOnly>False</IsRetailOnly></File>\r\n",
            4_000_000_000 + esd
        );
    }
    xml.push_str("</Files></PublishedMedia></Catalog></Catalogs></MCT>");
    xml
}

fn cabinets(effort: &Effort) {
    let text = generated(4_000).repeat(6);
    let mut builder = cab::CabinetBuilder::new();
    builder.add_folder(cab::CompressionType::MsZip).add_file("products.xml");
    let mut writer = builder.build(std::io::Cursor::new(Vec::new())).expect("memory can be written");
    while let Some(mut file) = writer.next_file().expect("memory can be written") {
        file.write_all(text.as_bytes()).expect("memory can be written");
    }
    let mszip = writer.finish().expect("memory can be written").into_inner();
    decode("MSZIP, generated", &mszip, effort);
    decode("LZX, generated (literals and runs)", &lzx::cabinet(&[("products.xml", text.as_bytes())]), effort);
    many_files(effort);
    let real = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/esd-catalog");
    for (method, name) in
        [("MSZIP", "products_win10_1903_20190502.cab"), ("LZX", "products_win10_2004_20200514.cab")]
    {
        match std::fs::read(real.join(name)) {
            Ok(bytes) => decode(&format!("{method}, {name}"), &bytes, effort),
            Err(_) => println!("skipped: {name}: no ../shared/data"),
        }
    }
}

fn decode(name: &str, bytes: &[u8], effort: &Effort) {
    let limits = Limits::default();
    let mut unpacked = 0;
    let took = effort.best(|| {
        let cabinet = Cabinet::parse(black_box(bytes), &limits).expect("a good cabinet");
        unpacked = cabinet.files().iter().map(|file| cabinet.read(file).expect("a good file").len()).sum();
    });
    println!("cabinet {name}: {} -> {unpacked} bytes, {took:.1?}, {}", bytes.len(), speed(unpacked, took));
}

/// A folder is decoded once, however many files it holds: what a file adds must be next to nothing.
fn many_files(effort: &Effort) {
    let text = generated(4_000).repeat(12);
    let part = text.len() / 3_000;
    let names: Vec<String> = (0..3_000).map(|number| format!("{number}.xml")).collect();
    let parts: Vec<(&str, &[u8])> =
        names.iter().map(String::as_str).zip(text.as_bytes().chunks(part)).collect();
    let limits = Limits::default();
    let read = |cabinet: &[u8]| {
        effort.best(|| {
            let mut bytes = 0;
            let cabinet = Cabinet::parse(black_box(cabinet), &limits).expect("a good cabinet");
            let each = |_: &catalog::cabinet::CabinetFile, file: &[u8]| {
                bytes += file.len();
                Ok::<_, catalog::cabinet::CabinetError>(())
            };
            cabinet.for_each(each).expect("a good folder");
            black_box(bytes);
        })
    };
    let whole = &text.as_bytes()[..part * 3_000];
    let (one, many) = (read(&lzx::cabinet(&[("all.xml", whole)])), read(&lzx::cabinet(&parts)));
    println!(
        "cabinet LZX, 3,000 files in one folder: {many:.1?}, {}, ratio to one file {:.3}",
        speed(whole.len(), many),
        many.as_secs_f64() / one.as_secs_f64()
    );
}

fn documents(effort: &Effort, quick: bool) {
    let limits = Limits::default();
    let read = |name: &str, documents: &[String]| {
        let bytes = documents.iter().map(String::len).sum();
        let took = effort.best(|| {
            for document in documents {
                black_box(update::parse(black_box(document).as_bytes(), &limits).expect("a good document"));
            }
        });
        let per_second = documents.len() as f64 / took.as_secs_f64();
        println!(
            "{} documents {name}: {took:.1?}, {per_second:.0}/s, {}",
            documents.len(),
            speed(bytes, took)
        );
    };
    let large = large_document(if quick { 1 << 20 } else { 47_000_000 });
    read("of 47 MB", &[large]);
    let export = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/wsus-export/WSUS.cab");
    let Ok(bytes) = std::fs::read(export) else {
        return println!("skipped: real documents: no ../shared/data");
    };
    let mut real = Vec::new();
    wsus_export::read::<wsus_export::ExportError>(bytes.as_slice(), &limits, |item| {
        if let wsus_export::Item::Document(document) = item {
            real.push(document.xml.to_owned());
        }
        Ok(())
    })
    .expect("a good export");
    read("of a real export", &real);
}

/// Rules without end, as the largest documents have them.
fn large_document(bytes: usize) -> String {
    let mut xml = String::from(
        "<upd:Update xmlns:upd=\"http://schemas.microsoft.com/msus/2002/12/Update\"><upd:UpdateIdentity \
         UpdateID=\"11111111-2222-4333-8444-555555555555\" RevisionNumber=\"200\" /><upd:Properties UpdateType=\"Software\" />\
         <upd:ApplicabilityRules><upd:Metadata>",
    );
    for number in 0.. {
        if xml.len() >= bytes {
            break;
        }
        let _ = write!(
            xml,
            "<cbs:assemblyIdentity xmlns:cbs=\"http://schemas.microsoft.com/msus/2002/12/CbsApplicabilityRules\" \
             name=\"Package_for_{number}\" version=\"10.0.19041.{number}\" language=\"neutral\" processorArchitecture=\"amd64\" \
             publicKeyToken=\"31bf3856ad364e35\" />"
        );
    }
    xml + "</upd:Metadata></upd:ApplicabilityRules></upd:Update>"
}

fn hashing(effort: &Effort) {
    // No two blocks alike, so that nothing could be clever about repetition.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let buffer: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .take(effort.buffer / 8)
    .flatten()
    .collect();
    // The three take turns, so that whatever else the machine does meets all of them.
    let (mut sha1, mut sha256, mut pass) = (Duration::MAX, Duration::MAX, Duration::MAX);
    for _ in 0..effort.repeat.min(3) {
        sha1 = sha1.min(timed(|| _ = black_box(sha1::Sha1::digest(&buffer))));
        sha256 = sha256.min(timed(|| _ = black_box(sha2::Sha256::digest(&buffer))));
        pass = pass.min(timed(|| {
            let mut checker = Checker::new();
            for _ in 0..effort.hashed / buffer.len() {
                buffer.chunks(4 * MIB).for_each(|slice| checker.update(slice));
            }
            black_box(checker.into_fingerprint());
        }));
    }
    let rate = |bytes: usize, took: Duration| bytes as f64 / took.as_secs_f64() / 1e6;
    let (sha1, sha256, pass) =
        (rate(buffer.len(), sha1), rate(buffer.len(), sha256), rate(effort.hashed, pass));
    let bound = 2.0 / (1.0 / sha1 + 3.0 / sha256);
    println!("hashing: bare SHA-1 {sha1:.0} MB/s, bare SHA-256 {sha256:.0} MB/s, one thread each");
    println!(
        "hashing: one pass {pass:.0} MB/s, bound of two cores {bound:.0} MB/s, ratio {:.3}",
        pass / bound
    );
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn speed(bytes: usize, took: Duration) -> String {
    format!("{:.0} MB/s", bytes as f64 / took.as_secs_f64() / 1e6)
}
