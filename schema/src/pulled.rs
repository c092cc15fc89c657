//! Content that a point fetches because it is asked for: what a site gives out so, and what a point holds so.

use catalog::digest::{Sha1Digest, Sha256Digest};
use catalog::id::{FileName, PackageId};
use jiff::{SignedDuration, Timestamp};
use rusqlite::named_params;
use serde::{Deserialize, Serialize};

use crate::column::{sha1, sha256, size, text, time};
use crate::distribution::{ShelfRow, content_of_packages, shelf_row};
use crate::{Reader, SchemaError, Writer};

/// One content that is here because it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PulledRow {
    /// Its name.
    pub sha256: Sha256Digest,
    /// Its SHA-1.
    pub sha1: Sha1Digest,
    /// Bytes.
    pub size: u64,
    /// A name for it.
    pub file_name: FileName,
    /// Only for those with a key.
    pub private: bool,
    /// When it came.
    pub pulled: Timestamp,
    /// When it was sent last.
    pub used: Timestamp,
    /// When the site said last that it is for this point.
    pub checked: Timestamp,
}

impl Reader<'_> {
    /// At a site: public content that was given to some point and is not to be taken off there, for a point that says it
    /// fetches what it is asked for, and may. Any other is given what it is to hold, and nothing else. Content that was offered
    /// and is not there at present ([`Reader::is_lost_to`]) is none of it, and is not withdrawn either.
    pub fn offered_content(
        &self,
        content: Sha256Digest,
        point: i64,
    ) -> Result<Option<ShelfRow>, SchemaError> {
        const SQL: &str = "
            SELECT f.package_id, f.file_name, f.content AS sha256, f.sha1, f.size, 0 AS private
              FROM distributed_file AS f JOIN distribution USING (package_id, point_id)
             WHERE f.content = ?1 AND state NOT IN ('removing', 'cancelled')
               AND EXISTS (SELECT 1 FROM point WHERE point.point_id = ?2 AND on_demand AND may_pull)
               AND EXISTS (SELECT 1 FROM content AS c WHERE c.sha256 = ?1) LIMIT 1";
        if self.is_private(content)? {
            return Ok(None);
        }
        self.first(SQL, (content.0, point), shelf_row)
    }

    /// At a site: contents that have this SHA-1; of two one may be somebody's forgery.
    pub fn contents_of_sha1(&self, sha1: Sha1Digest) -> Result<Vec<Sha256Digest>, SchemaError> {
        self.all("SELECT sha256 FROM content WHERE sha1 = ?1", [sha1.0], |row| sha256(row, "sha256"))
    }

    /// At a site: what a package has now under this name.
    pub fn content_in_package(
        &self,
        package: &PackageId,
        file_name: &FileName,
    ) -> Result<Option<Sha256Digest>, SchemaError> {
        const SQL: &str = concat!(
            "SELECT part.sha256 AS sha256 FROM (",
            content_of_packages!("= ?1"),
            ") AS part WHERE part.file_name = ?2 COLLATE NOCASE ORDER BY part.sha256 LIMIT 1"
        );
        self.first(SQL, (package.as_str(), file_name.as_str()), |row| sha256(row, "sha256"))
    }

    /// At a site: links of one content; none where it is private.
    pub fn links_of(&self, content: Sha256Digest) -> Result<Vec<String>, SchemaError> {
        const SQL: &str = "
            SELECT DISTINCT url FROM file JOIN file_url USING (file_id)
             WHERE file.content = ?1 ORDER BY url";
        if self.is_private(content)? {
            return Ok(Vec::new());
        }
        self.all(SQL, [content.0], |row| Ok(row.get("url")?))
    }

    /// On a point: everything that is here because it was asked for, least recently used first.
    pub fn pulled_contents(&self) -> Result<Vec<PulledRow>, SchemaError> {
        const SQL: &str = "
            SELECT pulled.*, content.sha1, content.size
              FROM pulled_content AS pulled JOIN content USING (sha256) ORDER BY pulled.used, pulled.sha256";
        self.all(SQL, [], |row| {
            Ok(PulledRow {
                sha256: sha256(row, "sha256")?,
                sha1: sha1(row, "sha1")?,
                size: size(row, "size")?,
                file_name: text(row, "file_name")?,
                private: row.get("private")?,
                pulled: time(row, "pulled")?,
                used: time(row, "used")?,
                checked: time(row, "checked")?,
            })
        })
    }

    /// On a point: until when its clock was seen to go on.
    pub fn seen_time(&self) -> Result<Option<Timestamp>, SchemaError> {
        self.first("SELECT at FROM seen_time", [], |row| time(row, "at"))
    }
}

