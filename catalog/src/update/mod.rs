//! One published state of an update, as its document says ([MS-WSUSSS] section 2.2.5): who it is, what it is called, what it
//! needs, replaces and contains, and its files with every digest.
//!
//! The document itself is kept elsewhere, byte for byte; this is what questions are asked of. New handlers, elements and
//! attributes appear every year, so what is unknown never fails: attributes are kept by name, elements are passed over.
//! Rules and handler data can have 47 MB; they are checked to be XML, and nothing of them is kept.

mod date;
mod read;

use serde::{Deserialize, Serialize};

pub use read::parse;

use crate::digest::Digests;
use crate::id::{FileName, InvalidId, RevisionId, UpdateId};
use crate::problem::{Code, Coded};
use crate::xml::XmlError;

/// The namespace of update documents.
pub const NAMESPACE: &str = "http://schemas.microsoft.com/msus/2002/12/Update";

/// Why a document is no update.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// It is not read as XML.
    #[error("the update document cannot be read")]
    Xml(#[from] XmlError),
    /// It is XML, but says something that no update can say.
    #[error("malformed update document at byte {position}: {what}")]
    Malformed {
        /// Where: a byte of its UTF-8 form.
        position: u64,
        /// What is wrong.
        what: String,
    },
    /// More than the limits allow.
    #[error("the update document has more {what} than the {most} that are read")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        most: u64,
    },
}

impl Coded for UpdateError {
    fn code(&self) -> Code {
        match self {
            Self::Xml(error) => error.code(),
            Self::Malformed { .. } => Code::CatalogMalformed,
            Self::TooLarge { .. } => Code::CatalogTooLarge,
        }
    }
}

/// One revision of an update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// Which revision of which update.
    pub id: RevisionId,
    /// What sort of thing it is.
    pub kind: Kind,
    /// The attributes and children of `Properties`.
    pub properties: Properties,
    /// Titles and descriptions, in the order of the document.
    pub localized: Vec<Localized>,
    /// Licence texts by language.
    pub licenses: Vec<LicenseFile>,
    /// What must be there first: every clause.
    pub prerequisites: Vec<Prerequisite>,
    /// What it contains: one revision of every clause.
    pub bundled: Vec<Bundled>,
    /// What it replaces.
    pub superseded: Vec<UpdateId>,
    /// Its own files; those of bundled updates are theirs.
    pub files: Vec<UpdateFile>,
    /// What installs it, from the `xsi:type` of its handler data.
    pub handler: Option<Handler>,
    /// Of a category: what it groups.
    pub category: Option<CategoryInformation>,
}

impl Revision {
    /// The categories that it is in: classification and products of an update, the parent of a category. In the order of
    /// the document, each once. Members of a bundle often name theirs in plain clauses, which are not counted.
    pub fn categories(&self) -> Vec<UpdateId> {
        let mut categories = Vec::new();
        for id in
            self.prerequisites.iter().filter(|clause| clause.is_category).flat_map(|clause| &clause.any_of)
        {
            if !categories.contains(id) {
                categories.push(*id);
            }
        }
        categories
    }

    /// Its title in `language`, or else in the language that it names as its default, in English, or in any.
    pub fn title(&self, language: &str) -> Option<&str> {
        self.localized_in(language).map(|one| one.title.as_str())
    }

    /// Its texts in the language that [`Revision::title`] would choose.
    pub fn localized_in(&self, language: &str) -> Option<&Localized> {
        let wanted = [Some(language), self.properties.default_language.as_deref(), Some("en")];
        let named =
            |wanted: &str| self.localized.iter().find(|one| one.language.eq_ignore_ascii_case(wanted));
        wanted.into_iter().flatten().find_map(named).or(self.localized.first())
    }

    /// Its publisher has withdrawn it: no longer offered, kept where others refer to it.
    pub fn is_expired(&self) -> bool {
        self.properties.publication_state.eq_ignore_ascii_case("Expired")
    }

