//! What a site lets go as time goes by: devices of which nothing was heard for long, where that is wanted, messages of a certain age,
//! and rows that are of no use any more. A little at a time, and it says so.
//!
//! Silence is counted in days on which the site listened ([`schema::letting_go`]), so a site that was away, or a clock that was set,
//! lets nobody go.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use catalog::problem::Problem;
use jiff::{SignedDuration, Timestamp};
use schema::letting_go::MOST_AT_ONCE;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::{error, info};

use crate::admin::Caller;
use crate::clock;
use crate::device_plane::{self, clients};
use crate::site::Site;

/// How often it is looked.
const STEP: Duration = Duration::from_secs(3600);
/// The first time comes sooner: a process that never lasts an hour lets things go too.
const FIRST: Duration = Duration::from_secs(300);
/// The most devices that are let go at once. Who has set too short a time sees it before all are gone.
pub const MOST_DEVICES: u32 = 100;
/// The most transactions of one look.
const MOST_ROUNDS: usize = 20;
/// How long after a roll call the clock is believed: until the next one is late.
const BELIEVED: SignedDuration = SignedDuration::from_hours(25);
/// Names that the log has of those that were let go; the audit has all.
const MOST_NAMED: usize = 8;

/// What was let go since this process began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetGo {
    /// Devices of which nothing was heard.
    pub devices: u64,
    /// Messages of devices.
    pub messages: u64,
    /// Devices that are still to go: at most [`MOST_DEVICES`] do at once.
    pub to_go: u64,
    /// On how many days nothing is heard of a device that goes; `None`: none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_days: Option<u32>,
    /// When something was let go last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
}

/// The account of it, for the status.
#[derive(Debug, Default)]
pub struct LettingGo(Mutex<LetGo>);

