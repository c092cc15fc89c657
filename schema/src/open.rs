//! Opening the database: settings, numbered steps, and the refusal of what we do not understand.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use catalog::problem::{Code, Coded, Problem};
use rusqlite::{Connection, OpenFlags};
use rusqlite_migration::{M, Migrations};

/// "SPSY" in the header of the file: nobody else's database is ever migrated by mistake.
const APPLICATION_ID: i32 = 0x5350_5359;

const STEPS: &[M<'_>] = &[
    M::up(include_str!("../sql/0001_site.sql")),
    M::up(include_str!("../sql/0002_updates.sql")),
    M::up(include_str!("../sql/0003_licenses.sql")),
    M::up(include_str!("../sql/0004_content.sql")),
    M::up(include_str!("../sql/0005_metadata.sql")),
    M::up(include_str!("../sql/0006_servers.sql")),
    M::up(include_str!("../sql/0007_feature_updates.sql")),
    M::up(include_str!("../sql/0008_update_point.sql")),
    M::up(include_str!("../sql/0009_points.sql")),
    M::up(include_str!("../sql/0010_boundaries.sql")),
    M::up(include_str!("../sql/0011_access.sql")),
    M::up(include_str!("../sql/0012_keys.sql")),
    M::up(include_str!("../sql/0013_assignment.sql")),
    M::up(include_str!("../sql/0014_sequences.sql")),
    M::up(include_str!("../sql/0015_on_demand.sql")),
    M::up(include_str!("../sql/0017_deployments.sql")),
    M::up(include_str!("../sql/0018_software_on_points.sql")),
    M::up(include_str!("../sql/0019_updates_and_windows.sql")),
    M::up(include_str!("../sql/0020_may_pull.sql")),
    M::up(include_str!("../sql/0021_tokens.sql")),
    M::up(include_str!("../sql/0023_content_of_updates.sql")),
    M::up(include_str!("../sql/0025_address_of_points.sql")),
    M::up(include_str!("../sql/0026_tls_of_points.sql")),
    M::up(include_str!("../sql/0027_lost_files.sql")),
    M::up(include_str!("../sql/0028_what_points_hold.sql")),
    M::up(include_str!("../sql/0029_content_keys.sql")),
    M::up(include_str!("../sql/0032_unnamed_content.sql")),
    M::up(include_str!("../sql/0033_questions_of_points.sql")),
    M::up(include_str!("../sql/0034_changes_of_assignments.sql")),
    M::up(include_str!("../sql/0035_letting_go.sql")),
    M::up(include_str!("../sql/0036_made_anew_less.sql")),
    M::up(include_str!("../sql/0037_removed_devices.sql")),
];

/// Why the database does not answer.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Written by a newer program.
    #[error("the database `{}` has schema {found}, this program knows up to {known}", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: usize,
        /// Ours.
        known: usize,
    },
    /// It cannot be opened, or is no database of ours.
    #[error("the database `{}` cannot be opened", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The steps could not be applied.
    #[error("the database `{}` cannot be brought up to date", path.display())]
    Migrate {
        /// The file.
        path: PathBuf,
        /// What failed.
        source: rusqlite_migration::Error,
    },
    /// It belongs to another program.
    #[error("`{}` is a database of another program", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// It is older, and could not be copied first.
    #[error("the database `{}` is brought to schema {} only after it is copied to `{}`, which cannot be done", path.display(), STEPS.len(), copy.display())]
    Copy {
        /// The file.
        path: PathBuf,
        /// The copy.
        copy: PathBuf,
        /// Why.
        source: CopyError,
    },
    /// A statement failed.
    #[error("the database could not be read or written")]
    Sql(#[from] rusqlite::Error),
    /// A value has another form than we wrote.
    #[error("the database holds a value that cannot be understood: {0}")]
    Value(String),
    /// A number that is to be recorded is larger than any that the database can hold.
    #[error("{0} is larger than any number that can be recorded")]
    TooLarge(u64),
    /// A rule of the domain refused the change.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// A change panicked: a defect of this program. Nothing of it was recorded.
    #[error("a change of the database died of a defect in this program; nothing of it was recorded")]
    Died,
    /// The thread that works on the database has ended.
    #[error("the database is closed")]
    Closed,
}

