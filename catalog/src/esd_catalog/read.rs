//! From XML to values, by path, in one pass.
//!
//! quick-xml is no well-formedness check, so what could be used against us is refused here: document types, undefined
//! entities, duplicate attributes, too deep, too many, too long, text after the end (threat T12).

use std::collections::HashMap;

use quick_xml::Reader;
use quick_xml::errors::IllFormedError;
use quick_xml::events::{BytesStart, Event};

use super::{Architecture, EsdCatalog, EsdCatalogError, EsdFile, EsdName, LicenseLink, RefusedRecord};
use crate::digest::Digests;
use crate::id::{FileName, UpdateId};
use crate::limits::Limits;

const CATALOG: &str = "MCT/Catalogs/Catalog";
const FILE: &str = "MCT/Catalogs/Catalog/PublishedMedia/Files/File";
const LANGUAGE: &str = "MCT/Catalogs/Catalog/PublishedMedia/Languages/Language";
const EULA: &str = "MCT/Catalogs/Catalog/PublishedMedia/EULAs/EULA";

/// Reads a whole catalog. What is damaged or cut is refused whole: the first part of a catalog would look like all
/// of it.
///
/// # Errors
/// Each [`EsdCatalogError`] but that of cabinets.
pub fn parse(xml: &[u8], limits: &Limits) -> Result<EsdCatalog, EsdCatalogError> {
    if xml.len() as u64 > limits.unpacked_bytes {
        return Err(EsdCatalogError::TooLarge { what: "unpacked bytes", most: limits.unpacked_bytes });
    }
    let text = as_utf8(xml)?;
    let mut document = Document::new(limits);
    let mut reader = Reader::from_str(&text);
    reader.config_mut().check_end_names = true;
    loop {
        let position = reader.buffer_position();
        let event = match reader.read_event() {
            Ok(event) => event,
            Err(error) => return Err(document.not_xml(&error, reader.error_position())),
        };
        if let Event::Eof = event {
            return document.finish(position);
        }
        document.on(&event, position)?;
    }
}

/// UTF-8, with or without a byte order mark, or UTF-16 with one.
fn as_utf8(xml: &[u8]) -> Result<String, EsdCatalogError> {
    let (encoding, mark) = encoding_rs::Encoding::for_bom(xml).unwrap_or((encoding_rs::UTF_8, 0));
    encoding
        .decode_without_bom_handling_and_without_replacement(&xml[mark..])
        .map(std::borrow::Cow::into_owned)
        .ok_or_else(|| EsdCatalogError::Malformed { position: 0, what: format!("it is not {}", encoding.name()) })
}

/// What is known after each event.
struct Document<'l> {
    limits: &'l Limits,
    /// Names of the open elements, joined by slashes.
    path: String,
    depth: usize,
    root_seen: bool,
    text: String,
    record: HashMap<String, String>,
    link: (Option<String>, Option<String>),
    known: HashMap<(FileName, u64, Digests, String), usize>,
    catalog: EsdCatalog,
}

impl<'l> Document<'l> {
    fn new(limits: &'l Limits) -> Self {
        Self {
            limits,
            path: String::new(),
            depth: 0,
            root_seen: false,
            text: String::new(),
            record: HashMap::new(),
            link: (None, None),
            known: HashMap::new(),
            catalog: EsdCatalog::default(),
        }
    }

