//! The archive of an export: a plain ZIP of small text files, all in one folder (APPNOTE.TXT 6.3.10, sections 4.3 and 4.4).
//!
//! What comes in may be hostile. Only what our own writer makes is read: names without any path, stored or deflated,
//! no links, no encryption, no ZIP64, every size capped before a byte is unpacked, and every byte under its checksum.

use std::io::{Read as _, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use catalog::id::FileName;
use catalog::problem::{Code, Problem};
use flate2::Crc;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use serde::{Deserialize, Serialize};

use crate::sequence::LARGEST;

/// The most bytes of an archive.
pub const LARGEST_ARCHIVE: u64 = 64 << 20;
/// The most files in it.
const MOST_FILES: usize = 500;
/// The most bytes of all files together, unpacked.
const LARGEST_UNPACKED: u64 = 64 << 20;

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END_SIZE: usize = 22;

/// An archive on its way in JSON: base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Archive(pub Vec<u8>);

impl TryFrom<String> for Archive {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        STANDARD.decode(text).map(Self).map_err(|_| "an archive is base64")
    }
}

impl From<Archive> for String {
    fn from(archive: Archive) -> Self {
        STANDARD.encode(archive.0)
    }
}

/// A file of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: FileName,
    /// Its text.
    pub bytes: Vec<u8>,
}

fn malformed(why: impl Into<String>) -> Problem {
    Problem::new(Code::ExportMalformed, "this is no export of task sequences that can be read").because(why)
}

/// Writes an archive. The same entries give the same bytes: no times are kept.
///
/// # Errors
/// `EXPORT_MALFORMED` for more than one can read again.
pub fn write(entries: &[Entry]) -> Result<Vec<u8>, Problem> {
    if entries.len() > MOST_FILES {
        return Err(malformed(format!("more than {MOST_FILES} files")));
    }
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let mut crc = Crc::new();
        crc.update(&entry.bytes);
        let mut encoder = DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        let packed = encoder.write_all(&entry.bytes).and_then(|()| encoder.finish());
        let packed = packed.map_err(|error| malformed(error.to_string()))?;
        let number = |size: usize| u32::try_from(size).map_err(|_| malformed("a file of 4 GiB"));
        let (offset, name) = (number(out.len())?, entry.name.as_str().as_bytes());
        let name_size = u16::try_from(name.len()).map_err(|_| malformed("a long name"))?;
        // Version 2.0, names in UTF-8, deflated, 1980-01-01.
        let mut shared = Vec::new();
        for part in [20_u16, 0x800, 8, 0, 0x21] {
            shared.extend(part.to_le_bytes());
        }
        for part in [crc.sum(), number(packed.len())?, number(entry.bytes.len())?] {
            shared.extend(part.to_le_bytes());
        }
        shared.extend(name_size.to_le_bytes());
        shared.extend(0_u16.to_le_bytes());
        out.extend(LOCAL.to_le_bytes());
        out.extend(&shared);
        out.extend(name);
        out.extend(&packed);
        directory.extend(CENTRAL.to_le_bytes());
        directory.extend((0x0300_u16 | 20).to_le_bytes()); // made on Unix
        directory.extend(&shared);
        directory.extend([0; 6]); // comment, disk, internal attributes
        directory.extend((0o100_644_u32 << 16).to_le_bytes());
        directory.extend(offset.to_le_bytes());
        directory.extend(name);
    }
    let (start, size) = (out.len() as u32, directory.len() as u32);
    let count = entries.len() as u16;
    out.extend(directory);
    out.extend(END.to_le_bytes());
    out.extend([0; 4]);
    out.extend(count.to_le_bytes());
    out.extend(count.to_le_bytes());
    out.extend(size.to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend(0_u16.to_le_bytes());
    Ok(out)
}

