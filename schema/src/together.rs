//! Short changes that wait at the same time share a transaction, and so one sync of the disk.
//!
//! ```text
//! begin ─▶ savepoint: a change ─▶ the next that waits already ─▶ … ─▶ commit ─▶ all are answered
//!             └─ refused: undone to its savepoint, and no other is touched
//! ```
//! Nobody is answered before the commit: also a refusal may follow from what another has written just before, and a commit that
//! fails takes that away. Nobody is waited for either: what has not come yet has the next transaction.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction, TransactionBehavior, ffi};
use tokio::sync::oneshot;

use crate::{SchemaError, Writer};

/// The most changes of one transaction.
const MOST: usize = 256;

/// After this time it is committed, whoever waits: those that are in it wait for their answers too.
const LONGEST: Duration = if cfg!(test) { Duration::from_secs(60) } else { Duration::from_millis(50) };

/// What the writer is asked to do.
pub(crate) enum Change {
    /// A change with a transaction of its own.
    Alone(Box<dyn FnOnce(&mut Connection) + Send>),
    /// One that may be in a transaction with others.
    Shared(Box<dyn Shared>),
}

/// A change that may be in a transaction with others, and who waits for it.
pub(crate) trait Shared: Send {
    /// Makes it; whether it is to be kept.
    fn make(&mut self, connection: &Connection) -> bool;

    /// Why it was refused.
    fn refusal(&self) -> Option<&SchemaError>;

    /// Says how it ended, once the transaction has.
    fn tell(self: Box<Self>, ended: Result<(), SchemaError>);
}

/// A change that waits for its turn, then for its commit.
pub(crate) struct Waiting<F, T> {
    change: Option<F>,
    made: Option<Result<T, SchemaError>>,
    has_changed: bool,
    /// Where it is counted that something was changed.
    counted: Option<Arc<AtomicU64>>,
    answer: oneshot::Sender<Result<T, SchemaError>>,
}

impl<F, T> Waiting<F, T> {
    pub(crate) fn new(
        change: F,
        counted: Option<Arc<AtomicU64>>,
        answer: oneshot::Sender<Result<T, SchemaError>>,
    ) -> Self {
        Self { change: Some(change), made: None, has_changed: false, counted, answer }
    }
}

impl<F, T> Shared for Waiting<F, T>
where
    F: FnOnce(&Writer<'_>) -> Result<T, SchemaError> + Send,
    T: Send,
{
    fn make(&mut self, connection: &Connection) -> bool {
        let Some(change) = self.change.take() else { return false };
        let before = connection.total_changes();
        let made = self.made.insert(change(&Writer::on(connection)));
        self.has_changed = connection.total_changes() != before;
        made.is_ok()
    }

    fn refusal(&self) -> Option<&SchemaError> {
        self.made.as_ref()?.as_ref().err()
    }

    fn tell(self: Box<Self>, ended: Result<(), SchemaError>) {
        let Self { made, has_changed, counted, answer, .. } = *self;
        // Nothing was made of it: it died.
        let ended = ended.and_then(|()| made.unwrap_or(Err(SchemaError::Died)));
        if let Some(counted) = counted.filter(|_| has_changed && ended.is_ok()) {
            counted.fetch_add(1, Ordering::Release);
        }
        // Nobody waits for the answer any more if the task was cancelled; the change is made all the same.
        let _ = answer.send(ended);
    }
}

/// Makes `first` and the shared changes that wait behind it, in their order, and answers them. What waits behind them and does not
/// share is given back.
pub(crate) fn run(
    connection: &mut Connection,
    first: Box<dyn Shared>,
    mut waiting: impl FnMut() -> Option<Change>,
) -> Option<Change> {
    let began = Instant::now();
    let (mut all, mut next) = (vec![first], None);
    let mut transact = || {
        let transaction = Transaction::new(connection, TransactionBehavior::Immediate)?;
        loop {
            if let Some(change) = all.last_mut() {
                make(&transaction, &mut **change)?;
            }
            if all.len() >= MOST || began.elapsed() >= LONGEST {
                break;
            }
            match waiting() {
                Some(Change::Shared(change)) => all.push(change),
                other => {
                    next = other;
                    break;
                }
            }
        }
        transaction.commit()?;
        Ok::<_, SchemaError>(())
    };
    let ended = transact();
    for change in all {
        change.tell(ended.as_ref().copied().map_err(said_again));
    }
    next
}

/// One change, which is there whole or not at all. An error is one of the transaction, and so of all that are in it.
fn make(transaction: &Transaction<'_>, change: &mut dyn Shared) -> Result<(), SchemaError> {
    let step = |sql| transaction.prepare_cached(sql)?.execute([]).map(drop);
    step("SAVEPOINT one")?;
    // A defect in one change must not end the database for all others.
    let is_kept = std::panic::catch_unwind(AssertUnwindSafe(|| change.make(transaction))).unwrap_or(false);
    if transaction.is_autocommit() {
        // SQLite undoes everything on some errors, a full disk among them.
        return Err(change.refusal().map_or_else(|| lost("the transaction was undone"), said_again));
    }
    if !is_kept {
        step("ROLLBACK TO one")?;
    }
    Ok(step("RELEASE one")?)
}

fn lost(why: &str) -> SchemaError {
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ABORT), Some(why.to_owned())).into()
}

