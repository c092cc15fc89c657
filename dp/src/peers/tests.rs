//! The register of announcements, as tables and properties.

use proptest::prelude::*;

use super::*;
use crate::locate::Shunned;

const MINUTE: Duration = Duration::from_secs(60);

fn content(seed: u8) -> Sha256Digest {
    Sha256Digest([seed; 32])
}

fn device(name: &str) -> DeviceId {
    DeviceId(name.to_owned())
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address of the test")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address of the test")
}

/// Who is found: `a!` is distrusted, `a?` was away.
fn names(register: &Register, of: u8, client: &str, now: Duration) -> Vec<String> {
    let sign = |peer: &Peer| match peer.shunned {
        None => "",
        Some(Shunned::Distrusted) => "!",
        Some(Shunned::Away) => "?",
    };
    let found = register.near(content(of), ip(client), &[], now);
    found.iter().map(|peer| format!("{}{}", peer.name, sign(peer))).collect()
}

/// A device at an address, or somebody without a key there.
fn by(device: &str, address: &str) -> Reporter {
    let device = (!device.is_empty()).then(|| DeviceId(device.to_owned()));
    Reporter { device, address: ip(address) }
}

/// A register with a device `a` that has these contents.
fn with(contents: &[u8]) -> Register {
    let register = Register::default();
    announce(&register, "a", "10.0.0.1:1", contents, MINUTE);
    register
}

fn announce(register: &Register, name: &str, address: &str, contents: &[u8], now: Duration) {
    let contents: Vec<_> = contents.iter().map(|seed| content(*seed)).collect();
    register.announce(&device(name), at(address), &contents, now).expect("there is room");
}

/// What two devices report of `a`.
fn two_report(register: &Register, of: u8, fault: &str, now: Duration) -> [Noted; 2] {
    [("b", "10.0.0.7"), ("c", "10.0.0.8")]
        .map(|(name, address)| register.report(&by(name, address), content(of), at("10.0.0.1:1"), fault, now))
}

#[test]
fn an_announcement_replaces_the_one_before_and_ends_by_itself() {
    let register = Register::default();
    let a = device("a");
    let holds = register.announce(&a, at("10.0.0.1:8533"), &[content(1), content(2)], MINUTE).unwrap();
    assert!((MINUTE * 13..MINUTE * 17).contains(&holds), "{holds:?}");
    assert_eq!(names(&register, 1, "10.0.0.9", MINUTE), ["a"]);
    register.announce(&a, at("10.0.0.2:8533"), &[content(2)], MINUTE * 2).unwrap();
    assert_eq!((names(&register, 1, "10.0.0.9", MINUTE * 2).len(), register.counts()), (0, (1, 1)));
    assert_eq!(register.near(content(2), ip("10.0.0.9"), &[], MINUTE * 3)[0].address, at("10.0.0.2:8533"));
    assert_eq!(names(&register, 2, "10.0.0.9", MINUTE * 2 + holds), [""; 0]);
    // Whoever comes to an address takes the place of who was there.
    register.announce(&device("b"), at("10.0.0.2:8533"), &[content(2)], MINUTE * 3).unwrap();
    assert_eq!(names(&register, 2, "10.0.0.9", MINUTE * 3), ["b"]);
    register.announce(&device("b"), at("10.0.0.2:8533"), &[], MINUTE * 4).unwrap();
    assert_eq!(register.counts(), (0, 0));
}

#[test]
fn everything_has_a_cap_and_what_has_ended_makes_room() {
    let limits = Limits { contents_per_device: 3, devices: 2, contents: 4, ..Limits::default() };
    let register = Register::new(limits);
    let all: Vec<_> = (0..4).map(content).collect();
    assert_eq!(register.announce(&device("a"), at("10.0.0.1:1"), &all, MINUTE), Err(Full::Device));
    register.announce(&device("a"), at("10.0.0.1:1"), &all[..3], MINUTE).unwrap();
    assert_eq!(register.announce(&device("b"), at("10.0.0.2:1"), &all[..2], MINUTE), Err(Full::Register));
    register.announce(&device("b"), at("10.0.0.2:1"), &all[..1], MINUTE).unwrap();
    assert_eq!(register.announce(&device("c"), at("10.0.0.3:1"), &all[..1], MINUTE), Err(Full::Register));
    register.announce(&device("b"), at("10.0.0.2:1"), &all[1..2], MINUTE).unwrap();
    register.announce(&device("c"), at("10.0.0.3:1"), &all[..3], MINUTE * 30).unwrap();
    assert_eq!(register.counts(), (1, 3));
}

