//! The records of `metadata.txt`, as they come.

use std::io::Read;

use super::{ExportError, Item, Seen, broken};
use crate::id::{RevisionId, RevisionNumber};
use crate::xml;

/// `guid,` and twice eight hexadecimal digits and a comma.
const HEADER: usize = 36 + 1 + 8 + 1 + 8 + 1;
/// Bytes that are asked for at once.
const STEP: usize = 64 * 1024;

impl<E: From<ExportError>, F: FnMut(Item<'_>) -> Result<(), E>> Seen<'_, F> {
    /// Every record of a stream. The document of one record is in memory at a time.
    pub(super) fn records(&mut self, source: impl Read) -> Result<(), E> {
        let mut stream =
            Stream { source, buffer: Vec::new(), start: 0, before: 0, most: self.limits.export_bytes };
        if stream.at_least(3)? && stream.rest().starts_with(&[0xEF, 0xBB, 0xBF]) {
            stream.consume(3);
        }
        while stream.at_least(1)? {
            let position = stream.position();
            let malformed = |what: String| ExportError::Malformed { position, what };
            if !stream.at_least(HEADER)? {
                return Err(stream.cut("the head of a record").into());
            }
            let (id, length) = header(&stream.rest()[..HEADER]).map_err(malformed)?;
            stream.consume(HEADER);
            let most = self.limits.unpacked_bytes;
            if length as u64 > most {
                return Err(ExportError::TooLarge { what: "characters in one document", most }.into());
            }
            let end = stream.document(length)?;
            let document = std::str::from_utf8(&stream.rest()[..end])
                .map_err(|_| malformed("a document is not UTF-8".to_owned()))?;
            self.document(id, document, position)?;
            stream.consume(end);
            let line_end = stream.rest().len().min(2);
            stream.consume(line_end); // seen by `document`
        }
        Ok(())
    }
}

/// Whose document, and how many characters of it.
fn header(head: &[u8]) -> Result<(RevisionId, usize), String> {
    let text = std::str::from_utf8(head).unwrap_or_default();
    let mut fields = text.split(',');
    let fields = [fields.next(), fields.next(), fields.next(), fields.next(), fields.next()];
    let hex = |text: &str| {
        let digits = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        digits.then(|| u32::from_str_radix(text, 16).ok()).flatten()
    };
    let read = match fields {
        [Some(id), Some(number), Some(length), Some(""), None] => {
            id.parse().ok().zip(hex(number)).zip(hex(length))
        }
        _ => None,
    };
    let ((update, number), length) = read.ok_or_else(|| {
        format!(
            "expected a record (GUID, revision and length), found `{}`",
            xml::shown(&String::from_utf8_lossy(head))
        )
    })?;
    let length = usize::try_from(length).map_err(|error| error.to_string())?;
    Ok((RevisionId { update, number: RevisionNumber(number) }, length))
}

/// Bytes that were read and not yet used.
struct Stream<R> {
    source: R,
    buffer: Vec<u8>,
    /// Where the unused bytes begin.
    start: usize,
    /// Bytes that were dropped from the buffer.
    before: u64,
    most: u64,
}

impl<R: Read> Stream<R> {
    fn rest(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    fn position(&self) -> u64 {
        self.before + self.start as u64
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
    }

    fn cut(&self, inside: &'static str) -> ExportError {
        ExportError::Truncated { position: self.before + self.buffer.len() as u64, inside }
    }

    /// Whether there are so many unused bytes, after reading on if need be.
    fn at_least(&mut self, count: usize) -> Result<bool, ExportError> {
        while self.rest().len() < count {
            if !self.more()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads on; false at the end.
    fn more(&mut self) -> Result<bool, ExportError> {
        // What was used is dropped only when it is the greater part, so that each byte moves once at most.
        if self.start > self.buffer.len() / 2 {
            self.buffer.drain(..self.start);
            self.before += self.start as u64;
            self.start = 0;
        }
        let old = self.buffer.len();
        let so_far = self.before + old as u64;
        if so_far > self.most {
            return Err(ExportError::TooLarge { what: "unpacked bytes", most: self.most });
        }
        let position = usize::try_from(so_far).unwrap_or(usize::MAX);
        let read = self.source.by_ref().take(STEP as u64).read_to_end(&mut self.buffer);
        read.map_err(|error| broken(error, position))?;
        Ok(self.buffer.len() > old)
    }

    /// Where the document of so many characters ends, which stands first in what is unused: before CRLF or the end.
    ///
    /// The servers count UTF-16 units. All real documents known have only characters of one unit; should some server count
    /// others as one, the end of the line gives that away.
    fn document(&mut self, length: usize) -> Result<usize, ExportError> {
        let begin = self.position();
        let (mut at, mut units, mut characters) = (0, 0, 0);
        loop {
            // To the first byte of a character, or to the end.
            while self.at_least(at + 1)? && is_inside(self.rest()[at]) {
                at += 1;
            }
            if units == length || (units > length && characters == length) {
                let ends = !self.at_least(at + 2)?;
                let rest = &self.rest()[at..];
                if rest.starts_with(b"\r\n") || (ends && rest.is_empty()) {
                    return Ok(at);
                }
            }
            if characters >= length {
                let what = format!("a document does not end after its {length} characters");
                return Err(ExportError::Malformed { position: begin, what });
            }
            if !self.at_least(at + 1)? {
                return Err(self.cut("a document"));
            }
            // As far as the bytes at hand go, but past the first place where it may end only one character at a time.
            let past = units >= length;
            for byte in &self.buffer[self.start + at..] {
                match byte {
                    byte if is_inside(*byte) => {}
                    _ if units >= length && !past => break,
                    0xF0.. => (units, characters) = (units + 2, characters + 1),
                    _ => (units, characters) = (units + 1, characters + 1),
                }
                at += 1;
                if past {
                    break;
                }
            }
        }
    }
}

/// Whether this is a byte of a character after its first one (RFC 3629 section 3).
fn is_inside(byte: u8) -> bool {
    (0x80..0xC0).contains(&byte)
}
