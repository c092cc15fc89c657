//! What points say that they have served: kept in memory, and only ever more.
//!
//! A point counts from its start, and says its numbers with every report. When it starts anew, what it said before stays.

use std::collections::BTreeMap;

use dp::server::Source;
use dp::server::tally::MOST_GROUPS;
use uuid::Uuid;

use super::wire::ServedBytes;

/// Bytes by boundary group, then by who served.
pub type Groups = BTreeMap<String, BTreeMap<String, u64>>;

/// The longest name of a group, in characters; administrators cannot give longer ones.
const LONGEST_NAME: usize = 100;

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
            (1..=LONGEST_NAME).contains(&group.chars().count()) && !group.chars().any(char::is_control)
        };
        let fitting = said.iter().filter(|one| known(&one.source) && named(&one.group));
        for one in fitting.take((MOST_GROUPS + 1) * Source::ALL.len()) {
            let bytes = self.now.entry(one.group.clone()).or_default().entry(one.source.clone()).or_default();
            // A counter does not go back within one process.
            *bytes = one.bytes.max(*bytes);
        }
    }

    /// All of it.
    pub fn all(&self) -> Groups {
        let mut all = self.before.clone();
        add(&mut all, &self.now);
        all
    }
}

/// Adds what `more` says.
pub fn add(all: &mut Groups, more: &Groups) {
    for (group, sources) in more {
        let row = all.entry(group.clone()).or_default();
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
