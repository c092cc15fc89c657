//! A roll-out to 1,000 devices in 20 boundary groups, by scripted devices and a simulated clock: the sums agree with what
//! each device said. And what a device may say and hear.

mod kept;
mod offered;

use std::collections::BTreeMap;
use std::sync::Arc;

use catalog::id::PackageId;
use catalog::problem::{Code, Problem};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{make, status};
use crate::admin::{self, Envelope, Event, Request};
use crate::config::{Loaded, Settings, Source};
use crate::deploying::{DeployRequest, phases};
use crate::fixture::{Origin, demo_catalog};
use crate::policy::{
    BytesFrom, Origin as From, Policy, RunState, StatusBatch, StatusMessage, StepReport, StepState,
};
use crate::site::Site;
use crate::software::SoftwareRequest;

const DEVICES: u32 = 1_000;
const GROUPS: u32 = 20;

/// A site with the feature update of Windows 10, which needs no decision about a licence.
pub(crate) async fn site() -> (TempDir, Origin, Arc<Site>) {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start().await.unwrap();
    let published = demo_catalog(&origin).await;
    let mut settings = Settings::default();
    settings.sources = vec![Source {
        name: "esd".to_owned(),
        catalogs: vec![published.windows10],
        allow_networks: vec!["127.0.0.0/8".parse().unwrap()],
        ..Source::default()
    }];
    settings.site.data_dir = folder.path().join("site");
    settings.download.min_free = 0;
    settings.download.proxy = crate::config::Proxy::None;
    settings.limits.deployment_default_size = 0;
    let site = Site::open(Loaded::from(settings)).await.unwrap();
    let _ = site.serving_since.set(crate::clock::now());
    (folder, origin, site)
}

pub(crate) async fn asked(site: &Arc<Site>, request: Value) -> Result<Value, Problem> {
    let request: Request = serde_json::from_value(request).expect("a request");
    let (events, mut inbox) = mpsc::channel(64);
    let envelope = Envelope { request, dry_run: false, no_wait: false };
    let answering = tokio::spawn({
        let site = site.clone();
        async move { admin::answer(&site, envelope, "test", events).await }
    });
    let mut ended = None;
    while let Some(event) = inbox.recv().await {
        match event {
            Event::Task { .. } => {}
            Event::Done { body, problem: None } => ended = Some(Ok(body)),
            Event::Done { problem: Some(problem), .. } | Event::Failed { problem } => {
                ended = Some(Err(problem))
            }
        }
    }
    answering.await.unwrap();
    ended.expect("an end")
}

pub(crate) async fn ok(site: &Arc<Site>, request: Value) -> Value {
    asked(site, request).await.unwrap_or_else(|problem| panic!("{problem}"))
}

fn deploy(request: DeployRequest) -> Value {
    serde_json::to_value(Request::Deploy(request)).expect("JSON")
}

fn software(request: SoftwareRequest) -> Value {
    serde_json::to_value(Request::Software(request)).expect("JSON")
}

pub(crate) fn name(device: u32) -> String {
    format!("pc-{device:04}")
}

/// In which group a device is: 10.G.0.0/16.
fn group(device: u32) -> u32 {
    device % GROUPS
}

/// Every twenty-third has another edition, every fiftieth a full disk; the others are eligible.
fn facts(device: u32) -> Value {
    json!({
        "os_type": "client", "version": "10.0.18363", "architecture": "x64", "language": "en-us",
        "edition": if device % 23 == 7 { "Core" } else { "Enterprise" },
        "free_disk_mb": if device % 50 == 11 { 100 } else { 90_000 },
    })
}

