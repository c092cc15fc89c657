//! What may be said of a deployment, what holds where nothing is said, and what contradicts what (mission rows M65, M66
//! and M68). Pure: the time is an argument.

use catalog::problem::{Code, Problem};
use jiff::Timestamp;
use schema::deployments::Purpose;
use serde::{Deserialize, Serialize};

use crate::policy::Rerun;
use crate::sequence::{Action, Sequence};

/// Who is offered it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum OfferedTo {
    /// Devices with the client
    #[default]
    Clients,
    /// Those, and what starts from media or the network
    ClientsAndMedia,
    /// What starts from media or the network
    Media,
    /// The same, and only who knows its id
    Hidden,
}

/// When content comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// Each content when a step needs it
    WhenNeeded,
    /// All of it before the first step
    BeforeStart,
    /// It stays on the distribution point
    FromPoint,
}

/// Everything that an administrator chooses beside purpose and times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// When it runs again.
    pub rerun: Rerun,
    /// Who is offered it.
    pub offered_to: OfferedTo,
    /// When content comes; all of it before the start, where no step brings content itself.
    pub delivery: Option<Delivery>,
    /// A user may start it before the deadline.
    pub user_may_run: bool,
    /// The user sees how far it is.
    pub show_progress: bool,
    /// It may run outside of maintenance windows.
    pub outside_windows: bool,
    /// It may restart the device outside of maintenance windows.
    pub restart_outside_windows: bool,
    /// Wakes devices up at the deadline.
    pub wake_up: bool,
    /// Goes on over metered connections after the deadline.
    pub metered: bool,
    /// Devices on the internet are offered it too.
    pub internet: bool,
    /// Content but feature updates comes before the user asks for it.
    pub pre_download: bool,
    /// Points of neighbouring boundary groups may be asked.
    pub neighbours: bool,
    /// Points of the default site group may be asked.
    pub fallback: bool,
    /// Feature updates may come from the upstream's own links.
    pub cloud: bool,
    /// For people.
    pub comment: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rerun: Rerun::default(),
            offered_to: OfferedTo::default(),
            delivery: None,
            user_may_run: false,
            show_progress: true,
            outside_windows: false,
            restart_outside_windows: false,
            wake_up: false,
            metered: false,
            internet: false,
            pre_download: false,
            neighbours: false,
            fallback: false,
            cloud: false,
            comment: String::new(),
        }
    }
}

/// The longest comment, in characters.
pub const LONGEST_COMMENT: usize = 512;

/// When it is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// From when.
    pub available: Timestamp,
    /// When it runs by itself.
    pub deadline: Option<Timestamp>,
    /// Until when.
    pub expires: Option<Timestamp>,
}

