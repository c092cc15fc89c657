//! What `spsync deploy` prints.

use catalog::problem::Problem;
use serde_json::{Value, json};

use super::super::Output;
use super::super::connect::expected;
use super::super::output::{Rows, safe, size, when};
use super::super::said::read;
use super::{CheckBy, StatusBy};
use crate::deploying::check::Checked;
use crate::deploying::options::Options;
use crate::deploying::phases::ShownPlan;
use crate::deploying::status::{Buckets, Status};
use crate::deploying::updates::ShownUpdates;
use crate::deploying::{Created, Shown};
use crate::words::counted;

fn counts(buckets: &Buckets) -> String {
    let Buckets { success, in_progress, error, requirements_not_met, unknown } = buckets;
    format!(
        "{success} ok · {in_progress} in progress · {error} failed · {requirements_not_met} requirements not met · {unknown} unknown"
    )
}

/// All deployments.
///
/// # Errors
/// `INTERNAL` where they cannot be read.
pub fn list(body: &Value, output: &Output) -> Result<(), Problem> {
    let all: Vec<Shown> = expected(body.clone())?;
    let mut rows = Rows::new(&[
        "ID",
        "TASK SEQUENCE",
        "COLLECTION",
        "PURPOSE",
        "STATE",
        "DEADLINE",
        "CONTENT",
        "OK",
        "FAILED",
        "DEVICES",
    ]);
    for one in &all {
        rows.push([
            one.row.id.to_string(),
            safe(&one.name),
            safe(&one.row.collection),
            one.row.purpose.to_string(),
            match one.would_be_refused.filter(|_| !one.passed_over) {
                Some(code) => format!("{}: {code}", one.state),
                None => one.state.clone(),
            },
            one.row.deadline.map_or_else(|| "-".to_owned(), when),
            one.row.content.to_string(),
            one.buckets.success.to_string(),
            one.buckets.error.to_string(),
            one.devices.to_string(),
        ]);
    }
    let none = "nothing is deployed yet: spsync deploy create TS --collection COLLECTION";
    output.list(body, &all, |one| one.row.id.to_string(), rows, none);
    Ok(())
}

/// All deployments of updates.
///
/// # Errors
/// `INTERNAL` where they cannot be read.
pub fn updates(body: &Value, output: &Output) -> Result<(), Problem> {
    let all: Vec<ShownUpdates> = expected(body.clone())?;
    let mut rows = Rows::new(&["ID", "UPDATES", "COLLECTION", "PURPOSE", "STATE", "DEADLINE"]);
    for one in &all {
        rows.push([
            one.row.id.to_string(),
            one.row.updates.len().to_string(),
            safe(&one.row.collection),
            one.row.purpose.to_string(),
            one.state.clone(),
            one.row.deadline.map_or_else(|| "-".to_owned(), when),
        ]);
    }
    let none = "no updates are deployed yet: spsync deploy create --update ID --collection NAME";
    output.list(body, &all, |one| one.row.id.to_string(), rows, none);
    Ok(())
}

fn updates_lines(shown: &ShownUpdates, output: &Output) {
    let verb = if shown.dry_run { "would deploy " } else { "" };
    output.line(format!(
        "{verb}{} to `{}`: {}, {}",
        shown.row.id,
        safe(&shown.row.collection),
        shown.row.purpose,
        shown.state
    ));
    for (id, title) in &shown.row.updates {
        output.line(format!("  {} {}", id.short(), safe(title)));
    }
    shown.notes.iter().for_each(|note| output.line(format!("  note: {}", safe(note))));
}

/// One deployment, there or to be made. Answers whether it was one.
pub fn one(body: &Value, output: &Output) -> bool {
    if let Some(shown) = read::<ShownUpdates>(body) {
        updates_lines(&shown, output);
        return true;
    }
    if let Some(shown) = read::<Shown>(body) {
        shown_lines(&shown, output);
        return true;
    }
    let Some(created) = read::<Created>(body) else { return false };
    output.line(format!(
        "would deploy `{}` to `{}` ({}), {}",
        safe(&created.name),
        safe(&created.collection),
        counted(created.devices, "device"),
        created.purpose
    ));
    if let Some(package) = &created.package {
        let places = if created.places.is_empty() {
            "the site's own point".to_owned()
        } else {
            created.places.join(", ")
        };
        output.line(format!(
            "  package {}: {} to download, sent to {}",
            safe(package),
            created.downloads.len(),
            safe(&places)
        ));
    }
    for name in &created.software {
        output.line(format!("  {} sent to {}", safe(name), safe(&created.places.join(", "))));
    }
    created.risk.reasons.iter().for_each(|reason| output.line(format!("  high risk: {}", safe(reason))));
    created.notes.iter().for_each(|note| output.line(format!("  note: {}", safe(note))));
    true
}

