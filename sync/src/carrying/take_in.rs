//! A prestaged file into the library of a distribution point.
//!
//! The file is read twice: once to see that it is whole and every content is what the list says, which changes nothing; and once
//! to take in what this point was told to hold and lacks. That is recorded in one transaction, after all of it is there. Whatever
//! keeps it from that, somebody who cancels it too, leaves nothing of it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use catalog::digest::{Digests, Sha1Digest, Sha256Digest, Wanted};
use catalog::id::PackageId;
use catalog::problem::{Code, Coded as _, Problem};
use dp::library::{Library, Staged};
use schema::tasks::Unit;
use serde::{Deserialize, Serialize};
use tracing::{error, info};

use super::content::{CarriedFile, distinct};
use super::prestage::{Manifest, Piece, look_through, matches, open, read};
use super::{Stop, Told};
use crate::admin::{Answer, Caller, Work};
use crate::blocking::blocking;
use crate::clock;
use crate::packages::content::{still_there, take_away};
use crate::points::wire::Assignment;
use crate::site::Site;
use crate::tasks::{Key, Progress};
use crate::words::counted;

/// What was taken in, or would be.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct TakenIn {
    /// The file.
    pub file: PathBuf,
    /// Of what: an id.
    pub of: Option<PackageId>,
    /// Its name.
    pub name: String,
    /// Names of files that are new here.
    pub taken: Vec<String>,
    /// Those that were here already.
    pub present: Vec<String>,
    /// Those that this point was not told to hold: they are left in the file.
    pub left_out: Vec<String>,
    /// Bytes that are new here.
    pub bytes: u64,
    /// Nothing was changed.
    pub dry_run: bool,
}

/// What a file brings to a point. Pure.
struct Sorted {
    taken: Vec<CarriedFile>,
    present: Vec<CarriedFile>,
    left_out: Vec<CarriedFile>,
}

fn sort(manifest: &Manifest, assignment: &Assignment, here: impl Fn(&Sha256Digest) -> bool) -> Sorted {
    let assigned: HashMap<Sha256Digest, u64> = assignment
        .packages
        .iter()
        .flat_map(|package| &package.files)
        .map(|file| (file.sha256, file.size))
        .collect();
    let mut sorted = Sorted { taken: Vec::new(), present: Vec::new(), left_out: Vec::new() };
    for file in distinct(&manifest.items) {
        let list = match assigned.get(&file.sha256) {
            Some(size) if *size == file.size && here(&file.sha256) => &mut sorted.present,
            Some(size) if *size == file.size => &mut sorted.taken,
            _ => &mut sorted.left_out,
        };
        list.push(file.clone());
    }
    sorted
}

/// Takes a prestaged file in, as a task.
///
/// # Errors
/// `NOT_A_POINT`; `PRESTAGE_MALFORMED`, `HASH_MISMATCH`, `PRESTAGE_NOT_ASSIGNED`, `DISK_FULL`: nothing is taken in then.
pub async fn take_in(site: &Arc<Site>, file: &Path, caller: &Caller) -> Result<Work, Problem> {
    if site.settings().dp.is_site() {
        let message =
            "this machine is a site: prestaged files are for its distribution points on other machines";
        return Err(Problem::new(Code::NotAPoint, message));
    }
    let looked_at = file.to_owned();
    blocking(move || open(&looked_at).map(drop)).await?;
    let (path, caller) = (file.to_owned(), caller.clone());
    let title = format!("take in {}", file.display());
    let key = Key::new(&format!("prestage {}", file.display()), "take in", caller.dry_run);
    let task = site
        .tasks
        .start("prestage", title, key, |progress| {
            let site = site.clone();
            async move { run(&site, path, &caller, &progress).await }
        })
        .await?;
    Ok(Work::Started(task))
}

