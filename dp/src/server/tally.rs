//! Bytes by boundary group: who was served by whom, in numbers that only grow.
//!
//! Groups are named by administrators, so there may be any number of them: [`MOST_GROUPS`] have a row of their own, those
//! that come later share [`OTHER`]. A row is found once for a connection; counting in it waits for nobody.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Groups with a row of their own.
pub const MOST_GROUPS: usize = 256;
/// The row of all others, and of addresses of which nobody knows the group.
pub const OTHER: &str = "other";

/// Who knows in which boundary group an address is.
pub trait Grouping: Send + Sync {
    /// The group whose clients one at this address is counted with: one, also where several are around it.
    fn group_of(&self, client: IpAddr) -> Option<String>;

    /// Whether a distribution point is at this address, as far as anybody knows: many clients may have their content from it.
    fn is_point(&self, _client: IpAddr) -> bool {
        false
    }
}

/// Numbers by group and by one of `N` kinds.
#[derive(Debug)]
pub struct Tally<const N: usize> {
    rows: RwLock<BTreeMap<String, Arc<Row<N>>>>,
}

/// Numbers of one group.
#[derive(Debug)]
pub struct Row<const N: usize> {
    group: String,
    counts: [AtomicU64; N],
}

impl<const N: usize> Default for Tally<N> {
    fn default() -> Self {
        Self { rows: RwLock::default() }
    }
}

impl<const N: usize> Tally<N> {
    /// The row of a group, or of all others where there are too many.
    pub fn row(&self, group: Option<&str>) -> Arc<Row<N>> {
        let group = group.filter(|group| !group.is_empty()).unwrap_or(OTHER);
        if let Some(row) = self.rows.read().unwrap_or_else(PoisonError::into_inner).get(group) {
            return row.clone();
        }
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        let full = rows.len() - usize::from(rows.contains_key(OTHER)) >= MOST_GROUPS;
        let group = if full && !rows.contains_key(group) { OTHER } else { group };
        let new = || {
            let counts = std::array::from_fn(|_| AtomicU64::new(0));
            Arc::new(Row { group: group.to_owned(), counts })
        };
        rows.entry(group.to_owned()).or_insert_with(new).clone()
    }

    /// Every row, by the name of its group.
    pub fn rows(&self) -> Vec<Arc<Row<N>>> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

impl<const N: usize> Row<N> {
    /// The group.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Counts more of one kind.
    pub fn add(&self, kind: usize, more: u64) {
        self.counts[kind].fetch_add(more, Ordering::Relaxed);
    }

    /// How many of it.
    pub fn of(&self, kind: usize) -> u64 {
        self.counts[kind].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_groups_ends_in_one_row_and_nothing_is_lost() {
        let tally = Tally::<2>::default();
        for number in 0..MOST_GROUPS + 50 {
            tally.row(Some(&format!("G{number}"))).add(1, 1);
        }
        tally.row(None).add(1, 7);
        tally.row(Some("")).add(1, 2);
        tally.row(Some("G3")).add(0, 5);
        let rows = tally.rows();
        assert_eq!(rows.len(), MOST_GROUPS + 1);
        let of = |group: &str, kind| rows.iter().find(|row| row.group() == group).map(|row| row.of(kind));
        assert_eq!((of("G3", 0), of("G3", 1), of(OTHER, 1)), (Some(5), Some(1), Some(59)));
        assert_eq!(of("G300", 1), None);
        assert_eq!(rows.iter().map(|row| row.of(1)).sum::<u64>(), MOST_GROUPS as u64 + 59);
    }
}
