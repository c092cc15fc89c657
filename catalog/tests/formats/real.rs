//! Real catalogs and cabinets, made by others. Skipped, by name, where they are absent.
#![expect(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use std::path::{Path, PathBuf};
use std::process::Command;

use catalog::cabinet::{Cabinet, CabinetError};
use catalog::esd_catalog::{self, EsdCatalogError};
use catalog::limits::Limits;
use catalog::problem::{Code, Coded as _};

fn data(test: &str, folder: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(folder);
    if !path.is_dir() {
        println!("skipped: {test}: no ../shared/data/{folder}");
        return None;
    }
    Some(path)
}

/// File records, ESDs and bytes of all ESDs, as counted independently of this program.
const CATALOGS: [(&str, usize, usize, u64); 8] = [
    ("products_win10_1607_20170116.cab", 1320, 124, 388_827_265_594),
    ("products_win10_1709_20180105.cab", 2136, 154, 460_981_001_736),
    ("products_win10_1903_20190502.cab", 3196, 230, 620_553_873_006),
    ("products_win10_2004_20200514.cab", 3196, 230, 658_517_341_677),
    ("products_win10_22h2_19045.3803.xml.gz", 3196, 230, 796_158_451_529),
    ("products_win11_22h2_22621.1702.xml.gz", 1978, 153, 623_572_502_755),
    ("products_win11_24h2_26100.4349.xml", 1978, 153, 687_392_640_421),
    ("products_win11_25h2_26200.8246.xml", 1978, 153, 866_310_407_430),
];

#[test]
fn real_catalogs_yield_exactly_what_is_in_them() {
    let Some(folder) = data("real_catalogs_yield_exactly_what_is_in_them", "esd-catalog") else { return };
    let limits = Limits::default();
    for (name, records, esds, bytes) in CATALOGS {
        let raw = std::fs::read(folder.join(name)).unwrap();
        let catalog = esd_catalog::parse(&esd_catalog::unpack(&raw, &limits).unwrap(), &limits).unwrap();
        let total: u64 = catalog.files.iter().map(|file| file.size).sum();
        assert_eq!((catalog.records, catalog.files.len(), total), (records, esds, bytes), "{name}");
        assert!(catalog.refused.is_empty(), "{name}: {:?}", catalog.refused);
        let mut languages: Vec<_> = catalog.files.iter().map(|file| &file.language).collect();
        languages.sort();
        languages.dedup();
        assert_eq!(languages.len(), 38, "{name}");
        assert_eq!(catalog.languages.len(), 38, "{name}");
        assert!(catalog.languages.iter().all(|language| !language.name.is_empty()), "{name}");
        // 40 up to Windows 10 2004: the links also name languages that no ESD has.
        assert!(matches!(catalog.licenses.len(), 38 | 40), "{name}: {} licences", catalog.licenses.len());
        assert!(catalog.licenses.iter().all(|license| license.url.ends_with(".rtf")), "{name}");
        assert!(catalog.files.iter().all(|file| file.name.is_some()), "{name}: a name does not parse");
        let mut ids: Vec<_> = catalog.files.iter().map(|file| file.update).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), esds, "{name}: two ESDs have one id");
        let encrypted = catalog.files.iter().filter(|file| file.encrypted).count();
        assert_eq!(encrypted, if name.contains("1607") { esds } else { 0 }, "{name}");
    }
}

#[test]
fn a_fragment_of_a_catalog_is_refused() {
    let Some(folder) = data("a_fragment_of_a_catalog_is_refused", "esd-catalog") else { return };
    let raw = std::fs::read(folder.join("truncated_products_win10_2004.xml")).unwrap();
    let error = esd_catalog::parse(&raw, &Limits::default()).unwrap_err();
    assert!(matches!(error, EsdCatalogError::Malformed { .. }), "{error}");
}

#[test]
fn real_cabinets_are_read_or_refused() {
    let Some(folder) = data("real_cabinets_are_read_or_refused", "cab") else { return };
    let limits = Limits::default();
    let unpack = |bytes: &[u8]| -> Result<Vec<(String, Vec<u8>)>, CabinetError> {
        let mut files = Vec::new();
        Cabinet::parse(bytes, &limits)?.for_each(|file, bytes| {
            files.push((file.name.clone(), bytes.to_vec()));
            Ok::<_, CabinetError>(())
        })?;
        Ok(files)
    };
    for path in cabinets(&folder) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let unpacked = unpack(&std::fs::read(&path).unwrap());
        let code = unpacked.as_ref().err().map(|error| error.code());
        match name.as_str() {
            name if name.starts_with("bad_") || name.starts_with("partial_") => {
                assert_eq!(code, Some(Code::CabMalformed), "{name}");
            }
            "search_basic.cab" => assert_eq!(code, Some(Code::CabMalformed), "{name}"),
            "mszip_lzx_qtm.cab" | "ce_mixed.cab" => assert_eq!(code, Some(Code::CabUnsupported), "{name}"),
            name if name.starts_with("multi_basic") => assert_eq!(code, Some(Code::CabSpanned), "{name}"),
            name => assert!(unpacked.is_ok(), "{name}: {unpacked:?}"),
        }
    }
}

