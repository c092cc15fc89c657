//! Certificates for distribution points: signed by the site's authority, for hosts that the operator gave the point.
//!
//! What a point asks names a key and nothing else, and proves that it has it: a point whose machine was taken over can ask for
//! no other name than its own.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use catalog::problem::{Code, Problem};
use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use schema::points::PointRow;
use tracing::info;
use url::Url;

use super::wire::{CertificateAnswer, CertificateRequest, certificate_proof};
use crate::clock;
use crate::site::Site;
use crate::tls;

/// The key of a point: bytes of P-256 as they stand in a certificate.
struct PointKey(Vec<u8>);

impl PublicKeyData for PointKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// Hosts by which clients reach a point, the one over TLS first; none where there is nobody to sign for them.
pub(super) fn hosts(has_authority: bool, point: &PointRow) -> Vec<String> {
    if !has_authority {
        return Vec::new();
    }
    let host = |url: &String| {
        let url = Url::parse(url).ok()?;
        Some(url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_owned())
    };
    let mut hosts: Vec<_> = [&point.tls_url, &point.url].into_iter().filter_map(host).collect();
    hosts.dedup();
    hosts
}

/// A certificate for what `body` asks; `None` where that is no request, or does not prove that the key is the point's.
///
/// # Errors
/// `TLS_NOT_SET_UP`, `TLS_INVALID`, those of the database.
pub(super) async fn signed(
    site: &Arc<Site>,
    point: &PointRow,
    body: &[u8],
) -> Result<Option<CertificateAnswer>, Problem> {
    let Some(key) = proven(&point.name, body) else { return Ok(None) };
    let settings = site.settings();
    let hosts = hosts(tls::has_authority(&settings), point);
    if hosts.is_empty() {
        return Err(Problem::new(Code::TlsNotSetUp, "the site has no certificate authority"));
    }
    let (signed, authority) = tls::sign_for(&settings, &hosts, &key, clock::now())?;
    let (who, object) = (format!("point {}", point.name), hosts.join(" "));
    info!("{who} has a certificate for {object} until {}", signed.about.until);
    site.write_shared(move |w| w.audit(&who, "tls.point", &object, clock::now())).await?;
    Ok(Some(CertificateAnswer { signed, authority }))
}

fn proven(point: &str, body: &[u8]) -> Option<PointKey> {
    let asked: CertificateRequest = serde_json::from_slice(body).ok()?;
    let key = STANDARD.decode(&asked.public_key).ok()?;
    let proof = STANDARD.decode(&asked.proof).ok()?;
    let said = certificate_proof(point, &asked.public_key);
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &key).verify(said.as_bytes(), &proof).ok()?;
    Some(PointKey(key))
}

#[cfg(test)]
mod tests {
    use rcgen::KeyPair;

    use super::*;
    use crate::point::certificate::certificate_request;

    #[test]
    fn only_who_has_a_key_gets_a_certificate_for_it() {
        let key = KeyPair::generate().unwrap();
        let request = certificate_request("lyon", &key).unwrap();
        let body = |request: &CertificateRequest| serde_json::to_vec(request).unwrap();
        assert_eq!(proven("lyon", &body(&request)).unwrap().0, key.public_key_raw());
        assert!(proven("rome", &body(&request)).is_none(), "what another point said");
        let other = certificate_request("lyon", &KeyPair::generate().unwrap()).unwrap();
        let stolen = CertificateRequest { public_key: other.public_key, ..request.clone() };
        assert!(proven("lyon", &body(&stolen)).is_none(), "somebody else's key");
        let odd = CertificateRequest { public_key: STANDARD.encode([4; 65]), ..request };
        assert!(proven("lyon", &body(&odd)).is_none());
        for wrong in [&b""[..], b"{}", br#"{"public_key":"*","proof":"*"}"#] {
            assert!(proven("lyon", wrong).is_none());
        }
    }
}
