//! From XML to values, by path, in one pass.
//!
//! quick-xml is no well-formedness check, so what could be used against us is refused here: document types, undefined
//! entities, duplicate attributes, too deep, too many, too long, text after the end.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use super::{
    Architecture, EsdCatalog, EsdCatalogError, EsdFile, EsdName, LanguageName, LicenseLink, RefusedRecord,
};
use crate::digest::Digests;
use crate::id::{FileName, UpdateId};
use crate::limits::Limits;
use crate::problem::Code;
use crate::xml::is_cut;

const CATALOG: &str = "MCT/Catalogs/Catalog";
const FILE: &str = "MCT/Catalogs/Catalog/PublishedMedia/Files/File";
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
    let (text, mark) = as_utf8(xml)?;
    let mut document = Document::new(limits);
    let mut reader = Reader::from_str(&text);
    reader.config_mut().check_end_names = true;
    loop {
        let position = mark + reader.buffer_position();
        let event = match reader.read_event() {
            Ok(event) => event,
            Err(error) => {
                let at = usize::try_from(reader.error_position()).unwrap_or(usize::MAX);
                let rest = text.get(at..).unwrap_or_default();
                return Err(document.not_xml(&error, mark + at as u64, rest));
            }
        };
        if let Event::Eof = event {
            return document.finish(position);
        }
        document.on(&event, position)?;
        document.may_declare = false;
    }
}

/// UTF-8, with or without a byte order mark, or UTF-16 with one; and the length of the mark. UTF-8 is not copied.
/// (Positions in UTF-16 are those of its UTF-8 form: no catalog was ever seen in UTF-16.)
fn as_utf8(xml: &[u8]) -> Result<(Cow<'_, str>, u64), EsdCatalogError> {
    let (encoding, mark) = encoding_rs::Encoding::for_bom(xml).unwrap_or((encoding_rs::UTF_8, 0));
    let malformed =
        |position| EsdCatalogError::Malformed { position, what: format!("it is not {}", encoding.name()) };
    if encoding == encoding_rs::UTF_8 {
        let text = std::str::from_utf8(&xml[mark..])
            .map_err(|error| malformed((mark + error.valid_up_to()) as u64))?;
        return Ok((Cow::Borrowed(text), mark as u64));
    }
    let text =
        encoding.decode_without_bom_handling_and_without_replacement(&xml[mark..]).ok_or(malformed(0))?;
    Ok((text, 0))
}

/// Foreign text in a message of ours: short, and on one line.
fn shown(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// What is known after each event.
struct Document<'l> {
    limits: &'l Limits,
    /// Names of the open elements, joined by slashes.
    path: String,
    depth: usize,
    root_seen: bool,
    /// Only the very first event may be a declaration.
    may_declare: bool,
    text: String,
    record: HashMap<String, String>,
    link: (Option<String>, Option<String>),
    links: usize,
    known: HashMap<(FileName, u64, Digests, String), usize>,
    languages: BTreeMap<String, String>,
    catalog: EsdCatalog,
}

