//! Distribution points on other machines: what is set for them, their groups, and how far each package is on each.
//!
//! The row of a package on a point is the one source of truth about it: `package show`, `content status`, `dp coverage` and
//! what clients are told are all read from it. What may happen to a row is decided in `sync/src/points/job.rs`.

use std::net::IpAddr;

use catalog::id::PackageId;
use catalog::problem::{Code, Problem};
use jiff::Timestamp;
use rusqlite::{Row, named_params};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::column::{as_i64, size, text, time_or_none, to_json};
use crate::{Reader, SchemaError, Writer, words};

/// Row number of the site's own point.
pub const OWN_POINT: i64 = 1;

words! {
    /// What a point is.
    PointRole {
        /// The one inside the site.
        Site = "site",
        /// It is sent content by the site.
        Standard = "standard",
        /// It asks other points first.
        Pull = "pull",
    }
}
words! {
    /// How a package is doing on a point.
    ContentState {
        /// It is to be sent.
        Queued = "queued",
        /// Its bytes arrive there.
        Sending = "sending",
        /// They are compared with their digests.
        Verifying = "verifying",
        /// It is there, verified.
        Success = "success",
        /// It is not there; it may be tried again.
        Failed = "failed",
        /// An operator did not want it any more.
        Cancelled = "cancelled",
        /// Its files are read again.
        Validating = "validating",
        /// It was there, and some of its files are bad now.
        Warning = "warning",
        /// It is to be taken off.
        Removing = "removing",
    }
}
words! {
    /// What a point is asked to do for a package.
    Work {
        /// Fetch what is missing.
        Send = "send",
        /// Read every file again, and fetch what is not good.
        Resend = "resend",
        /// Read every file again.
        Validate = "validate",
        /// The same, and fetch bad ones again.
        Repair = "repair",
    }
}

/// A distribution point with what is set for it, what it said last, and what it is to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointRow {
    /// Row number; 1 is the site's own.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// What it is.
    pub role: PointRole,
    /// Where clients reach it; empty for the site's own.
    pub url: String,
    /// Where they reach it over TLS, for content that is for those with a key; empty where they do not.
    #[serde(default)]
    pub tls_url: String,
    /// Nothing is sent to it, and clients are not sent there.
    pub maintenance: bool,
    /// Bytes per second that it may fetch.
    pub rate: Option<u64>,
    /// When it may fetch.
    pub schedule: String,
    /// When it was heard of last.
    pub last_seen: Option<Timestamp>,
    /// Bytes that it may still fill.
    pub free: Option<u64>,
    /// Version of its program.
    pub program: Option<String>,
    /// It says that it fetches what it is asked for.
    #[serde(default)]
    pub on_demand: bool,
    /// It may.
    #[serde(default)]
    pub may_pull: bool,
    /// Where its reports come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Packages that it is to hold.
    pub packages: u64,
    /// Different contents among their files.
    pub contents: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Points that it asks before the site.
    pub pull_from: Vec<String>,
    /// Groups that it is in.
    pub groups: Vec<String>,
}

/// A package on a point. What of it is there is no part of this: a file that a point has it goes on serving while another
/// version, or the same one again, is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The package.
    pub package: PackageId,
    /// Its name.
    pub name: String,
    /// Row number of the point.
    pub point_id: i64,
    /// Its name.
    pub point: String,
    /// Version of the package that it is to have.
    pub version: u32,
    /// Version of the package at the site.
    #[serde(default)]
    pub latest: u32,
    /// How it is doing.
    pub state: ContentState,
    /// What the point is asked to do.
    pub work: Work,
    /// Number of that; a later one is greater.
    pub order: u64,
    /// How often it may still be tried by itself.
    pub retries_left: u32,
    /// When it is.
    pub next_retry: Option<Timestamp>,
    /// Bytes that are there.
    pub done: u64,
    /// Bytes of all its files.
    pub bytes: u64,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    /// When it was sent first, in this version.
    pub at: Timestamp,
    /// When its state changed.
    pub changed: Option<Timestamp>,
}

