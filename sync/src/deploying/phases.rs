//! Phased deployments of a site: made, shown, pushed, and looked after by the daemon's timer. [`super::phased`] decides.

use std::collections::HashSet;
use std::sync::Arc;

use catalog::id::PackageId;
use catalog::problem::{Code, Problem};
use dp::locate::Places;
use jiff::{SignedDuration, Timestamp};
use schema::deployments::{PhasedRow, Purpose};
use schema::devices::{DeviceRow, DeviceRun};
use schema::{Reader, SchemaError, Writer};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::check::World;
use super::choice::Asked;
use super::members::Members;
use super::options::{Options, Times};
use super::phased::{self, Phase, Plan, State, Tally};
use super::request::{Create, NewPhase, PhaseChange, PhasedCreate};
use super::{create, resolve, status};
use crate::admin::{Answer, Caller};
use crate::authoring::surroundings::Known;
use crate::clock;
use crate::find::nobody;
use crate::names::{self, Rule};
use crate::sequence::Sequence;
use crate::site::Site;

/// What is chosen for each deployment of a plan.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Chosen {
    purpose: Purpose,
    options: Options,
    confirmed: bool,
}

/// A phased deployment with how its phases are doing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShownPlan {
    /// Its name.
    pub name: String,
    /// The task sequence.
    pub sequence: PackageId,
    /// Its name.
    pub sequence_name: String,
    /// Purpose of its deployments.
    pub purpose: Purpose,
    /// `active`, `suspended` or `done`.
    pub state: String,
    /// Its phases.
    pub phases: Vec<ShownPhase>,
    /// Why a phase did not begin.
    pub problem: Option<Problem>,
    /// Warnings and remarks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A phase with its counts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShownPhase {
    /// The phase.
    #[serde(flatten)]
    pub phase: Phase,
    /// How it is doing.
    pub tally: Tally,
}

fn plan_of(row: &PhasedRow) -> Result<Plan, Problem> {
    serde_json::from_value(row.plan.clone()).map_err(|error| Problem::of(Code::Internal, &error))
}

fn chosen_of(row: &PhasedRow) -> Result<Chosen, Problem> {
    serde_json::from_value(row.options.clone()).map_err(|error| Problem::of(Code::Internal, &error))
}

fn json(value: &impl Serialize) -> Result<serde_json::Value, Problem> {
    serde_json::to_value(value).map_err(|error| Problem::of(Code::Internal, &error))
}

async fn named(site: &Arc<Site>, name: &str) -> Result<PhasedRow, Problem> {
    let name = name.to_owned();
    site.read(move |r| found(r, &name)).await
}

fn found(reader: &Reader<'_>, name: &str) -> Result<PhasedRow, SchemaError> {
    reader
        .phased_named(name)?
        .ok_or_else(|| Problem::new(Code::DeploymentNotFound, nobody("phased deployment", name)).into())
}

/// Numbers and collections of the phases that are still to begin, where its deployments have this purpose.
///
/// # Errors
/// `INTERNAL` where the plan cannot be read.
pub(super) fn to_come(row: &PhasedRow, purpose: Purpose) -> Result<Vec<(usize, String)>, Problem> {
    if chosen_of(row)?.purpose != purpose {
        return Ok(Vec::new());
    }
    let phases = plan_of(row)?.phases.into_iter().enumerate();
    let waiting = phases.filter(|(_, phase)| phase.state < State::Active);
    Ok(waiting.map(|(position, phase)| (position + 1, phase.collection)).collect())
}

/// What its phases bring is meant, also where that is a high risk.
///
/// # Errors
/// Those of the database.
pub(super) fn confirm(w: &Writer<'_>, name: &str) -> Result<(), SchemaError> {
    let row = found(w, name)?;
    let chosen = Chosen { confirmed: true, ..chosen_of(&row)? };
    let after = PhasedRow { options: json(&chosen)?, ..row.clone() };
    w.change_phased(&row, &after)?;
    Ok(())
}

