//! `spsync client run`, and what a device keeps of it.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use catalog::problem::{Code, Problem};
use clap::{Args, Subcommand};

use super::super::Output;
use super::super::output::safe;
use super::settings_of;
use crate::carrying;
use crate::clock;
use crate::config::Settings;
use crate::device;
use crate::device::drive::{Device, Line, Round};
use crate::device::executor::command::{CommandSettings, Real};
use crate::device::executor::simulate::{Script, Simulated};
use crate::device::executor::{Executor, Stopped};
use crate::device::journal::{Journal, read_memory};
use crate::device::link::Link;
use crate::device::log;
use crate::device::pause::before_next;
use crate::policy::{Bucket, DeploymentId, Policy};
use crate::sequence::action::Sealed;
use crate::sequence::key;
use crate::whole;

/// Power cuts of a simulated device in one call: more is a description that never ends.
const MOST_CUTS: usize = 1_000;
/// Looks at a policy of a simulated device in one call.
const MOST_ROUNDS: usize = 1_000;
/// Bytes of a file of secrets; they are product keys and passwords.
const LARGEST_SECRETS: u64 = 64 << 10;

/// How task sequences are run.
#[derive(Debug, Args)]
pub struct Run {
    /// The address of the site; `[client] site` if not given
    #[arg(long, value_name = "URL", conflicts_with = "policy")]
    site: Option<String>,
    /// The key of this device; that of its enrolment if not given
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Run by this policy, without asking a site
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Run what is on this stand-alone media, without asking a site
    #[arg(long, value_name = "DIR", conflicts_with_all = ["policy", "site"])]
    media: Option<PathBuf>,
    /// Pretend, after this description of a device; `spsync client facts --example --simulate` prints one
    #[arg(long, value_name = "FILE", conflicts_with = "execute")]
    simulate: Option<PathBuf>,
    /// Really run what the steps say
    #[arg(long, requires = "facts")]
    execute: bool,
    /// What this device is, as TOML; with --execute. `spsync client facts --example` prints such a file
    #[arg(long, value_name = "FILE")]
    facts: Option<PathBuf>,
    /// Where the device remembers its runs; below `[client] dir` if not given
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Print what would be run, with secrets masked, and run nothing
    #[arg(long)]
    show_commands: bool,
    /// Look once, run what is due, and end
    #[arg(long)]
    once: bool,
    /// Start this deployment, as the user of the device may; repeat for more
    #[arg(long, value_name = "DEPLOYMENT")]
    start: Vec<DeploymentId>,
    /// Secrets for a run without a site, as TOML: sealed-1 = "…"; only its owner may read the file
    #[arg(long, value_name = "FILE", requires = "policy")]
    secrets_file: Option<PathBuf>,
    /// Command that restarts the device; with --execute
    #[arg(long, value_name = "COMMAND", default_value = "shutdown -r now")]
    restart_command: String,
    /// File with another content after each restart of the device; with --execute
    #[arg(long, value_name = "FILE", default_value = "/proc/sys/kernel/random/boot_id")]
    boot_id_file: PathBuf,
}

/// What this device keeps of its runs
#[derive(Debug, Subcommand)]
pub enum Here {
    /// Show the scripts that this device keeps until the restart after a run
    #[command(name = "kept-scripts")]
    Scripts {
        /// Where the device remembers its runs
        #[arg(long, value_name = "DIR")]
        state_dir: Option<PathBuf>,
    },
    /// Show the end of the log of this device
    Log {
        /// Where the device remembers its runs
        #[arg(long, value_name = "DIR")]
        state_dir: Option<PathBuf>,
        /// Lines
        #[arg(long, default_value_t = 50)]
        lines: usize,
    },
}

/// The folder in which a device remembers its runs.
pub(super) fn state_dir(given: Option<PathBuf>, settings: &Settings) -> Result<PathBuf, Problem> {
    let folder = given.unwrap_or_else(|| settings.client_dir().join("runs"));
    std::path::absolute(&folder).map_err(|error| {
        Problem::new(Code::DataDirNotWritable, format!("`{}` cannot be used", folder.display()))
            .because_of(Some(&error))
    })
}

