//! Content that is copied out of the library is copied by a task, media and prestaged files alike.

use std::sync::Arc;

use catalog::problem::Problem;
use schema::tasks::Unit;
use serde::Serialize;

use super::Stop;
use super::content::{FromLibrary, Source};
use crate::admin::{Answer, Caller, Work};
use crate::blocking::blocking;
use crate::clock;
use crate::site::Site;

/// What is copied, in the words of tasks and audit.
pub(super) struct Copying {
    /// The sort of task, and the name of its phase.
    pub kind: &'static str,
    /// For people.
    pub title: String,
    /// Two of the same key are one.
    pub key: String,
    /// Bytes of content.
    pub bytes: u64,
    /// What the audit says of it once it is there.
    pub act: &'static str,
    /// Of what.
    pub object: String,
}

/// Starts it: `copy` works on a thread of its own, and hears of it when nobody waits any more; `made` says what came of it, with
/// a remark.
///
/// # Errors
/// Those of the database.
pub(super) async fn start<T: Send + 'static, A: Serialize + Send + 'static>(
    site: &Arc<Site>,
    copying: Copying,
    caller: &Caller,
    copy: impl FnOnce(&mut dyn Source) -> Result<T, Problem> + Send + 'static,
    made: impl FnOnce(T) -> (String, A) + Send + 'static,
) -> Result<Work, Problem> {
    let Copying { kind, title, key, bytes, act, object } = copying;
    let who = caller.who.clone();
    let task = site
        .tasks
        .start(kind, title, key, |progress| {
            let site = site.clone();
            async move {
                progress.phase(kind, bytes, Unit::Bytes);
                let stop = Stop::new();
                let (told, library, telling) = (stop.told(), site.library.clone(), progress.clone());
                let work = move || {
                    let progress = |done| telling.at(kind, done);
                    copy(&mut FromLibrary { library, told, progress, done: 0 })
                };
                let (remark, answer) = made(blocking(work).await?);
                site.write(move |w| w.audit(&who, act, &object, clock::now())).await?;
                progress.end(kind, remark);
                Answer::of(&answer)
            }
        })
        .await?;
    Ok(Work::Started(task))
}
