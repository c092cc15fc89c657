//! Foreign documents, exactly as they came.

use catalog::digest::Sha256Digest;
use flate2::Compression;
use jiff::Timestamp;
use rusqlite::{Row, named_params};
use serde::{Deserialize, Serialize};

use crate::column::{as_i64, sha256, size, time};
use crate::compressed::{pack, unpack};
use crate::{Reader, SchemaError, Writer};

/// Bodies kept for one location; the facts about older ones remain for longer.
const BODIES: i64 = 3;
/// Facts kept for one location: three years, where it changes every day.
pub(crate) const FACTS: i64 = 1_000;

/// A document that was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Row number.
    pub id: i64,
    /// Name of the source.
    pub source: String,
    /// URL or file.
    pub location: String,
    /// Digest of the bytes as they came.
    pub sha256: Sha256Digest,
    /// How many bytes came.
    pub size: u64,
    /// What it calls its version.
    pub version: String,
    /// When it came.
    pub fetched_at: Timestamp,
    /// The server's validator.
    pub etag: Option<String>,
    /// The server's date.
    pub last_modified: Option<String>,
}

/// A document to record.
#[derive(Debug, Clone)]
pub struct NewDocument {
    /// Name of the source.
    pub source: String,
    /// URL or file.
    pub location: String,
    /// Digest of `body`.
    pub sha256: Sha256Digest,
    /// The bytes as they came.
    pub body: Vec<u8>,
    /// When they came.
    pub fetched_at: Timestamp,
    /// The server's validator.
    pub etag: Option<String>,
    /// The server's date.
    pub last_modified: Option<String>,
    /// What the document calls its version.
    pub version: String,
}

fn document(row: &Row<'_>) -> Result<Document, SchemaError> {
    Ok(Document {
        id: row.get("document_id")?,
        source: row.get("source")?,
        location: row.get("location")?,
        sha256: sha256(row, "sha256")?,
        size: size(row, "size")?,
        version: row.get("version")?,
        fetched_at: time(row, "fetched_at")?,
        etag: row.get("etag")?,
        last_modified: row.get("last_modified")?,
    })
}

impl Reader<'_> {
    /// The document recorded last for a location.
    pub fn latest_document(&self, source: &str, location: &str) -> Result<Option<Document>, SchemaError> {
        self.first(
            "SELECT * FROM document WHERE source = ?1 AND location = ?2 ORDER BY document_id DESC LIMIT 1",
            (source, location),
            document,
        )
    }

    /// Whether a location lists anything now. One that was asked no more for a while does not, whatever is kept of it.
    pub fn lists_anything(&self, source: &str, location: &str) -> Result<bool, SchemaError> {
        let listed = self.first(
            "SELECT 1 FROM listing WHERE source = ?1 AND location = ?2 LIMIT 1",
            (source, location),
            |_| Ok(()),
        )?;
        Ok(listed.is_some())
    }

    /// The exact bytes of a document, if they are still kept.
    pub fn document_body(&self, id: i64) -> Result<Option<Vec<u8>>, SchemaError> {
        let zlib: Option<Vec<u8>> =
            self.first("SELECT zlib FROM document_body WHERE document_id = ?1", [id], |row| Ok(row.get(0)?))?;
        zlib.map(|zlib| unpack(&zlib, format_args!("the body of document {id}"))).transpose()
    }
}

impl Writer<'_> {
    /// Keeps a document with its bytes.
    pub(crate) fn keep_document(&self, new: &NewDocument) -> Result<i64, SchemaError> {
        self.execute(
            "INSERT INTO document (source, location, sha256, size, version, fetched_at, etag, last_modified)
             VALUES (:source, :location, :sha256, :size, :version, :fetched_at, :etag, :last_modified)",
            named_params! {
                ":source": new.source,
                ":location": new.location,
                ":sha256": new.sha256.0,
                ":size": as_i64(new.body.len() as u64)?,
                ":version": new.version,
                ":fetched_at": new.fetched_at.as_millisecond(),
                ":etag": new.etag,
                ":last_modified": new.last_modified,
            },
        )?;
        let id = self.last_id();
        let zlib = pack(&new.body, Compression::fast())?;
        self.execute("INSERT INTO document_body (document_id, zlib) VALUES (?1, ?2)", (id, zlib))?;
        self.execute(
            "DELETE FROM document_body WHERE document_id IN (
                SELECT document_id FROM document WHERE source = ?1 AND location = ?2
                 ORDER BY document_id DESC LIMIT -1 OFFSET ?3)",
            (&new.source, &new.location, BODIES),
        )?;
        self.execute(
            "DELETE FROM document WHERE document_id IN (
                SELECT old.document_id FROM document AS old WHERE old.source = ?1 AND old.location = ?2
                 ORDER BY old.document_id DESC LIMIT -1 OFFSET ?3)",
            (&new.source, &new.location, FACTS),
        )?;
        Ok(id)
    }
}
