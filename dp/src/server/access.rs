//! Who may have private content. From outside, what one may not have looks exactly like what is not there.

use std::net::IpAddr;

use http::request::Parts;
use http::{HeaderMap, header};
use serde::{Deserialize, Serialize};

/// For whom content is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// For everybody who knows its digest.
    #[default]
    Public,
    /// For devices and points of the site, by their keys.
    Private,
}

impl Access {
    /// By what is recorded of content.
    pub fn of(private: bool) -> Self {
        if private { Self::Private } else { Self::Public }
    }

    /// `Cache-Control` of what never changes: it may be kept, but what is private by no cache that others share.
    pub(super) fn caching(self) -> &'static str {
        match self {
            Self::Public => "public, max-age=31536000, immutable",
            Self::Private => "private, max-age=31536000, immutable",
        }
    }

    /// The same of a name that stands for other content tomorrow: whoever has kept it asks each time whether it still is the same.
    pub(super) fn caching_by_name(self) -> &'static str {
        match self {
            Self::Public => "public, no-cache",
            Self::Private => "private, no-cache",
        }
    }
}

/// Who asks, and whether others on the way can read what is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    /// The address that the connection comes from.
    pub address: IpAddr,
    /// It came over TLS.
    pub secure: bool,
}

/// Decides who may have private content. Asked on every request for it, whatever name it is asked for by.
pub trait Gate: Send + Sync {
    /// Whether who shows this token, from there, may. It compares secrets in constant time and does not wait.
    fn may(&self, token: Option<&str>, asker: Asker) -> bool;
}

/// Nobody may: how it is until somebody decides.
pub(super) struct Shut;

impl Gate for Shut {
    fn may(&self, _: Option<&str>, _: Asker) -> bool {
        false
    }
}

/// The longest token that is looked at.
const LONGEST_TOKEN: usize = 512;

/// The bearer token of a request (RFC 6750 section 2.1); none where several fields contradict each other.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    let (field, second) = (fields.next()?, fields.next());
    let (scheme, token) = field.to_str().ok()?.split_once(' ')?;
    let token = token.trim_matches(' ');
    let fits =
        (1..=LONGEST_TOKEN).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
    (second.is_none() && scheme.eq_ignore_ascii_case("bearer") && fits).then_some(token)
}

/// Whether a request may have content of this access.
pub(super) fn may(gate: &dyn Gate, access: Access, head: &Parts, asker: Asker) -> bool {
    let asker = Asker { address: asker.address.to_canonical(), ..asker };
    access == Access::Public || gate.may(bearer(&head.headers), asker)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn one_bearer_token_is_read_and_nothing_else() {
        let long = format!("Bearer {}", "a".repeat(513));
        for (fields, expected) in [
            (&["Bearer abc"][..], Some("abc")),
            (&["bearer  abc "], Some("abc")),
            (&["BEARER a.b-c_d~e+f/g="], Some("a.b-c_d~e+f/g=")),
            (&[], None),
            (&["Bearer"], None),
            (&["Bearer "], None),
            (&["Basic abc"], None),
            (&["abc"], None),
            (&["Bearer a b"], None),
            (&["Bearer a\tb"], None),
            (&[&long], None),
            (&["Bearer a", "Bearer a"], None),
            (&["Basic x", "Bearer a"], None),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(header::AUTHORIZATION, HeaderValue::from_str(field).unwrap());
            }
            assert_eq!(bearer(&headers), expected, "{fields:?}");
        }
    }

    #[test]
    fn without_a_gate_nobody_has_private_content() {
        let head =
            http::Request::builder().header("authorization", "Bearer x").body(()).unwrap().into_parts().0;
        let client = Asker { address: IpAddr::from([127, 0, 0, 1]), secure: true };
        assert!(may(&Shut, Access::Public, &head, client));
        assert!(!may(&Shut, Access::Private, &head, client));
    }
}
