//! Whom a client may ask: a deployment may leave some out of what the site names. Pure.

use crate::server::{LocationKind, LocationsAnswer};

/// Whom a client may ask for a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// Distribution points.
    pub points: bool,
    /// Those of neighbouring boundary groups.
    pub neighbours: bool,
    /// Those of the site's default boundary group.
    pub default_group: bool,
    /// The cloud.
    pub cloud: bool,
}

impl Default for Allowed {
    fn default() -> Self {
        Self { points: true, neighbours: true, default_group: true, cloud: true }
    }
}

impl Allowed {
    /// Why a place of this sort may not be asked, if so; `why` is what the site says that it stands there for.
    pub fn why_not(self, kind: LocationKind, why: &str) -> Option<&'static str> {
        match kind {
            LocationKind::Cloud if !self.cloud => Some("the deployment does not allow the cloud"),
            LocationKind::DistributionPoint if !self.points => {
                Some("there is no deployment package, so no distribution point is asked")
            }
            LocationKind::DistributionPoint if !self.neighbours && why == "neighbour" => {
                Some("the deployment does not allow neighbours")
            }
            LocationKind::DistributionPoint if !self.default_group && why == "default-group" => {
                Some("the deployment does not allow the default site group")
            }
            _ => None,
        }
    }

    /// The answer of a site without those who may not be asked.
    pub fn of(self, mut answer: LocationsAnswer) -> LocationsAnswer {
        let may = |kind: LocationKind, why: &str| self.why_not(kind, why).is_none();
        let before = answer.locations.len() + answer.later.len();
        answer.locations.retain(|one| may(one.kind, &one.why));
        answer.later.retain(|one| may(one.kind, &one.why));
        answer.not_told += before - answer.locations.len() - answer.later.len();
        answer
    }
}

#[cfg(test)]
mod tests {
    use catalog::digest::Sha256Digest;

    use super::*;
    use crate::server::Location;

    #[test]
    fn without_a_package_no_point_is_asked() {
        let of = |kind, name: &str, why: &str| Location {
            kind,
            name: name.to_owned(),
            url: String::new(),
            why: why.to_owned(),
            reason: String::new(),
        };
        let json = serde_json::json!({
            "content": Sha256Digest([0; 32]), "size": 1, "sha1": null, "file_name": "x.esd",
            "locations": [
                of(LocationKind::Peer, "desk", "same-group"),
                of(LocationKind::DistributionPoint, "own", "same-group"),
                of(LocationKind::DistributionPoint, "rome", "neighbour"),
                of(LocationKind::DistributionPoint, "site", "default-group"),
                of(LocationKind::Cloud, "cloud", "upstream"),
            ],
            "expires_in_seconds": 1,
        });
        let answer: LocationsAnswer = serde_json::from_value(json).unwrap();
        let all = Allowed::default();
        for (allowed, expected) in [
            (all, "desk own rome site cloud"),
            (Allowed { points: false, ..all }, "desk cloud"),
            (Allowed { points: false, cloud: false, ..all }, "desk"),
            (Allowed { neighbours: false, ..all }, "desk own site cloud"),
            (Allowed { default_group: false, ..all }, "desk own rome cloud"),
        ] {
            let told = allowed.of(answer.clone());
            let names: Vec<_> = told.locations.iter().map(|one| one.name.as_str()).collect();
            assert_eq!(names.join(" "), expected);
            assert_eq!(told.not_told, 5 - names.len());
        }
    }
}
