//! Which documents nothing needs any more, and taking them away, a bounded number at a time.
//!
//! Kept are categories and detectoids, the latest revision of every update that is not expired, whatever a package holds or
//! somebody holds, whatever came lately, and all that any of these bundles, needs or replaces. The newest document is
//! always kept: row numbers then only grow, and downstream servers' anchors stay true.

use catalog::id::{RevisionId, RevisionNumber};
use jiff::Timestamp;

use crate::column::{number, size, update};
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
                let id = RevisionId {
                    update: update(row, "update_id")?,
                    number: RevisionNumber(number(row, "number")?),
                };
                garbage.rows.push((row.get("metadata_id")?, id));
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
            self.execute(
                "UPDATE update_item SET latest = (SELECT max(number) FROM revision WHERE revision.update_id = ?1)
                  WHERE update_id = ?1 AND latest = ?2
                    AND EXISTS (SELECT 1 FROM revision WHERE revision.update_id = ?1)",
                key,
            )?;
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
