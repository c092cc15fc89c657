//! Answers in JSON, and problems as answers.

use bytes::Bytes;
use catalog::problem::Problem;
use dp::server::body::ContentBody;
pub use dp::server::problem;
use dp::server::{Remark, carrying};
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

/// No body.
pub fn empty(status: StatusCode) -> Response<ContentBody> {
    let mut response = dp::server::empty(status);
    // RFC 9110 section 8.6: a 204 has no length, and a 304 would have to say that of the 200.
    if matches!(status, StatusCode::NOT_MODIFIED | StatusCode::NO_CONTENT) {
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// 405 with what is allowed (RFC 9110 section 15.5.6).
pub fn not_allowed(methods: &'static str) -> Response<ContentBody> {
    let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}

/// A problem, whose code the access log has too.
pub fn refused(of: &Problem) -> Response<ContentBody> {
    let mut response = problem(of);
    response.extensions_mut().insert(Remark(of.code.name().to_owned()));
    response
}

/// JSON, for this asker alone.
pub fn json(status: StatusCode, body: &impl Serialize) -> Response<ContentBody> {
    match serde_json::to_vec(body) {
        Ok(bytes) => bytes_of(status, bytes.into(), "application/json"),
        Err(_) => empty(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// JSON that was made before.
pub fn bytes_of(status: StatusCode, bytes: Bytes, kind: &'static str) -> Response<ContentBody> {
    carrying(status, bytes, kind, false)
}
