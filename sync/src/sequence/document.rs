//! The one form in which a task sequence is kept, shown, exported and compared: TOML.
//!
//! Groups nest as `[[step]]`, `[[step.step]]`, …; a setting is one line, and only what differs from the default is
//! written, so that a change of one setting is a change of one line. Reading has caps on bytes, steps and depth, and no
//! message repeats a value: somebody may have written a secret there.

use std::fmt::Write as _;

use catalog::problem::{Code, Problem};
use toml::{Table, Value};

use super::{
    Action, Common, Condition, DEEPEST, DEFAULT_RUNTIME, Group, Kind, LARGEST, LONGEST_DESCRIPTION,
    LONGEST_IMPORTED_NAME, MOST_NODES, Node, Sequence, Step, action,
};

/// The form that this release writes.
const FORMAT: i64 = 1;
const CHILDREN: &str = "step";
const GROUP: &str = "group";

fn invalid(message: impl Into<String>) -> Problem {
    Problem::new(Code::TaskSequenceInvalid, message)
}

impl Sequence {
    /// Reads a document.
    ///
    /// # Errors
    /// `TASK_SEQUENCE_TOO_LARGE`; `TASK_SEQUENCE_INVALID` with the step.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        small_enough(text.len())?;
        let mut table: Table = toml::from_str(text).map_err(|error: toml::de::Error| {
            let line =
                error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
            // The message of a syntax error speaks of signs, never of what stands between them.
            invalid(format!("line {line} of the document is no TOML"))
        })?;
        let mut reading = Reading { nodes: 0 };
        match table.remove("format") {
            Some(Value::Integer(FORMAT)) => {}
            Some(Value::Integer(_)) => return Err(invalid("the document is of a newer release")),
            _ => return Err(invalid("the document does not say its format")),
        }
        let nodes = reading.children(&mut table, "", 0)?;
        let name = text_of(&mut table, "name", "the document")?;
        let description = text_of(&mut table, "description", "the document")?;
        check_text(&name, &description, "the task sequence")?;
        if name.is_empty() {
            return Err(Problem::new(Code::NameRequired, "a task sequence needs a name"));
        }
        let kind = match text_of(&mut table, "kind", "the document")?.as_str() {
            "upgrade" => Kind::Upgrade,
            "custom" | "" => Kind::Custom,
            _ => return Err(invalid("the document is of an unknown kind")),
        };
        let boot_image = match text_of(&mut table, "boot_image", "the document")? {
            id if id.is_empty() => None,
            id => Some(id.parse().map_err(|_| invalid("`boot_image` is no package id"))?),
        };
        let max_runtime = number_of(&mut table, "max_runtime", 0..=43_200, "the document")?
            .unwrap_or(i64::from(DEFAULT_RUNTIME));
        nothing_left(&table, "the document")?;
        let max_runtime = u32::try_from(max_runtime).unwrap_or(DEFAULT_RUNTIME);
        Ok(Self { name, description, kind, max_runtime, boot_image, nodes })
    }

    /// Writes the document.
    pub fn to_text(&self) -> String {
        let mut text = format!("format = {FORMAT}\n");
        line(&mut text, "name", &Value::from(self.name.as_str()));
        if !self.description.is_empty() {
            line(&mut text, "description", &Value::from(self.description.as_str()));
        }
        line(&mut text, "kind", &Value::from(self.kind.word()));
        if self.max_runtime != DEFAULT_RUNTIME {
            line(&mut text, "max_runtime", &Value::from(i64::from(self.max_runtime)));
        }
        if let Some(image) = &self.boot_image {
            line(&mut text, "boot_image", &Value::from(image.as_str()));
        }
        write_nodes(&mut text, &self.nodes, CHILDREN);
        text
    }

    /// Writes the document and reads it again, so that nothing is kept that could not be read.
    ///
    /// # Errors
    /// Those of [`Self::parse`].
    pub fn checked_text(&self) -> Result<String, Problem> {
        let text = self.to_text();
        Self::parse(&text)?;
        Ok(text)
    }
}

