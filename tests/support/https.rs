//! HTTPS with a private authority in front of anything that speaks HTTP on loopback.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// A port that speaks TLS, and hands on what it hears. It stops when it is dropped.
pub struct HttpsFront {
    address: SocketAddr,
    running: JoinHandle<()>,
}

impl HttpsFront {
    /// Speaks TLS before `plain`. Its certificate names `localhost` and `127.0.0.1`.
    ///
    /// # Panics
    /// Where no port can be had, or the certificate of the tests is broken.
    pub async fn before(plain: SocketAddr) -> Self {
        let certificate = CertificateDer::from_pem_file(testdata("server.pem")).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(testdata("server.key.pem")).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a certificate and its key");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it has an address");
        let running = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // Errors are the other side's going away, or its distrust.
                    let Ok(mut outside) = acceptor.accept(stream).await else { return };
                    let Ok(mut inside) = TcpStream::connect(plain).await else { return };
                    let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
                });
            }
        });
        Self { address, running }
    }

    /// Its root. No slash at its end.
    pub fn base_url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The file with the authority that vouches for it.
    pub fn authority() -> PathBuf {
        testdata("authority.pem")
    }
}

impl Drop for HttpsFront {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn testdata(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../dp/src/transfer/web/testdata").join(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Origin, http};

    #[tokio::test]
    async fn who_knows_the_authority_gets_through_and_nobody_else() {
        let origin = Origin::start().await.unwrap();
        let url = origin.publish_bytes("/x", "text/plain", b"hello".to_vec());
        let address = url.split('/').nth(2).unwrap().parse().unwrap();
        let front = HttpsFront::before(address).await;
        let url = format!("{}/x", front.base_url());
        assert!(http().get(&url).send().await.is_err());
        let authority = std::fs::read(HttpsFront::authority()).unwrap();
        let roots = reqwest::Certificate::from_pem_bundle(&authority).unwrap();
        let trusting = reqwest::Client::builder().no_proxy().tls_certs_only(roots).build().unwrap();
        assert_eq!(trusting.get(&url).send().await.unwrap().bytes().await.unwrap(), "hello");
    }
}
