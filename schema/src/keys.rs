//! Enrolment tokens and keys, of distribution points and of devices. Only hashes of secrets come here.
//!
//! A token works once, for one key: whoever repeats a request whose answer was lost names the same key and is let in
//! again. A new key of a name takes the place of the one before.

use catalog::digest::Sha256Digest;
use catalog::problem::{Code, Problem};
use jiff::Timestamp;
use rusqlite::{Row, named_params};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::column::{sha256, sha256_or_none, text, time, time_or_none};
use crate::{Reader, SchemaError, Writer, words};

words! {
    /// Whose key it is.
    PrincipalKind {
        /// A distribution point.
        Point = "point",
        /// A client machine.
        Device = "device",
    }
}

/// Who has a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// Row number.
    pub id: i64,
    /// What it is.
    pub kind: PrincipalKind,
    /// Its name; that of a point is the point's.
    pub name: String,
    /// SHA-256 of its key. Never shown.
    #[serde(skip, default = "no_hash")]
    pub hash: Sha256Digest,
    /// SHA-256 of the key that opens private content to a device. Never shown.
    #[serde(skip)]
    pub content_hash: Option<Sha256Digest>,
    /// Which installation enrolled with it.
    pub instance: Option<Uuid>,
    /// When it was enrolled.
    pub created: Timestamp,
    /// When it was heard of last.
    pub last_seen: Option<Timestamp>,
    /// When its key was taken back.
    pub revoked: Option<Timestamp>,
}

fn no_hash() -> Sha256Digest {
    Sha256Digest([0; 32])
}

/// SHA-256 of what a machine made for itself.
#[derive(Debug, Clone, Copy)]
pub struct NewKeys {
    /// Of its key.
    pub key: Sha256Digest,
    /// Of its content key, where it is a device.
    pub content: Option<Sha256Digest>,
}

/// A token to be given out.
#[derive(Debug, Clone)]
pub struct NewEnrolment {
    /// SHA-256 of the token.
    pub hash: Sha256Digest,
    /// What enrols with it.
    pub kind: PrincipalKind,
    /// Under which name.
    pub name: String,
    /// Until when.
    pub expires: Timestamp,
}

/// A token that was given out and not used yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenEnrolment {
    /// What may enrol with it.
    pub kind: PrincipalKind,
    /// Under which name.
    pub name: String,
    /// Since when.
    pub created: Timestamp,
    /// Until when.
    pub expires: Timestamp,
}

/// How far a clock is set back in the course of a day.
pub(crate) const SLACK: std::time::Duration = std::time::Duration::from_secs(300);

fn principal(row: &Row<'_>) -> Result<Principal, SchemaError> {
    let instance: Option<Vec<u8>> = row.get("instance")?;
    Ok(Principal {
        id: row.get("principal_id")?,
        kind: text(row, "kind")?,
        name: row.get("name")?,
        hash: sha256(row, "hash")?,
        content_hash: sha256_or_none(row, "content_hash")?,
        instance: instance.and_then(|bytes| Uuid::from_slice(&bytes).ok()),
        created: time(row, "created")?,
        last_seen: time_or_none(row, "last_seen")?,
        revoked: time_or_none(row, "revoked")?,
    })
}

/// Compares without telling by its time where two hashes differ.
pub fn same(one: Sha256Digest, other: Sha256Digest) -> bool {
    let differs = one.0.iter().zip(&other.0).fold(0, |differs, (a, b)| differs | (a ^ b));
    std::hint::black_box(differs) == 0
}

