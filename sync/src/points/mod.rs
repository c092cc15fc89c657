//! The distribution points of a site: what an operator does with them. The points' own side is in [`crate::point`].
//!
//! A package on a point is one row (`schema::points::Placement`); [`job`] decides what becomes of it, here and in `report`
//! it is written, and `assign` makes of all rows of a point what that point is told to hold.

pub mod assign;
mod certificate;
pub mod coverage;
pub mod delivered;
pub mod device_keys;
mod found;
pub mod grid;
mod group;
pub mod hub;
pub mod job;
pub mod kept;
mod offer;
mod parcel;
mod report;
mod send;
mod service;
pub mod wire;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use catalog::problem::{Code, Problem};
use jiff::Timestamp;
use schema::keys::{Principal, PrincipalKind};
use schema::points::{ContentState, OWN_POINT, Placement, PointRole, PointRow};
use serde::{Deserialize, Serialize};
use tracing::{error, info};
use uuid::Uuid;

pub use coverage::{Coverage, coverage};
pub use group::{
    create as group_create, delete as group_delete, join as group_join, leave as group_leave,
    list as group_list, show as group_show,
};
pub use parcel::{Distributed, Parcel, Sort, send, take_off};
pub use send::{Act, Acted, Sent, Targets, act, targets};
pub(crate) use send::{installed, partly};
pub use service::PointService;

use crate::admin::{Answer, Caller};
use crate::clock;
use crate::config::{parse_rate, web_address};
use crate::find::called;
use crate::names::{self, Rule};
use crate::site::Site;

/// After this long without a word a point counts as silent: twelve times as long as it waits between two. It is named to clients
/// all the same, after others of its rank.
pub(crate) const SILENT: Duration = Duration::from_secs(12 * wire::HEART_BEAT);

/// A point as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShownPoint {
    /// What is known of it.
    #[serde(flatten)]
    pub point: PointRow,
    /// How it is: `ok`, `silent`, `new` (never heard of), `no key` (taken back), `maintenance`, or why nothing is sent to it.
    pub condition: String,
    /// Seconds since it was heard of.
    pub silent_seconds: Option<u64>,
    /// Packages that are not well there.
    pub failed: u64,
    /// Packages on their way.
    pub under_way: u64,
    /// Bytes that it has served by boundary group and by who served, as far as the site was told since it started.
    #[serde(default, skip_serializing_if = "delivered::Groups::is_empty")]
    pub served: delivered::Groups,
}

/// Knows again which processes spoke as points before this one of the site began.
///
/// # Errors
/// Those of the database.
pub async fn begin(site: &Arc<Site>) -> Result<(), Problem> {
    site.points.remember(site.read(|r| r.point_boots()).await?);
    Ok(())
}

/// Who speaks for the installation that `principal` enrolled, and is another one.
fn another_installation(principal: &Principal) -> Problem {
    let message = format!("another installation enrolled as `{}`", principal.name);
    Problem::new(Code::PointIdentityTaken, message)
}

/// A point speaks. A process that was not heard of before is written down first: whom it takes the place of is refused from now on,
/// whatever becomes of this process of the site.
///
/// # Errors
/// `POINT_IDENTITY_TAKEN`, those of the database.
pub(crate) async fn heard(site: &Arc<Site>, point: i64, boot: Uuid, now: Timestamp) -> Result<(), Problem> {
    if !site.points.heard(point, boot, now)? {
        return Ok(());
    }
    let written = site.write_aside(move |w| w.point_began(point, boot, hub::BOOTS)).await;
    if written.is_err() {
        site.points.unheard(point, boot);
    }
    written
}

/// All points.
///
/// # Errors
/// Those of the database.
pub async fn all(site: &Arc<Site>) -> Result<Vec<ShownPoint>, Problem> {
    shown(site, None).await
}

