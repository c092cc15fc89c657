//! The head of a request, as far as it is looked at before anything else.

use http::request::Parts;
use http::uri::Authority;
use http::{Version, header};
use memchr::memchr_iter;

/// The bytes of a head as it was sent, but for odd white space. hyper's own limit is one of its buffer, which may hold
/// twice as much when the last piece arrives.
pub(super) fn head_bytes(head: &Parts) -> usize {
    let fields: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    head.method.as_str().len() + target + " HTTP/1.1\r\n\r\n".len() + fields
}

/// One `Host`, which only HTTP/1.0 may leave out (RFC 9112 section 3.2). Two of them are read differently by us and by
/// whoever stands before us.
pub(super) fn names_one_host(head: &Parts) -> bool {
    let mut hosts = head.headers.iter().filter(|(name, _)| **name == header::HOST);
    match (hosts.next(), hosts.next()) {
        (None, _) => head.version < Version::HTTP_11,
        (Some((_, host)), None) => {
            let host = host.as_bytes();
            host.is_empty() || is_plain_authority(host) || Authority::try_from(host).is_ok()
        }
        (Some(_), Some(_)) => false,
    }
}

/// Whether a host is a name or an IPv4 address, with a port or without: as nearly all are.
pub(super) fn is_plain_authority(host: &[u8]) -> bool {
    let (name, port) = match host.iter().position(|byte| *byte == b':') {
        Some(at) => (&host[..at], &host[at + 1..]),
        None => (host, &b"0"[..]),
    };
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    !name.is_empty()
        && name.iter().all(is_name)
        && (1..=5).contains(&port.len())
        && port.iter().all(u8::is_ascii_digit)
}

/// Whether it says that a body follows, or how it is coded. A length of 0 is none.
pub(super) fn announces_body(head: &Parts) -> bool {
    head.headers.iter().any(|(name, value)| {
        *name == header::TRANSFER_ENCODING || (*name == header::CONTENT_LENGTH && value != "0")
    })
}

/// The segments of a path, if there is room for them; how many there are.
pub(super) fn split<'p>(path: &'p str, segments: &mut [&'p str]) -> Option<usize> {
    let (mut count, mut start) = (0, 0);
    for end in memchr_iter(b'/', path.as_bytes()).chain([path.len()]) {
        *segments.get_mut(count)? = &path[start..end];
        (count, start) = (count + 1, end + 1);
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_way_takes_nothing_that_the_long_way_refuses() {
        for (host, plain) in [
            ("dp", true),
            ("dp.example.com:8530", true),
            ("127.0.0.1:80", true),
            ("[::1]:80", false),
            ("dp:", false),
            ("dp:80:80", false),
            (":80", false),
            ("user@dp", false),
            ("dp/x", false),
            ("d p", false),
        ] {
            assert_eq!(is_plain_authority(host.as_bytes()), plain, "{host}");
            assert!(!plain || Authority::try_from(host.as_bytes()).is_ok(), "{host}");
        }
    }

    #[test]
    fn a_path_is_split_where_there_is_room() {
        let mut segments = [""; 3];
        assert_eq!(split("content/ab", &mut segments), Some(2));
        assert_eq!(segments[..2], ["content", "ab"]);
        assert_eq!(split("a//b", &mut segments), Some(3));
        assert_eq!(segments, ["a", "", "b"]);
        assert_eq!(split("", &mut segments), Some(1));
        assert_eq!(split("a/", &mut segments), Some(2));
        assert_eq!(segments[..2], ["a", ""]);
        assert_eq!(split("a/b/c/d", &mut segments), None);
    }
}
