//! How far the synchronisation with each update server is: where its lists ended, what is still to be fetched, and what
//! was set aside.
//!
//! A list becomes a *pass*: its anchor and the revisions of it that are not recorded yet. Each batch of documents leaves
//! the pass in the transaction that records it, and the anchor stands in the transaction that ends the pass. So a run that
//! is cut anywhere goes on with what is pending, and asks nothing twice.

use std::collections::HashSet;

use catalog::id::{RevisionId, RevisionNumber, UpdateId};
use catalog::problem::Code;
use jiff::Timestamp;
use rusqlite::{Row, named_params};
use serde::{Deserialize, Serialize};

use crate::column::{json, revision, text, to_json, update};
use crate::updates::{IMPORT, SERVER_LOCATION};
use crate::{Reader, SchemaError, Writer, words};

words! {
    /// Which of its two lists: each has an anchor of its own.
    Scope {
        /// Categories, classifications and detectoids.
        Categories = "categories",
        /// Updates of the chosen categories and classifications.
        Updates = "updates",
    }
}

/// What a list was asked with. Empty lists, as those of [`Scope::Categories`] are, mean all there is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListFilter {
    /// Products and families, sorted.
    pub categories: Vec<UpdateId>,
    /// Classifications, sorted.
    pub classifications: Vec<UpdateId>,
}

/// Where a list ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// The server's own words.
    pub anchor: String,
    /// What the list was asked with.
    pub filter: ListFilter,
}

/// A list that is not all fetched yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// Where the list ended: it stands once nothing is pending.
    pub ends: Anchor,
    /// What is to be fetched, sorted.
    pub pending: Vec<RevisionId>,
}

/// A list, as it was answered.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// Which.
    pub scope: Scope,
    /// Who answered.
    pub endpoint: &'a str,
    /// Where it ended.
    pub ends: &'a Anchor,
    /// All that it named.
    pub revisions: &'a [RevisionId],
    /// The other update servers that are asked.
    pub others: &'a [String],
    /// What is recorded is asked for once more where this server never said the places of its files.
    pub first: bool,
    /// It is asked for as if it were, because a place that listed updates is asked no more.
    pub anew: bool,
}

/// A revision that was set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Which; number 0 where no revision of the update could be found.
    #[serde(flatten)]
    pub id: RevisionId,
    /// What is wrong with it.
    pub code: Code,
    /// The same in words.
    pub reason: String,
}

impl Quarantined {
    /// The code of what nobody owes and was not found: no fault of the server, and looked for again only in a full run.
    pub const NOT_FOUND: Code = Code::NotFound;
    /// The code of what is still to be looked for.
    pub const NOT_TRIED: Code = Code::Interrupted;

    /// Still to be looked for, because others need it; number 0 where any revision will do.
    pub fn not_tried(id: RevisionId) -> Self {
        let reason = "another update needs it, and it was not looked for yet".to_owned();
        Self { id, code: Self::NOT_TRIED, reason }
    }

    /// The next run goes on with it.
    pub fn is_left(&self) -> bool {
        self.code == Self::NOT_TRIED
    }

    /// It was looked for in vain.
    pub fn is_lost(&self) -> bool {
        !self.is_left() && (self.id.number.0 == 0 || self.code == Self::NOT_FOUND)
    }
}

/// What lists name, and what that contains.
#[derive(Default)]
struct Walked {
    /// With their rows.
    recorded: Vec<(RevisionId, i64)>,
    lacking: Vec<RevisionId>,
}

/// What recorded revisions refer to and is not recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unresolved {
    /// Revisions that are bundled in what the server gave.
    pub bundled: Vec<RevisionId>,
    /// Those that are bundled in what came from elsewhere: nobody said that this server has them.
    pub elsewhere: Vec<RevisionId>,
    /// Prerequisites, which name no revision.
    pub prerequisites: Vec<UpdateId>,
}

fn anchor(row: &Row<'_>) -> Result<Anchor, SchemaError> {
    Ok(Anchor { anchor: row.get("anchor")?, filter: json(row, "filter")?.unwrap_or_default() })
}

