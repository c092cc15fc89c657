//! What a tag leaves out as nobody's setting, held against what is really answered: before and after everything has moved that moves by
//! itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::{HeaderValue, Method};
use jiff::SignedDuration;
use schema::points::{ContentState, PointRole};
use schema::tasks::{Phase, Unit};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Api;
use super::reply::{Ended, is_meant, tag};
use super::routes::{self, Looked, ROUTES};
use crate::clock;
use crate::deploying::show;
use crate::device_plane::tests::{create, name, ok, prepared, site, story};
use crate::device_plane::{make, status};
use crate::fixture::{CatalogDocument, CatalogFormat, CatalogVersion, demo_catalog};
use crate::points::wire::ServedBytes;
use crate::policy::StatusBatch;
use crate::site::Site;

/// Lists of what has happened: they are longer each time, and nothing in them is a setting.
const HAPPENED: &[&str] = &["/sync/runs"];

/// What is asked for in each path.
fn concrete(path: &str, named: &BTreeMap<&str, String>) -> String {
    named.iter().fold(path.to_owned(), |path, (word, name)| path.replace(&format!("{{{word}}}"), name))
}

/// What is answered to a question.
async fn answered(site: &Arc<Site>, path: &str) -> Value {
    let api = Api::new(site.clone()).expect("an API");
    let Looked::Found(found) = routes::find(&Method::GET, path) else { panic!("{path} is no route") };
    let asked =
        super::translate::translate(&found, "", serde_json::Map::new(), &api.exchange).expect("a question");
    let never = std::future::pending();
    match api.carry_out(asked.envelope, "test".to_owned(), None, None, true, never).await.0 {
        Ended::Done { body, problem: None } => body,
        other => panic!("{path}: {other:?}"),
    }
}

/// Whether a field is there; `a.b` is the field `b` of `a`, or of each of the list `a`.
fn has(value: &Value, path: &str) -> bool {
    match (value, path.split_once('.')) {
        (Value::Array(all), _) => all.iter().any(|one| has(one, path)),
        (Value::Object(fields), None) => fields.contains_key(path),
        (Value::Object(fields), Some((name, rest))) => fields.get(name).is_some_and(|inner| has(inner, rest)),
        _ => false,
    }
}

