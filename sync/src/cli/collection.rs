//! `spsync collection …`.

use catalog::problem::Problem;
use clap::Subcommand;
use schema::collections::Collection as CollectionRow;
use serde_json::Value;

use super::connect::software;
use super::output::{Rows, safe, when};
use super::said::{name_of, read, say};
use super::{Global, Output, connect};
use crate::config::Loaded;
use crate::software::SoftwareRequest;
use crate::software::windows::{NewWindow, ShownWindow};
use crate::words::counted;

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
                let called = software(SoftwareRequest::CollectionList, settings, global, output).await?;
                list(&called.body, output)?;
                return Ok(called.finish(output));
            }
            Self::Show { name } => SoftwareRequest::CollectionShow { name },
            Self::Add { name, devices } => SoftwareRequest::CollectionChange { name, devices, add: true },
            Self::Remove { name, devices } => SoftwareRequest::CollectionChange { name, devices, add: false },
        };
        let created = matches!(request, SoftwareRequest::CollectionCreate { .. });
        let called = software(request, settings, global, output).await?;
        output.one(&called.body, name_of, |output| match read::<CollectionRow>(&called.body) {
            Some(row) if created => output.line(format!("created collection `{}`", safe(&row.name))),
            Some(row) => show_collection(&row, output),
            None => say(&called.body, output),
        });
        Ok(called.finish(output))
    }
}

pub(super) fn list(body: &Value, output: &Output) -> Result<(), Problem> {
    let all: Vec<CollectionRow> = connect::expected(body.clone())?;
    let mut table = Rows::new(&["NAME", "DEVICES"]);
    for row in &all {
        let count = if row.built_in { "all".to_owned() } else { row.devices.len().to_string() };
        table.push([safe(&row.name), count]);
    }
    let none = "no collections yet: spsync collection create NAME";
    output.list(body, &all, |row| row.name.clone(), table, none);
    Ok(())
}

fn show_collection(row: &CollectionRow, output: &Output) {
    let grows = if row.built_in { ": every device, also those to come" } else { "" };
    output.line(format!("`{}`, {}{grows}", safe(&row.name), counted(row.devices.len(), "device")));
    row.devices.iter().for_each(|device| output.line(format!("  {}", safe(device))));
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
                let called = software(request, settings, global, output).await?;
                windows(&called.body, output)?;
                return Ok(called.finish(output));
            }
            Self::Add { collection, name, begins, once, long, zone } => {
                let minutes = u32::try_from(long.as_secs().div_ceil(60)).unwrap_or(u32::MAX);
                SoftwareRequest::WindowAdd(NewWindow { collection, name, begins, once, minutes, zone })
            }
            Self::Remove { collection, name } => SoftwareRequest::WindowRemove { collection, name },
        };
        let called = software(request, settings, global, output).await?;
        output.one(&called.body, name_of, |output| say(&called.body, output));
        Ok(called.finish(output))
    }
}

pub(super) fn windows(body: &Value, output: &Output) -> Result<(), Problem> {
    let all: Vec<ShownWindow> = connect::expected(body.clone())?;
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
    output.list(body, &all, |one| one.row.name.clone(), table, none);
    Ok(())
}
