//! What is not what it was: a machine in the place of a point, a point without its data, a site from a backup.

use std::path::Path;

use serde_json::json;
use support::{http, until};

use crate::points::{Machine, site_with_package, state, token};

/// The files of the database in a folder.
fn database(folder: &Path) -> Vec<std::path::PathBuf> {
    let all = std::fs::read_dir(folder).expect("it is there").map(|entry| entry.expect("it is read").path());
    all.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(".db"))).collect()
}

/// Contents that a point serves though its site names them no more.
async fn unnamed(point: &Machine) -> u64 {
    point.status().await["point"]["unnamed"]["contents"].as_u64().unwrap_or(0)
}

#[tokio::test]
async fn nobody_is_sent_to_an_empty_machine_and_a_site_from_a_backup_empties_none() {
    let (mut site, sha256, bytes) = site_with_package().await;
    let content = format!("/content/{sha256}");
    site.ok(&["dp", "add", "lyon", "--url", "http://127.0.0.10:1"]).await;
    let mut old = Machine::new("127.0.0.10", &site.url, &token(&site, "lyon").await, "");
    site.ok(&["dp", "set", "lyon", &format!("url={}", old.url)]).await;
    old.start().await;
    site.ok(&["package", "distribute", "p", "--to", "lyon", "--wait"]).await;
    let locations = format!("{}/locations/{sha256}", site.url);
    let told = async || {
        let asked = http().get(&locations).send().await.expect("it answers");
        asked.text().await.expect("a body").contains("http://127.0.0.10:")
    };
    assert!(told().await);

    // Its disk has died. Another machine gets its name, and cannot hold as much.
    old.kill().await;
    let mut lyon = Machine::new("127.0.0.10", &site.url, &token(&site, "lyon").await, "");
    let config = std::fs::read_to_string(lyon.path("config.toml")).unwrap();
    let small = config.replace("min_free = \"0\"", "min_free = \"1000TiB\"");
    std::fs::write(lyon.path("config.toml"), small).unwrap();
    lyon.start().await;
    until("its failure is seen", async || state(&site, "lyon").await == "failed").await;
    let placed = site.ok(&["content", "status", "p"]).await[0].clone();
    assert_eq!(
        (&placed["problem"]["code"], &placed["done"]),
        (&json!("DP_DISK_FULL"), &json!(0)),
        "{placed}"
    );
    assert!(placed["next_retry"].is_string(), "it is tried again: {placed}");
    assert!(!told().await, "nobody is sent there");
    lyon.stop().await;
    std::fs::write(lyon.path("config.toml"), config).unwrap();
    lyon.start().await;
    site.ok(&["package", "retry", "p", "--to", "lyon", "--wait"]).await;
    assert!(told().await && lyon.get(&content).await.as_deref() == Some(bytes.as_slice()));

    // The same machine loses what it has, but for its key, and may fetch nothing now.
    site.ok(&["dp", "set", "lyon", "schedule=closed"]).await;
    lyon.stop().await;
    database(&lyon.path("point")).iter().for_each(|path| std::fs::remove_file(path).unwrap());
    std::fs::remove_dir_all(lyon.path("point/content")).unwrap();
    lyon.start().await;
    until("nobody is sent there", async || !told().await && state(&site, "lyon").await == "queued").await;
    site.ok(&["dp", "set", "lyon", "schedule="]).await;
    until("it has it again", async || told().await && state(&site, "lyon").await == "success").await;
    site.ok(&["package", "withdraw", "p", "--from", "lyon"]).await;
    until("taken off", async || state(&site, "lyon").await == "none" && lyon.get(&content).await.is_none())
        .await;

    // The database of the site is that of before the package was sent.
    let (data, backup) = (site.folder.path().join("site"), tempfile::tempdir().unwrap());
    let put = |from: &Path, to: &Path| {
        database(to).iter().for_each(|path| std::fs::remove_file(path).unwrap());
        for path in database(from) {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    };
    site.stop_daemon().await;
    put(&data, backup.path());
    site.start_daemon().await;
    site.ok(&["package", "distribute", "p", "--to", "lyon", "--wait"]).await;
    site.stop_daemon().await;
    put(backup.path(), &data);
    site.start_daemon().await;
    until("it is not named", async || unnamed(&lyon).await > 0).await;
    assert_eq!(lyon.get(&content).await.as_deref(), Some(bytes.as_slice()), "it is served on");
    lyon.stop().await;
    lyon.start().await;
    assert!(unnamed(&lyon).await > 0 && lyon.get(&content).await.is_some(), "and after a restart");
    site.ok(&["package", "distribute", "p", "--to", "lyon", "--wait"]).await;
    assert_eq!(unnamed(&lyon).await, 0);
    site.ok(&["package", "withdraw", "p", "--from", "lyon"]).await;
    until("taken off", async || state(&site, "lyon").await == "none" && lyon.get(&content).await.is_none())
        .await;
    lyon.stop().await;
}
