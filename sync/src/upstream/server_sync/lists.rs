//! Lists: what is asked for, and what becomes of the answer.
//!
//! Another selection than that of the anchor costs the difference. What was selected before is asked for with the anchor,
//! what is new without one: in calls of their own, because servers differ in what an anchor means beside a part that is
//! wanted in full, and all understand either alone (docs/decisions/0009).

use std::collections::VecDeque;

use catalog::id::{RevisionId, UpdateId};
use catalog::problem::{Code, Problem};
use catalog::server_sync::{Filter, IdAndDelta, RevisionIdList};
use catalog::xml::shown;
use schema::servers::{Anchor, ListFilter, Scope};

use super::machine::{Conversation, Resumed, Stage};

/// The longest anchor that is kept; real ones have some thirty characters.
const LONGEST_ANCHOR: usize = 4096;

/// One call of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) scope: Scope,
    pub(super) filter: ListFilter,
    /// Only what is new since.
    pub(super) since: Option<String>,
}

/// A list that is being asked for.
#[derive(Debug, Default)]
pub(super) struct Listing {
    filter: ListFilter,
    parts: VecDeque<Part>,
    /// The first part's anchor: what comes after it, comes again next time.
    anchor: Option<String>,
    revisions: Vec<RevisionId>,
    /// Everything was asked for since an anchor with the same filter.
    only_news: bool,
}

impl Listing {
    fn new(scope: Scope, filter: ListFilter, before: Option<&Anchor>) -> Self {
        let parts: VecDeque<Part> = parts(scope, &filter, before).into();
        let only_news = before.is_some_and(|before| before.filter == filter && !before.anchor.is_empty());
        Self { filter, parts, only_news, ..Self::default() }
    }

    /// Where it ends, and all that it named.
    pub(super) fn ends(self) -> (Anchor, Vec<RevisionId>) {
        (Anchor { anchor: self.anchor.unwrap_or_default(), filter: self.filter }, self.revisions)
    }
}

