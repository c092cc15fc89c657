//! `spsync content …`.

use std::collections::BTreeSet;
use std::time::Duration;

use catalog::problem::Problem;
use clap::Subcommand;
use jiff::Timestamp;
use serde_json::Value;

use super::output::{Rows, kind_word, safe, size, when};
use super::{Global, Output, connect};
use crate::admin::{PointVerb, Request};
use crate::config::Loaded;
use crate::locations::{Explained, Verdict};
use crate::packages::content::Listed;
use crate::points::Placed;

/// The content library
#[derive(Debug, Subcommand)]
pub enum Content {
    /// Every content that the site holds: its digests, what it is called and which packages have it
    List,
    /// How each package is doing on each distribution point
    Status {
        /// Only this package: id or name
        package: Option<String>,
    },
    /// One content: digests, packages that use it, and who has it
    Show {
        /// Its SHA-256, or the unique beginning of it
        content: String,
    },
    /// Where a client finds a content, in order, and why others are asked later or not at all
    Locate {
        /// Address of the client
        #[arg(long, value_name = "IP", required_unless_present = "client")]
        ip: Option<String>,
        /// The client, where it asked from last
        #[arg(long, value_name = "CLIENT", conflicts_with = "ip")]
        client: Option<String>,
        /// SHA-256 or the unique beginning of it; update; package, or PACKAGE/FILE; image; application; or name of a file
        content: String,
        /// As if the client had asked first so long ago: 30m, 2h
        #[arg(long, value_name = "TIME", default_value = "0s", value_parser = crate::config::parse_duration)]
        elapsed: Duration,
        /// In the order of the task sequence engine, which does not wait
        #[arg(long)]
        engine: bool,
    },
}

impl Content {
    pub(super) async fn run(
        self,
        settings: &Loaded,
        global: &Global,
        output: &Output,
    ) -> Result<u8, Problem> {
        match self {
            Self::List => {
                let all =
                    connect::call::<Vec<Listed>>(settings, global, output, Request::ContentList).await?.body;
                let mut rows = Rows::new(&[
                    "SHA256",
                    "SHA1",
                    "SIZE",
                    "NAME",
                    "PACKAGES",
                    "STORED",
                    "VERIFIED BY",
                    "KEPT",
                ]);
                for Listed { row, file_name, files, pulled } in &all {
                    let dash = || "-".to_owned();
                    let packages: BTreeSet<_> =
                        files.iter().filter_map(|file| file.split('/').next()).collect();
                    let packages = packages.into_iter().collect::<Vec<_>>().join(", ");
                    let by = if row.sha1_only { "sha1-only" } else { "sha256" };
                    let kept = pulled.as_ref().map_or_else(
                        || "-".to_owned(),
                        |kept| format!("on demand, used {}", when(kept.used)),
                    );
                    rows.push([
                        row.sha256.to_string(),
                        row.sha1.to_string(),
                        size(row.size),
                        file_name.as_ref().map_or_else(dash, |name| safe(name.as_str())),
                        if packages.is_empty() { dash() } else { safe(&packages) },
                        when(row.stored_at),
                        by.to_owned(),
                        kept,
                    ]);
                }
                output.list(
                    &all,
                    &all,
                    |listed| listed.row.sha256.to_string(),
                    rows,
                    "the content library is empty",
                );
                Ok(0)
            }
            Self::Status { package } => {
                let request = Request::Points { act: PointVerb::Status { package } };
                let all = connect::call::<Vec<Placed>>(settings, global, output, request).await?.body;
                let rows = super::dp::placements(&all);
                output.list(&all, &all, super::dp::whose, rows, "no package is on any distribution point");
                Ok(0)
            }
            Self::Locate { ip, client, content, elapsed, engine } => {
                let elapsed_seconds = elapsed.as_secs();
                let (client, device) = (ip.unwrap_or_default(), client);
                let request = Request::ContentLocate { client, device, content, elapsed_seconds, engine };
                let explained = connect::call::<Explained>(settings, global, output, request).await?.body;
                show_located(&explained, output);
                Ok(0)
            }
            Self::Show { content } => {
                let shown =
                    connect::call::<Value>(settings, global, output, Request::ContentShow { content })
                        .await?
                        .body;
                output.one(
                    &shown,
                    |s| s["content"]["sha256"].as_str().unwrap_or_default().to_owned(),
                    |output| {
                        for (name, value) in shown["content"].as_object().into_iter().flatten() {
                            let text = value.as_str().map_or_else(|| value.to_string(), safe);
                            output.line(format!("  {name:<12}{text}"));
                        }
                        output.line(format!("  {:<12}{}", "served", shown["served"]));
                        for package in shown["packages"].as_array().into_iter().flatten() {
                            output.line(format!(
                                "  {:<12}{}",
                                "package",
                                safe(package.as_str().unwrap_or_default())
                            ));
                        }
                        for (name, key) in [("point", "holders"), ("cloud", "cloud")] {
                            for place in shown[key].as_array().into_iter().flatten() {
                                let place = safe(place.as_str().unwrap_or_default());
                                output.line(format!("  {name:<12}{place}"));
                            }
                        }
                        output.note(
                            "where a client of some address is sent: spsync content locate --ip IP SHA256",
                        );
                    },
                );
                Ok(0)
            }
        }
    }
}

/// One table, or one for each file of what has several.
fn show_located(explained: &Explained, output: &Output) {
    let nobody = "nobody who could be asked is known to have it";
    if !output.for_people() || explained.others.is_empty() {
        let rows = located(explained);
        output.list(explained, &explained.candidates, |one| one.url.clone(), rows, nobody);
    } else {
        for one in std::iter::once(explained).chain(&explained.others) {
            output.line(format!("{} {}", safe(&one.file_name), one.content));
            match one.candidates.is_empty() {
                true => output.line(nobody),
                false => output.table(located(one)),
            }
        }
    }
    if output.for_people() {
        let by = if explained.by_default { " (no boundary says so)" } else { "" };
        let device = explained.device.as_ref().map_or_else(String::new, |name| safe(name) + ", ");
        let groups = safe(&explained.groups.join(", "));
        output.line(format!("{device}{} is in {groups}{by}", explained.client));
    }
}

/// A number where it is asked now, `-` where later, `x` where not at all.
fn located(explained: &Explained) -> Rows {
    let mut rows = Rows::new(&["", "KIND", "NAME", "REASON", "STATE"]);
    let now = crate::clock::now();
    for one in &explained.candidates {
        let (mark, state) = match one.verdict {
            Verdict::In => {
                let held = one.verified.map(|since| format!("has it, verified {} ago", ago(since, now)));
                (one.position.unwrap_or_default().to_string(), held.unwrap_or_default())
            }
            Verdict::Later => {
                let from = one.from.map_or_else(|| "never".to_owned(), when);
                let minutes = one.after_seconds.unwrap_or_default() / 60;
                ("-".to_owned(), format!("from {from} ({minutes}m after the request)"))
            }
            Verdict::Out => ("x".to_owned(), "skipped".to_owned()),
        };
        rows.push([mark, kind_word(one.kind).to_owned(), safe(&one.name), safe(&one.reason), state]);
    }
    rows
}

fn ago(since: Timestamp, now: Timestamp) -> String {
    match now.duration_since(since).as_secs().max(0) {
        seconds @ ..60 => format!("{seconds}s"),
        seconds @ ..3_600 => format!("{}m", seconds / 60),
        seconds @ ..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}
