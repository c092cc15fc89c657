//! A prestaged file: one archive with the list of what is in it, then each content once.
//!
//! Reading is one pass with bounded memory: [`read`] knows by the list which file must come next, and refuses any other.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use catalog::digest::{Checker, Sha256Digest};
use catalog::id::PackageId;
use catalog::problem::{Code, Problem};
use serde::{Deserialize, Serialize};

use super::content::{self, Carried, CarriedFile, Item, Source, distinct};
use super::tar::{self, BLOCK};
use super::task::{self, Copying};
use super::{LARGEST_LIST, MOST_FILES, disk, enough_room, readable, standing};
use crate::admin::{Answer, Caller, Work};
use crate::blocking::blocking;
use crate::given::{self, Links};
use crate::site::{Site, own};
use crate::whole::{self, Coming};

/// The name of the list within the archive.
const LIST: &str = "prestage.toml";
/// The form that this release writes.
const FORMAT: u32 = 1;
/// Zeros behind the end: archives are padded to this much.
const LONGEST_END: u64 = 20 * BLOCK as u64;

/// The list of what is in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The form.
    pub format: u32,
    /// The site that made it.
    pub site: String,
    /// Of what: an id.
    pub of: PackageId,
    /// Its name.
    pub name: String,
    /// The content.
    #[serde(default, rename = "item")]
    pub items: Vec<Item>,
}

impl Manifest {
    /// Bytes of all content.
    pub fn bytes(&self) -> u64 {
        distinct(&self.items).iter().map(|file| file.size).fold(0, u64::saturating_add)
    }

    /// The list as it is written: one that is read back.
    ///
    /// # Errors
    /// `CARRIED_TOO_MUCH`.
    fn text(&self) -> Result<String, Problem> {
        let files = self.items.iter().map(|item| item.files.len()).sum();
        readable(files, 0)?;
        let text = toml::to_string(self).map_err(|error| Problem::of(Code::Internal, &error))?;
        readable(files, text.len())?;
        Ok(text)
    }

    fn parse(text: &[u8]) -> Result<Self, Problem> {
        let text = std::str::from_utf8(text).map_err(|_| malformed("its list is no text"))?;
        let manifest: Self = toml::from_str(text).map_err(|_| malformed("its list cannot be understood"))?;
        if manifest.format != FORMAT {
            return Err(malformed("it is of another release"));
        }
        if manifest.items.iter().map(|item| item.files.len()).sum::<usize>() > MOST_FILES {
            return Err(malformed(format!("its list has more than {MOST_FILES} files")));
        }
        let mut sizes = HashMap::new();
        for file in manifest.items.iter().flat_map(|item| &item.files) {
            if *sizes.entry(file.sha256).or_insert(file.size) != file.size {
                return Err(malformed(format!("its list gives two sizes for {}", file.sha256)));
            }
        }
        Ok(manifest)
    }
}

fn malformed(why: impl Into<String>) -> Problem {
    Problem::new(Code::PrestageMalformed, "this is no prestaged file that can be used").because(why)
}

fn name_of(file: &CarriedFile) -> String {
    format!("content/{}", file.sha256)
}

/// Writes a file; its bytes.
///
/// # Errors
/// `CARRIED_TOO_MUCH` before the first byte; those of the source and the disk.
pub fn write(to: &mut impl Write, manifest: &Manifest, source: &mut dyn Source) -> Result<u64, Problem> {
    let failed = |error: std::io::Error| {
        let code = if whole::is_full(&error) { Code::DiskFull } else { Code::DiskError };
        Problem::new(code, "the prestaged file cannot be written").because_of(Some(&error))
    };
    let list = manifest.text()?;
    let size = list.len() as u64;
    to.write_all(&tar::header(LIST, size)).map_err(failed)?;
    to.write_all(list.as_bytes()).map_err(failed)?;
    to.write_all(&vec![0; tar::padding(size)]).map_err(failed)?;
    let mut written = tar::room(size);
    for file in distinct(&manifest.items) {
        to.write_all(&tar::header(&name_of(file), file.size)).map_err(failed)?;
        source.copy(file, to)?;
        to.write_all(&vec![0; tar::padding(file.size)]).map_err(failed)?;
        written += tar::room(file.size);
    }
    to.write_all(&[0; 2 * BLOCK]).map_err(failed)?;
    Ok(written + 2 * BLOCK as u64)
}

