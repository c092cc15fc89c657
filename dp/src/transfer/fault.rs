//! Everything that can be wrong with a source, by its stable code.

use std::net::IpAddr;
use std::time::Duration;

use catalog::digest::Mismatch;
use catalog::problem::{Code, Coded};

/// What a source did wrong. The text stands after the source's name and a colon.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No connection: name resolution, routing, refused, a proxy.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// 404 or 410, or no such file in a folder.
    #[error("has no such file ({0})")]
    NotFound(String),
    /// Any other 4xx, a file without the right to read it, or 507: there is no room for what it would fetch first.
    #[error("refuses to answer ({0})")]
    Refused(String),
    /// A 5xx, or an answer that HTTP does not allow.
    #[error("failed: {0}")]
    Failed(String),
    /// Its bytes are coded (RFC 9110 section 8.4), so they are not the file's.
    #[error("sends its answer coded ({0}), which was not asked for")]
    Coded(String),
    /// 408, 429 or 503: later, perhaps at a time that it names (RFC 9110 section 10.2.3).
    #[error("is busy (status {status})")]
    Busy {
        /// The HTTP status.
        status: u16,
        /// How long to leave it alone, from now.
        retry_after: Option<Duration>,
    },
    /// Its certificate does not lead to a root that we trust.
    #[error("has a certificate that is not trusted: {0}")]
    Untrusted(String),
    /// An address in a network that this source may not reach.
    #[error("leads to `{host}` at {address}, which is not a public address")]
    NetworkNotAllowed {
        /// The host as it stands in the URL.
        host: String,
        /// The address that was refused.
        address: IpAddr,
    },
    /// A redirect to a place that this source may not send us to.
    #[error("redirects to `{to}`, {why}")]
    RedirectNotAllowed {
        /// Scheme and host of the place.
        to: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// Redirects without end.
    #[error("redirects more than {limit} times")]
    TooManyRedirects {
        /// Redirects that are followed.
        limit: usize,
    },
    /// Neither `http` nor `https`.
    #[error("has an address that is neither http nor https: `{0}:`")]
    SchemeNotAllowed(String),
    /// Nothing, or next to nothing, came for too long.
    #[error("stopped sending, or nearly so")]
    Stalled,
    /// The answer ended before the file did.
    #[error("ended early: expected {expected} bytes, received {actual}")]
    CutShort {
        /// Bytes of the whole.
        expected: u64,
        /// Bytes that are there.
        actual: u64,
    },
    /// More bytes than the file has.
    #[error("sent more than the {limit} bytes expected")]
    TooLong {
        /// Bytes of the whole, or the cap where that is unknown.
        limit: u64,
    },
    /// Another part than was asked for.
    #[error("answered with the wrong part: expected the bytes from {expected} on, received {actual}")]
    WrongRange {
        /// The offset that was asked for.
        expected: u64,
        /// What the answer said.
        actual: String,
    },
    /// It has a file of another size under this name.
    #[error("has a file of another size: expected {expected} bytes, it has {actual}")]
    Size {
        /// Bytes that were published.
        expected: u64,
        /// Bytes that the source announces.
        actual: u64,
    },
    /// A piece had another digest than the one known, and bytes of this source were in it.
    #[error("sent wrong bytes in the piece that begins at {offset}")]
    Piece {
        /// Where the piece begins.
        offset: u64,
    },
    /// The whole had another digest, and bytes of this source were in it.
    #[error("{0}")]
    Digest(Mismatch),
}

impl Fault {
    /// Whether asking again can only give the same: such a source is not asked again in this transfer.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Unreachable(_)
            | Self::Failed(_)
            | Self::Coded(_)
            | Self::Busy { .. }
            | Self::Stalled
            | Self::CutShort { .. } => false,
            Self::NotFound(_)
            | Self::Refused(_)
            | Self::Untrusted(_)
            | Self::NetworkNotAllowed { .. }
            | Self::RedirectNotAllowed { .. }
            | Self::TooManyRedirects { .. }
            | Self::SchemeNotAllowed(_)
            | Self::TooLong { .. }
            | Self::WrongRange { .. }
            | Self::Size { .. }
            | Self::Piece { .. }
            | Self::Digest(_) => true,
        }
    }

    /// Whether asking again may help.
    pub fn is_transient(&self) -> bool {
        !self.is_lasting()
    }

    /// How much this fault tells about why a transfer failed. Wrong bytes outrank refusals by our own rules,
    /// those outrank what a source said, and a source that said nothing at all comes last.
    pub(crate) fn weight(&self) -> u8 {
        match self {
            Self::Digest(_) | Self::Piece { .. } => 12,
            Self::TooLong { .. } | Self::Size { .. } => 11,
            Self::Untrusted(_) => 10,
            Self::NetworkNotAllowed { .. } => 9,
            Self::RedirectNotAllowed { .. } | Self::SchemeNotAllowed(_) => 8,
            Self::TooManyRedirects { .. } => 7,
            Self::WrongRange { .. } => 6,
            Self::NotFound(_) => 5,
            Self::Refused(_) | Self::Coded(_) => 4,
            Self::CutShort { .. } => 3,
            Self::Stalled => 2,
            Self::Failed(_) | Self::Busy { .. } => 1,
            Self::Unreachable(_) => 0,
        }
    }
}

impl Coded for Fault {
    fn code(&self) -> Code {
        match self {
            Self::Unreachable(_) => Code::SourceUnreachable,
            Self::NotFound(_) => Code::SourceNotFound,
            Self::Refused(_) => Code::SourceRefused,
            Self::Failed(_) | Self::Busy { .. } => Code::SourceFailed,
            Self::Coded(_) => Code::SourceCoded,
            Self::Untrusted(_) => Code::SyncTlsUntrusted,
            Self::NetworkNotAllowed { .. } => Code::NetworkNotAllowed,
            Self::RedirectNotAllowed { .. } => Code::RedirectNotAllowed,
            Self::TooManyRedirects { .. } => Code::TooManyRedirects,
            Self::SchemeNotAllowed(_) => Code::SchemeNotAllowed,
            Self::Stalled => Code::TransferStalled,
            Self::CutShort { .. } => Code::TransferCutShort,
            Self::TooLong { .. } => Code::TransferTooLong,
            Self::WrongRange { .. } => Code::WrongRange,
            Self::Size { .. } | Self::Digest(Mismatch::Size { .. }) => Code::SizeMismatch,
            Self::Digest(_) | Self::Piece { .. } => Code::HashMismatch,
        }
    }
}

/// The fault that says most about why nothing worked.
pub(crate) fn most_telling<'a>(faults: impl Iterator<Item = &'a Fault>) -> Option<&'a Fault> {
    faults.max_by_key(|fault| fault.weight())
}
