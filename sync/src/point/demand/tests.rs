//! Whom a point asks for what it lacks.

use std::sync::atomic::AtomicUsize;

use catalog::digest::{Checker, Sha1Digest};
use catalog::id::FileName;
use dp::server::{Asker, ContentServer, Gate, ServerLimits};
use dp::transfer::SourceKind::{self, Cloud as InTheCloud, DistributionPoint};
use schema::points::PointRole;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// What a site says of a content, which has links in the cloud even where it should name none.
fn said(content: Sha256Digest, private: bool, cloud: &[&str]) -> OfferAnswer {
    let name: FileName = "x.esd".parse().expect("a name");
    let cloud = cloud.iter().map(|link| (*link).to_owned()).collect();
    OfferAnswer {
        sha256: content,
        sha1: Sha1Digest([1; 20]),
        size: 9,
        name,
        private,
        pieces: Vec::new(),
        cloud,
    }
}

/// A site that says these things, and nothing else; its address, and the targets that were asked for.
async fn site_that_says(all: Vec<OfferAnswer>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a port");
    let (address, seen) = (listener.local_addr().expect("it listens"), Arc::<Mutex<Vec<String>>>::default());
    let noted = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4_096];
            let count = stream.read(&mut head).await.unwrap_or_default();
            let head = String::from_utf8_lossy(&head[..count]).into_owned();
            let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let told = all.iter().find(|one| target == format!("/point/offer/{}", one.sha256));
            let (status, body) = match told {
                Some(offer) => ("200 OK", serde_json::to_string(offer).expect("it has a form")),
                None => ("404 Not Found", String::new()),
            };
            noted.lock().expect("nobody panics").push(target);
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all((head + &body).as_bytes()).await;
        }
    });
    (format!("http://{address}"), seen)
}

/// A point below it that may ask another point and hosts in the cloud.
async fn point(site: &str) -> (tempfile::TempDir, Arc<Site>, Demand) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut settings = crate::config::Settings::default();
    settings.site.data_dir = folder.path().join("point");
    settings.download.min_free = 0;
    settings.dp.role = PointRole::Pull;
    settings.dp.on_demand = true;
    settings.dp.site = site.to_owned();
    (settings.sync.retry.first, settings.sync.retry.longest) =
        (Duration::from_millis(1), Duration::from_millis(2));
    settings.dp.cloud_hosts = vec!["127.0.0.9".to_owned()];
    settings.dp.cloud_networks = vec!["127.0.0.0/8".parse().expect("a network")];
    let cloud = Cloud::of(&settings).expect("it can be asked");
    let site = Site::open(crate::config::Loaded::from(settings)).await.expect("it opens");
    Secret::of_own_file(&site.settings().point_key_file()).expect("it is made");
    let pull_from = vec!["http://127.0.0.8:1".to_owned()];
    site.point.adopt("one".to_owned(), Assignment { pull_from, ..Assignment::default() });
    let unanswered = LogThrottle::new(10, Duration::from_secs(60));
    let demand = Demand { site: Arc::downgrade(&site), cloud, sources: Mutex::default(), unanswered };
    (folder, site, demand)
}

#[tokio::test]
async fn private_content_is_asked_of_the_site_alone_and_public_content_of_the_cloud_last() {
    let [public, private, absent] = [[1], [2], [3]].map(|bytes| Sha256Digest::of(&bytes));
    let links = ["http://127.0.0.9:1/x.esd", "http://dl.example/x.esd"];
    let (url, asked) = site_that_says(vec![said(public, false, &links), said(private, true, &links)]).await;
    let (_folder, _site, demand) = point(&url).await;
    let there = |what: &str| format!("{url}/point/content/{what}");
    let expected: [(Sha256Digest, Vec<(SourceKind, String)>); 2] = [
        (
            public,
            vec![
                (DistributionPoint, format!("http://127.0.0.8:1/content/{public}")),
                (DistributionPoint, there(&public.to_string())),
                // The other host is on no list.
                (InTheCloud, links[0].to_owned()),
            ],
        ),
        (private, vec![(DistributionPoint, there(&private.to_string()))]),
    ];
    for (content, expected) in expected {
        let offer = demand.find(content).await.unwrap().expect("the site offers it");
        assert_eq!(offer.servable.access == Access::Private, content == private);
        let sources: Vec<_> = offer.sources.iter().map(|one| (one.kind, one.at.to_string())).collect();
        assert_eq!(sources, expected);
    }
    assert!(demand.find(absent).await.unwrap().is_none());
    let targets = [public, private, absent].map(|content| format!("/point/offer/{content}"));
    assert_eq!(*asked.lock().unwrap(), targets, "nothing was fetched by asking");
}

