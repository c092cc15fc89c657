//! On a distribution point's own machine: what its site asked of it last, and how far that is.

use catalog::id::PackageId;
use catalog::problem::Problem;
use jiff::Timestamp;
use rusqlite::named_params;
use serde::{Deserialize, Serialize};

use crate::column::{json, text, time, to_json};
use crate::points::ContentState;
use crate::{Reader, SchemaError, Writer};

/// The work for one package, when it is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedWork {
    /// The package.
    pub package: PackageId,
    /// The order that was carried out.
    pub order: u64,
    /// How it ended: success, failed or warning.
    pub state: ContentState,
    /// Why not well.
    pub problem: Option<Problem>,
}

impl Reader<'_> {
    /// The last assignment: its tag and its JSON.
    pub fn assignment(&self) -> Result<Option<(String, String)>, SchemaError> {
        self.first("SELECT etag, body FROM assignment", [], |row| Ok((row.get("etag")?, row.get("body")?)))
    }

    /// When the site said last that it is as it is, in time that this machine has seen go by.
    pub fn assignment_received(&self) -> Result<Option<Timestamp>, SchemaError> {
        self.first("SELECT received FROM assignment", [], |row| time(row, "received"))
    }

    /// All work that is over.
    pub fn assigned_work(&self) -> Result<Vec<AssignedWork>, SchemaError> {
        self.all("SELECT * FROM assigned_work ORDER BY package_id", [], |row| {
            Ok(AssignedWork {
                package: text(row, "package_id")?,
                order: crate::column::size(row, "work_order")?,
                state: text(row, "state")?,
                problem: json(row, "problem")?,
            })
        })
    }
}

impl Writer<'_> {
    /// The site has said that the last assignment is as it was.
    pub fn assignment_is_good(&self, now: Timestamp) -> Result<(), SchemaError> {
        self.execute("UPDATE assignment SET received = ?1", [now.as_millisecond()])?;
        Ok(())
    }

    /// The same assignment, in other words: what stands beside the packages is another.
    pub fn record_assignment_text(&self, body: &str, now: Timestamp) -> Result<(), SchemaError> {
        self.execute("UPDATE assignment SET body = ?1, received = ?2", (body, now.as_millisecond()))?;
        Ok(())
    }

    /// Remembers what the site asks now. Of packages that it no longer names nothing is remembered.
    pub fn record_assignment(
        &self,
        etag: &str,
        body: &str,
        packages: &[PackageId],
        now: Timestamp,
    ) -> Result<(), SchemaError> {
        self.execute(
            "INSERT INTO assignment (only, etag, body, received) VALUES (1, ?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET etag = excluded.etag, body = excluded.body, received = excluded.received",
            (etag, body, now.as_millisecond()),
        )?;
        for work in self.assigned_work()? {
            if !packages.contains(&work.package) {
                self.execute("DELETE FROM assigned_work WHERE package_id = ?1", [work.package.as_str()])?;
            }
        }
        Ok(())
    }

    /// Remembers how the work for a package ended.
    pub fn record_assigned_work(&self, work: &AssignedWork) -> Result<(), SchemaError> {
        self.execute(
            "INSERT INTO assigned_work (package_id, work_order, state, problem) VALUES (:package, :order, :state, :problem)
             ON CONFLICT DO UPDATE SET work_order = excluded.work_order, state = excluded.state, problem = excluded.problem",
            named_params! {
                ":package": work.package.as_str(), ":order": crate::column::as_i64(work.order)?,
                ":state": work.state.to_string(),
                ":problem": work.problem.as_ref().map(to_json).transpose()?,
            },
        )?;
        Ok(())
    }
}
