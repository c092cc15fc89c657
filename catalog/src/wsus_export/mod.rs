//! What a WSUS server exports for one that has no network (`wsusutil export`): every update document, and where their
//! files came from.
//!
//! Up to 2013 it is a cabinet of `package.xml` (the list) and `metadata.txt` (the documents). Later ones are `.xml.gz`. Neither
//! format is published. The cabinet is read as a real one of 2024 is made: records of
//! `guid,<8 hex digits: revision>,<8 hex digits: length>,<document>CRLF`, whose length counts characters, not bytes.
//! Of the gzip form no sample was ever seen: taken are the same records, and an `ExportPackage` whose documents stand in
//! it as elements or as text; anything else is refused.
//!
//! [`read`] yields what it finds piece by piece and keeps nothing but ids, so memory is that of the largest document, and
//! of the cabinet, whose folders are unpacked whole. It yields before it has seen the end: who records, does so in one
//! transaction, or expects to be cut short.

mod package;
mod records;

use std::collections::HashSet;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};

use crate::cabinet::{Cabinet, CabinetError};
use crate::digest::Sha1Digest;
use crate::id::RevisionId;
use crate::limits::Limits;
use crate::problem::{Code, Coded};
use crate::update::{self, Revision, Timestamp, UpdateError};
use crate::xml::XmlError;

/// Why something is no usable export.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The cabinet cannot be read.
    #[error("the cabinet of the export cannot be read")]
    Cabinet(#[from] CabinetError),
    /// The list is not read as XML.
    #[error("the list of the export cannot be read")]
    Xml(#[from] XmlError),
    /// Not of this format.
    #[error("malformed export at byte {position}: {what}")]
    Malformed {
        /// Where: a byte of the unpacked part that was read.
        position: u64,
        /// What is wrong.
        what: String,
    },
    /// It ends in the middle.
    #[error("the export ends too early, at byte {position}, inside {inside}")]
    Truncated {
        /// Where: a byte of the unpacked part that was read.
        position: u64,
        /// Inside what.
        inside: &'static str,
    },
    /// More than the limits allow.
    #[error("the export has more {what} than the {most} that are read")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        most: u64,
    },
    /// The bytes cannot be had.
    #[error("the export cannot be read to its end")]
    Read(#[source] io::Error),
}

impl Coded for ExportError {
    fn code(&self) -> Code {
        match self {
            Self::Cabinet(error) => error.code(),
            Self::Xml(error) => error.code(),
            Self::Malformed { .. } => Code::CatalogMalformed,
            Self::Truncated { .. } => Code::CatalogTruncated,
            Self::Read(_) => Code::DiskError,
            Self::TooLarge { .. } => Code::CatalogTooLarge,
        }
    }
}

/// Why the document of one record is not used. The others may be good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// It is no update.
    #[error("the document of {id} cannot be used")]
    Update {
        /// The id that its record states.
        id: RevisionId,
        /// Why.
        #[source]
        cause: UpdateError,
    },
    /// It is another update than its record states.
    #[error("the record of {expected} holds the document of {actual}")]
    OtherUpdate {
        /// The id of the record.
        expected: RevisionId,
        /// The id of the document.
        actual: RevisionId,
    },
}

impl Coded for DocumentError {
    fn code(&self) -> Code {
        match self {
            Self::Update { cause, .. } => cause.code(),
            Self::OtherUpdate { .. } => Code::CatalogMalformed,
        }
    }
}

/// Where an export comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The GUID of the server, as written.
    pub server: Option<String>,
    /// When it was made: products published since are missing.
    pub created: Option<Timestamp>,
    /// `1.0`.
    pub format_version: Option<String>,
    /// `1.20`.
    pub protocol_version: Option<String>,
}

/// A language of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Language {
    /// Its code: `pt-br`; `all` where the server keeps every one.
    pub code: String,
    /// Its name.
    pub name: String,
    /// Files of this language are kept by the server.
    pub enabled: bool,
}

/// Where a file of the export came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedFile {
    /// Its SHA-1, which is its key.
    pub digest: Sha1Digest,
    /// Where the publisher serves it.
    pub url: Option<String>,
    /// Its name, as a label.
    pub name: Option<String>,
}

/// One document, as stored by the server.
#[derive(Debug, Clone, Copy)]
pub struct Document<'e> {
    /// Which revision it is of, as its record says.
    pub id: RevisionId,
    /// The whole document.
    pub xml: &'e str,
}

impl Document<'_> {
    /// What the document says, if it is the one that its record promises.
    ///
    /// # Errors
    /// Each [`DocumentError`].
    pub fn parse(&self, limits: &Limits) -> Result<Revision, DocumentError> {
        let revision = update::parse(self.xml.as_bytes(), limits)
            .map_err(|cause| DocumentError::Update { id: self.id, cause })?;
        if revision.id != self.id {
            return Err(DocumentError::OtherUpdate { expected: self.id, actual: revision.id });
        }
        Ok(revision)
    }
}

/// What an export holds, piece by piece.
#[derive(Debug)]
pub enum Item<'e> {
    /// First of all, where it has a list: where it comes from.
    Origin(&'e Origin),
    /// A language that the server knows.
    Language(Language),
    /// Where a file came from.
    File(ExportedFile),
    /// A document.
    Document(Document<'e>),
}

/// What was in an export.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Where it comes from.
    pub origin: Origin,
    /// Languages that were yielded.
    pub languages: usize,
    /// Files that were yielded: where they came from, not the files themselves.
    pub files: usize,
    /// Documents that were yielded.
    pub documents: usize,
    /// Revisions that the list names; none where there is no list.
    pub listed: usize,
    /// Revisions that the list names and that have no document.
    pub missing: usize,
    /// Documents that the list does not name, where there is a list.
    pub unlisted: usize,
}