/// What was chosen, by the names that `deploy change --off` takes.
fn options(options: &Value) -> Vec<String> {
    let Some(options) = read::<Options>(options) else { return Vec::new() };
    let (written, usual) = (json!(options), json!(Options::default()));
    let switches = written.as_object().into_iter().flatten().filter(|(_, value)| value.is_boolean());
    let on: Vec<_> = switches
        .clone()
        .filter(|(_, value)| **value == Value::Bool(true))
        .map(|(name, _)| name.as_str())
        .collect();
    // What is on where nobody says anything is worth a word when it is off.
    let off: Vec<_> = switches
        .filter(|(name, value)| **value == Value::Bool(false) && usual[name.as_str()] == Value::Bool(true))
        .map(|(name, _)| name.as_str())
        .collect();
    let word = |name: &str| written[name].as_str().unwrap_or("usual").to_owned();
    let mut lines = vec![format!(
        "delivery {} · rerun {} · offered to {}",
        word("delivery"),
        word("rerun"),
        word("offered_to")
    )];
    for (what, names) in [("on", on), ("off", off)] {
        if !names.is_empty() {
            lines.push(format!("{what}: {}", names.join(", ")));
        }
    }
    if !options.comment.is_empty() {
        lines.push(format!("comment: {}", options.comment));
    }
    lines
}

fn shown_lines(shown: &Shown, output: &Output) {
    let row = &shown.row;
    output.line(format!(
        "{} `{}` to `{}` · {} · {} · {}",
        row.id,
        safe(&shown.name),
        safe(&row.collection),
        row.purpose,
        shown.state,
        counted(shown.devices, "device")
    ));
    let deadline = row.deadline.map_or_else(String::new, |deadline| format!(" · due {}", when(deadline)));
    let expires = row.expires.map_or_else(String::new, |expires| format!(" · until {}", when(expires)));
    output.line(format!("  from {}{deadline}{expires}", when(row.available)));
    options(&row.options).iter().for_each(|line| output.line(format!("  {}", safe(line))));
    output.line(format!("  {}", counts(&shown.buckets)));
    output.line(format!("  content {}", row.content));
    if let Some(progress) = &shown.progress {
        output.line(format!(
            "  package {} `{}`: {} of {}, on {}",
            progress.package,
            safe(&progress.name),
            progress.stored,
            counted(progress.files, "file"),
            counted(progress.points.len(), "point")
        ));
        progress.pending.iter().for_each(|pending| output.line(format!("  pending: {}", safe(pending))));
    }
    for placed in &shown.software {
        output.line(format!("  `{}` on {}: {}", safe(&placed.name), safe(&placed.point), placed.state));
    }
    if let Some(problem) = &row.problem {
        output.line(format!("  {}", safe(&problem.to_string())));
    }
    shown.notes.iter().for_each(|note| output.line(format!("  note: {}", safe(note))));
}

/// What a check found.
///
/// # Errors
/// `INTERNAL` where it cannot be read.
pub fn checked(body: &Value, by: CheckBy, output: &Output) -> Result<(), Problem> {
    let checked: Checked = expected(body.clone())?;
    if output.for_people() {
        let reasons: Vec<_> =
            checked.reasons.iter().map(|line| format!(" · {} {}", line.devices, line.words)).collect();
        output.line(format!(
            "{}: {} eligible{}",
            counted(checked.devices, "device"),
            checked.eligible,
            reasons.concat()
        ));
        output.line(format!("largest download: {}", size(checked.largest_download)));
        if let Some(risk) = checked.risk.as_ref().filter(|risk| risk.high) {
            let reasons = if risk.reasons.is_empty() {
                "nothing to confirm".to_owned()
            } else {
                risk.reasons.join("; ")
            };
            output.line(format!("high risk: {}", safe(&reasons)));
        }
        checked.notes.iter().for_each(|note| output.line(format!("note: {}", safe(note))));
    }
    match by {
        CheckBy::Client => checked_by_devices(body, &checked, output),
        CheckBy::Reason => checked_by_reasons(body, &checked, output),
        CheckBy::Group => checked_by_groups(body, &checked, output),
    }
    Ok(())
}

