//! Clients that say what they hold: who may be asked by whom, until when.
//!
//! A [`Register`] keeps the announcements in memory only; after a restart they come again within minutes. Time is an
//! argument. Rules:
//! - An announcement is believed about the address that it came from, and about nothing else.
//! - It replaces what the same device said before, and ends by itself.
//! - Everything is capped: contents of a device, devices, and all together.
//! - A report keeps clients away from a peer, and does nothing else: who is believed, and for how long, says [`reports`]. It
//!   holds for the device, wherever that announces itself next.

mod reports;
mod service;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use catalog::digest::Sha256Digest;
use catalog::problem::Problem;
use serde::{Deserialize, Serialize};

use self::reports::{About, Reports};
pub use self::reports::{Noted, Reporter, Weight};
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
    /// Reports that are remembered; half of them of those who showed no key.
    pub reports: usize,
    /// Reports of one device among them, and of one address without a key.
    pub reports_of_one: usize,
    /// How long a lie is remembered.
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
            reports_of_one: 64,
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
    device: DeviceId,
    address: SocketAddr,
    contents: Vec<Sha256Digest>,
    until: Duration,
}

/// Who shares now, as it is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sharing {
    /// Devices that share.
    pub devices: usize,
    /// Different contents that they share.
    pub contents: usize,
    /// Contents of all of them together, each as often as it is shared.
    pub announced: usize,
    /// The most that are kept of these ([`Limits::contents`]).
    pub most_announced: usize,
    /// Announcements for which there was no room, since the start.
    pub refused: u64,
    /// Devices that nobody is sent to, because others found them lying.
    pub distrusted: Vec<Distrusted>,
}

/// A device that nobody is sent to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distrusted {
    /// Its name.
    pub device: String,
    /// What it did last, by the code that `spsync explain` knows.
    pub fault: String,
}

#[derive(Default)]
struct Inner {
    devices: HashMap<DeviceId, u32>,
    held: HashMap<u32, Held>,
    /// One port of one address is one peer, whatever its name.
    addresses: HashMap<SocketAddr, u32>,
    /// By address, so that those near a client are found without looking at all.
    holders: HashMap<Sha256Digest, BTreeSet<(IpAddr, u32)>>,
    /// What devices said until a moment ago: who moves after a lie, or says that it has something else, is found all the same.
    former: HashMap<SocketAddr, Former>,
    /// When what is too long ago was last dropped of them.
    former_swept: Duration,
    reports: Reports,
    next: u32,
    contents: usize,
    refused: u64,
    /// Nothing that is held ends before this.
    first_end: Duration,
}

