//! What is kept, for whom, and what other processes do meanwhile.

use super::*;
use crate::transfer::tests::wanted;

const HOUR: i64 = 3_600;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("a time of the test")
}

fn one(seed: u8, size: u64, used: i64, pinned: bool) -> CachedContent {
    CachedContent {
        content: Sha256Digest([seed; 32]),
        size,
        file_name: None,
        private: false,
        used: (used > 0).then(|| at(used)),
        pinned_by: if pinned { vec!["ts".to_owned()] } else { Vec::new() },
        partial: false,
    }
}

#[test]
fn what_was_used_least_recently_goes_first_and_what_is_needed_stays() {
    let now = at(100 * HOUR);
    let all = [
        one(1, 10, 99 * HOUR, false),
        one(2, 10, 50 * HOUR, false),
        one(3, 10, 20 * HOUR, true),
        one(4, 10, 0, false),
        one(5, 10, 100 * HOUR - 60, false),
        one(6, 10, 101 * HOUR, false),
    ];
    let limits = |size: Option<u64>, hours: Option<u64>| CacheLimits {
        size,
        age: hours.map(|hours| Duration::from_secs(hours * 3_600)),
    };
    for (what, limits, coming, everything, expected) in [
        ("no limits", limits(None, None), 1_000, false, ""),
        ("room for all", limits(Some(60), None), 0, false, ""),
        ("one too many", limits(Some(59), None), 0, false, "4 size"),
        ("something comes", limits(Some(60), None), 11, false, "4 size, 2 size"),
        ("as much as there can be", limits(Some(60), None), 30, false, "4 size, 2 size, 1 size"),
        ("more than could have room", limits(Some(60), None), 31, false, ""),
        ("a size that nobody has", limits(Some(60), Some(60)), u64::MAX, false, "4 age"),
        ("no room at all", limits(Some(0), None), 0, false, "4 size, 2 size, 1 size"),
        ("too old", limits(None, Some(40)), 0, false, "4 age, 2 age"),
        ("both", limits(Some(30), Some(60)), 0, false, "4 age, 2 size, 1 size"),
        ("everything", limits(None, None), 0, true, "4 all, 2 all, 1 all"),
    ] {
        let removed = choose(&all, limits, coming, everything, now);
        let text = |one: &Removed| {
            format!("{} {}", one.content.content.0[0], format!("{:?}", one.why).to_lowercase())
        };
        assert_eq!(removed.iter().map(text).collect::<Vec<_>>().join(", "), expected, "{what}");
    }
}

#[test]
fn what_is_removed_leaves_nothing_behind_and_what_was_private_stays_so() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path(), 0).unwrap();
    let store = |bytes: &[u8]| {
        let path = folder.path().join("arrives");
        fs::write(&path, bytes).unwrap();
        cache.library.ingest(&path, &wanted(bytes)).unwrap().digest()
    };
    let (first, second, third) = (store(b"first"), store(b"second"), store(b"third"));
    let (name, other): (FileName, FileName) = ("a.esd".parse().unwrap(), "b.esd".parse().unwrap());
    fs::create_dir(cache.files()).unwrap();
    for (content, name, private) in [(first, &name, true), (second, &name, false), (third, &other, false)] {
        cache.note(content, name, private, at(HOUR)).unwrap();
        cache.library.place(content, &cache.files().join(name.as_str())).unwrap();
    }
    cache.note(first, &name, false, at(HOUR)).unwrap();
    assert!(cache.is_private(first) && !cache.is_private(second));
    assert!(cache.is_private(Sha256Digest([9; 32])), "nobody ever said that it may be shared");
    fs::write(cache.card_path(third), "{").unwrap();
    assert!(cache.is_private(third), "who cannot say does not share");
    cache.note(third, &other, false, at(HOUR)).unwrap();
    assert!(cache.is_private(third));

    cache.pin(second, "run-7").unwrap();
    cache.pin(second, "run-8").unwrap();
    cache.unpin(second, "run-8").unwrap();
    cache.unpin(second, "run-8").unwrap();
    assert!(cache.pin(second, "../x").is_err() && cache.pin(second, "").is_err());
    let now = at(9 * HOUR);
    let would = cache.clean(CacheLimits::default(), 0, true, now, true).unwrap();
    let gone = cache.clean(CacheLimits::default(), 0, true, now, false).unwrap();
    assert_eq!((would.len(), &would), (2, &gone));
    assert_eq!(cache.list().unwrap().len(), 1);
    assert_eq!(cache.list().unwrap()[0].pinned_by, ["run-7"]);
    assert!(cache.files().join("a.esd").exists(), "another content has that name now");
    assert!(!cache.files().join("b.esd").exists());
    cache.unpin(second, "run-7").unwrap();
    assert_eq!(cache.clean(CacheLimits::default(), 0, true, now, false).unwrap().len(), 1);
    for room in ["cards", "pins", "files"] {
        assert_eq!(fs::read_dir(folder.path().join(room)).unwrap().count(), 0, "{room}");
    }
    assert_eq!(cache.library.contents().unwrap(), []);
}

