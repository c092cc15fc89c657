//! Update documents: own small ones, real ones where they are at hand, and what is done to them.

use std::fmt::Write as _;
use std::path::PathBuf;

use catalog::limits::Limits;
use catalog::problem::{Code, Coded as _};
use catalog::update::{self, HandlerKind, Kind, Named, Revision, UpdateError};
use catalog::xml::XmlError;
use proptest::prelude::*;

const SHA1: &str = "AAECAwQFBgcICQoLDA0ODxAREhM=";
const SHA256: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const PRODUCT: &str = "11111111-2222-3333-4444-00000000000a";
const CLASSIFICATION: &str = "11111111-2222-3333-4444-00000000000b";

/// A feature update with everything that one can have.
fn sample() -> String {
    format!(
        r#"<u:Update xmlns:u="http://schemas.microsoft.com/msus/2002/12/Update" xmlns:new="urn:next-year">
  <u:UpdateIdentity UpdateID="ABCDEF00-0000-4000-8000-000000000001" RevisionNumber="203"/>
  <u:Properties UpdateType="Software" ExplicitlyDeployable="true" AutoSelectOnWebSites="false" OSUpgrade="swap"
     EulaID="99999999-0000-4000-8000-000000000001" IsPublic="true" IsBeta="0" PublicationState="Expired"
     CreationDate="2022-09-20T10:00:00.5-07:00" DefaultPropertiesLanguage="en" MaxDownloadSize="4294967297"
     MinDownloadSize="many" LegacyName="KB1-FeatureEnablement" Handler="urn:h" Sparkle="yes" new:UpdateType="Driver">
    <u:InstallationBehavior RebootBehavior="CanRequestReboot" Impact="Normal"/>
    <u:SupportUrl> https://support.example/ </u:SupportUrl><u:MoreInfoUrl></u:MoreInfoUrl>
    <u:KBArticleID>3012973</u:KBArticleID><u:KBArticleID>5000001</u:KBArticleID>
    <u:SecuredFragment FragmentType="FileDecryption"/><u:Sparkles><u:Deep/></u:Sparkles>
  </u:Properties>
  <u:LocalizedPropertiesCollection>
    <u:LocalizedProperties><u:Language>EN</u:Language><u:Title>  Feature&#10;update &amp; more </u:Title>
      <u:Description>One
two</u:Description></u:LocalizedProperties>
    <u:LocalizedProperties><u:Language>de</u:Language><u:Title>Funktionsupdate</u:Title></u:LocalizedProperties>
  </u:LocalizedPropertiesCollection>
  <u:EulaFile Digest="{SHA1}" DigestAlgorithm="SHA1" FileName="eula.txt" Size="9" Language="DE" GeoId="94"/>
  <u:Relationships>
    <u:Prerequisites>
      <u:UpdateIdentity UpdateID="11111111-2222-3333-4444-000000000001"/>
      <u:AtLeastOne><u:UpdateIdentity UpdateID="11111111-2222-3333-4444-000000000002"/>
        <u:UpdateIdentity UpdateID="11111111-2222-3333-4444-000000000003"/></u:AtLeastOne>
      <u:AtLeastOne IsCategory="true"><u:UpdateIdentity UpdateID="{PRODUCT}"/></u:AtLeastOne>
      <u:AtLeastOne IsCategory="true"><u:UpdateIdentity UpdateID="{CLASSIFICATION}"/>
        <u:UpdateIdentity UpdateID="{PRODUCT}"/></u:AtLeastOne>
    </u:Prerequisites>
    <u:SupersededUpdates><u:UpdateIdentity UpdateID="11111111-2222-3333-4444-000000000004"/></u:SupersededUpdates>
    <u:BundledUpdates>
      <u:UpdateIdentity UpdateID="11111111-2222-3333-4444-000000000005" RevisionNumber="1"/>
      <u:AtLeastOne><u:UpdateIdentity UpdateID="11111111-2222-3333-4444-000000000006" RevisionNumber="2"/>
        <u:UpdateIdentity UpdateID="11111111-2222-3333-4444-000000000007" RevisionNumber="3"/></u:AtLeastOne>
    </u:BundledUpdates>
  </u:Relationships>
  <u:ApplicabilityRules><u:IsInstalled><any xmlns="urn:rules"/></u:IsInstalled></u:ApplicabilityRules>
  <u:Files>
    <u:File Digest="{SHA1}" DigestAlgorithm="SHA1" FileName="x.esd" Size="4294967296" PatchingType="None"
        Modified="2022-09-20T17:00:00Z" PiecesHashUrl="http://pieces.example/">
      <u:AdditionalDigest Algorithm="SHA256">{SHA256}</u:AdditionalDigest>
      <u:AdditionalDigest Algorithm="SHA512">QUJD</u:AdditionalDigest></u:File>
    <u:File FileName="..\up.exe" Size="0" IsEncrypted="true"/>
  </u:Files>
  <u:HandlerSpecificData xmlns:i="http://www.w3.org/2001/XMLSchema-instance"
     xmlns:w="http://schemas.microsoft.com/msus/2002/12/UpdateHandlers/WindowsSetup" i:type="w:WindowsSetup">
     <w:InstallCommand Program="setup.exe"/></u:HandlerSpecificData>
  <u:NextYear/>
</u:Update>"#
    )
}

