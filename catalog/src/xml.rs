//! Strict reading of foreign XML, one element at a time, with namespaces resolved.
//!
//! quick-xml is no well-formedness check, so what could be used against us is refused here, in what is used and in what
//! is skipped alike: document types, entities and prefixes that are not defined, duplicate attributes, characters that
//! XML does not have, too deep, too many, too long, anything after the end.
//!
//! A [`Reader`] stands inside one open element at a time. What [`Reader::child`] answers is open, and is closed again by
//! the one call that uses it up: by [`Reader::child`] until `None`, by [`Reader::text`], or by [`Reader::skip`].
//! ```
//! # use catalog::{limits::Limits, xml::{Reader, XmlError}};
//! # fn main() -> Result<(), XmlError> {
//! let mut reader = Reader::new("<a><b>x</b><c><d/></c></a>", &Limits::default())?;
//! let root = reader.root()?;
//! assert!(root.is("", "a"));
//! while let Some(child) = reader.child()? {
//!     match child.name() {
//!         "b" => assert_eq!(reader.text()?, "x"),
//!         _ => reader.skip()?,
//!     }
//! }
//! reader.finish()
//! # }
//! ```
//! Nothing is kept but what is asked for: names, values and texts are borrowed from the document wherever they can be.

pub mod escape;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::rc::Rc;

use quick_xml::XmlVersion;
use quick_xml::errors::{IllFormedError, SyntaxError};
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::attributes::Attributes;
use quick_xml::events::{BytesRef, Event};
use quick_xml::name::{QName, ResolveResult};
use quick_xml::reader::NsReader;

use crate::limits::Limits;
use crate::problem::{Code, Coded};

/// The namespace of `xsi:type` and `xsi:nil` (XML Schema part 1, section 2.6).
pub const XSI: &str = "http://www.w3.org/2001/XMLSchema-instance";

/// Namespaces of one document, all together; real ones have fewer than ten.
const MOST_NAMESPACES: usize = 256;

/// Why a document is not read. Positions are bytes of its UTF-8 form, without the byte order mark.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// Not well-formed, or of a kind that is never needed.
    #[error("malformed XML at byte {position}: {what}")]
    Malformed {
        /// Where.
        position: u64,
        /// What is wrong.
        what: String,
    },
    /// It ends in the middle.
    #[error("the XML ends too early, at byte {position}, inside `{inside}`")]
    Truncated {
        /// Where.
        position: u64,
        /// The path of the innermost element that is open.
        inside: String,
    },
    /// More than the limits allow.
    #[error("the XML has more {what} than the {most} that are read")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        most: u64,
    },
}

impl Coded for XmlError {
    fn code(&self) -> Code {
        match self {
            Self::Malformed { .. } => Code::CatalogMalformed,
            Self::Truncated { .. } => Code::CatalogTruncated,
            Self::TooLarge { .. } => Code::CatalogTooLarge,
        }
    }
}

/// Text of a document in UTF-8, or in UTF-16 with a byte order mark, or in UTF-16 that begins with `<` as every
/// document does. The mark is no part of the text, and UTF-8 is not copied.
///
/// # Errors
/// [`XmlError::Malformed`] where the bytes are no such text.
pub fn utf8(document: &[u8]) -> Result<Cow<'_, str>, XmlError> {
    let (encoding, mark) = encoding_rs::Encoding::for_bom(document).unwrap_or(match document {
        // How update servers send documents: UTF-16, little-endian, without a mark.
        [b'<', 0, ..] => (encoding_rs::UTF_16LE, 0),
        [0, b'<', ..] => (encoding_rs::UTF_16BE, 0),
        _ => (encoding_rs::UTF_8, 0),
    });
    let bytes = &document[mark..];
    let malformed = |at: usize| XmlError::Malformed {
        position: at as u64,
        what: format!("it is not {}", encoding.name()),
    };
    if encoding == encoding_rs::UTF_8 {
        return Ok(Cow::Borrowed(
            std::str::from_utf8(bytes).map_err(|error| malformed(error.valid_up_to()))?,
        ));
    }
    encoding.decode_without_bom_handling_and_without_replacement(bytes).ok_or(malformed(0))
}

/// Foreign text in a message of ours: short, and on one line.
pub fn shown(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The URI of a namespace; shared by all that is in it.
type Namespace = Option<Rc<str>>;

/// An element that was opened: its expanded name and its attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element<'d> {
    start: usize,
    namespace: Namespace,
    name: &'d str,
    attributes: Vec<Attribute<'d>>,
}

/// One attribute: its expanded name and its value, normalised (XML 1.0 section 3.3.3). Declarations of namespaces are
/// none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute<'d> {
    namespace: Namespace,
    name: &'d str,
    value: Cow<'d, str>,
}

