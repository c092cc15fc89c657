//! What a point keeps, and what it lets go.

use std::time::Duration;

use catalog::digest::{Digests, Sha1Digest, Wanted};
use jiff::SignedDuration;
use schema::SchemaError;
use schema::points::{PointRole, Work};

use super::parts::{Which, drop_left_over};
use super::*;
use crate::points::wire::{Assigned, AssignedFile};

fn assignment(files: &[&[u8]]) -> Assignment {
    let file = |bytes: &&[u8]| AssignedFile {
        name: "x.esd".parse().expect("a name"),
        sha256: Sha256Digest::of(bytes),
        sha1: Sha1Digest([0; 20]),
        size: bytes.len() as u64,
        private: false,
    };
    let package = Assigned {
        package: "XYZ00001".parse().expect("an id"),
        name: "p".to_owned(),
        version: 1,
        work: Work::Send,
        order: 1,
        files: files.iter().map(file).collect(),
        leaving: Vec::new(),
        hold: false,
    };
    Assignment { packages: vec![package], ..Assignment::default() }
}

async fn point(on_demand: bool, assigned: &[&[u8]]) -> (tempfile::TempDir, Arc<Site>) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut settings = crate::config::Settings::default();
    settings.site.data_dir = folder.path().join("point");
    settings.download.min_free = 0;
    settings.dp.role = PointRole::Pull;
    settings.dp.on_demand = on_demand;
    settings.dp.on_demand_keep = Duration::from_secs(30 * 86_400);
    let site = Site::open(crate::config::Loaded::from(settings)).await.expect("it opens");
    site.point.adopt("one".to_owned(), assignment(assigned));
    demand::open(&site).expect("it opens");
    (folder, site)
}

/// Half of it has arrived, and nobody works on it.
fn stage(site: &Site, bytes: &[u8]) {
    let digests = Digests { sha256: Some(Sha256Digest::of(bytes)), sha1: None };
    let wanted = Wanted { size: bytes.len() as u64, digests };
    let mut staged = site.library.stage(&wanted).expect("there is room");
    staged.append(&bytes[..bytes.len() / 2]).expect("it is written");
}

fn arriving(site: &Site) -> Vec<Sha256Digest> {
    let mut all: Vec<_> =
        site.library.staged().expect("it is read").iter().map(|(sha256, _)| *sha256).collect();
    all.sort();
    all
}

#[tokio::test]
async fn what_arrived_in_part_goes_when_nobody_goes_on_with_it() {
    let (given, other) = ([1; 9_000], [2; 9_000]);
    let mut both = [given, other].map(|bytes| Sha256Digest::of(&bytes));
    both.sort();
    for (on_demand, which, goes) in [
        (false, Which::Old, true),
        (true, Which::Old, false), // whoever asked for it may ask again
        (true, Which::All, true),
    ] {
        let (_folder, site) = point(on_demand, &[&given]).await;
        stage(&site, &given);
        stage(&site, &other);
        assert_eq!(arriving(&site), both);
        assert_eq!(drop_left_over(&site, which).await.unwrap() > 0, goes);
        let expected = if goes { vec![Sha256Digest::of(&given)] } else { both.to_vec() };
        assert_eq!(arriving(&site), expected, "{on_demand} {which:?}");
    }
}

#[tokio::test]
async fn a_leap_of_the_clock_makes_nothing_old_and_what_was_given_does_not_go() {
    let (old, given) = ([1; 9_000], [2; 9_000]);
    let (_folder, site) = point(true, &[&given]).await;
    let now = clock::now();
    let long_ago = now - SignedDuration::from_hours(400 * 24);
    let used = long_ago - SignedDuration::from_hours(24);
    site.write(move |w| {
        for bytes in [old, given] {
            let name = "x.esd".parse().map_err(|_| SchemaError::Value("a name".to_owned()))?;
            w.record_content(Sha256Digest::of(&bytes), Sha1Digest([bytes[0]; 20]), 9_000, false, used)?;
            w.record_pulled(Sha256Digest::of(&bytes), &name, false, used)?;
        }
        w.time_is_seen(SignedDuration::ZERO, long_ago)
    })
    .await
    .unwrap();
    let pulled = async || site.read(|r| r.pulled_contents()).await.unwrap();
    demand::evict(&site, (0, 0)).await.unwrap();
    let all = pulled().await;
    assert_eq!(all.len(), 2, "it was off for long, or its clock was set: nobody knows");
    assert!(all.iter().all(|row| now.duration_since(row.used).as_hours() < 48), "{all:?}");
    // A month without use that this point has seen.
    site.write(move |w| {
        w.time_is_seen(-SignedDuration::from_hours(31 * 24), now - SignedDuration::from_hours(31 * 24))
    })
    .await
    .unwrap();
    let before = pulled().await;
    site.write(move |w| w.time_is_seen(SignedDuration::ZERO, now)).await.unwrap();
    demand::evict(&site, (0, 0)).await.unwrap();
    let left: Vec<_> = pulled().await.iter().map(|row| row.sha256).collect();
    assert_eq!(left, [Sha256Digest::of(&given)], "{before:?}");
}

#[test]
fn all_that_is_fetched_shares_one_rate() {
    let live = Live::default();
    let limit = |rate| live.rate_limit(rate);
    let first = limit(Some(5)).expect("a limit");
    assert!(Arc::ptr_eq(&first, &limit(Some(5)).expect("a limit")));
    assert!(limit(None).is_none());
    assert!(!Arc::ptr_eq(&first, &limit(Some(6)).expect("a limit")), "another rate");
}
