//! Which of all the updates that catalogs offer this site wants: pure decisions about names.
//!
//! Selection decides what is listed and what is downloaded. It never deletes: an update outside of it is recorded
//! all the same, and counted among the hidden ones with the reason that [`Unselected`] names.
//!
//! What an empty list means differs, and is the one thing to know:
//!
//! | part | empty list | `["*"]` |
//! | --- | --- | --- |
//! | products, releases, editions | all of them | all of them |
//! | languages, architectures | none was chosen, nothing is listed | all of them |
//! | classifications | none, nothing is listed | all of them |
//!
//! An update whose file name said nothing (an *unrecognised* one: it has no product) is selected only while
//! products, releases and editions are all unrestricted. Who restricts any of them asks for something definite, and
//! a file that cannot say what it is is not it; who does not must not lose a new naming scheme silently.
//! Languages and architectures are stated by the catalog itself, so they apply to unrecognised updates as to others.
//!
//! An update server files an update under several products. Selecting one of them selects it, and `Windows 10` selects
//! `Windows 10, version 1903 and later` too, because that is what the update is an update to.

mod names;
mod plan;

use std::fmt;

use catalog::problem::{Code, Problem};
use serde::{Deserialize, Serialize};

pub use names::{ARCHITECTURES, KnownNames, validate, validate_change};
pub use plan::{Count, Plan, UNRECOGNISED, plan};

/// Stands for all names of a part.
pub const ALL: &str = "*";

/// The classification of feature updates: without it nothing is listed (mission row M13).
pub const UPGRADES: &str = "Upgrades";

/// What sort of update something is, as update servers classify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Classification {
    /// The name people use.
    pub name: &'static str,
    /// The GUID that update servers use, lower case ([MS-WSUSSS] update classifications are categories with an
    /// id that is the same everywhere).
    pub id: &'static str,
}

/// Every classification that can be selected, by name.
pub const CLASSIFICATIONS: [Classification; 9] = [
    Classification { name: "Critical Updates", id: "e6cf1350-c01b-414d-a61f-263d14d133b4" },
    Classification { name: "Definition Updates", id: "e0789628-ce08-4437-be74-2495b842f43b" },
    Classification { name: "Feature Packs", id: "b54e7d24-7add-428f-8b75-90a396fa584f" },
    Classification { name: "Security Updates", id: "0fa1201d-4330-4fa8-8ae9-b877473b6441" },
    Classification { name: "Service Packs", id: "68c5b0a3-d1a6-4553-ae49-01d3a7827828" },
    Classification { name: "Tools", id: "b4832bd8-e735-4761-8daf-37f882276dab" },
    Classification { name: "Update Rollups", id: "28bc880e-0592-4cbf-8f95-c79b17911d5f" },
    Classification { name: "Updates", id: "cd5ffd1e-e932-4e3a-bf74-18bf0b1bbd83" },
    Classification { name: UPGRADES, id: "3689bdc8-b205-4af4-8d4a-a63924c5e9d5" },
];

/// What the site wants. Names are compared without regard to case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    /// Sorts of updates.
    pub classifications: Vec<String>,
    /// Products by name: `Windows 11`.
    pub products: Vec<String>,
    /// Releases: `25H2`.
    pub releases: Vec<String>,
    /// Content languages: `en-us`.
    pub languages: Vec<String>,
    /// `x64`, `x86`, `arm64`.
    pub architectures: Vec<String>,
    /// Edition groups: `business`, `consumer`.
    pub editions: Vec<String>,
}

/// What the selection looks at in an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts<'a> {
    /// What sort of update it is.
    pub classification: &'a str,
    /// Its product; `None` for an unrecognised update.
    pub product: Option<&'a str>,
    /// What its upstream files it under, beside that: `Windows 10, version 1903 and later`.
    pub products: &'a [String],
    /// Its release.
    pub release: Option<&'a str>,
    /// Its content language.
    pub language: &'a str,
    /// Its architecture.
    pub architecture: &'a str,
    /// Its edition group.
    pub edition_group: Option<&'a str>,
}

/// Why an update is outside the selection. The text follows a number: "24 of other languages".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unselected {
    /// Its classification is not selected.
    Classification,
    /// Its product is not.
    Product,
    /// Its release is not.
    Release,
    /// Its edition group is not.
    Edition,
    /// Its architecture is not.
    Architecture,
    /// Its language is not.
    Language,
    /// It does not say what it is, and the selection asks for something definite.
    Unrecognised,
}

impl fmt::Display for Unselected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Classification => "of classifications that are not selected",
            Self::Product => "of other products",
            Self::Release => "of other releases",
            Self::Edition => "of other edition groups",
            Self::Architecture => "of other architectures",
            Self::Language => "of other languages",
            Self::Unrecognised => "unrecognised, while products, releases or editions are selected",
        })
    }
}

impl Selection {
    /// Whether an update is selected; if not, the first reason in the order of [`Unselected`].
    ///
    /// # Errors
    /// Why it is not.
    pub fn matches(&self, facts: &Facts<'_>) -> Result<(), Unselected> {
        let selected = |list: &[String], name: &str| list.iter().any(|entry| names_it(entry, name));
        // What is for every language, or every architecture, is for the chosen ones too.
        let fits = |list: &[String], name: &str| selected(list, name) || (name == ALL && !list.is_empty());
        // Empty means all here; a fact that is missing can satisfy nothing definite.
        let open = |list: &[String], fact: Option<&str>, reason| match fact {
            _ if unrestricted(list) => Ok(()),
            Some(name) if fits(list, name) => Ok(()),
            Some(_) => Err(reason),
            None => Err(Unselected::Unrecognised),
        };
        if !self.has_classification(facts.classification) {
            return Err(Unselected::Classification);
        }
        if !facts.products.iter().any(|product| selected(&self.products, product)) {
            open(&self.products, facts.product, Unselected::Product)?;
        }
        open(&self.releases, facts.release, Unselected::Release)?;
        open(&self.editions, facts.edition_group, Unselected::Edition)?;
        if !fits(&self.architectures, facts.architecture) {
            return Err(Unselected::Architecture);
        }
        if !fits(&self.languages, facts.language) {
            return Err(Unselected::Language);
        }
        Ok(())
    }

    /// Whether feature updates are wanted at all.
    pub fn has_upgrades(&self) -> bool {
        self.has_classification(UPGRADES)
    }

    /// The note that explains an empty list where feature updates are not wanted.
    pub fn upgrades_off(&self) -> Option<Problem> {
        (!self.has_upgrades()).then(|| {
            Problem::new(Code::ClassificationNotEnabled, Code::ClassificationNotEnabled.page().meaning)
        })
    }

    /// Classifications may be selected by name or by id.
    fn has_classification(&self, name: &str) -> bool {
        let id =
            CLASSIFICATIONS.iter().find(|known| known.name.eq_ignore_ascii_case(name)).map(|known| known.id);
        self.classifications
            .iter()
            .any(|entry| names_it(entry, name) || id.is_some_and(|id| names_it(entry, id)))
    }
}

fn names_it(entry: &str, name: &str) -> bool {
    entry == ALL || entry.to_lowercase() == name.to_lowercase()
}

fn unrestricted(list: &[String]) -> bool {
    list.is_empty() || list.iter().any(|entry| entry == ALL)
}

#[cfg(test)]
mod tests;
