//! Who may have private content. From outside, what one may not have looks exactly like what is not there (threat T4).

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use catalog::digest::Sha256Digest;
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

/// Decides who may have private content. Asked on every request for it, whatever name it is asked for by.
pub trait Gate: Send + Sync {
    /// Whether who shows this token, from there, may. It compares secrets in constant time and does not wait.
    fn may(&self, token: Option<&str>, client: IpAddr) -> bool;
}

/// Nobody may: how it is until somebody decides.
pub(super) struct Shut;

impl Gate for Shut {
    fn may(&self, _: Option<&str>, _: IpAddr) -> bool {
        false
    }
}

/// Keys of devices and points of a site, by their SHA-256: a copy in memory of what the database has.
#[derive(Debug, Default)]
pub struct Keys(ArcSwap<HashSet<Sha256Digest>>);

impl Keys {
    /// These are valid from now on, and no others.
    pub fn replace(&self, hashes: impl IntoIterator<Item = Sha256Digest>) {
        self.0.store(Arc::new(hashes.into_iter().collect()));
    }
}

impl Gate for Keys {
    /// Which digest is found takes the same time whatever the token: who could measure it would learn about a digest, and
    /// digests of tokens cannot be steered.
    fn may(&self, token: Option<&str>, _: IpAddr) -> bool {
        token.is_some_and(|token| self.0.load().contains(&Sha256Digest::of(token.as_bytes())))
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
pub(super) fn may(gate: &dyn Gate, access: Access, head: &Parts, client: IpAddr) -> bool {
    access == Access::Public || gate.may(bearer(&head.headers), client.to_canonical())
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
    fn a_key_counts_until_it_is_revoked() {
        let (keys, client) = (Keys::default(), IpAddr::from([127, 0, 0, 1]));
        assert!(!keys.may(Some("a"), client));
        keys.replace([Sha256Digest::of(b"a"), Sha256Digest::of(b"b")]);
        assert!(keys.may(Some("a"), client) && keys.may(Some("b"), client));
        assert!(!keys.may(Some("c"), client) && !keys.may(Some(""), client) && !keys.may(None, client));
        keys.replace([Sha256Digest::of(b"b")]);
        assert!(!keys.may(Some("a"), client) && keys.may(Some("b"), client));
    }

    #[test]
    fn without_a_gate_nobody_has_private_content() {
        let head =
            http::Request::builder().header("authorization", "Bearer x").body(()).unwrap().into_parts().0;
        let client = IpAddr::from([127, 0, 0, 1]);
        assert!(may(&Shut, Access::Public, &head, client));
        assert!(!may(&Shut, Access::Private, &head, client));
    }
}
