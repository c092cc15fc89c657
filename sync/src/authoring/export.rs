//! Task sequences into an archive: `NAME.zip` with documents, and `NAME_files` beside it with content.
//!
//! Feature updates never travel (mission row M37): their steps arrive incomplete and say so. Neither do secrets.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use catalog::digest::Sha256Digest;
use catalog::id::{FileName, PackageId};
use catalog::problem::{Code, Coded as _, Problem};
use schema::sequences::SequenceRow;
use serde::{Deserialize, Serialize};

use super::archive::{self, Archive, Entry};
use super::surroundings::{Known, sequence};
use crate::admin::{Answer, Caller};
use crate::blocking::blocking;
use crate::clock;
use crate::sequence::action::Incomplete;
use crate::sequence::refs::Target;
use crate::sequence::{Action, Node, Sequence};
use crate::site::{Site, own};
use crate::software::apps::Form;
use crate::whole;

/// The list of what is in an archive.
pub const MANIFEST: &str = "export.toml";
/// The form that this release writes.
pub const FORMAT: u32 = 1;

/// What is in an archive.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The form.
    pub format: u32,
    /// The site that wrote it.
    pub site: String,
    /// Its release.
    pub release: String,
    /// Content lies in the folder beside the archive.
    pub content: bool,
    /// Task sequences.
    #[serde(default, rename = "sequence")]
    pub sequences: Vec<ListedSequence>,
    /// OS upgrade packages.
    #[serde(default, rename = "image")]
    pub images: Vec<ListedImage>,
    /// Applications.
    #[serde(default, rename = "app")]
    pub apps: Vec<ListedApp>,
}

/// A task sequence of an archive.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListedSequence {
    /// The file with its document.
    pub file: FileName,
    /// Its id where it comes from.
    pub id: PackageId,
    /// Numbers of steps whose feature updates were left out.
    #[serde(default)]
    pub feature_update_removed: Vec<usize>,
    /// Numbers of steps whose secrets were left out.
    #[serde(default)]
    pub secret_removed: Vec<usize>,
}

/// An OS upgrade package of an archive.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListedImage {
    /// Its id where it comes from.
    pub id: PackageId,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its file.
    pub file: ListedFile,
}

/// An application of an archive.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListedApp {
    /// Its id where it comes from.
    pub id: PackageId,
    /// Its form.
    pub form: Form,
    /// Its files.
    #[serde(default)]
    pub files: Vec<ListedFile>,
}

/// A file of an archive's folder, where it has its digest as name.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListedFile {
    /// Its name.
    pub name: FileName,
    /// Its digest.
    pub sha256: Sha256Digest,
    /// Its bytes.
    pub size: u64,
}

/// What was exported.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Exported {
    /// The archive.
    pub file: PathBuf,
    /// The folder with content, if there is any.
    pub folder: Option<PathBuf>,
    /// Names of the task sequences.
    pub sequences: Vec<String>,
    /// Bytes of content.
    pub bytes: u64,
    /// What was left out.
    pub left_out: Vec<String>,
    /// Nothing was written.
    pub dry_run: bool,
}

/// An archive that was made, without content.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ArchiveOf {
    /// The archive.
    pub archive: Archive,
    /// Names of the task sequences.
    pub sequences: Vec<String>,
    /// What was left out.
    pub left_out: Vec<String>,
}

/// What an archive is made of.
pub(super) struct Collected {
    pub rows: Vec<SequenceRow>,
    /// The documents as they travel, in the same order.
    pub sequences: Vec<Sequence>,
    pub manifest: Manifest,
    pub files: Vec<ListedFile>,
    pub left_out: Vec<String>,
    pub bytes: Vec<u8>,
}

/// `upgrade.zip` → `upgrade_files`, beside it.
///
/// # Errors
/// `EXPORT_NAME`.
pub fn folder_of(file: &Path) -> Result<PathBuf, Problem> {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match name.strip_suffix(".zip") {
        Some(stem) if !stem.is_empty() => Ok(file.with_file_name(format!("{stem}_files"))),
        _ => Err(Problem::new(Code::ExportName, format!("`{}` does not end in .zip", file.display()))),
    }
}