/// Reads an archive.
///
/// # Errors
/// `EXPORT_MALFORMED`; `TASK_SEQUENCE_TOO_LARGE` for a file of more than 2 MiB.
pub fn read(bytes: &[u8]) -> Result<Vec<Entry>, Problem> {
    let (count, mut at) = end(bytes)?;
    if count > MOST_FILES {
        return Err(malformed(format!("it has {count} files, at most {MOST_FILES} are read")));
    }
    let mut entries: Vec<Entry> = Vec::new();
    let mut room = LARGEST_UNPACKED;
    for _ in 0..count {
        let (entry, next) = one(bytes, at, &mut room)?;
        if entries.iter().any(|other| other.name.as_str().eq_ignore_ascii_case(entry.name.as_str())) {
            return Err(malformed(format!("two files are called `{}`", entry.name)));
        }
        entries.push(entry);
        at = next;
    }
    Ok(entries)
}

/// How many files there are, and where their directory begins.
fn end(bytes: &[u8]) -> Result<(usize, usize), Problem> {
    let longest_comment = usize::from(u16::MAX);
    let from = bytes.len().saturating_sub(END_SIZE + longest_comment);
    let last =
        bytes.len().checked_sub(END_SIZE).ok_or_else(|| malformed("it is too short for an archive"))?;
    let at = (from..=last)
        .rev()
        .find(|&at| u32_at(bytes, at) == Some(END))
        .ok_or_else(|| malformed("it is no ZIP archive, or was cut short"))?;
    let field = |offset| u16_at(bytes, at + offset).ok_or_else(|| malformed("it was cut short"));
    if field(4)? != 0 || field(8)? != field(10)? {
        return Err(malformed("it is a part of several"));
    }
    let start = u32_at(bytes, at + 16).ok_or_else(|| malformed("it was cut short"))?;
    if start == u32::MAX {
        return Err(malformed("it is a ZIP64 archive"));
    }
    Ok((usize::from(field(8)?), start as usize))
}

/// One file of the directory, unpacked, and where the next begins.
fn one(bytes: &[u8], at: usize, room: &mut u64) -> Result<(Entry, usize), Problem> {
    let cut = || malformed("its directory was cut short");
    let short = |offset| u16_at(bytes, at + offset).ok_or_else(cut);
    let long = |offset| u32_at(bytes, at + offset).ok_or_else(cut);
    if long(0)? != CENTRAL {
        return Err(malformed("its directory is damaged"));
    }
    let (flags, method) = (short(8)?, short(10)?);
    let (crc, packed, unpacked) = (long(16)?, long(20)? as usize, u64::from(long(24)?));
    let (name_size, extra, comment) = (short(28)?, short(30)?, short(32)?);
    let (mode, local) = (long(38)? >> 16, long(42)? as usize);
    let name = bytes.get(at + 46..at + 46 + usize::from(name_size)).ok_or_else(cut)?;
    // No folder, no `..`, no drive, no device: the name is one plain component or the archive is refused.
    let name: FileName = std::str::from_utf8(name)
        .ok()
        .and_then(|name| name.parse().ok())
        .ok_or_else(|| malformed("a file in it has a name that is no plain name"))?;
    if !matches!(mode & 0o170_000, 0 | 0o100_000) {
        return Err(malformed(format!("`{name}` is a link or something else that is no file")));
    }
    if flags & 1 != 0 {
        return Err(malformed(format!("`{name}` is encrypted")));
    }
    if unpacked > LARGEST as u64 {
        let message = format!("`{name}` has {unpacked} bytes, at most {LARGEST} are allowed");
        return Err(Problem::new(Code::TaskSequenceTooLarge, message));
    }
    *room = room.checked_sub(unpacked).ok_or_else(|| malformed("its files are too large together"))?;
    if u32_at(bytes, local) != Some(LOCAL) {
        return Err(malformed(format!("`{name}` is not where the directory says")));
    }
    let skip = |offset| u16_at(bytes, local + offset).map(usize::from).ok_or_else(cut);
    let start = local + 30 + skip(26)? + skip(28)?;
    let data = start
        .checked_add(packed)
        .and_then(|end| bytes.get(start..end))
        .ok_or_else(|| malformed(format!("`{name}` was cut short")))?;
    let content = match method {
        0 => data.to_vec(),
        8 => unpack(data, unpacked).map_err(|_| malformed(format!("`{name}` is damaged")))?,
        _ => return Err(malformed(format!("`{name}` is packed in a way that is not read"))),
    };
    let mut sum = Crc::new();
    sum.update(&content);
    if content.len() as u64 != unpacked || sum.sum() != crc {
        return Err(malformed(format!("`{name}` is not what its checksum says")));
    }
    let next = at + 46 + usize::from(name_size) + usize::from(extra) + usize::from(comment);
    Ok((Entry { name, bytes: content }, next))
}

