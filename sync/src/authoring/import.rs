//! Task sequences from an archive. All of it is read and checked before anything is recorded, in one transaction.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use catalog::digest::Sha256Digest;
use catalog::id::PackageId;
use catalog::problem::{Code, Problem};
use schema::software::{AppFile, AppRow, ImageRow};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::archive::{self, Entry, LARGEST_ARCHIVE};
use super::change::free_name;
use super::create::recorded;
use super::export::{FORMAT, ListedFile, MANIFEST, Manifest, folder_of};
use super::request::Duplicates;
use super::surroundings::Known;
use crate::admin::{Answer, Caller};
use crate::blocking::blocking;
use crate::clock;
use crate::deploying::{self, standing};
use crate::given::{self, Links};
use crate::names::{self, Rule};
use crate::packages::content;
use crate::sequence::action::{Incomplete, Sealed};
use crate::sequence::refs::{Reference, Target};
use crate::sequence::{Action, Node, Sequence};
use crate::site::Site;
use crate::software::{Taken, images, keep, take_in};

/// What was imported.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Imported {
    /// Task sequences: id and name.
    pub sequences: Vec<(PackageId, String)>,
    /// Things that were here already and are used as they are.
    pub linked: Vec<String>,
    /// OS upgrade packages and applications that are new.
    pub added: Vec<String>,
    /// What must be given again before a task sequence can be deployed.
    pub incomplete: Vec<String>,
    /// What it means for deployments that are there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Nothing was changed.
    pub dry_run: bool,
}

/// How things of an archive are taken.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// What happens to what is there already.
    pub duplicates: Duplicates,
    /// Whom it brings an upgrade of the operating system by a deployment that is there is meant.
    pub confirmed: bool,
}

fn malformed(why: impl Into<String>) -> Problem {
    Problem::new(Code::ExportMalformed, "this is no export of task sequences that can be read").because(why)
}

