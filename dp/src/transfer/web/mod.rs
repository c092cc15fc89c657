//! HTTP as a fetcher of foreign files needs it: guarded addresses, few redirects, no coding, no endless answers.
//!
//! A [`Web`] belongs to one source and holds its [`WebPolicy`]: every hop of every request is checked against it,
//! names where they are resolved, addresses before they are asked.

mod answer;
mod body;
mod call;
mod exchange;
mod guard;
mod trust;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use catalog::problem::{Code, Coded};
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED,
    LOCATION, RANGE,
};
use http::{HeaderName, StatusCode};
use ipnet::IpNet;
use tokio::time::timeout;
use tracing::warn;
use url::Url;

pub use self::body::Body;
pub use self::call::{Outgoing, Reached, Reply};
pub use self::exchange::{Bearer, Exchange, as_folder};
pub use self::guard::is_public;
use self::guard::{Guard, GuardedResolver};
use super::fault::Fault;
use super::machine::Answer;

/// Redirects that are followed before a source is given up.
const MOST_REDIRECTS: usize = 10;

/// How requests leave this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum Proxy {
    /// Directly.
    #[default]
    None,
    /// As `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy` say. The proxy resolves the names of what is
    /// fetched through it, so it has to guard its networks itself.
    System,
    /// Through this one; what is said of [`Proxy::System`] holds too.
    Url(Url),
}

/// What one source may make us do.
#[derive(Debug, Clone)]
pub struct WebPolicy {
    /// Networks that are not public and yet may be reached, on any hop.
    pub allow_networks: Vec<IpNet>,
    /// Hosts that the operator named: they may be anywhere.
    pub trusted_hosts: HashSet<String>,
    /// Hosts to which redirects may lead, `*.example.com` for all below one; `None` for any.
    pub redirect_hosts: Option<Vec<String>>,
    /// Further roots of trust, a PEM file.
    pub extra_ca_file: Option<PathBuf>,
    /// Further roots of trust, each in PEM.
    pub extra_roots: Vec<&'static [u8]>,
    /// A key, shown to one place only.
    pub bearer: Option<Bearer>,
    /// The way out.
    pub proxy: Proxy,
    /// The address of this machine from which connections are made; any if not given.
    pub local_address: Option<IpAddr>,
    /// The longest that a connection may take to stand.
    pub connect_timeout: Duration,
    /// The longest pause inside an answer, and before its head.
    pub stall_timeout: Duration,
    /// Bytes per second below which an answer counts as stalled.
    pub least_rate: u64,
    /// The longest that a small document may take in all.
    pub document_deadline: Duration,
    /// The name by which we introduce ourselves.
    pub user_agent: String,
    /// Only what is there already is asked for (`Cache-Control: only-if-cached`, RFC 9111 section 5.2.1.7).
    pub only_if_cached: bool,
}

impl Default for WebPolicy {
    fn default() -> Self {
        Self {
            allow_networks: Vec::new(),
            trusted_hosts: HashSet::new(),
            redirect_hosts: None,
            extra_ca_file: None,
            extra_roots: Vec::new(),
            bearer: None,
            proxy: Proxy::None,
            local_address: None,
            connect_timeout: Duration::from_secs(15),
            stall_timeout: Duration::from_secs(30),
            least_rate: 1024,
            document_deadline: Duration::from_secs(300),
            user_agent: concat!("spsync/", env!("CARGO_PKG_VERSION")).to_owned(),
            only_if_cached: false,
        }
    }
}

