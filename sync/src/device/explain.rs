//! Where a device would get a content, deployment by deployment: what its site answers, less what each deployment does not
//! allow, and when somebody else may be asked. Pure.

use std::path::PathBuf;
use std::time::Duration;

use dp::client::Allowed;
use dp::server::{LocationKind, LocationsAnswer};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::content::{Need, allowed};
use crate::policy::{Assignment, ContentFile, DeploymentId, Policy};

/// Where a content would come from.
#[derive(Debug, Clone, Serialize)]
pub struct Explained {
    /// What the site answers.
    #[serde(flatten)]
    pub answer: LocationsAnswer,
    /// Where the device has it already: then nobody is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<PathBuf>,
    /// For each deployment that needs it.
    pub deployments: Vec<ForDeployment>,
}

/// The same for one deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ForDeployment {
    /// Which.
    pub deployment: DeploymentId,
    /// Its task sequence.
    pub name: String,
    /// It is of a feature update: neighbours are asked after their time only.
    pub feature_update: bool,
    /// Who is asked now, in order.
    pub asks: Vec<String>,
    /// Who is asked later.
    pub later: Vec<Later>,
    /// Who is not asked, and why.
    pub not: Vec<String>,
    /// When the next one may be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
}

/// Somebody who may be asked later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Later {
    /// Who.
    pub who: String,
    /// From when.
    pub from: Timestamp,
}

/// What a content is for in a deployment, if it needs it.
fn need<'a>(assignment: &'a Assignment, answer: &LocationsAnswer) -> Option<Need<'a>> {
    let is_it = |file: &&ContentFile| file.sha256 == Some(answer.content);
    let references = &assignment.references;
    let mut updates = references.feature_updates.iter().flat_map(|update| &update.files);
    let others = references.images.iter().map(|image| &image.file);
    let mut others = others.chain(references.applications.iter().flat_map(|app| &app.files));
    let update = updates.find(is_it).map(|file| Need { file, feature_update: true });
    update.or_else(|| others.find(is_it).map(|file| Need { file, feature_update: false }))
}

/// A word for a sort of place.
pub fn word(kind: LocationKind) -> &'static str {
    match kind {
        LocationKind::Peer => "peer",
        LocationKind::DistributionPoint => "distribution point",
        LocationKind::Cloud => "cloud",
    }
}

/// What `answer` means for each deployment of `policy` that needs the content. `asked`: how long ago the device asked first.
pub fn explain(
    policy: Option<&Policy>,
    answer: LocationsAnswer,
    kept: Option<PathBuf>,
    asked: Duration,
    now: Timestamp,
) -> Explained {
    let assignments = policy.map(|policy| policy.assignments.as_slice()).unwrap_or_default();
    let deployments = assignments
        .iter()
        .filter_map(|assignment| Some(one(assignment, need(assignment, &answer)?, &answer, asked, now)))
        .collect();
    Explained { answer, kept, deployments }
}

