//! `spsync image …`: OS upgrade packages.

use std::path::PathBuf;

use catalog::image::{Image as WimImage, ImageInfo};
use catalog::problem::Problem;
use clap::Subcommand;
use schema::software::ImageRow;
use serde_json::Value;

use super::arguments::absolute;
use super::connect::software;
use super::output::{Rows, safe, size};
use super::said::{id_of, say};
use super::{Global, Output, connect};
use crate::given::Links;
use crate::software::places::Kind;
use crate::software::{SoftwareRequest, images};

/// OS upgrade packages: WIM and ESD files
#[derive(Debug, Subcommand)]
pub enum Image {
    /// Show editions and indexes of a WIM or ESD file; needs no site
    Inspect {
        /// The file
        path: PathBuf,
    },
    /// Add a WIM or ESD as an OS upgrade package; its content is stored once
    Add {
        /// The file
        path: PathBuf,
        /// Name of the package, at most 50 characters, unique
        #[arg(long)]
        name: String,
        /// Free text
        #[arg(long, default_value = "", value_name = "TEXT")]
        image_version: String,
        /// It is a boot image: Windows PE, from which stand-alone media starts
        #[arg(long)]
        boot: bool,
    },
    /// List OS upgrade packages
    List,
    /// Show an OS upgrade package with its editions
    Show {
        /// Id or name
        image: String,
    },
    /// Send its content to distribution points
    Distribute {
        /// Id or name
        image: String,
        /// A distribution point or group, or `all`; the site's own if not given; repeat for more
        #[arg(long, value_name = "DP|GROUP")]
        to: Vec<String>,
    },
    /// Take its content off distribution points
    Withdraw {
        /// Id or name
        image: String,
        /// A distribution point or group; all if not given; repeat for more
        #[arg(long, value_name = "DP|GROUP")]
        from: Vec<String>,
    },
    /// Delete an OS upgrade package that no task sequence uses
    Delete {
        /// Id or name
        image: String,
    },
}

impl Image {
    pub(super) async fn run(self, global: &Global, output: &Output) -> Result<u8, Problem> {
        let request = match self {
            Self::Inspect { path } => {
                let info = images::inspect(&path, Links::Followed)?;
                let table = rows(&info);
                output.list(
                    &info.images,
                    &info.images,
                    |i| i.index.to_string(),
                    table,
                    "there is no image in it",
                );
                return Ok(0);
            }
            Self::Add { path, name, image_version: version, boot } => {
                let path = absolute(path);
                SoftwareRequest::ImageAdd { path, name, version, boot }
            }
            Self::List => SoftwareRequest::ImageList,
            Self::Distribute { image, to } => {
                let request = SoftwareRequest::Distribute { kind: Kind::Image, name: image, to };
                return super::app::places(request, &super::settings(global)?, global, output).await;
            }
            Self::Withdraw { image, from } => {
                let request = SoftwareRequest::Withdraw { kind: Kind::Image, name: image, from };
                return super::app::places(request, &super::settings(global)?, global, output).await;
            }
            Self::Show { image } => SoftwareRequest::ImageShow { image },
            Self::Delete { image } => {
                super::confirm(global, &format!("delete OS upgrade package `{image}`"))?;
                SoftwareRequest::ImageDelete { image }
            }
        };
        let settings = super::settings(global)?;
        let verb = request.clone();
        let called = software(request, &settings, global, output).await?;
        let body = &called.body;
        match verb {
            SoftwareRequest::ImageList => list(body, output)?,
            _ => output.one(body, id_of, |output| show(body, output)),
        }
        Ok(called.finish(output))
    }
}

pub(super) fn list(body: &Value, output: &Output) -> Result<(), Problem> {
    let all: Vec<ImageRow> = connect::expected(body.clone())?;
    let mut table = Rows::new(&["ID", "NAME", "VERSION", "FILE", "SIZE", "EDITIONS"]);
    for row in &all {
        let mut editions: Vec<_> =
            images::editions(&row.info).into_iter().map(images::edition_words).collect();
        if images::is_boot(&row.info) {
            editions.push("boot image".to_owned());
        }
        table.push([
            row.id.to_string(),
            safe(&row.name),
            safe(&row.version),
            row.file_name.to_string(),
            size(row.size),
            safe(&editions.join(", ")),
        ]);
    }
    let none = "no OS upgrade packages yet: spsync image add PATH --name NAME";
    output.list(body, &all, |row| row.id.to_string(), table, none);
    Ok(())
}

fn show(body: &Value, output: &Output) {
    let row: Result<ImageRow, _> = serde_json::from_value(body.clone());
    match row {
        Ok(row) => {
            output.line(format!("{} `{}` {}", row.id, safe(&row.name), safe(&row.version)));
            output.line(format!("  {}, {}, sha256 {}", row.file_name, size(row.size), row.content));
            output.table(rows(&row.info));
        }
        Err(_) => say(body, output),
    }
}

fn rows(info: &ImageInfo) -> Rows {
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
    rows
}

fn version(image: &WimImage) -> String {
    image.version.map_or_else(|| "-".to_owned(), |version| version.to_string())
}
