//! Deployments whose task sequence, licence or content changes after they were made.

use std::sync::Arc;

use catalog::id::PackageId;
use catalog::problem::{Code, Problem};
use schema::deployments::Purpose;
use schema::update_deployments::UpdateDeploymentRow;
use serde_json::{Value, json};

use super::eligible::Why;
use super::options::deploys_os;
use crate::device_plane::tests::{asked, create, ok, site};
use crate::sequence::Sequence;
use crate::site::Site;

/// Synchronises; the id of the one feature update.
async fn synchronised(site: &Arc<Site>) -> String {
    ok(site, json!({"verb": "now", "full": false})).await;
    let updates = ok(site, json!({"verb": "updates-list"})).await;
    updates["updates"][0]["update"].as_str().expect("Windows 10").to_owned()
}

/// Makes a task sequence without a step.
async fn empty(site: &Arc<Site>, name: &str) -> String {
    let made = json!({"verb": "ts", "action": "create", "name": name, "upgrade": false});
    ok(site, made).await["id"].as_str().expect("an id").to_owned()
}

fn ts(action: &str, sequence: &str, more: Value) -> Value {
    let mut request = json!({"verb": "ts", "action": action, "sequence": sequence});
    let (Value::Object(all), Value::Object(more)) = (&mut request, more) else { panic!("objects") };
    all.extend(more);
    request
}

/// Adds a step that upgrades by `update`, with these settings too.
fn upgrade(sequence: &str, update: &str, place: Value, more: &[(&str, &str)]) -> Value {
    let mut changes = vec![json!(["feature_updates", format!("[\"{update}\"]")])];
    changes.extend(more.iter().map(|(key, value)| json!([key, value])));
    ts("step-add", sequence, json!({"kind": "upgrade-os", "place": place, "changes": changes, "value": null}))
}

fn command(sequence: &str) -> Value {
    let changes = json!([["command", "cmd /c ver"]]);
    ts(
        "step-add",
        sequence,
        json!({"kind": "run-command", "place": "end", "changes": changes, "value": null}),
    )
}

fn set(sequence: &str, step: &str, key: &str, value: &str) -> Value {
    ts("step-set", sequence, json!({"step": step, "changes": [[key, value]]}))
}

async fn show(site: &Arc<Site>, sequence: &str) -> Value {
    ok(site, ts("show", sequence, json!({}))).await
}

fn confirmed(mut request: Value) -> Value {
    request["confirm_high_risk"] = json!(true);
    request
}

/// What was said to whom of a high risk, oldest first.
async fn high_risks(site: &Arc<Site>) -> Vec<(String, String)> {
    let acts = site.read(|r| r.acts(1_000)).await.expect("the audit");
    let risky = acts.into_iter().rev().filter(|act| act.what.starts_with("deploy.high-risk"));
    risky.map(|act| (act.object, act.what)).collect()
}

