//! A device that is pretended, after a file that says how it behaves: what it is, how Setup and other steps end, when its
//! power is cut. Its clock is its own, and what it is lives in a file beside the journal, so that killing the program
//! does to it what killing does to a real device.

mod script;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use catalog::problem::{Code, Problem};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

pub use self::script::{ContentScript, PowerAt, PowerScript, Script, SetupScript, StepScript};
use super::{Executor, Moment, Restarted, Stopped, Work};
use crate::device::executor::command;
use crate::device::judge::Probe;
use crate::device::machine::{Found, Outcome};
use crate::device::setup;
use crate::device::updates::Scanned;
use crate::policy::{ContentFile, DynamicUpdateSetting, Facts, NetworkKind, Target};
use crate::sequence::Action;
use crate::sequence::action::{OsType, UpgradeOs};

const WORLD: &str = "simulated.json";

/// What a pretended device is at a moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct World {
    boot: u64,
    clock: Timestamp,
    passed_ms: u64,
    facts: Facts,
    setups: usize,
    /// What the next restart does.
    pending: Option<Pending>,
    /// What it did.
    outcome: Option<Result<(), i64>>,
    /// How often each step ended as described.
    used: BTreeMap<String, u32>,
    /// How often each cut was made.
    cuts: BTreeMap<usize, u32>,
    /// The last act that ended, with how.
    last: Option<(String, Outcome)>,
    /// Everything that was done, each act once.
    effects: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Pending {
    version: Option<String>,
    release: Option<String>,
    rolls_back: Option<i64>,
}

/// The pretended device.
pub struct Simulated {
    script: Script,
    world: World,
    file: PathBuf,
    fetches: bool,
    /// The step that runs, for cuts within it.
    number: u32,
}

impl Simulated {
    /// The device of this file, as it was left in `folder`. With `fetches` content is really fetched.
    ///
    /// # Errors
    /// `CLIENT_STATE_DAMAGED`.
    pub fn new(script: Script, folder: &Path, fetches: bool, now: Timestamp) -> Result<Self, Problem> {
        let file = folder.join(WORLD);
        let world = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                Problem::new(Code::ClientStateDamaged, format!("`{}` cannot be understood", file.display()))
                    .because_of(Some(&error))
            })?,
            Err(_) => World {
                boot: 1,
                clock: script.clock.unwrap_or(now),
                passed_ms: 0,
                facts: script.facts.clone(),
                setups: 0,
                pending: None,
                outcome: None,
                used: BTreeMap::new(),
                cuts: BTreeMap::new(),
                last: None,
                effects: Vec::new(),
            },
        };
        Ok(Self { script, world, file, fetches, number: 0 })
    }

    /// Everything that was done on it.
    pub fn effects(&self) -> &[String] {
        &self.world.effects
    }

    /// Sets the clock forward to a time, if that is to come.
    pub fn skip_to(&mut self, time: Timestamp) -> Result<(), Problem> {
        if time > self.world.clock {
            self.world.clock = time;
        }
        self.save()
    }

    fn save(&self) -> Result<(), Problem> {
        let bytes = serde_json::to_vec(&self.world).map_err(|error| Problem::of(Code::Internal, &error))?;
        crate::keys::write_private(&self.file, &bytes)
    }

    fn pass(&mut self, time: Duration) {
        self.world.passed_ms += u64::try_from(time.as_millis()).unwrap_or_default();
        let later =
            SignedDuration::try_from(time).ok().and_then(|time| self.world.clock.checked_add(time).ok());
        self.world.clock = later.unwrap_or(self.world.clock);
    }

    /// The device starts again, and Setup does what it had left to do.
    fn start_again(&mut self) {
        self.world.boot += 1;
        self.world.last = None;
        self.pass(Duration::from_secs(300));
        let Some(pending) = self.world.pending.take() else { return };
        self.world.outcome = Some(match pending.rolls_back {
            Some(code) => Err(code),
            None => {
                if let Some(version) = pending.version {
                    self.world.facts.version = version;
                }
                self.world.facts.release = pending.release.or(self.world.facts.release.take());
                Ok(())
            }
        });
        self.pass(Duration::from_secs(1_800));
    }

    fn cut(&mut self, step: u32, at: PowerAt) -> Result<(), Stopped> {
        let cuts = self.script.power.iter().enumerate();
        let due = |(number, cut): &(usize, &PowerScript)| {
            cut.step == step
                && cut.at == at
                && self.world.cuts.get(number).is_none_or(|made| *made < cut.times)
        };
        let Some((number, _)) = cuts.clone().find(due) else { return Ok(()) };
        *self.world.cuts.entry(number).or_default() += 1;
        let last = self.world.last.take();
        self.start_again();
        // What had ended has left its exit code on the disk.
        self.world.last = last;
        self.save()?;
        Err(Stopped::Power)
    }

    fn name(work: Work<'_>) -> String {
        let part = match work.action {
            Action::InstallApplication(install) => {
                let known = &work.frame.assignment.references;
                let app = install.applications.get(work.order.part).and_then(|id| known.application(id));
                app.map(|app| app.name.clone())
            }
            Action::InstallUpdates(install) => {
                let sorted = crate::device::plan::targeted(install.mode, work.frame);
                sorted.install.get(work.order.part).copied().map(|update| update.title.clone())
            }
            _ => None,
        };
        part.unwrap_or_else(|| work.node.common.name.clone())
    }

    fn mark(work: Work<'_>) -> String {
        format!("{}/{}/{}/{}", work.frame.run, work.order.node, work.order.part, work.order.attempt)
    }

    fn setup_of(&mut self, upgrade: &UpgradeOs, work: Work<'_>) -> SetupScript {
        let said = self.script.setup.get(self.world.setups).or(self.script.setup.last()).cloned();
        let mut script = said.unwrap_or_default();
        self.world.setups += 1;
        let target = target(upgrade, work);
        // A server's Setup waits for somebody to confirm (mission row M10).
        script.hangs |= target.0 == Some(OsType::Server) && !upgrade.ignore_dismissable;
        if upgrade.scan_only && script.exit == 0 {
            script.exit = setup::NO_ISSUES;
        }
        let fetches = setup::dynamic_update(
            upgrade.dynamic_update,
            if upgrade.feature_updates.is_empty() { setup::From::Folder } else { setup::From::FeatureUpdate },
            work.frame.settings.dynamic_update,
        );
        if fetches == Some(true)
            || (fetches.is_none() && work.frame.settings.dynamic_update == DynamicUpdateSetting::Yes)
        {
            self.asks_the_internet();
        }
        script
    }

    /// Dynamic Update. A device that is on no network goes on without, as Setup does (mission row M22).
    fn asks_the_internet(&mut self) {
        if self.world.facts.network == NetworkKind::None {
            let found = "Dynamic Update could not reach the internet, and Setup went on without".to_owned();
            return self.world.effects.push(found);
        }
        for kind in ["language packs", "features on demand", "drivers", "cumulative updates"] {
            self.world.effects.push(format!("Dynamic Update asked the internet for {kind}"));
        }
    }
}

