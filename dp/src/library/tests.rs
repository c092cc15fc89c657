use std::os::unix::fs::symlink;

use catalog::digest::{Checker, Digests, PIECE_SIZE, Pieces, Sha1Digest};
use catalog::problem::{Code, Coded as _};
use proptest::prelude::*;

use super::*;

mod interleaved;

fn bytes(seed: u8, len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(usize::from(seed) * 97) >> 11) as u8)
        .collect()
}

fn wanted(bytes: &[u8]) -> Wanted {
    let mut checker = Checker::new();
    checker.update(bytes);
    let print = checker.into_fingerprint();
    Wanted::new(print.size, Digests { sha1: Some(print.sha1), sha256: Some(print.sha256) }).unwrap()
}

fn library() -> (tempfile::TempDir, Library) {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::open(folder.path(), Settings::default()).unwrap();
    (folder, library)
}

fn put(library: &Library, data: &[u8]) -> Stored {
    let wanted = wanted(data);
    let mut staged = library.stage(&wanted).unwrap();
    staged.append(data).unwrap();
    let verified = staged.check(&wanted).unwrap();
    staged.commit(verified).unwrap()
}

#[test]
fn what_was_verified_is_visible_once() {
    let (folder, library) = library();
    let data = bytes(1, 300_000);
    let stored = put(&library, &data);
    assert_eq!(put(&library, &data), stored);
    assert_eq!(library.find(&wanted(&data)), Some(stored));
    let mut open = library.open_content(stored.digest()).unwrap().unwrap();
    let mut read = Vec::new();
    open.file.read_to_end(&mut read).unwrap();
    assert_eq!(read, data);
    let print = library.fingerprint(stored.digest()).unwrap().unwrap();
    assert_eq!((print.blocks.len(), print.pieces.len()), (5, 1));
    assert_eq!(library.verify(stored.digest()).unwrap(), Verdict::Good);
    let usage = library.usage().unwrap();
    assert_eq!((usage.blobs, usage.bytes, usage.staged), (1, 300_000, 0));
    assert_eq!(fs::read_dir(folder.path().join("staging")).unwrap().count(), 0);
}

/// Writes into the file of a content, as a program of somebody's may who has a link to it. What was hashed a moment ago has the same time.
fn write_into(library: &Library, stored: Stored, data: &[u8]) {
    std::thread::sleep(Duration::from_millis(20));
    let path = library.path(stored.digest());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&path, data).unwrap();
}

fn is_touched(library: &Library, stored: Stored) -> bool {
    let opened = library.open_content(stored.digest());
    matches!(opened, Err(LibraryError::Corrupt { what: Damage::Touched, .. }))
}

#[test]
fn what_was_written_to_is_read_before_it_is_believed_again() {
    let (folder, library) = library();
    let data = bytes(1, 100_000);
    let stored = put(&library, &data);
    // The same bytes: nothing is lost, once somebody has looked.
    for by_finding in [false, true] {
        write_into(&library, stored, &data);
        assert!(is_touched(&library, stored));
        // Also for whoever is started later.
        let other = Library::open(folder.path(), Settings::default()).unwrap();
        assert!(is_touched(&other, stored));
        match by_finding {
            true => assert_eq!(library.find(&wanted(&data)), Some(stored)),
            false => assert_eq!(library.verify(stored.digest()).unwrap(), Verdict::Good),
        }
        assert!(library.open_content(stored.digest()).unwrap().is_some());
    }
    // Other bytes of the same number: they are nobody's, and a good copy takes their place.
    write_into(&library, stored, &bytes(2, 100_000));
    assert!(is_touched(&library, stored));
    let print = library.known_fingerprint(stored.digest()).unwrap();
    assert_eq!(library.find(&wanted(&data)), None);
    assert!(
        matches!(library.verify(stored.digest()).unwrap(), Verdict::Corrupt { actual } if actual != print.sha256)
    );
    assert!(is_touched(&library, stored));
    put(&library, &data);
    assert_eq!(library.verify(stored.digest()).unwrap(), Verdict::Good);
    // Nobody has looked: who brings it does not take what is there for it.
    write_into(&library, stored, &bytes(3, 100_000));
    let mut staged = library.stage(&wanted(&data)).unwrap();
    staged.append(&data).unwrap();
    let verified = staged.check(&wanted(&data)).unwrap();
    staged.commit(verified).unwrap();
    assert!(fs::read(library.path(stored.digest())).unwrap() == data);
}

