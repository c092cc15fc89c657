//! The content library: single instance by SHA-256, nothing visible before it is verified.
//!
//! ```text
//! staging/<digest>-<size>.part ──check──▶ hashes/ab/<sha256> ──▶ blobs/ab/<sha256>      quarantine/<sha256>
//!      grows, resumable                    written first          appears by rename        once good, now bad
//! ```
//! `maps/ab/<sha256>` are made later, for content that is offered ([`crate::delta`]).
//!
//! A file is synced before it is renamed and its folder after, so a crash at any point leaves either nothing or a whole
//! file. Names are made of digests that we computed: no client and no upstream names a path. Everything here blocks;
//! async callers use a blocking thread.

mod aside;
mod doubt;
mod error;
mod growth;
mod holders;
mod identity;
mod maps;
mod parts;
mod sidecar;
mod staged;
#[cfg(test)]
mod tests;
pub(crate) mod whole;

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use catalog::digest::{Fingerprint, Mismatch, Sha256Digest, Wanted};
use rustix::fs::OFlags;

pub use aside::Aside;
use doubt::Doubts;
pub(crate) use error::is_loss;
pub use error::{Damage, LibraryError};
pub use growth::{Grown, Growth};
use holders::Holders;
pub(crate) use holders::KeepsOpen;
pub use identity::Identity;
pub use parts::Part;
pub use staged::{Appended, Note, Staged};
use whole::Temporary;

/// How a library behaves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {
    /// Bytes that stay free on its file system.
    pub min_free: u64,
}

/// A content library in a folder. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Library {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    settings: Settings,
    doubts: Doubts,
    holders: Holders,
}

/// Proof that content is in the library. Only committing, ingesting and finding make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    digest: Sha256Digest,
    size: u64,
}

impl Stored {
    /// Its name.
    pub fn digest(&self) -> Sha256Digest {
        self.digest
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// Stored content, open for reading. It is read through this descriptor, whatever happens to the name.
#[derive(Debug)]
pub struct StoredFile {
    /// The open file.
    pub file: File,
    /// Its name.
    pub digest: Sha256Digest,
    /// Bytes.
    pub size: u64,
    /// Which file it is.
    pub identity: Identity,
}

/// What reading content again found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It has its digest.
    Good,
    /// It has another one.
    Corrupt {
        /// The digest of what is there.
        actual: Sha256Digest,
    },
    /// It is not there.
    Missing,
}

/// How a copy was made for somebody else's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// A reflink: shared blocks, independent file.
    Reflinked,
    /// A hard link: the same file.
    Linked,
    /// Bytes were copied.
    Copied,
}

/// How much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Contents.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that are staged.
    pub staged: u64,
    /// Bytes free on the file system.
    pub free: u64,
}

impl Library {
    /// Opens or creates the library in `dir`, and sweeps what a crash may have left, temporary files and side files without
    /// content, and what was set aside long ago. Staged files stay: they are resumed.
    ///
    /// # Errors
    /// [`LibraryError::Io`].
    pub fn open(dir: &Path, settings: Settings) -> Result<Self, LibraryError> {
        let (dir, doubts, holders) = (dir.to_owned(), Doubts::default(), Holders::default());
        let library = Self { inner: Arc::new(Inner { dir, settings, doubts, holders }) };
        let dir = &library.inner.dir;
        for name in ["blobs", "hashes", "maps", "staging", "quarantine"] {
            let path = dir.join(name);
            fs::create_dir_all(&path).map_err(LibraryError::io("create", &path))?;
        }
        library.sweep()?;
        let _ = library.forget_aside(SystemTime::now()); // a disk that does not let go of it holds up nobody
        Ok(library)
    }

    /// Where the bytes of a content are or would be, for programs that open files by their path. Nobody writes there.
    pub fn path(&self, digest: Sha256Digest) -> PathBuf {
        self.blob(digest)
    }

    fn blob(&self, digest: Sha256Digest) -> PathBuf {
        self.fanned("blobs", digest)
    }

    fn fanned(&self, room: &str, digest: Sha256Digest) -> PathBuf {
        let name = digest.to_string();
        self.inner.dir.join(room).join(&name[..2]).join(name)
    }

