//! The admin API over HTTP: the same verbs and the same refusals as the command line, for whoever has a token.

use std::net::Ipv4Addr;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::{TestSite, Way, free_port, http, until};

/// A request with a body.
fn with(request: reqwest::RequestBuilder, body: &Value) -> reqwest::RequestBuilder {
    request.header("content-type", "application/json").body(body.to_string())
}

/// Somebody who asks over HTTP.
pub struct Asker {
    /// Address of the admin plane.
    pub url: String,
    /// The token that is shown.
    pub token: String,
}

impl Asker {
    /// With a new token of the site.
    pub async fn of(site: &TestSite, url: &str, name: &str, role: &str) -> Self {
        let made = site.ok(&["token", "create", name, "--role", role]).await;
        Self { url: url.to_owned(), token: made["token"].as_str().expect("a token").to_owned() }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        http().request(method, format!("{}/api/v1{path}", self.url)).bearer_auth(&self.token)
    }

    async fn sent(&self, request: reqwest::RequestBuilder) -> (StatusCode, Value) {
        let answer = request.send().await.expect("it answers");
        let status = answer.status();
        (status, serde_json::from_slice(&answer.bytes().await.expect("a body")).unwrap_or_default())
    }

    /// What is answered.
    pub async fn ask(&self, method: Method, path: &str, body: &Value) -> (StatusCode, Value) {
        let request = self.request(method, path);
        self.sent(if body.is_null() { request } else { with(request, body) }).await
    }

    /// The answer to a question, which must be one.
    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask(Method::GET, path, &Value::Null).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        body
    }
}

/// A site whose daemon answers the API.
pub async fn site_with_api(more: &str) -> (TestSite, String) {
    let catalogs = |_: &_, published: &support::DemoCatalog| {
        vec![published.windows11.clone(), published.windows10.clone()]
    };
    let mut site = TestSite::with(Way::Alone, catalogs, more).await;
    let url = site.with_api();
    site.start_daemon().await;
    (site, url)
}

