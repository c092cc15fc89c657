//! One writer, a few readers: the only bridge from async code to SQLite.
//!
//! A change runs on the writer's own thread inside one immediate transaction, of its own or with other short ones
//! (`together.rs`), and is durable when the call returns. A question runs on the blocking pool with one of the read connections, each seeing one consistent state.

use std::ops::Deref;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::{CachedStatement, Connection, Params, Row, Transaction, TransactionBehavior};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::open::{self, SchemaError};
use crate::together::{self, Change, Waiting};
use crate::unchanged::Only;

/// Changes that may wait for the writer; more of them wait outside.
const QUEUE: usize = 64;

/// The database of a site. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    changes: Mutex<Option<mpsc::Sender<Change>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    readers: Mutex<Vec<Reading>>,
    free: Arc<Semaphore>,
    /// How often something was changed; only the writer's thread counts.
    commits: Arc<AtomicU64>,
}

/// A read connection, which gives up the question that nobody waits for any more.
struct Reading {
    connection: Connection,
    given_up: Arc<GivenUp>,
}

/// Which question of a connection runs, and which one nobody waits for. Of the latter there may be one that was answered long ago:
/// numbers tell it from the one that runs.
#[derive(Default)]
struct GivenUp {
    runs: AtomicU64,
    left: AtomicU64,
}

/// Statements look so often, by SQLite's own steps, whether anybody waits for them: several times a millisecond.
const LOOK: i32 = 10_000;

impl Reading {
    fn new(connection: Connection) -> Result<Self, SchemaError> {
        let given_up = Arc::new(GivenUp::default());
        let look = given_up.clone();
        connection.progress_handler(LOOK, Some(move || look.is_left()))?;
        Ok(Self { connection, given_up })
    }

    /// The next question: whoever asks it holds this for as long as an answer is of use.
    fn asked(&self) -> Asked {
        let question = self.given_up.runs.fetch_add(1, Ordering::Relaxed) + 1;
        Asked { question, given_up: self.given_up.clone() }
    }
}

impl GivenUp {
    /// Whether nobody waits for the one that runs.
    fn is_left(&self) -> bool {
        self.left.load(Ordering::Relaxed) == self.runs.load(Ordering::Relaxed)
    }
}

/// Somebody waits for the answer to a question.
struct Asked {
    question: u64,
    given_up: Arc<GivenUp>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        // Late, where the question was answered: the connection has another one then, of a later number.
        self.given_up.left.fetch_max(self.question, Ordering::Relaxed);
    }
}

/// Questions, over one consistent state.
pub struct Reader<'c> {
    pub(crate) connection: &'c Connection,
}

/// Changes, all in one transaction; also every question.
pub struct Writer<'c> {
    reader: Reader<'c>,
}

impl<'c> Deref for Writer<'c> {
    type Target = Reader<'c>;
    fn deref(&self) -> &Reader<'c> {
        &self.reader
    }
}

impl Store {
    /// Opens or creates the database at `path`, applies missing steps, and opens `readers` read connections.
    ///
    /// # Errors
    /// [`SchemaError::TooNew`], [`SchemaError::Foreign`], [`SchemaError::Open`], [`SchemaError::Migrate`].
    pub fn open(path: &Path, readers: usize) -> Result<Self, SchemaError> {
        let mut connection = open::writer(path)?;
        let readers = readers.max(1);
        let connections =
            (0..readers).map(|_| Reading::new(open::reader(path)?)).collect::<Result<Vec<_>, _>>()?;
        let (changes, mut inbox) = mpsc::channel::<Change>(QUEUE);
        let writer = std::thread::Builder::new()
            .name("spsync-writer".to_owned())
            .spawn(move || {
                let mut next = None;
                while let Some(change) = next.take().or_else(|| inbox.blocking_recv()) {
                    match change {
                        // A defect in one change must not end the database for all others. Its transaction is rolled
                        // back while the panic unwinds, and whoever waits is told that it died.
                        Change::Alone(change) => {
                            let _ = std::panic::catch_unwind(AssertUnwindSafe(|| change(&mut connection)));
                        }
                        Change::Shared(first) => {
                            next = together::run(&mut connection, first, || inbox.try_recv().ok());
                        }
                    }
                }
                // Leaves no write-ahead log behind; a failure only means that the next start does it.
                let _ = connection.pragma_update(None, "wal_checkpoint", "TRUNCATE");
            })
            .map_err(|error| SchemaError::Value(format!("the writer's thread cannot be started: {error}")))?;
        Ok(Self {
            inner: Arc::new(Inner {
                changes: Mutex::new(Some(changes)),
                writer: Mutex::new(Some(writer)),
                readers: Mutex::new(connections),
                free: Arc::new(Semaphore::new(readers)),
                commits: Arc::default(),
            }),
        })
    }

