//! Windows Setup: the command line that a step and the policy make, its configuration file, and what its exit codes mean.
//! Pure.

use catalog::problem::Code;

use super::variables::{MORE_OPTIONS, Variables};
use crate::policy::{DeviceSettings, DynamicUpdateSetting, ThreadPriority};
use crate::sequence::action::{DynamicUpdate, UpgradeOs};

/// The scan found nothing: success.
pub const NO_ISSUES: i64 = 0xC190_0210;
/// A restart is needed.
pub const RESTART: i64 = 3010;
/// What a failed readiness check ends with.
pub const NOT_READY: i64 = 4316;

/// Where Setup upgrades from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// A feature update: what it is for decides the edition, and there is no key.
    FeatureUpdate,
    /// An OS upgrade package, with the place of the edition among those that its media has.
    Image {
        /// From 1.
        index: u32,
    },
    /// A folder with Setup.
    Folder,
}

/// The places that Setup's command line names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The folder with `setup.exe`.
    pub media: String,
    /// What Setup runs when the new Windows is there.
    pub complete: String,
    /// What it runs when the old one is back.
    pub rollback: String,
    /// Its configuration file, where it needs one: it holds the product key, which so stands on no command line.
    pub config: Option<String>,
}

/// A program and what it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// The program.
    pub program: String,
    /// What it is told.
    pub arguments: Vec<String>,
}

impl std::fmt::Display for CommandLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let quoted = |text: &str| {
            if text.is_empty() || text.contains([' ', '\t']) {
                format!("\"{text}\"")
            } else {
                text.to_owned()
            }
        };
        f.write_str(&quoted(&self.program))?;
        self.arguments.iter().try_for_each(|argument| write!(f, " {}", quoted(argument)))
    }
}

/// What Setup is told. The edition index belongs to OS upgrade packages alone, and so does the product key, which is in the
/// configuration file. The priority belongs to feature updates alone.
pub fn command_line(
    step: &UpgradeOs,
    from: From,
    settings: &DeviceSettings,
    places: &Places,
    variables: &Variables,
) -> CommandLine {
    let mut arguments: Vec<String> = Vec::new();
    let mut say = |words: &[&str]| arguments.extend(words.iter().map(|word| (*word).to_owned()));
    say(&["/auto", "Upgrade", "/quiet", "/noreboot"]);
    if let From::Image { index } = from {
        say(&["/ImageIndex", &index.to_string()]);
    }
    if from == From::FeatureUpdate && settings.thread_priority == ThreadPriority::Normal {
        say(&["/Priority", "Normal"]);
    }
    match dynamic_update(step.dynamic_update, from, settings.dynamic_update) {
        Some(true) => say(&["/DynamicUpdate", "Enable"]),
        Some(false) => say(&["/DynamicUpdate", "Disable"]),
        None => {}
    }
    if step.ignore_dismissable {
        say(&["/Compat", "IgnoreWarning"]);
    }
    if step.scan_only {
        say(&["/Compat", "ScanOnly"]);
    }
    if let (Some(drivers), From::Image { .. } | From::Folder) = (&step.drivers, from) {
        say(&["/InstallDrivers", &variables.masked(drivers)]);
    }
    if !step.scan_only {
        say(&["/postoobe", &places.complete, "/postrollback", &places.rollback]);
    }
    if let Some(config) = &places.config {
        say(&["/ConfigFile", config]);
    }
    // The administrator's own words, as they are; a secret in them would be seen by everybody who lists processes.
    let more = variables.value(MORE_OPTIONS, None).unwrap_or_default();
    say(&more.split_whitespace().collect::<Vec<_>>());
    CommandLine { program: join(&places.media, "setup.exe"), arguments }
}

/// A path below a folder, in the way of the folder.
pub fn join(folder: &str, name: &str) -> String {
    let sign = if folder.contains('\\') && !folder.contains('/') { '\\' } else { '/' };
    format!("{}{sign}{name}", folder.trim_end_matches(['/', '\\']))
}

/// Whether Setup fetches updates: as the client setting says where the step runs a feature update and does not insist, else
/// as the step says. `None`: Setup decides.
pub fn dynamic_update(step: DynamicUpdate, from: From, setting: DynamicUpdateSetting) -> Option<bool> {
    match (step, from, setting) {
        (DynamicUpdate::Override, _, _) => Some(true),
        (_, From::FeatureUpdate, DynamicUpdateSetting::Yes) => Some(true),
        (_, From::FeatureUpdate, DynamicUpdateSetting::No) => Some(false),
        (DynamicUpdate::UsePolicy, From::FeatureUpdate, _) => None,
        (DynamicUpdate::UsePolicy, _, DynamicUpdateSetting::Yes) => Some(true),
        (DynamicUpdate::UsePolicy, _, DynamicUpdateSetting::No) => Some(false),
        (DynamicUpdate::UsePolicy, _, _) => None,
        (DynamicUpdate::Disable, _, _) => Some(false),
    }
}

