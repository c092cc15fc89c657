//! Devices: what they are, and how far each is with what is deployed to it.
//!
//! A message is known by device, series and number. It is taken down once: what comes again, or with a number that was
//! passed, changes nothing.

use catalog::id::PackageId;
use catalog::problem::{Code, Problem};
use jiff::Timestamp;
use rusqlite::{Row, named_params};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

use crate::column::{as_i64, json, size, text, time, time_or_none, to_json};
use crate::{Reader, SchemaError, Writer};

/// The most series of one device that are remembered; the oldest goes first.
const MOST_SERIES: u32 = 32;
/// The most messages of one device that are kept, of all its series together; the oldest go first.
const MOST_MESSAGES: u32 = 5_000;

/// A device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceRow {
    /// Its name, as it is enrolled.
    pub name: String,
    /// What it said of itself.
    pub facts: Option<Value>,
    /// When.
    pub facts_at: Option<Timestamp>,
    /// Where it asked from last.
    pub address: Option<String>,
    /// When it asked for its policy last.
    pub policy_at: Option<Timestamp>,
    /// Messages that came again.
    pub replayed: u64,
    /// Messages that were refused.
    pub refused: u64,
    /// On how many days, one after the other, nothing was heard of it while the site listened.
    pub missed: u32,
}

/// How far a device is with a deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceRun {
    /// The device.
    pub device: String,
    /// The deployment.
    pub deployment: PackageId,
    /// Which series of the device.
    pub series: i64,
    /// Which run of that series.
    pub run: u64,
    /// How it stands: a word.
    pub state: String,
    /// Number of the step that it is at, or ended at.
    pub step: Option<u32>,
    /// Name of that step.
    pub step_name: Option<String>,
    /// Code of an error.
    pub code: Option<String>,
    /// Exit code of what failed.
    pub exit: Option<i64>,
    /// For people.
    pub details: String,
    /// When it began.
    pub started: Timestamp,
    /// When it changed last, by the clock of the device.
    pub changed: Timestamp,
    /// Bytes by kind of source.
    pub bytes: BTreeMap<String, u64>,
}

/// A message as it was taken down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MessageRow {
    /// Which series of the device.
    pub series: i64,
    /// Its number there.
    pub number: u64,
    /// When it was taken down.
    pub received: Timestamp,
    /// The message.
    pub body: Value,
}

/// A series of messages: its row, and the highest number that was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Series {
    /// A later one began later.
    pub id: i64,
    /// The highest number.
    pub heard: u64,
}

fn device(row: &Row<'_>) -> Result<DeviceRow, SchemaError> {
    Ok(DeviceRow {
        name: row.get("name")?,
        facts: json(row, "facts")?,
        facts_at: time_or_none(row, "facts_at")?,
        address: row.get("address")?,
        policy_at: time_or_none(row, "policy_at")?,
        replayed: size(row, "replayed")?,
        refused: size(row, "refused")?,
        missed: row.get("missed")?,
    })
}

fn run(row: &Row<'_>) -> Result<DeviceRun, SchemaError> {
    Ok(DeviceRun {
        device: row.get("device")?,
        deployment: text(row, "deployment_id")?,
        series: row.get("series_id")?,
        run: size(row, "run")?,
        state: row.get("state")?,
        step: row.get("step")?,
        step_name: row.get("step_name")?,
        code: row.get("code")?,
        exit: row.get("exit")?,
        details: row.get("details")?,
        started: time(row, "started")?,
        changed: time(row, "changed")?,
        bytes: json(row, "bytes")?.unwrap_or_default(),
    })
}

