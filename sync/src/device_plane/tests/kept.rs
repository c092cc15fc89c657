//! Policies that are kept while nothing is another of which they are made, and no time has come for any of it.

use std::sync::atomic::{AtomicU32, Ordering};

use catalog::id::UpdateId;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use schema::collections::SettingsRow;
use schema::deployments::Purpose;
use schema::sequences::NewSequence;
use schema::update_deployments::UpdateDeploymentRow;
use schema::windows::WindowRow;
use schema::{SchemaError, Writer};

use super::super::{made, pass};
use super::*;
use crate::admin::Answer;
use crate::tasks::Progress;

const START: &str = "2026-11-02T10:00:00Z";

/// What happens: what, to what, how.
type Act = (u8, u8, u8);

const ACTS: u8 = 14;
/// What devices say and ask.
const OF_DEVICES: u8 = 9;

fn without_package() -> Value {
    json!({"purpose": "available", "package": {"no_package": true}, "options": {"internet": false}})
}

fn after(now: Timestamp, minutes: u8) -> Timestamp {
    now + SignedDuration::from_mins(i64::from(minutes) * 20)
}

fn write(w: &Writer<'_>, update: UpdateId, now: Timestamp, (act, a, b): Act) -> Result<(), SchemaError> {
    let ring = ["pilot", "ring", "All Systems"][usize::from(a % 3)];
    match act {
        0 => w.add_devices(ring, &[format!("pc-{}", b % 5)]).map(drop)?,
        1 => w.remove_devices(ring, &[format!("pc-{}", b % 5)]).map(drop)?,
        2 => {
            // Once, or each hour: soon over, or coming soon.
            let once = a.is_multiple_of(2).then(|| after(now, b % 5));
            let begins = if once.is_some() { String::new() } else { format!("{} * * * *", b % 60) };
            let (collection, zone) = (ring.to_owned(), "UTC".to_owned());
            let minutes = 1 + u32::from(b % 40);
            w.save_window(&WindowRow { collection, name: "night".to_owned(), begins, once, minutes, zone })?;
        }
        3 => w.delete_window(ring, "night").map(drop)?,
        4 => {
            for row in w.deployments()? {
                let expires = (b % 3 > 0).then(|| after(now, b));
                w.change_deployment(&schema::deployments::DeploymentRow { expires, ..row })?;
            }
        }
        5 if b.is_multiple_of(4) => {
            for row in w.deployments()? {
                w.stop_deployment(&row.id, now)?;
            }
        }
        6 => {
            let number = w.update_deployments()?.len() as u32 + 7_000;
            let row = UpdateDeploymentRow {
                id: format!("XYZ2{number}").parse().expect("an id"),
                collection: ring.to_owned(),
                purpose: if b.is_multiple_of(2) { Purpose::Required } else { Purpose::Available },
                available: after(now, b % 7),
                deadline: None,
                expires: b.is_multiple_of(3).then(|| after(now, 7 + b % 7)),
                comment: String::new(),
                stopped: None,
                created: now,
                created_by: "x".to_owned(),
                updates: vec![(update, "KB1".to_owned())],
            };
            w.create_update_deployment(number, &row)?;
        }
        7 => {
            for row in w.sequences()? {
                let new = NewSequence {
                    name: row.name,
                    document: row.document.replace("Upgrade", "Upgrad3"),
                    references: Vec::new(),
                };
                w.save_sequence(&row.id, row.revision, &new, now)?;
            }
        }
        8 => {
            let chosen = json!({ "thread_priority": if b.is_multiple_of(2) { "low" } else { "normal" } });
            let (name, priority) = (format!("s{}", a % 2), Some(u32::from(a % 2) + 1));
            let row = SettingsRow { name, priority, chosen, collections: vec![ring.to_owned()] };
            w.save_client_settings(&row)?;
        }
        OF_DEVICES => {
            w.devices_seen(&[(format!("pc-{}", b % 5), "10.0.0.1".to_owned(), now)])?;
            w.put_facts("pc-1", &json!({ "free_disk_mb": b }), "10.0.0.1", now)?;
        }
        _ => {}
    }
    Ok(())
}