/// A group of points.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointGroup {
    /// Row number.
    #[serde(skip)]
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Names of its points.
    pub points: Vec<String>,
    /// Packages that were sent to it.
    pub packages: Vec<PackageId>,
}

pub(crate) fn point(row: &Row<'_>) -> Result<PointRow, SchemaError> {
    let optional = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
    Ok(PointRow {
        id: row.get("point_id")?,
        name: row.get("name")?,
        role: text(row, "role")?,
        url: row.get("url")?,
        tls_url: row.get("tls_url")?,
        maintenance: row.get("maintenance")?,
        rate: optional(row.get("rate")?),
        schedule: row.get("schedule")?,
        last_seen: time_or_none(row, "last_seen")?,
        free: optional(row.get("free")?),
        program: row.get("program")?,
        on_demand: row.get("on_demand")?,
        may_pull: row.get("may_pull")?,
        address: row.get("address")?,
        packages: 0,
        contents: 0,
        bytes: 0,
        pull_from: Vec::new(),
        groups: Vec::new(),
    })
}

impl Reader<'_> {
    /// All points with what is set for them, what they hold and their groups, the site's own first.
    pub fn point_rows(&self) -> Result<Vec<PointRow>, SchemaError> {
        let mut rows = self.point_settings()?;
        for row in &mut rows {
            self.complete(row)?;
        }
        Ok(rows)
    }

    /// The same of one point.
    pub fn point_row(&self, id: i64) -> Result<Option<PointRow>, SchemaError> {
        let mut found = self.point_settings()?.into_iter().find(|row| row.id == id);
        if let Some(row) = &mut found {
            self.complete(row)?;
        }
        Ok(found)
    }

    /// Puts in what a point is to hold, and its groups.
    fn complete(&self, row: &mut PointRow) -> Result<(), SchemaError> {
        const COUNTS: &str = "
            SELECT (SELECT count(*) FROM distribution AS d WHERE d.point_id = ?1) AS packages,
                   count(*) AS contents, CAST(total(part.size) AS INTEGER) AS bytes
              FROM (SELECT max(f.size) AS size FROM distributed_file AS f WHERE f.point_id = ?1 GROUP BY f.content) AS part";
        let counts =
            |row: &Row<'_>| Ok((size(row, "packages")?, size(row, "contents")?, size(row, "bytes")?));
        (row.packages, row.contents, row.bytes) = self.first(COUNTS, [row.id], counts)?.unwrap_or_default();
        row.groups = self.all(
            "SELECT name FROM point_group JOIN point_group_member USING (group_id) WHERE point_id = ?1 ORDER BY name",
            [row.id],
            |row| Ok(row.get("name")?),
        )?;
        Ok(())
    }

    /// All points with what is set for them, without counts and groups: cheap, for what is asked every second.
    pub fn point_settings(&self) -> Result<Vec<PointRow>, SchemaError> {
        self.points_of("SELECT * FROM point ORDER BY point_id")
    }

    /// Points as `sql` finds them, with whom each pulls from.
    pub(crate) fn points_of(&self, sql: &str) -> Result<Vec<PointRow>, SchemaError> {
        let mut rows = self.all(sql, [], point)?;
        let sources = self.all(
            "SELECT pull_source.point_id, name FROM pull_source JOIN point ON point.point_id = source_id
              ORDER BY pull_source.point_id, position",
            [],
            |row| Ok((row.get::<_, i64>("point_id")?, row.get::<_, String>("name")?)),
        )?;
        for (id, name) in sources {
            rows.iter_mut().filter(|row| row.id == id).for_each(|row| row.pull_from.push(name.clone()));
        }
        Ok(rows)
    }

    /// The point of this name, without counts, sources and groups.
    pub fn point_named(&self, name: &str) -> Result<Option<PointRow>, SchemaError> {
        self.first("SELECT * FROM point WHERE name = ?1", [name], point)
    }

    /// The processes that spoke as each point, in the order in which they were heard of first.
    pub fn point_boots(&self) -> Result<Vec<(i64, Uuid)>, SchemaError> {
        self.all("SELECT point_id, boot FROM point_boot ORDER BY point_id, number", [], |row| {
            let boot: Vec<u8> = row.get("boot")?;
            let boot = Uuid::from_slice(&boot).map_err(|_| SchemaError::Value("point_boot".to_owned()))?;
            Ok((row.get("point_id")?, boot))
        })
    }

    /// All groups.
    pub fn point_groups(&self) -> Result<Vec<PointGroup>, SchemaError> {
        let mut groups = self.all("SELECT * FROM point_group ORDER BY name", [], |row| {
            let (id, name) = (row.get("group_id")?, row.get("name")?);
            Ok(PointGroup { id, name, points: Vec::new(), packages: Vec::new() })
        })?;
        for group in &mut groups {
            group.points = self.all(
                "SELECT name FROM point JOIN point_group_member USING (point_id) WHERE group_id = ?1 ORDER BY point_id",
                [group.id],
                |row| Ok(row.get("name")?),
            )?;
            group.packages = self.all(
                "SELECT package_id FROM point_group_package WHERE group_id = ?1 ORDER BY package_id",
                [group.id],
                |row| text(row, "package_id"),
            )?;
        }
        Ok(groups)
    }

    /// Whether a name is free: points and groups of them are called by it alike.
    fn is_no_point_or_group(&self, name: &str) -> Result<(), SchemaError> {
        const SQL: &str =
            "SELECT name FROM point WHERE name = ?1 UNION ALL SELECT name FROM point_group WHERE name = ?1";
        if self.first(SQL, [name], |_| Ok(()))?.is_some() {
            let message = format!("a distribution point or group is called `{name}` already");
            return Err(Problem::new(Code::NameInUse, message).into());
        }
        Ok(())
    }
}