/// The valid samples, and the real update metadata: each file that is not Quantum, compared with cabextract.
#[test]
fn cabextract_reads_the_same_files() {
    const TEST: &str = "cabextract_reads_the_same_files";
    let Some(folder) = data(TEST, "cab") else { return };
    if Command::new("cabextract").arg("--version").output().is_err() {
        println!("skipped: {TEST}: no cabextract");
        return;
    }
    let mut compared = 0;
    for path in cabinets(&folder) {
        let raw = std::fs::read(&path).unwrap();
        let Ok(cabinet) = Cabinet::parse(&raw, &Limits::default()) else { continue };
        for file in cabinet.files() {
            let ours = match cabinet.read(file) {
                Err(error) => {
                    assert_eq!(
                        (error.code(), file.name.as_str()),
                        (Code::CabUnsupported, "qtm.txt"),
                        "{path:?}"
                    );
                    continue;
                }
                Ok(ours) => ours,
            };
            // `-F` takes a pattern; names that are none are compared by the other files of their cabinet.
            if !file.name.bytes().all(|b| b.is_ascii_alphanumeric() || b".!_-".contains(&b)) {
                continue;
            }
            let theirs =
                Command::new("cabextract").args(["-q", "-p", "-F", &file.name]).arg(&path).output().unwrap();
            assert!(ours == theirs.stdout, "{path:?}: {}", file.name);
            compared += 1;
        }
    }
    assert!(compared >= 20, "{compared} files");
}

/// Damage to every real cabinet, with and without the checksums that would catch it early: a value or an error, of
/// the declared length, without a panic.
#[test]
fn damaged_real_cabinets_never_panic() {
    const TEST: &str = "damaged_real_cabinets_never_panic";
    let (Some(samples), Some(catalogs)) = (data(TEST, "cab"), data(TEST, "esd-catalog")) else { return };
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) as usize % below
    };
    for path in cabinets(&samples).into_iter().chain(cabinets(&catalogs)) {
        let whole = std::fs::read(&path).unwrap();
        let rounds = if whole.len() > 20_000 { 25 } else { 200 };
        for round in 0..rounds {
            let mut bytes = whole.clone();
            if round % 2 == 0 {
                clear_checksums(&mut bytes);
            }
            for _ in 0..=random(8) {
                let near = if round % 4 < 2 { bytes.len() } else { bytes.len().min(200) };
                let at = random(near);
                bytes[at] = random(256) as u8;
            }
            let Ok(cabinet) = Cabinet::parse(&bytes, &Limits::default()) else { continue };
            let _ = cabinet.for_each(|file, bytes| {
                assert_eq!(bytes.len(), file.size as usize);
                Ok::<_, CabinetError>(())
            });
        }
    }
}

/// Zero means "not computed" ([MS-CAB] section 2.4). Cabinets without reserved areas only.
fn clear_checksums(bytes: &mut [u8]) {
    let number = |bytes: &[u8], at: usize| {
        bytes.get(at..at + 2).map_or(0, |b| usize::from(b[0]) | usize::from(b[1]) << 8)
    };
    if number(bytes, 30) != 0 {
        return;
    }
    for folder in 0..number(bytes, 26) {
        let entry = 36 + 8 * folder;
        let mut at = number(bytes, entry) | number(bytes, entry + 2) << 16;
        for _ in 0..number(bytes, entry + 4) {
            let Some(checksum) = bytes.get_mut(at..at + 4) else { break };
            checksum.fill(0);
            at += 8 + number(bytes, at + 4);
        }
    }
}

fn cabinets(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "cab")).collect();
    paths.sort();
    paths
}

#[test]
fn cabextract_reads_the_same_bytes() {
    const TEST: &str = "cabextract_reads_the_same_bytes";
    let Some(folder) = data(TEST, "esd-catalog") else { return };
    if Command::new("cabextract").arg("--version").output().is_err() {
        println!("skipped: {TEST}: no cabextract");
        return;
    }
    for (name, ..) in CATALOGS.iter().filter(|(name, ..)| name.ends_with(".cab")) {
        let path = folder.join(name);
        let theirs =
            Command::new("cabextract").args(["-q", "-p", "-F", "*.xml"]).arg(&path).output().unwrap();
        let ours = esd_catalog::unpack(&std::fs::read(&path).unwrap(), &Limits::default()).unwrap();
        assert!(ours == theirs.stdout, "{name}");
    }
}