/// What comes out of a file.
pub enum Piece<'a> {
    /// The next bytes of a content.
    Bytes(&'a [u8]),
    /// They were all.
    End,
}

/// Reads a file from its beginning to its end. `sink` hears of each content in turn; nothing is believed of it here but its size.
///
/// # Errors
/// `PRESTAGE_MALFORMED`, and those of `sink`.
pub fn read(
    from: &mut impl Read,
    mut sink: impl FnMut(&CarriedFile, Piece<'_>) -> Result<(), Problem>,
) -> Result<Manifest, Problem> {
    let cut = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => malformed("it was cut short"),
        _ => Problem::new(Code::DiskError, "the prestaged file cannot be read").because_of(Some(&error)),
    };
    let mut block = [0; BLOCK];
    let mut next = |from: &mut dyn Read| -> Result<Option<tar::Header>, Problem> {
        from.read_exact(&mut block).map_err(cut)?;
        tar::read_header(&block).map_err(malformed)
    };
    let list = next(from)?.filter(|header| header.name == LIST);
    let list = list.ok_or_else(|| malformed("it does not begin with its list"))?;
    if list.size > LARGEST_LIST {
        return Err(malformed(format!("its list has more than {LARGEST_LIST} bytes")));
    }
    let mut text = vec![0; list.size as usize];
    from.read_exact(&mut text).map_err(cut)?;
    let manifest = Manifest::parse(&text)?;
    skip(from, tar::padding(list.size)).map_err(cut)?;
    let mut buffer = vec![0; 1 << 20];
    for file in distinct(&manifest.items) {
        let header = next(from)?.ok_or_else(|| malformed(format!("`{}` is not in it", file.name)))?;
        if header.name != name_of(file) {
            return Err(malformed(format!("it holds something else where `{}` should be", file.name)));
        }
        if header.size != file.size {
            let why = format!("`{}` has {} bytes in it, its list says {}", file.name, header.size, file.size);
            return Err(malformed(why));
        }
        let mut left = file.size;
        while left > 0 {
            let part = &mut buffer[..left.min(1 << 20) as usize];
            from.read_exact(part).map_err(cut)?;
            left -= part.len() as u64;
            sink(file, Piece::Bytes(part))?;
        }
        sink(file, Piece::End)?;
        skip(from, tar::padding(file.size)).map_err(cut)?;
    }
    if next(from)?.is_some() {
        return Err(malformed("it holds more than its list says"));
    }
    let mut rest = Vec::new();
    from.take(LONGEST_END + 1).read_to_end(&mut rest).map_err(cut)?;
    let fits = (BLOCK as u64..=LONGEST_END).contains(&(rest.len() as u64));
    if !fits || rest.iter().any(|byte| *byte != 0) {
        return Err(malformed("it was cut short, or something follows its end"));
    }
    Ok(manifest)
}

fn skip(from: &mut dyn Read, count: usize) -> std::io::Result<()> {
    from.read_exact(&mut vec![0; count])
}

/// Reads a file whole and compares every content with its digest. Nothing is written anywhere.
///
/// # Errors
/// `PRESTAGE_MALFORMED`, `HASH_MISMATCH`, `DISK_ERROR`.
pub fn look_through(file: &Path) -> Result<Manifest, Problem> {
    let mut checker = Checker::new();
    read(&mut open(file)?, |content, piece| {
        match piece {
            Piece::Bytes(bytes) => checker.update(bytes),
            Piece::End => {
                let found = std::mem::take(&mut checker).into_fingerprint();
                matches(content, found.sha256)?;
            }
        }
        Ok(())
    })
}

/// # Errors
/// `HASH_MISMATCH`.
pub fn matches(content: &CarriedFile, found: Sha256Digest) -> Result<(), Problem> {
    if found == content.sha256 {
        return Ok(());
    }
    let message =
        format!("`{}` has the wrong digest: expected {}, found {found}", content.name, content.sha256);
    Err(Problem::new(Code::HashMismatch, message)
        .keeping("nothing of the prestaged file was taken in")
        .help("copy the prestaged file again, or make it again"))
}