fn one(
    assignment: &Assignment,
    need: Need<'_>,
    answer: &LocationsAnswer,
    asked: Duration,
    now: Timestamp,
) -> ForDeployment {
    let allowed: Allowed = allowed(&assignment.content, need);
    let asked = if need.feature_update { asked } else { Duration::MAX };
    let mut told = ForDeployment {
        deployment: assignment.deployment.clone(),
        name: assignment.name.clone(),
        feature_update: need.feature_update,
        asks: Vec::new(),
        later: Vec::new(),
        not: Vec::new(),
        next: None,
    };
    let who = |kind, name: &str| format!("{} {name}", word(kind));
    for place in &answer.locations {
        match allowed.why_not(place.kind, &place.why) {
            None => told.asks.push(who(place.kind, &place.name)),
            Some(why) => told.not.push(format!("{}: {why}", who(place.kind, &place.name))),
        }
    }
    for place in &answer.later {
        let who = who(place.kind, &place.name);
        let wait = Duration::from_secs(place.after_seconds).saturating_sub(asked);
        match allowed.why_not(place.kind, &place.why) {
            Some(why) => told.not.push(format!("{who}: {why}")),
            None if wait.is_zero() => told.asks.push(who),
            None => {
                let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
                let from = now.checked_add(wait).unwrap_or(Timestamp::MAX);
                told.later.push(Later { who, from });
            }
        }
    }
    let out = answer.out.iter().map(|place| format!("{}: {}", who(place.kind, &place.name), place.reason));
    told.not.extend(out);
    told.next = told.later.iter().map(|later| later.from).min();
    told
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(points: bool, feature_update: bool) -> Policy {
        let file = json!({ "name": "x.esd", "size": 1, "sha256": "11".repeat(32) });
        let references = match feature_update {
            true => {
                json!({ "feature_updates": [{ "facts": { "id": "00000000-0000-0000-0000-000000000007", "title": "25H2",
                "os_type": "client", "architecture": "x64", "language": "en-us", "shape": "esd" }, "files": [file] }] })
            }
            false => {
                json!({ "images": [{ "id": "XYZ00009", "name": "i", "os_type": "client", "file": file, "editions": [] }] })
            }
        };
        let content = json!({ "points": points, "neighbours": true, "default_group": false, "cloud": false });
        serde_json::from_value(json!({
            "format": 1, "version": "1", "site": "XYZ", "device": "PC1", "made": "2026-01-01T00:00:00Z", "refresh_seconds": 60,
            "assignments": [{ "deployment": "XYZ20001", "task_sequence": "XYZ00001", "revision": 1, "name": "x",
                "purpose": "required", "available": "2026-01-01T00:00:00Z", "document": "", "content": content,
                "references": references }],
        }))
        .expect("a policy")
    }

    /// What the site answers for the device, and what is left of it.
    #[test]
    fn each_deployment_has_its_own_sources_and_each_other_source_its_reason() {
        let place = |kind: &str, name: &str, why: &str| json!({ "kind": kind, "name": name, "url": "", "why": why, "reason": "r" });
        let mut later = place("distribution-point", "rome", "neighbour");
        later["after_seconds"] = json!(7_200);
        later["from"] = json!("2026-01-01T02:00:00Z");
        let answer: LocationsAnswer = serde_json::from_value(json!({
            "content": "11".repeat(32), "size": 1, "sha1": null, "file_name": "x.esd", "groups": ["LYON"],
            "locations": [place("peer", "desk-7", "same-subnet"), place("distribution-point", "lyon", "same-group"),
                place("distribution-point", "site", "default-group"), place("cloud", "catalog", "upstream")],
            "later": [later], "out": [{ "kind": "peer", "name": "desk-9", "why": "distrusted", "reason": "lied" }],
            "expires_in_seconds": 900,
        }))
        .expect("an answer");
        let hour = Duration::from_secs(3_600);
        let now: Timestamp = "2026-01-01T10:00:00Z".parse().unwrap();
        let after = |hours: i64| now.checked_add(SignedDuration::from_hours(hours)).unwrap();
        for (what, policy, asked, asks, later, not) in [
            ("no package", policy(false, true), hour, "peer desk-7", None, 5),
            (
                "a package",
                policy(true, true),
                hour,
                "peer desk-7; distribution point lyon",
                Some(after(1)),
                3,
            ),
            (
                "its time has come",
                policy(true, true),
                hour * 2,
                "peer desk-7; distribution point lyon; distribution point rome",
                None,
                3,
            ),
            (
                "an image waits for nobody",
                policy(false, false),
                Duration::ZERO,
                "peer desk-7; distribution point lyon; distribution point rome",
                None,
                3,
            ),
        ] {
            let told = explain(Some(&policy), answer.clone(), None, asked, now);
            let one = &told.deployments[0];
            assert_eq!((one.asks.join("; ").as_str(), one.next), (asks, later), "{what}");
            assert_eq!(one.not.len(), not, "{what}: {:?}", one.not);
            assert!(one.not.iter().any(|not| not == "peer desk-9: lied"), "{what}");
            assert!(
                one.not.contains(&"cloud catalog: the deployment does not allow the cloud".to_owned()),
                "{what}"
            );
        }
        let other = LocationsAnswer { content: catalog::digest::Sha256Digest([9; 32]), ..answer };
        assert_eq!(explain(Some(&policy(false, true)), other, None, hour, now).deployments, []);
    }
}
