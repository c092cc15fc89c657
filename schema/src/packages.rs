//! Deployment packages and their files.

use std::path::PathBuf;

use catalog::digest::{Digests, Sha256Digest, Wanted};
use catalog::id::{FileName, PackageId, RevisionId, SiteCode};
use catalog::problem::{Code, Problem};
use jiff::Timestamp;
use rusqlite::{Row, named_params};
use serde::{Deserialize, Serialize};

use crate::column::{
    digests, json, number, revision, sha256_or_none, size, text, time, time_or_none, to_json,
};
use crate::names::free;
use crate::updates::Published;
use crate::{Reader, SchemaError, Writer, words};

/// The longest name (mission row M17), in characters.
pub const LONGEST_NAME: usize = 50;
/// The longest description (mission row M17), in characters.
pub const LONGEST_DESCRIPTION: usize = 127;

words! {
    /// How a file of a package is doing.
    FileState {
        /// Its bytes are not there yet.
        Queued = "queued",
        /// They are, verified.
        Stored = "stored",
        /// The last try failed.
        Failed = "failed",
    }
}

words! {
    /// For whom a package is.
    Access {
        /// For everybody who knows the digest of a file.
        Public = "public",
        /// For devices and points of the site, by their keys.
        Private = "private",
    }
}

/// A deployment package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// `XYZ00001`.
    pub id: PackageId,
    /// Unique, without regard to case.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Where a copy of its files lives, if anywhere.
    pub source_dir: Option<PathBuf>,
    /// For whom it is.
    pub access: Access,
    /// One more on each change of what it holds.
    pub version: u32,
    /// When it was made.
    pub created: Timestamp,
    /// When what it holds changed last.
    pub changed: Timestamp,
    /// When its files were last read again.
    pub validated: Option<Timestamp>,
}

/// A package to make.
#[derive(Debug, Clone)]
pub struct NewPackage {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Where a copy of its files shall live.
    pub source_dir: Option<PathBuf>,
    /// For whom it is.
    pub access: Access,
}

/// An update to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMember {
    /// Which revision.
    pub revision: RevisionId,
    /// For people.
    pub title: String,
    /// Bytes of its files.
    pub size: u64,
}

/// One file of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageFile {
    /// The update's revision that it belongs to.
    pub revision: RevisionId,
    /// Row of the file.
    #[serde(skip)]
    pub file: i64,
    /// Title of the update.
    pub title: String,
    /// Its name in the package.
    pub file_name: FileName,
    /// Its name as published.
    pub published_name: FileName,
    /// Bytes.
    pub size: u64,
    /// Every digest published.
    pub digests: Digests,
    /// Digest of the verified bytes, once we have them.
    pub sha256: Option<Sha256Digest>,
    /// How it is doing.
    pub state: FileState,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    /// Where it can be had.
    pub urls: Vec<Published>,
}

fn package(row: &Row<'_>) -> Result<Package, SchemaError> {
    Ok(Package {
        id: text(row, "package_id")?,
        name: row.get("name")?,
        description: row.get("description")?,
        source_dir: row.get::<_, Option<String>>("source_dir")?.map(PathBuf::from),
        access: text(row, "access")?,
        version: number(row, "version")?,
        created: time(row, "created")?,
        changed: time(row, "changed")?,
        validated: time_or_none(row, "validated")?,
    })
}

