//! The secrets of a run: asked for when they are needed, and waited for where the site is away (decision 0027).

use catalog::problem::{Code, Problem};

use super::{Device, Line};
use crate::device::executor::Executor;
use crate::device::link::NoAnswer;
use crate::device::machine::{Event, Failure, Outcome};
use crate::device::pause::Away;
use crate::device::variables::Masker;
use crate::policy::{Assignment, Secrets};
use crate::sequence::action::Sealed;

impl<E: Executor> Device<E> {
    /// Asks for the secrets of a deployment, where it has some and they are not known.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub(super) async fn learn_secrets(&mut self, assignment: &Assignment) -> Result<(), NoAnswer> {
        let deployment = &assignment.deployment;
        let known = self.secrets.as_ref().is_some_and(|secrets| secrets.deployment == *deployment);
        if known || !assignment.secrets.iter().any(|secret| secret.present) {
            return Ok(());
        }
        self.secrets = match (&self.own_secrets, &self.link) {
            (Some(own), _) => Some(Secrets { deployment: deployment.clone(), secrets: own.clone() }),
            (None, Some(link)) => Some(link.secrets(deployment).await?),
            (None, None) => None,
        };
        self.log.masker = Masker::of(self.secrets.as_ref());
        Ok(())
    }

    /// What is said of a deployment that does not begin because the site, which has its secrets, does not give them now. A step of
    /// it would fail for something that is over in a minute.
    pub(super) async fn without_its_secrets(
        &mut self,
        assignment: &Assignment,
    ) -> Result<Option<Line>, Problem> {
        let (problem, retry_after) = match self.learn_secrets(assignment).await {
            Ok(()) => {
                self.vain = Away::default();
                return Ok(None);
            }
            Err(NoAnswer::Away { problem, retry_after }) => (problem, retry_after),
            Err(NoAnswer::Refused(problem)) => (problem, None),
        };
        self.vain = self.vain.again(retry_after);
        // It is asked again as soon as a site that did not answer for the policy.
        self.away = self.vain;
        let details = format!("it does not begin before the site gives its secrets: {}", problem.message);
        let line = Line { code: Some(problem.code), details, ..Line::waiting(assignment) };
        self.tell_once(assignment, &line)?;
        Ok(Some(line))
    }

    /// Makes sure that these secrets of the run are known; what happens instead of the act that needs them, if they are not.
    pub(super) async fn need_secrets(&mut self, assignment: &Assignment, places: &[Sealed]) -> Option<Event> {
        let asked = self.learn_secrets(assignment).await;
        let known =
            |place: &&Sealed| self.secrets.as_ref().is_some_and(|secrets| secrets.at(place).is_some());
        let place = String::from(places.iter().find(|place| !known(place))?.clone());
        let details = match asked {
            Err(NoAnswer::Away { problem, retry_after }) => {
                let details = format!("the secret at {place} cannot be asked for now: {}", problem.message);
                let failure = Failure { code: problem.code, exit: None, details };
                return Some(Event::Later(retry_after.unwrap_or_default(), failure));
            }
            // Why not is another matter than that there is none.
            Err(NoAnswer::Refused(problem)) => {
                let details = format!("the site does not give the secret at {place}: {}", problem.message);
                let failure = Failure { code: problem.code, exit: None, details };
                return Some(Event::Ended(Outcome::Failed(failure)));
            }
            Ok(()) => format!("the secret at {place} is not known"),
        };
        let failure = Failure { code: Code::SecretMissing, exit: None, details };
        Some(Event::Ended(Outcome::Failed(failure)))
    }
}
