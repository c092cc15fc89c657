//! Whether a content is private: only packages that are private have it. `private_content` says so of all contents at once, and is
//! for whoever needs them all; here it is asked about one, and only rows about that one are read.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use catalog::digest::Sha256Digest;

use crate::distribution::ShelfRow;
use crate::{Reader, SchemaError};

/// The same arms as in the view. One content is often on a thousand points as a file of one package: packages are what is
/// walked through, from each to the next, and not the points of each.
const IS_PRIVATE: &str = "
    WITH RECURSIVE
    distributed (package_id) AS (
        SELECT min(f.package_id) FROM distributed_file AS f WHERE f.content = ?1
        UNION ALL
        SELECT (SELECT min(f.package_id) FROM distributed_file AS f
                 WHERE f.content = ?1 AND f.package_id > distributed.package_id)
          FROM distributed WHERE distributed.package_id IS NOT NULL),
    leaving (package_id) AS (
        SELECT min(f.package_id) FROM leaving_file AS f WHERE f.content = ?1
        UNION ALL
        SELECT (SELECT min(f.package_id) FROM leaving_file AS f
                 WHERE f.content = ?1 AND f.package_id > leaving.package_id)
          FROM leaving WHERE leaving.package_id IS NOT NULL),
    holder (package_id) AS (
        SELECT distributed.package_id FROM distributed
        UNION ALL SELECT leaving.package_id FROM leaving
        UNION ALL SELECT l.package_id FROM lost_file AS l WHERE l.content = ?1
        UNION ALL SELECT m.package_id FROM file CROSS JOIN package_file AS m ON m.file_id = file.file_id
                   WHERE file.content = ?1)
    SELECT coalesce(max(p.access = 'public') = 0, 0) AS private
      FROM holder CROSS JOIN package AS p ON p.package_id = holder.package_id";

/// Whether contents are private, as far as somebody has asked: it is good for as long as nothing was changed that it follows from
/// ([`crate::assigned::Changes::privacy`]). A thousand points have the same contents.
#[derive(Debug, Default)]
pub struct Privacy {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    number: u64,
    contents: HashMap<Sha256Digest, bool>,
}

impl Privacy {
    /// What is known of a content by who sees the changes up to `number`.
    fn of(&self, content: Sha256Digest, number: u64) -> Option<bool> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.contents.get(&content).copied().filter(|_| known.number == number)
    }

    fn note(&self, content: Sha256Digest, number: u64, private: bool) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.number < number {
            *known = Known { number, ..Known::default() };
        }
        // Who still sees an earlier state knows nothing of this one.
        if known.number == number {
            known.contents.insert(content, private);
        }
    }
}

