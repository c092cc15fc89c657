//! Filling deployment packages: every file that a package lacks, from the best source that has it, each reported alone.
//!
//! Sources in order: a local folder (`--from`), a mirror named on the command line, the mirrors of the source's
//! configuration, the update servers that are configured, the catalog's own links. One bad file never fails the others.

use std::path::PathBuf;
use std::sync::Arc;

use catalog::digest::{Digests, Sha256Digest, Wanted};
use catalog::id::PackageId;
use catalog::problem::{Code, Coded as _, Problem};
use dp::transfer::{At, Fetched, Job, Policy, RateLimit, Served, Source as ContentSource, SourceKind};
use schema::packages::{FileState, PackageFile};
use schema::tasks::Unit;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tracing::{Instrument as _, info, info_span, warn};
use url::Url;

use crate::admin::{Answer, Caller, Work};
use crate::blocking::blocking;
use crate::clock;
use crate::config::{self, Settings, Source};
use crate::import::IMPORT;
use crate::packages;
use crate::packages::copies::Copied;
use crate::site::Site;
use crate::tasks::{Key, Progress};
use crate::upstream::server_sync;

/// What a download did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Filled {
    /// Id of the package.
    pub package: PackageId,
    /// Its name.
    pub name: String,
    /// Each file of the package.
    pub files: Vec<FilledFile>,
    /// Bytes that came from sources now.
    pub fetched_bytes: u64,
}

/// What came of one file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FilledFile {
    /// Its name.
    pub file_name: String,
    /// Its size in bytes.
    pub size: u64,
    /// `stored`, `present`, `shared` (the library had it), `failed`, or `would fetch` of a dry run.
    pub outcome: String,
    /// Digest of the stored bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256Digest>,
    /// Bytes that an earlier, interrupted download had left.
    pub resumed_from: u64,
    /// Who gave which bytes.
    pub served: Vec<Served>,
    /// Only a SHA-1 was published: what was checked is weaker.
    pub sha1_only: bool,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    /// Why the source folder has no copy of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Starts a download as a task; one that already fills this package the same way is joined.
///
/// # Errors
/// `TASK_BUSY`, `PACKAGE_NOT_FOUND`, `AMBIGUOUS`, `SOURCE_MISSING` for `--from`, `SCHEME_NOT_ALLOWED` for `--mirror`.
pub async fn start(
    site: &Arc<Site>,
    name: &str,
    from: Option<PathBuf>,
    mirror: Option<String>,
    caller: &Caller,
) -> Result<Work, Problem> {
    let package = packages::named(site, name).await?;
    if let Some(folder) = from.clone() {
        blocking(move || match folder.is_dir() {
            true => Ok(()),
            false => Err(Problem::new(
                Code::SourceMissing,
                format!("the folder `{}` does not exist", folder.display()),
            )),
        })
        .await?;
    }
    let mirror = mirror.map(|prefix| prefix_url(&prefix)).transpose()?;
    let how = format!("download {from:?} {mirror:?}");
    let key = Key::new(&packages::key(&package.id), &how, caller.dry_run);
    let title = format!("download {}", package.name);
    let caller = caller.clone();
    let task = site
        .tasks
        .start("download", title, key, |progress| {
            let site = site.clone();
            async move {
                let span = info_span!("package.fill", package = %package.id);
                fill(&site, &package.id, from, mirror, &caller, &progress).instrument(span).await
            }
        })
        .await?;
    Ok(Work::Started(task))
}

/// A prefix to which file names are appended.
fn prefix_url(prefix: &str) -> Result<Url, Problem> {
    let with_slash = format!("{}/", prefix.trim_end_matches('/'));
    match Url::parse(&with_slash) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(url),
        _ => Err(Problem::new(Code::SchemeNotAllowed, format!("`{prefix}` is no http or https address"))),
    }
}

