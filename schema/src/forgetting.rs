//! What a site forgets as time goes by, rows that only time would add to among it, and what becomes of a device that is removed.
//!
//! A device is *removed*: by an administrator, or by the site, which *forgets* who was silent for long enough where that is wanted. It leaves keys, collections, lists and sums at once. What was done on it stays, to be read, as long
//! as its messages do. Everything else has an owner that takes it away, or an end of its own; the test below has the whole list.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::column::size;
use crate::devices::DeviceRun;
use crate::keys::PrincipalKind;
use crate::{Reader, SchemaError, Writer};

/// Between two roll calls lies a day at least.
const DAY: SignedDuration = SignedDuration::from_hours(24);
/// Keys of devices and tokens of administrators that are good no more are told apart from unknown ones for so long.
const SECRETS: SignedDuration = SignedDuration::from_hours(400 * 24);
/// What downstream servers asked for and nobody has asked for since.
const WANTED: SignedDuration = SignedDuration::from_hours(90 * 24);
/// The most rows that one transaction takes away: others want to write too.
pub const MOST_AT_ONCE: u32 = 5_000;

/// What a device was that was removed.
#[derive(Debug, Clone, PartialEq)]
pub struct Gone {
    /// It had a key, or a token that would have become one.
    pub had_key: bool,
    /// Collections that it was put into.
    pub collections: Vec<String>,
    /// How far it was.
    pub runs: Vec<DeviceRun>,
}

impl Reader<'_> {
    /// Devices of which nothing was heard on so many days, one after the other: the most silent first, at most `most`; and how many
    /// there are in all.
    pub fn silent_devices(&self, days: u32, most: u32) -> Result<(Vec<String>, u64), SchemaError> {
        const SQL: &str = "SELECT name FROM device WHERE missed >= ?1 ORDER BY missed DESC, name LIMIT ?2";
        let names = self.all(SQL, (days, most), |row| Ok(row.get("name")?))?;
        const COUNT: &str = "SELECT count(*) AS silent FROM device WHERE missed >= ?1";
        let all = self.first(COUNT, [days], |row| size(row, "silent"))?.unwrap_or_default();
        Ok((names, all))
    }

    /// Whether nothing was heard of a device on so many days, also not since it was looked last.
    pub fn is_silent(&self, name: &str, days: u32) -> Result<bool, SchemaError> {
        const SQL: &str = "SELECT 1 FROM device WHERE name = ?1 AND missed >= ?2";
        Ok(self.first(SQL, (name, days), |_| Ok(()))?.is_some())
    }

    /// When the last roll call was.
    pub fn last_roll_call(&self) -> Result<Option<Timestamp>, SchemaError> {
        let kept = self.first("SELECT value FROM site WHERE key = 'roll_call'", [], |row| {
            Ok(row.get::<_, String>("value")?)
        })?;
        Ok(kept.and_then(|kept| kept.parse().ok()))
    }
}

