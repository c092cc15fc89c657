//! Real catalogs and cabinets, made by others. Skipped, by name, where they are absent.

use std::path::PathBuf;
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
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.ends_with(".cab") {
            continue;
        }
        let unpacked = unpack(&std::fs::read(&path).unwrap());
        let code = unpacked.as_ref().err().map(|error| error.code());
        match name.as_str() {
            name if name.starts_with("bad_") || name.starts_with("partial_") => {
                assert!(code.is_some(), "{name} must be refused");
            }
            "search_basic.cab" => assert_eq!(code, Some(Code::CabMalformed), "{name}"),
            "mszip_lzx_qtm.cab" | "ce_mixed.cab" => {
                assert!(matches!(code, None | Some(Code::CabUnsupported)), "{name}: {unpacked:?}");
            }
            name if name.starts_with("multi_basic") => assert_eq!(code, Some(Code::CabSpanned), "{name}"),
            name => assert!(unpacked.is_ok(), "{name}: {unpacked:?}"),
        }
    }
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
        let theirs = Command::new("cabextract").args(["-q", "-p", "-F", "*.xml"]).arg(&path).output().unwrap();
        let ours = esd_catalog::unpack(&std::fs::read(&path).unwrap(), &Limits::default()).unwrap();
        assert!(ours == theirs.stdout, "{name}");
    }
}