impl<'l> Document<'l> {
    fn new(limits: &'l Limits) -> Self {
        Self {
            limits,
            path: String::new(),
            depth: 0,
            root_seen: false,
            may_declare: true,
            text: String::new(),
            record: HashMap::new(),
            link: (None, None),
            links: 0,
            known: HashMap::new(),
            languages: BTreeMap::new(),
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
                    Ok(None) => resolve_predefined_entity(name).and_then(|text| text.chars().next()),
                    Err(_) => None,
                };
                let character =
                    character.ok_or_else(|| malformed("an entity that is not defined".to_owned()))?;
                self.take(character.encode_utf8(&mut [0; 4]), position)
            }
            Event::DocType(_) => {
                Err(malformed("a document type, which is never needed and often an attack".to_owned()))
            }
            Event::Decl(_) if !self.may_declare => Err(malformed("a declaration in the middle".to_owned())),
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) | Event::Eof => Ok(()),
        }
    }

    fn open(&mut self, start: &BytesStart<'_>, position: u64) -> Result<(), EsdCatalogError> {
        let malformed = |what: &str| EsdCatalogError::Malformed { position, what: shown(what) };
        if self.depth == 0 {
            if self.root_seen {
                return Err(malformed("a second root element"));
            }
            if start.name().as_ref() != "MCT" {
                return Err(malformed(
                    "the root element is not MCT, so this is no ESD catalog, or only a part of one",
                ));
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
        for (count, attribute) in start.attributes().enumerate() {
            if count == self.limits.xml_attributes {
                return Err(EsdCatalogError::TooLarge {
                    what: "attributes of one element",
                    most: count as u64,
                });
            }
            // Duplicate attributes are an error of the iterator.
            let attribute = attribute.map_err(|error| malformed(&error.to_string()))?;
            if attribute.value.len() > self.limits.xml_text_bytes {
                return Err(EsdCatalogError::TooLarge {
                    what: "bytes in one attribute",
                    most: self.limits.xml_text_bytes as u64,
                });
            }
            // Of every attribute, used or not: an entity that is not defined is no XML.
            let value = attribute
                .normalized_value(XmlVersion::Implicit1_0)
                .map_err(|error| malformed(&error.to_string()))?;
            if attribute.key.as_ref() == "version" {
                version = Some(value.trim().chars().take(40).collect());
            }
        }
        match self.path.as_str() {
            CATALOG => self.catalog.version = version.unwrap_or_default(),
            FILE => self.record.clear(),
            EULA => self.link = (None, None),
            _ => {}
        }
        Ok(())
    }

    /// Languages and links share one cap.
    fn room(&self, count: usize) -> Result<(), EsdCatalogError> {
        if count <= self.limits.catalog_links {
            return Ok(());
        }
        Err(EsdCatalogError::TooLarge {
            what: "languages or licence links",
            most: self.limits.catalog_links as u64,
        })
    }

    fn take(&mut self, text: &str, position: u64) -> Result<(), EsdCatalogError> {
        if self.depth == 0 {
            if text.trim().trim_start_matches('\u{feff}').is_empty() {
                return Ok(());
            }
            return Err(EsdCatalogError::Malformed {
                position,
                what: "text outside of the root element".to_owned(),
            });
        }
        if self.text.len() + text.len() > self.limits.xml_text_bytes {
            return Err(EsdCatalogError::TooLarge {
                what: "bytes in one text",
                most: self.limits.xml_text_bytes as u64,
            });
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
                self.links += 1;
                self.room(self.links)?;
                self.license();
            }
            _ => {
                let text = self.text.trim().to_owned();
                match (&self.path[..parent], name.as_str()) {
                    (FILE, _) => {
                        let twice = self.record.insert(name, text).is_some();
                        if twice {
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
            return Err(EsdCatalogError::TooLarge {
                what: "File records",
                most: self.limits.catalog_files as u64,
            });
        }
        self.catalog.records += 1;
        match esd(&self.record, self.limits) {
            Err((code, reason)) => {
                let file_name =
                    self.record.get("FileName").map_or("", String::as_str).chars().take(120).collect();
                self.catalog.refused.push(RefusedRecord { file_name, code, reason });
            }
            Ok(new) => {
                self.language(&new.language)?;
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
                        file.editions.extend(new.editions); // sorted once, at the end
                    }
                }
            }
        }
        Ok(())
    }

    /// The display name of a language, from its first record.
    fn language(&mut self, code: &str) -> Result<(), EsdCatalogError> {
        if !self.languages.contains_key(code) {
            self.room(self.languages.len() + 1)?;
            let name =
                self.record.get("Language").map(|name| name.chars().take(80).collect()).unwrap_or_default();
            self.languages.insert(code.to_owned(), name);
        }
        Ok(())
    }

    fn license(&mut self) {
        let (language, url) = std::mem::take(&mut self.link);
        let language = language.unwrap_or_default();
        let checked = language_code(&language)
            .and_then(|language| Ok((language, usable(url.as_deref().unwrap_or_default())?)));
        match checked {
            Ok((language, url)) => self.catalog.licenses.push(LicenseLink { language, url: url.to_owned() }),
            Err((code, reason)) => {
                let file_name = format!("EULA {}", language.chars().take(40).collect::<String>());
                self.catalog.refused.push(RefusedRecord { file_name, code, reason });
            }
        }
    }

    /// `rest`: the document from the place of the error on.
    fn not_xml(&self, error: &quick_xml::Error, position: u64, rest: &str) -> EsdCatalogError {
        if is_cut(error, rest) && self.root_seen {
            return EsdCatalogError::Truncated { position, inside: shown(&self.path) };
        }
        EsdCatalogError::Malformed { position, what: shown(&error.to_string()) }
    }

    /// A name with two sizes, or with two digests, says of one file what cannot both be true. Nothing tells which record is
    /// right, so none of that name is taken. Names that differ in case only are one, as on the disks that the files are for.
    fn refuse_contradictions(&mut self) {
        let mut first: HashMap<String, (u64, Digests)> = HashMap::new();
        let mut contradicted: HashSet<String> = HashSet::new();
        for file in &self.catalog.files {
            let name = file.file_name.as_str().to_lowercase();
            let (size, said) = first.entry(name.clone()).or_insert((file.size, file.digests));
            let sha1 = said.sha1.zip(file.digests.sha1).is_some_and(|(one, other)| one != other);
            let sha256 = said.sha256.zip(file.digests.sha256).is_some_and(|(one, other)| one != other);
            if *size != file.size || sha1 || sha256 {
                contradicted.insert(name);
            }
            said.sha1 = said.sha1.or(file.digests.sha1);
            said.sha256 = said.sha256.or(file.digests.sha256);
        }
        let mut named = HashSet::new();
        let refused = &mut self.catalog.refused;
        self.catalog.files.retain(|file| {
            let name = file.file_name.as_str().to_lowercase();
            let is_good = !contradicted.contains(&name);
            if !is_good && named.insert(name) {
                let reason = "records of this name state sizes or digests that differ".to_owned();
                let file_name = file.file_name.as_str().chars().take(120).collect();
                refused.push(RefusedRecord { file_name, code: Code::CatalogMalformed, reason });
            }
            is_good
        });
    }

    fn finish(mut self, position: u64) -> Result<EsdCatalog, EsdCatalogError> {
        if self.depth > 0 {
            return Err(EsdCatalogError::Truncated { position, inside: shown(&self.path) });
        }
        self.refuse_contradictions();
        if self.catalog.files.is_empty() {
            let what = match self.catalog.refused.first() {
                Some(refused) => format!("no usable File record; the first one: {}", refused.reason),
                None => "no File record".to_owned(),
            };
            return Err(EsdCatalogError::Malformed { position, what });
        }
        for file in &mut self.catalog.files {
            file.editions.sort_unstable();
            file.editions.dedup();
        }
        let name = |(code, name)| LanguageName { code, name };
        self.catalog.languages = self.languages.into_iter().map(name).collect();
        Ok(self.catalog)
    }
}

type Refusal = (Code, String);

fn malformed(reason: impl Into<String>) -> Refusal {
    (Code::CatalogMalformed, reason.into())
}

/// What one record says, or why it cannot be used.
fn esd(record: &HashMap<String, String>, limits: &Limits) -> Result<EsdFile, Refusal> {
    let field = |name: &str| record.get(name).map(String::as_str).filter(|text| !text.is_empty());
    let needed = |name: &'static str| field(name).ok_or_else(|| malformed(format!("it has no {name}")));
    let file_name: FileName =
        needed("FileName")?.parse().map_err(|error| (Code::NameNotAllowed, format!("{error}")))?;
    let size: Option<u64> = needed("Size")?.parse().ok().filter(|size| *size > 0);
    let size = size.ok_or_else(|| malformed("its Size is no positive number"))?;
    if size > limits.file_bytes {
        let reason =
            format!("its Size is {size}, and no file may have more than {} bytes", limits.file_bytes);
        return Err((Code::CatalogTooLarge, reason));
    }
    let digests = Digests {
        sha1: field("Sha1").map(str::parse).transpose().map_err(|error| malformed(format!("{error}")))?,
        sha256: field("Sha256").map(str::parse).transpose().map_err(|error| malformed(format!("{error}")))?,
    };
    let strongest =
        digests.strongest().ok_or_else(|| malformed("it has no digest, so nothing could verify it"))?;
    let url = usable(needed("FilePath")?)?;
    let language = language_code(needed("LanguageCode")?)?;
    let architecture: Architecture =
        needed("Architecture")?.parse().map_err(|error| malformed(format!("{error}")))?;
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

/// A language code in lower case; 35 characters hold every one (RFC 5646 section 4.4.1).
fn language_code(text: &str) -> Result<String, Refusal> {
    let valid =
        (1..=35).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    valid.then(|| text.to_lowercase()).ok_or_else(|| malformed("its LanguageCode is no language code"))
}

/// An address that can be asked for at all: http or https (RFC 9110 section 4.2) with a host and nothing that could
/// end a header line or hide where it leads. Whether it may be asked is decided by who fetches.
fn usable(url: &str) -> Result<&str, Refusal> {
    /// What servers are expected to take (RFC 9110 section 4.1 asks for 8,000 octets).
    const LONGEST: usize = 8_000;
    if url.is_empty() {
        return Err(malformed("it has no address"));
    }
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Err((Code::SchemeNotAllowed, "its address is neither http nor https".to_owned()));
    }
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let odd = |c: char| c.is_control() || c.is_whitespace() || "\\\"<>".contains(c);
    if host.is_empty() || host.contains('@') || url.len() > LONGEST || url.contains(odd) {
        return Err(malformed(
            "its address has no host, a user name, more than 8,000 bytes or characters of no address",
        ));
    }
    Ok(url)
}
