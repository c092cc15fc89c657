//! Documents about one content that are the same for everybody and never change: kept in memory, and asked for as content is, in parts
//! too.

use bytes::Bytes;
use catalog::digest::Sha256Digest;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};

use super::access::Access;
use super::body::ContentBody;
use super::conditional::{self, Reply, Validators};
use super::{facts, respond};

/// One such document. Its tag is its own digest, not that of the content: another release may word it otherwise, and who goes on
/// there is not to mix the two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Document {
    bytes: Bytes,
    validators: Validators,
}

impl Document {
    pub(super) fn of(bytes: Bytes) -> Self {
        let digest = Sha256Digest::of(&bytes);
        let validators = Validators { etag: format!("\"{digest}\""), modified: facts::modified(digest) };
        Self { bytes, validators }
    }

    /// Bytes of memory that it takes.
    pub(super) fn memory(&self) -> usize {
        self.bytes.len()
    }

    /// `GET` or `HEAD` of it: 200, 206, 304, 412 or 416. Several ranges are the whole: no document is so large that they would be worth
    /// their words.
    pub(super) fn answer(&self, head: &Parts, kind: &'static str, access: Access) -> Response<ContentBody> {
        let (size, is_head) = (self.bytes.len() as u64, head.method == Method::HEAD);
        let describing = facts::describing(&self.validators, access);
        let (bytes, part) = match conditional::decide(&head.method, &head.headers, &self.validators, size) {
            Reply::NotModified => return respond::described(StatusCode::NOT_MODIFIED, &describing),
            Reply::PreconditionFailed => {
                return respond::described(StatusCode::PRECONDITION_FAILED, &describing);
            }
            Reply::Unsatisfiable => return respond::unsatisfiable(&describing, size),
            Reply::Parts(parts) if parts.len() == 1 => {
                let part = parts[0];
                (self.bytes.slice(part.start() as usize..part.end() as usize), Some(part))
            }
            Reply::Parts(_) | Reply::Whole => (self.bytes.clone(), None),
        };
        let kind = HeaderValue::from_static(kind);
        let mut response = respond::document(vec![bytes], kind, access.caching(), is_head);
        response.headers_mut().extend(describing);
        if let Some(part) = part {
            respond::is_part(&mut response, &part, size);
        }
        response
    }
}