    /// What installs it, as far as we know such things: by its handler data, else by the handler that it names.
    pub fn handler_kind(&self) -> Option<HandlerKind> {
        let named = self.handler.as_ref().map(|handler| handler.namespace.as_str());
        named.or(self.properties.handler.as_deref()).map(HandlerKind::of)
    }
}

/// What sort of thing an update is (`UpdateType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A classification, a product, a family of products or a company.
    Category,
    /// A question about a machine, asked by others as a prerequisite.
    Detectoid,
    /// Something to install: an update, or a bundle of them.
    Software,
    /// A driver.
    Driver,
    /// A type that we do not know, or none: kept, never offered.
    Other,
}

/// A name and a value that are kept as they came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The local name.
    pub name: String,
    /// The value.
    pub value: String,
}

/// A point in time as it was written, with or without an offset, and what it means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timestamp {
    /// The text of the document.
    pub text: String,
    /// Milliseconds since 1970-01-01T00:00:00Z; `None` where the text is no time. Without an offset it is taken as UTC.
    pub unix_ms: Option<i64>,
}

/// What `Properties` says. Booleans that are absent are false, as in the schema.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Properties {
    /// It may be approved by itself. Not set on members of bundles, helpers and categories.
    pub explicitly_deployable: bool,
    /// `Published` or `Expired`; other words are kept.
    pub publication_state: String,
    /// When it was published.
    pub created: Option<Timestamp>,
    /// The licence that must be accepted: once for all updates that name it.
    pub eula: Option<UpdateId>,
    /// It is an upgrade of the operating system. The type is not published, so any value but `false` and `0` says so.
    pub os_upgrade: bool,
    /// Before release: not shown unless asked for.
    pub is_beta: bool,
    /// It must be installed.
    pub is_mandatory: bool,
    /// Windows Update offers it without being asked.
    pub auto_select: bool,
    /// Published by a site itself.
    pub is_locally_published: bool,
    /// URI of the handler.
    pub handler: Option<String>,
    /// The most bytes that a client fetches, as declared; wrong for sets of files that are fetched in part.
    pub max_download_size: Option<u64>,
    /// The fewest bytes that a client fetches, as declared.
    pub min_download_size: Option<u64>,
    /// The language of texts that have none.
    pub default_language: Option<String>,
    /// Who published it.
    pub publisher: Option<UpdateId>,
    /// A name for people who publish: the best one of enablement packages.
    pub legacy_name: Option<String>,
    /// What a detectoid detects.
    pub detectoid_type: Option<String>,
    /// Severity of the security problem that it solves.
    pub msrc_severity: Option<String>,
    /// The product of a set of files.
    pub product_name: Option<String>,
    /// The build of a set of files: `10.0.22621.5909`.
    pub release_version: Option<String>,
    /// The oldest protocol that may be told of it.
    pub compatible_protocol: Option<String>,
    /// Numbers of its articles.
    pub kb_articles: Vec<String>,
    /// Its security bulletins.
    pub security_bulletins: Vec<String>,
    /// Languages that it states outside of its texts; `all` marks sets of files for every language.
    pub languages: Vec<String>,
    /// Where to get help.
    pub support_url: Option<String>,
    /// Where to read more.
    pub more_info_url: Option<String>,
    /// How it behaves when it is installed: `RebootBehavior`, `Impact`, …
    pub installation: Vec<Named>,
    /// How it behaves when it is removed.
    pub uninstallation: Vec<Named>,
    /// Parts that only an authorised client gets: `FileDecryption`, `FileURL`.
    pub secured_fragments: Vec<String>,
    /// Attributes that are not known, or whose value is not as expected.
    pub other: Vec<Named>,
}

/// What people read about an update, in one language. Trimmed, and cut where nobody would read on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Localized {
    /// The language, in lower case.
    pub language: String,
    /// The title, on one line.
    pub title: String,
    /// The description, if there is one.
    pub description: Option<String>,
    /// How to remove it.
    pub uninstall_notes: Option<String>,
    /// Where to read more.
    pub more_info_url: Option<String>,
    /// Where to get help.
    pub support_url: Option<String>,
}