/// Synchronises, and makes a task sequence, a collection of all devices, and what the site knows of them.
pub(crate) async fn prepared(site: &Arc<Site>, now: Timestamp) -> String {
    ok(site, json!({"verb": "now", "full": false})).await;
    let updates = ok(site, json!({"verb": "updates-list"})).await;
    let update = updates["updates"][0]["update"].as_str().expect("Windows 10").to_owned();
    let sequence = json!({
        "verb": "ts", "action": "create", "name": "Upgrade", "upgrade": true, "feature_updates": [update],
    });
    let sequence = ok(site, sequence).await["id"].as_str().expect("an id").to_owned();
    let devices: Vec<String> = (0..DEVICES).map(name).collect();
    for (collection, members) in [("pilot", &devices[..100]), ("ring", &devices[..])] {
        ok(site, software(SoftwareRequest::CollectionCreate { name: collection.to_owned() })).await;
        let (name, devices) = (collection.to_owned(), members.to_vec());
        ok(site, software(SoftwareRequest::CollectionChange { name, devices, add: true })).await;
    }
    for group in 0..GROUPS {
        let group_name = format!("G{group:02}");
        ok(site, json!({"verb": "boundary-group-create", "group": group_name, "change": {"boundaries": [], "points": []}})).await;
        let values = [format!("10.{group}.0.0/16")];
        ok(site, json!({"verb": "boundary-add", "values": values, "name": "", "groups": [group_name]})).await;
    }
    site.write(move |w| {
        for device in 0..DEVICES {
            let address = format!("10.{}.{}.{}", group(device), device / 250, 1 + device % 250);
            w.put_facts(&name(device), &facts(device), &address, now)?;
        }
        Ok(())
    })
    .await
    .unwrap();
    sequence
}

pub(crate) fn create(sequence: &str, collection: &str, more: Value) -> Value {
    let mut request = json!({
        "verb": "deploy", "action": "create", "sequence": sequence, "collection": collection, "purpose": "required",
        "available": null, "deadline": null, "expires": null, "options": {}, "package": {}, "strict": false,
        "confirm_high_risk": false,
    });
    let (Value::Object(all), Value::Object(more)) = (&mut request, more) else { panic!("objects") };
    all.extend(more);
    request
}

/// How a scripted device ends.
fn end(device: u32) -> RunState {
    match device {
        _ if device % 23 == 7 || device % 50 == 11 => RunState::NotApplicable,
        _ if device % 97 == 3 => RunState::RolledBack,
        _ if device % 31 == 5 => RunState::Failed,
        _ if device % 113 == 9 => RunState::Running,
        _ => RunState::Succeeded,
    }
}

/// What a device says in the course of a run.
pub(crate) fn story(device: u32, deployment: &str, began: Timestamp) -> Vec<StatusMessage> {
    let mut messages: Vec<StatusMessage> = Vec::new();
    let mut say = |state: RunState, more: &dyn Fn(&mut StatusMessage)| {
        let number = messages.len() as u64 + 1;
        let mut message = StatusMessage {
            number,
            time: began + SignedDuration::from_mins(7 * number as i64),
            deployment: deployment.parse().expect("a deployment"),
            run: 1,
            state,
            step: None,
            code: None,
            exit: None,
            details: String::new(),
            bytes: Vec::new(),
        };
        more(&mut message);
        messages.push(message);
    };
    let step = |number: u32, state: StepState| {
        let (name, kind) = (format!("step {number}"), "upgrade-os".to_owned());
        Some(StepReport { number, name, groups: Vec::new(), kind, state, attempt: 1 })
    };
    let last = end(device);
    if last == RunState::NotApplicable {
        say(last, &|message| message.code = Some("UPGRADE_PATH_UNSUPPORTED".to_owned()));
        return messages;
    }
    say(RunState::Waiting, &|_| {});
    // The first of a group takes it from the point, the others from each other.
    let origin = if device < GROUPS { From::DistributionPoint } else { From::Peer };
    say(RunState::Downloading, &|message| {
        message.bytes = vec![BytesFrom { origin, name: "x".to_owned(), bytes: 1_000 + u64::from(device) }];
    });
    say(RunState::Running, &|message| message.step = step(1, StepState::Succeeded));
    say(RunState::Running, &|message| message.step = step(2, StepState::Running));
    match last {
        RunState::Failed => say(last, &|message| {
            message.step = step(2, StepState::Failed);
            message.exit = Some(if device.is_multiple_of(2) { 0xC190_0208 } else { 0xC190_020E });
        }),
        RunState::RolledBack => say(last, &|message| message.exit = Some(0xC190_0204)),
        RunState::Running => {}
        _ => {
            say(RunState::Restarting, &|message| message.step = step(3, StepState::Running));
            say(last, &|message| message.step = step(4, StepState::Succeeded));
        }
    }
    messages
}

