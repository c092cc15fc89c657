//! Which updates replace which, and what the rule of supersedence expired.

use catalog::id::UpdateId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::column::update;
use crate::{Reader, SchemaError, Writer};

/// One feature update says that it replaces another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Superseding {
    /// The one that replaces.
    pub by: UpdateId,
    /// The one that is replaced.
    pub of: UpdateId,
}

/// An update with the time at which a rule expired it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiredByRule {
    /// Which.
    pub update: UpdateId,
    /// When; `None`: not any more.
    pub at: Option<Timestamp>,
}

impl Reader<'_> {
    /// What the latest revisions of feature updates replace, as far as both are known as feature updates.
    pub fn supersedence(&self) -> Result<Vec<Superseding>, SchemaError> {
        const SQL: &str = "
            SELECT DISTINCT item.update_id AS \"by\", relation.target AS \"of\"
              FROM update_item AS item
              JOIN metadata ON metadata.update_id = item.update_id AND metadata.number = item.latest
              JOIN metadata_relation AS relation USING (metadata_id)
              JOIN update_item AS old ON old.update_id = relation.target
             WHERE relation.relation = 'supersedes' ORDER BY 1, 2";
        self.all(SQL, [], |row| Ok(Superseding { by: update(row, "by")?, of: update(row, "of")? }))
    }

    /// Updates of which a package that is distributed holds a revision: they are in use.
    pub fn updates_in_use(&self) -> Result<Vec<UpdateId>, SchemaError> {
        let mut found = self.all(
            "SELECT DISTINCT member.update_id FROM package_file AS member
              WHERE EXISTS (SELECT 1 FROM distribution AS d WHERE d.package_id = member.package_id) ORDER BY 1",
            [],
            |row| update(row, "update_id"),
        )?;
        found.extend(self.deployed_updates()?);
        Ok(found)
    }
}

impl Writer<'_> {
    /// Records what a rule expired, or gave back.
    pub fn set_expired_by_rule(&self, changes: &[ExpiredByRule]) -> Result<(), SchemaError> {
        for change in changes {
            self.execute(
                "UPDATE update_item SET expired_at = ?2 WHERE update_id = ?1",
                (change.update.0.as_bytes(), change.at.map(Timestamp::as_millisecond)),
            )?;
        }
        Ok(())
    }
}
