//! Boundary groups: members, options and relationships.

use std::collections::HashSet;
use std::sync::Arc;

use catalog::problem::{Code, Problem};
use schema::boundaries::{BoundaryGroupRow, DEFAULT_GROUP, RelationRow};
use serde::{Deserialize, Serialize};

use super::{Changed, boundary_named, find_group, group_named};
use crate::admin::{Answer, Caller};
use crate::clock;
use crate::find::{called, nobody};
use crate::names::{self, Rule};
use crate::site::Site;

/// A year: who waits longer does not wait.
const LONGEST_WAIT: i64 = 365 * 24 * 60;
/// What holds where no relationship says anything else.
const IMPLIED_MINUTES: i64 = (dp::locate::DEFAULT_FALLBACK.as_secs() / 60) as i64;

/// A group with all that belongs to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShownGroup {
    /// The group itself.
    #[serde(flatten)]
    pub group: BoundaryGroupRow,
    /// It is that of the site, for everybody whom no boundary puts elsewhere.
    pub default: bool,
    /// Its boundaries.
    pub boundaries: Vec<String>,
    /// Its distribution points.
    pub points: Vec<String>,
    /// When its clients may ask points of other groups.
    pub relations: Vec<ShownRelation>,
}

/// When clients of a group may ask points of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownRelation {
    /// The other group.
    pub group: String,
    /// Minutes after the first question; -1 for never.
    pub minutes: i64,
    /// Nobody said so: it is the link to the default site group that every group has.
    pub implied: bool,
}

/// Boundaries and points that come into a group or leave it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupChange {
    /// Boundaries by value or name.
    pub boundaries: Vec<String>,
    /// Distribution points by name.
    pub points: Vec<String>,
}

/// Makes a group, with members if some are named.
///
/// # Errors
/// `NAME_*`, `BOUNDARY_GROUP_EXISTS`, those of [`members`].
pub async fn create(
    site: &Arc<Site>,
    name: &str,
    change: &GroupChange,
    caller: &Caller,
) -> Result<Answer, Problem> {
    let name = names::checked("a boundary group", name, Rule::ShownLong)?;
    let exists =
        || Problem::new(Code::BoundaryGroupExists, format!("there is a boundary group `{name}` already"));
    let all = site.read(|r| r.boundary_groups()).await?;
    if find_group(&all, &name).is_ok() {
        return Err(exists());
    }
    let (boundaries, points, mut done) = resolved(site, change, true).await?;
    done.insert(0, format!("created {name}"));
    if !caller.dry_run {
        let (who, wanted) = (caller.who.clone(), name.clone());
        let id = site
            .write(move |w| {
                let Some(id) = w.add_boundary_group(&wanted, clock::now())? else { return Ok(None) };
                boundaries.iter().try_for_each(|boundary| w.boundary_in_group(id, *boundary, true))?;
                points.iter().try_for_each(|point| w.point_in_group(id, *point, true))?;
                w.audit(&who, "boundary-group.create", &wanted, clock::now())?;
                Ok(Some(id))
            })
            .await?;
        id.ok_or_else(exists)?;
        site.refresh_locations().await?;
    }
    Answer::of(&Changed { name, done, dry_run: caller.dry_run })
}

/// All groups with all that belongs to them.
///
/// # Errors
/// Those of the database.
pub async fn group_list(site: &Arc<Site>) -> Result<Answer, Problem> {
    Answer::of(&shown(site).await?)
}

/// One group.
///
/// # Errors
/// `BOUNDARY_GROUP_NOT_FOUND`.
pub async fn show(site: &Arc<Site>, name: &str) -> Result<Answer, Problem> {
    let id = group_named(site, name).await?.id;
    let found = shown(site).await?.into_iter().find(|shown| shown.group.id == id);
    // It was there a moment ago.
    found.map_or_else(
        || Err(Problem::new(Code::BoundaryGroupNotFound, nobody("boundary group", name))),
        |shown| Answer::of(&shown),
    )
}

