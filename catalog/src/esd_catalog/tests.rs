use proptest::prelude::*;

use super::*;
use crate::limits::Limits;

const SHA1: &str = "0bf106ef7a974b4ac367c054438cbc755af10d0c";
const NAME: &str = "26200.8246.260413-0654.25h2_ge_release_svc_refresh_CLIENTBUSINESS_VOL_x64FRE_en-us.esd";

fn record(name: &str, edition: &str, size: &str, digest: &str, extra: &str) -> String {
    format!(
        "<File id=\"\"><FileName>{name}</FileName><LanguageCode>en-us</LanguageCode><Language>English</Language>\
         <Edition>{edition}</Edition><Architecture>x64</Architecture><Size>{size}</Size>{digest}\
         <FilePath>http://dl.example/files/1/{name}</FilePath>{extra}<IsRetailOnly>False</IsRetailOnly></File>\r\n"
    )
}

fn document(records: &str) -> String {
    format!(
        "<MCT>\r\n<Catalogs><Catalog version=\"2.1\"><PublishedMedia id=\"\" release=\"\"><Files>{records}</Files>\
         <Languages><Language LanguageCode=\"default\"><BASE>Windows &amp; co</BASE></Language><Language LanguageCode=\"EN-us\"/></Languages>\
         <EULAs><EULA><LanguageCode>en-us</LanguageCode><URL>https://x.example/EULA.rtf\t\t</URL></EULA></EULAs>\
         </PublishedMedia></Catalog></Catalogs></MCT>\n"
    )
}

fn sha1() -> String {
    format!("<Sha1>{}</Sha1>", SHA1.to_uppercase())
}

fn read(text: &str) -> Result<EsdCatalog, EsdCatalogError> {
    parse(text.as_bytes(), &Limits::default())
}

#[test]
fn several_records_of_one_file_are_one_esd() {
    let records = ["Professional", "Education", "Professional"]
        .map(|edition| record(NAME, edition, "5", &sha1(), "<Key />"));
    let catalog = read(&document(&records.concat())).unwrap();
    assert_eq!((catalog.version.as_str(), catalog.records, catalog.files.len()), ("2.1", 3, 1));
    let esd = &catalog.files[0];
    assert_eq!(esd.editions, ["Education", "Professional"]);
    assert_eq!(esd.title(), "Feature update to Windows 11 (business), version 25H2 x64 en-us");
    assert!(!esd.encrypted && !esd.retail_only);
    assert_eq!(esd.digests.strongest().unwrap(), SHA1);
    let english = LanguageName { code: "en-us".to_owned(), name: "English".to_owned() };
    assert_eq!(catalog.languages, [english]);
    assert_eq!(
        catalog.licenses,
        [LicenseLink { language: "en-us".to_owned(), url: "https://x.example/EULA.rtf".to_owned() }]
    );
}

#[test]
fn records_that_contradict_each_other_are_refused_by_name() {
    let other = format!("<Sha1>{}</Sha1>", "1".repeat(40));
    let sha256 = |digit: &str| format!("<Sha256>{}</Sha256>", digit.repeat(64));
    let both = |digit: &str| sha1() + &sha256(digit);
    let one = record(NAME, "A", "5", &sha1(), "");
    let good = record("good.esd", "A", "7", &other, "");
    for (what, more, refused) in [
        ("another digest", record(NAME, "A", "5", &other, ""), true),
        ("another size", record(NAME, "B", "6", &sha1(), ""), true),
        ("another digest of a name in capitals", record(&NAME.to_uppercase(), "A", "5", &other, ""), true),
        ("the same, for another edition", record(NAME, "B", "5", &sha1(), ""), false),
        ("the same with one digest more", record(NAME, "B", "5", &both("2"), ""), false),
        ("a digest of another kind", record(NAME, "B", "5", &sha256("2"), ""), false),
        (
            "two that differ",
            record(NAME, "B", "5", &both("2"), "") + &record(NAME, "B", "5", &both("3"), ""),
            true,
        ),
    ] {
        let catalog = read(&document(&(one.clone() + &good + &more))).unwrap();
        let names: Vec<_> = catalog.files.iter().map(|file| file.file_name.as_str()).collect();
        assert_eq!(names.iter().any(|name| name.eq_ignore_ascii_case(NAME)), !refused, "{what}");
        assert!(names.contains(&"good.esd"), "{what}");
        let said: Vec<_> = catalog.refused.iter().map(|one| (one.file_name.as_str(), one.code)).collect();
        let expected = [(NAME, Code::CatalogMalformed)];
        assert_eq!(said, if refused { &expected[..] } else { &[] }, "{what}");
    }
    // Nothing is left: that is no catalog.
    let nothing = read(&document(&(one + &record(NAME, "A", "5", &other, "")))).unwrap_err();
    assert!(nothing.to_string().contains("differ"), "{nothing}");
}