impl Run {
    pub(super) async fn run(self, settings: &Settings, output: &Output) -> Result<u8, Problem> {
        let folder = state_dir(self.state_dir.clone(), settings)?;
        let journal = Journal::open(&folder)?;
        if let Some(file) = &self.simulate {
            let fetches = self.policy_file().is_none();
            let hands = Simulated::new(Script::of_file(file)?, &folder, fetches, clock::now())?;
            let mut device = self.device(journal, hands, settings)?;
            return self.simulated(&mut device, output).await;
        }
        if !self.execute && !self.show_commands {
            return Err(Problem::new(Code::Usage, "nothing says how steps are carried out")
                .help("`--simulate FILE` pretends, `--execute --facts FILE` really does it"));
        }
        let Some(facts) = self.facts.clone() else {
            return Err(Problem::new(Code::Usage, "what the device is must be said with --facts"));
        };
        let hands = Real::new(CommandSettings {
            folder,
            facts,
            restart: self.restart_command.clone(),
            boot_id: self.boot_id_file.clone(),
        })?;
        let mut device = self.device(journal, hands, settings)?;
        self.real(&mut device, output).await
    }

    fn device<E: Executor>(
        &self,
        journal: Journal,
        hands: E,
        settings: &Settings,
    ) -> Result<Device<E>, Problem> {
        let mut device = Device::open(journal, hands)?;
        if let Some(file) = &self.secrets_file {
            device.own_secrets = Some(secrets_of(file)?);
        }
        if let Some(media) = &self.media {
            device.media = carrying::contents(media)?;
        }
        if self.policy_file().is_none() || self.site.is_some() {
            let mut client = settings_of(settings, false)?;
            let site = self.site.clone().unwrap_or_else(|| settings.client_site());
            client.site = crate::plane::call::base(&site)?;
            let file = device::key::file(self.key_file.as_deref(), settings);
            whole::sweep(whole::folder(&file));
            let key = device::key::read(&file)?;
            client.key = Some((&key).into());
            device.link =
                Some(Link::new(&site, &key, settings.client.ca_file(), settings.client.allow_plain_key)?);
            device.client = Some(client);
        } else if self.execute && self.media.is_none() {
            // A policy from a file names content, and the site of the configuration may have it.
            device.client = settings_of(settings, false).ok();
        }
        Ok(device)
    }

    /// The policy that is run by, where no site is asked for one.
    fn policy_file(&self) -> Option<PathBuf> {
        self.policy.clone().or_else(|| Some(self.media.as_ref()?.join(carrying::POLICY)))
    }

    async fn policy_of<E: Executor>(&self, device: &mut Device<E>) -> Result<Policy, Problem> {
        let Some(path) = self.policy_file() else { return device.policy().await };
        let bytes = std::fs::read(&path).map_err(|error| {
            Problem::new(Code::PolicyInvalid, format!("`{}` cannot be read", path.display()))
                .because_of(Some(&error))
                .help("name an existing file with `--policy FILE`, or leave the option out to ask the site")
        })?;
        Policy::parse(&bytes)
    }

    /// A pretended device has no time to lose: its clock goes on to the next moment at which something is due.
    async fn simulated(&self, device: &mut Device<Simulated>, output: &Output) -> Result<u8, Problem> {
        let mut policy = self.policy_of(device).await?;
        if self.show_commands {
            return show(device, &policy, output);
        }
        let mut wanted = self.start.clone();
        let mut all = Round::default();
        let mut cuts = 0;
        for _ in 0..MOST_ROUNDS {
            let round = match device.round(&policy, &wanted).await {
                Ok(round) => round,
                Err(Stopped::Power) if cuts < MOST_CUTS => {
                    cuts += 1;
                    device.come_back()?;
                    continue;
                }
                Err(Stopped::Power) => {
                    return Err(Problem::new(Code::SimulationInvalid, "the power is cut without end"));
                }
                Err(Stopped::Problem(problem)) => return Err(problem),
            };
            // Whoever started it did so once; what does not begin yet is still wanted.
            wanted.retain(|one| round.held.contains(one));
            for line in round.deployments {
                // What ran in this call is not from before it.
                let ran = |one: &Line| one.deployment == line.deployment && one.run.is_some();
                if !round.earlier.contains(&line.deployment) {
                    all.earlier.retain(|one| line.run.is_none() || *one != line.deployment);
                } else if !all.deployments.iter().any(ran) {
                    all.earlier.push(line.deployment.clone());
                }
                let known = all.deployments.iter().position(|one| one.deployment == line.deployment);
                match known {
                    Some(at) if line.run.is_some() || all.deployments[at].run.is_none() => {
                        all.deployments[at] = line
                    }
                    Some(_) => {}
                    None => all.deployments.push(line),
                }
            }
            device.send().await?;
            let next = all
                .deployments
                .iter()
                .filter_map(|line| line.next)
                .filter(|at| *at > device.hands.now())
                .min();
            match next.filter(|_| !self.once) {
                Some(next) => device.hands.skip_to(next)?,
                None => break,
            }
            policy = self.policy_of(device).await?;
        }
        all.unsent = device.memory().outbox.len();
        Ok(told(&all, output))
    }

