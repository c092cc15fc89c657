//! What a point does for its assignment, and when it stops.

use std::sync::{Mutex, PoisonError};

use catalog::digest::Sha1Digest;
use schema::points::PointRole;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::*;
use crate::point::tests::store;

#[tokio::test]
async fn a_site_that_is_away_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = crate::config::Settings::default();
    settings.site.data_dir = folder.path().join("point");
    settings.download.min_free = 0;
    settings.dp.role = PointRole::Standard;
    // Nobody may listen there, and who is not root could not.
    settings.dp.site = "http://127.0.0.1:1/".to_owned();
    settings.sync.retry.max = 1;
    let site = Site::open(crate::config::Loaded::from(settings)).await.unwrap();
    let key = crate::keys::Secret::new().unwrap().reveal();
    crate::keys::write_private(&site.settings().point_key_file(), key.as_bytes()).unwrap();
    let held = "XYZ00002".parse().unwrap();
    let packages =
        vec![package_of(Work::Send), Assigned { package: held, hold: true, ..package_of(Work::Resend) }];
    site.point
        .adopt("one".to_owned(), Assignment { point: "lyon".to_owned(), packages, ..Assignment::default() });
    let mut changes = site.point.assigned.subscribe();
    let ended = round(&site, &site.point.assignment().1, &mut changes).await.unwrap();
    assert!(matches!(ended, Round::SiteAway));
    let said = site.point.status("").packages;
    assert_eq!(
        said.iter().map(|said| said.state).collect::<Vec<_>>(),
        [ContentState::Queued, ContentState::Cancelled]
    );
    let lacks: Vec<_> = said[0].lacks.iter().map(|content| content.0[0]).collect();
    assert_eq!(lacks, [1, 2, 4, 8], "clients are sent elsewhere");
    assert!(site.read(|r| r.assigned_work()).await.unwrap().is_empty(), "the order is open");
}

fn package_of(work: Work) -> Assigned {
    let file = |n: u8| AssignedFile {
        name: format!("{n}.esd").parse().expect("a name"),
        sha256: Sha256Digest([n; 32]),
        sha1: Sha1Digest([n; 20]),
        size: u64::from(n),
        private: false,
    };
    Assigned {
        package: "XYZ00001".parse().expect("an id"),
        name: "p".to_owned(),
        version: 2,
        work,
        order: 7,
        files: vec![file(1), file(2), file(4)],
        leaving: vec![file(8)],
        hold: false,
    }
}

#[test]
fn what_was_there_and_is_gone_is_told_with_its_name() {
    let package = package_of(Work::Send);
    let there = |numbers: &[u8]| numbers.iter().map(|n| Sha256Digest([*n; 32])).collect::<HashSet<_>>();
    let full = Problem::new(Code::DpDiskFull, "full");
    use ContentState::{Failed, Success, Warning};
    for (ended, problem, here, state, code, done, lacks) in [
        (Success, None, vec![1, 2, 4, 8], Success, None, 7, vec![]),
        (Success, None, vec![1, 4, 8], Warning, Some(Code::ValidationFailed), 5, vec![2]),
        (Failed, Some(full.clone()), vec![1], Failed, Some(Code::DpDiskFull), 1, vec![2, 4, 8]),
        (Warning, Some(full), vec![1, 2, 4], Warning, Some(Code::DpDiskFull), 7, vec![8]),
    ] {
        let work = AssignedWork { package: package.package.clone(), order: 7, state: ended, problem };
        let said = told_of(&package, &work, &there(&here));
        assert_eq!((said.state, said.done, said.order), (state, done, 7), "{ended} {here:?}");
        assert_eq!(said.problem.map(|problem| problem.code), code, "{ended} {here:?}");
        assert_eq!(said.lacks, lacks.iter().map(|n| Sha256Digest([*n; 32])).collect::<Vec<_>>());
    }
}

/// A site that holds back one content until it is let go on.
struct SlowSite {
    address: String,
    go_on: Arc<Notify>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl SlowSite {
    async fn of(contents: &'static [&'static [u8]], slow: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}/", listener.local_addr().expect("an address"));
        let (go_on, asked) = (Arc::new(Notify::new()), Arc::new(Mutex::new(Vec::new())));
        let (held, heard) = (go_on.clone(), asked.clone());
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let (held, heard) = (held.clone(), heard.clone());
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") && socket.read_buf(&mut head).await? > 0 {}
                    let head = String::from_utf8_lossy(&head).into_owned();
                    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                    heard.lock().unwrap_or_else(PoisonError::into_inner).push(path.clone());
                    let named = |bytes: &&&[u8]| path.ends_with(&Sha256Digest::of(bytes).to_string());
                    let body = contents.iter().find(named).copied();
                    if body == Some(slow) {
                        held.notified().await;
                    }
                    let status = if body.is_some() { "200 OK" } else { "404 Not Found" };
                    let body = body.unwrap_or_default();
                    let head = format!(
                        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                        body.len()
                    );
                    socket.write_all(&[head.as_bytes(), body].concat()).await
                });
            }
        });
        Self { address, go_on, asked }
    }

    fn was_asked_for(&self, bytes: &[u8]) -> bool {
        let name = Sha256Digest::of(bytes).to_string();
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|path| path.ends_with(&name))
    }
}