impl Reader<'_> {
    /// Whether only private packages have a content. What no package has is not private.
    pub fn is_private(&self, content: Sha256Digest) -> Result<bool, SchemaError> {
        let private = self.first(IS_PRIVATE, [content.0], |row| Ok(row.get("private")?))?;
        // A row comes whatever is there; should none come, nobody is given anything.
        Ok(private.unwrap_or(true))
    }

    /// Says of each row whether it is private, by what is known already where it is. `number` is that of the changes which this reader
    /// sees.
    pub(crate) fn with_privacy_by(
        &self,
        known: &Privacy,
        number: u64,
        mut rows: Vec<ShelfRow>,
    ) -> Result<Vec<ShelfRow>, SchemaError> {
        for row in &mut rows {
            row.private = match known.of(row.sha256, number) {
                Some(private) => private,
                None => {
                    let private = self.is_private(row.sha256)?;
                    known.note(row.sha256, number, private);
                    private
                }
            };
        }
        Ok(rows)
    }

    /// Says of each row whether it is private.
    pub(crate) fn with_privacy(&self, rows: Vec<ShelfRow>) -> Result<Vec<ShelfRow>, SchemaError> {
        self.with_privacy_by(&Privacy::default(), 0, rows)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jiff::Timestamp;
    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;

    use super::*;
    use crate::packages::{Access, NewPackage};
    use crate::points::PointRole;
    use crate::{Store, Writer};

    /// A content in one of the four places where packages have it: place, package, point, content.
    type Has = (u8, u8, u8, u8);

    const PACKAGES: u8 = 4;
    const POINTS: u8 = 3;
    const CONTENTS: u8 = 4;

    fn content(number: u8) -> Sha256Digest {
        Sha256Digest([number; 32])
    }

    fn fill(w: &Writer<'_>, public: &[bool], has: &[Has]) -> Result<(), SchemaError> {
        w.execute("PRAGMA defer_foreign_keys = ON", [])?;
        let site = "XYZ".parse().map_err(|_| SchemaError::Value("a code".to_owned()))?;
        let (mut packages, mut points) = (Vec::new(), Vec::new());
        for (number, public) in public.iter().enumerate() {
            let access = if *public { Access::Public } else { Access::Private };
            let (name, description) = (format!("p{number}"), String::new());
            let new = NewPackage { name, description, source_dir: None, access };
            packages.push(w.create_package(&site, &new, Timestamp::UNIX_EPOCH)?);
        }
        for number in 0..POINTS {
            points.push(w.add_point(&format!("d{number}"), "http://x", PointRole::Standard)?);
        }
        for package in &packages {
            for point in &points {
                w.distribute(package, *point, Timestamp::UNIX_EPOCH)?;
            }
        }
        for number in 0..CONTENTS {
            w.execute(
                "INSERT INTO file VALUES (?1, 'a.esd', 9, zeroblob(20), ?2, ?2)",
                (number, content(number).0),
            )?;
        }
        for (place, package, point, number) in has {
            let (id, point) = (packages[usize::from(*package)].as_str(), points[usize::from(*point)]);
            let sql = match place {
                0 => {
                    "INSERT OR IGNORE INTO distributed_file VALUES (?1, ?2, ?3 || '.esd', ?4, zeroblob(20), 9, NULL)"
                }
                1 => {
                    "INSERT OR IGNORE INTO leaving_file VALUES (?1, ?2, ?4, ?3 || '.esd', zeroblob(20), 9, 0)"
                }
                2 => "INSERT OR IGNORE INTO lost_file VALUES (?1, ?2, ?3 || '.esd', ?4, zeroblob(20), 9)",
                _ => {
                    w.execute(
                        "INSERT OR IGNORE INTO package_file
                         VALUES (?1, zeroblob(16), ?2, ?2, ?2 || '.esd', 'stored', NULL, 0)",
                        (id, number),
                    )?;
                    continue;
                }
            };
            w.execute(sql, (id, point, number, content(*number).0))?;
        }
        Ok(())
    }

    #[test]
    fn asked_about_one_content_it_is_what_the_view_says() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("site.db"), 1).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let sites = (
            prop::collection::vec(any::<bool>(), usize::from(PACKAGES)),
            prop::collection::vec((0..4_u8, 0..PACKAGES, 0..POINTS, 0..CONTENTS), 0..12),
        );
        let mut runner = TestRunner::new(ProptestConfig::with_cases(256));
        let outcome = runner.run(&sites, |(public, has)| {
            let (told, said) = std::sync::mpsc::channel();
            let undone = runtime.block_on(store.write(move |w| {
                fill(w, &public, &has)?;
                let all: BTreeSet<_> = w.private_contents()?.into_iter().map(|one| one.0).collect();
                let mut each = BTreeSet::new();
                for number in 0..CONTENTS {
                    if w.is_private(content(number))? {
                        each.insert(content(number).0);
                    }
                }
                let _ = told.send((all, each));
                Err::<(), _>(SchemaError::Value("undone".to_owned()))
            }));
            let (all, each) = said.recv().map_err(|_| TestCaseError::fail(format!("{undone:?}")))?;
            prop_assert_eq!(all, each);
            Ok(())
        });
        outcome.unwrap();
    }
}
