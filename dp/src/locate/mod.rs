//! Where a client finds content, in order, and why: pure.
//!
//! ```text
//! address ──Index──▶ groups around it (none: the default site group) ──relationships──▶ neighbours, after their time
//!                        │                                                │
//!                        ▼                                                ▼
//!     peers and points of the current groups, by Rank        points of neighbours: later, then in
//! ```
//! Rules:
//! - A client in several groups is in their union. Peers must be allowed by all of them; any other option holds where one
//!   of them has it.
//! - Only direct neighbours of the current groups are ever asked, each after the shortest time that leads to it. Every
//!   group has the default site group as neighbour after [`DEFAULT_FALLBACK`], unless it says something else itself.
//! - A point in no group is in the default site group. So a site without boundaries sends everybody to every point.
//! - What a client says plays no part: only the address it asks from, and how long ago it asked first.
//! - Within one rank the order is that of a hash of client, content and place: the same for the same client, another for
//!   the next. Points that nobody has heard of for a while come last in it; they are never left out, because it may be the
//!   site that is cut off.
//!
//! [`Places`] is a snapshot of everything that the answers are made of; it is built whole and replaced whole. Only when a
//! point was heard of goes on being told ([`Heard`]). What an answer says of a point or of a neighbour is prepared when
//! the snapshot is made: an answer costs no memory for those that are not asked.

mod answer;
mod boundary;
mod candidate;
mod index;
mod json;
mod order;
mod prepared;
mod reach;
mod reason;
mod silence;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use catalog::digest::{Sha1Digest, Sha256Digest};
use catalog::id::FileName;
use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use answer::answer;
pub use boundary::{Boundary, BoundaryKind, InvalidBoundary};
pub use candidate::{Candidate, Place};
pub use index::{Cell, Index};
pub use json::json;
pub use order::{Detail, Found, Order, Rank, Request, State};
pub use reach::Reach;
pub use reason::Reason;
pub use silence::Heard;

use prepared::Prepared;

/// After this, where no relationship says anything else, the next group is asked.
pub const DEFAULT_FALLBACK: Duration = Duration::from_secs(120 * 60);

/// What a boundary group allows and prefers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Clients may take content from each other.
    pub peers: bool,
    /// And only from those in their own subnet.
    pub same_subnet_peers: bool,
    /// Points of the own subnet come before peers of it.
    pub prefer_points: bool,
    /// The cloud comes before points.
    pub prefer_cloud: bool,
    /// The cloud is a source at all.
    pub cloud: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { peers: true, same_subnet_peers: false, prefer_points: false, prefer_cloud: false, cloud: true }
    }
}

impl Options {
    /// What holds for a client that is in all of `groups`; the defaults where there are none.
    fn of_all(mut groups: impl Iterator<Item = Self>) -> Self {
        let first = groups.next().unwrap_or_default();
        groups.fold(first, |all, one| Self {
            peers: all.peers && one.peers,
            same_subnet_peers: all.same_subnet_peers || one.same_subnet_peers,
            prefer_points: all.prefer_points || one.prefer_points,
            prefer_cloud: all.prefer_cloud || one.prefer_cloud,
            cloud: all.cloud || one.cloud,
        })
    }
}

/// When clients of a group may ask a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fallback {
    /// So long after they asked first.
    After(Duration),
    /// Never.
    Never,
}

impl Fallback {
    /// As it is configured: minutes, or -1 for never.
    pub fn from_minutes(minutes: i64) -> Self {
        u64::try_from(minutes).map_or(Self::Never, |minutes| Self::After(Duration::from_secs(minutes * 60)))
    }
}

/// A boundary group.
#[derive(Debug, Clone, Default)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// What it allows and prefers.
    pub options: Options,
    /// Numbers of its points.
    pub points: Vec<u32>,
    /// Other groups, by number, and when they may be asked.
    pub neighbours: Vec<(u32, Fallback)>,
}

/// A distribution point.
#[derive(Debug, Clone)]
pub struct Point {
    /// Its name.
    pub name: String,
    /// Its address, without a slash at the end.
    pub url: String,
    /// Where it is asked for private content: an address to which keys may be shown; `None` where there is none.
    pub secure: Option<String>,
    /// It is whom clients ask where content is: for private content they ask it there as they did.
    pub asked: bool,
    /// Its address is a guess that holds on its own machine only: whoever asked it is told to ask there again, as it did.
    pub as_asked: bool,
    /// Clients are not sent there now.
    pub maintenance: bool,
    /// It is one of ours: it has a key that was not taken back.
    pub has_key: bool,
    /// Where it is, as far as anybody knows.
    pub address: Option<IpAddr>,
    /// It fetches what it is asked for and lacks.
    pub on_demand: bool,
    /// When it was heard of; `None` for one that need not say anything.
    pub heard: Option<Arc<Heard>>,
}

