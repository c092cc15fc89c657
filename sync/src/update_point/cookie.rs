//! Cookies that only this site can make ([MS-WSUSSS] sections 2.2.4.7 and 2.2.4.8).
//!
//! To others they are opaque; to us they are a fixed layout under an HMAC-SHA-256. The code is checked, in constant time,
//! before a byte of the layout is looked at, and nothing in them is ever decoded into anything but numbers and a name:
//! that is how cookies of WSUS became a way into it (CVE-2025-59287).
//! ```text
//! who? ──authorize──▶ AuthorizationCookie, a day ──admit──▶ Cookie, 240 minutes ──check──▶ Session
//! ```
//! The protocol has no fault for an expired cookie: it is invalid, like any other that we did not make.

use std::io;
use std::path::Path;

use catalog::problem::{Code, Problem};
use catalog::server_sync::{AuthorizationCookie, Cookie, ErrorCode, PLUG_IN};
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::{SignedDuration, Timestamp};
use schema::update_point::CatalogIdentity;
use sha2::Sha256;
use uuid::Uuid;

use crate::whole;

/// The file of the data directory that holds the key. It is in no export, no dump and no log.
pub const KEY_FILE: &str = "update-point.key";

/// How long a cookie lasts, as those of WSUS; never longer than the authorization that it was given for.
const COOKIE_LIFE: SignedDuration = SignedDuration::from_mins(240);
const AUTHORIZATION_LIFE: SignedDuration = SignedDuration::from_hours(24);

/// Bytes of a name that are kept: it is shown, and decides nothing.
const NAME: usize = 64;
const LAYOUT: u8 = 1;
/// Layout, purpose, expiry, catalog, account, version, length of the name, name.
const PAYLOAD: usize = 1 + 1 + 8 + 16 + 16 + 4 + 1 + NAME;
const CODE: usize = 32;

/// What makes cookies ours.
#[derive(Clone)]
pub struct Key([u8; 32]);

impl Key {
    /// The key of the site in `data_dir`, made the first time.
    ///
    /// # Errors
    /// `DATA_DIR_NOT_WRITABLE`, `INTERNAL` where the machine gives no random numbers.
    pub fn of_site(data_dir: &Path) -> Result<Self, Problem> {
        let path = data_dir.join(KEY_FILE);
        let failed = |error: io::Error| {
            let message = format!("the key of cookies `{}` cannot be kept", path.display());
            Problem::new(whole::code_of(&error), message).because_of(Some(&error))
        };
        match std::fs::read(&path) {
            Ok(bytes) => match bytes.try_into() {
                Ok(key) => return Ok(Self(key)),
                Err(_) => tracing::warn!("`{}` is damaged; cookies are renewed", path.display()),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let mut key = [0; 32];
        getrandom::fill(&mut key)
            .map_err(|error| Problem::new(Code::Internal, format!("no random numbers: {error}")))?;
        whole::write(&path, whole::OWN, &key).map_err(failed)?;
        Ok(Self(key))
    }

    fn mac(&self, payload: &[u8]) -> Hmac<Sha256> {
        // Shorter keys are filled up with zeros (RFC 2104 section 2).
        let mut block = [0; 64];
        block[..self.0.len()].copy_from_slice(&self.0);
        let mut mac = Hmac::new(&block.into());
        mac.update(payload);
        mac
    }
}

/// A downstream server, as it introduces itself. Nothing proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downstream {
    /// Its GUID.
    pub account: Uuid,
    /// Its name: of letters, digits, dots and dashes.
    pub name: String,
}

/// Who asks, as its cookie says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Who.
    pub downstream: Downstream,
    /// The version of the protocol that it speaks.
    pub version: (u16, u16),
}

/// Makes cookies and knows its own.
pub struct Cookies {
    key: Key,
    catalog: CatalogIdentity,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Authorization = 1,
    Session = 2,
}

/// What is inside of a cookie.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Payload {
    purpose: u8,
    expires_ms: i64,
    catalog: Uuid,
    session: Session,
}

impl Cookies {
    /// Cookies of this key for this catalog.
    pub fn new(key: Key, catalog: CatalogIdentity) -> Self {
        Self { key, catalog }
    }

    /// An authorization for whoever says who it is.
    pub fn authorize(&self, who: Downstream, now: Timestamp) -> AuthorizationCookie {
        let session = Session { downstream: who, version: (0, 0) };
        let payload = self.payload(Purpose::Authorization, now + AUTHORIZATION_LIFE, session);
        AuthorizationCookie { plug_in: PLUG_IN.to_owned(), data: self.seal(&payload) }
    }

