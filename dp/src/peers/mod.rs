//! Clients that say what they hold: who may be asked by whom, until when.
//!
//! A [`Register`] keeps the announcements in memory only; after a restart they come again within minutes. Time is an
//! argument. Rules:
//! - An announcement is believed about the address that it came from, and about nothing else.
//! - It replaces what the same device said before, and ends by itself.
//! - Everything is capped: contents of a device, devices, and all together.
//! - A report costs the peer its place for that one content: at once for who reports, for everybody after reports from two
//!   different addresses (an IPv6 network of 64 bits is one). It is untrusted, and does nothing else.

mod service;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use catalog::digest::Sha256Digest;
use catalog::problem::Problem;

use crate::locate::Peer;
use crate::server::Asker;
pub use service::{AnnounceRequest, Announced, PeerService, ReportRequest};

/// Who a device is, as its key says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId(pub String);

/// Who knows the keys of devices. It is asked from async code: it looks up, it does not wait.
pub trait Devices: Send + Sync {
    /// The device that shows this key, from there.
    ///
    /// # Errors
    /// What its asker is told: that it needs another key, another connection, or patience.
    fn device(&self, token: Option<&str>, asker: Asker) -> Result<DeviceId, Problem>;
}

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long an announcement holds; a tenth of it more or less, by device.
    pub ttl: Duration,
    /// Contents of one device.
    pub contents_per_device: usize,
    /// Devices.
    pub devices: usize,
    /// Contents of all devices together.
    pub contents: usize,
    /// Reports that are remembered.
    pub reports: usize,
    /// Reports of one address among them.
    pub reports_per_address: usize,
    /// How long a report holds.
    pub report_ttl: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(15 * 60),
            contents_per_device: 4_096,
            devices: 50_000,
            contents: 500_000,
            reports: 20_000,
            reports_per_address: 64,
            report_ttl: Duration::from_secs(60 * 60),
        }
    }
}

/// Why an announcement is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// More contents than a device may announce.
    Device,
    /// No room for more devices or contents.
    Register,
}

/// What one device announced.
struct Held {
    name: String,
    address: SocketAddr,
    contents: Vec<Sha256Digest>,
    until: Duration,
}

/// Addresses that reported a peer for a content, and until when that holds.
type Reporters = HashMap<IpAddr, Duration>;

#[derive(Default)]
struct Inner {
    devices: HashMap<DeviceId, u32>,
    held: HashMap<u32, Held>,
    /// One port of one address is one peer, whatever its name.
    addresses: HashMap<SocketAddr, u32>,
    /// By address, so that those near a client are found without looking at all.
    holders: HashMap<Sha256Digest, BTreeSet<(IpAddr, u32)>>,
    reports: HashMap<(Sha256Digest, SocketAddr), Reporters>,
    next: u32,
    contents: usize,
}

/// All announcements.
pub struct Register {
    limits: Limits,
    inner: RwLock<Inner>,
}

impl Default for Register {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

/// Holders of a content that are looked at around the client, and in each network of its groups.
const AROUND: usize = 64;
const IN_A_NETWORK: usize = 16;
/// Networks that are looked into, and holders in all.
pub const NETWORKS: usize = 64;
const MOST: usize = 256;

impl Register {
    /// An empty one.
    pub fn new(limits: Limits) -> Self {
        Self { limits, inner: RwLock::default() }
    }