/// Puts a deployment in order: what was not said gets its default, and what contradicts is refused. Also what is worth
/// saying about what was chosen.
///
/// # Errors
/// `CONFLICTING_OPTIONS`, `INVALID_OPTION`, `INTERNET_START_UNSUPPORTED`, `RUN_FROM_DP_FEATURE_UPDATE`,
/// `DESCRIPTION_TOO_LONG`.
pub fn settle(
    purpose: Purpose,
    times: &mut Times,
    options: &mut Options,
    sequence: &Sequence,
) -> Result<Vec<String>, Problem> {
    let mut notes = Vec::new();
    let conflict = |message: &str| Err(Problem::new(Code::ConflictingOptions, message));
    let invalid = |message: &str| Err(Problem::new(Code::InvalidOption, message));
    if options.comment.chars().count() > LONGEST_COMMENT {
        let message = format!("the comment has more than {LONGEST_COMMENT} characters");
        return Err(Problem::new(Code::DescriptionTooLong, message));
    }
    match (purpose, times.deadline) {
        (Purpose::Available, Some(_)) => return conflict("only a required deployment has a deadline"),
        (Purpose::Required, None) => {
            times.deadline = Some(times.available);
            notes.push("without a deadline it is due as soon as it is available".to_owned());
        }
        (Purpose::Required, Some(deadline)) if deadline < times.available => {
            return invalid("the deadline is before the time from which it is available");
        }
        _ => {}
    }
    if times.expires.is_some_and(|expires| expires <= times.deadline.unwrap_or(times.available)) {
        return invalid("it expires before it is due");
    }
    let media = options.offered_to != OfferedTo::Clients;
    if options.internet && media {
        let message =
            "on the internet a task sequence starts from the running system only, not from media or PXE";
        return Err(Problem::new(Code::InternetStartUnsupported, message));
    }
    let upgrades = deploys_os(sequence);
    if purpose == Purpose::Available {
        options.user_may_run = true;
        if options.wake_up || options.metered {
            return conflict("waking up and metered connections belong to required deployments");
        }
    } else if options.metered && upgrades {
        return conflict("an upgrade of the operating system does not go over metered connections");
    }
    let brings =
        sequence.steps().iter().any(|at| at.enabled && matches!(at.step.action, Action::DownloadContent(_)));
    match options.delivery {
        None => {
            let whole = !media && !brings;
            options.delivery = Some(if whole { Delivery::BeforeStart } else { Delivery::WhenNeeded });
        }
        Some(Delivery::BeforeStart) if media => {
            return conflict("what starts from media or PXE cannot download everything before it starts");
        }
        Some(Delivery::BeforeStart | Delivery::FromPoint) if brings => {
            return conflict("a step that downloads content needs `--delivery when-needed`");
        }
        Some(Delivery::FromPoint) => {
            sequence.may_run_from_points()?;
            notes.push("content that stays on the distribution point is not checked before use".to_owned());
        }
        Some(_) => {}
    }
    if options.pre_download {
        let (before, _) = sequence.predownload();
        if before.is_empty() {
            let page = Code::PredownloadHasNoEffect.page();
            notes.push(format!("{}: {}", Code::PredownloadHasNoEffect, page.meaning));
        } else if purpose == Purpose::Required {
            notes.push(
                "a required deployment downloads when it is available; nothing comes earlier".to_owned(),
            );
        }
    }
    if sequence.uses_feature_updates() && media {
        notes.push(
            "feature updates need a running system: started from media the upgrade step fails".to_owned(),
        );
    }
    Ok(notes)
}

