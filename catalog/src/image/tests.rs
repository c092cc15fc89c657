use std::io::Cursor;

use proptest::prelude::*;

use super::*;

/// A file of a header and a list, as a writer would lay it out.
fn file(list: &str, images: u32) -> Vec<u8> {
    let list: Vec<u8> =
        [0xff, 0xfe].into_iter().chain(list.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    let mut bytes = vec![0; HEADER_SIZE];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&208_u32.to_le_bytes());
    bytes[12..16].copy_from_slice(&0xe00_u32.to_le_bytes());
    bytes[16..20].copy_from_slice(&0x80002_u32.to_le_bytes());
    bytes[40..44].copy_from_slice(&[1, 0, 1, 0]);
    bytes[44..48].copy_from_slice(&images.to_le_bytes());
    bytes[72..80].copy_from_slice(&(list.len() as u64).to_le_bytes());
    bytes[80..88].copy_from_slice(&(HEADER_SIZE as u64).to_le_bytes());
    bytes[88..96].copy_from_slice(&(list.len() as u64).to_le_bytes());
    bytes.extend(list);
    bytes
}

const LIST: &str = "<WIM><TOTALBYTES>9</TOTALBYTES><IMAGE INDEX=\"2\"><NAME>Windows 11 專業版</NAME><WINDOWS><ARCH>9</ARCH>\
    <EDITIONID>Professional</EDITIONID><LANGUAGES><LANGUAGE>zh-TW</LANGUAGE><DEFAULT>zh-TW</DEFAULT></LANGUAGES>\
    <VERSION><MAJOR>10</MAJOR><MINOR>0</MINOR><BUILD>26200</BUILD><SPBUILD>8246</SPBUILD></VERSION></WINDOWS>\
    <TOTALBYTES>7</TOTALBYTES></IMAGE><IMAGE INDEX=\"1\"><NAME>Setup &amp; media</NAME></IMAGE></WIM>";

fn read(bytes: Vec<u8>) -> Result<ImageInfo, ImageError> {
    ImageInfo::read(&mut Cursor::new(bytes), &Limits::default())
}

#[test]
fn editions_and_indexes_are_read() {
    let info = read(file(LIST, 2)).unwrap();
    assert_eq!((info.version, info.compression, info.part), (0xe00, Compression::Lzms, (1, 1)));
    let [media, pro] = info.images.as_slice() else { panic!("two images") };
    assert_eq!((media.index, media.name.as_str(), media.architecture), (1, "Setup & media", None));
    assert_eq!(pro.name, "Windows 11 專業版");
    assert_eq!(pro.edition_id.as_deref(), Some("Professional"));
    assert_eq!(pro.version.unwrap().to_string(), "10.0.26200.8246");
    assert_eq!((pro.architecture, pro.total_bytes), (Some(crate::esd_catalog::Architecture::X64), Some(7)));
}

/// One changed field of the header.
fn with(at: usize, value: &[u8]) -> Vec<u8> {
    let mut bytes = file(LIST, 2);
    bytes[at..at + value.len()].copy_from_slice(value);
    bytes
}

#[test]
fn header_fields_are_checked() {
    for (what, at, value) in [
        ("magic of a pipable WIM", 0, b"WLPWM\0\0\0".as_slice()),
        ("another header size", 8, &[212]),
        ("an unknown version", 12, &[1]),
        ("two compressions", 16, &[2, 0, 0xc, 0]),
        ("no known compression", 16, &[2, 0, 0x20, 0]),
        ("part 0", 40, &[0]),
        ("part 2 of 1", 40, &[2]),
        ("a compressed list", 79, &[COMPRESSED]),
        ("a solid list", 79, &[SOLID]),
        ("another size unpacked", 88, &[1]),
        ("a list behind the end", 80, &[0xff; 8]),
        ("a boot index that is not there", 120, &[3]),
    ] {
        let error = read(with(at, value)).expect_err(what);
        assert!(matches!(error, ImageError::Header(_)), "{what}: {error}");
        assert_eq!(error.code(), Code::ImageMalformed, "{what}");
    }
    assert_eq!(read(with(120, &[2])).unwrap().boot_index, 2);
    assert_eq!(read(with(16, &[2, 0, 4, 0])).unwrap().compression, Compression::Lzx);
    assert_eq!(read(with(16, &[0, 0, 0, 0])).unwrap().compression, Compression::None);
}

#[test]
fn a_list_is_read_as_strictly_as_a_catalog() {
    for (what, list) in [
        ("document type", format!("<!DOCTYPE WIM [<!ENTITY a \"b\">]>{LIST}")),
        ("entity", LIST.replace("&amp;", "&boom;")),
        ("text after the end", format!("{LIST}x")),
        ("second root", format!("{LIST}<WIM/>")),
        ("an index twice", LIST.replace("INDEX=\"1\"", "INDEX=\"1\" INDEX=\"1\"")),
        ("no index", LIST.replace("INDEX=\"1\"", "")),
        ("one index for two", LIST.replace("INDEX=\"1\"", "INDEX=\"2\"")),
    ] {
        assert!(matches!(read(file(&list, 2)), Err(ImageError::Xml(_))), "{what}");
    }
    for small in [
        Limits { images: 1, ..Limits::default() },
        Limits { image_xml_bytes: 100, ..Limits::default() },
        Limits { xml_depth: 2, ..Limits::default() },
        Limits { xml_attributes: 0, ..Limits::default() },
        Limits { xml_text_bytes: 3, ..Limits::default() },
    ] {
        let read = ImageInfo::read(&mut Cursor::new(file(LIST, 2)), &small);
        assert!(matches!(read, Err(ImageError::TooLarge { .. })), "{small:?}");
    }
}

#[test]
fn empty_elements_and_encryption_are_seen() {
    assert!(read(file("<WIM/>", 0)).unwrap().images.is_empty());
    assert_eq!(read(file("<WIM><IMAGE INDEX=\"1\"/></WIM>", 1)).unwrap().images.len(), 1);
    assert!(!read(file(LIST, 2)).unwrap().encrypted);
    let encrypted = LIST.replace("<TOTALBYTES>9</TOTALBYTES>", "<ESD><ENCRYPTED/></ESD>");
    assert!(read(file(&encrypted, 2)).unwrap().encrypted);
}

#[test]
fn what_contradicts_itself_is_refused() {
    assert!(matches!(read(file(LIST, 3)), Err(ImageError::Xml(_))));
    assert!(matches!(read(file(&LIST.replace("INDEX=\"1\"", "INDEX=\"3\""), 2)), Err(ImageError::Xml(_))));
    assert!(matches!(read(file(&LIST.replace("</WIM>", ""), 2)), Err(ImageError::Xml(_))));
    assert!(matches!(read(file(&LIST.replace("WIM>", "MIW>"), 2)), Err(ImageError::Xml(_))));
    assert!(matches!(read(Vec::new()), Err(ImageError::Header(_))));
    let mut outside = file(LIST, 2);
    outside.pop();
    assert!(matches!(read(outside), Err(ImageError::Header(_))));
    let mut huge = file(LIST, 2);
    huge[72..79].fill(0xff);
    huge[88..96].copy_from_slice(&0x00ff_ffff_ffff_ffff_u64.to_le_bytes());
    assert!(matches!(read(huge), Err(ImageError::TooLarge { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn damage_never_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = file(LIST, 2);
        for (index, value) in changes {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        let _ = read(bytes);
    }
}
