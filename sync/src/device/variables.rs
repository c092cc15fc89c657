//! The variables of a run. A secret is never one of their values: only the place where it is sealed stands there, and what
//! was made with it stays unmade until somebody needs it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::policy::Secrets;
use crate::sequence::action::Sealed;
use crate::sequence::key::MASK;

/// What Setup said.
pub const RESULT: &str = "_SMSTSOSUpgradeActionReturnCode";
/// Setup has put the old Windows back.
pub const ROLLED_BACK: &str = "_SMSTSSetupRollback";
/// Further options of Setup.
pub const MORE_OPTIONS: &str = "OSDSetupAdditionalUpgradeOptions";
/// The last step's name, exit code, and whether it succeeded.
pub const LAST: [&str; 3] = ["_SMSTSLastActionName", "_SMSTSLastActionRetCode", "_SMSTSLastActionSucceeded"];
/// How often and after how many seconds content is asked for again.
pub const DOWNLOAD_RETRIES: &str = "SMSTSDownloadRetryCount";
/// The pause between.
pub const DOWNLOAD_DELAY: &str = "SMSTSDownloadRetryDelay";

/// The longest value, in characters.
const LONGEST: usize = 4000;
/// References within references.
const DEEPEST: usize = 8;

/// All variables of a run. Names are the same in either case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Variables(BTreeMap<String, Variable>);

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Variable {
    /// A text that anybody may see.
    Plain(String),
    /// A secret: where it is sealed.
    Sealed(Sealed),
    /// A text in which names of secret variables stand for their values.
    Made(String),
}

