//! Content that is open, ready to be served again: a hot file costs one look at it and no thread.
//!
//! An open file is kept with a read-only map of it, its *region*. Slices of the region travel through hyper as the body of
//! an answer, and the socket ([`super::push`]) knows them by their address: it takes the bytes from the file itself. Nobody
//! reads the map on that way; were it read after all, the bytes would be the right ones.
//!
//! What has lost its name nobody asks for again, and the disk has its room when the last one lets go of it: whoever removes content of
//! this library says so, and what another process has removed is looked for every minute.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use catalog::digest::Sha256Digest;

use super::doubt::Doubts;
use super::pages::{Lease, Leased, Leases, map};
use crate::library::{
    Damage, Grown, Growth, Identity, KeepsOpen, Library, LibraryError, StoredFile, Verdict, is_loss,
};

/// Content of at most so many bytes is kept in memory: one write answers it.
pub(super) const SMALL: u64 = 16 * 1024;
/// Contents that stay open: descriptors are few, and a site has few files that everybody wants on one day.
const MOST_LARGE: usize = 512;
/// Small contents that stay in memory: 16 MiB of them.
const MOST_SMALL: usize = 1024;
/// For how long small content is taken for what it was when it was looked at last: that long an answer is on its way anyway. Its bytes are
/// in memory, so they stay the right ones.
const STILL: Duration = Duration::from_millis(1);
/// How often it is looked for what other processes have removed.
const LOOK: Duration = Duration::from_secs(60);

/// Open content.
#[derive(Debug)]
pub struct OpenContent {
    pub(super) digest: Sha256Digest,
    pub(super) size: u64,
    file: Arc<File>,
    small: Option<Small>,
    region: Option<Bytes>,
    identity: Identity,
    leased: Leased,
    /// Where it still arrived when it was opened.
    growth: Option<Arc<Growth>>,
    /// Who is told where it cannot be read.
    doubts: Option<Arc<Doubts>>,
}

/// Small content in memory.
#[derive(Debug)]
struct Small {
    bytes: Bytes,
    read: Instant,
    /// Until when it is taken for what it was, in microseconds since it was read.
    still: AtomicU64,
}

