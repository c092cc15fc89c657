//! What the site knows, in the form in which task sequences are judged, and names made into ids.

use std::collections::HashMap;
use std::sync::Arc;

use catalog::id::{PackageId, UpdateId};
use catalog::problem::{Code, Problem};
use schema::sequences::SequenceRow;
use schema::software::{AppRow, ImageRow};

use crate::find::one;
use crate::sequence::Sequence;
use crate::sequence::action::OsType;
use crate::sequence::choose::Candidate;
use crate::sequence::lint::{self, AppFacts, Finding, ImageFacts, Surroundings, UpdateFacts};
use crate::site::Site;
use crate::software::{apps, images};
use crate::updates::{self, Listed};

/// Everything that a task sequence can refer to.
pub struct Known {
    /// Feature updates.
    pub updates: Vec<Listed>,
    /// OS upgrade packages.
    pub images: Vec<ImageRow>,
    /// Applications.
    pub apps: Vec<AppRow>,
    /// The same, as task sequences are judged by it.
    pub surroundings: Surroundings,
    /// The places of secrets that are filled.
    filled: HashMap<PackageId, Vec<u32>>,
}

impl Known {
    /// What the site knows now.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn of(site: &Arc<Site>) -> Result<Self, Problem> {
        let updates = updates::all(site).await?;
        let (images, apps, run, filled) =
            site.read(|r| Ok((r.images()?, r.apps()?, r.last_ok_run()?, r.filled_places()?))).await?;
        let mut surroundings = Surroundings {
            release: site.settings().site.release,
            synchronised: run.is_some(),
            ..Surroundings::default()
        };
        for listed in &updates {
            let reason = listed.reasons.first().map(|reason| (reason.code(), reason.word().to_owned()));
            let facts = UpdateFacts {
                title: listed.update.title.clone(),
                server: os_type(listed) == OsType::Server,
                undeployable: reason,
            };
            surroundings.updates.insert(listed.update.id.update, facts);
        }
        for row in &images {
            let facts = ImageFacts {
                name: row.name.clone(),
                server: images::is_server(&row.info),
                indexes: images::editions(&row.info).iter().map(|image| image.index).collect(),
                boot: images::is_boot(&row.info),
            };
            surroundings.images.insert(row.id.clone(), facts);
        }
        for row in &apps {
            let usable = apps::is_usable(row);
            surroundings.apps.insert(row.id.clone(), AppFacts { name: row.name.clone(), usable });
        }
        Ok(Self { updates, images, apps, surroundings, filled })
    }

    /// Everything that is found in a task sequence of the site, with advice that names it.
    pub fn findings(&self, id: &PackageId, sequence: &Sequence) -> Vec<Finding> {
        lint::about(self.findings_with(id, sequence, None), id)
    }

    /// The same where a secret is about to be kept in this place too, with advice for whichever it is.
    pub fn findings_with(&self, id: &PackageId, sequence: &Sequence, new: Option<u32>) -> Vec<Finding> {
        let mut filled = self.filled.get(id).cloned().unwrap_or_default();
        filled.extend(new);
        let mut findings = lint::lint(sequence, &self.surroundings);
        findings.extend(lint::unfilled(sequence, &filled));
        findings
    }

    /// Whether this is a boot image of the site.
    pub fn starts_from(&self, id: &PackageId) -> bool {
        self.surroundings.images.get(id).is_some_and(|image| image.boot)
    }

    /// Feature updates by id or title, in the order given; each must be deployable.
    ///
    /// # Errors
    /// `UPDATE_NOT_FOUND`, `NOT_A_FEATURE_UPDATE`, `LICENSE_NOT_ACCEPTED` and the like.
    pub async fn feature_updates(
        &self,
        site: &Arc<Site>,
        names: &[String],
    ) -> Result<Vec<UpdateId>, Problem> {
        let mut chosen = Vec::new();
        for name in names {
            let listed = match updates::named(name, &self.updates) {
                Ok(listed) => listed,
                Err(problem) => return Err(other_classification(site, name, problem).await?),
            };
            let id = listed.update.id.update;
            if let Some(reason) = listed.reasons.first() {
                return Err(listed.refusal(reason));
            }
            if !chosen.contains(&id) {
                chosen.push(id);
            }
        }
        Ok(chosen)
    }

    /// An OS upgrade package by id or name.
    ///
    /// # Errors
    /// `PREREQUISITE_MISSING` where the site has none at all; `OS_UPGRADE_PACKAGE_NOT_FOUND`, `AMBIGUOUS`.
    pub fn image(&self, name: &str) -> Result<&ImageRow, Problem> {
        if self.images.is_empty() {
            let message = format!("the site has no OS upgrade package, so none is called `{name}`");
            return Err(Problem::new(Code::PrerequisiteMissing, message));
        }
        one(
            name,
            &self.images,
            |row| (&row.id, &row.name),
            Code::OsUpgradePackageNotFound,
            "OS upgrade package",
        )
    }

    /// Applications by id or name, in the order given.
    ///
    /// # Errors
    /// `APPLICATION_NOT_FOUND`, `APPLICATION_DISABLED`, `AMBIGUOUS`.
    pub fn applications(&self, names: &[String]) -> Result<Vec<PackageId>, Problem> {
        let mut chosen = Vec::new();
        for name in names {
            let row =
                one(name, &self.apps, |row| (&row.id, &row.name), Code::ApplicationNotFound, "application")?;
            if !apps::is_usable(row) {
                let message = format!("application `{}` is disabled or retired", row.name);
                return Err(Problem::new(Code::ApplicationDisabled, message));
            }
            chosen.push(row.id.clone());
        }
        Ok(chosen)
    }

    /// A feature update as the choice of a device sees it.
    pub fn candidate(&self, id: &UpdateId) -> Option<Candidate> {
        let listed = self.updates.iter().find(|listed| listed.update.id.update == *id)?;
        let update = &listed.update;
        let build = update.build.as_ref().and_then(|build| {
            let (major, minor) = build.split_once('.')?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        });
        Some(Candidate {
            id: *id,
            title: update.title.clone(),
            os_type: os_type(listed),
            build,
            architecture: update.architecture.clone(),
            language: update.language.clone(),
            editions: update.editions.clone(),
            shape: update.shape,
            bases: update.bases.clone(),
            superseded_by: listed.superseded_by.clone(),
            undeployable: listed.reasons.first().map(|reason| reason.word().to_owned()),
        })
    }
}

/// An update that the site knows and that is no feature update deserves a better answer than "not found".
async fn other_classification(site: &Arc<Site>, name: &str, problem: Problem) -> Result<Problem, Problem> {
    if problem.code == Code::UpdateNotFound
        && let Ok(id) = name.parse::<UpdateId>()
        && site.read(move |r| r.metadata_has(id)).await?
    {
        return Ok(Problem::new(Code::NotAFeatureUpdate, format!("`{name}` is known and no feature update")));
    }
    Ok(updates::with_hint(problem, &site.settings()))
}

fn os_type(listed: &Listed) -> OsType {
    let product = listed.update.product.iter().chain(&listed.update.products);
    let server = product.clone().any(|product| product.to_lowercase().contains("server"));
    if server { OsType::Server } else { OsType::Client }
}

/// The task sequence that `name` means.
///
/// # Errors
/// `TASK_SEQUENCE_NOT_FOUND`, `AMBIGUOUS`.
pub async fn sequence(site: &Arc<Site>, name: &str) -> Result<SequenceRow, Problem> {
    let all = site.read(|r| r.sequences()).await?;
    one(name, &all, |row| (&row.id, &row.name), Code::TaskSequenceNotFound, "task sequence").cloned()
}