impl Reader<'_> {
    /// Where the last such list of this server ended; none where another server stood at this source.
    pub fn server_anchor(
        &self,
        source: &str,
        scope: Scope,
        endpoint: &str,
    ) -> Result<Option<Anchor>, SchemaError> {
        const SQL: &str =
            "SELECT anchor, filter FROM server_anchor WHERE source = ?1 AND scope = ?2 AND endpoint = ?3";
        self.first(SQL, (source, scope.to_string(), endpoint), anchor)
    }

    /// The list of this server that is not all fetched yet, if there is one.
    pub fn server_pass(
        &self,
        source: &str,
        scope: Scope,
        endpoint: &str,
    ) -> Result<Option<Pass>, SchemaError> {
        const PASS: &str =
            "SELECT anchor, filter FROM server_pass WHERE source = ?1 AND scope = ?2 AND endpoint = ?3";
        const PENDING: &str = "
            SELECT update_id, number FROM server_pending WHERE source = ?1 AND scope = ?2 ORDER BY update_id, number";
        let Some(ends) = self.first(PASS, (source, scope.to_string(), endpoint), anchor)? else {
            return Ok(None);
        };
        Ok(Some(Pass { ends, pending: self.all(PENDING, (source, scope.to_string()), revision)? }))
    }

    /// What is set aside of a source. What was looked for is not, once another one gave it.
    pub fn server_quarantined(&self, source: &str) -> Result<Vec<Quarantined>, SchemaError> {
        const SQL: &str = "
            SELECT aside.update_id, aside.number, aside.code, aside.reason FROM server_quarantine AS aside
             WHERE aside.source = ?1
               AND NOT ((aside.number = 0 OR aside.code IN (?2, ?3))
                        AND EXISTS (SELECT 1 FROM metadata WHERE metadata.update_id = aside.update_id
                                                             AND (aside.number = 0 OR metadata.number = aside.number)))
             ORDER BY aside.update_id, aside.number";
        let codes = (Quarantined::NOT_FOUND.name(), Quarantined::NOT_TRIED.name());
        self.all(SQL, (source, codes.0, codes.1), |row| {
            Ok(Quarantined { id: revision(row)?, code: text(row, "code")?, reason: row.get("reason")? })
        })
    }

    /// Whether a revision is set aside.
    pub fn is_set_aside(&self, source: &str, one: RevisionId) -> Result<bool, SchemaError> {
        let found = self.first(
            "SELECT 1 FROM server_quarantine WHERE source = ?1 AND update_id = ?2 AND number = ?3",
            (source, one.update.0.as_bytes(), one.number.0),
            |_| Ok(()),
        )?;
        Ok(found.is_some())
    }

    /// Those of `revisions` that are not recorded, each once, in their order.
    pub fn unrecorded(&self, revisions: &[RevisionId]) -> Result<Vec<RevisionId>, SchemaError> {
        let mut seen = HashSet::new();
        let mut unknown = Vec::new();
        for one in revisions {
            if !seen.insert(*one) {
                continue;
            }
            let known = self.first(
                "SELECT 1 FROM metadata WHERE update_id = ?1 AND number = ?2",
                (one.update.0.as_bytes(), one.number.0),
                |_| Ok(()),
            )?;
            if known.is_none() {
                unknown.push(*one);
            }
        }
        Ok(unknown)
    }

    /// What updates need and is not recorded: those that none of `others` gave, which are the other update servers that are
    /// asked, and what was to be looked for before. What an import or a server that is asked no more gave is anybody's
    /// business. Categories and detectoids are not looked at: what they need is in the list that they came with, or nowhere.
    /// Replaced updates that are missing harm nobody.
    pub fn unresolved(&self, source: &str, others: &[String]) -> Result<Unresolved, SchemaError> {
        const BUNDLED: &str = "
            SELECT relation.target AS update_id, relation.number, max(parent.source = ?2) AS own
              FROM metadata_relation AS relation JOIN metadata AS parent USING (metadata_id)
             WHERE relation.relation = 'bundle' AND parent.kind IN ('software', 'driver')
               AND parent.source NOT IN (SELECT value FROM json_each(?1))
               AND NOT EXISTS (SELECT 1 FROM metadata AS child
                                WHERE child.update_id = relation.target AND child.number = relation.number)
             GROUP BY relation.target, relation.number";
        const PREREQUISITES: &str = "
            SELECT DISTINCT relation.target AS update_id
              FROM metadata_relation AS relation JOIN metadata AS parent USING (metadata_id)
             WHERE relation.relation IN ('prerequisite', 'category') AND parent.kind IN ('software', 'driver')
               AND parent.source NOT IN (SELECT value FROM json_each(?1))
               AND NOT EXISTS (SELECT 1 FROM metadata AS child WHERE child.update_id = relation.target)";
        let others = to_json(&others)?;
        let mut unresolved = Unresolved {
            prerequisites: self.all(PREREQUISITES, [&others], |row| update(row, "update_id"))?,
            ..Unresolved::default()
        };
        for (one, own) in self.all(BUNDLED, (&others, source), |row| Ok((revision(row)?, row.get("own")?)))? {
            let bundled = if own { &mut unresolved.bundled } else { &mut unresolved.elsewhere };
            bundled.push(one);
        }
        for aside in self.server_quarantined(source)? {
            match aside.id.number.0 {
                0 => unresolved.prerequisites.push(aside.id.update),
                _ if aside.is_left() || aside.is_lost() => unresolved.elsewhere.push(aside.id),
                _ => {}
            }
        }
        unresolved.bundled.sort();
        unresolved.elsewhere.retain(|one| unresolved.bundled.binary_search(one).is_err());
        unresolved.elsewhere.sort();
        unresolved.elsewhere.dedup();
        unresolved.prerequisites.sort();
        unresolved.prerequisites.dedup();
        Ok(unresolved)
    }

    /// Those of `revisions`, and of what they contain, all the way down, each once.
    fn with_what_is_bundled(&self, revisions: &[RevisionId]) -> Result<Walked, SchemaError> {
        const ROW: &str = "SELECT metadata_id FROM metadata WHERE update_id = ?1 AND number = ?2";
        const PARTS: &str = "
            SELECT target AS update_id, number FROM metadata_relation
             WHERE metadata_id = ?1 AND relation = 'bundle'";
        let (mut seen, mut open) = (HashSet::new(), revisions.to_vec());
        let mut walked = Walked::default();
        while let Some(one) = open.pop() {
            if !seen.insert(one) {
                continue;
            }
            let row: Option<i64> =
                self.first(ROW, (one.update.0.as_bytes(), one.number.0), |row| Ok(row.get(0)?))?;
            match row {
                Some(row) => {
                    open.extend(self.all(PARTS, [row], revision)?);
                    walked.recorded.push((one, row));
                }
                None => walked.lacking.push(one),
            }
        }
        Ok(walked)
    }

    /// Those of which somebody else gave the document.
    fn given_by_others(
        &self,
        source: &str,
        recorded: &[(RevisionId, i64)],
    ) -> Result<Vec<(RevisionId, i64)>, SchemaError> {
        const OTHERS: &str = "SELECT 1 FROM metadata WHERE metadata_id = ?1 AND source <> ?2";
        let mut given = Vec::new();
        for one in recorded {
            given.extend(self.first(OTHERS, (one.1, source), |_| Ok(*one))?);
        }
        Ok(given)
    }

    /// Those that have a file of which `source` never said where it is.
    fn without_links(
        &self,
        source: &str,
        recorded: &[(RevisionId, i64)],
    ) -> Result<Vec<RevisionId>, SchemaError> {
        const LACKS: &str = "
            SELECT 1 FROM (SELECT sha1 FROM metadata_file WHERE metadata_id = ?1
                           UNION ALL SELECT sha1 FROM metadata_license WHERE metadata_id = ?1) AS file
             WHERE file.sha1 IS NOT NULL
               AND NOT EXISTS (SELECT 1 FROM metadata_url AS link WHERE link.sha1 = file.sha1 AND link.source = ?2)
             LIMIT 1";
        let mut found = Vec::new();
        for (one, row) in recorded {
            found.extend(self.first(LACKS, (row, source), |_| Ok(*one))?);
        }
        Ok(found)
    }

    /// The GUID of [`Writer::server_account`], once it is made.
    pub fn known_server_account(&self) -> Result<Option<UpdateId>, SchemaError> {
        self.first("SELECT value FROM site WHERE key = 'server_account'", [], |row| text(row, "value"))
    }
}

