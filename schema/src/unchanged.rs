//! A change that is made only if nothing was changed since something was looked at: who read, decided and now writes must not
//! undo what somebody wrote in between.
//!
//! ```text
//! unchanged() ──▶ read, decide ──▶ holds(act): its first change is made ──▶ all others too
//!                                             └─ something was changed: refused, nothing is written; look again
//! ```
//! The writer's own thread compares, so that there is no moment between the comparison and the change.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use catalog::problem::{Code, Problem};

use crate::{SchemaError, Store};

tokio::task_local! {
    static ONLY: Arc<Only>;
}

const NOT_YET: u8 = 0;
const HELD: u8 = 1;
const BROKEN: u8 = 2;

/// The condition of one act.
#[derive(Debug)]
pub(crate) struct Only {
    seen: u64,
    state: AtomicU8,
}

impl Only {
    /// The condition under which this task acts, if there is one.
    pub(crate) fn of_this_task() -> Option<Arc<Self>> {
        ONLY.try_with(Arc::clone).ok()
    }

    /// Asked on the writer's thread before each change; the first answer stands for the whole act.
    pub(crate) fn allows(&self, commits: &AtomicU64) -> Result<(), SchemaError> {
        if self.state.load(Ordering::Relaxed) == NOT_YET {
            let state = if commits.load(Ordering::Acquire) == self.seen { HELD } else { BROKEN };
            self.state.store(state, Ordering::Relaxed);
        }
        if self.state.load(Ordering::Relaxed) == HELD {
            return Ok(());
        }
        Err(Problem::new(Code::ApiPreconditionFailed, "something was changed meanwhile").into())
    }
}

/// What was there at one moment.
#[derive(Debug, Clone)]
pub struct Unchanged(Arc<Only>);

impl Unchanged {
    /// Acts. Changes that the act leaves to other tasks are not held back.
    pub async fn holds<F: Future>(&self, act: F) -> F::Output {
        ONLY.scope(self.0.clone(), act).await
    }

    /// Whether the act was held back: nothing of it is in the database.
    pub fn was_broken(&self) -> bool {
        self.0.state.load(Ordering::Relaxed) == BROKEN
    }
}

impl Store {
    /// What is there now, to be held against what is there when something is changed.
    pub fn unchanged(&self) -> Unchanged {
        Unchanged(Arc::new(Only { seen: self.commits(), state: AtomicU8::new(NOT_YET) }))
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[tokio::test]
    async fn what_was_changed_in_between_holds_an_act_back_and_its_own_changes_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("a.db"), 1).unwrap();
        let audit = |what: &'static str| {
            store.write(move |w| w.audit("admin", what, "x", Timestamp::from_second(1).unwrap()))
        };
        let kept = || async {
            let acts = store.read(|r| r.acts(100)).await.unwrap();
            acts.into_iter().map(|act| act.what).collect::<Vec<_>>()
        };
        let act = |what| async move {
            audit(what).await?;
            audit(what).await
        };

        let seen = store.unchanged();
        seen.holds(act("one")).await.unwrap();
        assert!(!seen.was_broken());

        let seen = store.unchanged();
        audit("other").await.unwrap();
        assert!(seen.holds(act("two")).await.is_err() && seen.was_broken());
        assert_eq!(kept().await, ["other", "one", "one"]);

        // What machines say of themselves moves all the time, and holds nobody back.
        let seen = store.unchanged();
        let heard =
            || store.write_aside(|w| w.devices_seen(&[("pc1".into(), "x".into(), Timestamp::UNIX_EPOCH)]));
        heard().await.unwrap();
        assert!(seen.holds(async { heard().await }).await.is_ok(), "nor is it held back");
        assert_eq!(store.read(|r| r.device_names()).await.unwrap(), ["pc1"]);

        // What changes nothing, or is undone, was nothing.
        let seen = store.unchanged();
        store.write(|_| Ok(())).await.unwrap();
        let undone = store.write(|w| {
            w.audit("admin", "never", "x", Timestamp::from_second(1).unwrap())?;
            Err::<(), _>(SchemaError::Value("no".to_owned()))
        });
        assert!(undone.await.is_err());
        heard().await.unwrap();
        seen.holds(act("three")).await.unwrap();
        assert_eq!(kept().await.len(), 5);
    }
}