fn parse(text: &str) -> Result<Revision, UpdateError> {
    update::parse(text.as_bytes(), &Limits::default())
}

#[test]
fn a_document_says_all_that_is_in_it() {
    let update = parse(&sample()).unwrap();
    assert_eq!(update.id.to_string(), "abcdef00-0000-4000-8000-000000000001/203");
    assert_eq!(update.kind, Kind::Software);
    let properties = &update.properties;
    assert!(properties.explicitly_deployable && properties.os_upgrade && !properties.is_beta);
    assert!(update.is_expired());
    assert_eq!(properties.created.as_ref().unwrap().unix_ms, Some(1_663_693_200_500));
    assert_eq!(properties.eula.unwrap().to_string(), "99999999-0000-4000-8000-000000000001");
    assert_eq!((properties.max_download_size, properties.min_download_size), (Some(4_294_967_297), None));
    assert_eq!(properties.kb_articles, ["3012973", "5000001"]);
    assert_eq!(properties.support_url.as_deref(), Some("https://support.example/"));
    assert_eq!(properties.more_info_url, None);
    assert_eq!(properties.secured_fragments, ["FileDecryption"]);
    assert_eq!(properties.installation[0].value, "CanRequestReboot");
    let named = |name: &str, value: &str| Named { name: name.to_owned(), value: value.to_owned() };
    let kept = [
        named("IsPublic", "true"),
        named("MinDownloadSize", "many"),
        named("Sparkle", "yes"),
        named("UpdateType", "Driver"),
    ];
    assert_eq!(properties.other, kept, "what is not understood is kept, in the order of the document");
    assert_eq!(update.title("DE"), Some("Funktionsupdate"));
    assert_eq!(update.title("fr"), Some("Feature update & more"));
    assert_eq!(update.localized[0].description.as_deref(), Some("One\ntwo"));
    let license = &update.licenses[0];
    assert_eq!((license.language.as_str(), license.geo_id.as_deref()), ("de", Some("94")));
    assert_eq!((license.file.size, license.file.other.len()), (9, 0));
    let clauses: Vec<_> =
        update.prerequisites.iter().map(|one| (one.any_of.len(), one.is_category)).collect();
    assert_eq!(clauses, [(1, false), (2, false), (1, true), (2, true)]);
    let categories: Vec<_> = update.categories().iter().map(ToString::to_string).collect();
    assert_eq!(categories, [PRODUCT, CLASSIFICATION]);
    let bundled: Vec<Vec<_>> =
        update.bundled.iter().map(|one| one.any_of.iter().map(|id| id.number.0).collect()).collect();
    assert_eq!(bundled, [vec![1], vec![2, 3]]);
    assert_eq!(update.superseded.len(), 1);
    let [esd, up] = update.files.as_slice() else { panic!("{:?}", update.files) };
    assert_eq!((esd.name.as_str(), esd.size), ("x.esd", 1 << 32));
    assert_eq!(esd.digests.sha1.unwrap().to_base64(), SHA1);
    assert_eq!(esd.digests.sha256.unwrap().to_base64(), SHA256);
    assert_eq!(esd.other_digests[0].algorithm, "SHA512");
    assert_eq!(esd.other, [named("PiecesHashUrl", "http://pieces.example/")]);
    assert!(esd.file_name().is_ok() && !esd.is_encrypted);
    assert!(up.file_name().is_err() && up.is_encrypted && up.digests.is_empty());
    assert_eq!(update.handler_kind(), Some(HandlerKind::WindowsSetup));
    assert_eq!(update.category, None);
}

