//! Descriptions of content that name the other places where it is: for programs that fall back and verify by themselves.
//!
//! Places come from the same answer that `/locations` gives to this client, in the same order. Pieces come from the side
//! file of the content: nothing is hashed because somebody asks.

use std::net::IpAddr;
use std::sync::Arc;

use catalog::digest::{Pieces as PieceHashes, Sha256Digest};
use http::request::Parts;
use http::{HeaderValue, Method, Response, header};

use super::access::{Access, Asker};
use super::body::ContentBody;
use super::document::Document;
use super::metalink::{self, Pieces};
use super::refusal::Refusal;
use super::shelf::{LocationKind, LocationsAnswer, Servable, Shelf};
use super::{ContentServer, access, respond};

/// Places that `Link` fields name.
const MOST_LINKS: usize = 8;
/// The media type of Metalink documents.
const METALINK: &str = "application/metalink4+xml";

/// A content as far as its hashes are told.
struct Described {
    size: u64,
    access: Access,
    /// The hashes of its pieces, where it is not here and whoever offers it tells them.
    told: Option<PieceHashes>,
}

impl ContentServer {
    /// Hashes of the pieces of a content; `None` where neither a side file tells them nor whoever offers it.
    async fn pieces_of(
        &self,
        digest: Sha256Digest,
        size: u64,
        told: Option<PieceHashes>,
    ) -> Option<Arc<Pieces>> {
        let library = self.library.clone();
        let read = move || {
            let hashes = match library.known_fingerprint(digest).filter(|print| print.size == size) {
                Some(print) => print.pieces,
                None => told.filter(|told| told.size() == size)?.hashes().to_vec(),
            };
            let pieces = Arc::new(Pieces::of(size, &hashes));
            let bytes = pieces.memory();
            Some((pieces, bytes))
        };
        self.pieces.of(digest, read).await
    }

    /// Where this client finds a content.
    pub(super) fn locate(
        &self,
        shelf: &Shelf,
        client: IpAddr,
        content: Sha256Digest,
    ) -> Option<LocationsAnswer> {
        Some(without_strangers(self.locator.as_ref()?.locate(client, content)?, shelf.access(content)))
    }

    /// The same for Metalink and `Link`.
    async fn elsewhere(
        &self,
        client: IpAddr,
        (content, access): (Sha256Digest, Access),
    ) -> Option<LocationsAnswer> {
        let answer = self.locator.as_ref()?.elsewhere(client, content).await?;
        Some(without_strangers(answer, access))
    }

    /// `GET` or `HEAD` of `/locations/{sha256}`: 200 or 404.
    pub(super) fn locations(
        &self,
        head: &Parts,
        shelf: &Shelf,
        digest: Sha256Digest,
        client: Asker,
    ) -> Result<Response<ContentBody>, Refusal> {
        // What is not on the shelf may still be elsewhere.
        if !access::may(&*self.gate, shelf.access(digest), head, client) {
            return Err(Refusal::Forbidden);
        }
        let is_head = head.method == Method::HEAD;
        if shelf.access(digest) == Access::Private {
            let answer = self.locate(shelf, client.address, digest).ok_or(Refusal::Absent)?;
            return Ok(respond::json(&answer, is_head));
        }
        let json = self.locator.as_ref().and_then(|locator| locator.locate_json(client.address, digest));
        Ok(respond::json_text(json.ok_or(Refusal::Absent)?, is_head))
    }

