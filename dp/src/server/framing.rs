//! What hyper does not tell about the head of a request: whether it had a length and a transfer coding both, two lengths, or one that
//! cannot be followed.
//!
//! hyper drops the length of such a request and reads it by its coding, as RFC 9112 section 6.1 allows. Whoever stands
//! before us may have read it by its length, so it is refused; to refuse it, it must be seen. A length that is cut
//! off here, or is no number, says nothing of where the next head begins: who has one is refused too. This follows the
//! bytes of a connection from head to head: past bodies of a known length, and no further than the first transfer coding,
//! after which our connections end.

use memchr::memchr;

/// The longest line that matters: a name, a colon, blanks and a number.
const LINE: usize = 64;

/// Follows the bytes that a client sends.
#[derive(Debug, Default)]
pub(super) struct HeadWatch {
    place: Place,
    line: Vec<u8>,
    lines: usize,
    length: Option<u64>,
    coded: bool,
    /// Its length cannot be told.
    doubtful: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Place {
    /// In a head, or between two.
    #[default]
    Head,
    /// In a body that has so many bytes left.
    Body(u64),
    /// Nothing more is looked at.
    Done,
}

impl HeadWatch {
    /// Looks at the next bytes; answers whether they end a head that is to be refused.
    pub(super) fn see(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            match self.place {
                Place::Done => return false,
                Place::Body(left) => {
                    let skipped = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[skipped..];
                    let left = left - skipped as u64;
                    self.place = if left == 0 { Place::Head } else { Place::Body(left) };
                }
                Place::Head => {
                    let end = memchr(b'\n', bytes);
                    let (line, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
                    bytes = rest;
                    // Nearly every line comes whole, and is looked at where it stands.
                    if end.is_some() && self.line.is_empty() {
                        if self.line_ends(line) {
                            return true;
                        }
                        continue;
                    }
                    let room = LINE.saturating_sub(self.line.len()).min(line.len());
                    self.line.extend_from_slice(&line[..room]);
                    if end.is_some() {
                        let line = std::mem::take(&mut self.line);
                        if self.line_ends(&line) {
                            return true;
                        }
                    }
                }
            }
        }
        false
    }

    /// Whether what was seen last ends within a head. Empty lines before it are none of it.
    pub(super) fn is_within_head(&self) -> bool {
        self.place == Place::Head && (self.lines > 0 || !self.line.is_empty())
    }

    fn line_ends(&mut self, line: &[u8]) -> bool {
        let line = &line[..line.len().min(LINE)];
        // Only what is longer has no end.
        let (line, is_whole) = line.strip_suffix(b"\n").map_or((line, false), |line| (line, true));
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !line.is_empty() {
            self.lines += 1;
            self.field(line, is_whole);
            return false;
        }
        if self.lines == 0 {
            return false; // before a request line (RFC 9112 section 2.2)
        }
        let refused = self.doubtful || (self.coded && self.length.is_some());
        self.place = match (self.coded || self.doubtful, self.length) {
            (true, _) => Place::Done,
            (false, None | Some(0)) => Place::Head,
            (false, Some(length)) => Place::Body(length),
        };
        (self.lines, self.length, self.coded, self.doubtful) = (0, None, false, false);
        refused
    }

    fn field(&mut self, line: &[u8], is_whole: bool) {
        // Most fields are others, and their first letter says so.
        if line.first().is_some_and(|first| !first.is_ascii_whitespace() && !b"tTcC".contains(first)) {
            return;
        }
        let Some(colon) = memchr(b':', line) else { return };
        let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.coded = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            let number = std::str::from_utf8(value).ok().and_then(|value| value.parse().ok());
            // Two are refused where they are equal, too: hyper would take them for one, and others may not.
            self.doubtful |= !is_whole || number.is_none() || self.length.is_some();
            self.length = Some(number.unwrap_or(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &str =
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n";

    /// Whether both are seen, whatever the pieces in which the bytes come.
    fn seen(text: &str) -> bool {
        let whole = HeadWatch::default().see(text.as_bytes());
        for step in 1..text.len().min(40) {
            let mut watch = HeadWatch::default();
            let pieces = text.as_bytes().chunks(step).any(|piece| watch.see(piece));
            assert_eq!(pieces, whole, "in pieces of {step}: {text}");
        }
        whole
    }

    #[test]
    fn both_are_seen_in_either_order_and_nothing_else_is() {
        let swapped =
            "POST / HTTP/1.1\r\ncontent-length:\t4 \r\nX: y\r\nTRANSFER-ENCODING:chunked\r\n\r\n0\r\n\r\n";
        let get = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
        let post = "POST / HTTP/1.1\r\nContent-Length: 24\r\n\r\nTransfer-Encoding: a\r\n\r\n";
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let zeros = |count| post.replace("24", &format!("{}24", "0".repeat(count)));
        let long = format!("GET / HTTP/1.1\r\nX-Long: {}\r\n\r\n", "content-length: 4 ".repeat(99));
        for (text, expected) in [
            (BOTH.to_owned(), true),
            (swapped.to_owned(), true),
            (BOTH.replace("\r\n", "\n"), true),
            (format!("\r\n{get}{get}{BOTH}"), true),
            (format!("{post}{BOTH}"), true),
            (format!("{long}{BOTH}"), true),
            // A length that is not followed to its end: hyper reads it, and its body would be taken for a head.
            (zeros(60), true),
            (zeros(45), true),
            (format!("{}{BOTH}", zeros(44)), true),
            (format!("{}{get}", zeros(44)), false),
            (post.replace("24", &" ".repeat(60)), true),
            (post.replace("24", "4, 4"), true),
            (post.replace("Content-Length: 24", "Content-Length: 24\r\ncontent-length: 24"), true),
            (post.replace("Content-Length: 24", "Content-Length: 0\r\nContent-Length: 0"), true),
            (post.replace("Content-Length: 24", "Content-Length: 24\r\nX-Content-Length: 24"), false),
            (get.repeat(3), false),
            (post.repeat(2), false),
            (long, false),
            (chunked.to_owned(), false),
            // The connection ends after it; what follows is no request.
            (format!("{chunked}5\r\nhello\r\n0\r\n\r\n{BOTH}"), false),
            (BOTH[..BOTH.len() - 2].to_owned(), false),
        ] {
            assert_eq!(seen(&text), expected, "{text}");
        }
    }

    #[test]
    fn a_head_begins_with_its_first_byte_and_ends_with_an_empty_line() {
        let mut watch = HeadWatch::default();
        for (bytes, within) in [
            ("", false),
            ("\r\n", false),
            ("G", true),
            ("ET / HTTP/1.1\r\n", true),
            ("Host: x\r\n", true),
            ("\r", true),
            ("\n", false),
            ("\r\nPOST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nGET", false),
            (" / HTT", false),
            ("GET / HTTP/1.1\r\n\r\nGET", true),
            (" / HTTP/1.1\r\n\r\n", false),
        ] {
            assert!(!watch.see(bytes.as_bytes()));
            assert_eq!(watch.is_within_head(), within, "after {bytes:?}");
        }
    }
}
