//! Between a device and its site: policy, facts, secrets, messages. The key of the device is shown where
//! [`call::may_be_told`] says, and nowhere else.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use catalog::problem::{Code, Coded as _, Problem};
use dp::transfer::web::{Exchange, Reply, Web};
use serde::Serialize;
use url::Url;

use super::advice::for_device;
use crate::keys::Secret;
use crate::plane::call;
use crate::policy::{
    DeploymentId, FactsReport, LARGEST_POLICY, Policy, Secrets, StatusAck, StatusBatch, route,
};

const DEADLINE: Duration = Duration::from_secs(30);

/// Why a site did not give what it was asked for.
#[derive(Debug)]
pub enum NoAnswer {
    /// It cannot be asked now, or cannot answer: what was kept holds on, and what is lacking may come.
    Away {
        /// Why.
        problem: Problem,
        /// How long it asks to be left alone, where it does.
        retry_after: Option<Duration>,
    },
    /// It answered that this device gets none: nothing that was kept holds, and nothing comes.
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
    ) -> Result<(Reply, Option<String>), Problem> {
        let url = call::join(&self.base, path)?;
        let cap_bytes = LARGEST_POLICY as u64;
        let exchange = Exchange { body, known, once: None, deadline: DEADLINE, cap_bytes };
        self.web.exchange(&url, exchange).await.map_err(|fault| for_device(fault.problem()))
    }

    fn refusal(&self, reply: &Reply) -> Problem {
        for_device(call::refusal(&self.base.origin().ascii_serialization(), reply.status, &reply.body))
    }

    async fn post(&self, path: &str, value: &impl Serialize) -> Result<Bytes, Problem> {
        let body = serde_json::to_vec(value).map_err(|error| Problem::of(Code::Internal, &error))?.into();
        let (reply, _) = self.exchange(path, Some(&body), None).await?;
        if matches!(reply.status, 200..=299) { Ok(reply.body) } else { Err(self.refusal(&reply)) }
    }

    /// The policy and its tag; `None` where it is still the one with the tag `known`.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub async fn policy(&self, known: Option<&str>) -> Result<Option<(Policy, Option<String>)>, NoAnswer> {
        let asked = self.exchange(route::POLICY, None, known).await;
        let (reply, tag) = asked.map_err(|problem| NoAnswer::Away { problem, retry_after: None })?;
        match reply.status {
            304 => Ok(None),
            200 => Ok(Some((Policy::parse(&reply.body).map_err(NoAnswer::Refused)?, tag))),
            _ => Err(self.no_answer(&reply)),
        }
    }

    /// A site that is busy or broken is away; any other answer is one.
    fn no_answer(&self, reply: &Reply) -> NoAnswer {
        let problem = self.refusal(reply);
        match reply.status {
            429 | 500.. => NoAnswer::Away { problem, retry_after: reply.retry_after },
            _ => NoAnswer::Refused(problem),
        }
    }

    /// The secrets of a deployment.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub async fn secrets(&self, deployment: &DeploymentId) -> Result<Secrets, NoAnswer> {
        let asked = self.exchange(&format!("{}{deployment}", route::SECRETS), None, None).await;
        let (reply, _) = asked.map_err(|problem| NoAnswer::Away { problem, retry_after: None })?;
        if reply.status != 200 {
            return Err(self.no_answer(&reply));
        }
        serde_json::from_slice(&reply.body).map_err(|_| {
            let message = "the secrets cannot be understood";
            NoAnswer::Refused(Problem::new(Code::SiteAnswerInvalid, message))
        })
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

    /// The way to a site that answers so, whatever it is asked.
    async fn linked(status: &str, body: &str) -> Link {
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
        Link::new(&site, &key(), None, false).expect("a link")
    }

    /// What a policy comes to at a site that answers so.
    async fn asked(status: &str, body: &str) -> NoAnswer {
        linked(status, body).await.policy(None).await.expect_err("there is no policy")
    }

    #[tokio::test]
    async fn a_refusal_is_no_absence() {
        let revoked = serde_json::to_string(&Problem::new(Code::KeyRevoked, "this key was revoked")).unwrap();
        match asked("401 Unauthorized", &revoked).await {
            NoAnswer::Refused(problem) => {
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
            let found = matches!(asked(status, "<html>").await, NoAnswer::Refused(_));
            assert_eq!(found, refused, "{status}");
        }
        for (status, refused) in [
            ("403 Forbidden", true),
            ("200 OK", true),
            ("429 Too Many Requests", false),
            ("503 Service Unavailable", false),
        ] {
            let asked = linked(status, "<html>").await.secrets(&"XYZ20001".parse().unwrap()).await;
            assert_eq!(matches!(asked, Err(NoAnswer::Refused(_))), refused, "{status}: {asked:?}");
        }
        let nobody = Link::new("http://127.0.0.1:1", &key(), None, false).unwrap();
        let busy = asked("503 Service Unavailable\r\nretry-after: 7", "").await;
        assert!(
            matches!(busy, NoAnswer::Away { retry_after: Some(wait), .. } if wait == Duration::from_secs(7)),
            "{busy:?}"
        );
        assert!(matches!(nobody.policy(None).await, Err(NoAnswer::Away { .. })));
    }
}