/// Takes out what does not travel: the numbers of the steps that lost feature updates, and of those that lost a secret.
pub fn stripped(sequence: &mut Sequence) -> (Vec<usize>, Vec<usize>) {
    fn strip(nodes: &mut [Node], number: &mut usize, lost: &mut (Vec<usize>, Vec<usize>)) {
        for node in nodes {
            match node {
                Node::Group(group) => strip(&mut group.nodes, number, lost),
                Node::Step(step) => {
                    *number += 1;
                    match &mut step.action {
                        Action::UpgradeOs(upgrade) => {
                            if !upgrade.feature_updates.is_empty() {
                                upgrade.feature_updates.clear();
                                upgrade.incomplete = Some(Incomplete::FeatureUpdate);
                                lost.0.push(*number);
                            }
                            if upgrade.product_key.take().is_some() {
                                lost.1.push(*number);
                            }
                        }
                        Action::SetVariable(set) => lost.1.extend(set.hidden_value.take().map(|_| *number)),
                        _ => {}
                    }
                }
            }
        }
    }
    let mut lost = (Vec::new(), Vec::new());
    strip(&mut sequence.nodes, &mut 0, &mut lost);
    lost
}

/// Writes task sequences into an archive.
///
/// # Errors
/// `EXPORT_NAME`, `TASK_SEQUENCE_NOT_FOUND`, `INVALID_OPTION` inside the site's own data, those of the disk.
pub async fn export(
    site: &Arc<Site>,
    names: &[String],
    file: &Path,
    dependencies: bool,
    content: bool,
    caller: &Caller,
) -> Result<Answer, Problem> {
    let folder = folder_of(file)?;
    [file, folder.as_path()].into_iter().try_for_each(|path| own::outside(&site.settings(), path))?;
    let Collected { rows, manifest, files, left_out, bytes, .. } =
        collect(site, names, dependencies, content).await?;
    if !caller.dry_run {
        if manifest.content {
            place(site, &files, &folder).await?;
        }
        let to = file.to_owned();
        blocking(move || whole::write(&to, whole::GROUP, &bytes).map_err(|error| disk(&to, &error))).await?;
        audit(site, &rows, caller).await?;
    }
    Answer::of(&Exported {
        file: file.to_owned(),
        folder: manifest.content.then_some(folder),
        sequences: rows.into_iter().map(|row| row.name).collect(),
        bytes: if manifest.content {
            files.iter().map(|file| file.size).fold(0, u64::saturating_add)
        } else {
            0
        },
        left_out,
        dry_run: caller.dry_run,
    })
}

/// The archive as an answer. What it refers to is listed in it, and its content stays here.
///
/// # Errors
/// `TASK_SEQUENCE_NOT_FOUND`, `EXPORT_MALFORMED` for more than an archive holds.
pub async fn archive_of(
    site: &Arc<Site>,
    names: &[String],
    dependencies: bool,
    caller: &Caller,
) -> Result<Answer, Problem> {
    let collected = collect(site, names, dependencies, false).await?;
    if !caller.dry_run {
        audit(site, &collected.rows, caller).await?;
    }
    Answer::of(&ArchiveOf {
        archive: Archive(collected.bytes),
        sequences: collected.rows.into_iter().map(|row| row.name).collect(),
        left_out: collected.left_out,
    })
}

async fn audit(site: &Arc<Site>, rows: &[SequenceRow], caller: &Caller) -> Result<(), Problem> {
    let (ids, who) = (rows.iter().map(|row| row.id.to_string()).collect::<Vec<_>>(), caller.who.clone());
    site.write(move |w| ids.iter().try_for_each(|id| w.audit(&who, "ts.export", id, clock::now()))).await
}

