//! Tokens of administrators who come over HTTP. Only hashes of them come here.

use catalog::digest::Sha256Digest;
use catalog::problem::{Code, Problem};
use jiff::Timestamp;
use rusqlite::{Row, named_params};
use serde::{Deserialize, Serialize};

use crate::column::{sha256, text, time, time_or_none};
use crate::keys::{SLACK, same};
use crate::{Reader, SchemaError, Writer, words};

words! {
    /// What the holder of a token may do. Each may do what those before it may.
    Role {
        /// Ask.
        Viewer = "viewer",
        /// Synchronise, download, distribute.
        Operator = "operator",
        /// Everything.
        Admin = "admin",
    }
}

/// A token without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminToken {
    /// Its name, which the audit records.
    pub name: String,
    /// What its holder may do.
    pub role: Role,
    /// When it was made.
    pub created: Timestamp,
    /// Until when it is good.
    pub expires: Timestamp,
    /// When it was taken back, or that it was over when that was looked at: then what `expires` says.
    pub revoked: Option<Timestamp>,
}

impl AdminToken {
    /// Whether it is good now. Before it was made it is not: a clock that was put back makes none good again that is over, and
    /// one that is set a little is no reason to refuse.
    pub fn is_good(&self, now: Timestamp) -> bool {
        let is_made = self.created <= now.saturating_add(SLACK).unwrap_or(now);
        self.revoked.is_none() && is_made && now < self.expires
    }
}

fn token(row: &Row<'_>) -> Result<AdminToken, SchemaError> {
    Ok(AdminToken {
        name: row.get("name")?,
        role: text(row, "role")?,
        created: time(row, "created")?,
        expires: time(row, "expires")?,
        revoked: time_or_none(row, "revoked")?,
    })
}

impl Reader<'_> {
    /// The token with this SHA-256, also where it is over: the caller says whether it is good.
    pub fn admin_token(&self, hash: Sha256Digest) -> Result<Option<AdminToken>, SchemaError> {
        const SQL: &str = "SELECT * FROM admin_token WHERE hash = ?1";
        let found = self.first(SQL, [hash.0], |row| Ok((sha256(row, "hash")?, token(row)?)))?;
        Ok(found.filter(|(kept, _)| same(*kept, hash)).map(|(_, token)| token))
    }

    /// All of them, those in force first.
    pub fn admin_tokens(&self) -> Result<Vec<AdminToken>, SchemaError> {
        const SQL: &str = "SELECT * FROM admin_token ORDER BY revoked IS NOT NULL, name, admin_token_id";
        self.all(SQL, [], token)
    }
}

impl Writer<'_> {
    /// Keeps a new token. `NAME_IN_USE` where one of the name is in force.
    pub fn add_admin_token(&self, new: &AdminToken, hash: Sha256Digest) -> Result<(), SchemaError> {
        // Who makes another in the place of one that is over need not revoke it first.
        self.execute(
            "UPDATE admin_token SET revoked = expires WHERE name = ?1 AND revoked IS NULL AND expires <= ?2",
            (&new.name, new.created.as_millisecond()),
        )?;
        const SQL: &str = "SELECT 1 FROM admin_token WHERE name = ?1 AND revoked IS NULL";
        if self.first(SQL, [&new.name], |_| Ok(()))?.is_some() {
            let message = format!("a token named `{}` is in force", new.name);
            return Err(Problem::new(Code::NameInUse, message).into());
        }
        self.execute(
            "INSERT INTO admin_token (name, hash, role, created, expires)
             VALUES (:name, :hash, :role, :created, :expires)",
            named_params! {
                ":name": new.name, ":hash": hash.0, ":role": new.role.to_string(),
                ":created": new.created.as_millisecond(), ":expires": new.expires.as_millisecond(),
            },
        )?;
        Ok(())
    }

    /// Writes down which tokens are over, so that none is good again where the clock is put back after that.
    pub fn end_admin_tokens(&self, now: Timestamp) -> Result<(), SchemaError> {
        self.execute(
            "UPDATE admin_token SET revoked = expires WHERE revoked IS NULL AND expires <= ?1",
            [now.as_millisecond()],
        )?;
        Ok(())
    }

    /// Takes a token back; whether there was one.
    pub fn revoke_admin_token(&self, name: &str, now: Timestamp) -> Result<bool, SchemaError> {
        let changed = self.execute(
            "UPDATE admin_token SET revoked = ?2 WHERE name = ?1 AND revoked IS NULL",
            (name, now.as_millisecond()),
        )?;
        Ok(changed > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    #[tokio::test]
    async fn a_token_is_good_until_it_is_over_or_revoked_and_its_name_is_free_then() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("a.db"), 1).unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        let new = |created, expires| AdminToken {
            name: "ci".to_owned(),
            role: Role::Operator,
            created: at(created),
            expires: at(expires),
            revoked: None,
        };
        let hash = |number: u8| Sha256Digest::of(&[number]);
        let add = |token: AdminToken, number| {
            let store = store.clone();
            async move { store.write(move |w| w.add_admin_token(&token, hash(number))).await }
        };
        add(new(0, 100), 1).await.unwrap();
        let found = store.read(move |r| r.admin_token(hash(1))).await.unwrap().unwrap();
        assert!(found.is_good(at(99)) && !found.is_good(at(100)));
        let put_back = AdminToken { created: at(1_000), expires: at(2_000), ..found };
        assert!(put_back.is_good(at(700)) && !put_back.is_good(at(699)), "the clock was put back");
        assert!(store.read(move |r| r.admin_token(hash(2))).await.unwrap().is_none());
        assert!(add(new(50, 150), 2).await.is_err(), "the name is in use");
        add(new(100, 200), 2).await.unwrap();
        assert!(store.write(move |w| w.revoke_admin_token("CI", at(150))).await.unwrap());
        assert!(!store.write(move |w| w.revoke_admin_token("ci", at(150))).await.unwrap());
        let found = store.read(move |r| r.admin_token(hash(2))).await.unwrap().unwrap();
        assert!(!found.is_good(at(151)));
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
        assert_eq!(store.read(|r| r.admin_tokens()).await.unwrap().len(), 2);
    }
}
