//! Which answer a request gets: its path is taken apart here, and content delivered.

use std::sync::Arc;
use std::time::Instant;

use catalog::digest::{Sha1Digest, Sha256Digest};
use catalog::id::PackageId;
use http::request::Parts;
use http::{HeaderValue, Method, Response, Version, header};
use hyper::body::Incoming;
use memchr::memchr;
use percent_encoding::percent_decode_str;
use tracing::warn;

use super::access::{Access, Asker};
use super::body::ContentBody;
use super::head::{announces_body, head_bytes, names_one_host, split};
use super::pull::OtherName;
use super::pull_through::in_package;
use super::refusal::Refusal;
use super::service::{Call, Deliver, Remark, RequestBody, Service};
use super::shelf::{Servable, Shelf};
use super::{ContentServer, LARGEST_HEAD, Peer, access, conditional, mirrors, respond, upstream};
use crate::library::LibraryError;

/// Segments of a path that are looked at where they stand.
const MOST_PLAIN: usize = 12;

impl ContentServer {
    pub(super) async fn route(
        &self,
        head: &Parts,
        body: &mut Incoming,
        peer: Peer<'_>,
    ) -> Response<ContentBody> {
        if head.version > Version::HTTP_11 {
            return respond::bad_request();
        }
        if head_bytes(head) > LARGEST_HEAD {
            return respond::refuse(Refusal::HeadTooLarge);
        }
        if !names_one_host(head) {
            return respond::bad_request();
        }
        // `*` and what is meant for proxies. No route has another form than a path.
        let Some(path) = head.uri.path().strip_prefix('/') else { return respond::bad_request() };
        // Nearly every path says what it means, and is short.
        let mut plain = [""; MOST_PLAIN];
        if memchr(b'%', path.as_bytes()).is_none()
            && let Some(count) = split(path, &mut plain)
        {
            return self.route_to(&plain[..count], head, body, peer).await;
        }
        // Split first: an encoded slash is part of a name (RFC 3986 section 2.2), and caches before us think so too.
        let decoded: Result<Vec<_>, _> =
            path.split('/').map(|part| percent_decode_str(part).decode_utf8()).collect();
        let Ok(decoded) = decoded else { return respond::bad_request() };
        if decoded.iter().any(|part| part.contains('\0')) {
            return respond::bad_request();
        }
        let segments: Vec<&str> = decoded.iter().map(AsRef::as_ref).collect();
        self.route_to(&segments, head, body, peer).await
    }

    async fn route_to(
        &self,
        segments: &[&str],
        head: &Parts,
        body: &mut Incoming,
        peer: Peer<'_>,
    ) -> Response<ContentBody> {
        if let Some((service, largest)) = self.service_of(segments) {
            // The way of content is short; what else there is does not make it longer.
            return Box::pin(self.serve_call(service, largest, head, body, segments, peer)).await;
        }
        // No other route takes a body. One that comes all the same is how requests are smuggled.
        if announces_body(head) {
            return respond::bad_request();
        }
        let mut answer = self.answer_about(head, segments, peer.asker()).await;
        if matches!(answer, Err(Refusal::Forbidden)) {
            answer = Err(Box::pin(self.hidden(head, segments)).await);
        }
        answer.unwrap_or_else(|refusal| match refusal {
            // Many wait for one content: they shall not all come back at once.
            Refusal::NotYet | Refusal::Upstream => respond::refuse_for(refusal, self.admission.retry_after()),
            other => respond::refuse(other),
        })
    }

