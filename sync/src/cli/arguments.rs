//! Arguments that several nouns take.

use std::path::{Path, PathBuf};

use catalog::problem::{Code, Problem};

/// The same path, whatever folder the site works in.
pub(super) fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// A text file of at most `most` bytes.
pub(super) fn read_small(path: &Path, most: usize) -> Result<String, Problem> {
    use std::io::Read as _;
    let failed = |error: std::io::Error| {
        Problem::new(Code::DiskError, format!("`{}` cannot be read", path.display())).because_of(Some(&error))
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(most as u64 + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() > most {
        return Err(Problem::new(
            Code::InvalidOption,
            format!("`{}` has more than {most} bytes", path.display()),
        ));
    }
    Ok(text)
}

/// The number of a task or run.
pub(super) fn number(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| "expected a number, as `list` and `history` print it".to_owned())
}

/// `key=value`.
pub(super) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}
