//! Where clients of this site find content: the snapshot that answers are made of, and `spsync content locate`.
//!
//! [`Locations`] answers `GET /locations/{sha256}` without a database. Its [`Places`] are built whole from one consistent
//! state and swapped whole, with the shelf ([`Site::refresh_shelf`]) and after each change of boundaries and groups.

pub mod taken;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use catalog::digest::Sha256Digest;
use catalog::problem::{Code, Problem};
use dp::client::is_unread;
use dp::locate::{
    self, Boundary, Detail, Fallback, Group, Held, Options, Order, Peer, Places, Point, Request, State,
};
use dp::peers::{self, Devices, PeerService, Register};
use dp::server::tally::{Grouping, Tally};
use dp::server::{LocationKind, LocationsAnswer, Locator};
use jiff::Timestamp;
use schema::boundaries::BoundaryGroupRow;
use schema::{Reader, SchemaError};
use serde::{Deserialize, Serialize};

use crate::admin::Answer;
use crate::clock;
use crate::config::Settings;
use crate::points::wire::NetworkGroup;
use crate::site::Site;

/// Networks that points are told; clients in others are counted with the default group there.
const MOST_NETWORKS: usize = 10_000;

/// Answers where content is.
pub struct Locations {
    places: ArcSwap<Places>,
    /// What clients say that they hold. Its time begins with [`Locations::started`].
    pub register: Arc<Register>,
    /// What clients say that they took from whom, by their groups and by [`taken::KINDS`].
    pub taken: Tally<{ taken::KINDS.len() }>,
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
        self.map.store(Arc::new(map));
        changed
    }

    /// The groups and their networks.
    pub fn map(&self) -> Arc<Vec<NetworkGroup>> {
        self.map.load_full()
    }

    /// Peers that say they have `content` and may be near `client`.
    fn peers(&self, places: &Places, client: IpAddr, content: Sha256Digest) -> Vec<Peer> {
        let networks = places.networks(&places.standing(client), peers::NETWORKS);
        self.register.near(content, client, &networks, self.started.elapsed())
    }

    /// What answers are made of now.
    pub fn places(&self) -> Arc<Places> {
        self.places.load_full()
    }
}

impl Locator for Locations {
    fn locate(&self, client: IpAddr, content: Sha256Digest) -> Option<LocationsAnswer> {
        let places = self.places.load();
        let request = Request { client, content, elapsed: Duration::ZERO, order: Order::Client };
        let peers = self.peers(&places, client, content);
        let found = places.find(&request, &peers, Detail::InReach)?;
        let groups = places.names(&found.standing.groups).into_iter().map(str::to_owned).collect();
        Some(LocationsAnswer { groups, ..locate::answer(content, found, clock::now()) })
    }
}

