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
    etag: HeaderValue,
    modified: HeaderValue,
    cache: HeaderValue,
    digest: HeaderValue,
    repr_digest: HeaderValue,
    described_by: HeaderValue,
}

impl Facts {
    pub(super) fn of(content: Sha256Digest, access: Access) -> Self {
        let base64 = content.to_base64();
        let validators = Validators { etag: format!("\"{content}\""), modified: modified(content) };
        Self {
            etag: value(&validators.etag),
            modified: value(&httpdate::fmt_http_date(validators.modified)),
            cache: HeaderValue::from_static(match access {
                Access::Public => "public, max-age=31536000, immutable",
                // No cache that others share may keep it.
                Access::Private => "private, max-age=31536000, immutable",
            }),
            digest: value(&format!("SHA-256={base64}")),
            repr_digest: value(&format!("sha-256=:{base64}:")),
            described_by: value(&format!(
                "</content/{content}.meta4>; rel=describedby; type=\"application/metalink4+xml\""
            )),
            validators,
        }
    }

    /// On every answer that is about the content: 200, 206, 304, 412, 416.
    pub(super) fn describe(&self, headers: &mut HeaderMap) {
        headers.insert(header::ETAG, self.etag.clone());
        headers.insert(header::LAST_MODIFIED, self.modified.clone());
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(header::CACHE_CONTROL, self.cache.clone());
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }

    /// On answers that carry it or a part of it, and on HEAD. The digests are those of the whole, on parts too: RFC 3230
    /// for aria2, RFC 9530 for everybody since.
    pub(super) fn vouch(&self, headers: &mut HeaderMap) {
        headers.insert(HeaderName::from_static("digest"), self.digest.clone());
        headers.insert(HeaderName::from_static("repr-digest"), self.repr_digest.clone());
        headers.insert(header::LINK, self.described_by.clone());
    }
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