impl OpenContent {
    /// Blocks: small content is read here.
    fn new(stored: StoredFile, leases: &Arc<Leases>, doubts: Option<Arc<Doubts>>) -> io::Result<Self> {
        let StoredFile { file, digest, size, identity } = stored;
        let (file, leased) = (Arc::new(file), Leased::default());
        let (small, region, growth) = (None, None, None);
        let mut opened = Self { digest, size, file, small, region, identity, leased, growth, doubts };
        if size <= SMALL {
            let mut bytes = vec![0; size as usize];
            opened.file.read_exact_at(&mut bytes, 0)?;
            opened.small =
                Some(Small { bytes: bytes.into(), read: Instant::now(), still: AtomicU64::new(0) });
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

    /// The same; whoever cannot read it tells `doubts`.
    #[cfg(test)]
    pub(super) fn doubting(self: Arc<Self>, doubts: &Arc<Doubts>) -> Arc<Self> {
        let content = Arc::into_inner(self).expect("nobody else has it");
        Arc::new(Self { doubts: Some(doubts.clone()), ..content })
    }

    #[cfg(test)]
    pub(super) fn for_test_under(folder: &std::path::Path, bytes: &[u8], leases: &Arc<Leases>) -> Arc<Self> {
        let path = folder.join("file");
        std::fs::write(&path, bytes).expect("the folder can be written");
        let file = File::open(&path).expect("it was written");
        let identity = Identity::of(&file.metadata().expect("it is open"));
        let stored = StoredFile { file, digest: Sha256Digest([7; 32]), size: bytes.len() as u64, identity };
        Arc::new(Self::new(stored, leases, None).expect("it can be read"))
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
        // What cannot be read of it is whoever's who brings it: nobody has recorded it yet.
        let (growth, file, doubts) = (Some(growth.clone()), file.clone(), None);
        Ok(Some(Arc::new(Self { digest, size, file, small: None, region, identity, leased, growth, doubts })))
    }

    /// The open file.
    pub(super) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Reading it failed on its way to somebody. Where that says that its bytes are lost, somebody is to look at it: each client would be
    /// cut at the same place, for ever.
    pub(super) fn failed(&self, error: &io::Error) {
        if let Some(doubts) = self.doubts.as_ref().filter(|_| is_loss(error)) {
            doubts.about(self.digest);
        }
    }

    /// Whether the file is what it was when it was opened, and has its name.
    fn is_as_it_was(&self) -> bool {
        Identity::now(&self.file).as_ref() == Some(&self.identity)
    }

    /// The same; small content is not looked at with each of thousands of requests a second.
    fn is_still_as_it_was(&self) -> bool {
        let Some(small) = &self.small else { return self.is_as_it_was() };
        let now = small.read.elapsed();
        if now < Duration::from_micros(small.still.load(Ordering::Relaxed)) {
            return true;
        }
        let as_it_was = self.is_as_it_was();
        if as_it_was {
            small.still.store((now + STILL).as_micros() as u64, Ordering::Relaxed);
        }
        as_it_was
    }

    /// All of it, where it is in memory.
    pub(super) fn small(&self) -> Option<&Bytes> {
        self.small.as_ref().map(|small| &small.bytes)
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
    kept: Arc<Keeper>,
    leases: Arc<Leases>,
    doubts: Option<Arc<Doubts>>,
}

#[derive(Debug, Default)]
struct Keeper(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    contents: HashMap<Sha256Digest, (Arc<OpenContent>, u64)>,
    small: usize,
    /// Counts questions: what was asked for when.
    turn: u64,
}

impl OpenContents {
    pub(super) fn new(library: Library) -> Self {
        let kept: Arc<Keeper> = Arc::default();
        library.tell(kept.clone());
        Self { library, kept, leases: Arc::default(), doubts: None }
    }

    /// The same; `doubts` are told of what cannot be read.
    pub(super) fn with_doubts(self, doubts: Arc<Doubts>) -> Self {
        Self { doubts: Some(doubts), ..self }
    }

    /// Somebody is to look at a content.
    pub(super) fn doubt(&self, digest: Sha256Digest) {
        if let Some(doubts) = &self.doubts {
            doubts.about(digest);
        }
    }

    /// Lets go of what other processes have removed, for ever.
    pub(super) async fn let_go_what_is_gone(&self) -> Infallible {
        loop {
            tokio::time::sleep(LOOK).await;
            let kept = self.kept.clone();
            let _ = tokio::task::spawn_blocking(move || kept.let_go_what_is_gone()).await; // it is looked again
        }
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
        if let Some(kept) = self.kept.find(digest) {
            // A file that lost its name, got another one or was changed says so itself; only then its name is looked up again.
            if kept.is_still_as_it_was() {
                if kept.region.is_some() {
                    kept.leased.renew(&self.leases, &kept.file);
                }
                return Ok(Some(kept));
            }
            drop(self.kept.forget(digest));
        }
        let (library, leases, doubts) = (self.library.clone(), self.leases.clone(), self.doubts.clone());
        let opened = tokio::task::spawn_blocking(move || {
            let stored = match library.open_content(digest) {
                // What is read anyway need not wait until somebody looks at it.
                Err(LibraryError::Corrupt { what: Damage::Touched, .. })
                    if library.is_small(digest, SMALL) && library.verify(digest)? == Verdict::Good =>
                {
                    library.open_content(digest)
                }
                opened => opened,
            };
            let Some(stored) = stored? else { return Ok(None) };
            let opened = OpenContent::new(stored, &leases, doubts);
            opened.map(Some).map_err(|source| library.unreadable(digest, source))
        });
        let Some(opened) =
            opened.await.unwrap_or_else(|gone| Err(self.library.unreadable(digest, gone.into())))?
        else {
            return Ok(None);
        };
        let opened = Arc::new(opened);
        self.kept.keep(opened.clone());
        // It may have been removed between opening and keeping, and whoever told of that found nothing to let go.
        if !opened.is_as_it_was() {
            drop(self.kept.forget(digest));
        }
        Ok(Some(opened))
    }
}

impl KeepsOpen for Keeper {
    fn let_go(&self, content: Sha256Digest) {
        drop(self.forget(content));
    }
}

impl Keeper {
    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of whatever is not the file any more that it was. Blocks: what nobody else has open is freed by it.
    fn let_go_what_is_gone(&self) {
        let all: Vec<_> = self.lock().contents.values().map(|(content, _)| content.clone()).collect();
        for content in all.into_iter().filter(|content| !content.is_as_it_was()) {
            drop(self.forget(content.digest));
        }
    }

    fn find(&self, digest: Sha256Digest) -> Option<Arc<OpenContent>> {
        let mut kept = self.lock();
        kept.turn += 1;
        let turn = kept.turn;
        let (content, asked) = kept.contents.get_mut(&digest)?;
        *asked = turn;
        Some(content.clone())
    }

    /// Not kept any more. Whoever drops it is the last, unless it is being sent: nobody waits for the lock meanwhile.
    fn forget(&self, digest: Sha256Digest) -> Option<Arc<OpenContent>> {
        let mut kept = self.lock();
        let (content, _) = kept.contents.remove(&digest)?;
        kept.small -= usize::from(content.small.is_some());
        Some(content)
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

#[cfg(test)]
mod tests {
    use catalog::digest::{Checker, Digests, Wanted};

    use super::*;
    use crate::library::Settings;

    fn put(library: &Library, seed: u8, size: usize) -> Sha256Digest {
        let bytes = vec![seed; size];
        let mut checker = Checker::new();
        checker.update(&bytes);
        let print = checker.into_fingerprint();
        let digests = Digests { sha1: Some(print.sha1), sha256: Some(print.sha256) };
        let wanted = Wanted::new(print.size, digests).expect("it has digests");
        let mut staged = library.stage(&wanted).expect("it can be staged");
        staged.append(&bytes).expect("there is room");
        let verified = staged.check(&wanted).expect("it is right");
        staged.commit(verified).expect("it is stored").digest()
    }

    /// The disk has the room of what was removed when nobody has it open any more, and that is at once.
    #[tokio::test]
    async fn what_is_removed_is_let_go_of() {
        let folder = tempfile::tempdir().unwrap();
        let library = Library::open(folder.path(), Settings::default()).unwrap();
        let contents = OpenContents::new(library.clone());
        let stays = put(&library, 1, 70_000);
        let other = contents.open(stays).await.unwrap().map(|open| Arc::downgrade(&open)).unwrap();
        for (seed, size) in [(2, 100_000), (3, 9)] {
            let remove: [&dyn Fn(Sha256Digest); 3] = [
                &|digest| library.remove(digest).unwrap(),
                &|digest| library.set_aside(digest).unwrap(),
                // Another process, of which nobody hears.
                &|digest| {
                    std::fs::remove_file(library.path(digest)).unwrap();
                    contents.kept.let_go_what_is_gone();
                },
            ];
            for (how, remove) in remove.into_iter().enumerate() {
                let digest = put(&library, seed, size);
                let open = contents.open(digest).await.unwrap().unwrap();
                let again = contents.open(digest).await.unwrap().unwrap();
                assert!(Arc::ptr_eq(&open, &again), "it is kept");
                let gone = Arc::downgrade(&open);
                drop((open, again));
                assert!(gone.upgrade().is_some());
                remove(digest);
                assert!(gone.upgrade().is_none(), "{how}: {size} bytes are still open");
                assert!(contents.open(digest).await.unwrap().is_none());
            }
        }
        let kept = contents.kept.lock();
        assert!(other.upgrade().is_some() && (kept.contents.len(), kept.small) == (1, 0));
    }

    /// What somebody else does to small content is seen with the next look, which is no later than a moment.
    #[tokio::test]
    async fn small_content_is_looked_at_again_after_a_moment() {
        let folder = tempfile::tempdir().unwrap();
        let library = Library::open(folder.path(), Settings::default()).unwrap();
        let contents = OpenContents::new(library.clone());
        let digest = put(&library, 4, 9);
        let open = contents.open(digest).await.unwrap().unwrap();
        contents.open(digest).await.unwrap().unwrap();
        let small = open.small.as_ref().unwrap();
        let until = Duration::from_micros(small.still.load(Ordering::Relaxed));
        assert!(until > Duration::ZERO && until <= small.read.elapsed() + STILL);
        std::fs::remove_file(library.path(digest)).unwrap();
        tokio::time::sleep(2 * STILL).await;
        assert!(contents.open(digest).await.unwrap().is_none());
        let large = put(&library, 5, SMALL as usize + 1);
        contents.open(large).await.unwrap().unwrap();
        std::fs::remove_file(library.path(large)).unwrap();
        assert!(contents.open(large).await.unwrap().is_none(), "other content is looked at each time");
    }

    #[tokio::test]
    async fn what_says_that_bytes_are_lost_is_told() {
        let (folder, doubts) = (tempfile::tempdir().unwrap(), Arc::new(Doubts::default()));
        let content = OpenContent::for_test(folder.path(), b"x").doubting(&doubts);
        let errno = |errno: rustix::io::Errno| io::Error::from(errno);
        for (error, told) in [
            (errno(rustix::io::Errno::CONNRESET), false),
            (errno(rustix::io::Errno::NOMEM), false),
            (io::Error::other("the file is being changed in place"), false),
            (errno(rustix::io::Errno::IO), true),
            (io::ErrorKind::UnexpectedEof.into(), true),
        ] {
            content.failed(&error);
            assert_eq!(doubts.are_any(), told, "{error}");
            doubts.settled(content.digest);
        }
    }
}
