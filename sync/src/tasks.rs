//! Long work as a record that anybody may watch: the command that started it, another command, the API.
//!
//! ```text
//! running ──▶ done | failed | cancelled          interrupted: its process died; found at the next start
//! ```
//! Progress is told to watchers as it happens and written to the database every few seconds; the end of a task is
//! written before anybody hears of it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use catalog::id::TaskId;
use catalog::problem::{Code, Problem};
use schema::Store;
use schema::tasks::{Phase, Task, TaskState, Unit};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tracing::{info, warn};

use crate::admin::{Answer, Event};
use crate::clock;

/// How often watchers hear of progress, at most.
const TELL: Duration = Duration::from_millis(200);
/// How often progress is written down, at most.
const WRITE: Duration = Duration::from_secs(3);

/// The tasks of this process.
#[derive(Clone)]
pub struct Tasks {
    store: Store,
    running: Arc<Mutex<HashMap<TaskId, Running>>>,
    ended: Arc<AtomicU64>,
}

/// What a task works on, and how. One at a time works on a thing; who wants the same of it joins, and who wants something else
/// is told to wait: the answer of a task is for what was asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    on: String,
    how: Option<String>,
}

impl Key {
    /// Something that is done to a thing. A dry run stands in nobody's way, and nobody takes it for the work itself.
    pub fn new(on: &str, how: &str, dry_run: bool) -> Self {
        match dry_run {
            true => Self { on: format!("dry run of {on}: {how}"), how: None },
            false => Self { on: on.to_owned(), how: Some(how.to_owned()) },
        }
    }
}

/// Work that joins whatever is done to the thing already.
impl From<String> for Key {
    fn from(on: String) -> Self {
        Self { on, how: None }
    }
}

struct Running {
    key: Key,
    state: watch::Sender<Task>,
    abort: AbortHandle,
}

impl Tasks {
    /// No task runs yet.
    pub fn new(store: Store) -> Self {
        Self { store, running: Arc::default(), ended: Arc::default() }
    }

    /// Starts `work` as a task, or joins the one that does the same already.
    ///
    /// # Errors
    /// `TASK_BUSY` where something else is done to the same thing; those of the database.
    pub async fn start<F, W>(
        &self,
        kind: &str,
        title: String,
        key: impl Into<Key>,
        work: W,
    ) -> Result<TaskId, Problem>
    where
        W: FnOnce(Progress) -> F,
        F: Future<Output = Result<Answer, Problem>> + Send + 'static,
    {
        let key = key.into();
        if let Some(joined) = joins(&self.lock(), &key) {
            return joined;
        }
        let kind = kind.to_owned();
        let task = self.store.write(move |w| w.begin_task(&kind, &title, clock::now())).await?;
        let id = task.id;
        let (state, _) = watch::channel(task);
        let progress = Progress {
            id,
            store: self.store.clone(),
            state: state.clone(),
            paced: Arc::default(),
            runtime: tokio::runtime::Handle::current(),
        };
        let tasks = self.clone();
        let working = work(progress);
        // The map is locked until the entry stands, so that a task that ends at once still finds itself there.
        let joined = {
            let mut running = self.lock();
            let other = joins(&running, &key);
            if other.is_none() {
                let handle = tokio::spawn({
                    let state = state.clone();
                    async move {
                        // A set of its own: a panic of the work ends its task too, and cancelling ends the work.
                        let mut set = tokio::task::JoinSet::new();
                        set.spawn(working);
                        let ended = match set.join_next().await {
                            Some(Ok(ended)) => ended,
                            died => Err(Problem::new(Code::Internal, "the task ended by a defect").because(
                                died.and_then(Result::err).map_or_else(String::new, |died| died.to_string()),
                            )),
                        };
                        tasks.finish(state, ended).await;
                    }
                });
                running.insert(id, Running { key, state: state.clone(), abort: handle.abort_handle() });
            }
            other
        };
        if let Some(other) = joined {
            let superseded = Problem::new(Code::Cancelled, "another task already works on this");
            self.finish(state, Err(superseded)).await;
            return other;
        }
        Ok(id)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TaskId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many tasks have ended since this process began; one that is not among those that work any more is counted.
    pub fn ended(&self) -> u64 {
        self.ended.load(Ordering::Acquire)
    }

    /// The task that works on this, if one does.
    pub fn working_on(&self, on: &str) -> Option<TaskId> {
        self.lock().iter().find(|(_, task)| task.key.on == on).map(|(id, _)| *id)
    }

    /// Ends a task: written down first, then told. Of two ends at once the first one counts.
    async fn finish(&self, state: watch::Sender<Task>, ended: Result<Answer, Problem>) {
        let (end, body, problem) = match ended {
            Ok(Answer { body, problem }) => (TaskState::Done, Some(body), problem),
            Err(problem) if problem.code == Code::Cancelled => (TaskState::Cancelled, None, Some(problem)),
            Err(problem) if problem.code == Code::Interrupted => {
                (TaskState::Interrupted, None, Some(problem))
            }
            Err(problem) => (TaskState::Failed, None, Some(problem)),
        };
        let task = Task {
            state: end,
            finished: Some(clock::now()),
            result: body,
            problem,
            ..state.borrow().clone()
        };
        let written = {
            let task = task.clone();
            self.store.write_aside(move |w| {
                w.end_task(&task)?;
                w.task(task.id)
            })
        };
        let task = match written.await {
            Ok(recorded) => recorded.unwrap_or(task),
            Err(error) => {
                tracing::error!("the end of a task cannot be recorded: {error}");
                task
            }
        };
        match &task.problem {
            Some(problem) => warn!(task.id = %task.id, "task {} ({}) ended: {problem}", task.id, task.title),
            None => info!(task.id = %task.id, "task {} ({}) is done", task.id, task.title),
        }
        self.ended.fetch_add(1, Ordering::Release);
        // Forgotten before it is told: who hears of the end and asks again starts anew, and does not join what is over.
        self.lock().remove(&task.id);
        state.send_replace(task);
    }

    /// Tells `events` how far the task is, until it has ended; then gives its answer. It ends where nobody listens any more;
    /// the task goes on.
    ///
    /// # Errors
    /// The task's own problem; `TASK_NOT_FOUND`; `INTERRUPTED` where nobody listens.
    pub async fn watch(&self, id: TaskId, events: &mpsc::Sender<Event>) -> Result<Answer, Problem> {
        let receiver = self.lock().get(&id).map(|running| running.state.subscribe());
        let Some(mut receiver) = receiver else { return ended(self.get(id).await?) };
        loop {
            let task = receiver.borrow_and_update().clone();
            let over = task.finished.is_some();
            // A slow reader must not hold the task back: what it misses, the next event says again.
            let _ = events.try_send(Event::Task { task: task.clone() });
            if over {
                return ended(task);
            }
            tokio::select! {
                changed = receiver.changed() => if changed.is_err() {
                    return ended(self.get(id).await?);
                },
                () = events.closed() => {
                    let message = format!("nobody waits for task {id} any more");
                    return Err(Problem::new(Code::Interrupted, message));
                }
            }
            // Progress is told five times a second; the end at once.
            let _ = tokio::time::timeout(TELL, receiver.wait_for(|task| task.finished.is_some())).await;
        }
    }

    /// The newest tasks first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn list(&self, limit: u32) -> Result<Vec<Task>, Problem> {
        let mut tasks = self.store.read(move |r| r.tasks(limit)).await?;
        for task in &mut tasks {
            self.freshen(task);
        }
        Ok(tasks)
    }

