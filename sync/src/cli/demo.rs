//! `spsync demo`.

use std::path::PathBuf;

use catalog::problem::Problem;
use clap::Args;

use super::{Global, Output};
use crate::demo;

/// The whole journey on this machine, with an embedded upstream and no internet
///
/// An origin on loopback serves a small catalog of the real format, licence terms and small valid ESD files that the
/// demonstration makes. Then everything happens for real: sync, licence, package, download (one mirror fails in the
/// middle), distribution, a client that fetches and verifies; a task sequence from a feature update, its deployment, and
/// two devices that run it. Only their Setup is pretended.
#[derive(Debug, Args)]
pub struct Demo {
    /// Leave it running to look at, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Work in this folder instead of a temporary one; it is not removed
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Demo {
    pub(super) async fn run(self, _global: &Global, output: &Output) -> Result<u8, Problem> {
        demo::run(self.dir, self.keep, output).await
    }
}
