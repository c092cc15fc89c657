//! A device that is real: what a step says is run, with its time-outs. Setup is put together (`media`), and then told what
//! [`setup::command_line`] makes.
//!
//! A secret stands on no command line. A product key is in a configuration file that only its owner may read, from just
//! before Setup starts until it has ended; command lines with secret variables come by the environment of their shell.

mod media;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use catalog::problem::{Code, Problem};
use jiff::Timestamp;

pub use self::media::WIMLIB;
use self::media::image_file;
use super::gather::{emptied, gather};
use super::process::{self, Ended, Program};
use super::{Executor, Moment, Restarted, Stopped, Work};
use crate::blocking::blocking;
use crate::device::facts;
use crate::device::judge::Probe;
use crate::device::machine::{Failure, Found, Outcome};
use crate::device::plan::targeted;
use crate::device::scripts::{self, Told};
use crate::device::setup::{self, CommandLine, From, Places};
use crate::device::variables::Masker;
use crate::policy::{Application, ContentFile, Facts};
use crate::sequence::Action;
use crate::sequence::action::{RunCommand, UpgradeOs};
use crate::sequence::choose::numbers;
use crate::sequence::key::{HiddenText, MASK};

/// How long a detection may take.
const DETECTION: Duration = Duration::from_secs(300);
/// Characters of output that a variable gets.
const OUTPUT: usize = 1000;
/// The configuration file with the product key.
const KEY_FILE: &str = "setup-key.ini";

/// How a real device is worked on.
#[derive(Debug, Clone)]
pub struct CommandSettings {
    /// The folder of the client.
    pub folder: PathBuf,
    /// A TOML file with what the device is; it is read again whenever that is asked.
    pub facts: PathBuf,
    /// The command that restarts the device.
    pub restart: String,
    /// A file whose text says which start of the device this is.
    pub boot_id: PathBuf,
}

/// The real device.
pub struct Real {
    settings: CommandSettings,
    facts: Facts,
    started: Instant,
    /// What has ended; how is not written down yet.
    spent: Vec<Program>,
    /// Where the client dies, for tests.
    #[cfg(test)]
    pub dies_at: Option<Moment>,
}

impl Real {
    /// A device of these settings. What a run that was killed has left of secrets goes first.
    ///
    /// # Errors
    /// `FACTS_INVALID`.
    pub fn new(settings: CommandSettings) -> Result<Self, Problem> {
        let facts = facts::of_file(&settings.facts)?;
        Ok(Self {
            settings,
            facts,
            started: Instant::now(),
            spent: Vec::new(),
            #[cfg(test)]
            dies_at: None,
        })
    }

    pub(super) fn work(&self) -> PathBuf {
        self.settings.folder.join("work")
    }

    /// A program of this attempt alone: what another one has left is never taken for its end. `what` it is for, beside the
    /// step itself.
    pub(super) fn program(
        &self,
        work: Work<'_>,
        what: &str,
        line: Vec<String>,
        folder: Option<PathBuf>,
    ) -> Program {
        let (order, run, step) = (work.order, work.frame.run, work.node.number);
        let name = format!("{}{run}-{step}-{}-{}{what}", process::MARK, order.part, order.attempt);
        Program { mark: self.work().join(name), line, folder, environment: Vec::new() }
    }

    fn shell(&self, work: Work<'_>, what: &str, command: &str, folder: Option<PathBuf>) -> Program {
        let line = vec!["sh".into(), "-c".into(), process::SHELL.into()];
        let mut program = self.program(work, what, line, folder);
        program.environment = vec![(process::COMMAND.to_owned(), command.to_owned())];
        program
    }

    async fn run_command(&self, work: Work<'_>, command: &RunCommand) -> Outcome {
        let folder = (!command.start_in.is_empty())
            .then(|| PathBuf::from(work.variables.fill(&command.start_in, work.secrets)));
        let line = work.variables.fill(&command.command, work.secrets);
        let program = self.shell(work, "", &line, folder);
        finish(work, &program, program.run(work.order.limit).await)
    }

