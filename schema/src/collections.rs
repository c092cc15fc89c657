//! Collections of devices, and the client settings that are told to them.

use catalog::problem::{Code, Problem};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::column::{json, to_json};
use crate::{Reader, SchemaError, Writer};

/// A set of devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collection {
    /// Unique, without regard to case.
    pub name: String,
    /// Every device is in it, and nobody changes it.
    pub built_in: bool,
    /// Names of its devices; of a built-in one none are listed.
    pub devices: Vec<String>,
}

/// Client settings as they are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsRow {
    /// Unique, without regard to case.
    pub name: String,
    /// The lowest number wins; the default has none.
    pub priority: Option<u32>,
    /// What is set here.
    pub chosen: Value,
    /// Names of the collections that they are told to; the default is told to everybody.
    pub collections: Vec<String>,
}

impl Reader<'_> {
    /// All collections by name, the built-in ones first.
    pub fn collections(&self) -> Result<Vec<Collection>, SchemaError> {
        let rows = self.all(
            "SELECT collection_id, name, built_in FROM collection ORDER BY built_in DESC, name",
            [],
            |row| Ok((row.get::<_, i64>("collection_id")?, row.get("name")?, row.get("built_in")?)),
        )?;
        let of = |(id, name, built_in): (i64, String, bool)| {
            let devices = self.all(
                "SELECT device FROM collection_member WHERE collection_id = ?1 ORDER BY device",
                [id],
                |row| Ok(row.get("device")?),
            )?;
            Ok(Collection { name, built_in, devices })
        };
        rows.into_iter().map(of).collect()
    }

    /// All client settings, the strongest first, the default last.
    pub fn client_settings(&self) -> Result<Vec<SettingsRow>, SchemaError> {
        const SQL: &str = "
            SELECT settings_id, name, priority, chosen FROM client_settings ORDER BY priority IS NULL, priority";
        let rows = self.all(SQL, [], |row| {
            let settings = SettingsRow {
                name: row.get("name")?,
                priority: row.get("priority")?,
                chosen: json(row, "chosen")?.unwrap_or_default(),
                collections: Vec::new(),
            };
            Ok((row.get::<_, i64>("settings_id")?, settings))
        })?;
        let targets =
            "SELECT collection.name FROM client_settings_target JOIN collection USING (collection_id)
                        WHERE settings_id = ?1 ORDER BY 1";
        let told = |(id, row): (i64, SettingsRow)| {
            let collections = self.all(targets, [id], |row| Ok(row.get("name")?))?;
            Ok(SettingsRow { collections, ..row })
        };
        rows.into_iter().map(told).collect()
    }
}

impl Writer<'_> {
    /// Makes a collection.
    pub fn create_collection(&self, name: &str, now: Timestamp) -> Result<(), SchemaError> {
        let lower = name.to_lowercase();
        if self.collections()?.iter().any(|other| other.name.to_lowercase() == lower) {
            let message = format!("a collection is called `{name}` already");
            return Err(Problem::new(Code::NameInUse, message).into());
        }
        self.execute(
            "INSERT INTO collection (name, built_in, created) VALUES (?1, 0, ?2)",
            (name, now.as_millisecond()),
        )?;
        Ok(())
    }

    /// Puts devices into a collection. Answers how many are new.
    pub fn add_devices(&self, collection: &str, devices: &[String]) -> Result<usize, SchemaError> {
        let mut added = 0;
        for device in devices {
            added += self.execute(
                "INSERT OR IGNORE INTO collection_member (collection_id, device)
                 SELECT collection_id, ?2 FROM collection WHERE name = ?1 AND NOT built_in",
                (collection, device),
            )?;
        }
        Ok(added)
    }

    /// Takes devices out of a collection. Answers how many were in it.
    pub fn remove_devices(&self, collection: &str, devices: &[String]) -> Result<usize, SchemaError> {
        let mut removed = 0;
        for device in devices {
            removed += self.execute(
                "DELETE FROM collection_member WHERE device = ?2
                  AND collection_id = (SELECT collection_id FROM collection WHERE name = ?1)",
                (collection, device),
            )?;
        }
        Ok(removed)
    }

    /// Makes or replaces client settings.
    pub fn save_client_settings(&self, settings: &SettingsRow) -> Result<(), SchemaError> {
        let taken = |other: &&SettingsRow| {
            settings.priority.is_some()
                && other.priority == settings.priority
                && other.name.to_lowercase() != settings.name.to_lowercase()
        };
        if let Some(other) = self.client_settings()?.iter().find(taken) {
            let message = format!("`{}` has this priority already", other.name);
            return Err(Problem::new(Code::InvalidSetting, message).help("choose another priority").into());
        }
        self.execute(
            "INSERT INTO client_settings (name, priority, chosen) VALUES (?1, ?2, ?3)
             ON CONFLICT (name) DO UPDATE SET priority = excluded.priority, chosen = excluded.chosen",
            (&settings.name, settings.priority, to_json(&settings.chosen)?),
        )?;
        self.execute(
            "DELETE FROM client_settings_target
              WHERE settings_id = (SELECT settings_id FROM client_settings WHERE name = ?1)",
            [&settings.name],
        )?;
        for collection in &settings.collections {
            self.execute(
                "INSERT OR IGNORE INTO client_settings_target (settings_id, collection_id)
                 SELECT s.settings_id, c.collection_id FROM client_settings AS s, collection AS c
                  WHERE s.name = ?1 AND c.name = ?2",
                (&settings.name, collection),
            )?;
        }
        Ok(())
    }
}
