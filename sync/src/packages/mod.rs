//! Deployment packages: named sets of feature updates whose files are downloaded, checked and distributed together.

pub mod content;
pub(crate) mod copies;
mod distribute;
pub mod maps;
mod member;
mod upstream;
mod validate;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use catalog::id::PackageId;
use catalog::problem::{Code, Problem};
use schema::packages::{Access, FileState, NewMember, NewPackage, Package, PackageFile};
use schema::points::Placement;
use serde::{Deserialize, Serialize};

pub use distribute::{distribute, servable, shelf, withdraw};
pub use upstream::upstream_paths;
pub(crate) use validate::refill;
pub use validate::{Validated, ValidatedFile, validate};

use crate::admin::{Answer, Caller, UpdateFilter};
use crate::blocking::blocking;
use crate::clock;
use crate::config::Settings;
use crate::find::one;
use crate::packages::copies::Copied;
use crate::site::Site;
use crate::site::own::{self, Lies};
use crate::updates::{self, Reason};

/// A package with what it holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Shown {
    /// The package itself.
    #[serde(flatten)]
    pub package: Package,
    /// Its files.
    pub files: Vec<PackageFile>,
    /// Bytes of all files.
    pub bytes: u64,
    /// How many of them are stored.
    pub stored: u64,
    /// Names of the distribution points that it was sent to.
    pub distributed_to: Vec<String>,
    /// How it is doing on each.
    #[serde(default)]
    pub points: Vec<Placement>,
}

/// The package that `name` means: an id, a name, or the unique beginning of either.
///
/// # Errors
/// `PACKAGE_NOT_FOUND`, `AMBIGUOUS`.
pub async fn named(site: &Arc<Site>, name: &str) -> Result<Package, Problem> {
    let all = site.read(|r| r.packages()).await?;
    one(name, &all, |row| (&row.id, &row.name), Code::PackageNotFound, "deployment package").cloned()
}

/// What has this name and goes to points: a package, or an image or application that was sent to one.
///
/// # Errors
/// `PACKAGE_NOT_FOUND`, `AMBIGUOUS`.
pub async fn placed(site: &Arc<Site>, name: &str) -> Result<Package, Problem> {
    let missing = match named(site, name).await {
        Err(problem) if problem.code == Code::PackageNotFound => problem,
        found => return found,
    };
    let software: Vec<(PackageId, String)> = site
        .read(|r| {
            let images = r.images()?.into_iter().map(|row| (row.id, row.name));
            Ok(images.chain(r.apps()?.into_iter().map(|row| (row.id, row.name))).collect())
        })
        .await?;
    match one(name, &software, |row| (&row.0, &row.1), Code::PackageNotFound, "package") {
        Ok((id, name)) => {
            let wanted = id.clone();
            let package = site.read(move |r| r.package(&wanted)).await?;
            package.map(|package| Package { name: name.clone(), ..package }).ok_or(missing)
        }
        Err(problem) if problem.code == Code::Ambiguous => Err(problem),
        Err(_) => Err(missing),
    }
}

/// The package with its files and places.
///
/// # Errors
/// Those of the database.
pub async fn shown(site: &Arc<Site>, id: &PackageId) -> Result<Shown, Problem> {
    let wanted = id.clone();
    let (package, files, places) = site
        .read(move |r| {
            let places = r.placements_of(std::slice::from_ref(&wanted))?;
            Ok((r.package(&wanted)?, r.package_files(&wanted)?, places))
        })
        .await?;
    let package =
        package.ok_or_else(|| Problem::new(Code::PackageNotFound, format!("there is no package {id}")))?;
    let each = each_once(&files);
    Ok(Shown {
        bytes: each.iter().map(|file| file.size).fold(0, u64::saturating_add),
        stored: each.iter().filter(|file| file.state == FileState::Stored).count() as u64,
        distributed_to: places.iter().map(|place| place.point.clone()).collect(),
        points: places,
        package,
        files,
    })
}

/// The files of a package, each once: several updates may need the same.
pub(crate) fn each_once(files: &[PackageFile]) -> Vec<&PackageFile> {
    let mut seen = HashSet::new();
    files.iter().filter(|file| seen.insert(file.file)).collect()
}