async fn run(
    site: &Arc<Site>,
    path: PathBuf,
    caller: &Caller,
    progress: &Progress,
) -> Result<Answer, Problem> {
    progress.phase("verify", 0, Unit::Items);
    let file = path.clone();
    let manifest = blocking(move || look_through(&file)).await?;
    progress.end("verify", counted(distinct(&manifest.items).len(), "file"));
    let here = site.read(|r| r.content_digests()).await?;
    let (_, assignment) = site.point.assignment();
    let sorted = sort(&manifest, &assignment, |sha256| here.contains(sha256));
    if sorted.taken.is_empty() && sorted.present.is_empty() {
        let message = format!("nothing of `{}` is assigned to this distribution point", path.display());
        return Err(Problem::new(Code::PrestageNotAssigned, message));
    }
    let names = |files: &[CarriedFile]| files.iter().map(|file| file.name.to_string()).collect::<Vec<_>>();
    let bytes = sorted.taken.iter().map(|file| file.size).fold(0, u64::saturating_add);
    let taken_in = TakenIn {
        file: path.clone(),
        of: Some(manifest.of.clone()),
        name: manifest.name.clone(),
        taken: names(&sorted.taken),
        present: names(&sorted.present),
        left_out: names(&sorted.left_out),
        bytes,
        dry_run: caller.dry_run,
    };
    enough_space(site, bytes).await?;
    if caller.dry_run || sorted.taken.is_empty() {
        return Answer::of(&taken_in);
    }
    progress.phase("take in", bytes, Unit::Bytes);
    let telling = progress.clone();
    let told = move |done| telling.at("take in", done);
    take(site, path, manifest, sorted.taken, caller, told).await?;
    info!("{} files of {} came by a prestaged file", taken_in.taken.len(), taken_in.name);
    progress.end("take in", counted(taken_in.taken.len(), "file"));
    Answer::of(&taken_in)
}

/// Takes in what is wanted: all of it is recorded, or none of it stays. It is a work of its own, which a cancelled task does not
/// take along: that only tells it to end, and it clears what it began.
async fn take(
    site: &Arc<Site>,
    path: PathBuf,
    manifest: Manifest,
    wanted: Vec<CarriedFile>,
    caller: &Caller,
    progress: impl FnMut(u64) + Send + 'static,
) -> Result<(), Problem> {
    let stop = Stop::new();
    let (site, who, told) = (site.clone(), caller.who.clone(), stop.told());
    let work = tokio::spawn(async move {
        let added = Added::default();
        let ended =
            take_and_record(&site, path, manifest, (wanted, added.clone()), who, told, progress).await;
        if ended.is_ok() {
            site.refresh_shelf().await?;
            site.point.look_again();
            return Ok(());
        }
        for sha256 in added.all() {
            if let Err(problem) = take_away(&site, sha256, Library::remove).await {
                error!(content.sha256 = %sha256, "{sha256} of a prestaged file that was not taken in stays: {problem}");
            }
        }
        ended
    });
    work.await.map_err(|died| Problem::of(Code::Internal, &died))?
}

/// What one import has put into the library. What others bring at the same time is theirs, and stays.
#[derive(Debug, Clone, Default)]
struct Added(Arc<Mutex<Vec<Sha256Digest>>>);

impl Added {
    fn add(&self, sha256: Sha256Digest) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(sha256);
    }

    fn all(&self) -> Vec<Sha256Digest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn take_and_record(
    site: &Arc<Site>,
    path: PathBuf,
    manifest: Manifest,
    (wanted, added): (Vec<CarriedFile>, Added),
    who: String,
    told: Told,
    progress: impl FnMut(u64) + Send + 'static,
) -> Result<(), Problem> {
    let (library, object) = (site.library.clone(), manifest.of.to_string());
    let there = library.clone();
    let heard = told.clone();
    let stored =
        blocking(move || all(&library, &path, &manifest, (&wanted, &added), &heard, progress)).await?;
    site.write(move |w| {
        // The last moment at which it may be called off: afterwards it is here.
        told.check()?;
        for (sha256, sha1, size) in &stored {
            // Another import may have brought it, and taken it away again.
            let digests = Digests { sha256: Some(*sha256), sha1: Some(*sha1) };
            still_there(&there, &Wanted { size: *size, digests })?;
            w.record_content(*sha256, *sha1, *size, false, clock::now())?;
        }
        w.audit(&who, "prestage.import", &object, clock::now())
    })
    .await
}

