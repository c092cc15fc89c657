//! The key of this device, and where it may be shown.

use std::fmt;

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

    /// For the place of `to`, if the key may be shown there.
    pub(super) fn shown_to(&self, to: &Url, plain: bool) -> Option<Bearer> {
        let shown = is_unread(to) || (to.scheme() == "http" && plain);
        shown.then(|| Bearer::new(to.clone(), &self.0)).flatten()
    }
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
        }
    }
}
