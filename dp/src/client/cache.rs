//! What a client keeps: contents with what is remembered of each, until there is too much of it.
//!
//! ```text
//! blobs/ hashes/ staging/ …   the content library
//! cards/<sha256>              name, whether it is private, when it was used last
//! pins/<sha256>.<holder>      somebody needs it: it is not removed
//! files/<name>                where it is placed for people
//! ```
//! A card is written before its content is fetched: what came as private is never taken for anything else.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use catalog::digest::Sha256Digest;
use catalog::id::FileName;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::library::{Library, LibraryError, Settings};

/// What was used within this time stays: another process may be about to use it.
const YOUNG: Duration = Duration::from_secs(600);
/// The longest name of who pins.
const LONGEST_HOLDER: usize = 64;

/// How much is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheLimits {
    /// Bytes of all contents; none if not given.
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

    /// Whether a content must not be shared: it came as private once, or nobody can say.
    pub fn is_private(&self, content: Sha256Digest) -> bool {
        self.card(content).map_or(true, |card| card.is_some_and(|card| card.private))
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
        let private = private || self.is_private(content);
        let card = Card { file_name: file_name.clone(), private, used: now };
        let path = self.card_path(content);
        let failed = |error| LibraryError::io("write", &path)(error);
        // Another process may write the same card now.
        let staged = path.with_extension(format!("{}.tmp", std::process::id()));
        let json = serde_json::to_vec(&card).unwrap_or_default();
        let written = fs::File::create(&staged).and_then(|mut file| {
            file.write_all(&json)?;
            file.sync_all()
        });
        written.and_then(|()| fs::rename(&staged, &path)).map_err(|error| {
            let _ = fs::remove_file(&staged);
            failed(error)
        })
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
        fs::write(&path, b"").map_err(LibraryError::io("write", &path))
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
        let shown = |(content, size): (Sha256Digest, u64)| {
            let card = self.card(content);
            let private = card.as_ref().map_or(true, |card| card.as_ref().is_some_and(|card| card.private));
            let card = card.ok().flatten();
            CachedContent {
                content,
                size,
                file_name: card.as_ref().map(|card| card.file_name.clone()),
                private,
                used: card.map(|card| card.used),
                pinned_by: pins.iter().filter(|(of, _)| *of == content).map(|(_, by)| by.clone()).collect(),
            }
        };
        let mut all: Vec<_> = self.library.contents()?.into_iter().map(shown).collect();
        all.sort_by_key(|one| std::cmp::Reverse(one.used));
        Ok(all)
    }

    /// Cards of contents that are not here, and that nobody has fetched for a while.
    fn forget_what_never_came(&self, all: &[CachedContent], now: Timestamp) -> Result<(), LibraryError> {
        let folder = self.dir.join("cards");
        for entry in fs::read_dir(&folder).map_err(LibraryError::io("list", &folder))?.filter_map(Result::ok)
        {
            let content = entry.file_name().to_str().and_then(|name| name.parse::<Sha256Digest>().ok());
            let Some(content) = content.filter(|content| !all.iter().any(|one| one.content == *content))
            else {
                continue;
            };
            let card = self.card(content).ok().flatten();
            if card.is_none_or(|card| idle(Some(card.used), now) >= YOUNG) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    /// Removes what is beyond `limits`, or everything, but for what is pinned or was used a moment ago. `coming` bytes are
    /// about to be fetched. `dry_run`: only says so.
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
        let all = self.list()?;
        let removed = choose(&all, limits, coming, everything, now);
        if dry_run {
            return Ok(removed);
        }
        for Removed { content: gone, .. } in &removed {
            self.library.remove(gone.content)?;
            let stays = |name: &FileName| {
                let gone =
                    |one: &CachedContent| removed.iter().any(|other| other.content.content == one.content);
                all.iter().any(|one| one.file_name.as_ref() == Some(name) && !gone(one))
            };
            if let Some(name) = gone.file_name.as_ref().filter(|name| !stays(name)) {
                let _ = fs::remove_file(self.files().join(name.as_str())); // it may have been taken away before
            }
            let _ = fs::remove_file(self.card_path(gone.content)); // without its content it says nothing
        }
        self.forget_what_never_came(&all, now)?;
        Ok(removed)
    }
}

