//! Feature updates as an administrator sees them: which are listed, which can be deployed, and why not the rest.

pub mod offers;
pub mod retention;
pub mod selection;
pub mod supersedence;

use std::collections::BTreeMap;
use std::sync::Arc;

use catalog::feature_update::Shape;
use catalog::id::UpdateId;
use catalog::problem::{Code, Problem};
use schema::licenses::LicenseState;
use schema::updates::{FeatureUpdate, ProductCategory};
use serde::{Deserialize, Serialize};

use crate::admin::{Answer, Caller, Mark, UpdateFilter};
use crate::clock;
use crate::config::Settings;
use crate::find::nobody;
use crate::select::{ALL, Facts, Selection};
use crate::site::Site;
use crate::upstream::esd_catalog::SIGNATURE;

/// Why an update cannot be deployed. Each reason has its stable code, so `spsync explain` knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Nobody has decided about the licence terms.
    Licence,
    /// The licence terms were declined.
    LicenceDeclined,
    /// The administrator declined the update.
    Declined,
    /// No catalog lists it any more.
    Withdrawn,
    /// The file needs a key that only Microsoft's tool can use.
    Encrypted,
    /// Only a SHA-1 is published and the site wants SHA-256.
    Sha1Only,
    /// Neither a file's name nor its title says what it is.
    Unrecognised,
    /// Its publisher has withdrawn it, or it was replaced long ago.
    Expired,
    /// Parts of it, or digests, are not known yet.
    Incomplete,
}

impl Reason {
    /// The code of a refusal for this reason.
    pub fn code(self) -> Code {
        match self {
            Self::Licence => Code::LicenseNotAccepted,
            Self::LicenceDeclined => Code::LicenseDeclined,
            Self::Encrypted => Code::UpdateEncrypted,
            Self::Expired => Code::UpdateExpired,
            Self::Incomplete => Code::UpdateIncomplete,
            Self::Sha1Only => Code::Sha256Required,
            Self::Declined | Self::Withdrawn | Self::Unrecognised => Code::NotDeployable,
        }
    }

    /// The word in the DEPLOYABLE column.
    pub fn word(self) -> &'static str {
        match self {
            Self::Licence => "licence",
            Self::LicenceDeclined => "licence declined",
            Self::Declined => "declined",
            Self::Withdrawn => "withdrawn",
            Self::Encrypted => "encrypted",
            Self::Sha1Only => "SHA-1 only",
            Self::Unrecognised => "unrecognised",
            Self::Expired => "expired",
            Self::Incomplete => "incomplete",
        }
    }
}

/// A feature update with what follows from settings and decisions.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Listed {
    /// The update as recorded.
    #[serde(flatten)]
    pub update: FeatureUpdate,
    /// Whether it can be deployed now.
    pub deployable: bool,
    /// Why not.
    pub reasons: Vec<Reason>,
    /// Why it is hidden by default, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<String>,
    /// Updates that replace it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub superseded_by: Vec<UpdateId>,
    /// Why it is worth more than others of its release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Listed {
    /// That it cannot be deployed, for this reason.
    pub fn refusal(&self, reason: &Reason) -> Problem {
        let message = format!("`{}` cannot be deployed: {}", self.update.title, reason.word());
        let help = reason.code().page().help.replace("ID", &self.update.id.update.short());
        Problem::new(reason.code(), message).help(help)
    }
}

/// What an update is judged by.
pub struct Judge {
    selection: Selection,
    require_sha256: bool,
}

impl Judge {
    /// By these settings. A product may be chosen by its id, which `categories` give a name.
    pub fn new(settings: &Settings, categories: &[ProductCategory]) -> Self {
        let mut selection = settings.selection();
        for product in &mut selection.products {
            if let Ok(id) = product.parse::<UpdateId>()
                && let Some(category) = categories.iter().find(|category| category.id == id)
            {
                product.clone_from(&category.name);
            }
        }
        Self { selection, require_sha256: settings.download.require_sha256 }
    }
}

