//! Sending packages to points, and what else an operator asks for a package on a point.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use catalog::id::PackageId;
use catalog::problem::{Code, Problem};
use jiff::Timestamp;
use schema::keys::Principal;
use schema::packages::Package;
use schema::points::{ContentState, OWN_POINT, PointGroup, PointRow};
use schema::{Reader, SchemaError, Writer};
use serde::{Deserialize, Serialize};

use super::job::{self, Event};
use crate::admin::{Answer, Caller};
use crate::clock;
use crate::config::PointRetry;
use crate::find::{nearest, nearest_and, nobody};
use crate::site::Site;

/// What came of sending a package to one point.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sent {
    /// Name of the distribution point.
    pub point: String,
    /// It has the package already in this version, or it is on its way.
    pub already: bool,
    /// How it is doing there; none where it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<ContentState>,
    /// Files of the package.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    /// Of a point on another machine: whether it has a key in force. What never enrolled fetches nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrolled: Option<bool>,
}

/// Points and groups that names mean.
#[derive(Debug, Clone, Default)]
pub struct Targets {
    /// Each point once.
    pub points: Vec<PointRow>,
    /// Groups among the names.
    pub groups: Vec<PointGroup>,
}

impl Targets {
    /// Whether a point is meant as one of a group.
    fn has_in_group(&self, point: &PointRow) -> bool {
        self.groups.iter().any(|group| group.points.contains(&point.name))
    }

    /// How this point is meant.
    pub(super) fn meaning(&self, point: &PointRow) -> Meant {
        if self.has_in_group(point) { Meant::ByGroup } else { Meant::ByName }
    }
}

/// How a point is meant, which says what is done where it takes nothing now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meant {
    /// It was named: whoever named it hears of it, and nothing is kept.
    ByName,
    /// As one of a group: what its group has follows by itself, when its maintenance is over and when it has room.
    ByGroup,
}

/// The points of these names: points, groups, or `all`. No name means the site's own.
///
/// # Errors
/// `DP_NOT_FOUND`.
pub async fn targets(site: &Arc<Site>, names: &[String]) -> Result<Targets, Problem> {
    let (all, groups) = site.read(|r| Ok((r.point_settings()?, r.point_groups()?))).await?;
    if names.is_empty() {
        return Ok(Targets { points: all.into_iter().take(1).collect(), groups: Vec::new() });
    }
    let mut targets = Targets::default();
    for name in names {
        let is = |known: &str| known.eq_ignore_ascii_case(name);
        let group = groups.iter().find(|group| is(&group.name));
        let found: Vec<_> = all
            .iter()
            .filter(|point| {
                is("all") || is(&point.name) || group.is_some_and(|group| group.points.contains(&point.name))
            })
            .collect();
        if found.is_empty() && group.is_none() {
            let known = all.iter().map(|point| point.name.as_str());
            let near = nearest(name, known.chain(groups.iter().map(|group| group.name.as_str())));
            return Err(Problem::new(Code::DpNotFound, nobody("distribution point or group", name))
                .help(nearest_and(&near, "`spsync dp list`")));
        }
        for point in found {
            if !targets.points.iter().any(|known| known.id == point.id) {
                targets.points.push(point.clone());
            }
        }
        targets.groups.extend(group.cloned());
    }
    Ok(targets)
}

