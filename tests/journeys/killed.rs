//! Killed at any moment, nothing acknowledged is lost and little is fetched again.

use std::process::Stdio;
use std::time::Duration;

use support::{CatalogFormat, Fault, GIB, MIB, TestRng, TestSite, Way};

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
    if cfg!(debug_assertions) {
        // Slower than a debug build hashes. Where the reader is the slower one, the kernel's socket buffers fill, and
        // what is measured is them (up to 36 MiB here) rather than us; a release build needs no such care.
        site.origin.fault(&esd.path, Fault::Slow(60 * MIB));
    }
    site.start_daemon().await;
    site.ok(&["now"]).await;
    site.ok(&["package", "create", "p"]).await;
    let update = esd.update().to_string();
    site.ok(&["package", "add", "p", &update]).await;
    let content = format!("{}/content/{}", site.url, esd.fingerprint.sha256);
    let mut rng = TestRng::new(0x5eed);
    for kill in 1..=10 {
        let mut download = site
            .command(&["-o", "json", "package", "download", "p"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // A random moment while bytes arrive: after so many more than before.
        let until = site.origin.bytes_sent(&esd.path) + size() * rng.within(10..80) / 1_000;
        while site.origin.bytes_sent(&esd.path) < until {
            assert!(download.try_wait().unwrap().is_none(), "kill {kill}: it ended before");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(head(&content).await, 404, "never shown before it is distributed");
        site.kill_daemon().await;
        let _ = download.wait().await;
        site.start_daemon().await;
        let tasks = site.ok(&["task", "list"]).await;
        assert_eq!(tasks[0]["state"], "interrupted", "what was running is told");
    }
    let filled = site.ok(&["package", "download", "p"]).await;
    assert_eq!(filled["files"][0]["sha256"], esd.fingerprint.sha256.to_string());
    site.ok(&["package", "distribute", "p"]).await;
    assert_eq!(head(&content).await, 200);

    // What was asked for again: where each answer began, against how far the one before had been received.
    let asked = site.origin.requests_for(&esd.path);
    let mut from = 0;
    let mut again = 0;
    let mut most_again = 0;
    for (index, seen) in asked.iter().enumerate() {
        let start = seen
            .range
            .as_deref()
            .map_or(0, |range| range["bytes=".len()..].split('-').next().unwrap().parse().unwrap());
        if index > 0 {
            let before: u64 = from + asked[index - 1].bytes_sent;
            most_again = most_again.max(before.saturating_sub(start));
            again += before.saturating_sub(start);
        }
        from = start;
    }
    println!(
        "{} bytes, {} requests, 10 kills: {again} bytes sent twice, at most {most_again} a kill",
        size(),
        asked.len()
    );
    assert!(most_again <= 8 * MIB, "{most_again} bytes were sent twice after one kill");
    assert!(asked.len() > 10, "each kill costs one more request");
}

async fn head(url: &str) -> u16 {
    support::http().head(url).send().await.expect("it answers").status().as_u16()
}
