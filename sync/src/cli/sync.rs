//! `spsync sync …`.

use catalog::problem::Problem;
use clap::{Args, Subcommand};
use schema::runs::Run;
use schema::updates::NameCount;

use super::arguments::number;
use super::output::{Rows, newest, short, size, when};
use super::{Global, Output, connect, now};
use crate::admin::{Request, SelectionChange};
use crate::config::Loaded;
use crate::run::Tested;
use crate::select::Plan;
use crate::updates::selection::Selected;
use crate::words::counted;

/// Synchronisation: history, tests, what is selected, what a change would do
#[derive(Debug, Subcommand)]
pub enum Sync {
    /// List the last runs
    History {
        /// How many
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// Show a run with each of its catalogs and servers
    Show {
        /// Its number
        #[arg(value_parser = number)]
        run: i64,
    },
    /// Try every step of reaching the sources: name, connection, TLS, proxy, protocol, clock
    Test {
        /// Name of the source; all if not given
        source: Option<String>,
    },
    /// Show what another selection would list and download
    Plan(Change),
    /// List products, releases, languages, architectures and editions of the catalogs; with options: select
    Products(Change),
    /// List or select classifications; feature updates need Upgrades
    Classifications {
        /// Select these
        #[arg(long, value_name = "CLASSIFICATION")]
        set: Vec<String>,
    },
}

/// Parts of the selection to replace; `*` selects all of a part.
#[derive(Debug, Args)]
pub struct Change {
    /// Products
    #[arg(long = "set", alias = "product", value_name = "PRODUCT")]
    products: Vec<String>,
    /// Releases, as 25H2
    #[arg(long = "release", value_name = "RELEASE")]
    releases: Vec<String>,
    /// Languages, as en-us
    #[arg(long = "lang", value_name = "LANGUAGE")]
    languages: Vec<String>,
    /// Architectures: x64, x86, arm64
    #[arg(long = "arch", value_name = "ARCHITECTURE")]
    architectures: Vec<String>,
    /// Edition groups: business, consumer
    #[arg(long = "edition", value_name = "GROUP")]
    editions: Vec<String>,
}

impl Change {
    fn change(self) -> SelectionChange {
        // Where an empty list means all, `*` is how a command line says it.
        let part =
            |names: Vec<String>| (!names.is_empty()).then(|| if names == ["*"] { Vec::new() } else { names });
        SelectionChange {
            classifications: None,
            products: part(self.products),
            releases: part(self.releases),
            languages: (!self.languages.is_empty()).then_some(self.languages),
            architectures: (!self.architectures.is_empty()).then_some(self.architectures),
            editions: part(self.editions),
        }
    }
}

impl Sync {
    pub(super) async fn run(
        self,
        settings: &Loaded,
        global: &Global,
        output: &Output,
    ) -> Result<u8, Problem> {
        match self {
            Self::History { limit } => {
                let runs = connect::call::<Vec<Run>>(
                    settings,
                    global,
                    output,
                    Request::SyncHistory { limit: limit.saturating_add(1) },
                )
                .await?
                .body;
                let (runs, more) = newest(runs, limit);
                show_runs(&runs, output);
                output.some_older(more, "--limit");
                Ok(0)
            }
            Self::Show { run } => {
                let run =
                    connect::call::<Run>(settings, global, output, Request::SyncShow { run }).await?.body;
                output.one(&run, |run| run.id.to_string(), |output| show_run(&run, output));
                Ok(0)
            }
            Self::Test { source } => {
                let request = Request::SyncTest { source };
                let tested = connect::call::<Tested>(settings, global, output, request).await?.body;
                show_tested(&tested, output);
                Ok(u8::from(!tested.ok))
            }
            Self::Plan(change) => {
                let request = Request::SyncPlan { change: change.change() };
                let plan = connect::call::<Plan>(settings, global, output, request).await?.body;
                output.one(&plan, |_| String::new(), |output| show_plan(&plan, output));
                Ok(0)
            }
            Self::Products(change) => select(change.change(), settings, global, output).await,
            Self::Classifications { set } => {
                let change = SelectionChange {
                    classifications: (!set.is_empty()).then_some(set),
                    ..SelectionChange::default()
                };
                let selected =
                    connect::call::<Selected>(settings, global, output, Request::SyncSelect { change })
                        .await?
                        .body;
                output.one(&selected, |_| String::new(), |output| show_classifications(&selected, output));
                Ok(0)
            }
        }
    }
}

fn show_runs(runs: &[Run], output: &Output) {
    let mut rows = Rows::new(&["RUN", "STARTED", "KIND", "STATE", "NEW", "REVISED", "PROBLEM"]);
    for run in runs {
        let count =
            |name: &str| run.report.as_ref().map_or_else(String::new, |report| report[name].to_string());
        rows.push([
            run.id.to_string(),
            when(run.started),
            run.kind.clone(),
            run.state.to_string(),
            count("new"),
            count("revised"),
            run.problem.as_ref().map_or_else(String::new, |problem| problem.code.to_string()),
        ]);
    }
    output.list(&runs, runs, |run| run.id.to_string(), rows, "nothing was synchronised yet: spsync now");
}

fn show_run(run: &Run, output: &Output) {
    output.line(format!("run {} ({}), {}, started {}", run.id, run.kind, run.state, when(run.started)));
    if let Some(report) = run.report.clone().and_then(|report| serde_json::from_value(report).ok()) {
        now::show(&report, output);
    }
    if let Some(problem) = &run.problem {
        output.problem(problem);
    }
}

fn show_tested(tested: &Tested, output: &Output) {
    let rows = steps(tested);
    output.list(tested, &tested.sources, |one| one.source.clone(), rows, "no [[source]] is configured");
    if output.for_people() {
        let problems = tested.sources.iter().flat_map(|one| &one.steps);
        problems.filter_map(|step| step.problem.as_ref()).for_each(|one| output.problem(one));
    }
}

fn show_classifications(selected: &Selected, output: &Output) {
    let mut rows = Rows::new(&["CLASSIFICATION", "SELECTED"]);
    for name in crate::select::CLASSIFICATIONS.iter().map(|c| c.name) {
        let chosen = selected.selection.classifications.iter().any(|c| c.eq_ignore_ascii_case(name));
        rows.push([name.to_owned(), if chosen { "yes" } else { "no" }.to_owned()]);
    }
    output.table(rows);
    changed(selected, output);
}

fn steps(tested: &Tested) -> Rows {
    let mut rows = Rows::new(&["SOURCE", "LOCATION", "STEP", "RESULT", "DETAIL"]);
    for source in &tested.sources {
        for step in &source.steps {
            let result = match (&step.problem, step.warning) {
                (Some(problem), _) => problem.code.to_string(),
                (None, true) => "warning".to_owned(),
                (None, false) => "ok".to_owned(),
            };
            let location = short(&source.location, 50);
            let detail = short(&step.detail, 90);
            rows.push([source.source.clone(), location, step.step.clone(), result, detail]);
        }
    }
    rows
}

async fn select(
    change: SelectionChange,
    settings: &Loaded,
    global: &Global,
    output: &Output,
) -> Result<u8, Problem> {
    let selected =
        connect::call::<Selected>(settings, global, output, Request::SyncSelect { change }).await?.body;
    output.one(
        &selected,
        |_| String::new(),
        |output| {
            let s = &selected.selection;
            let known = &selected.known;
            let parts: [(&str, &[NameCount], &[String], bool); 5] = [
                ("product", &known.products, &s.products, true),
                ("release", &known.releases, &s.releases, true),
                ("edition", &known.edition_groups, &s.editions, true),
                ("architecture", &known.architectures, &s.architectures, false),
                ("language", &known.languages, &s.languages, false),
            ];
            let mut rows = Rows::new(&["PART", "NAME", "UPDATES", "SIZE", "SELECTED"]);
            for (part, names, chosen, empty_is_all) in parts {
                for name in names {
                    let selected = (chosen.is_empty() && empty_is_all)
                        || chosen.iter().any(|c| c == "*" || c.eq_ignore_ascii_case(&name.name));
                    rows.push([
                        part.to_owned(),
                        name.name.clone(),
                        name.updates.to_string(),
                        size(name.bytes),
                        if selected { "yes" } else { "no" }.to_owned(),
                    ]);
                }
            }
            output.table(rows);
            let others =
                known.categories.iter().filter(|c| known.products.iter().all(|p| p.name != c.name)).count();
            if others > 0 {
                output.line(format!(
                    "{others} more products of update servers can be chosen: spsync updates categories"
                ));
            }
            if known.products.is_empty() && others == 0 {
                output.note("no catalog is synchronised yet: spsync now");
            }
            changed(&selected, output);
        },
    );
    Ok(0)
}

fn changed(selected: &Selected, output: &Output) {
    if let Some(plan) = &selected.plan {
        show_plan(plan, output);
        output.line(if selected.changed {
            "the selection is changed"
        } else {
            "nothing is changed (--dry-run)"
        });
    }
}

fn show_plan(plan: &Plan, output: &Output) {
    let mut rows = Rows::new(&["BY", "NAME", "UPDATES", "SIZE"]);
    for (by, counts) in
        [("product", &plan.by_product), ("release", &plan.by_release), ("language", &plan.by_language)]
    {
        for (name, count) in counts {
            rows.push([by.to_owned(), name.clone(), count.updates.to_string(), size(count.bytes)]);
        }
    }
    output.table(rows);
    output.line(format!(
        "would list {}, {} if all were downloaded: {} more, {} fewer than now",
        counted(plan.listed, "update"),
        size(plan.bytes),
        plan.added,
        plan.removed
    ));
}
