//! `spsync ts migrate`: to another site, through its admin API.

use std::path::PathBuf;

use catalog::problem::Problem;
use clap::Args;

use super::{Meant, absolute, secret};
use crate::authoring::{Duplicates, Migrate, TsRequest};
use crate::sequence::key::HiddenText;

/// Where to.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Id or name
    ts: String,
    /// Address of the admin API of the other site: https://site02.example:8541
    #[arg(long, value_name = "URL")]
    to: String,
    /// A file with a token of the other site, of the role admin
    #[arg(long, value_name = "FILE", env = "SPSYNC_TOKEN_FILE")]
    token_file: PathBuf,
    /// Certificates by which the other site is trusted, beside those of the system: its tls/ca.pem
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// What happens to what is there already
    #[arg(long, value_enum, default_value = "ignore")]
    duplicates: Duplicates,
    #[command(flatten)]
    meant: Meant,
}

impl MigrateArgs {
    /// The request, with the token read here: the daemon need not be able to read it.
    pub(super) fn request(self) -> Result<TsRequest, Problem> {
        let token = secret(Some(&self.token_file))?.unwrap_or_else(|| HiddenText::new(""));
        Ok(TsRequest::Migrate(Box::new(Migrate {
            sequence: self.ts,
            to: self.to,
            token,
            ca_file: self.ca_file.map(absolute),
            duplicates: self.duplicates,
            confirm_high_risk: self.meant.confirm_high_risk,
        })))
    }
}
