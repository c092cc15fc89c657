//! `spsync package …`.

use std::path::PathBuf;

use catalog::problem::{Code, Problem};
use clap::Subcommand;
use schema::packages::Access;

use super::arguments::absolute;
use super::connect::plain;
use super::output::{Rows, safe, size, when};
use super::updates::Filter;
use super::{Format, Global, Output, connect};
use crate::admin::{PointVerb, Request};
use crate::config::Loaded;
use crate::download::Filled;
use crate::packages::{Changed, Shown, Validated};
use crate::points::{Act, Distributed};
use crate::words::counted;

/// Deployment packages
#[derive(Debug, Subcommand)]
pub enum Package {
    /// Make an empty package
    Create {
        /// Its name, at most 50 characters, unique
        name: String,
        /// What it is for, at most 127 characters
        #[arg(long, default_value = "")]
        description: String,
        /// An existing folder that shall hold the files too; no other package may use it
        #[arg(long, value_name = "DIR")]
        source: Option<PathBuf>,
        /// Only enrolled devices and points of the site may have its files
        #[arg(long)]
        private: bool,
    },
    /// Change a setting of a package
    Set {
        /// Id or name
        package: String,
        /// `access=public` or `access=private`; a file that a public package has too stays public
        #[arg(value_name = "KEY=VALUE", value_parser = access)]
        access: Access,
    },
    /// List packages
    List,
    /// Show a package with its files
    Show {
        /// Id or name
        package: String,
    },
    /// Add updates: those named, or all that are selected, deployable and match the options
    Add {
        /// Id or name of the package
        package: String,
        /// Ids or titles of updates
        updates: Vec<String>,
        #[command(flatten)]
        filter: Filter,
    },
    /// Take updates out
    Drop {
        /// Id or name of the package
        package: String,
        /// Ids, titles or files of updates: all that the package has of them; ID/NUMBER for one revision
        #[arg(required = true)]
        updates: Vec<String>,
    },
    /// Fetch what is missing, verified by every published digest; goes on where it was interrupted
    Download {
        /// Id or name
        package: String,
        /// Take files from this folder first
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
        /// Ask this address, followed by the file name, before the catalog's links
        #[arg(long, value_name = "URL")]
        mirror: Option<String>,
    },
    /// Let distribution points serve it
    Distribute {
        /// Id or name
        package: String,
        /// Distribution points, groups of them, or `all`; the site's own if not given
        #[arg(long, value_name = "DP")]
        to: Vec<String>,
        /// Wait until every point has it, or gives up
        #[arg(long)]
        wait: bool,
    },
    /// Send it again: every file is read there, and what is not good is fetched
    Redistribute {
        /// Id or name
        package: String,
        /// Distribution points, groups, or `all`; all that it was sent to if not given, after a question
        #[arg(long, value_name = "DP")]
        to: Vec<String>,
        /// Wait until every point has it, or gives up
        #[arg(long)]
        wait: bool,
    },
    /// Do not send it to points where it has not arrived; what of it is there stays
    Cancel {
        /// Id or name
        package: String,
        /// Distribution points, groups, or `all`; all that it was sent to if not given
        #[arg(long, value_name = "DP")]
        to: Vec<String>,
    },
    /// Send it now to points where it failed or was cancelled
    Retry {
        /// Id or name
        package: String,
        /// Distribution points, groups, or `all`; all that it was sent to if not given
        #[arg(long, value_name = "DP")]
        to: Vec<String>,
        /// Wait until every point has it, or gives up
        #[arg(long)]
        wait: bool,
    },
    /// Take it off distribution points
    Withdraw {
        /// Id or name
        package: String,
        /// Distribution points or groups; all if not given
        #[arg(long, value_name = "DP")]
        from: Vec<String>,
    },
    /// Read every file again and compare with its digest; images and applications too
    Validate {
        /// Id or name
        package: String,
        /// Set bad files aside and fetch them again
        #[arg(long)]
        repair: bool,
        /// On these distribution points or groups instead of at the site
        #[arg(long, value_name = "DP")]
        to: Vec<String>,
        /// With `--to`: wait until every point has read it; status 8 where files are bad
        #[arg(long, requires = "to")]
        wait: bool,
    },
    /// Delete a package that no distribution point serves
    Delete {
        /// Id or name
        package: String,
    },
}

