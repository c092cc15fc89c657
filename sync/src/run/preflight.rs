//! `spsync sync test`: every step on the way to every source, each tried and told, before anything is synchronised.
//!
//! ```text
//! update server: address ▶ proxy ▶ name ▶ connection ▶ TLS ▶ HTTP ▶ protocol ▶ clock
//! ESD catalog:   address ▶ proxy ▶ name ▶ connection ▶ TLS ▶ HTTP ▶ clock          or: file
//! ```
//! The first step that fails ends the way. Nothing is recorded.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use catalog::id::UpdateId;
use catalog::problem::{Code, Coded as _, Problem};
use dp::transfer::web::is_public;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use url::Url;

use super::servers::account_name;
use crate::blocking::blocking;
use crate::clock;
use crate::config::{Settings, Source, SourceKind};
use crate::find::nearest;
use crate::given::{self, Links};
use crate::site::Site;
use crate::upstream::esd_catalog;
use crate::upstream::server_sync::{Answer, Call, Server, Session, Standing, root};

/// The longest that a name or a connection may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Clocks that differ by more than so many seconds are worth a word.
const CLOCKS_DIFFER: i64 = 300;
/// Calls that get a cookie: four, of a server that does as it says.
const MOST_CALLS: usize = 8;

/// What came of trying the sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tested {
    /// Every step of every source is well.
    pub ok: bool,
    /// Each place of each source.
    pub sources: Vec<SourceTest>,
}

/// One place of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceTest {
    /// Name of the source.
    pub source: String,
    /// What it speaks.
    pub kind: SourceKind,
    /// Its address, or its file.
    pub location: String,
    /// Every step is well.
    pub ok: bool,
    /// The steps, as far as they went.
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// `address`, `proxy`, `name`, `connection`, `tls`, `http`, `protocol`, `clock` or `file`.
    pub step: String,
    /// It is well.
    pub ok: bool,
    /// It is well, and somebody should look at it.
    #[serde(default)]
    pub warning: bool,
    /// What was seen.
    pub detail: String,
    /// Why it is not well, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// Tries every source, or the one called `only`.
///
/// # Errors
/// `NO_CATALOG`, `NOT_FOUND`, and those of the database.
pub async fn test(site: &Arc<Site>, only: Option<&str>) -> Result<Tested, Problem> {
    let settings = site.settings();
    if settings.sources.is_empty() {
        return Err(Problem::new(Code::NoCatalog, "no source is configured"));
    }
    let wanted: Vec<&Source> =
        settings.sources.iter().filter(|source| only.is_none_or(|name| source.name == name)).collect();
    if let (true, Some(name)) = (wanted.is_empty(), only) {
        let near = nearest(name, settings.sources.iter().map(|source| source.name.as_str()));
        let text = format!("there is no source `{}`", catalog::xml::shown(name));
        return Err(Problem::new(Code::NotFound, text).help(format!("nearest: {}", near.join(", "))));
    }
    let mut sources = Vec::new();
    for source in wanted {
        let locations = match source.kind {
            SourceKind::EsdCatalog => esd_catalog::locations(source),
            SourceKind::MicrosoftUpdate | SourceKind::Wsus => {
                vec![source.server().map_or_else(|| source.url.clone(), String::from)]
            }
            // Nothing is ever asked of it: it says how files may be reached that documents name.
            SourceKind::Import => Vec::new(),
        };
        for location in locations {
            let mut way = Way { site, settings: &settings, source, steps: Vec::new() };
            // What ended it stands among the steps.
            let _ = way.go(&location).await;
            sources.push(SourceTest {
                source: source.name.clone(),
                kind: source.kind,
                location,
                ok: way.steps.iter().all(|step| step.ok),
                steps: way.steps,
            });
        }
    }
    Ok(Tested { ok: sources.iter().all(|source| source.ok), sources })
}

/// A step failed; it is written down already.
struct Ended;

/// The way to one place.
struct Way<'a> {
    site: &'a Arc<Site>,
    settings: &'a Settings,
    source: &'a Source,
    steps: Vec<Step>,
}

