//! Verified content, and which file it is the content of.

use std::collections::HashSet;

use catalog::digest::{Sha1Digest, Sha256Digest};
use catalog::id::{FileName, PackageId};
use jiff::Timestamp;
use rusqlite::{Row, named_params};
use serde::{Deserialize, Serialize};

use crate::column::{as_i64, sha1, sha256, sha256_or_none, size, text, time};
use crate::distribution::content_of_packages;
use crate::{Reader, SchemaError, Writer};

/// One content of the library.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentRow {
    /// Its name.
    pub sha256: Sha256Digest,
    /// Its SHA-1, which older protocols need.
    pub sha1: Sha1Digest,
    /// Bytes.
    pub size: u64,
    /// Only a SHA-1 was published.
    pub sha1_only: bool,
    /// When it was stored.
    pub stored_at: Timestamp,
}

/// Where the cloud has a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudSource {
    /// Its name.
    pub sha256: Sha256Digest,
    /// Its SHA-1.
    pub sha1: Sha1Digest,
    /// Bytes.
    pub size: u64,
    /// Its published name.
    pub file_name: FileName,
    /// The link.
    pub url: String,
}

fn content(row: &Row<'_>) -> Result<ContentRow, SchemaError> {
    Ok(ContentRow {
        sha256: sha256(row, "sha256")?,
        sha1: sha1(row, "sha1")?,
        size: size(row, "size")?,
        sha1_only: row.get("sha1_only")?,
        stored_at: time(row, "stored_at")?,
    })
}

impl Reader<'_> {
    /// Every content, newest first.
    pub fn contents(&self) -> Result<Vec<ContentRow>, SchemaError> {
        self.all("SELECT * FROM content ORDER BY stored_at DESC, sha256", [], content)
    }

    /// What every content is called, and in which package, image or application: by content, package and name.
    pub fn content_names(&self) -> Result<Vec<(Sha256Digest, PackageId, FileName)>, SchemaError> {
        const SQL: &str = "SELECT sha256, package_id, file_name FROM package_content ORDER BY 1, 2, 3";
        self.all(SQL, [], |row| {
            Ok((sha256(row, "sha256")?, text(row, "package_id")?, text(row, "file_name")?))
        })
    }

    /// Links of every content that the site holds and that is not private: strangers are never asked for that.
    pub fn content_sources(&self) -> Result<Vec<CloudSource>, SchemaError> {
        const SQL: &str = "
            SELECT content.sha256, content.sha1, content.size, file.file_name, file_url.url
              FROM content JOIN file ON file.content = content.sha256 JOIN file_url USING (file_id)
             WHERE content.sha256 NOT IN (SELECT content FROM private_content)
             ORDER BY content.sha256, file_url.url";
        self.all(SQL, [], |row| {
            Ok(CloudSource {
                sha256: sha256(row, "sha256")?,
                sha1: sha1(row, "sha1")?,
                size: size(row, "size")?,
                file_name: text(row, "file_name")?,
                url: row.get("url")?,
            })
        })
    }

    /// The upstream's links to what the site holds, with every content that was published under them. `None`: one that nobody knows
    /// yet.
    pub fn upstream_links(&self) -> Result<Vec<(String, Option<Sha256Digest>)>, SchemaError> {
        const SQL: &str = "
            SELECT DISTINCT url, coalesce(file.content, file.sha256,
                       (SELECT min(sha256) FROM content WHERE content.sha1 = file.sha1)) AS sha256
              FROM file JOIN file_url USING (file_id)
             WHERE url IN (SELECT url FROM file JOIN file_url USING (file_id) WHERE content IS NOT NULL)
             ORDER BY url, sha256";
        self.all(SQL, [], |row| Ok((row.get("url")?, sha256_or_none(row, "sha256")?)))
    }

    /// One content, if the library is said to hold it.
    pub fn content(&self, sha256: Sha256Digest) -> Result<Option<ContentRow>, SchemaError> {
        self.first("SELECT * FROM content WHERE sha256 = ?1", [sha256.0], content)
    }

    /// Deployment packages that hold a content.
    pub fn packages_with(&self, content: Sha256Digest) -> Result<Vec<PackageId>, SchemaError> {
        const SQL: &str = "
            SELECT DISTINCT package_id FROM package_file JOIN file USING (file_id)
             WHERE file.content = ?1 AND state = 'stored' ORDER BY 1";
        self.all(SQL, [content.0], |row| text(row, "package_id"))
    }

    /// What a package, image or application has now.
    pub fn package_contents(&self, package: &PackageId) -> Result<Vec<Sha256Digest>, SchemaError> {
        const SQL: &str =
            concat!("SELECT DISTINCT sha256 FROM (", content_of_packages!("= ?1"), ") ORDER BY sha256");
        self.all(SQL, [package.as_str()], |row| sha256(row, "sha256"))
    }

    /// Names of the packages that hold a content.
    pub fn packages_of_content(&self, content: Sha256Digest) -> Result<Vec<String>, SchemaError> {
        const SQL: &str = "
            SELECT DISTINCT package.package_id || ' ' || package.name AS name
              FROM package JOIN package_file USING (package_id) JOIN file USING (file_id)
             WHERE file.content = ?1 ORDER BY 1";
        self.all(SQL, [content.0], |row| Ok(row.get("name")?))
    }

    /// Contents that no package, image, application or distribution point needs.
    pub fn unused_contents(&self) -> Result<Vec<Sha256Digest>, SchemaError> {
        const SQL: &str = "
            SELECT sha256 FROM content
             WHERE NOT EXISTS (SELECT 1 FROM file JOIN package_file USING (file_id) WHERE file.content = content.sha256)
               AND NOT EXISTS (SELECT 1 FROM distributed_file WHERE distributed_file.content = content.sha256)
               AND NOT EXISTS (SELECT 1 FROM image WHERE image.content = content.sha256)
               AND NOT EXISTS (SELECT 1 FROM app_file WHERE app_file.content = content.sha256)";
        self.all(SQL, [], |row| sha256(row, "sha256"))
    }

    /// Every content that the library is said to hold.
    pub fn content_digests(&self) -> Result<HashSet<Sha256Digest>, SchemaError> {
        let all: Vec<Sha256Digest> =
            self.all("SELECT sha256 FROM content", [], |row| sha256(row, "sha256"))?;
        Ok(all.into_iter().collect())
    }

    /// Whether it is said to hold this one.
    pub fn has_content(&self, content: Sha256Digest) -> Result<bool, SchemaError> {
        Ok(self.first("SELECT 1 FROM content WHERE sha256 = ?1", [content.0], |_| Ok(()))?.is_some())
    }

    /// SHA-1 that stand for more than one content, or that are published with more than one SHA-256: somebody has made a
    /// collision, or lies.
    pub fn sha1_alarms(&self) -> Result<Vec<Sha1Digest>, SchemaError> {
        const SQL: &str = "
            SELECT sha1 FROM (SELECT sha1, sha256 FROM content UNION SELECT sha1, sha256 FROM file WHERE sha256 IS NOT NULL)
             WHERE sha1 IS NOT NULL GROUP BY sha1 HAVING count(DISTINCT sha256) > 1";
        self.all(SQL, [], |row| sha1(row, "sha1"))
    }
}

