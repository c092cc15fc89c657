//! `spsync config …`.

use catalog::problem::{Code, Problem};
use clap::Subcommand;

use super::output::{Rows, safe};
use super::{Global, Output};
use crate::config::{self, Level};
use crate::words::counted;

/// The configuration
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Check for mistakes; changes nothing
    Check,
    /// Show every setting in force
    Show {
        /// Also where each value comes from
        #[arg(long)]
        origin: bool,
    },
    /// Print a commented example with all keys and defaults
    Example,
    /// Show what differs from the built-in defaults, and whether a reload applies it
    Diff,
}

impl Config {
    pub(super) async fn run(self, global: &Global, output: &Output) -> Result<u8, Problem> {
        if let Self::Example = self {
            output.line(config::example().trim_end());
            return Ok(0);
        }
        let loaded = config::load(global.config.as_deref())?;
        match self {
            Self::Check => {
                let findings = loaded.check();
                output.one(
                    &findings,
                    |_| String::new(),
                    |output| {
                        findings.iter().for_each(|finding| {
                            output.line(format!("{}: {}", finding.level, safe(&finding.text)))
                        });
                        if findings.is_empty() {
                            output.line("no mistake found");
                        }
                    },
                );
                match findings.iter().filter(|finding| finding.level == Level::Error).count() {
                    0 => Ok(0),
                    n => Err(Problem::new(
                        Code::ConfigInvalid,
                        format!("the configuration has {}", counted(n, "error")),
                    )),
                }
            }
            Self::Show { origin } => {
                let shown = loaded.shown();
                let mut rows = if origin {
                    Rows::new(&["KEY", "VALUE", "ORIGIN"])
                } else {
                    Rows::new(&["KEY", "VALUE"])
                };
                for key in &shown {
                    let mut row = vec![key.key.clone(), safe(&key.value)];
                    if origin {
                        row.push(key.origin.clone());
                    }
                    rows.push_row(row);
                }
                output.list(&shown, &shown, |key| key.key.clone(), rows, "there are no settings");
                Ok(0)
            }
            Self::Diff | Self::Example => {
                let changes = config::diff(&config::Settings::default(), &loaded.settings);
                let mut rows = Rows::new(&["KEY", "DEFAULT", "NOW", "APPLIED BY"]);
                for change in &changes {
                    let by = if change.reload { "reload" } else { "restart" };
                    rows.push([change.key.clone(), safe(&change.old), safe(&change.new), by.to_owned()]);
                }
                let none = "every setting has its default";
                output.list(&changes, &changes, |change| change.key.clone(), rows, none);
                Ok(0)
            }
        }
    }
}