#[test]
fn utf_16_without_a_mark_is_the_same_update() {
    let text = sample();
    let words: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(update::parse(&words, &Limits::default()), parse(&text));
}

#[test]
fn a_category_says_what_it_groups() {
    let text = r#"<Update xmlns="http://schemas.microsoft.com/msus/2002/12/Update"><UpdateIdentity
        UpdateID="11111111-2222-3333-4444-00000000000a" RevisionNumber="1"/><Properties UpdateType="Category"/>
        <HandlerSpecificData xmlns:x="http://www.w3.org/2001/XMLSchema-instance" x:type="c:Category"
          xmlns:c="http://schemas.microsoft.com/msus/2002/12/UpdateHandlers/Category"><c:CategoryInformation
          CategoryType="Product" ProhibitsSubcategories="true" DisplayOrder="-2"/></HandlerSpecificData></Update>"#;
    let category = parse(text).unwrap();
    assert_eq!((category.kind, category.handler_kind()), (Kind::Category, Some(HandlerKind::Category)));
    assert!(!category.is_expired() && category.title("en").is_none());
    let information = category.category.unwrap();
    assert_eq!(information.category_type, "Product");
    assert!(information.prohibits_subcategories && !information.prohibits_updates);
    assert_eq!(information.display_order, Some(-2));
}

