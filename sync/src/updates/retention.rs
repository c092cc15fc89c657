//! Taking documents away that nothing needs any more: old revisions and expired updates, some at a time, after a while.

use std::sync::Arc;
use std::time::Duration;

use catalog::problem::{Code, Problem};
use serde::{Deserialize, Serialize};

use crate::admin::{Answer, Caller};
use crate::clock;
use crate::site::Site;

/// How long what is not needed is kept all the same: a mistake can be undone meanwhile.
const GRACE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Documents that one run takes away at most.
const MOST: usize = 5_000;
/// Documents in one transaction: the writer is free in between.
const AT_ONCE: usize = 500;
/// Where more than one of so many would go at once, something else is wrong: only somebody who says so may do that.
const FRACTION: u64 = 5;

/// What was, or could be, taken away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// Documents taken away now.
    pub documents: u64,
    /// Documents that can go, with those.
    pub unneeded: u64,
    /// Their bytes, as documents.
    pub bytes: u64,
    /// Updates and drivers that were recorded.
    pub recorded: u64,
    /// The first of them, for people to look at.
    pub examples: Vec<String>,
    /// Nothing was changed.
    pub dry_run: bool,
}

/// Takes away what is not needed, or shows it.
///
/// # Errors
/// `CONFIRMATION_REQUIRED` where it would be more than a fifth of all and nobody said yes; those of the database.
pub async fn collect(site: &Arc<Site>, confirmed: bool, caller: &Caller) -> Result<Answer, Problem> {
    Answer::of(&run(site, confirmed, caller.dry_run).await?)
}

/// The same at the end of a synchronisation, where nobody can be asked: too much of it is left and told.
///
/// # Errors
/// Those of the database.
pub async fn after_sync(site: &Arc<Site>) -> Result<Option<String>, Problem> {
    match run(site, false, false).await {
        Ok(Collected { documents: 0, .. }) => Ok(None),
        Ok(done) => Ok(Some(format!("{} documents that nothing needs were taken away", done.documents))),
        Err(problem) if problem.code == Code::ConfirmationRequired => Ok(Some(problem.message)),
        Err(problem) => Err(problem),
    }
}

async fn run(site: &Arc<Site>, confirmed: bool, dry_run: bool) -> Result<Collected, Problem> {
    let since = clock::now().saturating_sub(GRACE).map_err(|error| Problem::of(Code::Internal, &error))?;
    let garbage = site.read(move |r| r.unneeded_metadata(since, MOST)).await?;
    let mut collected = Collected {
        documents: 0,
        unneeded: garbage.all,
        bytes: garbage.bytes,
        recorded: garbage.recorded,
        examples: garbage.rows.iter().take(8).map(|(_, id)| id.to_string()).collect(),
        dry_run,
    };
    if dry_run || garbage.rows.is_empty() {
        return Ok(collected);
    }
    if !confirmed && garbage.all * FRACTION > garbage.recorded {
        let message = format!(
            "{} of {} documents are not needed any more, which is more than a fifth: none is taken away",
            garbage.all, garbage.recorded
        );
        return Err(Problem::new(Code::ConfirmationRequired, message)
            .help("look at `spsync --dry-run updates gc`; `spsync --yes updates gc` takes them away"));
    }
    for batch in garbage.rows.chunks(AT_ONCE) {
        let rows = batch.to_vec();
        site.write(move |w| w.forget_metadata(&rows)).await?;
        collected.documents += batch.len() as u64;
    }
    site.refresh_shelf().await?;
    Ok(collected)
}
