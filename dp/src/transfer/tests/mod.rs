//! Transfers over real sockets and into a real library, against a server that misbehaves on request.

mod delta;
mod origin;
mod pieces;
mod web;

use catalog::digest::{Checker, Digests};
use catalog::problem::{Code, Coded as _};
use tempfile::TempDir;

pub(crate) use self::origin::{Origin, Play};
use super::web::WebPolicy;
use super::*;
use crate::library::Settings;

const MIB: usize = 1 << 20;

pub(crate) fn content(size: usize) -> Vec<u8> {
    (0..size as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 41) as u8).collect()
}

pub(crate) fn wanted(bytes: &[u8]) -> Wanted {
    let mut checker = Checker::new();
    checker.update(bytes);
    let print = checker.into_fingerprint();
    Wanted::new(print.size, Digests { sha1: Some(print.sha1), sha256: Some(print.sha256) }).unwrap()
}

fn loopback() -> WebPolicy {
    WebPolicy {
        allow_networks: vec!["127.0.0.1/32".parse().unwrap()],
        stall_timeout: Duration::from_secs(20),
        connect_timeout: Duration::from_secs(20),
        ..WebPolicy::default()
    }
}

fn web(policy: WebPolicy) -> Arc<Web> {
    Arc::new(Web::new(policy).unwrap())
}

fn source(kind: SourceKind, name: &str, origin: &Origin) -> Source {
    Source { kind, name: name.to_owned(), at: At::Url(origin.url()), web: web(loopback()) }
}

/// One that is not waited for as long as others. It is to have sent what it does send by then, on a busy machine too.
fn impatient(mut source: Source) -> Source {
    source.web = web(WebPolicy { stall_timeout: Duration::from_secs(4), ..loopback() });
    source
}

fn quick() -> Policy {
    Policy::of(Patience {
        attempts_per_source: 3,
        first_delay: Duration::from_millis(5),
        ..Patience::default()
    })
}

struct Bench {
    dir: TempDir,
    library: Library,
    truth: Vec<u8>,
}

impl Bench {
    fn new(size: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let library = Library::open(&dir.path().join("library"), Settings::default()).unwrap();
        Self { dir, library, truth: content(size) }
    }

    fn job(&self, sources: Vec<Source>) -> Job {
        Job { file_name: "file.esd".parse().unwrap(), wanted: wanted(&self.truth), sources }
    }

    async fn fetch(&self, sources: Vec<Source>) -> Result<Fetched, FetchError> {
        fetch(&self.library, self.job(sources), &quick(), |_| {}).await
    }

    async fn from(&self, origin: &Origin) -> Result<Fetched, FetchError> {
        self.fetch(vec![source(SourceKind::Upstream, "origin", origin)]).await
    }

    fn assert_stored(&self, fetched: &Fetched) {
        assert_eq!(Some(fetched.stored.digest()), wanted(&self.truth).digests.sha256);
        let mut file =
            self.library.open_content(fetched.stored.digest()).unwrap().expect("it is stored").file;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
        assert!(bytes == self.truth);
    }

    fn assert_nothing_visible(&self) {
        assert_eq!(self.library.usage().unwrap().blobs, 0);
    }
}

fn told(fetched: &Fetched) -> Vec<String> {
    fetched
        .served
        .iter()
        .map(|served| format!("{} {}: {}", served.name, served.bytes, served.outcome))
        .collect()
}

#[tokio::test]
async fn a_file_comes_and_is_not_fetched_twice() {
    let bench = Bench::new(3 * MIB + 17);
    let origin = Origin::start(bench.truth.clone(), &[Play::Well]).await;
    let fetched = bench.from(&origin).await.unwrap();
    bench.assert_stored(&fetched);
    assert_eq!(told(&fetched), [format!("origin {}: verified", bench.truth.len())]);
    assert_eq!(origin.field("accept-encoding"), ["identity"]);
    assert!(origin.field("user-agent")[0].starts_with("spsync/"));
    let again = bench.from(&origin).await.unwrap();
    assert!(again.already_there && again.served.is_empty());
    assert_eq!(origin.ranges(), ["-"]);
}

#[tokio::test]
async fn a_cut_is_resumed_at_the_very_byte_under_its_entity_tag() {
    let bench = Bench::new(3 * MIB);
    let origin =
        Origin::start(bench.truth.clone(), &[Play::CutAfter(MIB + 5), Play::CutAfter(7), Play::Well]).await;
    let fetched = bench.from(&origin).await.unwrap();
    bench.assert_stored(&fetched);
    assert_eq!(origin.ranges(), ["-", "bytes=1048581-", "bytes=1048588-"]);
    assert_eq!(origin.field("if-range"), ["-", "\"tag\"", "\"tag\""]);
    assert_eq!(origin.sent(), bench.truth.len(), "no byte twice");
}

