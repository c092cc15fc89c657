//! The list of an export: `package.xml`, or the whole of an `.xml.gz` that is one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{ExportError, ExportedFile, Item, Language, Origin, Seen};
use crate::digest::Sha1Digest;
use crate::id::{RevisionId, RevisionNumber};
use crate::update::{self, Timestamp};
use crate::xml::{self, Element, Reader};

/// Characters of a value that is shown.
const LONGEST: usize = 8_000;

impl<E: From<ExportError>, F: FnMut(Item<'_>) -> Result<(), E>> Seen<'_, F> {
    /// Yields what the list says, and the documents in it, if there are any.
    pub(super) fn package(&mut self, document: &[u8]) -> Result<(), E> {
        let text = xml::utf8(document).map_err(ExportError::Xml)?;
        let mut reader = Reader::new(&text, self.limits).map_err(ExportError::Xml)?;
        let root = reader.root().map_err(ExportError::Xml)?;
        if root.name() != "ExportPackage" {
            let what = "the root element is not `ExportPackage`, so this is no WSUS export".to_owned();
            return Err(ExportError::Malformed { position: 0, what }.into());
        }
        let value = |name: &str| root.attribute(name).map(short);
        let origin = Origin {
            server: value("ServerID"),
            created: root.attribute("CreationTime").map(Timestamp::of),
            format_version: value("FormatVersion"),
            protocol_version: value("ProtocolVersion"),
        };
        (self.each)(Item::Origin(&origin))?;
        self.summary.origin = origin;
        self.inside(&text, &mut reader, None)?;
        reader.finish().map_err(|error| ExportError::Xml(error).into())
    }

    /// All children of the innermost open element; `revision` is the one that they are about, if any.
    fn inside(&mut self, text: &str, reader: &mut Reader<'_>, revision: Option<RevisionId>) -> Result<(), E> {
        while let Some(child) = reader.child().map_err(ExportError::Xml)? {
            let position = reader.position();
            match child.name() {
                "Update" if child.namespace() == update::NAMESPACE => {
                    reader.skip().map_err(ExportError::Xml)?;
                    let end = usize::try_from(reader.position()).unwrap_or(usize::MAX);
                    let xml = text.get(child.start()..end).unwrap_or_default();
                    self.found(revision, xml, position)?;
                }
                "Update" => {
                    let id = identity(&child, position)?;
                    self.listed(id)?;
                    self.inside(text, reader, Some(id))?;
                }
                // Of a revision, they name digests that the list has at its top.
                "Languages" | "Files" if revision.is_some() => reader.skip().map_err(ExportError::Xml)?,
                "Languages" | "Files" | "Updates" => self.inside(text, reader, None)?,
                "Language" => {
                    let language = Language {
                        code: short(child.attribute("ShortName").unwrap_or_default()).to_lowercase(),
                        name: short(child.attribute("LongName").unwrap_or_default()),
                        enabled: matches!(child.attribute("Enabled"), Some("1" | "true")),
                    };
                    self.room("languages", self.summary.languages)?;
                    self.summary.languages += 1;
                    (self.each)(Item::Language(language))?;
                    reader.skip().map_err(ExportError::Xml)?;
                }
                "File" => {
                    let file = file(&child, position)?;
                    self.room("files", self.summary.files)?;
                    self.summary.files += 1;
                    (self.each)(Item::File(file))?;
                    reader.skip().map_err(ExportError::Xml)?;
                }
                _ if revision.is_some() => self.perhaps_document(text, reader, revision)?,
                _ => reader.skip().map_err(ExportError::Xml)?,
            }
        }
        Ok(())
    }

    /// An element of a revision that we do not know: its document, as an element in it or as text, or nothing.
    fn perhaps_document(
        &mut self,
        text: &str,
        reader: &mut Reader<'_>,
        revision: Option<RevisionId>,
    ) -> Result<(), E> {
        let position = reader.position();
        let start = usize::try_from(position).unwrap_or(usize::MAX);
        // Text of a document is escaped or in CDATA; an element in it begins with a name.
        let ahead = text.get(start..).unwrap_or_default().trim_start();
        let as_text = ahead.starts_with("&lt;") || ahead.starts_with("&#") || ahead.starts_with("<![CDATA[");
        if !as_text {
            return self.inside(text, reader, revision);
        }
        let inner = reader.text().map_err(ExportError::Xml)?;
        let inner = inner.trim().trim_start_matches('\u{feff}');
        if inner.starts_with('<') { self.found(revision, inner, position) } else { Ok(()) }
    }

    fn found(&mut self, revision: Option<RevisionId>, xml: &str, position: u64) -> Result<(), E> {
        let id = match revision {
            Some(id) => id,
            None => {
                let parsed = update::parse(xml.as_bytes(), self.limits);
                let id = parsed.map(|revision| revision.id);
                id.map_err(|error| ExportError::Malformed { position, what: error.to_string() })?
            }
        };
        self.document(id, xml, position)
    }
}

fn short(text: &str) -> String {
    text.trim().chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn identity(element: &Element<'_>, position: u64) -> Result<RevisionId, ExportError> {
    let update = element.attribute("UpdateId").and_then(|id| id.trim().parse().ok());
    let number = element.attribute("RevisionNumber").and_then(|number| number.trim().parse().ok());
    match update.zip(number) {
        Some((update, number)) => Ok(RevisionId { update, number: RevisionNumber(number) }),
        None => {
            let what = "an `Update` of the list has no UpdateId or no RevisionNumber".to_owned();
            Err(ExportError::Malformed { position, what })
        }
    }
}

fn file(element: &Element<'_>, position: u64) -> Result<ExportedFile, ExportError> {
    let digest = element.attribute("Digest").unwrap_or_default().trim();
    let digest = STANDARD.decode(digest).ok().and_then(|bytes| Sha1Digest::from_bytes(&bytes).ok());
    let digest = digest.ok_or_else(|| ExportError::Malformed {
        position,
        what: "a `File` of the list has no SHA-1 as its Digest".to_owned(),
    })?;
    let value = |name| element.attribute(name).map(short).filter(|text| !text.is_empty());
    Ok(ExportedFile { digest, url: value("MUUrl"), name: value("Name") })
}
