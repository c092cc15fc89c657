//! The routes of the device plane. Every request shows the key of a device; over plain HTTP keys are taken from this machine
//! alone, unless the operator allowed more, and secrets are never given that way.

use std::sync::Arc;

use catalog::id::PackageId;
use catalog::problem::{Code, Problem};
use dp::peers::Devices as _;
use dp::server::body::ContentBody;
use dp::server::{Answering, Asker, Call, Service};
use http::{Response, StatusCode};

use super::status;
use crate::authoring::secrets::Vault;
use crate::clock;
use crate::deploying::resolve;
use crate::plane::answer;
use crate::policy::{DeploymentId, FactsReport, MostOf, Secrets, StatusBatch};
use crate::sequence::Sequence;
use crate::site::Site;

/// The most bytes of facts.
const LARGEST_FACTS: u64 = 64 << 10;

/// The device plane of a site.
pub struct DeviceService {
    site: Arc<Site>,
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
        Self { site }
    }

    async fn serve(&self, call: &mut Call<'_>) -> Response<ContentBody> {
        let Some(route) = Route::of(call.path) else { return answer::empty(StatusCode::NOT_FOUND) };
        if route.method() != call.head.method.as_str() {
            return answer::not_allowed(route.method());
        }
        self.carry_out(route, call).await.unwrap_or_else(|problem| answer::refused(&problem))
    }

    async fn carry_out(&self, route: Route, call: &mut Call<'_>) -> Result<Response<ContentBody>, Problem> {
        let (asker, now) = (call.asker(), clock::now());
        if matches!(route, Route::Secrets(_)) && !takes_secrets_home(asker) {
            return Err(Problem::new(Code::PlainHttpRefused, "secrets travel over https only"));
        }
        let (device, address) = (self.site.keys.device(call.bearer(), asker)?.0, asker.address);
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

    /// `GET /client/policy`: 200, or 304 where it is still the one that `If-None-Match` names.
    fn policy(&self, device: &str, call: &Call<'_>) -> Result<Response<ContentBody>, Problem> {
        let snapshot = self.site.policies.snapshot();
        let answered = snapshot
            .answer(device, self.site.policies.is_away(device))
            .ok_or_else(|| Problem::new(Code::Internal, "policies are not made yet"))?;
        let tag = format!("\"{}\"", answered.tag());
        let has_it = answer::is_known(&call.head.headers, &tag);
        answer::tagged(&tag, (!has_it).then(|| answered.body(device)))
    }

    /// `POST /client/facts`: 204, 400, 422.
    async fn facts(&self, device: &str, call: &mut Call<'_>) -> Result<Response<ContentBody>, Problem> {
        let (report, _room) = match answer::read::<FactsReport>(call).await {
            Ok(read) => read,
            Err(unread) => return Ok(unread.response()),
        };
        report.facts.check()?;
        self.site.policies.says(device, &report.facts);
        let facts =
            serde_json::to_value(&report.facts).map_err(|error| Problem::of(Code::Internal, &error))?;
        let (name, address) = (device.to_owned(), call.peer.ip().to_canonical().to_string());
        self.site.write_aside(move |w| w.put_facts(&name, &facts, &address, clock::now())).await?;
        Ok(answer::empty(StatusCode::NO_CONTENT))
    }

    /// `POST /client/status`: 200 with what the site has now, 400, 422.
    async fn status(&self, device: &str, call: &mut Call<'_>) -> Result<Response<ContentBody>, Problem> {
        let (batch, _room) = match answer::read::<StatusBatch>(call).await {
            Ok(read) => read,
            Err(unread) => return Ok(unread.response()),
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
            let audited = &self.site.policies.audited;
            if let Some(what) = audited.due(device, &row.id, now) {
                let (who, id) = (format!("device {device}"), row.id.clone());
                self.site.write_aside(move |w| w.audit(&who, &what, id.as_str(), now)).await?;
                audited.written(device, &row.id, now);
            }
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

/// Whatever the operator allows for keys: secrets are not to be read on their way.
fn takes_secrets_home(asker: Asker) -> bool {
    asker.secure || asker.address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_over_tls_or_stay_on_this_machine() {
        for (address, secure, expected) in [
            ("10.0.0.1", true, true),
            ("10.0.0.1", false, false),
            ("::ffff:10.0.0.1", false, false),
            ("127.0.0.9", false, true),
            ("::1", false, true),
            ("::ffff:127.0.0.1", false, true),
        ] {
            let asker = Asker { address: address.parse().unwrap(), secure };
            assert_eq!(takes_secrets_home(asker), expected, "{address} {secure}");
        }
    }

    #[test]
    fn only_these_are_routes() {
        for (path, method) in [
            (crate::policy::route::POLICY, Some("GET")),
            (crate::policy::route::FACTS, Some("POST")),
            (crate::policy::route::STATUS, Some("POST")),
            ("client/secrets/XYZ20001", Some("GET")),
            ("client/secrets", None),
            ("client/policy/x", None),
            ("client", None),
            ("Client/policy", None),
        ] {
            let segments: Vec<_> = path.split('/').collect();
            assert_eq!(Route::of(&segments).map(|route| route.method()), method, "{path}");
        }
    }
}
