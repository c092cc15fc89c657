//! Reading the layers of a configuration, and putting one over the other without forgetting who said what.
//!
//! A layer is a list of [`Entry`]s: one key, its value, and where that stands. Keys are dotted paths; those of a
//! source carry its name (`source.esd.catalogs`). So two files can each set a part of one source, a later entry
//! simply replaces an earlier one, and every mistake can be told with its line.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::error::ConfigError;
use super::settings::{Settings, Source};
use super::units::cut;

/// A configuration has some kilobytes; more is another file, named by mistake.
pub(super) const LARGEST_FILE: u64 = 1 << 20;
/// Environment variables that are keys begin so, and separate section and key by two underscores.
const PREFIX: &str = "SPSYNC_";

/// Who gave a key its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody: it is built in.
    Default,
    /// The program itself made these settings (the demonstration does).
    Program,
    /// A line of a file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("built-in default"),
            Self::Program => f.write_str("set by the program"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// One key of one layer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub key: String,
    pub value: Value,
    pub origin: Origin,
}

/// A layer that was read as far as it can be used, and what cannot be.
#[derive(Debug, Default)]
pub(super) struct Layer {
    pub entries: Vec<Entry>,
    pub errors: Vec<ConfigError>,
    /// It has a `source`, so that the built-in one does not apply.
    pub names_sources: bool,
}

/// The keys outside of sources with their defaults, whose types the environment is read by.
static KEYS: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
    let mut keys = flat(&Settings::default());
    keys.retain(|key, _| !key.starts_with("source."));
    keys
});

/// The keys of one source with their defaults.
static SOURCE_KEYS: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
    let source = Value::try_from(Source::default()).unwrap_or_else(|_| Value::Table(Table::new()));
    let mut keys = BTreeMap::new();
    flatten("", &source, &mut keys);
    keys
});

/// Every key as one writes it in a file: `sync.retry.max`, `source.mirrors`.
pub(super) fn known_keys() -> impl Iterator<Item = String> {
    KEYS.keys().cloned().chain(SOURCE_KEYS.keys().map(|key| format!("source.{key}")))
}

/// All settings by key. Sources are found under their names.
pub(super) fn flat(settings: &Settings) -> BTreeMap<String, Value> {
    let mut flat = BTreeMap::new();
    // Cannot fail: paths, counts, sizes and times have writers of their own that fit TOML (`units`).
    let Ok(Value::Table(mut table)) = Value::try_from(settings) else { return flat };
    if let Some(Value::Array(sources)) = table.remove("source") {
        for (source, value) in settings.sources.iter().zip(&sources) {
            flatten(&format!("source.{}", source.name), value, &mut flat);
        }
    }
    flatten("", &Value::Table(table), &mut flat);
    flat
}

fn flatten(prefix: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Table(table) => table.iter().for_each(|(key, value)| flatten(&join(prefix, key), value, into)),
        leaf => drop(into.insert(prefix.to_owned(), leaf.clone())),
    }
}

fn join(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }
}

/// Reads a file of the configuration. `None` if there is none.
///
/// # Errors
/// It is there and cannot be read, or is too large.
pub(super) fn read_file(path: &Path) -> Result<Option<Layer>, ConfigError> {
    let failed = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let mut text = String::new();
    file.take(LARGEST_FILE + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > LARGEST_FILE {
        return Err(ConfigError::TooLarge { path: path.to_owned(), most: LARGEST_FILE });
    }
    Ok(Some(read_toml(&text, path)))
}

/// Reads the text of a file; `path` is only named.
pub(super) fn read_toml(text: &str, path: &Path) -> Layer {
    let mut reader = Reader { text, path, layer: Layer::default() };
    match (DeTable::parse(text), text.parse::<Table>()) {
        (Ok(spans), Ok(values)) => {
            reader.table("", spans.get_ref(), &values);
            reader.layer.errors.sort_by_key(|error| line_of(error).unwrap_or_default());
        }
        (Err(error), _) | (_, Err(error)) => {
            let origin = reader.origin(error.span().map_or(0, |span| span.start));
            let message = error.message().to_owned();
            reader.layer.errors.push(ConfigError::Syntax { origin, message });
        }
    }
    reader.layer
}

fn line_of(error: &ConfigError) -> Option<usize> {
    match error {
        ConfigError::UnknownKey { origin: Origin::File { line, .. }, .. }
        | ConfigError::Invalid { origin: Origin::File { line, .. }, .. } => Some(*line),
        _ => None,
    }
}

struct Reader<'a> {
    text: &'a str,
    path: &'a Path,
    layer: Layer,
}

