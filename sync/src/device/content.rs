//! Content for a device: fetched from whoever the deployment allows, and verified again before it is used.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use catalog::digest::{Fingerprint, Sha256Digest};
use catalog::problem::{Code, Coded as _, Problem};
use dp::client::{Allowed, ClientError, ClientSettings, Delta, Expected, FetchOptions};
use dp::server::LocationsAnswer;
use dp::transfer::{FetchError, SourceKind};

use super::machine::{Failure, Frame};
use super::plan::Plan;
use super::updates::{Scanned, sort};
use super::{evaluate, judge};
use crate::policy::{
    Assignment, BytesFrom, ContentFile, ContentOptions, DeployedUpdate, Facts, MostOf, Origin,
};
use crate::sequence::Action;
use crate::sequence::choose::Choice;
use crate::sequence::condition::Condition;

/// A file that a step needs.
#[derive(Debug, Clone, Copy)]
pub struct Need<'a> {
    /// The file.
    pub file: &'a ContentFile,
    /// It belongs to a feature update, which without a deployment package comes from peers and the cloud alone.
    pub feature_update: bool,
}

/// What a device was told, as far as it says what steps need.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// The deployment.
    pub assignment: &'a Assignment,
    /// Updates that are deployed to the device beside it.
    pub updates: &'a [DeployedUpdate],
    /// Updates that a scan found; none: nobody looked.
    pub scan: Option<&'a [Scanned]>,
}

impl<'a> From<&'a Frame> for Told<'a> {
    fn from(frame: &'a Frame) -> Self {
        Self { assignment: &frame.assignment, updates: &frame.updates, scan: frame.scan.as_deref() }
    }
}

/// The files that a step needs.
pub fn needs<'a>(told: Told<'a>, action: &Action, choice: Option<&Choice>) -> Vec<Need<'a>> {
    let parts = match action {
        Action::InstallApplication(install) => install.applications.len(),
        Action::DownloadContent(download) => download.packages.len(),
        Action::InstallUpdates(install) => sort(install.mode, told.updates, told.scan).install.len(),
        _ => 1,
    };
    (0..parts).flat_map(|part| needs_of(told, action, choice, part)).collect()
}

/// The files that one part of a step needs: one application of several, one package or update of several.
pub fn needs_of<'a>(told: Told<'a>, action: &Action, choice: Option<&Choice>, part: usize) -> Vec<Need<'a>> {
    let references = &told.assignment.references;
    let plain = |file: &'a ContentFile| Need { file, feature_update: false };
    match action {
        Action::UpgradeOs(upgrade) => {
            let of_update = references.chosen(choice).into_iter().flat_map(|update| &update.files);
            let image = upgrade.image.as_ref().and_then(|id| references.image(id));
            let of_update = of_update.map(|file| Need { file, feature_update: true });
            of_update.chain(image.map(|image| plain(&image.file))).collect()
        }
        Action::InstallApplication(install) => {
            let app = install.applications.get(part).and_then(|id| references.application(id));
            app.into_iter().flat_map(|app| &app.files).map(plain).collect()
        }
        Action::DownloadContent(download) => {
            let image = download.packages.get(part).and_then(|id| references.image(id));
            image.map(|image| plain(&image.file)).into_iter().collect()
        }
        Action::InstallUpdates(install) => {
            let sorted = sort(install.mode, told.updates, told.scan);
            let update = sorted.install.get(part).copied();
            let files = update.into_iter().flat_map(|update| &update.files);
            // Updates wait for neighbours, and without a package come from elsewhere: as feature updates do.
            files.map(|file| Need { file, feature_update: true }).collect()
        }
        _ => Vec::new(),
    }
}

/// Whom a deployment lets be asked for a file.
pub fn allowed(options: &ContentOptions, need: Need<'_>) -> Allowed {
    Allowed {
        points: !need.feature_update || options.points,
        neighbours: options.neighbours,
        default_group: options.default_group,
        cloud: options.cloud,
    }
}

/// A file that is on the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Got {
    /// Its digest.
    pub content: Sha256Digest,
    /// Where its bytes are.
    pub path: PathBuf,
    /// Who gave how many.
    pub bytes: Vec<BytesFrom>,
    /// Names of those who gave any now; nobody where it was here already.
    pub gave: Vec<String>,
}

