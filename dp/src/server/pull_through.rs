//! Answers to requests for content that this point lacks, while or before it arrives ([`super::pull`]).
//!
//! For whoever wants only what is there (`Cache-Control: only-if-cached`, RFC 9111 section 5.2.1.7), as another point does, nobody
//! is asked and nothing begins to arrive: points that ask each other would go round in a circle.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use catalog::digest::Sha256Digest;
use catalog::id::PackageId;
use http::request::Parts;
use http::{Method, Response, header};

use super::access::Asker;
use super::body::ContentBody;
use super::conditional::{self, Reply};
use super::counters::Source as ServedAs;
use super::follow::Follower;
use super::pull::{Offer, OtherName, Pulls};
use super::refusal::Refusal;
use super::routes::{family, sha1_of};
use super::{ContentServer, access, mirrors, respond};

/// By which name content was asked for.
enum Asked {
    /// Its own.
    Content(Sha256Digest),
    /// Another one.
    Named(OtherName),
}

impl Asked {
    /// By which name a path asks for content, where nothing here has it.
    fn of(path: &[&str]) -> Option<Self> {
        fn bare(name: &str) -> &str {
            mirrors::without_suffix(name).unwrap_or(name)
        }
        Some(match family(path) {
            ("content", [name]) => Self::Content(bare(name).parse().ok()?),
            ("content", [digest, "pieceshash" | "blocks"]) => Self::Content(digest.parse().ok()?),
            ("packages", [package, file]) => Self::Named(in_package(package.parse().ok()?, bare(file))?),
            ("content", [folder, file]) => Self::Named(OtherName::Sha1(sha1_of(folder, file)?)),
            _ => return None,
        })
    }
}

/// A file of a package, where that may be its name: no longer than the names that files have.
pub(super) fn in_package(package: PackageId, file: &str) -> Option<OtherName> {
    Some(OtherName::InPackage(package, file.to_ascii_lowercase().parse().ok()?))
}

/// Whether nothing is to be fetched for a request (RFC 9111 section 5.2.1.7).
fn wants_only_what_is_there(head: &Parts) -> bool {
    let fields = head.headers.get_all(header::CACHE_CONTROL).iter();
    let mut words = fields.filter_map(|field| field.to_str().ok()).flat_map(|field| field.split(','));
    words.any(|word| word.trim().eq_ignore_ascii_case("only-if-cached"))
}

impl ContentServer {
    /// The same server, which fetches what it lacks and may serve.
    pub fn with_pulls(self, pulls: Arc<Pulls>) -> Self {
        Self { pulls: Some(pulls), ..self }
    }

    /// Marks an answer whose bytes are here because somebody asked for them.
    pub(super) fn as_pulled(
        &self,
        response: Response<ContentBody>,
        content: Sha256Digest,
    ) -> Response<ContentBody> {
        let Some(pulls) = &self.pulls else { return response };
        let mut response = response.map(|body| body.using(pulls.using(content)));
        response.extensions_mut().insert(ServedAs::PullThrough);
        response
    }

    /// Whom to ask for what is not here, unless nobody is to be asked for this request.
    fn to_ask(&self, head: &Parts) -> Option<&Arc<Pulls>> {
        self.pulls.as_ref().filter(|_| !wants_only_what_is_there(head))
    }

    /// What a content is that is not here and would be fetched, if this client may have it.
    async fn offered(
        &self,
        pulls: &Pulls,
        head: &Parts,
        content: Sha256Digest,
        client: Asker,
    ) -> Result<Arc<Offer>, Refusal> {
        let offer = pulls.offer(content).await?;
        match access::may(&*self.gate, offer.servable.access, head, client) {
            true => Ok(offer),
            false => Err(Refusal::Forbidden),
        }
    }

    /// The same for descriptions of it, of which nothing is fetched.
    pub(super) async fn described_elsewhere(
        &self,
        head: &Parts,
        content: Sha256Digest,
        client: Asker,
    ) -> Result<Arc<Offer>, Refusal> {
        self.offered(self.to_ask(head).ok_or(Refusal::Absent)?, head, content, client).await
    }

    /// Which content has a name that nothing here has.
    pub(super) async fn named_elsewhere(
        &self,
        head: &Parts,
        name: OtherName,
    ) -> Result<Sha256Digest, Refusal> {
        self.to_ask(head).ok_or(Refusal::Absent)?.content_named(name).await
    }

    /// What is said to whoever may not have what a path asks for: what would be said if it were not here. A point that cannot ask its
    /// site says so of what it lacks, and would tell by 404 what it has.
    pub(super) async fn hidden(&self, head: &Parts, path: &[&str]) -> Refusal {
        let (Some(pulls), Some(asked)) = (self.to_ask(head), Asked::of(path)) else {
            return Refusal::Forbidden;
        };
        let offer = async {
            let content = match asked {
                Asked::Content(content) => content,
                Asked::Named(name) => pulls.content_named(name).await?,
            };
            pulls.offer(content).await
        };
        match offer.await {
            Ok(_) | Err(Refusal::Absent) => Refusal::Forbidden,
            Err(other) => other,
        }
    }

    /// `GET` or `HEAD` of a content that is not here: as if it were, or 404, 503, 507.
    pub(super) async fn pull_through(
        &self,
        head: &Parts,
        content: Sha256Digest,
        client: Asker,
        lacking: Refusal,
    ) -> Result<Response<ContentBody>, Refusal> {
        let Some(pulls) = &self.pulls else { return Err(lacking) };
        if wants_only_what_is_there(head) && !pulls.arrives(content) {
            return Err(lacking);
        }
        let offer = self.offered(pulls, head, content, client).await?;
        let servable = &offer.servable;
        pulls.has_not_just_failed(content)?;
        let (size, facts) = (servable.size, servable.facts(content).clone());
        let reply = conditional::decide(&head.method, &head.headers, &facts.validators, size);
        let first = match &reply {
            Reply::Whole if head.method == Method::GET && size > 0 => Some(0),
            Reply::Parts(parts) => parts.first().map(|part| part.start()),
            _ => None,
        };
        let Some(first) = first else {
            let described = respond::ServedFile::described(content, size, facts);
            return Ok(respond::file(described, reply, head.method == Method::HEAD));
        };
        let arrival = pulls.join(content, &offer)?;
        pulls.counts.followers.fetch_add(1, Ordering::Relaxed);
        arrival.reaches(first, pulls.limits.wait).await?;
        let follower = Follower::new(arrival.growth.clone(), size, pulls.limits.wait);
        let file = respond::ServedFile::arriving(arrival.opened(content, &self.contents)?, follower, facts);
        Ok(self.as_pulled(respond::file(file, reply, false), content))
    }
}
