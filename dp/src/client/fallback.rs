//! When a client asks whom: now, or only after nothing else has worked for long enough. Pure, but for the clock it is given.

use std::time::{Duration, Instant};

use crate::server::{LaterLocation, Location, LocationKind, LocationsAnswer};
use crate::transfer::FetchError;

/// The shortest time after which a site is asked again while a client waits, or fetches.
pub(super) const SHORTEST_PAUSE: Duration = Duration::from_secs(60);

/// The time since a client asked first.
pub(super) trait Clock: Send + Sync {
    /// How long ago that was.
    fn elapsed(&self) -> Duration;
    /// Waits.
    fn sleep(&self, pause: Duration) -> impl Future<Output = ()> + Send;
    /// Waits, while a transfer goes on.
    fn meanwhile(&self, pause: Duration) -> impl Future<Output = ()> + Send;
}

/// The clock of this machine.
pub(super) struct Started(pub(super) Instant);

impl Clock for Started {
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    async fn sleep(&self, pause: Duration) {
        tokio::time::sleep(pause).await;
    }

    async fn meanwhile(&self, pause: Duration) {
        tokio::time::sleep(pause).await;
    }
}

/// Whom to ask after `elapsed`: those that may be asked at once, and those whose time has come, who stand before the cloud
/// unless the site prefers that to all.
pub(super) fn due(answer: &LocationsAnswer, elapsed: Duration) -> Vec<Location> {
    let mut all = answer.locations.clone();
    let cloud = all.iter().rposition(|one| one.kind != LocationKind::Cloud).map_or(0, |last| last + 1);
    let come = answer.later.iter().filter(|one| Duration::from_secs(one.after_seconds) <= elapsed);
    let come = come.map(|LaterLocation { kind, name, url, why, reason, .. }| Location {
        kind: *kind,
        name: name.clone(),
        url: url.clone(),
        why: why.clone(),
        reason: reason.clone(),
    });
    let come: Vec<_> = come.collect();
    all.splice(cloud..cloud, come);
    all
}

/// The same with those of these names behind all others.
pub(super) fn behind(mut all: Vec<Location>, last: &[String]) -> Vec<Location> {
    all.sort_by_key(|one| last.contains(&one.name));
    all
}

/// How long to wait before everybody is asked again, and for whom: where somebody's time is still to come. The site is asked
/// again when its answer is over, because the client's own points may be back before a neighbour may be asked.
pub(super) fn pause(answer: &LocationsAnswer, elapsed: Duration) -> Option<(Duration, &LaterLocation)> {
    let after = |one: &LaterLocation| Duration::from_secs(one.after_seconds);
    let next = answer.later.iter().filter(|one| after(one) > elapsed).min_by_key(|one| after(one))?;
    let believed = Duration::from_secs(answer.expires_in_seconds.into()).max(SHORTEST_PAUSE);
    Some(((after(next) - elapsed).min(believed), next))
}

/// Whether another source may mend it.
pub(super) fn may_be_mended(error: &FetchError) -> bool {
    match error {
        FetchError::AllFailed { .. } | FetchError::Left { .. } | FetchError::NoSource { .. } => true,
        FetchError::Library { .. } | FetchError::Stopped { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use catalog::digest::Sha256Digest;
    use jiff::Timestamp;

    use super::*;

    fn answer(locations: &[(LocationKind, &str)], later: &[(u64, &str)], expires: u32) -> LocationsAnswer {
        let text = |text: &&str| (*text).to_owned();
        LocationsAnswer {
            content: Sha256Digest([0; 32]),
            size: 1,
            sha1: None,
            file_name: "x.esd".parse().expect("a name"),
            private: false,
            groups: Vec::new(),
            locations: locations
                .iter()
                .map(|(kind, name)| Location {
                    kind: *kind,
                    name: text(name),
                    url: String::new(),
                    why: String::new(),
                    reason: String::new(),
                })
                .collect(),
            later: later
                .iter()
                .map(|(after_seconds, name)| LaterLocation {
                    kind: LocationKind::DistributionPoint,
                    name: text(name),
                    url: String::new(),
                    after_seconds: *after_seconds,
                    from: Timestamp::UNIX_EPOCH,
                    why: String::new(),
                    reason: String::new(),
                })
                .collect(),
            out: Vec::new(),
            not_told: 0,
            expires_in_seconds: expires,
        }
    }

    #[test]
    fn who_is_due_stands_before_the_cloud() {
        use LocationKind::{Cloud, DistributionPoint};
        let told =
            answer(&[(DistributionPoint, "own"), (Cloud, "cloud")], &[(60, "rome"), (90, "site")], 900);
        for (elapsed, expected) in
            [(0, "own cloud"), (59, "own cloud"), (60, "own rome cloud"), (90, "own rome site cloud")]
        {
            let names: Vec<_> =
                due(&told, Duration::from_secs(elapsed)).into_iter().map(|one| one.name).collect();
            assert_eq!(names.join(" "), expected, "after {elapsed}s");
        }
        let last = ["own".to_owned(), "nobody".to_owned()];
        let all = behind(due(&told, Duration::MAX), &last);
        assert_eq!(
            all.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(),
            ["rome", "site", "cloud", "own"]
        );
    }

    #[test]
    fn a_pause_ends_with_the_answer_or_when_somebody_is_due() {
        let told = answer(&[], &[(7_200, "site"), (3_600, "rome")], 900);
        for (elapsed, expected) in [
            (0, Some((900, "rome"))),
            (3_000, Some((600, "rome"))),
            (3_600, Some((900, "site"))),
            (7_199, Some((1, "site"))),
            (7_200, None),
        ] {
            let found = pause(&told, Duration::from_secs(elapsed));
            let found = found.map(|(pause, one)| (pause.as_secs(), one.name.as_str()));
            assert_eq!(found, expected, "after {elapsed}s");
        }
        let brief = answer(&[], &[(7_200, "site")], 0);
        assert_eq!(
            pause(&brief, Duration::ZERO).map(|(pause, _)| pause),
            Some(SHORTEST_PAUSE),
            "no hammering"
        );
    }
}
