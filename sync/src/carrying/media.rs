//! Stand-alone media: one folder with a task sequence, its policy and its content, from which a device runs without a site.
//!
//! The folder is made under a temporary name and appears under its own by one rename, after all of it is on the disk. Secrets
//! never go onto media (docs/decisions/0028): whoever finds a stick reads it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use catalog::digest::Sha256Digest;
use catalog::id::PackageId;
use catalog::problem::{Code, Problem};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::content::{self, Item, Source};
use super::log::{self, LOG, Staging};
use super::task::{self, Copying};
use super::{NewMedia, disk, enough_room, readable, standing};
use crate::admin::{Answer, Caller, Work};
use crate::authoring::stripped;
use crate::authoring::surroundings::{Known, sequence};
use crate::blocking::blocking;
use crate::clock;
use crate::deploying::resolve::{self, Stored};
use crate::policy::{
    Assignment, ContentOptions, Delivery, DeploymentId, DeviceSettings, FORMAT as POLICY_FORMAT, Policy,
    Purpose, Rerun, UserOptions,
};
use crate::sequence::Sequence;
use crate::site::{Site, own};
use crate::words::counted;

/// What is on the media, for `media verify` and for people.
pub const MEDIA_TOML: &str = "media.toml";
/// What a device runs by.
pub const POLICY: &str = "policy.json";
/// Digests of all files, as `sha256sum -c` reads them.
pub const SUMS: &str = "SHA256SUMS";
const SEQUENCE: &str = "sequence.toml";
/// The form that this release writes.
pub const FORMAT: u32 = 1;
/// The largest file of FAT32.
const LARGEST_ON_FAT32: u64 = u32::MAX as u64;
/// The longest label of FAT, and of ISO 9660.
const LONGEST_LABEL: (usize, usize) = (11, 32);
/// Room for what stands beside the content.
const BESIDE: u64 = 8 << 20;

/// What is on media.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Medium {
    /// The form.
    pub format: u32,
    /// The site that made it.
    pub site: String,
    /// The task sequence.
    pub sequence: PackageId,
    /// Its name.
    pub name: String,
    /// The label.
    pub label: String,
    /// When it was made.
    pub made: Timestamp,
    /// Numbers of steps whose secrets were left out.
    #[serde(default)]
    pub secret_removed: Vec<usize>,
    /// The content; its files lie in `content/ID/NAME`.
    #[serde(default, rename = "item")]
    pub items: Vec<Item>,
}

/// What was made, or would be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Made {
    /// The folder.
    pub folder: PathBuf,
    /// The task sequence.
    pub sequence: PackageId,
    /// Its name.
    pub name: String,
    /// The label.
    pub label: String,
    /// The point that the content is on.
    pub point: String,
    /// Files of content.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// What was left out.
    pub left_out: Vec<String>,
    /// Nothing was written.
    pub dry_run: bool,
}

