//! Taking in what another server exported, where no network leads to an upstream.
//!
//! The export is read twice: once to see that it is whole, that every document says what its record promises, and what
//! would change; and once to record it, all in one transaction. A damaged export changes nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use catalog::digest::Sha256Digest;
use catalog::limits::Limits;
use catalog::problem::{Code, Coded as _, Problem};
use catalog::update::Revision;
use catalog::wsus_export::{self, Document, DocumentError, ExportError, ExportedFile, Item, Summary};
use schema::metadata::{MetadataRecorded, Prepared};
use schema::tasks::Unit;
use schema::{Reader, SchemaError};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::admin::{Answer, Caller, Work};
use crate::blocking::blocking;
use crate::clock;
use crate::given;
use crate::site::Site;
use crate::tasks::{Key, Progress};
use crate::updates::{offers, supersedence};
use crate::words::counted;

/// The source of what is imported: no configured one may have its name.
pub use schema::updates::IMPORT;

/// An export older than this is told to be old: products come and go in a quarter.
const STALE_DAYS: i64 = 90;
const MS_OF_A_DAY: i64 = 24 * 3600 * 1000;

/// The most refused documents that are named.
const NAMED: usize = 20;

/// What an import did, or would do.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Imported {
    /// The export.
    pub file: PathBuf,
    /// When it was made, as it says: what was published since is missing.
    pub made: Option<String>,
    /// Whole days since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_days: Option<i64>,
    /// Documents in it.
    pub documents: u64,
    /// How many of which kind; categories by their type.
    pub by_kind: BTreeMap<String, u64>,
    /// Documents not known before.
    pub new: u64,
    /// Documents that are recorded already.
    pub unchanged: u64,
    /// Documents that cannot be used.
    pub refused: u64,
    /// Categories not known before.
    pub new_categories: Vec<String>,
    /// Feature updates that the documents came to and that were not known before.
    pub new_feature_updates: u64,
    /// Remarks: what is missing, what was refused and why.
    pub notes: Vec<String>,
    /// Nothing was changed.
    pub dry_run: bool,
}

/// Imports as a task.
///
/// # Errors
/// `SOURCE_MISSING` where there is no such file; those of the database.
pub async fn start(site: &Arc<Site>, file: PathBuf, caller: &Caller) -> Result<Work, Problem> {
    let settings = site.settings();
    let (path, links) = (file.clone(), given::links(&settings, &file));
    let opened = move || {
        given::open(&path, links).map_err(|error| {
            let message = format!("the export `{}` cannot be read", path.display());
            // It is no source on the web, whose advice would be no help.
            Problem::new(Code::SourceMissing, message).because_of(Some(&error)).help(format!(
                "copy it to `{}`, readable by the user of spsync, and name it there",
                settings.exchange_dir().display()
            ))
        })
    };
    let export = Export { open: blocking(opened).await?, file: file.clone() };
    let caller = caller.clone();
    let title = format!("import {}", file.display());
    let key = Key::new("import", &file.display().to_string(), caller.dry_run);
    let task = site
        .tasks
        .start("import", title, key, |progress| {
            let site = site.clone();
            async move { run(&site, export, &caller, &progress).await }
        })
        .await?;
    Ok(Work::Started(task))
}

async fn run(
    site: &Arc<Site>,
    export: Export,
    caller: &Caller,
    progress: &Progress,
) -> Result<Answer, Problem> {
    let file = export.file.clone();
    let (whole, export) = {
        let progress = progress.clone();
        blocking(move || Ok((look_through(&export, &progress)?, export))).await?
    };
    progress.phase("import", whole.documents as u64, Unit::Items);
    let mut imported = if caller.dry_run {
        let progress = progress.clone();
        site.read(move |r| compare(r, &export, &progress)).await?
    } else {
        let (progress, who) = (progress.clone(), caller.who.clone());
        site.write(move |w| {
            let record = |revision: &Revision, document: &[u8]| {
                w.record_metadata(IMPORT, &Prepared::new(revision.clone(), document)?, clock::now())
            };
            let link = |file: &ExportedFile| match file.url.as_deref().filter(|url| is_link(url)) {
                Some(url) => w.record_metadata_url(IMPORT, file.digest, url),
                None => Ok(()),
            };
            let imported = each(&export, &progress, record, link)?;
            w.audit(&who, "updates.import", &export.file.to_string_lossy(), clock::now())?;
            Ok(imported)
        })
        .await?
    };
    progress.end("import", format!("{} new", imported.new));
    // So far there is no other remark.
    let refusals = imported.notes.clone();
    if !caller.dry_run {
        let offered = offers::refresh(site).await?;
        // Also of documents that were there before, and of which only this export said where their files are.
        site.write(|w| w.share_links()).await?;
        imported.new_feature_updates = offered.new;
        supersedence::apply(site).await?;
    }
    imported.file = file;
    imported.dry_run = caller.dry_run;
    imported.documents = whole.documents as u64;
    imported.made = whole.origin.created.as_ref().map(|created| created.text.clone());
    let made = whole.origin.created.as_ref().and_then(|created| created.unix_ms);
    imported.age_days = made.map(|made| (clock::now().as_millisecond() - made) / MS_OF_A_DAY);
    if let Some(days) = imported.age_days.filter(|days| *days > STALE_DAYS) {
        imported.notes.push(format!("the export is {days} days old: what was published since is missing"));
    }
    if whole.missing > 0 {
        imported.notes.push(format!("{} revisions are listed without a document", whole.missing));
    }
    if whole.unlisted > 0 {
        imported.notes.push(format!("{} documents are not listed", whole.unlisted));
    }
    if whole.files > 0 {
        imported.notes.push(format!("{} files are named; their content is not in an export", whole.files));
    }
    let refused = (imported.refused > 0).then(|| {
        let message = format!("{} cannot be used", counted(imported.refused as usize, "document"));
        let told = refusals.into_iter().take(5);
        told.fold(Problem::new(Code::ImportPartlyDone, message), Problem::because)
            .keeping(if caller.dry_run { "nothing was changed" } else { "everything else is recorded" })
    });
    Answer::partly(&imported, refused)
}