/// Mission row M69: command line, HTTP and log name a refusal by the same code.
#[tokio::test]
async fn refusal_parity_cli_http_log() {
    let (site, url) = site_with_api("").await;
    let admin = Asker::of(&site, &url, "deploy-script", "admin").await;
    site.ok(&["now"]).await;
    let update = site.windows11().await;
    let list = site.ok(&["updates", "list", "--product", "Windows 10"]).await;
    let old = list["updates"][0]["update"].as_str().unwrap();
    site.ok(&["ts", "create", "Up", "--upgrade", "--feature-update", old]).await;
    let path = |name: &str| site.folder.path().join(name).to_string_lossy().into_owned();
    let (zip, bad, facts, media) = (path("up.zip"), path("bad.zip"), path("facts.toml"), path("media"));
    site.ok(&["ts", "export", "Up", "--to", &zip]).await;
    site.ok(&["ts", "import", &zip, "--duplicates", "create-new"]).await;
    std::fs::write(&bad, "PK nothing").unwrap();
    let device = "os_type = \"client\"\nversion = \"6.0\"\nedition = \"Enterprise\"\narchitecture = \"x64\"\nlanguage = \"en-us\"\n";
    std::fs::write(&facts, device).unwrap();
    let device = json!({ "os_type": "client", "version": "6.0", "edition": "Enterprise", "architecture": "x64", "language": "en-us" });
    site.ok(&["package", "create", "taken"]).await;
    site.ok(&["collection", "create", "ring"]).await;
    let (long, longer) = ("x".repeat(51), "x".repeat(256));
    let deploy = |more: Value| {
        let mut body = json!({ "sequence": "Up", "collection": "ring", "purpose": "available" });
        for (name, value) in more.as_object().expect("fields") {
            body[name] = value.clone();
        }
        body
    };
    let none = Value::Null;
    let create = ["deploy", "create", "Up", "--collection", "ring"];
    let deploying =
        |more: &[&'static str]| -> Vec<&str> { create.iter().copied().chain(more.iter().copied()).collect() };
    let refs = "/task-sequences/Up/references?run_from_dp=true";
    let license = format!("/updates/{update}/license");
    let licenses = format!("/updates/{old}/license");
    let (post, get, put, patch) = (Method::POST, Method::GET, Method::PUT, Method::PATCH);

    type Row<'r> = (&'r str, &'r str, u16, Vec<&'r str>, &'r Method, &'r str, Value);
    #[rustfmt::skip]
    let rows: Vec<Row<'_>> = vec![
        ("M01", "DEPLOYMENT_NOT_FOUND", 404, vec!["deploy", "show", "XYZ2FFFF"], &get, "/deployments/XYZ2FFFF", none.clone()),
        ("M01", "DEVICE_NOT_FOUND", 404, vec!["client", "show", "nobody"], &get, "/clients/nobody", none.clone()),
        ("M02", "UPGRADE_PATH_UNSUPPORTED", 422, vec!["ts", "plan", "Up", "--facts", &facts], &post, "/task-sequences/Up/plan", json!({ "device": device })),
        ("M04", "UPGRADE_SOURCE_INVALID", 422, vec!["ts", "create", "x", "--upgrade"], &post, "/task-sequences", json!({ "name": "x", "upgrade": true })),
        ("M06", "UPDATE_NOT_FOUND", 404, vec!["updates", "show", "nothing"], &get, "/updates/nothing", none.clone()),
        ("M08", "PREREQUISITE_MISSING", 409, vec!["ts", "create", "x", "--upgrade", "--image", "NOPE"], &post, "/task-sequences", json!({ "name": "x", "upgrade": true, "image": "NOPE" })),
        ("M08", "OS_UPGRADE_PACKAGE_NOT_FOUND", 404, vec!["image", "show", "NOPE"], &get, "/images/NOPE", none.clone()),
        ("M12", "APPLICATION_NOT_FOUND", 422, vec!["ts", "create", "x", "--upgrade", "--feature-update", old, "--app", "Ghost"], &post, "/task-sequences", json!({ "name": "x", "upgrade": true, "feature_updates": [old], "apps": ["Ghost"] })),
        ("M14", "UNKNOWN_PRODUCT", 422, vec!["sync", "products", "--set", "Nope"], &patch, "/sync/settings", json!({ "change": { "products": ["Nope"] } })),
        ("M16", "LANGUAGE_NOT_AVAILABLE", 422, vec!["package", "add", "taken", "--lang", "xx-xx"], &post, "/packages/taken/members", json!({ "filter": { "languages": ["xx-xx"] } })),
        ("M17", "NAME_TOO_LONG", 422, vec!["package", "create", &long], &post, "/packages", json!({ "name": long })),
        ("M17", "DESCRIPTION_TOO_LONG", 422, vec!["package", "create", "a", "--description", &longer], &post, "/packages", json!({ "name": "a", "description": longer })),
        ("M17", "NAME_IN_USE", 409, vec!["package", "create", "TAKEN"], &post, "/packages", json!({ "name": "TAKEN" })),
        ("M18", "DEPLOYMENT_PACKAGE_CHOICE_REQUIRED", 422, deploying(&[]), &post, "/deployments", deploy(json!({}))),
        ("M18", "CONFLICTING_OPTIONS", 422, deploying(&["--new-package", "a", "--no-package"]), &post, "/deployments", deploy(json!({ "package": { "new_package": "a", "no_package": true } }))),
        ("M20", "RUN_FROM_DP_FEATURE_UPDATE", 422, vec!["ts", "refs", "Up", "--run-from-dp"], &get, refs, none.clone()),
        ("M21", "INVALID_SETTING", 422, vec!["settings", "set", "default", "thread_priority=high"], &patch, "/client-settings/default", json!({ "changes": [["thread_priority", "high"]] })),
        ("M23", "INVALID_SETTING", 422, vec!["settings", "set", "default", "delta_port=0"], &patch, "/client-settings/default", json!({ "changes": [["delta_port", "0"]] })),
        ("M25", "LICENSE_NOT_ACCEPTED", 409, vec!["ts", "create", "x", "--upgrade", "--feature-update", &update], &post, "/task-sequences", json!({ "name": "x", "upgrade": true, "feature_updates": [update] })),
        ("M26", "LICENSE_REVIEW_REQUIRED", 409, vec!["license", "accept", &update], &put, &license, json!({ "accept": true })),
        ("M26", "NO_LICENSE_TERMS", 409, vec!["license", "accept", old], &put, &licenses, json!({ "accept": true })),
        ("M38", "BROKEN_REFERENCE", 409, vec!["ts", "lint", "Up (2)"], &post, "/task-sequences/Up%20(2)/lint", none.clone()),
        ("M38", "BROKEN_REFERENCE", 409, vec!["deploy", "create", "Up (2)", "--collection", "ring", "--no-package"], &post, "/deployments", deploy(json!({ "sequence": "Up (2)", "package": { "no_package": true } }))),
        ("M39", "EXPORT_MALFORMED", 422, vec!["ts", "import", &bad], &post, "/task-sequences/import", json!({ "archive": "UEsgbm90aGluZw==" })),
        ("M41", "PRESTAGE_FEATURE_UPDATE", 409, vec!["prestage", "create", "Up", "--to", &media], &post, "/prestage", json!({ "what": "Up", "file": "x.pkgx" })),
        ("M42", "MEDIA_FEATURE_UPDATE", 409, vec!["media", "create", "Up", "--to", &media], &post, "/task-sequences/Up/media", json!({ "folder": "media" })),
        ("M48", "NAME_REQUIRED", 422, vec!["ts", "create", " "], &post, "/task-sequences", json!({ "name": " " })),
        ("M48", "NAME_TOO_LONG", 422, vec!["ts", "create", &long], &post, "/task-sequences", json!({ "name": long })),
        ("M49", "DESCRIPTION_TOO_LONG", 422, vec!["ts", "create", "a", "--description", &longer], &post, "/task-sequences", json!({ "name": "a", "description": longer })),
        ("M51", "CONFLICTING_OPTIONS", 422, vec!["ts", "create", "x", "--upgrade", "--feature-update", old, "--index", "2"], &post, "/task-sequences", json!({ "name": "x", "upgrade": true, "feature_updates": [old], "index": 2 })),
        ("M60", "TASK_SEQUENCE_NOT_FOUND", 404, vec!["ts", "show", "nothing"], &get, "/task-sequences/nothing", none.clone()),
        ("M64", "STEP_NOT_FOUND", 404, vec!["ts", "step", "remove", "Up", "99"], &Method::DELETE, "/task-sequences/Up/steps/99", none.clone()),
        ("M65", "COLLECTION_NOT_FOUND", 404, vec!["deploy", "create", "Up", "--collection", "x", "--no-package"], &post, "/deployments", deploy(json!({ "collection": "x", "package": { "no_package": true } }))),
        ("M65", "HIGH_RISK_COLLECTION", 409, vec!["deploy", "create", "Up", "--collection", "All Systems", "--purpose", "required", "--no-package"], &post, "/deployments", deploy(json!({ "collection": "All Systems", "purpose": "required", "package": { "no_package": true } }))),
        ("M66", "INTERNET_START_UNSUPPORTED", 422, deploying(&["--new-package", "a", "--internet", "--offered-to", "media"]), &post, "/deployments", deploy(json!({ "package": { "new_package": "a" }, "options": { "internet": true, "offered_to": "media" } }))),
    ];
    // Who accepts without having read is refused, and the text is there to be read.
    site.refused("LICENSE_REVIEW_REQUIRED", &["license", "accept", &update]).await;
    let before = site.dump().await;
    let mut wanted: Vec<&str> = Vec::new();
    for (row, code, status, args, method, path, body) in &rows {
        let ran = site.refused(code, args).await;
        assert!(ran.status > 0, "{row}: {ran:?}");
        let (answered, problem) = admin.ask((*method).clone(), path, body).await;
        assert_eq!(
            (problem["code"].as_str(), answered.as_u16()),
            (Some(*code), *status),
            "{row} {path}: {problem}"
        );
        let told: Value = serde_json::from_str(ran.stderr.lines().last().unwrap()).unwrap();
        for part in ["message", "help"] {
            assert!(problem[part].is_string() && told["error"][part].is_string(), "{row}: {problem}");
        }
        wanted.extend([*code, *code]);
    }
    assert_eq!(site.dump().await, before, "what is refused changes nothing");
    let (_, media) = admin.ask(post.clone(), "/task-sequences/Up/media", &json!({ "folder": "media" })).await;
    assert_eq!(media["hresult"], "0x80070490", "M45: {media}");

    // Each is in the log twice: once for the command line, once for HTTP.
    let lacks = || {
        let log = site.log().join("\n");
        let lacks = |code: &&&str| {
            let expected = wanted.iter().filter(|other| *other == *code).count();
            log.matches(&format!("[{code}]")).count() < expected
        };
        wanted.iter().find(lacks).map(|code| (*code).to_owned())
    };
    until("the log has all of them", async || {
        lacks().inspect(|code| println!("the log lacks {code}")).is_none()
    })
    .await;
}

