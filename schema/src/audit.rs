//! Who did what to what; and who this site is.

use catalog::id::SiteCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::column::time;
use crate::{Reader, SchemaError, Writer};

/// One act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub who: String,
    /// What: `package.create`.
    pub what: String,
    /// To what.
    pub object: String,
}

impl Reader<'_> {
    /// The newest acts first.
    pub fn acts(&self, limit: u32) -> Result<Vec<Act>, SchemaError> {
        self.all("SELECT * FROM audit ORDER BY audit_id DESC LIMIT ?1", [limit], |row| {
            Ok(Act {
                at: time(row, "at")?,
                who: row.get("who")?,
                what: row.get("what")?,
                object: row.get("object")?,
            })
        })
    }
}

impl Writer<'_> {
    /// Records an act, in the transaction that does it.
    pub fn audit(&self, who: &str, what: &str, object: &str, now: Timestamp) -> Result<(), SchemaError> {
        self.execute(
            "INSERT INTO audit (at, who, what, object) VALUES (?1, ?2, ?3, ?4)",
            (now.as_millisecond(), who, what, object),
        )?;
        Ok(())
    }

    /// What tells this site from every other, also of its code: `new` the first time, and for ever after what it was then. It goes where
    /// the database goes.
    pub fn site_identity(&self, new: Uuid) -> Result<Uuid, SchemaError> {
        self.execute("INSERT OR IGNORE INTO site (key, value) VALUES ('identity', ?1)", [new.to_string()])?;
        let kept = self
            .first("SELECT value FROM site WHERE key = 'identity'", [], |row| Ok(row.get::<_, String>(0)?))?;
        kept.and_then(|kept| kept.parse().ok())
            .ok_or_else(|| SchemaError::Value("the identity of the site".to_owned()))
    }

    /// The code of this site: `wanted` at the first start, and for ever after what it was then.
    pub fn site_code(&self, wanted: &SiteCode, now: Timestamp) -> Result<SiteCode, SchemaError> {
        self.execute("INSERT OR IGNORE INTO site (key, value) VALUES ('code', ?1)", [wanted.as_str()])?;
        self.execute("INSERT OR IGNORE INTO site (key, value) VALUES ('created', ?1)", [now.to_string()])?;
        let code =
            self.first("SELECT value FROM site WHERE key = 'code'", [], |row| Ok(row.get::<_, String>(0)?))?;
        code.and_then(|code| code.parse().ok()).ok_or_else(|| SchemaError::Value("the site code".to_owned()))
    }
}
