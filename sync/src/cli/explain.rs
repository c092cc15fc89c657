//! `spsync explain CODE`.

use catalog::problem::{Code, Problem};
use clap::Args;
use serde::Serialize;

use super::Output;
use super::output::Rows;
use crate::select::nearest;

/// What a code means, what usually causes it, what to look at and what to do
#[derive(Debug, Args)]
pub struct Explain {
    /// The code, as printed in `error[CODE]`; without one, all codes are listed
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
            output.list(&all, &all, |e| e.code.to_string(), rows);
            return Ok(0);
        };
        let Ok(code) = name.parse::<Code>() else {
            let near = nearest(&name, Code::ALL.iter().map(|code| code.name()));
            return Err(Problem::new(Code::NotFound, format!("`{name}` is no code of spsync"))
                .help(format!("did you mean {}? `spsync explain` lists all", near.join(", "))));
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
