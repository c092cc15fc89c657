//! Options of deployments as they are typed.

use catalog::problem::{Code, Problem};
use clap::Args;
use jiff::Timestamp;
use schema::deployments::Purpose;
use serde_json::{Map, Value};

use super::CheckBy;
use crate::clock;
use crate::config::parse_duration;
use crate::deploying::choice::Asked;
use crate::deploying::options::{Delivery, OfferedTo, Options};
use crate::deploying::updates::NewUpdates;
use crate::deploying::{Change, CheckArgs, Create, DeployRequest};
use crate::policy::Rerun;

/// A deployment to make.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Id or name of the task sequence
    #[arg(required_unless_present = "update")]
    ts: Option<String>,
    /// Instead of a task sequence, an update by its id; repeat for more. Task sequences install those of the device's collections
    #[arg(long, value_name = "UPDATE", conflicts_with = "ts")]
    update: Vec<String>,
    /// Name of the collection
    #[arg(long, value_name = "COLLECTION")]
    collection: String,
    /// Whether devices run it by themselves: available or required
    #[arg(long, value_name = "PURPOSE", value_parser = purpose, default_value = "available")]
    purpose: Purpose,
    /// From when it is offered: 2026-11-02T20:00, with +01:00 or in the time of this machine, or 7d from now; now if not given
    #[arg(long, value_name = "TIME", value_parser = time)]
    available: Option<Timestamp>,
    /// When it runs by itself, of a required one; as soon as it is available if not given
    #[arg(long, value_name = "TIME", value_parser = time)]
    deadline: Option<Timestamp>,
    /// Until when it is offered
    #[arg(long, value_name = "TIME", value_parser = time)]
    expires: Option<Timestamp>,
    #[command(flatten)]
    options: OptionArgs,
    #[command(flatten)]
    package: PackageArgs,
    /// Refuse where something is only warned about otherwise
    #[arg(long)]
    strict: bool,
    /// A required upgrade may reach this many devices, servers, or machines of the site; the audit keeps who said so
    #[arg(long)]
    confirm_high_risk: bool,
}

/// Where feature updates come from that are not downloaded.
#[derive(Debug, Args)]
pub struct PackageArgs {
    /// Download what is missing into this deployment package
    #[arg(long, value_name = "PACKAGE", help_heading = "Content")]
    package: Option<String>,
    /// Make a deployment package of this name for what is missing
    #[arg(long, value_name = "NAME", help_heading = "Content")]
    new_package: Option<String>,
    /// No package: devices take feature updates from peers, then from the cloud
    #[arg(long, help_heading = "Content")]
    no_package: bool,
    /// A distribution point or group that package, images and applications are sent to; repeat for more
    #[arg(long, value_name = "DP|GROUP", help_heading = "Content")]
    to: Vec<String>,
}

/// What else may be chosen.
#[derive(Debug, Args)]
pub struct OptionArgs {
    /// When a device that has run it runs it again; a required one that succeeded runs by itself at most once for each deadline, one
    /// that failed once more for each change of its task sequence
    #[arg(long, value_enum)]
    rerun: Option<Rerun>,
    /// Who is offered it
    #[arg(long, value_enum, value_name = "WHO")]
    offered_to: Option<OfferedTo>,
    /// When content comes; before the start if not given
    #[arg(long, value_enum, value_name = "WHEN", help_heading = "Content")]
    delivery: Option<Delivery>,
    /// A user may start a required one before its deadline
    #[arg(long, help_heading = "User")]
    user_may_run: bool,
    /// The user does not see how far it is (no effect yet)
    #[arg(long, help_heading = "User")]
    no_progress_shown: bool,
    /// It may run outside of maintenance windows
    #[arg(long, help_heading = "User")]
    outside_windows: bool,
    /// It may restart devices outside of maintenance windows (no effect yet)
    #[arg(long, help_heading = "User")]
    restart_outside_windows: bool,
    /// Wake devices up at the deadline (no effect yet)
    #[arg(long, help_heading = "User")]
    wake_up: bool,
    /// Go on over metered connections after the deadline (no effect yet)
    #[arg(long, help_heading = "User")]
    metered: bool,
    /// Devices on the internet are offered it too
    #[arg(long, help_heading = "Content")]
    internet: bool,
    /// Fetch content, except feature updates, before the user asks for it
    #[arg(long, help_heading = "Content")]
    pre_download: bool,
    /// Distribution points of neighbouring boundary groups may be asked
    #[arg(long, help_heading = "Content")]
    neighbour: bool,
    /// Distribution points of the default site boundary group may be asked
    #[arg(long, help_heading = "Content")]
    fallback: bool,
    /// Feature updates may come from the cloud
    #[arg(long, help_heading = "Content")]
    cloud: bool,
    /// A comment, shown by `deploy show`
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
}