/// All packages.
///
/// # Errors
/// Those of the database.
pub async fn list(site: &Arc<Site>) -> Result<Answer, Problem> {
    let mut all = Vec::new();
    for package in site.read(|r| r.packages()).await? {
        all.push(shown(site, &package.id).await?);
    }
    Answer::of(&all)
}

/// One package.
///
/// # Errors
/// `PACKAGE_NOT_FOUND`, `AMBIGUOUS`.
pub async fn show(site: &Arc<Site>, name: &str) -> Result<Answer, Problem> {
    let package = named(site, name).await?;
    Answer::of(&shown(site, &package.id).await?)
}

/// Makes a package. Without `source` its files live in the content library alone; with one, they are placed there too.
///
/// # Errors
/// `NAME_*`, `DESCRIPTION_TOO_LONG`, `SOURCE_*` (mission row M17).
pub async fn create(
    site: &Arc<Site>,
    name: &str,
    description: &str,
    source: Option<PathBuf>,
    access: Access,
    caller: &Caller,
) -> Result<Answer, Problem> {
    let source = match source {
        Some(folder) => Some(usable_source(site, folder).await?),
        None => None,
    };
    let new = NewPackage {
        name: name.trim().to_owned(),
        description: description.trim().to_owned(),
        source_dir: source,
        access,
    };
    let (code, who) = (site.code().clone(), caller.who.clone());
    if caller.dry_run {
        let checked = new.clone();
        site.read(move |r| r.check_new_package(&checked)).await?;
        return Answer::of(&serde_json::json!({ "would_create": new.name, "dry_run": true }));
    }
    let id = site
        .write(move |w| {
            let id = w.create_package(&code, &new, clock::now())?;
            w.audit(&who, "package.create", id.as_str(), clock::now())?;
            Ok(id)
        })
        .await?;
    Answer::of(&shown(site, &id).await?)
}

/// Says for whom a package is. What it has in common with a public one stays public.
///
/// # Errors
/// `PACKAGE_NOT_FOUND`, `AMBIGUOUS`.
pub async fn set_access(
    site: &Arc<Site>,
    name: &str,
    access: Access,
    caller: &Caller,
) -> Result<Answer, Problem> {
    let package = named(site, name).await?;
    let changed = package.access != access;
    if changed && !caller.dry_run {
        let (id, who) = (package.id.clone(), caller.who.clone());
        site.write(move |w| {
            w.set_package_access(&id, access)?;
            w.audit(&who, &format!("package.access {access}"), id.as_str(), clock::now())
        })
        .await?;
        site.refresh_shelf().await?;
    }
    Answer::of(&serde_json::json!({
        "package": package.id, "name": package.name, "access": access, "changed": changed, "dry_run": caller.dry_run,
    }))
}

/// A source folder must exist, be writable, and be nobody else's: also not inside another's, nor around it, nor in
/// the content library.
async fn usable_source(site: &Arc<Site>, folder: PathBuf) -> Result<PathBuf, Problem> {
    let settings = site.settings();
    let real = blocking(move || looked_at(&settings, &folder)).await?;
    let overlaps = |other: &Path| real.starts_with(other) || other.starts_with(&real);
    let others = site.read(|r| r.packages()).await?;
    if let Some(other) = others.iter().find(|p| p.source_dir.as_deref().is_some_and(overlaps)) {
        let message = format!(
            "the source folder `{}` belongs to package {} `{}`",
            real.display(),
            other.id,
            other.name
        );
        return Err(Problem::new(Code::SourceInUse, message));
    }
    Ok(real)
}

/// The same folder without links, where it is one that can be written and is not the site's own.
fn looked_at(settings: &Settings, folder: &Path) -> Result<PathBuf, Problem> {
    let missing = |error: &std::io::Error| {
        Problem::new(Code::SourceMissing, format!("the source folder `{}` does not exist", folder.display()))
            .because_of(Some(error))
    };
    let real = std::fs::canonicalize(folder).map_err(|error| missing(&error))?;
    if !real.is_dir() {
        return Err(Problem::new(Code::SourceMissing, format!("`{}` is not a folder", folder.display())));
    }
    own::try_making(&real).map_err(|error| {
        Problem::new(
            Code::SourceNotWritable,
            format!("the source folder `{}` cannot be written", real.display()),
        )
        .because_of(Some(&error))
    })?;
    let where_it_lies = match own::lies(settings, &real) {
        Lies::Apart | Lies::InExchange => None,
        Lies::Around => Some("is around the site's own data"),
        Lies::Within => Some("is inside the site's own data"),
        Lies::Exchange => Some("is that of all requests; a folder in it may be one"),
    };
    if let Some(why) = where_it_lies {
        let message = format!("the source folder `{}` {why}", real.display());
        return Err(Problem::new(Code::SourceInUse, message));
    }
    Ok(real)
}

