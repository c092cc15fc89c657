//! Where a point fetches what it is to hold, and what it means when nobody gives it.

use std::sync::Arc;
use std::time::Duration;

use catalog::digest::{PIECE_SIZE, Pieces, Sha256Digest};
use catalog::problem::{Code, Problem};
use dp::server::read_hash_file;
use dp::transfer::fault::Fault;
use dp::transfer::web::{Small, Web};
use dp::transfer::{At, FetchError, Source, SourceKind};
use tracing::debug;
use url::Url;

use super::call;
use crate::points::wire::{Assignment, LARGEST_OFFER, OfferAnswer};
use crate::site::Site;

/// The most bytes of a file with the hashes of pieces: enough for contents of 80 GiB.
const LARGEST_HASH_FILE: u64 = 4 << 20;

/// Where files are fetched from: the points that were named, in order, then the site.
pub(super) struct Sources {
    pub(super) base: Url,
    pub(super) site: Arc<Web>,
    points: Vec<(Url, Arc<Web>)>,
}

impl Sources {
    pub(super) fn new(site: &Site, assignment: &Assignment) -> Result<Self, Problem> {
        let settings = site.settings();
        let base = call::base(&settings.dp.site)?;
        let site = call::web_of_point(&settings, &base)?;
        let mut points = Vec::new();
        for address in &assignment.pull_from {
            let Ok(url) = Url::parse(&format!("{}/", address.trim_end_matches('/'))) else { continue };
            let web = call::web_of_another_point(&url, settings.dp.ca_file())?;
            points.push((url, web));
        }
        Ok(Self { site, base, points })
    }

    /// What the site says that the pieces are, so that a point that lies costs one of them and not the file. Without an answer
    /// the digest of the whole decides alone.
    pub(super) async fn pieces(&self, content: Sha256Digest, size: u64) -> Option<Pieces> {
        if size <= PIECE_SIZE as u64 {
            return None; // its one piece is the whole
        }
        let url = call::join(&self.base, &format!("point/content/{content}/pieceshash")).ok()?;
        match self.site.get_small(&url, LARGEST_HASH_FILE, None).await {
            Ok(Small::Body { bytes, .. }) => read_hash_file(&bytes, size),
            Ok(Small::NotModified) => None,
            Err(fault) => {
                debug!("the site tells no pieces of {content}: {fault}");
                None
            }
        }
    }

    pub(super) fn of(&self, content: Sha256Digest) -> Result<Vec<Source>, Problem> {
        let source = |url: Url, web: &Arc<Web>| Source {
            kind: SourceKind::DistributionPoint,
            name: url.origin().ascii_serialization(),
            at: At::Url(url),
            web: web.clone(),
        };
        let mut sources = Vec::new();
        for (base, web) in &self.points {
            sources.push(source(call::join(base, &format!("content/{content}"))?, web));
        }
        sources.push(source(call::join(&self.base, &format!("point/content/{content}"))?, &self.site));
        Ok(sources)
    }
}

/// What the site says of a content; `None` where it is not for this point.
pub(super) async fn ask(
    sources: &Sources,
    content: Sha256Digest,
    with_pieces: bool,
) -> Result<Option<OfferAnswer>, Problem> {
    let said = ask_at(sources, &[content.to_string()], with_pieces).await?;
    match said {
        Some(said) if said.sha256 != content => {
            let message = format!("expected {content}, it is about {}", said.sha256);
            Err(Problem::new(Code::SiteAnswerInvalid, message))
        }
        said => Ok(said),
    }
}

/// The same by whatever name.
pub(super) async fn ask_at(
    sources: &Sources,
    name: &[String],
    with_pieces: bool,
) -> Result<Option<OfferAnswer>, Problem> {
    let mut url = call::join(&sources.base, "point/offer/")?;
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(name);
    }
    if !with_pieces {
        url.set_query(Some("pieces=no"));
    }
    call::ask(&sources.site, &url, Duration::from_secs(20), LARGEST_OFFER).await
}

/// Whether the site, which is the last source of every file, was not there at the end: what nobody gave then says nothing about the
/// file, and is asked for again as soon as there is contact.
pub(super) fn site_was_away(error: &FetchError) -> bool {
    let FetchError::AllFailed { sources, .. } = error else { return false };
    sources.last().is_some_and(|site| matches!(site.faults.last(), Some(Fault::Unreachable(_))))
}

#[cfg(test)]
mod tests {
    use dp::transfer::SourceFailure;

    use super::*;

    #[test]
    fn only_a_site_that_cannot_be_reached_is_away() {
        let away = || Fault::Unreachable("refused".to_owned());
        let absent = || Fault::NotFound("404".to_owned());
        let cut = || Fault::CutShort { expected: 9, actual: 4 };
        for (point, site, expected) in [
            (vec![absent()], vec![away()], true),
            (vec![], vec![cut(), away()], true),
            (vec![away()], vec![absent()], false),
            (vec![away()], vec![away(), cut()], false),
            (vec![away()], vec![], false),
        ] {
            let shown = format!("{point:?} {site:?}");
            let sources = [point, site].map(|faults| {
                let at = At::Url(Url::parse("http://x/").expect("an address"));
                SourceFailure {
                    kind: SourceKind::DistributionPoint,
                    name: "x".to_owned(),
                    at,
                    bytes: 0,
                    faults,
                    shared: false,
                    unreachable: None,
                }
            });
            let file = "a.esd".parse().expect("a name");
            let error = FetchError::AllFailed { file, kept: 0, sources: sources.into() };
            assert_eq!(site_was_away(&error), expected, "{shown}");
        }
    }
}
