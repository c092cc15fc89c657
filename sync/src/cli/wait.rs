//! `--wait` of what is sent to distribution points, or read again there: until each of them has it, or will not have it by
//! itself.

use std::collections::HashMap;
use std::time::Duration;

use catalog::id::PackageId;
use catalog::problem::{Code, Problem};
use schema::points::{ContentState, OWN_POINT, Placement};

use super::output::{safe, when};
use super::{Global, Output, connect};
use crate::admin::{PointVerb, Request};
use crate::config::Loaded;
use crate::points::Sent;

/// How often the site is asked: points report every second while they work.
const LOOK: Duration = Duration::from_millis(500);

/// Waits for a package on the points that it was `sent` to, and says of each how it ended. Fine, partly done, or (where nobody
/// has it) the first reason; where files are not what they should be, that.
///
/// # Errors
/// `WAIT_TIMEOUT` after `--timeout`: the points go on. Where all failed, the first reason.
pub(super) async fn until_settled(
    package: &PackageId,
    sent: &mut [Sent],
    settings: &Loaded,
    global: &Global,
    output: &Output,
) -> Result<Option<Problem>, Problem> {
    let accepted = sent.iter().filter(|one| one.problem.is_none());
    let points: Vec<_> = accepted.map(|one| one.point.clone()).collect();
    let id = package.to_string();
    let waiting = looking(&id, &points, settings, global, output);
    let placed = match global.timeout {
        None => waiting.await?,
        Some(limit) => tokio::time::timeout(limit, waiting).await.map_err(|_| {
            Problem::new(Code::WaitTimeout, format!("not everywhere within {limit:?}"))
                .keeping("the points go on")
                .help("`spsync content status` says how far they are")
        })??,
    };
    for one in sent {
        if let Some(placed) = placed.iter().find(|placed| placed.point == one.point) {
            (one.state, one.already) = (Some(placed.state), false);
        }
    }
    verdict(&placed)
}

