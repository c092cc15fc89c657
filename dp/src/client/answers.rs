//! The last answer of the site about each content, for when it cannot be asked: points and peers serve without it, and the
//! digest says whether they give what was wanted.
//!
//! An answer is kept until the site says that there is none any more (404), for a week at most; the newest [`MOST`] of them.
//! What the site said of the pieces of the content is kept as long: a file beside it, which is the name of the site, a line break
//! and the hash file as it came.
//! Only silence and a site in trouble make it count: a refusal is an answer.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use catalog::digest::Sha256Digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Allowed, Expected};
use crate::library::{LibraryError, whole};
use crate::server::{Location, LocationKind, LocationsAnswer};

/// Answers that are kept.
const MOST: usize = 256;
/// The most bytes of one; a larger one is not kept.
const LARGEST: usize = 64 << 10;
/// The most bytes of what is kept of pieces: enough for contents of 16 GiB.
const LARGEST_PIECES: usize = 1 << 20;
/// How the names of such files end.
const PIECES: &str = "pieces";
/// Points that are asked for what the site never spoke of.
const MOST_GUESSED: usize = 8;
/// How long one is believed.
const BELIEVED: Duration = Duration::from_secs(7 * 86_400);

/// The folder of answers.
#[derive(Debug, Clone)]
pub(super) struct Answers(PathBuf);

/// An answer as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// The site that gave it: another one knows other places.
    site: String,
    /// When it did.
    at: Timestamp,
    answer: LocationsAnswer,
}

impl Answers {
    /// Those in the folder of a client.
    pub(super) fn of(dir: &Path) -> Self {
        Self(dir.join("answers"))
    }

    fn path(&self, content: Sha256Digest) -> PathBuf {
        self.0.join(content.to_string())
    }

    /// Keeps what `site` said, in place of what it said before.
    ///
    /// # Errors
    /// [`LibraryError::Io`].
    pub(super) fn keep(
        &self,
        site: &str,
        answer: &LocationsAnswer,
        now: Timestamp,
    ) -> Result<(), LibraryError> {
        let kept = Kept { site: site.to_owned(), at: now, answer: answer.clone() };
        let json = serde_json::to_vec(&kept).unwrap_or_default();
        if json.is_empty() || json.len() > LARGEST {
            self.forget(answer.content);
            return Ok(());
        }
        whole::write(&self.path(answer.content), &json)?;
        self.tidy();
        Ok(())
    }

    fn pieces_path(&self, content: Sha256Digest) -> PathBuf {
        self.path(content).with_extension(PIECES)
    }

    /// Keeps what `site` said of the pieces of a content, beside what it said of the content.
    ///
    /// # Errors
    /// [`LibraryError::Io`].
    pub(super) fn keep_pieces(
        &self,
        site: &str,
        content: Sha256Digest,
        hash_file: &[u8],
    ) -> Result<(), LibraryError> {
        if hash_file.len() > LARGEST_PIECES || !self.path(content).exists() {
            return Ok(());
        }
        whole::write(&self.pieces_path(content), &[site.as_bytes(), b"\n", hash_file].concat())
    }

    /// What `site` said of the pieces of `content`, where its answer is still believed.
    pub(super) fn find_pieces(&self, site: &str, content: Sha256Digest, now: Timestamp) -> Option<Vec<u8>> {
        self.find(site, content, now)?;
        let kept = fs::read(self.pieces_path(content)).ok()?;
        kept.strip_prefix(site.as_bytes())?.strip_prefix(b"\n").map(<[u8]>::to_vec)
    }

    /// There is no such content any more.
    pub(super) fn forget(&self, content: Sha256Digest) {
        for path in [self.path(content), self.pieces_path(content)] {
            let _ = fs::remove_file(path); // it may never have been there
        }
    }

    /// What `site` said about `content`, and how long ago. What cannot be read, and what is too old, was never said.
    pub(super) fn find(
        &self,
        site: &str,
        content: Sha256Digest,
        now: Timestamp,
    ) -> Option<(LocationsAnswer, Duration)> {
        let (answer, age) = read(&self.path(content), site, now)?;
        (answer.content == content).then_some((answer, age))
    }

