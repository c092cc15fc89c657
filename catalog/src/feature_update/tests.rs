use super::*;
use crate::limits::Limits;
use crate::update;

const WINDOWS_11: &str = "72e7624a-5b00-45d2-b92f-e561c0a6a160";

struct Document<'d> {
    id: u32,
    title: &'d str,
    properties: &'d str,
    rest: &'d str,
    files: &'d [(&'d str, &'d str, u8)],
    handler: &'d str,
}

const PLAIN: Document<'static> = Document {
    id: 1,
    title: "",
    properties: "ExplicitlyDeployable=\"true\"",
    rest: "",
    files: &[],
    handler: "http://schemas.microsoft.com/msus/2002/12/UpdateHandlers/WindowsSetup",
};

impl Document<'_> {
    fn revision(&self) -> Revision {
        let files: String = self
            .files
            .iter()
            .map(|(name, kind, digest)| {
                let sha1 = format!("{}=", ["AAAAAAAAAAAAAAAAAAAAAAAAAAA", "AQEBAQEBAQEBAQEBAQEBAQEBAQE"][*digest as usize]);
                format!(
                    "<File Digest=\"{sha1}\" DigestAlgorithm=\"SHA1\" FileName=\"{name}\" Size=\"7\" PatchingType=\"{kind}\" />"
                )
            })
            .collect();
        let text = format!(
            "<Update xmlns=\"http://schemas.microsoft.com/msus/2002/12/Update\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
             xmlns:h=\"{}\"><UpdateIdentity UpdateID=\"00000000-0000-4000-8000-{:012}\" RevisionNumber=\"200\" />\
             <Properties UpdateType=\"Software\" CreationDate=\"2022-09-20T17:00:00Z\" {} />\
             <LocalizedPropertiesCollection><LocalizedProperties><Language>en</Language><Title> {} </Title></LocalizedProperties>\
             </LocalizedPropertiesCollection>{}<Relationships><Prerequisites><AtLeastOne IsCategory=\"true\"><UpdateIdentity UpdateID=\"{UPGRADES}\" />\
             </AtLeastOne><AtLeastOne IsCategory=\"true\"><UpdateIdentity UpdateID=\"{WINDOWS_11}\" /></AtLeastOne></Prerequisites></Relationships>\
             <Files>{files}</Files><HandlerSpecificData xsi:type=\"h:X\" /></Update>",
            self.handler, self.id, self.properties, self.title, self.rest
        );
        update::parse(text.as_bytes(), &Limits::default()).unwrap_or_else(|error| panic!("{error:?}: {text}"))
    }
}

#[test]
fn a_name_tells_more_surely_than_a_title() {
    let whole = Document { title: "Windows 10 (consumer editions) version 2004 fr-fr x86", ..PLAIN };
    let esd = "22621.382.220806-0833.ni_release_svc_refresh_CLIENTBUSINESS_VOL_x64FRE_ar-sa.esd";
    let part = Document { id: 2, files: &[(esd, "None", 0)], ..PLAIN };
    let named = FeatureUpdate::describe(&whole.revision(), &[part.revision()]);
    assert_eq!((named.shape, named.told_by), (Shape::Esd, ToldBy::FileName));
    assert_eq!(
        (named.product, named.release.as_deref(), named.edition_group.as_deref()),
        (Some(Product::Windows11), Some("22H2"), Some("business"))
    );
    assert_eq!((named.architecture.as_str(), named.language.as_str()), ("x64", "ar-sa"));
    assert_eq!(
        named.title, "Windows 10 (consumer editions) version 2004 fr-fr x86",
        "the title is Microsoft's"
    );
    let part = Document { id: 2, files: &[("upgrade.esd", "None", 0)], ..PLAIN };
    let titled = FeatureUpdate::describe(&whole.revision(), &[part.revision()]);
    assert_eq!((titled.shape, titled.told_by), (Shape::Esd, ToldBy::Title));
    assert_eq!((titled.release.as_deref(), titled.language.as_str()), (Some("2004"), "fr-fr"));
}

