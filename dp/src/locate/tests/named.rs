//! Who is named, and in which words.

use proptest::prelude::*;

use super::*;

#[test]
fn a_point_without_a_key_is_none_of_ours() {
    let site = Site::new()
        .group("G", &["10.0.0.0/24"], &[])
        .group("N", &[], &[])
        .relate("G", "N", 60)
        .point("lost", "10.0.0.2", &["G"])
        .without_key()
        .point("gone", "gone", &["N"])
        .in_maintenance()
        .without_key()
        .point("kept", "kept", &["N"]);
    let told = site.client("10.0.0.1", 0);
    assert_eq!(told[..2], ["cloud: upstream", "kept: neighbour +60"]);
    assert_eq!(sorted(&told[2..]), ["gone: no, no-key", "lost: no, no-key"]);
}

#[test]
fn points_that_are_silent_come_last_in_their_rank_and_are_never_left_out() {
    let hosts = |site: Site, silent: &[&str]| {
        ["a", "b", "c", "d"].into_iter().fold(site, |site, name| {
            let site = site.point(name, name, &["G"]);
            if silent.contains(&name) { site.silent_for(26) } else { site.silent_for(1) }
        })
    };
    let site = || {
        let site = Site::new().group("G", &["10.0.0.0/24"], &[]).group("N", &[], &[]).relate("G", "N", 60);
        site.point("near", "10.0.0.2", &["G"]).silent_for(5_000).point("next", "next", &["N"]).silent_for(300)
    };
    for client in ["10.0.0.1", "10.0.0.7", "10.0.0.9"] {
        let told = hosts(site(), &["a", "c"]).client(client, 0);
        // Nearer is nearer, silent or not.
        assert_eq!(told[0], "near: same-subnet");
        assert_eq!(sorted(&told[1..3]), ["b: same-group", "d: same-group"], "{told:?}");
        assert_eq!(sorted(&told[3..5]), ["a: same-group", "c: same-group"], "{told:?}");
        assert_eq!(told[5..7], ["cloud: upstream", "next: neighbour +60"]);
        // Where all are silent the order is that where none is.
        let all = hosts(site(), &["a", "b", "c", "d"]).client(client, 0);
        assert_eq!(all, hosts(site(), &[]).client(client, 0));
    }
    let places = site().places();
    let client = "10.0.0.1".parse().expect("an address");
    let request = Request { client, content: CONTENT, elapsed: MINUTE * 90, order: Order::Client, now: NOW };
    let found = places.find(&request, &[], Detail::InReach).expect("known");
    let reasons: Vec<_> = found.candidates.iter().map(|one| one.reason()).collect();
    assert_eq!(
        reasons,
        [
            "same subnet 10.0.0.0/24, silent for 3 days",
            "N is a neighbour of G, silent for 5 h",
            "the upstream's own link",
        ]
    );
}

#[test]
fn a_point_that_is_named_by_host_is_where_it_was_seen() {
    let site = |options: &[&str], address: &str| {
        Site::new()
            .group("G", &["10.20.4.0/24", "10.20.5.0/24"], options)
            .point("lyon", "lyon.example", &["G"])
            .seen_at(address)
    };
    for (address, client, expected) in [
        ("10.20.4.2", "10.20.4.17", "lyon: same-subnet"),
        ("::ffff:10.20.4.2", "10.20.4.17", "lyon: same-subnet"),
        ("10.20.4.2", "10.20.4.2", "lyon: this-computer"),
        ("10.20.5.2", "10.20.4.17", "lyon: same-group"),
    ] {
        assert_eq!(site(&[], address).client(client, 0)[0], expected, "{address} {client}");
    }
    let told = site(&["prefer-points"], "10.20.4.2").told("10.20.4.17", 0, Order::Client, &peers()[..1]);
    assert_eq!(told[..2], ["lyon: same-subnet", "near: same-subnet"]);
    // Its own address says more than where it speaks from: it may have several.
    let both =
        Site::new().group("G", &["10.20.0.0/16"], &[]).point("lyon", "10.20.4.2", &["G"]).seen_at("10.9.9.9");
    assert_eq!(both.client("10.20.4.2", 0)[0], "lyon: this-computer");
}

proptest! {
    /// The prepared answer is the other one, byte for byte.
    #[test]
    fn json_is_that_of_serde(
        memberships in proptest::collection::vec((0u8..8, any::<u8>()), 0..90),
        client in 0u8..4,
        minutes in 0u32..200,
        peers in proptest::collection::vec((0u8..3, 1u8..255, 0u8..4), 0..20),
        links in 0usize..3,
        by_default in any::<bool>(),
    ) {
        let mut site = Site::new()
            .group("A \"quoted\" ü\\", &["10.0.0.0/24"], &[])
            .group("B", &["10.0.1.0/24", "10.0.0.0/30"], &["same-subnet"])
            .relate("A \"quoted\" ü\\", "B", 60).relate("B", "D", -1);
        for (number, (groups, what)) in memberships.iter().enumerate() {
            let names: Vec<_> = ["D", "A \"quoted\" ü\\", "B"].into_iter().enumerate()
                .filter(|(bit, _)| groups & (1 << bit) != 0).map(|(_, name)| name).collect();
            site = site.point(&format!("p\t{number}"), &format!("10.0.{}.{number}", what % 2), &names);
            if what & 2 != 0 { site = site.without_content() }
            if what & 12 == 12 { site = site.in_maintenance() }
            if what & 48 == 48 { site = site.without_key() }
            if what & 64 != 0 { site = site.silent_for(u32::from(*what) * 30) }
        }
        site.cloud = (0..links).map(|number| format!("http://cloud/{number}?a=\"b\"")).collect();
        let peers: Vec<_> = peers.iter().map(|(net, host, shunned)| Peer {
            shunned: match shunned { 2 => Some(Shunned::Distrusted), 3 => Some(Shunned::Away), _ => None },
            ..peer(&format!("desk-{host}"), &format!("10.0.{net}.{host}"))
        }).collect();
        let client = if by_default { "2001:db8::7".to_owned() } else { format!("10.0.{}.{}", client % 2, client) };
        let (client, elapsed) = (client.parse().expect("an address"), MINUTE * minutes);
        let request = Request { client, content: CONTENT, elapsed, order: Order::Client, now: NOW };
        let places = site.places();
        for detail in [Detail::InReach, Detail::All] {
            let found = places.find(&request, &peers, detail).expect("known");
            let expected = serde_json::to_string(&answer(&found, NOW)).expect("it is JSON");
            prop_assert_eq!(String::from_utf8(json(&found, NOW)).expect("it is text"), expected);
        }
    }
}
