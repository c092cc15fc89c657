//! One call of an update server: SOAP there, an answer or the reason for none back.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use catalog::digest::Sha1Digest;
use catalog::id::RevisionId;
use catalog::limits::Limits;
use catalog::problem::{Code, Coded as _, Problem};
use catalog::server_sync::{Operation, Request, Response, SERVICE_PATH, content_path};
use dp::transfer::fault::Fault;
use dp::transfer::web::{Outgoing, Reply, Web};
use tokio::sync::{Semaphore, SemaphorePermit};
use url::Url;

use super::read;
use super::step::{Answer, Hope};
use crate::config::{Settings, Source, SourceKind};
use crate::upstream::Webs;

/// Root of Microsoft's own chain of certificates, which no Linux has. SHA-1 8F43288AD272F3103B6FB1428485EA3014C0BCFE.
pub const MICROSOFT_ROOT: &[u8] = include_bytes!("microsoft_root_2011.pem");

/// The most bytes of an answer to a call for several documents. Windows stops at two million; who sends more is asked for
/// fewer at a time.
const SEVERAL_BYTES: u64 = 16 << 20;
/// The most bytes of any other answer: one document of 47 MB as escaped text, or a list of 800,000 revisions.
const MOST_BYTES: u64 = 128 << 20;
/// Answers that are unpacked and parsed at once. Each may hold one of the large documents.
const READERS: usize = 2;

/// An update server, and how it is reached.
#[derive(Clone)]
pub struct Server {
    /// Name of the source.
    pub name: String,
    /// Its root, with a slash at the end.
    pub root: Url,
    web: Arc<Web>,
    /// Where it has its own content; several places are tried in turn.
    content: Vec<Url>,
    timeout: Duration,
    limits: Limits,
    pub(super) several_bytes: u64,
    readers: Arc<Semaphore>,
    /// Answers that may be large come one at a time.
    large: Arc<Semaphore>,
}

/// How a call ended.
#[derive(Debug)]
pub struct Called {
    /// The answer.
    pub answer: Answer,
    /// The server's clock, milliseconds since 1970.
    pub server_time: Option<i64>,
    /// Bytes of the answer.
    pub bytes: u64,
}

/// What a call is made with, beside the request.
pub struct Call {
    /// What to ask.
    pub request: Request,
    /// Where the authorization service is, below the root.
    pub authorization: String,
    /// The server has content of its own.
    pub has_content: bool,
}

impl Server {
    /// The update server of `source`.
    ///
    /// # Errors
    /// `CONFIG_INVALID` where it has no address, `PLAIN_HTTP_REFUSED`, and those of setting up connections.
    pub fn of(settings: &Settings, webs: &Webs, source: &Source) -> Result<Self, Problem> {
        let root = root(source)?;
        if root.scheme() != "https" && !settings.sync.allow_plain_http {
            let text = format!("metadata of source `{}` would come from {root} over plain HTTP", source.name);
            return Err(Problem::new(Code::PlainHttpRefused, text));
        }
        let extra: &[&[u8]] = match source.kind {
            SourceKind::MicrosoftUpdate => &[MICROSOFT_ROOT],
            SourceKind::EsdCatalog | SourceKind::Wsus | SourceKind::Import => &[],
        };
        Ok(Self {
            name: source.name.clone(),
            content: content_roots(source, &root),
            web: webs.update_server(settings, source, extra)?,
            root,
            timeout: settings.sync.request_timeout,
            limits: Limits { document_bytes: MOST_BYTES, ..Limits::default() },
            several_bytes: SEVERAL_BYTES,
            readers: Arc::new(Semaphore::new(READERS)),
            large: Arc::new(Semaphore::new(1)),
        })
    }

    /// Asks. Whatever happens is an answer, also that there is none.
    pub async fn call(&self, call: Call) -> Called {
        let operation = call.request.operation();
        let asked = match &call.request {
            Request::GetUpdateData { ids, .. } => ids.clone(),
            _ => Vec::new(),
        };
        let (reply, _alone) = self.post(operation, &call, asked.len()).await;
        match reply {
            Err(fault) => Called { answer: self.failed(operation, &fault), server_time: None, bytes: 0 },
            Ok(reply) => {
                let (bytes, server_time) = (reply.body.len() as u64, reply.server_time.map(|at| at * 1000));
                let content = if call.has_content { self.content.clone() } else { Vec::new() };
                let answer = self.read(operation, reply, asked, content).await;
                Called { answer, server_time, bytes }
            }
        }
    }

