//! What a downstream server asks.

use super::envelope::{Fields, SoapVersion, Writer, value};
use super::{AuthorizationCookie, Cookie, Filter, IdAndDelta, LanguageAndDelta, MessageError, Operation};
use crate::digest::Sha1Digest;
use crate::id::{RevisionId, UpdateId};
use crate::limits::Limits;
use crate::xml::{shown, utf8};

/// One request of the server-sync or the authorization service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Which authorization is there?
    GetAuthConfig,
    /// This is who I am.
    GetAuthorizationCookie {
        /// Looks like a fully qualified domain name.
        account_name: String,
        /// A GUID, the same for ever.
        account_guid: String,
        /// Reserved.
        program_keys: Vec<UpdateId>,
    },
    /// A cookie, please.
    GetCookie {
        /// Exactly one, by the specification.
        authorization: Vec<AuthorizationCookie>,
        /// The one before.
        old: Option<Cookie>,
        /// `1.20`
        protocol_version: String,
    },
    /// What do you offer?
    GetConfigData {
        /// The cookie.
        cookie: Option<Cookie>,
        /// Where the last such answer ended.
        anchor: Option<String>,
    },
    /// Which revisions are there?
    GetRevisionIdList {
        /// The cookie.
        cookie: Option<Cookie>,
        /// Which are wanted.
        filter: Filter,
    },
    /// Their documents.
    GetUpdateData {
        /// The cookie.
        cookie: Option<Cookie>,
        /// Which.
        ids: Vec<RevisionId>,
    },
    /// Keys of their encrypted files.
    GetUpdateDecryptionData {
        /// The cookie.
        cookie: Option<Cookie>,
        /// Which.
        ids: Vec<RevisionId>,
    },
    /// What do you deploy? Of replicas.
    GetDeployments {
        /// The cookie.
        cookie: Option<Cookie>,
        /// Where the last such answer ended.
        anchor: Option<String>,
        /// Where the last list of revisions ended.
        sync_anchor: Option<String>,
    },
    /// Fetch these files for me.
    DownloadFiles {
        /// The cookie.
        cookie: Option<Cookie>,
        /// Which.
        digests: Vec<Sha1Digest>,
    },
    /// Are you there?
    Ping {
        /// How closely to look.
        level: u32,
    },
    /// An operation of the service of which only the name is read: drivers, and what no client asks.
    Unread(Operation),
}

impl Request {
    /// Which operation it is of.
    pub fn operation(&self) -> Operation {
        match self {
            Self::GetAuthConfig => Operation::GetAuthConfig,
            Self::GetAuthorizationCookie { .. } => Operation::GetAuthorizationCookie,
            Self::GetCookie { .. } => Operation::GetCookie,
            Self::GetConfigData { .. } => Operation::GetConfigData,
            Self::GetRevisionIdList { .. } => Operation::GetRevisionIdList,
            Self::GetUpdateData { .. } => Operation::GetUpdateData,
            Self::GetUpdateDecryptionData { .. } => Operation::GetUpdateDecryptionData,
            Self::GetDeployments { .. } => Operation::GetDeployments,
            Self::DownloadFiles { .. } => Operation::DownloadFiles,
            Self::Ping { .. } => Operation::Ping,
            Self::Unread(operation) => *operation,
        }
    }

    /// The request in SOAP 1.1. Lists that may be absent are left out where they are empty.
    pub fn write(&self) -> Vec<u8> {
        let operation = self.operation();
        let mut xml = Writer::open(operation.name(), operation.namespace());
        match self {
            Self::GetAuthConfig | Self::Unread(_) => {}
            Self::GetAuthorizationCookie { account_name, account_guid, program_keys } => {
                xml.leaf("accountName", account_name);
                xml.leaf("accountGuid", account_guid);
                if !program_keys.is_empty() {
                    xml.within("programKeys", |xml| {
                        program_keys.iter().for_each(|key| xml.leaf("guid", &key.to_string()));
                    });
                }
            }
            Self::GetCookie { authorization, old, protocol_version } => {
                xml.within("authCookies", |xml| {
                    for one in authorization {
                        xml.within("AuthorizationCookie", |xml| {
                            xml.leaf("PlugInId", &one.plug_in);
                            xml.base64("CookieData", &one.data);
                        });
                    }
                });
                cookie(&mut xml, "oldCookie", old.as_ref());
                xml.leaf("protocolVersion", protocol_version);
            }
            Self::GetConfigData { cookie: shown, anchor } => {
                cookie(&mut xml, "cookie", shown.as_ref());
                xml.optional("configAnchor", anchor.as_deref());
            }
            Self::GetRevisionIdList { cookie: shown, filter } => {
                cookie(&mut xml, "cookie", shown.as_ref());
                xml.within("filter", |xml| write_filter(xml, filter));
            }
            Self::GetUpdateData { cookie: shown, ids }
            | Self::GetUpdateDecryptionData { cookie: shown, ids } => {
                cookie(&mut xml, "cookie", shown.as_ref());
                xml.within("updateIds", |xml| ids.iter().for_each(|id| xml.identity("UpdateIdentity", *id)));
            }
            Self::GetDeployments { cookie: shown, anchor, sync_anchor } => {
                cookie(&mut xml, "cookie", shown.as_ref());
                xml.optional("deploymentAnchor", anchor.as_deref());
                xml.optional("syncAnchor", sync_anchor.as_deref());
            }
            Self::DownloadFiles { cookie: shown, digests } => {
                cookie(&mut xml, "cookie", shown.as_ref());
                xml.within("fileDigestList", |xml| {
                    digests.iter().for_each(|digest| xml.base64("base64Binary", &digest.0));
                });
            }
            Self::Ping { level } => xml.number("pingLevel", *level),
        }
        xml.close(operation.name())
    }