    async fn real<E: Executor>(&self, device: &mut Device<E>, output: &Output) -> Result<u8, Problem> {
        let mut wanted = self.start.clone();
        loop {
            let policy = self.policy_of(device).await?;
            if self.show_commands {
                return show(device, &policy, output);
            }
            let mut round = match device.round(&policy, &wanted).await {
                Ok(round) => round,
                Err(Stopped::Power) => return Err(Problem::new(Code::Internal, "the power was cut")),
                Err(Stopped::Problem(problem)) => return Err(problem),
            };
            wanted.retain(|one| round.held.contains(one));
            device.send().await?;
            round.unsent = device.memory().outbox.len();
            let status = told(&round, output);
            if self.once || round.restarting {
                return Ok(status);
            }
            let next = round.deployments.iter().filter_map(|line| line.next).min();
            let until = next.map(|at| at.duration_since(clock::now())).filter(|time| time.is_positive());
            let until = until.map(|time| time.unsigned_abs());
            tokio::select! {
                () = tokio::time::sleep(before_next(policy.refresh(), until, device.away)) => {}
                _ = tokio::signal::ctrl_c() => return Ok(Code::Interrupted.page().exit.status()),
            }
        }
    }
}

/// The secrets in a file. What others may read is none any more, and is refused before anything is read.
fn secrets_of(file: &Path) -> Result<Vec<(Sealed, key::HiddenText)>, Problem> {
    let invalid = |why: &str| {
        Problem::new(Code::ConfigInvalid, format!("`{}` holds no secrets", file.display())).because(why)
    };
    let failed = |error: std::io::Error| invalid(&error.to_string());
    let opened = std::fs::File::open(file).map_err(failed)?;
    if opened.metadata().map_err(failed)?.mode() & 0o077 != 0 {
        let message = format!("`{}` may be read by others than its owner", file.display());
        let help = "`chmod 0600` the file, and change the secrets in it where others may have read them";
        return Err(Problem::new(Code::ConfigInvalid, message).help(help));
    }
    let mut text = String::new();
    opened.take(LARGEST_SECRETS + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > LARGEST_SECRETS {
        return Err(invalid(&format!("it has more than {LARGEST_SECRETS} bytes")));
    }
    // Messages of the reader may repeat what is written there.
    let table: std::collections::BTreeMap<String, String> =
        toml::from_str(&text).map_err(|_| invalid("it is no table of texts"))?;
    let mut secrets = Vec::new();
    for (place, text) in table {
        let place = Sealed::try_from(place).map_err(|_| invalid("a name is none such as sealed-1"))?;
        secrets.push((place, key::HiddenText::new(&text)));
    }
    Ok(secrets)
}

fn show<E: Executor>(device: &Device<E>, policy: &Policy, output: &Output) -> Result<u8, Problem> {
    let mut all = Vec::new();
    for assignment in &policy.assignments {
        let steps = device.show(policy, assignment)?;
        all.push(serde_json::json!({
            "deployment": assignment.deployment,
            "name": assignment.name,
            "steps": steps.iter().map(|(step, lines)| serde_json::json!({ "step": step, "commands": lines })).collect::<Vec<_>>(),
        }));
    }
    output.one(
        &all,
        |all| all.len().to_string(),
        |output| {
            for one in &all {
                output.line(format!(
                    "{} {}",
                    one["deployment"].as_str().unwrap_or_default(),
                    safe(one["name"].as_str().unwrap_or_default())
                ));
                for step in one["steps"].as_array().into_iter().flatten() {
                    output.line(format!("  {}", safe(step["step"].as_str().unwrap_or_default())));
                    for line in step["commands"].as_array().into_iter().flatten() {
                        output.line(format!("      {}", safe(line.as_str().unwrap_or_default())));
                    }
                }
            }
        },
    );
    Ok(0)
}

/// The exit status is that of the first run that failed now; what had failed before is told, and fails no more.
fn told(round: &Round, output: &Output) -> u8 {
    output.one(
        round,
        |round| round.deployments.len().to_string(),
        |output| {
            for line in &round.deployments {
                let code = line.code.map(|code| format!(" [{code}]")).unwrap_or_default();
                let exit = line.exit.as_ref().map(|exit| format!(" {exit}")).unwrap_or_default();
                let details = if line.details.is_empty() {
                    String::new()
                } else {
                    format!(": {}", safe(&line.details))
                };
                output.line(format!(
                    "{} {}: {}{code}{exit}{details}",
                    line.deployment,
                    safe(&line.name),
                    line.state.word()
                ));
            }
            if round.deployments.is_empty() && !round.restarting {
                output.line("nothing is deployed to this device");
            }
            if round.restarting {
                output.line("the device restarts; the next `client run` goes on");
            }
            if round.unsent > 0 {
                output.line(format!("{} messages wait for the site", round.unsent));
            }
        },
    );
    let mut now = round.deployments.iter().filter(|line| !round.earlier.contains(&line.deployment));
    let failed = now.find(|line| line.state.bucket() == Bucket::Error);
    failed.map_or(0, |line| line.code.map_or(1, |code| code.page().exit.status().max(1)))
}

impl Here {
    pub(super) fn run(self, settings: &Settings, output: &Output) -> Result<u8, Problem> {
        match self {
            Self::Scripts { state_dir: given } => {
                let memory = read_memory(&state_dir(given, settings)?)?;
                let files =
                    memory.and_then(|memory| memory.scripts).map(|scripts| scripts.files).unwrap_or_default();
                output.one(
                    &files,
                    |files| files.len().to_string(),
                    |output| {
                        if files.is_empty() {
                            output.line("this device keeps no scripts");
                        }
                        for script in &files {
                            output.line(format!(
                                "{}  {}  {}",
                                script.path.display(),
                                script.sha256,
                                script.purpose
                            ));
                        }
                    },
                );
            }
            Self::Log { state_dir: given, lines } => {
                let text = read_log(&log::path(&state_dir(given, settings)?))?;
                let all: Vec<&str> = text.lines().collect();
                let hidden = all.len().saturating_sub(lines);
                let last = &all[hidden..];
                output.one(
                    &last,
                    |last| last.len().to_string(),
                    |output| {
                        last.iter().for_each(|line| output.line(safe(line)));
                        if all.is_empty() {
                            output.line("nothing was run on this device yet");
                        }
                    },
                );
                output.older(hidden, "--lines");
            }
        }
        Ok(0)
    }
}

/// The log of this device; nothing where nothing was run.
fn read_log(path: &Path) -> Result<String, Problem> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(Problem::new(Code::DiskError, format!("`{}` cannot be read", path.display()))
            .because_of(Some(&error))
            .help("ask as the user who runs `spsync client run`: `sudo spsync client log`")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_log_that_cannot_be_read_is_not_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read_log(&folder.path().join("none")).unwrap(), "");
        assert_eq!(read_log(folder.path()).unwrap_err().code, Code::DiskError, "a folder, whoever asks");
    }

    #[test]
    fn secrets_that_others_may_read_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secrets.toml");
        std::fs::write(&file, "sealed-1 = \"hunter2hunter2\"\n").unwrap();
        for (mode, refused) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true), (0o622, true)] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let code = secrets_of(&file).map_err(|problem| problem.code).err();
            assert_eq!(code, refused.then_some(Code::ConfigInvalid), "{mode:o}");
        }
    }

    #[test]
    fn a_file_of_secrets_has_an_end_and_is_not_repeated_in_a_refusal() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secrets.toml");
        let most = usize::try_from(LARGEST_SECRETS).unwrap();
        for text in ["x".repeat(most + 1), "hunter2".to_owned(), "other = \"hunter2\"".to_owned()] {
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
            let problem = secrets_of(&file).unwrap_err();
            assert_eq!(problem.code, Code::ConfigInvalid);
            assert!(!format!("{problem:?}").contains("hunter2"), "{problem:?}");
        }
    }
}
