//! What a machine remembers of a source.

use std::collections::VecDeque;
use std::time::Duration;

use super::Report;

/// No source is asked more often than this within [`BUSY_WINDOW`], however fast it fails.
pub(super) const ASKED_PER_WINDOW: usize = 20;
const BUSY_WINDOW: Duration = Duration::from_secs(60);

/// A source, as far as the machine knows it.
#[derive(Default)]
pub(super) struct Source {
    pub(super) report: Report,
    /// The strong entity tag under which its bytes of the staged file came.
    pub(super) etag: Option<String>,
    /// Attempts since the last that brought something.
    pub(super) fruitless: u32,
    /// How many of them it is given, where that is fewer than others get.
    pub(super) attempts: Option<u32>,
    /// Not asked any more.
    pub(super) out: bool,
    /// It had its attempts, and is not excluded only because a far one stands behind it.
    pub(super) spent: bool,
    /// When a far one is asked instead; since its first fault in a row.
    pub(super) hoped_until: Option<Duration>,
    /// Had a part in a wrong whole: may only be trusted with the whole file.
    pub(super) suspect: bool,
    /// Answered with a wrong range: asked for the whole only.
    pub(super) no_ranges: bool,
    pub(super) not_before: Duration,
    /// It costs a wide line.
    pub(super) far: bool,
    /// The pause is the source's wish: others that are ready go first.
    pub(super) asked_for_pause: bool,
    pub(super) asked_at: VecDeque<Duration>,
    /// Wrong pieces that it shared with others.
    pub(super) shared_lies: u32,
}

impl Source {
    pub(super) fn is_last_resort(&self) -> bool {
        self.suspect || self.no_ranges
    }

    /// Nobody waits for it while another one is ready.
    pub(super) fn is_away(&self) -> bool {
        self.report.unreachable.is_some() || self.spent
    }

    /// For how long it wishes to be left alone.
    pub(super) fn wish(&self, now: Duration) -> Duration {
        if self.asked_for_pause { self.not_before.saturating_sub(now) } else { Duration::ZERO }
    }

    pub(super) fn ready_at(&self) -> Duration {
        let spared = match self.asked_at.front() {
            Some(first) if self.asked_at.len() == ASKED_PER_WINDOW => *first + BUSY_WINDOW,
            _ => Duration::ZERO,
        };
        self.not_before.max(spared)
    }
}
