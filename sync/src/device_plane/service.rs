//! The routes of the device plane. Every request shows the key of a device; over plain HTTP keys are taken from this machine
//! alone, unless the operator allowed more, and secrets are never given that way.

use std::sync::{Arc, Mutex, PoisonError};

use catalog::id::PackageId;
use catalog::problem::{Code, Problem};
use dp::peers::Devices as _;
use dp::server::body::ContentBody;
use dp::server::{Answering, Call, Remark, Service};
use http::{HeaderValue, Response, StatusCode, header};
use schema::keys::PrincipalKind;
use tracing::warn;

use super::status;
use crate::authoring::secrets::Vault;
use crate::clock;
use crate::deploying::resolve;
use crate::plane::answer;
use crate::plane::door::takes_secrets;
use crate::plane::limit::Mistakes;
use crate::points::principal_of;
use crate::policy::{DeploymentId, FactsReport, MostOf, Secrets, StatusBatch};
use crate::sequence::Sequence;
use crate::site::Site;

/// The most bytes of facts.
const LARGEST_FACTS: u64 = 64 << 10;

/// The device plane of a site.
pub struct DeviceService {
    site: Arc<Site>,
    mistakes: Mutex<Mistakes>,
}

enum Route {
    Facts,
    Policy,
    Status,
    Secrets(Option<DeploymentId>),
}

impl Route {
    fn of(path: &[&str]) -> Option<Self> {
        match path {
            ["client", "facts"] => Some(Self::Facts),
            ["client", "policy"] => Some(Self::Policy),
            ["client", "status"] => Some(Self::Status),
            ["client", "secrets", deployment] => Some(Self::Secrets(deployment.parse().ok())),
            _ => None,
        }
    }

    fn method(&self) -> &'static str {
        match self {
            Self::Facts | Self::Status => "POST",
            Self::Policy | Self::Secrets(_) => "GET",
        }
    }
}

impl DeviceService {
    /// The plane of `site`.
    pub fn new(site: Arc<Site>) -> Self {
        Self { site, mistakes: Mutex::default() }
    }

