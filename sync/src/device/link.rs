//! Between a device and its site: policy, facts, secrets, messages. The key of the device is shown by TLS or on the same
//! machine, and nowhere else.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use catalog::problem::{Code, Coded as _, Problem};
use dp::transfer::web::{Exchange, Web};
use serde::Serialize;
use url::{Host, Url};

use crate::keys::Secret;
use crate::point::call;
use crate::policy::{
    DeploymentId, FactsReport, LARGEST_POLICY, Policy, Secrets, StatusAck, StatusBatch, route,
};

const DEADLINE: Duration = Duration::from_secs(30);

/// The way to the site.
#[derive(Clone)]
pub struct Link {
    base: Url,
    web: Arc<Web>,
}

impl Link {
    /// To the site at this address, with the key of the device.
    ///
    /// # Errors
    /// `PLAIN_HTTP_REFUSED` where others on the way could read the key.
    pub fn new(site: &str, key: &Secret, ca_file: Option<PathBuf>) -> Result<Self, Problem> {
        let base = call::base(site)?;
        let here = match base.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            _ => false,
        };
        if base.scheme() != "https" && !here {
            let message =
                format!("the key of this device is not sent to {site}: others on the way could read it");
            return Err(Problem::new(Code::PlainHttpRefused, message));
        }
        Ok(Self { web: call::web(&base, ca_file, Some(key))?, base })
    }

    async fn exchange(
        &self,
        path: &str,
        body: Option<&Bytes>,
        known: Option<&str>,
    ) -> Result<(u16, Bytes, Option<String>), Problem> {
        let url = call::join(&self.base, path)?;
        let exchange = Exchange { body, known, deadline: DEADLINE, cap_bytes: LARGEST_POLICY as u64 };
        let (reply, tag) = self.web.exchange(&url, exchange).await.map_err(|fault| fault.problem())?;
        Ok((reply.status, reply.body, tag))
    }

    fn refusal(&self, status: u16, body: &[u8]) -> Problem {
        call::refusal(&self.base.origin().ascii_serialization(), status, body)
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
    /// Those of the network and of the site; `POLICY_INVALID`.
    pub async fn policy(&self, known: Option<&str>) -> Result<Option<(Policy, Option<String>)>, Problem> {
        match self.exchange(route::POLICY, None, known).await? {
            (304, _, _) => Ok(None),
            (200, body, tag) => Ok(Some((Policy::parse(&body)?, tag))),
            (status, body, _) => Err(self.refusal(status, &body)),
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