/// Those points, or the one of this number.
async fn shown(site: &Arc<Site>, only: Option<i64>) -> Result<Vec<ShownPoint>, Problem> {
    let (mut points, states, places) = site
        .read(move |r| {
            let points = match only {
                Some(id) => r.point_row(id)?.into_iter().collect(),
                None => r.point_rows()?,
            };
            let mut states = HashMap::new();
            for point in &points {
                states.insert(point.id, r.states_on(point.id)?);
            }
            Ok((points, states, r.places()?))
        })
        .await?;
    let with_key: HashSet<_> = places.iter().filter(|place| place.has_key).map(|place| place.id).collect();
    site.points.freshen(&mut points);
    let (settings, now) = (site.settings(), clock::now());
    let shown = points.into_iter().map(|point| {
        let of = |wanted: &[ContentState]| {
            let states = states.get(&point.id).into_iter().flatten();
            states.filter(|(state, _)| wanted.contains(state)).map(|(_, packages)| packages).sum()
        };
        let silent = point.last_seen.map(|seen| now.duration_since(seen).unsigned_abs());
        let condition = match silent {
            _ if point.id == OWN_POINT => "ok".to_owned(),
            None => "new".to_owned(),
            Some(_) if !with_key.contains(&point.id) => "no key".to_owned(),
            Some(silent) if silent > SILENT => "silent".to_owned(),
            Some(_) => assign::paused(&point, &settings, now).unwrap_or_else(|| "ok".to_owned()),
        };
        ShownPoint {
            condition,
            silent_seconds: silent.map(|silent| silent.as_secs()),
            failed: of(&[ContentState::Failed, ContentState::Warning]),
            under_way: of(&[
                ContentState::Queued,
                ContentState::Sending,
                ContentState::Verifying,
                ContentState::Validating,
                ContentState::Removing,
            ]),
            served: site.points.delivered(point.id),
            point,
        }
    });
    Ok(shown.collect())
}

/// What `spsync status` warns of.
pub fn warnings(points: &[ShownPoint]) -> Vec<String> {
    let mut warnings = Vec::new();
    for shown in points {
        let name = &shown.point.name;
        match shown.condition.as_str() {
            "new" => warnings
                .push(format!("distribution point {name} was never heard of: `spsync dp enrol {name}`")),
            "no key" => {
                warnings.push(format!("distribution point {name} has no key: `spsync dp enrol {name}`"))
            }
            "silent" => {
                let seconds = shown.silent_seconds.unwrap_or_default();
                warnings.push(format!("distribution point {name} was heard of {seconds} s ago"));
            }
            _ => {}
        }
        if shown.failed > 0 {
            warnings.push(format!(
                "{} packages are not well on distribution point {name}: `spsync content status`",
                shown.failed
            ));
        }
    }
    warnings
}

/// The point of this name.
pub(crate) async fn named(site: &Arc<Site>, name: &str) -> Result<PointRow, Problem> {
    let name = name.to_owned();
    let mut point = site
        .read(move |r| {
            let (all, list) = (r.point_settings()?, "`spsync dp list`");
            let id =
                called("distribution point", Code::DpNotFound, &name, &all, |point| &point.name, list)?.id;
            // Of this one alone it is counted what it holds.
            let gone = || Problem::new(Code::DpNotFound, format!("`{name}` is gone"));
            Ok(r.point_row(id)?.ok_or_else(gone)?)
        })
        .await?;
    site.points.freshen(std::slice::from_mut(&mut point));
    Ok(point)
}

pub(crate) fn not_our_own(point: &PointRow) -> Result<(), Problem> {
    if point.id == OWN_POINT {
        let message = format!("`{}` is the site's own distribution point", point.name);
        return Err(Problem::new(Code::DpStateRefused, message).help("its settings are those of the site"));
    }
    Ok(())
}

/// A point with the packages on it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PointWithContent {
    /// The point.
    #[serde(flatten)]
    pub shown: ShownPoint,
    /// What it is to hold.
    pub content: Vec<Placed>,
}

/// One point.
///
/// # Errors
/// `DP_NOT_FOUND`.
pub async fn show(site: &Arc<Site>, name: &str) -> Result<Answer, Problem> {
    let id = named(site, name).await?.id;
    let shown = shown(site, Some(id)).await?.pop();
    let content = site.read(move |r| r.placements_on(id)).await?;
    match shown {
        Some(shown) => {
            let content = placed(content, std::slice::from_ref(&shown.point), clock::now());
            Answer::of(&PointWithContent { shown, content })
        }
        None => Err(Problem::new(Code::DpNotFound, format!("`{name}` is gone"))),
    }
}

