//! What the site's own point served and the site lacks at present, because its copy was bad: not withdrawn, only away.

use catalog::digest::Sha256Digest;
use catalog::id::PackageId;

use crate::column::{sha256, text};
use crate::points::OWN_POINT;
use crate::{Reader, SchemaError, Writer};

impl Reader<'_> {
    /// At a site: whether a content would be offered to this point ([`Reader::offered_content`]) if the site had it. Who fetched
    /// it before keeps it. What only private packages have is offered to nobody, here or not.
    pub fn is_lost_to(&self, content: Sha256Digest, point: i64) -> Result<bool, SchemaError> {
        const SQL: &str = "
            SELECT 1 WHERE ?1 NOT IN (SELECT sha256 FROM content)
               AND EXISTS (SELECT 1 FROM point WHERE point.point_id = ?2 AND on_demand AND may_pull)
               AND EXISTS (
                   SELECT 1 FROM (SELECT package_id, point_id FROM distributed_file WHERE content = ?1
                                  UNION ALL SELECT package_id, point_id FROM lost_file WHERE content = ?1)
                     JOIN distribution USING (package_id, point_id) JOIN package USING (package_id)
                    WHERE state NOT IN ('removing', 'cancelled') AND access = 'public')";
        Ok(self.first(SQL, (content.0, point), |_| Ok(()))?.is_some())
    }

    /// At a site: what its own point served, and a deployment package that lacks it, so that it can be fetched again.
    pub fn lost_contents(&self) -> Result<Vec<(PackageId, Sha256Digest)>, SchemaError> {
        const SQL: &str = "
            SELECT DISTINCT package_id, content FROM lost_file JOIN package_file USING (package_id, file_name)
             WHERE state <> 'stored' AND content NOT IN (SELECT sha256 FROM content) ORDER BY 1, 2";
        self.all(SQL, [], |row| Ok((text(row, "package_id")?, sha256(row, "content")?)))
    }
}