/// Unpacks one byte more than promised at most: a bomb shows itself by that byte.
fn unpack(data: &[u8], promised: u64) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    DeflateDecoder::new(data).take(promised + 1).read_to_end(&mut out)?;
    Ok(out)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes([two[0], two[1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(name: &str, text: &str) -> Entry {
        Entry { name: name.parse().unwrap(), bytes: text.as_bytes().to_vec() }
    }

    fn refused(bytes: &[u8]) -> Code {
        read(bytes).unwrap_err().code
    }

    /// The archive of two files with one place of its directory changed.
    fn forged(offset: usize, with: &[u8]) -> Vec<u8> {
        let mut bytes = write(&[entry("export.toml", "format = 1"), entry("b.toml", "x")]).unwrap();
        let (_, at) = end(&bytes).unwrap();
        bytes[at + offset..at + offset + with.len()].copy_from_slice(with);
        bytes
    }

    #[test]
    fn hostile_archives_are_refused() {
        assert!(read(&forged(0, &CENTRAL.to_le_bytes())).is_ok());
        for (what, bytes) in [
            ("no directory", forged(0, &[0; 4])),
            ("encrypted", forged(8, &[1, 0])),
            ("bzip2", forged(10, &[12, 0])),
            ("checksum", forged(16, &[0; 4])),
            ("a bomb: more than promised", forged(24, &[3, 0, 0, 0])),
            ("a symbolic link", forged(38, &(0o120_777_u32 << 16).to_le_bytes())),
            ("a folder", forged(38, &(0o040_755_u32 << 16).to_le_bytes())),
            ("another place", forged(42, &[9, 9, 0, 0])),
            ("a path", forged(46, b"../port.tom")),
            ("an absolute path", forged(46, b"/etc/passwd")),
            ("a drive", forged(46, b"c:port.toml")),
            ("a backslash", forged(46, b"..\\port.tom")),
            ("a nul", forged(46, b"export\0toml")),
        ] {
            assert_eq!(refused(&bytes), Code::ExportMalformed, "{what}");
        }
        assert_eq!(refused(&forged(24, &(3_u32 << 20).to_le_bytes())), Code::TaskSequenceTooLarge);
        let twice = write(&[entry("a.toml", "1"), entry("A.toml", "2")]).unwrap();
        assert_eq!(refused(&twice), Code::ExportMalformed, "one name twice");
        let whole = write(&[entry("a.toml", "1")]).unwrap();
        for cut in 0..whole.len() {
            assert!(read(&whole[..cut]).is_err(), "cut at {cut}");
        }
        let mut many = whole.clone();
        let at = many.len() - END_SIZE;
        many[at + 8..at + 12].copy_from_slice(&[0xff; 4]);
        assert_eq!(refused(&many), Code::ExportMalformed, "65535 files");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(texts in proptest::collection::vec("(?s).{0,300}", 0..6)) {
            let entries: Vec<Entry> =
                texts.iter().enumerate().map(|(i, text)| entry(&format!("{i}.toml"), text)).collect();
            prop_assert_eq!(read(&write(&entries).unwrap()).unwrap(), entries);
        }

        #[test]
        fn anything_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400), at in 0_usize..120, with: u8) {
            let _ = read(&bytes);
            let mut damaged = write(&[entry("a.toml", "some text")]).unwrap();
            let at = at % damaged.len();
            damaged[at] = with;
            let _ = read(&damaged);
        }
    }
}
