//! What the content library holds, seen with what the database knows of it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use catalog::digest::{Sha256Digest, Wanted};
use catalog::id::{FileName, PackageId};
use catalog::problem::{Code, Problem};
use dp::library::{Identity, Library, LibraryError, Verdict};

use jiff::Timestamp;
use schema::SchemaError;
use schema::content::ContentRow;
use schema::pulled::PulledRow;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::admin::Answer;
use crate::blocking::blocking;
use crate::clock;
use crate::site::Site;

/// How old a file that nobody has recorded is at least when it goes, and how long this process has seen it so: whoever brought it records it
/// at once, unless it died.
const UNRECORDED_STAYS: Duration = Duration::from_secs(24 * 3_600);

/// All contents.
///
/// # Errors
/// Those of the database.
pub async fn list(site: &Arc<Site>) -> Result<Answer, Problem> {
    let (rows, pulled, names) =
        site.read(|r| Ok((r.contents()?, r.pulled_contents()?, r.content_names()?))).await?;
    let mut used: HashMap<Sha256Digest, Vec<(PackageId, FileName)>> = HashMap::new();
    for (content, package, name) in names {
        used.entry(content).or_default().push((package, name));
    }
    // On a point's own machine the site says what content is called.
    let shelf = site.shelf.load();
    for ((package, name), content) in &shelf.packages {
        let of_it = used.entry(*content).or_default();
        if let Ok(name) = name.parse::<FileName>()
            && of_it
                .iter()
                .all(|(one, other)| one != package || !other.as_str().eq_ignore_ascii_case(name.as_str()))
        {
            of_it.push((package.clone(), name));
        }
    }
    let listed = rows.into_iter().map(|row| {
        let mut used = used.remove(&row.sha256).unwrap_or_default();
        used.sort();
        let pulled = pulled.iter().find(|pulled| pulled.sha256 == row.sha256);
        let named = used.first().map(|(_, name)| name);
        let named = named.or(pulled.map(|pulled| &pulled.file_name)).cloned();
        let file_name = named.or_else(|| shelf.contents.get(&row.sha256).map(|served| served.name.clone()));
        let files = used.into_iter().map(|(package, name)| format!("{package}/{name}")).collect();
        Listed { row, file_name, files, pulled: pulled.map(Kept::of) }
    });
    Answer::of(&listed.collect::<Vec<_>>())
}

/// A content of the library.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Listed {
    /// What it is.
    #[serde(flatten)]
    pub row: ContentRow,
    /// A name of it; `None` where nothing uses it.
    #[serde(default)]
    pub file_name: Option<FileName>,
    /// What it is, as `PACKAGE/NAME`: of packages, images and applications.
    #[serde(default)]
    pub files: Vec<String>,
    /// That it is here because somebody asked for it, and will go again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pulled: Option<Kept>,
}

/// Since when, and for what, a content is kept that was pulled.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Kept {
    /// When it came.
    pub since: Timestamp,
    /// When it was sent last, late by half a minute at most.
    pub used: Timestamp,
}

impl Kept {
    fn of(row: &PulledRow) -> Self {
        Self { since: row.pulled, used: row.used }
    }
}

/// One content: what is known of it, who uses it, and who has it.
///
/// # Errors
/// `CONTENT_NOT_FOUND`, `AMBIGUOUS`.
pub async fn show(site: &Arc<Site>, name: &str) -> Result<Answer, Problem> {
    let wanted = name.to_lowercase();
    let all = site.read(|r| r.contents()).await?;
    let found: Vec<_> =
        all.iter().filter(|row| !wanted.is_empty() && row.sha256.to_string().starts_with(&wanted)).collect();
    match found.as_slice() {
        [one] => {
            let sha256 = one.sha256;
            let (users, pulled) =
                site.read(move |r| Ok((r.packages_of_content(sha256)?, r.pulled_contents()?))).await?;
            let pulled = pulled.iter().find(|row| row.sha256 == sha256).map(Kept::of);
            let shelf = site.shelf.load();
            let places = site.places_now().await?;
            Answer::of(&serde_json::json!({
                "content": one,
                "packages": users,
                "pulled": pulled,
                "served": shelf.contents.contains_key(&sha256),
                "holders": places.holders(sha256).map(|point| &point.name).collect::<Vec<_>>(),
                "cloud": places.holds(sha256).map(|held| held.cloud.clone()).unwrap_or_default(),
            }))
        }
        [] => Err(Problem::new(Code::ContentNotFound, format!("the site holds no content `{name}`"))),
        several => {
            let message = format!("{} contents begin with `{name}`", several.len());
            let all: Vec<_> = several.iter().take(8).map(|one| one.sha256.to_string()).collect();
            Err(Problem::new(Code::Ambiguous, message).because(all.join(", ")))
        }
    }
}

