//! Ranks and candidates: the order.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use catalog::digest::Sha256Digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::reason::{MOST_PEERS, Reason};
use super::{Fallback, Held, Options, Peer, Places, Standing, boundary};
use crate::server::LocationKind;

/// Who asks in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The client itself: applications, updates, feature updates. It waits for neighbours.
    Client,
    /// The task sequence engine: packages, images, drivers. It does not wait; flags of the deployment say whether points of
    /// neighbours and of the default site group may be used at all.
    Engine {
        /// "Use a remote distribution point".
        neighbours: bool,
        /// "Use the default site boundary group".
        default_group: bool,
    },
}

/// A question.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// Where the client asks from.
    pub client: IpAddr,
    /// What it wants.
    pub content: Sha256Digest,
    /// How long ago it asked first.
    pub elapsed: Duration,
    /// In which order it asks.
    pub order: Order,
}

/// How much is told of what is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Points that are in no group in reach are only counted.
    InReach,
    /// Every point is named.
    All,
}

/// The place of a candidate in the order, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rank {
    /// A point on the client's own computer.
    ThisComputer,
    /// A peer in its subnet.
    SubnetPeer,
    /// A point in its subnet.
    SubnetPoint,
    /// A peer in its groups.
    GroupPeer,
    /// A point in its groups.
    GroupPoint,
    /// A point of a neighbour.
    NeighbourPoint,
    /// A point of the default site group.
    DefaultPoint,
    /// The upstream.
    Cloud,
}

/// Whether a candidate is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Now.
    In,
    /// So long after the first question.
    Later(Duration),
    /// Not at all.
    Out,
}

/// One place, and what is to be done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Who it is.
    pub kind: LocationKind,
    /// Its name.
    pub name: String,
    /// Where the content is there.
    pub url: String,
    /// Its place in the order.
    pub rank: Rank,
    /// Whether it is asked.
    pub state: State,
    /// Why.
    pub reason: Reason,
    /// Since when it has the content, verified.
    pub since: Option<Timestamp>,
    /// Clients are told to ask it as they asked for its address.
    pub as_asked: bool,
}

/// The answer to a question: candidates in order, those that are in before later ones before those that are out.
#[derive(Debug)]
pub struct Found<'p> {
    /// What is known of the content.
    pub held: &'p Held,
    /// Where the client is.
    pub standing: Standing,
    /// All that is told.
    pub candidates: Vec<Candidate>,
    /// Points that are out and not told.
    pub untold: usize,
}

/// Sorts within a rank, the same for the same client and content: FNV-1a, and a finish that spreads its low bits.
fn shuffled(client: IpAddr, content: Sha256Digest, place: &str) -> u64 {
    let address = match client {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    let bytes = address.iter().chain(&content.0[..8]).chain(place.as_bytes());
    let mixed = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    let folded = (mixed ^ (mixed >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    folded ^ (folded >> 29)
}

/// What a candidate is sorted by.
type Key = (State, u8, Duration, u64);

/// Everything that one answer is made of.
struct Making<'p> {
    places: &'p Places,
    request: Request,
    client: IpAddr,
    held: &'p Held,
    standing: Standing,
    /// The end of the content's address at any point or peer.
    path: String,
    candidates: Vec<Candidate>,
    /// Of each candidate.
    keys: Vec<Key>,
    untold: usize,
}

impl Places {
    /// Who has `request.content` and may be asked by its client, best first, and who may not and why. `peers` are those that
    /// say they have it. `None` where nobody is known.
    pub fn find<'p>(&'p self, request: &Request, peers: &[Peer], detail: Detail) -> Option<Found<'p>> {
        let held = self.contents.get(&request.content)?;
        let client = request.client.to_canonical();
        let standing = self.standing(client);
        let mut making = Making {
            places: self,
            request: *request,
            client,
            held,
            standing,
            path: format!("/content/{}", request.content),
            candidates: Vec::new(),
            keys: Vec::new(),
            untold: 0,
        };
        making.points(detail);
        making.peers(peers, detail);
        making.cloud();
        let Making { standing, candidates, keys, untold, .. } = making;
        // Numbers are sorted, and each candidate is moved once. The name ends all ties: the order is total.
        let mut order: Vec<usize> = (0..candidates.len()).collect();
        order.sort_unstable_by(|a, b| {
            let of = |number: &usize| (keys[*number], &candidates[*number].name, &candidates[*number].url);
            of(a).cmp(&of(b)).then(a.cmp(b))
        });
        let mut candidates: Vec<_> = candidates.into_iter().map(Some).collect();
        let candidates = order.into_iter().filter_map(|number| candidates[number].take()).collect();
        Some(Found { held, standing, candidates, untold })
    }
}