    /// One task, as far as it is now.
    ///
    /// # Errors
    /// `TASK_NOT_FOUND`, or those of the database.
    pub async fn get(&self, id: TaskId) -> Result<Task, Problem> {
        let mut task = self
            .store
            .read(move |r| r.task(id))
            .await?
            .ok_or_else(|| Problem::new(Code::TaskNotFound, format!("there is no task {id}")))?;
        self.freshen(&mut task);
        Ok(task)
    }

    fn freshen(&self, task: &mut Task) {
        if let Some(running) = self.lock().get(&task.id) {
            *task = running.state.borrow().clone();
        }
    }

    /// Ends a task of this process; what it received and recorded is kept.
    ///
    /// # Errors
    /// `TASK_NOT_FOUND`, or those of the database.
    pub async fn cancel(&self, id: TaskId) -> Result<Task, Problem> {
        let running = self.lock().remove(&id);
        if let Some(running) = running {
            running.abort.abort();
            self.finish(
                running.state,
                Err(Problem::new(Code::Cancelled, format!("task {id} was cancelled"))),
            )
            .await;
        }
        self.get(id).await
    }

    /// Ends every task, because the process ends: they are marked interrupted. One that has just ended stays as it is.
    pub async fn interrupt(&self) {
        let all: Vec<_> = self.lock().drain().map(|(_, running)| running).collect();
        for running in all {
            running.abort.abort();
            let stopped = Problem::new(Code::Interrupted, "the process that worked on it was stopped");
            self.finish(running.state, Err(stopped)).await;
        }
    }

    /// Numbers and titles of what runs now.
    pub fn running(&self) -> Vec<Task> {
        let mut tasks: Vec<_> = self.lock().values().map(|running| running.state.borrow().clone()).collect();
        tasks.sort_by_key(|task| task.id);
        tasks
    }
}

/// What comes of asking for `key` while these run: a task to join, or a refusal; `None` where nothing is in the way.
fn joins(running: &HashMap<TaskId, Running>, key: &Key) -> Option<Result<TaskId, Problem>> {
    let (id, task) = running.iter().find(|(_, task)| task.key.on == key.on)?;
    if key.how.is_none() || task.key.how == key.how {
        info!(task.id = %id, "joined task {id}, which works on {}", key.on);
        return Some(Ok(*id));
    }
    let message = format!("task {id} ({}) does something else to it", task.state.borrow().title);
    let problem = Problem::new(Code::TaskBusy, message)
        .help(format!("`spsync task wait {id}`, or `spsync task cancel {id}`; then the same again"));
    Some(Err(problem))
}

