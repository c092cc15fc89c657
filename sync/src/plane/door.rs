//! Where secrets are shown, and how often one may be wrong: one rule and one memory for every route of a site.
//!
//! Over plain HTTP neither keys nor tokens are taken from other machines, unless the operator allowed it: whoever is on the
//! way could read them. An address that was wrong too often is told so for a while, whatever wrong it shows. A good key is no guess,
//! and always passes: who guesses in a network, or behind the gateway of a branch, shuts nobody out who stands beside it.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use catalog::digest::Sha256Digest;
use catalog::problem::{Code, Problem};
use dp::peers::{DeviceId, Devices};
use dp::server::{Asker, Gate};
use jiff::Timestamp;
use schema::keys::{Principal, PrincipalKind};
use schema::{Reader, SchemaError};
use tracing::warn;

use super::limit::FailedAttempts;
use crate::clock;
use crate::device::advice::for_device;

/// The rule, and who broke it lately.
#[derive(Debug, Default)]
pub struct Door {
    plain_allowed: AtomicBool,
    failed: Mutex<FailedAttempts>,
}

impl Door {
    /// Takes secrets over plain HTTP from other machines, or not (`[server] allow_plain_enrolment`).
    pub fn allow_plain(&self, allowed: bool) {
        self.plain_allowed.store(allowed, Ordering::Relaxed);
    }

    /// Whether a secret of this asker is looked at.
    ///
    /// # Errors
    /// `PLAIN_HTTP_REFUSED`.
    pub fn takes(&self, asker: Asker) -> Result<(), Problem> {
        match takes_secrets(asker.secure, asker.address, self.plain_allowed.load(Ordering::Relaxed)) {
            true => Ok(()),
            false => Err(Problem::new(Code::PlainHttpRefused, "keys and tokens are taken over https only")),
        }
    }

    /// Whether a secret of this asker is looked at that nobody knows, so far. It is asked before that costs anything.
    ///
    /// # Errors
    /// `PLAIN_HTTP_REFUSED`, `TOO_MANY_TRIES`.
    pub fn admits(&self, asker: Asker, now: Timestamp) -> Result<(), Problem> {
        self.takes(asker)?;
        match self.lock().too_many(asker.address.to_canonical(), now) {
            true => Err(Problem::new(Code::TooManyTries, "too many wrong keys or tokens of this address")),
            false => Ok(()),
        }
    }

    /// Counts what was wrong with a secret. Who has a key that was revoked does not guess.
    pub fn counts(&self, asker: Asker, problem: &Problem, now: Timestamp) {
        self.counts_shown(asker, None, problem, now);
    }

    /// The same, where the secret is known by its digest: shown again, it is counted and told once.
    pub fn counts_shown(&self, asker: Asker, shown: Option<Sha256Digest>, problem: &Problem, now: Timestamp) {
        if is_guess(problem) && self.lock().count(asker.address.to_canonical(), shown, now) {
            warn!(client = %asker.address, "{problem}");
        }
    }

    /// What is said of a secret that was looked at without cost and was wrong: that, and counted, unless there were too many before.
    fn refuses(
        &self,
        asker: Asker,
        shown: Option<Sha256Digest>,
        problem: Problem,
        now: Timestamp,
    ) -> Problem {
        if !is_guess(&problem) {
            return problem;
        }
        if let Err(too_many) = self.admits(asker, now) {
            return too_many;
        }
        self.counts_shown(asker, shown, &problem, now);
        problem
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, FailedAttempts> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether something may have been tried out. Who has a key that was revoked does not guess.
fn is_guess(problem: &Problem) -> bool {
    matches!(problem.code, Code::KeyRefused | Code::TokenRefused | Code::ApiTokenRefused)
}

/// Whether a secret may come over this connection.
fn takes_secrets(secure: bool, from: IpAddr, plain_allowed: bool) -> bool {
    secure || plain_allowed || from.to_canonical().is_loopback()
}

/// Whose key it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// A device of the site.
    Device(DeviceId),
    /// A distribution point, or who fetches content for a device: it opens content, and speaks for no device.
    Other,
    /// Nobody any more.
    Revoked,
}

/// The keys of a site, by their SHA-256: a copy in memory of what the database has, for those who cannot wait for it. Until
/// it is filled nobody is known.
#[derive(Debug, Default)]
pub struct KeyRing {
    /// The rule under which keys are shown.
    pub door: Door,
    holders: ArcSwap<HashMap<Sha256Digest, Holder>>,
    /// Devices that showed their key since somebody asked. It has no more names than there are devices.
    heard: Mutex<HashSet<String>>,
}

impl KeyRing {
    /// These are all, from now on.
    pub fn replace(&self, holders: HashMap<Sha256Digest, Holder>) {
        self.holders.store(Arc::new(holders));
    }