/// Judges an update. Pure: settings and the row decide.
pub fn judge(update: FeatureUpdate, by: &Judge) -> Listed {
    let mut reasons = Vec::new();
    match update.license {
        LicenseState::Pending => reasons.push(Reason::Licence),
        LicenseState::Declined => reasons.push(Reason::LicenceDeclined),
        LicenseState::None | LicenseState::Accepted => {}
    }
    for (holds, reason) in [
        (update.declined, Reason::Declined),
        (!update.listed, Reason::Withdrawn),
        (update.encrypted, Reason::Encrypted),
        (
            by.require_sha256 && update.files.iter().any(|file| file.digests.sha256.is_none()),
            Reason::Sha1Only,
        ),
        (!update.recognised, Reason::Unrecognised),
        (is_expired(&update), Reason::Expired),
        (update.missing > 0 || update.files.is_empty(), Reason::Incomplete),
    ] {
        if holds {
            reasons.push(reason);
        }
    }
    let hidden = if update.declined {
        Some("declined".to_owned())
    } else if !update.listed {
        Some("withdrawn by their catalogs".to_owned())
    } else if is_expired(&update) {
        Some("expired".to_owned())
    } else {
        by.selection.matches(&facts(&update)).err().map(|reason| reason.to_string())
    };
    Listed {
        deployable: reasons.is_empty(),
        reasons,
        hidden,
        superseded_by: Vec::new(),
        advice: None,
        update,
    }
}

/// Withdrawn by its publisher, or replaced long ago; what is held never is.
fn is_expired(update: &FeatureUpdate) -> bool {
    !update.held && (update.expired || update.expired_at.is_some())
}

/// What the selection looks at.
pub fn facts(update: &FeatureUpdate) -> Facts<'_> {
    Facts {
        classification: &update.classification,
        product: update.product.as_deref(),
        products: &update.products,
        release: update.release.as_deref(),
        language: &update.language,
        architecture: &update.architecture,
        edition_group: update.edition_group.as_deref(),
    }
}

impl UpdateFilter {
    /// Whether devices on the release of the filter can use it. Only enablement packages depend on one.
    fn fits_base(&self, update: &FeatureUpdate) -> bool {
        match &self.base {
            Some(base) if update.shape == Shape::Enablement => {
                update.bases.iter().any(|known| known.eq_ignore_ascii_case(base))
            }
            _ => true,
        }
    }

    pub(crate) fn keeps(&self, update: &FeatureUpdate) -> bool {
        let any = |wanted: &[String], has: Option<&str>| {
            wanted.is_empty()
                || has.is_some_and(|has| {
                    has == ALL || wanted.iter().any(|w| w.eq_ignore_ascii_case(has) || w == ALL)
                })
        };
        let title = update.title.to_lowercase();
        let product = update.product.iter().chain(&update.products);
        (self.products.is_empty() || product.clone().any(|product| any(&self.products, Some(product))))
            && any(&self.releases, update.release.as_deref())
            && any(&self.languages, Some(&update.language))
            && any(&self.architectures, Some(&update.architecture))
            && any(&self.editions, update.edition_group.as_deref())
            && self.words.iter().all(|word| title.contains(&word.to_lowercase()))
    }
}

/// Says of each enablement package what it spares: it switches on what the devices have already, where the image of the
/// same release would replace all of Windows. With `base`, the release that the devices run, only of those that fit it.
fn advise(all: &mut [Listed], base: Option<&str>) {
    let mut images: BTreeMap<(Option<String>, Option<String>, String), u64> = BTreeMap::new();
    let key = |update: &FeatureUpdate| {
        (update.product.clone(), update.release.clone(), update.architecture.clone())
    };
    for update in all.iter().map(|listed| &listed.update).filter(|update| update.shape == Shape::Esd) {
        let smallest = images.entry(key(update)).or_insert(u64::MAX);
        *smallest = update.size.min(*smallest);
    }
    for listed in all.iter_mut().filter(|listed| listed.update.shape == Shape::Enablement) {
        let update = &listed.update;
        let fits = |release: &&String| base.is_none_or(|base| base.eq_ignore_ascii_case(release));
        let bases: Vec<&str> = update.bases.iter().filter(fits).map(String::as_str).collect();
        if bases.is_empty() {
            continue;
        }
        let spared = images.get(&key(update)).map_or_else(String::new, |image| {
            format!(" instead of {}", bytesize::ByteSize(*image).display().iec())
        });
        let size = bytesize::ByteSize(update.size).display().iec();
        listed.advice = Some(format!("for devices that run {}: {size}{spared}", bases.join(", ")));
    }
}