/// Makes a phased deployment (mission row M67); its first phase begins at once. Every phase is judged now, as it will be
/// when it begins.
///
/// # Errors
/// `PHASES_INVALID`, `CONTENT_NOT_DISTRIBUTED`, `HIGH_RISK_*`, `NAME_*`, those of a deployment.
pub async fn create(site: &Arc<Site>, wanted: PhasedCreate, caller: &Caller) -> Result<Answer, Problem> {
    let name = names::checked("a phased deployment", &wanted.name, Rule::Shown)?;
    let wanted_name = name.clone();
    site.read(move |r| not_taken(r, &wanted_name)).await?;
    let phases: Vec<Phase> = wanted.phases.into_iter().map(NewPhase::waiting).collect();
    phased::check(&phases)?;
    let (world, now) = (World::of(site).await?, clock::now());
    let mut notes = Vec::new();
    let mut settled = None;
    for (number, phase) in phases.iter().enumerate() {
        let times = times(wanted.purpose, phase, now);
        let options = wanted.options.clone();
        let one = create::settle(
            site,
            &world,
            &wanted.sequence,
            &phase.collection,
            wanted.purpose,
            times,
            options,
            wanted.confirm_high_risk,
        )
        .await?;
        let uses = !world.references(one.sequence()).feature_updates.is_empty();
        let advice = create::priority_advice(&world, one.collection(), uses);
        let told = one.risk().reasons.iter().chain(&advice);
        notes.extend(told.map(|told| format!("phase {}: {told}", number + 1)));
        settled = Some(one);
    }
    let Some(settled) = settled else {
        return Err(Problem::new(Code::PhasesInvalid, "a phased deployment has phases"));
    };
    let places = site.places_now().await?;
    distributed(&places, &world, settled.sequence())?;
    let chosen =
        Chosen { purpose: wanted.purpose, options: wanted.options, confirmed: wanted.confirm_high_risk };
    let row = PhasedRow {
        name,
        sequence: settled.row().id.clone(),
        options: json(&chosen)?,
        plan: json(&Plan { phases, suspended: false })?,
        problem: None,
        created: now,
        created_by: caller.who.clone(),
    };
    if caller.dry_run {
        let shown = ShownPlan { notes, ..shown(site, &Members::of(site).await?, &row).await? };
        return Answer::of(&serde_json::json!({ "would_create": shown, "dry_run": true }));
    }
    let (saved, who, revision) = (row.clone(), caller.who.clone(), settled.row().revision);
    site.write(move |w| {
        not_taken(w, &saved.name)?;
        create::is_as_judged(w, &saved.sequence, revision)?;
        w.create_phased(&saved)?;
        w.audit(&who, "deploy.phased-create", &saved.name, now)
    })
    .await?;
    pass(site, now).await?;
    let row = named(site, &row.name).await?;
    Answer::of(&ShownPlan { notes, ..shown(site, &Members::of(site).await?, &row).await? })
}

fn not_taken(reader: &Reader<'_>, name: &str) -> Result<(), SchemaError> {
    match reader.phased_named(name)? {
        None => Ok(()),
        Some(_) => {
            let message = format!("a phased deployment is called `{name}` already");
            Err(Problem::new(Code::NameInUse, message).into())
        }
    }
}

/// What a later phase needs has to be on a point before: nobody is there to ask when it begins.
fn distributed(places: &Places, world: &World, sequence: &Sequence) -> Result<(), Problem> {
    let references = world.references(sequence);
    let lacks = |update: &&crate::policy::FeatureUpdate| {
        update.files.iter().any(|file| {
            file.sha256.and_then(|sha256| places.holds(sha256)).is_none_or(|held| held.points.is_empty())
        })
    };
    match references.feature_updates.iter().find(lacks) {
        None => Ok(()),
        Some(update) => {
            let message = format!("`{}` is on no distribution point", update.facts.title);
            Err(Problem::new(Code::ContentNotDistributed, message))
        }
    }
}

fn times(purpose: Purpose, phase: &Phase, now: Timestamp) -> Times {
    let due = SignedDuration::from_secs(i64::try_from(phase.due_after).unwrap_or(i64::MAX));
    let deadline = (purpose == Purpose::Required).then(|| now.checked_add(due).unwrap_or(Timestamp::MAX));
    Times { available: now, deadline, expires: None }
}

