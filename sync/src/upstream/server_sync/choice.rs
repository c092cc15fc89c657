//! What of an update server is wanted: names and ids of the selection, against the categories that the server has.
//!
//! No product chosen means none, other than with catalogs of a few hundred files: a server has 21 years of updates.

use std::collections::{BTreeSet, HashMap};

use catalog::id::UpdateId;
use schema::metadata::Category;
use schema::servers::ListFilter;

use super::step::Chosen;
use crate::find::nearest;
use crate::select::{ALL, CLASSIFICATIONS, Selection};

/// Products that stand beside another one of which people mean both: Windows 10 changed its product in 2019.
const ALSO: [(&str, &str); 1] = [("windows 10", "windows 10, version 1903 and later")];

/// What is wanted, and what is worth telling about it.
#[derive(Debug, Default)]
pub struct Choice {
    /// What to ask for.
    pub chosen: Chosen,
    /// Names that say nothing to this server, and what to do where nothing is chosen.
    pub notes: Vec<String>,
}

/// Decides. `parents` are categories with the category that each is in.
pub fn choose(selection: &Selection, categories: &[Category], parents: &[(UpdateId, UpdateId)]) -> Choice {
    let mut notes = Vec::new();
    let products = Names::of(categories, &["Product", "ProductFamily"]);
    let classes = Names::of(categories, &["UpdateClassification"]);
    let mut wanted = products.find(&selection.products, "product", &mut notes);
    // A family stands for all that is in it.
    let inside: Vec<UpdateId> =
        parents.iter().filter(|(_, parent)| wanted.contains(parent)).map(|(child, _)| *child).collect();
    wanted.extend(inside.into_iter().filter(|child| products.ids.contains(child)));
    let classifications =
        classes.with_known_ones().find(&selection.classifications, "classification", &mut notes);
    if selection.products.is_empty() {
        notes.push(
            "no product is chosen, so only the categories of this server are synchronised: \
             `spsync sync products` lists them, `spsync sync products --set PRODUCT` chooses"
                .to_owned(),
        );
    } else if selection.classifications.is_empty() {
        notes.push("no classification is chosen: `spsync sync classifications --set Upgrades`".to_owned());
    }
    let filter = ListFilter {
        categories: wanted.into_iter().collect(),
        classifications: classifications.into_iter().collect(),
    };
    // One empty list beside another one would be nothing, two of them everything.
    let something = !filter.categories.is_empty() && !filter.classifications.is_empty();
    Choice {
        chosen: Chosen {
            filter: something.then_some(filter),
            classifications: classes.ids.into_iter().collect(),
        },
        notes,
    }
}

/// Categories of some types, by name.
#[derive(Clone, Default)]
struct Names {
    ids: BTreeSet<UpdateId>,
    by_name: HashMap<String, Vec<UpdateId>>,
    titles: Vec<String>,
}

impl Names {
    fn of(categories: &[Category], types: &[&str]) -> Self {
        let mut names = Self::default();
        for one in categories.iter().filter(|one| types.contains(&one.category_type.as_str())) {
            names.add(one.id.update, one.title.trim());
        }
        names
    }

    fn add(&mut self, id: UpdateId, title: &str) {
        self.ids.insert(id);
        self.by_name.entry(title.to_lowercase()).or_default().push(id);
        self.titles.push(title.to_owned());
    }

    /// Classifications have the same ids everywhere; those that the server's language calls otherwise are found by them.
    fn with_known_ones(&self) -> Self {
        let mut all = self.clone();
        for known in CLASSIFICATIONS {
            if let Ok(id) = known.id.parse()
                && !all.by_name.contains_key(&known.name.to_lowercase())
            {
                all.by_name.insert(known.name.to_lowercase(), vec![id]);
            }
        }
        all
    }