/// What a device said, and says no more.
struct Former {
    device: DeviceId,
    until: Duration,
    /// The contents of which it says nothing there any more; `None` where it has gone from there, or these are too many.
    dropped: Option<Vec<Sha256Digest>>,
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
/// How long it is remembered what a device said, of how many, and how many contents of each.
const FORMER: Duration = Duration::from_secs(15 * 60);
const MOST_FORMER: usize = 10_000;
const MOST_DROPPED: usize = 64;

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
            // What has ended makes room, at the cost of one walk, which a register that stays full does not pay each time; the
            // device that is known may be among it.
            if inner.first_end <= now {
                inner.sweep(now);
            }
            let before = known.and_then(|id| inner.held.get(&id)).map_or(0, |held| held.contents.len());
            let room = inner.contents - before + contents.len() <= self.limits.contents;
            if !room || (inner.devices.len() >= self.limits.devices && !inner.devices.contains_key(device)) {
                inner.refused += 1;
                return Err(Full::Register);
            }
        }
        if let Some(id) = inner.devices.get(device).copied() {
            inner.leave(id, address, &contents, now);
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
            inner.first_end = inner.first_end.min(now + holds);
            inner.devices.insert(device.clone(), id);
            inner.addresses.insert(address, id);
            let held = Held {
                device: device.clone(),
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
        let peer = |id: &u32| {
            let held = inner.held.get(id)?;
            let shunned = inner.reports.shunned(&held.device, *id, content, client, now);
            Some(Peer { name: held.device.0.clone(), address: held.address, shunned })
        };
        found.iter().take(MOST).filter_map(peer).collect()
    }

    /// Takes a report of `by` that `peer` did this instead of giving what it promised of `content`: nobody can be reported who
    /// did not promise it, here or where it was a moment ago.
    pub fn report(
        &self,
        by: &Reporter,
        content: Sha256Digest,
        peer: SocketAddr,
        fault: &str,
        now: Duration,
    ) -> Noted {
        let Some(weight) = Weight::of(fault) else { return Noted::Ignored };
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let by = Reporter { device: by.device.clone(), address: by.address.to_canonical() };
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *inner;
        let here = inner.addresses.get(&peer).and_then(|id| Some((*id, inner.held.get(id)?)));
        let here = here.filter(|(_, held)| held.until > now && held.contents.contains(&content));
        let lie = now + self.limits.report_ttl;
        let (device, about, until) = match (weight, here) {
            (Weight::Lie, Some((_, held))) => (held.device.clone(), About::Device, lie),
            (Weight::Lie, None) => match inner.former.get(&peer) {
                Some(former) if former.until > now && former.had(content) => {
                    (former.device.clone(), About::Device, lie)
                }
                _ => return Noted::Ignored,
            },
            (_, None) => return Noted::Ignored,
            (Weight::Away, Some((id, held))) => {
                (held.device.clone(), About::Announcement(id, None), held.until)
            }
            (Weight::Lacks, Some((id, held))) => {
                (held.device.clone(), About::Announcement(id, Some(content)), held.until)
            }
        };
        inner.reports.add(&self.limits, &device, by, (about, fault), (now, until))
    }

    /// The device of this name, in either case, is none of ours any more: it shares nothing, and its word counts for nothing.
    pub fn forget(&self, device: &str) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let is = |one: &DeviceId| one.0.eq_ignore_ascii_case(device);
        let known: Vec<u32> = inner.devices.iter().filter(|(one, _)| is(one)).map(|(_, id)| *id).collect();
        known.into_iter().for_each(|id| inner.forget(id));
        inner.former.retain(|_, former| !is(&former.device));
        inner.reports.forget(is);
    }

    /// Devices, and contents of all of them, that are kept.
    #[cfg(test)]
    fn counts(&self) -> (usize, usize) {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        (inner.held.len(), inner.contents)
    }

    /// Who shares now, and who is not trusted.
    pub fn sharing(&self, now: Duration) -> Sharing {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.sweep(now);
        let distrusted = inner.reports.distrusted(now).into_iter();
        Sharing {
            devices: inner.held.len(),
            contents: inner.holders.len(),
            announced: inner.contents,
            most_announced: self.limits.contents,
            refused: inner.refused,
            distrusted: distrusted
                .map(|(device, fault)| Distrusted { device: device.0, fault: fault.to_owned() })
                .collect(),
        }
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

    /// A device announces anew: what it said before is over.
    fn leave(&mut self, id: u32, next: SocketAddr, contents: &HashSet<Sha256Digest>, now: Duration) {
        let Some(Held { device, address, contents: before, .. }) = self.held.get(&id) else { return };
        let (device, address, until) = (device.clone(), *address, now + FORMER);
        let gone: Vec<_> = before.iter().filter(|content| !contents.contains(content)).copied().collect();
        self.forget(id);
        if address == next && gone.is_empty() {
            return;
        }
        // What it dropped there before counts on, if that is so short a time ago.
        let earlier =
            self.former.remove(&address).filter(|former| former.until > now && former.device == device);
        let dropped = match earlier.map(|former| former.dropped) {
            _ if address != next => None,
            Some(None) => None,
            Some(Some(earlier)) => Some([gone, earlier].concat()),
            None => Some(gone),
        };
        let dropped = dropped.filter(|dropped| dropped.len() <= MOST_DROPPED);
        if self.former.len() >= MOST_FORMER && self.former_swept + FORMER / 15 <= now {
            self.former.retain(|_, former| former.until > now);
            self.former_swept = now;
        }
        if self.former.len() < MOST_FORMER {
            self.former.insert(address, Former { device, until, dropped });
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
        self.reports.end(&held.device, id);
        self.devices.remove(&held.device);
    }

    fn sweep(&mut self, now: Duration) {
        let ended: Vec<u32> =
            self.held.iter().filter(|(_, held)| held.until <= now).map(|(id, _)| *id).collect();
        ended.into_iter().for_each(|id| self.forget(id));
        self.first_end = self.held.values().map(|held| held.until).min().unwrap_or(Duration::MAX);
    }
}

impl Former {
    /// Whether it had said to have this.
    fn had(&self, content: Sha256Digest) -> bool {
        self.dropped.as_ref().is_none_or(|dropped| dropped.contains(&content))
    }
}

#[cfg(test)]
mod tests;