    /// Sends and receives. A single document may be large, and so may a list: those come one at a time, for as long as
    /// what is answered beside the reply is kept.
    async fn post(
        &self,
        operation: Operation,
        call: &Call,
        documents: usize,
    ) -> (Result<Reply, Fault>, Option<SemaphorePermit<'_>>) {
        if documents > 0 {
            let reply = self.post_within(operation, call, self.several_bytes).await;
            if documents > 1 || !matches!(reply, Err(Fault::TooLong { .. })) {
                return (reply, None);
            }
        }
        // It is never closed; and if it were, memory would be all that is lost.
        let alone = self.large.acquire().await.ok();
        (self.post_within(operation, call, MOST_BYTES).await, alone)
    }

    async fn post_within(&self, operation: Operation, call: &Call, most: u64) -> Result<Reply, Fault> {
        let path = match operation {
            Operation::GetAuthorizationCookie => &call.authorization,
            _ => SERVICE_PATH,
        };
        let url = self.root.join(path).map_err(|error| Fault::Failed(error.to_string()))?;
        let message = Outgoing {
            content_type: "text/xml; charset=utf-8",
            soap_action: &operation.action(),
            body: &Bytes::from(call.request.write()),
            deadline: self.timeout,
        };
        self.web.post(&url, message, most).await
    }

    async fn read(
        &self,
        operation: Operation,
        reply: Reply,
        asked: Vec<RevisionId>,
        content: Vec<Url>,
    ) -> Answer {
        let limits = self.limits;
        let status = reply.status;
        let turn = self.readers.clone().acquire_owned().await;
        let read = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let response = Response::read(operation, &reply.body, &limits)?;
            // Documents of 47 MB: the message is not needed any more when they are unpacked.
            drop(reply);
            Ok(match response {
                Err(fault) => Answer::Fault(fault),
                Ok(Response::UpdateData(data)) => {
                    Answer::Documents(read::documents(data, &asked, &content, &limits))
                }
                Ok(other) => Answer::Said(other),
            })
        })
        .await;
        match read {
            Ok(Ok(answer)) => answer,
            // A page of a proxy or of a server that restarts; only a fault is an answer with this status.
            Ok(Err(_)) if status == 500 => {
                self.failed(operation, &Fault::Failed("status 500 without a SOAP fault".to_owned()))
            }
            Ok(Err(error)) => {
                let error: catalog::server_sync::MessageError = error;
                // Of a document these would be other words; here it is the answer that is none.
                let code = match error.code() {
                    Code::CatalogMalformed | Code::CatalogTruncated => Code::ProtocolMalformed,
                    code => code,
                };
                let problem = self.about(code, operation).because(error.to_string());
                let problem = problem.because_of(std::error::Error::source(&error));
                Answer::Broken { problem: Box::new(problem), hope: Hope::Smaller }
            }
            Err(died) => {
                let problem = Box::new(Problem::of(Code::Internal, &died));
                Answer::Broken { problem, hope: Hope::Smaller }
            }
        }
    }

    fn failed(&self, operation: Operation, fault: &Fault) -> Answer {
        let code = match fault {
            Fault::Busy { .. } => Code::UpstreamBusy,
            other => other.code(),
        };
        let problem = Box::new(self.about(code, operation).because(fault.to_string()));
        Answer::Broken { problem, hope: hope(fault) }
    }

    fn about(&self, code: Code, operation: Operation) -> Problem {
        Problem::new(code, format!("{} of {} failed", operation.name(), self.root))
    }
}

/// What asking again can do about a fault.
fn hope(fault: &Fault) -> Hope {
    match fault {
        Fault::Busy { retry_after, .. } => Hope::Busy(*retry_after),
        Fault::Unreachable(_) | Fault::Failed(_) | Fault::Coded(_) => Hope::Later,
        Fault::Stalled | Fault::CutShort { .. } => Hope::Smaller,
        Fault::TooLong { .. } => Hope::Halves,
        _ => Hope::None,
    }
}

/// The root of an update server, with a slash at its end.
///
/// # Errors
/// `CONFIG_INVALID`.
pub fn root(source: &Source) -> Result<Url, Problem> {
    let invalid = || {
        let text = format!("source `{}` has no address: `{}`", source.name, catalog::xml::shown(&source.url));
        Problem::new(Code::ConfigInvalid, text)
    };
    with_slash(source.server().ok_or_else(invalid)?).ok_or_else(invalid)
}

fn with_slash(mut url: Url) -> Option<Url> {
    let path = format!("{}/", url.path().trim_end_matches('/'));
    url.set_path(&path);
    url.set_query(None);
    url.set_fragment(None);
    url.has_host().then_some(url)
}

/// Where the update servers of the configuration have a file that a document names, as they are reached now: they say no
/// places of their own, so one that has moved or was added has it all the same. Servers without content answer that it is not
/// there.
pub fn places<'s>(settings: &'s Settings, sha1: Sha1Digest, file_name: &str) -> Vec<(&'s Source, Url)> {
    let path = content_path(sha1, file_name);
    let of = |source: &'s Source| {
        let roots = root(source).map(|root| content_roots(source, &root)).unwrap_or_default();
        let path = path.clone();
        roots.into_iter().filter_map(move |root| Some((source, root.join(&path).ok()?)))
    };
    settings.sources.iter().flat_map(of).collect()
}

