//! Updates that are deployed to collections beside task sequences (mission row M57).

use catalog::id::{PackageId, UpdateId};
use jiff::Timestamp;
use rusqlite::{Row, named_params};
use serde::{Deserialize, Serialize};

use crate::column::{text, time, time_or_none, update};
use crate::deployments::Purpose;
use crate::{Reader, SchemaError, Writer};

/// A deployment of updates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateDeploymentRow {
    /// `XYZ20001`.
    pub id: PackageId,
    /// Name of the collection.
    pub collection: String,
    /// Whether it is done by itself.
    pub purpose: Purpose,
    /// From when it is offered.
    pub available: Timestamp,
    /// When it is due.
    pub deadline: Option<Timestamp>,
    /// Until when it is offered.
    pub expires: Option<Timestamp>,
    /// For people.
    pub comment: String,
    /// Since when it is not offered any more.
    pub stopped: Option<Timestamp>,
    /// When it was made.
    pub created: Timestamp,
    /// By whom.
    pub created_by: String,
    /// What is deployed, in order: id and title.
    pub updates: Vec<(UpdateId, String)>,
}

/// An update that the site knows by its document, whatever its classification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownUpdate {
    /// Its id.
    pub id: UpdateId,
    /// Its title.
    pub title: String,
    /// Its publisher offers it.
    pub deployable: bool,
    /// Its publisher has withdrawn it.
    pub expired: bool,
}

fn deployment(row: &Row<'_>) -> Result<UpdateDeploymentRow, SchemaError> {
    Ok(UpdateDeploymentRow {
        id: text(row, "deployment_id")?,
        collection: row.get("collection")?,
        purpose: text(row, "purpose")?,
        available: time(row, "available")?,
        deadline: time_or_none(row, "deadline")?,
        expires: time_or_none(row, "expires")?,
        comment: row.get("comment")?,
        stopped: time_or_none(row, "stopped")?,
        created: time(row, "created")?,
        created_by: row.get("created_by")?,
        updates: Vec::new(),
    })
}

impl Reader<'_> {
    /// All deployments of updates, oldest first.
    pub fn update_deployments(&self) -> Result<Vec<UpdateDeploymentRow>, SchemaError> {
        const SQL: &str = "
            SELECT d.*, c.name AS collection FROM update_deployment AS d JOIN collection AS c USING (collection_id)
             ORDER BY d.number";
        const MEMBERS: &str = "SELECT update_id, title FROM update_deployment_member WHERE deployment_id = ?1 ORDER BY position";
        let mut all = self.all(SQL, [], deployment)?;
        for row in &mut all {
            row.updates = self
                .all(MEMBERS, [row.id.as_str()], |row| Ok((update(row, "update_id")?, row.get("title")?)))?;
        }
        Ok(all)
    }

    /// The latest revision of an update as its document says, where it is software.
    pub fn known_update(&self, id: UpdateId) -> Result<Option<KnownUpdate>, SchemaError> {
        const SQL: &str = "
            SELECT update_id, title, deployable, publication_state FROM metadata
             WHERE update_id = ?1 AND kind = 'software' ORDER BY number DESC LIMIT 1";
        self.first(SQL, [id.0.as_bytes()], |row| {
            let state: String = row.get("publication_state")?;
            Ok(KnownUpdate {
                id: update(row, "update_id")?,
                title: row.get("title")?,
                deployable: row.get("deployable")?,
                expired: state.eq_ignore_ascii_case("expired"),
            })
        })
    }
}

impl Writer<'_> {
    /// Makes a deployment of updates under an id that [`Writer::next_deployment_id`] gave.
    pub fn create_update_deployment(
        &self,
        number: u32,
        new: &UpdateDeploymentRow,
    ) -> Result<(), SchemaError> {
        self.execute(
            "INSERT INTO update_deployment (deployment_id, number, collection_id, purpose, available, deadline, expires, comment,
                created, created_by)
             VALUES (:id, :number, (SELECT collection_id FROM collection WHERE name = :collection), :purpose, :available,
                :deadline, :expires, :comment, :created, :created_by)",
            named_params! {
                ":id": new.id.as_str(), ":number": number, ":collection": new.collection,
                ":purpose": new.purpose.to_string(), ":available": new.available.as_millisecond(),
                ":deadline": new.deadline.map(|t| t.as_millisecond()), ":expires": new.expires.map(|t| t.as_millisecond()),
                ":comment": new.comment, ":created": new.created.as_millisecond(), ":created_by": new.created_by,
            },
        )?;
        for (position, (update, title)) in (0_i64..).zip(&new.updates) {
            self.execute(
                "INSERT OR IGNORE INTO update_deployment_member (deployment_id, position, update_id, title)
                 VALUES (?1, ?2, ?3, ?4)",
                (new.id.as_str(), position, update.0.as_bytes(), title),
            )?;
        }
        Ok(())
    }

    /// It is not offered any more.
    pub fn stop_update_deployment(&self, id: &PackageId, now: Timestamp) -> Result<(), SchemaError> {
        self.execute(
            "UPDATE update_deployment SET stopped = ?2 WHERE deployment_id = ?1 AND stopped IS NULL",
            (id.as_str(), now.as_millisecond()),
        )?;
        Ok(())
    }

    /// Forgets it.
    pub fn delete_update_deployment(&self, id: &PackageId) -> Result<(), SchemaError> {
        self.execute("DELETE FROM update_deployment WHERE deployment_id = ?1", [id.as_str()])?;
        Ok(())
    }
}