    /// Names are compared as the folders list them: of 100,000 contents not one is looked at.
    fn sweep(&self) -> Result<(), LibraryError> {
        let mut contents: HashSet<OsString> = HashSet::new();
        for path in files_below(&self.inner.dir.join("blobs"))? {
            match path.file_name().filter(|_| is_digest(&path)) {
                Some(name) => {
                    contents.insert(name.to_owned());
                }
                None if is_left_over(&path) => remove_if_there(&path)?,
                None => {}
            }
        }
        for room in ["hashes", "maps"] {
            for path in files_below(&self.inner.dir.join(room))? {
                let useful = path.file_name().is_some_and(|name| contents.contains(name));
                if !useful && is_left_over(&path) {
                    remove_if_there(&path)?;
                }
            }
        }
        let staging = self.inner.dir.join("staging");
        for path in list(&staging)? {
            let is_note = path.extension().is_some_and(|extension| extension == "json");
            let useful = name_of(&path).is_some_and(staged::is_staged_name)
                && (!is_note || path.with_extension("part").exists());
            if !useful && is_left_over(&path) {
                remove_if_there(&path)?;
            }
        }
        Ok(())
    }

    /// A place for the bytes of `wanted` to arrive. What an earlier transfer left is kept, and hashed again.
    ///
    /// # Errors
    /// [`LibraryError::Busy`], [`LibraryError::Full`], [`LibraryError::Io`].
    pub fn stage(&self, wanted: &Wanted) -> Result<Staged, LibraryError> {
        Staged::open(self.clone(), wanted)
    }

    /// Whether these very bytes are here: by SHA-256 only, because two contents may share a SHA-1. What nobody has recorded
    /// ([`Self::believe_only`]), and what was written to since it was hashed, is read first.
    pub fn find(&self, wanted: &Wanted) -> Option<Stored> {
        let digest = wanted.digests.sha256?;
        let found = fs::symlink_metadata(self.blob(digest)).ok()?;
        let is_here = found.is_file() && found.len() == wanted.size && self.is_believed(digest, &found);
        is_here.then_some(Stored { digest, size: wanted.size })
    }

    /// Opens content; `None` where it is not here. What is no plain file of the recorded size, or was written to since it was hashed, is
    /// refused. Who writes and takes the time of it back is not found so.
    ///
    /// # Errors
    /// [`LibraryError::Corrupt`], [`LibraryError::Io`].
    pub fn open_content(&self, digest: Sha256Digest) -> Result<Option<StoredFile>, LibraryError> {
        let Some((file, found)) = self.open_plain(digest)? else { return Ok(None) };
        if let Some(what) = self.differs(digest, &found) {
            return Err(LibraryError::Corrupt { digest, what });
        }
        Ok(Some(StoredFile { file, digest, size: found.len(), identity: Identity::of(&found) }))
    }

    /// How the file of a content is not the one that was hashed, as far as a look tells.
    fn differs(&self, digest: Sha256Digest, found: &fs::Metadata) -> Option<Damage> {
        let side = self.fanned("hashes", digest);
        let glance = sidecar::glance(&side)?;
        // Only now all of it is read: one that does not check says nothing about the content.
        let checks = |print: Fingerprint| print.sha256 == digest && print.size != found.len();
        if glance.size != found.len() && sidecar::read(&side).is_some_and(checks) {
            return Some(Damage::Size);
        }
        let is_touched = found.modified().is_ok_and(|written| written > glance.until)
            && !self.inner.doubts.was_seen_good(digest, &Identity::of(found));
        is_touched.then_some(Damage::Touched)
    }

