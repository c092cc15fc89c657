//! Files that are there whole or not at all: keys, certificates, what was selected, what is exported.
//!
//! A file is written beside its place under a name of its own, synced, given its name, and then its folder is synced. So whenever the
//! program is killed or the power goes:
//! - Its name stands for what was there before, or for the new file: whole, and with the rights that it is to have.
//! - Once it is said to be written it is the new one, after a power cut too.
//! - Where it is said that it could not be written, either may be there. Who still wants it writes it again.
//! - What was being written may stay behind as `.NAME.spsync-*.part`, which nothing reads and only its owner may read. It goes when
//!   something is to have that name again ([`Coming::at`]), and from the folders of a site or device whenever that begins ([`sweep`]).
//!
//! Of two files the first is written before the second is begun, and no more: who needs both says what one alone means.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use catalog::problem::{Code, Problem};
use tempfile::NamedTempFile;

/// Only the site's own user reads it.
pub const OWN: u32 = 0o600;
/// The site's group reads it too: it is for those who may command the site.
pub const GROUP: u32 = 0o640;
/// Every user of the machine reads it.
pub const ALL: u32 = 0o644;

/// Names of parts: `.NAME.spsync-*.part`.
const MARK: &str = ".spsync-";
const SUFFIX: &str = ".part";
/// What became a part less than so long ago is left alone: whoever makes one locks it only a moment later.
const FRESH: Duration = Duration::from_secs(60);
/// So much of a name is in the names of what becomes it, which may be no longer than others.
const OF_NAME: usize = 60;

/// Whether a disk, or what its user may have of it, is full.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The code of an error where something of the site's own was to be written: to a full disk no configuration is a help.
pub fn code_of(error: &io::Error) -> Code {
    if is_full(error) { Code::DiskFull } else { Code::DataDirNotWritable }
}

/// What is said where something of the site's own cannot be written.
pub fn unwritable(path: &Path, error: &io::Error) -> Problem {
    Problem::new(code_of(error), format!("`{}` cannot be written", path.display())).because_of(Some(error))
}

/// A file that is being written and does not have its name yet. One that is dropped goes.
#[derive(Debug)]
pub struct Coming {
    staged: NamedTempFile,
    path: PathBuf,
    mode: u32,
}

impl Coming {
    /// Begins what is to be at `path`, whose folder is there, with the rights of `mode`. What dead processes left of it goes.
    ///
    /// # Errors
    /// What the system said.
    pub fn at(path: &Path, mode: u32) -> io::Result<Self> {
        remove_dead(folder(path), |name| name.starts_with(&prefix(path)));
        let staged =
            tempfile::Builder::new().prefix(&prefix(path)).suffix(SUFFIX).tempfile_in(folder(path))?;
        // By this `sweep` knows that it is somebody's. Where files cannot be locked, nothing is swept either.
        let _ = staged.as_file().try_lock();
        Ok(Self { staged, path: path.to_owned(), mode })
    }

    /// What is written into.
    pub fn file(&mut self) -> &mut File {
        self.staged.as_file_mut()
    }

    /// Puts it in the place of whatever has its name.
    ///
    /// # Errors
    /// What the system said.
    pub fn replace(self) -> io::Result<()> {
        self.synced()?;
        self.staged.persist(&self.path).map_err(|error| error.error)?;
        sync_folder(&self.path)
    }

    /// Gives it its name, which nothing has.
    ///
    /// # Errors
    /// What the system said; that is `AlreadyExists` where something has it.
    pub fn appear(self) -> io::Result<()> {
        self.synced()?;
        self.staged.persist_noclobber(&self.path).map_err(|error| error.error)?;
        sync_folder(&self.path)
    }

    fn synced(&self) -> io::Result<()> {
        self.staged.as_file().set_permissions(Permissions::from_mode(self.mode))?;
        self.staged.as_file().sync_all()
    }
}

/// Puts a file of these bytes in the place of whatever is at `path`.
///
/// # Errors
/// What the system said.
pub fn write(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let mut coming = Coming::at(path, mode)?;
    coming.file().write_all(bytes)?;
    coming.replace()
}

/// Gives a file that was written so another name of the same folder, in the place of whatever has it.
///
/// # Errors
/// What the system said.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)?;
    sync_folder(to)
}

/// Removes from a folder of ours what dead processes left of whatever they wrote there so. Its folders are left alone.
pub fn sweep(folder: &Path) {
    remove_dead(folder, |name| name.starts_with('.') && name.contains(MARK));
}

/// Removes parts by the name that are no process's any more. What cannot be removed stays: it is in nobody's way.
fn remove_dead(folder: &Path, is_meant: impl Fn(&str) -> bool) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_part = name.to_str().is_some_and(|name| name.ends_with(SUFFIX) && is_meant(name));
        if is_part && is_dead(&entry) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn is_dead(entry: &std::fs::DirEntry) -> bool {
    let Ok(found) = entry.metadata() else { return false };
    let is_old = found.modified().ok().and_then(|at| at.elapsed().ok()).is_some_and(|age| age >= FRESH);
    // Whoever may write there may have put something else in its place by now: nothing is waited for, and no link followed.
    let flags = (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW).bits() as i32;
    let opened = || File::options().read(true).custom_flags(flags).open(entry.path());
    is_old && found.is_file() && opened().is_ok_and(|file| file.try_lock().is_ok())
}

