//! Deployments: task sequences offered to collections, checked before, brought to where devices find them, and watched.
//!
//! What decides is pure and has a file of its own; the rest makes names into ids and records what was decided, each act in
//! one transaction.
//! ```text
//! create ──options, risk, choice──▶ deployment (+ package) ──content──▶ download, distribute
//!    ▲                                   │
//!    └── phases ◀── phased ◀── tallies   └──▶ device_plane: policies down, messages up ──▶ status
//! check ──eligible, reaching──▶ who can, and what it costs
//! ```

mod change;
pub mod check;
pub mod choice;
pub mod codes;
mod content;
mod create;
pub mod eligible;
mod members;
pub mod options;
pub mod package;
pub mod phased;
pub mod phases;
pub mod reaching;
mod request;
pub mod resolve;
pub mod risk;
pub(crate) mod show;
pub mod standing;
pub mod status;
#[cfg(test)]
mod tests;
pub mod updates;

use std::sync::Arc;

use catalog::problem::{Code, Problem};
use schema::deployments::DeploymentRow;

pub use content::keep_time;
pub use create::Created;
pub use request::{
    Change, CheckArgs, Create, DeployRequest, NewPhase, PhaseChange, PhasedCreate, usual_deadline,
};
pub(crate) use show::notes_of;
pub use show::{Deployed, Progress, Shown, deployed};

use crate::admin::{Answer, Caller, Work};
use crate::device_plane::clients;
use crate::site::Site;

/// Carries a request about deployments out.
///
/// # Errors
/// Those of the verb.
pub async fn answer(site: &Arc<Site>, request: DeployRequest, caller: &Caller) -> Result<Work, Problem> {
    Ok(match request {
        DeployRequest::Create(wanted) => return create::create(site, *wanted, caller).await,
        DeployRequest::List => show::list(site).await?.into(),
        DeployRequest::CreateUpdates(new) => updates::create(site, new, caller).await?.into(),
        DeployRequest::UpdatesList => updates::list(site).await?.into(),
        DeployRequest::Show { deployment } => match updates::named(site, &deployment).await? {
            Some(row) => updates::act(site, row, updates::Act::Show, caller).await?.into(),
            None => Answer::of(&show::one(site, &deployment).await?)?.into(),
        },

        DeployRequest::Change(wanted) => change::change(site, *wanted, caller).await?.into(),
        DeployRequest::Stop { deployment } => match updates::named(site, &deployment).await? {
            Some(row) => updates::act(site, row, updates::Act::Stop, caller).await?.into(),
            None => change::stop(site, &deployment, caller).await?.into(),
        },
        DeployRequest::Delete { deployment } => match updates::named(site, &deployment).await? {
            Some(row) => updates::act(site, row, updates::Act::Delete, caller).await?.into(),
            None => change::delete(site, &deployment, caller).await?.into(),
        },
        DeployRequest::Check(args) => check::check(site, &args).await?.into(),
        DeployRequest::Status { deployment } => status::status(site, &deployment).await?.into(),
        DeployRequest::PhasedCreate(wanted) => phases::create(site, *wanted, caller).await?.into(),
        DeployRequest::PhasedList => phases::list(site).await?.into(),
        DeployRequest::PhasedShow { name } => phases::show(site, &name).await?.into(),
        DeployRequest::PhasedAdvance { name } => phases::advance(site, &name, caller).await?.into(),
        DeployRequest::PhasedSuspend { name, suspend } => {
            phases::suspend(site, &name, suspend, caller).await?.into()
        }
        DeployRequest::PhasedChange(wanted) => phases::change(site, &wanted, caller).await?.into(),
        DeployRequest::PhasedDelete { name } => phases::delete(site, &name, caller).await?.into(),
        DeployRequest::ClientList { silent } => clients::list(site, silent).await?.into(),
        DeployRequest::ClientShow { device } => clients::show(site, &device).await?.into(),
        DeployRequest::ClientHistory { device, limit } => {
            clients::history(site, &device, limit).await?.into()
        }
        DeployRequest::ClientRemove { device } => clients::remove(site, &device, caller).await?.into(),
    })
}

/// The deployment of this id, or the unique beginning of one.
///
/// # Errors
/// `DEPLOYMENT_NOT_FOUND`, `AMBIGUOUS`.
pub async fn named(site: &Arc<Site>, name: &str) -> Result<DeploymentRow, Problem> {
    let wanted = name.trim().to_ascii_uppercase();
    let all = site.read(|r| r.deployments()).await?;
    let mut found: Vec<_> =
        all.into_iter().filter(|row| !wanted.is_empty() && row.id.as_str().starts_with(&wanted)).collect();
    if found.len() > 1 {
        let message = format!("{} deployments have ids that begin with `{name}`", found.len());
        let ids: Vec<_> = found.iter().take(8).map(|row| row.id.to_string()).collect();
        return Err(Problem::new(Code::Ambiguous, message).because(ids.join(", ")));
    }
    match found.pop() {
        Some(one) => Ok(one),
        None => Err(Problem::new(Code::DeploymentNotFound, format!("no deployment has the id `{name}`"))),
    }
}