#[test]
fn a_clock_that_is_behind_costs_one_more_look() {
    let (_folder, library) = library();
    let data = bytes(1, 1_000);
    let stored = put(&library, &data);
    let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    let path = library.path(stored.digest());
    File::open(&path).unwrap().set_modified(tomorrow).unwrap();
    assert!(is_touched(&library, stored));
    assert_eq!(library.verify(stored.digest()).unwrap(), Verdict::Good);
    assert!(library.open_content(stored.digest()).unwrap().is_some());
}

#[test]
fn wrong_bytes_never_become_visible() {
    let (_folder, library) = library();
    let data = bytes(1, 1_000);
    let right = wanted(&data);
    let mut staged = library.stage(&right).unwrap();
    staged.append(&bytes(2, 1_000)).unwrap();
    assert!(staged.check(&right).is_err());
    assert_eq!(library.find(&right), None);
    staged.rewind().unwrap();
    drop(staged);
    // A SHA-1 that matches is no proof of identity.
    let by_sha1 = Wanted::new(1_000, Digests { sha1: Some(Sha1Digest([1; 20])), sha256: None }).unwrap();
    put(&library, &data);
    assert_eq!(library.find(&by_sha1), None);
}

#[test]
fn a_transfer_goes_on_where_it_was_cut_and_one_works_at_a_time() {
    let (_folder, library) = library();
    let data = bytes(1, 500_000);
    let wanted = wanted(&data);
    let mut staged = library.stage(&wanted).unwrap();
    staged.append(&data[..200_000]).unwrap();
    let note = Note { source: "http://x".to_owned(), etag: Some("\"1\"".to_owned()) };
    staged.set_note(&note).unwrap();
    assert!(matches!(library.stage(&wanted), Err(LibraryError::Busy { .. })));
    drop(staged);
    let again = Library::open(&library.inner.dir, Settings::default()).unwrap();
    let mut staged = again.stage(&wanted).unwrap();
    assert_eq!((staged.have(), staged.note()), (200_000, Some(note)));
    let parts: Vec<_> = again.parts().unwrap().iter().map(|part| (part.sha256, part.bytes)).collect();
    assert_eq!(parts, [(wanted.digests.sha256, 200_000)]);
    staged.append(&data[200_000..]).unwrap();
    let verified = staged.check(&wanted).unwrap();
    staged.commit(verified).unwrap();
    assert_eq!(again.usage().unwrap().staged, 0);
}

/// A transfer failed, and those who were promised its first piece still send it. The next transfer knows nothing of them: what
/// it drops must not be what they read.
#[test]
fn what_was_promised_to_followers_stays_whatever_the_next_transfer_drops() {
    let (_folder, library) = library();
    let data = bytes(1, PIECE_SIZE + 70_000);
    let wanted = wanted(&data);
    let mut checker = Checker::new();
    checker.update(&data);
    let pieces = Pieces::new(wanted.size, checker.into_fingerprint().pieces).unwrap();
    let growth = Arc::new(Growth::default());
    let mut staged = library.stage(&wanted).unwrap();
    staged.check_pieces(pieces, Some(growth.clone())).unwrap();
    staged.append(&data[..PIECE_SIZE + 9]).unwrap();
    assert_eq!(growth.grown(), Grown::Verified(PIECE_SIZE as u64));
    growth.fail();
    drop(staged);

    let mut again = library.stage(&wanted).unwrap();
    assert_eq!(again.have(), PIECE_SIZE as u64 + 9);
    again.rewind().unwrap();
    assert_eq!(again.have(), 0);
    assert!(matches!(library.stage(&wanted), Err(LibraryError::Busy { .. })), "it is locked as before");
    again.append(&bytes(2, PIECE_SIZE)).unwrap();
    let mut read = vec![0; PIECE_SIZE];
    let followed = growth.file().unwrap();
    std::os::unix::fs::FileExt::read_exact_at(&**followed, &mut read, 0).expect("it is not shorter");
    assert!(read == data[..PIECE_SIZE], "nor is it anything else");
    // Who goes on finds the new bytes.
    drop(again);
    assert_eq!(library.stage(&wanted).unwrap().have(), PIECE_SIZE as u64);
}

