//! Changing a task sequence. A change that breaks what was whole is refused; what was broken before does not stand in
//! the way of mending something else. One that is deployed is judged for whom it reaches (`deploying/standing.rs`).

use std::sync::Arc;

use catalog::id::PackageId;
use catalog::problem::{Code, Problem};
use schema::sequences::{SealedRow, SequenceRow};
use toml::{Table, Value};

use super::create::recorded;
use super::request::StepSet;
use super::secrets::Vault;
use super::show;
use super::surroundings::{Known, sequence};
use crate::admin::{Answer, Caller};
use crate::clock;
use crate::deploying::{self, standing};
use crate::names::{self, Rule};
use crate::sequence::action::Sealed;
use crate::sequence::edit::{self, Place};
use crate::sequence::key::{HiddenText, ProductKey};
use crate::sequence::lint::{self, Finding, Severity};
use crate::sequence::{Action, Node, Sequence};
use crate::site::Site;

/// A secret for a new place.
struct NewSecret {
    number: u32,
    label: &'static str,
    secret: HiddenText,
}

/// Saves `changed` in place of `row`; `confirmed`: whoever it reaches is meant.
async fn save(
    site: &Arc<Site>,
    row: &SequenceRow,
    changed: &Sequence,
    secret: Option<NewSecret>,
    confirmed: bool,
    caller: &Caller,
) -> Result<Answer, Problem> {
    let known = Known::of(site).await?;
    let there = Sequence::parse(&row.document)?;
    let before = known.findings_with(&row.id, &there, None);
    let after = known.findings_with(&row.id, changed, secret.as_ref().map(|new| new.number));
    let count = |findings: &[Finding], code: Code| {
        findings.iter().filter(|one| one.code == code && one.severity == Severity::Error).count()
    };
    let is_new = |finding: &&Finding| count(&after, finding.code) > count(&before, finding.code);
    lint::refuse_errors(after.iter().filter(is_new))?;
    let document = changed.checked_text()?;
    let new = recorded(changed, document.clone());
    let judged = standing::judge(site, &row.id, &there, changed, confirmed).await?;
    if caller.dry_run {
        let lines = crate::sequence::diff::changes(&row.document, &document);
        return Answer::of(
            &serde_json::json!({ "id": row.id, "would_change": lines, "findings": after, "dry_run": true }),
        );
    }
    let vault = secret.as_ref().map(|_| Vault::of(&site.settings().site.data_dir)).transpose()?;
    let (id, revision, who) = (row.id.clone(), row.revision, caller.who.clone());
    let kept = sealed_places(changed);
    site.write(move |w| {
        w.save_sequence(&id, revision, &new, clock::now())?;
        judged.record(w, &who, clock::now())?;
        if let (Some(vault), Some(new)) = (vault, secret) {
            let sealed = vault.seal(&id, new.number, &new.secret)?;
            w.keep_secret(&id, &SealedRow { number: new.number, label: new.label.to_owned(), sealed })?;
        }
        w.keep_only_secrets(&id, &kept)?;
        w.audit(&who, "ts.change", id.as_str(), clock::now())
    })
    .await?;
    // Where it is deployed, other content may be served now.
    site.refresh_shelf().await?;
    let notes = deploying::notes_of(site, std::slice::from_ref(&row.id)).await?;
    Answer::of(&show::Shown { notes, ..show::one(site, &row.id).await? })
}

/// The places of secrets that a sequence names.
pub(super) fn sealed_places(sequence: &Sequence) -> Vec<u32> {
    let place = |at: crate::sequence::walk::StepAt<'_>| match &at.step.action {
        Action::UpgradeOs(upgrade) => upgrade.product_key.as_ref().map(Sealed::number),
        Action::SetVariable(set) => set.hidden_value.as_ref().map(Sealed::number),
        _ => None,
    };
    sequence.steps().into_iter().filter_map(place).collect()
}

/// A place that nothing has. Places are not used again while the sequence names them.
fn free_place(sequence: &Sequence) -> u32 {
    sealed_places(sequence).into_iter().max().unwrap_or_default() + 1
}