/// Decision 0023, by every way in which a task sequence changes: what is deployed to every device becomes no upgrade.
#[tokio::test]
async fn no_change_brings_an_upgrade_to_every_device() {
    let (_folder, _origin, site) = site().await;
    let update = synchronised(&site).await;
    let required = |sequence: &str| create(sequence, "All Systems", json!({"package": {"no_package": true}}));

    // Each begins without an upgrade that is done, and the last part is what makes it one.
    let added = empty(&site, "added").await;
    ok(&site, command(&added)).await;
    let disabled = empty(&site, "disabled").await;
    ok(&site, upgrade(&disabled, &update, json!("end"), &[("disabled", "true")])).await;
    let scanning = empty(&site, "scanning").await;
    ok(&site, upgrade(&scanning, &update, json!("end"), &[("scan_only", "true")])).await;
    let moved = empty(&site, "moved").await;
    let group = json!({"kind": "group", "place": "end", "changes": [["disabled", "true"]], "value": null});
    ok(&site, ts("step-add", &moved, group)).await;
    ok(&site, upgrade(&moved, &update, json!({"in": "g1"}), &[])).await;
    let edited = empty(&site, "edited").await;
    ok(&site, upgrade(&edited, &update, json!("end"), &[("disabled", "true")])).await;
    let imported = empty(&site, "imported").await;
    ok(&site, upgrade(&imported, &update, json!("end"), &[])).await;
    let archive = ts("export-archive", "", json!({"sequences": [imported], "dependencies": true}));
    let archive = ok(&site, archive).await["archive"].clone();
    assert!(archive.is_string(), "{archive}");
    ok(&site, set(&imported, "1", "disabled", "true")).await;
    let shown = show(&site, &edited).await;
    let document = shown["document"].as_str().unwrap().replace("disabled = true\n", "");
    let replacement = ts("replace", &edited, json!({"revision": shown["revision"], "document": document}));
    let import =
        json!({"verb": "ts", "action": "import-archive", "archive": archive, "duplicates": "overwrite"});

    for (sequence, change) in [
        (&added, upgrade(&added, &update, json!("end"), &[])),
        (&disabled, set(&disabled, "1", "disabled", "false")),
        (&scanning, set(&scanning, "1", "scan_only", "false")),
        (&moved, ts("step-move", &moved, json!({"step": "1", "place": "end"}))),
        (&edited, replacement),
        (&imported, import),
    ] {
        let made = ok(&site, required(sequence)).await["id"].as_str().unwrap().to_owned();
        let before = show(&site, sequence).await;
        for change in [change.clone(), confirmed(change.clone())] {
            let refused = asked(&site, change.clone()).await.unwrap_err();
            assert_eq!(refused.code, Code::HighRiskCollection, "{change}");
            assert!(refused.causes[0].contains(&made) && refused.help.contains(&made), "{refused:?}");
        }
        assert_eq!(show(&site, sequence).await, before, "{change}");
        // It is the deployment that keeps it back, nothing else.
        ok(&site, json!({"verb": "deploy", "action": "stop", "deployment": made})).await;
        ok(&site, change.clone()).await;
        let document = show(&site, sequence).await["document"].as_str().unwrap().to_owned();
        assert!(deploys_os(&Sequence::parse(&document).unwrap()), "{change}");
    }
    assert_eq!(high_risks(&site).await, []);

    // What nobody is made to run is changed as one likes.
    let free = empty(&site, "free").await;
    ok(&site, command(&free)).await;
    ok(&site, create(&free, "All Systems", json!({"purpose": "available"}))).await;
    ok(&site, upgrade(&free, &update, json!("end"), &[])).await;
    site.close().await;
}

/// What creation takes with a word a change takes with the same word, and the audit keeps it; phases that are to begin too.
#[tokio::test]
async fn a_change_that_is_a_high_risk_is_confirmed_and_written_down() {
    let (_folder, _origin, site) = site().await;
    let update = synchronised(&site).await;
    let own = super::check::own_point(&site).await.unwrap().expect("the own point");
    for (collection, device) in [("pilot", "pc-1"), ("ring", own.as_str())] {
        ok(&site, json!({"verb": "software", "action": "collection-create", "name": collection})).await;
        let member = json!({"verb": "software", "action": "collection-change", "name": collection, "devices": [device], "add": true});
        ok(&site, member).await;
    }
    let sequence = empty(&site, "Tidy").await;
    ok(&site, command(&sequence)).await;
    let made = ok(&site, create(&sequence, "ring", json!({}))).await["id"].as_str().unwrap().to_owned();
    let phase = |collection: &str| json!({"collection": collection, "success": {"devices": 1}, "begin": "manual", "due_after": 0});
    let phased = json!({
        "verb": "deploy", "action": "phased-create", "name": "autumn", "sequence": sequence, "purpose": "required",
        "phases": [phase("pilot"), phase("ring")], "options": {"cloud": true}, "confirm_high_risk": false,
    });
    let first = ok(&site, phased).await["phases"][0]["deployment"].as_str().unwrap().to_owned();
    assert_eq!(high_risks(&site).await, []);

    let change = upgrade(&sequence, &update, json!("end"), &[]);
    let refused = asked(&site, change.clone()).await.unwrap_err();
    assert_eq!(refused.code, Code::HighRiskUnconfirmed);
    assert!(refused.causes.iter().any(|why| why.contains(&made)), "{refused:?}");
    assert!(refused.help.contains("--confirm-high-risk"), "{refused:?}");
    ok(&site, confirmed(change)).await;
    let reasons = format!("deploy.high-risk machines of the site: {own}");
    let expected = [
        (made, reasons.clone()),
        (first, "deploy.high-risk".to_owned()),
        ("autumn".to_owned(), reasons.clone()),
    ];
    assert_eq!(high_risks(&site).await, expected);

    // What was confirmed for a phase holds when it begins.
    ok(&site, json!({"verb": "package-create", "name": "p", "description": "", "source": null})).await;
    ok(&site, json!({"verb": "package-add", "package": "p", "updates": [update], "filter": {}})).await;
    ok(&site, json!({"verb": "package-download", "package": "p", "from": null, "mirror": null})).await;
    let advanced = ok(&site, json!({"verb": "deploy", "action": "phased-advance", "name": "autumn"})).await;
    let second = advanced["phases"][1]["deployment"].as_str().expect("it began").to_owned();
    assert_eq!(high_risks(&site).await.last(), Some(&(second, reasons)));
    // It upgrades already: whoever it reaches was judged, and nothing is asked again.
    ok(&site, set(&sequence, "2", "name", "Upgrade at last")).await;
    site.close().await;
}

