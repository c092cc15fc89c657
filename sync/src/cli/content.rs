//! `spsync dp …` and `spsync content …`.

use catalog::problem::Problem;
use clap::Subcommand;
use schema::content::ContentRow;
use schema::distribution::Point;
use serde_json::Value;

use super::output::{Rows, safe, size, when};
use super::{Global, Output, connect};
use crate::admin::Request;
use crate::config::Loaded;

/// Distribution points
#[derive(Debug, Subcommand)]
pub enum Dp {
    /// All of them
    List,
}

impl Dp {
    pub(super) async fn run(
        self,
        settings: &Loaded,
        global: &Global,
        output: &Output,
    ) -> Result<u8, Problem> {
        let points = connect::call::<Vec<Point>>(settings, global, output, Request::DpList).await?.body;
        let mut rows = Rows::new(&["NAME", "PACKAGES", "CONTENTS", "SIZE"]);
        for point in &points {
            rows.push([
                safe(&point.name),
                point.packages.to_string(),
                point.contents.to_string(),
                size(point.bytes),
            ]);
        }
        output.list(&points, &points, |point| point.name.clone(), rows);
        Ok(0)
    }
}

/// The content library
#[derive(Debug, Subcommand)]
pub enum Content {
    /// Every content that the site holds
    List,
    /// One content: digests, packages that use it, and where clients are sent for it
    Show {
        /// Its SHA-256, or the unique beginning of it
        content: String,
    },
}

impl Content {
    pub(super) async fn run(
        self,
        settings: &Loaded,
        global: &Global,
        output: &Output,
    ) -> Result<u8, Problem> {
        match self {
            Self::List => {
                let all = connect::call::<Vec<ContentRow>>(settings, global, output, Request::ContentList)
                    .await?
                    .body;
                let mut rows = Rows::new(&["SHA256", "SIZE", "STORED", "VERIFIED BY"]);
                for row in &all {
                    let by = if row.sha1_only { "sha1-only" } else { "sha256" };
                    rows.push([row.sha256.to_string(), size(row.size), when(row.stored_at), by.to_owned()]);
                }
                output.list(&all, &all, |row| row.sha256.to_string(), rows);
                if all.is_empty() && output.for_people() {
                    output.line("the content library is empty");
                }
                Ok(0)
            }
            Self::Show { content } => {
                let shown =
                    connect::call::<Value>(settings, global, output, Request::ContentShow { content })
                        .await?
                        .body;
                output.one(
                    &shown,
                    |s| s["content"]["sha256"].as_str().unwrap_or_default().to_owned(),
                    |output| {
                        for (name, value) in shown["content"].as_object().into_iter().flatten() {
                            let text = value.as_str().map_or_else(|| value.to_string(), safe);
                            output.line(format!("  {name:<12}{text}"));
                        }
                        output.line(format!("  {:<12}{}", "served", shown["served"]));
                        for package in shown["packages"].as_array().into_iter().flatten() {
                            output.line(format!(
                                "  {:<12}{}",
                                "package",
                                safe(package.as_str().unwrap_or_default())
                            ));
                        }
                        for location in shown["locations"]["locations"].as_array().into_iter().flatten() {
                            let field = |name: &str| safe(location[name].as_str().unwrap_or_default());
                            output.line(format!("  {:<12}{} {}", "location", field("kind"), field("url")));
                        }
                    },
                );
                Ok(0)
            }
        }
    }
}
