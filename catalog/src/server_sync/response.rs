//! What an upstream server answers.

use super::blob::Blob;
use super::envelope::{Fields, Writer};
use super::fault::Fault;
use super::request::{cookie, read_authorization, read_cookie};
use super::{
    AuthConfig, AuthorizationCookie, ConfigData, Cookie, DecryptionData, DocumentOf, FileKey, FileUrl,
    Language, MessageError, Operation, PlugIn, Pong, RevisionIdList, UpdateData,
};
use crate::id::RevisionId;
use crate::limits::Limits;
use crate::xml::{shown, utf8};

/// One answer of the server-sync or the authorization service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// To `GetAuthConfig`.
    AuthConfig(AuthConfig),
    /// To `GetAuthorizationCookie`.
    AuthorizationCookie(AuthorizationCookie),
    /// To `GetCookie`.
    Cookie(Cookie),
    /// To `GetConfigData`.
    ConfigData(ConfigData),
    /// To `GetRevisionIdList`.
    RevisionIdList(RevisionIdList),
    /// To `GetUpdateData`.
    UpdateData(UpdateData),
    /// To `GetUpdateDecryptionData`.
    DecryptionData(DecryptionData),
    /// To `DownloadFiles`: nothing.
    DownloadFiles,
    /// To `Ping`.
    Pong(Pong),
}

impl Response {
    /// To which operation it is the answer.
    pub fn operation(&self) -> Operation {
        match self {
            Self::AuthConfig(_) => Operation::GetAuthConfig,
            Self::AuthorizationCookie(_) => Operation::GetAuthorizationCookie,
            Self::Cookie(_) => Operation::GetCookie,
            Self::ConfigData(_) => Operation::GetConfigData,
            Self::RevisionIdList(_) => Operation::GetRevisionIdList,
            Self::UpdateData(_) => Operation::GetUpdateData,
            Self::DecryptionData(_) => Operation::GetUpdateDecryptionData,
            Self::DownloadFiles => Operation::DownloadFiles,
            Self::Pong(_) => Operation::Ping,
        }
    }

    /// The answer in SOAP 1.1, with every list that the specification names, also where it is empty: Microsoft's own
    /// client does not bear their absence.
    pub fn write(&self) -> Vec<u8> {
        let operation = self.operation();
        let response = format!("{}Response", operation.name());
        let result = format!("{}Result", operation.name());
        let mut xml = Writer::open(&response, operation.namespace());
        match self {
            Self::AuthConfig(config) => xml.within(&result, |xml| {
                xml.leaf("LastChange", &config.last_change);
                xml.within("AuthInfo", |xml| {
                    for plug_in in &config.plug_ins {
                        xml.within("AuthPlugInInfo", |xml| {
                            xml.leaf("PlugInID", &plug_in.id);
                            xml.leaf("ServiceUrl", &plug_in.service_url);
                        });
                    }
                });
            }),
            Self::AuthorizationCookie(one) => xml.within(&result, |xml| {
                xml.leaf("PlugInId", &one.plug_in);
                xml.base64("CookieData", &one.data);
            }),
            Self::Cookie(one) => cookie(&mut xml, &result, Some(one)),
            Self::ConfigData(config) => xml.within(&result, |xml| write_config(xml, config)),
            Self::RevisionIdList(list) => xml.within(&result, |xml| {
                xml.leaf("Anchor", &list.anchor);
                xml.within("NewRevisions", |xml| {
                    list.revisions.iter().for_each(|id| xml.identity("UpdateIdentity", *id));
                });
            }),
            Self::UpdateData(data) => xml.within(&result, |xml| write_updates(xml, data)),
            Self::DecryptionData(data) => xml.within(&result, |xml| write_keys(xml, data)),
            Self::Pong(pong) => xml.within(&result, |xml| {
                xml.boolean("SuccessFlag", true);
                xml.leaf("ServicesTime", &pong.time);
                xml.leaf("ServicesName", &pong.name);
                xml.boolean("IsHttps", false);
                // There is no such file here, and the fields must be there all the same.
                xml.leaf("ConfigFileLastModifiedTime", &pong.time);
                xml.leaf("ConfigFileNextExpirationTime", &pong.time);
                xml.number("ConfigFileExpirationModuloInMinutes", 0);
            }),
            Self::DownloadFiles => {}
        }
        xml.close(&response)
    }

