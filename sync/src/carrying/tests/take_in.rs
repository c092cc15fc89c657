use dp::library::Settings;
use schema::points::Work as Order;

use super::*;
use crate::carrying::prestage::tests::{Held, item, manifest};
use crate::carrying::prestage::write;
use crate::points::wire::{Assigned, AssignedFile};

const ONE: &[u8] = &[1; 5_000];
const TWO: &[u8] = b"two";
const THREE: &[u8] = b"three";

fn assignment(files: &[(&[u8], u64)]) -> Assignment {
    let file = |(bytes, size): &(&[u8], u64)| AssignedFile {
        name: "x.esd".parse().expect("a name"),
        sha256: Sha256Digest::of(bytes),
        sha1: Sha1Digest([0; 20]),
        size: *size,
        private: false,
    };
    let package = Assigned {
        package: "XYZ00001".parse().expect("an id"),
        name: "p".to_owned(),
        version: 1,
        work: Order::Send,
        order: 1,
        files: files.iter().map(file).collect(),
        leaving: Vec::new(),
        hold: false,
    };
    Assignment { packages: vec![package], ..Assignment::default() }
}

fn three() -> Manifest {
    manifest(vec![item("XYZ00001", &[("1", ONE), ("2", TWO)]), item("XYZ00002", &[("3", THREE)])])
}

/// A point that was told to hold these.
async fn point(folder: &Path, assignment: Assignment) -> Arc<Site> {
    let mut settings = crate::config::Settings::default();
    settings.site.data_dir = folder.join("point");
    settings.download.min_free = 0;
    settings.dp.role = schema::points::PointRole::Standard;
    let site = Site::open(crate::config::Loaded::from(settings)).await.expect("it opens");
    site.point.adopt("one".to_owned(), assignment);
    site
}

/// Cancelled in the middle: what was in the library already goes again, and what was there before stays.
#[tokio::test]
async fn a_cancelled_import_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let site = point(folder.path(), assignment(&[(ONE, 5_000), (TWO, 3), (THREE, 5)])).await;
    let path = folder.path().join("x.pkgx");
    let manifest = three();
    let mut bytes = Vec::new();
    write(&mut bytes, &manifest, &mut Held::of(&[ONE, TWO, THREE])).unwrap();
    std::fs::write(&path, &bytes).unwrap();
    let wanted: Vec<CarriedFile> = distinct(&manifest.items).into_iter().cloned().collect();
    let caller = Caller { who: "admin".to_owned(), dry_run: false };

    // It stands still between the first content and the second, until it was cancelled.
    let (reached, mut at) = tokio::sync::mpsc::unbounded_channel();
    let (go_on, may) = std::sync::mpsc::channel::<()>();
    let begun = {
        let (site, path, manifest, wanted, caller) =
            (site.clone(), path.clone(), manifest.clone(), wanted.clone(), caller.clone());
        tokio::spawn(async move {
            let progress = move |done| {
                if done > 5_000 {
                    let _ = reached.send(());
                    let _ = may.recv();
                }
            };
            take(&site, path, manifest, wanted, &caller, progress).await
        })
    };
    at.recv().await.unwrap();
    assert_eq!(site.library.usage().unwrap().blobs, 1, "the first is in the library");
    begun.abort();
    assert!(begun.await.unwrap_err().is_cancelled());
    drop(go_on);
    // What it began ends by itself; whoever waits for it is the channel that it holds.
    assert_eq!(at.recv().await, None);
    let left = || site.library.usage().map(|usage| (usage.blobs, usage.staged)).unwrap();
    for _ in 0..1_000 {
        if left() != (0, 0) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
    assert_eq!(left(), (0, 0));
    assert!(site.read(|r| r.content_digests()).await.unwrap().is_empty());
    assert!(site.read(|r| r.acts(9)).await.unwrap().iter().all(|act| act.what != "prestage.import"));

    // Not cancelled, it is all there; and what is recorded a later failure does not take.
    take(&site, path.clone(), manifest.clone(), wanted.clone(), &caller, |_| {}).await.unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 700]).unwrap();
    let cut = take(&site, path, manifest, wanted, &caller, |_| {}).await.unwrap_err();
    assert_eq!(cut.code, Code::PrestageMalformed);
    assert_eq!(site.library.usage().unwrap().blobs, 3);
    site.close().await;
}

#[test]
fn only_what_a_point_is_to_hold_is_taken() {
    let here = |sha256: &Sha256Digest| *sha256 == Sha256Digest::of(TWO);
    let names = |files: &[CarriedFile]| files.iter().map(|file| file.name.to_string()).collect::<String>();
    for (assigned, expected) in [
        (assignment(&[(ONE, 5_000), (TWO, 3)]), ("1", "2", "3")),
        (assignment(&[(ONE, 5_000), (TWO, 3), (THREE, 5)]), ("13", "2", "")),
        (assignment(&[(ONE, 4_999)]), ("", "", "123")),
        (Assignment::default(), ("", "", "123")),
    ] {
        let sorted = sort(&three(), &assigned, here);
        let found = (names(&sorted.taken), names(&sorted.present), names(&sorted.left_out));
        assert_eq!((found.0.as_str(), found.1.as_str(), found.2.as_str()), expected);
    }
}

#[test]
fn what_is_wanted_is_verified_again_while_it_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::open(&folder.path().join("library"), Settings::default()).unwrap();
    let path = folder.path().join("x.pkgx");
    let manifest = three();
    let mut bytes = Vec::new();
    write(&mut bytes, &manifest, &mut Held::of(&[ONE, TWO, THREE])).unwrap();
    std::fs::write(&path, &bytes).unwrap();
    let wanted: Vec<CarriedFile> = distinct(&manifest.items).into_iter().take(2).cloned().collect();
    let added = Added::default();
    let take =
        |manifest: &Manifest, told: &Told| all(&library, &path, manifest, (&wanted, &added), told, |_| {});

    // Changed since it was looked through: another list, other bytes.
    let other = Manifest { name: "Other".to_owned(), ..manifest.clone() };
    assert_eq!(take(&other, &Told::default()).unwrap_err().code, Code::PrestageMalformed);
    let its_own = [Sha256Digest::of(ONE), Sha256Digest::of(TWO)];
    assert_eq!(added.all(), its_own, "what is to be taken away again");
    let at = bytes.windows(3).position(|part| part == TWO).unwrap();
    let mut flipped = bytes.clone();
    flipped[at] ^= 1;
    std::fs::write(&path, &flipped).unwrap();
    assert_eq!(take(&manifest, &Told::default()).unwrap_err().code, Code::HashMismatch);
    std::fs::write(&path, &bytes).unwrap();
    let stop = Stop::new();
    let told = stop.told();
    drop(stop);
    assert_eq!(take(&manifest, &told).unwrap_err().code, Code::Cancelled);
    assert_eq!(library.usage().unwrap().staged, 0, "nothing stays half there");

    let stored = take(&manifest, &Told::default()).unwrap();
    assert_eq!(stored.len(), 2);
    assert_eq!(added.all(), its_own, "what was here before is somebody else's");
    assert!(library.open_content(Sha256Digest::of(ONE)).unwrap().is_some());
    assert!(library.open_content(Sha256Digest::of(THREE)).unwrap().is_none(), "it was not wanted");
}
