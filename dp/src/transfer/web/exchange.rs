//! Talking to a site of our own: requests with a key, answered by whatever status means something there.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::time::timeout;
use url::Url;

use super::{Reply, Web, answer, put};
use crate::transfer::fault::Fault;

/// A key for one place. It is shown to that scheme, host and port, and to no other, on whatever redirect.
#[derive(Clone)]
pub struct Bearer {
    /// Where it is shown.
    pub to: Url,
    /// The head field, marked as secret.
    value: HeaderValue,
}

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a key for {}", self.to.origin().ascii_serialization())
    }
}

/// An address as a folder, to which paths can be joined.
pub fn as_folder(mut address: Url) -> Url {
    if !address.path().ends_with('/') {
        address.set_path(&format!("{}/", address.path()));
    }
    address
}

impl Bearer {
    /// A key for the place of `to`; `None` where it cannot stand in a head.
    pub fn new(to: Url, key: &str) -> Option<Self> {
        let mut value = HeaderValue::from_str(&format!("Bearer {key}")).ok()?;
        value.set_sensitive(true);
        Some(Self { to, value })
    }

    /// Adds it to the head of a request to `url`, if that is the place.
    pub(super) fn show(bearer: Option<&Self>, url: &Url, headers: &mut HeaderMap) {
        if let Some(bearer) = bearer.filter(|bearer| bearer.to.origin() == url.origin()) {
            headers.insert(AUTHORIZATION, bearer.value.clone());
        }
    }
}

/// A question or a message for a site.
#[derive(Debug, Clone, Copy)]
pub struct Exchange<'a> {
    /// JSON to send; without it, it is a question.
    pub body: Option<&'a Bytes>,
    /// What is known already.
    pub known: Option<&'a str>,
    /// The name of a message that is to be taken once, however often it comes (`Idempotency-Key`).
    pub once: Option<&'a str>,
    /// The longest that it may take in all.
    pub deadline: Duration,
    /// The most bytes of the answer.
    pub cap_bytes: u64,
}

impl Web {
    /// Asks or tells, once. Any status is an answer; a redirect is not followed. Also gives the answer's entity tag.
    ///
    /// # Errors
    /// The fault that came instead of an answer.
    pub async fn exchange(
        &self,
        url: &Url,
        exchange: Exchange<'_>,
    ) -> Result<(Reply, Option<String>), Fault> {
        timeout(exchange.deadline, self.exchange_unhurried(url, exchange))
            .await
            .unwrap_or(Err(Fault::Stalled))
    }

    /// Tells, once, with the policy's key: the body of the answer, empty for 204. Anything but a success is a fault, a
    /// redirect too.
    ///
    /// # Errors
    /// The first fault.
    pub async fn tell(
        &self,
        url: &Url,
        message: Vec<u8>,
        deadline: Duration,
        cap_bytes: u64,
    ) -> Result<Bytes, Fault> {
        let message = Bytes::from(message);
        let exchange = Exchange { body: Some(&message), known: None, once: None, deadline, cap_bytes };
        let telling = async {
            let response = self.send(url, exchange).await?;
            match response.status() {
                StatusCode::NO_CONTENT => Ok(Bytes::new()),
                status if status.is_success() => self.whole(response, cap_bytes).await,
                status => Err(answer::fault_of_status(status, response.headers())),
            }
        };
        timeout(deadline, telling).await.unwrap_or(Err(Fault::Stalled))
    }

    async fn exchange_unhurried(
        &self,
        url: &Url,
        exchange: Exchange<'_>,
    ) -> Result<(Reply, Option<String>), Fault> {
        let response = self.send(url, exchange).await?;
        answer::check_coding(response.headers(), response.url().path())?;
        let etag = answer::field(response.headers(), ETAG).map(str::to_owned);
        let (status, server_time) = (response.status().as_u16(), answer::server_time(response.headers()));
        let retry_after = answer::retry_after(response.headers());
        let headers = response.headers().clone();
        let body = self.whole(response, exchange.cap_bytes).await?;
        Ok((Reply { status, body, server_time, retry_after, headers }, etag))
    }

    /// The head of the answer, whatever it is.
    async fn send(&self, url: &Url, exchange: Exchange<'_>) -> Result<reqwest::Response, Fault> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Fault::SchemeNotAllowed(url.scheme().to_owned()));
        }
        self.guard.check_literal(url)?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        put(&mut headers, IF_NONE_MATCH, exchange.known);
        put(&mut headers, HeaderName::from_static("idempotency-key"), exchange.once);
        Bearer::show(self.policy.bearer.as_ref(), url, &mut headers);
        let request = match exchange.body {
            Some(body) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                self.client.post(url.clone()).body(body.clone())
            }
            None => self.client.get(url.clone()),
        };
        let sent = request.headers(headers).send().await;
        sent.map_err(|error| answer::fault_of_error(&error, self.policy.connect_timeout))
    }
}