impl Reader<'_> {
    /// All packages, oldest first.
    pub fn packages(&self) -> Result<Vec<Package>, SchemaError> {
        self.all("SELECT * FROM package WHERE kind = 'updates' ORDER BY sequence", [], package)
    }

    /// One package.
    pub fn package(&self, id: &PackageId) -> Result<Option<Package>, SchemaError> {
        self.first("SELECT * FROM package WHERE package_id = ?1", [id.as_str()], package)
    }

    /// The files of a package, by name.
    pub fn package_files(&self, id: &PackageId) -> Result<Vec<PackageFile>, SchemaError> {
        const SQL: &str = "
            SELECT member.*, revision.title,
                   coalesce((SELECT file_name FROM revision_file AS own WHERE own.update_id = member.update_id
                       AND own.number = member.number AND own.file_id = member.file_id LIMIT 1), file.file_name) AS published_name, file.size, file.sha1, file.sha256, file.content
              FROM package_file AS member JOIN revision USING (update_id, number)
              JOIN file ON file.file_id = member.file_id
             WHERE member.package_id = ?1 ORDER BY member.file_name, member.update_id, member.file_id";
        let rows = self.all(SQL, [id.as_str()], |row| {
            let file = PackageFile {
                file: row.get("file_id")?,
                revision: revision(row)?,
                title: row.get("title")?,
                file_name: text(row, "file_name")?,
                published_name: text(row, "published_name")?,
                size: size(row, "size")?,
                digests: digests(row)?,
                sha256: sha256_or_none(row, "content")?,
                state: text(row, "state")?,
                problem: json(row, "problem")?,
                urls: Vec::new(),
            };
            Ok((row.get::<_, i64>("file_id")?, file))
        })?;
        rows.into_iter().map(|(id, file)| Ok(PackageFile { urls: self.urls(id)?, ..file })).collect()
    }

    /// The rules of mission row M17 for a package to make.
    pub fn check_new_package(&self, new: &NewPackage) -> Result<(), SchemaError> {
        let refuse = |code: Code, message: String| Err(Problem::new(code, message).into());
        if new.name.is_empty() {
            return refuse(Code::NameRequired, "a deployment package needs a name".to_owned());
        }
        let length = new.name.chars().count();
        if length > LONGEST_NAME {
            return refuse(
                Code::NameTooLong,
                format!("the name has {length} characters, at most {LONGEST_NAME} are allowed"),
            );
        }
        if new.name.chars().any(char::is_control) {
            return refuse(Code::NameNotAllowed, "the name has control characters".to_owned());
        }
        let length = new.description.chars().count();
        if length > LONGEST_DESCRIPTION {
            let message =
                format!("the description has {length} characters, at most {LONGEST_DESCRIPTION} are allowed");
            return refuse(Code::DescriptionTooLong, message);
        }
        let all = self.packages()?;
        free("package", &new.name, None, all.iter().map(|other| (&other.id, &*other.name)))?;
        let taken = |other: &&Package| new.source_dir.is_some() && other.source_dir == new.source_dir;
        if let Some(other) = all.iter().find(taken) {
            return refuse(
                Code::SourceInUse,
                format!("package {} `{}` uses this source folder", other.id, other.name),
            );
        }
        Ok(())
    }

    /// Which of `members` a package holds already.
    pub fn members_present(
        &self,
        id: &PackageId,
        members: &[NewMember],
    ) -> Result<Vec<RevisionId>, SchemaError> {
        let held: Vec<_> = self.package_files(id)?.into_iter().map(|file| file.revision).collect();
        Ok(members.iter().map(|member| member.revision).filter(|revision| held.contains(revision)).collect())
    }

    /// Files that some package lacks, as far as anything was published by which they can be known.
    pub fn lacking_files(&self) -> Result<Vec<Wanted>, SchemaError> {
        const SQL: &str = "
            SELECT DISTINCT size, sha1, sha256 FROM package_file JOIN file USING (file_id) WHERE state <> 'stored'";
        let all = self.all(SQL, [], |row| Ok(Wanted::new(size(row, "size")?, digests(row)?)))?;
        Ok(all.into_iter().flatten().collect())
    }
}