/// How the phases that `counts` are doing; nobody asks about the others.
async fn tallies(
    site: &Arc<Site>,
    members: &Members,
    sequence: &PackageId,
    plan: &Plan,
    counts: impl Fn(&Phase) -> bool,
) -> Result<Vec<Tally>, Problem> {
    let mut tallies = Vec::new();
    for phase in &plan.phases {
        if !counts(phase) {
            tallies.push(Tally::default());
            continue;
        }
        let id: Option<PackageId> = phase.deployment.as_ref().and_then(|id| id.parse().ok());
        let runs = match id {
            Some(id) => site.read(move |r| r.runs_of(&id)).await?,
            None => Vec::new(),
        };
        let there = there(site, sequence, &runs).await?;
        tallies.push(status::tally(&members.in_collection(&phase.collection), &runs, &there));
    }
    Ok(tallies)
}

/// The devices, in lower case, that said that it is not for them because they have what it brings. Where nobody said so, nothing is
/// looked up.
async fn there(
    site: &Arc<Site>,
    sequence: &PackageId,
    runs: &[DeviceRun],
) -> Result<HashSet<String>, Problem> {
    let names: HashSet<String> = status::not_applicable(runs).map(str::to_ascii_lowercase).collect();
    if names.is_empty() {
        return Ok(names);
    }
    let (known, id) = (Known::of(site).await?, sequence.clone());
    let (row, devices) = site.read(move |r| Ok((r.sequence(&id)?, r.devices()?))).await?;
    let Some(Ok(sequence)) = row.map(|row| Sequence::parse(&row.document)) else { return Ok(HashSet::new()) };
    let references = resolve::references(&sequence, &known, &resolve::Stored::default());
    let is_there = |row: &DeviceRow| {
        let facts = row.facts.clone().and_then(|facts| serde_json::from_value(facts).ok());
        facts.is_some_and(|facts| status::is_there(&sequence, &references, &facts))
    };
    let named = devices.into_iter().map(|row| (row.name.to_ascii_lowercase(), row));
    let there = named.filter(|(name, row)| names.contains(name) && is_there(row));
    Ok(there.map(|(name, _)| name).collect())
}

async fn shown(site: &Arc<Site>, members: &Members, row: &PhasedRow) -> Result<ShownPlan, Problem> {
    let (plan, chosen) = (plan_of(row)?, chosen_of(row)?);
    let tallies = tallies(site, members, &row.sequence, &plan, |_| true).await?;
    let sequence = row.sequence.clone();
    let sequence = site.read(move |r| r.sequence(&sequence)).await?;
    let state = match () {
        () if plan.suspended => "suspended",
        () if plan.is_over() => "done",
        () => "active",
    };
    let phases = plan.phases.into_iter().zip(tallies).map(|(phase, tally)| ShownPhase { phase, tally });
    Ok(ShownPlan {
        name: row.name.clone(),
        sequence: row.sequence.clone(),
        sequence_name: sequence.map(|sequence| sequence.name).unwrap_or_default(),
        purpose: chosen.purpose,
        state: state.to_owned(),
        phases: phases.collect(),
        problem: row.problem.clone(),
        notes: Vec::new(),
    })
}

/// All of them.
///
/// # Errors
/// Those of the database.
pub async fn list(site: &Arc<Site>) -> Result<Answer, Problem> {
    let members = Members::of(site).await?;
    let mut all = Vec::new();
    for row in site.read(|r| r.phased()).await? {
        all.push(shown(site, &members, &row).await?);
    }
    Answer::of(&all)
}

/// One of them.
///
/// # Errors
/// `DEPLOYMENT_NOT_FOUND`.
pub async fn show(site: &Arc<Site>, name: &str) -> Result<Answer, Problem> {
    let row = named(site, name).await?;
    Answer::of(&shown(site, &Members::of(site).await?, &row).await?)
}

/// Lets time have its effect on every plan. Each phase begins in the transaction that makes its deployment; one that is
/// refused suspends its plan, with the reason.
///
/// # Errors
/// Those of the database.
pub async fn pass(site: &Arc<Site>, now: Timestamp) -> Result<(), Problem> {
    let rows = site.read(|r| r.phased()).await?;
    see_to(site, rows, now).await
}

