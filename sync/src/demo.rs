//! `spsync demo`: the whole journey on one machine. The upstream is the embedded [`crate::fixture`], everything else is the
//! program itself: a daemon with its database, content library and distribution point, and the reference client.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use catalog::digest::{Checker, Sha256Digest};
use catalog::esd_catalog::Architecture;
use catalog::image::ImageInfo;
use catalog::limits::Limits;
use catalog::problem::{Code, Coded as _, Problem};
use dp::client::{CacheLimits, ClientSettings};
use dp::transfer::Served;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use url::Url;

use crate::admin::{self, Envelope, Event, Request, UpdateFilter};
use crate::cli::Output;
use crate::config::{Loaded, Settings, Source};
use crate::daemon::Daemon;
use crate::download::Filled;
use crate::fixture::{DemoCatalog, Fault, Origin, PublishedEsd, demo_catalog};
use crate::licensing::{Decided, Licensed, Reviewed};
use crate::packages::{Changed, Distributed, Shown};
use crate::run::Report;
use crate::site::Site;
use crate::updates::List;

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
        let esd = published
            .find("Windows 11", "business", Architecture::X64, "en-us")
            .ok_or_else(|| Problem::new(Code::DemoFailed, "the catalog lacks its own update"))?;
        self.download(origin, esd, &package).await?;
        self.distribute(esd, &package).await?;
        self.fetch(esd).await
    }

    async fn synchronise(&self, published: &DemoCatalog) -> Result<(), Problem> {
        self.command("now");
        let report: Report = self.ask(Request::Now { full: false }).await?;
        for catalog in &report.catalogs {
            self.say(format!(
                "{}: version {}, {} records, {} ESDs, signature: {}",
                catalog.location, catalog.version, catalog.records, catalog.esds, catalog.signature
            ));
        }
        self.say(format!(
            "{} new, {} listed, {} need a licence decision",
            report.new, report.listed, report.license_pending
        ));
        self.expect(report.new == published.esds.len() as u64, "every published ESD is one new update")?;
        let again: Report = self.ask(Request::Now { full: false }).await?;
        self.expect(
            again.catalogs.iter().all(|catalog| catalog.unchanged),
            "a second run finds nothing to do",
        )?;

        self.command("updates list");
        let list: List = self.ask(Request::UpdatesList(UpdateFilter::default())).await?;
        for listed in &list.updates {
            let deployable = if listed.deployable {
                "yes".to_owned()
            } else {
                format!(
                    "no: {}",
                    listed.reasons.iter().map(|reason| reason.word()).collect::<Vec<_>>().join(", ")
                )
            };
            let update = &listed.update;
            self.say(format!("{}  {:<68} {deployable}", update.id.update.short(), update.title));
        }
        self.say(format!("{} hidden by the selection (languages: en-us)", list.hidden));
        Ok(())
    }

    async fn license_and_package(&self) -> Result<String, Problem> {
        self.command("package create feature-updates");
        let create = Request::PackageCreate {
            name: "feature-updates".to_owned(),
            description: "the demonstration's".to_owned(),
            source: None,
            access: schema::packages::Access::Public,
        };
        let package: Shown = self.ask(create).await?;
        self.say(format!("created {}", package.package.id));
        let add = || Request::PackageAdd {
            package: "feature-updates".to_owned(),
            updates: Vec::new(),
            filter: UpdateFilter::default(),
        };
        self.command("package add feature-updates");
        let early: Changed = self.ask(add()).await?;
        self.say(format!("{} added; {}", early.added.len(), early.left_out.join("; ")));
        self.expect(
            !early.left_out.is_empty(),
            "updates without an accepted licence are left out, and counted",
        )?;

        let pending: Vec<Licensed> = self.ask(Request::LicenseList { pending: true }).await?;
        let first = pending.first().ok_or_else(|| Problem::new(Code::DemoFailed, "no licence waits"))?;
        let update = first.update.to_string();
        self.command(&format!("license review {}", first.update.short()));
        let review = Request::LicenseReview { update: update.clone(), language: None, text: None };
        let reviewed: Reviewed = self.ask(review).await?;
        reviewed.text.lines().take(3).for_each(|line| self.say(line));
        self.say(format!("… from {}, sha256 {}", reviewed.origin, &reviewed.sha256.to_string()[..16]));
        self.command(&format!("license accept {}", first.update.short()));
        let accept = Request::LicenseDecide { updates: vec![update], accept: true, text: None };
        let decided: Decided = self.ask(accept).await?;
        self.expect(decided.updates.len() == 1, "one decision is recorded")?;
        let left: Vec<Licensed> = self.ask(Request::LicenseList { pending: true }).await?;
        self.say(format!(
            "accepted, and with the same text {} more; {} pending",
            pending.len() - 1 - left.len(),
            left.len()
        ));

        self.command("package add feature-updates");
        let added: Changed = self.ask(add()).await?;
        added.added.iter().for_each(|title| self.say(format!("added: {title}")));
        Ok("feature-updates".to_owned())
    }

    async fn download(&self, origin: &Origin, esd: &PublishedEsd, package: &str) -> Result<(), Problem> {
        origin.mirror().fault_times(&esd.path, Fault::CutAfter(esd.wanted.size / 2), 1);
        origin.mirror().fault(&esd.path, Fault::CloseAtOnce);
        self.command(&format!("package download {package}"));
        self.say(format!("(a mirror will die in the middle of {})", esd.file_name));
        let download = Request::PackageDownload { package: package.to_owned(), from: None, mirror: None };
        let filled: Filled = self.ask(download).await?;
        for file in &filled.files {
            let verified = if file.sha1_only { "sha1 verified (sha1-only)" } else { "sha256 verified" };
            self.say(format!("✔ {} {} bytes, {verified}", file.file_name, file.size));
            if file.served.len() > 1 {
                self.served(&file.served);
            }
        }
        let file = filled.files.iter().find(|file| file.file_name == esd.file_name);
        let sources = file.map_or(0, |file| file.served.iter().filter(|served| served.bytes > 0).count());
        self.expect(sources == 2, "the file that broke off came from two sources, and no byte twice")
    }

    fn served(&self, served: &[Served]) {
        for served in served {
            self.say(format!(
                "    {} bytes from {} {}: {}",
                served.bytes, served.kind, served.name, served.outcome
            ));
        }
    }

    async fn distribute(&self, esd: &PublishedEsd, package: &str) -> Result<(), Problem> {
        let address = format!("{}/content/{}", self.url, esd.fingerprint.sha256);
        let before = status(&address).await?;
        self.say(format!(
            "GET /content/{}…: {before}, because nothing is distributed yet",
            &esd.fingerprint.sha256.to_string()[..12]
        ));
        self.expect(before == 404, "the distribution point serves only what was distributed")?;
        self.command(&format!("package distribute {package}"));
        let distribute = Request::PackageDistribute { package: package.to_owned(), to: Vec::new() };
        let distributed: Distributed = self.ask(distribute).await?;
        for point in &distributed.points {
            self.say(format!("{}: {} files, {} bytes", point.point, point.files, point.bytes));
        }
        self.expect(status(&address).await? == 200, "and then it does")
    }

    async fn fetch(&self, esd: &PublishedEsd) -> Result<(), Problem> {
        let content = esd.fingerprint.sha256;
        self.command(&format!("client fetch {content}"));
        let client = ClientSettings {
            site: Url::parse(&self.url).map_err(|error| Problem::of(Code::DemoFailed, &error))?,
            dir: self.folder.join("device"),
            ca_file: None,
            allow_networks: Vec::new(),
            min_free: 0,
            address: None,
            wait: false,
            key: None,
            plain_key: false,
            limits: CacheLimits::default(),
        };
        let fetched = dp::client::fetch_content(&client, content, None, |_| {})
            .await
            .map_err(|error| error.problem())?;
        self.say(format!("✔ {} {} bytes verified", fetched.file_name, fetched.size));
        self.served(&fetched.served);
        let path = fetched.path.clone();
        let (actual, images) = tokio::task::spawn_blocking(move || inspect(&path))
            .await
            .map_err(|died| Problem::of(Code::DemoFailed, &died))??;
        self.expect(actual == content, "the device has the very bytes that the upstream published")?;
        self.command(&format!("image inspect {}", fetched.path.display()));
        for image in &images.images {
            self.say(format!(
                "{}  {} ({})",
                image.index,
                image.name,
                image.edition_id.as_deref().unwrap_or("-")
            ));
        }
        self.expect(images.images.len() == esd.images.len(), "every image is listed")
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

fn inspect(path: &Path) -> Result<(Sha256Digest, ImageInfo), Problem> {
    let bytes = std::fs::read(path).map_err(|error| disk("read", &error))?;
    let mut checker = Checker::new();
    checker.update(&bytes);
    let images = ImageInfo::read(&mut std::io::Cursor::new(bytes), &Limits::default())
        .map_err(|error| Problem::of(error.code(), &error))?;
    Ok((checker.into_fingerprint().sha256, images))
}

/// What any HTTP client would see.
async fn status(url: &str) -> Result<u16, Problem> {
    let failed = |error: reqwest::Error| Problem::of(Code::DemoFailed, &error);
    let client = reqwest::Client::builder().no_proxy().build().map_err(failed)?;
    Ok(client.head(url).send().await.map_err(failed)?.status().as_u16())
}
