//! The one code path of every command: a request in, events and one answer out.

mod points;
mod request;
mod verbs;
pub mod wire;

use std::sync::Arc;

use catalog::problem::{Code, Problem};
use schema::tasks::Task;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc;

pub use points::PointVerb;
pub use request::{Envelope, Mark, Request, SelectionChange, UpdateFilter};

use crate::site::Site;
use crate::{boundaries, device_plane, licensing, locations, packages, run, updates};

/// What a site says while and after it carries a request out.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// How far the task is.
    Task {
        /// The whole record.
        task: Task,
    },
    /// The work is done, or as much of it as could be.
    Done {
        /// The answer: the body that `-o json` prints.
        body: Value,
        /// Why it is not all of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        problem: Option<Problem>,
    },
    /// Nothing was done.
    Failed {
        /// Why.
        problem: Problem,
    },
}

/// What a verb answers with.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The body that `-o json` prints.
    pub body: Value,
    /// Why it is not all that was asked for.
    pub problem: Option<Problem>,
}

impl Answer {
    /// Everything was done.
    ///
    /// # Errors
    /// `INTERNAL` where the value has no JSON form.
    pub fn of(body: &impl Serialize) -> Result<Self, Problem> {
        Self::partly(body, None)
    }

    /// Part of it was done, unless `problem` is `None`.
    ///
    /// # Errors
    /// `INTERNAL` where the value has no JSON form.
    pub fn partly(body: &impl Serialize, problem: Option<Problem>) -> Result<Self, Problem> {
        let body = serde_json::to_value(body).map_err(|error| Problem::of(Code::Internal, &error))?;
        Ok(Self { body, problem })
    }
}

/// Who asks, and whether anything may change.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The user, as the audit records it.
    pub who: String,
    /// Nothing may change: answer with what would.
    pub dry_run: bool,
}

/// Carries a request out. Exactly one `Done` or `Failed` ends the events.
pub async fn answer(site: &Arc<Site>, envelope: Envelope, who: &str, events: mpsc::Sender<Event>) {
    let caller = Caller { who: who.to_owned(), dry_run: envelope.dry_run };
    let told = envelope.request.bears_on_devices() && !envelope.dry_run;
    let mut goes_on = None;
    let ended = match dispatch(site, envelope.request, &caller).await {
        Ok(Work::Answered(answer)) => {
            if let Some(problem) = &answer.problem {
                refused(problem, who);
            }
            Ok(answer)
        }
        Ok(Work::Started(task)) if envelope.no_wait => {
            goes_on = Some(task);
            site.tasks.get(task).await.and_then(|task| Answer::of(&task))
        }
        Ok(Work::Started(task)) => {
            let ended = site.tasks.watch(task, &events).await;
            goes_on = events.is_closed().then_some(task);
            ended
        }
        // Held back, and perhaps begun anew: who asked for that says how it ended.
        Err(problem) if problem.code == Code::ApiPreconditionFailed => {
            let _ = events.send(Event::Failed { problem }).await;
            return;
        }
        Err(problem) => {
            refused(&problem, who);
            Err(problem)
        }
    };
    // Whoever changed what is served has offered it already: devices hear of it afterwards.
    if told {
        tell_devices(site).await;
    }
    if let Some(task) = goes_on.filter(|_| told) {
        tokio::spawn(tell_devices_after(site.clone(), task));
    }
    let last = match ended {
        Ok(Answer { body, problem }) => Event::Done { body, problem },
        Err(problem) => Event::Failed { problem },
    };
    // Nobody may be listening any more; the work is done all the same.
    let _ = events.send(last).await;
}

/// Nobody waits for the task; what it comes to concerns devices all the same.
async fn tell_devices_after(site: Arc<Site>, task: catalog::id::TaskId) {
    let (events, _listening) = mpsc::channel(1);
    let _ = site.tasks.watch(task, &events).await;
    tell_devices(&site).await;
}

async fn tell_devices(site: &Arc<Site>) {
    if let Err(problem) = device_plane::refresh(site).await {
        tracing::error!("policies cannot be made: {problem}");
    }
}

/// The line of the log with the code that the asker is given. A task says so itself where it ends.
fn refused(problem: &Problem, who: &str) {
    tracing::info!(code = %problem.code, "refused {who}: {problem}");
}

/// Short work answers at once; long work is a task.
pub enum Work {
    /// The answer.
    Answered(Answer),
    /// The task that works on it; another command may have started it.
    Started(catalog::id::TaskId),
}

impl From<Answer> for Work {
    fn from(answer: Answer) -> Self {
        Self::Answered(answer)
    }
}

/// No list is longer: each entry may be large.
const LONGEST_LIST: u32 = 10_000;

