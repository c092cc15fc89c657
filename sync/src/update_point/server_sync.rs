//! The upstream role: what each operation of the server-sync services answers ([MS-WSUSSS] section 3.1.4).
//!
//! | operation | answer |
//! | --- | --- |
//! | GetAuthConfig, GetAuthorizationCookie, GetCookie | anybody who says a name and a GUID gets a cookie |
//! | GetConfigData | what is offered: 100 documents a call, no drivers, every language |
//! | GetRevisionIdList | numbers of what a filter lets through, since an anchor |
//! | GetUpdateData | documents, as they came; about 2,000,000 bytes an answer |
//! | GetUpdateDecryptionData | no keys: this site has none |
//! | DownloadFiles | remembers what is wanted |
//! | Ping | the time |
//! | GetDeployments, drivers, the rest | a fault that stops the protocol |

use std::collections::HashSet;

use bytes::Bytes;
use catalog::digest::Sha1Digest;
use catalog::id::RevisionId;
use catalog::server_sync::{
    AUTH_PATH, AuthConfig, AuthorizationCookie, Blob, ConfigData, Cookie, DecryptionData, DocumentOf,
    ErrorCode, Fault, FileUrl, Filter, IdAndDelta, Operation, PLUG_IN, PROTOCOL_VERSION, PlugIn, Pong,
    Request, Response, RevisionIdList, UpdateData,
};
use catalog::xml::escape::{Place, escaped_len};
use catalog::xml::utf8;
use jiff::{SignedDuration, Timestamp};
use schema::update_point::{Membership, Offered, RevisionFilter};
use schema::{Reader, SchemaError};
use uuid::Uuid;

use super::anchor::{Anchor, Since};
use super::cookie::{Downstream, shown};
use super::room::Full;
use super::{Answered, Failure, UpdatePoint, languages};
use crate::clock;

/// Ids in one `GetUpdateData`; real servers have the same. It never changes: clients keep it.
pub(super) const MOST_UPDATES: usize = 100;
/// Digests in one `DownloadFiles` (section 3.1.4.11).
const MOST_DIGESTS: usize = 100;
/// Bytes of one `GetUpdateData`, but for its first document.
const MOST_BYTES: u64 = 2_000_000;
/// What a list takes while it is made: some 100,000 numbers.
const LIST_BYTES: u64 = 24 << 20;
/// What documents take while they are made, in multiples of them: compressed, as text, escaped.
const DOCUMENT_COPIES: u64 = 3;
/// What one file adds to an answer, about.
const FILE_BYTES: u64 = 320;
/// How often at most it is written down that a file is waited for.
const WANTED_AGAIN: SignedDuration = SignedDuration::from_secs(60);

fn fault(code: ErrorCode, message: impl Into<String>) -> Failure {
    Failure::Fault(Fault::new(code, message))
}

/// A parameter is wrong; the message is its name and nothing else (section 2.2.9.3).
fn invalid(parameter: &str) -> Failure {
    fault(ErrorCode::InvalidParameters, parameter)
}

fn not_offered(operation: Operation) -> Failure {
    fault(ErrorCode::InternalServerError, format!("{} is not offered by this server", operation.name()))
}