impl Point {
    /// A point at `url`; its place in the network is known where the host is an address.
    pub fn new(name: impl Into<String>, url: impl Into<String>) -> Self {
        let url: String = url.into().trim_end_matches('/').to_owned();
        let address = url::Url::parse(&url).ok().and_then(|url| match url.host()? {
            url::Host::Ipv4(address) => Some(address.into()),
            url::Host::Ipv6(address) => Some(IpAddr::from(address).to_canonical()),
            url::Host::Domain(_) => None,
        });
        let (name, secure) = (name.into(), url.starts_with("https://").then(|| url.clone()));
        Self {
            name,
            url,
            secure,
            asked: false,
            as_asked: false,
            maintenance: false,
            has_key: true,
            address,
            on_demand: false,
            heard: None,
        }
    }

    /// The same, seen at `address`. Where its own address says where it is, that counts.
    pub fn seen_at(self, address: Option<IpAddr>) -> Self {
        Self { address: self.address.or(address.map(|address| address.to_canonical())), ..self }
    }

    /// Where it is asked for private content; `None` where nobody is sent there for that.
    pub fn private_base(&self) -> Option<&str> {
        if self.asked { Some(&self.url) } else { self.secure.as_deref() }
    }

    /// Whether clients are sent there.
    fn takes_clients(&self) -> bool {
        self.has_key && !self.maintenance
    }
}

/// What is known about who has one content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its bytes.
    pub size: u64,
    /// Its SHA-1.
    pub sha1: Option<Sha1Digest>,
    /// A name for it.
    pub file_name: FileName,
    /// Numbers of the points that have it, verified, and since when.
    pub points: BTreeMap<u32, Timestamp>,
    /// Points that fetch what they are asked for may have it.
    pub offered: bool,
    /// It is for those with a key: nobody is sent where keys are not shown.
    pub private: bool,
    /// Links of the upstream.
    pub cloud: Vec<String>,
}

/// A client that says it has a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Where it serves.
    pub address: SocketAddr,
    /// Why nobody is sent to it now.
    pub shunned: Option<Shunned>,
}

/// Why nobody is sent to a client that says it has a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shunned {
    /// Others found that it sends something else.
    Distrusted,
    /// Others could not get it there, and it has not announced itself since.
    Away,
}

/// A group that clients of another one may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Neighbour {
    /// Its number.
    group: u32,
    /// When.
    fallback: Fallback,
    /// The group that says so.
    of: u32,
}

/// Everything that answers are made of, but for peers.
#[derive(Debug)]
pub struct Places {
    index: Index,
    groups: Vec<Group>,
    default_group: u32,
    points: Vec<Point>,
    /// Of each point.
    prepared: Vec<Prepared>,
    /// Of each group: the neighbours of clients that are in it alone.
    neighbours: Vec<Vec<Neighbour>>,
    /// First and last addresses of the boundaries of each group, by number.
    networks: Vec<Vec<(IpAddr, IpAddr)>>,
    contents: HashMap<Sha256Digest, Held>,
}

/// Where a client is, as the boundaries see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Numbers of its current groups.
    pub groups: Vec<u32>,
    /// No boundary says so: it is the default site group.
    pub by_default: bool,
    /// The subnet that counts as its own; `None` where its address says nothing.
    pub subnet: Option<IpNet>,
    /// What its groups allow and prefer together.
    pub options: Options,
}

impl Default for Places {
    /// Nobody has anything. There is a group all the same, in which every client is.
    fn default() -> Self {
        Self::new(&[], Vec::new(), 0, Vec::new(), HashMap::new())
    }
}

impl Places {
    /// A snapshot. `boundaries` name their groups, groups their points and neighbours, contents their points: all by number.
    /// Points that no group names are put into `default_group`.
    pub fn new(
        boundaries: &[(Boundary, Vec<u32>)],
        mut groups: Vec<Group>,
        default_group: u32,
        points: Vec<Point>,
        mut contents: HashMap<Sha256Digest, Held>,
    ) -> Self {
        for held in contents.values_mut() {
            held.cloud.sort();
            held.cloud.dedup();
        }
        if groups.is_empty() {
            groups.push(Group::default());
        }
        let default_group = default_group.min(groups.len() as u32 - 1);
        let placed: HashSet<u32> = groups.iter().flat_map(|group| group.points.iter().copied()).collect();
        let nowhere = (0..points.len() as u32).filter(|point| !placed.contains(point));
        groups[default_group as usize].points.extend(nowhere);
        let mut networks = vec![Vec::new(); groups.len()];
        for (boundary, of) in boundaries {
            of.iter().for_each(|group| networks[*group as usize].push(boundary.ends()));
        }
        let prepared = points.iter().map(Prepared::of).collect();
        let index = Index::new(boundaries);
        let neighbours = Vec::new();
        let mut places =
            Self { index, groups, default_group, points, prepared, neighbours, networks, contents };
        let all = 0..places.groups.len() as u32;
        places.neighbours = all.map(|group| places.merged(&[group])).collect();
        places
    }

