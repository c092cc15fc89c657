//! Packages that are not for everybody.

use catalog::digest::Sha256Digest;
use serde_json::{Value, json};
use support::{TestDevice, TestSite, Way, http, until};

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
    until("the map is made", async || blocks(Some(&key)).await == 200).await;
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

/// A point by hand: what it asks, and what it is answered.
struct Point {
    url: String,
    key: String,
}

impl Point {
    const INSTANCE: &str = "0f1e0000-0000-0000-0000-000000000000";

    /// Enrols with a key of its own.
    async fn enrol(site: &TestSite, name: &str) -> Self {
        let token = site.ok(&["dp", "enrol", name]).await["token"].clone();
        let key = format!("spsync_{}", "A".repeat(43));
        let key_sha256 = Sha256Digest::of(key.as_bytes()).to_string();
        let enrolment = json!({"token": token, "key_sha256": key_sha256, "instance": Self::INSTANCE});
        let enrolled = http().post(format!("{}/enrol", site.url)).body(enrolment.to_string()).send().await;
        assert_eq!(enrolled.expect("an answer").status(), 200);
        Self { url: site.url.clone(), key }
    }

    /// Status, tag, tag of the keys, and body.
    async fn asks(&self, path: &str, known: &str) -> (u16, String, String, Value) {
        let asked = http().get(format!("{}/point/{path}", self.url)).bearer_auth(&self.key);
        let answer = asked.header("if-none-match", known).send().await.expect("an answer");
        let field = |name| {
            let field = answer.headers().get(name).map(|field| field.to_str().expect("a text").to_owned());
            field.unwrap_or_default()
        };
        let (status, tag, keys) = (answer.status().as_u16(), field("etag"), field("spsync-keys"));
        let body = answer.bytes().await.expect("a body");
        (status, tag, keys, serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn reports(&self, more: Value) -> (u16, Value) {
        let mut report =
            json!({"instance": Self::INSTANCE, "boot": Self::INSTANCE, "program": "0", "free": 1});
        report.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
        let told = http().post(format!("{}/point/report", self.url)).bearer_auth(&self.key);
        let answer = told.body(report.to_string()).send().await.expect("an answer");
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.expect("a body")).unwrap_or_default())
    }
}

#[tokio::test]
async fn points_are_told_keys_with_everything_else_or_by_themselves() {
    let site = TestSite::with(Way::Daemon, |_, published| vec![published.windows10.clone()], "").await;
    site.ok(&["now"]).await;
    site.ok(&["package", "create", "p", "--private"]).await;
    site.ok(&["package", "add", "p"]).await;
    site.ok(&["package", "download", "p"]).await;
    site.ok(&["dp", "add", "lyon", "--url", "http://127.0.0.2:1"]).await;
    site.ok(&["package", "distribute", "p", "--to", "lyon"]).await;
    for name in ["desk-7", "desk-8"] {
        TestDevice::new(&site, name, "127.0.0.1").enrol(&site).await;
    }
    let lyon = Point::enrol(&site, "lyon").await;
    // A point of before is told them with everything else, and hears of nothing else.
    let (status, old, field, body) = lyon.asks("assignment", "").await;
    assert_eq!((status, body["keys"].as_array().map(Vec::len), field.as_str()), (200, Some(2), ""), "{body}");
    assert_eq!(lyon.asks("assignment", &old).await.0, 304);
    // One that says which it has is told which it is to have, and asks for them.
    let (status, tag, keys, apart) = lyon.asks("assignment?keys=", "").await;
    assert_eq!((status, &apart["keys"], &apart["packages"]), (200, &Value::Null, &body["packages"]));
    let (status, same, again, _) = lyon.asks("assignment?wait=20&keys=none", &tag).await;
    assert_eq!((status, &same, &again), (304, &tag, &keys), "at once");
    let (status, .., told) = lyon.asks("keys", "").await;
    assert_eq!(
        (status, &told["tag"], &told["keys"], &told["since"]),
        (200, &json!(keys), &body["keys"], &Value::Null)
    );
    assert_eq!(lyon.asks(&format!("assignment?keys={keys}"), &tag).await.0, 304);
    assert_eq!(lyon.asks("keys?instance=another", "").await.0, 409);
    // A third device: who waits hears of it, and is told that one alone.
    let waiting = format!("assignment?wait=25&keys={keys}");
    let (heard, ()) = tokio::join!(lyon.asks(&waiting, &tag), async {
        TestDevice::new(&site, "desk-9", "127.0.0.1").enrol(&site).await;
    });
    let (status, same, more, _) = heard;
    assert_eq!((status, &same), (304, &tag), "the rest is as it was");
    let (.., told) = lyon.asks(&format!("keys?since={keys}"), "").await;
    assert_eq!((&told["tag"], &told["since"]), (&json!(more), &json!(keys)), "{told}");
    assert_eq!(told["keys"].as_array().map(Vec::len), Some(1), "{told}");
    let (status, renewed, _, body) = lyon.asks("assignment", &old).await;
    assert_eq!(
        (status, body["keys"].as_array().map(Vec::len)),
        (200, Some(3)),
        "all of it, to one of before"
    );
    assert_ne!(renewed, old);
    site.ok(&["--yes", "key", "revoke", "desk-7"]).await;
    let (.., told) = lyon.asks(&format!("keys?since={more}"), "").await;
    assert_eq!((&told["keys"], told["gone"].as_array().map(Vec::len)), (&json!([]), Some(1)), "{told}");
    // Where nothing is private there is nothing to know.
    site.ok(&["package", "set", "p", "access=public"]).await;
    let (.., none) = lyon.asks("keys", "").await;
    assert_eq!(none["keys"], json!([]));
    let (status, tag, keys, _) = lyon.asks(&format!("assignment?keys={more}"), &tag).await;
    assert_eq!((status, json!(keys)), (200, none["tag"].clone()), "its files are public");

    // What was said of all packages is not said again.
    let package = &body["packages"][0];
    let said =
        json!([{"package": package["package"], "order": package["order"], "state": "sending", "done": 1}]);
    assert_eq!(
        lyon.reports(json!({"state": "a"})).await,
        (200, json!({"changes": true})),
        "it is to be said"
    );
    let full = json!({"packages": said, "state": "a", "assignment": tag});
    let known = (200, json!({"state": "a", "changes": true}));
    assert_eq!(lyon.reports(full).await, known);
    assert_eq!(crate::points::state(&site, "lyon").await, "sending");
    assert_eq!(lyon.reports(json!({"state": "a"})).await, known);
    let changed = json!({"since": "a", "packages": said});
    let next = lyon.reports(json!({"changed": changed, "state": "b", "assignment": tag, "number": 7})).await;
    assert_eq!(next, (200, json!({"state": "b", "changes": true})), "what changed alone");
    assert_eq!(lyon.reports(json!({"packages": said})).await.0, 204, "a point of before");
    assert_eq!(lyon.reports(json!({})).await.0, 400);
}
