//! The point plane: how points hear what to hold and say how it is; who enrols is let in by [`crate::keys`].
//!
//! Every request but an enrolment shows a key. Over plain HTTP neither keys nor tokens are taken from other machines, unless
//! the operator allowed it: whoever is on the way could read them. Bytes of content need no such care, but a point asks
//! for them with its key too, because the site gives a point what it has not offered to everybody.

use std::sync::Arc;
use std::time::Duration;

use catalog::digest::Sha256Digest;
use catalog::problem::{Code, Problem};
use dp::server::body::ContentBody;
use dp::server::{Answering, Call, Deliver, OtherName, Remark, Service, carrying, hash_file};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use schema::keys::{Principal, PrincipalKind};

use super::assign::Form;
use super::wire::{
    KEYS_FIELD, LARGEST_CERTIFICATE_REQUEST, LARGEST_ENROLMENT, LARGEST_REPORT, LONGEST_WAIT, Report,
    ReportAnswer,
};
use super::{assign, certificate, device_keys, offer, report};
use crate::blocking::blocking;
use crate::clock;
use crate::keys::{self, principal_of};
use crate::packages::servable;
use crate::plane::answer;
use crate::site::Site;

/// The point plane of a site.
pub struct PointService {
    site: Arc<Site>,
}

enum Route {
    Enrol,
    Assignment,
    Report,
    Content(Option<Sha256Digest>),
    Offer(Option<Sha256Digest>),
    OfferOf(Option<OtherName>),
    Pieces(Option<Sha256Digest>),
    Certificate,
    Keys,
    Places(Option<Sha256Digest>),
}

impl Route {
    fn of(path: &[&str]) -> Option<Self> {
        match path {
            ["enrol"] => Some(Self::Enrol),
            ["point", "assignment"] => Some(Self::Assignment),
            ["point", "report"] => Some(Self::Report),
            ["point", "certificate"] => Some(Self::Certificate),
            ["point", "keys"] => Some(Self::Keys),
            ["point", "content", digest] => Some(Self::Content(digest.parse().ok())),
            ["point", "offer", digest] => Some(Self::Offer(digest.parse().ok())),
            ["point", "offer", "sha1", sha1] => Some(Self::OfferOf(sha1.parse().ok().map(OtherName::Sha1))),
            ["point", "offer", "package", package, file] => {
                let name = package.parse().ok().zip(file.parse().ok());
                Some(Self::OfferOf(name.map(|(package, file)| OtherName::InPackage(package, file))))
            }
            ["point", "places", digest] => Some(Self::Places(digest.parse().ok())),
            ["point", "content", digest, "pieceshash"] => Some(Self::Pieces(digest.parse().ok())),
            _ => None,
        }
    }

    fn methods(&self) -> &'static str {
        match self {
            Self::Enrol | Self::Report | Self::Certificate => "POST",
            Self::Assignment | Self::Keys | Self::Offer(_) | Self::OfferOf(_) | Self::Places(_) => "GET",
            Self::Content(_) | Self::Pieces(_) => "GET, HEAD",
        }
    }
}

impl PointService {
    /// The plane of `site`.
    pub fn new(site: Arc<Site>) -> Self {
        Self { site }
    }

    async fn serve(&self, call: &mut Call<'_>) -> Response<ContentBody> {
        let Some(route) = Route::of(call.path) else { return answer::empty(StatusCode::NOT_FOUND) };
        if !route.methods().split(", ").any(|method| method == call.head.method.as_str()) {
            return answer::not_allowed(route.methods());
        }
        self.carry_out(route, call).await.unwrap_or_else(|problem| answer::refused(&problem))
    }

    async fn carry_out(&self, route: Route, call: &mut Call<'_>) -> Result<Response<ContentBody>, Problem> {
        if !matches!(route, Route::Enrol) {
            let principal = principal_of(&self.site, call).await?;
            return self.of_point(route, principal, call).await;
        }
        let (door, asker, now) = (&self.site.keys.door, call.asker(), clock::now());
        door.admits(asker, now)?;
        let done = keys::enrolled(&self.site, call).await;
        if let Err(problem) = &done {
            door.counts(asker, problem, now);
        }
        done
    }

