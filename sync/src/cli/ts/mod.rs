//! `spsync ts …`: task sequences.

mod ask;
mod edit;
mod migrate;
pub(super) mod print;

use std::path::{Path, PathBuf};

use catalog::problem::{Code, Problem};
use clap::{Args, Subcommand};

pub(super) use print::call;

use super::arguments::{absolute, key_value, read_small};
use super::{Global, Output};
use crate::admin::UpdateFilter;
use crate::authoring::{Create, Duplicates, StepSet, TsRequest, Updates};
use crate::config::Loaded;
use crate::sequence::edit::Place;
use crate::sequence::key::HiddenText;
use crate::software::SoftwareRequest;

/// Task sequences
#[derive(Debug, Subcommand)]
pub enum Ts {
    /// Make a task sequence; on a terminal what is missing is asked for
    Create(CreateArgs),
    /// List task sequences
    List,
    /// Show a task sequence: its document, or its tree
    Show {
        /// Id or name
        ts: String,
        /// Groups and steps with their numbers
        #[arg(long)]
        tree: bool,
    },
    /// Change the document of a task sequence in an editor, or take it from a file
    Edit {
        /// Id or name
        ts: String,
        /// The new document
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
        #[command(flatten)]
        meant: Meant,
    },
    /// Show what is wrong with a task sequence
    Lint {
        /// Id or name
        ts: String,
        /// Warnings are errors
        #[arg(long)]
        strict: bool,
    },
    /// Show what a task sequence refers to, with sizes and availability
    Refs {
        /// Id or name
        ts: String,
        /// Which content is downloaded before the run, and which never is
        #[arg(long)]
        pre_download: bool,
        /// Whether its content may be run from distribution points
        #[arg(long)]
        run_from_dp: bool,
    },
    /// Show what a device with these facts would do with it
    Plan {
        /// Id or name
        ts: String,
        /// TOML: os_type, version, edition, architecture, language
        #[arg(long, value_name = "FILE")]
        facts: PathBuf,
    },
    /// Copy the steps under a new id, without deployments
    Copy {
        /// Id or name
        ts: String,
        /// Name of the copy; made from the old one if not given
        name: Option<String>,
    },
    /// Offer its deployments
    Enable {
        /// Id or name
        ts: String,
    },
    /// Stop offering its deployments
    Disable {
        /// Id or name
        ts: String,
    },
    /// Delete a task sequence
    Delete {
        /// Id or name
        ts: String,
    },
    /// Write task sequences into NAME.zip, and content into NAME_files beside it
    Export {
        /// Ids or names
        #[arg(required = true)]
        ts: Vec<String>,
        /// The archive, NAME.zip
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        /// Without OS upgrade packages and applications
        #[arg(long)]
        no_dependencies: bool,
        /// Without the content of those
        #[arg(long)]
        no_content: bool,
    },
    /// Take task sequences from an archive
    Import {
        /// The archive
        file: PathBuf,
        /// What happens to what is here already
        #[arg(long, value_enum, default_value = "ignore")]
        duplicates: Duplicates,
        #[command(flatten)]
        meant: Meant,
    },
    /// Carry a task sequence to another site, through its admin API
    Migrate(migrate::MigrateArgs),
    /// Show what differs between two task sequences
    Diff {
        /// Id or name
        one: String,
        /// Id or name
        other: String,
    },
    /// Send images, applications and the boot image that it refers to to distribution points
    Distribute {
        /// Id or name
        ts: String,
        /// A distribution point or group, or `all`; the site's own if not given; repeat for more
        #[arg(long, value_name = "DP|GROUP")]
        to: Vec<String>,
    },
    /// Change what belongs to no step; an empty value is the default
    Set {
        /// Id or name
        ts: String,
        /// boot_image=IMAGE, max_runtime=MINUTES, description=TEXT
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = key_value)]
        changes: Vec<(String, String)>,
    },
    /// Steps and groups
    #[command(subcommand)]
    Step(StepVerb),
}

/// What the wizard asks.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Its name, at most 50 characters, unique
    name: Option<String>,
    /// What it is for, at most 255 characters
    #[arg(long, default_value = "")]
    description: String,
    /// Upgrade an operating system: the documented groups and steps
    #[arg(long)]
    upgrade: bool,
    /// A feature update by id or title; several in order: a device takes the first that fits it
    #[arg(long, value_name = "UPDATE")]
    feature_update: Vec<String>,
    /// An OS upgrade package by id or name
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Index of the edition; the first if not given
    #[arg(long, value_name = "N")]
    index: Option<u32>,
    /// Software updates to install, of those deployed to collections of the device
    #[arg(long, value_enum, default_value = "none")]
    updates: Updates,
    /// An application by id or name; several in order
    #[arg(long, value_name = "APP")]
    app: Vec<String>,
    /// Whether to go on with the next application when one fails
    #[arg(long, value_name = "YES|NO", value_parser = yes_or_no)]
    continue_on_app_error: Option<bool>,
    /// Do not wait for somebody to dismiss compatibility messages; needed for Windows Server 2016 and later
    #[arg(long, alias = "ignore-dismissible")]
    ignore_dismissable: bool,
    /// A file with the product key
    #[arg(long, value_name = "FILE")]
    product_key_file: Option<PathBuf>,
    /// The product key is an encoded volume key
    #[arg(long)]
    encoded_key: bool,
    /// Refuse where something is only warned about otherwise
    #[arg(long)]
    strict: bool,
    /// What can be made: the templates
    #[arg(long)]
    list_types: bool,
    /// A template by its name: upgrade or custom
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// What it can be made from; nothing is made
    #[arg(long)]
    choices: bool,
}