/// Replaces the whole document. It may name only places of secrets that are filled, or that it named before.
///
/// # Errors
/// `TASK_SEQUENCE_CHANGED`, `TASK_SEQUENCE_INVALID`, `TASK_SEQUENCE_TOO_LARGE`, what lint finds anew, `HIGH_RISK_*`.
pub async fn replace(
    site: &Arc<Site>,
    name: &str,
    revision: u32,
    document: &str,
    confirmed: bool,
    caller: &Caller,
) -> Result<Answer, Problem> {
    let row = sequence(site, name).await?;
    if row.revision != revision {
        let message = format!("task sequence {} was changed meanwhile", row.id);
        return Err(Problem::new(Code::TaskSequenceChanged, message));
    }
    let mut changed = Sequence::parse(document)?;
    changed.name = names::checked("a task sequence", &changed.name, Rule::Shown)?;
    let id = row.id.clone();
    let filled = site.read(move |r| r.sequence_secrets(&id)).await?;
    // One that an import left empty is named already: whoever mends something else gives it later.
    let named = sealed_places(&Sequence::parse(&row.document)?);
    let empty =
        |number: &u32| !filled.iter().any(|secret| secret.number == *number) && !named.contains(number);
    if let Some(number) = sealed_places(&changed).into_iter().find(empty) {
        let message = format!("the document names `sealed-{number}`, and no secret is kept there");
        return Err(Problem::new(Code::TaskSequenceInvalid, message)
            .help("use `--product-key-file` or `--value-file` of `spsync ts step set`"));
    }
    save(site, &row, &changed, None, confirmed, caller).await
}

/// Changes what belongs to no step; an empty value is the default.
///
/// # Errors
/// `TASK_SEQUENCE_INVALID`, `OS_UPGRADE_PACKAGE_NOT_FOUND`, `BOOT_IMAGE_MISSING` for an image that is none, what lint finds
/// anew.
pub async fn set(
    site: &Arc<Site>,
    name: &str,
    changes: &[(String, String)],
    caller: &Caller,
) -> Result<Answer, Problem> {
    let row = sequence(site, name).await?;
    let mut changed = Sequence::parse(&row.document)?;
    for (key, value) in changes {
        match (key.as_str(), value.trim()) {
            ("boot_image", "") => changed.boot_image = None,
            ("boot_image", value) => {
                let known = Known::of(site).await?;
                let image = known.image(value)?;
                if !crate::software::images::is_boot(&image.info) {
                    let message = format!("`{}` holds no Windows PE to start", image.name);
                    return Err(Problem::new(Code::BootImageMissing, message)
                        .help("`spsync image add PATH --name N --boot` adds one"));
                }
                changed.boot_image = Some(image.id.clone());
            }
            ("max_runtime", "") => changed.max_runtime = crate::sequence::DEFAULT_RUNTIME,
            ("max_runtime", value) => {
                let minutes = value.parse().ok().filter(|minutes| *minutes <= 43_200);
                changed.max_runtime = minutes.ok_or_else(|| {
                    Problem::new(
                        Code::TaskSequenceInvalid,
                        "`max_runtime` is no number of minutes up to 43200",
                    )
                })?;
            }
            ("description", value) => value.clone_into(&mut changed.description),
            _ => {
                let message = format!("a task sequence has no setting `{key}`");
                return Err(Problem::new(Code::TaskSequenceInvalid, message)
                    .help("use boot_image, max_runtime or description; steps have `spsync ts step set`"));
            }
        }
    }
    save(site, &row, &changed, None, false, caller).await
}

/// Adds a step or group.
///
/// # Errors
/// `TASK_SEQUENCE_INVALID`, `STEP_NOT_FOUND`, what lint finds anew, `HIGH_RISK_*`.
#[expect(clippy::too_many_arguments, reason = "each is one thing that an administrator says")]
pub async fn step_add(
    site: &Arc<Site>,
    name: &str,
    kind: &str,
    place: &Place,
    changes: &[(String, String)],
    value: Option<HiddenText>,
    confirmed: bool,
    caller: &Caller,
) -> Result<Answer, Problem> {
    let row = sequence(site, name).await?;
    let mut changed = Sequence::parse(&row.document)?;
    let known = Action::KNOWN.iter().find(|(word, _)| *word == kind);
    let title = match known {
        Some((_, title)) => *title,
        None if kind == "group" => "Group",
        None => {
            let words: Vec<_> = Action::KNOWN.iter().map(|(word, _)| *word).collect();
            let message = format!("there is no step of type `{kind}`");
            return Err(Problem::new(Code::TaskSequenceInvalid, message)
                .help(format!("use `group` or one of {}", words.join(", "))));
        }
    };
    let mut table = Table::new();
    table.insert("type".to_owned(), Value::from(kind));
    table.insert("name".to_owned(), Value::from(title));
    edit::apply(&mut table, changes)?;
    let mut node = Node::from_table(table)?;
    names::checked("a step", &node.common().name, Rule::Shown)?;
    let secret = hidden(&mut node, value, free_place(&changed))?;
    changed.add(node, place)?;
    save(site, &row, &changed, secret, confirmed, caller).await
}

