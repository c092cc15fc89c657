//! Every rule of the order, as tables: who asks from where, and the candidates in the order in which they are told.

mod named;

use proptest::prelude::*;

use super::*;
use crate::server::LocationKind;

const MINUTE: Duration = Duration::from_secs(60);
const CONTENT: Sha256Digest = Sha256Digest([7; 32]);
const NOW: Timestamp = Timestamp::constant(1_700_000_000, 0);

/// A site in words. Groups, points and boundaries are named; the group `D` is that of the site.
#[derive(Default)]
struct Site {
    boundaries: Vec<(Boundary, Vec<u32>)>,
    groups: Vec<Group>,
    points: Vec<Point>,
    holds: Vec<u32>,
    cloud: Vec<String>,
    private: bool,
}

impl Site {
    fn new() -> Self {
        let site = Self { cloud: vec!["http://cloud/x".to_owned()], ..Self::default() };
        site.group("D", &[], &[])
    }

    fn number(&self, group: &str) -> u32 {
        self.groups.iter().position(|one| one.name == group).expect("a group of the test") as u32
    }

    fn group(mut self, name: &str, boundaries: &[&str], options: &[&str]) -> Self {
        let mut group = Group { name: name.to_owned(), ..Group::default() };
        for option in options {
            match *option {
                "no-peers" => group.options.peers = false,
                "same-subnet" => group.options.same_subnet_peers = true,
                "prefer-points" => group.options.prefer_points = true,
                "prefer-cloud" => group.options.prefer_cloud = true,
                "no-cloud" => group.options.cloud = false,
                other => panic!("no option {other}"),
            }
        }
        let number = self.groups.len() as u32;
        self.groups.push(group);
        for text in boundaries {
            let boundary: Boundary = text.parse().expect("a boundary of the test");
            match self.boundaries.iter_mut().find(|(known, _)| *known == boundary) {
                Some((_, groups)) => groups.push(number),
                None => self.boundaries.push((boundary, vec![number])),
            }
        }
        self
    }

    /// A point at `host` in `groups`, which has the content.
    fn point(mut self, name: &str, host: &str, groups: &[&str]) -> Self {
        let number = self.points.len() as u32;
        self.points.push(Point::new(name, format!("http://{host}:8530/")));
        self.holds.push(number);
        for group in groups {
            let group = self.number(group) as usize;
            self.groups[group].points.push(number);
        }
        self
    }

    fn without_content(mut self) -> Self {
        self.holds.pop();
        self
    }

    fn in_maintenance(mut self) -> Self {
        self.points.last_mut().expect("a point of the test").maintenance = true;
        self
    }

    fn without_key(mut self) -> Self {
        self.points.last_mut().expect("a point of the test").has_key = false;
        self
    }

    /// Nobody has heard of the last point for so many minutes.
    fn silent_for(mut self, minutes: u32) -> Self {
        let last = NOW.checked_sub(MINUTE * minutes).expect("long after 1970");
        let heard = Heard::new(last, Timestamp::UNIX_EPOCH, MINUTE);
        self.points.last_mut().expect("a point of the test").heard = Some(Arc::new(heard));
        self
    }

    fn seen_at(mut self, address: &str) -> Self {
        let point = self.points.pop().expect("a point of the test");
        self.points.push(point.seen_at(Some(address.parse().expect("an address of the test"))));
        self
    }

    fn relate(mut self, group: &str, other: &str, minutes: i64) -> Self {
        let (group, other) = (self.number(group) as usize, self.number(other));
        self.groups[group].neighbours.push((other, Fallback::from_minutes(minutes)));
        self
    }

    fn places(&self) -> Places {
        let held = Held {
            size: 4,
            sha1: None,
            file_name: "x.esd".parse().expect("a name"),
            points: self.holds.iter().map(|point| (*point, Timestamp::UNIX_EPOCH)).collect(),
            offered: true,
            private: self.private,
            cloud: self.cloud.clone(),
        };
        let contents = HashMap::from([(CONTENT, held)]);
        Places::new(&self.boundaries, self.groups.clone(), 0, self.points.clone(), contents)
    }

