//! Requests that come twice, because an answer was lost: with the same `Idempotency-Key` nothing is done twice (decision 0036).
//!
//! ```text
//! begin ──▶ First: worked on ──▶ kept: whatever may have been done ──▶ Again: the same answer, for a day
//!                            └─▶ forgotten: refused, nothing was done     may be tried again
//! ```
//! Who began and is gone without an answer, by a defect say, leaves one that says so. In memory, for the holder of one token. Pure:
//! the time is an argument, and goes forwards only.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use catalog::digest::Sha256Digest;
use catalog::problem::{Code, Problem};
use http::{HeaderMap, StatusCode};

use super::reply::{self, Ended};

/// More answers are not kept.
const MOST: usize = 512;
/// Nor are more bytes of them.
const MOST_BYTES: u64 = 32 << 20;
const LIFE: Duration = Duration::from_secs(24 * 3_600);
/// A key is no longer than this.
const LONGEST_KEY: usize = 128;
/// What a kept answer weighs beside its body.
const WEIGHT: u64 = 1_024;

/// An answer as it was given.
#[derive(Debug, Clone)]
pub struct Given {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// The SHA-256 of the token whose key it is, and the key. A token is no name: who has the next one of that name is another.
pub type Key = (Sha256Digest, String);

#[derive(Debug)]
struct Kept {
    asked: Sha256Digest,
    since: Instant,
    given: Option<Given>,
}

impl Kept {
    fn weight(&self) -> u64 {
        self.given.as_ref().map_or(0, |given| given.body.len() as u64) + WEIGHT
    }
}

/// What was asked with keys lately.
#[derive(Debug, Default)]
pub struct Repeats(Mutex<HashMap<Key, Kept>>);

/// Whether a request with a key is the first.
#[derive(Debug)]
pub enum Turn {
    /// It is; its answer has to follow.
    First(Begun),
    /// It is not: this was answered.
    Again(Given),
}

/// Whether the answer stands for the key: what may have been done is not done again. Where it was refused before anything was
/// done, the same request may be made again with the same key. `began`: a task had begun.
pub fn is_kept(ended: &Ended, began: bool) -> bool {
    match ended {
        Ended::Done { .. } | Ended::Running(_) => true,
        // Whoever fails on the way does not always know how far it came.
        Ended::Failed(problem) => began || problem.code.page().http >= 500,
    }
}

impl Repeats {
    /// Whether this is the first time.
    ///
    /// # Errors
    /// `USAGE` for what is no key; `API_KEY_IN_USE` where the first is still worked on, or was another request.
    pub fn begin(self: &Arc<Self>, key: &Key, asked: Sha256Digest, now: Instant) -> Result<Turn, Problem> {
        let plain =
            (1..=LONGEST_KEY).contains(&key.1.len()) && key.1.bytes().all(|byte| byte.is_ascii_graphic());
        if !plain {
            let message = format!("an `Idempotency-Key` has 1 to {LONGEST_KEY} visible characters of ASCII");
            return Err(Problem::new(Code::Usage, message));
        }
        let mut all = self.lock();
        all.retain(|_, kept| kept.given.is_none() || now.duration_since(kept.since) < LIFE);
        match all.get(key) {
            Some(kept) if kept.asked != asked => {
                Err(Problem::new(Code::ApiKeyInUse, "this `Idempotency-Key` was sent with another request"))
            }
            Some(Kept { given: None, .. }) => {
                Err(Problem::new(Code::ApiKeyInUse, "the request with this `Idempotency-Key` is worked on"))
            }
            Some(Kept { given: Some(given), .. }) => Ok(Turn::Again(given.clone())),
            None => {
                all.insert(key.clone(), Kept { asked, since: now, given: None });
                drop(all);
                Ok(Turn::First(Begun { repeats: self.clone(), key: Some(key.clone()) }))
            }
        }
    }