#[test]
fn what_a_fault_says_of_a_peer() {
    for (fault, expected) in [
        ("HASH_MISMATCH", Some(Weight::Lie)),
        ("SIZE_MISMATCH", Some(Weight::Lie)),
        ("TRANSFER_TOO_LONG", Some(Weight::Lie)),
        ("SOURCE_UNREACHABLE", Some(Weight::Away)),
        ("SOURCE_NOT_FOUND", Some(Weight::Lacks)),
        ("TRANSFER_CUT_SHORT", Some(Weight::Lacks)),
        ("of a newer client", Some(Weight::Lacks)),
        // It is full, or slow because so many take from it.
        ("SOURCE_FAILED", None),
        ("TRANSFER_STALLED", None),
    ] {
        assert_eq!(Weight::of(fault), expected, "{fault}");
    }
}

#[test]
fn a_lie_counts_for_its_address_and_for_all_after_two_devices() {
    let others = ["10.0.0.9", "10.0.0.8", "2001:db8::9"];
    for (what, reports, own, all) in [
        ("nobody", &[][..], "a", "a"),
        ("no key", &[("", "10.0.0.8")], "a!", "a"),
        (
            "no key, however many addresses",
            &[("", "10.0.0.8"), ("", "10.0.0.7"), ("", "10.0.0.6")],
            "a!",
            "a",
        ),
        ("one device, however often", &[("b", "10.0.0.8"), ("b", "10.0.0.8"), ("b", "10.0.0.7")], "a!", "a"),
        ("a device and somebody", &[("b", "10.0.0.8"), ("", "10.0.0.7")], "a!", "a"),
        ("two devices", &[("b", "10.0.0.8"), ("c", "10.0.0.7")], "a!", "a!"),
        ("two devices behind one address", &[("b", "10.0.0.8"), ("c", "10.0.0.8")], "a!", "a!"),
        ("it says so itself", &[("b", "10.0.0.8"), ("a", "10.0.0.1")], "a!", "a"),
    ] {
        let register = with(&[1]);
        let mut warned = 0;
        for (name, address) in reports {
            let noted =
                register.report(&by(name, address), content(1), at("10.0.0.1:1"), "HASH_MISMATCH", MINUTE);
            warned += usize::from(noted == Noted::Distrusts(device("a")));
        }
        let seen = others.map(|client| names(&register, 1, client, MINUTE).concat());
        assert_eq!(seen, [all, own, all], "{what}");
        assert_eq!(warned, usize::from(all == "a!"), "{what}: it is told of once");
    }
}