/// What an upgrade makes of a device: family, version, release.
fn target(upgrade: &UpgradeOs, work: Work<'_>) -> (Option<OsType>, Option<String>, Option<String>) {
    match work.frame.assignment.references.target(upgrade, work.choice) {
        Some(Target { os_type, build, release }) => {
            let version = build.map(|(major, minor)| format!("10.0.{major}.{minor}"));
            (Some(os_type), version, release.map(str::to_owned))
        }
        None => (None, None, None),
    }
}

impl Probe for Simulated {
    fn file(&self, path: &str) -> bool {
        self.script.has.iter().any(|one| one.eq_ignore_ascii_case(path))
    }

    fn folder(&self, path: &str) -> bool {
        self.file(path)
    }

    fn registry(&self, key: &str, value_name: &str) -> Option<String> {
        let wanted = format!("{key}\\{value_name}");
        let found = self.script.registry.iter().find(|(name, _)| name.eq_ignore_ascii_case(&wanted));
        found.map(|(_, value)| value.clone())
    }

    fn wmi(&self, _namespace: &str, query: &str) -> bool {
        self.file(query)
    }

    fn software(&self, product_code: &str) -> bool {
        self.file(product_code)
    }
}

impl Executor for Simulated {
    fn facts(&self) -> Facts {
        self.world.facts.clone()
    }

    fn scan(&self) -> Option<Vec<Scanned>> {
        self.script.applicable.clone()
    }

    fn now(&self) -> Timestamp {
        self.world.clock
    }

    fn passed(&self) -> Duration {
        Duration::from_millis(self.world.passed_ms)
    }

    fn boot(&self) -> String {
        format!("simulated-{}", self.world.boot)
    }

    async fn pause(&mut self, pause: Duration) {
        self.pass(pause);
    }