#[tokio::test]
async fn a_second_source_goes_on_where_the_first_stalled() {
    let bench = Bench::new(2 * MIB);
    let first = Origin::start(bench.truth.clone(), &[Play::StallAfter(MIB + 100), Play::StallAfter(0)]).await;
    let second = Origin::start(bench.truth.clone(), &[Play::Well]).await;
    let sources = vec![
        impatient(source(SourceKind::Mirror, "first", &first)),
        source(SourceKind::Upstream, "second", &second),
    ];
    let fetched = bench.fetch(sources).await.unwrap();
    bench.assert_stored(&fetched);
    assert_eq!(second.ranges(), ["bytes=1048676-"]);
    assert_eq!(second.field("if-range"), ["-"], "the tag is another source's");
    assert_eq!(
        told(&fetched),
        ["first 1048676: verified; stopped sending, or nearly so", "second 1048476: verified"]
    );
}

#[tokio::test]
async fn a_source_that_ignores_ranges_is_taken_whole_and_not_appended() {
    let bench = Bench::new(MIB);
    let origin = Origin::start(bench.truth.clone(), &[Play::CutAfter(1000), Play::IgnoresRange]).await;
    let fetched = bench.from(&origin).await.unwrap();
    bench.assert_stored(&fetched);
    assert_eq!(told(&fetched).len(), 1);
    assert!(fetched.served[0].bytes == MIB as u64);
}

#[tokio::test]
async fn a_wrong_range_is_asked_for_the_whole() {
    let bench = Bench::new(MIB);
    let origin =
        Origin::start(bench.truth.clone(), &[Play::CutAfter(1000), Play::WrongRange, Play::Well]).await;
    bench.assert_stored(&bench.from(&origin).await.unwrap());
    assert_eq!(origin.ranges(), ["-", "bytes=1000-", "-"]);
}

#[tokio::test]
async fn wrong_bytes_are_never_stored_and_cost_one_retry_where_another_source_is() {
    let bench = Bench::new(MIB);
    let liar = Origin::start(bench.truth.clone(), &[Play::FlipsByte(17)]).await;
    let error = bench.from(&liar).await.unwrap_err();
    assert_eq!(error.code(), Code::HashMismatch);
    assert_eq!(error.problem().state.as_deref(), Some("nothing was stored"));
    bench.assert_nothing_visible();
    let honest = Origin::start(bench.truth.clone(), &[Play::Well]).await;
    let sources = vec![
        source(SourceKind::Peer, "desk-7", &liar),
        source(SourceKind::DistributionPoint, "site", &honest),
    ];
    let fetched = bench.fetch(sources).await.unwrap();
    bench.assert_stored(&fetched);
    assert!(told(&fetched)[0].starts_with("desk-7 0: wrong SHA-256"), "{:?}", told(&fetched));
    assert_eq!(told(&fetched)[1], "site 1048576: verified");
}

#[tokio::test]
async fn too_many_bytes_are_refused() {
    let bench = Bench::new(MIB);
    let origin = Origin::start(bench.truth.clone(), &[Play::TooLong(2 * MIB)]).await;
    let error = bench.from(&origin).await.unwrap_err();
    assert_eq!(error.code(), Code::TransferTooLong);
    bench.assert_nothing_visible();
}

#[tokio::test]
async fn a_file_of_another_size_is_refused_by_its_head() {
    let bench = Bench::new(MIB);
    let origin = Origin::start(content(MIB + 1), &[Play::Well]).await;
    let error = bench.from(&origin).await.unwrap_err();
    assert_eq!(error.code(), Code::SizeMismatch);
}

