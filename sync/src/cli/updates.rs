//! `spsync updates …`.

use std::path::PathBuf;

use catalog::feature_update::{Shape, ToldBy};
use catalog::problem::Problem;
use clap::{Args, Subcommand};
use schema::metadata::Category;
use schema::updates::FeatureUpdate;

use super::arguments::absolute;
use super::connect::plain;
use super::output::{Rows, safe, size, when};
use super::{Format, Global, Output, connect};
use crate::admin::{Mark, Request, UpdateFilter};
use crate::config::Loaded;
use crate::export::Written;
use crate::import::Imported;
use crate::updates::retention::Collected;
use crate::updates::supersedence::{Plan, Row};
use crate::updates::{List, Listed, Shown};
use crate::words::counted;

/// The most updates whose advice is told below a list.
const ADVISED: usize = 10;

/// Feature updates
#[derive(Debug, Subcommand)]
pub enum Updates {
    /// List feature updates, and why some cannot be deployed
    List {
        #[command(flatten)]
        filter: Filter,
        /// Also what the selection hides, what was declined or withdrawn
        #[arg(long)]
        all: bool,
    },
    /// Show everything about an update
    Show {
        /// Id, or the unique beginning of an id, title or file name
        update: String,
    },
    /// Take in what a WSUS server exported, for networks without internet; `--dry-run` shows what would change
    Import {
        /// The export: a cabinet (`wsusutil export`), or its `.xml.gz` form
        file: PathBuf,
    },
    /// Write imported documents as a cabinet in the form of a WSUS export (untried with a WSUS server)
    Export {
        /// The cabinet to make; it must not exist
        file: PathBuf,
    },
    /// List companies, product families, products and classifications of recorded documents
    Categories,
    /// What replaces what, and the rule that expires what is replaced
    #[command(subcommand)]
    Supersedence(Supersedence),
    /// Take documents away that nothing needs any more; `--dry-run` shows which. Each `spsync now` does some of it
    Gc,
    /// Decline updates: they are not listed or picked any more
    Decline {
        /// Ids or titles
        #[arg(required = true)]
        updates: Vec<String>,
    },
    /// List declined updates again, and end a hold
    Restore {
        /// Ids or titles
        #[arg(required = true)]
        updates: Vec<String>,
    },
    /// Exempt updates from expiry by supersedence
    Hold {
        /// Ids or titles
        #[arg(required = true)]
        updates: Vec<String>,
    },
}

/// What replaces what.
#[derive(Debug, Subcommand)]
pub enum Supersedence {
    /// What the rule expires now, what later, and what it leaves and why
    Plan,
}

/// Narrows a list of updates; each may be given several times.
#[derive(Debug, Default, Args)]
pub struct Filter {
    /// Product, as "Windows 11"
    #[arg(long = "product", value_name = "PRODUCT")]
    products: Vec<String>,
    /// Release, as 25H2
    #[arg(long = "release", value_name = "RELEASE")]
    releases: Vec<String>,
    /// Language, as en-us
    #[arg(long = "lang", value_name = "LANGUAGE")]
    languages: Vec<String>,
    /// Architecture: x64, x86, arm64
    #[arg(long = "arch", value_name = "ARCHITECTURE")]
    architectures: Vec<String>,
    /// Edition group: business, consumer
    #[arg(long = "edition", value_name = "GROUP")]
    editions: Vec<String>,
    /// Release that the devices run, as 21H2: what only switches features on there comes first
    #[arg(long = "base", value_name = "RELEASE")]
    base: Option<String>,
}

impl Filter {
    pub(super) fn filter(self, words: Vec<String>, all: bool) -> UpdateFilter {
        UpdateFilter {
            products: self.products,
            releases: self.releases,
            languages: self.languages,
            architectures: self.architectures,
            editions: self.editions,
            base: self.base,
            words,
            all,
        }
    }
}

