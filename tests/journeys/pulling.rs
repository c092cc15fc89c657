//! A distribution point that fetches what it is asked for: real processes, counted at the site.

use serde_json::{Value, json};
use support::{http, until};

use crate::points::{Machine, break_file, site_with_package, spawn, state, token};

/// What a command says on a machine.
async fn says(machine: &Machine, args: &[&str]) -> Value {
    let args: Vec<&str> = ["-o", "json"].into_iter().chain(args.iter().copied()).collect();
    let output = spawn(&machine.path("config.toml"), &args).wait_with_output().await.expect("it ends");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{args:?}: {error}: {output:?}"))
}

pub(crate) fn configure(machine: &Machine, before: &str, after: &str) {
    let path = machine.path("config.toml");
    let text = std::fs::read_to_string(&path).expect("it is there");
    assert!(text.contains(before), "{text}");
    std::fs::write(path, text.replacen(before, after, 1)).expect("it is written");
}

#[tokio::test]
async fn many_clients_of_a_pulling_point_cost_the_site_one_copy() {
    let (mut site, sha256, bytes) = site_with_package().await;
    let size = bytes.len() as u64;
    site.ok(&["dp", "add", "rome", "--url", "http://127.0.0.9:1"]).await;
    let mut rome = Machine::new("127.0.0.9", &site.url, &token(&site, "rome").await, "");
    site.ok(&["dp", "set", "rome", &format!("url={}", rome.url)]).await;
    let content = format!("/content/{sha256}");
    rome.start().await;
    until("heard of", async || site.ok(&["dp", "list"]).await[1]["free"].is_u64()).await;
    assert_eq!(rome.get(&content).await, None, "off unless it is turned on");
    rome.stop().await;
    configure(&rome, "[server]", "[server]\nmax_connections_per_client = 64");
    configure(&rome, "role = \"standard\"", "role = \"pull\"\non_demand_wait = \"4s\"\non_demand = true");
    rome.start().await;
    assert_eq!(rome.get(&content).await, None, "the site has given it to nobody");

    // It was given to the site's own point: any other that pulls may have it, where the site lets it pull.
    site.ok(&["package", "distribute", "p"]).await;
    until("it says so", async || site.ok(&["dp", "list"]).await[1]["on_demand"] == true).await;
    assert_eq!(rome.get(&content).await, None, "its own word is not enough");
    site.ok(&["dp", "set", "rome", "on_demand=yes"]).await;
    let placed = async || {
        let told = site.ok(&["content", "locate", "--ip", "127.0.0.99", &sha256]).await;
        let all = told["candidates"].as_array().unwrap().clone();
        all.iter().filter(|one| one["verdict"] == "in" && one["kind"] == "distribution-point").count()
    };
    until("clients are sent there", async || placed().await == 2).await;
    // Not while it may fetch nothing, and who comes all the same goes elsewhere at once.
    site.ok(&["dp", "set", "rome", "schedule=closed"]).await;
    assert_eq!(placed().await, 1);
    until("it knows", async || rome.status().await["point"]["paused"] == "schedule: closed").await;
    let closed = http().get(format!("{}{content}", rome.url)).send().await.unwrap();
    assert_eq!(closed.status(), 404);
    site.ok(&["dp", "set", "rome", "schedule="]).await;
    assert_eq!(placed().await, 2);
    until("it knows", async || rome.status().await["point"].get("paused").is_none()).await;
    let sent =
        async || site.ok(&["status"]).await["served"]["bytes"]["distribution-point"].as_u64().unwrap_or(0);
    let before = sent().await;
    // The last answer is remembered for a moment.
    until("it may be had", async || {
        let head = http().head(format!("{}{content}", rome.url)).send().await.unwrap();
        head.status() == 200 && head.headers()["content-length"] == size.to_string().as_str()
    })
    .await;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let url = format!("{}{content}", rome.url);
        clients.spawn(async move { http().get(url).send().await.unwrap().bytes().await.unwrap() });
    }
    while let Some(got) = clients.join_next().await {
        assert!(got.unwrap() == bytes);
    }
    let cost = sent().await - before;
    assert!(
        (size..size + size / 4).contains(&cost),
        "one copy of {size} bytes and a few questions, not {cost}"
    );
    until("on its shelf", async || says(&rome, &["content", "list"]).await[0]["pulled"]["used"].is_string())
        .await;
    let status = rome.status().await;
    let pulled = &status["point"]["on_demand"];
    assert_eq!(
        (&pulled["contents"], &pulled["bytes"], &pulled["fetched_bytes"]),
        (&json!(1), &json!(size), &json!(size))
    );
    assert_eq!(status["served"]["bytes"]["pull-through"], 16 * size, "{status}");
    let shown = says(&rome, &["content", "show", &sha256]).await;
    assert!(shown["pulled"]["since"].is_string(), "{shown}");
    assert_eq!(rome.get(&format!("/locations/{sha256}")).await, None, "only the site tells of others");

    // And so it is by the names that the site knows it by.
    let find = |all: &Value| {
        let files = all["files"].as_array().unwrap().clone();
        let file = files.into_iter().find(|file| file["sha256"] == sha256.as_str()).unwrap();
        format!("/packages/{}/{}", all["id"].as_str().unwrap(), file["file_name"].as_str().unwrap())
    };
    let named = find(&site.ok(&["package", "show", "p"]).await);
    assert_eq!(rome.get(&named).await.as_deref(), Some(bytes.as_slice()));

    // It lasts, also without the site, and makes room for another one.
    let other = async |position: usize| {
        let shown = site.ok(&["package", "show", "p"]).await;
        let all = shown["files"].as_array().unwrap().clone();
        let others: Vec<_> = all.into_iter().filter(|file| file["sha256"] != sha256.as_str()).collect();
        (others[position]["sha256"].as_str().unwrap().to_owned(), others[position]["size"].as_u64().unwrap())
    };
    let (second, second_size) = other(0).await;
    let (third, _) = other(1).await;
    rome.stop().await;
    configure(
        &rome,
        "on_demand = true",
        &format!("on_demand = true\non_demand_room = \"{}B\"", size.max(second_size)),
    );
    assert_eq!(site.stop_daemon().await, 0);
    rome.start().await;
    assert_eq!(rome.get(&content).await.as_deref(), Some(bytes.as_slice()));
    let refused = http().get(format!("{}/content/{second}", rome.url)).send().await.unwrap();
    assert_eq!(refused.status(), 404, "its site is away for longer than anybody waits");
    site.start_daemon().await;
    until("another one comes", async || rome.get(&format!("/content/{second}")).await.is_some()).await;
    until("the first has gone", async || {
        let listed = says(&rome, &["content", "list"]).await;
        listed.as_array().unwrap().len() == 1 && listed[0]["sha256"] == second.as_str()
    })
    .await;
    assert!(!rome.path("point/content/blobs").join(&sha256[..2]).join(&sha256).exists());
    assert_eq!(rome.status().await["point"]["on_demand"]["evicted"], 1);

    // What is given to it stays, and goes when it is taken off.
    site.ok(&["package", "distribute", "p", "--to", "rome"]).await;
    until("given", async || state(&site, "rome").await == "success").await;
    let listed = says(&rome, &["content", "list"]).await;
    assert!(listed.as_array().unwrap().iter().all(|one| one.get("pulled").is_none()), "{listed}");
    assert_eq!(rome.status().await["point"]["on_demand"]["contents"], 0);
    site.ok(&["package", "withdraw", "p", "--from", "rome"]).await;
    until("taken off", async || says(&rome, &["content", "list"]).await == json!([])).await;

    // The site's own copy goes bad, and nobody has another one: that is no withdrawal, and what others fetched stays with them.
    let key = std::fs::read_to_string(rome.path("point/point.key")).unwrap();
    let offered = async || {
        let offer = http().get(format!("{}/point/offer/{third}?pieces=no", site.url)).bearer_auth(key.trim());
        offer.send().await.unwrap().status().as_u16()
    };
    assert_eq!(offered().await, 200);
    let esd = site.published.esds.iter().find(|esd| esd.fingerprint.sha256.to_string() == third).unwrap();
    site.origin.fault(&esd.path, support::Fault::Status(404, None));
    break_file(&site.folder.path().join("site/content/blobs").join(&third[..2]).join(&third));
    site.refused("PACKAGE_PARTLY_DONE", &["package", "validate", "p", "--repair"]).await;
    assert_eq!(offered().await, 503);
    site.origin.heal(&esd.path);
    site.ok(&["package", "download", "p"]).await;
    assert_eq!(offered().await, 200);

    // Private content is fetched for nobody here: it was not sent to this point.
    site.ok(&["package", "set", "p", "access=private"]).await;
    assert_eq!(rome.get(&format!("/content/{third}")).await, None);
    assert_eq!(offered().await, 404);
    rome.stop().await;
}
