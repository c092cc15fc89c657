//! `spsync media …`, `spsync prestage …`.

use std::path::PathBuf;

use catalog::problem::Problem;
use clap::Subcommand;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::output::{Rows, safe, size};
use super::super::{Global, Output};
use super::{absolute, print};
use crate::authoring::TsRequest;
use crate::carrying::{self, Made, Manifest, NewMedia, Prestaged, TakenIn, Verified};

/// Stand-alone media
#[derive(Debug, Subcommand)]
pub enum Media {
    /// Make stand-alone media of a task sequence: a folder of its id in the staging folder, and CreateTSMedia.log
    Create {
        /// Id or name of the task sequence
        ts: String,
        /// The staging folder
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// The distribution point that its content is to be on; the site's own if not given
        #[arg(long, value_name = "DP")]
        dp: Option<String>,
        /// It is copied to a stick with FAT32: no file of 4 GiB or more, a label of at most 11 characters
        #[arg(long)]
        usb: bool,
        /// A label; the id if not given
        #[arg(long, value_name = "LABEL")]
        label: Option<String>,
    },
    /// Read media back and compare every file with its digest; needs no site
    Verify {
        /// The folder, wherever it was copied to
        folder: PathBuf,
    },
}

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

fn read<T: DeserializeOwned>(body: &Value) -> Option<T> {
    serde_json::from_value(body.clone()).ok()
}

impl Media {
    pub(in crate::cli) async fn run(self, global: &Global, output: &Output) -> Result<u8, Problem> {
        let wanted = match self {
            Self::Verify { folder } => {
                let verified = carrying::verify(&absolute(folder))?;
                output.one(
                    &verified,
                    |verified| verified.sequence.to_string(),
                    |output| {
                        show_verified(&verified, output);
                    },
                );
                let problem = verified.problem();
                return Ok(problem.map_or(0, |problem| {
                    output.problem(&problem);
                    problem.code.page().exit.status()
                }));
            }
            Self::Create { ts, to, dp, usb, label } => {
                NewMedia { sequence: ts, folder: absolute(to), dp, usb, label }
            }
        };
        let settings = super::super::settings(global)?;
        let called = print::call(TsRequest::Media(wanted), &settings, global, output).await?;
        output.one(
            &called.body,
            |body| body["folder"].as_str().unwrap_or_default().to_owned(),
            |output| match read::<Made>(&called.body) {
                Some(made) => show_made(&made, output),
                None => super::say(&called.body, output),
            },
        );
        Ok(called.finish(output))
    }
}

fn show_made(made: &Made, output: &Output) {
    let verb = if made.dry_run { "would make" } else { "made" };
    output.line(format!(
        "{verb} media of {} `{}`: {}",
        made.sequence,
        safe(&made.name),
        made.folder.display()
    ));
    output.line(format!(
        "  label {}, {} files of content, {}, as on {}",
        safe(&made.label),
        made.files,
        size(made.bytes),
        safe(&made.point)
    ));
    made.left_out.iter().for_each(|what| output.line(format!("  left out: {what}")));
}

fn show_verified(verified: &Verified, output: &Output) {
    output.line(format!(
        "{} `{}`, label {}: {} files, {}, {} bad",
        verified.sequence,
        safe(&verified.name),
        safe(&verified.label),
        verified.files,
        size(verified.bytes),
        verified.bad.len()
    ));
    verified.unexpected.iter().for_each(|path| output.line(format!("  not listed: {}", safe(path))));
}

impl Prestage {
    pub(in crate::cli) async fn run(self, global: &Global, output: &Output) -> Result<u8, Problem> {
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
        let settings = super::super::settings(global)?;
        let called = print::call(request, &settings, global, output).await?;
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
                    super::say(body, output);
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
        "{verb} {} files, {}, of `{}`",
        taken.taken.len(),
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