    async fn run(&mut self, work: Work<'_>) -> Result<Outcome, Stopped> {
        let name = Self::name(work);
        tokio::time::sleep(Duration::from_millis(self.script.pause_ms / 2)).await;
        let (mut takes, mut hangs) = (Duration::from_secs(60), false);
        let mut outcome = Outcome::Exit { code: 0, output: None };
        let mut pending = None;
        if let Action::UpgradeOs(upgrade) = work.action {
            let script = self.setup_of(upgrade, work);
            hangs = script.hangs;
            takes = Duration::from_secs(60 * script.minutes.unwrap_or(40));
            outcome = Outcome::Exit { code: script.exit, output: None };
            if setup::meaning(script.exit, false).is_ok() && !upgrade.scan_only && !hangs {
                let (_, version, release) = target(upgrade, work);
                pending = Some(Pending { version, release, rolls_back: script.rolls_back });
            }
        } else if let Some(script) = self.script.step.iter().find(|script| script.name == name).cloned() {
            let used = self.world.used.entry(name.clone()).or_default();
            if script.times.is_none_or(|times| *used < times) {
                *used += 1;
                takes = Duration::from_secs(60 * script.minutes.max(1));
                hangs = script.hangs;
                let output = (!script.output.is_empty()).then(|| script.output.clone());
                outcome = Outcome::Exit { code: script.exit, output };
                if script.there {
                    outcome = Outcome::AlreadyThere;
                }
            }
        }
        let number = work.node.number;
        self.pass(takes.min(work.order.limit) / 2);
        self.save()?;
        self.cut(number, PowerAt::Running)?;
        tokio::time::sleep(Duration::from_millis(self.script.pause_ms / 2)).await;
        self.pass(takes.min(work.order.limit) / 2);
        if hangs || takes > work.order.limit {
            self.pass(work.order.limit.saturating_sub(takes));
            outcome = Outcome::TimedOut;
            pending = None;
        }
        self.world.pending = pending.or(self.world.pending.take());
        self.world.effects.push(format!("{} `{name}` {}", Self::mark(work), worded(&outcome)));
        self.world.last = Some((Self::mark(work), outcome.clone()));
        self.save()?;
        Ok(outcome)
    }

    async fn look(&mut self, work: Work<'_>) -> Result<Found, Stopped> {
        if let Some((mark, outcome)) = &self.world.last
            && *mark == Self::mark(work)
        {
            return Ok(Found::Ended(outcome.clone()));
        }
        self.settle(work).await
    }

    async fn settle(&mut self, work: Work<'_>) -> Result<Found, Stopped> {
        if !matches!(work.action, Action::UpgradeOs(_)) {
            return Ok(Found::Lost);
        }
        Ok(match self.world.outcome {
            Some(Ok(())) => Found::Upgraded,
            Some(Err(code)) => Found::RolledBack { exit: Some(code) },
            None => Found::Lost,
        })
    }

    async fn restart(&mut self, delay: u16, _boot_image: bool) -> Result<Restarted, Stopped> {
        self.pass(Duration::from_secs(delay.into()));
        self.cut(0, PowerAt::Restarting)?;
        self.start_again();
        self.save()?;
        Ok(Restarted::Again(self.boot()))
    }

    fn show(&self, work: Work<'_>) -> Vec<String> {
        command::shown(work, r"C:\ProgramData\spsync")
    }

    fn assumes(&self, file: &ContentFile) -> Option<Result<PathBuf, Problem>> {
        match self.script.content {
            ContentScript::There => Some(Ok(PathBuf::new())),
            ContentScript::Fetch if !self.fetches => Some(Ok(PathBuf::new())),
            ContentScript::Fetch => None,
            ContentScript::Missing => {
                let message = format!("nobody has `{}` (simulated)", file.name);
                Some(Err(Problem::new(Code::ContentUnavailable, message)))
            }
        }
    }

    fn reached(&mut self, moment: Moment) -> Result<(), Stopped> {
        match moment {
            Moment::Fetches(step) => self.cut(step, PowerAt::Fetching),
            Moment::Fetched(step) => self.cut(step, PowerAt::Fetched),
            Moment::Tidied => self.cut(0, PowerAt::Tidied),
            Moment::Begins(step) => {
                self.number = step;
                self.world.outcome = None;
                self.cut(step, PowerAt::Begins)
            }
            Moment::Ended(step) => self.cut(step, PowerAt::Ended),
            Moment::Noted(step) => self.cut(step, PowerAt::Noted),
        }
    }
}

fn worded(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Exit { code, .. } => format!("ended with {}", setup::shown(*code)),
        Outcome::AlreadyThere => "was there".to_owned(),
        Outcome::TimedOut => "was ended".to_owned(),
        Outcome::Failed(failure) => failure.details.clone(),
    }
}