/// Why a [`Web`] could not be made.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The file of further roots.
    #[error("failed to read the certificates in `{path}`")]
    ReadAuthority {
        /// The file named.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its contents.
    #[error("`{path}` has no certificate that can be used (PEM is expected)")]
    Authority {
        /// The file named.
        path: PathBuf,
        /// Why, where the reader said so.
        source: Option<reqwest::Error>,
    },
    /// The address of a proxy.
    #[error("`{proxy}` cannot be used as a proxy")]
    Proxy {
        /// The address named.
        proxy: Url,
        /// Why.
        source: reqwest::Error,
    },
    /// Anything else.
    #[error("failed to prepare the HTTP client")]
    Prepare(#[source] reqwest::Error),
}

impl Coded for WebError {
    fn code(&self) -> Code {
        match self {
            Self::ReadAuthority { .. } => Code::ConfigUnreadable,
            Self::Authority { .. } | Self::Proxy { .. } => Code::ConfigInvalid,
            Self::Prepare(_) => Code::Internal,
        }
    }
}

/// What came of asking for a document.
#[derive(Debug, Clone)]
pub enum Small {
    /// The whole of it.
    Body {
        /// The document.
        bytes: Bytes,
        /// Where it was found, after redirects.
        final_url: Url,
        /// Its entity tag, strong or weak, to ask with next time.
        etag: Option<String>,
        /// Its `Last-Modified`, as it stood there.
        last_modified: Option<String>,
    },
    /// It is still the one with the entity tag that was given (304).
    NotModified,
}

/// An answer whose body is still to come.
pub struct Opened {
    /// What will come.
    pub answer: Answer,
    /// The bytes.
    pub body: Body,
}

/// Whether a redirect may lead from https to http.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Downgrade {
    Accepted,
    Refused,
}

/// A client for one source.
pub struct Web {
    client: reqwest::Client,
    guard: Arc<Guard>,
    policy: WebPolicy,
}

