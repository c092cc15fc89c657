//! The keys of this device, and where they may be shown.
//!
//! ```text
//! key          made by the device, shown to its site alone: it speaks for the device
//! content key  made from it one way, shown wherever private content is fetched: it opens content, and nothing else
//! ```
//! So a distribution point that is broken into learns nothing with which it could speak to the site as a device.

use std::fmt;

use catalog::digest::Sha256Digest;
use url::{Host, Url};

use crate::transfer::web::Bearer;

/// The key with which this device enrolled. It is in no message.
#[derive(Clone, PartialEq, Eq)]
pub struct DeviceKey(String);

impl DeviceKey {
    /// Takes the text of a key file.
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// For the site at `to`, if keys may be shown there.
    pub(super) fn shown_to(&self, to: &Url, plain: bool) -> Option<Bearer> {
        may_be_shown(to, plain).then(|| Bearer::new(to.clone(), &self.0)).flatten()
    }

    /// The content key for the place of `to`, if keys may be shown there.
    pub(super) fn for_content_at(&self, to: &Url, plain: bool) -> Option<Bearer> {
        may_be_shown(to, plain).then(|| Bearer::new(to.clone(), &content_key(&self.0))).flatten()
    }
}

/// The key that opens private content, of the device whose key is `key`: `spsync_content_` and the SHA-256 of
/// `spsync content key`, a line feed and the key. The key has 256 random bits, so a plain hash does not give it away.
pub fn content_key(key: &str) -> String {
    format!("spsync_content_{}", Sha256Digest::of(format!("spsync content key\n{key}").as_bytes()))
}

fn may_be_shown(to: &Url, plain: bool) -> bool {
    is_unread(to) || (to.scheme() == "http" && plain)
}

/// Whether nobody on the way to this address can read what is sent there: by TLS, or on this machine.
pub fn is_unread(to: &Url) -> bool {
    let here = match to.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        None => false,
    };
    to.scheme() == "https" || (to.scheme() == "http" && here)
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_shown_where_nobody_on_the_way_reads_it() {
        let key = DeviceKey::new(" spsync_secret\n");
        assert!(!format!("{key:?}").contains("secret"));
        for (to, plain, expected) in [
            ("https://site.example:8531/", false, true),
            ("http://127.0.0.1:8530/", false, true),
            ("http://127.9.9.9/", false, true),
            ("http://[::1]/", false, true),
            ("http://[::ffff:127.0.0.1]/", false, true),
            ("http://localhost/", false, true),
            ("http://10.0.0.1/", false, false),
            ("http://site.example/", false, false),
            ("http://localhost.example/", false, false),
            ("http://site.example/", true, true),
            ("ftp://127.0.0.1/", true, false),
            ("file:///etc/passwd", true, false),
        ] {
            let to = Url::parse(to).unwrap();
            assert_eq!(key.shown_to(&to, plain).is_some(), expected, "{to} {plain}");
            assert_eq!(key.for_content_at(&to, plain).is_some(), expected, "{to} {plain}");
        }
    }

    /// Sites know it by its hash, so it must stay what it is.
    #[test]
    fn the_content_key_follows_from_the_key_and_does_not_show_it() {
        let key = "spsync_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let content = content_key(key);
        assert_eq!(
            content,
            "spsync_content_6622c895a764b23933414f266198c27c0fb22ce628d2765ef670c20fc6bbfca1"
        );
        assert_ne!(content, content_key("spsync_BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"));
    }
}
