use super::*;
use crate::carrying::content::CarriedFile;
use crate::carrying::prestage::tests::{Held, item};
use crate::carrying::verify;

const WIM: &[u8] = &[7; 3_000];
const EXE: &[u8] = b"MZ";

fn plan(folder: &Path) -> Plan {
    let medium = Medium {
        format: FORMAT,
        site: "XYZ".to_owned(),
        sequence: "XYZ00003".parse().expect("an id"),
        name: "Up".to_owned(),
        label: "XYZ00003".to_owned(),
        made: Timestamp::UNIX_EPOCH,
        secret_removed: vec![2],
        items: vec![item("XYZ00001", &[("install.wim", WIM)]), item("XYZ00002", &[("setup.exe", EXE)])],
    };
    made(folder, medium).expect("it can be read back")
}

fn made(folder: &Path, medium: Medium) -> Result<Plan, Problem> {
    let policy = Policy {
        format: POLICY_FORMAT,
        version: "media".to_owned(),
        site: "XYZ".parse().expect("a code"),
        device: "media".to_owned(),
        made: Timestamp::UNIX_EPOCH,
        refresh_seconds: 3_600,
        expires: None,
        settings: DeviceSettings::default(),
        windows: Vec::new(),
        updates: Vec::new(),
        assignments: Vec::new(),
    };
    let policy = serde_json::to_vec(&policy).expect("it has a JSON form");
    Plan::new(folder.to_owned(), medium, "format = 1\n".to_owned(), policy)
}

fn held() -> Held {
    Held::of(&[WIM, EXE])
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn labels_and_file_systems_have_limits() {
    let large = |size| {
        let file = CarriedFile { name: "x.wim".parse().unwrap(), sha256: Sha256Digest([1; 32]), size };
        vec![Item { files: vec![file], ..item("XYZ00001", &[]) }]
    };
    for (size, label, fat, expected) in [
        (u64::from(u32::MAX), "UPGRADE", true, None),
        (u64::from(u32::MAX) + 1, "UPGRADE", true, Some(Code::MediaFileTooLarge)),
        (u64::from(u32::MAX) + 1, "UPGRADE", false, None),
        (1, "TWELVE_CHARS", true, Some(Code::InvalidOption)),
        (1, "TWELVE_CHARS", false, None),
        (1, "", true, Some(Code::InvalidOption)),
        (1, "a/b", false, Some(Code::InvalidOption)),
        (1, &"x".repeat(33), false, Some(Code::InvalidOption)),
    ] {
        let found = fits(&large(size), label, fat).err().map(|problem| problem.code);
        assert_eq!(found, expected, "{size} {label} {fat}");
    }
}

/// What is made can be read: the limits of both are the same.
#[test]
fn media_that_no_reader_would_take_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let with = |names: &mut dyn Iterator<Item = String>| {
        let file = |name: String| CarriedFile {
            name: name.parse().unwrap(),
            sha256: Sha256Digest([1; 32]),
            size: 1,
        };
        let files = names.map(file).collect();
        let medium =
            Medium { items: vec![Item { files, ..item("XYZ00001", &[]) }], ..plan(folder.path()).medium };
        made(folder.path(), medium).map(|plan| plan.beside).map_err(|problem| problem.code)
    };
    let many = |count: usize| with(&mut (0..count).map(|number| format!("{number}")));
    assert_eq!(many(crate::carrying::MOST_FILES - 3).unwrap().len(), 4);
    assert_eq!(
        many(crate::carrying::MOST_FILES - 2).unwrap_err(),
        Code::CarriedTooMuch,
        "three are beside them"
    );
    let long = with(&mut (0..14_000).map(|number| format!("{number:0>200}")));
    assert_eq!(long.unwrap_err(), Code::CarriedTooMuch);
    let alike = with(&mut ["Ä.exe", "ä.exe"].into_iter().map(str::to_owned));
    assert_eq!(alike.unwrap_err(), Code::MediaDamaged, "FAT has one of them");
    assert_eq!(names(folder.path()), Vec::<String>::new());
}

#[test]
fn what_has_no_room_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(enough_room(folder.path(), u64::MAX).unwrap_err().code, Code::DiskFull);
    assert!(enough_room(folder.path(), 0).is_ok());
    assert_eq!(standing(&folder.path().join("a/b")), folder.path());
}

