//! Stand-alone media read back: every file hashed and compared with what stands on the media. Nothing of a site is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use catalog::digest::{Fingerprint, Sha256Digest};
use catalog::id::{FileName, PackageId};
use catalog::problem::{Code, Problem};
use serde::{Deserialize, Serialize};

use super::media::{FORMAT, MEDIA_TOML, Medium, POLICY, SUMS, place};
use super::prestage::open;
use super::{LARGEST_LIST, MOST_FILES};

/// What was found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Verified {
    /// The folder.
    pub folder: PathBuf,
    /// The task sequence.
    pub sequence: PackageId,
    /// Its name.
    pub name: String,
    /// Its label.
    pub label: String,
    /// Files that were read.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Files that are not as they should be, with why.
    pub bad: Vec<String>,
    /// Files that no list names; nobody uses them.
    pub unexpected: Vec<String>,
}

impl Verified {
    /// Why it is not well, if it is not.
    pub fn problem(&self) -> Option<Problem> {
        if self.bad.is_empty() {
            return None;
        }
        let message = format!("{} files of the media are not what they should be", self.bad.len());
        let problem = Problem::new(Code::MediaDamaged, message);
        Some(self.bad.iter().take(20).fold(problem, |problem, why| problem.because(why)))
    }
}

fn damaged(why: impl Into<String>) -> Problem {
    Problem::new(Code::MediaDamaged, "this is no stand-alone media that can be used").because(why)
}

/// One line of the sums: a digest and a path of plain names, at most three deep.
fn line(text: &str) -> Option<(Sha256Digest, String)> {
    let (digest, path) = text.split_once("  ")?;
    let names: Vec<&str> = path.split('/').collect();
    let plain = names.len() <= 3 && names.iter().all(|name| name.parse::<FileName>().is_ok());
    Some((digest.parse().ok()?, path.to_owned())).filter(|_| plain)
}

/// The sums of media. Pure.
///
/// # Errors
/// `MEDIA_DAMAGED`.
pub(super) fn sums(text: &str) -> Result<Vec<(Sha256Digest, String)>, Problem> {
    let mut all = Vec::new();
    let mut names = BTreeSet::new();
    for text in text.lines() {
        let (digest, path) =
            line(text).ok_or_else(|| damaged(format!("a line of `{SUMS}` names no plain file")))?;
        if !names.insert(path.to_lowercase()) || all.len() >= MOST_FILES {
            return Err(damaged(format!("`{SUMS}` names a file twice, or more than {MOST_FILES}")));
        }
        all.push((digest, path));
    }
    Ok(all)
}

/// Opens a file of the media; no part of its path may be a link.
fn open_within(folder: &Path, path: &str) -> Result<std::io::BufReader<std::fs::File>, String> {
    let mut within = folder.to_owned();
    let names: Vec<&str> = path.split('/').collect();
    for name in &names[..names.len() - 1] {
        within.push(name);
        let meta = std::fs::symlink_metadata(&within).map_err(|error| error.to_string())?;
        if !meta.is_dir() {
            return Err("it lies behind a link".to_owned());
        }
    }
    within.push(names[names.len() - 1]);
    open(&within).map_err(|problem| problem.causes.first().cloned().unwrap_or(problem.message))
}

fn small(folder: &Path, name: &str) -> Result<String, Problem> {
    let file = open_within(folder, name).map_err(|why| damaged(format!("`{name}`: {why}")))?;
    let mut text = String::new();
    let read = file.take(LARGEST_LIST + 1).read_to_string(&mut text);
    read.map_err(|error| damaged(format!("`{name}`: {error}")))?;
    if text.len() as u64 > LARGEST_LIST {
        return Err(damaged(format!("`{name}` has more than {LARGEST_LIST} bytes")));
    }
    Ok(text)
}

/// Reads media back.
///
/// # Errors
/// `MEDIA_DAMAGED` where it cannot be understood; what is wrong with single files is in the answer.
pub fn verify(folder: &Path) -> Result<Verified, Problem> {
    let sums = sums(&small(folder, SUMS)?)?;
    let medium: Medium = toml::from_str(&small(folder, MEDIA_TOML)?)
        .map_err(|_| damaged(format!("`{MEDIA_TOML}` cannot be understood")))?;
    if medium.format != FORMAT {
        return Err(damaged("it is of another release"));
    }
    let listed = |path: &str, digest: Option<Sha256Digest>| {
        sums.iter().any(|(known, name)| name == path && digest.is_none_or(|digest| digest == *known))
    };
    let mut bad = Vec::new();
    for name in [MEDIA_TOML, POLICY] {
        if !listed(name, None) {
            bad.push(format!("{name}: `{SUMS}` does not name it"));
        }
    }
    let all =
        medium.items.iter().flat_map(|item| item.files.iter().map(move |file| (place(item, file), file)));
    for (path, file) in all {
        if !listed(&path, Some(file.sha256)) {
            bad.push(format!("{path}: `{SUMS}` does not name it with its digest"));
        }
    }
    let mut bytes = 0;
    for (digest, path) in &sums {
        match hash(folder, path) {
            Ok((found, size)) => {
                bytes += size;
                if found != *digest {
                    bad.push(format!("{path}: expected {digest}, found {found}"));
                }
            }
            Err(why) => bad.push(format!("{path}: {why}")),
        }
    }
    let mut unexpected = Vec::new();
    let known: BTreeSet<&str> = sums.iter().map(|(_, path)| path.as_str()).chain([SUMS]).collect();
    look(folder, "", &known, &mut unexpected);
    Ok(Verified {
        folder: folder.to_owned(),
        sequence: medium.sequence,
        name: medium.name,
        label: medium.label,
        files: sums.len(),
        bytes,
        bad,
        unexpected,
    })
}

/// Where each content lies on media, by its digest. Whoever uses it compares it first.
///
/// # Errors
/// `MEDIA_DAMAGED`.
pub fn contents(folder: &Path) -> Result<BTreeMap<Sha256Digest, PathBuf>, Problem> {
    let sums = sums(&small(folder, SUMS)?)?;
    let content = sums.into_iter().filter(|(_, path)| path.starts_with("content/"));
    Ok(content.map(|(digest, path)| (digest, folder.join(path))).collect())
}

fn hash(folder: &Path, path: &str) -> Result<(Sha256Digest, u64), String> {
    let print = Fingerprint::read(open_within(folder, path)?).map_err(|error| error.to_string())?;
    Ok((print.sha256, print.size))
}

/// Names of what nobody lists, at most a hundred, three deep.
fn look(folder: &Path, within: &str, known: &BTreeSet<&str>, found: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(folder.join(within)) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if within.is_empty() { name } else { format!("{within}/{name}") };
        if found.len() >= 100 {
            return;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && path.matches('/').count() < 2 => look(folder, &path, known, found),
            _ if known.contains(path.as_str()) => {}
            _ => found.push(path),
        }
    }
}
