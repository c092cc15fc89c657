//! What a point keeps, and what it lets go.

use std::time::Duration;

use catalog::digest::{Digests, Sha1Digest, Wanted};
use dp::server::Refusal;
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
        site.library.parts().expect("it is read").iter().filter_map(|part| part.sha256).collect();
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
    room::evict(&site, (0, 0)).await.unwrap();
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
    room::evict(&site, (0, 0)).await.unwrap();
    let left: Vec<_> = pulled().await.iter().map(|row| row.sha256).collect();
    assert_eq!(left, [Sha256Digest::of(&given)], "{before:?}");
}

/// What is in the library and recorded.
pub(super) async fn store(site: &Arc<Site>, bytes: &[u8]) {
    let (sha256, size) = (Sha256Digest::of(bytes), bytes.len() as u64);
    let wanted = Wanted { size, digests: Digests { sha256: Some(sha256), sha1: None } };
    let mut staged = site.library.stage(&wanted).expect("there is room");
    staged.append(bytes).expect("it is written");
    let verified = staged.check(&wanted).expect("it is right");
    staged.commit(verified).expect("it is stored");
    let sha1 = Sha1Digest([bytes[0]; 20]);
    site.write(move |w| w.record_content(sha256, sha1, size, false, clock::now()))
        .await
        .expect("it is recorded");
}

/// Another assignment comes, as the link takes it over, and is followed.
async fn told(site: &Arc<Site>, assignment: Assignment) {
    let (_, before) = site.point.assignment();
    let next = assignment.clone();
    site.write(move |w| unnamed::follow(w, &before, &next, clock::now())).await.expect("it is recorded");
    site.point.adopt("next".to_owned(), assignment);
    site.refresh_shelf().await.expect("it is refreshed");
    room::drop_the_rest(site, &site.point.assignment().1).await.expect("it is followed");
}

#[tokio::test]
async fn what_a_site_does_not_speak_of_is_served_on_and_what_it_takes_off_goes() {
    let (public, private): ([u8; 3_000], [u8; 3_000]) = ([1; 3_000], [2; 3_000]);
    let (_folder, site) = point(false, &[&public, &private]).await;
    let mut both = assignment(&[&public, &private]);
    both.packages[0].files[1].private = true;
    site.point.adopt("one".to_owned(), both.clone());
    store(&site, &public).await;
    store(&site, &private).await;
    let served = || {
        let shelf = site.shelf.load();
        [public, private].map(|bytes| shelf.contents.get(&Sha256Digest::of(&bytes)).map(|it| it.access))
    };
    let kept = async || site.read(|r| r.unnamed_contents()).await.unwrap().len();
    let all = [Some(Access::Public), Some(Access::Private)];
    told(&site, both.clone()).await;
    assert_eq!((served(), kept().await), (all, 0));
    // The site was restored from a backup, and says nothing of the package.
    told(&site, Assignment::default()).await;
    assert_eq!((served(), kept().await), (all, 2));
    let status = unnamed::status(&site).await.unwrap().expect("there is some");
    assert_eq!((status.contents, status.bytes), (2, 6_000));
    // It says something of it again.
    told(&site, both.clone()).await;
    assert_eq!((served(), kept().await), (all, 0));
    // Room is wanted: the oldest of what is not named goes, and nothing where that would not do.
    told(&site, Assignment::default()).await;
    assert_eq!(unnamed::let_go(&site, unnamed::Room::For(6_001)).await.unwrap(), 0);
    assert_eq!(room::spare(&site).await.unwrap(), 6_000);
    assert_eq!(unnamed::let_go(&site, unnamed::Room::For(1)).await.unwrap(), 3_000);
    assert_eq!((served().iter().flatten().count(), kept().await), (1, 1));
    // What is left is taken off, however long nobody spoke of it.
    let removing = vec!["XYZ00001".parse().expect("an id")];
    told(&site, Assignment { removing, ..Assignment::default() }).await;
    assert_eq!((served(), kept().await), ([None, None], 0));
    let here = [public, private].map(|bytes| {
        site.library.find(&Wanted {
            size: 3_000,
            digests: Digests { sha256: Some(Sha256Digest::of(&bytes)), sha1: None },
        })
    });
    assert!(here.iter().all(Option::is_none), "{here:?}");
}