/// Reads a file whole, if it is not larger than an archive may be.
fn bytes_of(file: &Path) -> Result<Vec<u8>, Problem> {
    let failed = |error: std::io::Error| given::unreadable(file, &error);
    let mut bytes = Vec::new();
    given::open(file, Links::Followed)
        .and_then(|opened| opened.take(LARGEST_ARCHIVE + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    Ok(bytes)
}

/// Reads an archive whole.
fn read(bytes: &[u8]) -> Result<(Manifest, Vec<(Sequence, PackageId)>), Problem> {
    if bytes.len() as u64 > LARGEST_ARCHIVE {
        return Err(malformed("it has more than 64 MiB"));
    }
    let entries = archive::read(bytes)?;
    let text = |name: &str| {
        let found: Option<&Entry> = entries.iter().find(|entry| entry.name.as_str() == name);
        let bytes = &found.ok_or_else(|| malformed(format!("it has no `{name}`")))?.bytes;
        std::str::from_utf8(bytes).map_err(|_| malformed(format!("`{name}` is no text")))
    };
    let manifest: Manifest = toml::from_str(text(MANIFEST)?)
        .map_err(|_| malformed(format!("`{MANIFEST}` cannot be understood")))?;
    if manifest.format != FORMAT {
        return Err(malformed("it is of another release"));
    }
    let mut sequences = Vec::new();
    for listed in &manifest.sequences {
        let mut sequence = Sequence::parse(text(listed.file.as_str())?)?;
        // Whoever made the archive may have left a place of a secret in: here it would name somebody else's.
        let (_, mut without) = super::export::stripped(&mut sequence);
        without.extend(&listed.secret_removed);
        want_secrets(&mut sequence, &without);
        sequences.push((sequence, listed.id.clone()));
    }
    Ok((manifest, sequences))
}

/// The steps with these numbers, which have lost a secret, name places in which nothing is kept, each its own. Until somebody gives
/// the secret again lint finds that, and no device takes an empty text for it.
fn want_secrets(sequence: &mut Sequence, steps: &[usize]) {
    fn want(nodes: &mut [Node], steps: &[usize], number: &mut usize, place: &mut u32) {
        for node in nodes {
            match node {
                Node::Group(group) => want(&mut group.nodes, steps, number, place),
                Node::Step(step) => {
                    *number += 1;
                    if steps.contains(number) && step.action.want_secret(Sealed::numbered(*place + 1)) {
                        *place += 1;
                    }
                }
            }
        }
    }
    want(&mut sequence.nodes, steps, &mut 0, &mut 0);
}

/// An image or application that will be recorded.
enum New {
    Image(Box<(ImageRow, Taken)>),
    App(Box<(AppRow, Vec<Taken>)>),
}

/// What the task sequences of an archive refer to.
struct What {
    /// Names of images, by their ids there.
    names: Vec<(PackageId, String)>,
    /// What is here: its id there, its id here.
    ids: HashMap<PackageId, PackageId>,
    /// What comes along, by its id there.
    new: Vec<(PackageId, New)>,
    /// What does neither, with its name.
    lacking: Vec<(PackageId, String)>,
}

/// Takes task sequences from the archive in a file, with the folder beside it.
///
/// # Errors
/// `EXPORT_NAME`, `DISK_ERROR`, those of [`take`].
pub async fn import(site: &Arc<Site>, file: &Path, how: How, caller: &Caller) -> Result<Answer, Problem> {
    let folder = folder_of(file)?;
    let archive = file.to_owned();
    let bytes = blocking(move || bytes_of(&archive)).await?;
    take(site, &bytes, Some(folder), how, caller).await
}

/// Takes task sequences from an archive; content, where it has any, from `folder`.
///
/// # Errors
/// `EXPORT_MALFORMED`, `TASK_SEQUENCE_TOO_LARGE`, `IMPORT_CONTENT_MISSING`, `HASH_MISMATCH`, `FEATURE_NOT_IN_RELEASE`,
/// `HIGH_RISK_*` where what is written over is deployed.
pub async fn take(
    site: &Arc<Site>,
    archive: &[u8],
    folder: Option<PathBuf>,
    how: How,
    caller: &Caller,
) -> Result<Answer, Problem> {
    let (manifest, mut sequences) = read(archive)?;
    let known = Known::of(site).await?;
    if sequences.iter().any(|(sequence, _)| sequence.uses_feature_updates()) {
        known.surroundings.release.allows_feature_updates()?;
    }
    // Where nothing lies beside it, every file that is looked for is missing.
    let folder = folder.unwrap_or_default();
    if manifest.content && !folder.is_dir() {
        let message = format!("the folder `{}` is not beside the archive", folder.display());
        return Err(Problem::new(Code::ImportContentMissing, message));
    }
    let mut imported = Imported { dry_run: caller.dry_run, ..Imported::default() };
    let mut ids: HashMap<PackageId, PackageId> = HashMap::new();
    let mut new: Vec<(PackageId, New)> = Vec::new();
    let result = async {
        for listed in &manifest.images {
            if let Some(here) = known.images.iter().find(|row| row.content == listed.file.sha256) {
                ids.insert(listed.id.clone(), here.id.clone());
                imported.linked.push(format!("{} {}", here.id, here.name));
            } else if manifest.content {
                let path = verified_path(&folder, &listed.file)?;
                let image = path.clone();
                let info = blocking(move || images::inspect(&image, Links::Refused)).await?;
                let name = free_name(
                    &names::checked("an OS upgrade package", &listed.name, Rule::Shown)?,
                    known.images.iter().map(|row| row.name.as_str()),
                );
                imported.added.push(name.clone());
                if caller.dry_run {
                    continue;
                }
                let taken = taken(site, &path, &listed.file).await?;
                let row = ImageRow {
                    id: listed.id.clone(),
                    name,
                    version: listed.version.chars().take(100).collect(),
                    file_name: taken.file_name.clone(),
                    content: taken.sha256,
                    size: taken.size,
                    info,
                    created: clock::now(),
                };
                new.push((listed.id.clone(), New::Image(Box::new((row, taken)))));
            }
        }
        for listed in &manifest.apps {
            let name = names::checked("an application", &listed.form.name, Rule::Shown)?;
            let here = known.apps.iter().find(|row| row.name.to_lowercase() == name.to_lowercase());
            if let Some(here) = here.filter(|_| how.duplicates != Duplicates::CreateNew) {
                ids.insert(listed.id.clone(), here.id.clone());
                imported.linked.push(format!("{} {}", here.id, here.name));
            } else if manifest.content || listed.files.is_empty() {
                let name = free_name(&name, known.apps.iter().map(|row| row.name.as_str()));
                imported.added.push(name.clone());
                let mut all = Vec::new();
                for file in &listed.files {
                    let path = verified_path(&folder, file)?;
                    if !caller.dry_run {
                        all.push(taken(site, &path, file).await?);
                    }
                }
                let form = crate::software::apps::Form { name: name.clone(), ..listed.form.clone() };
                let row = AppRow {
                    id: listed.id.clone(),
                    name,
                    form: serde_json::to_value(&form).map_err(|error| Problem::of(Code::Internal, &error))?,
                    retired: false,
                    created: clock::now(),
                    files: Vec::new(),
                };
                new.push((listed.id.clone(), New::App(Box::new((row, all)))));
            }
        }
        // What is listed and neither here nor brought along must not become something else that has its id here.
        let brought = |id: &PackageId| new.iter().any(|(old, _)| old == id);
        let lacking: Vec<(PackageId, String)> = manifest
            .images
            .iter()
            .map(|listed| (&listed.id, &listed.name))
            .chain(manifest.apps.iter().map(|listed| (&listed.id, &listed.form.name)))
            .filter(|(id, _)| !ids.contains_key(*id) && !brought(id))
            .map(|(id, name)| (id.clone(), name.clone()))
            .collect();
        let names = manifest.images.iter().map(|listed| (listed.id.clone(), listed.name.clone())).collect();
        let what = What { names, ids, new, lacking };
        record(site, &mut sequences, what, &known, how, &mut imported, caller).await
    }
    .await;
    // Why it failed is what is told; that something lies about is mended by the next who cleans up.
    if result.is_err()
        && let Err(problem) = content::forget_unused(site).await
    {
        warn!("what an import that failed had taken in stays for now: {problem}");
    }
    result?;
    Answer::of(&imported)
}

/// The file of the folder that has this digest as its name; only a plain file will do.
fn verified_path(folder: &Path, file: &ListedFile) -> Result<PathBuf, Problem> {
    let path = folder.join(file.sha256.to_string());
    match std::fs::symlink_metadata(&path) {
        Ok(meta) if meta.is_file() && meta.len() == file.size => Ok(path),
        _ => {
            let message = format!("`{}` is missing, or no file of {} bytes", path.display(), file.size);
            Err(Problem::new(Code::ImportContentMissing, message))
        }
    }
}

async fn taken(site: &Arc<Site>, path: &Path, file: &ListedFile) -> Result<Taken, Problem> {
    let taken = take_in(site, path).await?;
    if taken.sha256 != file.sha256 {
        let digest: Sha256Digest = taken.sha256;
        let message =
            format!("`{}` has the wrong digest: expected {}, found {digest}", file.name, file.sha256);
        return Err(Problem::new(Code::HashMismatch, message));
    }
    Ok(Taken { file_name: file.name.clone(), ..taken })
}

async fn record(
    site: &Arc<Site>,
    sequences: &mut [(Sequence, PackageId)],
    What { names, ids, new, lacking }: What,
    known: &Known,
    how: How,
    imported: &mut Imported,
    caller: &Caller,
) -> Result<(), Problem> {
    let existing = site.read(|r| r.sequences()).await?;
    let here: Vec<PackageId> = known
        .images
        .iter()
        .map(|row| row.id.clone())
        .chain(known.apps.iter().map(|row| row.id.clone()))
        .collect();
    let is_lacking = |id: &PackageId| lacking.iter().any(|(lacking, _)| lacking == id);
    let same_site: Vec<PackageId> =
        here.into_iter().filter(|id| !ids.contains_key(id) && !is_lacking(id)).collect();
    let starts = |id: &PackageId| match (ids.get(id), new.iter().find(|(old, _)| old == id)) {
        (_, Some((_, New::Image(image)))) => images::is_boot(&image.0.info),
        (Some(here), _) => known.starts_from(here),
        _ => same_site.contains(id) && known.starts_from(id),
    };
    let mut todo = Vec::new();
    for (sequence, _) in sequences.iter_mut() {
        let same = existing.iter().find(|row| row.name.to_lowercase() == sequence.name.to_lowercase());
        match (same, how.duplicates) {
            (Some(row), Duplicates::Ignore) => {
                imported.linked.push(format!("{} {}", row.id, row.name));
                continue;
            }
            (Some(_), Duplicates::CreateNew) => {
                sequence.name = free_name(&sequence.name, existing.iter().map(|row| row.name.as_str()));
            }
            (Some(row), Duplicates::Overwrite) => {
                let there = Sequence::parse(&row.document)?;
                let judged = standing::judge(site, &row.id, &there, sequence, how.confirmed).await?;
                todo.push((Some((row.id.clone(), row.revision, judged)), sequence.clone()));
                continue;
            }
            (None, _) => {}
        }
        todo.push((None, sequence.clone()));
    }
    if caller.dry_run {
        return Ok(());
    }
    let boots = todo.iter().filter_map(|(_, sequence)| sequence.boot_image.clone());
    let without: Vec<PackageId> = boots.filter(|id| !starts(id)).collect();
    let (code, who) = (site.code().clone(), caller.who.clone());
    let mut made = imported.clone();
    *imported = site
        .write(move |w| {
            let mut ids = ids;
            for (old, new) in new {
                let (id, number) = w.next_id(&code)?;
                match new {
                    New::Image(image) => {
                        let (row, taken) = *image;
                        keep(w, &taken)?;
                        w.create_image(number, &ImageRow { id: id.clone(), ..row })?;
                    }
                    New::App(app) => {
                        let (row, taken) = *app;
                        taken.iter().try_for_each(|taken| keep(w, taken))?;
                        let file =
                            |t: Taken| AppFile { file_name: t.file_name, content: t.sha256, size: t.size };
                        let files = taken.into_iter().map(file).collect();
                        w.create_app(number, &AppRow { id: id.clone(), files, ..row })?;
                    }
                }
                ids.insert(old, id);
            }
            // Ids that nothing has and nothing will get: their references are broken, as they should be.
            let mut nothing = HashMap::new();
            let listed = lacking.iter().map(|(id, _)| id).filter(|_| !todo.is_empty());
            for id in listed.chain(&without) {
                if !nothing.contains_key(id) {
                    nothing.insert(id.clone(), w.next_id(&code)?.0);
                }
            }
            for (over, mut sequence) in todo {
                let apps = lacking_apps(&sequence, &lacking);
                rename(&mut sequence.nodes, &ids, &same_site, &nothing);
                let lost = sequence.boot_image.take_if(|id| without.contains(id));
                sequence.boot_image = match &lost {
                    Some(old) => nothing.get(old).cloned(),
                    None => sequence.boot_image.map(|id| ids.get(&id).cloned().unwrap_or(id)),
                };
                let saved = recorded(&sequence, sequence.checked_text()?);
                let id = match over {
                    Some((id, revision, judged)) => {
                        w.save_sequence(&id, revision, &saved, clock::now())?;
                        judged.record(w, &who, clock::now())?;
                        w.keep_only_secrets(&id, &[])?;
                        id
                    }
                    None => {
                        let id = w.next_id(&code)?;
                        w.create_sequence(&id, &saved, clock::now())?;
                        id.0
                    }
                };
                w.audit(&who, "ts.import", id.as_str(), clock::now())?;
                made.incomplete.extend(apps.iter().map(|(step, name)| format!("{id} step {step}: {name}")));
                made.incomplete.extend(lost.map(|old| {
                    let name = names.iter().find(|(id, _)| *id == old).map(|(_, name)| format!("`{name}`"));
                    format!("{id}: boot image {}", name.unwrap_or_else(|| old.to_string()))
                }));
                for at in sequence.steps() {
                    if let Some((_, what, _)) = at.step.action.secret() {
                        made.incomplete.push(format!("{id} step {}: {}", at.number, what.replace(' ', "-")));
                    }
                    if let Action::UpgradeOs(upgrade) = &at.step.action
                        && let Some(incomplete) = upgrade.incomplete
                    {
                        let what = match incomplete {
                            Incomplete::FeatureUpdate => "feature-update",
                            Incomplete::Image => "image",
                        };
                        made.incomplete.push(format!("{id} step {}: {what}", at.number));
                    }
                }
                made.sequences.push((id, sequence.name));
            }
            Ok(made)
        })
        .await?;
    // What was written over may be deployed.
    site.refresh_shelf().await?;
    let taken: Vec<PackageId> = imported.sequences.iter().map(|(id, _)| id.clone()).collect();
    imported.notes.extend(deploying::notes_of(site, &taken).await?);
    Ok(())
}

/// Steps that install an application which is not here, with its name.
fn lacking_apps(sequence: &Sequence, lacking: &[(PackageId, String)]) -> Vec<(usize, String)> {
    let named = |reference: Reference| match &reference.target {
        Target::Application(wanted) => {
            let (_, name) = lacking.iter().find(|(id, _)| id == wanted)?;
            Some((reference.step, format!("application `{name}`")))
        }
        _ => None,
    };
    sequence.references().into_iter().filter_map(named).collect()
}

/// Ids of where it comes from become ids of here. An image that is not here leaves its step incomplete.
fn rename(
    nodes: &mut [Node],
    ids: &HashMap<PackageId, PackageId>,
    here: &[PackageId],
    nothing: &HashMap<PackageId, PackageId>,
) {
    let renamed = |id: &PackageId| ids.get(id).or_else(|| here.iter().find(|known| *known == id)).cloned();
    for node in nodes {
        match node {
            Node::Group(group) => rename(&mut group.nodes, ids, here, nothing),
            Node::Step(step) => match &mut step.action {
                Action::UpgradeOs(upgrade) => {
                    if let Some(old) = upgrade.image.take() {
                        upgrade.image = renamed(&old);
                        if upgrade.image.is_none() {
                            upgrade.incomplete = Some(Incomplete::Image);
                        }
                    }
                }
                Action::InstallApplication(install) => {
                    install.applications.iter_mut().for_each(|id| {
                        if let Some(new) = renamed(id).or_else(|| nothing.get(id).cloned()) {
                            *id = new;
                        }
                    });
                }
                Action::DownloadContent(download) => {
                    download.packages.iter_mut().for_each(|id| {
                        if let Some(new) = renamed(id).or_else(|| nothing.get(id).cloned()) {
                            *id = new;
                        }
                    });
                }
                _ => {}
            },
        }
    }
}
