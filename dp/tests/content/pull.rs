//! Content that a point lacks and may serve: fetched once, never served before it is verified.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dp::library::{Settings, Verdict};
use dp::server::{Access, Outcome, Refusal, Source};
use proptest::prelude::*;

use crate::pull_upstream::{Play, Pulling};
use crate::stage::{Content, noise, request};

const MIB: usize = 1 << 20;
/// No test waits this long unless it has failed.
const LONG: Duration = Duration::from_secs(20);
/// What a test waits for that is to wait in vain.
const SHORT: Duration = Duration::from_millis(150);

#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < LONG, "it never came to this: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn many_ask_and_one_copy_comes() {
    let here = Pulling::start(LONG);
    let content = Content::new(noise(1, 5 * MIB + 77));
    let upstream = here.upstream(&content, &[]);
    here.offer(&content, &[&upstream], true, Access::Public);
    let path = content.path();

    // What needs no bytes fetches none.
    let head = here.point.ask("HEAD", &path, &[]);
    assert_eq!(
        (head.status, head.fields),
        (200, content.carried(content.bytes.len(), "application/octet-stream"))
    );
    let tag = format!("\"{}\"", content.sha256);
    assert_eq!(here.point.ask("GET", &path, &[("If-None-Match", &tag)]).status, 304);
    assert_eq!(here.point.ask("GET", &path, &[("If-Match", "\"x\"")]).status, 412);
    let past = here.point.ask("GET", &path, &[("Range", "bytes=99999999-")]);
    assert_eq!(
        (past.status, past.field("content-range")),
        (416, Some(&*format!("bytes */{}", content.bytes.len())))
    );
    assert_eq!((upstream.asked(), here.said.questions.load(Ordering::SeqCst)), (0, 1));

    upstream.open.send_replace(MIB + 5);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..32).map(|_| scope.spawn(|| here.point.get(&path))).collect();
        until("all follow", || here.pulls.counts.followers.load(Ordering::Relaxed) == 32);
        upstream.open.send_replace(usize::MAX);
        for one in all {
            let answer = one.join().unwrap();
            assert_eq!(answer.status, 200);
            assert!(answer.body == content.bytes);
        }
    });
    assert_eq!(upstream.asked(), 1, "one upstream copy");
    until("stored", || here.pulls.counts.stored.load(Ordering::Relaxed) == 1);
    until("on the shelf", || here.point.shelf.load().contents.contains_key(&content.sha256));
    assert_eq!(here.point.library.verify(content.sha256).unwrap(), Verdict::Good);
    // And like any other from now on, but for its name.
    assert!(here.point.get(&path).body == content.bytes);
    let (counts, size) = (&here.pulls.counts, content.bytes.len() as u64);
    assert_eq!((counts.begun.load(Ordering::Relaxed), counts.bytes.load(Ordering::Relaxed)), (1, size));
    assert_eq!(counts.running.load(Ordering::Relaxed), 0);
    let served = &here.point.server.served;
    until("counted", || served.bytes_as(Source::PullThrough) == 33 * size);
    assert_eq!(served.requests_as(Source::PullThrough, Outcome::Whole), 33);
    until("nothing is in use", || !here.pulls.is_in_use(content.sha256));
    // At the beginning and the end of each.
    until("said", || here.said.used.load(Ordering::SeqCst) == 66);
}