impl<'d> Element<'d> {
    /// Its namespace; empty where it has none.
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }

    /// Its local name.
    pub fn name(&self) -> &'d str {
        self.name
    }

    /// Where it begins: a byte of the document, at its `<`.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Whether this is its expanded name.
    pub fn is(&self, namespace: &str, name: &str) -> bool {
        self.name == name && self.namespace() == namespace
    }

    /// The value of an attribute without a namespace, which most are.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attribute_of("", name)
    }

    /// The value of an attribute in a namespace: `xsi:type`.
    pub fn attribute_of(&self, namespace: &str, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|one| one.name == name && one.namespace() == namespace);
        found.map(|one| one.value.as_ref())
    }

    /// Every attribute, in the order of the document.
    pub fn attributes(&self) -> &[Attribute<'d>] {
        &self.attributes
    }
}

impl<'d> Attribute<'d> {
    /// Its namespace; empty where it has none.
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }

    /// Its local name.
    pub fn name(&self) -> &'d str {
        self.name
    }

    /// Its value.
    pub fn value(&self) -> &str {
        &self.value
    }
}

/// What one step finds.
enum Token<'d> {
    Open(Element<'d>),
    Close,
    Text(Cow<'d, str>),
    End,
}

/// Reads one document from its first byte to its last.
#[derive(Debug)]
pub struct Reader<'d> {
    text: &'d str,
    reader: NsReader<&'d [u8]>,
    limits: Limits,
    /// Local names of the open elements.
    open: Vec<&'d str>,
    /// An empty element was opened: its end comes without an event.
    empty: bool,
    /// Only the very first event may be a declaration.
    may_declare: bool,
    root_seen: bool,
    namespaces: Vec<Rc<str>>,
}

