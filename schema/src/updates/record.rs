//! Recording feature updates: what a catalog lists, whole or not at all, and what update documents came to.

use std::collections::BTreeSet;

use catalog::digest::Digests;
use catalog::id::{FileName, RevisionNumber, UpdateId};
use jiff::Timestamp;
use rusqlite::named_params;

use super::{NewFile, NewRevision, Recorded, SERVER_LOCATION};
use crate::column::{as_i64, digests, json, number, size, to_json, update};
use crate::documents::NewDocument;
use crate::{SchemaError, Writer};

/// Who numbers the revisions of an update.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Numbering {
    /// Its upstream: the highest number is the latest.
    Upstream,
    /// We do, because its upstream has no numbers: the highest build that is listed is the latest, in whatever order they came.
    Us,
}

impl Writer<'_> {
    /// Records a document and all that it lists, in this one transaction.
    ///
    /// A file with another digest under a known update is the next revision; of those that are listed the one with the highest
    /// build is the latest, in whatever order documents arrive; of equal builds the higher number.
    pub fn record_catalog(
        &self,
        document: &NewDocument,
        revisions: &[NewRevision],
        licenses: &[(String, String)],
        now: Timestamp,
    ) -> Result<Recorded, SchemaError> {
        self.keep_document(document)?;
        let (source, location) = (&document.source, &document.location);
        let before = self.updates_listed_by(source, location)?;
        self.execute("DELETE FROM listing WHERE source = ?1 AND location = ?2", (source, location))?;
        let mut recorded = Recorded::default();
        for revision in revisions {
            let number = self.record_revision(revision, now, &mut recorded)?;
            self.list(source, location, revision.update, number)?;
        }
        let moved: BTreeSet<_> =
            before.iter().copied().chain(revisions.iter().map(|new| new.update)).collect();
        for id in moved {
            self.choose_latest(id)?;
        }
        for id in before {
            recorded.withdrawn += u64::from(!self.is_listed(id)?);
        }
        self.record_license_links(source, location, licenses)?;
        Ok(recorded)
    }

    /// Ends what `places` list, pairs of source and location that are asked no more: they were taken out of the
    /// configuration, or stand there otherwise. A server that is asked again one day begins anew. Answers how many updates are
    /// listed nowhere any more.
    pub fn end_listings(&self, places: &[(String, String)]) -> Result<u64, SchemaError> {
        let mut moved = BTreeSet::new();
        for (source, location) in places {
            moved.extend(self.updates_listed_by(source, location)?);
            self.execute("DELETE FROM listing WHERE source = ?1 AND location = ?2", (source, location))?;
            if location == SERVER_LOCATION {
                self.forget_anchors(source)?;
            }
        }
        let mut withdrawn = 0;
        for id in moved {
            self.choose_latest(id)?;
            withdrawn += u64::from(!self.is_listed(id)?);
        }
        Ok(withdrawn)
    }

    fn is_listed(&self, update: UpdateId) -> Result<bool, SchemaError> {
        let listed =
            self.first("SELECT 1 FROM listing WHERE update_id = ?1", [update.0.as_bytes()], |_| Ok(()))?;
        Ok(listed.is_some())
    }

    pub(super) fn list(
        &self,
        source: &str,
        location: &str,
        update: UpdateId,
        number: u32,
    ) -> Result<(), SchemaError> {
        self.execute(
            "INSERT OR IGNORE INTO listing (source, location, update_id, number) VALUES (?1, ?2, ?3, ?4)",
            (source, location, update.0.as_bytes(), number),
        )?;
        Ok(())
    }

    fn updates_listed_by(&self, source: &str, location: &str) -> Result<Vec<UpdateId>, SchemaError> {
        self.all(
            "SELECT DISTINCT update_id FROM listing WHERE source = ?1 AND location = ?2",
            (source, location),
            |row| update(row, "update_id"),
        )
    }

    /// Records one revision; its number. Which is the latest is chosen when it is listed.
    pub(super) fn record_revision(
        &self,
        new: &NewRevision,
        now: Timestamp,
        recorded: &mut Recorded,
    ) -> Result<u32, SchemaError> {
        let mut files = Vec::new();
        for file in &new.files {
            files.push(self.record_file(file)?);
        }
        let id = new.update.0.as_bytes();
        let (known, numbering) = match new.number {
            Some(RevisionNumber(number)) => {
                let known = self.first(
                    "SELECT 1 FROM revision WHERE update_id = ?1 AND number = ?2",
                    (id, number),
                    |_| Ok(()),
                )?;
                (known.map(|()| number), Numbering::Upstream)
            }
            None => (self.revision_of_file(new.update, files.first().copied())?, Numbering::Us),
        };
        if let Some(number) = known {
            recorded.unchanged += 1;
            self.execute(
                "UPDATE update_item SET last_seen = ?2 WHERE update_id = ?1",
                (id, now.as_millisecond()),
            )?;
            match numbering {
                Numbering::Us => self.merge_editions(new, number)?,
                Numbering::Upstream => {
                    self.insert_revision(new, number, now)?;
                    self.replace_files(new, number, &files)?;
                }
            }
            return Ok(number);
        }
        let highest = self.first("SELECT max(number) FROM revision WHERE update_id = ?1", [id], |row| {
            Ok(row.get::<_, Option<u32>>(0)?)
        })?;
        let highest = highest.flatten();
        match highest {
            None => recorded.new += 1,
            Some(_) => recorded.revised += 1,
        }
        let number = new.number.map_or_else(|| highest.unwrap_or(0) + 1, |number| number.0);
        let numbered_by = if numbering == Numbering::Us { "us" } else { "upstream" };
        self.execute(
            "INSERT INTO update_item (update_id, latest, first_seen, last_seen, numbered_by) VALUES (?1, ?2, ?3, ?3, ?4)
             ON CONFLICT DO UPDATE SET last_seen = excluded.last_seen",
            (id, number, now.as_millisecond(), numbered_by),
        )?;
        self.insert_revision(new, number, now)?;
        self.replace_files(new, number, &files)?;
        Ok(number)
    }

    /// Which revision of an update is the latest. An update server's numbers say so. Where we number ourselves it is the highest
    /// build of those that a catalog lists: Microsoft takes back what turns out bad, and lists the one before it again. Where none
    /// is listed any more it stays the one that it was.
    pub(crate) fn choose_latest(&self, update: UpdateId) -> Result<(), SchemaError> {
        self.execute(
            "UPDATE update_item SET latest = chosen.number
               FROM (SELECT revision.number, item.numbered_by,
                            EXISTS (SELECT 1 FROM listing WHERE listing.update_id = revision.update_id
                                                            AND listing.number = revision.number) AS listed
                       FROM revision JOIN update_item AS item USING (update_id)
                      WHERE revision.update_id = ?1
                      ORDER BY CASE item.numbered_by WHEN 'upstream' THEN revision.number END DESC, listed DESC,
                               revision.build_major DESC, revision.build_minor DESC, revision.build_stamp DESC,
                               revision.number DESC LIMIT 1) AS chosen
              WHERE update_item.update_id = ?1 AND update_item.latest IS NOT chosen.number
                AND (chosen.numbered_by = 'upstream' OR chosen.listed
                     OR NOT EXISTS (SELECT 1 FROM revision WHERE revision.update_id = update_item.update_id
                                                             AND revision.number = update_item.latest))",
            [update.0.as_bytes()],
        )?;
        Ok(())
    }

    /// The revision that consists of this file.
    fn revision_of_file(&self, update: UpdateId, file: Option<i64>) -> Result<Option<u32>, SchemaError> {
        self.first(
            "SELECT number FROM revision_file WHERE update_id = ?1 AND file_id = ?2",
            (update.0.as_bytes(), file),
            |row| number(row, "number"),
        )
    }

    fn merge_editions(&self, new: &NewRevision, number: u32) -> Result<(), SchemaError> {
        let key = (new.update.0.as_bytes(), number);
        let known =
            self.first("SELECT editions FROM revision WHERE update_id = ?1 AND number = ?2", key, |row| {
                json::<Vec<String>>(row, "editions")
            })?;
        let mut editions = known.flatten().unwrap_or_default();
        let count = editions.len();
        editions.extend(new.editions.iter().cloned());
        editions.sort();
        editions.dedup();
        if editions.len() > count {
            self.execute(
                "UPDATE revision SET editions = ?3 WHERE update_id = ?1 AND number = ?2",
                (key.0, number, to_json(&editions)?),
            )?;
        }
        Ok(())
    }

    /// Writes a revision; one that is known gets what is said of it now, and stays where packages refer to it.
    fn insert_revision(&self, new: &NewRevision, number: u32, now: Timestamp) -> Result<(), SchemaError> {
        let (major, minor, stamp) = match &new.build {
            Some((major, minor, stamp)) => (Some(*major), Some(*minor), stamp.as_deref()),
            None => (None, None, None),
        };
        // A size is bounded where it comes from, and so many of them may still be more than the database can write down.
        let bytes = new.files.iter().map(|file| file.size).fold(0, u64::saturating_add).min(i64::MAX as u64);
        self.execute(
            "INSERT INTO revision (update_id, number, title, classification, product, products, release, build_major,
                build_minor, build_stamp, edition_group, editions, architecture, language, shape, told_by, bases, size,
                encrypted, license_required, license_key, created, expired, missing, first_seen)
             VALUES (:id, :number, :title, :classification, :product, :products, :release, :major, :minor, :stamp, :group,
                :editions, :architecture, :language, :shape, :told_by, :bases, :size, :encrypted, :license_required,
                :license_key, :created, :expired, :missing, :now)
             ON CONFLICT DO UPDATE SET title = excluded.title, classification = excluded.classification,
                product = excluded.product, products = excluded.products, release = excluded.release,
                build_major = excluded.build_major, build_minor = excluded.build_minor, build_stamp = excluded.build_stamp,
                edition_group = excluded.edition_group, architecture = excluded.architecture, language = excluded.language,
                shape = excluded.shape, told_by = excluded.told_by, bases = excluded.bases, size = excluded.size,
                encrypted = excluded.encrypted, license_required = excluded.license_required,
                license_key = excluded.license_key, created = excluded.created, expired = excluded.expired,
                missing = excluded.missing",
            named_params! {
                ":id": new.update.0.as_bytes(), ":number": number, ":title": new.title,
                ":classification": new.classification, ":product": new.product, ":products": to_json(&new.products)?,
                ":release": new.release, ":major": major, ":minor": minor, ":stamp": stamp,
                ":group": new.edition_group, ":editions": to_json(&new.editions)?, ":architecture": new.architecture,
                ":language": new.language, ":shape": plain(&new.shape)?, ":told_by": plain(&new.told_by)?,
                ":bases": to_json(&new.bases)?, ":size": as_i64(bytes)?, ":encrypted": new.encrypted,
                ":license_required": new.license_required, ":license_key": new.license_key,
                ":created": new.created.map(Timestamp::as_millisecond), ":expired": new.expired,
                ":missing": as_i64(new.missing)?, ":now": now.as_millisecond(),
            },
        )?;
        Ok(())
    }

    fn replace_files(&self, new: &NewRevision, number: u32, files: &[i64]) -> Result<(), SchemaError> {
        let id = new.update.0.as_bytes();
        self.execute("DELETE FROM revision_file WHERE update_id = ?1 AND number = ?2", (id, number))?;
        for (position, (file, row)) in new.files.iter().zip(files).enumerate() {
            self.execute(
                "INSERT INTO revision_file (update_id, number, position, file_id, file_name) VALUES (?1, ?2, ?3, ?4, ?5)",
                (id, number, position as i64, row, file.file_name.as_str()),
            )?;
        }
        self.execute("DELETE FROM revision_license WHERE update_id = ?1 AND number = ?2", (id, number))?;
        for text in &new.licenses {
            self.execute(
                "INSERT OR IGNORE INTO revision_license (update_id, number, language, size, sha1, sha256)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                (
                    id,
                    number,
                    &text.language,
                    as_i64(text.size)?,
                    text.digests.sha1.map(|digest| digest.0),
                    text.digests.sha256.map(|digest| digest.0),
                ),
            )?;
        }
        Ok(())
    }

    /// The row of a file: a known one of this size whose digests agree, completed by what is new, or another one. What it
    /// is called does not matter: names differ in case between catalogs, and a digest says more.
    fn record_file(&self, new: &NewFile) -> Result<i64, SchemaError> {
        let (sha1, sha256) = (new.digests.sha1.map(|d| d.0), new.digests.sha256.map(|d| d.0));
        let candidates: Vec<(i64, Digests, u64)> = self.all(
            "SELECT file_id, sha1, sha256, size FROM file WHERE sha1 = ?1
             UNION SELECT file_id, sha1, sha256, size FROM file WHERE sha256 = ?2 ORDER BY file_id",
            (sha1, sha256),
            |row| Ok((row.get("file_id")?, digests(row)?, size(row, "size")?)),
        )?;
        let same =
            |(_, known, bytes): &(i64, Digests, u64)| *bytes == new.size && known.agrees_with(&new.digests);
        let file = match candidates.into_iter().find(same) {
            Some((file, known, _)) => {
                if known != new.digests {
                    self.execute(
                        "UPDATE file SET sha1 = coalesce(sha1, ?2), sha256 = coalesce(sha256, ?3) WHERE file_id = ?1",
                        (file, sha1, sha256),
                    )?;
                }
                file
            }
            None => self.new_file(&new.file_name, new.size, sha1, sha256)?,
        };
        for published in &new.urls {
            self.execute(
                "INSERT OR IGNORE INTO file_url (file_id, source, url) VALUES (?1, ?2, ?3)",
                (file, &published.source, &published.url),
            )?;
        }
        Ok(file)
    }

    fn new_file(
        &self,
        name: &FileName,
        size: u64,
        sha1: Option<[u8; 20]>,
        sha256: Option<[u8; 32]>,
    ) -> Result<i64, SchemaError> {
        self.execute(
            "INSERT INTO file (file_name, size, sha1, sha256) VALUES (?1, ?2, ?3, ?4)",
            (name.as_str(), as_i64(size)?, sha1, sha256),
        )?;
        Ok(self.last_id())
    }

    /// The administrator does not want an update, or wants it again.
    pub fn set_declined(
        &self,
        id: UpdateId,
        declined: bool,
        who: &str,
        now: Timestamp,
    ) -> Result<(), SchemaError> {
        self.execute(
            "UPDATE update_item SET declined = ?2 WHERE update_id = ?1",
            (id.0.as_bytes(), declined),
        )?;
        self.audit(who, if declined { "update.decline" } else { "update.restore" }, &id.to_string(), now)
    }

    /// No rule may expire an update, or it may again.
    pub fn set_held(&self, id: UpdateId, held: bool, who: &str, now: Timestamp) -> Result<(), SchemaError> {
        self.execute("UPDATE update_item SET held = ?2 WHERE update_id = ?1", (id.0.as_bytes(), held))?;
        self.audit(who, if held { "update.hold" } else { "update.release" }, &id.to_string(), now)
    }
}

/// A word of one of the catalog's own enums, as it stands in the database.
fn plain(word: &impl serde::Serialize) -> Result<String, SchemaError> {
    match serde_json::to_value(word) {
        Ok(serde_json::Value::String(word)) => Ok(word),
        _ => Err(SchemaError::Value("a word".to_owned())),
    }
}
