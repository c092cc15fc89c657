//! Names that people type, against names that exist: canonical spelling, or a refusal with the nearest ones.

use catalog::problem::{Code, Problem};

use super::{ALL, CLASSIFICATIONS, Selection};
use crate::find::nearest;

/// Architectures that exist whatever the catalogs of today hold.
pub const ARCHITECTURES: [&str; 3] = ["x64", "x86", "arm64"];

/// The names that synchronised catalogs know. A part that is empty is not known yet, because nothing has been
/// synchronised: its names are accepted as they are given, so that one can select first and synchronise then.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownNames {
    /// Products.
    pub products: Vec<String>,
    /// Ids of products with their names: one may be chosen by either.
    pub product_ids: Vec<(String, String)>,
    /// Releases.
    pub releases: Vec<String>,
    /// Languages.
    pub languages: Vec<String>,
    /// Architectures, beside [`ARCHITECTURES`], which are always known.
    pub architectures: Vec<String>,
    /// Edition groups.
    pub editions: Vec<String>,
}

/// Checks every name of `wanted` and gives the selection back in canonical spelling, each name once.
///
/// # Errors
/// `UNKNOWN_PRODUCT`, `UNKNOWN_CLASSIFICATION`, `UNKNOWN_RELEASE`, `UNKNOWN_LANGUAGE`, `UNKNOWN_ARCHITECTURE` or
/// `UNKNOWN_EDITION` with the nearest names.
pub fn validate(wanted: &Selection, known: &KnownNames) -> Result<Selection, Problem> {
    validate_change(&Selection::default(), wanted, known)
}

/// The same for a change: names that `before` has already are kept as they are. A catalog may have stopped to
/// list them, and that must not stand in the way of changing another part.
///
/// # Errors
/// Those of [`validate`], about names that are new.
pub fn validate_change(
    before: &Selection,
    wanted: &Selection,
    known: &KnownNames,
) -> Result<Selection, Problem> {
    let classifications: Vec<String> = CLASSIFICATIONS.iter().map(|known| known.name.to_owned()).collect();
    let mut architectures: Vec<String> = ARCHITECTURES.iter().map(|&name| name.to_owned()).collect();
    architectures.extend(known.architectures.iter().cloned());
    let by_id = |entry: &String| {
        let named = CLASSIFICATIONS.iter().find(|known| known.id.eq_ignore_ascii_case(entry));
        named.map_or_else(|| entry.clone(), |named| named.name.to_owned())
    };
    let named: Vec<String> = wanted.classifications.iter().map(by_id).collect();
    let product_by_id = |entry: &String| {
        let bare = entry.trim().trim_matches(['{', '}']);
        let named = known.product_ids.iter().find(|(id, _)| id.eq_ignore_ascii_case(bare));
        named.map_or_else(|| entry.clone(), |(_, name)| name.clone())
    };
    let products: Vec<String> = wanted.products.iter().map(product_by_id).collect();
    let part = |what, code, before: &[String], wanted: &[String], known: &[String]| {
        Part { what, code, before, known }.canonical(wanted)
    };
    Ok(Selection {
        classifications: part(
            "classification",
            Code::UnknownClassification,
            &before.classifications,
            &named,
            &classifications,
        )?,
        products: part("product", Code::UnknownProduct, &before.products, &products, &known.products)?,
        releases: part("release", Code::UnknownRelease, &before.releases, &wanted.releases, &known.releases)?,
        languages: part(
            "language",
            Code::UnknownLanguage,
            &before.languages,
            &wanted.languages,
            &known.languages,
        )?,
        architectures: part(
            "architecture",
            Code::UnknownArchitecture,
            &before.architectures,
            &wanted.architectures,
            &architectures,
        )?,
        editions: part(
            "edition group",
            Code::UnknownEdition,
            &before.editions,
            &wanted.editions,
            &known.editions,
        )?,
    })
}

struct Part<'a> {
    what: &'static str,
    code: Code,
    before: &'a [String],
    known: &'a [String],
}

impl Part<'_> {
    fn canonical(&self, wanted: &[String]) -> Result<Vec<String>, Problem> {
        let mut names: Vec<String> = Vec::new();
        for name in wanted.iter().map(|name| name.trim()) {
            let name = self.one(name)?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn one(&self, name: &str) -> Result<String, Problem> {
        let lower = name.to_lowercase();
        let same = |other: &&String| other.to_lowercase() == lower;
        let canonical = self.known.iter().find(same).or_else(|| self.before.iter().find(same));
        match canonical {
            Some(canonical) => Ok(canonical.clone()),
            None if name == ALL || (self.known.is_empty() && !name.is_empty()) => Ok(name.to_owned()),
            None => Err(self.unknown(name)),
        }
    }

    fn unknown(&self, name: &str) -> Problem {
        // Cut, so that a pasted document does not become a message.
        let shown: String = name.chars().take(80).collect();
        let near = nearest(name, self.known.iter().map(String::as_str));
        let problem = Problem::new(self.code, format!("there is no {} `{shown}`", self.what));
        if near.is_empty() {
            return problem;
        }
        let near: Vec<_> = near.iter().map(|name| format!("`{name}`")).collect();
        problem.help(format!("nearest: {}; {}", near.join(", "), self.code.page().help))
    }
}
