//! What steps do: one type for each sort of step, with the settings that it has.

use std::fmt;

use catalog::id::{PackageId, UpdateId};
use catalog::problem::{Code, Problem};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// What a step does.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Upgrade Operating System.
    UpgradeOs(UpgradeOs),
    /// Restart Computer.
    Restart(Restart),
    /// Install Software Updates.
    InstallUpdates(InstallUpdates),
    /// Install Application.
    InstallApplication(InstallApplication),
    /// Check Readiness.
    CheckReadiness(CheckReadiness),
    /// Download Package Content.
    DownloadContent(DownloadContent),
    /// Run Command Line.
    RunCommand(RunCommand),
    /// Set Variable.
    SetVariable(SetVariable),
    /// Something that this release does not know; kept as it came.
    Unknown(Unknown),
}

/// A step of a type that nobody here knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Unknown {
    /// What its type calls itself.
    pub kind: String,
    /// Its settings, word by word.
    pub settings: Table,
}

/// Gives each type of step its word in documents, its name for people, and both directions of its settings.
macro_rules! actions {
    ($($variant:ident $word:literal $title:literal),* $(,)?) => {
        impl Action {
            /// The types that are known: word and name.
            pub const KNOWN: &'static [(&'static str, &'static str)] = &[$(($word, $title)),*];

            /// The word in documents.
            pub fn kind(&self) -> &str {
                match self { $(Self::$variant(_) => $word,)* Self::Unknown(unknown) => &unknown.kind }
            }

            /// The name for people.
            pub fn title(&self) -> &str {
                match self { $(Self::$variant(_) => $title,)* Self::Unknown(unknown) => &unknown.kind }
            }

            pub(super) fn read(kind: &str, settings: Table) -> Result<Self, String> {
                Ok(match kind {
                    $($word => Self::$variant(typed(settings)?),)*
                    other => Self::Unknown(Unknown { kind: other.to_owned(), settings }),
                })
            }

            pub(super) fn settings(&self) -> Table {
                let value = match self {
                    $(Self::$variant(settings) => Value::try_from(settings),)*
                    Self::Unknown(unknown) => return unknown.settings.clone(),
                };
                match value { Ok(Value::Table(table)) => table, _ => Table::new() }
            }
        }
    };
}
actions! {
    UpgradeOs "upgrade-os" "Upgrade Operating System",
    Restart "restart" "Restart Computer",
    InstallUpdates "install-updates" "Install Software Updates",
    InstallApplication "install-application" "Install Application",
    CheckReadiness "check-readiness" "Check Readiness",
    DownloadContent "download-content" "Download Package Content",
    RunCommand "run-command" "Run Command Line",
    SetVariable "set-variable" "Set Variable",
}

/// A message of TOML itself may repeat what was written, secrets too: only what it says about names of settings is kept.
fn typed<T: serde::de::DeserializeOwned>(settings: Table) -> Result<T, String> {
    T::deserialize(Value::Table(settings)).map_err(|error: toml::de::Error| {
        let text = error.message();
        match text.split_once("invalid value").or_else(|| text.split_once("invalid type")) {
            Some((_, rest)) => {
                let expected = rest.rsplit_once("expected ").map_or("another", |(_, expected)| expected);
                format!("a setting has a value that is not accepted; expected {expected}")
            }
            None => text.lines().next().unwrap_or_default().to_owned(),
        }
    })
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The name of the place in which the site keeps a secret of this sequence, sealed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sealed(u32);

impl Sealed {
    /// The place with this number.
    pub fn numbered(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    pub fn number(&self) -> u32 {
        self.0
    }
}

impl From<Sealed> for String {
    fn from(sealed: Sealed) -> String {
        format!("sealed-{}", sealed.0)
    }
}

impl TryFrom<String> for Sealed {
    type Error = &'static str;
    // Whoever writes a product key here must not find it in an error or a log.
    fn try_from(text: String) -> Result<Self, &'static str> {
        let number = text.strip_prefix("sealed-").and_then(|number| number.parse().ok());
        number
            .map(Self)
            .ok_or("secrets are never written into documents: use --product-key-file or --value-file")
    }
}

/// Runs Windows Setup.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpgradeOs {
    /// Feature updates; the first that fits a device and that no other replaces is taken.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub feature_updates: Vec<UpdateId>,
    /// An OS upgrade package.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<PackageId>,
    /// A folder with Setup, variables allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_path: Option<String>,
    /// Which edition of the image; its first if not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edition_index: Option<u32>,
    /// Where the product key is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product_key: Option<Sealed>,
    /// A driver package or a folder with drivers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drivers: Option<String>,
    /// Only see whether it would work.
    #[serde(skip_serializing_if = "is_default")]
    pub scan_only: bool,
    /// Do not wait for somebody to dismiss compatibility messages.
    #[serde(alias = "ignore_dismissible", skip_serializing_if = "is_default")]
    pub ignore_dismissable: bool,
    /// Whether Setup fetches updates.
    #[serde(skip_serializing_if = "is_default")]
    pub dynamic_update: DynamicUpdate,
    /// What an export left out: the step does nothing until it is given again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<Incomplete>,
}