impl Updates {
    pub(super) async fn run(
        self,
        settings: &Loaded,
        global: &Global,
        output: &Output,
    ) -> Result<u8, Problem> {
        let (updates, mark) = match self {
            Self::List { filter, all } => {
                let request = Request::UpdatesList(filter.filter(Vec::new(), all));
                let list = connect::call::<List>(settings, global, output, request).await?.body;
                show_list(&list, output);
                return Ok(0);
            }
            Self::Show { update } => {
                let shown = connect::call::<Shown>(settings, global, output, Request::UpdatesShow { update })
                    .await?
                    .body;
                output.one(
                    &shown,
                    |s| s.listed.update.id.update.to_string(),
                    |output| show_one(&shown, output),
                );
                return Ok(0);
            }
            Self::Import { file } => {
                let file = absolute(file);
                let request = Request::UpdatesImport { file };
                if global.no_wait {
                    return plain(request, settings, global, output).await;
                }
                let called = connect::call::<Imported>(settings, global, output, request).await?;
                output.one(
                    &called.body,
                    |i| i.file.display().to_string(),
                    |output| show_imported(&called.body, output),
                );
                return Ok(called.finish(output));
            }
            Self::Export { file } => {
                let file = absolute(file);
                let request = Request::UpdatesExport { file };
                if global.no_wait {
                    return plain(request, settings, global, output).await;
                }
                let called = connect::call::<Written>(settings, global, output, request).await?;
                let w = &called.body;
                output.one(
                    w,
                    |w| w.file.display().to_string(),
                    |output| {
                        let verb = if w.dry_run { "would be written" } else { "written" };
                        output.line(format!(
                            "{}: {} {verb}, {}",
                            w.file.display(),
                            counted(w.documents, "document"),
                            size(w.size)
                        ));
                    },
                );
                return Ok(called.finish(output));
            }
            Self::Categories => {
                let all =
                    connect::call::<Vec<Category>>(settings, global, output, Request::Categories).await?.body;
                let mut rows = Rows::new(&["TYPE", "NAME", "ID"]);
                all.iter().for_each(|c| {
                    rows.push([c.category_type.clone(), safe(&c.title), c.id.update.to_string()])
                });
                let none = "no update document is imported yet: spsync updates import FILE";
                output.list(&all, &all, |category| category.id.update.to_string(), rows, none);
                return Ok(0);
            }
            Self::Supersedence(Supersedence::Plan) => {
                let plan =
                    connect::call::<Plan>(settings, global, output, Request::SupersedencePlan).await?.body;
                show_plan(&plan, output);
                return Ok(0);
            }
            Self::Gc => {
                let request = Request::UpdatesGc { confirmed: global.yes };
                let called = connect::call::<Collected>(settings, global, output, request).await?;
                show_collected(&called.body, output);
                return Ok(called.finish(output));
            }
            Self::Decline { updates } => {
                super::confirm(global, &format!("decline {}", counted(updates.len(), "update")))?;
                (updates, Mark::Decline)
            }
            Self::Restore { updates } => (updates, Mark::Restore),
            Self::Hold { updates } => (updates, Mark::Hold),
        };
        let request = Request::UpdatesMark { updates, mark };
        let called = connect::call::<serde_json::Value>(settings, global, output, request).await?;
        output.one(
            &called.body,
            |_| String::new(),
            |output| {
                for title in
                    called.body["updates"].as_array().into_iter().flatten().filter_map(|t| t.as_str())
                {
                    output.line(format!(
                        "{}: {}",
                        called.body["mark"].as_str().unwrap_or_default(),
                        safe(title)
                    ));
                }
            },
        );
        Ok(called.finish(output))
    }
}

fn show_imported(imported: &Imported, output: &Output) {
    let made = safe(imported.made.as_deref().unwrap_or("at an unknown time"));
    let age = imported.age_days.map_or_else(String::new, |days| format!(", {} ago", counted(days, "day")));
    output.line(format!(
        "{}: {}, made {made}{age}",
        imported.file.display(),
        counted(imported.documents, "document")
    ));
    for (kind, count) in &imported.by_kind {
        output.line(format!("  {count:>6} {kind}"));
    }
    let verb = if imported.dry_run { "would be new" } else { "new" };
    output.line(format!(
        "{} {verb}, {} known already, {} refused",
        imported.new, imported.unchanged, imported.refused
    ));
    imported.new_categories.iter().take(20).for_each(|name| output.line(format!("  + {}", safe(name))));
    if imported.new_feature_updates > 0 {
        output.line(format!(
            "{}: spsync updates list --all",
            counted(imported.new_feature_updates, "new feature update")
        ));
    }
    if imported.new_categories.len() > 20 {
        output.line(format!(
            "  and {} more categories (spsync updates categories)",
            imported.new_categories.len() - 20
        ));
    }
    imported.notes.iter().for_each(|note| output.line(safe(note)));
}