    /// The routes of content and of what is told about it.
    async fn answer_about(
        &self,
        head: &Parts,
        segments: &[&str],
        client: Asker,
    ) -> Result<Response<ContentBody>, Refusal> {
        let readable = matches!(head.method, Method::GET | Method::HEAD);
        let shelf = self.shelf.load();
        let (first, rest) = family(segments);
        match (first, rest) {
            ("content" | "packages" | "locations", _) if !readable => Err(Refusal::Method),
            ("content", [name]) => match (name.parse(), mirrors::without_suffix(name).map(str::parse)) {
                (Ok(digest), _) => self.content(head, &shelf, digest, client).await,
                (_, Some(Ok(digest))) => self.metalink(head, &shelf, digest, None, client).await,
                _ => Err(Refusal::Absent),
            },
            ("content", [digest, what @ ("pieceshash" | "blocks")]) => {
                let digest = digest.parse().map_err(|_| Refusal::Absent)?;
                match *what {
                    "blocks" => self.block_map(head, &shelf, digest, client).await,
                    _ => self.pieces_hash(head, &shelf, digest, client).await,
                }
            }
            // As update servers name content.
            ("content", [folder, file]) => {
                let sha1 = sha1_of(folder, file).ok_or(Refusal::Absent)?;
                let found = match shelf.by_sha1.get(&sha1) {
                    Some(known) => known.ok_or(Refusal::Absent)?,
                    None => Box::pin(self.named_elsewhere(head, OtherName::Sha1(sha1))).await?,
                };
                self.content(head, &shelf, found, client).await
            }
            ("packages", [package, file]) => {
                let package: PackageId = package.parse().map_err(|_| Refusal::Absent)?;
                let of =
                    |file: &str| shelf.packages.get(&(package.clone(), file.to_ascii_lowercase())).copied();
                if let Some(digest) = of(file) {
                    return self.content(head, &shelf, digest, client).await.map(respond::by_name);
                }
                let described = mirrors::without_suffix(file);
                let digest = match described.and_then(of) {
                    Some(digest) => digest,
                    None => {
                        let name = in_package(package.clone(), described.unwrap_or(file));
                        Box::pin(self.named_elsewhere(head, name.ok_or(Refusal::Absent)?)).await?
                    }
                };
                match described {
                    Some(file) => self.metalink(head, &shelf, digest, Some(file), client).await,
                    None => self.content(head, &shelf, digest, client).await.map(respond::by_name),
                }
            }
            ("locations", [digest]) => {
                self.locations(head, &shelf, digest.parse().map_err(|_| Refusal::Absent)?, client)
            }
            ("mscomtest", [image]) if readable && image.eq_ignore_ascii_case("wuidt.gif") => {
                Ok(upstream::test_image(head))
            }
            // As the upstream has it, for clients that were told that this is its cache.
            _ if readable && !shelf.by_upstream.is_empty() => {
                let found = upstream::path_of(segments).and_then(|path| shelf.by_upstream.find(path));
                let public = found.filter(|digest| shelf.access(*digest) == Access::Public);
                self.content(head, &shelf, public.ok_or(Refusal::NoRoute)?, client)
                    .await
                    .map(respond::by_name)
            }
            _ => Err(Refusal::NoRoute),
        }
    }

    /// The service whose route this is, and the most bytes of a body there. Content is never its.
    fn service_of(&self, segments: &[&str]) -> Option<(&Arc<dyn Service>, u64)> {
        self.services.iter().find_map(|service| Some((service, service.largest_body(segments)?)))
    }

