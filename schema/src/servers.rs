//! How far the synchronisation with each update server is: where its lists ended, what is still to be fetched, and what
//! was set aside.
//!
//! A list becomes a *pass*: its anchor and the revisions of it that are not recorded yet. Each batch of documents leaves
//! the pass in the transaction that records it, and the anchor stands in the transaction that ends the pass. So a run that
//! is cut anywhere goes on with what is pending, and asks nothing twice.

use catalog::id::{RevisionId, UpdateId};
use catalog::problem::Code;
use jiff::Timestamp;
use rusqlite::{Row, named_params};
use serde::{Deserialize, Serialize};

use crate::column::{json, revision, text, to_json, update};
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

/// What recorded revisions refer to and is not recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unresolved {
    /// Bundled revisions.
    pub bundled: Vec<RevisionId>,
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

    /// What is set aside of a source.
    pub fn server_quarantined(&self, source: &str) -> Result<Vec<Quarantined>, SchemaError> {
        const SQL: &str = "
            SELECT update_id, number, code, reason FROM server_quarantine WHERE source = ?1 ORDER BY update_id, number";
        self.all(SQL, [source], |row| {
            Ok(Quarantined { id: revision(row)?, code: text(row, "code")?, reason: row.get("reason")? })
        })
    }

    /// Those of `revisions` that are not recorded, each once, in their order.
    pub fn unrecorded(&self, revisions: &[RevisionId]) -> Result<Vec<RevisionId>, SchemaError> {
        let mut seen = std::collections::HashSet::new();
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

    /// What the updates of a source need and is not recorded; another source's updates are not its business. Categories
    /// and detectoids are not looked at: what they need is in the list that they came with, or nowhere. Replaced updates
    /// that are missing harm nobody.
    pub fn unresolved(&self, source: &str) -> Result<Unresolved, SchemaError> {
        const BUNDLED: &str = "
            SELECT DISTINCT relation.target AS update_id, relation.number
              FROM metadata_relation AS relation JOIN metadata AS parent USING (metadata_id)
             WHERE relation.relation = 'bundle' AND parent.kind IN ('software', 'driver') AND parent.source = ?1
               AND NOT EXISTS (SELECT 1 FROM metadata AS child
                                WHERE child.update_id = relation.target AND child.number = relation.number)
             ORDER BY 1, 2";
        const PREREQUISITES: &str = "
            SELECT DISTINCT relation.target AS update_id
              FROM metadata_relation AS relation JOIN metadata AS parent USING (metadata_id)
             WHERE relation.relation IN ('prerequisite', 'category') AND parent.kind IN ('software', 'driver')
               AND parent.source = ?1
               AND NOT EXISTS (SELECT 1 FROM metadata AS child WHERE child.update_id = relation.target)
             ORDER BY 1";
        Ok(Unresolved {
            bundled: self.all(BUNDLED, [source], revision)?,
            prerequisites: self.all(PREREQUISITES, [source], |row| update(row, "update_id"))?,
        })
    }

    /// The GUID of [`Writer::server_account`], once it is made.
    pub fn known_server_account(&self) -> Result<Option<UpdateId>, SchemaError> {
        self.first("SELECT value FROM site WHERE key = 'server_account'", [], |row| text(row, "value"))
    }
}

impl Writer<'_> {
    /// Remembers a list: what of it is not recorded, and where it ended. Answers what is pending.
    pub fn begin_pass(
        &self,
        source: &str,
        scope: Scope,
        endpoint: &str,
        ends: &Anchor,
        revisions: &[RevisionId],
    ) -> Result<Vec<RevisionId>, SchemaError> {
        self.forget_pass(source, scope)?;
        let mut pending = self.unrecorded(revisions)?;
        pending.sort();
        self.execute(
            "INSERT INTO server_pass (source, scope, endpoint, anchor, filter)
             VALUES (:source, :scope, :endpoint, :anchor, :filter)",
            named_params! {
                ":source": source, ":scope": scope.to_string(), ":endpoint": endpoint,
                ":anchor": ends.anchor, ":filter": to_json(&ends.filter)?,
            },
        )?;
        for one in &pending {
            self.execute(
                "INSERT INTO server_pending (source, scope, update_id, number) VALUES (?1, ?2, ?3, ?4)",
                (source, scope.to_string(), one.update.0.as_bytes(), one.number.0),
            )?;
        }
        Ok(pending)
    }

    /// A revision is recorded or set aside: it is pending no more. One that is recorded is not set aside either.
    pub fn arrived(&self, source: &str, one: RevisionId) -> Result<(), SchemaError> {
        let key = (source, one.update.0.as_bytes(), one.number.0);
        self.execute("DELETE FROM server_pending WHERE source = ?1 AND update_id = ?2 AND number = ?3", key)?;
        self.execute(
            "DELETE FROM server_quarantine WHERE source = ?1 AND update_id = ?2 AND number = ?3",
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
    use catalog::id::RevisionNumber;
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
            change(&store, move |w| w.begin_pass("a", Scope::Updates, SERVER, &ends("1"), &listed)).await;
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
            change(&store, move |w| w.begin_pass("a", Scope::Updates, SERVER, &ends("2"), &listed)).await;
        assert_eq!(pending, [id(2, 1), id(3, 1)]);
        change(&store, move |w| {
            w.arrived("a", id(2, 1))?;
            w.arrived("a", id(3, 1))?;
            w.end_pass("a", Scope::Updates)
        })
        .await;
        assert_eq!(anchor().await.unwrap(), Some(ends("2")));
        assert_eq!(store.read(|r| r.server_quarantined("a")).await.unwrap(), []);
        change(&store, |w| w.forget_anchors("a")).await;
        assert_eq!(anchor().await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_needed_is_the_business_of_the_source_that_gave_what_needs_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("spsync.db"), 1).unwrap();
        let now = Timestamp::UNIX_EPOCH;
        change(&store, move |w| w.record_metadata("a", &prepared(id(1, 1), id(7, 3), update(8)), now)).await;
        let missing = store.read(|r| r.unresolved("a")).await.unwrap();
        assert_eq!(missing, Unresolved { bundled: vec![id(7, 3)], prerequisites: vec![update(8)] });
        assert_eq!(store.read(|r| r.unresolved("b")).await.unwrap(), Unresolved::default());
        // Another revision of what is bundled is not what is bundled; of a prerequisite any will do.
        change(&store, move |w| {
            w.record_metadata("b", &prepared(id(7, 2), id(1, 1), update(1)), now)?;
            w.record_metadata("b", &prepared(id(8, 2), id(1, 1), update(1)), now)
        })
        .await;
        let missing = store.read(|r| r.unresolved("a")).await.unwrap();
        assert_eq!(missing, Unresolved { bundled: vec![id(7, 3)], prerequisites: Vec::new() });
        assert!(store.read(|r| r.metadata_has(update(7))).await.unwrap());
        assert!(!store.read(|r| r.metadata_has(update(9))).await.unwrap());
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
