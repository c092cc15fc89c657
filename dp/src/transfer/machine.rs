//! Moving one file from any of several sources into the content library: the part that decides.
//!
//! A [`Machine`] has no socket, no disk and no clock. Whoever drives it performs each [`Step`] and answers with
//! the [`Event`] that came of it; the time is an argument.
//! ```text
//! started ──▶ asking ──answer──▶ reading ──end──▶ checking ──match──▶ committed
//!               ▲                   │                 │
//!               └── same or next ───┴───── fault ─────┘        none left ──▶ given up
//! ```
//! Rules:
//! - No byte becomes visible before the digest of the whole has matched: [`Step::Commit`] carries the proof.
//! - What was received stays, whoever continues it. A source that cannot continue it (no ranges, another
//!   representation) sends the whole again.
//! - A fault that cannot last is tried again at the same source, later and later (full jitter), then at the
//!   next. A lasting one, or too many, excludes the source. Every run ends.
//! - Nobody waits for a source that cannot be reached while another one is ready: it is asked again when no other is left.
//! - A far source (the cloud) comes when those before it are excluded, or have been away for long enough, and is asked part
//!   by part: between two parts who is nearer goes first ([`order`]).
//! - Where the hashes of pieces are known, a wrong piece is dropped alone, and costs its only sender all further trust;
//!   what is staged before it is right, so it is never sent again: of a whole answer that part is skipped.
//! - What this machine has of the file already, in other content, is one more source: it is asked for exactly that, and
//!   nobody else is. Where it is wrong or gone, that part comes from the others.
//! - A wrong digest says that someone lied, not who: nothing is kept, a source that sent every byte is excluded,
//!   and one that only shared in it is asked again alone, after all others.

mod earlier;
mod order;
mod source;
mod step;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use catalog::digest::{BLOCK_SIZE, Mismatch, PIECE_SIZE, Wanted};

use self::earlier::Earlier;
use self::source::{ASKED_PER_WINDOW, Source};
pub use self::step::{Answer, Event, Patience, Report, Step};
use super::fault::Fault;
use super::jitter::Jitter;

/// An attempt that brought the file at least this much further than ever before was worth it: the patience
/// with its source starts anew.
const PROGRESS: u64 = 1 << 20;
/// Wrong pieces that a source may share in with others before it is not asked any more.
const MOST_SHARED_LIES: u32 = 3;

/// Decides what happens next while one file is fetched. See the module's text.
pub struct Machine {
    wanted: Wanted,
    patience: Patience,
    jitter: Jitter,
    sources: Vec<Source>,
    current: usize,
    /// The current source has answered, and its answer is not at its end.
    open: bool,
    /// Where the answer that is asked for should begin.
    from: u64,
    /// Where it should end, if not with the file.
    until: Option<u64>,
    earlier: Option<Earlier>,
    /// The source that was asked last, but for this machine itself.
    preferred: usize,
    /// A nearer source is asked between parts of a far one, though it stayed away: if it still does, that costs nothing.
    on_trial: bool,
    have: u64,
    /// The current attempt brought something.
    fruitful: bool,
    /// The furthest that the file ever came since it was last found wrong.
    furthest: u64,
    fruitless: u32,
    latest_fault: Option<(usize, Fault)>,
    /// The hashes of pieces are known.
    by_pieces: bool,
    /// Bytes of the answer that are staged already.
    skip: u64,
    /// Who sent what is staged: each from its offset to the next one's.
    senders: Vec<(usize, u64)>,
}

impl Machine {
    /// A machine for `sources` sources, the preferred one first. `seed` makes its pauses reproducible.
    pub fn new(wanted: Wanted, sources: usize, patience: Patience, seed: u64) -> Self {
        Self {
            wanted,
            patience,
            jitter: Jitter::new(seed),
            sources: (0..sources).map(|_| Source::default()).collect(),
            current: 0,
            open: false,
            from: 0,
            until: None,
            earlier: None,
            preferred: 0,
            on_trial: false,
            have: 0,
            fruitful: false,
            furthest: 0,
            fruitless: 0,
            latest_fault: None,
            by_pieces: false,
            skip: 0,
            senders: Vec::new(),
        }
    }

    /// Says that the hashes of all pieces are known: [`Event::WrongPiece`] may come.
    pub fn by_pieces(&mut self) {
        self.by_pieces = true;
    }

    /// Says that source number `source` is this machine, which has these parts of the file in other content. It is asked for
    /// nothing else.
    pub fn reuse(&mut self, source: usize, spans: Vec<Range<u64>>) {
        self.earlier = Some(Earlier { source, spans });
    }