    async fn install(&self, work: Work<'_>, app: &Application) -> Outcome {
        let place = self.work().join(format!("app-{}", app.id));
        if let Err(problem) = gather(&place, &app.files, work).await {
            return failed(&problem);
        }
        if !app.detect.is_empty() {
            let detect = self.shell(work, "-detect", &app.detect, Some(place.clone()));
            let found = detect.run(DETECTION.min(work.order.limit)).await;
            detect.forget();
            if matches!(found, Ok(Ended::Exit(0))) {
                return Outcome::AlreadyThere;
            }
        }
        let program = self.shell(work, "", &app.install, Some(place.clone()));
        let ended = program.run(work.order.limit).await;
        if let Err(problem) = blocking(move || emptied(&place)).await {
            tracing::warn!("what an installer has left stays until it is run again: {problem}");
        }
        finish(work, &program, ended)
    }

    async fn upgrade(&self, work: Work<'_>, upgrade: &UpgradeOs) -> Outcome {
        let began = Instant::now();
        let folder = &self.settings.folder;
        // What an earlier attempt has left says nothing about this one, from here on. Who only asks whether Setup would do
        // its work has none that scripts could tell of.
        if !upgrade.scan_only {
            scripts::forget(folder);
        }
        let prepared = match self.media(work, upgrade).await {
            Ok(prepared) => prepared,
            Err(failure) => return Outcome::Failed(failure),
        };
        let (media, from) = prepared;
        if from == From::FeatureUpdate {
            let path = folder.join("SetupConfig.ini");
            let now = std::fs::read_to_string(&path).unwrap_or_default();
            let text = setup::setup_config(&now, &work.frame.settings);
            if text != now
                && let Err(problem) = crate::keys::write_private(&path, text.as_bytes())
            {
                return failed(&problem);
            }
        }
        let key = work.secrets.zip(upgrade.product_key.as_ref()).and_then(|(all, place)| all.at(place));
        let key = key.filter(|_| matches!(from, From::Image { .. }));
        let key = match key.map(|key| KeyFile::written(&self.work(), key)).transpose() {
            Ok(key) => key,
            Err(problem) => return failed(&problem),
        };
        let config = key.as_ref().map(|key| key.0.display().to_string());
        let places = places(folder, media.display().to_string(), config);
        let line = setup::command_line(upgrade, from, &work.frame.settings, &places, work.variables);
        let CommandLine { program, arguments } = line;
        let line = std::iter::once(program).chain(arguments).collect();
        let program = self.program(work, "", line, Some(media));
        if !upgrade.scan_only
            && let Err(problem) = scripts::begin(folder, &ticket(work))
        {
            return failed(&problem);
        }
        let ended =
            program.run(work.order.limit.saturating_sub(began.elapsed()).max(Duration::from_secs(1))).await;
        drop(key);
        finish(work, &program, ended)
    }
}

/// A configuration file with a product key. It goes with this, on whatever way that is.
struct KeyFile(PathBuf);

impl KeyFile {
    fn written(folder: &Path, key: &HiddenText) -> Result<Self, Problem> {
        crate::keys::private_folder(folder).map_err(|error| Problem::of(Code::DiskError, &error))?;
        let file = Self(folder.join(KEY_FILE));
        let text = format!("[SetupConfig]\r\nPKey={}\r\n", key.reveal());
        crate::keys::write_private(&file.0, text.as_bytes())?;
        Ok(file)
    }

    /// Removes the file; one that is not there is removed.
    fn remove(&self) -> std::io::Result<()> {
        match std::fs::remove_file(&self.0) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            let path = self.0.display();
            tracing::error!("a product key stays in `{path}`, which cannot be removed: {error}");
        }
    }
}

fn places(folder: &Path, media: String, config: Option<String>) -> Places {
    let kind = if cfg!(windows) { "cmd" } else { "sh" };
    let script = |name: &str| folder.join("scripts").join(format!("{name}.{kind}")).display().to_string();
    Places { media, complete: script("setupcomplete"), rollback: script("setuprollback"), config }
}

fn ticket(work: Work<'_>) -> String {
    scripts::ticket(work.frame.run, work.node.number, work.order.attempt)
}

fn failed(problem: &Problem) -> Outcome {
    Outcome::Failed(Failure { code: problem.code, exit: None, details: problem.to_string() })
}