#[test]
fn a_private_content_that_takes_long_to_come_stays_private_whoever_cleans_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path(), 0).unwrap();
    let (private, name): (&[u8], FileName) = (b"boot image", "boot.wim".parse().unwrap());
    let wanted = wanted(private);
    let content = wanted.digests.sha256.unwrap();
    cache.note(content, &name, true, at(HOUR)).unwrap();
    let mut staged = cache.library.stage(&wanted).unwrap();
    staged.append(&private[..4]).unwrap();
    // Another process cleans, long after that.
    let other = Cache::open(folder.path(), 0).unwrap();
    let stranger = Sha256Digest([9; 32]);
    cache.note(stranger, &name, true, at(HOUR)).unwrap();
    other.clean(CacheLimits::default(), 0, true, at(9 * HOUR), false).unwrap();
    assert!(cache.card(content).unwrap().is_some(), "it is on its way");
    assert_eq!(cache.card(stranger), Ok(None), "it never came");
    staged.append(&private[4..]).unwrap();
    let verified = staged.check(&wanted).unwrap();
    staged.commit(verified).unwrap();
    assert!(cache.is_private(content) && cache.list().unwrap()[0].private);
    // Whatever becomes of the card: what nobody knows is not shared, and what the site says is noted anew.
    fs::remove_file(cache.card_path(content)).unwrap();
    assert!(cache.is_private(content) && cache.list().unwrap()[0].private);
    cache.note(content, &name, false, at(HOUR)).unwrap();
    assert!(!cache.is_private(content));
}

#[test]
fn who_cleans_removes_no_card_that_is_being_written_and_nothing_that_is_being_pinned() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path(), 0).unwrap();
    let (content, name): (_, FileName) = (Sha256Digest([9; 32]), "a.esd".parse().unwrap());
    cache.note(content, &name, true, at(HOUR)).unwrap();
    let held = cache.lock().unwrap();
    let other = cache.clone();
    let (begins, begun) = std::sync::mpsc::channel();
    let cleans = std::thread::spawn(move || {
        begins.send(()).unwrap();
        other.clean(CacheLimits::default(), 0, true, at(9 * HOUR), false).unwrap();
    });
    begun.recv().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert!(!cleans.is_finished() && cache.card(content).unwrap().is_some(), "it waits for its turn");
    drop(held);
    cleans.join().unwrap();
    assert_eq!(cache.card(content), Ok(None));
    let would = cache.lock().unwrap();
    cache.clean(CacheLimits::default(), 0, true, at(9 * HOUR), true).unwrap();
    drop(would);
}

#[test]
fn the_folder_is_for_its_owner() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("client/cache");
    Cache::open(&path, 0).unwrap();
    for path in [path.as_path(), path.parent().unwrap()] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o700);
    }
}

#[test]
fn pins_of_a_holder_go_together_and_those_of_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path(), 0).unwrap();
    for (seed, holder) in [(1, "run-7"), (2, "run-7"), (2, "run-8"), (3, "somebody")] {
        cache.pin(Sha256Digest([seed; 32]), holder).unwrap();
    }
    cache.release(|holder| holder.starts_with("run-") && holder != "run-8").unwrap();
    let left: Vec<_> = cache.pins().unwrap().into_iter().map(|(of, by)| (of.0[0], by)).collect();
    assert_eq!(left, [(2, "run-8".to_owned()), (3, "somebody".to_owned())]);
}

#[test]
fn what_came_in_part_counts_and_goes_unless_somebody_works_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path(), 0).unwrap();
    let name: FileName = "a.esd".parse().unwrap();
    let stage = |bytes: &[u8]| {
        let wanted = wanted(bytes);
        let mut staged = cache.library.stage(&wanted).unwrap();
        staged.append(&bytes[..bytes.len() / 2]).unwrap();
        (wanted.digests.sha256.unwrap(), staged)
    };
    let (abandoned, staged) = stage(&[1; 9_000]);
    drop(staged);
    let (pinned, staged) = stage(&[2; 9_000]);
    drop(staged);
    let (busy, held) = stage(&[3; 9_000]);
    cache.note(abandoned, &name, true, at(HOUR)).unwrap();
    cache.pin(pinned, "run-7").unwrap();
    let later = Timestamp::now() + jiff::SignedDuration::from_hours(9);
    let clean = |size, everything, now, dry_run| {
        let limits = CacheLimits { size, age: None };
        let removed = cache.clean(limits, 0, everything, now, dry_run).unwrap();
        removed.into_iter().map(|one| (one.content.content, one.content.size, one.why)).collect::<Vec<_>>()
    };
    assert_eq!(clean(Some(0), false, Timestamp::now(), false), [], "its last bytes came a moment ago");
    assert_eq!(clean(None, false, later, false), []);
    let bytes = cache.library.parts().unwrap()[0].bytes;
    assert_eq!(clean(Some(2 * bytes), false, later, false), []);
    assert_eq!(clean(Some(bytes), false, later, true), [(abandoned, bytes, Why::Size)], "it is only said");
    assert_eq!(clean(None, true, later, false), [(abandoned, bytes, Why::All)]);
    assert_eq!(clean(None, true, later, false), []);
    assert_eq!(cache.card(abandoned), Ok(None));
    cache.unpin(pinned, "run-7").unwrap();
    drop(held);
    assert_eq!(clean(None, true, later, false).len(), 2);
    assert_eq!(cache.library.parts().unwrap(), []);
    assert!(cache.card(busy).unwrap().is_none());
}
