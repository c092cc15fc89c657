//! The wizard's questions on a terminal: only for what the options left open.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use catalog::problem::{Code, Problem};

use super::super::output::{safe, size};
use super::super::{Global, Output, connect};
use super::print;
use crate::admin::UpdateFilter;
use crate::authoring::{Choices, Create, TsRequest};
use crate::config::Loaded;

/// Whether somebody is there to answer.
pub fn possible() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks for what is missing.
///
/// # Errors
/// `INTERRUPTED` where the answers end.
pub async fn missing(
    wanted: &mut Create,
    settings: &Loaded,
    global: &Global,
    output: &Output,
) -> Result<(), Problem> {
    if wanted.name.trim().is_empty() {
        wanted.name = ask("Name of the task sequence")?;
    }
    if !wanted.upgrade {
        return Ok(());
    }
    if wanted.feature_updates.is_empty() && wanted.image.is_none() {
        let filter = UpdateFilter::default();
        let body = print::call(TsRequest::Choices { filter }, settings, global, output).await?.body;
        source(wanted, &connect::expected(body)?)?;
    }
    if wanted.apps.len() > 1 && wanted.continue_on_app_error.is_none() {
        wanted.continue_on_app_error = Some(yes("Go on with the next application when one fails")?);
    }
    Ok(())
}

fn source(wanted: &mut Create, choices: &Choices) -> Result<(), Problem> {
    let all: Vec<_> = choices.feature_updates.iter().chain(&choices.images).collect();
    for (number, one) in all.iter().enumerate() {
        let _ = writeln!(std::io::stderr(), "{:>4}  {}  {}", number + 1, safe(&one.title), size(one.bytes));
    }
    for hidden in &choices.hidden {
        let _ = writeln!(std::io::stderr(), "      {}", safe(hidden));
    }
    let answer = ask("Upgrade by number (several feature updates in order, separated by commas)")?;
    for number in answer.split(',').map(str::trim).filter(|number| !number.is_empty()) {
        let chosen = number.parse::<usize>().ok().and_then(|number| all.get(number.checked_sub(1)?));
        let chosen = chosen.ok_or_else(|| {
            Problem::new(Code::InvalidOption, format!("`{number}` is not one of the numbers"))
        })?;
        match choices.images.iter().any(|image| image.id == chosen.id) {
            true => wanted.image = Some(chosen.id.clone()),
            false => wanted.feature_updates.push(chosen.id.clone()),
        }
    }
    if !wanted.ignore_dismissable {
        wanted.ignore_dismissable =
            yes("Ignore dismissable compatibility messages (needed for Windows Server 2016 and later)")?;
    }
    Ok(())
}

fn ask(question: &str) -> Result<String, Problem> {
    let _ = write!(std::io::stderr(), "{question}: ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    match std::io::stdin().lock().read_line(&mut answer) {
        Ok(1..) => Ok(answer.trim().to_owned()),
        _ => Err(Problem::new(Code::Interrupted, "the answers ended")),
    }
}

fn yes(question: &str) -> Result<bool, Problem> {
    let answer = ask(&format!("{question}? [y/N]"))?;
    Ok(matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes"))
}
