//! Which feature updates others replace, and the rule that expires them.
//!
//! An update is superseded where one that counts names it: published, selected, not declined, with all its parts known. One
//! that does not count is looked through, to what replaces it in turn. Updates that replace each other in a circle do not
//! replace each other: that is a defect of the catalog.
//!
//! A superseded update expires some months after the *creation of the one that replaces it* (`[sync]
//! supersedence_months`; 0 means at once). One that is held never does, nor one that is in use: a distribution point
//! serves a package that holds it. Until then it can be deployed. What was expired comes back when the rule no longer holds.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use catalog::id::UpdateId;
use catalog::problem::Problem;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use schema::updates::{ExpiredByRule, Superseding};
use serde::{Deserialize, Serialize};

use super::Listed;
use crate::admin::Answer;
use crate::clock;
use crate::site::Site;

/// Tells each update what replaces it.
pub fn mark(all: &mut [Listed], edges: &[Superseding]) {
    let counting: HashSet<UpdateId> =
        all.iter().filter(|listed| counts(listed)).map(|listed| listed.update.id.update).collect();
    let graph = Graph::new(edges);
    for listed in all {
        listed.superseded_by = graph.superseders(listed.update.id.update, &counting);
    }
}

/// Whether an update may replace others: what nobody can or wants to deploy does not.
fn counts(listed: &Listed) -> bool {
    let update = &listed.update;
    let visible = listed.hidden.is_none() || update.expired_at.is_some();
    update.listed && !update.declined && !update.expired && update.missing == 0 && visible
}

/// Who replaces whom, without circles.
struct Graph {
    by: HashMap<UpdateId, Vec<UpdateId>>,
}

impl Graph {
    fn new(edges: &[Superseding]) -> Self {
        let circle = circles(edges);
        let mut by: HashMap<UpdateId, Vec<UpdateId>> = HashMap::new();
        for edge in edges {
            let in_circle = circle.get(&edge.by).zip(circle.get(&edge.of)).is_some_and(|(a, b)| a == b);
            if !in_circle {
                by.entry(edge.of).or_default().push(edge.by);
            }
        }
        Self { by }
    }

    /// The nearest updates that count among those that replace `update`.
    fn superseders(&self, update: UpdateId, counting: &HashSet<UpdateId>) -> Vec<UpdateId> {
        let mut found = BTreeSet::new();
        let mut seen = HashSet::from([update]);
        let mut open = vec![update];
        while let Some(next) = open.pop() {
            for by in self.by.get(&next).into_iter().flatten() {
                if !seen.insert(*by) {
                    continue;
                }
                if counting.contains(by) {
                    found.insert(*by);
                } else {
                    open.push(*by);
                }
            }
        }
        found.into_iter().collect()
    }
}

/// Numbers the strongly connected parts of the graph (Kosaraju's algorithm, without recursion: the catalog is foreign).
fn circles(edges: &[Superseding]) -> HashMap<UpdateId, usize> {
    let (mut forward, mut backward) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, Vec<_>>::new());
    for edge in edges {
        forward.entry(edge.by).or_default().push(edge.of);
        forward.entry(edge.of).or_default();
        backward.entry(edge.of).or_default().push(edge.by);
    }
    let (mut order, mut seen) = (Vec::new(), HashSet::new());
    for start in forward.keys() {
        let mut open = vec![(*start, false)];
        while let Some((node, done)) = open.pop() {
            if done {
                order.push(node);
            } else if seen.insert(node) {
                open.push((node, true));
                open.extend(forward.get(&node).into_iter().flatten().map(|next| (*next, false)));
            }
        }
    }
    let mut part = HashMap::new();
    for (number, start) in order.into_iter().rev().enumerate() {
        let mut open = vec![start];
        while let Some(node) = open.pop() {
            if let std::collections::hash_map::Entry::Vacant(free) = part.entry(node) {
                free.insert(number);
                open.extend(backward.get(&node).into_iter().flatten());
            }
        }
    }
    part
}

/// One update that the rule speaks about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Which.
    pub update: UpdateId,
    /// Its title.
    pub title: String,
    /// What replaces it.
    pub superseded_by: Vec<UpdateId>,
    /// When it expires, or was due to; `None` where no creation date of what replaces it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// Why nothing happens to it, where nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_because: Option<String>,
}

/// What the rule does now, and will do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Months of the rule.
    pub months: u32,
    /// Updates that expire now.
    pub expire: Vec<Row>,
    /// Updates that are expired already and stay so.
    pub expired: Vec<Row>,
    /// Updates that expire later.
    pub later: Vec<Row>,
    /// Updates that are due and kept.
    pub kept: Vec<Row>,
    /// Updates that come back.
    pub restore: Vec<Row>,
}

