//! `spsync dp …`; and how packages on points are shown, whoever asked.

mod group;

use catalog::problem::Problem;
use clap::{Subcommand, ValueEnum};
use schema::keys::PrincipalKind;
use schema::points::Placement;
use serde_json::Value;

use self::group::Group;
use super::output::{Rows, safe, size, when};
use super::said::show_value;
use super::{Global, Output, connect, key};
use crate::admin::{PointVerb, Request};
use crate::config::Loaded;
use crate::points::{Acted, Placed, PointWithContent, Sent, ShownPoint};
use crate::words::counted;

/// Distribution points
#[derive(Debug, Subcommand)]
pub enum Dp {
    /// Add a distribution point on another machine; then `dp enrol` it
    Add {
        /// Its name
        name: String,
        /// Where clients reach it, as http://lyon01:8530
        #[arg(long)]
        url: String,
        /// Where they reach it over TLS, as https://lyon01:8531: images, applications and private packages are fetched there
        #[arg(long, value_name = "URL")]
        tls_url: Option<String>,
        /// Points that it asks before the site, in order
        #[arg(long, value_name = "DP")]
        pull_from: Vec<String>,
    },
    /// List distribution points
    List,
    /// Show a distribution point, and what is on it
    Show {
        /// Its name
        dp: String,
    },
    /// Change settings: url, tls_url, rate, schedule, pull_from, on_demand
    Set {
        /// Its name
        dp: String,
        /// As rate=12MiB/s, schedule="mon-fri 08-18 closed; wed 12-13 open", pull_from=dp1,dp2, on_demand=yes
        #[arg(required = true, value_name = "KEY=VALUE")]
        changes: Vec<String>,
    },
    /// Maintenance mode on or off: no content is sent to it and no clients are directed to it; what its groups are sent follows
    Maintenance {
        /// Its name
        dp: String,
        /// on or off
        state: Switch,
    },
    /// Show every package on every distribution point, as a grid
    Coverage {
        /// Show groups of points across
        #[arg(long)]
        groups: bool,
        /// Show every column, and what is on no point too
        #[arg(long)]
        all: bool,
    },
    /// Create a one-time enrolment token for its machine (24 h, printed once)
    Enrol {
        /// Its name
        dp: String,
    },
    /// Remove a distribution point, and revoke its key
    Remove {
        /// Its name
        dp: String,
    },
    /// Groups of points
    #[command(subcommand)]
    Group(Group),
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// On
    On,
    /// Off
    Off,
}

fn verb(act: PointVerb) -> Request {
    Request::Points { act }
}

impl Dp {
    pub(super) async fn run(
        self,
        settings: &Loaded,
        global: &Global,
        output: &Output,
    ) -> Result<u8, Problem> {
        let request = match self {
            Self::List => return list(settings, global, output).await,
            Self::Coverage { groups, all } => {
                return super::coverage::run(groups, all, settings, global, output).await;
            }
            Self::Enrol { dp } => {
                return key::token(PrincipalKind::Point, dp, settings, global, output).await;
            }
            Self::Group(group) => return group.run(settings, global, output).await,
            Self::Add { name, url, tls_url, pull_from } => PointVerb::Add { name, url, tls_url, pull_from },
            Self::Show { dp } => PointVerb::Show { dp },
            Self::Set { dp, changes } => {
                let mut pairs = Vec::new();
                for change in changes {
                    let Some((key, value)) = change.split_once('=') else {
                        let message = format!("expected KEY=VALUE, actual `{change}`");
                        return Err(Problem::new(catalog::problem::Code::Usage, message));
                    };
                    pairs.push((key.trim().to_owned(), value.trim().to_owned()));
                }
                PointVerb::Set { dp, changes: pairs }
            }
            Self::Maintenance { dp, state } => PointVerb::Maintenance { dp, on: state == Switch::On },
            Self::Remove { dp } => {
                super::confirm(global, &format!("remove distribution point `{dp}`"))?;
                PointVerb::Remove { dp }
            }
        };
        let body = connect::call::<Value>(settings, global, output, verb(request)).await?.body;
        match serde_json::from_value::<PointWithContent>(body.clone()) {
            Ok(shown) => {
                output.one(&shown, |shown| shown.shown.point.name.clone(), |output| show(&shown, output));
            }
            Err(_) => show_value(&body, output),
        }
        Ok(0)
    }
}

async fn list(settings: &Loaded, global: &Global, output: &Output) -> Result<u8, Problem> {
    let points =
        connect::call::<Vec<ShownPoint>>(settings, global, output, verb(PointVerb::List)).await?.body;
    let mut rows =
        Rows::new(&["NAME", "ROLE", "CONDITION", "SEEN", "PACKAGES", "CONTENTS", "SIZE", "FREE", "URL"]);
    for shown in &points {
        let point = &shown.point;
        rows.push([
            safe(&point.name),
            point.role.to_string(),
            safe(&shown.condition),
            seen(shown),
            point.packages.to_string(),
            point.contents.to_string(),
            size(point.bytes),
            point.free.map_or_else(|| "-".to_owned(), size),
            safe(&point.url),
        ]);
    }
    let none = "there are no distribution points: `spsync dp add NAME --url URL`";
    output.list(&points, &points, |shown| shown.point.name.clone(), rows, none);
    Ok(0)
}

