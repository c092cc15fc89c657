//! Boundaries and boundary groups, as administrators keep them. What follows from them for a client is decided in
//! [`dp::locate`]; every change here takes effect at once ([`Site::refresh_locations`]).

mod groups;

use std::net::IpAddr;
use std::sync::Arc;

use catalog::problem::{Code, Problem};
use dp::locate::Boundary;
use schema::boundaries::{BoundaryGroupRow, BoundaryRow};
use serde::{Deserialize, Serialize};

pub use groups::{
    GroupChange, ShownGroup, ShownRelation, create, delete, group_list, members, relate, set, show,
};

use crate::admin::{Answer, Caller};
use crate::clock;
use crate::find::called;
use crate::names::{self, Rule};
use crate::site::Site;

/// The most boundaries of one site: each is part of every answer's index.
const MOST_BOUNDARIES: usize = 100_000;

/// What changed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Changed {
    /// To what.
    pub name: String,
    /// What was done, a line each.
    pub done: Vec<String>,
    /// Nothing was: this is what would have been.
    pub dry_run: bool,
}

/// Where an address lies.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Which {
    /// The address.
    pub client: IpAddr,
    /// Every boundary around it.
    pub boundaries: Vec<BoundaryRow>,
    /// Its groups.
    pub groups: Vec<String>,
    /// No boundary puts it there: it is the default site group.
    pub by_default: bool,
    /// The subnet that counts as its own.
    pub subnet: Option<String>,
}

/// Adds boundaries, to groups too.
///
/// # Errors
/// `BOUNDARY_INVALID`, `BOUNDARY_EXISTS`, `BOUNDARY_GROUP_NOT_FOUND`.
pub async fn add(
    site: &Arc<Site>,
    values: &[String],
    name: &str,
    into: &[String],
    caller: &Caller,
) -> Result<Answer, Problem> {
    let all = site.read(|r| r.boundaries()).await?;
    let mut added: Vec<Boundary> = Vec::new();
    for value in values {
        let boundary = parsed(value)?;
        if added.contains(&boundary) || all.iter().any(|row| row.value == boundary.to_string()) {
            return Err(Problem::new(
                Code::BoundaryExists,
                format!("there is a boundary `{boundary}` already"),
            ));
        }
        added.push(boundary);
    }
    if all.len() + added.len() > MOST_BOUNDARIES {
        let message = format!("a site has at most {MOST_BOUNDARIES} boundaries");
        return Err(Problem::new(Code::BoundaryInvalid, message).help("draw wider ones"));
    }
    if !name.trim().is_empty() {
        names::checked("a boundary", name, Rule::ShownLong)?;
    }
    let mut groups = Vec::new();
    for group in into {
        groups.push(group_named(site, group).await?);
    }
    if !caller.dry_run {
        let (who, name, new) = (caller.who.clone(), name.to_owned(), added.clone());
        let groups: Vec<i64> = groups.iter().map(|group| group.id).collect();
        site.write(move |w| {
            for boundary in new {
                let value = boundary.to_string();
                let Some(id) = w.add_boundary(boundary.kind().word(), &value, &name, clock::now())? else {
                    let message = format!("there is a boundary `{value}` already");
                    return Err(Problem::new(Code::BoundaryExists, message).into());
                };
                for group in &groups {
                    w.boundary_in_group(*group, id, true)?;
                }
                w.audit(&who, "boundary.add", &value, clock::now())?;
            }
            Ok(())
        })
        .await?;
        site.refresh_locations().await?;
    }
    let groups: Vec<_> = groups.into_iter().map(|group| group.name).collect();
    let rows = added.iter().map(|boundary| BoundaryRow {
        id: 0,
        kind: boundary.kind().to_string(),
        value: boundary.to_string(),
        name: name.to_owned(),
        groups: groups.clone(),
    });
    Answer::of(&serde_json::json!({ "added": rows.collect::<Vec<_>>(), "dry_run": caller.dry_run }))
}

