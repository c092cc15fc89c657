//! Maintenance windows of collections.

use jiff::Timestamp;
use rusqlite::named_params;
use serde::{Deserialize, Serialize};

use crate::column::{number, time_or_none};
use crate::{Reader, SchemaError, Writer};

/// When required deployments may begin on the devices of a collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowRow {
    /// Name of the collection.
    pub collection: String,
    /// Unique within it, without regard to case.
    pub name: String,
    /// When it begins: a cron line; empty where it comes once.
    pub begins: String,
    /// When it begins, where it comes once.
    pub once: Option<Timestamp>,
    /// How long it is.
    pub minutes: u32,
    /// The time zone of the cron line.
    pub zone: String,
}

impl Reader<'_> {
    /// All windows, by collection and name.
    pub fn windows(&self) -> Result<Vec<WindowRow>, SchemaError> {
        const SQL: &str = "
            SELECT c.name AS collection, w.* FROM maintenance_window AS w JOIN collection AS c USING (collection_id)
             ORDER BY c.name, w.name";
        self.all(SQL, [], |row| {
            Ok(WindowRow {
                collection: row.get("collection")?,
                name: row.get("name")?,
                begins: row.get("begins")?,
                once: time_or_none(row, "once")?,
                minutes: number(row, "minutes")?,
                zone: row.get("zone")?,
            })
        })
    }
}

impl Writer<'_> {
    /// Makes a window, or replaces that of the same name.
    pub fn save_window(&self, window: &WindowRow) -> Result<(), SchemaError> {
        self.execute(
            "INSERT INTO maintenance_window (collection_id, name, begins, once, minutes, zone)
             SELECT collection_id, :name, :begins, :once, :minutes, :zone FROM collection WHERE name = :collection
             ON CONFLICT (collection_id, name) DO UPDATE SET begins = excluded.begins, once = excluded.once,
                minutes = excluded.minutes, zone = excluded.zone",
            named_params! {
                ":collection": window.collection, ":name": window.name, ":begins": window.begins,
                ":once": window.once.map(|at| at.as_millisecond()), ":minutes": window.minutes, ":zone": window.zone,
            },
        )?;
        Ok(())
    }

    /// Takes a window away; whether there was one.
    pub fn delete_window(&self, collection: &str, name: &str) -> Result<bool, SchemaError> {
        let gone = self.execute(
            "DELETE FROM maintenance_window WHERE name = ?2
              AND collection_id = (SELECT collection_id FROM collection WHERE name = ?1)",
            (collection, name),
        )?;
        Ok(gone > 0)
    }
}
