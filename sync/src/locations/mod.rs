//! Where clients of this site find content: the snapshot that answers are made of. [`explain`] is `spsync content locate`.
//!
//! [`Locations`] answers `GET /locations/{sha256}` without a database. Its [`Places`] are built whole from one consistent
//! state and swapped whole, with the shelf ([`crate::site::Site::refresh_shelf`]) and after each change of boundaries and groups.

mod explain;
mod names;
mod relocating;
pub mod taken;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use catalog::digest::Sha256Digest;
use dp::client::{TakenFrom, is_unread};
use dp::locate::{
    self, Boundary, Detail, Fallback, Found, Group, Held, Options, Order, Peer, Places, Point, Request,
    Standing,
};
use dp::peers::{self, Devices, PeerService, Register, Sharing};
use dp::server::tally::{Grouping, Tally};
use dp::server::{LocationsAnswer, Locator};
use jiff::Timestamp;
use schema::boundaries::BoundaryGroupRow;
use schema::points::OWN_POINT;
use schema::{Reader, SchemaError};

pub use self::explain::{Client, Explained, Located, Verdict, locate};
pub use self::relocating::{LONGEST_PAUSE, Relocating};
use crate::clock;
use crate::config::Settings;
use crate::points::assign;
use crate::points::hub::Hearing;
use crate::points::wire::NetworkGroup;

/// Networks that points are told; clients in others are counted with the default group there.
const MOST_NETWORKS: usize = 10_000;

/// Answers where content is.
pub struct Locations {
    places: ArcSwap<Places>,
    /// What clients say that they hold. Its time begins with [`Locations::started`].
    pub register: Arc<Register>,
    /// What clients say that they took from whom, by their groups and by [`TakenFrom::ALL`].
    pub taken: Tally<{ TakenFrom::ALL.len() }>,
    /// The groups and their networks, as points are told them.
    map: ArcSwap<Vec<NetworkGroup>>,
    /// When this was made.
    pub started: Instant,
}

impl Default for Locations {
    fn default() -> Self {
        Self {
            places: ArcSwap::default(),
            register: Arc::default(),
            taken: Tally::default(),
            map: ArcSwap::default(),
            started: Instant::now(),
        }
    }
}

impl Locations {
    /// The routes by which clients announce, as `devices` knows them, and report.
    pub fn service(&self, devices: Arc<dyn Devices>) -> PeerService {
        PeerService::new(self.register.clone(), devices, self.started)
    }

    /// Replaces what answers are made of. Whether the groups or their networks are others than before.
    pub fn store(&self, places: Places) -> bool {
        let map: Vec<_> = places.map(MOST_NETWORKS).into_iter().map(NetworkGroup::from).collect();
        self.places.store(Arc::new(places));
        let changed = **self.map.load() != map;
        // Whoever made something of them sees without comparing them that they are the same.
        if changed {
            self.map.store(Arc::new(map));
        }
        changed
    }

    /// The groups and their networks.
    pub fn map(&self) -> Arc<Vec<NetworkGroup>> {
        self.map.load_full()
    }

    /// Peers that say they have `content` and may be near `client`, which stands there.
    fn peers(
        &self,
        places: &Places,
        client: IpAddr,
        standing: &Standing,
        content: Sha256Digest,
    ) -> Vec<Peer> {
        let networks = places.networks(standing, peers::NETWORKS);
        self.register.near(content, client, &networks, self.started.elapsed())
    }

    /// Clients that share what they hold, now.
    pub fn sharing(&self) -> Sharing {
        self.register.sharing(self.started.elapsed())
    }

    /// What a client that asks now finds, worded by `words`.
    fn told<T>(
        &self,
        client: IpAddr,
        content: Sha256Digest,
        words: impl FnOnce(&Found<'_>, Timestamp) -> T,
    ) -> Option<T> {
        let (places, now) = (self.places.load(), clock::now());
        let request = Request { client, content, elapsed: Duration::ZERO, order: Order::Client, now };
        let standing = places.standing(client);
        let peers = self.peers(&places, client, &standing, content);
        let found = places.find_from(standing, &request, &peers, Detail::InReach)?;
        Some(words(&found, now))
    }

    /// What answers are made of, as it was made last: clients are answered with it. See [`crate::site::Site::places_now`].
    pub(crate) fn last_made(&self) -> Arc<Places> {
        self.places.load_full()
    }
}

impl Locator for Locations {
    fn locate(&self, client: IpAddr, content: Sha256Digest) -> Option<LocationsAnswer> {
        self.told(client, content, locate::answer)
    }

    fn locate_json(&self, client: IpAddr, content: Sha256Digest) -> Option<Vec<u8>> {
        self.told(client, content, locate::json)
    }
}

impl Grouping for Locations {
    fn group_of(&self, client: IpAddr) -> Option<String> {
        Some(self.places.load().group_of(client).to_owned())
    }