#[tokio::test]
async fn a_roll_out_to_a_thousand_devices_adds_up() {
    let (_folder, _origin, site) = site().await;
    let began: Timestamp = "2026-11-02T20:00:00Z".parse().unwrap();
    let sequence = prepared(&site, began).await;
    let refused = asked(&site, create(&sequence, "ring", json!({}))).await.unwrap_err();
    assert_eq!(refused.code, Code::DeploymentPackageChoiceRequired);
    let package =
        json!({"package": {"new_package": "upgrades", "to": ["site"]}, "options": {"fallback": true}});
    let made = ok(&site, create(&sequence, "ring", package)).await;
    let deployment = made["id"].as_str().unwrap().to_owned();
    assert_eq!((&made["content"], &made["progress"]["pending"]), (&json!("ready"), &json!([])), "{made}");

    // Before anything runs it is known who can, and what it costs.
    let check = json!({"verb": "deploy", "action": "check", "what": deployment, "collection": null, "purpose": null,
        "to": [], "cloud": false, "internet": false, "strict": true});
    let checked = ok(&site, check).await;
    let able = (0..DEVICES).filter(|device| end(*device) != RunState::NotApplicable).count();
    assert_eq!((&checked["devices"], &checked["eligible"]), (&json!(DEVICES), &json!(able)));
    let groups = checked["groups"].as_array().unwrap();
    assert_eq!(groups.len(), GROUPS as usize);
    assert_eq!(groups.iter().map(|group| group["devices"].as_u64().unwrap()).sum::<u64>(), able as u64);
    assert!(
        groups.iter().all(|group| group["means"] == "fallback" && group["after_seconds"] == 7_200),
        "{groups:?}"
    );
    let size = checked["largest_download"].as_u64().unwrap();
    assert!(groups.iter().all(|group| group["link_bytes"] == size), "with peers the content comes in once");

    // Everybody hears the same, under an own name.
    make(&site, began).await.unwrap();
    let snapshot = site.policies.snapshot();
    assert_eq!(snapshot.classes(), 3, "of nobody, of ring, of pilot and ring");
    let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
    let mut bytes: BTreeMap<&str, u64> = BTreeMap::new();
    for device in 0..DEVICES {
        let name = name(device);
        let answered = snapshot.answer(&name, false).unwrap();
        let policy = Policy::parse(&answered.body(&name)).unwrap();
        assert_eq!((policy.device.as_str(), policy.assignments.len()), (name.as_str(), 1));
        assert_eq!(policy.version, answered.tag());
        let messages = story(device, policy.assignments[0].deployment.as_str(), began);
        *expected.entry(end(device).word()).or_default() += 1;
        for from in messages.iter().flat_map(|message| &message.bytes) {
            *bytes.entry(from.origin.word()).or_default() += from.bytes;
        }
        let batch = StatusBatch { series: Uuid::from_u128(device.into()), messages };
        let through = batch.messages.last().unwrap().number;
        let ack = status::take(&site, &name, batch.clone(), began).await.unwrap();
        assert_eq!((ack.through, ack.refused), (through, vec![]));
        if device % 100 == 0 {
            // The answer was lost: the same again, and nothing is counted twice.
            assert_eq!(status::take(&site, &name, batch, began).await.unwrap().through, through);
        }
    }
    let told = ok(&site, deploy(DeployRequest::Status { deployment: deployment.clone() })).await;
    let states: BTreeMap<&str, u64> = told["states"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(state, count)| (state.as_str(), count.as_u64().unwrap()))
        .collect();
    assert_eq!(states, expected);
    let sums: BTreeMap<&str, u64> = told["bytes"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(from, count)| (from.as_str(), count.as_u64().unwrap()))
        .collect();
    assert_eq!(sums, bytes);
    let lines = told["devices"].as_array().unwrap();
    assert_eq!(lines.len(), DEVICES as usize);
    for (device, line) in (0..DEVICES).zip(lines) {
        assert_eq!(
            (line["device"].as_str(), line["state"].as_str()),
            (Some(&*name(device)), Some(end(device).word()))
        );
    }
    let buckets = &told["deployment"]["buckets"];
    let all: u64 = buckets.as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(all, u64::from(DEVICES));
    let errors = told["errors"].as_array().unwrap();
    let explained = |code: &str| {
        errors.iter().any(|line| line["code"] == code && !line["meaning"].as_str().unwrap().is_empty())
    };
    assert!(explained("0xC1900208") && explained("0xC190020E") && explained("0xC1900204"), "{errors:?}");
    assert!(explained("UPGRADE_PATH_UNSUPPORTED"), "{errors:?}");
    let history = ok(&site, deploy(DeployRequest::ClientHistory { device: name(0), limit: 100 })).await;
    assert_eq!(history["happened"].as_array().unwrap().len(), 6, "{history}");
    let shown = ok(&site, deploy(DeployRequest::ClientShow { device: name(0) })).await;
    assert_eq!((&shown["replayed"], &shown["refused"]), (&json!(6), &json!(0)));
    site.close().await;
}