#[test]
fn what_a_crash_leaves_is_swept() {
    let (folder, library) = library();
    let data = bytes(1, 1_000);
    let stored = put(&library, &data);
    let name = stored.digest().to_string();
    let (room, hashes) = (folder.path().join("blobs").join(&name[..2]), folder.path().join("hashes"));
    let old = SystemTime::now() - Duration::from_secs(3_600);
    let left = |path: PathBuf, bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        path
    };
    left(room.join("left.tmp"), b"x");
    fs::create_dir_all(hashes.join("00")).unwrap();
    left(hashes.join("00").join("0".repeat(64)), b"no content has this name");
    left(folder.path().join("staging/strange"), b"x");
    left(folder.path().join(format!("staging/{}-9.part", "a".repeat(64))), b"x");
    // Young ones may be another process's work of this moment.
    fs::write(hashes.join("00").join("1".repeat(64)), b"its content is about to be renamed").unwrap();
    let again = Library::open(folder.path(), Settings::default()).unwrap();
    assert!(!room.join("left.tmp").exists());
    assert!(!hashes.join("00").join("0".repeat(64)).exists());
    assert!(!folder.path().join("staging/strange").exists());
    assert!(hashes.join("00").join("1".repeat(64)).exists());
    assert!(folder.path().join(format!("staging/{}-9.part", "a".repeat(64))).exists(), "can be resumed");
    // Content whose side file was lost is hashed again.
    fs::remove_file(hashes.join(&name[..2]).join(&name)).unwrap();
    assert_eq!(again.fingerprint(stored.digest()).unwrap().unwrap().sha256, stored.digest());
    assert!(hashes.join(&name[..2]).join(&name).exists());
    // And one that does not check is not believed, whatever it says.
    fs::write(hashes.join(&name[..2]).join(&name), b"SPSYNCH1garbage").unwrap();
    assert!(again.open_content(stored.digest()).unwrap().is_some());
    assert_eq!(again.fingerprint(stored.digest()).unwrap().unwrap().size, 1_000);
}

/// Without a process: until it is a program it has all files of this one open, and others get no lease on them.
fn fifo(path: &Path) {
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
}

#[test]
fn tricks_under_the_feet_of_the_library_are_seen() {
    let (folder, library) = library();
    let data = bytes(1, 1_000);
    let digest = put(&library, &data).digest();
    let path = folder.path().join("blobs").join(&digest.to_string()[..2]).join(digest.to_string());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let damage = |opened: Result<(), LibraryError>| match opened {
        Err(LibraryError::Corrupt { what, .. }) => Some(what),
        _ => None,
    };
    fs::write(&path, &data[..999]).unwrap();
    assert_eq!(damage(library.open_content(digest).map(drop)), Some(Damage::Size));
    assert!(matches!(library.verify(digest).unwrap(), Verdict::Corrupt { .. }), "its bytes are looked at");
    fs::remove_file(&path).unwrap();
    symlink("/etc/passwd", &path).unwrap();
    assert_eq!(damage(library.open_content(digest).map(drop)), Some(Damage::Link));
    assert_eq!(damage(library.verify(digest).map(drop)), Some(Damage::Link), "nor is it hashed");
    fs::remove_file(&path).unwrap();
    fifo(&path);
    assert_eq!(damage(library.open_content(digest).map(drop)), Some(Damage::NotAFile));
    assert_eq!(damage(library.verify(digest).map(drop)), Some(Damage::NotAFile));
    library.set_aside(digest).unwrap();
    assert_eq!(library.verify(digest).unwrap(), Verdict::Missing);
    assert!(library.open_content(digest).unwrap().is_none());
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
    library.set_aside(digest).expect("of a disk that was lost nothing is left to be moved");

    // A disk that does not let go of a bad file: it is not taken for a good one, and a good one replaces it.
    let quarantine = folder.path().join("quarantine");
    fs::remove_dir_all(&quarantine).unwrap();
    let stored = put(&library, &data);
    assert_eq!(stored.digest(), digest);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&path, vec![0; data.len()]).unwrap();
    fs::write(&quarantine, "no folder").unwrap();
    assert!(library.set_aside(digest).is_err());
    assert_eq!(library.find(&wanted(&data)), None);
    put(&library, &data);
    assert_eq!(library.verify(digest).unwrap(), Verdict::Good);
    assert!(library.find(&wanted(&data)).is_some());
}