fn finish(work: Work<'_>, program: &Program, ended: std::io::Result<Ended>) -> Outcome {
    let output = Masker::of(work.secrets).mask(&program.output());
    let skip = output.chars().count().saturating_sub(OUTPUT);
    let output: String = output.chars().skip(skip).collect();
    match ended {
        Ok(Ended::Exit(code)) => Outcome::Exit { code, output: Some(output) },
        Ok(Ended::TimedOut) => Outcome::TimedOut,
        Err(error) => Outcome::Failed(Failure {
            code: Code::StepFailed,
            exit: None,
            details: format!("it could not be started: {error}"),
        }),
    }
}

/// What would be run, secrets masked.
pub fn shown(work: Work<'_>, folder: &str) -> Vec<String> {
    match work.action {
        Action::RunCommand(command) => vec![work.variables.masked(&command.command)],
        Action::InstallApplication(install) => {
            let known = &work.frame.assignment.references;
            let apps = install.applications.iter().filter_map(|id| known.application(id));
            apps.map(|app| app.install.clone()).collect()
        }
        Action::InstallUpdates(install) => targeted(install.mode, work.frame)
            .install
            .iter()
            .map(|update| format!("install {}", update.title))
            .collect(),
        Action::UpgradeOs(upgrade) => {
            let mut lines = Vec::new();
            let work_folder = setup::join(folder, "work");
            let mut media = setup::join(&work_folder, "media");
            let mut from = From::Folder;
            if let Some(path) = &upgrade.source_path {
                media = work.variables.masked(path);
            } else {
                match image_file(work, upgrade) {
                    Ok(file) => lines.push(format!("{WIMLIB} apply {} <setup media> {media}", file.name)),
                    Err(failure) => lines.push(format!("nothing: [{}] {}", failure.code, failure.details)),
                }
                from = match &upgrade.image {
                    None => From::FeatureUpdate,
                    Some(id) => {
                        let image = work.frame.assignment.references.image(id);
                        let edition = image.and_then(|image| image.edition(upgrade.edition_index));
                        let place = image
                            .and_then(|image| image.editions.iter().position(|one| Some(one) == edition));
                        From::Image { index: u32::try_from(place.unwrap_or(0) + 1).unwrap_or(1) }
                    }
                };
            }
            let key = upgrade.product_key.is_some() && matches!(from, From::Image { .. });
            let config = key.then(|| setup::join(&work_folder, KEY_FILE));
            if let Some(config) = &config {
                lines
                    .push(format!("write {config}: [SetupConfig] PKey={MASK}; removed when Setup has ended"));
            }
            let mut places = places(Path::new(folder), media, config);
            if folder.contains('\\') {
                places.complete = setup::join(&setup::join(folder, "scripts"), "setupcomplete.cmd");
                places.rollback = setup::join(&setup::join(folder, "scripts"), "setuprollback.cmd");
            }
            let line = setup::command_line(upgrade, from, &work.frame.settings, &places, work.variables);
            lines.push(line.to_string());
            lines
        }
        Action::Restart(restart) => vec![format!("restart after {} s", restart.delay)],
        _ => Vec::new(),
    }
}

impl Probe for Real {
    fn file(&self, path: &str) -> bool {
        Path::new(path).is_file()
    }

    fn folder(&self, path: &str) -> bool {
        Path::new(path).is_dir()
    }

    // There is no registry, no WMI and no installer database on the machines that this client runs on today.
    fn registry(&self, _key: &str, _value_name: &str) -> Option<String> {
        None
    }

    fn wmi(&self, _namespace: &str, _query: &str) -> bool {
        false
    }

    fn software(&self, _product_code: &str) -> bool {
        false
    }
}

impl Executor for Real {
    fn facts(&self) -> Facts {
        facts::of_file(&self.settings.facts).unwrap_or_else(|_| self.facts.clone())
    }

    fn now(&self) -> Timestamp {
        crate::clock::now()
    }

    fn passed(&self) -> Duration {
        self.started.elapsed()
    }

    fn boot(&self) -> String {
        let text = std::fs::read_to_string(&self.settings.boot_id).unwrap_or_default();
        text.trim().chars().take(64).collect()
    }

    async fn pause(&mut self, pause: Duration) {
        tokio::time::sleep(pause).await;
    }

