//! Content that is open, ready to be served again: a hot file costs one look at it and no thread.
//!
//! An open file is kept with a read-only map of it, its *region*. Slices of the region travel through hyper as the body of
//! an answer, and the socket ([`super::push`]) knows them by their address: it takes the bytes from the file itself. Nobody
//! reads the map on that way; were it read after all, the bytes would be the right ones.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use catalog::digest::Sha256Digest;

use super::pages::{Lease, Leased, Leases, map};
use crate::library::{Grown, Growth, Identity, Library, LibraryError, StoredFile};

/// Content of at most so many bytes is kept in memory: one write answers it.
const SMALL: u64 = 16 * 1024;
/// Contents that stay open: descriptors are few, and a site has few files that everybody wants on one day.
const MOST_LARGE: usize = 512;
/// Small contents that stay in memory: 16 MiB of them.
const MOST_SMALL: usize = 1024;

/// Open content.
#[derive(Debug)]
pub struct OpenContent {
    pub(super) digest: Sha256Digest,
    pub(super) size: u64,
    file: Arc<File>,
    small: Option<Bytes>,
    region: Option<Bytes>,
    identity: Identity,
    leased: Leased,
    /// Where it still arrived when it was opened.
    growth: Option<Arc<Growth>>,
}

impl OpenContent {
    /// Blocks: small content is read here.
    fn new(stored: StoredFile, leases: &Arc<Leases>) -> io::Result<Self> {
        let StoredFile { file, digest, size, identity } = stored;
        let (file, leased) = (Arc::new(file), Leased::default());
        let mut opened =
            Self { digest, size, file, small: None, region: None, identity, leased, growth: None };
        if size <= SMALL {
            let mut bytes = vec![0; size as usize];
            opened.file.read_exact_at(&mut bytes, 0)?;
            opened.small = Some(Bytes::from(bytes));
        } else {
            opened.region = map(&opened.file, size);
            opened.leased.take(leases, &opened.file);
        }
        Ok(opened)
    }

    /// Content of a file named `file` in `folder`, whatever its bytes.
    #[cfg(test)]
    pub(super) fn for_test(folder: &std::path::Path, bytes: &[u8]) -> Arc<Self> {
        Self::for_test_under(folder, bytes, &Arc::default())
    }

    #[cfg(test)]
    pub(super) fn for_test_under(folder: &std::path::Path, bytes: &[u8], leases: &Arc<Leases>) -> Arc<Self> {
        let path = folder.join("file");
        std::fs::write(&path, bytes).expect("the folder can be written");
        let file = File::open(&path).expect("it was written");
        let identity = Identity::of(&file.metadata().expect("it is open"));
        let stored = StoredFile { file, digest: Sha256Digest([7; 32]), size: bytes.len() as u64, identity };
        Arc::new(Self::new(stored, leases).expect("it can be read"))
    }

    /// Content that still arrives: of `file` only what is verified may be read, which its readers see to. Its pages may be
    /// sent all the same: who writes to it is this process, below the mark never again ([`super::lease`]).
    pub(super) fn arriving(
        growth: &Arc<Growth>,
        digest: Sha256Digest,
        size: u64,
        leases: &Arc<Leases>,
    ) -> io::Result<Option<Arc<Self>>> {
        let Some(file) = growth.file() else { return Ok(None) };
        let identity = Identity::of(&file.metadata()?);
        let region = if size > SMALL { map(file, size) } else { None };
        let leased = Leased::default();
        if region.is_some() {
            leased.take_of_arriving(leases, file);
        }
        let growth = Some(growth.clone());
        let file = file.clone();
        Ok(Some(Arc::new(Self { digest, size, file, small: None, region, identity, leased, growth })))
    }

    /// The open file.
    pub(super) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// All of it, where it is in memory.
    pub(super) fn small(&self) -> Option<&Bytes> {
        self.small.as_ref()
    }

    /// Its map, which nobody should read: see above.
    pub(super) fn region(&self) -> Option<&Bytes> {
        self.region.as_ref()
    }