    async fn serve(&self, call: &mut Call<'_>) -> Response<ContentBody> {
        let Some(route) = Route::of(call.path) else { return answer::empty(StatusCode::NOT_FOUND) };
        if route.method() != call.head.method.as_str() {
            let mut refused = answer::empty(StatusCode::METHOD_NOT_ALLOWED);
            refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static(route.method()));
            return refused;
        }
        match self.carry_out(route, call).await {
            Ok(response) => response,
            Err(problem) => {
                let mut response = answer::problem(&problem);
                response.extensions_mut().insert(Remark(problem.code.name().to_owned()));
                response
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Mistakes> {
        self.mistakes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn carry_out(&self, route: Route, call: &mut Call<'_>) -> Result<Response<ContentBody>, Problem> {
        let (address, now) = (call.peer.ip(), clock::now());
        let allowed =
            self.site.settings().server.allow_plain_enrolment && !matches!(route, Route::Secrets(_));
        if !takes_secrets(call.secure, address, allowed) {
            return Err(Problem::new(Code::PlainHttpRefused, "keys and secrets travel over https only"));
        }
        if self.lock().too_many(address, now) {
            return Err(Problem::new(Code::TooManyTries, "too many wrong keys of this address"));
        }
        let device = match self.device(call).await {
            Ok(device) => device,
            Err(problem) => {
                // Who has a key that was revoked does not guess.
                if problem.code == Code::KeyRefused {
                    self.lock().count(address, now);
                    warn!(client = %address, "{problem}");
                }
                return Err(problem);
            }
        };
        match route {
            Route::Policy => {
                self.site.policies.asked(&device, address, now);
                self.policy(&device, call)
            }
            Route::Facts => self.facts(&device, call).await,
            Route::Status => self.status(&device, call).await,
            Route::Secrets(Some(deployment)) => self.secrets(&device, &deployment).await,
            Route::Secrets(None) => Ok(answer::empty(StatusCode::NOT_FOUND)),
        }
    }

    /// Whose key it is: known in memory, and only a key that is not is looked up.
    async fn device(&self, call: &Call<'_>) -> Result<String, Problem> {
        if let Some(token) = call.bearer()
            && let Ok(device) = self.site.keys.device(Some(token), call.asker())
        {
            return Ok(device.0);
        }
        let principal = principal_of(&self.site, call).await?;
        match principal.kind {
            PrincipalKind::Device => Ok(principal.name),
            PrincipalKind::Point => Err(Problem::new(Code::KeyRefused, "this key is not that of a device")),
        }
    }

    /// `GET /client/policy`: 200, or 304 where it is still the one that `If-None-Match` names.
    fn policy(&self, device: &str, call: &Call<'_>) -> Result<Response<ContentBody>, Problem> {
        let snapshot = self.site.policies.snapshot();
        let answered = snapshot
            .answer(device, self.site.policies.is_away(device))
            .ok_or_else(|| Problem::new(Code::Internal, "policies are not made yet"))?;
        let tag = format!("\"{}\"", answered.tag());
        let known = call.head.headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
        let mut response = match known == Some(tag.as_str()) {
            true => answer::empty(StatusCode::NOT_MODIFIED),
            false => answer::bytes_of(StatusCode::OK, answered.body(device), "application/json"),
        };
        let tag = HeaderValue::from_str(&tag).map_err(|error| Problem::of(Code::Internal, &error))?;
        response.headers_mut().insert(header::ETAG, tag);
        Ok(response)
    }

    /// `POST /client/facts`: 204, 400, 422.
    async fn facts(&self, device: &str, call: &mut Call<'_>) -> Result<Response<ContentBody>, Problem> {
        let body = match call.body.read().await {
            Ok(body) => body,
            Err(refused) => return Ok(refused.response()),
        };
        let Ok(report) = serde_json::from_slice::<FactsReport>(&body) else {
            return Ok(answer::empty(StatusCode::BAD_REQUEST));
        };
        report.facts.check()?;
        self.site.policies.says(device, &report.facts);
        let facts =
            serde_json::to_value(&report.facts).map_err(|error| Problem::of(Code::Internal, &error))?;
        let (name, address) = (device.to_owned(), call.peer.ip().to_canonical().to_string());
        self.site.write(move |w| w.put_facts(&name, &facts, &address, clock::now())).await?;
        Ok(answer::empty(StatusCode::NO_CONTENT))
    }

    /// `POST /client/status`: 200 with what the site has now, 400, 422.
    async fn status(&self, device: &str, call: &mut Call<'_>) -> Result<Response<ContentBody>, Problem> {
        let body = match call.body.read().await {
            Ok(body) => body,
            Err(refused) => return Ok(refused.response()),
        };
        let Ok(batch) = serde_json::from_slice::<StatusBatch>(&body) else {
            return Ok(answer::empty(StatusCode::BAD_REQUEST));
        };
        let ack = status::take(&self.site, device, batch, clock::now()).await?;
        Ok(answer::json(StatusCode::OK, &ack))
    }

    /// `GET /client/secrets/{deployment}`: 200, or 403 for what is not offered to the device now.
    async fn secrets(
        &self,
        device: &str,
        deployment: &DeploymentId,
    ) -> Result<Response<ContentBody>, Problem> {
        let refused =
            || Problem::new(Code::NotTargeted, format!("{deployment} is not deployed to `{device}` now"));
        let id: PackageId = deployment.as_str().parse().map_err(|_| refused())?;
        if !self.site.policies.snapshot().offers(device, &id) {
            return Err(refused());
        }
        let now = clock::now();
        let (row, wanted) = (self.site.read(move |r| r.deployment(&id)).await?, deployment.clone());
        let row = row.filter(|row| row.stopped.is_none() && row.available <= now).ok_or_else(refused)?;
        let sequence = row.sequence.clone();
        let (document, sealed) =
            self.site.read(move |r| Ok((r.sequence(&sequence)?, r.sequence_secrets(&sequence)?))).await?;
        let document = document.ok_or_else(refused)?.document;
        let filled: Vec<u32> = sealed.iter().map(|secret| secret.number).collect();
        let named = resolve::secrets(&Sequence::parse(&document)?, &filled);
        let mut secrets = Vec::new();
        if !named.is_empty() {
            let vault = Vault::of(&self.site.settings().site.data_dir)?;
            for place in named.into_iter().filter(|place| place.present).map(|secret| secret.place) {
                if let Some(found) = sealed.iter().find(|secret| secret.number == place.number()) {
                    secrets.push((place, vault.open(&row.sequence, found.number, &found.sealed)?));
                }
            }
            let who = format!("device {device}");
            self.site.write(move |w| w.audit(&who, "ts.secrets", row.id.as_str(), now)).await?;
        }
        Ok(answer::json(StatusCode::OK, &Secrets { deployment: wanted, secrets }))
    }
}

impl Service for DeviceService {
    fn largest_body(&self, path: &[&str]) -> Option<u64> {
        Some(match Route::of(path)? {
            Route::Facts => LARGEST_FACTS,
            Route::Status => MostOf::BATCH_BYTES as u64,
            Route::Policy | Route::Secrets(_) => 0,
        })
    }

    fn answer<'s>(&'s self, call: &'s mut Call<'_>) -> Answering<'s> {
        Box::pin(self.serve(call))
    }
}
