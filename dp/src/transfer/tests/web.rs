//! What a [`Web`] does and refuses to do.

use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use super::origin::read_head;
use super::*;
use crate::transfer::fault::Fault;
use crate::transfer::web::Small;

fn redirect_to(to: &str) -> Play {
    Play::Status(302, format!("location: {to}\r\n"))
}

#[tokio::test]
async fn redirects_are_followed_but_not_for_ever() {
    let origin = Origin::start(b"hello".to_vec(), &[redirect_to("/other#part"), Play::Well]).await;
    let web = web(loopback());
    let Ok(Small::Body { bytes, final_url, etag, .. }) = web.get_small(&origin.url(), 5, None).await else {
        panic!("a document was expected")
    };
    assert_eq!((&bytes[..], final_url.path(), etag.as_deref()), (&b"hello"[..], "/other", Some("\"tag\"")));
    let looping = Origin::start(Vec::new(), &[redirect_to("/file.esd")]).await;
    assert_eq!(
        web.get_small(&looping.url(), 5, None).await.unwrap_err(),
        Fault::TooManyRedirects { limit: 10 }
    );
    assert_eq!(looping.ranges().len(), 11);
}

#[tokio::test]
async fn no_hop_leads_into_a_network_that_was_not_named() {
    let inside = Origin::start_at("127.0.0.2:0", b"secret".to_vec(), &[Play::Well]).await;
    let web_for = |policy| web(policy);
    let ask = async |web: &Arc<Web>, url: &Url| web.get_small(url, 100, None).await.map(|_| ()).unwrap_err();
    let strict = web_for(loopback());
    assert!(matches!(ask(&strict, &inside.url()).await, Fault::NetworkNotAllowed { .. }));
    for place in ["127.0.0.2", "[::ffff:127.0.0.2]", "2130706434", "localhost.localdomain", "169.254.169.254"]
    {
        let to = format!("http://{place}:{}/", inside.address.port());
        let origin = Origin::start(Vec::new(), &[redirect_to(&to)]).await;
        let fault = ask(&strict, &origin.url()).await;
        let unknown_name = place.ends_with("localdomain") && matches!(fault, Fault::Unreachable(_));
        assert!(matches!(fault, Fault::NetworkNotAllowed { .. }) || unknown_name, "{place}: {fault}");
    }
    assert!(inside.ranges().is_empty(), "it was never reached");
}

#[tokio::test]
async fn a_name_is_checked_by_what_it_resolves_to() {
    let origin = Origin::start(b"x".to_vec(), &[Play::Well]).await;
    let named = Url::parse(&format!("http://localhost:{}/", origin.address.port())).unwrap();
    let closed = web(WebPolicy::default());
    assert!(matches!(
        closed.get_small(&named, 10, None).await.unwrap_err(),
        Fault::NetworkNotAllowed { host, .. } if host == "localhost"
    ));
    assert!(origin.ranges().is_empty());
    // Of `localhost`, only the address inside the named network is tried.
    assert!(web(loopback()).get_small(&named, 10, None).await.is_ok());
    let trusted = WebPolicy { trusted_hosts: ["localhost".to_owned()].into(), ..WebPolicy::default() };
    assert!(web(trusted).get_small(&named, 10, None).await.is_ok());
}

#[tokio::test]
async fn redirects_keep_to_the_list_of_hosts_and_to_http() {
    let listed = |hosts: &[&str]| {
        web(WebPolicy {
            redirect_hosts: Some(hosts.iter().map(|host| (*host).to_owned()).collect()),
            ..loopback()
        })
    };
    let target = Origin::start(b"x".to_vec(), &[Play::Well]).await;
    let origin = Origin::start(Vec::new(), &[redirect_to(target.url().as_str())]).await;
    assert!(listed(&["127.0.0.1"]).get_small(&origin.url(), 10, None).await.is_ok());
    let refused = listed(&["*.microsoft.com"]).get_small(&origin.url(), 10, None).await.unwrap_err();
    assert_eq!(refused.code(), Code::RedirectNotAllowed);
    for other in ["ftp://127.0.0.1/x", "file:///etc/passwd"] {
        let origin = Origin::start(Vec::new(), &[redirect_to(other)]).await;
        let refused = listed(&["127.0.0.1"]).get_small(&origin.url(), 10, None).await.unwrap_err();
        assert_eq!(refused.code(), Code::SchemeNotAllowed, "{other}");
    }
}

#[tokio::test]
async fn a_document_is_capped_timed_and_asked_for_once() {
    let web_of =
        |deadline| web(WebPolicy { document_deadline: Duration::from_millis(deadline), ..loopback() });
    let long = Origin::start(vec![7; 11], &[Play::Well, Play::TooLong(5 * MIB)]).await;
    for _ in 0..2 {
        let refused = web_of(5_000).get_small(&long.url(), 10, None).await.unwrap_err();
        assert_eq!(refused, Fault::TooLong { limit: 10 });
    }
    let stalling = Origin::start(vec![7; 10], &[Play::StallAfter(5)]).await;
    assert_eq!(web_of(100).get_small(&stalling.url(), 10, None).await.unwrap_err(), Fault::Stalled);
    let same = Origin::start(Vec::new(), &[Play::Status(304, String::new())]).await;
    let answer = web_of(5_000).get_small(&same.url(), 10, Some("W/\"v1\"")).await.unwrap();
    assert!(matches!(answer, Small::NotModified));
    assert_eq!(same.field("if-none-match"), ["w/\"v1\""]);
    assert!(web_of(5_000).get_small(&same.url(), 10, None).await.is_err(), "304 without a condition");
}