    /// Devices that showed their key since this was asked last.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).drain().collect()
    }

    /// Whether a device is among those.
    pub fn is_heard(&self, device: &str) -> bool {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).contains(device)
    }

    /// What was asked could not be used: it is said again.
    pub fn hear_again(&self, devices: Vec<String>) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).extend(devices);
    }

    fn hear(&self, device: &str) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if !heard.contains(device) {
            heard.insert(device.to_owned());
        }
    }

    /// Whether anybody has, or had, the key with this digest. See [`Self::show`] about the time that it takes.
    pub fn knows(&self, key: Sha256Digest) -> bool {
        self.holders.load().contains_key(&key)
    }

    /// Who shows this key. Which digest is found takes the same time whatever the key: who could measure it would learn about
    /// a digest, and digests of keys cannot be steered.
    fn show(&self, token: Option<&str>, asker: Asker, now: Timestamp) -> Result<Holder, Problem> {
        self.door.takes(asker)?;
        let refused = |why: &str| Problem::new(Code::KeyRefused, why.to_owned());
        let shown = token.map(|token| Sha256Digest::of(token.as_bytes()));
        let found = match &shown {
            None => Err(refused("a key is needed")),
            Some(shown) => match self.holders.load().get(shown) {
                None => Err(refused("nobody here has this key")),
                Some(Holder::Revoked) => Err(Problem::new(Code::KeyRevoked, "this key was revoked")),
                Some(holder) => Ok(holder.clone()),
            },
        };
        found.map_err(|problem| self.door.refuses(asker, shown, problem, now))
    }
}

/// Everybody who ever enrolled at the site.
///
/// # Errors
/// Those of the database.
pub fn holders(reader: &Reader<'_>) -> Result<HashMap<Sha256Digest, Holder>, SchemaError> {
    let mut holders = HashMap::new();
    for Principal { hash, content_hash, kind, name, revoked, .. } in reader.principals()? {
        let (holder, of_content) = match (revoked, kind) {
            (Some(_), _) => (Holder::Revoked, Holder::Revoked),
            (None, PrincipalKind::Device) => (Holder::Device(DeviceId(name)), Holder::Other),
            (None, PrincipalKind::Point) => (Holder::Other, Holder::Other),
        };
        holders.insert(hash, holder);
        holders.extend(content_hash.map(|hash| (hash, of_content)));
    }
    Ok(holders)
}

impl Gate for KeyRing {
    fn may(&self, token: Option<&str>, asker: Asker) -> bool {
        // Who shows none asks for what is not there, which is no mistake.
        token.is_some() && self.show(token, asker, clock::now()).is_ok()
    }
}