impl Package {
    pub(super) async fn run(
        self,
        settings: &Loaded,
        global: &Global,
        output: &Output,
    ) -> Result<u8, Problem> {
        let waits = matches!(
            self,
            Self::Distribute { wait: true, .. }
                | Self::Redistribute { wait: true, .. }
                | Self::Retry { wait: true, .. }
                | Self::Validate { wait: true, .. }
        );
        if waits {
            nothing_to_wait_for(global)?;
        }
        let request = match self {
            Self::Create { name, description, source, private } => {
                let source = source.map(absolute);
                let access = if private { Access::Private } else { Access::Public };
                let request = Request::PackageCreate { name, description, source, access };
                if global.dry_run {
                    return plain(request, settings, global, output).await;
                }
                let shown = connect::call::<Shown>(settings, global, output, request).await?.body;
                output.one(
                    &shown,
                    |s| s.package.id.to_string(),
                    |output| {
                        output.line(format!("created {} `{}`", shown.package.id, safe(&shown.package.name)));
                    },
                );
                return Ok(0);
            }
            Self::List => {
                let all =
                    connect::call::<Vec<Shown>>(settings, global, output, Request::PackageList).await?.body;
                show_all(&all, output);
                return Ok(0);
            }
            Self::Show { package } => {
                let shown =
                    connect::call::<Shown>(settings, global, output, Request::PackageShow { package })
                        .await?
                        .body;
                output.one(&shown, |s| s.package.id.to_string(), |output| show_one(&shown, output));
                return Ok(0);
            }
            Self::Add { package, updates, filter } => {
                let request =
                    Request::PackageAdd { package, updates, filter: filter.filter(Vec::new(), false) };
                return change(request, settings, global, output).await;
            }
            Self::Drop { package, updates } => {
                return change(Request::PackageDrop { package, updates }, settings, global, output).await;
            }
            Self::Download { package, from, mirror } => {
                let from = from.map(absolute);
                let request = Request::PackageDownload { package, from, mirror };
                if global.no_wait {
                    return plain(request, settings, global, output).await;
                }
                let called = connect::call::<Filled>(settings, global, output, request).await?;
                output.one(
                    &called.body,
                    |f| f.package.to_string(),
                    |output| show_filled(&called.body, output),
                );
                return Ok(called.finish(output));
            }
            Self::Distribute { package, to, wait } => {
                let request = Request::PackageDistribute { package, to };
                let mut called = connect::call::<Distributed>(settings, global, output, request).await?;
                if wait {
                    let ended = super::wait::until_settled(
                        &called.body.package,
                        &mut called.body.points,
                        settings,
                        global,
                        output,
                    )
                    .await?;
                    called.problem = called.problem.or(ended);
                }
                output.one(
                    &called.body,
                    |d| d.package.to_string(),
                    |output| show_distributed(&called.body, output),
                );
                return Ok(called.finish(output));
            }
            Self::Redistribute { package, to, wait } => {
                if to.is_empty() || to.iter().any(|name| name.eq_ignore_ascii_case("all")) {
                    let what = format!("redistribute `{package}` to every distribution point that has it");
                    super::confirm(global, &what)?;
                }
                return on_points(package, to, Act::Resend, wait, settings, global, output).await;
            }
            Self::Cancel { package, to } => {
                return on_points(package, to, Act::Cancel, false, settings, global, output).await;
            }
            Self::Retry { package, to, wait } => {
                return on_points(package, to, Act::Retry, wait, settings, global, output).await;
            }
            Self::Validate { package, repair, to, wait } if !to.is_empty() => {
                let act = if repair { Act::Repair } else { Act::Validate };
                return on_points(package, to, act, wait, settings, global, output).await;
            }
            Self::Validate { package, repair, .. } if !repair && !global.no_wait => {
                let request = Request::PackageValidate { package, repair };
                let called = connect::call::<Validated>(settings, global, output, request).await?;
                output.one(
                    &called.body,
                    |v| v.package.to_string(),
                    |output| show_validated(&called.body, output),
                );
                return Ok(called.finish(output));
            }
            Self::Validate { package, repair, .. } => Request::PackageValidate { package, repair },
            Self::Set { package, access } => Request::PackageSet { package, access },
            Self::Withdraw { package, from } => Request::PackageWithdraw { package, from },
            Self::Delete { package } => {
                super::confirm(global, &format!("delete deployment package `{package}`"))?;
                Request::PackageDelete { package }
            }
        };
        plain(request, settings, global, output).await
    }
}

/// Looked at here, as the parser of arguments takes a variable that says no for an option that was given.
fn nothing_to_wait_for(global: &Global) -> Result<(), Problem> {
    let against = [("--no-wait", global.no_wait), ("--dry-run", global.dry_run)];
    match against.into_iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((option, _)) => {
            Err(Problem::new(Code::Usage, format!("the argument `--wait` cannot be used with `{option}`")))
        }
    }
}

/// The one setting that a package has yet.
fn access(text: &str) -> Result<Access, String> {
    let value = text.strip_prefix("access=").ok_or("expected `access=public` or `access=private`")?;
    value.parse().map_err(|_| format!("expected `public` or `private`, actual `{value}`"))
}

async fn on_points(
    package: String,
    on: Vec<String>,
    what: Act,
    wait: bool,
    settings: &Loaded,
    global: &Global,
    output: &Output,
) -> Result<u8, Problem> {
    super::dp::act(PointVerb::Package { package, on, what }, wait, settings, global, output).await
}

