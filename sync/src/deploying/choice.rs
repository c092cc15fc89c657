//! Where the feature updates of a deployment come from: asked for only where some are not in the site's library
//! (mission rows M18 and M19). Pure.

use catalog::problem::{Code, Problem};
use serde::{Deserialize, Serialize};

/// What the command line says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Asked {
    /// An existing package.
    pub package: Option<String>,
    /// Name of a package to make.
    pub new_package: Option<String>,
    /// No package.
    pub no_package: bool,
    /// Points and groups that its content is sent to.
    pub to: Vec<String>,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// Nothing: there is nothing to bring, or it is there.
    Nothing,
    /// Fill this package.
    Existing(String),
    /// Make a package of this name, and fill it.
    New(String),
    /// Peers, then the upstream's own links.
    NoPackage,
}

/// Decides. `missing` are titles of feature updates that the library does not have.
///
/// # Errors
/// `CONFLICTING_OPTIONS`, `DEPLOYMENT_PACKAGE_CHOICE_REQUIRED`.
pub fn decide(
    asked: &Asked,
    missing: &[String],
    uses_updates: bool,
) -> Result<(Choice, Option<String>), Problem> {
    let given = [asked.package.is_some(), asked.new_package.is_some(), asked.no_package];
    let given = given.into_iter().filter(|given| *given).count();
    if given > 1 {
        let message = "one of --package, --new-package and --no-package, not several";
        return Err(Problem::new(Code::ConflictingOptions, message));
    }
    if asked.no_package && !asked.to.is_empty() {
        let message = "without a package no feature update is sent with --to";
        return Err(Problem::new(Code::ConflictingOptions, message)
            .help("leave --to out; `spsync ts distribute TS --to DP` sends images and applications"));
    }
    if missing.is_empty() {
        let why = match uses_updates {
            true => "every feature update is in the site's library",
            false => "it uses no feature update",
        };
        return Ok((
            Choice::Nothing,
            (given > 0).then(|| format!("the choice of a package is skipped: {why}")),
        ));
    }
    let choice = match asked {
        Asked { package: Some(name), .. } => Choice::Existing(name.clone()),
        Asked { new_package: Some(name), .. } => Choice::New(name.clone()),
        Asked { no_package: true, .. } => Choice::NoPackage,
        _ => {
            let message = format!("{} of its feature updates are not downloaded", missing.len());
            let refused = Problem::new(Code::DeploymentPackageChoiceRequired, message);
            return Err(missing
                .iter()
                .take(5)
                .fold(refused, |problem, title| problem.because(title.clone())));
        }
    };
    Ok((choice, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mission row M18.
    #[test]
    fn package_choice_table() {
        let asked = |package: Option<&str>, new: Option<&str>, none: bool, to: &[&str]| Asked {
            package: package.map(str::to_owned),
            new_package: new.map(str::to_owned),
            no_package: none,
            to: to.iter().map(|to| (*to).to_owned()).collect(),
        };
        let title = ["Feature update".to_owned()];
        let refused = |code| Err(code);
        for (asked, missing, expected) in [
            (asked(None, None, false, &[]), true, refused(Code::DeploymentPackageChoiceRequired)),
            (asked(Some("p"), None, false, &["lyon"]), true, Ok(Choice::Existing("p".to_owned()))),
            (asked(None, Some("n"), false, &["lyon"]), true, Ok(Choice::New("n".to_owned()))),
            (asked(None, None, true, &[]), true, Ok(Choice::NoPackage)),
            (asked(None, None, true, &["lyon"]), true, refused(Code::ConflictingOptions)),
            (asked(Some("p"), Some("n"), false, &[]), true, refused(Code::ConflictingOptions)),
            (asked(Some("p"), None, true, &[]), false, refused(Code::ConflictingOptions)),
            (asked(None, None, false, &[]), false, Ok(Choice::Nothing)),
            (asked(None, Some("n"), false, &[]), false, Ok(Choice::Nothing)),
        ] {
            let missing: &[String] = if missing { &title } else { &[] };
            let decided = decide(&asked, missing, true);
            match (decided, expected) {
                (Ok((choice, note)), Ok(expected)) => {
                    assert_eq!(choice, expected, "{asked:?}");
                    let skipped = missing.is_empty() && asked.new_package.is_some();
                    assert_eq!(note.is_some(), skipped, "{asked:?}: {note:?}");
                }
                (Err(problem), Err(code)) => assert_eq!(problem.code, code, "{asked:?}"),
                (decided, expected) => panic!("{asked:?}: {decided:?}, expected {expected:?}"),
            }
        }
    }
}
