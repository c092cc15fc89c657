//! Bytes that arrive: invisible, resumable, hashed as they are written.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use catalog::digest::{Checker, Mismatch, PIECE_SIZE, PieceHasher, Pieces, Verified, Wanted};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::growth::Growth;
use super::{
    Identity, Library, LibraryError, Stored, make_read_only, open_as_it_is, remove_if_there, sidecar,
    sync_folder, sync_folder_if_there,
};

/// Where staged bytes came from, so that a resumed transfer asks the same source for the same representation
/// (`If-Range`, RFC 9110 section 13.1.5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The source's address.
    pub source: String,
    /// Its strong validator, if it gave one.
    pub etag: Option<String>,
}

/// A file that arrives. It is locked: one transfer works on it at a time.
#[derive(Debug)]
pub struct Staged {
    library: Library,
    path: PathBuf,
    file: File,
    /// Bytes that are here.
    have: u64,
    /// Has seen all of them, unless pieces are checked: then each is hashed alone as it comes, so that nobody waits for
    /// more than that, and the rest of the work is done at the end. What was found right then is not hashed again.
    checker: Checker,
    /// Bytes from which the system is asked to write to the disk; an uninterrupted stream of dirty pages would stall
    /// the last sync for minutes.
    flushed: u64,
    /// The disk at work. What it says counts: an error is told to one who syncs, and to nobody after.
    flushing: Option<JoinHandle<io::Result<()>>>,
    pieces: Option<Pieces>,
    /// The piece that is not complete.
    piece: PieceHasher,
    growth: Option<Arc<Growth>>,
}

/// What became of bytes that were added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// They are here, and every piece that they completed is right, as far as that is known.
    All,
    /// A piece is wrong. Neither it nor what came after it is here any more.
    WrongPiece {
        /// Where it begins.
        offset: u64,
    },
}

/// Written back this often, in bytes: what a last sync writes in a moment. Oftener, and those who follow a file would feel it.
const FLUSH_EVERY: u64 = 256 << 20;
/// Below this many bytes a thread that hashes while they are written costs more than it saves.
const WORTH_A_THREAD: usize = 256 * 1024;
/// What arrives is nobody else's: its pages may be on their way to clients while it is written.
const PRIVATE: u32 = 0o600;
/// A link is not followed. Nor is a FIFO waited for that is opened to read and to write; a file whose pages are still being sent is,
/// until its lease is given back, so that not to wait (`O_NONBLOCK`) must not be asked for.
const NO_LINK: i32 = OFlags::NOFOLLOW.bits() as i32;
/// So often something else is taken away.
const TRIES: u32 = 8;
/// The longest note that is read.
const LONGEST_NOTE: u64 = 64 << 10;

/// Two are busy with receiving and sending.
fn has_processors_to_spare() -> bool {
    static SPARE: OnceLock<bool> = OnceLock::new();
    *SPARE.get_or_init(|| std::thread::available_parallelism().is_ok_and(|count| count.get() > 2))
}

pub(super) fn path_of(dir: &Path, wanted: &Wanted) -> PathBuf {
    let digest = wanted.digests.strongest().unwrap_or_default();
    dir.join("staging").join(format!("{digest}-{}.part", wanted.size))
}

/// Whether a name in `staging/` is one that a transfer may resume.
pub(super) fn is_staged_name(name: &str) -> bool {
    let stem = name.strip_suffix(".part").or_else(|| name.strip_suffix(".json"));
    stem.and_then(|stem| stem.split_once('-')).is_some_and(|(digest, size)| {
        matches!(digest.len(), 40 | 64)
            && digest.bytes().all(|b| b.is_ascii_hexdigit())
            && size.parse::<u64>().is_ok()
    })
}

/// Whether the open file still has this name.
pub(super) fn is_named(file: &File, path: &Path) -> bool {
    are_same(file.metadata(), fs::metadata(path))
}