/// Whoever else may write there could have us write elsewhere, or wait for ever.
#[test]
fn what_is_no_file_in_the_place_of_a_staged_one_is_taken_away() {
    let (folder, library) = library();
    let data = bytes(9, 1_000);
    let wanted = wanted(&data);
    let victim = folder.path().join("victim");
    fs::write(&victim, b"a thing of somebody else's").unwrap();
    let path = staged::path_of(&library.inner.dir, &wanted);
    for what in ["link", "dangling", "fifo"] {
        for path in [&path, &path.with_extension("json")] {
            match what {
                "link" => symlink(&victim, path).unwrap(),
                "dangling" => symlink(folder.path().join("new"), path).unwrap(),
                _ => fifo(path),
            }
        }
        let (library, wanted, data) = (library.clone(), wanted, data.clone());
        let (done, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut staged = library.stage(&wanted).unwrap();
            assert_eq!(staged.note(), None);
            staged.set_note(&Note { source: "http://x".to_owned(), etag: None }).unwrap();
            assert!(staged.note().is_some());
            staged.append(&data).unwrap();
            let verified = staged.check(&wanted).unwrap();
            done.send(library.remove(staged.commit(verified).unwrap().digest())).unwrap();
        });
        ended.recv_timeout(Duration::from_secs(30)).expect("it waits for nobody").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"a thing of somebody else's", "{what}");
        assert!(!folder.path().join("new").exists(), "{what}");
    }
    fs::create_dir(&path).unwrap();
    assert!(matches!(library.stage(&wanted), Err(LibraryError::Io { .. })), "a folder is no file of ours");
}

#[test]
fn folders_that_are_linked_in_or_are_not_ours_are_left_alone() {
    let (folder, library) = library();
    let old = SystemTime::now() - LEFT_OVER_AFTER - Duration::from_secs(60);
    let file = |folder: &Path| {
        fs::create_dir_all(folder).unwrap();
        let path = folder.join("papers.txt");
        let file = File::create(&path).unwrap();
        file.set_modified(old).unwrap();
        path
    };
    let theirs = file(&folder.path().join("theirs"));
    for room in ["blobs", "hashes", "maps"] {
        symlink(theirs.parent().unwrap(), library.inner.dir.join(room).join("ab")).unwrap();
    }
    let named = file(&library.inner.dir.join("hashes/lost+found"));
    let ours = file(&library.inner.dir.join("hashes/cd"));
    let again = Library::open(&library.inner.dir, Settings::default()).unwrap();
    assert!(theirs.exists() && named.exists() && !ours.exists());
    assert_eq!(again.usage().unwrap().blobs, 0);
}

#[test]
fn a_full_disk_is_refused_before_the_first_byte() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::open(folder.path(), Settings { min_free: u64::MAX / 2 }).unwrap();
    let error = library.stage(&wanted(&bytes(1, 10))).unwrap_err();
    assert!(matches!(error, LibraryError::Full { needed: 10, .. }));
    assert_eq!(error.code(), Code::DiskFull);
}

#[test]
fn local_files_are_taken_in_and_copies_handed_out() {
    let (folder, library) = library();
    let data = bytes(3, 5_000);
    let source = folder.path().join("source.esd");
    fs::write(&source, &data).unwrap();
    let stored = library.ingest(&source, &wanted(&data)).unwrap();
    fs::write(&source, bytes(4, 5_000)).unwrap();
    let other = wanted(&bytes(5, 5_000));
    assert_eq!(library.ingest(&source, &other).unwrap_err().code(), Code::HashMismatch);
    let longer = wanted(&bytes(5, 4_999));
    assert_eq!(library.ingest(&source, &longer).unwrap_err().code(), Code::SizeMismatch);
    let fifo = folder.path().join("fifo");
    let own = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, own, 0).unwrap();
    assert!(library.ingest(&fifo, &longer).is_err(), "nothing is waited for");
    let target = folder.path().join("copy.esd");
    library.place(stored.digest(), &target).unwrap();
    library.place(stored.digest(), &target).unwrap();
    assert_eq!(fs::read(&target).unwrap(), data);
    let left = list(folder.path()).unwrap();
    assert!(left.iter().all(|path| !name_of(path).unwrap().ends_with("-tmp")), "{left:?}");
}