impl<'d> Reader<'d> {
    /// A reader that stands before the root element.
    ///
    /// # Errors
    /// `TooLarge`, and `Malformed` where a byte is a control character that XML does not have (XML 1.0 section 2.2).
    pub fn new(text: &'d str, limits: &Limits) -> Result<Self, XmlError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.len() as u64 > limits.unpacked_bytes {
            return Err(XmlError::TooLarge { what: "bytes", most: limits.unpacked_bytes });
        }
        if let Some(position) = control(text.as_bytes()) {
            let what = "a control character".to_owned();
            return Err(XmlError::Malformed { position: position as u64, what });
        }
        let mut reader = NsReader::from_str(text);
        reader.config_mut().check_end_names = true;
        Ok(Self {
            text,
            reader,
            limits: *limits,
            open: Vec::new(),
            empty: false,
            may_declare: true,
            root_seen: false,
            namespaces: Vec::new(),
        })
    }

    /// Opens the root element.
    ///
    /// # Errors
    /// Each [`XmlError`]: so do all other methods.
    pub fn root(&mut self) -> Result<Element<'d>, XmlError> {
        loop {
            match self.step(true)? {
                Token::Open(element) => return Ok(element),
                Token::Text(_) | Token::Close => {}
                Token::End => return Err(self.malformed("it has no root element")),
            }
        }
    }

    /// Opens the next child of the innermost open element, or closes that. Text between children is passed over.
    ///
    /// # Errors
    /// As of [`Reader::root`].
    pub fn child(&mut self) -> Result<Option<Element<'d>>, XmlError> {
        loop {
            match self.step(true)? {
                Token::Open(element) => return Ok(Some(element)),
                Token::Text(_) => {}
                Token::Close | Token::End => return Ok(None),
            }
        }
    }

    /// The text of the innermost open element, without that of its children, and closes it.
    ///
    /// # Errors
    /// As of [`Reader::root`].
    pub fn text(&mut self) -> Result<Cow<'d, str>, XmlError> {
        let depth = self.open.len();
        let mut all = Cow::Borrowed("");
        loop {
            match self.step(false)? {
                Token::Text(part) if self.open.len() == depth => {
                    if all.len() + part.len() > self.limits.xml_text_bytes {
                        return Err(self.too_large("bytes in one text", self.limits.xml_text_bytes));
                    }
                    if all.is_empty() { all = part } else { all.to_mut().push_str(&part) }
                }
                Token::Close if self.open.len() < depth => return Ok(all),
                Token::End => return Ok(all),
                Token::Text(_) | Token::Open(_) | Token::Close => {}
            }
        }
    }

    /// Closes the innermost open element, whatever it holds: as strictly as if it were used.
    ///
    /// # Errors
    /// As of [`Reader::root`].
    pub fn skip(&mut self) -> Result<(), XmlError> {
        let depth = self.open.len();
        while self.open.len() >= depth {
            if let Token::End = self.step(false)? {
                break;
            }
        }
        Ok(())
    }

    /// Sees that nothing but comments and blanks follows the root element.
    ///
    /// # Errors
    /// As of [`Reader::root`].
    pub fn finish(mut self) -> Result<(), XmlError> {
        while !self.open.is_empty() {
            self.skip()?;
        }
        loop {
            if let Token::End = self.step(false)? {
                return Ok(());
            }
        }
    }

    /// What a qualified name in a value means (`cat:Category` of `xsi:type`), where the innermost open element stands:
    /// its namespace and its local name. A name without a prefix is in the default namespace.
    pub fn resolve<'n>(&self, name: &'n str) -> (String, &'n str) {
        let name = QName(name.trim());
        let namespace = match self.reader.resolver().resolve_prefix(name.prefix(), true) {
            ResolveResult::Bound(namespace) => namespace.0.to_owned(),
            ResolveResult::Unbound | ResolveResult::Unknown(_) => String::new(),
        };
        (namespace, name.local_name().into_inner())
    }

    /// Bytes of the document that were read.
    pub fn position(&self) -> u64 {
        self.reader.buffer_position()
    }

    /// The next token. `used` says whether an element's name and attributes are wanted: they are checked either way.
    fn step(&mut self, used: bool) -> Result<Token<'d>, XmlError> {
        if self.empty {
            self.empty = false;
            self.open.pop();
            return Ok(Token::Close);
        }
        loop {
            let start = self.position();
            let event = match self.reader.read_event() {
                Ok(event) => event,
                Err(error) => return Err(self.not_xml(&error)),
            };
            let first = std::mem::take(&mut self.may_declare);
            match event {
                Event::Start(tag) => {
                    return self.enter(start, tag.len(), tag.name().0.len(), used).map(Token::Open);
                }
                Event::Empty(tag) => {
                    let element = self.enter(start, tag.len(), tag.name().0.len(), used)?;
                    self.empty = true;
                    return Ok(Token::Open(element));
                }
                Event::End(_) => {
                    self.open.pop();
                    return Ok(Token::Close);
                }
                Event::Text(text) => return self.take(self.slice(start, text.len())),
                Event::CData(text) => {
                    return self.take(self.slice(start + "<![CDATA[".len() as u64, text.len()));
                }
                Event::GeneralRef(name) => {
                    let character =
                        character(&name).ok_or_else(|| self.malformed("an entity that is not defined"))?;
                    if self.open.is_empty() {
                        return Err(self.malformed("text outside of the root element"));
                    }
                    return Ok(Token::Text(Cow::Owned(character.to_string())));
                }
                Event::DocType(_) => {
                    return Err(self.malformed("a document type, which is never needed and often an attack"));
                }
                Event::Decl(_) if !first => return Err(self.malformed("a declaration in the middle")),
                Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
                Event::Eof if self.open.is_empty() => return Ok(Token::End),
                Event::Eof => return Err(self.truncated()),
            }
        }
    }

    /// Part of the document itself, so that it can be kept longer than the event.
    fn slice(&self, start: u64, len: usize) -> &'d str {
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        start.checked_add(len).and_then(|end| self.text.get(start..end)).unwrap_or_default()
    }

    fn enter(&mut self, start: u64, len: usize, name: usize, used: bool) -> Result<Element<'d>, XmlError> {
        if self.open.is_empty() && std::mem::replace(&mut self.root_seen, true) {
            return Err(self.malformed("a second root element"));
        }
        if self.open.len() == self.limits.xml_depth {
            return Err(self.too_large("levels", self.limits.xml_depth));
        }
        let tag = self.slice(start + 1, len);
        let qualified = QName(tag.get(..name).unwrap_or_default());
        self.open.push(qualified.local_name().into_inner());
        let namespace = self.namespace(qualified, true, used)?;
        let mut attributes = Vec::new();
        for (count, attribute) in Attributes::new(tag, name).enumerate() {
            if count == self.limits.xml_attributes {
                return Err(self.too_large("attributes of one element", count));
            }
            // Duplicate attributes are an error of the iterator.
            let attribute = attribute.map_err(|error| self.malformed(&error.to_string()))?;
            if attribute.value.len() > self.limits.xml_text_bytes {
                return Err(self.too_large("bytes in one attribute", self.limits.xml_text_bytes));
            }
            let special = attribute.value.as_bytes().iter().fold(0, |all, byte| {
                all | u8::from(*byte == b'<') << 1 | u8::from(matches!(byte, b'&' | b'\r' | b'\n' | b'\t'))
            });
            if special & 2 != 0 {
                return Err(self.malformed("a `<` in an attribute"));
            }
            // Of every attribute, used or not: an entity that is not defined is no XML.
            let value = if special != 0 {
                let value = attribute
                    .normalized_value(XmlVersion::Implicit1_0)
                    .map_err(|error| self.malformed(&error.to_string()))?;
                if value.contains(|c: char| c < ' ' && !"\t\n\r".contains(c)) {
                    return Err(self.malformed("a control character"));
                }
                value
            } else {
                attribute.value
            };
            if attribute.key.as_namespace_binding().is_some() {
                continue;
            }
            let namespace = self.namespace(attribute.key, false, used)?;
            if used {
                let name = attribute.key.local_name().into_inner();
                attributes.push(Attribute { namespace, name, value });
            }
        }
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        Ok(Element { start, namespace, name: qualified.local_name().into_inner(), attributes })
    }

    /// The namespace of a name; of names that are not used, only whether it has one.
    fn namespace(&mut self, name: QName<'_>, element: bool, used: bool) -> Result<Namespace, XmlError> {
        let uri = match self.reader.resolver().resolve_prefix(name.prefix(), element) {
            ResolveResult::Unbound => return Ok(None),
            ResolveResult::Bound(_) if !used => return Ok(None),
            ResolveResult::Bound(namespace) => namespace.0,
            ResolveResult::Unknown(prefix) => {
                return Err(self.malformed(&format!("the prefix `{prefix}` is not declared")));
            }
        };
        if let Some(known) = self.namespaces.iter().find(|known| known.as_ref() == uri) {
            return Ok(Some(Rc::clone(known)));
        }
        let new: Rc<str> = Rc::from(uri);
        if self.namespaces.len() == MOST_NAMESPACES {
            return Err(self.too_large("namespaces", MOST_NAMESPACES));
        }
        self.namespaces.push(Rc::clone(&new));
        Ok(Some(new))
    }

    fn take(&self, text: &'d str) -> Result<Token<'d>, XmlError> {
        if self.open.is_empty() && !text.trim().is_empty() {
            return Err(self.malformed("text outside of the root element"));
        }
        if text.len() > self.limits.xml_text_bytes {
            return Err(self.too_large("bytes in one text", self.limits.xml_text_bytes));
        }
        // Ends of lines are one character (XML 1.0 section 2.11).
        if text.contains('\r') {
            return Ok(Token::Text(Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n"))));
        }
        Ok(Token::Text(Cow::Borrowed(text)))
    }

    /// Where we are, in names.
    fn path(&self) -> String {
        shown(&self.open.join("/"))
    }

    fn malformed(&self, what: &str) -> XmlError {
        XmlError::Malformed { position: self.position(), what: shown(what) }
    }

    fn truncated(&self) -> XmlError {
        XmlError::Truncated { position: self.position(), inside: self.path() }
    }

    fn too_large(&self, what: &'static str, most: usize) -> XmlError {
        XmlError::TooLarge { what, most: most as u64 }
    }

    fn not_xml(&self, error: &quick_xml::Error) -> XmlError {
        let position = self.reader.error_position();
        let rest = usize::try_from(position).ok().and_then(|at| self.text.get(at..)).unwrap_or_default();
        if is_cut(error, rest) && self.root_seen {
            return XmlError::Truncated { position, inside: self.path() };
        }
        XmlError::Malformed { position, what: shown(&error.to_string()) }
    }
}

/// Whether a document that failed so was cut: what is open when the bytes end was; everything else is damage. `rest`: the document
/// from the place of the error on.
pub(crate) fn is_cut(error: &quick_xml::Error, rest: &str) -> bool {
    match error {
        quick_xml::Error::Syntax(SyntaxError::InvalidBangMarkup) => {
            "<![CDATA[".starts_with(rest) || rest == "<!-"
        }
        quick_xml::Error::IllFormed(IllFormedError::UnclosedReference) => !rest.contains(['<', ';']),
        quick_xml::Error::Syntax(_) => true,
        _ => false,
    }
}

/// Where the first byte stands that is no character of XML 1.0.
fn control(bytes: &[u8]) -> Option<usize> {
    let bad = |byte: &u8| (*byte < b' ') & (*byte != b'\t') & (*byte != b'\n') & (*byte != b'\r');
    // Whole steps without an early end: the compiler makes vectors of them, and documents have 47 MB.
    const STEP: usize = 1024;
    let step = bytes.chunks(STEP).position(|step| step.iter().fold(false, |any, byte| any | bad(byte)))?;
    bytes[step * STEP..].iter().position(bad).map(|at| step * STEP + at)
}

/// The character of a reference, if it is one that XML has.
fn character(name: &BytesRef<'_>) -> Option<char> {
    let character = match name.resolve_char_ref() {
        Ok(Some(character)) => character,
        Ok(None) => resolve_predefined_entity(name)?.chars().next()?,
        Err(_) => return None,
    };
    (character >= ' ' || "\t\n\r".contains(character)).then_some(character)
}
