//! What a run takes care of beside its steps: its content stays until its end, and no secret is told.

use catalog::problem::Coded as _;
use dp::client::ClientSettings;

use super::Device;
use crate::device::content::Need;
use crate::device::executor::Executor;
use crate::device::machine::{Failure, Found, Frame, Outcome};

const DROPPED: &str = "the output of the step that was found is dropped: the secrets of the deployment are not known, and \
    could not be masked in it";

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

    /// A program that was found after a restart of the client was given secrets that may not be known any more, where the
    /// site is away. What it printed is then told to nobody.
    pub(super) fn without_secrets(&mut self, frame: &Frame, found: Found) -> Found {
        let known = |place| self.secrets.as_ref().is_some_and(|secrets| secrets.at(place).is_some());
        let mut given = frame.assignment.secrets.iter().filter(|secret| secret.present);
        match found {
            Found::Ended(Outcome::Exit { code, output: Some(_) })
                if given.any(|secret| !known(&secret.place)) =>
            {
                self.say(frame, DROPPED.to_owned(), Vec::new());
                Found::Ended(Outcome::Exit { code, output: None })
            }
            found => found,
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