/// What a task of this package is known by: one at a time works on it.
pub(crate) fn key(id: &PackageId) -> String {
    format!("package {id}")
}

/// Refuses what would pull a package away under a task.
fn not_busy(site: &Site, package: &Package) -> Result<(), Problem> {
    match site.tasks.working_on(&key(&package.id)) {
        None => Ok(()),
        Some(task) => {
            let message = format!("task {task} works on package `{}`", package.name);
            Err(Problem::new(Code::PackageBusy, message)
                .help(format!("`spsync task wait {task}`, or `spsync task cancel {task}`")))
        }
    }
}

/// What was added to, or taken out of, a package.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Changed {
    /// Id of the package.
    pub package: PackageId,
    /// Its name.
    pub name: String,
    /// Titles added.
    pub added: Vec<String>,
    /// Titles that were there already.
    pub present: Vec<String>,
    /// Titles taken out.
    pub dropped: Vec<String>,
    /// What a picker left out, and why.
    pub left_out: Vec<String>,
    /// What was not done to copies in the source folder, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Bytes of what was added.
    pub bytes: u64,
    /// Nothing was changed.
    pub dry_run: bool,
}

/// Adds updates to a package: those named, which must be deployable, or whatever the filter leaves of the selection.
///
/// # Errors
/// `LICENSE_NOT_ACCEPTED` and the like for an update named explicitly; `UPDATE_NOT_FOUND`, `AMBIGUOUS`,
/// `LANGUAGE_*`; then nothing is added.
pub async fn add(
    site: &Arc<Site>,
    package: &str,
    names: &[String],
    filter: &UpdateFilter,
    caller: &Caller,
) -> Result<Answer, Problem> {
    let package = named(site, package).await?;
    updates::selection::known_languages(site, &filter.languages).await?;
    updates::selection::known_filter(site, filter).await?;
    let all = updates::all(site).await?;
    let (chosen, left_out) = if names.is_empty() {
        updates::pick(&all, filter)
    } else {
        let mut chosen = Vec::new();
        for name in names {
            let listed = updates::named(name, &all)?;
            // Naming an encrypted update by its id is asking for it; nothing else may be overruled so.
            let by_id =
                name.len() >= 8 && listed.update.id.update.to_string().starts_with(&name.to_lowercase());
            let asked_for = |reason: &&Reason| !(by_id && **reason == Reason::Encrypted);
            if let Some(reason) = listed.reasons.iter().find(asked_for) {
                return Err(listed.refusal(reason));
            }
            chosen.push(listed);
        }
        (chosen, Vec::new())
    };
    let members: Vec<_> = chosen
        .iter()
        .map(|listed| NewMember {
            revision: listed.update.id,
            title: listed.update.title.clone(),
            size: listed.update.size,
        })
        .collect();
    let (id, who, dry_run) = (package.id.clone(), caller.who.clone(), caller.dry_run);
    let (added, present) = site
        .write(move |w| {
            let present = w.members_present(&id, &members)?;
            let (present, new): (Vec<_>, Vec<_>) =
                members.into_iter().partition(|m| present.contains(&m.revision));
            if !dry_run && !new.is_empty() {
                w.add_members(&id, &new, clock::now())?;
                w.audit(&who, "package.add", id.as_str(), clock::now())?;
            }
            Ok((new, present))
        })
        .await?;
    if !dry_run {
        site.refresh_shelf().await?;
    }
    Answer::of(&Changed {
        package: package.id,
        name: package.name,
        bytes: added.iter().map(|member| member.size).fold(0, u64::saturating_add),
        added: added.into_iter().map(|member| member.title).collect(),
        present: present.into_iter().map(|member| member.title).collect(),
        dropped: Vec::new(),
        left_out,
        notes: Vec::new(),
        dry_run,
    })
}

