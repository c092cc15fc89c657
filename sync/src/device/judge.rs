//! Whether a condition holds on a device, and whether the device is ready. Pure but for what a [`Probe`] looks up.

use crate::policy::fits;
use crate::policy::{Facts, Secrets};
use crate::sequence::action::{CheckReadiness, Sealed};
use crate::sequence::choose::numbers;
use crate::sequence::condition::{Comparison, Condition, Os};

use super::variables::Variables;

/// What conditions ask of a device.
pub trait Probe {
    /// A file is there.
    fn file(&self, path: &str) -> bool;
    /// A folder is there.
    fn folder(&self, path: &str) -> bool;
    /// A value of the registry.
    fn registry(&self, key: &str, value_name: &str) -> Option<String>;
    /// A query has an answer.
    fn wmi(&self, namespace: &str, query: &str) -> bool;
    /// A product is installed.
    fn software(&self, product_code: &str) -> bool;
}

/// Whether `condition` holds now.
pub fn holds(
    condition: &Condition,
    variables: &Variables,
    secrets: Option<&Secrets>,
    facts: &Facts,
    probe: &dyn Probe,
) -> bool {
    let inner = |condition: &Condition| holds(condition, variables, secrets, facts, probe);
    let filled = |text: &str| variables.fill(text, secrets);
    match condition {
        Condition::All(all) => all.iter().all(inner),
        Condition::Any(all) => all.iter().any(inner),
        Condition::None(all) => !all.iter().any(inner),
        Condition::Variable(variable) => {
            let value = variables.value(&variable.name, secrets);
            compared(value.as_deref(), variable.is, &filled(&variable.value))
        }
        Condition::Os(os) => os_is(os, facts),
        Condition::File(place) => probe.file(&filled(&place.path)),
        Condition::Folder(place) => probe.folder(&filled(&place.path)),
        Condition::Registry(registry) => {
            let value = probe.registry(&filled(&registry.key), &registry.value_name);
            compared(value.as_deref(), registry.is, &filled(&registry.value))
        }
        Condition::Wmi(query) => probe.wmi(&query.namespace, &filled(&query.query)),
        Condition::Software(software) => probe.software(&software.product_code),
    }
}

/// The places of the secrets that `condition` asks for.
pub fn secrets_in(condition: &Condition, variables: &Variables) -> Vec<Sealed> {
    let of = |texts: &[&str]| texts.iter().flat_map(|text| variables.secrets_in(text)).collect();
    match condition {
        Condition::All(all) | Condition::Any(all) | Condition::None(all) => {
            all.iter().flat_map(|condition| secrets_in(condition, variables)).collect()
        }
        Condition::Variable(variable) => of(&[&format!("%{}%", variable.name), &variable.value]),
        Condition::File(place) | Condition::Folder(place) => of(&[&place.path]),
        Condition::Registry(registry) => of(&[&registry.key, &registry.value]),
        Condition::Wmi(query) => of(&[&query.query]),
        Condition::Os(_) | Condition::Software(_) => Vec::new(),
    }
}

/// Whether nothing that a run does makes `condition` hold on this device: its architecture and language are others. Whatever
/// else a condition asks for may come to be while steps run.
pub fn never_holds(condition: &Condition, facts: &Facts) -> bool {
    let never = |condition: &Condition| never_holds(condition, facts);
    match condition {
        Condition::All(all) => all.iter().any(never),
        Condition::Any(all) => all.iter().all(never),
        Condition::Os(os) => {
            let lasting = Os { at_least: None, below: None, ..os.clone() };
            !os_is(&lasting, facts)
        }
        _ => false,
    }
}

/// A variable that is not there is unequal to everything, and nothing else holds of it.
fn compared(found: Option<&str>, is: Comparison, value: &str) -> bool {
    let Some(found) = found else { return is == Comparison::NotEquals };
    if is == Comparison::Exists {
        return true;
    }
    if is == Comparison::Like {
        return like(&found.to_lowercase(), &value.to_lowercase());
    }
    let order = match (found.trim().parse::<i64>(), value.trim().parse::<i64>()) {
        (Ok(found), Ok(value)) => found.cmp(&value),
        _ => found.to_lowercase().cmp(&value.to_lowercase()),
    };
    match is {
        Comparison::Equals => order.is_eq(),
        Comparison::NotEquals => order.is_ne(),
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterOrEqual => order.is_ge(),
        Comparison::Exists | Comparison::Like => true,
    }
}

/// `*` stands for anything, `?` for one sign. Takes no longer than the product of both lengths.
fn like(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
    let (mut at, mut sign, mut star, mut mark) = (0, 0, None, 0);
    while at < text.len() {
        if sign < pattern.len() && pattern[sign] == '*' {
            (star, mark) = (Some(sign), at);
            sign += 1;
        } else if sign < pattern.len() && (pattern[sign] == '?' || pattern[sign] == text[at]) {
            (at, sign) = (at + 1, sign + 1);
        } else if let Some(star) = star {
            mark += 1;
            (at, sign) = (mark, star + 1);
        } else {
            return false;
        }
    }
    pattern[sign..].iter().all(|sign| *sign == '*')
}

fn os_is(os: &Os, facts: &Facts) -> bool {
    let same = |wanted: &Option<String>, is: &str| {
        wanted.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(is))
    };
    let version = numbers(&facts.version);
    os.at_least.as_ref().is_none_or(|least| version >= numbers(least))
        && os.below.as_ref().is_none_or(|below| version < numbers(below))
        && same(&os.architecture, &facts.architecture)
        && same(&os.language, &facts.language)
}

/// Every check that fails; all are made.
pub fn not_ready(check: &CheckReadiness, facts: &Facts) -> Vec<String> {
    fits::readiness(check, facts).into_iter().map(|(_, text)| text).collect()
}
