//! What goes wrong, and what is done about it ([MS-WSUSSS] section 2.2.9 and what real servers do beside it).
//!
//! A batch that fails is halved, and a revision that fails alone is set aside: it is reported, tried again by the next
//! run, and stops nothing else. What may pass is asked again after a pause. Everything is bounded.

use std::time::Duration;

use catalog::id::RevisionId;
use catalog::problem::{Code, Problem};
use catalog::server_sync::{ErrorCode, Fault};
use schema::servers::Quarantined;

use super::documents::NOT_GIVEN;
use super::machine::{Conversation, Owed, Purpose, Stage, Work};
use super::step::Hope;

/// Revisions that may fail one after the other, with nothing good in between, before it is the server that fails.
const MOST_FAILURES: u32 = 25;
/// Calls one after the other of which nothing whole came. Halving a batch down to one revision takes nine.
const MOST_STALLS: u32 = 12;
/// How often a session may be refused with nothing good in between, and a server may have changed, in one run.
const MOST_RESTARTS: u32 = 3;
/// Tries of a call that failed inside of the server.
const TRIES_INSIDE: u32 = 2;

impl Conversation {
    pub(super) fn faulted(&mut self, work: Work, fault: &Fault, now: i64) {
        use ErrorCode::{
            IncompatibleProtocolVersion, InternalServerError, InvalidAuthorizationCookie, InvalidCookie,
            InvalidParameters, ServerBusy, ServerChanged, TooManyIds,
        };
        let problem = |code| Problem::new(code, fault.to_string());
        match (&fault.code, work.purpose.clone()) {
            (Some(InvalidCookie | InvalidAuthorizationCookie), _) => self.refused(work, fault),
            (Some(ServerChanged), _) => self.server_changed(fault),
            (Some(ServerBusy), _) => self.busy(work, problem(Code::UpstreamBusy), None, now),
            (Some(InvalidParameters), Purpose::List(part)) if part.since.is_some() => {
                self.forget_anchor(part.scope);
            }
            (Some(InvalidParameters | InternalServerError | TooManyIds), Purpose::Data { ids, owed }) => {
                self.divide(ids, owed, 0, Code::RevisionQuarantined, &fault.to_string())
            }
            (Some(InvalidParameters | InternalServerError | TooManyIds), Purpose::Probe(update, numbers)) => {
                self.probe_further(update, numbers)
            }
            (Some(IncompatibleProtocolVersion), _) => self.give_up(problem(Code::UpstreamIncompatible)),
            (_, Purpose::Look) => self.not_looked(),
            (Some(InternalServerError), _) => {
                let tries = self.options.tries.min(TRIES_INSIDE);
                self.again(work, problem(Code::UpstreamFault), tries, now);
            }
            _ => self.give_up(problem(Code::UpstreamFault)),
        }
    }

    pub(super) fn broken(&mut self, work: Work, problem: Problem, hope: Hope, now: i64) {
        if hope == Hope::Smaller {
            self.stalls += 1;
        }
        match (hope, work.purpose.clone()) {
            (Hope::Later, _) => self.again(work, problem, self.options.tries, now),
            (Hope::Busy(after), _) => self.busy(work, problem, after, now),
            (Hope::Halves | Hope::None, Purpose::Look) => self.not_looked(),
            (Hope::Smaller, Purpose::Look) if self.stalls > MOST_STALLS => self.not_looked(),
            (Hope::Smaller, _) if self.stalls > MOST_STALLS => self.give_up(problem),
            (Hope::Halves, Purpose::Data { ids, owed }) => {
                self.divide(ids, owed, 0, problem.code, &problem.to_string());
            }
            (Hope::Smaller, Purpose::Data { .. }) if work.tries < 2 => {
                self.again(work, problem, self.options.tries, now);
            }
            (Hope::Smaller, Purpose::Data { ids, owed }) => {
                self.divide(ids, owed, work.tries, problem.code, &problem.to_string());
            }
            (Hope::Smaller | Hope::Halves, Purpose::Probe(update, numbers)) => {
                self.probe_further(update, numbers);
            }
            (Hope::Smaller, _) => self.again(work, problem, self.options.tries, now),
            (Hope::Halves | Hope::None, _) => self.give_up(problem),
        }
    }

    /// The cookie is not taken. Only a call that was made with the one that there is says anything about it.
    fn refused(&mut self, work: Work, fault: &Fault) {
        if work.generation == self.session.generation() {
            self.refused += 1;
            if self.refused > MOST_RESTARTS {
                return self.give_up(Problem::new(Code::UpstreamCookie, fault.to_string()));
            }
            self.session.refused();
        }
        if !matches!(work.purpose, Purpose::Standing) {
            self.queue.push_front(Work { tries: work.tries.saturating_sub(1), ..work });
        }
    }

