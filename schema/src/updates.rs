//! Feature updates: revisions as catalogs list them, and what the site decided about each.

use std::collections::HashMap;

use catalog::digest::Digests;
use catalog::id::{FileName, RevisionId, RevisionNumber, UpdateId};
use jiff::Timestamp;
use rusqlite::{Row, named_params};
use serde::{Deserialize, Serialize};

use crate::column::{as_i64, digests, json, number, size, text, time, to_json, update};
use crate::documents::NewDocument;
use crate::licenses::LicenseState;
use crate::{Reader, SchemaError, Writer};

/// One published state of an update, to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRevision {
    /// Which update.
    pub update: UpdateId,
    /// For people.
    pub title: String,
    /// `Upgrades`.
    pub classification: String,
    /// `None` where the name of the file is not recognised.
    pub product: Option<String>,
    /// `25H2`.
    pub release: Option<String>,
    /// Major, minor and stamp.
    pub build: Option<(u32, u32, Option<String>)>,
    /// `business`.
    pub edition_group: Option<String>,
    /// Editions that it upgrades, sorted.
    pub editions: Vec<String>,
    /// `x64`.
    pub architecture: String,
    /// `en-us`.
    pub language: String,
    /// The file.
    pub file_name: FileName,
    /// Its bytes.
    pub size: u64,
    /// Every digest published; at least one.
    pub digests: Digests,
    /// Where it can be had.
    pub url: String,
    /// Only Microsoft's tool can open it.
    pub encrypted: bool,
    /// Its licence terms must be accepted first.
    pub license_required: bool,
}

/// Where a file can be had, and who said so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Name of the source.
    pub source: String,
    /// The link.
    pub url: String,
}

/// An update in its latest revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureUpdate {
    /// The update and its latest revision.
    #[serde(flatten)]
    pub id: RevisionId,
    /// For people.
    pub title: String,
    /// `Upgrades`.
    pub classification: String,
    /// `Windows 11`.
    pub product: Option<String>,
    /// `25H2`.
    pub release: Option<String>,
    /// `26200.8246`.
    pub build: Option<String>,
    /// `business`.
    pub edition_group: Option<String>,
    /// Editions that it upgrades.
    pub editions: Vec<String>,
    /// `x64`.
    pub architecture: String,
    /// `en-us`.
    pub language: String,
    /// The file.
    pub file_name: FileName,
    /// Its bytes.
    pub size: u64,
    /// Every digest published.
    pub digests: Digests,
    /// Where it can be had.
    pub urls: Vec<Published>,
    /// Only Microsoft's tool can open it.
    pub encrypted: bool,
    /// Its name said what it is.
    pub recognised: bool,
    /// Where the licence decision stands.
    pub license: LicenseState,
    /// Its bytes are in the content library, verified.
    pub downloaded: bool,
    /// The administrator does not want it.
    pub declined: bool,
    /// No rule may expire it.
    pub held: bool,
    /// Some catalog lists it now.
    pub listed: bool,
    /// When it was first seen.
    pub first_seen: Timestamp,
    /// When it was last seen.
    pub last_seen: Timestamp,
}

impl FeatureUpdate {
    /// The build, or a dash.
    pub fn build_text(&self) -> String {
        self.build.clone().unwrap_or_else(|| "-".to_owned())
    }
}

/// One revision in an update's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// Which.
    pub id: RevisionId,
    /// The build.
    pub build: Option<String>,
    /// The file.
    pub file_name: FileName,
    /// Its bytes.
    pub size: u64,
    /// Its digests.
    pub digests: Digests,
    /// Some catalog lists it now.
    pub listed: bool,
    /// When it was first seen.
    pub first_seen: Timestamp,
}

impl Revision {
    /// The build, or a dash.
    pub fn build_text(&self) -> String {
        self.build.clone().unwrap_or_else(|| "-".to_owned())
    }
}

/// What recording a catalog changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Updates not known before.
    pub new: u64,
    /// Updates with one more revision.
    pub revised: u64,
    /// Revisions that were known.
    pub unchanged: u64,
    /// Updates that no catalog lists any more.
    pub withdrawn: u64,
}

/// A name that catalogs know, with what it stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameCount {
    /// The name.
    pub name: String,
    /// Updates that have it.
    pub updates: u64,
    /// Bytes of their files.
    pub bytes: u64,
}