    fn is_point(&self, client: IpAddr) -> bool {
        // At the address of this machine itself is the site's own point, which asks nobody, and any other program.
        !client.to_canonical().is_loopback() && self.places.load().has_point_at(client)
    }
}

/// What a point counts its clients by: groups and networks, as its site told it.
pub fn told(groups: &[NetworkGroup]) -> Places {
    let mut boundaries = Vec::new();
    for (number, group) in (0..).zip(groups) {
        // What cannot be read is a network of a newer site's own kind.
        let networks = group.networks.iter().filter_map(|text| text.parse::<Boundary>().ok());
        boundaries.extend(networks.map(|boundary| (boundary, vec![number])));
    }
    let groups = groups.iter().map(|group| Group { name: group.name.clone(), ..Group::default() });
    Places::new(&boundaries, groups.collect(), 0, Vec::new(), HashMap::new())
}

/// The options of a group.
pub fn options(row: &BoundaryGroupRow) -> Options {
    Options {
        peers: row.peers,
        same_subnet_peers: row.same_subnet_peers,
        prefer_points: row.prefer_points,
        prefer_cloud: row.prefer_cloud,
        cloud: row.cloud,
    }
}

/// Everything that answers are made of, from one consistent state; and when points are heard of.
///
/// # Errors
/// Those of the database.
pub fn places(reader: &Reader<'_>, settings: &Settings, hearing: &Hearing) -> Result<Places, SchemaError> {
    let public_url = settings.public_url();
    // Rows have numbers with gaps; places count from 0.
    let rows = reader.places()?;
    // Who may fetch nothing now has only what it has: the line that is to be left alone is not used by its clients either.
    let now = clock::now();
    let paused: HashSet<i64> = reader
        .point_settings()?
        .iter()
        .filter(|point| assign::paused(point, settings, now).is_some())
        .map(|point| point.id)
        .collect();
    let point_of: HashMap<i64, u32> = rows.iter().zip(0..).map(|(row, at)| (row.id, at)).collect();
    let points = rows.iter().map(|row| {
        let url = if row.url.is_empty() { &public_url } else { &row.url };
        let point = Point::new(row.name.clone(), url);
        // What is kept was an address when it came.
        let point = point.seen_at(row.address.as_ref().and_then(|address| address.parse().ok()));
        Point {
            maintenance: row.maintenance,
            asked: row.id == OWN_POINT,
            as_asked: row.id == OWN_POINT && row.url.is_empty() && settings.public_url_is_a_guess(),
            secure: secure(url, &row.tls_url, settings.server.allow_plain_enrolment),
            has_key: row.has_key,
            on_demand: row.on_demand && !paused.contains(&row.id),
            heard: row.last_seen.filter(|_| row.id != OWN_POINT).map(|last| hearing.of(row.id, last)),
            ..point
        }
    });
    let groups = reader.boundary_groups()?;
    let group_of: HashMap<i64, u32> = groups.iter().zip(0..).map(|(row, at)| (row.id, at)).collect();
    let mut made: Vec<Group> = groups
        .iter()
        .map(|row| Group { name: row.name.clone(), options: options(row), ..Group::default() })
        .collect();
    for (group, point) in reader.point_members()? {
        if let (Some(group), Some(point)) = (group_of.get(&group), point_of.get(&point)) {
            made[*group as usize].points.push(*point);
        }
    }
    for relation in reader.boundary_relations()? {
        if let (Some(group), Some(to)) = (group_of.get(&relation.group), group_of.get(&relation.neighbour)) {
            made[*group as usize].neighbours.push((*to, Fallback::from_minutes(relation.minutes)));
        }
    }
    let mut groups_of: HashMap<i64, Vec<u32>> = HashMap::new();
    for (group, boundary) in reader.boundary_members()? {
        groups_of.entry(boundary).or_default().extend(group_of.get(&group));
    }
    let mut boundaries: Vec<(Boundary, Vec<u32>)> = Vec::new();
    for row in reader.boundaries()? {
        let boundary = row
            .value
            .parse()
            .map_err(|error| SchemaError::Value(format!("the boundary `{}`: {error}", row.value)))?;
        boundaries.push((boundary, groups_of.remove(&row.id).unwrap_or_default()));
    }
    // The site's own group is the first of its list.
    Ok(Places::new(&boundaries, made, 0, points.collect(), contents(reader, &point_of)?))
}

/// Where keys may be shown to a point: at its address over TLS, or where nobody on the way reads them, or anywhere if the
/// operator lets them be shown over plain HTTP.
fn secure(url: &str, tls_url: &str, plain_allowed: bool) -> Option<String> {
    if !tls_url.is_empty() {
        return Some(tls_url.trim_end_matches('/').to_owned());
    }
    let shown = plain_allowed || url::Url::parse(url).is_ok_and(|url| is_unread(&url));
    shown.then(|| url.trim_end_matches('/').to_owned())
}

/// Who has which content.
fn contents(
    reader: &Reader<'_>,
    point_of: &HashMap<i64, u32>,
) -> Result<HashMap<Sha256Digest, Held>, SchemaError> {
    let mut contents: HashMap<Sha256Digest, Held> = HashMap::new();
    let held = |size, sha1, file_name| Held {
        size,
        sha1,
        file_name,
        points: BTreeMap::new(),
        offered: false,
        private: false,
        cloud: Vec::new(),
    };
    for row in reader.content_sources()? {
        let entry =
            contents.entry(row.sha256).or_insert_with(|| held(row.size, Some(row.sha1), row.file_name));
        entry.cloud.push(row.url);
    }
    for row in reader.published_elsewhere()? {
        let entry = contents.entry(row.sha256).or_insert_with(|| held(row.size, row.sha1, row.file_name));
        entry.cloud.push(row.url);
    }
    for row in reader.deployed_content()? {
        let entry =
            contents.entry(row.sha256).or_insert_with(|| held(row.size, Some(row.sha1), row.file_name));
        // As on the shelf: what only deployments have is for devices.
        entry.private = row.private;
        if let Some(point) = point_of.get(&OWN_POINT) {
            entry.points.insert(*point, Timestamp::UNIX_EPOCH);
        }
    }
    for row in reader.held()? {
        let entry =
            contents.entry(row.sha256).or_insert_with(|| held(row.size, Some(row.sha1), row.file_name));
        entry.offered |= !row.private;
        entry.private = row.private;
        if let Some(point) = point_of.get(&row.point) {
            entry.points.insert(*point, row.since);
        }
    }
    Ok(contents)
}
