//! Who wants what, from where, and when: all of it from one seed.

use std::net::IpAddr;

use support::{Network, TestRng};

/// What a client is for in the story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// In Lyon, whose peer is honest.
    Lyon,
    /// In Lyon too, and wants what no distribution point has.
    Unpackaged,
    /// In Rome, where the peer lies: meets it, one after the other.
    Scout,
    /// In Rome, while its point lives.
    Early,
    /// In Rome, in the middle of a long file when its point dies.
    Cut,
    /// In Rome, afterwards.
    Late,
    /// In Oslo, which has no point of its own: over the long line, from the site.
    Oslo,
    /// In Kiev, which may only ask the cloud.
    Kiev,
}

/// How many of each.
pub const CAST: [(Part, usize); 8] = [
    (Part::Lyon, 40),
    (Part::Unpackaged, 20),
    (Part::Scout, 2),
    (Part::Early, 8),
    (Part::Cut, 10),
    (Part::Late, 40),
    (Part::Oslo, 40),
    (Part::Kiev, 40),
];

/// A boundary group: its name, and the network of its clients, behind the first byte that all have.
pub const GROUPS: [(&str, [u8; 2]); 4] =
    [("LYON", [61, 1]), ("ROME", [62, 1]), ("OSLO", [63, 1]), ("KIEV", [64, 1])];

impl Part {
    /// The number of its group.
    pub fn group(self) -> usize {
        match self {
            Self::Lyon | Self::Unpackaged => 0,
            Self::Scout | Self::Early | Self::Cut | Self::Late => 1,
            Self::Oslo => 2,
            Self::Kiev => 3,
        }
    }
}

/// One of the two hundred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its number: the order in which clients of one part come.
    pub number: usize,
    /// Where it is.
    pub address: IpAddr,
    /// Its part.
    pub part: Part,
}

/// Everybody, in the order of their coming. Addresses below 20 are those of points and peers.
pub fn clients(network: Network, seed: u64) -> Vec<Client> {
    let mut rng = TestRng::new(seed);
    let mut free: Vec<Vec<u8>> = GROUPS.iter().map(|_| (20..255).collect()).collect();
    let mut parts: Vec<Part> = CAST.iter().flat_map(|(part, count)| vec![*part; *count]).collect();
    // Fisher and Yates.
    for last in (1..parts.len()).rev() {
        parts.swap(last, rng.within(0..last as u64 + 1) as usize);
    }
    let placed = parts.into_iter().enumerate().map(|(number, part)| {
        let hosts = &mut free[part.group()];
        let host = hosts.swap_remove(rng.within(0..hosts.len() as u64) as usize);
        let [b, c] = GROUPS[part.group()].1;
        Client { number, address: network.address([b, c, host]).into(), part }
    });
    placed.collect()
}

#[test]
fn a_seed_is_one_morning_and_another_seed_another() {
    let clients = |seed| clients(Network::Loopback, seed);
    let all = clients(7);
    assert_eq!(all.len(), 200);
    let addresses: std::collections::BTreeSet<_> = all.iter().map(|client| client.address).collect();
    assert_eq!(addresses.len(), 200, "everybody has a place of their own");
    assert_eq!(clients(7), all);
    assert_ne!(clients(8), all);
}
