//! Content by the paths of the upstream's own links: Delivery Optimization asks a cache host for
//! `/PATH?QUERY&cacheHostOrigin=HOST`, or with the upstream as `Host`. Which content a path stands for was published before; no
//! request ever goes to whom a client names.

use std::borrow::Cow;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Response};
use percent_encoding::percent_decode_str;
use url::Url;

use super::body::ContentBody;
use super::respond;

/// The longest path that is kept. Real ones have some hundred bytes.
const LONGEST: usize = 1024;

/// One point, transparent.
const IMAGE: &[u8] =
    b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x01D\0;";

/// The path of a link as requests for it are looked up; `None` where it does not name a file by itself: a query would say which
/// one it is.
pub fn path_of_link(link: &str) -> Option<String> {
    let url = Url::parse(link).ok()?;
    if !matches!(url.scheme(), "http" | "https") || url.query().is_some() {
        return None;
    }
    let decoded: Vec<Cow<'_, str>> = url
        .path_segments()?
        .map(|part| percent_decode_str(part).decode_utf8())
        .collect::<Result<_, _>>()
        .ok()?;
    let segments: Vec<&str> = decoded.iter().map(AsRef::as_ref).collect();
    path_of(&segments)
}

/// The same of the decoded segments of a request.
pub(super) fn path_of(segments: &[&str]) -> Option<String> {
    let odd = |part: &&str| part.contains(['/', '\0']);
    let length: usize = segments.iter().map(|part| part.len() + 1).sum();
    // A name, not a folder; and what was one name before it was decoded stays one.
    (segments.last().is_some_and(|name| !name.is_empty()) && length <= LONGEST && !segments.iter().any(odd))
        .then(|| segments.join("/"))
}

/// `GET` or `HEAD /mscomtest/wuidt.gif`: with it administrators see whether a cache host answers.
pub(super) fn test_image(head: &Parts) -> Response<ContentBody> {
    let (parts, kind) = (vec![Bytes::from_static(IMAGE)], HeaderValue::from_static("image/gif"));
    respond::document(parts, kind, "no-store", head.method == Method::HEAD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_links() {
        let long = format!("http://x/{}", "a".repeat(LONGEST));
        for (link, expected) in [
            ("http://dl.example/files/1/a%20b.esd", Some("files/1/a b.esd")),
            ("https://dl.example:8443/files/1/a%20b.esd", Some("files/1/a b.esd")),
            ("http://dl.example/gr%C3%B6%C3%9Fe.esd#part", Some("größe.esd")),
            ("http://dl.example/a.esd?P1=5", None),
            ("http://dl.example/download?id=7", None),
            ("http://dl.example/files/", None),
            ("http://dl.example", None),
            ("http://dl.example/a%2Fb.esd", None),
            ("http://dl.example/a%00.esd", None),
            ("http://dl.example/%ff.esd", None),
            ("ftp://dl.example/a.esd", None),
            ("file:///etc/passwd", None),
            ("a.esd", None),
            (&*long, None),
        ] {
            assert_eq!(path_of_link(link).as_deref(), expected, "{link}");
        }
    }
}