/// A list with what it leaves out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct List {
    /// The rows.
    pub updates: Vec<Listed>,
    /// How many are left out.
    pub hidden: u64,
    /// How many for which reason.
    pub hidden_because: BTreeMap<String, u64>,
    /// Remarks.
    pub notes: Vec<String>,
}

/// Every update of the site, judged.
///
/// # Errors
/// Those of the database.
pub async fn all(site: &Arc<Site>) -> Result<Vec<Listed>, Problem> {
    let settings = site.settings();
    let (rows, edges, categories) =
        site.read(|r| Ok((r.feature_updates()?, r.supersedence()?, r.product_categories()?))).await?;
    let by = Judge::new(&settings, &categories);
    let mut listed: Vec<_> = rows.into_iter().map(|row| judge(row, &by)).collect();
    supersedence::mark(&mut listed, &edges);
    Ok(listed)
}

/// The updates that `filter` keeps, and what is hidden.
///
/// # Errors
/// `UNKNOWN_*` for names that nothing has; those of the database.
pub async fn list(site: &Arc<Site>, filter: &UpdateFilter) -> Result<Answer, Problem> {
    selection::known_filter(site, filter).await?;
    let mut list = List {
        updates: Vec::new(),
        hidden: 0,
        hidden_because: BTreeMap::new(),
        notes: upgrades_off(&site.settings()),
    };
    let mut all = all(site).await?;
    advise(&mut all, filter.base.as_deref());
    for listed in all.into_iter().filter(|listed| filter.keeps(&listed.update)) {
        let other_base = (!filter.fits_base(&listed.update)).then_some("for devices on other releases");
        match listed.hidden.as_deref().or(other_base) {
            Some(reason) if !filter.all => {
                list.hidden += 1;
                *list.hidden_because.entry(reason.to_owned()).or_default() += 1;
            }
            _ => list.updates.push(listed),
        }
    }
    Answer::of(&list)
}

/// The note of a site that does not synchronise Upgrades.
fn upgrades_off(settings: &Settings) -> Vec<String> {
    if settings.selection().has_upgrades() {
        return Vec::new();
    }
    let page = Code::ClassificationNotEnabled.page();
    vec![format!("{}: {}; {}", Code::ClassificationNotEnabled, page.meaning, page.help)]
}

/// How many updates there are of which sort.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Counts {
    /// In the catalog.
    pub total: u64,
    /// Not hidden.
    pub listed: u64,
    /// Listed and deployable.
    pub deployable: u64,
    /// Listed and waiting for a licence decision.
    pub license_pending: u64,
    /// Listed and downloaded.
    pub downloaded: u64,
    /// Hidden.
    pub hidden: u64,
    /// Bytes of what is listed.
    pub listed_bytes: u64,
    /// Remarks.
    pub notes: Vec<String>,
}

/// Counts for `status` and the end of a run.
///
/// # Errors
/// Those of the database.
pub async fn counts(site: &Arc<Site>) -> Result<Counts, Problem> {
    let mut counts = Counts { notes: upgrades_off(&site.settings()), ..Counts::default() };
    for listed in all(site).await? {
        counts.total += 1;
        if listed.hidden.is_some() {
            counts.hidden += 1;
            continue;
        }
        counts.listed += 1;
        counts.listed_bytes = counts.listed_bytes.saturating_add(listed.update.size);
        counts.deployable += u64::from(listed.deployable);
        counts.license_pending += u64::from(listed.update.license == LicenseState::Pending);
        counts.downloaded += u64::from(listed.update.downloaded);
    }
    Ok(counts)
}

/// The one update that `name` means: an id, or the unique beginning of an id or title.
///
/// # Errors
/// `UPDATE_NOT_FOUND` and `AMBIGUOUS`, with candidates.
pub fn named<'a>(name: &str, all: &'a [Listed]) -> Result<&'a Listed, Problem> {
    if let Ok(id) = name.parse::<UpdateId>()
        && let Some(found) = all.iter().find(|listed| listed.update.id.update == id)
    {
        return Ok(found);
    }
    let wanted = name.to_lowercase();
    let exact = |listed: &&Listed| listed.update.title.to_lowercase() == wanted;
    let begins = |listed: &&Listed| {
        !wanted.is_empty()
            && (listed.update.id.update.to_string().starts_with(&wanted)
                || listed.update.title.to_lowercase().starts_with(&wanted)
                || listed.update.file_name.as_str().to_lowercase().starts_with(&wanted))
    };
    let mut found: Vec<_> = all.iter().filter(exact).collect();
    if found.is_empty() {
        found = all.iter().filter(begins).collect();
    }
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(Problem::new(Code::UpdateNotFound, nobody("update", name))),
        several => {
            let mut problem =
                Problem::new(Code::Ambiguous, format!("{} updates are called `{name}…`", several.len()));
            for listed in several.iter().take(8) {
                problem =
                    problem.because(format!("{} {}", listed.update.id.update.short(), listed.update.title));
            }
            if several.len() > 8 {
                problem = problem.because(format!("and {} more", several.len() - 8));
            }
            Err(problem)
        }
    }
}

