//! What the site's side of `spsync client` prints.

use catalog::problem::Problem;
use serde_json::{Value, json};

use super::super::Output;
use super::super::connect::expected;
use super::super::output::{Rows, safe, size, when};
use crate::device_plane::clients::{History, Removed, ShownClient};

/// All devices.
///
/// # Errors
/// `INTERNAL` where they cannot be read.
pub fn clients(body: &Value, output: &Output) -> Result<(), Problem> {
    listed(body, output, "no device has enrolled or asked for anything: spsync key enrol NAME")
}

/// Those that are silent for as long as was asked for.
///
/// # Errors
/// `INTERNAL` where they cannot be read.
pub fn silent_clients(body: &Value, output: &Output) -> Result<(), Problem> {
    listed(body, output, "no device is silent for so long")
}

fn listed(body: &Value, output: &Output, none: &str) -> Result<(), Problem> {
    let all: Vec<ShownClient> = expected(body.clone())?;
    let mut rows = Rows::new(&[
        "DEVICE",
        "ENROLLED",
        "WINDOWS",
        "EDITION",
        "ARCH",
        "LANGUAGE",
        "FREE DISK",
        "ADDRESS",
        "HEARD",
        "SILENT",
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
            one.heard.map_or_else(dash, when),
            silent(one.silent_days).unwrap_or_else(dash),
            safe(&one.collections.join(", ")),
        ]);
    }
    output.list(body, &all, |one| one.device.clone(), rows, none);
    Ok(())
}

/// For how long a device is silent, if it is.
fn silent(days: u32) -> Option<String> {
    match days {
        0 => None,
        1 => Some("1 day".to_owned()),
        days => Some(format!("{days} days")),
    }
}

/// One device.
///
/// # Errors
/// `INTERNAL` where it cannot be read.
pub fn client(body: &Value, output: &Output) -> Result<(), Problem> {
    let shown: ShownClient = expected(body.clone())?;
    output.one(body, |_| shown.device.clone(), |output| show_client(&shown, output));
    Ok(())
}

fn show_client(shown: &ShownClient, output: &Output) {
    let time = |time: Option<jiff::Timestamp>| time.map_or_else(|| "never".to_owned(), when);
    let enrolled = if shown.enrolled { "enrolled" } else { "not enrolled: spsync key enrol NAME" };
    output.line(format!("{}, {enrolled}", safe(&shown.device)));
    let address =
        shown.address.as_deref().map_or_else(String::new, |address| format!(" from {}", safe(address)));
    output.line(format!("  asked for its policy {}{address}", time(shown.policy_at)));
    if let Some(days) = silent(shown.silent_days) {
        output.line(format!("  silent for {days} on which the site listened"));
    }
    match &shown.facts {
        Some(facts) => {
            output.line(format!(
                "  Windows {} {} {} {}, {} MiB of memory, {} free on the disk (said {})",
                safe(&facts.version),
                safe(&facts.edition),
                safe(&facts.architecture),
                safe(&facts.language),
                facts.memory_mb,
                size(facts.free_disk_mb << 20),
                time(shown.facts_at)
            ));
            let word = |value: Value| value.as_str().unwrap_or_default().to_owned();
            let tpm = match facts.tpm {
                Some(true) => "TPM 2.0",
                Some(false) => "no TPM 2.0",
                None => "TPM unknown",
            };
            let internet = if facts.internet { " · on the internet" } else { "" };
            output.line(format!(
                "  firmware {} · power {} · network {} · {tpm}{internet}",
                word(json!(facts.firmware)),
                word(json!(facts.power)),
                word(json!(facts.network))
            ));
        }
        None => output.line("  it has not said what it is"),
    }
    let collections =
        if shown.collections.is_empty() { "none".to_owned() } else { shown.collections.join(", ") };
    output.line(format!("  in collections: {}", safe(&collections)));
    let mut rows = Rows::new(&["SETTING", "VALUE", "FROM"]);
    shown.settings.iter().for_each(|one| rows.push([one.setting.clone(), safe(&one.value), safe(&one.from)]));
    output.table(rows);
    let mut rows = Rows::new(&["DEPLOYMENT", "RUN", "STATE", "STEP", "ERROR", "CHANGED"]);
    let dash = || "-".to_owned();
    for run in &shown.runs {
        let step = run.step.map_or_else(dash, |step| {
            format!("{step} {}", safe(run.step_name.as_deref().unwrap_or_default()))
        });
        rows.push([
            run.deployment.to_string(),
            run.run.to_string(),
            run.state.clone(),
            step,
            run.code.as_deref().map_or_else(dash, safe),
            when(run.changed),
        ]);
    }
    output.table(rows);
    if shown.runs.is_empty() {
        output.line("  nothing was run or told yet");
    }
    if shown.refused > 0 {
        output.line(format!("  {} messages of it were refused", shown.refused));
    }
}

/// What became of a device that is removed.
///
/// # Errors
/// `INTERNAL` where it cannot be read.
pub fn removed(body: &Value, output: &Output) -> Result<(), Problem> {
    let removed: Removed = expected(body.clone())?;
    output.one(
        body,
        |_| removed.device.clone(),
        |output| {
            let done = if removed.dry_run { "would be removed" } else { "is removed" };
            output.line(format!("{} {done}", safe(&removed.device)));
            if removed.had_key {
                output.line("  its key or token is good no more: what it asks is refused with KEY_REVOKED");
            }
            if !removed.collections.is_empty() {
                output.line(format!("  it leaves {}", safe(&removed.collections.join(", "))));
            }
            for deployment in &removed.under_way {
                output.line(format!("  {deployment} was under way there: nothing more is heard of it"));
            }
            output.line(format!("  what was done stays: spsync client history {}", safe(&removed.device)));
        },
    );
    Ok(())
}

/// What happened on a device.
///
/// # Errors
/// `INTERNAL` where it cannot be read.
pub fn history(body: &Value, output: &Output) -> Result<(), Problem> {
    let history: History = expected(body.clone())?;
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
    if history.removed {
        output.note(format!("`{}` was removed; this is what it did before", safe(&history.device)));
    }
    let none = format!("`{}` has told nothing yet", safe(&history.device));
    output.list(body, &history.happened, |one| one.at.to_string(), rows, none);
    output.older(usize::try_from(history.hidden).unwrap_or_default(), "--limit");
    Ok(())
}
