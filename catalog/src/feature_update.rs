//! What a document of the classification *Upgrades* is as a feature update: its shape, its files, and what is told by names.
//!
//! Microsoft publishes them in three shapes. Up to Windows 11 22H2 one **ESD** for each language, edition group and
//! architecture; **enablement packages** of some kilobytes, which switch on what is installed already; and from Windows 11
//! 23H2 on **file sets** of which a device fetches what it lacks. An administrator approves the bundle; the files are in
//! its parts.
//!
//! Release, editions, language and architecture stand in no field of a document. They are read from the name of the file,
//! where that has the form of an ESD's, and otherwise from the title; [`ToldBy`] says which. Nothing is keyed by them.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::digest::Digests;
use crate::esd_catalog::{Architecture, Build, EsdName, Product};
use crate::id::{FileName, UpdateId};
use crate::update::{HandlerKind, Revision, UpdateFile};

/// The classification of feature updates ([MS-WSUSSS] knows classifications by ids that are the same everywhere).
pub const UPGRADES: UpdateId = UpdateId(uuid::uuid!("3689bdc8-b205-4af4-8d4a-a63924c5e9d5"));
/// Stands for every language.
pub const EVERY_LANGUAGE: &str = "*";
/// Stands for an architecture that nothing tells.
pub const ANY_ARCHITECTURE: &str = "*";
/// Stands for every edition group.
pub const EVERY_EDITION: &str = "*";

/// In which form a feature update is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// A small package that switches on what is installed already.
    Enablement,
    /// One image for one language, edition group and architecture.
    Esd,
    /// Several files, of which a device fetches parts.
    FileSet,
}

/// What release and edition were read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToldBy {
    /// The name of the file, which has the form of an ESD's.
    #[serde(rename = "file name")]
    FileName,
    /// The title, whose form changes from year to year.
    #[serde(rename = "title")]
    Title,
    /// Nothing.
    #[serde(rename = "nothing")]
    Nothing,
}

/// One file of a feature update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeededFile {
    /// Its name, as published where that is safe to use.
    pub name: FileName,
    /// Bytes.
    pub size: u64,
    /// Every digest published; at least one.
    pub digests: Digests,
}

/// One licence text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LicenseText {
    /// Its language, in lower case.
    pub language: String,
    /// Bytes.
    pub size: u64,
    /// Every digest published; at least one.
    pub digests: Digests,
}

/// A feature update, as its document and those of its parts say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureUpdate {
    /// For people.
    pub title: String,
    /// In which form it comes.
    pub shape: Shape,
    /// What the rest of the names was read from.
    pub told_by: ToldBy,
    /// Windows 10 or 11.
    pub product: Option<Product>,
    /// `22H2`.
    pub release: Option<String>,
    /// The build.
    pub build: Option<Build>,
    /// `business`, `consumer`; [`EVERY_EDITION`] of packages and sets, which are for all editions unless they say so.
    pub edition_group: Option<String>,
    /// `x64`; [`ANY_ARCHITECTURE`].
    pub architecture: String,
    /// `en-us`; [`EVERY_LANGUAGE`].
    pub language: String,
    /// Releases that an enablement package applies to; empty for the other shapes.
    pub bases: Vec<String>,
    /// Every file that it needs, each once.
    pub files: Vec<NeededFile>,
    /// Files that have no digest that can be checked: it cannot be deployed.
    pub unusable_files: usize,
    /// Its terms, by language.
    pub licenses: Vec<LicenseText>,
    /// The id of its terms: accepting them once accepts them for every update that names it.
    pub license: Option<UpdateId>,
    /// A key is needed that nobody but Microsoft's own tools has.
    pub encrypted: bool,
    /// Its publisher has withdrawn it.
    pub expired: bool,
    /// When it was published, milliseconds since 1970.
    pub created: Option<i64>,
}

/// Whether a document is one that an administrator chooses as a feature update: deployable by itself, software, and filed
/// under *Upgrades*. Parts of bundles are not.
pub fn is_offered(revision: &Revision) -> bool {
    revision.kind == crate::update::Kind::Software
        && revision.properties.explicitly_deployable
        && revision.categories().contains(&UPGRADES)
}

