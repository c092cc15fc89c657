//! What every answer about one content says of it, worded once: a request for a small file costs little more than its head.

use std::time::{Duration, SystemTime};

use catalog::digest::Sha256Digest;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::access::Access;
use super::conditional::Validators;

/// Fields of answers about one content.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// What conditional requests are compared with.
    pub(super) validators: Validators,
    /// On every answer that is about the content: 200, 206, 304, 412, 416.
    pub(super) describing: HeaderMap,
    /// The same, its length and type, and what vouches for it: on answers that carry it, and on HEAD. Those that carry a part of it have
    /// another length. The digests are those of the whole, on parts too: RFC 3230 for aria2, RFC 9530 for everybody since.
    pub(super) carrying: HeaderMap,
    /// The head of an answer that carries all of it, up to its date, which stands last.
    pub(super) whole: Vec<u8>,
}

impl Facts {
    pub(super) fn of(content: Sha256Digest, size: u64, access: Access) -> Self {
        let base64 = content.to_base64();
        let validators = Validators { etag: format!("\"{content}\""), modified: modified(content) };
        let describing = describing(&validators, access);
        let described_by =
            format!("</content/{content}.meta4>; rel=describedby; type=\"application/metalink4+xml\"");
        let mut carrying = describing.clone();
        carrying.extend([
            (header::CONTENT_LENGTH, value(&size.to_string())),
            // What content is to those who do not know it.
            (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
            (HeaderName::from_static("digest"), value(&format!("SHA-256={base64}"))),
            (HeaderName::from_static("repr-digest"), value(&format!("sha-256=:{base64}:"))),
            (header::LINK, value(&described_by)),
        ]);
        let mut whole = b"HTTP/1.1 200 OK\r\n".to_vec();
        for (name, value) in &carrying {
            whole.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        Self { validators, describing, carrying, whole }
    }
}

/// What every answer about something says that never changes, whatever came of the question.
pub(super) fn describing(validators: &Validators, access: Access) -> HeaderMap {
    HeaderMap::from_iter([
        (header::ETAG, value(&validators.etag)),
        (header::LAST_MODIFIED, value(&httpdate::fmt_http_date(validators.modified))),
        (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
        (header::CACHE_CONTROL, HeaderValue::from_static(access.caching())),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ])
}

/// Made of digests, numbers and dates: always a valid value.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// A date that every distribution point and peer gives the same content, from its digest alone: BITS starts a file again
/// where size or date differ between servers. See docs/decisions/0002-last-modified.md.
pub fn modified(digest: Sha256Digest) -> SystemTime {
    let [a, b, c, d, ..] = digest.0;
    let seconds = 1_000_000_000 + u64::from(u32::from_be_bytes([a, b, c, d]) % (1 << 27));
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}