#[test]
fn a_liar_is_known_by_its_name_for_an_hour() {
    let lie = |register: &Register| two_report(register, 1, "HASH_MISMATCH", MINUTE);
    let register = with(&[1, 2]);
    lie(&register);
    let sharing = register.sharing(MINUTE);
    let liar = Distrusted { device: "a".to_owned(), fault: "HASH_MISMATCH".to_owned() };
    assert_eq!(
        sharing,
        Sharing {
            devices: 1,
            contents: 2,
            announced: 2,
            most_announced: Limits::default().contents,
            refused: 0,
            distrusted: vec![liar]
        }
    );
    assert_eq!(names(&register, 2, "10.0.0.9", MINUTE), ["a!"], "for whatever else it has");
    // Neither another announcement washes it off, nor another content, port or address.
    announce(&register, "a", "10.0.0.2:7", &[3], MINUTE * 55);
    assert_eq!(names(&register, 3, "10.0.0.9", MINUTE * 60), ["a!"]);
    assert_eq!(names(&register, 3, "10.0.0.9", MINUTE * 62), ["a"]);
    assert_eq!(register.sharing(MINUTE * 62).distrusted, []);
    // Who has its address now is somebody else.
    announce(&register, "d", "10.0.0.1:1", &[1], MINUTE * 56);
    assert_eq!(names(&register, 1, "10.0.0.9", MINUTE * 56), ["d"]);

    // It is found where it was a moment ago, but only where what is there now did not promise this.
    let register = with(&[1, 2]);
    announce(&register, "a", "10.0.0.1:2", &[2], MINUTE);
    lie(&register);
    assert_eq!(names(&register, 2, "10.0.0.9", MINUTE), ["a!"]);
    let register = with(&[1, 2]);
    announce(&register, "a", "10.0.0.1:2", &[2], MINUTE);
    announce(&register, "d", "10.0.0.1:1", &[1, 2], MINUTE);
    lie(&register);
    assert_eq!(names(&register, 2, "10.0.0.9", MINUTE), ["a", "d!"], "the one that promised it");
    // Where it says that it has other content: only of what it said to have.
    let register = with(&[1]);
    announce(&register, "a", "10.0.0.1:1", &[2], MINUTE);
    assert_eq!(two_report(&register, 3, "HASH_MISMATCH", MINUTE), [Noted::Ignored, Noted::Ignored]);
    announce(&register, "a", "10.0.0.1:1", &[3], MINUTE);
    lie(&register);
    assert_eq!(names(&register, 3, "10.0.0.9", MINUTE), ["a!"]);
    let register = with(&[1]);
    announce(&register, "a", "10.0.0.1:1", &[], MINUTE);
    lie(&register);
    announce(&register, "a", "10.0.0.1:1", &[1], MINUTE * 2);
    assert_eq!(names(&register, 1, "10.0.0.9", MINUTE * 2), ["a!"]);
    // Nor by dropping many others with it or after it, nor by going there and back.
    for washing in 0..3 {
        let register = Register::default();
        let (many, at) = ((2..=100).collect::<Vec<_>>(), "10.0.0.1:1");
        let (with_it, after_it) = ([&[1][..], &many].concat(), if washing == 1 { &many[..] } else { &[] });
        announce(&register, "a", at, if washing == 0 { &with_it } else { &[1] }, MINUTE);
        if washing == 2 {
            announce(&register, "a", "10.0.0.1:2", &[1], MINUTE);
            announce(&register, "a", at, &[2], MINUTE);
        }
        announce(&register, "a", at, after_it, MINUTE);
        announce(&register, "a", at, &[3], MINUTE);
        lie(&register);
        assert_eq!(names(&register, 3, "10.0.0.9", MINUTE), ["a!"], "{washing}");
    }

    let register = with(&[1]);
    announce(&register, "a", "10.0.0.1:2", &[1], MINUTE);
    let later = MINUTE * 17;
    announce(&register, "a", "10.0.0.1:2", &[1], later);
    assert_eq!(
        two_report(&register, 1, "HASH_MISMATCH", later),
        [Noted::Ignored, Noted::Ignored],
        "long ago"
    );
}

#[test]
fn a_full_peer_is_no_liar() {
    let register = with(&[1]);
    for number in 0..40 {
        for fault in ["SOURCE_FAILED", "TRANSFER_STALLED"] {
            let by = by(&format!("d{number}"), &format!("10.0.1.{number}"));
            let noted = register.report(&by, content(1), at("10.0.0.1:1"), fault, MINUTE);
            assert_eq!(noted, Noted::Ignored);
        }
    }
    for client in ["10.0.0.9", "10.0.1.7"] {
        assert_eq!(names(&register, 1, client, MINUTE), ["a"]);
    }
}

#[test]
fn who_was_away_is_back_when_it_says_so() {
    for (fault, other_content) in [("SOURCE_UNREACHABLE", "a?"), ("SOURCE_NOT_FOUND", "a")] {
        let register = with(&[1, 2]);
        let first = two_report(&register, 1, fault, MINUTE);
        assert_eq!(first, [Noted::Kept, Noted::Kept], "{fault}: it is distrusted by nobody");
        assert_eq!(names(&register, 1, "10.0.0.9", MINUTE * 2), ["a?"], "{fault}");
        assert_eq!(names(&register, 2, "10.0.0.9", MINUTE * 2).concat(), other_content, "{fault}");
        assert_eq!(register.sharing(MINUTE * 2).distrusted, []);
        announce(&register, "a", "10.0.0.1:1", &[1, 2], MINUTE * 3);
        for client in ["10.0.0.9", "10.0.0.7"] {
            assert_eq!(names(&register, 1, client, MINUTE * 3), ["a"], "{fault}");
        }
    }
    // What one found away another found lying.
    let register = with(&[1]);
    register.report(&by("b", "10.0.0.7"), content(1), at("10.0.0.1:1"), "HASH_MISMATCH", MINUTE);
    register.report(&by("c", "10.0.0.8"), content(1), at("10.0.0.1:1"), "SOURCE_UNREACHABLE", MINUTE);
    let seen =
        ["10.0.0.7", "10.0.0.8", "10.0.0.9"].map(|client| names(&register, 1, client, MINUTE).concat());
    assert_eq!(seen, ["a!", "a?", "a?"]);
}