impl FeatureUpdate {
    /// Describes the feature update `whole`, whose bundled revisions, all the way down, are `parts`.
    pub fn describe(whole: &Revision, parts: &[Revision]) -> Self {
        let all = || std::iter::once(whole).chain(parts);
        let (files, unusable_files) = needed_files(all());
        let title = whole.title("en").unwrap_or_default().trim().to_owned();
        let legacy =
            all().filter_map(|one| one.properties.legacy_name.as_deref()).collect::<Vec<_>>().join(" ");
        let shape = shape(all(), &title, &legacy, &files);
        let esd =
            files.iter().find_map(|file| Some((file.name.clone(), EsdName::parse(file.name.as_str())?)));
        let told = Told::read(&format!("{title} {legacy}"));
        let mut described = Self {
            title,
            shape,
            told_by: ToldBy::Nothing,
            product: told.product,
            release: told.release,
            build: all().find_map(|one| build_of(one.properties.release_version.as_deref()?)),
            edition_group: told.edition_group.or((shape != Shape::Esd).then(|| EVERY_EDITION.to_owned())),
            architecture: told.architecture.map_or_else(|| ANY_ARCHITECTURE.to_owned(), |a| a.to_string()),
            language: told.language.unwrap_or_else(|| EVERY_LANGUAGE.to_owned()),
            bases: Vec::new(),
            unusable_files,
            licenses: licenses(all()),
            license: all().find_map(|one| one.properties.eula),
            encrypted: all().any(|one| {
                one.properties.secured_fragments.iter().any(|fragment| fragment == "FileDecryption")
                    || one.files.iter().any(|file| file.is_encrypted)
            }),
            expired: whole.is_expired(),
            created: whole.properties.created.as_ref().and_then(|created| created.unix_ms),
            files,
        };
        if described.product.is_some() && described.release.is_some() {
            described.told_by = ToldBy::Title;
        }
        if let (Shape::Esd, Some((file_name, name))) = (shape, esd) {
            if let Some((architecture, language)) = EsdName::parse_target(file_name.as_str()) {
                described.architecture = architecture.to_string();
                described.language = language;
            }
            described.told_by = ToldBy::FileName;
            described.product = Some(name.product);
            described.release = Some(name.release);
            described.edition_group = Some(name.edition_group);
            described.build = Some(name.build);
        }
        if let (Shape::Enablement, Some(product), Some(release)) =
            (shape, described.product, described.release.as_deref())
        {
            described.bases = bases(product, release).iter().map(|base| (*base).to_owned()).collect();
        }
        described
    }

    /// Bytes of all its files.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).fold(0, u64::saturating_add)
    }
}

/// Every file, each digest once; how many have none that can be checked. Express files are left out where their revision
/// has others: they only spare a client bytes, and cost a server many times as many.
fn needed_files<'r>(all: impl Iterator<Item = &'r Revision>) -> (Vec<NeededFile>, usize) {
    let is_express = |file: &UpdateFile| {
        file.patching_type.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case("Express"))
    };
    let (mut files, mut unusable, mut seen) = (Vec::new(), 0, HashSet::new());
    for revision in all {
        let set = revision.handler_kind() == Some(HandlerKind::OsInstaller);
        let has_others = revision.files.iter().any(|file| !is_express(file));
        for file in revision.files.iter().filter(|file| set || !has_others || !is_express(file)) {
            if file.digests.sha1.is_none() && file.digests.sha256.is_none() {
                unusable += 1;
                continue;
            }
            if seen.insert((file.digests.sha1, file.digests.sha256, file.size)) {
                files.push(NeededFile { name: safe_name(file), size: file.size, digests: file.digests });
            }
        }
    }
    (files, unusable)
}

/// The published name, or one made of the digest where that would not be safe on a disk.
fn safe_name(file: &UpdateFile) -> FileName {
    file.file_name().unwrap_or_else(|_| {
        let digest = file.digests.strongest().unwrap_or_default();
        format!("{}.bin", &digest[..digest.len().min(40)]).parse().expect("hexadecimal digits are a name")
    })
}

fn licenses<'r>(all: impl Iterator<Item = &'r Revision>) -> Vec<LicenseText> {
    let mut texts: Vec<LicenseText> = Vec::new();
    for one in all.flat_map(|revision| &revision.licenses) {
        let known = texts.iter().any(|text| text.language == one.language);
        if !known && (one.file.digests.sha1.is_some() || one.file.digests.sha256.is_some()) {
            let language = one.language.clone();
            texts.push(LicenseText { language, size: one.file.size, digests: one.file.digests });
        }
    }
    texts
}