/// The folder of a file.
pub fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn prefix(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let begin: String = name.chars().take(OF_NAME).collect();
    format!(".{begin}{MARK}")
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_full_disk_is_no_mistake_of_the_configuration() {
        for (kind, expected) in [
            (io::ErrorKind::StorageFull, Code::DiskFull),
            (io::ErrorKind::QuotaExceeded, Code::DiskFull),
            (io::ErrorKind::PermissionDenied, Code::DataDirNotWritable),
            (io::ErrorKind::ReadOnlyFilesystem, Code::DataDirNotWritable),
        ] {
            assert_eq!(unwritable(Path::new("/x"), &kind.into()).code, expected, "{kind}");
        }
    }

    #[test]
    fn a_file_takes_the_place_of_another_whole_or_leaves_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.pem");
        write(&path, OWN, b"one").unwrap();
        assert_eq!((std::fs::read(&path).unwrap(), mode(&path)), (b"one".to_vec(), OWN));
        write(&path, ALL, b"another").unwrap();
        assert_eq!((std::fs::read(&path).unwrap(), mode(&path)), (b"another".to_vec(), ALL));

        let mut given_up = Coming::at(&path, ALL).unwrap();
        given_up.file().write_all(b"half").unwrap();
        assert_eq!(mode(given_up.staged.path()), OWN, "until it is whole it is nobody else's");
        drop(given_up);
        let mut second = Coming::at(&path, ALL).unwrap();
        second.file().write_all(b"second").unwrap();
        assert_eq!(second.appear().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"another");
        assert_eq!(names(folder.path()), ["server.pem"], "nothing is left beside it");

        let elsewhere = folder.path().join("ca.pem");
        rename(&path, &elsewhere).unwrap();
        assert_eq!(names(folder.path()), ["ca.pem"]);
        let nowhere = folder.path().join("missing/ca.pem");
        assert_eq!(write(&nowhere, ALL, b"").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    /// What a process left that died so long ago.
    fn left(path: &Path, ago: Duration) {
        let file = File::create(path).unwrap();
        file.set_modified(std::time::SystemTime::now() - ago).unwrap();
    }

    #[test]
    fn what_the_dead_left_goes_and_what_somebody_writes_stays() {
        let folder = tempfile::tempdir().unwrap();
        let long = format!("{}.zip", "ä".repeat(120));
        for name in ["a.pkgx", &long] {
            let path = folder.path().join(name);
            let live = Coming::at(&path, GROUP).unwrap();
            live.staged.as_file().set_modified(std::time::SystemTime::now() - 2 * FRESH).unwrap();
            left(&folder.path().join(format!("{}dead.part", prefix(&path))), 2 * FRESH);
            left(&folder.path().join(format!("{}fresh.part", prefix(&path))), FRESH / 2);
            left(&folder.path().join("a.pkgx.spsync-mine.part"), 2 * FRESH);
            drop(Coming::at(&path, GROUP).unwrap());
            let names_left = names(folder.path());
            assert!(names_left.iter().all(|name| !name.contains("dead")), "{names_left:?}");
            assert!(names_left.iter().any(|name| name.contains("fresh")), "another may be about to lock it");
            assert!(names_left.iter().any(|name| name == "a.pkgx.spsync-mine.part"), "{names_left:?}");
            live.appear().unwrap();
            assert_eq!(mode(&path), GROUP);
        }
    }

    /// A key that was never whole is written again by nobody, so its part goes when its owner begins.
    #[test]
    fn a_folder_is_swept_of_whatever_was_to_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let live = Coming::at(&at("live"), OWN).unwrap();
        live.staged.as_file().set_modified(std::time::SystemTime::now() - 2 * FRESH).unwrap();
        for name in [".point.key.new.spsync-aB3x.part", ".server.pem.spsync-1.part"] {
            left(&at(name), 2 * FRESH);
        }
        let others = [".server.pem.spsync-2.part", "kept.spsync-1.part", ".spsync-tmp", "server.pem"];
        left(&at(others[0]), Duration::ZERO);
        others[1..].iter().for_each(|name| left(&at(name), 2 * FRESH));
        std::fs::create_dir(at(".x.spsync-folder.part")).unwrap();
        sweep(folder.path());
        sweep(&at("nowhere"));
        let (mut expected, mut there) = (others.map(str::to_owned).to_vec(), names(folder.path()));
        expected.push(".x.spsync-folder.part".to_owned());
        expected.sort();
        there.retain(|name| !name.starts_with(".live"));
        assert_eq!(there, expected);
        live.replace().unwrap();
    }
}