    /// Gives one source fewer attempts than the others.
    pub fn limit_attempts(&mut self, source: usize, attempts: u32) {
        if let Some(source) = self.sources.get_mut(source) {
            source.attempts = Some(attempts);
        }
    }

    /// Bytes staged.
    pub fn have(&self) -> u64 {
        self.have
    }

    /// The source that was asked last.
    pub fn current(&self) -> usize {
        self.current
    }

    /// The fault that the last event was or led to, and whose it was; once.
    pub fn take_latest_fault(&mut self) -> Option<(usize, Fault)> {
        self.latest_fault.take()
    }

    /// What became of each source, in their order.
    pub fn into_reports(self) -> Vec<Report> {
        self.sources.into_iter().map(|source| source.report).collect()
    }

    /// The only way in: what just happened, `now` after the start, and so what to do next.
    pub fn on(&mut self, now: Duration, event: Event) -> Step {
        match event {
            Event::Started { have, tag } => self.begin(now, have, tag),
            Event::Answered(
                Answer::From { total: Some(total), .. } | Answer::Whole { total: Some(total), .. },
            ) if total != self.wanted.size => {
                self.fall_back(now, Fault::Size { expected: self.wanted.size, actual: total })
            }
            Event::Answered(Answer::From { offset, etag, .. })
                if offset == self.from && offset == self.have =>
            {
                self.read(etag)
            }
            Event::Answered(Answer::From { offset, .. }) => {
                self.wrong_range(now, format!("those from {offset}"))
            }
            Event::Answered(Answer::Whole { etag, .. }) => match self.have {
                0 => {
                    self.until = None;
                    self.read(etag)
                }
                have if self.by_pieces => {
                    // It is on its way, and sent again for each part it would be for nothing.
                    self.until = None;
                    self.skip = have;
                    self.read(etag)
                }
                _ if self.on_trial => self.wrong_range(now, "the whole".to_owned()),
                _ => self.start_over(etag),
            },
            Event::Answered(Answer::NothingThere { total: Some(total) }) if total != self.wanted.size => {
                self.fall_back(now, Fault::Size { expected: self.wanted.size, actual: total })
            }
            Event::Answered(Answer::NothingThere { .. }) => self.wrong_range(now, "none".to_owned()),
            Event::Rewound if self.open => Step::Read,
            Event::Rewound => self.ask_next(now),
            Event::Chunk(bytes) if bytes.len() as u64 > self.wanted.size - self.have + self.skip => {
                self.too_long(now)
            }
            Event::Chunk(bytes) => self.accept(bytes),
            Event::WrongPiece { offset } => self.wrong_piece(now, offset),
            Event::Written => Step::Read,
            Event::Ended
                if self.have < self.wanted.size && self.until.is_some_and(|until| self.have >= until) =>
            {
                self.part_is_here(now)
            }
            Event::Ended | Event::Failed(_)
                if self.open && self.is_earlier(self.current) && self.have < self.wanted.size =>
            {
                self.changed(now)
            }
            Event::Ended if self.have < self.wanted.size => {
                let expected = self.until.unwrap_or(self.wanted.size);
                self.fall_back(now, Fault::CutShort { expected, actual: self.have })
            }
            Event::Ended => self.check(),
            // Every byte is there: how the answer ends does not matter any more, the digest does.
            Event::Failed(_) if self.open && self.have == self.wanted.size => self.check(),
            Event::Failed(fault) => self.fall_back(now, fault),
            Event::Matched(verified) => Step::Commit(verified),
            Event::Differs(mismatch) => self.someone_lied(mismatch),
            Event::Waited => self.ask(now),
        }
    }

    fn begin(&mut self, now: Duration, have: u64, tag: Option<(usize, String)>) -> Step {
        (self.have, self.furthest) = (have, have);
        if have > self.wanted.size {
            return self.discard();
        }
        if let Some((source, etag)) = tag
            && let Some(source) = self.sources.get_mut(source)
        {
            source.etag = strong(Some(etag));
        }
        if have == self.wanted.size { self.check() } else { self.ask_next(now) }
    }

