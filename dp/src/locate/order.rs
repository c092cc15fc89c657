//! Ranks and candidates: the order.

use std::net::IpAddr;
use std::time::Duration;

use catalog::digest::Sha256Digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::candidate::{Candidate, Place};
use super::reason::{MOST_PEERS, Reason};
use super::{Fallback, Held, Options, Peer, Places, Shunned, Standing, boundary, prepared};

/// The most candidates of each sort in an answer that tells what is in reach; a client asks no more.
pub(super) const MOST: usize = 64;

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
    /// When.
    pub now: Timestamp,
}

/// How much is told of what is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Points that are in no group in reach are only counted, and so are those beyond 64 of a sort.
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

/// The answer to a question: candidates in order, those that are in before later ones before those that are out.
#[derive(Debug)]
pub struct Found<'p> {
    /// What it was made of.
    pub places: &'p Places,
    /// The content.
    pub content: Sha256Digest,
    /// What is known of it.
    pub held: &'p Held,
    /// Where the client is.
    pub standing: Standing,
    /// All that is told.
    pub candidates: Vec<Candidate<'p>>,
    /// Places that are not told.
    pub untold: usize,
}

impl Found<'_> {
    /// Where the content is at a candidate.
    pub fn url(&self, candidate: &Candidate<'_>) -> String {
        match candidate.place {
            Place::Point(point, _) if self.held.private => {
                format!("{}/content/{}", point.private_base().unwrap_or(&point.url), self.content)
            }
            _ => candidate.url(self.content),
        }
    }
}

/// Where the order of a client within ranks begins for a content.
fn seed(client: IpAddr, content: Sha256Digest) -> u64 {
    let address = match client {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    prepared::hash(address.into_iter().chain(content.0.into_iter().take(8)))
}

/// Sorts within a rank, the same for the same client and content: what SplitMix64 makes of both hashes.
fn shuffled(seed: u64, place: u64) -> u64 {
    let mixed = seed ^ place.rotate_left(32);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// What a candidate is sorted by: its state, its place in the order, silence, its time, and its turn among equals.
type Key = (State, u8, bool, Duration, u64);

/// Points that are told already, by number.
struct Told(Vec<u64>);

impl Told {
    fn none(of: usize) -> Self {
        Self(vec![0; of.div_ceil(64)])
    }

    /// Whether it is the first time.
    fn tell(&mut self, point: u32) -> bool {
        let (word, bit) = (&mut self.0[point as usize / 64], 1 << (point % 64));
        let first = *word & bit == 0;
        *word |= bit;
        first
    }
}

/// Everything that one answer is made of.
struct Making<'p, 's> {
    places: &'p Places,
    request: Request,
    client: IpAddr,
    held: &'p Held,
    standing: &'s Standing,
    seed: u64,
    candidates: Vec<Candidate<'p>>,
    /// What each of them, by number, is sorted by.
    keys: Vec<(Key, u32)>,
    untold: usize,
}

impl Places {
    /// Who has `request.content` and may be asked by its client, best first, and who may not and why. `peers` are those that
    /// say they have it. `None` where nobody is known.
    pub fn find<'p>(&'p self, request: &Request, peers: &'p [Peer], detail: Detail) -> Option<Found<'p>> {
        self.find_from(self.standing(request.client), request, peers, detail)
    }

    /// The same for a client whose standing is known.
    pub fn find_from<'p>(
        &'p self,
        standing: Standing,
        request: &Request,
        peers: &'p [Peer],
        detail: Detail,
    ) -> Option<Found<'p>> {
        let held = self.contents.get(&request.content)?;
        let client = request.client.to_canonical();
        let mut making = Making {
            places: self,
            request: *request,
            client,
            held,
            standing: &standing,
            seed: seed(client, request.content),
            candidates: Vec::with_capacity(MOST),
            keys: Vec::with_capacity(MOST),
            untold: 0,
        };
        making.points(detail);
        making.peers(peers, detail);
        making.cloud();
        let Making { candidates, mut keys, mut untold, .. } = making;
        if detail == Detail::InReach && keys.len() > MOST {
            untold += shorten(&mut keys);
        }
        // The name ends all ties: the order is total.
        keys.sort_unstable_by(|(a, one), (b, other)| {
            let name = |number: u32| candidates[number as usize].name();
            a.cmp(b).then_with(|| name(*one).cmp(name(*other))).then(one.cmp(other))
        });
        let candidates = keys.iter().map(|(_, number)| candidates[*number as usize]).collect();
        Some(Found { places: self, content: request.content, held, standing, candidates, untold })
    }
}

