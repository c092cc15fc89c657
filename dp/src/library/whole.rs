//! Files that appear whole: written under a name that nobody else has, then renamed.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Identity, LEFT_OVER_AFTER, LibraryError, changed, name_of, sync_folder};

/// How temporary files of ours in folders of others end.
const MARK: &str = ".spsync-tmp";
/// The longest name of a file, in bytes, on every file system that matters.
const LONGEST_NAME: usize = 255;

/// A file that is to become `target`. What it is not yet goes with it.
pub(super) struct Temporary {
    pub(super) path: PathBuf,
    target: PathBuf,
    /// Others may be given this name, when this process has slept long enough: then it is of another file.
    shared: Option<Identity>,
    has_appeared: bool,
}

impl Temporary {
    /// A name beside `target` that no other process and no other thread uses, with what `make` made of it. `make` refuses a name
    /// that is there: in another container, a process of the same number may have taken it.
    pub(super) fn beside<T>(
        target: &Path,
        make: impl Fn(&Path) -> io::Result<T>,
    ) -> Result<(Self, T), LibraryError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = target.with_file_name(format!(".{}-{number}{MARK}", std::process::id()));
            match make(&path) {
                Ok(made) => {
                    let target = target.to_owned();
                    return Ok((Self { path, target, shared: None, has_appeared: false }, made));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(LibraryError::io("create", &path)(error)),
            }
        }
    }

    /// A new file beside `target`, under a name that says what it is of, or, where somebody has that or it would be too long, under
    /// one as above.
    pub(super) fn file(target: &Path) -> Result<(Self, File), LibraryError> {
        let telling = name_of(target).map(|name| format!(".{name}{MARK}"));
        if let Some(name) = telling.filter(|name| name.len() <= LONGEST_NAME) {
            let path = target.with_file_name(name);
            if let Ok(file) = create_new(&path)
                && let Ok(found) = file.metadata()
            {
                let (target, shared) = (target.to_owned(), Some(Identity::of(&found)));
                return Ok((Self { path, target, shared, has_appeared: false }, file));
            }
        }
        Self::beside(target, create_new)
    }

    /// It is whole, and durable: it appears.
    pub(super) fn appear(mut self) -> Result<(), LibraryError> {
        let target = &self.target;
        if !self.is_ours() {
            let taken = io::Error::other("its temporary name was taken away");
            return Err(LibraryError::io("rename to", target)(taken));
        }
        fs::rename(&self.path, target).map_err(LibraryError::io("rename to", target))?;
        // Where both names are of one file, a link, the system renames nothing (rename(2)): ours goes then. A name that others
        // may have is of a new file, and theirs from now on.
        self.has_appeared = self.shared.is_some() || fs::symlink_metadata(&self.path).is_err();
        sync_folder(&self.target)
    }

    /// The same, if nothing has its name; whether that was so.
    pub(super) fn appear_if_free(self) -> Result<bool, LibraryError> {
        let target = self.target.clone();
        if self.is_ours() {
            match fs::hard_link(&self.path, &target) {
                Ok(()) => {
                    drop(self); // its other name
                    return sync_folder(&target).map(|()| true);
                }
                Err(_) if fs::symlink_metadata(&target).is_ok() => return Ok(false),
                Err(_) => {} // not every file system has links
            }
        }
        self.appear().map(|()| true)
    }

    /// Whether the name is still that of the file that it was made for.
    fn is_ours(&self) -> bool {
        let now = || fs::symlink_metadata(&self.path).ok().map(|found| Identity::of(&found));
        self.shared.as_ref().is_none_or(|made| now().is_some_and(|now| now.is_same_file(made)))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.has_appeared && self.is_ours() {
            let _ = fs::remove_file(&self.path); // it may never have been written
        }
    }
}

fn create_new(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).open(path)
}

/// Writes a file of the library anew, with the folder that it is in: durable, both.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), LibraryError> {
    let folder = path.parent().unwrap_or(path);
    if !folder.is_dir() {
        fs::create_dir_all(folder).map_err(LibraryError::io("create", folder))?;
        sync_folder(folder)?;
    }
    let (temporary, mut file) = Temporary::file(path)?;
    let failed = |act| LibraryError::io(act, &temporary.path);
    file.write_all(bytes).map_err(failed("write"))?;
    file.sync_all().map_err(failed("sync"))?;
    temporary.appear()
}

/// Removes what killed processes left beside `target`. A link has the times of its file, but for its last change.
pub(super) fn sweep_beside(target: &Path) {
    let Some(entries) = target.parent().and_then(|folder| fs::read_dir(folder).ok()) else { return };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let is_ours = name.to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(MARK));
        if is_ours
            && let Ok(found) = entry.metadata()
            && found.is_file()
            && changed(&found).elapsed().is_ok_and(|age| age > LEFT_OVER_AFTER)
        {
            let _ = fs::remove_file(entry.path()); // whoever may not is not the one who left it
        }
    }
}
