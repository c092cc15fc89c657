//! Documents inside of messages ([MS-WSUSSS] section 3.1.4.6): as text, or as a cabinet with one file of UTF-16LE.

use super::MessageError;
use crate::cabinet::Cabinet;
use crate::id::RevisionId;
use crate::limits::Limits;
use crate::problem::{Code, Coded as _};
use crate::xml::utf8;

/// One document as a message carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blob {
    /// As text.
    Plain(String),
    /// A cabinet whose one file, called `blob`, is the document in UTF-16LE without a byte order mark.
    Compressed(Vec<u8>),
}

/// The document in UTF-8, as it is kept.
///
/// # Errors
/// [`MessageError::Blob`] where the cabinet or the text in it is damaged, has more than one file, or is too large.
pub fn decode_blob(id: RevisionId, blob: Blob, limits: &Limits) -> Result<String, MessageError> {
    let cabinet = match blob {
        Blob::Plain(document) => return Ok(document),
        Blob::Compressed(cabinet) => cabinet,
    };
    let failed = |why: String, code: Code| MessageError::Blob { id, why, code };
    let parsed = Cabinet::parse(&cabinet, limits).map_err(|error| failed(error.to_string(), error.code()))?;
    let [file] = parsed.files() else {
        let why = format!("expected a cabinet with one file, actual {}", parsed.files().len());
        return Err(failed(why, Code::CabMalformed));
    };
    let bytes = parsed.read(file).map_err(|error| failed(error.to_string(), error.code()))?;
    let text = utf8(&bytes).map_err(|error| failed(error.to_string(), error.code()))?;
    Ok(text.into_owned())
}
