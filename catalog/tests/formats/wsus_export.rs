//! WSUS exports in both forms: own small ones, a real one where it is at hand, and what is done to them.
#![expect(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use std::collections::HashMap;
use std::io::Write as _;
use std::path::PathBuf;

use catalog::limits::Limits;
use catalog::problem::{Code, Coded as _};
use catalog::update::{Kind, Revision};
use catalog::wsus_export::{self, ExportError, ExportedFile, Item, Language, Summary};
use proptest::prelude::*;

/// An update document of one title.
fn document(number: u32, title: &str) -> String {
    format!(
        r#"<u:Update xmlns:u="http://schemas.microsoft.com/msus/2002/12/Update"><u:UpdateIdentity UpdateID="{}"
        RevisionNumber="{number}"/><u:Properties UpdateType="Detectoid"/><u:LocalizedPropertiesCollection
        ><u:LocalizedProperties><u:Language>en</u:Language><u:Title>{title}</u:Title></u:LocalizedProperties
        ></u:LocalizedPropertiesCollection></u:Update>"#,
        id(number)
    )
}

fn id(number: u32) -> String {
    format!("AAAAAAAA-0000-4000-8000-{number:012}")
}

/// One record as WSUS writes it: the length counts UTF-16 units.
fn record(number: u32, document: &str) -> String {
    let length = document.encode_utf16().count();
    format!("{},{number:08x},{length:08x},{document}\r\n", id(number).to_lowercase())
}

/// A list of these revisions; `inside` goes into each of them.
fn list(numbers: &[u32], inside: impl Fn(u32) -> String) -> String {
    let updates: String = numbers
        .iter()
        .map(|number| {
            let inside = inside(*number);
            format!(
                r#"<Update UpdateId="{}" RevisionNumber="{number}"><Files><File Digest="x"/></Files><Categories/>{inside}</Update>"#,
                id(*number)
            )
        })
        .collect();
    format!(
        r#"{}<?xml version="1.0" encoding="utf-8"?><ExportPackage ServerID="s-1" CreationTime="2024-06-19T17:11:14Z"
        FormatVersion="1.0" ProtocolVersion="1.20"><Languages><Language Id="0" ShortName="ALL" LongName="all"
        Enabled="1"/><Language Id="1033" ShortName="en" LongName="English" Enabled="0"/></Languages><Files><File
        Digest="AAECAwQFBgcICQoLDA0ODxAREhM=" MUUrl="http://u.example/x.cab" Name="x.cab"/></Files><Updates
        >{updates}</Updates></ExportPackage>"#,
        '\u{feff}'
    )
}