fn checked_by_devices(body: &Value, checked: &Checked, output: &Output) {
    let mut rows = Rows::new(&["DEVICE", "ELIGIBLE", "BYTES", "GROUPS", "WHY NOT"]);
    for line in &checked.clients {
        let reasons: Vec<_> = line.reasons.iter().map(|reason| reason.text.as_str()).collect();
        rows.push([
            safe(&line.device),
            if line.eligible { "yes" } else { "no" }.to_owned(),
            size(line.bytes),
            safe(&line.groups.join(", ")),
            safe(&reasons.join("; ")),
        ]);
    }
    output.list(body, &checked.clients, |line| line.device.clone(), rows, "the collection has no devices");
}

fn checked_by_reasons(body: &Value, checked: &Checked, output: &Output) {
    let mut rows = Rows::new(&["WHY NOT", "DEVICES"]);
    for line in &checked.reasons {
        rows.push([line.words.clone(), line.devices.to_string()]);
    }
    output.list(body, &checked.reasons, |line| line.words.clone(), rows, "nothing keeps a device back");
}

fn checked_by_groups(body: &Value, checked: &Checked, output: &Output) {
    let mut rows = Rows::new(&["GROUP", "DEVICES", "CONTENT", "PEERS", "LINK", "DOWNLOADED"]);
    for line in &checked.groups {
        let after = line.after_seconds.map_or_else(String::new, |after| format!(" ({}m)", after / 60));
        rows.push([
            if line.groups.is_empty() { "-".to_owned() } else { safe(&line.groups.join(", ")) },
            line.devices.to_string(),
            format!("{}{after}", line.means.words()),
            if line.peers { "on" } else { "off" }.to_owned(),
            size(line.link_bytes),
            size(line.bytes),
        ]);
    }
    output.list(body, &checked.groups, |line| line.groups.join(","), rows, "no device downloads anything");
}

/// How far devices are.
///
/// # Errors
/// `INTERNAL` where it cannot be read.
pub fn status(body: &Value, by: StatusBy, output: &Output) -> Result<(), Problem> {
    let status: Status = expected(body.clone())?;
    if output.for_people() {
        shown_lines(&status.deployment, output);
        let bytes: Vec<_> =
            status.bytes.iter().map(|(source, bytes)| format!("{source} {}", size(*bytes))).collect();
        if !bytes.is_empty() {
            output.line(format!("  bytes: {}", bytes.join(" · ")));
        }
    }
    match by {
        StatusBy::Client => status_by_devices(body, &status, output),
        StatusBy::Step => status_by_steps(body, &status, output),
        StatusBy::Error => status_by_errors(body, &status, output),
        StatusBy::State => status_by_states(body, &status, output),
    }
    Ok(())
}

fn status_by_devices(body: &Value, status: &Status, output: &Output) {
    let dash = || "-".to_owned();
    let mut rows = Rows::new(&["DEVICE", "STATE", "STEP", "ERROR", "MEANING", "CHANGED"]);
    for line in &status.devices {
        let step = line
            .step
            .map_or_else(dash, |step| format!("{step} {}", line.step_name.as_deref().unwrap_or_default()));
        rows.push([
            safe(&line.device),
            line.state.clone(),
            safe(&step),
            line.error.as_deref().map_or_else(dash, safe),
            line.meaning.as_deref().map_or_else(|| safe(&line.details), safe),
            line.changed.map_or_else(dash, when),
        ]);
    }
    output.list(body, &status.devices, |line| line.device.clone(), rows, "the collection has no devices");
}

fn status_by_steps(body: &Value, status: &Status, output: &Output) {
    let mut rows = Rows::new(&["STEP", "NAME", "STATE", "DEVICES"]);
    for line in &status.steps {
        rows.push([line.step.to_string(), safe(&line.name), line.state.clone(), line.devices.to_string()]);
    }
    output.list(body, &status.steps, |line| line.step.to_string(), rows, "no device has told of a step");
}