#[tokio::test]
async fn what_moves_by_itself_is_named_and_what_is_named_is_there() {
    let (_folder, origin, site) = site().await;
    let now = clock::now();
    let sequence = prepared(&site, now).await;
    let lyon = site.write(|w| w.add_point("lyon", "http://lyon", PointRole::Standard)).await.unwrap();
    let package = json!({"package": {"new_package": "upgrades", "to": ["site", "lyon"]}, "options": {"fallback": true}});
    let made = ok(&site, create(&sequence, "pilot", package)).await;
    let deployment = made["id"].as_str().unwrap().to_owned();
    let phased = json!({
        "verb": "deploy", "action": "phased-create", "name": "autumn", "sequence": sequence, "purpose": "required",
        "phases": [
            {"collection": "ring", "success": {"percent": 90}, "begin": "manual", "due_after": 0},
            {"collection": "pilot", "success": {"percent": 90}, "begin": "manual", "due_after": 0},
        ],
        "options": {}, "confirm_high_risk": false,
    });
    let begun = ok(&site, phased).await["phases"][0]["deployment"].as_str().unwrap().to_owned();
    let mut task = site.write(move |w| w.begin_task("sync", "x", now)).await.unwrap();
    let named: BTreeMap<&str, String> = [
        ("package", "upgrades".to_owned()),
        ("dp", "lyon".to_owned()),
        ("deployment", deployment.clone()),
        ("name", "autumn".to_owned()),
        ("device", name(1)),
        ("task", task.id.to_string()),
        ("sequence", "Upgrade".to_owned()),
    ]
    .into();

    // Every question whose answer a change can be held against.
    let changes = |path: &str| ROUTES.iter().any(|route| route.path == path && route.method != "GET");
    let asked: Vec<_> = ROUTES
        .iter()
        .filter(|route| route.method == "GET" && changes(route.path) && !HAPPENED.contains(&route.path))
        .filter(|route| !route.moving.is_empty() || !route.path.contains('{'))
        .collect();
    make(&site, now).await.unwrap();
    let mut before = Vec::new();
    for route in &asked {
        before.push(answered(&site, &concrete(route.path, &named)).await);
    }

    // Devices do and say something, and are silent.
    for deployment in [&deployment, &begun] {
        for device in 0..3 {
            let messages = story(device, deployment, now);
            let batch = StatusBatch { series: Uuid::new_v4(), messages };
            status::take(&site, &name(device), batch, now).await.unwrap();
        }
    }
    // A point reports, and a task goes on.
    let served = ServedBytes { group: "G00".to_owned(), source: "distribution-point".to_owned(), bytes: 7 };
    site.points.served(lyon, Uuid::nil(), &[served]);
    task.phases.push(Phase {
        name: "x".to_owned(),
        done: 1,
        total: 2,
        unit: Unit::Items,
        ended: false,
        message: None,
    });
    site.write_aside(move |w| {
        w.call_the_roll(now)?;
        w.call_the_roll(now + SignedDuration::from_hours(25))?;
        w.devices_seen(&[(name(2), "10.2.0.9".to_owned(), now)])?;
        w.put_facts(&name(3), &json!({ "os_type": "client" }), "10.3.0.9", now)?;
        w.point_seen(lyon, Some(5), Some("1"), now)?;
        w.point_speaks_from(lyon, [10, 0, 0, 9].into())?;
        for mut placed in w.placements_on(lyon)? {
            (placed.state, placed.done) = (ContentState::Success, placed.bytes);
            w.put_placement(&placed)?;
        }
        w.update_progress(&task)
    })
    .await
    .unwrap();
    // A synchronisation brings something, and takes away what the task sequence uses.
    let mut other = demo_catalog(&origin).await.esds;
    assert!(other.pop().is_some_and(|last| last.file_name.contains("19045")), "that of Windows 10");
    let other = CatalogDocument { version: CatalogVersion::Sha1, esds: other, licenses: Vec::new() };
    origin.publish_catalog_document("products_win10.cab", &other, CatalogFormat::Cabinet);
    ok(&site, json!({"verb": "now", "full": true})).await;

    let mut there: BTreeMap<&[&str], BTreeSet<&str>> = BTreeMap::new();
    let mut moved = BTreeSet::new();
    for (route, before) in asked.iter().zip(&before) {
        let after = answered(&site, &concrete(route.path, &named)).await;
        let known = HeaderValue::try_from(tag(before, route.moving)).unwrap();
        assert!(is_meant(&known, &tag(&after, route.moving)), "{}: {before} {after}", route.path);
        if *before != after {
            moved.insert(route.path);
        }
        let found = there.entry(route.moving).or_default();
        found.extend(route.moving.iter().filter(|field| has(before, field) || has(&after, field)));
    }
    let expected: BTreeSet<_> =
        asked.iter().filter(|route| !route.moving.is_empty()).map(|route| route.path).collect();
    assert_eq!(moved, expected, "each has moved, so that its fields were tried");
    // What is only there where a task sequence uses images or applications.
    let shown = answered(&site, &format!("/deployments/{deployment}")).await;
    let mut shown: show::Shown = serde_json::from_value(shown).unwrap();
    shown.software = shown.progress.as_ref().unwrap().points.clone();
    let with_software = serde_json::to_value(&shown).unwrap();
    for (named, found) in &there {
        let missing: Vec<_> = named.iter().filter(|field| !found.contains(*field)).collect();
        let excused = missing.iter().all(|field| **field == "software" && has(&with_software, field));
        assert!(excused, "no answer has {missing:?} of {named:?}");
    }
    site.close().await;
}
