//! `spsync client explain`: where this device would get a content, who is not asked, and why.

use std::path::PathBuf;

use catalog::digest::Sha256Digest;
use catalog::problem::{Coded as _, Problem};

use super::super::Output;
use super::super::output::{safe, when};
use super::run::state_dir;
use super::settings_of;
use crate::clock;
use crate::config::Settings;
use crate::device::explain::{self, Explained, word};
use crate::device::journal::{read_memory, read_policy};

/// Asks the site where a content is, and says what that means for each deployment of the policy that this device keeps.
pub(super) async fn explain(
    settings: &Settings,
    content: Sha256Digest,
    given: Option<PathBuf>,
    output: &Output,
) -> Result<u8, Problem> {
    let client = settings_of(settings, false)?;
    let folder = state_dir(given, settings)?;
    let now = clock::now();
    let (policy, memory) = (read_policy(&folder)?, read_memory(&folder)?);
    let first = memory.and_then(|memory| memory.asked.get(&content).copied());
    let asked = first.map(|first| now.duration_since(first)).filter(|asked| asked.is_positive());
    let kept = dp::client::kept(&client, content).await.map_err(|error| error.problem())?;
    let answer = dp::client::locate(&client, content).await.map_err(|error| error.problem())?;
    let asked = asked.map(|asked| asked.unsigned_abs()).unwrap_or_default();
    let told = explain::explain(policy.as_ref(), answer, kept.map(|kept| kept.path), asked, now);
    output.one(&told, |told| told.answer.content.to_string(), |output| print(&told, output));
    Ok(0)
}

fn print(told: &Explained, output: &Output) {
    let answer = &told.answer;
    output.line(format!("{} {}", safe(answer.file_name.as_str()), answer.content));
    if !answer.groups.is_empty() {
        output.line(format!("  this device is in {}", safe(&answer.groups.join(", "))));
    }
    if let Some(path) = &told.kept {
        output.line(format!("  it is here already: {}", path.display()));
    }
    for (number, one) in answer.locations.iter().enumerate() {
        output.line(format!(
            "{:>3}. {} {}: {}",
            number + 1,
            word(one.kind),
            safe(&one.name),
            safe(&one.reason)
        ));
    }
    for one in &answer.later {
        let (from, kind) = (when(one.from), word(one.kind));
        output.line(format!(
            "  after {} s, from {from}: {kind} {} ({})",
            one.after_seconds,
            safe(&one.name),
            safe(&one.reason)
        ));
    }
    for one in &answer.out {
        output.line(format!("  not: {} {} ({})", word(one.kind), safe(&one.name), safe(&one.reason)));
    }
    if answer.not_told > 0 {
        output.line(format!("  {} places more are out of reach", answer.not_told));
    }
    for one in &told.deployments {
        let asks = if one.asks.is_empty() { "nobody".to_owned() } else { one.asks.join(", then ") };
        output.line(format!("{} {}: asks {}", one.deployment, safe(&one.name), safe(&asks)));
        for later in &one.later {
            output.line(format!("  from {}: {}", when(later.from), safe(&later.who)));
        }
        for not in &one.not {
            output.line(format!("  not {}", safe(not)));
        }
    }
}