#[test]
fn a_size_that_no_file_has_is_refused_with_its_record() {
    let most = Limits::default().file_bytes;
    for (size, taken) in [(most, true), (most + 1, false), (1 << 63, false), (u64::MAX, false)] {
        let records = record(NAME, "A", &size.to_string(), &sha1(), "");
        let other = format!("<Sha1>{}</Sha1>", "1".repeat(40));
        let catalog = read(&document(&(records + &record("good.esd", "A", "7", &other, "")))).unwrap();
        assert_eq!(catalog.files.len(), if taken { 2 } else { 1 }, "{size}");
        let codes: Vec<_> = catalog.refused.iter().map(|one| one.code).collect();
        assert_eq!(codes, if taken { vec![] } else { vec![Code::CatalogTooLarge] }, "{size}");
    }
}

#[test]
fn keys_and_strange_names_are_seen() {
    let catalog = read(&document(
        &(record(NAME, "A", "5", &sha1(), "<Key>BwIAAACk</Key>")
            + &record("install.esd", "A", "5", &sha1(), "")),
    ))
    .unwrap();
    assert!(catalog.files[0].encrypted);
    assert_eq!(catalog.files[1].name, None);
    assert_eq!(catalog.files[1].update, UpdateId::of_unrecognised(SHA1));
}

#[test]
fn records_that_cannot_be_used_are_reported_and_the_rest_is_read() {
    let bad = [
        record("../x.esd", "A", "5", &sha1(), ""),
        record(NAME, "A", "0", &sha1(), ""),
        record(NAME, "A", "-5", &sha1(), ""),
        record(NAME, "A", "5", "", ""),
        record(NAME, "A", "5", "<Sha1>12</Sha1>", ""),
        record(NAME, "A", "5", &sha1(), "").replace("http://", "ftp://"),
        record(NAME, "A", "5", &sha1(), "").replace("x64</A", "mips</A"),
        record(NAME, "A", "5", &sha1(), "").replace("http://dl.example", "file:///etc"),
        record(NAME, "A", "5", &sha1(), "").replace("dl.example", ""),
        record(NAME, "A", "5", &sha1(), "").replace("dl.example", "name@dl.example"),
        record(NAME, "A", "5", &sha1(), "").replace("/files/", "/a&#10;b/"),
        record(NAME, "A", "5", &sha1(), "").replace("/files/", &"/a".repeat(5_000)),
        record(NAME, "A", "5", &sha1(), "").replace("en-us</L", "../..</L"),
    ];
    let catalog = read(&document(&(bad.concat() + &record(NAME, "A", "5", &sha1(), "")))).unwrap();
    assert_eq!((catalog.records, catalog.files.len()), (14, 1));
    let codes: Vec<Code> = catalog.refused.iter().map(|refused| refused.code).collect();
    let (name, scheme, other) = (Code::NameNotAllowed, Code::SchemeNotAllowed, Code::CatalogMalformed);
    assert_eq!(
        codes,
        [name, other, other, other, other, scheme, other, scheme, other, other, other, other, other]
    );
    assert!(matches!(read(&document(&bad.concat())), Err(EsdCatalogError::Malformed { .. })));
}

#[test]
fn every_cut_is_refused() {
    let whole = document(&record(NAME, "A", "5", &sha1(), ""));
    let end = whole.trim_end().len();
    for cut in 0..end {
        let error = parse(&whole.as_bytes()[..cut], &Limits::default()).expect_err(&format!("cut at {cut}"));
        if cut > 5 {
            assert!(matches!(error, EsdCatalogError::Truncated { .. }), "cut at {cut}: {error}");
        }
    }
}

