//! What the update point asks: which revisions downstream servers may have, their documents and files, and what changed
//! since they asked last.
//!
//! A place in time is the number of the newest row of `metadata`, with the time: rows are never changed, their numbers only
//! grow, and whoever removes old ones leaves the newest. A database that was brought back from a backup gives the numbers
//! since then once more, to other documents. Those were recorded later than the place says, and that tells it.

use std::collections::{BTreeMap, HashMap};

use catalog::digest::Sha1Digest;
use catalog::id::{RevisionId, UpdateId};
use catalog::server_sync::content_path;
use jiff::Timestamp;
use rusqlite::named_params;
use uuid::Uuid;

use crate::column::{revision, sha1, size, text, time, update};
use crate::{Reader, SchemaError, Writer};

/// Which catalog this is. Another database is another one, and places in time of the one mean nothing in the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatalogIdentity {
    /// Made once.
    pub id: Uuid,
    /// When.
    pub since: Timestamp,
}

/// The newest document there is, or was at some place in time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Newest {
    /// Its number; 0 where there is no document.
    pub number: i64,
    /// When it was recorded.
    pub recorded: Timestamp,
}

/// A category or classification that revisions must be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    /// Which; what is below it counts too.
    pub id: UpdateId,
    /// Only what is newer than the place in time.
    pub only_newer: bool,
}

/// Which revisions are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RevisionFilter {
    /// The place in time; 0 is before everything.
    pub after: i64,
    /// Any of these, and
    pub categories: Vec<Membership>,
    /// any of these. Both empty: everything. One of them empty: nothing.
    pub classifications: Vec<Membership>,
}

/// A document that can be given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offered {
    /// Its row.
    pub row: i64,
    /// Which revision.
    pub id: RevisionId,
    /// Bytes of the document.
    pub size: u64,
}

/// A file that a downstream server asked for, and that is no content yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedFile {
    /// Which.
    pub sha1: Sha1Digest,
    /// Who asked last.
    pub asked_by: String,
    /// How often it was asked for.
    pub asked: u64,
    /// When it was first asked for.
    pub first_at: Timestamp,
    /// The title of an update that it belongs to, where one is known.
    pub update: Option<String>,
}

/// Revisions that are the highest of their update.
const HIGHEST: &str = "NOT EXISTS (SELECT 1 FROM metadata AS higher
                        WHERE higher.update_id = metadata.update_id AND higher.number > metadata.number)";