/// Steps and groups of a task sequence.
#[derive(Debug, Subcommand)]
pub enum StepVerb {
    /// Add a step or group
    Add {
        /// Id or name of the task sequence
        ts: String,
        /// Type: group, upgrade-os, restart, install-updates, install-application, check-readiness, download-content,
        /// run-command, set-variable
        kind: String,
        #[command(flatten)]
        place: Where,
        /// Settings: name="Collect logs" command='cmd /c …' timeout=15
        #[arg(value_name = "KEY=VALUE", value_parser = key_value)]
        changes: Vec<(String, String)>,
        /// A file with the value of a variable that nobody shall see
        #[arg(long, value_name = "FILE")]
        value_file: Option<PathBuf>,
        #[command(flatten)]
        meant: Meant,
    },
    /// Change a step or group; an empty value is the default
    Set {
        /// Id or name of the task sequence
        ts: String,
        /// Its number, or name; `g2` is the second group
        step: String,
        /// Settings
        #[arg(value_name = "KEY=VALUE", value_parser = key_value)]
        changes: Vec<(String, String)>,
        /// Upgrade by these feature updates, in order
        #[arg(long, value_name = "UPDATE")]
        feature_update: Vec<String>,
        /// Upgrade by this OS upgrade package
        #[arg(long, value_name = "IMAGE")]
        image: Option<String>,
        /// Index of the edition
        #[arg(long, value_name = "N", requires = "image")]
        index: Option<u32>,
        /// A file with the product key
        #[arg(long, value_name = "FILE")]
        product_key_file: Option<PathBuf>,
        /// The product key is an encoded volume key
        #[arg(long)]
        encoded_key: bool,
        /// A file with the value of a variable that nobody shall see
        #[arg(long, value_name = "FILE")]
        value_file: Option<PathBuf>,
        #[command(flatten)]
        meant: Meant,
    },
    /// Move a step or group
    Move {
        /// Id or name of the task sequence
        ts: String,
        /// Its number, or name
        step: String,
        #[command(flatten)]
        place: Where,
        #[command(flatten)]
        meant: Meant,
    },
    /// Remove a step or group with all that is in it
    Remove {
        /// Id or name of the task sequence
        ts: String,
        /// Its number, or name
        step: String,
    },
}

/// What is said of a change that reaches devices by deployments that are there.
#[derive(Debug, Clone, Copy, Args)]
pub struct Meant {
    /// It is meant, though a required deployment of it becomes a high risk
    #[arg(long)]
    confirm_high_risk: bool,
}

/// Where a step goes; the end of all if not given.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct Where {
    /// As the last of this group
    #[arg(long = "in", value_name = "GROUP")]
    within: Option<String>,
    /// Behind this step or group
    #[arg(long, value_name = "STEP")]
    after: Option<String>,
    /// Before this step or group
    #[arg(long, value_name = "STEP")]
    before: Option<String>,
}

impl From<Where> for Place {
    fn from(place: Where) -> Self {
        match (place.within, place.after, place.before) {
            (Some(group), ..) => Self::In(group),
            (_, Some(step), _) => Self::After(step),
            (_, _, Some(step)) => Self::Before(step),
            _ => Self::End,
        }
    }
}

