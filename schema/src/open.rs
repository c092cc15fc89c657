//! Opening the database: settings, numbered steps, and the refusal of what we do not understand.

use std::path::{Path, PathBuf};
use std::time::Duration;

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
    /// A statement failed.
    #[error("the database could not be read or written")]
    Sql(#[from] rusqlite::Error),
    /// A value has another form than we wrote.
    #[error("the database holds a value that cannot be understood: {0}")]
    Value(String),
    /// A rule of the domain refused the change.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// The thread that works on the database has ended.
    #[error("the database is closed")]
    Closed,
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
            Self::Sql(rusqlite::Error::SqliteFailure(error, _))
                if error.code == rusqlite::ErrorCode::DiskFull =>
            {
                Code::DiskFull
            }
            _ => Code::DatabaseFailed,
        }
    }

    fn problem(&self) -> Problem {
        match self {
            Self::Refused(problem) => (**problem).clone(),
            other => Problem::of(other.code(), other),
        }
    }
}

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
    connection.pragma_update(None, "application_id", APPLICATION_ID).map_err(opening)?;
    common(&connection).map_err(opening)?;
    Migrations::from_slice(STEPS)
        .to_latest(&mut connection)
        .map_err(|source| SchemaError::Migrate { path: path.to_owned(), source })?;
    Ok(connection)
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
        std::fs::write(&garbage, vec![7; 8192]).unwrap();
        assert!(matches!(writer(&garbage), Err(SchemaError::Open { .. })));
        assert_eq!(std::fs::read(&garbage).unwrap(), vec![7; 8192], "not touched");
    }
}
