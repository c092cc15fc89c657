//! SOAP envelopes ([SOAP1.1] section 4, [SOAP1.2-1/2003] section 5): reading both versions, writing 1.1.

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, general_purpose::STANDARD};

use super::MessageError;
use crate::digest::Sha1Digest;
use crate::id::{RevisionId, RevisionNumber, UpdateId};
use crate::limits::Limits;
use crate::xml::escape::{self, Place};
use crate::xml::{Element, Reader, XSI, shown};

/// Namespace of SOAP 1.1.
pub(super) const SOAP11: &str = "http://schemas.xmlsoap.org/soap/envelope/";
/// Namespace of SOAP 1.2.
pub(super) const SOAP12: &str = "http://www.w3.org/2003/05/soap-envelope";

/// Base64 as others write it: with its padding or without.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Which version of SOAP a message is written in. Answers to both are written in 1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SoapVersion {
    /// 1.1.
    V11,
    /// 1.2.
    V12,
}

/// Reads one message, element by element.
pub(super) struct Fields<'d> {
    pub(super) xml: Reader<'d>,
    limits: Limits,
}

impl<'d> Fields<'d> {
    /// Opens the first element of the body, or a fault in it.
    pub(super) fn open(
        text: &'d str,
        limits: &Limits,
    ) -> Result<(Self, SoapVersion, Element<'d>), MessageError> {
        // A document inside of a message is one text, and counted as a document.
        let text_bytes = usize::try_from(limits.unpacked_bytes).unwrap_or(usize::MAX);
        let limits = Limits { xml_text_bytes: text_bytes, ..*limits };
        let mut xml = Reader::new(text, &limits)?;
        let root = xml.root()?;
        let version = match (root.namespace(), root.name()) {
            (SOAP11, "Envelope") => SoapVersion::V11,
            (SOAP12, "Envelope") => SoapVersion::V12,
            (namespace, name) => {
                return Err(MessageError::NoEnvelope { actual: shown(&format!("{{{namespace}}}{name}")) });
            }
        };
        let namespace = root.namespace().to_owned();
        while let Some(child) = xml.child()? {
            if !child.is(&namespace, "Body") {
                // A header is not used by this protocol, and never an error.
                xml.skip()?;
                continue;
            }
            let first = xml.child()?;
            let first = first.ok_or(MessageError::Missing { message: "Envelope", field: "Body" })?;
            return Ok((Self { xml, limits }, version, first));
        }
        Err(MessageError::Missing { message: "Envelope", field: "Body" })
    }