fn are_same(one: io::Result<fs::Metadata>, other: io::Result<fs::Metadata>) -> bool {
    matches!((one, other), (Ok(one), Ok(other)) if Identity::of(&one).is_same_file(&Identity::of(&other)))
}

/// Opens the file, made where there is none. What somebody else put in its place is not followed, not waited for, and goes.
fn open_plain(path: &Path) -> Result<File, LibraryError> {
    let failed = |error| LibraryError::io("open", path)(error);
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(PRIVATE).custom_flags(NO_LINK);
    for _ in 0..TRIES {
        let refused = match options.open(path) {
            Ok(file) => match file.metadata() {
                Ok(found) if found.is_file() => return Ok(file),
                Ok(_) => None,
                Err(error) => return Err(failed(error)),
            },
            Err(error) => Some(error),
        };
        match refused {
            Some(error) if fs::symlink_metadata(path).map_or(true, |found| found.is_file()) => {
                return Err(failed(error));
            }
            _ => remove_if_there(path)?,
        }
    }
    Err(failed(io::Error::other("somebody puts something else in its place")))
}

impl Staged {
    pub(super) fn open(library: Library, wanted: &Wanted) -> Result<Self, LibraryError> {
        let path = path_of(&library.inner.dir, wanted);
        let failed = |act| LibraryError::io(act, &path);
        let mut file = loop {
            let file = open_plain(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(fs::TryLockError::WouldBlock) => return Err(LibraryError::Busy { path }),
                Err(fs::TryLockError::Error(error)) => return Err(failed("lock")(error)),
            }
            // Between opening and locking, another transfer may have committed this very file: what we hold then is
            // published content, and must not be written to. The name says whether it is still a staged file.
            if is_named(&file, &path) {
                break file;
            }
        };
        let found = file.metadata().map_err(failed("look at"))?.len();
        if found > wanted.size {
            file.set_len(0).map_err(failed("empty"))?;
        }
        // What is there was written by us and may still be wrong after a power cut: the digest of the whole decides.
        let mut checker = Checker::new();
        let mut buffer = vec![0; 4 << 20];
        loop {
            match file.read(&mut buffer).map_err(failed("read"))? {
                0 => break,
                count => checker.update(&buffer[..count]),
            }
        }
        let needed = wanted.size - checker.seen();
        let (free, kept) = (library.free_for(needed)?, library.inner.settings.min_free);
        if needed > 0 && needed.saturating_add(kept) > free {
            return Err(LibraryError::Full { needed, free, kept });
        }
        let have = checker.seen();
        Ok(Self {
            library,
            path,
            file,
            have,
            checker,
            flushed: have,
            flushing: None,
            pieces: None,
            piece: PieceHasher::default(),
            growth: None,
        })
    }

    /// Checks every piece from now on, and those that are here; the first wrong one and all after it are dropped. Who reads
    /// the file while it arrives sees it grow.
    ///
    /// # Errors
    /// [`LibraryError::Io`].
    pub fn check_pieces(&mut self, pieces: Pieces, growth: Option<Arc<Growth>>) -> Result<(), LibraryError> {
        let right = (0..)
            .zip(self.checker.pieces())
            .take_while(|(index, found)| pieces.hash(*index) == Some(**found));
        let right = right.count();
        let checked = (right * PIECE_SIZE) as u64;
        self.checker.knows(&pieces);
        self.pieces = Some(pieces);
        if right < self.checker.pieces().len() {
            self.cut(checked)?;
        }
        let mut tail = vec![0; (self.have - checked) as usize];
        self.file.read_exact_at(&mut tail, checked).map_err(LibraryError::io("read", &self.path))?;
        self.piece = PieceHasher::default();
        self.piece.update(&tail);
        if let Some(growth) = &growth {
            growth.set_file(open_as_it_is(&self.path).map_err(LibraryError::io("open again", &self.path))?);
            growth.verified(checked);
        }
        self.growth = growth;
        Ok(())
    }