impl Web {
    /// A client that keeps to `policy`. Reads the file of further roots.
    ///
    /// # Errors
    /// That file or the proxy cannot be used.
    pub fn new(policy: WebPolicy) -> Result<Self, WebError> {
        // Another part of the process may have installed it before, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let guard = Arc::new(Guard {
            allow_networks: policy.allow_networks.clone(),
            trusted_hosts: policy.trusted_hosts.clone(),
            proxy_hosts: proxy_hosts(&policy.proxy),
        });
        let roots = extra_roots(&policy)?;
        let trusting = builder(&policy, &guard)?;
        let platform = match trust::of_this_machine().filter(|_| roots.is_empty()) {
            Some(known) => trusting.tls_backend_preconfigured(known).build(),
            None => trusting.tls_certs_merge(roots.clone()).build(),
        };
        let client = match platform {
            Err(error) if roots.is_empty() => {
                // A machine without any root can still fetch by http; https fails as untrusted, one by one.
                warn!("no roots of trust: {error}");
                builder(&policy, &guard)?.tls_certs_only([]).build()
            }
            made => made,
        };
        Ok(Self { client: client.map_err(WebError::Prepare)?, guard, policy })
    }

    /// Fetches a document of at most `cap_bytes`, unless it still has the entity tag `known`. Never leaves https once
    /// there, and takes no longer than the policy's deadline in all.
    ///
    /// # Errors
    /// The first fault; nothing is tried twice.
    pub async fn get_small(&self, url: &Url, cap_bytes: u64, known: Option<&str>) -> Result<Small, Fault> {
        let deadline = self.policy.document_deadline;
        timeout(deadline, self.get_unhurried(url, cap_bytes, known)).await.unwrap_or(Err(Fault::Stalled))
    }

    /// A body of at most `cap_bytes`.
    async fn whole(&self, response: reqwest::Response, cap_bytes: u64) -> Result<Bytes, Fault> {
        let too_long = || Fault::TooLong { limit: cap_bytes };
        if response.content_length().is_some_and(|length| length > cap_bytes) {
            return Err(too_long());
        }
        let mut bytes = Vec::new();
        let mut body = self.body(response, 0);
        while let Some(more) = body.next().await? {
            if (bytes.len() + more.len()) as u64 > cap_bytes {
                return Err(too_long());
            }
            bytes.extend_from_slice(&more);
        }
        Ok(bytes.into())
    }

    async fn get_unhurried(&self, url: &Url, cap_bytes: u64, known: Option<&str>) -> Result<Small, Fault> {
        let mut headers = HeaderMap::new();
        put(&mut headers, IF_NONE_MATCH, known);
        let (response, final_url) = self.follow(url, headers, Downgrade::Refused).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if known.is_some() => return Ok(Small::NotModified),
            status => return Err(answer::fault_of_status(status, response.headers())),
        }
        answer::check_coding(response.headers(), response.url().path())?;
        let text = |name| answer::field(response.headers(), name).map(str::to_owned);
        let (etag, last_modified) = (text(ETAG), text(LAST_MODIFIED));
        let bytes = self.whole(response, cap_bytes).await?;
        Ok(Small::Body { bytes, final_url, etag, last_modified })
    }

    /// Asks for a file's bytes from `from` on, with `if_range` as a condition (RFC 9110 section 13.1.5). Where
    /// `from` is 0 the whole is asked for, without a range. The bytes will be checked by a digest, so a redirect may
    /// lead from https to http.
    ///
    /// # Errors
    /// The fault that came instead of an answer.
    pub async fn open(&self, url: &Url, from: u64, if_range: Option<&str>) -> Result<Opened, Fault> {
        self.open_part(url, from, None, if_range).await
    }

    /// The same, for the bytes before `until` only, where that is given.
    ///
    /// # Errors
    /// The fault that came instead of an answer.
    pub async fn open_part(
        &self,
        url: &Url,
        from: u64,
        until: Option<u64>,
        if_range: Option<&str>,
    ) -> Result<Opened, Fault> {
        let mut headers = HeaderMap::new();
        let last = until.map(|until| until.saturating_sub(1).to_string());
        if from > 0 || last.is_some() {
            put(&mut headers, RANGE, Some(&format!("bytes={from}-{}", last.as_deref().unwrap_or_default())));
            put(&mut headers, IF_RANGE, if_range);
        }
        let (response, _) = self.follow(url, headers, Downgrade::Accepted).await?;
        answer::check_coding(response.headers(), response.url().path())?;
        let etag = answer::strong_etag(response.headers());
        let (answer, offset) = match response.status() {
            StatusCode::OK => (Answer::Whole { total: response.content_length(), etag }, 0),
            StatusCode::PARTIAL_CONTENT => match answer::content_range(response.headers()) {
                Some((offset, total)) => (Answer::From { offset, total, etag }, offset),
                None => {
                    let actual = "a part without a place".to_owned();
                    return Err(Fault::WrongRange { expected: from, actual });
                }
            },
            StatusCode::RANGE_NOT_SATISFIABLE if from > 0 || until.is_some() => {
                (Answer::NothingThere { total: answer::unsatisfied_total(response.headers()) }, 0)
            }
            status => return Err(answer::fault_of_status(status, response.headers())),
        };
        Ok(Opened { answer, body: self.body(response, offset) })
    }

    fn body(&self, response: reqwest::Response, from: u64) -> Body {
        Body::new(response, from, self.policy.stall_timeout, self.policy.least_rate)
    }

    /// Asks, and asks again where a redirect leads, each hop checked like the first.
    async fn follow(
        &self,
        start: &Url,
        headers: HeaderMap,
        downgrade: Downgrade,
    ) -> Result<(reqwest::Response, Url), Fault> {
        let patience = self.policy.connect_timeout + self.policy.stall_timeout;
        let mut url = start.clone();
        for _ in 0..=MOST_REDIRECTS {
            if !matches!(url.scheme(), "http" | "https") {
                return Err(Fault::SchemeNotAllowed(url.scheme().to_owned()));
            }
            self.guard.check_literal(&url)?;
            let mut headers = headers.clone();
            if self.policy.only_if_cached {
                headers.insert(CACHE_CONTROL, HeaderValue::from_static("only-if-cached"));
            }
            Bearer::show(self.policy.bearer.as_ref(), &url, &mut headers);
            let request = self
                .client
                .get(url.clone())
                .headers(headers)
                .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            let response = timeout(patience, request.send())
                .await
                .map_err(|_| Fault::Stalled)?
                .map_err(|error| answer::fault_of_error(&error, self.policy.connect_timeout))?;
            match redirect(&response) {
                None => return Ok((response, url)),
                Some(to) => url = self.checked_redirect(&url, to, downgrade)?,
            }
        }
        Err(Fault::TooManyRedirects { limit: MOST_REDIRECTS })
    }

    fn checked_redirect(&self, from: &Url, to: &str, downgrade: Downgrade) -> Result<Url, Fault> {
        let mut to =
            from.join(to).map_err(|error| Fault::Failed(format!("redirects to no address: {error}")))?;
        if !matches!(to.scheme(), "http" | "https") {
            return Err(Fault::SchemeNotAllowed(to.scheme().to_owned()));
        }
        // A redirect neither names credentials for us nor inherits those of the first address.
        let _ = to.set_username("");
        let _ = to.set_password(None);
        to.set_fragment(None);
        let host = to.host_str().unwrap_or_default();
        let refuse = |why| Err(Fault::RedirectNotAllowed { to: format!("{}://{host}", to.scheme()), why });
        if from.scheme() == "https" && to.scheme() == "http" && downgrade == Downgrade::Refused {
            return refuse("which would leave https");
        }
        match &self.policy.redirect_hosts {
            Some(hosts) if !hosts.iter().any(|pattern| names(pattern, host)) => {
                refuse("a host that is not on the list")
            }
            _ => Ok(to),
        }
    }
}

