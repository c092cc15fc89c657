//! Names of things, as types. Each is checked once, where it is parsed, and printed in one way only.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text is not the name of anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct InvalidId {
    /// The text that was given, cut to 80 characters.
    pub text: String,
    /// What would have been accepted, with its article: "an update id (a GUID)".
    pub expected: &'static str,
}

impl InvalidId {
    /// Remembers `text` (cut, so that hostile input cannot flood a log) and what was expected instead.
    pub fn new(text: &str, expected: &'static str) -> Self {
        Self { text: text.chars().take(80).collect(), expected }
    }
}

/// An update, across all its revisions. Upstreams print GUIDs in either case; we compare values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UpdateId(pub Uuid);

impl UpdateId {
    /// Namespace of the ids that we give to files of an ESD catalog, which has no ids of its own.
    /// Fixed for ever: another value would make every known update a new one.
    const ESD_CATALOG: Uuid = Uuid::from_u128(0x6a1f_58f2_7c0e_4d53_9b1d_2f64_a5c1_e0d7);

    /// The id of the feature update that an ESD catalog describes by these five facts (RFC 9562 section
    /// 5.5, UUIDv5). All are compared without regard to case.
    pub fn of_esd(
        product: &str,
        major_build: u32,
        edition_group: &str,
        architecture: &str,
        language: &str,
    ) -> Self {
        let name = format!("esd\n{product}\n{major_build}\n{edition_group}\n{architecture}\n{language}");
        Self(Uuid::new_v5(&Self::ESD_CATALOG, name.to_lowercase().as_bytes()))
    }

    /// The id of a file whose name says nothing: made from the lower-case hex text of its digest.
    pub fn of_unrecognised(digest_hex: &str) -> Self {
        Self(Uuid::new_v5(&Self::ESD_CATALOG, format!("digest\n{}", digest_hex.to_lowercase()).as_bytes()))
    }

    /// The first eight digits: what tables show and what people type.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl fmt::Display for UpdateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_hyphenated())
    }
}

impl FromStr for UpdateId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Uuid::parse_str(text).map(Self).map_err(|_| InvalidId::new(text, "an update id (a GUID)"))
    }
}

/// Counts the published states of one update, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RevisionNumber(pub u32);

/// One published state of an update. The number alone names nothing, so it never travels alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RevisionId {
    /// The update whose state this is.
    pub update: UpdateId,
    /// Which of its states.
    pub number: RevisionNumber,
}

impl fmt::Display for RevisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.update, self.number.0)
    }
}

/// Three characters that prefix the ids of a site's packages: `XYZ`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SiteCode(String);

impl SiteCode {
    /// The code as text, upper case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SiteCode {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let valid = text.len() == 3 && text.bytes().all(|b| b.is_ascii_alphanumeric());
        if !valid {
            return Err(InvalidId::new(text, "a site code (three letters or digits)"));
        }
        Ok(Self(text.to_ascii_uppercase()))
    }
}

/// A package-like object of a site: its code and five hexadecimal digits, as in `XYZ0004B`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PackageId(String);

impl PackageId {
    /// The id number `sequence` of `site`; five digits hold 1,048,575 of them.
    pub fn new(site: &SiteCode, sequence: u32) -> Self {
        Self(format!("{}{:05X}", site.0, sequence & 0xF_FFFF))
    }

    /// The id as text, upper case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PackageId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = || InvalidId::new(text, "a package id (site code and five hexadecimal digits)");
        let (site, digits) = text.split_at_checked(3).ok_or_else(invalid)?;
        let site: SiteCode = site.parse().map_err(|_| invalid())?;
        if digits.len() != 5 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(invalid());
        }
        Ok(Self(format!("{}{}", site.0, digits.to_ascii_uppercase())))
    }
}

macro_rules! text_newtype {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> { text.parse() }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String { name.0 }
        }
    )*};
}
text_newtype!(SiteCode, PackageId);

macro_rules! row_id {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, "{}", self.0) }
        }
        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                text.parse().map(Self).map_err(|_| InvalidId::new(text, "a number"))
            }
        }
    )*};
}
row_id! {
    /// One piece of long work, numbered per site.
    TaskId,
    /// One synchronisation run, numbered per site.
    RunId,
}

/// The name of a file that others gave us, safe to use as one path component and in a URL.
///
/// Refused: empty names, `.` and `..`, separators of either system, drive letters and streams (`:`),
/// control characters, names that Windows reserves, trailing dots or blanks, and more than 200 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileName(String);

impl FileName {
    /// The longest name accepted, in bytes: what common file systems hold, less room for our suffixes.
    pub const LONGEST: usize = 200;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FileName {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        const RESERVED: [&str; 4] = ["con", "prn", "aux", "nul"];
        let stem = text.split('.').next().unwrap_or_default().to_ascii_lowercase();
        let numbered_device = stem.len() == 4
            && (stem.starts_with("com") || stem.starts_with("lpt"))
            && stem.as_bytes()[3].is_ascii_digit();
        let safe = !text.is_empty()
            && text.len() <= Self::LONGEST
            && !text.starts_with('.')
            && !text.ends_with(['.', ' '])
            && !text.chars().any(|c| c.is_control() || "/\\:*?\"<>|".contains(c))
            && !RESERVED.contains(&stem.as_str())
            && !numbered_device;
        if !safe {
            return Err(InvalidId::new(text, "a plain file name (no path, no reserved name)"));
        }
        Ok(Self(text.to_owned()))
    }
}
text_newtype!(FileName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_facts_in_any_case_are_one_update() {
        let one = UpdateId::of_esd("Windows 11", 26200, "CLIENTBUSINESS_VOL", "x64", "en-us");
        assert_eq!(one, UpdateId::of_esd("windows 11", 26200, "clientbusiness_vol", "X64", "EN-US"));
        assert_ne!(one, UpdateId::of_esd("Windows 11", 26100, "CLIENTBUSINESS_VOL", "x64", "en-us"));
        // Fixed for ever: a change of this text makes every stored update unknown.
        assert_eq!(one.to_string(), "8d73390f-0f0f-5f56-9e7d-f2021a6b8164");
    }

    #[test]
    fn package_ids_round_trip() {
        let site: SiteCode = "xyz".parse().unwrap();
        let id = PackageId::new(&site, 75);
        assert_eq!(id.as_str(), "XYZ0004B");
        assert_eq!("xyz0004b".parse::<PackageId>().unwrap(), id);
        for bad in ["", "XYZ", "XYZ0004", "XYZ0004BB", "XYZ0004G", "X-Z0004B", "ÄÖ00041"] {
            assert!(bad.parse::<PackageId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn path_tricks_are_no_file_names() {
        for bad in [
            "", ".", "..", "../x", "a/b", "a\\b", "C:x", "a:stream", "x\0", "x\n", "nul", "NUL.esd",
            "com1.txt", "x.", "x ", ".hidden", "a?b", "a*b",
        ] {
            assert!(bad.parse::<FileName>().is_err(), "{bad:?}");
        }
        assert!("x".repeat(201).parse::<FileName>().is_err());
        for good in ["26200.8246_x64FRE_en-us.esd", "Ünïcode.esd", "communal.esd", "a b.wim"] {
            assert!(good.parse::<FileName>().is_ok(), "{good:?}");
        }
    }
}
