//! Where devices of each boundary group would find the content, and how many bytes would go over which link. Pure: the
//! snapshot of places is an argument.
//!
//! A link is the way into a boundary group. A point of the group that has the content needs nothing more; one that it is
//! sent to, or that fetches what it is asked for, takes it in once; without a point each content comes in once where devices
//! give it to each other, and else once for each device. What is for those with a key devices give to nobody, and only points
//! have it that it was sent to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use dp::locate::{Places, Reach};
use serde::{Deserialize, Serialize};

/// One content: its bytes, and which points have it, or will have it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// For people.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Numbers of points that have it.
    pub held: BTreeSet<u32>,
    /// Numbers of points that it is to be sent to.
    pub planned: BTreeSet<u32>,
    /// The upstream's own links may be used for it, and there are some.
    pub cloud: bool,
    /// Devices give it to each other, where their group lets them.
    pub shared: bool,
    /// Points that fetch what they are asked for have it in effect.
    pub offered: bool,
}

/// A device: where it asked from last, and which contents it wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    /// Its address, if one is known.
    pub address: Option<IpAddr>,
    /// Positions among the contents.
    pub wants: Vec<usize>,
}

/// How devices of a group find the content: the worst of all contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Means {
    /// At a point of their group.
    Reachable,
    /// At a point of a neighbour, after its time.
    Fallback,
    /// At the upstream.
    Cloud,
    /// Where the site does not know the address, it does not know the way.
    Unknown,
    /// Nowhere, unless another device has it.
    NotReachable,
}

impl Means {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Reachable => "reachable",
            Self::Fallback => "reachable by fallback",
            Self::Cloud => "from the cloud",
            Self::Unknown => "address not known",
            Self::NotReachable => "not reachable",
        }
    }
}

/// One boundary group, or several where devices are in all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupLine {
    /// Names of the groups; empty where the address is not known.
    pub groups: Vec<String>,
    /// Devices there that want anything.
    pub devices: u64,
    /// How they find it.
    pub means: Means,
    /// After how many seconds, by fallback.
    pub after_seconds: Option<u64>,
    /// Devices may give content to each other.
    pub peers: bool,
    /// Bytes that devices download together.
    pub bytes: u64,
    /// Bytes that come into the group.
    pub link_bytes: u64,
}

/// Devices that stand in the same groups.
#[derive(Default)]
struct Standing {
    /// Where one of them is.
    address: Option<IpAddr>,
    devices: u64,
    /// How many want which content.
    wants: BTreeMap<usize, u64>,
}

/// All groups, by name.
pub fn lines(places: &Places, contents: &[Wanted], askers: &[Asker]) -> Vec<GroupLine> {
    let mut groups: BTreeMap<Option<Vec<u32>>, Standing> = BTreeMap::new();
    for asker in askers.iter().filter(|asker| !asker.wants.is_empty()) {
        let key = asker.address.map(|address| places.standing(address).groups);
        let standing = groups.entry(key).or_default();
        standing.address = asker.address;
        standing.devices += 1;
        asker.wants.iter().for_each(|content| *standing.wants.entry(*content).or_default() += 1);
    }
    let mut lines: Vec<GroupLine> = groups
        .into_values()
        .map(|all| line(places, contents, all.address, all.devices, &all.wants))
        .collect();
    lines.sort_by(|one, other| one.groups.cmp(&other.groups));
    lines
}

