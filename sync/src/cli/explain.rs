//! `spsync explain CODE`.

use catalog::problem::{Code, Problem};
use clap::Args;
use serde::Serialize;

use super::Output;
use super::output::Rows;
use crate::deploying::codes::{Reported, reported};
use crate::find::{is_near, nearest};

/// Explain a code: what it means, what usually causes it, what to look at and what to do
#[derive(Debug, Args)]
pub struct Explain {
    /// The code, as printed in `error[CODE]`, or one that devices report (0xC1900208, 4316); without one, all are listed
    #[arg(allow_hyphen_values = true)]
    code: Option<String>,
}

#[derive(Serialize)]
struct Explained {
    code: Code,
    meaning: &'static str,
    causes: &'static str,
    checks: &'static str,
    help: &'static str,
    windows: Option<&'static str>,
    http_status: u16,
    exit_status: u8,
}

fn explained(code: Code) -> Explained {
    let page = code.page();
    Explained {
        code,
        meaning: page.meaning,
        causes: page.causes,
        checks: page.checks,
        help: page.help,
        windows: page.windows,
        http_status: page.http,
        exit_status: page.exit.status(),
    }
}

impl Explain {
    pub(super) fn run(self, output: &Output) -> Result<u8, Problem> {
        let Some(name) = self.code else {
            let all: Vec<_> = Code::ALL.iter().copied().map(explained).collect();
            let mut rows = Rows::new(&["CODE", "EXIT", "MEANING"]);
            all.iter().for_each(|e| {
                rows.push([e.code.to_string(), e.exit_status.to_string(), e.meaning.to_owned()])
            });
            output.list(&all, &all, |e| e.code.to_string(), rows, "there are no codes");
            return Ok(0);
        };
        let Ok(code) = name.parse::<Code>() else {
            if let Some(found) = reported(&name) {
                output.one(&found, |found| found.code.clone(), |output| show_reported(&found, output));
                return Ok(0);
            }
            return Err(Problem::new(
                Code::NotFound,
                format!("`{name}` is no code of spsync, and none that it knows of Windows"),
            )
            .help(near_codes(&name)));
        };
        let page = explained(code);
        output.one(
            &page,
            |e| e.code.to_string(),
            |output| {
                output.line(format!("{}: {}", page.code, page.meaning));
                for (label, text) in [("causes", page.causes), ("checks", page.checks), ("help", page.help)] {
                    if text != "-" {
                        output.line(format!("  {label:<8}{text}"));
                    }
                }
                if let Some(windows) = page.windows {
                    output.line(format!("  windows {windows}"));
                }
                output.line(format!("  exit    {} (HTTP {})", page.exit_status, page.http_status));
            },
        );
        Ok(0)
    }
}

/// A code of Windows, with ours.
fn show_reported(found: &Reported, output: &Output) {
    let ours = found.codes.first().map(|code| code.page().meaning);
    let meaning = if found.meaning.is_empty() { ours.unwrap_or_default() } else { found.meaning };
    output.line(format!("{}: {meaning}", found.code));
    for code in &found.codes {
        output.line(format!("  {code}: {}. More: spsync explain {code}", code.page().help));
    }
}

/// Names that look like this one; a wrong guess only distracts.
fn near_codes(name: &str) -> String {
    let near = nearest(name, Code::ALL.iter().map(|code| code.name()));
    let near: Vec<_> = near.into_iter().filter(|candidate| is_near(name, candidate)).collect();
    match near.as_slice() {
        [] => "`spsync explain` lists all".to_owned(),
        near => format!("did you mean {}? `spsync explain` lists all", near.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_near_names_are_suggested() {
        assert!(near_codes("HASH_MISMACH").contains("HASH_MISMATCH"));
        assert!(near_codes("hash").contains("HASH_MISMATCH"));
        for far in ["1603", "0xDEADBEEF", "zzzz", ""] {
            assert_eq!(near_codes(far), "`spsync explain` lists all", "{far}");
        }
    }
}