/// A deployment that is made while its task sequence is changed: one of the two is refused, whichever comes later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_and_a_change_at_the_same_time_are_not_both_made() {
    let (_folder, _origin, site) = site().await;
    let update = synchronised(&site).await;
    for round in 0..16 {
        let sequence = empty(&site, &format!("round {round}")).await;
        ok(&site, upgrade(&sequence, &update, json!("end"), &[("disabled", "true")])).await;
        let deployed = asked(&site, create(&sequence, "All Systems", json!({})));
        let changed = asked(&site, set(&sequence, "1", "disabled", "false"));
        let (deployed, changed) = tokio::join!(deployed, changed);
        let is_refused = |answer: &Result<Value, Problem>| {
            let refusals =
                [Code::TaskSequenceChanged, Code::HighRiskCollection, Code::DeploymentPackageChoiceRequired];
            answer.as_ref().is_err_and(|problem| refusals.contains(&problem.code))
        };
        assert!(is_refused(&deployed) != is_refused(&changed), "{deployed:?} {changed:?}");
        let document = show(&site, &sequence).await["document"].as_str().unwrap().to_owned();
        let id: PackageId = sequence.parse().unwrap();
        let there = !site.read(move |r| r.deployments_of(&id)).await.unwrap().is_empty();
        assert!(!(there && deploys_os(&Sequence::parse(&document).unwrap())), "round {round}");
    }
    site.close().await;
}

