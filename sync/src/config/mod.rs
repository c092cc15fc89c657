//! The configuration: typed [`Settings`], the layers they come from, and where each value stands.
//!
//! ```text
//! built-in default < file < conf.d/*.toml beside it < SPSYNC_SECTION__KEY < selection.toml < flag
//! ```
//! A later layer replaces a value whole, lists too. Sources are put together by name; the built-in source applies
//! only while no file has a `[[source]]`. `selection.toml` in the data directory is what `spsync sync products --set`
//! writes; it may say what is selected and nothing else.
//!
//! [`load`] refuses what can never work (unknown keys, wrong types, values out of range), each with its file and
//! line. [`Loaded::check`] also looks at this machine. Relative paths start at the data directory, so nothing
//! depends on the folder in which a command is typed.

mod check;
mod error;
mod layers;
mod meaning;
mod rules;
mod settings;
mod units;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use catalog::problem::{Coded as _, Problem};
use serde::{Deserialize, Serialize};
use toml::Value;

pub use check::{Finding, Level};
pub use error::ConfigError;
pub use layers::Origin;
pub use settings::{
    Admin, Client, Clients, Content, Db, Download, Dp, Limits, Log, LogFormat, PointRetry, Retry, Server,
    Settings, Site, SiteSystems, Source, SourceKind, Sync, Tls, UpdatePoint,
};
pub use units::{
    Proxy, parse_duration, parse_network, parse_rate, parse_size, show_duration, show_size, web_address,
};

use crate::clock;
use crate::select::Selection;
use crate::whole;
use layers::{Entry, Layer};

/// The file that is read where none is named.
pub const DEFAULT_FILE: &str = "/etc/spsync/config.toml";

/// The file of the data directory that holds the selection made by command.
pub const SELECTION_FILE: &str = "selection.toml";

/// What `selection.toml` may set.
const SELECTION_KEYS: [&str; 6] = [
    "sync.classifications",
    "sync.products",
    "sync.releases",
    "sync.languages",
    "sync.architectures",
    "sync.editions",
];

/// Reads all layers. `file` is the one of `--config`, which must exist; without it [`DEFAULT_FILE`] may be missing.
///
/// # Errors
/// `CONFIG_UNREADABLE`, `CONFIG_UNKNOWN_KEY` or `CONFIG_INVALID`: the first mistake with its place, then the others.
pub fn load(file: Option<&Path>) -> Result<Loaded, Problem> {
    let named = file.is_some();
    let path = file.unwrap_or(Path::new(DEFAULT_FILE)).to_owned();
    // Not `vars`: it panics where any variable of the whole environment is no text.
    let environment = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .filter(|(name, _)| name.starts_with("SPSYNC_"))
        .collect();
    Inputs { base: Base::File { path, named }, environment, flags: Vec::new() }.load()
}

/// Where the layers are read from.
#[derive(Debug, Clone)]
struct Inputs {
    base: Base,
    environment: Vec<(String, String)>,
    flags: Vec<Entry>,
}

#[derive(Debug, Clone)]
enum Base {
    /// A file and the `conf.d` beside it; a named one must exist.
    File { path: PathBuf, named: bool },
    /// Settings that the program made itself.
    Program(Box<Settings>),
}

impl Inputs {
    fn load(self) -> Result<Loaded, Problem> {
        let mut errors = Vec::new();
        let mut layers = match &self.base {
            Base::File { path, named } => from_files(path, *named, &mut errors),
            Base::Program(settings) => vec![from_program(settings)],
        };
        layers.push(layers::read_environment(&self.environment));
        layers.push(Layer { entries: self.flags.clone(), ..Layer::default() });
        let merged = match layers::merge(&mut layers) {
            Ok(merged) => Some(merged),
            Err(found) => {
                errors.extend(found);
                None
            }
        };
        let mut remarks = Vec::new();
        let merged = match merged {
            // Only now is it known where the data directory is; the selection goes under the flags.
            Some(merged) => match selection_layer(&merged.settings.site.data_dir, &mut remarks) {
                Ok(None) => Some(merged),
                Ok(Some(layer)) => {
                    layers.insert(layers.len() - 1, layer);
                    layers::merge(&mut layers).map_err(|found| errors.extend(found)).ok()
                }
                Err(error) => {
                    errors.push(error);
                    None
                }
            },
            None => None,
        };
        if let Some(merged) = &merged {
            let origin = |key: &str| merged.origins.get(key).cloned().unwrap_or(Origin::Default);
            for rules::Broken { key, reason, by } in rules::broken(&merged.settings) {
                match (origin(&key), by) {
                    // The program knows what it does; the ranges are there for slips of the keyboard.
                    (Origin::Program, _) => {}
                    // There is no line to correct, but one that asks for more.
                    (Origin::Default, Some(by)) => {
                        errors.push(ConfigError::Unset { origin: origin(&by), by, key, reason });
                    }
                    (origin, _) => errors.push(ConfigError::Invalid { origin, key, reason }),
                }
            }
        }
        match (error::all(&errors), merged) {
            (None, Some(mut merged)) => {
                merged.settings.resolve();
                Ok(Loaded {
                    settings: Arc::new(merged.settings),
                    origins: merged.origins,
                    inputs: self,
                    remarks,
                })
            }
            (problem, _) => Err(problem.unwrap_or_else(|| {
                Problem::new(
                    catalog::problem::Code::Internal,
                    "the configuration was refused without a reason",
                )
            })),
        }
    }
}