impl Way<'_> {
    async fn go(&mut self, location: &str) -> Result<(), Ended> {
        match self.source.kind {
            SourceKind::Import => Ok(()),
            SourceKind::EsdCatalog => match esd_catalog::address(location) {
                Ok(esd_catalog::Address::File(path)) => {
                    let path = path.to_owned();
                    let opened = move || {
                        given::open(&path, Links::Followed).map_err(|error| {
                            let text = format!("the catalog `{}` cannot be read", path.display());
                            Problem::new(Code::SourceNotFound, text).because_of(Some(&error))
                        })
                    };
                    let read = blocking(opened).await.map(|_| "it can be read".to_owned());
                    self.tell("file", read).map(drop)
                }
                Ok(esd_catalog::Address::Url(url)) => {
                    self.tell("address", Ok(url.to_string()))?;
                    self.catalog(&url).await
                }
                Err(problem) => self.tell("address", Err(problem)).map(drop),
            },
            SourceKind::MicrosoftUpdate | SourceKind::Wsus => {
                let server =
                    root(self.source).and_then(|_| Server::of(self.settings, &self.site.webs, self.source));
                let told = server.as_ref().map(|server| server.root.to_string()).map_err(Clone::clone);
                self.tell("address", told)?;
                match server {
                    Ok(server) => self.server(&server).await,
                    Err(_) => Err(Ended),
                }
            }
        }
    }

    fn tell(&mut self, step: &str, came: Result<String, Problem>) -> Result<(), Ended> {
        let (ok, detail, problem) = match came {
            Ok(detail) => (true, detail, None),
            Err(problem) => (false, problem.message.clone(), Some(problem)),
        };
        self.steps.push(Step { step: step.to_owned(), ok, warning: false, detail, problem });
        if ok { Ok(()) } else { Err(Ended) }
    }

    async fn catalog(&mut self, url: &Url) -> Result<(), Ended> {
        self.connection(url).await?;
        let web = self.site.webs.metadata(self.settings, self.source, url.host_str());
        let reached = match web {
            Ok(web) => web.reach(url).await.map_err(|fault| {
                Problem::new(fault.code(), format!("the catalog `{url}` did not come"))
                    .because(fault.to_string())
            }),
            Err(problem) => Err(problem),
        };
        self.tls(url, reached.as_ref().err())?;
        let told = reached.as_ref().map(|reached| {
            let length = reached.length.map_or_else(String::new, |length| format!(", {length} bytes"));
            format!("{}{length}", reached.final_url)
        });
        self.tell("http", told.map_err(Clone::clone))?;
        self.clock(reached.ok().and_then(|reached| reached.server_time));
        Ok(())
    }

    async fn server(&mut self, server: &Server) -> Result<(), Ended> {
        self.connection(&server.root).await?;
        let known = self.site.read(|r| r.known_server_account()).await;
        // Nothing is recorded, so one that is not known yet is made up.
        let guid = known.ok().flatten().unwrap_or_else(|| UpdateId(uuid::Uuid::new_v4()));
        let mut session = Session::new(account_name(self.site, self.source), guid);
        let mut server_time = None;
        for call in 0..MOST_CALLS {
            let now = clock::now().as_millisecond();
            if session.standing(now) == Standing::Good {
                break;
            }
            let request = session.request();
            let name = request.operation().name();
            let authorization = session.path().to_owned();
            let called = server.call(Call { request, authorization, has_content: false }).await;
            server_time = called.server_time.or(server_time);
            let answered = match called.answer {
                Answer::Said(response) => session.on(response, called.server_time, now),
                Answer::Fault(fault) => {
                    Err(Problem::new(Code::UpstreamFault, format!("{name} failed"))
                        .because(fault.to_string()))
                }
                Answer::Broken { problem, .. } => Err(*problem),
                Answer::Documents(_) => Err(Problem::new(Code::ProtocolMalformed, format!("{name} failed"))),
            };
            if call == 0 {
                self.tls(&server.root, answered.as_ref().err())?;
                let there = |problem: &&Problem| {
                    !matches!(problem.code, Code::UpstreamFault | Code::UpstreamIncompatible)
                };
                let http = answered.as_ref().err().filter(there).cloned();
                self.tell("http", http.map_or_else(|| Ok("the service answers".to_owned()), Err))?;
            }
            if let Err(problem) = answered {
                return self.tell("protocol", Err(problem));
            }
        }
        let config = session.config().ok_or_else(|| {
            Problem::new(Code::UpstreamCookie, format!("{} gives no cookie that is good", server.root))
        });
        let told = config.map(|config| {
            let version = config.protocol_version.as_deref().unwrap_or("not said");
            let languages = config.languages.len();
            let content = if config.catalog_only { "no content of its own" } else { "content of its own" };
            format!(
                "version {version}, {} revisions a call, {languages} languages, {content}",
                session.batch()
            )
        });
        self.tell("protocol", told)?;
        self.clock(server_time.map(|at| at / 1000));
        Ok(())
    }

    /// Proxy, name and connection.
    async fn connection(&mut self, url: &Url) -> Result<(), Ended> {
        let proxy = self.settings.download.proxy().of(url);
        let told = proxy.as_ref().map_or_else(|| "none".to_owned(), |proxy| shown(proxy).to_string());
        self.tell("proxy", Ok(told))?;
        let next = proxy.as_ref().unwrap_or(url);
        let (host, port) = (next.host_str().unwrap_or_default(), next.port_or_known_default().unwrap_or(80));
        let unreachable = |what: &str, why: String| {
            Problem::new(Code::SourceUnreachable, format!("{} {what}", shown(next))).because(why)
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let found = match timeout(PATIENCE, lookup_host((bare, port))).await {
            Ok(found) => found.map(Iterator::collect::<Vec<SocketAddr>>).map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {} seconds", PATIENCE.as_secs())),
        };
        let found = found.map_err(|why| unreachable("has no address", why));
        let allowed = found.and_then(|found| self.allowed(next, found, proxy.is_some()));
        let told = allowed
            .as_ref()
            .map(|all| all.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(", "));
        self.tell("name", told.map_err(Clone::clone))?;
        let mut last = unreachable("cannot be reached", "it has no address".to_owned());
        for address in allowed.unwrap_or_default() {
            match timeout(PATIENCE, TcpStream::connect(address)).await {
                Ok(Ok(_)) => return self.tell("connection", Ok(address.to_string())),
                Ok(Err(error)) => last = unreachable("cannot be reached", format!("{address}: {error}")),
                Err(_) => {
                    let why = format!("{address}: no answer within {} seconds", PATIENCE.as_secs());
                    last = unreachable("cannot be reached", why);
                }
            }
        }
        self.tell("connection", Err(last))
    }

    /// The addresses that the source may lead to. A proxy is named by the operator, and may be anywhere.
    fn allowed(&self, url: &Url, found: Vec<SocketAddr>, proxy: bool) -> Result<Vec<SocketAddr>, Problem> {
        let open = |address: &SocketAddr| {
            let ip = address.ip();
            let named = |net: &ipnet::IpNet| net.contains(&ip) || net.contains(&ip.to_canonical());
            proxy || is_public(ip) || self.source.allow_networks.iter().any(named)
        };
        let (open, closed): (Vec<_>, Vec<_>) = found.into_iter().partition(open);
        match closed.first().filter(|_| open.is_empty()) {
            None => Ok(open),
            Some(first) => {
                let text = format!("{} leads to {}, which is not a public address", shown(url), first.ip());
                Err(Problem::new(Code::NetworkNotAllowed, text))
            }
        }
    }

    fn tls(&mut self, url: &Url, problem: Option<&Problem>) -> Result<(), Ended> {
        if url.scheme() != "https" {
            return Ok(());
        }
        // The connection stood, so who is not reached over it does not end the handshake.
        let here =
            |problem: &&Problem| matches!(problem.code, Code::SyncTlsUntrusted | Code::SourceUnreachable);
        match problem.filter(here) {
            None => self.tell("tls", Ok("the certificate leads to a root that is trusted".to_owned())),
            Some(problem) => self.tell("tls", Err(problem.clone())),
        }
    }

    /// Compares clocks. A wrong one is a warning: it breaks nothing here, and much elsewhere.
    fn clock(&mut self, server_time: Option<i64>) {
        let Some(server) = server_time else { return };
        let ahead = server - clock::now().as_second();
        let warning = ahead.abs() > CLOCKS_DIFFER;
        let detail = match ahead.abs() {
            0..=1 => "it agrees with ours".to_owned(),
            seconds if ahead > 0 => format!("{seconds} seconds ahead of ours"),
            seconds => format!("{seconds} seconds behind ours"),
        };
        self.steps.push(Step { step: "clock".to_owned(), ok: true, warning, detail, problem: None });
    }
}

/// An address without what is secret in it.
fn shown(url: &Url) -> Url {
    let mut url = url.clone();
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url
}
