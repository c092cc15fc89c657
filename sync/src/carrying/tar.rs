//! The form of a prestaged file: a tape archive (POSIX.1-2017, `pax`, "ustar Interchange Format"), so that any `tar` lists it.
//! Nothing in it is packed: content is packed already, and what is not packed is no bomb.
//!
//! Only what our own writer makes is read: plain files, their sizes in octal or, from 8 GiB on, in base 256.

/// Everything in an archive is padded to this.
pub const BLOCK: usize = 512;

const NAME: std::ops::Range<usize> = 0..100;
const SIZE: std::ops::Range<usize> = 124..136;
const SUM: std::ops::Range<usize> = 148..156;
const KIND: usize = 156;
const LINK: std::ops::Range<usize> = 157..257;
const MAGIC: std::ops::Range<usize> = 257..263;
const PREFIX: std::ops::Range<usize> = 345..500;
/// The first size that eleven octal digits do not hold.
const BEYOND_OCTAL: u64 = 1 << 33;

/// One file of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub size: u64,
}

/// Bytes from the end of a file to the next header.
pub fn padding(size: u64) -> usize {
    (BLOCK - (size % BLOCK as u64) as usize) % BLOCK
}

/// Bytes that a file takes in an archive.
pub fn room(size: u64) -> u64 {
    size.saturating_add(BLOCK as u64 + padding(size) as u64)
}

/// The header of a file. Without times and owners: the same content gives the same archive.
pub fn header(name: &str, size: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |range: std::ops::Range<usize>, bytes: &[u8]| {
        block[range.start..range.start + bytes.len()].copy_from_slice(bytes)
    };
    let name = &name.as_bytes()[..name.len().min(NAME.len())];
    put(NAME, name);
    put(100..108, b"0000644\0");
    put(108..116, b"0000000\0");
    put(116..124, b"0000000\0");
    put(136..148, b"00000000000\0");
    put(MAGIC, b"ustar\0");
    put(263..265, b"00");
    put(KIND..KIND + 1, b"0");
    if size < BEYOND_OCTAL {
        put(SIZE, format!("{size:011o}\0").as_bytes());
    } else {
        put(SIZE.start + 4..SIZE.end, &size.to_be_bytes());
        put(SIZE.start..SIZE.start + 1, &[0x80]);
    }
    let sum = format!("{:06o}\0 ", sum(&block));
    block[SUM].copy_from_slice(sum.as_bytes());
    block
}

/// Reads a header; `None` for the block of zeros that ends an archive.
///
/// # Errors
/// Why it is none of ours.
pub fn read_header(block: &[u8; BLOCK]) -> Result<Option<Header>, &'static str> {
    if block.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    if &block[MAGIC] != b"ustar\0" {
        return Err("it is no archive, or another program made it");
    }
    if octal(&block[SUM]) != Some(u64::from(sum(block))) {
        return Err("a header in it is damaged");
    }
    if !matches!(block[KIND], 0 | b'0') || block[LINK].iter().any(|byte| *byte != 0) {
        return Err("it holds a link or something else that is no file");
    }
    if block[PREFIX].iter().any(|byte| *byte != 0) {
        return Err("it holds a file with a path");
    }
    let name = &block[NAME];
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    let name = std::str::from_utf8(&name[..end]).map_err(|_| "a name in it is no text")?;
    let size = match block[SIZE.start] {
        0x80 if block[SIZE.start + 1..SIZE.start + 4] == [0; 3] => {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&block[SIZE.start + 4..SIZE.end]);
            Some(u64::from_be_bytes(bytes))
        }
        _ => octal(&block[SIZE]),
    };
    let size = size.ok_or("a size in it is no size")?;
    Ok(Some(Header { name: name.to_owned(), size }))
}

/// The sum of all bytes, with blanks where the sum itself stands.
fn sum(block: &[u8; BLOCK]) -> u32 {
    let byte = |(at, byte): (usize, &u8)| if SUM.contains(&at) { u32::from(b' ') } else { u32::from(*byte) };
    block.iter().enumerate().map(byte).sum()
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    let digits = text.trim_matches(['\0', ' ']);
    if digits.is_empty() || !digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte)) {
        return None;
    }
    u64::from_str_radix(digits, 8).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_beyond_eight_gibibytes_are_kept() {
        for size in [0, 1, 511, 512, BEYOND_OCTAL - 1, BEYOND_OCTAL, 5 << 40, u64::MAX] {
            let read = read_header(&header("content/x", size)).unwrap().unwrap();
            assert_eq!((read.name.as_str(), read.size), ("content/x", size));
            assert_eq!((size % 512 + padding(size) as u64) % 512, 0);
        }
        assert_eq!(read_header(&[0; BLOCK]), Ok(None));
        assert_eq!(room(u64::MAX), u64::MAX);
    }

    #[test]
    fn what_is_no_plain_file_is_refused() {
        let forged = |at: usize, with: &[u8]| {
            let mut block = header("content/x", 5);
            block[at..at + with.len()].copy_from_slice(with);
            let sum = format!("{:06o}\0 ", sum(&block));
            block[SUM].copy_from_slice(sum.as_bytes());
            read_header(&block)
        };
        for (what, at, with) in [
            ("a symbolic link", KIND, &b"2"[..]),
            ("a hard link", KIND, b"1"),
            ("a folder", KIND, b"5"),
            ("an extended header", KIND, b"x"),
            ("a link's target", LINK.start, b"/etc/passwd"),
            ("a path before the name", PREFIX.start, b"../.."),
            ("a size that is no number", SIZE.start, b"-0000000001\0"),
            ("a size beyond 64 bits", SIZE.start, b"\x80\0\x01"),
            ("another magic", MAGIC.start, b"ustar "),
        ] {
            assert!(forged(at, with).is_err(), "{what}");
        }
        let mut damaged = header("content/x", 5);
        damaged[3] ^= 1;
        assert!(read_header(&damaged).is_err());
    }

    proptest! {
        #[test]
        fn any_block_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), BLOCK), at in 0..BLOCK, with: u8) {
            let block: [u8; BLOCK] = bytes.try_into().unwrap();
            let _ = read_header(&block);
            let mut near = header("content/x", 77);
            near[at] = with;
            let _ = read_header(&near);
        }
    }
}