    fn on(&mut self, event: &Event<'_>, position: u64) -> Result<(), EsdCatalogError> {
        let malformed = |what: String| EsdCatalogError::Malformed { position, what };
        match event {
            Event::Start(start) => self.open(start, position),
            Event::Empty(start) => {
                self.open(start, position)?;
                self.close(position)
            }
            Event::End(_) => self.close(position),
            Event::Text(text) => self.take(text, position),
            Event::CData(text) => self.take(text, position),
            Event::GeneralRef(name) => {
                let character = match name.resolve_char_ref() {
                    Ok(Some(character)) => Some(character),
                    Ok(None) => match &**name {
                        "lt" => Some('<'),
                        "gt" => Some('>'),
                        "amp" => Some('&'),
                        "apos" => Some('\''),
                        "quot" => Some('"'),
                        _ => None,
                    },
                    Err(_) => None,
                };
                let character = character.ok_or_else(|| malformed("an entity that is not defined".to_owned()))?;
                self.take(character.encode_utf8(&mut [0; 4]), position)
            }
            Event::DocType(_) => Err(malformed("a document type, which is never needed and often an attack".to_owned())),
            Event::Decl(_) if self.root_seen || position > 0 => Err(malformed("a declaration in the middle".to_owned())),
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) | Event::Eof => Ok(()),
        }
    }

    fn open(&mut self, start: &BytesStart<'_>, position: u64) -> Result<(), EsdCatalogError> {
        let malformed = |what: &str| EsdCatalogError::Malformed { position, what: what.to_owned() };
        if self.depth == 0 {
            if self.root_seen {
                return Err(malformed("a second root element"));
            }
            if start.name().as_ref() != "MCT" {
                return Err(malformed("the root element is not MCT, so this is no ESD catalog, or only a part of one"));
            }
            self.root_seen = true;
        }
        if self.depth == self.limits.xml_depth {
            return Err(EsdCatalogError::TooLarge { what: "levels", most: self.depth as u64 });
        }
        if self.depth > 0 {
            self.path.push('/');
        }
        self.path.push_str(start.name().as_ref());
        self.depth += 1;
        self.text.clear();
        let mut version = None;
        let mut language = None;
        for (count, attribute) in start.attributes().enumerate() {
            if count == self.limits.xml_attributes {
                return Err(EsdCatalogError::TooLarge { what: "attributes of one element", most: count as u64 });
            }
            // Duplicate attributes are an error of the iterator.
            let attribute = attribute.map_err(|error| malformed(&error.to_string()))?;
            if attribute.value.len() > self.limits.xml_text_bytes {
                return Err(EsdCatalogError::TooLarge { what: "bytes in one attribute", most: self.limits.xml_text_bytes as u64 });
            }
            let value = || attribute.value.trim().to_owned();
            match attribute.key.as_ref() {
                "version" => version = Some(value()),
                "LanguageCode" => language = Some(value()),
                _ => {}
            }
        }
        match self.path.as_str() {
            CATALOG => self.catalog.version = version.unwrap_or_default().chars().take(40).collect(),
            FILE => self.record.clear(),
            EULA => self.link = (None, None),
            LANGUAGE => {
                self.room(self.catalog.languages.len())?;
                self.catalog.languages.extend(language.filter(|code| code != "default").map(|code| code.to_lowercase()));
            }
            _ => {}
        }
        Ok(())
    }

    /// Languages and links share one cap.
    fn room(&self, count: usize) -> Result<(), EsdCatalogError> {
        if count < self.limits.catalog_links {
            return Ok(());
        }
        Err(EsdCatalogError::TooLarge { what: "languages or licence links", most: count as u64 })
    }

    fn take(&mut self, text: &str, position: u64) -> Result<(), EsdCatalogError> {
        if self.depth == 0 {
            if text.trim().trim_start_matches('\u{feff}').is_empty() {
                return Ok(());
            }
            return Err(EsdCatalogError::Malformed { position, what: "text outside of the root element".to_owned() });
        }
        if self.text.len() + text.len() > self.limits.xml_text_bytes {
            return Err(EsdCatalogError::TooLarge { what: "bytes in one text", most: self.limits.xml_text_bytes as u64 });
        }
        self.text.push_str(text);
        Ok(())
    }

    fn close(&mut self, position: u64) -> Result<(), EsdCatalogError> {
        let parent = self.path.rfind('/').unwrap_or(0);
        let name = self.path[parent..].trim_start_matches('/').to_owned();
        match self.path.as_str() {
            FILE => self.file()?,
            EULA => {
                self.room(self.catalog.licenses.len())?;
                if let (Some(language), Some(url)) = std::mem::take(&mut self.link) {
                    self.catalog.licenses.push(LicenseLink { language: language.to_lowercase(), url });
                }
            }
            _ => {
                let text = self.text.trim().to_owned();
                match (&self.path[..parent], name.as_str()) {
                    (FILE, _) => {
                        if self.record.insert(name, text).is_some() {
                            let what = "a File record states one thing twice".to_owned();
                            return Err(EsdCatalogError::Malformed { position, what });
                        }
                    }
                    (EULA, "LanguageCode") => self.link.0 = Some(text),
                    (EULA, "URL") => self.link.1 = Some(text),
                    _ => {}
                }
            }
        }
        self.text.clear();
        self.path.truncate(parent);
        self.depth -= 1;
        Ok(())
    }

    /// One `<File>` record is complete: a new ESD, one more edition of a known one, or nothing that can be used.
    fn file(&mut self) -> Result<(), EsdCatalogError> {
        if self.catalog.records == self.limits.catalog_files {
            return Err(EsdCatalogError::TooLarge { what: "File records", most: self.limits.catalog_files as u64 });
        }
        self.catalog.records += 1;
        match esd(&self.record) {
            Err(reason) => {
                let file_name = self.record.get("FileName").map_or("", String::as_str).chars().take(120).collect();
                self.catalog.refused.push(RefusedRecord { file_name, reason });
            }
            Ok(new) => {
                let key = (new.file_name.clone(), new.size, new.digests, new.url.clone());
                match self.known.get(&key) {
                    None => {
                        self.known.insert(key, self.catalog.files.len());
                        self.catalog.files.push(new);
                    }
                    Some(index) => {
                        let file = &mut self.catalog.files[*index];
                        file.encrypted |= new.encrypted;
                        file.retail_only &= new.retail_only;
                        for edition in new.editions {
                            if let Err(place) = file.editions.binary_search(&edition) {
                                file.editions.insert(place, edition);
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn not_xml(&self, error: &quick_xml::Error, position: u64) -> EsdCatalogError {
        // What is open when the bytes end was cut; everything else is damage.
        match error {
            quick_xml::Error::Syntax(_) | quick_xml::Error::IllFormed(IllFormedError::UnclosedReference)
                if self.root_seen =>
            {
                EsdCatalogError::Truncated { position, inside: self.path.clone() }
            }
            other => EsdCatalogError::Malformed { position, what: other.to_string() },
        }
    }

    fn finish(self, position: u64) -> Result<EsdCatalog, EsdCatalogError> {
        if self.depth > 0 {
            return Err(EsdCatalogError::Truncated { position, inside: self.path });
        }
        if self.catalog.files.is_empty() {
            let what = match self.catalog.refused.first() {
                Some(refused) => format!("no usable File record; the first one: {}", refused.reason),
                None => "no File record".to_owned(),
            };
            return Err(EsdCatalogError::Malformed { position, what });
        }
        Ok(self.catalog)
    }
}

/// What one record says, or why it cannot be used.
fn esd(record: &HashMap<String, String>) -> Result<EsdFile, String> {
    let field = |name: &str| record.get(name).map(String::as_str).filter(|text| !text.is_empty());
    let needed = |name: &'static str| field(name).ok_or_else(|| format!("it has no {name}"));
    let file_name: FileName = needed("FileName")?.parse().map_err(|error| format!("{error}"))?;
    let size = needed("Size")?.parse().ok().filter(|size| *size > 0).ok_or("its Size is no positive number")?;
    let digests = Digests {
        sha1: field("Sha1").map(str::parse).transpose().map_err(|error| format!("{error}"))?,
        sha256: field("Sha256").map(str::parse).transpose().map_err(|error| format!("{error}"))?,
    };
    let strongest = digests.strongest().ok_or("it has no digest, so nothing could verify it")?;
    let url = needed("FilePath")?;
    let scheme = url.split_once("://").map(|(scheme, rest)| (scheme.to_ascii_lowercase(), rest));
    if !matches!(scheme, Some((scheme, rest)) if (scheme == "http" || scheme == "https") && !rest.is_empty()) {
        return Err("its FilePath is neither http nor https".to_owned());
    }
    let language = needed("LanguageCode")?.to_lowercase();
    if language.len() > 35 || !language.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err("its LanguageCode is none".to_owned()); // RFC 5646 section 4.4.1: 35 characters hold every tag
    }
    let architecture: Architecture = needed("Architecture")?.parse().map_err(|error| format!("{error}"))?;
    let name = EsdName::parse(file_name.as_str());
    let update = match &name {
        None => UpdateId::of_unrecognised(&strongest),
        Some(name) => UpdateId::of_esd(
            &name.product.to_string(),
            name.build.major,
            &name.edition_group,
            &architecture.to_string(),
            &language,
        ),
    };
    Ok(EsdFile {
        update,
        file_name,
        size,
        digests,
        url: url.to_owned(),
        language,
        architecture,
        editions: field("Edition").map(|edition| edition.chars().take(80).collect()).into_iter().collect(),
        encrypted: field("Key").is_some(),
        retail_only: field("IsRetailOnly").is_some_and(|value| value.eq_ignore_ascii_case("true")),
        name,
    })
}
