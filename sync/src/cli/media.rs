//! `spsync media …`.

use std::path::PathBuf;

use catalog::problem::Problem;
use clap::Subcommand;

use super::arguments::absolute;
use super::output::{safe, size};
use super::said::{read, say};
use super::ts::call;
use super::{Global, Output};
use crate::authoring::TsRequest;
use crate::carrying::{self, Made, NewMedia, Verified};
use crate::words::counted;

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

impl Media {
    pub(super) async fn run(self, global: &Global, output: &Output) -> Result<u8, Problem> {
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
        let settings = super::settings(global)?;
        let called = call(TsRequest::Media(wanted), &settings, global, output).await?;
        output.one(
            &called.body,
            |body| body["folder"].as_str().unwrap_or_default().to_owned(),
            |output| match read::<Made>(&called.body) {
                Some(made) => show_made(&made, output),
                None => say(&called.body, output),
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
        "  label {}, {} of content, {}, as on {}",
        safe(&made.label),
        counted(made.files, "file"),
        size(made.bytes),
        safe(&made.point)
    ));
    made.left_out.iter().for_each(|what| output.line(format!("  left out: {what}")));
}

fn show_verified(verified: &Verified, output: &Output) {
    output.line(format!(
        "{} `{}`, label {}: {}, {}, {} bad",
        verified.sequence,
        safe(&verified.name),
        safe(&verified.label),
        counted(verified.files, "file"),
        size(verified.bytes),
        verified.bad.len()
    ));
    verified.unexpected.iter().for_each(|path| output.line(format!("  not listed: {}", safe(path))));
}
