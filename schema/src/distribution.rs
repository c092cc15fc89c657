//! Distribution points and what was distributed to them.

use catalog::digest::{Sha1Digest, Sha256Digest};
use catalog::id::{FileName, PackageId};
use jiff::Timestamp;
use rusqlite::Row;

use crate::column::{sha1, sha256, size, text};
use crate::points::OWN_POINT;
use crate::{Reader, SchemaError, Writer};

/// What packages, images and applications consist of now. It is what the view `package_content` says of all of them; asked so, each
/// of its arms reads only rows of those that are meant: `= ?1`, or `IN (…)`.
macro_rules! content_of_packages {
    ($which:literal) => {
        concat!(
            "SELECT m.package_id AS package_id, m.file_name AS file_name, c.sha256 AS sha256, c.sha1 AS sha1, c.size AS size
               FROM package_file AS m JOIN file AS f ON f.file_id = m.file_id JOIN content AS c ON c.sha256 = f.content
              WHERE m.state = 'stored' AND m.package_id ",
            $which,
            " UNION
             SELECT i.image_id, i.file_name, c.sha256, c.sha1, c.size
               FROM image AS i JOIN content AS c ON c.sha256 = i.content WHERE i.image_id ",
            $which,
            " UNION
             SELECT a.app_id, a.file_name, c.sha256, c.sha1, c.size
               FROM app_file AS a JOIN content AS c ON c.sha256 = a.content WHERE a.app_id ",
            $which
        )
    };
}
pub(crate) use content_of_packages;

/// One file that a point may serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShelfRow {
    /// Package that it is of.
    pub package: PackageId,
    /// Its name there.
    pub file_name: FileName,
    /// Its content.
    pub sha256: Sha256Digest,
    /// Its SHA-1.
    pub sha1: Sha1Digest,
    /// Bytes.
    pub size: u64,
    /// Only packages that are private have it.
    pub private: bool,
}

/// A row of questions about files on points: all of them name their columns alike.
pub(crate) fn shelf_row(row: &Row<'_>) -> Result<ShelfRow, SchemaError> {
    Ok(ShelfRow {
        package: text(row, "package_id")?,
        file_name: text(row, "file_name")?,
        sha256: sha256(row, "sha256")?,
        sha1: sha1(row, "sha1")?,
        size: size(row, "size")?,
        private: row.get("private")?,
    })
}

/// A file that devices need for a deployment. It need be in no deployment package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeployedContent {
    /// The file.
    pub sha256: Sha256Digest,
    /// Its SHA-1.
    pub sha1: Sha1Digest,
    /// Its bytes.
    pub size: u64,
    /// A name for it.
    pub file_name: FileName,
    /// No public package has it.
    pub private: bool,
}