    fn ask(&mut self, now: Duration) -> Step {
        let is_earlier = self.is_earlier(self.current);
        self.from = if is_earlier || self.may_continue(self.current) { self.have } else { 0 };
        let until = self.earlier.as_ref().and_then(|earlier| match is_earlier {
            true => earlier.end(self.have),
            false => earlier.next(self.have),
        });
        let ends = [until, self.part_of_far(self.current)].into_iter().flatten();
        self.until = ends.min().filter(|until| self.from == self.have && *until < self.wanted.size);
        let source = &mut self.sources[self.current];
        self.fruitful = false;
        self.skip = 0;
        source.asked_for_pause = false;
        if source.asked_at.len() == ASKED_PER_WINDOW {
            source.asked_at.pop_front();
        }
        source.asked_at.push_back(now);
        let if_range = if self.from > 0 { source.etag.clone() } else { None };
        Step::Ask { source: self.current, from: self.from, until: self.until, if_range }
    }

    fn is_earlier(&self, number: usize) -> bool {
        self.earlier.as_ref().is_some_and(|earlier| earlier.source == number)
    }

    /// Everything that was asked for has come, and more is wanted: that is no attempt that failed.
    fn part_is_here(&mut self, now: Duration) -> Step {
        self.open = false;
        let source = &mut self.sources[self.current];
        source.asked_at.pop_back();
        (source.fruitless, source.spent, source.hoped_until) = (0, false, None);
        self.ask_between_parts(now)
    }

    /// What this machine had is not there any more, or not right: others give it.
    fn changed(&mut self, now: Duration) -> Step {
        self.open = false;
        let block = BLOCK_SIZE as u64;
        if let Some(earlier) = &mut self.earlier {
            earlier.forget(self.have / block * block..(self.have / block + 1) * block);
        }
        self.ask_next(now)
    }

    /// Whether `number` may add to what is staged. A suspect neither continues the bytes of others nor are
    /// its own continued by them.
    fn may_continue(&self, number: usize) -> bool {
        let source = &self.sources[number];
        let all_its_own = source.report.bytes == self.have;
        let suspects = self.sources.iter().any(|other| other.suspect && other.report.bytes > 0);
        !source.no_ranges && (all_its_own || !(source.suspect || suspects))
    }

    fn read(&mut self, etag: Option<String>) -> Step {
        let source = &mut self.sources[self.current];
        (source.etag, source.report.unreachable) = (strong(etag), None);
        self.open = true;
        Step::Read
    }

    /// The source sends the whole: what is staged makes room for it.
    fn start_over(&mut self, etag: Option<String>) -> Step {
        let step = self.forget();
        let source = &mut self.sources[self.current];
        (source.etag, source.report.unreachable) = (strong(etag), None);
        (self.open, self.until) = (true, None);
        step
    }

    /// What is staged was of no use, so the way to the end is as long as it was at first.
    fn discard(&mut self) -> Step {
        self.furthest = 0;
        self.forget()
    }

    fn forget(&mut self) -> Step {
        self.have = 0;
        self.senders.clear();
        for source in &mut self.sources {
            source.report.bytes = 0;
            source.etag = None;
        }
        Step::Rewind
    }

    fn accept(&mut self, mut bytes: Bytes) -> Step {
        let skipped = self.skip.min(bytes.len() as u64);
        self.skip -= skipped;
        bytes = bytes.split_off(skipped as usize);
        if bytes.is_empty() {
            return Step::Read;
        }
        let size = bytes.len() as u64;
        if self.senders.last().is_none_or(|(last, _)| *last != self.current) {
            self.senders.push((self.current, self.have));
        }
        self.have += size;
        let source = &mut self.sources[self.current];
        source.report.bytes += size;
        if self.have >= self.furthest + PROGRESS {
            self.furthest = self.have;
            self.fruitful = true;
            (source.spent, source.hoped_until) = (false, None);
        }
        Step::Write(bytes)
    }

    fn check(&mut self) -> Step {
        self.open = false;
        Step::Check
    }

    /// It has another file than the one wanted. What it alone has sent is worthless.
    fn too_long(&mut self, now: Duration) -> Step {
        let all_its_own = self.sources[self.current].report.bytes == self.have;
        self.blame(now, Fault::TooLong { limit: self.wanted.size });
        if self.by_pieces && self.have == self.wanted.size {
            return self.check(); // each piece is here, and right or about to be found wrong
        }
        // By pieces only its last one can be wrong, and will be found to be.
        if all_its_own && self.have > 0 && !self.by_pieces { self.discard() } else { self.ask_next(now) }
    }

