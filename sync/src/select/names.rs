//! Names that people type, against names that exist: canonical spelling, or a refusal with the nearest ones.

use catalog::problem::{Code, Problem};

use super::{ALL, CLASSIFICATIONS, Selection};

/// Architectures that exist whatever the catalogs of today hold.
pub const ARCHITECTURES: [&str; 3] = ["x64", "x86", "arm64"];

/// At most this many nearest names are offered.
const OFFERED: usize = 3;

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

/// The names of `known` that `name` may have meant, nearest first, at most three. Names that contain it (or that
/// it contains) come before those that are merely spelt alike. There is at least one where anything is known:
/// a reader judges better than a threshold.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    // A pasted document is compared by its beginning: similarity costs the product of both lengths.
    let name: String = name.chars().take(80).collect::<String>().to_lowercase();
    let mut scored: Vec<(f64, &str)> =
        known.into_iter().map(|candidate| (likeness(&name, &candidate.to_lowercase()), candidate)).collect();
    scored.sort_by(|(a, left), (b, right)| b.total_cmp(a).then_with(|| left.cmp(right)));
    scored.dedup_by_key(|(_, candidate)| *candidate);
    let Some(&(best, _)) = scored.first() else { return Vec::new() };
    // Far behind the best means unlike, and only distracts.
    scored.into_iter().take(OFFERED).filter(|(score, _)| best - score < 0.25).map(|(_, name)| name).collect()
}

/// Whether a name may well have been meant by another: one contains the other, or two thirds of them are the same.
pub fn is_near(name: &str, candidate: &str) -> bool {
    likeness(&name.to_lowercase(), &candidate.to_lowercase()) > 0.66
}

/// What to do about a name that is unknown: the nearest ones, where there are any, and the command that lists all.
pub fn nearest_and(near: &[&str], list: &str) -> String {
    match near {
        [] => format!("{list} lists all"),
        near => format!("nearest: {}; {list} lists all", near.join(", ")),
    }
}

/// 0 (nothing in common) to 2 (the same); 1 and above where one contains the other.
fn likeness(name: &str, candidate: &str) -> f64 {
    let alike = strsim::normalized_damerau_levenshtein(name, candidate);
    let contained = name.len() > 1 && (candidate.contains(name) || name.contains(candidate));
    if contained && !candidate.is_empty() { 1.0 + alike } else { alike }
}