fn line(
    places: &Places,
    contents: &[Wanted],
    address: Option<IpAddr>,
    devices: u64,
    wants: &BTreeMap<usize, u64>,
) -> GroupLine {
    let wanted = || wants.iter().filter_map(|(position, count)| Some((contents.get(*position)?, *count)));
    let bytes =
        wanted().map(|(content, count)| content.size.saturating_mul(count)).fold(0, u64::saturating_add);
    let Some(address) = address else {
        let (means, groups) = (Means::Unknown, Vec::new());
        return GroupLine {
            groups,
            devices,
            means,
            after_seconds: None,
            peers: false,
            bytes,
            link_bytes: bytes,
        };
    };
    let standing = places.standing(address);
    let mut worst = (Means::Reachable, None);
    let mut link_bytes = 0;
    for (content, count) in wanted() {
        let there: BTreeSet<u32> = content.held.union(&content.planned).copied().collect();
        let reach = places.reach(&standing, &there, content.offered);
        let means = match reach {
            Reach::Now => (Means::Reachable, None),
            Reach::After(after) => (Means::Fallback, Some(after.as_secs())),
            Reach::Never if content.cloud && standing.options.cloud => (Means::Cloud, None),
            Reach::Never => (Means::NotReachable, None),
        };
        worst = worst.max(means);
        link_bytes = u64::saturating_add(
            link_bytes,
            match reach {
                Reach::Now if places.reach(&standing, &content.held, false) == Reach::Now => 0,
                Reach::Now => content.size,
                _ if means.0 == Means::NotReachable => 0,
                _ if standing.options.peers && content.shared => content.size,
                _ => content.size.saturating_mul(count),
            },
        );
    }
    GroupLine {
        groups: places.names(&standing.groups).into_iter().map(str::to_owned).collect(),
        devices,
        means: worst.0,
        after_seconds: worst.1,
        peers: standing.options.peers,
        bytes,
        link_bytes,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use dp::locate::{Fallback, Group, Options, Point};

    use super::*;

    const GIB: u64 = 1 << 30;

    /// Five sites: Lyon has a point, Rome falls back to Lyon, Oslo may use the cloud without peers, Bern has nothing, and Genoa a
    /// point that fetches what it is asked for.
    fn places() -> Places {
        let group = |name: &str, points: &[u32], neighbours: &[(u32, i64)], options: Options| Group {
            name: name.to_owned(),
            options,
            points: points.to_vec(),
            neighbours: neighbours
                .iter()
                .map(|(to, minutes)| (*to, Fallback::from_minutes(*minutes)))
                .collect(),
        };
        let on = Options::default;
        let groups = vec![
            group("default", &[0], &[], on()),
            group("LYON", &[1], &[(0, -1)], on()),
            group("ROME", &[], &[(1, 60), (0, -1)], on()),
            group("OSLO", &[], &[(0, -1)], Options { peers: false, ..on() }),
            group("BERN", &[], &[(0, -1)], Options { cloud: false, ..on() }),
            group("GENOA", &[2], &[(0, -1)], on()),
        ];
        let boundary = |n: u32| (format!("10.{n}.0.0/16").parse().expect("a subnet"), vec![n]);
        let boundaries: Vec<_> = (1..=5).map(boundary).collect();
        let genoa = Point { on_demand: true, ..Point::new("genoa", "http://genoa") };
        let points = vec![Point::new("site", "http://site"), Point::new("lyon", "http://lyon"), genoa];
        Places::new(&boundaries, groups, 0, points, HashMap::new())
    }

    fn askers(group: u32, devices: u32) -> Vec<Asker> {
        let at = |n: u32| IpAddr::V4((0x0a00_0000 + (group << 16) + n + 1).into());
        (0..devices).map(|n| Asker { address: Some(at(n)), wants: vec![0] }).collect()
    }

    #[test]
    fn links_and_means_table() {
        let esd = |held: &[u32], planned: &[u32]| Wanted {
            name: "esd".to_owned(),
            size: 5 * GIB,
            held: held.iter().copied().collect(),
            planned: planned.iter().copied().collect(),
            cloud: true,
            shared: true,
            offered: false,
        };
        let key = |content: Wanted| Wanted { cloud: false, shared: false, ..content };
        let asked = |content: Wanted| Wanted { offered: true, ..content };
        let (here, later, cloud, nowhere) =
            (Means::Reachable, Means::Fallback, Means::Cloud, Means::NotReachable);
        for (name, group, content, means, after, link) in [
            ("a point has it", 1, esd(&[1], &[]), here, None, 0),
            ("a point will have it", 1, esd(&[], &[1]), here, None, 5 * GIB),
            ("the neighbour's point", 2, esd(&[1], &[]), later, Some(3600), 5 * GIB),
            ("the cloud, each for itself", 3, esd(&[1], &[]), cloud, None, 50 * GIB),
            ("the cloud, with peers", 2, esd(&[0], &[]), cloud, None, 5 * GIB),
            ("nothing", 4, esd(&[1], &[]), nowhere, None, 0),
            ("the neighbour's point, each for itself", 2, key(esd(&[1], &[])), later, Some(3600), 50 * GIB),
            ("a point will have it, for those with a key", 1, key(esd(&[], &[1])), here, None, 5 * GIB),
            ("a point fetches it", 5, asked(esd(&[0], &[])), here, None, 5 * GIB),
            ("a point that fetches has it", 5, asked(esd(&[2], &[])), here, None, 0),
            ("a point would fetch it, and it is not offered", 5, key(esd(&[0], &[])), nowhere, None, 0),
            ("no cloud for it", 3, Wanted { cloud: false, ..esd(&[1], &[]) }, nowhere, None, 0),
        ] {
            let found = lines(&places(), &[content], &askers(group, 10));
            assert_eq!(found.len(), 1, "{name}");
            let line = &found[0];
            assert_eq!((line.means, line.after_seconds, line.link_bytes), (means, after, link), "{name}");
            assert_eq!((line.devices, line.bytes), (10, 50 * GIB), "{name}");
        }
    }

    #[test]
    fn each_group_has_a_line_and_no_device_is_lost() {
        let mut all: Vec<Asker> = (1..=4).flat_map(|group| askers(group, group)).collect();
        all.push(Asker { address: None, wants: vec![0] });
        all.push(Asker { address: Some("10.1.0.9".parse().unwrap()), wants: Vec::new() });
        let content = Wanted { size: 1, held: [1].into(), cloud: true, ..Wanted::default() };
        let found = lines(&places(), &[content], &all);
        let names: Vec<_> = found.iter().map(|line| line.groups.join("+")).collect();
        assert_eq!(names, ["", "BERN", "LYON", "OSLO", "ROME"]);
        assert_eq!(found.iter().map(|line| line.devices).sum::<u64>(), 11);
        assert_eq!(found[0].means, Means::Unknown);
    }
}