    fn told(&self, client: &str, minutes: u32, order: Order, peers: &[Peer]) -> Vec<String> {
        let request = Request {
            client: client.parse().expect("an address of the test"),
            content: CONTENT,
            elapsed: MINUTE * minutes,
            order,
            now: NOW,
        };
        let places = self.places();
        let found = places.find(&request, peers, Detail::All).expect("the content is known");
        found.candidates.iter().map(words).collect()
    }

    fn client(&self, client: &str, minutes: u32) -> Vec<String> {
        self.told(client, minutes, Order::Client, &[])
    }
}

fn words(candidate: &Candidate<'_>) -> String {
    let name = if candidate.kind() == LocationKind::Cloud { "cloud" } else { candidate.name() };
    match candidate.state {
        State::In => format!("{name}: {}", candidate.reason.word()),
        State::Later(after) => format!("{name}: {} +{}", candidate.reason.word(), after.as_secs() / 60),
        State::Out => format!("{name}: no, {}", candidate.reason.word()),
    }
}

fn peer(name: &str, address: &str) -> Peer {
    let address = format!("{address}:8533").parse().expect("an address of the test");
    Peer { name: name.to_owned(), address, shunned: None }
}

/// Lyon with a neighbour and another one, and a site.
fn lyon() -> Site {
    Site::new()
        .group("LYON", &["10.20.4.0/24", "10.20.5.0/24"], &[])
        .group("ROME", &["10.30.0.0/16"], &[])
        .group("OSLO", &["10.40.0.0/16"], &[])
        .relate("LYON", "ROME", 60)
        .relate("LYON", "OSLO", -1)
        .point("site", "10.1.1.1", &["D"])
        .point("lyon4", "10.20.4.2", &["LYON"])
        .point("lyon5", "10.20.5.2", &["LYON"])
        .point("rome", "10.30.0.2", &["ROME"])
        .point("oslo", "10.40.0.2", &["OSLO"])
}

#[test]
fn a_client_asks_its_own_then_neighbours_after_their_time_then_the_cloud() {
    let site = lyon();
    assert_eq!(
        site.client("10.20.4.17", 0),
        [
            "lyon4: same-subnet",
            "lyon5: same-group",
            "cloud: upstream",
            "rome: neighbour +60",
            "site: default-group +120",
            "oslo: no, never",
        ]
    );
    assert_eq!(
        site.client("10.20.4.17", 60)[..4],
        ["lyon4: same-subnet", "lyon5: same-group", "rome: neighbour", "cloud: upstream"]
    );
    assert_eq!(
        site.client("10.20.4.17", 120),
        [
            "lyon4: same-subnet",
            "lyon5: same-group",
            "rome: neighbour",
            "site: default-group",
            "cloud: upstream",
            "oslo: no, never",
        ]
    );
    assert_eq!(site.client("10.20.4.2", 0)[0], "lyon4: this-computer");
    assert_eq!(site.client("::ffff:10.20.4.17", 0)[0], "lyon4: same-subnet", "IPv4 over a listener of both");
}

#[test]
fn relationships_lead_one_way_and_one_step() {
    let site = lyon();
    // Rome says nothing of Lyon, and Lyon's neighbours are not Rome's.
    let told = site.client("10.30.9.9", 1_000);
    assert_eq!(told[..3], ["rome: same-subnet", "site: default-group", "cloud: upstream"]);
    assert_eq!(
        sorted(&told[3..]),
        ["lyon4: no, out-of-reach", "lyon5: no, out-of-reach", "oslo: no, out-of-reach"]
    );
}

/// Candidates that are out have no order that matters.
fn sorted(told: &[String]) -> Vec<String> {
    let mut told = told.to_vec();
    told.sort();
    told
}

#[test]
fn an_explicit_link_to_the_default_site_group_overrides_the_implied_one() {
    for (minutes, later) in
        [(0, "site: default-group"), (30, "site: default-group +30"), (-1, "site: no, never")]
    {
        let site = lyon().relate("LYON", "D", minutes);
        let told = site.client("10.20.4.17", 0);
        assert!(told.contains(&later.to_owned()), "{minutes}: {told:?}");
        assert_eq!(told.iter().filter(|line| line.starts_with("site")).count(), 1, "{told:?}");
    }
}

