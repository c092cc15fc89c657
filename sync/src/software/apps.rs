//! Applications: a small form in TOML, its content stored once.
//! ```toml
//! name = "Company Portal"
//! version = "5.0"
//! install = 'setup.exe /quiet'
//! success_codes = [0, 3010]
//! content = ["setup.exe"]          # beside the form
//! supersedes = ["Company Portal 4"]
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use catalog::id::FileName;
use catalog::problem::{Code, Problem};
use schema::software::{AppFile, AppRow};
use serde::{Deserialize, Serialize};

use super::take_in::{Taken, keep, take_in};
use crate::admin::{Answer, Caller};
use crate::blocking::blocking;
use crate::clock;
use crate::find::one;
use crate::names::{self, Rule};
use crate::packages::content;
use crate::site::Site;

/// The most bytes of a form.
pub const LARGEST_FORM: usize = 64 << 10;

/// The form of an application.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Form {
    /// Unique, without regard to case.
    pub name: String,
    /// Free text.
    #[serde(default)]
    pub version: String,
    /// The command line that installs it.
    pub install: String,
    /// Exit codes that mean success; 3010 also that a restart is needed.
    #[serde(default = "success")]
    pub success_codes: Vec<i64>,
    /// A command that succeeds where it is installed already.
    #[serde(default)]
    pub detect: String,
    /// Its files, beside the form.
    #[serde(default)]
    pub content: Vec<FileName>,
    /// Names or ids of applications that it replaces.
    #[serde(default)]
    pub supersedes: Vec<String>,
    /// It may be installed.
    #[serde(default = "yes")]
    pub enabled: bool,
}

fn success() -> Vec<i64> {
    vec![0, 3010]
}

fn yes() -> bool {
    true
}

fn invalid(why: impl Into<String>) -> Problem {
    Problem::new(Code::ApplicationInvalid, "the form of the application cannot be used").because(why)
}

impl Form {
    /// Reads a form.
    ///
    /// # Errors
    /// `APPLICATION_INVALID`, `NAME_*`.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        if text.len() > LARGEST_FORM {
            return Err(invalid(format!("it has more than {LARGEST_FORM} bytes")));
        }
        let mut form: Self = toml::from_str(text).map_err(|error| invalid(error.message().to_owned()))?;
        form.name = names::checked("an application", &form.name, Rule::Shown)?;
        if form.install.trim().is_empty() {
            return Err(invalid("`install` is empty"));
        }
        if form.content.len() > 10_000 {
            return Err(invalid("it has more than 10000 files"));
        }
        Ok(form)
    }
}

/// It may be installed by new task sequences.
pub fn is_usable(row: &AppRow) -> bool {
    !row.retired && row.form["enabled"].as_bool().unwrap_or(true)
}

/// The application that `name` means.
///
/// # Errors
/// `APPLICATION_NOT_FOUND`, `AMBIGUOUS`.
pub async fn named(site: &Arc<Site>, name: &str) -> Result<AppRow, Problem> {
    let all = site.read(|r| r.apps()).await?;
    one(name, &all, |row| (&row.id, &row.name), Code::ApplicationNotFound, "application").cloned()
}

/// Adds an application, whole or not at all.
///
/// # Errors
/// `APPLICATION_INVALID`, `APPLICATION_NOT_FOUND` for what it supersedes, `NAME_*`, those of the disk.
pub async fn add(site: &Arc<Site>, text: &str, folder: &Path, caller: &Caller) -> Result<Answer, Problem> {
    let form = Form::parse(text)?;
    let all = site.read(|r| r.apps()).await?;
    for name in &form.supersedes {
        one(name, &all, |row| (&row.id, &row.name), Code::ApplicationNotFound, "application")?;
    }
    let name = form.name.clone();
    site.read(move |r| r.check_app_name(&name)).await?;
    let paths: Vec<_> = form.content.iter().map(|file| folder.join(file.as_str())).collect();
    blocking(move || {
        let is_file = |path: &PathBuf| std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file());
        match paths.iter().find(|path| !is_file(path)) {
            None => Ok(()),
            Some(path) => Err(invalid(format!("there is no file `{}`", path.display()))),
        }
    })
    .await?;
    if caller.dry_run {
        return Answer::of(&serde_json::json!({ "would_create": form, "dry_run": true }));
    }
    let mut taken = Vec::new();
    for file in &form.content {
        taken.push(take_in(site, &folder.join(file.as_str())).await?);
    }
    let added = record(site, form, taken, "app.add", caller).await;
    if added.is_err() {
        content::forget_unused(site).await?;
    }
    Answer::of(&added?)
}

/// Records an application whose files the library has.
///
/// # Errors
/// `NAME_IN_USE`, those of the database.
pub async fn record(
    site: &Arc<Site>,
    form: Form,
    taken: Vec<Taken>,
    what: &'static str,
    caller: &Caller,
) -> Result<AppRow, Problem> {
    let (code, who) = (site.code().clone(), caller.who.clone());
    let value = serde_json::to_value(&form).map_err(|error| Problem::of(Code::Internal, &error))?;
    site.write(move |w| {
        for taken in &taken {
            keep(w, taken)?;
        }
        let (id, number) = w.next_id(&code)?;
        let file =
            |taken: Taken| AppFile { file_name: taken.file_name, content: taken.sha256, size: taken.size };
        let row = AppRow {
            id,
            name: form.name,
            form: value,
            retired: false,
            created: clock::now(),
            files: taken.into_iter().map(file).collect(),
        };
        w.create_app(number, &row)?;
        w.audit(&who, what, row.id.as_str(), clock::now())?;
        Ok(row)
    })
    .await
}

/// An application is not installed any more; task sequences that name it are not deployable until they are changed.
///
/// # Errors
/// `APPLICATION_NOT_FOUND`.
pub async fn retire(site: &Arc<Site>, name: &str, caller: &Caller) -> Result<Answer, Problem> {
    let row = named(site, name).await?;
    let target = row.id.to_string();
    let users = site.read(move |r| r.sequences_with(&target)).await?;
    if !caller.dry_run {
        let (id, who) = (row.id.clone(), caller.who.clone());
        site.write(move |w| {
            w.retire_app(&id)?;
            w.audit(&who, "app.retire", id.as_str(), clock::now())
        })
        .await?;
    }
    Answer::of(
        &serde_json::json!({ "retired": row.name, "id": row.id, "used_by": users, "dry_run": caller.dry_run }),
    )
}