    /// What makes it safe to send its pages, if there is that.
    #[cfg_attr(
        not(all(target_os = "linux", not(feature = "portable"))),
        allow(dead_code, reason = "pages are not sent")
    )]
    pub(super) fn lease(&self) -> Option<Arc<Lease>> {
        if let Some(growth) = &self.growth
            && growth.grown() == Grown::Whole
        {
            self.leased.is_whole();
        }
        self.leased.current()
    }

    /// Where in this content the memory at `address` is.
    #[cfg_attr(
        not(all(target_os = "linux", not(feature = "portable"))),
        allow(dead_code, reason = "pages are not sent")
    )]
    pub(super) fn offset_of(&self, address: *const u8) -> Option<u64> {
        let region = self.region.as_ref()?;
        let offset = (address as usize).checked_sub(region.as_ptr() as usize)?;
        (offset < region.len()).then_some(offset as u64)
    }
}

/// Open contents of one library, the ones asked for last.
#[derive(Debug)]
pub(super) struct OpenContents {
    library: Library,
    kept: Mutex<Kept>,
    leases: Arc<Leases>,
}

#[derive(Debug, Default)]
struct Kept {
    contents: HashMap<Sha256Digest, (Arc<OpenContent>, u64)>,
    small: usize,
    /// Counts questions: what was asked for when.
    turn: u64,
}

impl OpenContents {
    pub(super) fn new(library: Library) -> Self {
        Self { library, kept: Mutex::default(), leases: Arc::default() }
    }

    /// The leases on files of this library.
    pub(super) fn leases(&self) -> &Arc<Leases> {
        &self.leases
    }

    /// The content, open; `None` where it is not in the library.
    ///
    /// # Errors
    /// Those of [`Library::open_content`].
    pub(super) async fn open(&self, digest: Sha256Digest) -> Result<Option<Arc<OpenContent>>, LibraryError> {
        if let Some(kept) = self.kept(digest) {
            // A file that lost its name, got another one or was changed says so itself; only then its name is looked up again.
            if Identity::now(&kept.file).as_ref() == Some(&kept.identity) {
                if kept.region.is_some() {
                    kept.leased.renew(&self.leases, &kept.file);
                }
                return Ok(Some(kept));
            }
            self.forget(digest);
        }
        let (library, leases) = (self.library.clone(), self.leases.clone());
        let opened = tokio::task::spawn_blocking(move || {
            let Some(stored) = library.open_content(digest)? else { return Ok(None) };
            let opened = OpenContent::new(stored, &leases);
            opened.map(Some).map_err(|source| library.unreadable(digest, source))
        });
        let Some(opened) =
            opened.await.unwrap_or_else(|gone| Err(self.library.unreadable(digest, gone.into())))?
        else {
            return Ok(None);
        };
        let opened = Arc::new(opened);
        self.keep(opened.clone());
        Ok(Some(opened))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self, digest: Sha256Digest) -> Option<Arc<OpenContent>> {
        let mut kept = self.lock();
        kept.turn += 1;
        let turn = kept.turn;
        let (content, asked) = kept.contents.get_mut(&digest)?;
        *asked = turn;
        Some(content.clone())
    }

    fn forget(&self, digest: Sha256Digest) {
        let mut kept = self.lock();
        if let Some((content, _)) = kept.contents.remove(&digest) {
            kept.small -= usize::from(content.small.is_some());
        }
    }

    fn keep(&self, content: Arc<OpenContent>) {
        let is_small = content.small.is_some();
        let mut kept = self.lock();
        kept.turn += 1;
        let turn = kept.turn;
        kept.small += usize::from(is_small);
        if let Some((before, _)) = kept.contents.insert(content.digest, (content, turn)) {
            kept.small -= usize::from(before.small.is_some());
        }
        let (count, most) =
            if is_small { (kept.small, MOST_SMALL) } else { (kept.contents.len() - kept.small, MOST_LARGE) };
        if count > most {
            let same_kind = kept.contents.iter().filter(|(_, (it, _))| it.small.is_some() == is_small);
            let oldest = same_kind.min_by_key(|(_, (_, asked))| *asked).map(|(digest, _)| *digest);
            if let Some((before, _)) = oldest.and_then(|digest| kept.contents.remove(&digest)) {
                kept.small -= usize::from(before.small.is_some());
            }
        }
    }
}