impl Reader<'_> {
    /// All devices that have said anything, by name.
    pub fn devices(&self) -> Result<Vec<DeviceRow>, SchemaError> {
        self.all("SELECT * FROM device ORDER BY name", [], device)
    }

    /// The names of all devices that the site knows: that have said something, or have a key that is good. Each once, as it was
    /// said first.
    pub fn known_devices(&self) -> Result<Vec<String>, SchemaError> {
        const KEYS: &str = "SELECT p.name AS name FROM principal AS p WHERE p.kind = 'device' AND p.revoked IS NULL ORDER BY p.name";
        let enrolled: Vec<String> = self.all(KEYS, [], |row| Ok(row.get("name")?))?;
        let mut all = BTreeMap::new();
        for name in self.device_names()?.into_iter().chain(enrolled) {
            all.entry(name.to_ascii_lowercase()).or_insert(name);
        }
        Ok(all.into_values().collect())
    }

    /// The names of all devices that have said something, or whose days of silence are counted.
    pub fn device_names(&self) -> Result<Vec<String>, SchemaError> {
        self.all("SELECT name FROM device ORDER BY name", [], |row| Ok(row.get("name")?))
    }

    /// One device.
    pub fn device(&self, name: &str) -> Result<Option<DeviceRow>, SchemaError> {
        self.first("SELECT * FROM device WHERE name = ?1", [name], device)
    }

    /// How far every device is with a deployment.
    pub fn runs_of(&self, deployment: &PackageId) -> Result<Vec<DeviceRun>, SchemaError> {
        self.all(
            "SELECT * FROM device_run WHERE deployment_id = ?1 AND removed IS NULL ORDER BY device",
            [deployment.as_str()],
            run,
        )
    }

    /// How far a device is with all deployments.
    pub fn runs_on(&self, device: &str) -> Result<Vec<DeviceRun>, SchemaError> {
        const SQL: &str =
            "SELECT * FROM device_run WHERE device = ?1 AND removed IS NULL ORDER BY deployment_id";
        self.all(SQL, [device], run)
    }

    /// The same, with what it did before it was removed.
    pub fn all_runs_on(&self, device: &str) -> Result<Vec<DeviceRun>, SchemaError> {
        self.all("SELECT * FROM device_run WHERE device = ?1 ORDER BY deployment_id", [device], run)
    }

    /// How far a device is with a deployment.
    pub fn device_run(&self, deployment: &PackageId, device: &str) -> Result<Option<DeviceRun>, SchemaError> {
        const SQL: &str =
            "SELECT * FROM device_run WHERE deployment_id = ?1 AND device = ?2 AND removed IS NULL";
        self.first(SQL, (deployment.as_str(), device), run)
    }

    /// How many runs of each deployment are in which state.
    pub fn run_counts(&self) -> Result<Vec<(PackageId, String, u32)>, SchemaError> {
        const SQL: &str = "
            SELECT deployment_id, state, count(*) AS runs FROM device_run WHERE removed IS NULL
             GROUP BY 1, 2 ORDER BY 1, 2";
        self.all(SQL, [], |row| Ok((text(row, "deployment_id")?, row.get("state")?, row.get("runs")?)))
    }

    /// The messages of a device, oldest first, at most `most` of the newest.
    pub fn messages_of(&self, device: &str, most: u32) -> Result<Vec<MessageRow>, SchemaError> {
        const SQL: &str = "
            SELECT * FROM (SELECT series_id, number, received, body FROM device_message WHERE device = ?1
                            ORDER BY series_id DESC, number DESC LIMIT ?2) ORDER BY series_id, number";
        self.all(SQL, (device, most), |row| {
            Ok(MessageRow {
                series: row.get("series_id")?,
                number: size(row, "number")?,
                received: time(row, "received")?,
                body: json(row, "body")?.unwrap_or_default(),
            })
        })
    }

    /// How many messages of a device there are.
    pub fn count_messages_of(&self, device: &str) -> Result<u64, SchemaError> {
        const SQL: &str = "SELECT count(*) AS messages FROM device_message WHERE device = ?1";
        let all = self.all(SQL, [device], |row| size(row, "messages"))?;
        Ok(all.first().copied().unwrap_or_default())
    }

    /// Names of the devices in each collection that is not built-in: all of them in one go.
    pub fn memberships(&self) -> Result<Vec<(String, String)>, SchemaError> {
        const SQL: &str = "
            SELECT m.device, c.name FROM collection_member AS m JOIN collection AS c USING (collection_id)
             ORDER BY m.device, c.collection_id";
        self.all(SQL, [], |row| Ok((row.get("device")?, row.get("name")?)))
    }
}

