//! The roots of trust of this machine, read once for many connections: reading some 140 certificates takes longer than a small
//! transfer, and a client that asks a site, a peer and a point makes a [`super::Web`] for each.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use rustls_platform_verifier::Verifier;

/// After this long they are read again: an administrator may have changed them.
const BELIEVED: Duration = Duration::from_secs(60);

static KNOWN: Mutex<Option<(Instant, ClientConfig)>> = Mutex::new(None);

/// TLS that trusts what this machine trusts; `None` where it has no roots.
pub(super) fn of_this_machine() -> Option<ClientConfig> {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, config)) = known.as_ref().filter(|(read, _)| read.elapsed() < BELIEVED) {
        return Some(config.clone());
    }
    let config = read()?;
    *known = Some((Instant::now(), config.clone()));
    Some(config)
}

fn read() -> Option<ClientConfig> {
    let provider = CryptoProvider::get_default()?.clone();
    let verifier = Verifier::new(provider.clone()).ok()?;
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    let mut config = builder
        .dangerous() // its name for any verifier but its own
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Some(config)
}