/// A deployed task sequence that comes to need what nobody downloads: whoever changes it hears of it, and whoever looks sees it.
#[tokio::test]
async fn what_a_change_needs_and_nobody_brings_is_said() {
    let (_folder, _origin, site) = site().await;
    let update = synchronised(&site).await;
    ok(&site, json!({"verb": "software", "action": "collection-create", "name": "pilot"})).await;
    let sequence = empty(&site, "Tidy").await;
    ok(&site, command(&sequence)).await;
    let made = ok(&site, create(&sequence, "pilot", json!({}))).await["id"].as_str().unwrap().to_owned();
    let cloud = create(&sequence, "pilot", json!({"options": {"cloud": true}}));
    let cloud = ok(&site, cloud).await["id"].as_str().unwrap().to_owned();
    let contents = async || {
        let listed = ok(&site, json!({"verb": "deploy", "action": "list"})).await;
        let listed = listed.as_array().unwrap().clone();
        listed.iter().map(|one| one["content"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(contents().await, ["ready", "ready"]);

    let changed = ok(&site, upgrade(&sequence, &update, json!("end"), &[])).await;
    let notes = changed["notes"].as_array().expect("notes");
    assert_eq!(notes.len(), 1, "the other one's devices go to the upstream: {notes:?}");
    let note = notes[0].as_str().unwrap();
    assert!(note.starts_with(&format!("deployment {made}: not downloaded")), "{note}");
    assert_eq!(contents().await, ["pending", "none"]);
    let shown = ok(&site, json!({"verb": "deploy", "action": "show", "deployment": made})).await;
    assert_eq!((&shown["content"], shown["notes"].as_array().map(Vec::len)), (&json!("pending"), Some(1)));

    // It is there as soon as somebody has brought it.
    ok(&site, json!({"verb": "package-create", "name": "p", "description": "", "source": null})).await;
    ok(&site, json!({"verb": "package-add", "package": "p", "updates": [update], "filter": {}})).await;
    ok(&site, json!({"verb": "package-download", "package": "p", "from": null, "mirror": null})).await;
    assert_eq!(contents().await, ["ready", "ready"]);
    let shown = ok(&site, json!({"verb": "deploy", "action": "show", "deployment": cloud})).await;
    assert_eq!(shown["notes"], Value::Null);
    site.close().await;
}

/// Mission row M27: what is declined after it was deployed is said of the deployment, until it is good again or stopped.
#[tokio::test]
async fn a_deployment_of_what_was_declined_since_says_so() {
    let (_folder, _origin, site) = site().await;
    let update = synchronised(&site).await;
    ok(&site, json!({"verb": "software", "action": "collection-create", "name": "pilot"})).await;
    let sequence = empty(&site, "Upgrade").await;
    ok(&site, upgrade(&sequence, &update, json!("end"), &[])).await;
    let made = ok(&site, create(&sequence, "pilot", json!({"package": {"no_package": true}}))).await;
    let made = made["id"].as_str().unwrap().to_owned();
    let told = async || {
        let list = ok(&site, json!({"verb": "deploy", "action": "list"})).await;
        let status = ok(&site, json!({"verb": "status"})).await;
        let warned = status["warnings"].as_array().unwrap().iter().filter_map(Value::as_str);
        let warned = warned
            .filter(|line| line.contains("would be refused today"))
            .map(str::to_owned)
            .collect::<Vec<_>>();
        (list[0]["would_be_refused"].clone(), list[0]["notes"].clone(), warned)
    };
    assert_eq!(told().await, (Value::Null, Value::Null, Vec::new()));

    ok(&site, json!({"verb": "updates-mark", "updates": [update], "mark": "decline"})).await;
    let (code, notes, warned) = told().await;
    assert_eq!(code, "NOT_DEPLOYABLE");
    assert!(notes[0].as_str().is_some_and(|note| note.starts_with("NOT_DEPLOYABLE: ")), "{notes}");
    let expected =
        format!("1 deployment would be refused today ({made} NOT_DEPLOYABLE): `spsync deploy show {made}`");
    assert_eq!(warned, [expected]);
    ok(&site, json!({"verb": "updates-mark", "updates": [update], "mark": "restore"})).await;
    assert_eq!(told().await, (Value::Null, Value::Null, Vec::new()));
    ok(&site, json!({"verb": "updates-mark", "updates": [update], "mark": "decline"})).await;
    ok(&site, json!({"verb": "deploy", "action": "stop", "deployment": made})).await;
    assert_eq!(told().await, (Value::Null, Value::Null, Vec::new()), "nobody waits for it any more");
    site.close().await;
}

/// Mission row M21: every device counts, not the first one, and every phase.
#[tokio::test]
async fn whoever_has_another_priority_is_counted_and_named() {
    let (_folder, _origin, site) = site().await;
    let update = synchronised(&site).await;
    for (collection, devices) in
        [("slow", json!(["pc-2", "pc-3"])), ("ring", json!(["pc-1", "pc-2", "pc-3"]))]
    {
        ok(&site, json!({"verb": "software", "action": "collection-create", "name": collection})).await;
        let member = json!({"verb": "software", "action": "collection-change", "name": collection, "devices": devices, "add": true});
        ok(&site, member).await;
    }
    let settings = |name: &str, changes: Value| json!({"verb": "software", "action": "settings-set", "name": name, "changes": changes});
    ok(&site, settings("default", json!([["thread_priority", "normal"]]))).await;
    let sequence = empty(&site, "Upgrade").await;
    ok(&site, upgrade(&sequence, &update, json!("end"), &[])).await;
    ok(&site, json!({"verb": "package-create", "name": "p", "description": "", "source": null})).await;
    ok(&site, json!({"verb": "package-add", "package": "p", "updates": [update], "filter": {}})).await;
    ok(&site, json!({"verb": "package-download", "package": "p", "from": null, "mirror": null})).await;
    ok(&site, json!({"verb": "package-distribute", "package": "p", "to": []})).await;
    let advised = |notes: &Value| -> Vec<String> {
        let notes = notes.as_array().into_iter().flatten().filter_map(Value::as_str);
        notes.filter(|note| note.contains("thread_priority")).map(str::to_owned).collect()
    };
    let available = || create(&sequence, "ring", json!({"purpose": "available"}));
    assert_eq!(advised(&ok(&site, available()).await["notes"]), Vec::<String>::new());

    let slow =
        settings("slow", json!([["priority", "5"], ["collection", "slow"], ["thread_priority", "low"]]));
    ok(&site, slow).await;
    let words = "client setting thread_priority is not `normal`, which is advised for feature updates, on";
    let ring = format!("{words} 2 of 3 devices: pc-2 (low), pc-3 (low)");
    assert_eq!(advised(&ok(&site, available()).await["notes"]).join("; "), ring);
    let phased = json!({
        "verb": "deploy", "action": "phased-create", "name": "autumn", "sequence": sequence, "purpose": "available",
        "phases": [{"collection": "slow"}, {"collection": "ring"}], "options": {}, "confirm_high_risk": false,
    });
    let made = ok(&site, phased).await;
    let all = format!("phase 1: {words} 2 of 2 devices: pc-2 (low), pc-3 (low)");
    assert_eq!(advised(&made["notes"]), [all, format!("phase 2: {ring}")]);
    site.close().await;
}

#[tokio::test]
async fn what_is_there_already_has_no_effect_or_is_run_again_is_said() {
    let (_folder, _origin, site) = site().await;
    let update = synchronised(&site).await;
    ok(&site, json!({"verb": "software", "action": "collection-create", "name": "ring"})).await;
    let devices = json!(["pc-1", "pc-2", "pc-3"]);
    let member = json!({"verb": "software", "action": "collection-change", "name": "ring", "devices": devices, "add": true});
    ok(&site, member).await;
    let sequence = empty(&site, "Upgrade").await;
    ok(&site, upgrade(&sequence, &update, json!("end"), &[])).await;
    let required = || confirmed(create(&sequence, "ring", json!({"package": {"no_package": true}})));
    let first = ok(&site, required()).await;
    let id = first["id"].as_str().expect("an id").to_owned();
    assert!(!first["notes"].to_string().contains("already"), "{first}");

    // The same once more: it is made, and said.
    let again = ok(&site, required()).await;
    assert!(again["notes"].to_string().contains(&format!("deployment {id} is the same")), "{again}");
    ok(&site, json!({"verb": "deploy", "action": "stop", "deployment": again["id"]})).await;
    ok(&site, json!({"verb": "software", "action": "collection-create", "name": "other"})).await;
    let elsewhere = confirmed(create(&sequence, "other", json!({"package": {"no_package": true}})));
    assert!(!ok(&site, elsewhere).await["notes"].to_string().contains("already"), "another collection");

    // Without a package nothing but the cloud would be left.
    let change = |cloud: bool| {
        json!({"verb": "deploy", "action": "change", "deployment": id, "available": null, "deadline": null, "expires": null,
            "options": {"cloud": cloud}})
    };
    assert_eq!(asked(&site, change(false)).await.unwrap_err().code, Code::ConflictingOptions);
    ok(&site, change(true)).await;

    // Who runs it again is said with the change that makes them: those on which it failed, as long as they are in the collection.
    let now = crate::clock::now();
    for (number, device, state) in
        [(1, "pc-1", "failed"), (2, "pc-2", "succeeded"), (3, "pc-3", "rolled-back"), (4, "PC-1", "failed")]
    {
        let message = json!({"number": number, "time": now, "deployment": id, "run": 1, "state": state});
        let batch = json!({"series": uuid::Uuid::from_u128(number), "messages": [message]});
        let batch = serde_json::from_value(batch).expect("a batch");
        let taken = crate::device_plane::status::take(&site, device, batch, now).await.expect("it is taken");
        assert_eq!(taken.refused, [], "{device}");
    }
    let notes = async |change: Value| ok(&site, change).await["notes"].to_string();
    let told = notes(command(&sequence)).await;
    assert!(told.contains(&format!("deployment {id}: 2 devices on which it failed run it again")), "{told}");
    let gone = json!({"verb": "software", "action": "collection-change", "name": "ring", "devices": ["pc-3"], "add": false});
    ok(&site, gone).await;
    let told = notes(command(&sequence)).await;
    assert!(told.contains("1 device on which it failed runs it again"), "{told}");
    let never = json!({"verb": "deploy", "action": "change", "deployment": id, "available": null, "deadline": null,
        "expires": null, "options": {"rerun": "never"}});
    ok(&site, never).await;
    let told = notes(command(&sequence)).await;
    assert!(!told.contains("again"), "{told}");
    site.close().await;
}

/// Mission row M36: what is deployed beside a task sequence is thought of for exactly those whom a policy tells it.
#[tokio::test]
async fn what_is_superseded_by_an_update_beside_is_taken_by_nobody() {
    let (_folder, _origin, site) = site().await;
    let update = synchronised(&site).await;
    let now = crate::clock::now();
    for (collection, devices) in [("ring", json!(["pc-1", "pc-2"])), ("beside", json!(["PC-2"]))] {
        ok(&site, json!({"verb": "software", "action": "collection-create", "name": collection})).await;
        let member = json!({"verb": "software", "action": "collection-change", "name": collection, "devices": devices, "add": true});
        ok(&site, member).await;
    }
    let facts = json!({"os_type": "client", "version": "10.0.18363", "architecture": "x64", "language": "en-us",
        "edition": "Enterprise", "free_disk_mb": 90_000});
    let said = facts.clone();
    // An update that is deployed beside, as the database has it: now, tomorrow, and no more.
    let newer = catalog::id::UpdateId::of_esd("Windows 10", 28_000, "business", "x64", "en-us");
    let other = catalog::id::UpdateId::of_esd("Windows 10", 28_001, "business", "x64", "en-us");
    let day = jiff::SignedDuration::from_hours(24);
    site.write(move |w| {
        for name in ["pc-1", "pc-2"] {
            w.put_facts(name, &said, "10.0.0.1", now)?;
        }
        for (number, collection, update, available, stopped) in [
            (1, "beside", newer, now, false),
            (2, "All Systems", other, now + day, false),
            (3, "All Systems", other, now, true),
        ] {
            let row = UpdateDeploymentRow {
                id: format!("XYZ2F00{number}").parse().expect("an id"),
                collection: collection.to_owned(),
                purpose: Purpose::Required,
                available,
                deadline: None,
                expires: None,
                comment: String::new(),
                stopped: None,
                created: now,
                created_by: "test".to_owned(),
                updates: vec![(update, "newer".to_owned())],
            };
            w.create_update_deployment(0xF000 + number, &row)?;
            if stopped {
                w.stop_update_deployment(&row.id, now)?;
            }
        }
        Ok(())
    })
    .await
    .unwrap();
    let mut world = super::check::World::of(&site).await.unwrap();
    for listed in &mut world.known.updates {
        listed.superseded_by = vec![newer, other];
    }
    let document = format!(
        "format = 1\nname = \"x\"\nkind = \"custom\"\n[[step]]\ntype = \"upgrade-os\"\nname = \"up\"\nfeature_updates = [\"{update}\"]\n"
    );
    let sequence = Sequence::parse(&document).unwrap();
    let references = world.references(&sequence);
    let collection = world.collections.iter().find(|one| one.name == "ring").unwrap();
    let about = super::check::About {
        sequence: &sequence,
        references: &references,
        collection,
        cloud: false,
        internet: false,
        planned: Vec::new(),
        planned_software: Vec::new(),
        own: None,
    };
    let checked = super::check::judge(&world, &site.places_now().await.unwrap(), &about);
    let told: Vec<_> = checked
        .clients
        .iter()
        .map(|line| (line.device.as_str(), line.reasons.first().map(|reason| reason.why)))
        .collect();
    assert_eq!(told, [("pc-1", None), ("pc-2", Some(Why::Superseded))]);
    site.close().await;
}
