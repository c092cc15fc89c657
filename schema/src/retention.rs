//! Which documents nothing needs any more, and taking them away, a bounded number at a time.
//!
//! Kept are categories and detectoids, the latest revision of every update that is not expired, whatever a package holds or
//! somebody holds, whatever came lately, and all that any of these bundles, needs or replaces. The newest document is
//! always kept: row numbers then only grow, and downstream servers' anchors stay true.

use catalog::id::RevisionId;
use jiff::Timestamp;

use crate::column::{revision, size};
use crate::{Reader, SchemaError, Writer};

/// What could go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Garbage {
    /// Rows with their revisions, oldest first, at most as many as were asked for.
    pub rows: Vec<(i64, RevisionId)>,
    /// How many could go in all.
    pub all: u64,
    /// Bytes of the documents of all.
    pub bytes: u64,
    /// Updates and drivers that are recorded, to compare with.
    pub recorded: u64,
}

const UNREACHED: &str = "
    WITH RECURSIVE live (id) AS (
        SELECT metadata_id FROM metadata
         WHERE kind NOT IN ('software', 'driver') OR seen > :since
            OR metadata_id = (SELECT max(metadata_id) FROM metadata)
        UNION
        SELECT metadata.metadata_id FROM metadata LEFT JOIN update_item AS item USING (update_id)
         WHERE metadata.number = (SELECT max(other.number) FROM metadata AS other WHERE other.update_id = metadata.update_id)
           AND (coalesce(item.held, 0) OR (metadata.publication_state <> 'Expired' AND item.expired_at IS NULL))
        UNION
        SELECT metadata.metadata_id FROM package_file AS member JOIN metadata USING (update_id, number)
        UNION
        SELECT needed.metadata_id
          FROM live JOIN metadata_relation AS relation ON relation.metadata_id = live.id
          JOIN metadata AS needed ON needed.update_id = relation.target
           AND needed.number = CASE relation.number WHEN 0
               THEN (SELECT max(other.number) FROM metadata AS other WHERE other.update_id = relation.target)
               ELSE relation.number END
    )
    SELECT metadata_id, update_id, number, size FROM metadata
     WHERE kind IN ('software', 'driver') AND metadata_id NOT IN live";

impl Reader<'_> {
    /// Documents that nothing needs and that came before `since`.
    pub fn unneeded_metadata(&self, since: Timestamp, most: usize) -> Result<Garbage, SchemaError> {
        let sql = format!("{UNREACHED} ORDER BY metadata_id");
        let mut garbage = Garbage::default();
        self.all(&sql, [(":since", since.as_millisecond())].as_slice(), |row| {
            garbage.all += 1;
            garbage.bytes += size(row, "size")?;
            if garbage.rows.len() < most {
                garbage.rows.push((row.get("metadata_id")?, revision(row)?));
            }
            Ok(())
        })?;
        let recorded = self.first(
            "SELECT count(*) AS count FROM metadata WHERE kind IN ('software', 'driver')",
            [],
            |row| size(row, "count"),
        )?;
        garbage.recorded = recorded.unwrap_or_default();
        Ok(garbage)
    }
}