fn ended(task: Task) -> Result<Answer, Problem> {
    match (task.state, task.result, task.problem) {
        (TaskState::Done, body, problem) => Ok(Answer { body: body.unwrap_or_default(), problem }),
        (_, _, Some(problem)) => Err(problem),
        (state, _, None) => {
            Err(Problem::new(Code::Interrupted, format!("task {} is {state:?} without a result", task.id)))
        }
    }
}

/// How a task tells how far it is. Cheap to clone and to call often.
#[derive(Clone)]
pub struct Progress {
    /// The task that this is about.
    pub id: TaskId,
    store: Store,
    state: watch::Sender<Task>,
    paced: Arc<Mutex<Option<Instant>>>,
    /// Who calls may stand on a thread of its own, the database's writer for one.
    runtime: tokio::runtime::Handle,
}

impl Progress {
    /// Adds a phase, or restarts the one of this name; `total` 0 means unknown.
    pub fn phase(&self, name: &str, total: u64, unit: Unit) {
        self.change(name, |phase| {
            (phase.done, phase.total, phase.unit) = (0, total, unit);
        });
    }

    /// Sets how far a phase is, and of how much; adds the phase where there is none.
    pub fn reach(&self, name: &str, done: u64, total: u64, unit: Unit) {
        self.change(name, |phase| {
            (phase.done, phase.total, phase.unit) = (done, total, unit);
        });
    }

    /// Sets how far a phase is.
    pub fn at(&self, name: &str, done: u64) {
        self.change(name, |phase| phase.done = done);
    }

    /// Ends a phase with a remark.
    pub fn end(&self, name: &str, message: impl Into<String>) {
        let message = message.into();
        self.change(name, |phase| {
            phase.message = Some(message);
            phase.ended = true;
        });
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Phase)) {
        self.state.send_modify(|task| match task.phases.iter_mut().find(|phase| phase.name == name) {
            Some(phase) => change(phase),
            None => {
                let mut phase = Phase { name: name.to_owned(), ..Phase::default() };
                change(&mut phase);
                task.phases.push(phase);
            }
        });
        self.write_sometimes();
    }

    fn write_sometimes(&self) {
        let mut paced = self.paced.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if paced.get_or_insert(now).elapsed() < WRITE {
            return;
        }
        *paced = Some(now);
        let (store, task) = (self.store.clone(), self.state.borrow().clone());
        // A task that has ended meanwhile is not written over: `update_progress` only touches running ones.
        self.runtime.spawn(async move {
            if let Err(error) = store.write_aside(move |w| w.update_progress(&task)).await {
                warn!("the progress of a task cannot be recorded: {error}");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn tasks() -> (tempfile::TempDir, Tasks) {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("a.db"), 1).expect("a database");
        (folder, Tasks::new(store))
    }

    async fn begun(tasks: &Tasks, key: impl Into<Key>) -> Result<TaskId, Code> {
        let never = |_| std::future::pending();
        tasks.start("test", "a test".to_owned(), key, never).await.map_err(|problem| problem.code)
    }

    #[tokio::test]
    async fn only_who_wants_the_same_joins_a_task() {
        let (_folder, tasks) = tasks().await;
        let dry = begun(&tasks, Key::new("package P", "download", true)).await.unwrap();
        assert_eq!(tasks.working_on("package P"), None, "a dry run is in nobody's way");
        let real = begun(&tasks, Key::new("package P", "download", false)).await.unwrap();
        assert_ne!(real, dry, "a dry run has done nothing");
        assert_eq!(tasks.working_on("package P"), Some(real));
        for (key, expected) in [
            (Key::new("package P", "download", false), Ok(real)),
            (Key::new("package P", "download", true), Ok(dry)),
            (Key::new("package P", "validate", false), Err(Code::TaskBusy)),
            (Key::from("package P".to_owned()), Ok(real)),
        ] {
            assert_eq!(begun(&tasks, key.clone()).await, expected, "{key:?}");
        }
        let other = begun(&tasks, Key::new("package P", "validate", true)).await.unwrap();
        assert!(other != real && other != dry);
        assert!(begun(&tasks, Key::new("package Q", "validate", false)).await.is_ok());
        tasks.interrupt().await;
    }

    #[tokio::test]
    async fn a_watcher_ends_with_who_listens_and_the_task_goes_on() {
        let (_folder, tasks) = tasks().await;
        let id = begun(&tasks, "x".to_owned()).await.unwrap();
        let (events, mut inbox) = mpsc::channel(16);
        let watching = tokio::spawn({
            let tasks = tasks.clone();
            async move { tasks.watch(id, &events).await }
        });
        assert!(matches!(inbox.recv().await, Some(Event::Task { .. })));
        drop(inbox);
        let ended = tokio::time::timeout(Duration::from_secs(20), watching).await;
        let problem = ended.expect("it ends").unwrap().unwrap_err();
        assert_eq!((problem.code, tasks.working_on("x")), (Code::Interrupted, Some(id)));
        tasks.interrupt().await;
    }
}
