//! What others say of a peer: how much of it counts, for whom, until when. Pure; time is an argument.
//!
//! | what it did | counts against | until |
//! |---|---|---|
//! | sent wrong bytes ([`Weight::Lie`]) | the device, for all of its contents | an hour later |
//! | could not be reached | the device | it announces again |
//! | had it no more, broke off, and whatever else | this content of the device | it announces again |
//! | was busy or slow | nobody: it serves others | |
//!
//! A report counts for the address that it came from. For everybody two count, of two different devices that showed their
//! keys; so whoever has no key, and whoever has many addresses, speaks for himself alone.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use catalog::digest::Sha256Digest;
use catalog::problem::Code;

use super::{DeviceId, Limits};
use crate::locate::Shunned;
use crate::server::network;

/// Reports about one device that are remembered: of devices, and of those without a key.
const OF_DEVICES: usize = 64;
const WITHOUT_KEY: usize = 16;
/// Devices whose reports must agree before they count for everybody.
const ENOUGH: usize = 2;
/// What has ended makes room at most so often: it costs a walk over all.
const SWEEP: Duration = Duration::from_secs(10);

/// How much a fault of a peer says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// It sent what is not the content: it is wrong, or lies.
    Lie,
    /// It is not there now. It may sleep.
    Away,
    /// It does not give this content now.
    Lacks,
}

impl Weight {
    /// What a fault says, by its stable code; `None` for what is no reason to leave a peer alone. A word that is unknown here
    /// is the word of a newer client.
    pub fn of(fault: &str) -> Option<Self> {
        match fault.parse() {
            Ok(Code::HashMismatch | Code::SizeMismatch | Code::TransferTooLong) => Some(Self::Lie),
            Ok(Code::SourceUnreachable) => Some(Self::Away),
            // Full, or so many take of it that each gets little.
            Ok(Code::SourceFailed | Code::TransferStalled) => None,
            _ => Some(Self::Lacks),
        }
    }
}

/// Who reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reporter {
    /// The device, if it showed its key.
    pub device: Option<DeviceId>,
    /// Where its connection came from.
    pub address: IpAddr,
}

/// What came of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Noted {
    /// It says nothing that counts, or there is no room for it.
    Ignored,
    /// It is remembered.
    Kept,
    /// And now nobody trusts this device any more.
    Distrusts(DeviceId),
}

/// What a report is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// The device itself.
    Device,
    /// One announcement of it; of that one content, if there is one.
    Announcement(u32, Option<Sha256Digest>),
}

#[derive(Debug)]
struct Said {
    by: Reporter,
    about: About,
    /// Its code, or a word of ours: nothing foreign is kept.
    fault: &'static str,
    until: Duration,
}

/// Whose share of the room a report takes: a device's, or what one asker has of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Payer {
    Device(DeviceId),
    Network(IpAddr),
}

impl Payer {
    fn of(by: &Reporter) -> Self {
        match &by.device {
            Some(device) => Self::Device(device.clone()),
            None => Self::Network(network(by.address)),
        }
    }
}

/// Everything that was reported and still holds.
#[derive(Debug, Default)]
pub(super) struct Reports {
    of: HashMap<DeviceId, Vec<Said>>,
    paid: HashMap<Payer, usize>,
    all: usize,
    without_key: usize,
    swept: Duration,
}

impl Reports {
    /// Takes a report of `device` down, until then.
    pub(super) fn add(
        &mut self,
        limits: &Limits,
        device: &DeviceId,
        by: Reporter,
        (about, fault): (About, &str),
        (now, until): (Duration, Duration),
    ) -> Noted {
        if by.device.as_ref() == Some(device) {
            return Noted::Ignored;
        }
        let distrusted = self.is_distrusted(device, now);
        let same = |said: &&mut Said| said.by == by && said.about == about;
        if let Some(said) = self.of.get_mut(device).and_then(|all| all.iter_mut().find(same)) {
            said.until = said.until.max(until);
        } else {
            if !self.has_room(limits, device, &by) && now.saturating_sub(self.swept) >= SWEEP {
                self.swept = now;
                self.keep(|_, said| said.until > now);
            }
            if !self.has_room(limits, device, &by) {
                return Noted::Ignored;
            }
            self.all += 1;
            self.without_key += usize::from(by.device.is_none());
            *self.paid.entry(Payer::of(&by)).or_default() += 1;
            let fault = fault.parse().map_or("?", Code::name);
            let said = Said { by, about, fault, until };
            self.of.entry(device.clone()).or_default().push(said);
        }
        match self.is_distrusted(device, now) && !distrusted {
            true => Noted::Distrusts(device.clone()),
            false => Noted::Kept,
        }
    }