async fn shown(site: &Arc<Site>) -> Result<Vec<ShownGroup>, Problem> {
    let (groups, boundaries, members, points, placed, relations) = site
        .read(|r| {
            Ok((
                r.boundary_groups()?,
                r.boundaries()?,
                r.boundary_members()?,
                r.places()?,
                r.point_members()?,
                r.boundary_relations()?,
            ))
        })
        .await?;
    let name_of =
        |id: i64| groups.iter().find(|group| group.id == id).map_or("?", |group| &group.name).to_owned();
    let of = |group: &BoundaryGroupRow| {
        let mut own: Vec<_> = relations
            .iter()
            .filter(|relation| relation.group == group.id)
            .map(|RelationRow { neighbour, minutes, .. }| ShownRelation {
                group: name_of(*neighbour),
                minutes: *minutes,
                implied: false,
            })
            .collect();
        let says = relations.iter().any(|one| one.group == group.id && one.neighbour == DEFAULT_GROUP);
        if group.id != DEFAULT_GROUP && !says {
            let group = name_of(DEFAULT_GROUP);
            own.push(ShownRelation { group, minutes: IMPLIED_MINUTES, implied: true });
        }
        own
    };
    let members: HashSet<_> = members.into_iter().collect();
    let somewhere: HashSet<_> = placed.iter().map(|(_, point)| *point).collect();
    let placed: HashSet<_> = placed.into_iter().collect();
    let all = groups.iter().map(|group| ShownGroup {
        default: group.id == DEFAULT_GROUP,
        boundaries: boundaries
            .iter()
            .filter(|row| members.contains(&(group.id, row.id)))
            .map(|row| row.value.clone())
            .collect(),
        points: points
            .iter()
            .filter(|point| {
                placed.contains(&(group.id, point.id))
                    || (group.id == DEFAULT_GROUP && !somewhere.contains(&point.id))
            })
            .map(|point| point.name.clone())
            .collect(),
        relations: of(group),
        group: group.clone(),
    });
    Ok(all.collect())
}

/// Changes options: `KEY=on` or `KEY=off`.
///
/// # Errors
/// `BOUNDARY_GROUP_NOT_FOUND`, `INVALID_OPTION`.
pub async fn set(
    site: &Arc<Site>,
    name: &str,
    changes: &[String],
    caller: &Caller,
) -> Result<Answer, Problem> {
    let mut group = group_named(site, name).await?;
    let mut done = Vec::new();
    for change in changes {
        let (key, value) = change.split_once('=').unwrap_or((change, ""));
        let on = match value {
            "on" | "true" | "yes" => true,
            "off" | "false" | "no" => false,
            _ => {
                return Err(Problem::new(
                    Code::InvalidOption,
                    format!("`{change}` is not of the form KEY=on or KEY=off"),
                ));
            }
        };
        let options = [
            ("peers", &mut group.peers),
            ("same_subnet_peers", &mut group.same_subnet_peers),
            ("prefer_points", &mut group.prefer_points),
            ("prefer_cloud", &mut group.prefer_cloud),
            ("cloud", &mut group.cloud),
        ];
        let wanted = key.replace('-', "_");
        let known: Vec<_> = options.iter().map(|(name, _)| *name).collect();
        match options.into_iter().find(|(name, _)| *name == wanted) {
            Some((_, option)) => *option = on,
            None => {
                return Err(Problem::new(
                    Code::InvalidOption,
                    format!("a boundary group has no option `{key}`"),
                )
                .help(format!("the options are {}", known.join(", "))));
            }
        }
        done.push(format!("{wanted} = {}", if on { "on" } else { "off" }));
    }
    if group.same_subnet_peers && !group.peers {
        let message = "`same_subnet_peers` narrows down what `peers` allows, and that is off";
        return Err(Problem::new(Code::ConflictingOptions, message).help("set peers=on too, or both off"));
    }
    if !caller.dry_run {
        let (who, row, what) = (caller.who.clone(), group.clone(), done.join(", "));
        site.write(move |w| {
            w.set_boundary_group(&row)?;
            w.audit(&who, "boundary-group.set", &format!("{}: {what}", row.name), clock::now())
        })
        .await?;
        site.refresh_locations().await?;
    }
    Answer::of(&Changed { name: group.name, done, dry_run: caller.dry_run })
}

