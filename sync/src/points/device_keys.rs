//! The content keys of devices, as points are told them: what changed since they were told last, or all.
//!
//! One device that enrols is one line for each point that has something private, and not ten thousand. What a point has is known by
//! its tag, which follows from the keys alone: after a restart, of either, it means the same.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use catalog::digest::Sha256Digest;
use catalog::problem::Problem;
use schema::points::OWN_POINT;

use super::assign::Made;
use super::wire::{KeysAnswer, keys_tag};
use crate::site::Site;

/// How many changes are remembered. Who was away for longer is told all keys.
const MOST_STEPS: usize = 256;

/// What points were told, and are.
#[derive(Debug, Default)]
pub struct DeviceKeys {
    book: Mutex<Book>,
    /// Of a thousand points that ask at once, one reads.
    reading: tokio::sync::Mutex<()>,
}

/// The keys, and how they came to be these.
#[derive(Debug, Default)]
struct Book {
    /// The number of changes when they were read; `None` before that.
    number: Option<u64>,
    tag: String,
    keys: BTreeSet<Sha256Digest>,
    steps: VecDeque<Step>,
}

#[derive(Debug)]
struct Step {
    /// Tag of the keys before it.
    before: String,
    new: Vec<Sha256Digest>,
    gone: Vec<Sha256Digest>,
}

impl Book {
    /// The keys were these at this number of changes. Older news are none.
    fn turn(&mut self, number: u64, keys: Vec<Sha256Digest>) {
        if self.number.is_some_and(|known| number <= known) {
            return;
        }
        let (tag, keys) = (keys_tag(&keys), keys.into_iter().collect::<BTreeSet<_>>());
        if self.number.is_some() && tag != self.tag {
            let new = keys.difference(&self.keys).copied().collect();
            let gone = self.keys.difference(&keys).copied().collect();
            self.steps.push_back(Step { before: self.tag.clone(), new, gone });
            if self.steps.len() > MOST_STEPS {
                self.steps.pop_front();
            }
        }
        (self.number, self.tag, self.keys) = (Some(number), tag, keys);
    }

    /// What is told to who has the keys with the tag `since`.
    fn told(&self, since: Option<&str>) -> KeysAnswer {
        let all = || KeysAnswer {
            tag: self.tag.clone(),
            since: None,
            keys: self.keys.iter().copied().collect(),
            gone: Vec::new(),
        };
        let Some(since) = since else { return all() };
        // The last time that they were these: what came and went before that is nothing to who asks.
        let first = match self.steps.iter().rposition(|step| step.before == since) {
            Some(first) => first,
            None if since == self.tag => self.steps.len(),
            None => return all(),
        };
        let (mut new, mut gone) = (BTreeSet::new(), BTreeSet::new());
        for step in self.steps.range(first..) {
            for key in &step.new {
                gone.remove(key);
                new.insert(*key);
            }
            for key in &step.gone {
                new.remove(key);
                gone.insert(*key);
            }
        }
        if new.len() + gone.len() >= self.keys.len() {
            return all();
        }
        KeysAnswer {
            tag: self.tag.clone(),
            since: Some(since.to_owned()),
            keys: new.into_iter().collect(),
            gone: gone.into_iter().collect(),
        }
    }
}

impl DeviceKeys {
    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tag_at(&self, number: u64) -> Option<String> {
        let book = self.lock();
        (book.number.is_some_and(|known| known >= number)).then(|| book.tag.clone())
    }
}

/// Tag of the keys that a point has to know, whose assignment was made so: those of all devices, or of none where nothing is private.
///
/// # Errors
/// Those of the database.
pub async fn tag(site: &Arc<Site>, made: &Made) -> Result<String, Problem> {
    if !made.private {
        return Ok(keys_tag(&[]));
    }
    let told = &site.points.device_keys;
    if let Some(tag) = told.tag_at(made.keys) {
        return Ok(tag);
    }
    let _alone = told.reading.lock().await;
    if let Some(tag) = told.tag_at(made.keys) {
        return Ok(tag);
    }
    let (number, keys) =
        site.read(|r| Ok((r.assignment_changes(OWN_POINT)?.keys, r.content_keys()?))).await?;
    let mut book = told.lock();
    book.turn(number, keys);
    Ok(book.tag.clone())
}

/// What a point is told that has the keys with the tag `since`.
///
/// # Errors
/// Those of the database.
pub async fn told(site: &Arc<Site>, made: &Made, since: Option<&str>) -> Result<KeysAnswer, Problem> {
    let tag = tag(site, made).await?;
    if !made.private {
        return Ok(KeysAnswer { tag, since: None, keys: Vec::new(), gone: Vec::new() });
    }
    Ok(site.points.device_keys.lock().told(since))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(number: u8) -> Sha256Digest {
        Sha256Digest([number; 32])
    }

    fn keys(numbers: impl IntoIterator<Item = u8>) -> Vec<Sha256Digest> {
        numbers.into_iter().map(key).collect()
    }

    #[test]
    fn who_has_some_keys_is_told_what_changed_since() {
        let mut book = Book::default();
        book.turn(1, keys(0..100));
        let first = keys_tag(&keys(0..100));
        assert_eq!((book.told(None).keys.len(), book.told(Some("another")).since), (100, None));
        assert_eq!(book.told(Some(&first)).keys, []);
        book.turn(2, keys(0..101));
        book.turn(3, keys(1..101));
        book.turn(2, keys(0..101)); // who read before, and says so late
        let told = book.told(Some(&first));
        assert_eq!((told.since, told.keys, told.gone), (Some(first), keys([100]), keys([0])));
        assert_eq!(told.tag, keys_tag(&keys(1..101)));
        let since = told.tag;
        book.turn(4, keys([7]));
        assert_eq!(book.told(Some(&since)).since, None, "all of them is less");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// Wherever a point begins, and whatever it missed: with what it is told it has the keys of now.
        #[test]
        fn what_is_told_leads_to_the_keys_of_now(states in prop::collection::vec(prop::collection::btree_set(0..12_u8, 0..12), 1..12)) {
            let mut book = Book::default();
            for (number, state) in (1..).zip(&states) {
                book.turn(number, keys(state.iter().copied()));
            }
            let now = keys(states.last().cloned().unwrap_or_default());
            for state in &states {
                let has = keys(state.iter().copied());
                let told = book.told(Some(&keys_tag(&has)));
                prop_assert_eq!(told.applied_to(&has), Some(now.clone()));
            }
            prop_assert_eq!(book.told(None).applied_to(&[]), Some(now));
        }
    }
}
