//! `spsync deploy …` and what `spsync client` asks the site.

mod args;
pub(super) mod devices;
mod phased;
pub(super) mod print;

use catalog::problem::{Code, Problem};
use clap::Subcommand;
use serde_json::Value;

use super::said::{id_of, say};
use super::{Called, Global, Output, confirm, connect};
use crate::admin::Request;
use crate::config::Loaded;
use crate::deploying::DeployRequest;

pub use args::time;
use args::{ChangeArgs, Checks, CreateArgs};
pub use phased::Phased;

/// Deployments: task sequences and updates offered to collections
#[derive(Debug, Subcommand)]
pub enum Deploy {
    /// Offer a task sequence, or updates, to a collection; its content is downloaded and sent where it is named
    Create(CreateArgs),
    /// List deployments of task sequences
    List,
    /// List deployments of updates beside task sequences
    Updates,
    /// Show a deployment, with what is pending of it
    Show {
        /// Its id
        deployment: String,
    },
    /// Change times and options; task sequence, collection and purpose stay
    Change(ChangeArgs),
    /// Stop offering a deployment; devices that have begun go on
    Stop {
        /// Its id
        deployment: String,
    },
    /// Delete a deployment, and how far devices were with it
    Delete {
        /// Its id
        deployment: String,
    },
    /// Check which devices could run it and why others not, where they find content, and bytes over each link
    Check(Checks),
    /// Show how far devices are
    Status {
        /// Its id
        deployment: String,
        /// What the table has a line for
        #[arg(long, value_enum, default_value = "state")]
        by: StatusBy,
    },
    /// Deployments that go from collection to collection
    #[command(subcommand)]
    Phased(Phased),
}

/// What a table of how far devices are has a line for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum StatusBy {
    /// Each state
    State,
    /// Each device
    Client,
    /// Each step at which devices are
    Step,
    /// Each error, with what it means
    Error,
}

/// What a table of who could do it has a line for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum CheckBy {
    /// Each boundary group
    Group,
    /// Each device
    Client,
    /// Each reason why devices are not eligible
    Reason,
}

/// What the site knows of devices.
#[derive(Debug, Subcommand)]
pub enum AtSite {
    /// List devices that the site knows, with what they are and when they were heard of
    List {
        /// Only those of which nothing was heard on so many days, one after the other, on which the site listened
        #[arg(long, value_name = "DAYS", default_value_t = 0, hide_default_value = true)]
        silent: u32,
    },
    /// Show a device: facts, collections, settings, deployments
    Show {
        /// Its name
        device: String,
    },
    /// Show what happened on a device, step by step
    History {
        /// Its name
        device: String,
        /// How many messages, the newest
        #[arg(long, default_value_t = 500)]
        limit: u32,
    },
    /// Remove a device: its key is revoked and it leaves all collections, lists and sums; `client history` still has what was done
    Remove {
        /// Its name
        device: String,
    },
}

async fn call(
    request: DeployRequest,
    settings: &Loaded,
    global: &Global,
    output: &Output,
) -> Result<Called<Value>, Problem> {
    connect::call::<Value>(settings, global, output, Request::Deploy(request)).await
}

impl Deploy {
    pub(super) async fn run(
        self,
        settings: &Loaded,
        global: &Global,
        output: &Output,
    ) -> Result<u8, Problem> {
        let request = match self {
            Self::Phased(verb) => return verb.run(settings, global, output).await,
            Self::Create(args) => args.into_request()?,
            Self::Updates => {
                let called = call(DeployRequest::UpdatesList, settings, global, output).await?;
                print::updates(&called.body, output)?;
                return Ok(called.finish(output));
            }
            Self::List => {
                let called = call(DeployRequest::List, settings, global, output).await?;
                print::list(&called.body, output)?;
                return Ok(called.finish(output));
            }
            Self::Show { deployment } => DeployRequest::Show { deployment },
            Self::Change(args) => DeployRequest::Change(Box::new(args.into_request()?)),
            Self::Stop { deployment } => DeployRequest::Stop { deployment },
            Self::Delete { deployment } => {
                confirm(
                    global,
                    &format!("forget deployment `{deployment}` and how far devices were with it"),
                )?;
                DeployRequest::Delete { deployment }
            }
            Self::Check(args) => {
                let by = args.by;
                let called =
                    call(DeployRequest::Check(Box::new(args.into())), settings, global, output).await?;
                print::checked(&called.body, by, output)?;
                return Ok(called.finish(output));
            }
            Self::Status { deployment, by } => {
                let called = call(DeployRequest::Status { deployment }, settings, global, output).await?;
                print::status(&called.body, by, output)?;
                return Ok(called.finish(output));
            }
        };
        let called = call(request, settings, global, output).await?;
        output.one(&called.body, id_of, |output| {
            if !print::one(&called.body, output) {
                say(&called.body, output);
            }
        });
        Ok(called.finish(output))
    }
}

/// How an answer is shown.
type Print = fn(&Value, &Output) -> Result<(), Problem>;

impl AtSite {
    pub(super) async fn run(
        self,
        settings: &Loaded,
        global: &Global,
        output: &Output,
    ) -> Result<u8, Problem> {
        let (client, database) = (&settings.settings.client.site, settings.settings.db_path());
        if !client.is_empty() && !database.exists() {
            let message =
                format!("this machine is a device of {client}, and has no site that could be asked");
            return Err(Problem::new(Code::NotAtSite, message));
        }
        let (request, print): (_, Print) = match self {
            Self::List { silent: 0 } => (DeployRequest::ClientList { silent: 0 }, devices::clients),
            Self::List { silent } => (DeployRequest::ClientList { silent }, devices::silent_clients),
            Self::Show { device } => (DeployRequest::ClientShow { device }, devices::client),
            Self::History { device, limit } => {
                (DeployRequest::ClientHistory { device, limit }, devices::history)
            }
            Self::Remove { device } => {
                confirm(global, &format!("remove device `{device}` and revoke its key"))?;
                (DeployRequest::ClientRemove { device }, devices::removed)
            }
        };
        let called = call(request, settings, global, output).await?;
        print(&called.body, output)?;
        Ok(called.finish(output))
    }
}
