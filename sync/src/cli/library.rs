//! `spsync app …`, `spsync collection …`, `spsync settings …`.

use std::path::PathBuf;

use catalog::problem::{Code, Problem};
use clap::Subcommand;
use schema::collections::{Collection as CollectionRow, SettingsRow};
use schema::software::AppRow;
use serde_json::Value;

use super::output::{Rows, safe, size, when};
use super::ts::{id_of, key_value, say};
use super::{Global, Output, connect};
use crate::admin::Request;
use crate::config::Loaded;
use crate::points::Distributed;
use crate::software::apps::LARGEST_FORM;
use crate::software::places::Kind;
use crate::software::windows::{NewWindow, ShownWindow};
use crate::software::{SoftwareRequest, settings::Effective};

/// Applications
#[derive(Debug, Subcommand)]
pub enum App {
    /// Add an application from its form; the files that the form names lie beside it
    Add {
        /// The form, TOML
        form: PathBuf,
    },
    /// List applications
    List,
    /// Show an application
    Show {
        /// Id or name
        app: String,
    },
    /// Send its content to distribution points
    Distribute {
        /// Id or name
        app: String,
        /// A distribution point or group, or `all`; the site's own if not given; repeat for more
        #[arg(long, value_name = "DP|GROUP")]
        to: Vec<String>,
    },
    /// Take its content off distribution points
    Withdraw {
        /// Id or name
        app: String,
        /// A distribution point or group; all if not given; repeat for more
        #[arg(long, value_name = "DP|GROUP")]
        from: Vec<String>,
    },
    /// Retire an application: no task sequence may install it any more
    Retire {
        /// Id or name
        app: String,
    },
}

impl App {
    pub(super) async fn run(
        self,
        settings: &Loaded,
        global: &Global,
        output: &Output,
    ) -> Result<u8, Problem> {
        let request = match self {
            Self::Add { form } => {
                let path = std::path::absolute(&form).unwrap_or(form);
                let text = super::ts::read_small(&path, LARGEST_FORM)?;
                let folder = path.parent().map(PathBuf::from).unwrap_or_default();
                SoftwareRequest::AppAdd { form: text, folder }
            }
            Self::List => {
                let body = call(SoftwareRequest::AppList, settings, global, output).await?;
                let all: Vec<AppRow> = serde_json::from_value(body.clone()).unwrap_or_default();
                let mut table = Rows::new(&["ID", "NAME", "VERSION", "FILES", "SIZE", "STATE"]);
                for row in &all {
                    let bytes = row.files.iter().map(|file| file.size).sum();
                    let state = match (row.retired, row.form["enabled"].as_bool()) {
                        (true, _) => "retired",
                        (_, Some(false)) => "disabled",
                        _ => "enabled",
                    };
                    table.push([
                        row.id.to_string(),
                        safe(&row.name),
                        safe(row.form["version"].as_str().unwrap_or_default()),
                        row.files.len().to_string(),
                        size(bytes),
                        state.to_owned(),
                    ]);
                }
                let none = "no applications yet: spsync app add FILE.toml";
                output.list(&body, &all, |row| row.id.to_string(), table, none);
                return Ok(0);
            }
            Self::Show { app } => SoftwareRequest::AppShow { app },
            Self::Distribute { app, to } => {
                let request = SoftwareRequest::Distribute { kind: Kind::App, name: app, to };
                return places(request, settings, global, output).await;
            }
            Self::Withdraw { app, from } => {
                let request = SoftwareRequest::Withdraw { kind: Kind::App, name: app, from };
                return places(request, settings, global, output).await;
            }
            Self::Retire { app } => SoftwareRequest::AppRetire { app },
        };
        let body = call(request, settings, global, output).await?;
        output.one(&body, id_of, |output| say(&body, output));
        Ok(0)
    }
}

/// Sends to points, or takes off them.
pub(super) async fn places(
    request: SoftwareRequest,
    settings: &Loaded,
    global: &Global,
    output: &Output,
) -> Result<u8, Problem> {
    let called = connect::call::<Value>(settings, global, output, Request::Software(request)).await?;
    let name = |body: &Value| body["package"].as_str().unwrap_or_default().to_owned();
    output.one(&called.body, name, |output| {
        let distributed = serde_json::from_value(called.body.clone());
        let all = serde_json::from_value::<Vec<Distributed>>(called.body["distributed"].clone());
        match (distributed, all) {
            (Ok(one), _) => super::package::show_distributed(&one, output),
            (_, Ok(all)) => all.iter().for_each(|one| super::package::show_distributed(one, output)),
            _ => say(&called.body, output),
        }
    });
    Ok(called.finish(output))
}