/// Whether it installs an operating system.
pub fn deploys_os(sequence: &Sequence) -> bool {
    let upgrade = |action: &Action| matches!(action, Action::UpgradeOs(upgrade) if !upgrade.scan_only);
    sequence.steps().iter().any(|at| at.enabled && upgrade(&at.step.action))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequence::action::{DownloadContent, UpgradeOs};
    use crate::sequence::{Common, Kind, Node, Step};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn with(actions: Vec<Action>) -> Sequence {
        let step = |action| Node::Step(Step { common: Common::named("x"), action });
        Sequence { nodes: actions.into_iter().map(step).collect(), ..Sequence::empty("x", "", Kind::Upgrade) }
    }

    fn by_update() -> Sequence {
        let id = catalog::id::UpdateId::of_esd("Windows 11", 26200, "business", "x64", "en-us");
        with(vec![Action::UpgradeOs(UpgradeOs { feature_updates: vec![id], ..UpgradeOs::default() })])
    }

    fn by_image() -> Sequence {
        let image = Some("XYZ00001".parse().unwrap());
        with(vec![Action::UpgradeOs(UpgradeOs { image, ..UpgradeOs::default() })])
    }

    /// The matrix of what is refused (mission row M65).
    #[test]
    fn deploy_matrix() {
        let downloads = || {
            let packages = vec!["XYZ00001".parse().unwrap()];
            with(vec![Action::DownloadContent(DownloadContent { packages, ..DownloadContent::default() })])
        };
        let base = Options::default;
        let (required, available) = (Purpose::Required, Purpose::Available);
        let times = |deadline: Option<i64>, expires: Option<i64>| Times {
            available: at(100),
            deadline: deadline.map(at),
            expires: expires.map(at),
        };
        type Row = (&'static str, Purpose, Times, Options, Sequence, Option<Code>);
        let rows: Vec<Row> = vec![
            ("plain", available, times(None, None), base(), by_update(), None),
            ("due", required, times(Some(200), Some(300)), base(), by_update(), None),
            (
                "available with deadline",
                available,
                times(Some(200), None),
                base(),
                by_update(),
                Some(Code::ConflictingOptions),
            ),
            (
                "deadline too early",
                required,
                times(Some(99), None),
                base(),
                by_update(),
                Some(Code::InvalidOption),
            ),
            (
                "expires before due",
                required,
                times(Some(200), Some(200)),
                base(),
                by_update(),
                Some(Code::InvalidOption),
            ),
            (
                "expires before available",
                available,
                times(None, Some(100)),
                base(),
                by_update(),
                Some(Code::InvalidOption),
            ),
            (
                "wakes nobody",
                available,
                times(None, None),
                Options { wake_up: true, ..base() },
                by_update(),
                Some(Code::ConflictingOptions),
            ),
            ("wakes", required, times(None, None), Options { wake_up: true, ..base() }, by_update(), None),
            (
                "metered OS",
                required,
                times(None, None),
                Options { metered: true, ..base() },
                by_image(),
                Some(Code::ConflictingOptions),
            ),
            ("metered", required, times(None, None), Options { metered: true, ..base() }, with(vec![]), None),
            (
                "internet from media",
                available,
                times(None, None),
                Options { internet: true, offered_to: OfferedTo::ClientsAndMedia, ..base() },
                by_image(),
                Some(Code::InternetStartUnsupported),
            ),
            (
                "internet",
                available,
                times(None, None),
                Options { internet: true, ..base() },
                by_image(),
                None,
            ),
            (
                "from the point",
                required,
                times(None, None),
                Options { delivery: Some(Delivery::FromPoint), ..base() },
                by_update(),
                Some(Code::RunFromDpFeatureUpdate),
            ),
            (
                "an image from the point",
                required,
                times(None, None),
                Options { delivery: Some(Delivery::FromPoint), ..base() },
                by_image(),
                None,
            ),
            (
                "all before, from media",
                available,
                times(None, None),
                Options { delivery: Some(Delivery::BeforeStart), offered_to: OfferedTo::Media, ..base() },
                by_image(),
                Some(Code::ConflictingOptions),
            ),
            (
                "all before, with a step that downloads",
                available,
                times(None, None),
                Options { delivery: Some(Delivery::BeforeStart), ..base() },
                downloads(),
                Some(Code::ConflictingOptions),
            ),
            ("a step that downloads", available, times(None, None), base(), downloads(), None),
            (
                "a long comment",
                available,
                times(None, None),
                Options { comment: "x".repeat(513), ..base() },
                by_update(),
                Some(Code::DescriptionTooLong),
            ),
        ];
        for (name, purpose, mut times, mut options, sequence, expected) in rows {
            let settled = settle(purpose, &mut times, &mut options, &sequence);
            assert_eq!(settled.as_ref().err().map(|problem| problem.code), expected, "{name}: {settled:?}");
        }
    }

    #[test]
    fn what_is_not_said_gets_its_default() {
        let mut times = Times { available: at(100), deadline: None, expires: None };
        let mut options = Options { pre_download: true, ..Options::default() };
        let notes = settle(Purpose::Required, &mut times, &mut options, &by_update()).unwrap();
        assert_eq!((times.deadline, options.delivery), (Some(at(100)), Some(Delivery::BeforeStart)));
        assert!(!options.user_may_run && options.show_progress && options.rerun == Rerun::Always);
        assert!(notes.iter().any(|note| note.starts_with("PREDOWNLOAD_HAS_NO_EFFECT")), "{notes:?}");
        // Mission row M68: accepted as a normal download, and said.
        for (purpose, said) in [(Purpose::Required, true), (Purpose::Available, false)] {
            let mut times = Times { available: at(100), deadline: None, expires: None };
            let notes = settle(purpose, &mut times, &mut options, &by_image()).unwrap();
            assert_eq!(notes.iter().any(|note| note.contains("nothing comes earlier")), said, "{notes:?}");
        }
        let mut times = Times { available: at(100), deadline: None, expires: None };
        let mut options = Options { offered_to: OfferedTo::Media, ..Options::default() };
        settle(Purpose::Available, &mut times, &mut options, &by_image()).unwrap();
        assert!(options.user_may_run && options.delivery == Some(Delivery::WhenNeeded));
    }
}
