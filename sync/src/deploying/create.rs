//! Making a deployment: everything is judged first, then recorded in one transaction, then its content is brought.

use std::sync::Arc;

use catalog::id::PackageId;
use catalog::problem::{Code, Problem};
use jiff::{SignedDuration, Timestamp};
use schema::Writer;
use schema::collections::Collection;
use schema::deployments::{ContentState, DeploymentRow, Purpose};
use schema::points::PointRow;
use schema::sequences::SequenceRow;
use serde::{Deserialize, Serialize};

use super::check::{self, World};
use super::choice::{self, Choice};
use super::options::{self, Options, Times};
use super::package::{self, Package, missing};
use super::request::Create;
use super::risk::{self, Allowed, Reached};
use super::{content, show};
use crate::admin::{Answer, Caller, Work};
use crate::authoring::surroundings::sequence;
use crate::clock;
use crate::config::SiteSystems;
use crate::points;
use crate::policy::Facts;
use crate::sequence::action::OsType;
use crate::sequence::{Sequence, lint};
use crate::site::Site;
use crate::software::{collections, places, settings};

/// What was made, or would be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Created {
    /// Its id; `None` where nothing was changed.
    pub id: Option<PackageId>,
    /// The task sequence.
    pub sequence: PackageId,
    /// Its name.
    pub name: String,
    /// The collection.
    pub collection: String,
    /// Devices in it.
    pub devices: usize,
    /// Whether it is done by itself.
    pub purpose: Purpose,
    /// When.
    pub times: Times,
    /// What else was chosen.
    pub options: Options,
    /// The package that is filled for it: id, or the name of one that would be made.
    pub package: Option<String>,
    /// Titles of the feature updates that are downloaded.
    pub downloads: Vec<String>,
    /// Points and groups that content is sent to.
    pub places: Vec<String>,
    /// Names of images and applications that are sent there too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub software: Vec<String>,
    /// A high risk, and what was confirmed.
    pub risk: risk::Risk,
    /// Warnings and remarks.
    pub notes: Vec<String>,
    /// Nothing was changed.
    pub dry_run: bool,
}

/// From when a deployment is offered for which nobody said it. A deadline of `now` was said a moment ago, and means at once.
fn at_once(deadline: Option<Timestamp>, now: Timestamp) -> Timestamp {
    let a_moment = SignedDuration::from_mins(1);
    let just_said = |deadline: &Timestamp| *deadline < now && now.duration_since(*deadline) < a_moment;
    deadline.filter(just_said).unwrap_or(now)
}

/// Everything about a deployment that is settled before it is recorded.
pub(super) struct Settled {
    row: SequenceRow,
    sequence: Sequence,
    collection: Collection,
    devices: usize,
    times: Times,
    options: Options,
    risk: risk::Risk,
    notes: Vec<String>,
}