    /// Half of the room is left to those with a key.
    fn has_room(&self, limits: &Limits, device: &DeviceId, by: &Reporter) -> bool {
        let paid = self.paid.get(&Payer::of(by)).copied().unwrap_or(0);
        let of_it = self.of.get(device).into_iter().flatten();
        let of_its_sort = of_it.filter(|said| said.by.device.is_some() == by.device.is_some()).count();
        let most = if by.device.is_some() { OF_DEVICES } else { WITHOUT_KEY };
        paid < limits.reports_of_one
            && of_its_sort < most
            && self.all < limits.reports
            && (by.device.is_some() || self.without_key < limits.reports / 2)
    }

    /// Whether `device`, which announced `content` with this announcement, is not to be named to this client.
    pub(super) fn shunned(
        &self,
        device: &DeviceId,
        announcement: u32,
        content: Sha256Digest,
        client: IpAddr,
        now: Duration,
    ) -> Option<Shunned> {
        let (mut own, mut by) = ([false; 2], [BTreeSet::new(), BTreeSet::new()]);
        for said in self.of.get(device)?.iter().filter(|said| said.until > now) {
            // A lie is a reason for both.
            let first = match said.about {
                About::Device => 0,
                About::Announcement(of, what)
                    if of == announcement && what.is_none_or(|one| one == content) =>
                {
                    1
                }
                About::Announcement(..) => continue,
            };
            for at in first..2 {
                own[at] |= said.by.address == client;
                by[at].extend(said.by.device.as_ref());
            }
        }
        let counts = |at: usize| own[at] || by[at].len() >= ENOUGH;
        match () {
            () if counts(0) => Some(Shunned::Distrusted),
            () if counts(1) => Some(Shunned::Away),
            () => None,
        }
    }

    fn is_distrusted(&self, device: &DeviceId, now: Duration) -> bool {
        self.liars_of(device, now).len() >= ENOUGH
    }

    /// Devices that found it lying.
    fn liars_of(&self, device: &DeviceId, now: Duration) -> HashSet<&DeviceId> {
        let all = self.of.get(device).into_iter().flatten();
        all.filter(|said| said.about == About::Device && said.until > now)
            .filter_map(|said| said.by.device.as_ref())
            .collect()
    }

    /// Whom nobody trusts now, and what was said of them last; in the order of their names.
    pub(super) fn distrusted(&self, now: Duration) -> Vec<(DeviceId, &'static str)> {
        let all = self.of.iter().filter(|(device, _)| self.is_distrusted(device, now));
        let lies = |said: &&Said| said.about == About::Device && said.by.device.is_some() && said.until > now;
        let mut all: Vec<_> = all
            .map(|(device, of_it)| {
                let last = of_it.iter().rfind(lies).map_or("?", |said| said.fault);
                (device.clone(), last)
            })
            .collect();
        all.sort();
        all
    }

    /// The announcement has ended, and with it what was said of it.
    pub(super) fn end(&mut self, device: &DeviceId, announcement: u32) {
        let Some(all) = self.of.get_mut(device) else { return };
        let over = |said: &mut Said| matches!(said.about, About::Announcement(of, _) if of == announcement);
        let gone: Vec<_> = all.extract_if(.., over).collect();
        if all.is_empty() {
            self.of.remove(device);
        }
        self.let_go(&gone);
    }

    /// Neither what such a device said counts any more, nor what was said of it.
    pub(super) fn forget(&mut self, is: impl Fn(&DeviceId) -> bool) {
        self.keep(|of, said| !is(of) && !said.by.device.as_ref().is_some_and(&is));
    }

    fn keep(&mut self, stays: impl Fn(&DeviceId, &Said) -> bool) {
        let mut gone = Vec::new();
        for (device, all) in &mut self.of {
            gone.extend(all.extract_if(.., |said| !stays(device, said)));
        }
        self.of.retain(|_, all| !all.is_empty());
        self.let_go(&gone);
    }

    fn let_go(&mut self, gone: &[Said]) {
        for said in gone {
            self.all -= 1;
            self.without_key -= usize::from(said.by.device.is_none());
            let payer = Payer::of(&said.by);
            if let Some(count) = self.paid.get_mut(&payer) {
                *count -= 1;
                if *count == 0 {
                    self.paid.remove(&payer);
                }
            }
        }
    }

    /// All, and those without a key.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize) {
        let of_each: usize = self.of.values().map(Vec::len).sum();
        assert_eq!((self.all, self.paid.values().sum::<usize>()), (of_each, of_each), "the sums agree");
        (self.all, self.without_key)
    }
}