    /// `GET` or `HEAD` of `….meta4`: 200 or 404. `name` is what the client calls the file, if it has a name for it.
    pub(super) async fn metalink(
        &self,
        head: &Parts,
        shelf: &Shelf,
        digest: Sha256Digest,
        name: Option<&str>,
        client: Asker,
    ) -> Result<Response<ContentBody>, Refusal> {
        let offer;
        let (servable, told) = match self.servable(head, shelf, digest, client) {
            // What would be fetched is described like what is here: whoever asks for its bytes then gets them.
            Err(Refusal::Absent) => {
                offer = Box::pin(self.described_elsewhere(head, digest, client)).await?;
                (&offer.servable, offer.pieces.clone())
            }
            here => (here?, None),
        };
        let name = name.unwrap_or(servable.name.as_str());
        let urls = self.absolute_places(head, (digest, servable.access), client).await;
        if urls.is_empty() {
            return Err(Refusal::Absent); // it has no form without a place
        }
        let pieces = self.pieces_of(digest, servable.size, told).await;
        let pieces = pieces.map(|pieces| pieces.metalink.clone());
        let parts = metalink::document(name, servable.size, digest, pieces, &urls);
        let kind = HeaderValue::from_static(METALINK);
        let mut response = respond::document(parts, kind, "no-store", head.method == Method::HEAD);
        // Two clients are told of other places: no part of it fits to another answer.
        response.headers_mut().insert(header::ACCEPT_RANGES, HeaderValue::from_static("none"));
        // Browsers and download managers take this name; ASCII only, the document has the whole of it.
        let plain: String =
            name.chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).collect();
        if let Ok(value) = HeaderValue::try_from(format!("attachment; filename=\"{plain}.meta4\"")) {
            response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
        }
        Ok(response)
    }

    /// A content whose hashes this client may know: what it may be served here, what it is sent to others for, and what would be
    /// fetched for it.
    async fn described(
        &self,
        head: &Parts,
        shelf: &Shelf,
        digest: Sha256Digest,
        client: Asker,
    ) -> Result<Described, Refusal> {
        if shelf.contents.contains_key(&digest) {
            let servable = self.servable(head, shelf, digest, client)?;
            return Ok(Described { size: servable.size, access: servable.access, told: None });
        }
        let access = shelf.access(digest);
        if !access::may(&*self.gate, access, head, client) {
            return Err(Refusal::Forbidden);
        }
        if let Some(place) = self.locate(shelf, client.address, digest) {
            return Ok(Described { size: place.size, access, told: None });
        }
        let offer = Box::pin(self.described_elsewhere(head, digest, client)).await?;
        let Servable { size, access, .. } = offer.servable;
        Ok(Described { size, access, told: offer.pieces.clone() })
    }

    /// `GET` or `HEAD` of `…/pieceshash`: 404, or as of content.
    pub(super) async fn pieces_hash(
        &self,
        head: &Parts,
        shelf: &Shelf,
        digest: Sha256Digest,
        client: Asker,
    ) -> Result<Response<ContentBody>, Refusal> {
        let Described { size, access, told } = self.described(head, shelf, digest, client).await?;
        let Some(pieces) = self.pieces_of(digest, size, told).await else {
            return Err(if shelf.contents.contains_key(&digest) {
                Refusal::Missing
            } else {
                Refusal::Absent
            });
        };
        Ok(pieces.hash_file.answer(head, "application/json", access))
    }

    /// `GET` or `HEAD` of `…/blocks`: the same.
    pub(super) async fn block_map(
        &self,
        head: &Parts,
        shelf: &Shelf,
        digest: Sha256Digest,
        client: Asker,
    ) -> Result<Response<ContentBody>, Refusal> {
        let Described { access, .. } = self.described(head, shelf, digest, client).await?;
        let library = self.library.clone();
        let read = move || {
            let map = Arc::new(Document::of(library.block_map(digest)?.into()));
            let bytes = map.memory();
            Some((map, bytes))
        };
        // Not made yet, or never: nothing is missing that should be here.
        let map = self.maps.of(digest, read).await.ok_or(Refusal::Absent)?;
        Ok(map.answer(head, "application/octet-stream", access))
    }

    /// Adds `Link` fields with the other places, for clients that understand them ([`wants_links`]).
    pub(super) async fn link_duplicates(
        &self,
        response: &mut Response<ContentBody>,
        head: &Parts,
        shelf: &Shelf,
        digest: Sha256Digest,
        client: Asker,
    ) {
        let Some(answer) = self.elsewhere(client.address, (digest, shelf.access(digest))).await else {
            return;
        };
        let own = own_url(head, client.secure, digest);
        let others = answer.locations.iter().filter(|place| !self.is_own(&place.url, own.as_deref(), digest));
        for (index, place) in others.take(MOST_LINKS).enumerate() {
            let link = metalink::duplicate(&place.url, index + 1);
            if let Some(value) = link.and_then(|link| HeaderValue::try_from(link).ok()) {
                response.headers_mut().append(header::LINK, value);
            }
        }
    }

    /// Places as absolute addresses, best first. This point comes first where the answer does not say another order.
    async fn absolute_places(
        &self,
        head: &Parts,
        (digest, access): (Sha256Digest, Access),
        client: Asker,
    ) -> Vec<String> {
        let own = own_url(head, client.secure, digest);
        let told = self.elsewhere(client.address, (digest, access)).await;
        let told = told.map(|answer| answer.locations).unwrap_or_default();
        let mut urls: Vec<String> = Vec::with_capacity(told.len() + 1);
        for place in told {
            let is_own = self.is_own(&place.url, own.as_deref(), digest);
            let url = if is_own { own.clone() } else { Some(place.url) };
            if let Some(url) = url.filter(|url| url.contains("://") && !urls.contains(url)) {
                urls.push(url);
            }
        }
        if let Some(own) = own.filter(|own| !urls.contains(own)) {
            urls.insert(0, own);
        }
        urls
    }

    /// Whether a place is this very point: said relative to it, by the address that the client used, or by the one that others are told.
    fn is_own(&self, url: &str, own: Option<&str>, digest: Sha256Digest) -> bool {
        let path = format!("content/{digest}");
        own.is_some_and(|own| url.eq_ignore_ascii_case(own))
            || url.strip_prefix('/').unwrap_or(url) == path
            || self
                .known_as
                .as_ref()
                .is_some_and(|address| url.eq_ignore_ascii_case(&format!("{address}/{path}")))
    }
}

