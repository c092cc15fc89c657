//! Deployments: task sequences offered to collections, at once or in phases.

use catalog::id::{PackageId, SiteCode};
use catalog::problem::Problem;
use jiff::Timestamp;
use rusqlite::{Row, named_params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::column::{json, text, time, time_or_none, to_json};
use crate::{Reader, SchemaError, Writer, words};

words! {
    /// Whether it is done by itself.
    Purpose {
        /// A user may start it.
        Available = "available",
        /// It runs at its deadline.
        Required = "required",
    }
}

words! {
    /// Whether what a deployment needs is there.
    ContentState {
        /// On distribution points, or in the library and not to be sent anywhere.
        Ready = "ready",
        /// It is being downloaded or sent.
        Pending = "pending",
        /// The last try failed.
        Failed = "failed",
        /// No package: peers, then the upstream.
        None = "none",
    }
}

/// A deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeploymentRow {
    /// `XYZ20001`.
    pub id: PackageId,
    /// The task sequence.
    pub sequence: PackageId,
    /// Name of the collection.
    pub collection: String,
    /// Whether it is done by itself.
    pub purpose: Purpose,
    /// From when it is offered.
    pub available: Timestamp,
    /// When it runs by itself.
    pub deadline: Option<Timestamp>,
    /// Until when it is offered.
    pub expires: Option<Timestamp>,
    /// What else was chosen.
    pub options: Value,
    /// The package that was filled for it.
    pub package: Option<PackageId>,
    /// Whether its content is there.
    pub content: ContentState,
    /// Points and groups that the package is sent to.
    pub places: Vec<String>,
    /// Why its content is not there.
    pub problem: Option<Problem>,
    /// Since when it is not offered any more.
    pub stopped: Option<Timestamp>,
    /// When it was made.
    pub created: Timestamp,
    /// By whom.
    pub created_by: String,
}

/// A phased deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhasedRow {
    /// Unique, without regard to case.
    pub name: String,
    /// The task sequence.
    pub sequence: PackageId,
    /// What is chosen for each of its deployments.
    pub options: Value,
    /// Its phases.
    pub plan: Value,
    /// Why a phase did not begin.
    pub problem: Option<Problem>,
    /// When it was made.
    pub created: Timestamp,
    /// By whom.
    pub created_by: String,
}

const DEPLOYMENTS: &str = "
    SELECT d.*, c.name AS collection FROM deployment AS d JOIN collection AS c USING (collection_id)";

fn deployment(row: &Row<'_>) -> Result<DeploymentRow, SchemaError> {
    let package: Option<String> = row.get("package_id")?;
    let package = package.map(|id| id.parse()).transpose();
    Ok(DeploymentRow {
        id: text(row, "deployment_id")?,
        sequence: text(row, "sequence_id")?,
        collection: row.get("collection")?,
        purpose: text(row, "purpose")?,
        available: time(row, "available")?,
        deadline: time_or_none(row, "deadline")?,
        expires: time_or_none(row, "expires")?,
        options: json(row, "options")?.unwrap_or_default(),
        package: package.map_err(|_| SchemaError::Value("package_id".to_owned()))?,
        content: text(row, "content")?,
        places: json(row, "places")?.unwrap_or_default(),
        problem: json(row, "problem")?,
        stopped: time_or_none(row, "stopped")?,
        created: time(row, "created")?,
        created_by: row.get("created_by")?,
    })
}

fn phased(row: &Row<'_>) -> Result<PhasedRow, SchemaError> {
    Ok(PhasedRow {
        name: row.get("name")?,
        sequence: text(row, "sequence_id")?,
        options: json(row, "options")?.unwrap_or_default(),
        plan: json(row, "plan")?.unwrap_or_default(),
        problem: json(row, "problem")?,
        created: time(row, "created")?,
        created_by: row.get("created_by")?,
    })
}

