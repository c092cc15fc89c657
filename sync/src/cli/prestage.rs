//! `spsync prestage …`.

use std::path::PathBuf;

use catalog::problem::Problem;
use clap::Subcommand;

use super::arguments::absolute;
use super::output::{Rows, safe, size};
use super::said::{read, say};
use super::ts::call;
use super::{Global, Output};
use crate::authoring::TsRequest;
use crate::carrying::{self, Manifest, Prestaged, TakenIn};
use crate::words::counted;

/// Prestaged files
#[derive(Debug, Subcommand)]
pub enum Prestage {
    /// Make a prestaged file of the content of a task sequence, deployment package, image or application
    Create {
        /// Id or name
        what: String,
        /// The file
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        /// The distribution point that the content is to be on; the site's own if not given
        #[arg(long, value_name = "DP")]
        dp: Option<String>,
    },
    /// Show what is in a prestaged file; all of it is verified, and no site is needed
    Show {
        /// The file
        file: PathBuf,
    },
    /// On a distribution point: take in what it was told to hold, after all of the file is verified
    Import {
        /// The file
        file: PathBuf,
    },
}

impl Prestage {
    pub(super) async fn run(self, global: &Global, output: &Output) -> Result<u8, Problem> {
        let request = match self {
            Self::Show { file } => {
                let manifest = carrying::look_through(&absolute(file))?;
                output.one(
                    &manifest,
                    |manifest| manifest.of.to_string(),
                    |output| {
                        show_manifest(&manifest, output);
                    },
                );
                return Ok(0);
            }
            Self::Create { what, to, dp } => TsRequest::Prestage { what, file: absolute(to), dp },
            Self::Import { file } => TsRequest::PrestageImport { file: absolute(file) },
        };
        let settings = super::settings(global)?;
        let called = call(request, &settings, global, output).await?;
        let body = &called.body;
        output.one(
            body,
            |body| body["file"].as_str().unwrap_or_default().to_owned(),
            |output| {
                if let Some(made) = read::<Prestaged>(body) {
                    let verb = if made.dry_run { "would make" } else { "made" };
                    output.line(format!(
                        "{verb} {} of {} `{}`: {}, content {}, as on {}",
                        made.file.display(),
                        made.of,
                        safe(&made.name),
                        size(made.bytes),
                        size(made.content_bytes),
                        safe(&made.point)
                    ));
                } else if let Some(taken) = read::<TakenIn>(body) {
                    show_taken(&taken, output);
                } else {
                    say(body, output);
                }
            },
        );
        Ok(called.finish(output))
    }
}

fn show_manifest(manifest: &Manifest, output: &Output) {
    output.line(format!(
        "{} `{}` of site {}: {}, verified",
        manifest.of,
        safe(&manifest.name),
        safe(&manifest.site),
        size(manifest.bytes())
    ));
    let mut rows = Rows::new(&["ID", "KIND", "NAME", "FILE", "SIZE", "SHA256"]);
    for item in &manifest.items {
        for file in &item.files {
            let kind = serde_json::to_value(item.kind).unwrap_or_default();
            rows.push([
                item.id.to_string(),
                kind.as_str().unwrap_or_default().to_owned(),
                safe(&item.name),
                file.name.to_string(),
                size(file.size),
                file.sha256.to_string(),
            ]);
        }
    }
    output.table(rows);
}

fn show_taken(taken: &TakenIn, output: &Output) {
    let verb = if taken.dry_run { "would take in" } else { "took in" };
    output.line(format!(
        "{verb} {}, {}, of `{}`",
        counted(taken.taken.len(), "file"),
        size(taken.bytes),
        safe(&taken.name)
    ));
    if !taken.present.is_empty() {
        output.line(format!("  here already: {}", safe(&taken.present.join(", "))));
    }
    if !taken.left_out.is_empty() {
        output.line(format!("  not assigned to this point: {}", safe(&taken.left_out.join(", "))));
    }
}
