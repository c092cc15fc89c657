//! A task sequence is carried to another site through its admin API (mission row M40), and what another site may do to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use support::{TestSite, Way};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::api::{Asker, site_with_api};

/// Something that answers each request on a connection of its own with the next of these, and then breaks off.
async fn liar(answers: Vec<(u16, Value)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("it listens"));
    let next = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 64 << 10];
            let _ = stream.read(&mut head).await;
            let Some((status, body)) = answers.get(next.fetch_add(1, Ordering::Relaxed)) else { continue };
            let body = body.to_string();
            let text = format!(
                "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(text.as_bytes()).await;
            let _ = stream.shutdown().await;
            // What is left of the request is read, so that the answer is not lost by a reset.
            let _ = stream.read_to_end(&mut head).await;
        }
    });
    url
}

#[tokio::test]
async fn migrate_drops_fu() {
    let site = TestSite::start(Way::Alone).await;
    site.ok(&["now"]).await;
    let list = site.ok(&["updates", "list", "--product", "Windows 10"]).await;
    let update = list["updates"][0]["update"].as_str().unwrap().to_owned();
    let path = |name: &str| site.folder.path().join(name).to_string_lossy().into_owned();
    std::fs::write(path("setup.exe"), b"MZ setup").unwrap();
    std::fs::write(
        path("portal.toml"),
        "name = \"Portal\"\ninstall = 'setup.exe /q'\ncontent = [\"setup.exe\"]\n",
    )
    .unwrap();
    assert_eq!(site.ok(&["app", "add", &path("portal.toml")]).await["id"], "XYZ00001");
    site.ok(&["ts", "create", "Up", "--upgrade", "--feature-update", &update, "--app", "Portal"]).await;
    let boot = crate::carried::boot_image(&site);
    site.ok(&["image", "add", &boot, "--name", "PE", "--boot"]).await;
    site.ok(&["ts", "set", "Up", "boot_image=PE"]).await;
    std::fs::write(path("secret"), "planted-secret-value").unwrap();
    let secret = path("secret");
    site.ok(&["ts", "step", "add", "Up", "set-variable", "variable=Word", "--value-file", &secret]).await;
    let kept = site.dump().await;

    let (mut other, url) = site_with_api("").await;
    // What has the id of the application there is another one.
    std::fs::write(path("other.toml"), "name = \"Other\"\ninstall = 'other.exe'\n").unwrap();
    assert_eq!(other.ok(&["app", "add", &path("other.toml")]).await["id"], "XYZ00001");
    let token = |asker: &Asker| {
        std::fs::write(path("token"), &asker.token).expect("it is written");
    };
    let file = path("token");
    let migrate = ["ts", "migrate", "Up", "--to", &url, "--token-file", &file];
    token(&Asker { url: url.clone(), token: format!("spsync_{}", "A".repeat(43)) });
    assert_eq!(site.refused("API_TOKEN_REFUSED", &migrate).await.status, 10);
    token(&Asker::of(&other, &url, "grafana", "viewer").await);
    site.refused("NOT_PERMITTED", &migrate).await;
    token(&Asker::of(&other, &url, "mover", "admin").await);
    let far = ["ts", "migrate", "Up", "--to", "http://site02.example:8540", "--token-file", &file];
    site.refused("PLAIN_HTTP_REFUSED", &far).await;
    site.refused(
        "TASK_SEQUENCE_NOT_FOUND",
        &["ts", "migrate", "nothing", "--to", &url, "--token-file", &file],
    )
    .await;

    // First what would come of it, then it.
    let there = other.dump().await;
    let dry: Vec<&str> = ["--dry-run"].into_iter().chain(migrate).collect();
    assert_eq!(site.ok(&dry).await["dry_run"], true);
    assert_eq!(other.dump().await, there);
    let moved = site.ok(&migrate).await;
    assert_eq!(moved["sequences"][0][1], "Up");
    let id = moved["sequences"][0][0].as_str().unwrap();
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let incomplete = texts(&moved["incomplete"]);
    assert!(incomplete.iter().any(|line| line.ends_with(": feature-update")), "{incomplete:?}");
    assert!(incomplete.iter().any(|line| line.ends_with(": application `Portal`")), "{incomplete:?}");
    assert!(incomplete.iter().any(|line| *line == format!("{id}: boot image `PE`")), "{incomplete:?}");
    assert!(incomplete.iter().any(|line| line.ends_with(": hidden-value")), "{incomplete:?}");
    let left_out = texts(&moved["left_out"]);
    for part in ["its feature updates", "its secret", "Portal: its content", "PE: its content"] {
        assert!(left_out.iter().any(|line| line.contains(part)), "{left_out:?}");
    }
    let shown = other.ok(&["ts", "show", id]).await;
    assert_eq!(shown["deployable"], false);
    let all = shown.to_string();
    assert!(
        all.contains("incomplete: feature-update") && !all.contains("planted") && !all.contains(&update),
        "{all}"
    );
    let lint = other.refused("BROKEN_REFERENCE", &["ts", "lint", id]).await;
    assert!(lint.stderr.contains("BOOT_IMAGE_MISSING"), "{lint:?}");
    assert!(lint.stderr.contains("SECRET_MISSING"), "{lint:?}");
    other.ok(&["collection", "create", "ring"]).await;
    other
        .refused("BROKEN_REFERENCE", &["deploy", "create", id, "--collection", "ring", "--no-package"])
        .await;

    // Once more: nothing is doubled, and nothing is replaced that was changed there.
    let there = other.dump().await;
    let again = site.ok(&migrate).await;
    assert_eq!((&again["sequences"], texts(&again["linked"])), (&json!([]), vec![format!("{id} Up")]));
    assert_eq!(other.dump().await, there);
    assert_eq!(site.dump().await, kept, "nothing is taken away here");

    // Repeated, as by somebody who did not hear the answer, a copy is made once; until it is deleted there.
    let anew: Vec<&str> = migrate.into_iter().chain(["--duplicates", "create-new"]).collect();
    let copied = site.ok(&anew).await;
    let there = other.dump().await;
    assert_eq!(site.ok(&anew).await["sequences"], copied["sequences"]);
    assert_eq!(other.dump().await, there);
    let copy = copied["sequences"][0][0].as_str().unwrap();
    other.ok(&["--yes", "ts", "delete", copy]).await;
    let another = site.ok(&anew).await;
    assert_ne!(another["sequences"][0][0], copied["sequences"][0][0]);
    assert_ne!(other.dump().await, there);

    // A site that is older than feature updates in task sequences.
    other.stop_daemon().await;
    other.configure(|text| text.replacen("[site]", "[site]\nrelease = \"2010\"", 1));
    other.start_daemon().await;
    let refused = site.refused("FEATURE_NOT_IN_RELEASE", &anew).await;
    assert!(refused.stderr.contains("2010"), "{refused:?}");
    other.stop_daemon().await;
    let gone = site.json(&anew).await;
    assert!(gone.status == 1 && gone.code().starts_with("SOURCE_"), "{gone:?}");

    // What lies, dies in the middle, or is of another version.
    let welcome = || (200, json!({ "spsync": "9.9.9", "api": "v1", "site": "ABC", "release": "2303" }));
    let imported = |sequences: Value| json!({ "sequences": sequences, "linked": [], "added": [], "incomplete": [], "dry_run": false });
    let own = site.ok(&["ts", "create", "Empty"]).await["id"].as_str().unwrap().to_owned();
    let empty = site.ok(&["ts", "show", &own]).await;
    let kept = site.dump().await;
    for (what, answers, code) in [
        ("another program", vec![(200, json!({ "hello": "world" }))], "SITE_ANSWER_INVALID"),
        (
            "another version",
            vec![(200, json!({ "spsync": "9", "api": "v2", "site": "ABC" }))],
            "SITE_ANSWER_INVALID",
        ),
        ("no API", vec![(404, Value::Null)], "SITE_ANSWER_INVALID"),
        ("says nothing of it", vec![welcome(), (200, imported(json!([])))], "SITE_ANSWER_INVALID"),
        (
            "keeps something else",
            vec![welcome(), (200, imported(json!([["ABC00001", "Up"]]))), (200, empty)],
            "SITE_ANSWER_INVALID",
        ),
        ("dies in the middle", vec![welcome()], ""),
    ] {
        let liar = liar(answers).await;
        let ran = site.json(&["ts", "migrate", "Up", "--to", &liar, "--token-file", &file]).await;
        assert!(ran.status != 0 && (code.is_empty() || ran.code() == code), "{what}: {ran:?}");
    }
    assert_eq!(site.dump().await, kept);
}
