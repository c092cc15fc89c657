//! What users see: results on standard output, everything else on standard error.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Arc, OnceLock};

use catalog::problem::{Code, Problem};
use comfy_table::{ContentArrangement, Table, presets};
use dp::server::LocationKind;
use dp::transfer::Served;
use serde::Serialize;
use serde_json::Value;

use super::Global;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Columns for people.
    Table,
    /// More columns for people.
    Wide,
    /// One JSON document: the API's own body.
    Json,
    /// One JSON value a line.
    Jsonl,
    /// Comma-separated values with a header.
    Csv,
    /// Only ids, one a line.
    Name,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Where results, progress and errors go, and how they look.
#[derive(Debug, Clone)]
pub struct Output {
    /// Format of results.
    pub format: Format,
    /// Results and errors only: no notes, no progress, no remark that there is nothing.
    pub quiet: bool,
    /// Bars are allowed and standard error is a terminal.
    pub bars: bool,
    colored: bool,
    /// Why results cannot be written any more, once they cannot.
    failed: Arc<OnceLock<io::Error>>,
}

/// Rows for people, with the header.
pub struct Rows {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Rows {
    /// An empty table.
    pub fn new(header: &[&'static str]) -> Self {
        Self::under(header.iter().map(|&name| name.to_owned()).collect())
    }

    /// An empty table whose columns are named by what is in it.
    pub fn under(header: Vec<String>) -> Self {
        Self { header, rows: Vec::new() }
    }

    /// Adds a row.
    pub fn push<const N: usize>(&mut self, row: [String; N]) {
        self.rows.push(row.into());
    }

    /// Adds a row of as many cells as the header has.
    pub fn push_row(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }
}

impl Output {
    /// As the flags and the terminal want it.
    pub fn new(global: &Global) -> Self {
        let terminal = io::stderr().is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || std::env::var("TERM").is_ok_and(|term| term == "dumb");
        Self {
            format: if global.json { Format::Json } else { global.output },
            quiet: global.quiet,
            bars: terminal && !global.no_progress && !global.quiet,
            colored: match global.color {
                Color::Always => true,
                Color::Never => false,
                Color::Auto => terminal && !plain,
            },
            failed: Arc::default(),
        }
    }

    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self { format: Format::Name, quiet: true, bars: false, colored: false, failed: Arc::default() }
    }

    /// One line of a result.
    pub fn line(&self, text: impl AsRef<str>) {
        self.bytes(format!("{}\n", text.as_ref()).as_bytes());
    }

    /// A result in its own form. What could not be written is remembered; what works for days goes on, and is read again when there is
    /// room.
    pub fn bytes(&self, bytes: &[u8]) {
        let mut out = io::stdout().lock();
        if let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) {
            let _ = self.failed.set(error);
        }
    }

    /// Whether something of the result did not arrive: what only goes on to be looked at ends.
    pub fn is_over(&self) -> bool {
        self.failed.get().is_some()
    }

    /// Why a result was not written. A closed pipe (`| head`) is the reader's choice, not an error of ours.
    pub fn failure(&self) -> Option<Problem> {
        let error = self.failed.get().filter(|error| error.kind() != io::ErrorKind::BrokenPipe)?;
        let message = "the result could not be written to standard output";
        Some(Problem::new(Code::OutputFailed, message).because_of(Some(error)).keeping(
            "the command was carried out; what it shows only once, such as a token, is lost and must be made anew",
        ))
    }

    /// Below a file that was fetched: what of it was there already, and who gave which bytes.
    pub fn served(&self, resumed_from: u64, by: &[Served]) {
        if resumed_from > 0 {
            self.line(format!("     resumed from {}", size(resumed_from)));
        }
        for served in by {
            self.line(format!(
                "     {} from {} {}: {}",
                size(served.bytes),
                served.kind,
                safe(&served.name),
                safe(&served.outcome)
            ));
        }
    }

    /// A remark beside the result: on standard error, never with `-q`.
    pub fn note(&self, text: impl AsRef<str>) {
        if !self.quiet {
            let _ = writeln!(io::stderr(), "{}", text.as_ref());
        }
    }

    /// Whether people read it, rather than programs.
    pub fn for_people(&self) -> bool {
        matches!(self.format, Format::Table | Format::Wide)
    }

    /// A list: `rows` for people, `items` for programs, `name` picks the id. Where there is nothing, `empty` says so to people, unless
    /// they want no remarks.
    pub fn list<T: Serialize>(
        &self,
        whole: &impl Serialize,
        items: &[T],
        name: impl Fn(&T) -> String,
        rows: Rows,
        empty: impl AsRef<str>,
    ) {
        match self.format {
            Format::Table | Format::Wide if items.is_empty() && self.quiet => {}
            Format::Table | Format::Wide if items.is_empty() => self.line(empty),
            Format::Table | Format::Wide => self.table(rows),
            Format::Json => self.json(whole),
            Format::Jsonl => items.iter().for_each(|item| self.line(json(item).to_string())),
            Format::Csv => self.csv(items),
            Format::Name => items.iter().for_each(|item| self.line(name(item))),
        }
    }

    /// Below a list: how many older ones are not in it because of `option`, if any.
    pub fn older(&self, hidden: usize, option: &str) {
        if hidden > 0 {
            self.below(format!("{hidden} older hidden ({option})"));
        }
    }

    /// Below a list of which only the newest were asked for: that there are older ones.
    pub fn some_older(&self, there_are: bool, option: &str) {
        if there_are {
            self.below(format!("older ones are hidden ({option})"));
        }
    }