#[tokio::test]
async fn every_source_is_named_with_its_fault_and_what_came_is_kept() {
    let bench = Bench::new(MIB);
    let cut =
        Origin::start(bench.truth.clone(), &[Play::CutAfter(500), Play::Status(500, String::new())]).await;
    let gone = Origin::start(bench.truth.clone(), &[Play::Status(404, String::new())]).await;
    let odd = Origin::start(bench.truth.clone(), &[Play::Garbage]).await;
    let sources = vec![
        source(SourceKind::Mirror, "cut", &cut),
        source(SourceKind::Mirror, "gone", &gone),
        source(SourceKind::Mirror, "odd", &odd),
    ];
    let problem = bench.fetch(sources).await.unwrap_err().problem();
    assert_eq!(problem.code, Code::SourceNotFound);
    assert_eq!(problem.message, "no source could give `file.esd`");
    assert_eq!(problem.causes[0], "mirror cut: failed: status 500 (attempt 3)");
    assert_eq!(problem.causes[1], "mirror gone: has no such file (status 404)");
    assert!(problem.causes[2].starts_with("mirror odd: failed: its answer is not HTTP"), "{problem}");
    assert!(problem.state.unwrap().starts_with("500 bytes are kept"));
    let well = Origin::start(bench.truth.clone(), &[Play::Well]).await;
    let fetched = bench.from(&well).await.unwrap();
    assert_eq!(fetched.resumed_from, 500);
    assert_eq!(well.ranges(), ["bytes=500-"]);
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let bench = Bench::new(1000);
    let busy = Play::Status(503, "retry-after: 1\r\n".to_owned());
    let origin = Origin::start(bench.truth.clone(), &[busy, Play::Well]).await;
    let began = Instant::now();
    bench.assert_stored(&bench.from(&origin).await.unwrap());
    assert!(began.elapsed() >= Duration::from_secs(1));
    let never = Play::Status(503, "retry-after: 86400\r\n".to_owned());
    let origin = Origin::start(content(999), &[never]).await;
    let bench = Bench::new(999);
    assert_eq!(bench.from(&origin).await.unwrap_err().code(), Code::SourceFailed);
    assert_eq!(origin.ranges().len(), 1);
}

#[tokio::test]
async fn dropping_a_transfer_loses_at_most_what_was_not_yet_written() {
    let bench = Bench::new(12 * MIB);
    let origin = Origin::start(bench.truth.clone(), &[Play::StallAfter(9 * MIB + 4321), Play::Well]).await;
    let slow = WebPolicy { stall_timeout: Duration::from_secs(60), ..loopback() };
    let patient = Source {
        kind: SourceKind::Upstream,
        name: "origin".to_owned(),
        at: At::Url(origin.url()),
        web: web(slow),
    };
    let (sender, mut arrived) = watch::channel(0);
    let policy = Policy::default();
    let transfer = fetch(&bench.library, bench.job(vec![patient]), &policy, |at| {
        sender.send_replace(at.have);
    });
    tokio::select! {
        _ = transfer => panic!("it cannot end"),
        _ = arrived.wait_for(|have| *have >= 8 * MIB as u64) => {}
    }
    drop(arrived);
    bench.assert_nothing_visible();
    let fetched = bench.from(&origin).await.unwrap();
    bench.assert_stored(&fetched);
    let again = origin.sent() - bench.truth.len();
    assert!(again <= 4 * MIB, "{again} bytes were fetched again");
    assert_eq!(origin.field("if-range")[1], "\"tag\"");
    assert!(fetched.resumed_from >= 5 * MIB as u64, "{}", fetched.resumed_from);
}

#[tokio::test]
async fn a_transfer_that_is_to_go_on_elsewhere_ends_with_a_piece() {
    let bench = Bench::new(3 * MIB);
    let origin = Origin::start(bench.truth.clone(), &[Play::Well]).await;
    let fetch = async |until: u64| {
        let (leave, left) = watch::channel(false);
        let known = Known { leave: Some(left), ..Known::default() };
        let job = bench.job(vec![source(SourceKind::DistributionPoint, "rome", &origin)]);
        let told = |at: Progress| {
            leave.send_replace(at.have >= until);
        };
        fetch_with(&bench.library, job, known, &quick(), told).await
    };
    let Err(FetchError::Left { kept, sources, .. }) = fetch(MIB as u64 + 1).await else {
        panic!("it goes on")
    };
    assert_eq!((kept, sources[0].bytes), (2 * MIB as u64, 2 * MIB as u64));
    // What there is is enough, and the last piece is not left.
    let fetched = fetch(3 * MIB as u64).await.unwrap();
    bench.assert_stored(&fetched);
    assert_eq!(fetched.resumed_from, kept);
    assert_eq!(origin.ranges(), ["-", "bytes=2097152-"]);
    // Nobody waits on for one that is busy.
    let bench = Bench::new(MIB);
    let busy = Play::Status(503, "retry-after: 3600\r\n".to_owned());
    let busy = Origin::start(bench.truth.clone(), &[busy]).await;
    let (leave, left) = watch::channel(false);
    let known = Known { leave: Some(left), ..Known::default() };
    let job = bench.job(vec![source(SourceKind::DistributionPoint, "rome", &busy)]);
    let told = |at: Progress| {
        leave.send_replace(matches!(at.doing, Doing::Waiting { .. }));
    };
    let ended = fetch_with(&bench.library, job, known, &quick(), told).await;
    assert!(matches!(ended, Err(FetchError::Left { kept: 0, .. })), "{ended:?}");
}

