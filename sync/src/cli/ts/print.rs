//! What `spsync ts` prints.

use catalog::problem::Problem;
use serde_json::Value;

use super::super::output::{Rows, safe, size, when};
use super::super::said::{id_of, read, say};
use super::super::{Called, Global, Output, connect};
use crate::admin::Request;
use crate::authoring::{
    Choices, Created, Differences, Exported, Imported, Linted, Planned, References, Shown, TsRequest,
};
use crate::config::Loaded;
use crate::sequence::Kind;
use crate::sequence::lint::{Finding, Severity};
use crate::words::counted;

/// Sends a request about task sequences.
///
/// # Errors
/// What the site answers.
pub async fn call(
    request: TsRequest,
    settings: &Loaded,
    global: &Global,
    output: &Output,
) -> Result<Called<Value>, Problem> {
    connect::call::<Value>(settings, global, output, Request::Ts(request)).await
}

/// The templates.
pub fn types(output: &Output) {
    let mut rows = Rows::new(&["TYPE", "WHAT"]);
    for (kind, what) in Kind::ALL {
        rows.push([kind.word().to_owned(), what.to_owned()]);
    }
    let words: Vec<&str> = Kind::ALL.iter().map(|(kind, _)| kind.word()).collect();
    output.list(&words, &words, |word| (*word).to_owned(), rows, "there are no types");
}

/// What a task sequence can be made from.
///
/// # Errors
/// `INTERNAL` where it cannot be read.
pub fn choices(body: &Value, output: &Output) -> Result<(), Problem> {
    let choices: Choices = connect::expected(body.clone())?;
    output.one(
        body,
        |_| String::new(),
        |output| {
            let mut rows = Rows::new(&["ID", "KIND", "TITLE", "SIZE"]);
            for (kind, list) in [
                ("feature-update", &choices.feature_updates),
                ("image", &choices.images),
                ("app", &choices.apps),
            ] {
                for one in list {
                    let id: String = one.id.chars().take(8).collect();
                    rows.push([id, kind.to_owned(), safe(&one.title), size(one.bytes)]);
                }
            }
            output.table(rows);
            choices.hidden.iter().for_each(|hidden| output.line(format!(" {}", safe(hidden))));
        },
    );
    Ok(())
}

/// One task sequence: its document, or its tree.
pub fn one(body: &Value, tree: bool, output: &Output) {
    output.one(body, id_of, |output| match serde_json::from_value::<Shown>(body.clone()) {
        Ok(shown) => {
            heading(&shown, output);
            match tree {
                true => shown.tree.iter().for_each(|line| output.line(safe(line))),
                false => shown.document.lines().for_each(|line| output.line(safe(line))),
            }
            shown.secrets.iter().for_each(|secret| output.line(format!("  secret {}", safe(secret))));
            findings(&shown.findings, output);
            shown.notes.iter().for_each(|note| output.line(format!("  note: {}", safe(note))));
        }
        Err(_) => say(body, output),
    });
}

fn heading(shown: &Shown, output: &Output) {
    let state = if shown.enabled { "enabled" } else { "disabled" };
    let deployable = if shown.deployable { "deployable" } else { "not deployable" };
    output.line(format!(
        "{} `{}` · {} · {} in {} · {state}, {deployable} · revision {}",
        shown.id,
        safe(&shown.name),
        shown.kind,
        counted(shown.steps, "step"),
        counted(shown.groups, "group"),
        shown.revision
    ));
}

fn findings(all: &[Finding], output: &Output) {
    for finding in all {
        let severity = if finding.severity == Severity::Error { "error" } else { "lint" };
        output.line(format!(
            "  {severity} {}: {}; {}",
            finding.code,
            safe(&finding.message),
            safe(&finding.help)
        ));
    }
}

/// The answer to any other verb.
///
/// # Errors
/// `INTERNAL` where it cannot be read.
pub fn answer(request: &TsRequest, body: &Value, output: &Output) -> Result<(), Problem> {
    match request {
        TsRequest::List => list(body, output)?,
        TsRequest::Replace { .. }
        | TsRequest::StepAdd { .. }
        | TsRequest::StepSet(_)
        | TsRequest::StepMove { .. }
        | TsRequest::StepRemove { .. }
        | TsRequest::Copy { .. }
        | TsRequest::Set { .. }
        | TsRequest::Enable { .. } => one(body, true, output),
        _ => output.one(body, id_of, |output| {
            if !people(request, body, output) {
                say(body, output);
            }
        }),
    }
    Ok(())
}