/// Says when clients of one group may ask points of another: after minutes, never (-1), or as if nothing was ever said.
///
/// # Errors
/// `BOUNDARY_GROUP_NOT_FOUND`, `INVALID_OPTION`.
pub async fn relate(
    site: &Arc<Site>,
    name: &str,
    other: &str,
    minutes: Option<i64>,
    caller: &Caller,
) -> Result<Answer, Problem> {
    let (group, neighbour) = (group_named(site, name).await?, group_named(site, other).await?);
    if group.id == neighbour.id {
        let message = format!("`{}` is not its own neighbour", group.name);
        return Err(Problem::new(Code::InvalidOption, message).help("its own points are asked at once"));
    }
    if minutes.is_some_and(|minutes| !(-1..=LONGEST_WAIT).contains(&minutes)) {
        let message = format!("clients wait for at most {} days", LONGEST_WAIT / (24 * 60));
        return Err(Problem::new(Code::InvalidOption, message).help("use --never"));
    }
    let line = match minutes {
        Some(-1) => format!("{} is never fallen back to", neighbour.name),
        Some(minutes) => format!("{} is asked after {minutes} minutes", neighbour.name),
        None => format!("nothing is said about {}", neighbour.name),
    };
    if !caller.dry_run {
        let (who, what) = (caller.who.clone(), format!("{}: {line}", group.name));
        let (from, to) = (group.id, neighbour.id);
        site.write(move |w| {
            w.relate_groups(from, to, minutes)?;
            w.audit(&who, "boundary-group.relate", &what, clock::now())
        })
        .await?;
        site.refresh_locations().await?;
    }
    Answer::of(&Changed { name: group.name, done: vec![line], dry_run: caller.dry_run })
}

/// Puts boundaries and points into a group, or takes them out.
///
/// # Errors
/// `BOUNDARY_GROUP_NOT_FOUND`, `BOUNDARY_NOT_FOUND`, `DP_NOT_FOUND`, `INVALID_OPTION`.
pub async fn members(
    site: &Arc<Site>,
    name: &str,
    change: &GroupChange,
    inside: bool,
    caller: &Caller,
) -> Result<Answer, Problem> {
    let group = group_named(site, name).await?;
    if group.id == DEFAULT_GROUP && !change.boundaries.is_empty() && inside {
        let message = format!("`{}` is for clients that no boundary knows", group.name);
        return Err(Problem::new(Code::InvalidOption, message).help("leave the boundary out of all groups"));
    }
    let (boundaries, points, done) = resolved(site, change, inside).await?;
    if !caller.dry_run {
        let (who, id, what) = (caller.who.clone(), group.id, format!("{}: {}", group.name, done.join(", ")));
        site.write(move |w| {
            boundaries.iter().try_for_each(|boundary| w.boundary_in_group(id, *boundary, inside))?;
            points.iter().try_for_each(|point| w.point_in_group(id, *point, inside))?;
            w.audit(&who, "boundary-group.members", &what, clock::now())
        })
        .await?;
        site.refresh_locations().await?;
    }
    Answer::of(&Changed { name: group.name, done, dry_run: caller.dry_run })
}

/// Row numbers of the boundaries and points named, and a line for each.
async fn resolved(
    site: &Arc<Site>,
    change: &GroupChange,
    inside: bool,
) -> Result<(Vec<i64>, Vec<i64>, Vec<String>), Problem> {
    let (boundaries, places) = site.read(|r| Ok((r.boundaries()?, r.places()?))).await?;
    let verb = if inside { "added" } else { "removed" };
    let mut done = Vec::new();
    let mut rows = Vec::new();
    for name in &change.boundaries {
        let row = boundary_named(&boundaries, name)?;
        done.push(format!("{verb} boundary {}", row.value));
        rows.push(row.id);
    }
    let mut points = Vec::new();
    for name in &change.points {
        let (what, list) = ("distribution point", "`spsync dp list`");
        let place = called(what, Code::DpNotFound, name, &places, |place| &place.name, list)?;
        done.push(format!("{verb} distribution point {}", place.name));
        points.push(place.id);
    }
    Ok((rows, points, done))
}

/// Deletes a group. Its boundaries and points stay.
///
/// # Errors
/// `BOUNDARY_GROUP_NOT_FOUND`, `BOUNDARY_GROUP_NEEDED`.
pub async fn delete(site: &Arc<Site>, name: &str, caller: &Caller) -> Result<Answer, Problem> {
    let group = group_named(site, name).await?;
    if group.id == DEFAULT_GROUP {
        let message = format!("`{}` is where everybody is whom no boundary knows", group.name);
        return Err(Problem::new(Code::BoundaryGroupNeeded, message));
    }
    if !caller.dry_run {
        let (who, row) = (caller.who.clone(), group.clone());
        site.write(move |w| {
            w.delete_boundary_group(row.id)?;
            w.audit(&who, "boundary-group.delete", &row.name, clock::now())
        })
        .await?;
        site.refresh_locations().await?;
    }
    let done = vec![format!("deleted {}", group.name)];
    Answer::of(&Changed { name: group.name, done, dry_run: caller.dry_run })
}
