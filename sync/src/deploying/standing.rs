//! Deployments that stand while their task sequence is changed.
//!
//! A change that makes it install an operating system is judged like a new deployment to everybody whom its required
//! deployments reach, phases that are still to begin among them: refused with the same codes, confirmed by the same word,
//! and written down in the audit (decision 0023). What installed one before was judged then, and is not judged again.
//!
//! Judged is before the transaction, for it takes much reading. So the transaction that saves the change looks whether
//! somebody else is reached by then, and the one that makes a deployment whether its task sequence is still what was judged.

use std::sync::Arc;

use catalog::id::PackageId;
use catalog::problem::{Code, Problem};
use jiff::Timestamp;
use schema::deployments::Purpose;
use schema::{Reader, SchemaError, Writer};

use super::check::World;
use super::options::deploys_os;
use super::{create, phases, risk};
use crate::sequence::Sequence;
use crate::site::Site;

/// Whom a task sequence reaches by itself: a required deployment, or a phase that is still to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reaching {
    Deployment { id: PackageId, collection: String },
    Phase { plan: String, number: usize, collection: String },
}

impl Reaching {
    fn collection(&self) -> &str {
        match self {
            Self::Deployment { collection, .. } | Self::Phase { collection, .. } => collection,
        }
    }

    /// As the audit names it.
    fn object(&self) -> &str {
        match self {
            Self::Deployment { id, .. } => id.as_str(),
            Self::Phase { plan, .. } => plan,
        }
    }

    /// Which one keeps the change back, in words.
    fn words(&self) -> String {
        match self {
            Self::Deployment { id, collection } => {
                format!("deployment {id} to `{collection}` is required, and was not stopped")
            }
            Self::Phase { plan, number, collection } => {
                format!("phase {number} of the phased deployment `{plan}` will go to `{collection}`")
            }
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Deployment { id, .. } => format!("`spsync deploy stop {id}`, then make the change"),
            Self::Phase { plan, .. } => {
                format!("`spsync deploy phased delete {plan:?}`, then make the change")
            }
        }
    }
}

/// Everybody whom it reaches. One that has expired counts too: `spsync deploy change` gives it more time.
fn reaching(reader: &Reader<'_>, sequence: &PackageId) -> Result<Vec<Reaching>, SchemaError> {
    let required = reader
        .deployments()?
        .into_iter()
        .filter(|row| row.sequence == *sequence && row.purpose == Purpose::Required && row.stopped.is_none());
    let mut all: Vec<_> =
        required.map(|row| Reaching::Deployment { id: row.id, collection: row.collection }).collect();
    for row in reader.phased()?.into_iter().filter(|row| row.sequence == *sequence) {
        let phases = phases::to_come(&row, Purpose::Required)?;
        let plan = row.name;
        all.extend(phases.into_iter().map(|(number, collection)| Reaching::Phase {
            plan: plan.clone(),
            number,
            collection,
        }));
    }
    Ok(all)
}

/// What was judged of a change, for the transaction that saves it.
#[derive(Debug, Default)]
pub struct Judged {
    /// `None`: there was nothing to judge.
    sequence: Option<PackageId>,
    reached: Vec<(Reaching, risk::Risk)>,
}

/// Judges what `after` would do in place of `before`.
///
/// # Errors
/// `HIGH_RISK_*`, as [`super::create`] gives them.
pub async fn judge(
    site: &Arc<Site>,
    id: &PackageId,
    before: &Sequence,
    after: &Sequence,
    confirmed: bool,
) -> Result<Judged, Problem> {
    if deploys_os(before) || !deploys_os(after) {
        return Ok(Judged::default());
    }
    let wanted = id.clone();
    let all = site.read(move |r| reaching(r, &wanted)).await?;
    let mut judged = Judged { sequence: Some(id.clone()), reached: Vec::new() };
    if all.is_empty() {
        return Ok(judged);
    }
    let world = World::of(site).await?;
    for one in all {
        let collection = world.collections.iter().find(|found| found.name == one.collection());
        // A phase whose collection is gone reaches nobody: it is refused when its time comes.
        let risk = match collection {
            None => risk::Risk::default(),
            Some(collection) => {
                let required = Purpose::Required;
                let risk = create::risk_confirmed(site, &world, after, collection, required, confirmed).await;
                risk.map_err(|refused| explained(refused, &one))?.0
            }
        };
        judged.reached.push((one, risk));
    }
    Ok(judged)
}

fn explained(refused: Problem, reaching: &Reaching) -> Problem {
    let refused = refused.because(reaching.words()).keeping("the task sequence is as it was");
    match refused.code {
        // To that the advice of its code is the right one.
        Code::HighRiskUnconfirmed => refused,
        _ => refused.help(reaching.advice()),
    }
}

impl Judged {
    /// Writes down what was judged, in the transaction that saves the change.
    ///
    /// # Errors
    /// `TASK_SEQUENCE_CHANGED` where somebody is reached who was not when it was judged.
    pub fn record(&self, w: &Writer<'_>, who: &str, now: Timestamp) -> Result<(), SchemaError> {
        let Some(id) = &self.sequence else { return Ok(()) };
        let known = |one: &Reaching| self.reached.iter().any(|(judged, _)| judged == one);
        if let Some(new) = reaching(w, id)?.into_iter().find(|one| !known(one)) {
            let message = format!("task sequence {id} was deployed meanwhile");
            return Err(Problem::new(Code::TaskSequenceChanged, message).because(new.words()).into());
        }
        for (one, risk) in self.reached.iter().filter(|(_, risk)| risk.high) {
            w.audit(who, &risk.audited(), one.object(), now)?;
            if let Reaching::Phase { plan, .. } = one
                && !risk.reasons.is_empty()
            {
                phases::confirm(w, plan)?;
            }
        }
        Ok(())
    }
}