impl Reader<'_> {
    /// All deployments, oldest first.
    pub fn deployments(&self) -> Result<Vec<DeploymentRow>, SchemaError> {
        self.all(&format!("{DEPLOYMENTS} ORDER BY d.number"), [], deployment)
    }

    /// One deployment.
    pub fn deployment(&self, id: &PackageId) -> Result<Option<DeploymentRow>, SchemaError> {
        self.first(&format!("{DEPLOYMENTS} WHERE d.deployment_id = ?1"), [id.as_str()], deployment)
    }

    /// Ids of the deployments of a task sequence, and names of its phased ones.
    pub fn deployments_of(&self, sequence: &PackageId) -> Result<Vec<String>, SchemaError> {
        const SQL: &str = "
            SELECT deployment_id AS name FROM deployment WHERE sequence_id = ?1
             UNION ALL SELECT name FROM phased WHERE sequence_id = ?1 ORDER BY 1";
        self.all(SQL, [sequence.as_str()], |row| Ok(row.get("name")?))
    }

    /// All phased deployments, oldest first.
    pub fn phased(&self) -> Result<Vec<PhasedRow>, SchemaError> {
        self.all("SELECT * FROM phased ORDER BY phased_id", [], phased)
    }

    /// One phased deployment.
    pub fn phased_named(&self, name: &str) -> Result<Option<PhasedRow>, SchemaError> {
        self.first("SELECT * FROM phased WHERE name = ?1", [name.trim()], phased)
    }
}

impl Writer<'_> {
    /// The next id of a deployment: the site code, `2`, and four digits. Ids of what was deleted are not given again.
    pub fn next_deployment_id(&self, site: &SiteCode) -> Result<(PackageId, u32), SchemaError> {
        const FIRST: u32 = 0x2_0000;
        let number = self.count_id("last_deployment")?;
        if number >= 0x1_0000 {
            return Err(SchemaError::Value("last_deployment".to_owned()));
        }
        Ok((PackageId::new(site, FIRST + number), number))
    }

    /// Makes a deployment under an id that [`Self::next_deployment_id`] gave.
    pub fn create_deployment(&self, number: u32, new: &DeploymentRow) -> Result<(), SchemaError> {
        self.execute(
            "INSERT INTO deployment (deployment_id, number, sequence_id, collection_id, purpose, available, deadline,
                expires, options, package_id, content, places, created, created_by)
             VALUES (:id, :number, :sequence, (SELECT collection_id FROM collection WHERE name = :collection), :purpose,
                :available, :deadline, :expires, :options, :package, :content, :places, :created, :created_by)",
            named_params! {
                ":id": new.id.as_str(), ":number": number, ":sequence": new.sequence.as_str(),
                ":collection": new.collection, ":purpose": new.purpose.to_string(),
                ":available": new.available.as_millisecond(), ":deadline": new.deadline.map(|t| t.as_millisecond()),
                ":expires": new.expires.map(|t| t.as_millisecond()), ":options": to_json(&new.options)?,
                ":package": new.package.as_ref().map(PackageId::as_str), ":content": new.content.to_string(),
                ":places": to_json(&new.places)?, ":created": new.created.as_millisecond(),
                ":created_by": new.created_by,
            },
        )?;
        Ok(())
    }

    /// Changes times and options of a deployment, and nothing else of it; whether it is there and offered.
    pub fn change_deployment(&self, row: &DeploymentRow) -> Result<bool, SchemaError> {
        let changed = self.execute(
            "UPDATE deployment SET available = :available, deadline = :deadline, expires = :expires, options = :options
              WHERE deployment_id = :id AND stopped IS NULL",
            named_params! {
                ":id": row.id.as_str(), ":available": row.available.as_millisecond(),
                ":deadline": row.deadline.map(|t| t.as_millisecond()), ":expires": row.expires.map(|t| t.as_millisecond()),
                ":options": to_json(&row.options)?,
            },
        )?;
        Ok(changed > 0)
    }

    /// It is not offered any more; whether it was until now.
    pub fn stop_deployment(&self, id: &PackageId, now: Timestamp) -> Result<bool, SchemaError> {
        let stopped = self.execute(
            "UPDATE deployment SET stopped = ?2 WHERE deployment_id = ?1 AND stopped IS NULL",
            (id.as_str(), now.as_millisecond()),
        )?;
        Ok(stopped > 0)
    }

    /// How the content of a deployment is doing.
    pub fn set_deployment_content(
        &self,
        id: &PackageId,
        content: ContentState,
        problem: Option<&Problem>,
    ) -> Result<(), SchemaError> {
        self.execute(
            "UPDATE deployment SET content = ?2, problem = ?3 WHERE deployment_id = ?1",
            (id.as_str(), content.to_string(), problem.map(to_json).transpose()?),
        )?;
        Ok(())
    }

    /// Deletes a deployment and how far devices were with it.
    pub fn delete_deployment(&self, id: &PackageId) -> Result<(), SchemaError> {
        self.execute("DELETE FROM deployment WHERE deployment_id = ?1", [id.as_str()])?;
        Ok(())
    }

    /// Makes a phased deployment.
    pub fn create_phased(&self, row: &PhasedRow) -> Result<(), SchemaError> {
        self.execute(
            "INSERT INTO phased (name, sequence_id, options, plan, problem, created, created_by)
             VALUES (:name, :sequence, :options, :plan, :problem, :created, :created_by)",
            named_params! {
                ":name": row.name, ":sequence": row.sequence.as_str(), ":options": to_json(&row.options)?,
                ":plan": to_json(&row.plan)?, ":problem": row.problem.as_ref().map(to_json).transpose()?,
                ":created": row.created.as_millisecond(), ":created_by": row.created_by,
            },
        )?;
        Ok(())
    }

    /// Makes `after` of the plan of a phased deployment that is still what it was `before`; whether it was. Who decided on what
    /// was read earlier undoes nothing that came in between.
    pub fn change_phased(&self, before: &PhasedRow, after: &PhasedRow) -> Result<bool, SchemaError> {
        if self.phased_named(&before.name)?.as_ref() != Some(before) {
            return Ok(false);
        }
        let changed = self.execute(
            "UPDATE phased SET options = :options, plan = :plan, problem = :problem WHERE name = :name",
            named_params! {
                ":name": before.name, ":options": to_json(&after.options)?, ":plan": to_json(&after.plan)?,
                ":problem": after.problem.as_ref().map(to_json).transpose()?,
            },
        )?;
        Ok(changed > 0)
    }

    /// Deletes a phased deployment; the deployments that it made stay.
    pub fn delete_phased(&self, name: &str) -> Result<(), SchemaError> {
        self.execute("DELETE FROM phased WHERE name = ?1", [name])?;
        Ok(())
    }
}