/// Mission row M67: over HTTP phases have the same rules as on the command line where nothing is said.
#[tokio::test]
async fn phases_of_which_nothing_is_said_have_the_usual_rules() {
    let (site, url) = site_with_api("").await;
    let admin = Asker::of(&site, &url, "deploy-script", "admin").await;
    site.ok(&["ts", "create", "Tidy"]).await;
    site.ok(&["ts", "step", "add", "Tidy", "run-command", "command=cmd /c ver"]).await;
    for name in ["pilot", "ring", "rest"] {
        site.ok(&["collection", "create", name]).await;
    }
    let body = json!({ "name": "by HTTP", "sequence": "Tidy", "purpose": "required",
                       "phases": [{ "collection": "pilot" }, { "collection": "ring", "due_after": 60 }] });
    let (status, made) = admin.ask(Method::POST, "/phased-deployments", &body).await;
    assert_eq!(status, StatusCode::OK, "{made}");
    site.ok(&[
        "deploy",
        "phased",
        "create",
        "by command",
        "--ts",
        "Tidy",
        "--phase",
        "pilot",
        "--phase",
        "ring",
    ])
    .await;
    let rules = async |name: &str| {
        let shown = site.ok(&["deploy", "phased", "show", name]).await;
        let phases = shown["phases"].as_array().unwrap().clone();
        phases.iter().map(|one| json!([one["success"], one["begin"], one["due_after"]])).collect::<Vec<_>>()
    };
    let usual = json!([{ "percent": 95 }, { "after": 86_400 }, 604_800]);
    let mut sooner = usual.clone();
    sooner[2] = json!(60);
    assert_eq!(rules("by HTTP").await, [usual.clone(), sooner]);
    assert_eq!(rules("by command").await, [usual.clone(), usual]);
}