    /// Where `content` may be although `site` never spoke of it: at the points that it named for other contents, those it named
    /// last first. Of what is private only those count that it named for something private.
    pub(super) fn guess(
        &self,
        site: &str,
        content: Sha256Digest,
        expected: &Expected,
        allowed: Allowed,
        now: Timestamp,
    ) -> Option<LocationsAnswer> {
        let entries = self.entries();
        let mut all: Vec<_> = entries.iter().filter_map(|entry| read(&entry.path(), site, now)).collect();
        all.sort_by_key(|(answer, age)| (*age, answer.content));
        let fitting = all.into_iter().filter(|(answer, _)| answer.private || !expected.private);
        let mut locations: Vec<Location> = Vec::new();
        for (answer, _) in fitting {
            let path = format!("/content/{}", answer.content);
            for place in allowed.of(answer).locations {
                let Some(base) = place.url.strip_suffix(&path) else { continue }; // the site itself is silent
                let url = format!("{base}/content/{content}");
                let named = place.kind == LocationKind::DistributionPoint;
                if named && locations.len() < MOST_GUESSED && locations.iter().all(|known| known.url != url) {
                    locations.push(Location { url, ..place });
                }
            }
        }
        (!locations.is_empty()).then(|| LocationsAnswer {
            content,
            size: expected.size,
            sha1: None,
            file_name: expected.file_name.clone(),
            private: expected.private,
            groups: Vec::new(),
            locations,
            later: Vec::new(),
            out: Vec::new(),
            not_told: 0,
            expires_in_seconds: 0,
        })
    }

    /// The files of answers, without what stands beside them.
    fn entries(&self) -> Vec<fs::DirEntry> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().filter_map(Result::ok);
        entries.filter(|one| one.path().extension().is_none_or(|end| end != PIECES)).collect()
    }

    /// The oldest go where there are too many. Whatever else is in the folder goes with them: nobody else writes there.
    fn tidy(&self) {
        let entries = self.entries();
        let Some(excess) = entries.len().checked_sub(MOST).filter(|excess| *excess > 0) else { return };
        let written = |entry: &fs::DirEntry| entry.metadata().and_then(|found| found.modified());
        let mut all: Vec<_> = entries
            .iter()
            .map(|entry| (written(entry).unwrap_or(SystemTime::UNIX_EPOCH), entry.path()))
            .collect();
        all.sort();
        for (_, path) in all.into_iter().take(excess) {
            let _ = fs::remove_file(path.with_extension(PIECES)); // it may never have been there
            let _ = fs::remove_file(path);
        }
    }
}