/// One update with its revisions and where its file can be had.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Shown {
    /// The latest revision.
    #[serde(flatten)]
    pub listed: Listed,
    /// All revisions, oldest first.
    pub revisions: Vec<schema::updates::Revision>,
    /// How far the catalog's origin is proven.
    pub signature: String,
}

/// One update, whole.
///
/// # Errors
/// `UPDATE_NOT_FOUND`, `AMBIGUOUS`, `CLASSIFICATION_NOT_ENABLED` where Upgrades are off.
pub async fn show(site: &Arc<Site>, name: &str) -> Result<Answer, Problem> {
    let all = all(site).await?;
    let listed = named(name, &all).map_err(|problem| with_hint(problem, &site.settings()))?.clone();
    let id = listed.update.id.update;
    let revisions = site.read(move |r| r.revisions(id)).await?;
    Answer::of(&Shown { listed, revisions, signature: SIGNATURE.to_owned() })
}

/// Where Upgrades are off, that is why nothing is found.
pub(crate) fn with_hint(problem: Problem, settings: &Settings) -> Problem {
    if problem.code == Code::UpdateNotFound && !settings.selection().has_upgrades() {
        return problem.help(Code::ClassificationNotEnabled.page().help);
    }
    problem
}

/// Declines, restores or holds updates.
///
/// # Errors
/// `UPDATE_NOT_FOUND`, `AMBIGUOUS`; nothing is changed then.
pub async fn mark(
    site: &Arc<Site>,
    names: &[String],
    mark: Mark,
    caller: &Caller,
) -> Result<Answer, Problem> {
    let all = all(site).await?;
    let chosen: Vec<_> = names.iter().map(|name| named(name, &all)).collect::<Result<_, _>>()?;
    let ids: Vec<UpdateId> = chosen.iter().map(|listed| listed.update.id.update).collect();
    let titles: Vec<String> = chosen.iter().map(|listed| listed.update.title.clone()).collect();
    if !caller.dry_run {
        let who = caller.who.clone();
        site.write(move |w| {
            for id in ids {
                let now = clock::now();
                match mark {
                    Mark::Decline => w.set_declined(id, true, &who, now)?,
                    Mark::Restore => {
                        w.set_declined(id, false, &who, now)?;
                        w.set_held(id, false, &who, now)?;
                    }
                    Mark::Hold => w.set_held(id, true, &who, now)?,
                }
            }
            Ok(())
        })
        .await?;
    }
    Answer::of(&serde_json::json!({ "mark": mark, "updates": titles, "dry_run": caller.dry_run }))
}

/// Takes the updates that a picker may offer out of `all`, with a sentence for each sort that it leaves out.
pub fn pick<'a>(all: &'a [Listed], filter: &UpdateFilter) -> (Vec<&'a Listed>, Vec<String>) {
    let mut picked = Vec::new();
    let mut left_out: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    let offered = |listed: &&Listed| {
        listed.hidden.is_none() && filter.keeps(&listed.update) && filter.fits_base(&listed.update)
    };
    for listed in all.iter().filter(offered) {
        match listed.reasons.first() {
            None => picked.push(listed),
            Some(reason) => left_out.entry(reason.word()).or_default().push(listed.update.id.update.short()),
        }
    }
    let sentences = left_out
        .into_iter()
        .map(|(word, ids)| {
            let shown: Vec<_> = ids.iter().take(8).cloned().collect();
            let more = if ids.len() > shown.len() { ", …" } else { "" };
            format!("{} left out: {word} ({}{more})", ids.len(), shown.join(", "))
        })
        .collect();
    (picked, sentences)
}
