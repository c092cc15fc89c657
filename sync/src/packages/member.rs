//! Which of the updates in a package somebody means by a name.

use std::collections::BTreeSet;

use catalog::id::RevisionId;
use catalog::problem::{Code, Problem};
use schema::packages::PackageFile;

/// One published state of an update that a package holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// Which.
    pub revision: RevisionId,
    title: String,
    files: Vec<String>,
    /// The package holds another state of the same update too.
    has_others: bool,
}

impl Member {
    /// The title; with its revision where that alone would not say which one it is.
    pub fn label(&self) -> String {
        match self.has_others {
            true => format!("{} (revision {})", self.title, self.revision.number.0),
            false => self.title.clone(),
        }
    }

    fn is_called(&self, name: &str) -> bool {
        // As a revision is printed: the beginning of the update's id, a slash, the number.
        let is_of = |update: &str| !update.is_empty() && self.revision.update.to_string().starts_with(update);
        let is_revision =
            |(update, number): (&str, &str)| number.parse() == Ok(self.revision.number.0) && is_of(update);
        is_of(name)
            || name.split_once('/').is_some_and(is_revision)
            || self.title.to_lowercase() == name
            || self.files.iter().any(|file| file.to_lowercase() == name)
    }
}

/// What a package holds, by its files.
pub(super) fn members(held: &[PackageFile]) -> Vec<Member> {
    let mut members: Vec<Member> = Vec::new();
    for file in held {
        let name = file.file_name.to_string();
        if let Some(member) = members.iter_mut().find(|member| member.revision == file.revision) {
            member.files.push(name);
            continue;
        }
        let mut has_others = false;
        for other in members.iter_mut().filter(|other| other.revision.update == file.revision.update) {
            (other.has_others, has_others) = (true, true);
        }
        members.push(Member {
            revision: file.revision,
            title: file.title.clone(),
            files: vec![name],
            has_others,
        });
    }
    members
}

/// What `name` means in a package that is called `package`: an update with all its revisions there, by its id, the beginning of that,
/// its title or a file of it; or one revision, as `ID/NUMBER`.
///
/// # Errors
/// `UPDATE_NOT_FOUND`; `AMBIGUOUS` where it is several updates.
pub(super) fn meant<'a>(
    name: &str,
    members: &'a [Member],
    package: &str,
) -> Result<Vec<&'a Member>, Problem> {
    let wanted = name.trim().to_lowercase();
    let found: Vec<&Member> = members.iter().filter(|member| member.is_called(&wanted)).collect();
    let Some(first) = found.first().filter(|_| !wanted.is_empty()) else {
        let message = format!("package `{package}` holds no update `{name}`");
        return Err(
            Problem::new(Code::UpdateNotFound, message).help("`spsync package show` lists what it holds")
        );
    };
    if found.iter().all(|member| member.revision.update == first.revision.update) {
        return Ok(found);
    }
    let updates: BTreeSet<_> = found.iter().map(|member| member.revision.update).collect();
    let message = format!("{} updates are called `{name}…`", updates.len());
    let all: Vec<_> =
        found.iter().take(8).map(|member| format!("{} {}", member.revision, member.title)).collect();
    Err(Problem::new(Code::Ambiguous, message)
        .because(all.join(", "))
        .help("an id means all revisions of its update in the package, `ID/NUMBER` one of them"))
}

#[cfg(test)]
mod tests {
    use catalog::id::RevisionNumber;

    use super::*;

    const ONE: &str = "11111111-2222-4333-8444-555555555555";
    const TWO: &str = "11111111-ffff-4333-8444-555555555555";

    fn member(update: &str, number: u32, title: &str, files: &[&str], has_others: bool) -> Member {
        Member {
            revision: RevisionId { update: update.parse().unwrap(), number: RevisionNumber(number) },
            title: title.to_owned(),
            files: files.iter().map(|&file| file.to_owned()).collect(),
            has_others,
        }
    }

    /// Its publisher has revised it: both states are there, and either can be dropped, or both.
    #[test]
    fn each_revision_of_an_update_can_be_meant() {
        let members = [
            member(ONE, 200, "Windows 11", &["old.esd"], true),
            member(ONE, 201, "Windows 11", &["new.esd", "more.cab"], true),
            member(TWO, 1, "Windows 10", &["ten.esd"], false),
        ];
        let found = |name: &str| {
            let found = meant(name, &members, "p").map_err(|problem| problem.code)?;
            Ok(found.iter().map(|member| member.revision.number.0).collect::<Vec<_>>())
        };
        for (name, expected) in [
            (ONE, Ok(vec![200, 201])),
            ("11111111-2222", Ok(vec![200, 201])),
            ("windows 11", Ok(vec![200, 201])),
            (&format!("{ONE}/200"), Ok(vec![200])),
            ("11111111-2/201", Ok(vec![201])),
            ("11111111/1", Ok(vec![1])),
            ("OLD.esd", Ok(vec![200])),
            (" more.cab ", Ok(vec![201])),
            ("11111111", Err(Code::Ambiguous)),
            ("11111111-2/202", Err(Code::UpdateNotFound)),
            ("/200", Err(Code::UpdateNotFound)),
            ("", Err(Code::UpdateNotFound)),
            ("Windows", Err(Code::UpdateNotFound)),
        ] {
            assert_eq!(found(name), expected, "{name}");
        }
        let several = meant("11111111", &members, "p").unwrap_err();
        assert!(several.causes[0].contains(&format!("{ONE}/200 Windows 11")), "{several:?}");
        assert_eq!(members[0].label(), "Windows 11 (revision 200)");
        assert_eq!(members[2].label(), "Windows 10");
    }
}