    /// Sees that the rest of the envelope is XML too.
    pub(super) fn close(self) -> Result<(), MessageError> {
        Ok(self.xml.finish()?)
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Calls `each` for every child of the innermost open element in one of the protocol's namespaces, and passes the
    /// others over. `each` uses the child up.
    pub(super) fn children(
        &mut self,
        mut each: impl FnMut(&mut Self, &Element<'d>) -> Result<(), MessageError>,
    ) -> Result<(), MessageError> {
        while let Some(child) = self.xml.child()? {
            if super::NAMESPACE == child.namespace()
                || super::AUTH_NAMESPACE == child.namespace()
                || super::MONITOR_NAMESPACE == child.namespace()
            {
                each(self, &child)?;
            } else {
                self.xml.skip()?;
            }
        }
        Ok(())
    }

    /// The children of a list that have the name of an item; at most the limit of them.
    pub(super) fn list<T>(
        &mut self,
        item: &'static str,
        mut each: impl FnMut(&mut Self, &Element<'d>) -> Result<T, MessageError>,
    ) -> Result<Vec<T>, MessageError> {
        let most = self.limits.export_documents;
        let mut all = Vec::new();
        self.children(|fields, child| {
            if child.name() != item {
                return Ok(fields.xml.skip()?);
            }
            if all.len() == most {
                return Err(MessageError::TooLarge { what: item, most: most as u64 });
            }
            all.push(each(fields, child)?);
            Ok(())
        })?;
        Ok(all)
    }

    pub(super) fn skip(&mut self) -> Result<(), MessageError> {
        Ok(self.xml.skip()?)
    }

    /// The text of an element; `None` where it is nil.
    pub(super) fn optional(&mut self, element: &Element<'d>) -> Result<Option<String>, MessageError> {
        let nil = element.attribute_of(XSI, "nil");
        let text = self.xml.text()?;
        Ok(match nil {
            Some("true" | "1") => None,
            _ => Some(text.into_owned()),
        })
    }

    /// The text of an element without blanks around it; empty where it is nil.
    pub(super) fn word(&mut self) -> Result<String, MessageError> {
        Ok(self.xml.text()?.trim().to_owned())
    }

    /// XML Schema's boolean.
    pub(super) fn boolean(&mut self, field: &'static str) -> Result<bool, MessageError> {
        match self.xml.text()?.trim() {
            "true" | "1" => Ok(true),
            "false" | "0" | "" => Ok(false),
            other => Err(value(field, "a boolean", other)),
        }
    }

    /// A number that is not negative; where it is absent or nil, 0.
    pub(super) fn number(&mut self, field: &'static str) -> Result<u32, MessageError> {
        let text = self.xml.text()?;
        match text.trim() {
            "" => Ok(0),
            // Negative limits mean nothing is offered, as 0 does.
            negative if negative.starts_with('-') && negative.parse::<i64>().is_ok() => Ok(0),
            text => text.parse().map_err(|_| value(field, "a number", text)),
        }
    }

    /// A GUID in either case, with braces or without.
    pub(super) fn guid(&mut self, field: &'static str) -> Result<UpdateId, MessageError> {
        let text = self.xml.text()?;
        text.trim().parse().map_err(|_| value(field, "a GUID", &text))
    }

    /// Bytes in base64, with blanks or without.
    pub(super) fn base64(&mut self, field: &'static str) -> Result<Vec<u8>, MessageError> {
        let text = self.xml.text()?;
        let wrong = || value(field, "base64", &text);
        if text.bytes().any(|byte| byte.is_ascii_whitespace()) {
            let joined: String = text.split_ascii_whitespace().collect();
            return LENIENT.decode(joined).map_err(|_| wrong());
        }
        LENIENT.decode(text.as_bytes()).map_err(|_| wrong())
    }

    /// A SHA-1 in base64.
    pub(super) fn sha1(&mut self, field: &'static str) -> Result<Sha1Digest, MessageError> {
        let bytes = self.base64(field)?;
        Sha1Digest::from_bytes(&bytes)
            .map_err(|_| value(field, "a SHA-1 in base64", &format!("{} bytes", bytes.len())))
    }

    /// The fields of an `UpdateIdentity` (section 2.2.4.9).
    pub(super) fn identity(&mut self) -> Result<RevisionId, MessageError> {
        let (mut update, mut number) = (None, None);
        self.children(|fields, child| {
            match child.name() {
                "UpdateID" => update = Some(fields.guid("UpdateID")?),
                "RevisionNumber" => number = Some(fields.number("RevisionNumber")?),
                _ => fields.skip()?,
            }
            Ok(())
        })?;
        let missing = |field| MessageError::Missing { message: "UpdateIdentity", field };
        Ok(RevisionId {
            update: update.ok_or(missing("UpdateID"))?,
            number: RevisionNumber(number.ok_or(missing("RevisionNumber"))?),
        })
    }
}

pub(super) fn value(field: &'static str, expected: &'static str, actual: &str) -> MessageError {
    MessageError::Value { field, expected, actual: shown(actual) }
}

/// Writes one message. Names are ours; texts are escaped.
pub(super) struct Writer {
    text: String,
}

impl Writer {
    /// Begins an envelope whose body holds `element` of `namespace`.
    pub(super) fn open(element: &str, namespace: &str) -> Self {
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><soap:Envelope xmlns:soap=\"{SOAP11}\" \
             xmlns:xsi=\"{XSI}\" xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\"><soap:Body><{element} xmlns=\"{namespace}\">"
        );
        Self { text }
    }

    /// Begins an envelope whose body holds a fault.
    pub(super) fn fault() -> Self {
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><soap:Envelope xmlns:soap=\"{SOAP11}\"><soap:Body><soap:Fault>"
        );
        Self { text }
    }

    /// Ends what [`Writer::open`] began.
    pub(super) fn close(mut self, element: &str) -> Vec<u8> {
        self.end(element);
        self.text.push_str("</soap:Body></soap:Envelope>");
        self.text.into_bytes()
    }

    pub(super) fn start(&mut self, name: &str) {
        self.text.extend(["<", name, ">"]);
    }

    pub(super) fn end(&mut self, name: &str) {
        self.text.extend(["</", name, ">"]);
    }

    /// An element with others in it.
    pub(super) fn within(&mut self, name: &str, inner: impl FnOnce(&mut Self)) {
        self.start(name);
        inner(self);
        self.end(name);
    }

    /// An element with a text.
    pub(super) fn leaf(&mut self, name: &str, text: &str) {
        self.start(name);
        escape::push(&mut self.text, text, Place::Text);
        self.end(name);
    }

    pub(super) fn optional(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.leaf(name, text);
        }
    }

    pub(super) fn boolean(&mut self, name: &str, value: bool) {
        self.leaf(name, if value { "true" } else { "false" });
    }

    pub(super) fn number(&mut self, name: &str, value: u32) {
        self.leaf(name, &value.to_string());
    }

    pub(super) fn base64(&mut self, name: &str, bytes: &[u8]) {
        self.start(name);
        STANDARD.encode_string(bytes, &mut self.text);
        self.end(name);
    }

    pub(super) fn identity(&mut self, name: &str, id: RevisionId) {
        self.within(name, |xml| {
            xml.leaf("UpdateID", &id.update.to_string());
            xml.number("RevisionNumber", id.number.0);
        });
    }
}