impl OptionArgs {
    /// What was said, by the names of options.
    fn said(self) -> Map<String, Value> {
        let mut said = Map::new();
        let flags = [
            ("user_may_run", self.user_may_run),
            ("outside_windows", self.outside_windows),
            ("restart_outside_windows", self.restart_outside_windows),
            ("wake_up", self.wake_up),
            ("metered", self.metered),
            ("internet", self.internet),
            ("pre_download", self.pre_download),
            ("neighbours", self.neighbour),
            ("fallback", self.fallback),
            ("cloud", self.cloud),
        ];
        said.extend(flags.into_iter().filter(|(_, on)| *on).map(|(name, on)| (name.to_owned(), on.into())));
        if self.no_progress_shown {
            said.insert("show_progress".to_owned(), false.into());
        }
        let texts = [
            ("rerun", self.rerun.and_then(|value| serde_json::to_value(value).ok())),
            ("offered_to", self.offered_to.and_then(|value| serde_json::to_value(value).ok())),
            ("delivery", self.delivery.and_then(|value| serde_json::to_value(value).ok())),
            ("comment", self.comment.map(Value::from)),
        ];
        said.extend(texts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        said
    }

    /// The options with everything else at its default.
    pub fn options(self) -> Result<Options, Problem> {
        serde_json::from_value(Value::Object(self.said()))
            .map_err(|error| Problem::of(Code::Internal, &error))
    }
}

impl CreateArgs {
    pub(super) fn into_request(self) -> Result<DeployRequest, Problem> {
        match self.update.is_empty() {
            true => Ok(DeployRequest::Create(Box::new(self.sequence()?))),
            false => self.updates().map(DeployRequest::CreateUpdates),
        }
    }

    /// Updates have times, and nothing else to choose.
    fn updates(self) -> Result<NewUpdates, Problem> {
        let PackageArgs { package, new_package, no_package, to } = &self.package;
        let content = package.is_some() || new_package.is_some() || *no_package || !to.is_empty();
        let mut said = self.options.said();
        let comment = said.remove("comment").and_then(|comment| comment.as_str().map(str::to_owned));
        if content || !said.is_empty() {
            let message = "a deployment of updates has a collection, a purpose, times and a comment only";
            return Err(Problem::new(Code::ConflictingOptions, message));
        }
        Ok(NewUpdates {
            updates: self.update,
            collection: self.collection,
            purpose: self.purpose,
            available: self.available,
            deadline: self.deadline,
            expires: self.expires,
            comment: comment.unwrap_or_default(),
        })
    }

