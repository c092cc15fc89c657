//! What the listeners show: read from the files of a certificate and its key, and renewed in time.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use catalog::problem::{Code, Problem};
use jiff::Timestamp;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tracing::error;

use super::{about, called, folder, has_authority, renew, waiting};
use crate::clock;
use crate::config::Settings;
use crate::site::Site;

/// How often it is looked at.
const LOOK: std::time::Duration = std::time::Duration::from_secs(3_600);

/// What listeners show, replaced whole.
pub type Identity = Arc<ArcSwap<ServerConfig>>;

/// Files of the certificate and its key: those that the operator names, or ours.
pub(super) fn files(settings: &Settings) -> (PathBuf, PathBuf) {
    let tls = &settings.tls;
    if tls.cert_file.is_empty() {
        (folder(settings).join("server.pem"), folder(settings).join("server.key"))
    } else {
        (PathBuf::from(&tls.cert_file), PathBuf::from(&tls.key_file))
    }
}

/// The same at the start. Certificate and key are two files: a machine that lost its power between their renames has a pair that does not fit
/// together, and the authority to make another.
///
/// # Errors
/// Those of [`identity`], where the files are somebody else's, or others may read the key.
pub fn identity_at_start(settings: &Settings, now: Timestamp) -> Result<ServerConfig, Problem> {
    match identity(settings) {
        Err(problem) if is_made_anew(settings) => {
            error!("{problem}: another certificate is made");
            renew(settings, &[], now).map_err(|cause| problem.because(cause.to_string()))?;
            identity(settings)
        }
        shown => shown,
    }
}

/// Whether the start makes another pair where this one cannot be used.
pub(crate) fn is_made_anew(settings: &Settings) -> bool {
    let (certificate, key) = files(settings);
    let is_ours = settings.tls.cert_file.is_empty() && has_authority(settings);
    is_ours && certificate.exists() && key.exists() && !others_may_read(&key)
}

/// Whether it may be read by anybody but us.
fn others_may_read(key: &Path) -> bool {
    mode(key) & 0o077 != 0
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).map(|found| found.mode()).unwrap_or_default()
}

/// What listeners show now.
///
/// # Errors
/// `TLS_NOT_SET_UP` where there is nothing, `TLS_INVALID` where it cannot be used, also because others may read the key.
pub fn identity(settings: &Settings) -> Result<ServerConfig, Problem> {
    let (certificate, key) = files(settings);
    identity_of(&certificate, &key).or_else(|problem| {
        let is_ours = settings.tls.cert_file.is_empty();
        let waits = Some(waiting(&key)).filter(|waiting| is_ours && waiting.exists());
        waits.and_then(|waiting| identity_of(&certificate, &waiting).ok()).ok_or(problem)
    })
}

fn identity_of(certificate: &Path, key: &Path) -> Result<ServerConfig, Problem> {
    if !certificate.exists() || !key.exists() {
        return Err(Problem::new(
            Code::TlsNotSetUp,
            format!("there is no `{}`, or no key of it", certificate.display()),
        ));
    }
    let refuse = |what: String| Problem::new(Code::TlsInvalid, what);
    if others_may_read(key) {
        let mode = mode(key) & 0o777;
        return Err(refuse(format!("`{}` may be read by others (mode {mode:o})", key.display())));
    }
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
    let chain = chain.map_err(|error| {
        refuse(format!("`{}` is no certificate", certificate.display())).because(error.to_string())
    })?;
    // The text of an error could hold a part of the key.
    let secret =
        PrivateKeyDer::from_pem_file(key).map_err(|_| refuse(format!("`{}` is no key", key.display())))?;
    configured(chain, secret).map_err(|error| {
        refuse(format!("`{}` cannot be used", certificate.display())).because(error.to_string())
    })
}

/// What is shown with this chain and this key.
pub(super) fn configured(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Lets running listeners show what the files hold now, and the site be asked by the names of that and no others.
///
/// # Errors
/// Those of [`identity`]; then they show what they did.
pub fn refresh(site: &Site) -> Result<(), Problem> {
    let settings = site.settings();
    if let Some(shown) = site.identity.get() {
        shown.store(Arc::new(identity(&settings)?));
    } else if settings.certificate_from_site() {
        let first = Arc::new(ArcSwap::from_pointee(identity(&settings)?));
        let _ = site.identity.set(first); // only ever set here once the listeners stand
    }
    site.called.store(Arc::new(called(&settings)));
    Ok(())
}

/// What a listener shows, as soon as there is anything; `None` where `stopped` comes before that. Until then connections
/// are closed: who has no certificate yet is out of reach.
pub async fn awaited(
    site: &Site,
    listener: &TcpListener,
    stopped: impl Future<Output = ()>,
) -> Option<Identity> {
    tokio::pin!(stopped);
    loop {
        if let Some(identity) = site.identity.get() {
            return Some(identity.clone());
        }
        tokio::select! {
            () = &mut stopped => return None,
            Ok(_) = listener.accept() => {}
            () = tokio::time::sleep(std::time::Duration::from_millis(500)) => {}
        }
    }
}

/// Renews in time, until `stopped`.
pub async fn keep_fresh(site: Arc<Site>, stopped: impl Future<Output = ()>) {
    tokio::pin!(stopped);
    loop {
        let settings = site.settings();
        let now = clock::now();
        let ours = settings.tls.cert_file.is_empty() && has_authority(&settings);
        let due = ours && matches!(about(&settings), Ok(Some(made)) if made.is_renewed(now));
        if due && let Err(problem) = renew(&settings, &[], now).and_then(|_| refresh(&site)) {
            error!("the certificate cannot be renewed: {problem}");
        }
        tokio::select! {
            () = &mut stopped => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}
