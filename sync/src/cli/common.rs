//! What nouns have in common: their arguments, and answers whose shape says enough by itself.

use std::path::{Path, PathBuf};

use catalog::problem::{Code, Problem};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Called, Global, Output, connect, said};
use crate::admin::Request;
use crate::config::Loaded;
use crate::software::SoftwareRequest;

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

/// Asks the site about software, collections or client settings.
pub(super) async fn software(
    request: SoftwareRequest,
    settings: &Loaded,
    global: &Global,
    output: &Output,
) -> Result<Called<Value>, Problem> {
    connect::call(settings, global, output, Request::Software(request)).await
}

/// Sends a request, and prints an answer whose shape says enough by itself.
pub(super) async fn plain(
    request: Request,
    settings: &Loaded,
    global: &Global,
    output: &Output,
) -> Result<u8, Problem> {
    let called = connect::call::<Value>(settings, global, output, request).await?;
    show_value(&called.body, output);
    Ok(called.finish(output))
}

/// An answer as a value of ours, where it is one.
pub(super) fn read<T: DeserializeOwned>(body: &Value) -> Option<T> {
    serde_json::from_value(body.clone()).ok()
}

/// The id in an answer.
pub(super) fn id_of(body: &Value) -> String {
    body["id"].as_str().unwrap_or_default().to_owned()
}

/// The name in an answer.
pub(super) fn name_of(body: &Value) -> String {
    body["name"].as_str().unwrap_or_default().to_owned()
}

/// Prints an answer for people: what an act did in a sentence, and anything else field by field.
pub(super) fn say(body: &Value, output: &Output) {
    match said::sentence(body) {
        Some(sentence) => output.line(sentence),
        None => said::lines(body).iter().for_each(|line| output.line(line)),
    }
}

/// Prints an answer whose shape says enough by itself.
pub(super) fn show_value(body: &Value, output: &Output) {
    output.one(
        body,
        |body| body["package"].as_str().map_or_else(|| id(body), str::to_owned),
        |output| say(body, output),
    );
}

/// The id of a task or thing.
fn id(body: &Value) -> String {
    body["id"]
        .as_str()
        .map_or_else(|| body["id"].as_i64().map_or_else(String::new, |id| id.to_string()), str::to_owned)
}