    async fn of_point(
        &self,
        route: Route,
        principal: Principal,
        call: &mut Call<'_>,
    ) -> Result<Response<ContentBody>, Problem> {
        let name = principal.name.clone();
        let point = match principal.kind {
            PrincipalKind::Point => self.site.read(move |r| r.point_named(&name)).await?,
            PrincipalKind::Device => None,
        };
        let Some(point) = point else {
            return Err(Problem::new(Code::KeyRefused, "this key is not that of a distribution point"));
        };
        match route {
            Route::Assignment => {
                is_of_the_installation(&principal, call)?;
                if let Some(boot) = query(call, "boot").and_then(|boot| boot.parse().ok()) {
                    super::heard(&self.site, point.id, boot, clock::now()).await?;
                }
                self.assignment(&principal, point.id, call).await
            }
            Route::Keys => {
                is_of_the_installation(&principal, call)?;
                let made = assign::make(&self.site, point.id, Form::KeysApart).await?;
                let told = device_keys::told(&self.site, &made, query(call, "since")).await?;
                Ok(answer::json(StatusCode::OK, &told))
            }
            Route::Report => {
                let (report, _room) = match answer::read::<Report>(call).await {
                    Ok(read) => read,
                    Err(unread) => return Ok(unread.response()),
                };
                // Who says neither how its packages are nor what that is called says nothing.
                if report.packages.is_none() && report.state.is_none() {
                    return Ok(answer::empty(StatusCode::BAD_REQUEST));
                }
                let is_of_before = report.state.is_none();
                let state = report::take(&self.site, &principal, &point, call.peer.ip(), report).await?;
                Ok(match is_of_before {
                    true => answer::empty(StatusCode::NO_CONTENT),
                    false => answer::json(StatusCode::OK, &ReportAnswer { state, changes: true }),
                })
            }
            Route::Certificate => {
                let body = match call.body.read().await {
                    Ok(body) => body,
                    Err(refused) => return Ok(refused.response()),
                };
                Ok(match certificate::signed(&self.site, &point, &body).await? {
                    Some(answer) => answer::json(StatusCode::OK, &answer),
                    None => answer::empty(StatusCode::BAD_REQUEST),
                })
            }
            Route::Content(Some(content)) => {
                let id = point.id;
                let Some(row) = offer::row(&self.site, content, id).await? else {
                    return Ok(answer::empty(StatusCode::NOT_FOUND));
                };
                let mut response = answer::empty(StatusCode::OK);
                response.extensions_mut().insert(Deliver { content, servable: servable(row) });
                response.extensions_mut().insert(Remark(format!("to point {}", point.name)));
                Ok(response)
            }
            Route::Offer(Some(content)) => self.offer(content, point.id, call).await,
            Route::OfferOf(Some(name)) => match offer::named(&self.site, name).await? {
                Some(content) => self.offer(content, point.id, call).await,
                None => Ok(answer::empty(StatusCode::NOT_FOUND)),
            },
            Route::Pieces(Some(content)) => {
                let id = point.id;
                let row = self.site.read(move |r| r.assigned_content(content, id)).await?;
                let library = self.site.library.clone();
                let print = blocking(move || Ok(library.known_fingerprint(content))).await?;
                let Some((_, print)) = row.zip(print) else {
                    return Ok(answer::empty(StatusCode::NOT_FOUND));
                };
                let json = hash_file(print.size, &print.pieces);
                Ok(carrying(
                    StatusCode::OK,
                    json.into(),
                    "application/json",
                    call.head.method == Method::HEAD,
                ))
            }
            Route::Places(Some(content)) => {
                let Some(client) = query(call, "client").and_then(|client| client.parse().ok()) else {
                    return Ok(answer::empty(StatusCode::BAD_REQUEST));
                };
                Ok(match offer::places(&self.site, content, point.id, client).await? {
                    Some(places) => answer::json(StatusCode::OK, &places),
                    None => answer::empty(StatusCode::NOT_FOUND),
                })
            }
            Route::Content(None)
            | Route::Pieces(None)
            | Route::Offer(None)
            | Route::OfferOf(None)
            | Route::Places(None)
            | Route::Enrol => Ok(answer::empty(StatusCode::NOT_FOUND)),
        }
    }

    async fn offer(
        &self,
        content: Sha256Digest,
        point: i64,
        call: &Call<'_>,
    ) -> Result<Response<ContentBody>, Problem> {
        let with_pieces = query(call, "pieces") != Some("no");
        Ok(match offer::of(&self.site, content, point, with_pieces).await? {
            Some(offer) => answer::json(StatusCode::OK, &offer),
            None => answer::empty(StatusCode::NOT_FOUND),
        })
    }

