//! Content for a device: fetched from whoever the deployment allows, and verified again before it is used.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use catalog::digest::Sha256Digest;
use catalog::problem::{Code, Coded as _, Problem};
use dp::client::{Allowed, ClientError, ClientSettings, Delta, FetchOptions};
use dp::transfer::SourceKind;

use super::machine::Failure;
use crate::policy::{Assignment, MostOf};
use crate::policy::{BytesFrom, ContentFile, ContentOptions, Origin};
use crate::sequence::Action;
use crate::sequence::choose::Choice;

/// A file that a step needs.
#[derive(Debug, Clone, Copy)]
pub struct Need<'a> {
    /// The file.
    pub file: &'a ContentFile,
    /// It belongs to a feature update, which without a deployment package comes from peers and the cloud alone.
    pub feature_update: bool,
}

/// The files that a step needs.
pub fn needs<'a>(assignment: &'a Assignment, action: &Action, choice: Option<&Choice>) -> Vec<Need<'a>> {
    let references = &assignment.references;
    let plain = |file: &'a ContentFile| Need { file, feature_update: false };
    match action {
        Action::UpgradeOs(upgrade) => {
            let chosen = choice.and_then(|choice| choice.chosen);
            let update = references.feature_updates.iter().find(|update| Some(update.id()) == chosen);
            let of_update = update.iter().flat_map(|update| &update.files);
            let image = references.images.iter().find(|image| Some(&image.id) == upgrade.image.as_ref());
            let of_update = of_update.map(|file| Need { file, feature_update: true });
            of_update.chain(image.map(|image| plain(&image.file))).collect()
        }
        Action::InstallApplication(install) => {
            let apps = install.applications.iter();
            let apps = apps.filter_map(|id| references.applications.iter().find(|app| app.id == *id));
            apps.flat_map(|app| &app.files).map(plain).collect()
        }
        Action::DownloadContent(download) => {
            let images = download.packages.iter();
            let images = images.filter_map(|id| references.images.iter().find(|image| image.id == *id));
            images.map(|image| plain(&image.file)).collect()
        }
        _ => Vec::new(),
    }
}

/// Whom a deployment lets be asked for a file.
pub fn allowed(options: &ContentOptions, need: Need<'_>) -> Allowed {
    Allowed {
        points: !need.feature_update || options.package.is_some(),
        neighbours: options.neighbours,
        default_group: options.default_group,
        cloud: options.cloud,
    }
}

/// Fetches a file; where it is, and who gave it. With `delta` what the device has of it in other content is not fetched.
///
/// # Errors
/// Why nobody gave it.
pub async fn fetch(
    client: &ClientSettings,
    options: &ContentOptions,
    need: Need<'_>,
    delta: bool,
) -> Result<(Sha256Digest, PathBuf, Vec<BytesFrom>), Failure> {
    let name = &need.file.name;
    let Some(content) = need.file.sha256 else {
        let details = format!("nobody knows the SHA-256 of `{name}`, so it cannot be asked for");
        return Err(Failure { code: Code::ContentUnavailable, exit: None, details });
    };
    let allowed = allowed(options, need);
    let delta = if delta { Delta::Auto } else { Delta::Off };
    let how = FetchOptions { allowed, delta, ..FetchOptions::default() };
    let fetched = dp::client::fetch_content_with(client, content, &how, |_| {}).await;
    let fetched = fetched.map_err(|error| {
        let code = match &error {
            ClientError::NotOffered { .. } => Code::ContentUnavailable,
            other => other.code(),
        };
        let whom = if allowed.points {
            ""
        } else {
            "; there is no deployment package, so no distribution point is asked"
        };
        Failure {
            code,
            exit: None,
            details: format!("`{name}` could not be fetched: {}{whom}", error.problem()),
        }
    })?;
    let mut bytes: Vec<BytesFrom> = fetched
        .served
        .iter()
        .filter(|served| served.bytes > 0)
        .map(|served| BytesFrom {
            origin: origin(served.kind),
            name: served.name.clone(),
            bytes: served.bytes,
        })
        .collect();
    if fetched.already_there {
        bytes.push(BytesFrom {
            origin: Origin::Device,
            name: "here already".to_owned(),
            bytes: fetched.size,
        });
    }
    Ok((content, fetched.path, bytes))
}

fn origin(kind: SourceKind) -> Origin {
    match kind {
        SourceKind::Peer => Origin::Peer,
        SourceKind::DistributionPoint => Origin::DistributionPoint,
        SourceKind::Cloud => Origin::Cloud,
        SourceKind::Folder | SourceKind::Earlier => Origin::Device,
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
    let mut file = std::fs::File::open(path).map_err(wrong)?;
    let mut checker = catalog::digest::Checker::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match std::io::Read::read(&mut file, &mut buffer).map_err(wrong)? {
            0 => break,
            read => checker.update(&buffer[..read]),
        }
    }
    let actual = checker.into_fingerprint().sha256;
    if actual == expected {
        return Ok(());
    }
    let message = format!("`{}` has the wrong digest: expected {expected}, it is {actual}", path.display());
    Err(Problem::new(Code::HashMismatch, message))
}