impl Reader<'_> {
    fn origin(&self, offset: usize) -> Origin {
        let before = self.text.as_bytes().get(..offset).unwrap_or(self.text.as_bytes());
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        Origin::File { path: self.path.to_owned(), line }
    }

    fn table(&mut self, prefix: &str, spans: &DeTable<'_>, values: &Table) {
        for (name, span) in spans {
            let key = join(prefix, name.get_ref());
            let origin = self.origin(name.span().start);
            let Some(value) = values.get(name.get_ref().as_ref()) else { continue };
            if key == "source" {
                self.sources(span, value, origin);
            } else if KEYS.contains_key(&key) {
                self.layer.entries.push(Entry { key, value: value.clone(), origin });
            } else if is_section(&key) {
                match (span.get_ref().as_table(), value.as_table()) {
                    (Some(spans), Some(values)) => self.table(&key, spans, values),
                    _ => self.invalid(
                        key,
                        format!("expected a section `[…]`, actual {}", value.type_str()),
                        origin,
                    ),
                }
            } else {
                self.layer.errors.push(unknown(key, origin));
            }
        }
    }

    fn sources(&mut self, spans: &Spanned<DeValue<'_>>, value: &Value, origin: Origin) {
        let (Some(spans), Some(values)) = (spans.get_ref().as_array(), value.as_array()) else {
            let reason = format!("expected tables `[[source]]`, actual {}", value.type_str());
            return self.invalid("source".to_owned(), reason, origin);
        };
        self.layer.names_sources = true;
        let mut seen: Vec<&str> = Vec::new();
        for (span, value) in spans.iter().zip(values) {
            let origin = self.origin(span.span().start);
            let (Some(spans), Some(values)) = (span.get_ref().as_table(), value.as_table()) else {
                let reason = format!("expected a table, actual {}", value.type_str());
                self.invalid("source".to_owned(), reason, origin);
                continue;
            };
            let name = match values.get("name").and_then(Value::as_str) {
                Some(name) if is_source_name(name) => name,
                named => {
                    let actual = named.map_or("none".to_owned(), |name| format!("`{}`", cut(name)));
                    let reason = format!(
                        "expected 1 to 40 letters, digits, `-` or `_` in each `[[source]]`, actual {actual}"
                    );
                    self.invalid("source.name".to_owned(), reason, origin);
                    continue;
                }
            };
            if seen.contains(&name) {
                self.invalid("source.name".to_owned(), format!("two sources are called `{name}`"), origin);
                continue;
            }
            seen.push(name);
            for (key, _) in spans {
                let origin = self.origin(key.span().start);
                let short: &str = key.get_ref();
                match values.get(short) {
                    Some(value) if SOURCE_KEYS.contains_key(short) => {
                        let key = format!("source.{name}.{short}");
                        self.layer.entries.push(Entry { key, value: value.clone(), origin });
                    }
                    _ => self.layer.errors.push(unknown(format!("source.{short}"), origin)),
                }
            }
        }
    }

    fn invalid(&mut self, key: String, reason: String, origin: Origin) {
        self.layer.errors.push(ConfigError::Invalid { origin, key, reason });
    }
}