/// Fetches what the package lacks.
///
/// # Errors
/// `DISK_FULL` before anything is fetched, where it can be known; those of the database. Failures of files are in the
/// answer.
pub async fn fill(
    site: &Arc<Site>,
    id: &PackageId,
    from: Option<PathBuf>,
    mirror: Option<Url>,
    caller: &Caller,
    progress: &Progress,
) -> Result<Answer, Problem> {
    let mut package = packages::shown(site, id).await?;
    let settings = site.settings();
    let lost = lost(site, &package.files).await?;
    if !lost.is_empty() && !caller.dry_run {
        packages::content::forget_missing(site, lost.clone()).await?;
        package = packages::shown(site, id).await?;
    }
    let is_lost = |file: &PackageFile| lost.iter().any(|(_, sha256)| file.sha256 == Some(*sha256));
    let (wanted, present): (Vec<_>, Vec<_>) = packages::each_once(&package.files)
        .into_iter()
        .cloned()
        .partition(|file| file.state != FileState::Stored || (caller.dry_run && is_lost(file)));
    let mut files: Vec<FilledFile> = present.iter().map(|file| line(file, "present")).collect();
    if caller.dry_run {
        files.extend(wanted.iter().map(|file| line(file, "would fetch")));
        return Answer::of(&Filled {
            package: id.clone(),
            name: package.package.name,
            files,
            fetched_bytes: 0,
        });
    }
    if let Some(folder) = &package.package.source_dir {
        // A copy that a crash prevented, or that somebody removed. A file of its size is taken for it: to read them all would take hours.
        for (file, told) in present.iter().zip(&mut files) {
            if let Some(copy) = Copied::of(file) {
                let folder = folder.clone();
                told.note = in_library(site, move |library| copy.make(library, &folder, false)).await?;
            }
        }
    }
    packages::content::forget_parts(site).await?;
    enough_space(site, &settings, &wanted).await?;
    let policy = Arc::new(policy(&settings));
    let at_once = Arc::new(Semaphore::new(settings.download.parallel_files));
    let mut running = tokio::task::JoinSet::new();
    let digests: Vec<_> = wanted.iter().filter_map(|file| file.digests.sha1).collect();
    let named = site.read(move |r| r.named_in_documents(&digests)).await?;
    for file in wanted {
        // In the order of the package; what waits for its turn is not started yet.
        let turn = at_once.clone().acquire_owned().await;
        let at_servers = file.digests.sha1.is_some_and(|sha1| named.contains(&sha1));
        let sources = sources(site, &settings, &file, at_servers, from.as_deref(), mirror.as_ref())?;
        let (site, id, progress) = (site.clone(), id.clone(), progress.clone());
        let (policy, settings) = (policy.clone(), settings.clone());
        let folder = package.package.source_dir.clone();
        running.spawn(
            async move {
                let _turn = turn;
                one(&site, &id, file, sources, folder, &policy, &settings, &progress).await
            }
            .in_current_span(),
        );
    }
    while let Some(ended) = running.join_next().await {
        files.push(ended.map_err(|died| Problem::of(Code::Internal, &died))??);
    }
    // Other packages that lost them have them again too.
    if !lost.is_empty() {
        site.write(move |w| lost.into_iter().try_for_each(|(_, sha256)| w.lacks_no_more(sha256))).await?;
    }
    site.refresh_shelf().await?;
    files.sort_by(|a, b| a.file_name.cmp(&b.file_name));
    let failed: Vec<_> = files.iter().filter(|file| file.problem.is_some()).collect();
    let problem = match failed.as_slice() {
        [] => None,
        [only] if files.len() == 1 => only.problem.clone(),
        several => {
            let mut problem = Problem::new(
                Code::PackagePartlyDone,
                format!(
                    "{} of {} files of package `{}` failed",
                    several.len(),
                    files.len(),
                    package.package.name
                ),
            )
            .keeping(format!(
                "{} files are stored and verified; what came of the others is kept for resuming",
                files.len() - several.len()
            ));
            for file in several.iter().take(20) {
                if let Some(cause) = &file.problem {
                    problem = problem.because(format!("{}: {cause}", file.file_name));
                }
            }
            Some(problem)
        }
    };
    let fetched_bytes = files.iter().flat_map(|file| &file.served).map(|served| served.bytes).sum();
    Answer::partly(&Filled { package: id.clone(), name: package.package.name, files, fetched_bytes }, problem)
}

/// What is recorded as stored and is not in the library: it was restored without its content, or somebody removed files. A file that
/// is there and damaged is for `package validate`, which reads it.
async fn lost(site: &Arc<Site>, files: &[PackageFile]) -> Result<Vec<(Wanted, Sha256Digest)>, Problem> {
    let stored = packages::each_once(files).into_iter().filter(|file| file.state == FileState::Stored);
    let stored: Vec<_> = stored
        .filter_map(|file| {
            let sha256 = file.sha256?;
            let digests = Digests { sha256: Some(sha256), ..file.digests };
            Some((Wanted::new(file.size, digests)?, sha256))
        })
        .collect();
    in_library(site, move |library| {
        Ok(stored.into_iter().filter(|(_, sha256)| library.identity(*sha256).is_none()).collect())
    })
    .await
}

