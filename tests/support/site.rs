//! A site of the real program against the one fake upstream, worked on in both ways: by a daemon, or by each command
//! in its own process.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::{DemoCatalog, HttpsFront, Origin, Place, demo_catalog, free_port};

/// Who does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Each command in its own process, under the site lock.
    Alone,
    /// A daemon; commands talk to it.
    Daemon,
}

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Exit status; -1 for a signal.
    pub status: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// Standard output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    /// The code of the problem that was printed for programs.
    pub fn code(&self) -> String {
        let line = self.stderr.lines().rev().find(|line| line.starts_with("{\"error\""));
        let problem: Value = line.and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
        problem["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// A site in a temporary folder.
pub struct TestSite {
    /// The fake upstream.
    pub origin: Origin,
    /// What it publishes.
    pub published: DemoCatalog,
    /// Where everything of this site is.
    pub folder: TempDir,
    /// Address of its distribution point, while a daemon runs.
    pub url: String,
    config: PathBuf,
    place: Place,
    way: Way,
    daemon: Option<Child>,
    log: Arc<Mutex<Vec<String>>>,
}

/// The program under test, built beside this test.
pub fn program() -> PathBuf {
    let here = std::env::current_exe().expect("a test has a path");
    let target = here.parent().and_then(Path::parent).expect("target/PROFILE/deps/test");
    let program = target.join("spsync");
    assert!(program.exists(), "{} is not built: `cargo build -p spsync` first", program.display());
    program
}

/// What a foreign HTTP client sees, by plain HTTP: it trusts nobody, and so reads no roots of trust, which takes longer than what
/// it is for.
pub fn http() -> reqwest::Client {
    // The second call of a process finds it there: as good as the first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().tls_certs_only([]).build().expect("a client of defaults")
}

impl TestSite {
    /// The id of the business English Windows 11 update.
    pub async fn windows11(&self) -> String {
        let list = self
            .ok(&[
                "updates",
                "list",
                "--product",
                "Windows 11",
                "--arch",
                "x64",
                "--lang",
                "en-us",
                "--edition",
                "business",
            ])
            .await;
        list["updates"][0]["update"].as_str().expect("there is one").to_owned()
    }

    /// A site with the catalogs of the demonstration.
    pub async fn start(way: Way) -> Self {
        Self::with(way, |_, published| vec![published.windows11.clone(), published.windows10.clone()], "")
            .await
    }

    /// A site with other catalogs, and more configuration.
    pub async fn with(
        way: Way,
        catalogs: impl FnOnce(&Origin, &DemoCatalog) -> Vec<String>,
        more: &str,
    ) -> Self {
        let here = Place::on_loopback(Ipv4Addr::LOCALHOST);
        Self::at(here.clone(), &here, way, catalogs, more).await
    }

    /// The same at this place, below an upstream at another one, which is that of the test.
    pub async fn at(
        place: Place,
        upstream: &Place,
        way: Way,
        catalogs: impl FnOnce(&Origin, &DemoCatalog) -> Vec<String>,
        more: &str,
    ) -> Self {
        let network = place.network().all();
        let sources = |origin: &Origin, published: &DemoCatalog| {
            let catalogs = catalogs(origin, published);
            format!(
                "[[source]]\nname = \"esd\"\nkind = \"esd-catalog\"\ncatalogs = {catalogs:?}\n\
                 allow_networks = [{network:?}]\n{more}\n"
            )
        };
        Self::made(place, upstream, way, sources, "").await
    }

    /// A site below the update server at `url`, and nothing else: `sync` are more lines of `[sync]`, `more` is more
    /// configuration. Plain HTTP is allowed where it is used, and the authority of the tests is trusted where not.
    pub async fn below(way: Way, url: &str, sync: &str, more: &str) -> Self {
        let (plain, trust) = match url.starts_with("https:") {
            true => (false, format!("[tls]\nextra_ca_file = {:?}\n", HttpsFront::authority())),
            false => (true, String::new()),
        };
        let sources = |_: &Origin, _: &DemoCatalog| {
            format!(
                "{trust}[[source]]\nname = \"wsus\"\nkind = \"wsus\"\nurl = {url:?}\n\
                 allow_networks = [\"127.0.0.0/8\"]\n{more}\n"
            )
        };
        let here = Place::on_loopback(Ipv4Addr::LOCALHOST);
        Self::made(here.clone(), &here, way, sources, &format!("allow_plain_http = {plain}\n{sync}\n")).await
    }

    async fn made(
        place: Place,
        upstream: &Place,
        way: Way,
        sources: impl FnOnce(&Origin, &DemoCatalog) -> String,
        sync: &str,
    ) -> Self {
        let origin = Origin::start_at(upstream.address()).await.expect("it has a port");
        let published = demo_catalog(&origin).await;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let listen = format!("{}:{}", place.address(), place.port());
        let url = format!("http://{listen}");
        let config = folder.path().join("config.toml");
        let text = format!(
            "[site]\ndata_dir = {:?}\n[server]\nlisten = [{listen:?}]\nshutdown_grace = \"1s\"\n{}\
             [admin]\nsocket = {:?}\nlisten = \"\"\n[sync]\n{sync}schedule = \"\"\nretry = {{ max = 2, first = \"10ms\", longest = \"20ms\" }}\n\
             [download]\nmin_free = \"0\"\n[client]\ndir = {:?}\nsite = {url:?}\nallow_networks = [{:?}]\n{}",
            folder.path().join("site"),
            place.in_the_clear("allow_plain_enrolment"),
            folder.path().join("admin.sock"),
            folder.path().join("device"),
            place.network().all(),
            sources(&origin, &published),
        );
        std::fs::write(&config, text).expect("the configuration is written");
        let mut site =
            Self { origin, published, folder, url, config, place, way, daemon: None, log: Arc::default() };
        if way == Way::Daemon {
            site.start_daemon().await;
        }
        site
    }

    /// Changes the text of the configuration; a daemon reads it when it is told to.
    pub fn configure(&self, change: impl FnOnce(String) -> String) {
        let text = std::fs::read_to_string(&self.config).expect("the configuration is there");
        std::fs::write(&self.config, change(text)).expect("the configuration is written");
    }

    /// Starts the daemon, and waits until it answers.
    pub async fn start_daemon(&mut self) {
        let mut daemon = self.command(&["serve"]).stderr(Stdio::piped()).spawn().expect("the program starts");
        let stderr = daemon.stderr.take().expect("it is piped");
        let mut lines = BufReader::new(stderr).lines();
        let ready = async {
            while let Ok(Some(line)) = lines.next_line().await {
                if line.contains("commands are answered") {
                    return;
                }
            }
            panic!("the daemon ended before it was ready");
        };
        tokio::time::timeout(Duration::from_secs(30), ready).await.expect("the daemon is ready in 30 s");
        let log = self.log.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                log.lock().expect("nobody panics with it").push(line);
            }
        });
        self.daemon = Some(daemon);
    }

    /// What daemons of this site have logged since they were ready.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().expect("nobody panics with it").clone()
    }

    /// Lets the next daemon answer the admin API; its address.
    pub fn with_api(&self) -> String {
        let address = format!("127.0.0.1:{}", free_port(Ipv4Addr::LOCALHOST));
        self.configure(|text| text.replacen("\nlisten = \"\"", &format!("\nlisten = {address:?}"), 1));
        format!("http://{address}")
    }

    /// The number of the daemon's process, while one runs.
    pub fn daemon_id(&self) -> u32 {
        self.daemon.as_ref().and_then(Child::id).expect("it runs")
    }

    /// SIGKILL: nothing of it can clean up.
    pub async fn kill_daemon(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().await.expect("it dies");
        }
    }

    /// SIGHUP: the configuration is to be read again.
    pub async fn hang_up(&self) {
        let id = self.daemon.as_ref().and_then(Child::id).expect("it runs").to_string();
        Command::new("kill").args(["-HUP", &id]).status().await.expect("kill is there");
    }

    /// SIGTERM, and waits; the exit status.
    pub async fn stop_daemon(&mut self) -> i32 {
        let Some(mut daemon) = self.daemon.take() else { return 0 };
        let id = daemon.id().expect("it runs").to_string();
        Command::new("kill").args(["-TERM", &id]).status().await.expect("kill is there");
        let ended = tokio::time::timeout(Duration::from_secs(20), daemon.wait()).await;
        ended.expect("it stops in time").expect("it can be waited for").code().unwrap_or(-1)
    }

    /// How commands of this site are carried out.
    pub fn way(&self) -> Way {
        self.way
    }

    /// The program with this site's configuration, not started yet.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.place.command(program());
        command.arg("--config").arg(&self.config).args(args);
        command.stdin(Stdio::null()).kill_on_drop(true);
        for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs a command to its end.
    pub async fn run(&self, args: &[&str]) -> Ran {
        let output = self.command(args).output().await.expect("the program starts");
        Ran {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a command that must succeed; its JSON.
    pub async fn ok(&self, args: &[&str]) -> Value {
        let ran = self.json(args).await;
        assert_eq!(ran.status, 0, "{args:?}: {ran:?}");
        ran.json()
    }

    /// Runs a command with `-o json`.
    pub async fn json(&self, args: &[&str]) -> Ran {
        let args: Vec<&str> = ["-o", "json"].into_iter().chain(args.iter().copied()).collect();
        self.run(&args).await
    }

    /// Runs a command that must fail with this code; how it ended.
    pub async fn refused(&self, code: &str, args: &[&str]) -> Ran {
        let ran = self.json(args).await;
        assert_ne!(ran.status, 0, "{args:?}: {ran:?}");
        assert_eq!(ran.code(), code, "{args:?}: {ran:?}");
        ran
    }

    /// The canonical state.
    pub async fn dump(&self) -> String {
        let ran = self.run(&["state", "dump"]).await;
        assert_eq!(ran.status, 0, "{ran:?}");
        ran.stdout
    }

    /// Synchronises, accepts the English terms and makes a package `p` with every listed update.
    pub async fn package(&self) -> Value {
        self.ok(&["now"]).await;
        let pending = self.ok(&["license", "list", "--pending"]).await;
        if let Some(update) = pending[0]["update"].as_str() {
            self.ok(&["license", "review", update]).await;
            self.ok(&["license", "accept", update]).await;
        }
        self.ok(&["package", "create", "p"]).await;
        self.ok(&["package", "add", "p"]).await
    }
}
