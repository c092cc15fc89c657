//! OS upgrade packages: WIM and ESD files with what is in them, their content stored once.

use std::path::Path;
use std::sync::Arc;

use catalog::image::{Image, ImageInfo};
use catalog::limits::Limits;
use catalog::problem::{Code, Coded as _, Problem};
use schema::software::ImageRow;

use super::take_in::{Taken, keep, take_in};
use crate::admin::{Answer, Caller};
use crate::blocking::blocking;
use crate::clock;
use crate::find::one;
use crate::given::{self, Links};
use crate::names::{self, Rule};
use crate::packages::content;
use crate::sequence::action::OsType;
use crate::site::Site;

/// Reads what is in a WIM or ESD file. It waits for the disk.
///
/// # Errors
/// `SOURCE_MISSING`, `DISK_ERROR`, `IMAGE_MALFORMED`.
pub fn inspect(path: &Path, links: Links) -> Result<ImageInfo, Problem> {
    let file = given::open(path, links).map_err(|error| given::unreadable(path, &error))?;
    let mut file = std::io::BufReader::new(file);
    ImageInfo::read(&mut file, &Limits::default()).map_err(|error| {
        Problem::new(error.code(), format!("`{}` is no usable WIM or ESD file", path.display()))
            .because(error.to_string())
    })
}

/// The images that are editions of Windows; Setup's own media and Windows PE are none.
pub fn editions(info: &ImageInfo) -> Vec<&Image> {
    let is_edition = |image: &&Image| {
        image.edition_id.is_some() && image.installation_type.as_ref().is_none_or(|kind| kind != "WindowsPE")
    };
    info.images.iter().filter(is_edition).collect()
}

/// It installs Windows Server.
pub fn is_server(info: &ImageInfo) -> bool {
    let server =
        |image: &Image| image.installation_type.as_ref().is_some_and(|kind| kind.starts_with("Server"));
    editions(info).iter().any(|image| server(image))
}

/// It is a boot image: something in it is Windows PE, and nothing an edition of Windows.
pub fn is_boot(info: &ImageInfo) -> bool {
    let pe = |image: &Image| image.installation_type.as_ref().is_some_and(|kind| kind == "WindowsPE");
    editions(info).is_empty() && info.images.iter().any(pe)
}

/// What sort of Windows it installs.
pub fn os_type(info: &ImageInfo) -> OsType {
    if is_server(info) { OsType::Server } else { OsType::Client }
}

/// The edition with this index; without one the first (mission row M51).
///
/// # Errors
/// `EDITION_INDEX_INVALID` with those that there are.
pub fn edition(row: &ImageRow, index: Option<u32>) -> Result<&Image, Problem> {
    let editions = editions(&row.info);
    let found = match index {
        None => editions.first(),
        Some(index) => editions.iter().find(|image| image.index == index),
    };
    found.copied().ok_or_else(|| {
        let message = match index {
            Some(index) => format!("`{}` has no edition with index {index}", row.name),
            None => format!("`{}` has no edition of Windows", row.name),
        };
        let valid: Vec<_> = editions.iter().map(|image| edition_words(image)).collect();
        Problem::new(Code::EditionIndexInvalid, message).because(format!("it has {}", valid.join(", ")))
    })
}

/// `1 Enterprise`.
pub fn edition_words(image: &Image) -> String {
    format!("{} {}", image.index, image.edition_id.as_deref().unwrap_or(&image.name))
}

/// The OS upgrade package that `name` means.
///
/// # Errors
/// `OS_UPGRADE_PACKAGE_NOT_FOUND`, `AMBIGUOUS`.
pub async fn named(site: &Arc<Site>, name: &str) -> Result<ImageRow, Problem> {
    let all = site.read(|r| r.images()).await?;
    one(name, &all, |row| (&row.id, &row.name), Code::OsUpgradePackageNotFound, "OS upgrade package").cloned()
}

