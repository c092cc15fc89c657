//! What `spsync deploy` and the site's side of `spsync client` print.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::Output;
use super::super::output::{Rows, safe, size, when};
use super::By;
use crate::deploying::check::Checked;
use crate::deploying::phases::ShownPlan;
use crate::deploying::status::{Buckets, Status};
use crate::deploying::updates::ShownUpdates;
use crate::deploying::{Created, History, Shown, ShownClient};

fn read<T: DeserializeOwned>(body: &Value) -> Option<T> {
    serde_json::from_value(body.clone()).ok()
}

/// The name in an answer.
pub fn name_of(body: &Value) -> String {
    body["name"].as_str().unwrap_or_default().to_owned()
}

fn counts(buckets: &Buckets) -> String {
    let Buckets { success, in_progress, error, requirements_not_met, unknown } = buckets;
    format!(
        "{success} ok · {in_progress} in progress · {error} failed · {requirements_not_met} requirements not met · {unknown} unknown"
    )
}

/// All deployments.
pub fn list(body: &Value, output: &Output) {
    let all: Vec<Shown> = read(body).unwrap_or_default();
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
            one.state.clone(),
            one.row.deadline.map_or_else(|| "-".to_owned(), when),
            one.row.content.to_string(),
            one.buckets.success.to_string(),
            one.buckets.error.to_string(),
            one.devices.to_string(),
        ]);
    }
    output.list(body, &all, |one| one.row.id.to_string(), rows);
}

/// All deployments of updates.
pub fn updates(body: &Value, output: &Output) {
    let all: Vec<ShownUpdates> = read(body).unwrap_or_default();
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
    output.list(body, &all, |one| one.row.id.to_string(), rows);
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
        "would deploy `{}` to `{}` ({} devices), {}",
        safe(&created.name),
        safe(&created.collection),
        created.devices,
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
    created.risk.reasons.iter().for_each(|reason| output.line(format!("  high risk: {}", safe(reason))));
    created.notes.iter().for_each(|note| output.line(format!("  note: {}", safe(note))));
    true
}

fn shown_lines(shown: &Shown, output: &Output) {
    let row = &shown.row;
    output.line(format!(
        "{} `{}` to `{}` · {} · {} · {} devices",
        row.id,
        safe(&shown.name),
        safe(&row.collection),
        row.purpose,
        shown.state,
        shown.devices
    ));
    let deadline = row.deadline.map_or_else(String::new, |deadline| format!(" · due {}", when(deadline)));
    let expires = row.expires.map_or_else(String::new, |expires| format!(" · until {}", when(expires)));
    output.line(format!("  from {}{deadline}{expires}", when(row.available)));
    output.line(format!("  {}", counts(&shown.buckets)));
    output.line(format!("  content {}", row.content));
    if let Some(progress) = &shown.progress {
        output.line(format!(
            "  package {} `{}`: {} of {} files, on {} points",
            progress.package,
            safe(&progress.name),
            progress.stored,
            progress.files,
            progress.points.len()
        ));
        progress.pending.iter().for_each(|pending| output.line(format!("  pending: {}", safe(pending))));
    }
    if let Some(problem) = &row.problem {
        output.line(format!("  {}", safe(&problem.to_string())));
    }
    shown.notes.iter().for_each(|note| output.line(format!("  note: {}", safe(note))));
}