    /// Tells `growth` of the end.
    pub fn tell(&mut self, growth: Option<Arc<Growth>>) {
        self.growth = growth;
    }

    /// Whether somebody waits for its first bytes to be verified.
    pub fn is_waited_for(&self) -> bool {
        self.growth.as_ref().is_some_and(|growth| growth.is_waited_for())
    }

    /// Drops what is here from `offset` on, where a piece begins.
    fn cut(&mut self, offset: u64) -> Result<(), LibraryError> {
        let failed = |act| LibraryError::io(act, &self.path);
        self.file.set_len(offset).map_err(failed("cut"))?;
        self.file.seek(SeekFrom::Start(offset)).map_err(failed("cut"))?;
        if self.checker.seen() > offset {
            self.forget_hashes();
        }
        self.piece = PieceHasher::default();
        self.have = offset;
        self.flushed = self.flushed.min(offset);
        Ok(())
    }

    fn forget_hashes(&mut self) {
        self.checker = Checker::new();
        if let Some(pieces) = &self.pieces {
            self.checker.knows(pieces);
        }
    }

    /// The piece that was completed last is right, or it is dropped.
    fn check_piece(&mut self) -> Result<Appended, LibraryError> {
        let Some(pieces) = &self.pieces else { return Ok(Appended::All) };
        let index = (self.have - 1) / PIECE_SIZE as u64;
        if pieces.hash(index as usize) != Some(std::mem::take(&mut self.piece).finish()) {
            let offset = index * PIECE_SIZE as u64;
            self.cut(offset)?;
            return Ok(Appended::WrongPiece { offset });
        }
        if let Some(growth) = &self.growth {
            growth.verified(self.have);
        }
        Ok(Appended::All)
    }

    /// Bytes that are here.
    pub fn have(&self) -> u64 {
        self.have
    }

    /// Where they came from.
    pub fn note(&self) -> Option<Note> {
        let note = open_as_it_is(&self.path.with_extension("json")).ok()?;
        let mut json = Vec::new();
        let is_file = note.metadata().is_ok_and(|found| found.is_file());
        note.take(LONGEST_NOTE).read_to_end(&mut json).ok().filter(|_| is_file)?;
        serde_json::from_slice(&json).ok()
    }

    /// Remembers where they come from. Losing it costs no more than an unconditional range.
    ///
    /// # Errors
    /// [`LibraryError::Io`].
    pub fn set_note(&self, note: &Note) -> Result<(), LibraryError> {
        let path = self.path.with_extension("json");
        let json = serde_json::to_vec(note).unwrap_or_default();
        // Anew: what is there may be a link.
        remove_if_there(&path)?;
        let opened = File::options().write(true).create_new(true).mode(PRIVATE).open(&path);
        opened.and_then(|mut note| note.write_all(&json)).map_err(LibraryError::io("write", &path))
    }

    /// Adds the next bytes.
    ///
    /// # Errors
    /// [`LibraryError::Io`]; the file then has what it had before, or a part of the new bytes that is dropped.
    pub fn append(&mut self, mut bytes: &[u8]) -> Result<Appended, LibraryError> {
        while let Some(size) = self.pieces.as_ref().map(Pieces::size)
            && !bytes.is_empty()
        {
            let room = PIECE_SIZE - (self.have % PIECE_SIZE as u64) as usize;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.write(now)?;
            if (now.len() == room || self.have == size)
                && let wrong @ Appended::WrongPiece { .. } = self.check_piece()?
            {
                return Ok(wrong);
            }
            bytes = later;
        }
        self.write(bytes).map(|()| Appended::All)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), LibraryError> {
        let have = self.have;
        let before = self.piece.clone();
        if let Err(error) = self.write_and_hash(bytes) {
            // Without half-written bytes file and hash agree again.
            self.piece = before;
            let _ = self.file.set_len(have).and_then(|()| self.file.seek(SeekFrom::Start(have)).map(drop));
            return Err(LibraryError::io("write", &self.path)(error));
        }
        self.have += bytes.len() as u64;
        if self.pieces.is_none() {
            self.checker.update(bytes);
        }
        if self.have - self.flushed >= FLUSH_EVERY {
            self.flush()?;
        }
        Ok(())
    }

