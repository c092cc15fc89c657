//! What could do harm to many at once: a required deployment that installs an operating system. Pure.
//!
//! It never goes to a built-in collection, nor to more devices than the site allows. Where it reaches more devices than
//! usual, servers, or the site's own machines, somebody has to say that it is meant, and the audit keeps who.

use catalog::problem::{Code, Problem};
use schema::deployments::Purpose;
use serde::{Deserialize, Serialize};

/// Who would be reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reached {
    /// Name of the collection.
    pub collection: String,
    /// It is built-in: every device is in it.
    pub built_in: bool,
    /// Devices in it.
    pub devices: usize,
    /// Servers among them.
    pub servers: Vec<String>,
    /// Machines of the site among them.
    pub site_systems: Vec<String>,
}

/// What the site allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// More devices need a confirmation; 0: any number.
    pub usual: usize,
    /// More devices are refused; 0: any number.
    pub most: usize,
    /// Machines of the site are refused, rather than confirmed.
    pub block_site_systems: bool,
}

/// What the risk is, where there is one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Risk {
    /// It is a high-risk deployment.
    pub high: bool,
    /// What has to be confirmed, in words.
    pub reasons: Vec<String>,
}

impl Risk {
    /// What the audit says of a high risk: with the reasons that were confirmed.
    pub fn audited(&self) -> String {
        match self.reasons.as_slice() {
            [] => "deploy.high-risk".to_owned(),
            reasons => format!("deploy.high-risk {}", reasons.join("; ")),
        }
    }
}

/// Judges a deployment.
///
/// # Errors
/// `HIGH_RISK_COLLECTION`, `HIGH_RISK_TOO_LARGE`, `HIGH_RISK_SITE_SYSTEM`: no confirmation helps.
pub fn judge(
    purpose: Purpose,
    deploys_os: bool,
    reached: &Reached,
    allowed: Allowed,
) -> Result<Risk, Problem> {
    if purpose != Purpose::Required || !deploys_os {
        return Ok(Risk::default());
    }
    let name = &reached.collection;
    if reached.built_in {
        let message = format!(
            "a required upgrade of the operating system does not go to `{name}`, which holds every device"
        );
        return Err(Problem::new(Code::HighRiskCollection, message));
    }
    if allowed.most > 0 && reached.devices > allowed.most {
        let message = format!(
            "`{name}` has {} devices, and a high-risk deployment reaches at most {}",
            reached.devices, allowed.most
        );
        return Err(Problem::new(Code::HighRiskTooLarge, message));
    }
    if allowed.block_site_systems && !reached.site_systems.is_empty() {
        let message = format!("`{name}` holds machines of the site: {}", some(&reached.site_systems));
        return Err(Problem::new(Code::HighRiskSiteSystem, message));
    }
    let mut reasons = Vec::new();
    if allowed.usual > 0 && reached.devices > allowed.usual {
        reasons.push(format!("{} devices, more than {}", reached.devices, allowed.usual));
    }
    if !reached.servers.is_empty() {
        reasons.push(format!("servers: {}", some(&reached.servers)));
    }
    if !reached.site_systems.is_empty() {
        reasons.push(format!("machines of the site: {}", some(&reached.site_systems)));
    }
    Ok(Risk { high: true, reasons })
}

/// # Errors
/// `HIGH_RISK_UNCONFIRMED` where something has to be confirmed and was not.
pub fn confirmed(risk: &Risk, reached: &Reached, confirmed: bool) -> Result<(), Problem> {
    if confirmed || risk.reasons.is_empty() {
        return Ok(());
    }
    let message = format!("a required upgrade of the operating system reaches `{}`", reached.collection);
    let refused = Problem::new(Code::HighRiskUnconfirmed, message);
    Err(risk.reasons.iter().fold(refused, |problem, reason| problem.because(reason.clone())))
}

/// The first of many names, and how many more there are.
pub(super) fn some(names: &[String]) -> String {
    let first: Vec<&str> = names.iter().take(5).map(String::as_str).collect();
    match names.len().saturating_sub(5) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn high_risk_table() {
        let reached =
            |devices: usize| Reached { collection: "ring".to_owned(), devices, ..Reached::default() };
        let servers = Reached { servers: vec!["srv1".to_owned()], ..reached(1) };
        let systems = Reached { site_systems: vec!["lyon".to_owned()], ..reached(1) };
        let every = Reached { built_in: true, ..reached(1) };
        let usual = Allowed { usual: 100, most: 0, block_site_systems: false };
        let strict = Allowed { usual: 100, most: 200, block_site_systems: true };
        let none = Allowed { usual: 0, most: 0, block_site_systems: false };
        let (available, required) = (Purpose::Available, Purpose::Required);
        // Purpose, installs an OS, who, allowed; refused outright, or refused unless it is confirmed.
        for (name, purpose, os, who, allowed, outright, unconfirmed) in [
            ("available", available, true, &every, strict, None, false),
            ("no operating system", required, false, &every, strict, None, false),
            ("every device", required, true, &every, none, Some(Code::HighRiskCollection), false),
            ("as many as usual", required, true, &reached(100), usual, None, false),
            ("more than usual", required, true, &reached(101), usual, None, true),
            ("any number", required, true, &reached(5000), none, None, false),
            ("as many as allowed", required, true, &reached(200), strict, None, true),
            ("more than allowed", required, true, &reached(201), strict, Some(Code::HighRiskTooLarge), false),
            ("a server", required, true, &servers, usual, None, true),
            ("a machine of the site", required, true, &systems, usual, None, true),
            ("the same, blocked", required, true, &systems, strict, Some(Code::HighRiskSiteSystem), false),
        ] {
            let judged = judge(purpose, os, who, allowed);
            assert_eq!(judged.as_ref().err().map(|problem| problem.code), outright, "{name}");
            let Ok(risk) = judged else { continue };
            assert_eq!(risk.high, purpose == required && os, "{name}");
            let refused = confirmed(&risk, who, false).err().map(|problem| problem.code);
            assert_eq!(refused, unconfirmed.then_some(Code::HighRiskUnconfirmed), "{name}");
            assert!(confirmed(&risk, who, true).is_ok(), "{name}");
        }
    }
}