#[test]
fn attacks_are_refused() {
    let good = document(&record(NAME, "A", "5", &sha1(), ""));
    let limits = Limits { xml_depth: 7, ..Limits::default() };
    for (what, text) in [
        ("document type", format!("<!DOCTYPE MCT [<!ENTITY a \"b\">]>{good}")),
        ("entity", good.replace("&amp;", "&boom;")),
        ("second root", format!("{good}<MCT/>")),
        ("text after the end", format!("{good}x")),
        ("another root", good.replace("MCT>", "Other>")),
        ("a part without root", "<PublishedMedia><Files/></PublishedMedia>".to_owned()),
        ("duplicate attribute", good.replace("version=\"2.1\"", "version=\"1\" version=\"2\"")),
        ("entity in an attribute", good.replace("release=\"\"", "release=\"&boom;\"")),
        ("declaration in the middle", good.replace("<Files>", "<Files><?xml version=\"1.0\"?>")),
        ("an ampersand alone", good.replace("&amp;", "&")),
        ("strange markup", good.replace("<Files>", "<Files><!ELEMENT a>")),
        ("a field twice", good.replace("<Size>", "<Size>6</Size><Size>")),
        ("wrong nesting", good.replace("</Files>", "</File>")),
        ("empty", String::new()),
    ] {
        let refused = read(&text).expect_err(what);
        assert_eq!(refused.code(), Code::CatalogMalformed, "{what}: {refused}");
    }
    assert!(read(&good).is_ok());
    let deep = good.replace("English", "<b><c/></b>");
    assert!(matches!(parse(deep.as_bytes(), &limits), Err(EsdCatalogError::TooLarge { what: "levels", .. })));
    for few in [
        Limits { catalog_files: 0, ..Limits::default() },
        Limits { catalog_links: 0, ..Limits::default() },
        Limits { xml_attributes: 1, ..Limits::default() },
        Limits { xml_text_bytes: 10, ..Limits::default() },
        Limits { unpacked_bytes: 100, ..Limits::default() },
    ] {
        assert_eq!(parse(good.as_bytes(), &few).unwrap_err().code(), Code::CatalogTooLarge, "{few:?}");
    }
}

#[test]
fn messages_are_short_and_on_one_line_and_name_the_place() {
    let good = document(&record(NAME, "A", "5", &sha1(), ""));
    let at = good.find("</Files>").unwrap();
    let long = format!("{}\n{}", "A".repeat(10_000), "B");
    for (text, place) in [
        (good.replace("</Files>", &format!("</{long}>")), at),
        (format!("\u{feff}{}", good.replace("</Files>", "</File>")), at + 3),
    ] {
        let message = read(&text).unwrap_err().to_string();
        assert!(message.len() < 300 && !message.contains('\n'), "{message}");
        assert!(message.contains(&format!("at byte {place}:")), "{message}");
    }
    let error = parse(b"<MCT>\xff</MCT>", &Limits::default()).unwrap_err();
    assert_eq!(error.to_string(), "malformed catalog at byte 5: it is not UTF-8");
}

#[test]
fn licence_links_that_lead_nowhere_are_reported() {
    let good = document(&record(NAME, "A", "5", &sha1(), ""));
    let catalog = read(&good.replace("https://x.example/EULA.rtf", "javascript:alert(1)")).unwrap();
    assert_eq!((catalog.files.len(), catalog.licenses.len()), (1, 0));
    assert_eq!(catalog.refused[0].file_name, "EULA en-us");
    assert_eq!(catalog.refused[0].code, Code::SchemeNotAllowed);
}

#[test]
fn a_flood_of_editions_is_linear() {
    // 60,000 editions of one ESD, in the worst order for insertion.
    let records: String =
        (0..60_000).rev().map(|i| record(NAME, &format!("E{i:06}"), "5", &sha1(), "")).collect();
    let catalog = read(&document(&records)).unwrap();
    assert_eq!((catalog.records, catalog.files.len(), catalog.files[0].editions.len()), (60_000, 1, 60_000));
    assert!(catalog.files[0].editions.is_sorted());
}

#[test]
fn what_was_read_survives_json() {
    let catalog = read(&document(&record(NAME, "A", "5", &sha1(), ""))).unwrap();
    let json = serde_json::to_string(&catalog).unwrap();
    assert_eq!(serde_json::from_str::<EsdCatalog>(&json).unwrap(), catalog);
}

#[test]
fn encodings_and_wrappings_are_one() {
    let text = document(&record(NAME, "Ünïcode", "5", &sha1(), ""));
    let plain = read(&text).unwrap();
    let with_mark = format!("\u{feff}<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n{text}");
    assert_eq!(read(&with_mark).unwrap(), plain);
    let utf16: Vec<u8> =
        [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    assert_eq!(parse(&utf16, &Limits::default()).unwrap(), plain);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, text.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    assert_eq!(unpack(&gzip, &Limits::default()).unwrap(), text.as_bytes());
    assert!(matches!(
        unpack(&gzip[..gzip.len() / 2], &Limits::default()),
        Err(EsdCatalogError::Truncated { .. })
    ));
    let small = Limits { unpacked_bytes: 100, ..Limits::default() };
    assert!(matches!(unpack(&gzip, &small), Err(EsdCatalogError::TooLarge { .. })));
    assert!(matches!(parse(&[0xff, 0x80], &Limits::default()), Err(EsdCatalogError::Malformed { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    /// Any damage ends in a value or an error, never in a panic.
    #[test]
    fn damage_never_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = document(&record(NAME, "A", "5", &sha1(), "")).into_bytes();
        for (index, value) in changes {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        let _ = parse(&bytes, &Limits::default());
    }
}
