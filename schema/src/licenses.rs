//! Licence terms: links, texts, reviews, decisions, and the state that follows from them.
//!
//! A decision is about a text. What stands for a product in a language is the current text; a decision about another one
//! does not count for it any more. Accepting a text once accepts it for every update that it stands for; declining is
//! about one update.

use catalog::digest::{Digests, Sha256Digest};
use catalog::id::UpdateId;
use jiff::Timestamp;
use rusqlite::named_params;
use serde::{Deserialize, Serialize};

use crate::column::{digests, sha256, sha256_or_none, size, text, time};
use crate::{Reader, SchemaError, Writer, words};

words! {
    /// Where the licence decision of an update stands.
    LicenseState {
        /// It needs none.
        None = "none",
        /// Nobody has decided about the current text.
        Pending = "pending",
        /// Accepted.
        Accepted = "accepted",
        /// Declined.
        Declined = "declined",
    }
}

words! {
    /// How a decision was made.
    How {
        /// Somebody decided.
        ByHand = "by hand",
        /// `[sync] accept_licenses` decided.
        ByConfiguration = "by configuration",
    }
}

/// A licence text that a document names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LicenseFile {
    /// Its name, as a label; empty where none is known.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// What it hashes to.
    pub digests: Digests,
}

/// Where a text is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LicenseLink {
    /// Name of the source that says so.
    pub source: String,
    /// The link.
    pub url: String,
    /// What the text must hash to, where its upstream says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<(u64, Digests)>,
}

/// A text, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LicenseText {
    /// Digest of `body`.
    pub sha256: Sha256Digest,
    /// The document.
    pub body: Vec<u8>,
    /// URL, or who supplied it.
    pub origin: String,
    /// When it came.
    pub fetched_at: Timestamp,
}

/// What somebody decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The update that it was made about.
    pub update: UpdateId,
    /// Digest of the text; `None` where it was declined without one.
    pub text: Option<Sha256Digest>,
    /// Accepted, or declined.
    pub accepted: bool,
    /// Who.
    pub who: String,
    /// How.
    pub how: How,
    /// When.
    pub at: Timestamp,
}

/// What the terms of an update's latest revision are filed under, as SQL: a product, or the id that documents give them.
const PRODUCT: &str = "(SELECT revision.license_key FROM revision JOIN update_item AS item
    ON item.update_id = revision.update_id AND item.latest = revision.number WHERE item.update_id = :update)";

impl Reader<'_> {
    /// The text that stands for the product of an update in a language.
    pub fn license_text(&self, update: UpdateId, language: &str) -> Result<Option<LicenseText>, SchemaError> {
        let sql = format!(
            "SELECT current.sha256, license_text.body, current.origin, license_text.fetched_at
               FROM license_current AS current JOIN license_text USING (sha256)
              WHERE current.product = {PRODUCT} AND current.language = :language"
        );
        self.first(&sql, named_params! { ":update": update.0.as_bytes(), ":language": language }, |row| {
            Ok(LicenseText {
                sha256: sha256(row, "sha256")?,
                body: row.get("body")?,
                origin: row.get("origin")?,
                fetched_at: time(row, "fetched_at")?,
            })
        })
    }

    /// Where the catalogs that list an update publish its terms in a language, and where the files are that its document
    /// names: those in the language itself, else in its main language (`en` for `en-us`).
    pub fn license_links(&self, update: UpdateId, language: &str) -> Result<Vec<LicenseLink>, SchemaError> {
        let mut links = self.all(
            "SELECT DISTINCT link.source, link.url FROM license_link AS link
               JOIN listing ON listing.source = link.source AND listing.location = link.location
              WHERE listing.update_id = :update AND link.language = :language ORDER BY link.url",
            named_params! { ":update": update.0.as_bytes(), ":language": language },
            |row| Ok(LicenseLink { source: row.get("source")?, url: row.get("url")?, wanted: None }),
        )?;
        if let Some(text) = self.license_file(update, language)?
            && let Some(sha1) = text.digests.sha1
        {
            for published in self.metadata_urls(sha1)? {
                let wanted = Some((text.size, text.digests));
                links.push(LicenseLink { source: published.source, url: published.url, wanted });
            }
        }
        Ok(links)
    }

    /// The text that the documents of an update name in a language, if they name one.
    pub fn license_file(&self, update: UpdateId, language: &str) -> Result<Option<LicenseFile>, SchemaError> {
        const NAME: &str = "SELECT min(file_name) AS name FROM metadata_license WHERE sha1 = ?1";
        let texts = self.all(
            "SELECT text.language, text.size, text.sha1, text.sha256 FROM revision_license AS text
               JOIN update_item AS item ON item.update_id = text.update_id AND item.latest = text.number
              WHERE text.update_id = ?1 ORDER BY text.language",
            [update.0.as_bytes()],
            |row| Ok((row.get::<_, String>("language")?, size(row, "size")?, digests(row)?)),
        )?;
        let main = |language: &str| language.split('-').next().unwrap_or_default().to_owned();
        let every = language == catalog::feature_update::EVERY_LANGUAGE;
        let fit = |exactly: bool| {
            texts.iter().find(|(known, ..)| match exactly {
                true => known == language || (every && known == "en"),
                false => main(known) == main(language) || every,
            })
        };
        let Some((_, size, digests)) = fit(true).or_else(|| fit(false)) else { return Ok(None) };
        let name = match digests.sha1 {
            Some(sha1) => {
                self.first(NAME, [sha1.0], |row| Ok(row.get::<_, Option<String>>("name")?))?.flatten()
            }
            None => None,
        };
        Ok(Some(LicenseFile { name: name.unwrap_or_default(), size: *size, digests: *digests }))
    }

    /// The decision that counts for an update now.
    pub fn license_decision(&self, update: UpdateId) -> Result<Option<Decision>, SchemaError> {
        const SQL: &str = "
            SELECT decision.* FROM license_decision AS decision
              JOIN update_item AS item ON item.update_id = :update
              JOIN revision ON revision.update_id = item.update_id AND revision.number = item.latest
              LEFT JOIN license_current AS current
                ON current.product = revision.license_key AND current.language = revision.language
             WHERE decision.product = revision.license_key AND decision.language = revision.language
               AND decision.sha256 IS current.sha256
               AND (decision.accepted OR decision.update_id = item.update_id)
             ORDER BY decision.decision_id DESC LIMIT 1";
        self.first(SQL, named_params! { ":update": update.0.as_bytes() }, |row| {
            Ok(Decision {
                update: crate::column::update(row, "update_id")?,
                text: sha256_or_none(row, "sha256")?,
                accepted: row.get("accepted")?,
                who: row.get("who")?,
                how: text(row, "how")?,
                at: time(row, "at")?,
            })
        })
    }

    /// Whether somebody has reviewed this text.
    pub fn was_reviewed(&self, text: Sha256Digest) -> Result<bool, SchemaError> {
        Ok(self.first("SELECT 1 FROM license_review WHERE sha256 = ?1", [text.0], |_| Ok(()))?.is_some())
    }
}