#[test]
fn who_is_in_no_boundary_is_in_the_default_site_group() {
    let site = lyon().relate("D", "ROME", 10);
    let told = site.client("192.168.1.1", 0);
    assert_eq!(told[..3], ["site: same-group", "cloud: upstream", "rome: neighbour +10"]);
    // Teredo says nothing of a place, whatever boundaries say.
    let everywhere = lyon().group("ALL6", &["::/0"], &[]).point("six", "six.example", &["ALL6"]);
    assert_eq!(everywhere.client("2001:db8::1", 0)[0], "six: same-group");
    assert_eq!(everywhere.client("2001:0:1::1", 0)[0], "site: same-group");
}

#[test]
fn without_boundaries_everybody_is_sent_to_every_point() {
    let site = Site::new().point("a", "a", &[]).point("b", "b", &[]);
    let mut told = site.client("192.0.2.1", 0);
    assert_eq!(told[2], "cloud: upstream");
    told.sort();
    assert_eq!(told, ["a: same-group", "b: same-group", "cloud: upstream"]);
}

#[test]
fn overlapping_groups_are_unions() {
    let site = Site::new()
        .group("A", &["10.0.0.0/8"], &["no-cloud"])
        .group("B", &["10.0.0.0/24"], &[])
        .group("N", &[], &[])
        .relate("A", "N", 240)
        .relate("B", "N", 30)
        .relate("A", "B", 5)
        .relate("A", "D", -1)
        .point("a", "a", &["A"])
        .point("b", "b", &["B"])
        .point("n", "n", &["N"])
        .point("site", "site", &["D"]);
    let mut both = site.client("10.0.0.5", 0);
    both[..2].sort();
    // The shortest time of any; a group that is current is no neighbour; B's implied link outlives A's "never".
    assert_eq!(
        both,
        ["a: same-group", "b: same-group", "cloud: upstream", "n: neighbour +30", "site: default-group +120"]
    );
    let one = site.client("10.9.0.5", 0);
    assert_eq!(one[..3], ["a: same-group", "b: neighbour +5", "n: neighbour +240"]);
    assert_eq!(sorted(&one[3..]), ["cloud: no, cloud-off", "site: no, never"]);
}

#[test]
fn points_in_maintenance_or_without_the_content_are_out_and_say_so() {
    let site = Site::new()
        .group("G", &["10.0.0.0/24"], &[])
        .point("off", "off", &["G"])
        .in_maintenance()
        .point("empty", "empty", &["G"])
        .without_content();
    let told = site.client("10.0.0.1", 0);
    assert_eq!(told[0], "cloud: upstream");
    assert!(
        told.contains(&"off: no, maintenance".to_owned())
            && told.contains(&"empty: no, not-there".to_owned())
    );
}

fn peers() -> [Peer; 7] {
    [
        peer("near", "10.20.4.9"),
        peer("far", "10.20.5.9"),
        peer("roman", "10.30.0.9"),
        peer("self", "10.20.4.17"),
        Peer { shunned: Some(Shunned::Distrusted), ..peer("liar", "10.20.4.10") },
        Peer { shunned: Some(Shunned::Away), ..peer("sleeper", "10.20.4.11") },
        Peer { address: "[2001:0:1::1]:8533".parse().expect("an address"), ..peer("teredo", "10.0.0.1") },
    ]
}

#[test]
fn peers_are_of_the_own_groups_and_stand_before_points_of_their_distance() {
    let told = lyon().told("10.20.4.17", 0, Order::Client, &peers());
    assert_eq!(
        told[..5],
        [
            "near: same-subnet",
            "lyon4: same-subnet",
            "far: same-group",
            "lyon5: same-group",
            "cloud: upstream"
        ]
    );
    for out in [
        "roman: no, other-group",
        "self: no, itself",
        "liar: no, distrusted",
        "sleeper: no, away",
        "teredo: no, nowhere",
    ] {
        assert!(told.contains(&out.to_owned()), "{out}: {told:?}");
    }
}

