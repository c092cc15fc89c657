//! What the head of an HTTP answer means for a transfer.

use std::error::Error;
use std::io;
use std::time::{Duration, SystemTime};

use http::header::{CONTENT_ENCODING, CONTENT_RANGE, DATE, ETAG, HeaderName, RETRY_AFTER};
use http::{HeaderMap, StatusCode};

use super::guard::Blocked;
use crate::transfer::fault::Fault;

/// The text of a field, if it stands there once and can be read.
pub(super) fn field(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut all = headers.get_all(name).iter();
    let first = all.next()?.to_str().ok()?;
    if all.next().is_some() { None } else { Some(first.trim()) }
}

/// The entity tag, if it is a strong one: only such a tag promises the very same bytes (RFC 9110 section 8.8.1).
pub(super) fn strong_etag(headers: &HeaderMap) -> Option<String> {
    let etag = field(headers, ETAG)?;
    let quoted = etag.len() >= 2 && etag.starts_with('"') && etag.ends_with('"') && etag.len() <= 256;
    quoted.then(|| etag.to_owned())
}

/// Refuses an answer that is coded although we asked for none: its bytes are not the file's. But many servers say of a file whose name
/// ends with `.gz` that it is gzip: then they are.
pub(super) fn check_coding(headers: &HeaderMap, path: &str) -> Result<(), Fault> {
    let is_zipped = path.rsplit_once('.').is_some_and(|(_, last)| last.eq_ignore_ascii_case("gz"));
    let lines = headers.get_all(CONTENT_ENCODING).iter().map(|line| String::from_utf8_lossy(line.as_bytes()));
    let said = lines.collect::<Vec<_>>().join(",");
    let codings: Vec<String> = said
        .split(',')
        .map(|coding| coding.trim().to_ascii_lowercase())
        .filter(|coding| !matches!(coding.as_str(), "" | "identity"))
        .collect();
    match codings.as_slice() {
        [] => Ok(()),
        [one] if is_zipped && matches!(one.as_str(), "gzip" | "x-gzip") => Ok(()),
        _ => Err(Fault::Coded(catalog::xml::shown(&said))),
    }
}

/// The fault in a status that brings no content.
pub(super) fn fault_of_status(status: StatusCode, headers: &HeaderMap) -> Fault {
    match status.as_u16() {
        404 | 410 => Fault::NotFound(format!("status {}", status.as_u16())),
        status @ (408 | 429 | 503) => Fault::Busy { status, retry_after: retry_after(headers) },
        400..=499 | 507 => Fault::Refused(format!("status {}", status.as_u16())),
        other => Fault::Failed(format!("status {other}")),
    }
}

/// `Retry-After` in seconds, or as a date, which is compared with the answer's own `Date`: the clocks of
/// two machines need not agree (RFC 9110 section 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = field(headers, RETRY_AFTER)?;
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::from(u32::MAX))));
    }
    let date = |text| -> Option<SystemTime> { httpdate::parse_http_date(text).ok() };
    let (until, now) = (date(text)?, date(field(headers, DATE)?)?);
    Some(until.duration_since(now).unwrap_or_default())
}

/// `Date`, in seconds since 1970.
pub(super) fn server_time(headers: &HeaderMap) -> Option<i64> {
    let date = httpdate::parse_http_date(field(headers, DATE)?).ok()?;
    i64::try_from(date.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs()).ok()
}

/// `Content-Range: bytes FIRST-LAST/TOTAL` (RFC 9110 section 14.4): the first offset and the total, if known.
pub(super) fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let (part, total) = after_unit(field(headers, CONTENT_RANGE)?)?.split_once('/')?;
    let (first, last) = part.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    let total = match total {
        "*" => None,
        total => Some(number(total)?),
    };
    (first <= last && total.is_none_or(|total| last < total)).then_some((first, total))
}

/// `Content-Range: bytes */TOTAL`, as a 416 has it.
pub(super) fn unsatisfied_total(headers: &HeaderMap) -> Option<u64> {
    number(after_unit(field(headers, CONTENT_RANGE)?)?.strip_prefix("*/")?)
}

fn after_unit(text: &str) -> Option<&str> {
    let (unit, rest) = text.split_once(' ')?;
    unit.eq_ignore_ascii_case("bytes").then_some(rest)
}

/// Digits only: `parse` would take a sign.
fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// The fault behind a failed request.
pub(super) fn fault_of_error(error: &reqwest::Error, patience: Duration) -> Fault {
    let causes = causes(error);
    for cause in &causes {
        if let Some(Blocked { host, address }) = cause.downcast_ref() {
            return Fault::NetworkNotAllowed { host: host.clone(), address: *address };
        }
        match cause.downcast_ref() {
            Some(rustls::Error::InvalidCertificate(why)) => return Fault::Untrusted(why.to_string()),
            Some(why @ rustls::Error::NoCertificatesPresented) => return Fault::Untrusted(why.to_string()),
            _ => {}
        }
        if let Some(error) = cause.downcast_ref::<hyper::Error>()
            && error.is_parse()
        {
            return Fault::Failed(format!("its answer is not HTTP: {error}"));
        }
    }
    let deepest = causes.last().map_or_else(|| error.to_string(), ToString::to_string);
    match error {
        error if error.is_timeout() && error.is_connect() => {
            Fault::Unreachable(format!("no connection within {} seconds", patience.as_secs()))
        }
        error if error.is_timeout() => Fault::Stalled,
        _ => Fault::Unreachable(deepest),
    }
}

