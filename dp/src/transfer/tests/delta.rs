//! Transfers of files of which this machine has parts in other content.

use catalog::digest::{BLOCK_SIZE, Pieces};

use super::*;
use crate::delta::{Base, BlockMap, Effort, Reuse, Search};

fn print(bytes: &[u8]) -> catalog::digest::Fingerprint {
    let mut checker = Checker::new();
    checker.update(bytes);
    checker.into_fingerprint()
}

/// What a file with these bytes has of the content that the map says.
fn reuse(path: &std::path::Path, has: &[u8], said: &[u8]) -> Option<Arc<Reuse>> {
    std::fs::write(path, has).unwrap();
    let map = BlockMap::of(&print(said), &mut &*said, || true).unwrap().unwrap();
    let mut search = Search::new(Arc::new(map));
    let file = Arc::new(std::fs::File::open(path).unwrap());
    search.scan(0, &file, Effort::Whole).unwrap();
    Reuse::of(search, vec![Base { path: path.to_owned(), file }]).map(Arc::new)
}

impl Bench {
    async fn fetch_delta(
        &self,
        sources: Vec<Source>,
        reuse: Option<Arc<Reuse>>,
    ) -> Result<Fetched, FetchError> {
        let print = print(&self.truth);
        let pieces = Pieces::new(print.size, print.pieces);
        let known = Known { pieces, reuse, ..Known::default() };
        fetch_with(&self.library, self.job(sources), known, &quick(), |_| {}).await
    }

    fn base(&self) -> PathBuf {
        self.dir.path().join("earlier.esd")
    }
}

#[tokio::test]
async fn only_what_is_lacking_is_asked_for_in_few_requests() {
    let bench = Bench::new(4 * MIB + 100);
    // Something inserted, a stretch replaced, and the rest where it was not before.
    let base =
        [&bench.truth[..MIB], b"inserted", &bench.truth[MIB..2 * MIB], &bench.truth[2 * MIB + 50..]].concat();
    let reuse = reuse(&bench.base(), &base, &bench.truth);
    let origin = Origin::start(bench.truth.clone(), &[Play::Well]).await;
    let sources = vec![source(SourceKind::DistributionPoint, "site", &origin)];
    let fetched = bench.fetch_delta(sources, reuse).await.unwrap();
    bench.assert_stored(&fetched);
    assert_eq!(origin.ranges(), [format!("bytes={}-{}", 2 * MIB, 2 * MIB + BLOCK_SIZE - 1)]);
    let expected = [
        format!("site {BLOCK_SIZE}: verified"),
        format!("earlier.esd {}: verified", 4 * MIB + 100 - BLOCK_SIZE),
    ];
    assert_eq!(told(&fetched), expected);
}

#[tokio::test]
async fn all_of_it_may_be_here() {
    let bench = Bench::new(2 * MIB + 1);
    let reuse = reuse(&bench.base(), &bench.truth, &bench.truth);
    let fetched = bench.fetch_delta(Vec::new(), reuse).await.unwrap();
    bench.assert_stored(&fetched);
}

#[tokio::test]
async fn a_base_that_changes_under_our_feet_costs_only_what_changed() {
    let bench = Bench::new(3 * MIB);
    let reuse = reuse(&bench.base(), &bench.truth, &bench.truth);
    let mut changed = bench.truth.clone();
    changed[MIB + 5] ^= 1;
    changed.truncate(3 * MIB - 10);
    std::fs::write(bench.base(), changed).unwrap();
    let origin = Origin::start(bench.truth.clone(), &[Play::Well]).await;
    let sources = vec![source(SourceKind::Peer, "desk-7", &origin)];
    let fetched = bench.fetch_delta(sources, reuse).await.unwrap();
    bench.assert_stored(&fetched);
    let last = 3 * MIB - BLOCK_SIZE;
    assert_eq!(origin.ranges(), [format!("bytes={MIB}-{}", MIB + BLOCK_SIZE - 1), format!("bytes={last}-")]);
}

#[tokio::test]
async fn a_map_that_lies_saves_nothing_and_does_no_harm() {
    let bench = Bench::new(3 * MIB);
    let other = content(4 * MIB)[MIB..].to_vec();
    let reuse = reuse(&bench.base(), &other, &other);
    assert!(reuse.is_some() && other != bench.truth);
    let origin = Origin::start(bench.truth.clone(), &[Play::Well]).await;
    let sources = vec![source(SourceKind::Peer, "desk-7", &origin)];
    let fetched = bench.fetch_delta(sources, reuse).await.unwrap();
    bench.assert_stored(&fetched);
    assert_eq!(told(&fetched), [format!("desk-7 {}: verified", 3 * MIB)]);
}

#[tokio::test]
async fn a_liar_costs_the_part_that_it_sent() {
    let bench = Bench::new(3 * MIB);
    let mut base = bench.truth.clone();
    base[MIB + 3] ^= 1;
    let reuse = reuse(&bench.base(), &base, &bench.truth);
    let liar = Origin::start(bench.truth.clone(), &[Play::FlipsByte(MIB + 3)]).await;
    let honest = Origin::start(bench.truth.clone(), &[Play::Well]).await;
    let sources =
        vec![source(SourceKind::Peer, "liar", &liar), source(SourceKind::DistributionPoint, "site", &honest)];
    let error = bench.fetch_delta(sources[..1].to_vec(), reuse.clone()).await.unwrap_err();
    assert_eq!(error.code(), Code::HashMismatch);
    bench.assert_nothing_visible();
    let fetched = bench.fetch_delta(sources, reuse).await.unwrap();
    bench.assert_stored(&fetched);
    assert!(honest.sent() <= MIB, "{} bytes of one piece", honest.sent());
}

#[tokio::test]
async fn an_interrupted_transfer_goes_on_and_still_takes_what_is_here() {
    let bench = Bench::new(3 * MIB);
    let mut base = bench.truth.clone();
    base[..MIB].fill(7);
    let reuse = reuse(&bench.base(), &base, &bench.truth);
    let broken =
        Origin::start(bench.truth.clone(), &[Play::CutAfter(1_000), Play::Status(404, String::new())]).await;
    let error = bench.fetch_delta(vec![source(SourceKind::Mirror, "broken", &broken)], reuse.clone()).await;
    assert!(error.is_err());
    let honest = Origin::start(bench.truth.clone(), &[Play::Well]).await;
    let fetched =
        bench.fetch_delta(vec![source(SourceKind::Mirror, "honest", &honest)], reuse).await.unwrap();
    bench.assert_stored(&fetched);
    assert_eq!(honest.ranges(), [format!("bytes=1000-{}", MIB - 1)]);
    assert_eq!(fetched.resumed_from, 1_000);
}
