//! Feature updates: revisions as catalogs list them and as update servers describe them, and what the site decided about
//! each.

mod offers;
mod record;
mod supersedence;

use std::collections::HashMap;

use catalog::digest::Digests;
use catalog::feature_update::{Shape, ToldBy};
use catalog::id::{FileName, RevisionId, RevisionNumber, UpdateId};
use jiff::Timestamp;
use rusqlite::Row;
use serde::{Deserialize, Serialize};

pub use offers::Unoffered;
pub use supersedence::{ExpiredByRule, Superseding};

use crate::column::{digests, json, revision, size, text, time, time_or_none, update};
use crate::licenses::LicenseState;
use crate::{Reader, SchemaError};

/// The location under which what an update server describes is listed.
pub const SERVER_LOCATION: &str = "server-sync";
/// The source of what was imported; no configured one has this name.
pub const IMPORT: &str = "import";

/// One published state of an update, to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRevision {
    /// Which update.
    pub update: UpdateId,
    /// Its number; `None` where its upstream has none and we count.
    pub number: Option<RevisionNumber>,
    /// For people.
    pub title: String,
    /// `Upgrades`.
    pub classification: String,
    /// `Windows 11`; `None` where nothing tells.
    pub product: Option<String>,
    /// What its upstream files it under.
    pub products: Vec<String>,
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
    /// In which form it comes.
    pub shape: Shape,
    /// What release and edition were read from.
    pub told_by: ToldBy,
    /// Releases that an enablement package applies to.
    pub bases: Vec<String>,
    /// All its files.
    pub files: Vec<NewFile>,
    /// Only Microsoft's tool can open it.
    pub encrypted: bool,
    /// Its licence terms must be accepted first.
    pub license_required: bool,
    /// What decisions about its terms are filed under.
    pub license_key: Option<String>,
    /// Texts that its document names.
    pub licenses: Vec<NewLicense>,
    /// When it was published.
    pub created: Option<Timestamp>,
    /// Its publisher has withdrawn it.
    pub expired: bool,
    /// Parts or digests of it that are not known yet.
    pub missing: u64,
}

/// One file of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFile {
    /// Its name, as this upstream calls it.
    pub file_name: FileName,
    /// Its bytes.
    pub size: u64,
    /// Every digest published; at least one.
    pub digests: Digests,
    /// Where it can be had, and who says so.
    pub urls: Vec<Published>,
}

/// One licence text of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLicense {
    /// Its language.
    pub language: String,
    /// Its bytes.
    pub size: u64,
    /// Every digest published; at least one.
    pub digests: Digests,
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
    /// What its upstream files it under.
    pub products: Vec<String>,
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
    /// In which form it comes.
    pub shape: Shape,
    /// What release and edition were read from: how far they can be trusted.
    pub told_by: ToldBy,
    /// Releases that an enablement package applies to.
    pub bases: Vec<String>,
    /// The file; of several the largest.
    pub file_name: FileName,
    /// Bytes of all its files.
    pub size: u64,
    /// Every digest published of that file.
    pub digests: Digests,
    /// Where that file can be had.
    pub urls: Vec<Published>,
    /// All its files, the largest first.
    pub files: Vec<FeatureFile>,
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
    /// When it was published, where its upstream says.
    pub created: Option<Timestamp>,
    /// Its publisher has withdrawn it.
    pub expired: bool,
    /// When a rule of supersedence expired it.
    pub expired_at: Option<Timestamp>,
    /// Parts or digests of it that are not known yet.
    pub missing: u64,
    /// When it was first seen.
    pub first_seen: Timestamp,
    /// When it was last seen.
    pub last_seen: Timestamp,
}

/// One file of a feature update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureFile {
    /// Its name.
    pub file_name: FileName,
    /// Its bytes.
    pub size: u64,
    /// Every digest published.
    pub digests: Digests,
    /// Its bytes are in the content library, verified.
    pub downloaded: bool,
    /// Where it can be had.
    pub urls: Vec<Published>,
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
    /// Products as update servers know them: one can choose them before anything of them is recorded.
    #[serde(default)]
    pub categories: Vec<ProductCategory>,
}

/// A product as update servers know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductCategory {
    /// Its id, the same on every server.
    pub id: UpdateId,
    /// Its name.
    pub name: String,
}