/// What is to go. Pure.
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
    let mut removed = Vec::new();
    for one in free {
        let why = if everything {
            Why::All
        } else if limits.age.is_some_and(|age| idle(one) >= age) {
            Why::Age
        } else if limits.size.is_some_and(|size| bytes > size) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::tests::wanted;

    const HOUR: i64 = 3_600;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time of the test")
    }

    fn one(seed: u8, size: u64, used: i64, pinned: bool) -> CachedContent {
        CachedContent {
            content: Sha256Digest([seed; 32]),
            size,
            file_name: None,
            private: false,
            used: (used > 0).then(|| at(used)),
            pinned_by: if pinned { vec!["ts".to_owned()] } else { Vec::new() },
        }
    }

    #[test]
    fn what_was_used_least_recently_goes_first_and_what_is_needed_stays() {
        let now = at(100 * HOUR);
        let all = [
            one(1, 10, 99 * HOUR, false),
            one(2, 10, 50 * HOUR, false),
            one(3, 10, 20 * HOUR, true),
            one(4, 10, 0, false),
            one(5, 10, 100 * HOUR - 60, false),
            one(6, 10, 101 * HOUR, false),
        ];
        let limits = |size: Option<u64>, hours: Option<u64>| CacheLimits {
            size,
            age: hours.map(|hours| Duration::from_secs(hours * 3_600)),
        };
        for (what, limits, coming, everything, expected) in [
            ("no limits", limits(None, None), 1_000, false, ""),
            ("room for all", limits(Some(60), None), 0, false, ""),
            ("one too many", limits(Some(59), None), 0, false, "4 size"),
            ("something comes", limits(Some(60), None), 11, false, "4 size, 2 size"),
            ("no room at all", limits(Some(0), None), 0, false, "4 size, 2 size, 1 size"),
            ("too old", limits(None, Some(40)), 0, false, "4 age, 2 age"),
            ("both", limits(Some(30), Some(60)), 0, false, "4 age, 2 size, 1 size"),
            ("everything", limits(None, None), 0, true, "4 all, 2 all, 1 all"),
        ] {
            let removed = choose(&all, limits, coming, everything, now);
            let text = |one: &Removed| {
                format!("{} {}", one.content.content.0[0], format!("{:?}", one.why).to_lowercase())
            };
            assert_eq!(removed.iter().map(text).collect::<Vec<_>>().join(", "), expected, "{what}");
        }
    }

    #[test]
    fn what_is_removed_leaves_nothing_behind_and_what_was_private_stays_so() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), 0).unwrap();
        let store = |bytes: &[u8]| {
            let path = folder.path().join("arrives");
            fs::write(&path, bytes).unwrap();
            cache.library.ingest(&path, &wanted(bytes)).unwrap().digest()
        };
        let (first, second, third) = (store(b"first"), store(b"second"), store(b"third"));
        let (name, other): (FileName, FileName) = ("a.esd".parse().unwrap(), "b.esd".parse().unwrap());
        fs::create_dir(cache.files()).unwrap();
        for (content, name, private) in [(first, &name, true), (second, &name, false), (third, &other, false)]
        {
            cache.note(content, name, private, at(HOUR)).unwrap();
            cache.library.place(content, &cache.files().join(name.as_str())).unwrap();
        }
        cache.note(first, &name, false, at(HOUR)).unwrap();
        assert!(cache.is_private(first) && !cache.is_private(second));
        assert!(!cache.is_private(Sha256Digest([9; 32])), "nobody ever said so");
        fs::write(cache.card_path(third), "{").unwrap();
        assert!(cache.is_private(third), "who cannot say does not share");
        cache.note(third, &other, false, at(HOUR)).unwrap();
        assert!(cache.is_private(third));

        cache.pin(second, "run-7").unwrap();
        cache.pin(second, "run-8").unwrap();
        cache.unpin(second, "run-8").unwrap();
        cache.unpin(second, "run-8").unwrap();
        assert!(cache.pin(second, "../x").is_err() && cache.pin(second, "").is_err());
        let now = at(9 * HOUR);
        let would = cache.clean(CacheLimits::default(), 0, true, now, true).unwrap();
        let gone = cache.clean(CacheLimits::default(), 0, true, now, false).unwrap();
        assert_eq!((would.len(), &would), (2, &gone));
        assert_eq!(cache.list().unwrap().len(), 1);
        assert_eq!(cache.list().unwrap()[0].pinned_by, ["run-7"]);
        assert!(cache.files().join("a.esd").exists(), "another content has that name now");
        assert!(!cache.files().join("b.esd").exists());
        cache.unpin(second, "run-7").unwrap();
        assert_eq!(cache.clean(CacheLimits::default(), 0, true, now, false).unwrap().len(), 1);
        for room in ["cards", "pins", "files"] {
            assert_eq!(fs::read_dir(folder.path().join(room)).unwrap().count(), 0, "{room}");
        }
        assert_eq!(cache.library.contents().unwrap(), []);
    }
}