impl UpdatePoint {
    /// Carries out one request that came to the authorization service, or to another one.
    pub(super) async fn carry_out(
        &self,
        request: Request,
        answered: &mut Answered,
    ) -> Result<Bytes, Failure> {
        let now = clock::now();
        match request {
            Request::GetAuthConfig => small(Response::AuthConfig(AuthConfig {
                last_change: shown(self.catalog.since),
                plug_ins: vec![PlugIn { id: PLUG_IN.to_owned(), service_url: AUTH_PATH.to_owned() }],
            })),
            Request::GetAuthorizationCookie { account_name, account_guid, .. } => {
                let who = introduced(&account_name, &account_guid)?;
                answered.who = Some(who.clone());
                small(Response::AuthorizationCookie(self.cookies.authorize(who, now)))
            }
            Request::GetCookie { authorization, protocol_version, .. } => {
                let cookie = self.cookie(&authorization, &protocol_version, now)?;
                answered.who = self.cookies.check(Some(&cookie), now).ok().map(|session| session.downstream);
                small(Response::Cookie(cookie))
            }
            Request::Ping { .. } => {
                small(Response::Pong(Pong { time: shown(now), name: "spsync".to_owned() }))
            }
            Request::Unread(operation) => Err(not_offered(operation)),
            Request::GetConfigData { cookie, anchor } => {
                self.session(cookie.as_ref(), now, answered)?;
                small(Response::ConfigData(self.config(anchor.as_deref())))
            }
            Request::GetRevisionIdList { cookie, filter } => {
                self.session(cookie.as_ref(), now, answered)?;
                self.list(filter, now, answered).await
            }
            Request::GetUpdateData { cookie, ids } => {
                self.session(cookie.as_ref(), now, answered)?;
                answered.asked = Some(ids.len());
                self.update_data(ids, answered).await
            }
            Request::GetUpdateDecryptionData { cookie, ids } => {
                self.session(cookie.as_ref(), now, answered)?;
                answered.asked = Some(ids.len());
                if !(1..=MOST_UPDATES).contains(&ids.len()) {
                    return Err(invalid("updateIds"));
                }
                small(Response::DecryptionData(DecryptionData::default()))
            }
            Request::DownloadFiles { cookie, digests } => {
                let who = self.session(cookie.as_ref(), now, answered)?;
                answered.asked = Some(digests.len());
                self.want(digests, who, now, answered).await?;
                small(Response::DownloadFiles)
            }
            Request::GetDeployments { cookie, .. } => {
                self.session(cookie.as_ref(), now, answered)?;
                Err(not_offered(Operation::GetDeployments))
            }
        }
    }

    fn session(
        &self,
        cookie: Option<&Cookie>,
        now: Timestamp,
        answered: &mut Answered,
    ) -> Result<Downstream, Failure> {
        let session = self.cookies.check(cookie, now).map_err(|code| fault(code, "cookie"))?;
        answered.who = Some(session.downstream.clone());
        Ok(session.downstream)
    }

    fn cookie(
        &self,
        authorization: &[AuthorizationCookie],
        version: &str,
        now: Timestamp,
    ) -> Result<Cookie, Failure> {
        let [authorization] = authorization else { return Err(invalid("authCookies")) };
        let version = protocol_version(version).ok_or_else(|| invalid("protocolVersion"))?;
        if version.0 != 1 {
            let message = format!("expected protocol version 1.x, actual {}.{}", version.0, version.1);
            return Err(fault(ErrorCode::IncompatibleProtocolVersion, message));
        }
        self.cookies.admit(authorization, version, now).map_err(|code| fault(code, "authCookies"))
    }

    fn config(&self, known: Option<&str>) -> ConfigData {
        let anchor = Anchor { newest: languages::VERSION, at: self.catalog.since }.to_string();
        let languages = if known == Some(anchor.as_str()) { Vec::new() } else { languages::all() };
        ConfigData {
            catalog_only: false,
            lazy: true,
            hosts_express_files: false,
            updates_per_request: MOST_UPDATES as u32,
            driver_sets_per_request: 0,
            computers_per_request: 0,
            hardware_ids_per_request: 0,
            anchor,
            protocol_version: Some(PROTOCOL_VERSION.to_owned()),
            languages,
            decryption_per_request: Some(MOST_UPDATES as u32),
        }
    }

