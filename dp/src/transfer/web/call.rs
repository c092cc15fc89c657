//! Calling web services: one message there, one answer back; and seeing whether anybody is there at all.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use hyper_util::client::proxy::matcher::Matcher;
use tokio::time::timeout;
use url::Url;

use super::{Downgrade, Proxy, Web, answer, redirect};
use crate::transfer::fault::Fault;

/// A message that is sent: a call of a web service.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// Its media type.
    pub content_type: &'a str,
    /// The operation that is called (SOAP 1.1 section 6.1.1), without quotes.
    pub soap_action: &'a str,
    /// The message.
    pub body: &'a Bytes,
    /// The longest that the whole call may take.
    pub deadline: Duration,
}

/// What a web service answered, whatever its status.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The body: at most what was allowed.
    pub body: Bytes,
    /// The server's clock, seconds since 1970, where it says.
    pub server_time: Option<i64>,
    /// How long it asks to be left alone, where it does.
    pub retry_after: Option<Duration>,
    /// The whole head.
    pub headers: HeaderMap,
}

/// Somebody answered.
#[derive(Debug, Clone)]
pub struct Reached {
    /// Where, after redirects.
    pub final_url: Url,
    /// Bytes of the answer, where it says.
    pub length: Option<u64>,
    /// The server's clock, seconds since 1970, where it says.
    pub server_time: Option<i64>,
}

impl Proxy {
    /// The proxy through which `url` is reached, if through one.
    pub fn of(&self, url: &Url) -> Option<Url> {
        match self {
            Self::None => None,
            Self::Url(proxy) => Some(proxy.clone()),
            Self::System => {
                let target: http::Uri = url.as_str().parse().ok()?;
                let proxy = Matcher::from_system().intercept(&target)?;
                Url::parse(&proxy.uri().to_string()).ok()
            }
        }
    }
}

impl Web {
    /// Asks for a document, as [`Web::get_small`] would, and reads no more than the head of the answer.
    ///
    /// # Errors
    /// The fault that came instead of it.
    pub async fn reach(&self, url: &Url) -> Result<Reached, Fault> {
        let (response, final_url) = self.follow(url, HeaderMap::new(), Downgrade::Refused).await?;
        if !response.status().is_success() {
            return Err(answer::fault_of_status(response.status(), response.headers()));
        }
        Ok(Reached {
            final_url,
            length: response.content_length(),
            server_time: answer::server_time(response.headers()),
        })
    }

    /// Sends a message and waits for the whole answer, of at most `cap_bytes`. A failing service explains itself in the
    /// body of a 500, so that is an answer too. A redirect is refused: who is asked is who was named.
    ///
    /// # Errors
    /// The first fault; nothing is tried twice.
    pub async fn post(&self, url: &Url, message: Outgoing<'_>, cap_bytes: u64) -> Result<Reply, Fault> {
        timeout(message.deadline, self.post_unhurried(url, message, cap_bytes))
            .await
            .unwrap_or(Err(Fault::Stalled))
    }

    async fn post_unhurried(&self, url: &Url, message: Outgoing<'_>, cap_bytes: u64) -> Result<Reply, Fault> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Fault::SchemeNotAllowed(url.scheme().to_owned()));
        }
        self.guard.check_literal(url)?;
        let request = self
            .client
            .post(url.clone())
            .header(CONTENT_TYPE, message.content_type)
            .header("SOAPAction", format!("\"{}\"", message.soap_action))
            .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
            .body(message.body.clone());
        let response = request
            .send()
            .await
            .map_err(|error| answer::fault_of_error(&error, self.policy.connect_timeout))?;
        if let Some(to) = redirect(&response) {
            let to = url.join(to).ok();
            let host = to.as_ref().map_or("?", |to| to.host_str().unwrap_or_default());
            let scheme = to.as_ref().map_or("?", Url::scheme);
            let why = "and a service is only asked where it was named";
            return Err(Fault::RedirectNotAllowed { to: format!("{scheme}://{host}"), why });
        }
        let status = response.status();
        if !matches!(status.as_u16(), 200 | 500) {
            return Err(answer::fault_of_status(status, response.headers()));
        }
        answer::check_coding(response.headers(), response.url().path())?;
        let server_time = answer::server_time(response.headers());
        let retry_after = answer::retry_after(response.headers());
        let headers = response.headers().clone();
        let body = self.whole(response, cap_bytes).await?;
        Ok(Reply { status: status.as_u16(), body, server_time, retry_after, headers })
    }
}