/// When it was heard of, in words.
pub(super) fn seen(shown: &ShownPoint) -> String {
    match shown.silent_seconds {
        _ if shown.point.id == schema::points::OWN_POINT => "-".to_owned(),
        None => "never".to_owned(),
        Some(seconds @ 0..120) => format!("{seconds}s ago"),
        Some(seconds @ 120..7_200) => format!("{}m ago", seconds / 60),
        Some(seconds) => format!("{}h ago", seconds / 3_600),
    }
}

fn show(shown: &PointWithContent, output: &Output) {
    let point = &shown.shown.point;
    output.line(format!("{} ({}) {}", safe(&point.name), point.role, safe(&point.url)));
    if !point.tls_url.is_empty() {
        output.line(format!("  over TLS {}", safe(&point.tls_url)));
    }
    let from = point.address.as_ref().map_or_else(String::new, |address| format!(" at {}", safe(address)));
    output.line(format!("  {}, seen {}{from}", safe(&shown.shown.condition), seen(&shown.shown)));
    let rate = point.rate.map_or_else(|| "none".to_owned(), |rate| size(rate) + "/s");
    let schedule = if point.schedule.is_empty() { "open" } else { &point.schedule };
    output.line(format!("  rate limit {rate}; schedule {}", safe(schedule)));
    match (point.may_pull, point.on_demand) {
        (true, true) => output.line("  fetches what it is asked for and lacks"),
        (true, false) => {
            output.line("  may fetch what it is asked for, and does not ([dp] on_demand on its machine)");
        }
        (false, true) => {
            output.line("  would fetch what it is asked for, and may not (`spsync dp set DP on_demand=yes`)");
        }
        (false, false) => {}
    }
    if !point.pull_from.is_empty() {
        output.line(format!("  asks {} before the site", safe(&point.pull_from.join(", "))));
    }
    if !point.groups.is_empty() {
        output.line(format!("  in {}", safe(&point.groups.join(", "))));
    }
    output.table(placements(&shown.content));
}

/// The version that a point is to have; where the package has moved on, what it is now.
fn version(placed: &Placement) -> String {
    match placed.version < placed.latest {
        true => format!("{}, outdated: {}", placed.version, placed.latest),
        false => placed.version.to_string(),
    }
}

/// Packages on points, as a table.
pub(super) fn placements(all: &[Placed]) -> Rows {
    let mut rows = Rows::new(&["PACKAGE", "NAME", "VERSION", "DP", "STATE", "DONE", "NEXT TRY", "PROBLEM"]);
    for shown in all {
        let placed = &shown.placed;
        let percent = (placed.done * 100).checked_div(placed.bytes).unwrap_or(100);
        rows.push([
            placed.package.to_string(),
            safe(&placed.name),
            version(placed),
            safe(&placed.point),
            state(shown),
            format!("{percent} % of {}", size(placed.bytes)),
            placed.next_retry.map_or_else(|| "-".to_owned(), when),
            placed.problem.as_ref().map_or_else(String::new, |problem| problem.code.to_string()),
        ]);
    }
    rows
}

/// Which package on which point it is.
pub(super) fn whose(Placed { placed, .. }: &Placed) -> String {
    format!("{} {}", placed.package, placed.point)
}

/// How a package is on a point; of one that is silent, what it was when it was heard of last.
fn state(shown: &Placed) -> String {
    match shown.silent_seconds {
        Some(seconds) => format!("{}, silent for {} min", shown.placed.state, seconds / 60),
        None => shown.placed.state.to_string(),
    }
}

/// What came of asking something for a package on points.
pub(super) async fn act(
    act: PointVerb,
    wait: bool,
    settings: &Loaded,
    global: &Global,
    output: &Output,
) -> Result<u8, Problem> {
    let mut called = connect::call::<Acted>(settings, global, output, verb(act)).await?;
    if wait {
        let (package, points) = (called.body.package.clone(), &mut called.body.points);
        let ended = super::wait::until_settled(&package, points, settings, global, output).await?;
        called.problem = called.problem.or(ended);
    }
    let acted = &called.body;
    output.one(
        acted,
        |acted| acted.package.to_string(),
        |output| {
            output.line(format!("{} `{}`:", acted.package, safe(&acted.name)));
            acted.points.iter().for_each(|sent| line(sent, output));
            if acted.points.is_empty() {
                output.line(" it is on no other distribution point");
            }
            if acted.dry_run {
                output.line("nothing is changed (--dry-run)");
            }
        },
    );
    Ok(called.finish(output))
}

/// One point of an answer about a package.
pub(super) fn line(sent: &Sent, output: &Output) {
    let point = safe(&sent.point);
    match (&sent.problem, sent.state) {
        (Some(problem), _) => output.line(format!(" ✘ {point} refused: {}", safe(&problem.to_string()))),
        (None, state) => {
            let already = if sent.already { ", as before" } else { "" };
            let state = state.map_or_else(String::new, |state| format!("{state}, "));
            let (mark, waits) = match sent.enrolled {
                Some(false) => ("…", format!("; it has not enrolled: spsync dp enrol {point}")),
                _ => ("✔", String::new()),
            };
            output.line(format!(
                " {mark} {point} {state}{}, {}{already}{waits}",
                counted(sent.files, "file"),
                size(sent.bytes)
            ));
        }
    }
}