impl Writer<'_> {
    /// Replaces the links of a location. A text whose link nobody publishes any more stands for nothing: it is asked
    /// for again.
    pub(crate) fn record_license_links(
        &self,
        source: &str,
        location: &str,
        links: &[(String, String)],
    ) -> Result<(), SchemaError> {
        self.execute("DELETE FROM license_link WHERE source = ?1 AND location = ?2", (source, location))?;
        for (language, url) in links {
            self.execute(
                "INSERT OR IGNORE INTO license_link (source, location, language, url) VALUES (?1, ?2, ?3, ?4)",
                (source, location, language, url),
            )?;
        }
        self.execute(
            "DELETE FROM license_current
              WHERE origin LIKE 'http%' AND EXISTS (
                    SELECT 1 FROM license_link WHERE license_link.language = license_current.language)
                AND NOT EXISTS (
                    SELECT 1 FROM license_link
                     WHERE license_link.language = license_current.language AND license_link.url = license_current.origin)",
            [],
        )?;
        Ok(())
    }

    /// Makes a text the one that stands for the product of an update in a language.
    pub fn record_license_text(
        &self,
        update: UpdateId,
        language: &str,
        text: &LicenseText,
    ) -> Result<(), SchemaError> {
        self.execute(
            "INSERT OR IGNORE INTO license_text (sha256, body, fetched_at) VALUES (?1, ?2, ?3)",
            (text.sha256.0, &text.body, text.fetched_at.as_millisecond()),
        )?;
        let sql = format!(
            "INSERT INTO license_current (product, language, sha256, origin, since)
             VALUES ({PRODUCT}, :language, :sha256, :origin, :since)
             ON CONFLICT DO UPDATE SET sha256 = excluded.sha256, origin = excluded.origin, since = excluded.since"
        );
        self.execute(
            &sql,
            named_params! {
                ":update": update.0.as_bytes(), ":language": language, ":sha256": text.sha256.0,
                ":origin": text.origin, ":since": text.fetched_at.as_millisecond(),
            },
        )?;
        Ok(())
    }

    /// Somebody has seen a text.
    pub fn record_review(
        &self,
        update: UpdateId,
        text: Sha256Digest,
        language: &str,
        who: &str,
        now: Timestamp,
    ) -> Result<(), SchemaError> {
        let sql = format!(
            "INSERT OR REPLACE INTO license_review (sha256, product, language, who, at)
             VALUES (:sha256, {PRODUCT}, :language, :who, :now)"
        );
        self.execute(
            &sql,
            named_params! {
                ":update": update.0.as_bytes(), ":sha256": text.0, ":language": language, ":who": who,
                ":now": now.as_millisecond(),
            },
        )?;
        Ok(())
    }

    /// Somebody accepts or declines; kept for ever.
    #[expect(clippy::too_many_arguments, reason = "each is a column of the record")]
    pub fn record_license_decision(
        &self,
        update: UpdateId,
        language: &str,
        text: Option<Sha256Digest>,
        accepted: bool,
        who: &str,
        how: How,
        now: Timestamp,
    ) -> Result<(), SchemaError> {
        let sql = format!(
            "INSERT INTO license_decision (update_id, product, language, sha256, accepted, who, how, at)
             VALUES (:update, {PRODUCT}, :language, :sha256, :accepted, :who, :how, :now)"
        );
        self.execute(
            &sql,
            named_params! {
                ":update": update.0.as_bytes(), ":language": language, ":sha256": text.map(|text| text.0),
                ":accepted": accepted, ":who": who, ":how": how.to_string(), ":now": now.as_millisecond(),
            },
        )?;
        self.audit(who, if accepted { "license.accept" } else { "license.decline" }, &update.to_string(), now)
    }
}