async fn change(
    request: Request,
    settings: &Loaded,
    global: &Global,
    output: &Output,
) -> Result<u8, Problem> {
    let changed = connect::call::<Changed>(settings, global, output, request).await?.body;
    output.one(
        &changed,
        |c| c.package.to_string(),
        |output| {
            for (word, titles) in
                [("added", &changed.added), ("present", &changed.present), ("dropped", &changed.dropped)]
            {
                titles.iter().for_each(|title| output.line(format!("{word}: {}", safe(title))));
            }
            changed.left_out.iter().for_each(|sentence| output.line(sentence));
            changed.notes.iter().for_each(|note| output.line(format!("note: {}", safe(note))));
            if changed.added.is_empty() && changed.present.is_empty() && changed.dropped.is_empty() {
                output.line("nothing to add: no listed update is deployable and matches");
            }
            if changed.bytes > 0 {
                output.line(format!("{} to download", size(changed.bytes)));
            }
            if changed.dry_run {
                output.line("nothing is changed (--dry-run)");
            }
        },
    );
    Ok(0)
}

fn show_all(all: &[Shown], output: &Output) {
    let wide = output.format == Format::Wide;
    let mut header = vec!["ID", "NAME", "VERSION", "FILES", "STORED", "SIZE", "DISTRIBUTED TO"];
    if wide {
        header.extend(["ACCESS", "SOURCE", "DESCRIPTION"]);
    }
    let mut rows = Rows::new(&header);
    for shown in all {
        let p = &shown.package;
        let mut row = vec![
            p.id.to_string(),
            safe(&p.name),
            p.version.to_string(),
            shown.files.len().to_string(),
            shown.stored.to_string(),
            size(shown.bytes),
            shown.distributed_to.join(", "),
        ];
        if wide {
            row.push(p.access.to_string());
            row.push(p.source_dir.as_ref().map_or_else(|| "-".to_owned(), |dir| dir.display().to_string()));
            row.push(safe(&p.description));
        }
        rows.push_row(row);
    }
    let none = "no deployment package yet: spsync package create NAME";
    output.list(&all, all, |shown| shown.package.id.to_string(), rows, none);
}

fn show_one(shown: &Shown, output: &Output) {
    let p = &shown.package;
    output.line(format!(
        "{} `{}` version {}, {} of {} stored, {}",
        p.id,
        safe(&p.name),
        p.version,
        shown.stored,
        counted(shown.files.len(), "file"),
        size(shown.bytes)
    ));
    if !p.description.is_empty() {
        output.line(format!("  {}", safe(&p.description)));
    }
    if p.access == Access::Private {
        output.line("  private: only for enrolled devices and points of the site");
    }
    let places = if shown.distributed_to.is_empty() {
        "no distribution point".to_owned()
    } else {
        shown.distributed_to.join(", ")
    };
    output.line(format!("  distributed to {places}; created {}", when(p.created)));
    for placed in &shown.points {
        let percent = (placed.done * 100).checked_div(placed.bytes).unwrap_or(100);
        let why = placed.problem.as_ref().map_or_else(String::new, |problem| format!(": {problem}"));
        output.line(format!(
            "  {} version {} is {} ({percent} %){}{}",
            safe(&placed.point),
            placed.version,
            placed.state,
            if placed.version < placed.latest { ", outdated" } else { "" },
            safe(&why)
        ));
    }
    let mut rows = Rows::new(&["FILE", "SIZE", "STATE", "SHA256", "PROBLEM"]);
    for file in &shown.files {
        rows.push([
            safe(file.file_name.as_str()),
            size(file.size),
            file.state.to_string(),
            file.sha256.map_or_else(|| "-".to_owned(), |d| d.to_string()[..12].to_owned()),
            file.problem.as_ref().map_or_else(String::new, |p| p.code.to_string()),
        ]);
    }
    output.table(rows);
}

pub(super) fn show_distributed(distributed: &Distributed, output: &Output) {
    let name = safe(&distributed.name);
    output.line(format!("{} `{name}` version {}:", distributed.package, distributed.version));
    distributed.points.iter().for_each(|sent| super::dp::line(sent, output));
    if distributed.dry_run {
        output.line("nothing is changed (--dry-run)");
    }
}

fn show_validated(validated: &Validated, output: &Output) {
    for file in &validated.files {
        let mark = if file.verdict == "good" { "✔" } else { "✘" };
        let detail = file.detail.as_ref().map_or_else(String::new, |detail| format!(": {detail}"));
        output.line(format!(" {mark} {} {}{detail}", safe(&file.file_name), file.verdict));
    }
    output.line(format!("package {} `{}` validated", validated.package, safe(&validated.name)));
}

fn show_filled(filled: &Filled, output: &Output) {
    for file in &filled.files {
        let mark = if file.problem.is_some() { "✘" } else { "✔" };
        let verified = match (&file.sha256, file.sha1_only) {
            (Some(_), false) => ", sha256 verified",
            (Some(_), true) => ", sha1 verified (sha1-only)",
            (None, _) => "",
        };
        output.line(format!(
            " {mark} {} {} {}{verified}",
            safe(&file.file_name),
            size(file.size),
            file.outcome
        ));
        output.served(file.resumed_from, &file.served);
        if let Some(problem) = &file.problem {
            output.line(format!("     {}", safe(&problem.to_string())));
        }
        if let Some(note) = &file.note {
            output.line(format!("     {}", safe(note)));
        }
    }
    output.line(format!(
        "{} fetched for package {} `{}`",
        size(filled.fetched_bytes),
        filled.package,
        safe(&filled.name)
    ));
}