/// Whether `pattern` (a host, or `*.` and a host) names `host`.
pub fn names(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) if suffix.starts_with('.') => {
            host.len() > suffix.len()
                && host.is_char_boundary(host.len() - suffix.len())
                && host[host.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
        }
        _ => host.eq_ignore_ascii_case(pattern),
    }
}

/// Where an answer sends us, if it does.
fn redirect(response: &reqwest::Response) -> Option<&str> {
    let redirects = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    if redirects { answer::field(response.headers(), LOCATION) } else { None }
}

/// Sets a field whose text came from elsewhere; one that cannot stand in a head is left out.
fn put(headers: &mut HeaderMap, name: HeaderName, value: Option<&str>) {
    if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
        headers.insert(name, value);
    }
}

fn builder(policy: &WebPolicy, guard: &Arc<Guard>) -> Result<reqwest::ClientBuilder, WebError> {
    let builder = reqwest::Client::builder()
        .user_agent(&policy.user_agent)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(policy.connect_timeout)
        .pool_max_idle_per_host(4)
        .local_address(policy.local_address)
        .dns_resolver(Arc::new(GuardedResolver(Arc::clone(guard))));
    Ok(match &policy.proxy {
        Proxy::None => builder.no_proxy(),
        Proxy::System => builder,
        Proxy::Url(url) => {
            let proxy = reqwest::Proxy::all(url.clone())
                .map_err(|source| WebError::Proxy { proxy: url.clone(), source })?;
            builder.proxy(proxy)
        }
    })
}

fn extra_roots(policy: &WebPolicy) -> Result<Vec<reqwest::Certificate>, WebError> {
    let mut roots = Vec::new();
    for pem in &policy.extra_roots {
        roots.extend(reqwest::Certificate::from_pem_bundle(pem).map_err(WebError::Prepare)?);
    }
    let Some(path) = policy.extra_ca_file.clone() else { return Ok(roots) };
    let pem = match fs::read(&path) {
        Ok(pem) => pem,
        Err(source) => return Err(WebError::ReadAuthority { path, source }),
    };
    match reqwest::Certificate::from_pem_bundle(&pem) {
        Ok(more) if more.is_empty() => Err(WebError::Authority { path, source: None }),
        Ok(more) => {
            roots.extend(more);
            Ok(roots)
        }
        Err(source) => Err(WebError::Authority { path, source: Some(source) }),
    }
}

/// The hosts of the proxies in use: the operator named them, so they may be anywhere.
fn proxy_hosts(proxy: &Proxy) -> HashSet<String> {
    let host = |url: &Url| url.host_str().map(str::to_owned);
    match proxy {
        Proxy::None => HashSet::new(),
        Proxy::Url(url) => host(url).into_iter().collect(),
        Proxy::System => ["http_proxy", "https_proxy", "all_proxy"]
            .iter()
            .flat_map(|name| [name.to_string(), name.to_uppercase()])
            .filter_map(|name| std::env::var(name).ok())
            .filter_map(|text| Url::parse(&text).or_else(|_| Url::parse(&format!("http://{text}"))).ok())
            .filter_map(|url| host(&url))
            .collect(),
    }
}
