//! What is carried: the content that a task sequence or package needs, and the proof of each byte while it is copied.

use std::io::{Read as _, Write};
use std::sync::Arc;

use catalog::digest::{Checker, Sha256Digest};
use catalog::id::{FileName, PackageId};
use catalog::problem::{Code, Coded as _, Problem};
use dp::library::Library;
use schema::packages::FileState;
use schema::points::OWN_POINT;
use serde::{Deserialize, Serialize};

use super::Told;
use crate::authoring::surroundings::Known;
use crate::find::one;
use crate::points;
use crate::sequence::refs::Target;
use crate::sequence::{Sequence, lint};
use crate::site::Site;

/// What content belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A deployment package.
    Updates,
    /// An OS upgrade package.
    Image,
    /// An application.
    Application,
    /// What a task sequence starts from outside of the installed system.
    BootImage,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CarriedFile {
    /// Its name.
    pub name: FileName,
    /// Its digest.
    pub sha256: Sha256Digest,
    /// Its bytes.
    pub size: u64,
}

/// A package, image or application with its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// Its id.
    pub id: PackageId,
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Which state of it.
    pub version: u32,
    /// Its files.
    #[serde(default, rename = "file")]
    pub files: Vec<CarriedFile>,
}

/// What is carried: of a task sequence, or of one thing alone.
pub struct Carried {
    /// Its id.
    pub id: PackageId,
    /// Its name.
    pub name: String,
    /// The content.
    pub items: Vec<Item>,
}

/// Each content once, in the order of the items.
pub fn distinct(items: &[Item]) -> Vec<&CarriedFile> {
    let mut seen = std::collections::HashSet::new();
    items.iter().flat_map(|item| &item.files).filter(|file| seen.insert(file.sha256)).collect()
}

/// What a name means: a task sequence, a deployment package, an OS upgrade package or an application.
///
/// # Errors
/// `PRESTAGE_FEATURE_UPDATE` before anything else; `BROKEN_REFERENCE`, `PACKAGE_EMPTY`, `PACKAGE_INCOMPLETE`,
/// `PACKAGE_NOT_FOUND`, `AMBIGUOUS`.
pub async fn named(site: &Arc<Site>, what: &str) -> Result<Carried, Problem> {
    let (sequences, packages, images, apps) =
        site.read(|r| Ok((r.sequences()?, r.packages()?, r.images()?, r.apps()?))).await?;
    let all: Vec<(&PackageId, &String)> = sequences
        .iter()
        .map(|row| (&row.id, &row.name))
        .chain(packages.iter().map(|row| (&row.id, &row.name)))
        .chain(images.iter().map(|row| (&row.id, &row.name)))
        .chain(apps.iter().map(|row| (&row.id, &row.name)))
        .collect();
    let sort = "task sequence, package, image or application";
    let (id, name) = *one(what, &all, |row| *row, Code::PackageNotFound, sort)?;
    let items = if let Some(row) = sequences.iter().find(|row| row.id == *id) {
        let parsed = Sequence::parse(&row.document)?;
        parsed.may_be_prestaged()?;
        of_sequence(&parsed, &Known::of(site).await?)?
    } else if packages.iter().any(|row| row.id == *id) {
        vec![of_package(site, id).await?]
    } else {
        let images = images.iter().map(|row| image(row, Kind::Image));
        images.chain(apps.iter().map(application)).filter(|item| item.id == *id).collect()
    };
    Ok(Carried { id: id.clone(), name: name.clone(), items })
}

/// The images and applications of the enabled steps, each once, and the boot image.
///
/// # Errors
/// What keeps the task sequence from being used; `BOOT_IMAGE_MISSING` where the site does not have the one that is named.
pub fn of_sequence(sequence: &Sequence, known: &Known) -> Result<Vec<Item>, Problem> {
    lint::refuse_errors(&lint::lint(sequence, &known.surroundings))?;
    let mut items: Vec<Item> = Vec::new();
    for reference in sequence.references().into_iter().filter(|reference| reference.enabled) {
        let found = match &reference.target {
            Target::FeatureUpdate(_) => None,
            Target::Image(id) => {
                known.images.iter().find(|row| row.id == *id).map(|row| image(row, Kind::Image))
            }
            Target::Application(id) => known.apps.iter().find(|row| row.id == *id).map(application),
        };
        items.extend(found.filter(|item| items.iter().all(|other| other.id != item.id)));
    }
    if let Some(id) = &sequence.boot_image {
        let row = known.images.iter().find(|row| row.id == *id).ok_or_else(|| {
            let message = format!("the boot image {id} of `{}` is not in this site", sequence.name);
            Problem::new(Code::BootImageMissing, message)
        })?;
        if items.iter().all(|other| other.id != row.id) {
            items.push(image(row, Kind::BootImage));
        }
    }
    Ok(items)
}

fn image(row: &schema::software::ImageRow, kind: Kind) -> Item {
    let file = CarriedFile { name: row.file_name.clone(), sha256: row.content, size: row.size };
    Item { id: row.id.clone(), kind, name: row.name.clone(), version: 1, files: vec![file] }
}