async fn enough_space(site: &Arc<Site>, bytes: u64) -> Result<(), Problem> {
    let library = site.library.clone();
    let free = blocking(move || Ok(library.free_for(bytes)?)).await?;
    let kept = site.settings().download.min_free;
    let room = free.saturating_sub(kept);
    if bytes <= room {
        return Ok(());
    }
    let message = format!("{bytes} bytes are to be taken in, and {room} are free beside [download] min_free");
    Err(Problem::new(Code::DiskFull, message).keeping("nothing was taken in"))
}

type Stored = (Sha256Digest, Sha1Digest, u64);

/// The second reading: what is wanted goes into the library, verified once more. Not the list that was checked before: nothing.
fn all(
    library: &Library,
    path: &Path,
    expected: &Manifest,
    (wanted, added): (&[CarriedFile], &Added),
    told: &Told,
    mut progress: impl FnMut(u64),
) -> Result<Vec<Stored>, Problem> {
    let mut arriving: Option<(Wanted, Staged)> = None;
    let (mut stored, mut done) = (Vec::new(), 0);
    // What others are bringing is theirs.
    let mut opened = Vec::new();
    let taken = read(&mut open(path)?, |file, piece| {
        told.check()?;
        if !wanted.contains(file) {
            return Ok(());
        }
        let (what, mut staged) = match arriving.take() {
            Some(arriving) => arriving,
            None => {
                let digests = Digests { sha1: None, sha256: Some(file.sha256) };
                let what = Wanted { size: file.size, digests };
                let mut staged = library.stage(&what).map_err(|error| error.problem())?;
                opened.push(what);
                staged.rewind().map_err(|error| error.problem())?;
                (what, staged)
            }
        };
        match piece {
            Piece::Bytes(bytes) => {
                staged.append(bytes).map_err(|error| error.problem())?;
                done += bytes.len() as u64;
                progress(done);
                arriving = Some((what, staged));
            }
            Piece::End => match staged.check(&what) {
                Ok(verified) => {
                    let print = (verified.sha256(), verified.fingerprint().sha1, verified.fingerprint().size);
                    let is_new = library.find(&what).is_none();
                    staged.commit(verified).map_err(|error| error.problem())?;
                    if is_new {
                        added.add(print.0);
                    }
                    stored.push(print);
                }
                Err(mismatch) => {
                    staged.rewind().map_err(|error| error.problem())?;
                    let changed = Problem::of(Code::HashMismatch, &mismatch);
                    return Err(changed.keeping("nothing of the prestaged file was taken in"));
                }
            },
        }
        Ok(())
    });
    // Its lock goes with it.
    drop(arriving);
    let clear = |problem: Problem| {
        // What arrived of it is of no use: the whole file is refused. What another transfer works on by now is that one's.
        for what in &opened {
            let _ = library.abandon(what);
        }
        problem
    };
    let taken = taken.map_err(clear)?;
    if taken != *expected || stored.len() != wanted.len() {
        let message = "the prestaged file was changed while it was read";
        return Err(clear(Problem::new(Code::PrestageMalformed, message)));
    }
    for file in wanted {
        let found = stored.iter().find(|(sha256, ..)| *sha256 == file.sha256).map(|(sha256, ..)| *sha256);
        matches(file, found.unwrap_or(Sha256Digest([0; 32])))?;
    }
    Ok(stored)
}

#[cfg(test)]
#[path = "tests/take_in.rs"]
mod tests;
