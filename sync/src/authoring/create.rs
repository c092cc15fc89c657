//! Making a task sequence: what can be picked, the wizard's rules, and one transaction.

use std::collections::BTreeMap;
use std::sync::Arc;

use catalog::id::PackageId;
use catalog::problem::{Code, Problem};
use schema::sequences::{NewSequence, ReferenceRow, SealedRow};
use serde::{Deserialize, Serialize};

use super::request::{Create, Updates};
use super::secrets::Vault;
use super::surroundings::Known;
use crate::admin::{Answer, Caller, UpdateFilter};
use crate::clock;
use crate::names::{self, Rule};
use crate::sequence::action::{Sealed, UpdateMode};
use crate::sequence::key::ProductKey;
use crate::sequence::lint::{self, Finding};
use crate::sequence::template::{self, Upgrade};
use crate::sequence::{Kind, LONGEST_DESCRIPTION, Sequence};
use crate::site::Site;
use crate::software::{apps, images};
use crate::updates::{self, Reason};

/// What a new task sequence can be made from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Choices {
    /// Feature updates that can be deployed.
    pub feature_updates: Vec<Offered>,
    /// Sentences about those that are left out, with their ids.
    pub hidden: Vec<String>,
    /// OS upgrade packages.
    pub images: Vec<Offered>,
    /// Applications.
    pub apps: Vec<Offered>,
}

/// One thing to pick.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Offered {
    /// Its id.
    pub id: String,
    /// For people.
    pub title: String,
    /// Bytes.
    pub bytes: u64,
}

/// The picker: what can be deployed, and of the rest how many are hidden why (mission row M25).
///
/// # Errors
/// `UNKNOWN_*` for names that nothing has.
pub async fn choices(site: &Arc<Site>, filter: &UpdateFilter) -> Result<Choices, Problem> {
    updates::selection::known_filter(site, filter).await?;
    let known = Known::of(site).await?;
    let (picked, _) = updates::pick(&known.updates, filter);
    let mut hidden: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    for listed in
        known.updates.iter().filter(|listed| listed.hidden.is_none() && filter.keeps(&listed.update))
    {
        if let Some(reason) = listed.reasons.first() {
            hidden.entry(because(*reason)).or_default().push(listed.update.id.update.short());
        }
    }
    let sentence = |(why, mut ids): (&str, Vec<String>)| {
        ids.sort();
        let help = if why == because(Reason::Licence) { "; `spsync license list --pending`" } else { "" };
        format!("{} hidden: {why} ({}){help}", ids.len(), ids.join(", "))
    };
    let update = |listed: &&updates::Listed| Offered {
        id: listed.update.id.update.to_string(),
        title: listed.update.title.clone(),
        bytes: listed.update.size,
    };
    Ok(Choices {
        feature_updates: picked.iter().map(update).collect(),
        hidden: hidden.into_iter().map(sentence).collect(),
        images: known
            .images
            .iter()
            .map(|row| Offered { id: row.id.to_string(), title: row.name.clone(), bytes: row.size })
            .collect(),
        apps: known
            .apps
            .iter()
            .filter(|row| apps::is_usable(row))
            .map(|row| Offered {
                id: row.id.to_string(),
                title: row.name.clone(),
                bytes: row.files.iter().map(|file| file.size).fold(0, u64::saturating_add),
            })
            .collect(),
    })
}

fn because(reason: Reason) -> &'static str {
    match reason {
        Reason::Licence => "licence terms not accepted",
        Reason::LicenceDeclined => "licence terms declined",
        other => other.word(),
    }
}

/// What was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Created {
    /// Its id; `None` where nothing was changed.
    pub id: Option<PackageId>,
    /// Its name.
    pub name: String,
    /// Steps in it.
    pub steps: usize,
    /// Groups in it.
    pub groups: usize,
    /// The edition that is installed, of an image.
    pub edition: Option<String>,
    /// What may be told of the product key; `no key` without one.
    pub product_key: String,
    /// Warnings.
    pub findings: Vec<Finding>,
    /// The document.
    pub document: String,
    /// Nothing was changed.
    pub dry_run: bool,
}