/// Takes updates out of a package, by id, title or file all revisions of an update, or one as `ID/NUMBER`. Their content stays in the library while another package uses it.
/// Their copies in the source folder go; other files there stay, whatever their names, and that is said.
///
/// # Errors
/// `UPDATE_NOT_FOUND` where the package does not hold one of them, `AMBIGUOUS`; then nothing is taken out.
pub async fn drop_updates(
    site: &Arc<Site>,
    package: &str,
    names: &[String],
    caller: &Caller,
) -> Result<Answer, Problem> {
    let package = named(site, package).await?;
    not_busy(site, &package)?;
    let held = shown(site, &package.id).await?.files;
    let members = member::members(&held);
    let mut chosen: Vec<&member::Member> = Vec::new();
    for name in names {
        for member in member::meant(name, &members, &package.name)? {
            if !chosen.contains(&member) {
                chosen.push(member);
            }
        }
    }
    let mut notes = Vec::new();
    if !caller.dry_run {
        let (id, who) = (package.id.clone(), caller.who.clone());
        let revisions: Vec<_> = chosen.iter().map(|member| member.revision).collect();
        let gone = revisions.clone();
        site.write(move |w| {
            w.drop_members(&id, &revisions, clock::now())?;
            w.audit(&who, "package.drop", id.as_str(), clock::now())
        })
        .await?;
        site.refresh_shelf().await?;
        if let Some(folder) = package.source_dir.clone() {
            let stays =
                |file: &PackageFile| held.iter().any(|o| o.file == file.file && !gone.contains(&o.revision));
            let goes = each_once(&held).into_iter().filter(|file| !stays(file));
            let copies: Vec<_> = goes.filter_map(Copied::of).collect();
            let library = site.library.clone();
            notes = blocking(move || {
                Ok(copies.iter().filter_map(|copy| copy.remove(&library, &folder)).collect())
            })
            .await?;
        }
    }
    Answer::of(&Changed {
        package: package.id,
        name: package.name,
        added: Vec::new(),
        present: Vec::new(),
        dropped: chosen.into_iter().map(member::Member::label).collect(),
        left_out: Vec::new(),
        notes,
        bytes: 0,
        dry_run: caller.dry_run,
    })
}

/// Deployments that are neither stopped nor over tell devices that this package has their content.
async fn not_deployed(site: &Arc<Site>, package: &Package) -> Result<(), Problem> {
    let (id, now) = (package.id.clone(), clock::now());
    let rows = site.read(|r| r.deployments()).await?;
    let live = |row: &&schema::deployments::DeploymentRow| {
        let over = row.stopped.is_some() || row.expires.is_some_and(|expires| expires <= now);
        row.package.as_ref() == Some(&id) && !over
    };
    let live: Vec<String> = rows.iter().filter(live).map(|row| row.id.to_string()).collect();
    let Some(first) = live.first() else { return Ok(()) };
    let message = format!("package `{}` has the content of {}", package.name, live.join(", "));
    Err(Problem::new(Code::PackageDeployed, message)
        .help(format!("`spsync deploy stop {first}` first, or wait until it is over")))
}

/// Deletes a package that no distribution point serves. Its content goes when nothing else uses it.
///
/// # Errors
/// `PACKAGE_DISTRIBUTED`, `PACKAGE_NOT_FOUND`.
pub async fn delete(site: &Arc<Site>, name: &str, caller: &Caller) -> Result<Answer, Problem> {
    let package = named(site, name).await?;
    not_busy(site, &package)?;
    let shown = shown(site, &package.id).await?;
    if !shown.distributed_to.is_empty() {
        let message =
            format!("package `{}` is distributed to {}", package.name, shown.distributed_to.join(", "));
        return Err(Problem::new(Code::PackageDistributed, message)
            .help(format!("`spsync package withdraw {}` first", package.id)));
    }
    not_deployed(site, &package).await?;
    if !caller.dry_run {
        let (id, who) = (package.id.clone(), caller.who.clone());
        site.write(move |w| {
            w.delete_package(&id)?;
            w.audit(&who, "package.delete", id.as_str(), clock::now())
        })
        .await?;
        content::forget_unused(site).await?;
        site.refresh_shelf().await?;
    }
    Answer::of(&serde_json::json!({ "deleted": shown, "dry_run": caller.dry_run }))
}
