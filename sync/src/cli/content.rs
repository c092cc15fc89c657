//! `spsync content …` and `spsync image …`.

use std::path::PathBuf;

use catalog::image::{Image as WimImage, ImageInfo};
use catalog::limits::Limits;
use catalog::problem::{Code, Coded as _, Problem};
use clap::Subcommand;
use schema::content::ContentRow;
use schema::points::Placement;
use serde_json::Value;

use super::output::{Rows, safe, size, when};
use super::{Global, Output, connect};
use crate::admin::{PointVerb, Request};
use crate::config::Loaded;

/// The content library
#[derive(Debug, Subcommand)]
pub enum Content {
    /// Every content that the site holds
    List,
    /// How each package is doing on each distribution point
    Status {
        /// Only this package: id or name
        package: Option<String>,
    },
    /// One content: digests, packages that use it, and where clients are sent for it
    Show {
        /// Its SHA-256, or the unique beginning of it
        content: String,
    },
}

impl Content {
    pub(super) async fn run(
        self,
        settings: &Loaded,
        global: &Global,
        output: &Output,
    ) -> Result<u8, Problem> {
        match self {
            Self::List => {
                let all = connect::call::<Vec<ContentRow>>(settings, global, output, Request::ContentList)
                    .await?
                    .body;
                let mut rows = Rows::new(&["SHA256", "SIZE", "STORED", "VERIFIED BY"]);
                for row in &all {
                    let by = if row.sha1_only { "sha1-only" } else { "sha256" };
                    rows.push([row.sha256.to_string(), size(row.size), when(row.stored_at), by.to_owned()]);
                }
                output.list(&all, &all, |row| row.sha256.to_string(), rows);
                if all.is_empty() && output.for_people() {
                    output.line("the content library is empty");
                }
                Ok(0)
            }
            Self::Status { package } => {
                let request = Request::Points { act: PointVerb::Status { package } };
                let all = connect::call::<Vec<Placement>>(settings, global, output, request).await?.body;
                let rows = super::dp::placements(&all);
                output.list(&all, &all, |placed| format!("{} {}", placed.package, placed.point), rows);
                if all.is_empty() && output.for_people() {
                    output.line("no package is on any distribution point");
                }
                Ok(0)
            }
            Self::Show { content } => {
                let shown =
                    connect::call::<Value>(settings, global, output, Request::ContentShow { content })
                        .await?
                        .body;
                output.one(
                    &shown,
                    |s| s["content"]["sha256"].as_str().unwrap_or_default().to_owned(),
                    |output| {
                        for (name, value) in shown["content"].as_object().into_iter().flatten() {
                            let text = value.as_str().map_or_else(|| value.to_string(), safe);
                            output.line(format!("  {name:<12}{text}"));
                        }
                        output.line(format!("  {:<12}{}", "served", shown["served"]));
                        for package in shown["packages"].as_array().into_iter().flatten() {
                            output.line(format!(
                                "  {:<12}{}",
                                "package",
                                safe(package.as_str().unwrap_or_default())
                            ));
                        }
                        for location in shown["locations"]["locations"].as_array().into_iter().flatten() {
                            let field = |name: &str| safe(location[name].as_str().unwrap_or_default());
                            output.line(format!("  {:<12}{} {}", "location", field("kind"), field("url")));
                        }
                    },
                );
                Ok(0)
            }
        }
    }
}

/// WIM and ESD files
#[derive(Debug, Subcommand)]
pub enum Image {
    /// Editions and indexes of a WIM or ESD file; needs no site
    Inspect {
        /// The file
        path: PathBuf,
    },
}

impl Image {
    pub(super) fn run(self, output: &Output) -> Result<u8, Problem> {
        let Self::Inspect { path } = self;
        let failed = |error: std::io::Error| {
            Problem::new(Code::DiskError, format!("`{}` cannot be read", path.display()))
                .because_of(Some(&error))
        };
        let mut file = std::io::BufReader::new(std::fs::File::open(&path).map_err(failed)?);
        let info = ImageInfo::read(&mut file, &Limits::default()).map_err(|error| {
            Problem::new(error.code(), format!("`{}` is no usable WIM or ESD file", path.display()))
                .because(error.to_string())
        })?;
        let mut rows = Rows::new(&["INDEX", "NAME", "EDITION", "ARCH", "VERSION", "LANGUAGE", "SIZE"]);
        let dash = |text: &Option<String>| text.as_deref().map_or_else(|| "-".to_owned(), safe);
        for image in &info.images {
            rows.push([
                image.index.to_string(),
                safe(&image.name),
                dash(&image.edition_id),
                image.architecture.map_or_else(|| "-".to_owned(), |a| a.to_string()),
                version(image),
                dash(&image.default_language),
                image.total_bytes.map_or_else(|| "-".to_owned(), size),
            ]);
        }
        output.list(&info.images, &info.images, |image| image.index.to_string(), rows);
        Ok(0)
    }
}

fn version(image: &WimImage) -> String {
    image.version.map_or_else(|| "-".to_owned(), |version| version.to_string())
}