    /// Reads a request. The operation is that of the body: `SOAPAction` may be absent or lie.
    ///
    /// # Errors
    /// Each [`MessageError`] but `Blob`.
    pub fn read(bytes: &[u8], limits: &Limits) -> Result<(SoapVersion, Self), MessageError> {
        let text = utf8(bytes)?;
        let (mut fields, version, body) = Fields::open(&text, limits)?;
        let operation =
            Operation::find(body.namespace(), body.name()).ok_or_else(|| MessageError::Unexpected {
                expected: "an operation of the service".to_owned(),
                actual: shown(&format!("{{{}}}{}", body.namespace(), body.name())),
            })?;
        let request = Self::read_fields(operation, &mut fields)?;
        fields.close()?;
        Ok((version, request))
    }

    fn read_fields(operation: Operation, fields: &mut Fields<'_>) -> Result<Self, MessageError> {
        let mut all = AllFields::default();
        fields.children(|fields, child| {
            match child.name() {
                "accountName" => all.account_name = fields.word()?,
                "accountGuid" => all.account_guid = fields.word()?,
                "programKeys" => all.program_keys = fields.list("guid", |f, _| f.guid("guid"))?,
                "authCookies" => {
                    all.authorization =
                        fields.list("AuthorizationCookie", |fields, _| read_authorization(fields))?;
                }
                "oldCookie" => all.old = read_cookie(fields)?,
                "cookie" => all.cookie = read_cookie(fields)?,
                "protocolVersion" => all.protocol_version = fields.word()?,
                "configAnchor" | "deploymentAnchor" => all.anchor = anchor(fields.optional(child)?),
                "syncAnchor" => all.sync_anchor = anchor(fields.optional(child)?),
                "filter" => all.filter = read_filter(fields)?,
                "updateIds" => all.ids = fields.list("UpdateIdentity", |fields, _| fields.identity())?,
                "fileDigestList" => {
                    all.digests = fields.list("base64Binary", |fields, _| fields.sha1("base64Binary"))?;
                }
                "pingLevel" => all.level = fields.number("pingLevel")?,
                _ => fields.skip()?,
            }
            Ok(())
        })?;
        let AllFields { cookie, anchor, ids, .. } = all;
        Ok(match operation {
            Operation::GetAuthConfig => Self::GetAuthConfig,
            Operation::GetAuthorizationCookie => Self::GetAuthorizationCookie {
                account_name: all.account_name,
                account_guid: all.account_guid,
                program_keys: all.program_keys,
            },
            Operation::GetCookie => Self::GetCookie {
                authorization: all.authorization,
                old: all.old,
                protocol_version: all.protocol_version,
            },
            Operation::GetConfigData => Self::GetConfigData { cookie, anchor },
            Operation::GetRevisionIdList => Self::GetRevisionIdList { cookie, filter: all.filter },
            Operation::GetUpdateData => Self::GetUpdateData { cookie, ids },
            Operation::GetUpdateDecryptionData => Self::GetUpdateDecryptionData { cookie, ids },
            Operation::GetDeployments => {
                Self::GetDeployments { cookie, anchor, sync_anchor: all.sync_anchor }
            }
            Operation::DownloadFiles => Self::DownloadFiles { cookie, digests: all.digests },
            Operation::Ping => Self::Ping { level: all.level },
            Operation::GetDriverIdList
            | Operation::GetDriverSetData
            | Operation::GetRelatedRevisionsForUpdates => Self::Unread(operation),
        })
    }
}