    async fn run(&mut self, work: Work<'_>) -> Result<Outcome, Stopped> {
        // What a client that was killed has started works with the same files.
        process::clear(&self.work()).await;
        self.spent.push(self.program(work, "", Vec::new(), None));
        Ok(match work.action {
            Action::RunCommand(command) => self.run_command(work, command).await,
            Action::UpgradeOs(upgrade) => self.upgrade(work, upgrade).await,
            Action::InstallApplication(install) => {
                let known = &work.frame.assignment.references;
                match install.applications.get(work.order.part).and_then(|id| known.application(id)) {
                    Some(app) => self.install(work, app).await,
                    None => Outcome::Failed(Failure {
                        code: Code::ApplicationNotFound,
                        exit: None,
                        details: "the policy does not name the application".to_owned(),
                    }),
                }
            }
            _ => Outcome::Failed(Failure {
                code: Code::ToolMissing,
                exit: None,
                details: "only Windows' own update agent installs updates".to_owned(),
            }),
        })
    }

    async fn look(&mut self, work: Work<'_>) -> Result<Found, Stopped> {
        let program = self.program(work, "", Vec::new(), None);
        let ended = program.look(work.order.limit).await;
        drop(KeyFile(self.work().join(KEY_FILE)));
        if let Some(ended) = ended {
            let outcome = finish(work, &program, Ok(ended));
            self.spent.push(program);
            return Ok(Found::Ended(outcome));
        }
        // It may not have come to the program itself: what prepares it must not go on beside what is begun next.
        process::clear(&self.work()).await;
        match scripts::told(&self.settings.folder, &ticket(work)) {
            // Whatever the device runs, that was no work of this step.
            Told::NeverBegan => Ok(Found::Lost),
            _ => self.settle(work).await,
        }
    }

    async fn settle(&mut self, work: Work<'_>) -> Result<Found, Stopped> {
        let Action::UpgradeOs(upgrade) = work.action else { return Ok(Found::Lost) };
        match scripts::told(&self.settings.folder, &ticket(work)) {
            Told::Upgraded => return Ok(Found::Upgraded),
            Told::RolledBack => return Ok(Found::RolledBack { exit: None }),
            Told::Nothing | Told::NeverBegan => {}
        }
        let target = work.frame.assignment.references.target(upgrade, work.choice);
        let build = target.and_then(|target| target.build);
        let now = numbers(&self.facts().version)[2];
        Ok(match build {
            Some((major, _)) if now >= major => Found::Upgraded,
            _ => Found::Lost,
        })
    }

    async fn restart(&mut self, _delay: u16, boot_image: bool) -> Result<Restarted, Stopped> {
        if boot_image {
            let message = "this client cannot start Windows PE";
            return Err(Problem::new(Code::BootImageMissing, message).into());
        }
        let mark = self.work().join("restart");
        let line = vec!["sh".to_owned(), "-c".to_owned(), self.settings.restart.clone()];
        let program = Program { mark, line, folder: None, environment: Vec::new() };
        let ended = program.run(Duration::from_secs(60)).await;
        program.forget();
        tracing::info!("the device was told to restart: {ended:?}");
        Ok(Restarted::GoingDown)
    }

    fn show(&self, work: Work<'_>) -> Vec<String> {
        shown(work, &self.settings.folder.display().to_string())
    }

    fn assumes(&self, _file: &ContentFile) -> Option<Result<PathBuf, Problem>> {
        None
    }

    fn written(&mut self) {
        for program in self.spent.drain(..) {
            program.forget();
        }
    }

    fn reached(&mut self, moment: Moment) -> Result<(), Stopped> {
        #[cfg(test)]
        if self.dies_at.take_if(|at| *at == moment).is_some() {
            return Err(Stopped::Power);
        }
        let _ = moment;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_key_goes_with_what_holds_it_and_one_that_stays_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(KEY_FILE);
        let written =
            || KeyFile::written(folder.path(), &HiddenText::new("ABCDE-12345-FGHIJ-67890-KLMNO")).unwrap();
        let key = written();
        assert!(std::fs::read_to_string(&path).unwrap().contains("PKey=ABCDE"));
        drop(key);
        assert!(!path.exists());
        let early = || -> Result<(), ()> {
            let _key = written();
            Err(())
        };
        assert!(early().is_err() && !path.exists(), "whichever way it is left");
        // What is no file cannot be removed as one, whoever asks.
        let key = KeyFile(path.clone());
        key.remove().expect("it is gone already");
        std::fs::create_dir(&path).unwrap();
        assert!(key.remove().is_err());
    }
}