#[test]
fn options_sort_anew() {
    let site = |options: &[&str]| {
        Site::new()
            .group("G", &["10.20.4.0/24", "10.20.5.0/24"], options)
            .point("here", "10.20.4.2", &["G"])
            .point("there", "10.20.5.2", &["G"])
    };
    for (options, expected) in [
        (&[][..], "near here far there cloud"),
        (&["prefer-points"], "here near far there cloud"),
        (&["prefer-cloud"], "near cloud here far there"),
        (&["prefer-cloud", "prefer-points"], "cloud here near far there"),
        (&["same-subnet"], "near here there cloud"),
        (&["no-peers"], "here there cloud"),
        (&["no-cloud"], "near here far there"),
    ] {
        let told = site(options).told("10.20.4.17", 0, Order::Client, &peers()[..2]);
        let names: Vec<_> = told
            .iter()
            .filter(|line| !line.contains("no, "))
            .filter_map(|line| line.split(':').next())
            .collect();
        assert_eq!(names.join(" "), expected, "{options:?}");
    }
}

#[test]
fn peers_must_be_allowed_by_all_groups_and_the_rest_by_any() {
    let site = |a: &[&str], b: &[&str]| {
        Site::new().group("A", &["10.20.0.0/16"], a).group("B", &["10.20.4.0/24"], b)
    };
    let peers = &peers()[..1];
    for (a, b, expected) in [
        (&[][..], &["no-peers"][..], "near: no, peers-off"),
        (&["no-peers"], &[], "near: no, peers-off"),
        (&[], &[], "near: same-subnet"),
        (&["no-cloud"], &[], "cloud: upstream"),
        (&["no-cloud"], &["no-cloud"], "cloud: no, cloud-off"),
    ] {
        let told = site(a, b).told("10.20.4.17", 0, Order::Client, peers);
        assert!(told.contains(&expected.to_owned()), "{a:?} {b:?}: {told:?}");
    }
    let far = [peer("far", "10.20.5.9")];
    let told = site(&["same-subnet"], &[]).told("10.20.4.17", 0, Order::Client, &far);
    assert!(told.contains(&"far: no, other-subnet".to_owned()), "{told:?}");
}

#[test]
fn in_the_default_site_group_only_the_own_subnet_shares() {
    let told = Site::new().told(
        "192.168.1.5",
        0,
        Order::Client,
        &[peer("near", "192.168.1.9"), peer("far", "192.168.2.9")],
    );
    assert_eq!(told, ["near: same-subnet", "cloud: upstream", "far: no, other-subnet"]);
}

#[test]
fn eight_peers_are_enough() {
    let many: Vec<_> = (0..20).map(|n| peer(&format!("p{n}"), &format!("10.20.4.{}", 100 + n))).collect();
    let told = lyon().told("10.20.4.17", 0, Order::Client, &many);
    assert_eq!(
        told.iter().filter(|line| line.ends_with(": same-subnet") && line.starts_with('p')).count(),
        8
    );
    assert_eq!(told.iter().filter(|line| line.ends_with("no, enough")).count(), 12);
}

#[test]
fn the_task_sequence_engine_does_not_wait_and_asks_peers_first() {
    let site = lyon();
    let order = |neighbours, default_group| Order::Engine { neighbours, default_group };
    let told = site.told("10.20.4.17", 0, order(true, true), &peers()[..2]);
    assert_eq!(
        told[..6],
        [
            "near: same-subnet",
            "far: same-group",
            "lyon4: same-subnet",
            "lyon5: same-group",
            "rome: neighbour",
            "site: default-group",
        ]
    );
    assert!(told.contains(&"cloud: no, not-in-order".to_owned()));
    let told = site.told("10.20.4.17", 0, order(false, false), &[]);
    assert_eq!(told[..2], ["lyon4: same-subnet", "lyon5: same-group"]);
    assert!(
        told.contains(&"rome: no, not-allowed".to_owned())
            && told.contains(&"site: no, not-allowed".to_owned())
    );
    // "Prefer points" has no meaning here; the neighbour that is fallen back to sooner comes first.
    let site = Site::new()
        .group("G", &["10.20.4.0/24"], &["prefer-points"])
        .group("X", &[], &[])
        .group("Y", &[], &[])
        .relate("G", "X", 90)
        .relate("G", "Y", 30)
        .point("x", "x", &["X"])
        .point("y", "y", &["Y"])
        .point("here", "10.20.4.2", &["G"]);
    let told = site.told("10.20.4.17", 0, order(true, true), &peers()[..1]);
    assert_eq!(told[..4], ["near: same-subnet", "here: same-subnet", "y: neighbour", "x: neighbour"]);
}

