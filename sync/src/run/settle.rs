//! What follows when everything is recorded: documents become feature updates, the rule of supersedence is carried out,
//! and what nothing needs any more goes.

use std::sync::Arc;

use catalog::problem::Problem;
use schema::updates::Recorded;

use crate::site::Site;
use crate::updates::{offers, retention, supersedence};

/// What it came to.
#[derive(Debug, Default)]
pub struct Settled {
    /// Feature updates that documents came to.
    pub offered: Recorded,
    /// Updates that the rule of supersedence expired.
    pub expired: u64,
    /// Remarks.
    pub notes: Vec<String>,
}

/// Brings everything in order; also what an earlier run recorded and was killed before it came to this. Where nothing
/// changed, nothing is written. `recorded` tells whether this run recorded anything.
///
/// # Errors
/// Those of the database.
pub async fn settle(site: &Arc<Site>, recorded: bool) -> Result<Settled, Problem> {
    let mut settled = Settled { offered: offers::refresh(site).await?, ..Settled::default() };
    if recorded {
        // Also of documents that were there before, and of which only now somebody said where their files are.
        site.write(|w| w.share_links()).await?;
    }
    let plan = supersedence::apply(site).await?;
    settled.expired = plan.expire.len() as u64;
    if !plan.expire.is_empty() || !plan.restore.is_empty() {
        settled.notes.push(format!(
            "supersedence: {} updates expired, {} came back (spsync updates supersedence plan)",
            plan.expire.len(),
            plan.restore.len()
        ));
    }
    if recorded {
        settled.notes.extend(retention::after_sync(site).await?);
    }
    Ok(settled)
}