impl Reader<'_> {
    /// Every file that the site's own point may serve.
    pub fn shelf(&self) -> Result<Vec<ShelfRow>, SchemaError> {
        const SQL: &str = "
            SELECT f.package_id, f.file_name, content.sha256, content.sha1, content.size,
                   content.sha256 IN (SELECT content FROM private_content) AS private
              FROM distributed_file AS f JOIN content ON content.sha256 = f.content
             WHERE f.point_id = 1 ORDER BY f.package_id, f.file_name";
        self.all(SQL, [], shelf_row)
    }

    /// Content of OS upgrade packages, applications and updates that are deployed: it need be in no package, and is for devices
    /// alone then. One public package makes it public, distributed or not, as any other content.
    pub fn deployed_content(&self) -> Result<Vec<DeployedContent>, SchemaError> {
        const SQL: &str = "
            SELECT sha256, sha1, size, min(file_name) AS file_name,
                   NOT EXISTS (SELECT 1 FROM package_file JOIN file USING (file_id) JOIN package USING (package_id)
                                WHERE file.content = deployed_content.sha256 AND access = 'public')
               AND NOT EXISTS (SELECT 1 FROM distributed_file AS f JOIN package USING (package_id)
                                WHERE f.content = deployed_content.sha256 AND access = 'public')
               AND NOT EXISTS (SELECT 1 FROM leaving_file AS l JOIN package USING (package_id)
                                WHERE l.content = deployed_content.sha256 AND access = 'public') AS private
              FROM deployed_content GROUP BY 1";
        self.all(SQL, [], |row| {
            Ok(DeployedContent {
                sha256: sha256(row, "sha256")?,
                sha1: sha1(row, "sha1")?,
                size: size(row, "size")?,
                file_name: text(row, "file_name")?,
                private: row.get("private")?,
            })
        })
    }

    /// Files that a point has of earlier versions of a package, and goes on with until it has the present one.
    pub fn leaving_files(&self, package: &PackageId, point: i64) -> Result<Vec<ShelfRow>, SchemaError> {
        self.with_privacy(self.leaving_rows(package, point)?)
    }

    /// The same, before it is said what is private.
    pub(crate) fn leaving_rows(&self, package: &PackageId, point: i64) -> Result<Vec<ShelfRow>, SchemaError> {
        const SQL: &str = "
            SELECT package_id, file_name, content AS sha256, sha1, size, 1 AS private
              FROM leaving_file WHERE package_id = ?1 AND point_id = ?2 ORDER BY file_name, content";
        self.all(SQL, (package.as_str(), point), shelf_row)
    }

    /// Those of `contents` that a point is believed to have.
    pub fn held_of(&self, point: i64, contents: &[Sha256Digest]) -> Result<Vec<Sha256Digest>, SchemaError> {
        const SQL: &str = "
            SELECT 1 FROM distributed_file WHERE point_id = ?1 AND content = ?2 AND held IS NOT NULL
             UNION ALL SELECT 1 FROM leaving_file WHERE point_id = ?1 AND content = ?2 LIMIT 1";
        let mut held = Vec::new();
        for content in contents {
            if self.first(SQL, (point, content.0), |_| Ok(()))?.is_some() {
                held.push(*content);
            }
        }
        Ok(held)
    }

    /// Every content that only private packages have, wherever it is.
    pub fn private_contents(&self) -> Result<Vec<Sha256Digest>, SchemaError> {
        self.all("SELECT content FROM private_content ORDER BY content", [], |row| sha256(row, "content"))
    }

    /// How many files of a package, image or application the site does not have, never had or has lost.
    pub fn files_not_here(&self, id: &PackageId) -> Result<u64, SchemaError> {
        const SQL: &str = "
            SELECT (SELECT count(*) FROM package_file WHERE package_id = ?1 AND state <> 'stored')
                 + (SELECT count(*) FROM image WHERE image_id = ?1
                     AND NOT EXISTS (SELECT 1 FROM content WHERE sha256 = image.content))
                 + (SELECT count(*) FROM app_file WHERE app_id = ?1
                     AND NOT EXISTS (SELECT 1 FROM content WHERE sha256 = app_file.content)) AS files";
        Ok(self.first(SQL, [id.as_str()], |row| size(row, "files"))?.unwrap_or_default())
    }
}