    /// What is known of who has `content`.
    pub fn holds(&self, content: Sha256Digest) -> Option<&Held> {
        self.contents.get(&content)
    }

    /// Every content that somebody is known to have.
    pub fn contents(&self) -> impl Iterator<Item = &Sha256Digest> {
        self.contents.keys()
    }

    /// First and last addresses of the boundaries of all groups that a client is in; at most `most`.
    pub fn networks(&self, standing: &Standing, most: usize) -> Vec<(IpAddr, IpAddr)> {
        let all = standing.groups.iter().flat_map(|group| &self.networks[*group as usize]);
        all.copied().take(most).collect()
    }

    /// The group that a client is counted with: the first of those around it, so that nothing is counted twice.
    pub fn group_of(&self, client: IpAddr) -> &str {
        let group = self.standing(client).groups.first().copied().unwrap_or(self.default_group);
        &self.groups[group as usize].name
    }

    /// Every group by name with first and last addresses of its boundaries, the default group first: what
    /// [`Self::group_of`] is made of. Of networks at most `most`.
    pub fn map(&self, most: usize) -> Vec<(String, Vec<(IpAddr, IpAddr)>)> {
        let mut left = most;
        let first = self.default_group;
        let rest = (0..self.groups.len() as u32).filter(|group| *group != first);
        let named = |group: u32| {
            let networks: Vec<_> = self.networks[group as usize].iter().copied().take(left).collect();
            left -= networks.len();
            (self.groups[group as usize].name.clone(), networks)
        };
        std::iter::once(first).chain(rest).map(named).collect()
    }

    /// Names of the groups with these numbers.
    pub fn names(&self, groups: &[u32]) -> Vec<&str> {
        groups.iter().map(|group| self.groups[*group as usize].name.as_str()).collect()
    }

    /// Where `client` is.
    pub fn standing(&self, client: IpAddr) -> Standing {
        let client = client.to_canonical();
        let nothing = Cell::default();
        let unknown = boundary::says_nothing(client);
        let cell = if unknown { &nothing } else { self.index.find(client) };
        let by_default = cell.groups.is_empty();
        let groups = if by_default { vec![self.default_group] } else { cell.groups.clone() };
        let options = Options::of_all(groups.iter().map(|group| self.groups[*group as usize].options));
        let subnet = (!unknown).then(|| cell.subnet.or_else(|| boundary::usual_subnet(client))).flatten();
        Standing { groups, by_default, subnet, options }
    }

    /// The groups of a client, as [`Self::standing`] has them.
    fn groups_at(&self, client: IpAddr) -> &[u32] {
        let client = client.to_canonical();
        let here = std::slice::from_ref(&self.default_group);
        if boundary::says_nothing(client) {
            return here;
        }
        let groups = &self.index.find(client).groups;
        if groups.is_empty() { here } else { groups }
    }

    /// Groups that clients of `current` reach besides, each after the shortest time that any of `current` gives: sooner ones
    /// first, the site's own behind all others of its time.
    fn neighbours(&self, current: &[u32]) -> Cow<'_, [Neighbour]> {
        match current {
            [one] => Cow::Borrowed(&self.neighbours[*one as usize]),
            several => Cow::Owned(self.merged(several)),
        }
    }

    fn merged(&self, current: &[u32]) -> Vec<Neighbour> {
        let mut found: BTreeMap<u32, (Fallback, u32)> = BTreeMap::new();
        for from in current {
            let own = &self.groups[*from as usize].neighbours;
            let says = own.iter().any(|(to, _)| *to == self.default_group);
            let implied = (!says).then_some((self.default_group, Fallback::After(DEFAULT_FALLBACK)));
            for (to, fallback) in own.iter().copied().chain(implied) {
                if current.contains(&to) {
                    continue;
                }
                let known = found.entry(to).or_insert((fallback, *from));
                if fallback < known.0 {
                    *known = (fallback, *from);
                }
            }
        }
        let neighbour = |(group, (fallback, of))| Neighbour { group, fallback, of };
        let mut all: Vec<_> = found.into_iter().map(neighbour).collect();
        all.sort_by_key(|one| (one.fallback, one.group == self.default_group, one.group));
        all
    }
}