/// Adds a point; it is empty, and enrols with a token of its own.
///
/// # Errors
/// `NAME_*`, `USAGE` for an address that is none, `DP_NOT_FOUND` for one to pull from.
pub async fn add(
    site: &Arc<Site>,
    name: &str,
    url: &str,
    tls_url: Option<&str>,
    pull_from: &[String],
    caller: &Caller,
) -> Result<Answer, Problem> {
    let name = names::checked("a distribution point", name, Rule::Typed)?;
    let (url, tls_url) = (checked_url(url)?, tls_url.map_or(Ok(String::new()), checked_tls_url)?);
    let mut sources = Vec::new();
    for source in pull_from {
        sources.push(named(site, source).await?.name);
    }
    let role = if sources.is_empty() { PointRole::Standard } else { PointRole::Pull };
    let (who, dry_run) = (caller.who.clone(), caller.dry_run);
    let wanted = name.clone();
    site.write_unless(dry_run, move |w| {
        let id = w.add_point(&wanted, &url, role)?;
        if let Some(row) = w.point_named(&wanted)?.filter(|row| row.id == id) {
            w.set_point(&PointRow { pull_from: sources, tls_url, ..row })?;
        }
        w.audit(&who, "dp.add", &wanted, clock::now())
    })
    .await?;
    if dry_run {
        return Answer::of(&serde_json::json!({ "would_add": name, "dry_run": true }));
    }
    site.points.changed();
    site.refresh_locations().await?;
    show(site, &name).await
}

