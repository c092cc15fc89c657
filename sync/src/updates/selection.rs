//! What is selected, what could be, and what a change would do before it is made.

use std::sync::Arc;

use catalog::problem::{Code, Problem};
use schema::updates::NamesKnown;
use serde::{Deserialize, Serialize};

use super::{all, facts};
use crate::admin::{Answer, Caller, SelectionChange, UpdateFilter};
use crate::clock;
use crate::config;
use crate::select::{self, KnownNames, Plan, Selection};
use crate::site::Site;

/// The selection beside the names that catalogs know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Selected {
    /// What is selected now.
    pub selection: Selection,
    /// What there is, with counts and bytes.
    pub known: NamesKnown,
    /// Whether something was changed by this request.
    pub changed: bool,
    /// What the change does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
}

/// Shows or changes the selection. A change is written to `selection.toml` in the data directory, where it stands
/// above the configuration files.
///
/// # Errors
/// `UNKNOWN_*` with the nearest names; those of writing.
pub async fn select(site: &Arc<Site>, change: &SelectionChange, caller: &Caller) -> Result<Answer, Problem> {
    let known = site.read(|r| r.names_known()).await?;
    let current = site.settings().selection();
    if change.is_empty() {
        return Answer::of(&Selected { selection: current, known, changed: false, plan: None });
    }
    let wanted = select::validate_change(&current, &change.applied_to(&current), &names(&known))?;
    let plan = planned(site, &current, &wanted).await?;
    if !caller.dry_run {
        let (here, new, who) = (site.clone(), wanted.clone(), caller.who.clone());
        // On the writer's thread: it is one with what is looked at before any change.
        site.write(move |w| {
            w.audit(&who, "sync.select", "", clock::now())?;
            config::write_selection(&here.settings().site.data_dir, &new)?;
            here.reload(here.again()?);
            Ok(())
        })
        .await?;
    }
    Answer::of(&Selected { selection: wanted, known, changed: !caller.dry_run, plan: Some(plan) })
}

/// What a change would list and download; changes nothing.
///
/// # Errors
/// `UNKNOWN_*` with the nearest names; those of the database.
pub async fn plan(site: &Arc<Site>, change: &SelectionChange) -> Result<Answer, Problem> {
    let known = site.read(|r| r.names_known()).await?;
    let current = site.settings().selection();
    let wanted = select::validate_change(&current, &change.applied_to(&current), &names(&known))?;
    Answer::of(&planned(site, &current, &wanted).await?)
}

async fn planned(site: &Arc<Site>, before: &Selection, after: &Selection) -> Result<Plan, Problem> {
    let rows = all(site).await?;
    let offered = rows.iter().filter(|row| row.update.listed && !row.update.declined);
    Ok(select::plan(before, after, offered.map(|row| (facts(&row.update), row.update.size))))
}

fn names(known: &NamesKnown) -> KnownNames {
    let names =
        |counted: &[schema::updates::NameCount]| counted.iter().map(|known| known.name.clone()).collect();
    let mut products: Vec<String> = names(&known.products);
    products.extend(known.categories.iter().map(|category| category.name.clone()));
    products.sort();
    products.dedup();
    KnownNames {
        products,
        product_ids: known.categories.iter().map(|one| (one.id.to_string(), one.name.clone())).collect(),
        releases: names(&known.releases),
        languages: names(&known.languages),
        architectures: names(&known.architectures),
        editions: names(&known.edition_groups),
    }
}

/// Refuses a filter that names something no catalog has: an empty list would look like an answer.
///
/// # Errors
/// `UNKNOWN_*` with the nearest names.
pub async fn known_filter(site: &Arc<Site>, filter: &UpdateFilter) -> Result<(), Problem> {
    let known = site.read(|r| r.names_known()).await?;
    if known.products.is_empty() && known.categories.is_empty() {
        return Ok(()); // never synchronised: the list says so itself
    }
    let asked = Selection {
        classifications: vec!["Upgrades".to_owned()],
        products: filter.products.clone(),
        releases: filter.releases.clone(),
        languages: filter.languages.clone(),
        architectures: filter.architectures.clone(),
        editions: filter.editions.clone(),
    };
    select::validate(&asked, &names(&known)).map(drop)
}

/// Refuses languages that no update is published in, as packages must (mission row M16).
///
/// # Errors
/// `LANGUAGE_REQUIRED`, `LANGUAGE_NOT_AVAILABLE`.
pub async fn known_languages(site: &Arc<Site>, languages: &[String]) -> Result<(), Problem> {
    if site.settings().selection().languages.is_empty() && languages.is_empty() {
        return Err(Problem::new(Code::LanguageRequired, "no language is chosen"));
    }
    let known = site.read(|r| r.names_known()).await?;
    for language in languages.iter().filter(|language| *language != "*") {
        if !known.languages.iter().any(|known| known.name.eq_ignore_ascii_case(language)) {
            let near =
                crate::find::nearest(language, known.languages.iter().map(|known| known.name.as_str()));
            return Err(Problem::new(
                Code::LanguageNotAvailable,
                format!("no update is published in `{language}`"),
            )
            .help(format!("nearest: {}", near.join(", "))));
        }
    }
    Ok(())
}
