//! `spsync deploy phased …`.

use catalog::problem::Problem;
use clap::{Args, Subcommand};
use schema::deployments::Purpose;

use super::super::said::{name_of, say};
use super::super::{Global, Output, confirm};
use super::args::{OptionArgs, purpose};
use super::{call, print};
use crate::config::{Loaded, parse_duration};
use crate::deploying::phased::{Begin, Success};
use crate::deploying::{DeployRequest, NewPhase, PhaseChange, PhasedCreate, usual_deadline};

/// Deployments that go from collection to collection
#[derive(Debug, Subcommand)]
pub enum Phased {
    /// Deploy to the first collection now, and to the next ones as each is good enough
    Create(PhasedArgs),
    /// List phased deployments
    List,
    /// Show a phased deployment with its phases
    Show {
        /// Its name
        name: String,
    },
    /// Begin the next phase now, whatever the one before has come to
    Advance {
        /// Its name
        name: String,
    },
    /// Suspend a phased deployment: no further phase begins, what was deployed stays
    Suspend {
        /// Its name
        name: String,
    },
    /// Resume a suspended phased deployment
    Resume {
        /// Its name
        name: String,
    },
    /// Change a phase that has not begun
    Change {
        /// Name of the phased deployment
        name: String,
        /// Number of the phase, from 1
        #[arg(long, value_name = "N")]
        phase: usize,
        #[command(flatten)]
        rules: Rules,
    },
    /// Delete a phased deployment; the deployments that it made stay
    Delete {
        /// Its name
        name: String,
    },
}

/// Rules of phases.
#[derive(Debug, Clone, Args)]
pub struct Rules {
    /// Good enough: so many percent of the devices succeeded (95%), or so many devices (20)
    #[arg(long, value_name = "N%|N", value_parser = success)]
    success: Option<Success>,
    /// Pause after the phase before is good enough, or `manual`; 1d if not given
    #[arg(long, value_name = "TIME", value_parser = begin)]
    after: Option<Begin>,
    /// When a phase is due after it began, or `asap`; 7d if not given
    #[arg(long, value_name = "TIME", value_parser = due)]
    deadline: Option<u64>,
}

/// A phased deployment to make.
#[derive(Debug, Args)]
pub struct PhasedArgs {
    /// Its name, at most 50 characters, unique
    name: String,
    /// Id or name of the task sequence
    #[arg(long, value_name = "TS")]
    ts: String,
    /// A phase: its collection, and rules of its own as `ring-1,success=90%,after=2d,deadline=5d`; repeat, in order
    #[arg(long = "phase", value_name = "COLLECTION[,RULE]...", required = true, value_parser = one_phase)]
    phases: Vec<OnePhase>,
    /// Whether devices run it by themselves: available or required
    #[arg(long, value_name = "PURPOSE", value_parser = purpose, default_value = "required")]
    purpose: Purpose,
    #[command(flatten)]
    rules: Rules,
    #[command(flatten)]
    options: OptionArgs,
    /// A required upgrade may reach this many devices, servers, or machines of the site; the audit keeps who said so
    #[arg(long)]
    confirm_high_risk: bool,
}

/// A phase as it is typed.
#[derive(Debug, Clone)]
pub struct OnePhase {
    collection: String,
    rules: Rules,
}

fn success(text: &str) -> Result<Success, String> {
    let wrong = |_| "expected percent (95%) or a number of devices (20)".to_owned();
    match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse().map(Success::Percent).map_err(wrong),
        None => text.parse().map(Success::Devices).map_err(wrong),
    }
}

fn begin(text: &str) -> Result<Begin, String> {
    match text {
        "manual" => Ok(Begin::Manual),
        pause => parse_duration(pause).map(|pause| Begin::After(pause.as_secs())),
    }
}

fn due(text: &str) -> Result<u64, String> {
    if text == "asap" { Ok(0) } else { parse_duration(text).map(|pause| pause.as_secs()) }
}

fn one_phase(text: &str) -> Result<OnePhase, String> {
    let mut parts = text.split(',');
    let collection = parts.next().unwrap_or_default().trim().to_owned();
    if collection.is_empty() {
        return Err("expected the name of a collection".to_owned());
    }
    let mut rules = Rules { success: None, after: None, deadline: None };
    for part in parts {
        match part.split_once('=') {
            Some(("success", value)) => rules.success = Some(success(value)?),
            Some(("after", value)) => rules.after = Some(begin(value)?),
            Some(("deadline", value)) => rules.deadline = Some(due(value)?),
            _ => return Err(format!("expected success=, after= or deadline=, actual `{part}`")),
        }
    }
    Ok(OnePhase { collection, rules })
}

impl PhasedArgs {
    fn into_request(self) -> Result<PhasedCreate, Problem> {
        let all = self.rules;
        let phase = |one: OnePhase| NewPhase {
            collection: one.collection,
            success: one.rules.success.or(all.success).unwrap_or_default(),
            begin: one.rules.after.or(all.after).unwrap_or_default(),
            due_after: one.rules.deadline.or(all.deadline).unwrap_or_else(usual_deadline),
        };
        Ok(PhasedCreate {
            name: self.name,
            sequence: self.ts,
            phases: self.phases.into_iter().map(phase).collect(),
            purpose: self.purpose,
            options: self.options.options()?,
            confirm_high_risk: self.confirm_high_risk,
        })
    }
}

impl Phased {
    pub(super) async fn run(
        self,
        settings: &Loaded,
        global: &Global,
        output: &Output,
    ) -> Result<u8, Problem> {
        let request = match self {
            Self::Create(args) => DeployRequest::PhasedCreate(Box::new(args.into_request()?)),
            Self::List => DeployRequest::PhasedList,
            Self::Show { name } => DeployRequest::PhasedShow { name },
            Self::Advance { name } => DeployRequest::PhasedAdvance { name },
            Self::Suspend { name } => DeployRequest::PhasedSuspend { name, suspend: true },
            Self::Resume { name } => DeployRequest::PhasedSuspend { name, suspend: false },
            Self::Change { name, phase, rules } => DeployRequest::PhasedChange(Box::new(PhaseChange {
                name,
                phase,
                success: rules.success,
                begin: rules.after,
                due_after: rules.deadline,
            })),
            Self::Delete { name } => {
                confirm(global, &format!("forget phased deployment `{name}`"))?;
                DeployRequest::PhasedDelete { name }
            }
        };
        let list = matches!(request, DeployRequest::PhasedList);
        let called = call(request, settings, global, output).await?;
        match list {
            true => print::plans(&called.body, output)?,
            false => output.one(&called.body, name_of, |output| {
                if !print::plan(&called.body, output) {
                    say(&called.body, output);
                }
            }),
        }
        Ok(called.finish(output))
    }
}