/// What a check found.
pub fn checked(body: &Value, by: By, output: &Output) {
    let Some(checked) = read::<Checked>(body) else { return };
    if output.for_people() {
        let reasons: Vec<_> =
            checked.reasons.iter().map(|line| format!(" · {} {}", line.devices, line.words)).collect();
        output.line(format!(
            "{} devices: {} eligible{}",
            checked.devices,
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
        By::Client => {
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
            output.list(body, &checked.clients, |line| line.device.clone(), rows);
        }
        By::Reason | By::Error | By::State | By::Step => {
            let mut rows = Rows::new(&["WHY NOT", "DEVICES"]);
            for line in &checked.reasons {
                rows.push([line.words.clone(), line.devices.to_string()]);
            }
            output.list(body, &checked.reasons, |line| line.words.clone(), rows);
        }
        By::Group => {
            let mut rows = Rows::new(&["GROUP", "DEVICES", "CONTENT", "PEERS", "LINK", "DOWNLOADED"]);
            for line in &checked.groups {
                let after =
                    line.after_seconds.map_or_else(String::new, |after| format!(" ({}m)", after / 60));
                rows.push([
                    if line.groups.is_empty() { "-".to_owned() } else { safe(&line.groups.join(", ")) },
                    line.devices.to_string(),
                    format!("{}{after}", line.means.words()),
                    if line.peers { "on" } else { "off" }.to_owned(),
                    size(line.link_bytes),
                    size(line.bytes),
                ]);
            }
            output.list(body, &checked.groups, |line| line.groups.join(","), rows);
        }
    }
}

/// How far devices are.
pub fn status(body: &Value, by: By, output: &Output) {
    let Some(status) = read::<Status>(body) else { return };
    if output.for_people() {
        shown_lines(&status.deployment, output);
        let bytes: Vec<_> =
            status.bytes.iter().map(|(source, bytes)| format!("{source} {}", size(*bytes))).collect();
        if !bytes.is_empty() {
            output.line(format!("  bytes: {}", bytes.join(" · ")));
        }
    }
    let dash = || "-".to_owned();
    match by {
        By::Client => {
            let mut rows = Rows::new(&["DEVICE", "STATE", "STEP", "ERROR", "MEANING", "CHANGED"]);
            for line in &status.devices {
                let step = line.step.map_or_else(dash, |step| {
                    format!("{step} {}", line.step_name.as_deref().unwrap_or_default())
                });
                rows.push([
                    safe(&line.device),
                    line.state.clone(),
                    safe(&step),
                    line.error.as_deref().map_or_else(dash, safe),
                    line.meaning.as_deref().map_or_else(|| safe(&line.details), safe),
                    line.changed.map_or_else(dash, when),
                ]);
            }
            output.list(body, &status.devices, |line| line.device.clone(), rows);
        }
        By::Step => {
            let mut rows = Rows::new(&["STEP", "NAME", "STATE", "DEVICES"]);
            for line in &status.steps {
                rows.push([
                    line.step.to_string(),
                    safe(&line.name),
                    line.state.clone(),
                    line.devices.to_string(),
                ]);
            }
            output.list(body, &status.steps, |line| line.step.to_string(), rows);
        }
        By::Error | By::Reason | By::Group => {
            let mut rows = Rows::new(&["ERROR", "DEVICES", "MEANING", "FOR EXAMPLE"]);
            for line in &status.errors {
                rows.push([
                    safe(&line.error.code),
                    line.devices.to_string(),
                    safe(&line.error.meaning),
                    safe(&line.examples.join(", ")),
                ]);
            }
            output.list(body, &status.errors, |line| line.error.code.clone(), rows);
        }
        By::State => {
            let states: Vec<Value> = status
                .states
                .iter()
                .map(|(state, devices)| serde_json::json!({ "state": state, "devices": devices }))
                .collect();
            let mut rows = Rows::new(&["STATE", "DEVICES"]);
            for (state, devices) in &status.states {
                rows.push([state.clone(), devices.to_string()]);
            }
            output.list(body, &states, |line| line["state"].as_str().unwrap_or_default().to_owned(), rows);
        }
    }
}

/// All phased deployments.
pub fn plans(body: &Value, output: &Output) {
    let all: Vec<ShownPlan> = read(body).unwrap_or_default();
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
    output.list(body, &all, |plan| plan.name.clone(), rows);
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
    if let Some(problem) = &plan.problem {
        output.line(format!("  {}", safe(&problem.to_string())));
    }
    plan.notes.iter().for_each(|note| output.line(format!("  note: {}", safe(note))));
    true
}

/// All devices.
pub fn clients(body: &Value, output: &Output) {
    let all: Vec<ShownClient> = read(body).unwrap_or_default();
    let mut rows = Rows::new(&[
        "DEVICE",
        "ENROLLED",
        "WINDOWS",
        "EDITION",
        "ARCH",
        "LANGUAGE",
        "FREE DISK",
        "ADDRESS",
        "ASKED",
        "COLLECTIONS",
    ]);
    let dash = || "-".to_owned();
    for one in &all {
        let facts = one.facts.as_ref();
        rows.push([
            safe(&one.device),
            if one.enrolled { "yes" } else { "no" }.to_owned(),
            facts.map_or_else(dash, |facts| safe(&facts.version)),
            facts.map_or_else(dash, |facts| safe(&facts.edition)),
            facts.map_or_else(dash, |facts| safe(&facts.architecture)),
            facts.map_or_else(dash, |facts| safe(&facts.language)),
            facts.map_or_else(dash, |facts| size(facts.free_disk_mb << 20)),
            one.address.as_deref().map_or_else(dash, safe),
            one.policy_at.map_or_else(dash, when),
            safe(&one.collections.join(", ")),
        ]);
    }
    output.list(body, &all, |one| one.device.clone(), rows);
}

/// One device.
pub fn client(body: &Value, output: &Output) {
    output.one(
        body,
        |body| body["device"].as_str().unwrap_or_default().to_owned(),
        |output| {
            super::say(body, output);
        },
    );
}

/// What happened on a device.
pub fn history(body: &Value, output: &Output) {
    let Some(history) = read::<History>(body) else { return };
    let mut rows =
        Rows::new(&["AT", "DEPLOYMENT", "RUN", "STATE", "STEP", "NAME", "STEP STATE", "ERROR", "DETAILS"]);
    let dash = || "-".to_owned();
    for one in &history.happened {
        rows.push([
            when(one.at),
            one.deployment.clone(),
            one.run.to_string(),
            one.state.clone(),
            one.step.map_or_else(dash, |step| step.to_string()),
            one.step_name.as_deref().map_or_else(dash, safe),
            one.step_state.clone().unwrap_or_else(dash),
            one.error.as_deref().map_or_else(dash, safe),
            safe(
                &[one.details.clone(), one.bytes.join(", ")]
                    .into_iter()
                    .filter(|t| !t.is_empty())
                    .collect::<Vec<_>>()
                    .join("; "),
            ),
        ]);
    }
    output.list(body, &history.happened, |one| one.at.to_string(), rows);
}