/// Whether Setup fetches updates while it runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DynamicUpdate {
    /// No.
    #[default]
    Disable,
    /// As the policy of the device says.
    UsePolicy,
    /// Yes, whatever the policy says.
    Override,
}

/// What an export left out of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Incomplete {
    /// Its feature updates.
    FeatureUpdate,
    /// Its image, which was exported without dependencies.
    Image,
}

/// Restarts the device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Restart {
    /// What it starts.
    pub target: Target,
    /// Tell the user first.
    pub notify: bool,
    /// What the user is told, at most 512 characters.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Seconds that the user has.
    pub delay: u16,
}

impl Default for Restart {
    fn default() -> Self {
        Self { target: Target::InstalledOs, notify: true, message: String::new(), delay: 60 }
    }
}

/// What a restart starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The currently installed default operating system.
    InstalledOs,
    /// Windows PE, from the boot image of the task sequence.
    BootImage,
}

/// Installs updates that are deployed to collections of the device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InstallUpdates {
    /// Which.
    pub mode: UpdateMode,
    /// Use what the last scan found.
    pub cached_scan: bool,
}

impl Default for InstallUpdates {
    fn default() -> Self {
        Self { mode: UpdateMode::Mandatory, cached_scan: true }
    }
}

/// Which updates are installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateMode {
    /// Those with a deadline.
    Mandatory,
    /// All that are deployed.
    All,
}

/// Installs applications, one after the other.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InstallApplication {
    /// Ids, in order.
    pub applications: Vec<PackageId>,
    /// Go on with the next one where one fails.
    #[serde(skip_serializing_if = "is_default")]
    pub continue_on_app_error: bool,
}

/// Checks the device; all checks are made, one that fails fails the step with 4316.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckReadiness {
    /// MiB of memory, whatever the name says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u32>,
    /// MHz of the processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processor_mhz: Option<u32>,
    /// MiB free on the system's disk, whatever the name says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_disk_mb: Option<u32>,
    /// The device is a client, or a server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os_type: Option<OsType>,
    /// Its architecture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// Its Windows is at least this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os_at_least: Option<String>,
    /// Its Windows is at most this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os_at_most: Option<String>,
    /// Its language.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// It has mains power.
    #[serde(skip_serializing_if = "is_default")]
    pub ac_power: bool,
    /// It is on a network.
    #[serde(skip_serializing_if = "is_default")]
    pub network: bool,
    /// That network has a cable.
    #[serde(skip_serializing_if = "is_default")]
    pub wired: bool,
    /// Its firmware is UEFI.
    #[serde(skip_serializing_if = "is_default")]
    pub uefi: bool,
    /// It has a TPM 2.0 that is enabled.
    #[serde(skip_serializing_if = "is_default")]
    pub tpm: bool,
}

impl Default for CheckReadiness {
    fn default() -> Self {
        Self {
            memory_mb: Some(2048),
            processor_mhz: Some(1000),
            free_disk_mb: Some(20480),
            os_type: Some(OsType::Client),
            architecture: None,
            os_at_least: None,
            os_at_most: None,
            language: None,
            ac_power: false,
            network: false,
            wired: false,
            uefi: false,
            tpm: false,
        }
    }
}

/// What sort of Windows a device has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OsType {
    /// Windows 7, 8.1, 10, 11.
    Client,
    /// Windows Server.
    Server,
}

impl fmt::Display for OsType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

/// Downloads content before a later step needs it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DownloadContent {
    /// OS upgrade packages; never feature updates.
    pub packages: Vec<PackageId>,
    /// Where it goes.
    pub place: DownloadPlace,
    /// The folder of `custom`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// A variable that gets the folder, with two digits behind its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub save_as: String,
    /// Go on with the next package where one fails.
    #[serde(skip_serializing_if = "is_default")]
    pub continue_on_package_error: bool,
}

/// Where downloaded content goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DownloadPlace {
    /// The working folder of the task sequence.
    #[default]
    Working,
    /// The cache of the client.
    Cache,
    /// A folder of one's own.
    Custom,
}

/// Runs a program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunCommand {
    /// The command line.
    pub command: String,
    /// Where it starts, at most 127 characters.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub start_in: String,
    /// Exit codes that mean success.
    pub success_codes: Vec<i64>,
    /// A variable that gets the last 1000 characters of its output.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub output_variable: String,
}