    fn wrong_range(&mut self, now: Duration, actual: String) -> Step {
        let fault = Fault::WrongRange { expected: self.from, actual };
        let source = &mut self.sources[self.current];
        if source.no_ranges {
            return self.fall_back(now, fault);
        }
        (source.no_ranges, source.report.unreachable, source.report.shared) = (true, None, false);
        source.report.faults.push(fault.clone());
        self.latest_fault = Some((self.current, fault));
        self.fruitless += 1;
        self.open = false;
        self.ask_next(now)
    }

    fn someone_lied(&mut self, mismatch: Mismatch) -> Step {
        for source in self.sources.iter_mut().filter(|source| source.report.bytes > 0) {
            if source.report.bytes == self.have {
                source.out = true;
            }
            source.suspect = true;
            source.report.shared = source.report.bytes != self.have;
            source.report.faults.push(Fault::Digest(mismatch));
        }
        if let Some(earlier) = &mut self.earlier {
            earlier.spans.clear();
        }
        self.latest_fault = Some((self.current, Fault::Digest(mismatch)));
        self.fruitless += 1;
        self.discard()
    }

    /// Whoever sent all of the piece has lied. Where several did, one of them has: they are trusted a few times more.
    fn wrong_piece(&mut self, now: Duration, offset: u64) -> Step {
        let (fault, end) = (Fault::Piece { offset }, offset + PIECE_SIZE as u64);
        let ends = self.senders.iter().skip(1).map(|(_, from)| *from).chain([self.have]);
        let liars: BTreeSet<_> = self
            .senders
            .iter()
            .zip(ends)
            .filter(|((_, from), to)| *from < end && *to > offset)
            .map(|((source, _), _)| *source)
            .collect();
        // What this machine had may be what was wrong. Without it there is no doubt, the next time.
        let own = self.earlier.as_mut().filter(|earlier| liars.contains(&earlier.source));
        let liars = match own {
            Some(earlier) => {
                earlier.forget(offset..end);
                BTreeSet::new()
            }
            None => {
                self.fruitless += 1;
                liars
            }
        };
        // Bytes of an earlier transfer have no sender here, and may have been the wrong ones.
        let all_sent = self.senders.first().is_some_and(|(_, from)| *from <= offset);
        for number in &liars {
            let source = &mut self.sources[*number];
            source.shared_lies += 1;
            let is_certain = all_sent && liars.len() == 1;
            source.out |= is_certain || source.shared_lies >= MOST_SHARED_LIES;
            source.report.shared = !is_certain;
            source.report.faults.push(fault.clone());
            self.latest_fault = Some((*number, fault.clone()));
        }
        self.senders.retain(|(_, from)| *from < offset);
        self.have = offset;
        self.open = false;
        let mut end = self.have;
        for source in &mut self.sources {
            source.report.bytes = 0;
        }
        for (source, from) in self.senders.iter().rev() {
            self.sources[*source].report.bytes += end - from;
            end = *from;
        }
        self.ask_next(now)
    }

    fn fall_back(&mut self, now: Duration, fault: Fault) -> Step {
        self.blame(now, fault);
        self.ask_next(now)
    }

    fn blame(&mut self, now: Duration, fault: Fault) {
        self.open = false;
        let can_be_spared = self.is_before_a_far(self.current);
        let on_trial = std::mem::take(&mut self.on_trial);
        let patience = &self.patience;
        let source = &mut self.sources[self.current];
        if self.fruitful {
            source.fruitless = 1;
        } else {
            source.fruitless += 1;
            self.fruitless += u32::from(!on_trial);
        }
        // Who says that it is busy is there.
        let few = source.attempts.filter(|_| !matches!(fault, Fault::Busy { .. }));
        source.spent = source.fruitless >= patience.attempts_per_source;
        let no_more = few.is_some_and(|few| source.fruitless >= few) || (source.spent && !can_be_spared);
        source.out = fault.is_lasting() || no_more;
        source.report.unreachable = matches!(fault, Fault::Unreachable(_))
            .then(|| source.report.unreachable.map_or(now, |since| since.min(now)));
        self.pause_after_fault(self.current, now);
        let source = &mut self.sources[self.current];
        if let Fault::Busy { retry_after: Some(wish), .. } = &fault {
            source.out |= *wish > self.patience.longest_retry_after;
            source.not_before = source.not_before.max(now + *wish);
            source.asked_for_pause = true;
        }
        source.report.shared = false;
        source.report.faults.push(fault.clone());
        self.latest_fault = Some((self.current, fault));
    }
}

/// Only a strong entity tag may stand in `If-Range` (RFC 9110 section 13.1.5).
fn strong(etag: Option<String>) -> Option<String> {
    etag.filter(|etag| etag.starts_with('"'))
}