fn line(file: &PackageFile, outcome: &str) -> FilledFile {
    FilledFile {
        file_name: file.file_name.to_string(),
        size: file.size,
        outcome: outcome.to_owned(),
        sha256: file.sha256,
        resumed_from: 0,
        served: Vec::new(),
        sha1_only: file.digests.sha256.is_none(),
        problem: None,
        note: None,
    }
}

/// Refuses before the first byte where the disk cannot hold what is missing.
async fn enough_space(site: &Arc<Site>, settings: &Settings, files: &[PackageFile]) -> Result<(), Problem> {
    let missing = files.iter().map(|file| file.size).fold(0, u64::saturating_add);
    let wanted: Vec<_> = files.iter().filter_map(|file| Wanted::new(file.size, file.digests)).collect();
    // What has arrived of other files helps none of these.
    let (arrived, free) = in_library(site, move |library| {
        let arrived = wanted.iter().map(|wanted| library.arrived(wanted)).sum::<u64>();
        Ok((arrived, library.free_for(missing.saturating_sub(arrived))?))
    })
    .await?;
    let needed = missing.saturating_sub(arrived);
    if needed.saturating_add(settings.download.min_free) > free && missing > 0 {
        let message = format!(
            "{missing} bytes are to be stored, {free} are free, and {} of them are kept free ([download] min_free)",
            settings.download.min_free
        );
        return Err(Problem::new(Code::DiskFull, message).keeping("nothing was fetched"));
    }
    Ok(())
}

fn policy(settings: &Settings) -> Policy {
    Policy {
        patience: settings.sync.retry.patience(),
        rate: settings.download.rate_limit.map(RateLimit::new).map(Arc::new),
        ..Policy::default()
    }
}

/// Where one file can be had, best first. Where it is `at_servers` too, those are asked where they are now before any place that
/// was written down: that may be where one was.
fn sources(
    site: &Site,
    settings: &Settings,
    file: &PackageFile,
    at_servers: bool,
    from: Option<&std::path::Path>,
    mirror: Option<&Url>,
) -> Result<Vec<ContentSource>, Problem> {
    let imported = imported();
    let mut places: Vec<(&Source, Option<Url>)> = Vec::new();
    if let Some(sha1) = file.digests.sha1.filter(|_| at_servers) {
        let here = server_sync::places(settings, sha1, file.published_name.as_str());
        places.extend(here.into_iter().map(|(source, url)| (source, Some(url))));
    }
    for published in &file.urls {
        let Some(source) = source_of(settings, &imported, &published.source) else { continue };
        places.push((source, Url::parse(&published.url).ok()));
    }
    let mut sources = Vec::new();
    for (source, url) in places {
        let web = site.webs.content(settings, source)?;
        if let Some(folder) = from {
            push(&mut sources, SourceKind::Folder, At::File(folder.join(file.published_name.as_str())), &web);
        }
        if let Some(url) = mirror.and_then(|prefix| prefix.join(&encoded(file.published_name.as_str())).ok())
        {
            push(&mut sources, SourceKind::Mirror, At::Url(url), &web);
        }
        for prefix in &source.mirrors {
            if let Ok(url) = prefix_url(prefix)?.join(&encoded(file.published_name.as_str())) {
                push(&mut sources, SourceKind::Mirror, At::Url(url), &web);
            }
        }
        if let Some(url) = url {
            push(&mut sources, SourceKind::Upstream, At::Url(url), &web);
        }
    }
    // Folders before mirrors before links; one place named by two catalogs is asked once.
    sources.sort_by_key(|source: &ContentSource| source.kind);
    Ok(sources)
}

/// The source of what an export named: it is on public hosts, which need no leave.
pub(crate) fn imported() -> Source {
    Source { name: IMPORT.to_owned(), kind: config::SourceKind::Import, ..Source::default() }
}

/// Whom `name` calls, if anybody still: a configured source, or `imported`, which none is called.
pub(crate) fn source_of<'s>(settings: &'s Settings, imported: &'s Source, name: &str) -> Option<&'s Source> {
    let configured = settings.sources.iter().find(|source| source.name == name);
    configured.or((name == IMPORT).then_some(imported))
}

