//! What a server has done since it was started, in numbers. Each is an atomic of its own: nothing waits for anything.

use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;

use super::refusal::Refusal;
use super::tally::{Row, Tally};

/// As what content was served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Source {
    /// By a distribution point, of its own library.
    #[default]
    Point,
    /// By a client, to another one.
    Peer,
    /// By a distribution point that fetched it because it was asked.
    PullThrough,
}

impl Source {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Point, Self::Peer, Self::PullThrough];

    /// As counters name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Point => "distribution-point",
            Self::Peer => "peer",
            Self::PullThrough => "pull-through",
        }
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// 200.
    Whole,
    /// 206.
    Part,
    /// 304.
    NotModified,
    /// 4xx.
    Refused,
    /// 5xx.
    Failed,
}

impl Outcome {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Whole, Self::Part, Self::NotModified, Self::Refused, Self::Failed];

    /// As counters name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Part => "part",
            Self::NotModified => "not-modified",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }

    pub(super) fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::PARTIAL_CONTENT => Self::Part,
            StatusCode::NOT_MODIFIED => Self::NotModified,
            status if status.is_client_error() => Self::Refused,
            status if status.is_server_error() => Self::Failed,
            _ => Self::Whole,
        }
    }
}

/// Counted since the start.
#[derive(Debug, Default)]
pub struct Served {
    /// Requests answered.
    pub requests: AtomicU64,
    /// Bytes of bodies given to connections; of a transfer that was cut at most one step more than arrived.
    pub bytes: AtomicU64,
    /// Bytes of content that went from the file to the socket, past every buffer of ours. Known when a connection ends.
    pub by_region: AtomicU64,
    /// Connections that are open.
    pub connections: AtomicU64,
    /// Bodies above [`super::SMALL_BODY`] that are being sent.
    pub transfers: AtomicU64,
    /// Requests that wait for their turn to be sent.
    pub waiting: AtomicU64,
    bytes_by: [AtomicU64; Source::ALL.len()],
    requests_by: [[AtomicU64; Outcome::ALL.len()]; Source::ALL.len()],
    refused_by: [AtomicU64; Refusal::ALL.len()],
    /// Bytes by the boundary group of the client's address, then by [`Source`].
    pub groups: Tally<{ Source::ALL.len() }>,
}

/// What clients of one group were sent.
pub(super) type GroupRow = Row<{ Source::ALL.len() }>;

impl Served {
    /// Bytes served so.
    pub fn bytes_as(&self, source: Source) -> u64 {
        self.bytes_by[source as usize].load(Ordering::Relaxed)
    }

    /// Requests that ended so.
    pub fn requests_as(&self, source: Source, outcome: Outcome) -> u64 {
        self.requests_by[source as usize][outcome as usize].load(Ordering::Relaxed)
    }

    /// How often something was not served for this reason.
    pub fn refused(&self, refusal: Refusal) -> u64 {
        self.refused_by[refusal as usize].load(Ordering::Relaxed)
    }

    pub(super) fn answered(&self, source: Source, status: StatusCode) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.requests_by[source as usize][Outcome::of(status) as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sent(&self, source: Source, group: &GroupRow, bytes: u64) {
        group.add(source as usize, bytes);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bytes_by[source as usize].fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn refuse(&self, refusal: Refusal) {
        self.refused_by[refusal as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// One more in a gauge for as long as this lives.
#[derive(Debug)]
pub(super) struct Counted<'s>(&'s AtomicU64);

impl<'s> Counted<'s> {
    pub(super) fn new(gauge: &'s AtomicU64) -> Self {
        gauge.fetch_add(1, Ordering::Relaxed);
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