impl Making<'_> {
    fn options(&self) -> &Options {
        &self.standing.options
    }

    /// Where a rank stands, under the options of the client's groups.
    fn place(&self, rank: Rank) -> u8 {
        if let Order::Engine { .. } = self.request.order {
            return match rank {
                Rank::SubnetPeer => 0,
                Rank::GroupPeer => 1,
                Rank::ThisComputer => 2,
                Rank::SubnetPoint => 3,
                Rank::GroupPoint => 4,
                Rank::NeighbourPoint => 5,
                Rank::DefaultPoint => 6,
                Rank::Cloud => 7,
            };
        }
        let Options { prefer_points, prefer_cloud, .. } = *self.options();
        match rank {
            Rank::ThisComputer => 0,
            Rank::SubnetPeer if prefer_points => 3,
            Rank::SubnetPeer => 1,
            // Before points; peers of the own subnet still cost the line to the internet nothing.
            Rank::Cloud if prefer_cloud && prefer_points => 1,
            Rank::Cloud if prefer_cloud => 2,
            Rank::SubnetPoint => {
                if prefer_points {
                    2
                } else {
                    3
                }
            }
            Rank::GroupPeer => 4,
            Rank::GroupPoint => 5,
            Rank::NeighbourPoint => 6,
            Rank::DefaultPoint => 7,
            Rank::Cloud => 8,
        }
    }

    fn push(&mut self, candidate: Candidate, after: Duration) {
        let place = self.place(candidate.rank);
        let shuffled = shuffled(self.client, self.request.content, &candidate.url) >> 1;
        // Among equals a point that would have to fetch it comes last.
        let fetches = candidate.kind == LocationKind::DistributionPoint && candidate.since.is_none();
        self.keys.push((candidate.state, place, after, shuffled | (u64::from(fetches) << 63)));
        self.candidates.push(candidate);
    }

    /// Where the content is at somebody's `base`.
    fn url(&self, base: &[&str]) -> String {
        let length = base.iter().map(|part| part.len()).sum::<usize>() + self.path.len();
        let mut url = String::with_capacity(length);
        base.iter().for_each(|part| url.push_str(part));
        url.push_str(&self.path);
        url
    }

    fn points(&mut self, detail: Detail) {
        let places = self.places;
        let current = self.standing.groups.clone();
        let mut told = BTreeMap::new();
        for group in &current {
            for point in &places.groups[*group as usize].points {
                told.entry(*point).or_insert((*group, Duration::ZERO, Reason::OutOfReach, false));
            }
        }
        let names = |group: u32| places.groups[group as usize].name.clone();
        let mut neighbours: Vec<_> = places.neighbours(&current).into_iter().collect();
        // A point in two neighbours is asked after the shorter time; at the same time as any neighbour's, not as the default's.
        neighbours.sort_by_key(|(to, (fallback, _))| (*fallback, *to == places.default_group, *to));
        for (to, (fallback, from)) in neighbours {
            let (after, reason) = match fallback {
                Fallback::Never => (Duration::MAX, Reason::Never(names(to))),
                Fallback::After(after) if to == places.default_group => (after, Reason::DefaultGroup),
                Fallback::After(after) => (after, Reason::Neighbour { group: names(to), of: names(from) }),
            };
            for point in &places.groups[to as usize].points {
                told.entry(*point).or_insert_with(|| (to, after, reason.clone(), true));
            }
        }
        for (point, (group, after, reason, remote)) in &told {
            if *remote {
                self.remote_point(*point, *after, reason.clone());
            } else {
                self.current_point(*point, *group);
            }
        }
        let rest = places.points.len() - told.len();
        match detail {
            Detail::InReach => self.untold = rest,
            Detail::All => {
                for point in (0..places.points.len() as u32).filter(|point| !told.contains_key(point)) {
                    self.point(point, Rank::NeighbourPoint, State::Out, Reason::OutOfReach, Duration::MAX);
                }
            }
        }
    }

    fn current_point(&mut self, point: u32, group: u32) {
        let places = self.places;
        let (rank, reason) = match (places.points[point as usize].address, self.standing.subnet) {
            (Some(address), _) if address == self.client => (Rank::ThisComputer, Reason::ThisComputer),
            (Some(address), Some(subnet)) if subnet.contains(&address) => {
                (Rank::SubnetPoint, Reason::SameSubnet(subnet))
            }
            _ => (Rank::GroupPoint, Reason::SameGroup(places.groups[group as usize].name.clone())),
        };
        self.point(point, rank, State::In, reason, Duration::ZERO);
    }

    fn remote_point(&mut self, point: u32, after: Duration, reason: Reason) {
        let rank = if reason == Reason::DefaultGroup { Rank::DefaultPoint } else { Rank::NeighbourPoint };
        let state = match self.request.order {
            _ if matches!(reason, Reason::Never(_)) => State::Out,
            Order::Client if self.request.elapsed < after => State::Later(after),
            Order::Client => State::In,
            Order::Engine { neighbours, default_group } => {
                let allowed = if rank == Rank::DefaultPoint { default_group } else { neighbours };
                if !allowed {
                    return self.point(point, rank, State::Out, Reason::NotAllowed, after);
                }
                State::In
            }
        };
        self.point(point, rank, state, reason, after);
    }

    /// A point that would be in or later is out all the same where it is being worked on or has not got the content.
    fn point(&mut self, point: u32, rank: Rank, mut state: State, mut reason: Reason, after: Duration) {
        let since = self.held.points.get(&point).copied();
        let place = &self.places.points[point as usize];
        let as_asked = self.held.private && place.asked;
        let base = if self.held.private && !place.asked { place.secure.as_ref() } else { Some(&place.url) };
        if state != State::Out {
            let instead = match since {
                _ if place.maintenance => Some(Reason::Maintenance),
                None if place.on_demand && self.held.offered => None,
                None => Some(Reason::NotThere),
                Some(_) if base.is_none() => Some(Reason::NoTls),
                Some(_) => None,
            };
            if let Some(instead) = instead {
                (state, reason) = (State::Out, instead);
            }
        }
        let candidate = Candidate {
            kind: LocationKind::DistributionPoint,
            name: place.name.clone(),
            url: self.url(&[base.unwrap_or(&place.url)]),
            rank,
            state,
            reason,
            since,
            as_asked,
        };
        self.push(candidate, after);
    }

    fn peers(&mut self, peers: &[Peer], detail: Detail) {
        let mut allowed = Vec::new();
        for peer in peers {
            let (rank, verdict) = self.peer(peer);
            // Of other places a client need not know, and there may be many.
            if detail == Detail::InReach && verdict == Err(Reason::OtherGroup) {
                continue;
            }
            let candidate = Candidate {
                kind: LocationKind::Peer,
                name: peer.name.clone(),
                url: self.url(&["http://", &peer.address.to_string()]),
                rank,
                state: if verdict.is_ok() { State::In } else { State::Out },
                reason: verdict.clone().unwrap_or_else(|out| out),
                since: None,
                as_asked: false,
            };
            if verdict.is_ok() {
                allowed.push(candidate);
            } else {
                self.push(candidate, Duration::ZERO);
            }
        }
        let key = |candidate: &Candidate| {
            (self.place(candidate.rank), shuffled(self.client, self.request.content, &candidate.url))
        };
        allowed.sort_by_cached_key(key);
        for (number, mut candidate) in allowed.into_iter().enumerate() {
            if number >= MOST_PEERS {
                (candidate.state, candidate.reason) = (State::Out, Reason::Enough);
            }
            self.push(candidate, Duration::ZERO);
        }
    }

    /// The rank of a peer, and why it is in or out.
    fn peer(&self, peer: &Peer) -> (Rank, Result<Reason, Reason>) {
        let address = peer.address.ip().to_canonical();
        let near = self.standing.subnet.filter(|subnet| subnet.contains(&address));
        let rank = if near.is_some() { Rank::SubnetPeer } else { Rank::GroupPeer };
        let groups = &self.places.groups;
        let verdict = (|| {
            if address == self.client {
                return Err(Reason::Itself);
            }
            if boundary::says_nothing(address) || boundary::says_nothing(self.client) {
                return Err(Reason::Nowhere);
            }
            if !self.options().peers {
                let mut current = self.standing.groups.iter().map(|group| &groups[*group as usize]);
                let off = current.find(|group| !group.options.peers);
                return Err(Reason::PeersOff(off.map_or_else(String::new, |group| group.name.clone())));
            }
            let theirs = self.places.groups_at(address);
            let shared = self.standing.groups.iter().find(|group| theirs.contains(group));
            let Some(shared) = shared else { return Err(Reason::OtherGroup) };
            // Only where it would be offered: peers of other groups are not spoken of, trusted or not.
            if peer.distrusted {
                return Err(Reason::Distrusted);
            }
            match near {
                Some(subnet) => Ok(Reason::SameSubnet(subnet)),
                // Nobody knows how far from each other two clients are that no boundary knows.
                None if self.options().same_subnet_peers || self.standing.by_default => {
                    Err(Reason::OtherSubnet)
                }
                None => Ok(Reason::SameGroup(groups[*shared as usize].name.clone())),
            }
        })();
        (rank, verdict)
    }

    fn cloud(&mut self) {
        let held = self.held;
        let out = match self.request.order {
            Order::Engine { .. } => Some(Reason::NotInOrder),
            Order::Client if !self.options().cloud => Some(Reason::CloudOff),
            Order::Client => None,
        };
        let mut links: Vec<_> = held.cloud.iter().collect();
        links.sort();
        links.dedup();
        for (number, url) in links.into_iter().enumerate() {
            let candidate = Candidate {
                kind: LocationKind::Cloud,
                name: "upstream".to_owned(),
                url: url.clone(),
                rank: Rank::Cloud,
                state: if out.is_none() { State::In } else { State::Out },
                reason: out.clone().unwrap_or(Reason::Upstream),
                since: None,
                as_asked: false,
            };
            // Links keep the order of their text: there is no load of ours to be spread over them.
            self.push(candidate, Duration::from_nanos(number as u64));
        }
    }
}
