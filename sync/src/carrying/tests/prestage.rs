use std::io::Read as _;

use super::*;
use crate::carrying::content::Kind;

/// Contents in memory, and how many are copied before one fails.
pub(in crate::carrying) struct Held {
    pub(in crate::carrying) contents: Vec<Vec<u8>>,
    pub(in crate::carrying) fails_after: Option<usize>,
}

impl Held {
    pub(in crate::carrying) fn of(contents: &[&[u8]]) -> Self {
        Self { contents: contents.iter().map(|bytes| bytes.to_vec()).collect(), fails_after: None }
    }
}

impl Source for Held {
    fn copy(&mut self, file: &CarriedFile, to: &mut dyn Write) -> Result<(), Problem> {
        match &mut self.fails_after {
            Some(0) => return Err(Problem::new(Code::ContentCorrupt, "planted")),
            Some(left) => *left -= 1,
            None => {}
        }
        let bytes = self.contents.iter().find(|bytes| Sha256Digest::of(bytes) == file.sha256);
        to.write_all(bytes.expect("it is held")).map_err(|error| Problem::of(Code::DiskError, &error))
    }
}

pub(in crate::carrying) fn item(id: &str, files: &[(&str, &[u8])]) -> Item {
    let file = |(name, bytes): &(&str, &[u8])| CarriedFile {
        name: name.parse().expect("a name"),
        sha256: Sha256Digest::of(bytes),
        size: bytes.len() as u64,
    };
    let files = files.iter().map(file).collect();
    Item { id: id.parse().expect("an id"), kind: Kind::Image, name: "Windows".to_owned(), version: 1, files }
}

pub(in crate::carrying) fn manifest(items: Vec<Item>) -> Manifest {
    let of = "XYZ00009".parse().expect("an id");
    Manifest { format: FORMAT, site: "XYZ".to_owned(), of, name: "Up".to_owned(), items }
}

const ONE: &[u8] = &[1; 700];
const TWO: &[u8] = b"two";

fn archive() -> (Manifest, Vec<u8>) {
    let items = vec![
        item("XYZ00001", &[("a.wim", ONE), ("b.exe", TWO)]),
        item("XYZ00002", &[("same.wim", ONE), ("no.txt", b"")]),
    ];
    let manifest = manifest(items);
    let mut bytes = Vec::new();
    let told = write(&mut bytes, &manifest, &mut Held::of(&[ONE, TWO, b""])).expect("it is written");
    assert_eq!(told, bytes.len() as u64);
    (manifest, bytes)
}

fn seen(bytes: &[u8]) -> Result<Vec<Vec<u8>>, Problem> {
    let (mut all, mut one) = (Vec::new(), Vec::new());
    read(&mut &*bytes, |_, piece| {
        match piece {
            Piece::Bytes(bytes) => one.extend_from_slice(bytes),
            Piece::End => all.push(std::mem::take(&mut one)),
        }
        Ok(())
    })?;
    Ok(all)
}