    fn keep(&self, key: &Key, given: Given) {
        let mut all = self.lock();
        if let Some(kept) = all.get_mut(key) {
            kept.given = Some(given);
        }
        while all.len() > MOST || all.values().map(Kept::weight).sum::<u64>() > MOST_BYTES {
            let Some(oldest) = goes_next(&all) else { return };
            all.remove(&oldest);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The oldest answer of the token that has most: who sends many keys does not make others' be forgotten.
fn goes_next(all: &HashMap<Key, Kept>) -> Option<Key> {
    let mut weights = HashMap::<Sha256Digest, u64>::new();
    for ((token, _), kept) in all {
        *weights.entry(*token).or_default() += kept.weight();
    }
    let answered = all.iter().filter(|(_, kept)| kept.given.is_some());
    let heaviest = |((token, _), kept): &(&Key, &Kept)| (weights.get(token), std::cmp::Reverse(kept.since));
    answered.max_by_key(heaviest).map(|(key, _)| key.clone())
}

/// A request with a key that is worked on.
#[derive(Debug)]
pub struct Begun {
    repeats: Arc<Repeats>,
    key: Option<Key>,
}

impl Begun {
    /// It has its answer, which stands.
    pub fn keep(mut self, given: Given) {
        if let Some(key) = self.key.take() {
            self.repeats.keep(&key, given);
        }
    }

    /// Nothing was done: the same key may try again.
    pub fn forget(mut self) {
        if let Some(key) = self.key.take() {
            self.repeats.lock().remove(&key);
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let Some(key) = self.key.take() else { return };
        let problem =
            Problem::new(Code::Internal, "the work ended by a defect, and how far it came is not known")
                .help("look whether it was done before you repeat it with another `Idempotency-Key`");
        if let Some(given) = reply::given(&reply::problem(&problem, None)) {
            self.repeats.keep(&key, given);
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
            body: Bytes::from(body.to_owned()),
        }
    }

    fn key(name: &str) -> Key {
        (Sha256Digest::of(b"deploy-script"), name.to_owned())
    }

    fn begin(repeats: &Arc<Repeats>, key: &Key, asked: &str, now: Instant) -> Result<Turn, Code> {
        repeats.begin(key, Sha256Digest::of(asked.as_bytes()), now).map_err(|problem| problem.code)
    }

    /// Of a request that must be the first.
    fn first(repeats: &Arc<Repeats>, key: &Key, now: Instant) -> Begun {
        match begin(repeats, key, "one", now) {
            Ok(Turn::First(begun)) => begun,
            other => panic!("{key:?}: {other:?}"),
        }
    }

    fn again(turn: Result<Turn, Code>) -> Option<u16> {
        match turn {
            Ok(Turn::Again(given)) => Some(given.status.as_u16()),
            _ => None,
        }
    }

    #[test]
    fn the_second_gets_the_answer_of_the_first() {
        let (repeats, now) = (Arc::new(Repeats::default()), Instant::now());
        let later = |hours: u64| now + Duration::from_secs(hours * 3_600);
        let working = first(&repeats, &key("k"), now);
        assert_eq!(begin(&repeats, &key("k"), "one", now).unwrap_err(), Code::ApiKeyInUse, "worked on");
        assert_eq!(begin(&repeats, &key("k"), "one", later(99)).unwrap_err(), Code::ApiKeyInUse, "still");
        working.keep(given(200, "made"));
        assert_eq!(again(begin(&repeats, &key("k"), "one", later(23))), Some(200));
        assert_eq!(
            begin(&repeats, &key("k"), "other", now).unwrap_err(),
            Code::ApiKeyInUse,
            "another request"
        );
        let grafana = (Sha256Digest::of(b"grafana"), "k".to_owned());
        assert!(begin(&repeats, &grafana, "other", now).is_ok(), "keys of others are others");
        assert!(matches!(begin(&repeats, &key("k"), "other", later(24)), Ok(Turn::First(_))), "a day later");
        for wrong in ["", "a b", "é", &"x".repeat(129)] {
            assert_eq!(begin(&repeats, &key(wrong), "one", now).unwrap_err(), Code::Usage, "{wrong}");
        }
    }

    #[test]
    fn what_may_have_been_done_stands_and_what_was_refused_may_be_tried_again() {
        let body = serde_json::json!({});
        let failed = |code| Ended::Failed(Problem::new(code, "no"));
        let partly = Some(Problem::new(Code::PackagePartlyDone, "some"));
        for (ended, began, expected) in [
            (Ended::Done { body: body.clone(), problem: None }, false, true),
            (Ended::Done { body, problem: partly }, false, true),
            (failed(Code::Internal), false, true),
            (failed(Code::PackageBusy), false, false),
            (failed(Code::PackageNotFound), false, false),
            (failed(Code::Cancelled), true, true),
        ] {
            assert_eq!(is_kept(&ended, began), expected, "{ended:?}");
        }
        let (repeats, now) = (Arc::new(Repeats::default()), Instant::now());
        first(&repeats, &key("refused"), now).forget();
        drop(first(&repeats, &key("refused"), now));
        assert_eq!(again(begin(&repeats, &key("refused"), "one", now)), Some(500), "it is not known");
        let (panicking, at) = (repeats.clone(), key("panics"));
        let died = std::thread::spawn(move || {
            let _begun = first(&panicking, &at, now);
            panic!("a defect");
        });
        assert!(died.join().is_err());
        assert_eq!(again(begin(&repeats, &key("panics"), "one", now)), Some(500), "no key is stuck");
    }

    #[test]
    fn memory_has_an_end_and_who_fills_it_forgets_its_own_first() {
        let (repeats, now) = (Arc::new(Repeats::default()), Instant::now());
        let grafana = (Sha256Digest::of(b"grafana"), "k".to_owned());
        first(&repeats, &grafana, now).keep(given(200, "another's"));
        for number in 1..600 {
            let at = now + Duration::from_secs(number);
            first(&repeats, &key(&number.to_string()), at).keep(given(200, "x"));
        }
        assert_eq!(repeats.lock().len(), MOST);
        let late = now + Duration::from_secs(600);
        assert_eq!(again(begin(&repeats, &key("599"), "one", late)), Some(200), "the newest stay");
        let large = "x".repeat(20 << 20);
        for name in ["a", "b"] {
            first(&repeats, &key(name), late).keep(given(200, &large));
        }
        assert!(repeats.lock().len() < MOST);
        assert_eq!(again(begin(&repeats, &grafana, "one", late)), Some(200), "others' are not forgotten");
    }
}