/// What else happens in the transaction that makes a deployment.
pub type Also = Box<dyn FnOnce(&Writer<'_>, &PackageId) -> Result<(), schema::SchemaError> + Send>;

/// Makes a deployment (mission row M65). Where content has to be brought, a task does that, and its answer is the deployment.
///
/// # Errors
/// `BROKEN_REFERENCE` and whatever else keeps the task sequence back; those of options, risk and choice;
/// `CONTENT_NOT_REACHABLE` with `strict`; `TASK_SEQUENCE_CHANGED` where somebody changed it meanwhile. Nothing was made then.
pub async fn create(site: &Arc<Site>, wanted: Create, caller: &Caller) -> Result<Work, Problem> {
    create_and(site, wanted, caller, Box::new(|_, _| Ok(()))).await
}

/// The same, and `also` in the same transaction.
///
/// # Errors
/// Those of [`create`].
pub async fn create_and(
    site: &Arc<Site>,
    wanted: Create,
    caller: &Caller,
    also: Also,
) -> Result<Work, Problem> {
    let now = clock::now();
    let world = World::of(site).await?;
    let times = Times {
        available: wanted.available.unwrap_or_else(|| at_once(wanted.deadline, now)),
        deadline: wanted.deadline,
        expires: wanted.expires,
    };
    let confirmed = wanted.confirm_high_risk;
    let settled = settle(
        site,
        &world,
        &wanted.sequence,
        &wanted.collection,
        wanted.purpose,
        times,
        wanted.options.clone(),
        confirmed,
    )
    .await?;
    let references = world.references(&settled.sequence);
    let missing = missing(&world, &references);
    let titles: Vec<String> = missing.iter().map(|listed| listed.update.title.clone()).collect();
    let uses = !references.feature_updates.is_empty();
    let (choice, skipped) = choice::decide(&wanted.package, &titles, uses)?;
    let mut notes = settled.notes.clone();
    notes.extend(skipped);
    let mut software = places::needed(&settled.sequence, &world.known);
    let (package, to) =
        package::of(site, &choice, &missing, &world, &references, !software.is_empty(), &wanted.package.to)
            .await?;
    // Names that nothing has are refused before anything is written.
    let targets = points::targets(site, &to).await?;
    let mut options = settled.options.clone();
    options.cloud |= choice == Choice::NoPackage;
    let sends = !matches!(package, Package::None | Package::Holding(_));
    if content::elsewhere(&targets).is_none() {
        software.clear();
    }
    places::all_here(site, &software).await?;
    let named = |points: &[PointRow]| points.iter().map(|point| point.name.clone()).collect::<Vec<_>>();
    let planned = if sends || !software.is_empty() { targets.points } else { Vec::new() };
    notes.extend(package::room(site, &package, &missing, &software, &planned).await?);
    let about = check::About {
        sequence: &settled.sequence,
        references: &references,
        collection: &settled.collection,
        cloud: options.cloud,
        internet: options.internet,
        planned: if sends { named(&planned) } else { Vec::new() },
        planned_software: if software.is_empty() { Vec::new() } else { named(&planned) },
        own: check::own_point(site).await?,
    };
    let places = site.places_now().await?;
    let checked = check::judge(&world, &places, &about);
    if let Some(nowhere) = checked.nowhere() {
        if wanted.strict {
            return Err(nowhere);
        }
        notes.push(format!("{}: {}", nowhere.code, nowhere.message));
    }
    notes.extend(priority_advice(&world, &settled.collection, uses));
    let state = match (&choice, &package) {
        (Choice::NoPackage, _) => ContentState::None,
        (_, Package::None | Package::Holding(_)) if software.is_empty() => ContentState::Ready,
        _ => ContentState::Pending,
    };
    let mut created = Created {
        id: None,
        sequence: settled.row.id.clone(),
        name: settled.row.name.clone(),
        collection: settled.collection.name.clone(),
        devices: settled.devices,
        purpose: wanted.purpose,
        times: settled.times,
        options: options.clone(),
        package: match &package {
            Package::None => None,
            Package::Existing(id, _) | Package::Holding(id) => Some(id.to_string()),
            Package::New(name, _) => Some(name.clone()),
        },
        downloads: titles,
        places: to.clone(),
        software: software.into_iter().map(|thing| thing.parcel.name).collect(),
        risk: settled.risk.clone(),
        notes,
        dry_run: caller.dry_run,
    };
    let options = serde_json::to_value(&options).map_err(|error| Problem::of(Code::Internal, &error))?;
    let (code, who, dry_run) = (site.code().clone(), caller.who.clone(), caller.dry_run);
    let (purpose, times, risk) = (wanted.purpose, settled.times, settled.risk.clone());
    let (sequence, collection) = (settled.row.id.clone(), settled.collection.name.clone());
    let revision = settled.row.revision;
    let made = site
        .write_unless(dry_run, move |w| {
            is_as_judged(w, &sequence, revision)?;
            let package = package::fill(w, &code, package, &who)?;
            let (id, number) = w.next_deployment_id(&code)?;
            let row = DeploymentRow {
                id: id.clone(),
                sequence,
                collection,
                purpose,
                available: times.available,
                deadline: times.deadline,
                expires: times.expires,
                options,
                package,
                content: state,
                places: to,
                problem: None,
                stopped: None,
                created: now,
                created_by: who.clone(),
            };
            w.create_deployment(number, &row)?;
            also(w, &id)?;
            if risk.high {
                w.audit(&who, &risk.audited(), id.as_str(), now)?;
            }
            w.audit(&who, "deploy.create", id.as_str(), now)?;
            Ok(row)
        })
        .await?;
    if dry_run {
        return Ok(Answer::of(&created)?.into());
    }
    site.refresh_shelf().await?;
    created.id = Some(made.id.clone());
    if made.content == ContentState::Pending {
        return Ok(Work::Started(content::bring(site, &made, &created.notes, caller).await?));
    }
    let shown = show::one(site, made.id.as_str()).await?.after(created.notes);
    Ok(Answer::of(&shown)?.into())
}

/// What was judged is what is deployed, whatever somebody saved meanwhile.
pub(super) fn is_as_judged(w: &Writer<'_>, id: &PackageId, revision: u32) -> Result<(), schema::SchemaError> {
    match w.sequence(id)? {
        Some(row) if row.revision == revision => Ok(()),
        Some(_) => {
            let message = format!("task sequence {id} was changed meanwhile");
            Err(Problem::new(Code::TaskSequenceChanged, message).into())
        }
        None => {
            let message = format!("task sequence {id} was deleted meanwhile");
            Err(Problem::new(Code::TaskSequenceNotFound, message).into())
        }
    }
}

/// Everything that is judged of a task sequence for a collection.
#[expect(clippy::too_many_arguments, reason = "each is one thing that an administrator says")]
pub(super) async fn settle(
    site: &Arc<Site>,
    world: &World,
    name: &str,
    collection: &str,
    purpose: Purpose,
    mut times: Times,
    mut options: Options,
    confirmed: bool,
) -> Result<Settled, Problem> {
    let row = sequence(site, name).await?;
    let sequence = Sequence::parse(&row.document)?;
    let findings = world.known.findings(&row.id, &sequence);
    lint::refuse_errors(&findings)?;
    let collection = collections::named(site, collection).await?;
    let mut notes = options::settle(purpose, &mut times, &mut options, &sequence)?;
    if !row.enabled {
        notes.push(format!("task sequence {} is disabled: nothing is offered until it is enabled", row.id));
    }
    if purpose == Purpose::Required {
        let (id, to, now) = (row.id.clone(), collection.name.clone(), clock::now());
        let is_same = move |other: &DeploymentRow| {
            let same = other.sequence == id && other.collection.eq_ignore_ascii_case(&to);
            same && other.purpose == Purpose::Required && show::is_live(other, now)
        };
        let others = site.read(|r| r.deployments()).await?;
        notes.extend(others.iter().filter(|other| is_same(other)).map(|other| {
            format!("deployment {} is the same for this collection already: its devices run both", other.id)
        }));
    }
    let (risk, devices) = risk_confirmed(site, world, &sequence, &collection, purpose, confirmed).await?;
    Ok(Settled { row, sequence, devices, collection, times, options, risk, notes })
}

impl Settled {
    /// The task sequence.
    pub(super) fn row(&self) -> &SequenceRow {
        &self.row
    }

    /// For whom it is.
    pub(super) fn collection(&self) -> &Collection {
        &self.collection
    }

    /// What it does.
    pub(super) fn sequence(&self) -> &Sequence {
        &self.sequence
    }

    /// Its risk.
    pub(super) fn risk(&self) -> &risk::Risk {
        &self.risk
    }
}

fn allowed(site: &Site) -> Allowed {
    let limits = site.settings().limits.clone();
    Allowed {
        usual: limits.deployment_default_size,
        most: limits.deployment_maximum_size,
        block_site_systems: limits.deploy_to_site_systems == SiteSystems::Block,
    }
}

/// The risk of a deployment that nobody has confirmed.
///
/// # Errors
/// `HIGH_RISK_*` where no confirmation would help.
pub(super) async fn risk_of(
    site: &Arc<Site>,
    world: &World,
    sequence: &Sequence,
    collection: &Collection,
    purpose: Purpose,
) -> Result<risk::Risk, Problem> {
    let reached = reached(site, world, collection).await?;
    risk::judge(purpose, options::deploys_os(sequence), &reached, allowed(site))
}

/// The risk of a deployment, confirmed where it has to be, and how many devices it reaches.
///
/// # Errors
/// `HIGH_RISK_*`.
pub(super) async fn risk_confirmed(
    site: &Arc<Site>,
    world: &World,
    sequence: &Sequence,
    collection: &Collection,
    purpose: Purpose,
    confirmed: bool,
) -> Result<(risk::Risk, usize), Problem> {
    let reached = reached(site, world, collection).await?;
    let risk = risk::judge(purpose, options::deploys_os(sequence), &reached, allowed(site))?;
    risk::confirmed(&risk, &reached, confirmed)?;
    Ok((risk, reached.devices))
}

async fn reached(site: &Arc<Site>, world: &World, collection: &Collection) -> Result<Reached, Problem> {
    let members = world.members(collection);
    let points = site.read(|r| r.places()).await?;
    let url = url::Url::parse(&site.settings().public_url()).ok();
    let host = url.as_ref().and_then(|url| url.host_str()).map(str::to_owned);
    let is_ours = |name: &String| {
        points.iter().any(|point| point.name.eq_ignore_ascii_case(name))
            || host.as_ref().is_some_and(|host| host.eq_ignore_ascii_case(name))
    };
    let is_server =
        |name: &String| world.facts(name).is_some_and(|facts: &Facts| facts.os_type == OsType::Server);
    Ok(Reached {
        collection: collection.name.clone(),
        built_in: collection.built_in,
        devices: members.len(),
        servers: members.iter().filter(|name| is_server(name)).cloned().collect(),
        site_systems: members.iter().filter(|name| is_ours(name)).cloned().collect(),
    })
}

/// What is advised where a feature update would run with another priority than Normal on any device (mission row M21).
pub(super) fn priority_advice(world: &World, collection: &Collection, uses: bool) -> Option<String> {
    if !uses {
        return None;
    }
    let members = world.members(collection);
    let values = settings::values_of("thread_priority", &members, &world.settings, &world.collections);
    let others = members.iter().zip(values).filter(|(_, value)| value != "normal");
    let others: Vec<String> = others.map(|(name, value)| format!("{name} ({value})")).collect();
    (!others.is_empty()).then(|| {
        format!(
            "client setting thread_priority is not `normal`, which is advised for feature updates, on {} of {} devices: {}",
            others.len(),
            members.len(),
            risk::some(&others)
        )
    })
}
