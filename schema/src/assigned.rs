//! At a site: what the assignment of a point is made of, and how often any of it was changed.
//!
//! Whoever made an assignment and finds the numbers of then need not make it again. Triggers move the numbers
//! (`sql/0034_changes_of_assignments.sql`), so that whoever writes need not think of it.

use std::collections::HashSet;

use catalog::id::PackageId;

use crate::column::{number, size, text};
use crate::distribution::ShelfRow;
use crate::points::{OWN_POINT, PointRow, Work, point};
use crate::private::Privacy;
use crate::{Reader, SchemaError};

/// How often something was changed of which assignments are made. Numbers only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    /// Of the assignment of this point.
    pub here: u64,
    /// Of those of any point.
    pub any: u64,
    /// Of those of points that pull from others.
    pub sources: u64,
    /// Of which contents are private. What that means for a point is in its own number too.
    pub privacy: u64,
    /// Of the content keys of devices.
    pub keys: u64,
}

impl Changes {
    /// Whether [`AssignedRows`] of `point`, read when these were the numbers, are the same `now`.
    pub fn are_still(&self, now: &Self, point: &PointRow) -> bool {
        let sources = point.pull_from.is_empty() || self.sources == now.sources;
        self.here == now.here && self.any == now.any && sources
    }
}

/// What an assignment is made of, as far as the database knows it; but for the keys of devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignedRows {
    /// The point: what is set for it, and nothing that it said.
    pub point: PointRow,
    /// All points, in the same way; none where this one pulls from nobody.
    pub points: Vec<PointRow>,
    /// Those of them that have a key.
    pub with_key: HashSet<i64>,
    /// Packages, in the order of the work.
    pub packages: Vec<AssignedRow>,
}

/// A package that a point is to hold, or is to hold no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignedRow {
    /// The package.
    pub package: PackageId,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// It is to be taken off.
    pub removing: bool,
    /// It was called off.
    pub hold: bool,
    /// What the point is asked to do.
    pub work: Work,
    /// Number of that.
    pub order: u64,
    /// Its files; none where it is taken off.
    pub files: Vec<ShelfRow>,
    /// What is there of earlier versions; none where it is taken off.
    pub leaving: Vec<ShelfRow>,
}

/// What is set for points, without what they said: that changes every few seconds.
const SETTINGS: &str = "
    SELECT point_id, name, role, url, tls_url, maintenance, rate, schedule, NULL AS last_seen, NULL AS free, NULL AS program,
           0 AS on_demand, 0 AS may_pull, NULL AS address
      FROM point";

