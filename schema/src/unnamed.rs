//! On a distribution point's own machine: content that its site names no more, and of which it has not said that it is to go.

use catalog::digest::{Sha1Digest, Sha256Digest};
use catalog::id::{FileName, PackageId};
use jiff::Timestamp;
use rusqlite::named_params;

use crate::column::{sha1, sha256, size, text, time};
use crate::{Reader, SchemaError, Writer};

/// One content that is served on though nobody names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnnamedRow {
    /// Its name.
    pub sha256: Sha256Digest,
    /// Its SHA-1.
    pub sha1: Sha1Digest,
    /// Bytes.
    pub size: u64,
    /// Package that it was of.
    pub package: PackageId,
    /// Its name there.
    pub file_name: FileName,
    /// Only for those with a key.
    pub private: bool,
    /// Since when it is not named.
    pub since: Timestamp,
}

impl Reader<'_> {
    /// All of it, that which waits longest first.
    pub fn unnamed_contents(&self) -> Result<Vec<UnnamedRow>, SchemaError> {
        const SQL: &str = "
            SELECT unnamed.*, content.sha1, content.size
              FROM unnamed_content AS unnamed JOIN content USING (sha256) ORDER BY since, sha256";
        self.all(SQL, [], |row| {
            Ok(UnnamedRow {
                sha256: sha256(row, "sha256")?,
                sha1: sha1(row, "sha1")?,
                size: size(row, "size")?,
                package: text(row, "package_id")?,
                file_name: text(row, "file_name")?,
                private: row.get("private")?,
                since: time(row, "since")?,
            })
        })
    }
}

impl Writer<'_> {
    /// A content is named no more; where it is not here, there is nothing to keep. Whether it is kept.
    pub fn keep_unnamed(
        &self,
        content: Sha256Digest,
        (package, file_name): (&PackageId, &FileName),
        private: bool,
        now: Timestamp,
    ) -> Result<bool, SchemaError> {
        let kept = self.execute(
            "INSERT INTO unnamed_content (sha256, package_id, file_name, private, since)
             SELECT sha256, :package, :name, :private, :now FROM content WHERE sha256 = :sha256
             ON CONFLICT DO NOTHING",
            named_params! {
                ":sha256": content.0, ":package": package.as_str(), ":name": file_name.as_str(), ":private": private,
                ":now": now.as_millisecond(),
            },
        )?;
        Ok(kept > 0)
    }

    /// It is named again, or it was said that it is to go: it is nothing special any more. Whether it was.
    pub fn unnamed_is_over(&self, content: Sha256Digest) -> Result<bool, SchemaError> {
        Ok(self.execute("DELETE FROM unnamed_content WHERE sha256 = ?1", [content.0])? > 0)
    }

    /// The library no longer holds it, unless it was named again meanwhile: then it stays. Whether it goes.
    pub fn forget_unnamed(&self, content: Sha256Digest) -> Result<bool, SchemaError> {
        let goes = self.unnamed_is_over(content)?;
        if goes {
            self.forget_content(content)?;
        }
        Ok(goes)
    }
}