async fn dispatch(site: &Arc<Site>, request: Request, caller: &Caller) -> Result<Work, Problem> {
    points::may_be_asked(site, &request)?;
    Ok(match request {
        Request::Now { full } => return run::start(site, full, caller).await,
        Request::Status => Answer::of(&crate::status::of(site).await?)?.into(),
        Request::SyncHistory { limit } => run::history(site, limit.min(LONGEST_LIST)).await?.into(),
        Request::SyncShow { run } => run::show(site, catalog::id::RunId(run)).await?.into(),
        Request::SyncTest { source } => Answer::of(&run::test(site, source.as_deref()).await?)?.into(),
        Request::SyncPlan { change } => updates::selection::plan(site, &change).await?.into(),
        Request::SyncSelect { change } => updates::selection::select(site, &change, caller).await?.into(),
        Request::UpdatesList(filter) => updates::list(site, &filter).await?.into(),
        Request::UpdatesShow { update } => updates::show(site, &update).await?.into(),
        Request::UpdatesMark { updates: names, mark } => {
            updates::mark(site, &names, mark, caller).await?.into()
        }
        Request::UpdatesImport { file } => return crate::import::start(site, file, caller).await,
        Request::UpdatesExport { file } => return crate::export::start(site, file, caller).await,
        Request::SupersedencePlan => updates::supersedence::show(site).await?.into(),
        Request::UpdatesGc { confirmed } => {
            updates::retention::collect(site, confirmed, caller).await?.into()
        }
        Request::Categories => Answer::of(&site.read(|r| r.categories()).await?)?.into(),
        Request::LicenseList { pending } => licensing::list(site, pending).await?.into(),
        Request::LicenseReview { update, language, text } => {
            licensing::review(site, &update, language, text, caller).await?.into()
        }
        Request::LicenseDecide { updates, accept, text } => {
            licensing::decide(site, &updates, accept, text, caller).await?.into()
        }
        Request::PackageCreate { name, description, source, access } => {
            packages::create(site, &name, &description, source, access, caller).await?.into()
        }
        Request::PackageSet { package, access } => {
            packages::set_access(site, &package, access, caller).await?.into()
        }
        Request::PackageList => packages::list(site).await?.into(),
        Request::PackageShow { package } => packages::show(site, &package).await?.into(),
        Request::PackageAdd { package, updates, filter } => {
            packages::add(site, &package, &updates, &filter, caller).await?.into()
        }
        Request::PackageDrop { package, updates } => {
            packages::drop_updates(site, &package, &updates, caller).await?.into()
        }
        Request::PackageDownload { package, from, mirror } => {
            return crate::download::start(site, &package, from, mirror, caller).await;
        }
        Request::PackageDistribute { package, to } => {
            return packages::distribute(site, &package, &to, caller).await;
        }
        Request::PackageWithdraw { package, from } => {
            packages::withdraw(site, &package, &from, caller).await?.into()
        }
        Request::PackageValidate { package, repair } => {
            return packages::validate(site, &package, repair, caller).await;
        }
        Request::PackageDelete { package } => packages::delete(site, &package, caller).await?.into(),
        Request::Points { act } => points::dispatch(site, act, caller).await?.into(),
        Request::Tls { act } => crate::tls::carry_out(site, act, caller).await?.into(),
        Request::ContentList => packages::content::list(site).await?.into(),
        Request::ContentShow { content } => packages::content::show(site, &content).await?.into(),
        Request::ContentLocate { client: address, device, content, elapsed_seconds, engine } => {
            let elapsed = std::time::Duration::from_secs(elapsed_seconds);
            let client = locations::Client { address, device };
            locations::locate(site, client, &content, elapsed, engine).await?.into()
        }
        Request::BoundaryAdd { values, name, groups } => {
            boundaries::add(site, &values, &name, &groups, caller).await?.into()
        }
        Request::BoundaryList => boundaries::list(site).await?.into(),
        Request::BoundaryWhich { client } => boundaries::which(site, &client).await?.into(),
        Request::BoundaryRemove { values } => boundaries::remove(site, &values, caller).await?.into(),
        Request::BoundaryGroupCreate { group, change } => {
            boundaries::create(site, &group, &change, caller).await?.into()
        }
        Request::BoundaryGroupList => boundaries::group_list(site).await?.into(),
        Request::BoundaryGroupShow { group } => boundaries::show(site, &group).await?.into(),
        Request::BoundaryGroupSet { group, options } => {
            boundaries::set(site, &group, &options, caller).await?.into()
        }
        Request::BoundaryGroupRelate { group, other, minutes } => {
            boundaries::relate(site, &group, &other, minutes, caller).await?.into()
        }
        Request::BoundaryGroupMembers { group, change, inside } => {
            boundaries::members(site, &group, &change, inside, caller).await?.into()
        }
        Request::BoundaryGroupDelete { group } => boundaries::delete(site, &group, caller).await?.into(),
        Request::TaskList { limit } => Answer::of(&site.tasks.list(limit.min(LONGEST_LIST)).await?)?.into(),
        Request::TaskShow { task } => Answer::of(&site.tasks.get(catalog::id::TaskId(task)).await?)?.into(),
        Request::TaskWait { task } => Work::Started(site.tasks.get(catalog::id::TaskId(task)).await?.id),
        Request::TaskCancel { task } => {
            Answer::of(&site.tasks.cancel(catalog::id::TaskId(task)).await?)?.into()
        }
        Request::Ts(request) => return crate::authoring::answer(site, request, caller).await,
        Request::Deploy(request) => return crate::deploying::answer(site, request, caller).await,
        Request::Software(request) => crate::software::answer(site, request, caller).await?.into(),
        Request::Tokens { act } => crate::tokens::carry_out(site, act, caller).await?.into(),
        Request::Audit { limit } => {
            Answer::of(&site.read(move |r| r.acts(limit.min(LONGEST_LIST))).await?)?.into()
        }
        Request::StateDump => Answer::of(&site.read(|r| r.dump()).await?)?.into(),
        Request::ConfigShow => Answer::of(&site.shown_settings())?.into(),
    })
}
