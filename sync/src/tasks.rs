//! Long work as a record that anybody may watch: the command that started it, another command, later the API.
//!
//! ```text
//! running ──▶ done | failed | cancelled          interrupted: its process died; found at the next start
//! ```
//! Progress is told to watchers as it happens and written to the database every few seconds; the end of a task is
//! written before anybody hears of it.

use std::collections::HashMap;
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
use crate::site::problem;

/// How often watchers hear of progress, at most.
const TELL: Duration = Duration::from_millis(200);
/// How often progress is written down, at most.
const WRITE: Duration = Duration::from_secs(3);

/// The tasks of this process.
#[derive(Clone)]
pub struct Tasks {
    store: Store,
    running: Arc<Mutex<HashMap<TaskId, Running>>>,
}

struct Running {
    /// What it works on: a second task of the same key joins the first.
    key: String,
    state: watch::Sender<Task>,
    abort: AbortHandle,
}

impl Tasks {
    /// No task runs yet.
    pub fn new(store: Store) -> Self {
        Self { store, running: Arc::default() }
    }

    /// Starts `work` as a task, or joins the one that already works on `key`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn start<F, W>(
        &self,
        kind: &str,
        title: String,
        key: String,
        work: W,
    ) -> Result<TaskId, Problem>
    where
        W: FnOnce(Progress) -> F,
        F: Future<Output = Result<Answer, Problem>> + Send + 'static,
    {
        if let Some(id) = self.working_on(&key) {
            info!(task.id = %id, "joined task {id}, which works on {key}");
            return Ok(id);
        }
        let kind = kind.to_owned();
        let task =
            self.store.write(move |w| w.begin_task(&kind, &title, clock::now())).await.map_err(problem)?;
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
            let other = running.iter().find(|(_, task)| task.key == key).map(|(id, _)| *id);
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
            let superseded = Problem::new(Code::Cancelled, format!("task {other} already works on this"));
            self.finish(state, Err(superseded)).await;
            return Ok(other);
        }
        Ok(id)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TaskId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The task that works on `key`, if one does.
    pub fn working_on(&self, key: &str) -> Option<TaskId> {
        self.lock().iter().find(|(_, task)| task.key == key).map(|(id, _)| *id)
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
            self.store.write(move |w| {
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
        // Forgotten before it is told: who hears of the end and asks again starts anew, and does not join what is over.
        self.lock().remove(&task.id);
        state.send_replace(task);
    }

    /// Tells `events` how far the task is, until it has ended; then gives its answer.
    ///
    /// # Errors
    /// The task's own problem; `TASK_NOT_FOUND`.
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
            if receiver.changed().await.is_err() {
                return ended(self.get(id).await?);
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
        let mut tasks = self.store.read(move |r| r.tasks(limit)).await.map_err(problem)?;
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
            .await
            .map_err(problem)?
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
            if let Err(error) = store.write(move |w| w.update_progress(&task)).await {
                warn!("the progress of a task cannot be recorded: {error}");
            }
        });
    }
}