/// An export that was opened once: both readings are of the same file, whatever has its name by then.
struct Export {
    file: PathBuf,
    open: File,
}

impl Export {
    /// From its beginning.
    fn read(&self) -> Result<impl Read + '_, Problem> {
        let mut open = &self.open;
        open.rewind().map_err(|error| {
            Problem::new(Code::DiskError, format!("the export `{}` cannot be read", self.file.display()))
                .because_of(Some(&error))
        })?;
        Ok(BufReader::new(open))
    }
}

/// Reads everything and records nothing.
fn look_through(export: &Export, progress: &Progress) -> Result<Summary, Problem> {
    progress.phase("read", 0, Unit::Items);
    let mut count = 0;
    let summary = wsus_export::read(export.read()?, &Limits::default(), |item| {
        if let Item::Document(_) = item {
            count += 1;
            progress.at("read", count);
        }
        Ok::<_, ExportError>(())
    })
    .map_err(|error| unusable(&export.file, &error))?;
    progress.end("read", counted(summary.documents, "document"));
    Ok(summary)
}

fn compare(reader: &Reader<'_>, export: &Export, progress: &Progress) -> Result<Imported, SchemaError> {
    let known =
        |revision: &Revision, document: &[u8]| reader.metadata_known(revision.id, Sha256Digest::of(document));
    each(export, progress, known, |_| Ok(()))
}

/// A place on the web: nothing else is ever fetched because a document says so.
fn is_link(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some())
}

/// Hands every usable document to `record` and counts what came of it. One that cannot be used never fails the others.
fn each(
    export: &Export,
    progress: &Progress,
    mut record: impl FnMut(&Revision, &[u8]) -> Result<MetadataRecorded, SchemaError>,
    mut link: impl FnMut(&ExportedFile) -> Result<(), SchemaError>,
) -> Result<Imported, SchemaError> {
    let limits = Limits::default();
    let mut imported = Imported::default();
    let mut done = 0;
    let read = wsus_export::read(export.read()?, &limits, |item| {
        let document = match item {
            Item::Document(document) => document,
            Item::File(file) => return link(&file).map_err(Stop::Schema),
            Item::Origin(_) | Item::Language(_) => return Ok(()),
        };
        done += 1;
        progress.at("import", done);
        one(&document, &limits, &mut imported, &mut record).map_err(Stop::Schema)
    });
    match read {
        Ok(_) => Ok(imported),
        Err(Stop::Schema(error)) => Err(error),
        Err(Stop::Export(error)) => Err(unusable(&export.file, &error).into()),
    }
}

enum Stop {
    Export(ExportError),
    Schema(SchemaError),
}

impl From<ExportError> for Stop {
    fn from(error: ExportError) -> Self {
        Self::Export(error)
    }
}

fn one(
    document: &Document<'_>,
    limits: &Limits,
    imported: &mut Imported,
    record: &mut impl FnMut(&Revision, &[u8]) -> Result<MetadataRecorded, SchemaError>,
) -> Result<(), SchemaError> {
    let refuse = |imported: &mut Imported, why: String| {
        imported.refused += 1;
        if imported.refused as usize <= NAMED {
            imported.notes.push(format!("refused {}: {why}", document.id));
        }
    };
    let revision = match document.parse(limits) {
        Ok(revision) => revision,
        Err(error) => {
            let error: DocumentError = error;
            refuse(imported, format!("[{}] {error}", error.code()));
            return Ok(());
        }
    };
    match record(&revision, document.xml.as_bytes())? {
        MetadataRecorded::Unchanged => imported.unchanged += 1,
        MetadataRecorded::Contradicts => {
            refuse(
                imported,
                "the revision is recorded with other bytes, and a revision never changes".to_owned(),
            );
            return Ok(());
        }
        MetadataRecorded::New => {
            imported.new += 1;
            if let Some(category) = &revision.category {
                let title = revision.title("en").unwrap_or_default();
                imported.new_categories.push(format!("{} {title}", category.category_type));
            }
        }
    }
    let kind = match &revision.category {
        Some(category) => format!("category {}", category.category_type),
        None => format!("{:?}", revision.kind).to_lowercase(),
    };
    *imported.by_kind.entry(kind).or_default() += 1;
    Ok(())
}

fn unusable(file: &Path, error: &ExportError) -> Problem {
    Problem::new(error.code(), format!("the export `{}` cannot be used", file.display()))
        .because(error.to_string())
        .because_of(std::error::Error::source(error))
        .keeping("the database is unchanged")
}
