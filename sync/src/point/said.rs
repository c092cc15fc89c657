//! What the site need not be told again.
//!
//! A point that stands still says every few seconds that it does, and not each of its packages.

use std::time::{Duration, Instant};

use catalog::digest::Sha256Digest;
use catalog::problem::{Code, Problem};

use crate::points::wire::Said;

/// So often all is said, whatever the site has acknowledged: what either side has wrong by a mistake is right again then.
const ALL_AGAIN: Duration = Duration::from_secs(300);

/// What the site has taken down of what was said.
#[derive(Debug, Default)]
pub(super) struct Acknowledged {
    state: Option<String>,
    /// When all was said last.
    all: Option<Instant>,
}

impl Acknowledged {
    /// Whether a report in this state says all packages.
    pub(super) fn is_to_hear_all(&self, state: &str, now: Instant) -> bool {
        let is_known = self.state.as_deref() == Some(state);
        !is_known || self.all.is_none_or(|all| now.saturating_duration_since(all) >= ALL_AGAIN)
    }

    /// A report is on its way: until it is answered, nothing is known of what the site knows.
    pub(super) fn forget(&mut self) {
        self.state = None;
    }

    /// The site has answered to a report in `state`. Whether all is to be said at once: it was left out, and the site does not know it.
    pub(super) fn answered(
        &mut self,
        state: &str,
        said_all: bool,
        answer: Option<&str>,
        now: Instant,
    ) -> bool {
        self.state = answer.filter(|known| *known == state).map(str::to_owned);
        if said_all {
            self.all = Some(now);
        }
        self.state.is_none() && !said_all
    }
}

/// The name of how all packages are, for the assignment of this tag.
///
/// # Errors
/// `INTERNAL`.
pub(super) fn state_of(assignment: Option<&str>, packages: &[Said]) -> Result<String, Problem> {
    let text =
        serde_json::to_vec(&(assignment, packages)).map_err(|error| Problem::of(Code::Internal, &error))?;
    Ok(Sha256Digest::of(&text).short())
}

#[cfg(test)]
mod tests {
    use schema::points::ContentState;

    use super::*;

    #[test]
    fn what_was_acknowledged_is_not_said_again_for_a_while() {
        let (mut known, start) = (Acknowledged::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(known.is_to_hear_all("a", at(0)));
        assert!(!known.answered("a", true, None, at(0)), "a site of before: it was said");
        assert!(known.is_to_hear_all("a", at(5)));
        assert!(!known.answered("a", true, Some("a"), at(5)));
        assert!(!known.is_to_hear_all("a", at(10)) && known.is_to_hear_all("b", at(10)));
        assert!(!known.answered("a", false, Some("a"), at(10)));
        assert!(known.answered("a", false, None, at(15)), "the site was started again");
        assert!(known.is_to_hear_all("a", at(15)));
        assert!(!known.answered("a", true, Some("a"), at(15)));
        known.forget();
        assert!(known.is_to_hear_all("a", at(16)), "the report was refused, or lost");
        assert!(!known.answered("a", true, Some("a"), at(15)));
        assert!(!known.is_to_hear_all("a", at(314)) && known.is_to_hear_all("a", at(315)));
        assert!(!known.answered("b", true, Some("a"), at(316)), "late: that was another question");
        assert!(known.is_to_hear_all("a", at(317)));
    }

    #[test]
    fn a_state_is_named_by_all_that_is_said_of_it() {
        let said = |state, done| Said {
            package: "XYZ00001".parse().expect("an id"),
            order: 1,
            state,
            done,
            problem: None,
            lacks: Vec::new(),
        };
        let states = [
            (None, vec![]),
            (Some("1"), vec![]),
            (Some("1"), vec![said(ContentState::Sending, 1)]),
            (Some("1"), vec![said(ContentState::Sending, 2)]),
            (Some("1"), vec![said(ContentState::Success, 2)]),
            (Some("2"), vec![said(ContentState::Success, 2)]),
        ];
        let named: std::collections::BTreeSet<_> =
            states.iter().map(|(tag, packages)| state_of(*tag, packages).unwrap()).collect();
        assert_eq!(named.len(), states.len());
        assert_eq!(state_of(None, &[]).unwrap(), state_of(None, &[]).unwrap());
    }
}
