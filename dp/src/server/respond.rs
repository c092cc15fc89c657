//! Answers, header by header.

use std::sync::Arc;

use bytes::Bytes;
use catalog::digest::Sha256Digest;
use catalog::problem::Problem;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use super::access::Access;
use super::body::{ContentBody, Segment};
use super::conditional::Reply;
use super::facts::Facts;
use super::follow::Follower;
use super::open::OpenContent;
use super::range::ByteRange;
use super::refusal::Refusal;

/// A file that is about to be served.
pub(super) struct ServedFile {
    /// Not there where only its head is wanted.
    content: Option<Arc<OpenContent>>,
    /// Where it still arrives.
    follower: Option<Follower>,
    digest: Sha256Digest,
    pub(super) size: u64,
    pub(super) facts: Arc<Facts>,
}

impl ServedFile {
    pub(super) fn new(content: Arc<OpenContent>, facts: Arc<Facts>) -> Self {
        let (digest, size) = (content.digest, content.size);
        Self { content: Some(content), follower: None, digest, size, facts }
    }

    /// Content of which no byte is here: for answers without a body.
    pub(super) fn described(digest: Sha256Digest, size: u64, facts: Arc<Facts>) -> Self {
        Self { content: None, follower: None, digest, size, facts }
    }

    /// Content that still arrives.
    pub(super) fn arriving(content: Arc<OpenContent>, follower: Follower, facts: Arc<Facts>) -> Self {
        Self { follower: Some(follower), ..Self::new(content, facts) }
    }
}