/// Everything that is settled before the first byte is written.
pub(super) struct Plan {
    folder: PathBuf,
    target: PathBuf,
    medium: Medium,
    /// The files beside the content, the last of them with the digests of all others.
    beside: Vec<(&'static str, Vec<u8>)>,
}

impl Plan {
    /// Media of this in `folder`, such as can be read back.
    ///
    /// # Errors
    /// `CARRIED_TOO_MUCH`.
    fn new(folder: PathBuf, medium: Medium, document: String, policy: Vec<u8>) -> Result<Self, Problem> {
        let content = medium.items.iter().map(|item| item.files.len()).sum::<usize>();
        readable(content, 0)?;
        let text = toml::to_string(&medium).map_err(|error| Problem::of(Code::Internal, &error))?;
        let mut beside =
            vec![(MEDIA_TOML, text.into_bytes()), (SEQUENCE, document.into_bytes()), (POLICY, policy)];
        let mut sums = String::new();
        for (item, file) in
            medium.items.iter().flat_map(|item| item.files.iter().map(move |file| (item, file)))
        {
            sums += &format!("{}  {}\n", file.sha256, place(item, file));
        }
        for (name, bytes) in &beside {
            sums += &format!("{}  {name}\n", Sha256Digest::of(bytes));
        }
        readable(content + beside.len(), beside[0].1.len().max(sums.len()))?;
        // Two names that a stick cannot tell from each other, for one.
        super::verify::sums(&sums)
            .and_then(|_| Policy::parse(&beside[2].1))
            .map_err(|refused| refused.keeping("nothing was written: it could not be used"))?;
        beside.push((SUMS, sums.into_bytes()));
        let target = place_of(&folder, &medium.sequence);
        Ok(Self { folder, target, medium, beside })
    }
}

/// Where media of a task sequence lies in a staging folder.
fn place_of(folder: &Path, sequence: &PackageId) -> PathBuf {
    folder.join(sequence.as_str())
}

/// Where a content lies on the media.
pub(super) fn place(item: &Item, file: &content::CarriedFile) -> String {
    format!("content/{}/{}", item.id, file.name)
}

/// What a file system or label does not take. Pure.
///
/// # Errors
/// `MEDIA_FILE_TOO_LARGE`, `INVALID_OPTION`.
pub(super) fn fits(items: &[Item], label: &str, fat: bool) -> Result<(), Problem> {
    let most = if fat { LONGEST_LABEL.0 } else { LONGEST_LABEL.1 };
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if label.is_empty() || label.chars().count() > most || !label.chars().all(plain) {
        let message = format!("a label has 1 to {most} letters, digits, `-` and `_`");
        return Err(Problem::new(Code::InvalidOption, message));
    }
    let files = items.iter().flat_map(|item| &item.files);
    let Some(file) = files.filter(|_| fat).find(|file| file.size > LARGEST_ON_FAT32) else { return Ok(()) };
    let message =
        format!("`{}` has {} bytes, a file on FAT32 has at most {LARGEST_ON_FAT32}", file.name, file.size);
    Err(Problem::new(Code::MediaFileTooLarge, message))
}

/// The file system of a folder is one of the FATs.
fn is_fat(folder: &Path) -> bool {
    const MSDOS: i64 = 0x4d44;
    rustix::fs::statfs(folder).is_ok_and(|found| i64::from(found.f_type as i32) == MSDOS)
}

/// Makes stand-alone media, as a task.
///
/// # Errors
/// `MEDIA_FEATURE_UPDATE` (0x80070490), `MEDIA_UNSUPPORTED_STEP`, `BOOT_IMAGE_MISSING`, `CONTENT_NOT_DISTRIBUTED`,
/// `MEDIA_FILE_TOO_LARGE`, `CARRIED_TOO_MUCH`, `TARGET_EXISTS`, `DISK_FULL`: before anything is written but, for the first, the log.
pub async fn create(site: &Arc<Site>, wanted: NewMedia, caller: &Caller) -> Result<Work, Problem> {
    let row = sequence(site, &wanted.sequence).await?;
    let parsed = Sequence::parse(&row.document)?;
    if let Err(refused) = parsed.may_be_on_media() {
        return Err(refuse(site, &row.id, &wanted.folder, refused, caller).await?);
    }
    let known = Known::of(site).await?;
    let items = content::of_sequence(&parsed, &known)?;
    let point = content::on_point(site, wanted.dp.as_deref(), &items).await?;
    let (settings, folder) = (site.settings(), wanted.folder.clone());
    let is_on_fat = blocking(move || {
        own::outside(&settings, &folder)?;
        Ok(is_fat(standing(&folder)))
    })
    .await?;
    let label = wanted.label.clone().unwrap_or_else(|| row.id.to_string());
    let fat = wanted.usb || is_on_fat;
    fits(&items, &label, fat)?;
    let files = items.iter().map(|item| item.files.len()).sum();
    let bytes: u64 =
        items.iter().flat_map(|item| &item.files).map(|file| file.size).fold(0, u64::saturating_add);
    let target = place_of(&wanted.folder, &row.id);
    let (folder, there) = (wanted.folder.clone(), target.clone());
    blocking(move || {
        enough_room(standing(&folder), bytes.saturating_add(BESIDE))?;
        match std::fs::symlink_metadata(&there) {
            Ok(_) => Err(Problem::new(Code::TargetExists, format!("`{}` is there already", there.display()))),
            Err(_) => Ok(()),
        }
    })
    .await?;
    let mut carried = parsed;
    let (_, secret_removed) = stripped(&mut carried);
    let stored = Stored::of(site.read(|r| r.stored_files()).await?);
    let now = clock::now();
    let assignment = Assignment {
        deployment: DeploymentId::new(site.code(), 0),
        task_sequence: row.id.clone(),
        revision: row.revision.into(),
        name: row.name.clone(),
        // Whoever starts from media means it, whatever the clock of the device says.
        purpose: Purpose::Required,
        available: Timestamp::UNIX_EPOCH,
        deadline: Some(Timestamp::UNIX_EPOCH),
        expires: None,
        rerun: Rerun::Always,
        user: UserOptions { install_outside_windows: true, ..UserOptions::default() },
        content: ContentOptions {
            neighbours: false,
            default_group: false,
            cloud: false,
            delivery: Delivery::AllFirst,
            ..ContentOptions::default()
        },
        document: carried.checked_text()?,
        references: resolve::references(&carried, &known, &stored),
        secrets: Vec::new(),
    };
    let document = assignment.document.clone();
    let policy = Policy {
        format: POLICY_FORMAT,
        version: format!("media-{}-{}", row.id, row.revision),
        site: site.code().clone(),
        device: "media".to_owned(),
        made: now,
        refresh_seconds: 3_600,
        expires: None,
        settings: DeviceSettings::default(),
        windows: Vec::new(),
        updates: Vec::new(),
        assignments: vec![assignment],
    };
    let policy = serde_json::to_vec_pretty(&policy).map_err(|error| Problem::of(Code::Internal, &error))?;
    let left_out = secret_removed.iter().map(|step| format!("step {step}: its secret")).collect();
    let made = Made {
        folder: target.clone(),
        sequence: row.id.clone(),
        name: row.name.clone(),
        label: label.clone(),
        point,
        files,
        bytes,
        left_out,
        dry_run: caller.dry_run,
    };
    let medium = Medium {
        format: FORMAT,
        site: site.code().to_string(),
        sequence: row.id.clone(),
        name: row.name.clone(),
        label,
        made: now,
        secret_removed,
        items,
    };
    let plan = Plan::new(wanted.folder, medium, document, policy)?;
    if caller.dry_run {
        return Ok(Answer::of(&made)?.into());
    }
    let copying = Copying {
        kind: "media",
        title: format!("media of {}", row.id),
        key: format!("media {} {}", row.id, plan.folder.display()),
        bytes,
        act: "media.create",
        object: row.id.to_string(),
    };
    let copy = move |source: &mut dyn Source| build(&plan, source);
    task::start(site, copying, caller, copy, move |()| (counted(made.files, "file"), made)).await
}

/// A refusal, seen in the log of the daemon and, for a feature update, in that of the staging folder.
async fn refuse(
    site: &Arc<Site>,
    id: &PackageId,
    folder: &Path,
    refused: Problem,
    caller: &Caller,
) -> Result<Problem, Problem> {
    tracing::warn!(code = %refused.code, sequence = %id, "media refused: {}", refused.message);
    if refused.code != Code::MediaFeatureUpdate || caller.dry_run {
        return Ok(refused);
    }
    log::write_refusal(folder, id.as_str(), &site.code().to_string())?;
    let (who, object) = (caller.who.clone(), id.clone());
    site.write(move |w| w.audit(&who, "media.refused", object.as_str(), clock::now())).await?;
    let log = folder.join(LOG);
    Ok(refused.keeping(format!("the log is `{}`, nothing else was left; exit code 80070490", log.display())))
}

/// Makes the folder, and tells the log how that went.
///
/// # Errors
/// Those of the source and the disk; the temporary folder is gone then.
pub(super) fn build(plan: &Plan, source: &mut dyn Source) -> Result<(), Problem> {
    let mut staging = Staging::open(&plan.folder)?;
    let (id, site) = (&plan.medium.sequence, &plan.medium.site);
    staging.say(&[format!("Creating stand-alone media of Task Sequence {id} from site {site}.")])?;
    let temporary = staging.temporary()?;
    let made = fill(plan, &temporary, source, &mut staging).and_then(|()| publish(&temporary, &plan.target));
    if let Err(problem) = made {
        let cleared = match std::fs::remove_dir_all(&temporary) {
            Ok(()) => format!("Media temp directory '{}' is fully cleared", temporary.display()),
            Err(error) => format!("Media temp directory '{}' is not cleared: {error}", temporary.display()),
        };
        let code = problem.code.page().windows.unwrap_or("0x80004005");
        staging.say(&[
            format!(
                "CreateTsMedia failed with error {code}, details='{}: {}'",
                problem.code, problem.message
            ),
            cleared,
            "Media creation process that was started from Admin Console completed.".to_owned(),
            format!("CreateMedia.exe finished with error code {}", code.trim_start_matches("0x")),
        ])?;
        return Err(
            problem.keeping(format!("the log is `{}`; no media was left", plan.folder.join(LOG).display()))
        );
    }
    staging.say(&[
        format!("Media is at '{}'", plan.target.display()),
        "Media creation process that was started from Admin Console completed.".to_owned(),
        "CreateMedia.exe finished with error code 0".to_owned(),
    ])
}

/// Everything into the temporary folder, and onto the disk.
fn fill(plan: &Plan, folder: &Path, source: &mut dyn Source, staging: &mut Staging) -> Result<(), Problem> {
    for item in &plan.medium.items {
        let within = folder.join("content").join(item.id.as_str());
        std::fs::create_dir_all(&within).map_err(|error| disk("made", &within, &error))?;
        for file in &item.files {
            write(&within.join(file.name.as_str()), |to| source.copy(file, to))?;
            staging.say(&[format!(
                "Content {} '{}' ({} bytes) is copied and verified",
                item.id, file.name, file.size
            )])?;
        }
        sync_folder(&within)?;
    }
    for (name, bytes) in &plan.beside {
        let path = folder.join(name);
        write(&path, |to| to.write_all(bytes).map_err(|error| disk("written", &path, &error)))?;
    }
    let content = folder.join("content");
    if content.is_dir() {
        sync_folder(&content)?;
    }
    sync_folder(folder)
}

fn write(
    path: &Path,
    fill: impl FnOnce(&mut dyn std::io::Write) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let failed = |error: std::io::Error| disk("written", path, &error);
    let file = std::fs::File::options().write(true).create_new(true).open(path).map_err(failed)?;
    let mut to = std::io::BufWriter::with_capacity(1 << 20, &file);
    fill(&mut to)?;
    to.flush().map_err(failed)?;
    drop(to);
    file.sync_all().map_err(failed)
}

fn sync_folder(path: &Path) -> Result<(), Problem> {
    let synced = std::fs::File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(|error| disk("synced", path, &error))
}

/// Gives the folder its name. What has that name already stays as it is.
fn publish(temporary: &Path, target: &Path) -> Result<(), Problem> {
    use rustix::fs::{CWD, RenameFlags};
    // What is private stays so: its owner and group may read it.
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o750);
    std::fs::set_permissions(temporary, readable).map_err(|error| disk("published", temporary, &error))?;
    let renamed = match rustix::fs::renameat_with(CWD, temporary, CWD, target, RenameFlags::NOREPLACE) {
        // Not every file system can; a folder that is not empty is never replaced.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => rustix::fs::rename(temporary, target),
        other => other,
    };
    renamed.map_err(|errno| match errno {
        rustix::io::Errno::EXIST | rustix::io::Errno::NOTEMPTY => {
            Problem::new(Code::TargetExists, format!("`{}` is there already", target.display()))
        }
        other => disk("published", target, &other.into()),
    })?;
    target.parent().map_or(Ok(()), sync_folder)
}

#[cfg(test)]
#[path = "tests/media.rs"]
mod tests;