fn show_plan(plan: &Plan, output: &Output) {
    let mut rows = Rows::new(&["ID", "TITLE", "DUE", "REPLACED BY", "WHAT HAPPENS"]);
    let parts: [(&[Row], &str); 5] = [
        (&plan.expire, "expires with the next run"),
        (&plan.restore, "comes back with the next run"),
        (&plan.kept, "kept"),
        (&plan.later, "expires later"),
        (&plan.expired, "expired"),
    ];
    for (part, what) in parts {
        for row in part {
            let what =
                row.kept_because.as_ref().map_or_else(|| what.to_owned(), |why| format!("{what}: {why}"));
            rows.push([
                row.update.short(),
                safe(&row.title),
                row.due.map_or_else(|| "no date".to_owned(), when),
                row.superseded_by.iter().map(|by| by.short()).collect::<Vec<_>>().join(", "),
                what,
            ]);
        }
    }
    output.one(
        plan,
        |_| String::new(),
        |output| {
            output.table(rows);
            output.line(format!(
                "{} expire, {} come back, {} are kept, {} expire later, {} are expired; {} months after what replaces them \
                 was published ([sync] supersedence_months)",
                plan.expire.len(),
                plan.restore.len(),
                plan.kept.len(),
                plan.later.len(),
                plan.expired.len(),
                plan.months
            ));
        },
    );
}

fn show_collected(collected: &Collected, output: &Output) {
    output.one(
        collected,
        |_| String::new(),
        |output| {
            output.line(format!(
                "{} of {} documents are not needed ({}); {} {}",
                collected.unneeded,
                collected.recorded,
                size(collected.bytes),
                collected.documents,
                if collected.dry_run { "taken away (--dry-run)" } else { "taken away" }
            ));
            collected.examples.iter().for_each(|id| output.line(format!("  {id}")));
        },
    );
}

/// What the DEPLOYABLE column says.
pub(super) fn deployable(listed: &Listed) -> String {
    match listed.reasons.as_slice() {
        [] => "yes".to_owned(),
        reasons => format!("no: {}", reasons.iter().map(|r| r.word()).collect::<Vec<_>>().join(", ")),
    }
}

fn show_list(list: &List, output: &Output) {
    let wide = output.format == Format::Wide;
    let mut header = vec!["ID", "TITLE", "BUILD", "SIZE", "LICENCE", "STATE", "DEPLOYABLE"];
    if wide {
        header.extend(["DIGESTS", "FILE"]);
    }
    let mut rows = Rows::new(&header);
    for listed in &list.updates {
        let u = &listed.update;
        let state = match (u.downloaded, &listed.hidden) {
            (_, Some(hidden)) => hidden.clone(),
            (true, None) => "downloaded".to_owned(),
            (false, None) => "metadata".to_owned(),
        };
        let state = if listed.superseded_by.is_empty() { state } else { format!("{state}, superseded") };
        let mut row = vec![
            u.id.update.short(),
            safe(&u.title),
            u.build_text(),
            size(u.size),
            u.license.to_string(),
            state,
            deployable(listed),
        ];
        if wide {
            row.push(
                match (u.digests.sha1, u.digests.sha256) {
                    (Some(_), Some(_)) => "sha1+sha256",
                    (None, Some(_)) => "sha256",
                    (Some(_), None) => "sha1-only",
                    (None, None) => "none",
                }
                .to_owned(),
            );
            row.push(safe(u.file_name.as_str()));
        }
        rows.push_row(row);
    }
    let none = match list.hidden == 0 && list.notes.is_empty() {
        true => "no feature update is known yet: spsync now",
        false => "no feature update is listed",
    };
    output.list(list, &list.updates, |listed| listed.update.id.update.to_string(), rows, none);
    if list.hidden > 0 {
        let reasons: Vec<_> = list.hidden_because.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
        output.below(format!("{} hidden: {} (--all shows them)", list.hidden, reasons.join(", ")));
    }
    if output.for_people() {
        let advised = || list.updates.iter().filter(|listed| listed.advice.is_some());
        for listed in advised().take(ADVISED) {
            let advice = listed.advice.as_deref().unwrap_or_default();
            output.line(format!(
                "{} switches on {}: {advice}",
                listed.update.id.update.short(),
                listed.update.release.as_deref().unwrap_or("-")
            ));
        }
        if let Some(more @ 1..) = advised().count().checked_sub(ADVISED) {
            output.line(format!("{more} more have such advice (--output json shows all)"));
        }
    }
    list.notes.iter().for_each(|note| output.below(note));
}

