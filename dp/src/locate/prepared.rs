//! What is said of a point in every answer, worded once.

use std::net::SocketAddr;

use super::Point;

/// Of one point.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The beginning of it in an answer, up to the digest at the end of its address.
    text: Vec<u8>,
    /// Where its address begins in that.
    address_at: usize,
    /// By this it is sorted among equals.
    pub hash: u64,
}

impl Prepared {
    pub fn of(point: &Point) -> Self {
        let mut text = b"{\"kind\":\"distribution-point\",\"name\":".to_vec();
        string(&mut text, &[&point.name]);
        let address_at = text.len();
        text.extend_from_slice(b",\"url\":");
        match point.as_asked {
            true => string(&mut text, &["content/"]),
            false => string(&mut text, &[&point.url, "/content/"]),
        }
        // The digest follows in the same string.
        text.pop();
        Self { text, address_at, hash: hash(point.url.bytes()) }
    }

    /// `{"kind":…,"name":…`.
    pub fn named(&self) -> &[u8] {
        &self.text[..self.address_at]
    }

    /// `{"kind":…,"name":…,"url":"…/content/`.
    pub fn addressed(&self) -> &[u8] {
        &self.text
    }
}

/// FNV-1a.
pub(super) fn hash(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// The same of an address.
pub(super) fn hash_of(address: SocketAddr) -> u64 {
    let port = address.port().to_be_bytes();
    match address {
        SocketAddr::V4(v4) => hash(v4.ip().octets().into_iter().chain(port)),
        SocketAddr::V6(v6) => hash(v6.ip().octets().into_iter().chain(port)),
    }
}

/// Appends these parts as one string of JSON, as `serde_json` writes it.
pub(super) fn string(out: &mut Vec<u8>, parts: &[&str]) {
    out.push(b'"');
    parts.iter().for_each(|part| escaped(out, part));
    out.push(b'"');
}

fn escaped(out: &mut Vec<u8>, text: &str) {
    let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x09 => out.extend_from_slice(b"\\t"),
            0x0a => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            0x0d => out.extend_from_slice(b"\\r"),
            byte if byte < 0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            byte => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn strings_are_those_of_serde_json(first in any::<String>(), second in "[\\x00-\\x7f]{0,40}") {
            let mut out = Vec::new();
            string(&mut out, &[&first, &second]);
            prop_assert_eq!(out, serde_json::to_vec(&(first + &second)).unwrap());
        }
    }

    #[test]
    fn a_point_is_worded_once() {
        let prepared = Prepared::of(&Point::new("a \"b\"", "http://a:8530/"));
        let expected = r#"{"kind":"distribution-point","name":"a \"b\"","url":"http://a:8530/content/"#;
        assert_eq!(String::from_utf8_lossy(prepared.addressed()), expected);
        assert_eq!(prepared.named(), br#"{"kind":"distribution-point","name":"a \"b\"""#);
        let as_asked = Prepared::of(&Point { as_asked: true, ..Point::new("a", "http://localhost:8530") });
        assert_eq!(as_asked.addressed(), br#"{"kind":"distribution-point","name":"a","url":"content/"#);
    }
}