/// # Errors
/// `TASK_SEQUENCE_TOO_LARGE`.
pub fn small_enough(bytes: usize) -> Result<(), Problem> {
    if bytes <= LARGEST {
        return Ok(());
    }
    let message = format!("the task sequence has {bytes} bytes as a document, at most {LARGEST} are allowed");
    Err(Problem::new(Code::TaskSequenceTooLarge, message))
}

impl Node {
    /// One group or step from its table.
    ///
    /// # Errors
    /// `TASK_SEQUENCE_INVALID`.
    pub fn from_table(table: Table) -> Result<Self, Problem> {
        Reading { nodes: 0 }.node(table, "", 0)
    }

    /// Its settings as a table, without what is in it.
    pub fn to_table(&self) -> Table {
        settings(self).into_iter().collect()
    }
}

/// Counts what is read.
struct Reading {
    nodes: usize,
}

impl Reading {
    fn children(&mut self, table: &mut Table, place: &str, depth: usize) -> Result<Vec<Node>, Problem> {
        let Some(value) = table.remove(CHILDREN) else { return Ok(Vec::new()) };
        let Value::Array(items) = value else { return Err(invalid("`step` is not a list of steps")) };
        let node = |(position, item)| match item {
            Value::Table(table) => self.node(table, &format!("{place}{}.", position + 1), depth),
            _ => Err(invalid("`step` is not a list of steps")),
        };
        items.into_iter().enumerate().map(node).collect()
    }

    fn node(&mut self, mut table: Table, place: &str, depth: usize) -> Result<Node, Problem> {
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            return Err(invalid(format!("the task sequence has more than {MOST_NODES} steps")));
        }
        if depth >= DEEPEST {
            return Err(invalid(format!("groups stand in groups more than {DEEPEST} deep")));
        }
        let of = match place.trim_end_matches('.') {
            "" => "the step".to_owned(),
            place => format!("step {place}"),
        };
        let kind = text_of(&mut table, "type", &of)?;
        let common = common(&mut table, &of)?;
        let of = format!("{of} `{}`", common.name);
        if kind == GROUP {
            let nodes = self.children(&mut table, place, depth + 1)?;
            nothing_left(&table, &of)?;
            return Ok(Node::Group(Group { common, nodes }));
        }
        if kind.is_empty() || kind.chars().count() > 100 || kind.chars().any(char::is_control) {
            return Err(invalid(format!("{of} does not say its type")));
        }
        let action = Action::read(&kind, table).map_err(|why| invalid(format!("{of}: {why}")))?;
        action::check(&action).map_err(|why| invalid(format!("{of}: {why}")))?;
        Ok(Node::Step(Step { common, action }))
    }
}

fn common(table: &mut Table, of: &str) -> Result<Common, Problem> {
    let name = text_of(table, "name", of)?;
    let description = text_of(table, "description", of)?;
    check_text(&name, &description, of)?;
    if name.is_empty() {
        return Err(invalid(format!("{of} has no name")));
    }
    let when = match table.remove("when") {
        None => None,
        Some(value) => {
            let condition: Condition =
                value.try_into().map_err(|_| invalid(format!("{of}: its condition cannot be understood")))?;
            if !condition.is_shallow() {
                return Err(invalid(format!("{of}: its condition is nested more than {DEEPEST} deep")));
            }
            Some(condition)
        }
    };
    let mut flag = |key: &str| match table.remove(key) {
        None => Ok(false),
        Some(Value::Boolean(value)) => Ok(value),
        Some(_) => Err(invalid(format!("{of}: `{key}` is neither true nor false"))),
    };
    let (disabled, continue_on_error) = (flag("disabled")?, flag("continue_on_error")?);
    let retries = number_of(table, "retries", 0..=5, of)?.unwrap_or_default();
    let timeout = number_of(table, "timeout", 1..=1440, of)?;
    Ok(Common {
        name,
        description,
        disabled,
        continue_on_error,
        when,
        retries: u8::try_from(retries).unwrap_or_default(),
        timeout: timeout.and_then(|minutes| u16::try_from(minutes).ok()),
    })
}