#[tokio::test]
async fn the_api_is_for_those_who_may_and_does_what_the_command_line_does() {
    let (site, url) = site_with_api("").await;
    let admin = Asker::of(&site, &url, "deploy-script", "admin").await;
    let viewer = Asker::of(&site, &url, "grafana", "viewer").await;
    site.refused("NAME_IN_USE", &["token", "create", "Grafana"]).await;

    // Nobody is let in without a token, and pages of others not even with one.
    let code = |answer: (StatusCode, Value)| {
        (answer.0.as_u16(), answer.1["code"].as_str().unwrap_or_default().to_owned())
    };
    let refused = |status: u16, code: &str| (status, code.to_owned());
    let nobody = Asker { url: url.clone(), token: format!("spsync_{}", "A".repeat(43)) };
    assert_eq!(
        code(nobody.ask(Method::GET, "/status", &Value::Null).await),
        refused(401, "API_TOKEN_REFUSED")
    );
    let bare = http().get(format!("{url}/api/v1/status")).send().await.unwrap();
    assert_eq!(
        (bare.status().as_u16(), bare.headers()["www-authenticate"].to_str().unwrap()),
        (401, "Bearer")
    );
    for (field, value) in
        [("host", "evil.example"), ("origin", "http://evil.example"), ("sec-fetch-site", "cross-site")]
    {
        let request = admin.request(Method::GET, "/status").header(field, value);
        assert_eq!(code(admin.sent(request).await), refused(403, "API_ORIGIN_REFUSED"), "{field}");
    }
    let form = admin.request(Method::POST, "/packages").header("content-type", "text/plain").body("{}");
    assert_eq!(code(admin.sent(form).await), refused(415, "API_MEDIA_TYPE"));
    let large = with(admin.request(Method::POST, "/packages"), &json!({ "name": "x".repeat(17 << 20) }));
    match large.send().await {
        Ok(answer) => assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE),
        Err(error) => assert!(error.is_request() || error.is_body(), "{error:?}"),
    }
    assert_eq!(
        code(admin.ask(Method::GET, "/nothing", &Value::Null).await),
        refused(404, "API_ROUTE_UNKNOWN")
    );
    let wrong = admin.request(Method::PUT, "/packages").send().await.unwrap();
    assert_eq!((wrong.status().as_u16(), wrong.headers()["allow"].to_str().unwrap()), (405, "GET, POST"));
    let named = json!({ "name": "p" });
    assert_eq!(code(viewer.ask(Method::POST, "/packages", &named).await), refused(403, "NOT_PERMITTED"));
    assert_eq!(code(viewer.ask(Method::GET, "/tokens", &Value::Null).await), refused(403, "NOT_PERMITTED"));
    let misspelt = json!({ "name": "p", "descripton": "d" });
    assert_eq!(code(admin.ask(Method::POST, "/packages", &misspelt).await), refused(400, "USAGE"));
    assert_eq!(viewer.get("").await["site"], "XYZ");
    assert_eq!(viewer.get("/openapi.json").await["openapi"], "3.1.0");
    let plane =
        http().get(format!("{}/api/v1/status", site.url)).bearer_auth(&admin.token).send().await.unwrap();
    assert_eq!(plane.status(), StatusCode::NOT_FOUND, "the client plane has no admin route");
    let health = http().get(format!("{url}/healthz")).send().await.unwrap();
    assert_eq!(health.text().await.unwrap(), "alive\n");

    // Long work is a task: watched, or waited for.
    let started = admin.request(Method::POST, "/sync/runs").send().await.unwrap();
    assert_eq!(started.status(), StatusCode::ACCEPTED);
    let place = started.headers()["location"].to_str().unwrap().strip_prefix("/api/v1").unwrap().to_owned();
    assert!(place.starts_with("/tasks/"), "{place}");
    let watched = admin.request(Method::GET, &format!("{place}/events")).send().await.unwrap();
    assert_eq!(watched.headers()["content-type"], "text/event-stream");
    let told = tokio::time::timeout(Duration::from_secs(30), watched.text()).await.expect("it ends").unwrap();
    assert!(told.trim_end().rsplit("\n\n").next().unwrap().starts_with("event: done\ndata: {"), "{told}");
    assert_eq!(viewer.get(&place).await["state"], "done");
    let waited = admin.ask(Method::POST, "/sync/runs?wait=30", &Value::Null).await;
    assert!(waited.0 == StatusCode::OK && waited.1["run"].is_number(), "{waited:?}");
    assert_eq!(viewer.get("/sync/runs").await.as_array().unwrap().len(), 2);

    // A dry run changes nothing; what is done is what the command line would have done, in the name of the token.
    let before = site.dump().await;
    let dry = admin.ask(Method::POST, "/packages?dry_run=true", &named).await;
    assert_eq!((dry.0, site.dump().await), (StatusCode::OK, before));
    assert_eq!(admin.ask(Method::POST, "/packages", &named).await.0, StatusCode::OK);
    let again = |name: &str| {
        let request = admin.request(Method::POST, "/packages").header("idempotency-key", "twice");
        admin.sent(with(request, &json!({ "name": name })))
    };
    let first = again("q").await;
    assert_eq!((first.0, again("q").await), (StatusCode::OK, first), "it is made once");
    assert_eq!(code(again("r").await), refused(409, "API_KEY_IN_USE"));
    // What was refused was not done: the same key tries again once the reason is gone.
    let later = || {
        let request = admin.request(Method::POST, "/packages").header("idempotency-key", "later");
        admin.sent(with(request, &named))
    };
    assert_eq!(code(later().await), refused(409, "NAME_IN_USE"));
    assert_eq!(admin.ask(Method::DELETE, "/packages/p", &Value::Null).await.0, StatusCode::OK);
    assert_eq!(later().await.0, StatusCode::OK);
    assert_eq!(viewer.get("/packages/p").await, site.ok(&["package", "show", "p"]).await);
    let acts = viewer.get("/audit?limit=1").await;
    assert_eq!(
        (&acts[0]["who"], &acts[0]["what"]),
        (&json!("token deploy-script"), &json!("package.create")),
        "{acts}"
    );

    // Nobody's work is lost.
    site.ok(&["ts", "create", "Own"]).await;
    let read = admin.request(Method::GET, "/task-sequences/Own").send().await.unwrap();
    let tag = read.headers()["etag"].to_str().unwrap().to_owned();
    let shown: Value = serde_json::from_slice(&read.bytes().await.unwrap()).unwrap();
    let known = admin.request(Method::GET, "/task-sequences/Own").header("if-none-match", &tag);
    assert_eq!(known.send().await.unwrap().status(), StatusCode::NOT_MODIFIED);
    let document = shown["document"].as_str().unwrap().to_owned();
    let change = |tag: Option<&str>| {
        let request = admin.request(Method::PUT, "/task-sequences/Own");
        let request = match tag {
            Some(tag) => request.header("if-match", tag),
            None => request,
        };
        admin.sent(with(request, &json!({ "document": document })))
    };
    assert_eq!(code(change(None).await), refused(428, "API_PRECONDITION_REQUIRED"));
    site.ok(&["ts", "step", "add", "Own", "restart"]).await;
    assert_eq!(code(change(Some(&tag)).await), refused(412, "API_PRECONDITION_FAILED"));
    let read = admin.request(Method::GET, "/task-sequences/Own").send().await.unwrap();
    let tag = read.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(change(Some(&tag)).await.0, StatusCode::OK);
    assert_eq!(admin.get("/task-sequences/Own").await["steps"], 0);

    // A token that is taken back opens nothing, and is found nowhere.
    site.ok(&["token", "revoke", "grafana"]).await;
    assert_eq!(
        code(viewer.ask(Method::GET, "/status", &Value::Null).await),
        refused(401, "API_TOKEN_REFUSED")
    );
    let kept = site.dump().await + &site.log().join("\n") + &site.ok(&["token", "list"]).await.to_string();
    let database = std::fs::read(site.folder.path().join("site/spsync.db")).unwrap();
    for token in [&admin.token, &viewer.token] {
        assert!(!kept.contains(&token[7..]));
        assert!(!database.windows(token.len() - 7).any(|part| part == &token.as_bytes()[7..]));
    }
}

