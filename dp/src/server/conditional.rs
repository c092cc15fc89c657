//! Preconditions and ranges, in the order of RFC 9110 section 13.2.2. Pure.
//!
//! Our dates come from digests (docs/decisions/0002-last-modified.md): none is earlier or later than another. One that is ours
//! is the same content, any other is other content, as sections 13.1.3 and 13.1.4 let a server compare that keeps no times.

use std::time::SystemTime;

use http::{HeaderMap, HeaderName, Method, header};

use super::range::{self, ByteRange, Ranges};

/// What identifies a representation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validators {
    /// A strong entity tag, with its quotes.
    pub etag: String,
    /// Whole seconds.
    pub modified: SystemTime,
}

/// How to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// 200.
    Whole,
    /// 206 with one part, or several as `multipart/byteranges`.
    Parts(Vec<ByteRange>),
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
    /// 416.
    Unsatisfiable,
}

/// The fields that decide.
const DECIDING: [HeaderName; 6] = [
    header::IF_MATCH,
    header::IF_UNMODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::RANGE,
    header::IF_RANGE,
];

/// Decides how to answer `GET` or `HEAD`.
pub fn decide(method: &Method, headers: &HeaderMap, current: &Validators, size: u64) -> Reply {
    // Most requests are for the whole. To read the few names that they have costs less than to look for six that they lack.
    if !headers.keys().any(|name| DECIDING.contains(name)) {
        return Reply::Whole;
    }
    // Step 1 and 2: If-Match, else If-Unmodified-Since.
    if headers.contains_key(header::IF_MATCH) {
        if !any_tag(headers, header::IF_MATCH, current, false) {
            return Reply::PreconditionFailed;
        }
    } else if let Some(date) = date(headers, header::IF_UNMODIFIED_SINCE)
        && current.modified != date
    {
        return Reply::PreconditionFailed;
    }
    // Step 3 and 4: If-None-Match, else If-Modified-Since. Both methods that come here are safe.
    if headers.contains_key(header::IF_NONE_MATCH) {
        if any_tag(headers, header::IF_NONE_MATCH, current, true) {
            return Reply::NotModified;
        }
    } else if let Some(date) = date(headers, header::IF_MODIFIED_SINCE)
        && current.modified == date
    {
        return Reply::NotModified;
    }
    // Step 5: Range is defined for GET alone (section 14.2), and counts only where If-Range matches.
    if method != Method::GET || !range_applies(headers, current) {
        return Reply::Whole;
    }
    // The client of Delivery Optimization adds a line with each retry, the newest last: the first would be what it had
    // before, and the whole would be appended to what it has.
    let Some(last) = headers.get_all(header::RANGE).iter().next_back() else { return Reply::Whole };
    match last.to_str().map(|text| range::parse(text, size)) {
        Ok(Ranges::Some(ranges)) => Reply::Parts(ranges),
        Ok(Ranges::Unsatisfiable) => Reply::Unsatisfiable,
        Ok(Ranges::Ignored) | Err(_) => Reply::Whole,
    }
}

/// `If-Range` (section 13.1.5): a strong tag that is ours, or exactly our date.
fn range_applies(headers: &HeaderMap, current: &Validators) -> bool {
    let Some(value) = headers.get(header::IF_RANGE) else { return true };
    match value.to_str() {
        Ok(text) if text.starts_with('"') => text == current.etag,
        Ok(text) if text.starts_with("W/") => false,
        Ok(text) => httpdate::parse_http_date(text).is_ok_and(|date| date == current.modified),
        Err(_) => false,
    }
}

/// Whether a list of entity tags has ours. `weak`: opaque parts are compared (section 8.8.3.2).
fn any_tag(headers: &HeaderMap, name: HeaderName, current: &Validators, weak: bool) -> bool {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).any(|list| {
        list.trim() == "*"
            || tags(list).any(|tag| match tag.strip_prefix("W/") {
                Some(opaque) => weak && opaque == current.etag,
                None => tag == current.etag,
            })
    })
}

/// The tags of a list. A tag may hold commas, so it ends at its quote.
fn tags(list: &str) -> impl Iterator<Item = &str> {
    let mut rest = list;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let quote = rest.find('"')?;
        let end = quote + 1 + rest[quote + 1..].find('"')?;
        let tag = &rest[..=end];
        rest = &rest[end + 1..];
        Some(tag)
    })
}