impl Writer<'_> {
    /// On a point: this content, which is recorded, is here because it was asked for.
    pub fn record_pulled(
        &self,
        content: Sha256Digest,
        file_name: &FileName,
        private: bool,
        now: Timestamp,
    ) -> Result<(), SchemaError> {
        self.execute(
            "INSERT INTO pulled_content (sha256, file_name, private, pulled, used, checked)
             VALUES (:sha256, :name, :private, :now, :now, :now)
             ON CONFLICT DO UPDATE SET private = excluded.private, checked = excluded.checked",
            named_params! {
                ":sha256": content.0, ":name": file_name.as_str(), ":private": private, ":now": now.as_millisecond(),
            },
        )?;
        Ok(())
    }

    /// It was sent.
    pub fn pulled_used(&self, content: Sha256Digest, at: Timestamp) -> Result<(), SchemaError> {
        self.execute(
            "UPDATE pulled_content SET used = max(used, ?2) WHERE sha256 = ?1",
            (content.0, at.as_millisecond()),
        )?;
        Ok(())
    }

    /// The clock was seen, after it had leapt by so much since it was seen before: what was pulled, or is not named, is as old as it
    /// was then.
    /// Where it leapt back only what would have been used in the future moves.
    pub fn time_is_seen(&self, leapt: SignedDuration, now: Timestamp) -> Result<(), SchemaError> {
        let leapt = i64::try_from(leapt.as_millis()).unwrap_or_default();
        self.execute(
            "UPDATE pulled_content SET used = min(used + ?1, ?2) WHERE ?1 > 0 OR used > ?2",
            (leapt, now.as_millisecond()),
        )?;
        self.execute(
            "UPDATE unnamed_content SET since = min(since + ?1, ?2) WHERE ?1 > 0 OR since > ?2",
            (leapt, now.as_millisecond()),
        )?;
        self.execute(
            "UPDATE assignment SET received = min(received + ?1, ?2) WHERE ?1 > 0 OR received > ?2",
            (leapt, now.as_millisecond()),
        )?;
        self.execute(
            "INSERT INTO seen_time (only, at) VALUES (1, ?1) ON CONFLICT DO UPDATE SET at = excluded.at",
            [now.as_millisecond()],
        )?;
        Ok(())
    }

    /// The site said that it is for this point, and for whom there.
    pub fn pulled_checked(
        &self,
        content: Sha256Digest,
        private: bool,
        now: Timestamp,
    ) -> Result<(), SchemaError> {
        self.execute(
            "UPDATE pulled_content SET private = ?2, checked = ?3 WHERE sha256 = ?1",
            (content.0, private, now.as_millisecond()),
        )?;
        Ok(())
    }

    /// The library no longer holds it, unless it was given to this point meanwhile: then it stays. Whether it goes.
    pub fn forget_pulled(&self, content: Sha256Digest) -> Result<bool, SchemaError> {
        let goes = self.execute("DELETE FROM pulled_content WHERE sha256 = ?1", [content.0])? > 0;
        if goes {
            self.forget_content(content)?;
        }
        Ok(goes)
    }

    /// It was given to this point: it stays until it is taken off.
    pub fn pulled_is_assigned(&self, content: Sha256Digest) -> Result<(), SchemaError> {
        self.execute("DELETE FROM pulled_content WHERE sha256 = ?1", [content.0])?;
        Ok(())
    }

    /// At a site: whether a point says that it fetches what it is asked for.
    pub fn point_on_demand(&self, point: i64, on_demand: bool) -> Result<(), SchemaError> {
        self.execute("UPDATE point SET on_demand = ?2 WHERE point_id = ?1", (point, on_demand))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    #[test]
    fn what_was_given_to_a_point_meanwhile_does_not_make_room() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("site.db"), 1).unwrap();
        let (pulled, given) = (Sha256Digest([1; 32]), Sha256Digest([2; 32]));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let told = runtime.block_on(async {
            store
                .write(move |w| {
                    let name: FileName =
                        "a.esd".parse().map_err(|_| SchemaError::Value("a name".to_owned()))?;
                    for content in [pulled, given] {
                        w.record_content(
                            content,
                            Sha1Digest([content.0[0]; 20]),
                            9,
                            false,
                            Timestamp::UNIX_EPOCH,
                        )?;
                        w.record_pulled(content, &name, false, Timestamp::UNIX_EPOCH)?;
                    }
                    w.pulled_is_assigned(given)?;
                    let goes = [pulled, given].map(|content| w.forget_pulled(content));
                    let [first, second] = goes;
                    Ok((first?, second?, w.has_content(pulled)?, w.has_content(given)?))
                })
                .await
                .unwrap()
        });
        assert_eq!(told, (true, false, false, true));
        store.close().unwrap();
    }

    #[test]
    fn what_was_pulled_is_as_old_after_a_leap_of_the_clock_as_before() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("site.db"), 1).unwrap();
        let at = |hours: i64| Timestamp::from_second(1_000_000_000 + hours * 3_600).unwrap();
        let leap = SignedDuration::from_hours(9_600);
        let change = move |w: &Writer<'_>| {
            let name: FileName = "a.esd".parse().map_err(|_| SchemaError::Value("a name".to_owned()))?;
            let pull = |w: &Writer<'_>, number: u8, used: Timestamp| {
                let content = Sha256Digest([number; 32]);
                w.record_content(content, Sha1Digest([number; 20]), 9, false, used)?;
                w.record_pulled(content, &name, false, used)
            };
            let ages = |w: &Writer<'_>, now: Timestamp| -> Result<Vec<_>, SchemaError> {
                Ok(w.pulled_contents()?
                    .iter()
                    .map(|row| (row.sha256.0[0], now.duration_since(row.used).as_hours()))
                    .collect())
            };
            assert_eq!(w.seen_time()?, None);
            pull(w, 1, at(0))?;
            pull(w, 2, at(40))?;
            w.time_is_seen(SignedDuration::ZERO, at(50))?;
            assert_eq!((ages(w, at(50))?, w.seen_time()?), (vec![(1, 50), (2, 10)], Some(at(50))));
            // The third came between the leap and its being seen.
            pull(w, 3, at(50) + leap)?;
            w.time_is_seen(leap, at(50) + leap)?;
            assert_eq!(ages(w, at(50) + leap)?, [(1, 50), (2, 10), (3, 0)]);
            // And the fourth before the clock was seen to be right again.
            pull(w, 4, at(51))?;
            w.time_is_seen(-leap, at(51))?;
            assert_eq!(ages(w, at(51))?, [(1, 51), (2, 11), (3, 1), (4, 0)]);
            Ok(())
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(store.write(change)).unwrap();
    }
}