/// Where an update server has its own content. Of one that is asked over HTTPS that is, on Windows, plain HTTP at the port
/// below, and the same port where it was set up otherwise. Microsoft tells where its files are.
fn content_roots(source: &Source, root: &Url) -> Vec<Url> {
    if source.kind != SourceKind::Wsus {
        return Vec::new();
    }
    if !source.content_url.is_empty() {
        return Url::parse(&source.content_url).ok().and_then(with_slash).into_iter().collect();
    }
    let below = || {
        let mut plain = root.clone();
        plain.set_scheme("http").ok()?;
        // 443 has no number of its own to subtract from: it stands beside 80.
        let port = match root.port_or_known_default()? {
            443 => 80,
            port => port.checked_sub(1)?,
        };
        plain.set_port(Some(port)).ok()?;
        Some(plain)
    };
    let plain = if root.scheme() == "https" { below() } else { None };
    plain.into_iter().chain([root.clone()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wsus(url: &str, content_url: &str) -> Source {
        Source {
            kind: SourceKind::Wsus,
            url: url.to_owned(),
            content_url: content_url.to_owned(),
            ..Source::default()
        }
    }

    #[test]
    fn content_is_beside_the_service() {
        for (url, content_url, expected) in [
            ("http://wsus:8530", "", vec!["http://wsus:8530/"]),
            ("https://wsus:8531/", "", vec!["http://wsus:8530/", "https://wsus:8531/"]),
            ("https://wsus", "", vec!["http://wsus/", "https://wsus/"]),
            ("https://wsus:8531", "http://files:80/updates", vec!["http://files/updates/"]),
        ] {
            let source = wsus(url, content_url);
            let root = root(&source).unwrap();
            let actual: Vec<_> = content_roots(&source, &root).into_iter().map(String::from).collect();
            assert_eq!(actual, expected, "{url}");
        }
        let microsoft = Source { kind: SourceKind::MicrosoftUpdate, ..Source::default() };
        assert_eq!(content_roots(&microsoft, &root(&microsoft).unwrap()), []);
    }

    #[test]
    fn a_file_is_at_every_server_where_that_is_now() {
        let sha1 = Sha1Digest([0xab; 20]);
        let named = |name: &str, source: Source| Source { name: name.to_owned(), ..source };
        let mut settings = Settings::default();
        settings.sources = vec![
            named("one", wsus("http://one:8530", "")),
            named("mu", Source { kind: SourceKind::MicrosoftUpdate, ..Source::default() }),
            named("esd", Source { kind: SourceKind::EsdCatalog, ..Source::default() }),
            named("two", wsus("https://two:8531", "http://files/updates")),
            named("odd", wsus("", "")),
        ];
        let found = places(&settings, sha1, "a.ESD");
        let found: Vec<_> = found.iter().map(|(source, url)| (source.name.as_str(), url.as_str())).collect();
        let path = format!("Content/AB/{}.esd", "AB".repeat(20));
        let (one, two) = (format!("http://one:8530/{path}"), format!("http://files/updates/{path}"));
        assert_eq!(found, [("one", one.as_str()), ("two", two.as_str())]);
    }

    #[test]
    fn plain_http_is_refused_unless_it_is_allowed() {
        let mut settings = Settings::default();
        let refused = Server::of(&settings, &Webs::new(), &wsus("http://127.0.0.1:8530", ""));
        assert_eq!(refused.err().map(|problem| problem.code), Some(Code::PlainHttpRefused));
        settings.sync.allow_plain_http = true;
        assert!(Server::of(&settings, &Webs::new(), &wsus("http://127.0.0.1:8530", "")).is_ok());
        let none = Server::of(&settings, &Webs::new(), &wsus("", ""));
        assert_eq!(none.err().map(|problem| problem.code), Some(Code::ConfigInvalid));
    }

    #[test]
    fn the_root_of_microsoft_is_the_one_that_was_published() {
        use base64::Engine as _;
        use sha1::Digest as _;
        let text = std::str::from_utf8(MICROSOFT_ROOT).unwrap();
        let base64: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
        let certificate = base64::engine::general_purpose::STANDARD.decode(base64).unwrap();
        let sha1 = Sha1Digest(sha1::Sha1::digest(&certificate).into()).to_string();
        assert_eq!(sha1, "8f43288ad272f3103b6fb1428485ea3014c0bcfe");
        let microsoft = Source { kind: SourceKind::MicrosoftUpdate, ..Source::default() };
        assert!(Server::of(&Settings::default(), &Webs::new(), &microsoft).is_ok(), "and it is used");
    }
}