/// A folder in which copies are made is somebody's own: other files of his may have any name.
#[test]
fn a_copy_takes_no_name_that_something_has_and_is_known_by_its_bytes() {
    let (folder, library) = library();
    let (data, other) = (bytes(3, 5_000), bytes(4, 5_000));
    let source = folder.path().join("source.esd");
    fs::write(&source, &data).unwrap();
    let content = library.ingest(&source, &wanted(&data)).unwrap().digest();
    let at = |name: &str| folder.path().join(name);
    assert!(library.place_if_free(content, &at("copy.esd")).unwrap().is_some());
    assert_eq!(fs::read(at("copy.esd")).unwrap(), data);
    fs::write(at("theirs.esd"), &other).unwrap();
    symlink("nowhere", at("link.esd")).unwrap();
    fs::create_dir(at("folder.esd")).unwrap();
    for name in ["copy.esd", "theirs.esd", "link.esd", "folder.esd"] {
        assert_eq!(library.place_if_free(content, &at(name)).unwrap(), None, "{name}");
    }
    assert_eq!(fs::read(at("theirs.esd")).unwrap(), other);
    let left = list(folder.path()).unwrap();
    assert!(left.iter().all(|path| !name_of(path).unwrap().ends_with("-tmp")), "{left:?}");

    fs::write(at("longer.esd"), bytes(3, 5_001)).unwrap();
    fs::hard_link(library.path(content), at("linked.esd")).unwrap();
    for (name, expected) in [
        ("copy.esd", Some(true)),
        ("linked.esd", Some(true)),
        ("source.esd", Some(true)),
        ("theirs.esd", Some(false)),
        ("longer.esd", Some(false)),
        ("link.esd", Some(false)),
        ("folder.esd", Some(false)),
        ("missing.esd", None),
    ] {
        assert_eq!(library.is_copy(&at(name), content, 5_000).unwrap(), expected, "{name}");
    }
    // The library has it no more: what it was is known all the same.
    library.remove(content).unwrap();
    assert_eq!(library.is_copy(&at("copy.esd"), content, 5_000).unwrap(), Some(true));
}

/// One transfer opens the staged file, another commits it before the first has the lock: what was published stays as
/// it is.
#[test]
fn a_late_transfer_never_writes_to_published_content() {
    let (_folder, library) = library();
    let data = bytes(1, 3 << 20);
    let wanted = wanted(&data);
    for _ in 0..50 {
        let racers: Vec<_> = (0..2)
            .map(|_| {
                let (library, data) = (library.clone(), data.clone());
                std::thread::spawn(move || {
                    let Ok(mut staged) = library.stage(&wanted) else { return };
                    staged.rewind().unwrap();
                    staged.append(&data).unwrap();
                    let verified = staged.check(&wanted).unwrap();
                    staged.commit(verified).unwrap();
                })
            })
            .collect();
        racers.into_iter().for_each(|racer| racer.join().unwrap());
        let digest = wanted.digests.sha256.unwrap();
        assert_eq!(library.verify(digest).unwrap(), Verdict::Good);
        library.remove(digest).unwrap();
    }
}

/// A disk that does not let go of a bad file, and a process that knew so and is gone: the next one reads it before it believes it.
#[test]
fn what_nobody_has_recorded_is_read_before_it_is_believed() {
    let (folder, library) = library();
    let (bad, good, recorded) = (bytes(1, 10_000), bytes(2, 10_000), bytes(3, 10_000));
    let [at, _, known] = [&bad, &good, &recorded].map(|data| put(&library, data).digest());
    let path = library.path(at);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&path, vec![0; bad.len()]).unwrap();
    // Not even root puts a file in the place of a folder.
    fs::create_dir(folder.path().join("quarantine").join(at.to_string())).unwrap();
    assert!(library.set_aside(at).is_err());
    drop(library);

    let again = Library::open(folder.path(), Settings::default()).unwrap();
    again.believe_only(&HashSet::from([known])).unwrap();
    assert_eq!(again.find(&wanted(&bad)), None);
    assert!(again.find(&wanted(&good)).is_some() && again.find(&wanted(&recorded)).is_some());
    // What was read once is not read again, and what was recorded is not read at all.
    for data in [&good, &recorded] {
        let path = again.path(wanted(data).digests.sha256.unwrap());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let before = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, vec![0; data.len()]).unwrap();
        File::open(&path).unwrap().set_modified(before).unwrap();
        assert!(again.find(&wanted(data)).is_some());
    }
    put(&again, &bad);
    assert!(again.find(&wanted(&bad)).is_some());
    assert_eq!(again.verify(at).unwrap(), Verdict::Good, "the good one is in the place of the bad one");
}

