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

/// Brings everything in order. Where nothing new was recorded (`changed`), only time can have changed something, and
/// nothing is written unless it has.
///
/// # Errors
/// Those of the database.
pub async fn settle(site: &Arc<Site>, changed: bool) -> Result<Settled, Problem> {
    let mut settled = Settled::default();
    if changed {
        settled.offered = offers::refresh(site).await?;
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
    if changed {
        settled.notes.extend(retention::after_sync(site).await?);
    }
    Ok(settled)
}
