//! Standing with an update server ([MS-WSUSSS] section 3.2.4.1): who we are, and a cookie that says so.
//!
//! ```text
//! nothing ─GetAuthConfig▶ ─GetAuthorizationCookie▶ ─GetCookie▶ ─GetConfigData▶ good ─nearly over▶ GetCookie▶ good
//!    ▲──────────────────────────── refused ─────────────────────────────────────┘
//! ```
//! There is no "expired" in the protocol, only "invalid": so a cookie is renewed before it ends, by the server's clock.
//! Each cookie begins a *generation*. A refusal of a call that was made in an earlier one says nothing about the cookie
//! that there is now.

use catalog::id::UpdateId;
use catalog::problem::{Code, Problem};
use catalog::server_sync::{
    AUTH_PATH, AuthConfig, AuthorizationCookie, ConfigData, Cookie, PLUG_IN, PROTOCOL_VERSION, Request,
    Response, USUAL_BATCH,
};
use catalog::xml::shown;

/// A cookie that ends within so many milliseconds is renewed first.
const MARGIN: i64 = 120_000;
/// One that lives shorter than this is used until it is refused: renewing it would be all that is ever done.
const LEAST_LIFE: i64 = 1_000;

/// Whether calls can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// They can.
    Good,
    /// [`Session::request`] comes first.
    Needed,
}

#[derive(Debug)]
enum Stage {
    Nothing,
    Known,
    Granted,
    Cookie,
    Good,
}

/// One session.
#[derive(Debug)]
pub struct Session {
    account_name: String,
    account_guid: UpdateId,
    stage: Stage,
    path: String,
    authorization: Option<AuthorizationCookie>,
    cookie: Option<Cookie>,
    /// When to renew, by the local clock; `None` where the cookie does not say.
    renew_at: Option<i64>,
    config: Option<ConfigData>,
    generation: u32,
}

impl Session {
    /// Nobody knows us yet.
    pub fn new(account_name: String, account_guid: UpdateId) -> Self {
        Self {
            account_name,
            account_guid,
            stage: Stage::Nothing,
            path: AUTH_PATH.to_owned(),
            authorization: None,
            cookie: None,
            renew_at: None,
            config: None,
            generation: 0,
        }
    }

    /// Whether calls can be made at `now`.
    pub fn standing(&mut self, now: i64) -> Standing {
        if matches!(self.stage, Stage::Good) {
            if self.renew_at.is_none_or(|at| now < at) {
                return Standing::Good;
            }
            self.stage = Stage::Granted;
        }
        Standing::Needed
    }

    /// Which cookie there is, or which is on its way; it counts up.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// What the server offers, once it has said so.
    pub fn config(&self) -> Option<&ConfigData> {
        self.config.as_ref()
    }

    /// The most ids of one call. 0 means that the server does not say.
    pub fn batch(&self) -> usize {
        let said = self.config.as_ref().map_or(0, |config| config.updates_per_request);
        match usize::try_from(said) {
            Ok(0) | Err(_) => USUAL_BATCH,
            Ok(said) => said.min(USUAL_BATCH),
        }
    }

    /// The cookie to show.
    pub fn cookie(&self) -> Option<Cookie> {
        self.cookie.clone()
    }

    /// Where the authorization service is, relative to the root of the server.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The server does not take the cookie: all begins anew, and what it offers is still known.
    pub fn refused(&mut self) {
        self.generation += 1;
        self.stage = Stage::Nothing;
        self.authorization = None;
        self.cookie = None;
        self.renew_at = None;
    }

    /// The call that comes next.
    pub fn request(&self) -> Request {
        match self.stage {
            Stage::Nothing => Request::GetAuthConfig,
            Stage::Known => Request::GetAuthorizationCookie {
                account_name: self.account_name.clone(),
                account_guid: self.account_guid.to_string(),
                program_keys: Vec::new(),
            },
            Stage::Granted => Request::GetCookie {
                authorization: self.authorization.iter().cloned().collect(),
                old: self.cookie.clone(),
                protocol_version: PROTOCOL_VERSION.to_owned(),
            },
            Stage::Cookie | Stage::Good => {
                Request::GetConfigData { cookie: self.cookie.clone(), anchor: None }
            }
        }
    }

    /// Takes an answer.
    ///
    /// # Errors
    /// `PROTOCOL_MALFORMED` and `UPSTREAM_INCOMPATIBLE`: the server is none that we can talk to.
    pub fn on(&mut self, response: Response, server_time: Option<i64>, now: i64) -> Result<(), Problem> {
        match response {
            Response::AuthConfig(config) => {
                self.path = service_path(&config)?;
                self.stage = Stage::Known;
            }
            Response::AuthorizationCookie(granted) => {
                let plug_in = if granted.plug_in.is_empty() { PLUG_IN.to_owned() } else { granted.plug_in };
                self.authorization = Some(AuthorizationCookie { plug_in, data: granted.data });
                self.stage = Stage::Granted;
            }
            Response::Cookie(cookie) => {
                // What is left of its life is told by the server's own clock; ours may be wrong by hours.
                let left =
                    cookie.expires_unix_ms().map(|ends| ends.saturating_sub(server_time.unwrap_or(now)));
                self.renew_at = match left {
                    // One that says that it is over already: whether it is, the next call tells.
                    Some(left) if left >= LEAST_LIFE => Some(now.saturating_add(left - MARGIN.min(left / 4))),
                    _ => None,
                };
                self.cookie = Some(cookie);
                self.generation += 1;
                self.stage = if self.config.is_some() { Stage::Good } else { Stage::Cookie };
            }
            Response::ConfigData(config) => {
                if let Some(version) = &config.protocol_version
                    && version.split('.').next() != Some("1")
                {
                    let text = format!("the server speaks version {} of the protocol", shown(version));
                    return Err(Problem::new(Code::UpstreamIncompatible, text));
                }
                self.config = Some(config);
                self.stage = Stage::Good;
            }
            other => {
                let name = other.operation().name();
                return Err(Problem::new(
                    Code::ProtocolMalformed,
                    format!("an answer to {name} came unasked"),
                ));
            }
        }
        Ok(())
    }
}

/// Where the authorization service is. It is on the same server: an address of another one would be sent what proves who
/// we are.
fn service_path(config: &AuthConfig) -> Result<String, Problem> {
    let plug_in = config.plug_ins.iter().find(|one| one.id == PLUG_IN);
    let Some(plug_in) = plug_in else {
        let known: Vec<String> = config.plug_ins.iter().map(|one| shown(&one.id)).collect();
        let text = format!("the server authorizes by `{}`, expected `{PLUG_IN}`", known.join("`, `"));
        return Err(Problem::new(Code::UpstreamIncompatible, text));
    };
    let path = plug_in.service_url.trim_start_matches('/');
    let plain = path.split(['/', '?']).next().is_some_and(|first| !first.contains(':'));
    if path.is_empty() || !plain || path.contains('\\') || path.split('/').any(|part| part == "..") {
        let text = format!("the authorization service is said to be at `{}`", shown(&plug_in.service_url));
        return Err(Problem::new(Code::ProtocolMalformed, text)
            .because("expected a path on the same server: who we are is told to nobody else"));
    }
    Ok(path.to_owned())
}
