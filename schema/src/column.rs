//! Between columns and our types.

use catalog::digest::{Digests, Sha1Digest, Sha256Digest};
use catalog::id::{RevisionId, RevisionNumber, UpdateId};
use jiff::Timestamp;
use rusqlite::Row;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::open::SchemaError;

fn wrong(what: &str) -> SchemaError {
    SchemaError::Value(what.to_owned())
}

pub(crate) fn time(row: &Row<'_>, column: &str) -> Result<Timestamp, SchemaError> {
    Timestamp::from_millisecond(row.get(column)?).map_err(|_| wrong(column))
}

pub(crate) fn time_or_none(row: &Row<'_>, column: &str) -> Result<Option<Timestamp>, SchemaError> {
    let value: Option<i64> = row.get(column)?;
    value.map(Timestamp::from_millisecond).transpose().map_err(|_| wrong(column))
}

pub(crate) fn update(row: &Row<'_>, column: &str) -> Result<UpdateId, SchemaError> {
    let bytes: Vec<u8> = row.get(column)?;
    Uuid::from_slice(&bytes).map(UpdateId).map_err(|_| wrong(column))
}

/// Which revision a row is of, or names: `update_id` and `number`.
pub(crate) fn revision(row: &Row<'_>) -> Result<RevisionId, SchemaError> {
    Ok(RevisionId { update: update(row, "update_id")?, number: RevisionNumber(number(row, "number")?) })
}

pub(crate) fn sha256(row: &Row<'_>, column: &str) -> Result<Sha256Digest, SchemaError> {
    sha256_or_none(row, column)?.ok_or_else(|| wrong(column))
}

pub(crate) fn sha256_or_none(row: &Row<'_>, column: &str) -> Result<Option<Sha256Digest>, SchemaError> {
    let bytes: Option<Vec<u8>> = row.get(column)?;
    bytes.map(|bytes| Sha256Digest::from_bytes(&bytes)).transpose().map_err(|_| wrong(column))
}

pub(crate) fn sha1(row: &Row<'_>, column: &str) -> Result<Sha1Digest, SchemaError> {
    sha1_or_none(row, column)?.ok_or_else(|| wrong(column))
}

pub(crate) fn sha1_or_none(row: &Row<'_>, column: &str) -> Result<Option<Sha1Digest>, SchemaError> {
    let bytes: Option<Vec<u8>> = row.get(column)?;
    bytes.map(|bytes| Sha1Digest::from_bytes(&bytes)).transpose().map_err(|_| wrong(column))
}

pub(crate) fn digests(row: &Row<'_>) -> Result<Digests, SchemaError> {
    Ok(Digests { sha1: sha1_or_none(row, "sha1")?, sha256: sha256_or_none(row, "sha256")? })
}

/// Sizes fit: SQLite's integers are 63 bits and no file has more bytes.
pub(crate) fn size(row: &Row<'_>, column: &str) -> Result<u64, SchemaError> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|_| wrong(column))
}

pub(crate) fn number(row: &Row<'_>, column: &str) -> Result<u32, SchemaError> {
    u32::try_from(row.get::<_, i64>(column)?).map_err(|_| wrong(column))
}

pub(crate) fn text<T: std::str::FromStr>(row: &Row<'_>, column: &str) -> Result<T, SchemaError> {
    row.get::<_, String>(column)?.parse().map_err(|_| wrong(column))
}

pub(crate) fn json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> Result<Option<T>, SchemaError> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(|error| wrong(&format!("{column}: {error}")))
}

pub(crate) fn to_json(value: &impl Serialize) -> Result<String, SchemaError> {
    serde_json::to_string(value).map_err(|error| wrong(&error.to_string()))
}

/// What comes from elsewhere is bounded where it is read ([`catalog::limits::Limits::file_bytes`]); this is for what was not.
pub(crate) fn as_i64(size: u64) -> Result<i64, SchemaError> {
    i64::try_from(size).map_err(|_| SchemaError::TooLarge(size))
}

/// An enum whose variants are words, in the database, in JSON and on the screen alike.
#[macro_export]
#[doc(hidden)]
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant),+ }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$variant => $word),+ })
            }
        }
        impl std::str::FromStr for $name {
            type Err = catalog::id::InvalidId;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    other => Err(catalog::id::InvalidId::new(other, concat!("a ", stringify!($name)))),
                }
            }
        }
    };
}
