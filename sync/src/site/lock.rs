//! The locks of a site: one process at a time works on it, the daemon or a command. Its database and its content library have locks of
//! their own, as the configuration of another site may name them too.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use catalog::problem::{Code, Problem};
use dp::library::LibraryError;
use rustix::fs::OFlags;
use rustix::process::geteuid;
use tracing::warn;

use crate::blocking::blocking;
use crate::config::Settings;
use crate::whole;

/// How long a command waits for another one to finish with the site.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// The locks of a site, as long as they are there.
pub(crate) struct Locks(Vec<File>);

/// What a process works on alone.
enum Thing {
    Site,
    Database(PathBuf),
    Library(PathBuf),
}

impl Thing {
    fn refused(&self, holder: &str, lock: &Path) -> Problem {
        let (what, help) = match self {
            Self::Site => ("this site".to_owned(), None),
            Self::Database(path) => (format!("the database `{}`", path.display()), Some("[db] path")),
            Self::Library(path) => {
                (format!("the content library `{}`", path.display()), Some("[content] dir"))
            }
        };
        let problem = Problem::new(Code::SiteLocked, format!("another process works on {what} ({holder})"))
            .because(format!("it holds `{}`", lock.display()));
        match help {
            None => problem,
            Some(key) => problem.help(format!(
                "each site has a `{key}` of its own; where it is this site's, wait until the other process ends; where that was on a \
                 machine that is gone for good, remove `{}`",
                lock.display()
            )),
        }
    }
}

impl Locks {
    /// Takes them all, waiting a little for a command that is about to end. The data directory is there.
    pub(super) async fn of(settings: &Settings) -> Result<Self, Problem> {
        let mut locks = Self(Vec::new());
        locks.take(settings.site.data_dir.join("spsync.lock"), Thing::Site).await?;
        let (database, library) = (settings.db_path(), settings.content_dir());
        let made = library.clone();
        let real = blocking(move || {
            let failed = |source| LibraryError::Io { act: "create", path: made.clone(), source };
            std::fs::create_dir_all(&made).map_err(failed)?;
            // Beside the file itself, whichever link of it is named.
            Ok(database.canonicalize().unwrap_or(database))
        })
        .await?;
        let mut name = real.clone().into_os_string();
        name.push(".lock");
        locks.take(name.into(), Thing::Database(real)).await?;
        locks.take(library.join("library.lock"), Thing::Library(library)).await?;
        Ok(locks)
    }

    async fn take(&mut self, path: PathBuf, what: Thing) -> Result<(), Problem> {
        let Some(mut file) = open(&path, &what)? else { return Ok(()) };
        if self.0.iter().any(|held| is_same(held, &file)) {
            return Ok(());
        }
        let since = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(std::fs::TryLockError::WouldBlock) if since.elapsed() < LOCK_PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(std::fs::TryLockError::WouldBlock) => {
                    let mut holder = String::new();
                    let _ = file.read_to_string(&mut holder);
                    return Err(what.refused(holder.trim(), &path));
                }
                Err(std::fs::TryLockError::Error(error)) if matches!(what, Thing::Site) => {
                    return Err(unusable(&path, &error));
                }
                // Not every file system of content knows locks; whose it is says the file beside it.
                Err(std::fs::TryLockError::Error(error)) => {
                    warn!("`{}` cannot be locked: {error}", path.display());
                    return Ok(());
                }
            }
        }
        let role = std::env::args().take(4).collect::<Vec<_>>().join(" ");
        let _ = file.set_len(0).and_then(|()| file.rewind());
        let _ = write!(file, "process {}: {role}", std::process::id());
        self.0.push(file);
        Ok(())
    }

    /// Others may work on it all.
    pub(super) fn free(&self) {
        for file in &self.0 {
            let _ = file.set_len(0);
            let _ = file.unlock();
        }
    }
}

/// The file of a lock; `None` where there can be none: who opens the thing itself says why, or can delete nothing there.
fn open(path: &Path, what: &Thing) -> Result<Option<File>, Problem> {
    // A link is nobody's lock: root would write into whatever it names.
    let mut options = File::options();
    options.read(true).write(true).custom_flags(OFlags::NOFOLLOW.bits() as i32);
    let made = options.clone().create_new(true).open(path).inspect(|file| give_to_folder(file, path));
    let opened = match made {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => options.open(path),
        made => made,
    };
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(error) if matches!(what, Thing::Site) => Err(unusable(path, &error)),
        // On a disk that became read-only, content is served on.
        Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => Ok(File::open(path).ok()),
        // Somebody else may have made it, or the folder; who only reads it may lock it too.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Ok(File::open(path).inspect_err(|_| warn!("`{}` cannot be locked: {error}", path.display())).ok())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if whole::is_full(&error) => {
            warn!("`{}` cannot be made: {error}", path.display());
            Ok(None)
        }
        Err(error) => Err(unusable(path, &error)),
    }
}

/// Gives a lock that root has just made to whose its folder is: the daemon, who finds it there, is not root.
fn give_to_folder(file: &File, path: &Path) {
    if geteuid().is_root()
        && let Some(folder) = path.parent().and_then(|folder| folder.metadata().ok())
    {
        let _ = fchown(file, Some(folder.uid()), Some(folder.gid())); // then it is root's, and who may not use it says so
    }
}

fn is_same(one: &File, other: &File) -> bool {
    let which = |file: &File| file.metadata().ok().map(|found| (found.dev(), found.ino()));
    which(one).is_some_and(|one| which(other) == Some(one))
}

fn unusable(path: &Path, error: &std::io::Error) -> Problem {
    let message = format!("the lock `{}` cannot be opened", path.display());
    Problem::new(whole::code_of(error), message).because_of(Some(error))
}