#[test]
fn what_is_written_reads_back_each_content_once() {
    let (manifest, bytes) = archive();
    assert_eq!(bytes, archive().1, "the same content gives the same file");
    assert_eq!(seen(&bytes).unwrap(), [ONE, TWO, b""]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.pkgx");
    std::fs::write(&file, &bytes).unwrap();
    assert_eq!(look_through(&file).unwrap(), manifest);
    assert_eq!(manifest.bytes(), 703);
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    assert!(look_through(&link).is_err(), "links are not followed");
    assert!(look_through(folder.path()).is_err());
    let fifo = folder.path().join("fifo");
    given::fifo(&fifo);
    assert!(look_through(&fifo).is_err(), "nobody waits for who writes into it");
}

/// Every cut and every lie about what comes is refused.
#[test]
fn hostile_prestaged_files_are_refused() {
    let (manifest, bytes) = archive();
    let refused = |bytes: &[u8]| seen(bytes).unwrap_err().code;
    for cut in (0..bytes.len()).step_by(61).chain([bytes.len() - 1]) {
        assert_eq!(refused(&bytes[..cut]), Code::PrestageMalformed, "cut at {cut}");
    }
    let made = |header: Vec<u8>, content: &[u8]| {
        let list = toml::to_string(&manifest).unwrap();
        let mut all = tar::header(LIST, list.len() as u64).to_vec();
        all.extend(list.as_bytes());
        all.extend(vec![0; tar::padding(list.len() as u64)]);
        all.extend(header);
        all.extend(content);
        all
    };
    let first = &manifest.items[0].files[0];
    let name = name_of(first);
    for (what, header) in [
        ("a path", tar::header("../../etc/passwd", 700).to_vec()),
        ("an absolute path", tar::header("/etc/passwd", 700).to_vec()),
        ("another content", tar::header(&format!("content/{}", Sha256Digest::of(TWO)), 700).to_vec()),
        ("a size that is too large", tar::header(&name, 701).to_vec()),
        ("a size without end", tar::header(&name, u64::MAX).to_vec()),
        ("an end that comes too early", vec![0; BLOCK]),
    ] {
        assert_eq!(refused(&made(header, ONE)), Code::PrestageMalformed, "{what}");
    }
    let with_list = |text: &str| {
        let mut all = tar::header(LIST, text.len() as u64).to_vec();
        all.extend(text.as_bytes());
        all.extend(vec![0; tar::padding(text.len() as u64)]);
        all
    };
    let good = toml::to_string(&manifest).unwrap();
    for (what, list) in [
        ("no list", "= nothing".to_owned()),
        ("another release", good.replacen("format = 1", "format = 2", 1)),
        ("a path as name", good.replacen("a.wim", "../a.wim", 1)),
        ("two sizes", good.replacen("size = 700", "size = 701", 1)),
        ("more than we know", format!("colour = \"red\"\n{good}")),
    ] {
        assert_eq!(refused(&with_list(&list)), Code::PrestageMalformed, "{what}");
    }
    let endless = tar::header(LIST, LARGEST_LIST + 1).to_vec();
    assert_eq!(refused(&endless), Code::PrestageMalformed, "a list without end");
    let mut longer = bytes.clone();
    longer.extend(tar::header("more", 0));
    assert_eq!(refused(&longer), Code::PrestageMalformed, "something behind the end");
    let mut padded = bytes.clone();
    padded.extend(vec![0; 8 * BLOCK]);
    assert!(seen(&padded).is_ok(), "as other programs pad");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.pkgx");
    let mut flipped = bytes;
    let at = flipped.windows(3).position(|part| part == TWO).unwrap();
    flipped[at] ^= 1;
    std::fs::write(&file, flipped).unwrap();
    assert_eq!(look_through(&file).unwrap_err().code, Code::HashMismatch);
}

/// What is made can be read: the limits of both are the same.
#[test]
fn a_file_that_no_reader_would_take_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let with = |count: usize, width: usize| {
        let file = |number: usize| CarriedFile {
            name: format!("{number:0>width$}").parse().unwrap(),
            sha256: Sha256Digest::of(ONE),
            size: 700,
        };
        manifest(vec![Item { files: (0..count).map(file).collect(), ..item("XYZ00001", &[]) }])
    };
    for (what, manifest) in [("files", with(MOST_FILES + 1, 1)), ("bytes", with(14_000, 200))] {
        let refused = whole(&folder.path().join("x.pkgx"), &manifest, &mut Held::of(&[ONE])).unwrap_err();
        assert_eq!(refused.code, Code::CarriedTooMuch, "{what}: {refused}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{what}");
    }
    assert!(with(MOST_FILES, 1).text().is_ok());
}

#[test]
fn contents_of_five_gibibytes_stream_through() {
    let size = 5_u64 << 30;
    let file = CarriedFile { name: "x.esd".parse().unwrap(), sha256: Sha256Digest([7; 32]), size };
    let big = manifest(vec![Item { files: vec![file.clone()], ..item("XYZ00001", &[]) }]);
    struct Nothing;
    impl Source for Nothing {
        fn copy(&mut self, _: &CarriedFile, _: &mut dyn Write) -> Result<(), Problem> {
            Ok(())
        }
    }
    let mut start = Vec::new();
    let told = write(&mut start, &big, &mut Nothing).unwrap();
    assert!(told > size);
    let end = start.split_off(start.len() - 2 * BLOCK);
    let mut from = start.as_slice().chain(std::io::repeat(0).take(size)).chain(end.as_slice());
    let mut bytes = 0;
    read(&mut from, |_, piece| {
        if let Piece::Bytes(part) = piece {
            bytes += part.len() as u64;
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(bytes, size);
}

#[test]
fn a_file_appears_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let (target, names) = (folder.path().join("x.pkgx"), || {
        let mut names: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    });
    let (manifest, bytes) = archive();
    for after in 0..3 {
        let mut source = Held { fails_after: Some(after), ..Held::of(&[ONE, TWO, b""]) };
        assert_eq!(whole(&target, &manifest, &mut source).unwrap_err().code, Code::ContentCorrupt);
        assert_eq!(names(), Vec::<String>::new(), "failed after {after}");
    }
    let dead = std::fs::File::create(folder.path().join(".x.pkgx.spsync-dead.part")).unwrap();
    // What is there for a moment only may be somebody's who has not locked it yet.
    dead.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(120)).unwrap();
    drop(dead);
    whole(&target, &manifest, &mut Held::of(&[ONE, TWO, b""])).unwrap();
    assert_eq!(names(), ["x.pkgx"]);
    assert_eq!(std::fs::read(&target).unwrap(), bytes);
    let again = whole(&target, &manifest, &mut Held::of(&[ONE, TWO, b""]));
    assert_eq!(again.unwrap_err().code, Code::TargetExists);
    assert_eq!(names(), ["x.pkgx"]);
}
