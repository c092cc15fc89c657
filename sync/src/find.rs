//! The thing that somebody means by a name, and what they may have meant where there is none.

use catalog::id::PackageId;
use catalog::problem::{Code, Problem};

/// At most this many nearest names are offered.
const OFFERED: usize = 3;

/// The one thing that `name` means: an id, a name, or the unique beginning of either.
///
/// # Errors
/// `missing` or `AMBIGUOUS`.
pub fn one<'a, T>(
    name: &str,
    all: &'a [T],
    is: impl Fn(&T) -> (&PackageId, &String),
    missing: Code,
    what: &str,
) -> Result<&'a T, Problem> {
    let wanted = name.trim().to_lowercase();
    let exact = |one: &&T| {
        let (id, name) = is(one);
        id.as_str().eq_ignore_ascii_case(&wanted) || name.to_lowercase() == wanted
    };
    let begins = |one: &&T| {
        let (id, name) = is(one);
        !wanted.is_empty()
            && (id.as_str().to_lowercase().starts_with(&wanted) || name.to_lowercase().starts_with(&wanted))
    };
    let mut found: Vec<&T> = all.iter().filter(exact).collect();
    if found.is_empty() {
        found = all.iter().filter(begins).collect();
    }
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(Problem::new(missing, nobody(what, name))),
        several => {
            let names: Vec<_> =
                several.iter().take(8).map(|one| format!("{} {}", is(one).0, is(one).1)).collect();
            let message = format!("{} things are called `{name}…`", several.len());
            Err(Problem::new(Code::Ambiguous, message).because(names.join(", ")))
        }
    }
}

/// That nothing has this name.
pub fn nobody(what: &str, name: &str) -> String {
    match name.trim().is_empty() {
        true => format!("the name of the {what} is empty"),
        false => format!("no {what} is called `{name}`"),
    }
}

/// The thing of this name, in whatever case; `list` is the command that shows all.
///
/// # Errors
/// `missing`, with the nearest names.
pub fn called<'a, T>(
    what: &str,
    missing: Code,
    name: &str,
    all: &'a [T],
    is: impl Fn(&T) -> &str,
    list: &str,
) -> Result<&'a T, Problem> {
    let wanted = name.trim().to_lowercase();
    all.iter().find(|one| is(one).to_lowercase() == wanted).ok_or_else(|| {
        let near = nearest(name, all.iter().map(is));
        Problem::new(missing, nobody(what, name)).help(nearest_and(&near, list))
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn things() -> Vec<(PackageId, String)> {
        [("XYZ00001", "Ring 1"), ("XYZ00002", "Ring 2"), ("XYZ00013", "Pilot")]
            .map(|(id, name)| (id.parse().unwrap(), name.to_owned()))
            .to_vec()
    }

    #[test]
    fn a_thing_is_meant_by_its_id_its_name_or_the_beginning_that_only_it_has() {
        let things = things();
        let found = |name: &str| {
            let found = one(name, &things, |thing| (&thing.0, &thing.1), Code::PackageNotFound, "thing");
            found.map(|thing| thing.1.as_str()).map_err(|problem| problem.code)
        };
        for (name, expected) in [
            ("XYZ00002", Ok("Ring 2")),
            ("xyz00002", Ok("Ring 2")),
            (" ring 1 ", Ok("Ring 1")),
            ("pil", Ok("Pilot")),
            ("XYZ0001", Ok("Pilot")),
            ("ring", Err(Code::Ambiguous)),
            ("", Err(Code::PackageNotFound)),
            ("lot", Err(Code::PackageNotFound)),
        ] {
            assert_eq!(found(name), expected, "{name}");
        }
    }

    #[test]
    fn a_thing_is_called_by_its_whole_name_and_the_nearest_are_offered() {
        let things = things();
        let called = |name: &str| {
            called("thing", Code::NotFound, name, &things, |thing| &thing.1, "`spsync thing list`")
                .map(|thing| thing.1.as_str())
        };
        assert_eq!(called(" RING 1").unwrap(), "Ring 1");
        let refused = called("Pilto").unwrap_err();
        assert_eq!((refused.code, refused.message.as_str()), (Code::NotFound, "no thing is called `Pilto`"));
        assert_eq!(refused.help, "nearest: Pilot; `spsync thing list` lists all");
        assert_eq!(
            super::called("thing", Code::NotFound, " ", &things, |thing| &thing.1, "x").unwrap_err().message,
            "the name of the thing is empty"
        );
        let none: [&str; 0] = [];
        let refused =
            super::called("thing", Code::NotFound, "x", &none, |thing| *thing, "`spsync thing list`");
        assert_eq!(refused.unwrap_err().help, "`spsync thing list` lists all");
    }

    #[test]
    fn the_nearest_names_are_few_and_near() {
        let languages = ["de-de", "en-gb", "en-us", "fr-fr"];
        assert_eq!(nearest("en-uk", languages)[0], "en-us");
        assert_eq!(nearest("en", languages), ["en-gb", "en-us"]);
        assert_eq!(nearest("HASH_MISMACH", ["HASH_MISMATCH", "DISK_FULL"]), ["HASH_MISMATCH"]);
        assert_eq!(nearest("x", []), Vec::<&str>::new());
        assert!(!nearest("", languages).is_empty());
        assert!(nearest("zzzz", languages).len() <= 3);
    }
}