impl Writer<'_> {
    /// The site's own point does not serve this content until it is there again.
    pub(crate) fn lose(&self, content: Sha256Digest) -> Result<(), SchemaError> {
        self.execute(
            "INSERT OR REPLACE INTO lost_file (package_id, point_id, file_name, content, sha1, size)
             SELECT package_id, point_id, file_name, content, sha1, size FROM distributed_file
              WHERE content = ?1 AND point_id = ?2",
            (content.0, OWN_POINT),
        )?;
        self.execute(
            "DELETE FROM distributed_file WHERE content = ?1 AND point_id = ?2",
            (content.0, OWN_POINT),
        )?;
        Ok(())
    }

    /// It is there again, and serves as before where it is still distributed.
    pub(crate) fn serve_what_was_lost(&self, content: Sha256Digest) -> Result<(), SchemaError> {
        self.execute(
            "INSERT INTO distributed_file (package_id, point_id, file_name, content, sha1, size, held)
             SELECT package_id, point_id, file_name, content, l.sha1, l.size, at
               FROM lost_file AS l JOIN distribution USING (package_id, point_id) WHERE content = ?1
             ON CONFLICT DO NOTHING",
            [content.0],
        )?;
        self.execute("DELETE FROM lost_file WHERE content = ?1", [content.0])?;
        Ok(())
    }

    /// Nothing of this package is missed on this point any more, but for files that the package itself lacks, if those are `kept`.
    pub(crate) fn forget_lost(&self, package: &PackageId, point: i64, kept: bool) -> Result<(), SchemaError> {
        self.execute(
            "DELETE FROM lost_file WHERE package_id = ?1 AND point_id = ?2 AND NOT (?3 AND file_name IN (
                 SELECT file_name FROM package_file WHERE package_id = ?1 AND state <> 'stored'))",
            (package.as_str(), point, kept),
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use catalog::digest::Sha1Digest;
    use jiff::Timestamp;

    use super::*;
    use crate::Store;
    use crate::packages::{Access, NewPackage};
    use crate::points::PointRole;

    /// What is said of a content to a point that may pull.
    #[derive(Debug, PartialEq, Eq)]
    enum Says {
        Offered,
        Away,
        Withdrawn,
    }

    fn says(w: &Writer<'_>, content: Sha256Digest, point: i64) -> Result<Says, SchemaError> {
        Ok(match (w.offered_content(content, point)?.is_some(), w.is_lost_to(content, point)?) {
            (true, false) => Says::Offered,
            (false, true) => Says::Away,
            (false, false) => Says::Withdrawn,
            (true, true) => return Err(SchemaError::Value("both".to_owned())),
        })
    }

    /// A public package on one point, and a point that pulls.
    fn given_to(w: &Writer<'_>, point: i64, content: Sha256Digest) -> Result<PackageId, SchemaError> {
        let site = "XYZ".parse().map_err(|_| SchemaError::Value("a code".to_owned()))?;
        let new = NewPackage {
            name: format!("p{point}"),
            description: String::new(),
            source_dir: None,
            access: Access::Public,
        };
        let package = w.create_package(&site, &new, Timestamp::UNIX_EPOCH)?;
        w.record_content(content, Sha1Digest([content.0[0]; 20]), 9, false, Timestamp::UNIX_EPOCH)?;
        w.distribute(&package, point, Timestamp::UNIX_EPOCH)?;
        w.execute(
            "INSERT INTO distributed_file VALUES (?1, ?2, 'a.esd', ?3, zeroblob(20), 9, 0)",
            (package.as_str(), point, content.0),
        )?;
        Ok(package)
    }

    #[test]
    fn what_the_site_lacks_is_not_withdrawn_and_is_served_again_when_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("site.db"), 1).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let content = Sha256Digest([7; 32]);
        let change = move |w: &Writer<'_>| {
            let lyon = w.add_point("lyon", "http://lyon", PointRole::Standard)?;
            let rome = w.add_point("rome", "http://rome", PointRole::Pull)?;
            let told = |w: &Writer<'_>| says(w, content, rome);
            assert_eq!(told(w)?, Says::Withdrawn, "nobody was ever given it");
            for point in [OWN_POINT, lyon] {
                let package = given_to(w, point, content)?;
                w.execute("UPDATE point SET on_demand = 1, may_pull = 1 WHERE point_id = ?1", [rome])?;
                assert_eq!(told(w)?, Says::Offered);
                let shelf = w.shelf()?;
                w.forget_content(content)?;
                w.forget_content(content)?;
                assert_eq!((told(w)?, w.shelf()?.len()), (Says::Away, 0), "{point}");
                assert!(!w.is_lost_to(content, lyon)?, "it does not pull");
                w.set_package_access(&package, Access::Private)?;
                assert_eq!(told(w)?, Says::Withdrawn, "it is private whether it is here or not");
                w.set_package_access(&package, Access::Public)?;
                let again = Timestamp::UNIX_EPOCH;
                w.record_content(content, Sha1Digest([7; 20]), 9, false, again)?;
                assert_eq!((told(w)?, w.shelf()? == shelf), (Says::Offered, true), "{point}");
                w.forget_content(content)?;
                w.withdraw(&package, point)?;
                assert_eq!(told(w)?, Says::Withdrawn, "{point}");
                w.record_content(content, Sha1Digest([7; 20]), 9, false, again)?;
                assert_eq!((told(w)?, w.shelf()?.len()), (Says::Withdrawn, 0), "{point}");
            }
            Ok(())
        };
        runtime.block_on(store.write(change)).unwrap();
    }

    #[test]
    fn what_a_package_lacks_of_what_was_lost_can_be_fetched_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("site.db"), 1).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let content = Sha256Digest([7; 32]);
        let change = move |w: &Writer<'_>| {
            w.execute("PRAGMA defer_foreign_keys = ON", [])?;
            let package = given_to(w, OWN_POINT, content)?;
            w.execute("INSERT INTO file VALUES (1, 'a.esd', 9, zeroblob(20), ?1, ?1)", [content.0])?;
            w.execute(
                "INSERT INTO package_file VALUES (?1, zeroblob(16), 1, 1, 'A.esd', 'stored', NULL, 0)",
                [package.as_str()],
            )?;
            assert_eq!(w.lost_contents()?, []);
            w.forget_content(content)?;
            assert_eq!(w.lost_contents()?, [(package.clone(), content)]);
            w.execute("UPDATE package_file SET state = 'failed'", [])?;
            assert_eq!(w.lost_contents()?, [(package.clone(), content)], "it could not be had a moment ago");
            w.record_content(content, Sha1Digest([7; 20]), 9, false, Timestamp::UNIX_EPOCH)?;
            assert_eq!(w.lost_contents()?, []);
            w.forget_content(content)?;
            w.withdraw(&package, OWN_POINT)?;
            assert_eq!(w.lost_contents()?, [], "nobody misses it");
            Err::<(), _>(SchemaError::Value("undone".to_owned()))
        };
        let undone = runtime.block_on(store.write(change)).unwrap_err();
        assert!(undone.to_string().contains("undone"), "{undone}");
    }
}