    async fn list(&self, filter: Filter, now: Timestamp, answered: &mut Answered) -> Result<Bytes, Failure> {
        answered.asked = Some(filter.categories.len() + filter.classifications.len());
        let given = filter.anchor.as_deref().map(str::parse::<Anchor>).transpose();
        let given = given.map_err(|_| invalid("filter"))?;
        let place = self.room.take(LIST_BYTES).await?;
        let catalog = self.catalog;
        let made = self.site.read(move |r| {
            // One state for all: what is recorded after it is newer than its anchor.
            let newest = r.newest_metadata()?;
            let means = |anchor: Anchor| -> Result<Since, SchemaError> {
                Ok(anchor.means(newest, r.metadata_until(anchor.newest)?, &catalog, now))
            };
            let after = match given.map(means).transpose()? {
                None => 0,
                Some(Since::Place(after)) => after,
                Some(Since::AnotherCatalog) => return Ok(None),
                Some(Since::Never) => {
                    // It stays as it is: what comes until then is not passed over.
                    let anchor = given.map_or_else(String::new, |anchor| anchor.to_string());
                    return Ok(Some((
                        Response::RevisionIdList(RevisionIdList { anchor, revisions: Vec::new() }).write(),
                        0,
                    )));
                }
            };
            let revisions = if filter.get_config {
                r.configuration_revisions(after)?
            } else {
                r.update_revisions(&RevisionFilter {
                    after,
                    categories: memberships(&filter.categories),
                    classifications: memberships(&filter.classifications),
                })?
            };
            let anchor = Anchor::now(newest, &catalog, now).to_string();
            let count = revisions.len();
            Ok(Some((Response::RevisionIdList(RevisionIdList { anchor, revisions }).write(), count)))
        });
        let Some((bytes, count)) = made.await? else {
            return Err(fault(ErrorCode::ServerChanged, "the anchor is of another catalog"));
        };
        answered.given = Some(count);
        Ok(place.holds(bytes))
    }

    async fn update_data(&self, mut ids: Vec<RevisionId>, answered: &mut Answered) -> Result<Bytes, Failure> {
        if !(1..=MOST_UPDATES).contains(&ids.len()) {
            return Err(invalid("updateIds"));
        }
        let mut seen = HashSet::new();
        ids.retain(|id| seen.insert(*id));
        let asked = ids.clone();
        let found = self.site.read(move |r| r.offered(&asked)).await?;
        let offered: Vec<Offered> = found.iter().flatten().copied().collect();
        if let Some(unknown) = ids.iter().zip(&found).find_map(|(id, found)| found.is_none().then_some(id)) {
            // As real servers do; clients halve what they ask for until they know which it was.
            return Err(fault(ErrorCode::InternalServerError, format!("{unknown} is not known")));
        }
        let fitting = fitting(&offered);
        let place =
            self.room.take(DOCUMENT_COPIES * fitting.iter().map(|one| one.size).sum::<u64>() + MOST_BYTES);
        let place = place.await?;
        let (bytes, count) = self.site.read(move |r| documents(r, &fitting)).await?;
        answered.given = Some(count);
        Ok(place.holds(bytes))
    }

    async fn want(
        &self,
        digests: Vec<Sha1Digest>,
        who: Downstream,
        now: Timestamp,
        answered: &mut Answered,
    ) -> Result<(), Failure> {
        if !(1..=MOST_DIGESTS).contains(&digests.len()) {
            return Err(invalid("fileDigestList"));
        }
        let (unknown, wanted) = self
            .site
            .read(move |r| {
                let unknown = r.unknown_files(&digests)?;
                let mut wanted = r.not_waited_for(&digests, now - WANTED_AGAIN)?;
                wanted.retain(|digest| !unknown.contains(digest));
                Ok((unknown, wanted))
            })
            .await?;
        answered.given = Some(wanted.len());
        if !wanted.is_empty() {
            self.site.write(move |w| w.want_files(&wanted, &who.name, now)).await?;
        }
        if !unknown.is_empty() {
            let names: Vec<_> = unknown.iter().map(|digest| digest.to_base64()).collect();
            return Err(fault(ErrorCode::FileDigestsMissing, names.join("|")));
        }
        Ok(())
    }
}