#[tokio::test]
async fn phases_begin_by_the_clock_and_what_devices_said() {
    let (_folder, _origin, site) = site().await;
    let sequence = prepared(&site, crate::clock::now()).await;
    let phased = json!({
        "verb": "deploy", "action": "phased-create", "name": "autumn", "sequence": sequence, "purpose": "required",
        "phases": [
            {"collection": "pilot", "success": {"percent": 90}, "begin": "manual", "due_after": 0},
            {"collection": "ring", "success": {"percent": 95}, "begin": {"after": 86_400}, "due_after": 604_800},
        ],
        "options": {}, "confirm_high_risk": false,
    });
    let refused = asked(&site, phased.clone()).await.unwrap_err();
    assert_eq!(refused.code, Code::ContentNotDistributed, "M67: content first");
    let package = json!({"purpose": "available", "package": {"new_package": "upgrades"}});
    ok(&site, create(&sequence, "pilot", package)).await;
    let made = ok(&site, phased).await;
    let first = made["phases"][0]["deployment"].as_str().expect("the first begins at once").to_owned();
    assert_eq!(
        (&made["phases"][0]["state"], &made["phases"][1]["state"]),
        (&json!("active"), &json!("waiting"))
    );

    let now = crate::clock::now();
    let say = async |devices: std::ops::Range<u32>, state: RunState| {
        for device in devices {
            let message = StatusMessage {
                number: 1,
                time: now,
                deployment: first.parse().unwrap(),
                run: 1,
                state,
                step: None,
                code: None,
                exit: None,
                details: String::new(),
                bytes: Vec::new(),
            };
            let batch = StatusBatch { series: Uuid::from_u128(9), messages: vec![message] };
            assert_eq!(status::take(&site, &name(device), batch, now).await.unwrap().refused, []);
        }
    };
    let show = json!({"verb": "deploy", "action": "phased-show", "name": "autumn"});
    let later = |days: i64| now + SignedDuration::from_hours(24 * days);
    say(0..89, RunState::Succeeded).await;
    phases::pass(&site, later(30)).await.unwrap();
    assert_eq!(ok(&site, show.clone()).await["phases"][1]["state"], "waiting", "89 of 100 are not 90%");
    say(90..100, RunState::NotApplicable).await;
    phases::pass(&site, later(30)).await.unwrap();
    let shown = ok(&site, show.clone()).await;
    assert_eq!(shown["phases"][1]["state"], "waiting", "they cannot have it");
    assert_eq!(shown["phases"][0]["tally"], json!({"devices": 100, "succeeded": 89, "nothing_to_do": 0}));
    let has_it = |device: u32| {
        let mut facts = facts(device);
        facts["version"] = json!("10.0.29000");
        facts
    };
    let newer: Vec<_> = (90..92).map(|device| (name(device), has_it(device))).collect();
    site.write(move |w| newer.iter().try_for_each(|(name, facts)| w.put_facts(name, facts, "10.0.0.1", now)))
        .await
        .unwrap();
    phases::pass(&site, later(31)).await.unwrap();
    let shown = ok(&site, show.clone()).await;
    assert_eq!(shown["phases"][0]["tally"], json!({"devices": 100, "succeeded": 89, "nothing_to_do": 2}));
    assert_eq!(
        (&shown["phases"][0]["state"], &shown["phases"][1]["state"]),
        (&json!("done"), &json!("deferred"))
    );
    let stale = site.read(|r| r.phased()).await.unwrap();
    ok(&site, json!({"verb": "deploy", "action": "phased-suspend", "name": "autumn", "suspend": true})).await;
    phases::pass(&site, later(40)).await.unwrap();
    phases::see_to(&site, stale.clone(), later(40)).await.unwrap(); // it was read before somebody spoke
    let shown = ok(&site, show.clone()).await;
    assert_eq!((&shown["state"], &shown["phases"][1]["state"]), (&json!("suspended"), &json!("deferred")));
    ok(&site, json!({"verb": "deploy", "action": "phased-suspend", "name": "autumn", "suspend": false}))
        .await;
    phases::pass(&site, later(40)).await.unwrap();
    let shown = ok(&site, show.clone()).await;
    assert_eq!(shown["phases"][1]["state"], "active", "{shown}");
    phases::pass(&site, later(41)).await.unwrap();
    let all = ok(&site, deploy(DeployRequest::List)).await;
    assert_eq!(all.as_array().unwrap().len(), 3, "no phase begins twice");
    let change =
        json!({"verb": "deploy", "action": "phased-change", "name": "autumn", "phase": 2, "due_after": 0});
    assert_eq!(asked(&site, change).await.unwrap_err().code, Code::PhaseActive);
    let deleted = asked(&site, json!({"verb": "ts", "action": "delete", "sequence": sequence})).await;
    assert_eq!(deleted.unwrap_err().code, Code::TaskSequenceDeployed);
    ok(&site, json!({"verb": "deploy", "action": "phased-delete", "name": "autumn"})).await;
    phases::see_to(&site, stale, later(42)).await.unwrap();
    assert_eq!(ok(&site, deploy(DeployRequest::PhasedList)).await, json!([]), "what was deleted stays so");
    let all = ok(&site, deploy(DeployRequest::List)).await;
    assert_eq!(all.as_array().unwrap().len(), 3, "and begins nothing");
    site.close().await;
}