/// What comes of a stream of events, until it ends or one of this kind comes.
async fn heard(stream: &mut reqwest::Response, kind: &str) -> String {
    let mut text = String::new();
    let until = format!("event: {kind}\n");
    let hearing = async {
        while !text.contains(&until) {
            match stream.chunk().await.expect("it goes on") {
                Some(bytes) => text.push_str(&String::from_utf8_lossy(&bytes)),
                None => return,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), hearing).await.expect("within seconds");
    text
}

#[tokio::test]
async fn over_tls_streams_have_their_share_and_end_with_their_token() {
    let mut site = TestSite::start(Way::Alone).await;
    site.ok(&["now"]).await;
    let plain = site.with_api();
    let port = free_port(Ipv4Addr::LOCALHOST);
    site.configure(|text| {
        text.replacen("[admin]", &format!("[admin]\nlisten_tls = \"127.0.0.1:{port}\""), 1)
    });
    let made = site.ok(&["tls", "init", "--name", "127.0.0.1"]).await;
    site.start_daemon().await;
    let url = format!("https://127.0.0.1:{port}");
    assert!(http().get(format!("{url}/api/v1/status")).send().await.is_err(), "nobody vouches for it");
    assert!(http().get(format!("http://127.0.0.1:{port}/healthz")).send().await.is_err(), "TLS only");
    let roots = std::fs::read(made["ca_file"].as_str().unwrap()).unwrap();
    let roots = reqwest::Certificate::from_pem_bundle(&roots).unwrap();
    let trusting = reqwest::Client::builder().no_proxy().tls_certs_only(roots).build().unwrap();
    let viewer = Asker::of(&site, &plain, "grafana", "viewer").await;
    let admin = Asker::of(&site, &plain, "deploy-script", "admin").await;
    let ask = |path: &str, asker: &Asker| {
        trusting.get(format!("{url}/api/v1{path}")).bearer_auth(&asker.token).send()
    };
    assert_eq!(ask("/status", &viewer).await.unwrap().status(), StatusCode::OK);

    // One token has its share of streams, which costs nobody else anything.
    let mut streams = Vec::new();
    for _ in 0..6 {
        let stream = ask("/events", &viewer).await.unwrap();
        assert_eq!(stream.headers()["content-type"], "text/event-stream");
        streams.push(stream);
    }
    let seventh = ask("/events", &viewer).await.unwrap();
    assert_eq!((seventh.status().as_u16(), seventh.headers()["retry-after"].to_str().unwrap()), (429, "5"));
    assert!(seventh.text().await.unwrap().contains("API_TOO_MANY"));
    assert_eq!(ask("/status", &viewer).await.unwrap().status(), StatusCode::OK);
    let mut hers = ask("/events", &admin).await.unwrap();
    drop(streams.split_off(1));
    let mut watching = streams.remove(0);

    // A token that is taken back ends what it left open.
    site.ok(&["token", "revoke", "grafana"]).await;
    let last = heard(&mut watching, "refused").await;
    assert!(last.contains("event: refused\ndata: {") && last.contains("API_TOKEN_REFUSED"), "{last}");
    assert_eq!(watching.chunk().await.unwrap(), None, "it ends");
    let started = admin.ask(Method::POST, "/sync/runs", &Value::Null).await;
    assert_eq!(started.0, StatusCode::ACCEPTED);
    assert!(heard(&mut hers, "task").await.contains("synchronise"), "others go on");

    // Looking at what a change depends on is no review, and changes nothing.
    admin.ask(Method::POST, "/sync/runs?wait=30", &Value::Null).await;
    let update = site.windows11().await;
    let license = format!("/updates/{update}/license");
    let before = site.dump().await;
    for (method, path, body) in [
        (Method::PUT, license.clone(), json!({ "accept": true })),
        (Method::PUT, format!("{license}?dry_run=true"), json!({ "accept": true })),
        (Method::POST, license.clone(), json!({})),
    ] {
        let request = admin.request(method, &path).header("if-match", "\"another\"");
        let (status, refused) = admin.sent(with(request, &body)).await;
        assert_eq!((status.as_u16(), &refused["code"]), (412, &json!("API_PRECONDITION_FAILED")), "{path}");
    }
    let dry = admin.ask(Method::POST, &format!("{license}?dry_run=true"), &json!({})).await;
    assert!(dry.0 == StatusCode::OK && dry.1["text"].is_string(), "{dry:?}");
    assert_eq!(site.dump().await, before);
    site.refused("LICENSE_REVIEW_REQUIRED", &["license", "accept", &update]).await;
    let read = admin.request(Method::GET, &license).send().await.unwrap();
    let tag = read.headers()["etag"].to_str().unwrap().to_owned();
    let request = admin.request(Method::PUT, &license).header("if-match", &tag);
    let accepted = admin.sent(with(request, &json!({ "accept": true }))).await;
    assert_eq!(accepted.0, StatusCode::OK, "who has read it may: {accepted:?}");

    // Of many who read the same and change it, one does; the others are told.
    let settings = "/client-settings/default";
    let read = admin.request(Method::GET, settings).send().await.unwrap();
    let tag = read.headers()["etag"].to_str().unwrap().to_owned();
    let mut changing = tokio::task::JoinSet::new();
    for port in 9_001..9_009 {
        let change = json!({ "changes": [["delta_port", port.to_string()]] });
        changing.spawn(with(admin.request(Method::PATCH, settings).header("if-match", &tag), &change).send());
    }
    let answers = changing.join_all().await;
    let mut statuses: Vec<u16> = answers.into_iter().map(|sent| sent.unwrap().status().as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412, 412, 412, 412, 412, 412, 412]);

    // Who guesses is told to stop, and shuts nobody out.
    let nobody = Asker { url: plain.clone(), token: format!("spsync_{}", "A".repeat(43)) };
    let mut last = 0;
    for _ in 0..11 {
        last = nobody.ask(Method::GET, "/status", &Value::Null).await.0.as_u16();
    }
    assert_eq!(last, 429);
    assert_eq!(admin.ask(Method::GET, "/status", &Value::Null).await.0, StatusCode::OK);

    // What is in `exchange` is used by its name, and leads nowhere else.
    let exchange = site.folder.path().join("site/exchange");
    std::fs::create_dir(exchange.join("copies")).unwrap();
    std::os::unix::fs::symlink(site.folder.path(), exchange.join("elsewhere")).unwrap();
    let named = |name: &str, source: &str| json!({ "name": name, "source": source });
    let (status, refused) = admin.ask(Method::POST, "/packages", &named("p", "elsewhere")).await;
    assert_eq!((status.as_u16(), &refused["code"]), (422, &json!("NAME_NOT_ALLOWED")), "{refused}");
    let (status, refused) = admin.ask(Method::POST, "/packages", &named("p", "")).await;
    assert_eq!((status.as_u16(), &refused["code"]), (409, &json!("SOURCE_IN_USE")), "{refused}");
    let (status, kept) = admin.ask(Method::POST, "/packages", &named("p", "copies")).await;
    assert_eq!(status, StatusCode::OK, "{kept}");
}