/// Every name that one can select by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamesKnown {
    /// Products.
    pub products: Vec<NameCount>,
    /// Releases.
    pub releases: Vec<NameCount>,
    /// Languages.
    pub languages: Vec<NameCount>,
    /// Architectures.
    pub architectures: Vec<NameCount>,
    /// Edition groups.
    pub edition_groups: Vec<NameCount>,
}

const FEATURE_UPDATES: &str = "
    SELECT item.update_id, item.latest AS number, item.declined, item.held, item.first_seen, item.last_seen,
           revision.title, revision.classification, revision.product, revision.release, revision.build_major,
           revision.build_minor, revision.edition_group, revision.editions, revision.architecture,
           revision.language, revision.encrypted, revision.license_required, revision.file_id,
           file.file_name, file.size, file.sha1, file.sha256, file.content IS NOT NULL AS downloaded,
           EXISTS (SELECT 1 FROM listing
                    WHERE listing.update_id = item.update_id AND listing.number = item.latest) AS listed,
           (SELECT decision.accepted FROM license_decision AS decision
             WHERE decision.product = revision.product AND decision.language = revision.language
               AND decision.sha256 IS current.sha256
               AND (decision.accepted OR decision.update_id = item.update_id)
             ORDER BY decision.decision_id DESC LIMIT 1) AS decided
      FROM update_item AS item
      JOIN revision ON revision.update_id = item.update_id AND revision.number = item.latest
      JOIN file USING (file_id)
      LEFT JOIN license_current AS current
        ON current.product = revision.product AND current.language = revision.language";

fn build(row: &Row<'_>) -> Result<Option<String>, SchemaError> {
    let (major, minor): (Option<u32>, Option<u32>) = (row.get("build_major")?, row.get("build_minor")?);
    Ok(major.zip(minor).map(|(major, minor)| format!("{major}.{minor}")))
}

fn revision_id(row: &Row<'_>) -> Result<RevisionId, SchemaError> {
    Ok(RevisionId { update: update(row, "update_id")?, number: RevisionNumber(number(row, "number")?) })
}

fn feature_update(row: &Row<'_>) -> Result<(i64, FeatureUpdate), SchemaError> {
    let required: bool = row.get("license_required")?;
    let decided: Option<bool> = row.get("decided")?;
    let product: Option<String> = row.get("product")?;
    let found = FeatureUpdate {
        id: revision_id(row)?,
        title: row.get("title")?,
        classification: row.get("classification")?,
        recognised: product.is_some(),
        product,
        release: row.get("release")?,
        build: build(row)?,
        edition_group: row.get("edition_group")?,
        editions: json(row, "editions")?.unwrap_or_default(),
        architecture: row.get("architecture")?,
        language: row.get("language")?,
        file_name: text(row, "file_name")?,
        size: size(row, "size")?,
        digests: digests(row)?,
        urls: Vec::new(),
        encrypted: row.get("encrypted")?,
        license: match (required, decided) {
            (false, _) => LicenseState::None,
            (true, None) => LicenseState::Pending,
            (true, Some(true)) => LicenseState::Accepted,
            (true, Some(false)) => LicenseState::Declined,
        },
        downloaded: row.get("downloaded")?,
        declined: row.get("declined")?,
        held: row.get("held")?,
        listed: row.get("listed")?,
        first_seen: time(row, "first_seen")?,
        last_seen: time(row, "last_seen")?,
    };
    Ok((row.get("file_id")?, found))
}