fn is_section(key: &str) -> bool {
    KEYS.keys().any(|known| known.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
}

fn is_source_name(name: &str) -> bool {
    (1..=40).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn unknown(key: String, origin: Origin) -> ConfigError {
    let key: String = key.chars().take(120).collect();
    let sections = KEYS.keys().filter_map(|key| key.rsplit_once('.').map(|(section, _)| section.to_owned()));
    let near = known_keys()
        .chain(sections)
        .map(|known| (likeness(&key, &known), known))
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    // Less alike than this is a coincidence, and a wrong suggestion is worse than none.
    let suggestion = near.filter(|(score, _)| *score >= 0.6).map(|(_, known)| known);
    ConfigError::UnknownKey { origin, key, suggestion }
}

/// How much alike two keys are, 0 to 1: as much as the parts that are least so. A section that both have says nothing about the rest.
fn likeness(key: &str, known: &str) -> f64 {
    if key.matches('.').count() != known.matches('.').count() {
        return 0.0;
    }
    let parts = key.split('.').zip(known.split('.'));
    parts.map(|(one, other)| part_likeness(one, other)).fold(1.0, f64::min)
}

fn part_likeness(one: &str, other: &str) -> f64 {
    let alike = strsim::normalized_damerau_levenshtein(one, other);
    // `zone` may well mean `timezone`.
    let within = one.len().min(other.len()) > 2 && (one.contains(other) || other.contains(one));
    if within { (1.0 + alike) / 2.0 } else { alike }
}

/// Reads the environment variables whose names have two underscores after the prefix; the others are flags.
/// Lists are separated by commas. A source is named in its variable: `SPSYNC_SOURCE__ESD__CATALOGS`.
pub(super) fn read_environment(variables: &[(String, String)]) -> Layer {
    let mut layer = Layer::default();
    for (name, text) in variables {
        let Some(path) = name.strip_prefix(PREFIX).filter(|rest| rest.contains("__")) else { continue };
        let key = path.to_lowercase().replace("__", ".");
        let origin = Origin::Environment(name.clone());
        let source = key.strip_prefix("source.").and_then(|rest| rest.split_once('.'));
        let default = match source {
            // The name is the variable's own matter, and cannot be changed by it.
            Some((source, short)) if is_source_name(source) && short != "name" => SOURCE_KEYS.get(short),
            _ => KEYS.get(&key),
        };
        let Some(default) = default else {
            layer.errors.push(unknown(key, origin));
            continue;
        };
        match of_type(default, text) {
            Ok(value) => layer.entries.push(Entry { key, value, origin }),
            Err(reason) => layer.errors.push(ConfigError::Invalid { origin, key, reason }),
        }
    }
    layer
}

/// A text as a value of the type that the default has.
fn of_type(default: &Value, text: &str) -> Result<Value, String> {
    match default {
        Value::Array(_) => Ok(Value::Array(
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(|part| part.into()).collect(),
        )),
        Value::Boolean(_) => text
            .trim()
            .parse()
            .map(Value::Boolean)
            .map_err(|_| format!("expected `true` or `false`, actual `{}`", cut(text))),
        Value::Integer(_) => text
            .trim()
            .parse()
            .map(Value::Integer)
            .map_err(|_| format!("expected a number, actual `{}`", cut(text))),
        _ => Ok(Value::String(text.to_owned())),
    }
}

/// Settings with the origin of each key that is not a default.
#[derive(Debug)]
pub(super) struct Merged {
    pub settings: Settings,
    pub origins: BTreeMap<String, Origin>,
}

/// Puts the layers over the defaults, later ones last.
///
/// # Errors
/// All mistakes in the layers, and values that have another type than their keys.
pub(super) fn merge(layers: &mut [Layer]) -> Result<Merged, Vec<ConfigError>> {
    let mut errors = Vec::new();
    let mut names: Vec<String> = Vec::new();
    let mut merged: BTreeMap<String, Entry> = BTreeMap::new();
    let builtin = !layers.iter().any(|layer| layer.names_sources);
    if builtin {
        names.push(Source::default().name);
    }
    for layer in layers {
        errors.append(&mut layer.errors);
        for entry in &layer.entries {
            let mut entry = entry.clone();
            if let Some((name, short)) =
                source_key(&entry.key).map(|(name, key)| (name.to_owned(), key.to_owned()))
            {
                // Variables are written in capitals, names of sources as one likes.
                let known = names.iter().find(|known| known.eq_ignore_ascii_case(&name)).cloned();
                let canonical = known.unwrap_or_else(|| {
                    names.push(name.clone());
                    name
                });
                if short == "name" {
                    entry.value = Value::String(canonical.clone());
                }
                entry.key = format!("source.{canonical}.{short}");
            }
            if let Err(reason) = nested([&entry]).try_into::<Settings>() {
                let (key, origin) = (entry.key, entry.origin);
                errors.push(ConfigError::Invalid { origin, key, reason: reason.message().to_owned() });
                continue;
            }
            merged.insert(entry.key.clone(), entry);
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut table = nested(merged.values().filter(|entry| source_key(&entry.key).is_none()));
    table.insert("source".to_owned(), Value::Array(names.iter().map(|name| source(name, &merged)).collect()));
    // Each key alone was accepted, and no key of ours depends on another for its type.
    let settings = table.try_into().map_err(|error: toml::de::Error| {
        let (origin, reason) = (Origin::Default, error.message().to_owned());
        vec![ConfigError::Invalid { origin, key: "(all)".to_owned(), reason }]
    })?;
    Ok(Merged { settings, origins: merged.into_iter().map(|(key, entry)| (key, entry.origin)).collect() })
}

/// `source.NAME.KEY` as name and key.
fn source_key(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix("source.")?.split_once('.')
}

fn source(name: &str, merged: &BTreeMap<String, Entry>) -> Value {
    let own = merged.iter().filter_map(|(key, entry)| match source_key(key) {
        Some((of, short)) if of == name => Some((short.to_owned(), entry.value.clone())),
        _ => None,
    });
    let mut table: Table = own.collect();
    table.insert("name".to_owned(), Value::String(name.to_owned()));
    Value::Table(table)
}

/// Entries as the tables that their keys stand for.
fn nested<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Table {
    let mut root = Table::new();
    for Entry { key, value, .. } in entries {
        if let Some((name, short)) = source_key(key) {
            let mut table = Table::from_iter([("name".to_owned(), Value::String(name.to_owned()))]);
            table.insert(short.to_owned(), value.clone());
            root.insert("source".to_owned(), Value::Array(vec![Value::Table(table)]));
            continue;
        }
        put(&mut root, key, value.clone());
    }
    root
}

fn put(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => drop(table.insert(key.to_owned(), value)),
        Some((section, rest)) => {
            // Known keys never name both a value and a section, so there is nothing else to meet here.
            if let Value::Table(inner) = table.entry(section).or_insert_with(|| Value::Table(Table::new())) {
                put(inner, rest, value);
            }
        }
    }
}