    /// Below a list: what is not in it. In what programs read stand things alone, so it is said beside it.
    pub fn below(&self, text: impl AsRef<str>) {
        match self.format {
            Format::Table | Format::Wide => self.line(text),
            Format::Json | Format::Jsonl | Format::Csv | Format::Name => self.note(text),
        }
    }

    /// One thing: `people` prints it for people.
    pub fn one<T: Serialize>(&self, item: &T, name: impl Fn(&T) -> String, people: impl FnOnce(&Self)) {
        match self.format {
            Format::Table | Format::Wide => people(self),
            Format::Json => self.json(item),
            Format::Jsonl => self.line(json(item).to_string()),
            Format::Csv => self.csv(std::slice::from_ref(item)),
            Format::Name => self.line(name(item)),
        }
    }

    /// Columns, as wide as they need to be; long cells wrap only on a terminal.
    pub fn table(&self, rows: Rows) {
        if rows.rows.is_empty() {
            return;
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(rows.header);
        table.add_rows(rows.rows);
        for line in table.to_string().lines() {
            self.line(line.trim_end());
        }
    }

    fn json(&self, value: &impl Serialize) {
        self.line(serde_json::to_string_pretty(&json(value)).unwrap_or_default());
    }

    /// Scalars become columns; lists and objects are kept as JSON text in theirs.
    fn csv<T: Serialize>(&self, items: &[T]) {
        let items: Vec<Value> = items.iter().map(json).collect();
        let Some(Value::Object(first)) = items.first() else { return };
        let columns: Vec<&String> = first.keys().collect();
        self.line(columns.iter().map(|c| cell(c)).collect::<Vec<_>>().join(","));
        for item in &items {
            let row = columns.iter().map(|column| match &item[column.as_str()] {
                Value::Null => String::new(),
                Value::String(text) => cell(text),
                other => cell(&other.to_string()),
            });
            self.line(row.collect::<Vec<_>>().join(","));
        }
    }

    /// A problem in four parts, the first line alone enough for a ticket. JSON for programs.
    pub fn problem(&self, problem: &Problem) {
        let mut text = String::new();
        if self.for_people() || self.format == Format::Name {
            let (red, bold, reset) =
                if self.colored { ("\x1b[31m", "\x1b[1m", "\x1b[0m") } else { ("", "", "") };
            text +=
                &format!("{red}error[{}]{reset}: {bold}{}{reset}\n", problem.code, safe(&problem.message));
            for cause in &problem.causes {
                text += &format!("  cause: {}\n", safe(cause));
            }
            if let Some(state) = &problem.state {
                text += &format!("  state: {}\n", safe(state));
            }
            text += &format!(
                "  help:  {}.  More: spsync explain {}\n",
                safe(problem.help.trim_end_matches('.')),
                problem.code
            );
        } else {
            text = format!("{}\n", json(&serde_json::json!({ "error": problem })));
        }
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

/// The word for a sort of place, as tables have it.
pub fn kind_word(kind: LocationKind) -> &'static str {
    match kind {
        LocationKind::Peer => "peer",
        LocationKind::DistributionPoint => "dp",
        LocationKind::Cloud => "cloud",
    }
}

/// The newest `limit` of a list of which one more was asked for, and whether there was one.
pub fn newest<T>(mut all: Vec<T>, limit: u32) -> (Vec<T>, bool) {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = all.len() > limit;
    all.truncate(limit);
    (all, more)
}

/// Foreign text may hold control characters that would drive a terminal.
pub fn safe(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

/// RFC 4180: quoted where a comma, a quote or a line break is inside.
fn cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// `5.4 GiB`: for people; JSON has bytes.
pub fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

/// Local time with its zone, to the minute.
pub fn when(time: jiff::Timestamp) -> String {
    time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M %Z").to_string()
}

/// The first `most` characters, with an ellipsis where something is left out.
pub fn short(text: &str, most: usize) -> String {
    let text = safe(text);
    if text.chars().count() <= most {
        return text;
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// At most `most` characters with the middle left out: names of ESDs differ at both ends.
pub fn ends(text: &str, most: usize) -> String {
    let text: Vec<char> = safe(text).chars().collect();
    if text.len() <= most {
        return text.into_iter().collect();
    }
    let head = most / 4;
    let tail = most.saturating_sub(head + 1);
    text[..head].iter().chain(&['…']).chain(&text[text.len() - tail..]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_by_rfc_4180() {
        assert_eq!(cell("plain"), "plain");
        assert_eq!(cell("a,b \"c\""), "\"a,b \"\"c\"\"\"");
    }

    #[test]
    fn a_list_that_was_cut_short_is_told_from_one_that_is_as_long() {
        for (all, limit, expected) in
            [(3, 2, (2, true)), (2, 2, (2, false)), (1, 0, (0, true)), (0, 0, (0, false))]
        {
            let (list, more) = newest(vec![(); all], limit);
            assert_eq!((list.len(), more), expected, "{all} of {limit}");
        }
    }

    #[test]
    fn foreign_text_cannot_drive_the_terminal() {
        assert_eq!(safe("\x1b[2Jx\r\n"), "\u{fffd}[2Jx\u{fffd}\u{fffd}");
        assert_eq!(short("abcdef", 4), "abc…");
        assert_eq!(ends("abcdefghijkl", 8), "ab…hijkl");
        assert_eq!(ends("abcdefgh", 8), "abcdefgh");
    }
}