    /// A cookie for whoever has an authorization of ours.
    ///
    /// # Errors
    /// `InvalidAuthorizationCookie`.
    pub fn admit(
        &self,
        authorization: &AuthorizationCookie,
        version: (u16, u16),
        now: Timestamp,
    ) -> Result<Cookie, ErrorCode> {
        let ours = self.unseal(&authorization.data, Purpose::Authorization, now);
        let ours = ours.filter(|_| authorization.plug_in == PLUG_IN);
        let ours = ours.ok_or(ErrorCode::InvalidAuthorizationCookie)?;
        let session = Session { version, ..ours.session };
        let authorized = Timestamp::from_millisecond(ours.expires_ms).unwrap_or(now);
        let expires = (now + COOKIE_LIFE).min(authorized);
        let payload = self.payload(Purpose::Session, expires, session);
        Ok(Cookie { expiration: shown(expires), data: self.seal(&payload) })
    }

    /// Who shows this cookie. What it says of its expiry beside the data is not looked at: clients write it anew.
    ///
    /// # Errors
    /// `InvalidCookie` where it is absent, not ours or over; `ServerChanged` where it is ours and of another catalog.
    pub fn check(&self, cookie: Option<&Cookie>, now: Timestamp) -> Result<Session, ErrorCode> {
        let ours = cookie.and_then(|cookie| self.unseal(&cookie.data, Purpose::Session, now));
        let ours = ours.ok_or(ErrorCode::InvalidCookie)?;
        if ours.catalog != self.catalog.id {
            return Err(ErrorCode::ServerChanged);
        }
        Ok(ours.session)
    }

    fn payload(&self, purpose: Purpose, expires: Timestamp, session: Session) -> Payload {
        let expires_ms = expires.as_millisecond();
        Payload { purpose: purpose as u8, expires_ms, catalog: self.catalog.id, session }
    }

    fn seal(&self, payload: &Payload) -> Vec<u8> {
        let mut sealed = payload.write();
        let code = self.key.mac(&sealed).finalize().into_bytes();
        sealed.extend_from_slice(&code);
        sealed
    }

    fn unseal(&self, sealed: &[u8], purpose: Purpose, now: Timestamp) -> Option<Payload> {
        let (bytes, code) = sealed.split_at_checked(PAYLOAD)?;
        if code.len() != CODE {
            return None;
        }
        self.key.mac(bytes).verify_slice(code).ok()?;
        let payload = Payload::read(bytes)?;
        (payload.purpose == purpose as u8 && payload.expires_ms > now.as_millisecond()).then_some(payload)
    }
}

impl Payload {
    fn write(&self) -> Vec<u8> {
        let Session { downstream, version } = &self.session;
        let mut name = downstream.name.as_bytes().to_vec();
        name.truncate(NAME);
        let mut bytes = vec![LAYOUT, self.purpose];
        bytes.extend(self.expires_ms.to_be_bytes());
        bytes.extend(self.catalog.as_bytes());
        bytes.extend(downstream.account.as_bytes());
        bytes.extend(version.0.to_be_bytes());
        bytes.extend(version.1.to_be_bytes());
        bytes.push(name.len() as u8);
        bytes.extend_from_slice(&name);
        bytes.resize(PAYLOAD, 0);
        bytes
    }

    /// Only of bytes whose code was right: what is odd in them was written by another version of us.
    fn read(bytes: &[u8]) -> Option<Self> {
        let [LAYOUT, purpose, rest @ ..] = bytes else { return None };
        let (expires, rest) = rest.split_first_chunk::<8>()?;
        let (catalog, rest) = rest.split_first_chunk::<16>()?;
        let (account, rest) = rest.split_first_chunk::<16>()?;
        let (major, rest) = rest.split_first_chunk::<2>()?;
        let (minor, rest) = rest.split_first_chunk::<2>()?;
        let (length, name) = rest.split_first()?;
        let name = String::from_utf8(name.get(..usize::from(*length))?.to_vec()).ok()?;
        let downstream = Downstream { account: Uuid::from_bytes(*account), name };
        let version = (u16::from_be_bytes(*major), u16::from_be_bytes(*minor));
        Some(Self {
            purpose: *purpose,
            expires_ms: i64::from_be_bytes(*expires),
            catalog: Uuid::from_bytes(*catalog),
            session: Session { downstream, version },
        })
    }
}

