use std::io::Write as _;

use cab::{CabinetBuilder, CompressionType};
use proptest::prelude::*;

use super::*;

fn made(method: CompressionType, files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut builder = CabinetBuilder::new();
    let folder = builder.add_folder(method);
    for (name, _) in files {
        folder.add_file(*name);
    }
    let mut writer = builder.build(std::io::Cursor::new(Vec::new())).unwrap();
    let mut next = files.iter();
    while let Some(mut file) = writer.next_file().unwrap() {
        file.write_all(&next.next().unwrap().1).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|i| b"the quick brown fox "[(i * i / 7 + i) % 20]).collect()
}

fn samples() -> Vec<Vec<u8>> {
    [CompressionType::None, CompressionType::MsZip]
        .into_iter()
        .map(|method| made(method, &[("a.xml", text(100_000)), ("b", Vec::new()), ("c.txt", text(777))]))
        .collect()
}

#[test]
fn what_was_packed_comes_out() {
    for bytes in samples() {
        let cabinet = Cabinet::parse(&bytes, &Limits::default()).unwrap();
        let names: Vec<_> = cabinet.files().iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["a.xml", "b", "c.txt"]);
        assert_eq!(cabinet.read(&cabinet.files()[0]).unwrap(), text(100_000));
        assert_eq!(cabinet.read(&cabinet.files()[2]).unwrap(), text(777));
        let mut seen = 0;
        cabinet
            .for_each(|file, bytes| {
                assert_eq!(bytes.len(), file.size as usize);
                seen += 1;
                Ok::<_, CabinetError>(())
            })
            .unwrap();
        assert_eq!(seen, 3);
    }
}

#[test]
fn limits_are_kept_and_truncation_is_seen() {
    let bytes = samples().remove(1);
    let small = Limits { unpacked_bytes: 99_999, ..Limits::default() };
    assert!(matches!(Cabinet::parse(&bytes, &small), Err(CabinetError::TooLarge { .. })));
    for cut in 0..bytes.len() {
        assert!(Cabinet::parse(&bytes[..cut], &Limits::default()).is_err(), "cut at {cut}");
    }
}

#[test]
fn three_thousand_files_in_one_folder_are_decoded_once() {
    let names: Vec<String> = (0..3_000).map(|i| format!("f{i}")).collect();
    let files: Vec<(&str, Vec<u8>)> = names.iter().map(|name| (name.as_str(), text(2_000))).collect();
    let bytes = made(CompressionType::MsZip, &files);
    let cabinet = Cabinet::parse(&bytes, &Limits::default()).unwrap();
    let mut total = 0;
    cabinet.for_each(|_, bytes| { total += bytes.len(); Ok::<_, CabinetError>(()) }).unwrap();
    assert_eq!(total, 6_000_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// Any damage ends in a value or a clear error, never in a panic, and never in more bytes than the limit.
    #[test]
    fn damage_never_panics(which in 0..2_usize, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12)) {
        let mut bytes = samples().remove(which);
        for (index, value) in changes {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(cabinet) = Cabinet::parse(&bytes, &Limits::default()) {
            for file in cabinet.files() {
                if let Ok(out) = cabinet.read(file) {
                    prop_assert_eq!(out.len(), file.size as usize);
                }
            }
        }
    }
}