#[test]
fn clients_are_spread_over_points_and_each_stays_with_its_own() {
    let site = Site::new().point("a", "a", &[]).point("b", "b", &[]).point("c", "c", &[]);
    let places = site.places();
    let first = |client: u32| {
        let request = Request {
            client: IpAddr::V4((0x0a00_0000 + client).into()),
            content: CONTENT,
            elapsed: Duration::ZERO,
            order: Order::Client,
            now: NOW,
        };
        places.find(&request, &[], Detail::InReach).expect("known").candidates[0].name().to_owned()
    };
    let mut counts: HashMap<String, u32> = HashMap::new();
    for client in 0..3_000 {
        assert_eq!(first(client), first(client));
        *counts.entry(first(client)).or_default() += 1;
    }
    assert!(counts.len() == 3 && counts.values().all(|count| (850..1_150).contains(count)), "{counts:?}");
}

#[test]
fn an_unknown_content_has_no_answer() {
    let request = Request {
        client: "10.0.0.1".parse().expect("an address"),
        content: Sha256Digest([1; 32]),
        elapsed: Duration::ZERO,
        order: Order::Client,
        now: NOW,
    };
    assert!(lyon().places().find(&request, &[], Detail::All).is_none());
}

#[test]
fn the_answer_has_times_and_reasons_and_an_end() {
    let mut site = lyon();
    for number in 0..100 {
        site = site.point(&format!("p{number}"), &format!("p{number}"), &["LYON"]);
    }
    let places = site.places();
    let request = Request {
        client: "10.20.4.17".parse().expect("an address"),
        content: CONTENT,
        elapsed: Duration::ZERO,
        order: Order::Client,
        now: NOW,
    };
    let found = places.find(&request, &[], Detail::InReach).expect("known");
    assert_eq!(found.candidates.len() + found.untold, 106, "sixty-four of a sort are told");
    let answer = answer(&found, Timestamp::UNIX_EPOCH);
    assert_eq!((answer.locations.len(), answer.not_told), (64, 102 + 1 - 64));
    assert_eq!(answer.groups, ["LYON"]);
    assert_eq!(answer.locations[0].reason, "same subnet 10.20.4.0/24");
    let rome = &answer.later[0];
    assert_eq!((rome.after_seconds, rome.from.to_string().as_str()), (3_600, "1970-01-01T01:00:00Z"));
    assert_eq!(rome.reason, "ROME is a neighbour of LYON");
    assert_eq!((answer.out[0].name.as_str(), answer.out[0].why.as_str()), ("oslo", "never"));
}