    /// The plain file of a content, of whatever size: who hashes it sees what it is. `None` where it is not here.
    fn open_plain(&self, digest: Sha256Digest) -> Result<Option<(File, fs::Metadata)>, LibraryError> {
        let path = self.blob(digest);
        let file = match open_as_it_is(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
                return Err(LibraryError::Corrupt { digest, what: Damage::Link });
            }
            Err(error) => return Err(LibraryError::io("open", &path)(error)),
        };
        let found = file.metadata().map_err(LibraryError::io("look at", &path))?;
        if !found.is_file() {
            return Err(LibraryError::Corrupt { digest, what: Damage::NotAFile });
        }
        Ok(Some((file, found)))
    }

    /// The error of content that could be opened and not read.
    pub(crate) fn unreadable(&self, digest: Sha256Digest, source: io::Error) -> LibraryError {
        LibraryError::io("read", &self.blob(digest))(source)
    }

    /// Whether the file of a content has at most so many bytes.
    pub(crate) fn is_small(&self, digest: Sha256Digest, most: u64) -> bool {
        fs::symlink_metadata(self.blob(digest)).is_ok_and(|found| found.len() <= most)
    }

    /// Everything that was computed when the content was stored. Computed again where that is lost.
    ///
    /// # Errors
    /// [`LibraryError::Corrupt`] where the bytes no longer have their name; [`LibraryError::Io`].
    pub fn fingerprint(&self, digest: Sha256Digest) -> Result<Option<Fingerprint>, LibraryError> {
        let path = self.fanned("hashes", digest);
        if let Some(fingerprint) = sidecar::read(&path).filter(|found| found.sha256 == digest) {
            return Ok(Some(fingerprint));
        }
        let Some((file, found)) = self.open_plain(digest)? else { return Ok(None) };
        let fingerprint = hash(&file, &self.blob(digest))?;
        if fingerprint.sha256 != digest {
            return Err(LibraryError::Corrupt { digest, what: Damage::Digest });
        }
        sidecar::write(&path, &fingerprint)?;
        self.vouch(digest, &fingerprint, &found);
        Ok(Some(fingerprint))
    }

    /// What was computed when the content was stored, if that is still known. Nothing is hashed.
    pub fn known_fingerprint(&self, digest: Sha256Digest) -> Option<Fingerprint> {
        sidecar::read(&self.fanned("hashes", digest)).filter(|found| found.sha256 == digest)
    }

    /// Takes a plain local file in: copied, verified, committed. Links are not followed.
    ///
    /// # Errors
    /// [`LibraryError::Unwanted`] where it is something else, and those of staging and committing.
    pub fn ingest(&self, path: &Path, wanted: &Wanted) -> Result<Stored, LibraryError> {
        if let Some(stored) = self.find(wanted) {
            return Ok(stored);
        }
        let mut source = open_as_it_is(path)
            .and_then(|file| match file.metadata()?.is_file() {
                true => Ok(file),
                false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file")),
            })
            .map_err(LibraryError::io("open", path))?;
        let mut staged = self.stage(wanted)?;
        staged.rewind()?;
        let mut buffer = vec![0; 4 << 20];
        loop {
            let count = source.read(&mut buffer).map_err(LibraryError::io("read", path))?;
            if count == 0 {
                break;
            }
            if staged.have() + count as u64 > wanted.size {
                staged.rewind()?;
                let actual = source.metadata().map_or(wanted.size + 1, |found| found.len());
                let source = Mismatch::Size { expected: wanted.size, actual };
                return Err(LibraryError::Unwanted { path: path.to_owned(), source });
            }
            staged.append(&buffer[..count])?;
        }
        match staged.check(wanted) {
            Ok(verified) => staged.commit(verified),
            Err(source) => {
                staged.rewind()?;
                Err(LibraryError::Unwanted { path: path.to_owned(), source })
            }
        }
    }

    /// Makes a copy under a name of somebody else's: by reflink, else by hard link, else by copying. It appears whole.
    ///
    /// # Errors
    /// [`LibraryError::Io`], [`LibraryError::Corrupt`] where the content is not here.
    pub fn place(&self, digest: Sha256Digest, target: &Path) -> Result<Placement, LibraryError> {
        let (temporary, placement) = self.copy_beside(digest, target)?;
        temporary.appear().map(|()| placement)
    }

    /// The same, if nothing has the name; `None` where something has it, which stays as it is.
    ///
    /// # Errors
    /// Those of [`Library::place`].
    pub fn place_if_free(
        &self,
        digest: Sha256Digest,
        target: &Path,
    ) -> Result<Option<Placement>, LibraryError> {
        let (temporary, placement) = self.copy_beside(digest, target)?;
        Ok(temporary.appear_if_free()?.then_some(placement))
    }

    /// Whether a file is a copy of a content of this size: the library's own file, or a plain one that has its digest, which is read
    /// whole for that. `None` where there is no file.
    ///
    /// # Errors
    /// [`LibraryError::Io`].
    pub fn is_copy(
        &self,
        path: &Path,
        digest: Sha256Digest,
        size: u64,
    ) -> Result<Option<bool>, LibraryError> {
        let found = match fs::symlink_metadata(path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LibraryError::io("look at", path)(error)),
        };
        if !found.is_file() || found.len() != size {
            return Ok(Some(false));
        }
        let found = Identity::of(&found);
        if self.identity(digest).is_some_and(|ours| ours.is_same_file(&found)) {
            return Ok(Some(true));
        }
        let file = open_as_it_is(path).map_err(LibraryError::io("open", path))?;
        Ok(Some(hash(&file, path)?.sha256 == digest))
    }

    /// A copy that has yet to appear as `target`.
    fn copy_beside(
        &self,
        digest: Sha256Digest,
        target: &Path,
    ) -> Result<(Temporary, Placement), LibraryError> {
        let Some(stored) = self.open_content(digest)? else {
            return Err(LibraryError::Corrupt { digest, what: Damage::Missing });
        };
        whole::sweep_beside(target);
        let (temporary, copy) = Temporary::file(target)?;
        if rustix::fs::ioctl_ficlone(&copy, &stored.file).is_ok() {
            copy.sync_all().map_err(LibraryError::io("sync", &temporary.path))?;
            return Ok((temporary, Placement::Reflinked));
        }
        let blob = self.blob(digest);
        if let Ok((link, ())) = Temporary::beside(target, |path| fs::hard_link(&blob, path)) {
            return Ok((link, Placement::Linked));
        }
        let failed = |act| LibraryError::io(act, &temporary.path);
        io::copy(&mut &stored.file, &mut &copy).map_err(failed("write"))?;
        copy.sync_all().map_err(failed("sync"))?;
        Ok((temporary, Placement::Copied))
    }

    /// Reads content again and compares. What was computed of good content is written down anew where that is wrong or lost.
    ///
    /// # Errors
    /// [`LibraryError::Io`], [`LibraryError::Corrupt`] where it is no plain file.
    pub fn verify(&self, digest: Sha256Digest) -> Result<Verdict, LibraryError> {
        let Some((file, found)) = self.open_plain(digest)? else { return Ok(Verdict::Missing) };
        let print = hash(&file, &self.blob(digest))?;
        if print.sha256 != digest {
            return Ok(Verdict::Corrupt { actual: print.sha256 });
        }
        let side = self.fanned("hashes", digest);
        if sidecar::read(&side).as_ref() != Some(&print) {
            let _ = sidecar::write(&side, &print); // the content is good all the same
        }
        self.vouch(digest, &print, &found);
        Ok(Verdict::Good)
    }

    /// Takes down that the file was hashed as it was when it was `found`, before it was read: who wrote to it meanwhile is noticed. Where
    /// the disk takes nothing, for as long as this process lives.
    fn vouch(&self, digest: Sha256Digest, print: &Fingerprint, found: &fs::Metadata) {
        let side = self.fanned("hashes", digest);
        let Ok(until) = found.modified() else { return };
        // Somebody else's file cannot be given another time; one of ours in its place can.
        let is_written = sidecar::vouch(&side, until)
            || sidecar::write(&side, print).is_ok_and(|()| sidecar::vouch(&side, until));
        if !is_written {
            self.inner.doubts.seen_good(digest, Identity::of(found));
        }
    }

    /// Removes content. Whoever has it open without sending it lets go of it: only then the disk has its room.
    ///
    /// # Errors
    /// [`LibraryError::Io`].
    pub fn remove(&self, digest: Sha256Digest) -> Result<(), LibraryError> {
        let path = self.blob(digest);
        remove_if_there(&path)?;
        self.inner.holders.let_go(digest);
        self.inner.doubts.end(digest);
        remove_if_there(&self.fanned("hashes", digest))?;
        remove_if_there(&self.fanned("maps", digest))?;
        sync_folder_if_there(&path)
    }

    /// Every content with its size, in the order of digests. What has another name than a digest is none.
    ///
    /// # Errors
    /// [`LibraryError::Io`].
    pub fn contents(&self) -> Result<Vec<(Sha256Digest, u64)>, LibraryError> {
        let sized = |path: PathBuf| {
            let found = fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_file)?;
            Some((name_of(&path)?.parse().ok()?, found.len()))
        };
        let mut all: Vec<_> =
            files_below(&self.inner.dir.join("blobs"))?.into_iter().filter_map(sized).collect();
        all.sort();
        Ok(all)
    }

    /// The name of every content, in no order. No file is looked at.
    fn names(&self) -> Result<Vec<Sha256Digest>, LibraryError> {
        let all = files_below(&self.inner.dir.join("blobs"))?;
        Ok(all.iter().filter_map(|path| name_of(path)?.parse().ok()).collect())
    }

    /// How much there is.
    ///
    /// # Errors
    /// [`LibraryError::Io`].
    pub fn usage(&self) -> Result<Usage, LibraryError> {
        let mut usage = Usage { blobs: 0, bytes: 0, staged: self.arriving()?, free: self.free()? };
        for path in files_below(&self.inner.dir.join("blobs"))? {
            usage.blobs += 1;
            usage.bytes += fs::symlink_metadata(&path).map_or(0, |found| found.len());
        }
        Ok(usage)
    }

    /// Room that is taken by what arrives; some of it may be promised and not there yet.
    fn arriving(&self) -> Result<u64, LibraryError> {
        let taken = |path: &PathBuf| fs::symlink_metadata(path).map_or(0, |found| found.blocks() * 512);
        Ok(list(&self.inner.dir.join("staging"))?.iter().map(taken).sum())
    }

    /// Bytes free on its file system.
    ///
    /// # Errors
    /// [`LibraryError::Io`].
    pub fn free(&self) -> Result<u64, LibraryError> {
        let found = rustix::fs::statvfs(&self.inner.dir)
            .map_err(|error| LibraryError::io("look at the disk of", &self.inner.dir)(error.into()))?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

fn hash(file: &File, path: &Path) -> Result<Fingerprint, LibraryError> {
    Fingerprint::read(file).map_err(LibraryError::io("read", path))
}

/// What is younger may be another process's work of this moment: a client opens its library for every fetch.
const LEFT_OVER_AFTER: Duration = Duration::from_secs(600);

/// When a file was changed last in any way, its name included.
fn changed(found: &fs::Metadata) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(found.ctime()).unwrap_or_default())
}