/// Waits for what is to come, and not for ever.
async fn until(holds: impl AsyncFn() -> bool) {
    for _ in 0..2_000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never came");
}

fn sha1_of(bytes: &[u8]) -> Sha1Digest {
    use sha1::Digest as _;
    Sha1Digest(sha1::Sha1::digest(bytes).into())
}

fn of_one_file(id: &str, order: u64, bytes: &[u8]) -> Assigned {
    let file = AssignedFile {
        name: "x.esd".parse().expect("a name"),
        sha256: Sha256Digest::of(bytes),
        sha1: sha1_of(bytes),
        size: bytes.len() as u64,
        private: false,
    };
    let package = id.parse().expect("an id");
    Assigned { package, order, files: vec![file], leaving: Vec::new(), ..package_of(Work::Send) }
}

async fn point_of(slow: &SlowSite) -> (tempfile::TempDir, Arc<Site>) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut settings = crate::config::Settings::default();
    settings.site.data_dir = folder.path().join("point");
    settings.download.min_free = 0;
    settings.dp.role = PointRole::Standard;
    settings.dp.site = slow.address.clone();
    let site = Site::open(crate::config::Loaded::from(settings)).await.expect("it opens");
    let key = crate::keys::Secret::new().expect("random numbers").reveal();
    crate::keys::write_private(&site.settings().point_key_file(), key.as_bytes()).expect("it is written");
    (folder, site)
}

#[tokio::test]
async fn what_is_called_off_or_goes_waits_for_no_package_in_work() {
    const BIG: &[u8] = b"hours of it";
    const NEXT: &[u8] = b"is called off";
    const GONE: &[u8] = b"is withdrawn";
    let slow = SlowSite::of(&[BIG, NEXT, GONE], BIG).await;
    let (_folder, site) = point_of(&slow).await;
    store(&site, GONE).await;
    let gone_content = Sha256Digest::of(GONE);

    let big = of_one_file("XYZ00001", 1, BIG);
    let next = of_one_file("XYZ00002", 2, NEXT);
    let gone = of_one_file("XYZ00003", 3, GONE);
    let with = |packages| Assignment { point: "lyon".to_owned(), packages, ..Assignment::default() };
    site.point.adopt("one".to_owned(), with(vec![big.clone(), next.clone(), gone]));
    let mut changes = site.point.assigned.subscribe();
    let working = {
        let site = site.clone();
        tokio::spawn(async move { round(&site, &site.point.assignment().1, &mut changes).await })
    };
    until(async || slow.was_asked_for(BIG)).await;
    site.point.adopt("two".to_owned(), with(vec![big, Assigned { hold: true, ..next }]));

    until(async || {
        let said = site.point.status("").packages;
        said.iter().any(|said| said.order == 2 && said.state == ContentState::Cancelled)
    })
    .await;
    until(async || !site.read(move |r| r.has_content(gone_content)).await.unwrap()).await;
    assert!(!working.is_finished(), "the big one is still in work");

    slow.go_on.notify_one();
    assert!(matches!(working.await.unwrap().unwrap(), Round::Moved));
    assert!(!slow.was_asked_for(NEXT), "what was called off is not fetched");
    let over = site.read(|r| r.assigned_work()).await.unwrap();
    assert_eq!(
        over.iter().map(|work| (work.order, work.state)).collect::<Vec<_>>(),
        [(1, ContentState::Success)]
    );
}

#[tokio::test]
async fn work_and_what_is_taken_back_meanwhile_do_not_wait_for_each_other() {
    const BIG: &[u8] = b"arrives";
    const PULLED: &[u8] = b"clients asked for it before it was assigned";
    let slow = SlowSite::of(&[BIG, PULLED], BIG).await;
    let (_folder, site) = point_of(&slow).await;
    store(&site, PULLED).await;
    let pulled = Sha256Digest::of(PULLED);
    let name = "x.esd".parse().unwrap();
    site.write(move |w| w.record_pulled(pulled, &name, false, clock::now())).await.unwrap();
    let (big, other) = (of_one_file("XYZ00001", 1, BIG), of_one_file("XYZ00002", 2, PULLED));
    let with = |packages| Assignment { point: "lyon".to_owned(), packages, ..Assignment::default() };
    site.point.adopt("one".to_owned(), with(vec![big.clone()]));
    let mut changes = site.point.assigned.subscribe();
    let working = {
        let site = site.clone();
        tokio::spawn(async move { round(&site, &site.point.assignment().1, &mut changes).await })
    };
    until(async || slow.was_asked_for(BIG)).await;
    // The file arrives while somebody else makes the shelf anew: the work waits behind that, and what is taken back behind the work.
    let shelving = site.shelving().await;
    slow.go_on.notify_one();
    until(async || site.read(|r| r.has_content(Sha256Digest::of(BIG))).await.unwrap()).await;
    site.point.adopt("two".to_owned(), with(vec![big, other]));
    until(async || {
        !site.read(move |r| r.pulled_contents()).await.unwrap().iter().any(|row| row.sha256 == pulled)
    })
    .await;
    drop(shelving);
    let ended = tokio::time::timeout(Duration::from_secs(20), working).await.expect("nobody waits for ever");
    assert!(matches!(ended.unwrap().unwrap(), Round::Moved));
    assert_eq!(site.read(|r| r.assigned_work()).await.unwrap().len(), 1);
}