fn from_files(path: &Path, named: bool, errors: &mut Vec<ConfigError>) -> Vec<Layer> {
    let mut layers = Vec::new();
    match layers::read_file(path) {
        Ok(Some(layer)) => layers.push(layer),
        Ok(None) if named => {
            // As the system says it; the kind alone is called an entity.
            let source = io::Error::from(rustix::io::Errno::NOENT);
            errors.push(ConfigError::Unreadable { path: path.to_owned(), source });
        }
        Ok(None) => {}
        Err(error) => errors.push(error),
    }
    let folder = path.parent().unwrap_or(Path::new("")).join("conf.d");
    match parts(&folder) {
        Ok(parts) => {
            for part in parts {
                match layers::read_file(&part) {
                    Ok(layer) => layers.extend(layer),
                    Err(error) => errors.push(error),
                }
            }
        }
        Err(source) => errors.push(ConfigError::Unreadable { path: folder, source }),
    }
    layers
}

/// The files of `conf.d`, sorted by name. None if there is no such folder.
fn parts(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let listed = match std::fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        listed => listed?,
    };
    let mut parts = Vec::new();
    for entry in listed {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            parts.push(path);
        }
    }
    parts.sort();
    Ok(parts)
}

fn from_program(settings: &Settings) -> Layer {
    let default = layers::flat(&Settings::default());
    let entries = layers::flat(settings)
        .into_iter()
        .filter(|(key, value)| key.starts_with("source.") || default.get(key) != Some(value))
        .map(|(key, value)| Entry { key, value, origin: Origin::Program })
        .collect();
    Layer { entries, errors: Vec::new(), names_sources: true }
}

fn selection_layer(data_dir: &Path, remarks: &mut Vec<Finding>) -> Result<Option<Layer>, ConfigError> {
    let path = data_dir.join(SELECTION_FILE);
    let layer = match layers::read_file(&path) {
        // Members of the group that may use the socket need not be able to read the data. Who cannot read this
        // file cannot work on the data either, so nothing is ever done with the wrong selection.
        Err(ConfigError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
            let text =
                format!("{}: cannot be read by this user, the selection shown may differ", path.display());
            remarks.push(Finding { level: Level::Warn, code: None, text });
            return Ok(None);
        }
        // The data directory is no directory: whoever opens the site says so.
        Err(ConfigError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotADirectory => {
            return Ok(None);
        }
        read => read?,
    };
    let Some(mut layer) = layer else { return Ok(None) };
    let (selection, others) =
        layer.entries.into_iter().partition(|entry| SELECTION_KEYS.contains(&entry.key.as_str()));
    layer.entries = selection;
    let others: Vec<Entry> = others;
    layer.errors.extend(others.into_iter().map(|Entry { key, origin, .. }| {
        let reason = "this file holds the selection only; set the key in the configuration".to_owned();
        ConfigError::Invalid { origin, key, reason }
    }));
    Ok(Some(layer))
}

/// Settings, and where each of them comes from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings in force: the same value for as long as they are.
    pub settings: Arc<Settings>,
    origins: BTreeMap<String, Origin>,
    inputs: Inputs,
    remarks: Vec<Finding>,
}

/// One setting as `spsync config show` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownKey {
    /// Its key; those of a source carry its name: `source.esd.catalogs`.
    pub key: String,
    /// Its value as TOML.
    pub value: String,
    /// Where that stands.
    pub origin: String,
}

/// Settings that the program made itself, to which files and environment have nothing to say.
impl From<Settings> for Loaded {
    fn from(settings: Settings) -> Self {
        let origins =
            from_program(&settings).entries.into_iter().map(|entry| (entry.key, entry.origin)).collect();
        let base = Base::Program(Box::new(settings.clone()));
        let inputs = Inputs { base, environment: Vec::new(), flags: Vec::new() };
        Self { settings: Arc::new(settings), origins, inputs, remarks: Vec::new() }
    }
}

