//! Messages of the Windows Server Update Services server-server protocol ([MS-WSUSSS]), both directions: what a
//! downstream server asks, and what an upstream server answers.
//!
//! Values and bytes, nothing else: who keeps a cookie and when it is renewed is decided elsewhere. SOAP 1.1 and 1.2 are
//! read, by namespace and local name whatever the prefixes; SOAP 1.1 is written, fields in the order of the
//! specification. What is not known is passed over, what may be absent may be nil or empty too.
//! ```text
//! Request  ──write──▶ bytes ──read──▶ Request          the upstream dispatches on it
//! Response ──write──▶ bytes ──read──▶ Response | Fault  the downstream asked for one operation, and gets that
//! ```

mod blob;
mod envelope;
mod fault;
mod request;
mod response;
#[cfg(test)]
mod tests;

use crate::digest::Sha1Digest;
use crate::id::{RevisionId, UpdateId};
use crate::problem::{Code, Coded};
use crate::xml::XmlError;

pub use blob::{Blob, decode_blob};
pub use envelope::SoapVersion;
pub use fault::{ErrorCode, Fault};
pub use request::Request;
pub use response::Response;

/// Namespace of operations and types of the server-sync service ([MS-WSUSSS] section 2.2.1).
pub const NAMESPACE: &str = "http://www.microsoft.com/SoftwareDistribution";
/// Namespace of the authorization service.
pub const AUTH_NAMESPACE: &str = "http://www.microsoft.com/SoftwareDistribution/Server/DssAuthWebService";
/// Namespace of `Ping`.
pub const MONITOR_NAMESPACE: &str = "http://www.microsoft.com/SoftwareDistribution/Server/IMonitorable";
/// Path of the server-sync service, below the root of the server ([MS-WSUSSS] section 2.1).
pub const SERVICE_PATH: &str = "ServerSyncWebService/ServerSyncWebService.asmx";
/// Path of the authorization service.
pub const AUTH_PATH: &str = "DssAuthWebService/DssAuthWebService.asmx";
/// Path of the reporting service, where replicas and downstream servers roll up what they know.
pub const REPORTING_PATH: &str = "ReportingWebService/ReportingWebService.asmx";
/// The one authorization plug-in that the protocol has.
pub const PLUG_IN: &str = "DssTargeting";
/// The version of the protocol that we speak: that of WSUS 10.0.
pub const PROTOCOL_VERSION: &str = "1.20";
/// The most ids that one `GetUpdateData` may ask for, where the upstream does not say.
pub const USUAL_BATCH: usize = 100;

/// Why a message is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It is not read as XML.
    #[error("the message cannot be read")]
    Xml(#[from] XmlError),
    /// It is XML, but no envelope of either SOAP version.
    #[error("expected a SOAP envelope, actual `{actual}`")]
    NoEnvelope {
        /// The root element, with its namespace.
        actual: String,
    },
    /// Another message than was expected here.
    #[error("expected `{expected}`, actual `{actual}`")]
    Unexpected {
        /// The element that was expected.
        expected: String,
        /// The one that came.
        actual: String,
    },
    /// A field that must be there is absent.
    #[error("`{message}` has no `{field}`")]
    Missing {
        /// The message.
        message: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A field says something that it cannot say.
    #[error("`{field}`: expected {expected}, actual `{actual}`")]
    Value {
        /// The field.
        field: &'static str,
        /// What was expected, with its article.
        expected: &'static str,
        /// What came, shortened.
        actual: String,
    },
    /// More than the limits allow.
    #[error("the message has more {what} than the {most} that are read")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        most: u64,
    },
    /// A compressed document does not decode.
    #[error("the document of {id} cannot be unpacked: {why}")]
    Blob {
        /// Whose document.
        id: RevisionId,
        /// What is wrong with it.
        why: String,
        /// The code of what is wrong.
        code: Code,
    },
}

impl Coded for MessageError {
    fn code(&self) -> Code {
        match self {
            Self::Xml(error) => error.code(),
            Self::NoEnvelope { .. } | Self::Unexpected { .. } | Self::Missing { .. } | Self::Value { .. } => {
                Code::ProtocolMalformed
            }
            Self::TooLarge { .. } => Code::CatalogTooLarge,
            Self::Blob { code, .. } => *code,
        }
    }
}