    /// Takes an announcement: `device`, at `address` where it also came from, has exactly `contents`. Answers how long that
    /// holds.
    ///
    /// # Errors
    /// [`Full`]; what the device said before holds on.
    pub fn announce(
        &self,
        device: &DeviceId,
        address: SocketAddr,
        contents: &[Sha256Digest],
        now: Duration,
    ) -> Result<Duration, Full> {
        let contents: HashSet<_> = contents.iter().copied().collect();
        if contents.len() > self.limits.contents_per_device {
            return Err(Full::Device);
        }
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let known = inner.devices.get(device).copied();
        let before = known.and_then(|id| inner.held.get(&id)).map_or(0, |held| held.contents.len());
        let fits = |inner: &Inner| {
            inner.contents - before + contents.len() <= self.limits.contents
                && (known.is_some() || inner.devices.len() < self.limits.devices)
        };
        if !fits(&inner) {
            // What has ended makes room, at the cost of one walk; the device that is known may be among it.
            inner.sweep(now);
            let before = known.and_then(|id| inner.held.get(&id)).map_or(0, |held| held.contents.len());
            let room = inner.contents - before + contents.len() <= self.limits.contents;
            if !room || (inner.devices.len() >= self.limits.devices && !inner.devices.contains_key(device)) {
                return Err(Full::Register);
            }
        }
        if let Some(id) = inner.devices.get(device).copied() {
            inner.forget(id);
        }
        if let Some(other) = inner.addresses.get(&address).copied() {
            inner.forget(other);
        }
        let holds = self.ttl_of(device);
        if !contents.is_empty() {
            let id = inner.free_id();
            inner.contents += contents.len();
            for content in &contents {
                inner.holders.entry(*content).or_default().insert((address.ip(), id));
            }
            inner.devices.insert(device.clone(), id);
            inner.addresses.insert(address, id);
            let held = Held {
                name: device.0.clone(),
                address,
                contents: contents.into_iter().collect(),
                until: now + holds,
            };
            inner.held.insert(id, held);
        }
        Ok(holds)
    }

    /// Devices must not all come again at once.
    fn ttl_of(&self, device: &DeviceId) -> Duration {
        let hash = device.0.bytes().fold(5_381_u32, |hash, byte| hash.wrapping_mul(33) ^ u32::from(byte));
        // From nine to eleven tenths.
        self.limits.ttl * (900 + hash % 201) / 1_000
    }

    /// Peers that say they have `content` and may be near `client`: around its address, and in `networks`, which are given by
    /// their first and last address. Never one whose announcement has ended.
    pub fn near(
        &self,
        content: Sha256Digest,
        client: IpAddr,
        networks: &[(IpAddr, IpAddr)],
        now: Duration,
    ) -> Vec<Peer> {
        let client = client.to_canonical();
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let Some(holders) = inner.holders.get(&content) else { return Vec::new() };
        let live = |(_, id): &&(IpAddr, u32)| inner.held.get(id).is_some_and(|held| held.until > now);
        let mut found: BTreeSet<u32> = BTreeSet::new();
        found.extend(holders.range((client, 0)..).filter(live).take(AROUND).map(|(_, id)| id));
        found.extend(holders.range(..(client, 0)).rev().filter(live).take(AROUND).map(|(_, id)| id));
        for (first, last) in networks.iter().take(NETWORKS) {
            if found.len() >= MOST {
                break;
            }
            let inside = holders.range((*first, 0)..=(*last, u32::MAX));
            found.extend(inside.filter(live).take(IN_A_NETWORK).map(|(_, id)| id));
        }
        let reporter = reporter(client);
        let peer = |id: &u32| {
            let held = inner.held.get(id)?;
            let reports = inner.reports.get(&(content, held.address));
            let distrusted = reports.is_some_and(|reports| {
                let standing = |(_, until): &(&IpAddr, &Duration)| **until > now;
                let own = reports.get(&reporter).is_some_and(|until| *until > now);
                own || reports.iter().filter(standing).count() >= 2
            });
            Some(Peer { name: held.name.clone(), address: held.address, distrusted })
        };
        found.iter().take(MOST).filter_map(peer).collect()
    }

    /// Takes a report of `by` that `peer` does not give what it promised of `content`. Answers whether it is kept: nobody
    /// can be reported who did not promise it.
    pub fn report(&self, by: IpAddr, content: Sha256Digest, peer: SocketAddr, now: Duration) -> bool {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let by = reporter(by.to_canonical());
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let promised = inner
            .addresses
            .get(&peer)
            .and_then(|id| inner.held.get(id))
            .is_some_and(|held| held.until > now && held.contents.contains(&content));
        if !promised {
            return false;
        }
        inner.reports.retain(|_, reporters| {
            reporters.retain(|_, until| *until > now);
            !reporters.is_empty()
        });
        let by_this = inner.reports.values().filter(|reporters| reporters.contains_key(&by)).count();
        if by_this >= self.limits.reports_per_address || inner.reports.len() >= self.limits.reports {
            return false;
        }
        let reporters = inner.reports.entry((content, peer)).or_default();
        // Two are enough, more are not remembered.
        if reporters.len() < 8 {
            reporters.insert(by, now + self.limits.report_ttl);
        }
        true
    }