/// Changes a step or group.
///
/// # Errors
/// `TASK_SEQUENCE_INVALID`, `STEP_NOT_FOUND`, those of names, what lint finds anew, `HIGH_RISK_*`.
pub async fn step_set(site: &Arc<Site>, set: StepSet, caller: &Caller) -> Result<Answer, Problem> {
    let row = sequence(site, &set.sequence).await?;
    let mut changed = Sequence::parse(&row.document)?;
    let known = Known::of(site).await?;
    let place = free_place(&changed);
    let mut secret = None;
    let no_upgrade = || {
        let message = format!("step `{}` is no Upgrade Operating System step", set.step);
        Problem::new(Code::TaskSequenceInvalid, message)
    };
    if !set.feature_updates.is_empty() {
        if set.image.is_some() {
            let message = "a step has feature updates or an OS upgrade package, not both";
            return Err(Problem::new(Code::UpgradeSourceInvalid, message));
        }
        known.surroundings.release.allows_feature_updates()?;
        let updates = known.feature_updates(site, &set.feature_updates).await?;
        if !edit::use_feature_updates(changed.node_mut(&set.step)?, updates) {
            return Err(no_upgrade());
        }
    }
    if let Some(image) = &set.image {
        let image = known.image(image)?;
        let index = crate::software::images::edition(image, set.index)?.index;
        if !edit::use_image(changed.node_mut(&set.step)?, image.id.clone(), Some(index)) {
            return Err(no_upgrade());
        }
    }
    if !set.changes.is_empty() {
        changed.set(&set.step, &set.changes)?;
        names::checked("a step", &changed.node_mut(&set.step)?.common().name, Rule::Shown)?;
    }
    if let Some(key) = &set.product_key {
        let key = ProductKey::parse(key, set.encoded_key)?;
        let Node::Step(step) = changed.node_mut(&set.step)? else { return Err(no_upgrade()) };
        let Action::UpgradeOs(upgrade) = &mut step.action else { return Err(no_upgrade()) };
        upgrade.product_key = Some(Sealed::numbered(place));
        secret = Some(NewSecret { number: place, label: key.kind.word(), secret: key.secret });
    }
    if set.value.is_some() {
        secret = hidden(changed.node_mut(&set.step)?, set.value, place)?;
    }
    save(site, &row, &changed, secret, set.confirm_high_risk, caller).await
}

/// Gives a Set Variable step a value that nobody sees.
fn hidden(node: &mut Node, value: Option<HiddenText>, place: u32) -> Result<Option<NewSecret>, Problem> {
    let Some(value) = value else { return Ok(None) };
    if let Node::Step(step) = node
        && let Action::SetVariable(set) = &mut step.action
    {
        set.value.clear();
        set.hidden_value = Some(Sealed::numbered(place));
        return Ok(Some(NewSecret { number: place, label: "hidden", secret: value }));
    }
    Err(Problem::new(Code::TaskSequenceInvalid, "only a Set Variable step has a hidden value"))
}

/// Moves a step or group.
///
/// # Errors
/// `STEP_NOT_FOUND`, `TASK_SEQUENCE_INVALID`, what lint finds anew, `HIGH_RISK_*`.
pub async fn step_move(
    site: &Arc<Site>,
    name: &str,
    step: &str,
    place: &Place,
    confirmed: bool,
    caller: &Caller,
) -> Result<Answer, Problem> {
    let row = sequence(site, name).await?;
    let mut changed = Sequence::parse(&row.document)?;
    changed.relocate(step, place)?;
    save(site, &row, &changed, None, confirmed, caller).await
}

/// Removes a step or group.
///
/// # Errors
/// `STEP_NOT_FOUND`, what lint finds anew.
pub async fn step_remove(
    site: &Arc<Site>,
    name: &str,
    step: &str,
    caller: &Caller,
) -> Result<Answer, Problem> {
    let row = sequence(site, name).await?;
    let mut changed = Sequence::parse(&row.document)?;
    changed.remove(step)?;
    save(site, &row, &changed, None, false, caller).await
}

