//! Taking down what devices report.

use std::sync::Arc;

use catalog::id::PackageId;
use catalog::problem::{Code, Problem};
use jiff::Timestamp;
use schema::devices::{MessageRow, Series};
use schema::{SchemaError, Writer};

use super::fold;
use super::snapshot::Snapshot;
use crate::policy::{RefusedMessage, StatusAck, StatusBatch, StatusMessage};
use crate::site::Site;

/// Takes a batch down, in one transaction: what is new, once. Messages about nothing that was deployed to the device are
/// refused for good, and counted.
///
/// # Errors
/// `STATUS_INVALID` for a batch that is none; those of the database.
pub async fn take(
    site: &Arc<Site>,
    device: &str,
    batch: StatusBatch,
    now: Timestamp,
) -> Result<StatusAck, Problem> {
    batch.check()?;
    let (device, snapshot) = (device.to_owned(), site.policies.snapshot());
    site.write_aside(move |w| take_down(w, &device, &snapshot, batch, now)).await
}

fn take_down(
    w: &Writer<'_>,
    device: &str,
    snapshot: &Snapshot,
    batch: StatusBatch,
    now: Timestamp,
) -> Result<StatusAck, SchemaError> {
    let mut series = w.series(device, &batch.series.to_string())?;
    let (mut replayed, mut refused) = (0, Vec::new());
    for message in batch.messages {
        if message.number <= series.heard {
            replayed += 1;
            continue;
        }
        match one(w, device, snapshot, series, &message, now)? {
            Ok(()) => {}
            Err(problem) => {
                refused.push(RefusedMessage { number: message.number, code: problem.code.name().to_owned() });
            }
        }
        series.heard = message.number.min(i64::MAX.unsigned_abs());
    }
    w.heard(device, series, (replayed, refused.len() as u64))?;
    Ok(StatusAck { through: series.heard, refused })
}

/// One message. The outer error is the database's, the inner one says why it is not taken down.
fn one(
    w: &Writer<'_>,
    device: &str,
    snapshot: &Snapshot,
    series: Series,
    message: &StatusMessage,
    now: Timestamp,
) -> Result<Result<(), Problem>, SchemaError> {
    if let Err(problem) = message.check() {
        return Ok(Err(problem));
    }
    let Ok(deployment) = message.deployment.as_str().parse::<PackageId>() else {
        return Ok(Err(Problem::new(Code::StatusInvalid, "this is no deployment")));
    };
    let before = w.device_run(&deployment, device)?;
    if before.is_none() && !snapshot.is_about(device, &deployment) {
        let known = w.deployment(&deployment)?.is_some();
        let code = if known { Code::NotTargeted } else { Code::DeploymentNotFound };
        return Ok(Err(Problem::new(code, format!("{deployment} is not deployed to `{device}`"))));
    }
    let body = message.kept().map_err(|error| SchemaError::Value(error.to_string()))?;
    let row = MessageRow { series: series.id, number: message.number, received: now, body };
    w.keep_message(device, &row, message.time, deployment.as_str())?;
    if let Some(run) = fold(before, device, &deployment, series.id, message) {
        w.put_device_run(&run)?;
    }
    Ok(Ok(()))
}
