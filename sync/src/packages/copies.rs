//! Copies of a package's files in its source folder. The folder is somebody's own, so nothing in it is replaced or removed unless it is a
//! copy that we could make again: a file of the recorded size and digest. Whatever else has its name is said, and left alone.

use std::path::Path;

use catalog::digest::Sha256Digest;
use catalog::id::FileName;
use dp::library::{Identity, Library, LibraryError};
use schema::packages::{FileState, PackageFile};

/// A file of a package that is stored, and so may have a copy.
#[derive(Debug, Clone)]
pub(crate) struct Copied {
    name: FileName,
    content: Sha256Digest,
    size: u64,
}

impl Copied {
    /// `None` where nothing of it was ever stored: then no file of that name is ours.
    pub(crate) fn of(file: &PackageFile) -> Option<Self> {
        let content = file.sha256.filter(|_| file.state == FileState::Stored)?;
        Some(Self { name: file.file_name.clone(), content, size: file.size })
    }

    /// The same of a file that has just come.
    pub(crate) fn new(name: FileName, content: Sha256Digest, size: u64) -> Self {
        Self { name, content, size }
    }

    /// Makes the copy, unless it is there. What is said where another file has its name; of one that is there only the size is
    /// looked at where it is not to be read `whole`.
    ///
    /// # Errors
    /// Those of the library and the folder.
    pub(crate) fn make(
        &self,
        library: &Library,
        folder: &Path,
        whole: bool,
    ) -> Result<Option<String>, LibraryError> {
        let target = folder.join(self.name.as_str());
        let has_size = || {
            let found = std::fs::symlink_metadata(&target);
            found.is_ok_and(|found| found.is_file() && found.len() == self.size)
        };
        if !whole && has_size() {
            return Ok(None);
        }
        let is_ours = match library.is_copy(&target, self.content, self.size)? {
            Some(is_ours) => is_ours,
            None => library.place_if_free(self.content, &target)?.is_some(),
        };
        Ok((!is_ours).then(|| {
            format!(
                "`{}` in the source folder is another file and was left as it is: move it away, then download again",
                self.name
            )
        }))
    }

    /// Removes the copy. What is said where it could not be removed, or where another file has its name.
    pub(crate) fn remove(&self, library: &Library, folder: &Path) -> Option<String> {
        let target = folder.join(self.name.as_str());
        let failed = |error: LibraryError| {
            let why = std::error::Error::source(&error).map_or_else(String::new, |why| format!(" ({why})"));
            Some(format!("the copy in the source folder stays: {error}{why}"))
        };
        let before = Identity::at(&target);
        match library.is_copy(&target, self.content, self.size) {
            Ok(None) => None, // as wanted
            Ok(Some(false)) => {
                Some(format!("`{}` in the source folder is another file and was left as it is", self.name))
            }
            // Reading it may have taken minutes: what has come in its place since was not read.
            Ok(Some(true)) if Identity::at(&target) != before => Some(format!(
                "`{}` in the source folder was changed meanwhile and was left as it is",
                self.name
            )),
            Ok(Some(true)) => match std::fs::remove_file(&target) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    failed(LibraryError::Io { act: "remove", path: target, source })
                }
                _ => None,
            },
            Err(error) => failed(error),
        }
    }
}