#[test]
fn no_byte_leaves_before_its_piece_is_verified() {
    let here = Pulling::start(LONG);
    let content = Content::new(noise(2, 4 * MIB + 1_000));
    let upstream = here.upstream(&content, &[]);
    here.offer(&content, &[&upstream], true, Access::Public);
    upstream.open.send_replace(2 * MIB - 1);
    let mut wire = here.point.connect();
    wire.send(&request("GET", &content.path(), &[]));
    assert_eq!(wire.head().unwrap().status, 200);
    let mut got = wire.body(MIB);
    let mut more = [0; 1];
    wire.stream.set_read_timeout(Some(SHORT)).unwrap();
    assert!(
        std::io::Read::read(&mut wire.stream, &mut more).is_err(),
        "a byte of a piece that is not complete"
    );
    wire.stream.set_read_timeout(Some(LONG)).unwrap();

    // A range of what is there comes at once; one of what is not, with its piece.
    let ranged = |range: &str| here.point.ask("GET", &content.path(), &[("Range", range)]);
    let first = ranged("bytes=5-9");
    assert_eq!((first.status, &*first.body), (206, &content.bytes[5..10]));
    std::thread::scope(|scope| {
        let last = scope.spawn(|| ranged("bytes=-3"));
        let middle = scope.spawn(|| ranged(&format!("bytes=0-1,{}-{}", 3 * MIB, 3 * MIB + 1)));
        until("both follow", || here.pulls.counts.followers.load(Ordering::Relaxed) == 4);
        upstream.open.send_replace(4 * MIB + 500);
        let middle = middle.join().unwrap();
        assert_eq!(middle.status, 206);
        let holds = |part: &[u8]| middle.body.windows(part.len()).any(|window| window == part);
        assert!(holds(&content.bytes[3 * MIB..3 * MIB + 2]) && holds(&content.bytes[..2]));
        assert!(!last.is_finished(), "its piece is not complete");
        upstream.open.send_replace(usize::MAX);
        let last = last.join().unwrap();
        assert_eq!((last.status, &*last.body), (206, &content.bytes[content.bytes.len() - 3..]));
    });
    got.extend(wire.body(content.bytes.len() - MIB));
    assert!(got == content.bytes);
    assert_eq!(upstream.asked(), 1);
}

#[test]
fn without_the_hashes_of_pieces_the_whole_is_waited_for() {
    let here = Pulling::start(SHORT);
    let content = Content::new(noise(3, 3 * MIB));
    let upstream = here.upstream(&content, &[]);
    here.offer(&content, &[&upstream], false, Access::Public);
    upstream.open.send_replace(3 * MIB - 1);
    let early = here.point.get(&content.path());
    assert_eq!((early.status, early.body.len()), (503, 0));
    let after: u32 = early.field("retry-after").unwrap().parse().unwrap();
    assert!((5..=25).contains(&after), "they do not all come back at once: {after}");
    assert_eq!(here.point.server.served.refused(Refusal::NotYet), 1);
    // It came all the same, and nobody asked twice.
    upstream.open.send_replace(usize::MAX);
    until("stored", || here.point.shelf.load().contents.contains_key(&content.sha256));
    assert!(here.point.get(&content.path()).body == content.bytes);
    assert_eq!(upstream.asked(), 1);

    let here = Pulling::start(LONG);
    let other = Content::new(noise(4, 2 * MIB + 1));
    let liar = here.upstream(&other, &[Play::Lies(MIB + 3)]);
    here.offer(&other, &[&liar], false, Access::Public);
    assert_eq!(here.point.get(&other.path()).status, 503);
    assert!(here.point.library.find(&wanted(&other)).is_none());
    assert_eq!(here.point.server.served.refused(Refusal::Upstream), 1);
    assert_eq!(here.point.get(&other.path()).status, 503);
    assert_eq!(liar.asked(), 1, "for a moment nobody tries again");
}

fn wanted(content: &Content) -> catalog::digest::Wanted {
    let digests = catalog::digest::Digests { sha256: Some(content.sha256), sha1: None };
    catalog::digest::Wanted::new(content.bytes.len() as u64, digests).unwrap()
}