impl Devices for KeyRing {
    fn device(&self, token: Option<&str>, asker: Asker) -> Result<DeviceId, Problem> {
        match self.show(token, asker, clock::now()).map_err(for_device)? {
            Holder::Device(device) => {
                self.hear(&device.0);
                Ok(device)
            }
            Holder::Other | Holder::Revoked => {
                Err(for_device(Problem::new(Code::KeyRefused, "this key is not that of a device")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(address: &str, secure: bool) -> Asker {
        Asker { address: address.parse().unwrap(), secure }
    }

    fn ring() -> KeyRing {
        let ring = KeyRing::default();
        let device = Holder::Device(DeviceId("desk-7".to_owned()));
        ring.replace(HashMap::from([
            (Sha256Digest::of(b"device"), device),
            (Sha256Digest::of(b"point"), Holder::Other),
            (Sha256Digest::of(b"old"), Holder::Revoked),
        ]));
        ring
    }

    #[test]
    fn secrets_come_over_tls_or_from_this_machine_unless_the_operator_says_otherwise() {
        for (secure, from, allowed, expected) in [
            (false, "127.0.0.9", false, true),
            (false, "::1", false, true),
            (false, "::ffff:127.0.0.1", false, true),
            (false, "10.0.0.1", false, false),
            (false, "fd00::1", false, false),
            (false, "::ffff:10.0.0.1", false, false),
            (true, "10.0.0.1", false, true),
            (false, "10.0.0.1", true, true),
        ] {
            let ring = ring();
            ring.door.allow_plain(allowed);
            let asker = asker(from, secure);
            assert_eq!(ring.door.admits(asker, clock::now()).is_ok(), expected, "{secure} {from} {allowed}");
            assert_eq!(
                ring.may(Some("device"), asker),
                expected,
                "private content: {secure} {from} {allowed}"
            );
            let announces = ring.device(Some("device"), asker).map_err(|problem| problem.code);
            assert_eq!(announces.is_ok(), expected, "announcements: {secure} {from} {allowed}");
            assert!(expected || announces == Err(Code::PlainHttpRefused));
        }
    }

    #[test]
    fn a_key_opens_what_it_is_for_until_it_is_revoked() {
        let (ring, here) = (ring(), asker("127.0.0.1", false));
        for (key, content, device) in [
            (Some("device"), true, Ok("desk-7")),
            (Some("point"), true, Err(Code::KeyRefused)),
            (Some("old"), false, Err(Code::KeyRevoked)),
            (Some("other"), false, Err(Code::KeyRefused)),
            (Some(""), false, Err(Code::KeyRefused)),
            (None, false, Err(Code::KeyRefused)),
        ] {
            assert_eq!(ring.may(key, here), content, "{key:?}");
            let found = ring.device(key, here).map(|device| device.0).map_err(|problem| problem.code);
            assert_eq!(found, device.map(str::to_owned), "{key:?}");
        }
        assert_eq!(ring.heard(), ["desk-7"], "whoever was let in as a device");
        assert_eq!(ring.heard(), Vec::<String>::new());
        ring.replace(HashMap::new());
        assert!(!ring.may(Some("device"), here));
    }

    #[test]
    fn who_is_wrong_too_often_is_told_so_on_any_route_and_shuts_nobody_out() {
        let (ring, guesser) = (ring(), asker("2001:db8::1", true));
        let beside = asker("2001:db8::2", true);
        let now = Timestamp::from_second(100).unwrap();
        let shown = |key: &str, asker, now| ring.show(Some(key), asker, now).map_err(|problem| problem.code);
        for _ in 0..20 {
            assert_eq!(shown("old", guesser, now), Err(Code::KeyRevoked), "no guess");
            assert!(!ring.may(None, guesser), "no key is no guess");
        }
        for number in 0..30 {
            let expected = if number < 10 { Code::KeyRefused } else { Code::TooManyTries };
            assert_eq!(shown(&format!("guess {number}"), guesser, now), Err(expected), "{number}");
            for asker in [guesser, beside] {
                assert!(shown("device", asker, now).is_ok(), "a good key is no guess");
                assert!(shown("point", asker, now).is_ok());
            }
        }
        assert_eq!(shown("old", beside, now), Err(Code::KeyRevoked));
        assert_eq!(ring.door.admits(guesser, now).unwrap_err().code, Code::TooManyTries);
        assert_eq!(shown("guess 0", asker("10.0.0.2", true), now), Err(Code::KeyRefused), "another address");
        let later = Timestamp::from_second(161).unwrap();
        assert_eq!(shown("guess 0", guesser, later), Err(Code::KeyRefused), "a minute later");
    }
}