/// All boundaries.
///
/// # Errors
/// Those of the database.
pub async fn list(site: &Arc<Site>) -> Result<Answer, Problem> {
    Answer::of(&site.read(|r| r.boundaries()).await?)
}

/// Which boundaries and groups are around an address.
///
/// # Errors
/// `INVALID_OPTION`.
pub async fn which(site: &Arc<Site>, client: &str) -> Result<Answer, Problem> {
    let client: IpAddr = client
        .parse()
        .map_err(|_| Problem::new(Code::InvalidOption, format!("`{client}` is no IP address")))?;
    let around = |row: &BoundaryRow| row.value.parse().is_ok_and(|b: Boundary| b.contains(client));
    let boundaries = site.read(|r| r.boundaries()).await?.into_iter().filter(around).collect();
    let places = site.places_now().await?;
    let standing = places.standing(client);
    Answer::of(&Which {
        client: client.to_canonical(),
        boundaries,
        groups: places.names(&standing.groups).into_iter().map(str::to_owned).collect(),
        by_default: standing.by_default,
        subnet: standing.subnet.map(|subnet| subnet.to_string()),
    })
}

/// Takes boundaries away, by value or name.
///
/// # Errors
/// `BOUNDARY_NOT_FOUND`, `AMBIGUOUS`.
pub async fn remove(site: &Arc<Site>, values: &[String], caller: &Caller) -> Result<Answer, Problem> {
    let all = site.read(|r| r.boundaries()).await?;
    let found: Vec<_> = values.iter().map(|value| boundary_named(&all, value)).collect::<Result<_, _>>()?;
    let done: Vec<String> = found.iter().map(|row| format!("removed {}", row.value)).collect();
    if !caller.dry_run {
        let who = caller.who.clone();
        site.write(move |w| {
            for row in &found {
                w.remove_boundary(row.id)?;
                w.audit(&who, "boundary.remove", &row.value, clock::now())?;
            }
            Ok(())
        })
        .await?;
        site.refresh_locations().await?;
    }
    Answer::of(&Changed { name: "boundaries".to_owned(), done, dry_run: caller.dry_run })
}

fn parsed(value: &str) -> Result<Boundary, Problem> {
    value
        .parse()
        .map_err(|error: dp::locate::InvalidBoundary| Problem::new(Code::BoundaryInvalid, error.to_string()))
}

/// The boundary of this value or name.
fn boundary_named(all: &[BoundaryRow], name: &str) -> Result<BoundaryRow, Problem> {
    let value = name.parse::<Boundary>().map(|boundary| boundary.to_string()).unwrap_or_default();
    let is =
        |row: &&BoundaryRow| row.value == value || (!name.is_empty() && row.name.eq_ignore_ascii_case(name));
    let found: Vec<_> = all.iter().filter(is).collect();
    match found.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(Problem::new(Code::BoundaryNotFound, format!("there is no boundary `{name}`"))),
        several => {
            let values: Vec<_> = several.iter().map(|row| row.value.as_str()).collect();
            Err(Problem::new(Code::Ambiguous, format!("several boundaries are called `{name}`"))
                .because(values.join(", ")))
        }
    }
}

/// The group of this name. `default` is that of the site.
async fn group_named(site: &Arc<Site>, name: &str) -> Result<BoundaryGroupRow, Problem> {
    let all = site.read(|r| r.boundary_groups()).await?;
    find_group(&all, name).cloned()
}

fn find_group<'g>(all: &'g [BoundaryGroupRow], name: &str) -> Result<&'g BoundaryGroupRow, Problem> {
    let list = "`spsync boundary group list`";
    let is_default = |row: &&BoundaryGroupRow| row.id == schema::boundaries::DEFAULT_GROUP;
    called("boundary group", Code::BoundaryGroupNotFound, name, all, |row| &row.name, list).or_else(
        |refused| {
            let default = all.iter().find(is_default).filter(|_| name.eq_ignore_ascii_case("default"));
            default.ok_or(refused)
        },
    )
}