#[test]
fn an_upstream_that_lies_is_dropped_and_one_that_dies_is_gone_on_from() {
    let here = Pulling::start(LONG);
    let content = Content::new(noise(5, 4 * MIB + 3));
    let liar = here.upstream(&content, &[Play::Lies(MIB + 9)]);
    let honest = here.upstream(&content, &[Play::Dies(3 * MIB), Play::Well]);
    here.offer(&content, &[&liar, &honest], true, Access::Public);
    let answer = here.point.get(&content.path());
    assert!(answer.status == 200 && answer.body == content.bytes);
    assert_eq!((liar.asked(), honest.asked()), (1, 2));

    // Nobody tells the truth about the third piece: what was verified came, and the connection ends.
    let other = Content::new(noise(6, 4 * MIB));
    let liar = here.upstream(&other, &[Play::Lies(2 * MIB)]);
    here.offer(&other, &[&liar], true, Access::Public);
    let mut wire = here.point.connect();
    wire.send(&request("GET", &other.path(), &[]));
    assert_eq!(wire.head().unwrap().status, 200);
    let got = wire.body(4 * MIB);
    assert!(got.len() <= 2 * MIB && got == other.bytes[..got.len()]);
    let again = here.point.get(&other.path());
    assert_eq!((again.status, liar.asked()), (503, 1));
    // With an honest source it goes on where it was.
    let honest = here.upstream(&other, &[]);
    here.offer(&other, &[&honest], true, Access::Public);
    here.pulls.forget_answers();
    assert!(here.point.get(&other.path()).body == other.bytes);

    // An answer that is too long is no reason to forget what was right.
    let third = Content::new(noise(7, 2 * MIB + 10));
    let long = here.upstream(&third, &[Play::TooLong(MIB)]);
    let honest = here.upstream(&third, &[]);
    here.offer(&third, &[&long, &honest], true, Access::Public);
    let answer = here.point.get(&third.path());
    assert!(answer.body == third.bytes, "{}", answer.status);
}

#[test]
fn who_goes_away_stops_nothing() {
    let here = Pulling::start(LONG);
    let content = Content::new(noise(8, 3 * MIB));
    let upstream = here.upstream(&content, &[]);
    here.offer(&content, &[&upstream], true, Access::Public);
    upstream.open.send_replace(MIB + 1);
    let mut gone = here.point.connect();
    gone.send(&request("GET", &content.path(), &[]));
    assert_eq!(gone.head().unwrap().status, 200);
    std::thread::scope(|scope| {
        let stays = scope.spawn(|| here.point.get(&content.path()));
        until("both follow", || here.pulls.counts.followers.load(Ordering::Relaxed) == 2);
        drop(gone);
        upstream.open.send_replace(2 * MIB + 1);
        upstream.open.send_replace(usize::MAX);
        assert!(stays.join().unwrap().body == content.bytes);
    });
    // Nor does the last one.
    let other = Content::new(noise(9, 2 * MIB));
    let upstream = here.upstream(&other, &[]);
    here.offer(&other, &[&upstream], true, Access::Public);
    upstream.open.send_replace(MIB);
    let mut last = here.point.connect();
    last.send(&request("GET", &other.path(), &[]));
    assert_eq!(last.head().unwrap().status, 200);
    drop(last);
    upstream.open.send_replace(usize::MAX);
    until("stored", || here.point.shelf.load().contents.contains_key(&other.sha256));
    assert_eq!(upstream.asked(), 1);
}

#[test]
fn what_is_not_for_this_point_or_client_looks_absent() {
    let here = Pulling::start(LONG);
    let private = Content::new(noise(10, MIB + 1));
    let upstream = here.upstream(&private, &[]);
    here.offer(&private, &[&upstream], true, Access::Private);
    let absent = here.point.get(&Content::new(noise(11, 10)).path());
    let forbidden = here.point.get(&private.path());
    assert_eq!(absent, forbidden);
    assert_eq!((forbidden.status, upstream.asked()), (404, 0), "nothing is fetched for whom it is not");
    let answer = here.point.ask("GET", &private.path(), &[("Authorization", "Bearer key")]);
    assert!(answer.body == private.bytes);
    assert_eq!(answer.field("cache-control"), Some("private, max-age=31536000, immutable"));
    until("stored", || here.point.shelf.load().contents.contains_key(&private.sha256));
    assert_eq!(here.point.get(&private.path()).status, 404, "here it is private too");

    // A thousand questions for what is not there are one each, and then remembered.
    let before = here.said.questions.load(Ordering::SeqCst);
    let path = Content::new(noise(12, 10)).path();
    (0..20).for_each(|_| assert_eq!(here.point.get(&path).status, 404));
    assert_eq!(here.said.questions.load(Ordering::SeqCst), before + 1);
}