    /// Devices and contents that are announced now.
    pub fn counts(&self) -> (usize, usize) {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        (inner.held.len(), inner.contents)
    }
}

impl Inner {
    fn free_id(&mut self) -> u32 {
        loop {
            self.next = self.next.wrapping_add(1);
            if !self.held.contains_key(&self.next) {
                return self.next;
            }
        }
    }

    fn forget(&mut self, id: u32) {
        let Some(held) = self.held.remove(&id) else { return };
        self.contents -= held.contents.len();
        for content in held.contents {
            if let Some(holders) = self.holders.get_mut(&content) {
                holders.remove(&(held.address.ip(), id));
                if holders.is_empty() {
                    self.holders.remove(&content);
                }
            }
        }
        self.addresses.remove(&held.address);
        self.devices.remove(&DeviceId(held.name));
    }

    fn sweep(&mut self, now: Duration) {
        let ended: Vec<u32> =
            self.held.iter().filter(|(_, held)| held.until <= now).map(|(id, _)| *id).collect();
        ended.into_iter().for_each(|id| self.forget(id));
    }
}

/// Who counts as one: an address of IPv4, a network of IPv6.
fn reporter(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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

    fn names(register: &Register, of: u8, client: &str, now: Duration) -> Vec<String> {
        let found = register.near(content(of), ip(client), &[], now);
        found.iter().map(|peer| format!("{}{}", peer.name, if peer.distrusted { "!" } else { "" })).collect()
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
        assert_eq!(
            register.near(content(2), ip("10.0.0.9"), &[], MINUTE * 3)[0].address,
            at("10.0.0.2:8533")
        );
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
    fn a_report_counts_for_its_reporter_at_once_and_for_all_after_two() {
        let register = Register::default();
        register.announce(&device("a"), at("10.0.0.1:1"), &[content(1), content(2)], MINUTE).unwrap();
        assert!(!register.report(ip("10.0.0.8"), content(3), at("10.0.0.1:1"), MINUTE), "not promised");
        assert!(!register.report(ip("10.0.0.8"), content(1), at("10.0.0.1:2"), MINUTE), "nobody there");
        for _ in 0..3 {
            assert!(register.report(ip("10.0.0.8"), content(1), at("10.0.0.1:1"), MINUTE));
        }
        assert_eq!(names(&register, 1, "10.0.0.8", MINUTE), ["a!"]);
        assert_eq!(names(&register, 1, "10.0.0.9", MINUTE), ["a"], "one address, however often");
        assert_eq!(names(&register, 2, "10.0.0.8", MINUTE), ["a"], "another content");
        register.report(ip("10.0.0.7"), content(1), at("10.0.0.1:1"), MINUTE);
        assert_eq!(names(&register, 1, "10.0.0.9", MINUTE), ["a!"]);
        // A new announcement does not wash it off; time does.
        register.announce(&device("a"), at("10.0.0.1:1"), &[content(1)], MINUTE * 55).unwrap();
        assert_eq!(names(&register, 1, "10.0.0.9", MINUTE * 60), ["a!"]);
        assert_eq!(names(&register, 1, "10.0.0.9", MINUTE * 62), ["a"]);
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_reporter_and_reports_are_few() {
        let register = Register::new(Limits { reports_per_address: 2, ..Limits::default() });
        let all: Vec<_> = (0..4).map(content).collect();
        register.announce(&device("a"), at("10.0.0.1:1"), &all, MINUTE).unwrap();
        register.report(ip("2001:db8::1"), content(0), at("10.0.0.1:1"), MINUTE);
        register.report(ip("2001:db8::2"), content(0), at("10.0.0.1:1"), MINUTE);
        assert_eq!(names(&register, 0, "10.0.0.9", MINUTE), ["a"]);
        assert!(register.report(ip("2001:db8::3"), content(1), at("10.0.0.1:1"), MINUTE));
        assert!(!register.report(ip("2001:db8::3"), content(2), at("10.0.0.1:1"), MINUTE));
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
    }
}
