//! Releases of the product that a site follows, and what each brought.

use std::fmt;
use std::str::FromStr;

use catalog::id::InvalidId;
use catalog::problem::{Code, Problem};
use serde::{Deserialize, Serialize};

/// A release by year and month: `2107`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Release(u16);

/// Releases that have been.
const KNOWN: [u16; 12] = [2002, 2006, 2010, 2103, 2107, 2111, 2203, 2207, 2211, 2303, 2309, 2403];

impl Release {
    /// The first with feature updates in task sequences.
    pub const FEATURE_UPDATES: Self = Self(2103);
    /// The first whose wizard needs no OS upgrade package.
    pub const FEATURE_UPDATES_ALONE: Self = Self(2107);

    /// Whether steps may refer to feature updates (mission row M05).
    ///
    /// # Errors
    /// `FEATURE_NOT_IN_RELEASE`.
    pub fn allows_feature_updates(self) -> Result<(), Problem> {
        if self >= Self::FEATURE_UPDATES {
            return Ok(());
        }
        let message = format!("feature updates in task sequences need release 2103, this site has {self}");
        Err(Problem::new(Code::FeatureNotInRelease, message))
    }

    /// Whether a task sequence may be made from feature updates alone (mission rows M28 and M29).
    ///
    /// # Errors
    /// `FEATURE_NOT_IN_RELEASE`, `OS_UPGRADE_PACKAGE_REQUIRED`.
    pub fn allows_feature_updates_alone(self) -> Result<(), Problem> {
        self.allows_feature_updates()?;
        if self >= Self::FEATURE_UPDATES_ALONE {
            return Ok(());
        }
        let message =
            format!("release {self} needs an OS upgrade package here; feature updates alone need 2107");
        Err(Problem::new(Code::OsUpgradePackageRequired, message))
    }
}

impl Default for Release {
    fn default() -> Self {
        Self(2303)
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for Release {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let number = text.parse().ok().filter(|number| KNOWN.contains(number));
        number
            .map(Self)
            .ok_or_else(|| InvalidId::new(text, "a release (2002, 2006, 2010, 2103, 2107, … 2403)"))
    }
}

impl TryFrom<String> for Release {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<Release> for String {
    fn from(release: Release) -> String {
        release.to_string()
    }
}