impl Reader<'_> {
    /// Which catalog this is; `None` before [`Writer::catalog_identity`].
    pub fn catalog_identity(&self) -> Result<Option<CatalogIdentity>, SchemaError> {
        self.first(
            "SELECT id.value AS id, CAST(since.value AS INTEGER) AS since FROM site AS id, site AS since
              WHERE id.key = 'catalog' AND since.key = 'catalog_since'",
            [],
            |row| Ok(CatalogIdentity { id: text(row, "id")?, since: time(row, "since")? }),
        )
    }

    /// The place in time that is now: the newest document.
    pub fn newest_metadata(&self) -> Result<Newest, SchemaError> {
        Ok(self.metadata_until(i64::MAX)?.unwrap_or_default())
    }

    /// The newest document whose number is not above `number`; `None` where there is none.
    pub fn metadata_until(&self, number: i64) -> Result<Option<Newest>, SchemaError> {
        self.first(
            "SELECT metadata_id, seen FROM metadata WHERE metadata_id <= ?1 ORDER BY metadata_id DESC LIMIT 1",
            [number],
            |row| Ok(Newest { number: row.get("metadata_id")?, recorded: time(row, "seen")? }),
        )
    }

    /// Categories, classifications and detectoids after a place in time, in the order in which they came. Older revisions
    /// too, as a real WSUS answers (its list names `e6cf1350…` with 100 and with 1), so that a site below knows all that
    /// this one knows.
    pub fn configuration_revisions(&self, after: i64) -> Result<Vec<RevisionId>, SchemaError> {
        const SQL: &str = "
            SELECT update_id, number FROM metadata WHERE metadata_id > ?1 AND kind IN ('category', 'detectoid')
             ORDER BY metadata_id";
        self.all(SQL, [after], revision)
    }

    /// Updates that a filter lets through, in the order in which they came; of each only the highest revision, and what
    /// that says it belongs to.
    pub fn update_revisions(&self, filter: &RevisionFilter) -> Result<Vec<RevisionId>, SchemaError> {
        match (filter.categories.as_slice(), filter.classifications.as_slice()) {
            ([], []) => return self.all_updates_after(filter.after),
            ([], _) | (_, []) => return Ok(Vec::new()),
            _ => {}
        }
        let categories = self.with_what_is_below(&filter.categories, filter.after)?;
        let classifications = self.with_what_is_below(&filter.classifications, filter.after)?;
        // Whatever is wanted whole on one side needs the old rows of the other side as well.
        let all_newer = categories.values().chain(classifications.values()).all(|only_newer| *only_newer);
        let from = if all_newer { filter.after } else { 0 };
        let mut in_category = HashMap::new();
        self.members(&categories, from, |row, only_newer| {
            let known: &mut bool = in_category.entry(row).or_insert(true);
            *known &= only_newer;
        })?;
        let mut rows = Vec::new();
        self.members(&classifications, from, |row, only_newer| {
            if let Some(category_only_newer) = in_category.get(&row)
                && (row > filter.after || !only_newer || !category_only_newer)
            {
                rows.push(row);
            }
        })?;
        drop(in_category);
        rows.sort_unstable();
        rows.dedup();
        let sql = format!(
            "SELECT update_id, number FROM metadata
              WHERE metadata_id = ?1 AND kind NOT IN ('category', 'detectoid') AND {HIGHEST}"
        );
        let mut statement = self.statement(&sql)?;
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            let mut answer = statement.query([row])?;
            if let Some(row) = answer.next()? {
                found.push(revision(row)?);
            }
        }
        Ok(found)
    }

    fn all_updates_after(&self, after: i64) -> Result<Vec<RevisionId>, SchemaError> {
        let sql = format!(
            "SELECT update_id, number FROM metadata
              WHERE metadata_id > ?1 AND kind NOT IN ('category', 'detectoid') AND {HIGHEST} ORDER BY metadata_id"
        );
        self.all(&sql, [after], revision)
    }

    /// Calls `each` for every row that says it is in one of `targets`, once for each time it says so.
    fn members(
        &self,
        targets: &BTreeMap<UpdateId, bool>,
        from: i64,
        mut each: impl FnMut(i64, bool),
    ) -> Result<(), SchemaError> {
        const SQL: &str = "
            SELECT metadata_id FROM metadata_relation WHERE target = ?1 AND relation = 'category' AND metadata_id > ?2";
        let mut statement = self.statement(SQL)?;
        for (target, only_newer) in targets {
            let mut rows = statement.query((target.0.as_bytes(), from))?;
            while let Some(row) = rows.next()? {
                each(row.get(0)?, *only_newer);
            }
        }
        Ok(())
    }

    /// These and every category below them: company, family, product. What came below after the place in time is wanted
    /// whole: its updates may be older than its place.
    fn with_what_is_below(
        &self,
        wanted: &[Membership],
        after: i64,
    ) -> Result<BTreeMap<UpdateId, bool>, SchemaError> {
        let below = self.links_of_categories()?;
        let mut found: BTreeMap<UpdateId, bool> = BTreeMap::new();
        let mut open: Vec<(UpdateId, bool)> = wanted.iter().map(|one| (one.id, one.only_newer)).collect();
        while let Some((id, only_newer)) = open.pop() {
            match found.get_mut(&id) {
                // Known, and not less is wanted of it: a circle ends here.
                Some(known) if only_newer || !*known => continue,
                Some(known) => *known = only_newer,
                None => drop(found.insert(id, only_newer)),
            }
            let children = below.get(&id).into_iter().flatten();
            open.extend(children.map(|(child, linked)| (*child, only_newer && *linked <= after)));
        }
        Ok(found)
    }

    /// What is directly below each category, with the row that says so. Asked of the categories, which are hundreds, and
    /// not of whatever is in one.
    fn links_of_categories(&self) -> Result<HashMap<UpdateId, Vec<(UpdateId, i64)>>, SchemaError> {
        const SQL: &str = "
            SELECT relation.target, metadata.update_id, metadata.metadata_id
              FROM metadata INDEXED BY metadata_by_kind
              CROSS JOIN metadata_relation AS relation USING (metadata_id)
             WHERE metadata.kind = 'category' AND relation.relation = 'category'";
        let links = self.all(&format!("{SQL} AND {HIGHEST}"), [], |row| {
            Ok((update(row, "target")?, update(row, "update_id")?, row.get("metadata_id")?))
        })?;
        let mut below: HashMap<_, Vec<_>> = HashMap::new();
        for (target, child, linked) in links {
            below.entry(target).or_default().push((child, linked));
        }
        Ok(below)
    }

    /// What there is of these revisions, in their order.
    pub fn offered(&self, ids: &[RevisionId]) -> Result<Vec<Option<Offered>>, SchemaError> {
        ids.iter()
            .map(|id| {
                self.first(
                    "SELECT metadata_id, size FROM metadata WHERE update_id = ?1 AND number = ?2",
                    (id.update.0.as_bytes(), id.number.0),
                    |row| Ok(Offered { row: row.get("metadata_id")?, id: *id, size: size(row, "size")? }),
                )
            })
            .collect()
    }

    /// SHA-1 of the files of a row, licence texts last; each once.
    pub fn file_digests(&self, row: i64) -> Result<Vec<Sha1Digest>, SchemaError> {
        const SQL: &str = "
            SELECT sha1 FROM (
                SELECT sha1, 0 AS part, position FROM metadata_file WHERE metadata_id = ?1 AND sha1 IS NOT NULL
                UNION ALL
                SELECT sha1, 1, language FROM metadata_license WHERE metadata_id = ?1 AND sha1 IS NOT NULL)
             GROUP BY sha1 ORDER BY min(part), min(position)";
        self.all(SQL, [row], |row| sha1(row, "sha1"))
    }

    /// Where Microsoft has a file, as upstreams say. What has the form of a place at an update server
    /// ([`catalog::server_sync::content_path`]) is such a place, mostly in a network of its own: nobody is sent there.
    pub fn published_url(&self, sha1: Sha1Digest) -> Result<Option<String>, SchemaError> {
        const SQL: &str = "
            SELECT url FROM (
                SELECT 0 AS part, source, url FROM metadata_url WHERE sha1 = ?1
                UNION ALL
                SELECT 1, source, url FROM file JOIN file_url USING (file_id) WHERE file.sha1 = ?1)
             WHERE (url LIKE 'http://%' OR url LIKE 'https://%') AND url NOT LIKE '%/' || ?2 || '%'
             ORDER BY part, source, url LIMIT 1";
        self.first(SQL, (sha1.0, content_path(sha1, "")), |row| Ok(row.get("url")?))
    }

    /// Those of `digests` that no document names, in their order.
    pub fn unknown_files(&self, digests: &[Sha1Digest]) -> Result<Vec<Sha1Digest>, SchemaError> {
        const SQL: &str = "
            SELECT EXISTS (SELECT 1 FROM metadata_file WHERE sha1 = ?1)
                OR EXISTS (SELECT 1 FROM metadata_license WHERE sha1 = ?1)
                OR EXISTS (SELECT 1 FROM content WHERE sha1 = ?1)";
        let mut unknown = Vec::new();
        for digest in digests {
            let known: Option<bool> = self.first(SQL, [digest.0], |row| Ok(row.get(0)?))?;
            if known != Some(true) {
                unknown.push(*digest);
            }
        }
        Ok(unknown)
    }

    /// Those of `digests` that are no content, and that nobody was seen to wait for after `since`.
    pub fn not_waited_for(
        &self,
        digests: &[Sha1Digest],
        since: Timestamp,
    ) -> Result<Vec<Sha1Digest>, SchemaError> {
        const SQL: &str = "
            SELECT EXISTS (SELECT 1 FROM content WHERE sha1 = ?1)
                OR EXISTS (SELECT 1 FROM wanted_file WHERE sha1 = ?1 AND latest_at > ?2)";
        let mut found = Vec::new();
        for digest in digests {
            let settled: Option<bool> =
                self.first(SQL, (digest.0, since.as_millisecond()), |row| Ok(row.get(0)?))?;
            if settled != Some(true) {
                found.push(*digest);
            }
        }
        Ok(found)
    }

    /// What downstream servers wait for, longest first.
    pub fn wanted_files(&self) -> Result<Vec<WantedFile>, SchemaError> {
        const SQL: &str = "
            SELECT wanted_file.sha1, wanted_file.asked_by, wanted_file.asked, wanted_file.first_at,
                   (SELECT revision.title
                      FROM file JOIN revision_file USING (file_id) JOIN revision USING (update_id, number)
                     WHERE file.sha1 = wanted_file.sha1
                     ORDER BY revision.update_id, revision.number DESC LIMIT 1) AS title
              FROM wanted_file
             WHERE NOT EXISTS (SELECT 1 FROM content WHERE content.sha1 = wanted_file.sha1)
             ORDER BY wanted_file.first_at, wanted_file.sha1";
        self.all(SQL, [], |row| {
            Ok(WantedFile {
                sha1: sha1(row, "sha1")?,
                asked_by: row.get("asked_by")?,
                asked: size(row, "asked")?,
                first_at: time(row, "first_at")?,
                update: row.get("title")?,
            })
        })
    }
}