fn checked_url(url: &str) -> Result<String, Problem> {
    let url = web_address(url).map_err(|why| Problem::new(Code::Usage, why))?;
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// Where clients reach a point over TLS; nothing where they do not.
fn checked_tls_url(url: &str) -> Result<String, Problem> {
    let told = if url.trim().is_empty() { String::new() } else { checked_url(url)? };
    if told.is_empty() || told.starts_with("https:") {
        return Ok(told);
    }
    Err(Problem::new(Code::Usage, format!("`{told}` does not begin with `https://`")))
}

/// Sets `key` of a point to `value`: url, tls_url, rate, schedule, pull_from, on_demand.
///
/// # Errors
/// `DP_NOT_FOUND`, `USAGE`, `DP_PULL_RING`.
pub async fn set(
    site: &Arc<Site>,
    name: &str,
    changes: &[(String, String)],
    caller: &Caller,
) -> Result<Answer, Problem> {
    let mut point = named(site, name).await?;
    not_our_own(&point)?;
    let usage = |why: String| Problem::new(Code::Usage, why);
    for (key, value) in changes {
        match key.as_str() {
            "url" => point.url = checked_url(value)?,
            "tls_url" => point.tls_url = checked_tls_url(value)?,
            "rate" => point.rate = parse_rate(value).map_err(usage)?,
            "schedule" => {
                value.parse::<grid::Grid>().map_err(usage)?;
                if let Some((word, same)) = grid::priority_in(value) {
                    return Err(usage(format!(
                        "`{word}` is a level for packages of some priority, and packages have none: it would be the same as `{same}`; say `open` or `closed`"
                    )));
                }
                point.schedule.clone_from(value);
            }
            "pull_from" => {
                point.pull_from.clear();
                for source in value.split(',').map(str::trim).filter(|source| !source.is_empty()) {
                    point.pull_from.push(named(site, source).await?.name);
                }
                point.role = if point.pull_from.is_empty() { PointRole::Standard } else { PointRole::Pull };
            }
            "on_demand" => {
                point.may_pull = match value.as_str() {
                    "yes" | "on" | "true" => true,
                    "no" | "off" | "false" => false,
                    _ => return Err(usage(format!("expected `yes` or `no`, actual `{value}`"))),
                }
            }
            other => {
                return Err(usage(format!(
                    "`{other}` is no setting of a point: url, tls_url, rate, schedule, pull_from, on_demand"
                )));
            }
        }
    }
    save(site, point, "dp.set", caller).await
}

/// Puts a point into maintenance, or takes it out.
///
/// # Errors
/// `DP_NOT_FOUND`.
pub async fn maintenance(site: &Arc<Site>, name: &str, on: bool, caller: &Caller) -> Result<Answer, Problem> {
    let mut point = named(site, name).await?;
    not_our_own(&point)?;
    point.maintenance = on;
    save(site, point, "dp.maintenance", caller).await
}

/// Refuses a point that would pull from itself, by way of others: each would wait for the next.
fn no_ring(points: &[PointRow], changed: &PointRow) -> Result<(), Problem> {
    // One that is there already keeps nobody from anything else.
    let as_before = points.iter().any(|point| point.id == changed.id && point.pull_from == changed.pull_from);
    let Some(ring) = assign::ring(points, changed).filter(|_| !as_before) else { return Ok(()) };
    let message = format!("`{}` would pull from itself: {}", changed.name, ring.join(" from "));
    Err(Problem::new(Code::DpPullRing, message).keeping("nothing was changed"))
}

async fn save(
    site: &Arc<Site>,
    point: PointRow,
    what: &'static str,
    caller: &Caller,
) -> Result<Answer, Problem> {
    if caller.dry_run {
        no_ring(&site.read(|r| r.point_settings()).await?, &point)?;
        return Answer::of(&serde_json::json!({ "would_set": point, "dry_run": true }));
    }
    let (who, name) = (caller.who.clone(), point.name.clone());
    site.write(move |w| {
        // On the writer's turn: two changes at once make no ring of two that are none.
        no_ring(&w.point_settings()?, &point)?;
        w.set_point(&point)?;
        w.audit(&who, what, &point.name, clock::now())
    })
    .await?;
    site.points.changed();
    site.refresh_shelf().await?;
    show(site, &name).await
}

/// Forgets a point. Its key is revoked; what it holds it goes on serving until its data is removed there.
///
/// # Errors
/// `DP_NOT_FOUND`.
pub async fn remove(site: &Arc<Site>, name: &str, caller: &Caller) -> Result<Answer, Problem> {
    let point = named(site, name).await?;
    not_our_own(&point)?;
    if !caller.dry_run {
        let (who, id, name) = (caller.who.clone(), point.id, point.name.clone());
        site.write(move |w| {
            w.revoke(PrincipalKind::Point, &name, clock::now())?;
            w.remove_point(id)?;
            w.audit(&who, "dp.remove", &name, clock::now())
        })
        .await?;
        site.points.forget(point.id);
        site.refresh_keys().await?;
        site.points.changed();
        site.refresh_shelf().await?;
    }
    Answer::of(
        &serde_json::json!({ "removed": point.name, "packages": point.packages, "dry_run": caller.dry_run }),
    )
}

/// A package on a point, as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Placed {
    /// What is known of it.
    #[serde(flatten)]
    pub placed: Placement,
    /// Seconds since the point was heard of, where it is silent: what is known is what it said then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_seconds: Option<u64>,
}

/// Every package on every point.
///
/// # Errors
/// Those of the database; `PACKAGE_NOT_FOUND`.
pub async fn status(site: &Arc<Site>, package: Option<&str>) -> Result<Answer, Problem> {
    let only = match package {
        Some(name) => Some(crate::packages::placed(site, name).await?.id),
        None => None,
    };
    let (all, mut points) = site
        .read(move |r| {
            let all = match only {
                Some(id) => r.placements_of(&[id])?,
                None => r.placements()?,
            };
            Ok((all, r.point_settings()?))
        })
        .await?;
    site.points.freshen(&mut points);
    Answer::of(&placed(all, &points, clock::now()))
}

/// With the silence of their points.
fn placed(all: Vec<Placement>, points: &[PointRow], now: Timestamp) -> Vec<Placed> {
    let silent = |id: i64| {
        let seen = points.iter().find(|point| point.id == id && id != OWN_POINT)?.last_seen?;
        let silent = now.duration_since(seen).unsigned_abs();
        (silent > SILENT).then_some(silent.as_secs())
    };
    all.into_iter().map(|placed| Placed { silent_seconds: silent(placed.point_id), placed }).collect()
}