/// Why a database could not be copied.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub enum CopyError {
    /// SQLite says so.
    Sql(#[from] rusqlite::Error),
    /// The disk says so.
    Io(#[from] io::Error),
}

impl From<Problem> for SchemaError {
    fn from(problem: Problem) -> Self {
        Self::Refused(Box::new(problem))
    }
}

impl Coded for SchemaError {
    fn code(&self) -> Code {
        match self {
            Self::TooNew { .. } => Code::DatabaseTooNew,
            Self::Refused(problem) => problem.code,
            Self::Sql(error) | Self::Open { source: error, .. } if is_full(error) => Code::DiskFull,
            Self::Migrate { source: rusqlite_migration::Error::RusqliteError { err, .. }, .. }
                if is_full(err) =>
            {
                Code::DiskFull
            }
            Self::Copy { source: CopyError::Sql(error), .. } if is_full(error) => Code::DiskFull,
            Self::Copy { source: CopyError::Io(error), .. } if error.kind() == io::ErrorKind::StorageFull => {
                Code::DiskFull
            }
            _ => Code::DatabaseFailed,
        }
    }

    fn problem(&self) -> Problem {
        match self {
            Self::Refused(problem) => (**problem).clone(),
            Self::Copy { path, .. } => Problem::of(self.code(), self)
                .keeping("the database is as it was, and the program of before can use it")
                .help(format!("make room for a second `{}` beside it, then start again", path.display())),
            other => Problem::of(other.code(), other),
        }
    }
}

/// Whether the disk had no room.
fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
}

/// The write-ahead log is cut to so many bytes once it was written back: one large transaction, or a reader that took its time, does
/// not leave a file of its size for ever.
const LARGEST_LOG: i64 = 64 << 20;

/// The writer's connection, with every step applied.
pub(crate) fn writer(path: &Path) -> Result<Connection, SchemaError> {
    let opening = |source| SchemaError::Open { path: path.to_owned(), source };
    let mut connection = Connection::open(path).map_err(opening)?;
    let found: usize = connection
        .query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))
        .map_err(opening)?
        .try_into()
        .unwrap_or(usize::MAX);
    if found > STEPS.len() {
        return Err(SchemaError::TooNew { path: path.to_owned(), found, known: STEPS.len() });
    }
    let owner: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(opening)?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0)).map_err(opening)?;
    if owner != APPLICATION_ID && tables > 0 {
        return Err(SchemaError::Foreign { path: path.to_owned() });
    }
    connection.pragma_update(None, "journal_mode", "WAL").map_err(opening)?;
    // FULL: what was acknowledged survives a power cut. NORMAL does not promise that with WAL.
    connection.pragma_update(None, "synchronous", "FULL").map_err(opening)?;
    connection.pragma_update(None, "journal_size_limit", LARGEST_LOG).map_err(opening)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID).map_err(opening)?;
    common(&connection).map_err(opening)?;
    if (1..STEPS.len()).contains(&found) {
        let copy = before(path);
        copy_to(&connection, path, &copy).map_err(|source| SchemaError::Copy {
            path: path.to_owned(),
            copy,
            source,
        })?;
    }
    Migrations::from_slice(STEPS)
        .to_latest(&mut connection)
        .map_err(|source| SchemaError::Migrate { path: path.to_owned(), source })?;
    Ok(connection)
}

/// The copy of a database that is brought to our schema: with it, and the program of before, everything is as it was.
fn before(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".before-{}", STEPS.len()));
    name.into()
}

