//! `spsync media …`, `spsync prestage …`.

use std::path::PathBuf;

use catalog::problem::Problem;
use clap::Subcommand;

use super::super::{Global, Output};
use super::{absolute, print};
use crate::authoring::TsRequest;
use crate::config::Loaded;

/// Stand-alone media
#[derive(Debug, Subcommand)]
pub enum Media {
    /// Make stand-alone media of a task sequence
    Create {
        /// Id or name of the task sequence
        ts: String,
        /// The staging folder
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
}

/// Prestaged files
#[derive(Debug, Subcommand)]
pub enum Prestage {
    /// Make a prestaged file of a task sequence or deployment package
    Create {
        /// Id or name
        what: String,
        /// The file
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
}

impl Media {
    pub(in crate::cli) async fn run(
        self,
        settings: &Loaded,
        global: &Global,
        output: &Output,
    ) -> Result<u8, Problem> {
        let Self::Create { ts, to } = self;
        let request = TsRequest::Media { sequence: ts, folder: absolute(to) };
        let called = print::call(request, settings, global, output).await?;
        Ok(called.finish(output))
    }
}

impl Prestage {
    pub(in crate::cli) async fn run(
        self,
        settings: &Loaded,
        global: &Global,
        output: &Output,
    ) -> Result<u8, Problem> {
        let Self::Create { what, to } = self;
        let called =
            print::call(TsRequest::Prestage { what, file: absolute(to) }, settings, global, output).await?;
        Ok(called.finish(output))
    }
}
