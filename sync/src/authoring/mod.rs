//! Task sequences of a site: made, changed, shown, exported and imported.
//!
//! [`crate::sequence`] decides; here names become ids, and what was decided is recorded, each change in one transaction.

mod archive;
mod change;
mod create;
mod export;
mod import;
mod migrate;
mod request;
pub mod secrets;
mod show;
pub mod surroundings;

use std::sync::Arc;

use catalog::problem::{Code, Problem};

pub use create::{Choices, Created};
pub use export::{ArchiveOf, Exported, stripped};
pub use import::Imported;
pub use migrate::Migrated;
pub use request::{Create, Duplicates, Migrate, StepSet, TsRequest, Updates};
pub use show::{Differences, Linted, Planned, References, Shown};

use crate::admin::{Answer, Caller, Work};
use crate::carrying;
use crate::site::Site;

/// Carries a request about task sequences out.
///
/// # Errors
/// Those of the verb.
pub async fn answer(site: &Arc<Site>, request: TsRequest, caller: &Caller) -> Result<Work, Problem> {
    match request {
        TsRequest::Media(wanted) => carrying::media(site, wanted, caller).await,
        TsRequest::Prestage { what, file, dp } => {
            carrying::prestage(site, &what, &file, dp.as_deref(), caller).await
        }
        TsRequest::PrestageImport { file } => carrying::take_in(site, &file, caller).await,
        other => Ok(at_once(site, other, caller).await?.into()),
    }
}

async fn at_once(site: &Arc<Site>, request: TsRequest, caller: &Caller) -> Result<Answer, Problem> {
    match request {
        TsRequest::Choices { filter } => Answer::of(&create::choices(site, &filter).await?),
        TsRequest::Create(wanted) => create::create(site, *wanted, caller).await,
        TsRequest::List => show::list(site).await,
        TsRequest::Show { sequence } => show::show(site, &sequence).await,
        TsRequest::Lint { sequence, strict } => show::lint(site, &sequence, strict).await,
        TsRequest::Refs { sequence, pre_download, run_from_dp } => {
            show::refs(site, &sequence, pre_download, run_from_dp).await
        }
        TsRequest::Plan { sequence, device } => show::plan(site, &sequence, &device).await,
        TsRequest::Diff { one, other } => show::diff(site, &one, &other).await,
        TsRequest::Copy { sequence, name } => change::copy(site, &sequence, name, caller).await,
        TsRequest::Enable { sequence, enabled } => change::enable(site, &sequence, enabled, caller).await,
        TsRequest::Delete { sequence } => change::delete(site, &sequence, caller).await,
        TsRequest::Replace { sequence, revision, document, confirm_high_risk } => {
            change::replace(site, &sequence, revision, &document, confirm_high_risk, caller).await
        }
        TsRequest::StepAdd { sequence, kind, place, changes, value, confirm_high_risk } => {
            let confirmed = confirm_high_risk;
            change::step_add(site, &sequence, &kind, &place, &changes, value, confirmed, caller).await
        }
        TsRequest::StepSet(set) => change::step_set(site, *set, caller).await,
        TsRequest::StepMove { sequence, step, place, confirm_high_risk } => {
            change::step_move(site, &sequence, &step, &place, confirm_high_risk, caller).await
        }
        TsRequest::StepRemove { sequence, step } => change::step_remove(site, &sequence, &step, caller).await,
        TsRequest::Export { sequences, file, dependencies, content } => {
            export::export(site, &sequences, &file, dependencies, content, caller).await
        }
        TsRequest::ExportArchive { sequences, dependencies } => {
            export::archive_of(site, &sequences, dependencies, caller).await
        }
        TsRequest::ImportArchive { archive, duplicates, confirm_high_risk } => {
            let how = import::How { duplicates, confirmed: confirm_high_risk };
            import::take(site, &archive.0, None, how, caller).await
        }
        TsRequest::Migrate(wanted) => migrate::migrate(site, *wanted, caller).await,
        TsRequest::Import { file, duplicates, confirm_high_risk } => {
            let how = import::How { duplicates, confirmed: confirm_high_risk };
            import::import(site, &file, how, caller).await
        }
        TsRequest::Set { sequence, changes } => change::set(site, &sequence, &changes, caller).await,
        TsRequest::Media(_) | TsRequest::Prestage { .. } | TsRequest::PrestageImport { .. } => {
            Err(Problem::new(Code::Internal, "this is a task"))
        }
    }
}