/// The fields of all requests: names mean the same in each.
#[derive(Default)]
struct AllFields {
    account_name: String,
    account_guid: String,
    program_keys: Vec<UpdateId>,
    authorization: Vec<AuthorizationCookie>,
    old: Option<Cookie>,
    cookie: Option<Cookie>,
    protocol_version: String,
    anchor: Option<String>,
    sync_anchor: Option<String>,
    filter: Filter,
    ids: Vec<RevisionId>,
    digests: Vec<Sha1Digest>,
    level: u32,
}

fn anchor(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

pub(super) fn cookie(xml: &mut Writer, name: &str, cookie: Option<&Cookie>) {
    if let Some(cookie) = cookie {
        xml.within(name, |xml| {
            xml.leaf("Expiration", &cookie.expiration);
            xml.base64("EncryptedData", &cookie.data);
        });
    }
}

/// `None` where it is nil or has no data: both are no cookie.
pub(super) fn read_cookie(fields: &mut Fields<'_>) -> Result<Option<Cookie>, MessageError> {
    let (mut expiration, mut data) = (String::new(), None);
    fields.children(|fields, child| {
        match child.name() {
            "Expiration" => expiration = fields.word()?,
            // Others' servers see here that it is no cookie of theirs; so do we, and it is no error of the message.
            "EncryptedData" => data = fields.base64("EncryptedData").ok(),
            _ => fields.skip()?,
        }
        Ok(())
    })?;
    Ok(data.map(|data| Cookie { expiration, data }))
}

pub(super) fn read_authorization(fields: &mut Fields<'_>) -> Result<AuthorizationCookie, MessageError> {
    let (mut plug_in, mut data) = (String::new(), Vec::new());
    fields.children(|fields, child| {
        match child.name() {
            "PlugInId" => plug_in = fields.word()?,
            "CookieData" => data = fields.base64("CookieData")?,
            _ => fields.skip()?,
        }
        Ok(())
    })?;
    Ok(AuthorizationCookie { plug_in, data })
}

fn write_filter(xml: &mut Writer, filter: &Filter) {
    xml.optional("Anchor", filter.anchor.as_deref());
    xml.boolean("GetConfig", filter.get_config);
    xml.boolean("Get63LanguageOnly", filter.only_63_languages);
    let mut list = |name: &str, all: &[IdAndDelta]| {
        if all.is_empty() {
            return;
        }
        xml.within(name, |xml| {
            for one in all {
                xml.within("IdAndDelta", |xml| {
                    xml.leaf("Id", &one.id.to_string());
                    xml.boolean("Delta", one.delta);
                });
            }
        });
    };
    list("Categories", &filter.categories);
    list("Classifications", &filter.classifications);
    if !filter.languages.is_empty() {
        xml.within("Languages", |xml| {
            for one in &filter.languages {
                xml.within("LanguageAndDelta", |xml| {
                    xml.number("Id", one.id);
                    xml.boolean("Delta", one.delta);
                });
            }
        });
    }
}

fn read_filter(fields: &mut Fields<'_>) -> Result<Filter, MessageError> {
    let mut filter = Filter::default();
    fields.children(|fields, child| {
        match child.name() {
            "Anchor" => filter.anchor = anchor(fields.optional(child)?),
            "GetConfig" => filter.get_config = fields.boolean("GetConfig")?,
            "Get63LanguageOnly" => filter.only_63_languages = fields.boolean("Get63LanguageOnly")?,
            "Categories" => filter.categories = ids_and_deltas(fields)?,
            "Classifications" => filter.classifications = ids_and_deltas(fields)?,
            "Languages" => {
                filter.languages = fields.list("LanguageAndDelta", |fields, _| {
                    let (mut id, mut delta) = (None, false);
                    fields.children(|fields, child| {
                        match child.name() {
                            "Id" => id = Some(fields.number("Id")?),
                            "Delta" => delta = fields.boolean("Delta")?,
                            _ => fields.skip()?,
                        }
                        Ok(())
                    })?;
                    let id = id.ok_or(MessageError::Missing { message: "LanguageAndDelta", field: "Id" })?;
                    Ok(LanguageAndDelta { id, delta })
                })?;
            }
            _ => fields.skip()?,
        }
        Ok(())
    })?;
    Ok(filter)
}

fn ids_and_deltas(fields: &mut Fields<'_>) -> Result<Vec<IdAndDelta>, MessageError> {
    fields.list("IdAndDelta", |fields, _| {
        let (mut id, mut delta) = (None, false);
        fields.children(|fields, child| {
            match child.name() {
                "Id" => id = Some(fields.guid("Id")?),
                "Delta" => delta = fields.boolean("Delta")?,
                _ => fields.skip()?,
            }
            Ok(())
        })?;
        let id = id.ok_or_else(|| value("IdAndDelta", "an id", "none"))?;
        Ok(IdAndDelta { id, delta })
    })
}