fn shape(update: &FeatureUpdate) -> String {
    match update.shape {
        Shape::Esd => "one image".to_owned(),
        Shape::Enablement if update.bases.is_empty() => "enablement package".to_owned(),
        Shape::Enablement => format!("enablement package for {}", update.bases.join(", ")),
        Shape::FileSet => format!("{} files, of which a device fetches what it lacks", update.files.len()),
    }
}

fn told_by(update: &FeatureUpdate) -> String {
    match update.told_by {
        ToldBy::FileName => "the file's name (sure)".to_owned(),
        ToldBy::Title => "the title (likely)".to_owned(),
        ToldBy::Nothing => "nothing".to_owned(),
    }
}

fn show_one(shown: &Shown, output: &Output) {
    let u = &shown.listed.update;
    let dash = || "-".to_owned();
    output.line(safe(&u.title));
    let mut fields = vec![
        ("id", format!("{} revision {}", u.id.update, u.id.number.0)),
        ("product", u.product.clone().unwrap_or_else(dash)),
        ("comes as", shape(u)),
        ("told by", told_by(u)),
        ("release", format!("{} (build {})", u.release.as_deref().unwrap_or("-"), u.build_text())),
        ("editions", format!("{}: {}", u.edition_group.as_deref().unwrap_or("-"), u.editions.join(", "))),
        ("architecture", u.architecture.clone()),
        ("language", u.language.clone()),
        ("file", u.file_name.to_string()),
        ("size", format!("{} ({} bytes)", size(u.size), u.size)),
    ];
    if u.products.iter().any(|product| Some(product) != u.product.as_ref()) {
        fields.insert(2, ("filed under", u.products.join("; ")));
    }
    fields.extend(u.digests.sha1.map(|d| ("sha1", d.to_string())));
    fields.extend(u.digests.sha256.map(|d| ("sha256", d.to_string())));
    fields.extend(u.urls.iter().map(|url| ("link", format!("{} ({})", url.url, url.source))));
    if u.files.len() > 1 {
        fields.extend(
            u.files.iter().map(|file| ("contains", format!("{} ({})", file.file_name, size(file.size)))),
        );
    }
    fields.extend(u.created.map(|created| ("published", when(created))));
    fields.extend((!shown.listed.superseded_by.is_empty()).then(|| {
        (
            "replaced by",
            shown.listed.superseded_by.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        )
    }));
    fields.extend(u.expired_at.map(|at| ("expired", when(at))));
    fields.push(("licence", u.license.to_string()));
    fields.push(("signature", shown.signature.clone()));
    fields.push(("deployable", deployable(&shown.listed)));
    fields.extend(shown.listed.hidden.iter().map(|hidden| ("hidden", hidden.clone())));
    fields.push(("seen", format!("first {}, last {}", when(u.first_seen), when(u.last_seen))));
    for (name, value) in fields {
        output.line(format!("  {name:<13}{}", safe(&value)));
    }
    for revision in &shown.revisions {
        output.line(format!(
            "  revision {:<4}{} {}",
            revision.id.number.0,
            revision.build_text(),
            safe(revision.file_name.as_str())
        ));
    }
}