impl Reader<'_> {
    /// Every update in its latest revision, newest builds first.
    pub fn feature_updates(&self) -> Result<Vec<FeatureUpdate>, SchemaError> {
        let sql = format!(
            "{FEATURE_UPDATES}
             ORDER BY revision.build_major DESC, revision.build_minor DESC, revision.title, item.update_id"
        );
        let rows = self.all(&sql, [], feature_update)?;
        let mut urls: HashMap<i64, Vec<Published>> = HashMap::new();
        self.all("SELECT * FROM file_url ORDER BY file_id, source, url", [], |row| {
            let published = Published { source: row.get("source")?, url: row.get("url")? };
            urls.entry(row.get("file_id")?).or_default().push(published);
            Ok(())
        })?;
        Ok(rows
            .into_iter()
            .map(|(file, row)| FeatureUpdate { urls: urls.get(&file).cloned().unwrap_or_default(), ..row })
            .collect())
    }

    /// One update in its latest revision.
    pub fn feature_update(&self, id: UpdateId) -> Result<Option<FeatureUpdate>, SchemaError> {
        let sql = format!("{FEATURE_UPDATES} WHERE item.update_id = ?1");
        let Some((file, row)) = self.first(&sql, [id.0.as_bytes()], feature_update)? else { return Ok(None) };
        Ok(Some(FeatureUpdate { urls: self.urls(file)?, ..row }))
    }

    pub(crate) fn urls(&self, file: i64) -> Result<Vec<Published>, SchemaError> {
        self.all("SELECT source, url FROM file_url WHERE file_id = ?1 ORDER BY source, url", [file], |row| {
            Ok(Published { source: row.get(0)?, url: row.get(1)? })
        })
    }

    /// All revisions of an update, oldest number first.
    pub fn revisions(&self, id: UpdateId) -> Result<Vec<Revision>, SchemaError> {
        const SQL: &str = "
            SELECT revision.*, file.file_name, file.size, file.sha1, file.sha256,
                   EXISTS (SELECT 1 FROM listing WHERE listing.update_id = revision.update_id
                              AND listing.number = revision.number) AS listed
              FROM revision JOIN file USING (file_id) WHERE update_id = ?1 ORDER BY number";
        self.all(SQL, [id.0.as_bytes()], |row| {
            Ok(Revision {
                id: revision_id(row)?,
                build: build(row)?,
                file_name: text(row, "file_name")?,
                size: size(row, "size")?,
                digests: digests(row)?,
                listed: row.get("listed")?,
                first_seen: time(row, "first_seen")?,
            })
        })
    }

    /// Every name that listed updates have, with counts and bytes of their latest revisions.
    pub fn names_known(&self) -> Result<NamesKnown, SchemaError> {
        let names = |column: &str| {
            let sql = format!(
                "SELECT revision.{column} AS name, count(*) AS updates, sum(file.size) AS bytes
                   FROM update_item AS item
                   JOIN revision ON revision.update_id = item.update_id AND revision.number = item.latest
                   JOIN file USING (file_id)
                  WHERE revision.{column} IS NOT NULL GROUP BY 1 ORDER BY 1"
            );
            self.all(&sql, [], |row| {
                Ok(NameCount {
                    name: row.get("name")?,
                    updates: size(row, "updates")?,
                    bytes: size(row, "bytes")?,
                })
            })
        };
        Ok(NamesKnown {
            products: names("product")?,
            releases: names("release")?,
            languages: names("language")?,
            architectures: names("architecture")?,
            edition_groups: names("edition_group")?,
        })
    }
}

