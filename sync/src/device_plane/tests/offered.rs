//! What is deployed is offered, also what an edit brings.

use super::*;

#[tokio::test]
async fn an_edit_of_a_deployed_task_sequence_offers_what_it_brings() {
    let (folder, _origin, site) = site().await;
    let made = json!({"verb": "ts", "action": "create", "name": "Portal", "upgrade": false});
    let sequence = ok(&site, made).await["id"].as_str().unwrap().to_owned();
    let step = |kind: &str, changes: Value| {
        json!({"verb": "ts", "action": "step-add", "sequence": sequence, "kind": kind, "place": "end",
               "changes": changes, "value": null})
    };
    ok(&site, step("run-command", json!([["command", "cmd /c ver"]]))).await;
    ok(&site, software(SoftwareRequest::CollectionCreate { name: "pilot".to_owned() })).await;
    ok(&site, create(&sequence, "pilot", json!({"purpose": "available", "package": {}}))).await;

    std::fs::write(folder.path().join("setup.exe"), "MZ of a portal").unwrap();
    let form = "name = \"Portal\"\ninstall = 'setup.exe /quiet'\ncontent = [\"setup.exe\"]\n".to_owned();
    let added = software(SoftwareRequest::AppAdd { form, folder: folder.path().to_owned() });
    let app = ok(&site, added).await["id"].as_str().unwrap().to_owned();
    assert_eq!(site.shelf.load().contents.len(), 0, "nobody is told to install it");
    ok(&site, step("install-application", json!([["applications", format!("[\"{app}\"]")]]))).await;
    let names = || -> Vec<String> {
        site.shelf.load().contents.values().map(|servable| servable.name.to_string()).collect()
    };
    assert_eq!(names(), ["setup.exe"]);
    let shown = ok(&site, json!({"verb": "ts", "action": "show", "sequence": sequence})).await;
    let last = shown.to_string();
    assert!(last.contains(&app), "{last}");
    site.close().await;
}