/// All task sequences.
///
/// # Errors
/// `INTERNAL` where they cannot be read.
pub fn list(body: &Value, output: &Output) -> Result<(), Problem> {
    let all: Vec<Shown> = connect::expected(body.clone())?;
    let mut rows = Rows::new(&["ID", "NAME", "KIND", "STEPS", "CHANGED", "DEPLOYABLE"]);
    for shown in &all {
        let first = shown.findings.iter().find(|finding| finding.severity == Severity::Error);
        let deployable = match (first, shown.deployable) {
            (Some(finding), _) => format!("no: {}", finding.code),
            (None, false) => "no: empty".to_owned(),
            (None, true) if !shown.enabled => "disabled".to_owned(),
            (None, true) => "yes".to_owned(),
        };
        rows.push([
            shown.id.to_string(),
            safe(&shown.name),
            shown.kind.clone(),
            shown.steps.to_string(),
            when(shown.changed),
            deployable,
        ]);
    }
    let none = "no task sequences yet: spsync ts create NAME --upgrade --feature-update ID";
    output.list(body, &all, |shown| shown.id.to_string(), rows, none);
    Ok(())
}

fn people(request: &TsRequest, body: &Value, output: &Output) -> bool {
    let told = match request {
        TsRequest::Create(_) => read::<Created>(body).map(|created| show_created(&created, output)),
        TsRequest::Lint { .. } => read::<Linted>(body).map(|linted| {
            if linted.findings.is_empty() {
                output.line(format!("{} `{}`: nothing found", linted.id, safe(&linted.name)));
            }
            findings(&linted.findings, output);
        }),
        TsRequest::Refs { .. } => {
            read::<References>(body).map(|references| show_references(&references, output))
        }
        TsRequest::Plan { .. } => read::<Planned>(body).map(|planned| show_planned(&planned, output)),
        TsRequest::Diff { .. } => read::<Differences>(body).map(|differences| {
            differences.lines.iter().for_each(|line| output.line(safe(line)));
        }),
        TsRequest::Export { .. } => read::<Exported>(body).map(|exported| {
            let verb = if exported.dry_run { "would export" } else { "exported" };
            output.line(format!(
                "{verb} {} to {}",
                safe(&exported.sequences.join(", ")),
                exported.file.display()
            ));
            if let Some(folder) = &exported.folder {
                output.line(format!("  content: {} in {}", size(exported.bytes), folder.display()));
            }
            exported.left_out.iter().for_each(|what| output.line(format!("  left out: {what}")));
        }),
        TsRequest::Import { .. } => read::<Imported>(body).map(|imported| {
            let all = &imported.sequences;
            all.iter().for_each(|(id, name)| output.line(format!("imported {id} `{}`", safe(name))));
            imported.added.iter().for_each(|what| output.line(format!("  added {}", safe(what))));
            imported.linked.iter().for_each(|what| output.line(format!("  already here: {}", safe(what))));
            imported.incomplete.iter().for_each(|what| output.line(format!("  incomplete: {what}")));
            imported.notes.iter().for_each(|note| output.line(format!("  note: {}", safe(note))));
        }),
        _ => None,
    };
    told.is_some()
}

fn show_created(created: &Created, output: &Output) {
    let (verb, id) = match &created.id {
        Some(id) => ("created", id.to_string()),
        None => ("would create", format!("`{}`", safe(&created.name))),
    };
    output.line(format!(
        "{verb} {id} ({} in {}); warnings: {}",
        counted(created.steps, "step"),
        counted(created.groups, "group"),
        created.findings.len()
    ));
    if let Some(edition) = &created.edition {
        output.line(format!("  edition {}, {}", safe(edition), created.product_key));
    }
    findings(&created.findings, output);
}

fn show_references(references: &References, output: &Output) {
    let mut rows = Rows::new(&["STEP", "KIND", "ID", "TITLE", "SIZE", "AVAILABLE"]);
    for one in &references.references {
        let step = if one.enabled { one.step.to_string() } else { format!("{} (disabled)", one.step) };
        let id: String = one.id.chars().take(8).collect();
        rows.push([step, one.kind.clone(), id, safe(&one.title), size(one.bytes), one.availability.clone()]);
    }
    output.table(rows);
    references.pre_download.iter().for_each(|id| output.line(format!(" before the run: {id}")));
    references.excluded.iter().for_each(|what| output.line(format!(" {what}")));
    references.notes.iter().for_each(|note| output.line(format!(" {note}")));
}

fn show_planned(planned: &Planned, output: &Output) {
    output.line(if planned.eligible { "eligible" } else { "not eligible" });
    for (step, choice) in &planned.choices {
        for one in &choice.considered {
            let why = one.skipped.as_deref().unwrap_or("taken");
            output.line(format!("  step {step}: {} {}: {}", one.id.short(), safe(&one.title), safe(why)));
        }
    }
}