fn check_text(name: &str, description: &str, of: &str) -> Result<(), Problem> {
    if name.chars().count() > LONGEST_IMPORTED_NAME || name.chars().any(char::is_control) {
        return Err(invalid(format!("{of} has a name that is too long or has control characters")));
    }
    if description.chars().count() > LONGEST_DESCRIPTION {
        let message = format!("{of} has a description of more than {LONGEST_DESCRIPTION} characters");
        return Err(Problem::new(Code::DescriptionTooLong, message));
    }
    Ok(())
}

fn text_of(table: &mut Table, key: &str, of: &str) -> Result<String, Problem> {
    match table.remove(key) {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(invalid(format!("{of}: `{key}` is no text"))),
    }
}

fn number_of(
    table: &mut Table,
    key: &str,
    range: std::ops::RangeInclusive<i64>,
    of: &str,
) -> Result<Option<i64>, Problem> {
    match table.remove(key) {
        None => Ok(None),
        Some(Value::Integer(number)) if range.contains(&number) => Ok(Some(number)),
        Some(_) => {
            Err(invalid(format!("{of}: `{key}` is no number from {} to {}", range.start(), range.end())))
        }
    }
}

fn nothing_left(table: &Table, of: &str) -> Result<(), Problem> {
    match table.keys().next() {
        None => Ok(()),
        Some(key) => {
            let key: String = key.chars().take(40).filter(|c| !c.is_control()).collect();
            Err(invalid(format!("{of} has an unknown setting `{key}`")))
        }
    }
}

/// The settings of a node in the order in which they are written.
fn settings(node: &Node) -> Vec<(String, Value)> {
    let common = node.common();
    let kind = match node {
        Node::Group(_) => GROUP,
        Node::Step(step) => step.action.kind(),
    };
    let mut all =
        vec![("type".to_owned(), Value::from(kind)), ("name".to_owned(), Value::from(&*common.name))];
    let mut add = |key: &str, value: Option<Value>| all.extend(value.map(|value| (key.to_owned(), value)));
    add("description", (!common.description.is_empty()).then(|| Value::from(&*common.description)));
    add("disabled", common.disabled.then_some(Value::Boolean(true)));
    add("continue_on_error", common.continue_on_error.then_some(Value::Boolean(true)));
    add("when", common.when.as_ref().and_then(|when| Value::try_from(when).ok()));
    add("retries", (common.retries > 0).then(|| Value::from(i64::from(common.retries))));
    add("timeout", common.timeout.map(|minutes| Value::from(i64::from(minutes))));
    if let Node::Step(step) = node {
        all.extend(step.action.settings());
    }
    all
}

fn write_nodes(text: &mut String, nodes: &[Node], header: &str) {
    for node in nodes {
        let _ = writeln!(text, "\n[[{header}]]");
        settings(node).iter().for_each(|(key, value)| line(text, key, value));
        if let Node::Group(group) = node {
            write_nodes(text, &group.nodes, &format!("{header}.{CHILDREN}"));
        }
    }
}

fn line(text: &mut String, key: &str, value: &Value) {
    text.push_str(&bare_or_quoted(key));
    text.push_str(" = ");
    inline(text, value);
    text.push('\n');
}

fn bare_or_quoted(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare { key.to_owned() } else { quoted(key) }
}

/// Text on one line, whatever is in it; Windows paths stay readable as literal strings.
fn quoted(text: &str) -> String {
    if text.contains('\\') && !text.contains('\'') && !text.chars().any(|c| c.is_control()) {
        return format!("'{text}'");
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn inline(text: &mut String, value: &Value) {
    match value {
        Value::String(string) => text.push_str(&quoted(string)),
        Value::Array(items) => {
            text.push('[');
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    text.push_str(", ");
                }
                inline(text, item);
            }
            text.push(']');
        }
        Value::Table(table) => {
            text.push_str("{ ");
            for (position, (key, item)) in table.iter().enumerate() {
                if position > 0 {
                    text.push_str(", ");
                }
                text.push_str(&bare_or_quoted(key));
                text.push_str(" = ");
                inline(text, item);
            }
            text.push_str(" }");
        }
        other => {
            let _ = write!(text, "{other}");
        }
    }
}