impl LettingGo {
    /// What was let go.
    pub fn so_far(&self) -> LetGo {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Lets go, until `stopped`.
pub async fn keep(site: Arc<Site>, stopped: impl Future<Output = ()>) {
    tokio::pin!(stopped);
    let (listens_since, mut pause) = (Instant::now(), FIRST);
    loop {
        tokio::select! {
            () = &mut stopped => return,
            () = tokio::time::sleep(pause) => {}
        }
        if let Err(problem) = pass(&site, clock::now(), listens_since.elapsed()).await {
            error!("what is old cannot be let go: {problem}");
        }
        pause = STEP;
    }
}

/// One look. `listened`: for how long devices could speak to this process.
///
/// # Errors
/// Those of the database.
pub async fn pass(site: &Arc<Site>, now: Timestamp, listened: Duration) -> Result<(), Problem> {
    call_the_roll(site, now, listened).await?;
    let (gone, to_go) = silent(site).await?;
    let messages = trim(site, now).await?;
    let mut so_far = site.let_go.0.lock().unwrap_or_else(PoisonError::into_inner);
    so_far.devices += gone;
    so_far.messages += messages;
    so_far.to_go = to_go;
    so_far.after_days = site.settings().clients.forget_after_days();
    if gone + messages > 0 {
        so_far.last = Some(now);
    }
    Ok(())
}

/// One day more, once a day. A process that has just begun has heard of nobody yet.
async fn call_the_roll(site: &Arc<Site>, now: Timestamp, listened: Duration) -> Result<(), Problem> {
    let twice = site.settings().clients.poll_interval.saturating_mul(2);
    if listened < twice || !site.read(move |r| r.roll_call_is_due(now)).await? {
        return Ok(());
    }
    let heard = site.keys.heard();
    let names = heard.clone();
    let called = site.write_aside_alone(move |w| w.call_the_roll(&names, now)).await;
    if called.is_err() {
        site.keys.hear_again(heard);
    }
    called.map(drop)
}

/// Lets devices go of which nothing was heard: how many, and how many are left.
async fn silent(site: &Arc<Site>) -> Result<(u64, u64), Problem> {
    let Some(days) = site.settings().clients.forget_after_days() else { return Ok((0, 0)) };
    let (mut names, all) = site.read(move |r| r.silent_devices(days, MOST_DEVICES)).await?;
    // Who is back since the last roll call stays, also where nobody has written down yet that it is.
    names.retain(|name| !site.keys.is_heard(name));
    if names.is_empty() {
        return Ok((0, 0));
    }
    let caller = Caller { who: "[clients] forget_after".to_owned(), dry_run: false };
    let gone = clients::let_go(site, names, Some(days), &caller).await?;
    device_plane::refresh(site).await?;
    let number = gone.len() as u64;
    let to_go = all.saturating_sub(number);
    let mut named: Vec<_> = gone.iter().take(MOST_NAMED).map(|one| one.device.as_str()).collect();
    if gone.len() > MOST_NAMED {
        named.push("…");
    }
    let named = named.join(", ");
    info!(
        "{number} devices were let go, as nothing was heard of them on {days} days ({named}); {to_go} more are to go"
    );
    Ok((number, to_go))
}

/// Takes away what is older than it is kept; how many messages that were. By a clock that is believed only as far as a day after the last
/// roll call: one that was wrong for some minutes is no reason to lose what is kept for half a year.
async fn trim(site: &Arc<Site>, now: Timestamp) -> Result<u64, Problem> {
    let Some(last) = site.read(|r| r.last_roll_call()).await? else { return Ok(0) };
    let now = now.min(last.saturating_add(BELIEVED).unwrap_or(last));
    let since = site.settings().clients.messages_since(now);
    let mut messages = 0;
    if let Some(since) = since {
        for _ in 0..MOST_ROUNDS {
            let gone = site.write_aside_alone(move |w| w.trim_messages(since)).await?;
            messages += u64::from(gone);
            if gone < MOST_AT_ONCE {
                break;
            }
        }
    }
    site.write_aside_alone(move |w| w.trim(since, now)).await?;
    if messages > 0 {
        info!("{messages} messages of devices were older than [clients] status_retention, and are let go");
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use schema::keys::{NewEnrolment, NewKeys, PrincipalKind};

    use super::*;
    use crate::config::{Loaded, Settings};
    use crate::keys::Secret;

    const DAY: Duration = Duration::from_secs(86_400);

    async fn site(settings: impl FnOnce(&mut Settings)) -> (tempfile::TempDir, Arc<Site>) {
        let folder = tempfile::tempdir().unwrap();
        let mut all = Settings::default();
        all.site.data_dir = folder.path().join("site");
        all.download.min_free = 0;
        settings(&mut all);
        let site = Site::open(Loaded::from(all)).await.unwrap();
        (folder, site)
    }

    async fn enrolled(site: &Arc<Site>, names: Vec<String>, now: Timestamp) {
        site.write(move |w| {
            for name in &names {
                let (token, key) = (Secret::new()?, Secret::new()?);
                let (hash, kind) = (token.hash(), PrincipalKind::Device);
                w.begin_enrolment(&NewEnrolment { hash, kind, name: name.clone(), expires: now + DAY }, now)?;
                let keys = NewKeys { key: key.hash(), content: Some(key.content_hash()) };
                w.enrol(hash, keys, uuid::Uuid::nil(), now)?;
            }
            Ok(())
        })
        .await
        .unwrap();
        site.refresh_keys().await.unwrap();
    }

    async fn known(site: &Arc<Site>) -> usize {
        site.read(|r| r.device_names()).await.unwrap().len()
    }

    #[tokio::test]
    async fn devices_that_are_silent_go_some_at_a_time_where_that_is_wanted() {
        for (forget_after, expected) in [(Duration::ZERO, 251), (30 * DAY, 1)] {
            let (_folder, site) = site(|all| all.clients.forget_after = forget_after).await;
            let start = clock::now();
            let names: Vec<String> = (0..250).map(|number| format!("pc{number}")).collect();
            enrolled(&site, [names, vec!["here".to_owned()]].concat(), start).await;
            let mut left = Vec::new();
            for day in 0..40 {
                let now = start + SignedDuration::from_hours(24 * day);
                site.write(move |w| w.devices_seen(&[("here".to_owned(), "x".to_owned(), now)]))
                    .await
                    .unwrap();
                // A process that has just begun counts nobody as silent.
                pass(&site, now, Duration::from_secs(60)).await.unwrap();
                pass(&site, now, DAY).await.unwrap();
                left.push(known(&site).await);
            }
            assert_eq!((left[30], left[39]), (251.min(expected + 150), expected), "{left:?}");
            let so_far = site.let_go.so_far();
            assert_eq!((so_far.devices + expected as u64, so_far.to_go), (251, 0));
            let acts = site.read(|r| r.acts(1_000)).await.unwrap();
            let audited = acts.iter().filter(|act| act.what == "client.remove").count();
            assert_eq!(audited + expected, 251);
            let in_force = site.read(|r| r.content_keys()).await.unwrap().len();
            assert_eq!(in_force, expected, "their keys are good no more");
            site.close().await;
        }
    }

    /// A hundred go at once; who comes back while others go before it, or is to be enrolled anew, stays.
    #[tokio::test]
    async fn who_comes_back_in_time_stays() {
        let (_folder, site) = site(|all| all.clients.forget_after = 30 * DAY).await;
        let start = clock::now();
        let names = ["facts", "policy", "speaks", "token", "key", "gone"].map(str::to_owned);
        enrolled(&site, names.to_vec(), start).await;
        site.write(move |w| {
            for day in 0..=31 {
                w.call_the_roll(&[], start + SignedDuration::from_hours(24 * day))?;
            }
            assert_eq!(w.silent_devices(30, 10)?.1, 6);
            let now = start + SignedDuration::from_hours(24 * 31 + 1);
            w.put_facts("facts", &serde_json::json!({}), "x", now)?;
            w.devices_seen(&[("policy".to_owned(), "x".to_owned(), now)])?;
            w.series("speaks", "a")?;
            let (hash, kind) = (Secret::new()?.hash(), PrincipalKind::Device);
            w.begin_enrolment(&NewEnrolment { hash, kind, name: "token".to_owned(), expires: now + DAY }, now)
        })
        .await
        .unwrap();
        // Of this one nothing is written down yet.
        site.keys.hear_again(vec!["key".to_owned()]);
        let now = start + SignedDuration::from_hours(24 * 31 + 2);
        pass(&site, now, Duration::ZERO).await.unwrap();
        let left = site.read(|r| r.device_names()).await.unwrap();
        assert_eq!(left, ["facts", "key", "policy", "speaks", "token"]);
        site.close().await;
    }

    #[tokio::test]
    async fn messages_go_by_their_age_and_the_status_says_how_many() {
        let (_folder, site) = site(|all| all.clients.status_retention = 10 * DAY).await;
        let start = clock::now();
        site.write(move |w| {
            for (series, days) in [("a", 0), ("b", 5)] {
                let mut known = w.series("pc1", series)?;
                let received = start + SignedDuration::from_hours(24 * days);
                for number in 1..=300 {
                    let body = serde_json::Value::Null;
                    let row = schema::devices::MessageRow { series: known.id, number, received, body };
                    w.keep_message("pc1", &row, received, "XYZ20001")?;
                }
                known.heard = 300;
                w.heard("pc1", known, (0, 0))?;
            }
            Ok(())
        })
        .await
        .unwrap();
        let count = async || site.read(|r| r.count_messages_of("pc1")).await.unwrap();
        // 700: a process that has just begun, and whose clock is wrong.
        for (days, listened, left) in [
            (700, Duration::ZERO, 600),
            (8, DAY, 600),
            (700, Duration::ZERO, 600),
            (11, DAY, 300),
            (14, DAY, 300),
            (16, DAY, 0),
        ] {
            pass(&site, start + SignedDuration::from_hours(24 * days), listened).await.unwrap();
            assert_eq!(count().await, left, "after {days} days");
        }
        assert_eq!(site.let_go.so_far().messages, 600);
        assert_eq!(site.read(|r| r.device_names()).await.unwrap(), ["pc1"], "it is known as before");
        site.close().await;
    }
}
