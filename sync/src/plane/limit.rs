//! How often one address may be wrong about a key or a token; of IPv6, one network of 64 bits, as who has one address has all of
//! it. Pure: the time is an argument.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use catalog::digest::Sha256Digest;
pub use dp::server::network;
use jiff::Timestamp;

/// So many failed attempts within the window, and then none for its rest.
const MOST: usize = 10;
const WINDOW: Duration = Duration::from_secs(60);
/// More addresses are not remembered: those whose window is over go first, then all.
const ADDRESSES: usize = 10_000;

/// The failed attempts of all addresses.
#[derive(Debug, Default)]
pub struct FailedAttempts(HashMap<IpAddr, Window>);

#[derive(Debug)]
struct Window {
    since: Timestamp,
    count: usize,
    /// What was shown, at most [`MOST`] of them.
    shown: Vec<Sha256Digest>,
}

impl FailedAttempts {
    /// Whether an address has made too many.
    pub fn too_many(&self, address: IpAddr, now: Timestamp) -> bool {
        self.0.get(&network(address)).is_some_and(|window| window.count >= MOST && is_in(window.since, now))
    }

    /// An address has made one, by showing something with this digest, if that is known; whether it was counted. The same shown
    /// again is no other guess: a device whose key is not known here yet asks again, and shuts nobody beside it out.
    pub fn count(&mut self, address: IpAddr, shown: Option<Sha256Digest>, now: Timestamp) -> bool {
        if self.0.len() >= ADDRESSES {
            self.0.retain(|_, window| is_in(window.since, now));
            if self.0.len() >= ADDRESSES {
                self.0.clear();
            }
        }
        let begun = || Window { since: now, count: 0, shown: Vec::new() };
        let window = self.0.entry(network(address)).or_insert_with(begun);
        if !is_in(window.since, now) {
            *window = begun();
        }
        if shown.is_some_and(|shown| window.shown.contains(&shown)) {
            return false;
        }
        window.shown.extend(shown.filter(|_| window.shown.len() < MOST));
        window.count += 1;
        true
    }
}

/// A clock that was set back ends a window too.
fn is_in(since: Timestamp, now: Timestamp) -> bool {
    since <= now && now.duration_since(since).unsigned_abs() < WINDOW
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_mistakes_a_minute_are_human() {
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let mut failed = FailedAttempts::default();
        for _ in 0..MOST {
            assert!(!failed.too_many(one, at(100)));
            assert!(failed.count(one, None, at(100)));
        }
        assert!(failed.too_many(one, at(100)) && failed.too_many(one, at(159)));
        assert!(!failed.too_many(other, at(100)));
        assert!(!failed.too_many(one, at(160)), "the window is over");
        assert!(!failed.too_many(one, at(50)), "the clock was set back");
        for host in 0..=u32::try_from(ADDRESSES).unwrap() {
            failed.count(IpAddr::V4(host.into()), None, at(160));
        }
        assert!(failed.0.len() <= ADDRESSES, "a flood of addresses costs no more memory");
        let v6 = |text: &str| text.parse::<IpAddr>().unwrap();
        for host in 0..MOST {
            failed.count(v6(&format!("2001:db8::{host:x}")), None, at(160));
        }
        assert!(failed.too_many(v6("2001:db8::ffff"), at(160)), "who has one address has its network");
        assert!(!failed.too_many(v6("2001:db8:0:1::1"), at(160)));
        assert_eq!((network(v6("::1")), network(v6("::ffff:192.0.2.1"))), (v6("::1"), v6("192.0.2.1")));
    }

    #[test]
    fn the_same_mistake_made_again_is_one() {
        let one = "192.0.2.1".parse().unwrap();
        let key = |number: usize| Some(Sha256Digest::of(&number.to_le_bytes()));
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let mut failed = FailedAttempts::default();
        for again in 0..100 {
            assert_eq!(failed.count(one, key(0), at(100)), again == 0);
        }
        for other in 1..MOST {
            assert!(!failed.too_many(one, at(100)));
            assert!(failed.count(one, key(other), at(100)));
        }
        assert!(failed.too_many(one, at(100)));
        for flood in MOST..10 * MOST {
            failed.count(one, key(flood), at(100));
        }
        assert!(failed.0[&one].shown.len() <= MOST);
        assert!(failed.count(one, key(0), at(160)), "in another minute it is another");
    }
}
