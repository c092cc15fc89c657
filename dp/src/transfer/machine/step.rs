//! The words between a machine and who drives it.

use std::time::Duration;

use bytes::Bytes;
use catalog::digest::{Mismatch, Verified};

use crate::transfer::fault::Fault;

/// How patient a [`super::Machine`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Attempts at one source, one after the other, that bring nothing.
    pub attempts_per_source: u32,
    /// Such attempts in all, whatever the source.
    pub attempts_in_total: u32,
    /// The most that the first pause lasts; each one after it may last twice as long.
    pub first_delay: Duration,
    /// The most that any pause of our own choice lasts.
    pub longest_delay: Duration,
    /// A source that asks to be left alone for longer than this is given up.
    pub longest_retry_after: Duration,
    /// So long after its first fault a source is waited for before a far one behind it is asked.
    pub before_far: Duration,
    /// The most bytes that are asked of a far source at once, where one stands before it.
    pub far_part: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts_per_source: 5,
            attempts_in_total: 60,
            first_delay: Duration::from_secs(1),
            longest_delay: Duration::from_secs(15 * 60),
            longest_retry_after: Duration::from_secs(6 * 60 * 60),
            before_far: Duration::from_secs(60),
            far_part: 64 << 20,
        }
    }
}

/// What a source answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The rest, from `offset` on (206), of a file of `total` bytes if it says so.
    From {
        /// First byte that will come.
        offset: u64,
        /// Bytes of the whole file.
        total: Option<u64>,
        /// Its strong entity tag.
        etag: Option<String>,
    },
    /// The whole file (200), of `total` bytes if it says so.
    Whole {
        /// Bytes of the whole file.
        total: Option<u64>,
        /// Its strong entity tag.
        etag: Option<String>,
    },
    /// Nothing that begins so late (416), of a file of `total` bytes if it says so.
    NothingThere {
        /// Bytes of the whole file.
        total: Option<u64>,
    },
}

impl Answer {
    /// The strong entity tag of what comes.
    pub fn etag(&self) -> Option<&str> {
        match self {
            Self::From { etag, .. } | Self::Whole { etag, .. } => etag.as_deref(),
            Self::NothingThere { .. } => None,
        }
    }
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The staged file is open and holds `have` bytes from before. `tag` is the entity tag under which the
    /// source of that number sent the last of them.
    Started {
        /// Bytes staged.
        have: u64,
        /// Source and its strong entity tag.
        tag: Option<(usize, String)>,
    },
    /// The source answered.
    Answered(Answer),
    /// Nothing is staged any more.
    Rewound,
    /// Bytes came.
    Chunk(Bytes),
    /// The answer ended as its sender meant it to.
    Ended,
    /// The bytes are on their way to the disk.
    Written,
    /// All staged bytes are what was wanted.
    Matched(Verified),
    /// They are not.
    Differs(Mismatch),
    /// A piece is not what it must be: it and all after it is staged no more.
    WrongPiece {
        /// Where it begins.
        offset: u64,
    },
    /// The pause is over.
    Waited,
    /// The source did something wrong, or nothing at all.
    Failed(Fault),
}

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// Ask `source` for the bytes from `from` on; without a range where that is 0 and there is no `until`.
    Ask {
        /// The number of the source.
        source: usize,
        /// The offset to go on from.
        from: u64,
        /// Where what is wanted of it ends; the end of the file if not given.
        until: Option<u64>,
        /// For the `If-Range` field.
        if_range: Option<String>,
    },
    /// Forget what is staged.
    Rewind,
    /// Take the next bytes of the answer.
    Read,
    /// Stage these.
    Write(Bytes),
    /// Compare what is staged with what was wanted.
    Check,
    /// Make it visible.
    Commit(Verified),
    /// Pause before `source` is asked.
    Wait {
        /// The number of the source.
        source: usize,
        /// How long.
        pause: Duration,
    },
    /// No source is left.
    GiveUp,
}

/// What became of one source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Bytes of the staged file that are from this source.
    pub bytes: u64,
    /// Everything it did wrong, in order.
    pub faults: Vec<Fault>,
    /// What it did wrong last may have been done by another, whose bytes stood beside its own.
    pub shared: bool,
    /// Since when it could not be reached, where that is so.
    pub unreachable: Option<Duration>,
}