/// What has to happen by itself: tries that are due, schedules that open and close. Runs until `stopped`.
pub async fn keep_time(site: Arc<Site>, stopped: impl Future<Output = ()>) {
    tokio::pin!(stopped);
    let mut levels = Vec::new();
    loop {
        tokio::select! {
            () = &mut stopped => return,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
        if let Err(problem) = tick(&site, &mut levels).await {
            error!("distribution points cannot be seen to: {problem}");
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    }
}

async fn tick(site: &Arc<Site>, levels: &mut Vec<(i64, grid::Level)>) -> Result<(), Problem> {
    let (now, settings) = (clock::now(), site.settings());
    let latest = job::latest(&settings.dp.retry, now);
    let (due, points) = site.read(move |r| Ok((r.retries_due(now, latest)?, r.point_settings()?))).await?;
    let next: Vec<_> = points.iter().map(|point| (point.id, assign::level(point, &settings, now))).collect();
    let mut anew = Vec::new();
    if !levels.is_empty() && *levels != next {
        // Clients are sent to a point for what it lacks only while it may fetch it.
        site.refresh_locations().await?;
        let before: HashMap<_, _> = levels.iter().copied().collect();
        anew.extend(next.iter().filter(|(id, level)| before.get(id) != Some(level)).map(|(id, _)| *id));
    }
    if !due.is_empty() {
        anew.extend(due.iter().map(|placed| placed.point_id));
        let retry = settings.dp.retry.clone();
        site.write(move |w| {
            for placed in &due {
                let order = w.next_order()?;
                // Due or not is all that there is to it; nothing is refused.
                if let Ok(Some(sent)) = job::on(placed, job::Event::RetryDue, order, &retry, now) {
                    info!("package {} is sent to {} again", sent.package, sent.point);
                    w.put_placement(&sent)?;
                }
            }
            Ok(())
        })
        .await?;
    }
    site.points.changed_at(anew);
    // Last: what could not be seen to is seen to the next time.
    *levels = next;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::small_in;

    async fn opened(folder: &std::path::Path) -> Arc<Site> {
        let site = small_in(folder, |_| {}).await;
        begin(&site).await.expect("it begins");
        site
    }

    /// Two machines with one identity: which of them counts does not depend on when the site was started.
    #[tokio::test]
    async fn the_older_of_two_processes_stays_refused_when_the_site_is_started_anew() {
        let folder = tempfile::tempdir().unwrap();
        let site = opened(folder.path()).await;
        let (older, newer, newest) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
        let add =
            |name: &'static str| site.write(move |w| w.add_point(name, "http://x", PointRole::Standard));
        let (lyon, rome) = (add("lyon").await.unwrap(), add("rome").await.unwrap());
        let says = async |site: &Arc<Site>, point: i64, boot: Uuid| {
            heard(site, point, boot, clock::now()).await.map_err(|problem| problem.code)
        };
        assert_eq!(says(&site, lyon, older).await, Ok(()));
        assert_eq!(says(&site, lyon, newer).await, Ok(()));
        assert_eq!(says(&site, rome, older).await, Ok(()), "another point");
        assert_eq!(says(&site, lyon, older).await, Err(Code::PointIdentityTaken));
        site.close().await;
        for _ in 0..2 {
            let site = opened(folder.path()).await;
            // The older one may well be the first that asks.
            assert_eq!(says(&site, lyon, older).await, Err(Code::PointIdentityTaken));
            assert_eq!(says(&site, lyon, newer).await, Ok(()));
            assert_eq!(says(&site, rome, older).await, Ok(()));
            site.close().await;
        }
        let site = opened(folder.path()).await;
        assert_eq!(says(&site, lyon, newest).await, Ok(()), "a process that is really new");
        assert_eq!(says(&site, lyon, newer).await, Err(Code::PointIdentityTaken));
        site.write(move |w| w.remove_point(lyon)).await.unwrap();
        let left = site.read(|r| r.point_boots()).await.unwrap();
        assert_eq!(left, [(rome, older)], "with a point its processes are forgotten");
        site.close().await;
    }
}