#[test]
fn what_cannot_be_an_update_is_refused() {
    let good = sample();
    let rows = [
        (good.replace("u:Update>", "u:Updates>").replace("<u:Update ", "<u:Updates "), "root element"),
        (good.replace("2002/12/Update\"", "2002/12/Other\""), "root element"),
        (good.replace(r#" RevisionNumber="203""#, ""), "RevisionNumber"),
        (good.replace("ABCDEF00-", "ABCDEFG0-"), "UpdateID"),
        (good.replace("u:UpdateIdentity", "u:Identity"), "no `UpdateIdentity`"),
        (good.replace("<u:NextYear/>", r#"<u:Properties/>"#), "two `Properties`"),
        (good.replace(r#" RevisionNumber="1""#, ""), "RevisionNumber"),
        (good.replace(r#" Size="0""#, ""), "no `Size`"),
        (good.replace(r#" Size="0""#, r#" Size="-1""#), "no `Size`"),
        (good.replace(SHA256, SHA1), "length"),
        (good.replace(SHA256, "*"), "base64"),
        (good.replace("SHA512", "SHA-1").replace("QUJD", &SHA1.replace("AAEC", "BBEC")), "differ"),
    ];
    for (text, expected) in rows {
        assert_ne!(text, good, "{expected}: the row changes nothing");
        let error = parse(&text).expect_err(expected);
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        assert_eq!(error.code(), Code::CatalogMalformed);
    }
    // Strict where nothing is used, too.
    let damaged = good.replace("<any xmlns=\"urn:rules\"/>", "<any xmlns=\"urn:rules\">&bad;</any>");
    assert!(matches!(parse(&damaged), Err(UpdateError::Xml(XmlError::Malformed { .. }))));
    let again = good.replace("SHA512", "SHA-1").replace("QUJD", SHA1);
    assert!(parse(&again).is_ok(), "a digest that is stated twice is one");
    assert_eq!(parse(&good[..good.len() / 2]).unwrap_err().code(), Code::CatalogTruncated);
    let few = Limits { update_items: 2, ..Limits::default() };
    let error = update::parse(good.as_bytes(), &few).unwrap_err();
    assert_eq!(error.code(), Code::CatalogTooLarge, "{error}");
    let few = Limits { unpacked_bytes: 100, ..Limits::default() };
    assert_eq!(update::parse(good.as_bytes(), &few).unwrap_err().code(), Code::CatalogTooLarge);
    // A size that no file has, of a file and of a licence text.
    let most = Limits::default().file_bytes;
    for (from, to, refused) in [
        (r#" Size="4294967296""#, most, false),
        (r#" Size="4294967296""#, most + 1, true),
        (r#" Size="4294967296""#, u64::MAX, true),
        (r#" Size="9""#, 1 << 63, true),
    ] {
        let error = parse(&good.replace(from, &format!(" Size=\"{to}\""))).err().map(|error| error.code());
        assert_eq!(error, refused.then_some(Code::CatalogTooLarge), "{to}");
    }
}

/// Whether this program runs the test of this name and no other. Where others run beside it, it is begun anew as a program of its
/// own, which is held to end well: what a process takes is then what this test takes.
fn runs_alone(test: &str) -> bool {
    const ALONE: &str = "SPSYNC_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let mut anew = std::process::Command::new(std::env::current_exe().expect("a test has a path"));
    anew.args(["--exact", test, "--nocapture", "--test-threads", "1"]).env(ALONE, "1");
    let ended = anew.output().expect("a test starts");
    let said = String::from_utf8_lossy(&ended.stdout);
    print!("{said}");
    assert!(ended.status.success(), "{test}: {}", String::from_utf8_lossy(&ended.stderr));
    assert!(said.contains("test result: ok. 1 passed"), "no test has the name {test}");
    false
}

/// A number of kB from `/proc/self/status`; `None` where there is no such thing.
fn status(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().nth(1)?.parse().ok())
}

#[test]
fn rules_of_47_mb_are_passed_over() {
    if !runs_alone("update::rules_of_47_mb_are_passed_over") {
        return;
    }
    const SIZE: usize = 47 << 20;
    let good = sample();
    let (head, tail) = good.split_once("<u:IsInstalled>").unwrap();
    let mut text = String::with_capacity(SIZE + good.len() + 1_000);
    text.push_str(head);
    text.push_str("<u:Metadata><c:Package xmlns:c=\"urn:cbs\">");
    let mut number = 0;
    let long = "rules that say nothing to us, ".repeat(20);
    while text.len() < SIZE {
        number += 1;
        write!(
            text,
            "<c:component name=\"n{number}\" version=\"10.0.1\"><c:file/>{long}t&amp;t</c:component>"
        )
        .unwrap();
    }
    text.push_str("</c:Package></u:Metadata><u:IsInstalled>");
    text.push_str(tail);
    let before = status("VmHWM");
    let started = std::time::Instant::now();
    let update = parse(&text).unwrap();
    println!("{} MB of rules in {:?}", text.len() >> 20, started.elapsed());
    assert_eq!(update, parse(&good).unwrap());
    if let (Some(before), Some(after)) = (before, status("VmHWM")) {
        let grown = after.saturating_sub(before); // the kernel's numbers are rounded
        assert!(grown < 8 << 10, "parsing took {grown} kB more");
    }
}

fn data(test: &str, folder: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(folder);
    if !path.is_dir() {
        println!("skipped: {test}: no ../shared/data");
        return None;
    }
    Some(path)
}

#[test]
fn real_documents_say_what_was_counted_in_them() {
    let Some(folder) = data("real_documents_say_what_was_counted_in_them", "update-xml") else { return };
    // Kind, deployable, languages, files, clauses of the bundle, handler.
    let rows = [
        ("a2fef9b0-7951-4c2c-a42b-9e351dd1c1fe-r200", Kind::Software, true, 35, 0, true, None),
        ("1f9bd9bb-7390-4aa3-bbdb-ded99fac2583-r200", Kind::Software, false, 1, 0, true, None),
        ("ccb78947-6453-4ecc-9de8-bc0305c98f2d-r200", Kind::Software, false, 1, 0, true, None),
        (
            "266f6222-c89d-43f2-9f8a-69340271e677-r200",
            Kind::Software,
            false,
            1,
            1,
            false,
            Some(HandlerKind::CommandLine),
        ),
        (
            "ff36f0b5-dded-4780-8664-cd78af8b62c1-r200",
            Kind::Software,
            false,
            1,
            1,
            false,
            Some(HandlerKind::CommandLine),
        ),
        (
            "56309036-4c77-4dd9-951a-99ee9c246a94-r101",
            Kind::Category,
            false,
            24,
            0,
            false,
            Some(HandlerKind::Category),
        ),
        (
            "6964aab4-c5b5-43bd-a17d-ffb4346a8e1d-r100",
            Kind::Category,
            false,
            24,
            0,
            false,
            Some(HandlerKind::Category),
        ),
    ];
    let mut read = std::collections::HashMap::new();
    for (name, kind, deployable, languages, files, bundle, handler) in rows {
        let bytes = std::fs::read(folder.join(format!("{name}.xml"))).unwrap();
        let update =
            update::parse(&bytes, &Limits::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let id = format!("{}-r{}", update.id.update, update.id.number.0);
        assert_eq!(id, name);
        assert_eq!(update.kind, kind, "{name}");
        assert_eq!(update.properties.explicitly_deployable, deployable, "{name}");
        assert_eq!(update.localized.len(), languages, "{name}");
        assert_eq!(update.files.len(), files, "{name}");
        assert_eq!(!update.bundled.is_empty(), bundle, "{name}");
        assert_eq!(update.handler_kind(), handler, "{name}");
        assert!(update.properties.created.as_ref().unwrap().unix_ms.is_some(), "{name}");
        assert_eq!(update.properties.eula, None, "{name}");
        for file in &update.files {
            assert!(file.digests.sha1.is_some() && file.digests.sha256.is_some(), "{name}");
            assert!(file.modified.as_ref().unwrap().unix_ms.is_some(), "{name}");
            assert!(file.file_name().is_ok() && file.other.is_empty(), "{name}");
        }
        read.insert(update.id.update, update);
    }
    let find = |id: &str| &read[&id.parse().unwrap()];
    let bundle = find("a2fef9b0-7951-4c2c-a42b-9e351dd1c1fe");
    assert_eq!(bundle.properties.kb_articles, ["2267602"]);
    assert!(bundle.bundled.len() > 1, "several groups");
    assert!(!bundle.categories().is_empty());
    // A real bundle of three levels.
    let has = |parent: &Revision, child: &Revision| {
        parent.bundled.iter().flat_map(|clause| &clause.any_of).any(|id| *id == child.id)
    };
    let (inner, leaf) =
        (find("1f9bd9bb-7390-4aa3-bbdb-ded99fac2583"), find("ff36f0b5-dded-4780-8664-cd78af8b62c1"));
    assert!(has(bundle, inner) && has(inner, leaf));
    assert!(inner.categories().is_empty(), "hidden bundles name them in plain clauses");
    assert_eq!(leaf.files[0].size, 6_662_560);
    let family = find("6964aab4-c5b5-43bd-a17d-ffb4346a8e1d");
    assert_eq!(family.category.as_ref().unwrap().category_type, "ProductFamily");
    assert_eq!(family.categories(), [find("56309036-4c77-4dd9-951a-99ee9c246a94").id.update]);
}

proptest! {
    /// Any byte of a document changed, cut out or doubled: read or refused, never a panic.
    #[test]
    fn damage_never_panics(at in 0_usize..4_000, byte in any::<u8>(), kind in 0..3) {
        let mut bytes = sample().into_bytes();
        let at = at % bytes.len();
        match kind {
            0 => bytes[at] = byte,
            1 => drop(bytes.drain(at..(at + usize::from(byte)).min(sample().len()))),
            _ => { let part = bytes[at..].to_vec(); bytes.extend(part); }
        }
        let _ = update::parse(&bytes, &Limits::default());
    }

    #[test]
    fn any_name_and_title_comes_back(title in "[^\\p{C}\\p{Z}]{1,40}", name in "[a-z0-9_.]{1,30}") {
        let escaped = title.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let text = sample().replace("Funktionsupdate", &escaped).replace("x.esd", &name);
        let update = parse(&text).unwrap();
        prop_assert_eq!(update.title("de"), Some(title.as_str()));
        prop_assert_eq!(&update.files[0].name, &name);
    }
}