/// Sends a package to one point, in the transaction of `w`. Whether that fits is decided before the first byte.
///
/// # Errors
/// The outer one is the database's; the inner one says why this point is not sent it.
pub fn send_to(
    w: &Writer<'_>,
    package: &Package,
    (point, meant): (&PointRow, Meant),
    retry: &PointRetry,
    now: Timestamp,
) -> Result<Result<(ContentState, bool), Problem>, SchemaError> {
    let (id, version) = (&package.id, package.version);
    let before = w.placement(id, point.id)?;
    if point.id == OWN_POINT {
        let already = before.is_some_and(|placed| placed.version == version);
        w.distribute(id, point.id, now)?;
        return Ok(Ok((ContentState::Success, already)));
    }
    if let Some(placed) = before.as_ref().filter(|placed| !job::brings_something(Some(placed), version)) {
        return Ok(Ok((placed.state, true)));
    }
    // A point is sent what its site has. What it holds and its site has lost meanwhile would look withdrawn to it.
    let missing = w.files_not_here(id)?;
    if missing > 0 {
        let message = format!(
            "the site lacks {missing} files of package `{}`, so it is not sent to `{}`",
            package.name, point.name
        );
        return Ok(Err(
            Problem::new(Code::PackageIncomplete, message).keeping("what the point has of it stays")
        ));
    }
    if point.maintenance && meant == Meant::ByName {
        let message = format!("`{}` is in maintenance", point.name);
        return Ok(Err(Problem::new(Code::DpInMaintenance, message)));
    }
    if let Some(free) = point.free {
        let (lacking, coming) =
            (w.bytes_lacking(std::slice::from_ref(id), point.id)?, w.bytes_on_the_way(point.id)?);
        let needed = lacking + coming;
        if lacking > 0 && needed > free {
            let others = match coming {
                0 => String::new(),
                coming => format!(" beside {coming} that are on their way"),
            };
            let message = format!(
                "`{}` needs {lacking} bytes for package `{}`{others}, and has {free} free: short by {}",
                point.name,
                package.name,
                needed - free
            );
            let full = Problem::new(Code::DpDiskFull, message).keeping("nothing was sent");
            if meant == Meant::ByGroup {
                // The point looks itself before it fetches anything, and again after a pause; and nobody has to remember that it is to
                // have it.
                w.distribute(id, point.id, now)?;
                if let Err(refused) = change(w, id, point.id, Event::Send, retry, now)? {
                    return Ok(Err(refused));
                }
                return Ok(Err(full
                    .keeping("the group's package is to go there all the same, and does when there is room")
                    .help("make room there; `spsync package retry P` tries again at once")));
            }
            // What only the earlier version has stays until the new one is there.
            return Ok(Err(match before {
                Some(placed) if placed.version != version => full.help(format!(
                    "make room there; or `spsync package withdraw {id} --from {}` takes the earlier version off first",
                    point.name
                )),
                _ => full,
            }));
        }
    }
    w.distribute(id, point.id, now)?;
    change(w, id, point.id, Event::Send, retry, now)
}

/// Lets something happen to a package on a point; its state then, and whether nothing changed.
fn change(
    w: &Writer<'_>,
    package: &PackageId,
    point: i64,
    event: Event,
    retry: &PointRetry,
    now: Timestamp,
) -> Result<Result<(ContentState, bool), Problem>, SchemaError> {
    let Some(placed) = w.placement(package, point)? else {
        let message = format!("package {package} is not on this distribution point");
        return Ok(Err(Problem::new(Code::DpStateRefused, message)
            .help("`spsync package distribute P --to DP` sends it there")));
    };
    let order = w.next_order()?;
    Ok(match job::on(&placed, event, order, retry, now) {
        Ok(Some(next)) => {
            w.put_placement(&next)?;
            Ok((next.state, false))
        }
        Ok(None) => Ok((placed.state, true)),
        Err(refused) => Err(refused),
    })
}

/// A point has enrolled, in the transaction of `w`. Where another installation had its name before, its machine was replaced: what
/// that had is not here, as far as anybody knows. Everything is ordered anew, which costs no line where it is here after all.
///
/// # Errors
/// Those of the database.
pub fn installed(
    w: &Writer<'_>,
    principal: &Principal,
    retry: &PointRetry,
    now: Timestamp,
) -> Result<(), SchemaError> {
    let Some(before) = w.installation_before(principal)? else { return Ok(()) };
    let Some(point) = w.point_named(&principal.name)?.filter(|_| before != principal.instance) else {
        return Ok(());
    };
    w.point_has_nothing(point.id)?;
    for placed in w.placements_on(point.id)? {
        let order = w.next_order()?;
        if let Ok(Some(next)) = job::on(&placed, Event::Replaced, order, retry, now) {
            w.put_placement(&next)?;
        }
    }
    Ok(())
}

/// Takes a package off a point, in the transaction of `w`: at once where nobody has to do anything for it.
///
/// # Errors
/// Those of the database.
pub fn withdraw_from(
    w: &Writer<'_>,
    package: &PackageId,
    point: &PointRow,
    retry: &PointRetry,
    now: Timestamp,
) -> Result<(), SchemaError> {
    if point.id == OWN_POINT || point.last_seen.is_none() {
        return w.withdraw(package, point.id);
    }
    // Withdrawing is never refused.
    let _ = change(w, package, point.id, Event::Withdraw, retry, now)?;
    Ok(())
}

/// What an operator asks for a package that is on points, or was to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Read every file again, and fetch what is not good.
    Resend,
    /// Read every file again.
    Validate,
    /// The same, and fetch bad ones again.
    Repair,
    /// Do not send it.
    Cancel,
    /// Try again now.
    Retry,
}

