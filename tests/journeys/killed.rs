//! Killed at any moment, nothing acknowledged is lost and little is fetched again.

use std::time::Duration;

use support::{CatalogFormat, GIB, MIB, TestRng, TestSite, Way};

/// Bytes of the file; `SPSYNC_TEST_GIB=5` for the whole length.
fn size() -> u64 {
    let gib = std::env::var("SPSYNC_TEST_GIB").ok().and_then(|gib| gib.parse::<u64>().ok());
    gib.map_or(256 * MIB, |gib| gib * GIB)
}

#[tokio::test]
async fn a_large_download_killed_ten_times_ends_verified() {
    let mut site = TestSite::with(Way::Alone, |_, _| vec!["placeholder".to_owned()], "").await;
    let esd = site.origin.publish(support::esd("Windows 10", "en-us").of_size(size())).await;
    let catalog = site.origin.publish_catalog("large.cab", CatalogFormat::Cabinet);
    let config = site.folder.path().join("config.toml");
    let placeholder = site.folder.path().join("site/placeholder");
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(!text.contains(&*placeholder.to_string_lossy()));
    std::fs::write(&config, text.replace("\"placeholder\"", &format!("{catalog:?}"))).unwrap();
    site.start_daemon().await;
    site.ok(&["now"]).await;
    site.ok(&["package", "create", "p"]).await;
    let update = esd.update().to_string();
    site.ok(&["package", "add", "p", &update]).await;
    let content = format!("{}/content/{}", site.url, esd.fingerprint.sha256);
    let mut rng = TestRng::new(0x5eed);
    let mut kills = 0;
    let mut wait = Duration::from_millis(150 * size().div_ceil(256 * MIB));
    while kills < 10 {
        let mut download = site.command(&["-o", "json", "package", "download", "p"]).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        let pause = wait.mul_f64(0.3 + rng.within(0..1_000) as f64 / 1_000.0);
        let ended = tokio::time::timeout(pause, download.wait()).await;
        assert_eq!(reqwest::Client::new().head(&content).send().await.unwrap().status(), 404, "never shown before it is distributed");
        if ended.is_ok() {
            // Too late: it is there already. Shorter next time, from the start.
            wait /= 2;
            site.kill_daemon().await;
            std::fs::remove_dir_all(site.folder.path().join("site")).unwrap();
            site.origin.upstream().forget_requests();
            kills = 0;
            site.start_daemon().await;
            site.ok(&["now"]).await;
            site.ok(&["package", "create", "p"]).await;
            site.ok(&["package", "add", "p", &update]).await;
            continue;
        }
        site.kill_daemon().await;
        let _ = download.wait().await;
        kills += 1;
        site.start_daemon().await;
        let tasks = site.ok(&["task", "list"]).await;
        assert_eq!(tasks[0]["state"], "interrupted", "what was running is told");
    }
    let filled = site.ok(&["package", "download", "p"]).await;
    assert_eq!(filled["files"][0]["sha256"], esd.fingerprint.sha256.to_string());
    site.ok(&["package", "distribute", "p"]).await;
    assert_eq!(reqwest::Client::new().head(&content).send().await.unwrap().status(), 200);

    // What was asked for again: where each answer began, against how far the one before had been received.
    let asked = site.origin.requests_for(&esd.path);
    let mut from = 0;
    let mut again = 0;
    let mut most_again = 0;
    for (index, seen) in asked.iter().enumerate() {
        let start = seen.range.as_deref().map_or(0, |range| range["bytes=".len()..].split('-').next().unwrap().parse().unwrap());
        if index > 0 {
            let before: u64 = from + asked[index - 1].bytes_sent;
            most_again = most_again.max(before.saturating_sub(start));
            again += before.saturating_sub(start);
        }
        from = start;
    }
    println!("{} bytes, {} requests, {kills} kills: {again} bytes sent twice, at most {most_again} a kill", size(), asked.len());
    assert!(most_again <= 8 * MIB, "{most_again} bytes were sent twice after one kill");
    assert!(asked.len() > kills, "each kill cost one more request at least");
}