    /// Runs `change` in a transaction of its own. It is durable when this returns `Ok`; after `Err` nothing has changed.
    ///
    /// # Errors
    /// What `change` answers; [`SchemaError::Sql`] where the commit fails; [`SchemaError::Died`] where it panics;
    /// [`SchemaError::Closed`].
    pub async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Writer<'_>) -> Result<T, SchemaError> + Send + 'static,
    ) -> Result<T, SchemaError> {
        self.make(change, true).await
    }

    /// The same for what is short and comes from many at once: those that wait at the same time share a transaction, and one sync of the
    /// disk. What one is refused harms no other; what SQLite checks only at the commit is not for here, nor what runs for long.
    ///
    /// # Errors
    /// Those of [`Store::write`]; where the transaction fails, [`SchemaError::Sql`] to all that are in it.
    pub async fn write_shared<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Writer<'_>) -> Result<T, SchemaError> + Send + 'static,
    ) -> Result<T, SchemaError> {
        match Only::of_this_task() {
            // Whoever is in the transaction before it is not counted yet.
            Some(_) => self.make(change, true).await,
            None => self.make_shared(change, true).await,
        }
    }

    /// [`Store::write_shared`] for what machines say of themselves: that they live, how far they are. It goes on all the time, is no
    /// setting of anything, and so no reason to look at a setting again before it is changed ([`Store::unchanged`]).
    ///
    /// # Errors
    /// Those of [`Store::write_shared`].
    pub async fn write_aside<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Writer<'_>) -> Result<T, SchemaError> + Send + 'static,
    ) -> Result<T, SchemaError> {
        self.make_shared(change, false).await
    }

    /// [`Store::write`] for what machines have said of themselves, where it is much at once.
    ///
    /// # Errors
    /// Those of [`Store::write`].
    pub async fn write_aside_alone<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Writer<'_>) -> Result<T, SchemaError> + Send + 'static,
    ) -> Result<T, SchemaError> {
        self.make(change, false).await
    }

    async fn make<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Writer<'_>) -> Result<T, SchemaError> + Send + 'static,
        counts: bool,
    ) -> Result<T, SchemaError> {
        let (answer, answered) = oneshot::channel();
        let (only, commits) = (Only::of_this_task().filter(|_| counts), self.inner.commits.clone());
        let work = Change::Alone(Box::new(move |connection| {
            let before = connection.total_changes();
            let allowed = only.map_or(Ok(()), |only| only.allows(&commits));
            let made = allowed.and_then(|()| transact(connection, change));
            if counts && made.is_ok() && connection.total_changes() != before {
                commits.fetch_add(1, Ordering::Release);
            }
            // Nobody waits for the answer any more if the task was cancelled; the change is made all the same.
            let _ = answer.send(made);
        }));
        self.ask(work, answered).await
    }

    async fn make_shared<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Writer<'_>) -> Result<T, SchemaError> + Send + 'static,
        counts: bool,
    ) -> Result<T, SchemaError> {
        let (answer, answered) = oneshot::channel();
        let counted = counts.then(|| self.inner.commits.clone());
        self.ask(Change::Shared(Box::new(Waiting::new(change, counted, answer))), answered).await
    }

    async fn ask<T>(
        &self,
        work: Change,
        answered: oneshot::Receiver<Result<T, SchemaError>>,
    ) -> Result<T, SchemaError> {
        let changes = self.inner.changes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        changes.ok_or(SchemaError::Closed)?.send(work).await.map_err(|_| SchemaError::Closed)?;
        answered.await.map_err(|_| SchemaError::Died)?
    }

    /// How many changes wait for their turn; the one that is being made is none of them.
    pub fn changes_waiting(&self) -> usize {
        let changes = self.inner.changes.lock().unwrap_or_else(PoisonError::into_inner);
        changes.as_ref().map_or(0, |changes| changes.max_capacity() - changes.capacity())
    }

    /// How often something was changed since it was opened, but for what was written aside.
    pub fn commits(&self) -> u64 {
        self.inner.commits.load(Ordering::Acquire)
    }

    /// Asks `question` of one consistent state. Where the future is dropped, because who asked went away or its time is over, the
    /// statement that runs ends in the middle: others wait for the connection.
    ///
    /// # Errors
    /// What `question` answers; [`SchemaError::Closed`].
    pub async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Reader<'_>) -> Result<T, SchemaError> + Send + 'static,
    ) -> Result<T, SchemaError> {
        let store = self.clone();
        let turn = self.inner.free.clone().acquire_owned().await.map_err(|_| SchemaError::Closed)?;
        let pop = || store.inner.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let reading = pop().ok_or(SchemaError::Closed)?;
        let asked = reading.asked();
        let home = Home { store: store.clone(), reading: Some(reading), _turn: turn };
        let answer = tokio::task::spawn_blocking(move || {
            let reading = home.reading.as_ref().ok_or(SchemaError::Closed)?;
            let transaction = reading.connection.unchecked_transaction()?;
            question(&Reader { connection: &transaction })
        })
        .await;
        drop(asked);
        answer.map_err(|_| SchemaError::Closed)?
    }

    /// Waits for the changes that are under way, writes the log back, and closes.
    ///
    /// # Errors
    /// [`SchemaError::Closed`] where the writer's thread died.
    pub fn close(&self) -> Result<(), SchemaError> {
        self.inner.changes.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.inner.readers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let writer = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        writer.map_or(Ok(()), |writer| writer.join().map_err(|_| SchemaError::Closed))
    }
}