/// The same steps under a new id; secrets are sealed anew for their new place (mission row M35).
///
/// # Errors
/// `NAME_IN_USE` for a name that was given; without one a free name is found.
pub async fn copy(
    site: &Arc<Site>,
    name: &str,
    new_name: Option<String>,
    caller: &Caller,
) -> Result<Answer, Problem> {
    let row = sequence(site, name).await?;
    let mut copied = Sequence::parse(&row.document)?;
    let all = site.read(|r| r.sequences()).await?;
    copied.name = match new_name {
        Some(name) => names::checked("a task sequence", &name, Rule::Shown)?,
        None => free_name(&row.name, all.iter().map(|row| row.name.as_str())),
    };
    let new = recorded(&copied, copied.checked_text()?);
    let from = row.id.clone();
    let secrets = site.read(move |r| r.sequence_secrets(&from)).await?;
    if caller.dry_run {
        let name = new.name.clone();
        site.read(move |r| r.check_sequence_name(&name, None)).await?;
        return Answer::of(&serde_json::json!({ "would_create": new.name, "dry_run": true }));
    }
    let vault = match secrets.is_empty() {
        true => None,
        false => Some(Vault::of(&site.settings().site.data_dir)?),
    };
    let (code, who, from) = (site.code().clone(), caller.who.clone(), row.id.clone());
    let id: PackageId = site
        .write(move |w| {
            let id = w.next_id(&code)?;
            w.create_sequence(&id, &new, clock::now())?;
            for secret in secrets {
                if let Some(vault) = &vault {
                    let opened = vault.open(&from, secret.number, &secret.sealed)?;
                    let sealed = vault.seal(&id.0, secret.number, &opened)?;
                    w.keep_secret(&id.0, &SealedRow { sealed, ..secret })?;
                }
            }
            w.audit(&who, "ts.copy", id.0.as_str(), clock::now())?;
            Ok(id.0)
        })
        .await?;
    Answer::of(&show::one(site, &id).await?)
}

/// `name`, or `name (2)`, … cut to the longest name that is allowed.
pub(super) fn free_name<'a>(name: &str, taken: impl Iterator<Item = &'a str>) -> String {
    let taken: Vec<String> = taken.map(str::to_lowercase).collect();
    let candidates = (1..).map(|number| {
        let suffix = if number == 1 { String::new() } else { format!(" ({number})") };
        let most = names::LONGEST - suffix.len();
        name.chars().take(most).collect::<String>().trim_end().to_owned() + &suffix
    });
    candidates.into_iter().find(|name| !taken.contains(&name.to_lowercase())).unwrap_or_default()
}

/// Offers the deployments of a task sequence, or does not.
///
/// # Errors
/// `TASK_SEQUENCE_NOT_FOUND`.
pub async fn enable(site: &Arc<Site>, name: &str, enabled: bool, caller: &Caller) -> Result<Answer, Problem> {
    let row = sequence(site, name).await?;
    if !caller.dry_run {
        let (id, who) = (row.id.clone(), caller.who.clone());
        site.write(move |w| {
            w.enable_sequence(&id, enabled)?;
            w.audit(&who, if enabled { "ts.enable" } else { "ts.disable" }, id.as_str(), clock::now())
        })
        .await?;
    }
    Answer::of(&show::one(site, &row.id).await?)
}

/// Deletes a task sequence with its secrets.
///
/// # Errors
/// `TASK_SEQUENCE_NOT_FOUND`.
pub async fn delete(site: &Arc<Site>, name: &str, caller: &Caller) -> Result<Answer, Problem> {
    let row = sequence(site, name).await?;
    let shown = show::one(site, &row.id).await?;
    let id = row.id.clone();
    let deployed = site.read(move |r| r.deployments_of(&id)).await?;
    if !deployed.is_empty() {
        let message = format!("task sequence {} `{}` is deployed", row.id, row.name);
        return Err(Problem::new(Code::TaskSequenceDeployed, message).because(deployed.join(", ")));
    }
    if !caller.dry_run {
        let who = caller.who.clone();
        site.write(move |w| {
            w.delete_sequence(&row.id)?;
            w.audit(&who, "ts.delete", row.id.as_str(), clock::now())
        })
        .await?;
    }
    Answer::of(&serde_json::json!({ "deleted": shown, "dry_run": caller.dry_run }))
}
