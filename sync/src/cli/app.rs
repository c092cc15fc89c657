//! `spsync app …`, and what is asked of software by its other nouns.

use std::path::PathBuf;

use catalog::problem::Problem;
use clap::Subcommand;
use schema::software::AppRow;
use serde_json::Value;

use super::arguments::{absolute, read_small};
use super::connect::software;
use super::output::{Rows, safe, size};
use super::said::{id_of, say};
use super::{Global, Output, connect};
use crate::config::Loaded;
use crate::points::Distributed;
use crate::software::SoftwareRequest;
use crate::software::apps::LARGEST_FORM;
use crate::software::places::Kind;

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
                let path = absolute(form);
                let text = read_small(&path, LARGEST_FORM)?;
                let folder = path.parent().map(PathBuf::from).unwrap_or_default();
                SoftwareRequest::AppAdd { form: text, folder }
            }
            Self::List => {
                let called = software(SoftwareRequest::AppList, settings, global, output).await?;
                list(&called.body, output)?;
                return Ok(called.finish(output));
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
        let called = software(request, settings, global, output).await?;
        output.one(&called.body, id_of, |output| say(&called.body, output));
        Ok(called.finish(output))
    }
}

pub(super) fn list(body: &Value, output: &Output) -> Result<(), Problem> {
    let all: Vec<AppRow> = connect::expected(body.clone())?;
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
    output.list(body, &all, |row| row.id.to_string(), table, none);
    Ok(())
}

/// Sends to points, or takes off them.
pub(super) async fn places(
    request: SoftwareRequest,
    settings: &Loaded,
    global: &Global,
    output: &Output,
) -> Result<u8, Problem> {
    let called = software(request, settings, global, output).await?;
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