/// How a file is asked for.
#[derive(Debug, Clone, Default)]
pub struct Asking {
    /// Names of those who are asked after all others.
    pub last: Vec<String>,
    /// How long ago it was asked for first: some may be asked only later.
    pub since: Duration,
    /// What the device has of it in other content is not fetched.
    pub delta: bool,
}

/// Why a file is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotGot {
    /// Why nobody gave it.
    pub failure: Failure,
    /// Who else may be asked, and how long from now.
    pub later: Option<(String, Duration)>,
}

impl From<Failure> for NotGot {
    fn from(failure: Failure) -> Self {
        Self { failure, later: None }
    }
}

/// A file, fetched where it is not on the device already; nobody is asked for what is.
///
/// # Errors
/// Why nobody gave it.
pub async fn fetch(
    client: &ClientSettings,
    options: &ContentOptions,
    need: Need<'_>,
    asking: Asking,
) -> Result<Got, NotGot> {
    let name = &need.file.name;
    let Some(content) = need.file.sha256 else {
        let details = format!("nobody knows the SHA-256 of `{name}`, so it cannot be asked for");
        return Err(Failure { code: Code::ContentUnavailable, exit: None, details }.into());
    };
    let allowed = allowed(options, need);
    let failed = |error: ClientError| failure(&error, name.as_str(), allowed);
    if let Some(kept) = dp::client::kept(client, content).await.map_err(failed)? {
        let (origin, name) = (Origin::Device, "here already".to_owned());
        let bytes = vec![BytesFrom { origin, name, bytes: kept.size }];
        return Ok(Got { content, path: kept.path, bytes, gave: Vec::new() });
    }
    // The engine of task sequences does not wait for neighbours with what is no update.
    let asked = if need.feature_update { asking.since } else { Duration::MAX };
    let delta = if asking.delta { Delta::Auto } else { Delta::Off };
    let expected = Expected {
        file_name: name.clone(),
        size: need.file.size,
        private: !need.feature_update, // images and applications are for those with a key
    };
    let how = FetchOptions {
        allowed,
        delta,
        last: asking.last,
        asked,
        expected: Some(expected),
        ..FetchOptions::default()
    };
    let fetched = match dp::client::fetch_content_with(client, content, &how, |_| {}).await {
        Ok(fetched) => fetched,
        Err(error @ ClientError::Fetch(FetchError::AllFailed { .. } | FetchError::NoSource { .. })) => {
            let answer = dp::client::locate(client, content).await.ok();
            let later = answer.and_then(|answer| next_of(&allowed.of(answer), asked));
            return Err(NotGot { failure: failed(error), later });
        }
        Err(error) => return Err(failed(error).into()),
    };
    // For the site's numbers, and not worth a word if it fails.
    if let Err(fault) = dp::client::report(client, &fetched).await {
        tracing::debug!("the site took no report: {fault}");
    }
    let gave = fetched.served.iter().filter(|served| served.bytes > 0);
    let bytes = gave.clone().map(|served| BytesFrom {
        origin: origin(served.kind),
        name: served.name.clone(),
        bytes: served.bytes,
    });
    let (bytes, gave) = (bytes.collect(), gave.map(|served| served.name.clone()).collect());
    let kept = dp::client::kept(client, content).await.map_err(failed)?;
    Ok(Got { content, path: kept.map_or(fetched.path, |kept| kept.path), bytes, gave })
}

/// Who may be asked next, and how long from now, where it was asked for first so long ago.
fn next_of(answer: &LocationsAnswer, asked: Duration) -> Option<(String, Duration)> {
    let waits = answer.later.iter().map(|place| (place, Duration::from_secs(place.after_seconds)));
    let (place, after) = waits.filter(|(_, after)| *after > asked).min_by_key(|(_, after)| *after)?;
    Some((place.name.clone(), after - asked))
}

/// Why a file is not there. Where nobody may be asked but peers and the cloud, and none of them gives it, it is unavailable
/// whatever each of them said (mission row M19); wrong bytes and the own disk stay what they are.
fn failure(error: &ClientError, name: &str, allowed: Allowed) -> Failure {
    let told = error.problem();
    let nobody = match error {
        ClientError::NotOffered { .. } | ClientError::Fetch(FetchError::NoSource { .. }) => true,
        ClientError::Fetch(FetchError::AllFailed { .. }) => {
            !allowed.points && !matches!(told.code, Code::HashMismatch | Code::SizeMismatch)
        }
        _ => false,
    };
    let code = if nobody { Code::ContentUnavailable } else { told.code };
    let whom = match (nobody, allowed.points) {
        (true, false) => "; there is no deployment package, so no distribution point is asked",
        _ => "",
    };
    Failure { code, exit: None, details: format!("`{name}` could not be fetched: {told}{whom}") }
}

