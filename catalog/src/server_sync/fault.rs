//! Faults ([MS-WSUSSS] section 2.2.9): what an upstream says instead of an answer.

use std::fmt;

use super::envelope::{Fields, SOAP11, Writer};
use super::{MessageError, Operation};
use crate::xml::{Element, shown};

/// What a fault means; names are compared with regard to case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorCode {
    /// An argument is wrong; the message names it.
    InvalidParameters,
    /// The cookie is missing, damaged, expired or another server's.
    InvalidCookie,
    /// The same of the authorization cookie.
    InvalidAuthorizationCookie,
    /// The upstream's catalog is another one: anchors mean nothing any more.
    ServerChanged,
    /// The upstream does not know the files; the message lists them.
    FileDigestsMissing,
    /// Later.
    ServerBusy,
    /// Something failed inside.
    InternalServerError,
    /// Another major version of the protocol.
    IncompatibleProtocolVersion,
    /// Fewer at a time.
    TooManyIds,
    /// One that is not known.
    Other(String),
}

impl ErrorCode {
    /// The code with this name.
    pub fn of(name: &str) -> Self {
        match name {
            "InvalidParameters" => Self::InvalidParameters,
            "InvalidCookie" => Self::InvalidCookie,
            "InvalidAuthorizationCookie" => Self::InvalidAuthorizationCookie,
            "ServerChanged" => Self::ServerChanged,
            "FileDigestsMissing" => Self::FileDigestsMissing,
            "ServerBusy" => Self::ServerBusy,
            "InternalServerError" => Self::InternalServerError,
            "IncompatibleProtocolVersion" => Self::IncompatibleProtocolVersion,
            "TooManyIds" => Self::TooManyIds,
            other => Self::Other(other.to_owned()),
        }
    }

    /// Its name on the wire.
    pub fn name(&self) -> &str {
        match self {
            Self::InvalidParameters => "InvalidParameters",
            Self::InvalidCookie => "InvalidCookie",
            Self::InvalidAuthorizationCookie => "InvalidAuthorizationCookie",
            Self::ServerChanged => "ServerChanged",
            Self::FileDigestsMissing => "FileDigestsMissing",
            Self::ServerBusy => "ServerBusy",
            Self::InternalServerError => "InternalServerError",
            Self::IncompatibleProtocolVersion => "IncompatibleProtocolVersion",
            Self::TooManyIds => "TooManyIds",
            Self::Other(name) => name,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the upstream answers {}{}", code.as_ref().map_or("a fault without a code", ErrorCode::name), in_brackets(message))]
pub struct Fault {
    /// What it means; `None` where the fault does not say: then nothing but stopping is safe.
    pub code: Option<ErrorCode>,
    /// A parameter, a list of digests, a text.
    pub message: String,
    /// The instance of this fault, for the upstream's log.
    pub id: String,
}

fn in_brackets(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({})", shown(message)) }
}

impl Fault {
    /// A fault of ours.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code: Some(code), message: message.into(), id: String::new() }
    }

    /// Reads what is inside of `<Fault>`, in either version, whatever wraps the detail.
    pub(super) fn read<'d>(fields: &mut Fields<'d>, _fault: &Element<'d>) -> Result<Self, MessageError> {
        let mut found = Self { code: None, message: String::new(), id: String::new() };
        let mut reason = String::new();
        // The detail is unqualified, one or two levels down: `detail/ErrorCode`, `Detail/Detail/ErrorCode`.
        while let Some(child) = fields.xml.child()? {
            match child.name() {
                "detail" | "Detail" => found.detail(fields, 0)?,
                "faultstring" => reason = fields.word()?,
                _ => fields.skip()?,
            }
        }
        if found.code.is_none() {
            // Some write the code here and nowhere else.
            let known = ErrorCode::of(&reason);
            if !matches!(known, ErrorCode::Other(_)) {
                found.code = Some(known);
            } else if found.message.is_empty() {
                found.message = reason;
            }
        }
        Ok(found)
    }

    fn detail(&mut self, fields: &mut Fields<'_>, depth: usize) -> Result<(), MessageError> {
        while let Some(child) = fields.xml.child()? {
            match child.name() {
                "ErrorCode" => self.code = Some(ErrorCode::of(&fields.word()?)),
                "Message" => self.message = fields.word()?,
                "ID" => self.id = fields.word()?,
                "Detail" | "detail" if depth < 3 => self.detail(fields, depth + 1)?,
                _ => fields.skip()?,
            }
        }
        Ok(())
    }

    /// The fault as SOAP 1.1, with status 500 on HTTP. `actor` is the address of the service. The code stands in
    /// `faultstring` too, where Microsoft's own client looks for it.
    pub fn write(&self, operation: Option<Operation>, actor: &str) -> Vec<u8> {
        let side = match self.code {
            Some(ErrorCode::InternalServerError | ErrorCode::ServerBusy) | None => "soap:Server",
            _ => "soap:Client",
        };
        let code = self.code.as_ref().map_or("InternalServerError", ErrorCode::name);
        let mut xml = Writer::fault();
        xml.leaf("faultcode", side);
        xml.leaf("faultstring", code);
        xml.leaf("faultactor", actor);
        xml.within("detail", |xml| {
            xml.leaf("ErrorCode", code);
            xml.leaf("Message", &self.message);
            xml.leaf("ID", &self.id);
            if let Some(operation) = operation {
                xml.leaf("Method", &format!("\"{}\"", operation.action()));
            }
        });
        xml.close("soap:Fault")
    }

    pub(super) fn is<'d>(element: &Element<'d>) -> bool {
        element.name() == "Fault"
            && (element.namespace() == SOAP11 || element.namespace() == super::envelope::SOAP12)
    }
}
