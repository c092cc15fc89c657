//! Update documents of server-sync and of exports: kept to the byte, with side tables for what is asked of them.
//!
//! A revision never changes: other bytes under a known revision are refused and reported, not recorded.

use catalog::digest::{Sha1Digest, Sha256Digest};
use catalog::id::{RevisionId, UpdateId};
use catalog::update::{Kind, Revision};
use flate2::Compression;
use jiff::Timestamp;
use rusqlite::named_params;
use serde::{Deserialize, Serialize};

use crate::column::{as_i64, revision, sha1, sha256, update};
use crate::compressed::{pack, unpack};
use crate::{Reader, SchemaError, Writer};

/// How hard documents are compressed, 1 to 9.
const DOCUMENT_LEVEL: u32 = 1;

/// A document with what it says, hashed and compressed: all the work that needs no database, done on any thread.
#[derive(Debug)]
pub struct Prepared {
    revision: Revision,
    sha256: Sha256Digest,
    size: u64,
    zlib: Vec<u8>,
}

impl Prepared {
    /// Makes `document`, which says `revision`, ready to be recorded.
    ///
    /// # Errors
    /// [`SchemaError::Value`] where it cannot be compressed.
    pub fn new(revision: Revision, document: &[u8]) -> Result<Self, SchemaError> {
        // The fastest level: compressing is half of what a document costs. Real documents become a fifth of their text,
        // which is a tenth more than the best level makes of them in twice its time.
        let zlib = pack(document, Compression::new(DOCUMENT_LEVEL))?;
        Ok(Self { revision, sha256: Sha256Digest::of(document), size: document.len() as u64, zlib })
    }

    /// Which revision it is.
    pub fn id(&self) -> RevisionId {
        self.revision.id
    }

    /// What it says.
    pub fn revision(&self) -> &Revision {
        &self.revision
    }
}

/// What recording one document did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetadataRecorded {
    /// It was not known.
    New,
    /// It is the document that is recorded.
    Unchanged,
    /// The revision is recorded with other bytes: somebody changed what must not change. Nothing was recorded.
    Contradicts,
}

/// One category that updates can belong to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Category {
    /// Its id and latest revision.
    #[serde(flatten)]
    pub id: RevisionId,
    /// Company, ProductFamily, Product, UpdateClassification, …
    pub category_type: String,
    /// Its name.
    pub title: String,
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Software => "software",
        Kind::Driver => "driver",
        Kind::Category => "category",
        Kind::Detectoid => "detectoid",
        Kind::Other => "other",
    }
}

/// One document with its identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Which revision.
    pub id: RevisionId,
    /// Its document.
    pub document: Vec<u8>,
}

/// A file that documents name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile {
    /// Its SHA-1.
    pub sha1: Sha1Digest,
    /// Its name, as a label.
    pub name: String,
    /// Where it can be had.
    pub url: Option<String>,
}

