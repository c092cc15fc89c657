//! `spsync boundary …` and `spsync boundary group …`.

use std::time::Duration;

use catalog::problem::Problem;
use clap::{Args, Subcommand};
use schema::boundaries::BoundaryRow;
use serde_json::Value;

use super::output::{Rows, safe};
use super::{Global, Output, confirm, connect};
use crate::admin::Request;
use crate::boundaries::{Changed, GroupChange, ShownGroup, Which};
use crate::config::{Loaded, parse_duration};

/// Boundaries and boundary groups: who may ask which distribution point
#[derive(Debug, Subcommand)]
pub enum Boundary {
    /// Add boundaries: subnets (10.20.4.0/24), ranges (10.20.4.1-10.20.4.99), IPv6 prefixes (2001:db8::/32)
    Add {
        /// The boundaries
        #[arg(required = true, value_name = "BOUNDARY")]
        values: Vec<String>,
        /// A name for them
        #[arg(long, default_value = "")]
        name: String,
        /// Put them into these boundary groups
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<String>,
    },
    /// List boundaries
    List,
    /// Show which boundaries and groups an address is in
    Which {
        /// The address
        #[arg(value_name = "IP")]
        client: String,
    },
    /// Remove boundaries, out of all their groups too
    Remove {
        /// By value or name
        #[arg(required = true, value_name = "BOUNDARY")]
        values: Vec<String>,
    },
    /// Groups of boundaries, and the distribution points that their clients ask
    #[command(subcommand)]
    Group(Group),
}

/// Boundaries and points by name.
#[derive(Debug, Args)]
pub struct Members {
    /// A boundary, by value or name; repeat for more
    #[arg(long = "boundary", value_name = "BOUNDARY")]
    boundaries: Vec<String>,
    /// A distribution point; repeat for more
    #[arg(long = "point", value_name = "POINT")]
    points: Vec<String>,
}

impl From<Members> for GroupChange {
    fn from(members: Members) -> Self {
        Self { boundaries: members.boundaries, points: members.points }
    }
}

/// Boundary groups
#[derive(Debug, Subcommand)]
pub enum Group {
    /// Make a group
    Create {
        /// Its name
        group: String,
        #[command(flatten)]
        members: Members,
    },
    /// List boundary groups
    List,
    /// Show a group: members, options, relationships
    Show {
        /// Its name; `default` is that of the site
        group: String,
    },
    /// Change what it allows and prefers: peers, same_subnet_peers, prefer_points, prefer_cloud, cloud
    Set {
        /// Its name; `default` is that of the site
        group: String,
        /// As `peers=off`
        #[arg(required = true, value_name = "KEY=on|off")]
        options: Vec<String>,
    },
    /// Say when clients of a group may ask distribution points of another one
    Relate {
        /// The group
        group: String,
        /// The other; `default` is that of the site, which every group may ask after 120 minutes if nothing is said
        other: String,
        #[command(flatten)]
        when: When,
    },
    /// Put boundaries and distribution points into a group
    Add {
        /// Its name; `default` is that of the site
        group: String,
        #[command(flatten)]
        members: Members,
    },
    /// Take boundaries and distribution points out of a group
    Drop {
        /// Its name; `default` is that of the site
        group: String,
        #[command(flatten)]
        members: Members,
    },
    /// Delete a group; its boundaries and distribution points stay
    Delete {
        /// Its name
        group: String,
    },
}

/// When another group may be asked.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct When {
    /// So long after the first question: 30m, 2h; 0m is at once
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    after: Option<Duration>,
    /// Never
    #[arg(long)]
    never: bool,
    /// Forget what was said
    #[arg(long)]
    unset: bool,
}

impl When {
    fn minutes(&self) -> Option<i64> {
        match self.after {
            // Part of a minute is a minute: nobody is asked too early.
            Some(after) => Some(i64::try_from(after.as_secs().div_ceil(60)).unwrap_or(i64::MAX)),
            None if self.never => Some(-1),
            None => None,
        }
    }
}

impl Boundary {
    pub(super) async fn run(
        self,
        settings: &Loaded,
        global: &Global,
        output: &Output,
    ) -> Result<u8, Problem> {
        match self {
            Self::Add { values, name, groups } => {
                let request = Request::BoundaryAdd { values, name, groups };
                let added = connect::call::<Value>(settings, global, output, request).await?.body;
                output.one(
                    &added,
                    |added| added["added"][0]["value"].as_str().unwrap_or_default().to_owned(),
                    |output| {
                        let verb = if global.dry_run { "would add" } else { "added" };
                        for row in added["added"].as_array().into_iter().flatten() {
                            let text = |name: &str| row[name].as_str().unwrap_or_default();
                            output.line(format!("{verb} {} {}", text("kind"), text("value")));
                        }
                    },
                );
            }
            Self::List => {
                let all = connect::call::<Vec<BoundaryRow>>(settings, global, output, Request::BoundaryList)
                    .await?
                    .body;
                let none = "no boundaries: every client is in the default site group";
                output.list(&all, &all, |row| row.value.clone(), boundary_rows(&all), none);
            }
            Self::Which { client } => {
                let which =
                    connect::call::<Which>(settings, global, output, Request::BoundaryWhich { client })
                        .await?
                        .body;
                output.one(
                    &which,
                    |which| which.client.to_string(),
                    |output| {
                        output.table(boundary_rows(&which.boundaries));
                        let by = if which.by_default { " (no boundary says so)" } else { "" };
                        output.line(format!("groups: {}{by}", safe(&which.groups.join(", "))));
                        output.line(format!("subnet: {}", which.subnet.as_deref().unwrap_or("unknown")));
                    },
                );
            }
            Self::Remove { values } => {
                changed(settings, global, output, Request::BoundaryRemove { values }).await?;
            }
            Self::Group(group) => group.run(settings, global, output).await?,
        }
        Ok(0)
    }
}