impl Act {
    fn event(self) -> Event {
        match self {
            Self::Resend => Event::Resend,
            Self::Validate => Event::Validate { repair: false },
            Self::Repair => Event::Validate { repair: true },
            Self::Cancel => Event::Cancel,
            Self::Retry => Event::Retry,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Resend => "package.redistribute",
            Self::Validate | Self::Repair => "package.validate",
            Self::Cancel => "package.cancel",
            Self::Retry => "package.retry",
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Acted {
    /// Id of the package.
    pub package: PackageId,
    /// Its name.
    pub name: String,
    /// Each point.
    pub points: Vec<Sent>,
    /// Nothing was changed.
    pub dry_run: bool,
}

/// Does `act` for a package on the points of these names; without names, on every other machine that it is on.
///
/// # Errors
/// `PACKAGE_NOT_FOUND`, `DP_NOT_FOUND`; what each point refuses is in the answer, unless all do.
pub async fn act(
    site: &Arc<Site>,
    name: &str,
    on: &[String],
    act: Act,
    caller: &Caller,
) -> Result<Answer, Problem> {
    let package = crate::packages::placed(site, name).await?;
    let points = if on.is_empty() {
        let id = package.id.clone();
        let (placed, all) = site.read(move |r| Ok((r.placements_of(&[id])?, r.point_settings()?))).await?;
        let on: HashSet<i64> = placed.iter().map(|placed| placed.point_id).collect();
        all.into_iter().filter(|point| point.id != OWN_POINT && on.contains(&point.id)).collect()
    } else {
        targets(site, on).await?.points
    };
    let retry = site.settings().dp.retry.clone();
    let (who, dry_run, id) = (caller.who.clone(), caller.dry_run, package.id.clone());
    let acted_on: Vec<i64> = points.iter().map(|point| point.id).collect();
    let sent = site
        .write_unless(dry_run, move |w| {
            let now = clock::now();
            let mut sent = Vec::new();
            for point in points {
                let done = if point.id == OWN_POINT {
                    Err(own(act))
                } else {
                    change(w, &id, point.id, act.event(), &retry, now)?
                };
                let (files, bytes) = match w.placement(&id, point.id)? {
                    Some(placed) => (w.files_on(&id, point.id)?, placed.bytes),
                    None => (0, 0),
                };
                sent.push(line(point.name, files, bytes, done));
            }
            w.audit(&who, act.name(), id.as_str(), now)?;
            Ok(sent)
        })
        .await?;
    // What is asked of these points is all that is another: no file has come or gone anywhere, so locations are as they were.
    site.points.changed_at(acted_on);
    let problem = partly(&sent, &package.name)?;
    Answer::partly(&Acted { package: package.id, name: package.name, points: sent, dry_run }, problem)
}

fn own(act: Act) -> Problem {
    let message = "the site's own distribution point serves the site's library itself";
    let help = match act {
        Act::Validate | Act::Repair => "`spsync package validate P` without `--to`",
        _ => "`spsync package distribute P`",
    };
    Problem::new(Code::DpStateRefused, message).help(help)
}

/// One line of an answer.
pub(crate) fn line(
    point: String,
    files: u64,
    bytes: u64,
    done: Result<(ContentState, bool), Problem>,
) -> Sent {
    match done {
        Ok((state, already)) => {
            Sent { point, already, state: Some(state), files, bytes, problem: None, enrolled: None }
        }
        Err(problem) => {
            Sent { point, already: false, state: None, files, bytes, problem: Some(problem), enrolled: None }
        }
    }
}

/// Says of each point on another machine whether it has enrolled.
///
/// # Errors
/// Those of the database.
pub(crate) fn mark_enrolled(reader: &Reader<'_>, sent: &mut [Sent]) -> Result<(), SchemaError> {
    let remote = reader.places()?.into_iter().filter(|place| place.id != OWN_POINT);
    let has_key: HashMap<String, bool> = remote.map(|place| (place.name, place.has_key)).collect();
    for one in sent {
        one.enrolled = has_key.get(&one.point).copied();
    }
    Ok(())
}

/// What the whole comes to: fine, partly done, or (where every point refused) the first refusal.
///
/// # Errors
/// That refusal.
pub(crate) fn partly(sent: &[Sent], package: &str) -> Result<Option<Problem>, Problem> {
    let refused: Vec<_> = sent.iter().filter_map(|one| Some((&one.point, one.problem.as_ref()?))).collect();
    match refused.as_slice() {
        [] => Ok(None),
        [(_, first), ..] if refused.len() == sent.len() => Err((*first).clone()),
        some => {
            let message =
                format!("{} of {} distribution points refused package `{package}`", some.len(), sent.len());
            let mut whole = Problem::new(Code::PackagePartlyDone, message)
                .help("see the reasons; the same command again goes on with the rest");
            for (point, cause) in some.iter().take(20) {
                whole = whole.because(format!("{point}: {cause}"));
            }
            Ok(Some(whole))
        }
    }
}