#[test]
fn only_what_was_promised_can_be_missed() {
    let register = with(&[1]);
    let b = by("b", "10.0.0.8");
    for (what, of, peer, fault, now) in [
        ("another content", 3, "10.0.0.1:1", "HASH_MISMATCH", MINUTE),
        ("another port", 1, "10.0.0.1:2", "HASH_MISMATCH", MINUTE),
        ("not there any more", 1, "10.0.0.1:1", "SOURCE_UNREACHABLE", MINUTE * 30),
    ] {
        assert_eq!(register.report(&b, content(of), at(peer), fault, now), Noted::Ignored, "{what}");
    }
}

#[test]
fn strangers_leave_room_for_devices() {
    let limits = Limits { reports: 8, reports_of_one: 3, ..Limits::default() };
    let register = Register::new(limits);
    let contents: Vec<u8> = (0..9).collect();
    announce(&register, "a", "10.0.0.1:1", &contents, MINUTE);
    let report = |who: &Reporter, of: u8, now| {
        register.report(who, content(of), at("10.0.0.1:1"), "SOURCE_NOT_FOUND", now) != Noted::Ignored
    };
    // Addresses of one IPv6 network are one, and each speaks for itself.
    let taken = (0..4).map(|of| report(&by("", &format!("2001:db8::{of}")), of, MINUTE));
    assert_eq!(taken.collect::<Vec<_>>(), [true, true, true, false]);
    let seen = ["2001:db8::1", "2001:db8::7"].map(|client| names(&register, 1, client, MINUTE).concat());
    assert_eq!(seen, ["a?", "a"]);
    // Half of the room is for devices.
    let taken = (1..4).map(|number| report(&by("", &format!("10.0.2.{number}")), 1, MINUTE));
    assert_eq!(taken.collect::<Vec<_>>(), [true, false, false]);
    assert!(report(&by("", "10.0.2.1"), 1, MINUTE), "the same again takes none");
    let taken = (0..4).map(|of| report(&by("b", "10.0.0.7"), of, MINUTE));
    assert_eq!(taken.collect::<Vec<_>>(), [true, true, true, false]);
    assert!(report(&by("c", "10.0.0.7"), 1, MINUTE));
    assert!(!report(&by("d", "10.0.0.7"), 1, MINUTE), "all of it is taken");
    announce(&register, "a", "10.0.0.1:1", &contents, MINUTE * 2);
    assert!(report(&by("d", "10.0.0.7"), 1, MINUTE * 2), "what has ended takes none");
}

#[test]
fn who_is_none_of_ours_any_more_shares_nothing_and_says_nothing() {
    let register = with(&[1, 2]);
    announce(&register, "d", "10.0.0.4:1", &[1], MINUTE);
    two_report(&register, 1, "HASH_MISMATCH", MINUTE);
    register.forget("C");
    assert_eq!(names(&register, 1, "10.0.0.9", MINUTE), ["a", "d"], "one of two reporters is gone");
    register.forget("a");
    assert_eq!(names(&register, 1, "10.0.0.7", MINUTE), ["d"]);
    assert_eq!(register.counts(), (1, 1));
    announce(&register, "a", "10.0.0.1:1", &[1], MINUTE);
    assert_eq!(names(&register, 1, "10.0.0.7", MINUTE), ["d", "a"], "another machine of that name");
}

