//! Why a client could not get a content.

use std::net::SocketAddr;

use catalog::digest::Sha256Digest;
use catalog::problem::{Code, Coded, Problem};

use crate::library::LibraryError;
use crate::transfer::FetchError;
use crate::transfer::fault::Fault;
use crate::transfer::web::WebError;

/// Why a client could not get a content.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The site did not say where it is.
    #[error("the site {site} could not be asked")]
    Site {
        /// Its address.
        site: String,
        /// Why.
        source: Fault,
    },
    /// The site does not offer it.
    #[error("the site {site} offers no content {content}")]
    NotOffered {
        /// Its address.
        site: String,
        /// What was asked for.
        content: Sha256Digest,
    },
    /// The site said something else.
    #[error("the answer of {site} cannot be understood: {what}")]
    Answer {
        /// Its address.
        site: String,
        /// What is wrong with it.
        what: String,
    },
    /// A connection could not be prepared.
    #[error("the client's connections cannot be set up")]
    Web(#[source] WebError),
    /// The client's own library.
    #[error("the client's content library cannot be used")]
    Library(#[source] LibraryError),
    /// Others cannot be served.
    #[error("`{address}` cannot be listened on")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Nobody could give it.
    #[error(transparent)]
    Fetch(FetchError),
    /// The process is shutting down, or something in it broke.
    #[error("the client was stopped")]
    Stopped(#[source] tokio::task::JoinError),
}

impl Coded for ClientError {
    fn code(&self) -> Code {
        match self {
            Self::Site { source, .. } => source.code(),
            Self::NotOffered { .. } => Code::ContentNotFound,
            Self::Answer { .. } => Code::SiteAnswerInvalid,
            Self::Web(error) => error.code(),
            Self::Library(error) => error.code(),
            Self::Listen { .. } => Code::ListenFailed,
            Self::Fetch(error) => error.code(),
            Self::Stopped(error) if error.is_cancelled() => Code::Interrupted,
            Self::Stopped(_) => Code::Internal,
        }
    }

    fn problem(&self) -> Problem {
        match self {
            Self::Fetch(error) => error.problem(),
            other => Problem::of(other.code(), other),
        }
    }
}