    fn find(&self, wanted: &[String], what: &str, notes: &mut Vec<String>) -> BTreeSet<UpdateId> {
        let mut found = BTreeSet::new();
        for entry in wanted.iter().map(|entry| entry.trim()) {
            let name = entry.to_lowercase();
            let named = |name: &str| self.by_name.get(name).into_iter().flatten().copied();
            if entry == ALL {
                found.extend(self.ids.iter().copied());
            } else if let Ok(id) = entry.parse::<UpdateId>() {
                found.insert(id);
            } else if self.by_name.contains_key(&name) {
                found.extend(named(&name));
                let also = ALSO.iter().filter(|(one, _)| *one == name);
                found.extend(also.flat_map(|(_, other)| named(other)));
            } else {
                let near = nearest(entry, self.titles.iter().map(String::as_str));
                let near =
                    if near.is_empty() { String::new() } else { format!("; nearest: {}", near.join(", ")) };
                notes.push(format!("this server has no {what} `{}`{near}", catalog::xml::shown(entry)));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use catalog::id::{RevisionId, RevisionNumber};

    use super::*;

    const UPGRADES: &str = "3689bdc8-b205-4af4-8d4a-a63924c5e9d5";

    fn id(n: u128) -> UpdateId {
        UpdateId(uuid::Uuid::from_u128(n))
    }

    fn category(n: u128, category_type: &str, title: &str) -> Category {
        Category {
            id: RevisionId { update: id(n), number: RevisionNumber(1) },
            category_type: category_type.to_owned(),
            title: title.to_owned(),
        }
    }

    /// As a real server has them: a product with a blank at its end, a family, a company that is nothing to choose.
    fn server() -> Vec<Category> {
        vec![
            category(1, "Product", "Windows 10"),
            category(2, "Product", "Windows 10, version 1903 and later"),
            category(3, "Product", "Windows 11 "),
            category(4, "ProductFamily", "Windows"),
            category(5, "Company", "Microsoft"),
            category(6, "Product", "Office 2016"),
            category(90, "UpdateClassification", "Upgrades"),
            category(91, "UpdateClassification", "Security Updates"),
        ]
    }

    #[test]
    fn names_and_ids_become_a_filter() {
        let parents = [(id(1), id(4)), (id(2), id(4)), (id(3), id(4)), (id(4), id(5)), (id(6), id(5))];
        let strings = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        let six = "00000000-0000-0000-0000-000000000006";
        for (products, classifications, expected, notes) in [
            (&["Windows 11"][..], &["Upgrades"][..], Some((vec![3], vec![90])), 0),
            (&["windows 11"], &["UPGRADES"], Some((vec![3], vec![90])), 0),
            (&["Windows 10"], &["Upgrades"], Some((vec![1, 2], vec![90])), 0),
            (&["Windows 10, version 1903 and later"], &["Upgrades"], Some((vec![2], vec![90])), 0),
            (&["Windows"], &["Upgrades"], Some((vec![1, 2, 3, 4], vec![90])), 0),
            (&[six], &["Security Updates"], Some((vec![6], vec![91])), 0),
            (&["*"], &["*"], Some((vec![1, 2, 3, 4, 6], vec![90, 91])), 0),
            (&["Windows 11", "Widnows 10"], &["Upgrades"], Some((vec![3], vec![90])), 1),
            (&["Microsoft"], &["Upgrades"], None, 1),
            (&[], &["Upgrades"], None, 1),
            (&["Windows 11"], &[], None, 1),
            (&["Windows 11"], &["Upgrade"], None, 1),
        ] {
            let selection = Selection {
                products: strings(products),
                classifications: strings(classifications),
                ..Selection::default()
            };
            let choice = choose(&selection, &server(), &parents);
            let numbers = |ids: &[UpdateId]| ids.iter().map(|id| id.0.as_u128()).collect::<Vec<_>>();
            let filter = choice.chosen.filter.map(|f| (numbers(&f.categories), numbers(&f.classifications)));
            assert_eq!(filter, expected, "{products:?} {classifications:?}");
            assert_eq!(choice.notes.len(), notes, "{products:?} {classifications:?}: {:?}", choice.notes);
            assert_eq!(numbers(&choice.chosen.classifications), [90, 91]);
        }
    }

    #[test]
    fn a_note_says_what_to_do() {
        let choice = choose(&Selection::default(), &server(), &[]);
        assert!(choice.notes[0].contains("`spsync sync products --set PRODUCT`"));
        let selection = Selection { products: vec!["Widnows 10".to_owned()], ..Selection::default() };
        assert!(choose(&selection, &server(), &[]).notes[0].contains("nearest: Windows 10"));
    }

    #[test]
    fn classifications_of_a_server_in_another_language_are_found_by_their_ids() {
        let categories = [
            category(3, "Product", "Windows 11"),
            Category {
                id: RevisionId { update: UPGRADES.parse().unwrap(), number: RevisionNumber(1) },
                category_type: "UpdateClassification".to_owned(),
                title: "Aktualisierungen".to_owned(),
            },
        ];
        let selection = Selection {
            products: vec!["Windows 11".to_owned()],
            classifications: vec!["Upgrades".to_owned()],
            ..Selection::default()
        };
        let choice = choose(&selection, &categories, &[]);
        let filter = choice.chosen.filter.unwrap();
        assert_eq!(filter.classifications, [UPGRADES.parse().unwrap()]);
    }
}