/// What is found for a reference.
enum Known<'a> {
    Text(&'a str),
    Secret(Option<&'a str>),
    Made(&'a str),
}

impl Variables {
    /// Sets one to what anybody may see.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        let value: String = value.into().chars().take(LONGEST).collect();
        self.0.insert(name.to_ascii_lowercase(), Variable::Plain(value));
    }

    /// Sets one to a secret.
    pub fn seal(&mut self, name: &str, place: Sealed) {
        self.0.insert(name.to_ascii_lowercase(), Variable::Sealed(place));
    }

    /// Sets one from a text with references. References to secrets stay references.
    pub fn set_from(&mut self, name: &str, text: &str) {
        let (value, secret) = self.filled(text, None, true, 0);
        let value: String = value.chars().take(LONGEST).collect();
        let variable = if secret { Variable::Made(value) } else { Variable::Plain(value) };
        self.0.insert(name.to_ascii_lowercase(), variable);
    }

    /// The places of the secrets that `text` needs.
    pub fn secrets_in(&self, text: &str) -> Vec<Sealed> {
        let mut found = Vec::new();
        self.look_for(text, 0, &mut found);
        found
    }

    fn look_for(&self, text: &str, depth: usize, found: &mut Vec<Sealed>) {
        for name in text.split('%').skip(1).step_by(2) {
            match self.0.get(&name.to_ascii_lowercase()) {
                Some(Variable::Sealed(place)) => found.push(place.clone()),
                Some(Variable::Made(text)) if depth < DEEPEST => self.look_for(text, depth + 1, found),
                _ => {}
            }
        }
    }

    /// A value as it is compared and handed over; `None` where there is none.
    pub fn value(&self, name: &str, secrets: Option<&Secrets>) -> Option<String> {
        match self.known(name, secrets)? {
            Known::Text(text) => Some(text.to_owned()),
            Known::Secret(secret) => secret.map(str::to_owned),
            Known::Made(text) => Some(self.filled(text, secrets, false, 1).0),
        }
    }

    /// `%name%` replaced in a text that is about to be used. What is not known stays as it is.
    pub fn fill(&self, text: &str, secrets: Option<&Secrets>) -> String {
        self.filled(text, secrets, false, 0).0
    }

    /// The same with every secret masked.
    pub fn masked(&self, text: &str) -> String {
        self.filled(text, None, false, 0).0
    }

    fn known<'a>(&'a self, name: &str, secrets: Option<&'a Secrets>) -> Option<Known<'a>> {
        Some(match self.0.get(&name.to_ascii_lowercase())? {
            Variable::Plain(text) => Known::Text(text),
            Variable::Sealed(place) => {
                Known::Secret(secrets.and_then(|all| all.at(place)).map(|secret| secret.reveal()))
            }
            Variable::Made(text) => Known::Made(text),
        })
    }

    /// With `keep`, references to secrets stay; else they are their value, or a mask. Also whether there was one.
    fn filled(&self, text: &str, secrets: Option<&Secrets>, keep: bool, depth: usize) -> (String, bool) {
        let (mut out, mut secret) = (String::new(), false);
        let mut rest = text;
        while let Some(open) = rest.find('%') {
            out.push_str(&rest[..open]);
            let behind = &rest[open + 1..];
            let Some(close) = behind.find('%') else {
                out.push_str(&rest[open..]);
                return (out, secret);
            };
            let name = &behind[..close];
            match self.known(name, secrets) {
                Some(Known::Text(text)) => out.push_str(text),
                Some(Known::Secret(_)) if keep => {
                    secret = true;
                    out.push_str(&rest[open..open + close + 2]);
                }
                Some(Known::Secret(value)) => {
                    secret = true;
                    out.push_str(value.unwrap_or(MASK));
                }
                Some(Known::Made(text)) if depth < DEEPEST => {
                    let (text, inner) = self.filled(text, secrets, keep, depth + 1);
                    secret |= inner;
                    out.push_str(&text);
                }
                _ => {
                    // No variable: the first sign is a sign, and the second may begin a name.
                    out.push('%');
                    out.push_str(name);
                    rest = &behind[close..];
                    continue;
                }
            }
            rest = &behind[close + 1..];
        }
        out.push_str(rest);
        (out, secret)
    }
}

/// Takes the secrets of a run out of whatever is written down.
#[derive(Clone, Default)]
pub struct Masker(Vec<String>);

impl Masker {
    /// Knows these secrets. The empty one is none.
    pub fn of(secrets: Option<&Secrets>) -> Self {
        let all = secrets.iter().flat_map(|secrets| secrets.secrets.iter());
        let mut values: Vec<String> =
            all.map(|(_, secret)| secret.reveal().to_owned()).filter(|text| !text.is_empty()).collect();
        // A secret within another must not leave the rest of the longer one.
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self(values)
    }

    /// The text without them.
    pub fn mask(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), MASK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequence::key::HiddenText;

    fn secrets() -> Secrets {
        Secrets {
            deployment: "XYZ20001".parse().expect("a number"),
            secrets: vec![
                (Sealed::numbered(1), HiddenText::new("hunter2")),
                (Sealed::numbered(2), HiddenText::new("hunter")),
            ],
        }
    }

    #[test]
    fn references_are_replaced_and_secrets_only_where_they_are_used() {
        let mut all = Variables::default();
        all.set("Room", "204");
        all.seal("Password", Sealed::numbered(1));
        all.set_from("Line", "net use %ROOM% %password% 100%");
        let secrets = secrets();
        for (text, masked, filled) in [
            ("", "", ""),
            ("%Room%", "204", "204"),
            ("%room%%ROOM%", "204204", "204204"),
            ("%nothing%", "%nothing%", "%nothing%"),
            ("50% of %Room%", "50% of 204", "50% of 204"),
            ("%", "%", "%"),
            ("%Password%", "*****", "hunter2"),
            ("a %Line% b", "a net use 204 ***** 100% b", "a net use 204 hunter2 100% b"),
        ] {
            assert_eq!(all.masked(text), masked, "{text}");
            assert_eq!(all.fill(text, Some(&secrets)), filled, "{text}");
        }
        assert_eq!(all.value("LINE", Some(&secrets)).unwrap(), "net use 204 hunter2 100%");
        assert_eq!(all.value("password", None), None, "a secret that nobody gave is no value");
        assert_eq!(all.secrets_in("%line%"), [Sealed::numbered(1)]);
        let kept = serde_json::to_string(&all).unwrap();
        assert!(!kept.contains("hunter2"), "{kept}");
        assert_eq!(serde_json::from_str::<Variables>(&kept).unwrap(), all);
    }

    #[test]
    fn a_variable_made_of_itself_ends() {
        let mut all = Variables::default();
        all.seal("s", Sealed::numbered(1));
        all.set_from("a", "%s%");
        all.set_from("a", "%a%%a%x");
        assert!(all.fill("%a%", Some(&secrets())).contains("hunter2"));
    }

    #[test]
    fn the_longer_secret_is_masked_first() {
        assert_eq!(Masker::of(Some(&secrets())).mask("x hunter2 hunter y"), "x ***** ***** y");
    }
}