impl Reader<'_> {
    /// Row numbers of every document, in the order in which they came.
    pub fn metadata_ids(&self) -> Result<Vec<i64>, SchemaError> {
        self.all("SELECT metadata_id FROM metadata ORDER BY metadata_id", [], |row| Ok(row.get(0)?))
    }

    /// Which revision a row is of.
    pub fn metadata_identity(&self, row: i64) -> Result<RevisionId, SchemaError> {
        let found =
            self.first("SELECT update_id, number FROM metadata WHERE metadata_id = ?1", [row], revision)?;
        found.ok_or_else(|| SchemaError::Value(format!("metadata row {row}")))
    }

    /// A row's revision and document.
    pub fn metadata_exported(&self, row: i64) -> Result<Exported, SchemaError> {
        let id = self.metadata_identity(row)?;
        let document = self.metadata_document(id)?;
        Ok(Exported {
            id,
            document: document.ok_or_else(|| SchemaError::Value(format!("the document of {id}")))?,
        })
    }

    /// Every file that documents name, each digest once, with a place where it can be had, if one is known.
    pub fn metadata_files(&self) -> Result<Vec<NamedFile>, SchemaError> {
        self.all(
            "SELECT sha1, min(file_name) AS name,
                    (SELECT min(url) FROM metadata_url AS link WHERE link.sha1 = file.sha1) AS url
               FROM (SELECT sha1, file_name FROM metadata_file UNION ALL SELECT sha1, file_name FROM metadata_license) AS file
              WHERE sha1 IS NOT NULL GROUP BY sha1 ORDER BY sha1",
            [],
            |row| {
                let (name, url) = (row.get("name")?, row.get("url")?);
                Ok(NamedFile { sha1: sha1(row, "sha1")?, name, url })
            },
        )
    }

    /// Those of `digests` that are files of a document: update servers may have them.
    pub fn named_in_documents(&self, digests: &[Sha1Digest]) -> Result<Vec<Sha1Digest>, SchemaError> {
        const SQL: &str = "SELECT 1 FROM metadata_file WHERE sha1 = ?1 LIMIT 1";
        let mut named = Vec::new();
        for digest in digests {
            named.extend(self.first(SQL, [digest.0], |_| Ok(*digest))?);
        }
        Ok(named)
    }

    /// The exact bytes of a revision's document.
    pub fn metadata_document(&self, id: RevisionId) -> Result<Option<Vec<u8>>, SchemaError> {
        let zlib: Option<Vec<u8>> = self.first(
            "SELECT zlib FROM metadata JOIN metadata_document USING (metadata_id) WHERE update_id = ?1 AND number = ?2",
            (id.update.0.as_bytes(), id.number.0),
            |row| Ok(row.get(0)?),
        )?;
        zlib.map(|zlib| unpack(&zlib, format_args!("the document of {id}"))).transpose()
    }

    /// Every category in its latest revision, by type and title.
    pub fn categories(&self) -> Result<Vec<Category>, SchemaError> {
        const SQL: &str = "
            SELECT update_id, max(number) AS number, coalesce(category_type, '-') AS category_type, title FROM metadata
             WHERE kind = 'category' GROUP BY update_id ORDER BY category_type, title, update_id";
        self.all(SQL, [], |row| {
            Ok(Category {
                id: revision(row)?,
                category_type: row.get("category_type")?,
                title: row.get("title")?,
            })
        })
    }

    /// Categories, each with one that it is in: a product with its family, a family with its company.
    pub fn category_parents(&self) -> Result<Vec<(UpdateId, UpdateId)>, SchemaError> {
        const SQL: &str = "
            SELECT DISTINCT child.update_id, relation.target
              FROM metadata AS child JOIN metadata_relation AS relation USING (metadata_id)
             WHERE child.kind = 'category' AND relation.relation = 'category' ORDER BY 1, 2";
        self.all(SQL, [], |row| Ok((update(row, "update_id")?, update(row, "target")?)))
    }

    /// Whether any revision of an update is recorded.
    pub fn metadata_has(&self, update: UpdateId) -> Result<bool, SchemaError> {
        let found =
            self.first("SELECT 1 FROM metadata WHERE update_id = ?1 LIMIT 1", [update.0.as_bytes()], |_| {
                Ok(())
            })?;
        Ok(found.is_some())
    }

    /// Whether a revision is recorded, and with these bytes.
    pub fn metadata_known(
        &self,
        id: RevisionId,
        document: Sha256Digest,
    ) -> Result<MetadataRecorded, SchemaError> {
        let known = self.first(
            "SELECT sha256 FROM metadata WHERE update_id = ?1 AND number = ?2",
            (id.update.0.as_bytes(), id.number.0),
            |row| sha256(row, "sha256"),
        )?;
        Ok(match known {
            None => MetadataRecorded::New,
            Some(digest) if digest == document => MetadataRecorded::Unchanged,
            Some(_) => MetadataRecorded::Contradicts,
        })
    }
}