/// Brings a read connection back, also when the question panicked, and where nobody waits for its answer any more. The turn of
/// the next one begins when it is back, and not before.
struct Home {
    store: Store,
    reading: Option<Reading>,
    _turn: OwnedSemaphorePermit,
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some(reading) = self.reading.take() {
            self.store.inner.readers.lock().unwrap_or_else(PoisonError::into_inner).push(reading);
        }
    }
}

fn transact<T>(
    connection: &mut Connection,
    change: impl FnOnce(&Writer<'_>) -> Result<T, SchemaError>,
) -> Result<T, SchemaError> {
    let transaction = Transaction::new(connection, TransactionBehavior::Immediate)?;
    // A dropped transaction rolls back: on every error, and on a panic of `change`.
    let answer = change(&Writer::on(&transaction))?;
    transaction.commit()?;
    Ok(answer)
}

impl Reader<'_> {
    pub(crate) fn statement(&self, sql: &str) -> Result<CachedStatement<'_>, SchemaError> {
        #[cfg(test)]
        crate::plans::note(sql);
        Ok(self.connection.prepare_cached(sql)?)
    }

    pub(crate) fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        row: impl FnMut(&Row<'_>) -> Result<T, SchemaError>,
    ) -> Result<Vec<T>, SchemaError> {
        self.statement(sql)?.query_and_then(params, row)?.collect()
    }

    pub(crate) fn first<T>(
        &self,
        sql: &str,
        params: impl Params,
        row: impl FnMut(&Row<'_>) -> Result<T, SchemaError>,
    ) -> Result<Option<T>, SchemaError> {
        self.statement(sql)?.query_and_then(params, row)?.next().transpose()
    }
}

impl<'c> Writer<'c> {
    /// Changes by way of this connection, which is in a transaction.
    pub(crate) fn on(connection: &'c Connection) -> Self {
        Self { reader: Reader { connection } }
    }

    /// Runs a statement; answers how many rows it changed.
    pub(crate) fn execute(&self, sql: &str, params: impl Params) -> Result<usize, SchemaError> {
        Ok(self.statement(sql)?.execute(params)?)
    }

    pub(crate) fn last_id(&self) -> i64 {
        self.connection.last_insert_rowid()
    }
}