    async fn serve_call(
        &self,
        service: &Arc<dyn Service>,
        largest: u64,
        head: &Parts,
        body: &mut Incoming,
        path: &[&str],
        Peer { address: peer, secure, crowd }: Peer<'_>,
    ) -> Response<ContentBody> {
        // Only `POST` says what a body means here.
        if head.method != Method::POST && !http_body::Body::is_end_stream(body) {
            return respond::bad_request();
        }
        let body = RequestBody::new(body, largest, (self.limits.read_timeout, crowd), &self.room);
        let mut call = Call { head, path, peer, secure, body };
        let mut response = service.answer(&mut call).await;
        if let Some(Deliver { content, servable }) = response.extensions_mut().remove() {
            let remark = response.extensions_mut().remove::<Remark>();
            response = self.deliver(head, content, &servable).await.unwrap_or_else(respond::refuse);
            remark.map(|remark| response.extensions_mut().insert(remark));
        }
        // After a transfer coding nothing is believed: whoever stands before us may have read another one.
        if !call.body.is_over() || head.headers.contains_key(header::TRANSFER_ENCODING) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// `GET` or `HEAD` of one content: 200, 206, 304, 404, 412 or 416.
    async fn content(
        &self,
        head: &Parts,
        shelf: &Shelf,
        digest: Sha256Digest,
        client: Asker,
    ) -> Result<Response<ContentBody>, Refusal> {
        let servable = match self.servable(head, shelf, digest, client) {
            Err(lacking @ Refusal::Absent) => {
                return Box::pin(self.pull_through(head, digest, client, lacking)).await;
            }
            servable => servable?,
        };
        let mut response = match self.deliver(head, digest, servable).await {
            Err(lacking @ Refusal::Missing) => {
                return Box::pin(self.pull_through(head, digest, client, lacking)).await;
            }
            response => response?,
        };
        if servable.pulled && head.method == Method::GET {
            response = self.as_pulled(response, digest);
        }
        if response.status().is_success() && mirrors::wants_links(head) {
            Box::pin(self.link_duplicates(&mut response, head, shelf, digest, client)).await;
        }
        Ok(response)
    }

    /// The same, whatever is on the shelf and whoever asks.
    async fn deliver(
        &self,
        head: &Parts,
        digest: Sha256Digest,
        servable: &Servable,
    ) -> Result<Response<ContentBody>, Refusal> {
        let content = match self.contents.open(digest).await {
            Ok(Some(content)) if content.size == servable.size => content,
            Ok(_) => {
                self.say_damage(digest, "it is distributed and not in the library, or of another size");
                self.contents.doubt(digest);
                return Err(Refusal::Missing);
            }
            Err(error) => {
                self.say_damage(digest, &error.to_string());
                if error.is_damage() {
                    self.contents.doubt(digest);
                }
                let is_corrupt = matches!(error, LibraryError::Corrupt { .. });
                return Err(if is_corrupt { Refusal::Damaged } else { Refusal::Unreadable });
            }
        };
        let file = respond::ServedFile::new(content, servable.facts(digest).clone());
        let reply = conditional::decide(&head.method, &head.headers, &file.facts.validators, file.size);
        Ok(respond::file(file, reply, head.method == Method::HEAD))
    }

    /// Says what is wrong with a content, not as often as somebody asks for it.
    fn say_damage(&self, digest: Sha256Digest, what: &str) {
        if let Some(others) = self.damage_said.tells(Instant::now()) {
            warn!(content.sha256 = %digest, others, "{digest} is not served: {what}; {others} other requests failed so since this was last said");
        }
    }

    /// What this client may be served. Absent, not distributed and forbidden look the same from outside.
    pub(super) fn servable<'s>(
        &self,
        head: &Parts,
        shelf: &'s Shelf,
        digest: Sha256Digest,
        client: Asker,
    ) -> Result<&'s Servable, Refusal> {
        let servable = shelf.contents.get(&digest).ok_or(Refusal::Absent)?;
        if access::may(&*self.gate, servable.access, head, client) {
            Ok(servable)
        } else {
            Err(Refusal::Forbidden)
        }
    }
}

/// What a path is about, in lower case where it is one of ours, and the rest of it. Update servers take no regard to case ([MS-WSUSSS]
/// section 2.1): clients need not know who of us is none.
pub(super) fn family<'p, 's>(segments: &'p [&'s str]) -> (&'s str, &'p [&'s str]) {
    let Some((first, rest)) = segments.split_first() else { return ("", &[]) };
    let known = ["content", "packages", "locations", "mscomtest"];
    (known.into_iter().find(|known| first.eq_ignore_ascii_case(known)).unwrap_or(first), rest)
}

/// The digest in `CD/87F5…DDCD.exe`: the folder is its last two digits, the extension may be any.
pub(super) fn sha1_of(folder: &str, file: &str) -> Option<Sha1Digest> {
    let name = file.split_once('.').map_or(file, |(name, _)| name);
    let sha1 = name.parse().ok()?;
    name.get(name.len() - 2..)?.eq_ignore_ascii_case(folder).then_some(sha1)
}