/// Maintenance windows of collections
#[derive(Debug, Subcommand)]
pub enum CollectionWindow {
    /// Make a window, or replace the one of this name: required deployments begin within it only
    Add {
        /// Name of the collection
        collection: String,
        /// Name of the window
        name: String,
        /// When it begins: a cron line, as "0 22 * * sat"
        #[arg(long, value_name = "CRON", required_unless_present = "once", conflicts_with = "once")]
        begins: Option<String>,
        /// When it begins, if it comes once
        #[arg(long, value_name = "TIME", value_parser = super::deploy::time)]
        once: Option<jiff::Timestamp>,
        /// How long it is: 90m, 4h
        #[arg(long = "for", value_name = "TIME", value_parser = crate::config::parse_duration)]
        long: std::time::Duration,
        /// The time zone of the cron line; [sync] timezone if not given
        #[arg(long, value_name = "ZONE")]
        zone: Option<String>,
    },
    /// List windows, of all collections or of one
    List {
        /// Name of the collection
        collection: Option<String>,
    },
    /// Remove a window
    Remove {
        /// Name of the collection
        collection: String,
        /// Name of the window
        name: String,
    },
}

impl CollectionWindow {
    async fn run(self, settings: &Loaded, global: &Global, output: &Output) -> Result<u8, Problem> {
        let request = match self {
            Self::List { collection } => {
                let request = SoftwareRequest::WindowList { collection };
                let body = call(request, settings, global, output).await?;
                let all: Vec<ShownWindow> = serde_json::from_value(body.clone()).unwrap_or_default();
                let mut table = Rows::new(&["COLLECTION", "NAME", "BEGINS", "MINUTES", "ZONE", "NEXT"]);
                for one in &all {
                    let begins = one.row.once.map_or_else(|| safe(&one.row.begins), when);
                    let next = one.next.map_or_else(|| "never".to_owned(), |window| when(window.from));
                    table.push([
                        safe(&one.row.collection),
                        safe(&one.row.name),
                        begins,
                        one.row.minutes.to_string(),
                        safe(&one.row.zone),
                        next,
                    ]);
                }
                let none = "no maintenance windows: required deployments begin at any time";
                output.list(&body, &all, |one| one.row.name.clone(), table, none);
                return Ok(0);
            }
            Self::Add { collection, name, begins, once, long, zone } => {
                let minutes = u32::try_from(long.as_secs().div_ceil(60)).unwrap_or(u32::MAX);
                SoftwareRequest::WindowAdd(NewWindow { collection, name, begins, once, minutes, zone })
            }
            Self::Remove { collection, name } => SoftwareRequest::WindowRemove { collection, name },
        };
        let body = call(request, settings, global, output).await?;
        let name = |body: &Value| body["name"].as_str().unwrap_or_default().to_owned();
        output.one(&body, name, |output| say(&body, output));
        Ok(0)
    }
}

/// Collections of devices
#[derive(Debug, Subcommand)]
pub enum Collection {
    /// Make an empty collection
    Create {
        /// Its name, at most 50 characters, unique
        name: String,
    },
    /// List collections
    List,
    /// Show a collection with its devices
    Show {
        /// Its name
        name: String,
    },
    /// Put devices in
    Add {
        /// Name of the collection
        name: String,
        /// Names of devices
        #[arg(required = true)]
        devices: Vec<String>,
    },
    /// Take devices out
    Remove {
        /// Name of the collection
        name: String,
        /// Names of devices
        #[arg(required = true)]
        devices: Vec<String>,
    },
    /// Maintenance windows
    #[command(subcommand)]
    Window(CollectionWindow),
}

