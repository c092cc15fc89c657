//! What another selection would list, before it is made.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Facts, Selection};

/// Stands in a [`Plan`] for the product or release of updates that do not tell it.
pub const UNRECOGNISED: &str = "(unrecognised)";

/// Some updates and the bytes of their files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// How many updates.
    pub updates: u64,
    /// Bytes of their files together, if each were downloaded alone.
    pub bytes: u64,
}

impl Count {
    fn add(&mut self, bytes: u64) {
        self.updates += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// The effect of a selection on the updates that catalogs offer now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Updates that it lists.
    pub listed: u64,
    /// Bytes of all of them: what downloading everything would take at most.
    pub bytes: u64,
    /// By product.
    pub by_product: BTreeMap<String, Count>,
    /// By release.
    pub by_release: BTreeMap<String, Count>,
    /// By language.
    pub by_language: BTreeMap<String, Count>,
    /// Updates that it lists and the one before did not.
    pub added: u64,
    /// Updates that the one before listed and it does not.
    pub removed: u64,
    /// Why nothing is listed, where a part of the selection alone explains it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Compares two selections over everything that is offered: each update's facts and the bytes of its file.
pub fn plan<'a>(
    before: &Selection,
    after: &Selection,
    offered: impl IntoIterator<Item = (Facts<'a>, u64)>,
) -> Plan {
    let mut plan = Plan { notes: notes(after), ..Plan::default() };
    for (facts, bytes) in offered {
        let (was, is) = (before.matches(&facts).is_ok(), after.matches(&facts).is_ok());
        plan.added += u64::from(is && !was);
        plan.removed += u64::from(was && !is);
        if is {
            plan.listed += 1;
            plan.bytes = plan.bytes.saturating_add(bytes);
            let count = |by: &mut BTreeMap<String, Count>, name: &str| match by.get_mut(name) {
                Some(count) => count.add(bytes),
                None => by.entry(name.to_owned()).or_default().add(bytes),
            };
            count(&mut plan.by_product, facts.product.unwrap_or(UNRECOGNISED));
            count(&mut plan.by_release, facts.release.unwrap_or(UNRECOGNISED));
            count(&mut plan.by_language, facts.language);
        }
    }
    plan
}

fn notes(selection: &Selection) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(problem) = selection.upgrades_off() {
        notes.push(format!("{}: {}; {}", problem.code, problem.message, problem.help));
    }
    for (part, chosen) in [("language", &selection.languages), ("architecture", &selection.architectures)] {
        if chosen.is_empty() {
            notes.push(format!("no {part} is selected, so nothing is listed; `*` selects all"));
        }
    }
    notes
}