impl Ts {
    pub(super) async fn run(
        self,
        settings: &Loaded,
        global: &Global,
        output: &Output,
    ) -> Result<u8, Problem> {
        let request = match self {
            Self::Create(args) if args.list_types => {
                print::types(output);
                return Ok(0);
            }
            Self::Create(args) if args.choices => {
                let filter = UpdateFilter::default();
                let choices = call(TsRequest::Choices { filter }, settings, global, output).await?.body;
                print::choices(&choices, output)?;
                return Ok(0);
            }
            Self::Create(args) => TsRequest::Create(Box::new(wanted(args, settings, global, output).await?)),
            Self::List => TsRequest::List,
            Self::Show { ts, tree } => {
                let shown = call(TsRequest::Show { sequence: ts }, settings, global, output).await?.body;
                print::one(&shown, tree, output);
                return Ok(0);
            }
            Self::Edit { ts, from, meant } => {
                let body = call(TsRequest::Show { sequence: ts }, settings, global, output).await?.body;
                match edit::edited(&body, from.as_deref(), meant.confirm_high_risk)? {
                    Some(request) => request,
                    None => {
                        output.note("nothing was changed");
                        return Ok(0);
                    }
                }
            }
            Self::Lint { ts, strict } => TsRequest::Lint { sequence: ts, strict },
            Self::Refs { ts, pre_download, run_from_dp } => {
                TsRequest::Refs { sequence: ts, pre_download, run_from_dp }
            }
            Self::Plan { ts, facts } => {
                let device = crate::device::facts::of_file(&facts)?.device();
                TsRequest::Plan { sequence: ts, device }
            }
            Self::Copy { ts, name } => TsRequest::Copy { sequence: ts, name },
            Self::Enable { ts } => TsRequest::Enable { sequence: ts, enabled: true },
            Self::Disable { ts } => TsRequest::Enable { sequence: ts, enabled: false },
            Self::Delete { ts } => {
                super::confirm(global, &format!("delete task sequence `{ts}`"))?;
                TsRequest::Delete { sequence: ts }
            }
            Self::Export { ts, to, no_dependencies, no_content } => TsRequest::Export {
                sequences: ts,
                file: absolute(to),
                dependencies: !no_dependencies,
                content: !no_content,
            },
            Self::Import { file, duplicates, meant } => TsRequest::Import {
                file: absolute(file),
                duplicates,
                confirm_high_risk: meant.confirm_high_risk,
            },
            Self::Migrate(args) => args.request()?,
            Self::Diff { one, other } => TsRequest::Diff { one, other },
            Self::Set { ts, changes } => TsRequest::Set { sequence: ts, changes },
            Self::Distribute { ts, to } => {
                let request = SoftwareRequest::DistributeAll { sequence: ts, to };
                return super::app::places(request, settings, global, output).await;
            }
            Self::Step(StepVerb::Add { ts, kind, place, changes, value_file, meant }) => TsRequest::StepAdd {
                sequence: ts,
                kind,
                place: place.into(),
                changes,
                value: secret(value_file.as_deref())?,
                confirm_high_risk: meant.confirm_high_risk,
            },
            Self::Step(StepVerb::Set {
                ts,
                step,
                changes,
                feature_update,
                image,
                index,
                product_key_file,
                encoded_key,
                value_file,
                meant,
            }) => TsRequest::StepSet(Box::new(StepSet {
                sequence: ts,
                step,
                changes,
                feature_updates: feature_update,
                image,
                index,
                product_key: secret(product_key_file.as_deref())?,
                encoded_key,
                value: secret(value_file.as_deref())?,
                confirm_high_risk: meant.confirm_high_risk,
            })),
            Self::Step(StepVerb::Move { ts, step, place, meant }) => TsRequest::StepMove {
                sequence: ts,
                step,
                place: place.into(),
                confirm_high_risk: meant.confirm_high_risk,
            },
            Self::Step(StepVerb::Remove { ts, step }) => TsRequest::StepRemove { sequence: ts, step },
        };
        let verb = request.clone();
        let called = call(request, settings, global, output).await?;
        print::answer(&verb, &called.body, output)?;
        Ok(called.finish(output))
    }
}

/// What the options say; on a terminal questions fill the gaps.
async fn wanted(
    args: CreateArgs,
    settings: &Loaded,
    global: &Global,
    output: &Output,
) -> Result<Create, Problem> {
    let kind = match args.kind.as_deref() {
        None => args.upgrade,
        Some("upgrade") => true,
        Some("custom") if !args.upgrade => false,
        Some(other) => {
            return Err(Problem::new(Code::UnknownTemplate, format!("there is no template `{other}`")));
        }
    };
    let mut wanted = Create {
        name: args.name.unwrap_or_default(),
        description: args.description,
        upgrade: kind,
        feature_updates: args.feature_update,
        image: args.image,
        index: args.index,
        updates: args.updates,
        apps: args.app,
        continue_on_app_error: args.continue_on_app_error,
        ignore_dismissable: args.ignore_dismissable,
        product_key: secret(args.product_key_file.as_deref())?,
        encoded_key: args.encoded_key,
        strict: args.strict,
    };
    if ask::possible() {
        ask::missing(&mut wanted, settings, global, output).await?;
    }
    Ok(wanted)
}

/// A secret from a file; never from an argument, which every user of the machine may see.
fn secret(path: Option<&Path>) -> Result<Option<HiddenText>, Problem> {
    path.map(|path| read_small(path, 4096).map(|text| HiddenText::new(&text))).transpose()
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" => Ok(true),
        "no" | "false" => Ok(false),
        _ => Err("expected yes or no".to_owned()),
    }
}