/// What reading a content again finds, and in which file: that takes minutes, and another file may have its name by then.
///
/// # Errors
/// Only if the work itself was ended; what was found is in the answer.
pub(crate) async fn read_again(
    site: &Arc<Site>,
    sha256: Sha256Digest,
) -> Result<(Result<Verdict, LibraryError>, Option<Identity>), Problem> {
    let library = site.library.clone();
    blocking(move || {
        let seen = library.identity(sha256);
        Ok((library.verify(sha256), seen))
    })
    .await
}

/// Takes a bad file out of the library and out of the database's belief; packages that hold it lack it now. `seen` is the file that
/// was found bad, or none: where another one has its name by now, it was brought meanwhile, verified, and stays.
///
/// # Errors
/// Those of the database and the disk.
pub async fn set_aside(
    site: &Arc<Site>,
    sha256: Sha256Digest,
    seen: Option<Identity>,
) -> Result<(), Problem> {
    let library = site.library.clone();
    // The file first, and both on one turn of the writer: what is believed and not there is fetched anew after a power cut,
    // while a bad file of which nobody knows would be taken for what its name says.
    let aside = site
        .write(move |w| {
            if library.is_another(sha256, seen.as_ref()) {
                return Ok(Ok(()));
            }
            let aside = library.set_aside(sha256);
            w.forget_content(sha256)?;
            Ok(aside)
        })
        .await?;
    site.refresh_shelf().await?;
    Ok(aside?)
}

/// Nobody counts any more on content that is not there, unless it has come meanwhile.
///
/// # Errors
/// Those of the database.
pub(crate) async fn forget_missing(
    site: &Arc<Site>,
    all: Vec<(Wanted, Sha256Digest)>,
) -> Result<(), Problem> {
    let library = site.library.clone();
    site.write(move |w| {
        let missing = all.into_iter().filter(|(wanted, _)| library.find(wanted).is_none());
        missing.map(|(_, sha256)| sha256).try_for_each(|sha256| w.forget_content(sha256))
    })
    .await?;
    site.refresh_shelf().await
}

/// Removes content that no package uses any more. Answers how much of it there was.
///
/// # Errors
/// Those of the database and the disk.
pub async fn forget_unused(site: &Arc<Site>) -> Result<u64, Problem> {
    let mut count = 0;
    for sha256 in site.read(|r| r.unused_contents()).await? {
        let unused = site
            .write(move |w| {
                let unused = w.unused_contents()?.contains(&sha256);
                if unused {
                    w.forget_content(sha256)?;
                }
                Ok(unused)
            })
            .await?;
        if unused {
            take_away(site, sha256, Library::remove).await?;
            count += 1;
        }
    }
    forget_parts(site).await?;
    Ok(count)
}

/// Drops what has arrived of files that no package lacks, unless a transfer works on it: nobody will go on with it.
///
/// # Errors
/// Those of the database and the disk.
pub async fn forget_parts(site: &Arc<Site>) -> Result<(), Problem> {
    let (library, lacking) = (site.library.clone(), site.read(|r| r.lacking_files()).await?);
    let drop = move || -> Result<(), LibraryError> {
        for part in library.parts()? {
            if !lacking.iter().any(|wanted| library.is_part_of(&part, wanted)) && library.drop_part(&part)? {
                info!("{} bytes of a file that no package lacks any more are dropped", part.bytes);
            }
        }
        Ok(())
    };
    blocking(move || Ok(drop()?)).await
}