#[tokio::test]
async fn what_a_device_says_is_its_own_and_said_once() {
    let (_folder, _origin, site) = site().await;
    let now = crate::clock::now();
    let sequence = prepared(&site, now).await;
    let package =
        json!({"purpose": "available", "package": {"no_package": true}, "options": {"internet": false}});
    let made = ok(&site, create(&sequence, "pilot", package)).await;
    assert_eq!(made["content"], "none");
    let deployment = made["id"].as_str().unwrap().to_owned();
    let (inside, outside) = (name(1), name(500));
    let snapshot = site.policies.snapshot();
    let policy = |device: &str, away: bool| {
        Policy::parse(&snapshot.answer(device, away).expect("a policy").body(device)).expect("it can be read")
    };
    assert_eq!(policy(&inside, false).assignments.len(), 1);
    let content = policy(&inside, false).assignments[0].content.clone();
    assert!(content.cloud && !content.points, "without a package peers and the cloud are what is left");
    assert_eq!(policy(&inside.to_uppercase(), false).assignments.len(), 1);
    assert_eq!(policy(&outside, false).assignments, []);
    // M66: on the internet it is not seen without the flag.
    assert_eq!(policy(&inside, true).assignments, []);
    assert_ne!(snapshot.answer(&inside, true).unwrap().tag(), snapshot.answer(&inside, false).unwrap().tag());

    let batch = |series: u128, numbers: &[u64], about: &str| {
        let message = |number: &u64| StatusMessage {
            number: *number,
            time: now,
            deployment: about.parse().unwrap(),
            run: 1,
            state: if *number > 1 { RunState::Succeeded } else { RunState::Running },
            step: None,
            code: None,
            exit: None,
            details: String::new(),
            bytes: Vec::new(),
        };
        StatusBatch { series: Uuid::from_u128(series), messages: numbers.iter().map(message).collect() }
    };
    let take = async |device: &str, batch| status::take(&site, device, batch, now).await;
    let codes = |ack: &crate::policy::StatusAck| -> Vec<String> {
        ack.refused.iter().map(|one| one.code.clone()).collect()
    };
    let foreign = take(&outside, batch(1, &[1], &deployment)).await.unwrap();
    assert_eq!((foreign.through, codes(&foreign)), (1, vec!["NOT_TARGETED".to_owned()]));
    let unknown = take(&inside, batch(1, &[1], "XYZ2FFFF")).await.unwrap();
    assert_eq!(codes(&unknown), ["DEPLOYMENT_NOT_FOUND"]);
    assert_eq!(take(&inside, batch(1, &[2, 4], &deployment)).await.unwrap().through, 4);
    assert_eq!(
        take(&inside, batch(1, &[3], &deployment)).await.unwrap().through,
        4,
        "a number that was passed is late"
    );
    let disordered = take(&inside, batch(1, &[6, 5], &deployment)).await.unwrap_err();
    assert_eq!(disordered.code, Code::StatusInvalid);
    // Set up anew, it counts from 1 again; and what it said before stays late.
    assert_eq!(take(&inside, batch(2, &[1], &deployment)).await.unwrap().through, 1);
    assert_eq!(take(&inside, batch(1, &[5], &deployment)).await.unwrap().through, 5);
    let id: PackageId = deployment.parse().unwrap();
    let wanted = id.clone();
    let runs = site.read(move |r| r.runs_of(&wanted)).await.unwrap();
    assert_eq!((runs.len(), runs[0].state.as_str()), (1, "running"), "the newest series counts");
    let device = outside.clone();
    let row = site.read(move |r| r.device(&device)).await.unwrap().unwrap();
    assert_eq!((row.refused, row.replayed), (1, 0));

    // Stopped, it is offered to nobody, and who runs it may still say how that ends.
    let wanted = id.clone();
    let stale = site.read(move |r| r.deployment(&wanted)).await.unwrap().unwrap();
    ok(&site, deploy(DeployRequest::Stop { deployment: deployment.clone() })).await;
    // Whoever read it before that changes nothing of it any more.
    let late = async || {
        let stale = stale.clone();
        site.write(move |w| {
            let changed = w.change_deployment(&stale)? || w.stop_deployment(&stale.id, now)?;
            Ok((changed, w.deployment(&stale.id)?.map(|row| row.stopped.is_some())))
        })
        .await
        .unwrap()
    };
    assert_eq!(late().await, (false, Some(true)));
    let snapshot = site.policies.snapshot();
    assert!(!snapshot.offers(&inside, &id) && snapshot.is_about(&inside, &id));
    assert_eq!(codes(&take(&inside, batch(2, &[2], &deployment)).await.unwrap()), Vec::<String>::new());
    ok(&site, deploy(DeployRequest::Delete { deployment })).await;
    assert_eq!(late().await, (false, None));
    assert_eq!(site.read(move |r| r.runs_of(&id)).await.unwrap(), []);
    site.close().await;
}
