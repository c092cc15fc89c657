//! Content: from the catalogs of an upstream to a device that has it, verified.

use std::path::Path;

use catalog::digest::{Checker, Sha256Digest};
use catalog::image::ImageInfo;
use catalog::limits::Limits;
use catalog::problem::{Code, Coded as _, Problem};
use dp::transfer::Served;

use super::{Demo, disk};
use crate::admin::{Request, UpdateFilter};
use crate::download::Filled;
use crate::fixture::{DemoCatalog, Fault, Origin, PublishedEsd};
use crate::licensing::{Decided, Licensed, Reviewed};
use crate::packages::{Changed, Shown};
use crate::points::Distributed;
use crate::run::Report;
use crate::updates::List;
use crate::words::counted;

impl Demo<'_> {
    pub(super) async fn synchronise(&self, published: &DemoCatalog) -> Result<(), Problem> {
        self.command("now");
        let report: Report = self.ask(Request::Now { full: false }).await?;
        for catalog in &report.catalogs {
            self.say(format!(
                "{}: version {}, {}, {}, signature: {}",
                catalog.location,
                catalog.version,
                counted(catalog.records, "record"),
                counted(catalog.esds, "ESD"),
                catalog.signature
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

    pub(super) async fn license_and_package(&self) -> Result<String, Problem> {
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
            filter: UpdateFilter { editions: vec!["consumer".to_owned()], ..UpdateFilter::default() },
        };
        self.command("package add feature-updates --edition consumer");
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

        self.command("package add feature-updates --edition consumer");
        let added: Changed = self.ask(add()).await?;
        added.added.iter().for_each(|title| self.say(format!("added: {title}")));
        Ok("feature-updates".to_owned())
    }

    pub(super) async fn download(
        &self,
        origin: &Origin,
        esd: &PublishedEsd,
        package: &str,
    ) -> Result<(), Problem> {
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

    pub(super) async fn distribute(&self, esd: &PublishedEsd, package: &str) -> Result<(), Problem> {
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
            self.say(format!("{}: {}, {} bytes", point.point, counted(point.files, "file"), point.bytes));
        }
        self.expect(status(&address).await? == 200, "and then it does")
    }

    pub(super) async fn fetch(&self, esd: &PublishedEsd) -> Result<(), Problem> {
        let content = esd.fingerprint.sha256;
        self.command(&format!("client fetch {content}"));
        let client = self.client(self.folder.join("device"))?;
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