/// The same for these plans, as they were read. One that somebody changed or deleted since then is left alone: what was
/// decided is about another plan.
///
/// # Errors
/// Those of the database.
pub async fn see_to(site: &Arc<Site>, rows: Vec<PhasedRow>, now: Timestamp) -> Result<(), Problem> {
    let waiting = |row: &PhasedRow| plan_of(row).is_ok_and(|plan| !plan.suspended && !plan.is_over());
    if !rows.iter().any(waiting) {
        return Ok(());
    }
    let (members, deployments) = (Members::of(site).await?, site.read(|r| r.deployments()).await?);
    for row in rows.into_iter().filter(waiting) {
        let before = plan_of(&row)?;
        let mut plan = before.clone();
        let live = |id: &str| deployments.iter().any(|one| one.id.as_str() == id && one.stopped.is_none());
        if let Some((number, id)) = plan.stop_where_it_cannot_go_on(live, now) {
            let problem = Problem::new(
                Code::PhaseRefused,
                format!("deployment {id} of phase {number} was stopped, so nothing will come of that phase"),
            );
            let problem = problem.help("`spsync deploy phased resume`, then `advance`, begins the next one");
            let after = PhasedRow { plan: json(&plan)?, problem: Some(problem), ..row.clone() };
            site.write(move |w| w.change_phased(&row, &after)).await?;
            continue;
        }
        // Devices work on those; the others are looked at when something begins.
        let active = |phase: &Phase| phase.state == State::Active;
        let tallies = tallies(site, &members, &row.sequence, &plan, active).await?;
        match plan.at(&tallies, now) {
            Some(position) => {
                begin(site, row, plan, position, now).await?;
            }
            None if plan != before => {
                let after = PhasedRow { plan: json(&plan)?, ..row.clone() };
                site.write(move |w| w.change_phased(&row, &after)).await?;
            }
            None => {}
        }
    }
    Ok(())
}

/// What became of a phase that was to begin.
#[derive(Debug, PartialEq)]
enum Begun {
    /// It has begun, or its plan says why not.
    Settled,
    /// Nothing was begun, for something was changed while this was decided: this says what.
    Overtaken(Problem),
}

/// Makes the deployment of a phase.
async fn begin(
    site: &Arc<Site>,
    row: PhasedRow,
    plan: Plan,
    position: usize,
    now: Timestamp,
) -> Result<Begun, Problem> {
    let chosen = chosen_of(&row)?;
    let phase = &plan.phases[position];
    let times = times(chosen.purpose, phase, now);
    let wanted = Create {
        sequence: row.sequence.to_string(),
        collection: phase.collection.clone(),
        purpose: chosen.purpose,
        available: Some(times.available),
        deadline: times.deadline,
        expires: None,
        options: chosen.options,
        package: Asked::default(),
        strict: false,
        confirm_high_risk: chosen.confirmed,
    };
    let caller = Caller { who: format!("phased {}", row.name), dry_run: false };
    let (mut begun, before) = (plan.clone(), row.clone());
    let also: create::Also = Box::new(move |w, id| {
        begun.began(position, id.to_string(), now);
        let plan = serde_json::to_value(&begun).map_err(|error| Problem::of(Code::Internal, &error))?;
        let after = PhasedRow { plan, problem: None, ..before.clone() };
        if w.change_phased(&before, &after)? { Ok(()) } else { Err(changed_meanwhile(&before.name).into()) }
    });
    match create::create_and(site, wanted, &caller, also).await {
        Ok(_) => info!("phase {} of {} begins", position + 1, row.name),
        // It was judged as it is no more. That is nobody's refusal: it is looked at again, as it is then.
        Err(problem) if problem.code == Code::TaskSequenceChanged => {
            info!("phase {} of {} does not begin yet: {problem}", position + 1, row.name);
            return Ok(Begun::Overtaken(problem));
        }
        Err(problem) => {
            let (name, told) = (row.name.clone(), problem.to_string());
            let plan = json(&Plan { suspended: true, ..plan })?;
            let after = PhasedRow { plan, problem: Some(problem), ..row.clone() };
            if !site.write(move |w| w.change_phased(&row, &after)).await? {
                info!("phase {} of {name} does not begin: {told}", position + 1);
                return Ok(Begun::Overtaken(changed_meanwhile(&name)));
            }
            warn!("phase {} of {name} does not begin, which suspends it: {told}", position + 1);
        }
    }
    Ok(Begun::Settled)
}