impl Writer<'_> {
    /// Its key was good when its request came, and may have been taken back since.
    fn is_let_in(&self, device: &str) -> Result<(), SchemaError> {
        if self.has_no_key_any_more(device)? {
            return Err(Problem::new(Code::KeyRevoked, "this key was revoked").into());
        }
        Ok(())
    }

    /// A device said what it is. `KEY_REVOKED` where it was removed since it began to say so.
    pub fn put_facts(
        &self,
        name: &str,
        facts: &Value,
        address: &str,
        now: Timestamp,
    ) -> Result<(), SchemaError> {
        self.is_let_in(name)?;
        self.execute(
            "INSERT INTO device (name, facts, facts_at, address) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (name) DO UPDATE SET facts = excluded.facts, facts_at = excluded.facts_at, address = excluded.address, missed = 0",
            (name, to_json(facts)?, now.as_millisecond(), address),
        )?;
        Ok(())
    }

    /// Devices asked for their policies: name, from where, when. Of those that were removed since, nothing is written.
    pub fn devices_seen(&self, seen: &[(String, String, Timestamp)]) -> Result<(), SchemaError> {
        for (name, address, at) in seen {
            if self.has_no_key_any_more(name)? {
                continue;
            }
            self.execute(
                "INSERT INTO device (name, address, policy_at) VALUES (?1, ?2, ?3)
                 ON CONFLICT (name) DO UPDATE SET address = excluded.address, policy_at = excluded.policy_at, missed = 0",
                (name, address, at.as_millisecond()),
            )?;
        }
        Ok(())
    }

    /// The series of a device, begun if it is new. `KEY_REVOKED` where it was removed since it began to speak.
    pub fn series(&self, device: &str, series: &str) -> Result<Series, SchemaError> {
        self.is_let_in(device)?;
        self.execute(
            "INSERT INTO device (name) VALUES (?1) ON CONFLICT (name) DO UPDATE SET missed = 0 WHERE missed <> 0",
            [device],
        )?;
        let new = self.execute(
            "INSERT OR IGNORE INTO device_series (device, series, heard) VALUES (?1, ?2, 0)",
            (device, series),
        )?;
        if new > 0 {
            self.execute(
                "DELETE FROM device_series WHERE device = ?1 AND series_id NOT IN
                    (SELECT series_id FROM device_series WHERE device = ?1 ORDER BY series_id DESC LIMIT ?2)",
                (device, MOST_SERIES),
            )?;
            self.execute(
                "DELETE FROM device_message WHERE device = ?1 AND series_id NOT IN
                    (SELECT series_id FROM device_series WHERE device = ?1)",
                [device],
            )?;
        }
        const SQL: &str = "SELECT series_id, heard FROM device_series WHERE device = ?1 AND series = ?2";
        let found = self.first(SQL, (device, series), |row| {
            Ok(Series { id: row.get("series_id")?, heard: size(row, "heard")? })
        })?;
        found.ok_or_else(|| SchemaError::Value("device_series".to_owned()))
    }

    /// So many messages of a series were heard, and what became of those that were not taken down.
    pub fn heard(
        &self,
        device: &str,
        series: Series,
        (replayed, refused): (u64, u64),
    ) -> Result<(), SchemaError> {
        self.execute(
            "UPDATE device_series SET heard = max(heard, ?2) WHERE series_id = ?1",
            (series.id, as_i64(series.heard)?),
        )?;
        if replayed + refused > 0 {
            self.execute(
                "UPDATE device SET replayed = replayed + ?2, refused = refused + ?3 WHERE name = ?1",
                (device, as_i64(replayed)?, as_i64(refused)?),
            )?;
        }
        // The numbers of a series begin at 1: so many it has at most. Whose series have fewer together has nothing to lose.
        const MOST: &str =
            "SELECT coalesce(sum(min(heard, ?2)), 0) AS most FROM device_series WHERE device = ?1";
        let enough = (device, MOST_MESSAGES + 1);
        let most = self.first(MOST, enough, |row| size(row, "most"))?.unwrap_or_default();
        if most <= u64::from(MOST_MESSAGES) {
            return Ok(());
        }
        self.execute(
            "DELETE FROM device_message WHERE device = ?1 AND (series_id, number) <=
                (SELECT series_id, number FROM device_message WHERE device = ?1
                  ORDER BY series_id DESC, number DESC LIMIT 1 OFFSET ?2)",
            (device, MOST_MESSAGES),
        )?;
        Ok(())
    }

    /// Takes a message down.
    pub fn keep_message(
        &self,
        device: &str,
        message: &MessageRow,
        at: Timestamp,
        deployment: &str,
    ) -> Result<(), SchemaError> {
        self.execute(
            "INSERT OR IGNORE INTO device_message (device, series_id, number, at, received, deployment_id, body)
             VALUES (:device, :series, :number, :at, :received, :deployment, :body)",
            named_params! {
                ":device": device, ":series": message.series, ":number": as_i64(message.number)?,
                ":at": at.as_millisecond(), ":received": message.received.as_millisecond(),
                ":deployment": deployment, ":body": to_json(&message.body)?,
            },
        )?;
        Ok(())
    }

    /// How far a device is.
    pub fn put_device_run(&self, run: &DeviceRun) -> Result<(), SchemaError> {
        self.execute(
            "INSERT OR REPLACE INTO device_run (device, deployment_id, series_id, run, state, step, step_name, code, exit,
                details, started, changed, bytes)
             VALUES (:device, :deployment, :series, :run, :state, :step, :step_name, :code, :exit, :details, :started,
                :changed, :bytes)",
            named_params! {
                ":device": run.device, ":deployment": run.deployment.as_str(), ":series": run.series,
                ":run": as_i64(run.run)?, ":state": run.state, ":step": run.step, ":step_name": run.step_name,
                ":code": run.code, ":exit": run.exit, ":details": run.details,
                ":started": run.started.as_millisecond(), ":changed": run.changed.as_millisecond(),
                ":bytes": to_json(&run.bytes)?,
            },
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    /// A device may begin a series as often as it likes: what is kept of it is counted over all of them.
    #[test]
    fn messages_of_a_device_are_counted_over_all_its_series() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("site.db"), 1).unwrap();
        let now = Timestamp::UNIX_EPOCH;
        let say = move |w: &Writer<'_>, device: &str, series: &str, count: u64| {
            let mut known = w.series(device, series)?;
            for number in known.heard + 1..=known.heard + count {
                let row = MessageRow { series: known.id, number, received: now, body: Value::Null };
                w.keep_message(device, &row, now, "XYZ20001")?;
            }
            known.heard += count;
            w.heard(device, known, (0, 0))
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (kept, other) = runtime.block_on(async {
            store
                .write(move |w| {
                    say(w, "pc2", "a", 3)?;
                    for series in ["a", "b", "c", "d"] {
                        say(w, "pc1", series, 1_500)?;
                    }
                    say(w, "PC1", "a", 1)?;
                    Ok((w.messages_of("pc1", 10_000)?, w.messages_of("pc2", 10)?))
                })
                .await
                .unwrap()
        });
        assert_eq!((kept.len() as u32, other.len()), (MOST_MESSAGES, 3));
        let of = |series: i64| kept.iter().filter(move |row| row.series == series).map(|row| row.number);
        let (first, last) = (kept[0].series, kept[kept.len() - 1].series);
        assert!(of(last).eq(1..=1_500), "the newest stay");
        assert!(of(first).eq(1_002..=1_501), "the oldest went");
        store.close().unwrap();
    }
}