/// Makes a task sequence in one transaction, or refuses and leaves nothing behind.
///
/// # Errors
/// `NAME_*`, `DESCRIPTION_TOO_LONG`, `UPGRADE_SOURCE_INVALID`, `FEATURE_NOT_IN_RELEASE`, `OS_UPGRADE_PACKAGE_REQUIRED`,
/// those of names, `PRODUCT_KEY_FORMAT`, `EDITION_INDEX_INVALID`, `CHOICE_REQUIRED`, and what lint finds.
pub async fn create(site: &Arc<Site>, wanted: Create, caller: &Caller) -> Result<Answer, Problem> {
    let name = names::checked("a task sequence", &wanted.name, Rule::Shown)?;
    if wanted.description.chars().count() > LONGEST_DESCRIPTION {
        let message = format!("the description has more than {LONGEST_DESCRIPTION} characters");
        return Err(Problem::new(Code::DescriptionTooLong, message));
    }
    let known = Known::of(site).await?;
    let key = match &wanted.product_key {
        Some(text) if !text.reveal().trim().is_empty() => Some(ProductKey::parse(text, wanted.encoded_key)?),
        _ => None,
    };
    let (sequence, edition) = match wanted.upgrade {
        true => upgrade(site, &known, &wanted, name.clone(), key.is_some()).await?,
        false => (empty(&wanted, &name)?, None),
    };
    let mut findings = lint::lint(&sequence, &known.surroundings);
    if wanted.strict {
        findings = lint::strict(findings);
    }
    lint::refuse_errors(&findings)?;
    let (steps, groups) = sequence.counts();
    let document = sequence.checked_text()?;
    let vault = key.as_ref().map(|_| Vault::of(&site.settings().site.data_dir)).transpose()?;
    let secret = key.as_ref().map(|key| key.secret.clone());
    let label = key.as_ref().map_or("no key", |key| key.kind.word());
    let new = recorded(&sequence, document.clone());
    let id = if caller.dry_run {
        site.read(move |r| r.check_sequence_name(&new.name, None)).await?;
        None
    } else {
        let (code, who) = (site.code().clone(), caller.who.clone());
        let id = site
            .write(move |w| {
                let id = w.next_id(&code)?;
                w.create_sequence(&id, &new, clock::now())?;
                if let (Some(vault), Some(secret)) = (vault, secret) {
                    let sealed = vault.seal(&id.0, KEY_PLACE, &secret)?;
                    w.keep_secret(&id.0, &SealedRow { number: KEY_PLACE, label: label.to_owned(), sealed })?;
                }
                w.audit(&who, "ts.create", id.0.as_str(), clock::now())?;
                Ok(id.0)
            })
            .await?;
        Some(id)
    };
    if let Some(id) = &id {
        findings = lint::about(findings, id);
    }
    Answer::of(&Created {
        id,
        name,
        steps,
        groups,
        edition,
        product_key: label.to_owned(),
        findings,
        document,
        dry_run: caller.dry_run,
    })
}

/// Where the key of a new task sequence is kept.
const KEY_PLACE: u32 = 1;

/// A custom task sequence begins with nothing.
fn empty(wanted: &Create, name: &str) -> Result<Sequence, Problem> {
    let more = !wanted.feature_updates.is_empty()
        || wanted.image.is_some()
        || wanted.index.is_some()
        || wanted.product_key.is_some()
        || !wanted.apps.is_empty()
        || wanted.updates != Updates::None
        || wanted.ignore_dismissable;
    if more {
        let message =
            "these options belong to `--upgrade`; without it the task sequence begins without steps";
        return Err(Problem::new(Code::ConflictingOptions, message).help("add `--upgrade`"));
    }
    Ok(Sequence::empty(name, wanted.description.trim(), Kind::Custom))
}

async fn upgrade(
    site: &Arc<Site>,
    known: &Known,
    wanted: &Create,
    name: String,
    key: bool,
) -> Result<(Sequence, Option<String>), Problem> {
    let release = known.surroundings.release;
    if wanted.apps.len() > 1 && wanted.continue_on_app_error.is_none() && wanted.strict {
        let message = format!("{} applications: say whether to go on when one fails", wanted.apps.len());
        return Err(Problem::new(Code::ChoiceRequired, message));
    }
    let mut template = Upgrade {
        name,
        description: wanted.description.trim().to_owned(),
        ignore_dismissable: wanted.ignore_dismissable,
        updates: match wanted.updates {
            Updates::All => Some(UpdateMode::All),
            Updates::Required => Some(UpdateMode::Mandatory),
            Updates::None => None,
        },
        continue_on_app_error: wanted.continue_on_app_error.unwrap_or_default(),
        ..Upgrade::default()
    };
    let mut edition = None;
    match (&wanted.image, wanted.feature_updates.is_empty()) {
        (Some(_), false) => {
            let message = "an upgrade has feature updates or an OS upgrade package, not both";
            return Err(Problem::new(Code::UpgradeSourceInvalid, message));
        }
        (None, true) => return Err(nothing_chosen(site).await?),
        (None, false) => {
            release.allows_feature_updates_alone()?;
            if wanted.index.is_some() || key {
                let message = "edition index and product key belong to an OS upgrade package";
                return Err(Problem::new(Code::ConflictingOptions, message).help("leave them out"));
            }
            template.feature_updates = known.feature_updates(site, &wanted.feature_updates).await?;
            template.server = template
                .feature_updates
                .iter()
                .any(|id| known.surroundings.updates.get(id).is_some_and(|u| u.server));
        }
        (Some(image), true) => {
            let row = known.image(image)?;
            let chosen = images::edition(row, wanted.index)?;
            edition = Some(images::edition_words(chosen));
            template.edition_index = Some(chosen.index);
            template.image = Some(row.id.clone());
            template.server = images::is_server(&row.info);
            template.product_key = key.then(|| Sealed::numbered(KEY_PLACE));
        }
    }
    template.applications = known.applications(&wanted.apps)?;
    Ok((template::upgrade(template), edition))
}

/// Nothing was named: what could be is the most useful answer.
async fn nothing_chosen(site: &Arc<Site>) -> Result<Problem, Problem> {
    let choices = choices(site, &UpdateFilter::default()).await?;
    let message = "an upgrade needs a feature update or an OS upgrade package";
    let mut problem = Problem::new(Code::UpgradeSourceInvalid, message);
    for hidden in &choices.hidden {
        problem = problem.because(hidden.clone());
    }
    let offered = choices.feature_updates.len() + choices.images.len();
    Ok(problem.because(format!("{offered} can be picked: `spsync ts create --choices`")))
}

/// A sequence as it is recorded.
pub fn recorded(sequence: &Sequence, document: String) -> NewSequence {
    let references = sequence.references().into_iter().map(|reference| ReferenceRow {
        step: u32::try_from(reference.step).unwrap_or(u32::MAX),
        kind: reference.target.kind(),
        target: reference.target.id(),
    });
    NewSequence { name: sequence.name.clone(), document, references: references.collect() }
}
