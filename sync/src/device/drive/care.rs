//! What a run takes care of beside its steps: its content stays until its end.

use catalog::problem::Coded as _;
use dp::client::ClientSettings;

use super::Device;
use crate::device::content::Need;
use crate::device::executor::Executor;
use crate::device::machine::Failure;

/// How a run is called where it needs content.
fn holder(run: u64) -> String {
    format!("run-{run}")
}

/// Whether this is a run, and not the one that goes on.
fn is_over(holder_of_pin: &str, current: Option<u64>) -> bool {
    let run = holder_of_pin.strip_prefix("run-").and_then(|run| run.parse::<u64>().ok());
    run.is_some_and(|run| Some(run) != current)
}

impl<E: Executor> Device<E> {
    /// Whoever makes room in the cache leaves a file that the run needs. Before a run nobody needs it that much.
    pub(super) async fn pin(&self, client: &ClientSettings, need: Need<'_>) -> Result<(), Failure> {
        let (Some(current), Some(content)) = (&self.memory.current, need.file.sha256) else { return Ok(()) };
        dp::client::hold(client, content, holder(current.run)).await.map_err(|error| Failure {
            code: error.code(),
            exit: None,
            details: error.problem().to_string(),
        })
    }

    /// Runs that are over need nothing, also those whose client was killed at their end.
    pub(super) async fn unpin(&self) {
        let Some(client) = &self.client else { return };
        let current = self.memory.current.as_ref().map(|current| current.run);
        if let Err(error) = dp::client::release(client, move |holder| is_over(holder, current)).await {
            tracing::warn!("content of runs that are over stays in the cache: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_runs_that_are_not_this_one_are_over() {
        for (holder_of_pin, current, expected) in [
            ("run-7", None, true),
            ("run-7", Some(8), true),
            ("run-8", Some(8), false),
            ("run-", None, false),
            ("run-x", None, false),
            ("somebody", None, false),
        ] {
            assert_eq!(is_over(holder_of_pin, current), expected, "{holder_of_pin} {current:?}");
        }
        assert!(!is_over(&holder(3), Some(3)) && is_over(&holder(3), None));
    }
}