#[tokio::test]
async fn the_cloud_gives_a_part_and_the_point_goes_on() {
    let bench = Bench::new(3 * MIB);
    let busy = Play::Status(503, "retry-after: 0\r\n".to_owned());
    let point = Origin::start(bench.truth.clone(), &[busy.clone(), busy, Play::Well]).await;
    let cloud = Origin::start(bench.truth.clone(), &[Play::Well]).await;
    let sources = vec![
        source(SourceKind::DistributionPoint, "lyon", &point),
        source(SourceKind::Cloud, "cloud", &cloud),
    ];
    let patience = Patience {
        before_far: Duration::ZERO,
        far_part: MIB as u64,
        first_delay: Duration::ZERO,
        ..quick().patience
    };
    let policy = Policy::of(patience);
    let fetched = fetch(&bench.library, bench.job(sources), &policy, |_| {}).await.unwrap();
    bench.assert_stored(&fetched);
    assert_eq!(cloud.ranges(), ["bytes=0-1048575", "bytes=1048576-2097151"]);
    assert_eq!(point.ranges(), ["-", "bytes=1048576-", "bytes=2097152-"]);
    assert_eq!(told(&fetched)[1], "cloud 2097152: verified");
}

#[tokio::test]
async fn a_full_disk_stops_before_anybody_is_asked() {
    let bench = Bench::new(MIB);
    let origin = Origin::start(bench.truth.clone(), &[Play::Well]).await;
    let full = Library::open(&bench.dir.path().join("full"), Settings { min_free: u64::MAX / 2 }).unwrap();
    let job = bench.job(vec![source(SourceKind::Upstream, "origin", &origin)]);
    let error = fetch(&full, job, &quick(), |_| {}).await.unwrap_err();
    assert_eq!(error.code(), Code::DiskFull);
    assert!(origin.ranges().is_empty());
}

#[tokio::test]
async fn a_local_folder_is_a_source_like_any_other() {
    let bench = Bench::new(2 * MIB + 1);
    let path = bench.dir.path().join("file.esd");
    let folder = |path: PathBuf| Source {
        kind: SourceKind::Folder,
        name: "folder".to_owned(),
        at: At::File(path),
        web: web(loopback()),
    };
    let missing = bench.fetch(vec![folder(path.clone())]).await.unwrap_err();
    assert_eq!(missing.code(), Code::SourceNotFound);
    let no_file = bench.fetch(vec![folder(bench.dir.path().to_owned())]).await.unwrap_err();
    assert_eq!(no_file.code(), Code::SourceNotFound);
    let origin =
        Origin::start(bench.truth.clone(), &[Play::CutAfter(777), Play::Status(404, String::new())]).await;
    bench.from(&origin).await.unwrap_err();
    std::fs::write(&path, &bench.truth).unwrap();
    let fetched = bench.fetch(vec![folder(path)]).await.unwrap();
    bench.assert_stored(&fetched);
    assert_eq!(fetched.resumed_from, 777);
}

#[tokio::test]
async fn two_transfers_of_one_file_fetch_it_once() {
    let bench = Bench::new(3 * MIB);
    let origin = Origin::start(bench.truth.clone(), &[Play::Well]).await;
    let (one, two) = tokio::join!(bench.from(&origin), bench.from(&origin));
    assert_eq!(one.unwrap().stored, two.unwrap().stored);
    assert_eq!(origin.ranges().len(), 1);
}

#[tokio::test]
async fn the_rate_limit_holds_for_a_transfer() {
    let bench = Bench::new(MIB);
    let origin = Origin::start(bench.truth.clone(), &[Play::Well]).await;
    let policy = Policy { rate: Some(Arc::new(RateLimit::new(2 * MIB as u64))), ..quick() };
    let began = Instant::now();
    let job = bench.job(vec![source(SourceKind::Upstream, "origin", &origin)]);
    bench.assert_stored(&fetch(&bench.library, job, &policy, |_| {}).await.unwrap());
    assert!(began.elapsed() >= Duration::from_millis(350), "{:?}", began.elapsed());
}