/// What is kept in a file of what `site` said, and how old it is.
fn read(path: &Path, site: &str, now: Timestamp) -> Option<(LocationsAnswer, Duration)> {
    let kept: Kept = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    // A clock that was put back makes it young.
    let age = Duration::try_from(now.duration_since(kept.at)).unwrap_or_default();
    (kept.site == site && age <= BELIEVED).then_some((kept.answer, age))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(number: u16, url: &str) -> LocationsAnswer {
        let mut digest = [0; 32];
        digest[..2].copy_from_slice(&number.to_be_bytes());
        LocationsAnswer {
            content: Sha256Digest(digest),
            size: 1,
            sha1: None,
            file_name: "x.esd".parse().expect("a name"),
            private: true,
            groups: Vec::new(),
            locations: vec![Location {
                kind: LocationKind::DistributionPoint,
                name: "dp".to_owned(),
                url: url.to_owned(),
                why: String::new(),
                reason: String::new(),
            }],
            later: Vec::new(),
            out: Vec::new(),
            not_told: 0,
            expires_in_seconds: 1,
        }
    }

    fn after(hours: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + hours * 3_600).expect("a time")
    }

    #[test]
    fn an_answer_is_believed_for_a_week_of_its_own_site() {
        let folder = tempfile::tempdir().unwrap();
        let answers = Answers::of(folder.path());
        let told = answer(1, "http://dp/content/x");
        assert_eq!(answers.find("site", told.content, after(0)), None);
        answers.keep("site", &told, after(0)).unwrap();
        for (site, hours, expected) in [
            ("site", 0, Some(0)),
            ("site", 168, Some(168)),
            ("site", 169, None),
            ("site", -1, Some(0)),
            ("other", 0, None),
        ] {
            let found = answers.find(site, told.content, after(hours));
            let age = found.map(|(found, age)| {
                assert_eq!(found, told);
                age.as_secs() / 3_600
            });
            assert_eq!(age, expected, "{site} {hours}");
        }
        fs::write(answers.path(told.content), b"{").unwrap();
        assert_eq!(answers.find("site", told.content, after(0)), None, "half an answer is none");
        answers.keep("site", &told, after(0)).unwrap();
        answers.forget(told.content);
        answers.forget(told.content);
        assert_eq!(answers.find("site", told.content, after(0)), None);
    }

    #[test]
    fn pieces_are_believed_with_the_answer_beside_them() {
        let folder = tempfile::tempdir().unwrap();
        let answers = Answers::of(folder.path());
        let (told, hashes) = (answer(1, "http://dp/content/x"), b"hashes\nof pieces".to_vec());
        answers.keep_pieces("site", told.content, &hashes).unwrap();
        assert_eq!(answers.find_pieces("site", told.content, after(0)), None, "there is no answer");
        answers.keep("site", &told, after(0)).unwrap();
        answers.keep_pieces("site", told.content, &vec![b'x'; LARGEST_PIECES + 1]).unwrap();
        assert_eq!(answers.find_pieces("site", told.content, after(0)), None, "too many");
        answers.keep_pieces("site", told.content, &hashes).unwrap();
        let all = |hours, site| answers.find_pieces(site, told.content, after(hours));
        assert_eq!((all(168, "site"), all(169, "site"), all(0, "other")), (Some(hashes), None, None));
        // Another site that answers knows nothing of what this one said of pieces.
        answers.keep("other", &told, after(0)).unwrap();
        assert_eq!((all(0, "site"), all(0, "other")), (None, None));
        for number in 2..MOST as u16 + 2 {
            answers.keep("site", &answer(number, "http://dp/"), after(0)).unwrap();
            answers.keep_pieces("site", answer(number, "").content, b"x").unwrap();
        }
        assert!(!answers.pieces_path(told.content).exists(), "it goes with its answer");
        assert_eq!(fs::read_dir(folder.path().join("answers")).unwrap().count(), 2 * MOST);
        answers.forget(answer(9, "").content);
        assert_eq!(fs::read_dir(folder.path().join("answers")).unwrap().count(), 2 * MOST - 2);
    }

    #[test]
    fn what_was_never_asked_for_may_be_where_other_contents_were() {
        let folder = tempfile::tempdir().unwrap();
        let answers = Answers::of(folder.path());
        let wanted = Sha256Digest([9; 32]);
        let named = |number: u16, base: &str, private: bool| {
            let told = answer(number, "");
            let url = format!("{base}content/{}", told.content);
            LocationsAnswer { private, ..answer(number, &url) }
        };
        let expected = |private| Expected { file_name: "y.esd".parse().expect("a name"), size: 7, private };
        let guess = |private, allowed| {
            let guessed = answers.guess("site", wanted, &expected(private), allowed, after(9));
            guessed.map(|told| {
                assert_eq!((told.content, told.size, told.private), (wanted, 7, private));
                told.locations.into_iter().map(|one| one.url).collect::<Vec<_>>()
            })
        };
        assert_eq!(guess(false, Allowed::default()), None);
        answers.keep("site", &named(1, "", true), after(0)).unwrap();
        assert_eq!(guess(false, Allowed::default()), None, "the site itself is silent");
        answers.keep("site", &named(2, "http://dp1:8530/", false), after(1)).unwrap();
        answers.keep("site", &named(3, "https://dp2:8531/", true), after(2)).unwrap();
        answers.keep("site", &named(4, "http://dp1:8530/", false), after(3)).unwrap();
        answers.keep("other", &named(5, "http://dp3:8530/", false), after(3)).unwrap();
        let at = |base: &str| format!("{base}/content/{wanted}");
        let all = vec![at("http://dp1:8530"), at("https://dp2:8531")];
        assert_eq!(guess(false, Allowed::default()), Some(all));
        assert_eq!(guess(true, Allowed::default()), Some(vec![at("https://dp2:8531")]));
        assert_eq!(guess(false, Allowed { points: false, ..Allowed::default() }), None);
    }

    #[test]
    fn only_so_many_and_so_large_ones_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let answers = Answers::of(folder.path());
        answers.keep("site", &answer(0, "http://dp/"), after(0)).unwrap();
        answers.keep("site", &answer(0, &"x".repeat(LARGEST)), after(0)).unwrap();
        assert_eq!(
            answers.find("site", answer(0, "").content, after(0)),
            None,
            "an older one is not believed for it"
        );
        for number in 0..MOST as u16 + 3 {
            answers.keep("site", &answer(number, "http://dp/"), after(0)).unwrap();
        }
        assert_eq!(fs::read_dir(folder.path().join("answers")).unwrap().count(), MOST);
    }
}
