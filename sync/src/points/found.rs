//! What a report of a point means for what the site knows of it: decided from what was read, then written down.

use catalog::digest::Sha256Digest;
use catalog::id::PackageId;
use catalog::problem::{Code, Problem};
use jiff::Timestamp;
use schema::distribution::ShelfRow;
use schema::points::{ContentState, Placement};
use schema::{SchemaError, Writer};
use tracing::{info, warn};

use super::job;
use super::wire::{MOST_LACKING, Said};
use crate::config::PointRetry;

/// What is another than it was known to be.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Found {
    /// Placements, each with the state in which it was.
    pub(super) changed: Vec<(ContentState, Placement)>,
    /// What the point lacks of what it was believed to have.
    pub(super) lacks: Vec<Sha256Digest>,
    /// Packages that were to be removed, and of which there is nothing any more.
    pub(super) gone: Vec<PackageId>,
}

/// Whose assignment is another one.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Anew {
    /// That of the point that speaks.
    pub(super) here: bool,
    /// That of any point: with the last public copy of a content it is private wherever else it is.
    pub(super) everywhere: bool,
    /// Somebody else was faster.
    pub(super) without_effect: bool,
}

impl Found {
    /// What `said` means for `placements`. It changes nothing of another order; an operator's refusals do not come from a point.
    pub(super) fn of(said: &[Said], placements: &[Placement], retry: &PointRetry, now: Timestamp) -> Self {
        let mut found = Self::default();
        for said in said {
            let Some(placed) = placements.iter().find(|placed| placed.package == said.package) else {
                continue;
            };
            if said.order == placed.order {
                found.lacks.extend(said.lacks.iter().take(MOST_LACKING).copied());
            }
            let mut said = said.clone();
            said.problem = said.problem.map(plain);
            if let Ok(Some(next)) = job::on(placed, job::Event::Said(said), placed.order, retry, now) {
                found.changed.push((placed.state, next));
            }
        }
        found
    }

    /// That `said` is all that the point has: what is to be removed and is not among it is gone.
    pub(super) fn is_all(&mut self, said: &[Said], placements: &[Placement]) {
        let absent = |placed: &&Placement| said.iter().all(|said| said.package != placed.package);
        let removing = placements.iter().filter(|placed| placed.state == ContentState::Removing);
        self.gone = removing.filter(absent).map(|placed| placed.package.clone()).collect();
    }

    /// Nothing is another.
    pub(super) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Clients are sent to other places by it. What a point has is all that they are told of its packages: how far one is on its way
    /// moves nobody.
    pub(super) fn moves_clients(&self) -> bool {
        let comes = |(before, next): &(ContentState, Placement)| {
            *before != next.state && next.state == ContentState::Success
        };
        !(self.gone.is_empty() && self.lacks.is_empty()) || self.changed.iter().any(comes)
    }

    /// Packages of which a point was sent other bytes than it wanted: they may be wrong where they come from.
    pub(super) fn had_wrong_bytes(&self) -> Vec<PackageId> {
        let is_wrong = |problem: &Problem| matches!(problem.code, Code::HashMismatch | Code::SizeMismatch);
        let is_new = |(before, next): &&(ContentState, Placement)| {
            *before != next.state && next.problem.as_ref().is_some_and(is_wrong)
        };
        self.changed.iter().filter(is_new).map(|(_, next)| next.package.clone()).collect()
    }

    /// Tells the log which packages are in another state.
    pub(super) fn log(&self) {
        for (before, next) in self.changed.iter().filter(|(before, next)| *before != next.state) {
            match &next.problem {
                Some(problem) => {
                    warn!("package {} on {}: {before} → {}: {problem}", next.package, next.point, next.state)
                }
                None => info!("package {} on {}: {before} → {}", next.package, next.point, next.state),
            }
        }
    }

    /// Writes it down, but for what an operator has changed since it was read.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) fn write_down(
        &self,
        w: &Writer<'_>,
        point: i64,
        retry: &PointRetry,
        now: Timestamp,
    ) -> Result<Anew, SchemaError> {
        let mut anew = Anew::default();
        for (before, next) in &self.changed {
            // Decided on what was read before: an operator's change in between has another order, or another state.
            let still = w.placement(&next.package, point)?.is_some_and(|placed| {
                placed.order == next.order
                    && !matches!(placed.state, ContentState::Removing | ContentState::Cancelled)
            });
            if !still {
                anew.without_effect = true;
                continue;
            }
            // With the present version what only earlier ones had goes.
            let goes = match next.state {
                ContentState::Success => w.leaving_files(&next.package, point)?,
                _ => Vec::new(),
            };
            w.put_placement(next)?;
            anew.here |= !goes.is_empty();
            anew.everywhere |= have_turned(w, &goes)?;
            // What `validate` finds is told, and not mended: that was the question.
            let is_found_bad = next.state == ContentState::Warning
                && !matches!(before, ContentState::Warning | ContentState::Validating);
            if is_found_bad
                && let Ok(Some(mended)) = job::on(next, job::Event::Mend, w.next_order()?, retry, now)
            {
                w.put_placement(&mended)?;
                anew.here = true;
            }
        }
        for content in &self.lacks {
            w.point_lacks(point, *content)?;
        }
        for package in &self.gone {
            if w.placement(package, point)?.is_some_and(|placed| placed.state == ContentState::Removing) {
                let goes = w.placed_files(package, point)?;
                w.withdraw(package, point)?;
                anew.everywhere |= have_turned(w, &goes)?;
            }
        }
        Ok(anew)
    }
}