/// One operation of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// Which authorization there is ([MS-WSUSSS] section 3.1.4.1).
    GetAuthConfig,
    /// Who the downstream server is (section 3.1.4.2); of the authorization service.
    GetAuthorizationCookie,
    /// A cookie for all that follows (section 3.1.4.3).
    GetCookie,
    /// What the upstream offers, and its languages (section 3.1.4.4).
    GetConfigData,
    /// Which revisions there are (section 3.1.4.5).
    GetRevisionIdList,
    /// Their documents and files (section 3.1.4.6).
    GetUpdateData,
    /// Keys of encrypted files (section 3.1.4.7).
    GetUpdateDecryptionData,
    /// Drivers: which there are (section 3.1.4.8).
    GetDriverIdList,
    /// Drivers: their sets (section 3.1.4.9).
    GetDriverSetData,
    /// Replicas: what the upstream deploys (section 3.1.4.10).
    GetDeployments,
    /// Fetch content that is not there yet (section 3.1.4.11).
    DownloadFiles,
    /// Is anybody there; no client asks.
    Ping,
    /// In the service description; no client asks.
    GetRelatedRevisionsForUpdates,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 13] = [
        Self::GetAuthConfig,
        Self::GetAuthorizationCookie,
        Self::GetCookie,
        Self::GetConfigData,
        Self::GetRevisionIdList,
        Self::GetUpdateData,
        Self::GetUpdateDecryptionData,
        Self::GetDriverIdList,
        Self::GetDriverSetData,
        Self::GetDeployments,
        Self::DownloadFiles,
        Self::Ping,
        Self::GetRelatedRevisionsForUpdates,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::GetAuthConfig => "GetAuthConfig",
            Self::GetAuthorizationCookie => "GetAuthorizationCookie",
            Self::GetCookie => "GetCookie",
            Self::GetConfigData => "GetConfigData",
            Self::GetRevisionIdList => "GetRevisionIdList",
            Self::GetUpdateData => "GetUpdateData",
            Self::GetUpdateDecryptionData => "GetUpdateDecryptionData",
            Self::GetDriverIdList => "GetDriverIdList",
            Self::GetDriverSetData => "GetDriverSetData",
            Self::GetDeployments => "GetDeployments",
            Self::DownloadFiles => "DownloadFiles",
            Self::Ping => "Ping",
            Self::GetRelatedRevisionsForUpdates => "GetRelatedRevisionsForUpdates",
        }
    }

    /// The namespace of its elements.
    pub fn namespace(self) -> &'static str {
        match self {
            Self::GetAuthorizationCookie => AUTH_NAMESPACE,
            Self::Ping => MONITOR_NAMESPACE,
            _ => NAMESPACE,
        }
    }

    /// The value of its `SOAPAction` field, without quotes: namespace, slash, name.
    pub fn action(self) -> String {
        format!("{}/{}", self.namespace(), self.name())
    }

    fn find(namespace: &str, name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name && one.namespace() == namespace)
    }
}

/// What the upstream gave us to show with every call. Its data means nothing to us (section 2.2.4.8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cookie {
    /// Until when it is good, as the upstream writes it.
    pub expiration: String,
    /// Opaque.
    pub data: Vec<u8>,
}

impl Cookie {
    /// When it ends, milliseconds since 1970; `None` where that is not said in a way that is understood.
    pub fn expires_unix_ms(&self) -> Option<i64> {
        crate::update::Timestamp::of(&self.expiration).unix_ms
    }
}

/// Proof of who the downstream server is (section 2.2.4.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizationCookie {
    /// [`PLUG_IN`].
    pub plug_in: String,
    /// Opaque.
    pub data: Vec<u8>,
}

/// Answer of `GetAuthConfig` (section 3.1.4.1.2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthConfig {
    /// When it last changed, as written.
    pub last_change: String,
    /// Plug-ins: exactly one, by the specification.
    pub plug_ins: Vec<PlugIn>,
}

/// A way to be authorized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlugIn {
    /// [`PLUG_IN`].
    pub id: String,
    /// Where, relative to the root of the server.
    pub service_url: String,
}

