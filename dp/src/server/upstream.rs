//! Content by the paths of the upstream's own links: Delivery Optimization asks a cache host for
//! `/PATH?QUERY&cacheHostOrigin=HOST`, or with the upstream as `Host`. Which content a path stands for was published before; no
//! request ever goes to whom a client names.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::Bytes;
use catalog::digest::Sha256Digest;
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

/// Which content the paths of the upstream's links stand for. Clients may write them in another case than the upstream: its servers
/// take no regard to that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpstreamPaths {
    said: HashMap<String, Sha256Digest>,
    /// In lower case; `None` where paths that differ by their case alone stand for two contents.
    folded: HashMap<String, Option<Sha256Digest>>,
}

impl UpstreamPaths {
    /// As the upstream writes them ([`path_of_link`]).
    pub fn said(&self) -> &HashMap<String, Sha256Digest> {
        &self.said
    }

    pub(super) fn is_empty(&self) -> bool {
        self.said.is_empty()
    }

    /// What a path of a request stands for, however it is written.
    pub(super) fn find(&self, mut path: String) -> Option<Sha256Digest> {
        path.make_ascii_lowercase();
        self.folded.get(&path).copied().flatten()
    }
}

impl FromIterator<(String, Sha256Digest)> for UpstreamPaths {
    fn from_iter<I: IntoIterator<Item = (String, Sha256Digest)>>(paths: I) -> Self {
        let mut known = Self::default();
        for (path, content) in paths {
            let named = known.folded.entry(path.to_ascii_lowercase()).or_insert(Some(content));
            *named = named.filter(|named| *named == content);
            known.said.insert(path, content);
        }
        known
    }
}

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
    fn a_path_is_found_however_it_is_written_if_it_stands_for_one_content() {
        let content = |n| Sha256Digest([n; 32]);
        let paths =
            [("Files/1/a.ESD", 1), ("files/2/b.esd", 2), ("files/2/B.esd", 3), ("x/c", 4), ("X/C", 4)];
        let paths: UpstreamPaths = paths.map(|(path, n)| (path.to_owned(), content(n))).into_iter().collect();
        for (path, expected) in [
            ("Files/1/a.ESD", Some(1)),
            ("files/1/A.esd", Some(1)),
            ("files/2/b.esd", None),
            ("files/2/B.esd", None),
            ("x/C", Some(4)),
            ("files/1", None),
        ] {
            assert_eq!(paths.find(path.to_owned()), expected.map(content), "{path}");
        }
        assert_eq!(paths.said().len(), 5, "as they were said");
    }

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
