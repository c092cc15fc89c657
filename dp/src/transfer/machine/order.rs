//! Whom a machine asks next, and for whom it waits.
//!
//! A far source costs a wide line. While one stands behind a nearer one, that one is hoped for: until [`Patience::before_far`] after
//! its first fault in a row it is asked again and again, and the far one only if it says itself that it needs longer. After that
//! the far one is asked, in parts, and between two of them whoever is nearer and ready goes first.
//!
//! [`Patience::before_far`]: super::Patience::before_far

use std::time::Duration;

use super::source::Source;
use super::{Machine, Patience, Step};

/// Pauses before an attempt at a nearer source while it is hoped for are at most this part of the time: it may be
/// back at any moment.
const PAUSES_OF_HOPE: u32 = 4;
/// The longest pause before one that stayed away longer than that is asked again between parts of a far one.
const LONGEST_ABSENCE: Duration = Duration::from_secs(300);

impl Machine {
    /// Says that a source costs a wide line.
    pub fn is_far(&mut self, source: usize) {
        if let Some(source) = self.sources.get_mut(source) {
            source.far = true;
        }
    }

    /// Says that a source could not be reached by other transfers, since so long ago.
    pub fn was_away(&mut self, source: usize, since: Duration) {
        let hope = self.patience.before_far.saturating_sub(since);
        if let Some(source) = self.sources.get_mut(source) {
            source.hoped_until = Some(hope);
        }
    }

    /// Chooses a source and asks it, now or after a pause. One that wishes to be left alone comes after all
    /// that do not, one with a bad record after those without, and one that could not be reached after those that may be.
    /// Otherwise the current one goes on.
    pub(super) fn ask_next(&mut self, now: Duration) -> Step {
        self.choose(now, false)
    }

    /// The same where everything that was asked for has come: who is nearer than a far source goes first.
    pub(super) fn ask_between_parts(&mut self, now: Duration) -> Step {
        self.choose(now, self.sources.get(self.preferred).is_some_and(|source| source.far))
    }

    fn choose(&mut self, now: Duration, between_parts: bool) -> Step {
        if self.fruitless >= self.patience.attempts_in_total {
            return Step::GiveUp;
        }
        if let Some(earlier) = self.earlier.as_ref().filter(|earlier| earlier.end(self.have).is_some()) {
            self.current = earlier.source;
            return self.ask(now);
        }
        let usable = || (0..self.sources.len()).filter(|number| self.may_be_asked(*number, now));
        let rank = |number: usize| self.rank(number, now, between_parts);
        let pause_of = |number: usize| self.sources[number].ready_at().saturating_sub(now);
        let best = usable().min_by_key(|number| {
            let source = &self.sources[*number];
            let away = source.is_away();
            let back_in = if away { pause_of(*number) } else { Duration::ZERO };
            let is_last = source.is_last_resort();
            (rank(*number), source.wish(now), is_last, away, back_in, *number != self.preferred, *number)
        });
        let Some(mut next) = best else { return Step::GiveUp };
        let source = &self.sources[next];
        let hoped = rank(next) == 0;
        let impatient = !hoped || source.is_away() || !source.wish(now).is_zero();
        if !pause_of(next).is_zero() && (impatient || source.far) {
            // Nobody is waited for longer than for another that is as good, and a far one not beside a nearer one.
            let is_last = source.is_last_resort();
            let as_good = usable().filter(|number| {
                let source = &self.sources[*number];
                let is_good = if impatient { !hoped || rank(*number) == 0 } else { *number == next };
                source.is_last_resort() == is_last && (is_good || !source.far)
            });
            let soonest = as_good.min_by_key(|number| (pause_of(*number), *number != next, *number));
            next = soonest.unwrap_or(next);
        }
        let (pause, source) = (pause_of(next), &self.sources[next]);
        let is_over = |source: &Source| source.hoped_until.is_some_and(|until| until <= now);
        self.on_trial = between_parts && !source.far && is_over(source);
        (self.current, self.preferred) = (next, next);
        if pause.is_zero() { self.ask(now) } else { Step::Wait { source: next, pause } }
    }

    /// Whether a source is worth asking. One that had its attempts is while it is hoped for, and whenever its pause is over: with
    /// a far one behind it it is not excluded, and nobody waits for it.
    fn may_be_asked(&self, number: usize, now: Duration) -> bool {
        let source = &self.sources[number];
        let may = !source.spent || source.ready_at() <= now || self.is_hoped_for(number, now);
        !source.out && !self.is_earlier(number) && may
    }

    /// 0: nobody goes before it because of a far one; 1: far, with a nearer one before it; 2: nearer, and not hoped for any more.
    fn rank(&self, number: usize, now: Duration, between_parts: bool) -> u8 {
        let source = &self.sources[number];
        if source.far {
            return if self.is_behind_a_nearer(number) { 1 + u8::from(source.is_last_resort()) } else { 0 };
        }
        let ready = between_parts && source.ready_at() <= now && !source.is_last_resort();
        let ready = ready && self.may_continue(number); // what the far one sent stays
        if !self.is_before_a_far(number) || ready || self.is_hoped_for(number, now) { 0 } else { 2 }
    }

    /// Whether a far source waits for this one, which is ready or will be while there is hope.
    fn is_hoped_for(&self, number: usize, now: Duration) -> bool {
        let source = &self.sources[number];
        let in_time = match source.hoped_until {
            // It has done nothing wrong, and at most it was asked too often.
            None => source.ready_at() <= now.saturating_add(self.patience.before_far),
            // Half of all attempts are left for others.
            Some(until) => {
                now < until
                    && source.ready_at() <= until
                    && self.fruitless < self.patience.attempts_in_total.div_ceil(2)
            }
        };
        in_time && !source.is_last_resort() && self.is_before_a_far(number)
    }

    /// Whether a far source stands behind this nearer one.
    pub(super) fn is_before_a_far(&self, number: usize) -> bool {
        let far_behind = self.sources.iter().skip(number + 1).any(|one| one.far && !one.out);
        far_behind && !self.sources[number].far && !self.is_earlier(number)
    }

    /// Whether a nearer source stands before this far one, and may be ready some time.
    pub(super) fn is_behind_a_nearer(&self, number: usize) -> bool {
        let mut before = self.sources[..number].iter().enumerate();
        let is_far = self.sources[number].far;
        is_far && before.any(|(nearer, one)| !one.far && !one.out && !self.is_earlier(nearer))
    }

    /// Where what is asked of a far source ends, so that a nearer one can go on there.
    pub(super) fn part_of_far(&self, number: usize) -> Option<u64> {
        let part = self.patience.far_part.max(1);
        let may = self.is_behind_a_nearer(number) && !self.sources[number].no_ranges;
        may.then(|| (self.have / part + 1).saturating_mul(part))
    }

    /// The pause after a fault of a source, and for how long it is hoped for.
    pub(super) fn pause_after_fault(&mut self, number: usize, now: Duration) {
        let mut patience: Patience = self.patience;
        let mut until = None;
        if self.is_before_a_far(number) {
            let hoped_until = *self.sources[number].hoped_until.get_or_insert(now + patience.before_far);
            until = Some(hoped_until).filter(|until| now < *until);
            let longest = until.map_or(LONGEST_ABSENCE, |_| patience.before_far / PAUSES_OF_HOPE);
            patience.longest_delay = patience.longest_delay.min(longest);
        }
        let source = &mut self.sources[number];
        let pause = self.jitter.pause(&patience, source.fruitless);
        // Its last attempt comes when hope ends, not a little later.
        source.not_before = (now + pause).min(until.unwrap_or(Duration::MAX));
    }
}