proptest! {
    /// The order is total and has the same members for everybody: states in their order, nobody twice, nobody lost.
    #[test]
    fn every_point_is_told_exactly_once(
        memberships in proptest::collection::vec(0u8..16, 1..12),
        relations in proptest::collection::vec((0u32..4, 0u32..4, -1i64..300), 0..10),
        client in any::<[u8; 4]>(),
        minutes in 0u32..400,
        engine in any::<bool>(),
    ) {
        let mut site = Site::new()
            .group("A", &["0.0.0.0/1"], &[]).group("B", &["64.0.0.0/2"], &[]).group("C", &["96.0.0.0/3"], &[]);
        for (number, groups) in memberships.iter().enumerate() {
            let names: Vec<_> = ["D", "A", "B", "C"].into_iter().enumerate()
                .filter(|(bit, _)| groups & (1 << bit) != 0).map(|(_, name)| name).collect();
            site = site.point(&format!("p{number}"), &format!("10.0.0.{number}"), &names);
        }
        for (from, to, minutes) in relations {
            let known = site.groups[from as usize].neighbours.iter().any(|(other, _)| *other == to);
            if from != to && !known {
                site.groups[from as usize].neighbours.push((to, Fallback::from_minutes(minutes)));
            }
        }
        let places = site.places();
        let order = if engine { Order::Engine { neighbours: true, default_group: true } } else { Order::Client };
        let request = Request { client: client.into(), content: CONTENT, elapsed: MINUTE * minutes, order, now: NOW };
        let all = places.find(&request, &[], Detail::All).expect("known");
        prop_assert!(all.candidates.is_sorted_by_key(|candidate| candidate.state));
        let mut names: Vec<_> = all.candidates.iter().map(|candidate| candidate.name()).collect();
        names.sort();
        names.dedup();
        prop_assert_eq!(names.len(), memberships.len() + 1, "every point, and the cloud");
        prop_assert_eq!(all.candidates.len(), names.len());
        for candidate in &all.candidates {
            if let State::Later(after) = candidate.state {
                prop_assert!(!engine && after > request.elapsed);
            }
        }
        // What is only counted is what would be out.
        let some = places.find(&request, &[], Detail::InReach).expect("known");
        prop_assert_eq!(some.candidates.len() + some.untold, all.candidates.len());
        let asked = |found: &Found<'_>| -> Vec<String> {
            let asked = found.candidates.iter().filter(|candidate| candidate.state != State::Out);
            asked.map(|one| format!("{:?} {:?} {}", one.state, one.reason, one.url(CONTENT))).collect()
        };
        prop_assert_eq!(asked(&some), asked(&all));
    }
}

#[test]
fn where_nothing_is_known_nobody_has_anything() {
    let places = Places::default();
    let client = "10.0.0.1".parse().unwrap();
    let request =
        Request { client, content: CONTENT, elapsed: Duration::ZERO, order: Order::Client, now: NOW };
    assert!(places.find(&request, &[], Detail::All).is_none());
    assert!(places.standing(client).by_default && places.networks(&places.standing(client), 9).is_empty());
}

/// Keys are shown over TLS: a point without an address for it would be asked in vain.
#[test]
fn private_content_is_asked_where_keys_are_shown() {
    let mut site = Site::new()
        .group("LYON", &["10.1.0.0/16"], &["no-peers"])
        .point("site", "site01", &["LYON"])
        .point("plain", "lyon01", &["LYON"])
        .point("both", "lyon02", &["LYON"]);
    site.cloud.clear();
    site.points[0].asked = true;
    site.points[2].secure = Some("https://lyon02:8531".to_owned());
    let answer = |site: &Site| {
        let request = Request {
            client: "10.1.0.9".parse().expect("an address"),
            content: CONTENT,
            elapsed: Duration::ZERO,
            order: Order::Client,
            now: NOW,
        };
        let places = site.places();
        let found = places.find(&request, &[], Detail::All).expect("the content is known");
        let told = answer(&found, Timestamp::UNIX_EPOCH);
        let mut urls: Vec<_> = told.locations.into_iter().map(|one| one.url).collect();
        urls.sort();
        let out: Vec<_> = told.out.into_iter().map(|one| format!("{} {}", one.name, one.why)).collect();
        (urls, out)
    };
    let path = format!("content/{CONTENT}");
    let plain = ["lyon01", "lyon02", "site01"].map(|host| format!("http://{host}:8530/{path}"));
    assert_eq!(answer(&site), (plain.to_vec(), Vec::new()), "what is public is fetched as ever");
    site.points[0].as_asked = true;
    let there = [path.clone(), plain[0].clone(), plain[1].clone()];
    assert_eq!(
        answer(&site),
        (there.to_vec(), Vec::new()),
        "and where only it knows its address, as it was asked"
    );
    site.points[0].as_asked = false;
    site.private = true;
    let private =
        (vec![path.clone(), format!("https://lyon02:8531/{path}")], vec!["plain no-tls".to_owned()]);
    assert_eq!(answer(&site), private);
}
