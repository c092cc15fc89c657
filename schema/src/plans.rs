//! How SQLite goes about what is asked often: by an index, and through no table as a whole. A site has half a million packages on
//! points and ten times as many files there.

use std::cell::RefCell;

use catalog::digest::Sha256Digest;
use catalog::id::PackageId;
use jiff::Timestamp;

use crate::packages::{Access, NewPackage};
use crate::points::{OWN_POINT, PointRole};
use crate::private::Privacy;
use crate::{SchemaError, Store, Writer};

thread_local! {
    static ASKED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// A statement is used.
pub(crate) fn note(sql: &str) {
    ASKED.with_borrow_mut(|asked| asked.push(sql.to_owned()));
}

/// The statements that were used since this was asked last.
pub(crate) fn asked() -> Vec<String> {
    ASKED.take()
}

/// Tables that grow with what is on points, and runs.
const LARGE: [&str; 9] = [
    "distribution",
    "distributed_file",
    "leaving_file",
    "lost_file",
    "package_file",
    "file",
    "content",
    "device_message",
    "run",
];

/// Names that large tables have in statements.
const ALIASES: [&str; 7] = ["d", "f", "l", "m", "c", "h", "member"];

/// What is wrong with how a statement is carried out.
fn fault(w: &Writer<'_>, sql: &str) -> Result<Option<String>, SchemaError> {
    let mut statement = w.connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
    let count = statement.parameter_count();
    let nothing = vec![rusqlite::types::Null; count];
    let mut rows = statement.query(rusqlite::params_from_iter(nothing))?;
    while let Some(row) = rows.next()? {
        let detail: String = row.get("detail")?;
        let words: Vec<&str> = detail.split(' ').collect();
        let large = |name: &&str| LARGE.contains(name) || ALIASES.contains(name);
        let scans = words[0] == "SCAN" && words.get(1).is_some_and(large)
            // From its end, and the first row is the answer.
            && !detail.ends_with("USING INDEX run_succeeded");
        // A view over all contents that is made to be asked about one.
        let whole = detail.contains("private_content") || detail.contains("package_content");
        let makes_index = detail.contains("AUTOMATIC");
        // Rows of one content on all points, to find those of one point.
        let of_one_point = sql.contains("point_id = ?") && !sql.contains("point.point_id = ?");
        let all_points = of_one_point && detail.ends_with("distributed_file_by_content (content=?)");
        if scans || whole || makes_index || all_points {
            return Ok(Some(detail));
        }
    }
    Ok(None)
}

type Asks = fn(&Writer<'_>, &PackageId, i64) -> Result<(), SchemaError>;

const SOME: Sha256Digest = Sha256Digest([7; 32]);

/// What reports, assignments, offers and the sending of packages ask, for each point and package.
const OFTEN: &[(&str, Asks)] = &[
    ("placements_on", |w, _, point| w.placements_on(point).map(drop)),
    ("placements_of", |w, package, _| w.placements_of(std::slice::from_ref(package)).map(drop)),
    ("placement", |w, package, point| w.placement(package, point).map(drop)),
    ("points_with", |w, package, _| w.points_with(package).map(drop)),
    ("files_on", |w, package, point| w.files_on(package, point).map(drop)),
    ("states_on", |w, _, point| w.states_on(point).map(drop)),
    ("retries_due", |w, _, _| w.retries_due(Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH).map(drop)),
    ("assignment_changes", |w, _, point| w.assignment_changes(point).map(drop)),
    ("assigned_rows", |w, _, point| w.assigned_rows(point, &Privacy::default(), 0).map(drop)),
    ("placed_files", |w, package, point| w.placed_files(package, point).map(drop)),
    ("leaving_files", |w, package, point| w.leaving_files(package, point).map(drop)),
    ("assigned_content", |w, _, point| w.assigned_content(SOME, point).map(drop)),
    ("is_private", |w, _, _| w.is_private(SOME).map(drop)),
    ("offered_content", |w, _, point| w.offered_content(SOME, point).map(drop)),
    ("is_lost_to", |w, _, point| w.is_lost_to(SOME, point).map(drop)),
    ("links_of", |w, _, _| w.links_of(SOME).map(drop)),
    ("content_in_package", |w, package, _| {
        let name = "a.esd".parse().map_err(|_| SchemaError::Value("a name".to_owned()))?;
        w.content_in_package(package, &name).map(drop)
    }),
    ("held_of", |w, _, point| w.held_of(point, &[SOME]).map(drop)),
    ("point_lacks", |w, _, point| w.point_lacks(point, SOME)),
    ("point_has_nothing", |w, _, point| w.point_has_nothing(point)),
    ("bytes_lacking", |w, package, point| w.bytes_lacking(std::slice::from_ref(package), point).map(drop)),
    ("bytes_on_the_way", |w, _, point| w.bytes_on_the_way(point).map(drop)),
    ("files_not_here", |w, package, _| w.files_not_here(package).map(drop)),
    ("distribute", |w, package, point| w.distribute(package, point, Timestamp::UNIX_EPOCH)),
    ("point_row", |w, _, point| w.point_row(point).map(drop)),
    ("remove_point", |w, _, point| w.remove_point(point)),
    ("metadata_until", |w, _, _| w.metadata_until(7).map(drop)),
    ("last_ok_run", |w, _, _| w.last_ok_run().map(drop)),
    ("trim_messages", |w, _, _| w.trim_messages(Timestamp::UNIX_EPOCH).map(drop)),
    ("trim", |w, _, _| w.trim(Some(Timestamp::UNIX_EPOCH), Timestamp::UNIX_EPOCH).map(drop)),
    ("device_removed", |w, _, _| w.device_removed("desk-7", Timestamp::UNIX_EPOCH).map(drop)),
];

/// What a point that is forgotten has elsewhere is found by its number, in every table that refers to it.
fn unfound(w: &Writer<'_>) -> Result<Vec<String>, SchemaError> {
    let tables: Vec<(String, String)> = w.all(
        "SELECT t.name, k.\"from\" FROM sqlite_master AS t JOIN pragma_foreign_key_list(t.name) AS k
          WHERE t.type = 'table' AND k.\"table\" = 'point'",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let mut unfound = Vec::new();
    for (table, column) in tables {
        let sql = format!("EXPLAIN QUERY PLAN SELECT 1 FROM {table} WHERE {column} = 9");
        let details = w.all(&sql, [], |row| Ok(row.get::<_, String>("detail")?))?;
        unfound.extend(details.into_iter().filter(|detail| detail.starts_with("SCAN")));
    }
    Ok(unfound)
}

#[test]
fn what_is_asked_often_reads_what_it_is_about_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("site.db"), 1).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let change = |w: &Writer<'_>| {
        let site = "XYZ".parse().map_err(|_| SchemaError::Value("a code".to_owned()))?;
        let (name, description) = ("all".to_owned(), String::new());
        let new = NewPackage { name, description, source_dir: None, access: Access::Public };
        let package = w.create_package(&site, &new, Timestamp::UNIX_EPOCH)?;
        let lyon = w.add_point("lyon", "http://lyon", PointRole::Standard)?;
        w.execute("UPDATE point SET on_demand = 1, may_pull = 1 WHERE point_id = ?1", [lyon])?;
        for point in [OWN_POINT, lyon] {
            w.distribute(&package, point, Timestamp::UNIX_EPOCH)?;
        }
        let mut faults = Vec::new();
        for (name, asks) in OFTEN {
            asked();
            asks(w, &package, lyon)?;
            let asked = asked();
            assert!(!asked.is_empty(), "{name} asks nothing");
            for sql in asked {
                faults.extend(fault(w, &sql)?.map(|fault| format!("{name}: {fault} in {sql}")));
            }
        }
        faults.extend(unfound(w)?);
        Ok(faults)
    };
    let faults = runtime.block_on(store.write(change)).unwrap();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