/// The calls that give what `filter` wants and was not given with `before`.
fn parts(scope: Scope, filter: &ListFilter, before: Option<&Anchor>) -> Vec<Part> {
    let part = |categories: Vec<UpdateId>, classifications: Vec<UpdateId>, since: Option<&Anchor>| {
        let filter = ListFilter { categories, classifications };
        // Nothing of one of the two is nothing at all, and must not be asked: two empty lists mean everything.
        let something = !filter.categories.is_empty() && !filter.classifications.is_empty();
        let since = since.map(|anchor| anchor.anchor.clone());
        (something || scope == Scope::Categories).then_some(Part { scope, filter, since })
    };
    let before = before.filter(|before| !before.anchor.is_empty());
    let Some(before) = before.filter(|_| scope == Scope::Updates) else {
        return part(filter.categories.clone(), filter.classifications.clone(), before).into_iter().collect();
    };
    let split = |wanted: &[UpdateId], known: &[UpdateId]| -> (Vec<UpdateId>, Vec<UpdateId>) {
        wanted.iter().partition(|id| known.contains(id))
    };
    let (old_categories, new_categories) = split(&filter.categories, &before.filter.categories);
    let (old_classes, new_classes) = split(&filter.classifications, &before.filter.classifications);
    [
        part(old_categories.clone(), old_classes, Some(before)),
        part(new_categories, filter.classifications.clone(), None),
        part(old_categories, new_classes, None),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The filter on the wire.
pub(super) fn list_request(part: &Part) -> Filter {
    let with_delta =
        |ids: &[UpdateId]| ids.iter().map(|id| IdAndDelta { id: *id, delta: part.since.is_some() }).collect();
    Filter {
        anchor: part.since.clone(),
        get_config: part.scope == Scope::Categories,
        only_63_languages: false,
        categories: with_delta(&part.filter.categories),
        classifications: with_delta(&part.filter.classifications),
        languages: Vec::new(),
    }
}

impl Conversation {
    /// Begins a scope: with what an earlier run left, or with a list. What it left of another selection is not wanted any
    /// more: a new list with the anchor from before names again whatever of it still is.
    pub(super) fn enter(&mut self, scope: Scope) {
        let wanted = self.filter(scope);
        match self.known.passes.remove(&scope).filter(|pass| pass.ends.filter == wanted) {
            Some(pass) => {
                self.known.anchors.insert(scope, pass.ends);
                self.fetch(scope, pass.pending, true);
            }
            None => self.stage = Stage::Listing(scope),
        }
    }

    /// A pass ended. One that an earlier run began is followed by a list of what is new since.
    pub(super) fn ended(&mut self, scope: Scope, resumed: Resumed) {
        self.stage = match (scope, resumed) {
            (_, true) => Stage::Listing(scope),
            (Scope::Categories, false) => Stage::Choosing,
            (Scope::Updates, false) => Stage::Finished,
        };
    }

    /// No updates are listed, or none that are new: then what they need is there, but for what was set aside or left.
    pub(super) fn nothing_new(&mut self) {
        let more = !self.known.quarantined.is_empty() || self.known.left || self.options.full;
        self.stage = if more { Stage::Depending(0) } else { Stage::Finished };
    }

    fn filter(&self, scope: Scope) -> ListFilter {
        match scope {
            Scope::Categories => ListFilter::default(),
            Scope::Updates => self.chosen.filter.clone().unwrap_or_default(),
        }
    }

    /// The next call of the list; `None` where there is none, as for an empty selection.
    pub(super) fn next_part(&mut self, scope: Scope) -> Option<Part> {
        if self.listing.is_none() {
            let anew = self.options.full || (self.options.anew && scope == Scope::Updates);
            let before = self.known.anchors.get(&scope).filter(|_| !anew);
            self.listing = Some(Listing::new(scope, self.filter(scope), before));
        }
        self.listing.as_mut().and_then(|listing| listing.parts.pop_front())
    }

    /// All that the chosen categories have, of every classification: where ids of what is missing are looked for.
    pub(super) fn everything(&self) -> Part {
        let filter = ListFilter {
            categories: self.filter(Scope::Updates).categories,
            classifications: self.chosen.classifications.clone(),
        };
        Part { scope: Scope::Updates, filter, since: None }
    }

    pub(super) fn listed(&mut self, part: &Part, list: RevisionIdList) {
        if list.anchor.len() > LONGEST_ANCHOR {
            let text = format!("the anchor of {} has {} bytes", part.scope, list.anchor.len());
            return self.give_up(
                Problem::new(Code::ProtocolMalformed, text)
                    .because(format!("expected at most {LONGEST_ANCHOR}")),
            );
        }
        if let Some(before) = part.since.as_ref().filter(|before| went_back(before, &list.anchor)) {
            self.notes.push(format!(
                "the anchor of {} went back, from `{}` to `{}`: the server may have been restored",
                part.scope,
                shown(before),
                shown(&list.anchor)
            ));
        }
        self.count().listed += list.revisions.len() as u64;
        let Some(listing) = &mut self.listing else { return };
        listing.anchor.get_or_insert(list.anchor);
        listing.revisions.extend(list.revisions);
        if !listing.parts.is_empty() {
            return;
        }
        // Nothing new since an anchor that was asked with the same filter: the anchor that we have is as good as the new
        // one, and nothing is written.
        if listing.only_news && listing.revisions.is_empty() {
            self.listing = None;
            return match part.scope {
                Scope::Categories => self.stage = Stage::Choosing,
                Scope::Updates => self.nothing_new(),
            };
        }
        self.stage = Stage::Beginning(part.scope);
    }

    /// The server does not know its own anchor any more: the list is asked for in full.
    pub(super) fn forget_anchor(&mut self, scope: Scope) {
        self.notes.push(format!("the server does not take its own anchor of {scope} any more"));
        self.known.anchors.remove(&scope);
        self.listing = None;
        self.stage = Stage::Listing(scope);
    }
}

/// Whether two anchors have the form that Windows gives them, `counter,2026-10-04 16:33:26.671`, and the second is older.
/// Nothing is decided by it; it is only told.
fn went_back(before: &str, after: &str) -> bool {
    let time = |anchor: &str| {
        let time = anchor.rsplit(',').next().unwrap_or_default().trim();
        let digits = time.len() >= 19
            && time.bytes().all(|byte| byte.is_ascii_digit() || b"-: .".contains(&byte))
            && time.as_bytes()[4] == b'-';
        digits.then(|| time.to_owned())
    };
    matches!((time(before), time(after)), (Some(before), Some(after)) if after < before)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: &[u128]) -> Vec<UpdateId> {
        numbers.iter().map(|n| UpdateId(uuid::Uuid::from_u128(*n))).collect()
    }

    fn filter(categories: &[u128], classifications: &[u128]) -> ListFilter {
        ListFilter { categories: ids(categories), classifications: ids(classifications) }
    }

    /// Categories, classifications, and whether an anchor goes with them.
    type Asked = (Vec<u128>, Vec<u128>, bool);

    #[test]
    fn a_changed_selection_is_asked_for_in_parts() {
        let before = |f| Anchor { anchor: "1,x".to_owned(), filter: f };
        let rows: Vec<(Option<Anchor>, ListFilter, Vec<Asked>)> = vec![
            (None, filter(&[1, 2], &[9]), vec![(vec![1, 2], vec![9], false)]),
            (Some(before(filter(&[1], &[9]))), filter(&[1], &[9]), vec![(vec![1], vec![9], true)]),
            (
                Some(before(filter(&[1], &[9]))),
                filter(&[1, 2], &[9]),
                vec![(vec![1], vec![9], true), (vec![2], vec![9], false)],
            ),
            (
                Some(before(filter(&[1], &[8]))),
                filter(&[1, 2], &[8, 9]),
                vec![(vec![1], vec![8], true), (vec![2], vec![8, 9], false), (vec![1], vec![9], false)],
            ),
            (Some(before(filter(&[1, 2], &[9]))), filter(&[2], &[9]), vec![(vec![2], vec![9], true)]),
            (Some(before(filter(&[1], &[8]))), filter(&[2], &[9]), vec![(vec![2], vec![9], false)]),
            // An anchor without a text is none.
            (
                Some(Anchor { anchor: String::new(), filter: filter(&[1], &[9]) }),
                filter(&[1], &[9]),
                vec![(vec![1], vec![9], false)],
            ),
            // Never two empty lists, which would ask for everything.
            (None, filter(&[], &[]), vec![]),
            (None, filter(&[1], &[]), vec![]),
        ];
        for (anchor, wanted, expected) in rows {
            let numbers = |ids: &[UpdateId]| ids.iter().map(|id| id.0.as_u128()).collect::<Vec<_>>();
            let actual: Vec<Asked> = parts(Scope::Updates, &wanted, anchor.as_ref())
                .iter()
                .map(list_request)
                .map(|f| {
                    let all = f.categories.iter().chain(&f.classifications);
                    assert!(all.clone().all(|one| one.delta == f.anchor.is_some()) && !f.get_config);
                    let of =
                        |list: &[IdAndDelta]| numbers(&list.iter().map(|one| one.id).collect::<Vec<_>>());
                    (of(&f.categories), of(&f.classifications), f.anchor.is_some())
                })
                .collect();
            assert_eq!(actual, expected, "{anchor:?} {wanted:?}");
        }
    }

    #[test]
    fn categories_are_one_list_with_an_anchor_of_its_own() {
        let anchor = Anchor { anchor: "7".to_owned(), filter: ListFilter::default() };
        for (before, since) in [(None, None), (Some(&anchor), Some("7".to_owned()))] {
            let parts = parts(Scope::Categories, &ListFilter::default(), before);
            assert_eq!(parts.len(), 1);
            let asked = list_request(&parts[0]);
            assert_eq!((asked.get_config, asked.anchor), (true, since));
        }
    }

    #[test]
    fn only_anchors_that_hold_a_time_can_go_back() {
        for (before, after, back) in [
            ("9438,2026-10-04 16:33:26.671", "9437,2026-10-03 16:33:26.671", true),
            ("2026-10-05 17:27:44.393", "2026-10-05 17:27:44.392", true),
            ("9438,2026-10-04 16:33:26.671", "1,2026-10-04 16:33:26.671", false),
            ("abc", "aaa", false),
            ("", "2026-10-05 17:27:44.393", false),
            ("2026-10-05 17:27:44.393", "ä026-10-05 17:27:44.393", false),
        ] {
            assert_eq!(went_back(before, after), back, "{before} {after}");
        }
    }
}