/// Removes files that nobody has recorded: who brought them has died, or could not take them away again. What is wanted stays, and is
/// taken for what it is when its turn comes. A file goes when it is a day old and this process has `seen` it like that for a day.
/// Beside a database that was restored from an older backup everything that came since is unrecorded, and of an image or an application
/// nobody else may have a copy: whoever restored it has that day. In a library that does not say whose it is nothing goes.
///
/// # Errors
/// Those of the database and the disk.
pub(crate) async fn forget_unrecorded(site: &Arc<Site>, seen: &mut Unrecorded) -> Result<(), Problem> {
    if !site.owns_library().await? {
        return Ok(());
    }
    let (recorded, lacking) = site.read(|r| Ok((r.content_digests()?, r.lacking_files()?))).await?;
    let mut wanted: HashSet<_> = lacking.into_iter().filter_map(|wanted| wanted.digests.sha256).collect();
    wanted.extend(site.point.assigned_contents());
    let library = site.library.clone();
    let found = move || library.unrecorded(&recorded, UNRECORDED_STAYS, SystemTime::now());
    let mut found = blocking(move || Ok(found()?)).await?;
    found.retain(|sha256| !wanted.contains(sha256));
    let now = Instant::now();
    let (new, due) = seen.look(found, now);
    if new > 0 {
        warn!(
            "{new} files of the content library are recorded nowhere, and go in a day; where the database was restored from an older \
             backup, copy what is missed out of `{}` before that",
            site.settings().content_dir().display()
        );
    }
    for sha256 in due {
        take_away(site, sha256, Library::remove).await?;
        seen.0.remove(&sha256);
        info!(content.sha256 = %sha256, "{sha256} is removed: nobody has recorded it");
    }
    let told =
        seen.goes_in(now).and_then(|(files, pause)| Some((files, clock::now().checked_add(pause).ok()?)));
    site.unrecorded.store(told.map(Arc::new));
    Ok(())
}

/// What nobody has recorded, and since when this process has seen it so.
#[derive(Debug, Default)]
pub(crate) struct Unrecorded(HashMap<Sha256Digest, Instant>);

impl Unrecorded {
    /// Of what was `found` now: how much is new, and what was found long enough ago for the first time, and ever since. Pure.
    fn look(&mut self, found: Vec<Sha256Digest>, now: Instant) -> (usize, Vec<Sha256Digest>) {
        let all: HashSet<_> = found.iter().copied().collect();
        self.0.retain(|sha256, _| all.contains(sha256));
        let before = self.0.len();
        let due = |sha256: &Sha256Digest| {
            now.duration_since(*self.0.entry(*sha256).or_insert(now)) >= UNRECORDED_STAYS
        };
        let due = found.into_iter().filter(due).collect();
        (all.len() - before, due)
    }

    /// How much of it there is, and in how long the first of it goes. Pure.
    fn goes_in(&self, now: Instant) -> Option<(usize, Duration)> {
        let longest = self.0.values().map(|since| now.duration_since(*since)).max()?;
        Some((self.0.len(), UNRECORDED_STAYS.saturating_sub(longest)))
    }
}

/// On the writer's turn, where content is recorded: what was pulled and found here may have made room since, and what is recorded
/// must be there.
///
/// # Errors
/// `CONTENT_UNAVAILABLE`.
pub(crate) fn still_there(library: &Library, wanted: &Wanted) -> Result<(), SchemaError> {
    if library.find(wanted).is_some() {
        return Ok(());
    }
    let message = "content that was found here made room for other content at the same moment";
    Err(Problem::new(Code::ContentUnavailable, message)
        .help("it is fetched when it is asked for again")
        .into())
}

/// Takes the bytes away that the database has forgotten, unless a download has recorded them anew meanwhile. It happens
/// on the writer's turn, so that recording and taking away never cross.
pub(crate) async fn take_away(
    site: &Arc<Site>,
    sha256: Sha256Digest,
    away: fn(&Library, Sha256Digest) -> Result<(), LibraryError>,
) -> Result<(), Problem> {
    let library = site.library.clone();
    site.write(move |w| {
        if w.has_content(sha256)? {
            return Ok(());
        }
        away(&library, sha256).map_err(|error| Problem::from(error).into())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_has_recorded_goes_only_after_a_day_of_this_process() {
        let content = |n: u8| Sha256Digest([n; 32]);
        let (start, hour) = (Instant::now(), Duration::from_secs(3_600));
        let mut seen = Unrecorded::default();
        // A database was put back beside a newer library, whose files are old.
        assert_eq!(seen.look(vec![content(1), content(2)], start), (2, vec![]));
        assert_eq!(seen.look(vec![content(1), content(2)], start + hour * 23), (0, vec![]));
        assert_eq!(seen.goes_in(start + hour * 23), Some((2, hour)));
        assert_eq!(Unrecorded::default().goes_in(start), None);
        // One was recorded by then, and another one came.
        assert_eq!(seen.look(vec![content(1), content(3)], start + hour * 24), (1, vec![content(1)]));
        // It was recorded meanwhile, and is seen anew.
        assert_eq!(seen.look(vec![content(2), content(3)], start + hour * 30), (1, vec![]));
        assert_eq!(seen.look(vec![content(2), content(3)], start + hour * 48), (0, vec![content(3)]));
    }
}
