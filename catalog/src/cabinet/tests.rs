use std::io::Write as _;

use cab::{CabinetBuilder, CompressionType};
use proptest::prelude::*;

use super::*;

#[path = "../../tests/formats/support/lzx.rs"]
mod lzx;

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

/// Words, and runs that cross the borders of blocks.
fn text(len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| if i % 5_000 < 700 { b'=' } else { b"the quick brown fox "[(i * i / 7 + i) % 20] })
        .collect()
}

const SAMPLES: usize = 3;

/// The same three files, stored, as MSZIP and as LZX.
fn sample(method: usize) -> Vec<u8> {
    let files = [("a.xml", text(100_000)), ("b", Vec::new()), ("c.txt", text(777))];
    match method {
        0 => made(CompressionType::None, &files),
        1 => made(CompressionType::MsZip, &files),
        _ => lzx::cabinet(&files.each_ref().map(|(name, bytes)| (*name, bytes.as_slice()))),
    }
}

fn parse(bytes: &[u8]) -> Result<Cabinet<'_>, CabinetError> {
    Cabinet::parse(bytes, &Limits::default())
}

/// Zero means "not computed", so that damage reaches the decoders.
fn without_checksums(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut at = u32::from_le_bytes(bytes[36..40].try_into().unwrap()) as usize;
    for _ in 0..u16::from_le_bytes([bytes[40], bytes[41]]) {
        bytes[at..at + 4].fill(0);
        at += 8 + usize::from(u16::from_le_bytes([bytes[at + 4], bytes[at + 5]]));
    }
    bytes
}

