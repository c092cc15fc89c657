//! Microsoft's ESD catalog (`products.xml`, mostly in a cabinet): which feature-update ESDs there are, and where.
//!
//! The catalog lists an ESD once for each edition that it can upgrade, so several `<File>` records are one [`EsdFile`].
//! Everything is found by its path in the document, because the same tag names mean other things elsewhere
//! (`<LanguageCode>` also stands in `<EULA>`, `<Language>` is both a text and a container).
//! There is no published schema: the format is as observed in nine catalogs from Windows 10 1607 to Windows 11 25H2.

mod name;
mod read;
#[cfg(test)]
mod tests;
mod unpack;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use name::{Build, EsdName};
pub use read::parse;
pub use unpack::unpack;

use crate::cabinet::CabinetError;
use crate::digest::Digests;
use crate::id::{FileName, InvalidId, UpdateId};
use crate::problem::{Code, Coded};

/// Why a document is no usable ESD catalog. Positions are bytes of the unpacked XML.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EsdCatalogError {
    /// Not well-formed, or not of this format.
    #[error("malformed catalog at byte {position}: {what}")]
    Malformed {
        /// Where.
        position: u64,
        /// What is wrong.
        what: String,
    },
    /// It ends in the middle.
    #[error("the catalog ends too early, at byte {position}, inside `{inside}`")]
    Truncated {
        /// Where.
        position: u64,
        /// The path of the innermost element that is open.
        inside: String,
    },
    /// More than the limits allow.
    #[error("the catalog has more {what} than the {most} that are read")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        most: u64,
    },
    /// The cabinet around it cannot be read.
    #[error("the cabinet around the catalog cannot be read")]
    Cabinet(#[from] CabinetError),
}

impl Coded for EsdCatalogError {
    fn code(&self) -> Code {
        match self {
            Self::Malformed { .. } => Code::CatalogMalformed,
            Self::Truncated { .. } => Code::CatalogTruncated,
            Self::TooLarge { .. } => Code::CatalogTooLarge,
            Self::Cabinet(error) => error.code(),
        }
    }
}

/// What one catalog says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EsdCatalog {
    /// The version that it states, as text: `1.4.1` was seen.
    pub version: String,
    /// `<File>` records, of which several name one ESD.
    pub records: usize,
    /// One for each ESD, in the order of their first records.
    pub files: Vec<EsdFile>,
    /// Languages of the ESDs, by code.
    pub languages: Vec<LanguageName>,
    /// Where licence terms are published.
    pub licenses: Vec<LicenseLink>,
    /// Records and licence links that cannot be used: counted and listed, but no reason to refuse the rest.
    pub refused: Vec<RefusedRecord>,
}

/// What the catalog calls a language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LanguageName {
    /// Language code, lower case.
    pub code: String,
    /// `English (United States)`; empty where the catalog has no name.
    pub name: String,
}

/// Licence terms in one language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LicenseLink {
    /// Language code, lower case.
    pub language: String,
    /// Where the text is, mostly RTF.
    pub url: String,
}

/// A record that says too little, or something impossible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRecord {
    /// The file name that it states, cut; `EULA de-de` for a licence link.
    pub file_name: String,
    /// The stable code of the refusal.
    pub code: Code,
    /// Why it is not used.
    pub reason: String,
}

/// One ESD: one feature update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EsdFile {
    /// Our id for it: catalogs have none.
    pub update: UpdateId,
    /// Name of the file.
    pub file_name: FileName,
    /// Bytes.
    pub size: u64,
    /// Every digest published; at least one.
    pub digests: Digests,
    /// Where Microsoft serves it.
    pub url: String,
    /// Language code, lower case.
    pub language: String,
    /// What machines it is for.
    pub architecture: Architecture,
    /// Editions that it can upgrade, sorted.
    pub editions: Vec<String>,
    /// Published with a key: only Microsoft's own tool can open it (Windows 10 1607).
    pub encrypted: bool,
    /// Only for retail, in all its records.
    pub retail_only: bool,
    /// What the file's name says; `None` where it does not parse.
    pub name: Option<EsdName>,
}

impl EsdFile {
    /// What lists show: `Feature update to Windows 11 (business), version 25H2 x64 en-us`.
    pub fn title(&self) -> String {
        let (architecture, language) = (self.architecture, &self.language);
        match &self.name {
            Some(EsdName { product, release, edition_group, .. }) => {
                format!(
                    "Feature update to {product} ({edition_group}), version {release} {architecture} {language}"
                )
            }
            None => format!("unrecognised: {} {architecture} {language}", self.file_name),
        }
    }
}

macro_rules! named {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $($(#[$vdoc:meta])* $variant:ident $text:literal $(| $other:literal)*),+) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub enum $name { $($(#[$vdoc])* $variant),+ }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $text),+ })
            }
        }
        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let lower = text.to_ascii_lowercase();
                $(if [$text $(, $other)*].iter().any(|known| known.eq_ignore_ascii_case(&lower)) { return Ok(Self::$variant); })+
                Err(InvalidId::new(text, $expected))
            }
        }
        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> { text.parse() }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String { value.to_string() }
        }
    };
}
named!(
    /// Processor architecture. Catalogs write `ARM64`, file names `A64FRE`.
    Architecture, "an architecture (x64, x86 or arm64)",
    /// 64-bit Intel and AMD.
    X64 "x64" | "amd64",
    /// 32-bit Intel and AMD.
    X86 "x86" | "i386",
    /// 64-bit ARM.
    Arm64 "arm64" | "a64"
);
named!(
    /// What an ESD upgrades to.
    Product, "a product (Windows 10 or Windows 11)",
    /// Builds below 22000.
    Windows10 "Windows 10",
    /// Builds from 22000 on.
    Windows11 "Windows 11"
);

/// Whether the licence terms must be accepted before an update of this product can be deployed.
///
/// Of the feature updates that Microsoft published through WSUS, exactly those of Windows 11 state
/// `RequiresLicenseAgreementAcceptance`; the ESD catalog itself does not say. The administrators' symptom is documented
/// in Configuration Manager, "Create a task sequence to upgrade an OS", known issues.
pub fn requires_license(product: Product) -> bool {
    match product {
        Product::Windows10 => false,
        Product::Windows11 => true,
    }
}
