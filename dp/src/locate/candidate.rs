//! A place that may be asked, and what is to be done with it.

use std::fmt::Write as _;
use std::time::Duration;

use catalog::digest::Sha256Digest;
use jiff::Timestamp;

use super::order::{Rank, State};
use super::reason::{Reason, Silence};
use super::{Peer, Point};
use crate::server::LocationKind;

/// Who a candidate is.
#[derive(Debug, Clone, Copy)]
pub enum Place<'p> {
    /// A distribution point, and its number.
    Point(&'p Point, u32),
    /// A client.
    Peer(&'p Peer),
    /// A link of the upstream.
    Cloud(&'p str),
}

/// One place, and what is to be done with it. It owns nothing: there are many, and most are never told.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'p> {
    /// Who it is.
    pub place: Place<'p>,
    /// Its place in the order.
    pub rank: Rank,
    /// Whether it is asked.
    pub state: State,
    /// Why.
    pub reason: Reason<'p>,
    /// Since when it has the content, verified.
    pub since: Option<Timestamp>,
    /// How long nobody has heard of it, where that is long.
    pub silent: Option<Duration>,
}

impl<'p> Candidate<'p> {
    /// What it is.
    pub fn kind(&self) -> LocationKind {
        match self.place {
            Place::Point(..) => LocationKind::DistributionPoint,
            Place::Peer(_) => LocationKind::Peer,
            Place::Cloud(_) => LocationKind::Cloud,
        }
    }

    /// Its name.
    pub fn name(&self) -> &'p str {
        match self.place {
            Place::Point(point, _) => &point.name,
            Place::Peer(peer) => &peer.name,
            Place::Cloud(_) => "upstream",
        }
    }

    /// Where `content` is there.
    pub fn url(&self, content: Sha256Digest) -> String {
        match self.place {
            Place::Point(point, _) => format!("{}/content/{content}", point.url),
            Place::Peer(peer) => format!("http://{}/content/{content}", peer.address),
            Place::Cloud(url) => url.to_owned(),
        }
    }

    /// Why, for people.
    pub fn reason(&self) -> String {
        let mut text = self.reason.to_string();
        if let Some(silent) = self.silent {
            // Writing into a text does not fail.
            let _ = write!(text, "{}", Silence(silent));
        }
        text
    }
}
