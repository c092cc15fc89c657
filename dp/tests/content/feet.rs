//! Files that change under the server's feet. Never a byte of something else, never a wait.

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};

use crate::stage::{self, Content, Point, noise, request};

const LARGE: usize = 24 << 20;

/// How a stored file may be spoilt.
type Spoil = fn(&Point, &Content);

fn writable(point: &Point, content: &Content) -> fs::File {
    let path = point.blob(content);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::File::options().write(true).open(path).unwrap()
}

#[test]
fn a_file_that_is_not_what_was_stored_is_not_served() {
    let point = Point::start();
    let spoil: [(&str, Spoil); 7] = [
        ("written to", |point, content| {
            // What was hashed a moment ago has the same time.
            std::thread::sleep(std::time::Duration::from_millis(20));
            writable(point, content).write_all_at(b"other", 500).unwrap();
        }),
        ("shorter", |point, content| writable(point, content).set_len(999).unwrap()),
        ("longer", |point, content| writable(point, content).set_len(1_001).unwrap()),
        ("gone", |point, content| fs::remove_file(point.blob(content)).unwrap()),
        ("a link", |point, content| {
            let (path, elsewhere) = (point.blob(content), point.folder.path().join("elsewhere"));
            fs::rename(&path, &elsewhere).unwrap();
            symlink(&elsewhere, &path).unwrap();
        }),
        ("a folder", |point, content| {
            let path = point.blob(content);
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
        }),
        ("a pipe that nobody writes to", |point, content| {
            let path = point.blob(content);
            fs::remove_file(&path).unwrap();
            let mut making = stage::spawn(std::process::Command::new("mkfifo").arg(&path)).unwrap();
            assert!(making.wait().unwrap().success());
        }),
    ];
    for (seed, (what, spoil)) in (1..).zip(spoil) {
        let content = point.add(seed, 1_000);
        assert!(point.get(&content.path()).body == content.bytes);
        spoil(&point, &content);
        let answer = point.get(&content.path());
        assert_eq!((answer.status, answer.fields.len()), (404, 1), "{what}");
        assert_eq!(point.ask("GET", &content.path(), &[("Range", "bytes=0-0")]).status, 404, "{what}");
    }
}

#[test]
fn a_disk_that_does_not_answer_is_said_to_be_busy() {
    let point = Point::start();
    let content = point.add(10, 1_000);
    let folder = point.blob(&content).parent().unwrap().to_owned();
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, b"no folder").unwrap();
    let answer = point.get(&content.path());
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("10")));
    assert_eq!(answer.field("etag"), None);
}

#[test]
fn a_file_that_becomes_shorter_ends_the_connection() {
    let point = Point::start();
    let content = point.add(11, LARGE);
    // Whoever has it open for writing already need not wait for anybody.
    let writer = writable(&point, &content);
    let mut wire = point.connect();
    wire.send(&request("GET", &content.path(), &[]));
    let head = wire.head().unwrap();
    assert_eq!(head.field("content-length"), Some(&*LARGE.to_string()));
    let mut got = wire.body(1_000);
    writer.set_len(2_000).unwrap();
    got.extend(wire.body(LARGE));
    assert!(got.len() < LARGE, "more bytes than the file had");
    assert!(got == content.bytes[..got.len()], "bytes that were never in the file");
    assert_eq!(point.get(&content.path()).status, 404);
}

#[cfg(all(target_os = "linux", not(feature = "portable")))]
#[test]
fn who_cuts_a_file_waits_for_what_is_on_its_way() {
    let _nobody_forks = stage::no_forks();
    let point = Point::start();
    for (round, cut) in (0..).zip([false, true]) {
        let content = point.add(20 + round, LARGE);
        let mut wire = point.connect();
        wire.send(&request("GET", &content.path(), &[]));
        assert_eq!(wire.head().unwrap().status, 200);
        let mut got = wire.body(1_000);
        let path = point.blob(&content);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        // By its name alone, or by a descriptor.
        let (begins, begun) = std::sync::mpsc::channel();
        let cutter = std::thread::spawn(move || {
            begins.send(()).unwrap();
            if cut {
                rustix::fs::open(
                    &path,
                    rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::TRUNC,
                    rustix::fs::Mode::empty(),
                )
                .unwrap();
            } else {
                fs::File::options().write(true).open(path).unwrap().set_len(2_000).unwrap();
            }
        });
        begun.recv().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(!cutter.is_finished(), "the file was cut while its pages were on their way");
        got.extend(wire.body(LARGE));
        cutter.join().unwrap();
        assert!(got.len() < LARGE, "the connection should have ended");
        assert!(got.len() > 2_000, "what is on its way arrives");
        assert!(got == content.bytes[..got.len()], "bytes that were never in the file");
        assert_eq!(point.get(&content.path()).status, 404);
    }
}

#[cfg(all(target_os = "linux", not(feature = "portable")))]
#[test]
fn a_file_that_was_only_opened_for_writing_is_served_again() {
    let point = Point::start();
    let content = point.add(30, LARGE);
    assert!(point.get(&content.path()).body == content.bytes);
    drop(writable(&point, &content));
    assert!(point.get(&content.path()).body == content.bytes);
}

#[test]
fn a_file_that_is_replaced_is_read_to_its_end() {
    let point = Point::start();
    let content = point.add(12, LARGE);
    let mut wire = point.connect();
    wire.send(&request("GET", &content.path(), &[]));
    assert_eq!(wire.head().unwrap().status, 200);
    let mut got = wire.body(1_000);
    let (path, other) = (point.blob(&content), point.folder.path().join("other"));
    fs::write(&other, noise(13, LARGE - 1)).unwrap();
    fs::rename(&other, &path).unwrap();
    got.extend(wire.body(LARGE - 1_000));
    assert!(got == content.bytes, "bytes of the other file");
    // The connection stands, and the file that came in its place is not served.
    wire.send(&request("GET", &content.path(), &[]));
    assert_eq!(wire.answer(false).status, 404);
}

#[test]
fn a_running_transfer_survives_a_withdrawal() {
    let point = Point::start();
    let content = point.add(14, LARGE);
    let mut wire = point.connect();
    wire.send(&request("GET", &content.path(), &[]));
    assert_eq!(wire.head().unwrap().status, 200);
    let mut got = wire.body(1_000);
    point.change(|shelf| shelf.contents.clear());
    point.library.remove(content.sha256).unwrap();
    got.extend(wire.body(LARGE - 1_000));
    assert!(got == content.bytes);
    assert_eq!(point.get(&content.path()).status, 404);
}
