//! The document of a task sequence in the editor of the user.

use std::io::Write as _;
use std::path::Path;

use catalog::problem::{Code, Problem};
use serde_json::Value;

use super::super::arguments::read_small;
use super::super::said::id_of;
use crate::authoring::TsRequest;
use crate::sequence::LARGEST;
use crate::sequence::document::small_enough;

/// The changed document as a request; `None` where nothing was changed. It replaces the revision that was shown, so that
/// two people never overwrite each other.
///
/// # Errors
/// `TASK_SEQUENCE_TOO_LARGE`; `USAGE` where no editor is named; `DISK_ERROR`.
pub fn edited(
    shown: &Value,
    from: Option<&Path>,
    confirm_high_risk: bool,
) -> Result<Option<TsRequest>, Problem> {
    let before = shown["document"].as_str().unwrap_or_default();
    let document = match from {
        Some(file) => {
            let bytes = std::fs::metadata(file).map_or(0, |meta| meta.len());
            small_enough(usize::try_from(bytes).unwrap_or(usize::MAX))?;
            read_small(file, LARGEST)?
        }
        None => in_editor(before)?,
    };
    let revision =
        shown["revision"].as_u64().and_then(|revision| u32::try_from(revision).ok()).unwrap_or_default();
    let sequence = id_of(shown);
    Ok((document != before).then_some(TsRequest::Replace { sequence, revision, document, confirm_high_risk }))
}

fn in_editor(before: &str) -> Result<String, Problem> {
    let editor = std::env::var("VISUAL").or_else(|_| std::env::var("EDITOR")).unwrap_or_default();
    let mut words = editor.split_whitespace();
    let Some(program) = words.next() else {
        return Err(Problem::new(Code::Usage, "no editor is known").help("set EDITOR, or give `--from FILE`"));
    };
    let failed = |error: std::io::Error| {
        Problem::new(Code::DiskError, format!("`{program}` could not edit the document"))
            .because_of(Some(&error))
    };
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().map_err(failed)?;
    file.write_all(before.as_bytes()).map_err(failed)?;
    let ended = std::process::Command::new(program).args(words).arg(file.path()).status().map_err(failed)?;
    if !ended.success() {
        return Err(Problem::new(Code::Interrupted, format!("`{program}` ended without success")));
    }
    read_small(file.path(), LARGEST)
}
