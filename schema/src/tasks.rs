//! Tasks: long work, as everybody sees it.

use catalog::id::TaskId;
use catalog::problem::{Code, Problem};
use jiff::Timestamp;
use rusqlite::{Row, named_params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::column::{json, text, time, time_or_none, to_json};
use crate::{Reader, SchemaError, Writer, words};

words! {
    /// How a task is doing.
    TaskState {
        /// It works.
        Running = "running",
        /// It has an answer.
        Done = "done",
        /// It has none, and says why.
        Failed = "failed",
        /// Somebody ended it.
        Cancelled = "cancelled",
        /// Its process ended first.
        Interrupted = "interrupted",
    }
}

words! {
    /// What a phase counts.
    Unit {
        /// Things.
        Items = "items",
        /// Bytes.
        Bytes = "bytes",
    }
}

/// A part of the work, with how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// Its name, unique in the task.
    pub name: String,
    /// How much is done.
    pub done: u64,
    /// How much there is; 0 where that is not known.
    pub total: u64,
    /// What is counted.
    pub unit: Unit,
    /// Nothing more will happen.
    pub ended: bool,
    /// A remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Default for Phase {
    fn default() -> Self {
        Self { name: String::new(), done: 0, total: 0, unit: Unit::Items, ended: false, message: None }
    }
}

/// One piece of long work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its number.
    pub id: TaskId,
    /// What sort of work.
    pub kind: String,
    /// For people.
    pub title: String,
    /// How it is doing.
    pub state: TaskState,
    /// When it began.
    pub created: Timestamp,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// How far it is.
    pub phases: Vec<Phase>,
    /// The answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why there is none, or not all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

fn task(row: &Row<'_>) -> Result<Task, SchemaError> {
    Ok(Task {
        id: TaskId(row.get("task_id")?),
        kind: row.get("kind")?,
        title: row.get("title")?,
        state: text(row, "state")?,
        created: time(row, "created")?,
        finished: time_or_none(row, "finished")?,
        phases: json(row, "phases")?.unwrap_or_default(),
        result: json(row, "result")?,
        problem: json(row, "problem")?,
    })
}

impl Reader<'_> {
    /// The newest tasks first.
    pub fn tasks(&self, limit: u32) -> Result<Vec<Task>, SchemaError> {
        self.all("SELECT * FROM task ORDER BY task_id DESC LIMIT ?1", [limit], task)
    }

    /// One task.
    pub fn task(&self, id: TaskId) -> Result<Option<Task>, SchemaError> {
        self.first("SELECT * FROM task WHERE task_id = ?1", [id.0], task)
    }
}

/// Tasks older than the newest so many are forgotten.
pub(crate) const KEPT: i64 = 1_000;

impl Writer<'_> {
    /// Adds a running task.
    pub fn begin_task(&self, kind: &str, title: &str, now: Timestamp) -> Result<Task, SchemaError> {
        self.execute(
            "INSERT INTO task (kind, title, state, created, phases) VALUES (?1, ?2, 'running', ?3, '[]')",
            (kind, title, now.as_millisecond()),
        )?;
        let id = TaskId(self.last_id());
        self.execute("DELETE FROM task WHERE task_id <= ?1 AND state <> 'running'", [id.0 - KEPT])?;
        self.task(id)?.ok_or_else(|| SchemaError::Value("the task just added".to_owned()))
    }

    /// Ends a task; one that has ended already stays as it is.
    pub fn end_task(&self, task: &Task) -> Result<(), SchemaError> {
        self.execute(
            "UPDATE task SET state = :state, finished = :finished, phases = :phases, result = :result,
                    problem = :problem WHERE task_id = :id AND state = 'running'",
            named_params! {
                ":id": task.id.0,
                ":state": task.state.to_string(),
                ":finished": task.finished.map(Timestamp::as_millisecond),
                ":phases": to_json(&task.phases)?,
                ":result": task.result.as_ref().map(to_json).transpose()?,
                ":problem": task.problem.as_ref().map(to_json).transpose()?,
            },
        )?;
        Ok(())
    }

    /// Writes how far a task is; one that has ended meanwhile is left as it is.
    pub fn update_progress(&self, task: &Task) -> Result<(), SchemaError> {
        let phases = to_json(&task.phases)?;
        self.execute(
            "UPDATE task SET phases = ?2 WHERE task_id = ?1 AND state = 'running'",
            (task.id.0, phases),
        )?;
        Ok(())
    }

    /// Marks what a dead process left running: tasks and runs. Answers how many there were.
    pub fn mark_interrupted(&self, now: Timestamp) -> Result<usize, SchemaError> {
        let problem = Problem::new(Code::Interrupted, "the process that worked on it ended");
        let problem = to_json(&problem)?;
        let tasks = self.execute(
            "UPDATE task SET state = 'interrupted', finished = ?1, problem = ?2 WHERE state = 'running'",
            (now.as_millisecond(), &problem),
        )?;
        let runs = self.execute(
            "UPDATE run SET state = 'interrupted', finished = ?1, problem = ?2 WHERE state = 'running'",
            (now.as_millisecond(), &problem),
        )?;
        Ok(tasks + runs)
    }
}