#[test]
fn what_was_packed_comes_out() {
    for bytes in (0..SAMPLES).map(sample) {
        let cabinet = parse(&bytes).unwrap();
        let names: Vec<_> = cabinet.files().iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["a.xml", "b", "c.txt"]);
        assert_eq!(cabinet.read(&cabinet.files()[0]).unwrap(), text(100_000));
        assert_eq!(cabinet.read(&cabinet.files()[1]).unwrap(), b"");
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
    for bytes in (1..SAMPLES).map(sample) {
        for small in [
            Limits { unpacked_bytes: 99_999, ..Limits::default() },
            Limits { cabinet_files: 2, ..Limits::default() },
            Limits { document_bytes: 100, ..Limits::default() },
        ] {
            assert_eq!(Cabinet::parse(&bytes, &small).unwrap_err().code(), Code::CatalogTooLarge);
        }
        for cut in 0..bytes.len() {
            assert!(parse(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}

#[test]
fn a_signature_after_the_end_is_no_part_of_the_cabinet() {
    let mut bytes = sample(1);
    let end = bytes.len();
    bytes.extend_from_slice(b"a signature, or whatever");
    assert_eq!(parse(&bytes).unwrap().files().len(), 3);
    // Without the byte that it needs, the last block would have to borrow from what follows.
    bytes[8..12].copy_from_slice(&(end as u32 - 1).to_le_bytes());
    assert!(matches!(parse(&bytes), Err(CabinetError::Malformed { .. })));
}

#[test]
fn what_is_not_read_says_so() {
    let folder_type = |low: u8, high: u8| {
        let mut bytes = sample(2);
        bytes[42..44].copy_from_slice(&[low, high]);
        bytes
    };
    for (low, high, method) in
        [(2, 0x12, "Quantum"), (9, 0, "an unknown method"), (3, 22, "LZX of an impossible window")]
    {
        let bytes = folder_type(low, high);
        let cabinet = parse(&bytes).unwrap();
        let error = cabinet.read(&cabinet.files()[0]).unwrap_err();
        assert_eq!(
            (error.code(), &error),
            (Code::CabUnsupported, &CabinetError::Unsupported { folder: 0, method })
        );
    }
    for flag in [1, 2] {
        let mut bytes = sample(0);
        bytes[30] = flag;
        assert_eq!(parse(&bytes).unwrap_err().code(), Code::CabSpanned);
    }
    // A file that begins in, ends in or spans other cabinets of a set (section 2.3, iFolder).
    for folder in [0xFFFD_u16, 0xFFFE, 0xFFFF] {
        let mut bytes = sample(0);
        bytes[44 + 8..44 + 10].copy_from_slice(&folder.to_le_bytes());
        assert_eq!(parse(&bytes).unwrap_err().code(), Code::CabSpanned);
    }
}

#[test]
fn contradictions_are_refused_with_their_place() {
    let changed = |at: usize, bytes: &[u8]| {
        let mut cabinet = sample(2);
        cabinet[at..at + bytes.len()].copy_from_slice(bytes);
        parse(&cabinet).unwrap_err().to_string()
    };
    assert_eq!(changed(0, b"PK"), "malformed cabinet at byte 0: it does not begin with MSCF");
    assert_eq!(changed(24, &[4]), "malformed cabinet at byte 24: its version is not 1.3");
    assert_eq!(changed(26, &[0]), "malformed cabinet at byte 26: it has no folders or no files");
    // The panic of another reader: files, but a folder without data blocks.
    assert!(changed(40, &[0, 0]).ends_with("a folder has fewer data blocks than its files need"));
    assert_eq!(
        changed(44 + 8, &[1]),
        "malformed cabinet at byte 44: a file names a folder that is not there"
    );
    assert!(changed(44 + 3, &[0x7f]).contains("unpacked bytes"), "a promise of 2 GiB");
}

/// 65,533 folders (the most whose numbers are not reserved), each with one file of one byte; `data_offset` says where the blocks of each are.
fn many_folders(blocks: u16, block: &[u8], data_offset: impl Fn(u32, u32) -> u32) -> Vec<u8> {
    const COUNT: u32 = 65_533;
    let data = 36 + COUNT * 8 + COUNT * 18;
    let mut bytes = b"MSCF\0\0\0\0____\0\0\0\0".to_vec();
    bytes.extend_from_slice(&(36 + COUNT * 8).to_le_bytes());
    bytes.extend_from_slice(&[0, 0, 0, 0, 3, 1, 0xfd, 0xff, 0xfd, 0xff, 0, 0, 0, 0, 0, 0]);
    for folder in 0..COUNT {
        bytes.extend_from_slice(&data_offset(data, folder).to_le_bytes());
        bytes.extend_from_slice(&blocks.to_le_bytes());
        bytes.extend_from_slice(&[0, 0]);
    }
    for folder in 0..COUNT as u16 {
        bytes.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(&folder.to_le_bytes());
        bytes.extend_from_slice(b"\0\0\0\0\0\0a\0");
    }
    for _ in 0..COUNT {
        bytes.extend_from_slice(block);
    }
    let length = bytes.len() as u32;
    bytes[8..12].copy_from_slice(&length.to_le_bytes());
    bytes
}

#[test]
fn work_grows_with_the_bytes_and_not_with_the_folders() {
    let block = b"\0\0\0\0\x01\0\x01\0x";
    let honest = many_folders(1, block, |data, folder| data + folder * block.len() as u32);
    let mut seen = 0;
    let each = |_: &CabinetFile, bytes: &[u8]| {
        seen += usize::from(bytes == b"x");
        Ok::<_, CabinetError>(())
    };
    parse(&honest).unwrap().for_each(each).unwrap();
    assert_eq!(seen, 65_533);
    // The same blocks for all: four thousand million to walk.
    let error = parse(&many_folders(65_533, block, |data, _| data)).unwrap_err();
    assert!(error.to_string().ends_with("its folders share data blocks"), "{error}");
}

#[test]
fn a_checksum_is_checked_where_there_is_one() {
    for method in 0..2 {
        let mut bytes = sample(method);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let cabinet = parse(&bytes).unwrap();
        let error = cabinet.read(&cabinet.files()[2]).unwrap_err();
        assert!(error.to_string().ends_with("its checksum is wrong"), "{error}");
        assert_eq!(error.code(), Code::CabMalformed);
    }
}

#[test]
fn a_match_before_the_beginning_ends_nothing_but_its_cabinet() {
    // An uncompressed block sets the recent offsets to 4 GiB, then a verbatim block copies from there: lzxd's
    // arithmetic overflows, which is a panic wherever overflow is checked.
    let mut bits = lzx::Bits::default();
    bits.put(0, 1);
    bits.put(3, 3);
    bits.put(2, 24);
    let mut frame = bits.finish();
    frame.extend_from_slice(&[0xff; 12]);
    frame.extend_from_slice(b"ab");
    let mut bits = lzx::Bits::default();
    bits.put(1, 3);
    bits.put(8, 24);
    let mut lengths = [0; 256 + 8 * lzx::SLOTS];
    lengths[..256].fill(9);
    lengths[256 + 6] = 1; // position slot 0: the most recent offset; length 8
    bits.path_lengths(&[0; 256], &lengths[..256]);
    bits.path_lengths(&[0; 8 * lzx::SLOTS], &lengths[256..]);
    bits.path_lengths(&[0; 249], &[0; 249]);
    bits.put(0, 1);
    frame.extend_from_slice(&bits.finish());
    let bytes = lzx::cabinet_of(&[("a", &[0; 10])], vec![(frame, 10)]);
    let cabinet = parse(&bytes).unwrap();
    match cabinet.read(&cabinet.files()[0]) {
        Ok(out) => assert!(out.starts_with(b"ab") && out.len() == 10, "garbage in, as much garbage out"),
        Err(error) => assert_eq!(error.code(), Code::CabMalformed),
    }
}

#[test]
fn three_thousand_files_in_one_folder_are_decoded_once() {
    let names: Vec<String> = (0..3_000).map(|i| format!("f{i}")).collect();
    let files: Vec<(&str, Vec<u8>)> = names.iter().map(|name| (name.as_str(), text(2_000))).collect();
    let bytes = made(CompressionType::MsZip, &files);
    let cabinet = parse(&bytes).unwrap();
    let mut total = 0;
    cabinet
        .for_each(|_, bytes| {
            total += bytes.len();
            Ok::<_, CabinetError>(())
        })
        .unwrap();
    assert_eq!(total, 6_000_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    /// Any damage ends in a value or a clear error, never in a panic, and never in another length than declared.
    #[test]
    fn damage_never_panics(
        method in 0..SAMPLES,
        checksums: bool,
        near_the_start: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let mut bytes = sample(method);
        if !checksums {
            bytes = without_checksums(bytes);
        }
        for (index, value) in changes {
            let at = index.index(if near_the_start { 500 } else { bytes.len() });
            bytes[at] = value;
        }
        if let Ok(cabinet) = parse(&bytes) {
            for file in cabinet.files() {
                if let Ok(out) = cabinet.read(file) {
                    prop_assert_eq!(out.len(), file.size as usize);
                }
            }
        }
    }
}