#[test]
fn what_could_not_be_had_for_one_client_looks_absent_to_others() {
    let here = Pulling::start(LONG);
    let private = Content::new(noise(15, MIB));
    let upstream = here.upstream(&private, &[Play::Absent]);
    here.offer(&private, &[&upstream], true, Access::Private);
    let path = private.path();
    assert_eq!(here.point.ask("GET", &path, &[("Authorization", "Bearer key")]).status, 503);
    let asked = upstream.asked();
    assert_eq!(here.point.get(&path), here.point.get(&Content::new(noise(11, 10)).path()));
    assert_eq!(here.point.ask("GET", &path, &[("Authorization", "Bearer key")]).status, 503);
    assert_eq!(upstream.asked(), asked, "a failure is remembered for a while");
}

#[test]
fn a_full_disk_and_sources_that_have_nothing_are_said() {
    let here = Pulling::over(LONG, Settings { min_free: u64::MAX / 2 });
    let content = Content::new(noise(13, MIB));
    let upstream = here.upstream(&content, &[]);
    here.offer(&content, &[&upstream], true, Access::Public);
    assert_eq!((here.point.get(&content.path()).status, upstream.asked()), (507, 0));
    assert_eq!(here.point.server.served.refused(Refusal::NoRoom), 1);

    let here = Pulling::start(LONG);
    let absent = here.upstream(&content, &[Play::Absent]);
    here.offer(&content, &[&absent], true, Access::Public);
    assert_eq!(here.point.get(&content.path()).status, 503);
    let empty = Content::new(Vec::new());
    here.offer(&empty, &[], true, Access::Public);
    assert_eq!(here.point.get(&empty.path()).status, 200);
}

#[cfg(all(target_os = "linux", not(feature = "portable")))]
#[test]
fn who_cuts_what_has_just_arrived_waits_for_what_is_on_its_way() {
    let _nobody_forks = crate::stage::no_forks();
    let here = Pulling::start(LONG);
    let content = Content::new(noise(14, 24 * MIB));
    let upstream = here.upstream(&content, &[]);
    here.offer(&content, &[&upstream], true, Access::Public);
    let mut wire = here.point.connect();
    wire.send(&request("GET", &content.path(), &[]));
    assert_eq!(wire.head().unwrap().status, 200);
    let mut got = wire.body(1_000);
    until("stored", || here.point.shelf.load().contents.contains_key(&content.sha256));
    let path = here.point.blob(&content);
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    // A step further, so that the lease is the kernel's.
    got.extend(wire.body(4 * MIB));
    let (begins, begun) = std::sync::mpsc::channel();
    let cutter = std::thread::spawn(move || {
        begins.send(()).unwrap();
        std::fs::File::options().write(true).open(path).unwrap().set_len(2_000).unwrap();
    });
    begun.recv().unwrap();
    std::thread::sleep(SHORT);
    assert!(!cutter.is_finished(), "the file was cut while its pages were on their way");
    got.extend(wire.body(content.bytes.len()));
    cutter.join().unwrap();
    assert!(got.len() < content.bytes.len(), "the connection should have ended");
    assert!(got == content.bytes[..got.len()], "bytes that were never in the file");
}

fn play() -> impl Strategy<Value = Play> {
    let at = 0..3 * MIB;
    prop_oneof![
        Just(Play::Well),
        at.clone().prop_map(Play::Lies),
        at.prop_map(Play::Dies),
        (1..2 * MIB).prop_map(Play::TooLong),
        Just(Play::Absent),
        Just(Play::IgnoresRange),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]
    /// Whatever the sources do and whoever asks: the right bytes, or fewer of them and an end that shows it.
    #[test]
    fn no_client_completes_with_wrong_bytes(
        first in prop::collection::vec(play(), 0..4),
        second in prop::collection::vec(play(), 0..4),
        pieces: bool,
        starts in prop::collection::vec(0..3 * MIB, 1..5),
    ) {
        let here = Pulling::start(LONG);
        let content = Arc::new(Content::new(noise(20, 3 * MIB + 1)));
        let (one, other) = (here.upstream(&content, &first), here.upstream(&content, &second));
        here.offer(&content, &[&one, &other], pieces, Access::Public);
        let mut completed = 0;
        std::thread::scope(|scope| {
            let all: Vec<_> = starts.iter().map(|start| {
                let (here, content) = (&here, &content);
                scope.spawn(move || {
                    let mut wire = here.point.connect();
                    let range = format!("bytes={start}-");
                    wire.send(&request("GET", &content.path(), &[("Range", &range)]));
                    let status = wire.head().map(|head| head.status);
                    let body = if status == Some(206) { wire.body(content.bytes.len() - start) } else { Vec::new() };
                    (status, body)
                })
            }).collect();
            for (one, start) in all.into_iter().zip(&starts) {
                let (status, body) = one.join().unwrap();
                assert!(matches!(status, Some(206 | 503)), "{status:?}");
                assert!(content.bytes[*start..].starts_with(&body), "wrong bytes from {start}");
                completed += usize::from(status == Some(206) && body.len() == content.bytes.len() - start);
            }
        });
        if first.is_empty() || second.is_empty() {
            prop_assert_eq!(completed, starts.len(), "an honest source is there, whose bytes arrive");
        }
        prop_assert!(here.pulls.counts.begun.load(Ordering::Relaxed) >= 1);
        let stored = here.point.library.verify(content.sha256).unwrap();
        prop_assert!(matches!(stored, Verdict::Good | Verdict::Missing));
    }
}

