//! What a site forgets as time goes by: devices of which nothing was heard for long, where that is wanted, messages of a certain age,
//! and rows that are of no use any more. A little at a time, and it says so.
//!
//! Silence is counted in days on which the site listened ([`schema::forgetting`]), so a site that was away, or a clock that was set,
//! removes nobody.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use catalog::problem::Problem;
use jiff::{SignedDuration, Timestamp};
use schema::forgetting::MOST_AT_ONCE;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::{error, info};

use crate::admin::Caller;
use crate::clock;
use crate::device_plane::{self, clients};
use crate::site::Site;

/// How often it is looked.
const STEP: Duration = Duration::from_secs(3600);
/// The first time comes sooner: a process that never lasts an hour forgets things too.
const FIRST: Duration = Duration::from_secs(300);
/// Who was not heard of on so many days is silent, where `[clients] forget_after` does not say when devices are forgotten; else half of that.
pub const SILENT_DAYS: u32 = 30;
/// The most devices that are forgotten at once. Who has set too short a time sees it before all are gone.
pub const MOST_DEVICES: u32 = 100;
/// The most transactions of one look: for messages, and for all else.
const MOST_ROUNDS: usize = 20;
/// How long after a roll call the clock is believed: until the next one is late.
const BELIEVED: SignedDuration = SignedDuration::from_hours(25);
/// Names that the log has of those that were forgotten; the audit has all.
const MOST_NAMED: usize = 8;

/// What was forgotten since this process began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// Devices of which nothing was heard.
    pub devices: u64,
    /// Messages of devices.
    pub messages: u64,
    /// Devices that are still to go: at most [`MOST_DEVICES`] do at once.
    pub to_go: u64,
    /// When something was forgotten last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
}

/// The account of it, for the status.
#[derive(Debug, Default)]
pub struct Forgetting {
    so_far: Mutex<Forgotten>,
    /// For how long this process has listened, as far as that is written down.
    listened: Mutex<Duration>,
}