    /// The piece is hashed while its bytes are written: whoever waits for it waits for the slower of the two.
    fn write_and_hash(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (file, piece) = (&mut self.file, &mut self.piece);
        if self.pieces.is_none() {
            return file.write_all(bytes);
        }
        if bytes.len() < WORTH_A_THREAD || !has_processors_to_spare() {
            piece.update(bytes);
            return file.write_all(bytes);
        }
        std::thread::scope(|scope| {
            scope.spawn(|| piece.update(bytes));
            file.write_all(bytes)
        })
    }

    /// Sets the disk to work, unless it is still busy with what it was given before: what comes does not wait for it, and
    /// the end does.
    fn flush(&mut self) -> Result<(), LibraryError> {
        if self.flushing.as_ref().is_some_and(|flushing| !flushing.is_finished()) {
            return Ok(());
        }
        self.settle().map_err(LibraryError::io("sync", &self.path))?;
        let file = self.file.try_clone().map_err(LibraryError::io("sync", &self.path))?;
        let path = self.path.clone();
        self.flushing = Some(std::thread::spawn(move || {
            file.sync_data().inspect_err(|_| {
                // The kernel says so once, and holds for written what is not: nobody may go on with it, whoever hears of it.
                let _ = fs::remove_file(&path);
            })
        }));
        self.flushed = self.have;
        Ok(())
    }

    /// Waits for the disk.
    fn settle(&mut self) -> io::Result<()> {
        let Some(flushing) = self.flushing.take() else { return Ok(()) };
        flushing.join().unwrap_or_else(|_| Err(io::Error::other("the thread that syncs has died")))
    }

    /// Forgets all bytes. The file that had them is not written to any more: somebody may have been promised some of them, by
    /// this transfer or by an earlier one, and may be sending them still.
    ///
    /// # Errors
    /// [`LibraryError::Io`].
    pub fn rewind(&mut self) -> Result<(), LibraryError> {
        self.settle().map_err(LibraryError::io("sync", &self.path))?;
        if let Some(growth) = self.growth.take_if(|growth| growth.file().is_some()) {
            growth.fail(); // nothing follows
        }
        if self.have > 0 {
            self.begin_anew()?;
        }
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map_err(LibraryError::io("empty", &self.path))?;
        self.forget_hashes();
        self.piece = PieceHasher::default();
        (self.have, self.flushed) = (0, 0);
        remove_if_there(&self.path.with_extension("json"))
    }