impl Writer<'_> {
    /// The library holds these bytes, verified. What the site's own point served of them before they were lost it serves again.
    pub fn record_content(
        &self,
        sha256: Sha256Digest,
        sha1: Sha1Digest,
        size: u64,
        sha1_only: bool,
        now: Timestamp,
    ) -> Result<(), SchemaError> {
        self.execute(
            "INSERT INTO content (sha256, sha1, size, sha1_only, stored_at) VALUES (:sha256, :sha1, :size, :sha1_only, :now)
             ON CONFLICT DO UPDATE SET sha1_only = min(sha1_only, excluded.sha1_only)",
            named_params! {
                ":sha256": sha256.0, ":sha1": sha1.0, ":size": as_i64(size)?, ":sha1_only": sha1_only,
                ":now": now.as_millisecond(),
            },
        )?;
        self.serve_what_was_lost(sha256)
    }

    /// The library no longer holds these bytes: packages lack them, and the site's own distribution point does not serve
    /// them until they are there again. Points on other machines have their own copies.
    pub fn forget_content(&self, sha256: Sha256Digest) -> Result<(), SchemaError> {
        self.execute(
            "UPDATE package_file SET state = 'queued'
              WHERE state = 'stored' AND file_id IN (SELECT file_id FROM file WHERE content = ?1)",
            [sha256.0],
        )?;
        self.lose(sha256)?;
        self.execute("UPDATE file SET content = NULL WHERE content = ?1", [sha256.0])?;
        self.execute("DELETE FROM content WHERE sha256 = ?1", [sha256.0])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    #[test]
    fn links_tell_every_content_that_was_published_under_them() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("site.db"), 1).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let here = |n: u8| Sha256Digest([n; 32]);
        let change = move |w: &Writer<'_>| {
            w.record_content(here(1), Sha1Digest([1; 20]), 10, false, Timestamp::UNIX_EPOCH)?;
            // Held; the same by another catalog, which tells a SHA-1 only; one that came in its place; one that nobody has.
            let files: [(i64, u8, Option<u8>, Option<u8>); 4] =
                [(1, 1, Some(1), Some(1)), (2, 1, None, None), (3, 3, Some(3), None), (4, 4, Some(4), None)];
            for (id, sha1, sha256, content) in files {
                let digest = |n: Option<u8>| n.map(|n| [n; 32]);
                w.execute(
                    "INSERT INTO file (file_id, file_name, size, sha1, sha256, content) VALUES (?1, 'x.esd', 10, ?2, ?3, ?4)",
                    (id, [sha1; 20], digest(sha256), digest(content)),
                )?;
            }
            for (id, url) in [(1, "a"), (1, "b"), (2, "a"), (3, "b"), (4, "c")] {
                w.execute("INSERT INTO file_url VALUES (?1, 'esd', ?2)", (id, format!("http://x/{url}")))?;
            }
            Ok(())
        };
        runtime.block_on(store.write(change)).unwrap();
        let links = runtime.block_on(store.read(|r| r.upstream_links())).unwrap();
        let link = |url: &str, n| (format!("http://x/{url}"), Some(here(n)));
        assert_eq!(links, [link("a", 1), link("b", 1), link("b", 3)]);
    }
}
