//! Task sequences: documents, what they refer to, and their sealed secrets.

use std::collections::HashMap;

use catalog::id::{PackageId, SiteCode};
use catalog::problem::{Code, Problem};
use jiff::Timestamp;
use rusqlite::{Row, named_params};
use serde::{Deserialize, Serialize};

use crate::column::{number, text, time};
use crate::names::free;
use crate::{Reader, SchemaError, Writer};

/// A task sequence as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceRow {
    /// `XYZ0004D`.
    pub id: PackageId,
    /// Unique, without regard to case.
    pub name: String,
    /// The document.
    pub document: String,
    /// Its deployments are offered.
    pub enabled: bool,
    /// One more on each change.
    pub revision: u32,
    /// When it was made.
    pub created: Timestamp,
    /// When it changed last.
    pub changed: Timestamp,
}

/// A reference, as it is recorded beside the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceRow {
    /// Number of the step.
    pub step: u32,
    /// `feature-update`, `image` or `app`.
    pub kind: &'static str,
    /// The id.
    pub target: String,
}

/// A secret, sealed.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedRow {
    /// Its number in the document.
    pub number: u32,
    /// What may be told of it.
    pub label: String,
    /// Its bytes, which only the key file opens.
    pub sealed: Vec<u8>,
}

/// A task sequence to save.
#[derive(Clone)]
pub struct NewSequence {
    /// Its name.
    pub name: String,
    /// Its document.
    pub document: String,
    /// What it refers to.
    pub references: Vec<ReferenceRow>,
}

fn sequence(row: &Row<'_>) -> Result<SequenceRow, SchemaError> {
    Ok(SequenceRow {
        id: text(row, "sequence_id")?,
        name: row.get("name")?,
        document: row.get("document")?,
        enabled: row.get("enabled")?,
        revision: number(row, "revision")?,
        created: time(row, "created")?,
        changed: time(row, "changed")?,
    })
}

impl Reader<'_> {
    /// All task sequences, oldest first.
    pub fn sequences(&self) -> Result<Vec<SequenceRow>, SchemaError> {
        self.all("SELECT * FROM sequence ORDER BY number", [], sequence)
    }

    /// One task sequence.
    pub fn sequence(&self, id: &PackageId) -> Result<Option<SequenceRow>, SchemaError> {
        self.first("SELECT * FROM sequence WHERE sequence_id = ?1", [id.as_str()], sequence)
    }

    /// Ids and names of the task sequences that refer to something.
    pub fn sequences_with(&self, target: &str) -> Result<Vec<String>, SchemaError> {
        const SQL: &str = "
            SELECT DISTINCT sequence.sequence_id || ' ' || sequence.name AS name
              FROM sequence JOIN sequence_reference USING (sequence_id) WHERE target = ?1 ORDER BY 1";
        self.all(SQL, [target], |row| Ok(row.get("name")?))
    }

    /// The sealed secrets of a task sequence.
    pub fn sequence_secrets(&self, id: &PackageId) -> Result<Vec<SealedRow>, SchemaError> {
        const SQL: &str = "SELECT * FROM sequence_secret WHERE sequence_id = ?1 ORDER BY number";
        self.all(SQL, [id.as_str()], |row| {
            Ok(SealedRow {
                number: number(row, "number")?,
                label: row.get("label")?,
                sealed: row.get("sealed")?,
            })
        })
    }

    /// Numbers of the places in which each task sequence keeps a secret.
    pub fn filled_places(&self) -> Result<HashMap<PackageId, Vec<u32>>, SchemaError> {
        const SQL: &str = "SELECT sequence_id, number FROM sequence_secret";
        let mut filled: HashMap<PackageId, Vec<u32>> = HashMap::new();
        for (id, place) in self.all(SQL, [], |row| Ok((text(row, "sequence_id")?, number(row, "number")?)))? {
            filled.entry(id).or_default().push(place);
        }
        Ok(filled)
    }

    /// Whether a name is free, or belongs to `except` itself.
    pub fn check_sequence_name(&self, name: &str, except: Option<&PackageId>) -> Result<(), SchemaError> {
        free("task sequence", name, except, self.sequences()?.iter().map(|row| (&row.id, &*row.name)))
    }
}