impl From<Full> for Failure {
    fn from(_: Full) -> Self {
        fault(ErrorCode::ServerBusy, "too many answers are being sent")
    }
}

fn small(response: Response) -> Result<Bytes, Failure> {
    Ok(Bytes::from(response.write()))
}

fn memberships(all: &[IdAndDelta]) -> Vec<Membership> {
    all.iter().map(|one| Membership { id: one.id, only_newer: one.delta }).collect()
}

/// Who a server says it is. Microsoft's own client has name and GUID the other way round.
fn introduced(name: &str, guid: &str) -> Result<Downstream, Failure> {
    let (name, guid) = (name.trim(), guid.trim());
    let is_name = is_host_name(name) || Uuid::parse_str(name).is_ok();
    match (Uuid::parse_str(guid), Uuid::parse_str(name)) {
        _ if !is_name => Err(invalid("accountName")),
        (Ok(account), _) => Ok(Downstream { account, name: name.to_owned() }),
        (Err(_), Ok(account)) if is_host_name(guid) => Ok(Downstream { account, name: guid.to_owned() }),
        (Err(_), _) => Err(invalid("accountGuid")),
    }
}

/// A name of DNS. Servers outside of domains have one label only.
fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    name.len() <= 255 && name.strip_suffix('.').unwrap_or(name).split('.').all(label)
}

/// `1.20`
fn protocol_version(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| {
        (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
    };
    let (major, minor) = text.split_once('.')?;
    Some((number(major)?, number(minor)?))
}

/// Documents that go into one answer by their size alone: at least one.
fn fitting(offered: &[Offered]) -> Vec<Offered> {
    let mut bytes = 0;
    let fits = |one: &&Offered| {
        let first = bytes == 0;
        bytes += one.size.max(1);
        first || bytes <= MOST_BYTES
    };
    offered.iter().take_while(fits).copied().collect()
}

/// The answer with as many of these as fit, at least one; and how many that are.
fn documents(reader: &Reader<'_>, offered: &[Offered]) -> Result<(Vec<u8>, usize), SchemaError> {
    let mut data = UpdateData::default();
    let mut bytes = 0;
    let mut named = HashSet::new();
    for one in offered {
        let gone = || SchemaError::Value(format!("the document of {}", one.id));
        let document = reader.metadata_document(one.id)?.ok_or_else(gone)?;
        let document = plain(document).ok_or_else(gone)?;
        let digests = reader.file_digests(one.row)?;
        bytes += escaped_len(&document, Place::Text) + digests.len() as u64 * FILE_BYTES;
        if bytes > MOST_BYTES && !data.updates.is_empty() {
            break;
        }
        for digest in &digests {
            // Once for each answer: licence texts are shared, and the dictionary of Microsoft's client takes no two.
            if named.insert(*digest) {
                let microsoft = reader.published_url(*digest)?;
                data.urls.push(FileUrl { digest: *digest, microsoft, upstream: None });
            }
        }
        data.updates.push(DocumentOf { id: one.id, digests, blob: Blob::Plain(document) });
    }
    let count = data.updates.len();
    Ok((Response::UpdateData(data).write(), count))
}

/// The text of a document, as it is but for a declaration of its encoding: inside of a message that is another one, and
/// Microsoft's own client refuses it.
fn plain(document: Vec<u8>) -> Option<String> {
    let text = match String::from_utf8(document) {
        Ok(text) => text,
        Err(other) => utf8(other.as_bytes()).ok()?.into_owned(),
    };
    let whole = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let rest = match whole.strip_prefix("<?xml").filter(|rest| rest.starts_with(char::is_whitespace)) {
        Some(rest) => rest.split_once("?>")?.1.trim_start(),
        None => whole,
    };
    if rest.len() == text.len() { Some(text) } else { Some(rest.to_owned()) }
}

#[cfg(test)]
mod tests;