/// A date that is valid; any other is ignored (sections 13.1.3 and 13.1.4).
fn date(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next(), values.next());
    httpdate::parse_http_date(first.filter(|_| second.is_none())?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderValue;

    use super::*;

    const TAG: &str = "\"abc\"";
    const OURS: &str = "Sun, 09 Sep 2001 01:46:40 GMT";
    const EARLIER: &str = "Sun, 09 Sep 2001 01:46:39 GMT";
    const LATER: &str = "Sun, 09 Sep 2001 01:46:41 GMT";

    fn reply(method: Method, fields: &[(&'static str, &str)]) -> Reply {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        decide(&method, &headers, &Validators { etag: TAG.to_owned(), modified }, 1_000)
    }

    fn part(from: u64, to: u64) -> Reply {
        Reply::Parts(vec![ByteRange::new(from, to, 1_000).unwrap()])
    }

    #[test]
    fn the_table_of_rfc_9110() {
        use Reply::{NotModified, PreconditionFailed, Unsatisfiable, Whole};
        let range = ("range", "bytes=0-4");
        let rows: Vec<(Vec<(&'static str, &str)>, Reply)> = vec![
            (vec![], Whole),
            (vec![range], part(0, 5)),
            (vec![("range", "bytes=0-")], part(0, 1_000)),
            (vec![("range", "bytes=1000-")], Unsatisfiable),
            (vec![("range", "bytes=4-0")], Whole),
            (vec![("range", "items=0-4")], Whole),
            (vec![range, range], part(0, 5)),
            (vec![range, ("range", "bytes=0-5")], part(0, 6)),
            (vec![range, ("range", "bytes=1000-")], Unsatisfiable),
            (vec![("range", "bytes=5-"), ("range", "bytes=7-"), ("range", "bytes=9-")], part(9, 1_000)),
            (vec![range, ("range", "nonsense")], Whole),
            (vec![("if-match", TAG)], Whole),
            (vec![("if-match", "*")], Whole),
            (vec![("if-match", "\"x\", \"abc\""), range], part(0, 5)),
            (vec![("if-match", "W/\"abc\"")], PreconditionFailed),
            (vec![("if-match", "\"x\"")], PreconditionFailed),
            (vec![("if-match", TAG), ("if-unmodified-since", EARLIER)], Whole),
            (vec![("if-match", "\"x\""), ("if-none-match", TAG)], PreconditionFailed),
            (vec![("if-unmodified-since", OURS)], Whole),
            (vec![("if-unmodified-since", LATER)], PreconditionFailed),
            (vec![("if-unmodified-since", EARLIER)], PreconditionFailed),
            (vec![("if-unmodified-since", "yesterday")], Whole),
            (vec![("if-none-match", TAG)], NotModified),
            (vec![("if-none-match", "W/\"abc\"")], NotModified),
            (vec![("if-none-match", "\"a,b\", \"abc\"")], NotModified),
            (vec![("if-none-match", "*")], NotModified),
            (vec![("if-none-match", "\"x\"")], Whole),
            (vec![("if-none-match", "\"x\""), ("if-modified-since", OURS)], Whole),
            (vec![("if-modified-since", OURS)], NotModified),
            (vec![("if-modified-since", LATER)], Whole),
            (vec![("if-modified-since", EARLIER)], Whole),
            (vec![("if-modified-since", "0")], Whole),
            (vec![("if-none-match", TAG), range], NotModified),
            (vec![("if-range", TAG), range], part(0, 5)),
            (vec![("if-range", "W/\"abc\""), range], Whole),
            (vec![("if-range", "\"x\""), range], Whole),
            (vec![("if-range", OURS), range], part(0, 5)),
            (vec![("if-range", LATER), range], Whole),
            (vec![("if-range", "\"x\""), ("range", "bytes=5000-")], Whole),
            (vec![("if-range", TAG)], Whole),
        ];
        for (fields, expected) in rows {
            assert_eq!(reply(Method::GET, &fields), expected, "{fields:?}");
        }
        assert_eq!(reply(Method::HEAD, &[range]), Whole, "a range is for GET alone");
        assert_eq!(reply(Method::HEAD, &[("if-none-match", TAG)]), NotModified);
    }
}