impl Reader<'_> {
    /// Updates that deployments refer to which are not stopped: by task sequences, and beside them.
    pub fn deployed_updates(&self) -> Result<Vec<catalog::id::UpdateId>, SchemaError> {
        const SQL: &str = "
            SELECT DISTINCT r.target FROM sequence_reference AS r JOIN deployment AS d USING (sequence_id)
             WHERE r.kind = 'feature-update' AND d.stopped IS NULL ORDER BY 1";
        const BESIDE: &str = "
            SELECT DISTINCT m.update_id FROM update_deployment_member AS m JOIN update_deployment AS d USING (deployment_id)
             WHERE d.stopped IS NULL ORDER BY 1";
        let mut all: Vec<catalog::id::UpdateId> = self.all(SQL, [], |row| text(row, "target"))?;
        let beside = self.all(BESIDE, [], |row| crate::column::update(row, "update_id"))?;
        all.extend(beside.into_iter().filter(|id| !all.contains(id)).collect::<Vec<_>>());
        Ok(all)
    }

    /// Verified content by what was published of it.
    pub fn stored_files(
        &self,
    ) -> Result<Vec<(catalog::digest::Digests, catalog::digest::Sha256Digest)>, SchemaError> {
        self.all(
            "SELECT sha1, sha256, content FROM file WHERE content IS NOT NULL ORDER BY file_id",
            [],
            |row| Ok((crate::column::digests(row)?, crate::column::sha256(row, "content")?)),
        )
    }
}