impl Forgetting {
    /// What was forgotten.
    pub fn so_far(&self) -> Forgotten {
        self.so_far.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Forgets, until `stopped`.
pub async fn keep(site: Arc<Site>, stopped: impl Future<Output = ()>) {
    tokio::pin!(stopped);
    let (listens_since, mut pause) = (Instant::now(), FIRST);
    loop {
        tokio::select! {
            () = &mut stopped => return,
            () = tokio::time::sleep(pause) => {}
        }
        if let Err(problem) = pass(&site, clock::now(), listens_since.elapsed()).await {
            error!("what is old cannot be forgotten: {problem}");
        }
        pause = STEP;
    }
}

/// One look. `listened`: for how long devices could speak to this process.
///
/// # Errors
/// Those of the database.
pub async fn pass(site: &Arc<Site>, now: Timestamp, listened: Duration) -> Result<(), Problem> {
    // As it was before this look: the roll is called by the clock of now, and that may be wrong.
    let last = site.read(|r| r.last_roll_call()).await?;
    call_the_roll(site, now, listened).await?;
    let (gone, to_go) = silent(site).await?;
    let messages = match last {
        Some(last) => trim(site, now.min(last.saturating_add(BELIEVED).unwrap_or(last))).await?,
        None => 0,
    };
    let mut so_far = site.forgetting.so_far.lock().unwrap_or_else(PoisonError::into_inner);
    so_far.devices += gone;
    so_far.messages += messages;
    so_far.to_go = to_go;
    if gone + messages > 0 {
        so_far.last = Some(now);
    }
    Ok(())
}

/// One day more, once a day. Who has just begun to listen has heard of nobody yet: it is time where this process has listened for two
/// `poll_interval`s, or all processes since the last roll call together have.
async fn call_the_roll(site: &Arc<Site>, now: Timestamp, listened: Duration) -> Result<(), Problem> {
    let twice = site.settings().clients.poll_interval.saturating_mul(2);
    let heard = site.keys.heard();
    let names = heard.clone();
    let written = *site.forgetting.listened.lock().unwrap_or_else(PoisonError::into_inner);
    let more = listened.saturating_sub(written);
    let called = site.write_aside_alone(move |w| {
        let together = w.listened(&names, more)?;
        if listened.max(together) >= twice {
            w.call_the_roll(now)?;
        }
        Ok(())
    });
    let called = called.await;
    match &called {
        Ok(()) => *site.forgetting.listened.lock().unwrap_or_else(PoisonError::into_inner) = written + more,
        Err(_) => site.keys.hear_again(heard),
    }
    called
}

/// Removes devices of which nothing was heard: how many, and how many are left.
async fn silent(site: &Arc<Site>) -> Result<(u64, u64), Problem> {
    let Some(days) = site.settings().clients.forget_after_days() else { return Ok((0, 0)) };
    let (mut names, all) = site.read(move |r| r.silent_devices(days, MOST_DEVICES)).await?;
    // Who is back since the last roll call stays, also where nobody has written down yet that it is.
    names.retain(|name| !site.keys.is_heard(name));
    if names.is_empty() {
        return Ok((0, 0));
    }
    let caller = Caller { who: "[clients] forget_after".to_owned(), dry_run: false };
    let gone = clients::remove_all(site, names, Some(days), &caller).await?;
    device_plane::refresh(site).await?;
    let number = gone.len() as u64;
    let to_go = all.saturating_sub(number);
    let mut named: Vec<_> = gone.iter().take(MOST_NAMED).map(|one| one.device.as_str()).collect();
    if gone.len() > MOST_NAMED {
        named.push("…");
    }
    let named = named.join(", ");
    info!(
        "{number} devices were forgotten, as nothing was heard of them on {days} days ({named}); {to_go} more are to go"
    );
    Ok((number, to_go))
}

/// Takes away what is older than it is kept; how many messages that were. `now` by a clock that is believed only as far as a day after the
/// last roll call: one that was wrong for some minutes is no reason to lose what is kept for half a year.
async fn trim(site: &Arc<Site>, now: Timestamp) -> Result<u64, Problem> {
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
    for round in 0..MOST_ROUNDS {
        let any_left = site.write_aside_alone(move |w| {
            if round == 0 {
                w.end_admin_tokens(now)?;
            }
            w.trim(since, now)
        });
        if !any_left.await? {
            break;
        }
    }
    if messages > 0 {
        info!("{messages} messages of devices were older than [clients] status_retention, and are forgotten");
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use schema::keys::{NewEnrolment, NewKeys, PrincipalKind};

    use super::*;
    use crate::keys::Secret;
    use crate::site::small as site;

    const DAY: Duration = Duration::from_secs(86_400);

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
            let so_far = site.forgetting.so_far();
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
                w.call_the_roll(start + SignedDuration::from_hours(24 * day))?;
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

    /// Who is listed as silent is who goes by `forget_after`, in the same days.
    #[tokio::test]
    async fn who_is_silent_is_listed_and_counted_before_it_goes() {
        let (_folder, site) = site(|all| all.clients.forget_after = 40 * DAY).await;
        let start = clock::now();
        enrolled(&site, ["back", "gone", "here"].map(str::to_owned).to_vec(), start).await;
        for day in 0..=25 {
            let now = start + SignedDuration::from_hours(24 * day);
            site.write(move |w| w.devices_seen(&[("here".to_owned(), "x".to_owned(), now)])).await.unwrap();
            pass(&site, now, DAY).await.unwrap();
        }
        let listed = async |silent| {
            let body = clients::list(&site, silent).await.unwrap().body;
            let all: Vec<clients::ShownClient> = serde_json::from_value(body).unwrap();
            all.into_iter().map(|one| (one.device, one.silent_days)).collect::<Vec<_>>()
        };
        let of = |name: &str, days| (name.to_owned(), days);
        assert_eq!(listed(0).await, [of("back", 25), of("gone", 25), of("here", 0)]);
        assert_eq!((listed(25).await.len(), listed(26).await.len()), (2, 0));
        let silent = crate::status::of(&site).await.unwrap().silent.unwrap();
        assert_eq!((silent.devices, silent.days, silent.forgotten_after), (2, 20, Some(40)));
        // Back, and nobody has written it down yet.
        site.keys.hear_again(vec!["back".to_owned()]);
        assert_eq!(listed(1).await, [of("gone", 25)]);
        assert_eq!(crate::status::of(&site).await.unwrap().silent.unwrap().devices, 1);
        site.close().await;
    }

    /// A machine that is started anew every hour listens too.
    #[tokio::test]
    async fn the_roll_is_called_where_no_process_lasts_long() {
        let (_folder, site) = site(|all| all.clients.poll_interval = DAY).await;
        let start = clock::now();
        enrolled(&site, ["here", "gone"].map(str::to_owned).to_vec(), start).await;
        let hour = Duration::from_secs(3_600);
        for process in 0..200 {
            // Each begins to count at nothing, and heard one device by its key alone.
            *site.forgetting.listened.lock().unwrap() = Duration::ZERO;
            if process % 20 == 0 {
                site.keys.hear_again(vec!["here".to_owned()]);
            }
            pass(&site, start + SignedDuration::from_hours(process), hour).await.unwrap();
        }
        let silent = async |days| site.read(move |r| r.silent_devices(days, 9)).await.unwrap().0;
        assert_eq!(silent(1).await, ["gone"]);
        assert_eq!((silent(3).await, silent(4).await.len()), (vec!["gone".to_owned()], 0), "every two days");
        site.close().await;
    }

    #[tokio::test]
    async fn a_token_that_was_over_stays_so_when_the_clock_is_put_back() {
        let (_folder, site) = site(|_| {}).await;
        let start = clock::now();
        let at = move |hours| start + SignedDuration::from_hours(hours);
        site.write(move |w| {
            for (name, hours) in [("short", 10), ("long", 1_000)] {
                let role = schema::tokens::Role::Viewer;
                let (created, expires) = (start, at(hours));
                let new = schema::tokens::AdminToken {
                    name: name.to_owned(),
                    role,
                    created,
                    expires,
                    revoked: None,
                };
                w.add_admin_token(&new, catalog::digest::Sha256Digest::of(name.as_bytes()))?;
            }
            Ok(())
        })
        .await
        .unwrap();
        let good = async |hours| {
            let all = site.read(|r| r.admin_tokens()).await.unwrap();
            let mut good: Vec<_> =
                all.into_iter().filter(|one| one.is_good(at(hours))).map(|one| one.name).collect();
            good.sort();
            good
        };
        pass(&site, start, DAY).await.unwrap();
        pass(&site, at(9), DAY).await.unwrap();
        assert_eq!(good(9).await, ["long", "short"]);
        pass(&site, at(11), DAY).await.unwrap();
        assert_eq!(good(9).await, ["long"], "the clock was put back");
        // A clock that is years ahead for a moment ends none that has a while to go.
        pass(&site, at(24 * 700), Duration::ZERO).await.unwrap();
        assert_eq!(good(12).await, ["long"]);
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
            // The same after a long time of listening, so that the roll is called by the wrong clock.
            (8, 2 * DAY, 600),
            (700, Duration::ZERO, 600),
            (11, DAY, 300),
            (14, DAY, 300),
            (16, DAY, 0),
        ] {
            pass(&site, start + SignedDuration::from_hours(24 * days), listened).await.unwrap();
            assert_eq!(count().await, left, "after {days} days");
        }
        assert_eq!(site.forgetting.so_far().messages, 600);
        assert_eq!(site.read(|r| r.device_names()).await.unwrap(), ["pc1"], "it is known as before");
        site.close().await;
    }
}