fn application(row: &schema::software::AppRow) -> Item {
    let file = |file: &schema::software::AppFile| CarriedFile {
        name: file.file_name.clone(),
        sha256: file.content,
        size: file.size,
    };
    let files = row.files.iter().map(file).collect();
    Item { id: row.id.clone(), kind: Kind::Application, name: row.name.clone(), version: 1, files }
}

async fn of_package(site: &Arc<Site>, id: &PackageId) -> Result<Item, Problem> {
    let shown = crate::packages::shown(site, id).await?;
    let name = &shown.package.name;
    if shown.files.is_empty() {
        return Err(Problem::new(Code::PackageEmpty, format!("package `{name}` has no updates")));
    }
    let mut files: Vec<CarriedFile> = Vec::new();
    for file in crate::packages::each_once(&shown.files) {
        let Some(sha256) = file.sha256.filter(|_| file.state == FileState::Stored) else {
            let message = format!("`{}` of package `{name}` is not downloaded", file.file_name);
            return Err(Problem::new(Code::PackageIncomplete, message));
        };
        files.push(CarriedFile { name: file.file_name.clone(), sha256, size: file.size });
    }
    Ok(Item {
        id: id.clone(),
        kind: Kind::Updates,
        name: name.clone(),
        version: shown.package.version,
        files,
    })
}

/// Refuses where a point does not hold everything. Content is known by its digest: the bytes that are copied are those of
/// the site's library, and the same.
///
/// # Errors
/// `DP_NOT_FOUND`, `CONTENT_NOT_DISTRIBUTED`.
pub async fn on_point(site: &Arc<Site>, point: Option<&str>, items: &[Item]) -> Result<String, Problem> {
    let point = match point {
        None => site.read(|r| r.point_settings()).await?.into_iter().find(|row| row.id == OWN_POINT),
        Some(name) => Some(points::named(site, name).await?),
    };
    let point = point.ok_or_else(|| Problem::new(Code::DpNotFound, "the site has no distribution point"))?;
    let id = point.id;
    let (here, held) = site.read(|r| Ok((r.content_digests()?, r.held()?))).await?;
    let there = |file: &&CarriedFile| {
        here.contains(&file.sha256)
            && (id == OWN_POINT || held.iter().any(|row| row.point == id && row.sha256 == file.sha256))
    };
    let missing: Vec<_> = items
        .iter()
        .flat_map(|item| item.files.iter().map(move |file| (item, file)))
        .filter(|(_, file)| !there(file))
        .collect();
    let Some((item, file)) = missing.first() else { return Ok(point.name) };
    let message = format!("{} files are not on distribution point `{}`", missing.len(), point.name);
    Err(Problem::new(Code::ContentNotDistributed, message)
        .because(format!("for one, `{}` of {} `{}`", file.name, item.id, item.name)))
}

/// Where bytes come from.
pub trait Source {
    /// Copies a content, and says so only if every byte was right.
    ///
    /// # Errors
    /// `CONTENT_CORRUPT`, `CANCELLED`, those of the disk.
    fn copy(&mut self, file: &CarriedFile, to: &mut dyn Write) -> Result<(), Problem>;
}

/// The library of the site.
pub struct FromLibrary<P> {
    /// The library.
    pub library: Library,
    /// Whether to go on.
    pub told: Told,
    /// Hears of all bytes so far.
    pub progress: P,
    /// Bytes so far.
    pub done: u64,
}

impl<P: FnMut(u64)> Source for FromLibrary<P> {
    fn copy(&mut self, file: &CarriedFile, to: &mut dyn Write) -> Result<(), Problem> {
        let corrupt = |what: String| {
            Problem::new(Code::ContentCorrupt, format!("`{}` is not copied: {what}", file.name))
                .help("`spsync package validate P --repair` fetches it again; an image or application is added anew")
        };
        let stored = self.library.open_content(file.sha256).map_err(|error| error.problem())?;
        let stored = stored.ok_or_else(|| corrupt("it is not in the library".to_owned()))?;
        let mut from = stored.file;
        let mut checker = Checker::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            self.told.check()?;
            let count = from.read(&mut buffer).map_err(|error| {
                Problem::new(Code::DiskError, format!("`{}` cannot be read", file.name))
                    .because_of(Some(&error))
            })?;
            if count == 0 {
                break;
            }
            checker.update(&buffer[..count]);
            if checker.seen() > file.size {
                return Err(corrupt(format!("it has more than {} bytes", file.size)));
            }
            to.write_all(&buffer[..count]).map_err(|error| {
                let code = if crate::whole::is_full(&error) { Code::DiskFull } else { Code::DiskError };
                Problem::new(code, format!("`{}` cannot be written", file.name)).because_of(Some(&error))
            })?;
            self.done += count as u64;
            (self.progress)(self.done);
        }
        let print = checker.into_fingerprint();
        if print.sha256 != file.sha256 || print.size != file.size {
            return Err(corrupt(format!("expected {}, found {}", file.sha256, print.sha256)));
        }
        Ok(())
    }
}