const GIB: u64 = 1 << 30;

/// Clients have pulled forty GiB, of contents of which nobody looks whether their room comes; the smallest of rooms for a package
/// that needs so much more than is free.
async fn room_for(beyond: u64, is_held_back: bool) -> (Result<(), Problem>, u64) {
    let (_folder, site) = point(true, &[]).await;
    let (size, now) = (200_u64 << 20, clock::now());
    site.write(move |w| {
        for n in 0..200_u8 {
            let name = "x.esd".parse().map_err(|_| SchemaError::Value("a name".to_owned()))?;
            w.record_content(Sha256Digest::of(&[n]), Sha1Digest([n; 20]), size, false, now)?;
            w.record_pulled(Sha256Digest::of(&[n]), &name, false, now)?;
        }
        Ok(())
    })
    .await
    .unwrap();
    if is_held_back {
        for _ in 0..2 {
            site.point.brake().has_room(100, 0, 0, std::time::Instant::now());
        }
    }
    let mut package = assignment(&[&[1; 9_000]]).packages.remove(0);
    package.files[0].size = site.library.free().unwrap() + beyond;
    let made = room::enough_space(&site, &package, &package.files).await;
    let left = site.read(|r| r.pulled_contents()).await.unwrap();
    (made, left.iter().map(|row| row.size).sum::<u64>() / GIB)
}

#[tokio::test]
async fn what_clients_pulled_keeps_out_nothing_that_the_site_gives() {
    let (made, left) = room_for(20 * GIB, false).await;
    assert!(made.is_ok() && (1..39).contains(&left), "{made:?}, {left} GiB are left");
    for (beyond, is_held_back) in [(1_000 * GIB, false), (20 * GIB, true)] {
        let (made, left) = room_for(beyond, is_held_back).await;
        assert_eq!(made.unwrap_err().code, Code::DpDiskFull);
        assert_eq!(left, 39, "nothing goes in vain");
    }
}

#[tokio::test]
async fn nobody_is_told_to_wait_for_hours() {
    let (_folder, site) = point(true, &[]).await;
    let refusal = || demand::may_fetch(&site).err();
    assert_eq!(refusal(), None);
    for paused in ["schedule: closed", "maintenance"] {
        let paused = Some(paused.to_owned());
        site.point.adopt("two".to_owned(), Assignment { paused, ..Assignment::default() });
        assert_eq!(refusal(), Some(Refusal::Absent));
    }
    site.point.adopt("three".to_owned(), Assignment::default());
    assert_eq!(refusal(), None);
    site.point.contact(Ok(()), "x");
    assert!(!site.point.is_cut_off());
    site.point.contact(Err(Problem::new(Code::SourceUnreachable, "refused")), "x");
    assert!(!site.point.is_cut_off(), "it was there a moment ago");
    site.point.lock().contact = Some(clock::now() - SignedDuration::from_secs(61));
    assert!(site.point.is_cut_off());
    site.point.contact(Err(Problem::new(Code::KeyRevoked, "revoked")), "x");
    assert_eq!(refusal(), Some(Refusal::Absent));
}

#[test]
fn what_an_order_lacks_is_said_from_its_first_moment_to_its_last() {
    let live = Live::default();
    let package = assignment(&[&[1], &[2]]).packages.remove(0);
    let lacks = [Sha256Digest::of(&[1]), Sha256Digest::of(&[2])];
    let said = || live.status("").packages.remove(0);
    live.waits(&package, lacks.to_vec());
    assert_eq!((said().state, said().done, said().lacks), (ContentState::Queued, 0, lacks.to_vec()));
    live.goes_on(&package.package, 1, ContentState::Sending, 9, false);
    assert_eq!((said().state, said().done, said().lacks), (ContentState::Sending, 9, lacks.to_vec()));
    live.waits(&package, lacks[..1].to_vec());
    assert_eq!((said().state, said().lacks), (ContentState::Sending, lacks[..1].to_vec()), "it is worked on");
    live.goes_on(&package.package, 2, ContentState::Verifying, 1, false);
    assert_eq!(said().state, ContentState::Sending, "another order");
    live.waits(&Assigned { order: 2, ..package }, Vec::new());
    assert_eq!((said().order, said().state), (2, ContentState::Queued));
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
