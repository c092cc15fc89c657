//! Requests that come twice, because an answer was lost: with the same `Idempotency-Key` the second gets the answer of the
//! first, and nothing is done twice. In memory, for a day. Pure: the time is an argument.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use catalog::digest::Sha256Digest;
use catalog::problem::{Code, Problem};
use http::{HeaderMap, StatusCode};
use http_body_util::Full;
use hyper::body::{Body as _, Bytes};
use jiff::{SignedDuration, Timestamp};

/// More answers are not kept: the oldest goes.
const MOST: usize = 512;
/// Nor are more bytes of them.
const MOST_BYTES: u64 = 32 << 20;
const LIFE: SignedDuration = SignedDuration::from_hours(24);
/// A key is no longer than this.
const LONGEST_KEY: usize = 128;

/// An answer as it was given.
#[derive(Debug, Clone)]
pub struct Given {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Full<Bytes>,
}

/// Whose key, and the key.
pub type Key = (String, String);

#[derive(Debug)]
struct Kept {
    asked: Sha256Digest,
    since: Timestamp,
    given: Option<Given>,
}

/// What was asked with keys lately.
#[derive(Debug, Default)]
pub struct Repeats(Mutex<HashMap<Key, Kept>>);

impl Repeats {
    /// The answer that was given already, or none where this is the first time; then [`Self::end`] has to follow.
    ///
    /// # Errors
    /// `USAGE` for what is no key; `API_KEY_IN_USE` where the first is still worked on, or was another request.
    pub fn begin(&self, key: &Key, asked: Sha256Digest, now: Timestamp) -> Result<Option<Given>, Problem> {
        let plain =
            (1..=LONGEST_KEY).contains(&key.1.len()) && key.1.bytes().all(|byte| byte.is_ascii_graphic());
        if !plain {
            let message = format!("an `Idempotency-Key` has 1 to {LONGEST_KEY} visible characters of ASCII");
            return Err(Problem::new(Code::Usage, message));
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back ends them too.
        all.retain(|_, kept| kept.since <= now && now.duration_since(kept.since) < LIFE);
        match all.get(key) {
            Some(kept) if kept.asked != asked => {
                Err(Problem::new(Code::ApiKeyInUse, "this `Idempotency-Key` was sent with another request"))
            }
            Some(Kept { given: None, .. }) => {
                Err(Problem::new(Code::ApiKeyInUse, "the request with this `Idempotency-Key` is worked on"))
            }
            Some(Kept { given, .. }) => Ok(given.clone()),
            None => {
                all.insert(key.clone(), Kept { asked, since: now, given: None });
                Ok(None)
            }
        }
    }

    /// The first was not even begun: the same key may try again.
    pub fn forget(&self, key: &Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// The first has its answer. One that says "later", or that something failed, is not kept: the same key may try again.
    pub fn end(&self, key: &Key, given: Given) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if given.status.is_server_error() || given.status == StatusCode::TOO_MANY_REQUESTS {
            all.remove(key);
            return;
        }
        if let Some(kept) = all.get_mut(key) {
            kept.given = Some(given);
        }
        let bytes = |kept: &Kept| kept.given.as_ref().map_or(0, |given| given.body.size_hint().lower());
        while all.len() > MOST || all.values().map(bytes).sum::<u64>() > MOST_BYTES {
            let answered = all.iter().filter(|(_, kept)| kept.given.is_some());
            let Some(oldest) = answered.min_by_key(|(_, kept)| kept.since).map(|(key, _)| key.clone()) else {
                return;
            };
            all.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(status: u16, body: &str) -> Given {
        Given {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Full::new(Bytes::from(body.to_owned())),
        }
    }

    fn key(name: &str) -> Key {
        ("ann".to_owned(), name.to_owned())
    }

    #[test]
    fn the_second_gets_the_answer_of_the_first() {
        let (repeats, now) = (Repeats::default(), Timestamp::from_second(1_000).unwrap());
        let later = |hours| now.checked_add(SignedDuration::from_hours(hours)).unwrap();
        let (one, other) = (Sha256Digest::of(b"one"), Sha256Digest::of(b"other"));
        let code = |found: Result<Option<Given>, Problem>| found.map_err(|problem| problem.code);
        assert!(repeats.begin(&key("k"), one, now).unwrap().is_none());
        assert_eq!(code(repeats.begin(&key("k"), one, now)).unwrap_err(), Code::ApiKeyInUse, "worked on");
        repeats.end(&key("k"), given(200, "made"));
        let again = repeats.begin(&key("k"), one, later(23)).unwrap().expect("it is kept");
        assert_eq!((again.status, again.body.size_hint().exact()), (StatusCode::OK, Some(4)));
        assert_eq!(
            code(repeats.begin(&key("k"), other, now)).unwrap_err(),
            Code::ApiKeyInUse,
            "another request"
        );
        let eve = ("eve".to_owned(), "k".to_owned());
        assert!(repeats.begin(&eve, other, now).unwrap().is_none(), "keys of others are others");
        assert!(repeats.begin(&key("k"), other, later(24)).unwrap().is_none(), "a day later it is forgotten");
        assert!(repeats.begin(&key("failed"), one, now).unwrap().is_none());
        repeats.end(&key("failed"), given(503, "later"));
        assert!(repeats.begin(&key("failed"), one, now).unwrap().is_none(), "it may be tried again");
        for wrong in ["", "a b", "é", &"x".repeat(129)] {
            assert_eq!(code(repeats.begin(&key(wrong), one, now)).unwrap_err(), Code::Usage, "{wrong}");
        }
    }

    #[test]
    fn memory_has_an_end() {
        let repeats = Repeats::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        let asked = Sha256Digest::of(b"one");
        for number in 0..2_000 {
            assert!(repeats.begin(&key(&number.to_string()), asked, at(number)).unwrap().is_none());
            repeats.end(&key(&number.to_string()), given(200, "x"));
        }
        assert_eq!(repeats.0.lock().unwrap().len(), MOST);
        assert!(repeats.begin(&key("1999"), asked, at(2_000)).unwrap().is_some(), "the newest stay");
        let large = "x".repeat(20 << 20);
        for name in ["a", "b"] {
            repeats.begin(&key(name), asked, at(2_001)).unwrap();
            repeats.end(&key(name), given(200, &large));
        }
        assert!(repeats.0.lock().unwrap().len() < MOST);
    }
}