#[tokio::test]
async fn what_is_private_stays_so_while_the_site_is_away() {
    // Known from the assignment alone: nobody listens there.
    let (_folder, site, demand) = point("http://127.0.0.1:1").await;
    let file = |n: u8, private| AssignedFile {
        name: "x.esd".parse().expect("a name"),
        sha256: Sha256Digest::of(&[n]),
        sha1: Sha1Digest([n; 20]),
        size: 1,
        private,
    };
    let package = crate::points::wire::Assigned {
        package: "XYZ00001".parse().expect("an id"),
        name: "p".to_owned(),
        version: 1,
        work: schema::points::Work::Send,
        order: 1,
        files: vec![file(1, false), file(2, true)],
        leaving: Vec::new(),
        hold: false,
    };
    let pull_from = vec!["http://127.0.0.8:1".to_owned()];
    let told = Assignment { pull_from, packages: vec![package], ..Assignment::default() };
    site.point.adopt("two".to_owned(), told);
    for (n, sources, access) in [(1, 2, Access::Public), (2, 1, Access::Private)] {
        let offer = demand.find(Sha256Digest::of(&[n])).await.unwrap().expect("it was given to this point");
        assert_eq!((offer.sources.len(), offer.servable.access), (sources, access), "{n}");
    }
    assert!(demand.find(Sha256Digest::of(&[3])).await.is_err(), "nobody can say");
}

/// Everybody has a key.
struct Open;

impl Gate for Open {
    fn may(&self, _: Option<&str>, _: Asker) -> bool {
        true
    }
}

/// A host in the cloud that has these bytes at every path; a link, and how often it was asked.
async fn cloud_with(bytes: Vec<u8>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.9:0").await.expect("loopback has a port");
    let link = format!("http://{}/x.esd", listener.local_addr().expect("it listens"));
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0; 4_096]).await;
            let length = bytes.len();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(&[head.as_bytes(), &bytes].concat()).await;
        }
    });
    (link, asked)
}

#[tokio::test]
async fn bytes_come_from_the_cloud_where_nobody_else_has_them_and_private_ones_never() {
    let bytes = vec![7; 5_000];
    let (link, asked) = cloud_with(bytes.clone()).await;
    let known = |bytes: &[u8], private| {
        let mut checker = Checker::new();
        checker.update(bytes);
        let print = checker.into_fingerprint();
        OfferAnswer { sha1: print.sha1, size: print.size, ..said(print.sha256, private, &[&link]) }
    };
    let offers = [known(&bytes, false), known(&[8; 5_000], true)];
    let [public, private] = offers.each_ref().map(|offer| offer.sha256);
    let (url, asked_site) = site_that_says(offers.into()).await;
    let (_folder, site, _) = point(&url).await;
    let pulls = open(&site).unwrap().expect("it is on");
    let server = ContentServer::new(site.library.clone(), site.shelf.clone(), ServerLimits::default());
    let server = Arc::new(server.with_pulls(pulls).with_gate(Arc::new(Open)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(server.serve(listener, std::future::pending()));
    let get = async |content: Sha256Digest| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("GET /content/{content} HTTP/1.1\r\nHost: dp\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        answer
    };
    let answer = get(public).await;
    assert!(answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(&bytes));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert!(get(private).await.starts_with(b"HTTP/1.1 503 "), "the site has none of it now");
    assert_eq!(asked.load(Ordering::SeqCst), 1, "nobody in the cloud hears of it");
    let fetched = |content| {
        let asked = asked_site.lock().unwrap();
        asked.iter().filter(|target| **target == format!("/point/content/{content}")).count()
    };
    assert!(fetched(public) > 0 && fetched(private) > 0, "the site is asked before, and alone");
}