impl Reader<'_> {
    /// Who has the key with this SHA-256, also where it was revoked: the caller says which of the two it is.
    pub fn principal_by_hash(&self, hash: Sha256Digest) -> Result<Option<Principal>, SchemaError> {
        let found = self.first("SELECT * FROM principal WHERE hash = ?1", [hash.0], principal)?;
        Ok(found.filter(|found| same(found.hash, hash)))
    }

    /// Which installation had the name of `principal` before it; `None` where nobody had.
    pub fn installation_before(&self, principal: &Principal) -> Result<Option<Option<Uuid>>, SchemaError> {
        const SQL: &str = "
            SELECT * FROM principal WHERE kind = ?1 AND name = ?2 AND principal_id < ?3
             ORDER BY principal_id DESC LIMIT 1";
        let (kind, id) = (principal.kind.to_string(), principal.id);
        let before = self.first(SQL, (kind, &principal.name, id), self::principal)?;
        Ok(before.map(|before| before.instance))
    }

    /// All of them, those in force first.
    pub fn principals(&self) -> Result<Vec<Principal>, SchemaError> {
        const SQL: &str = "SELECT * FROM principal ORDER BY revoked IS NOT NULL, kind, name, principal_id";
        self.all(SQL, [], principal)
    }

    /// Tokens that may still be used: who has one may become one of ours. By kind and name.
    pub fn open_enrolments(&self, now: Timestamp) -> Result<Vec<OpenEnrolment>, SchemaError> {
        const SQL: &str = "
            SELECT kind, name, created, expires FROM enrolment WHERE used IS NULL AND expires > ?1
             ORDER BY kind, name";
        self.all(SQL, [now.as_millisecond()], |row| {
            Ok(OpenEnrolment {
                kind: text(row, "kind")?,
                name: row.get("name")?,
                created: time(row, "created")?,
                expires: time(row, "expires")?,
            })
        })
    }

    /// Whether a device of this name had a key and has none in force.
    pub(crate) fn has_no_key_any_more(&self, device: &str) -> Result<bool, SchemaError> {
        const NOW: &str =
            "SELECT 1 FROM principal WHERE kind = 'device' AND name = ?1 AND revoked IS NULL LIMIT 1";
        const EVER: &str = "SELECT 1 FROM principal WHERE kind = 'device' AND name = ?1 LIMIT 1";
        let any = |sql| self.first(sql, [device], |_| Ok(()));
        Ok(any(NOW)?.is_none() && any(EVER)?.is_some())
    }

    /// SHA-256 of every content key that is in force.
    pub fn content_keys(&self) -> Result<Vec<Sha256Digest>, SchemaError> {
        const SQL: &str = "SELECT content_hash FROM principal WHERE revoked IS NULL AND content_hash IS NOT NULL \
            ORDER BY content_hash";
        self.all(SQL, [], |row| sha256(row, "content_hash"))
    }
}