    /// `GET /point/assignment?wait=SECONDS`: 200, or 304 where it is still the one that `If-None-Match` names when the
    /// time is over; for a point that says which keys it has (`keys=TAG`) also as soon as it is to have others.
    async fn assignment(
        &self,
        principal: &Principal,
        point: i64,
        call: &Call<'_>,
    ) -> Result<Response<ContentBody>, Problem> {
        let wait = query(call, "wait").and_then(|wait| wait.parse().ok()).unwrap_or(0_u64).min(LONGEST_WAIT);
        let has_keys = query(call, "keys");
        let form = if has_keys.is_some() { Form::KeysApart } else { Form::KeysWithin };
        let until = tokio::time::Instant::now() + Duration::from_secs(wait);
        // Heard before it is read: what changes in between is not missed.
        let mut changes = self.site.points.changes(point);
        loop {
            let stopping = changes.borrow_and_update().stopping;
            let mut made = assign::make(&self.site, point, form).await?;
            let is_known = answer::is_known(&call.head.headers, &made.etag);
            if !is_known && made.body.is_none() {
                made = assign::make_whole(&self.site, point, form).await?;
            }
            let mut keys = None;
            if has_keys.is_some() {
                keys = Some(device_keys::tag(&self.site, &made).await?);
            }
            if !is_known {
                return with_keys(answer::tagged(&made.etag, made.body)?, keys);
            }
            if keys.as_deref() != has_keys {
                return with_keys(answer::tagged(&made.etag, None)?, keys);
            }
            let waited = tokio::time::timeout_at(until, changes.changed()).await;
            // Whose key is taken back meanwhile hears of it at once, by asking again.
            let hash = principal.hash;
            let in_force = self.site.read(move |r| r.principal_by_hash(hash)).await?;
            let revoked = in_force.is_none_or(|principal| principal.revoked.is_some());
            if stopping || revoked || !matches!(waited, Ok(Ok(()))) {
                return with_keys(answer::tagged(&made.etag, None)?, keys);
            }
        }
    }
}

impl Service for PointService {
    fn largest_body(&self, path: &[&str]) -> Option<u64> {
        Some(match Route::of(path)? {
            Route::Enrol => LARGEST_ENROLMENT,
            Route::Report => LARGEST_REPORT,
            Route::Certificate => LARGEST_CERTIFICATE_REQUEST,
            Route::Assignment
            | Route::Keys
            | Route::Content(_)
            | Route::Pieces(_)
            | Route::Offer(_)
            | Route::OfferOf(_)
            | Route::Places(_) => 0,
        })
    }

    fn answer<'s>(&'s self, call: &'s mut Call<'_>) -> Answering<'s> {
        Box::pin(self.serve(call))
    }
}

/// The answer, with the tag of the keys that the point has to know.
fn with_keys(
    mut response: Response<ContentBody>,
    tag: Option<String>,
) -> Result<Response<ContentBody>, Problem> {
    if let Some(tag) = tag {
        let field = HeaderValue::from_str(&tag).map_err(|error| Problem::of(Code::Internal, &error))?;
        response.headers_mut().insert(HeaderName::from_static(KEYS_FIELD), field);
    }
    Ok(response)
}

/// Refuses another installation than the one that enrolled, where it says which it is.
fn is_of_the_installation(principal: &Principal, call: &Call<'_>) -> Result<(), Problem> {
    let (Some(known), Some(asks)) = (principal.instance, query(call, "instance")) else { return Ok(()) };
    if asks == known.to_string() {
        return Ok(());
    }
    Err(super::another_installation(principal))
}

/// A value of the query; ours have nothing that would be encoded.
fn query<'c>(call: &'c Call<'_>, key: &str) -> Option<&'c str> {
    let pairs = call.head.uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(name, _)| *name == key).map(|(_, value)| value).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_these_are_routes() {
        for (path, methods) in [
            ("enrol", Some("POST")),
            ("point/assignment", Some("GET")),
            ("point/report", Some("POST")),
            ("point/certificate", Some("POST")),
            ("point/keys", Some("GET")),
            ("point/keys/x", None),
            ("point/content/x", Some("GET, HEAD")),
            ("point/offer/x", Some("GET")),
            ("point/offer/sha1/x", Some("GET")),
            ("point/offer/package/x/y", Some("GET")),
            ("point/offer/package/x", None),
            ("point/places/x", Some("GET")),
            ("point/places", None),
            ("point/content/x/pieceshash", Some("GET, HEAD")),
            ("point/content/x/y", None),
            ("point/content", None),
            ("point", None),
            ("Enrol", None),
            ("enrol/", None),
            ("", None),
        ] {
            let segments: Vec<_> = path.split('/').collect();
            assert_eq!(Route::of(&segments).map(|route| route.methods()), methods, "{path}");
        }
    }
}
