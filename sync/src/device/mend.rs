//! What is done about content that is wrong right before it is used. Pure.
//!
//! ```text
//! checked ──right──▶ used
//!    ▲  └────wrong──▶ removed, and fetched again; who gave it before is asked last ──┐
//!    └───────────────────────────────────────────────────────────────────────────────┘ at most twice; then the step fails
//! ```
//! What a source sends is checked while it arrives, so that a wrong file was damaged here. It may have been more than once;
//! what is wrong again and again is not fetched for ever.

use catalog::problem::{Code, Problem};

use super::machine::Failure;

/// So often one file is fetched again for one act of a step.
pub const AGAIN: usize = 2;

/// What happened to one file.
#[derive(Debug, Default)]
pub struct Mending {
    /// Why it was wrong, each time.
    wrong: Vec<Problem>,
    /// Who gave it, each time, in order.
    gave: Vec<Vec<String>>,
}

/// What is next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// It is used.
    Use,
    /// It is removed, and fetched again.
    Again,
    /// The step fails, and what is there is removed.
    Fail(Failure),
}

impl Mending {
    /// Who gave it this time; nobody where it was here already.
    pub fn came_from(&mut self, gave: &[String]) {
        self.gave.push(gave.to_vec());
    }

    /// Names of those who are asked after all others.
    pub fn asked_last(&self) -> Vec<String> {
        self.gave.iter().flatten().cloned().collect()
    }

    /// How often it was wrong.
    pub fn times(&self) -> usize {
        self.wrong.len()
    }

    /// It was read whole.
    pub fn on(&mut self, checked: Result<(), Problem>, name: &str) -> Next {
        let Err(problem) = checked else { return Next::Use };
        self.wrong.push(problem);
        if self.wrong.len() <= AGAIN {
            return Next::Again;
        }
        let times = self.wrong.len();
        Next::Fail(self.failed(format!("`{name}` was wrong {times} times, and is not fetched again")))
    }

    /// Nobody gives it. Where it was never wrong, that is all there is to say.
    pub fn unfetched(&self, failure: Failure, name: &str) -> Failure {
        match self.times() {
            0 => failure,
            _ => self
                .failed(format!("`{name}` was wrong, and could not be fetched again: {}", failure.details)),
        }
    }

    /// The first time is what the step fails of.
    fn failed(&self, what: String) -> Failure {
        let code = self.wrong.first().map_or(Code::HashMismatch, |problem| problem.code);
        let mut details = what;
        for (problem, gave) in self.wrong.iter().zip(&self.gave) {
            let whom = if gave.is_empty() {
                "it was here already".to_owned()
            } else {
                format!("from {}", gave.join(", "))
            };
            details.push_str(&format!("; {whom}: {}", problem.message));
        }
        Failure { code, exit: None, details }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong() -> Result<(), Problem> {
        Err(Problem::new(Code::HashMismatch, "expected a, it is b"))
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_wrong_file_is_fetched_again_from_somebody_else_and_not_for_ever() {
        let mut mending = Mending::default();
        mending.came_from(&[]);
        assert_eq!(mending.on(wrong(), "x.esd"), Next::Again);
        assert_eq!(mending.asked_last(), names(&[]), "nobody knows who gave it");
        mending.came_from(&names(&["desk-7", "site"]));
        assert_eq!(mending.on(wrong(), "x.esd"), Next::Again);
        assert_eq!(mending.asked_last(), names(&["desk-7", "site"]));
        mending.came_from(&names(&["rome"]));
        let Next::Fail(failure) = mending.on(wrong(), "x.esd") else { panic!("it is fetched for ever") };
        assert_eq!(failure.code, Code::HashMismatch);
        for told in
            ["`x.esd` was wrong 3 times", "here already", "from desk-7, site: expected a", "from rome"]
        {
            assert!(failure.details.contains(told), "{told}: {}", failure.details);
        }
    }

    #[test]
    fn what_is_right_is_used_and_what_nobody_gives_fails_of_what_was_wrong() {
        let mut mending = Mending::default();
        let away =
            Failure { code: Code::ContentUnavailable, exit: None, details: "nobody has it".to_owned() };
        assert_eq!(mending.unfetched(away.clone(), "x"), away, "it was never wrong");
        mending.came_from(&names(&["site"]));
        assert_eq!(mending.on(wrong(), "x"), Next::Again);
        let failure = mending.unfetched(away, "x");
        assert_eq!(failure.code, Code::HashMismatch);
        assert!(failure.details.contains("could not be fetched again: nobody has it"), "{}", failure.details);
        mending.came_from(&names(&["cloud"]));
        assert_eq!((mending.on(Ok(()), "x"), mending.times()), (Next::Use, 1));
    }
}
