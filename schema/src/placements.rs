//! What is asked about packages on points: how far each is, and what is still to come.

use catalog::digest::Sha256Digest;
use catalog::id::PackageId;
use jiff::Timestamp;
use rusqlite::Row;

use crate::column::{json, number, size, text, time, time_or_none, to_json};
use crate::distribution::{ShelfRow, content_of_packages, shelf_row};
use crate::points::{ContentState, OWN_POINT, Placement};
use crate::{Reader, SchemaError};

const PLACEMENT: &str = "
    SELECT d.*, point.name AS point_name, p.version AS latest,
           coalesce((SELECT name FROM image WHERE image_id = d.package_id),
                    (SELECT name FROM app WHERE app_id = d.package_id), p.name) AS package_name,
           (SELECT CAST(total(size) AS INTEGER) FROM (SELECT DISTINCT content, size FROM distributed_file AS f
             WHERE f.package_id = d.package_id AND f.point_id = d.point_id)) AS bytes
      FROM distribution AS d JOIN package AS p USING (package_id) JOIN point USING (point_id)";

fn placement(row: &Row<'_>) -> Result<Placement, SchemaError> {
    let (point_id, bytes) = (row.get("point_id")?, size(row, "bytes")?);
    Ok(Placement {
        package: text(row, "package_id")?,
        name: row.get("package_name")?,
        point_id,
        point: row.get("point_name")?,
        version: number(row, "version")?,
        latest: number(row, "latest")?,
        state: text(row, "state")?,
        work: text(row, "work")?,
        order: size(row, "work_order")?,
        retries_left: number(row, "retries_left")?,
        next_retry: time_or_none(row, "next_retry")?,
        // The site's own point shares the site's library: what it serves is there.
        done: if point_id == OWN_POINT { bytes } else { size(row, "done")? },
        bytes,
        problem: json(row, "problem")?,
        at: time(row, "at")?,
        changed: time_or_none(row, "changed")?,
    })
}