#[test]
fn those_around_the_client_and_in_its_networks_are_found_among_many() {
    let register = Register::default();
    for number in 0..2_000_u16 {
        let [high, low] = number.to_be_bytes();
        let address = SocketAddr::new(IpAddr::from([10, 0, high, low]), 1);
        register.announce(&device(&format!("d{number}")), address, &[content(1)], MINUTE).unwrap();
    }
    register.announce(&device("far"), at("10.99.0.1:1"), &[content(1)], MINUTE).unwrap();
    let networks = [(ip("10.99.0.0"), ip("10.99.0.255"))];
    let found = register.near(content(1), ip("10.0.3.7"), &networks, MINUTE);
    let names: HashSet<_> = found.iter().map(|peer| peer.name.as_str()).collect();
    assert!(names.contains("far") && names.contains("d775") && names.contains("d776"), "{names:?}");
    assert!(found.len() <= MOST);
}

proptest! {
    /// Whatever is announced, reported and waited for: nobody is offered whose time is over, and the counts agree.
    #[test]
    fn nobody_is_offered_after_the_end(
        acts in proptest::collection::vec((0u8..6, 0u8..6, 0u8..4, 0u32..30), 1..60),
    ) {
        let register = Register::new(Limits { devices: 4, contents: 8, ..Limits::default() });
        let mut now = Duration::ZERO;
        let mut ends: HashMap<String, (HashSet<Sha256Digest>, Duration)> = HashMap::new();
        for (who, address, what, minutes) in acts {
            now += MINUTE * minutes;
            let name = format!("d{who}");
            let contents: Vec<_> = (0..what).map(content).collect();
            let place = SocketAddr::new(IpAddr::from([10, 0, 0, address]), 1);
            if let Ok(holds) = register.announce(&device(&name), place, &contents, now) {
                ends.insert(name, (contents.into_iter().collect(), now + holds));
            }
            for seed in 0..4 {
                for peer in register.near(content(seed), ip("10.0.0.3"), &[], now) {
                    let (contents, until) = &ends[&peer.name];
                    prop_assert!(*until > now && contents.contains(&content(seed)));
                }
            }
            let (devices, all) = register.counts();
            prop_assert!(devices <= 4 && all <= 8);
        }
    }

    /// Whatever is said by whomever: nobody is distrusted for all but by two devices that found it lying within the hour,
    /// nobody is away who has announced itself since, the full are offered on, and the sums agree.
    #[test]
    fn reports_do_what_they_say_and_no_more(
        acts in proptest::collection::vec((0usize..6, 0u8..5, 0u8..3, 0u32..25), 1..80),
    ) {
        const FAULTS: [&str; 5] =
            ["HASH_MISMATCH", "SOURCE_UNREACHABLE", "SOURCE_NOT_FOUND", "SOURCE_FAILED", "announces"];
        let register = Register::new(Limits { reports: 12, reports_of_one: 4, ..Limits::default() });
        let mut now = MINUTE;
        announce(&register, "a", "10.0.0.1:1", &[0, 1, 2], now);
        let mut lies: HashMap<String, Duration> = HashMap::new();
        let mut missed: HashSet<String> = HashSet::new();
        for (who, what, of, minutes) in acts {
            now += MINUTE * minutes;
            // Every second one has no key.
            let name = if who % 2 == 0 { format!("d{who}") } else { String::new() };
            let fault = FAULTS[usize::from(what)];
            if fault == "announces" {
                announce(&register, "a", "10.0.0.1:1", &[0, 1, 2], now);
                missed.clear();
            } else {
                let by = by(&name, &format!("10.0.1.{who}"));
                let noted = register.report(&by, content(of), at("10.0.0.1:1"), fault, now);
                prop_assert!(what != 3 || noted == Noted::Ignored);
                if noted != Noted::Ignored && !name.is_empty() {
                    if what == 0 { lies.insert(name.clone(), now + MINUTE * 60); }
                    missed.insert(name);
                }
            }
            lies.retain(|_, until| *until > now);
            let all_say = lies.len() >= 2;
            prop_assert_eq!(register.sharing(now).distrusted.len(), usize::from(all_say));
            for seed in 0..3 {
                let told = names(&register, seed, "10.0.2.9", now).concat();
                prop_assert!((told == "a!") == (all_say && !told.is_empty()), "{}", told);
                let agree = missed.union(&lies.keys().cloned().collect()).count();
                prop_assert!(told != "a?" || agree >= 2, "{}", told);
            }
            let inner = register.inner.read().unwrap();
            let (all, without_key) = inner.reports.counts();
            prop_assert!(all <= 12 && without_key <= 6);
        }
    }
}