/// A time as XML writes it, with milliseconds.
pub(super) fn shown(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const HOUR: i64 = 3_600_000;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_791_115_258_381 + ms).unwrap()
    }

    fn cookies(key: u8, catalog: u128) -> Cookies {
        let catalog = CatalogIdentity { id: Uuid::from_u128(catalog), since: at(0) };
        Cookies::new(Key([key; 32]), catalog)
    }

    fn who() -> Downstream {
        Downstream { account: Uuid::from_u128(7), name: "dss.example".to_owned() }
    }

    #[test]
    fn a_cookie_says_who_until_it_ends() {
        let ours = cookies(1, 1);
        let authorization = ours.authorize(who(), at(0));
        assert_eq!(authorization.plug_in, PLUG_IN);
        let cookie = ours.admit(&authorization, (1, 7), at(0)).unwrap();
        assert_eq!(cookie.expiration, "2026-10-04T16:00:58.381Z");
        let session = Session { downstream: who(), version: (1, 7) };
        assert_eq!(ours.check(Some(&cookie), at(4 * HOUR - 1)), Ok(session.clone()));
        assert_eq!(ours.check(Some(&cookie), at(4 * HOUR)), Err(ErrorCode::InvalidCookie), "240 minutes");
        // Clients write the expiry beside it anew.
        let rewritten = Cookie { expiration: "2030-01-01T00:00:00Z".to_owned(), ..cookie.clone() };
        assert_eq!(ours.check(Some(&rewritten), at(0)), Ok(session));
        assert_eq!(ours.check(Some(&rewritten), at(4 * HOUR)), Err(ErrorCode::InvalidCookie));
        assert_eq!(ours.check(None, at(0)), Err(ErrorCode::InvalidCookie));

        // The lesser of the two.
        let late = ours.admit(&authorization, (1, 20), at(23 * HOUR)).unwrap();
        assert_eq!(late.expiration, "2026-10-05T12:00:58.381Z");
        assert_eq!(ours.check(Some(&late), at(24 * HOUR)), Err(ErrorCode::InvalidCookie));
        let over = ours.admit(&authorization, (1, 20), at(24 * HOUR));
        assert_eq!(over, Err(ErrorCode::InvalidAuthorizationCookie));
    }

    #[test]
    fn what_we_did_not_make_is_invalid_whatever_it_is() {
        let ours = cookies(1, 1);
        let authorization = ours.authorize(who(), at(0));
        let cookie = ours.admit(&authorization, (1, 20), at(0)).unwrap();
        let whole = cookie.data.clone();
        let checked = |data: Vec<u8>| ours.check(Some(&Cookie { data, ..cookie.clone() }), at(0));
        assert!(checked(whole.clone()).is_ok());
        for bit in 0..whole.len() * 8 {
            let mut forged = whole.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(checked(forged), Err(ErrorCode::InvalidCookie), "bit {bit}");
        }
        for length in 0..whole.len() {
            assert_eq!(checked(whole[..length].to_vec()), Err(ErrorCode::InvalidCookie), "{length} bytes");
        }
        assert_eq!(checked([whole.clone(), vec![0]].concat()), Err(ErrorCode::InvalidCookie));
        assert_eq!(checked(vec![0xff; 1 << 20]), Err(ErrorCode::InvalidCookie));
        // The right code for another purpose.
        assert_eq!(checked(authorization.data.clone()), Err(ErrorCode::InvalidCookie));
        let swapped = AuthorizationCookie { data: whole, ..authorization.clone() };
        assert_eq!(ours.admit(&swapped, (1, 20), at(0)), Err(ErrorCode::InvalidAuthorizationCookie));
        let other = AuthorizationCookie { plug_in: "Other".to_owned(), ..authorization };
        assert_eq!(ours.admit(&other, (1, 20), at(0)), Err(ErrorCode::InvalidAuthorizationCookie));
        // Another site, and this one with another catalog.
        assert_eq!(cookies(2, 1).check(Some(&cookie), at(0)), Err(ErrorCode::InvalidCookie));
        assert_eq!(cookies(1, 2).check(Some(&cookie), at(0)), Err(ErrorCode::ServerChanged));
    }

    #[test]
    fn names_of_any_length_fit() {
        let ours = cookies(1, 1);
        let long = Downstream { name: "x".repeat(300), ..who() };
        let cookie = ours.admit(&ours.authorize(long, at(0)), (1, u16::MAX), at(0)).unwrap();
        let session = ours.check(Some(&cookie), at(0)).unwrap();
        assert_eq!((session.downstream.name.len(), session.version), (NAME, (1, u16::MAX)));
        assert_eq!(cookie.data.len(), PAYLOAD + CODE);
    }

    #[test]
    fn a_site_keeps_its_key_for_itself() {
        let folder = tempfile::tempdir().unwrap();
        let first = Key::of_site(folder.path()).unwrap();
        assert_eq!(Key::of_site(folder.path()).unwrap().0, first.0);
        let path = folder.path().join(KEY_FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, b"short").unwrap();
        let second = Key::of_site(folder.path()).unwrap();
        assert!(second.0 != first.0 && second.0 != [0; 32]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
        let missing = Key::of_site(&folder.path().join("none")).err().unwrap();
        assert_eq!(missing.code, Code::DataDirNotWritable);
    }
}