    /// The catalog is another one: anchors mean nothing any more, and what is on its way is not waited for.
    fn server_changed(&mut self, fault: &Fault) {
        self.changed += 1;
        if self.changed > MOST_RESTARTS {
            let problem = Problem::new(Code::UpstreamFault, fault.to_string());
            return self.give_up(problem.because("it said so again after its lists were asked for in full"));
        }
        self.notes.push("the server's catalog is another one: its lists are asked for in full".to_owned());
        self.session.refused();
        self.calls.clear();
        self.queue.clear();
        (self.knock, self.listing, self.open) = (None, None, None);
        // What was on its way is asked for once more. What earlier runs set aside stays so until the next one: it may have
        // been asked for in this one, and recorded.
        self.tried.clear();
        self.missing.doubted.extend(std::mem::take(&mut self.known.quarantined));
        self.missing.forget();
        for count in [&mut self.tally.categories, &mut self.tally.updates] {
            count.wanted = count.fetched + count.set_aside;
        }
        self.stage = Stage::Forgetting;
    }

    /// A batch fails as a whole: one revision in it may be the cause, so each half is asked alone. Alone it is set aside; what
    /// nobody said that the server has is not found, which is no fault of it.
    pub(super) fn divide(&mut self, ids: Vec<RevisionId>, owed: Owed, tries: u32, code: Code, reason: &str) {
        match ids.as_slice() {
            [] => {}
            [one] if owed == Owed::Hoped => {
                let (code, reason) = (Quarantined::NOT_FOUND, NOT_GIVEN.to_owned());
                self.record(Vec::new(), vec![Quarantined { id: *one, code, reason }]);
            }
            [one] => {
                let reason = catalog::xml::shown(reason);
                self.record(Vec::new(), vec![Quarantined { id: *one, code, reason: reason.clone() }]);
                self.failures += u32::from(owed == Owed::Named);
                if self.failures >= MOST_FAILURES {
                    let text = format!(
                        "the server gives no revision any more: {MOST_FAILURES} failed, the last is {one}"
                    );
                    self.give_up(Problem::new(Code::UpstreamFault, text).because(reason));
                }
            }
            several => {
                let (left, right) = several.split_at(several.len() / 2);
                self.queue.push_front(Work::data(right.to_vec(), owed, tries));
                self.queue.push_front(Work::data(left.to_vec(), owed, tries));
            }
        }
    }

    /// Once more, later; or not any more. The list of everything is a help that no run fails for.
    fn again(&mut self, mut work: Work, problem: Problem, tries: u32, now: i64) {
        if work.tries >= tries && matches!(work.purpose, Purpose::Look) {
            return self.not_looked();
        }
        if work.tries >= tries {
            return self.give_up(problem.because(format!("asked {} times", work.tries)));
        }
        work.not_before = now.saturating_add(self.pause(&work));
        match work.purpose {
            Purpose::Standing => self.knock = Some(work),
            _ => self.queue.push_back(work),
        }
    }

    /// The server is busy, so nothing is asked for a while. One that names a time that is too far is not waited for.
    fn busy(&mut self, work: Work, problem: Problem, after: Option<Duration>, now: i64) {
        if let Some(after) = after.filter(|after| *after > self.options.longest_pause) {
            let text =
                format!("it asks to come back in {} seconds, which is not waited for", after.as_secs());
            return self.give_up(problem.because(text));
        }
        let named = after.map_or(0, |after| i64::try_from(after.as_millis()).unwrap_or(i64::MAX / 4));
        let until = now.saturating_add(self.pause(&work).max(named));
        self.hold_until = self.hold_until.max(until);
        self.again(work, problem, self.options.tries, now);
    }

    /// Between half and all of a pause that doubles, in milliseconds, so that several sites that failed together do not
    /// come back together.
    fn pause(&self, work: &Work) -> i64 {
        let doubled = 2_u32.saturating_pow(work.tries.saturating_sub(1).min(20));
        let pause = self.options.first_pause.saturating_mul(doubled).min(self.options.longest_pause);
        let mixed = (self.tickets ^ self.options.account_guid.0.as_u64_pair().0)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            >> 56;
        let part = pause / 2 + pause / 2 * u32::try_from(mixed).unwrap_or_default() / 256;
        i64::try_from(part.as_millis()).unwrap_or(i64::MAX / 4)
    }
}
