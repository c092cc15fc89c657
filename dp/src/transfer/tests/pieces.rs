//! Transfers where the hashes of pieces are known.

use catalog::digest::Pieces;

use super::*;
use crate::library::{Grown, Growth};

fn pieces(truth: &[u8]) -> Pieces {
    let mut checker = Checker::new();
    checker.update(truth);
    Pieces::new(truth.len() as u64, checker.into_fingerprint().pieces).unwrap()
}

impl Bench {
    async fn fetch_by_pieces(&self, sources: Vec<Source>) -> Result<Fetched, FetchError> {
        let pieces = Some(pieces(&self.truth));
        fetch_by_pieces(&self.library, self.job(sources), pieces, None, &quick(), |_| {}).await
    }
}

#[tokio::test]
async fn a_wrong_piece_costs_that_piece_and_its_sender() {
    let bench = Bench::new(4 * MIB + 17);
    let liar = Origin::start(bench.truth.clone(), &[Play::FlipsByte(2 * MIB + 5)]).await;
    let honest = Origin::start(bench.truth.clone(), &[Play::Well]).await;
    let sources = vec![
        source(SourceKind::Peer, "desk-7", &liar),
        source(SourceKind::DistributionPoint, "site", &honest),
    ];
    let fetched = bench.fetch_by_pieces(sources).await.unwrap();
    bench.assert_stored(&fetched);
    assert_eq!(honest.ranges(), ["bytes=2097152-"], "what was right is not sent again");
    let expected = [
        "desk-7 2097152: verified; sent wrong bytes in the piece that begins at 2097152".to_owned(),
        format!("site {}: verified", 2 * MIB + 17),
    ];
    assert_eq!(told(&fetched), expected);
}

#[tokio::test]
async fn of_a_whole_answer_what_is_staged_is_skipped() {
    let bench = Bench::new(3 * MIB);
    let origin = Origin::start(bench.truth.clone(), &[Play::CutAfter(MIB + 9), Play::IgnoresRange]).await;
    let sources = vec![source(SourceKind::Mirror, "origin", &origin)];
    let fetched = bench.fetch_by_pieces(sources).await.unwrap();
    bench.assert_stored(&fetched);
    assert_eq!(fetched.served[0].bytes, 3 * MIB as u64, "no byte counts twice");
}

#[tokio::test]
async fn only_liars_give_nothing_and_keep_what_was_right() {
    let bench = Bench::new(3 * MIB);
    let first = Origin::start(bench.truth.clone(), &[Play::FlipsByte(MIB)]).await;
    let second = Origin::start(bench.truth.clone(), &[Play::FlipsByte(2 * MIB)]).await;
    let sources =
        vec![source(SourceKind::Peer, "first", &first), source(SourceKind::Peer, "second", &second)];
    let error = bench.fetch_by_pieces(sources).await.unwrap_err();
    assert_eq!(error.code(), Code::HashMismatch);
    bench.assert_nothing_visible();
    assert_eq!(first.ranges().len() + second.ranges().len(), 2, "nobody is asked twice");
    let honest = Origin::start(bench.truth.clone(), &[Play::Well]).await;
    let fetched = bench.fetch_by_pieces(vec![source(SourceKind::Mirror, "honest", &honest)]).await.unwrap();
    bench.assert_stored(&fetched);
    assert_eq!(honest.ranges(), ["bytes=2097152-"]);
}

#[tokio::test]
async fn staged_bytes_that_went_bad_are_found_by_their_piece() {
    let bench = Bench::new(3 * MIB);
    let origin = Origin::start(
        bench.truth.clone(),
        &[Play::CutAfter(2 * MIB + 100), Play::Status(404, String::new())],
    )
    .await;
    bench.fetch_by_pieces(vec![source(SourceKind::Mirror, "origin", &origin)]).await.unwrap_err();
    let staged = std::fs::read_dir(bench.dir.path().join("library/staging")).unwrap();
    let staged = staged
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|it| it == "part"));
    let path = staged.unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[MIB + 1] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let honest = Origin::start(bench.truth.clone(), &[Play::Well]).await;
    let fetched = bench.fetch_by_pieces(vec![source(SourceKind::Mirror, "honest", &honest)]).await.unwrap();
    bench.assert_stored(&fetched);
    assert_eq!(honest.ranges(), ["bytes=1048576-"]);
}

#[tokio::test]
async fn followers_see_verified_bytes_only_and_the_end() {
    let bench = Bench::new(3 * MIB + 5);
    let liar = Origin::start(bench.truth.clone(), &[Play::FlipsByte(MIB)]).await;
    let growth = Arc::new(Growth::default());
    let job = bench.job(vec![source(SourceKind::Peer, "liar", &liar)]);
    let known = Some(pieces(&bench.truth));
    let failed =
        fetch_by_pieces(&bench.library, job, known.clone(), Some(growth.clone()), &quick(), |_| {}).await;
    assert!(failed.is_err());
    assert_eq!(growth.grown(), Grown::Failed);

    let honest = Origin::start(bench.truth.clone(), &[Play::StallAfter(2 * MIB + 9), Play::Well]).await;
    let growth = Arc::new(Growth::default());
    let mut watch = growth.watch();
    let (library, policy) = (bench.library.clone(), quick());
    let job = bench.job(vec![impatient(source(SourceKind::Mirror, "honest", &honest))]);
    let told = growth.clone();
    let fetching =
        tokio::spawn(async move { fetch_by_pieces(&library, job, known, Some(told), &policy, |_| {}).await });
    let mut seen = 0;
    while matches!(growth.grown(), Grown::Verified(_)) {
        watch.changed().await.unwrap();
        if growth.grown() == Grown::Failed {
            break;
        }
        let readable = growth.grown().readable(bench.truth.len() as u64) as usize;
        assert!(readable >= seen, "it never shrinks");
        seen = readable;
        if let Some(file) = growth.file() {
            let mut bytes = vec![0; readable];
            std::os::unix::fs::FileExt::read_exact_at(&**file, &mut bytes, 0).unwrap();
            assert!(bytes == bench.truth[..readable]);
        }
    }
    fetching.await.unwrap().unwrap();
    assert_eq!(seen, bench.truth.len());
}
