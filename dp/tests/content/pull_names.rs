//! Content that a point lacks and may serve, by its other names, in words, and for those who want only what is there.

use std::sync::atomic::Ordering;
use std::time::Duration;

use dp::server::{Access, OtherName};

use crate::pull::until;
use crate::pull_upstream::{Play, Pulling, Upstream};
use crate::stage::{Content, noise};

const MIB: usize = 1 << 20;
/// No test waits this long unless it has failed.
const LONG: Duration = Duration::from_secs(20);

/// A point that would fetch a content, which has all its names there.
fn stage(seed: u64, access: Access) -> (Pulling, Content, Upstream) {
    let here = Pulling::start(LONG);
    let content = Content::new(noise(seed, MIB + 9));
    let upstream = here.upstream(&content, &[Play::Well]);
    here.offer(&content, &[&upstream], true, access);
    let in_package =
        OtherName::InPackage("XYZ00001".parse().expect("an id"), "part.esd".parse().expect("a name"));
    for name in [OtherName::Sha1(content.sha1), in_package] {
        here.said.names.lock().expect("nobody panics").insert(name, content.sha256);
    }
    (here, content, upstream)
}

/// The paths of its bytes, and those of what describes it.
fn names(content: &Content) -> ([String; 3], [String; 3]) {
    let sha1 = content.sha1.to_string().to_uppercase();
    let package = "/packages/XYZ00001/Part.ESD";
    let by_sha1 = format!("/Content/{}/{sha1}.esd", &sha1[38..]);
    let own = content.path();
    let described = [format!("{own}.meta4"), format!("{package}.meta4"), format!("{own}/pieceshash")];
    ([own, by_sha1, package.to_owned()], described)
}

#[test]
fn what_would_be_fetched_has_all_its_names_and_is_described() {
    let (here, content, upstream) = stage(31, Access::Public);
    let (bytes, described) = names(&content);
    for path in &described {
        let answer = here.point.get(path);
        assert_eq!(answer.status, 200, "{path}");
        let text = String::from_utf8(answer.body).unwrap();
        let says =
            if path.ends_with("meta4") { content.sha256.to_string() } else { "\"Pieces\":[\"".to_owned() };
        assert!(text.contains(&says), "{path}: {text}");
        assert!(path.ends_with("hash") || text.matches("<hash>").count() == 2, "each piece: {text}");
    }
    assert_eq!(here.point.ask("HEAD", &bytes[1], &[]).status, 200);
    assert_eq!(upstream.asked(), 0, "no word about it needs a byte of it");
    let questions = here.said.questions.load(Ordering::SeqCst);
    for unknown in
        ["/packages/XYZ00001/other.esd", "/Content/aa/00000000000000000000000000000000000000aa.esd"]
    {
        for _ in 0..3 {
            assert_eq!(here.point.get(unknown).status, 404, "{unknown}");
        }
    }
    assert_eq!(here.said.questions.load(Ordering::SeqCst), questions + 2, "what was said is remembered");
    for path in bytes.iter().rev() {
        assert!(here.point.get(path).body == content.bytes, "{path}");
    }
    assert_eq!(upstream.asked(), 1);
}

#[test]
fn private_content_has_no_name_for_strangers() {
    let (here, content, upstream) = stage(32, Access::Private);
    let (bytes, described) = names(&content);
    for path in bytes.iter().chain(&described) {
        assert_eq!(here.point.ask("HEAD", path, &[]).status, 404, "{path}");
        assert_eq!(here.point.ask("HEAD", path, &[("Authorization", "Bearer key")]).status, 200, "{path}");
    }
    assert_eq!(upstream.asked(), 0);
}

#[test]
fn who_wants_only_what_is_there_begins_nothing() {
    let (here, content, upstream) = stage(33, Access::Public);
    let (bytes, described) = names(&content);
    let only = ("Cache-Control", "no-transform, Only-If-Cached");
    for path in bytes.iter().chain(&described) {
        assert_eq!(here.point.ask("GET", path, &[only]).status, 404, "{path}");
    }
    assert_eq!((here.said.questions.load(Ordering::SeqCst), upstream.asked()), (0, 0), "nobody was asked");
    // What arrives because others want it is there as far as it has come; and then like any other.
    upstream.open.send_replace(MIB);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| here.point.get(&bytes[0]));
        until("somebody follows it", || here.pulls.counts.followers.load(Ordering::Relaxed) > 0);
        let part = here.point.ask("GET", &bytes[0], &[only, ("Range", "bytes=5-9")]);
        assert_eq!((part.status, &*part.body), (206, &content.bytes[5..10]));
        upstream.open.send_replace(usize::MAX);
        assert!(other.join().unwrap().body == content.bytes);
    });
    assert!(here.point.ask("GET", &bytes[0], &[only]).body == content.bytes);
    assert_eq!(upstream.asked(), 1);
}