impl Writer<'_> {
    /// Takes the key of a device back, and takes it out of everything that counts or lists devices. `None` where nothing is known of
    /// the name.
    pub fn device_removed(&self, name: &str, now: Timestamp) -> Result<Option<Gone>, SchemaError> {
        // By collection: members are found there by name.
        const MEMBER_OF: &str = "
            SELECT collection.name FROM collection CROSS JOIN collection_member AS member
             WHERE member.collection_id = collection.collection_id AND member.device = ?1 ORDER BY collection.name";
        let gone = Gone {
            had_key: self.revoke(PrincipalKind::Device, name, now)?,
            collections: self.all(MEMBER_OF, [name], |row| Ok(row.get("name")?))?,
            runs: self.runs_on(name)?,
        };
        for collection in &gone.collections {
            self.remove_devices(collection, std::slice::from_ref(&name.to_owned()))?;
        }
        self.execute(
            "UPDATE device_run SET removed = ?2 WHERE device = ?1 AND removed IS NULL",
            (name, now.as_millisecond()),
        )?;
        let known = self.execute("DELETE FROM device WHERE name = ?1", [name])? > 0;
        let any = known || gone.had_key || !gone.collections.is_empty() || !gone.runs.is_empty();
        Ok(any.then_some(gone))
    }

    /// Keys of these devices were good: something was heard of them. And the site listened for so long since this was said last; the
    /// sum, over all processes since the last roll call, is answered.
    pub fn listened(&self, heard: &[String], more: Duration) -> Result<Duration, SchemaError> {
        for name in heard {
            self.execute(
                "UPDATE device SET missed = 0, heard = 1 WHERE name = ?1 AND (missed <> 0 OR heard = 0)",
                [name],
            )?;
        }
        const SQL: &str = "SELECT value FROM site WHERE key = 'listened_ms'";
        let before = self.first(SQL, [], |row| Ok(row.get::<_, String>("value")?))?;
        let before = Duration::from_millis(before.and_then(|value| value.parse().ok()).unwrap_or_default());
        let sum = before.saturating_add(more);
        if !more.is_zero() {
            self.put_listened(sum)?;
        }
        Ok(sum)
    }

    fn put_listened(&self, sum: Duration) -> Result<(), SchemaError> {
        self.execute(
            "INSERT OR REPLACE INTO site (key, value) VALUES ('listened_ms', ?1)",
            [sum.as_millis().to_string()],
        )?;
        Ok(())
    }

    /// Counts for each device one more day on which nothing was heard of it, and none for who was heard of. Once a day, or where the clock
    /// was set back; whether it was time. A day is counted once however long it was, so neither a site that was away nor a clock that
    /// was set makes a device silent.
    pub fn call_the_roll(&self, now: Timestamp) -> Result<bool, SchemaError> {
        let last = self.last_roll_call()?;
        let is_due = last.is_none_or(|last| now.duration_since(last) >= DAY);
        if !is_due && last.is_some_and(|last| last <= now) {
            return Ok(false);
        }
        if let Some(last) = last.filter(|_| is_due) {
            self.execute(
                "UPDATE device SET heard = 0, missed = CASE
                        WHEN heard <> 0 OR coalesce(policy_at, 0) >= ?1 OR coalesce(facts_at, 0) >= ?1 THEN 0
                        ELSE missed + 1 END",
                [last.as_millisecond()],
            )?;
        }
        // Those that have a key and never asked for their policy are counted from now on.
        self.execute(
            "INSERT OR IGNORE INTO device (name)
             SELECT p.name FROM principal AS p WHERE p.kind = 'device' AND p.revoked IS NULL",
            [],
        )?;
        self.execute("INSERT OR REPLACE INTO site (key, value) VALUES ('roll_call', ?1)", [now.to_string()])?;
        self.put_listened(Duration::ZERO)?;
        Ok(is_due)
    }

    /// Takes away messages that came before `since`, the oldest first, at most [`MOST_AT_ONCE`]; how many.
    pub fn trim_messages(&self, since: Timestamp) -> Result<u32, SchemaError> {
        let gone = self.execute(
            "DELETE FROM device_message WHERE (device, series_id, number) IN (
                SELECT old.device, old.series_id, old.number FROM device_message AS old
                 WHERE old.received < ?1 ORDER BY old.received LIMIT ?2)",
            (since.as_millisecond(), MOST_AT_ONCE),
        )?;
        Ok(u32::try_from(gone).unwrap_or(MOST_AT_ONCE))
    }

    /// Takes away what is left, without messages, of devices that were removed before `since`, where that is given, and what is of no
    /// use any more: at most [`MOST_AT_ONCE`] rows, and whether that may have left some.
    pub fn trim(&self, since: Option<Timestamp>, now: Timestamp) -> Result<bool, SchemaError> {
        let before = |age: SignedDuration| now.saturating_sub(age).unwrap_or(Timestamp::MIN).as_millisecond();
        let now = now.as_millisecond();
        // Of a device that is known it is remembered how far it was heard.
        const SERIES: &str = "
            DELETE FROM device_series WHERE ?1 IS NOT NULL AND series_id IN (
                SELECT old.series_id FROM device_series AS old
                 WHERE NOT EXISTS (SELECT 1 FROM device AS d WHERE d.name = old.device)
                   AND NOT EXISTS (SELECT 1 FROM device_message AS m
                        WHERE m.device = old.device AND m.series_id = old.series_id)
                 LIMIT ?2)";
        // Those of points say which installation a machine took the place of, and are few.
        const KEYS: &str = "
            DELETE FROM principal WHERE principal_id IN (
                SELECT old.principal_id FROM principal AS old
                 WHERE old.kind = 'device' AND old.revoked < ?1 LIMIT ?2)";
        const RUNS: &str = "
            DELETE FROM device_run WHERE (deployment_id, device) IN (
                SELECT old.deployment_id, old.device FROM device_run AS old WHERE old.removed < ?1 LIMIT ?2)";
        const ENROLMENTS: &str = "
            DELETE FROM enrolment WHERE enrolment_id IN (
                SELECT old.enrolment_id FROM enrolment AS old WHERE old.expires < ?1 LIMIT ?2)";
        const TOKENS: &str = "
            DELETE FROM admin_token WHERE admin_token_id IN (
                SELECT old.admin_token_id FROM admin_token AS old
                 WHERE coalesce(old.revoked, old.expires) < ?1 LIMIT ?2)";
        const FILES: &str = "
            DELETE FROM wanted_file WHERE sha1 IN (
                SELECT old.sha1 FROM wanted_file AS old WHERE old.latest_at < ?1 LIMIT ?2)";
        let mut left = MOST_AT_ONCE;
        let since = since.map(|since| since.as_millisecond());
        for (sql, before) in [
            (RUNS, since),
            (SERIES, since),
            (ENROLMENTS, Some(now)),
            (KEYS, Some(before(SECRETS))),
            (TOKENS, Some(before(SECRETS))),
            (FILES, Some(before(WANTED))),
        ] {
            let gone = self.execute(sql, (before, left))?;
            left = left.saturating_sub(u32::try_from(gone).unwrap_or(MOST_AT_ONCE));
        }
        Ok(left == 0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use catalog::digest::{Sha1Digest, Sha256Digest};
    use catalog::problem::{Code, Coded as _};
    use serde_json::Value;
    use uuid::Uuid;

    use super::*;
    use crate::Store;
    use crate::devices::MessageRow;
    use crate::documents::NewDocument;
    use crate::keys::{NewEnrolment, NewKeys};
    use crate::points::PointRole;
    use crate::runs::RunState;
    use crate::tokens::{AdminToken, Role};

    /// What keeps each table from growing for ever.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum End {
        /// It has as many rows as a person made, and a person, or a verb of theirs, takes them away.
        ByHand,
        /// It has what the configured upstreams publish: `updates gc` and later documents take away what they no longer do.
        Upstream,
        /// It has as many rows as there is content, or are packages on points: they go with those.
        Content,
        /// A fixed number of rows, for each thing of another table at most.
        Fixed,
        /// It is to be read as long as there is the site, by decision: who did what, and under which terms.
        Kept,
        /// It is trimmed as it grows; the test below sees it.
        Trimmed,
    }

    const TABLES: &[(&str, End)] = &[
        ("admin_token", End::Trimmed),
        ("app", End::ByHand),
        ("app_file", End::ByHand),
        ("assigned_work", End::Content),
        ("assignment", End::Fixed),
        ("assignment_change", End::Fixed),
        ("audit", End::Kept),
        ("boundary", End::ByHand),
        ("boundary_group", End::ByHand),
        ("boundary_group_boundary", End::ByHand),
        ("boundary_group_point", End::ByHand),
        ("boundary_relation", End::ByHand),
        ("client_settings", End::ByHand),
        ("client_settings_target", End::ByHand),
        ("collection", End::ByHand),
        ("collection_member", End::ByHand),
        ("content", End::Content),
        ("deployment", End::ByHand),
        ("device", End::Trimmed),
        ("device_message", End::Trimmed),
        ("device_run", End::Trimmed),
        ("device_series", End::Trimmed),
        ("distributed_file", End::Content),
        ("distribution", End::Content),
        ("document", End::Trimmed),
        ("document_body", End::Trimmed),
        ("enrolment", End::Trimmed),
        ("file", End::Upstream),
        ("file_url", End::Upstream),
        ("image", End::ByHand),
        ("leaving_file", End::Content),
        ("license_current", End::Upstream),
        ("license_decision", End::Kept),
        ("license_link", End::Upstream),
        ("license_review", End::Kept),
        ("license_text", End::Kept),
        ("listing", End::Upstream),
        ("lost_file", End::Content),
        ("maintenance_window", End::ByHand),
        ("metadata", End::Upstream),
        ("metadata_document", End::Upstream),
        ("metadata_file", End::Upstream),
        ("metadata_license", End::Upstream),
        ("metadata_offered", End::Upstream),
        ("metadata_relation", End::Upstream),
        ("metadata_url", End::Upstream),
        ("package", End::ByHand),
        ("package_file", End::ByHand),
        ("phased", End::ByHand),
        ("point", End::ByHand),
        ("point_boot", End::Trimmed),
        // One for each number that a point ever had; the next point takes a number that is free.
        ("point_change", End::ByHand),
        ("point_group", End::ByHand),
        ("point_group_member", End::ByHand),
        ("point_group_package", End::ByHand),
        ("principal", End::Trimmed),
        ("pull_source", End::ByHand),
        ("pulled_content", End::Content),
        ("revision", End::Upstream),
        ("revision_file", End::Upstream),
        ("revision_license", End::Upstream),
        ("run", End::Trimmed),
        ("seen_time", End::Fixed),
        ("sequence", End::ByHand),
        ("sequence_reference", End::ByHand),
        ("sequence_secret", End::ByHand),
        ("server_anchor", End::Fixed),
        ("server_pass", End::Fixed),
        ("server_pending", End::Upstream),
        ("server_quarantine", End::Upstream),
        ("site", End::Fixed),
        ("task", End::Trimmed),
        ("unnamed_content", End::Content),
        ("update_deployment", End::ByHand),
        ("update_deployment_member", End::ByHand),
        ("update_item", End::Upstream),
        ("wanted_file", End::Trimmed),
    ];

    fn at(hours: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * 365 * 40 + hours)
    }

    fn with<T: Send + 'static>(
        change: impl FnOnce(&Writer<'_>) -> Result<T, SchemaError> + Send + 'static,
    ) -> Result<T, SchemaError> {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("site.db"), 1)?;
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let made = runtime.block_on(store.write(change));
        store.close()?;
        made
    }

    fn rows(w: &Writer<'_>, table: &str) -> Result<u64, SchemaError> {
        let counted =
            w.first(&format!("SELECT count(*) AS rows FROM {table}"), [], |row| size(row, "rows"))?;
        Ok(counted.unwrap_or_default())
    }

    fn enrolled(w: &Writer<'_>, name: &str, seed: u32, now: Timestamp) -> Result<(), SchemaError> {
        let hash = |what: &str| Sha256Digest::of(format!("{what} {seed}").as_bytes());
        let new = NewEnrolment {
            hash: hash("token"),
            kind: PrincipalKind::Device,
            name: name.to_owned(),
            expires: now + DAY,
        };
        w.begin_enrolment(&new, now)?;
        let keys = NewKeys { key: hash("key"), content: Some(hash("content")) };
        w.enrol(hash("token"), keys, Uuid::from_u128(u128::from(seed)), now)?;
        Ok(())
    }

    fn said(w: &Writer<'_>, device: &str, count: u64, now: Timestamp) -> Result<(), SchemaError> {
        let mut series = w.series(device, "s")?;
        for number in series.heard + 1..=series.heard + count {
            let row = MessageRow { series: series.id, number, received: now, body: Value::Null };
            w.keep_message(device, &row, now, "XYZ20001")?;
        }
        series.heard += count;
        w.heard(device, series, (0, 0))
    }

    fn deployed(w: &Writer<'_>) -> Result<(), SchemaError> {
        w.execute("INSERT INTO sequence VALUES ('XYZ00001', 1, 's', '', 1, 1, 0, 0)", [])?;
        w.execute(
            "INSERT INTO deployment (deployment_id, number, sequence_id, collection_id, purpose, available, options, content,
                places, created, created_by)
             VALUES ('XYZ20001', 1, 'XYZ00001', 1, 'required', 0, '{}', 'none', '[]', 0, 'x')",
            [],
        )?;
        Ok(())
    }

    fn run(device: &str, state: &str) -> DeviceRun {
        DeviceRun {
            device: device.to_owned(),
            deployment: "XYZ20001".parse().expect("an id"),
            series: 1,
            run: 1,
            state: state.to_owned(),
            step: None,
            step_name: None,
            code: None,
            exit: None,
            details: String::new(),
            started: at(0),
            changed: at(0),
            bytes: BTreeMap::new(),
        }
    }

    #[test]
    fn every_table_has_somebody_who_keeps_it_from_growing_for_ever() {
        let tables: Vec<String> = with(|w| {
            w.all(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
                [],
                |row| Ok(row.get("name")?),
            )
        })
        .unwrap();
        let there: BTreeSet<&str> = tables.iter().map(String::as_str).collect();
        let listed: BTreeSet<&str> = TABLES.iter().map(|(table, _)| *table).collect();
        assert_eq!(there.difference(&listed).collect::<Vec<_>>(), Vec::<&&str>::new(), "say what ends it");
        // A list that is longer than the tables are does no harm where a step is not there yet.
        assert!(listed.len() == TABLES.len() && listed.contains("device"));
    }

    /// Each table that is said to be trimmed, over its end and back.
    #[test]
    fn what_is_trimmed_stays_within_its_end() {
        let left = with(|w| {
            deployed(w)?;
            // A year and more of everything.
            for device in 0..20_u32 {
                let name = format!("pc{device}");
                enrolled(w, &name, device, at(0))?;
                said(w, &name, 400, at(0))?;
                w.put_device_run(&run(&name, "succeeded"))?;
                if device >= 10 {
                    w.device_removed(&name, at(1))?;
                }
            }
            for token in 0..30_u8 {
                let new = AdminToken {
                    name: format!("t{token}"),
                    role: Role::Viewer,
                    created: at(0),
                    expires: if token < 20 { at(48) } else { at(24 * 800) },
                    revoked: None,
                };
                w.add_admin_token(&new, Sha256Digest::of(&[token]))?;
            }
            let sha1 = |n: u8| Sha1Digest([n; 20]);
            w.want_files(&(0..50).map(sha1).collect::<Vec<_>>(), "wsus", at(0))?;
            let point = w.add_point("lyon", "http://lyon", PointRole::Standard)?;
            for boot in 0..200_u128 {
                w.point_began(point, Uuid::from_u128(boot), 65)?;
            }
            let ok = w.begin_run("full", at(0))?;
            w.finish_run(ok, RunState::Succeeded, at(0), None, None)?;
            w.execute(
                "INSERT INTO run (kind, state, started)
                 WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000)
                 SELECT 'delta', 'failed', 0 FROM n",
                [],
            )?;
            w.begin_run("delta", at(1))?;
            w.execute(
                "INSERT INTO task (kind, title, state, created, phases)
                 WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1500)
                 SELECT 'sync', 'x', 'done', 0, '[]' FROM n",
                [],
            )?;
            w.begin_task("sync", "x", at(1))?;
            w.execute(
                "INSERT INTO document (source, location, sha256, size, version, fetched_at)
                 WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200)
                 SELECT 'esd', 'l', zeroblob(32), 1, '1', 0 FROM n",
                [],
            )?;
            for number in 0..4 {
                w.keep_document(&NewDocument {
                    source: "esd".to_owned(),
                    location: "l".to_owned(),
                    sha256: Sha256Digest([number; 32]),
                    body: vec![number],
                    fetched_at: at(0),
                    etag: None,
                    last_modified: None,
                    version: "1".to_owned(),
                })?;
            }
            said(w, "pc0", 3, at(24 * 399))?;
            // Later, as often as there is something.
            let now = at(24 * 420);
            let mut passes = 0;
            loop {
                let gone = w.trim_messages(at(24 * 240))?;
                passes += 1;
                if gone < MOST_AT_ONCE {
                    break;
                }
            }
            while w.trim(Some(at(24 * 240)), now)? {}
            let last_ok = w.last_ok_run()?.map(|run| run.id) == Some(ok);
            let mut left = Vec::new();
            for (table, end) in TABLES {
                if *end == End::Trimmed {
                    left.push((*table, rows(w, table)?));
                }
            }
            Ok((left, passes, last_ok))
        })
        .unwrap();
        let (left, passes, last_ok) = left;
        assert_eq!(
            left,
            [
                ("admin_token", 10),
                ("device", 10),
                ("device_message", 3),
                ("device_run", 10),
                ("device_series", 10),
                ("document", crate::documents::FACTS as u64),
                ("document_body", 3),
                ("enrolment", 0),
                ("point_boot", 65),
                ("principal", 10),
                ("run", crate::runs::KEPT as u64 + 1),
                ("task", crate::tasks::KEPT as u64),
                ("wanted_file", 0),
            ]
        );
        assert_eq!(passes, 2, "8,000 messages, 5,000 at once");
        assert!(last_ok, "the last run that went well stays, however old");
    }

    /// Others want to write too: what ten years of mornings left goes in pieces.
    #[test]
    fn no_transaction_takes_more_than_its_share() {
        let steps = with(|w| {
            deployed(w)?;
            let n = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 7000)";
            for insert in [
                "INSERT INTO device_run (device, deployment_id, series_id, run, state, details, started, changed, bytes, removed)
                 {n} SELECT 'pc' || i, 'XYZ20001', 1, 1, 'succeeded', '', 0, 0, '{}', 0 FROM n",
                "INSERT INTO device_series (device, series, heard) {n} SELECT 'pc' || i, 's', 0 FROM n",
                "INSERT INTO enrolment (hash, kind, name, created, expires)
                 {n} SELECT 'e' || i, 'device', 'pc' || i, 0, 0 FROM n",
                "INSERT INTO principal (kind, name, hash, created, revoked)
                 {n} SELECT 'device', 'pc' || i, 'p' || i, 0, 0 FROM n",
                "INSERT INTO admin_token (name, hash, role, created, expires, revoked)
                 {n} SELECT 't' || i, 't' || i, 'viewer', 0, 0, 0 FROM n",
                "INSERT INTO wanted_file (sha1, asked_by, asked, first_at, latest_at)
                 {n} SELECT CAST(printf('%020d', i) AS BLOB), 'x', 1, 0, 0 FROM n",
            ] {
                let insert = insert.replace("{n}", n);
                // Hashes are blobs.
                let insert = insert.replace("'e' || i", "CAST('e' || i AS BLOB)");
                let insert = insert.replace("'p' || i", "CAST('p' || i AS BLOB)");
                let insert = insert.replace("'t' || i, 't' || i", "'t' || i, CAST('t' || i AS BLOB)");
                w.execute(&insert, [])?;
            }
            let tables =
                ["device_run", "device_series", "enrolment", "principal", "admin_token", "wanted_file"];
            let all = |w: &Writer<'_>| tables.iter().map(|table| rows(w, table)).sum::<Result<u64, _>>();
            let mut steps = vec![all(w)?];
            while w.trim(Some(at(0)), at(24 * 420))? {
                steps.push(all(w)?);
            }
            steps.push(all(w)?);
            // Where what was done is kept for ever, the first two are left alone.
            w.execute(&format!("INSERT INTO device_series (device, series, heard) {n} SELECT 'pc' || i, 's', 0 FROM n"), [])?;
            assert!(!w.trim(None, at(24 * 420))?);
            assert_eq!(all(w)?, 7_000);
            Ok(steps)
        })
        .unwrap();
        assert_eq!((steps.first(), steps.last()), (Some(&42_000), Some(&0)), "{steps:?}");
        let most = steps.windows(2).map(|pair| pair[0] - pair[1]).max();
        assert!(most <= Some(u64::from(MOST_AT_ONCE)) && steps.len() >= 9, "{steps:?}");
    }

    /// The site listened in many short processes; what each of them heard counts, and what no process heard is no day.
    #[test]
    fn what_is_heard_and_how_long_is_listened_outlasts_a_process() {
        with(|w| {
            for (seed, name) in [(1, "here"), (2, "away")] {
                enrolled(w, name, seed, at(0))?;
            }
            let hour = Duration::from_secs(3_600);
            assert!(w.call_the_roll(at(0))?, "the first");
            assert_eq!(w.listened(&["here".to_owned()], hour)?, hour);
            // The next process.
            assert_eq!(w.listened(&[], hour)?, 2 * hour);
            assert!(w.call_the_roll(at(25))?);
            let missed = |w: &Writer<'_>| {
                w.all("SELECT missed FROM device ORDER BY name", [], |row| Ok(row.get::<_, u32>("missed")?))
            };
            assert_eq!(missed(w)?, [1, 0], "away, here");
            assert_eq!(w.listened(&[], Duration::ZERO)?, Duration::ZERO, "it begins anew");
            w.listened(&["away".to_owned()], Duration::ZERO)?;
            assert!(w.call_the_roll(at(50))?);
            assert_eq!(missed(w)?, [0, 1]);
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn where_messages_are_kept_for_ever_so_is_what_was_done() {
        let left = with(|w| {
            deployed(w)?;
            enrolled(w, "pc1", 1, at(0))?;
            said(w, "pc1", 5, at(0))?;
            w.put_device_run(&run("pc1", "succeeded"))?;
            w.device_removed("pc1", at(1))?;
            w.trim(None, at(24 * 4_000))?;
            Ok((w.count_messages_of("pc1")?, w.all_runs_on("pc1")?.len(), rows(w, "principal")?))
        });
        assert_eq!(left.unwrap(), (5, 1, 0));
    }

    #[test]
    fn a_device_that_is_removed_leaves_everything_and_what_it_did_stays() {
        with(|w| {
            deployed(w)?;
            for (seed, name) in [(1, "pc1"), (2, "pc2")] {
                enrolled(w, name, seed, at(0))?;
                w.put_facts(name, &Value::Null, "10.0.0.1", at(0))?;
                said(w, name, 2, at(0))?;
                w.put_device_run(&run(name, "running"))?;
            }
            for name in ["ring", "pilot", "rest"] {
                w.create_collection(name, at(0))?;
            }
            w.add_devices("ring", &["pc1".to_owned(), "pc2".to_owned()])?;
            w.add_devices("pilot", &["PC1".to_owned()])?;
            let gone = w.device_removed("Pc1", at(1))?.expect("it is known");
            assert!(gone.had_key);
            assert_eq!((gone.collections, gone.runs.len()), (vec!["pilot".to_owned(), "ring".to_owned()], 1));
            assert_eq!(w.device_removed("pc1", at(1))?, None, "once");
            assert_eq!(w.device_removed("nobody", at(1))?, None);
            assert_eq!(w.device_names()?, ["pc2"]);
            assert_eq!(w.known_devices()?, ["pc2"]);
            // One that has its key and has not spoken yet is known; one that has spoken is known once, however it is written.
            for (seed, name) in [(11, "PC2"), (12, "new")] {
                enrolled(w, name, seed, at(1))?;
            }
            assert_eq!(w.known_devices()?, ["new", "pc2"]);
            w.device_removed("new", at(1))?;
            assert_eq!(w.memberships()?, [("pc2".to_owned(), "ring".to_owned())]);
            let id = "XYZ20001".parse().expect("an id");
            assert_eq!(w.runs_of(&id)?.len(), 1);
            assert_eq!(w.run_counts()?.iter().map(|(.., runs)| *runs).sum::<u32>(), 1);
            assert_eq!((w.runs_on("pc1")?.len(), w.device_run(&id, "pc1")?), (0, None));
            assert_eq!((w.all_runs_on("pc1")?.len(), w.count_messages_of("pc1")?), (1, 2));
            let in_force = |w: &Writer<'_>| -> Result<usize, SchemaError> {
                Ok(w.principals()?.iter().filter(|one| one.revoked.is_none()).count())
            };
            assert_eq!(in_force(w)?, 1);

            // What was on its way when it went does not bring it back.
            let refused = |made: Result<(), SchemaError>| made.map_err(|error| error.problem().code);
            assert_eq!(refused(w.put_facts("pc1", &Value::Null, "x", at(2))), Err(Code::KeyRevoked));
            assert_eq!(refused(said(w, "pc1", 1, at(2))), Err(Code::KeyRevoked));
            w.devices_seen(&[("pc1".to_owned(), "x".to_owned(), at(2))])?;
            assert_eq!(w.device_names()?, ["pc2"]);

            // Enrolled again, it begins anew: what it did before counts in no status.
            enrolled(w, "pc1", 3, at(3))?;
            w.put_facts("pc1", &Value::Null, "x", at(3))?;
            assert_eq!((w.device_names()?.len(), w.device_run(&id, "pc1")?), (2, None));
            w.put_device_run(&run("pc1", "succeeded"))?;
            assert_eq!(w.runs_of(&id)?.len(), 2);
            Ok(())
        })
        .unwrap();
    }

    /// Days are counted, and not time: neither a site that was away nor a clock that was set lets anybody go.
    #[test]
    fn who_is_not_heard_of_is_silent_by_days_on_which_somebody_listened() {
        with(|w| {
            let silent = |w: &Writer<'_>| w.silent_devices(3, 10);
            for (seed, name) in [(1, "here"), (2, "gone"), (3, "sharing"), (4, "never")] {
                enrolled(w, name, seed, at(0))?;
                if name != "never" {
                    w.devices_seen(&[(name.to_owned(), "x".to_owned(), at(0))])?;
                }
            }
            assert!(w.call_the_roll(at(1))?, "the first one says that there are roll calls");
            assert!(!w.call_the_roll(at(2))?, "once a day");
            let day = |w: &Writer<'_>, hour: i64| -> Result<bool, SchemaError> {
                w.devices_seen(&[("here".to_owned(), "x".to_owned(), at(hour - 1))])?;
                w.listened(&["SHARING".to_owned()], Duration::ZERO)?;
                w.call_the_roll(at(hour))
            };
            assert!(day(w, 25)? && day(w, 49)?);
            assert_eq!(silent(w)?, (vec![], 0));
            // The site was away for a year, and this is one more day.
            assert!(day(w, 24 * 400)?);
            assert_eq!(silent(w)?, (vec!["gone".to_owned(), "never".to_owned()], 2));
            assert_eq!(w.silent_devices(3, 1)?, (vec!["gone".to_owned()], 2));
            assert_eq!(w.silent_devices(4, 10)?.1, 0);
            // The clock was ahead and is set back: nothing is counted, and days begin anew from there.
            assert!(!w.call_the_roll(at(60))?);
            assert!(!w.call_the_roll(at(61))?);
            assert_eq!(w.silent_devices(4, 10)?.1, 0);
            w.devices_seen(&[("gone".to_owned(), "x".to_owned(), at(62))])?;
            assert!(day(w, 84)?);
            assert_eq!(silent(w)?, (vec!["never".to_owned()], 1), "who comes back is there again");
            Ok(())
        })
        .unwrap();
    }
}
