//! Answers in JSON, and problems as answers; what was sent as JSON is read here too.

use bytes::Bytes;
use catalog::problem::{Code, Problem};
use dp::server::body::ContentBody;
pub use dp::server::problem;
use dp::server::{Call, Received, Refused, Remark, carrying};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why nothing was read out of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// It was not taken.
    Body(Refused),
    /// It is something else than the route takes.
    Shape,
}

impl Unread {
    /// As an answer. What is wrong with a body is not said: it may hold a secret.
    pub fn response(self) -> Response<ContentBody> {
        match self {
            Self::Body(refused) => refused.response(),
            Self::Shape => empty(StatusCode::BAD_REQUEST),
        }
    }
}

/// What a body says, and the room that it takes: it is given back with the second, so keep that as long as the first.
///
/// # Errors
/// What to answer instead.
pub async fn read<T: DeserializeOwned>(call: &mut Call<'_>) -> Result<(T, Received), Unread> {
    let body = call.body.read().await.map_err(Unread::Body)?;
    let said = serde_json::from_slice(&body).map_err(|_| Unread::Shape)?;
    Ok((said, body))
}

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

/// JSON with the tag that it is known by; where there is no body, 304 for who has it already.
///
/// # Errors
/// `INTERNAL` for what is no tag.
pub fn tagged(tag: &str, body: Option<Bytes>) -> Result<Response<ContentBody>, Problem> {
    let field = HeaderValue::from_str(tag).map_err(|error| Problem::of(Code::Internal, &error))?;
    let mut response = match body {
        Some(bytes) => bytes_of(StatusCode::OK, bytes, "application/json"),
        None => empty(StatusCode::NOT_MODIFIED),
    };
    response.headers_mut().insert(header::ETAG, field);
    Ok(response)
}

/// Whether who asks has what `tag` names: one of the tags in `If-None-Match` is it.
pub fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    headers.get_all(header::IF_NONE_MATCH).iter().any(|field| names(field, |one| one == tag))
}

/// Whether one of the tags of a field, however weak, `is_it`, or all are meant (RFC 9110 section 13.1.1).
pub fn names(field: &HeaderValue, is_it: impl Fn(&str) -> bool) -> bool {
    let Ok(field) = field.to_str() else { return false };
    field.split(',').map(str::trim).any(|one| one == "*" || is_it(one.strip_prefix("W/").unwrap_or(one)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_names_the_tag_has_it() {
        for (fields, known) in [
            (&[][..], false),
            (&["\"a\""], true),
            (&["W/\"a\""], true),
            (&["\"b\", \"a\""], true),
            (&["\"b\"", "\"a\""], true),
            (&["*"], true),
            (&["\"b\""], false),
            (&["a"], false),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(header::IF_NONE_MATCH, HeaderValue::from_static(field));
            }
            assert_eq!(is_known(&headers, "\"a\""), known, "{fields:?}");
        }
    }

    #[test]
    fn an_answer_with_a_tag_says_it_also_where_nothing_changed() {
        for (body, status) in
            [(Some(Bytes::from_static(b"{}")), StatusCode::OK), (None, StatusCode::NOT_MODIFIED)]
        {
            let response = tagged("\"a\"", body).unwrap();
            assert_eq!(
                (response.status(), response.headers()[header::ETAG].as_bytes()),
                (status, &b"\"a\""[..])
            );
        }
        assert_eq!(tagged("\n", None).unwrap_err().code, Code::Internal);
    }
}