impl Writer<'_> {
    /// A token that may be used once. Earlier ones of the same name that were not used are void.
    pub fn begin_enrolment(&self, new: &NewEnrolment, now: Timestamp) -> Result<(), SchemaError> {
        self.execute(
            "DELETE FROM enrolment WHERE expires < ?3 OR (kind = ?1 AND name = ?2 AND used IS NULL)",
            (new.kind.to_string(), &new.name, now.as_millisecond()),
        )?;
        self.execute(
            "INSERT INTO enrolment (hash, kind, name, created, expires) VALUES (:hash, :kind, :name, :now, :expires)",
            named_params! {
                ":hash": new.hash.0, ":kind": new.kind.to_string(), ":name": new.name,
                ":now": now.as_millisecond(), ":expires": new.expires.as_millisecond(),
            },
        )?;
        self.is_expected(new.kind, &new.name)
    }

    /// Lets in whoever has a token, with keys of its own. `TOKEN_REFUSED` for a token that is unknown, used for another
    /// key, or over: which of them is not said.
    pub fn enrol(
        &self,
        token: Sha256Digest,
        keys: NewKeys,
        instance: Uuid,
        now: Timestamp,
    ) -> Result<Principal, SchemaError> {
        let NewKeys { key, content } = keys;
        let refuse =
            || Problem::new(Code::TokenRefused, "the enrolment token is unknown, was used, or is over");
        const SQL: &str = "SELECT * FROM enrolment WHERE hash = ?1";
        let found = self.first(SQL, [token.0], |row| {
            Ok((
                row.get::<_, i64>("enrolment_id")?,
                sha256(row, "hash")?,
                text::<PrincipalKind>(row, "kind")?,
                row.get::<_, String>("name")?,
                time(row, "created")?..time(row, "expires")?,
                sha256_or_none(row, "key_hash")?,
            ))
        })?;
        let Some((id, hash, kind, name, lasts, used_for)) = found else { return Err(refuse().into()) };
        // A clock that was put back makes no token last longer.
        let is_over = lasts.end <= now || now.saturating_add(SLACK).unwrap_or(now) < lasts.start;
        if !same(hash, token) || is_over || used_for.is_some_and(|used_for| !same(used_for, key)) {
            return Err(refuse().into());
        }
        if let Some(known) = self.principal_by_hash(key)? {
            // The answer of the first request was lost. A key that was taken back stays so.
            let again = used_for.is_some() && known.revoked.is_none() && known.instance == Some(instance);
            return if again { Ok(known) } else { Err(refuse().into()) };
        }
        const TAKEN: &str = "SELECT 1 FROM principal WHERE content_hash = ?1";
        if let Some(hash) = content
            && self.first(TAKEN, [hash.0], |_| Ok(()))?.is_some()
        {
            return Err(refuse().into());
        }
        self.execute(
            "UPDATE principal SET revoked = ?3 WHERE kind = ?1 AND name = ?2 AND revoked IS NULL",
            (kind.to_string(), &name, now.as_millisecond()),
        )?;
        self.execute(
            "UPDATE enrolment SET used = ?2, key_hash = ?3 WHERE enrolment_id = ?1",
            (id, now.as_millisecond(), key.0),
        )?;
        self.execute(
            "INSERT INTO principal (kind, name, hash, content_hash, instance, created)
             VALUES (:kind, :name, :hash, :content, :instance, :now)",
            named_params! {
                ":kind": kind.to_string(), ":name": name, ":hash": key.0, ":instance": instance.as_bytes(),
                ":content": content.filter(|_| kind == PrincipalKind::Device).map(|hash| hash.0),
                ":now": now.as_millisecond(),
            },
        )?;
        self.is_expected(kind, &name)?;
        self.principal_by_hash(key)?.ok_or_else(|| SchemaError::Value("principal".to_owned()))
    }

    /// Somebody means it to be there: its silence is counted from now on.
    fn is_expected(&self, kind: PrincipalKind, name: &str) -> Result<(), SchemaError> {
        if kind == PrincipalKind::Device {
            self.execute("UPDATE device SET missed = 0 WHERE name = ?1", [name])?;
        }
        Ok(())
    }

    /// Takes the key of a name back; tokens of it that were not used are void too. Answers whether there was anything.
    pub fn revoke(&self, kind: PrincipalKind, name: &str, now: Timestamp) -> Result<bool, SchemaError> {
        let keys = self.execute(
            "UPDATE principal SET revoked = ?3 WHERE kind = ?1 AND name = ?2 AND revoked IS NULL",
            (kind.to_string(), name, now.as_millisecond()),
        )?;
        let tokens = self.execute(
            "DELETE FROM enrolment WHERE kind = ?1 AND name = ?2 AND used IS NULL",
            (kind.to_string(), name),
        )?;
        Ok(keys + tokens > 0)
    }

    /// The content key of a device that enrolled without. Answers whether it was new.
    pub fn know_content_key(&self, id: i64, content: Sha256Digest) -> Result<bool, SchemaError> {
        let changed = self.execute(
            "UPDATE principal SET content_hash = ?2 WHERE principal_id = ?1 AND content_hash IS NULL",
            (id, content.0),
        )?;
        Ok(changed > 0)
    }

    /// It was heard of.
    pub fn principal_seen(&self, id: i64, now: Timestamp) -> Result<(), SchemaError> {
        self.execute(
            "UPDATE principal SET last_seen = ?2 WHERE principal_id = ?1",
            (id, now.as_millisecond()),
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use catalog::problem::Coded as _;

    use super::*;
    use crate::Store;

    fn hash(seed: u8) -> Sha256Digest {
        Sha256Digest([seed; 32])
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a small number")
    }

    fn new(token: u8) -> NewEnrolment {
        let (kind, name) = (PrincipalKind::Point, "lyon".to_owned());
        NewEnrolment { hash: hash(token), kind, name, expires: at(100) }
    }

    #[test]
    fn a_token_is_good_once_for_one_key_and_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("site.db"), 1).unwrap();
        let (here, there) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let changes = async {
            let make = |token| store.write(move |w| w.begin_enrolment(&new(token), at(0)));
            let enrol = |token, key, instance, now| {
                let keys = NewKeys { key: hash(key), content: Some(hash(key + 100)) };
                store.write(move |w| w.enrol(hash(token), keys, instance, at(now)))
            };
            let refused = |made: Result<Principal, SchemaError>| made.err().map(|error| error.problem().code);
            make(1).await.unwrap();
            assert_eq!(refused(enrol(9, 50, here, 1).await), Some(Code::TokenRefused), "unknown");
            assert_eq!(refused(enrol(1, 50, here, 100).await), Some(Code::TokenRefused), "over");
            assert_eq!(
                refused(enrol(1, 50, here, -301).await),
                Some(Code::TokenRefused),
                "the clock was put back"
            );
            let first = enrol(1, 50, here, 1).await.unwrap();
            assert_eq!(enrol(1, 50, here, 2).await.unwrap(), first, "the answer was lost");
            assert_eq!(refused(enrol(1, 51, here, 2).await), Some(Code::TokenRefused), "another key");
            assert_eq!(
                refused(enrol(1, 50, there, 2).await),
                Some(Code::TokenRefused),
                "another installation"
            );
            // A later token takes the place of one before, and its key that of the key before.
            make(2).await.unwrap();
            make(3).await.unwrap();
            assert_eq!(refused(enrol(2, 52, here, 3).await), Some(Code::TokenRefused), "void");
            assert_eq!(
                refused(enrol(3, 50, here, 3).await),
                Some(Code::TokenRefused),
                "a key is not used again"
            );
            enrol(3, 52, here, 3).await.unwrap();
            let by = |key| store.read(move |r| r.principal_by_hash(hash(key)));
            assert!(by(50).await.unwrap().unwrap().revoked.is_some());
            assert!(by(52).await.unwrap().unwrap().revoked.is_none());
            let content = async || store.read(|r| r.content_keys()).await.unwrap();
            assert_eq!(content().await, [], "those of points open nothing");
            let desk = NewEnrolment { hash: hash(7), kind: PrincipalKind::Device, ..new(7) };
            store.write(move |w| w.begin_enrolment(&desk, at(3))).await.unwrap();
            // A device of an earlier program says nothing of its content key, until it shows its key.
            let without = NewKeys { key: hash(70), content: None };
            let id = store.write(move |w| w.enrol(hash(7), without, here, at(3))).await.unwrap().id;
            let know = |seed| store.write(move |w| w.know_content_key(id, hash(seed)));
            assert_eq!((know(71).await.unwrap(), know(72).await.unwrap()), (true, false));
            assert_eq!(content().await, [hash(71)]);
            let desk = NewEnrolment { hash: hash(8), kind: PrincipalKind::Device, ..new(8) };
            store.write(move |w| w.begin_enrolment(&desk, at(3))).await.unwrap();
            let again = NewKeys { key: hash(80), content: Some(hash(71)) };
            let taken = store.write(move |w| w.enrol(hash(8), again, here, at(3))).await;
            assert_eq!(refused(taken), Some(Code::TokenRefused), "the content key of another");
            assert_eq!(by(53).await.unwrap(), None);
            let revoke =
                |name: &'static str| store.write(move |w| w.revoke(PrincipalKind::Point, name, at(4)));
            assert!(revoke("LYON").await.unwrap());
            assert!(!revoke("lyon").await.unwrap());
            assert!(by(52).await.unwrap().unwrap().revoked.is_some());
            assert_eq!(
                refused(enrol(3, 52, here, 5).await),
                Some(Code::TokenRefused),
                "what was revoked stays so"
            );
        };
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(changes);
        assert!(same(hash(1), hash(1)) && !same(hash(1), hash(2)));
    }
}
