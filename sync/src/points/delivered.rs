//! What points say that they have served: kept in memory, and only ever more.
//!
//! A point counts from its start, and says its numbers with every report. When it starts anew, what it said before stays.

use std::collections::BTreeMap;

use dp::server::Source;
use dp::server::tally::{MOST_GROUPS, OTHER};
use uuid::Uuid;

use super::wire::ServedBytes;
use crate::names::LONGEST_OF_BOUNDARIES;

/// Bytes by boundary group, then by who served.
pub type Groups = BTreeMap<String, BTreeMap<String, u64>>;

/// What one point has served, as far as the site was told.
#[derive(Debug, Default)]
pub struct Delivered {
    before: Groups,
    boot: Uuid,
    now: Groups,
}

impl Delivered {
    /// Takes down what the process `boot` has served so far. What is no name or kind of ours, or too much, is left out.
    pub fn say(&mut self, boot: Uuid, said: &[ServedBytes]) {
        if self.boot != boot {
            add(&mut self.before, &std::mem::take(&mut self.now));
            self.boot = boot;
        }
        let known = |source: &str| Source::ALL.iter().any(|one| one.name() == source);
        let named = |group: &str| {
            (1..=LONGEST_OF_BOUNDARIES).contains(&group.chars().count())
                && !group.chars().any(char::is_control)
        };
        let fitting = said.iter().filter(|one| known(&one.source) && named(&one.group));
        for one in fitting.take((MOST_GROUPS + 1) * Source::ALL.len()) {
            let bytes = row(&mut self.now, &one.group).entry(one.source.clone()).or_default();
            // A counter does not go back within one process.
            *bytes = one.bytes.max(*bytes);
        }
    }

    /// What was served before this process began and since then, by group and kind.
    pub fn all(&self) -> Groups {
        let mut all = self.before.clone();
        add(&mut all, &self.now);
        all
    }
}

/// The row of a group, or of all others where there are too many: a point may name others with every report.
fn row<'g>(all: &'g mut Groups, group: &str) -> &'g mut BTreeMap<String, u64> {
    let full = all.len() - usize::from(all.contains_key(OTHER)) >= MOST_GROUPS;
    let group = if full && !all.contains_key(group) { OTHER } else { group };
    all.entry(group.to_owned()).or_default()
}

/// Adds what `more` says.
pub fn add(all: &mut Groups, more: &Groups) {
    for (group, sources) in more {
        let row = row(all, group);
        for (source, bytes) in sources {
            let sum = row.entry(source.clone()).or_default();
            *sum = sum.saturating_add(*bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(group: &str, source: &str, bytes: u64) -> ServedBytes {
        ServedBytes { group: group.to_owned(), source: source.to_owned(), bytes }
    }

    #[test]
    fn numbers_of_a_point_only_grow_also_over_its_restarts() {
        let mut delivered = Delivered::default();
        let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
        delivered.say(first, &[said("LYON", "distribution-point", 5), said("ROME", "pull-through", 1)]);
        delivered.say(first, &[said("LYON", "distribution-point", 9)]);
        delivered.say(first, &[said("LYON", "distribution-point", 3)]);
        delivered.say(second, &[said("LYON", "distribution-point", 2)]);
        let all = delivered.all();
        assert_eq!(all["LYON"]["distribution-point"], 11);
        assert_eq!(all["ROME"]["pull-through"], 1);
    }

    #[test]
    fn groups_that_a_point_makes_up_are_one() {
        let mut delivered = Delivered::default();
        delivered.say(Uuid::nil(), &[said("LYON", "peer", 3)]);
        for report in 0..4_u128 {
            // Within a process, and then over its restarts.
            let boot = Uuid::from_u128(report / 2);
            let more: Vec<_> =
                (0..400).map(|number| said(&format!("G{report}-{number}"), "peer", 1)).collect();
            delivered.say(boot, &more);
            assert!(delivered.now.len() <= MOST_GROUPS + 1 && delivered.before.len() <= MOST_GROUPS + 1);
        }
        delivered.say(Uuid::from_u128(9), &[said("LYON", "peer", 4), said("ROME", "peer", 5)]);
        let all = delivered.all();
        assert!(all.len() <= MOST_GROUPS + 1, "{}", all.len());
        assert_eq!(all["LYON"]["peer"], 7, "who has a row keeps it");
        assert!(all[OTHER]["peer"] >= 5 && !all.contains_key("ROME"));
    }

    #[test]
    fn what_is_no_number_of_ours_is_left_out() {
        let mut delivered = Delivered::default();
        let (long, odd) = ("x".repeat(101), "a\u{1b}[1m");
        let mut all = vec![
            said("LYON", "cloud nine", 5),
            said("", "peer", 5),
            said(&long, "peer", 5),
            said(odd, "peer", 5),
            said("LYON", "peer", u64::MAX),
        ];
        all.extend((0..2_000).map(|number| said(&format!("G{number}"), "peer", 1)));
        delivered.say(Uuid::nil(), &all);
        delivered.say(Uuid::from_u128(1), &[said("LYON", "peer", 1)]);
        let all = delivered.all();
        assert_eq!(all["LYON"]["peer"], u64::MAX);
        assert!(!all.contains_key("") && !all.contains_key(odd) && all.len() < 1_000);
    }
}