const FEATURE_UPDATES: &str = "
    SELECT item.update_id, item.latest AS number, item.declined, item.held, item.first_seen, item.last_seen, item.expired_at,
           revision.title, revision.classification, revision.product, revision.products, revision.release,
           revision.build_major, revision.build_minor, revision.edition_group, revision.editions, revision.architecture,
           revision.language, revision.shape, revision.told_by, revision.bases, revision.size, revision.encrypted,
           revision.license_required, revision.created, revision.expired, revision.missing,
           EXISTS (SELECT 1 FROM listing
                    WHERE listing.update_id = item.update_id AND listing.number = item.latest) AS listed,
           (SELECT decision.accepted FROM license_decision AS decision
             WHERE decision.product = revision.license_key AND decision.language = revision.language
               AND decision.sha256 IS current.sha256
               AND (decision.accepted OR decision.update_id = item.update_id)
             ORDER BY decision.decision_id DESC LIMIT 1) AS decided
      FROM update_item AS item
      JOIN revision ON revision.update_id = item.update_id AND revision.number = item.latest
      LEFT JOIN license_current AS current
        ON current.product = revision.license_key AND current.language = revision.language";

/// Files of the latest revisions, largest first within each.
const FILES: &str = "
    SELECT member.update_id, member.file_id, member.file_name, file.size, file.sha1, file.sha256,
           file.content IS NOT NULL AS downloaded
      FROM update_item AS item
      JOIN revision_file AS member ON member.update_id = item.update_id AND member.number = item.latest
      JOIN file USING (file_id)";

fn build(row: &Row<'_>) -> Result<Option<String>, SchemaError> {
    let (major, minor): (Option<u32>, Option<u32>) = (row.get("build_major")?, row.get("build_minor")?);
    Ok(major.zip(minor).map(|(major, minor)| format!("{major}.{minor}")))
}

/// A row without its files.
fn feature_update(row: &Row<'_>) -> Result<FeatureUpdate, SchemaError> {
    let required: bool = row.get("license_required")?;
    let decided: Option<bool> = row.get("decided")?;
    let product: Option<String> = row.get("product")?;
    Ok(FeatureUpdate {
        id: revision(row)?,
        title: row.get("title")?,
        classification: row.get("classification")?,
        recognised: product.is_some(),
        product,
        products: json(row, "products")?.unwrap_or_default(),
        release: row.get("release")?,
        build: build(row)?,
        edition_group: row.get("edition_group")?,
        editions: json(row, "editions")?.unwrap_or_default(),
        architecture: row.get("architecture")?,
        language: row.get("language")?,
        shape: word(row, "shape")?,
        told_by: word(row, "told_by")?,
        bases: json(row, "bases")?.unwrap_or_default(),
        file_name: NO_FILE.parse().map_err(|_| SchemaError::Value("a name".to_owned()))?,
        size: size(row, "size")?,
        digests: Digests::default(),
        urls: Vec::new(),
        files: Vec::new(),
        encrypted: row.get("encrypted")?,
        license: match (required, decided) {
            (false, _) => LicenseState::None,
            (true, None) => LicenseState::Pending,
            (true, Some(true)) => LicenseState::Accepted,
            (true, Some(false)) => LicenseState::Declined,
        },
        downloaded: false,
        declined: row.get("declined")?,
        held: row.get("held")?,
        listed: row.get("listed")?,
        created: time_or_none(row, "created")?,
        expired: row.get("expired")?,
        expired_at: time_or_none(row, "expired_at")?,
        missing: size(row, "missing")?,
        first_seen: time(row, "first_seen")?,
        last_seen: time(row, "last_seen")?,
    })
}

/// What stands where a file's name would, for an update whose parts are not known yet.
const NO_FILE: &str = "-";

/// A word of one of the catalog's own enums.
fn word<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: &str) -> Result<T, SchemaError> {
    let text: String = row.get(column)?;
    serde_json::from_value(serde_json::Value::String(text)).map_err(|_| SchemaError::Value(column.to_owned()))
}

fn feature_file(row: &Row<'_>) -> Result<(UpdateId, i64, FeatureFile), SchemaError> {
    let file = FeatureFile {
        file_name: text(row, "file_name")?,
        size: size(row, "size")?,
        digests: digests(row)?,
        downloaded: row.get("downloaded")?,
        urls: Vec::new(),
    };
    Ok((update(row, "update_id")?, row.get("file_id")?, file))
}

impl FeatureUpdate {
    fn with_files(mut self, files: Vec<FeatureFile>) -> Self {
        if let Some(first) = files.first() {
            self.file_name = first.file_name.clone();
            self.digests = first.digests;
            self.urls.clone_from(&first.urls);
        }
        self.downloaded = !files.is_empty() && files.iter().all(|file| file.downloaded);
        self.files = files;
        self
    }
}

