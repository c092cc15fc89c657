//! How clients of boundary groups reach points, whoever of them asks: for plans, before there is anything to ask for.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use catalog::digest::Sha256Digest;
use serde::{Deserialize, Serialize};

use super::{Fallback, Places, Point, Standing};

/// How soon somebody in reach can be asked; the first is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// A point of the client's own groups.
    Now,
    /// A point of a neighbour, so long after the first question.
    After(Duration),
    /// None.
    Never,
}

impl Places {
    /// How a client that stands there reaches any of `points`, or where it is `offered` one that fetches what it is asked
    /// for. Points to which no client is sent are as if they were not there.
    pub fn reach(&self, standing: &Standing, points: &BTreeSet<u32>, offered: bool) -> Reach {
        let serves = |number: &u32| {
            let point = self.points.get(*number as usize).filter(|point| point.takes_clients());
            point.is_some_and(|point| points.contains(number) || (offered && point.on_demand))
        };
        let has = |group: u32| self.groups[group as usize].points.iter().any(serves);
        if standing.groups.iter().any(|group| has(*group)) {
            return Reach::Now;
        }
        let near = self.neighbours(&standing.groups);
        let later = near.iter().filter_map(|near| match near.fallback {
            Fallback::After(time) if has(near.group) => Some(Reach::After(time)),
            _ => None,
        });
        later.min().unwrap_or(Reach::Never)
    }

    /// The points that have a content, wherever clients are.
    pub fn holders(&self, content: Sha256Digest) -> impl Iterator<Item = &Point> {
        let numbers = self.holds(content).into_iter().flat_map(|held| held.points.keys());
        numbers.filter_map(move |number| self.points.get(usize::try_from(*number).ok()?))
    }

    /// Whether one of our points is at this address, as far as anybody knows.
    pub fn has_point_at(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.points.iter().any(|point| point.has_key && point.address == Some(address))
    }

    /// The number of the point of this name.
    pub fn point_called(&self, name: &str) -> Option<u32> {
        self.points
            .iter()
            .zip(0..)
            .find(|(point, _)| point.name.eq_ignore_ascii_case(name))
            .map(|(_, number)| number)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::{DEFAULT_FALLBACK, Group, Point};
    use super::*;

    #[test]
    fn reach_table() {
        let group = |name: &str, points: &[u32], neighbours: &[(u32, i64)]| Group {
            name: name.to_owned(),
            points: points.to_vec(),
            neighbours: neighbours
                .iter()
                .map(|(to, minutes)| (*to, Fallback::from_minutes(*minutes)))
                .collect(),
            ..Group::default()
        };
        let groups = vec![
            group("default", &[0], &[]),
            group("lyon", &[1], &[(2, 30)]),
            group("rome", &[2], &[(0, -1)]),
        ];
        let boundaries = [("10.1.0.0/16", 1), ("10.2.0.0/16", 2)]
            .map(|(text, group)| (text.parse().unwrap(), vec![group]));
        let point = |name: &str| Point::new(name, format!("http://{name}"));
        let points = vec![
            point("site"),
            point("lyon"),
            point("rome"),
            Point { maintenance: true, ..point("idle") },
            Point { has_key: false, ..point("lost") },
        ];
        let places = Places::new(&boundaries, groups.clone(), 0, points.clone(), HashMap::new());
        let after = |minutes: u64| Reach::After(Duration::from_secs(minutes * 60));
        for (client, held, expected) in [
            ("10.1.0.1", vec![1], Reach::Now),
            ("10.1.0.1", vec![2], after(30)),
            ("10.1.0.1", vec![0], Reach::After(DEFAULT_FALLBACK)),
            ("10.1.0.1", vec![0, 2], after(30)),
            ("10.2.0.1", vec![0, 1], Reach::Never),
            ("10.9.0.1", vec![0], Reach::Now),
            ("10.9.0.1", vec![3], Reach::Never),
            ("10.9.0.1", vec![4], Reach::Never),
            ("10.1.0.1", vec![], Reach::Never),
        ] {
            let held: BTreeSet<u32> = held.into_iter().collect();
            let standing = places.standing(client.parse().unwrap());
            assert_eq!(places.reach(&standing, &held, false), expected, "{client} {held:?}");
            assert_eq!(places.reach(&standing, &held, true), expected, "nobody fetches: {client} {held:?}");
        }
        assert_eq!((places.point_called("LYON"), places.point_called("x")), (Some(1), None));

        // Lyon and those that take no clients fetch what they are asked for.
        let pulls =
            |(number, point): (usize, Point)| Point { on_demand: [1, 3, 4].contains(&number), ..point };
        let points = points.into_iter().enumerate().map(pulls).collect();
        let places = Places::new(&boundaries, groups, 0, points, HashMap::new());
        for (client, held, offered, expected) in [
            ("10.1.0.1", vec![], true, Reach::Now),
            ("10.1.0.1", vec![2], true, Reach::Now),
            ("10.1.0.1", vec![2], false, after(30)),
            ("10.9.0.1", vec![], true, Reach::Never),
            ("10.2.0.1", vec![], true, Reach::Never),
        ] {
            let held: BTreeSet<u32> = held.into_iter().collect();
            let standing = places.standing(client.parse().unwrap());
            assert_eq!(places.reach(&standing, &held, offered), expected, "{client} {held:?} {offered}");
        }
    }
}
