//! The upstream's own links as sources: of hosts on the operator's list alone, wherever a redirect leads.

use std::path::PathBuf;
use std::sync::Arc;

use catalog::problem::Problem;
use dp::transfer::web::{Proxy, Web, WebPolicy, names};
use dp::transfer::{At, Source, SourceKind};
use ipnet::IpNet;
use url::Url;

use crate::config::Settings;

/// Upstreams on the internet, by an allow-list of hosts. Every hop is checked: its host by the list, the addresses that the
/// host resolves to by being public, or in a network that the operator named.
pub(super) struct Cloud {
    hosts: Vec<String>,
    web: Arc<Web>,
}

impl Cloud {
    /// None where no host is allowed.
    ///
    /// # Errors
    /// Those of the certificates.
    pub(super) fn of(settings: &Settings) -> Result<Option<Self>, Problem> {
        let (dp, proxy) = (&settings.dp, settings.download.proxy());
        Self::new(&dp.cloud_hosts, &dp.cloud_networks, settings.tls.extra_ca_file(), proxy)
    }

    fn new(
        hosts: &[String],
        networks: &[IpNet],
        extra_ca_file: Option<PathBuf>,
        proxy: Proxy,
    ) -> Result<Option<Self>, Problem> {
        if hosts.is_empty() {
            return Ok(None);
        }
        let policy = WebPolicy {
            allow_networks: networks.to_vec(),
            redirect_hosts: Some(hosts.to_vec()),
            extra_ca_file,
            proxy,
            ..WebPolicy::default()
        };
        Ok(Some(Self { hosts: hosts.to_vec(), web: Arc::new(Web::new(policy)?) }))
    }

    /// A link as a source, if its host is on the list.
    pub(super) fn source(&self, link: &str) -> Option<Source> {
        let url = Url::parse(link).ok()?;
        let host = url.host_str()?;
        let allowed = matches!(url.scheme(), "http" | "https") && self.hosts.iter().any(|it| names(it, host));
        let name = url.origin().ascii_serialization();
        allowed.then(|| Source { kind: SourceKind::Cloud, name, at: At::Url(url), web: self.web.clone() })
    }
}

#[cfg(test)]
mod tests {
    use catalog::problem::{Code, Coded as _};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    fn cloud(hosts: &[&str], networks: &[&str]) -> Option<Cloud> {
        let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let networks: Vec<IpNet> = networks.iter().map(|net| net.parse().expect("a network")).collect();
        Cloud::new(&hosts, &networks, None, Proxy::None).expect("connections")
    }

    /// A server that answers every request with this head; its address.
    async fn server(at: &str, head: String) -> String {
        let listener = TcpListener::bind(format!("{at}:0")).await.expect("loopback has a port");
        let address = listener.local_addr().expect("it listens");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(head.as_bytes()).await;
            }
        });
        format!("http://{address}/file.esd")
    }

    fn redirect(to: &str) -> String {
        format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    }

    async fn asked(cloud: &Cloud, link: &str) -> Result<(), Code> {
        let source = cloud.source(link).ok_or(Code::NetworkNotAllowed)?;
        let At::Url(url) = source.at else { unreachable!("a link is one") };
        source.web.open(&url, 0, None).await.map(drop).map_err(|fault| fault.code())
    }

    #[test]
    fn a_link_is_a_source_only_where_its_host_is_on_the_list() {
        assert!(cloud(&[], &["0.0.0.0/0"]).is_none(), "nothing is allowed unless something is named");
        let cloud = cloud(&["dl.example.com", "*.windowsupdate.com"], &[]).expect("hosts are named");
        for (link, expected) in [
            ("http://dl.example.com/a.esd", true),
            ("https://dl.example.com:8443/a.esd", true),
            ("http://b.dl.windowsupdate.com/a.esd", true),
            ("http://windowsupdate.com/a.esd", false),
            ("http://dl.example.com.evil.org/a.esd", false),
            ("http://evil.org/dl.example.com", false),
            ("http://dl.example.com@evil.org/", false),
            ("ftp://dl.example.com/a.esd", false),
            ("file:///etc/passwd", false),
            ("no address", false),
        ] {
            assert_eq!(cloud.source(link).is_some(), expected, "{link}");
        }
    }

    #[tokio::test]
    async fn a_redirect_leads_neither_off_the_list_nor_inside() {
        let end = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx".to_owned();
        let inside = server("127.0.0.2", end.clone()).await;
        let near = server("127.0.0.1", end).await;
        let to_inside = server("127.0.0.1", redirect(&inside)).await;
        let to_near = server("127.0.0.1", redirect(&near)).await;
        let named = cloud(&["127.0.0.1"], &["127.0.0.1/32"]).expect("a host is named");
        assert_eq!(asked(&named, &to_near).await, Ok(()));
        assert_eq!(asked(&named, &to_inside).await, Err(Code::RedirectNotAllowed), "a host off the list");
        // On the list, and yet at an address that was not named: by number, and by name.
        let both =
            cloud(&["127.0.0.1", "127.0.0.2", "localhost"], &["127.0.0.1/32"]).expect("hosts are named");
        assert_eq!(asked(&both, &to_inside).await, Err(Code::NetworkNotAllowed));
        let closed = cloud(&["localhost"], &[]).expect("a host is named");
        let by_name = near.replace("127.0.0.1", "localhost");
        assert_eq!(asked(&closed, &by_name).await, Err(Code::NetworkNotAllowed));
        let far = server("127.0.0.1", redirect("ftp://127.0.0.1/x")).await;
        assert_eq!(asked(&both, &far).await, Err(Code::SchemeNotAllowed));
    }
}