/// The device's own `SetupConfig.ini` as the client settings want it, from what it says now: a setting that is not
/// configured leaves its line untouched (mission rows M21 and M22).
pub fn setup_config(now: &str, settings: &DeviceSettings) -> String {
    let mut text = now.to_owned();
    match settings.thread_priority {
        ThreadPriority::Normal => text = with_line(&text, "Priority", Some("Normal")),
        ThreadPriority::Low => text = with_line(&text, "Priority", None),
        ThreadPriority::NotConfigured => {}
    }
    match settings.dynamic_update {
        DynamicUpdateSetting::Yes => text = with_line(&text, "DynamicUpdate", Some("Enable")),
        DynamicUpdateSetting::No => text = with_line(&text, "DynamicUpdate", Some("Disable")),
        DynamicUpdateSetting::NotConfigured => {}
    }
    text
}

fn with_line(text: &str, key: &str, value: Option<&str>) -> String {
    let is_it = |line: &str| {
        line.split('=')
            .next()
            .is_some_and(|found| found.trim().trim_start_matches('/').eq_ignore_ascii_case(key))
    };
    let mut lines: Vec<String> = text.lines().filter(|line| !is_it(line)).map(str::to_owned).collect();
    if let Some(value) = value {
        let section = lines.iter().position(|line| line.trim().eq_ignore_ascii_case("[SetupConfig]"));
        let behind = section.map_or_else(
            || {
                lines.insert(0, "[SetupConfig]".to_owned());
                1
            },
            |at| at + 1,
        );
        lines.insert(behind, format!("{key}={value}"));
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

/// What an exit code of Setup means: success, or the code of the failure.
pub fn meaning(exit: i64, scan_only: bool) -> Result<(), Code> {
    match unsigned(exit) {
        0 | RESTART if !scan_only => Ok(()),
        0 | NO_ISSUES if scan_only => Ok(()),
        0xC190_0208 => Err(Code::SetupBlocked),
        0xC190_0204 => Err(Code::SetupChoiceUnavailable),
        0xC190_0200 => Err(Code::SetupNotEligible),
        0xC190_020E => Err(Code::SetupDiskSpace),
        // What Setup says after it has put the old Windows back: 0xC1900101 and what the phases add to it.
        0xC190_0101 => Err(Code::SetupRolledBack),
        _ => Err(Code::SetupFailed),
    }
}

/// An exit code as Windows writes it: the same number whether it came as a negative one or not.
pub fn unsigned(exit: i64) -> i64 {
    if (i64::from(i32::MIN)..0).contains(&exit) { exit + (1 << 32) } else { exit }
}

/// An exit code for people.
pub fn shown(exit: i64) -> String {
    match unsigned(exit) {
        exit if exit > 0xFFFF => format!("0x{exit:08X}"),
        exit => exit.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places {
            media: r"C:\work\media".to_owned(),
            complete: r"C:\my scripts\setupcomplete.cmd".to_owned(),
            rollback: r"C:\my scripts\setuprollback.cmd".to_owned(),
            config: None,
        }
    }

    fn line(step: &UpgradeOs, from: From, settings: DeviceSettings) -> String {
        let line = command_line(step, from, &settings, &places(), &Variables::default()).to_string();
        line.replace(
            r#" /postoobe "C:\my scripts\setupcomplete.cmd" /postrollback "C:\my scripts\setuprollback.cmd""#,
            " POST",
        )
        .replace(r"C:\work\media\setup.exe /auto Upgrade /quiet /noreboot", "SETUP")
    }

    #[test]
    fn the_command_line_says_what_step_and_policy_say() {
        use DynamicUpdateSetting::{No, NotConfigured, Yes};
        let plain = UpgradeOs::default();
        let with = |priority, dynamic_update| DeviceSettings {
            thread_priority: priority,
            dynamic_update,
            ..DeviceSettings::default()
        };
        let normal = with(ThreadPriority::Normal, NotConfigured);
        for (step, from, settings, expected) in [
            (
                plain.clone(),
                From::FeatureUpdate,
                normal,
                "SETUP /Priority Normal /DynamicUpdate Disable POST",
            ),
            (
                plain.clone(),
                From::FeatureUpdate,
                with(ThreadPriority::Low, Yes),
                "SETUP /DynamicUpdate Enable POST",
            ),
            (
                plain.clone(),
                From::FeatureUpdate,
                with(ThreadPriority::Low, No),
                "SETUP /DynamicUpdate Disable POST",
            ),
            // The priority and the setting are about feature updates.
            (
                plain.clone(),
                From::Image { index: 3 },
                with(ThreadPriority::Normal, Yes),
                "SETUP /ImageIndex 3 /DynamicUpdate Disable POST",
            ),
            (
                UpgradeOs {
                    ignore_dismissable: true,
                    dynamic_update: DynamicUpdate::Override,
                    ..plain.clone()
                },
                From::Image { index: 1 },
                normal,
                "SETUP /ImageIndex 1 /DynamicUpdate Enable /Compat IgnoreWarning POST",
            ),
            (
                UpgradeOs {
                    ignore_dismissable: true,
                    dynamic_update: DynamicUpdate::UsePolicy,
                    ..plain.clone()
                },
                From::FeatureUpdate,
                normal,
                "SETUP /Priority Normal /Compat IgnoreWarning POST",
            ),
            (
                UpgradeOs { scan_only: true, drivers: Some("D:/drivers".to_owned()), ..plain.clone() },
                From::Folder,
                DeviceSettings::default(),
                "SETUP /DynamicUpdate Disable /Compat ScanOnly /InstallDrivers D:/drivers",
            ),
            // No drivers, edition or key with a feature update.
            (
                UpgradeOs { drivers: Some("D:/drivers".to_owned()), edition_index: Some(4), ..plain },
                From::FeatureUpdate,
                DeviceSettings::default(),
                "SETUP /DynamicUpdate Disable POST",
            ),
        ] {
            assert_eq!(line(&step, from, settings), expected, "{step:?} {from:?}");
        }
        let mut variables = Variables::default();
        variables.set(MORE_OPTIONS, " /MigrateDrivers All ");
        let with_config = Places { config: Some("/w/key.ini".to_owned()), ..places() };
        let line = command_line(&UpgradeOs::default(), From::Folder, &normal, &with_config, &variables);
        assert!(line.to_string().ends_with("/ConfigFile /w/key.ini /MigrateDrivers All"), "{line}");
    }

    #[test]
    fn thread_priority_setupconfig() {
        let with = |priority, dynamic_update| DeviceSettings {
            thread_priority: priority,
            dynamic_update,
            ..DeviceSettings::default()
        };
        use DynamicUpdateSetting::{No, NotConfigured, Yes};
        let kept = "[SetupConfig]\nPriority=High\nNoReboot\n";
        for (now, settings, expected) in [
            ("", DeviceSettings::default(), ""),
            (kept, DeviceSettings::default(), kept),
            ("", with(ThreadPriority::Normal, NotConfigured), "[SetupConfig]\nPriority=Normal\n"),
            (kept, with(ThreadPriority::Normal, NotConfigured), "[SetupConfig]\nPriority=Normal\nNoReboot\n"),
            (kept, with(ThreadPriority::Low, NotConfigured), "[SetupConfig]\nNoReboot\n"),
            ("", with(ThreadPriority::NotConfigured, Yes), "[SetupConfig]\nDynamicUpdate=Enable\n"),
            (
                "[setupconfig]\n/dynamicupdate = Enable\n",
                with(ThreadPriority::NotConfigured, No),
                "[setupconfig]\nDynamicUpdate=Disable\n",
            ),
        ] {
            let text = setup_config(now, &settings);
            assert_eq!(text, expected, "{now:?} {settings:?}");
            assert_eq!(setup_config(&text, &settings), text, "a second time changes nothing");
        }
    }

    #[test]
    fn exit_codes_have_their_documented_meanings() {
        for (exit, scan, expected) in [
            (0, false, Ok(())),
            (3010, false, Ok(())),
            (0, true, Ok(())),
            (0xC190_0210, true, Ok(())),
            (i64::from(0xC190_0210_u32.cast_signed()), true, Ok(())),
            (0xC190_0210, false, Err(Code::SetupFailed)),
            (0xC190_0208, true, Err(Code::SetupBlocked)),
            (0xC190_0204, false, Err(Code::SetupChoiceUnavailable)),
            (0xC190_0200, false, Err(Code::SetupNotEligible)),
            (0xC190_020E, false, Err(Code::SetupDiskSpace)),
            (0xC190_0101, false, Err(Code::SetupRolledBack)),
            (1, false, Err(Code::SetupFailed)),
        ] {
            assert_eq!(meaning(exit, scan), expected, "{exit:#x}");
        }
        assert_eq!(shown(-1_047_526_896), "0xC1900210");
        assert_eq!(shown(4316), "4316");
    }
}
