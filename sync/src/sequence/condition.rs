//! Conditions: whether a group or step runs on a device.

use serde::{Deserialize, Serialize};

use super::DEEPEST;

/// Holds or does not hold on a device, at the moment when its step would run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Condition {
    /// Every one of them holds.
    All(Vec<Condition>),
    /// At least one of them holds.
    Any(Vec<Condition>),
    /// None of them holds.
    None(Vec<Condition>),
    /// What a variable of the task sequence says.
    Variable(Variable),
    /// What the running operating system is.
    Os(Os),
    /// A file is there.
    File(Place),
    /// A folder is there.
    Folder(Place),
    /// A value of the registry.
    Registry(Registry),
    /// A query has at least one answer.
    Wmi(Query),
    /// A product is installed, by its code.
    Software(Software),
}

/// A comparison of a variable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// How it is compared.
    pub is: Comparison,
    /// With what.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
}

/// How two texts are compared; as numbers where both are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Comparison {
    Exists,
    Equals,
    NotEquals,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Like,
}

/// What the running operating system must be; what is left out does not matter.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Os {
    /// At least this version: `10.0.19045`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_least: Option<String>,
    /// Below this version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub below: Option<String>,
    /// `x64`, `arm64`, `x86`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// `en-us`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
}

/// A file or folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Where.
    pub path: String,
}

/// A value of the registry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    /// The key.
    pub key: String,
    /// The value's name; the default value if empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value_name: String,
    /// How it is compared.
    pub is: Comparison,
    /// With what.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
}

/// A query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// `root\cimv2` if empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The query.
    pub query: String,
}

/// An installed product.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Software {
    /// Its product code.
    pub product_code: String,
}

impl Condition {
    /// The variable `name` equals `value`.
    pub fn variable(name: &str, is: Comparison, value: &str) -> Self {
        Self::Variable(Variable { name: name.to_owned(), is, value: value.to_owned() })
    }

    /// Whether it is nested no deeper than groups may be.
    pub fn is_shallow(&self) -> bool {
        self.depth() <= DEEPEST
    }

    fn depth(&self) -> usize {
        match self {
            Self::All(inner) | Self::Any(inner) | Self::None(inner) => {
                1 + inner.iter().map(Self::depth).max().unwrap_or_default()
            }
            _ => 1,
        }
    }

    /// In words, for the tree.
    pub fn words(&self) -> String {
        let joined = |inner: &[Condition], with: &str| {
            inner.iter().map(Condition::words).collect::<Vec<_>>().join(with)
        };
        match self {
            Self::All(inner) => format!("({})", joined(inner, " and ")),
            Self::Any(inner) => format!("({})", joined(inner, " or ")),
            Self::None(inner) => format!("none of ({})", joined(inner, ", ")),
            Self::Variable(v) => format!("{} {}", v.name, v.is.with(&v.value)),
            Self::Os(os) => {
                let parts = [
                    os.at_least.as_ref().map(|v| format!("Windows at least {v}")),
                    os.below.as_ref().map(|v| format!("Windows below {v}")),
                    os.architecture.clone(),
                    os.language.clone(),
                ];
                parts.into_iter().flatten().collect::<Vec<_>>().join(" and ")
            }
            Self::File(place) => format!("file {} exists", place.path),
            Self::Folder(place) => format!("folder {} exists", place.path),
            Self::Registry(r) => format!("{}\\{} {}", r.key, r.value_name, r.is.with(&r.value)),
            Self::Wmi(query) => format!("{} has an answer", query.query),
            Self::Software(software) => format!("{} is installed", software.product_code),
        }
    }
}

impl Comparison {
    fn with(self, value: &str) -> String {
        let sign = match self {
            Self::Exists => return "exists".to_owned(),
            Self::Equals => "=",
            Self::NotEquals => "≠",
            Self::Less => "<",
            Self::LessOrEqual => "≤",
            Self::Greater => ">",
            Self::GreaterOrEqual => "≥",
            Self::Like => "like",
        };
        format!("{sign} {value}")
    }
}