fn shape<'r>(
    mut all: impl Iterator<Item = &'r Revision>,
    title: &str,
    legacy: &str,
    files: &[NeededFile],
) -> Shape {
    let names_itself = legacy.to_lowercase().contains("featureenablement")
        || title.to_lowercase().contains("enablement package");
    if all.any(|one| one.handler_kind() == Some(HandlerKind::OsInstaller)) {
        return Shape::FileSet;
    }
    match files {
        _ if names_itself => Shape::Enablement,
        [one] if one.name.as_str().to_lowercase().ends_with(".esd") => Shape::Esd,
        _ => Shape::FileSet,
    }
}

/// `10.0.26100.1742`.
fn build_of(version: &str) -> Option<Build> {
    let parts: Vec<u32> = version.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
    match parts.as_slice() {
        [10, 0, major, minor] => Some(Build { major: *major, minor: *minor, stamp: None }),
        _ => None,
    }
}

/// Releases that share their files with `release`, and so can be turned into it by switching it on (Microsoft Learn,
/// "Windows 10 release information" and the articles of KB4517245, KB4562830, KB5000736, KB5003791, KB5015684,
/// KB5027397 and KB5054156). The descriptions in the catalog are no source: those of 20H2 and 22H2 say 1903.
fn bases(product: Product, release: &str) -> &'static [&'static str] {
    match (product, release) {
        (Product::Windows10, "1909") => &["1903"],
        (Product::Windows10, "20H2") => &["2004"],
        (Product::Windows10, "21H1") => &["2004", "20H2"],
        (Product::Windows10, "21H2") => &["2004", "20H2", "21H1"],
        (Product::Windows10, "22H2") => &["2004", "20H2", "21H1", "21H2"],
        (Product::Windows11, "23H2") => &["22H2"],
        (Product::Windows11, "25H2") => &["24H2"],
        _ => &[],
    }
}

/// What a title says, in whatever order it says it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    product: Option<Product>,
    release: Option<String>,
    edition_group: Option<String>,
    architecture: Option<Architecture>,
    language: Option<String>,
}

impl Told {
    fn read(title: &str) -> Self {
        let lower = title.to_lowercase();
        let words: Vec<&str> = lower
            .split(|c: char| c.is_whitespace() || matches!(c, ',' | '(' | ')'))
            .filter(|word| !word.is_empty())
            .collect();
        let mut told = Self::default();
        for pair in words.windows(2) {
            match pair {
                ["windows", "10"] if told.product.is_none() => told.product = Some(Product::Windows10),
                ["windows", "11"] if told.product.is_none() => told.product = Some(Product::Windows11),
                ["version", release] if told.release.is_none() => told.release = release_of(release),
                [group, "editions" | "edition"] if told.edition_group.is_none() => {
                    told.edition_group = Some((*group).to_owned());
                }
                _ => {}
            }
        }
        for word in &words {
            let bare = word.strip_suffix("-based").unwrap_or(word);
            if told.architecture.is_none()
                && let Ok(architecture) = bare.parse()
            {
                told.architecture = Some(architecture);
            } else if told.language.is_none() && is_language(word) {
                told.language = Some((*word).to_owned());
            } else if told.release.is_none() && word.contains('h') {
                told.release = release_of(word);
            }
        }
        told
    }
}

/// `1903`, `22h2`.
fn release_of(word: &str) -> Option<String> {
    let bytes = word.as_bytes();
    let digits = |range: std::ops::Range<usize>| bytes[range].iter().all(u8::is_ascii_digit);
    let is = bytes.len() == 4 && digits(0..2) && (digits(2..4) || (bytes[2] == b'h' && digits(3..4)));
    is.then(|| word.to_ascii_uppercase())
}

/// `en-us`, `sr-latn-rs`. A word such as `x64-based` or `2019-03b` is none.
fn is_language(word: &str) -> bool {
    let parts: Vec<&str> = word.split('-').collect();
    let letters = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase());
    (2..=3).contains(&parts.len())
        && parts.iter().all(|part| letters(part))
        && (2..=3).contains(&parts[0].len())
        && parts[1..].iter().all(|part| matches!(part.len(), 2 | 4))
}

#[cfg(test)]
mod tests;
