//! A device of its own: a machine that only runs the client, with pretended hardware, enrolled at a site.
//!
//! ```text
//! folder/config.toml    [client] site, dir, address
//! folder/device.toml    how the pretended device behaves (`client run --simulate`)
//! folder/device/        what the client keeps: its key, contents, runs/
//! ```

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::{Place, Ran, TestSite, free_port, program};

/// What a device is where nothing else is said: the lines of a `[facts]` table, and of a file for `--facts`.
pub const FACTS: &str = "os_type = \"client\"\nversion = \"10.0.22631\"\nedition = \"Enterprise\"\narchitecture = \"x64\"\n\
    language = \"en-us\"\nmemory_mb = 8192\nprocessor_mhz = 2000\nfree_disk_mb = 90000\n";
/// No command of a device takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A device in a temporary folder.
pub struct TestDevice {
    /// The name under which it is enrolled.
    pub name: String,
    /// Where everything of this device is.
    pub folder: TempDir,
    config: PathBuf,
    place: Place,
}

impl TestDevice {
    /// A device that asks from this address of loopback, and has no key.
    pub fn new(site: &TestSite, name: &str, address: &str) -> Self {
        Self::at(site, name, Place::on_loopback(address.parse().expect("an address")))
    }

    /// The same at another place.
    pub fn at(site: &TestSite, name: &str, place: Place) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = folder.path().join("config.toml");
        let text = format!(
            "[site]\ndata_dir = {:?}\n[download]\nmin_free = \"0\"\n[client]\nsite = {:?}\ndir = {:?}\naddress = \"{}\"\n\
             peer_port = {}\nallow_networks = [{:?}]\n{}",
            folder.path().join("none"),
            site.url,
            folder.path().join("device"),
            place.address(),
            free_port(Ipv4Addr::LOCALHOST),
            place.network().all(),
            place.in_the_clear("allow_plain_key"),
        );
        std::fs::write(&config, text).expect("the configuration is written");
        let device = Self { name: name.to_owned(), folder, config, place };
        device.behaves("");
        device
    }

    /// A device with a key of its own.
    pub async fn enrolled(site: &TestSite, name: &str, address: &str) -> Self {
        let device = Self::new(site, name, address);
        device.enrol(site).await;
        device
    }

    /// Gets its key.
    pub async fn enrol(&self, site: &TestSite) {
        let made = site.ok(&["key", "enrol", &self.name]).await;
        let file = self.path("token");
        std::fs::write(&file, made["token"].as_str().expect("a token")).expect("it is written");
        self.ok(&["client", "enrol", "--token-file", &file.to_string_lossy()]).await;
    }

    /// How the pretended device behaves from now on: lines of its description. What it is at first is [`FACTS`], unless
    /// they say so themselves.
    pub fn behaves(&self, lines: &str) {
        let facts = if lines.contains("[facts]") { String::new() } else { format!("[facts]\n{FACTS}") };
        std::fs::write(self.path("device.toml"), format!("{lines}\n{facts}")).expect("it is written");
    }

    /// A path in its folder.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program with the configuration of this device, not started yet.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.place.command(program());
        command.arg("--config").arg(&self.config).args(["-o", "json"]).args(args);
        command.stdin(Stdio::null()).kill_on_drop(true);
        for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs a command to its end.
    pub async fn ran(&self, args: &[&str]) -> Ran {
        let output = tokio::time::timeout(PATIENCE, self.command(args).output()).await;
        let output = output.expect("it ends").expect("the program starts");
        Ran {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a command that must succeed; its JSON.
    pub async fn ok(&self, args: &[&str]) -> Value {
        let ran = self.ran(args).await;
        assert_eq!(ran.status, 0, "{args:?}: {ran:?}");
        ran.json()
    }

    /// Fetches a content; who gave how many bytes.
    pub async fn fetch(&self, content: &str) -> Vec<(String, u64)> {
        let fetched = self.ok(&["client", "fetch", "--no-later", content]).await;
        let served = fetched["served"].as_array().expect("a list").iter();
        let one = |one: &Value| {
            (one["kind"].as_str().expect("a kind").to_owned(), one["bytes"].as_u64().expect("bytes"))
        };
        served.map(one).collect()
    }

    /// `client run` as the pretended device: `--once` looks once at what is due, else its clock goes on until nothing is;
    /// `--start XYZ20001` is who uses it.
    pub async fn run(&self, more: &[&str]) -> Ran {
        let script = self.path("device.toml");
        let script = script.to_string_lossy();
        let args: Vec<&str> =
            ["client", "run", "--simulate", &script].into_iter().chain(more.iter().copied()).collect();
        self.ran(&args).await
    }

    /// The same; what became of each deployment.
    pub async fn round(&self, more: &[&str]) -> Value {
        let ran = self.run(more).await;
        let round: Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
        assert!(round["deployments"].is_array(), "{more:?}: {ran:?}");
        round
    }

    /// What was done on the pretended device, each act once.
    pub fn effects(&self) -> Vec<String> {
        let world = std::fs::read(self.path("device/runs/simulated.json")).expect("it ran");
        let world: Value = serde_json::from_slice(&world).expect("JSON");
        let effects = world["effects"].as_array().expect("a list").iter();
        effects.filter_map(|one| one.as_str().map(str::to_owned)).collect()
    }

    /// What it remembers of its runs.
    pub fn memory(&self) -> Value {
        let memory = std::fs::read(self.path("device/runs/device.json")).expect("it ran");
        serde_json::from_slice(&memory).expect("JSON")
    }

    /// Its key.
    pub fn key(&self) -> String {
        std::fs::read_to_string(self.path("device/device.key")).expect("it enrolled").trim().to_owned()
    }
}
