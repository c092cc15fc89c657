//! The roots of trust of this machine, read when the first certificate is to be judged, and once for many connections: reading some
//! 140 certificates takes longer than a small transfer. A client that asks a site, a peer and a point makes a [`super::Web`] for
//! each, and where all of them speak plain HTTP none is read.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use rustls_platform_verifier::Verifier;

/// After this long they are read again: an administrator may have changed them.
const BELIEVED: Duration = Duration::from_secs(60);

static KNOWN: Mutex<Option<(Instant, ClientConfig)>> = Mutex::new(None);

/// TLS that trusts what this machine trusts; `None` where it cannot be made at all. A machine without roots trusts nobody.
pub(super) fn of_this_machine() -> Option<ClientConfig> {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, config)) = known.as_ref().filter(|(made, _)| made.elapsed() < BELIEVED) {
        return Some(config.clone());
    }
    let provider = CryptoProvider::get_default()?.clone();
    let verifier = Arc::new(WhenNeeded { provider: provider.clone(), read: OnceLock::new() });
    let config = trusting(provider, verifier)?;
    *known = Some((Instant::now(), config.clone()));
    Some(config)
}

fn trusting(provider: Arc<CryptoProvider>, verifier: Arc<dyn ServerCertVerifier>) -> Option<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    let mut config = builder
        .dangerous() // its name for any verifier but its own
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Some(config)
}

/// The verifier of this machine, made when it is needed.
#[derive(Debug)]
struct WhenNeeded {
    provider: Arc<CryptoProvider>,
    read: OnceLock<Result<Verifier, Error>>,
}

impl WhenNeeded {
    fn verifier(&self) -> Result<&Verifier, Error> {
        self.read.get_or_init(|| Verifier::new(self.provider.clone())).as_ref().map_err(Clone::clone)
    }
}

impl ServerCertVerifier for WhenNeeded {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verifier()?.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_read_when_a_certificate_is_judged_and_not_before() {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Arc::new(WhenNeeded { provider: provider.clone(), read: OnceLock::new() });
        let config = trusting(provider, verifier.clone()).unwrap();
        assert!(!verifier.supported_verify_schemes().is_empty());
        assert!(verifier.read.get().is_none());
        // That of an authority which nobody trusts, of a client's handshake as it goes on.
        let key = rcgen::generate_simple_self_signed(["site.example".to_owned()]).unwrap();
        let name = ServerName::try_from("site.example").unwrap();
        let judged = verifier.verify_server_cert(key.cert.der(), &[], &name, &[], UnixTime::now());
        assert!(judged.is_err() && verifier.read.get().is_some());
        drop(config);
    }
}