impl Writer<'_> {
    /// Records one document and what it says. `source` is the name of whoever gave it; the first one is kept.
    pub fn record_metadata(
        &self,
        source: &str,
        prepared: &Prepared,
        now: Timestamp,
    ) -> Result<MetadataRecorded, SchemaError> {
        let revision = &prepared.revision;
        let known = self.metadata_known(revision.id, prepared.sha256)?;
        if known != MetadataRecorded::New {
            return Ok(known);
        }
        let title =
            revision.title("en").or_else(|| revision.localized.first().map(|first| first.title.as_str()));
        self.execute(
            "INSERT INTO metadata (update_id, number, kind, category_type, title, sha256, size, created,
                publication_state, deployable, handler, license, seen, source)
             VALUES (:update, :number, :kind, :category_type, :title, :sha256, :size, :created,
                :state, :deployable, :handler, :license, :seen, :source)",
            named_params! {
                ":update": revision.id.update.0.as_bytes(),
                ":number": revision.id.number.0,
                ":kind": word(revision.kind),
                ":category_type": revision.category.as_ref().map(|category| category.category_type.as_str()),
                ":title": title.unwrap_or_default(),
                ":sha256": prepared.sha256.0,
                ":size": as_i64(prepared.size)?,
                ":created": revision.properties.created.as_ref().and_then(|created| created.unix_ms),
                ":state": revision.properties.publication_state,
                ":deployable": revision.properties.explicitly_deployable,
                ":handler": revision.handler.as_ref().map(|handler| handler.name.as_str()),
                ":license": revision.properties.eula.map(|id| id.0.into_bytes()),
                ":seen": now.as_millisecond(),
                ":source": source,
            },
        )?;
        let id = self.last_id();
        self.execute(
            "INSERT INTO metadata_document (metadata_id, zlib) VALUES (?1, ?2)",
            (id, &prepared.zlib),
        )?;
        for (clause, prerequisite) in revision.prerequisites.iter().enumerate() {
            let relation = if prerequisite.is_category { "category" } else { "prerequisite" };
            for target in &prerequisite.any_of {
                self.relate(id, relation, clause, *target, 0)?;
            }
        }
        for (clause, bundled) in revision.bundled.iter().enumerate() {
            for target in &bundled.any_of {
                self.relate(id, "bundle", clause, target.update, target.number.0)?;
            }
        }
        for (clause, target) in revision.superseded.iter().enumerate() {
            self.relate(id, "supersedes", clause, *target, 0)?;
        }
        for (position, file) in revision.files.iter().enumerate() {
            self.execute(
                "INSERT INTO metadata_file (metadata_id, position, file_name, size, sha1, sha256)
                 VALUES (:id, :position, :name, :size, :sha1, :sha256)",
                named_params! {
                    ":id": id, ":position": position as i64, ":name": file.name, ":size": as_i64(file.size)?,
                    ":sha1": file.digests.sha1.map(|digest| digest.0),
                    ":sha256": file.digests.sha256.map(|digest| digest.0),
                },
            )?;
        }
        for text in &revision.licenses {
            self.execute(
                "INSERT OR IGNORE INTO metadata_license (metadata_id, language, file_name, size, sha1, sha256)
                 VALUES (:id, :language, :name, :size, :sha1, :sha256)",
                named_params! {
                    ":id": id, ":language": text.language, ":name": text.file.name, ":size": as_i64(text.file.size)?,
                    ":sha1": text.file.digests.sha1.map(|digest| digest.0),
                    ":sha256": text.file.digests.sha256.map(|digest| digest.0),
                },
            )?;
        }
        Ok(MetadataRecorded::New)
    }

    /// Remembers where a file is, as `source` says.
    pub fn record_metadata_url(&self, source: &str, sha1: Sha1Digest, url: &str) -> Result<(), SchemaError> {
        self.execute(
            "INSERT OR IGNORE INTO metadata_url (sha1, source, url) VALUES (?1, ?2, ?3)",
            (sha1.0, source, url),
        )?;
        Ok(())
    }

    fn relate(
        &self,
        id: i64,
        relation: &str,
        clause: usize,
        target: UpdateId,
        number: u32,
    ) -> Result<(), SchemaError> {
        self.execute(
            "INSERT OR IGNORE INTO metadata_relation (metadata_id, relation, clause, target, number)
             VALUES (?1, ?2, ?3, ?4, ?5)",
            (id, relation, clause as i64, target.0.as_bytes(), number),
        )?;
        Ok(())
    }
}