impl Default for RunCommand {
    fn default() -> Self {
        Self {
            command: String::new(),
            start_in: String::new(),
            success_codes: vec![0, 3010],
            output_variable: String::new(),
        }
    }
}

/// Sets a variable.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SetVariable {
    /// Its name.
    pub variable: String,
    /// Its value, `%other%` is replaced.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// Where its value is kept, if nobody may see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden_value: Option<Sealed>,
}

impl Action {
    /// The place of the secret that it names: with what that is in words, and the option that gives it.
    pub fn secret(&self) -> Option<(&Sealed, &'static str, &'static str)> {
        match self {
            // Only OS upgrade packages take a key: a feature update has the edition of the device.
            Self::UpgradeOs(upgrade) if upgrade.feature_updates.is_empty() => {
                Some((upgrade.product_key.as_ref()?, "product key", "--product-key-file"))
            }
            Self::SetVariable(set) => Some((set.hidden_value.as_ref()?, "hidden value", "--value-file")),
            _ => None,
        }
    }

    /// Names a place for the secret that was left out of it. Whether it is a step that has one; a value that somebody gave instead
    /// stays.
    pub fn want_secret(&mut self, place: Sealed) -> bool {
        match self {
            Self::UpgradeOs(upgrade) if upgrade.feature_updates.is_empty() => {
                upgrade.product_key = Some(place);
            }
            Self::SetVariable(set) if set.value.is_empty() => set.hidden_value = Some(place),
            _ => return false,
        }
        true
    }
}

/// The rules of the settings of a step that need nothing but the step.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn check(action: &Action) -> Result<(), String> {
    let longer = |text: &str, most: usize| text.chars().count() > most;
    match action {
        Action::Restart(restart) if longer(&restart.message, 512) => {
            Err("its message has more than 512 characters".to_owned())
        }
        Action::RunCommand(run) if run.command.trim().is_empty() => Err("its command is empty".to_owned()),
        Action::RunCommand(run) if longer(&run.start_in, 127) => {
            Err("its folder has more than 127 characters".to_owned())
        }
        Action::RunCommand(run) if !run.output_variable.is_empty() => variable_name(&run.output_variable),
        Action::SetVariable(set) if longer(&set.value, 4000) => {
            Err("its value has more than 4000 characters".to_owned())
        }
        Action::SetVariable(set) if !set.value.is_empty() && set.hidden_value.is_some() => {
            Err("it has a value and a hidden value".to_owned())
        }
        Action::SetVariable(set) => variable_name(&set.variable),
        Action::DownloadContent(download) if download.packages.is_empty() => {
            Err("it names no package".to_owned())
        }
        Action::DownloadContent(download)
            if (download.place == DownloadPlace::Custom) == download.path.is_empty() =>
        {
            Err("a folder belongs to `place = \"custom\"`, and to nothing else".to_owned())
        }
        Action::InstallApplication(install) if install.applications.is_empty() => {
            Err("it names no application".to_owned())
        }
        Action::UpgradeOs(upgrade) if upgrade.feature_updates.len() > 100 => {
            Err("it names more than 100 feature updates".to_owned())
        }
        _ => Ok(()),
    }
}

/// Letters, digits, `_` and `-`, beginning with a letter: names that begin with `_` belong to the engine.
fn variable_name(name: &str) -> Result<(), String> {
    let fine = name.len() <= 256
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
    if fine { Ok(()) } else { Err("the name of its variable is not allowed".to_owned()) }
}

impl UpgradeOs {
    /// Either feature updates, or an image, or a folder; unless an export has left it out (mission row M04).
    ///
    /// # Errors
    /// `UPGRADE_SOURCE_INVALID`, `BROKEN_REFERENCE`.
    pub fn source(&self, step: &str) -> Result<(), Problem> {
        let given = [!self.feature_updates.is_empty(), self.image.is_some(), self.source_path.is_some()];
        let given = given.into_iter().filter(|given| *given).count();
        if let (Some(incomplete), 0) = (self.incomplete, given) {
            let what = match incomplete {
                Incomplete::FeatureUpdate => "feature update",
                Incomplete::Image => "OS upgrade package",
            };
            return Err(Problem::new(
                Code::BrokenReference,
                format!("step `{step}` came without its {what}, which must be given again"),
            )
            .help("`spsync ts step set TS STEP --feature-update U`, or disable or remove the step"));
        }
        let message = match given {
            1 => return Ok(()),
            0 => format!("step `{step}` has neither a feature update nor an OS upgrade package"),
            _ => format!("step `{step}` has more than one source"),
        };
        Err(Problem::new(Code::UpgradeSourceInvalid, message))
    }
}