fn cabinet(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = cab::CabinetBuilder::new();
    let folder = builder.add_folder(cab::CompressionType::MsZip);
    for (name, _) in files {
        folder.add_file(*name);
    }
    let mut writer = builder.build(std::io::Cursor::new(Vec::new())).unwrap();
    let mut contents = files.iter();
    while let Some(mut file) = writer.next_file().unwrap() {
        file.write_all(contents.next().unwrap().1).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[derive(Debug, Default)]
struct Found {
    files: Vec<ExportedFile>,
    languages: Vec<Language>,
    documents: Vec<(u32, String)>,
}

fn read_with(bytes: &[u8], limits: &Limits) -> Result<(Summary, Found), ExportError> {
    let mut found = Found::default();
    let summary = wsus_export::read::<ExportError>(bytes, limits, |item| {
        match item {
            Item::Origin(origin) => assert!(origin.server.is_some()),
            Item::Language(language) => found.languages.push(language),
            Item::File(file) => found.files.push(file),
            Item::Document(document) => {
                found.documents.push((document.id.number.0, document.xml.to_owned()));
            }
        }
        Ok(())
    })?;
    Ok((summary, found))
}

fn read(bytes: &[u8]) -> Result<(Summary, Found), ExportError> {
    read_with(bytes, &Limits::default())
}

/// The cabinet form of these documents, all of them listed.
fn export(documents: &[(u32, String)]) -> Vec<u8> {
    let numbers: Vec<u32> = documents.iter().map(|(number, _)| *number).collect();
    let records: String = documents.iter().map(|(number, text)| record(*number, text)).collect();
    let list = list(&numbers, |_| String::new());
    cabinet(&[("package.xml", list.as_bytes()), ("METADATA.TXT", records.as_bytes())])
}

#[test]
fn a_cabinet_yields_its_list_and_its_documents() {
    let documents =
        [(1, document(1, "\u{dc}ber \u{65e5}\u{672c}")), (2, document(2, "two \u{1f600}\u{1f600}"))];
    let (summary, found) = read(&export(&documents)).unwrap();
    assert_eq!(found.documents, documents);
    assert_eq!(summary.origin.created.as_ref().unwrap().unix_ms, Some(1_718_817_074_000));
    assert_eq!(summary.origin.protocol_version.as_deref(), Some("1.20"));
    assert_eq!((summary.languages, summary.files, summary.documents), (2, 1, 2));
    assert_eq!((summary.listed, summary.missing, summary.unlisted), (2, 0, 0));
    assert_eq!(found.languages[0], Language { code: "all".into(), name: "all".into(), enabled: true });
    assert_eq!(found.files[0].url.as_deref(), Some("http://u.example/x.cab"));
    assert_eq!(found.files[0].name.as_deref(), Some("x.cab"));
}

#[test]
fn what_list_and_documents_do_not_share_is_counted() {
    let records = record(1, &document(1, "a")) + &record(3, &document(3, "c"));
    let list = list(&[1, 2], |_| String::new());
    let bytes = cabinet(&[("package.xml", list.as_bytes()), ("metadata.txt", records.as_bytes())]);
    let (summary, _) = read(&bytes).unwrap();
    assert_eq!((summary.listed, summary.documents, summary.missing, summary.unlisted), (2, 2, 1, 1));
}

#[test]
fn lengths_are_characters_of_either_kind() {
    let text = document(1, "\u{1f600} and \u{e4}");
    let counted = [text.encode_utf16().count(), text.chars().count()];
    assert_ne!(counted[0], counted[1]);
    for length in counted {
        let line = format!("{},00000001,{length:08x},{text}\r\n", id(1));
        let two = line.clone() + &record(2, &document(2, "next"));
        let (_, found) = read(&gzip(two.as_bytes())).unwrap();
        assert_eq!(found.documents.len(), 2);
        assert_eq!(found.documents[0].1, text);
        // The last line may lack its end.
        assert_eq!(read(&gzip(line.trim_end().as_bytes())).unwrap().1.documents[0].1, text);
    }
    // Bytes are the wrong count.
    let line = format!("{},00000001,{:08x},{text}\r\n", id(1), text.len());
    let error = read(&gzip((line + &record(2, "<x/>")).as_bytes())).unwrap_err();
    assert_eq!(error.code(), Code::CatalogMalformed, "{error}");
}

/// Documents larger than what is read at once, with wide characters at every place of a border.
#[test]
fn no_border_of_reading_is_seen() {
    for shift in 0..8 {
        let text = document(1, &(".".repeat(shift) + &"\u{20ac}\u{1f600}\u{e4}a".repeat(30_000)));
        let next = document(2, "next");
        let all = record(1, &text) + &record(2, &next);
        let (_, found) = read(&gzip(all.as_bytes())).unwrap();
        assert_eq!(found.documents, [(1, text), (2, next)]);
        let cut = read(&gzip(&all.as_bytes()[..200_000])).unwrap_err();
        assert_eq!(cut.code(), Code::CatalogTruncated, "{cut}");
    }
}

#[test]
fn a_list_with_documents_in_it_is_an_export_too() {
    let documents: HashMap<u32, String> =
        [(1, document(1, "a &amp; b")), (2, document(2, "two")), (3, document(3, "\u{e4}"))].into();
    let escaped = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let xml = list(&[1, 2, 3, 4], |number| match number {
        1 => format!("<Xml>{}</Xml>", documents[&1]),
        2 => format!("<Blob> {}</Blob><Note>none</Note>", escaped(&documents[&2])),
        3 => format!("<Blob><![CDATA[{}]]></Blob>", documents[&3]),
        _ => String::new(),
    });
    let (summary, found) = read(&gzip(xml.as_bytes())).unwrap();
    let found: HashMap<u32, String> = found.documents.into_iter().collect();
    assert_eq!(found, documents);
    assert_eq!((summary.listed, summary.missing, summary.unlisted), (4, 1, 0));
}

#[test]
fn what_is_no_export_is_refused_with_its_code() {
    let good = record(1, &document(1, "a"));
    let listed = list(&[1], |_| String::new());
    let with =
        |records: &str| cabinet(&[("package.xml", listed.as_bytes()), ("metadata.txt", records.as_bytes())]);
    let rows: [(&str, Vec<u8>, Code, &str); 14] = [
        ("nothing", Vec::new(), Code::CatalogMalformed, "neither"),
        ("a text", b"<ExportPackage/>".to_vec(), Code::CatalogMalformed, "neither"),
        ("no cabinet", b"MSCF".to_vec(), Code::CabMalformed, "cabinet"),
        ("half a cabinet", with(&good)[..200].to_vec(), Code::CabMalformed, "cabinet"),
        ("no list", cabinet(&[("metadata.txt", good.as_bytes())]), Code::CatalogMalformed, "package.xml"),
        (
            "no documents",
            cabinet(&[("package.xml", listed.as_bytes())]),
            Code::CatalogMalformed,
            "metadata.txt",
        ),
        ("an empty one", with(""), Code::CatalogMalformed, "no update document"),
        ("a gzip that is cut", gzip(good.as_bytes())[..60].to_vec(), Code::CatalogTruncated, "too early"),
        ("a document twice", with(&(good.clone() + &good)), Code::CatalogMalformed, "twice"),
        ("half a head", with(&good[..40]), Code::CatalogTruncated, "head"),
        ("half a document", with(&good[..good.len() - 20]), Code::CatalogTruncated, "a document"),
        (
            "no hex",
            with(&good.replace(",00000001,", ",0000000g,")),
            Code::CatalogMalformed,
            "expected a record",
        ),
        (
            "no GUID",
            with(&good.replace("aaaaaaaa-", "aaaaaaag-")),
            Code::CatalogMalformed,
            "expected a record",
        ),
        ("another XML", gzip(b"<MCT/>"), Code::CatalogMalformed, "ExportPackage"),
    ];
    for (name, bytes, code, text) in rows {
        let error = read(&bytes).expect_err(name);
        assert_eq!(error.code(), code, "{name}: {error}");
        assert!(error.to_string().contains(text), "{name}: {error}");
    }
    let small = |limits: Limits| read_with(&gzip((good.clone() + &record(2, "<x/>")).as_bytes()), &limits);
    for limits in [
        Limits { export_documents: 1, ..Limits::default() },
        Limits { export_bytes: 100, ..Limits::default() },
        Limits { unpacked_bytes: 100, ..Limits::default() },
    ] {
        assert_eq!(small(limits).unwrap_err().code(), Code::CatalogTooLarge, "{limits:?}");
    }
}

/// A length of 4 GiB reserves nothing: memory follows the bytes that come.
#[test]
fn a_declared_length_is_not_believed() {
    let limits = Limits { unpacked_bytes: u64::MAX, ..Limits::default() };
    let line = format!("{},00000001,ffffffff,<x/>\r\n", id(1));
    assert_eq!(read_with(&gzip(line.as_bytes()), &limits).unwrap_err().code(), Code::CatalogTruncated);
    assert_eq!(read(&gzip(line.as_bytes())).unwrap_err().code(), Code::CatalogTooLarge);
}

#[test]
fn one_bad_document_does_not_stop_the_others() {
    let texts = [(1, document(1, "good")), (2, "<x/>".to_owned()), (3, document(4, "of another"))];
    let mut outcomes = Vec::new();
    wsus_export::read::<ExportError>(export(&texts).as_slice(), &Limits::default(), |item| {
        if let Item::Document(document) = item {
            outcomes.push(document.parse(&Limits::default()).map_err(|error| error.to_string()));
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(outcomes[0].as_ref().unwrap().title("en"), Some("good"));
    assert!(outcomes[1].as_ref().unwrap_err().contains("cannot be used"));
    assert!(outcomes[2].as_ref().unwrap_err().contains("holds the document of"));
}

#[test]
fn the_receiver_can_stop_it() {
    #[derive(Debug)]
    enum Stop {
        Enough,
        Broken,
    }
    impl From<ExportError> for Stop {
        fn from(_: ExportError) -> Self {
            Self::Broken
        }
    }
    let bytes = export(&[(1, document(1, "a")), (2, document(2, "b"))]);
    let mut seen = 0;
    let stopped = wsus_export::read(bytes.as_slice(), &Limits::default(), |item| match item {
        Item::Document(_) => {
            seen += 1;
            Err(Stop::Enough)
        }
        _ => Ok(()),
    });
    assert!(matches!(stopped, Err(Stop::Enough)) && seen == 1);
}

#[test]
fn a_real_export_yields_exactly_what_is_in_it() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/wsus-export/WSUS.cab");
    if !path.is_file() {
        println!("skipped: a_real_export_yields_exactly_what_is_in_it: no ../shared/data");
        return;
    }
    let limits = Limits::default();
    let bytes = std::fs::read(path).unwrap();
    let mut parsing = std::time::Duration::ZERO;
    let mut revisions: Vec<Revision> = Vec::new();
    let (mut size, mut longest) = (0, 0);
    let summary = wsus_export::read::<ExportError>(bytes.as_slice(), &limits, |item| {
        if let Item::Document(document) = item {
            let units = document.xml.encode_utf16().count();
            size += 2 * units;
            longest = longest.max(units);
            let started = std::time::Instant::now();
            revisions.push(document.parse(&limits).unwrap_or_else(|error| panic!("{error}")));
            parsing += started.elapsed();
        }
        Ok(())
    })
    .unwrap();
    println!("{} documents parsed in {parsing:?}", revisions.len());
    assert_eq!((summary.documents, summary.listed, summary.missing, summary.unlisted), (4_125, 4_125, 0, 0));
    assert_eq!((summary.files, summary.languages), (0, 39));
    assert_eq!(summary.origin.created.as_ref().unwrap().text, "2024-06-19T17:11:14Z");
    assert_eq!(longest, 850_355);
    assert_eq!(size, 31_770_052);
    let count = |wanted: &dyn Fn(&Revision) -> bool| revisions.iter().filter(|one| wanted(one)).count();
    assert_eq!(count(&|one| one.kind == Kind::Detectoid), 3_674);
    assert_eq!(count(&|one| one.kind == Kind::Category), 451);
    let of_type = |name: &str| {
        count(&|one| one.category.as_ref().is_some_and(|category| category.category_type == name))
    };
    let types = ["Product", "ProductFamily", "UpdateClassification", "Company"].map(of_type);
    assert_eq!(types, [367, 61, 20, 3]);
    assert_eq!(count(&Revision::is_expired), 6);
    assert_eq!(count(&|one| one.properties.created.as_ref().unwrap().unix_ms.is_none()), 0);
    assert_eq!(count(&|one| one.properties.explicitly_deployable), 0);
    assert_eq!(count(&|one| one.properties.max_download_size == Some(0)), 153);
    assert_eq!(count(&|one| !one.superseded.is_empty()), 109);
    let clauses = |is_category: bool| -> usize {
        revisions
            .iter()
            .flat_map(|one| &one.prerequisites)
            .filter(|one| one.is_category == is_category)
            .count()
    };
    assert_eq!((clauses(true), clauses(false)), (428, 3_291 + 448));
    assert_eq!(revisions.iter().map(|one| one.superseded.len()).sum::<usize>(), 525);
    assert_eq!(revisions.iter().map(|one| one.localized.len()).sum::<usize>(), 7_313);
    // Classifications and products that feature updates are in.
    for (id, title) in [
        ("3689bdc8-b205-4af4-8d4a-a63924c5e9d5", "Upgrades"),
        ("72e7624a-5b00-45d2-b92f-e561c0a6a160", "Windows 11"),
        ("a3c2375d-0c8a-42f9-bce0-28333e198407", "Windows 10"),
        ("b3c75dc1-155f-4be4-b015-3f1a91758e52", "Windows 10, version 1903 and later"),
        ("6964aab4-c5b5-43bd-a17d-ffb4346a8e1d", "Windows"),
        ("56309036-4c77-4dd9-951a-99ee9c246a94", "Microsoft"),
    ] {
        let id = id.parse().unwrap();
        let found =
            revisions.iter().filter(|one| one.id.update == id).max_by_key(|one| one.id.number).unwrap();
        assert_eq!(found.title("en"), Some(title));
    }
    let upgrades = revisions.iter().find(|one| one.title("en") == Some("Upgrades")).unwrap();
    assert_eq!((upgrades.id.number.0, upgrades.categories().len()), (200, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_documents_come_back(titles in prop::collection::vec("[^\\p{Cc}<>&]{0,60}", 1..8)) {
        let documents: Vec<(u32, String)> =
            (1..).zip(&titles).map(|(number, title)| (number, document(number, title))).collect();
        let (summary, found) = read(&export(&documents)).unwrap();
        prop_assert_eq!(summary.missing + summary.unlisted, 0);
        prop_assert_eq!(found.documents, documents);
    }

    #[test]
    fn damage_never_panics(at in any::<prop::sample::Index>(), byte in any::<u8>(), packed in any::<bool>()) {
        let documents = [(1, document(1, "\u{1f600}")), (2, document(2, "b"))];
        let mut bytes = if packed {
            export(&documents)
        } else {
            documents.iter().map(|(number, text)| record(*number, text)).collect::<String>().into_bytes()
        };
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let bytes = if packed { bytes } else { gzip(&bytes) };
        if let Ok((summary, found)) = read(&bytes) {
            prop_assert_eq!(summary.documents, found.documents.len());
        }
        let _ = read(&bytes[..at.min(bytes.len())]);
    }
}
