//! While a content is fetched its site goes on knowing more: a point was given it, a peer has it now, the one that gives was
//! revoked, a boundary was moved. So the site is asked again, and a transfer goes on elsewhere where that is better.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::fallback::{self, Clock, SHORTEST_PAUSE};
use super::{Cache, FetchOptions, Reach, asking};
use crate::server::{Location, LocationsAnswer};
use crate::transfer::Doing;

/// So often a site is asked again at least.
const LONGEST_TRUST: Duration = Duration::from_secs(15 * 60);

/// Whom a transfer asked last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Asked {
    name: String,
    /// It is waited for.
    waits: bool,
    /// Everybody who was: who is not asked any more had reasons, or the transfer goes back by itself.
    tried: BTreeSet<String>,
}

/// Takes down what a transfer does.
pub(super) fn note(asked: &Mutex<Asked>, doing: &Doing) {
    let (name, waits) = match doing {
        Doing::Asking { source } | Doing::Receiving { source } => (source, false),
        Doing::Waiting { source, .. } => (source, true),
        Doing::Verifying => return,
    };
    let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
    if asked.waits != waits || asked.name != *name {
        (asked.name, asked.waits) = (name.clone(), waits);
        asked.tried.insert(name.clone());
    }
}

/// Ends with an answer of the site that is worth leaving whoever gives now. `(answer, places)` is what it said before, and who
/// of these is asked.
pub(super) async fn until_others_are_better(
    site: &Reach<'_>,
    clock: &impl Clock,
    cache: &Cache,
    options: &FetchOptions,
    (answer, places): (&LocationsAnswer, &[Location]),
    asked: &Mutex<Asked>,
) -> LocationsAnswer {
    let mut since = Duration::ZERO;
    let mut trust = trusted_for(answer);
    loop {
        clock.meanwhile(trust).await;
        since += trust;
        let now = || asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if since < LONGEST_TRUST && !is_worth_leaving(places, &now(), places) {
            continue; // nobody is better
        }
        since = Duration::ZERO;
        let Some(anew) = asking::ask_once(site, clock, cache, answer.content).await else { continue };
        let anew = options.allowed.of(anew);
        trust = trusted_for(&anew);
        let elapsed = clock.elapsed().saturating_add(options.asked);
        let due = fallback::behind(fallback::due(&anew, elapsed), &options.last);
        if is_worth_leaving(places, &now(), &due) {
            return anew;
        }
    }
}

fn trusted_for(answer: &LocationsAnswer) -> Duration {
    Duration::from_secs(answer.expires_in_seconds.into()).clamp(SHORTEST_PAUSE, LONGEST_TRUST)
}

/// Whether it is better to begin again with `new` than to go on with who is asked: that one is not named any more, or the best of
/// those that were not tried are of another sort; or it is waited for, and there is somebody who was not known. What begins again
/// forgets who failed, and a source without ranges sends all once more: for those who were tried it never does.
fn is_worth_leaving(old: &[Location], asked: &Asked, new: &[Location]) -> bool {
    let is_place = |one: &&Location| one.name == asked.name;
    // This machine itself may be asked, or nobody yet.
    let best = new.iter().find(|one| is_place(one) || !asked.tried.contains(&one.name));
    let (Some(first), Some(_)) = (best, old.iter().find(is_place)) else { return false };
    let known = |one: &Location| old.iter().any(|place| (place.kind, &place.name) == (one.kind, &one.name));
    let better = new.iter().find(is_place).is_none_or(|one| (one.kind, &one.why) != (first.kind, &first.why));
    better || (asked.waits && !new.iter().all(known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::LocationKind;

    /// `name:why`, and a cloud of the name `cloud`.
    fn places(text: &str) -> Vec<Location> {
        let place = |text: &str| {
            let (name, why) = text.split_once(':').unwrap_or((text, ""));
            let kind = match name {
                "cloud" => LocationKind::Cloud,
                name if name.starts_with("desk") => LocationKind::Peer,
                _ => LocationKind::DistributionPoint,
            };
            Location {
                kind,
                name: name.to_owned(),
                url: String::new(),
                why: why.to_owned(),
                reason: String::new(),
            }
        };
        text.split_whitespace().map(place).collect()
    }

    #[test]
    fn a_transfer_goes_on_where_it_is_unless_others_are_better() {
        let before = "desk1:subnet desk2:subnet lyon:group rome:neighbour cloud:upstream";
        for (asked, waits, after, expected) in [
            ("desk1", false, before, false),
            ("desk2", false, before, false), // its like stands first
            ("lyon", false, before, true),   // whoever is better may be back
            ("cloud", false, before, true),
            ("lyon", false, "lyon:group cloud:upstream", false),
            ("lyon", false, "paris:group lyon:group", false),
            ("lyon", false, "desk9:subnet lyon:group", true),
            ("lyon", false, "paris:group cloud:upstream", true), // revoked, or in maintenance
            ("lyon", false, "paris:group lyon:neighbour", true), // a boundary was moved
            ("lyon", false, "", false),                          // nobody gives more
            ("desk1", true, before, false),
            ("desk1", true, "desk1:subnet paris:group", true),
            ("desk1", false, "desk1:subnet paris:group", false),
            ("install.esd", false, "paris:group", false), // this machine itself
            ("", false, "paris:group", false),
        ] {
            let asked = Asked { name: asked.to_owned(), waits, ..Asked::default() };
            let found = is_worth_leaving(&places(before), &asked, &places(after));
            assert_eq!(found, expected, "{asked:?}: {after}");
        }
        // Whoever was tried is gone back to by the transfer itself, or has failed.
        for (after, expected) in [
            (before, false),
            ("desk9:subnet lyon:group cloud:upstream", true),
            ("desk1:subnet paris:group cloud:upstream", true),
            ("desk1:subnet desk2:subnet", false),
            ("paris:group", true), // the cloud is not named any more
        ] {
            let asked = Mutex::new(Asked::default());
            for source in ["desk1", "desk2", "lyon", "rome", "cloud"] {
                note(&asked, &Doing::Asking { source: source.to_owned() });
            }
            let asked = asked.into_inner().unwrap();
            assert_eq!(is_worth_leaving(&places(before), &asked, &places(after)), expected, "{after}");
        }
    }

    #[test]
    fn an_answer_is_trusted_within_bounds() {
        let mut told: LocationsAnswer = serde_json::from_value(serde_json::json!({
            "content": catalog::digest::Sha256Digest([0; 32]), "size": 1, "sha1": null, "file_name": "x.esd",
            "locations": [], "expires_in_seconds": 0,
        }))
        .unwrap();
        for (said, expected) in [(0, 60), (300, 300), (86_400, 900)] {
            told.expires_in_seconds = said;
            assert_eq!(trusted_for(&told).as_secs(), expected);
        }
    }
}