/// A certificate that is made anew with other names says how the site is called from then on, and nobody has to start it again.
#[tokio::test]
async fn the_site_is_asked_by_the_names_that_its_certificate_has_now() {
    let (site, url) = site_with_api("").await;
    let viewer = Asker::of(&site, &url, "names", "viewer").await;
    let asked = async |host: &str| {
        let request = viewer.request(Method::GET, "/status").header("host", host);
        let (status, body) = viewer.sent(request).await;
        if status == StatusCode::OK { "answered".to_owned() } else { body["code"].to_string() }
    };
    let refused = "\"API_ORIGIN_REFUSED\"";
    assert_eq!(asked("old.example:8541").await, refused, "nothing says so");
    site.ok(&["tls", "init", "--name", "old.example"]).await;
    assert_eq!((&*asked("old.example:8541").await, &*asked("new.example").await), ("answered", refused));
    site.ok(&["tls", "renew"]).await;
    assert_eq!(asked("old.example").await, "answered", "the same names");
    site.ok(&["tls", "renew", "--name", "new.example"]).await;
    assert_eq!(asked("NEW.example:8541").await, "answered");
    assert_eq!(asked("old.example").await, refused, "whose that name is now, nobody knows");
    assert_eq!(asked("localhost").await, "answered", "as ever");
}