#[test]
fn titles_of_every_year_are_read() {
    for (title, (product, release, group, architecture, language)) in [
        ("Windows 11 22H2 (business editions) el-gr x64", ("Windows 11", "22H2", "business", "x64", "el-gr")),
        (
            "Windows 10 (consumer editions) version 1903 fr-ca x86",
            ("Windows 10", "1903", "consumer", "x86", "fr-ca"),
        ),
        (
            "Windows 10 (business editions), version 1809 x64 2019-03B nl-nl",
            ("Windows 10", "1809", "business", "x64", "nl-nl"),
        ),
        (
            "Windows 10 Version 21H1 x86-based systems 2021-05 via Enablement Package",
            ("Windows 10", "21H1", "-", "x86", "-"),
        ),
        ("Windows 11, version 24H2 arm64 2024-10B", ("Windows 11", "24H2", "-", "arm64", "-")),
        ("Feature update 2024-10 x64-based", ("-", "-", "-", "x64", "-")),
        ("", ("-", "-", "-", "-", "-")),
    ] {
        let told = Told::read(title);
        let dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        assert_eq!(
            (
                dash(told.product.map(|p| p.to_string())).as_str(),
                dash(told.release).as_str(),
                dash(told.edition_group).as_str(),
                dash(told.architecture.map(|a| a.to_string())).as_str(),
                dash(told.language).as_str()
            ),
            (product, release, group, architecture, language),
            "{title}"
        );
    }
}

#[test]
fn shapes_are_known_by_handler_name_and_file() {
    let set = "http://schemas.microsoft.com/msus/2016/01/UpdateHandlers/OSInstaller";
    let cbs = "http://schemas.microsoft.com/msus/2002/12/UpdateHandlers/Cbs";
    let legacy = "ExplicitlyDeployable=\"true\" LegacyName=\"KB5015684-Windows1022H2-RTM-FeatureEnablement-X64-TSL-Upgrade\"";
    let whole = Document { title: "Windows 10 Version 22H2 x64-based systems", properties: legacy, ..PLAIN };
    let part = Document { id: 2, files: &[("kb.cab", "SelfContained", 0)], handler: cbs, ..PLAIN };
    let enablement = FeatureUpdate::describe(&whole.revision(), &[part.revision()]);
    assert_eq!((enablement.shape, enablement.bases.len()), (Shape::Enablement, 4));
    assert_eq!(enablement.language, EVERY_LANGUAGE);
    let whole = Document { title: "Windows 11, version 24H2 x64 2024-10B", ..PLAIN };
    let version = "ReleaseVersion=\"10.0.26100.1742\"";
    let part = Document {
        id: 2,
        properties: version,
        files: &[("AggregatedMetadata.cab", "SelfContained", 0), ("../escape.psf", "Express", 1)],
        handler: set,
        ..PLAIN
    };
    let files = FeatureUpdate::describe(&whole.revision(), &[part.revision()]);
    assert_eq!(
        (files.shape, files.files.len(), files.told_by),
        (Shape::FileSet, 2, ToldBy::Title),
        "a set needs all"
    );
    assert_eq!(files.build, Some(Build { major: 26100, minor: 1742, stamp: None }));
    assert_eq!(
        files.files[1].name.as_str(),
        "0101010101010101010101010101010101010101.bin",
        "a path is no name"
    );
    let part = Document { handler: cbs, ..part };
    let patch = FeatureUpdate::describe(&whole.revision(), &[part.revision(), part.revision()]);
    assert_eq!(patch.files.len(), 1, "express beside a whole file is left out, and each digest stands once");
}

#[test]
fn only_what_is_deployable_by_itself_is_offered() {
    assert!(is_offered(&PLAIN.revision()));
    assert!(!is_offered(&Document { properties: "", ..PLAIN }.revision()));
    let expired =
        Document { properties: "ExplicitlyDeployable=\"true\" PublicationState=\"Expired\"", ..PLAIN };
    assert!(FeatureUpdate::describe(&expired.revision(), &[]).expired);
}