/// Reads a whole export in either form, told apart by its first bytes, and hands every piece of it to `each`.
///
/// # Errors
/// Each [`ExportError`], or what `each` answers.
pub fn read<E: From<ExportError>>(
    mut source: impl Read,
    limits: &Limits,
    each: impl FnMut(Item<'_>) -> Result<(), E>,
) -> Result<Summary, E> {
    let mut magic = Vec::new();
    source.by_ref().take(4).read_to_end(&mut magic).map_err(ExportError::Read)?;
    let mut seen = Seen { limits, each, summary: Summary::default(), ids: Ids::default() };
    let whole = magic.as_slice().chain(source);
    if magic == b"MSCF" {
        seen.cabinet(whole)?;
    } else if magic.starts_with(&[0x1f, 0x8b]) {
        seen.gzip(flate2::read::MultiGzDecoder::new(whole))?;
    } else {
        let what = "it is neither a cabinet nor gzip".to_owned();
        return Err(ExportError::Malformed { position: 0, what }.into());
    }
    if seen.summary.documents == 0 {
        let what = "it holds no update document".to_owned();
        return Err(ExportError::Malformed { position: 0, what }.into());
    }
    let (listed, documents) = (&seen.ids.listed, &seen.ids.documents);
    seen.summary.listed = listed.len();
    seen.summary.missing = listed.difference(documents).count();
    seen.summary.unlisted = if listed.is_empty() { 0 } else { documents.difference(listed).count() };
    Ok(seen.summary)
}

#[derive(Default)]
struct Ids {
    listed: HashSet<RevisionId>,
    documents: HashSet<RevisionId>,
}

/// What was yielded so far.
struct Seen<'l, F> {
    limits: &'l Limits,
    each: F,
    summary: Summary,
    ids: Ids,
}

impl<E: From<ExportError>, F: FnMut(Item<'_>) -> Result<(), E>> Seen<'_, F> {
    fn cabinet(&mut self, source: impl Read) -> Result<(), E> {
        let most = self.limits.document_bytes;
        let mut bytes = Vec::new();
        source.take(most + 1).read_to_end(&mut bytes).map_err(ExportError::Read)?;
        let cabinet = Cabinet::parse(&bytes, self.limits).map_err(ExportError::Cabinet)?;
        let find = |name: &str| {
            let found = cabinet.files().iter().find(|file| file.name.eq_ignore_ascii_case(name));
            found.ok_or_else(|| {
                let what = format!("the cabinet holds no {name}, so it is no WSUS export");
                ExportError::Malformed { position: 0, what }
            })
        };
        let (list, metadata) = (find("package.xml")?, find("metadata.txt")?);
        self.package(&cabinet.read(list).map_err(ExportError::Cabinet)?)?;
        let metadata = cabinet.read(metadata).map_err(ExportError::Cabinet)?;
        self.records(metadata.as_slice())
    }

    fn gzip(&mut self, unpacked: impl Read) -> Result<(), E> {
        let mut unpacked = unpacked;
        let mut first = Vec::new();
        unpacked.by_ref().take(4).read_to_end(&mut first).map_err(|error| broken(error, first.len()))?;
        let is_xml = matches!(first.as_slice(), [b'<', ..] | [0xEF, 0xBB, 0xBF, b'<'] | [0xFF, 0xFE, ..]);
        let whole = first.as_slice().chain(unpacked);
        if !is_xml {
            return self.records(whole);
        }
        let most = self.limits.unpacked_bytes;
        let mut xml = Vec::new();
        let done = whole.take(most + 1).read_to_end(&mut xml);
        if xml.len() as u64 > most {
            return Err(ExportError::TooLarge { what: "unpacked bytes", most }.into());
        }
        done.map_err(|error| broken(error, xml.len()))?;
        self.package(&xml)
    }

    /// A revision of the list.
    fn listed(&mut self, id: RevisionId) -> Result<(), E> {
        self.room("revisions in its list", self.ids.listed.len())?;
        self.ids.listed.insert(id);
        Ok(())
    }

    fn room(&self, what: &'static str, count: usize) -> Result<(), ExportError> {
        let most = self.limits.export_documents;
        if count < most { Ok(()) } else { Err(ExportError::TooLarge { what, most: most as u64 }) }
    }

    fn document(&mut self, id: RevisionId, xml: &str, position: u64) -> Result<(), E> {
        self.room("update documents", self.summary.documents)?;
        if !self.ids.documents.insert(id) {
            let what = format!("it holds {id} twice");
            return Err(ExportError::Malformed { position, what }.into());
        }
        self.summary.documents += 1;
        (self.each)(Item::Document(Document { id, xml }))
    }
}

/// What an error of the unpacked stream means.
fn broken(error: io::Error, position: usize) -> ExportError {
    let position = position as u64;
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ExportError::Truncated { position, inside: "its compressed data" },
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            ExportError::Malformed { position, what: format!("gzip: {error}") }
        }
        _ => ExportError::Read(error),
    }
}
