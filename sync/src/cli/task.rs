//! `spsync task …`.

use catalog::problem::Problem;
use clap::Subcommand;
use schema::tasks::Task as Record;
use serde_json::Value;

use super::arguments::number;
use super::output::{Rows, newest, safe, when};
use super::progress::amount;
use super::{Global, Output, connect};
use crate::admin::Request;
use crate::config::Loaded;

/// Long work: list, watch, cancel
#[derive(Debug, Subcommand)]
pub enum Task {
    /// List tasks, newest first
    List {
        /// How many
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// Show a task, as far as it is
    Show {
        /// Its number
        #[arg(value_parser = number)]
        task: i64,
    },
    /// Wait for a task and end with its result
    Wait {
        /// Its number
        #[arg(value_parser = number)]
        task: i64,
    },
    /// Cancel a task; what it received and recorded is kept
    Cancel {
        /// Its number
        #[arg(value_parser = number)]
        task: i64,
    },
}

impl Task {
    pub(super) async fn run(
        self,
        settings: &Loaded,
        global: &Global,
        output: &Output,
    ) -> Result<u8, Problem> {
        let request = match self {
            Self::List { limit } => {
                let tasks = connect::call::<Vec<Record>>(
                    settings,
                    global,
                    output,
                    Request::TaskList { limit: limit.saturating_add(1) },
                )
                .await?
                .body;
                let (tasks, more) = newest(tasks, limit);
                let mut rows = Rows::new(&["TASK", "KIND", "TITLE", "STATE", "STARTED", "PROBLEM"]);
                for task in &tasks {
                    let problem = task.problem.as_ref().map_or_else(String::new, |p| p.code.to_string());
                    rows.push([
                        task.id.to_string(),
                        task.kind.clone(),
                        safe(&task.title),
                        task.state.to_string(),
                        when(task.created),
                        problem,
                    ]);
                }
                output.list(&tasks, &tasks, |task| task.id.to_string(), rows, "there are no tasks");
                output.some_older(more, "--limit");
                return Ok(0);
            }
            Self::Wait { task } => {
                let called =
                    connect::call::<Value>(settings, global, output, Request::TaskWait { task }).await?;
                output.one(
                    &called.body,
                    |_| task.to_string(),
                    |output| output.line(format!("task {task} is done")),
                );
                return Ok(called.finish(output));
            }
            Self::Show { task } => Request::TaskShow { task },
            Self::Cancel { task } => Request::TaskCancel { task },
        };
        let task = connect::call::<Record>(settings, global, output, request).await?.body;
        output.one(
            &task,
            |task| task.id.to_string(),
            |output| {
                output.line(format!(
                    "task {} ({}): {}, {}, started {}",
                    task.id,
                    task.kind,
                    safe(&task.title),
                    task.state,
                    when(task.created)
                ));
                for phase in &task.phases {
                    let message =
                        phase.message.as_ref().map_or_else(String::new, |text| format!(", {}", safe(text)));
                    output.line(format!(
                        "  {}: {} {}{}",
                        safe(&phase.name),
                        amount(phase, |number| number.to_string()),
                        phase.unit,
                        message
                    ));
                }
                if let Some(problem) = &task.problem {
                    output.line(format!("  {}", safe(&problem.to_string())));
                }
            },
        );
        Ok(0)
    }
}