async fn looking(
    package: &str,
    points: &[String],
    settings: &Loaded,
    global: &Global,
    output: &Output,
) -> Result<Vec<Placement>, Problem> {
    let mut told: HashMap<i64, (ContentState, u64)> = HashMap::new();
    loop {
        let request = Request::Points { act: PointVerb::Status { package: Some(package.to_owned()) } };
        let mut placed = connect::call::<Vec<Placement>>(settings, global, output, request).await?.body;
        placed.retain(|one| points.contains(&one.point));
        for one in &placed {
            let quarter = (one.done * 4).checked_div(one.bytes).unwrap_or(4);
            if told.insert(one.point_id, (one.state, quarter)) != Some((one.state, quarter)) {
                output.note(noted(one, quarter * 25));
            }
        }
        if placed.iter().all(is_settled) {
            return Ok(placed);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// How far a point is; where something went wrong, why, and when it is tried again: somebody waits for it.
fn noted(placed: &Placement, percent: u64) -> String {
    let why = placed
        .problem
        .as_ref()
        .filter(|_| matches!(placed.state, ContentState::Failed | ContentState::Warning));
    let why = why.map_or_else(String::new, |problem| format!(": {}", safe(&problem.to_string())));
    let next = placed.next_retry.map_or_else(String::new, |at| format!(", tried again {}", when(at)));
    format!(" {}: {}, {percent} %{why}{next}", safe(&placed.point), placed.state)
}

/// Whether nothing more happens there by itself.
fn is_settled(placed: &Placement) -> bool {
    match placed.state {
        ContentState::Success | ContentState::Cancelled | ContentState::Warning => true,
        ContentState::Failed => placed.next_retry.is_none(),
        ContentState::Queued
        | ContentState::Sending
        | ContentState::Verifying
        | ContentState::Validating
        | ContentState::Removing => placed.point_id == OWN_POINT,
    }
}

/// Fine, partly done, or (where nobody has it) the first reason.
fn verdict(placed: &[Placement]) -> Result<Option<Problem>, Problem> {
    let lacking: Vec<_> = placed.iter().filter(|one| one.state != ContentState::Success).collect();
    let why = |one: &Placement| {
        one.problem.clone().unwrap_or_else(|| {
            Problem::new(Code::DpStateRefused, format!("the package is {} on {}", one.state, one.point))
        })
    };
    match lacking.as_slice() {
        [] => Ok(None),
        [first, ..] if lacking.len() == placed.len() => Err(why(first)),
        some => {
            let damaged = some.iter().all(|one| one.state == ContentState::Warning);
            let whole = match damaged {
                true => {
                    let message =
                        format!("bad files on {} of {} distribution points", some.len(), placed.len());
                    Problem::new(Code::ValidationFailed, message)
                        .help("`spsync package validate P --to DP --repair` fetches them again")
                }
                false => {
                    let message =
                        format!("{} of {} distribution points do not have it", some.len(), placed.len());
                    Problem::new(Code::PackagePartlyDone, message)
                        .help("see the reasons; `spsync package retry P` tries again")
                }
            };
            let reasons = some.iter().take(20).map(|one| format!("{}: {}", one.point, why(one)));
            Ok(Some(reasons.fold(whole, Problem::because)))
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use schema::points::Work;

    use super::*;

    fn placed(point: &str, state: ContentState, next_retry: Option<Timestamp>) -> Placement {
        let problem = match state {
            ContentState::Failed => Some(Problem::new(Code::DpDiskFull, "full")),
            ContentState::Warning => Some(Problem::new(Code::ValidationFailed, "bad")),
            _ => None,
        };
        Placement {
            package: "XYZ00001".parse().expect("an id"),
            name: "p".to_owned(),
            point_id: 2,
            point: point.to_owned(),
            version: 1,
            latest: 1,
            state,
            work: Work::Send,
            order: 1,
            retries_left: 0,
            next_retry,
            done: 0,
            bytes: 1,
            problem,
            at: Timestamp::UNIX_EPOCH,
            changed: None,
        }
    }

    #[test]
    fn what_is_tried_again_is_waited_for() {
        use ContentState::{Cancelled, Failed, Queued, Sending, Success, Warning};
        for (state, next_retry, expected) in [
            (Success, None, true),
            (Warning, None, true),
            (Cancelled, None, true),
            (Failed, None, true),
            (Failed, Some(Timestamp::UNIX_EPOCH), false),
            (Queued, None, false),
            (Sending, None, false),
        ] {
            assert_eq!(is_settled(&placed("lyon", state, next_retry)), expected, "{state}");
        }
    }

    #[test]
    fn who_waits_is_told_why_it_takes_so_long() {
        let full = placed("lyon", ContentState::Failed, Some(Timestamp::UNIX_EPOCH));
        let text = noted(&full, 25);
        assert!(text.starts_with(" lyon: failed, 25 %: ") && text.contains("full"), "{text}");
        assert!(text.contains("tried again 1970"), "{text}");
        assert_eq!(noted(&placed("oslo", ContentState::Sending, None), 50), " oslo: sending, 50 %");
    }

    #[test]
    fn the_exit_status_says_who_has_it() {
        let (well, full) =
            (placed("lyon", ContentState::Success, None), placed("oslo", ContentState::Failed, None));
        assert_eq!(verdict(std::slice::from_ref(&well)), Ok(None));
        assert_eq!(verdict(std::slice::from_ref(&full)).unwrap_err().code, Code::DpDiskFull);
        let bad = placed("rome", ContentState::Warning, None);
        let status = |problem: &Problem| problem.code.page().exit.status();
        assert_eq!(status(&verdict(std::slice::from_ref(&bad)).unwrap_err()), 8);
        assert_eq!(status(&verdict(&[well.clone(), bad.clone()]).unwrap().unwrap()), 8, "and one is well");
        assert_eq!(status(&verdict(&[well.clone(), bad, full.clone()]).unwrap().unwrap()), 7);
        let partly = verdict(&[well, full]).unwrap().unwrap();
        assert_eq!(partly.code, Code::PackagePartlyDone);
        assert!(partly.to_string().contains("1 of 2"), "{partly}");
    }
}