/// An error and all that is behind it. An [`io::Error`] hides the error that it wraps from its own `source`.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    let mut found = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        found.push(error);
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &'a (dyn Error + 'static)),
            None => error.source(),
        };
    }
    found
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn head(fields: &[(HeaderName, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn content_ranges_are_read_strictly() {
        for (text, expected) in [
            ("bytes 5-9/10", Some((5, Some(10)))),
            ("Bytes 5-9/*", Some((5, None))),
            ("bytes 0-18446744073709551614/18446744073709551615", Some((0, Some(u64::MAX)))),
            ("bytes 9-5/10", None),
            ("bytes 5-10/10", None),
            ("bytes +5-9/10", None),
            ("bytes 5-9/18446744073709551616", None),
            ("bytes */10", None),
            ("bytes=5-9/10", None),
            ("items 5-9/10", None),
            ("bytes 5-9", None),
            ("", None),
        ] {
            assert_eq!(content_range(&head(&[(CONTENT_RANGE, text)])), expected, "{text}");
        }
        assert_eq!(unsatisfied_total(&head(&[(CONTENT_RANGE, "bytes */10")])), Some(10));
        assert_eq!(unsatisfied_total(&head(&[(CONTENT_RANGE, "bytes 5-9/10")])), None);
    }

    #[test]
    fn only_strong_entity_tags_count() {
        for (text, strong) in
            [("\"a\"", true), ("W/\"a\"", false), ("a", false), ("\"", false), ("\"a", false)]
        {
            assert_eq!(strong_etag(&head(&[(ETAG, text)])).is_some(), strong, "{text}");
        }
        let mut two = head(&[(ETAG, "\"a\"")]);
        two.append(ETAG, HeaderValue::from_static("\"b\""));
        assert_eq!(strong_etag(&two), None);
    }

    #[test]
    fn a_status_is_a_fault_of_its_kind() {
        let fault = |status| fault_of_status(StatusCode::from_u16(status).unwrap(), &HeaderMap::new());
        assert!(matches!(fault(404), Fault::NotFound(_)));
        assert!(matches!(fault(410), Fault::NotFound(_)));
        assert!(matches!(fault(403), Fault::Refused(_)));
        assert!(matches!(fault(407), Fault::Refused(_)));
        assert!(matches!(fault(507), Fault::Refused(_)), "it has no room now, nor in a moment");
        assert!(matches!(fault(500), Fault::Failed(_)));
        assert!(matches!(fault(304), Fault::Failed(_)));
        for status in [408, 429, 503] {
            assert_eq!(fault(status), Fault::Busy { status, retry_after: None });
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_on_the_servers_own_clock() {
        let wait = |fields: &[_]| retry_after(&head(fields)).map(|wait| wait.as_secs());
        const NOW: (HeaderName, &str) = (DATE, "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(wait(&[(RETRY_AFTER, "120")]), Some(120));
        assert_eq!(wait(&[(RETRY_AFTER, "99999999999999999999999")]), Some(u64::from(u32::MAX)));
        assert_eq!(wait(&[NOW, (RETRY_AFTER, "Sun, 06 Nov 1994 08:50:37 GMT")]), Some(60));
        assert_eq!(wait(&[NOW, (RETRY_AFTER, "Sun, 06 Nov 1994 08:00:00 GMT")]), Some(0));
        assert_eq!(wait(&[(RETRY_AFTER, "Sun, 06 Nov 1994 08:50:37 GMT")]), None);
        assert_eq!(wait(&[(RETRY_AFTER, "-1")]), None);
    }

    #[test]
    fn a_coded_answer_is_refused() {
        for (path, codings, taken) in [
            ("/a.cab", &[][..], true),
            ("/a.cab", &["Identity"], true),
            ("/a.cab", &[""], true),
            ("/a.cab", &["", " , identity"], true),
            ("/a.cab", &["gzip"], false),
            ("/a.cab", &["identity", "gzip"], false),
            ("/a.cab", &["br"], false),
            ("/a.xml.gz", &["gzip"], true),
            ("/A.XML.GZ", &["X-GZip"], true),
            ("/a.xml.gz", &["gzip, gzip"], false),
            ("/a.xml.gz", &["gzip", "gzip"], false),
            ("/a.xml.gz", &["deflate"], false),
            ("/a.gz/b", &["gzip"], false),
            ("/gz", &["gzip"], false),
        ] {
            let mut headers = HeaderMap::new();
            for coding in codings {
                headers.append(CONTENT_ENCODING, HeaderValue::from_static(coding));
            }
            let expected = match codings.join(",") {
                _ if taken => Ok(()),
                joined => Err(Fault::Coded(joined)),
            };
            assert_eq!(check_coding(&headers, path), expected, "{path} {codings:?}");
        }
    }
}