impl Collection {
    pub(super) async fn run(
        self,
        settings: &Loaded,
        global: &Global,
        output: &Output,
    ) -> Result<u8, Problem> {
        let request = match self {
            Self::Window(verb) => return verb.run(settings, global, output).await,
            Self::Create { name } => SoftwareRequest::CollectionCreate { name },
            Self::List => {
                let body = call(SoftwareRequest::CollectionList, settings, global, output).await?;
                let all: Vec<CollectionRow> = serde_json::from_value(body.clone()).unwrap_or_default();
                let mut table = Rows::new(&["NAME", "DEVICES"]);
                for row in &all {
                    let count = if row.built_in { "all".to_owned() } else { row.devices.len().to_string() };
                    table.push([safe(&row.name), count]);
                }
                output.list(
                    &body,
                    &all,
                    |row| row.name.clone(),
                    table,
                    "no collections yet: spsync collection create NAME",
                );
                return Ok(0);
            }
            Self::Show { name } => SoftwareRequest::CollectionShow { name },
            Self::Add { name, devices } => SoftwareRequest::CollectionChange { name, devices, add: true },
            Self::Remove { name, devices } => SoftwareRequest::CollectionChange { name, devices, add: false },
        };
        let created = matches!(request, SoftwareRequest::CollectionCreate { .. });
        let body = call(request, settings, global, output).await?;
        output.one(
            &body,
            |body| body["name"].as_str().unwrap_or_default().to_owned(),
            |output| match serde_json::from_value::<CollectionRow>(body.clone()) {
                Ok(row) if created => output.line(format!("created collection `{}`", safe(&row.name))),
                Ok(row) => show_collection(&row, output),
                Err(_) => say(&body, output),
            },
        );
        Ok(0)
    }
}

fn show_collection(row: &CollectionRow, output: &Output) {
    let grows = if row.built_in { ": every device, also those to come" } else { "" };
    output.line(format!("`{}`, {} devices{grows}", safe(&row.name), row.devices.len()));
    row.devices.iter().for_each(|device| output.line(format!("  {}", safe(device))));
}

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
        /// delta_port=PORT, priority=N, collection=A,B; an empty value takes a setting back
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
                let body = call(SoftwareRequest::SettingsList, settings, global, output).await?;
                let all: Vec<SettingsRow> = serde_json::from_value(body.clone()).unwrap_or_default();
                let mut table = Rows::new(&["NAME", "PRIORITY", "COLLECTIONS", "SETTINGS"]);
                for row in &all {
                    let chosen: Vec<String> =
                        row.chosen.as_object().into_iter().flatten().map(said).collect();
                    let told = if row.priority.is_none() {
                        "everybody".to_owned()
                    } else {
                        row.collections.join(", ")
                    };
                    let priority = row.priority.map_or_else(|| "-".to_owned(), |number| number.to_string());
                    table.push([safe(&row.name), priority, safe(&told), safe(&chosen.join(" "))]);
                }
                output.list(&body, &all, |row| row.name.clone(), table, "there are no client settings");
                return Ok(0);
            }
            Self::Effective { client } => {
                let body =
                    call(SoftwareRequest::SettingsEffective { device: client }, settings, global, output)
                        .await?;
                let all: Vec<Effective> = serde_json::from_value(body.clone()).unwrap_or_default();
                let mut table = Rows::new(&["SETTING", "VALUE", "FROM", "PRIORITY"]);
                for one in &all {
                    let priority = one.priority.map_or_else(|| "-".to_owned(), |number| number.to_string());
                    table.push([one.setting.clone(), safe(&one.value), safe(&one.from), priority]);
                }
                output.list(&body, &all, |one| one.setting.clone(), table, "it is told nothing");
                return Ok(0);
            }
            Self::Show { name } => SoftwareRequest::SettingsShow { name },
            Self::Set { name, changes } => SoftwareRequest::SettingsSet { name, changes },
        };
        let body = call(request, settings, global, output).await?;
        let changed = body.get("settings");
        let row = serde_json::from_value::<SettingsRow>(changed.unwrap_or(&body).clone());
        output.one(
            &body,
            |body| changed.unwrap_or(body)["name"].as_str().unwrap_or_default().to_owned(),
            |output| match &row {
                Ok(row) => {
                    show_settings(row, output);
                    if let Some(note) = body["note"].as_str() {
                        output.line(format!("  note: {}", safe(note)));
                    }
                    if body["dry_run"].as_bool() == Some(true) {
                        output.line("nothing is changed (--dry-run)");
                    }
                }
                Err(_) => say(&body, output),
            },
        );
        Ok(0)
    }
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

async fn call(
    request: SoftwareRequest,
    settings: &Loaded,
    global: &Global,
    output: &Output,
) -> Result<Value, Problem> {
    let called = connect::call::<Value>(settings, global, output, Request::Software(request)).await?;
    match called.problem {
        Some(problem) if problem.code == Code::Internal => Err(problem),
        _ => Ok(called.body),
    }
}
