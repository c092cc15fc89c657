//! What a client has already, for those who use it by its path; and what it had, and that turned out to be wrong.

use std::path::PathBuf;

use catalog::digest::Sha256Digest;
use jiff::Timestamp;

use super::{Cache, ClientError, ClientSettings, blocking};
use crate::library::LibraryError;

/// A content in the client's own library. It was verified when it came, which may be long ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Where its bytes are: under their digest, so that two contents of one name are two files. Nobody writes there.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
}

/// Whether the client has `content`; nobody is asked for that. It counts as used now.
///
/// # Errors
/// [`ClientError::Library`].
pub async fn kept(settings: &ClientSettings, content: Sha256Digest) -> Result<Option<Kept>, ClientError> {
    let (dir, min_free) = (settings.dir.clone(), settings.min_free);
    blocking(move || {
        let cache = Cache::open(&dir, min_free)?;
        let found = match cache.library.open_content(content) {
            // Whoever fetches it replaces it.
            Err(LibraryError::Corrupt { .. }) => None,
            found => found?,
        };
        let Some(found) = found else { return Ok(None) };
        cache.touch(content, Timestamp::now())?;
        Ok(Some(Kept { path: cache.library.path(content), size: found.size }))
    })
    .await
}

/// Removes a content that is not what it should be, with the name under which it was placed: the next fetch begins anew.
///
/// # Errors
/// [`ClientError::Library`].
pub async fn discard(settings: &ClientSettings, content: Sha256Digest) -> Result<(), ClientError> {
    let (dir, min_free) = (settings.dir.clone(), settings.min_free);
    blocking(move || Cache::open(&dir, min_free)?.discard(content)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::tests::wanted;

    #[test]
    fn what_is_wrong_goes_with_its_name_and_what_is_right_stays() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), 0).unwrap();
        std::fs::create_dir(cache.files()).unwrap();
        let name: catalog::id::FileName = "setup.exe".parse().unwrap();
        let contents: Vec<_> = [&b"one"[..], &b"two"[..]]
            .iter()
            .map(|bytes| {
                let path = folder.path().join("arrives");
                std::fs::write(&path, bytes).unwrap();
                let content = cache.library.ingest(&path, &wanted(bytes)).unwrap().digest();
                cache.note(content, &name, false, Timestamp::UNIX_EPOCH).unwrap();
                cache.library.place(content, &cache.files().join("setup.exe")).unwrap();
                content
            })
            .collect();
        // Both have one name, and each its own path.
        assert_eq!(std::fs::read(cache.library.path(contents[0])).unwrap(), b"one");
        assert_eq!(std::fs::read(cache.files().join("setup.exe")).unwrap(), b"two");
        cache.touch(contents[0], Timestamp::from_second(9).unwrap()).unwrap();
        assert_eq!(cache.list().unwrap()[0].content, contents[0], "it was used last");
        cache.discard(contents[0]).unwrap();
        cache.discard(contents[0]).unwrap();
        assert!(cache.library.open_content(contents[0]).unwrap().is_none());
        assert!(cache.library.open_content(contents[1]).unwrap().is_some());
        assert!(
            !cache.files().join("setup.exe").exists(),
            "it may be either; it is placed again when it is asked for"
        );
    }
}