impl Writer<'_> {
    /// Which catalog this is: `new`, unless that is known already.
    pub fn catalog_identity(&self, new: Uuid, now: Timestamp) -> Result<CatalogIdentity, SchemaError> {
        if let Some(known) = Reader::catalog_identity(self)? {
            return Ok(known);
        }
        for (key, value) in
            [("catalog", new.to_string()), ("catalog_since", now.as_millisecond().to_string())]
        {
            self.execute("INSERT OR REPLACE INTO site (key, value) VALUES (?1, ?2)", (key, value))?;
        }
        Reader::catalog_identity(self)?.ok_or_else(|| SchemaError::Value("catalog".to_owned()))
    }

    /// Remembers that a downstream server asked for files; those that are content already are not waited for.
    pub fn want_files(
        &self,
        digests: &[Sha1Digest],
        asked_by: &str,
        now: Timestamp,
    ) -> Result<(), SchemaError> {
        for digest in digests {
            self.execute(
                "INSERT INTO wanted_file (sha1, asked_by, asked, first_at, latest_at)
                 SELECT :sha1, :asked_by, 1, :now, :now
                  WHERE NOT EXISTS (SELECT 1 FROM content WHERE sha1 = :sha1)
                 ON CONFLICT DO UPDATE SET asked = asked + 1, asked_by = excluded.asked_by, latest_at = excluded.latest_at",
                named_params! { ":sha1": digest.0, ":asked_by": asked_by, ":now": now.as_millisecond() },
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
