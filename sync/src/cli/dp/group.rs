//! `spsync dp group …`.

use catalog::problem::Problem;
use clap::Subcommand;
use schema::points::PointGroup;
use serde_json::Value;

use super::super::output::{Rows, safe};
use super::super::said::show_value;
use super::super::{Global, Output, confirm, connect};
use super::verb;
use crate::admin::PointVerb;
use crate::config::Loaded;

/// Groups of points: what is sent to a group goes to all of it
#[derive(Debug, Subcommand)]
pub enum Group {
    /// Make an empty group
    Create {
        /// Its name
        name: String,
    },
    /// List groups
    List,
    /// Show a group
    Show {
        /// Its name
        group: String,
    },
    /// Put points into a group, and send them what it has
    Join {
        /// Its name
        group: String,
        /// Names of points
        #[arg(required = true)]
        points: Vec<String>,
    },
    /// Take points out of a group; they keep what they hold
    Leave {
        /// Its name
        group: String,
        /// Names of points
        #[arg(required = true)]
        points: Vec<String>,
    },
    /// Delete a group; its points keep what they hold
    Delete {
        /// Its name
        group: String,
    },
}

impl Group {
    pub(super) async fn run(
        self,
        settings: &Loaded,
        global: &Global,
        output: &Output,
    ) -> Result<u8, Problem> {
        let request = match self {
            Self::List => {
                let request = verb(PointVerb::GroupList);
                let groups = connect::call::<Vec<PointGroup>>(settings, global, output, request).await?.body;
                let mut rows = Rows::new(&["NAME", "POINTS", "PACKAGES"]);
                for group in &groups {
                    rows.push([
                        safe(&group.name),
                        safe(&group.points.join(", ")),
                        group.packages.len().to_string(),
                    ]);
                }
                let none = "no groups of distribution points yet: spsync dp group create NAME";
                output.list(&groups, &groups, |group| group.name.clone(), rows, none);
                return Ok(0);
            }
            Self::Create { name } => PointVerb::GroupCreate { name },
            Self::Show { group } => PointVerb::GroupShow { group },
            Self::Join { group, points } => PointVerb::GroupJoin { group, points },
            Self::Leave { group, points } => PointVerb::GroupLeave { group, points },
            Self::Delete { group } => {
                confirm(global, &format!("delete group `{group}`"))?;
                PointVerb::GroupDelete { group }
            }
        };
        let created = matches!(request, PointVerb::GroupCreate { .. });
        let called = connect::call::<Value>(settings, global, output, verb(request)).await?;
        match serde_json::from_value::<PointGroup>(called.body.clone()) {
            Ok(group) => output.one(
                &called.body,
                |_| group.name.clone(),
                |output| match created {
                    true => output.line(format!("created group `{}`", safe(&group.name))),
                    false => show_group(&group, output),
                },
            ),
            Err(_) => show_value(&called.body, output),
        }
        Ok(called.finish(output))
    }
}

fn show_group(group: &PointGroup, output: &Output) {
    let list = |all: Vec<String>| if all.is_empty() { "none".to_owned() } else { safe(&all.join(", ")) };
    output.line(format!("group `{}`", safe(&group.name)));
    output.line(format!("  points    {}", list(group.points.clone())));
    output.line(format!("  packages  {}", list(group.packages.iter().map(ToString::to_string).collect())));
}