impl Writer<'_> {
    /// Gives the site's own point its name.
    pub fn name_own_point(&self, name: &str) -> Result<(), SchemaError> {
        self.execute("UPDATE point SET name = ?1 WHERE point_id = 1 AND name <> ?1", [name])?;
        Ok(())
    }

    /// Makes a point serve what a package holds now, and only that. The site's own point does so at once; another one goes on
    /// with what it has, also of an earlier version, until it has the present one.
    pub fn distribute(&self, id: &PackageId, point: i64, now: Timestamp) -> Result<(), SchemaError> {
        let place = (id.as_str(), point);
        self.forget_lost(id, point, true)?;
        self.execute(
            "INSERT INTO distribution (package_id, point_id, version, at)
             SELECT package_id, ?2, version, ?3 FROM package WHERE package_id = ?1
             ON CONFLICT DO UPDATE SET version = excluded.version, at = excluded.at",
            (id.as_str(), point, now.as_millisecond()),
        )?;
        if point != OWN_POINT {
            self.execute(
                "INSERT INTO leaving_file (package_id, point_id, content, file_name, sha1, size, held)
                 SELECT package_id, point_id, content, file_name, sha1, size, held FROM distributed_file
                  WHERE package_id = ?1 AND point_id = ?2 AND held IS NOT NULL
                 ON CONFLICT DO NOTHING",
                place,
            )?;
        }
        self.execute("DELETE FROM distributed_file WHERE package_id = ?1 AND point_id = ?2", place)?;
        // Of whatever package it is there.
        const SERVES: &str = concat!(
            "INSERT INTO distributed_file (package_id, point_id, file_name, content, sha1, size, held)
             SELECT part.package_id, ?2, part.file_name, part.sha256, part.sha1, part.size,
                    CASE ?2 WHEN ?4 THEN ?3 ELSE coalesce(
                        (SELECT min(f.held) FROM distributed_file AS f WHERE f.point_id = ?2 AND f.content = part.sha256),
                        (SELECT min(l.held) FROM leaving_file AS l WHERE l.point_id = ?2 AND l.content = part.sha256)) END
               FROM (",
            content_of_packages!("= ?1"),
            ") AS part"
        );
        self.execute(SERVES, (id.as_str(), point, now.as_millisecond(), OWN_POINT))?;
        self.execute(
            "DELETE FROM leaving_file WHERE package_id = ?1 AND point_id = ?2 AND EXISTS (
                SELECT 1 FROM distributed_file AS f
                 WHERE f.package_id = ?1 AND f.point_id = ?2 AND f.content = leaving_file.content)",
            place,
        )?;
        self.execute(
            "UPDATE distribution SET done = (
                SELECT CAST(total(size) AS INTEGER) FROM (
                    SELECT DISTINCT content, size FROM distributed_file
                     WHERE package_id = ?1 AND point_id = ?2 AND held IS NOT NULL))
              WHERE package_id = ?1 AND point_id = ?2",
            place,
        )?;
        Ok(())
    }

    /// A point has every file of a package in the version that it was sent: from now on, where it had it not before. What only
    /// earlier versions had may go.
    pub(crate) fn point_holds(&self, id: &PackageId, point: i64, now: Timestamp) -> Result<(), SchemaError> {
        self.execute(
            "UPDATE distributed_file SET held = coalesce(held, ?3) WHERE package_id = ?1 AND point_id = ?2",
            (id.as_str(), point, now.as_millisecond()),
        )?;
        self.leave(id, point)
    }

    /// A package is to be taken off a point: nobody is sent there for it any more.
    pub(crate) fn point_lets_go(&self, id: &PackageId, point: i64) -> Result<(), SchemaError> {
        self.execute(
            "UPDATE distributed_file SET held = NULL WHERE package_id = ?1 AND point_id = ?2",
            (id.as_str(), point),
        )?;
        self.leave(id, point)
    }

    fn leave(&self, id: &PackageId, point: i64) -> Result<(), SchemaError> {
        self.execute(
            "DELETE FROM leaving_file WHERE package_id = ?1 AND point_id = ?2",
            (id.as_str(), point),
        )?;
        Ok(())
    }

    /// A point has found that it lacks a content, or that its copy is bad: whatever package it is of.
    pub fn point_lacks(&self, point: i64, content: Sha256Digest) -> Result<(), SchemaError> {
        let place = (point, content.0);
        self.execute("UPDATE distributed_file SET held = NULL WHERE point_id = ?1 AND content = ?2", place)?;
        self.execute("DELETE FROM leaving_file WHERE point_id = ?1 AND content = ?2", place)?;
        Ok(())
    }

    /// What a point has is not known any more: nobody is sent there until it has said so itself.
    pub fn point_has_nothing(&self, point: i64) -> Result<(), SchemaError> {
        self.execute("UPDATE distributed_file SET held = NULL WHERE point_id = ?1", [point])?;
        self.execute("DELETE FROM leaving_file WHERE point_id = ?1", [point])?;
        Ok(())
    }

    /// Content that was set aside is there again: no package lacks it any more.
    pub fn lacks_no_more(&self, sha256: Sha256Digest) -> Result<(), SchemaError> {
        self.execute(
            "UPDATE package_file SET state = 'stored'
              WHERE state = 'queued' AND file_id IN (SELECT file_id FROM file WHERE content = ?1)",
            [sha256.0],
        )?;
        Ok(())
    }

    /// Takes a package off a point.
    pub fn withdraw(&self, id: &PackageId, point: i64) -> Result<(), SchemaError> {
        self.forget_lost(id, point, false)?;
        self.execute(
            "DELETE FROM distribution WHERE package_id = ?1 AND point_id = ?2",
            (id.as_str(), point),
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::Store;
    use crate::packages::{Access, NewPackage};
    use crate::points::{ContentState, PointRole};
    use crate::software::{AppFile, AppRow};

    /// Contents 1, 2 and 3 have 10, 20 and 30 bytes.
    fn content(n: u8) -> Sha256Digest {
        Sha256Digest([n; 32])
    }

    /// A package has these contents now.
    fn now_has(w: &Writer<'_>, id: &PackageId, contents: &[u8]) -> Result<(), SchemaError> {
        w.execute("DELETE FROM app_file WHERE app_id = ?1", [id.as_str()])?;
        for n in contents {
            w.execute(
                "INSERT INTO app_file (app_id, file_name, content, size) VALUES (?1, ?2, ?3, ?4)",
                (id.as_str(), format!("{n}.exe"), content(*n).0, i64::from(*n) * 10),
            )?;
        }
        w.execute("UPDATE package SET version = version + 1 WHERE package_id = ?1", [id.as_str()])?;
        Ok(())
    }

    /// What a point has it goes on with, whatever is sent to it: until that is there whole, or the file is bad, or the package
    /// is taken off.
    #[test]
    fn what_a_point_has_stays_while_another_version_is_on_its_way() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("site.db"), 1).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let change = |w: &Writer<'_>| {
            let now = Timestamp::UNIX_EPOCH;
            for n in 1..=3 {
                w.record_content(content(n), Sha1Digest([n; 20]), u64::from(n) * 10, false, now)?;
            }
            let site = "XYZ".parse().expect("a code");
            let (id, number) = w.next_id(&site)?;
            let file_name = "1.exe".parse().expect("a name");
            let files = vec![AppFile { file_name, content: content(1), size: 10 }];
            let app = AppRow {
                id: id.clone(),
                name: "Portal".to_owned(),
                form: Value::Null,
                retired: false,
                created: now,
                files,
            };
            w.create_app(number, &app)?;
            w.software_package(&id, "app", "Portal", now)?;
            let lyon = w.add_point("lyon", "http://lyon", PointRole::Standard)?;
            let numbers = |rows: Vec<ShelfRow>| rows.iter().map(|row| row.sha256.0[0]).collect::<Vec<_>>();
            // What it is to have, what leaves, and what clients are sent there for.
            let seen = |w: &Writer<'_>| -> Result<_, SchemaError> {
                let held = w.held()?.into_iter().filter(|row| row.point == lyon);
                Ok((
                    numbers(w.placed_files(&id, lyon)?),
                    numbers(w.leaving_files(&id, lyon)?),
                    held.map(|row| row.sha256.0[0]).collect::<Vec<_>>(),
                ))
            };
            let becomes = |w: &Writer<'_>, state| -> Result<(), SchemaError> {
                let placed = w.placement(&id, lyon)?.expect("it is there");
                w.put_placement(&crate::points::Placement { state, ..placed })
            };
            now_has(w, &id, &[1, 2])?;
            w.distribute(&id, lyon, now)?;
            becomes(w, ContentState::Queued)?;
            assert_eq!(seen(w)?, (vec![1, 2], vec![], vec![]), "sent for the first time");
            becomes(w, ContentState::Success)?;
            assert_eq!(seen(w)?, (vec![1, 2], vec![], vec![1, 2]));

            now_has(w, &id, &[1, 3])?;
            w.distribute(&id, lyon, now)?;
            for state in
                [ContentState::Queued, ContentState::Sending, ContentState::Failed, ContentState::Cancelled]
            {
                becomes(w, state)?;
                assert_eq!(seen(w)?, (vec![1, 3], vec![2], vec![1, 2]), "{state}");
            }
            let placed = w.placement(&id, lyon)?.expect("it is there");
            assert_eq!((placed.done, placed.bytes, placed.version, placed.latest), (10, 40, 3, 3));
            assert_eq!(w.bytes_lacking(std::slice::from_ref(&id), lyon)?, 30, "cancelled, and one is there");
            assert!(w.private_contents()?.contains(&content(2)), "what leaves is as private as it was");
            // And back: nothing leaves that is wanted again.
            now_has(w, &id, &[1, 2])?;
            w.distribute(&id, lyon, now)?;
            becomes(w, ContentState::Queued)?;
            assert_eq!(seen(w)?, (vec![1, 2], vec![], vec![1, 2]));

            now_has(w, &id, &[1, 3])?;
            w.distribute(&id, lyon, now)?;
            becomes(w, ContentState::Warning)?;
            assert_eq!(w.held_of(lyon, &[content(1), content(2), content(3)])?, [content(1), content(2)]);
            w.point_lacks(lyon, content(1))?;
            assert_eq!(seen(w)?, (vec![1, 3], vec![2], vec![2]), "a bad file is no longer offered");
            // The site's own copy goes: the point's does not.
            w.forget_content(content(2))?;
            assert_eq!(seen(w)?.2, [2]);
            becomes(w, ContentState::Success)?;
            assert_eq!(seen(w)?, (vec![1, 3], vec![], vec![1, 3]));
            becomes(w, ContentState::Removing)?;
            assert_eq!(seen(w)?, (vec![1, 3], vec![], vec![]));

            // The site's own point has at once what it is given, and only that.
            w.distribute(&id, OWN_POINT, now)?;
            now_has(w, &id, &[1])?;
            w.distribute(&id, OWN_POINT, now)?;
            let own: Vec<_> = w.held()?.into_iter().filter(|row| row.point == OWN_POINT).collect();
            assert_eq!(own.iter().map(|row| row.sha256).collect::<Vec<_>>(), [content(1)]);
            Ok(())
        };
        runtime.block_on(store.write(change)).unwrap();
    }

    /// Whoever needs it: one public package makes a content public, distributed or not.
    #[test]
    fn what_is_deployed_is_as_public_as_its_packages() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("site.db"), 1).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let change = |w: &Writer<'_>| {
            let now = Timestamp::UNIX_EPOCH;
            // Everything is deployed, and of updates there is as much as is asked for here.
            w.execute("DROP VIEW deployed_content", [])?;
            w.execute(
                "CREATE VIEW deployed_content AS SELECT sha256, sha1, size, 'a.esd' AS file_name FROM content",
                [],
            )?;
            w.execute("PRAGMA defer_foreign_keys = ON", [])?;
            let lyon = w.add_point("lyon", "http://lyon", PointRole::Standard)?;
            let package = |name: &str, access| {
                let (name, description) = (name.to_owned(), String::new());
                let new = NewPackage { name, description, source_dir: None, access };
                w.create_package(&"XYZ".parse().expect("a code"), &new, now)
            };
            let (public, private) = (package("all", Access::Public)?, package("few", Access::Private)?);
            let has = |package: &PackageId, n: u8| {
                w.execute(
                    "INSERT INTO package_file VALUES (?1, zeroblob(16), ?2, ?2, ?2 || '.esd', 'stored', NULL, 0)",
                    (package.as_str(), n),
                )
            };
            let serves = |package: &PackageId, n: u8| {
                w.distribute(package, lyon, now)?;
                w.execute(
                    "INSERT INTO distributed_file VALUES (?1, ?2, ?3 || '.esd', ?4, zeroblob(20), 9, NULL)",
                    (package.as_str(), lyon, n, content(n).0),
                )
            };
            for n in 1..=5 {
                w.record_content(content(n), Sha1Digest([n; 20]), 9, false, now)?;
                w.execute(
                    "INSERT INTO file VALUES (?1, 'a.esd', 9, zeroblob(20), ?2, ?2)",
                    (n, content(n).0),
                )?;
            }
            has(&public, 2)?;
            has(&private, 3)?;
            has(&private, 4)?;
            has(&public, 4)?;
            serves(&public, 5)?;
            let seen: Vec<_> =
                w.deployed_content()?.iter().map(|row| (row.sha256.0[0], row.private)).collect();
            assert_eq!(seen, [(1, true), (2, false), (3, true), (4, false), (5, false)]);
            Err::<(), _>(SchemaError::Value("undone".to_owned()))
        };
        let undone = runtime.block_on(store.write(change)).unwrap_err();
        assert!(undone.to_string().contains("undone"), "{undone}");
    }
}
