//! Packages that are not for everybody.

use serde_json::json;
use support::{TestSite, Way, http};

#[tokio::test]
async fn a_private_package_is_not_there_for_strangers() {
    let site = TestSite::with(Way::Daemon, |_, published| vec![published.windows10.clone()], "").await;
    site.ok(&["now"]).await;
    let made = site.ok(&["package", "create", "p", "--private"]).await;
    assert_eq!(made["access"], "private");
    site.ok(&["package", "add", "p"]).await;
    site.ok(&["package", "download", "p"]).await;
    site.ok(&["package", "distribute", "p"]).await;
    let shown = site.ok(&["package", "show", "p"]).await;
    let (file, digest) = (&shown["files"][0]["file_name"], &shown["files"][0]["sha256"]);
    let (file, digest) = (file.as_str().unwrap(), digest.as_str().unwrap());
    let id = shown["id"].as_str().unwrap();
    let names = [
        format!("/content/{digest}"),
        format!("/packages/{id}/{file}"),
        format!("/content/{digest}.meta4"),
        format!("/packages/{id}/{file}.meta4"),
        format!("/content/{digest}/pieceshash"),
        format!("/locations/{digest}"),
    ];
    let statuses = async || {
        let mut all = Vec::new();
        for name in &names {
            all.push(http().get(format!("{}{name}", site.url)).send().await.unwrap().status().as_u16());
        }
        all
    };
    assert_eq!(statuses().await, [404; 6]);

    // A device that enrolled shows its key; the word of nobody else counts, and not after it was revoked.
    let token = site.ok(&["key", "enrol", "desk-7"]).await["token"].as_str().unwrap().to_owned();
    let file = site.folder.path().join("token");
    std::fs::write(&file, &token).unwrap();
    site.ok(&["client", "enrol", "--token-file", &file.to_string_lossy()]).await;
    let key = std::fs::read_to_string(site.folder.path().join("device/device.key")).unwrap();
    let by = async |key: &str| {
        let asked = http().get(format!("{}{}", site.url, names[0])).bearer_auth(key.trim());
        asked.send().await.unwrap().status().as_u16()
    };
    // A key that follows from it opens content, and speaks for nobody.
    let content_key = dp::client::content_key(key.trim());
    assert_eq!((by(&key).await, by(&content_key).await, by(&token).await), (200, 200, 404));
    let policy = http().get(format!("{}/client/policy", site.url)).bearer_auth(&content_key);
    assert_eq!(policy.send().await.unwrap().status(), 401);
    let fetched = site.ok(&["client", "fetch", "--no-later", digest]).await;
    let size = shown["files"][0]["size"].as_u64().unwrap();
    assert_eq!((&fetched["private"], &fetched["bytes"]["points"]), (&json!(true), &json!(size)));
    let kept = site.ok(&["client", "content"]).await;
    assert_eq!((&kept[0]["content"], &kept[0]["private"]), (&json!(digest), &json!(true)));
    assert_eq!(
        site.ok(&["--dry-run", "client", "clean", "--all"]).await,
        json!([]),
        "it was used a moment ago"
    );

    // What a device did not have to fetch is counted beside what it took, and shown.
    let report = json!({ "content": digest, "taken": [{ "kind": "saved", "bytes": 5 }] }).to_string();
    let told = http().post(format!("{}/client/report", site.url)).bearer_auth(key.trim()).body(report);
    assert_eq!(told.send().await.unwrap().status(), 204);
    let taken = site.ok(&["status"]).await["taken"].clone();
    let of = |kind: &str| {
        let rows = taken.as_object().unwrap().values();
        rows.filter_map(|row| row[kind].as_u64()).sum::<u64>()
    };
    assert_eq!((of("saved"), of("distribution-point")), (5, size), "{taken}");
    let shown = site.run(&["status"]).await.stdout;
    assert!(shown.contains(" SAVED    5 B of "), "{shown}");

    // What the site offers gets a map of its blocks, which is as private.
    let blocks = async |key: Option<&str>| {
        let asked = http().get(format!("{}{}/blocks", site.url, names[0]));
        let asked = if let Some(key) = key { asked.bearer_auth(key.trim()) } else { asked };
        asked.send().await.unwrap().status().as_u16()
    };
    let mut tries = 0;
    while blocks(Some(&key)).await != 200 {
        tries += 1;
        assert!(tries < 200, "no map was made");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(blocks(None).await, 404);
    site.ok(&["--yes", "key", "revoke", "desk-7"]).await;
    assert_eq!((by(&key).await, by(&content_key).await), (404, 404));

    let would = site.ok(&["--dry-run", "package", "set", "p", "access=public"]).await;
    assert_eq!((&would["changed"], &would["dry_run"]), (&json!(true), &json!(true)));
    assert_eq!(statuses().await, [404; 6], "a dry run changes nothing");
    site.ok(&["package", "set", "p", "access=public"]).await;
    assert_eq!(statuses().await, [200; 6]);
    let served = site.ok(&["status"]).await["served"].clone();
    assert_eq!(served["refused"]["forbidden"], 16, "{served}");
    assert!(served["bytes"]["distribution-point"].as_u64().unwrap() > 0, "{served}");

    site.ok(&["package", "set", "p", "access=private"]).await;
    assert_eq!(statuses().await, [404; 6], "at once");
    assert_eq!(site.json(&["package", "set", "p", "access=secret"]).await.status, 2);
    assert_eq!(site.json(&["package", "set", "p", "colour=red"]).await.status, 2);
}
