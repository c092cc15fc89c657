//! What the messages of a device come to: how far it is with a deployment. Pure.
//!
//! A later run replaces an earlier one; a later series is a device that was set up anew, and replaces what came before.
//! What is late changes nothing.

use std::collections::BTreeMap;

use catalog::id::PackageId;
use schema::devices::DeviceRun;

use crate::policy::{RunState, StatusMessage, StepState};

/// What a run is after a message; `None` where the message is late.
pub fn fold(
    before: Option<DeviceRun>,
    device: &str,
    deployment: &PackageId,
    series: i64,
    message: &StatusMessage,
) -> Option<DeviceRun> {
    let mut run = match before {
        Some(known) if (known.series, known.run) > (series, message.run) => return None,
        Some(known) if (known.series, known.run) == (series, message.run) => known,
        _ => DeviceRun {
            device: device.to_owned(),
            deployment: deployment.clone(),
            series,
            run: message.run,
            state: String::new(),
            step: None,
            step_name: None,
            code: None,
            exit: None,
            details: String::new(),
            started: message.time,
            changed: message.time,
            bytes: BTreeMap::new(),
        },
    };
    run.state = message.state.word().to_owned();
    run.changed = message.time;
    if let Some(step) = message.step.as_ref().filter(|step| step.state != StepState::Skipped) {
        run.step = Some(step.number);
        run.step_name = Some(step.name.clone());
    }
    // The error of a run is that of what failed it: what was continued over is history, and what comes after the end of
    // the run says nothing new.
    let continued = message.step.as_ref().is_some_and(|step| step.state == StepState::FailedContinued);
    let says = message.code.is_some() || message.exit.is_some_and(|exit| exit != 0);
    if message.state == RunState::Succeeded {
        (run.code, run.exit) = (None, message.exit);
        run.details.clone_from(&message.details);
    } else if says && !continued {
        (run.code, run.exit) = (message.code.clone(), message.exit);
        run.details.clone_from(&message.details);
    } else if !message.details.is_empty() && run.code.is_none() {
        run.details.clone_from(&message.details);
    }
    for from in &message.bytes {
        let sum = run.bytes.entry(from.origin.word().to_owned()).or_default();
        *sum = sum.saturating_add(from.bytes);
    }
    Some(run)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::policy::{BytesFrom, Origin, StepReport};

    fn message(number: u64, run: u64, state: RunState) -> StatusMessage {
        StatusMessage {
            number,
            time: Timestamp::from_second(number as i64).unwrap(),
            deployment: "XYZ20001".parse().unwrap(),
            run,
            state,
            step: None,
            code: None,
            exit: None,
            details: String::new(),
            bytes: Vec::new(),
        }
    }

    fn step(number: u32, state: StepState) -> Option<StepReport> {
        let (name, kind) = (format!("step {number}"), "restart".to_owned());
        Some(StepReport { number, name, groups: Vec::new(), kind, state, attempt: 1 })
    }

    fn all(messages: &[(i64, StatusMessage)]) -> DeviceRun {
        let id = "XYZ20001".parse().unwrap();
        let folded = messages.iter().fold(None, |run: Option<DeviceRun>, (series, message)| {
            fold(run.clone(), "pc1", &id, *series, message).or(run)
        });
        folded.expect("there was a message")
    }

    #[test]
    fn a_run_as_it_goes() {
        let bytes = vec![BytesFrom { origin: Origin::Peer, name: "pc2".to_owned(), bytes: 7 }];
        let mut messages = vec![
            (1, message(1, 1, RunState::Waiting)),
            (1, StatusMessage { bytes: bytes.clone(), ..message(2, 1, RunState::Downloading) }),
            (1, StatusMessage { bytes, ..message(3, 1, RunState::Downloading) }),
            (1, StatusMessage { step: step(2, StepState::Running), ..message(4, 1, RunState::Running) }),
            (
                1,
                StatusMessage {
                    step: step(2, StepState::Failed),
                    code: Some("STEP_FAILED".to_owned()),
                    exit: Some(0xC190_0208),
                    ..message(5, 1, RunState::Running)
                },
            ),
            (1, StatusMessage { step: step(9, StepState::Skipped), ..message(6, 1, RunState::Running) }),
            (1, message(7, 1, RunState::Failed)),
        ];
        let run = all(&messages);
        assert_eq!((run.state.as_str(), run.step, run.exit), ("failed", Some(2), Some(0xC190_0208)));
        assert_eq!((run.bytes["peer"], run.started), (14, Timestamp::from_second(1).unwrap()));
        // Another run begins anew; what is late of the one before changes nothing.
        messages.push((1, message(8, 2, RunState::Running)));
        messages.push((1, message(9, 1, RunState::Failed)));
        let run = all(&messages);
        assert_eq!((run.state.as_str(), run.run, run.code, run.bytes.len()), ("running", 2, None, 0));
        // A device that was set up anew begins at 1 again.
        messages.push((2, message(1, 1, RunState::Succeeded)));
        messages.push((1, message(99, 9, RunState::Failed)));
        let run = all(&messages);
        assert_eq!((run.state.as_str(), run.series, run.run), ("succeeded", 2, 1));
    }

    #[test]
    fn what_was_continued_over_is_no_error_of_the_run() {
        let continued = StatusMessage {
            step: step(1, StepState::FailedContinued),
            code: Some("STEP_FAILED".to_owned()),
            ..message(1, 1, RunState::Running)
        };
        let run = all(&[(1, continued), (1, message(2, 1, RunState::Succeeded))]);
        assert_eq!((run.state.as_str(), run.code), ("succeeded", None));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn the_newest_run_of_the_newest_series_is_told(
            order in proptest::collection::vec((1_i64..4, 1_u64..4, 0_usize..3), 1..30),
        ) {
            let states = [RunState::Running, RunState::Succeeded, RunState::Failed];
            let messages: Vec<_> = order
                .iter()
                .enumerate()
                .map(|(n, (series, run, state))| (*series, message(n as u64 + 1, *run, states[*state])))
                .collect();
            let newest = order.iter().map(|(series, run, _)| (*series, *run)).max().expect("not empty");
            let last = messages.iter().rfind(|(series, message)| (*series, message.run) == newest).expect("it is one of them");
            let run = all(&messages);
            prop_assert_eq!((run.series, run.run), newest);
            prop_assert_eq!(run.state, last.1.state.word());
        }
    }
}