/// Decides what the rule does at `now`. Pure.
pub fn plan(all: &[Listed], in_use: &[UpdateId], months: u32, now: Timestamp) -> Plan {
    let created: HashMap<UpdateId, Option<Timestamp>> =
        all.iter().map(|listed| (listed.update.id.update, listed.update.created)).collect();
    let in_use: HashSet<UpdateId> = in_use.iter().copied().collect();
    let mut plan = Plan { months, ..Plan::default() };
    for listed in all {
        let update = &listed.update;
        let first = listed.superseded_by.iter().filter_map(|by| created.get(by).copied().flatten()).min();
        let due = first.and_then(|first| after_months(first, months));
        let kept_because = if update.held {
            Some("it is held")
        } else if in_use.contains(&update.id.update) {
            Some("a package that holds it is distributed")
        } else {
            None
        };
        let row = Row {
            update: update.id.update,
            title: update.title.clone(),
            superseded_by: listed.superseded_by.clone(),
            due,
            kept_because: kept_because.map(str::to_owned),
        };
        let is_due = due.is_some_and(|due| due <= now);
        match (update.expired_at.is_some(), is_due, kept_because.is_some()) {
            (true, true, false) => plan.expired.push(row),
            (true, _, _) => plan.restore.push(row),
            (false, true, true) => plan.kept.push(row),
            (false, true, false) => plan.expire.push(row),
            (false, false, _) if !listed.superseded_by.is_empty() => plan.later.push(row),
            (false, false, _) => {}
        }
    }
    plan
}

fn after_months(time: Timestamp, months: u32) -> Option<Timestamp> {
    let span = Span::new().try_months(i64::from(months)).ok()?;
    Some(time.to_zoned(TimeZone::UTC).checked_add(span).ok()?.timestamp())
}

async fn planned(site: &Arc<Site>) -> Result<Plan, Problem> {
    let all = super::all(site).await?;
    let in_use = site.read(|r| r.updates_in_use()).await?;
    Ok(plan(&all, &in_use, site.settings().sync.supersedence_months, clock::now()))
}

/// Shows what the rule does, and changes nothing.
///
/// # Errors
/// Those of the database.
pub async fn show(site: &Arc<Site>) -> Result<Answer, Problem> {
    Answer::of(&planned(site).await?)
}

/// Carries the rule out; what it did. Nothing is written where nothing changes.
///
/// # Errors
/// Those of the database.
pub async fn apply(site: &Arc<Site>) -> Result<Plan, Problem> {
    let plan = planned(site).await?;
    let now = clock::now();
    let changes: Vec<_> = plan
        .expire
        .iter()
        .map(|row| ExpiredByRule { update: row.update, at: Some(now) })
        .chain(plan.restore.iter().map(|row| ExpiredByRule { update: row.update, at: None }))
        .collect();
    if !changes.is_empty() {
        site.write(move |w| w.set_expired_by_rule(&changes)).await?;
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use schema::updates::Superseding;

    use super::*;

    fn id(n: u128) -> UpdateId {
        UpdateId(uuid::Uuid::from_u128(n))
    }

    fn edge(by: u128, of: u128) -> Superseding {
        Superseding { by: id(by), of: id(of) }
    }

    #[test]
    fn what_does_not_count_is_looked_through_and_circles_replace_nothing() {
        for (edges, counting, of, expected) in [
            (vec![edge(2, 1)], vec![2], 1, vec![2]),
            (vec![edge(2, 1), edge(3, 2)], vec![2, 3], 1, vec![2]),
            (vec![edge(2, 1), edge(3, 2)], vec![3], 1, vec![3]),
            (vec![edge(2, 1), edge(3, 1)], vec![2, 3], 1, vec![2, 3]),
            (vec![edge(2, 1), edge(1, 2)], vec![1, 2], 1, vec![]),
            (vec![edge(1, 1)], vec![1], 1, vec![]),
            (vec![edge(2, 1), edge(3, 2), edge(2, 3)], vec![2, 3], 1, vec![2]),
            (vec![edge(2, 1), edge(3, 2), edge(1, 3), edge(4, 3)], vec![1, 2, 3, 4], 3, vec![4]),
            (vec![], vec![1], 1, vec![]),
        ] {
            let counting = counting.into_iter().map(id).collect();
            let expected: Vec<_> = expected.into_iter().map(id).collect();
            assert_eq!(Graph::new(&edges).superseders(id(of), &counting), expected, "{edges:?}");
        }
    }

    #[test]
    fn a_long_chain_neither_overflows_nor_takes_long() {
        let edges: Vec<_> = (1..50_000).map(|n| edge(n + 1, n)).collect();
        let graph = Graph::new(&edges);
        assert_eq!(graph.superseders(id(1), &HashSet::from([id(50_000)])), [id(50_000)]);
    }

    #[test]
    fn months_are_calendar_months() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        assert_eq!(after_months(at("2026-11-30T17:00:00Z"), 3), Some(at("2027-02-28T17:00:00Z")));
        assert_eq!(after_months(at("2026-01-15T17:00:00Z"), 0), Some(at("2026-01-15T17:00:00Z")));
        assert_eq!(after_months(at("2026-01-15T17:00:00Z"), u32::MAX), None);
    }
}
