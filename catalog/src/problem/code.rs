//! The registry of codes: one row each, with the page that `spsync explain` prints. Rows are in files by subject; each file is
//! a macro that adds its rows to those before it and hands all of them on, so that the registry is one, in this order.

#[macro_use]
mod general;
#[macro_use]
mod fetching;
#[macro_use]
mod packages;
#[macro_use]
mod points;
#[macro_use]
mod clients;
#[macro_use]
mod runs;
#[macro_use]
mod sequences;
#[macro_use]
mod deployments;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// What a code means for a script: the command's exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitClass {
    /// 1: it failed.
    Failed,
    /// 2: the command line was wrong.
    Usage,
    /// 3: not found, or ambiguous.
    NotFound,
    /// 4: refused by a rule.
    Refused,
    /// 5: locked, or changed meanwhile.
    Conflict,
    /// 6: the daemon does not answer.
    Unreachable,
    /// 7: partly done; the failed items are listed.
    Partly,
    /// 8: validation found mismatches.
    Mismatch,
    /// 9: stopped waiting; the task goes on.
    StoppedWaiting,
    /// 10: not permitted.
    NotPermitted,
    /// 78: the configuration is invalid (`EX_CONFIG` of sysexits).
    Config,
    /// 130: interrupted.
    Interrupted,
}

impl ExitClass {
    /// The number given to the shell.
    pub fn status(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Refused => 4,
            Self::Conflict => 5,
            Self::Unreachable => 6,
            Self::Partly => 7,
            Self::Mismatch => 8,
            Self::StoppedWaiting => 9,
            Self::NotPermitted => 10,
            Self::Config => 78,
            Self::Interrupted => 130,
        }
    }
}

/// What `spsync explain CODE` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// What it means.
    pub meaning: &'static str,
    /// What usually causes it; `-` where the meaning says it all.
    pub causes: &'static str,
    /// What to look at, commands separated by semicolons; `-` where there is nothing to look at.
    pub checks: &'static str,
    /// What to do next.
    pub help: &'static str,
    /// The Windows code of the same meaning, if the field knows one.
    pub windows: Option<&'static str>,
    /// The HTTP status of the API's answer.
    pub http: u16,
    /// The exit status of the command.
    pub exit: ExitClass,
}

macro_rules! codes {
    ([] $($variant:ident $name:literal $exit:ident $http:literal $windows:expr, $meaning:literal, $causes:literal, $checks:literal, $help:literal;)*) => {
        /// A stable code: never renamed, never reused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        pub enum Code {
            $(#[doc = concat!("`", $name, "`; [`Code::page`] has the page about it.")] #[serde(rename = $name)] $variant,)*
        }

        impl Code {
            /// Every code, in the order of the registry.
            pub const ALL: &'static [Code] = &[$(Code::$variant),*];

            /// The code as it is printed: `HASH_MISMATCH`.
            pub fn name(self) -> &'static str {
                match self { $(Code::$variant => $name,)* }
            }

            /// The page about it.
            pub fn page(self) -> Page {
                match self {
                    $(Code::$variant => Page {
                        meaning: $meaning, causes: $causes, checks: $checks, help: $help,
                        windows: $windows, http: $http, exit: ExitClass::$exit,
                    },)*
                }
            }
        }
    };
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Code {
    type Err = crate::id::InvalidId;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Code::ALL
            .iter()
            .copied()
            .find(|code| code.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| crate::id::InvalidId::new(text, "a code of spsync"))
    }
}

/// A code that is not known here is one of a newer version: what came with it is heard all the same.
impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Cow::<str>::deserialize(deserializer)?;
        Ok(name.parse().unwrap_or(Self::OfNewerVersion))
    }
}

general! { [fetching packages points clients runs sequences deployments codes] }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_name_of_its_own_and_a_page_that_says_something() {
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            let page = code.page();
            assert!(code.name().bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'));
            assert!(page.meaning.len() > 10 && page.help.len() > 5, "{code}");
            assert!((400..600).contains(&page.http), "{code}");
            assert_eq!(code.name().parse::<Code>().unwrap(), *code);
            let json = serde_json::to_string(code).unwrap();
            assert_eq!(
                (json.trim_matches('"'), serde_json::from_str::<Code>(&json).unwrap()),
                (code.name(), *code)
            );
        }
    }

    /// A point may be newer than its site, and a site than a device.
    #[test]
    fn a_code_of_a_newer_version_is_heard() {
        for told in [r#""SOURCE_ON_FIRE""#, r#""""#, r#""\u0053OURCE_ON_FIRE""#] {
            assert_eq!(serde_json::from_str::<Code>(told).unwrap(), Code::OfNewerVersion, "{told}");
        }
        assert!(serde_json::from_str::<Code>("7").is_err());
    }
}