/// Adds an OS upgrade package, or a boot image. The content is in the library once, however many packages have it.
///
/// # Errors
/// `NAME_*`, `IMAGE_MALFORMED`, those of the disk.
pub async fn add(
    site: &Arc<Site>,
    path: &Path,
    name: &str,
    version: &str,
    boot: bool,
    caller: &Caller,
) -> Result<Answer, Problem> {
    let name = names::checked("an OS upgrade package", name, Rule::Shown)?;
    let image = path.to_owned();
    // It is taken in below, where no link is followed.
    let info = blocking(move || inspect(&image, Links::Refused)).await?;
    if boot && !is_boot(&info) {
        let message = format!("`{}` is no boot image: Windows PE, and no edition of Windows", path.display());
        return Err(Problem::new(Code::ImageMalformed, message));
    }
    if !boot && editions(&info).is_empty() {
        let message = format!("`{}` holds no edition of Windows", path.display());
        return Err(Problem::new(Code::ImageMalformed, message));
    }
    let lost = lost(site, &name).await?;
    if lost.is_none() {
        let checked = name.clone();
        site.read(move |r| r.check_image_name(&checked)).await?;
    }
    if caller.dry_run {
        return Answer::of(&serde_json::json!({ "would_create": name, "info": info, "dry_run": true }));
    }
    let taken = take_in(site, path).await?;
    let stored = site.library.path(taken.sha256);
    if blocking(move || inspect(&stored, Links::Refused)).await? != info {
        let message = format!("`{}` was replaced while it was taken in", path.display());
        return Err(Problem::new(Code::ImageMalformed, message).help("add it again when nobody writes to it"));
    }
    if let Some(lost) = lost {
        return again(site, lost, &taken, caller).await;
    }
    let (code, who, version) = (site.code().clone(), caller.who.clone(), version.trim().to_owned());
    let added = site
        .write(move |w| {
            keep(w, &taken)?;
            let (id, number) = w.next_id(&code)?;
            let row = ImageRow {
                id,
                name,
                version,
                file_name: taken.file_name,
                content: taken.sha256,
                size: taken.size,
                info,
                created: clock::now(),
            };
            w.create_image(number, &row)?;
            w.audit(&who, "image.add", row.id.as_str(), clock::now())?;
            Ok(row)
        })
        .await;
    if added.is_err() {
        content::forget_unused(site).await?;
    }
    Answer::of(&added?)
}

/// The OS upgrade package of exactly this name, where its file is lost: the library does not have it, or set it aside.
async fn lost(site: &Arc<Site>, name: &str) -> Result<Option<ImageRow>, Problem> {
    let name = name.to_owned();
    let named = site.read(move |r| {
        let named = r.images()?.into_iter().find(|row| row.name.eq_ignore_ascii_case(&name));
        named.map(|row| Ok((r.has_content(row.content)?, row))).transpose()
    });
    let Some((is_recorded, row)) = named.await? else { return Ok(None) };
    let (library, content) = (site.library.clone(), row.content);
    let is_here = blocking(move || Ok(library.identity(content).is_some())).await?;
    Ok((!is_here || !is_recorded).then_some(row))
}

/// The same file is there again: the package is what it was, wherever it is used.
///
/// # Errors
/// `NAME_IN_USE` where it is another file; those of the database.
async fn again(site: &Arc<Site>, row: ImageRow, taken: &Taken, caller: &Caller) -> Result<Answer, Problem> {
    if taken.sha256 != row.content {
        content::forget_unused(site).await?;
        let message =
            format!("an OS upgrade package is called `{}` already, and its file is another one", row.name);
        return Err(Problem::new(Code::NameInUse, message)
            .because(format!("it was lost: SHA-256 {}", row.content))
            .because(format!("this one has {}", taken.sha256))
            .help("add the file that was lost under this name, or this one under another"));
    }
    let (kept, id, who) = (taken.clone(), row.id.clone(), caller.who.clone());
    site.write(move |w| {
        keep(w, &kept)?;
        w.audit(&who, "image.restore", id.as_str(), clock::now())
    })
    .await?;
    site.refresh_shelf().await?;
    Answer::of(&row)
}

/// Deletes an OS upgrade package that no task sequence uses.
///
/// # Errors
/// `IMAGE_IN_USE`, `OS_UPGRADE_PACKAGE_NOT_FOUND`.
pub async fn delete(site: &Arc<Site>, name: &str, caller: &Caller) -> Result<Answer, Problem> {
    let row = named(site, name).await?;
    let target = row.id.to_string();
    let mut users = site.read(move |r| r.sequences_with(&target)).await?;
    let boots = |sequence: &schema::sequences::SequenceRow| {
        crate::sequence::Sequence::parse(&sequence.document)
            .is_ok_and(|sequence| sequence.boot_image.as_ref() == Some(&row.id))
    };
    let booted = site.read(|r| r.sequences()).await?.into_iter().filter(boots);
    users.extend(booted.map(|sequence| format!("{} {}", sequence.id, sequence.name)));
    if !users.is_empty() {
        let message = format!("OS upgrade package `{}` is used by task sequences", row.name);
        return Err(Problem::new(Code::ImageInUse, message).because(users.join(", ")));
    }
    super::places::on_none(site, &row.id, &row.name).await?;
    if !caller.dry_run {
        let (id, who) = (row.id.clone(), caller.who.clone());
        site.write(move |w| {
            w.delete_image(&id)?;
            w.audit(&who, "image.delete", id.as_str(), clock::now())
        })
        .await?;
        content::forget_unused(site).await?;
    }
    Answer::of(&serde_json::json!({ "deleted": row, "dry_run": caller.dry_run }))
}