impl Writer<'_> {
    /// Takes documents away with all that was read from them; and what no revision is left of.
    pub fn forget_metadata(&self, rows: &[(i64, RevisionId)]) -> Result<(), SchemaError> {
        for (row, id) in rows {
            let key = (id.update.0.as_bytes(), id.number.0);
            self.execute("DELETE FROM metadata WHERE metadata_id = ?1", [row])?;
            self.execute(
                "DELETE FROM revision WHERE update_id = ?1 AND number = ?2 AND NOT EXISTS (
                    SELECT 1 FROM package_file AS member
                     WHERE member.update_id = revision.update_id AND member.number = revision.number)",
                key,
            )?;
            self.execute("DELETE FROM listing WHERE update_id = ?1 AND number = ?2", key)?;
            self.choose_latest(id.update)?;
            self.execute(
                "DELETE FROM update_item WHERE update_id = ?1
                    AND NOT EXISTS (SELECT 1 FROM revision WHERE revision.update_id = ?1)",
                [key.0],
            )?;
        }
        self.execute(
            "DELETE FROM file WHERE content IS NULL
                AND NOT EXISTS (SELECT 1 FROM revision_file AS used WHERE used.file_id = file.file_id)
                AND NOT EXISTS (SELECT 1 FROM package_file AS used WHERE used.file_id = file.file_id)",
            [],
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use catalog::limits::Limits;
    use catalog::update;

    use super::*;
    use crate::Store;
    use crate::metadata::Prepared;

    /// `id number`, whether expired, and relations in the form `bundle id number` or `needs id` or `replaces id`.
    fn document(id: u32, revision: u32, expired: bool, relations: &[(&str, u32, u32)]) -> String {
        let guid = |id: u32| format!("00000000-0000-4000-8000-{id:012}");
        let part = |what: &str, element: &str, numbered: bool| {
            let inner: String = relations
                .iter()
                .filter(|(relation, ..)| *relation == what)
                .map(|(_, id, number)| {
                    let number =
                        if numbered { format!(" RevisionNumber=\"{number}\"") } else { String::new() };
                    format!("<UpdateIdentity UpdateID=\"{}\"{number} />", guid(*id))
                })
                .collect();
            if inner.is_empty() { inner } else { format!("<{element}>{inner}</{element}>") }
        };
        let state = if expired { " PublicationState=\"Expired\"" } else { "" };
        format!(
            "<Update xmlns=\"{}\"><UpdateIdentity UpdateID=\"{}\" RevisionNumber=\"{revision}\" /><Properties UpdateType=\"Software\"{state} />\
             <Relationships>{}{}{}</Relationships></Update>",
            update::NAMESPACE,
            guid(id),
            part("needs", "Prerequisites", false),
            part("bundles", "BundledUpdates", true),
            part("replaces", "SupersededUpdates", false),
        )
    }

    #[test]
    fn what_anything_needs_is_kept_and_the_rest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("site.db"), 1).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let documents = [
            document(1, 100, false, &[]), // an old revision: goes
            document(1, 101, false, &[("bundles", 2, 7), ("needs", 3, 0), ("replaces", 4, 0)]),
            document(2, 7, false, &[]), // not the latest, but bundled by number
            document(2, 8, false, &[]),
            document(3, 1, true, &[]),                   // expired, but needed
            document(4, 1, true, &[("replaces", 5, 0)]), // expired, but replaced by what is offered
            document(5, 1, true, &[]),                   // and so is what that replaced
            document(6, 1, true, &[("bundles", 7, 1)]),  // expired: goes
            document(7, 1, false, &[]),                  // its part is the latest of its own: stays
            document(8, 1, true, &[("bundles", 8, 1)]),  // a bundle of itself: goes
            document(9, 1, true, &[]),                   // expired, but the newest row
        ];
        let dead = runtime.block_on(async {
            store
                .write(move |w| {
                    for text in &documents {
                        let revision = update::parse(text.as_bytes(), &Limits::default()).unwrap();
                        w.record_metadata(
                            "x",
                            &Prepared::new(revision, text.as_bytes())?,
                            Timestamp::UNIX_EPOCH,
                        )?;
                    }
                    Ok(())
                })
                .await
                .unwrap();
            let young = store
                .read(|r| r.unneeded_metadata(Timestamp::UNIX_EPOCH - jiff::SignedDuration::from_secs(1), 99))
                .await;
            assert_eq!(young.unwrap().all, 0, "what came since is kept");
            store.read(|r| r.unneeded_metadata(Timestamp::UNIX_EPOCH, 2)).await.unwrap()
        });
        assert_eq!((dead.all, dead.rows.len(), dead.recorded), (3, 2, 11));
        let gone: Vec<_> =
            dead.rows.iter().map(|(_, id)| (id.update.0.as_u128() as u16, id.number.0)).collect();
        assert_eq!(gone, [(1, 100), (6, 1)]);
        let rows = dead.rows.clone();
        let left = runtime.block_on(async {
            store.write(move |w| w.forget_metadata(&rows)).await.unwrap();
            store.read(|r| r.unneeded_metadata(Timestamp::UNIX_EPOCH, 9)).await.unwrap()
        });
        assert_eq!((left.all, left.recorded), (1, 9));
    }
}