impl Writer<'_> {
    /// A point on another machine.
    pub fn add_point(&self, name: &str, url: &str, role: PointRole) -> Result<i64, SchemaError> {
        self.is_no_point_or_group(name)?;
        self.execute(
            "INSERT INTO point (name, url, role) VALUES (?1, ?2, ?3)",
            (name, url, role.to_string()),
        )?;
        Ok(self.last_id())
    }

    /// Sets what an operator may set for a point; what it holds and said stays.
    pub fn set_point(&self, point: &PointRow) -> Result<(), SchemaError> {
        self.execute(
            "UPDATE point SET url = :url, tls_url = :tls_url, role = :role, maintenance = :maintenance, rate = :rate, schedule = :schedule,
                              may_pull = :may_pull
              WHERE point_id = :id",
            named_params! {
                ":url": point.url, ":tls_url": point.tls_url, ":role": point.role.to_string(), ":maintenance": point.maintenance,
                ":rate": point.rate.map(as_i64).transpose()?, ":schedule": point.schedule, ":id": point.id,
                ":may_pull": point.may_pull,
            },
        )?;
        self.execute("DELETE FROM pull_source WHERE point_id = ?1", [point.id])?;
        for (position, name) in point.pull_from.iter().enumerate() {
            self.execute(
                "INSERT INTO pull_source (point_id, position, source_id)
                 SELECT ?1, ?2, point_id FROM point WHERE name = ?3",
                (point.id, position as i64, name),
            )?;
        }
        Ok(())
    }

    /// Forgets a point and what it held.
    pub fn remove_point(&self, id: i64) -> Result<(), SchemaError> {
        self.execute("DELETE FROM point WHERE point_id = ?1 AND point_id <> 1", [id])?;
        Ok(())
    }

    /// A point was heard of.
    pub fn point_seen(
        &self,
        id: i64,
        free: Option<u64>,
        program: Option<&str>,
        now: Timestamp,
    ) -> Result<(), SchemaError> {
        self.execute(
            "UPDATE point SET last_seen = ?2, free = coalesce(?3, free), program = coalesce(?4, program) WHERE point_id = ?1",
            (id, now.as_millisecond(), free.map(as_i64).transpose()?, program),
        )?;
        Ok(())
    }

    /// Another process speaks as a point, and so none of those before it. At most so many are remembered.
    pub fn point_began(&self, id: i64, boot: Uuid, most: u32) -> Result<(), SchemaError> {
        self.execute(
            "INSERT INTO point_boot (point_id, number, boot)
             SELECT ?1, coalesce((SELECT max(b.number) FROM point_boot AS b WHERE b.point_id = ?1), 0) + 1, ?2
              WHERE EXISTS (SELECT 1 FROM point WHERE point.point_id = ?1)",
            (id, boot.as_bytes()),
        )?;
        self.execute(
            "DELETE FROM point_boot WHERE point_id = ?1 AND number <=
                (SELECT max(b.number) FROM point_boot AS b WHERE b.point_id = ?1) - ?2",
            (id, most),
        )?;
        Ok(())
    }

    /// Where a point's reports come from.
    pub fn point_speaks_from(&self, id: i64, address: IpAddr) -> Result<(), SchemaError> {
        self.execute("UPDATE point SET address = ?2 WHERE point_id = ?1", (id, address.to_string()))?;
        Ok(())
    }

    /// The number of the next order: later ones are greater, also after a package was taken off and sent again.
    pub fn next_order(&self) -> Result<u64, SchemaError> {
        self.count("last_order")
    }

    /// Changes how a package is doing on a point. What is there whole is held from now on; what is to go is not any more.
    pub fn put_placement(&self, placed: &Placement) -> Result<(), SchemaError> {
        self.execute(
            "UPDATE distribution SET state = :state, work = :work, work_order = :order, retries_left = :retries_left,
                    next_retry = :next_retry, done = :done, problem = :problem, changed = :changed
              WHERE package_id = :package AND point_id = :point",
            named_params! {
                ":state": placed.state.to_string(), ":work": placed.work.to_string(),
                ":order": as_i64(placed.order)?, ":retries_left": placed.retries_left,
                ":next_retry": placed.next_retry.map(|at| at.as_millisecond()), ":done": as_i64(placed.done)?,
                ":problem": placed.problem.as_ref().map(to_json).transpose()?,
                ":changed": placed.changed.map(|at| at.as_millisecond()),
                ":package": placed.package.as_str(), ":point": placed.point_id,
            },
        )?;
        match placed.state {
            ContentState::Success => {
                self.point_holds(&placed.package, placed.point_id, placed.changed.unwrap_or(placed.at))
            }
            ContentState::Removing => self.point_lets_go(&placed.package, placed.point_id),
            _ => Ok(()),
        }
    }

    /// Makes a group.
    pub fn create_point_group(&self, name: &str) -> Result<(), SchemaError> {
        self.is_no_point_or_group(name)?;
        self.execute("INSERT INTO point_group (name) VALUES (?1)", [name])?;
        Ok(())
    }

    /// Forgets a group. Its points keep what they hold.
    pub fn delete_point_group(&self, group: i64) -> Result<(), SchemaError> {
        self.execute("DELETE FROM point_group WHERE group_id = ?1", [group])?;
        Ok(())
    }

    /// Puts a point into a group.
    pub fn join_point_group(&self, group: i64, point: i64) -> Result<(), SchemaError> {
        self.execute(
            "INSERT INTO point_group_member (group_id, point_id) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            (group, point),
        )?;
        Ok(())
    }

    /// Takes a point out of a group. It keeps what it holds.
    pub fn leave_point_group(&self, group: i64, point: i64) -> Result<(), SchemaError> {
        self.execute("DELETE FROM point_group_member WHERE group_id = ?1 AND point_id = ?2", (group, point))?;
        Ok(())
    }

    /// Remembers that a package was sent to a group, for points that join later; or that it no longer is.
    pub fn put_group_package(&self, group: i64, package: &PackageId, there: bool) -> Result<(), SchemaError> {
        let sql = if there {
            "INSERT INTO point_group_package (group_id, package_id) VALUES (?1, ?2) ON CONFLICT DO NOTHING"
        } else {
            "DELETE FROM point_group_package WHERE group_id = ?1 AND package_id = ?2"
        };
        self.execute(sql, (group, package.as_str()))?;
        Ok(())
    }
}
