//! `spsync demo`: the whole journey on one machine. The upstream is the embedded [`crate::fixture`], everything else is the
//! program itself: a daemon with its database, content library and distribution point, the reference client, and devices that
//! run a task sequence. Only their Setup is pretended.

mod content;
mod upgrade;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use catalog::esd_catalog::Architecture;
use catalog::problem::{Code, Problem};
use dp::client::ClientSettings;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use url::Url;

use crate::admin::{self, Envelope, Event, Request};
use crate::cli::Output;
use crate::config::{Loaded, Settings, Source};
use crate::daemon::Daemon;
use crate::fixture::{DemoCatalog, Origin, PublishedEsd, demo_catalog};
use crate::site::Site;

/// Runs the demonstration in `dir`, or in a temporary folder that is removed afterwards.
///
/// # Errors
/// `DEMO_FAILED` where something did not end as it should, and whatever a step of it answers.
pub async fn run(dir: Option<PathBuf>, keep: bool, output: &Output) -> Result<u8, Problem> {
    let began = Instant::now();
    let temporary = match dir {
        Some(_) => None,
        None => {
            Some(tempfile::Builder::new().prefix("spsync-demo-").tempdir().map_err(|e| disk("made", &e))?)
        }
    };
    let folder = match (&temporary, dir) {
        (Some(temporary), _) => temporary.path().to_owned(),
        (None, Some(dir)) => std::path::absolute(&dir).map_err(|e| disk("found", &e))?,
        (None, None) => unreachable!("one of the two is there"),
    };
    let origin = Origin::start().await.map_err(|error| disk("served", &error))?;
    let published = demo_catalog(&origin).await;
    let daemon = Daemon::start(Loaded::from(settings(&folder, &origin, &published))).await?;
    let demo =
        Demo { site: daemon.site.clone(), url: format!("http://{}", daemon.addresses[0]), folder, output };
    let told = demo.tell(&origin, &published).await;
    if told.is_ok() {
        output.line(format!(
            "\nAll of it took {:.1} s and used no network but loopback.",
            began.elapsed().as_secs_f64()
        ));
    }
    if keep && told.is_ok() {
        demo.keep_running(&published).await?;
    }
    daemon.stop().await;
    if let Some(temporary) = temporary {
        temporary.close().map_err(|error| disk("removed", &error))?;
    }
    told.map(|()| 0)
}

fn disk(act: &str, error: &std::io::Error) -> Problem {
    Problem::new(Code::DemoFailed, format!("the demonstration's folder or origin could not be {act}"))
        .because_of(Some(error))
}

fn settings(folder: &Path, origin: &Origin, published: &DemoCatalog) -> Settings {
    let mut settings = Settings::default();
    settings.site.data_dir = folder.join("site");
    settings.server.listen = vec!["127.0.0.1:0".to_owned()];
    settings.admin.socket = folder.join("admin.sock").to_string_lossy().into_owned();
    settings.admin.listen = "127.0.0.1:0".to_owned();
    settings.sync.schedule = String::new();
    settings.sync.retry.first = Duration::from_millis(50);
    settings.download.min_free = 0;
    settings.sources = vec![Source {
        name: "esd".to_owned(),
        catalogs: vec![published.windows11.clone(), published.windows10.clone()],
        // The embedded origin is on loopback, which a source may reach only because it is named here.
        allow_networks: vec!["127.0.0.0/8".parse().expect("a constant network")],
        mirrors: vec![format!("{}/", origin.mirror().base_url())],
        ..Source::default()
    }];
    settings
}

struct Demo<'o> {
    site: Arc<Site>,
    url: String,
    folder: PathBuf,
    output: &'o Output,
}

impl Demo<'_> {
    fn command(&self, text: &str) {
        self.output.line(format!("\n$ spsync {text}"));
    }

    fn say(&self, text: impl AsRef<str>) {
        self.output.line(format!("  {}", text.as_ref()));
    }

    /// The same way that every command goes, daemon or not.
    async fn ask<T: DeserializeOwned>(&self, request: Request) -> Result<T, Problem> {
        let (events, mut inbox) = mpsc::channel(16);
        let envelope = Envelope { request, dry_run: false, no_wait: false };
        let site = self.site.clone();
        tokio::spawn(async move { admin::answer(&site, envelope, "demo", events).await });
        while let Some(event) = inbox.recv().await {
            match event {
                Event::Task { .. } => {}
                Event::Done { problem: Some(problem), .. } | Event::Failed { problem } => {
                    return Err(problem);
                }
                Event::Done { body, .. } => {
                    return serde_json::from_value(body)
                        .map_err(|error| Problem::of(Code::DemoFailed, &error));
                }
            }
        }
        Err(Problem::new(Code::DemoFailed, "a request ended without an answer"))
    }

    async fn tell(&self, origin: &Origin, published: &DemoCatalog) -> Result<(), Problem> {
        self.output.line(
            "An upstream on loopback publishes a small catalog of the real format. The names in it are Microsoft's;\n\
             the files are made by this demonstration, small, valid, and not Windows.",
        );
        self.synchronise(published).await?;
        let package = self.license_and_package().await?;
        let of = |edition: &str| -> Result<&PublishedEsd, Problem> {
            published
                .find("Windows 11", edition, Architecture::X64, "en-us")
                .ok_or_else(|| Problem::new(Code::DemoFailed, "the catalog lacks its own update"))
        };
        let (consumer, business) = (of("consumer")?, of("business")?);
        self.download(origin, consumer, &package).await?;
        self.distribute(consumer, &package).await?;
        self.fetch(consumer).await?;
        self.upgrade(business).await
    }

    /// A client of this site that keeps what it has in `dir`.
    fn client(&self, dir: PathBuf) -> Result<ClientSettings, Problem> {
        let site = Url::parse(&self.url).map_err(|error| Problem::of(Code::DemoFailed, &error))?;
        Ok(ClientSettings::new(site, dir))
    }

    /// The demonstration does not merely show: each claim is checked, and a wrong one ends it.
    fn expect(&self, holds: bool, claim: &str) -> Result<(), Problem> {
        if holds {
            return Ok(());
        }
        Err(Problem::new(Code::DemoFailed, format!("this did not hold: {claim}")))
    }

    async fn keep_running(&self, published: &DemoCatalog) -> Result<(), Problem> {
        let file = self.folder.join("config.toml");
        let text = format!(
            "[site]\ndata_dir = {:?}\n[server]\nlisten = []\npublic_url = {:?}\n[admin]\nsocket = {:?}\nlisten = \"\"\n\
             [[source]]\nname = \"esd\"\nkind = \"esd-catalog\"\ncatalogs = [{:?}, {:?}]\nallow_networks = [\"127.0.0.0/8\"]\n",
            self.folder.join("site"),
            self.url,
            self.folder.join("admin.sock"),
            published.windows11,
            published.windows10
        );
        std::fs::write(&file, text).map_err(|error| disk("written", &error))?;
        self.output.line(format!(
            "\nIt goes on running until Ctrl-C. Look at it with\n  spsync --config {} status\n  curl -I {}/content/…",
            file.display(),
            self.url
        ));
        let _ = tokio::signal::ctrl_c().await;
        Ok(())
    }
}