impl Reader<'_> {
    /// Every update in its latest revision, newest builds first; enablement packages before what they spare.
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
        let mut files: HashMap<UpdateId, Vec<FeatureFile>> = HashMap::new();
        for (update, id, file) in
            self.all(&format!("{FILES} ORDER BY file.size DESC, member.position"), [], feature_file)?
        {
            let urls = urls.get(&id).cloned().unwrap_or_default();
            files.entry(update).or_default().push(FeatureFile { urls, ..file });
        }
        let mut updates: Vec<_> = rows
            .into_iter()
            .map(|row| {
                let own = files.remove(&row.id.update).unwrap_or_default();
                row.with_files(own)
            })
            .collect();
        // Where a release has an enablement package, it stands before the images of the release.
        let place = |update: &FeatureUpdate| {
            (update.product.clone(), update.release.clone(), update.shape != Shape::Enablement)
        };
        let mut first: HashMap<(Option<String>, Option<String>), usize> = HashMap::new();
        for (at, update) in updates.iter().enumerate() {
            first.entry((update.product.clone(), update.release.clone())).or_insert(at);
        }
        updates.sort_by_cached_key(|update| {
            let (product, release, later) = place(update);
            (first.get(&(product, release)).copied(), later)
        });
        Ok(updates)
    }

    /// One update in its latest revision.
    pub fn feature_update(&self, id: UpdateId) -> Result<Option<FeatureUpdate>, SchemaError> {
        let sql = format!("{FEATURE_UPDATES} WHERE item.update_id = ?1");
        let Some(row) = self.first(&sql, [id.0.as_bytes()], feature_update)? else { return Ok(None) };
        let sql = format!("{FILES} WHERE item.update_id = ?1 ORDER BY file.size DESC, member.position");
        let mut files = Vec::new();
        for (_, file, row) in self.all(&sql, [id.0.as_bytes()], feature_file)? {
            files.push(FeatureFile { urls: self.urls(file)?, ..row });
        }
        Ok(Some(row.with_files(files)))
    }

    pub(crate) fn urls(&self, file: i64) -> Result<Vec<Published>, SchemaError> {
        self.all("SELECT source, url FROM file_url WHERE file_id = ?1 ORDER BY source, url", [file], |row| {
            Ok(Published { source: row.get(0)?, url: row.get(1)? })
        })
    }

    /// Who lists anything, or was asked for a list, and is none of `asked`: sources with their locations. Imports are asked
    /// by nobody, and what they brought stays.
    pub fn places_besides(&self, asked: &[(String, String)]) -> Result<Vec<(String, String)>, SchemaError> {
        const SQL: &str = "
            SELECT source, location FROM listing WHERE source <> ?1
            UNION SELECT source, ?2 FROM server_anchor UNION SELECT source, ?2 FROM server_pass ORDER BY 1, 2";
        let mut places =
            self.all(SQL, [IMPORT, SERVER_LOCATION], |row| Ok((row.get("source")?, row.get("location")?)))?;
        places.retain(|place| !asked.contains(place));
        Ok(places)
    }

    /// All revisions of an update, oldest number first.
    pub fn revisions(&self, id: UpdateId) -> Result<Vec<Revision>, SchemaError> {
        const SQL: &str = "
            SELECT revision.update_id, revision.number, revision.build_major, revision.build_minor, revision.size,
                   revision.first_seen, coalesce(member.file_name, '-') AS file_name, file.sha1, file.sha256,
                   EXISTS (SELECT 1 FROM listing WHERE listing.update_id = revision.update_id
                              AND listing.number = revision.number) AS listed
              FROM revision
              LEFT JOIN revision_file AS member
                ON member.update_id = revision.update_id AND member.number = revision.number AND member.position = 0
              LEFT JOIN file USING (file_id)
             WHERE revision.update_id = ?1 ORDER BY revision.number";
        self.all(SQL, [id.0.as_bytes()], |row| {
            Ok(Revision {
                id: revision(row)?,
                build: build(row)?,
                file_name: text(row, "file_name")?,
                size: size(row, "size")?,
                digests: digests(row)?,
                listed: row.get("listed")?,
                first_seen: time(row, "first_seen")?,
            })
        })
    }

    /// Products as update servers know them, by name.
    pub fn product_categories(&self) -> Result<Vec<ProductCategory>, SchemaError> {
        const SQL: &str = "
            SELECT update_id, max(number), trim(title) AS title FROM metadata
             WHERE kind = 'category' AND category_type = 'Product' GROUP BY update_id ORDER BY 3, 1";
        self.all(SQL, [], |row| {
            Ok(ProductCategory { id: update(row, "update_id")?, name: row.get("title")? })
        })
    }

    /// Every name that listed updates have, with counts and bytes of their latest revisions.
    pub fn names_known(&self) -> Result<NamesKnown, SchemaError> {
        let names = |column: &str| {
            let sql = format!(
                "SELECT revision.{column} AS name, count(*) AS updates, CAST(total(revision.size) AS INTEGER) AS bytes
                   FROM update_item AS item
                   JOIN revision ON revision.update_id = item.update_id AND revision.number = item.latest
                  WHERE revision.{column} IS NOT NULL AND revision.{column} <> '*' GROUP BY 1 ORDER BY 1"
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
            categories: self.product_categories()?,
        })
    }
}