fn changed_meanwhile(name: &str) -> Problem {
    Problem::new(Code::PhaseRefused, format!("`{name}` was changed or deleted meanwhile"))
        .help("look at it with `spsync deploy phased show`, then say it again")
}

/// Changes the plan that is there now, whatever was there a moment ago.
async fn change_plan(
    site: &Arc<Site>,
    name: &str,
    what: &'static str,
    caller: &Caller,
    change: impl FnOnce(&mut Plan) -> Result<(), Problem> + Send + 'static,
) -> Result<Answer, Problem> {
    let (name, who) = (name.to_owned(), caller.who.clone());
    let row = site
        .write_unless(caller.dry_run, move |w| {
            let before = found(w, &name)?;
            let mut plan = plan_of(&before)?;
            change(&mut plan)?;
            let after = PhasedRow { plan: json(&plan)?, problem: None, ..before.clone() };
            w.change_phased(&before, &after)?;
            w.audit(&who, what, &before.name, clock::now())?;
            Ok(after)
        })
        .await?;
    Answer::of(&shown(site, &Members::of(site).await?, &row).await?)
}

/// Begins the next phase now, whatever the one before has come to.
///
/// # Errors
/// `PHASE_REFUSED`, `DEPLOYMENT_NOT_FOUND`.
pub async fn advance(site: &Arc<Site>, name: &str, caller: &Caller) -> Result<Answer, Problem> {
    let (row, now) = (named(site, name).await?, clock::now());
    let plan = plan_of(&row)?;
    let position = plan.advance()?;
    if !caller.dry_run {
        let (who, object) = (caller.who.clone(), row.name.clone());
        site.write(move |w| w.audit(&who, "deploy.phased-advance", &object, now)).await?;
        if let Begun::Overtaken(problem) = begin(site, row, plan, position, now).await? {
            return Err(problem);
        }
    }
    let row = named(site, name).await?;
    let problem = row.problem.clone();
    Answer::partly(&shown(site, &Members::of(site).await?, &row).await?, problem)
}

/// Begins nothing more; or goes on.
///
/// # Errors
/// `DEPLOYMENT_NOT_FOUND`.
pub async fn suspend(
    site: &Arc<Site>,
    name: &str,
    suspend: bool,
    caller: &Caller,
) -> Result<Answer, Problem> {
    let what = if suspend { "deploy.phased-suspend" } else { "deploy.phased-resume" };
    let set = move |plan: &mut Plan| {
        plan.suspended = suspend;
        Ok(())
    };
    change_plan(site, name, what, caller, set).await
}

/// Changes a phase that has not begun.
///
/// # Errors
/// `PHASE_ACTIVE`, `PHASES_INVALID`, `PHASE_REFUSED`.
pub async fn change(site: &Arc<Site>, wanted: &PhaseChange, caller: &Caller) -> Result<Answer, Problem> {
    let new = wanted.clone();
    let set = move |plan: &mut Plan| {
        let position = new.phase.checked_sub(1).unwrap_or(usize::MAX);
        plan.may_change(position)?;
        let phase = &mut plan.phases[position];
        phase.success = new.success.unwrap_or(phase.success);
        phase.begin = new.begin.unwrap_or(phase.begin);
        phase.due_after = new.due_after.unwrap_or(phase.due_after);
        phased::check(&plan.phases)
    };
    change_plan(site, &wanted.name, "deploy.phased-change", caller, set).await
}

/// Forgets it; the deployments that it made stay.
///
/// # Errors
/// `DEPLOYMENT_NOT_FOUND`.
pub async fn delete(site: &Arc<Site>, name: &str, caller: &Caller) -> Result<Answer, Problem> {
    let row = named(site, name).await?;
    let shown = shown(site, &Members::of(site).await?, &row).await?;
    if !caller.dry_run {
        let who = caller.who.clone();
        site.write(move |w| {
            w.delete_phased(&row.name)?;
            w.audit(&who, "deploy.phased-delete", &row.name, clock::now())
        })
        .await?;
    }
    Answer::of(&serde_json::json!({ "deleted": shown, "dry_run": caller.dry_run }))
}
