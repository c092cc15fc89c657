//! Where a client is sent for content. Pure: who has it goes in, an ordered list comes out.

use catalog::digest::{Sha1Digest, Sha256Digest};
use catalog::id::FileName;

use crate::server::{Location, LocationKind, LocationsAnswer};

/// How long an answer may be believed, in seconds: a point that was withdrawn is asked in vain for this long at most.
const EXPIRES: u32 = 900;

/// What is known about who has one content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its bytes.
    pub size: u64,
    /// Its SHA-1.
    pub sha1: Option<Sha1Digest>,
    /// A name for it.
    pub file_name: FileName,
    /// Distribution points that were given it: name and address.
    pub points: Vec<(String, String)>,
    /// Links of the upstream.
    pub cloud: Vec<String>,
}

/// Distribution points first, the cloud last.
pub fn answer(content: Sha256Digest, held: Held) -> LocationsAnswer {
    let location = |kind, name: String, url| Location { kind, name, url };
    let points =
        held.points.into_iter().map(|(name, url)| location(LocationKind::DistributionPoint, name, url));
    let mut links = held.cloud;
    links.sort();
    links.dedup();
    let cloud = links.into_iter().map(|url| location(LocationKind::Cloud, "upstream".to_owned(), url));
    LocationsAnswer {
        content,
        size: held.size,
        sha1: held.sha1,
        file_name: held.file_name,
        locations: points.chain(cloud).collect(),
        expires_in_seconds: EXPIRES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_site_comes_before_the_cloud_and_nobody_twice() {
        let held = Held {
            size: 1,
            sha1: None,
            file_name: "x.esd".parse().unwrap(),
            points: vec![("site".to_owned(), "http://site/content/1".to_owned())],
            cloud: vec!["http://b".to_owned(), "http://a".to_owned(), "http://b".to_owned()],
        };
        let answer = answer(Sha256Digest([1; 32]), held);
        let urls: Vec<_> = answer.locations.iter().map(|location| location.url.as_str()).collect();
        assert_eq!(urls, ["http://site/content/1", "http://a", "http://b"]);
    }
}