/// Puts an archive together, in memory.
pub(super) async fn collect(
    site: &Arc<Site>,
    names: &[String],
    dependencies: bool,
    content: bool,
) -> Result<Collected, Problem> {
    let known = Known::of(site).await?;
    let mut rows: Vec<SequenceRow> = Vec::new();
    for name in names {
        let row = sequence(site, name).await?;
        if rows.iter().all(|other| other.id != row.id) {
            rows.push(row);
        }
    }
    let mut manifest = Manifest {
        format: FORMAT,
        site: site.code().to_string(),
        release: known.surroundings.release.to_string(),
        content: false,
        sequences: Vec::new(),
        images: Vec::new(),
        apps: Vec::new(),
    };
    let (mut entries, mut sequences, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
    for row in &rows {
        let mut exported = Sequence::parse(&row.document)?;
        let references = exported.references();
        let (updates, secrets) = stripped(&mut exported);
        left_out.extend(updates.iter().map(|step| format!("{} step {step}: its feature updates", row.id)));
        left_out.extend(secrets.iter().map(|step| format!("{} step {step}: its secret", row.id)));
        if dependencies {
            for reference in &references {
                depend(&mut manifest, &known, &reference.target);
            }
            if let Some(id) = exported.boot_image.clone() {
                depend(&mut manifest, &known, &Target::Image(id));
            }
        }
        let name: FileName = format!("{}.toml", row.id)
            .parse()
            .map_err(|error: catalog::id::InvalidId| Problem::of(Code::Internal, &error))?;
        entries.push(Entry { name: name.clone(), bytes: exported.checked_text()?.into_bytes() });
        sequences.push(exported);
        manifest.sequences.push(ListedSequence {
            file: name,
            id: row.id.clone(),
            feature_update_removed: updates,
            secret_removed: secrets,
        });
    }
    let files: Vec<ListedFile> = manifest
        .images
        .iter()
        .map(|image| image.file.clone())
        .chain(manifest.apps.iter().flat_map(|app| app.files.clone()))
        .collect();
    manifest.content = content && !files.is_empty();
    let text = toml::to_string(&manifest).map_err(|error| Problem::of(Code::Internal, &error))?;
    let name =
        MANIFEST.parse().map_err(|error: catalog::id::InvalidId| Problem::of(Code::Internal, &error))?;
    entries.insert(0, Entry { name, bytes: text.into_bytes() });
    let bytes = archive::write(&entries)?;
    Ok(Collected { rows, sequences, manifest, files, left_out, bytes })
}

/// Adds what a step refers to, once.
fn depend(manifest: &mut Manifest, known: &Known, target: &Target) {
    match target {
        Target::FeatureUpdate(_) => {}
        Target::Image(id) => {
            if let Some(row) = known.images.iter().find(|row| row.id == *id)
                && manifest.images.iter().all(|listed| listed.id != row.id)
            {
                let file = ListedFile { name: row.file_name.clone(), sha256: row.content, size: row.size };
                let (name, version) = (row.name.clone(), row.version.clone());
                manifest.images.push(ListedImage { id: row.id.clone(), name, version, file });
            }
        }
        Target::Application(id) => {
            if let Some(row) = known.apps.iter().find(|row| row.id == *id)
                && manifest.apps.iter().all(|listed| listed.id != row.id)
                && let Ok(form) = serde_json::from_value(row.form.clone())
            {
                let file = |file: &schema::software::AppFile| ListedFile {
                    name: file.file_name.clone(),
                    sha256: file.content,
                    size: file.size,
                };
                manifest.apps.push(ListedApp {
                    id: row.id.clone(),
                    form,
                    files: row.files.iter().map(file).collect(),
                });
            }
        }
    }
}

async fn place(site: &Arc<Site>, files: &[ListedFile], folder: &Path) -> Result<(), Problem> {
    let (library, files, folder) = (site.library.clone(), files.to_vec(), folder.to_owned());
    let work = move || {
        std::fs::create_dir_all(&folder).map_err(|error| disk(&folder, &error))?;
        for file in &files {
            library
                .place(file.sha256, &folder.join(file.sha256.to_string()))
                .map_err(|error| error.problem())?;
        }
        Ok(())
    };
    blocking(work).await
}

fn disk(path: &Path, error: &std::io::Error) -> Problem {
    Problem::new(Code::DiskError, format!("`{}` cannot be written", path.display())).because_of(Some(error))
}
