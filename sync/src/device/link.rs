//! Between a device and its site: policy, facts, secrets, messages. The key of the device is shown where
//! [`call::may_be_told`] says, and nowhere else.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use catalog::problem::{Code, Coded as _, Problem};
use dp::transfer::web::{Exchange, Web};
use serde::Serialize;
use url::Url;

use super::advice::for_device;
use crate::keys::Secret;
use crate::plane::call;
use crate::policy::{
    DeploymentId, FactsReport, LARGEST_POLICY, Policy, Secrets, StatusAck, StatusBatch, route,
};

const DEADLINE: Duration = Duration::from_secs(30);

/// Why a site gave no policy.
#[derive(Debug)]
pub enum NoPolicy {
    /// It cannot be asked now, or cannot answer: what was kept holds on.
    Away(Problem),
    /// It answered that this device gets none: nothing that was kept holds.
    Refused(Problem),
}

/// The way to the site.
#[derive(Clone)]
pub struct Link {
    base: Url,
    web: Arc<Web>,
}

impl Link {
    /// To the site at this address, with the key of the device. `plain`: `[client] allow_plain_key`.
    ///
    /// # Errors
    /// `PLAIN_HTTP_REFUSED` where others on the way could read the key.
    pub fn new(site: &str, key: &Secret, ca_file: Option<PathBuf>, plain: bool) -> Result<Self, Problem> {
        let base = call::base(site)?;
        let web = call::web_with_key(&base, ca_file, key, plain).map_err(for_device)?;
        Ok(Self { web, base })
    }

    async fn exchange(
        &self,
        path: &str,
        body: Option<&Bytes>,
        known: Option<&str>,
    ) -> Result<(u16, Bytes, Option<String>), Problem> {
        let url = call::join(&self.base, path)?;
        let cap_bytes = LARGEST_POLICY as u64;
        let exchange = Exchange { body, known, once: None, deadline: DEADLINE, cap_bytes };
        let (reply, tag) =
            self.web.exchange(&url, exchange).await.map_err(|fault| for_device(fault.problem()))?;
        Ok((reply.status, reply.body, tag))
    }

    fn refusal(&self, status: u16, body: &[u8]) -> Problem {
        for_device(call::refusal(&self.base.origin().ascii_serialization(), status, body))
    }

    async fn post(&self, path: &str, value: &impl Serialize) -> Result<Bytes, Problem> {
        let body = serde_json::to_vec(value).map_err(|error| Problem::of(Code::Internal, &error))?.into();
        match self.exchange(path, Some(&body), None).await? {
            (200..=299, body, _) => Ok(body),
            (status, body, _) => Err(self.refusal(status, &body)),
        }
    }

    /// The policy and its tag; `None` where it is still the one with the tag `known`.
    ///
    /// # Errors
    /// [`NoPolicy`].
    pub async fn policy(&self, known: Option<&str>) -> Result<Option<(Policy, Option<String>)>, NoPolicy> {
        match self.exchange(route::POLICY, None, known).await.map_err(NoPolicy::Away)? {
            (304, _, _) => Ok(None),
            (200, body, tag) => Ok(Some((Policy::parse(&body).map_err(NoPolicy::Refused)?, tag))),
            (status, body, _) if status == 429 || status >= 500 => {
                Err(NoPolicy::Away(self.refusal(status, &body)))
            }
            (status, body, _) => Err(NoPolicy::Refused(self.refusal(status, &body))),
        }
    }

    /// The secrets of a deployment.
    ///
    /// # Errors
    /// Those of the network and of the site.
    pub async fn secrets(&self, deployment: &DeploymentId) -> Result<Secrets, Problem> {
        match self.exchange(&format!("{}{deployment}", route::SECRETS), None, None).await? {
            (200, body, _) => serde_json::from_slice(&body)
                .map_err(|_| Problem::new(Code::SiteAnswerInvalid, "the secrets cannot be understood")),
            (status, body, _) => Err(self.refusal(status, &body)),
        }
    }

    /// Tells what the device is.
    ///
    /// # Errors
    /// Those of the network and of the site.
    pub async fn facts(&self, report: &FactsReport) -> Result<(), Problem> {
        self.post(route::FACTS, report).await.map(|_| ())
    }

    /// Tells what happened.
    ///
    /// # Errors
    /// Those of the network and of the site.
    pub async fn status(&self, batch: &StatusBatch) -> Result<StatusAck, Problem> {
        let body = self.post(route::STATUS, batch).await?;
        serde_json::from_slice(&body)
            .map_err(|_| Problem::new(Code::SiteAnswerInvalid, "the answer to messages cannot be understood"))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn key() -> Secret {
        Secret::new().expect("random numbers")
    }

    #[test]
    fn the_key_is_shown_by_the_rule_of_the_client() {
        for (site, plain, expected) in [
            ("https://site.example:8531", false, true),
            ("http://127.0.0.1:8530", false, true),
            ("http://site.example:8530", false, false),
            ("http://site.example:8530", true, true),
        ] {
            let link = Link::new(site, &key(), None, plain);
            assert_eq!(link.is_ok(), expected, "{site} {plain}");
            if let Err(problem) = link {
                assert_eq!(problem.code, Code::PlainHttpRefused);
                assert!(problem.help.contains("allow_plain_key"), "{}", problem.help);
            }
        }
    }

    /// What a policy comes to at a site that answers so.
    async fn asked(status: &str, body: &str) -> NoPolicy {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let site = format!("http://{}", listener.local_addr().expect("an address"));
        let answer =
            format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        let link = Link::new(&site, &key(), None, false).expect("a link");
        link.policy(None).await.expect_err("there is no policy")
    }

    #[tokio::test]
    async fn a_refusal_is_no_absence() {
        let revoked = serde_json::to_string(&Problem::new(Code::KeyRevoked, "this key was revoked")).unwrap();
        match asked("401 Unauthorized", &revoked).await {
            NoPolicy::Refused(problem) => {
                assert_eq!(problem.code, Code::KeyRevoked);
                assert!(problem.help.contains("spsync client enrol"), "{}", problem.help);
            }
            away => panic!("{away:?}"),
        }
        for (status, refused) in [
            ("404 Not Found", true),
            ("200 OK", true),
            ("429 Too Many Requests", false),
            ("500 Internal Server Error", false),
            ("503 Service Unavailable", false),
        ] {
            let found = matches!(asked(status, "<html>").await, NoPolicy::Refused(_));
            assert_eq!(found, refused, "{status}");
        }
        let nobody = Link::new("http://127.0.0.1:1", &key(), None, false).unwrap();
        assert!(matches!(nobody.policy(None).await, Err(NoPolicy::Away(_))));
    }
}
