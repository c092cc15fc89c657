//! What is looked after from time to time: contents that were lost and could not be fetched again at once, as their upstream or the
//! line was away; and files in the library that nobody knows, or wants any more.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use catalog::digest::Sha256Digest;
use catalog::id::PackageId;
use catalog::problem::Problem;
use jiff::{SignedDuration, Timestamp};
use tracing::error;

use super::mend;
use crate::blocking::blocking;
use crate::clock;
use crate::packages::content::{Unrecorded, forget_unrecorded};
use crate::site::Site;

/// How often it is looked.
const STEP: Duration = Duration::from_secs(60);
/// Every so many looks the library is tidied: all its names are listed for that.
const TIDY_EVERY: u32 = 60;
/// How long after it was lost, or tried again, a content is tried again; the last one for ever.
const PAUSES: [SignedDuration; 4] = [
    SignedDuration::from_mins(15),
    SignedDuration::from_hours(1),
    SignedDuration::from_hours(6),
    SignedDuration::from_hours(24),
];

/// Tries again, and tidies, until `stopped`.
pub async fn keep(site: Arc<Site>, stopped: impl Future<Output = ()>) {
    tokio::pin!(stopped);
    let (mut tries, mut unrecorded, mut looks) = (Tries::default(), Unrecorded::default(), 0_u32);
    loop {
        tokio::select! {
            () = &mut stopped => return,
            () = tokio::time::sleep(STEP) => {}
        }
        if site.settings().dp.is_site()
            && let Err(problem) = try_again(&site, &mut tries).await
        {
            error!("what was lost cannot be looked for: {problem}");
        }
        if looks % TIDY_EVERY == 0
            && let Err(problem) = tidy(&site, &mut unrecorded).await
        {
            error!("the content library cannot be tidied: {problem}");
        }
        looks = looks.wrapping_add(1);
    }
}

async fn try_again(site: &Arc<Site>, tries: &mut Tries) -> Result<(), Problem> {
    let lost = site.read(|r| r.lost_contents()).await?;
    for (package, contents) in tries.due(lost, clock::now()) {
        tokio::spawn(mend(site.clone(), package, contents));
    }
    Ok(())
}

async fn tidy(site: &Arc<Site>, unrecorded: &mut Unrecorded) -> Result<(), Problem> {
    let library = site.library.clone();
    blocking(move || Ok(library.forget_aside(SystemTime::now())?)).await?;
    forget_unrecorded(site, unrecorded).await
}

/// How often each lost content was tried, and when it is its turn again. Of this process: after a restart it begins anew.
#[derive(Debug, Default)]
struct Tries(HashMap<Sha256Digest, (usize, Timestamp)>);

impl Tries {
    /// What of all that is `lost` has its turn, by package. Pure.
    fn due(
        &mut self,
        lost: Vec<(PackageId, Sha256Digest)>,
        now: Timestamp,
    ) -> BTreeMap<PackageId, Vec<Sha256Digest>> {
        let all: HashSet<_> = lost.iter().map(|(_, content)| *content).collect();
        self.0.retain(|content, _| all.contains(content));
        let at =
            |tries: usize| now.saturating_add(PAUSES[tries.min(PAUSES.len() - 1)]).unwrap_or(Timestamp::MAX);
        let mut due: BTreeMap<_, Vec<_>> = BTreeMap::new();
        // One package fetches it for all that have it.
        let mut given = HashSet::new();
        for (package, content) in lost {
            let (tries, next) = self.0.entry(content).or_insert_with(|| (0, at(0)));
            // A clock that was set back makes nobody wait longer than that.
            if given.insert(content) && (*next <= now || *next > at(PAUSES.len())) {
                *tries += 1;
                *next = at(*tries);
                due.entry(package).or_default().push(content);
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_is_tried_again_and_again_with_longer_pauses() {
        let at = |minutes: i64| Timestamp::from_second(1_000_000_000 + minutes * 60).unwrap();
        let package = |n: u8| format!("XYZ0000{n}").parse::<PackageId>().unwrap();
        let content = |n: u8| Sha256Digest([n; 32]);
        let lost = || vec![(package(1), content(1)), (package(1), content(2)), (package(2), content(1))];
        let mut tries = Tries::default();
        let mut told = Vec::new();
        // Looked at every minute for four days.
        for minute in 0..4 * 1_440 {
            let due = tries.due(lost(), at(minute));
            assert!(due.is_empty() || due == BTreeMap::from([(package(1), vec![content(1), content(2)])]));
            told.extend((!due.is_empty()).then_some(minute));
        }
        assert_eq!(told, [15, 15 + 60, 75 + 360, 435 + 1_440, 1_875 + 1_440, 3_315 + 1_440]);
        // It has come, and is lost again.
        assert!(tries.due(Vec::new(), at(6_000)).is_empty());
        assert!(tries.due(lost(), at(6_001)).is_empty() && !tries.due(lost(), at(6_016)).is_empty());
        let before = tries.due(lost(), at(-90_000));
        assert!(!before.is_empty(), "the clock was set back");
        assert!(tries.due(lost(), at(-90_000)).is_empty());
    }
}
