//! What a task sequence refers to, resolved: the same for policies and for plans.

use std::collections::HashMap;

use catalog::digest::{Digests, Sha1Digest, Sha256Digest};
use catalog::id::UpdateId;
use schema::software::{AppRow, ImageRow};
use schema::updates::FeatureFile;

use crate::authoring::surroundings::Known;
use crate::policy::{
    Application, ContentFile, Edition, FeatureUpdate, Image, References, SealedSecret, SecretOf,
};
use crate::sequence::refs::Target;
use crate::sequence::{Action, Sequence};
use crate::software::{apps, images};
use crate::updates::Listed;

/// Which verified content stands for what was published.
#[derive(Debug, Default)]
pub struct Stored {
    by_sha1: HashMap<Sha1Digest, Sha256Digest>,
    by_sha256: HashMap<Sha256Digest, Sha256Digest>,
}

impl Stored {
    /// From what the library has.
    pub fn of(rows: Vec<(Digests, Sha256Digest)>) -> Self {
        let mut stored = Self::default();
        for (published, content) in rows {
            published.sha1.and_then(|sha1| stored.by_sha1.insert(sha1, content));
            published.sha256.and_then(|sha256| stored.by_sha256.insert(sha256, content));
        }
        stored
    }

    /// The SHA-256 of a file: of its bytes where the library has them, or as published.
    pub fn sha256(&self, published: &Digests) -> Option<Sha256Digest> {
        let by_sha256 = published.sha256.and_then(|sha256| self.by_sha256.get(&sha256).copied());
        by_sha256.or(published.sha256).or_else(|| self.by_sha1.get(&published.sha1?).copied())
    }
}

/// What the enabled steps of a sequence refer to, each thing once.
pub fn references(sequence: &Sequence, known: &Known, stored: &Stored) -> References {
    let mut found = References::default();
    for reference in sequence.references().into_iter().filter(|reference| reference.enabled) {
        match reference.target {
            Target::FeatureUpdate(id) if found.feature_updates.iter().all(|update| update.id() != id) => {
                let listed = known.updates.iter().find(|listed| listed.update.id.update == id);
                if let (Some(facts), Some(listed)) = (known.candidate(&id), listed) {
                    let (release, files) = (listed.update.release.clone(), files_of(listed, stored));
                    found.feature_updates.push(FeatureUpdate { facts, release, files });
                }
            }
            Target::Image(id) if found.images.iter().all(|image| image.id != id) => {
                found.images.extend(known.images.iter().find(|row| row.id == id).map(image));
            }
            Target::Application(id) if found.applications.iter().all(|app| app.id != id) => {
                found.applications.extend(known.apps.iter().find(|row| row.id == id).map(application));
            }
            _ => {}
        }
    }
    found
}

fn files_of(listed: &Listed, stored: &Stored) -> Vec<ContentFile> {
    let file = |file: &FeatureFile| ContentFile {
        name: file.file_name.clone(),
        size: file.size,
        sha256: stored.sha256(&file.digests),
        sha1: file.digests.sha1,
    };
    listed.update.files.iter().map(file).collect()
}

/// The files of updates that are deployed beside task sequences: of those that may be deployed and whose files are all in the
/// library, where devices find them.
pub fn files_beside<'u>(
    wanted: impl Iterator<Item = &'u UpdateId>,
    known: &Known,
    stored: &Stored,
) -> HashMap<UpdateId, Vec<ContentFile>> {
    let there = |id: &&UpdateId| {
        let is = |listed: &&Listed| listed.update.id.update == **id;
        known.updates.iter().find(is).filter(|listed| listed.update.downloaded && listed.reasons.is_empty())
    };
    wanted.filter_map(|id| Some((*id, files_of(there(&id)?, stored)))).collect()
}

fn image(row: &ImageRow) -> Image {
    let editions = images::editions(&row.info).into_iter().map(|image| Edition {
        index: image.index,
        name: image.name.clone(),
        edition: image.edition_id.clone(),
        architecture: image.architecture.map(|architecture| architecture.to_string()),
        languages: image.languages.clone(),
        build: image.version.map(|version| (version.build, version.revision)),
    });
    Image {
        id: row.id.clone(),
        name: row.name.clone(),
        os_type: images::os_type(&row.info),
        editions: editions.collect(),
        file: ContentFile {
            name: row.file_name.clone(),
            size: row.size,
            sha256: Some(row.content),
            sha1: None,
        },
    }
}

fn application(row: &AppRow) -> Application {
    let text = |key: &str| row.form[key].as_str().unwrap_or_default().to_owned();
    let codes = row.form["success_codes"].as_array();
    let files = row.files.iter().map(|file| ContentFile {
        name: file.file_name.clone(),
        size: file.size,
        sha256: Some(file.content),
        sha1: None,
    });
    Application {
        id: row.id.clone(),
        name: row.name.clone(),
        install: text("install"),
        detect: text("detect"),
        success_codes: codes
            .map_or_else(|| vec![0, 3010], |codes| codes.iter().filter_map(|c| c.as_i64()).collect()),
        usable: apps::is_usable(row),
        files: files.collect(),
    }
}

/// The places of secrets that enabled steps name, and which of them are filled.
pub fn secrets(sequence: &Sequence, filled: &[u32]) -> Vec<SealedSecret> {
    let steps = sequence.steps().into_iter().filter(|at| at.enabled);
    let named = steps.filter_map(|at| match &at.step.action {
        // Only OS upgrade packages take a key: a feature update has the edition of the device.
        Action::UpgradeOs(upgrade) if upgrade.feature_updates.is_empty() => {
            upgrade.product_key.clone().map(|place| (place, SecretOf::ProductKey))
        }
        Action::SetVariable(set) => set.hidden_value.clone().map(|place| (place, SecretOf::Variable)),
        _ => None,
    });
    named.map(|(place, of)| SealedSecret { present: filled.contains(&place.number()), place, of }).collect()
}