#[test]
fn what_is_kept_is_what_would_be_made() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let start: Timestamp = START.parse().unwrap();
    let (_folder, _origin, site, update) = runtime.block_on(async {
        let (folder, origin, site) = site().await;
        let sequence = prepared(&site, start).await;
        let updates = ok(&site, json!({"verb": "updates-list"})).await;
        let update: UpdateId =
            updates["updates"][0]["update"].as_str().expect("Windows 10").parse().expect("an id");
        for collection in ["pilot", "ring"] {
            ok(&site, create(&sequence, collection, without_package())).await;
        }
        (folder, origin, site, update)
    });
    let acts = prop::collection::vec((0..ACTS, any::<u8>(), any::<u8>()), 1..12);
    let (kept, anew) = (AtomicU32::new(0), AtomicU32::new(0));
    let time = std::sync::Mutex::new(start);
    // Time and site go on from case to case, so what fails is told with all that came before, and made no smaller.
    let config = ProptestConfig {
        cases: 32,
        max_shrink_iters: 0,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let history = std::sync::Mutex::new(Vec::new());
    let outcome = TestRunner::new(config).run(&acts, |acts| {
        runtime.block_on(async {
            for act in acts {
                history.lock().unwrap().push(act);
                let mut now = *time.lock().unwrap();
                let live = site.clone();
                let change = move |w: &Writer<'_>| write(w, update, now, act);
                let written = match act.0 {
                    OF_DEVICES => live.write_aside(change).await,
                    _ => live.write(change).await,
                };
                written.expect("it is written");
                match act.0 {
                    10 => {
                        let mut settings = (*site.settings()).clone();
                        settings.clients.poll_interval =
                            std::time::Duration::from_secs(600 + 60 * u64::from(act.1 % 3));
                        settings.download.require_sha256 = act.2.is_multiple_of(2);
                        site.reload(Loaded::from(settings));
                    }
                    // A clock that went ahead is put back.
                    11 => now -= SignedDuration::from_mins(30 + i64::from(act.2 % 90)),
                    12 => now += SignedDuration::from_hours(i64::from(act.2 % 30)),
                    _ => {}
                }
                now += SignedDuration::from_secs(31 + i64::from(act.1));
                *time.lock().unwrap() = now;
                let before = site.policies.snapshot();
                pass(&site, now).await.expect("it passes");
                let told = site.policies.snapshot();
                let counted = if Arc::ptr_eq(&before, &told) { &kept } else { &anew };
                counted.fetch_add(1, Ordering::Relaxed);
                let fresh = made(&site, &site.settings(), now).await.expect("it is made");
                prop_assert_eq!(told.all(), fresh.all(), "at {}, after {:?}", now, history.lock().unwrap());
            }
            Ok(())
        })
    });
    outcome.unwrap();
    let (kept, anew) = (kept.into_inner(), anew.into_inner());
    assert!(kept.min(anew) > 20, "{kept} kept, {anew} made anew: one is hardly tested");
}

/// A site with a task sequence that is deployed to `pilot`, and what it stands on; and when that was.
async fn deployed() -> ((TempDir, Origin), Arc<Site>, Timestamp) {
    let (folder, origin, site) = site().await;
    let start: Timestamp = START.parse().unwrap();
    let sequence = prepared(&site, start).await;
    ok(&site, create(&sequence, "pilot", without_package())).await;
    ((folder, origin), site, start)
}

#[tokio::test]
async fn nothing_is_made_anew_while_devices_ask_and_report() {
    let (_stage, site, start) = deployed().await;
    make(&site, start).await.unwrap();
    let first = site.policies.snapshot();
    let at = move |minutes: i64| start + SignedDuration::from_mins(minutes);
    for minute in 1..=120 {
        site.policies.asked("pc-0001", "10.0.0.1".parse().unwrap(), at(minute));
        site.write_aside(move |w| {
            w.put_facts("pc-0001", &json!({ "free_disk_mb": minute }), "10.0.0.1", at(minute))
        })
        .await
        .unwrap();
        pass(&site, at(minute)).await.unwrap();
    }
    assert!(Arc::ptr_eq(&first, &site.policies.snapshot()), "for two hours");
    site.write(|w| w.add_devices("pilot", &["pc-new".to_owned()])).await.unwrap();
    pass(&site, at(121)).await.unwrap();
    assert!(!Arc::ptr_eq(&first, &site.policies.snapshot()));
    assert!(site.policies.snapshot().all().contains_key("pc-new"));
}

/// A synchronisation writes aside, batch by batch, and ends by itself: nobody says that anything changed.
#[tokio::test]
async fn what_a_task_writes_aside_is_told_while_it_works_and_when_it_has_ended() {
    let (_stage, site, start) = deployed().await;
    let at = move |minutes: i64| start + SignedDuration::from_mins(minutes);
    let (go_on, gate) = tokio::sync::oneshot::channel::<()>();
    let joins = |live: Arc<Site>, device: &'static str| async move {
        live.write_aside(move |w| w.add_devices("pilot", &[device.to_owned()])).await.map(drop)
    };
    let working = site.clone();
    let work = move |_: Progress| async move {
        let _ = gate.await;
        joins(working, "pc-late").await?;
        Answer::of(&Value::Null)
    };
    let task = site.tasks.start("test", "a test".to_owned(), "a test".to_owned(), work).await.unwrap();
    make(&site, at(0)).await.unwrap();
    joins(site.clone(), "pc-early").await.unwrap();
    pass(&site, at(1)).await.unwrap();
    assert!(site.policies.snapshot().all().contains_key("pc-early"), "it works");
    go_on.send(()).unwrap();
    let (events, _inbox) = mpsc::channel(16);
    site.tasks.watch(task, &events).await.unwrap();
    pass(&site, at(2)).await.unwrap();
    assert!(site.policies.snapshot().all().contains_key("pc-late"), "it has ended");
    // And nothing more happens.
    let told = site.policies.snapshot();
    pass(&site, at(3)).await.unwrap();
    assert!(Arc::ptr_eq(&told, &site.policies.snapshot()));
}