#[tokio::test]
async fn a_file_that_is_zipped_itself_may_be_labelled_so_and_no_other() {
    let origin = Origin::start(content(300), &[Play::Coded("gzip")]).await;
    let zipped = origin.url().join("/products.xml.gz").unwrap();
    let Ok(Small::Body { bytes, .. }) = web(loopback()).get_small(&zipped, 300, None).await else {
        panic!("many servers label such a file")
    };
    assert!(bytes == content(300), "as they came");
    let fault = web(loopback()).get_small(&origin.url(), 300, None).await.unwrap_err();
    assert_eq!(fault, Fault::Coded("gzip".to_owned()));
    assert_eq!(fault.code(), Code::SourceCoded);
}

#[tokio::test]
async fn a_trickle_is_a_stall() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move {
        let mut stream = BufReader::new(listener.accept().await.unwrap().0);
        read_head(&mut stream).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await.unwrap();
        while stream.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(50)).await;
        }
    });
    let policy = WebPolicy { stall_timeout: Duration::from_secs(1), ..loopback() };
    let began = Instant::now();
    assert_eq!(web(policy).get_small(&url, 2000, None).await.unwrap_err(), Fault::Stalled);
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn who_does_not_speak_tls_or_does_not_listen_is_unreachable() {
    let origin = Origin::start(Vec::new(), &[Play::Garbage]).await;
    let tls = Url::parse(&format!("https://{}/", origin.address)).unwrap();
    let fault = web(loopback()).get_small(&tls, 10, None).await.unwrap_err();
    assert_eq!(fault.code(), Code::SourceUnreachable, "{fault}");
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let closed = Url::parse(&format!("http://{free}/")).unwrap();
    let fault = web(loopback()).get_small(&closed, 10, None).await.unwrap_err();
    assert!(matches!(&fault, Fault::Unreachable(why) if why.contains("refused")), "{fault}");
}

/// A server that speaks TLS with a certificate of the test authority, and answers every request with `answer`.
fn tls_server(answer: &'static str) -> Url {
    use std::io::{Read as _, Write as _};

    use rustls_pki_types::pem::PemObject as _;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};

    let certificate = CertificateDer::from_pem_slice(include_bytes!("../web/testdata/server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("../web/testdata/server.key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let (config, listener) = (Arc::new(config), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let url = Url::parse(&format!("https://{}/", listener.local_addr().unwrap())).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream.unwrap());
            let mut head = [0; 4096];
            if stream.read(&mut head).is_ok() {
                let _ = stream.write_all(answer.as_bytes());
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    url
}

fn with_test_authority() -> WebPolicy {
    let authority = concat!(env!("CARGO_MANIFEST_DIR"), "/src/transfer/web/testdata/authority.pem");
    WebPolicy { extra_ca_file: Some(authority.into()), ..loopback() }
}

#[tokio::test]
async fn a_certificate_must_lead_to_a_root_that_we_trust() {
    let url = tls_server("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
    let fault = web(loopback()).get_small(&url, 10, None).await.unwrap_err();
    assert!(matches!(fault, Fault::Untrusted(_)), "{fault}");
    assert!(matches!(web(with_test_authority()).get_small(&url, 10, None).await, Ok(Small::Body { .. })));
}

#[tokio::test]
async fn a_document_never_leaves_https_but_content_with_a_digest_may() {
    const REDIRECT: &str = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n";
    let (url, web) = (tls_server(REDIRECT), web(with_test_authority()));
    let document = web.get_small(&url, 10, None).await.unwrap_err();
    assert_eq!(document.code(), Code::RedirectNotAllowed);
    let content = web.open(&url, 0, None).await.map(|_| ()).unwrap_err();
    assert_eq!(content.code(), Code::SourceUnreachable, "it went on to the discard port: {content}");
}

#[test]
fn a_bad_file_of_roots_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    let made = |path: &std::path::Path| {
        let policy = WebPolicy { extra_ca_file: Some(path.to_owned()), ..WebPolicy::default() };
        Web::new(policy).map(drop).unwrap_err()
    };
    assert_eq!(made(&path).code(), Code::ConfigUnreadable);
    std::fs::write(&path, "no certificate here").unwrap();
    assert_eq!(made(&path).code(), Code::ConfigInvalid);
}

#[test]
fn an_address_is_shown_without_its_credentials() {
    let at = At::Url(Url::parse("https://user:secret@mirror.example/a?b=c").unwrap());
    assert_eq!(at.to_string(), "https://mirror.example/a?b=c");
}