#[test]
fn a_part_is_dropped_unless_a_transfer_works_on_it() {
    let (folder, library) = library();
    let (data, other) = (bytes(1, 300_000), bytes(2, 300_000));
    let mut staged = library.stage(&wanted(&data)).unwrap();
    staged.append(&data[..200_000]).unwrap();
    staged.set_note(&Note { source: "http://x".to_owned(), etag: None }).unwrap();
    let part = library.parts().unwrap().remove(0);
    assert_eq!((part.sha256, part.bytes), (wanted(&data).digests.sha256, 200_000));
    assert_eq!((library.arrived(&wanted(&data)), library.arrived(&wanted(&other))), (200_000, 0));
    assert!(library.is_part_of(&part, &wanted(&data)) && !library.is_part_of(&part, &wanted(&other)));
    assert!(library.is_at_work_on(&part) && !library.drop_part(&part).unwrap());
    staged.append(&data[200_000..250_000]).unwrap();
    drop(staged);
    assert!(!library.is_at_work_on(&part) && library.drop_part(&part).unwrap());
    assert!(library.drop_part(&part).unwrap(), "it is gone");
    assert_eq!(fs::read_dir(folder.path().join("staging")).unwrap().count(), 0);
    put(&library, &data);
    // A part of another file has its name by now.
    let mut staged = library.stage(&wanted(&other)).unwrap();
    staged.append(&other[..100]).unwrap();
    staged.rewind().unwrap();
    let part = library.parts().unwrap().remove(0);
    assert!(!library.drop_part(&part).unwrap());
}

/// Two place the same content under the same name on another file system, or one that cannot link: what appears is whole each time.
#[test]
fn what_is_placed_is_whole_whoever_places_it_too() {
    let (folder, library) = library();
    let data = bytes(3, 300_000);
    let digest = put(&library, &data).digest();
    // Another file system if the machine has one; else the race is between links.
    let elsewhere =
        tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir_in(folder.path())).unwrap();
    let target = elsewhere.path().join("copy.esd");
    let left = elsewhere.path().join(".1-0.spsync-tmp");
    fs::write(&left, b"of a process that was killed a moment ago").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..40 {
                    library.place(digest, &target).unwrap();
                    assert!(fs::read(&target).unwrap() == data);
                }
            });
        }
    });
    assert!(left.exists(), "it may be at work");
    let names: Vec<_> = fs::read_dir(elsewhere.path()).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

/// A bit of a side file has fallen over: the content is good, is served, and is not read again for each that asks.
#[test]
fn a_side_file_that_is_wrong_withholds_nothing() {
    let (folder, library) = library();
    let data = bytes(1, 300_000);
    let digest = put(&library, &data).digest();
    let side = folder.path().join("hashes").join(&digest.to_string()[..2]).join(digest.to_string());
    let whole = fs::read(&side).unwrap();
    for at in [8, 30, whole.len() - 1] {
        let mut wrong = whole.clone();
        wrong[at] ^= 1;
        fs::write(&side, &wrong).unwrap();
        assert!(library.open_content(digest).unwrap().is_some(), "it says nothing about the content");
        assert_eq!(library.verify(digest).unwrap(), Verdict::Good);
        assert!(fs::read(&side).unwrap() == whole, "what was computed is written down");
    }
    fs::remove_file(&side).unwrap();
    assert_eq!(library.verify(digest).unwrap(), Verdict::Good);
    assert!(fs::read(&side).unwrap() == whole);
}

