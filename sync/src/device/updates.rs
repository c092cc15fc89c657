//! Which updates the step Install Software Updates installs (mission row M57): of those that are deployed to collections of the
//! device the ones that apply, in one mode only those with a deadline. All others are named with the reason. Pure.

use std::fmt;

use catalog::id::UpdateId;
use serde::{Deserialize, Serialize};

use crate::policy::DeployedUpdate;
use crate::sequence::action::UpdateMode;

/// An update that a scan of the device found to apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scanned {
    /// Its id.
    pub id: UpdateId,
    /// Its title.
    pub title: String,
}

/// Why an update is not installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It is not deployed to a collection of the device.
    NotTargeted,
    /// It does not apply to the device.
    NotApplicable,
    /// It has no deadline, and the step installs those with one only.
    NoDeadline,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotTargeted => "not-targeted",
            Self::NotApplicable => "not-applicable",
            Self::NoDeadline => "no-deadline",
        })
    }
}

/// What is installed, in order, and what is not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sorted<'a> {
    /// Updates to install.
    pub install: Vec<&'a DeployedUpdate>,
    /// Titles of the others.
    pub skipped: Vec<(&'a str, Why)>,
}

/// Sorts what is deployed and what a scan found. Without a scan everything that is deployed counts as applying.
pub fn sort<'a>(mode: UpdateMode, deployed: &'a [DeployedUpdate], scan: Option<&'a [Scanned]>) -> Sorted<'a> {
    let mut sorted = Sorted::default();
    for update in deployed {
        let applies = scan.is_none_or(|scan| scan.iter().any(|found| found.id == update.id));
        if !applies {
            sorted.skipped.push((&update.title, Why::NotApplicable));
        } else if mode == UpdateMode::Mandatory && !update.mandatory {
            sorted.skipped.push((&update.title, Why::NoDeadline));
        } else {
            sorted.install.push(update);
        }
    }
    for found in scan.into_iter().flatten() {
        if deployed.iter().all(|update| update.id != found.id) {
            sorted.skipped.push((&found.title, Why::NotTargeted));
        }
    }
    sorted
}

/// The most titles of each sort that are named.
const NAMED: usize = 20;

/// The result of a step, for messages.
pub fn words(sorted: &Sorted<'_>) -> String {
    let named = |all: Vec<String>| match all.len() {
        0 => "none".to_owned(),
        count if count > NAMED => format!("{} and {} more", all[..NAMED].join(", "), count - NAMED),
        _ => all.join(", "),
    };
    let short = |title: &str| title.chars().take(40).collect::<String>();
    let installed = named(sorted.install.iter().map(|update| short(&update.title)).collect());
    let skipped =
        named(sorted.skipped.iter().map(|(title, why)| format!("{} ({why})", short(title))).collect());
    format!("installed: {installed}; skipped: {skipped}")
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn deployed(id: u128, mandatory: bool) -> DeployedUpdate {
        DeployedUpdate {
            id: UpdateId(Uuid::from_u128(id)),
            title: format!("KB{id}"),
            mandatory,
            files: Vec::new(),
        }
    }

    fn scanned(ids: &[u128]) -> Vec<Scanned> {
        let one = |id: &u128| Scanned { id: UpdateId(Uuid::from_u128(*id)), title: format!("KB{id}") };
        ids.iter().map(one).collect()
    }

    /// Mission row M57, on the device.
    #[test]
    fn exactly_what_is_deployed_and_applies_is_installed() {
        let all = [deployed(1, true), deployed(2, false), deployed(3, true)];
        let found = scanned(&[1, 2, 9]);
        let told = |mode, scan: Option<&[Scanned]>| words(&sort(mode, &all, scan));
        assert_eq!(
            told(UpdateMode::All, Some(&found)),
            "installed: KB1, KB2; skipped: KB3 (not-applicable), KB9 (not-targeted)"
        );
        assert_eq!(
            told(UpdateMode::Mandatory, Some(&found)),
            "installed: KB1; skipped: KB2 (no-deadline), KB3 (not-applicable), KB9 (not-targeted)"
        );
        assert_eq!(told(UpdateMode::All, None), "installed: KB1, KB2, KB3; skipped: none");
        assert_eq!(words(&sort(UpdateMode::All, &[], None)), "installed: none; skipped: none");
        let many: Vec<_> = (0..1_000).map(|id| deployed(id, true)).collect();
        let long = words(&sort(UpdateMode::All, &many, None));
        assert!(long.contains("and 980 more") && long.chars().count() < 2_000);
    }
}
