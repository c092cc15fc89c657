//! What a client keeps: contents with what is remembered of each, until there is too much of it.
//!
//! ```text
//! blobs/ hashes/ staging/ …   the content library
//! cards/<sha256>              name, whether it is private, when it was used last
//! pins/<sha256>.<holder>      somebody needs it: it is not removed
//! answers/<sha256>            what the site said last of where it is ([`super::answers`])
//! files/<name>                where it is placed for people
//! cache.lock                  held by whoever changes cards and pins, or removes
//! ```
//! A card is written before its content is fetched, and again right before that appears: what came as private is never taken
//! for anything else. What has no card is private: nobody says that it may be shared.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use catalog::digest::Sha256Digest;
use catalog::id::FileName;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::answers::Answers;
use crate::library::{Library, LibraryError, Part, Settings, whole};

/// What was used within this time stays: another process may be about to use it.
const YOUNG: Duration = Duration::from_secs(600);
/// The longest name of who pins.
const LONGEST_HOLDER: usize = 64;

/// How much is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheLimits {
    /// Bytes of all contents, and of what has arrived of others; none if not given.
    pub size: Option<u64>,
    /// How long what nobody uses stays; for ever if not given.
    pub age: Option<Duration>,
}

/// What is remembered of a content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Card {
    file_name: FileName,
    /// It is never shared.
    private: bool,
    used: Timestamp,
}

/// A content as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedContent {
    /// Its digest.
    pub content: Sha256Digest,
    /// Bytes.
    pub size: u64,
    /// Its name, if that is known.
    pub file_name: Option<FileName>,
    /// It came as private: it is never shared.
    pub private: bool,
    /// When it was used last, if that is known.
    pub used: Option<Timestamp>,
    /// Who needs it.
    pub pinned_by: Vec<String>,
    /// Only a part of it has arrived.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

/// Why a content is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// Nobody used it for too long.
    Age,
    /// There is too much, and it was used least recently.
    Size,
    /// Somebody wants the whole cache empty.
    All,
}

/// A content that was removed, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// What it was.
    #[serde(flatten)]
    pub content: CachedContent,
    /// Why.
    pub why: Why,
}

/// The content library of a client, with what is remembered of it.
#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
    /// The contents themselves.
    pub library: Library,
}

impl Cache {
    /// Opens or creates the one in `dir`.
    ///
    /// # Errors
    /// [`LibraryError::Io`].
    pub fn open(dir: &Path, min_free: u64) -> Result<Self, LibraryError> {
        // Private content is in here, under names that are its digests.
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(LibraryError::io("create", dir))?;
        let library = Library::open(dir, Settings { min_free })?;
        for room in ["cards", "pins"] {
            let path = dir.join(room);
            fs::create_dir_all(&path).map_err(LibraryError::io("create", &path))?;
        }
        Ok(Self { dir: dir.to_owned(), library })
    }

    /// Where contents are placed for people.
    pub fn files(&self) -> PathBuf {
        self.dir.join("files")
    }

    fn card_path(&self, content: Sha256Digest) -> PathBuf {
        self.dir.join("cards").join(content.to_string())
    }