/// Copies the whole database, durably. An earlier copy of this name is replaced: the last time may have been given up, and gone back.
fn copy_to(connection: &Connection, path: &Path, copy: &Path) -> Result<(), CopyError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let staged = copy.with_added_extension("part");
    let copied = || {
        let name = staged.to_str().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidFilename))?;
        connection.execute("VACUUM INTO ?1", [name])?;
        let file = fs::File::open(&staged)?;
        file.set_permissions(fs::metadata(path)?.permissions())?;
        file.sync_all()?;
        fs::rename(&staged, copy)?;
        fs::File::open(folder)?.sync_all()?;
        Ok(())
    };
    // SQLite writes into no file that is there: one of a process that died.
    drop(fs::remove_file(&staged));
    let copied = copied();
    if copied.is_err() {
        drop(fs::remove_file(&staged));
    }
    copied
}

/// A connection that only reads.
pub(crate) fn reader(path: &Path) -> Result<Connection, SchemaError> {
    let opening = |source| SchemaError::Open { path: path.to_owned(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(opening)?;
    common(&connection).map_err(opening)?;
    Ok(connection)
}

fn common(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(30))?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // What `INSERT OR REPLACE` takes away is deleted for triggers too.
    connection.pragma_update(None, "recursive_triggers", true)?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_valid() {
        Migrations::from_slice(STEPS).validate().unwrap();
    }

    /// Packages, decisions and content of an older site are all there after the step that made revisions anew.
    #[test]
    fn a_site_of_before_feature_updates_had_files_keeps_everything() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let mut old = Connection::open(&path).unwrap();
        common(&old).unwrap();
        old.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
        Migrations::from_slice(&STEPS[..6]).to_latest(&mut old).unwrap();
        old.execute_batch(
            "INSERT INTO content VALUES (zeroblob(32), zeroblob(20), 7, 0, 0);
             INSERT INTO file (file_id, file_name, size, sha1, content) VALUES (5, 'a.esd', 7, zeroblob(20), zeroblob(32));
             INSERT INTO file_url VALUES (5, 'esd', 'http://x/a.esd');
             INSERT INTO update_item (update_id, latest, first_seen, last_seen) VALUES (zeroblob(16), 2, 0, 0);
             INSERT INTO revision VALUES (zeroblob(16), 2, 'T', 'Upgrades', 'Windows 11', '25H2', 26200, 1, 's', 'business',
                '[]', 'x64', 'en-us', 5, 0, 1, 0);
             INSERT INTO listing VALUES ('esd', 'l', zeroblob(16), 2);
             INSERT INTO license_text VALUES (zeroblob(32), x'00', 0);
             INSERT INTO license_current VALUES ('Windows 11', 'en-us', zeroblob(32), 'o', 0);
             INSERT INTO license_decision (update_id, product, language, sha256, accepted, who, how, at)
             VALUES (zeroblob(16), 'Windows 11', 'en-us', zeroblob(32), 1, 'admin', 'by hand', 0);
             INSERT INTO package VALUES ('XYZ00001', 1, 'p', '', NULL, 1, 0, 0, NULL);
             INSERT INTO package_file VALUES ('XYZ00001', zeroblob(16), 2, 5, 'a.esd', 'stored', NULL, 0);
             INSERT INTO distribution VALUES ('XYZ00001', 1, 1, 0);
             INSERT INTO distributed_file VALUES ('XYZ00001', 1, 'a.esd', zeroblob(32));",
        )
        .unwrap();
        drop(old);
        let new = writer(&path).unwrap();
        let broken: i64 =
            new.query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| row.get(0)).unwrap();
        assert_eq!(broken, 0);
        let reader = crate::Reader { connection: &new };
        let update = reader.feature_updates().unwrap().remove(0);
        assert_eq!((update.id.number.0, update.size, update.file_name.as_str()), (2, 7, "a.esd"));
        assert_eq!(
            (update.urls.len(), update.downloaded, update.listed, update.recognised),
            (1, true, true, true)
        );
        assert_eq!(update.license, crate::licenses::LicenseState::Accepted);
        let files = reader.package_files(&"XYZ00001".parse().unwrap()).unwrap();
        assert_eq!(
            (files.len(), files[0].published_name.as_str(), files[0].sha256.is_some()),
            (1, "a.esd", true)
        );
        assert_eq!(reader.shelf().unwrap().len(), 1);
    }

    /// Whoever goes back to the program of before needs the database of before.
    #[test]
    fn an_older_database_is_copied_before_it_is_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let older = || {
            let mut old = Connection::open(&path).unwrap();
            common(&old).unwrap();
            old.pragma_update(None, "journal_mode", "WAL").unwrap();
            old.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
            Migrations::from_slice(&STEPS[..6]).to_latest(&mut old).unwrap();
            old
        };
        older().execute_batch("INSERT INTO license_text VALUES (zeroblob(32), x'00', 0)").unwrap();
        fs::write(before(&path), "of an upgrade that was given up").unwrap();
        drop(writer(&path).unwrap());
        let copy = Connection::open(before(&path)).unwrap();
        let number = |sql: &str| copy.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(number("PRAGMA user_version"), 6);
        assert_eq!(number("PRAGMA application_id"), i64::from(APPLICATION_ID));
        assert_eq!(number("SELECT count(*) FROM license_text"), 1);
        // A new database has nothing to copy, nor one that is up to date.
        fs::remove_file(before(&path)).unwrap();
        drop(writer(&path).unwrap());
        drop(writer(&folder.path().join("b.db")).unwrap());
        assert!(!before(&path).exists() && !before(&folder.path().join("b.db")).exists());
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert!(left <= 6, "{left} files: nothing half-written is left");
    }

    #[test]
    fn the_log_does_not_stay_as_large_as_it_ever_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let connection = writer(&path).unwrap();
        let log = || fs::metadata(folder.path().join("a.db-wal")).unwrap().len();
        let large = LARGEST_LOG + (8 << 20);
        connection
            .execute("INSERT INTO license_text VALUES (zeroblob(32), zeroblob(?1), 0)", [large])
            .unwrap();
        assert!(log() > large as u64, "{}", log());
        // The next transaction begins it anew.
        for _ in 0..2 {
            connection.execute("UPDATE license_text SET fetched_at = fetched_at + 1", []).unwrap();
        }
        connection.execute("INSERT INTO point_group (name) VALUES ('a')", []).unwrap();
        assert!(log() <= LARGEST_LOG as u64, "{}", log());
    }

    #[test]
    fn without_a_copy_nothing_is_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let mut old = Connection::open(&path).unwrap();
        old.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
        Migrations::from_slice(&STEPS[..6]).to_latest(&mut old).unwrap();
        drop(old);
        fs::create_dir_all(before(&path).join("in the way")).unwrap();
        let refused = writer(&path).unwrap_err();
        assert!(matches!(refused, SchemaError::Copy { .. }), "{refused:?}");
        assert!(refused.problem().help.contains("make room"));
        let found = Connection::open(&path).unwrap();
        let version: i64 = found.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(version, 6);
    }

    #[test]
    fn newer_foreign_and_broken_databases_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        drop(writer(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let newer = writer(&path).unwrap_err();
        assert_eq!(newer.code(), Code::DatabaseTooNew);
        assert!(newer.to_string().contains("99"));

        let other = folder.path().join("b.db");
        Connection::open(&other).unwrap().execute_batch("CREATE TABLE x (y)").unwrap();
        assert!(matches!(writer(&other), Err(SchemaError::Foreign { .. })));

        let garbage = folder.path().join("c.db");
        fs::write(&garbage, vec![7; 8192]).unwrap();
        assert!(matches!(writer(&garbage), Err(SchemaError::Open { .. })));
        assert_eq!(fs::read(&garbage).unwrap(), vec![7; 8192], "not touched");
    }
}