/// The most characters of one text of a problem, and the most causes.
const LONGEST: usize = 1_000;
const MOST_CAUSES: usize = 16;

/// A problem in a point's own words, as they may go into the log and the database: on one line each, of a length that can be read, and
/// without what steers a terminal or turns a line round.
fn plain(problem: Problem) -> Problem {
    let is_plain =
        |c: &char| !matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let line = |text: String| -> String {
        let text = text.chars().take(LONGEST).map(|c| if c.is_whitespace() { ' ' } else { c });
        text.filter(|c| !c.is_control() && is_plain(c)).collect()
    };
    Problem {
        code: problem.code,
        message: line(problem.message),
        causes: problem.causes.into_iter().take(MOST_CAUSES).map(line).collect(),
        state: problem.state.map(line),
        help: line(problem.help),
    }
}

/// Whether one of these is private now, or public, and was not when it was read.
fn have_turned(w: &Writer<'_>, rows: &[ShelfRow]) -> Result<bool, SchemaError> {
    for row in rows {
        if w.is_private(row.sha256)? != row.private {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn placed(state: ContentState, order: u64) -> Placement {
        Placement { state, order, ..job::example() }
    }

    fn says(state: ContentState, order: u64) -> Said {
        Said { package: job::example().package, order, state, done: 9, problem: None, lacks: Vec::new() }
    }

    #[test]
    fn what_a_report_means_table() {
        use ContentState::{Cancelled, Failed, Queued, Removing, Sending, Success, Warning};
        // How it was, of which order; what is said, of which; how it is then; whether clients are moved.
        for (was, order, said, of, then, moves) in [
            (Queued, 7, Sending, 7, Some(Sending), false),
            (Sending, 7, Success, 7, Some(Success), true),
            (Success, 7, Success, 7, Some(Success), false),
            (Success, 7, Warning, 7, Some(Warning), false),
            (Sending, 7, Failed, 7, Some(Failed), false),
            // Of another order it says nothing.
            (Queued, 8, Success, 7, None, false),
            (Queued, 7, Success, 8, None, false),
            // What is to go, and what was called off, does not come back by a report.
            (Removing, 7, Success, 7, None, false),
            (Cancelled, 7, Success, 7, None, false),
        ] {
            let said = says(said, of);
            let found =
                Found::of(std::slice::from_ref(&said), &[placed(was, order)], &PointRetry::default(), NOW);
            let row = format!("{was} {order}: {} {of}", said.state);
            assert_eq!(found.changed.first().map(|(_, next)| next.state), then, "{row}");
            assert_eq!((found.moves_clients(), found.is_nothing()), (moves, then.is_none()), "{row}");
            // What it lacks is heard of the present order alone, and moves clients.
            let lacking = Said { lacks: vec![Sha256Digest([1; 32])], ..said };
            let found = Found::of(&[lacking], &[placed(was, order)], &PointRetry::default(), NOW);
            assert_eq!(
                (found.lacks.len(), found.moves_clients()),
                (usize::from(order == of), order == of || moves),
                "{row}"
            );
        }
        let elsewhere = Placement { package: "XYZ00009".parse().unwrap(), ..placed(Queued, 7) };
        let found = Found::of(&[says(Success, 7)], &[elsewhere], &PointRetry::default(), NOW);
        assert!(found.is_nothing(), "of a package that is not there");
    }

    #[test]
    fn wrong_bytes_are_a_reason_to_look() {
        for (code, packages) in [(Code::HashMismatch, 1), (Code::SizeMismatch, 1), (Code::DpDiskFull, 0)] {
            let problem = Some(Problem::new(code, "of a point"));
            let said = Said { problem, ..says(ContentState::Failed, 7) };
            let found = Found::of(&[said], &[placed(ContentState::Sending, 7)], &PointRetry::default(), NOW);
            assert_eq!(found.had_wrong_bytes().len(), packages, "{code}");
        }
    }

    #[test]
    fn only_what_was_to_go_and_is_not_spoken_of_is_gone() {
        for (state, speaks, gone) in [
            (ContentState::Removing, false, 1),
            (ContentState::Removing, true, 0),
            (ContentState::Success, false, 0),
        ] {
            let said: Vec<Said> = speaks.then(|| says(state, 7)).into_iter().collect();
            let mut found = Found::default();
            found.is_all(&said, &[placed(state, 7)]);
            assert_eq!((found.gone.len(), found.moves_clients()), (gone, gone == 1), "{state} {speaks}");
        }
    }

    #[test]
    fn a_point_writes_one_line_and_not_what_it_likes() {
        let good = Problem::new(Code::DpDiskFull, "»p« needs 9 bytes").because("Lücke".to_owned());
        assert_eq!(plain(good.clone()), good);
        let words = "a\u{1b}[2Jb\n2026-01-01 ERROR\u{202e}c\u{0}".to_owned();
        let (many, long) = (vec![words.clone(); 500], "x".repeat(1 << 20));
        let bad = Problem {
            causes: many,
            state: Some(long.clone()),
            help: long,
            ..Problem::new(Code::DpDiskFull, words)
        };
        let said = plain(bad);
        assert_eq!(said.message, "a[2Jb 2026-01-01 ERRORc");
        assert_eq!((said.causes.len(), &said.causes[0]), (MOST_CAUSES, &said.message));
        assert!(said.state.is_some_and(|state| state.len() == LONGEST) && said.help.len() == LONGEST);
    }
}