impl Writer<'_> {
    /// The next id of the site; ids of what was deleted are not given again.
    pub fn next_id(&self, site: &SiteCode) -> Result<(PackageId, u32), SchemaError> {
        let number = self.count_id("last_package")?;
        Ok((PackageId::new(site, number), number))
    }

    /// Makes a task sequence under an id that [`Self::next_id`] gave.
    pub fn create_sequence(
        &self,
        (id, number): &(PackageId, u32),
        new: &NewSequence,
        now: Timestamp,
    ) -> Result<(), SchemaError> {
        self.check_sequence_name(&new.name, None)?;
        self.execute(
            "INSERT INTO sequence (sequence_id, number, name, document, enabled, revision, created, changed)
             VALUES (:id, :number, :name, :document, 1, 1, :now, :now)",
            named_params! {
                ":id": id.as_str(), ":number": number, ":name": new.name, ":document": new.document,
                ":now": now.as_millisecond(),
            },
        )?;
        self.refer(id, &new.references)
    }

    /// Replaces the document of a task sequence that still has `revision`: two editors do not overwrite each other.
    pub fn save_sequence(
        &self,
        id: &PackageId,
        revision: u32,
        new: &NewSequence,
        now: Timestamp,
    ) -> Result<(), SchemaError> {
        self.check_sequence_name(&new.name, Some(id))?;
        let changed = self.execute(
            "UPDATE sequence SET name = :name, document = :document, revision = revision + 1, changed = :now
              WHERE sequence_id = :id AND revision = :revision",
            named_params! {
                ":id": id.as_str(), ":revision": revision, ":name": new.name, ":document": new.document,
                ":now": now.as_millisecond(),
            },
        )?;
        if changed == 0 {
            let message = format!("task sequence {id} was changed or deleted meanwhile");
            let problem = Problem::new(Code::TaskSequenceChanged, message);
            return Err(problem.into());
        }
        self.refer(id, &new.references)
    }

    fn refer(&self, id: &PackageId, references: &[ReferenceRow]) -> Result<(), SchemaError> {
        self.execute("DELETE FROM sequence_reference WHERE sequence_id = ?1", [id.as_str()])?;
        for reference in references {
            self.execute(
                "INSERT OR IGNORE INTO sequence_reference (sequence_id, step, kind, target) VALUES (?1, ?2, ?3, ?4)",
                (id.as_str(), reference.step, reference.kind, &reference.target),
            )?;
        }
        Ok(())
    }

    /// Keeps a sealed secret.
    pub fn keep_secret(&self, id: &PackageId, secret: &SealedRow) -> Result<(), SchemaError> {
        self.execute(
            "INSERT OR REPLACE INTO sequence_secret (sequence_id, number, label, sealed) VALUES (?1, ?2, ?3, ?4)",
            (id.as_str(), secret.number, &secret.label, &secret.sealed),
        )?;
        Ok(())
    }

    /// Forgets the secrets of a task sequence that its document no longer names.
    pub fn keep_only_secrets(&self, id: &PackageId, numbers: &[u32]) -> Result<(), SchemaError> {
        for secret in self.sequence_secrets(id)? {
            if !numbers.contains(&secret.number) {
                self.execute(
                    "DELETE FROM sequence_secret WHERE sequence_id = ?1 AND number = ?2",
                    (id.as_str(), secret.number),
                )?;
            }
        }
        Ok(())
    }

    /// Offers the deployments of a task sequence, or does not.
    pub fn enable_sequence(&self, id: &PackageId, enabled: bool) -> Result<(), SchemaError> {
        self.execute("UPDATE sequence SET enabled = ?2 WHERE sequence_id = ?1", (id.as_str(), enabled))?;
        Ok(())
    }

    /// Deletes a task sequence.
    pub fn delete_sequence(&self, id: &PackageId) -> Result<(), SchemaError> {
        self.execute("DELETE FROM sequence WHERE sequence_id = ?1", [id.as_str()])?;
        Ok(())
    }
}
