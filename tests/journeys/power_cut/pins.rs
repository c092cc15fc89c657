//! What a device keeps for a run: while the run needs its content, and is not over, nobody who makes room may take it away; and once it
//! is over, nothing keeps it.

use std::path::PathBuf;

use serde_json::Value;
use support::{Strace, TestDevice};

use super::{KILLS, Subject, Trial};
use crate::device_and_site::{REQUIRED, deploy, esd, site};

struct Pins<'d> {
    device: &'d TestDevice,
    content: String,
    /// Where it is disturbed: calls are counted for each thread, and another one writes down what happens.
    rooms: &'d [&'d str],
}

impl Pins<'_> {
    fn json(trial: &Trial, name: &str, what: &str) -> Value {
        let Ok(bytes) = std::fs::read(trial.path(name)) else { return Value::Null };
        serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{what}: {name}: {error}"))
    }

    fn upgrades(trial: &Trial, what: &str) -> usize {
        let world = Self::json(trial, "device/runs/simulated.json", what);
        let effects = world["effects"].as_array().into_iter().flatten();
        effects.filter(|one| one.as_str().is_some_and(|one| one.contains("Upgrade Operating System"))).count()
    }

    /// Who needs the content.
    fn holders(&self, trial: &Trial) -> Vec<String> {
        let pins = std::fs::read_dir(trial.path("device/pins")).into_iter().flatten();
        let names = pins.map(|pin| pin.expect("it is listed").file_name().to_string_lossy().into_owned());
        names.filter_map(|name| Some(name.strip_prefix(&self.content)?.to_owned())).collect()
    }
}

impl Subject for Pins<'_> {
    fn trial(&self) -> Trial {
        Trial::of(self.device.folder.path(), &["device", "device.toml"])
    }

    fn args(&self, trial: &Trial) -> Vec<String> {
        let script = trial.path("device.toml").to_string_lossy().into_owned();
        ["client", "run", "--simulate", &script].map(str::to_owned).to_vec()
    }

    fn paths(&self, trial: &Trial) -> Vec<PathBuf> {
        let pin = format!("{}.run-1", self.content);
        let names = [
            "pins".to_owned(),
            format!("pins/{pin}"),
            format!("pins/.{pin}.spsync-tmp"),
            "cards".to_owned(),
            format!("cards/{}", self.content),
            format!("cards/{}.tmp", self.content),
            "runs".to_owned(),
            "runs/device.json".to_owned(),
            "runs/simulated.json".to_owned(),
        ];
        let is_meant = |name: &&String| self.rooms.iter().any(|room| name.starts_with(room));
        names.iter().filter(is_meant).map(|name| trial.path("device").join(name)).collect()
    }

    async fn check(&self, trial: &Trial, what: &str) {
        let card = Self::json(trial, &format!("device/cards/{}", self.content), what);
        assert!(card["file_name"].is_string(), "{what}: what is known of the content is whole: {card}");
        let memory = Self::json(trial, "device/runs/device.json", what);
        // What was done needed the content, and may be looked at again for as long as the run goes on.
        if !memory["current"].is_null() && Self::upgrades(trial, what) > 0 {
            assert_eq!(
                self.holders(trial),
                [".run-1"],
                "{what}: the run goes on, and nothing keeps its content"
            );
        }
    }

    async fn completes(&self, trial: &Trial, what: &str) {
        let ran = trial.run(&self.args(trial)).await;
        assert_eq!(ran.status, 0, "{what}: {ran:?}");
        self.check(trial, what).await;
        assert_eq!(Self::upgrades(trial, what), 1, "{what}: once, however often it was begun");
        let memory = Self::json(trial, "device/runs/device.json", what);
        assert!(memory["current"].is_null(), "{what}: it is over");
        assert_eq!(self.holders(trial), [""; 0], "{what}: what is over needs nothing");
    }
}

#[tokio::test]
async fn what_a_run_needs_is_kept_wherever_the_power_goes() {
    let Some(strace) = Strace::find() else { return };
    let mut site = site(None, &["desk-1"]).await;
    let device = TestDevice::enrolled(&site, "desk-1", "127.0.0.7").await;
    deploy(&site, "Upgrade", &[&["--new-package", "upgrades", "--to", "site"][..], &REQUIRED].concat()).await;
    device.round(&["--once"]).await;
    // What was told and has come is enough; and so no trial hears of another.
    site.kill_daemon().await;
    let mut subject = Pins { device: &device, content: esd(&site).0, rooms: &["pins", "cards"] };
    subject
        .killed(&strace, KILLS, &["fsync device/pins", "→ device/pins/*.run-1", "unlink device/pins"])
        .await;
    subject.rooms = &["runs"];
    // Three places, again and again.
    subject.killed(&strace, KILLS / 4, &["→ device/runs/device.json", "→ device/runs/simulated.json"]).await;
}