fn is_left_over(path: &Path) -> bool {
    let modified = fs::symlink_metadata(path).and_then(|found| found.modified());
    modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > LEFT_OVER_AFTER))
}

/// Whether a file has the name of a content.
fn is_digest(path: &Path) -> bool {
    name_of(path).is_some_and(|name| {
        name.len() == 64 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

fn name_of(path: &Path) -> Option<&str> {
    path.file_name().and_then(|name| name.to_str())
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, LibraryError> {
    let failed = || LibraryError::io("list", folder);
    fs::read_dir(folder).map_err(failed())?.map(|entry| Ok(entry.map_err(failed())?.path())).collect()
}

/// Whether it is one of the folders into which contents are fanned out. One that is linked in is somebody else's.
fn is_fan(path: &Path) -> bool {
    let is_hex = |name: &str| name.len() == 2 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    name_of(path).is_some_and(is_hex) && fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

/// Files in the subfolders of a fanned-out folder.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>, LibraryError> {
    let mut files = Vec::new();
    for path in list(folder)? {
        if is_fan(&path) {
            files.extend(list(&path)?);
        }
    }
    Ok(files)
}

/// Opens what is there, to read it: a link or a FIFO put in our place is not followed and not waited for.
fn open_as_it_is(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    File::options().read(true).custom_flags(flags.bits() as i32).open(path)
}

fn remove_if_there(path: &Path) -> Result<(), LibraryError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(LibraryError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// A disk that was lost has not even the folder.
fn sync_folder_if_there(path: &Path) -> Result<(), LibraryError> {
    if path.parent().is_some_and(Path::exists) { sync_folder(path) } else { Ok(()) }
}

/// Makes a rename, a new name or a removed name last.
fn sync_folder(path: &Path) -> Result<(), LibraryError> {
    let folder = path.parent().unwrap_or(path);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(LibraryError::io("sync", folder))
}

/// Read-only for everybody: content never changes.
fn make_read_only(file: &File, path: &Path) -> Result<(), LibraryError> {
    file.set_permissions(fs::Permissions::from_mode(0o444)).map_err(LibraryError::io("protect", path))
}