    /// The card; `Err` where there is one that cannot be read.
    fn card(&self, content: Sha256Digest) -> Result<Option<Card>, ()> {
        match fs::read(self.card_path(content)) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(drop),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(_) => Err(()),
        }
    }

    /// Between two processes: a card that is being written is not removed, and what is being pinned stays.
    fn lock(&self) -> Result<File, LibraryError> {
        let path = self.dir.join("cache.lock");
        let failed = |act| LibraryError::io(act, &path);
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(failed("open"))?;
        file.lock().map_err(failed("lock"))?;
        Ok(file)
    }

    /// Whether a content must not be shared: it came as private once, or nobody can say.
    pub fn is_private(&self, content: Sha256Digest) -> bool {
        is_private(&self.card(content))
    }

    /// Remembers a content that is used at `now`. What was private once stays so, whoever says what later.
    ///
    /// # Errors
    /// [`LibraryError::Io`].
    pub fn note(
        &self,
        content: Sha256Digest,
        file_name: &FileName,
        private: bool,
        now: Timestamp,
    ) -> Result<(), LibraryError> {
        let _held = self.lock()?;
        let before = self.card(content);
        let private = private || (before != Ok(None) && is_private(&before));
        let card = Card { file_name: file_name.clone(), private, used: now };
        let path = self.card_path(content);
        let staged = path.with_extension("tmp");
        let json = serde_json::to_vec(&card).unwrap_or_default();
        let written = File::create(&staged).and_then(|mut file| {
            file.write_all(&json)?;
            file.sync_all()?;
            fs::rename(&staged, &path)?;
            File::open(self.dir.join("cards"))?.sync_all()
        });
        written.map_err(|error| {
            let _ = fs::remove_file(&staged);
            LibraryError::io("write", &path)(error)
        })
    }

    /// What the site said of where contents are.
    pub(super) fn answers(&self) -> Answers {
        Answers::of(&self.dir)
    }

    /// Remembers that a content is used at `now`, where anything is remembered of it.
    ///
    /// # Errors
    /// [`LibraryError::Io`].
    pub fn touch(&self, content: Sha256Digest, now: Timestamp) -> Result<(), LibraryError> {
        match self.card(content) {
            Ok(Some(card)) => self.note(content, &card.file_name, card.private, now),
            _ => Ok(()),
        }
    }

    /// Removes a content that is not what it should be, and the name under which it was placed. What is remembered of it
    /// stays: it is about to be fetched again.
    ///
    /// # Errors
    /// [`LibraryError::Io`].
    pub fn discard(&self, content: Sha256Digest) -> Result<(), LibraryError> {
        if let Ok(Some(card)) = self.card(content) {
            let _ = fs::remove_file(self.files().join(card.file_name.as_str())); // it may be gone already
        }
        self.library.remove(content)
    }

    /// Keeps a content until `holder` needs it no more, over restarts; it need not be there yet.
    ///
    /// # Errors
    /// [`LibraryError::Io`], also for a holder that is no plain word of at most 64 letters, digits and hyphens.
    pub fn pin(&self, content: Sha256Digest, holder: &str) -> Result<(), LibraryError> {
        let path = self.pin_path(content, holder)?;
        let _held = self.lock()?;
        whole::write(&path, b"")
    }

    /// `holder` needs it no more.
    ///
    /// # Errors
    /// As [`Cache::pin`].
    pub fn unpin(&self, content: Sha256Digest, holder: &str) -> Result<(), LibraryError> {
        let path = self.pin_path(content, holder)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(LibraryError::io("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Whoever of the holders is `over` needs nothing any more.
    ///
    /// # Errors
    /// As [`Cache::pin`].
    pub fn release(&self, over: impl Fn(&str) -> bool) -> Result<(), LibraryError> {
        for (content, holder) in self.pins()?.into_iter().filter(|(_, holder)| over(holder)) {
            self.unpin(content, &holder)?;
        }
        Ok(())
    }

    fn pin_path(&self, content: Sha256Digest, holder: &str) -> Result<PathBuf, LibraryError> {
        let plain = (1..=LONGEST_HOLDER).contains(&holder.len())
            && holder.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let path = self.dir.join("pins").join(format!("{content}.{holder}"));
        if plain {
            Ok(path)
        } else {
            Err(LibraryError::io("write", &path)(std::io::ErrorKind::InvalidInput.into()))
        }
    }

    /// Who pins what.
    fn pins(&self) -> Result<Vec<(Sha256Digest, String)>, LibraryError> {
        let folder = self.dir.join("pins");
        let entries = fs::read_dir(&folder).map_err(LibraryError::io("list", &folder))?;
        let pin = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().ok()?;
            let (content, holder) = name.split_once('.')?;
            Some((content.parse().ok()?, holder.to_owned()))
        };
        let mut pins: Vec<_> = entries.filter_map(Result::ok).filter_map(pin).collect();
        pins.sort();
        Ok(pins)
    }

    /// Every content, those used last first.
    ///
    /// # Errors
    /// [`LibraryError::Io`].
    pub fn list(&self) -> Result<Vec<CachedContent>, LibraryError> {
        let pins = self.pins()?;
        let mut all: Vec<_> = self
            .library
            .contents()?
            .into_iter()
            .map(|(content, size)| self.shown(content, size, &pins))
            .collect();
        all.sort_by_key(|one| std::cmp::Reverse(one.used));
        Ok(all)
    }

    fn shown(&self, content: Sha256Digest, size: u64, pins: &[(Sha256Digest, String)]) -> CachedContent {
        let card = self.card(content);
        let private = is_private(&card);
        let card = card.ok().flatten();
        CachedContent {
            content,
            size,
            file_name: card.as_ref().map(|card| card.file_name.clone()),
            private,
            used: card.map(|card| card.used),
            pinned_by: pins.iter().filter(|(of, _)| *of == content).map(|(_, by)| by.clone()).collect(),
            partial: false,
        }
    }

    /// What has arrived in part, and nobody works on. It was used when its last byte came, if not later.
    fn parts(&self, arriving: Vec<Part>) -> Result<Vec<(CachedContent, Part)>, LibraryError> {
        let pins = self.pins()?;
        let shown = |part: Part| {
            let content = part.sha256.filter(|_| !self.library.is_at_work_on(&part))?;
            let came = Timestamp::try_from(part.modified).ok();
            let card = self.shown(content, part.bytes, &pins);
            let used = card.used.max(came);
            Some((CachedContent { used, partial: true, ..card }, part))
        };
        Ok(arriving.into_iter().filter_map(shown).collect())
    }

    /// Cards of contents that are not here, and that nobody has fetched for a while. What is staged is on its way, however
    /// long that takes.
    fn forget_what_never_came(
        &self,
        all: &[CachedContent],
        staged: &HashSet<Sha256Digest>,
        now: Timestamp,
    ) -> Result<(), LibraryError> {
        let folder = self.dir.join("cards");
        for entry in fs::read_dir(&folder).map_err(LibraryError::io("list", &folder))?.filter_map(Result::ok)
        {
            let content = entry.file_name().to_str().and_then(|name| name.parse::<Sha256Digest>().ok());
            let here = |content: &Sha256Digest| {
                all.iter().any(|one| one.content == *content) || staged.contains(content)
            };
            let Some(content) = content.filter(|content| !here(content)) else { continue };
            let card = self.card(content).ok().flatten();
            if card.is_none_or(|card| idle(Some(card.used), now) >= YOUNG) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    /// Removes what is beyond `limits`, or everything, but for what is pinned or was used a moment ago, and parts of contents that
    /// somebody works on. `coming` bytes are about to be fetched. `dry_run`: only says so.
    ///
    /// # Errors
    /// [`LibraryError::Io`].
    pub fn clean(
        &self,
        limits: CacheLimits,
        coming: u64,
        everything: bool,
        now: Timestamp,
        dry_run: bool,
    ) -> Result<Vec<Removed>, LibraryError> {
        let _held = if dry_run { None } else { Some(self.lock()?) };
        // In this order: what is staged now and appears meanwhile is seen at least once.
        let arriving = self.library.parts()?;
        let staged: HashSet<_> = arriving.iter().filter_map(|part| part.sha256).collect();
        let parts = self.parts(arriving)?;
        let all = self.list()?;
        let with_parts: Vec<_> = all.iter().chain(parts.iter().map(|(shown, _)| shown)).cloned().collect();
        // What the disk could not hold if all of this went makes nothing go.
        let most = with_parts.iter().map(|one| one.size).sum::<u64>().saturating_add(self.library.free()?);
        let limits = CacheLimits { size: limits.size.filter(|_| coming <= most), ..limits };
        let mut removed = choose(&with_parts, limits, coming, everything, now);
        if dry_run {
            return Ok(removed);
        }
        let (partial, whole): (Vec<_>, Vec<_>) = removed.iter().cloned().partition(|one| one.content.partial);
        for Removed { content: gone, .. } in partial {
            let part = parts.iter().find(|(shown, _)| shown.content == gone.content).map(|(_, part)| part);
            // A transfer may have begun meanwhile.
            if !part.map_or(Ok(false), |part| self.library.drop_part(part))? {
                removed.retain(|one| one.content != gone);
            }
        }
        for Removed { content: gone, .. } in &whole {
            self.library.remove(gone.content)?;
            let stays = |name: &FileName| {
                let gone =
                    |one: &CachedContent| whole.iter().any(|other| other.content.content == one.content);
                all.iter().any(|one| one.file_name.as_ref() == Some(name) && !gone(one))
            };
            if let Some(name) = gone.file_name.as_ref().filter(|name| !stays(name)) {
                let _ = fs::remove_file(self.files().join(name.as_str())); // it may have been taken away before
            }
            let _ = fs::remove_file(self.card_path(gone.content)); // without its content it says nothing
        }
        self.forget_what_never_came(&all, &staged, now)?;
        Ok(removed)
    }
}

fn is_private(card: &Result<Option<Card>, ()>) -> bool {
    !matches!(card, Ok(Some(card)) if !card.private)
}

/// What is to go. Where what comes could not have room within the limit, nothing goes for it: its size may be anybody's word. Pure.
fn choose(
    all: &[CachedContent],
    limits: CacheLimits,
    coming: u64,
    everything: bool,
    now: Timestamp,
) -> Vec<Removed> {
    let idle = |one: &CachedContent| idle(one.used, now);
    let mut free: Vec<_> = all.iter().filter(|one| one.pinned_by.is_empty() && idle(one) >= YOUNG).collect();
    free.sort_by_key(|one| (std::cmp::Reverse(idle(one)), one.content));
    let mut bytes = all.iter().map(|one| one.size).sum::<u64>().saturating_add(coming);
    let stays = bytes.saturating_sub(free.iter().map(|one| one.size).sum::<u64>());
    let limit = limits.size.filter(|size| coming == 0 || stays <= *size);
    let mut removed = Vec::new();
    for one in free {
        let why = if everything {
            Why::All
        } else if limits.age.is_some_and(|age| idle(one) >= age) {
            Why::Age
        } else if limit.is_some_and(|size| bytes > size) {
            Why::Size
        } else {
            continue;
        };
        bytes = bytes.saturating_sub(one.size);
        removed.push(Removed { content: one.clone(), why });
    }
    removed
}

/// How long nobody used it. A clock that was set back makes it young.
fn idle(used: Option<Timestamp>, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(used.unwrap_or(Timestamp::UNIX_EPOCH))).unwrap_or_default()
}