#[test]
fn what_was_set_aside_goes_in_time_and_for_whoever_wants_its_room() {
    let (folder, library) = library();
    let (one, other) = (bytes(1, 10_000), bytes(2, 20_000));
    for data in [&one, &other] {
        let digest = put(&library, data).digest();
        library.set_aside(digest).unwrap();
    }
    let strange = folder.path().join("quarantine/of somebody else");
    fs::write(&strange, "x").unwrap();
    let now = SystemTime::now();
    let days = |days: u64| Duration::from_secs(days * 24 * 3_600);
    for (at, files, size) in [(now - days(9), 2, 30_000), (now + days(6), 2, 30_000), (now + days(8), 0, 0)] {
        library.forget_aside(at).unwrap();
        assert_eq!(library.aside().unwrap(), Aside { files, bytes: size });
    }

    let again = put(&library, &one).digest();
    library.set_aside(again).unwrap();
    for (needed, files) in [(0, 1), (1_000, 1), (u64::MAX / 2, 0)] {
        library.free_for(needed).unwrap();
        assert_eq!(library.aside().unwrap().files, files, "{needed}");
    }
    assert!(strange.exists());
    // Nobody is told that the disk is full while bad files lie on it.
    library.set_aside(put(&library, &one).digest()).unwrap();
    let tight = Library::open(folder.path(), Settings { min_free: u64::MAX / 2 }).unwrap();
    assert!(matches!(tight.stage(&wanted(&other)), Err(LibraryError::Full { .. })));
    assert_eq!(tight.aside().unwrap(), Aside::default());
}

/// What is read takes minutes; another one may have the name then.
#[test]
fn a_file_is_told_from_another_one_under_its_name() {
    let (_folder, library) = library();
    let data = bytes(1, 1_000);
    let digest = wanted(&data).digests.sha256.unwrap();
    assert!(!library.is_another(digest, None), "there was none, and there is none");
    put(&library, &data);
    assert!(library.is_another(digest, None), "there was none, and there is one");
    let seen = library.identity(digest);
    assert!(!library.is_another(digest, seen.as_ref()));
    let link = library.path(digest).with_extension("link");
    fs::hard_link(library.path(digest), &link).unwrap();
    assert!(!library.is_another(digest, seen.as_ref()), "it has another name besides");
    library.set_aside(digest).unwrap();
    assert!(!library.is_another(digest, seen.as_ref()), "it is gone");
    put(&library, &data);
    assert!(library.is_another(digest, seen.as_ref()));
}

#[test]
fn what_nobody_recorded_is_found_when_it_is_old() {
    let (_folder, library) = library();
    let [one, other] = [1, 2].map(|seed| put(&library, &bytes(seed, 1_000)).digest());
    let (day, now) = (Duration::from_secs(24 * 3_600), SystemTime::now());
    let recorded = HashSet::from([other]);
    for (at, expected) in [(now, vec![]), (now - day, vec![]), (now + 2 * day, vec![one])] {
        assert_eq!(library.unrecorded(&recorded, day, at).unwrap(), expected);
    }
}

#[test]
fn what_another_transfer_works_on_is_not_abandoned() {
    let (_folder, library) = library();
    let data = bytes(1, 300_000);
    let wanted = wanted(&data);
    assert!(library.abandon(&wanted).unwrap(), "there is nothing");
    let mut staged = library.stage(&wanted).unwrap();
    staged.append(&data).unwrap();
    assert!(!library.abandon(&wanted).unwrap());
    let verified = staged.check(&wanted).unwrap();
    staged.commit(verified).expect("its name in `staging` is its own");
    assert_eq!(library.stage(&wanted).unwrap().append(&data[..9]).unwrap(), Appended::All);
    assert!(library.abandon(&wanted).unwrap());
    assert_eq!(library.arrived(&wanted), 0);
}

/// A process sleeps for ten minutes before its file appears. Another one has swept that meanwhile, and has begun its own.
#[test]
fn a_name_that_was_given_to_another_file_is_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("a.esd");
    let (sleeps, _file) = Temporary::file(&target).unwrap();
    fs::remove_file(&sleeps.path).unwrap();
    let (other, _theirs) = Temporary::file(&target).unwrap();
    assert_eq!(sleeps.path, other.path, "the name tells what it is of");
    assert!(sleeps.appear().is_err());
    assert!(!target.exists() && other.path.exists(), "half written, it is nobody's but theirs");
    other.appear().unwrap();
    assert!(target.exists());
}