/// What may be fetched before a run, and what is left out, with the reason.
#[derive(Debug)]
pub struct Ahead<'a> {
    /// Files.
    pub needs: Vec<Need<'a>>,
    /// For people.
    pub left_out: Vec<String>,
}

/// What a device fetches ahead of a run: what its steps refer to and what fits it. Without `all` no feature update
/// (mission rows M20 and M68).
pub fn ahead<'a>(told: Told<'a>, plan: &Plan, facts: &Facts, all: bool) -> Ahead<'a> {
    let assignment = told.assignment;
    let deployed: Vec<_> = told.updates.iter().map(|update| update.id).collect();
    let mut ahead = Ahead { needs: Vec::new(), left_out: Vec::new() };
    let never = |when: &Option<Condition>| when.as_ref().is_some_and(|when| judge::never_holds(when, facts));
    for (at, node, action) in plan.steps().filter(|(at, _, _)| plan.is_enabled(*at)) {
        if never(&node.common.when) || plan.around(at).any(|group| never(&group.common.when)) {
            continue;
        }
        let choice = match action {
            Action::UpgradeOs(upgrade) => evaluate::choice(assignment, upgrade, facts, &deployed),
            _ => None,
        };
        for need in needs(told, action, choice.as_ref()) {
            let image = assignment.references.images.iter().find(|image| image.file == *need.file);
            let index = match action {
                Action::UpgradeOs(upgrade) => upgrade.edition_index,
                _ => None,
            };
            let unfit = image.and_then(|image| evaluate::image_unfit(image, index, facts));
            let why = match (need.feature_update && !all, unfit) {
                (true, _) => {
                    Some(format!("`{}` ({} are not fetched ahead)", need.file.name, sort_of(action)))
                }
                (false, Some(why)) => {
                    Some(format!("`{}` ({why})", image.map_or(need.file.name.as_str(), |i| &i.name)))
                }
                (false, None) => None,
            };
            match why {
                Some(why) if !ahead.left_out.contains(&why) => ahead.left_out.push(why),
                Some(_) => {}
                None if ahead.needs.iter().any(|other| other.file.sha256 == need.file.sha256) => {}
                None => ahead.needs.push(need),
            }
        }
    }
    ahead
}

fn sort_of(action: &Action) -> &'static str {
    match action {
        Action::InstallUpdates(_) => "updates",
        _ => "feature updates",
    }
}

fn origin(kind: SourceKind) -> Origin {
    match kind {
        SourceKind::Peer => Origin::Peer,
        SourceKind::DistributionPoint => Origin::DistributionPoint,
        SourceKind::Cloud => Origin::Cloud,
        SourceKind::Folder => Origin::Device,
        SourceKind::Earlier => Origin::Saved,
        SourceKind::Mirror | SourceKind::Upstream => Origin::Other,
    }
}

/// Bytes of the same source together.
pub fn summed(all: Vec<BytesFrom>) -> Vec<BytesFrom> {
    let mut sums: BTreeMap<(Origin, String), u64> = BTreeMap::new();
    for one in all {
        *sums.entry((one.origin, one.name)).or_default() += one.bytes;
    }
    let all = sums.into_iter().map(|((origin, name), bytes)| BytesFrom { origin, name, bytes });
    all.take(MostOf::SOURCES).collect()
}

/// Reads a file whole, and says whether it is what it should be.
///
/// # Errors
/// `HASH_MISMATCH`, `DISK_ERROR`.
pub fn verify(path: &Path, expected: Sha256Digest) -> Result<(), Problem> {
    let wrong = |error: std::io::Error| {
        Problem::new(Code::DiskError, format!("`{}` cannot be read", path.display())).because_of(Some(&error))
    };
    let print = std::fs::File::open(path).and_then(Fingerprint::read).map_err(wrong)?;
    let actual = print.sha256;
    if actual == expected {
        return Ok(());
    }
    let message = format!("`{}` has the wrong digest: expected {expected}, it is {actual}", path.display());
    Err(Problem::new(Code::HashMismatch, message))
}