/// Whoever made the answer should not have named any: private content is never asked of strangers, and the key that opens it is
/// never shown to another client.
fn without_strangers(mut answer: LocationsAnswer, access: Access) -> LocationsAnswer {
    if access == Access::Private {
        answer.private = true;
        answer.locations.retain(|location| location.kind == LocationKind::DistributionPoint);
        answer.later.retain(|location| location.kind == LocationKind::DistributionPoint);
    }
    answer
}

/// Whether the other places are told in the head of an answer: to clients that say that they understand it, and to HEAD. Everybody
/// else is spared the longer head; see docs/decisions/0012-mirrors.md.
pub(super) fn wants_links(head: &Parts) -> bool {
    head.method == Method::HEAD || understands_links(head)
}

/// Whether a client says that it knows Metalink or asks for digests, as RFC 6249 section 6 wants it to.
fn understands_links(head: &Parts) -> bool {
    head.headers.iter().any(|(name, value)| match name.as_str() {
        "accept" => names_metalink(value.as_bytes()),
        name => matches!(name, "want-digest" | "want-repr-digest"),
    })
}

pub(super) fn names_metalink(accept: &[u8]) -> bool {
    accept.windows(METALINK.len()).any(|part| part.eq_ignore_ascii_case(METALINK.as_bytes()))
}

/// This point as the client addressed it: in a target that says so, else in `Host` (RFC 9112 section 3.2.2). Both were checked:
/// each is an authority.
fn own_url(head: &Parts, secure: bool, digest: Sha256Digest) -> Option<String> {
    let named = match head.uri.authority() {
        Some(authority) => authority.as_str(),
        None => head.headers.get(header::HOST)?.to_str().ok()?,
    };
    // Who the client says to be there is not for others.
    let host = named.rsplit_once('@').map_or(named, |(_, host)| host);
    if host.is_empty() {
        return None;
    }
    let scheme = if secure { "https" } else { "http" };
    Some(format!("{scheme}://{host}/content/{digest}"))
}

/// A name with the suffix of Metalink documents, without it.
pub(super) fn without_suffix(name: &str) -> Option<&str> {
    let at = name.len().checked_sub(".meta4".len())?;
    let suffix = name.get(at..)?;
    suffix.eq_ignore_ascii_case(".meta4").then(|| &name[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suffix_is_taken_off() {
        for (name, expected) in [
            ("a.esd.meta4", Some("a.esd")),
            ("a.esd.META4", Some("a.esd")),
            (".meta4", Some("")),
            ("a.esd", None),
            ("meta4", None),
            ("ä4", None),
            ("äääää", None),
        ] {
            assert_eq!(without_suffix(name), expected, "{name}");
        }
    }

    #[test]
    fn the_own_address_has_the_scheme_of_the_listener() {
        let head = http::Request::builder().header("host", "dp:8531").body(()).unwrap().into_parts().0;
        let digest = Sha256Digest::of(b"data");
        for (secure, scheme) in [(false, "http"), (true, "https")] {
            let expected = format!("{scheme}://dp:8531/content/{digest}");
            assert_eq!(own_url(&head, secure, digest), Some(expected));
        }
    }

    #[test]
    fn what_the_target_says_comes_before_the_host() {
        let digest = Sha256Digest::of(b"data");
        for (target, host, expected) in [
            ("/content/1", "dp", Some("http://dp/content/")),
            ("http://other:81/content/1", "dp", Some("http://other:81/content/")),
            ("https://other/content/1", "dp", Some("http://other/content/")),
            ("http://me:secret@other/content/1", "dp", Some("http://other/content/")),
            ("/content/1", "me@dp", Some("http://dp/content/")),
            ("/content/1", "", None),
        ] {
            let request = http::Request::builder().uri(target).header("host", host);
            let head = request.body(()).unwrap().into_parts().0;
            let expected = expected.map(|expected| format!("{expected}{digest}"));
            assert_eq!(own_url(&head, false, digest), expected, "{target} {host}");
        }
    }

    #[test]
    fn clients_say_that_they_understand() {
        let head = |name: &str, value: &str| {
            http::Request::builder().header(name, value).body(()).unwrap().into_parts().0
        };
        for (name, value, expected) in [
            ("accept", "*/*,application/metalink4+xml,application/metalink+xml", true),
            ("accept", "APPLICATION/METALINK4+XML", true),
            ("want-digest", "SHA-256;q=1", true),
            ("want-repr-digest", "sha-256=1", true),
            ("accept", "*/*", false),
            ("user-agent", "metalink4", false),
        ] {
            assert_eq!(understands_links(&head(name, value)), expected, "{name}: {value}");
        }
    }
}
