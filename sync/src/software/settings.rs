//! Client settings: what devices are told, by priority (mission rows M21 to M24).
//!
//! The default is told to everybody; others to the collections that they name. For each setting the lowest priority
//! number that says something wins.

use std::collections::HashSet;
use std::sync::Arc;

use catalog::problem::{Code, Problem};
use schema::collections::{Collection, SettingsRow};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::collections;
use crate::admin::{Answer, Caller};
use crate::clock;
use crate::find::called;
use crate::names::{self, Rule};
use crate::site::Site;

/// A setting: its name, the values that it takes, and what holds where nobody says anything.
struct Known {
    name: &'static str,
    values: &'static [&'static str],
    unset: &'static str,
}

/// The settings about feature updates; an empty list of values is a port.
const KNOWN: [Known; 4] = [
    Known { name: "thread_priority", values: &["not-configured", "normal", "low"], unset: "not-configured" },
    Known { name: "dynamic_update", values: &["not-configured", "yes", "no"], unset: "not-configured" },
    Known { name: "delta_content", values: &["yes", "no"], unset: "no" },
    Known { name: "delta_port", values: &[], unset: "8005" },
];

/// One setting as it holds for a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effective {
    /// The setting.
    pub setting: String,
    /// Its value.
    pub value: String,
    /// The settings that say so; `built-in` where none do.
    pub from: String,
    /// Their priority.
    pub priority: Option<u32>,
}

/// What holds for a device. Pure: `rows` have the strongest first.
pub fn effective_of(device: &str, rows: &[SettingsRow], collections: &[Collection]) -> Vec<Effective> {
    let is_in = |name: &String| {
        collections.iter().filter(|collection| collection.name.eq_ignore_ascii_case(name)).any(|collection| {
            collection.built_in || collection.devices.iter().any(|member| member.eq_ignore_ascii_case(device))
        })
    };
    let told = |row: &&SettingsRow| row.priority.is_none() || row.collections.iter().any(is_in);
    let told: Vec<&SettingsRow> = rows.iter().filter(told).collect();
    let holds = |known: &Known| {
        let said = told.iter().find_map(|row| row.chosen[known.name].as_str().map(|value| (value, *row)));
        Effective {
            setting: known.name.to_owned(),
            value: said.map_or(known.unset, |(value, _)| value).to_owned(),
            from: said.map_or("built-in", |(_, row)| &row.name).to_owned(),
            priority: said.and_then(|(_, row)| row.priority),
        }
    };
    KNOWN.iter().map(holds).collect()
}

/// What one setting is for many devices, in their order: the same as [`effective_of`] says, which would go through every
/// collection for each of them.
pub fn values_of(
    setting: &str,
    devices: &[String],
    rows: &[SettingsRow],
    collections: &[Collection],
) -> Vec<String> {
    let lower = |name: &String| name.to_ascii_lowercase();
    let told = rows.iter().filter_map(|row| {
        let value = row.chosen[setting].as_str()?;
        let is_named =
            |one: &&Collection| row.collections.iter().any(|name| name.eq_ignore_ascii_case(&one.name));
        let mut who = HashSet::new();
        let mut all = row.priority.is_none();
        for collection in collections.iter().filter(is_named) {
            all |= collection.built_in;
            who.extend(collection.devices.iter().map(lower));
        }
        Some((value, all, who))
    });
    let told: Vec<_> = told.collect();
    let unset = KNOWN.iter().find(|known| known.name == setting).map_or("", |known| known.unset);
    let value = |device: &String| {
        let device = lower(device);
        let said = told.iter().find(|(_, all, who)| *all || who.contains(&device));
        said.map_or(unset, |(value, ..)| value).to_owned()
    };
    devices.iter().map(value).collect()
}

/// The settings of this name.
///
/// # Errors
/// `SETTINGS_NOT_FOUND`.
pub async fn named(site: &Arc<Site>, name: &str) -> Result<SettingsRow, Problem> {
    let all = site.read(|r| r.client_settings()).await?;
    let (what, list) = ("set of client settings", "`spsync settings list`");
    called(what, Code::SettingsNotFound, name, &all, |row| &row.name, list).cloned()
}

/// Puts changes into settings. Pure but for the names of collections, which the caller checks.
///
/// # Errors
/// `INVALID_SETTING`.
pub fn changed(mut row: SettingsRow, changes: &[(String, String)]) -> Result<SettingsRow, Problem> {
    let mut chosen = match row.chosen.take() {
        Value::Object(chosen) => chosen,
        _ => Map::new(),
    };
    let invalid = |message: String, help: String| Err(Problem::new(Code::InvalidSetting, message).help(help));
    for (key, value) in changes {
        let value = value.trim().to_lowercase();
        let is_default = row.name == DEFAULT;
        match key.as_str() {
            "priority" | "collection" if is_default => {
                let message =
                    format!("`{DEFAULT}` is told to everybody and loses to all others: it has no `{key}`");
                return invalid(message, "make settings of another name".to_owned());
            }
            "priority" => match value.parse() {
                Ok(number @ 1..=9999) => row.priority = Some(number),
                _ => {
                    return invalid(
                        "`priority` is no number from 1 to 9999".to_owned(),
                        "the lowest number wins".to_owned(),
                    );
                }
            },
            "collection" => {
                row.collections =
                    value.split(',').map(|name| name.trim().to_owned()).filter(|n| !n.is_empty()).collect();
            }
            key => {
                let Some(known) = KNOWN.iter().find(|known| known.name == key) else {
                    let names: Vec<_> = KNOWN.iter().map(|known| known.name).collect();
                    return invalid(
                        format!("there is no client setting `{key}`"),
                        format!("use one of {}, priority, collection", names.join(", ")),
                    );
                };
                let fits = match known.values {
                    [] => value.parse::<u16>().is_ok_and(|port| port > 0),
                    values => values.contains(&value.as_str()),
                };
                if value.is_empty() {
                    chosen.remove(key);
                } else if fits {
                    chosen.insert(key.to_owned(), Value::from(value));
                } else {
                    let accepted = match known.values {
                        [] => "a number from 1 to 65535".to_owned(),
                        values => values.join(", "),
                    };
                    return invalid(format!("`{key}` does not accept this value"), format!("use {accepted}"));
                }
            }
        }
    }
    row.chosen = Value::Object(chosen);
    Ok(row)
}