impl Writer<'_> {
    /// The row by which an OS upgrade package (`image`) or application (`app`) goes to points; made where there is none. It is
    /// for devices and points alone.
    pub fn software_package(
        &self,
        id: &PackageId,
        kind: &str,
        name: &str,
        now: Timestamp,
    ) -> Result<Package, SchemaError> {
        // Ids and numbers are those of the counter that packages have too; names are those of images and applications.
        let number = u32::from_str_radix(&id.as_str()[3..], 16)
            .map_err(|_| SchemaError::Value(format!("the number of {id}")))?;
        self.execute(
            "INSERT INTO package (package_id, sequence, name, description, source_dir, access, version, created, changed, kind)
             VALUES (:id, :number, :name, '', NULL, 'private', 1, :now, :now, :kind) ON CONFLICT (package_id) DO NOTHING",
            named_params! {
                ":id": id.as_str(), ":number": number, ":kind": kind, ":now": now.as_millisecond(),
                // Longer than any that is given to a package: in nobody's way.
                ":name": format!("{id}: an image or application, whose own name stands elsewhere"),
            },
        )?;
        let made = self.package(id)?.ok_or_else(|| SchemaError::Value(format!("package {id}")))?;
        Ok(Package { name: name.to_owned(), ..made })
    }

    /// Makes a package.
    pub fn create_package(
        &self,
        site: &SiteCode,
        new: &NewPackage,
        now: Timestamp,
    ) -> Result<PackageId, SchemaError> {
        self.check_new_package(new)?;
        let (id, sequence) = self.next_id(site)?;
        self.execute(
            "INSERT INTO package (package_id, sequence, name, description, source_dir, access, version, created, changed)
             VALUES (:id, :sequence, :name, :description, :source_dir, :access, 1, :now, :now)",
            named_params! {
                ":id": id.as_str(), ":sequence": sequence, ":name": new.name, ":description": new.description,
                ":access": new.access.to_string(),
                ":source_dir": new.source_dir.as_ref().map(|dir| dir.to_string_lossy().into_owned()),
                ":now": now.as_millisecond(),
            },
        )?;
        Ok(id)
    }

    /// Says for whom a package is.
    pub fn set_package_access(&self, id: &PackageId, access: Access) -> Result<(), SchemaError> {
        self.execute(
            "UPDATE package SET access = ?2 WHERE package_id = ?1",
            (id.as_str(), access.to_string()),
        )?;
        Ok(())
    }

    /// Adds updates. A file that is in the library already is stored at once, unless a source folder wants a copy too.
    pub fn add_members(
        &self,
        id: &PackageId,
        members: &[NewMember],
        now: Timestamp,
    ) -> Result<(), SchemaError> {
        let has_folder = self.package(id)?.is_some_and(|package| package.source_dir.is_some());
        for member in members {
            let (update, number) = (member.revision.update.0.as_bytes(), member.revision.number.0);
            let files = self.all(
                "SELECT member.file_id, member.file_name, file.sha1, file.sha256, file.content IS NOT NULL AS held
                   FROM revision_file AS member JOIN file USING (file_id)
                  WHERE update_id = ?1 AND number = ?2 ORDER BY member.position",
                (update, number),
                |row| {
                    let name: FileName = text(row, "file_name")?;
                    Ok((row.get::<_, i64>("file_id")?, name, digests(row)?, row.get::<_, bool>("held")?))
                },
            )?;
            if files.is_empty() {
                return Err(SchemaError::Value(format!("the files of {}", member.revision)));
            }
            for (file, name, digests, held) in files {
                let name = self.free_name(id, file, &name, &digests)?;
                self.execute(
                    "INSERT OR IGNORE INTO package_file (package_id, update_id, number, file_id, file_name, state, at)
                     VALUES (:id, :update, :number, :file, :name, :state, :now)",
                    named_params! {
                        ":id": id.as_str(), ":update": update, ":number": number, ":file": file, ":name": name.as_str(),
                        ":state": if held && !has_folder { "stored" } else { "queued" }, ":now": now.as_millisecond(),
                    },
                )?;
            }
        }
        self.changed(id, now)
    }

    /// The name under which the package holds this very file already; else the name itself, or with eight digits of the
    /// digest where another file of the package has it.
    fn free_name(
        &self,
        id: &PackageId,
        file: i64,
        name: &FileName,
        digests: &Digests,
    ) -> Result<FileName, SchemaError> {
        const HELD: &str = "SELECT file_name FROM package_file WHERE package_id = ?1 AND file_id = ?2";
        const TAKEN: &str = "SELECT 1 FROM package_file WHERE package_id = ?1 AND file_name = ?2";
        if let Some(held) = self.first(HELD, (id.as_str(), file), |row| text(row, "file_name"))? {
            return Ok(held);
        }
        let taken =
            |name: &str| Ok::<_, SchemaError>(self.first(TAKEN, (id.as_str(), name), |_| Ok(()))?.is_some());
        if !taken(name.as_str())? {
            return Ok(name.clone());
        }
        let digest = digests.strongest().unwrap_or_default();
        let digest = digest.get(..8).unwrap_or_default();
        let other = match name.as_str().rsplit_once('.') {
            Some((stem, extension)) => format!("{stem}-{digest}.{extension}"),
            None => format!("{}-{digest}", name.as_str()),
        };
        other.parse().map_err(|_| {
            SchemaError::from(Problem::new(Code::NameNotAllowed, format!("`{other}` is too long")))
        })
    }

    fn changed(&self, id: &PackageId, now: Timestamp) -> Result<(), SchemaError> {
        self.execute(
            "UPDATE package SET version = version + 1, changed = ?2 WHERE package_id = ?1",
            (id.as_str(), now.as_millisecond()),
        )?;
        Ok(())
    }

    /// Takes updates out.
    pub fn drop_members(
        &self,
        id: &PackageId,
        revisions: &[RevisionId],
        now: Timestamp,
    ) -> Result<(), SchemaError> {
        for revision in revisions {
            self.execute(
                "DELETE FROM package_file WHERE package_id = ?1 AND update_id = ?2 AND number = ?3",
                (id.as_str(), revision.update.0.as_bytes(), revision.number.0),
            )?;
        }
        self.changed(id, now)
    }

    /// Deletes a package with everything that is only its.
    pub fn delete_package(&self, id: &PackageId) -> Result<(), SchemaError> {
        self.execute("DELETE FROM package WHERE package_id = ?1", [id.as_str()])?;
        Ok(())
    }

    /// A file has come: its content is known and recorded. This package has it now, for every update that needs it.
    pub fn mark_file_stored(
        &self,
        id: &PackageId,
        file: i64,
        content: Sha256Digest,
        now: Timestamp,
    ) -> Result<(), SchemaError> {
        self.execute("UPDATE file SET content = ?2 WHERE file_id = ?1", (file, content.0))?;
        self.execute(
            "UPDATE package_file SET state = 'stored', problem = NULL, at = ?3 WHERE package_id = ?1 AND file_id = ?2",
            (id.as_str(), file, now.as_millisecond()),
        )?;
        Ok(())
    }

    /// A file has not come.
    pub fn mark_file_failed(
        &self,
        id: &PackageId,
        file: i64,
        problem: &Problem,
        now: Timestamp,
    ) -> Result<(), SchemaError> {
        self.execute(
            "UPDATE package_file SET state = 'failed', problem = ?3, at = ?4 WHERE package_id = ?1 AND file_id = ?2",
            (id.as_str(), file, to_json(problem)?, now.as_millisecond()),
        )?;
        Ok(())
    }

    /// Every file of a package was read again.
    pub fn mark_validated(&self, id: &PackageId, now: Timestamp) -> Result<(), SchemaError> {
        self.execute(
            "UPDATE package SET validated = ?2 WHERE package_id = ?1",
            (id.as_str(), now.as_millisecond()),
        )?;
        Ok(())
    }
}
