//! From documents to feature updates: which documents of *Upgrades* were not looked at yet, and what they came to.

use catalog::id::{RevisionId, UpdateId};
use jiff::Timestamp;

use super::{NewRevision, Published, Recorded, SERVER_LOCATION};
use crate::column::revision;
use crate::{Reader, SchemaError, Writer};

/// A document that is to be turned into a feature update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unoffered {
    /// Its row.
    pub row: i64,
    /// Which revision.
    pub id: RevisionId,
    /// Who gave it first.
    pub source: String,
    /// What it lacked when it was last looked at; `None` where it never was.
    pub lacked: Option<u64>,
}

impl Reader<'_> {
    /// Deployable software filed under `classification` that was not looked at yet, or lacked a part when it was.
    pub fn unoffered(&self, classification: UpdateId) -> Result<Vec<Unoffered>, SchemaError> {
        const SQL: &str = "
            SELECT metadata.metadata_id, metadata.update_id, metadata.number, metadata.source, offered.missing AS lacked
              FROM metadata_relation AS filed JOIN metadata USING (metadata_id)
              LEFT JOIN metadata_offered AS offered USING (metadata_id)
             WHERE filed.relation = 'category' AND filed.target = ?1 AND metadata.kind = 'software' AND metadata.deployable
               AND (offered.metadata_id IS NULL OR offered.missing > 0)
             ORDER BY metadata.metadata_id";
        self.all(SQL, [classification.0.as_bytes()], |row| {
            Ok(Unoffered {
                row: row.get("metadata_id")?,
                id: revision(row)?,
                source: row.get("source")?,
                lacked: row.get::<_, Option<i64>>("lacked")?.and_then(|lacked| u64::try_from(lacked).ok()),
            })
        })
    }

    /// Name of a category in its latest revision, without blanks around it.
    pub fn category_title(&self, id: UpdateId) -> Result<Option<String>, SchemaError> {
        self.first(
            "SELECT trim(title) AS title FROM metadata WHERE update_id = ?1 AND kind = 'category' ORDER BY number DESC LIMIT 1",
            [id.0.as_bytes()],
            |row| Ok(row.get("title")?),
        )
    }

    /// Which type a category has in its latest revision.
    pub fn category_type(&self, id: UpdateId) -> Result<Option<String>, SchemaError> {
        self.first(
            "SELECT category_type FROM metadata
              WHERE update_id = ?1 AND kind = 'category' AND category_type IS NOT NULL ORDER BY number DESC LIMIT 1",
            [id.0.as_bytes()],
            |row| Ok(row.get("category_type")?),
        )
    }

    /// Where a file of a document can be had.
    pub fn metadata_urls(&self, sha1: catalog::digest::Sha1Digest) -> Result<Vec<Published>, SchemaError> {
        self.all(
            "SELECT source, url FROM metadata_url WHERE sha1 = ?1 ORDER BY source, url",
            [sha1.0],
            |row| Ok(Published { source: row.get("source")?, url: row.get("url")? }),
        )
    }
}

impl Writer<'_> {
    /// Records what a document came to.
    pub fn record_offer(
        &self,
        of: &Unoffered,
        new: &NewRevision,
        now: Timestamp,
        recorded: &mut Recorded,
    ) -> Result<(), SchemaError> {
        let number = self.record_revision(new, now, recorded)?;
        self.list(&of.source, SERVER_LOCATION, new.update, number)?;
        self.choose_latest(new.update)?;
        self.execute(
            "INSERT OR REPLACE INTO metadata_offered (metadata_id, missing) VALUES (?1, ?2)",
            (of.row, i64::try_from(new.missing).unwrap_or(i64::MAX)),
        )?;
        Ok(())
    }

    /// Remembers that a document is no feature update.
    pub fn record_no_offer(&self, of: &Unoffered) -> Result<(), SchemaError> {
        self.execute(
            "INSERT OR REPLACE INTO metadata_offered (metadata_id, missing) VALUES (?1, 0)",
            [of.row],
        )?;
        Ok(())
    }

    /// Gives the links that documents name to the files of the same SHA-1, whoever published those.
    pub fn share_links(&self) -> Result<(), SchemaError> {
        self.execute(
            "INSERT OR IGNORE INTO file_url (file_id, source, url)
             SELECT file.file_id, link.source, link.url FROM file JOIN metadata_url AS link USING (sha1)",
            [],
        )?;
        Ok(())
    }
}