impl Loaded {
    /// Reads the same layers again, flags included: after `selection.toml` was written, or to reload.
    ///
    /// # Errors
    /// Those of [`load`].
    pub fn again(&self) -> Result<Self, Problem> {
        let mut again = self.inputs.clone().load()?;
        again.settings_mut().listens_as(&self.settings);
        Ok(again)
    }

    /// The settings, to be changed by the program itself.
    pub fn settings_mut(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }

    /// Puts `--listen` over `server.listen`.
    ///
    /// # Errors
    /// `CONFIG_INVALID` if one is no address with a port.
    pub fn set_listen(&mut self, addresses: &[String]) -> Result<(), Problem> {
        let value = Value::Array(addresses.iter().map(|address| Value::String(address.clone())).collect());
        self.set("server.listen", value, "--listen")
    }

    /// Puts a flag over everything else.
    fn set(&mut self, key: &str, value: Value, flag: &str) -> Result<(), Problem> {
        let mut inputs = self.inputs.clone();
        inputs.flags.retain(|entry| entry.key != key);
        inputs.flags.push(Entry { key: key.to_owned(), value, origin: Origin::Flag(flag.to_owned()) });
        let mut changed = inputs.load()?;
        changed.settings_mut().listens_as(&self.settings);
        *self = changed;
        Ok(())
    }

    /// Looks for what cannot work on this machine, and for what is rarely meant. Errors come first; the daemon
    /// does not start with one.
    pub fn check(&self) -> Vec<Finding> {
        check::check(self, clock::now())
    }

    /// Every setting with its value and origin, by key.
    pub fn shown(&self) -> Vec<ShownKey> {
        let shown = |(key, value): (String, Value)| ShownKey {
            origin: self.origin(&key).to_string(),
            value: value.to_string(),
            key,
        };
        layers::flat(&self.settings).into_iter().map(shown).collect()
    }

    /// Where the value of a key stands.
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }
}

/// A key with another value than before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The key.
    pub key: String,
    /// Its value before, as TOML; empty where a source is new.
    pub old: String,
    /// Its value now, as TOML; empty where a source is gone.
    pub new: String,
    /// Whether a reload applies it; if not, a restart does.
    pub reload: bool,
}

/// The keys that have another value in `new` than in `running`, by key.
pub fn diff(running: &Settings, new: &Settings) -> Vec<Change> {
    let (running, new) = (layers::flat(running), layers::flat(new));
    let keys: BTreeSet<&String> = running.keys().chain(new.keys()).collect();
    keys.into_iter()
        .filter(|key| running.get(*key) != new.get(*key))
        .map(|key| {
            let shown =
                |values: &BTreeMap<String, Value>| values.get(key).map_or_else(String::new, Value::to_string);
            Change {
                key: key.clone(),
                old: shown(&running),
                new: shown(&new),
                reload: applied_by_reload(key),
            }
        })
        .collect()
}

/// Whether a reload applies a change of this key. The others were handed, at the start, to something that keeps them:
/// listeners, the database, the content library, the log ([`Settings::keep_what_needs_a_restart`]).
pub fn applied_by_reload(key: &str) -> bool {
    let section = key.split('.').next().unwrap_or_default();
    if key.starts_with("dp.retry.") {
        return true;
    }
    !matches!(section, "site" | "server" | "admin" | "db" | "content" | "dp" | "log")
        && key != "download.min_free"
}

/// A commented configuration with every key and its default.
pub fn example() -> &'static str {
    include_str!("../../../config.example.toml")
}

/// Writes the selection that was made by command.
///
/// # Errors
/// `DATA_DIR_NOT_WRITABLE`.
pub fn write_selection(data_dir: &Path, selection: &Selection) -> Result<(), Problem> {
    let path = data_dir.join(SELECTION_FILE);
    let failed = |source| ConfigError::Unwritable { path: path.clone(), source }.problem();
    let list =
        |names: &[String]| Value::Array(names.iter().map(|name| Value::String(name.clone())).collect());
    let parts = [
        ("classifications", &selection.classifications),
        ("products", &selection.products),
        ("releases", &selection.releases),
        ("languages", &selection.languages),
        ("architectures", &selection.architectures),
        ("editions", &selection.editions),
    ];
    let mut text = String::from(
        "# Written by `spsync sync products` and `spsync sync classifications`; stands above the configuration files.\n\
         # Delete this file to let them decide again.\n[sync]\n",
    );
    for (key, names) in parts {
        text.push_str(&format!("{key} = {}\n", list(names)));
    }
    // Nothing in it is secret, and other users' commands show it.
    whole::write(&path, whole::ALL, text.as_bytes()).map_err(failed)
}

#[cfg(test)]
mod tests;
