//! Reading every file of a package again, and mending what is bad.

use std::sync::Arc;

use catalog::digest::Sha256Digest;
use catalog::problem::{Code, Problem};
use dp::library::Verdict;
use schema::packages::FileState;
use schema::tasks::Unit;
use serde::{Deserialize, Serialize};
use tracing::error;

use super::{content, named, shown};
use crate::admin::{Answer, Caller, Work};
use crate::clock;
use crate::site::{Site, problem};
use crate::tasks::{Key, Progress};

/// What validating found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Validated {
    /// Id of the package.
    pub package: catalog::id::PackageId,
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

/// Starts validating as a task.
///
/// # Errors
/// `PACKAGE_NOT_FOUND`, `AMBIGUOUS`, `TASK_BUSY`.
pub async fn validate(site: &Arc<Site>, name: &str, repair: bool, caller: &Caller) -> Result<Work, Problem> {
    let package = named(site, name).await?;
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
                let (answer, bad) = all(&site, &package.id, repair, &progress).await?;
                if repair && answer.problem.is_some() {
                    let filled =
                        crate::download::fill(&site, &package.id, None, None, &caller, &progress).await?;
                    // Other packages have it again too, whatever became of the others.
                    site.write(move |w| bad.into_iter().try_for_each(|sha256| w.lacks_no_more(sha256)))
                        .await?;
                    site.refresh_shelf().await?;
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
    id: &catalog::id::PackageId,
    repair: bool,
    progress: &Progress,
) -> Result<(Answer, Vec<Sha256Digest>), Problem> {
    let package = shown(site, id).await?;
    progress.phase("validate", package.bytes, Unit::Bytes);
    let mut files = Vec::new();
    let mut bad = Vec::new();
    let mut done = 0;
    for file in super::each_once(&package.files) {
        let mut row =
            ValidatedFile { file_name: file.file_name.to_string(), verdict: "good".to_owned(), detail: None };
        match (file.state, file.sha256) {
            (FileState::Stored, Some(sha256)) => {
                let library = site.library.clone();
                let verdict = tokio::task::spawn_blocking(move || library.verify(sha256))
                    .await
                    .map_err(|died| Problem::of(Code::Internal, &died))?;
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
                    Err(error) => return Err(problem(error)),
                }
                if row.verdict != "good" {
                    error!(content.sha256 = %sha256, "{} of package {} is {}", file.file_name, package.package.id, row.verdict);
                    bad.push(sha256);
                }
            }
            _ => row.verdict = "not downloaded".to_owned(),
        }
        done += file.size;
        progress.at("validate", done);
        files.push(row);
    }
    if repair {
        for sha256 in &bad {
            content::set_aside(site, *sha256).await?;
        }
    }
    progress.end("validate", format!("{} bad", bad.len()));
    let now = clock::now();
    let wanted = id.clone();
    site.write(move |w| w.mark_validated(&wanted, now)).await?;
    let problem = (!bad.is_empty()).then(|| {
        let mut problem = Problem::new(
            Code::ValidationFailed,
            format!(
                "{} of {} files of package `{}` are not what they should be",
                bad.len(),
                files.len(),
                package.package.name
            ),
        );
        for file in files.iter().filter(|file| matches!(file.verdict.as_str(), "corrupt" | "missing")) {
            let detail = file.detail.as_ref().map_or_else(String::new, |detail| format!(" ({detail})"));
            problem = problem.because(format!("{}: {}{detail}", file.file_name, file.verdict));
        }
        problem.help(format!(
            "`spsync package validate {} --repair` sets them aside and fetches them again",
            package.package.id
        ))
    });
    let validated = Validated { package: package.package.id, name: package.package.name, files };
    Ok((Answer::partly(&validated, problem)?, bad))
}
