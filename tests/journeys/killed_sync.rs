//! A synchronisation from our own upstream role, killed at any moment, ends as one that was never disturbed.

use std::process::Stdio;
use std::time::{Duration, Instant};

use support::{
    BundleDraft, FileDraft, Seeded, TestRng, TestSite, WINDOWS_10, WINDOWS_11, Way, data_dir, detectoid,
    export_drafts, known_categories,
};

/// How often it is killed; `SPSYNC_TEST_KILLS=500` for a long night.
fn kills() -> u32 {
    asked_for().unwrap_or(50)
}

fn asked_for() -> Option<u32> {
    std::env::var("SPSYNC_TEST_KILLS").ok().and_then(|kills| kills.parse().ok())
}

/// A site that others synchronise from: some detectoids, and updates in bundles. Also the 4,125 documents of a real server,
/// where they are there and the program is fast, or time is no matter.
async fn upstream() -> TestSite {
    let site = TestSite::with(Way::Daemon, |_, published| vec![published.windows10.clone()], "").await;
    let patient = !cfg!(debug_assertions) || asked_for().is_some();
    if patient && let Some(folder) = data_dir("wsus-export") {
        site.ok(&["updates", "import", &folder.join("WSUS.cab").to_string_lossy()]).await;
    }
    let mut drafts = known_categories();
    drafts.extend((0..300).map(|number| detectoid(&format!("Is it number {number}?")).of_size(4_000)));
    for number in 0..250 {
        let name = format!("22{number:03}.1.220506-1250.ni_release_CLIENTBUSINESS_VOL_x64FRE_en-us.esd");
        let esd = FileDraft::of(&name, &Seeded::new(number, 2_000).fingerprint());
        let product = if number % 2 == 0 { WINDOWS_10 } else { WINDOWS_11 };
        let title = format!("Windows 11 (business editions) version {number} en-us x64");
        drafts.extend(BundleDraft::classic(&title, &[product], esd).drafts().cloned());
    }
    let file = site.folder.path().join("more.cab");
    std::fs::write(&file, export_drafts(&drafts)).expect("the export is written");
    site.ok(&["updates", "import", &file.to_string_lossy()]).await;
    site
}

async fn downstream(of: &TestSite) -> TestSite {
    TestSite::below(Way::Alone, &of.url, "products = [\"Windows 10\", \"Windows 11\"]", "").await
}

#[tokio::test]
async fn a_synchronisation_killed_fifty_times_ends_like_an_undisturbed_one() {
    let upstream = upstream().await;
    // Two at once, as those will be that are killed.
    let (undisturbed, twin) = (downstream(&upstream).await, downstream(&upstream).await);
    let began = Instant::now();
    let (report, _) = tokio::join!(undisturbed.ok(&["now"]), twin.ok(&["now"]));
    let whole = began.elapsed();
    let fetched =
        |report: &serde_json::Value, list: &str| report["servers"][0][list]["fetched"].as_u64().unwrap_or(0);
    assert!(fetched(&report, "updates") >= 500, "{report:#}");
    let expected = undisturbed.dump().await;
    assert_eq!(twin.dump().await, expected, "nobody disturbed either of them");
    println!("undisturbed: {whole:?}, {} lines of state", expected.lines().count());

    let half = kills() / 2;
    let (one, two) = tokio::join!(
        killed_and_ended(&upstream, &expected, whole, 0x5eed, kills() - half),
        killed_and_ended(&upstream, &expected, whole, 0x5eee, half),
    );
    let in_the_middle = one + two;
    println!("{} kills, {in_the_middle} of them with a part of the documents recorded", kills());
    assert!(in_the_middle > 5, "moments are spread over the whole");
}

/// Sites one after the other that are killed so often in all, each of which ends as `expected`. How often a part of the documents
/// was recorded.
async fn killed_and_ended(
    upstream: &TestSite,
    expected: &str,
    whole: Duration,
    seed: u64,
    kills: u32,
) -> u32 {
    let mut rng = TestRng::new(seed);
    let (mut killed, mut sites, mut in_the_middle) = (0_u32, 0, 0);
    while killed < kills {
        sites += 1;
        let mut site = downstream(upstream).await;
        while killed < kills {
            // By turns: the command that does the work is killed, or the daemon that it asks.
            let daemon = killed % 2 == 1;
            if daemon {
                site.start_daemon().await;
            }
            let mut now = site
                .command(&["now"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("it starts");
            let moment = Duration::from_micros(rng.within(0..(whole.as_micros() * 3 / 4) as u64));
            let ended = tokio::time::timeout(moment, now.wait()).await;
            if let Ok(status) = ended {
                // It came to its end before.
                assert!(status.expect("it can be waited for").success());
                site.stop_daemon().await;
                break;
            }
            if daemon {
                site.kill_daemon().await;
                let _ = now.wait().await;
            } else {
                now.kill().await.expect("it dies");
            }
            killed += 1;
            let state = site.dump().await;
            in_the_middle += u32::from(state.contains("\nmetadata\t") && state != expected);
        }
        let last = site.ok(&["now"]).await;
        assert_eq!(site.dump().await, expected, "site {sites}, after {killed} kills: {last:#}");
        let again = site.ok(&["now"]).await;
        assert_eq!(again["servers"][0]["unchanged"], true, "{again:#}");
    }
    println!("{killed} kills of {sites} sites");
    in_the_middle
}