/// The same error for one more who waits.
fn said_again(error: &SchemaError) -> SchemaError {
    match error {
        SchemaError::Sql(rusqlite::Error::SqliteFailure(code, text)) => {
            rusqlite::Error::SqliteFailure(*code, text.clone()).into()
        }
        other => lost(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;

    use catalog::problem::{Code, Coded};
    use jiff::Timestamp;
    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;
    use tokio::runtime::{Builder, Runtime};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::Store;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn runtime() -> Runtime {
        Builder::new_current_thread().build().expect("a runtime")
    }

    fn opened(path: &Path) -> Store {
        Store::open(path, 1).expect("it opens")
    }

    /// The writer is busy until this is dropped; then there is nothing to commit.
    async fn busy(store: &Store) -> (mpsc::Sender<()>, JoinHandle<()>) {
        let (release, released) = mpsc::channel::<()>();
        let (begins, begun) = oneshot::channel();
        let store = store.clone();
        let held = tokio::spawn(async move {
            let holding = store.write(move |_| {
                let _ = begins.send(());
                let _ = released.recv();
                Err::<(), _>(SchemaError::Closed)
            });
            holding.await.expect_err("it is undone");
        });
        begun.await.expect("it begins");
        (release, held)
    }

    fn kept(store: &Store, runtime: &Runtime) -> Vec<String> {
        let mut names = runtime.block_on(store.read(|r| r.device_names())).expect("they are read");
        names.sort();
        names
    }

    fn seen(w: &Writer<'_>, name: &str) -> Result<(), SchemaError> {
        w.devices_seen(&[(name.to_owned(), "10.0.0.1".to_owned(), NOW)])
    }

    /// How one of those that wait goes.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Goes {
        Well,
        /// By SQLite, in the middle.
        Refused,
        /// By a rule, after it has written.
        Undone,
        Dies,
        /// In a transaction of its own.
        Alone,
        AloneAndUndone,
        /// By who does not wait for the answer.
        Unheard,
    }

    fn change(w: &Writer<'_>, name: &str, goes: Goes) -> Result<String, SchemaError> {
        seen(w, name)?;
        match goes {
            Goes::Well | Goes::Alone | Goes::Unheard => Ok(name.to_owned()),
            Goes::Refused => {
                w.execute("INSERT INTO assignment_change VALUES ('nothing', 0)", [])?;
                Ok("it was not refused".to_owned())
            }
            Goes::Undone | Goes::AloneAndUndone => Err(SchemaError::Value(name.to_owned())),
            // As a panic does, and says nothing on the screen.
            Goes::Dies => std::panic::resume_unwind(Box::new("a defect")),
        }
    }

    fn is_right(name: &str, goes: Goes, answer: &Result<String, SchemaError>) -> bool {
        match (goes, answer) {
            (Goes::Well | Goes::Alone | Goes::Unheard, Ok(said)) => said == name,
            (Goes::Refused, Err(SchemaError::Sql(_))) => true,
            (Goes::Undone | Goes::AloneAndUndone, Err(SchemaError::Value(said))) => said == name,
            (Goes::Dies, Err(SchemaError::Died)) => true,
            _ => false,
        }
    }

    #[test]
    fn each_has_its_own_answer_and_what_was_acknowledged_is_there_after_it_was_opened_again() {
        let goes = prop_oneof![
            3 => Just(Goes::Well),
            1 => Just(Goes::Refused),
            1 => Just(Goes::Undone),
            1 => Just(Goes::Dies),
            1 => Just(Goes::Alone),
            1 => Just(Goes::AloneAndUndone),
            1 => Just(Goes::Unheard),
        ];
        let outcome =
            TestRunner::new(ProptestConfig::with_cases(32)).run(&prop::collection::vec(goes, 1..40), |all| {
                let folder = tempfile::tempdir().expect("a folder");
                let path = folder.path().join("a.db");
                let (runtime, store) = (runtime(), opened(&path));
                let answers = runtime.block_on(async {
                    let (release, held) = busy(&store).await;
                    let mut asked = Vec::new();
                    for (number, goes) in all.iter().copied().enumerate() {
                        let (store, name) = (store.clone(), format!("pc-{number:02}"));
                        asked.push(tokio::spawn(async move {
                            let change = move |w: &Writer<'_>| change(w, &name, goes);
                            match goes {
                                Goes::Alone | Goes::AloneAndUndone => store.write(change).await,
                                Goes::Refused => store.write_shared(change).await,
                                _ => store.write_aside(change).await,
                            }
                        }));
                    }
                    // All of them are in the queue, or wait for room in it.
                    for _ in 0..10 {
                        tokio::task::yield_now().await;
                    }
                    for (asked, goes) in asked.iter().zip(&all) {
                        if *goes == Goes::Unheard {
                            asked.abort();
                        }
                    }
                    drop(release);
                    held.await.expect("it ends");
                    let mut answers = Vec::new();
                    for asked in asked {
                        answers.push(asked.await.ok());
                    }
                    answers
                });
                store.close().expect("it closes");
                let store = opened(&path);
                let mut expected = Vec::new();
                for (number, (goes, answer)) in all.into_iter().zip(answers).enumerate() {
                    let name = format!("pc-{number:02}");
                    prop_assert_eq!(answer.is_none(), goes == Goes::Unheard);
                    if let Some(answer) = answer {
                        prop_assert!(is_right(&name, goes, &answer), "{} {:?}: {:?}", name, goes, answer);
                    }
                    if matches!(goes, Goes::Well | Goes::Alone | Goes::Unheard) {
                        expected.push(name);
                    }
                }
                prop_assert_eq!(kept(&store, &runtime), expected);
                Ok(())
            });
        outcome.unwrap();
    }

    /// What is committed is counted, and may be refused.
    async fn watched(store: &Store, refuses: bool) -> Arc<AtomicUsize> {
        let commits = Arc::new(AtomicUsize::new(0));
        let counted = commits.clone();
        let hook = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            refuses
        };
        let setting = move |w: &Writer<'_>| {
            w.connection.commit_hook(Some(hook))?;
            Err::<(), _>(SchemaError::Closed)
        };
        store.write(setting).await.expect_err("nothing is committed");
        commits
    }

    #[tokio::test]
    async fn what_waits_at_the_same_time_is_one_commit_and_what_does_not_share_has_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let store = opened(&folder.path().join("a.db"));
        let commits = watched(&store, false).await;
        for (shares, expected) in [(true, 1), (false, 50)] {
            let (release, held) = busy(&store).await;
            commits.store(0, Ordering::Relaxed);
            let asked: Vec<_> = (0..50)
                .map(|number| {
                    let store = store.clone();
                    tokio::spawn(async move {
                        let change = move |w: &Writer<'_>| seen(w, &format!("{shares} {number}"));
                        match shares {
                            true => store.write_aside(change).await,
                            false => store.write_aside_alone(change).await,
                        }
                    })
                })
                .collect();
            tokio::task::yield_now().await;
            drop(release);
            held.await.unwrap();
            for asked in asked {
                asked.await.unwrap().unwrap();
            }
            assert_eq!(commits.load(Ordering::Relaxed), expected, "shared: {shares}");
        }
        assert_eq!(store.read(|r| r.device_names()).await.unwrap().len(), 100);
        // One after the other they have nobody to share with, and are not kept waiting for anybody.
        commits.store(0, Ordering::Relaxed);
        for number in 0..3 {
            store.write_aside(move |w| seen(w, &format!("one {number}"))).await.unwrap();
        }
        assert_eq!(commits.load(Ordering::Relaxed), 3);
    }

    /// As after a power cut in the moment of each answer, with what the disk was told to keep.
    #[tokio::test]
    async fn what_is_answered_is_on_the_disk_already() {
        let (folder, cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = folder.path().join("a.db");
        let store = opened(&path);
        let synced = store
            .write(|w| Ok(w.connection.query_row("PRAGMA synchronous", [], |row| row.get::<_, i64>(0))?));
        assert_eq!(synced.await.unwrap(), 2, "each commit is synced");
        let (release, held) = busy(&store).await;
        let asked: Vec<_> = (0..12)
            .map(|number| {
                let (store, path, copy) =
                    (store.clone(), path.clone(), cut.path().join(format!("{number}.db")));
                tokio::spawn(async move {
                    let name = format!("pc-{number:02}");
                    let change = move |w: &Writer<'_>| seen(w, &name);
                    store.write_aside(change).await.expect("it is written");
                    for end in ["", "-wal"] {
                        let with = |path: &Path| format!("{}{end}", path.display());
                        std::fs::copy(with(&path), with(&copy)).expect("it is copied");
                    }
                    copy
                })
            })
            .collect();
        tokio::task::yield_now().await;
        drop(release);
        held.await.unwrap();
        for (number, asked) in asked.into_iter().enumerate() {
            let left = opened(&asked.await.unwrap());
            let names = left.read(|r| r.device_names()).await.unwrap();
            assert!(names.contains(&format!("pc-{number:02}")), "{number} is not in {names:?}");
        }
    }

    #[tokio::test]
    async fn a_commit_that_fails_is_told_to_all_that_were_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = opened(&folder.path().join("a.db"));
        watched(&store, true).await;
        let counted = store.commits();
        let (release, held) = busy(&store).await;
        let ask = |name: &'static str, goes| {
            let store = store.clone();
            tokio::spawn(async move { store.write_shared(move |w| change(w, name, goes)).await })
        };
        let asked =
            [("a", Goes::Well), ("b", Goes::Undone), ("c", Goes::Well)].map(|(name, goes)| ask(name, goes));
        tokio::task::yield_now().await;
        drop(release);
        held.await.unwrap();
        for asked in asked {
            let answer = asked.await.unwrap();
            assert!(matches!(answer, Err(SchemaError::Sql(_))), "{answer:?}");
        }
        assert_eq!(store.commits(), counted, "nothing was changed");
        let unsetting = |w: &Writer<'_>| {
            w.connection.commit_hook(None::<fn() -> bool>)?;
            Err::<(), _>(SchemaError::Closed)
        };
        store.write(unsetting).await.unwrap_err();
        assert!(store.read(|r| r.device_names()).await.unwrap().is_empty());
        ask("d", Goes::Well).await.unwrap().unwrap();
        assert_eq!(store.commits(), counted + 1);
        assert_eq!(store.read(|r| r.device_names()).await.unwrap(), ["d"]);
    }

    /// A full disk undoes the transaction, and with it what others had written.
    #[tokio::test]
    async fn whose_transaction_sqlite_undoes_is_told_so_and_who_comes_next_is_not_concerned() {
        let folder = tempfile::tempdir().unwrap();
        let store = opened(&folder.path().join("a.db"));
        store
            .write(|w| {
                let pages: i64 = w.connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
                w.connection.query_row(&format!("PRAGMA max_page_count = {}", pages + 8), [], |_| Ok(()))?;
                Ok(())
            })
            .await
            .unwrap();
        let (release, held) = busy(&store).await;
        let ask = |name: &'static str, fills: bool| {
            let store = store.clone();
            tokio::spawn(async move {
                let change = move |w: &Writer<'_>| {
                    seen(w, name)?;
                    if fills {
                        w.execute(
                            "INSERT INTO license_text VALUES (zeroblob(32), zeroblob(1000000), 0)",
                            [],
                        )?;
                    }
                    Ok(())
                };
                store.write_aside(change).await
            })
        };
        let asked = [ask("a", false), ask("b", true), ask("c", false)];
        tokio::task::yield_now().await;
        drop(release);
        held.await.unwrap();
        let mut codes = Vec::new();
        for asked in asked {
            codes.push(asked.await.unwrap().err().map(|error| error.code()));
        }
        assert_eq!(codes, [Some(Code::DiskFull), Some(Code::DiskFull), None]);
        assert_eq!(store.read(|r| r.device_names()).await.unwrap(), ["c"]);
    }
}