    fn sequence(self) -> Result<Create, Problem> {
        Ok(Create {
            sequence: self.ts.unwrap_or_default(),
            collection: self.collection,
            purpose: self.purpose,
            available: self.available,
            deadline: self.deadline,
            expires: self.expires,
            options: self.options.options()?,
            package: Asked {
                package: self.package.package,
                new_package: self.package.new_package,
                no_package: self.package.no_package,
                to: self.package.to,
            },
            strict: self.strict,
            confirm_high_risk: self.confirm_high_risk,
        })
    }
}

/// A change of a deployment.
#[derive(Debug, Args)]
pub struct ChangeArgs {
    /// Its id
    deployment: String,
    /// From when it is offered
    #[arg(long, value_name = "TIME", value_parser = time)]
    available: Option<Timestamp>,
    /// When it runs by itself
    #[arg(long, value_name = "TIME", value_parser = time)]
    deadline: Option<Timestamp>,
    /// Until when it is offered
    #[arg(long, value_name = "TIME", value_parser = time)]
    expires: Option<Timestamp>,
    /// A switch to turn off again, by the name that `deploy show` has for it; repeat for more
    #[arg(long, value_name = "OPTION")]
    off: Vec<String>,
    #[command(flatten)]
    options: OptionArgs,
}

impl ChangeArgs {
    pub(super) fn into_request(self) -> Result<Change, Problem> {
        let mut options = self.options.said();
        for name in self.off {
            let name = name.replace('-', "_");
            let defaults = serde_json::to_value(Options::default()).unwrap_or_default();
            if !defaults[&name].is_boolean() {
                let switches = defaults.as_object().into_iter().flatten();
                let switches: Vec<_> =
                    switches.filter(|(_, value)| value.is_boolean()).map(|(name, _)| name.as_str()).collect();
                return Err(Problem::new(Code::InvalidOption, format!("there is no switch `{name}`"))
                    .help(format!("use one of {}", switches.join(", "))));
            }
            options.insert(name, false.into());
        }
        Ok(Change {
            deployment: self.deployment,
            available: self.available,
            deadline: self.deadline,
            expires: self.expires,
            options,
        })
    }
}

/// What is checked.
#[derive(Debug, Args)]
pub struct Checks {
    /// A deployment, or a task sequence to deploy
    what: String,
    /// Name of the collection; that of the deployment if not given
    #[arg(long, value_name = "COLLECTION")]
    collection: Option<String>,
    /// As if it were available or required
    #[arg(long, value_name = "PURPOSE", value_parser = purpose)]
    purpose: Option<Purpose>,
    /// As if the content were sent to this distribution point or group; repeat for more
    #[arg(long, value_name = "DP|GROUP")]
    to: Vec<String>,
    /// As if feature updates might come from the cloud
    #[arg(long)]
    cloud: bool,
    /// As if devices on the internet were offered it
    #[arg(long)]
    internet: bool,
    /// Fail where devices of a group would find the content nowhere
    #[arg(long)]
    strict: bool,
    /// What the table has a line for: group, client, or reason
    #[arg(long, value_enum, default_value = "group")]
    pub(super) by: CheckBy,
}

impl From<Checks> for CheckArgs {
    fn from(args: Checks) -> Self {
        Self {
            what: args.what,
            collection: args.collection,
            purpose: args.purpose,
            to: args.to,
            cloud: args.cloud,
            internet: args.internet,
            strict: args.strict,
        }
    }
}

/// `available` or `required`.
pub fn purpose(text: &str) -> Result<Purpose, String> {
    text.parse().map_err(|_| "expected `available` or `required`".to_owned())
}

/// A point in time: with an offset, in the time of this machine, or so long from now.
pub fn time(text: &str) -> Result<Timestamp, String> {
    let wrong = || format!("expected a time such as 2026-11-02T20:00 or 7d, actual `{text}`");
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(local) = text.parse::<jiff::civil::DateTime>() {
        let zoned = local.to_zoned(jiff::tz::TimeZone::system()).map_err(|_| wrong())?;
        return Ok(zoned.timestamp());
    }
    if text == "now" || text == "asap" {
        return Ok(clock::now());
    }
    let pause = parse_duration(text.trim_start_matches('+')).map_err(|_| wrong())?;
    clock::now().checked_add(pause).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_people_type_them() {
        assert_eq!(time("2026-11-02T20:00:00Z").unwrap().to_string(), "2026-11-02T20:00:00Z");
        assert_eq!(time("2026-11-02T20:00+01:00").unwrap().to_string(), "2026-11-02T19:00:00Z");
        let local = time("2026-11-02T20:00").unwrap();
        assert_eq!(local.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M").to_string(), "20:00");
        let week = time("7d").unwrap().duration_since(clock::now()).as_secs();
        assert!((604_790..=604_800).contains(&week), "{week}");
        assert!(time("tomorrow").is_err() && time("-7d").is_err());
    }
}
