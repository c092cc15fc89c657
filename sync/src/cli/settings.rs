//! `spsync settings …`: client settings.

use catalog::problem::Problem;
use clap::Subcommand;
use schema::collections::SettingsRow;
use serde_json::Value;

use super::arguments::key_value;
use super::connect::software;
use super::output::{Rows, safe};
use super::said::{name_of, read, say};
use super::{Global, Output, connect};
use crate::config::Loaded;
use crate::software::{SoftwareRequest, settings::Effective};

/// Client settings
#[derive(Debug, Subcommand)]
pub enum Settings {
    /// List client settings, the strongest first
    List,
    /// Show the client settings of one name
    Show {
        /// Their name
        name: String,
    },
    /// Change client settings, or make new ones where a priority is given
    Set {
        /// Their name; `default` is told to everybody
        name: String,
        /// thread_priority=not-configured|normal|low, dynamic_update=not-configured|yes|no, delta_content=yes|no,
        /// delta_port=PORT (for clients that have one; this program's has none), priority=N, collection=A,B; an empty value takes a setting back
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = key_value)]
        changes: Vec<(String, String)>,
    },
    /// Show what a device is told, and by which settings
    Effective {
        /// Name of the device
        #[arg(long)]
        client: String,
    },
}

impl Settings {
    pub(super) async fn run(
        self,
        settings: &Loaded,
        global: &Global,
        output: &Output,
    ) -> Result<u8, Problem> {
        let request = match self {
            Self::List => {
                let called = software(SoftwareRequest::SettingsList, settings, global, output).await?;
                list(&called.body, output)?;
                return Ok(called.finish(output));
            }
            Self::Effective { client } => {
                let request = SoftwareRequest::SettingsEffective { device: client };
                let called = software(request, settings, global, output).await?;
                effective(&called.body, output)?;
                return Ok(called.finish(output));
            }
            Self::Show { name } => SoftwareRequest::SettingsShow { name },
            Self::Set { name, changes } => SoftwareRequest::SettingsSet { name, changes },
        };
        let called = software(request, settings, global, output).await?;
        let body = &called.body;
        let told = body.get("settings").unwrap_or(body);
        output.one(
            body,
            |_| name_of(told),
            |output| match read::<SettingsRow>(told) {
                Some(row) => {
                    show_settings(&row, output);
                    if let Some(note) = body["note"].as_str() {
                        output.line(format!("  note: {}", safe(note)));
                    }
                    if body["dry_run"].as_bool() == Some(true) {
                        output.line("nothing is changed (--dry-run)");
                    }
                }
                None => say(body, output),
            },
        );
        Ok(called.finish(output))
    }
}

pub(super) fn list(body: &Value, output: &Output) -> Result<(), Problem> {
    let all: Vec<SettingsRow> = connect::expected(body.clone())?;
    let mut table = Rows::new(&["NAME", "PRIORITY", "COLLECTIONS", "SETTINGS"]);
    for row in &all {
        let chosen: Vec<String> = row.chosen.as_object().into_iter().flatten().map(said).collect();
        let told = if row.priority.is_none() { "everybody".to_owned() } else { row.collections.join(", ") };
        let priority = row.priority.map_or_else(|| "-".to_owned(), |number| number.to_string());
        table.push([safe(&row.name), priority, safe(&told), safe(&chosen.join(" "))]);
    }
    output.list(body, &all, |row| row.name.clone(), table, "there are no client settings");
    Ok(())
}

pub(super) fn effective(body: &Value, output: &Output) -> Result<(), Problem> {
    let all: Vec<Effective> = connect::expected(body.clone())?;
    let mut table = Rows::new(&["SETTING", "VALUE", "FROM", "PRIORITY"]);
    for one in &all {
        let priority = one.priority.map_or_else(|| "-".to_owned(), |number| number.to_string());
        table.push([one.setting.clone(), safe(&one.value), safe(&one.from), priority]);
    }
    output.list(body, &all, |one| one.setting.clone(), table, "it is told nothing");
    Ok(())
}

fn show_settings(row: &SettingsRow, output: &Output) {
    let told = match row.priority {
        None => "told to everybody, and loses to all others".to_owned(),
        Some(priority) => format!("priority {priority}, told to {}", safe(&row.collections.join(", "))),
    };
    output.line(format!("`{}`: {told}", safe(&row.name)));
    let chosen: Vec<String> = row.chosen.as_object().into_iter().flatten().map(said).collect();
    output.line(if chosen.is_empty() {
        "  nothing is set".to_owned()
    } else {
        format!("  {}", safe(&chosen.join(" ")))
    });
}

fn said((key, value): (&String, &Value)) -> String {
    format!("{key}={}", value.as_str().unwrap_or_default())
}