impl Group {
    async fn run(self, settings: &Loaded, global: &Global, output: &Output) -> Result<(), Problem> {
        let request = match self {
            Self::List => {
                let all =
                    connect::call::<Vec<ShownGroup>>(settings, global, output, Request::BoundaryGroupList)
                        .await?
                        .body;
                let mut rows = Rows::new(&["GROUP", "BOUNDARIES", "POINTS", "OPTIONS", "NEIGHBOURS"]);
                for shown in &all {
                    rows.push([
                        safe(&shown.group.name),
                        shown.boundaries.len().to_string(),
                        safe(&shown.points.join(" ")),
                        options(shown),
                        safe(&relations(shown).join(", ")),
                    ]);
                }
                output.list(
                    &all,
                    &all,
                    |shown| shown.group.name.clone(),
                    rows,
                    "there are no boundary groups",
                );
                return Ok(());
            }
            Self::Show { group } => {
                let request = Request::BoundaryGroupShow { group };
                let shown = connect::call::<ShownGroup>(settings, global, output, request).await?.body;
                output.one(
                    &shown,
                    |shown| shown.group.name.clone(),
                    |output| {
                        output.line(safe(&shown.group.name));
                        output.line(format!("  options     {}", options(&shown)));
                        let lists = [
                            ("boundary", &shown.boundaries),
                            ("point", &shown.points),
                            ("neighbour", &relations(&shown)),
                        ];
                        for (what, list) in lists {
                            list.iter().for_each(|one| output.line(format!("  {what:<12}{}", safe(one))));
                        }
                    },
                );
                return Ok(());
            }
            Self::Create { group, members } => Request::BoundaryGroupCreate { group, change: members.into() },
            Self::Set { group, options } => Request::BoundaryGroupSet { group, options },
            Self::Relate { group, other, when } => {
                Request::BoundaryGroupRelate { group, other, minutes: when.minutes() }
            }
            Self::Add { group, members } => {
                Request::BoundaryGroupMembers { group, change: members.into(), inside: true }
            }
            Self::Drop { group, members } => {
                Request::BoundaryGroupMembers { group, change: members.into(), inside: false }
            }
            Self::Delete { group } => {
                confirm(global, &format!("delete boundary group `{group}`"))?;
                Request::BoundaryGroupDelete { group }
            }
        };
        changed(settings, global, output, request).await
    }
}

async fn changed(
    settings: &Loaded,
    global: &Global,
    output: &Output,
    request: Request,
) -> Result<(), Problem> {
    let changed = connect::call::<Changed>(settings, global, output, request).await?.body;
    output.one(
        &changed,
        |changed| changed.name.clone(),
        |output| {
            let would = if changed.dry_run { "would be " } else { "" };
            for line in &changed.done {
                output.line(format!("{}: {would}{}", safe(&changed.name), safe(line)));
            }
        },
    );
    Ok(())
}

fn boundary_rows(all: &[BoundaryRow]) -> Rows {
    let mut rows = Rows::new(&["BOUNDARY", "KIND", "NAME", "GROUPS"]);
    for row in all {
        rows.push([row.value.clone(), row.kind.clone(), safe(&row.name), safe(&row.groups.join(", "))]);
    }
    rows
}

/// The options that are on.
fn options(shown: &ShownGroup) -> String {
    let group = &shown.group;
    let all = [
        ("peers", group.peers),
        ("same_subnet_peers", group.same_subnet_peers),
        ("prefer_points", group.prefer_points),
        ("prefer_cloud", group.prefer_cloud),
        ("cloud", group.cloud),
    ];
    all.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect::<Vec<_>>().join(" ")
}

fn relations(shown: &ShownGroup) -> Vec<String> {
    let line = |relation: &crate::boundaries::ShownRelation| {
        let when = match relation.minutes {
            -1 => "never".to_owned(),
            minutes => format!("after {minutes}m"),
        };
        let implied = if relation.implied { " (implied)" } else { "" };
        format!("{} {when}{implied}", relation.group)
    };
    shown.relations.iter().map(line).collect()
}