#[test]
fn what_somebody_else_brings_is_followed() {
    let here = Pulling::start(LONG);
    let content = Content::new(noise(15, 3 * MIB));
    let print = {
        let mut checker = catalog::digest::Checker::new();
        checker.update(&content.bytes);
        checker.into_fingerprint()
    };
    let pieces = catalog::digest::Pieces::new(print.size, print.pieces.clone()).unwrap();
    let servable = dp::server::Servable::new(print.size, Some(content.sha1), "a.esd".parse().unwrap());
    let offer = dp::server::Offer { servable, sources: Vec::new(), pieces: None, rate: None };
    let brought = here.pulls.brought(content.sha256, offer.clone()).unwrap();
    assert!(here.pulls.brought(content.sha256, offer).is_none(), "it arrives already");
    let mut staged = here.point.library.stage(&wanted(&content)).unwrap();
    staged.check_pieces(pieces, Some(brought.growth())).unwrap();
    staged.append(&content.bytes[..MIB + 5]).unwrap();
    let mut wire = here.point.connect();
    wire.send(&request("GET", &content.path(), &[]));
    assert_eq!(wire.head().unwrap().status, 200);
    assert!(wire.body(MIB) == content.bytes[..MIB], "what has come so far");
    staged.append(&content.bytes[MIB + 5..]).unwrap();
    assert!(wire.body(2 * MIB) == content.bytes[MIB..]);
    assert_eq!(here.said.questions.load(Ordering::SeqCst), 0, "nobody was asked");
    // It ends without the rest: so do those who wait.
    drop((staged, brought));
    assert_eq!(here.point.get(&content.path()).status, 404, "it is not for this point any more");
}

/// A point that cannot ask its site says so of what it has not. Of what it has, and whoever asks may not have, it says the same.
#[test]
fn what_is_forbidden_looks_like_what_is_not_here_while_the_site_is_away_too() {
    let here = Pulling::start(LONG);
    let content = here.point.add(21, 3_000);
    here.point.change(|shelf| {
        let servable = dp::server::Servable::new(3_000, Some(content.sha1), "a.wim".parse().unwrap());
        shelf.offer(content.sha256, servable.with_access(Access::Private));
    });
    let absent = format!("/content/{}", "0".repeat(64));
    for (away, status) in [(true, 503), (false, 404)] {
        here.said.away.store(away, Ordering::SeqCst);
        here.pulls.forget_answers();
        for method in ["GET", "HEAD"] {
            // When to come back is not the same for any two.
            let seen = |path: &str| {
                let answer = here.point.ask(method, path, &[]);
                let names: Vec<_> = answer.fields.into_iter().map(|(name, _)| name).collect();
                (answer.status, names, answer.body)
            };
            let forbidden = seen(&content.path());
            assert_eq!(forbidden.0, status, "{method}");
            assert_eq!(forbidden, seen(&absent), "{method}");
        }
        let key = ("Authorization", "Bearer key");
        assert_eq!(here.point.ask("GET", &content.path(), &[key]).status, 200);
    }
    assert_eq!(here.point.server.served.refused(Refusal::Forbidden), 2);
}
