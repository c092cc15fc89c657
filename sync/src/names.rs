//! What names of things may be. Packages are checked where they are recorded (`schema/src/packages.rs`), the site's own point with the
//! configuration (`config/rules.rs`), members of collections in `software/collections.rs`.

use catalog::problem::{Code, Problem};

/// The longest name of most things, in characters.
pub const LONGEST: usize = 50;
/// The longest name of a boundary or boundary group, in characters.
pub const LONGEST_OF_BOUNDARIES: usize = 100;

/// How much a name may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// It is shown to people: anything but control characters (mission row M48).
    Shown,
    /// The same, and longer.
    ShownLong,
    /// It is typed in commands and lists, too: letters, digits, `-_. `, and not `all`, which stands for everything.
    Typed,
}

/// The name of `what` (`a collection`) without the space around it.
///
/// # Errors
/// `NAME_REQUIRED`, `NAME_TOO_LONG`, `NAME_NOT_ALLOWED`.
pub fn checked(what: &str, name: &str, rule: Rule) -> Result<String, Problem> {
    let name = name.trim();
    let refuse = |code, message: String| Err(Problem::new(code, message));
    if name.is_empty() {
        return refuse(Code::NameRequired, format!("{what} needs a name"));
    }
    let most = if rule == Rule::ShownLong { LONGEST_OF_BOUNDARIES } else { LONGEST };
    let length = name.chars().count();
    if length > most {
        let message = format!("the name of {what} has {length} characters, at most {most} are allowed");
        return refuse(Code::NameTooLong, message);
    }
    if name.chars().any(char::is_control) {
        return refuse(Code::NameNotAllowed, format!("the name of {what} has control characters"));
    }
    let typed = |c: char| c.is_alphanumeric() || "-_. ".contains(c);
    if rule == Rule::Typed && (!name.chars().all(typed) || name.eq_ignore_ascii_case("all")) {
        let message = format!("`{name}` cannot be the name of {what}: letters, digits, `-_.`, and not `all`");
        return refuse(Code::NameNotAllowed, message);
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_table() {
        let (most, long) = ("ü".repeat(50), "ü".repeat(100));
        for (rule, name, expected) in [
            (Rule::Shown, " ring 1 ", Ok("ring 1")),
            (Rule::Shown, "Ring/1 (north)", Ok("Ring/1 (north)")),
            (Rule::Shown, "all", Ok("all")),
            (Rule::Shown, &*most, Ok(&*most)),
            (Rule::Shown, &*long, Err(Code::NameTooLong)),
            (Rule::Shown, " \t", Err(Code::NameRequired)),
            (Rule::Shown, "a\nb", Err(Code::NameNotAllowed)),
            (Rule::ShownLong, &*long, Ok(&*long)),
            (Rule::ShownLong, &format!("{long}x"), Err(Code::NameTooLong)),
            (Rule::ShownLong, "a\u{7f}", Err(Code::NameNotAllowed)),
            (Rule::Typed, "lyon-1.b_2 c", Ok("lyon-1.b_2 c")),
            (Rule::Typed, "a/b", Err(Code::NameNotAllowed)),
            (Rule::Typed, "ALL", Err(Code::NameNotAllowed)),
            (Rule::Typed, "", Err(Code::NameRequired)),
            (Rule::Typed, &*long, Err(Code::NameTooLong)),
        ] {
            let found = checked("a thing", name, rule).map_err(|problem| problem.code);
            assert_eq!(found, expected.map(str::to_owned), "{rule:?} {name:?}");
        }
        let problem = checked("a collection", "", Rule::Shown).unwrap_err();
        assert_eq!(problem.message, "a collection needs a name");
    }
}