/// One condition: any of these updates is installed, or detected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prerequisite {
    /// The alternatives; one, where the document names it alone.
    pub any_of: Vec<UpdateId>,
    /// It says what the update is about, not what it needs.
    pub is_category: bool,
}

/// One part of a bundle: any of these revisions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundled {
    /// The alternatives; one, where the document names it alone.
    pub any_of: Vec<RevisionId>,
}

/// A digest of an algorithm that we do not compute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherDigest {
    /// The algorithm as named.
    pub algorithm: String,
    /// The digest as written: base64.
    pub base64: String,
}

/// One file of an update. Names are not unique over updates: a digest is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateFile {
    /// The name as published: a label. See [`UpdateFile::file_name`].
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// The digests that we can check.
    pub digests: Digests,
    /// Digests of other algorithms.
    pub other_digests: Vec<OtherDigest>,
    /// `SelfContained`, `Express`, `None`, …
    pub patching_type: Option<String>,
    /// What it is for in a set of files: `Metadata`, `ServicingStack`.
    pub patching_type_preferred: Option<String>,
    /// When it was last changed.
    pub modified: Option<Timestamp>,
    /// Only with a key can it be used.
    pub is_encrypted: bool,
    /// Attributes that are not known.
    pub other: Vec<Named>,
}

impl UpdateFile {
    /// Its name, where that is safe to use as one.
    ///
    /// # Errors
    /// [`InvalidId`] for paths, reserved names and the like.
    pub fn file_name(&self) -> Result<FileName, InvalidId> {
        self.name.parse()
    }
}

/// A licence text in one language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LicenseFile {
    /// The language, in lower case.
    pub language: String,
    /// The country that it is for, if only for one.
    pub geo_id: Option<String>,
    /// The file that holds it.
    pub file: UpdateFile,
}

/// What installs an update: the expanded name of its handler data's type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handler {
    /// The namespace, which is the handler.
    pub namespace: String,
    /// The type in it.
    pub name: String,
}

/// The handlers that we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandlerKind {
    /// A category: nothing to install.
    Category,
    /// A program that is run.
    CommandLine,
    /// Servicing of components.
    Cbs,
    /// Windows Installer patches.
    WindowsInstaller,
    /// Windows patches.
    WindowsPatch,
    /// A driver.
    WindowsDriver,
    /// Windows Setup: classic feature updates.
    WindowsSetup,
    /// A set of files that the update agent puts together.
    OsInstaller,
    /// Any other.
    Other,
}

impl HandlerKind {
    /// The handler of this namespace.
    pub fn of(namespace: &str) -> Self {
        let (family, name) = namespace.rsplit_once('/').unwrap_or_default();
        match (family, name) {
            ("http://schemas.microsoft.com/msus/2016/01/UpdateHandlers", "OSInstaller") => Self::OsInstaller,
            ("http://schemas.microsoft.com/msus/2002/12/UpdateHandlers", name) => match name {
                "Category" => Self::Category,
                "CommandLineInstallation" => Self::CommandLine,
                "Cbs" => Self::Cbs,
                "WindowsInstaller" => Self::WindowsInstaller,
                "WindowsPatch" => Self::WindowsPatch,
                "WindowsDriver" => Self::WindowsDriver,
                "WindowsSetup" => Self::WindowsSetup,
                _ => Self::Other,
            },
            _ => Self::Other,
        }
    }
}

/// What a category groups, and how it is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CategoryInformation {
    /// `Company`, `ProductFamily`, `Product` or `UpdateClassification`; others are kept.
    pub category_type: String,
    /// No category may be in it.
    pub prohibits_subcategories: bool,
    /// No update may be in it.
    pub prohibits_updates: bool,
    /// Not chosen unless asked for.
    pub excluded_by_default: bool,
    /// Its place among its like.
    pub display_order: Option<i64>,
}