fn push(sources: &mut Vec<ContentSource>, kind: SourceKind, at: At, web: &Arc<dp::transfer::web::Web>) {
    if !sources.iter().any(|source| source.at == at) {
        sources.push(ContentSource { kind, name: at.to_string(), at, web: web.clone() });
    }
}

/// A file name as one segment of a URL (RFC 3986 section 3.3).
fn encoded(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[expect(
    clippy::too_many_arguments,
    reason = "the circumstances of one file; a struct would only rename them"
)]
async fn one(
    site: &Arc<Site>,
    package: &PackageId,
    file: PackageFile,
    sources: Vec<ContentSource>,
    folder: Option<PathBuf>,
    policy: &Policy,
    settings: &Settings,
    progress: &Progress,
) -> Result<FilledFile, Problem> {
    let phase = file.file_name.to_string();
    progress.phase(&phase, file.size, Unit::Bytes);
    let fetched = match Wanted::new(file.size, file.digests) {
        _ if settings.download.require_sha256 && file.digests.sha256.is_none() => {
            Err(Problem::new(Code::Sha256Required, format!("only a SHA-1 is published for `{phase}`")))
        }
        None => Err(Problem::new(Code::HashMismatch, format!("no digest is published for `{phase}`"))),
        Some(wanted) => {
            let job = Job { file_name: file.file_name.clone(), wanted, sources };
            let told = progress.clone();
            let name = phase.clone();
            dp::transfer::fetch(&site.library, job, policy, move |at| told.at(&name, at.have))
                .await
                .map_err(|e| e.problem())
        }
    };
    match fetched {
        Ok(fetched) => stored(site, package, file, fetched, folder, progress).await,
        Err(problem) => {
            warn!("{phase} of package {package} failed: {problem}");
            progress.end(&phase, problem.code.name());
            let (id, row, cause) = (package.clone(), file.file, problem.clone());
            site.write(move |w| w.mark_file_failed(&id, row, &cause, clock::now())).await?;
            Ok(FilledFile { problem: Some(problem), ..line(&file, "failed") })
        }
    }
}

/// The bytes are in the library: say so in the database, and place a copy where the package wants one.
async fn stored(
    site: &Arc<Site>,
    package: &PackageId,
    file: PackageFile,
    fetched: Fetched,
    folder: Option<PathBuf>,
    progress: &Progress,
) -> Result<FilledFile, Problem> {
    let sha256 = fetched.stored.digest();
    let fingerprint =
        in_library(site, move |library| library.fingerprint(sha256)).await?.ok_or_else(|| {
            Problem::new(
                Code::ContentCorrupt,
                format!("`{}` vanished from the content library", file.file_name),
            )
        })?;
    let sha1_only = file.digests.sha256.is_none();
    let (id, row) = (package.clone(), file.file);
    let (sha1, size) = (fingerprint.sha1, fingerprint.size);
    let (library, name) = (site.library.clone(), file.file_name.clone());
    site.write(move |w| {
        // Whoever removes content does so between two changes, so here it is there or it is not.
        if !matches!(library.open_content(sha256), Ok(Some(_))) {
            let message = format!("`{name}` was removed from the content library before it was recorded");
            return Err(Problem::new(Code::ContentCorrupt, message).into());
        }
        w.record_content(sha256, sha1, size, sha1_only, clock::now())?;
        w.mark_file_stored(&id, row, sha256, clock::now())
    })
    .await?;
    let mut note = None;
    if let Some(folder) = folder {
        let copy = Copied::new(file.file_name.clone(), sha256, size);
        note = in_library(site, move |library| copy.make(library, &folder, true)).await?;
    }
    let outcome = if fetched.already_there { "shared" } else { "stored" };
    info!(content.sha256 = %sha256, size_bytes = size, "{} is {outcome}, every published digest verified", file.file_name);
    progress.at(file.file_name.as_str(), file.size);
    progress
        .end(file.file_name.as_str(), if sha1_only { "verified (SHA-1 only)" } else { "sha256 verified" });
    Ok(FilledFile {
        sha256: Some(sha256),
        resumed_from: fetched.resumed_from,
        served: fetched.served,
        note,
        ..line(&file, outcome)
    })
}

async fn in_library<T: Send + 'static>(
    site: &Arc<Site>,
    work: impl FnOnce(&dp::library::Library) -> Result<T, dp::library::LibraryError> + Send + 'static,
) -> Result<T, Problem> {
    let library = site.library.clone();
    blocking(move || Ok(work(&library)?)).await
}
