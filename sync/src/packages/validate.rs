//! Reading every file of a package, an OS upgrade package or an application again, and mending what is bad.

use std::sync::Arc;

use catalog::digest::Sha256Digest;
use catalog::id::{FileName, PackageId};
use catalog::problem::{Code, Problem};
use dp::library::Verdict;
use schema::packages::FileState;
use schema::tasks::Unit;
use serde::{Deserialize, Serialize};
use tracing::error;

use super::{content, named, shown};
use crate::admin::{Answer, Caller, Work};
use crate::clock;
use crate::find::one;
use crate::site::Site;
use crate::tasks::{Key, Progress};

/// What validating found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Validated {
    /// Id of the package.
    pub package: PackageId,
    /// Its name.
    pub name: String,
    /// Each file.
    pub files: Vec<ValidatedFile>,
}

/// One file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ValidatedFile {
    /// Its name.
    pub file_name: String,
    /// `good`, `corrupt`, `missing`, or `not downloaded`.
    pub verdict: String,
    /// What was found instead, or what was done about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What is read again.
struct Read {
    id: PackageId,
    name: String,
    /// A deployment package: what is bad can be fetched again.
    fetched: bool,
    files: Vec<ReadFile>,
}

#[derive(Clone)]
struct ReadFile {
    name: String,
    size: u64,
    /// None where it is not downloaded.
    content: Option<Sha256Digest>,
}

/// The package that `name` means; or the image or application, also where no point was sent it.
async fn what(site: &Arc<Site>, name: &str) -> Result<Read, Problem> {
    let missing = match named(site, name).await {
        Err(problem) if problem.code == Code::PackageNotFound => problem,
        Err(problem) => return Err(problem),
        Ok(package) => {
            let shown = shown(site, &package.id).await?;
            let files = super::each_once(&shown.files).into_iter().map(|file| ReadFile {
                name: file.file_name.to_string(),
                size: file.size,
                content: file.sha256.filter(|_| file.state == FileState::Stored),
            });
            let files = files.collect();
            return Ok(Read { id: package.id, name: package.name, fetched: true, files });
        }
    };
    let (images, apps) = site.read(|r| Ok((r.images()?, r.apps()?))).await?;
    let file =
        |name: &FileName, size, content| ReadFile { name: name.to_string(), size, content: Some(content) };
    let images = images
        .iter()
        .map(|row| (row.id.clone(), row.name.clone(), vec![file(&row.file_name, row.size, row.content)]));
    let apps = apps.iter().map(|row| {
        let files = row.files.iter().map(|one| file(&one.file_name, one.size, one.content));
        (row.id.clone(), row.name.clone(), files.collect())
    });
    let software: Vec<(PackageId, String, Vec<ReadFile>)> = images.chain(apps).collect();
    match one(name, &software, |row| (&row.0, &row.1), Code::PackageNotFound, "package") {
        Ok((id, name, files)) => {
            Ok(Read { id: id.clone(), name: name.clone(), fetched: false, files: files.clone() })
        }
        Err(problem) if problem.code == Code::Ambiguous => Err(problem),
        Err(_) => Err(missing),
    }
}

/// Fetches again what was taken out of use, and offers it again.
///
/// # Errors
/// Those of downloading.
pub(crate) async fn refill(
    site: &Arc<Site>,
    id: &PackageId,
    bad: Vec<Sha256Digest>,
    caller: &Caller,
    progress: &Progress,
) -> Result<Answer, Problem> {
    let filled = crate::download::fill(site, id, None, None, caller, progress).await?;
    // Other packages have it again too, whatever became of the others.
    site.write(move |w| bad.into_iter().try_for_each(|sha256| w.lacks_no_more(sha256))).await?;
    site.refresh_shelf().await?;
    Ok(filled)
}

