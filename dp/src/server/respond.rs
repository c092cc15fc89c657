//! Answers, header by header.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use catalog::digest::Sha256Digest;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use super::body::{ContentBody, Segment};
use super::conditional::{Reply, Validators};
use super::open::OpenContent;
use super::range::ByteRange;

/// A file that is about to be served.
pub(super) struct ServedFile {
    content: Arc<OpenContent>,
    digest: Sha256Digest,
    pub(super) size: u64,
    pub(super) validators: Validators,
}

impl ServedFile {
    pub(super) fn new(content: Arc<OpenContent>) -> Self {
        let (digest, size) = (content.digest, content.size);
        let validators = Validators { etag: format!("\"{digest}\""), modified: modified(digest) };
        Self { content, digest, size, validators }
    }
}

/// A date that every distribution point and peer gives the same content, from its digest alone: BITS starts a file again
/// where size or date differ between servers. See docs/decisions/0002-last-modified.md.
pub fn modified(digest: Sha256Digest) -> SystemTime {
    let [a, b, c, d, ..] = digest.0;
    let seconds = 1_000_000_000 + u64::from(u32::from_be_bytes([a, b, c, d]) % (1 << 27));
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn empty(status: StatusCode) -> Response<ContentBody> {
    let mut response = Response::new(ContentBody::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    response
}

/// 404, at once: it moves the client to the next source.
pub(super) fn not_here() -> Response<ContentBody> {
    empty(StatusCode::NOT_FOUND)
}

/// 400, and the connection ends: what follows on it cannot be trusted.
pub(super) fn bad_request() -> Response<ContentBody> {
    last(StatusCode::BAD_REQUEST)
}

/// A refusal that ends the connection.
pub(super) fn last(status: StatusCode) -> Response<ContentBody> {
    let mut response = empty(status);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// 431, and the connection ends (RFC 6585 section 5).
pub(super) fn head_too_large() -> Response<ContentBody> {
    last(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
}

/// 405 with what is allowed (section 15.5.6).
pub(super) fn method_not_allowed() -> Response<ContentBody> {
    let mut response = last(StatusCode::METHOD_NOT_ALLOWED);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

/// 503: the disk does not answer now.
pub(super) fn try_later() -> Response<ContentBody> {
    let mut response = empty(StatusCode::SERVICE_UNAVAILABLE);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
    response
}

/// A small JSON answer that is not kept by caches.
pub(super) fn json(value: &impl Serialize, head: bool) -> Response<ContentBody> {
    let bytes = Bytes::from(serde_json::to_vec(value).unwrap_or_default());
    let mut response = empty(StatusCode::OK);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !head {
        *response.body_mut() = ContentBody::bytes(bytes);
    }
    response
}

/// The answer about a file, as decided.
pub(super) fn file(file: ServedFile, reply: Reply, head: bool) -> Response<ContentBody> {
    let size = file.size;
    match reply {
        Reply::BadRequest => bad_request(),
        Reply::NotModified => described(StatusCode::NOT_MODIFIED, &file),
        Reply::PreconditionFailed => described(StatusCode::PRECONDITION_FAILED, &file),
        Reply::Unsatisfiable => {
            let mut response = described(StatusCode::RANGE_NOT_SATISFIABLE, &file);
            insert(&mut response, header::CONTENT_RANGE, format!("bytes */{size}"));
            response
        }
        Reply::Whole => {
            let segments = ByteRange::new(0, size, size).map(Segment::File).into_iter().collect();
            full(StatusCode::OK, file, segments, "application/octet-stream".to_owned(), head)
        }
        Reply::Parts(parts) => match parts.as_slice() {
            [part] => {
                let content_range = content_range(part, size);
                let segments = vec![Segment::File(*part)];
                let mut response = full(
                    StatusCode::PARTIAL_CONTENT,
                    file,
                    segments,
                    "application/octet-stream".to_owned(),
                    head,
                );
                insert(&mut response, header::CONTENT_RANGE, content_range);
                response
            }
            parts => multipart(file, parts, head),
        },
    }
}

fn content_range(part: &ByteRange, size: u64) -> String {
    format!("bytes {}-{}/{size}", part.start(), part.end() - 1)
}

/// `multipart/byteranges` (section 14.6). BITS wants at most 180 bytes of other fields in a part and at most one empty
/// line before the first boundary; this has fewer of both.
fn multipart(file: ServedFile, parts: &[ByteRange], head: bool) -> Response<ContentBody> {
    // The digest cannot be part of its own content but for a collision.
    let boundary = format!("spsync-{}", &file.digest.to_string()[..32]);
    let mut segments = Vec::with_capacity(parts.len() * 2 + 1);
    for (index, part) in parts.iter().enumerate() {
        let line = if index == 0 { "" } else { "\r\n" };
        let header = format!(
            "{line}--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: {}\r\n\r\n",
            content_range(part, file.size)
        );
        segments.push(Segment::Bytes(Bytes::from(header)));
        segments.push(Segment::File(*part));
    }
    segments.push(Segment::Bytes(Bytes::from(format!("\r\n--{boundary}--\r\n"))));
    let kind = format!("multipart/byteranges; boundary={boundary}");
    full(StatusCode::PARTIAL_CONTENT, file, segments, kind, head)
}

/// The fields that describe the file, without a body: 304, 412 and 416.
fn described(status: StatusCode, file: &ServedFile) -> Response<ContentBody> {
    let mut response = empty(status);
    if status == StatusCode::NOT_MODIFIED {
        // Its length would be that of the whole file (section 8.6); leaving it out is allowed and safer.
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    describe(&mut response, file);
    response
}

fn describe(response: &mut Response<ContentBody>, file: &ServedFile) {
    insert(response, header::ETAG, file.validators.etag.clone());
    insert(response, header::LAST_MODIFIED, httpdate::fmt_http_date(file.validators.modified));
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

fn full(
    status: StatusCode,
    file: ServedFile,
    segments: Vec<Segment>,
    kind: String,
    head: bool,
) -> Response<ContentBody> {
    let mut response = empty(status);
    let body = ContentBody::content(file.content.clone(), segments);
    let length = http_body::Body::size_hint(&body).exact().unwrap_or_default();
    describe(&mut response, &file);
    insert(&mut response, header::CONTENT_LENGTH, length.to_string());
    insert(&mut response, header::CONTENT_TYPE, kind);
    // Both describe the whole representation, on 206 too: RFC 3230 for aria2, RFC 9530 for everybody since.
    let base64 = file.digest.to_base64();
    insert(&mut response, header::HeaderName::from_static("digest"), format!("SHA-256={base64}"));
    insert(&mut response, header::HeaderName::from_static("repr-digest"), format!("sha-256=:{base64}:"));
    if !head {
        *response.body_mut() = body;
    }
    response
}

fn insert(response: &mut Response<ContentBody>, name: header::HeaderName, value: String) {
    // Made of digests, numbers and dates: always a valid value.
    if let Ok(value) = HeaderValue::try_from(value) {
        response.headers_mut().insert(name, value);
    }
}
