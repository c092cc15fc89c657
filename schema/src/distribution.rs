//! Distribution points and what was distributed to them.

use catalog::digest::{Sha1Digest, Sha256Digest};
use catalog::id::{FileName, PackageId};
use jiff::Timestamp;
use rusqlite::Row;
use serde::{Deserialize, Serialize};

use crate::column::{number, sha1_or_none, sha256, size, text, time};
use crate::{Reader, SchemaError, Writer};

/// A distribution point with what it serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// Row number; 1 is the site's own.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Packages distributed to it.
    pub packages: u64,
    /// Different contents among their files.
    pub contents: u64,
    /// Bytes of those.
    pub bytes: u64,
}

/// A package on a point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distribution {
    /// Name of the point.
    pub point: String,
    /// Version of the package when it was distributed.
    pub version: u32,
    /// When.
    pub at: Timestamp,
}

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
        sha1: sha1_or_none(row, "sha1")?.ok_or_else(|| SchemaError::Value("sha1".to_owned()))?,
        size: size(row, "size")?,
        private: row.get("private")?,
    })
}

/// A file that devices need for a deployment and that is in no deployment package.
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
}

impl Reader<'_> {
    /// All points, the site's own first.
    pub fn points(&self) -> Result<Vec<Point>, SchemaError> {
        const SQL: &str = "
            SELECT point.point_id, point.name,
                   (SELECT count(*) FROM distribution WHERE distribution.point_id = point.point_id) AS packages,
                   (SELECT count(DISTINCT content) FROM distributed_file AS f WHERE f.point_id = point.point_id) AS contents,
                   (SELECT coalesce(sum(size), 0) FROM (
                       SELECT DISTINCT content, size FROM distributed_file AS f WHERE f.point_id = point.point_id)) AS bytes
              FROM point ORDER BY point.point_id";
        self.all(SQL, [], |row| {
            Ok(Point {
                id: row.get("point_id")?,
                name: row.get("name")?,
                packages: size(row, "packages")?,
                contents: size(row, "contents")?,
                bytes: size(row, "bytes")?,
            })
        })
    }

    /// Where a package is.
    pub fn distributions_of(&self, id: &PackageId) -> Result<Vec<Distribution>, SchemaError> {
        self.all(
            "SELECT point.name, version, at FROM distribution JOIN point USING (point_id)
              WHERE package_id = ?1 ORDER BY point_id",
            [id.as_str()],
            |row| {
                Ok(Distribution {
                    point: row.get("name")?,
                    version: number(row, "version")?,
                    at: time(row, "at")?,
                })
            },
        )
    }

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
    /// alone then.
    pub fn deployed_content(&self) -> Result<Vec<DeployedContent>, SchemaError> {
        self.all(
            "SELECT sha256, sha1, size, min(file_name) AS file_name FROM deployed_content GROUP BY 1",
            [],
            |row| {
                Ok(DeployedContent {
                    sha256: sha256(row, "sha256")?,
                    sha1: sha1_or_none(row, "sha1")?.ok_or_else(|| SchemaError::Value("sha1".to_owned()))?,
                    size: size(row, "size")?,
                    file_name: text(row, "file_name")?,
                })
            },
        )
    }

    /// Every content that only private packages have, wherever it is.
    pub fn private_contents(&self) -> Result<Vec<Sha256Digest>, SchemaError> {
        self.all("SELECT content FROM private_content ORDER BY content", [], |row| sha256(row, "content"))
    }
}

impl Writer<'_> {
    /// Gives the site's own point its name.
    pub fn name_own_point(&self, name: &str) -> Result<(), SchemaError> {
        self.execute("UPDATE point SET name = ?1 WHERE point_id = 1 AND name <> ?1", [name])?;
        Ok(())
    }

    /// Makes a point serve what a package holds now, and only that.
    pub fn distribute(&self, id: &PackageId, point: i64, now: Timestamp) -> Result<(), SchemaError> {
        self.take_off(id, point)?;
        self.forget_lost(id, point, true)?;
        self.execute(
            "INSERT INTO distribution (package_id, point_id, version, at)
             SELECT package_id, ?2, version, ?3 FROM package WHERE package_id = ?1",
            (id.as_str(), point, now.as_millisecond()),
        )?;
        self.execute(
            "INSERT INTO distributed_file (package_id, point_id, file_name, content, sha1, size)
             SELECT package_id, ?2, file_name, sha256, sha1, size FROM package_content WHERE package_id = ?1",
            (id.as_str(), point),
        )?;
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
        self.take_off(id, point)
    }

    fn take_off(&self, id: &PackageId, point: i64) -> Result<(), SchemaError> {
        self.execute(
            "DELETE FROM distribution WHERE package_id = ?1 AND point_id = ?2",
            (id.as_str(), point),
        )?;
        Ok(())
    }
}