/// An answer without a body.
pub fn empty(status: StatusCode) -> Response<ContentBody> {
    let mut response = Response::new(ContentBody::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    response
}

/// Why, and what the client is told of it: all that is not here looks the same.
pub(super) fn refuse(refusal: Refusal) -> Response<ContentBody> {
    let mut response = match refusal {
        Refusal::Malformed => last(StatusCode::BAD_REQUEST),
        Refusal::HeadTooLarge => last(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE), // RFC 6585 section 5
        Refusal::Method => method_not_allowed(),
        // At once: it moves the client to the next source.
        Refusal::NoRoute | Refusal::Absent | Refusal::Missing | Refusal::Damaged | Refusal::Forbidden => {
            empty(StatusCode::NOT_FOUND)
        }
        Refusal::Unreadable => later(StatusCode::SERVICE_UNAVAILABLE, 10),
        Refusal::NoRoom => empty(StatusCode::INSUFFICIENT_STORAGE),
        // Also of one address: where that is a whole branch, nobody there did anything wrong.
        Refusal::Busy
        | Refusal::Connections
        | Refusal::ClientConnections
        | Refusal::NotYet
        | Refusal::Upstream => later(StatusCode::SERVICE_UNAVAILABLE, 10),
        Refusal::ClientBusy => later(StatusCode::TOO_MANY_REQUESTS, 10),
    };
    response.extensions_mut().insert(refusal);
    response
}

/// A refusal that passes: the client shall come back after so many seconds.
pub(super) fn refuse_for(refusal: Refusal, seconds: u32) -> Response<ContentBody> {
    let mut response = refuse(refusal);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

fn later(status: StatusCode, seconds: u32) -> Response<ContentBody> {
    let mut response = empty(status);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// 400, and the connection ends: what follows on it cannot be trusted.
pub(super) fn bad_request() -> Response<ContentBody> {
    refuse(Refusal::Malformed)
}

/// A refusal that ends the connection.
pub(super) fn last(status: StatusCode) -> Response<ContentBody> {
    let mut response = empty(status);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// 405 with what is allowed (section 15.5.6).
fn method_not_allowed() -> Response<ContentBody> {
    let mut response = last(StatusCode::METHOD_NOT_ALLOWED);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

/// 503: no room in memory now.
pub(super) fn try_later() -> Response<ContentBody> {
    refuse(Refusal::Busy)
}

/// A problem with the status of its code (RFC 9457).
pub fn problem(problem: &Problem) -> Response<ContentBody> {
    let status = StatusCode::from_u16(problem.code.page().http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let bytes = serde_json::to_vec(problem).unwrap_or_default();
    let mut response = carrying(status, bytes.into(), "application/problem+json", false);
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
    }
    response
}

/// An answer that is for this asker alone; `head`: without its body.
pub fn carrying(status: StatusCode, bytes: Bytes, kind: &'static str, head: bool) -> Response<ContentBody> {
    let mut response = document(vec![bytes], HeaderValue::from_static(kind), "no-store", head);
    *response.status_mut() = status;
    response
}

/// A small JSON answer that is not kept by caches.
pub(super) fn json(value: &impl Serialize, head: bool) -> Response<ContentBody> {
    // Most have a few kilobytes; growing into them would copy them twice.
    let mut bytes = Vec::with_capacity(8 * 1024);
    if serde_json::to_writer(&mut bytes, value).is_err() {
        bytes.clear();
    }
    json_text(bytes, head)
}

/// JSON that is worded already.
pub(super) fn json_text(bytes: Vec<u8>, head: bool) -> Response<ContentBody> {
    carrying(StatusCode::OK, Bytes::from(bytes), "application/json", head)
}

/// A whole document in memory.
pub(super) fn document(
    parts: Vec<Bytes>,
    kind: HeaderValue,
    cache: &'static str,
    head: bool,
) -> Response<ContentBody> {
    let body = ContentBody::parts(parts);
    let length = http_body::Body::size_hint(&body).exact().unwrap_or_default();
    let mut response = empty(StatusCode::OK);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !head {
        *response.body_mut() = body;
    }
    response
}

/// The answer about a file, as decided.
pub(super) fn file(file: ServedFile, reply: Reply, head: bool) -> Response<ContentBody> {
    let size = file.size;
    match reply {
        Reply::NotModified => described(StatusCode::NOT_MODIFIED, &file.facts.describing),
        Reply::PreconditionFailed => described(StatusCode::PRECONDITION_FAILED, &file.facts.describing),
        Reply::Unsatisfiable => unsatisfiable(&file.facts.describing, size),
        Reply::Whole => {
            let segments = ByteRange::new(0, size, size).map(Segment::File).into_iter().collect();
            full(StatusCode::OK, file, segments, head)
        }
        Reply::Parts(parts) => match parts.as_slice() {
            [part] => {
                let content_range = content_range(part, size);
                let segments = vec![Segment::File(*part)];
                let mut response = full(StatusCode::PARTIAL_CONTENT, file, segments, head);
                insert(&mut response, header::CONTENT_RANGE, content_range);
                response
            }
            parts => multipart(file, parts, head),
        },
    }
}

/// The same answer by a name that says nothing of the content.
pub(super) fn by_name(mut response: Response<ContentBody>) -> Response<ContentBody> {
    if let Some(caching) = response.headers_mut().get_mut(header::CACHE_CONTROL) {
        let is_private = *caching == Access::Private.caching();
        *caching = HeaderValue::from_static(Access::of(is_private).caching_by_name());
    }
    response
}

fn content_range(part: &ByteRange, size: u64) -> String {
    format!("bytes {}-{}/{size}", part.start(), part.end() - 1)
}

/// `multipart/byteranges` (section 14.6). BITS wants at most 180 bytes of other fields in a part and at most two line ends
/// before the first boundary; zsync wants one, and asks for ever where there is none.
fn multipart(file: ServedFile, parts: &[ByteRange], head: bool) -> Response<ContentBody> {
    // The digest cannot be part of its own content but for a collision.
    let boundary = format!("spsync-{}", file.digest.short());
    let mut segments = Vec::with_capacity(parts.len() * 2 + 1);
    for part in parts {
        let header = format!(
            "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: {}\r\n\r\n",
            content_range(part, file.size)
        );
        segments.push(Segment::Bytes(Bytes::from(header)));
        segments.push(Segment::File(*part));
    }
    segments.push(Segment::Bytes(Bytes::from(format!("\r\n--{boundary}--\r\n"))));
    let mut response = full(StatusCode::PARTIAL_CONTENT, file, segments, head);
    let kind = format!("multipart/byteranges; boundary={boundary}");
    insert(&mut response, header::CONTENT_TYPE, kind);
    response
}

/// Makes of an answer with a part of something that one: 206.
pub(super) fn is_part(response: &mut Response<ContentBody>, part: &ByteRange, size: u64) {
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    insert(response, header::CONTENT_RANGE, content_range(part, size));
}

/// 416, with how long it is.
pub(super) fn unsatisfiable(describing: &HeaderMap, size: u64) -> Response<ContentBody> {
    let mut response = described(StatusCode::RANGE_NOT_SATISFIABLE, describing);
    insert(&mut response, header::CONTENT_RANGE, format!("bytes */{size}"));
    response
}

/// The fields that describe the file, without a body: 304, 412 and 416.
pub(super) fn described(status: StatusCode, describing: &HeaderMap) -> Response<ContentBody> {
    let mut response = empty(status);
    if status == StatusCode::NOT_MODIFIED {
        // Its length would be that of the whole file (section 8.6); leaving it out is allowed and safer.
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    response.headers_mut().extend(describing.clone());
    response
}

fn full(status: StatusCode, file: ServedFile, segments: Vec<Segment>, head: bool) -> Response<ContentBody> {
    let length: u64 = segments.iter().map(Segment::len).sum();
    let body = match (file.content, file.follower) {
        _ if head => ContentBody::empty(),
        (Some(content), None) => ContentBody::content(content, segments),
        (Some(content), Some(follower)) => ContentBody::content(content, segments).following(follower),
        (None, _) => ContentBody::empty(),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    *headers = file.facts.carrying.clone();
    if length != file.size {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

fn insert(response: &mut Response<ContentBody>, name: header::HeaderName, value: String) {
    // Made of digests, numbers and dates: always a valid value.
    if let Ok(value) = HeaderValue::try_from(value) {
        response.headers_mut().insert(name, value);
    }
}
