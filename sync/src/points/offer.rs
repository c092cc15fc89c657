//! What a point may fetch because it is asked for it: what it was given; and public content that any point was given, if an
//! administrator lets it and the point says that it works so. Private content only goes where it was sent.

use std::net::IpAddr;
use std::sync::Arc;

use catalog::digest::Sha256Digest;
use catalog::problem::{Code, Problem};
use schema::distribution::ShelfRow;

use dp::server::{LocationKind, LocationsAnswer, Locator as _, OtherName};

use super::wire::OfferAnswer;
use crate::blocking::blocking;
use crate::site::Site;

/// What a content is, if `point` may have it.
///
/// # Errors
/// `CONTENT_UNAVAILABLE` where the site lacks at present what it offered: nobody takes that for withdrawn. Those of the database.
pub async fn row(site: &Arc<Site>, content: Sha256Digest, point: i64) -> Result<Option<ShelfRow>, Problem> {
    site.read(move |r| {
        if let Some(row) = r.assigned_content(content, point)? {
            return Ok(Some(row));
        }
        let offered = r.offered_content(content, point)?;
        if offered.is_none() && r.is_lost_to(content, point)? {
            let message = format!("the site's own copy of {content} was bad and is fetched again");
            return Err(Problem::new(Code::ContentUnavailable, message)
                .keeping("copies that points have of it stay")
                .into());
        }
        Ok(offered)
    })
    .await
}

/// Where a client of `point` finds a content that the point may have: what it would be told here. Of what is for those with a
/// key no peer and no cloud is named.
///
/// # Errors
/// Those of the database.
pub async fn places(
    site: &Arc<Site>,
    content: Sha256Digest,
    point: i64,
    client: IpAddr,
) -> Result<Option<LocationsAnswer>, Problem> {
    let Some(row) = row(site, content, point).await? else { return Ok(None) };
    let mut answer = site.locations.locate(client, content);
    if let Some(answer) = answer.as_mut().filter(|_| row.private) {
        answer.private = true;
        // What is said relative to the address that was asked would be the point itself there.
        let may = |kind, url: &str| kind == LocationKind::DistributionPoint && url.contains("://");
        answer.locations.retain(|place| may(place.kind, &place.url));
        answer.later.retain(|place| may(place.kind, &place.url));
    }
    Ok(answer)
}

/// Which content has another name than its SHA-256; `None` where there is none, and where two have it.
///
/// # Errors
/// Those of the database.
pub async fn named(site: &Arc<Site>, name: OtherName) -> Result<Option<Sha256Digest>, Problem> {
    site.read(move |r| match name {
        OtherName::Sha1(sha1) => Ok(match r.contents_of_sha1(sha1)?.as_slice() {
            [only] => Some(*only),
            _ => None,
        }),
        OtherName::InPackage(package, file) => r.content_in_package(&package, &file),
    })
    .await
}

/// All that a point needs to fetch it. Nothing is hashed for that.
///
/// # Errors
/// Those of [`row`].
pub async fn of(
    site: &Arc<Site>,
    content: Sha256Digest,
    point: i64,
    with_pieces: bool,
) -> Result<Option<OfferAnswer>, Problem> {
    let Some(row) = row(site, content, point).await? else { return Ok(None) };
    let (mut cloud, mut pieces) = (Vec::new(), Vec::new());
    if with_pieces {
        if !row.private {
            cloud = site.read(move |r| r.links_of(content)).await?;
        }
        let library = site.library.clone();
        let known = blocking(move || Ok(library.known_fingerprint(content))).await?;
        pieces = known.filter(|print| print.size == row.size).map(|print| print.pieces).unwrap_or_default();
    }
    Ok(Some(OfferAnswer {
        sha256: content,
        sha1: row.sha1,
        size: row.size,
        name: row.file_name,
        private: row.private,
        pieces,
        cloud,
    }))
}
