//! `spsync license …`.

use std::path::PathBuf;

use base64::Engine as _;
use catalog::problem::{Code, Problem};
use clap::Subcommand;

use super::output::{Rows, safe, when};
use super::{Global, Output, connect};
use crate::admin::Request;
use crate::config::Loaded;
use crate::licensing::{Decided, LARGEST_TEXT, Licensed, Reviewed};
use crate::words::counted;

/// Licence terms
#[derive(Debug, Subcommand)]
pub enum License {
    /// List updates with licence terms, and where the decisions stand
    List {
        /// Only those that need a decision
        #[arg(long)]
        pending: bool,
    },
    /// Show the terms of an update; they are fetched from the catalog's link
    Review {
        /// Id or title of the update
        update: String,
        /// Language of the text; the update's own if not given
        #[arg(long, value_name = "LANGUAGE")]
        lang: Option<String>,
        /// Take the text from this file (RTF or plain text), where the link cannot be reached
        #[arg(long, value_name = "FILE")]
        text: Option<PathBuf>,
    },
    /// Accept the terms that were reviewed; who, when and which text are recorded
    Accept {
        /// Ids or titles
        #[arg(required = true)]
        updates: Vec<String>,
        /// SHA-256 of the text that was read, instead of a review here
        #[arg(long, value_name = "SHA256")]
        text_digest: Option<String>,
    },
    /// Decline the terms: the update cannot be deployed
    Decline {
        /// Ids or titles
        #[arg(required = true)]
        updates: Vec<String>,
    },
}

impl License {
    pub(super) async fn run(
        self,
        settings: &Loaded,
        global: &Global,
        output: &Output,
    ) -> Result<u8, Problem> {
        match self {
            Self::List { pending } => {
                let rows = connect::call::<Vec<Licensed>>(
                    settings,
                    global,
                    output,
                    Request::LicenseList { pending },
                )
                .await?
                .body;
                let none = if pending {
                    "no licence waits for a decision"
                } else {
                    "no listed update has licence terms"
                };
                show(&rows, none, output);
                Ok(0)
            }
            Self::Review { update, lang, text } => {
                let text = text.map(read_text).transpose()?;
                let request = Request::LicenseReview { update, language: lang, text };
                let reviewed = connect::call::<Reviewed>(settings, global, output, request).await?.body;
                output.one(
                    &reviewed,
                    |r| r.sha256.to_string(),
                    |output| {
                        for line in reviewed.text.lines() {
                            output.line(safe(line));
                        }
                        output.note(format!(
                            "terms of {} in {}, from {}",
                            safe(&reviewed.title),
                            reviewed.language,
                            safe(&reviewed.origin)
                        ));
                        output.note(format!(
                            "sha256 {}; {}. Accept: spsync license accept {}",
                            reviewed.sha256,
                            reviewed.state,
                            reviewed.update.short()
                        ));
                    },
                );
                Ok(0)
            }
            Self::Accept { updates, text_digest } => {
                decide(updates, true, text_digest, settings, global, output).await
            }
            Self::Decline { updates } => {
                super::confirm(
                    global,
                    &format!("decline the licence terms of {}", counted(updates.len(), "update")),
                )?;
                decide(updates, false, None, settings, global, output).await
            }
        }
    }
}

async fn decide(
    updates: Vec<String>,
    accept: bool,
    text: Option<String>,
    settings: &Loaded,
    global: &Global,
    output: &Output,
) -> Result<u8, Problem> {
    let request = Request::LicenseDecide { updates, accept, text };
    let decided = connect::call::<Decided>(settings, global, output, request).await?.body;
    output.one(
        &decided,
        |_| String::new(),
        |output| {
            show(&decided.updates, "nothing was decided", output);
            if !decided.also.is_empty() {
                let verb = if decided.accepted { "accepted" } else { "declined" };
                output.line(format!("{} more have the same terms, and are {verb} too:", decided.also.len()));
                show(&decided.also, "", output);
            }
        },
    );
    if decided.dry_run {
        output.note("nothing is recorded (--dry-run)");
    }
    Ok(0)
}

fn show(rows: &[Licensed], none: &str, output: &Output) {
    let mut table = Rows::new(&["ID", "TITLE", "LANGUAGE", "LICENCE", "BY", "WHEN", "TEXT"]);
    for row in rows {
        let by = row.decision.as_ref();
        table.push([
            row.update.short(),
            safe(&row.title),
            row.language.clone(),
            row.state.to_string(),
            by.map_or_else(|| "-".to_owned(), |d| format!("{} ({})", safe(&d.who), d.how)),
            by.map_or_else(|| "-".to_owned(), |d| when(d.at)),
            row.text.map_or_else(|| "-".to_owned(), |text| text.to_string()[..12].to_owned()),
        ]);
    }
    output.list(&rows, rows, |row| row.update.to_string(), table, none);
}

fn read_text(path: PathBuf) -> Result<String, Problem> {
    let failed = |error: std::io::Error| {
        Problem::new(Code::LicenseTextInvalid, format!("`{}` cannot be read", path.display()))
            .because_of(Some(&error))
    };
    let size = std::fs::metadata(&path).map_err(failed)?.len();
    if size > LARGEST_TEXT {
        return Err(Problem::new(
            Code::LicenseTextInvalid,
            format!("`{}` has {size} bytes, at most {LARGEST_TEXT} are read", path.display()),
        ));
    }
    Ok(base64::engine::general_purpose::STANDARD.encode(std::fs::read(&path).map_err(failed)?))
}