impl Writer<'_> {
    /// Records a document and all that it lists, in this one transaction.
    ///
    /// A file with another digest under a known update is the next revision; the one with the highest build is the
    /// latest, in whatever order documents arrive; of equal builds the higher number.
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
            let number = self.record_revision(source, revision, now, &mut recorded)?;
            self.execute(
                "INSERT OR IGNORE INTO listing (source, location, update_id, number) VALUES (?1, ?2, ?3, ?4)",
                (source, location, revision.update.0.as_bytes(), number),
            )?;
        }
        for id in before {
            let listed =
                self.first("SELECT 1 FROM listing WHERE update_id = ?1", [id.0.as_bytes()], |_| Ok(()))?;
            recorded.withdrawn += u64::from(listed.is_none());
        }
        self.record_license_links(source, location, licenses)?;
        Ok(recorded)
    }

    fn updates_listed_by(&self, source: &str, location: &str) -> Result<Vec<UpdateId>, SchemaError> {
        self.all(
            "SELECT DISTINCT update_id FROM listing WHERE source = ?1 AND location = ?2",
            (source, location),
            |row| update(row, "update_id"),
        )
    }

    fn record_revision(
        &self,
        source: &str,
        new: &NewRevision,
        now: Timestamp,
        recorded: &mut Recorded,
    ) -> Result<u32, SchemaError> {
        let file = self.record_file(source, new)?;
        let id = new.update.0.as_bytes();
        let known = self.first(
            "SELECT number, editions FROM revision WHERE update_id = ?1 AND file_id = ?2",
            (id, file),
            |row| Ok((number(row, "number")?, json::<Vec<String>>(row, "editions")?.unwrap_or_default())),
        )?;
        if let Some((number, mut editions)) = known {
            recorded.unchanged += 1;
            let count = editions.len();
            editions.extend(new.editions.iter().cloned());
            editions.sort();
            editions.dedup();
            if editions.len() > count {
                self.execute(
                    "UPDATE revision SET editions = ?3 WHERE update_id = ?1 AND number = ?2",
                    (id, number, to_json(&editions)?),
                )?;
            }
            self.execute(
                "UPDATE update_item SET last_seen = ?2 WHERE update_id = ?1",
                (id, now.as_millisecond()),
            )?;
            return Ok(number);
        }
        let highest = self.first("SELECT max(number) FROM revision WHERE update_id = ?1", [id], |row| {
            Ok(row.get::<_, Option<u32>>(0)?)
        })?;
        let next = highest.flatten().unwrap_or(0) + 1;
        match next {
            1 => recorded.new += 1,
            _ => recorded.revised += 1,
        }
        self.execute(
            "INSERT INTO update_item (update_id, latest, first_seen, last_seen) VALUES (?1, 1, ?2, ?2)
             ON CONFLICT DO UPDATE SET last_seen = excluded.last_seen",
            (id, now.as_millisecond()),
        )?;
        let (major, minor, stamp) = match &new.build {
            Some((major, minor, stamp)) => (Some(*major), Some(*minor), stamp.as_deref()),
            None => (None, None, None),
        };
        self.execute(
            "INSERT INTO revision (update_id, number, title, classification, product, release, build_major, build_minor,
                build_stamp, edition_group, editions, architecture, language, file_id, encrypted, license_required, first_seen)
             VALUES (:id, :number, :title, :classification, :product, :release, :major, :minor, :stamp, :group, :editions,
                :architecture, :language, :file, :encrypted, :license, :now)",
            named_params! {
                ":id": id, ":number": next, ":title": new.title, ":classification": new.classification,
                ":product": new.product, ":release": new.release, ":major": major, ":minor": minor, ":stamp": stamp,
                ":group": new.edition_group, ":editions": to_json(&new.editions)?, ":architecture": new.architecture,
                ":language": new.language, ":file": file, ":encrypted": new.encrypted,
                ":license": new.license_required, ":now": now.as_millisecond(),
            },
        )?;
        self.execute(
            "UPDATE update_item SET latest = (
                SELECT number FROM revision WHERE revision.update_id = ?1
                 ORDER BY build_major DESC, build_minor DESC, build_stamp DESC, number DESC LIMIT 1)
              WHERE update_id = ?1",
            [id],
        )?;
        Ok(next)
    }

    /// The row of a file: a known one whose digests agree, completed by what is new, or another one.
    fn record_file(&self, source: &str, new: &NewRevision) -> Result<i64, SchemaError> {
        let (sha1, sha256) = (new.digests.sha1.map(|d| d.0), new.digests.sha256.map(|d| d.0));
        let candidates = self.all(
            "SELECT file_id, sha1, sha256 FROM file WHERE (sha1 = ?1 OR sha256 = ?2) AND size = ?3 AND file_name = ?4",
            (sha1, sha256, as_i64(new.size)?, new.file_name.as_str()),
            |row| Ok((row.get::<_, i64>("file_id")?, digests(row)?)),
        )?;
        let file = match candidates.into_iter().find(|(_, known)| known.agrees_with(&new.digests)) {
            Some((file, known)) => {
                if known != new.digests {
                    self.execute(
                        "UPDATE file SET sha1 = coalesce(sha1, ?2), sha256 = coalesce(sha256, ?3) WHERE file_id = ?1",
                        (file, sha1, sha256),
                    )?;
                }
                file
            }
            None => {
                self.execute(
                    "INSERT INTO file (file_name, size, sha1, sha256) VALUES (?1, ?2, ?3, ?4)",
                    (new.file_name.as_str(), as_i64(new.size)?, sha1, sha256),
                )?;
                self.last_id()
            }
        };
        self.execute(
            "INSERT OR IGNORE INTO file_url (file_id, source, url) VALUES (?1, ?2, ?3)",
            (file, source, &new.url),
        )?;
        Ok(file)
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