impl Grouping for Locations {
    fn group_of(&self, client: IpAddr) -> Option<String> {
        Some(self.places.load().group_of(client).to_owned())
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

/// Everything that answers are made of, from one consistent state.
///
/// # Errors
/// Those of the database.
pub fn places(reader: &Reader<'_>, settings: &Settings) -> Result<Places, SchemaError> {
    let public_url = settings.public_url();
    // Rows have numbers with gaps; places count from 0.
    let rows = reader.places()?;
    let point_of: HashMap<i64, u32> = rows.iter().zip(0..).map(|(row, at)| (row.id, at)).collect();
    let points = rows.iter().map(|row| {
        let url = if row.url.is_empty() { &public_url } else { &row.url };
        Point {
            maintenance: row.maintenance,
            on_demand: row.on_demand,
            asked: row.id == schema::points::OWN_POINT,
            secure: secure(url, &row.tls_url, settings.server.allow_plain_enrolment),
            ..Point::new(row.name.clone(), url)
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
        if let Some(point) = point_of.get(&schema::points::OWN_POINT) {
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

/// Whether a candidate is asked, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Now.
    In,
    /// After its time.
    Later,
    /// Not at all.
    Out,
}

/// One candidate of `spsync content locate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Located {
    /// Its place among those that are asked now, from 1.
    pub position: Option<usize>,
    /// Who it is.
    pub kind: LocationKind,
    /// Its name.
    pub name: String,
    /// Where the content is there.
    pub url: String,
    /// Its rank.
    pub rank: locate::Rank,
    /// Whether it is asked.
    pub verdict: Verdict,
    /// Why: a stable word.
    pub why: String,
    /// The same for people.
    pub reason: String,
    /// Since when it has the content, verified.
    pub verified: Option<Timestamp>,
    /// How long after the first question it is asked.
    pub after_seconds: Option<u64>,
    /// The same as a time, where the first question is asked now.
    pub from: Option<Timestamp>,
}

/// Where one client finds one content, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// The content.
    pub content: Sha256Digest,
    /// A name of it.
    pub file_name: String,
    /// Bytes.
    pub size: u64,
    /// The client's address.
    pub client: IpAddr,
    /// Its boundary groups.
    pub groups: Vec<String>,
    /// No boundary puts it there: it is the default site group.
    pub by_default: bool,
    /// The subnet that counts as its own.
    pub subnet: Option<String>,
    /// Seconds since its first question.
    pub elapsed_seconds: u64,
    /// Every candidate: those that are asked, in order; those that are asked later; those that are not.
    pub candidates: Vec<Located>,
}

/// Explains where a client at `client` finds `content`, so long after it asked first.
///
/// # Errors
/// `CONTENT_NOT_FOUND`, `AMBIGUOUS`, `USAGE`.
pub async fn locate(
    site: &Arc<Site>,
    client: &str,
    content: &str,
    elapsed: Duration,
    engine: bool,
) -> Result<Answer, Problem> {
    let client: IpAddr = client
        .parse()
        .map_err(|_| Problem::new(Code::InvalidOption, format!("`{client}` is no IP address")))?;
    let places = site.locations.places();
    let content = named(&places, content)?;
    let order = if engine { Order::Engine { neighbours: true, default_group: true } } else { Order::Client };
    let request = Request { client, content, elapsed, order };
    let nothing = || Problem::new(Code::ContentNotFound, format!("nobody is known to have {content}"));
    let peers = site.locations.peers(&places, client, content);
    let found = places.find(&request, &peers, Detail::All).ok_or_else(nothing)?;
    let now = clock::now();
    let mut position = 0;
    let candidates = found.candidates.iter().map(|candidate| {
        let after = match candidate.state {
            State::Later(after) => Some(after),
            State::In | State::Out => None,
        };
        let asked = candidate.state == State::In;
        position += usize::from(asked);
        Located {
            position: asked.then_some(position),
            kind: candidate.kind,
            name: candidate.name.clone(),
            url: candidate.url.clone(),
            rank: candidate.rank,
            verdict: match candidate.state {
                State::In => Verdict::In,
                State::Later(_) => Verdict::Later,
                State::Out => Verdict::Out,
            },
            why: candidate.reason.word().to_owned(),
            reason: candidate.reason.to_string(),
            verified: candidate.since,
            after_seconds: after.map(|after| after.as_secs()),
            from: after.and_then(|after| {
                let left = jiff::SignedDuration::try_from(after.saturating_sub(elapsed)).ok()?;
                now.checked_add(left).ok()
            }),
        }
    });
    Answer::of(&Explained {
        content,
        candidates: candidates.collect(),
        file_name: found.held.file_name.to_string(),
        size: found.held.size,
        client: client.to_canonical(),
        groups: places.names(&found.standing.groups).into_iter().map(str::to_owned).collect(),
        by_default: found.standing.by_default,
        subnet: found.standing.subnet.map(|subnet| subnet.to_string()),
        elapsed_seconds: elapsed.as_secs(),
    })
}

/// The content whose SHA-256 begins so.
fn named(places: &Places, name: &str) -> Result<Sha256Digest, Problem> {
    let wanted = name.to_lowercase();
    let begins = |content: &&Sha256Digest| !wanted.is_empty() && content.to_string().starts_with(&wanted);
    let found: Vec<_> = places.contents().filter(begins).take(8).collect();
    match found.as_slice() {
        [one] => Ok(**one),
        [] => Err(Problem::new(Code::ContentNotFound, format!("nobody is known to have a content `{name}`"))),
        several => {
            let all: Vec<_> = several.iter().map(|content| content.to_string()).collect();
            let message = format!("several contents begin with `{name}`");
            Err(Problem::new(Code::Ambiguous, message).because(all.join(", ")))
        }
    }
}