/// Opens a plain file; nothing else is waited for or followed.
///
/// # Errors
/// `DISK_ERROR`, `PRESTAGE_MALFORMED`.
pub fn open(path: &Path) -> Result<std::io::BufReader<std::fs::File>, Problem> {
    let file = given::open(path, Links::Refused).map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidInput => malformed(format!("`{}`: {error}", path.display())),
        _ => disk("read", path, &error),
    })?;
    Ok(std::io::BufReader::with_capacity(1 << 20, file))
}

/// What was made, or would be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Prestaged {
    /// The file.
    pub file: PathBuf,
    /// Of what: an id.
    pub of: PackageId,
    /// Its name.
    pub name: String,
    /// The point that its content is on.
    pub point: String,
    /// Packages, images and applications in it.
    pub items: Vec<Item>,
    /// Bytes of content, each once.
    pub content_bytes: u64,
    /// Bytes of the file; 0 where nothing was written.
    pub bytes: u64,
    /// Nothing was written.
    pub dry_run: bool,
}

/// Makes a prestaged file, as a task.
///
/// # Errors
/// `PRESTAGE_FEATURE_UPDATE` before any file exists; those of the content; `TARGET_EXISTS`, `CARRIED_TOO_MUCH`, `DISK_FULL`.
pub async fn create(
    site: &Arc<Site>,
    what: &str,
    file: &Path,
    point: Option<&str>,
    caller: &Caller,
) -> Result<Work, Problem> {
    let Carried { id, name, items } = content::named(site, what).await?;
    let point = content::on_point(site, point, &items).await?;
    let (settings, there) = (site.settings(), file.to_owned());
    blocking(move || {
        own::outside(&settings, &there)?;
        match std::fs::symlink_metadata(&there) {
            Ok(_) => Err(Problem::new(Code::TargetExists, format!("`{}` is there already", there.display()))),
            Err(_) => Ok(()),
        }
    })
    .await?;
    let manifest = Manifest { format: FORMAT, site: site.code().to_string(), of: id, name, items };
    let list = manifest.text()?.len() as u64;
    let content_bytes = manifest.bytes();
    let all = distinct(&manifest.items).iter().map(|file| tar::room(file.size)).fold(0, u64::saturating_add);
    let (to, room) = (file.to_owned(), all.saturating_add(tar::room(list)).saturating_add(2 * BLOCK as u64));
    blocking(move || enough_room(standing(&to), room)).await?;
    let made = Prestaged {
        file: file.to_owned(),
        of: manifest.of.clone(),
        name: manifest.name.clone(),
        point,
        items: manifest.items.clone(),
        content_bytes,
        bytes: 0,
        dry_run: caller.dry_run,
    };
    if caller.dry_run {
        return Ok(Answer::of(&made)?.into());
    }
    let copying = Copying {
        kind: "prestage",
        title: format!("prestage {}", made.name),
        key: format!("prestage {} {}", manifest.of, file.display()),
        bytes: content_bytes,
        act: "prestage.create",
        object: manifest.of.to_string(),
    };
    let target = made.file.clone();
    let copy = move |source: &mut dyn Source| whole(&target, &manifest, source);
    task::start(site, copying, caller, copy, move |bytes| {
        (format!("{bytes} bytes"), Prestaged { bytes, ..made })
    })
    .await
}

/// Writes a file that appears under its name whole.
pub(super) fn whole(target: &Path, manifest: &Manifest, source: &mut dyn Source) -> Result<u64, Problem> {
    let failed = |error: std::io::Error| disk("written", target, &error);
    std::fs::create_dir_all(whole::folder(target)).map_err(failed)?;
    let mut coming = Coming::at(target, whole::GROUP).map_err(failed)?;
    let mut to = std::io::BufWriter::with_capacity(1 << 20, coming.file());
    let bytes = write(&mut to, manifest, source)?;
    to.flush().map_err(failed)?;
    drop(to);
    coming.appear().map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Problem::new(Code::TargetExists, format!("`{}` is there already", target.display()))
        }
        _ => failed(error),
    })?;
    Ok(bytes)
}

#[cfg(test)]
#[path = "tests/prestage.rs"]
pub(super) mod tests;
