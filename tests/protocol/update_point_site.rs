//! Another site of ours that synchronises from this one: both ends of the protocol, through the real program.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use support::{TestSite, Way, data_dir};

use crate::downstream::*;

/// A site below the one at `url`.
async fn below(url: &str) -> TestSite {
    let site = TestSite::with(Way::Alone, |_, published| vec![published.windows11.clone()], "").await;
    let folder = site.folder.path().join("conf.d");
    std::fs::create_dir(&folder).expect("it is new");
    let text = format!(
        "[sync]\nallow_plain_http = true\nproducts = [\"Windows\"]\n[[source]]\nname = \"up\"\nkind = \"wsus\"\nurl = {url:?}\n\
         allow_networks = [\"127.0.0.0/8\"]\n"
    );
    std::fs::write(folder.join("up.toml"), text).expect("it is written");
    site
}

/// What a site knows of documents.
async fn known(site: &TestSite) -> Vec<String> {
    let dump = site.dump().await;
    let wanted =
        |line: &&str| ["metadata\t", "relation\t", "metadata file\t"].iter().any(|it| line.starts_with(it));
    dump.lines().filter(wanted).map(str::to_owned).collect()
}

fn upgrades() -> Vec<Document> {
    let mut all = tree();
    for n in 1..=150 {
        let product = if n % 2 == 0 { WINDOWS_10 } else { WINDOWS_11 };
        all.push(software(n, 1, &[UPGRADES, product], &[n as u8], &[]));
    }
    all
}

#[tokio::test]
async fn a_site_below_knows_what_this_one_knows() {
    let up = site(&upgrades()).await;
    let down = below(&up.url).await;
    let first = down.ok(&["now"]).await;
    assert_eq!(known(&down).await, known(&up).await, "{first}");
    // Nothing has changed, and nothing changes.
    let dump = down.dump().await;
    down.ok(&["now"]).await;
    assert_eq!(down.dump().await, dump);
    // A difference costs the difference.
    import(
        &up,
        &[
            software(1, 2, &[UPGRADES, WINDOWS_11], &[1], &[]),
            software(200, 1, &[UPGRADES, WINDOWS_10], &[], &[]),
        ],
    )
    .await;
    down.ok(&["now"]).await;
    assert_eq!(known(&down).await, known(&up).await);
}

#[tokio::test]
async fn a_site_below_that_is_killed_goes_on_to_the_same_end() {
    let up = site(&upgrades()).await;
    for wait in [0, 30, 60, 100, 150, 250] {
        let down = below(&up.url).await;
        let mut syncing = down.command(&["now"]);
        let mut process = syncing.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // At some moment or other: whatever it is, the end is the same.
        tokio::time::sleep(Duration::from_millis(wait)).await;
        process.kill().await.unwrap();
        down.ok(&["now"]).await;
        assert_eq!(known(&down).await, known(&up).await, "killed after {wait} ms");
    }
}

#[tokio::test]
async fn microsofts_own_categories_arrive_to_the_byte() {
    let Some(folder) = data_dir("wsus-export") else { return };
    let up = site(&[]).await;
    let file = folder.join("WSUS.cab").to_string_lossy().into_owned();
    up.ok(&["updates", "import", &file]).await;
    let down = below(&up.url).await;
    down.ok(&["now"]).await;
    let categories: Value = down.ok(&["updates", "categories"]).await;
    assert_eq!(categories, up.ok(&["updates", "categories"]).await);
    let (here, there) = (known(&down).await, known(&up).await);
    assert_eq!(here.iter().filter(|line| line.starts_with("metadata\t")).count(), 4_125);
    assert!(here == there, "not a byte is another, and none is missing");
}