/// Mission row M46.
#[test]
fn media_osup_ok() {
    let staging = tempfile::tempdir().unwrap();
    let plan = plan(staging.path());
    build(&plan, &mut held()).unwrap();
    assert_eq!(names(staging.path()), [LOG, "XYZ00003"]);
    assert_eq!(names(&plan.target), [SUMS, "content", MEDIA_TOML, POLICY, SEQUENCE]);
    let log = std::fs::read_to_string(staging.path().join(LOG)).unwrap();
    assert!(log.ends_with("CreateMedia.exe finished with error code 0\n"), "{log}");
    let verified = verify(&plan.target).unwrap();
    assert_eq!((verified.files, verified.bad.len(), verified.unexpected.len()), (5, 0, 0), "{verified:?}");
    assert!(verified.problem().is_none());
    let again = build(&plan, &mut held()).unwrap_err();
    assert_eq!(again.code, Code::TargetExists);
    assert_eq!(names(staging.path()), [LOG, "XYZ00003"]);
}

/// Whatever fails, the log says it and nothing else stays; and whenever the process dies, what stays does not look finished
/// and is cleared by the next creation.
#[test]
fn no_half_made_media_is_left() {
    for after in 0..2 {
        let staging = tempfile::tempdir().unwrap();
        let plan = plan(staging.path());
        let mut source = Held { fails_after: Some(after), ..held() };
        assert_eq!(build(&plan, &mut source).unwrap_err().code, Code::ContentCorrupt);
        assert_eq!(names(staging.path()), [LOG]);
        let log = std::fs::read_to_string(staging.path().join(LOG)).unwrap();
        assert!(log.contains("CONTENT_CORRUPT") && log.contains("is fully cleared"), "{log}");

        // Dead at this copy: nobody clears.
        let mut open = Staging::open(staging.path()).unwrap();
        let temporary = open.temporary().unwrap();
        let mut source = Held { fails_after: Some(after), ..held() };
        fill(&plan, &temporary, &mut source, &mut open).unwrap_err();
        drop(open);
        assert_eq!(verify(&temporary).unwrap_err().code, Code::MediaDamaged);
        build(&plan, &mut held()).unwrap();
        assert_eq!(names(staging.path()), [LOG, "XYZ00003"]);
    }
}

#[test]
fn damage_is_found_wherever_it_is() {
    let staging = tempfile::tempdir().unwrap();
    let plan = plan(staging.path());
    build(&plan, &mut held()).unwrap();
    let at = |name: &str| plan.target.join(name);
    let bad = || verify(&plan.target).unwrap().bad;
    let whole = std::fs::read(at("content/XYZ00001/install.wim")).unwrap();
    let mut flipped = whole.clone();
    flipped[17] ^= 1;
    std::fs::write(at("content/XYZ00001/install.wim"), flipped).unwrap();
    assert!(bad()[0].starts_with("content/XYZ00001/install.wim: expected"), "{:?}", bad());
    std::fs::remove_file(at("content/XYZ00001/install.wim")).unwrap();
    assert_eq!(bad().len(), 1);
    std::fs::write(staging.path().join("elsewhere"), &whole).unwrap();
    std::os::unix::fs::symlink(staging.path().join("elsewhere"), at("content/XYZ00001/install.wim")).unwrap();
    assert_eq!(bad().len(), 1, "links are not followed");
    std::fs::remove_file(at("content/XYZ00001/install.wim")).unwrap();
    std::fs::write(at("content/XYZ00001/install.wim"), &whole).unwrap();
    std::fs::write(at("content/more.txt"), "x").unwrap();
    let verified = verify(&plan.target).unwrap();
    assert_eq!(
        (verified.bad.len(), verified.unexpected.as_slice()),
        (0, &["content/more.txt".to_owned()][..])
    );
    std::fs::write(at(POLICY), "{ }").unwrap();
    assert_eq!(verify(&plan.target).unwrap().problem().unwrap().code, Code::MediaDamaged);

    let sums = std::fs::read_to_string(at(SUMS)).unwrap();
    let digest = "0".repeat(64);
    for (what, hostile) in [
        ("a path", format!("{digest}  ../../etc/passwd\n")),
        ("an absolute path", format!("{digest}  /etc/passwd\n")),
        ("a deep path", format!("{digest}  a/b/c/d\n")),
        ("no digest", "x  media.toml\n".to_owned()),
        ("twice", sums.clone() + &sums),
    ] {
        std::fs::write(at(SUMS), hostile).unwrap();
        assert_eq!(verify(&plan.target).unwrap_err().code, Code::MediaDamaged, "{what}");
    }
    let only = sums.lines().filter(|line| !line.contains("setup.exe")).collect::<Vec<_>>().join("\n");
    std::fs::write(at(SUMS), only).unwrap();
    let verified = verify(&plan.target).unwrap();
    assert!(verified.bad.iter().any(|why| why.contains("setup.exe")), "{verified:?}");
}