/// The settings that everybody is told.
const DEFAULT: &str = "default";

/// Changes settings, or makes them where a priority is given.
///
/// # Errors
/// `INVALID_SETTING`, `SETTINGS_NOT_FOUND`, `COLLECTION_NOT_FOUND`.
pub async fn set(
    site: &Arc<Site>,
    name: &str,
    changes: &[(String, String)],
    caller: &Caller,
) -> Result<Answer, Problem> {
    let row = match named(site, name).await {
        Ok(row) => row,
        Err(problem) if changes.iter().all(|(key, _)| key != "priority") => return Err(problem),
        Err(_) => SettingsRow {
            name: names::checked("a set of client settings", name, Rule::Shown)?,
            priority: None,
            chosen: Value::Null,
            collections: Vec::new(),
        },
    };
    let row = changed(row, changes)?;
    for collection in &row.collections {
        collections::named(site, collection).await?;
    }
    let note = (row.priority.is_some() && row.collections.is_empty())
        .then_some("these settings name no collection, so nobody is told them");
    if !caller.dry_run {
        let (saved, who) = (row.clone(), caller.who.clone());
        site.write(move |w| {
            w.save_client_settings(&saved)?;
            w.audit(&who, "settings.set", &saved.name, clock::now())
        })
        .await?;
    }
    Answer::of(&serde_json::json!({ "settings": row, "note": note, "dry_run": caller.dry_run }))
}

/// What a device is told, and by which settings.
///
/// # Errors
/// Those of the database.
pub async fn effective(site: &Arc<Site>, device: &str) -> Result<Answer, Problem> {
    let (rows, collections) = site.read(|r| Ok((r.client_settings()?, r.collections()?))).await?;
    Answer::of(&effective_of(device, &rows, &collections))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, priority: Option<u32>, collections: &[&str], chosen: Value) -> SettingsRow {
        let collections = collections.iter().map(|name| (*name).to_owned()).collect();
        SettingsRow { name: name.to_owned(), priority, chosen, collections }
    }

    #[test]
    fn the_lowest_number_that_says_something_wins() {
        let ring = Collection { name: "ring".to_owned(), built_in: false, devices: vec!["pc1".to_owned()] };
        let rows = [
            row("slow", Some(5), &["ring"], serde_json::json!({ "thread_priority": "low" })),
            row("lone", Some(6), &[], serde_json::json!({ "dynamic_update": "no" })),
            row(
                "wide",
                Some(9),
                &["RING"],
                serde_json::json!({ "thread_priority": "normal", "delta_content": "yes" }),
            ),
            row("default", None, &[], serde_json::json!({ "dynamic_update": "yes" })),
        ];
        let told = |device: &str| -> Vec<String> {
            let all = effective_of(device, &rows, std::slice::from_ref(&ring));
            all.into_iter().map(|one| format!("{}={} {}", one.setting, one.value, one.from)).collect()
        };
        // What is said of many at once is the same.
        let devices = ["pc1", "PC1", "pc2"].map(str::to_owned);
        for known in &KNOWN {
            let each: Vec<String> = devices
                .iter()
                .map(|device| {
                    let all = effective_of(device, &rows, std::slice::from_ref(&ring));
                    all.into_iter().find(|one| one.setting == known.name).unwrap().value
                })
                .collect();
            let together = values_of(known.name, &devices, &rows, std::slice::from_ref(&ring));
            assert_eq!(together, each, "{}", known.name);
        }
        assert_eq!(
            told("PC1"),
            [
                "thread_priority=low slow",
                "dynamic_update=yes default",
                "delta_content=yes wide",
                "delta_port=8005 built-in"
            ]
        );
        assert_eq!(
            told("pc2"),
            [
                "thread_priority=not-configured built-in",
                "dynamic_update=yes default",
                "delta_content=no built-in",
                "delta_port=8005 built-in"
            ]
        );
    }

    #[test]
    fn other_values_are_refused() {
        let set = |key: &str, value: &str| {
            changed(row("x", Some(1), &[], Value::Null), &[(key.to_owned(), value.to_owned())])
        };
        for (key, value) in [
            ("thread_priority", "high"),
            ("dynamic_update", "maybe"),
            ("delta_content", "1"),
            ("delta_port", "0"),
            ("delta_port", "65536"),
            ("priority", "0"),
            ("priority", "x"),
            ("colour", "red"),
        ] {
            assert_eq!(set(key, value).unwrap_err().code, Code::InvalidSetting, "{key}={value}");
        }
        assert_eq!(set("thread_priority", "Normal").unwrap().chosen["thread_priority"], "normal");
        assert_eq!(set("delta_port", "65535").unwrap().chosen["delta_port"], "65535");
        let default =
            changed(row("default", None, &[], Value::Null), &[("priority".to_owned(), "1".to_owned())]);
        assert_eq!(default.unwrap_err().code, Code::InvalidSetting);
    }
}