/// Starts validating as a task.
///
/// # Errors
/// `PACKAGE_NOT_FOUND`, `AMBIGUOUS`, `TASK_BUSY`.
pub async fn validate(site: &Arc<Site>, name: &str, repair: bool, caller: &Caller) -> Result<Work, Problem> {
    let package = what(site, name).await?;
    let title = format!("validate {}", package.name);
    let how = if repair { "validate and repair" } else { "validate" };
    let key = Key::new(&super::key(&package.id), how, caller.dry_run);
    let repair = repair && !caller.dry_run;
    let caller = caller.clone();
    let task = site
        .tasks
        .start("validate", title, key, |progress| {
            let site = site.clone();
            async move {
                let (answer, bad) = all(&site, &package, repair, &progress).await?;
                if repair && package.fetched && answer.problem.is_some() {
                    let filled = refill(&site, &package.id, bad, &caller, &progress).await?;
                    return Answer::partly(
                        &serde_json::json!({ "validated": answer.body, "repaired": filled.body }),
                        filled.problem,
                    );
                }
                Ok(answer)
            }
        })
        .await?;
    Ok(Work::Started(task))
}

async fn all(
    site: &Arc<Site>,
    package: &Read,
    repair: bool,
    progress: &Progress,
) -> Result<(Answer, Vec<Sha256Digest>), Problem> {
    let whole = package.files.iter().map(|file| file.size).fold(0, u64::saturating_add);
    progress.phase("validate", whole, Unit::Bytes);
    let mut files = Vec::new();
    let mut bad = Vec::new();
    let mut done = 0;
    for file in &package.files {
        let mut row =
            ValidatedFile { file_name: file.name.clone(), verdict: "good".to_owned(), detail: None };
        match file.content {
            Some(sha256) => {
                let (verdict, seen) = content::read_again(site, sha256).await?;
                match verdict {
                    Ok(Verdict::Good) => {}
                    Ok(Verdict::Missing) => row.verdict = "missing".to_owned(),
                    Ok(Verdict::Corrupt { actual, .. }) => {
                        row.verdict = "corrupt".to_owned();
                        row.detail = Some(format!("expected {sha256}, found {actual}"));
                    }
                    Err(error) if error.is_damage() => {
                        row.verdict = "corrupt".to_owned();
                        row.detail = Some(error.to_string());
                    }
                    // Nobody knows what it is: it stays.
                    Err(error) => return Err(error.into()),
                }
                if row.verdict != "good" {
                    error!(content.sha256 = %sha256, "{} of package {} is {}", file.name, package.id, row.verdict);
                    bad.push((sha256, seen));
                }
            }
            None => row.verdict = "not downloaded".to_owned(),
        }
        done += file.size;
        progress.at("validate", done);
        files.push(row);
    }
    if repair {
        for (sha256, seen) in &bad {
            content::set_aside(site, *sha256, seen.clone()).await?;
        }
    }
    progress.end("validate", format!("{} bad", bad.len()));
    let now = clock::now();
    let wanted = package.id.clone();
    site.write(move |w| w.mark_validated(&wanted, now)).await?;
    let problem = (!bad.is_empty()).then(|| {
        let mut problem = Problem::new(
            Code::ValidationFailed,
            format!(
                "{} of {} files of package `{}` are not what they should be",
                bad.len(),
                files.len(),
                package.name
            ),
        );
        for file in files.iter().filter(|file| matches!(file.verdict.as_str(), "corrupt" | "missing")) {
            let detail = file.detail.as_ref().map_or_else(String::new, |detail| format!(" ({detail})"));
            problem = problem.because(format!("{}: {}{detail}", file.file_name, file.verdict));
        }
        problem.help(match package.fetched {
            true => format!(
                "`spsync package validate {} --repair` sets them aside and fetches them again",
                package.id
            ),
            // Nobody but an operator has the files of images and applications.
            false => {
                "add the same file again with `spsync image add` or `spsync app add`, under another name: \
                      whatever has that content has it again"
                    .to_owned()
            }
        })
    });
    let validated = Validated { package: package.id.clone(), name: package.name.clone(), files };
    Ok((Answer::partly(&validated, problem)?, bad.into_iter().map(|(sha256, _)| sha256).collect()))
}
