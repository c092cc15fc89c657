//! Small JSON messages to our own services.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use tokio::time::timeout;
use url::Url;

use super::{Web, answer};
use crate::transfer::fault::Fault;

impl Web {
    /// Sends a JSON message, with a key if one is given, and waits for the answer: its body of at most `cap_bytes`, empty
    /// for 204. Anything but a success is a fault, a redirect too.
    ///
    /// # Errors
    /// The first fault; nothing is tried twice.
    pub async fn tell(
        &self,
        url: &Url,
        message: Vec<u8>,
        key: Option<&str>,
        deadline: Duration,
        cap_bytes: u64,
    ) -> Result<Bytes, Fault> {
        let telling = async {
            self.guard.check_literal(url)?;
            let mut request = self
                .client
                .post(url.clone())
                .header(CONTENT_TYPE, "application/json")
                .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
                .body(message);
            if let Some(key) = key {
                let mut value = HeaderValue::try_from(format!("Bearer {key}"))
                    .map_err(|_| Fault::Refused("the key is no plain text".to_owned()))?;
                value.set_sensitive(true);
                request = request.header(AUTHORIZATION, value);
            }
            let sent = request.send().await;
            let response =
                sent.map_err(|error| answer::fault_of_error(&error, self.policy.connect_timeout))?;
            match response.status() {
                StatusCode::NO_CONTENT => Ok(Bytes::new()),
                status if status.is_success() => self.whole(response, cap_bytes).await,
                status => Err(answer::fault_of_status(status, response.headers())),
            }
        };
        timeout(deadline, telling).await.unwrap_or(Err(Fault::Stalled))
    }
}