impl Reader<'_> {
    /// Every package on every point.
    pub fn placements(&self) -> Result<Vec<Placement>, SchemaError> {
        self.all(&format!("{PLACEMENT} ORDER BY p.sequence, d.point_id"), [], placement)
    }

    /// These packages on every point.
    pub fn placements_of(&self, packages: &[PackageId]) -> Result<Vec<Placement>, SchemaError> {
        let sql = format!(
            "{PLACEMENT} WHERE d.package_id IN (SELECT value FROM json_each(?1)) ORDER BY p.sequence, d.point_id"
        );
        self.all(&sql, [to_json(&packages)?], placement)
    }

    /// On how many points a package is.
    pub fn points_with(&self, package: &PackageId) -> Result<u64, SchemaError> {
        const SQL: &str = "SELECT count(*) AS points FROM distribution WHERE package_id = ?1";
        Ok(self.first(SQL, [package.as_str()], |row| size(row, "points"))?.unwrap_or_default())
    }

    /// How many files a package has on a point.
    pub fn files_on(&self, package: &PackageId, point: i64) -> Result<u64, SchemaError> {
        const SQL: &str =
            "SELECT count(*) AS files FROM distributed_file AS f WHERE f.package_id = ?1 AND f.point_id = ?2";
        let found = self.first(SQL, (package.as_str(), point), |row| size(row, "files"))?;
        Ok(found.unwrap_or_default())
    }

    /// What one point is to hold.
    pub fn placements_on(&self, point: i64) -> Result<Vec<Placement>, SchemaError> {
        self.all(&format!("{PLACEMENT} WHERE d.point_id = ?1 ORDER BY d.work_order"), [point], placement)
    }

    /// A package on a point.
    pub fn placement(&self, package: &PackageId, point: i64) -> Result<Option<Placement>, SchemaError> {
        let sql = format!("{PLACEMENT} WHERE d.package_id = ?1 AND d.point_id = ?2");
        self.first(&sql, (package.as_str(), point), placement)
    }

    /// Placements that are to be tried again by now; and those that would be later than `latest`, which only a clock that was
    /// put back explains.
    pub fn retries_due(&self, now: Timestamp, latest: Timestamp) -> Result<Vec<Placement>, SchemaError> {
        let sql = format!("{PLACEMENT} WHERE d.next_retry <= ?1 OR d.next_retry > ?2");
        self.all(&sql, [now.as_millisecond(), latest.as_millisecond()], placement)
    }

    /// The files of a package on a point.
    pub fn placed_files(&self, package: &PackageId, point: i64) -> Result<Vec<ShelfRow>, SchemaError> {
        self.with_privacy(self.placed_rows(package, point)?)
    }

    /// The same, before it is said what is private.
    pub(crate) fn placed_rows(&self, package: &PackageId, point: i64) -> Result<Vec<ShelfRow>, SchemaError> {
        const SQL: &str = "
            SELECT f.package_id, f.file_name, f.content AS sha256, f.sha1, f.size, 1 AS private
              FROM distributed_file AS f
             WHERE f.package_id = ?1 AND f.point_id = ?2 ORDER BY f.file_name";
        self.all(SQL, (package.as_str(), point), shelf_row)
    }

    /// A content, if a point is to hold it: its bytes and a name.
    pub fn assigned_content(
        &self,
        content: Sha256Digest,
        point: i64,
    ) -> Result<Option<ShelfRow>, SchemaError> {
        const SQL: &str = "
            SELECT f.package_id, f.file_name, f.content AS sha256, f.sha1, f.size, 1 AS private
              FROM distributed_file AS f JOIN distribution AS d ON d.package_id = f.package_id AND d.point_id = f.point_id
             WHERE f.content = ?1 AND f.point_id = ?2 AND d.state <> 'removing' LIMIT 1";
        let found = self.first(SQL, (content.0, point), shelf_row)?;
        Ok(self.with_privacy(found.into_iter().collect())?.pop())
    }

    /// Bytes of packages, images and applications, as they are now, that a point does not hold yet and is not asked to fetch for
    /// another one; what several of them have counts once.
    pub fn bytes_lacking(&self, packages: &[PackageId], point: i64) -> Result<u64, SchemaError> {
        const SQL: &str = concat!(
            "SELECT CAST(total(c.size) AS INTEGER) AS lacking FROM content AS c WHERE c.sha256 IN (SELECT part.sha256 FROM (",
            content_of_packages!("IN (SELECT value FROM json_each(?1))"),
            ") AS part)
              AND NOT EXISTS (
                SELECT 1 FROM distributed_file AS f
                  JOIN distribution AS d ON d.package_id = f.package_id AND d.point_id = f.point_id
                 WHERE f.point_id = ?2 AND f.content = c.sha256
                   AND (f.held IS NOT NULL OR d.state NOT IN ('failed', 'cancelled', 'removing')))"
        );
        let found = self.first(SQL, (to_json(&packages)?, point), |row| size(row, "lacking"))?;
        Ok(found.unwrap_or_default())
    }

    /// Bytes that a point is asked to fetch and has not yet.
    pub fn bytes_on_the_way(&self, point: i64) -> Result<u64, SchemaError> {
        let sql =
            format!("{PLACEMENT} WHERE d.point_id = ?1 AND d.state IN ('queued', 'sending', 'verifying')");
        let coming = self.all(&sql, [point], placement)?;
        Ok(coming.iter().map(|placed| placed.bytes.saturating_sub(placed.done)).fold(0, u64::saturating_add))
    }

    /// How many packages are in which state on a point.
    pub fn states_on(&self, point: i64) -> Result<Vec<(ContentState, u64)>, SchemaError> {
        self.all(
            "SELECT state, count(*) AS packages FROM distribution WHERE point_id = ?1 GROUP BY state",
            [point],
            |row| Ok((text(row, "state")?, size(row, "packages")?)),
        )
    }
}