    /// Goes on with a new file; whoever has the old one open keeps it.
    fn begin_anew(&mut self) -> Result<(), LibraryError> {
        let failed = |act| LibraryError::io(act, &self.path);
        fs::remove_file(&self.path).map_err(failed("remove"))?;
        let file = File::options().read(true).write(true).create_new(true).mode(PRIVATE).open(&self.path);
        let file = file.map_err(failed("create"))?;
        file.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => LibraryError::Busy { path: self.path.clone() },
            fs::TryLockError::Error(error) => failed("lock")(error),
        })?;
        self.file = file;
        Ok(())
    }

    /// Hashes what was not hashed as it came. Blocks for as long as that takes.
    ///
    /// # Errors
    /// [`LibraryError::Io`].
    pub fn catch_up(&mut self) -> Result<(), LibraryError> {
        let mut buffer = vec![0; (self.have - self.checker.seen()).min(4 << 20) as usize];
        while self.checker.seen() < self.have {
            let count = (self.have - self.checker.seen()).min(buffer.len() as u64) as usize;
            let part = &mut buffer[..count];
            self.file
                .read_exact_at(part, self.checker.seen())
                .map_err(LibraryError::io("read", &self.path))?;
            self.checker.update(part);
        }
        Ok(())
    }

    /// Compares what is here with what was wanted, after [`Self::catch_up`]. Whatever the answer, what follows is
    /// [`Self::commit`] or [`Self::rewind`]: nothing can be added any more.
    ///
    /// # Errors
    /// The [`Mismatch`].
    pub fn check(&mut self, wanted: &Wanted) -> Result<Verified, Mismatch> {
        let verified = std::mem::take(&mut self.checker).finish(wanted)?;
        // Right, if not durable yet: nobody who reads it meanwhile has to wait for the disk.
        if let Some(growth) = &self.growth {
            if growth.file().is_none()
                && let Ok(file) = File::open(&self.path)
                && are_same(self.file.metadata(), file.metadata())
            {
                growth.set_file(file);
            }
            if growth.file().is_some() {
                growth.verified(wanted.size);
            }
        }
        Ok(verified)
    }

    /// Makes the bytes visible under their digest. Where they are already, this copy is dropped.
    ///
    /// # Errors
    /// [`LibraryError::Io`]. After a failed sync the staged bytes are dropped: what the disk really has is unknown.
    pub fn commit(mut self, verified: Verified) -> Result<Stored, LibraryError> {
        let print = verified.fingerprint();
        let stored = Stored { digest: print.sha256, size: print.size };
        let blob = self.library.blob(stored.digest);
        let settled = self.settle();
        let failed = |act| LibraryError::io(act, &self.path);
        // Whoever has found that the disk failed has taken the name away, and by now it may be another transfer's.
        settled.map_err(failed("sync"))?;
        if !is_named(&self.file, &self.path) {
            return Err(failed("commit")(io::Error::other("its name in `staging` was taken away")));
        }
        if let Err(error) = self.file.sync_all() {
            let _ = fs::remove_file(&self.path);
            return Err(failed("sync")(error));
        }
        let length = self.file.metadata().map_err(failed("look at"))?.len();
        if length != print.size {
            let _ = fs::remove_file(&self.path);
            let source = io::Error::other("it changed while it was staged");
            return Err(failed("commit")(source));
        }
        let side = self.library.fanned("hashes", stored.digest);
        let is_there = match self.library.open_content(stored.digest) {
            Err(LibraryError::Corrupt { .. }) => false,
            there => there?.is_some_and(|there| there.size == stored.size),
        };
        let stays = is_there && !self.library.inner.doubts.any(stored.digest);
        if !stays {
            // Before there are new hashes, which would vouch for it after a power cut.
            remove_if_there(&blob)?;
            sync_folder_if_there(&blob)?;
        }
        sidecar::write(&side, print)?;
        if stays {
            fs::remove_file(&self.path).map_err(failed("remove"))?;
        } else {
            make_read_only(&self.file, &self.path)?;
            let folder = blob.parent().unwrap_or(&blob);
            fs::create_dir_all(folder).map_err(LibraryError::io("create", folder))?;
            fs::rename(&self.path, &blob).map_err(LibraryError::io("rename to", &blob))?;
            sync_folder(&blob)?;
            sync_folder(folder)?;
            // A clock may have been put back since it was written.
            if let Ok(until) = self.file.metadata().and_then(|found| found.modified()) {
                let _ = sidecar::vouch(&side, until); // then it is read once more
            }
            self.library.inner.doubts.end(stored.digest);
        }
        remove_if_there(&self.path.with_extension("json"))?;
        let Self { library, file, growth, .. } = self;
        // Nobody writes to it any more, so that whoever sends it may take a lease on it.
        drop(file);
        if let Some(growth) = growth
            && let Ok(Some(there)) = library.open_content(stored.digest)
        {
            growth.whole(there.file);
        }
        Ok(stored)
    }
}