fn status_by_errors(body: &Value, status: &Status, output: &Output) {
    let mut rows = Rows::new(&["ERROR", "DEVICES", "MEANING", "FOR EXAMPLE"]);
    for line in &status.errors {
        rows.push([
            safe(&line.error.code),
            line.devices.to_string(),
            safe(&line.error.meaning),
            safe(&line.examples.join(", ")),
        ]);
    }
    output.list(body, &status.errors, |line| line.error.code.clone(), rows, "no device has told of an error");
}

fn status_by_states(body: &Value, status: &Status, output: &Output) {
    let states: Vec<Value> = status
        .states
        .iter()
        .map(|(state, devices)| serde_json::json!({ "state": state, "devices": devices }))
        .collect();
    let mut rows = Rows::new(&["STATE", "DEVICES"]);
    for (state, devices) in &status.states {
        rows.push([state.clone(), devices.to_string()]);
    }
    let name = |line: &Value| line["state"].as_str().unwrap_or_default().to_owned();
    output.list(body, &states, name, rows, "no device has told anything");
}

/// All phased deployments.
///
/// # Errors
/// `INTERNAL` where they cannot be read.
pub fn plans(body: &Value, output: &Output) -> Result<(), Problem> {
    let all: Vec<ShownPlan> = expected(body.clone())?;
    let mut rows = Rows::new(&["NAME", "TASK SEQUENCE", "PURPOSE", "STATE", "PHASES", "BEGUN"]);
    for plan in &all {
        let begun = plan.phases.iter().filter(|one| one.phase.deployment.is_some()).count();
        rows.push([
            safe(&plan.name),
            safe(&plan.sequence_name),
            plan.purpose.to_string(),
            plan.state.clone(),
            plan.phases.len().to_string(),
            begun.to_string(),
        ]);
    }
    let none = "no phased deployments yet: spsync deploy phased create NAME";
    output.list(body, &all, |plan| plan.name.clone(), rows, none);
    Ok(())
}

/// One phased deployment. Answers whether it was one.
pub fn plan(body: &Value, output: &Output) -> bool {
    let Some(plan) = read::<ShownPlan>(body) else { return false };
    output.line(format!(
        "`{}` · {} `{}` · {} · {}",
        safe(&plan.name),
        plan.sequence,
        safe(&plan.sequence_name),
        plan.purpose,
        plan.state
    ));
    let mut rows = Rows::new(&["PHASE", "COLLECTION", "STATE", "SINCE", "DEPLOYMENT", "OK", "DEVICES"]);
    let word = |value: Value| value.as_str().unwrap_or_default().to_owned();
    for (number, one) in plan.phases.iter().enumerate() {
        rows.push([
            (number + 1).to_string(),
            safe(&one.phase.collection),
            word(serde_json::to_value(one.phase.state).unwrap_or_default()),
            one.phase.since.map_or_else(|| "-".to_owned(), when),
            one.phase.deployment.clone().unwrap_or_else(|| "-".to_owned()),
            one.tally.succeeded.to_string(),
            one.tally.devices.to_string(),
        ]);
    }
    output.table(rows);
    for (number, one) in plan.phases.iter().enumerate().filter(|(_, one)| one.tally.nothing_to_do > 0) {
        let (phase, has) = (number + 1, one.tally.nothing_to_do);
        output.line(format!("  phase {phase}: {has} of the devices have it already, and do not count"));
    }
    if let Some(problem) = &plan.problem {
        output.line(format!("  {}", safe(&problem.to_string())));
    }
    plan.notes.iter().for_each(|note| output.line(format!("  note: {}", safe(note))));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_chosen_is_shown() {
        let chosen = json!({ "user_may_run": true, "cloud": true, "show_progress": false, "delivery": "before-start",
            "rerun": "if-failed", "comment": "autumn" });
        assert_eq!(
            options(&chosen),
            [
                "delivery before-start · rerun if-failed · offered to clients",
                "on: cloud, user_may_run",
                "off: show_progress",
                "comment: autumn",
            ]
        );
        assert_eq!(options(&json!({}))[1..], ["on: show_progress"]);
    }
}
