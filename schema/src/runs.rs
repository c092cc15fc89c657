//! Synchronisation runs.

use catalog::id::RunId;
use catalog::problem::Problem;
use jiff::Timestamp;
use rusqlite::{Row, named_params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::column::{json, text, time, time_or_none, to_json};
use crate::{Reader, SchemaError, Writer, words};

words! {
    /// How a run ended.
    RunState {
        /// It has not.
        Running = "running",
        /// Every catalog is recorded.
        Succeeded = "succeeded",
        /// Some catalogs are.
        Partly = "partly",
        /// None is.
        Failed = "failed",
        /// Its process ended first.
        Interrupted = "interrupted",
    }
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its number.
    pub id: RunId,
    /// `full` or `delta`.
    pub kind: String,
    /// How it ended.
    pub state: RunState,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// What it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Value>,
    /// Why it failed, or did not do all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

fn run(row: &Row<'_>) -> Result<Run, SchemaError> {
    Ok(Run {
        id: RunId(row.get("run_id")?),
        kind: row.get("kind")?,
        state: text(row, "state")?,
        started: time(row, "started")?,
        finished: time_or_none(row, "finished")?,
        report: json(row, "report")?,
        problem: json(row, "problem")?,
    })
}

impl Reader<'_> {
    /// The newest runs first.
    pub fn runs(&self, limit: u32) -> Result<Vec<Run>, SchemaError> {
        self.all("SELECT * FROM run ORDER BY run_id DESC LIMIT ?1", [limit], run)
    }

    /// One run.
    pub fn run(&self, id: RunId) -> Result<Option<Run>, SchemaError> {
        self.first("SELECT * FROM run WHERE run_id = ?1", [id.0], run)
    }

    /// The last run that was not in vain: what was set aside, or one source of several, may be missing.
    pub fn last_synchronised_run(&self) -> Result<Option<Run>, SchemaError> {
        const SQL: &str =
            "SELECT * FROM run WHERE state IN ('succeeded', 'partly') ORDER BY run_id DESC LIMIT 1";
        self.first(SQL, [], run)
    }

    /// The last run that recorded every catalog.
    pub fn last_ok_run(&self) -> Result<Option<Run>, SchemaError> {
        self.first("SELECT * FROM run WHERE state = 'succeeded' ORDER BY run_id DESC LIMIT 1", [], run)
    }
}

/// Runs older than the newest so many are forgotten: more than a year of one every hour. The last one that went well stays.
pub(crate) const KEPT: i64 = 10_000;

impl Writer<'_> {
    /// Adds a running run.
    pub fn begin_run(&self, kind: &str, now: Timestamp) -> Result<RunId, SchemaError> {
        self.execute(
            "INSERT INTO run (kind, state, started) VALUES (?1, 'running', ?2)",
            (kind, now.as_millisecond()),
        )?;
        let id = self.last_id();
        self.execute(
            "DELETE FROM run WHERE run_id <= ?1 AND state <> 'running' AND run_id <> coalesce(
                (SELECT max(ok.run_id) FROM run AS ok WHERE ok.state = 'succeeded'), 0)",
            [id - KEPT],
        )?;
        Ok(RunId(id))
    }

    /// Ends a run.
    pub fn finish_run(
        &self,
        id: RunId,
        state: RunState,
        now: Timestamp,
        report: Option<&Value>,
        problem: Option<&Problem>,
    ) -> Result<(), SchemaError> {
        self.execute(
            "UPDATE run SET state = :state, finished = :now, report = :report, problem = :problem WHERE run_id = :id",
            named_params! {
                ":id": id.0,
                ":state": state.to_string(),
                ":now": now.as_millisecond(),
                ":report": report.map(to_json).transpose()?,
                ":problem": problem.map(to_json).transpose()?,
            },
        )?;
        Ok(())
    }
}
