//! How long a point opens private content by keys that its site told it.
//!
//! Who may have private content, the site says, and it takes keys back. A point whose own key was taken back forgets them at once. One
//! that hears nothing of its site goes on, as it is there for that, but not for ever: a device that was lost meanwhile would
//! keep its key there. After `[dp] keys_good_for` without an answer, of time that this point has seen go by, it forgets them too. With the
//! next answer it is told them again.

use std::sync::Arc;
use std::time::Duration;

use catalog::digest::Sha256Digest;
use catalog::problem::{Code, Problem};
use jiff::Timestamp;
use tracing::{error, warn};

use super::demand;
use crate::clock;
use crate::points::wire::Assignment;
use crate::site::Site;

/// How often it is looked at, and how often it is written down that the site has answered.
const LOOK: Duration = Duration::from_secs(60);
const WRITE: Duration = Duration::from_secs(3_600);

/// Looks at it for ever.
pub(super) async fn keep(site: &Arc<Site>) {
    loop {
        if let Err(problem) = look(site).await {
            error!("how old the keys for private content are cannot be told: {problem}");
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Forgets the keys where the site has said nothing for too long.
pub(super) async fn look(site: &Arc<Site>) -> Result<(), Problem> {
    // That this point was off, or that its clock was set, makes nothing old.
    demand::watch_clock(site).await?;
    let (good_for, now) = (site.settings().dp.keys_good_for, clock::now());
    let told = site.read(|r| r.assignment_received()).await?;
    if told.is_some_and(|told| is_over(told, good_for, now)) {
        forget(site, "the site has not answered for too long").await;
    }
    Ok(())
}

fn is_over(told: Timestamp, good_for: Duration, now: Timestamp) -> bool {
    Duration::try_from(now.duration_since(told)).is_ok_and(|age| age >= good_for)
}

/// The site has answered, and says what it said before. That this cannot be written down is no fault of the site.
pub(super) async fn are_good(site: &Arc<Site>) {
    let now = clock::now();
    let is_due = |told: Timestamp| now.duration_since(told).unsigned_abs() >= WRITE;
    let written = async {
        match site.read(|r| r.assignment_received()).await?.is_some_and(is_due) {
            true => site.write(move |w| w.assignment_is_good(now)).await,
            false => Ok(()),
        }
    };
    if let Err(problem) = written.await {
        error!("that the site has answered is not written down: {problem}");
    }
}

/// The site has told other keys: they are in force from now on, after a restart too.
///
/// # Errors
/// Those of the database.
pub(super) async fn are_now(site: &Arc<Site>, keys: Vec<Sha256Digest>) -> Result<(), Problem> {
    let (told, now) = (keys.clone(), clock::now());
    site.write(move |w| match w.assignment()? {
        Some((_, text)) => w.record_assignment_text(&with_keys(&text, &told)?, now),
        // With the assignment, that comes next.
        None => Ok(()),
    })
    .await?;
    site.point.adopt_keys(keys);
    site.refresh_keys().await
}

/// The text of an assignment with these keys. What else stands there stays, also what only a newer program understands.
///
/// # Errors
/// `SITE_ANSWER_INVALID`.
pub(super) fn with_keys(text: &str, keys: &[Sha256Digest]) -> Result<String, Problem> {
    let invalid = |error: serde_json::Error| Problem::of(Code::SiteAnswerInvalid, &error);
    let mut assignment: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(text).map_err(invalid)?;
    assignment.remove("keys");
    if !keys.is_empty() {
        assignment.insert("keys".to_owned(), serde_json::to_value(keys).map_err(invalid)?);
    }
    serde_json::to_string(&assignment).map_err(invalid)
}

/// Private content is opened to nobody from now on, after a restart too, until the site tells the keys again.
pub(super) async fn forget(site: &Arc<Site>, why: &str) {
    let (_, assignment) = site.point.assignment();
    if !assignment.keys.is_empty() {
        let assignment = Assignment { keys: Vec::new(), ..(*assignment).clone() };
        site.point.lock().forgets = true;
        site.point.adopt(String::new(), assignment);
        warn!("{why}: private content is opened to nobody");
    }
    if !site.point.lock().forgets {
        return;
    }
    // Whatever comes of one of them, the other is done, and both again until they are.
    let (shut, written) = (site.refresh_keys().await, write(site).await);
    match shut.and(written) {
        Ok(()) => site.point.lock().forgets = false,
        Err(problem) => {
            error!("that private content is to be opened to nobody is not written down: {problem}")
        }
    }
}

async fn write(site: &Arc<Site>) -> Result<(), Problem> {
    let (_, assignment) = site.point.assignment();
    let text = serde_json::to_string(&*assignment).map_err(|error| Problem::of(Code::Internal, &error))?;
    let packages: Vec<_> = assignment.packages.iter().map(|assigned| assigned.package.clone()).collect();
    site.write(move |w| w.record_assignment("", &text, &packages, clock::now())).await
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use schema::points::PointRole;

    use super::*;

    const DAY: i64 = 86_400;
    const KEY: Sha256Digest = Sha256Digest([7; 32]);

    /// A point whose site told it a key so many days ago, and that was seen at work last so many days ago.
    async fn point(told: i64, seen: i64) -> (tempfile::TempDir, Arc<Site>) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut settings = crate::config::Settings::default();
        settings.site.data_dir = folder.path().join("point");
        settings.dp.role = PointRole::Pull;
        let site = Site::open(crate::config::Loaded::from(settings)).await.expect("it opens");
        let assignment = Assignment { keys: vec![KEY], ..Assignment::default() };
        let text = serde_json::to_string(&assignment).expect("it has a form");
        let ago = |days: i64| clock::now() - SignedDuration::from_secs(days * DAY);
        site.write(move |w| {
            w.record_assignment("one", &text, &[], ago(told))?;
            w.time_is_seen(SignedDuration::ZERO, ago(seen))
        })
        .await
        .expect("it is written");
        site.point.adopt("one".to_owned(), assignment);
        site.refresh_keys().await.expect("it is told");
        assert!(site.keys.knows(KEY));
        (folder, site)
    }

    /// Whether a key is known now, and after a restart.
    async fn known(site: &Arc<Site>) -> (bool, bool) {
        let recorded = site.read(super::super::recorded).await.expect("it is read").expect("there is one");
        (site.keys.knows(KEY), !recorded.1.keys.is_empty())
    }

    #[tokio::test]
    async fn keys_are_good_for_as_long_as_the_site_was_seen_to_be_silent() {
        for (told, seen, good) in [
            (0, 0, true),
            (29, 0, true),
            (31, 0, false),
            (400, 399, true), // it was off, or its clock was set: nobody has seen that time
        ] {
            let (_folder, site) = point(told, seen).await;
            look(&site).await.unwrap();
            assert_eq!(known(&site).await, (good, good), "told {told} days ago, seen {seen} days ago");
            let tag = site.point.assignment().0;
            assert_eq!(tag.is_some(), good, "all of it is asked for again");
        }
        // It answers now and then that all is as it was.
        let (_folder, site) = point(29, 0).await;
        are_good(&site).await;
        let told = site.read(|r| r.assignment_received()).await.unwrap().expect("it was told");
        assert!(clock::now().duration_since(told).as_secs() < 3_600);
    }

    #[tokio::test]
    async fn other_keys_are_in_force_at_once_and_after_a_restart() {
        let (_folder, site) = point(0, 0).await;
        let other = Sha256Digest([8; 32]);
        are_now(&site, vec![KEY, other]).await.unwrap();
        assert!(site.keys.knows(KEY) && site.keys.knows(other));
        assert_eq!(site.point.assignment().0.as_deref(), Some("one"), "nothing else is asked for again");
        let recorded = async || site.read(super::super::recorded).await.unwrap().expect("there is one");
        assert_eq!(recorded().await.1.keys, [KEY, other]);
        are_now(&site, Vec::new()).await.unwrap();
        assert!(!site.keys.knows(KEY) && recorded().await.1.keys.is_empty());
        let text = r#"{"point":"lyon","site":"XYZ","packages":[],"of a newer site":{"a":[1]}}"#;
        let with = with_keys(text, &[KEY]).unwrap();
        assert!(with.contains(r#""of a newer site":{"a":[1]}"#), "{with}");
        let read: Assignment = serde_json::from_str(&with).unwrap();
        assert_eq!((read.keys, read.point.as_str()), (vec![KEY], "lyon"));
        assert_eq!(with_keys("x", &[]).unwrap_err().code, Code::SiteAnswerInvalid);
    }

    /// What cannot be written down is forgotten all the same, and written down later.
    #[tokio::test]
    async fn a_database_that_does_not_answer_keeps_no_key_in_force() {
        let (_folder, site) = point(0, 0).await;
        site.clone().close().await;
        forget(&site, "its key was revoked").await;
        assert!(!site.keys.knows(KEY));
        assert!(site.point.lock().forgets, "it is tried again");
    }
}