/// Answer of `GetConfigData` (section 3.1.4.4.2.1). A limit of 0 means that the thing is not offered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigData {
    /// There is no content here, only metadata.
    pub catalog_only: bool,
    /// Content is fetched when it is asked for.
    pub lazy: bool,
    /// Express files are here too.
    pub hosts_express_files: bool,
    /// Ids that one `GetUpdateData` may ask for.
    pub updates_per_request: u32,
    /// Sets that one `GetDriverSetData` may ask for.
    pub driver_sets_per_request: u32,
    /// Computers that one `GetDriverIdList` may name.
    pub computers_per_request: u32,
    /// Hardware ids that it may name.
    pub hardware_ids_per_request: u32,
    /// To ask with next time: then only languages that changed are answered.
    pub anchor: String,
    /// The upstream's version of the protocol.
    pub protocol_version: Option<String>,
    /// Languages, or those that changed.
    pub languages: Vec<Language>,
    /// Ids that one `GetUpdateDecryptionData` may ask for.
    pub decryption_per_request: Option<u32>,
}

/// One language of the upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Language {
    /// Windows' language identifier; 0 is "all".
    pub id: u32,
    /// `de`, `zh-cn`, `all`.
    pub short: String,
    /// For people.
    pub long: String,
    /// The upstream fetches content of it.
    pub enabled: bool,
}

/// One category or classification of a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdAndDelta {
    /// Which.
    pub id: UpdateId,
    /// Only what changed since the anchor; otherwise all of it.
    pub delta: bool,
}

/// One language of a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LanguageAndDelta {
    /// Which.
    pub id: u32,
    /// Only what changed since the anchor; otherwise all of it.
    pub delta: bool,
}

/// Which revisions are wanted (section 3.1.4.5.3.2): any of the categories and any of the classifications. Both lists
/// empty means all there is; one of them empty means nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Where the last list of the same kind ended. Opaque.
    pub anchor: Option<String>,
    /// Categories, classifications and detectoids instead of updates; the lists are ignored then.
    pub get_config: bool,
    /// The downstream server knows the 63 first languages only.
    pub only_63_languages: bool,
    /// Products.
    pub categories: Vec<IdAndDelta>,
    /// Classifications.
    pub classifications: Vec<IdAndDelta>,
    /// Languages.
    pub languages: Vec<LanguageAndDelta>,
}

/// Answer of `GetRevisionIdList`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RevisionIdList {
    /// To ask with next time.
    pub anchor: String,
    /// What is new. Real servers repeat an update with an older revision.
    pub revisions: Vec<RevisionId>,
}

/// Answer of `GetUpdateData`: perhaps less than was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpdateData {
    /// Documents.
    pub updates: Vec<DocumentOf>,
    /// Where files are, once for all documents of the answer.
    pub urls: Vec<FileUrl>,
}

/// One document of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentOf {
    /// Which revision.
    pub id: RevisionId,
    /// Its files, as the answer says beside the document.
    pub digests: Vec<Sha1Digest>,
    /// The document.
    pub blob: Blob,
}

/// Where a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileUrl {
    /// Which file.
    pub digest: Sha1Digest,
    /// At Microsoft.
    pub microsoft: Option<String>,
    /// At the upstream; a real WSUS leaves it empty, and the file is at [`content_path`].
    pub upstream: Option<String>,
}

/// Where an upstream has the content of a file ([MS-WSUSSS] section 2.1, as real servers do it): `Content`, the last two
/// digits of its SHA-1, its SHA-1, and the extension of its own name.
pub fn content_path(sha1: Sha1Digest, file_name: &str) -> String {
    let hex = sha1.to_string().to_uppercase();
    let extension = file_name.rsplit_once('.').map(|(_, extension)| extension).unwrap_or_default();
    let plain: String =
        extension.chars().filter(char::is_ascii_alphanumeric).take(16).collect::<String>().to_lowercase();
    let dot = if plain.is_empty() { "" } else { "." };
    format!("Content/{}/{hex}{dot}{plain}", &hex[hex.len() - 2..])
}

/// Answer of `Ping`: that somebody is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pong {
    /// The server's time, as it writes it.
    pub time: String,
    /// What answers.
    pub name: String,
}

/// Answer of `GetUpdateDecryptionData`: secrets, so it does not show them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct DecryptionData {
    /// Keys by revision and file.
    pub updates: Vec<(RevisionId, Vec<FileKey>)>,
}

/// The key of one file; `None` where it needs none.
pub type FileKey = (Sha1Digest, Option<String>);

impl std::fmt::Debug for DecryptionData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DecryptionData").field("updates", &self.updates.len()).finish_non_exhaustive()
    }
}
