//! What devices do again and again, for the audit: the first time of an hour is written down, with how often it was since.
//!
//! A device may ask for its secrets as often as it likes. What is written stays for ever, so that is not for it to decide.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use catalog::id::PackageId;
use jiff::{SignedDuration, Timestamp};

/// One row for each device and deployment in so much time.
const EVERY: SignedDuration = SignedDuration::from_hours(1);
/// Devices and deployments that are remembered before those of earlier hours are forgotten.
const MANY: usize = 10_000;

/// When secrets were last written down as given to whom for what, and how often they were given since.
#[derive(Debug, Default)]
pub struct Audited {
    last: Mutex<HashMap<(String, PackageId), (Timestamp, u64)>>,
}

impl Audited {
    /// What is to be written down before secrets are given now; nothing where that is done for this hour. Whoever writes it says
    /// so with [`Self::written`]: what could not be written is due the next time.
    pub fn due(&self, device: &str, deployment: &PackageId, now: Timestamp) -> Option<String> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match last.get_mut(&(device.to_ascii_lowercase(), deployment.clone())) {
            Some((at, since)) if now.duration_since(*at).abs() < EVERY => {
                *since += 1;
                None
            }
            Some((_, since)) if *since > 0 => Some(format!("ts.secrets, and {since} times before")),
            _ => Some("ts.secrets".to_owned()),
        }
    }

    /// It was written down.
    pub fn written(&self, device: &str, deployment: &PackageId, now: Timestamp) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= MANY {
            last.retain(|_, (at, _)| now.duration_since(*at).abs() < EVERY);
        }
        last.insert((device.to_ascii_lowercase(), deployment.clone()), (now, 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_written_down_once_an_hour_for_each_device_and_deployment() {
        let audited = Audited::default();
        let (one, other): (PackageId, PackageId) = ("XYZ20001".parse().unwrap(), "XYZ20002".parse().unwrap());
        let at = |seconds: i64| Timestamp::from_second(1_000_000 + seconds).unwrap();
        let ask = |device: &str, deployment: &PackageId, seconds: i64| {
            let due = audited.due(device, deployment, at(seconds));
            if due.is_some() {
                audited.written(device, deployment, at(seconds));
            }
            due
        };
        let first = Some("ts.secrets".to_owned());
        assert_eq!(audited.due("pc1", &one, at(0)), first, "nobody wrote it down");
        let rows: Vec<_> = (0..10_000).filter_map(|number| ask("pc1", &one, number / 3)).collect();
        assert_eq!(rows, ["ts.secrets"], "3,333 seconds, three times in each");
        assert_eq!(
            (ask("PC1", &one, 3_400), ask("pc1", &other, 3_400), ask("pc2", &one, 3_400)),
            (None, first.clone(), first.clone())
        );
        assert_eq!(ask("pc1", &one, 3_600).as_deref(), Some("ts.secrets, and 10000 times before"));
        assert_eq!(ask("pc2", &one, 7_100), first, "nobody asked between");
        assert_eq!(
            ask("pc1", &one, -9_000).as_deref(),
            Some("ts.secrets"),
            "a clock that is set back hides nothing"
        );
        for device in 0..MANY as i64 + 5 {
            ask(&format!("x{device}"), &one, 10_000);
        }
        ask("last", &one, 20_000);
        assert_eq!(audited.last.lock().unwrap().len(), 1, "earlier hours are forgotten");
    }
}