/// Leaves the first [`MOST`] of each sort, in any order; answers how many are gone.
fn shorten(keys: &mut Vec<(Key, u32)>) -> usize {
    let before = keys.len();
    let sort = |((state, ..), _): &(Key, u32)| match state {
        State::In => 0,
        State::Later(_) => 1,
        State::Out => 2,
    };
    let mut sorts: [Vec<(Key, u32)>; 3] = Default::default();
    keys.drain(..).for_each(|key| sorts[sort(&key)].push(key));
    for mut of_a_sort in sorts {
        if of_a_sort.len() > MOST {
            of_a_sort.select_nth_unstable(MOST);
            of_a_sort.truncate(MOST);
        }
        keys.append(&mut of_a_sort);
    }
    before - keys.len()
}

impl<'p> Making<'p, '_> {
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

    fn push(&mut self, candidate: Candidate<'p>, after: Duration) {
        let place = self.place(candidate.rank);
        let hash = match candidate.place {
            Place::Point(_, number) => self.places.prepared[number as usize].hash,
            Place::Peer(peer) => prepared::hash_of(peer.address),
            Place::Cloud(url) => prepared::hash(url.bytes()),
        };
        let shuffled = shuffled(self.seed, hash) >> 1;
        // Among equals a point that would have to fetch it comes last.
        let fetches = matches!(candidate.place, Place::Point(..)) && candidate.since.is_none();
        let turn = shuffled | (u64::from(fetches) << 63);
        let key = (candidate.state, place, candidate.silent.is_some(), after, turn);
        self.keys.push((key, self.candidates.len() as u32));
        self.candidates.push(candidate);
    }

    fn points(&mut self, detail: Detail) {
        let (places, standing) = (self.places, self.standing);
        let name = |group: u32| places.groups[group as usize].name.as_str();
        let mut told = Told::none(places.points.len());
        for group in &standing.groups {
            for point in &places.groups[*group as usize].points {
                if told.tell(*point) {
                    self.current_point(*point, name(*group));
                }
            }
        }
        // A point in two neighbours is asked after the shorter time; at the same time as any neighbour's, not as the default's.
        for near in &*places.neighbours(&standing.groups) {
            let (after, reason) = match near.fallback {
                Fallback::Never => (Duration::MAX, Reason::Never(name(near.group))),
                Fallback::After(after) if near.group == places.default_group => (after, Reason::DefaultGroup),
                Fallback::After(after) => {
                    (after, Reason::Neighbour { group: name(near.group), of: name(near.of) })
                }
            };
            for point in &places.groups[near.group as usize].points {
                if told.tell(*point) {
                    self.remote_point(*point, after, reason);
                }
            }
        }
        let all = 0..places.points.len() as u32;
        let rest = all.filter(|point| told.tell(*point));
        match detail {
            Detail::InReach => self.untold = rest.count(),
            Detail::All => rest.for_each(|point| {
                self.point(point, Rank::NeighbourPoint, State::Out, Reason::OutOfReach, Duration::MAX);
            }),
        }
    }

    fn current_point(&mut self, point: u32, group: &'p str) {
        let (rank, reason) = match (self.places.points[point as usize].address, self.standing.subnet) {
            (Some(address), _) if address == self.client => (Rank::ThisComputer, Reason::ThisComputer),
            (Some(address), Some(subnet)) if subnet.contains(&address) => {
                (Rank::SubnetPoint, Reason::SameSubnet(subnet))
            }
            _ => (Rank::GroupPoint, Reason::SameGroup(group)),
        };
        self.point(point, rank, State::In, reason, Duration::ZERO);
    }

    fn remote_point(&mut self, point: u32, after: Duration, reason: Reason<'p>) {
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

    /// A point that would be in or later is out all the same where it is none of ours any more, is being worked on, or has
    /// not got the content.
    fn point(&mut self, number: u32, rank: Rank, mut state: State, mut reason: Reason<'p>, after: Duration) {
        let since = self.held.points.get(&number).copied();
        let point = &self.places.points[number as usize];
        if state != State::Out {
            let instead = match since {
                _ if !point.has_key => Some(Reason::NoKey),
                _ if point.maintenance => Some(Reason::Maintenance),
                None if point.on_demand && self.held.offered => None,
                None => Some(Reason::NotThere),
                Some(_) if self.held.private && point.private_base().is_none() => Some(Reason::NoTls),
                Some(_) => None,
            };
            if let Some(instead) = instead {
                (state, reason) = (State::Out, instead);
            }
        }
        let heard = point.heard.as_ref().filter(|_| state != State::Out);
        let silent = heard.and_then(|heard| heard.silent(self.request.now));
        self.push(
            Candidate { place: Place::Point(point, number), rank, state, reason, since, silent },
            after,
        );
    }

    fn peers(&mut self, peers: &'p [Peer], detail: Detail) {
        let mut allowed = Vec::new();
        for peer in peers {
            let (rank, verdict) = self.peer(peer);
            // Of other places a client need not know, and there may be many.
            if detail == Detail::InReach && verdict == Err(Reason::OtherGroup) {
                continue;
            }
            let (state, reason) = match verdict {
                Ok(reason) => (State::In, reason),
                Err(reason) => (State::Out, reason),
            };
            let place = Place::Peer(peer);
            let candidate = Candidate { place, rank, state, reason, since: None, silent: None };
            match state {
                State::In => {
                    let turn = shuffled(self.seed, prepared::hash_of(peer.address));
                    allowed.push(((self.place(rank), turn), candidate));
                }
                _ => self.push(candidate, Duration::ZERO),
            }
        }
        allowed.sort_by_key(|(key, _)| *key);
        for (number, (_, mut candidate)) in allowed.into_iter().enumerate() {
            if number >= MOST_PEERS {
                (candidate.state, candidate.reason) = (State::Out, Reason::Enough);
            }
            self.push(candidate, Duration::ZERO);
        }
    }

    /// The rank of a peer, and why it is in or out.
    fn peer(&self, peer: &Peer) -> (Rank, Result<Reason<'p>, Reason<'p>>) {
        let address = peer.address.ip().to_canonical();
        let near = self.standing.subnet.filter(|subnet| subnet.contains(&address));
        let rank = if near.is_some() { Rank::SubnetPeer } else { Rank::GroupPeer };
        let places = self.places;
        let groups = &places.groups;
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
                return Err(Reason::PeersOff(off.map_or("", |group| &group.name)));
            }
            let theirs = places.groups_at(address);
            let shared = self.standing.groups.iter().find(|group| theirs.contains(group));
            let Some(shared) = shared else { return Err(Reason::OtherGroup) };
            // Only where it would be offered: peers of other groups are not spoken of, trusted or not.
            match peer.shunned {
                Some(Shunned::Distrusted) => return Err(Reason::Distrusted),
                Some(Shunned::Away) => return Err(Reason::Away),
                None => {}
            }
            match near {
                Some(subnet) => Ok(Reason::SameSubnet(subnet)),
                // Nobody knows how far from each other two clients are that no boundary knows.
                None if self.options().same_subnet_peers || self.standing.by_default => {
                    Err(Reason::OtherSubnet)
                }
                None => Ok(Reason::SameGroup(&groups[*shared as usize].name)),
            }
        })();
        (rank, verdict)
    }

    fn cloud(&mut self) {
        let held = self.held;
        let (state, reason) = match self.request.order {
            Order::Engine { .. } => (State::Out, Reason::NotInOrder),
            Order::Client if !self.options().cloud => (State::Out, Reason::CloudOff),
            Order::Client => (State::In, Reason::Upstream),
        };
        for (number, url) in held.cloud.iter().enumerate() {
            let place = Place::Cloud(url);
            let candidate = Candidate { place, rank: Rank::Cloud, state, reason, since: None, silent: None };
            // Links keep the order of their text: there is no load of ours to be spread over them.
            self.push(candidate, Duration::from_nanos(number as u64));
        }
    }
}