    /// Reads the answer to `operation`, or the fault that came instead.
    ///
    /// # Errors
    /// Each [`MessageError`] but `Blob`; an answer to another operation is `Unexpected`.
    pub fn read(
        operation: Operation,
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<Result<Self, Fault>, MessageError> {
        let text = utf8(bytes)?;
        let (mut fields, _, body) = Fields::open(&text, limits)?;
        if Fault::is(&body) {
            let fault = Fault::read(&mut fields, &body)?;
            fields.close()?;
            return Ok(Err(fault));
        }
        let expected = format!("{}Response", operation.name());
        if body.name() != expected || body.namespace() != operation.namespace() {
            return Err(MessageError::Unexpected {
                expected,
                actual: shown(&format!("{{{}}}{}", body.namespace(), body.name())),
            });
        }
        let result = format!("{}Result", operation.name());
        let mut found = None;
        fields.children(|fields, child| {
            if child.name() == result && found.is_none() {
                found = Some(Self::read_result(operation, fields)?);
                return Ok(());
            }
            fields.skip()
        })?;
        fields.close()?;
        let empty = matches!(operation, Operation::DownloadFiles).then_some(Self::DownloadFiles);
        let missing = MessageError::Missing { message: operation.name(), field: "a result" };
        found.or(empty).ok_or(missing).map(Ok)
    }

    fn read_result(operation: Operation, fields: &mut Fields<'_>) -> Result<Self, MessageError> {
        Ok(match operation {
            Operation::GetAuthConfig => Self::AuthConfig(read_auth_config(fields)?),
            Operation::GetAuthorizationCookie => Self::AuthorizationCookie(read_authorization(fields)?),
            Operation::GetCookie => {
                let missing = MessageError::Missing { message: "GetCookie", field: "EncryptedData" };
                Self::Cookie(read_cookie(fields)?.ok_or(missing)?)
            }
            Operation::GetConfigData => Self::ConfigData(read_config(fields)?),
            Operation::GetRevisionIdList => Self::RevisionIdList(read_list(fields)?),
            Operation::GetUpdateData => Self::UpdateData(read_updates(fields)?),
            Operation::GetUpdateDecryptionData => Self::DecryptionData(read_keys(fields)?),
            Operation::DownloadFiles => {
                fields.skip()?;
                Self::DownloadFiles
            }
            Operation::Ping => {
                let mut pong = Pong { time: String::new(), name: String::new() };
                fields.children(|fields, child| {
                    match child.name() {
                        "ServicesTime" => pong.time = fields.word()?,
                        "ServicesName" => pong.name = fields.word()?,
                        _ => fields.skip()?,
                    }
                    Ok(())
                })?;
                Self::Pong(pong)
            }
            other => {
                let actual = format!("the answer to {}", other.name());
                return Err(MessageError::Unexpected {
                    expected: "an answer that is read".to_owned(),
                    actual,
                });
            }
        })
    }
}

fn read_auth_config(fields: &mut Fields<'_>) -> Result<AuthConfig, MessageError> {
    let mut config = AuthConfig { last_change: String::new(), plug_ins: Vec::new() };
    fields.children(|fields, child| {
        match child.name() {
            "LastChange" => config.last_change = fields.word()?,
            "AuthInfo" => {
                config.plug_ins = fields.list("AuthPlugInInfo", |fields, _| {
                    let mut one = PlugIn { id: String::new(), service_url: String::new() };
                    fields.children(|fields, child| {
                        match child.name() {
                            "PlugInID" => one.id = fields.word()?,
                            "ServiceUrl" => one.service_url = fields.word()?,
                            _ => fields.skip()?,
                        }
                        Ok(())
                    })?;
                    Ok(one)
                })?;
            }
            _ => fields.skip()?,
        }
        Ok(())
    })?;
    Ok(config)
}

fn write_config(xml: &mut Writer, config: &ConfigData) {
    xml.boolean("CatalogOnlySync", config.catalog_only);
    xml.boolean("LazySync", config.lazy);
    xml.boolean("ServerHostsPsfFiles", config.hosts_express_files);
    xml.number("MaxNumberOfUpdatesPerRequest", config.updates_per_request);
    xml.number("MaxNumberOfDriverSetsPerRequest", config.driver_sets_per_request);
    xml.number("MaxNumberOfComputerIdsInRequest", config.computers_per_request);
    xml.number("MaxNumberOfPnpHardwareIdsInRequest", config.hardware_ids_per_request);
    xml.leaf("NewConfigAnchor", &config.anchor);
    xml.optional("ProtocolVersion", config.protocol_version.as_deref());
    xml.within("LanguageUpdateList", |xml| {
        for language in &config.languages {
            xml.within("ServerSyncLanguageData", |xml| {
                xml.number("LanguageID", language.id);
                xml.leaf("ShortLanguage", &language.short);
                xml.leaf("LongLanguage", &language.long);
                xml.boolean("Enabled", language.enabled);
            });
        }
    });
    if let Some(most) = config.decryption_per_request {
        xml.number("MaxUpdatesPerRequestInGetUpdateDecryptionData", most);
    }
}

fn read_config(fields: &mut Fields<'_>) -> Result<ConfigData, MessageError> {
    let mut config = ConfigData::default();
    fields.children(|fields, child| {
        match child.name() {
            "CatalogOnlySync" => config.catalog_only = fields.boolean("CatalogOnlySync")?,
            "LazySync" => config.lazy = fields.boolean("LazySync")?,
            "ServerHostsPsfFiles" => config.hosts_express_files = fields.boolean("ServerHostsPsfFiles")?,
            "MaxNumberOfUpdatesPerRequest" => {
                config.updates_per_request = fields.number("MaxNumberOfUpdatesPerRequest")?;
            }
            "MaxNumberOfDriverSetsPerRequest" => {
                config.driver_sets_per_request = fields.number("MaxNumberOfDriverSetsPerRequest")?;
            }
            "MaxNumberOfComputerIdsInRequest" => {
                config.computers_per_request = fields.number("MaxNumberOfComputerIdsInRequest")?;
            }
            "MaxNumberOfPnpHardwareIdsInRequest" => {
                config.hardware_ids_per_request = fields.number("MaxNumberOfPnpHardwareIdsInRequest")?;
            }
            "NewConfigAnchor" => config.anchor = fields.optional(child)?.unwrap_or_default(),
            "ProtocolVersion" => {
                config.protocol_version = fields.optional(child)?.map(|text| text.trim().to_owned());
            }
            "LanguageUpdateList" => {
                config.languages =
                    fields.list("ServerSyncLanguageData", |fields, _| read_language(fields))?;
            }
            "MaxUpdatesPerRequestInGetUpdateDecryptionData" => {
                config.decryption_per_request =
                    Some(fields.number("MaxUpdatesPerRequestInGetUpdateDecryptionData")?);
            }
            _ => fields.skip()?,
        }
        Ok(())
    })?;
    Ok(config)
}

fn read_language(fields: &mut Fields<'_>) -> Result<Language, MessageError> {
    let mut one = Language { id: 0, short: String::new(), long: String::new(), enabled: false };
    fields.children(|fields, child| {
        match child.name() {
            "LanguageID" => one.id = fields.number("LanguageID")?,
            "ShortLanguage" => one.short = fields.word()?,
            "LongLanguage" => one.long = fields.word()?,
            "Enabled" => one.enabled = fields.boolean("Enabled")?,
            _ => fields.skip()?,
        }
        Ok(())
    })?;
    Ok(one)
}

fn read_list(fields: &mut Fields<'_>) -> Result<RevisionIdList, MessageError> {
    let mut anchor = None;
    let mut list = RevisionIdList::default();
    fields.children(|fields, child| {
        match child.name() {
            "Anchor" => anchor = fields.optional(child)?,
            "NewRevisions" => {
                list.revisions = fields.list("UpdateIdentity", |fields, _| fields.identity())?;
            }
            _ => fields.skip()?,
        }
        Ok(())
    })?;
    list.anchor = anchor.ok_or(MessageError::Missing { message: "GetRevisionIdList", field: "Anchor" })?;
    Ok(list)
}

fn write_updates(xml: &mut Writer, data: &UpdateData) {
    xml.within("updates", |xml| {
        for one in &data.updates {
            xml.within("ServerSyncUpdateData", |xml| {
                xml.identity("Id", one.id);
                if let Blob::Plain(document) = &one.blob {
                    xml.leaf("XmlUpdateBlob", document);
                }
                if !one.digests.is_empty() {
                    xml.within("FileDigestList", |xml| {
                        one.digests.iter().for_each(|digest| xml.base64("base64Binary", &digest.0));
                    });
                }
                if let Blob::Compressed(cabinet) = &one.blob {
                    xml.base64("XmlUpdateBlobCompressed", cabinet);
                }
            });
        }
    });
    xml.within("fileUrls", |xml| {
        for one in &data.urls {
            xml.within("ServerSyncUrlData", |xml| {
                xml.base64("FileDigest", &one.digest.0);
                xml.optional("MUUrl", one.microsoft.as_deref());
                xml.leaf("UssUrl", one.upstream.as_deref().unwrap_or_default());
            });
        }
    });
}

fn read_updates(fields: &mut Fields<'_>) -> Result<UpdateData, MessageError> {
    let mut data = UpdateData::default();
    fields.children(|fields, child| {
        match child.name() {
            "updates" => {
                data.updates = fields.list("ServerSyncUpdateData", |fields, _| read_document(fields))?;
            }
            "fileUrls" => data.urls = fields.list("ServerSyncUrlData", |fields, _| read_url(fields))?,
            _ => fields.skip()?,
        }
        Ok(())
    })?;
    Ok(data)
}

fn read_document(fields: &mut Fields<'_>) -> Result<DocumentOf, MessageError> {
    let missing = |field| MessageError::Missing { message: "ServerSyncUpdateData", field };
    let (mut id, mut digests, mut plain, mut compressed) = (None, Vec::new(), None, None);
    let most = fields.limits().document_bytes;
    fields.children(|fields, child| {
        match child.name() {
            "Id" => id = Some(fields.identity()?),
            "XmlUpdateBlob" => plain = fields.optional(child)?.filter(|text| !text.is_empty()),
            "FileDigestList" => {
                digests = fields.list("base64Binary", |fields, _| fields.sha1("base64Binary"))?;
            }
            "XmlUpdateBlobCompressed" => {
                let cabinet = fields.base64("XmlUpdateBlobCompressed")?;
                if cabinet.len() as u64 > most {
                    return Err(MessageError::TooLarge { what: "bytes in one document", most });
                }
                compressed = Some(cabinet).filter(|cabinet| !cabinet.is_empty());
            }
            _ => fields.skip()?,
        }
        Ok(())
    })?;
    let blob = match (plain, compressed) {
        (Some(document), None) => Blob::Plain(document),
        (None, Some(cabinet)) => Blob::Compressed(cabinet),
        (None, None) => return Err(missing("XmlUpdateBlob")),
        (Some(_), Some(_)) => {
            return Err(MessageError::Unexpected {
                expected: "one document".to_owned(),
                actual: "`XmlUpdateBlob` and `XmlUpdateBlobCompressed`".to_owned(),
            });
        }
    };
    Ok(DocumentOf { id: id.ok_or(missing("Id"))?, digests, blob })
}

fn read_url(fields: &mut Fields<'_>) -> Result<FileUrl, MessageError> {
    let (mut digest, mut microsoft, mut upstream) = (None, None, None);
    let some = |text: Option<String>| text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    fields.children(|fields, child| {
        match child.name() {
            "FileDigest" => digest = Some(fields.sha1("FileDigest")?),
            "MUUrl" => microsoft = some(fields.optional(child)?),
            "UssUrl" => upstream = some(fields.optional(child)?),
            _ => fields.skip()?,
        }
        Ok(())
    })?;
    let digest = digest.ok_or(MessageError::Missing { message: "ServerSyncUrlData", field: "FileDigest" })?;
    Ok(FileUrl { digest, microsoft, upstream })
}

/// The lists of [MS-WSUSSS] appendix A, each inside of an element of its own.
fn write_keys(xml: &mut Writer, data: &DecryptionData) {
    xml.within("UpdateFileDecryptionData", |xml| {
        for (id, keys) in &data.updates {
            xml.within("ServerSyncUpdateFileDecryption", |xml| {
                xml.identity("UpdateId", *id);
                xml.within("FileDecryptionData", |xml| {
                    for (digest, key) in keys {
                        xml.within("ServerSyncFileDecryption", |xml| {
                            xml.base64("FileDigest", &digest.0);
                            xml.optional("DecryptionKey", key.as_deref());
                        });
                    }
                });
            });
        }
    });
}

fn read_keys(fields: &mut Fields<'_>) -> Result<DecryptionData, MessageError> {
    let mut updates = Vec::new();
    fields.children(|fields, child| {
        match child.name() {
            "UpdateFileDecryptionData" => {
                updates = fields.list("ServerSyncUpdateFileDecryption", |fields, _| read_keys_of(fields))?;
            }
            _ => fields.skip()?,
        }
        Ok(())
    })?;
    Ok(DecryptionData { updates })
}

fn read_keys_of(fields: &mut Fields<'_>) -> Result<(RevisionId, Vec<FileKey>), MessageError> {
    let (mut id, mut keys) = (None, Vec::new());
    fields.children(|fields, child| {
        match child.name() {
            "UpdateId" => id = Some(fields.identity()?),
            "FileDecryptionData" => {
                keys = fields.list("ServerSyncFileDecryption", |fields, _| {
                    let (mut digest, mut key) = (None, None);
                    fields.children(|fields, child| {
                        match child.name() {
                            "FileDigest" => digest = Some(fields.sha1("FileDigest")?),
                            "DecryptionKey" => key = fields.optional(child)?,
                            _ => fields.skip()?,
                        }
                        Ok(())
                    })?;
                    let missing =
                        MessageError::Missing { message: "ServerSyncFileDecryption", field: "FileDigest" };
                    Ok((digest.ok_or(missing)?, key))
                })?;
            }
            _ => fields.skip()?,
        }
        Ok(())
    })?;
    let missing = MessageError::Missing { message: "ServerSyncUpdateFileDecryption", field: "UpdateId" };
    Ok((id.ok_or(missing)?, keys))
}