impl Writer<'_> {
    /// Remembers a list: what of it is not recorded, and where it ended. Answers what is pending. Of updates that is also
    /// what they contain, whoever gave them, and with a `first` list what the server has not said the places of files of: an
    /// answer with a document is the only one that says them.
    pub fn begin_pass(
        &self,
        source: &str,
        list: &Named<'_>,
        now: Timestamp,
    ) -> Result<Vec<RevisionId>, SchemaError> {
        self.forget_pass(source, list.scope)?;
        let mut pending = match list.scope {
            Scope::Categories => self.unrecorded(list.revisions)?,
            Scope::Updates => self.take_over(source, list, now)?,
        };
        pending.sort();
        pending.dedup();
        self.execute(
            "INSERT INTO server_pass (source, scope, endpoint, anchor, filter)
             VALUES (:source, :scope, :endpoint, :anchor, :filter)",
            named_params! {
                ":source": source, ":scope": list.scope.to_string(), ":endpoint": list.endpoint,
                ":anchor": list.ends.anchor, ":filter": to_json(&list.ends.filter)?,
            },
        )?;
        for one in &pending {
            self.execute(
                "INSERT INTO server_pending (source, scope, update_id, number) VALUES (?1, ?2, ?3, ?4)",
                (source, list.scope.to_string(), one.update.0.as_bytes(), one.number.0),
            )?;
        }
        Ok(pending)
    }

    /// This server names what others may have given. What is recorded of it and is a feature update already is listed by it
    /// as well; it answers for what was given by a server that is asked no more, and helps to complete what the others gave.
    /// Answers what is to be fetched.
    fn take_over(
        &self,
        source: &str,
        list: &Named<'_>,
        now: Timestamp,
    ) -> Result<Vec<RevisionId>, SchemaError> {
        const ANSWERS: &str = "
            UPDATE metadata SET source = ?1 WHERE metadata_id = ?2 AND source NOT IN (SELECT value FROM json_each(?3))";
        const LISTS: &str = "
            INSERT OR IGNORE INTO listing (source, location, update_id, number)
            SELECT :source, :location, revision.update_id, revision.number FROM revision
             WHERE revision.update_id = :update AND revision.number = :number
               AND EXISTS (SELECT 1 FROM metadata JOIN metadata_offered USING (metadata_id)
                            WHERE metadata.update_id = revision.update_id AND metadata.number = revision.number)";
        let Walked { recorded, lacking: mut pending } = self.with_what_is_bundled(list.revisions)?;
        let named: HashSet<&RevisionId> = list.revisions.iter().collect();
        let others = list.others.iter().map(String::as_str);
        let kept = to_json(&others.chain([source, IMPORT]).collect::<Vec<_>>())?;
        // A server that never says where files are is not asked for all that it has given, each time that a place goes.
        let without_links = match (list.first, list.anew) {
            (true, _) => self.without_links(source, &recorded)?,
            (false, true) => self.without_links(source, &self.given_by_others(source, &recorded)?)?,
            (false, false) => Vec::new(),
        };
        for (one, row) in &recorded {
            self.execute(ANSWERS, (source, row, &kept))?;
            self.execute(
                LISTS,
                named_params! {
                    ":source": source, ":location": SERVER_LOCATION,
                    ":update": one.update.0.as_bytes(), ":number": one.number.0,
                },
            )?;
        }
        self.note_needs(source, &recorded, list.others, now)?;
        // Parts that were set aside are tried again apart from the others.
        let aside = self.server_quarantined(source)?.into_iter().map(|one| one.id).collect::<HashSet<_>>();
        pending.retain(|one| named.contains(one) || !aside.contains(one));
        pending.extend(without_links);
        Ok(pending)
    }

    /// What updates need of which others gave the documents, and this one names them, is looked for here too.
    fn note_needs(
        &self,
        source: &str,
        recorded: &[(RevisionId, i64)],
        others: &[String],
        now: Timestamp,
    ) -> Result<(), SchemaError> {
        const NEEDS: &str = "
            SELECT DISTINCT relation.target AS update_id
              FROM metadata_relation AS relation JOIN metadata AS parent USING (metadata_id)
             WHERE relation.metadata_id = ?1 AND relation.relation IN ('prerequisite', 'category')
               AND parent.kind IN ('software', 'driver') AND parent.source IN (SELECT value FROM json_each(?2))
               AND NOT EXISTS (SELECT 1 FROM metadata AS child WHERE child.update_id = relation.target)";
        if others.is_empty() {
            return Ok(());
        }
        let others = to_json(&others)?;
        for (_, row) in recorded {
            for needed in self.all(NEEDS, (row, &others), |row| update(row, "update_id"))? {
                let any = RevisionId { update: needed, number: RevisionNumber(0) };
                if !self.is_set_aside(source, any)? {
                    self.quarantine(source, &Quarantined::not_tried(any), now)?;
                }
            }
        }
        Ok(())
    }

    /// A revision is recorded or set aside: it is pending no more. One that is recorded is not set aside either, nor is its
    /// update one of which no revision could be found.
    pub fn arrived(&self, source: &str, one: RevisionId) -> Result<(), SchemaError> {
        let key = (source, one.update.0.as_bytes(), one.number.0);
        self.execute("DELETE FROM server_pending WHERE source = ?1 AND update_id = ?2 AND number = ?3", key)?;
        self.execute(
            "DELETE FROM server_quarantine WHERE source = ?1 AND update_id = ?2 AND number IN (?3, 0)",
            key,
        )?;
        Ok(())
    }

    /// Sets a revision aside: it is pending no more. The same for the same reason as before is no change.
    pub fn quarantine(&self, source: &str, one: &Quarantined, now: Timestamp) -> Result<(), SchemaError> {
        self.execute(
            "DELETE FROM server_pending WHERE source = ?1 AND update_id = ?2 AND number = ?3",
            (source, one.id.update.0.as_bytes(), one.id.number.0),
        )?;
        self.execute(
            "INSERT INTO server_quarantine (source, update_id, number, code, reason, since)
             VALUES (:source, :update, :number, :code, :reason, :now)
             ON CONFLICT DO UPDATE SET code = excluded.code, reason = excluded.reason
              WHERE (code, reason) <> (excluded.code, excluded.reason)",
            named_params! {
                ":source": source, ":update": one.id.update.0.as_bytes(), ":number": one.id.number.0,
                ":code": one.code.name(), ":reason": one.reason, ":now": now.as_millisecond(),
            },
        )?;
        Ok(())
    }

    /// Ends a pass: its anchor stands. Where revisions are still pending, by a mistake of the caller, it does not: then the
    /// next list names them again.
    pub fn end_pass(&self, source: &str, scope: Scope) -> Result<(), SchemaError> {
        self.execute(
            "INSERT OR REPLACE INTO server_anchor (source, scope, endpoint, anchor, filter)
             SELECT source, scope, endpoint, anchor, filter FROM server_pass
              WHERE source = ?1 AND scope = ?2
                AND NOT EXISTS (SELECT 1 FROM server_pending WHERE source = ?1 AND scope = ?2)",
            (source, scope.to_string()),
        )?;
        self.forget_pass(source, scope)
    }

    /// Forgets where the lists of a source ended, and what is pending: its server is another one now.
    pub fn forget_anchors(&self, source: &str) -> Result<(), SchemaError> {
        self.execute("DELETE FROM server_anchor WHERE source = ?1", [source])?;
        self.forget_pass(source, Scope::Categories)?;
        self.forget_pass(source, Scope::Updates)
    }

    fn forget_pass(&self, source: &str, scope: Scope) -> Result<(), SchemaError> {
        self.execute(
            "DELETE FROM server_pending WHERE source = ?1 AND scope = ?2",
            (source, scope.to_string()),
        )?;
        self.execute(
            "DELETE FROM server_pass WHERE source = ?1 AND scope = ?2",
            (source, scope.to_string()),
        )?;
        Ok(())
    }

    /// The GUID by which this site introduces itself to update servers; made once, the same for ever.
    pub fn server_account(&self, new: UpdateId) -> Result<UpdateId, SchemaError> {
        self.execute(
            "INSERT OR IGNORE INTO site (key, value) VALUES ('server_account', ?1)",
            [new.to_string()],
        )?;
        self.known_server_account()?.ok_or_else(|| SchemaError::Value("server_account".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use catalog::digest::Sha1Digest;
    use catalog::limits::Limits;

    use super::*;
    use crate::Store;
    use crate::metadata::{MetadataRecorded, Prepared};

    const SERVER: &str = "https://wsus:8531/";

    fn update(n: u128) -> UpdateId {
        UpdateId(uuid::Uuid::from_u128(n))
    }

    fn id(n: u128, number: u32) -> RevisionId {
        RevisionId { update: update(n), number: RevisionNumber(number) }
    }

    fn ends(text: &str) -> Anchor {
        Anchor {
            anchor: text.to_owned(),
            filter: ListFilter { categories: vec![update(9)], ..ListFilter::default() },
        }
    }

    fn list<'a>(ends: &'a Anchor, revisions: &'a [RevisionId], first: bool) -> Named<'a> {
        Named { scope: Scope::Updates, endpoint: SERVER, ends, revisions, others: &[], first, anew: false }
    }

    /// Software that contains and needs others.
    fn prepared(id: RevisionId, bundled: RevisionId, needed: UpdateId) -> Prepared {
        let text = format!(
            "<Update xmlns=\"http://schemas.microsoft.com/msus/2002/12/Update\"><UpdateIdentity UpdateID=\"{}\" \
             RevisionNumber=\"{}\"/><Properties UpdateType=\"Software\"/><Relationships><Prerequisites>\
             <UpdateIdentity UpdateID=\"{needed}\"/></Prerequisites><BundledUpdates><UpdateIdentity UpdateID=\"{}\" \
             RevisionNumber=\"{}\"/></BundledUpdates></Relationships></Update>",
            id.update, id.number.0, bundled.update, bundled.number.0
        );
        let revision = catalog::update::parse(text.as_bytes(), &Limits::default()).unwrap();
        Prepared::new(revision, text.as_bytes()).unwrap()
    }

    async fn change<T: Send + 'static>(
        store: &Store,
        change: impl FnOnce(&Writer<'_>) -> Result<T, SchemaError> + Send + 'static,
    ) -> T {
        store.write(change).await.unwrap()
    }

    #[tokio::test]
    async fn an_anchor_stands_when_nothing_of_its_pass_is_pending() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("spsync.db"), 1).unwrap();
        let now = Timestamp::UNIX_EPOCH;
        let listed = [id(2, 1), id(1, 1), id(2, 1), id(3, 1)];
        let pending =
            change(&store, move |w| w.begin_pass("a", &list(&ends("1"), &listed, false), now)).await;
        assert_eq!(pending, [id(1, 1), id(2, 1), id(3, 1)], "each once, sorted");
        change(&store, move |w| {
            assert_eq!(
                w.record_metadata("a", &prepared(id(1, 1), id(7, 1), update(8)), now)?,
                MetadataRecorded::New
            );
            w.arrived("a", id(1, 1))?;
            let damaged =
                Quarantined { id: id(2, 1), code: Code::CatalogMalformed, reason: "damaged".to_owned() };
            w.quarantine("a", &damaged, now)
        })
        .await;
        let pass = store.read(|r| r.server_pass("a", Scope::Updates, SERVER)).await.unwrap().unwrap();
        assert_eq!(pass, Pass { ends: ends("1"), pending: vec![id(3, 1)] });
        // Another server at the same source begins anew; another source has nothing of this.
        let none = store.read(|r| r.server_pass("a", Scope::Updates, "https://other/")).await.unwrap();
        assert_eq!(none, None);

        // Ended too early: no anchor. Begun again, only what is not recorded is pending, what was set aside too.
        change(&store, |w| w.end_pass("a", Scope::Updates)).await;
        let anchor = || store.read(|r| r.server_anchor("a", Scope::Updates, SERVER));
        assert_eq!(anchor().await.unwrap(), None);
        let pending =
            change(&store, move |w| w.begin_pass("a", &list(&ends("2"), &listed, false), now)).await;
        assert_eq!(pending, [id(2, 1), id(3, 1), id(7, 1)], "and what it contains");
        change(&store, move |w| {
            w.arrived("a", id(2, 1))?;
            w.arrived("a", id(3, 1))?;
            w.arrived("a", id(7, 1))?;
            w.end_pass("a", Scope::Updates)
        })
        .await;
        assert_eq!(anchor().await.unwrap(), Some(ends("2")));
        assert_eq!(store.read(|r| r.server_quarantined("a")).await.unwrap(), []);
        change(&store, |w| w.forget_anchors("a")).await;
        assert_eq!(anchor().await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_needed_is_the_business_of_every_server_but_those_that_another_one_answers_for() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("spsync.db"), 1).unwrap();
        let now = Timestamp::UNIX_EPOCH;
        change(&store, move |w| w.record_metadata("a", &prepared(id(1, 1), id(7, 3), update(8)), now)).await;
        let unresolved = |source: &'static str, others: &[&str]| {
            let others: Vec<String> = others.iter().map(|&other| other.to_owned()).collect();
            let store = store.clone();
            async move { store.read(move |r| r.unresolved(source, &others)).await.unwrap() }
        };
        let (own, needed) = (vec![id(7, 3)], vec![update(8)]);
        let of_a =
            Unresolved { bundled: own.clone(), prerequisites: needed.clone(), ..Unresolved::default() };
        let of_others = Unresolved { elsewhere: own, prerequisites: needed, ..Unresolved::default() };
        // Of the server itself, and of one that is asked no more: nobody said that this one has it.
        assert_eq!(unresolved("a", &["b"]).await, of_a);
        assert_eq!(unresolved("b", &["c"]).await, of_others);
        // Another server answers for it.
        assert_eq!(unresolved("b", &["a"]).await, Unresolved::default());
        // Another revision of what is bundled is not what is bundled; of a prerequisite any will do.
        change(&store, move |w| {
            w.record_metadata("b", &prepared(id(7, 2), id(1, 1), update(1)), now)?;
            w.record_metadata("b", &prepared(id(8, 2), id(1, 1), update(1)), now)
        })
        .await;
        let bundled = Unresolved { bundled: vec![id(7, 3)], ..Unresolved::default() };
        assert_eq!(unresolved("a", &["b"]).await, bundled);
        assert!(store.read(|r| r.metadata_has(update(7))).await.unwrap());
        assert!(!store.read(|r| r.metadata_has(update(9))).await.unwrap());
    }

    #[tokio::test]
    async fn what_a_server_names_that_another_one_gave_is_completed_by_it_in_this_run_or_a_later_one() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("spsync.db"), 1).unwrap();
        let now = Timestamp::UNIX_EPOCH;
        change(&store, move |w| w.record_metadata("a", &prepared(id(1, 1), id(7, 3), update(8)), now)).await;
        let others = || vec!["a".to_owned()];
        let begin = |revisions: &'static [(u128, u32)]| {
            let store = store.clone();
            async move {
                let revisions: Vec<_> = revisions.iter().map(|&(n, number)| id(n, number)).collect();
                let begun = store.write(move |w| {
                    let (ends, others) = (ends("1"), others());
                    w.begin_pass("b", &Named { others: &others, ..list(&ends, &revisions, false) }, now)
                });
                begun.await.unwrap()
            }
        };
        assert_eq!(begin(&[(9, 9)]).await, [id(9, 9)]);
        let left = || store.read(|r| r.server_quarantined("b"));
        assert_eq!(
            left().await.unwrap(),
            [],
            "what another one gave and this one does not name is not its business"
        );
        // The part is pending like what is named, and the prerequisite is written down: whoever goes on with it.
        assert_eq!(begin(&[(1, 1)]).await, [id(7, 3)]);
        let lacks = Quarantined::not_tried(id(8, 0));
        assert_eq!(left().await.unwrap(), std::slice::from_ref(&lacks));
        let needs = Unresolved { prerequisites: vec![update(8)], ..Unresolved::default() };
        let unresolved = || store.read(move |r| r.unresolved("b", &others()));
        assert_eq!(unresolved().await.unwrap(), needs);
        // What was looked for in vain is no news; a part of a part is found from the whole.
        let lost = Quarantined { code: Quarantined::NOT_FOUND, ..lacks };
        let found_not = lost.clone();
        change(&store, move |w| {
            w.quarantine("b", &found_not, now)?;
            w.record_metadata("a", &prepared(id(7, 3), id(6, 1), update(8)), now)
        })
        .await;
        assert_eq!(begin(&[(1, 1)]).await, [id(6, 1)]);
        assert_eq!(left().await.unwrap(), [lost]);
        // Once it is there, from whomever, nothing is left.
        change(&store, move |w| w.record_metadata("a", &prepared(id(8, 5), id(7, 3), update(1)), now)).await;
        assert_eq!((left().await.unwrap(), unresolved().await.unwrap()), (vec![], Unresolved::default()));
    }

    #[tokio::test]
    async fn where_files_are_is_asked_of_a_server_that_never_said_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("spsync.db"), 1).unwrap();
        let now = Timestamp::UNIX_EPOCH;
        let sha1 = Sha1Digest([7; 20]);
        let part = format!(
            "<Update xmlns=\"http://schemas.microsoft.com/msus/2002/12/Update\"><UpdateIdentity UpdateID=\"{}\" \
             RevisionNumber=\"3\"/><Properties UpdateType=\"Software\"/><Files><File Digest=\"{}\" \
             DigestAlgorithm=\"SHA1\" FileName=\"a.esd\" Size=\"1\"/></Files></Update>",
            update(7),
            sha1.to_base64()
        );
        let revision = catalog::update::parse(part.as_bytes(), &Limits::default()).unwrap();
        let part = Prepared::new(revision, part.as_bytes()).unwrap();
        change(&store, move |w| {
            w.record_metadata("import", &prepared(id(1, 1), id(7, 3), update(8)), now)?;
            w.record_metadata("import", &part, now)
        })
        .await;
        let begin = |source: &'static str, first: bool| {
            let store = store.clone();
            async move {
                let begun = store.write(move |w| {
                    w.begin_pass(source, &list(&ends("1"), &[id(1, 1), id(2, 1)], first), now)
                });
                begun.await.unwrap()
            }
        };
        assert_eq!(begin("a", false).await, [id(2, 1)]);
        assert_eq!(
            begin("a", true).await,
            [id(2, 1), id(7, 3)],
            "the part that has the file, which no list names"
        );
        change(&store, move |w| w.record_metadata_url("a", sha1, "http://x/a.esd")).await;
        assert_eq!(begin("a", true).await, [id(2, 1)]);
        assert_eq!(
            begin("b", true).await,
            [id(2, 1), id(7, 3)],
            "the one has said it, and the other has not"
        );
    }

    #[tokio::test]
    async fn an_update_that_came_is_not_said_to_be_lost() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("spsync.db"), 1).unwrap();
        let now = Timestamp::UNIX_EPOCH;
        let lost =
            |n| Quarantined { id: id(n, 0), code: Code::RevisionQuarantined, reason: "none".to_owned() };
        change(&store, move |w| {
            for (source, n) in [("a", 1), ("a", 2), ("b", 1)] {
                w.quarantine(source, &lost(n), now)?;
            }
            w.record_metadata("a", &prepared(id(1, 5), id(7, 3), update(8)), now)?;
            w.arrived("a", id(1, 5))
        })
        .await;
        let aside = |source: &'static str| store.read(move |r| r.server_quarantined(source));
        assert_eq!(aside("a").await.unwrap(), [lost(2)]);
        assert_eq!(aside("b").await.unwrap(), [], "it came from another one");
    }

    #[tokio::test]
    async fn the_account_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("spsync.db"), 1).unwrap();
        assert_eq!(store.read(|r| r.known_server_account()).await.unwrap(), None);
        assert_eq!(change(&store, |w| w.server_account(update(1))).await, update(1));
        assert_eq!(change(&store, |w| w.server_account(update(2))).await, update(1));
        assert_eq!(store.read(|r| r.known_server_account()).await.unwrap(), Some(update(1)));
    }
}