impl Reader<'_> {
    /// The numbers that stand for the assignment of a point.
    pub fn assignment_changes(&self, point: i64) -> Result<Changes, SchemaError> {
        const SQL: &str = "
            SELECT coalesce((SELECT number FROM point_change WHERE point_id = ?1), 0) AS here,
                   (SELECT number FROM assignment_change WHERE what = 'any') AS any_point,
                   (SELECT number FROM assignment_change WHERE what = 'sources') AS sources,
                   (SELECT number FROM assignment_change WHERE what = 'privacy') AS privacy,
                   (SELECT number FROM assignment_change WHERE what = 'keys') AS keys";
        let found = self.first(SQL, [point], |row| {
            Ok(Changes {
                here: size(row, "here")?,
                any: size(row, "any_point")?,
                sources: size(row, "sources")?,
                privacy: size(row, "privacy")?,
                keys: size(row, "keys")?,
            })
        })?;
        found.ok_or_else(|| SchemaError::Value("the numbers of changes".to_owned()))
    }

    /// What the assignment of a point is made of; `None` where there is no such point. Whether contents are private is taken from
    /// `known` as far as it stands there; `privacy` is that number of the changes which this reader sees.
    pub fn assigned_rows(
        &self,
        point: i64,
        known: &Privacy,
        privacy: u64,
    ) -> Result<Option<AssignedRows>, SchemaError> {
        let Some(own) = self.first(&format!("{SETTINGS} WHERE point_id = ?1"), [point], self::point)? else {
            return Ok(None);
        };
        const SOURCES: &str = "
            SELECT source.name FROM pull_source JOIN point AS source ON source.point_id = pull_source.source_id
             WHERE pull_source.point_id = ?1 ORDER BY pull_source.position";
        let pull_from = self.all(SOURCES, [point], |row| Ok(row.get("name")?))?;
        let (points, with_key) = match pull_from.is_empty() {
            true => (Vec::new(), HashSet::new()),
            false => (self.points_of(&format!("{SETTINGS} ORDER BY point_id"))?, self.with_key()?),
        };
        const PACKAGES: &str = "
            SELECT d.package_id, d.version, d.work, d.work_order, d.state = 'removing' AS removing, d.state = 'cancelled' AS hold,
                   coalesce((SELECT image.name FROM image WHERE image.image_id = d.package_id),
                            (SELECT app.name FROM app WHERE app.app_id = d.package_id), p.name) AS package_name
              FROM distribution AS d JOIN package AS p ON p.package_id = d.package_id
             WHERE d.point_id = ?1 ORDER BY d.work_order, d.package_id";
        let mut packages = self.all(PACKAGES, [point], |row| {
            Ok(AssignedRow {
                package: text(row, "package_id")?,
                name: row.get("package_name")?,
                version: number(row, "version")?,
                removing: row.get("removing")?,
                hold: row.get("hold")?,
                work: text(row, "work")?,
                order: size(row, "work_order")?,
                files: Vec::new(),
                leaving: Vec::new(),
            })
        })?;
        for row in packages.iter_mut().filter(|row| !row.removing) {
            row.files = self.with_privacy_by(known, privacy, self.placed_rows(&row.package, point)?)?;
            row.leaving = self.with_privacy_by(known, privacy, self.leaving_rows(&row.package, point)?)?;
        }
        Ok(Some(AssignedRows { point: PointRow { pull_from, ..own }, points, with_key, packages }))
    }

    /// Points that have a key, and the site's own, which needs none.
    fn with_key(&self) -> Result<HashSet<i64>, SchemaError> {
        const SQL: &str = "
            SELECT point.point_id FROM point
             WHERE point.point_id = ?1 OR EXISTS (
                 SELECT 1 FROM principal
                  WHERE principal.kind = 'point' AND principal.name = point.name AND principal.revoked IS NULL)";
        let all = self.all(SQL, [OWN_POINT], |row| Ok(row.get("point_id")?))?;
        Ok(all.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};
    use std::sync::{Arc, Mutex};

    use catalog::digest::{Sha1Digest, Sha256Digest};
    use jiff::Timestamp;
    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;
    use rusqlite::config::DbConfig;
    use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
    use rusqlite::types::Null;

    use super::*;
    use crate::keys::PrincipalKind;
    use crate::packages::{Access, NewPackage};
    use crate::points::{ContentState, Placement, PointRole};
    use crate::{Store, Writer};

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    const STATES: [ContentState; 9] = [
        ContentState::Queued,
        ContentState::Sending,
        ContentState::Verifying,
        ContentState::Success,
        ContentState::Failed,
        ContentState::Cancelled,
        ContentState::Validating,
        ContentState::Warning,
        ContentState::Removing,
    ];

    /// What is written: which of the things below, to what, and how.
    type Act = (u8, u8, u8, u8);

    const ACTS: u8 = 26;
    const PACKAGES: u8 = 3;
    const CONTENTS: u8 = 4;

    fn content(number: u8) -> Sha256Digest {
        Sha256Digest([number; 32])
    }

    /// What assignments are made of, as it was read when its numbers were these.
    #[derive(Default)]
    struct Kept {
        privacy: Privacy,
        points: HashMap<i64, (Changes, AssignedRows)>,
        keys: Option<(u64, Vec<Sha256Digest>)>,
        /// How often something was given again, and how often it was made anew.
        again: u32,
        anew: u32,
    }

    impl Kept {
        /// What is kept and said to be still the same is what would be read now.
        fn is_right(&mut self, w: &Writer<'_>) -> Result<Result<(), String>, SchemaError> {
            for point in 1..=4 {
                let (now, fresh) = (w.assignment_changes(point)?, Privacy::default());
                let anew = w.assigned_rows(point, &fresh, now.privacy)?;
                let kept = self.points.get(&point).filter(|(then, rows)| then.are_still(&now, &rows.point));
                match kept {
                    Some((_, rows)) if anew.as_ref() != Some(rows) => {
                        return Ok(Err(format!("kept {rows:?}, and it is {anew:?}")));
                    }
                    Some(_) => self.again += 1,
                    None => {
                        self.anew += 1;
                        let by_what_is_known = w.assigned_rows(point, &self.privacy, now.privacy)?;
                        if by_what_is_known != anew {
                            return Ok(Err(format!(
                                "by what is known {by_what_is_known:?}, and it is {anew:?}"
                            )));
                        }
                        self.points.remove(&point);
                        if let Some(rows) = anew {
                            self.points.insert(point, (now, rows));
                        }
                    }
                }
            }
            let (number, keys) = (w.assignment_changes(1)?.keys, w.content_keys()?);
            match self.keys.replace((number, keys.clone())) {
                Some((then, before)) if then == number && before != keys => {
                    Ok(Err(format!("kept {before:?}, and it is {keys:?}")))
                }
                _ => Ok(Ok(())),
            }
        }
    }

    fn named(name: String) -> NewPackage {
        NewPackage { name, description: String::new(), source_dir: None, access: Access::Public }
    }

    fn site() -> Result<catalog::id::SiteCode, SchemaError> {
        "XYZ".parse().map_err(|_| SchemaError::Value("a code".to_owned()))
    }

    fn write(w: &Writer<'_>, packages: &[PackageId], (act, a, b, c): Act) -> Result<(), SchemaError> {
        let (package, point) = (&packages[usize::from(a % PACKAGES)], i64::from(b % 4) + 1);
        let id = package.as_str();
        let (file, sha256) = (i64::from(c % CONTENTS), content(c % CONTENTS));
        let here = (id, point, format!("{}.esd", c % 2), sha256.0);
        match act % ACTS {
            0 if w.point_settings()?.iter().any(|row| row.id == point) => w.distribute(package, point, NOW)?,
            22 => w.execute("UPDATE package SET name = ?1 || ?2 WHERE package_id = ?1", (id, c % 3)).map(drop)?,
            // With all that it had; and then another of this id, which may find contents of before it.
            23 => {
                w.delete_package(package)?;
                w.execute(
                    "INSERT INTO package (package_id, sequence, name, description, version, created, changed, access)
                     VALUES (?1, 100 + ?2, ?1, '', 1, 0, 0, ?3)",
                    (id, a % PACKAGES, if c % 2 == 0 { "public" } else { "private" }),
                )?;
            }
            24 => w.create_package(&site()?, &named(format!("{act} {a} {b} {c} {}", w.last_id())), NOW).map(drop).or_else(is_there)?,
            // What is there before its package, and what stays behind it.
            25 => {
                let other = "XYZ00777";
                w.execute("DELETE FROM package WHERE package_id = ?1", [other])?;
                w.execute("INSERT OR IGNORE INTO lost_file VALUES (?1, ?2, 'a.esd', ?3, zeroblob(20), 9)", (other, point, sha256.0))?;
                w.execute(
                    "INSERT INTO package (package_id, sequence, name, description, version, created, changed, access)
                     VALUES (?1, 777, ?1, '', 1, 0, 0, ?2)",
                    (other, if a % 2 == 0 { "public" } else { "private" }),
                )?;
            }
            1 => w.withdraw(package, point)?,
            2 | 3 => {
                if let Some(placed) = w.placement(package, point)? {
                    let state = STATES[usize::from(c) % STATES.len()];
                    let order = if act.is_multiple_of(2) { w.next_order()? } else { placed.order };
                    w.put_placement(&Placement { state, order, ..placed })?;
                }
            }
            4 => w.set_package_access(package, if c % 2 == 0 { Access::Public } else { Access::Private })?,
            5 => w.record_content(sha256, Sha1Digest([c % CONTENTS; 20]), 9, false, NOW)?,
            6 => w.forget_content(sha256)?,
            7 => w.mark_file_stored(package, file, sha256, NOW)?,
            8 => w.execute("UPDATE file SET content = ?2 WHERE file_id = ?1", (file, content(b % CONTENTS).0)).map(drop)?,
            9 => w
                .execute(
                    "INSERT OR IGNORE INTO package_file VALUES (?1, zeroblob(16), ?2, ?2, ?2 || '.esd', 'stored', NULL, 0)",
                    (id, file),
                )
                .map(drop)?,
            10 => w.execute("DELETE FROM package_file WHERE package_id = ?1 AND file_id = ?2", (id, file)).map(drop)?,
            11 => w.point_lacks(point, sha256)?,
            12 => {
                if let Some(row) = w.point_settings()?.into_iter().find(|row| row.id == point) {
                    let pull_from = if a % 2 == 0 { vec![format!("d{}", c % 4 + 1)] } else { Vec::new() };
                    let (url, rate) = (format!("http://{}", c % 2), Some(u64::from(c % 3)));
                    w.set_point(&PointRow { pull_from, url, rate, maintenance: c % 5 == 0, ..row })?;
                }
            }
            13 => w.remove_point(point)?,
            14 if w.point_settings()?.iter().all(|row| row.id != point) => w
                .execute("INSERT INTO point (point_id, name, role) VALUES (?1, 'd' || ?1, 'standard')", [point])
                .map(drop)?,
            15 => w
                .execute(
                    "INSERT OR IGNORE INTO principal (kind, name, hash, content_hash, created)
                     VALUES (?1, ?2, randomblob(32), CASE ?1 WHEN 'device' THEN randomblob(32) END, 0)",
                    (if c % 2 == 0 { "point" } else { "device" }, format!("d{point}")),
                )
                .map(drop)?,
            16 => w
                .revoke(if c % 2 == 0 { PrincipalKind::Point } else { PrincipalKind::Device }, &format!("d{point}"), NOW)
                .map(drop)?,
            17 => w
                .execute("INSERT OR REPLACE INTO lost_file VALUES (?1, ?2, ?3, ?4, zeroblob(20), 9)", here)
                .map(drop)?,
            18 if w.placement(package, point)?.is_some() => w
                .execute("INSERT OR REPLACE INTO distributed_file VALUES (?1, ?2, ?3, ?4, zeroblob(20), 9, 0)", here)
                .map(drop)?,
            19 => w
                .execute("UPDATE OR IGNORE distributed_file SET content = ?4 WHERE package_id = ?1 AND point_id = ?2 AND file_name = ?3", here)
                .map(drop)?,
            20 => {
                w.execute(
                    "INSERT OR REPLACE INTO image (image_id, number, name, version, file_name, content, size, info, created)
                     VALUES (?1, ?2, 'image ' || ?3, '1', 'a.wim', ?4, 9, '{}', 0)",
                    (id, a % PACKAGES, c, sha256.0),
                )?;
                if c % 3 == 0 {
                    w.execute("UPDATE image SET name = 'another ' || ?2 WHERE image_id = ?1", (id, c))?;
                }
            }
            21 => {
                w.execute("DELETE FROM lost_file WHERE content = ?1", [sha256.0])?;
                w.execute("DELETE FROM leaving_file WHERE content = ?1 AND point_id = ?2", (sha256.0, point))?;
                w.execute("UPDATE principal SET content_hash = randomblob(32) WHERE kind = 'device' AND content_hash IS NOT NULL", [])?;
            }
            _ => {}
        }
        Ok(())
    }

    /// A package of that name is there already.
    fn is_there(refused: SchemaError) -> Result<(), SchemaError> {
        match refused {
            SchemaError::Refused(_) | SchemaError::Sql(_) => Ok(()),
            other => Err(other),
        }
    }

    /// Each content is of two packages, of which only the first is public; that has given its files to one point, and has them no more
    /// itself. Where it `leaves`, that point is about to let them go.
    fn begin(w: &Writer<'_>, packages: &[PackageId], leaves: bool) -> Result<(), SchemaError> {
        for number in 0..CONTENTS {
            w.execute("INSERT INTO file VALUES (?1, 'a.esd', 9, zeroblob(20), NULL, NULL)", [number])?;
            w.record_content(content(number), Sha1Digest([number; 20]), 9, false, NOW)?;
            for package in [number % PACKAGES, (number + 1) % PACKAGES] {
                let package = &packages[usize::from(package)];
                w.execute(
                    "INSERT INTO package_file VALUES (?1, zeroblob(16), ?2, ?2, ?2 || '.esd', 'queued', NULL, 0)",
                    (package.as_str(), number),
                )?;
                w.mark_file_stored(package, i64::from(number), content(number), NOW)?;
            }
        }
        for (number, package) in packages.iter().enumerate() {
            for point in if number == 0 { 2..=2 } else { 1..=3 } {
                w.distribute(package, point, NOW)?;
            }
            if number > 0 {
                w.set_package_access(package, Access::Private)?;
            }
        }
        w.execute("DELETE FROM package_file WHERE package_id = ?1", [packages[0].as_str()])?;
        if leaves {
            let placed = w.placement(&packages[0], 2)?.ok_or(SchemaError::Died)?;
            w.put_placement(&Placement { state: ContentState::Success, ..placed })?;
            w.distribute(&packages[0], 2, NOW)?;
        }
        Ok(())
    }

    #[test]
    fn what_is_kept_is_what_would_be_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("site.db"), 1).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let acts = prop::collection::vec((0..ACTS, any::<u8>(), any::<u8>(), any::<u8>()), 1..20);
        let mut runner = TestRunner::new(ProptestConfig::with_cases(256));
        let counts = Arc::new(Mutex::new((0, 0)));
        let outcome = runner.run(&acts, |acts| {
            let (told, said) = std::sync::mpsc::channel();
            let counts = counts.clone();
            let undone = runtime.block_on(store.write(move |w| {
                w.execute("PRAGMA defer_foreign_keys = ON", [])?;
                let mut packages = Vec::new();
                for number in 0..PACKAGES {
                    packages.push(w.create_package(&site()?, &named(format!("p{number}")), NOW)?);
                }
                for number in 2..=3 {
                    w.add_point(&format!("d{number}"), "http://x", PointRole::Standard)?;
                }
                let starts_leaving = acts[0].1.is_multiple_of(2);
                begin(w, &packages, starts_leaving)?;
                let mut kept = Kept::default();
                let mut right = kept.is_right(w)?;
                for act in acts {
                    if right.is_err() {
                        break;
                    }
                    write(w, &packages, act)?;
                    right = kept.is_right(w)?.map_err(|why| format!("after {act:?}: {why}"));
                }
                let mut counts = counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                *counts = (counts.0 + kept.again, counts.1 + kept.anew);
                let _ = told.send(right);
                Err::<(), _>(SchemaError::Value("undone".to_owned()))
            }));
            let right = said.recv().map_err(|_| TestCaseError::fail(format!("{undone:?}")))?;
            prop_assert_eq!(right, Ok(()));
            Ok(())
        });
        outcome.unwrap();
        let (again, anew) = *counts.lock().unwrap();
        assert!(again.min(anew) > 1_000, "{again} given again, {anew} made anew: one is hardly tested");
    }

    /// What SQLite is asked to allow while it prepares a statement: the columns that it reads; and the triggers that move a number.
    #[derive(Default)]
    struct Noted {
        reads: BTreeSet<(String, String)>,
        movers: BTreeSet<String>,
    }

    fn noted(w: &Writer<'_>, sql: &str) -> Result<Noted, SchemaError> {
        const NUMBERS: [&str; 2] = ["assignment_change", "point_change"];
        let noted = Arc::new(Mutex::new(Noted::default()));
        let notes = noted.clone();
        let note = move |asked: AuthContext<'_>| {
            let mut noted = notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            match asked.action {
                AuthAction::Read { table_name, column_name } if !NUMBERS.contains(&table_name) => {
                    noted.reads.insert((table_name.to_owned(), column_name.to_owned()));
                }
                AuthAction::Update { table_name, .. } if NUMBERS.contains(&table_name) => {
                    noted.movers.extend(asked.accessor.map(str::to_owned));
                }
                _ => {}
            }
            Authorization::Allow
        };
        w.connection.authorizer(Some(note))?;
        let prepared = w.connection.prepare(sql).map(drop);
        w.connection.authorizer(None::<fn(AuthContext<'_>) -> Authorization>)?;
        prepared?;
        let mut noted = noted.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(std::mem::take(&mut *noted))
    }

    /// Whether a trigger of `table` itself moves a number when this is carried out.
    fn moves(w: &Writer<'_>, table: &str, sql: &str) -> Result<bool, SchemaError> {
        const OF_TABLE: &str =
            "SELECT 1 FROM sqlite_master WHERE type = 'trigger' AND name = ?1 AND tbl_name = ?2";
        for mover in noted(w, sql)?.movers {
            if w.first(OF_TABLE, (mover, table), |_| Ok(()))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    #[test]
    fn every_column_that_an_assignment_reads_moves_a_number() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("site.db"), 1).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let change = |w: &Writer<'_>| {
            w.execute("PRAGMA defer_foreign_keys = ON", [])?;
            let lyon = w.add_point("lyon", "http://lyon", PointRole::Standard)?;
            w.execute("INSERT INTO pull_source VALUES (?1, 0, 1)", [lyon])?;
            let package = w.create_package(&site()?, &named("p".to_owned()), NOW)?;
            w.distribute(&package, lyon, NOW)?;
            w.execute(
                "INSERT INTO distributed_file VALUES (?1, ?2, 'a.esd', ?3, zeroblob(20), 9, NULL)",
                (package.as_str(), lyon, content(1).0),
            )?;
            crate::plans::asked();
            let rows = w.assigned_rows(lyon, &Privacy::default(), 0)?.expect("it is there");
            assert_eq!((rows.points.len(), rows.with_key.len(), rows.packages[0].files.len()), (2, 1, 1));
            w.content_keys()?;
            let mut reads = BTreeSet::new();
            for sql in crate::plans::asked() {
                reads.extend(noted(w, &sql)?.reads);
            }
            let mut unmoved = Vec::new();
            for (table, column) in &reads {
                let mut acts =
                    vec![format!("INSERT INTO {table} DEFAULT VALUES"), format!("DELETE FROM {table}")];
                if !column.is_empty() {
                    acts.push(format!("UPDATE {table} SET {column} = {column}"));
                }
                for act in acts {
                    if !moves(w, table, &act)? {
                        unmoved.push(act);
                    }
                }
            }
            unmoved.dedup();
            assert!(
                !moves(w, "point", "UPDATE point SET last_seen = 1, free = 1, program = ''")?,
                "nobody reads it"
            );
            Err::<(), _>(SchemaError::Value(format!("{reads:?} {unmoved:?}")))
        };
        let told = runtime.block_on(store.write(change)).unwrap_err().to_string();
        assert!(told.ends_with("[]"), "{told}");
        for (table, column) in
            [("package", "access"), ("file", "content"), ("principal", "content_hash"), ("image", "name")]
        {
            assert!(
                told.contains(&format!("(\"{table}\", \"{column}\")")),
                "{table}.{column} is not among {told}"
            );
        }
    }

    #[test]
    fn what_points_say_and_devices_ask_makes_no_assignment_anew() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("site.db"), 1).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let change = |w: &Writer<'_>| {
            w.execute("PRAGMA defer_foreign_keys = ON", [])?;
            let package = w.create_package(&site()?, &named("p".to_owned()), NOW)?;
            let [lyon, rome] =
                ["lyon", "rome"].map(|name| w.add_point(name, "http://x", PointRole::Standard));
            let (lyon, rome) = (lyon?, rome?);
            for point in [lyon, rome] {
                w.distribute(&package, point, NOW)?;
                w.execute(
                    "INSERT INTO distributed_file VALUES (?1, ?2, 'a.esd', ?3, zeroblob(20), 9, NULL)",
                    (package.as_str(), point, content(1).0),
                )?;
            }
            w.execute(
                "INSERT INTO principal (kind, name, hash, created) VALUES ('device', 'd', randomblob(32), 0)",
                [],
            )?;
            let numbers = |w: &Writer<'_>| {
                Ok::<_, SchemaError>((w.assignment_changes(lyon)?, w.assignment_changes(rome)?))
            };
            let before = numbers(w)?;
            for state in
                [ContentState::Sending, ContentState::Verifying, ContentState::Success, ContentState::Warning]
            {
                let placed = w.placement(&package, lyon)?.expect("it is there");
                w.put_placement(&Placement { state, done: placed.done + 1, ..placed })?;
            }
            w.point_lacks(lyon, content(1))?;
            w.point_seen(lyon, Some(7), Some("1"), NOW)?;
            w.point_on_demand(lyon, true)?;
            w.principal_seen(1, NOW)?;
            w.mark_validated(&package, NOW)?;
            assert_eq!(numbers(w)?, before);
            // What one point is sent is not read by another that has it already.
            w.withdraw(&package, lyon)?;
            w.distribute(&package, lyon, NOW)?;
            let after = numbers(w)?;
            assert!(after.0.here > before.0.here && after.1 == before.1, "{before:?} {after:?}");
            Err::<(), _>(SchemaError::Value("undone".to_owned()))
        };
        let undone = runtime.block_on(store.write(change)).unwrap_err();
        assert!(undone.to_string().contains("undone"), "{undone}");
    }

    #[test]
    fn a_package_moves_those_alone_that_have_something_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("site.db"), 1).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let change = |w: &Writer<'_>| {
            w.execute("PRAGMA defer_foreign_keys = ON", [])?;
            let mut points = Vec::new();
            for name in ["lyon", "rome", "nice", "oslo"] {
                points.push(w.add_point(name, "http://x", PointRole::Standard)?);
            }
            // One is at lyon, another with the same content at rome; nice has other contents, and oslo nothing.
            let mut packages = Vec::new();
            for (at, number) in [(0, 1), (1, 1), (2, 2)] {
                let package = w.create_package(&site()?, &named(format!("p{at}")), NOW)?;
                w.distribute(&package, points[at], NOW)?;
                w.execute(
                    "INSERT INTO distributed_file VALUES (?1, ?2, 'a.esd', ?3, zeroblob(20), 9, NULL)",
                    (package.as_str(), points[at], content(number).0),
                )?;
                packages.push(package);
            }
            let mut before = Vec::new();
            let mut moved = |w: &Writer<'_>| {
                let mut now = Vec::new();
                for point in &points {
                    let changes = w.assignment_changes(*point)?;
                    now.push((changes.here, changes.any, changes.sources));
                }
                let before = std::mem::replace(&mut before, now.clone());
                let privacy = w.assignment_changes(OWN_POINT)?.privacy;
                let moved: Vec<bool> = before.iter().zip(&now).map(|(before, now)| before != now).collect();
                Ok::<_, SchemaError>((moved, privacy))
            };
            let (_, privacy) = moved(w)?;
            let nobody = vec![false; 4];
            w.create_package(&site()?, &named("new".to_owned()), NOW)?;
            w.execute(
                "INSERT INTO image (image_id, number, name, version, file_name, content, size, info, created)
                 VALUES ('XYZ00900', 900, 'image', '1', 'a.wim', ?1, 9, '{}', 0)",
                [content(1).0],
            )?;
            assert_eq!(moved(w)?, (nobody.clone(), privacy), "what is new is nowhere");
            w.set_package_access(&packages[0], Access::Public)?;
            assert_eq!(moved(w)?, (nobody.clone(), privacy), "it was that before");
            w.set_package_access(&packages[0], Access::Private)?;
            assert_eq!(
                moved(w)?,
                (vec![true, true, false, false], privacy + 1),
                "and who has the same content"
            );
            w.execute("UPDATE package SET name = 'another' WHERE package_id = ?1", [packages[0].as_str()])?;
            assert_eq!(moved(w)?, (vec![true, false, false, false], privacy + 1));
            w.execute("UPDATE package SET name = 'another' WHERE package_id = ?1", [packages[0].as_str()])?;
            w.execute("UPDATE package SET version = 7, description = 'x'", [])?;
            assert_eq!(moved(w)?, (nobody.clone(), privacy + 1));
            w.delete_package(&packages[0])?;
            assert_eq!(moved(w)?.0, [true, true, false, false]);
            Err::<(), _>(SchemaError::Value("undone".to_owned()))
        };
        let undone = runtime.block_on(store.write(change)).unwrap_err();
        assert!(undone.to_string().contains("undone"), "{undone}");
    }

    #[test]
    fn the_numbers_are_moved_by_way_of_indexes() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("site.db"), 1).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let change = |w: &Writer<'_>| {
            w.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRIGGER_EQP, true)?;
            let (mut scans, mut looked) = (Vec::new(), 0);
            for sql in [
                "INSERT INTO distributed_file VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                "DELETE FROM distributed_file WHERE package_id = ?1 AND point_id = ?2",
                "INSERT INTO leaving_file VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                "DELETE FROM leaving_file WHERE package_id = ?1 AND point_id = ?2",
                "INSERT INTO lost_file VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                "DELETE FROM lost_file WHERE package_id = ?1 AND point_id = ?2",
                "INSERT INTO package_file VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                "DELETE FROM package_file WHERE package_id = ?1",
                "UPDATE file SET content = ?2 WHERE file_id = ?1",
                "INSERT INTO package VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                "UPDATE package SET name = ?2 WHERE package_id = ?1",
                "UPDATE package SET access = ?2 WHERE package_id = ?1",
                "DELETE FROM package WHERE package_id = ?1",
                "UPDATE image SET name = ?2 WHERE image_id = ?1",
                "DELETE FROM image WHERE image_id = ?1",
                "UPDATE app SET name = ?2 WHERE app_id = ?1",
                "DELETE FROM app WHERE app_id = ?1",
            ] {
                let mut statement = w.connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
                let nothing = vec![Null; statement.parameter_count()];
                let mut rows = statement.query(rusqlite::params_from_iter(nothing))?;
                while let Some(row) = rows.next()? {
                    let detail = row.get::<_, Option<String>>("detail")?.unwrap_or_default();
                    looked += usize::from(detail.contains("point_change"));
                    // The two rows that are counted.
                    let scans_all = detail.starts_with("SCAN") && detail != "SCAN (subquery-1)";
                    if scans_all || detail.contains("AUTOMATIC") {
                        scans.push(format!("{detail} in {sql}"));
                    }
                }
            }
            w.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRIGGER_EQP, false)?;
            Ok((scans, looked))
        };
        let (scans, looked) = runtime.block_on(store.write(change)).unwrap();
        assert!(scans.is_empty(), "{}", scans.join("\n"));
        assert!(looked >= 17, "triggers are not among what is explained: {looked}");
    }
}
